"""Initialization: the variances are the predicted ones, the rules are PyTorch's, and what should learn does."""

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def initialization():
    return lesson("02_neural_networks/initialization")


class TestEqualUnits:
    def test_stay_equal(self, initialization):
        for seed in range(2):
            found = initialization.train_from_equal(seed)
            assert found["all 0"] == (0, 0)  # neither layer's weights get a gradient
            moved, apart = found["all 0.5"]
            assert moved > 0.2
            assert apart < 1e-5
            moved, apart = found["random"]
            assert moved > 0.2
            assert apart > 0.5


class TestVariances:
    def test_change_by_the_predicted_factor(self, initialization):
        found = initialization.compare_with_theory(depth=10, seed=0, width=128, networks=3)
        theory = {"too small": 128 * 0.01**2 / 2, "default": 1 / 6, "Xavier": 1 / 2, "Kaiming": 1.0, "too large": 128 / 2}
        assert found.keys() == theory.keys()
        for name, (predicted, forwards, backwards) in found.items():
            assert predicted == pytest.approx(theory[name]), name
            assert forwards == pytest.approx(theory[name], rel=0.08), name
            assert backwards == pytest.approx(theory[name], rel=0.08), name

    def test_are_of_every_layer(self, initialization):
        forwards, backwards = initialization.variances(std=0.5, depth=6, width=64, seed=0)
        assert forwards.shape == backwards.shape == (7,)
        assert forwards[0] == pytest.approx(1, abs=0.1)
        assert backwards[-1] == pytest.approx(1, abs=0.1)
        assert (forwards.diff() > 0).all()  # 64 · 0.25 / 2 = 8 in every layer
        assert (backwards.diff() < 0).all()


class TestRules:
    @pytest.mark.parametrize("sizes", [(50, 70), (300, 30), (1, 4)])
    def test_are_torchs_number_for_number(self, initialization, sizes):
        assert initialization.compare_with_torch(seed=1, outputs=sizes[0], inputs=sizes[1]) < 1e-6

    def test_have_the_variance_and_the_range_they_promise(self, initialization):
        for kind in ("normal", "uniform"):
            weight = initialization.draw(kind, 0.3, 400, 250, torch.Generator().manual_seed(0))
            assert weight.shape == (400, 250)
            assert weight.mean().item() == pytest.approx(0, abs=0.005)
            assert weight.std().item() == pytest.approx(0.3, rel=0.02)
        assert weight.abs().max() <= 0.3 * 3**0.5

    def test_default_is_that_of_a_linear_layer(self, initialization):
        torch.manual_seed(0)
        std = torch.nn.Linear(100, 400).weight.std().item()
        assert initialization.STARTS["default"](100, 400) == pytest.approx(std, rel=0.02)

    def test_error_is_the_one_everyone_meets(self, initialization):
        assert "fewer than 2 dimensions" in initialization.meet_fan_error()


class TestDeepNetwork:
    def test_is_drawn_from_its_start(self, initialization):
        network = initialization.deep_network("Kaiming", [500, 200, 200, 10], seed=0)
        assert [type(layer).__name__ for layer in network] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
        for layer, inputs in zip(network[::2], (500, 200, 200), strict=True):
            assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.1)
            assert not layer.bias.any()
        again = initialization.deep_network("Kaiming", [500, 200, 200, 10], seed=0)
        assert torch.equal(network[0].weight, again[0].weight)
        assert not torch.equal(network[0].weight, initialization.deep_network("Kaiming", [500, 200, 200, 10], seed=1)[0].weight)

    def test_rate_is_chosen_on_validation(self, initialization):
        """Digits that contradict the training digits want the network that learned least."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(100, 196, generator=generator)
        labels = (x[:, 0] > 0).long()
        agree = initialization.train_from("Kaiming", [196, 32, 2], (x, labels), (x, labels), steps=100, seeds=2, seed=0)
        contradict = initialization.train_from("Kaiming", [196, 32, 2], (x, labels), (x, 1 - labels), steps=100, seeds=2, seed=0)
        assert agree[0] > contradict[0] == min(initialization.RATES)
        assert all(initialization.accuracy(network, x, labels) > 0.9 for network in agree[1])
        assert agree[2].shape == (2, 100)
        first, second = agree[1]
        assert (first[0].weight - second[0].weight).std() > 0.12  # two starts: √2 · √(2 / 196), from one alone far less

    def test_rate_falls_in_the_second_half(self, initialization, monkeypatch):
        rates = []

        class Watched(torch.optim.SGD):
            def step(self, closure=None):
                rates.append(self.param_groups[0]["lr"])
                return super().step(closure)

        monkeypatch.setattr(torch.optim, "SGD", Watched)
        initialization.train(torch.nn.Linear(3, 2), torch.ones(4, 3), torch.tensor([0, 1, 0, 1]), steps=8, lr=0.4, seed=0)
        assert rates == pytest.approx([0.4] * 5 + [0.3, 0.2, 0.1])


class TestMain:
    def test_learns_from_the_good_start_only(self, initialization):
        results = initialization.main(depth=12, width=64, steps=150, seeds=1, source="sample", device="cpu", seed=0)
        assert results["baseline_accuracy"] == pytest.approx(0.828, abs=0.01)
        for start in ("zero", "too_small", "default", "too_large"):
            assert results[f"accuracy_{start}"] < 0.2, start
        assert results["accuracy_kaiming"] > 0.85
        assert results["accuracy_xavier"] < results["accuracy_kaiming"] - 0.05
        assert results["theory_error"] < 0.05
        assert results["init_difference"] < 1e-6

    @pytest.mark.real_data("mnist")
    def test_learns_on_mnist(self, initialization):
        results = initialization.main(depth=6, width=64, steps=200, seeds=1, source="real", device="cpu", seed=0)
        assert results["baseline_accuracy"] == pytest.approx(0.82, abs=0.01)
        assert results["accuracy_kaiming"] > 0.87
        assert results["accuracy_too_small"] < 0.2

    def test_check_notices_a_network_that_does_not_learn(self, initialization):
        with pytest.raises(LessonError, match="Kaiming"):
            initialization.main(depth=3, width=8, steps=20, seeds=1, source="sample", device="cpu", seed=0)
