"""utils.gguf: every number as the gguf package reads it, and one sentence for every file that is broken, cut short or hostile."""

import math
import struct
import tracemalloc
from itertools import count

import numpy as np
import pytest
import torch

from utils.gguf import GGUF, KINDS
from utils.lesson import LessonError
from utils.weights import SMOLLM2

needs_weights = pytest.mark.skipif(
    SMOLLM2.packaged() is None, reason="needs the weights package: python -m study setup --extra models"
)
UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT8 = 4, 6, 7, 8, 9, 10, 1


def text(value: str | bytes) -> bytes:
    raw = value.encode("utf-8") if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def info(name: str, sizes: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def build(pairs=(), infos=(), data: bytes = b"", magic=b"GGUF", version=3, counts=None, alignment: int = 32) -> bytes:
    """The bytes of a GGUF file; counts may lie."""
    tensors, keys = counts or (len(infos), len(pairs))
    head = magic + struct.pack("<IQQ", version, tensors, keys) + b"".join(pairs) + b"".join(infos)
    return head + b"\0" * (-len(head) % alignment) + data


@pytest.fixture
def write(tmp_path):
    numbers = count()  # a new file each time: Windows does not let a mapped one be written to

    def write(content: bytes):
        path = tmp_path / f"{next(numbers)}.gguf"
        path.write_bytes(content)
        return path

    return write


class TestHeader:
    def test_values(self, write):
        pairs = [
            pair("number", UINT32, struct.pack("<I", 7)),
            pair("rate", FLOAT32, struct.pack("<f", 0.5)),
            pair("yes", BOOL, b"\1"),
            pair("name", STRING, text("라마 🦙")),
            pair("bytes", ARRAY, struct.pack("<IQ3b", INT8, 3, -1, 0, 5)),
            pair("words", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text("")),
            pair("nested", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQI", UINT32, 1, 9)),
        ]
        found = GGUF(write(build(pairs))).metadata
        assert [found[key] for key in ("number", "rate", "yes", "name", "words")] == [7, 0.5, True, "라마 🦙", ["a", ""]]
        assert found["bytes"].tolist() == [-1, 0, 5] and found["nested"][0].tolist() == [9]

    @pytest.mark.parametrize("alignment", [32, 64])
    def test_tensors(self, write, alignment):
        numbers = np.arange(6, dtype="<f4")
        data = numbers.tobytes() + b"\0" * (alignment - 24) + numbers[:2].astype("<f2").tobytes()
        pairs = [pair("general.alignment", UINT32, struct.pack("<I", alignment))]
        file = GGUF(write(build(pairs, [info("a", (3, 2), 0, 0), info("b", (2,), 1, alignment)], data, alignment=alignment)))
        assert file.tensor("a").tolist() == [[0, 1, 2], [3, 4, 5]] and file.tensor("b").tolist() == [0, 1]
        assert file.entries["a"].shape == (2, 3) and file.blocks("b").shape == (2, 2)
        file.tensor("a").zero_()  # a copy
        assert file.tensor("a").sum() == 15


class TestKinds:
    def test_q4_1_by_hand(self):
        block = struct.pack("<ee", 0.5, -3.0) + bytes([0x21] + [0x00] * 14 + [0xF0])  # 32 numbers: 1, 0, ... | 2, ..., 15
        found = KINDS[3].read(torch.tensor([list(block)], dtype=torch.uint8))[0]
        assert found[0] == 0.5 * 1 - 3 and found[16] == 0.5 * 2 - 3 and found[31] == 0.5 * 15 - 3
        assert (found[1:16] == -3).all()

    @pytest.mark.parametrize("code", sorted(KINDS))
    def test_random_bytes_as_the_gguf_package(self, code):
        gguf = pytest.importorskip("gguf")
        kind, draw = KINDS[code], np.random.default_rng(code)
        raw = draw.integers(0, 256, (50, kind.bytes), dtype=np.uint8)
        halves = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q6_K": [208]}.get(kind.name, [])
        for place in halves:  # scales that are numbers
            raw[:, place : place + 2] = draw.normal(size=(50, 1)).astype("<f2").view(np.uint8)
        expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(code)).reshape(50, kind.numbers)
        assert kind.name == gguf.GGMLQuantizationType(code).name
        assert (kind.numbers, kind.bytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(code)]
        assert np.array_equal(kind.read(torch.from_numpy(raw)).numpy(), expected.astype(np.float32), equal_nan=True)


@needs_weights
class TestSmolLM2:
    def test_every_tensor_as_the_gguf_package(self):
        gguf = pytest.importorskip("gguf")
        path = SMOLLM2.packaged()
        ours, theirs = GGUF(path), gguf.GGUFReader(path)
        assert list(ours.entries) == [tensor.name for tensor in theirs.tensors] and len(ours.entries) == 272
        for tensor in theirs.tensors[:12] + theirs.tensors[-12:]:  # all 272 take 5 s; tried: equal
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(ours.tensor(tensor.name).numpy(), expected), tensor.name
        for key, field in theirs.fields.items():
            if not key.startswith("GGUF."):
                value = ours.metadata[key]
                assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents(), key

    def test_shapes(self):
        file = GGUF(SMOLLM2.packaged())
        assert file.entries["blk.0.ffn_down.weight"].shape == (576, 1536)
        assert {entry.kind.name for entry in file.entries.values()} == {"F32", "Q4_1", "Q8_0"}
        weight = file.tensor("blk.29.attn_q.weight")
        assert weight.shape == (576, 576) and weight.isfinite().all() and 0.01 < weight.std() < 1


HUGE = 2**62
BROKEN = {
    "empty": b"",
    "too short": b"GGUF" + b"\0" * 10,
    "not GGUF": build(magic=b"PK\3\4"),
    "version 1": build(version=1),
    "big-endian": build(version=struct.unpack("<I", struct.pack(">I", 3))[0]),
    "so many pairs": build(counts=(0, HUGE)),
    "so many tensors": build(counts=(HUGE, 0)),
    "a long key": build([struct.pack("<Q", HUGE) + b"x" * 50]),
    "a long text": build([text("k") + struct.pack("<IQ", STRING, HUGE)]),
    "not UTF-8": build([pair("k", STRING, text(b"\xff\xfe"))]),
    "a value of no type": build([pair("k", 13, b"\0" * 8)]),
    "a long array of numbers": build([pair("k", ARRAY, struct.pack("<IQ", UINT64, HUGE))]),
    "a long array of texts": build([pair("k", ARRAY, struct.pack("<IQ", STRING, HUGE))]),
    "a long array of arrays": build([pair("k", ARRAY, struct.pack("<IQ", ARRAY, HUGE))]),
    "arrays in arrays in arrays": build([pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000)]),
    "alignment 0": build([pair("general.alignment", UINT32, struct.pack("<I", 0))]),
    "alignment as text": build([pair("general.alignment", STRING, text("32"))]),
    "no dimensions": build(infos=[info("a", (), 0, 0)]),
    "nine dimensions": build(infos=[info("a", (1,) * 9, 0, 0)]),
    "a size of 0": build(infos=[info("a", (0, 4), 0, 0)]),
    "huge sizes": build(infos=[info("a", (HUGE, HUGE, HUGE, HUGE), 0, 0)]),
    "sizes whose product overflows to 0": build(infos=[info("a", (2**32, 2**32), 0, 0)]),
    "a type that is none": build(infos=[info("a", (32,), 77, 0)]),
    "not a whole block": build(infos=[info("a", (33,), 8, 0)], data=b"\0" * 100),
    "behind the end": build(infos=[info("a", (8,), 0, HUGE)], data=b"\0" * 32),
    "cut short": build(infos=[info("a", (8,), 0, 0)], data=b"\0" * 31),
    "two of one name": build(infos=[info("a", (8,), 0, 0), info("a", (8,), 0, 0)], data=b"\0" * 32),
    "a name without end": build(infos=[info("a" * 100_000, (8,), 0, 0)], data=b"\0" * 32),
}


