"""Project 2 measures what it says, with a network whose answers are known beforehand."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from project2_cifar10 import evaluate
from project2_cifar10.model import make_model
from utils import datasets, evaluation, paths
from utils.batches import to_pixels
from utils.checkpoint import save_model
from utils.datasets import ImageData, Images
from utils.lesson import LessonError

CPU = torch.device("cpu")
CLASSES = ["red", "green", "blue"]
ABOUT = {"name": "small", "classes": CLASSES, "source": "sample: three colours", "accuracy": 0.9, "seed": 0}


class Colours(nn.Module):
    """Says which colour a picture has most of; its maps are the three colours."""

    def __init__(self, certainty: float = 20.0):
        super().__init__()
        self.last_maps = nn.Conv2d(3, 3, 1, bias=False)
        self.last_maps.weight.data = certainty * torch.eye(3).view(3, 3, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.last_maps(pixels).mean(dim=(2, 3))


def coloured(count: int, noise: int = 60, seed: int = 0) -> Images:
    """Grey pictures with noise, in which one colour is a little stronger than the others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = 100 + noise * (torch.rand(count, 3, 32, 32, generator=generator) - 0.5)
    strength = 40 * torch.rand(count, 1, 1, 1, generator=generator) - 4  # some are of another colour than they are called
    images += strength * F.one_hot(labels, 3).view(count, 3, 1, 1)
    return Images(images.round().to(torch.uint8), labels)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return ImageData(coloured(30), coloured(90, seed=1), CLASSES, ABOUT["source"], is_real=False)


class TestMoving:
    @pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-2, 3), (0, -4)])
    def test_whole_pixels_with_a_mirrored_edge(self, down, right):
        pixels = torch.rand(2, 3, 8, 9)
        moved = evaluate.moved(pixels, down, right)
        for row in range(8):
            for column in range(9):
                from_row, from_column = abs(row - down), abs(column - right)  # -1 is 1
                from_row, from_column = 7 - abs(7 - from_row), 8 - abs(8 - from_column)  # 8 is 6
                assert torch.equal(moved[..., row, column], pixels[..., from_row, from_column])

    @pytest.mark.parametrize("count", [1, 3, 9])
    def test_in_turn(self, count):
        pixels = torch.rand(count, 3, 8, 8)
        moved = evaluate.moved_in_turn(pixels, 2)
        for i, way in enumerate(([2, 0], [-2, 0], [0, 2], [0, -2]) * 3):
            if i < count:
                assert torch.equal(moved[i : i + 1], evaluate.moved(pixels[i : i + 1], *way))


class TestMeasure:
    def test_counts(self, data):
        results = evaluate.measure(Colours(), data, CPU, tta=False)
        predicted = data.test.images.float().mean(dim=(2, 3)).argmax(dim=1)
        right = (predicted == data.test.labels).sum().item()
        assert 60 < right < 90
        assert results["accuracy"] == results["accuracy_without_tta"] == pytest.approx(right / 90)
        assert (results["mistakes"], results["test_images"]) == (90 - right, 90)
        probabilities = Colours()(to_pixels(data.test.images)).detach().softmax(dim=1)
        error = evaluation.expected_calibration_error(probabilities, data.test.labels)
        assert results["calibration_error"] == pytest.approx(error, abs=1e-6)
        assert results["baseline_accuracy"] == datasets.nearest_mean_accuracy(data.train, data.test)

    def test_augmentation_is_the_mean_of_six_looks(self, data):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 3)).eval()
        some = data.test.images[:7]
        logits = evaluation.look(model, some, CPU, evaluate.views(tta=True))
        assert logits.shape == (6, 7, 3)
        pixels = to_pixels(some)
        with torch.no_grad():

            def both(x: Tensor) -> Tensor:
                return (model(x) + model(x.flip(3))) / 2

            up_left, down_right = (F.pad(pixels, (1, 1, 1, 1), mode="reflect")[..., s, s] for s in (slice(2, 34), slice(0, 32)))
            expected = both(pixels) / 2 + (both(up_left) + both(down_right)) / 4
        torch.testing.assert_close(evaluate.mean_logits(logits), expected)
        torch.testing.assert_close(evaluate.mean_logits(logits[:1]), logits[0])

    def test_robustness_falls_with_noise_and_not_with_shifts_of_a_colour(self, data):
        found = evaluate.robustness(Colours(), data.test, CPU)
        plain = evaluate.measure(Colours(), data, CPU, tta=False)["accuracy"]
        assert list(found["noise"]) == list(evaluate.NOISE) and list(found["shift"]) == list(evaluate.SHIFTS)
        assert found["noise"][0] == found["shift"][0] == plain
        assert found["noise"][0.3] < plain  # the mean of 1024 pixels bears it, but not that they are cut off at 0 and 1
        assert min(found["shift"].values()) > plain - 0.05

    def test_temperature_is_fitted_on_other_images(self):
        """Each half of the images gets what fits the other half."""
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(2000, 3, generator=generator)
        labels = torch.multinomial((logits / 2).softmax(dim=1), 1, generator=generator)[:, 0]
        probabilities, temperature = evaluate.with_temperature(logits, labels)
        assert temperature == pytest.approx(2, rel=0.1)
        # the difference of two logits, over the difference of their log probabilities, is the temperature that was used
        used = (logits[:, 0] - logits[:, 1]).double() / (probabilities[:, 0].double() / probabilities[:, 1]).log()
        first = (used - used.quantile(0.25)).abs() < (used - used.quantile(0.75)).abs()
        assert first.sum() == 1000
        for half in (first, ~first):
            expected = evaluation.fit_temperature(logits[~half], labels[~half])
            assert used[half].median().item() == pytest.approx(expected, abs=1e-3)
        one = evaluate.temperature_for(Colours(), coloured(300), CPU)
        logits = evaluation.look(Colours(), coloured(300).images, CPU, [to_pixels])[0]
        assert one == pytest.approx(evaluation.fit_temperature(logits, coloured(300).labels))

    def test_strangers_are_small_pictures_and_the_same_every_time(self):
        first, again = evaluate.strangers(5), evaluate.strangers(5)
        for name, images in first.items():
            assert (images.shape, images.dtype) == ((5, 3, 32, 32), torch.uint8)
            assert torch.equal(images, again[name]) and images.float().std() > 10


