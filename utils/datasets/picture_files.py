"""Pictures in class-named folders, zips and tars: `train/cat/0001.png`, `test/cat/0001.png`.

Decoding 60,000 small files takes seconds in every run, so the pixels are kept in outputs/cache/ once they have been read.
Deleting that folder is safe.
"""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utils import paths
from utils.datasets import cache
from utils.datasets.images import Images
from utils.datasets.sources import damaged
from utils.lesson import LessonError

TRAIN_AND_TEST = {"train": "train", "training": "train", "test": "test", "testing": "test"}
TRAIN_AND_VAL = {"train": "train", "val": "test"}
UNREADABLE_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error)


class Pictures(NamedTuple):
    """What a folder or an archive holds."""

    train: Images
    test: Images
    lossy: bool  # there are JPEG files among them: not the pixels that the set's authors published


class Format(NamedTuple):
    """What every picture becomes.

    Attributes:
        mode: "L" for one grey channel, "RGB" for three.
        size: Width and height.
        crop: Cut the middle out of a picture of any size; without it, another size is an error.
    """

    mode: str
    size: int
    crop: bool = False


def read_pictures(
    name: str, place: Path, picture: Format, classes: list[str], splits: dict[str, str] = TRAIN_AND_TEST
) -> Pictures:
    """Read pictures named `.../train/<class>/<file>` and `.../test/<class>/<file>`.

    Args:
        name: The data set, as in `utils.catalogue`.
        place: A zip or tar with both splits; a zip `train.zip` beside which `test.zip` lies; or the folder `train` beside
            which `test` lies.
        picture: What each file is turned into.
        classes: The names that the folders of classes must have; a label is the index of a name.
        splits: Folder name -> "train" or "test".

    Raises:
        LessonError: A file is damaged, has another size, or lies in a folder of another name. No file is changed.
    """
    sources = _sources(place, splits)

    def decode() -> cache.Arrays:
        pictures = _decode_all(name, place, sources, picture, classes, splits)
        arrays = {"lossy": np.array(pictures.lossy)}
        for split in ("train", "test"):
            images, labels = getattr(pictures, split).images, getattr(pictures, split).labels
            arrays |= {f"{split}_images": images.numpy(), f"{split}_labels": labels.numpy()}
        return arrays

    arrays = cache.kept(f"{name}-{picture.size}", cache.fingerprint(sources, picture, classes, splits), decode)
    train, test = (
        Images(torch.from_numpy(arrays[f"{split}_images"]), torch.from_numpy(arrays[f"{split}_labels"]))
        for split in ("train", "test")
    )
    return Pictures(train, test, arrays["lossy"].item())


def _decode_all(
    name: str, place: Path, sources: list[Path], picture: Format, classes: list[str], splits: dict[str, str]
) -> Pictures:
    found: dict[str, tuple[list[np.ndarray], list[int]]] = {"train": ([], []), "test": ([], [])}
    lossy = False
    for parts, content in _contents(name, place, sources):
        split = next((splits[part] for part in parts[:-2] if part in splits), None)
        if split is None:
            continue
        where = f"{paths.short(place)}: {'/'.join(parts)}"
        if parts[-2] not in classes:
            raise LessonError(f"{where} is in none of the classes {', '.join(classes)}; the file was left as it is")
        found[split][0].append(_decode(content, picture, where))
        found[split][1].append(classes.index(parts[-2]))
        lossy |= parts[-1].lower().endswith((".jpg", ".jpeg"))
    if not found["train"][0] or not found["test"][0]:
        usual = [next(folder for folder, meant in splits.items() if meant == split) for split in found]
        wanted = " and ".join(f"{folder}/<class>/<file>" for folder in usual)
        raise LessonError(f"{paths.short(place)}: expected pictures named {wanted}")
    train, test = (Images(torch.from_numpy(np.stack(images)), torch.tensor(labels)) for images, labels in found.values())
    return Pictures(train, test, lossy)


# ------------------------------------------------------------------------------------------------------ what is there


def _is_picture(name: str) -> bool:
    """Whether a path is of a picture.

    "._7.png" is none, it is what macOS puts into a zip beside 7.png. Nor is a GIF: the one in Hymenoptera's official zip,
    ants/imageNotFound.gif, is a web server's excuse for a missing ant.
    """
    if name.rsplit("/", 1)[-1].startswith("."):
        return False
    return name.lower().endswith((".png", ".jpg", ".jpeg", ".bmp", ".webp"))


def _sources(place: Path, splits: dict[str, str]) -> list[Path]:
    """The files to read: every picture of a folder, or one or more archives."""
    if place.is_dir():
        return sorted(path for path in place.parent.rglob("*") if _is_picture(path.name))
    if place.stem in splits:  # train.zip, beside it test.zip
        return [path for path in (place.with_name(split + place.suffix) for split in splits) if path.exists()]
    return [place]


def _contents(name: str, place: Path, sources: Iterable[Path]) -> Iterator[tuple[list[str], bytes]]:
    """Each picture: the parts of its path, and its bytes."""
    for source in sources:
        try:
            if place.is_dir():
                yield list(source.relative_to(place.parent).parts), source.read_bytes()
            elif source.suffix == ".zip":
                with zipfile.ZipFile(source) as archive:
                    for member in sorted(filter(_is_picture, archive.namelist())):
                        yield [source.stem, *member.split("/")], archive.read(member)
            else:
                with tarfile.open(source) as archive:
                    for member in archive:
                        if member.isfile() and _is_picture(member.name):
                            yield member.name.split("/"), archive.extractfile(member).read()
        except UNREADABLE_ARCHIVE as error:
            first_line = str(error).partition("\n")[0].rstrip(":")
            raise damaged(source, f"it cannot be unpacked ({first_line})", name) from None
        except RuntimeError as error:  # a password, or a compression that Python does not know
            raise LessonError(f"{paths.short(source)} cannot be unpacked: {error}") from None


# ----------------------------------------------------------------------------------------------------- from bytes to pixels


def _decode(content: bytes, wanted: Format, where: str) -> np.ndarray:
    """Decode a picture file into (channels, size, size) uint8."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(content))  # reads the header only: a huge picture is refused before it is unpacked
        if wanted.crop:
            picture = _middle(picture, wanted.size)
        if picture.size == (wanted.size, wanted.size):
            pixels = np.asarray(picture.convert(wanted.mode))
            return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
    except Exception:  # for a damaged file Pillow raises nearly anything: OSError, SyntaxError, ValueError, struct.error
        raise LessonError(f"{where} is not a readable picture; the file was left as it is") from None
    raise LessonError(f"{where} is {picture.width}x{picture.height} pixels, expected {wanted.size}x{wanted.size}")


def _middle(picture, size: int):
    """The middle of a photograph, size x size, as classifiers are usually shown one.

    The same as scaling the shorter side to 8/7 of `size` and cutting `size` x `size` out of the middle, in one step.
    """
    from PIL import Image, ImageOps

    from utils.pictures import in_colour

    picture = ImageOps.exif_transpose(picture)  # a phone stores the picture as the sensor lay, and says how to turn it
    side = min(picture.size) * 7 / 8
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return in_colour(picture).resize((size, size), Image.Resampling.BILINEAR, box)  # Pillow's is antialiased
