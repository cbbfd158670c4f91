"""What is in your own pictures, and where? · 내 사진에는 무엇이 어디에 있을까

    python -m study run detection/predict photo.jpg holidays/
    python -m study run detection/predict photo.jpg --threshold 0.5

Files and whole folders, of any size. For each picture a copy with its boxes is drawn, and every box becomes a line of a table,
found.csv, in pixels of the picture as one sees it. Training comes first: python -m study run detection
"""

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from project5_realtime_detection.finder import Runtime, load_finder
from utils import paths
from utils.average_precision import Found
from utils.lesson import check, mention, run
from utils.pictures import PictureError, check_all_read, in_colour, open_each

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".heic")  # what a folder is searched for
LEAST = 8  # pixels: with fewer on a side there is nothing to be seen
LONGEST = 1600  # pixels: the longer side of a copy that is drawn
# Ten colours that stay apart for colour-blind eyes too (Petroff 2021, arXiv:2107.02270). With more classes they begin again: the
# name stands at every box.
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")


def picture_from(photo: Image.Image) -> Image.Image:
    """A photo of any mode in RGB, the right way up: a telephone stores it as the sensor lay, and notes how to turn it.

    Raises:
        PictureError: It has fewer than LEAST pixels on a side.
    """
    if min(photo.size) < LEAST:
        raise PictureError("too_small", f"the picture is {photo.width}x{photo.height} pixels; there is nothing to see in it")
    return in_colour(ImageOps.exif_transpose(photo))


def as_tensor(picture: Image.Image) -> Tensor:
    """A picture in RGB as uint8 (3, height, width)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def pictures_in(places: Sequence[Path]) -> list[Path]:
    """The files that were named, and the pictures in the folders that were named, with those in folders inside.

    Raises:
        LessonError: There is no picture in a folder.
    """
    files = []
    for place in places:
        if not place.is_dir():
            files.append(place)  # whether it is a picture is seen when it is opened
            continue
        inside = [file for file in sorted(place.rglob("*")) if file.suffix.lower() in ENDINGS and not file.name.startswith(".")]
        check(len(inside) > 0, f"there is no picture in the folder {place}, no file that ends in {', '.join(ENDINGS[:4])} ...")
        files += inside
    return files


def colour_of(label: int) -> str:
    """The colour of a class, as #rrggbb."""
    return COLOURS[label % len(COLOURS)]


def contrast_to(colour: str) -> str:
    """Black or white, whichever can be read better on a colour: the ratio of luminances is then at least 4.58.

    (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)
    """
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def draw(picture: Image.Image, found: Found, classes: Sequence[str]) -> Image.Image:
    """Draw what was found into a copy of a picture that has at most LONGEST pixels on its longer side."""
    drawn = picture.copy()
    drawn.thumbnail((LONGEST, LONGEST))  # makes smaller, never larger
    scale = drawn.width / picture.width
    line = max(1, round(max(drawn.size) / 300))
    canvas = ImageDraw.Draw(drawn)
    font, names = font_and_names(classes, max(10, 6 * line))
    surest_last = list(zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True))[::-1]
    for box, _, label in surest_last:
        x1, y1, x2, y2 = (round(scale * edge) for edge in box)
        canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=contrast_to(colour_of(label)), width=line + 2)
        canvas.rectangle((x1, y1, x2, y2), outline=colour_of(label), width=line)
    for box, score, label in surest_last:  # no line goes through a name
        text = f"{names[label]} {score:.0%}"
        _, _, width, height = canvas.textbbox((0, 0), text, font=font)
        x, y = round(scale * box[0]), round(scale * box[1])
        left = max(0, min(x, drawn.width - width - 2 * line))
        top = y - height - line if y > height + line else y  # above the box where there is room
        canvas.rectangle((left, top, left + width + 2 * line, top + height + line), fill=colour_of(label))
        canvas.text((left + line, top), text, fill=contrast_to(colour_of(label)), font=font)
    return drawn


