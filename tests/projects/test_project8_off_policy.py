"""Off-policy estimates: right where they claim to be, wrong by as much as can be computed where they are not."""

import math

import pytest
import torch

from project8_recommender import off_policy, visitors
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def town():
    return visitors.make_town(800, films=40, taste=1.5, seed=0)


@pytest.fixture(scope="module")
def logging(town):
    return off_policy.policy(visitors.popularity(town), town.seen, 0.7, explore=0.1)


@pytest.fixture(scope="module")
def target(town):
    return off_policy.policy(visitors.own_taste(town), town.seen, 0.5)


@pytest.fixture(scope="module")
def log(town, logging):
    return off_policy.keep_log(town, logging, visits=3000, seed=0)


class TestPolicy:
    def test_recommends_what_is_unseen_and_sums_to_one(self, town, logging, target):
        for chances in (logging, target):
            assert torch.allclose(chances.sum(dim=1), torch.ones(800).double())
            assert (chances[town.seen] == 0).all()
        assert (logging[~town.seen] > 0.1 / 41).all()

    def test_near_zero_is_the_best_one(self, town):
        sharp = off_policy.policy(visitors.own_taste(town), town.seen, 0.001)
        assert torch.equal(sharp.argmax(dim=1), visitors.page(visitors.own_taste(town), town.seen, 1)[:, 0])
        assert sharp.max(dim=1).values.median() > 0.999

    def test_own_taste_is_worth_more_than_popularity(self, town, logging, target):
        assert off_policy.value(town, target) > 1.3 * off_policy.value(town, logging)


class TestLog:
    def test_has_what_happened(self, town, logging, log):
        assert torch.equal(log.propensity, logging[log.who, log.film])
        assert not town.seen[log.who, log.film].any()
        assert set(log.watched.tolist()) == {0.0, 1.0}

    def test_is_what_the_policy_is_worth(self, town, logging, log):
        assert log.watched.mean().item() == pytest.approx(off_policy.value(town, logging), abs=4 * 0.3 / math.sqrt(3000))


class TestEstimators:
    def test_of_the_logging_policy_itself_are_the_mean(self, logging, log):
        for estimator in (off_policy.ips, off_policy.snips):
            assert estimator(log, logging).item() == pytest.approx(log.watched.mean().item(), abs=1e-12)

    def test_doubly_robust_with_a_model_of_nothing_is_ips(self, target, log):
        nothing = torch.zeros(2, 800, 40, dtype=torch.float64)
        assert off_policy.doubly_robust(log, target, nothing).item() == pytest.approx(
            off_policy.ips(log, target).item(), abs=1e-12
        )

    def test_by_hand(self):
        target = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
        numbers = torch.tensor([[1.0, 0.0, 1.0], [0.25, 0.5, 0.5]], dtype=torch.float64)
        log = off_policy.Log(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), numbers[0], numbers[1])  # weights 2, 1, 2
        assert off_policy.ips(log, target).item() == pytest.approx(4 / 3)
        assert off_policy.ips(log, target, clip=1.5).item() == pytest.approx(1.0)
        assert off_policy.snips(log, target).item() == pytest.approx(4 / 5)
        models = torch.tensor([0.1, 0.3], dtype=torch.float64)[:, None, None].expand(2, 2, 2)
        assert off_policy.direct(log, target, models).item() == pytest.approx(0.2)
        # visits 0 and 2 are predicted by model 0, visit 1 by model 1
        expected = (0.1 + 2 * 0.9 + 0.3 + 1 * (0 - 0.3) + 0.1 + 2 * 0.9) / 3
        assert off_policy.doubly_robust(log, target, models).item() == pytest.approx(expected)

    def test_no_visit_helps_to_predict_itself(self, town, log):
        features = off_policy.features_of(town)
        models = off_policy.click_model(log, features)
        changed = log.watched.clone()
        changed[::2] = 1 - changed[::2]
        other = off_policy.click_model(off_policy.Log(log.who, log.film, changed, log.propensity), features)
        assert torch.equal(models[0], other[0]) and not torch.equal(models[1], other[1])

    def test_model_has_learned(self, town, log):
        model = off_policy.click_model(log, off_policy.features_of(town)).mean(dim=0)
        unseen = ~town.seen
        assert torch.corrcoef(torch.stack([model[unseen], town.chances[unseen]]))[0, 1] > 0.3

    def test_compared(self, town, logging, target):
        found = off_policy.compare_estimators(town, logging, target, visits=1500, logs=60, seed=1)
        truth = off_policy.value(town, target)
        for name in ("IPS", "SNIPS", "doubly robust"):
            assert found[name].mean().item() == pytest.approx(truth, abs=4 * found[name].std().item() / math.sqrt(60))
        assert found["doubly robust"].std() < found["IPS"].std()
        assert found["model"].mean() < truth - 4 * found["model"].std() / math.sqrt(60)
        assert found["clipped IPS"].std() <= found["IPS"].std() and found["clipped IPS"].mean() <= found["IPS"].mean()
        assert ((found["SNIPS"] >= 0) & (found["SNIPS"] <= 1)).all()


