"""Debugging: the watch sees what really happens, every planted bug gets its own diagnosis, and the healthy function none."""

import difflib
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils.datasets import hold_out, mnist, nearest_mean_accuracy
from utils.lesson import LessonError

STEPS, BATCH = 60, 32  # a fifth of the lesson's default; the symptoms show by then


@pytest.fixture(scope="module")
def debugging():
    return lesson("03_training/debugging")


@pytest.fixture(scope="module")
def digits():
    """The sample, halved in width and height: to train on, held out."""
    parts = hold_out(mnist("sample").train, 287)
    return [(F.avg_pool2d(part.images.float(), 2), part.labels) for part in parts]


@pytest.fixture(scope="module")
def watched(debugging, digits):
    """A watch of ten healthy steps."""
    debugging.train(digits[0], 10, BATCH, 3, watch := debugging.Watch())
    return watch


class TestWatch:
    def test_gradients_are_autograds(self, debugging, digits):
        without_dropout = debugging.plant("nn.Dropout(0.1)", "nn.Dropout(0.0)")  # whose masks could not be drawn again
        without_dropout(digits[0], 1, BATCH, 3, watch := debugging.Watch())
        with torch.no_grad():  # back to the weights before the step
            for parameter in watch.parameters.values():
                parameter += 0.1 * parameter.grad
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(196, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        for ours, theirs in zip(model.parameters(), watch.parameters.values(), strict=True):
            ours.data.copy_(theirs.detach())
        loss = F.cross_entropy(model(watch.inputs[0]), watch.answers[0][1])
        norms = torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, list(model.parameters()))])
        torch.testing.assert_close(watch.steps[0][:, debugging.GRADIENT], norms, rtol=1e-3, atol=0)

    def test_a_step_of_sgd_is_rate_times_gradient(self, debugging, watched):
        for step, row in enumerate(watched.steps):
            rate = 0.1 * (1 + math.cos(math.pi * step / 10)) / 2  # the schedule of ten steps
            torch.testing.assert_close(row[:, debugging.MOVED], rate * row[:, debugging.GRADIENT], rtol=1e-3, atol=1e-7)
            assert row[:, debugging.EXTRA].max() == 0

    def test_sees_inputs_losses_and_dead_units(self, debugging, watched):
        assert watched.inputs[0].shape == (BATCH, 1, 14, 14)
        assert watched.inputs[0].std().item() == pytest.approx(1, abs=0.1)
        assert len(watched.losses) == len(watched.steps) == 10
        logits, labels = watched.answers[-1]
        assert F.cross_entropy(logits, labels).item() == pytest.approx(watched.losses[-1])
        assert watched.dead[0].shape == (64,)
        zeros = watched.steps[0][0, debugging.ZEROS].item()  # a unit that is dead gets no gradient
        assert zeros >= watched.dead[0].float().mean().item() - 1e-6

    def test_changes_nothing(self, debugging, digits):
        class Blind:
            def attach(self, model): ...
            def note(self, logits, labels, loss): ...

        predict, blind = (debugging.train(digits[0], 20, BATCH, 1, watch) for watch in (debugging.Watch(), Blind()))
        assert torch.equal(predict(digits[1][0]), blind(digits[1][0]))


def test_first_loss_is_that_of_a_guess(debugging, digits):
    for seed in range(4):
        debugging.train(digits[0], 1, 128, seed, watch := debugging.Watch())
        assert watch.losses[0] == pytest.approx(math.log(10), abs=0.15)


