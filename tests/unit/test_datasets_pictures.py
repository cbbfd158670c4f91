"""cifar10 and hymenoptera: every layout gives the same pictures, a stranger's pickle runs nothing, damage is one sentence."""

import codecs
import dataclasses
import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import everything_in
from PIL import Image

from utils import catalogue, lesson, paths
from utils.datasets import cifar10, cifar_batches, hymenoptera, mnist, picture_book, picture_files
from utils.datasets.pictures import CIFAR10_CLASSES
from utils.lesson import LessonError

BATCHES = tuple(cifar_batches.BATCHES)


@pytest.fixture
def small_book(monkeypatch):
    """Tests that are not about the sample need not wait for all of it."""
    load = picture_book.load
    monkeypatch.setattr(picture_book, "load", lambda train=20, test=10, size=32, **_: load(20, 10, size))


@pytest.fixture
def batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    """A tiny CIFAR-10: four pictures in each of the six batches."""
    random = np.random.default_rng(0)
    return {
        name: (random.integers(0, 256, (4, 3072), dtype=np.uint8), [(3 * i + k) % 10 for k in range(4)])
        for i, name in enumerate(BATCHES)
    }


def pickled(data: np.ndarray, labels: list[int], protocol: int = 2) -> bytes:
    return pickle.dumps({"data": data, "labels": labels, "batch_label": "batch", "filenames": ["a.png"]}, protocol)


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 wrote it: the bytes of the array are text in it, and the module has its name of then."""
    content = pickle.dumps({"data": 0, "labels": labels}, 0)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I%d\nI%d\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
        b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'%s'\ntb"
    ) % (*data.shape, "".join(f"\\x{byte:02x}" for byte in data.tobytes()).encode())
    assert content.count(b"I0\n") >= 1
    return content.replace(b"I0\n", array, 1)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def put_zip(target: Path, files: dict[str, bytes]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def put_tar(target: Path, files: dict[str, bytes]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:gz" if target.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target


def pickles(batches) -> dict[str, bytes]:
    return {name: pickled(*batch) for name, batch in batches.items()}


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def picture_files_of(batches) -> dict[str, bytes]:
    """The same as class-named pictures: path -> content."""
    files = {}
    for name, (data, labels) in batches.items():
        split = "test" if name == "test_batch" else "train"
        for i, (row, label) in enumerate(zip(data, labels, strict=True)):
            pixels = row.reshape(3, 32, 32).transpose(1, 2, 0)
            files[f"{split}/{CIFAR10_CLASSES[label]}/{name}_{i}.png"] = encoded(pixels)
    return files


def assert_same(data, batches, in_order: bool) -> None:
    for part, names in ((data.train, BATCHES[:5]), (data.test, BATCHES[5:])):
        expected = [(label, row.tobytes()) for name in names for row, label in zip(*batches[name], strict=True)]
        found = [(label.item(), image.numpy().tobytes()) for image, label in zip(part.images, part.labels, strict=True)]
        assert found == expected if in_order else sorted(found) == sorted(expected)
        assert (part.images.dtype, part.images.shape[1:], part.labels.dtype) == (torch.uint8, (3, 32, 32), torch.int64)
    assert data.is_real and data.classes == CIFAR10_CLASSES


class TestSample:
    def test_cifar10s_is_the_picture_book(self, no_network, without_data, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        data = cifar10("sample")
        assert data.source == (
            "sample: picture book, 10 classes of drawn objects on photographs, 32x32 (5,000 + 2,000); not CIFAR-10"
        )
        assert data.train.images.shape == (5000, 3, 32, 32) and len(data.test) == 2000
        assert data.classes == list(picture_book.CLASSES) and not data.is_real
        assert lesson._mentioned["data"] == [data.source]

    def test_hymenopteras_has_its_format(self, no_network, without_data):
        data = hymenoptera("sample", size=40)
        assert data.train.images.shape == (244, 3, 40, 40) and data.test.images.shape == (153, 3, 40, 40)
        assert data.classes == list(picture_book.HARD_PAIR) and not data.is_real
        assert data.source.startswith("sample: picture book") and data.source.endswith("not ants and bees")
        assert "40x40 (244 + 153)" in data.source

    def test_auto_takes_it_without_asking_the_network(self, no_network, without_data, small_book):
        assert not cifar10().is_real

    @pytest.mark.parametrize("load", [cifar10, hymenoptera])
    def test_projects_say_that_they_fall_back(self, without_data, small_book, monkeypatch, capsys, load):
        def fail(_):
            raise LessonError("it could not be downloaded")

        monkeypatch.setattr(catalogue, "fetch", fail)
        assert not load("auto", download=True).is_real
        assert "Going on with the sample: it could not be downloaded" in capsys.readouterr().out
        with pytest.raises(LessonError, match="could not be downloaded"):
            load("real")


class TestCifarLayouts:
    @pytest.mark.parametrize("folder", ["", "cifar10", "CIFAR10", "CIFAR-10"])
    def test_folder_of_pickles(self, without_data, batches, folder):
        put(without_data / folder / "cifar-10-batches-py", {**pickles(batches), "batches.meta": b"?", "readme.html": b""})
        assert_same(cifar10("real"), batches, in_order=True)

    @pytest.mark.parametrize("protocol", [0, 1, 2, 4])
    def test_any_protocol(self, without_data, batches, protocol):
        put(without_data / "cifar-10-batches-py", {name: pickled(*batch, protocol) for name, batch in batches.items()})
        assert_same(cifar10("real"), batches, in_order=True)

    def test_pickles_of_python_2(self, without_data, batches):
        put(without_data / "cifar-10-batches-py", {name: python2_pickle(*batch) for name, batch in batches.items()})
        assert_same(cifar10("real"), batches, in_order=True)

    @pytest.mark.parametrize("place", ["cifar-10-python.tar.gz", "cifar10/cifar-10-python.tar.gz"])
    def test_archive_as_it_is(self, without_data, batches, place):
        put_tar(without_data / place, {f"cifar-10-batches-py/{name}": c for name, c in pickles(batches).items()})
        before = everything_in(without_data)
        assert_same(cifar10("real"), batches, in_order=True)
        assert everything_in(without_data) == before

    @pytest.mark.parametrize("packed", [False, True])
    def test_binary_version(self, without_data, batches, packed):
        files = {
            f"cifar-10-batches-bin/{name}.bin": b"".join(
                bytes([label]) + row.tobytes() for row, label in zip(data, labels, strict=True)
            )
            for name, (data, labels) in batches.items()
        }
        put_tar(without_data / "cifar-10-binary.tar.gz", files) if packed else put(without_data / "cifar10", files)
        data = cifar10("real")
        assert_same(data, batches, in_order=True)
        assert "own copy" in data.source

    def test_folders_of_pictures(self, without_data, batches):
        put(without_data / "cifar10", picture_files_of(batches))
        assert_same(cifar10("real"), batches, in_order=False)

    def test_one_zip_for_each_split(self, without_data, batches):
        files = picture_files_of(batches)
        for split in ("train", "test"):
            put_zip(without_data / "cifar10" / f"{split}.zip", {n: c for n, c in files.items() if n.startswith(split)})
        assert_same(cifar10("real"), batches, in_order=False)

    def test_one_zip_for_each_split_that_does_not_say_so_inside(self, without_data, batches):
        files = picture_files_of(batches)
        for split in ("train", "test"):
            inside = {n.removeprefix(f"{split}/"): c for n, c in files.items() if n.startswith(split)}
            put_zip(without_data / "cifar10" / f"{split}.zip", inside)
        assert_same(cifar10("real"), batches, in_order=False)

    @pytest.mark.parametrize("name", ["cifar10.zip", "CIFAR-10-images.zip", "cifar10.tar", "CIFAR10.tar.gz"])
    def test_one_archive_with_both(self, without_data, batches, name):
        files = {f"CIFAR-10-images/{name}": content for name, content in picture_files_of(batches).items()}
        (put_zip if name.endswith("zip") else put_tar)(without_data / name, {**files, "CIFAR-10-images/README.md": b"hi"})
        assert_same(cifar10("real"), batches, in_order=False)

    def test_only_exact_files_are_called_official(self, without_data, batches, monkeypatch):
        files = pickles(batches)
        put(without_data / "cifar-10-batches-py", files)
        assert cifar10("real").source == (
            "CIFAR-10, own copy (not the official checksums) (20 + 4), datasets/cifar-10-batches-py"
        )
        for name, content in files.items():
            monkeypatch.setitem(cifar_batches.BATCHES, name, hashlib.md5(content).hexdigest())
        assert cifar10("real").source == "CIFAR-10, official files (20 + 4), datasets/cifar-10-batches-py"

    def test_jpeg_is_not_the_original(self, without_data, batches):
        files = picture_files_of(batches)
        put(without_data / "cifar10", files)
        assert cifar10("real").source == "CIFAR-10, own copy (20 + 4 pictures), datasets/cifar10/train"
        name = next(name for name in files if name.startswith("train"))
        (without_data / "cifar10" / name).unlink()
        pixels = np.asarray(Image.open(io.BytesIO(files[name])))
        put(without_data / "cifar10", {name.replace(".png", ".JPG"): encoded(pixels, "JPEG")})
        assert "(20 + 4 pictures; JPEG, not the original pixels)" in cifar10("real").source

    @pytest.mark.real_data("cifar10")
    @pytest.mark.slow  # 60,000 small files are decoded, once
    def test_real(self):
        data = cifar10("real")
        assert data.train.images.shape == (50_000, 3, 32, 32) and data.test.images.shape == (10_000, 3, 32, 32)
        assert data.train.labels.bincount().tolist() == [5000] * 10 and data.test.labels.bincount().tolist() == [1000] * 10
        assert data.is_real and data.source.startswith("CIFAR-10, ")
        # The means of the channels that every recipe on the web divides by; the JPEG copy has them too.
        means = data.train.images.float().mean(dim=(0, 2, 3)) / 255
        assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=2e-3)


class Trap:
    """Unpickling this runs a command."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


