"""Project 5's pictures: boxes stay on what they are round, runs can be resumed, and folders of one's own are read or refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from projects.detection_world import CLASSES, PAINTS, SIDE, painted, picture_of
from torch import Tensor

from project5_realtime_detection import data
from project5_realtime_detection.data import DetectionBatches, filled_up, from_folder, hold_out, load, on_paper
from project5_realtime_detection.loss import NOTHING
from utils.datasets.boxes import Boxed
from utils.datasets.scenes import CLASSES as THINGS
from utils.datasets.scenes import draw_scenes
from utils.lesson import LessonError

PLAIN = {"scale": (1.0, 1.0), "mosaics": 0.0, "mirror": False, "colour": 0.0}
THING = (20, 10, 50, 40)


def batches(split: Boxed, seed: int = 0, **settings) -> DetectionBatches:
    return DetectionBatches(split, SIDE, 8, seed, **{**PLAIN, **settings})


def where_painted(picture: Tensor, name: str) -> Tensor:
    """Pixels of a batch's picture (3, side, side) in 0..1 that have the colour of a class."""
    paint = torch.tensor(PAINTS[name]).view(3, 1, 1) / 255
    return (picture - paint).abs().amax(dim=0) < 0.15


class TestBatches:
    def test_unchanged_pictures_come_with_their_boxes(self):
        split = painted(8, 0)
        ((pictures, boxes, labels),) = batches(split)
        assert pictures.shape == (8, 3, SIDE, SIDE) and pictures.dtype == torch.float32 and pictures.max() <= 1
        for picture, their_boxes, their_labels in zip(pictures, boxes, labels, strict=True):
            (number,) = [i for i, one in enumerate(split.images) if torch.equal((picture * 255).round().byte(), one)]
            there = their_labels != NOTHING
            assert torch.equal(their_boxes[there], split.boxes[number]) and torch.equal(their_labels[there], split.labels[number])
            assert (their_boxes[~there] == 0).all()

    @pytest.mark.parametrize(
        "settings",
        [{"mirror": True}, {"scale": (0.6, 3.0)}, {"mosaics": 1.0, "scale": (0.5, 1.2)}, {"mirror": True, "mosaics": 0.5}],
        ids=["mirrored", "zoomed", "mosaics", "both"],
    )
    def test_boxes_move_with_the_paint(self, settings):
        """What is inside of a box has its class's colour; what is outside of all boxes has none."""
        seen = 0
        for pictures, boxes, labels in batches(painted(48, 0), **settings):
            for picture, their_boxes, their_labels in zip(pictures, boxes, labels, strict=True):
                left = {name: where_painted(picture, name) for name in CLASSES}
                for box, label in zip(their_boxes.tolist(), their_labels.tolist(), strict=True):
                    if label == NOTHING:
                        continue
                    x1, y1, x2, y2 = (round(side) for side in box)
                    inside = where_painted(picture, CLASSES[label])[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
                    assert inside.numel() == 0 or inside.float().mean() > 0.95
                    left[CLASSES[label]][max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = False
                    seen += 1
                if "scale" not in settings and "mosaics" not in settings:  # nothing was cut away
                    assert not any(mask.any() for mask in left.values())
        assert seen > 40

    def test_colours_change_and_boxes_do_not(self):
        split = painted(8, 0)
        ((plain, boxes, _),), ((changed, same, _),) = batches(split), batches(split, colour=0.4)
        assert torch.equal(boxes, same) and 0.01 < (plain - changed).abs().mean() < 0.3

    def test_a_run_that_is_resumed_goes_on_with_the_same_pictures(self):
        settings = {"mirror": True, "mosaics": 0.5, "scale": (0.7, 1.4), "colour": 0.3}
        whole, part = batches(painted(32, 0), **settings), batches(painted(32, 0), **settings)
        expected = [*whole, *whole]
        going = iter(part)
        next(going), next(going)
        state = part.state_dict()
        resumed = batches(painted(32, 0), seed=5, **settings)
        resumed.load_state_dict(state)
        again = [*resumed, *resumed]
        assert len(again) == len(expected) - 2
        for one, other in zip(expected[2:], again, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_another_seed_gives_another_order(self):
        one, other = (next(iter(batches(painted(32, 0), seed=seed)))[0] for seed in (0, 1))
        assert not torch.equal(one, other)

    def test_pictures_without_objects(self):
        empty = Boxed([picture_of(height=40, width=80)] * 3, [torch.zeros(0, 4)] * 3, [torch.zeros(0).long()] * 3)
        for mosaics in (0.0, 1.0):
            ((_, boxes, labels),) = batches(empty, mosaics=mosaics)
            assert boxes.shape == (3, 1, 4) and (labels == NOTHING).all()

    def test_filling_up(self):
        boxes, labels = filled_up([torch.ones(2, 4), torch.zeros(0, 4)], [torch.tensor([1, 0]), torch.zeros(0).long()])
        assert boxes.shape == (2, 2, 4) and labels.tolist() == [[1, 0], [NOTHING, NOTHING]]


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(12, 0, 96)


class TestPaper:
    def test_is_bright_and_the_digits_stay(self, scenes):
        generator = torch.Generator().manual_seed(0)
        for image, mask, owners in zip(scenes.images, scenes.masks, scenes.owners, strict=True):
            sheet = on_paper(image, mask, owners, generator)
            ground, digit = owners == 0, mask > 1 + THINGS.index("ring")
            near = data.smooth((owners > 0).float(), 3) > 0
            assert sheet[:, ground & ~near].float().mean() > 110
            whole = digit & (data.smooth((owners > 0).float(), 3) > 0.999)
            changed = (sheet[:, whole].int() - image[:, whole].int()).abs()
            assert changed.numel() == 0 or changed.max() <= 1

    def test_some_shapes_become_outlines_but_no_disc_does(self, scenes):
        """The outline of a disc would be a ring."""
        generator = torch.Generator().manual_seed(1)
        emptied = set()
        for _ in range(4):
            for image, mask, owners in zip(scenes.images, scenes.masks, scenes.owners, strict=True):
                sheet = on_paper(image, mask, owners, generator)
                changed = (sheet.int() - image.int()).abs().amax(dim=0) > 30
                inner = data.smooth((owners > 0).float(), 3) > 0.999
                emptied |= set(mask[changed & inner & (owners > 0)].tolist())
        assert emptied and {THINGS[value - 1] for value in emptied} <= {"square", "triangle", "star"}

    def test_share_and_source_are_told(self):
        plain, half = data.drawn((8, 2, 2), 64, 0.0), data.drawn((8, 2, 2), 64, 0.5)
        changed = sum(not torch.equal(a, b) for a, b in zip(plain.train.images, half.train.images, strict=True))
        assert 0 < changed < 8 and "50% of them on paper" in half.source and "paper" not in plain.source
        assert all(torch.equal(a, b) for a, b in zip(plain.train.boxes, half.train.boxes, strict=True))


# ----------------------------------------------------------------------------------------------- folders of one's own

XML = "<annotation><size><width>80</width><height>60</height></size>{objects}</annotation>"
OBJECT = "<object><name>{name}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"


def voc(folder, splits: dict[str, list[list[str]]]):
    """Write a folder in VOC's layout: for each split, the names of the objects of each picture."""
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for split, pictures in splits.items():
        names = [f"{split}{number}" for number in range(len(pictures))]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for name, objects in zip(names, pictures, strict=True):
            Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(folder / "JPEGImages" / f"{name}.png")
            told = "".join(OBJECT.format(*THING, name=thing) for thing in objects)
            (folder / "Annotations" / f"{name}.xml").write_text(XML.format(objects=told), encoding="utf-8")
    return folder


def coco(folder, splits: dict[str, list[list[str]]], form: str = "{}", pictures_in: str = "images"):
    """The same in COCO's layout."""
    (folder / "annotations").mkdir(parents=True)
    names = sorted({name for pictures in splits.values() for objects in pictures for name in objects})
    for split, pictures in splits.items():
        content = {"images": [], "annotations": [], "categories": [{"id": 7 + i, "name": name} for i, name in enumerate(names)]}
        for number, objects in enumerate(pictures):
            file = folder / pictures_in.format(split) / f"{split}{number}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(file)
            content["images"].append({"id": number, "file_name": file.name, "width": 80, "height": 60})
            for name in objects:
                content["annotations"].append(
                    {"image_id": number, "category_id": 7 + names.index(name), "bbox": [20, 10, 30, 30]}
                )
        (folder / "annotations" / f"{form.format(split)}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


SPLITS = {"train": [["cat", "dog"], ["cat"], []], "val": [["dog"]], "test": [["cat"], ["dog"]]}


class TestFolder:
    @pytest.mark.parametrize(
        "write",
        [voc, coco, lambda folder, splits: coco(folder, splits, "instances_{}2017", "{}2017")],
        ids=["VOC", "COCO", "COCO as COCO has it"],
    )
    def test_is_read_in_both_layouts(self, tmp_path, write):
        found = load("folder", 80, write(tmp_path / "mine", SPLITS))
        assert found.classes == ["cat", "dog"] and found.is_real
        assert [len(split.images) for split in (found.train, found.validation, found.test)] == [3, 1, 2]
        assert [labels.tolist() for labels in found.train.labels] == [[0, 1], [0], []]
        assert found.train.images[0].shape == (3, 90, 120)  # kept half as large again as the network sees them
        left = 19 if write is voc else 20  # VOC counts from 1
        torch.testing.assert_close(found.train.boxes[1][0, 0], torch.tensor(1.5 * left))
        assert "mine (3 + 1 + 2 pictures of cat, dog)" in found.source

    def test_missing_splits_are_taken_from_training(self, tmp_path):
        found = load("folder", 64, voc(tmp_path / "mine", {"train": [["cat"]] * 20 + [[]] * 5}))
        assert [len(split.images) for split in (found.train, found.validation, found.test)] == [21, 2, 2]
        assert all(len(labels) for split in (found.validation, found.test) for labels in split.labels)
        assert "val and test from the training pictures" in found.source

    def test_what_was_held_out_is_not_trained_on(self):
        split = painted(30, 0)
        rest, (one, other) = hold_out(split, 2)
        parts = [{tensor.data_ptr() for tensor in part.images} for part in (rest, one, other)]
        assert sum(map(len, parts)) == 30 and len(set.union(*parts)) == 30
        assert hold_out(split, 0)[0].images == split.images

    @pytest.mark.parametrize(
        ("splits", "told"),
        [
            ({"train": [["cat"]], "val": [["cow"]], "test": [["cat"]]}, "class cow is none of cat"),
            ({"train": [[], []], "val": [["cat"]], "test": [["cat"]]}, "no picture in it has an object"),
            ({"train": [["cat"]], "val": [[]], "test": [["cat"]]}, "no picture in it has an object"),
            ({"train": [["cat"], ["dog"]]}, "2 pictures with objects are too few to keep some out"),
            ({"val": [["cat"]]}, "has neither ImageSets/Main/train.txt"),
        ],
        ids=["class that training lacks", "no object", "no object to validate", "too few", "no training pictures"],
    )
    def test_what_cannot_be_learned_from_is_one_sentence(self, tmp_path, splits, told):
        with pytest.raises(LessonError, match=told):
            from_folder(voc(tmp_path / "mine", splits), 64)

    def test_class_that_only_training_has_is_no_error(self, tmp_path):
        found = from_folder(voc(tmp_path / "mine", {"train": [["cat", "dog"]], "val": [["cat"]], "test": [["cat"]]}), 64)
        assert found.classes == ["cat", "dog"] and found.test.labels[0].tolist() == [0]

    def test_broken_xml(self, tmp_path):
        folder = voc(tmp_path / "mine", SPLITS)
        (folder / "Annotations" / "train1.xml").write_text("<annotation><object>", encoding="utf-8")
        with pytest.raises(LessonError, match=r"train1.xml cannot be used: it is not XML"):
            from_folder(folder, 64)

    def test_broken_json_and_missing_picture(self, tmp_path):
        folder = coco(tmp_path / "mine", SPLITS)
        (folder / "images" / "test1.png").unlink()
        with pytest.raises(LessonError, match=r"test1.png is missing"):
            from_folder(folder, 64)
        (folder / "annotations" / "val.json").write_text("{", encoding="utf-8")
        with pytest.raises(LessonError, match="it is not JSON"):
            from_folder(folder, 64)

    def test_no_folder(self, tmp_path):
        with pytest.raises(LessonError, match="there is no such folder"):
            load("folder", 64, tmp_path / "none")
        with pytest.raises(LessonError, match="needs --folder"):
            load("folder", 64)
        with pytest.raises(LessonError, match="has neither"):
            load("folder", 64, tmp_path)


@pytest.mark.real_data("bccd")
def test_blood_cells():
    cells = load("bccd", 64)
    assert cells.is_real and cells.classes == ["RBC", "WBC", "Platelets"]
    assert [len(split.images) for split in (cells.train, cells.validation, cells.test)] == [205, 87, 72]
    assert cells.train.images[0].shape == (3, 72, 96)
