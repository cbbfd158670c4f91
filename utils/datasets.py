"""Every data set by name: real when it is there, an honest sample when it is not.

    data = mnist()
    data.train.images   # (60000, 1, 28, 28) uint8
    data.train.labels   # (60000,) int64
    data.source         # "MNIST, official files, datasets/MNIST/raw": print it beside every number

`source` is the flag that every lesson passes on:
    "auto"    the real set where it is on disk (a project may download it), else the sample
    "real"    the real set, downloaded if it must be; never the sample
    "sample"  small, comes with the installed packages, never touches the network
"""

import gzip
import hashlib
import io
import math
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils import catalogue, paths
from utils.lesson import LessonError, mention

Source = Literal["auto", "real", "sample"]


@dataclass(frozen=True)
class Images:
    """Labelled pictures: images (N, channels, height, width) uint8 in 0..255, labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index) -> "Images":
        """A part of them, by slice, mask or index tensor."""
        return Images(self.images[index], self.labels[index])


@dataclass(frozen=True)
class ImageData:
    """A data set of labelled pictures.

    Attributes:
        classes: The name of each label.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for a sample.
    """

    train: Images
    test: Images
    classes: list[str]
    source: str
    is_real: bool


def hold_out(data: Images, count: int, seed: int = 0) -> tuple[Images, Images]:
    """Split off `count` random examples, for choosing settings without touching the test set.

    Returns:
        (the rest, the held-out examples)
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data[order[count:]], data[order[:count]]


# --------------------------------------------------------------------------------------------------------- MNIST


def mnist(source: Source = "auto", download: bool = False) -> ImageData:
    """Handwritten digits (LeCun, Cortes and Burges, 1998): 60,000 to train on, 10,000 to test on.

    Reads the four official files (plain or .gz), and folders, zips or tars of pictures named `train/7/any.png`.
    The sample is scikit-learn's digits: 1,797 real handwritten digits of 8x8 pixels, enlarged to MNIST's format. The last 360
    are its test set: the digits are in the order in which people wrote them, so that most of its writers are new.

    Args:
        source: "auto", "real" or "sample".
        download: With "auto", try the official download before the sample. Projects do; lessons do not.

    Raises:
        LessonError: A file is damaged or incomplete, or source="real" and it cannot be had.
    """
    place = None if source == "sample" else catalogue.find("mnist")
    if place is None and (source == "real" or (source == "auto" and download)):
        try:
            catalogue.fetch("mnist")
            place = catalogue.find("mnist")
        except (LessonError, OSError) as error:
            if source == "real":
                raise
            print(f"Going on with the sample: {error}")
    data = _digits_sample() if place is None else _mnist_from(place)
    mention("data", data.source)
    return data


def _mnist_from(place: Path) -> ImageData:
    if place.name.startswith("train-images"):
        return _mnist_idx(place.parent)
    train, test = _picture_folders(place, size=28)
    source = f"MNIST, own copy ({len(train):,} + {len(test):,} pictures), {paths.short(place)}"
    return ImageData(train, test, [str(digit) for digit in range(10)], source, is_real=True)


def _mnist_idx(folder: Path) -> ImageData:
    arrays, official = {}, True
    for file in catalogue.CATALOGUE["mnist"].files:
        path = next((p for p in (folder / file.name, folder / f"{file.name}.gz") if p.exists()), None)
        if path is None:
            raise LessonError(f"{paths.short(folder)} lacks {file.name}; `python -m study data mnist` fetches what is missing")
        arrays[file.name], same = _read_idx(path, file)
        official &= same
    train, test = (
        Images(
            torch.from_numpy(arrays[f"{split}-images-idx3-ubyte"]).unsqueeze(1),  # (N, 1, 28, 28)
            torch.from_numpy(arrays[f"{split}-labels-idx1-ubyte"]).long(),
        )
        for split in ("train", "t10k")
    )
    for name, split in (("train", train), ("t10k", test)):
        if len(split.images) != len(split.labels):
            raise LessonError(f"{paths.short(folder)}: {len(split.images)} {name} images but {len(split.labels)} labels")
    kind = "official files" if official else "own copy (not the official checksums)"
    source = f"MNIST, {kind} ({len(train):,} + {len(test):,}), {paths.short(folder)}"
    return ImageData(train, test, [str(digit) for digit in range(10)], source, is_real=True)


