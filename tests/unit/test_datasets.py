"""utils.datasets: what is loaded is what was asked for, and says so; a damaged file is one sentence and stays as it is."""

import dataclasses
import functools
import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utils import catalogue, lesson
from utils.datasets import Images, hold_out, mnist
from utils.lesson import LessonError

NAMES = [file.name for file in catalogue.CATALOGUE["mnist"].files]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES


@pytest.fixture
def digits() -> dict[str, np.ndarray]:
    """A tiny MNIST: twenty training images (two of each digit), ten test images; all different."""
    random = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: random.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        TRAIN_LABELS: np.repeat(np.arange(10, dtype=np.uint8), 2),
        TEST_IMAGES: random.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        TEST_LABELS: np.arange(10, dtype=np.uint8)[::-1].copy(),
    }


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def put_idx(folder: Path, digits: dict[str, np.ndarray], packed: bool = False) -> Path:
    folder.mkdir(parents=True)
    for name, array in digits.items():
        content = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def pictures(digits: dict[str, np.ndarray], train: str = "train", test: str = "test") -> dict[str, bytes]:
    """The same as picture files: path -> content."""
    files = {}
    for split, images, labels in ((train, TRAIN_IMAGES, TRAIN_LABELS), (test, TEST_IMAGES, TEST_LABELS)):
        for i, (picture, label) in enumerate(zip(digits[images], digits[labels], strict=True)):
            files[f"{split}/{label}/{i:05}.png"] = png(picture)
    return files


