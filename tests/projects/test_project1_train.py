"""Project 1 learns, and measures, draws and saves what it says."""

import contextlib
import functools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from project1_mnist import evaluate, train
from project1_mnist.data import mean_and_std, shift, shifted_pixels, training_batches
from project1_mnist.model import Net
from utils import checkpoint, datasets, paths
from utils.batches import to_pixels
from utils.datasets import ImageData, Images
from utils.lesson import LessonError

CPU = torch.device("cpu")

# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    source="sample",
    preset="fast",
    epochs=8,
    batch_size=64,
    lr=0.1,
    shift=2,
    seed=0,
    device="cpu",
    tta=True,
    resume=False,
    figures=False,
)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return datasets.mnist("sample")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        return main(), paths.models("project1_mnist")


@pytest.fixture
def network(trained) -> Net:
    model = Net()
    checkpoint.load_model(trained[1] / "model.pt", model)
    return model.eval()


@pytest.fixture
def untrained() -> Net:
    torch.manual_seed(0)
    return Net()


class TestLearning:
    def test_reads_digits_it_has_never_seen(self, trained):
        results, _ = trained
        assert results["accuracy"] >= 0.95
        assert results["validation_accuracy"] >= 0.95
        assert results["baseline_accuracy"] == pytest.approx(0.839, abs=0.001)
        assert results["mistakes"] == round(360 * (1 - results["accuracy"]))
        assert results["test_images"] == 360

    def test_check_notices_a_network_that_learned_nothing(self):
        with pytest.raises(LessonError, match="hardly better than the nearest mean"):
            main(epochs=1, lr=1e-6)

    def test_shift_is_refused_where_it_leaves_nothing_of_the_picture(self):
        with pytest.raises(LessonError, match="--shift 28"):
            main(shift=28)

    @pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"epochs": 0}, {"batch_size": 0}, {"lr": -0.1}])
    def test_zero_is_refused_and_not_taken_for_the_default(self, wrong):
        with pytest.raises(LessonError, match="must be above 0"):
            main(**wrong)

    def test_loss_that_blows_up_is_one_sentence(self):
        with pytest.raises(LessonError, match="smaller learning rate|hardly better"):
            main(epochs=1, lr=1e9)

    def test_same_seed_same_network_interrupted_or_not(self, trained, press_ctrl_c):
        torch.rand(7)  # whatever was drawn before
        with press_ctrl_c(train, "smoothed_loss", 30), pytest.raises(KeyboardInterrupt, match="--resume"):
            main()
        assert main(resume=True)["accuracy"] == trained[0]["accuracy"]
        again = checkpoint.load(paths.models("project1_mnist") / "model.pt")["model"]
        first = checkpoint.load(trained[1] / "model.pt")["model"]
        assert all(torch.equal(again[name], first[name]) for name in first)

    def test_resume_with_other_settings_is_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        with pytest.raises(LessonError, match=r"lr 0.1 \(now 0.2\)"):
            main(lr=0.2, resume=True)


