"""What an A/B test measures: variance that is taken out, and errors that are as large as they ought to be."""

import math

import pytest
import scipy.stats
import torch

from project8_recommender import ab_metrics
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def cuped():
    return ab_metrics.use_the_past(people=500, spread=0.6, experiments=600, alpha=0.05, seed=1)


class TestCuped:
    def test_slope_is_that_of_least_squares(self):
        before, after = ab_metrics.watch((400,), 0.6, torch.Generator().manual_seed(0))
        table = torch.stack([torch.ones_like(before), before], dim=1)
        slope = torch.linalg.lstsq(table, after[:, None]).solution[1]
        expected = after - slope * (before - before.mean())
        assert torch.allclose(ab_metrics.adjust(after, before), expected, rtol=0, atol=1e-10)

    def test_leaves_the_mean_and_one_minus_rho_squared(self):
        before, after = ab_metrics.watch((3, 400), 0.6, torch.Generator().manual_seed(0))
        adjusted = ab_metrics.adjust(after, before)
        assert torch.allclose(adjusted.mean(dim=1), after.mean(dim=1))
        for row in range(3):
            rho = torch.corrcoef(torch.stack([before[row], after[row]]))[0, 1]
            assert (adjusted[row].var() / after[row].var()).item() == pytest.approx(1 - rho.item() ** 2, rel=1e-9)

    def test_is_unbiased_and_covered(self, cuped):
        found, (plain, adjusted) = cuped
        for estimates in (plain, adjusted):
            assert estimates.mean().item() == pytest.approx(0.4, abs=4 * estimates.std().item() / math.sqrt(600))
        assert found["cuped_coverage"] == pytest.approx(0.95, abs=0.036)

    def test_takes_variance_out(self, cuped):
        found, _ = cuped
        assert found["variance_ratio"] == pytest.approx(found["one_minus_rho2"], rel=0.25) and found["one_minus_rho2"] < 0.5
        assert found["cuped_power"] > found["plain_power"] + 0.1

    def test_of_what_came_too_late_takes_the_effect_out(self, cuped):
        assert cuped[0]["late_mean"] < 0.4 * cuped[0]["truth"]

    def test_without_a_past_in_common_there_is_nothing_to_gain(self):
        found, _ = ab_metrics.use_the_past(people=200, spread=0.0, experiments=400, alpha=0.05, seed=0)
        assert found["variance_ratio"] == pytest.approx(1, abs=0.05)

    def test_a_missing_past_makes_everything_nan(self):
        assert ab_metrics.meet_error(50) == "nan"


class TestRatio:
    def test_delta_method_by_hand(self):
        clicks, pages = torch.tensor([1.0, 0.0, 2.0, 1.0]).double(), torch.tensor([2.0, 1.0, 4.0, 1.0]).double()
        residuals = clicks - 0.5 * pages  # the ratio is 4 / 8
        assert ab_metrics.delta_variance(clicks, pages).item() == pytest.approx(residuals.var().item() / 4 / 2**2)

    def test_of_one_page_each_is_the_usual_variance(self):
        clicks = (torch.rand(1000, generator=torch.Generator().manual_seed(0)) < 0.2).double()
        assert ab_metrics.delta_variance(clicks, torch.ones_like(clicks)).item() == pytest.approx(clicks.var().item() / 1000)

    def test_errors_compared(self):
        found = ab_metrics.compare_ratio_errors(people=400, spread=0.6, experiments=800, alpha=0.05, seed=1)
        assert found["false_delta"] == pytest.approx(0.05, abs=0.031)
        assert found["false_naive"] > 0.15 and found["naive_to_delta"] < 0.75
        assert found["bootstrap_to_delta"] == pytest.approx(1, abs=0.08)

    def test_naive_error_is_right_for_people_who_are_alike(self):
        found = ab_metrics.compare_ratio_errors(people=400, spread=0.0, experiments=400, alpha=0.05, seed=1)
        assert found["naive_to_delta"] == pytest.approx(1, abs=0.02)


class TestManyMetrics:
    def test_equals_scipy(self):
        p = torch.rand(50, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 2
        theirs = torch.from_numpy(scipy.stats.false_discovery_control(p.numpy(), axis=1))
        assert torch.allclose(ab_metrics.benjamini_hochberg(p), theirs, rtol=0, atol=1e-12)

    def test_price_and_gain(self):
        found = ab_metrics.look_at_many(metrics=20, real=5, experiments=5000, alpha=0.05, seed=1)
        assert found["any_plain"] == pytest.approx(1 - 0.95**20, abs=0.03)
        assert found["any_bonferroni"] < 0.065 and found["any_bh"] < 0.065
        assert found["false_share_bh"] == pytest.approx(0.05 * 15 / 20, abs=0.01)  # alpha times the share without effect
        assert found["power_bonferroni"] + 0.1 < found["power_bh"] < found["power_plain"]


def test_novelty_wears_off():
    found, effect, estimates = ab_metrics.wait(people=5000, days=28, experiments=200, seed=1)
    assert found["last_week"] == pytest.approx(found["effect_to_stay"], abs=0.002)
    assert found["first_week"] > 2.5 * found["effect_to_stay"] and found["novelty_found"] > 0.9
    assert torch.allclose(estimates.mean(dim=0), effect, atol=0.003)


class TestShelf:
    def test_split_test_sees_what_is_not_there(self):
        found = ab_metrics.share_a_shelf(people=1000, copies=400, evenings=300, seed=1)
        assert found["shelf_split"] > 0.07 and found["shelf_truth"] < 0.02
        assert found["shelf_switchback"] == pytest.approx(found["shelf_truth"], abs=0.006)

    def test_with_copies_for_all_both_are_right(self):
        found = ab_metrics.share_a_shelf(people=1000, copies=1000, evenings=300, seed=1)
        assert found["shelf_split"] == pytest.approx(0.1, abs=0.01) and found["shelf_truth"] == pytest.approx(0.1, abs=0.01)


class TestMain:
    def test_all_of_it(self, tmp_path):
        results = ab_metrics.main(people=100, spread=0.6, metrics=8, alpha=0.05, experiments=200, seed=0)
        assert results["variance_ratio"] < 0.6
        assert {file.name for file in (tmp_path / "work/outputs/project8_recommender").iterdir()} == {"cuped.png", "novelty.png"}

    def test_check_notices_the_wrong_error(self, monkeypatch):
        monkeypatch.setattr(ab_metrics, "delta_variance", lambda clicks, pages: 0.08 / pages.sum(dim=-1))
        with pytest.raises(LessonError, match="delta method"):
            ab_metrics.main(people=100, spread=0.6, metrics=8, alpha=0.05, experiments=200, seed=0)

    @pytest.mark.parametrize(
        "wrong", [{"people": 1}, {"spread": -1.0}, {"spread": 5.0}, {"metrics": 1}, {"alpha": 0.0}, {"experiments": 0}]
    )
    def test_wrong_flags_are_told(self, wrong):
        with pytest.raises(LessonError, match="--" + next(iter(wrong))):
            ab_metrics.main(**wrong)