class TestPickleIsSafe:
    def refuse(self, without_data, batches, content, *told):
        put(without_data / "cifar-10-batches-py", {**pickles(batches), "data_batch_3": content})
        with pytest.raises(LessonError) as error:
            cifar10("real")
        for words in ("data_batch_3", *told):
            assert words in str(error.value)
        assert "\n" not in str(error.value)

    def test_no_command_is_run(self, without_data, batches, tmp_path):
        victim = tmp_path / "victim"
        content = pickle.dumps({"data": Trap(victim), "labels": []})
        self.refuse(without_data, batches, content, "mkdir", "which no batch of pictures needs", "left as it is")
        assert not victim.exists()
        pickle.loads(content)  # the trap works
        assert victim.exists()

    @pytest.mark.parametrize(
        "module, name",
        [
            ("builtins", "eval"),
            ("__builtin__", "eval"),
            ("os", "system"),
            ("numpy", "load"),
            ("os", "ndarray"),
            ("numpy.core.multiarray", "fromfile"),
            ("_codecs", "lookup"),
            ("numpy", "core.multiarray._reconstruct"),
        ],
    )
    def test_nothing_else_is_let_in(self, without_data, batches, module, name):
        self.refuse(without_data, batches, f"c{module}\n{name}\n.".encode(), name)

    def test_dotted_names_lead_nowhere(self, without_data, batches):
        """Protocol 4 looks up "a.b" attribute by attribute."""
        content = b"\x80\x04\x8c\x05numpy\x8c\x15ndarray.__class__.mro\x93."
        self.refuse(without_data, batches, content, "ndarray.__class__.mro")

    def test_encode_is_harmless(self):
        content = pickle.dumps(b"\xff\x00", 2)
        assert b"_codecs" in content
        assert cifar_batches._OnlyArrays(io.BytesIO(content), encoding="latin1").load() == codecs.encode("\xff\x00", "latin1")

    def test_damaged_anywhere(self, tmp_path):
        """Whatever happens to a pickle: pictures of the right shape, or a LessonError."""
        whole = pickled(np.zeros((2, 3072), np.uint8), [1, 2])
        random = np.random.default_rng(0)
        refused = 0
        for _ in range(400):
            content = bytearray(whole)
            for place in random.choice([*range(200), *range(len(whole) - 120, len(whole))], size=random.integers(1, 5)):
                content[place] = random.integers(256)  # in the program, not among the zeros in its middle
            if random.random() < 0.3:
                del content[random.integers(len(content)) :]
            try:
                images = cifar_batches._unpickled(bytes(content), tmp_path, "data_batch_1")
            except LessonError as error:
                assert "\n" not in str(error)
                refused += 1
            else:
                assert images.images.shape[1:] == (3, 32, 32) and len(images.images) == len(images.labels)
        assert refused > 200


