"""CamVid: the view from a car, with the class of every pixel.

    data = camvid()
    if data is not None:
        data.train.images    # (367, 3, 180, 240) uint8
        data.train.masks     # (367, 180, 240) uint8, 255 where nothing counts
        data.source          # print it beside every number

Decoding 1,402 files takes seconds in every run, so the pixels are kept in outputs/cache/ once they have been read.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utils import paths
from utils.datasets import cache
from utils.datasets.boxes import IGNORED, Masked, SegmentationData
from utils.datasets.sources import Source, damaged, locate, unreadable
from utils.lesson import check, mention

CAMVID_CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist"]
VOID = len(CAMVID_CLASSES)  # in the files: what belongs to none of the classes
SPLITS = ("train", "val", "test")
WHOLE = {"train": 367, "val": 101, "test": 233}
WRONG = {"unreadable": "it is not a picture", "damaged": "it is cut off", "too_large": "it has more than 50 megapixels"}


class Frame(NamedTuple):
    """Where one picture and its mask lie."""

    picture: Path
    mask: Path


def camvid(source: Source = "auto", size: tuple[int, int] = (180, 240)) -> SegmentationData | None:
    """Frames of four drives through Cambridge (Brostow, Fauqueur and Cipolla, 2009), in SegNet's version: 480x360, 11 classes.

    Reads `CamVid/{train,val,test}/*` (.png, .jpg), each with its mask of the same name in `CamVid/{train,val,test}annot/*.png`,
    whose pixels are the numbers of the classes, 0 to 10, and 11 for void, which becomes IGNORED.

    Pictures are resized bilinearly, with antialiasing. A mask has numbers that must not be mixed: each pixel takes the class of
    the one nearest to its centre. At half the size every class keeps its share of the pixels to 1%, where a vote of the four
    pixels would cost poles and signs 4%. Scores at a reduced size are not those of papers, which test at 480x360.

    The split is SegNet's. All 101 validation frames come from one short stretch of a drive whose rest is in train, so that they
    are a coarse guide. Of the test frames 171 are of a drive that is nowhere else, and 62 go on where a drive in train stops.

    Args:
        source: "auto", "real" or "sample".
        size: Height and width of every picture and mask.

    Returns:
        The frames in the order of their names; None where the set is not there and may be missing: the lesson has its own sample.

    Raises:
        LessonError: A file is damaged or has no partner, or source="real" and the set is not there. No file is changed.
    """
    check(min(size) > 0, f"a picture cannot be {size[1]}x{size[0]} pixels")
    place = locate("camvid", source)
    if place is None:
        return None
    frames = {split: _frames(place, split) for split in SPLITS}

    def decode() -> cache.Arrays:
        arrays = {}
        for split in SPLITS:
            decoded = [_decode(frame, size) for frame in frames[split]]
            arrays[f"{split}_images"], arrays[f"{split}_masks"] = (np.stack(part) for part in zip(*decoded, strict=True))
        return arrays

    height, width = size
    files = [path for split in SPLITS for frame in frames[split] for path in frame]
    arrays = cache.kept(f"camvid-{width}x{height}", cache.fingerprint(files, size), decode)
    train, validation, test = (
        Masked(torch.from_numpy(arrays[f"{split}_images"]), torch.from_numpy(arrays[f"{split}_masks"])) for split in SPLITS
    )
    counts = " + ".join(f"{len(frames[split])}" for split in SPLITS)
    part = "" if all(len(frames[split]) == WHOLE[split] for split in SPLITS) else "a part of "
    pictures = [frame.picture for split in SPLITS for frame in frames[split]]
    lossy = "; JPEG, not the original pixels" if any(path.suffix.lower() != ".png" for path in pictures) else ""
    told = f"{part}CamVid, SegNet's version ({counts} frames, at {width}x{height}{lossy}), {paths.short(place)}"
    mention("data", told)
    return SegmentationData(train, validation, test, CAMVID_CLASSES, told, is_real=True)


def _frames(place: Path, split: str) -> list[Frame]:
    """The frames of a split, by name; every picture must have a mask and every mask a picture."""
    pictures, masks = (_by_name(place, folder) for folder in (split, f"{split}annot"))
    alone = sorted(pictures.keys() ^ masks.keys())
    if alone:
        name = alone[0]
        there, missing = (pictures, f"{split}annot") if name in pictures else (masks, split)
        others = f", and {len(alone) - 1} more" if len(alone) > 1 else ""
        what = f"{there[name].parent.name}/{there[name].name} is there without its twin in {missing}/{others}"
        raise damaged(place, what, "camvid")
    if not pictures:
        raise damaged(place, f"no pictures in {split}/", "camvid")
    return [Frame(pictures[name], masks[name]) for name in sorted(pictures)]


def _by_name(place: Path, folder: str) -> dict[str, Path]:
    """The pictures in a folder, by their names without the ending. "._7.png" is what macOS puts beside 7.png."""
    if not (place / folder).is_dir():
        raise damaged(place, f"it lacks the folder {folder}/", "camvid")
    endings = (".png",) if folder.endswith("annot") else (".png", ".jpg", ".jpeg")  # a JPEG has no exact numbers
    found: dict[str, Path] = {}
    for path in sorted((place / folder).iterdir()):
        if path.suffix.lower() in endings and not path.name.startswith("."):
            if path.stem in found:
                raise damaged(place, f"{folder}/ has both {found[path.stem].name} and {path.name}", "camvid")
            found[path.stem] = path
    return found


def _decode(frame: Frame, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(3, height, width) and (height, width), both uint8."""
    from PIL import Image

    picture, mask = (_open(path) for path in frame)
    if picture.size != mask.size:
        sizes = f"{mask.width}x{mask.height} pixels and its picture {picture.width}x{picture.height}"
        raise damaged(frame.mask, f"it has {sizes}", "camvid")
    numbers = np.asarray(mask)
    if numbers.ndim != 2:
        raise damaged(frame.mask, "it is in colour, where the numbers of classes were expected", "camvid")
    if numbers.max() > VOID or numbers.min() < 0:
        wrong = numbers[(numbers > VOID) | (numbers < 0)][0]
        raise damaged(frame.mask, f"it has a class {wrong}, expected 0 to {VOID}", "camvid")
    wanted = size[::-1]  # Pillow's order: width, height
    pixels = np.asarray(picture.convert("RGB").resize(wanted, Image.Resampling.BILINEAR))
    labels = np.asarray(Image.fromarray(numbers.astype(np.uint8)).resize(wanted, Image.Resampling.NEAREST))
    return pixels.transpose(2, 0, 1), np.where(labels == VOID, np.uint8(IGNORED), labels)


def _open(path: Path):
    """A Pillow picture, decoded."""
    from utils.pictures import PictureError, open_picture

    try:
        return open_picture(path)
    except PictureError as error:
        raise damaged(path, WRONG[error.kind], "camvid") from None
    except OSError as error:
        raise unreadable(path, error, "camvid") from None
