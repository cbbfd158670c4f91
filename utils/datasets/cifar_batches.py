"""CIFAR-10's own files: six batches of 10,000 pictures, as Python pickles or as plain bytes, in a folder or in their archive."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import torch

from utils import paths
from utils.datasets.images import Images
from utils.datasets.picture_files import UNREADABLE_ARCHIVE
from utils.datasets.sources import damaged
from utils.lesson import LessonError

# The MD5 of each official pickle, as torchvision's CIFAR10 has them.
BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
PIXELS = 3 * 32 * 32  # all of red, then green, then blue, each row by row


def read_cifar_batches(place: Path) -> tuple[Images, Images, bool]:
    """Read the six batches from a folder `cifar-10-batches-py` or `-bin`, or from the official archive as it is.

    Returns:
        (training, test, whether all six are the official pickles)
    """
    contents = _from_folder(place) if place.is_dir() else _from_archive(place)
    parts, official = [], True
    for name, md5 in BATCHES.items():
        if name in contents:
            parts.append(_unpickled(contents[name], place, name))
            official &= hashlib.md5(contents[name], usedforsecurity=False).hexdigest() == md5
        elif f"{name}.bin" in contents:
            parts.append(_from_bytes(contents[f"{name}.bin"], place, f"{name}.bin"))
            official = False  # nobody publishes checksums of these
        else:
            raise LessonError(
                f"{paths.short(place)} lacks {name}: move it away and run `python -m study data cifar10`, "
                "or go on with --source sample"
            )
    return _joined(parts[:5]), parts[5], official


def _joined(parts: list[Images]) -> Images:
    return Images(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def _from_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.stem in BATCHES and path.is_file()}


def _from_archive(archive: Path) -> dict[str, bytes]:
    """The batches in a tar. Nothing is unpacked to disk, so no path in it can lead anywhere."""
    try:
        with tarfile.open(archive) as members:
            return {
                Path(member.name).name: members.extractfile(member).read()
                for member in members
                if member.isfile() and Path(member.name).stem in BATCHES and not Path(member.name).name.startswith(".")
            }
    except UNREADABLE_ARCHIVE as error:
        first_line = str(error).partition("\n")[0].rstrip(":")
        raise damaged(archive, f"it cannot be unpacked ({first_line})", "cifar10") from None


class _OnlyArrays(pickle.Unpickler):
    """Reads numbers, text, lists, dicts and NumPy arrays, and refuses everything else.

    A pickle is a small program that may call any function of any module, and `pickle.load` runs it: opening a stranger's
    pickle means running a stranger's code. What may be called here is what NumPy itself needs to rebuild an array.
    """

    ALLOWED = {
        "ndarray": np.ndarray,
        "dtype": np.dtype,
        "_reconstruct": np.empty(0).__reduce__()[0],
        "encode": lambda text, encoding: text.encode("latin1"),  # _codecs.encode: how Python 3 writes bytes for Python 2
    }
    MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")

    def find_class(self, module: str, name: str):
        if module in self.MODULES and name in self.ALLOWED:
            return self.ALLOWED[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of pictures needs")


def _unpickled(content: bytes, place: Path, name: str) -> Images:
    where = place / name if place.is_dir() else place
    try:
        batch = _OnlyArrays(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # damaged bytes are read as a wrong program, which may fail in any way
        raise damaged(where, f"{name} is not a pickle of pictures ({error})", "cifar10") from None
    data, labels = (batch.get("data"), batch.get("labels")) if isinstance(batch, dict) else (None, None)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS or not len(data):
        raise damaged(where, f"{name} holds no pictures of 32x32 in colour", "cifar10")
    return _images(data, labels, where, name)


def _from_bytes(content: bytes, place: Path, name: str) -> Images:
    """The binary version: for each picture one byte that is its label, then its pixels."""
    where = place / name if place.is_dir() else place
    if not content or len(content) % (1 + PIXELS):
        raise damaged(where, f"{name} has {len(content):,} bytes, expected a multiple of {1 + PIXELS:,}", "cifar10")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return _images(rows[:, 1:], rows[:, 0].tolist(), where, name)


def _images(data: np.ndarray, labels: object, where: Path, name: str) -> Images:
    if not isinstance(labels, list) or len(labels) != len(data) or any(label not in range(10) for label in labels):
        raise damaged(where, f"{name} does not hold one label from 0 to 9 for each of its {len(data):,} pictures", "cifar10")
    return Images(torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), torch.tensor(labels, dtype=torch.int64))