def font_and_names(classes: Sequence[str], size: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """A font and the names of the classes as it can write them: where no font has Hangul, in Latin letters, as in all figures."""
    from matplotlib import font_manager

    from utils.plotting import in_latin_letters, korean_font

    korean = None if "".join(classes).isascii() else korean_font()
    names = list(classes) if korean else [in_latin_letters(name) for name in classes]
    return ImageFont.truetype(font_manager.findfont(korean or "DejaVu Sans"), size), names  # matplotlib brings that one along


def in_words(found: Found, classes: Sequence[str], most: int = 6) -> str:
    """What was found in a picture, the surest first."""
    if len(found.scores) == 0:
        return "nothing found"
    pairs = zip(found.labels.tolist()[:most], found.scores.tolist()[:most], strict=True)
    named = ", ".join(f"{classes[label]} {score:.0%}" for label, score in pairs)
    return f"{len(found.scores)} found: {named}{', ...' if len(found.scores) > most else ''}"


def main(
    pictures: tyro.conf.Positional[tuple[Path, ...]],
    threshold: float = 0.3,
    overlap: float = 0.5,
    model: Path | None = None,
    runtime: Runtime = "eager",
    device: str = "auto",
) -> dict[str, float]:
    """Find things in your pictures.

    Args:
        pictures: Files and folders: JPEG, PNG, WebP, GIF, BMP or TIFF.
        threshold: The least score of a box, 0 to 1: a lower one finds more, and more that is not there.
        overlap: Of two boxes of one class that overlap by more than this (intersection over union), the surer one stays.
        model: Another trained network than models/project5_realtime_detection/model.pt.
        runtime: eager, compiled, exported, onnx or int8; the last three need python -m study run detection/export first.
        device: auto, cpu, cuda or mps.
    """
    check(len(pictures) > 0, "name at least one picture or folder: python -m study run detection/predict photo.jpg")
    check(0 <= threshold <= 1, f"--threshold {threshold:g}: scores lie between 0 and 1")
    check(0 <= overlap <= 1, f"--overlap {overlap:g}: it lies between 0 and 1")
    files = pictures_in(pictures)
    finder = load_finder(model, runtime, device)
    mention("data", f"trained on {finder.source}")
    folder = paths.outputs("project5_realtime_detection") / "found"
    folder.mkdir(exist_ok=True)
    failed, seconds, objects, used = [], [], 0, set()
    with open(folder.parent / "found.csv", "w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["picture", "class", "score", "x1", "y1", "x2", "y2"])
        for _, file, _, picture in open_each(files, picture_from, failed):
            started = time.perf_counter()
            found = finder.find(as_tensor(picture), threshold, overlap)
            seconds.append(time.perf_counter() - started)
            objects += len(found.scores)
            print(f"{file}: {in_words(found, finder.classes)}")
            for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
                rows.writerow([file, finder.classes[label], f"{score:.4f}", *(f"{edge:.1f}" for edge in box)])
            draw(picture, found, finder.classes).save(folder / f"{unused(file.stem, used)}.png")
    mention("written", f"{paths.short(folder)}/: the pictures with their boxes")
    mention("written", paths.short(folder.parent / "found.csv"))
    if seconds:
        print(f"\nIt knows {', '.join(finder.classes)}, and nothing else.")
    check_all_read(failed, len(files))
    return {"pictures": len(files), "objects": objects, "milliseconds_per_picture": 1000 * median(seconds)}


def unused(name: str, used: set[str]) -> str:
    """A name that was not used before: photo, photo_2, photo_3. Upper and lower case are the same for some file systems."""
    number, free = 1, name
    while free.lower() in used:
        number += 1
        free = f"{name}_{number}"
    used.add(free.lower())
    return free


if __name__ == "__main__":
    run(main, all_cores=True)
