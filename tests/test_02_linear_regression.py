"""Linear regression: every way gives the same numbers, scale costs what the condition number says, and it predicts patients."""

import math

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def regression():
    return lesson("02_neural_networks/linear_regression")


@pytest.fixture(scope="module")
def training(regression):
    """Standardized features and the target of the patients to train on."""
    (x, y), _, _ = regression.diabetes(seed=0)
    return regression.standardize(x, by=x), y


def limit(x: torch.Tensor) -> float:
    """The learning rate above which gradient descent runs away."""
    ones = torch.nn.functional.pad(x, (0, 1), value=1.0)
    return 2 / torch.linalg.eigvalsh(2 * ones.T @ ones / len(x)).max().item()


class TestData:
    def test_every_patient_is_in_one_part(self, regression):
        parts = regression.diabetes(seed=3)
        assert [tuple(x.shape) for x, _ in parts] == [(266, 10), (88, 10), (88, 10)]
        patients = {tuple(row) for x, _ in parts for row in x.tolist()}
        assert len(patients) == 442
        assert parts[0][1].mean() > 100  # in the units that were measured
        assert not torch.equal(parts[2][1], regression.diabetes(seed=4)[2][1])

    def test_standardize_measures_on_the_training_patients(self, regression):
        by = torch.tensor([[0.0], [2.0], [4.0]])
        assert regression.standardize(torch.tensor([[2.0], [6.0]]), by=by).tolist() == [[0], [2]]

    def test_losses_along_a_path(self, regression):
        x, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 2.0])
        path = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, -2.0]])  # predicts 0, 0; then 1, 5
        assert regression.losses(x, y, path).tolist() == [2.5, 4.5]


class TestWays:
    def test_agree_step_for_step(self, regression, training):
        walks, solutions = regression.compare_ways(*training, steps=100, lr=0.1)
        assert walks < 1e-10
        assert solutions < 1e-8

    def test_every_step_goes_down_and_none_below_the_closed_form(self, regression, training):
        x, y = training
        losses = regression.losses(x, y, regression.by_hand(x, y, steps=300, lr=0.9 * limit(x)))
        floor = regression.losses(x, y, regression.closed_form(x, y).unsqueeze(0))
        assert (losses.diff() < 0).all()
        assert (losses >= floor).all()

    def test_walk_arrives_at_the_closed_form(self, regression, training):
        x, y = training
        arrived = regression.by_hand(x, y, steps=10_000, lr=0.9 * limit(x))[-1]
        torch.testing.assert_close(arrived, regression.closed_form(x, y), rtol=0, atol=1e-3)

    def test_above_the_limit_it_runs_away(self, regression, training):
        x, y = training
        losses = regression.losses(x, y, regression.by_hand(x, y, steps=2000, lr=1.02 * limit(x)))
        assert losses[-1] > 1e6

    def test_warning_is_the_one_everyone_meets_and_nothing_is_learned(self, regression, training):
        message, left = regression.meet_warning(*training, steps=100, lr=0.1)
        assert "broadcasting" in message
        assert left == pytest.approx(1, abs=0.01)


@pytest.fixture(scope="module")
def found(regression):
    """What descending on four versions of the features gave."""
    (x, y), _, _ = regression.diabetes(seed=0)
    return regression.measure_scale(x, y, steps=1000)


class TestScale:
    def test_condition_number_tells_the_order(self, found):
        conditions = [condition for condition, _ in found.values()]
        assert list(found) == ["as measured", "centred", "standardized", "decorrelated"]
        assert conditions == sorted(conditions, reverse=True)
        assert conditions[0] > 1e7 and conditions[2] < 2000
        assert conditions[3] == pytest.approx(1, abs=0.01)

    def test_left_to_learn(self, found):
        left = {name: share[-1].item() for name, (_, share) in found.items()}
        assert 0.1 < left["as measured"] < 1
        assert 0.01 < left["centred"]
        assert 0 <= left["standardized"] < 0.01
        assert found["decorrelated"][1][1] < 1e-3  # one step is enough

    def test_walk_is_what_the_eigenvalues_say(self, regression, training):
        """The loss above the floor is a sum over directions, each of which shrinks by (1 - lr · curvature)² a step."""
        x, y = training
        ones = torch.nn.functional.pad(x, (0, 1), value=1.0)
        curvatures, directions = torch.linalg.eigh(2 * ones.T @ ones / len(x))
        distances = directions.T @ regression.closed_form(x, y)  # from zero, where the walk begins
        lr, steps = 0.5 * limit(x), 37
        above = (0.5 * curvatures * ((1 - lr * curvatures) ** steps * distances) ** 2).sum()
        floor = regression.losses(x, y, regression.closed_form(x, y).unsqueeze(0))
        loss = regression.losses(x, y, regression.by_hand(x, y, steps, lr)[-1:])
        torch.testing.assert_close(loss - floor, above.view(1), rtol=1e-6, atol=0)


class TestOptimizers:
    def test_rates_are_chosen_on_validation(self, regression):
        """Patients who contradict the training patients want the smallest step, if they are the ones who are asked."""
        x, y = torch.linspace(-1, 1, 20).double().unsqueeze(1), torch.linspace(-1, 1, 20).double()
        chosen = regression.choose_rates((x, y), (x, -y), steps=20, momentum=0.9)
        assert {rate for rate, _ in chosen.values()} == {1e-6}
        agreeing = regression.choose_rates((x, y), (x, y), steps=20, momentum=0.9)
        assert all(regression.losses(x, y, path[-1:]) < 0.1 * y.var() for _, path in agreeing.values())

    def test_scaled_features_do_more_than_a_better_optimizer(self, regression):
        left = {}
        for seed in range(2):
            train, validation, _ = regression.diabetes(seed)
            for name, (_, path) in regression.choose_rates(train, validation, steps=80, momentum=0.9).items():
                left[name] = left.get(name, 0) + regression.share_left(*train, path)[-1].item() / 2
            x, y = train
            scaled = regression.standardize(x, by=x), y
            path = regression.by_module(scaled[0], y.unsqueeze(1), 80, torch.optim.SGD, lr=0.1)
            left["SGD, scaled"] = left.get("SGD, scaled", 0) + regression.share_left(*scaled, path)[-1].item() / 2
        assert left["SGD"] > 1.3 * left["momentum"] > 1.3 * left["Adam"] > 5 * left["SGD, scaled"]


class TestMain:
    def test_predicts_patients_better_than_the_mean(self, regression):
        results = regression.main(steps=40, momentum=0.9, walk=200, seed=0)
        assert results["rmse"] < 0.85 * results["baseline_rmse"]
        assert results["rmse"] == pytest.approx(results["closed_form_rmse"], rel=0.02)
        assert results["walks_difference"] < 1e-10
        (x, y), _, (x_test, y_test) = regression.diabetes(seed=0)
        best = regression.losses(x_test, y_test, regression.closed_form(x, y).unsqueeze(0)).item() ** 0.5
        assert results["closed_form_rmse"] == pytest.approx(best)  # scaling by the test patients' own means would change this
        assert all(math.isfinite(value) for value in results.values())

    def test_check_notices_a_line_that_was_not_fitted(self, regression):
        with pytest.raises(LessonError, match="steps"):
            regression.main(steps=1, momentum=0.9, walk=1, seed=0)
