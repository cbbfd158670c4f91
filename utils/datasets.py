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
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils import catalogue, paths
from utils.lesson import LessonError, explain, mention

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


def nearest_mean_accuracy(train: Images, test: Images) -> float:
    """The baseline for pictures: average all training images of each class, choose the average that a test image is closest to.

    Returns:
        The share of right answers on the test images, 0..1.
    """
    classes = train.labels.unique()
    means = torch.stack([train.images[train.labels == label].float().mean(dim=0).flatten() for label in classes])
    distances = torch.cdist(test.images.float().flatten(1), means)  # (N, classes)
    return (classes[distances.argmin(dim=1)] == test.labels).float().mean().item()


# --------------------------------------------------------------------------------------------------------- MNIST

MNIST_CLASSES = [str(digit) for digit in range(10)]


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
            print(f"Going on with the sample: {explain(error) if isinstance(error, OSError) else error}")
    data = _digits_sample() if place is None else _mnist_from(place)
    mention("data", data.source)
    return data


def _mnist_from(place: Path) -> ImageData:
    if place.name.startswith("train-images"):
        return _mnist_idx(place.parent)
    train, test = _picture_folders(place, 28, MNIST_CLASSES)
    source = f"MNIST, own copy ({len(train):,} + {len(test):,} pictures), {paths.short(place)}"
    return ImageData(train, test, MNIST_CLASSES, source, is_real=True)


def _mnist_idx(folder: Path) -> ImageData:
    arrays, official = {}, True
    for file in catalogue.CATALOGUE["mnist"].files:
        path = next((p for p in (folder / file.name, folder / f"{file.name}.gz") if p.exists()), None)
        if path is None:
            raise LessonError(f"{paths.short(folder)} lacks {file.name}; `python -m study data mnist` fetches what is missing")
        arrays[file.name], same = _read_idx(path, file)
        _check_mnist_array(arrays[file.name], path)
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
    return ImageData(train, test, MNIST_CLASSES, source, is_real=True)


def _check_mnist_array(array: np.ndarray, path: Path) -> None:
    """Refuse a whole IDX file that holds something else than its name says."""
    if "images" in path.name and (array.size == 0 or array.shape[1:] != (28, 28)):
        raise LessonError(_damaged(path, f"expected images of 28x28, found numbers in the shape {array.shape}"))
    if "labels" in path.name and (array.ndim != 1 or array.max(initial=0) > 9):
        raise LessonError(_damaged(path, f"expected labels from 0 to 9, found {array.max(initial=0)} in the shape {array.shape}"))


def _read_idx(path: Path, file: catalogue.RemoteFile) -> tuple[np.ndarray, bool]:
    """Read an IDX file: two zero bytes, the type (8: unsigned byte), the number of dimensions, the sizes, the numbers.

    Returns:
        The numbers in their shape, and whether the file is the official one.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (zlib.error, EOFError, OSError) as error:
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
        classes=MNIST_CLASSES,
        source="sample: scikit-learn's digits, 8x8 enlarged to 28x28 (1,437 + 360); not MNIST",
        is_real=False,
    )


# ------------------------------------------------------------------------------- folders, zips and tars of pictures


def _is_picture(name: str) -> bool:
    """Whether a path is of a picture; "._7.png" is not, it is what macOS puts into a zip beside 7.png."""
    if name.rsplit("/", 1)[-1].startswith("."):
        return False
    return name.lower().endswith((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"))


def _picture_folders(place: Path, size: int, classes: list[str]) -> tuple[Images, Images]:
    """Read pictures named `.../train/<class>/<file>` and `.../test/<class>/<file>`.

    Args:
        place: A zip, a tar, or the folder `train` beside which `test` lies.
        size: Width and height that every picture must have.
        classes: The names that the folders of classes must have; a label is the index of a name.
    """
    splits: dict[str, tuple[list, list]] = {"train": ([], []), "test": ([], [])}
    names = {"train": "train", "training": "train", "test": "test", "testing": "test"}
    for parts, content in _pictures_in(place):
        split = next((names[part] for part in parts[:-2] if part in names), None)
        if split is None:
            continue
        where = f"{paths.short(place)}: {'/'.join(parts)}"
        if parts[-2] not in classes:
            raise LessonError(f"{where} is in none of the classes {', '.join(classes)}; the file was left as it is")
        splits[split][0].append(_grey(content, size, where))
        splits[split][1].append(classes.index(parts[-2]))
    if not splits["train"][0] or not splits["test"][0]:
        raise LessonError(f"{paths.short(place)}: expected pictures named train/<class>/<file> and test/<class>/<file>")
    train, test = (
        Images(torch.from_numpy(np.stack(pictures)).unsqueeze(1), torch.tensor(labels)) for pictures, labels in splits.values()
    )
    return train, test


def _grey(content: bytes, size: int, where: str) -> np.ndarray:
    """Decode a picture file into grey values (size, size) uint8."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(content))  # reads the header only: a huge picture is refused before it is unpacked
        if picture.size == (size, size):
            return np.asarray(picture.convert("L"))
    except Exception:  # for a damaged file Pillow raises nearly anything: OSError, SyntaxError, ValueError, struct.error
        raise LessonError(f"{where} is not a readable picture; the file was left as it is") from None
    raise LessonError(f"{where} is {picture.width}x{picture.height} pixels, expected {size}x{size}")


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
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        first_line = str(error).partition("\n")[0].rstrip(":")
        raise LessonError(_damaged(place, f"it cannot be unpacked ({first_line})")) from None
    except RuntimeError as error:  # a password, or a compression that Python does not know
        raise LessonError(f"{paths.short(place)} cannot be unpacked: {error}") from None
