"""utils.evaluation: numbers that can be counted by hand, and Grad-CAM for any network."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torch import nn

from utils import evaluation
from utils.datasets import Images

CPU = torch.device("cpu")


@pytest.fixture
def network() -> nn.Module:
    """Two convolutions with batch norms and a ReLU that works in place, and pooling; random weights."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    return model.eval()


def answers(count: int = 4000, classes: int = 5, sharpness: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a network that knows exactly how sure it is (sharpness 1), or believes to know more (above 1)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return sharpness * logits, labels


def test_measuring_batches_are_plain():
    images = torch.randint(0, 256, (25, 3, 4, 4), dtype=torch.uint8)
    batches = evaluation.plain_batches(Images(images, torch.arange(25)), CPU, batch_size=10)
    pixels, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    torch.testing.assert_close(pixels, images / 255)
    assert labels.tolist() == list(range(25)) and len(batches) == 3


class TestLook:
    def test_does_not_depend_on_the_company_and_leaves_the_network_as_it_was(self, network):
        images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
        network.train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        views = [lambda batch: batch.float() / 255, lambda batch: batch.float().flip(3) / 255]
        together, in_threes = (evaluation.look(network, images, CPU, views, batch_size=size) for size in (10, 3))
        assert together.shape == (2, 10, 4)
        torch.testing.assert_close(together, in_threes)
        assert network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        network.eval()
        with torch.no_grad():
            torch.testing.assert_close(together[1], network(images.flip(3).float() / 255))


class TestGradCam:
    @pytest.mark.parametrize("layer", [1, 2, 4, 5, 6], ids=lambda index: f"layer {index}")
    def test_is_its_definition_at_any_layer(self, network, layer):
        """A ReLU that works in place overwrites what the layer before it gave; that must not reach what was kept."""
        pixels, classes = torch.rand(3, 3, 8, 8), torch.tensor([0, 3, 1])
        found = evaluation.grad_cam(network, network[layer], pixels, classes)
        for i, one in enumerate(classes.tolist()):
            maps = network[: layer + 1](pixels[i : i + 1]).detach().clone().requires_grad_()
            network[layer + 1 :](maps.clone())[0, one].backward()
            heat = sum(maps.grad[0, k].mean() * maps.detach()[0, k] for k in range(maps.shape[1])).clamp_min(0)
            heat = F.interpolate(heat[None, None], size=(8, 8), mode="bilinear")[0, 0]
            torch.testing.assert_close(found[i], heat / heat.max().clamp_min(1e-8))

    def test_finds_what_it_is_asked_for(self):
        """A network that looks for red (class 0) and for blue (class 1)."""
        colours = nn.Conv2d(3, 2, 1, bias=False)
        colours.weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).view(2, 3, 1, 1)
        network = nn.Sequential(colours, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        picture = torch.zeros(1, 3, 8, 8)
        picture[0, 0, :4], picture[0, 2, 4:] = 1, 1  # red above, blue below
        red, blue = evaluation.grad_cam(network, colours, picture.repeat(2, 1, 1, 1), torch.tensor([0, 1]))
        assert torch.equal(red, picture[0, 0]) and torch.equal(blue, picture[0, 2])

    def test_nothing_speaks_for_it(self):
        network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        nn.init.zeros_(network[0].weight)
        nn.init.constant_(network[0].bias, -1)
        assert evaluation.grad_cam(network, network[1], torch.rand(1, 3, 4, 4), torch.tensor([0])).abs().max() == 0

    @pytest.mark.parametrize("frozen", [False, True])
    def test_leaves_nothing_behind(self, network, frozen):
        network.requires_grad_(not frozen)
        with torch.no_grad():  # as in a server
            heat = evaluation.grad_cam(network, network[4], torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
        assert heat.max() == 1 and not heat.requires_grad
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not network[4]._forward_hooks

    def test_network_that_was_compiled(self, network, monkeypatch):
        pixels, classes = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
        expected = evaluation.grad_cam(network, network[4], pixels, classes)
        monkeypatch.setattr(network, "_compiled_call_impl", lambda *_: pytest.fail("compiled code knows no hooks"))
        torch.testing.assert_close(evaluation.grad_cam(network, network[4], pixels, classes), expected)

    def test_layer_that_has_no_maps(self, network):
        for layer in (network[9], nn.Conv2d(1, 1, 1)):
            with pytest.raises(ValueError, match="runs once and gives"):
                evaluation.grad_cam(network, layer, torch.rand(1, 3, 8, 8), torch.tensor([0]))
        assert not network[9]._forward_hooks


class TestRightAndWrong:
    def test_confusion_matrix_is_scikit_learns(self):
        logits, labels = answers(200)
        predicted = logits.argmax(dim=1)
        assert evaluation.confusion_matrix(predicted, labels, 5).tolist() == sklearn_confusion(labels, predicted).tolist()

    def test_class_accuracy(self):
        """8 of 10 right: Wilson's interval is 0.490 to 0.943 (Brown, Cai and DasGupta, 2001, formula 4)."""
        labels = torch.tensor([0] * 10 + [2] * 4)
        predicted = torch.tensor([0] * 8 + [1] * 2 + [2] * 4)
        share, low, high = evaluation.class_accuracy(predicted, labels, 3)
        assert share[0] == 0.8 and share[1].isnan() and share[2] == 1
        assert (low[0].item(), high[0].item()) == pytest.approx((0.490, 0.943), abs=1e-3)
        assert high[2].item() == pytest.approx(1) and low[2].item() == pytest.approx(4 / (4 + 1.96**2))

    def test_worst_mistakes_come_first(self):
        probabilities = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]])
        labels = torch.tensor([0, 0, 0, 1])
        assert evaluation.worst_mistakes(probabilities, labels).tolist() == [2, 1, 3]
        assert evaluation.worst_mistakes(probabilities, labels, most=1).tolist() == [2]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_figures_of_classes_with_names(self, channels):
        classes = ["airplane", "automobile", "cat"]
        images = torch.randint(0, 256, (6, channels, 8, 8), dtype=torch.uint8)
        test = Images(images, torch.tensor([0, 0, 0, 1, 1, 2]))
        found = F.one_hot(torch.tensor([0, 1, 1, 1, 1, 2]), 3).float()
        figure = evaluation.draw_worst_mistakes(test, found, classes)
        titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
        assert titles == ["airplane\n→ automobile\n100%"] * 2
        bars = evaluation.draw_class_accuracy(found.argmax(dim=1), test.labels, classes)
        notes = sorted(text.get_text() for text in bars.axes[0].texts)
        assert notes == ["100.0%", "100.0%", "33.3% → automobile 66.7%"]
        matrix = evaluation.draw_confusion(found.argmax(dim=1), test.labels, classes)
        assert [text.get_text() for text in matrix.axes[0].get_xticklabels()] == classes
        plt.close("all")


