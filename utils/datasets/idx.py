"""MNIST's own file format, IDX: a short header, then the numbers."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from utils import catalogue, paths
from utils.datasets.images import Images
from utils.datasets.sources import damaged
from utils.lesson import LessonError


def read_mnist(folder: Path) -> tuple[Images, Images, bool]:
    """Read the four files of MNIST, plain or gzip-compressed.

    Returns:
        (training, test, whether all four are the official files)
    """
    arrays, official = {}, True
    for file in catalogue.CATALOGUE["mnist"].files:
        path = next((p for p in (folder / file.name, folder / f"{file.name}.gz") if p.exists()), None)
        if path is None:
            raise LessonError(f"{paths.short(folder)} lacks {file.name}; `python -m study data mnist` fetches what is missing")
        arrays[file.name], same = _read(path, file)
        _check(arrays[file.name], path)
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
    return train, test, official


def _check(array: np.ndarray, path: Path) -> None:
    """Refuse a whole IDX file that holds something else than its name says."""
    if "images" in path.name and (array.size == 0 or array.shape[1:] != (28, 28)):
        raise damaged(path, f"expected images of 28x28, found numbers in the shape {array.shape}", "mnist")
    if "labels" in path.name and (array.ndim != 1 or array.max(initial=0) > 9):
        found = f"found {array.max(initial=0)} in the shape {array.shape}"
        raise damaged(path, f"expected labels from 0 to 9, {found}", "mnist")


def _read(path: Path, file: catalogue.RemoteFile) -> tuple[np.ndarray, bool]:
    """Read an IDX file: two zero bytes, the type (8: unsigned byte), the number of dimensions, the sizes, the numbers.

    Returns:
        The numbers in their shape, and whether the file is the official one.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (zlib.error, EOFError, OSError) as error:
        raise damaged(path, f"it cannot be read ({error})", "mnist") from None
    if content[:3] != b"\x00\x00\x08" or len(content) < 4:
        raise damaged(path, f"expected an IDX file of {file.bytes:,} bytes, found something else", "mnist")
    dimensions = content[3]
    header = 4 + 4 * dimensions
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    if len(content) != header + math.prod(shape):
        raise damaged(path, f"expected {header + math.prod(shape):,} bytes, found {len(content):,}", "mnist")
    same = hashlib.md5(content, usedforsecurity=False).hexdigest() == file.md5
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape), same  # bytearray: writable
