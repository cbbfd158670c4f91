"""Prediction intervals: the pinball loss asks for quantiles, a network learns them, conformal correction keeps the promise."""

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def intervals():
    return lesson("05_rnn/prediction_intervals")


class TestPinball:
    def test_by_hand(self, intervals):
        levels = torch.tensor([0.1, 0.9])
        above = intervals.pinball(torch.tensor([[2.0, 2.0]]), torch.tensor([5.0]), levels)  # 3 too low
        below = intervals.pinball(torch.tensor([[2.0, 2.0]]), torch.tensor([1.0]), levels)  # 1 too high
        assert above.item() == pytest.approx((0.3 + 2.7) / 2)
        assert below.item() == pytest.approx((0.9 + 0.1) / 2)

    def test_of_one_half_is_half_the_absolute_error(self, intervals):
        forecasts, targets = torch.randn(50), torch.randn(50)
        loss = intervals.pinball(forecasts[:, None], targets, torch.tensor([0.5]))
        torch.testing.assert_close(loss, (forecasts - targets).abs().mean() / 2)

    @pytest.mark.parametrize("level", [0.05, 0.3, 0.95])
    def test_quantile_minimises_it(self, intervals, level):
        sample = torch.randn(1001, generator=torch.Generator().manual_seed(0)).exp()
        candidates = sample.sort().values
        losses = torch.stack([intervals.pinball(c.expand(1001, 1), sample, torch.tensor([level])) for c in candidates[::10]])
        assert candidates[::10][losses.argmin()].item() == pytest.approx(torch.quantile(sample, level).item(), rel=0.03)

    def test_descent_finds_it(self, intervals):
        sample = 10 * torch.rand(400, generator=torch.Generator().manual_seed(0))
        assert intervals.minimise_pinball(sample, torch.tensor([0.1, 0.5, 0.9]), steps=1500) < 0.2

    def test_error_is_the_one_everyone_meets(self, intervals):
        assert "dtype" in intervals.meet_error(torch.arange(5.0))


class TestMeasures:
    def test_crossings(self, intervals):
        assert intervals.crossings(torch.tensor([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])) == 0.5

    def test_coverage_width_and_score(self, intervals):
        low, high = torch.tensor([0.0, 0.0]), torch.tensor([2.0, 4.0])
        coverage, width, score = intervals.measure(low, high, torch.tensor([1.0, 5.0]))
        assert (coverage, width) == (0.5, 3) and score == pytest.approx(3 + 20 * 1 / 2)

    def test_order_costs_nothing(self, intervals):
        crossed, targets = torch.randn(500, 5, generator=torch.Generator().manual_seed(0)), torch.randn(500)
        before, after = (intervals.pinball(q, targets, intervals.LEVELS) for q in (crossed, crossed.sort(dim=-1).values))
        assert after < before


class TestConformal:
    def test_place_by_hand(self, intervals):
        some = torch.arange(1.0, 20.0)[:, None]  # 19 scores: the 18th of 20 places is 90 %
        assert intervals.needed(some).tolist() == [18.0]
        assert intervals.needed(some[:5]).tolist() == [5.0]  # too few for 90 %: the largest there is

    def test_keeps_its_promise_where_days_are_alike(self, intervals):
        generator, covered = torch.Generator().manual_seed(0), []
        for _ in range(300):
            y = torch.randn(51, generator=generator)
            score = y.abs() - 0.1  # of an interval far too narrow
            covered.append((score[50] <= intervals.needed(score[:50, None])[0]).float())
        assert torch.stack(covered).mean().item() == pytest.approx(0.9, abs=0.05)

    def test_rolling_knows_only_what_is_known(self, intervals):
        generator = torch.Generator().manual_seed(0)
        low, high, targets, before = (torch.randn(40, 7, generator=generator) for _ in range(4))
        corrections = intervals.correct_rolling(low, high, targets, before, memory=20)
        later = targets.clone()
        for h in range(7):  # on day 30 the target h + 1 days ahead of day 30 - h is the first that is not known
            later[30 - h :, h] = 100.0
        again = intervals.correct_rolling(low, high, later, before, memory=20)
        torch.testing.assert_close(corrections[:31], again[:31])
        assert not torch.allclose(corrections[31:], again[31:])


@pytest.fixture(scope="module")
def results(intervals):
    return intervals.main(steps=100, lr=0.01, memory=100, seeds=1, seed=0)


class TestMain:
    def test_learns(self, results):
        assert results["quantile_off"] < 0.5
        assert results["pinball"] < 0.9 * results["baseline_pinball"]
        assert results["width_network"] < results["width_naive"]
        assert results["score_corrected_once"] < 0.95 * results["score_naive"]

    def test_correction_brings_coverage_back(self, results):
        assert results["coverage_overtrained"] < 0.85
        for way in ("corrected_once", "corrected_rolling", "overtrained_corrected"):
            assert results[f"coverage_{way}"] == pytest.approx(0.9, abs=0.03), way

    def test_check_notices_a_network_that_does_not_learn(self, intervals):
        with pytest.raises(LessonError, match="pinball"):
            intervals.main(steps=2, lr=0.0, memory=100, seeds=1, seed=0)
