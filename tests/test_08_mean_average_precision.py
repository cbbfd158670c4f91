"""Mean average precision: counted right, equal to the finished one, and blind to what it is said to be blind to."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.average_precision import COCO_THRESHOLDS, Found, mean_average_precision
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def judging():
    return lesson("08_computer_vision/mean_average_precision")


@pytest.fixture(scope="module")
def scenes(judging):
    return judging.imitate("test", 30, size=64, seed=1)


def one_class(boxes, scores, truth):
    """A picture where one class is found, and is there."""
    found = Found(torch.tensor(boxes).float(), torch.tensor(scores), torch.zeros(len(boxes)).long())
    return [found], ([torch.tensor(truth).float()], [torch.zeros(len(truth)).long()])


class TestMatch:
    truth = [[0, 0, 10, 10], [20, 20, 30, 30]]

    def test_surest_first_and_each_object_once(self, judging):
        case = one_class([[0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 30]], [0.5, 0.9, 0.7], self.truth)
        right, count = judging.match(*case, 0, 0.5)
        assert right.tolist() == [True, True, False] and count == 2
        assert judging.match(*case, 0, 0.5, bug="twice")[0].all()

    def test_duplicate_takes_a_neighbour_it_overlaps_enough(self, judging):
        case = one_class([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [[0, 0, 10, 10], [2, 0, 12, 10]])
        assert judging.match(*case, 0, 0.5)[0].tolist() == [True, True]
        assert judging.match(*case, 0, 0.75)[0].tolist() == [True, False]

    def test_threshold_is_reached_by_an_equal_overlap(self, judging):
        case = one_class([[0, 0, 10, 5]], [0.9], self.truth)
        assert judging.match(*case, 0, 0.5)[0].tolist() == [True]
        assert judging.match(*case, 0, 0.51)[0].tolist() == [False]

    def test_over_all_scenes(self, judging):
        (first,), truth = one_class([[0, 0, 10, 10]], [0.3], self.truth)
        found = [first, first._replace(boxes=first.boxes + 50, scores=torch.tensor([0.8]))]
        truth = truth[0] * 2, truth[1] * 2
        assert judging.match(found, truth, 0, 0.5)[0].tolist() == [False, True]
        assert judging.match(found, truth, 0, 0.5, bug="scenes")[0].tolist() == [True, False]

    def test_other_classes(self, judging):
        found, (boxes, labels) = one_class(self.truth, [0.9, 0.8], self.truth)
        other = boxes, [labels[0] + 1]
        right, count = judging.match(found, other, 0, 0.5)
        assert not right.any() and count == 0
        assert judging.match(found, other, 0, 0.5, bug="names")[0].all()


class TestArea:
    right = torch.tensor([True, True, False, True, False, True])

    def test_curve(self, judging):
        precision, recall = judging.show_curve()
        assert precision == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5, 2 / 3])
        assert recall == pytest.approx([0.2, 0.4, 0.4, 0.6, 0.6, 0.8])

    def test_three_conventions(self, judging):
        """By hand: precision 1 up to recall 0.4, 3/4 up to 0.6, 2/3 up to 0.8, then nothing."""
        assert judging.area(self.right, 5, None) == pytest.approx(0.4 + 0.2 * 3 / 4 + 0.2 * 2 / 3)
        assert judging.area(self.right, 5, judging.VOC) == pytest.approx((5 + 2 * 3 / 4 + 2 * 2 / 3) / 11, abs=0.1)
        assert judging.area(self.right, 5) == pytest.approx((41 + 20 * 3 / 4 + 20 * 2 / 3) / 101, abs=0.01)
        assert len(judging.VOC) == 11 and judging.VOC[-1] == 1

    def test_nothing_found(self, judging):
        assert judging.area(torch.zeros(0, dtype=torch.bool), 5) == judging.area(self.right[2:3], 5, None) == 0

    def test_equal_to_the_finished_one(self, judging, scenes):
        areas, off = judging.compare(*scenes)
        assert off < 1e-12
        assert areas["101 points"] == pytest.approx(mean_average_precision(scenes[0], *scenes[1], 10).at_50)
        assert 0.5 < areas["11 points"] < areas["all points"] < 0.95 and areas["101 points, from 0.5 to 0.95"] < 0.6


def test_error(judging, scenes):
    assert judging.meet_error(scenes[1]).startswith("stack expects each tensor to be equal size, but got [")


def test_pixels_drop_strict_thresholds_first(judging, scenes):
    found = judging.move_boxes(scenes[1], (0, 1, 2), seed=0)
    assert found[0].tolist() == pytest.approx([1] * len(COCO_THRESHOLDS))
    assert found[1][0] > 0.95 > 0.5 > found[1][8]
    assert found[2][5] < found[1][5] - 0.3 and found[2].mean() < found[1].mean() - 0.1


class TestScores:
    def test_precision_and_recall_by_hand(self, judging):
        case = one_class([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.4], TestMatch.truth)
        found = judging.precision_recall(*case, torch.tensor([0.0, 0.5, 1.0]))
        torch.testing.assert_close(
            found, torch.tensor([[0.5, 1, 0], [0.5, 0.5, 0], [0.5, 2 / 3, 0]]).double(), rtol=1e-6, atol=1e-6
        )

    def test_only_the_order_counts(self, judging, scenes):
        found = judging.change_scores(*scenes, size=64, seed=0)
        ap, precision, recall = found["as it is"]
        assert found["scores to the power of 4"][0] == pytest.approx(ap, abs=1e-9)
        assert found["scores to the power of 4"][2] < recall - 0.2
        flooded = found["80 unsure boxes more in each"]
        assert flooded == pytest.approx((ap, precision, recall), abs=0.02)
        assert found["one sure box of nothing in each"][0] < ap - 0.05
        assert found["scores drawn anew"][0] < ap - 0.1


def test_bugs(judging, scenes):
    found = judging.compare_bugs(*scenes)
    assert found["names"] > found[""] + 0.005 and found["twice"] > found[""] + 0.04  # they flatter
    assert found["scenes"] < found[""] - 0.05
    assert abs(found["mean"] - found[""]) > 0.03


class TestMain:
    def test_main(self, judging, scenes, monkeypatch):
        monkeypatch.setattr(judging, "imitate", lambda *_: scenes)
        results = judging.main(scenes=30, size=64, seed=0)
        assert results["off"] < 1e-9 and results["f1"] > 0.5 and 0.1 < results["cut"] < 0.9
        assert (paths.outputs("mean_average_precision") / "precision_recall.png").exists()

    def test_check_notices_scores_that_say_nothing(self, judging, scenes, monkeypatch):
        found, truth = scenes
        drawn = [one._replace(scores=torch.rand(len(one.scores), generator=torch.Generator().manual_seed(0))) for one in found]
        monkeypatch.setattr(judging, "imitate", lambda *_: (drawn, truth))
        monkeypatch.setattr(judging, "move_boxes", lambda *_: {0: torch.ones(10)})
        monkeypatch.setattr(judging, "compare_bugs", lambda *_: {})
        with pytest.raises(LessonError, match="the order is worth"):
            judging.main(scenes=30, size=64, seed=0)

    @pytest.mark.parametrize("wrong", [{"scenes": 5}, {"size": 8}])
    def test_wrong_flags(self, judging, wrong):
        with pytest.raises(LessonError, match="at least"):
            judging.main(**wrong)
