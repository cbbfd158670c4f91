"""A/B tests of recommenders: the formulas say what thousands of simulated tests find."""

import math

import pytest
import scipy.stats
import torch

from project8_recommender import ab_test, visitors
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def tested():
    return ab_test.compare_recommenders(smallest=0.05, experiments=800, alpha=0.05, power=0.8, seed=1)


class TestTown:
    def test_is_drawn_from_its_seed(self):
        one, same, other = (visitors.make_town(50, films=20, taste=1.0, seed=seed) for seed in (3, 3, 4))
        assert torch.equal(one.chances, same.chances) and torch.equal(one.seen, same.seen)
        assert not torch.equal(one.chances, other.chances)

    def test_people_have_seen_some_films_but_not_all(self):
        seen = visitors.make_town(500, films=30, taste=1.0, seed=0).seen.sum(dim=1)
        assert seen.min() == 3 and seen.max() == 10

    def test_people_have_seen_what_they_like(self):
        town = visitors.make_town(500, films=30, taste=1.0, seed=0)
        assert town.chances[town.seen].mean() > 1.5 * town.chances[~town.seen].mean()

    def test_neighbours_by_hand(self):
        seen = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1]]).bool()
        town = visitors.Town(torch.zeros(4, 3, dtype=torch.float64), seen)
        scores = visitors.item_neighbours(town, shrinkage=0.0)
        # films 0 and 1: two have seen both, 3 and 2 have seen each; films 0 and 2: one, 3 and 2; films 1 and 2: nobody
        assert scores[0, 2].item() == pytest.approx(1 / math.sqrt(6) / 2)  # the mean over films 0 and 1
        assert scores[3].tolist() == pytest.approx([1 / math.sqrt(6), 0, 0])
        shrunk = visitors.item_neighbours(town, shrinkage=1.0)
        assert shrunk[3, 0].item() == pytest.approx(1 / math.sqrt(6) / 2)

    def test_page_leaves_out_what_was_seen(self):
        town = visitors.make_town(200, films=20, taste=1.0, seed=0)
        for scores in (visitors.popularity(town), visitors.item_neighbours(town)):
            films = visitors.page(scores, town.seen, 5)
            assert not town.seen.gather(1, films).any()
            assert all(len(set(row)) == 5 for row in films.tolist())

    def test_chance_of_a_page_by_hand(self):
        town = visitors.Town(torch.tensor([[0.5, 0.2, 0.9]], dtype=torch.float64), torch.zeros(1, 3).bool())
        assert visitors.chance_of_page(town, torch.tensor([[0, 1]])).item() == pytest.approx(1 - 0.5 * 0.8)

    def test_tastes_are_what_neighbours_live_on(self):
        for taste, better in ((0.0, False), (1.0, True)):
            town = visitors.make_town(3000, films=60, taste=taste, seed=0)
            popular, neighbours = (chance.mean().item() for chance in ab_test.chances_of(town))
            assert (neighbours > popular + 0.02) == better

    def test_impossible_one_is_refused(self):
        with pytest.raises(LessonError, match="films"):
            visitors.make_town(100, films=5, taste=1.0, seed=0)


class TestPlan:
    def test_textbook_number(self):
        # 50 % against 55 %, level 0.05, power 0.8: 1,562 in each arm (unpooled variance)
        assert ab_test.people_needed(0.05, 0.25, 0.55 * 0.45, 0.05, 0.8) == 1562

    def test_power_of_the_planned_test(self):
        people = ab_test.people_needed(0.03, 0.16, 0.1771, 0.05, 0.8)
        assert ab_test.power_of(0.03, 0.16, 0.1771, people, 0.05) == pytest.approx(0.8, abs=1e-3)
        assert ab_test.detectable(0.16, 0.1771, people, 0.05, 0.8) == pytest.approx(0.03, rel=1e-3)

    def test_power_without_effect_is_alpha(self):
        assert ab_test.power_of(0.0, 0.2, 0.2, 1000, 0.05) == pytest.approx(0.05)

    def test_half_the_effect_takes_four_times_the_people(self):
        many, few = (ab_test.people_needed(effect, 0.2, 0.2, 0.05, 0.8) for effect in (0.01, 0.02))
        assert many / few == pytest.approx(4, rel=1e-3)

    def test_minutes_have_the_moments_that_they_are_planned_with(self):
        x = ab_test.minutes(0.2, 30.0)((400, 1000), torch.Generator().manual_seed(0))
        assert x.mean().item() == pytest.approx(6.0, rel=0.04)
        assert x.square().mean().item() == pytest.approx(0.2 * 30**2 * math.e, rel=0.12)
        assert (x == 0).double().mean().item() == pytest.approx(0.8, abs=0.004)

    def test_simulated_tests_agree_with_the_formula(self):
        found = ab_test.compare_power(experiments=400, alpha=0.05, power=0.7, seed=3)
        error = math.sqrt(0.7 * 0.3 / 400)
        assert found["power_share"] == pytest.approx(0.7, abs=4 * error)
        assert found["power_minutes"] == pytest.approx(0.7, abs=4 * error)
        assert abs(found["bias_share"]) < 0.08 and abs(found["bias_minutes"]) < 0.08

    def test_what_small_tests_find_is_exaggerated(self):
        found = ab_test.too_few(people=300, experiments=4000, alpha=0.05, seed=0)
        assert found["power_few"] == pytest.approx(found["power_few_formula"], abs=0.025)
        assert found["exaggeration"] > 2


