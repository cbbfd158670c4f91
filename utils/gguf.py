"""Read GGUF files, in which llama.cpp and its relatives keep quantised models: metadata, a table of tensors, blocks of numbers.

    file = GGUF(path)
    file.metadata["llama.block_count"]      # numbers, strings, and arrays of them
    file.tensor("blk.0.attn_q.weight")      # float32, whatever it is stored in
    file.blocks("blk.0.attn_q.weight")      # the bytes themselves, a row for each block: (blocks, bytes)

The layout, in the order of the file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): the letters GGUF; version,
number of tensors, number of metadata; metadata as key, type, value; for each tensor its name, dimensions, type and place; the
tensors. All numbers are little-endian. The file is mapped, not read: what nobody asks for stays on the disk. Nothing in it is
believed: what it claims to hold has to fit into its size before memory is made for it.
"""

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils import paths
from utils.lesson import LessonError

HEADER, STRING, ARRAY = 24, 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # as `struct` writes them
DEEPEST, MOST_DIMENSIONS, LONGEST_NAME = 4, 4, 64  # arrays in arrays; a tensor's dimensions, and the letters of its name

Value = bool | int | float | str | list | np.ndarray


@dataclass(frozen=True)
class Kind:
    """How numbers are stored: so many in a block of so many bytes, and how they are got out again."""

    name: str
    numbers: int
    bytes: int
    read: Callable[[Tensor], Tensor]  # (blocks, bytes) uint8 → (blocks, numbers) float32


@dataclass(frozen=True)
class Entry:
    """A tensor's line in the table: its shape as PyTorch counts it, how it is stored, and where it begins and ends."""

    shape: tuple[int, ...]
    kind: Kind
    start: int
    end: int


# ---------------------------------------------------------------------------------------------- out of blocks


def _as(dtype: torch.dtype, blocks: Tensor) -> Tensor:
    """Read the bytes of each block as numbers of another type, in float32."""
    return blocks.contiguous().view(dtype).float()


def _nibbles(packed: Tensor) -> Tensor:
    """Two numbers of 4 bits from each byte (blocks, n), first all lower halves, then all upper: (blocks, 2n), from 0 to 15."""
    return torch.cat([packed & 15, packed >> 4], dim=1).float()


