"""Activation functions: by hand they are PyTorch's, gradients vanish as predicted, and what bends learns a ring."""

import math

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.lesson import LessonError

SMOOTH = ("sigmoid", "tanh", "ELU", "GELU", "GELU, tanh", "SiLU")


@pytest.fixture(scope="module")
def activations():
    return lesson("02_neural_networks/activation_functions")


class TestByHand:
    def test_equal_to_torchs(self, activations):
        assert len(activations.ACTIVATIONS) == 8
        value, slope = activations.compare_with_torch()
        assert value < 1e-12
        assert slope < 1e-9

    def test_the_two_gelus_are_not_the_same_function(self, activations):
        x = torch.linspace(-4, 4, 801, dtype=torch.float64)
        erf, by_tanh = activations.ACTIVATIONS["GELU"][0](x), activations.ACTIVATIONS["GELU, tanh"][0](x)
        assert 1e-4 < (erf - by_tanh).abs().max() < 1e-3

    @pytest.mark.parametrize("name", SMOOTH)
    def test_derivative_is_the_functions(self, activations, name):
        """By differences, which know nothing of PyTorch's opinion."""
        function, derivative, _ = activations.ACTIVATIONS[name]
        x = torch.linspace(-3.05, 3.05, 60, dtype=torch.float64)  # not 0, where ELU's second derivative jumps
        differences = (function(x + 1e-5) - function(x - 1e-5)) / 2e-5
        torch.testing.assert_close(derivative(x), differences, rtol=0, atol=1e-9)

    def test_kinks_take_the_slope_of_the_left(self, activations):
        zero = torch.zeros(1)
        assert activations.ACTIVATIONS["ReLU"][1](zero).item() == 0
        assert activations.ACTIVATIONS["leaky ReLU"][1](zero).item() == pytest.approx(0.01)

    def test_softmax_and_its_gradient(self, activations):
        for seed in range(3):
            assert activations.compare_softmax(seed) < 1e-12
        p = activations.softmax(torch.tensor([[1000.0, 1000.0], [0.0, math.log(3)]]))
        torch.testing.assert_close(p, torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
        flat = activations.softmax_backward(p, torch.ones(2, 2))
        assert flat.abs().max() < 1e-6  # the same push on every probability moves none: they must add up to 1

    def test_value_is_right_and_gradient_is_nan(self, activations):
        value, gradient = activations.meet_nan()
        assert value == 1000
        assert math.isnan(gradient)


class TestDepth:
    def test_prediction_by_hand(self, activations):
        """For ReLU half of the squares remain, and half of the slopes are 1."""
        scale, factor = activations.predicted_factor("ReLU")
        assert scale == pytest.approx(2**0.5, rel=1e-3)
        assert factor == pytest.approx(1, rel=1e-3)

    def test_gradients_shrink_as_predicted(self, activations):
        found = activations.vanish(width=100, depth=20, networks=3, seed=1)
        for name, tolerance in (("sigmoid", 0.01), ("tanh", 0.01), ("ReLU", 0.05), ("ELU", 0.02)):
            measured = 10 ** (found[name][0].item() / 20)
            assert measured == pytest.approx(activations.predicted_factor(name)[1], abs=tolerance), name
        assert found["sigmoid"][0] < -7
        assert all(abs(found[name][0]) < 2.5 for name in found if name != "sigmoid")
        assert (found["sigmoid"].diff() > 0).all() and found["sigmoid"][-1] == 0

    def test_dead_shares(self, activations):
        network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
        with torch.no_grad():
            network[0].weight.zero_()
            network[0].bias.copy_(torch.tensor([1.0, -1.0, 0.0, 2.0]))  # two of four get more than 0
            network[2].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))
            network[2].bias.zero_()
        assert activations.dead_shares(network, torch.randn(5, 2)) == [0.5, 0.5]


class TestLearning:
    def test_what_bends_learns_a_ring(self, activations):
        data, test = activations.ring(600, seed=10), activations.ring(600, seed=11)
        assert 0.45 < test[1].double().mean() < 0.55
        scores = {}
        for name, bend in (("none", nn.Identity()), ("ReLU", nn.ReLU()), ("GELU", nn.GELU())):
            networks = [activations.train(bend, 32, *data, steps=250, lr=0.01, seed=seed) for seed in range(2)]
            scores[name] = sum(activations.accuracy(network, *test) for network in networks) / 2
        assert scores["none"] < 0.65
        assert scores["ReLU"] > 0.88
        assert scores["GELU"] > 0.92

    def test_large_steps_kill(self, activations):
        data = activations.ring(300, seed=10)
        dead = {}
        for lr in (0.003, 0.3):
            networks = [activations.train(nn.ReLU(), 32, *data, steps=100, lr=lr, seed=seed) for seed in range(2)]
            dead[lr] = sum(activations.dead_shares(network, data[0])[-1] for network in networks) / 2
        assert dead[0.003] < 0.4 and dead[0.3] > 0.7

    def test_rates_are_chosen(self, activations, monkeypatch):
        monkeypatch.setattr(activations, "RATES", (1e-6, 0.01))  # the first learns nothing: it must not be chosen
        relu = {"ReLU": activations.ACTIVATIONS["ReLU"]}
        monkeypatch.setattr(activations, "ACTIVATIONS", relu)
        found = activations.compare_functions(width=32, steps=150, networks=1, seed=3)
        right, dead, _ = found["ReLU"]
        assert right.shape == (1,) and dead.shape == (2, 3)
        assert right.item() > 0.8 > 0.68 > found["none"][0].item()


class TestMain:
    def test_beats_a_network_without_a_bend(self, activations, monkeypatch):
        few = {name: activations.ACTIVATIONS[name] for name in ("sigmoid", "ReLU", "ELU")}
        monkeypatch.setattr(activations, "ACTIVATIONS", few)
        monkeypatch.setattr(activations, "RATES", (0.01, 0.1))
        results = activations.main(width=24, depth=15, steps=150, networks=1, seed=0)
        assert results["accuracy"] > 0.8 > 0.7 > results["baseline_accuracy"] >= 0.5
        assert results["difference"] < 1e-9
        assert results["sigmoid_left"] < 1e-5

    def test_check_notices_an_untrained_network(self, activations, monkeypatch):
        few = {name: activations.ACTIVATIONS[name] for name in ("sigmoid", "ReLU", "ELU")}
        monkeypatch.setattr(activations, "ACTIVATIONS", few)
        with pytest.raises(LessonError, match="steps"):
            activations.main(width=24, depth=5, steps=1, networks=1, seed=0)
