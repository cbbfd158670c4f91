"""Pictures with several captions each, in the layout of Flickr8k.

data = flickr8k("auto", size=112)
if data is not None:
    data.train.images     # (6000, 3, 112, 112) uint8
    data.train.captions   # 6000 times five sentences
    data.source           # print it beside every number
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils import paths
from utils.datasets import cache
from utils.datasets.sources import Source
from utils.lesson import LessonError, check, explain, mention

PAGE = "https://github.com/jbrownlee/Datasets/releases/tag/Flickr8k"
TOKENS = "Flickr8k.token.txt"
PICTURES = "Flicker8k_Dataset"  # the folder is really written so
LISTS = {"train": "trainImages", "validation": "devImages", "test": "testImages"}
PLACES = ("Flickr8k", "flickr8k", "Flickr8k_text", "Flickr8k/Flickr8k_text", "flickr8k/Flickr8k_text", ".")
MOST_BYTES = 50_000_000  # of a text file; the real one has 3.4 MB
ENDINGS = (".jpg", ".jpeg", ".png")


class Captioned(NamedTuple):
    """Pictures with what people said of each: images uint8 (N, 3, size, size), and for each a list of at least one sentence."""

    images: Tensor
    captions: list[list[str]]


class CaptionData(NamedTuple):
    """A data set of captioned pictures in its splits; `source` says in one line what was loaded."""

    train: Captioned
    validation: Captioned
    test: Captioned
    source: str
    is_real: bool


def flickr8k(source: Source = "auto", size: int = 112) -> CaptionData | None:
    """Photographs of people and animals with five sentences each (Hodosh et al., 2013): 6,000 + 1,000 + 1,000.

    Args:
        source: "auto", "real" or "sample".
        size: Width and height; of each photograph the square in its middle is taken.

    Returns:
        None where it is not there and may be missing, or source="sample".

    Raises:
        LessonError: A file is missing or damaged, or source="real" and the set is not there.
    """
    place = None if source == "sample" else find_flickr8k()
    if place is None:
        wanted = f"Flickr8k is not there: unpack its two zips ({PAGE}) into datasets/Flickr8k/"
        check(source != "real", wanted)
        return None
    return read_flickr8k(place, size)


def find_flickr8k() -> Path | None:
    """The folder with the captions, in datasets/ or $STUDY_DATA_DIR, or None."""
    folders = (folder / place for folder in paths.data_folders() for place in PLACES)
    return next((folder for folder in folders if (folder / TOKENS).is_file()), None)


def read_flickr8k(folder: Path, size: int) -> CaptionData:
    """Read captioned photographs in the layout of Flickr8k.

    folder/Flickr8k.token.txt                    1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress is climbing ...
    folder/Flickr_8k.trainImages.txt             1000268201_693b08cb0e.jpg
    folder/Flickr_8k.devImages.txt, Flickr_8k.testImages.txt
    folder/Flicker8k_Dataset/*.jpg               or beside `folder`; Flickr8k_Dataset is found as well

    Args:
        folder: Holds the texts.
        size: Width and height of the pictures.

    Raises:
        LessonError: A file is missing or damaged; a picture is missing, cannot be read, has no caption or is in two splits.
    """
    folder = Path(folder)
    captions = _captions_in(folder / TOKENS)
    lists = {split: _names_in(folder / f"Flickr_8k.{name}.txt") for split, name in LISTS.items()}
    where: dict[str, str] = {}
    for split, names in lists.items():
        for name in names:
            check(where.setdefault(name, split) == split, f"{name} is a picture of both {where[name]} and {split}")
    silent = [name for names in lists.values() for name in names if name not in captions]
    check(not silent, f"{paths.short(folder / TOKENS)} has no caption of {_first_of(silent)}; the file was left as it is")
    pictures = _folder_of_pictures(folder)
    missing = [name for names in lists.values() for name in names if not (pictures / name).is_file()]
    check(not missing, f"{paths.short(pictures)} lacks {_first_of(missing)}: unpack Flickr8k_Dataset.zip again")
    splits = {}
    for split, names in lists.items():
        files = [pictures / name for name in names]
        key = cache.fingerprint([*files, Path(__file__)], size)
        images = cache.kept(f"flickr8k-{split}-{size}", key, lambda files=files: {"images": _decode_all(files, size)})["images"]
        splits[split] = Captioned(torch.from_numpy(images), [captions[name] for name in names])
    counts = [len(names) for names in lists.values()]
    whole = "Flickr8k" if counts == [6000, 1000, 1000] else "a part of Flickr8k, or a set in its layout"
    numbers = " + ".join(f"{count:,}" for count in counts)
    told = f"{whole} ({numbers} pictures, {size}x{size}; checksum unknown), {paths.short(folder)}"
    mention("data", told)
    return CaptionData(**splits, source=told, is_real=True)


# ------------------------------------------------------------------------------------------------------------- the texts


def _read(path: Path) -> str:
    """A text file as it is."""
    try:
        check(
            path.stat().st_size <= MOST_BYTES, f"{paths.short(path)} is larger than {MOST_BYTES // 10**6} MB: it is another file"
        )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LessonError(f"{paths.short(path)} is missing: unpack Flickr8k_text.zip ({PAGE})") from None
    except UnicodeDecodeError:
        raise LessonError(f"{paths.short(path)} is damaged: it is not text in UTF-8; the file was left as it is") from None
    except OSError as error:
        raise LessonError(explain(error)) from None


def _captions_in(path: Path) -> dict[str, list[str]]:
    """The captions of every picture, by its file's name, in the order of the file."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        key, tab, sentence = line.partition("\t")
        name, mark, _ = key.rpartition("#")
        check(
            bool(tab and mark and name),
            f"{paths.short(path)}, line {number}: expected `picture.jpg#0`, a tab and a caption there",
        )
        if any(letter.isalnum() for letter in sentence):  # a caption of nothing but a full stop says nothing
            found.setdefault(name.strip(), []).append(sentence.strip())
    check(bool(found), f"{paths.short(path)} has no captions")
    return found


def _names_in(path: Path) -> list[str]:
    """The pictures of a split."""
    names = list(dict.fromkeys(line.strip() for line in _read(path).splitlines() if line.strip()))
    check(bool(names), f"{paths.short(path)} names no pictures")
    for name in names:
        is_name = Path(name).name == name and name.lower().endswith(ENDINGS)  # no path may lead out of the folder
        check(is_name, f"{paths.short(path)}: {name[:60]!r} is not the name of a picture")
    return names


def _first_of(names: list[str]) -> str:
    more = f" and {len(names) - 1:,} more pictures" if len(names) > 1 else ""
    return "".join(names[:1]) + more


# ---------------------------------------------------------------------------------------------------------- the pictures


def _folder_of_pictures(folder: Path) -> Path:
    """Where the photographs lie: in the folder of the texts, or beside it."""
    for place in (folder, folder.parent):
        for name in (PICTURES, "Flickr8k_Dataset", "Images", "images"):
            if (place / name).is_dir():
                return place / name
    raise LessonError(f"{paths.short(folder / PICTURES)} is missing: unpack Flickr8k_Dataset.zip ({PAGE}) there")


def _decode_all(files: list[Path], size: int) -> np.ndarray:
    """The square in the middle of each photograph: (N, 3, size, size) uint8."""
    from utils.pictures import PictureError, in_colour, open_picture

    images = np.empty((len(files), 3, size, size), np.uint8)
    for i, file in enumerate(files):
        try:
            photo = in_colour(open_picture(file))
        except PictureError as error:
            raise LessonError(f"{paths.short(file)} cannot be read: {error}; the file was left as it is") from None
        except OSError as error:
            raise LessonError(explain(error)) from None
        images[i] = middle_square(photo, size)
    return images


def middle_square(photo, size: int) -> np.ndarray:
    """The largest square in the middle of a Pillow picture, reduced to (3, size, size) uint8."""
    from PIL import Image

    side = min(photo.size)
    left, top = (photo.width - side) / 2, (photo.height - side) / 2
    square = photo.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(square.convert("RGB")).transpose(2, 0, 1))
