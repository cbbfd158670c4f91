"""Boxes and IoU: conversions, overlaps and losses are torchvision's, and only losses that see farther bring boxes together."""

import math

import pytest
import torch
from conftest import lesson
from torchvision import ops

from utils import paths
from utils.datasets.scenes import draw_scenes
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def overlap():
    return lesson("08_computer_vision/boxes_and_iou")


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(50, seed=3)


@pytest.fixture(scope="module")
def boxes(scenes):
    """On whole pixels."""
    return torch.cat(scenes.boxes)


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([corners, corners + 1 + 50 * torch.rand(count, 2, generator=generator, dtype=torch.float64)], dim=1)


class TestFormats:
    def test_equal_to_torchvision_and_back(self, overlap):
        boxes = random_boxes(200, seed=0)
        torch.testing.assert_close(overlap.to_centers(boxes), ops.box_convert(boxes, "xyxy", "cxcywh"))
        torch.testing.assert_close(overlap.to_corners(overlap.to_centers(boxes)), boxes)
        assert overlap.to_centers(torch.tensor([2.0, 4, 6, 10])).tolist() == [4, 7, 4, 6]

    def test_mix_ups_cost_what_is_told(self, overlap, boxes):
        found = overlap.mix_up(boxes)
        sides = boxes[:, 2:] - boxes[:, :2]
        narrower = ((sides - 1).prod(dim=1) / sides.prod(dim=1)).mean().item()
        assert found["VOC as written"] == pytest.approx(narrower, abs=1e-6)
        assert found["VOC, all four less 1"] == pytest.approx(narrower, abs=1e-6)
        assert found["VOC as written, smallest tenth"] < narrower - 0.02
        assert found["x y width height as corners"] < 0.2 and found["y before x"] < 0.4
        assert found["picture squeezed to 4:3, boxes not"] < 0.6


class TestIoU:
    def test_is_a_share_of_pixels(self, overlap, boxes):
        """Painted and counted: the definition, without a formula."""
        some = boxes[:12]
        painted = torch.zeros(len(some), 128, 128, dtype=torch.bool)
        for layer, (x1, y1, x2, y2) in zip(painted, some.int().tolist(), strict=True):
            layer[y1:y2, x1:x2] = True
        common = (painted[:, None] & painted).sum(dim=(2, 3))
        torch.testing.assert_close(overlap.iou(some[:, None], some), common / (painted[:, None] | painted).sum(dim=(2, 3)))

    def test_each_with_each(self, overlap):
        ours, theirs = random_boxes(40, seed=0), random_boxes(30, seed=1)
        table = overlap.iou(ours[:, None], theirs)
        torch.testing.assert_close(table, ops.box_iou(ours, theirs))
        torch.testing.assert_close(overlap.iou(ours[:30], theirs), table.diagonal())  # without [:, None]: pairs only

    def test_compare(self, overlap, scenes):
        assert overlap.compare_iou([*scenes.boxes, torch.zeros(0, 4)]) < 1e-6

    def test_apart_and_touching(self, overlap):
        one = torch.tensor([0.0, 0, 10, 10])
        for other in ([10.0, 0, 20, 10], [20.0, 20, 30, 30], [12.0, 2, 15, 5]):
            assert overlap.iou(one, torch.tensor(other)).item() == 0
        assert overlap.iou(one, torch.tensor([2.0, 2, 7, 6])).item() == pytest.approx(0.2)

    def test_errors(self, overlap, boxes, capsys):
        message, in_bytes, point = overlap.meet_errors(boxes)
        assert message == "too many indices for tensor of dimension 1"
        assert in_bytes < 0 and math.isnan(point)
        assert "40 - 60 is 236: IoU -1.34" in capsys.readouterr().out


class TestLosses:
    def test_equal_to_torchvision(self, overlap):
        assert overlap.compare_losses(random_boxes(500, seed=0), random_boxes(500, seed=1)) < 1e-12

    def test_compare_notices_a_difference(self, overlap, monkeypatch):
        monkeypatch.setattr(ops, "complete_box_iou_loss", ops.distance_box_iou_loss)
        assert overlap.compare_losses(random_boxes(50, seed=0), random_boxes(50, seed=1)) > 1e-3

    def test_no_gradient_apart(self, overlap):
        start, goal = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[30.0, 0, 45, 9]])
        for kind, blind in (("1 - IoU", True), ("L1", False), ("GIoU", False), ("DIoU", False), ("CIoU", False)):
            boxes = start.clone().requires_grad_()
            overlap.box_loss(boxes, goal, kind).sum().backward()
            assert (boxes.grad.abs().max().item() == 0) == blind, kind

    def test_same_in_any_unit(self, overlap):
        ours, theirs = random_boxes(50, seed=0), random_boxes(50, seed=1)
        for kind in ("1 - IoU", "GIoU", "DIoU", "CIoU"):
            torch.testing.assert_close(overlap.box_loss(3 * ours, 3 * theirs, kind), overlap.box_loss(ours, theirs, kind))
        torch.testing.assert_close(overlap.box_loss(3 * ours, 3 * theirs, "L1"), 3 * overlap.box_loss(ours, theirs, "L1"))


class TestWalks:
    def test_who_arrives(self, overlap, boxes):
        boxes = boxes[:100]
        found, paths = overlap.compare_walks(boxes.roll(1, dims=0), boxes, steps=200)
        assert found["1 - IoU apart share"] == 0 and found["1 - IoU meeting share"] > 0.95
        assert min(found[f"{kind} apart share"] for kind in ("L1", "GIoU", "DIoU", "CIoU")) > 0.8
        assert found["CIoU apart steps"] < found["GIoU apart steps"] - 5
        assert min(found[f"{kind} apart growth"] for kind in ("GIoU", "DIoU", "CIoU")) > 1.4 > found["L1 apart growth"]
        assert paths["L1"].shape == (201, len(boxes), 4)

    def test_steps_are_counted_from_the_start(self, overlap):
        box = torch.tensor([[10.0, 10, 30, 30]])
        found, _ = overlap.compare_walks(torch.cat([box, box + 40]), torch.cat([box, box]), steps=3)
        assert found["CIoU meeting steps"] == 0 and math.isinf(found["CIoU apart steps"])


def test_l1_and_sizes(overlap, boxes):
    found = overlap.compare_sizes(boxes, error=4.0, seed=0)
    assert found["IoU largest"] > found["IoU smallest"] + 0.1
    assert found["L1 largest"] > 1.5 * found["L1 smallest"]
    assert found["CIoU largest"] == pytest.approx(found["CIoU smallest"], abs=0.03)


class TestMain:
    @pytest.fixture
    def quick(self, overlap, scenes, monkeypatch):
        """Scenes that are drawn already."""
        monkeypatch.setattr(overlap, "draw_scenes", lambda *_: scenes)
        return overlap

    def test_main(self, quick):
        results = quick.main(scenes=50, size=128, steps=160, seed=1)
        assert results["off_iou"] < 1e-6 and results["off_losses"] < 1e-12
        assert results["CIoU_apart_share"] > 0.8 and "1_-_IoU_apart_steps" not in results  # who never arrives has no step
        assert (paths.outputs("boxes_and_iou") / "walks.png").exists()

    def test_too_few_steps(self, quick):
        with pytest.raises(LessonError, match="more --steps"):
            quick.main(scenes=50, size=128, steps=1, seed=0)

    @pytest.mark.parametrize("wrong", [{"scenes": 5}, {"size": 8}, {"steps": 0}])
    def test_wrong_flags(self, overlap, wrong):
        with pytest.raises(LessonError, match="at least"):
            overlap.main(**wrong)
