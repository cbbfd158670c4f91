"""The multi-layer perceptron: backpropagation by hand is autograd's, and the network reads digits of other writers."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils.datasets import mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def mlp():
    return lesson("02_neural_networks/mlp")


@pytest.fixture(scope="module")
def digits():
    """The sample as pixels from 0 to 1: (images, labels) to train on, and to test on."""
    data = mnist("sample")
    return [(part.images.float() / 255, part.labels) for part in (data.train, data.test)]


def right(model, images, labels) -> float:
    with torch.no_grad():
        return (model(images).argmax(dim=1) == labels).float().mean().item()


class TestByHand:
    def test_trains_as_autograd_does(self, mlp):
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(300, 12, generator=generator, dtype=torch.float64)
        labels = (x[:, :10]).argmax(dim=1)
        losses, difference = mlp.compare_ways(x, labels, hidden=16, steps=60, lr=0.5, seed=1)
        assert difference < 1e-10
        torch.testing.assert_close(losses[:, 0], losses[:, 1], rtol=0, atol=1e-10)
        assert losses[-10:, 0].mean() < 0.7 * losses[0, 0]  # equal, and it learns

    def test_any_number_of_layers(self, mlp):
        """Four linear layers: nothing in a layer depends on where it stands."""
        generator = torch.Generator().manual_seed(2)
        x, labels = torch.randn(9, 5, generator=generator).double(), torch.randint(3, (9,), generator=generator)
        theirs = mlp.mlp([5, 7, 6, 4, 3], seed=2).double()
        ours = [parameter.detach().clone() for parameter in theirs.parameters()]
        layers = []
        for i in range(0, 8, 2):
            layers += [mlp.LinearByHand(*ours[i : i + 2]), mlp.ReLUByHand()]
        loss = mlp.step_by_hand(layers[:-1], x, labels, lr=0.3)
        expected = F.cross_entropy(theirs(x), labels)
        expected.backward()
        assert loss == pytest.approx(expected.item(), abs=1e-12)
        for parameter, other in zip(ours, theirs.parameters(), strict=True):
            torch.testing.assert_close(parameter, (other - 0.3 * other.grad).detach(), rtol=0, atol=1e-12)

    def test_gradient_of_the_input(self, mlp):
        layer = mlp.LinearByHand(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.zeros(3))
        assert layer.forward(torch.tensor([[1.0, 1.0]])).tolist() == [[3, 7, 11]]
        assert layer.backward(torch.tensor([[1.0, 0.0, -1.0]])).tolist() == [[-4, -4]]


class TestModule:
    def test_layers_and_free_logits(self, mlp):
        model = mlp.mlp([4, 8, 8, 3], seed=0)
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        assert shapes == [(8, 4), (8,), (8, 8), (8,), (3, 8), (3,)]
        x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        logits = model(x)
        assert (logits.min(dim=0).values < 0).any()  # a ReLU after the logits would leave nothing below 0
        assert (model(x) + model(-x) - 2 * model(torch.zeros(1, 4))).abs().max() > 0.01  # without the bends this is 0

    def test_error_is_the_one_everyone_meets(self, mlp):
        assert "empty parameter list" in mlp.forget_the_layers()


class TestWarp:
    def test_nothing_and_a_little(self, mlp, digits):
        (images, _), _ = digits
        generator = torch.Generator().manual_seed(0)
        torch.testing.assert_close(mlp.warped(images[:20], 0.0, generator), images[:20], rtol=0, atol=1e-4)
        changed = mlp.warped(images[:20], 1.0, generator)
        assert changed.shape == (20, 1, 28, 28)
        moved = centre(changed) - centre(images[:20])
        assert moved.abs().max() < 2 + 0.2 * 2 * 3  # two pixels, and what turning adds near the middle
        assert moved.std() > 0.5
        again = mlp.warped(images[:1].expand(5, -1, -1, -1), 1.0, generator)
        assert not torch.equal(again[0], again[1])  # each picture in its own way

    @pytest.mark.slow  # twelve seconds of CPU: differences of a per cent need several whole trainings
    def test_helps_with_other_writers(self, mlp, digits):
        (x, labels), test = digits
        found = {}
        for warp in (0.0, 0.7):
            scores = []
            for seed in range(3):
                model = mlp.mlp([784, 64, 64, 10], seed)
                mlp.train(model, x, labels, steps=600, lr=3e-3, warp=warp, seed=seed)
                scores.append(right(model, *test))
            found[warp] = torch.tensor(scores)
        assert found[0.7].mean() > found[0.0].mean() + 0.01


def centre(images: torch.Tensor) -> torch.Tensor:
    """The centre of the ink of each picture (n, 1, 28, 28), in pixels: (n, 2)."""
    ink = images.squeeze(1)
    places = torch.arange(28.0)
    weight = ink.sum(dim=(1, 2))
    return torch.stack([ink.sum(dim=1) @ places / weight, ink.sum(dim=2) @ places / weight], dim=1)


class TestLearning:
    def test_starts_at_guessing_and_learns(self, mlp, digits):
        (x, labels), test = digits
        model = mlp.mlp([784, 64, 64, 10], seed=0)
        losses = mlp.train(model, x, labels, steps=200, lr=5e-3, warp=0.0, seed=0)
        assert losses[0] == pytest.approx(math.log(10), abs=0.1)
        assert sum(losses[-20:]) / 20 < 0.05  # softmax before cross_entropy would stay above 1.46
        assert right(model, *test) > 0.88

    def test_sizes(self, mlp, digits, monkeypatch):
        (x, labels), _ = digits
        monkeypatch.setattr(mlp, "WIDTHS", [(2,), (32,)])
        monkeypatch.setattr(mlp, "DEPTHS", [(), (32,)])
        monkeypatch.setattr(mlp, "RATES", (0.0, 1e-2))  # the first trains nothing: it must not be chosen
        found = mlp.compare_sizes((x[:-287], labels[:-287]), (x[-287:], labels[-287:]), steps=100, networks=2, seed=0)
        assert list(found) == [(2,), (32,), ()]
        assert all(scores.shape == (2,) for scores in found.values())
        assert found[(2,)].mean() < 0.6 < 0.85 < found[(32,)].mean()  # ten digits do not fit through two numbers so quickly
        assert found[()].mean() > 0.85


class TestMain:
    def test_reads_digits_of_other_writers(self, mlp, monkeypatch):
        monkeypatch.setattr(mlp, "WIDTHS", [(8,)])
        monkeypatch.setattr(mlp, "DEPTHS", [()])
        results = mlp.main(
            hidden=64, steps=250, lr=5e-3, warp=0.3, networks=1, sweep_steps=5, source="sample", device="cpu", seed=0
        )
        assert results["weights_difference"] < 1e-6
        assert results["baseline_accuracy"] == pytest.approx(0.839, abs=0.002)
        assert results["accuracy"] > 0.91
        assert {"width_8", "depth_0"} <= set(results)

    def test_check_notices_an_untrained_network(self, mlp, monkeypatch):
        monkeypatch.setattr(mlp, "WIDTHS", [(8,)])
        monkeypatch.setattr(mlp, "DEPTHS", [()])
        with pytest.raises(LessonError, match="steps"):
            mlp.main(hidden=8, steps=1, lr=5e-3, warp=0.0, networks=1, sweep_steps=1, source="sample", device="cpu", seed=0)


@pytest.mark.slow  # the whole training: 13 s of CPU on the sample, and as long on MNIST
@pytest.mark.parametrize("source", ["sample", pytest.param("real", marks=pytest.mark.real_data("mnist"))])
def test_keeps_its_promise(mlp, monkeypatch, source):
    monkeypatch.setattr(mlp, "WIDTHS", [(8,)])
    monkeypatch.setattr(mlp, "DEPTHS", [()])
    results = mlp.main(hidden=256, steps=2500, lr=3e-3, warp=0.7, networks=1, sweep_steps=1, source=source, device="cpu", seed=0)
    assert results["accuracy"] >= {"sample": 0.95, "real": 0.983}[source]