def put_pictures(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def put_zip(target: Path, files: dict[str, bytes]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def put_tar(target: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(target, "w:gz" if target.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target


def assert_same_digits(data, digits):
    for images, labels, part in ((TRAIN_IMAGES, TRAIN_LABELS, data.train), (TEST_IMAGES, TEST_LABELS, data.test)):
        found = sorted((label.item(), image.numpy().tobytes()) for image, label in zip(part.images, part.labels, strict=True))
        expected = sorted((int(label), image.tobytes()) for image, label in zip(digits[images], digits[labels], strict=True))
        assert found == expected
        assert (part.images.dtype, part.images.shape[1:], part.labels.dtype) == (torch.uint8, (1, 28, 28), torch.int64)


class TestSample:
    def test_needs_neither_network_nor_data(self, no_network, without_data):
        data = mnist("sample")
        assert data.train.images.shape == (1437, 1, 28, 28) and data.test.images.shape == (360, 1, 28, 28)
        for part in (data.train, data.test):
            assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
            assert len(part) == len(part.images) == len(part.labels)
            assert part.labels.unique().tolist() == list(range(10))
        assert data.classes == list("0123456789")
        assert not data.is_real

    def test_is_never_called_mnist(self, without_data):
        assert mnist("sample").source.startswith("sample: ") and "not MNIST" in mnist("sample").source

    def test_is_used_although_real_data_is_there(self, without_data, digits):
        put_idx(without_data / "MNIST" / "raw", digits)
        assert not mnist("sample").is_real

    def test_no_image_is_in_both_train_and_test(self):
        data = mnist("sample")
        train = {image.numpy().tobytes() for image in data.train.images}
        assert not train & {image.numpy().tobytes() for image in data.test.images}

    def test_looks_like_mnist(self):
        images = mnist("sample").train.images
        assert images.max() > 230 and images.float().median() == 0  # white on black
        border = torch.ones(28, 28, dtype=torch.bool)
        border[4:24, 4:24] = False
        assert images[:, 0, border].max() == 0  # a digit fills the inner 20x20

    def test_enters_the_report(self, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        data = mnist("sample")
        assert lesson._mentioned["data"] == [data.source]


class TestSource:
    def test_auto_takes_the_sample_without_asking_the_network(self, no_network, without_data):
        assert not mnist("auto").is_real

    def test_auto_takes_what_is_there(self, no_network, without_data, digits):
        put_idx(without_data / "MNIST" / "raw", digits)
        assert mnist("auto", download=True).is_real

    @pytest.mark.parametrize(
        "error, told", [(LessonError("mnist could not be downloaded"), "downloaded"), (OSError(28, "No space"), "disk is full")]
    )
    def test_projects_say_that_they_fall_back(self, without_data, monkeypatch, capsys, error, told):
        def fail(_):
            raise error

        monkeypatch.setattr(catalogue, "fetch", fail)
        assert not mnist("auto", download=True).is_real
        out = capsys.readouterr().out
        assert "Going on with the sample" in out and told in out

    def test_real_never_falls_back(self, without_data, monkeypatch):
        def fail(_):
            raise LessonError("nobody answered")

        monkeypatch.setattr(catalogue, "fetch", fail)
        with pytest.raises(LessonError, match="nobody answered"):
            mnist("real")

    def test_real_downloads(self, without_data, monkeypatch, digits):
        monkeypatch.setattr(catalogue, "fetch", lambda _: put_idx(without_data / "MNIST" / "raw", digits))
        assert_same_digits(mnist("real"), digits)


class TestLayouts:
    @pytest.mark.parametrize("folder", ["MNIST/raw", "mnist/raw", "MNIST", "mnist"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_idx_files(self, without_data, digits, folder, packed):
        put_idx(without_data / folder, digits, packed)
        assert_same_digits(mnist("real"), digits)

    @pytest.mark.parametrize("train, test", [("train", "test"), ("training", "testing")])
    def test_folders_of_pictures(self, without_data, digits, train, test):
        put_pictures(without_data / "mnist_png", pictures(digits, train, test))
        assert_same_digits(mnist("real"), digits)

    def test_zip(self, without_data, digits):
        files = {f"mnist_png/{name}": content for name, content in pictures(digits).items()}
        junk = {
            "__MACOSX/mnist_png/train/7/._00014.png": b"Mac OS X",
            "mnist_png/train/7/.DS_Store": b"",
            "mnist_png/README": b"hi",
        }
        put_zip(without_data / "mnist.zip", {**files, **junk})
        assert_same_digits(mnist("real"), digits)

    @pytest.mark.parametrize("name", ["mnist.tar", "mnist.tar.gz", "MNIST.tgz"])
    def test_tar(self, without_data, digits, name):
        put_tar(without_data / name, {f"./mnist/{name}": content for name, content in pictures(digits).items()})
        assert_same_digits(mnist("real"), digits)

    def test_colour_pictures_become_grey(self, without_data, digits):
        files = {
            name: png(np.repeat(np.asarray(Image.open(io.BytesIO(content)))[..., None], 3, axis=2))
            for name, content in pictures(digits).items()
        }
        put_pictures(without_data / "mnist", files)
        assert_same_digits(mnist("real"), digits)

    def test_shared_folder(self, without_data, digits, tmp_path, monkeypatch):
        monkeypatch.setenv("STUDY_DATA_DIR", str(tmp_path / "공유 data"))
        put_idx(tmp_path / "공유 data" / "MNIST" / "raw", digits)
        assert_same_digits(mnist("real"), digits)

    def test_other_checksums_are_called_an_own_copy(self, without_data, digits):
        put_idx(without_data / "MNIST" / "raw", digits)
        assert "own copy (not the official checksums) (20 + 10)" in mnist("real").source
        assert mnist("real").source.endswith("datasets/MNIST/raw")

    def test_official_checksums_are_called_official(self, without_data, digits, monkeypatch):

        put_idx(without_data / "MNIST" / "raw", digits)
        entry = catalogue.CATALOGUE["mnist"]
        files = tuple(
            dataclasses.replace(file, md5=hashlib.md5(idx(digits[file.name])).hexdigest(), bytes=1) for file in entry.files
        )
        monkeypatch.setitem(catalogue.CATALOGUE, "mnist", dataclasses.replace(entry, files=files))
        assert "official files" in mnist("real").source

    @pytest.mark.real_data("mnist")
    def test_real_mnist(self):
        data = mnist("real")
        assert data.train.images.shape == (60000, 1, 28, 28) and data.test.images.shape == (10000, 1, 28, 28)
        assert data.is_real and data.source.startswith("MNIST, ")
        if "official" in data.source:
            assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
            assert data.train.images.float().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)


class TestDamage:
    """One sentence that names the file, and the file is left as it was."""

    @pytest.fixture
    def fails(self, fails):
        return functools.partial(fails, mnist)

    def test_idx_truncated_anywhere(self, without_data, digits, fails):
        folder = put_idx(without_data / "MNIST" / "raw", digits)
        whole = (folder / TRAIN_IMAGES).read_bytes()
        for length in (0, 1, 3, 4, 10, 16, len(whole) // 2, len(whole) - 1):
            (folder / TRAIN_IMAGES).write_bytes(whole[:length])
            fails(TRAIN_IMAGES, "damaged", "left as it is", "expected")

    def test_idx_with_more_than_it_announces(self, without_data, digits, fails):
        folder = put_idx(without_data / "MNIST" / "raw", digits)
        (folder / TEST_LABELS).write_bytes(idx(digits[TEST_LABELS]) + b"\0")
        fails(TEST_LABELS, "expected 18 bytes, found 19")

    def test_web_page_in_place_of_idx(self, without_data, digits, fails):
        folder = put_idx(without_data / "MNIST" / "raw", digits)
        (folder / TEST_IMAGES).write_bytes(b"<!DOCTYPE html><html></html>")
        fails(TEST_IMAGES, "expected an IDX file of 7,840,016 bytes")

    def test_gz_damaged_anywhere(self, without_data, digits, fails):
        folder = put_idx(without_data / "MNIST" / "raw", digits, packed=True)
        whole = (folder / f"{TRAIN_IMAGES}.gz").read_bytes()
        scrambled = whole[:40] + bytes(255 - byte for byte in whole[40:])
        for content in (b"", whole[:5], whole[:40], whole[: len(whole) // 2], whole[:-1], scrambled, b"<html></html>"):
            (folder / f"{TRAIN_IMAGES}.gz").write_bytes(content)
            fails(f"{TRAIN_IMAGES}.gz", "damaged")

    @pytest.mark.parametrize("name", NAMES[1:])
    def test_file_is_missing(self, without_data, digits, fails, name):
        (put_idx(without_data / "MNIST" / "raw", digits) / name).unlink()
        fails(name, "study data mnist")

    def test_images_and_labels_do_not_match(self, without_data, digits, fails):
        put_idx(without_data / "MNIST" / "raw", {**digits, TEST_LABELS: digits[TEST_LABELS][:9]})
        fails("10 t10k images but 9 labels")

    @pytest.mark.parametrize(
        "name, array",
        [
            (TRAIN_IMAGES, np.zeros((20, 32, 32), np.uint8)),
            (TRAIN_IMAGES, np.zeros(20, np.uint8)),
            (TEST_IMAGES, np.zeros((0, 28, 28), np.uint8)),
            (TEST_LABELS, np.full(10, 10, np.uint8)),
            (TEST_LABELS, np.zeros((10, 28, 28), np.uint8)),
        ],
    )
    def test_idx_file_of_something_else(self, without_data, digits, fails, name, array):
        put_idx(without_data / "MNIST" / "raw", {**digits, name: array})
        fails(name, "expected", "shape")

    def test_broken_zip(self, without_data, digits, fails):
        target = put_zip(without_data / "mnist.zip", pictures(digits))
        whole = target.read_bytes()
        middle = len(whole) // 3
        scrambled = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 500]) + whole[middle + 500 :]
        for content in (b"", b"<html></html>", whole[:100], whole[:-30], scrambled):
            target.write_bytes(content)
            fails("mnist.zip")

    def test_zip_with_a_password(self, without_data, digits, fails):
        target = put_zip(without_data / "mnist.zip", pictures(digits))
        content = bytearray(target.read_bytes())
        for start, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of the flags: encrypted
            place = content.find(start)
            while place >= 0:
                content[place + flag] |= 1
                place = content.find(start, place + 4)
        target.write_bytes(content)
        fails("mnist.zip", "password")

    @pytest.mark.parametrize("name", ["mnist.tar", "mnist.tar.gz"])
    def test_broken_tar(self, without_data, digits, fails, name):
        target = put_tar(without_data / name, pictures(digits))
        whole = target.read_bytes()
        scrambled = whole[:200] + bytes(255 - byte for byte in whole[200:])
        for content in (b"", b"<html></html>", whole[:100], whole[: len(whole) // 2], scrambled):
            target.write_bytes(content)
            fails(name)

    def test_picture_of_another_size(self, without_data, digits, fails):
        files = pictures(digits)
        files["train/7/00014.png"] = png(np.zeros((30, 20), np.uint8))
        put_pictures(without_data / "mnist", files)
        fails("train/7/00014.png", "20x30 pixels, expected 28x28")

    def test_unreadable_picture(self, without_data, digits, fails):
        files = pictures(digits)
        put_pictures(without_data / "mnist", files)
        name = "test/3/00006.png"
        whole = files[name]
        for content in (b"", b"hello", whole[:20], whole[:60], whole[: len(whole) // 2], whole[:60] + b"\xff" * 300):
            (without_data / "mnist" / name).write_bytes(content)
            fails(name, "not a readable picture")

    def test_classes_with_other_names(self, without_data, digits, fails):
        files = {name.replace("/3/", "/three/"): content for name, content in pictures(digits).items()}
        put_pictures(without_data / "mnist", files)
        fails("three", "none of the classes 0, 1, 2")

    def test_missing_digit_does_not_shift_the_labels(self, without_data, digits):
        put_pictures(without_data / "mnist", {name: c for name, c in pictures(digits).items() if "/3/" not in name})
        assert 3 not in mnist("real").train.labels and 9 in mnist("real").train.labels

    def test_no_test_pictures(self, without_data, digits, fails):
        put_pictures(without_data / "mnist", {name: c for name, c in pictures(digits).items() if name.startswith("train")})
        fails("expected pictures named train/<class>/<file> and test/<class>/<file>")


class TestHoldOut:
    def numbered(self, count):
        return Images(torch.arange(count).view(count, 1, 1, 1), torch.arange(count))

    def test_every_example_is_in_one_part(self):
        rest, held_out = hold_out(self.numbered(100), count=30, seed=0)
        assert (len(rest), len(held_out)) == (70, 30)
        assert sorted(rest.labels.tolist() + held_out.labels.tolist()) == list(range(100))
        assert torch.equal(rest.images.flatten(), rest.labels)

    def test_seed_decides_and_nothing_else(self):
        torch.manual_seed(1)
        first = hold_out(self.numbered(100), 30, seed=0)[1].labels
        torch.manual_seed(2)
        assert torch.equal(hold_out(self.numbered(100), 30, seed=0)[1].labels, first)
        assert not torch.equal(hold_out(self.numbered(100), 30, seed=1)[1].labels, first)
        assert first.tolist() != list(range(30))