class TestCalibration:
    def test_bins_by_hand(self):
        probabilities = torch.tensor([[0.2, 0.8], [0.9, 0.1], [0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
        labels = torch.tensor([1, 1, 0, 0])
        count, certain, right = evaluation.calibration_bins(probabilities, labels, bins=4)
        assert count.tolist() == [0, 1, 1, 2]  # 0.5 belongs to (0.25, 0.5], 0.75 to (0.5, 0.75]
        assert certain.tolist() == pytest.approx([0, 0.5, 0.75, 0.85])
        assert right.tolist() == [0, 1, 1, 0.5]
        error = evaluation.expected_calibration_error(probabilities, labels, bins=4)
        assert error == pytest.approx((1 * 0.5 + 1 * 0.25 + 2 * 0.35) / 4)

    def test_one_bin_compares_the_means(self):
        logits, labels = answers()
        probabilities = logits.softmax(dim=1)
        accuracy = (logits.argmax(dim=1) == labels).double().mean()
        gap = (probabilities.double().max(dim=1).values.mean() - accuracy).abs().item()
        assert evaluation.expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(gap)

    @pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
    def test_temperature_undoes_what_was_done(self, sharpness):
        logits, labels = answers(sharpness=sharpness)
        temperature = evaluation.fit_temperature(logits, labels)
        assert temperature == pytest.approx(sharpness, rel=0.1)
        new_logits, new_labels = answers(sharpness=sharpness, seed=1)
        before, after = (
            evaluation.expected_calibration_error((new_logits / t).softmax(dim=1), new_labels) for t in (1.0, temperature)
        )
        assert after < 0.03
        assert sharpness == 1 or after < before / 3
        assert (new_logits / temperature).argmax(dim=1).equal(new_logits.argmax(dim=1))

    def test_temperature_is_the_lowest_cross_entropy(self):
        logits, labels = answers(300, sharpness=2.0)
        temperature = evaluation.fit_temperature(logits, labels)

        def loss(t: float) -> float:
            return F.cross_entropy(logits.double() / t, labels).item()

        assert loss(temperature) <= min(loss(temperature * factor) for factor in (0.98, 1.02))

    def test_temperature_stays_finite_where_all_is_right(self):
        labels = torch.arange(4)
        assert 0.05 <= evaluation.fit_temperature(5 * torch.eye(4), labels) < 0.2

    def test_figure_says_the_error(self):
        logits, labels = answers(500)
        probabilities = logits.softmax(dim=1)
        figure = evaluation.draw_reliability({"before": probabilities, "after": probabilities}, labels)
        error = evaluation.expected_calibration_error(probabilities, labels)
        assert [axis.get_title() for axis in figure.axes] == [
            f"{name}\nexpected calibration error {error:.1%}" for name in ("before", "after")
        ]
        plt.close(figure)


def test_embedding_keeps_groups_together():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = 8 * F.one_hot(labels, 5).float() + torch.randn(60, 5, generator=generator)
    figure = evaluation.draw_embedding(features, labels, ["a", "b", "c"])
    points = torch.tensor(figure.axes[0].collections[0].get_offsets().data)
    nearest = torch.cdist(points, points).fill_diagonal_(math.inf).argmin(dim=1)
    assert (labels[nearest] == labels).float().mean() > 0.95
    plt.close(figure)
