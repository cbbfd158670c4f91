"""Matching and encoding: torchvision's in every number, the counts right on small examples, and the inverse exact."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def matching():
    return lesson("08_computer_vision/anchor_matching")


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = 90 * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + 8 + 50 * torch.rand(count, 2, generator=generator)], dim=1)


class TestMatch:
    IOU = torch.tensor([[0.8, 0.45, 0.1, 0.0, 0.3], [0.6, 0.55, 0.2, 0.0, 0.35]])

    def test_by_hand(self, matching):
        assert matching.match(self.IOU, 0.5, 0.4).tolist() == [0, 1, -1, -1, -1]
        assert matching.match(self.IOU, 0.7, 0.3).tolist() == [0, -2, -1, -1, -2]  # the second truth wants an anchor of the first

    def test_the_best_anchor_is_an_example_though_it_is_bad(self, matching):
        iou = torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.2, 0.1]])
        assert matching.match(iou, 0.5, 0.4).tolist() == [0, 1, -1]
        assert matching.match(iou[1:], 0.5, 0.4).tolist() == [-1, 0, -1]

    def test_without_objects(self, matching):
        assert matching.match(torch.zeros(0, 7), 0.5, 0.4).tolist() == [-1] * 7

    @pytest.mark.parametrize(("high", "low"), [(0.5, 0.5), (0.5, 0.4), (0.7, 0.3)])
    def test_equal_to_torchvision(self, matching, high, low):
        from torchvision.models.detection._utils import Matcher
        from torchvision.ops import box_iou

        for seed in range(10):
            iou = box_iou(random_boxes(1 + seed % 6, seed), matching.tile(128))
            iou[:, seed] = iou.amax(dim=1)  # ties
            theirs = Matcher(high, low, allow_low_quality_matches=True)(iou)
            assert torch.equal(matching.match(iou, high, low), theirs)

    def test_count(self, matching):
        alike = matching.tile(128)[[0, 500]]  # two truths that are anchors
        found = matching.count([alike, torch.zeros(0, 4)], 128, 0.5, 0.4)
        assert found["positive"] + found["ignored"] + found["negative"] == 1008
        assert found["unreached"] == found["forgotten"] == found["otherwise"] == 0 and found["positive"] >= 1
        tiny = torch.tensor([[60.0, 60, 62, 62], [60.25, 60.25, 62.25, 62.25]])  # the same anchors are best for both
        found = matching.count([tiny], 128, 0.5, 0.4)
        assert found["unreached"] == 1 and found["forgotten"] == 0.5


class TestOffsets:
    def test_equal_to_torchvision_and_back(self, matching):
        from torchvision.models.detection._utils import BoxCoder

        boxes, anchors = random_boxes(50, 1), random_boxes(50, 2)
        coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        offsets = matching.encode(boxes, anchors)
        torch.testing.assert_close(offsets, coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(matching.decode(offsets, anchors), coder.decode_single(offsets, anchors), rtol=0, atol=1e-4)
        torch.testing.assert_close(matching.decode(offsets, anchors), boxes, rtol=1e-5, atol=1e-5)

    def test_by_hand(self, matching):
        anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 20]])
        expected = torch.tensor([[10.0, 0, 5 * torch.tensor(2.0).log(), 0]])
        torch.testing.assert_close(matching.encode(box, anchor), expected)

    def test_wild_offsets_stay_finite(self, matching):
        anchor = torch.tensor([[0.0, 0, 16, 16]])
        wild = matching.decode(torch.tensor([[0.0, 0, 1e4, 1e4]]), anchor)
        torch.testing.assert_close(wild, torch.tensor([[-492.0, -492, 508, 508]]))

    def test_weights_even_out(self, matching):
        found = matching.compare_offsets([random_boxes(4, seed) for seed in range(20)], 128)
        for name, weight in zip("xywh", (10, 10, 5, 5), strict=True):
            assert 0.8 < found[f"spread_{name}"] * weight < 2
        assert max(found["off_offsets"], found["off_boxes"], found["off_inverse"]) < 1e-4


class TestCells:
    def test_distances(self, matching):
        middles = matching.cells(16, 8)
        assert middles.tolist() == [[4, 4], [12, 4], [4, 12], [12, 12]]
        assert matching.distances(torch.tensor([[0.0, 2, 16, 10]]), middles, 8)[0, 1].tolist() == [1.5, 0.25, 0.5, 0.75]

    def test_count(self, matching):
        found = matching.count_cells([torch.tensor([[0.0, 0, 16, 16], [8, 0, 24, 16], [1, 1, 3, 3]])], 32)
        assert found["positive"] == 6 and found["negative"] == 10 and found["off_distances"] < 1e-6
        assert found["contested"] == pytest.approx(2 / 6) and found["forgotten"] == pytest.approx(1 / 3)

    def test_error_is_the_one_that_is_told(self, matching):
        assert matching.meet_error(64).startswith("max(): Expected reduction dim 0 to have non-zero size")


class TestMain:
    def test_promise(self, matching):
        results = matching.main(pictures=30, times=1.0, seed=1)
        assert results["RetinaNet_negative"] > 20 * results["RetinaNet_positive"]
        assert results["RPN_positive"] < results["RetinaNet_positive"] / 3
        assert results["SSD_ignored"] == 0 < results["RetinaNet_ignored"] < results["RPN_ignored"]
        assert results["cells_positive"] > 2 * results["RetinaNet_positive"]
        assert results["RetinaNet_unreached"] < 0.05 < 0.3 < results["RPN_unreached"]
        assert (paths.outputs("anchor_matching") / "matches.png").exists()

    @pytest.mark.parametrize("wrong", [{"pictures": 0}, {"times": 0.0}, {"times": 50.0}])
    def test_wrong_flags(self, matching, wrong):
        with pytest.raises(LessonError, match="at least 10"):
            matching.main(**{"pictures": 40, "times": 1.0, "seed": 0} | wrong)

    def test_check_notices_another_matching(self, matching, monkeypatch):
        monkeypatch.setattr(matching, "match", lambda iou, high, low: torch.zeros(iou.shape[1]).long())
        with pytest.raises(LessonError, match="not what torchvision does"):
            matching.main(pictures=10, times=1.0, seed=0)