def _read_idx(path: Path, file: catalogue.RemoteFile) -> tuple[np.ndarray, bool]:
    """Read an IDX file: two zero bytes, the type (8: unsigned byte), the number of dimensions, the sizes, the numbers.

    Returns:
        The numbers in their shape, and whether the file is the official one.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise LessonError(_damaged(path, f"it cannot be read ({error})")) from None
    if content[:3] != b"\x00\x00\x08" or len(content) < 4:
        raise LessonError(_damaged(path, f"expected an IDX file of {file.bytes:,} bytes, found something else"))
    dimensions = content[3]
    header = 4 + 4 * dimensions
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    if len(content) != header + math.prod(shape):
        raise LessonError(_damaged(path, f"expected {header + math.prod(shape):,} bytes, found {len(content):,}"))
    same = hashlib.md5(content, usedforsecurity=False).hexdigest() == file.md5
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape), same  # bytearray: writable


def _damaged(path: Path, what: str) -> str:
    return (
        f"{paths.short(path)} is damaged: {what}. Move it away and run `python -m study data mnist`, "
        "or go on with --source sample; the file was left as it is"
    )


def _digits_sample() -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8) in 0..1
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)  # MNIST's digits fill 20x20 of 28x28
    images = F.pad(large, (4, 4, 4, 4)).mul(255).round().to(torch.uint8)  # (1797, 1, 28, 28)
    everything = Images(images, torch.from_numpy(digits.target).long())
    return ImageData(
        train=everything[:-360],
        test=everything[-360:],
        classes=[str(digit) for digit in range(10)],
        source="sample: scikit-learn's digits, 8x8 enlarged to 28x28 (1,437 + 360); not MNIST",
        is_real=False,
    )


# ------------------------------------------------------------------------------- folders, zips and tars of pictures


def _is_picture(name: str) -> bool:
    return name.lower().endswith((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"))


def _picture_folders(place: Path, size: int) -> tuple[Images, Images]:
    """Read pictures named `.../train/<class>/<file>` and `.../test/<class>/<file>`, classes in alphabetical order.

    Args:
        place: A zip, a tar, or the folder `train` beside which `test` lies.
        size: Width and height that every picture must have.
    """
    from PIL import Image, UnidentifiedImageError

    splits: dict[str, tuple[list, list]] = {"train": ([], []), "test": ([], [])}
    names = {"train": "train", "training": "train", "test": "test", "testing": "test"}
    for parts, content in _pictures_in(place):
        split = next((names[part] for part in parts[:-2] if part in names), None)
        if split is None:
            continue
        where = f"{paths.short(place)}: {'/'.join(parts)}"
        try:
            picture = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        except (UnidentifiedImageError, OSError):
            raise LessonError(f"{where} is not a readable picture; the file was left as it is") from None
        if picture.shape != (size, size):
            raise LessonError(f"{where} is {picture.shape[1]}x{picture.shape[0]} pixels, expected {size}x{size}")
        splits[split][0].append(picture)
        splits[split][1].append(parts[-2])
    if not splits["train"][0] or not splits["test"][0]:
        raise LessonError(f"{paths.short(place)}: expected pictures named train/<class>/<file> and test/<class>/<file>")
    classes = sorted(set(splits["train"][1]))
    unknown = sorted(set(splits["test"][1]) - set(classes))
    if unknown:
        raise LessonError(f"{paths.short(place)}: the test pictures have classes without training pictures: {', '.join(unknown)}")
    train, test = (
        Images(torch.from_numpy(np.stack(pictures)).unsqueeze(1), torch.tensor([classes.index(name) for name in labels]))
        for pictures, labels in splits.values()
    )
    return train, test


def _pictures_in(place: Path) -> Iterator[tuple[list[str], bytes]]:
    """Each picture beside or below a folder, or in a zip or tar: the parts of its path, and its bytes."""
    try:
        if place.is_dir():
            for path in sorted(p for p in place.parent.rglob("*") if _is_picture(p.name)):
                yield list(path.relative_to(place.parent).parts), path.read_bytes()
        elif place.suffix == ".zip":
            with zipfile.ZipFile(place) as archive:
                for name in sorted(archive.namelist()):
                    if _is_picture(name):
                        yield name.split("/"), archive.read(name)
        else:
            with tarfile.open(place) as archive:
                for member in archive:
                    if member.isfile() and _is_picture(member.name):
                        yield member.name.split("/"), archive.extractfile(member).read()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise LessonError(_damaged(place, f"it cannot be unpacked ({error})")) from None
