"""Read the model files of CTranslate2, in which many published translators and speech recognisers are kept.

    weights = read(path, "WhisperSpec")     # name → tensor, in the type that it is stored in
    weights["encoder/conv1/weight"].float()

The layout, in the order of the file (https://github.com/OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py): version of
the format; name and revision of the model's specification; number of tensors; for each its name, number of dimensions,
dimensions, type, number of bytes, and the bytes; number of aliases, each the name of a tensor that is another one. Numbers are
little-endian, a name is its length, its letters, and a zero. Nothing in the file is believed: what it claims to hold has to fit
into what is left of it before memory is made for it, and there is no code in it to run.
"""

import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from utils import paths
from utils.lesson import LessonError

VERSION = 6
TYPES = {0: torch.float32, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.float16, 5: torch.bfloat16}
MOST_TENSORS, MOST_DIMENSIONS, LONGEST_NAME = 10_000, 8, 200


class _Broken(Exception):
    """Something in the file cannot be so; the message says what."""


class _Reader:
    """The bytes of a file, and how far they were read."""

    def __init__(self, content: bytes):
        self.content, self.place = content, 0

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.content) - self.place:
            raise _Broken(f"it ends in the middle of {what}")
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self, kind: str, what: str) -> int:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(kind), what))[0]

    def name(self, what: str) -> str:
        length = self.number("H", what)
        if not 1 < length <= LONGEST_NAME:
            raise _Broken(f"{what} has {length} letters")
        letters = self.take(length, what)
        if letters[-1] != 0 or not letters[:-1].isascii() or 0 in letters[:-1]:
            raise _Broken(f"{what} is not a name")
        return letters[:-1].decode("ascii")


def read(path: Path, specification: str) -> dict[str, Tensor]:
    """Read all tensors of a model file.

    Args:
        path: The file, "model.bin" as a rule.
        specification: What the model has to be, such as "WhisperSpec".

    Returns:
        The tensors by name, aliases too, on the CPU; a scalar has no dimensions.

    Raises:
        LessonError: It is no such file, of another version or model, or damaged.
    """
    reader = _Reader(path.read_bytes())
    try:
        weights = _read(reader, specification)
    except _Broken as broken:
        raise LessonError(f"{paths.short(path)} is not a CTranslate2 model that can be read: {broken}") from None
    return weights


def _read(reader: _Reader, specification: str) -> dict[str, Tensor]:
    version = reader.number("I", "its version")
    if version != VERSION:
        raise _Broken(f"its format is version {version}, not {VERSION}")
    found = reader.name("the name of its specification")
    if found != specification:
        raise _Broken(f"it holds a {found}, not a {specification}")
    reader.number("I", "its revision")
    count = reader.number("I", "the number of its tensors")
    if count > MOST_TENSORS:
        raise _Broken(f"it claims to hold {count:,} tensors")
    weights: dict[str, Tensor] = {}
    for place in range(count):
        name = reader.name(f"the name of tensor {place}")
        weights[name] = _tensor(reader, name)
    for _ in range(reader.number("I", "the number of its aliases")):
        alias, name = reader.name("an alias"), reader.name("what an alias stands for")
        if name not in weights:
            raise _Broken(f"{alias} stands for {name}, which is not there")
        weights[alias] = weights[name]
    if reader.place != len(reader.content):
        raise _Broken(f"{len(reader.content) - reader.place:,} bytes are left at its end")
    return weights


def _tensor(reader: _Reader, name: str) -> Tensor:
    dimensions = reader.number("B", name)
    if dimensions > MOST_DIMENSIONS:
        raise _Broken(f"{name} has {dimensions} dimensions")
    shape = [reader.number("I", name) for _ in range(dimensions)]
    kind = reader.number("B", name)
    if kind not in TYPES:
        raise _Broken(f"{name} is stored in type {kind}, which is unknown")
    size, dtype = reader.number("I", name), TYPES[kind]
    if size != math.prod(shape) * dtype.itemsize:
        raise _Broken(f"{name} has {size:,} bytes, which is not what a tensor {tuple(shape)} of {dtype} takes")
    # A copy of its own (bytearray), or it would keep the whole file in memory and could not be written to.
    data = bytearray(reader.take(size, name))
    return torch.frombuffer(data, dtype=dtype).view(shape) if data else torch.empty(shape, dtype=dtype)
