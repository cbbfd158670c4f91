"""utils.datasets.scenes: boxes and masks tell what can be seen, nothing is shared between the splits."""

import math
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from utils.datasets import picture_book, scenes
from utils.datasets.scenes import CLASSES, DIGITS, SHAPES, Scenes, draw_scenes


@pytest.fixture(scope="module")
def drawn() -> Scenes:
    return draw_scenes(120, seed=0)


class TestFormat:
    def test_pictures_and_masks(self, drawn):
        assert drawn.images.shape == (120, 3, 128, 128) and drawn.masks.shape == (120, 128, 128)
        assert drawn.images.dtype == drawn.masks.dtype == torch.uint8
        assert torch.equal(drawn.owners > 0, drawn.masks > 0)
        assert set(drawn.masks.unique().tolist()) == set(range(len(CLASSES) + 1))

    def test_boxes(self, drawn):
        assert len(drawn.boxes) == len(drawn.labels) == 120
        for boxes, labels in zip(drawn.boxes, drawn.labels, strict=True):
            assert (boxes.dtype, labels.dtype) == (torch.float32, torch.int64)
            assert boxes.shape == (len(labels), 4) and len(labels) <= 6
            assert (boxes >= 0).all() and (boxes <= 128).all() and (boxes[:, :2] < boxes[:, 2:]).all()

    def test_classes_are_about_as_frequent(self, drawn):
        counts = torch.cat(drawn.labels).bincount(minlength=len(CLASSES))
        assert counts.min() > 0.5 * counts.float().mean()

    def test_another_size(self):
        large = draw_scenes(2, seed=0, size=200)
        assert large.images.shape == (2, 3, 200, 200) and large.masks.shape == (2, 200, 200)

    def test_no_scenes(self):
        none = draw_scenes(0, seed=0)
        assert len(none.images) == 0 and none.boxes == []


class TestTruth:
    def test_every_box_is_filled_with_its_class_to_all_four_sides(self, drawn):
        for mask, boxes, labels in zip(drawn.masks, drawn.boxes, drawn.labels, strict=True):
            for (x1, y1, x2, y2), label in zip(boxes.int().tolist(), labels.tolist(), strict=True):
                seen = mask[y1:y2, x1:x2] == label + 1
                assert seen[0].any() and seen[-1].any() and seen[:, 0].any() and seen[:, -1].any()

    def test_nearer_object_covers_a_farther_one(self, monkeypatch):
        """All objects in one place: of those under another there remains little or nothing, and no box round it."""
        monkeypatch.setattr(scenes, "_place", lambda r, reach, size, others: (64.0, 64.0))
        crowd = draw_scenes(40, seed=0, classes=("disc",))
        boxes_of_all = [len(boxes) for boxes in crowd.boxes]
        assert min(boxes_of_all) == 1  # the nearest, at least
        assert np.mean(boxes_of_all) < 2.5  # of four, on average

    @pytest.mark.parametrize("covered", [0.65, 0.75])
    def test_hidden_object_has_no_box(self, monkeypatch, covered):
        """A block is covered from the left by a nearer one: to 65 % it has a box of what is left, to 75 % it has none."""
        shift = round(40 * (1 - covered))
        lefts, labels = iter((20, 20 - shift)), iter((0, 1))
        monkeypatch.setattr(Random, "randint", lambda self, low, high: 2)
        monkeypatch.setattr(Random, "randrange", lambda self, count: next(labels))
        monkeypatch.setattr(scenes, "_strip", lambda r, size: scenes.Sprite(0, 0, np.zeros((8, 8), np.float32), None))
        block = np.ones((40, 40), np.float32)
        monkeypatch.setattr(scenes, "_shape", lambda *_: scenes.Sprite(next(lefts), 20, block, None))
        _, mask, _, found, their_labels = scenes.draw(Random(0), 128, "train")
        nearer = [20 - shift, 20, 60 - shift, 60]
        farther = [60 - shift, 20, 60, 60]
        assert found.tolist() == ([farther, nearer] if covered < 0.7 else [nearer])
        assert their_labels.tolist() == ([0, 1] if covered < 0.7 else [1])
        assert (mask == 2).sum() == 40 * 40 and (mask == 1).sum() == 40 * shift  # the mask keeps what is seen of it

    def test_some_objects_are_hidden_and_few(self, monkeypatch):
        painted = []
        paint = scenes._paint
        monkeypatch.setattr(
            scenes, "_paint", lambda canvas, owner, k, *rest: (painted.append(k), paint(canvas, owner, k, *rest))[1]
        )
        boxes = sum(map(len, draw_scenes(120, seed=0).boxes))
        objects = sum(k > 0 for k in painted)
        assert 0.95 * objects < boxes < objects

    def test_object_beyond_the_edge_is_cut_off(self, monkeypatch):
        monkeypatch.setattr(scenes, "_place", lambda r, reach, size, others: (0.0, 64.0))
        for boxes in draw_scenes(20, seed=1).boxes:
            assert (boxes[:, 0] == 0).all()

    def test_hole_of_a_ring_shows_what_is_behind(self):
        ring = scenes._shape(Random(0), "ring", 50, 50, 20)
        middle = 50 - ring.top, 50 - ring.left
        assert ring.cover[middle] == 0 and ring.cover.max() == 1

    @pytest.mark.parametrize("name", SHAPES)
    def test_shapes_keep_clear_of_the_sides_of_their_sprite(self, name):
        """So that a shadow, which falls up to four pixels away, is not cut off."""
        for seed in range(20):
            cover = scenes._shape(Random(seed), name, 64.3, 64.7, 16).cover
            assert np.count_nonzero(cover[3:-3, 3:-3]) == np.count_nonzero(cover)

    @pytest.mark.parametrize("digit", DIGITS.values())
    def test_digits_are_neither_blank_nor_blots(self, digit):
        for seed in range(20):
            cover = scenes._digit(Random(seed), digit, "train", 64, 64, 24).cover
            assert 0.15 < (cover > 0.5).sum() / (40 * 30) < 0.85
            assert cover[0].sum() + cover[-1].sum() == 0


