"""camvid: every picture meets its mask, void counts nowhere, no class is mixed from two, damage is one sentence."""

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from utils import catalogue, lesson
from utils.datasets import segmentation
from utils.datasets.boxes import IGNORED
from utils.datasets.segmentation import CAMVID_CLASSES, SPLITS, camvid
from utils.lesson import LessonError

COUNTS = {"train": 3, "val": 1, "test": 2}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever asks the network fails the test."""

    def refuse(name):
        raise LessonError(f"{name}: the network was asked")

    monkeypatch.setattr(catalogue, "fetch", refuse)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def frames(height: int = 12, width: int = 16) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A tiny CamVid: split and name -> picture and mask, at random."""
    random = np.random.default_rng(0)
    return {
        f"{split}/{split[0]}_{i}": (
            random.integers(0, 256, (height, width, 3), dtype=np.uint8),
            random.integers(0, 12, (height, width), dtype=np.uint8),
        )
        for split in SPLITS
        for i in range(COUNTS[split])
    }


@pytest.fixture
def place(without_data):
    """The tiny CamVid on disk."""
    for split in SPLITS:
        for folder in (split, f"{split}annot"):
            (without_data / "CamVid" / folder).mkdir(parents=True)
    for name, (picture, mask) in frames().items():
        split, frame = name.split("/")
        (without_data / "CamVid" / split / f"{frame}.png").write_bytes(encoded(picture))
        (without_data / "CamVid" / f"{split}annot" / f"{frame}.png").write_bytes(encoded(mask))
    return without_data / "CamVid"


