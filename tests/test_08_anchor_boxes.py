"""Anchor boxes: k-means finds what it should, tiles lie where torchvision lays them, and counts are right on small examples."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def anchors():
    return lesson("08_computer_vision/anchor_boxes")


@pytest.fixture(scope="module")
def two_sizes():
    """Boxes around 10x20 and around 100x60, twenty times as many of the second."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([[10.0, 20.0]] * 15 + [[100.0, 60.0]] * 300)
    return sizes * (1 + 0.2 * torch.rand(sizes.shape, generator=generator) - 0.1)


class TestKMeans:
    def test_size_iou_is_that_of_boxes_with_one_centre(self, anchors):
        from torchvision.ops import box_iou

        generator = torch.Generator().manual_seed(1)
        one, other = (5 + 50 * torch.rand(n, 2, generator=generator) for n in (7, 4))
        laid = [torch.cat([-sizes / 2, sizes / 2], dim=1) for sizes in (one, other)]
        torch.testing.assert_close(anchors.size_iou(one, other), box_iou(*laid))

    @pytest.mark.parametrize("how", ["iou", "euclid", "log"])
    def test_finds_two_heaps(self, anchors, two_sizes, how):
        found = anchors.find_anchors(two_sizes, 2, how, seed=0, starts=10)
        torch.testing.assert_close(found, torch.tensor([[10.0, 20.0], [100.0, 60.0]]), rtol=0.05, atol=0)

    @pytest.mark.parametrize("how", ["iou", "euclid", "log"])
    def test_more_anchors_resemble_more(self, anchors, two_sizes, how):
        fits = [anchors.size_iou(two_sizes, anchors.find_anchors(two_sizes, k, how, 0, 10)).amax(dim=1).mean() for k in (1, 2, 6)]
        assert fits[0] < fits[1] - 0.02 and fits[1] < fits[2] - 0.005

    def test_each_anchor_is_the_mean_of_its_boxes(self, anchors, two_sizes):
        found = anchors.find_anchors(two_sizes, 5, "euclid", seed=0, starts=3)
        nearest = ((two_sizes[:, None] - found) ** 2).sum(dim=2).argmin(dim=1)
        torch.testing.assert_close(torch.stack([two_sizes[nearest == i].mean(dim=0) for i in range(5)]), found)

    def test_logarithms_care_about_ratios(self, anchors):
        sizes = torch.tensor([[10.0, 10], [20, 20], [200, 200], [210, 210]])
        assert anchors.find_anchors(sizes, 3, "log", 0, 10)[:2, 0].tolist() == pytest.approx([10, 20])
        assert anchors.find_anchors(sizes, 2, "log", 0, 10)[:, 0].tolist() == pytest.approx([200**0.5, 42000**0.5])

    def test_sizes_stay_as_they_are_and_seeds_repeat(self, anchors, two_sizes):
        before = two_sizes.clone()
        first, again = (anchors.find_anchors(two_sizes, 6, "iou", 3, 2) for _ in range(2))
        assert torch.equal(before, two_sizes) and torch.equal(first, again)
        assert (first.prod(dim=1).diff() >= 0).all()

    def test_too_few_boxes(self, anchors):
        with pytest.raises(LessonError, match="9 anchors cannot be found from 3 boxes"):
            anchors.find_anchors(torch.ones(3, 2), 9, "iou", 0, 1)


class TestTiles:
    def test_equal_to_torchvision(self, anchors):
        assert anchors.compare_tiles(20 + 30 * torch.rand(6, 2, generator=torch.Generator().manual_seed(0))) < 1e-4

    def test_order_and_place(self, anchors):
        tiled = anchors.tile(torch.tensor([[4.0, 6.0], [10.0, 10.0], [30.0, 20.0]]), 20, 40)
        assert len(tiled) == 3 * 5 + 2 * 3 + 1 * 2  # rows and columns are rounded up
        assert tiled[0].tolist() == [2, 1, 6, 7]  # around (4, 4)
        assert tiled[1].tolist() == [10, 1, 14, 7]  # the next column
        assert tiled[15].tolist() == [3, 3, 13, 13]  # the first of stride 16, around (8, 8)
        assert tiled[-1].tolist() == [33, 6, 63, 26]  # around (48, 16)


