"""Project 5's finder: boxes in the picture's own pixels, whatever its shape, and one box for one thing."""

import functools

import pytest
import torch
from projects.detection_world import CLASSES, SIDE, known_finder, picture_of, trained_file, untrained_file, world
from torch import Tensor

from project5_realtime_detection import finder
from project5_realtime_detection.finder import Finder, load_finder, without_doubles
from utils.lesson import LessonError


def saying(*boxes: tuple[tuple[float, float, float, float], int, float], side: int = SIDE) -> Finder:
    """A finder whose network always says the same: boxes in pixels of the square, with label and score."""

    def forward(pictures: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.zeros(1, len(boxes), 2)
        for row, (_, label, score) in enumerate(boxes):
            scores[0, row, label] = score
        return torch.tensor([[box for box, _, _ in boxes]], dtype=torch.float32).view(1, -1, 4), scores

    return Finder(forward, CLASSES, side, "nothing")


GREY = torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)


class TestPlaces:
    @pytest.mark.parametrize(
        ("height", "width"), [(64, 64), (128, 128), (96, 128), (128, 96), (480, 640), (640, 480), (32, 64), (300, 77)]
    )
    def test_are_in_the_pixels_of_the_picture(self, height, width):
        thing = (width // 4, height // 3, width // 2, height * 2 // 3)
        found = known_finder().find(picture_of(("red", thing), height=height, width=width))
        assert found.labels.tolist() == [0] and found.boxes.shape == (1, 4)
        blur = max(height, width) / SIDE  # one pixel of what it sees
        assert (found.boxes[0] - torch.tensor(thing)).abs().max() <= max(1.0, 1.01 * blur)

    def test_boxes_are_cut_at_the_edges(self):
        found = saying(((-20, -5, 40, 90), 0, 0.9)).find(torch.zeros(3, 96, 128, dtype=torch.uint8))
        assert found.boxes.tolist() == [[0, 0, 80, 96]]

    def test_what_lies_in_the_grey_beside_the_picture_is_not_told(self):
        letterboxed = torch.zeros(3, 32, 64, dtype=torch.uint8)  # grey above and below
        found = saying(((10, 2, 30, 14), 0, 0.9), ((10, 20, 30, 40), 1, 0.8)).find(letterboxed)
        assert found.labels.tolist() == [1] and found.scores.tolist() == pytest.approx([0.8])

    def test_empty_picture(self):
        with pytest.raises(LessonError, match="the picture is empty"):
            known_finder().find(torch.zeros(3, 0, 10, dtype=torch.uint8))

    def test_picture_is_left_as_it_was(self):
        picture = picture_of(("red", (10, 20, 50, 60)))
        before = picture.clone()
        known_finder().find(picture)
        assert torch.equal(picture, before)


class TestDoubles:
    def test_best_first_and_only_those_above_the_threshold(self):
        say = saying(((0, 0, 10, 10), 0, 0.3), ((20, 0, 30, 10), 0, 0.9), ((40, 0, 50, 10), 1, 0.29), ((40, 40, 50, 50), 1, 0.6))
        found = say.find(GREY, threshold=0.3)
        assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.3]) and found.labels.tolist() == [0, 1, 0]
        assert len(say.find(GREY, threshold=0.1).boxes) == 4

    def test_of_one_class_go_those_of_two_stay(self):
        near, same = (0, 0, 20, 20), (1, 0, 21, 20)
        assert saying((near, 0, 0.5), (same, 0, 0.7)).find(GREY).boxes.tolist() == [list(same)]
        assert len(saying((near, 0, 0.5), (same, 1, 0.7)).find(GREY).boxes) == 2

    def test_overlap_is_a_setting(self):
        say = saying(((0, 0, 20, 20), 0, 0.9), ((10, 0, 30, 20), 0, 0.8))  # they share a third
        assert len(say.find(GREY, overlap=0.35).boxes) == 2 and len(say.find(GREY, overlap=0.3).boxes) == 1

    def test_a_cell_has_one_class(self):
        found = without_doubles(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[0.8, 0.7]]), 0.3, 0.5)
        assert found.labels.tolist() == [0] and found.scores.tolist() == pytest.approx([0.8])

    def test_box_beyond_the_edge_does_not_hide_one_of_another_class(self):
        """Unclipped, torchvision's batched_nms would take the first box for the second's neighbour."""
        boxes = torch.tensor([[-9.0, -9, 1, 1], [0.0, 0, 10, 10], [50.0, 50, 60, 60]])
        moved = boxes.clone()
        moved[0] = torch.tensor([-61.0, -61, -51, -51])  # one class farther on lies just where the second box is
        scores = torch.tensor([[0.0, 0.8], [0.9, 0.0], [0.7, 0.0]])
        assert len(without_doubles(boxes, scores, 0.3, 0.5).scores) == len(without_doubles(moved, scores, 0.3, 0.5).scores) == 3

    def test_nothing_found_has_the_right_shapes(self):
        found = known_finder().find(GREY)
        assert found.boxes.shape == (0, 4) and found.scores.shape == (0,) and found.labels.shape == (0,)
        assert found.labels.dtype == torch.int64

    def test_at_most_a_hundred_and_they_are_the_best(self):
        places = torch.arange(1500.0)
        boxes = torch.stack([10 * places, places * 0, 10 * places + 5, places * 0 + 5], dim=1)
        scores = torch.linspace(0.4, 0.9, 1500)[torch.randperm(1500, generator=torch.Generator().manual_seed(0))]
        found = without_doubles(boxes, scores[:, None], 0.3, 0.5)
        assert torch.equal(found.scores, scores.sort(descending=True).values[:100])
        assert torch.equal(scores[(found.boxes[:, 0] / 10).long()], found.scores)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network that has learned to find red and blue."""
    return trained_file(tmp_path_factory.mktemp("trained") / "model.pt")


class TestLoading:
    def test_trained_network_finds_what_is_there(self, file):
        finder = load_finder(file, device="cpu")
        assert finder.classes == CLASSES and finder.side == SIDE and finder.source == "sample: painted rectangles"
        test = world().test
        right = [
            sorted(finder.find(one).labels.tolist()) == sorted(labels.tolist()) for one, _, labels in zip(*test, strict=True)
        ]
        assert sum(right) >= 0.8 * len(right)

    def test_compiled_finds_the_same(self, file, monkeypatch):
        """With a backend that needs no C++ compiler; benchmarks/detection.py measures the real one."""
        monkeypatch.setattr(finder.torch, "compile", functools.partial(torch.compile, backend="eager"))
        one, other = (load_finder(file, runtime, "cpu").find(world().test.images[0]) for runtime in ("eager", "compiled"))
        assert len(one.boxes) > 0
        torch.testing.assert_close(tuple(one), tuple(other))

    def test_says_to_train_first(self):
        for runtime in ("eager", "compiled", "exported", "onnx", "int8"):
            with pytest.raises(LessonError, match="python -m study run detection"):
                load_finder(None, runtime, "cpu")

    def test_says_to_export_first(self, tmp_path):
        file = untrained_file(tmp_path / "model.pt")
        for runtime in ("exported", "onnx", "int8"):
            with pytest.raises(LessonError, match="detection/export` first"):
                load_finder(file, runtime, "cpu")