class TestCifarDamage:
    @pytest.mark.parametrize("name", BATCHES)
    def test_batch_is_missing(self, without_data, batches, fails, name):
        (put(without_data / "cifar-10-batches-py", pickles(batches)) / name).unlink()
        fails(cifar10, f"lacks {name}", "study data cifar10", "--source sample")

    def test_batch_is_cut_off(self, without_data, batches, fails):
        folder = put(without_data / "cifar-10-batches-py", pickles(batches))
        whole = (folder / "data_batch_2").read_bytes()
        for length in (0, 1, 20, len(whole) // 2, len(whole) - 1):
            (folder / "data_batch_2").write_bytes(whole[:length])
            fails(cifar10, "data_batch_2", "is damaged", "left as it is")

    @pytest.mark.parametrize(
        "content, told",
        [
            ([1, 2, 3], "no pictures of 32x32"),
            ({"data": [[0] * 3072]}, "no pictures of 32x32"),
            ({"data": np.zeros((4, 3072), np.float32), "labels": [0] * 4}, "no pictures of 32x32"),
            ({"data": np.zeros((4, 784), np.uint8), "labels": [0] * 4}, "no pictures of 32x32"),
            ({"data": np.zeros((4, 3072), np.uint8)}, "one label from 0 to 9"),
            ({"data": np.zeros((4, 3072), np.uint8), "labels": [0] * 3}, "one label from 0 to 9"),
            ({"data": np.zeros((4, 3072), np.uint8), "labels": [0, 1, 2, 10]}, "one label from 0 to 9"),
            ({"data": np.zeros((4, 3072), np.uint8), "labels": [0, 1, 2, "3"]}, "one label from 0 to 9"),
            ({"data": np.zeros((4, 3072), np.uint8), "fine_labels": [0] * 4}, "one label from 0 to 9"),  # CIFAR-100
        ],
    )
    def test_pickle_of_something_else(self, without_data, batches, fails, content, told):
        put(without_data / "cifar-10-batches-py", {**pickles(batches), "test_batch": pickle.dumps(content, 2)})
        fails(cifar10, "test_batch", told)

    def test_binary_of_another_length(self, without_data, batches, fails):
        put(without_data / "cifar-10-batches-bin", {f"{name}.bin": bytes(3073) for name in BATCHES[1:]})
        put(without_data / "cifar-10-batches-bin", {"data_batch_1.bin": bytes(3072)})
        fails(cifar10, "data_batch_1.bin has 3,072 bytes, expected a multiple of 3,073")

    def test_binary_with_another_label(self, without_data, fails):
        put(without_data / "cifar-10-batches-bin", {f"{name}.bin": bytes([10]) + bytes(3072) for name in BATCHES})
        fails(cifar10, "one label from 0 to 9")

    def test_archive_is_cut_off(self, without_data, batches, fails):
        archive = put_tar(without_data / "cifar-10-python.tar.gz", pickles(batches))
        whole = archive.read_bytes()
        for content in (b"", b"<html></html>", whole[:100], whole[: len(whole) // 2], whole[:-500]):
            archive.write_bytes(content)
            fails(cifar10, "cifar-10-python.tar.gz")

    def test_a_class_that_is_none(self, without_data, batches, fails):
        put(without_data / "cifar10", {n.replace("/cat/", "/Katze/"): c for n, c in picture_files_of(batches).items()})
        fails(cifar10, "Katze", "none of the classes airplane, automobile")

    def test_mixed_sizes(self, without_data, batches, fails):
        put(without_data / "cifar10", {**picture_files_of(batches), "train/cat/x.png": encoded(np.zeros((32, 31, 3), np.uint8))})
        fails(cifar10, "train/cat/x.png is 31x32 pixels, expected 32x32")

    def test_test_zip_is_missing(self, without_data, batches, fails):
        put_zip(without_data / "cifar10" / "train.zip", picture_files_of({"data_batch_1": batches["data_batch_1"]}))
        fails(cifar10, "expected pictures named train/<class>/<file> and test/<class>/<file>")

    def test_second_zip_is_damaged(self, without_data, batches, fails):
        files = picture_files_of(batches)
        for split in ("train", "test"):
            put_zip(without_data / "cifar10" / f"{split}.zip", {n: c for n, c in files.items() if n.startswith(split)})
        (without_data / "cifar10" / "test.zip").write_bytes(b"PK")
        fails(cifar10, "cifar10/test.zip is damaged", "study data cifar10")


class TestCache:
    """Decoded pixels are kept in outputs/cache, and never used for anything else than what they were decoded from."""

    @pytest.fixture(autouse=True)
    def shared_cache(self):
        """Not shared here."""

    @pytest.fixture
    def zipped(self, without_data, batches):
        return put_zip(without_data / "cifar10.zip", picture_files_of(batches))

    @pytest.fixture
    def decoded(self, monkeypatch):
        """Counts the pictures that are decoded."""
        count = []
        decode = picture_files._decode
        monkeypatch.setattr(picture_files, "_decode", lambda *arguments: count.append(1) or decode(*arguments))
        return count

    @property
    def file(self) -> Path:
        return paths.work_folder() / "outputs" / "cache" / "cifar10-32.npz"

    def test_second_time_decodes_nothing(self, zipped, decoded, batches):
        first = cifar10("real")
        assert len(decoded) == 24
        second = cifar10("real")
        assert len(decoded) == 24
        assert_same(second, batches, in_order=False)
        assert second.source == first.source
        assert [path.name for path in self.file.parent.iterdir()] == [self.file.name]

    def test_another_file_is_decoded(self, zipped, decoded):
        cifar10("real")
        files = {f"train/{name}/a.png": encoded(np.full((32, 32, 3), 7, np.uint8)) for name in CIFAR10_CLASSES}
        put_zip(zipped, {**files, "test/cat/a.png": encoded(np.full((32, 32, 3), 7, np.uint8))})
        assert (cifar10("real").train.images == 7).all()

    def test_same_file_at_another_time_is_decoded(self, zipped, decoded):
        cifar10("real")
        os.utime(zipped, ns=(1, 1))
        cifar10("real")
        assert len(decoded) == 48

    def test_a_picture_more_in_a_folder_is_noticed(self, without_data, batches):
        put(without_data / "cifar10", picture_files_of(batches))
        assert len(cifar10("real").train) == 20
        put(without_data / "cifar10", {"train/cat/new.png": encoded(np.zeros((32, 32, 3), np.uint8))})
        assert len(cifar10("real").train) == 21

    def test_damaged_cache_is_decoded_again(self, zipped, decoded, batches):
        cifar10("real")
        whole = self.file.read_bytes()
        scrambled = whole[:2000] + bytes(255 - byte for byte in whole[2000:3000]) + whole[3000:]
        for content in (b"", b"PK", whole[:1000], whole[:-100], scrambled, pickle.dumps({"key": 1})):
            self.file.write_bytes(content)
            assert_same(cifar10("real"), batches, in_order=False)
        assert len(decoded) == 24 * 7

    def test_full_disk(self, zipped, monkeypatch, batches):
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(picture_files.np, "savez", full)
        assert_same(cifar10("real"), batches, in_order=False)
        assert everything_in(self.file.parent) == {}

    def test_folder_that_cannot_be_made(self, zipped, monkeypatch, batches, tmp_path):
        (tmp_path / "a file").write_bytes(b"")
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path / "a file"))
        assert_same(cifar10("real"), batches, in_order=False)

    def test_jpeg_is_not_forgotten(self, without_data, decoded):
        grey = encoded(np.zeros((28, 28), np.uint8), "JPEG")
        put_zip(without_data / "mnist.zip", {"train/7/a.jpg": grey, "test/7/a.jpg": grey})
        assert mnist("real").source == mnist("real").source
        assert len(decoded) == 2 and "JPEG, not the original pixels" in mnist("real").source


class TestHymenoptera:
    @staticmethod
    def files(picture: bytes | None = None) -> dict[str, bytes]:
        random = np.random.default_rng(0)
        return {
            f"hymenoptera_data/{split}/{name}/{i}.jpg": picture
            or encoded(random.integers(0, 256, (60 + 3 * i, 80, 3), dtype=np.uint8), "JPEG")
            for split, count in (("train", 3), ("val", 2))
            for name in ("ants", "bees")
            for i in range(count)
        }

    @pytest.mark.parametrize("layout", ["hymenoptera_data", "hymenoptera/hymenoptera_data", "zip", "hymenoptera/zip", "tar.gz"])
    def test_layouts(self, without_data, layout):
        files = self.files()
        if layout.endswith("zip"):
            put_zip(without_data / layout.replace("zip", "hymenoptera_data.zip"), files)
        elif layout == "tar.gz":
            put_tar(without_data / "hymenoptera.tar.gz", files)
        else:
            put((without_data / layout).parent, files)
        data = hymenoptera("real", size=28)
        assert data.train.images.shape == (6, 3, 28, 28) and data.test.images.shape == (4, 3, 28, 28)
        assert data.train.labels.bincount().tolist() == [3, 3] and data.test.labels.bincount().tolist() == [2, 2]
        assert data.classes == ["ants", "bees"] and data.is_real and data.source.startswith("Hymenoptera (6 + 4 photographs")

    def test_missing_picture_of_the_official_zip_is_no_ant(self, without_data):
        gif = encoded(np.zeros((30, 30), np.uint8), "GIF")
        put_zip(without_data / "hymenoptera_data.zip", {**self.files(), "hymenoptera_data/train/ants/imageNotFound.gif": gif})
        assert len(hymenoptera("real", size=28).train) == 6

    def one(self, without_data, content: bytes, size: int = 64) -> np.ndarray:
        """A picture as it comes out: (size, size, 3) integers."""
        put(without_data, self.files(content))
        return hymenoptera("real", size=size).train.images[0].permute(1, 2, 0).numpy().astype(int)

    def test_middle_of_a_picture(self, without_data):
        """Red square in the middle, 7/8 of the height; blue around it."""
        pixels = np.zeros((160, 400, 3), np.uint8)
        pixels[..., 2] = 255
        pixels[10:150, 130:270] = (255, 0, 0)
        found = self.one(without_data, encoded(pixels))
        assert (found[1:-1, 1:-1] == (255, 0, 0)).all()

    def test_same_as_the_usual_two_steps(self, without_data):
        """Scale to 8/7, then cut the middle out."""
        y, x = np.mgrid[0:300, 0:300]
        waves = np.sin(x / 15) * np.cos(y / 11) * 127 + 128
        pixels = np.stack([x * 255 / 300, y * 255 / 300, waves], axis=2).astype(np.uint8)
        found = self.one(without_data, encoded(pixels), size=112)
        scaled = Image.fromarray(pixels).resize((128, 128), Image.Resampling.BILINEAR)
        assert np.abs(found - np.asarray(scaled)[8:120, 8:120].astype(int)).max() <= 2

    def test_fine_patterns_become_grey(self, without_data):
        """Without antialiasing a chessboard of single pixels would come out as some other pattern."""
        board = (np.indices((448, 448)).sum(axis=0) % 2 * 255).astype(np.uint8)
        found = self.one(without_data, encoded(np.stack([board] * 3, axis=2)))
        assert found.min() > 110 and found.max() < 145

    @pytest.mark.parametrize("kind", ["grey", "grey 16 bit", "alpha", "palette", "CMYK", "smaller"])
    def test_kinds_of_pictures(self, without_data, kind):
        picture = {
            "grey": Image.new("L", (90, 70), 128),
            "grey 16 bit": Image.fromarray(np.full((70, 90), 128 * 257, np.uint16)),
            "alpha": Image.new("RGBA", (90, 70), (0, 0, 0, 127)),  # half black on white
            "palette": Image.new("RGB", (90, 70), (128, 128, 128)).convert("P", palette=Image.Palette.ADAPTIVE),
            "CMYK": Image.new("CMYK", (90, 70), (127, 127, 127, 0)),
            "smaller": Image.new("RGB", (9, 7), (128, 128, 128)),
        }[kind]
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG" if kind == "CMYK" else "PNG")
        assert np.abs(self.one(without_data, buffer.getvalue()) - 128).max() <= 3

    def test_turned_as_the_camera_was_held(self, without_data):
        pixels = np.zeros((80, 80, 3), np.uint8)
        pixels[:40] = 255  # bright above
        exif = Image.Exif()
        exif[0x0112] = 3  # the camera stood on its head
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
        found = self.one(without_data, buffer.getvalue())
        assert found[:20].mean() < 20 and found[-20:].mean() > 235

    def test_panorama_does_not_fill_the_memory(self, without_data):
        assert self.one(without_data, encoded(np.full((1, 5000, 3), 50, np.uint8))).mean() == 50

    def test_sizes_do_not_share_a_cache(self, without_data):
        put(without_data, self.files())
        for size in (28, 40, 28):
            assert hymenoptera("real", size=size).train.images.shape[-1] == size

    def test_damage(self, without_data, fails):
        put(without_data, self.files())
        place = without_data / "hymenoptera_data/val/bees/1.jpg"
        whole = place.read_bytes()
        for content in (b"", b"hello", whole[:50], whole[: len(whole) // 2]):
            place.write_bytes(content)
            fails(hymenoptera, "val/bees/1.jpg is not a readable picture")

    def test_no_val(self, without_data, fails):
        put(without_data, {name: content for name, content in self.files().items() if "/train/" in name})
        fails(hymenoptera, "expected pictures named train/<class>/<file> and val/<class>/<file>")

    def test_wasps(self, without_data, fails):
        put(without_data, {name.replace("bees", "wasps"): content for name, content in self.files().items()})
        fails(hymenoptera, "wasps", "none of the classes ants, bees")

    @pytest.mark.real_data("hymenoptera")
    def test_real(self):
        data = hymenoptera("real", size=64)
        assert data.train.labels.bincount().tolist() == [123, 121] and data.test.labels.bincount().tolist() == [70, 83]
        assert data.train.images.shape == (244, 3, 64, 64)
        assert 90 < data.train.images.float().mean() < 150


def test_catalogue_knows_what_torchvision_knows():
    from torchvision.datasets import CIFAR10

    (archive,) = catalogue.CATALOGUE["cifar10"].files
    assert (archive.name, archive.md5) == (CIFAR10.filename, CIFAR10.tgz_md5)
    assert catalogue.CATALOGUE["cifar10"].mirrors[0] + archive.name == CIFAR10.url
    assert cifar_batches.BATCHES == {name: md5 for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list]}
    assert dataclasses.replace(archive, md5=None).download_bytes == 170_498_071
