"""Regularization: the parts are PyTorch's, a network without a cure overfits, and every cure helps."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils.datasets import Images, hold_out, mnist
from utils.lesson import LessonError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def regularization():
    return lesson("02_neural_networks/regularization")


@pytest.fixture(scope="module")
def digits(regularization):
    """A hundred digits with a fifth of the labels wrong, and 300 held out with right ones."""
    pool, held_out = hold_out(mnist("sample").train, 300)
    few = regularization.as_examples(regularization.draw_examples(pool, 100, 0.2, seed=0), CPU)
    return few, regularization.as_examples(held_out, CPU)


class TestExamples:
    def test_every_four_pixels_become_their_average(self, regularization):
        images = torch.arange(784, dtype=torch.float32).remainder(256).to(torch.uint8).view(1, 1, 28, 28)
        x, labels = regularization.as_examples(Images(images, torch.tensor([3])), CPU)
        assert x.shape == (1, 196)
        assert x[0, 0].item() == pytest.approx((0 + 1 + 28 + 29) / 4 / 255)
        assert labels.tolist() == [3]

    def test_labels_are_wrong_as_often_as_asked(self, regularization):
        pool = mnist("sample").train
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(5))[:1000]
        for noise in (0.0, 0.3, 1.0):
            drawn = regularization.draw_examples(pool, 1000, noise, seed=5)
            assert torch.equal(drawn.images, pool.images[order])
            wrong = drawn.labels != pool.labels[order]
            assert wrong.float().mean().item() == pytest.approx(noise, abs=0.05)
            assert 0 <= drawn.labels.min() and drawn.labels.max() <= 9


def test_weight_decay_is_torchs_and_a_penalty_is_not_adamws(regularization):
    found = regularization.compare_weight_decay(decay=0.5)
    assert found["penalty", "SGD"] < 1e-12
    assert found["shrink", "SGD"] < 1e-12
    assert found["shrink", "AdamW"] < 1e-12
    assert found["penalty", "AdamW"] > 0.1


class TestDropout:
    def test_is_torchs(self, regularization):
        difference, of_mean, in_eval = regularization.compare_dropout(seed=0, p=0.3, times=4000)
        assert difference < 1e-6
        assert of_mean < 0.05
        assert in_eval == 0

    @pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
    def test_drops_a_share_and_scales_the_rest(self, regularization, p):
        torch.manual_seed(0)
        out = regularization.Dropout(p)(torch.ones(20_000))
        assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.02)
        torch.testing.assert_close(out[out > 0], torch.full(((out > 0).sum(),), 1 / (1 - p)))

    def test_gradient_goes_where_the_number_went(self, regularization):
        x = torch.ones(100, requires_grad=True)
        torch.manual_seed(0)
        out = regularization.Dropout(0.4)(x)
        out.sum().backward()
        assert torch.equal(x.grad, out.detach())


@pytest.fixture(scope="module")
def plain(regularization, digits):
    """A network without a cure."""
    return regularization.train(*digits, steps=400, lr=0.003, seed=0)


class TestTraining:
    def test_without_a_cure_it_learns_by_heart(self, regularization, digits, plain):
        network, losses, training, validation = plain
        assert losses.shape == (20, 2)
        assert training > 0.97
        assert validation < 0.8
        assert losses[-1, 1] > 1.2 * losses[:, 1].min()  # the validation loss went up again
        assert regularization.evaluate(network, *digits[0])[0] == pytest.approx(
            losses[-1, 0].item(), rel=1e-5
        )  # the last weights

    def test_early_stopping_goes_back_to_the_best_weights(self, regularization, digits, plain):
        network, losses, training, validation = regularization.train(*digits, steps=400, lr=0.003, seed=0, patience=3)
        best = losses[:, 1].argmin().item()
        assert len(losses) == best + 4 < 20  # three measurements without a new best, then the end
        torch.testing.assert_close(losses, plain[1][: len(losses)])  # it changes when to stop, and nothing else
        loss, accuracy = regularization.evaluate(network, *digits[1])
        assert loss == pytest.approx(losses[best, 1].item(), rel=1e-5)
        assert accuracy == validation > plain[3]
        assert regularization.evaluate(network, *digits[0])[1] == training

    @pytest.mark.parametrize("cure", [{"dropout": 0.7}, {"decay": 3.0}])
    def test_cures_keep_it_from_that(self, regularization, digits, plain, cure):
        _, losses, training, _ = regularization.train(*digits, steps=400, lr=0.003, seed=0, **cure)
        assert training < plain[2]
        assert losses[-1, 1] < plain[1][-1, 1]

    def test_evaluating_is_not_training(self, regularization, digits):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(196, 10), regularization.Dropout(0.5))
        right, forgotten = regularization.forget_eval(network, *digits[1], times=5)
        assert regularization.evaluate(network, *digits[1])[1] == right
        assert len(set(forgotten)) > 1


class TestDoubleDescent:
    def test_error_peaks_where_features_equal_examples(self, regularization, digits):
        widths, errors = regularization.double_descent([digits[0]], digits[1], (1e-6, 30.0), seed=7)
        at = widths.index(100)
        assert errors.shape == (2, 1, len(widths))
        bare, ridge = errors[:, 0]
        assert bare.argmax() == at
        assert bare[at] > 10 * bare[: at - 2].max()
        assert bare[at] > 10 * bare[-1]
        assert ridge.max() < 0.1  # no peak

        (x, labels), (x_new, labels_new) = digits  # a trace of ridge is the smallest solution
        first_layer = torch.randn(196, widths[-1], generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        h, h_new = (((inputs.double() - x.double().mean(dim=0)) @ first_layer).relu() for inputs in (x, x_new))
        weights = torch.linalg.pinv(h) @ F.one_hot(labels, 10).double()
        torch.testing.assert_close(h @ weights, F.one_hot(labels, 10).double())  # every example is fitted, wrong labels too
        expected = (h_new @ weights - F.one_hot(labels_new, 10)).square().mean().item()
        assert bare[-1].item() == pytest.approx(expected, rel=1e-3)


class TestMain:
    def test_overfits_and_every_cure_helps(self, regularization):
        results = regularization.main(
            examples=100, noise=0.2, steps=160, lr=0.003, seeds=1, source="sample", device="cpu", seed=0
        )
        plain = results["accuracy_no_cure"]
        assert results["training_accuracy_no_cure"] > plain + 0.25
        for cure in ("early_stopping", "dropout", "weight_decay", "5_x_the_data", "all_of_these"):
            assert results[f"accuracy_{cure}"] > plain + 0.03, cure
        assert results["accuracy_all_of_these"] > results["baseline_accuracy"] + 0.05
        assert results["error_at_threshold"] > 10 * results["error_widest"]
        assert results["difference_by_hand"] < 1e-6

    @pytest.mark.real_data("mnist")
    def test_cures_on_mnist(self, regularization):
        results = regularization.main(examples=100, noise=0.2, steps=160, lr=0.003, seeds=1, source="real", device="cpu", seed=0)
        assert results["accuracy_all_of_these"] > results["accuracy_no_cure"] + 0.1
        assert results["error_at_threshold"] > 10 * results["error_widest"]

    def test_check_notices_a_network_that_does_not_learn(self, regularization):
        with pytest.raises(LessonError, match="all cures"):
            regularization.main(examples=20, noise=0.2, steps=20, lr=0.0, seeds=1, source="sample", device="cpu", seed=0)

    def test_check_notices_too_many_examples(self, regularization):
        with pytest.raises(LessonError, match="examples"):
            regularization.main(examples=2000, noise=0.2, steps=20, lr=0.003, seeds=1, source="sample", device="cpu", seed=0)
