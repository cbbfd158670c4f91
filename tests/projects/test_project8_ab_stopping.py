"""When an A/B test may stop: computed boundaries are those of the textbooks, and hold in simulated tests."""

import math

import pytest
import scipy.stats
import torch

from project8_recommender import ab_stopping
from utils.lesson import LessonError


class TestCrossing:
    @pytest.mark.parametrize(("looks", "chance"), [(1, 0.050), (2, 0.083), (5, 0.142), (10, 0.193), (20, 0.248), (50, 0.320)])
    def test_peeking_as_armitage_computed_it(self, looks, chance):
        """Armitage, McPherson & Rowe (1969), table 2."""
        assert ab_stopping.crossing([1.959964] * looks, looks).sum().item() == pytest.approx(chance, abs=6e-4)

    def test_number_of_nodes_does_not_matter(self):
        for bounds in ([1.96] * 30, [4.56, 3.23, 2.63, 2.28, 2.04]):
            coarse, fine = (ab_stopping.crossing(bounds, len(bounds), drift=2.8, nodes=nodes) for nodes in (160, 400))
            assert torch.allclose(coarse, fine, rtol=0, atol=1e-9)

    def test_agrees_with_simulated_brownian_motion(self):
        bounds, drift = [2.4, 2.2, 2.0, 1.8], 1.5
        steps = torch.randn(40_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2 + drift / 4
        z = steps.cumsum(dim=1) / torch.tensor([0.25, 0.5, 0.75, 1.0]).sqrt()
        crossed = z.abs() >= torch.tensor(bounds)
        first = torch.where(crossed.any(dim=1), crossed.int().argmax(dim=1), 4)
        shares = torch.bincount(first, minlength=5)[:4] / len(first)
        assert torch.allclose(shares.double(), ab_stopping.crossing(bounds, 4, drift), atol=0.01)

    def test_upwards_and_downwards_are_alike(self):
        one, other = (ab_stopping.crossing([2.0] * 5, 5, drift) for drift in (1.3, -1.3))
        assert torch.allclose(one, other)


class TestBounds:
    """Jennison & Turnbull, "Group sequential methods" (2000), tables 2.1 and 2.3; alpha spending: Lan & DeMets (1983)."""

    @pytest.mark.parametrize(("looks", "pocock", "obrien_fleming"), [(2, 2.178, 1.977), (5, 2.413, 2.040), (10, 2.555, 2.087)])
    def test_constants_of_the_textbook(self, looks, pocock, obrien_fleming):
        flat = ab_stopping.constant_bounds(looks, 0.05, 0.0)
        falling = ab_stopping.constant_bounds(looks, 0.05, 0.5)
        assert flat == pytest.approx([pocock] * looks, abs=1e-3)
        assert falling == pytest.approx([obrien_fleming * math.sqrt(looks / k) for k in range(1, looks + 1)], abs=3e-3)

    def test_spending_of_the_textbook(self):
        assert ab_stopping.spending_bounds(5, 0.05) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=1e-3)

    def test_first_bound_keeps_its_digits(self):
        chance = 4 * scipy.stats.norm.sf(scipy.stats.norm.ppf(1 - 0.05 / 4) * math.sqrt(12))  # 2e-14, all of it at the first look
        assert ab_stopping.spending_bounds(12, 0.05)[0] == pytest.approx(scipy.stats.norm.isf(chance / 2), abs=1e-6)

    def test_all_is_spent_at_the_end(self):
        for alpha in (0.01, 0.05):
            assert ab_stopping.spent(1.0, alpha) == pytest.approx(alpha)
            assert ab_stopping.crossing(ab_stopping.spending_bounds(3, alpha), 3).sum().item() == pytest.approx(alpha, abs=1e-9)

    def test_compared(self):
        bounds, found = ab_stopping.compare_bounds(looks=5, experiments=8000, alpha=0.05, power=0.8, seed=2)
        wobble = 4 * math.sqrt(0.05 * 0.95 / 8000)
        for name in ("pocock", "obrien_fleming", "alpha_spending"):
            assert found[f"false_{name}"] == pytest.approx(0.05, abs=wobble)
            assert 0.7 < found[f"power_{name}"] < 0.8 and found[f"people_{name}"] < 0.85
        assert found["false_every_look"] == pytest.approx(0.142, abs=0.018)
        assert found["power_pocock"] < found["power_obrien_fleming"]
        assert found["people_pocock"] < found["people_obrien_fleming"] < 1
        assert set(bounds) == {"every look", "Pocock", "O'Brien-Fleming", "alpha spending"}


