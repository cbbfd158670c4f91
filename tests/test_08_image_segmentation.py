"""Image segmentation: loss and scores are right; the U-Net takes any size, learns, and needs its skips at boundaries."""

from types import SimpleNamespace

import pytest
import torch
from conftest import lesson
from torch.nn import functional as F

from utils import paths
from utils.datasets import camvid
from utils.datasets.boxes import IGNORED, Masked, SegmentationData
from utils.lesson import LessonError
from utils.segmentation_scores import wrong_by_distance

RECIPE = SimpleNamespace(widths=(8, 16), crop=(32, 32), lr=0.02, zoom=1.0, flip=True)


@pytest.fixture(scope="module")
def segmenting():
    return lesson("08_computer_vision/image_segmentation")


def draw_discs(count: int, seed: int) -> Masked:
    """Pictures (count, 3, 32, 32) of noise with a red (1) or a blue (2) disc, and their masks."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.arange(32)
    centre = torch.randint(8, 24, (2, count, 1, 1), generator=generator)
    reach = torch.randint(4, 8, (count, 1, 1), generator=generator)
    inside = (x - centre[0]) ** 2 + (x[:, None] - centre[1]) ** 2 <= reach**2  # (count, 32, 32)
    classes = torch.arange(count) % 2 + 1
    images = torch.randint(40, 140, (count, 3, 32, 32), generator=generator)
    images[::2, 0] += 90 * inside[::2]
    images[1::2, 2] += 90 * inside[1::2]
    return Masked(images.to(torch.uint8), (inside * classes[:, None, None]).to(torch.uint8))


@pytest.fixture(scope="module")
def discs():
    return draw_discs(60, seed=0), draw_discs(30, seed=1)


class TestNetwork:
    @pytest.mark.parametrize("size", [(32, 48), (45, 60), (31, 17)])
    def test_takes_any_size(self, segmenting, size):
        network = segmenting.UNet(5, (4, 8, 8, 16)).eval()
        assert network(torch.randn(2, 3, *size)).shape == (2, 5, *size)

    def test_without_skips_only_the_bottleneck_speaks(self, segmenting):
        """Let the lowest level answer 0: with skips the picture still reaches the end, without them nothing does."""
        torch.manual_seed(0)
        for skips in (True, False):
            network = segmenting.UNet(3, (4, 8), skips).eval()
            network.down[-1].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
            one, other = network(torch.zeros(1, 3, 16, 16)), network(torch.randn(1, 3, 16, 16))
            assert torch.equal(one, other) == (not skips)

    def test_both_kinds_start_with_the_same_weights(self, segmenting):
        kinds = []
        for skips in (True, False):
            torch.manual_seed(0)
            kinds.append(segmenting.UNet(3, (4, 8), skips).state_dict())
        assert all(torch.equal(kinds[0][name], kinds[1][name]) for name in kinds[0])

    def test_error(self, segmenting):
        assert "Expected size 45 but got size 44" in segmenting.meet_error()


class TestScores:
    @pytest.mark.parametrize(("classes", "seed"), [(3, 0), (11, 1)])
    def test_equal_second_computations(self, segmenting, classes, seed):
        loss_off, iou_off = segmenting.compare(classes, seed)
        assert loss_off < 1e-12 and iou_off < 1e-12

    def test_worked_out(self, segmenting):
        masks = torch.tensor([[[0, 0, 1], [1, 1, IGNORED]]])
        answers = torch.tensor([[[0, 1, 1], [1, 1, 2]]])
        counts = segmenting.confusion_matrix(answers, masks, 3)
        assert counts.tolist() == [[1, 1, 0], [0, 3, 0], [0, 0, 0]]
        assert segmenting.iou(counts)[:2].tolist() == pytest.approx([1 / 2, 3 / 4])
        assert segmenting.iou(counts)[2].isnan()  # nobody saw it, nobody said it: it counts in no mean

    def test_equals_torchmetrics(self, segmenting):
        torchmetrics = pytest.importorskip("torchmetrics")
        generator = torch.Generator().manual_seed(0)
        masks, answers = torch.randint(4, (2, 3, 20, 20), generator=generator)
        masks[0, :5] = IGNORED
        theirs = torchmetrics.JaccardIndex(task="multiclass", num_classes=4, ignore_index=IGNORED, average="none")(answers, masks)
        assert torch.allclose(segmenting.iou(segmenting.confusion_matrix(answers, masks, 4)).float(), theirs)

    def test_loss_takes_no_notice_of_ignored_pixels(self, segmenting):
        logits, masks = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 4, 4).long()
        masks[0, 0] = IGNORED
        other = logits.clone()
        other[:, :, 0] = 99
        weights = torch.tensor([1.0, 2, 3])
        assert torch.equal(segmenting.pixel_loss(logits, masks, weights), segmenting.pixel_loss(other, masks, weights))
        assert F.cross_entropy(logits, masks.fill_(IGNORED), ignore_index=IGNORED).isnan()  # as the notes say

    def test_accuracy_deceives(self, segmenting):
        masks = torch.zeros(6, 16, 16, dtype=torch.uint8)
        masks[:, 4:8, 4:8] = 1
        images = (100 + 100 * masks[:, None]).expand(-1, 3, -1, -1).contiguous()
        images[3:] = 150  # what is seen in the test pictures says nothing
        found = segmenting.score_baselines(Masked(images[:3], masks[:3] * 0), Masked(images[3:], masks[3:]), 2)
        assert found["the most frequent class at each place"] == pytest.approx((15 / 16, 15 / 32))


@pytest.fixture(scope="module")
def errors(segmenting, discs):
    """mIoU, and wrong pixels by distance, with skips (True) and without."""
    known, test = discs
    found = {}
    for skips in (True, False):
        network = segmenting.train(RECIPE, known, 3, skips, steps=40, seed=0)
        answers = segmenting.answer(network, test.images)
        counts = segmenting.confusion_matrix(answers, test.masks, 3)
        found[skips] = segmenting.iou(counts).nanmean().item(), wrong_by_distance(answers, test.masks, (1,))
    return found


class TestTraining:
    def test_learns(self, segmenting, discs, errors):
        baselines = segmenting.score_baselines(*discs, 3)
        assert errors[True][0] > max(0.78, max(mean for _, mean in baselines.values()) + 0.1)

    def test_skips_are_for_boundaries(self, errors):
        (_, (edge, inside)), (_, (edge_without, inside_without)) = errors[True], errors[False]
        assert edge < 0.7 * edge_without and edge_without > 4 * inside_without and inside < 0.05

    def test_network_is_left_in_eval_mode(self, segmenting, discs):
        network = segmenting.train(RECIPE, discs[0], 3, True, steps=2, seed=0)
        alone, together = (segmenting.answer(network, discs[1].images[:n]) for n in (1, 3))
        assert not network.training and torch.equal(alone[0], together[0])


def test_prepare_takes_the_light_away(segmenting):
    images = torch.randint(20, 100, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.allclose(segmenting.prepare(images), segmenting.prepare(2 * images + 5), atol=1e-2)


def test_scenes_have_three_classes(segmenting, monkeypatch):
    few = segmenting.scenes_with_masks
    monkeypatch.setattr(segmenting, "scenes_with_masks", lambda *counts, size: few(6, 0, 3, size=size))
    data = segmenting.draw_scenes()
    assert data.train.images.shape == (6, 3, 64, 64) and set(data.train.masks.unique().tolist()) == {0, 1, 2}
    assert data.classes == ["background", "shape", "digit"] and not data.is_real


def test_main(segmenting, monkeypatch, discs):
    known, test = discs
    data = SegmentationData(known, test, test, ["nothing", "red", "blue"], "discs", is_real=False)
    monkeypatch.setattr(segmenting, "draw_scenes", lambda: data)
    monkeypatch.setattr(segmenting, "SAMPLE", RECIPE)
    results = segmenting.main(source="sample", steps=40, comparison_steps=10, seeds=1, threads=1, device="cpu", seed=0)
    assert results["miou"] > results["baseline_miou"] + 0.1 and 0 < results["wrong_at_boundary_without"] < 1
    assert (paths.outputs("image_segmentation") / "masks.png").exists()
    with pytest.raises(LessonError, match="at least 10"):
        segmenting.main(steps=0)


@pytest.mark.slow  # it decodes 1,402 files
@pytest.mark.real_data("camvid")
def test_camvid_takes_a_step(segmenting):
    data = camvid("real", size=(45, 60))
    part = Masked(data.train.images[:8], data.train.masks[:8])
    recipe = SimpleNamespace(widths=(4, 8), crop=(32, 40), lr=0.003, zoom=1.5, flip=True)
    network = segmenting.train(recipe, part, len(data.classes), True, steps=2, seed=0)
    assert segmenting.answer(network, part.images).shape == (8, 45, 60)
