"""Confusion and calibration: counts are scikit-learn's, the measures know what they should, a temperature mends certainty."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import evaluation
from utils.datasets import hold_out, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def calibration():
    return lesson("04_cnn/calibration")


def overconfident(count: int, factor: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (count, 10) that are `factor` times too large for their labels, which are drawn from what the right ones say."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 10, generator=generator)
    return factor * logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


class TestConfusion:
    def test_rows_are_what_is_and_columns_what_was_answered(self, calibration):
        predicted, labels = torch.tensor([0, 1, 1, 1, 2, 0]), torch.tensor([0, 0, 0, 1, 1, 1])
        found = calibration.confusion_matrix(predicted, labels, 3)
        assert found.tolist() == [[1, 2, 0], [1, 1, 1], [0, 0, 0]]
        assert torch.equal(found, evaluation.confusion_matrix(predicted, labels, 3))
        precision, recall = calibration.precision_recall(found)
        assert precision.tolist() == pytest.approx([1 / 2, 1 / 3, 0])
        assert recall.tolist() == pytest.approx([1 / 3, 1 / 3, 0])  # and 0, not nan, for a class that is not there

    def test_is_scikit_learns(self, calibration, capsys):
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, 4, (300,), generator=generator)
        predicted = torch.where(torch.rand(300, generator=generator) < 0.3, (labels + 1) % 4, labels)
        predicted[predicted == 3] = 0  # so that one class is never answered
        confusion, difference = calibration.compare_with_sklearn(predicted, labels, ["ant", "bee", "cat", "dog"])
        assert difference < 1e-12
        assert confusion.sum() == 300
        told = capsys.readouterr().out
        assert f"{confusion[3, 0]} of {confusion[3].sum()} dog taken for ant" in told and "hardest: dog, recall 0.000" in told


class TestReliability:
    def test_bins_hold_what_belongs_to_them(self, calibration):
        confidence, right = torch.tensor([0.05, 0.5, 0.55, 0.95, 1.0]), torch.tensor([False, True, False, True, True])
        counts, sure, hits = calibration.reliability(confidence, right, bins=10)
        assert counts.tolist() == [1, 0, 0, 0, 0, 2, 0, 0, 0, 2]
        assert sure[[0, 5, 9]].tolist() == pytest.approx([0.05, 0.525, 0.975])
        assert hits[[0, 5, 9]].tolist() == pytest.approx([0, 0.5, 1])
        error = calibration.calibration_error(confidence, right, bins=10)
        assert error == pytest.approx((0.05 + 2 * 0.025 + 2 * 0.025) / 5)
        assert calibration.calibration_error(confidence, right, bins=1) == pytest.approx(abs(0.61 - 0.6))

    def test_is_the_one_of_utils(self, calibration):
        logits, labels = overconfident(2000, 2.5)
        error, loss, confidence, right = calibration.measure(logits, labels)
        assert error == pytest.approx(evaluation.expected_calibration_error(logits.softmax(dim=1), labels, bins=15), abs=1e-6)
        assert loss == pytest.approx(F.cross_entropy(logits, labels).item())
        assert torch.equal(right, logits.argmax(dim=1) == labels) and torch.equal(confidence, logits.softmax(dim=1).amax(dim=1))

    def test_chance_alone_makes_some_error(self, calibration):
        coins = torch.full((400,), 0.7)  # all in one bin: the mean distance of a mean from its expectation
        assert calibration.error_if_honest(coins, seed=0, times=400) == pytest.approx(
            math.sqrt(2 / math.pi * 0.7 * 0.3 / 400), rel=0.1
        )
        assert calibration.error_if_honest(torch.ones(50), seed=0) == 0
        logits, labels = overconfident(4000, 1.0)
        honest = calibration.measure(logits, labels)
        assert honest.error == pytest.approx(calibration.error_if_honest(honest.confidence, seed=1), abs=0.01)


class TestTemperature:
    @pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
    def test_undoes_what_was_done_to_the_logits(self, calibration, factor):
        logits, labels = overconfident(4000, factor)
        found = calibration.fit_temperature(logits, labels)
        assert found == pytest.approx(factor, rel=0.05)
        assert found == pytest.approx(evaluation.fit_temperature(logits, labels), rel=1e-3)

    def test_is_finite_where_all_is_right(self, calibration):
        found = calibration.fit_temperature(10 * torch.eye(10), torch.arange(10))
        assert 0 < found < 1

    def test_belongs_to_pictures_that_were_not_learned(self, calibration):
        """Answers that are all right ask for more certainty still, and get it."""
        (new, truth), (validation, labels) = overconfident(2000, 2.0, seed=1), overconfident(2000, 2.0, seed=2)
        known = validation, validation.argmax(dim=1)
        temperatures, found = calibration.calibrate(known, (validation, labels), (new, truth))
        assert temperatures["as trained"] == 1 and temperatures["temperature"] == pytest.approx(2, rel=0.1)
        assert temperatures["of training set"] < 0.5
        assert found["temperature"].error < 0.03 < found["as trained"].error < found["of training set"].error
        assert found["temperature"].loss < found["as trained"].loss < found["of training set"].loss
        assert all(torch.equal(one.right, found["as trained"].right) for one in found.values())

    def test_error_is_the_one_that_is_told(self, calibration):
        assert "closure" in calibration.meet_error()


class TestTraining:
    def test_learns_and_comes_in_eval_mode(self, calibration):
        rest, held_out = hold_out(mnist("sample").train, 300)
        network = calibration.train(rest, images=2400, lr=0.05, seed=0)
        assert not network.training
        logits = calibration.answer(network, held_out)
        assert logits.shape == (300, 10) and not logits.requires_grad
        assert (logits.argmax(dim=1) == held_out.labels).float().mean() > 0.9

    def test_same_seed_same_network(self, calibration):
        few = mnist("sample").train[:100]
        logits = [calibration.answer(calibration.train(few, 160, 0.05, seed), few) for seed in (1, 1, 2)]
        assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


class TestMain:
    def test_certainty_comes_right(self, calibration):
        results = calibration.main(
            data="cifar10", examples=300, images=4800, networks=1, lr=0.05, source="sample", device="cpu", seed=0
        )
        assert results["accuracy"] > max(results["baseline_accuracy"], 0.1) + 0.05
        assert results["difference_by_hand"] < 1e-12
        assert results["error_temperature"] < 0.7 * results["error_as_trained"]
        assert results["loss_temperature"] < results["loss_as_trained"]
        assert results["t_of_training_set"] < 1 < results["t_temperature"]
        assert results["error_of_training_set"] > results["error_as_trained"]

    @pytest.mark.slow  # real CIFAR-10 has to be decoded, and two networks trained
    @pytest.mark.real_data("cifar10")
    def test_certainty_comes_right_on_real_pictures(self, calibration):
        results = calibration.main(
            data="cifar10", examples=1000, images=12_800, networks=2, lr=0.05, source="real", device="cpu", seed=0
        )
        assert results["error_temperature"] < 0.5 * results["error_as_trained"]
        assert results["accuracy"] > results["baseline_accuracy"] + 0.1

    def test_check_notices_a_network_that_did_not_learn(self, calibration):
        with pytest.raises(LessonError, match="more --images"):
            calibration.main(data="mnist", examples=100, images=64, networks=1, lr=0.05, source="sample", device="cpu", seed=0)

    @pytest.mark.parametrize("wrong", [{"examples": 0}, {"images": 32}, {"networks": 0}])
    def test_check_notices_numbers_that_make_no_sense(self, calibration, wrong):
        with pytest.raises(LessonError, match="needed are"):
            calibration.main(**{"examples": 100, "images": 640, "networks": 1, "source": "sample"} | wrong)