class TestPeeking:
    def test_finds_what_is_not_there(self):
        found = ab_stopping.peek(days=14, experiments=5000, alpha=0.05, seed=1)
        assert found["false_once"] == pytest.approx(0.05, abs=0.014)
        assert found["false_daily"] == pytest.approx(found["false_daily_exact"], abs=0.025)
        assert found["false_daily_exact"] == pytest.approx(0.22, abs=0.006)

    def test_days_have_the_right_variance(self):
        estimates, variances = ab_stopping.simulate_days(0.2, 0.25, people=200, days=3, experiments=4000, seed=0)
        assert estimates.mean().item() == pytest.approx(0.05, abs=0.002)
        for day in range(3):
            expected = (0.16 + 0.1875) / (200 * (day + 1))
            assert variances[:, day].mean().item() == pytest.approx(expected, rel=0.02)
            assert estimates[:, day].var().item() == pytest.approx(expected, rel=0.1)


class TestSequence:
    def test_is_where_the_likelihood_ratio_is_one_over_alpha(self):
        variance, tau, alpha = torch.tensor([1e-4, 1e-3, 0.5], dtype=torch.float64), 0.03, 0.05
        delta = ab_stopping.half_width(variance, tau, alpha)
        both = variance + tau**2
        ratio = (variance / both).sqrt() * (delta**2 * tau**2 / (2 * variance * both)).exp()
        assert torch.allclose(ratio, torch.full_like(ratio, 1 / alpha), rtol=1e-9)

    def test_covers_at_all_times(self):
        found = ab_stopping.look_often(looks=300, experiments=600, alpha=0.05, seed=1)
        for name in ("null", "effect"):
            assert found[f"sequence_missed_{name}"] < 0.05
            assert found[f"usual_missed_{name}"] > 0.25
        assert found["sequence_power"] > 0.6 and found["sequence_people"] < 300 * 20
        assert 1.3 < found["width_ratio"] < 2


def test_stopping_early_exaggerates():
    found = ab_stopping.stop_early(smallest=0.05, looks=5, experiments=1000, alpha=0.05, power=0.8, seed=0)
    assert found["mean_at_end"] == pytest.approx(found["truth"], abs=0.003)
    assert found["truth"] + 0.001 < found["mean_spending"] < found["mean_peeking"]
    assert found["mean_early_spending"] > 1.1 * found["truth"]
    assert found["people_peeking"] < found["people_spending"] < 1


class TestMain:
    def test_all_of_it(self, tmp_path):
        results = ab_stopping.main(alpha=0.05, power=0.8, smallest=0.06, days=10, looks=3, experiments=100, seed=0)
        assert results["false_daily_exact"] == pytest.approx(0.193, abs=1e-3)
        assert {file.name for file in (tmp_path / "work/outputs/project8_recommender").iterdir()} == {
            "stopping.png",
            "sequence.png",
        }

    def test_check_notices_bounds_that_are_too_low(self, monkeypatch):
        monkeypatch.setattr(ab_stopping, "spending_bounds", lambda looks, alpha: [1.96] * looks)
        with pytest.raises(LessonError, match="should err in 5.0%"):
            ab_stopping.main(alpha=0.05, power=0.8, smallest=0.2, days=2, looks=8, experiments=100, seed=0)

    @pytest.mark.parametrize(
        "wrong", [{"alpha": 0.0}, {"power": 1.0}, {"smallest": 0.9}, {"days": 0}, {"looks": 1}, {"looks": 31}, {"experiments": 1}]
    )
    def test_wrong_flags_are_told(self, wrong):
        with pytest.raises(LessonError, match="--" + next(iter(wrong))):
            ab_stopping.main(**wrong)
