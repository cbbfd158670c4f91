"""utils.training: the loop is the one a reader would write, and no way of stopping it changes what comes out."""

import collections
import itertools
import math
import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, TensorDataset

from utils import checkpoint, lesson, training
from utils.batches import Batches
from utils.lesson import LessonError
from utils.seeding import seed_everything
from utils.training import (
    _to_device,
    check_above_zero,
    classification_loss,
    evaluate,
    fit,
    load_best,
    recipe_with,
    rise_and_fall,
)

QUICK = sys.platform == "linux"  # processes are forked, without a second import of torch
PROCESSES = multiprocessing.get_context("fork" if QUICK else "spawn")
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows os.kill ends a process at once in any case


def data(count: int = 60):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(count, 4, generator=generator)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def network() -> nn.Module:
    """One that remembers and draws: batch normalisation and dropout."""
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))


def noisy(x, generator):
    return x + 0.1 * torch.randn(x.shape, generator=generator)


class Run:
    """A small training run with everything that a resumed run must put back."""

    def __init__(self, loader: str = "batches", seed: int = 0, lr: float = 0.1):
        seed_everything(seed)
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, nesterov=True)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=24)
        x, y = data()
        if loader == "batches":
            self.batches = Batches(x, y, batch_size=10, transform=noisy, seed=seed)  # 6 batches
        else:
            generator = torch.Generator().manual_seed(seed) if loader == "seeded loader" else None
            self.batches = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True, generator=generator)
        self.validation = Batches(x, y, batch_size=60, shuffle=False)

    def fit(self, **options):
        options = {"epochs": 4, "validate": lambda model: evaluate(model, self.validation), **options}
        loss = options.pop("compute_loss", classification_loss)
        self.history = fit(self.model, self.batches, self.optimizer, loss, scheduler=self.scheduler, **options)
        return self

    def outcome(self) -> dict:
        """All that two equal runs have in common."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "history": vars(self.history)}


def assert_identical(one, other):
    """Bit for bit, in nested lists and dicts as well."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_identical(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_identical(a, b)
    else:
        assert one == other


def in_step(step: int, action):
    """classification_loss, with something happening in the given step."""
    count = itertools.count(1)

    def compute_loss(model, batch):
        if next(count) == step:
            action()
        return classification_loss(model, batch)

    return compute_loss


class TestRecipe:
    def test_flags_that_were_given_replace_settings(self):
        preset = {"epochs": 4, "lr": 0.1, "mirror": True}
        assert recipe_with(preset, epochs=None, lr=0.0, mirror=False) == {"epochs": 4, "lr": 0.0, "mirror": False}
        assert preset == {"epochs": 4, "lr": 0.1, "mirror": True}  # the next run begins with it again

    def test_zero_is_refused_by_the_name_of_its_flag(self):
        settings = {"batch_size": 0, "lr": 0.1, "decay": -1.0}
        check_above_zero(settings, "lr")
        with pytest.raises(LessonError, match="^--batch-size must be above 0$"):
            check_above_zero(settings, "lr", "batch_size")


