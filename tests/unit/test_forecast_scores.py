"""utils/forecast_scores.py: equal to the lesson's, to definitions, and right about what is certain."""

import math

import pytest
import torch
from conftest import lesson

from utils.forecast_scores import conformal_corrections, covered, diebold_mariano, interval_score, pinball

LEVELS = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestScores:
    def test_pinball_is_the_lessons(self):
        quantiles, targets = normal(40, 7, 5).sort(dim=-1).values, normal(40, 7, seed=1)
        expected = lesson("05_rnn/prediction_intervals").pinball(quantiles, targets, LEVELS)
        torch.testing.assert_close(pinball(quantiles, targets, LEVELS).mean(), expected)

    def test_pinball_by_hand_and_without_a_target(self):
        found = pinball(torch.tensor([[1.0, 2.0]] * 3), torch.tensor([3.0, 0.0, math.nan]), torch.tensor([0.1, 0.9]))
        torch.testing.assert_close(
            found, torch.tensor([(0.1 * 2 + 0.9 * 1) / 2, (0.9 * 1 + 0.1 * 2) / 2, math.nan]), equal_nan=True
        )

    def test_pinball_over_many_levels_is_half_the_crps(self):
        levels = (torch.arange(2000) + 0.5) / 2000
        quantiles = torch.distributions.Normal(0.0, 1.0).icdf(levels)
        y = torch.tensor(0.7)
        normal_ = torch.distributions.Normal(0.0, 1.0)
        crps = y * (2 * normal_.cdf(y) - 1) + 2 * normal_.log_prob(y).exp() - 1 / math.sqrt(math.pi)  # of a standard normal
        assert 2 * pinball(quantiles, y, levels) == pytest.approx(crps.item(), abs=1e-3)

    def test_interval_score_is_the_lessons(self):
        low, high, targets = normal(50, 7) - 1, normal(50, 7) + 1, normal(50, 7, seed=2)
        coverage, width, score = lesson("05_rnn/prediction_intervals").measure(low, high, targets)
        assert interval_score(low, high, targets, 0.9).mean().item() == pytest.approx(score, rel=1e-5)
        assert covered(low, high, targets).mean().item() == pytest.approx(coverage)
        assert (high - low).mean().item() == pytest.approx(width)

    def test_true_quantiles_score_best(self):
        targets = normal(20_000)
        scores = {z: interval_score(torch.tensor(-z), torch.tensor(z), targets, 0.9).mean().item() for z in (1.2, 1.645, 2.2)}
        assert min(scores, key=scores.get) == 1.645

    def test_what_was_not_measured_counts_nowhere(self):
        targets = torch.tensor([0.0, math.nan, 5.0])
        assert covered(torch.tensor(-1.0), torch.tensor(1.0), targets).nanmean() == 0.5
        assert interval_score(torch.tensor(-1.0), torch.tensor(1.0), targets, 0.5)[1].isnan()


class TestConformal:
    def test_is_the_lessons_where_forecasts_follow_one_another(self):
        rolling, horizon, memory = lesson("05_rnn/prediction_intervals"), 7, 100
        low, targets = normal(160, horizon) - 0.5, normal(160, horizon, seed=1)
        high = low + 1
        scores = torch.maximum(low - targets, targets - high)
        expected = rolling.correct_rolling(low[60:], high[60:], targets[60:], scores[:60], memory)
        found = conformal_corrections(scores, torch.arange(160), first=60, memory=memory, share=0.9)
        torch.testing.assert_close(found, expected)

    def test_future_scores_change_nothing(self):
        scores, origins = normal(80, 4), torch.arange(80) * 3
        other = scores.clone()
        for ahead in range(4):
            other[origins + ahead + 1 > origins[50], ahead] = 99.0  # not known at the fiftieth
        args = {"origins": origins, "first": 40, "memory": 30, "share": 0.9}
        before, after = conformal_corrections(scores, **args), conformal_corrections(other, **args)
        torch.testing.assert_close(before[:11], after[:11])
        assert not torch.equal(before[12:], after[12:])

    def test_holds_what_it_promises_whatever_the_intervals_were(self):
        targets, held = normal(4000, 1, seed=3), []
        for width in (0.01, 1.0, 6.0):
            scores = targets.abs() - width
            by = conformal_corrections(scores, torch.arange(4000), first=500, memory=500, share=0.9)
            held.append((targets[500:].abs() <= width + by).float().mean().item())
        assert held == pytest.approx([0.9] * 3, abs=0.02)

    def test_without_any_known_score_nothing_is_changed(self):
        assert conformal_corrections(torch.ones(3, 2), torch.arange(3), 0, 5, 0.9)[0].tolist() == [0, 0]
        nothing = conformal_corrections(torch.full((6, 1), math.nan), torch.arange(6), 3, 5, 0.9)
        assert nothing.tolist() == [[0.0]] * 3

    def test_unmeasured_scores_are_left_out(self):
        scores = torch.arange(20.0)[:, None]
        scores[1::2] = math.nan
        found = conformal_corrections(scores, torch.arange(20), first=19, memory=19, share=0.5)
        assert found.item() == 10.0  # of 0, 2, ..., 18 the sixth: ceil(11 * 0.5)


class TestComparison:
    def test_independent_losses_are_a_paired_t_test(self):
        one, other = normal(200), normal(200, seed=1) + 0.3
        found = diebold_mariano(one, other, lags=0)
        differences = (one - other).double()
        assert found.standard_error == pytest.approx((differences.std() / 200**0.5).item())
        assert found.p_value < 0.02 and found.interval()[1] < 0

    def test_overlapping_losses_are_not_taken_for_certain(self):
        """Sums of seven neighbours, both forecasters equally good: how often is one called better, at 5 %?"""
        false = {lags: 0 for lags in (0, 14)}
        for seed in range(400):
            losses = normal(306, seed=seed).unfold(0, 7, 1).mean(dim=1)
            for lags in false:
                false[lags] += diebold_mariano(losses, torch.zeros_like(losses), lags).p_value < 0.05
        assert false[0] / 400 > 0.3 and false[14] / 400 < 0.12

    def test_real_difference_is_found_and_has_its_sign(self):
        noise = normal(300)
        found = diebold_mariano(noise.abs(), noise.abs() + 0.2 + 0.1 * normal(300, seed=5), lags=6)
        assert found.difference == pytest.approx(-0.2, abs=0.03) and found.p_value < 1e-6

    def test_nothing_to_compare(self):
        assert diebold_mariano(torch.ones(9), torch.ones(9), 3).p_value == 1
        assert diebold_mariano(torch.zeros(9), torch.ones(9), 3).p_value == 0
        for few in (torch.full((9,), math.nan), torch.tensor([1.0, math.nan])):
            found = diebold_mariano(few, torch.zeros(len(few)), 3)
            assert (found.standard_error, found.p_value) == (math.inf, 1.0)
