"""Non-maximum suppression: torchvision's to the last tie, and what it costs where objects overlap."""

import math

import pytest
import torch
from conftest import lesson
from torchvision import ops

from utils import paths
from utils.average_precision import Found
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def suppression():
    return lesson("08_computer_vision/non_maximum_suppression")


@pytest.fixture(scope="module")
def scenes(suppression):
    return suppression.imitate("validation", 30, layers=3, seed=1)


def random_found(count, seed, classes=3):
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(count, 2, generator=generator)], dim=1)
    return Found(boxes, torch.rand(count, generator=generator), torch.randint(classes, (count,), generator=generator))


class TestNMS:
    def test_equal_to_torchvision_with_ties(self, suppression):
        wrong, careless = suppression.compare_nms(cases=60, seed=5)
        assert wrong == 0 and careless > 1  # ties at the threshold occur, or nothing was tested

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
    def test_equal_to_torchvision_on_many_boxes(self, suppression, threshold):
        boxes, scores, labels = random_found(300, seed=0)
        assert torch.equal(suppression.nms(boxes, scores, threshold), ops.nms(boxes, scores, threshold))
        ours = suppression.nms(boxes, scores, threshold, labels)
        assert torch.equal(ours, ops.batched_nms(boxes, scores, labels, threshold))
        parts = [(labels == label).nonzero()[:, 0] for label in range(3)]
        by_hand = [rows[suppression.nms(boxes[rows], scores[rows], threshold)] for rows in parts]
        assert sorted(torch.cat(by_hand).tolist()) == sorted(ours.tolist())

    def test_chain(self, suppression):
        """What was dropped drops nothing: the third box overlaps the second only."""
        boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
        assert suppression.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]
        assert suppression.nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.3).tolist() == [1]

    def test_nothing(self, suppression):
        assert suppression.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)

    def test_offset_breaks_below_zero(self, suppression):
        assert suppression.break_offset() == 1

    def test_errors(self, suppression, scenes):
        message, share = suppression.meet_errors(scenes["crowd"][0][0])
        assert message == "scores should be a 1d tensor, got 2D" and share > 2


class TestImitation:
    def test_cells_find_objects_more_than_once(self, scenes):
        found, (boxes, labels) = scenes["classes"]
        assert len(found) == len(boxes) == 30
        assert 4 < sum(len(one.boxes) for one in found) / sum(map(len, boxes)) < 20
        for one, theirs, their_labels in zip(found, boxes, labels, strict=True):
            overlaps, owner = ops.box_iou(one.boxes, theirs).max(dim=1)
            assert overlaps.mean() > 0.6 and (one.labels == their_labels[owner]).float().mean() > 0.6

    def test_surer_is_better(self, scenes):
        found, (boxes, _) = scenes["classes"]
        overlaps = torch.cat([ops.box_iou(one.boxes, some).amax(dim=1) for one, some in zip(found, boxes, strict=True)])
        scores = torch.cat([one.scores for one in found])
        assert torch.corrcoef(torch.stack([overlaps, scores]))[0, 1] > 0.2

    def test_crowd(self, scenes):
        found, (boxes, labels) = scenes["crowd"]
        assert len(boxes) == 10 and not torch.cat(labels).any() and not any(one.labels.any() for one in found)
        assert torch.equal(torch.cat(boxes), torch.cat(scenes["classes"][1][0]))


class TestThreshold:
    def test_both_ends_are_bad(self, suppression, scenes):
        low, right, none = (suppression.precision_after_nms(*scenes["crowd"], threshold) for threshold in (0.1, 0.5, 1.0))
        assert right > low + 0.2 and right > none + 0.1

    def test_forgotten_classes(self, suppression, scenes):
        right, forgotten = (suppression.precision_after_nms(*scenes["classes"], 0.1, by_class) for by_class in (True, False))
        assert right > forgotten + 0.04

    def test_perfect_boxes(self, suppression, scenes):
        shares = suppression.share_kept(scenes["crowd"][1])
        assert shares == sorted(shares) and shares[0] < 0.7 and shares[-1] == 1


class TestSoft:
    def test_equal_to_a_second_computation(self, suppression):
        boxes, scores, labels = found = random_found(40, seed=3, classes=2)
        got = suppression.soft_nms(found, sigma=0.3)
        left = {i: score for i, score in enumerate(scores.tolist())}
        expected = []
        while left:
            best = max(left, key=left.get)
            score = left.pop(best)
            expected.append((best, score))
            for i in left:
                if labels[i] == labels[best]:
                    left[i] *= math.exp(-(ops.box_iou(boxes[best, None], boxes[i, None]).item() ** 2) / 0.3)
            left = {i: score for i, score in left.items() if score >= 0.01}
        assert torch.equal(got.boxes, boxes[[i for i, _ in expected]]) and torch.equal(
            got.labels, labels[[i for i, _ in expected]]
        )
        torch.testing.assert_close(got.scores, torch.tensor([score for _, score in expected]))

    def test_helps_in_a_crowd(self, suppression, scenes):
        found, truth = scenes["crowd"]
        hard = max(suppression.precision_after_nms(found, truth, threshold) for threshold in (0.4, 0.5, 0.6))
        soft = suppression.precision([suppression.soft_nms(one, 0.8) for one in found], truth)
        assert soft > hard + 0.003

    def test_nothing(self, suppression):
        found = suppression.soft_nms(Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long()), 0.5)
        assert found.boxes.shape == (0, 4) and found.scores.shape == found.labels.shape == (0,)


def test_time(suppression):
    found = suppression.measure_time((200, 800), best=100, seed=0)
    assert set(found) == {f"{name}_{n}" for name in ("ours", "torchvision", "best") for n in (200, 800)}
    assert found["ours_800"] > found["torchvision_800"]


class TestMain:
    @pytest.fixture
    def quick(self, suppression, scenes, monkeypatch):
        """What is tested above is left out."""
        monkeypatch.setattr(suppression, "THRESHOLDS", (0.1, 0.3, 0.5, 0.6, 1.0))
        monkeypatch.setattr(suppression, "SIGMAS", (0.8,))
        monkeypatch.setattr(suppression, "imitate", lambda *_: scenes)
        monkeypatch.setattr(suppression, "measure_time", lambda *_: {})
        monkeypatch.setattr(suppression, "compare_nms", lambda *_: (0, 1))
        return suppression

    def test_main(self, quick):
        results = quick.main(scenes=30, layers=3, cases=1, seed=0)
        assert results["nms_classes"] > results["none_classes"] + 0.1
        assert results["soft_crowd"] > results["nms_crowd"] - 0.01
        assert (paths.outputs("non_maximum_suppression") / "suppression.png").exists()

    def test_check_notices_nms_that_drops_nothing(self, quick, monkeypatch):
        monkeypatch.setattr(quick, "nms", lambda boxes, *_: torch.arange(len(boxes)))
        with pytest.raises(LessonError, match="really dropped"):
            quick.main(scenes=30, layers=3, cases=1, seed=0)

    @pytest.mark.parametrize("wrong", [{"scenes": 5}, {"layers": 0}, {"cases": 0}])
    def test_wrong_flags(self, suppression, wrong):
        with pytest.raises(LessonError, match="at least"):
            suppression.main(**wrong)