class TestLoop:
    @pytest.mark.parametrize("clip_norm", [None, 0.5])
    def test_is_the_loop_one_would_write(self, clip_norm):
        run = Run().fit(clip_norm=clip_norm)

        plain = Run()
        losses, rates, epochs = [], [], []
        for _ in range(4):
            plain.model.train()
            for x, y in plain.batches:
                loss = F.cross_entropy(plain.model(x), y)
                plain.optimizer.zero_grad()
                loss.backward()
                if clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(plain.model.parameters(), clip_norm)
                rates.append(plain.optimizer.param_groups[0]["lr"])
                plain.optimizer.step()
                plain.scheduler.step()
                losses.append(loss.item())
            plain.model.eval()
            with torch.no_grad():
                x, y = data()
                logits = plain.model(x)
            mean = sum(losses[-6:]) / 6
            accuracy = (logits.argmax(1) == y).float().mean().item()
            epochs.append({"train_loss": mean, "loss": F.cross_entropy(logits, y).item(), "accuracy": accuracy})
        assert_identical(run.model.state_dict(), plain.model.state_dict())
        assert (run.history.losses, run.history.rates) == (losses, rates)
        for ours, theirs in zip(run.history.epochs, epochs, strict=True):
            assert ours == pytest.approx(theirs)
        assert losses[-1] < losses[0]

    def test_clipping_matters_here(self):
        assert Run().fit(clip_norm=0.5).history.losses != Run().fit().history.losses

    def test_scheduler_is_stepped_after_every_step(self):
        run = Run().fit()
        assert run.scheduler.last_epoch == 24
        assert run.history.rates[0] == 0.1 and run.history.rates[12] == pytest.approx(0.05) and len(set(run.history.rates)) == 24

    def test_validation_is_in_eval_mode_without_gradients_and_training_is_not(self):
        modes = []

        def validate(model):
            modes.append((model.training, torch.is_grad_enabled()))
            return {"accuracy": 0.5}

        def compute_loss(model, batch):
            modes.append((model.training, torch.is_grad_enabled()))
            return classification_loss(model, batch)

        Run().fit(epochs=2, validate=validate, compute_loss=compute_loss)
        assert modes == 2 * (6 * [(True, True)] + [(False, False)])

    def test_dataloader_and_dictionaries(self):
        def compute_loss(model, batch):
            return F.cross_entropy(model(batch["x"]), batch["y"])

        x, y = data()
        examples = [{"x": a, "y": b, "name": "text stays text"} for a, b in zip(x, y, strict=True)]
        run = Run()
        run.batches = DataLoader(examples, batch_size=10)
        assert len(run.fit(epochs=2, compute_loss=compute_loss).history.losses) == 12

    def test_batches_of_any_kind_reach_the_device(self):
        Pair = collections.namedtuple("Pair", "x y")
        pair = _to_device(Pair(torch.ones(2), [torch.zeros(1), "text", 3]), torch.device("meta"))
        assert type(pair) is Pair and pair.x.is_meta and pair.y[0].is_meta and pair.y[1:] == ["text", 3]
        packed = _to_device(pack_sequence([torch.ones(3), torch.ones(2)]), torch.device("meta"))
        assert packed.data.is_meta

    def test_works_without_validation_and_checkpoints(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        history = Run().fit(validate=None).history
        assert [list(epoch) for epoch in history.epochs] == 4 * [["train_loss"]]
        assert history.best_epoch == -1
        assert list(tmp_path.iterdir()) == []

    def test_tracker_gets_every_step_and_every_epoch(self):
        points = []

        class Tracker:
            def log(self, numbers, step):
                points.extend((name, step, value) for name, value in numbers.items())

        history = Run().fit(tracker=Tracker()).history
        for name, values in (("train/loss", history.losses), ("train/learning_rate", history.rates)):
            assert [(step, value) for found, step, value in points if found == name] == list(enumerate(values))
        epochs = [(step, value) for name, step, value in points if name == "epoch/accuracy"]
        assert epochs == [(6 * (i + 1), epoch["accuracy"]) for i, epoch in enumerate(history.epochs)]


class TestBestAndEarly:
    def fit(self, values, tmp_path, name="accuracy", **options):
        """Train while `validate` returns the given values one after the other."""
        run, values = Run(), iter(values)
        return run.fit(epochs=6, validate=lambda _: {name: next(values)}, monitor=name, checkpoints=tmp_path, **options)

    def best(self, tmp_path) -> dict:
        return checkpoint.load(tmp_path / "best.pt")

    def test_best_is_of_the_best_epoch(self, tmp_path):
        weights = []

        def validate(model):
            weights.append({name: value.clone() for name, value in model.state_dict().items()})
            return {"accuracy": [0.5, 0.8, 0.7, 0.8][len(weights) - 1]}

        history = Run().fit(validate=validate, checkpoints=tmp_path).history
        assert (history.best_epoch, history.stale) == (1, 2)  # the first of two equal ones
        assert_identical(dict(self.best(tmp_path)["model"]), weights[1])
        assert self.best(tmp_path)["numbers"]["accuracy"] == 0.8
        model = network().train()
        load_best(model, tmp_path)
        assert_identical(dict(model.state_dict()), weights[1])
        assert not model.training

    def test_best_of_another_model_or_of_no_epoch(self, tmp_path):
        with pytest.raises(LessonError, match="best.pt does not exist"):
            load_best(network(), tmp_path)
        self.fit([1.0] * 6, tmp_path)
        with pytest.raises(LessonError, match="best.pt is of another model than Linear"):
            load_best(nn.Linear(2, 2), tmp_path)

    def test_loss_is_minimised(self, tmp_path):
        run = self.fit([3.0, 1.0, 2.0, 1.5, 1.2, 9.0], tmp_path, name="validation_loss")
        assert run.history.best_epoch == 1 and self.best(tmp_path)["numbers"]["validation_loss"] == 1.0

    def test_patience(self, tmp_path):
        run = self.fit([0.5, 0.6, 0.55, 0.6, 0.9, 0.9], tmp_path, patience=2)
        assert run.history.stopped_early and len(run.history.epochs) == 4  # the better one in epoch 5 was not waited for
        again = self.fit([], tmp_path, patience=2, resume=True)
        assert again.history.stopped_early and len(again.history.epochs) == 4

    def test_patience_that_is_not_used_up(self, tmp_path):
        history = self.fit([0.1, 0.2, 0.1, 0.3, 0.1, 0.4], tmp_path, patience=2).history
        assert not history.stopped_early and len(history.epochs) == 6

    def test_nan_is_never_the_best(self, tmp_path):
        assert self.fit([math.nan, 0.5, math.nan, 0.4, 0.6, 0.1], tmp_path).history.best_epoch == 4

    def test_patience_for_a_number_that_is_not_there(self, tmp_path):
        with pytest.raises(ValueError, match="accuracy.*patience|patience.*accuracy"):
            Run().fit(validate=lambda _: {"score": 1.0}, patience=2)

    def test_numbers_may_be_of_numpy_or_torch(self, tmp_path):
        numbers = {"accuracy": np.float64(0.5), "loss": torch.tensor(0.25), "count": 3}
        Run().fit(epochs=1, validate=lambda _: dict(numbers), checkpoints=tmp_path)
        again = Run().fit(epochs=1, checkpoints=tmp_path, resume=True)  # a checkpoint that could not be loaded is none
        assert again.history.epochs[0] == {
            "train_loss": again.history.epochs[0]["train_loss"],
            "accuracy": 0.5,
            "loss": 0.25,
            "count": 3,
        }


class TestBlowUp:
    def finite(self, tmp_path):
        state = checkpoint.load(tmp_path / "last.pt")
        return all(torch.isfinite(value).all() for value in state["model"].values())

    @pytest.mark.parametrize("always_saving", [False, True])
    def test_loss_stops_the_run_with_a_sentence(self, tmp_path, monkeypatch, always_saving):
        if always_saving:
            monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", -1)

        def compute_loss(model, batch, steps=itertools.count(1)):  # noqa: B008  (one counter for all steps)
            return classification_loss(model, batch) * (math.nan if next(steps) == 9 else 1)

        with pytest.raises(LessonError, match="the loss became nan in step 9; try a smaller learning rate"):
            Run().fit(checkpoints=tmp_path, compute_loss=compute_loss)
        assert self.finite(tmp_path)

    @pytest.mark.parametrize("step", [9, 12, 24])  # in mid-epoch, the last one of an epoch, the last one of all
    @pytest.mark.parametrize("always_saving", [False, True])
    def test_gradient_that_is_not_finite_although_the_loss_is(self, tmp_path, monkeypatch, step, always_saving):
        if always_saving:
            monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", -1)

        def compute_loss(model, batch, steps=itertools.count(1)):  # noqa: B008
            loss = classification_loss(model, batch)
            return loss + torch.sqrt(loss - loss) if next(steps) == step else loss  # 0, and its derivative is 0 · inf

        with pytest.raises(LessonError, match="try a smaller learning rate") as error:
            Run().fit(checkpoints=tmp_path, compute_loss=compute_loss)
        assert "\n" not in str(error.value)
        assert self.finite(tmp_path)


def die(_=None):
    os.kill(os.getpid(), KILL)


def train_until_killed(folder: Path, loader: str, moment: str, count: int) -> None:
    """Train, resuming where there is something, and die at the `count`th time that `moment` comes. Runs in its own process."""
    torch.set_num_threads(1)  # as here: two threads may add in another order
    training.SECONDS_BETWEEN_SAVES = -1  # save after every step
    counter = itertools.count(1)
    loss, real_save, real_replace = classification_loss, torch.save, os.replace

    def save(state, file):
        if next(counter) == count:
            real_save(state, folder / "whole")
            file.write((folder / "whole").read_bytes()[:1500])
            file.flush()
            die()
        real_save(state, file)

    def replace(source, target):
        last = next(counter) == count
        if last and moment == "before the rename":
            die()
        real_replace(source, target)
        if last:
            die()

    if moment == "in a step":
        loss = in_step(count, die)
    elif moment == "in a save":
        torch.save = save
    elif moment != "never":
        os.replace = replace
    run = Run(loader, seed=3).fit(checkpoints=folder, resume=True, compute_loss=loss)
    real_save(run.outcome(), folder / "outcome")


class TestKilled:
    """Killed at any moment and resumed, a run ends with the very weights of one that was not."""

    def child(self, *arguments) -> int:
        process = PROCESSES.Process(target=train_until_killed, args=arguments)
        process.start()
        process.join(60)
        return process.exitcode

    @pytest.mark.parametrize("moment", ["in a step", "in a save", "before the rename", "after the rename"])
    @pytest.mark.parametrize(
        "loader",
        [
            "batches",
            pytest.param("loader", marks=pytest.mark.skipif(not QUICK, reason="each process imports torch anew here")),
            pytest.param("seeded loader", marks=pytest.mark.skipif(not QUICK, reason="each process imports torch anew here")),
        ],
    )
    def test_outcome_is_the_same(self, tmp_path, moment, loader):
        expected = Run(loader, seed=3).fit().outcome()
        random.seed(f"{moment} {loader}")
        deaths = 0
        # In a step of a DataLoader's second epoch: a start that does not get over the end of one gains nothing.
        first, last = (7, 11) if moment == "in a step" and loader != "batches" else (1, 4)
        while not (tmp_path / "outcome").exists():
            code = self.child(tmp_path, loader, moment if deaths < (6 if QUICK else 2) else "never", random.randint(first, last))
            deaths += code != 0
            assert deaths < 20
        assert deaths >= 2
        assert_identical(torch.load(tmp_path / "outcome"), expected)
        left = {file.name for file in tmp_path.iterdir()} - {"outcome", "whole"}
        assert left == {"last.pt", "best.pt", ".lock"}  # no halves of the saves it died in

    def test_moment_from_outside(self, tmp_path):
        """As `kill -9` comes: whenever."""
        expected = Run("batches", seed=3).fit().outcome()
        for delay in (0.01, 0.03, 0.06, 0.1):
            process = PROCESSES.Process(target=train_until_killed, args=(tmp_path, "batches", "never", 0))
            process.start()
            process.join(delay)
            process.kill()
            process.join()
        assert self.child(tmp_path, "batches", "never", 0) == 0
        assert_identical(torch.load(tmp_path / "outcome"), expected)

    def test_best_is_the_same(self, tmp_path):
        Run(seed=3).fit(checkpoints=tmp_path / "straight")
        for count in (5, 3, 9):
            self.child(tmp_path / "killed", "batches", "after the rename", count)
        self.child(tmp_path / "killed", "batches", "never", 0)
        assert_identical(checkpoint.load(tmp_path / "straight" / "best.pt"), checkpoint.load(tmp_path / "killed" / "best.pt"))


@pytest.mark.usefixtures("ctrl_c")
class TestCtrlC:
    def press(self):
        signal.raise_signal(signal.SIGINT)

    @pytest.mark.parametrize("loader", ["batches", "loader"])
    @pytest.mark.parametrize("step", [1, 8, 12, 24])
    def test_saves_and_says_how_to_go_on(self, tmp_path, loader, step):
        handler = signal.getsignal(signal.SIGINT)
        expected = Run(loader).fit().outcome()
        with pytest.raises(KeyboardInterrupt, match=f"stopped by Ctrl-C after step {step}; .*--resume"):
            Run(loader).fit(checkpoints=tmp_path, compute_loss=in_step(step, self.press))
        assert signal.getsignal(signal.SIGINT) is handler
        run = Run(loader).fit(checkpoints=tmp_path, resume=True)
        assert_identical(run.outcome(), expected)

    def test_in_validation(self, tmp_path):
        expected = Run().fit().outcome()
        run = Run()
        presses = iter([False, True])

        def validate(model):
            if next(presses):
                self.press()
            return evaluate(model, run.validation)

        with pytest.raises(KeyboardInterrupt, match="after step 12; .*--resume"):
            run.fit(checkpoints=tmp_path, validate=validate)
        assert_identical(Run().fit(checkpoints=tmp_path, resume=True).outcome(), expected)

    def test_second_press_interrupts_at_once(self):
        def twice():
            self.press()
            self.press()
            raise AssertionError("it went on")

        with pytest.raises(KeyboardInterrupt):
            Run().fit(compute_loss=in_step(3, twice))

    def test_loader_that_complains_of_lost_workers(self, tmp_path):
        """Ctrl-C reaches the workers too, where they are processes of their own kind (spawn, forkserver)."""

        def lose_workers(pressed):
            if pressed:
                self.press()
            raise RuntimeError("DataLoader worker (pid(s) 4711) exited unexpectedly")

        with pytest.raises(KeyboardInterrupt, match="after step 6; .*--resume"):
            Run("loader").fit(checkpoints=tmp_path, compute_loss=in_step(8, lambda: lose_workers(True)))
        with pytest.raises(RuntimeError, match="4711"):
            Run("loader").fit(compute_loss=in_step(8, lambda: lose_workers(False)))

    def test_in_the_background_it_is_somebody_elses(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts `... &`
        assert len(Run().fit(epochs=1, compute_loss=in_step(3, self.press)).history.losses) == 6

    def test_without_checkpoints_it_promises_nothing(self):
        with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
            Run().fit(compute_loss=in_step(3, self.press))

    def test_lesson_ends_with_130(self, tmp_path, monkeypatch, capsys):
        def main() -> dict[str, float]:
            """Train."""
            Run().fit(checkpoints=tmp_path, compute_loss=in_step(3, self.press))
            return {}

        monkeypatch.setattr(sys, "argv", ["lesson.py"])
        with pytest.raises(SystemExit) as stop:
            lesson.run(main)
        assert stop.value.code == 130
        assert "--resume" in capsys.readouterr().err


class TestResume:
    def test_finished_run_is_not_trained_further(self, tmp_path):
        first = Run().fit(checkpoints=tmp_path)
        again = Run(seed=9).fit(checkpoints=tmp_path, resume=True)
        assert_identical(again.outcome(), first.outcome())

    def test_nothing_to_resume(self, tmp_path, capsys):
        run = Run().fit(checkpoints=tmp_path, resume=True)
        assert "nothing to resume" in capsys.readouterr().out
        assert_identical(run.outcome(), Run().fit().outcome())

    def test_without_resume_it_starts_afresh(self, tmp_path):
        Run(seed=9).fit(checkpoints=tmp_path)
        assert_identical(Run().fit(checkpoints=tmp_path).outcome(), Run().fit().outcome())

    def refuses(self, tmp_path, told, run=None, **options):
        before = (tmp_path / "last.pt").read_bytes()
        with pytest.raises(LessonError, match=told) as error:
            (run or Run()).fit(checkpoints=tmp_path, resume=True, **options)
        assert "\n" not in str(error.value)
        assert (tmp_path / "last.pt").read_bytes() == before

    def test_other_settings_are_named(self, tmp_path):
        Run().fit(checkpoints=tmp_path, settings={"lr": 0.1, "batch_size": 10})
        self.refuses(tmp_path, r"batch_size 10 \(now 20\)", settings={"lr": 0.1, "batch_size": 20})
        self.refuses(tmp_path, r"epochs 4 \(now 5\)", settings={"lr": 0.1, "batch_size": 10}, epochs=5)
        self.refuses(tmp_path, r"seed None \(now 3\)", settings={"lr": 0.1, "batch_size": 10, "seed": 3})

    def test_other_model_is_named(self, tmp_path):
        Run().fit(checkpoints=tmp_path)
        other = Run()
        other.model = nn.Linear(4, 2)
        other.optimizer = torch.optim.SGD(other.model.parameters(), lr=0.1)
        self.refuses(tmp_path, "another model than Linear.*lacks weight, bias", other)

    def test_other_optimizer_or_scheduler(self, tmp_path):
        Run().fit(checkpoints=tmp_path)
        other = Run()
        parameters = list(other.model.parameters())
        other.optimizer = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=0.1)
        self.refuses(tmp_path, "does not fit this run", other)

    @pytest.mark.parametrize("content", [b"", b"<html></html>", None])
    def test_damaged_file_is_one_sentence(self, tmp_path, content):
        Run().fit(checkpoints=tmp_path)
        whole = (tmp_path / "last.pt").read_bytes()
        (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
        self.refuses(tmp_path, "last.pt is .*damaged")

    @pytest.mark.parametrize("state", [{}, {"settings": 3}, {"settings": {"epochs": 4}, "model": 3}, {"settings": {"epochs": 4}}])
    def test_checkpoint_of_something_else(self, tmp_path, state):
        checkpoint.save(tmp_path / "last.pt", state)
        self.refuses(tmp_path, "does not fit this run")

    def test_second_run_is_turned_away(self, tmp_path):
        held = PROCESSES.Event()
        process = PROCESSES.Process(target=hold, args=(tmp_path, held), daemon=True)
        process.start()
        assert held.wait(30)
        with pytest.raises(LessonError, match="another run is training"):
            Run().fit(checkpoints=tmp_path)
        process.kill()
        process.join()
        Run().fit(checkpoints=tmp_path, epochs=1)

    def test_full_disk_stops_the_run_and_keeps_the_last_checkpoint(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        with pytest.raises(LessonError, match="disk is full.*the checkpoint from before is untouched"):
            Run().fit(checkpoints=tmp_path, compute_loss=in_step(8, lambda: monkeypatch.setattr(os, "fsync", full)))
        monkeypatch.undo()
        assert_identical(Run().fit(checkpoints=tmp_path, resume=True).outcome(), Run().fit().outcome())


def hold(folder, held):
    with checkpoint.alone(folder):
        held.set()
        signal.pause() if hasattr(signal, "pause") else __import__("time").sleep(60)


class TestSaving:
    def test_dataloader_is_saved_at_the_end_of_epochs_only(self, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", -1)
        saved, read = [], []
        monkeypatch.setattr(checkpoint, "save", lambda path, state: saved.append((path.name, state.get("epoch"))))
        monkeypatch.setattr(
            training, "_read", lambda unread, *rest, real=training._read: (read.append(len(unread)), real(unread, *rest))
        )
        Run("loader").fit(checkpoints=tmp_path, validate=None)
        assert saved == [("last.pt", epoch) for epoch in range(5)]
        assert read == [6] * 4  # reading the losses makes a GPU wait: once an epoch, not in every step

    def test_not_more_often_than_it_should(self, tmp_path, monkeypatch):
        saved = []
        monkeypatch.setattr(checkpoint, "save", lambda path, state: saved.append(path.name))
        Run().fit(checkpoints=tmp_path, validate=None)
        assert saved == ["last.pt"] * 5


class TestEvaluate:
    def test_is_the_mean_over_all_examples(self):
        x, y = data(60)
        model = network()
        found = evaluate(model, Batches(x, y, batch_size=7, shuffle=False))  # the last batch is smaller
        model.eval()
        assert found["loss"] == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-5)
        assert found["accuracy"] == pytest.approx((model(x).argmax(1) == y).float().mean().item())

    @pytest.mark.parametrize("training", [True, False])
    def test_changes_nothing(self, training):
        model = network().train(training)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        x, y = data()
        evaluate(model, Batches(x + 5, y, batch_size=10))
        assert model.training == training
        assert_identical(dict(model.state_dict()), before)  # the running mean of the batch norm as well


def test_rate_rises_and_falls():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, rates = rise_and_fall(optimizer, steps=100), []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.1) and rates.index(max(rates)) == 9 and rates[0] < 0.02 and rates[-1] < 0.002
