"""The training loop: measures honestly, stops in time, is the loop of utils.training, and every part of it is needed."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.batches import Batches
from utils.datasets import hold_out, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def loop():
    return lesson("03_training/training_loop")


@pytest.fixture(scope="module")
def parts(loop):
    """300 digits to learn from, 400 to validate with, 360 for the last look."""
    data = mnist("sample")
    rest, held_out = hold_out(data.train, 400, seed=0)
    return loop.as_examples(rest[:300]), loop.as_examples(held_out), loop.as_examples(data.test)


@pytest.fixture(scope="module")
def trained(loop, parts):
    """A network after 12 epochs of the five lines, and the loss of every step."""
    model = loop.new_network(0, dropout=0.2)
    return model, loop.five_lines(model, parts[0], epochs=12)


class TestFiveLines:
    def test_training_loss_says_nothing(self, loop, parts, trained):
        model, losses = trained
        few, validation, _ = parts
        assert len(losses) == 12 * 10 and sum(losses[-10:]) < 0.2 * sum(losses[:10])
        assert loop.evaluate(model, few)["accuracy"] > loop.evaluate(model, validation)["accuracy"] + 0.01

    def test_every_line_is_there(self, loop, parts):
        data = parts[0][0][:80], parts[0][1][:80]
        losses = loop.five_lines(loop.new_network(3), data, epochs=2)
        model = loop.new_network(3)  # also starts the random numbers anew
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
        expected = []
        for _ in range(2):
            for batch in torch.randperm(80).split(32):
                expected.append(nn.functional.cross_entropy(model(data[0][batch]), data[1][batch]))
                optimizer.zero_grad()
                expected[-1].backward()
                optimizer.step()
        assert losses == [loss.item() for loss in expected]

    def test_learns_what_a_new_network_does_not_know(self, loop, parts, trained):
        assert loop.evaluate(trained[0], parts[1])["accuracy"] > 0.9
        assert loop.evaluate(loop.new_network(1), parts[1])["accuracy"] < 0.3


class TestMeasuring:
    def test_count_by_hand(self, loop):
        accuracy, recall, precision = loop.count(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), classes=3)
        assert accuracy == 0.5
        assert recall.tolist() == [0.5, 1, 0]
        assert precision.tolist() == pytest.approx([1, 1 / 3, 0])

    def test_count_is_scikit_learns(self, loop):
        from sklearn.metrics import precision_recall_fscore_support

        generator = torch.Generator().manual_seed(0)
        predicted, labels = (torch.randint(10, (300,), generator=generator) for _ in range(2))
        _, recall, precision = loop.count(predicted, labels)
        theirs = precision_recall_fscore_support(labels, predicted)
        assert precision.tolist() == pytest.approx(theirs[0].tolist()) and recall.tolist() == pytest.approx(theirs[1].tolist())

    def test_predict_leaves_no_trace(self, loop, parts, trained):
        model, _ = trained
        before = {name: value.clone() for name, value in model.state_dict().items()}
        first, again = (loop.predict(model, parts[1][0]) for _ in range(2))
        assert torch.equal(first, again) and not first.requires_grad and model.training
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    def test_without_eval_and_no_grad(self, loop, parts):
        model = loop.new_network(0, dropout=0.2)
        loop.five_lines(model, parts[0], epochs=2)
        accuracies, moved, kept = loop.measure_wrongly(model, parts[1])
        assert len(set(accuracies)) > 1  # another answer every time
        assert moved > 0.01
        assert kept > 3 * 400 * 128 * 4  # at least the hidden layer of 400 digits, three times over

    def test_error_is_the_one_everyone_meets(self, loop, parts):
        assert "more than 1 value" in loop.meet_error(loop.new_network(0), parts[2][0][:1])


class TestLoop:
    def test_stops_when_patience_is_out_and_keeps_the_best(self, loop, parts):
        few, validation, _ = parts
        model = loop.new_network(0, dropout=0.0)
        history, best = loop.train(model, Batches(*few, batch_size=32, seed=0), validation, 60, patience=3, clip_norm=1.0)
        losses = [numbers["loss"] for numbers in history]
        assert 5 < len(losses) < 60
        assert losses.index(min(losses)) == len(losses) - 4
        assert loop.evaluate(model, validation)["loss"] > min(losses)  # the last weights are not the best ones
        model.load_state_dict(best)
        assert loop.evaluate(model, validation)["loss"] == min(losses)

    def test_validation_and_clipping_matter_where_they_should(self, loop, parts):
        few, validation, test = parts

        def weights(held_out, clip_norm):
            model = loop.new_network(0, dropout=0.0)
            loop.train(model, Batches(*few, batch_size=32, seed=0), held_out, 2, patience=9, clip_norm=clip_norm)
            return nn.utils.parameters_to_vector(model.parameters())

        assert torch.equal(weights(validation, 1.0), weights(test, 1.0))  # what is only measured changes no weight
        assert not torch.equal(weights(validation, 1.0), weights(validation, 1e-8))

    def test_distorted_pictures_are_nearly_the_same(self, loop, parts):
        pictures = parts[0][0]
        distorted = loop.distort(pictures, torch.Generator().manual_seed(0))
        assert distorted.shape == pictures.shape
        change = (distorted - pictures).square().mean(dim=(1, 2, 3)) / pictures.square().mean(dim=(1, 2, 3))
        assert 0.02 < change.median() < 0.5 and change.min() < 0.1 * change.max()  # each in its own way

    def test_overfitting_is_seen_and_cured(self, loop, parts):
        few, validation, _ = parts
        found = loop.overfit_and_cure(few, validation, epochs=40, patience=8, seeds=range(2))
        to_the_end, stopped, distorted = (found[name] for name in ("to the end", "early stopping", "and distortion"))
        for history, _ in to_the_end:
            losses = [numbers["loss"] for numbers in history]
            assert len(losses) == 40
            assert history[-1]["train_loss"] < 0.2 * losses[-1]  # learned by heart
            assert losses[-1] > 1.05 * min(losses)  # and worse for it
        last = [sum(loop.evaluate(model, validation)["loss"] for _, model in runs) for runs in (to_the_end, stopped, distorted)]
        assert last[2] < 0.85 * last[1] and last[1] < 0.95 * last[0]

    def test_fit_gives_the_same_numbers(self, loop, parts):
        for seed, patience in ((0, 9), (1, 1)):
            numbers, weights = loop.compare_with_fit(*parts[:2], epochs=4, patience=patience, seed=seed)
            assert numbers < 1e-6 and weights < 1e-6


class TestMain:
    def test_cured_network_reads_new_digits(self, loop):
        results = loop.main(examples=300, epochs=25, patience=25, seeds=1, source="sample", seed=0)
        assert results["accuracy"] > max(results["baseline_accuracy"], 0.1) + 0.03
        assert results["fit_numbers_off"] < 1e-6 and results["fit_weights_off"] < 1e-6

    @pytest.mark.real_data("mnist")
    def test_on_mnist_stopping_helps_and_distortion_more(self, loop):
        results = loop.main(examples=300, epochs=40, patience=10, seeds=1, source="real", seed=0)
        assert results["accuracy_to_the_end"] < results["accuracy_early_stopping"] < results["accuracy"]
        assert results["accuracy"] > max(results["baseline_accuracy"], 0.1) + 0.05

    def test_check_notices_a_network_that_was_not_trained(self, loop):
        with pytest.raises(LessonError, match="hardly"):
            loop.main(examples=64, epochs=1, patience=1, seeds=1, source="sample", seed=0)
