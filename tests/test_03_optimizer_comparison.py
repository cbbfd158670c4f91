"""The comparison chooses on validation, treats all alike, and its networks learn."""

import math

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def comparison():
    return lesson("03_training/optimizer_comparison")


@pytest.fixture(scope="module")
def data(comparison):
    return comparison.digits("sample")


class TestTraining:
    def test_parts_do_not_overlap(self, data):
        assert [tuple(x.shape) for x, _ in data] == [(1037, 196), (400, 196), (360, 196)]
        assert all(0 <= x.min() and x.max() <= 1 for x, _ in data)

    @pytest.mark.parametrize(
        ("name", "lr"), [("SGD", 0.3), ("momentum", 0.1), ("Nesterov", 0.1), ("RMSprop", 0.003), ("Adam", 0.01)]
    )
    def test_each_learns(self, comparison, data, name, lr):
        baseline = comparison.nearest_mean(data[0], data[2])
        assert baseline == pytest.approx(0.81, abs=0.02)
        losses, model = comparison.train(name, lr, data[0], data[1], steps=100, seed=0)
        assert len(losses) == 20 and losses[-1] < 0.25 * math.log(10)
        assert (model(data[2][0]).argmax(dim=1) == data[2][1]).float().mean() > baseline

    @pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim has Muon from PyTorch 2.9 on")
    def test_muon_learns_and_leaves_the_biases_to_adamw(self, comparison, data):
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        muon, adamw = comparison.make_optimizers("Muon", model, lr=0.1)
        assert [p.dim() for p in muon.param_groups[0]["params"]] == [2, 2]
        assert [p.dim() for p in adamw.param_groups[0]["params"]] == [1, 1]
        losses, _ = comparison.train("Muon", 0.03, data[0], data[1], steps=60, seed=0)
        assert losses[-1] < 0.25 * math.log(10)

    def test_none_decays_its_weights(self, comparison):
        for name in comparison.names():
            for optimizer in comparison.make_optimizers(name, torch.nn.Linear(3, 2), lr=0.1):
                assert optimizer.param_groups[0]["weight_decay"] == 0
                assert optimizer.param_groups[0]["lr"] == 0.1

    def test_same_seed_same_start_and_batches(self, comparison, data):
        first, again = (comparison.train("SGD", 0.1, data[0], data[1], steps=10, seed=3)[0] for _ in range(2))
        assert first == again
        adam, sgd = (comparison.train(name, 0.0, data[0], data[1], steps=5, seed=3)[0] for name in ("Adam", "SGD"))
        assert adam == sgd  # whatever the optimizer


@pytest.fixture(scope="module")
def tried(comparison, data):
    """The losses on validation at every rate after 15 steps."""
    return comparison.try_rates(data[0], data[1], steps=15)


class TestChoice:
    def test_rates_that_serve_lie_far_apart(self, comparison, tried):
        rates = {name: comparison.RATES[last.argmin()] for name, last in tried.items()}
        assert all(last.shape == (8,) for last in tried.values())
        assert rates["SGD"] > 20 * rates["RMSprop"]
        assert len(set(comparison.winners(tried))) >= 3  # one rate for all crowns whom it likes

    def test_choice_follows_validation(self, comparison, data, monkeypatch):
        """Asked for the opposite of what the training digits say, the smallest step is the best."""
        monkeypatch.setattr(comparison, "RATES", [0.0003, 0.03, 0.3])
        wrong = data[0][0][:300], (data[0][1][:300] + 1) % 10
        for last in comparison.try_rates(data[0], wrong, steps=10).values():
            assert last.argmin() == 0

    def test_each_is_compared_at_the_rate_that_was_chosen(self, comparison, data, monkeypatch):
        used, train = [], comparison.train
        monkeypatch.setattr(comparison, "train", lambda name, lr, *rest: used.append((name, lr)) or train(name, lr, *rest))
        monkeypatch.setattr(comparison, "RATES", [0.1, 0.2, 0.3])
        tried = {"SGD": torch.tensor([3.0, 1.0, 2.0]), "Adam": torch.tensor([3.0, 2.0, 1.0])}
        comparison.compare(tried, data, steps=5, seeds=2)
        assert used == [("SGD", 0.2)] * 2 + [("Adam", 0.3)] * 2

    def test_a_rate_that_runs_away_is_never_chosen(self, comparison, data, monkeypatch):
        monkeypatch.setattr(comparison, "RATES", [0.1, 1e30])
        for last in comparison.try_rates(data[0], data[1], steps=5).values():
            assert last.argmin() == 0


class TestMain:
    def test_learns_more_than_the_nearest_mean(self, comparison, monkeypatch):
        monkeypatch.setattr(comparison, "RATES", [0.01, 0.3])
        results = comparison.main(steps=60, seeds=2, source="sample")
        assert results["baseline_accuracy"] == pytest.approx(0.81, abs=0.02)
        assert max(results[f"accuracy_{name}"] for name in comparison.names()) > results["baseline_accuracy"] + 0.02
        assert results["lr_SGD"] == 0.3

    def test_check_notices_untrained_networks(self, comparison, monkeypatch):
        monkeypatch.setattr(comparison, "RATES", [1e-9])
        with pytest.raises(LessonError, match="steps"):
            comparison.main(steps=5, seeds=2, source="sample")