def _q4_0(blocks: Tensor) -> Tensor:
    return _as(torch.float16, blocks[:, :2]) * (_nibbles(blocks[:, 2:]) - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    """32 numbers: scale, minimum, 16 bytes of 4-bit numbers. Each is number · scale + minimum."""
    return _as(torch.float16, blocks[:, :2]) * _nibbles(blocks[:, 4:]) + _as(torch.float16, blocks[:, 2:4])


def _q8_0(blocks: Tensor) -> Tensor:
    """32 numbers: scale, 32 signed bytes."""
    return _as(torch.float16, blocks[:, :2]) * _as(torch.int8, blocks[:, 2:])


def _q6_k(blocks: Tensor) -> Tensor:
    """256 numbers of 6 bits: lower 4 bits (128 bytes), upper 2 bits (64), a scale of one byte for each 16, and one for those."""
    low, high, scales = (
        blocks[:, :128].view(-1, 2, 2, 32),
        blocks[:, 128:192].view(-1, 2, 1, 32),
        _as(torch.int8, blocks[:, 192:208]),
    )
    low = torch.cat([low & 15, low >> 4], dim=2)  # (blocks, 2, 4, 32)
    high = torch.cat([high >> shift & 3 for shift in (0, 2, 4, 6)], dim=2)
    numbers = (low | high << 4).float() - 32
    scales = _as(torch.float16, blocks[:, 208:]) * scales  # (blocks, 16)
    return (numbers.view(-1, 16, 16) * scales[:, :, None]).view(-1, 256)


KINDS = {
    0: Kind("F32", 1, 4, lambda blocks: _as(torch.float32, blocks)),
    1: Kind("F16", 1, 2, lambda blocks: _as(torch.float16, blocks)),
    2: Kind("Q4_0", 32, 18, _q4_0),
    3: Kind("Q4_1", 32, 20, _q4_1),
    8: Kind("Q8_0", 32, 34, _q8_0),
    14: Kind("Q6_K", 256, 210, _q6_k),
    30: Kind("BF16", 1, 2, lambda blocks: _as(torch.bfloat16, blocks)),
}


# ---------------------------------------------------------------------------------------------- the file


class GGUF:
    """A file, its header read and checked.

    Attributes:
        metadata: By key. Arrays of numbers are NumPy arrays, arrays of strings are lists.
        entries: The table of tensors, by name.

    Raises:
        LessonError: The file is none, or broken; one sentence that says where.
    """

    def __init__(self, path: Path):
        self.path, self._place = Path(path), 0
        with open(self.path, "rb") as file:
            size = file.seek(0, 2)
            if size < HEADER:
                raise self._broken(f"{size} bytes are not even a header")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version = self._take(4), self._number("I")
        if magic != b"GGUF":
            raise self._broken(f"it begins with {magic!r}, not with GGUF")
        if version not in (2, 3):
            raise self._broken(f"version {version}; this reader knows 2 and 3, with the lowest byte first")
        tensors, pairs = self._number("Q"), self._number("Q")
        self.metadata: dict[str, Value] = {}
        for _ in range(pairs):
            key = self._string()
            self.metadata[key] = self._value(self._number("I"))
        table = [self._tensor_info() for _ in range(tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**16:
            raise self._broken(f"tensors at multiples of {alignment} bytes")
        first = -(-self._place // alignment) * alignment
        self.entries: dict[str, Entry] = {}
        for name, shape, kind, offset in table:
            start = first + offset
            end = start + math.prod(shape) // kind.numbers * kind.bytes
            if end > size:
                raise self._broken(f"{name} ends at byte {end:,} of {size:,}: the file is cut short")
            if name in self.entries:
                raise self._broken(f"two tensors are called {name}")
            self.entries[name] = Entry(shape, kind, start, end)

    def blocks(self, name: str) -> Tensor:
        """The bytes of a tensor, a row for each block: (blocks, bytes) uint8."""
        entry = self._entry(name)
        return torch.frombuffer(bytearray(self._bytes[entry.start : entry.end]), dtype=torch.uint8).view(-1, entry.kind.bytes)

    def tensor(self, name: str) -> Tensor:
        """A tensor, dequantised to float32."""
        entry = self._entry(name)
        return entry.kind.read(self.blocks(name)).view(entry.shape)

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise self._broken(f"there is no tensor {name} in it")
        return self.entries[name]

    def _broken(self, why: str) -> LessonError:
        return LessonError(f"{paths.short(self.path)} is not a GGUF file that can be read here: {why}")

    # Reading on, from one place in the file to the next; past its end there is nothing.

    def _take(self, count: int) -> bytes:
        start, self._place = self._place, self._place + count
        if self._place > len(self._bytes):
            raise self._broken(f"at byte {start:,} it wants {count:,} more, and it has {len(self._bytes):,}: it is cut short")
        return self._bytes[start : self._place]

    def _number(self, kind: str) -> bool | int | float:
        return struct.unpack(f"<{kind}", self._take(struct.calcsize(f"<{kind}")))[0]

    def _string(self) -> str:
        start, raw = self._place, self._take(self._number("Q"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._broken(f"the text at byte {start:,} is not UTF-8") from None

    def _value(self, kind: int, depth: int = 0) -> Value:
        if kind in NUMBERS:
            return self._number(NUMBERS[kind])
        if kind == STRING:
            return self._string()
        if kind != ARRAY or depth == DEEPEST:
            raise self._broken(f"a value of type {kind} at byte {self._place:,}")
        kind, count = self._number("I"), self._number("Q")
        if kind in NUMBERS:
            number = np.dtype(f"<{NUMBERS[kind]}")
            return np.frombuffer(self._take(count * number.itemsize), number)
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _tensor_info(self) -> tuple[str, tuple[int, ...], Kind, int]:
        name, dimensions = self._string(), self._number("I")
        if len(name) > LONGEST_NAME:
            raise self._broken(f"a tensor's name of {len(name):,} letters")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise self._broken(f"{name} has {dimensions} dimensions")
        sizes = [self._number("Q") for _ in range(dimensions)]  # the one that changes fastest comes first
        kind, offset = self._number("I"), self._number("Q")
        if kind not in KINDS:
            known = ", ".join(one.name for one in KINDS.values())
            raise self._broken(f"{name} is stored as type {kind}; this reader knows {known}")
        if min(sizes) < 1 or sizes[0] % KINDS[kind].numbers:
            raise self._broken(f"{name}, {' x '.join(map(str, sizes))} numbers, cannot be cut into blocks of {KINDS[kind].name}")
        return name, tuple(reversed(sizes)), KINDS[kind], offset