class TestDeterminism:
    def test_same_arguments_same_scenes(self, drawn):
        torch.manual_seed(5)
        np.random.seed(5)
        again = draw_scenes(20, seed=0)  # the first ones are the same for a larger count
        assert torch.equal(again.images, drawn.images[:20]) and torch.equal(again.masks, drawn.masks[:20])
        for i in range(20):
            assert torch.equal(again.boxes[i], drawn.boxes[i]) and torch.equal(again.labels[i], drawn.labels[i])

    @pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 0, "split": "test"}, {"seed": 0, "split": "validation"}])
    def test_other_arguments_other_scenes(self, drawn, other):
        assert (draw_scenes(20, **other).images != drawn.images[:20]).flatten(1).any(dim=1).all()

    def test_many_scenes_are_kept_for_the_next_run(self, monkeypatch, tmp_path):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        first = draw_scenes(300, seed=0, size=32)
        monkeypatch.setattr(scenes, "draw", None)
        again = draw_scenes(300, seed=0, size=32)
        for name in ("images", "masks", "owners"):
            assert torch.equal(getattr(again, name), getattr(first, name))
        for name in ("boxes", "labels"):
            assert all(map(torch.equal, getattr(again, name), getattr(first, name)))


class TestSplits:
    def test_backgrounds_come_from_parts_of_the_photographs_that_do_not_meet(self, monkeypatch):
        """Paint every part of the photographs in the colour of its split, and look at the patches."""
        colours = {"train": 0, "validation": 100, "test": 255}
        photos = []
        for width, height in ((640, 427), (512, 270)):
            pixels = np.full((height, width, 3), 180, np.uint8)  # the margin
            for split, value in colours.items():
                for start, end in scenes.BANDS[split]:
                    pixels[:, math.floor(start * width) : math.ceil(end * width)] = value
            photos.append(Image.fromarray(pixels))
        monkeypatch.setattr(picture_book, "photographs", lambda: photos)
        r = Random(0)
        for split, value in colours.items():
            for _ in range(100):
                assert (np.asarray(scenes._patch(r, 64, split)) == value).all()

    def test_margins(self):
        bands = sorted(band for parts in scenes.BANDS.values() for band in parts)
        assert all(after[0] - before[1] > 0.015 for before, after in zip(bands, bands[1:], strict=False))

    def test_no_written_digit_is_in_two_splits(self):
        written = [
            {image.tobytes() for images in scenes._written(split).values() for image in images} for split in scenes.WRITTEN
        ]
        assert not written[0] & written[1] and not written[0] & written[2] and not written[1] & written[2]
        assert all(len(images) >= 10 for split in scenes.WRITTEN for images in scenes._written(split).values())


class TestData:
    def test_detection_and_segmentation_show_the_same_scenes(self):
        counts = {"train": 3, "validation": 2, "test": 1, "size": 96}
        boxed, masked = scenes.scenes_with_boxes(**counts), scenes.scenes_with_masks(**counts)
        for split, count in (("train", 3), ("validation", 2), ("test", 1)):
            pictures, same = getattr(boxed, split).images, getattr(masked, split).images
            assert len(pictures) == count and torch.equal(torch.stack(pictures), same)
        assert boxed.classes == list(CLASSES) and masked.classes == ["background", *CLASSES]
        assert not boxed.is_real and not masked.is_real
        assert boxed.source == masked.source and "sample" in boxed.source and "(3 + 2 + 1)" in boxed.source


def test_objects_of_chosen_classes_only():
    chosen = ("ring", "disc", "three")
    drawn = scenes.draw_scenes(20, seed=3, size=48, classes=chosen)
    labels = {scenes.CLASSES.index(name) for name in chosen}
    assert set(torch.cat(drawn.labels).tolist()) == labels
    assert set(drawn.masks.unique().tolist()) == {0, *(1 + label for label in labels)}
    everything = scenes.draw_scenes(5, seed=3, size=48)
    again = scenes.draw_scenes(5, seed=3, size=48, classes=scenes.CLASSES)
    assert torch.equal(everything.images, again.images) and torch.equal(everything.masks, again.masks)