class TestCommand:
    @pytest.fixture
    def saved(self):
        torch.manual_seed(0)
        path = paths.models("project2_cifar10") / "model.pt"
        network = make_model("small", classes=3, mean=(0.1, 0.2, 0.3))
        save_model(path, network, **ABOUT, temperature=0.5)
        return path, network.eval()

    def test_loads_what_was_saved(self, saved):
        path, network = saved
        for again, about in (evaluate.load_network(None, CPU), evaluate.load_network(path, CPU)):
            assert about == {**ABOUT, "temperature": 0.5}
            assert not again.training
            pixels = torch.rand(2, 3, 32, 32)
            with torch.no_grad():
                torch.testing.assert_close(again(pixels), network(pixels))

    def test_network_without_a_temperature_is_taken_as_it_is(self, saved):
        save_model(saved[0], saved[1], **ABOUT)
        assert evaluate.load_network(None, CPU)[1]["temperature"] == 1

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run cifar10"):
            evaluate.main(device="cpu")

    def test_says_what_another_projects_file_lacks(self, saved):
        save_model(saved[0], saved[1], classes=CLASSES)
        with pytest.raises(LessonError, match="does not say its name, source, accuracy"):
            evaluate.load_network(None, CPU)

    def test_unknown_network_is_one_sentence(self, saved):
        save_model(saved[0], saved[1], **{**ABOUT, "name": "huge"})
        with pytest.raises(LessonError, match="huge"):
            evaluate.load_network(None, CPU)

    def test_other_classes_than_the_data(self, saved, data, monkeypatch):
        other = ImageData(data.train, data.test, ["cyan", "magenta", "yellow"], "CIFAR-10", is_real=True)
        monkeypatch.setattr(datasets, "cifar10", lambda *_: other)
        with pytest.raises(LessonError, match="red, green, blue; the test images are of cyan.*--source sample"):
            evaluate.main(device="cpu", figures=False)

    def test_measures_the_saved_network(self, saved, data, monkeypatch, capsys):
        monkeypatch.setattr(datasets, "cifar10", lambda *_: ImageData(data.train, data.test[:9], CLASSES, data.source, False))
        results = evaluate.main(device="cpu", figures=False, tta=False)
        with torch.no_grad():
            right = saved[1](to_pixels(data.test.images[:9])).argmax(dim=1) == data.test.labels[:9]
        assert results["accuracy"] == pytest.approx(right.float().mean().item())
        assert "trained on: sample: three colours" in capsys.readouterr().out

    def test_draws_everything(self, data, monkeypatch):
        monkeypatch.setattr(evaluate, "NOISE", (0.0, 0.1))
        monkeypatch.setattr(evaluate, "SHIFTS", (0, 2))
        few = ImageData(data.train, data.test[:40], CLASSES, data.source, is_real=False)
        evaluate.draw_everything(Colours(), few, CPU)
        names = ["calibration", "class_accuracy", "confusion_matrix", "grad_cam", "robustness", "strangers", "worst_mistakes"]
        written = sorted(paths.outputs("project2_cifar10").glob("*.png"))
        assert [path.stem for path in written] == names
        assert all(plt.imread(path).std() > 0.01 for path in written)
        assert plt.get_fignums() == []

    def test_network_without_mistakes_can_be_drawn(self):
        labels = torch.arange(6) % 3
        logits = 20 * F.one_hot(labels, 3).float()
        figure = evaluate.draw_strangers(Colours(), logits, labels, CPU)
        titles = [axis.get_title(loc="left") for axis in figure.axes]
        assert titles[0].endswith("median 100%") and titles[1].endswith("median -")
        assert all(not math.isnan(float(title[-3:-1])) for title in titles[2:])  # the AUROC
        plt.close(figure)