class TestReading:
    def test_every_picture_with_its_mask(self, place):
        data = camvid("real", size=(12, 16))
        parts = {"train": data.train, "val": data.validation, "test": data.test}
        for split, part in parts.items():
            assert (part.images.dtype, part.masks.dtype) == (torch.uint8, torch.uint8)
            assert part.images.shape == (COUNTS[split], 3, 12, 16) and part.masks.shape == (COUNTS[split], 12, 16)
        for name, (picture, mask) in frames().items():
            split, i = name.split("/")[0], int(name[-1])
            assert (parts[split].images[i].permute(1, 2, 0).numpy() == picture).all()
            assert (parts[split].masks[i].numpy() == np.where(mask == 11, IGNORED, mask)).all()
        assert data.classes == CAMVID_CLASSES and len(data.classes) == 11 and data.is_real

    def test_source_says_that_it_is_a_part(self, place, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        data = camvid(size=(12, 16))
        assert data.source == "a part of CamVid, SegNet's version (3 + 1 + 2 frames, at 16x12), datasets/CamVid"
        assert lesson._mentioned["data"] == [data.source]

    def test_the_whole_set_is_told_from_a_part(self, place, monkeypatch):
        monkeypatch.setattr(segmentation, "WHOLE", COUNTS)
        assert camvid(size=(12, 16)).source.startswith("CamVid, ")

    @pytest.mark.parametrize("ending", [".jpg", ".JPEG"])
    def test_jpeg_is_not_the_original(self, place, ending):
        picture = place / "train" / "t_0.png"
        picture.with_suffix(ending).write_bytes(encoded(frames()["train/t_0"][0], "JPEG"))
        picture.unlink()
        data = camvid("real", size=(12, 16))
        assert len(data.train.images) == 3 and "JPEG, not the original pixels" in data.source

    def test_files_that_are_no_frames(self, place):
        (place / "train" / "._t_0.png").write_bytes(b"macOS")
        (place / "trainannot" / "Thumbs.db").write_bytes(b"Windows")
        (place / "train.txt").write_text("SegNet's list", encoding="utf-8")
        assert len(camvid("real", size=(12, 16)).train.images) == 3

    def test_palette_is_read_as_numbers(self, place):
        mask = Image.fromarray(frames()["train/t_0"][1])
        mask.putpalette(list(range(255, -1, -1)) * 3)
        assert mask.mode == "P"
        before = camvid("real", size=(12, 16)).train.masks
        mask.save(place / "trainannot" / "t_0.png")
        assert torch.equal(camvid("real", size=(12, 16)).train.masks, before)

    @pytest.mark.parametrize("size", [(6, 8), (5, 7), (24, 32), (1, 1)])
    def test_resizing_mixes_no_classes(self, place, size):
        stripes = np.where(np.arange(16) % 2, 11, 0).astype(np.uint8) * np.ones((12, 1), np.uint8)  # a mean would be 5 or 6
        (place / "trainannot" / "t_0.png").write_bytes(encoded(stripes))
        train = camvid("real", size=size).train
        assert train.images.shape == (3, 3, *size) and set(train.masks[0].unique().tolist()) <= {0, IGNORED}

    def test_resizing_averages_pictures(self, place):
        checks = ((np.indices((12, 16)).sum(axis=0) % 2) * 200).astype(np.uint8)
        (place / "train" / "t_0.png").write_bytes(encoded(np.stack([checks] * 3, axis=-1)))
        assert (camvid("real", size=(6, 8)).train.images[0].float() - 100).abs().max() < 20

    def test_picture_and_mask_stay_on_each_other(self, place):
        bright = np.zeros((12, 16), np.uint8)
        bright[:4, 8:] = 10
        (place / "trainannot" / "t_0.png").write_bytes(encoded(bright))
        (place / "train" / "t_0.png").write_bytes(encoded(np.stack([bright * 20] * 3, axis=-1)))
        train = camvid("real", size=(6, 8)).train
        assert torch.equal(train.images[0, 0] > 100, train.masks[0] == 10)


class TestWithoutIt:
    def test_lessons_have_their_own_sample(self, without_data):
        assert camvid() is None and camvid("sample") is None

    def test_sample_even_if_it_is_there(self, place):
        assert camvid("sample") is None

    def test_real_is_real(self, without_data):
        with pytest.raises(LessonError):
            camvid("real")


class TestDamage:
    @pytest.mark.parametrize("folder", [folder for split in SPLITS for folder in (split, f"{split}annot")])
    def test_half_unpacked(self, place, fails, folder):
        for file in (place / folder).iterdir():
            file.unlink()
        (place / folder).rmdir()
        fails(camvid, f"datasets/CamVid is damaged: it lacks the folder {folder}/", "study data camvid", "left as it is")

    def test_mask_without_picture(self, place, fails):
        (place / "train" / "t_1.png").unlink()
        fails(camvid, "trainannot/t_1.png is there without its twin in train/.", "--source sample")

    def test_pictures_without_masks(self, place, fails):
        for i in (0, 1):
            (place / "testannot" / f"t_{i}.png").unlink()
        fails(camvid, "test/t_0.png is there without its twin in testannot/, and 1 more")

    def test_nothing_in_two_folders(self, place, fails):
        (place / "val" / "v_0.png").unlink()
        (place / "valannot" / "v_0.png").unlink()
        fails(camvid, "no pictures in val/")

    def test_one_name_twice(self, place, fails):
        (place / "train" / "t_1.jpg").write_bytes(encoded(frames()["train/t_1"][0], "JPEG"))
        fails(camvid, "train/ has both t_1.jpg and t_1.png")

    def test_sizes_differ(self, place, fails):
        (place / "valannot" / "v_0.png").write_bytes(encoded(np.zeros((12, 15), np.uint8)))
        fails(camvid, "valannot/v_0.png is damaged: it has 15x12 pixels and its picture 16x12")

    @pytest.mark.parametrize("number", [12, 255])
    def test_class_that_is_none(self, place, fails, number):
        mask = np.zeros((12, 16), np.uint8)
        mask[3, 4] = number
        (place / "trainannot" / "t_2.png").write_bytes(encoded(mask))
        fails(camvid, f"trainannot/t_2.png is damaged: it has a class {number}, expected 0 to 11")

    def test_mask_of_16_bits(self, place, fails):
        (place / "trainannot" / "t_2.png").write_bytes(encoded(np.full((12, 16), 256 + 3, np.uint16)))
        fails(camvid, "it has a class 259, expected 0 to 11")

    def test_mask_in_colour(self, place, fails):
        (place / "testannot" / "t_1.png").write_bytes(encoded(np.zeros((12, 16, 3), np.uint8)))
        fails(camvid, "testannot/t_1.png is damaged: it is in colour")

    @pytest.mark.parametrize("file", ["train/t_1.png", "testannot/t_0.png"])
    def test_cut_off(self, place, fails, file):
        whole = (place / file).read_bytes()
        for length in (0, 4, 20, len(whole) // 2, len(whole) - 30):
            (place / file).write_bytes(whole[:length])
            fails(camvid, f"{file} is damaged: it is")

    def test_only_the_end_mark_is_missing(self, place):
        """The last 16 bytes of a PNG hold no pixel: without them it is read, and right."""
        file = place / "trainannot" / "t_0.png"
        whole = camvid("real", size=(12, 16)).train.masks
        file.write_bytes(file.read_bytes()[:-16])
        assert torch.equal(camvid("real", size=(12, 16)).train.masks, whole)

    def test_web_page(self, place, fails):
        (place / "train" / "t_0.png").write_bytes(b"<!DOCTYPE html><html>Please log in</html>")
        fails(camvid, "train/t_0.png is damaged: it is not a picture")

    def test_size_of_nothing(self, place, fails):
        fails(lambda source: camvid(source, size=(0, 240)), "cannot be 240x0 pixels")


class TestCache:
    @pytest.fixture(autouse=True)
    def shared_cache(self):
        """Not shared here."""

    def test_second_time_decodes_nothing(self, place, monkeypatch):
        first = camvid("real", size=(6, 8))
        monkeypatch.setattr(segmentation, "_decode", None)
        second = camvid("real", size=(6, 8))
        assert torch.equal(first.test.images, second.test.images) and torch.equal(first.train.masks, second.train.masks)
        assert first.source == second.source

    def test_another_size_is_decoded(self, place):
        camvid("real", size=(6, 8))
        assert camvid("real", size=(8, 6)).train.masks.shape == (3, 8, 6)

    def test_another_file_is_decoded(self, place):
        camvid("real", size=(12, 16))
        mask = place / "trainannot" / "t_0.png"
        mask.write_bytes(encoded(np.full((12, 16), 4, np.uint8)))
        os.utime(mask, ns=(1, 1))
        assert (camvid("real", size=(12, 16)).train.masks[0] == 4).all()


@pytest.mark.real_data("camvid")
def test_real():
    data = camvid("real", size=(45, 60))
    assert [len(part.images) for part in (data.train, data.validation, data.test)] == [367, 101, 233]
    shares = torch.bincount(data.train.masks.flatten().long(), minlength=256) / data.train.masks.numel()
    assert (shares[:11] > 0.002).all() and shares[11:IGNORED].sum() == 0
    assert shares[CAMVID_CLASSES.index("road")] == pytest.approx(0.317, abs=0.01)  # counted in the files: 0.3166
    sky = (data.train.masks == CAMVID_CLASSES.index("sky")).float().mean(dim=0)
    assert sky[:10].mean() > 10 * sky[-10:].mean()  # the picture is the right way up
    assert "a part" not in data.source
