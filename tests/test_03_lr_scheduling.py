"""Learning-rate schedules: each by hand is PyTorch's, each does what it is for, and misuse costs what the lesson says."""

import math

import pytest
import torch
from conftest import lesson

from utils.datasets import hold_out, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def scheduling():
    return lesson("03_training/lr_scheduling")


@pytest.fixture(scope="module")
def parts(scheduling):
    """Examples to train on and to validate with."""
    rest, held_out = hold_out(mnist("sample").train, 359, seed=0)
    return [scheduling.as_examples(rest), scheduling.as_examples(held_out)]


def mean_loss(scheduling, parts, name: str, lr: float, step_every: float = 1, seeds: int = 2) -> float:
    runs = [scheduling.train(name, lr, parts, 240, 16, seed, step_every) for seed in range(seeds)]
    return sum(run[3][-1] for run in runs) / seeds


class TestSchedules:
    @pytest.mark.parametrize("steps", [60, 67, 100, 301])
    def test_by_hand_is_pytorchs(self, scheduling, steps):
        found = scheduling.compare_with_torch(lr=0.3, steps=steps, seed=steps)
        assert set(found) == {"step", "cosine", "warm-up", "one-cycle", "plateau"}
        assert max(found.values()) < 1e-12

    def test_corners(self, scheduling):
        assert [scheduling.step_decay(k, 1.0, 9) for k in (0, 2, 3, 6)] == pytest.approx([1, 1, 0.1, 0.01])
        assert [scheduling.cosine(k, 2.0, 100) for k in (0, 50, 100)] == pytest.approx([2, 1, 0])
        assert [scheduling.warm_up_cosine(k, 1.0, 100) for k in (0, 5, 10, 55)] == pytest.approx([0.01, 0.505, 1, 0.5])
        (low, slow), (high, fast), (last, back) = (scheduling.one_cycle(k, 1.0, 100) for k in (0, 29, 99))
        assert (low, high, last) == pytest.approx((0.04, 1, 4e-6))
        assert (slow, fast, back) == pytest.approx((0.95, 0.85, 0.95))

    def test_plateau_waits_for_patience_and_wants_a_real_best(self, scheduling):
        rates = scheduling.plateau([1.0, 0.9, 0.9, 0.89999, 0.8, 0.9, 0.9, 0.9, 0.9], lr=1.0, factor=0.5, patience=1)
        assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]  # 0.89999 is no new best: it is a hair better

    @pytest.mark.parametrize("name", ["step", "cosine", "warm-up", "one-cycle"])
    def test_training_really_uses_the_schedule(self, scheduling, parts, name):
        _, rates, losses, validated = scheduling.train(name, 0.01, parts, 60, 8, seed=0)
        by_hand = {"step": scheduling.step_decay, "cosine": scheduling.cosine, "warm-up": scheduling.warm_up_cosine}
        by_hand["one-cycle"] = lambda *arguments: scheduling.one_cycle(*arguments)[0]
        assert rates == pytest.approx([by_hand[name](step, 0.01, 60) for step in range(60)])
        assert len(losses) == 60 and len(validated) == 3

    def test_plateau_looks_at_the_validation_losses(self, scheduling, parts):
        _, rates, _, validated = scheduling.train("plateau", 0.1, parts, 200, 16, seed=0)
        expected = [0.1, *scheduling.plateau(validated, 0.1)]
        assert rates[::20] == pytest.approx(expected[:-1]) and rates[-1] < 0.1


class TestRangeTest:
    def test_reads_where_it_breaks(self, scheduling):
        rates = [10 ** (k / 20 - 4) for k in range(120)]
        losses = [2.0 - k / 100 for k in range(90)] + [50.0] * 30  # lowest at the 90th
        read, smooth, suggested = scheduling.read_range_test(rates, losses)
        assert suggested == pytest.approx(rates[89] / 10)
        assert len(read) == len(smooth) == 91
        assert smooth[0] == pytest.approx(2.0)  # without the correction it would be 0.2

    def test_nan_ends_it(self, scheduling):
        read, _, suggested = scheduling.read_range_test([0.1, 0.2, 0.3, 0.4], [2.0, 1.0, math.nan, math.nan])
        assert len(read) == 3 and suggested == pytest.approx(0.02)

    def test_suggests_a_good_rate_from_every_start(self, scheduling, parts):
        for seed in range(4):
            rates, losses = scheduling.train("range test", 1e-4, parts, 100, 16, seed)[1:3]
            assert rates[-1] == pytest.approx(1e-4 * 30_000**0.99)
            assert 0.005 < scheduling.read_range_test(rates, losses)[2] < 0.05


class TestResults:
    def test_ending_small_beats_a_constant_rate_at_its_best(self, scheduling, parts):
        constant = min(mean_loss(scheduling, parts, "constant", lr) for lr in (0.01, 0.02))
        assert mean_loss(scheduling, parts, "cosine", 0.03) < 0.9 * constant

    def test_never_stepped_is_a_constant_rate(self, scheduling, parts):
        assert set(scheduling.train("cosine", 0.02, parts, 60, 16, 0, math.inf)[1]) == {0.02}
        rates = scheduling.train("one-cycle", 0.05, parts, 60, 16, 0, math.inf)[1]
        assert rates == pytest.approx([0.002] * 60)  # the start of the climb
        epochs = scheduling.train("cosine", 0.02, parts, 70, 16, 0, 30)[1]
        assert len(set(epochs)) == 3 and min(epochs) > 0.0198

    def test_mistakes_cost(self, scheduling, parts):
        found = scheduling.measure_mistakes(parts, {"one-cycle": 0.04}, 240, 16, range(1))
        right = mean_loss(scheduling, parts, "one-cycle", 0.04, seeds=1)
        assert min(found["loss_one-cycle_never"], found["loss_one-cycle_once_an_epoch"]) > 1.5 * right

    def test_error_is_the_one_that_is_told(self, scheduling):
        assert "11 times" in (message := scheduling.meet_error()) and "total steps is 10" in message

    def test_same_seed_same_numbers(self, scheduling, parts):
        first, again = (scheduling.train("cosine", 0.02, parts, 40, 16, seed=3)[2] for _ in range(2))
        assert first == again
        assert torch.tensor(first).isfinite().all()


class TestMain:
    @pytest.fixture(autouse=True)
    def _fewer_rates(self, scheduling, monkeypatch):
        compare = scheduling.compare_schedules
        monkeypatch.setattr(scheduling, "compare_schedules", lambda parts, grid, *rest: compare(parts, grid[2:4], *rest))

    def test_schedules_read_digits(self, scheduling):
        results = scheduling.main(steps=120, batch_size=16, seeds=1, source="sample", seed=0)
        assert results["difference_by_hand"] < 1e-12
        assert results["accuracy"] > max(results["baseline_accuracy"], 0.8) + 0.01
        assert {0.02, 0.04} >= {value for name, value in results.items() if name.startswith("rate_")}

    @pytest.mark.real_data("mnist")
    def test_schedules_read_mnist(self, scheduling):
        results = scheduling.main(steps=200, batch_size=16, seeds=1, source="real", seed=0)
        assert results["accuracy"] > max(results["baseline_accuracy"], 0.1) + 0.05
        assert results["loss_cosine"] < 0.9 * results["loss_constant"]

    def test_check_notices_training_that_is_too_short(self, scheduling, monkeypatch):
        monkeypatch.setattr(scheduling, "draw_figure", lambda *_: None)
        with pytest.raises(LessonError, match="hardly"):
            scheduling.main(steps=60, batch_size=1, seeds=1, source="sample", seed=0)