class TestBugs:
    def test_each_is_one_changed_line(self, debugging):
        healthy = inspect.getsource(debugging.train)
        for right, wrong in debugging.BUGS.values():
            assert healthy.count(right) == 1
            lines = list(difflib.ndiff(healthy.splitlines(), healthy.replace(right, wrong).splitlines()))
            assert sum(line.startswith("- ") for line in lines) == sum(line.startswith("+ ") for line in lines) == 1
        assert len(debugging.BUGS) >= 10

    def test_a_bug_that_cannot_be_planted_is_told(self, debugging):
        with pytest.raises(LessonError, match="should stand in train once"):
            debugging.plant("lr=0.3", "lr=0")

    def test_every_bug_is_named_and_the_healthy_function_is_not(self, debugging, digits):
        found = debugging.examine_all(*digits, steps=STEPS, batch_size=BATCH, seed=5)
        assert {bug: diagnosis for bug, (diagnosis, *_) in found.items()} == {bug: bug for bug in ("", *debugging.BUGS)}
        symptoms = {bug: row for bug, (_, row, *_) in found.items()}
        assert symptoms[""]["batch loss"] < 0.5
        assert symptoms[""]["accuracy"] > 0.8
        assert symptoms["inputs not scaled"]["first loss"] > 2 * math.log(10)
        assert symptoms["softmax over the batch"]["first loss"] == pytest.approx(math.log(BATCH), abs=0.2)
        assert symptoms["softmax before cross_entropy"]["batch loss"] > math.log(math.e + 9) - 1  # no lower with any logits
        assert symptoms["weights all zero"]["first loss"] == pytest.approx(math.log(10), abs=1e-6)
        assert symptoms["graph cut"]["no gradient"] == symptoms["parameters not in the optimizer"]["not moved"] == 0.5
        for bug in ("inputs not scaled", "labels of other pictures", "weights all zero", "learning rate too small"):
            assert symptoms[bug]["accuracy"] < 0.35
        quiet = [bug for bug in debugging.BUGS if symptoms[bug]["accuracy"] > 0.5]
        assert len(quiet) >= 4  # they learn something, and nobody would look for them

    @pytest.mark.slow  # three more seeds and the lesson's own number of steps: 40 s of CPU
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_on_other_seeds(self, debugging, digits, seed):
        found = debugging.examine_all(*digits, steps=300, batch_size=BATCH, seed=seed)
        assert all(diagnosis == bug for bug, (diagnosis, *_) in found.items())

    def test_the_healthy_function_is_healthy_from_every_start(self, debugging, digits):
        for seed in (7, 8):
            symptoms, *_ = debugging.examine(debugging.train, *digits, steps=60, batch_size=BATCH, seed=seed)
            assert debugging.diagnose(symptoms, BATCH, classes=10) == ""

    def test_a_bug_that_nobody_thought_of_is_noticed_all_the_same(self, debugging, digits):
        uphill = debugging.plant("lr=0.1)", "lr=0.1, maximize=True)")
        symptoms, *_ = debugging.examine(uphill, *digits, steps=60, batch_size=BATCH, seed=0)
        assert debugging.diagnose(symptoms, BATCH, classes=10) == "something else"

    def test_as_many_examples_as_classes_hide_the_wrong_axis(self, debugging, digits):
        wrong = debugging.plant(*debugging.BUGS["softmax over the batch"])
        for seed in (0, 1):
            symptoms, *_ = debugging.examine(wrong, *digits, steps=100, batch_size=10, seed=seed)
            assert debugging.diagnose(symptoms, 10, classes=10) == ""

    def test_no_graph_is_the_error_everyone_meets(self, debugging, digits):
        assert "does not require grad" in debugging.meet_no_graph(digits[0])


class TestMain:
    @pytest.fixture
    def few_bugs(self, debugging, monkeypatch):
        """Three bugs, so that a call of main is short."""
        names = ("inputs not scaled", "labels of other pictures", "no zero_grad")
        monkeypatch.setattr(debugging, "BUGS", {name: debugging.BUGS[name] for name in names})
        monkeypatch.setattr(debugging, "draw_figures", lambda found: None)

    def test_names_the_bugs_and_learns(self, debugging, few_bugs):
        results = debugging.main(steps=150, batch_size=32, source="sample", seed=0)
        data = mnist("sample")
        training, _ = hold_out(data.train, len(data.train) // 5)
        assert results["named"] == 3
        assert results["baseline_accuracy"] == pytest.approx(nearest_mean_accuracy(training, data.test))
        assert results["accuracy"] > results["baseline_accuracy"] + 0.01
        assert results["batch_loss"] < 0.15

    def test_check_notices_a_healthy_function_that_is_not(self, debugging, few_bugs, monkeypatch):
        monkeypatch.setattr(debugging, "train", debugging.plant("lr=0.1", "lr=1e-5"))
        monkeypatch.setattr(debugging, "BUGS", {})
        with pytest.raises(LessonError, match="said to have a bug: learning rate too small"):
            debugging.main(steps=40, batch_size=32, source="sample", seed=0)

    def test_check_notices_a_network_below_the_simplest_rule(self, debugging, few_bugs, monkeypatch):
        monkeypatch.setattr(debugging, "BUGS", {})
        monkeypatch.setattr(debugging, "nearest_mean_accuracy", lambda train, test: 0.99)
        with pytest.raises(LessonError, match="more --steps"):
            debugging.main(steps=60, batch_size=32, source="sample", seed=0)

    def test_check_notices_too_few_steps(self, debugging):
        with pytest.raises(LessonError, match="--steps 3"):
            debugging.main(steps=3, batch_size=32, source="sample", seed=0)

    @pytest.mark.slow  # the whole lesson: 12 s of CPU on the sample, 15 s on MNIST
    @pytest.mark.parametrize("source", ["sample", pytest.param("real", marks=pytest.mark.real_data("mnist"))])
    def test_keeps_its_promise(self, debugging, source):
        results = debugging.main(steps=300, batch_size=32, source=source, seed=0)
        assert results["named"] == 13
        assert results["accuracy"] > results["baseline_accuracy"] + 0.02