class TestMovingAway:
    def test_effective_share_by_hand(self):
        logging = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
        assert off_policy.effective_share(logging, logging) == pytest.approx(1)
        assert off_policy.effective_share(logging, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)) == pytest.approx(0.5)

    def test_costs(self, town, logging):
        found = off_policy.move_away(town, logging, [2.0, 0.2], visits=1500, logs=30, seed=0)
        assert found[0.2]["share"] < 0.5 * found[2.0]["share"]
        assert found[0.2]["IPS"] > 1.5 * found[2.0]["IPS"]
        for row in found.values():
            assert row["share"] == pytest.approx(row["computed"], rel=0.1)


class TestMistakes:
    def test_doubly_robust_needs_one_of_two(self, town, logging, target):
        found = off_policy.err_on_purpose(town, logging, target, visits=2000, logs=60, seed=1)
        limit = 3 * max(found["right propensities, error"], found["wrong propensities, error"])
        for right in ("right propensities, right model", "right propensities, wrong model", "wrong propensities, right model"):
            assert abs(found[right]) < limit
        assert abs(found["right propensities, IPS"]) < limit
        assert abs(found["wrong propensities, wrong model"]) > limit and abs(found["wrong propensities, IPS"]) > limit
        assert found["right propensities, mean weight"] == pytest.approx(1, abs=0.03)
        assert abs(found["wrong propensities, mean weight"] - 1) > 0.05  # so one can notice

    def test_what_was_never_shown_cannot_be_known(self, town, target):
        found = off_policy.without_support(town, target, kept=5, visits=1500, logs=60, seed=0)
        assert found["ips"] == pytest.approx(found["expected_ips"], abs=0.02)
        assert found["mean_weight"] == pytest.approx(1 - found["missing"], abs=0.03) and found["missing"] > 0.05
        assert found["expected_ips"] < found["truth"] - 0.01 < found["expected_ips"] + found["missing"]

    def test_error_that_everyone_meets(self, target, log):
        assert "out of bounds" in off_policy.meet_error(log, target)


class TestMain:
    def test_all_of_it(self, tmp_path):
        results = off_policy.main(visits=400, temperature=0.5, explore=0.2, logs=20, seed=0)
        assert results["truth"] > results["value_logging"]
        assert {file.name for file in (tmp_path / "work/outputs/project8_recommender").iterdir()} == {
            "estimators.png",
            "overlap.png",
        }

    @pytest.mark.parametrize("wrong", [{"visits": 10}, {"temperature": 0.0}, {"explore": 0.0}, {"explore": 1.5}, {"logs": 1}])
    def test_wrong_flags_are_told(self, wrong):
        with pytest.raises(LessonError, match="--" + next(iter(wrong))):
            off_policy.main(**wrong)