class TestModel:
    def test_has_as_many_parameters_as_it_says(self, untrained):
        count = sum(parameter.numel() for parameter in untrained.parameters())
        assert f"{count:,} parameters" in Net.__doc__

    def test_gives_raw_logits(self, untrained, digits):
        """Nothing comes after the last linear layer. With a ReLU or a softmax there it would still learn, only worse."""
        pixels = to_pixels(digits.test.images[:50])
        untrained.eval()
        with torch.no_grad():
            before = untrained(pixels)
            assert before.min() < 0 < before.max()
            untrained.classifier.bias.sub_(100)
            torch.testing.assert_close(untrained(pixels), before - 100, atol=1e-3, rtol=0)

    def test_normalises_its_input(self, digits):
        mean, std = mean_and_std(digits.train.images)
        pixels = to_pixels(digits.train.images)
        assert (mean, std) == pytest.approx((pixels.mean().item(), pixels.std().item()), rel=1e-4)
        seen = []
        model = Net(mean, std)
        model.features[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model(pixels)
        assert seen[0].mean().item() == pytest.approx(0, abs=1e-3) and seen[0].std().item() == pytest.approx(1, abs=1e-3)

    def test_gradient_reaches_every_parameter(self, untrained, digits):
        train.smoothed_loss(untrained, (to_pixels(digits.train.images[:64]), digits.train.labels[:64])).backward()
        for name, parameter in untrained.named_parameters():
            assert parameter.grad.abs().max() > 0, name

    def test_is_loaded_as_it_was_saved(self, trained, digits):
        results, folder = trained
        model = Net()
        about = checkpoint.load_model(folder / "model.pt", model)
        measured = evaluate.measure(model, digits, CPU)
        assert measured["accuracy"] == results["accuracy"]
        assert measured["accuracy_without_tta"] == about["accuracy"]
        assert about["source"] == digits.source and about["classes"] == digits.classes


class TestRecipe:
    def test_loss_is_cross_entropy_of_softened_targets(self, untrained, digits):
        pixels, labels = to_pixels(digits.train.images[:32]), digits.train.labels[:32]
        targets = torch.full((32, 10), 0.01)
        targets[range(32), labels] = 0.91
        untrained.eval()
        expected = -(targets * untrained(pixels).log_softmax(dim=1)).sum(dim=1).mean()
        torch.testing.assert_close(train.smoothed_loss(untrained, (pixels, labels)), expected)

    def test_weight_decay_is_for_weights_only(self, untrained):
        optimizer = train.make_optimizer(untrained, lr=0.1)
        decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert len(decay) == len(list(untrained.parameters()))
        for name, parameter in untrained.named_parameters():
            matrix = isinstance(untrained.get_submodule(name.rpartition(".")[0]), (nn.Conv2d, nn.Linear)) and "weight" in name
            assert (decay[id(parameter)] > 0) == matrix, name

    def test_learning_rate_is_a_triangle(self, untrained):
        optimizer = train.make_optimizer(untrained, lr=0.4)
        scheduler = train.triangle(optimizer, steps=100, peak=0.25)
        rates = []
        for _ in range(100):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert 0 < rates[0] < 0.02 and 0 < rates[-1] < 0.01
        assert max(rates) == pytest.approx(0.4, rel=0.02) and 23 <= rates.index(max(rates)) <= 26
        assert rates[:24] == sorted(rates[:24]) and rates[26:] == sorted(rates[26:], reverse=True)
        assert optimizer.param_groups[0]["lr"] == 0


class TestData:
    @pytest.mark.parametrize("down", [-2, -1, 0, 2])
    @pytest.mark.parametrize("right", [-2, 0, 1, 2])
    def test_shift(self, digits, down, right):
        images = digits.train.images[:5].clone()
        images[:, :, 0, :], images[:, :, :, 27] = 200, 100  # something that leaves the picture
        moved = shift(images, down, right)
        rolled = torch.roll(images, (down, right), dims=(2, 3))
        rows, columns = slice(max(0, down), 28 + min(0, down)), slice(max(0, right), 28 + min(0, right))
        assert moved.shape == images.shape and moved.dtype == torch.uint8
        assert torch.equal(moved[:, :, rows, columns], rolled[:, :, rows, columns])
        outside = torch.ones(28, 28, dtype=torch.bool)
        outside[rows, columns] = False
        assert (moved[:, 0, outside] == 0).all()  # what left on one side does not come back on the other

    def test_every_direction_is_drawn(self):
        dot = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        dot[0, 0, 14, 14] = 255
        generator = torch.Generator().manual_seed(0)
        places = {tuple(shifted_pixels(dot, generator, most=2)[0, 0].nonzero()[0].tolist()) for _ in range(500)}
        assert places == {(row, column) for row in range(12, 17) for column in range(12, 17)}

    def test_training_batches_keep_picture_and_label_together(self, digits):
        label_of = {image.numpy().tobytes(): label.item() for image, label in zip(*vars(digits.train).values(), strict=True)}
        batches = training_batches(digits.train, 100, CPU, seed=0)
        moves = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
        seen = 0
        for pixels, labels in batches:
            images = (pixels * 255).round().to(torch.uint8)
            # All pictures of a batch are moved alike: back by the one move that gives pictures of the training set again.
            for down, right in moves:
                back = shift(images, -down, -right)
                if back[0].contiguous().numpy().tobytes() in label_of:
                    break
            found = [label_of.get(image.contiguous().numpy().tobytes()) for image in back]
            assert found == labels.tolist()
            seen += len(labels)
        assert seen == 1400  # the last 37 make no full batch

    def test_without_shift_pictures_stay_where_they_are(self, digits):
        known = {image.numpy().tobytes() for image in digits.train.images}
        pixels = torch.cat([pixels for pixels, _ in training_batches(digits.train, 100, CPU, seed=0, most=0)])
        images = (pixels * 255).round().to(torch.uint8)
        assert all(image.contiguous().numpy().tobytes() in known for image in images)


class TestMeasuring:
    def test_probabilities_do_not_depend_on_the_company(self, untrained, digits):
        """In training mode a batch norm would mix the pictures of a batch, and remember them."""
        untrained.train()
        before = {name: value.clone() for name, value in untrained.state_dict().items()}
        together = evaluate.probabilities(untrained, digits.test.images[:20], CPU)
        alone = torch.cat([evaluate.probabilities(untrained, image, CPU) for image in digits.test.images[:20].split(1)])
        torch.testing.assert_close(together, alone)
        torch.testing.assert_close(together.sum(dim=1), torch.ones(20))
        assert all(torch.equal(value, before[name]) for name, value in untrained.state_dict().items())

    def test_copies_are_averaged(self, network, digits):
        images = digits.test.images[:20]
        with torch.no_grad():
            moves = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
            copies = [network(to_pixels(shift(images, down, right))).softmax(1) for down, right in moves]
        torch.testing.assert_close(evaluate.probabilities(network, images, CPU), torch.stack(copies).mean(dim=0))
        torch.testing.assert_close(evaluate.probabilities(network, images, CPU, tta=False), copies[0])

    def test_one_look_without_test_time_augmentation(self, network, digits):
        with_tta, without = (evaluate.measure(network, digits, CPU, tta) for tta in (True, False))
        assert without["accuracy"] == without["accuracy_without_tta"] == with_tta["accuracy_without_tta"]
        assert with_tta["accuracy"] == pytest.approx(1 - with_tta["mistakes"] / 360)
        assert without["mistakes"] == round(360 * (1 - without["accuracy"]))

    def test_baseline_a_second_time(self, digits):
        train_images, test_images = (part.images.numpy().reshape(-1, 784).astype(float) for part in (digits.train, digits.test))
        means = {digit: train_images[digits.train.labels.numpy() == digit].mean(axis=0) for digit in range(10)}
        right = 0
        for image, label in zip(test_images, digits.test.labels.tolist(), strict=True):
            right += label == min(means, key=lambda digit: np.square(image - means[digit]).sum())
        assert evaluate.nearest_mean_accuracy(digits.train, digits.test) == pytest.approx(right / 360)

    def test_baseline_with_a_digit_missing(self):
        images = torch.tensor([0, 10, 100], dtype=torch.uint8).view(3, 1, 1, 1)
        some = Images(images, torch.tensor([2, 5, 9]))
        assert evaluate.nearest_mean_accuracy(some, some) == 1


class TestLookingInside:
    def test_grad_cam_a_second_time(self, network, digits):
        pixels, classes = to_pixels(digits.test.images[:6]), torch.tensor([0, 1, 2, 3, 4, 9])
        second_convolution = [layer for layer in network.features if isinstance(layer, nn.Conv2d)][1]
        heat = evaluate.grad_cam(network, second_convolution, pixels, classes)
        assert heat.shape == (6, 28, 28)
        assert heat.min() >= 0 and heat.max() <= 1

        for i, digit in enumerate(classes.tolist()):
            kept = []
            hook = second_convolution.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
            logit = network(pixels[i : i + 1])[0, digit]
            hook.remove()
            (gradient,) = torch.autograd.grad(logit, kept[0])
            expected = torch.zeros(kept[0].shape[2:])
            for one_map, its_gradient in zip(kept[0][0].detach(), gradient[0], strict=True):
                expected += its_gradient.mean() * one_map
            expected = F.interpolate(expected.clamp_min(0)[None, None], size=(28, 28), mode="bilinear")[0, 0]
            torch.testing.assert_close(heat[i], expected / expected.max().clamp_min(1e-8), atol=1e-4, rtol=1e-3)

    def test_grad_cam_leaves_no_gradients(self, network, digits):
        evaluate.grad_cam(network, network.features[4], to_pixels(digits.test.images[:2]), torch.tensor([0, 1]))
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_layer_by_layer_ends_where_the_network_does(self, network, digits):
        pixels = to_pixels(digits.test.images[:4])
        maps = evaluate.layer_by_layer(network, pixels)
        assert len(maps) == 3 and all(one.min() == 0 for one in maps.values())
        torch.testing.assert_close(network.classifier(list(maps.values())[-1].flatten(1)), network(pixels))


class TestFigures:
    NAMES = ("confusion_matrix", "worst_mistakes", "filters", "feature_maps", "grad_cam", "embedding")

    def test_training_draws_everything(self, digits, monkeypatch):
        few = ImageData(digits.train, digits.test[:120], digits.classes, digits.source, is_real=False)
        monkeypatch.setattr(datasets, "mnist", lambda *_, **__: few)  # t-SNE of few pictures is quick
        with contextlib.suppress(LessonError):  # one epoch may be too little to learn
            main(epochs=1, figures=True)
        for name in (*self.NAMES, "learning_curves"):
            assert plt.imread(paths.outputs("project1_mnist") / f"{name}.png").std() > 0.01, name
        assert plt.get_fignums() == []
        assert list((paths.outputs("project1_mnist") / "tensorboard").rglob("events*"))

    def test_evaluation_measures_what_training_saved(self, trained, capsys):
        results, folder = trained
        again = evaluate.main(model=folder / "model.pt", source="sample", device="cpu", figures=False)
        assert again["accuracy"] == results["accuracy"]
        assert "trained on: sample" in capsys.readouterr().out

    def test_evaluation_without_a_model_says_what_to_do(self):
        with pytest.raises(LessonError, match="no trained network yet: run `python -m study run mnist`"):
            evaluate.main(model=None, source="sample", device="cpu", figures=False)
        with pytest.raises(LessonError, match="other.pt does not exist"):
            evaluate.main(model=paths.models("project1_mnist") / "other.pt", source="sample", device="cpu", figures=False)

    def test_confusion_counts(self):
        labels, predicted = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
        figure = evaluate.draw_confusion(predicted, labels, ["a", "b", "c"])
        numbers = {tuple(map(int, text.get_position())): int(text.get_text()) for text in figure.axes[0].texts}
        assert numbers == {(0, 0): 1, (1, 0): 1, (1, 1): 1, (2, 2): 2, (0, 2): 1}  # (predicted, true)
        assert figure.axes[0].get_title().startswith("2 mistakes in 6")
        plt.close(figure)

    def test_worst_mistakes_come_first(self, digits):
        found = F.one_hot(digits.test.labels, 10).float()
        first, second = digits.test.labels[3].item(), digits.test.labels[8].item()
        found[3] = F.one_hot(torch.tensor((first + 1) % 10), 10) * 0.6
        found[8] = F.one_hot(torch.tensor((second + 1) % 10), 10) * 0.9
        figure = evaluate.draw_worst_mistakes(digits.test, found, digits.classes)
        titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
        assert titles == [f"{second} → {(second + 1) % 10}  90%", f"{first} → {(first + 1) % 10}  60%"]
        plt.close(figure)

    def test_network_without_mistakes_can_be_drawn(self, digits):
        figure = evaluate.draw_worst_mistakes(digits.test, F.one_hot(digits.test.labels, 10).float(), digits.classes)
        plt.close(figure)


@pytest.mark.real_data("mnist")
class TestRealMnist:
    def test_learns_from_a_part_of_it(self, monkeypatch):
        real = datasets.mnist("real")
        part = ImageData(real.train[:6000], real.test[:2000], real.classes, real.source, is_real=True)
        monkeypatch.setattr(datasets, "mnist", lambda *_, **__: part)
        results = main(source="real", epochs=2)
        assert results["accuracy"] > 0.95 > 0.85 > results["baseline_accuracy"]