class TestBrokenFiles:
    @pytest.mark.parametrize("name", BROKEN)
    def test_one_sentence_and_little_memory(self, write, name):
        path = write(BROKEN[name])
        tracemalloc.start()
        with pytest.raises(LessonError, match="is not a GGUF file that can be read here") as caught:
            GGUF(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
        assert most < 2_000_000

    def test_every_cut(self, write):
        pairs = [pair("general.name", STRING, text("llama")), pair("k", ARRAY, struct.pack("<IQ2I", UINT32, 2, 1, 2))]
        whole = build(pairs, [info("a", (32, 2), 8, 0)], bytes(68))
        assert GGUF(write(whole)).tensor("a").shape == (2, 32)
        for length in range(len(whole)):
            with pytest.raises(LessonError):
                GGUF(write(whole[:length]))

    def test_random_damage(self, write):
        whole = build([pair("general.name", STRING, text("llama"))], [info("a", (32, 2), 8, 0)], bytes(68))
        draw = np.random.default_rng(0)
        for _ in range(500):
            damaged = bytearray(whole)
            for place in draw.integers(0, len(whole), 3):
                damaged[place] = draw.integers(256)
            path = write(bytes(damaged))
            try:
                file = GGUF(path)
                for name, entry in file.entries.items():
                    assert file.tensor(name).numel() == math.prod(entry.shape) <= len(whole)
            except LessonError as error:
                assert "is not a GGUF file" in str(error)

    def test_a_tensor_that_is_not_there(self, write):
        with pytest.raises(LessonError, match="no tensor b"):
            GGUF(write(build(infos=[info("a", (8,), 0, 0)], data=bytes(32)))).tensor("b")
