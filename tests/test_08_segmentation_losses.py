"""Losses for rare things: equal to the finished ones; thresholds, claims and false alarms are what the lesson says of them."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.boxes import Masked
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def rare():
    return lesson("08_computer_vision/segmentation_losses")


@pytest.fixture(scope="module")
def lines():
    """Pictures (60, 3, 64, 64) of noise, with a bright line a pixel thick in every second one."""
    generator = torch.Generator().manual_seed(0)
    images, masks = torch.randint(60, 120, (60, 3, 64, 64), generator=generator), torch.zeros(60, 64, 64, dtype=torch.uint8)
    for i in range(1, 60, 2):
        masks[i, int(torch.randint(64, (), generator=generator))] = 1
    images += 60 * masks[:, None]
    return Masked(images[:40].to(torch.uint8), masks[:40]), Masked(images[40:].to(torch.uint8), masks[40:])


def test_losses_equal_finished_ones(rare):
    off = rare.compare(seed=1)
    assert off.keys() == {"cross entropy", "weighted", "focal", "focal, gamma 0", "dice"} and max(off.values()) < 1e-12


class TestDice:
    def test_gradient(self, rare):
        """d/dp of 1 - 2 Σpt / Σ(p + t) is -2 (t Σ(p + t) - Σpt) / (Σ(p + t))²."""
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
        masks = (torch.rand(2, 5, 6, generator=generator) < 0.3).double()
        p = logits.sigmoid().detach()
        sizes, both = (p + masks).sum(), (p * masks).sum()
        expected = -2 * (masks * sizes - both) / sizes**2 * p * (1 - p)
        (found,) = torch.autograd.grad(rare.dice(logits, masks, smooth=0.0), logits)
        assert torch.allclose(found, expected, atol=1e-12)

    def test_of_pictures_is_the_mean_of_each(self, rare):
        logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
        masks = (logits > 0.5).float().roll(1, dims=2)
        each = torch.stack([rare.dice(logits[i : i + 1], masks[i : i + 1]) for i in range(3)])
        assert torch.allclose(rare.dice(logits, masks, by_picture=True), each.mean())
        assert not torch.allclose(rare.dice(logits, masks), each.mean(), atol=1e-4)

    def test_nothing_and_nothing(self, rare):
        logits, masks = torch.full((1, 4, 4), -200.0), torch.zeros(1, 4, 4)
        assert rare.dice(logits, masks) == 0 and rare.dice(logits, masks, smooth=0.0).isnan()


def test_error(rare):
    message, wrong, right = rare.meet_error(seed=0)
    assert "must be the same as input size" in message
    assert right < 0.02 and wrong > 0.4


def test_false_alarms(rare):
    for name in ("cross entropy", "weighted", "focal", "dice"):
        assert rare.weigh_false_alarm(rare.LOSSES[name], alarms=20) == pytest.approx(1)
    few, many = (rare.weigh_false_alarm(rare.LOSSES["dice by picture"], alarms) for alarms in (20, 400))
    assert many < few / 5 < 0.1
    assert rare.weigh_false_alarm(lambda *pair: rare.dice(*pair, by_picture=True, smooth=0.0), alarms=20) == 0


def test_wires(rare):
    some = rare.draw_wires(12, "train", seed=0)
    assert torch.equal(some.images, rare.draw_wires(12, "train", seed=0).images)
    assert not some.masks[::2].any() and some.masks[1::2].flatten(1).any(dim=1).all()
    assert 0.003 < some.masks.float().mean() < 0.03 and some.images.dtype == some.masks.dtype == torch.uint8
    assert not torch.equal(some.masks, rare.draw_wires(12, "test", seed=0).masks)


class TestThresholds:
    def test_iou(self, rare):
        generator = torch.Generator().manual_seed(0)
        masks = (torch.rand(2, 20, 20, generator=generator) < 0.1).to(torch.uint8)
        p = (0.4 * masks + 0.6 * torch.rand(masks.shape, generator=generator)).clamp(0, 1)
        found = rare.iou_by_threshold(p, masks)
        for i, threshold in enumerate(rare.THRESHOLDS):
            called = p >= threshold
            expected = (called & (masks > 0)).sum() / (called | (masks > 0)).sum()
            assert found[i] == pytest.approx(expected.item())

    def test_threshold_is_chosen_elsewhere(self, rare):
        masks = torch.tensor([[[1, 0], [0, 0]]])
        held, p = torch.tensor([[[0.3, 0.1], [0.1, 0.1]]]), torch.tensor([[[0.9, 0.7], [0.6, 0.05]]])
        at_half, chosen, threshold, claimed, true, share = rare.judge(held, masks, p, masks)
        assert 0.1 < threshold <= 0.31 and chosen == at_half == pytest.approx(1 / 3)
        assert (claimed, true, share) == pytest.approx((2.2 / 3, 1 / 3, 2.25 / 4))

    def test_taking_a_weight_back(self, rare):
        """Where the truth is p, a weighted cross entropy is smallest at the logit of p plus ln weight."""
        truth = torch.full((1, 1, 1), 0.02, dtype=torch.float64)
        logits = (truth / (1 - truth)).log() + torch.tensor(rare.WEIGHT).log()
        logits.requires_grad_()
        loss = truth * rare.cross_entropy(logits, torch.ones_like(truth), rare.WEIGHT)
        loss = loss + (1 - truth) * rare.cross_entropy(logits, torch.zeros_like(truth), rare.WEIGHT)
        assert torch.autograd.grad(loss.sum(), logits)[0].abs().item() < 1e-6


@pytest.mark.parametrize("name", ["cross entropy", "dice"])
def test_learns(rare, lines, name):
    known, test = lines
    network = rare.train(rare.LOSSES[name], known, steps=30, lr=0.03, seed=0)
    assert not network.training
    found = rare.iou_by_threshold(rare.predict(network, test.images).sigmoid(), test.masks)
    assert found.max() > 0.7  # all called line: 0.008


def test_main(rare, monkeypatch, lines):
    parts = {"train": lines[0], "validation": lines[1], "test": lines[1]}
    monkeypatch.setattr(rare, "draw_wires", lambda count, split, seed: parts[split])
    monkeypatch.setattr(rare, "LOSSES", {name: rare.LOSSES[name] for name in ("cross entropy", "weighted")})
    monkeypatch.setattr(rare, "check", lambda condition, message: None)  # a line can be found by brightness alone
    results = rare.main(steps=12, seeds=1, lr=0.03, device="cpu", seed=0)
    assert results["weighted: claimed share"] > 1.5 * results["share"]
    assert results["weighted, taken back: claimed share"] < results["weighted: claimed share"] / 2
    assert (paths.outputs("segmentation_losses") / "thresholds.png").exists()


def test_wrong_flags(rare):
    for wrong in ({"steps": 0}, {"seeds": 0}, {"lr": 0.0}):
        with pytest.raises(LessonError, match="have to be above 0"):
            rare.main(**wrong)