class TestReach:
    def truth(self, anchors):
        boxes = [torch.tensor([[0.0, 0, 8, 8], [8, 8, 16, 16], [0, 0, 1, 1]]), torch.zeros(0, 4)]
        return anchors.Truth(torch.cat(boxes), boxes, [(32, 32), (32, 32)])

    def test_reach(self, anchors):
        sizes = torch.tensor([[8.0, 8.0], [16.0, 16.0], [32.0, 32.0]])
        mean, missed = anchors.reach(sizes, self.truth(anchors), times=1.0)
        assert mean == pytest.approx((1 + 1 + 1 / 64) / 3) and missed == pytest.approx(1 / 3)
        assert anchors.reach(sizes, self.truth(anchors), times=2.0)[1] == pytest.approx(1 / 3)  # 16x16 now, an anchor of its own

    def test_cells(self, anchors):
        boxes = torch.tensor([[0.0, 0, 3, 30], [3, 3, 5, 5], [5, 0, 11, 30], [4, 4, 4.5, 4.5], [0, 5, 30, 11]])
        assert anchors.holds_no_centre(boxes, 8).tolist() == [True, False, True, False, True]
        generator = torch.Generator().manual_seed(0)
        corner = 60 * torch.rand(200, 2, generator=generator)
        boxes = torch.cat([corner, corner + 12 * torch.rand(200, 2, generator=generator)], dim=1)
        middles = [(x, y) for x in range(4, 80, 8) for y in range(4, 80, 8)]
        slow = [not any(x1 <= x <= x2 and y1 <= y <= y2 for x, y in middles) for x1, y1, x2, y2 in boxes.tolist()]
        assert anchors.holds_no_centre(boxes, 8).tolist() == slow


class TestMain:
    def test_promise(self, anchors):
        results = anchors.main(per_grid=3, pictures=60, source="sample", seed=0)
        assert results["scenes_iou_mean"] > results["scenes_borrowed_mean"] + 0.1
        assert abs(results["scenes_iou_mean"] - results["scenes_euclid_mean"]) < 0.02
        assert results["scenes_borrowed_missed"] > 0.4 > 0.1 > results["scenes_iou_missed"]
        assert results["scenes_missed_at_0.5"] > 0.25 and results["scenes_missed_at_2"] > 0.4
        assert results["scenes_empty_at_0.5"] < 0.01 < results["scenes_empty_at_0.125"]
        assert (paths.outputs("anchor_boxes") / "anchors_scenes.png").exists()

    @pytest.mark.parametrize("wrong", [{"per_grid": 0}, {"pictures": 3}])
    def test_wrong_flags(self, anchors, wrong):
        with pytest.raises(LessonError, match="at least 10"):
            anchors.main(**{"per_grid": 3, "pictures": 60, "source": "sample", "seed": 0} | wrong)

    def test_check_notices_anchors_that_fit_nothing(self, anchors, monkeypatch):
        monkeypatch.setattr(anchors, "find_anchors", lambda sizes, k, how, seed: torch.full((k, 2), 4.0))
        with pytest.raises(LessonError, match="no more than borrowed"):
            anchors.main(per_grid=3, pictures=20, source="sample", seed=0)

    @pytest.mark.real_data("bccd")
    def test_blood_cells(self, anchors):
        results = anchors.main(per_grid=3, pictures=60, source="real", seed=0)
        assert results["BCCD_iou_mean"] > results["BCCD_borrowed_mean"] + 0.15
        assert results["BCCD_iou_missed"] < 0.01 < results["BCCD_borrowed_missed"]