class TestMismatch:
    def test_equals_scipy(self):
        a, b = torch.tensor([5000.0, 5100.0, 20000.0]).double(), torch.tensor([5000.0, 4900.0, 19200.0]).double()
        theirs = [scipy.stats.chisquare(pair).pvalue for pair in zip(a.tolist(), b.tolist(), strict=True)]
        assert ab_test.mismatch(a, b).tolist() == pytest.approx(theirs, rel=1e-9)

    def test_finds_lost_people_and_nothing_else(self):
        lost = ab_test.lose_people(20_000, lost=0.05, experiments=1000, alpha=0.05, seed=1)
        assert lost["false_effects"] > 0.4 and lost["mismatch_alarms"] > 0.65
        kept = ab_test.lose_people(20_000, lost=0.0, experiments=1000, alpha=0.05, seed=1)
        assert kept["false_effects"] == pytest.approx(0.025, abs=0.02)
        assert kept["mismatch_alarms"] == kept["mismatch_false_alarms"] < 0.006


class TestTwoRecommenders:
    def test_finds_the_better_one_as_often_as_computed(self, tested):
        found, tests = tested
        assert found["truth"] == pytest.approx(found["rate_neighbours"] - found["rate_popular"]) and found["truth"] > 0.03
        assert found["found"] == pytest.approx(found["power_formula"], abs=4 * math.sqrt(0.25 / 800))
        assert tests.shape == (2, 800)

    def test_estimate_is_unbiased_and_covered(self, tested):
        found, tests = tested
        assert found["mean_estimate"] == pytest.approx(found["truth"], abs=4 * tests[0].std().item() / math.sqrt(800))
        assert found["coverage"] == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 800))

    def test_looks_add_up(self):
        chances = [torch.full((10,), rate, dtype=torch.float64) for rate in (0.0, 1.0)]
        estimates, variances = ab_test.run_tests(chances, people=30, looks=3, experiments=4, seed=0)
        assert torch.equal(estimates, torch.ones(4, 3).double()) and torch.equal(variances, torch.zeros(4, 3).double())
        assert torch.equal(ab_test.z_of(torch.zeros(1), torch.zeros(1)), torch.zeros(1))

    def test_variances_are_those_of_the_estimates(self):
        chances = [torch.full((10,), rate, dtype=torch.float64) for rate in (0.2, 0.3)]
        estimates, variances = ab_test.run_tests(chances, people=400, looks=2, experiments=3000, seed=0)
        assert estimates.mean().item() == pytest.approx(0.1, abs=0.003)
        for look, people in enumerate((200, 400)):
            assert estimates[:, look].var().item() == pytest.approx((0.16 + 0.21) / people, rel=0.1)
            assert variances[:, look].mean().item() == pytest.approx((0.16 + 0.21) / people, rel=0.02)


class TestMain:
    def test_all_of_it(self, tmp_path):
        results = ab_test.main(alpha=0.05, power=0.8, smallest=0.05, experiments=100, seed=0)
        assert results["people"] == ab_test.people_needed(
            0.05, *[results["rate_popular"] * (1 - results["rate_popular"])] * 2, 0.05, 0.8
        )
        assert {file.name for file in (tmp_path / "work/outputs/project8_recommender").iterdir()} == {
            "power.png",
            "experiment.png",
        }

    def test_error_that_everyone_meets(self):
        assert "Got: Bool" in ab_test.meet_error()

    @pytest.mark.parametrize(
        "wrong", [{"alpha": 0.0}, {"alpha": 0.6}, {"power": 0.4}, {"power": 1.0}, {"smallest": 0.0}, {"experiments": 10}]
    )
    def test_wrong_flags_are_told(self, wrong):
        with pytest.raises(LessonError, match="--" + next(iter(wrong))):
            ab_test.main(**wrong)
