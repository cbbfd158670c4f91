"""The training loop that 03_training/training_loop.py builds, finished: validation, best and last checkpoint, resume.

recipe = recipe_with(PRESETS["default"], epochs=epochs, lr=lr)  # the flags that were given, in place of the preset's settings
check_above_zero(recipe, "epochs", "lr")
history = fit(model, batches, optimizer, classification_loss, epochs=recipe["epochs"], scheduler=scheduler,
              validate=lambda model: evaluate(model, validation_batches), checkpoints=models("project1_mnist"))
load_best(model, models("project1_mnist"))  # where the best epoch is wanted, and not the last
"""

import contextlib
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from utils import checkpoint, distributed, paths
from utils.batches import Parts
from utils.device import autocast
from utils.lesson import LessonError, check
from utils.seeding import random_state, restore_random_state

SECONDS_BETWEEN_SAVES = 30.0


@dataclass
class History:
    """What happened in a run.

    Attributes:
        losses: The training loss of every step.
        rates: The learning rate of every step (of the optimizer's first group).
        epochs: For every epoch its mean training loss, and what `validate` returned.
        best_epoch: Index of the epoch with the best monitored number, -1 without one.
        stale: How many epochs ago that was.
        stopped_early: Whether patience ran out.
    """

    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    stale: int = 0
    stopped_early: bool = False


def recipe_with(preset: dict[str, Any], **flags) -> dict[str, Any]:
    """The settings of a preset, with those that were asked for in their place; a flag that was not given is None."""
    return {**preset, **{name: value for name, value in flags.items() if value is not None}}


def check_above_zero(settings: dict[str, Any], *names: str) -> None:
    """Refuse settings that are 0 or below, each by the name of its flag.

    Raises:
        LessonError: One of those that are named is.
    """
    for name in names:
        check(settings[name] > 0, f"--{name.replace('_', '-')} must be above 0")


def classification_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross entropy of a batch (inputs, labels); the model returns logits (batch, classes)."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels)


def rise_and_fall(optimizer: torch.optim.Optimizer, steps: int, rise: float = 0.1) -> LambdaLR:
    """A schedule that raises the learning rate from nearly 0, then lowers it on a straight line to nearly 0.

    Args:
        optimizer: With its highest learning rate.
        steps: Of the whole run.
        rise: The share of them in which it rises.
    """
    return LambdaLR(optimizer, lambda step: min((step + 1) / (rise * steps), (steps - step) / ((1 - rise) * steps)))


def fit(
    model: nn.Module,
    batches: Iterable,
    optimizer: torch.optim.Optimizer,
    compute_loss: Callable[[nn.Module, Any], Tensor],
    *,
    epochs: int,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    monitor: str = "accuracy",
    patience: int | None = None,
    clip_norm: float | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    tracker: Any = None,
) -> History:
    """Train `model` in place.

    Started by torchrun (`utils.distributed`), every process computes its part of each batch, and what comes out is saved once.

    Args:
        model: On its device already.
        batches: `Batches`, or a DataLoader; looped over once an epoch.
        optimizer: Of the model's parameters.
        compute_loss: From (model, batch) to a scalar to minimise: a mean over the examples, if several processes share them.
        epochs: Passes over `batches`.
        scheduler: Stepped after every optimizer step, not after every epoch.
        validate: From the model, in eval mode and without gradients, to numbers; called after every epoch.
        monitor: Which of those numbers decides on the best epoch: higher is better, except for a name with "loss" in it.
        patience: Stop after this many epochs in a row without a new best.
        clip_norm: Scale the gradients down to this norm where theirs is larger.
        checkpoints: Folder for last.pt (everything needed to go on) and best.pt (the weights of the best epoch).
        resume: Go on from last.pt if there is one. Killed at any moment and resumed, a run on the CPU ends with the very
            weights of one that was not, given the same settings. (With a DataLoader it goes on from the last full epoch.)
        settings: Kept in last.pt; a run with other settings is not resumed from it.
        tracker: Gets the curves: `utils.tracking.TensorBoard`.

    Raises:
        LessonError: The loss is not finite any more, or last.pt does not fit.
        KeyboardInterrupt: Ctrl-C. The step under way is finished and saved first; the message says how to go on.
    """
    device = next(model.parameters()).device
    history = History()
    keeper = _Keeper(checkpoints, model, optimizer, scheduler, batches, history, {**(settings or {}), "epochs": epochs})
    with keeper.alone(), _ctrl_c_noted(keeper) as ctrl_c:
        first_epoch, done = keeper.resume() if resume and distributed.is_main() else (0, 0)  # done: batches of that epoch
        first_epoch, done = keeper.start_together(first_epoch, done)
        parts = Parts(batches)
        compute_loss = distributed.averaging(model, compute_loss, step=lambda: len(history.rates))  # as given, in one process
        if not history.losses:
            keeper.save(epoch=0)  # stopped before the first save, a run still goes on from the same random numbers
        for epoch in range(first_epoch, epochs):
            if history.stopped_early:
                break
            model.train()
            first_step = len(history.losses) - done  # of this epoch
            unread: list[Tensor] = []  # reading a loss makes the CPU wait for the GPU, so they are read together
            for batch, weight in _with_bar(parts, f"epoch {epoch + 1}/{epochs}", done):
                with autocast(device):
                    loss = compute_loss(model, _to_device(batch, device))
                if weight != 1:  # several processes, with parts of unequal size
                    loss = weight * loss
                optimizer.zero_grad()
                loss.backward()
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                history.rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                unread.append(loss.detach())
                stop, save = distributed.any_of(bool(ctrl_c), keeper.save_is_due())
                if stop or save:
                    _read(unread, history, model)
                    keeper.save_in_mid_epoch(epoch)
                    keeper.stop_if(stop)
            _read(unread, history, model)
            distributed.follow_main(model)

            losses = history.losses[first_step:]
            numbers = {"train_loss": sum(losses) / len(losses)}
            if validate is not None:
                model.eval()
                with torch.no_grad():
                    numbers |= {name: float(value) for name, value in validate(model).items()}  # of NumPy or torch as well
            numbers = distributed.from_main(numbers)  # what is decided by them is decided alike everywhere
            history.epochs.append(numbers)
            print(f"epoch {epoch + 1}/{epochs}  " + "  ".join(f"{name} {value:.4f}" for name, value in numbers.items()))
            if patience is not None and monitor not in numbers:
                raise ValueError(f"patience looks at {monitor!r}, and validate returns only {', '.join(numbers)}: set monitor")
            if monitor in numbers:
                if _note_best(history, monitor):
                    keeper.save_best(numbers)
                history.stopped_early = patience is not None and history.stale >= patience
            keeper.save(epoch + 1)
            if tracker is not None:
                _track(tracker, history, first_step)
            done = 0
            (stop,) = distributed.any_of(bool(ctrl_c))
            keeper.stop_if(stop and epoch + 1 < epochs)
    return history


def load_best(model: nn.Module, checkpoints: Path) -> None:
    """Give `model` the weights of the best epoch, which `fit` has kept in the folder `checkpoints`; it is in eval mode then.

    Raises:
        LessonError: There are none (nothing was monitored), or they are another model's.
    """
    path = checkpoints / "best.pt"
    checkpoint.load_weights(model, checkpoint.load(path, next(model.parameters()).device)["model"], path)
    model.eval()


def evaluate(model: nn.Module, batches: Iterable) -> dict[str, float]:
    """Mean cross entropy and accuracy (0..1) of a classifier over batches (inputs, labels), in eval mode.

    Several processes take the batches in turn, and all get the numbers of all batches.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    loss, correct, count = 0.0, 0, 0
    with torch.no_grad():
        for batch in itertools.islice(batches, distributed.rank(), None, distributed.world_size()):
            inputs, labels = _to_device(batch, device)
            logits = model(inputs)  # (batch, classes)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(dim=1) == labels).sum().item()
            count += len(labels)
    model.train(was_training)
    loss, correct, count = distributed.total(loss, correct, count)
    return {"loss": loss / count, "accuracy": correct / count}


# ------------------------------------------------------------------------------------- what would only clutter fit


def _with_bar(parts: Parts, name: str, done: int) -> Iterable:
    """`parts`, with a progress bar where somebody looks on."""
    return tqdm(parts, name, initial=done, leave=False, disable=None if distributed.is_main() else True)


def _to_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a batch, in tuples, lists and dicts as well."""
    if isinstance(batch, (Tensor, PackedSequence)):
        return batch.to(device, non_blocking=True)
    if hasattr(batch, "_fields"):  # a named tuple
        return type(batch)(*(_to_device(item, device) for item in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_to_device(item, device) for item in batch)
    if isinstance(batch, dict):
        return {name: _to_device(item, device) for name, item in batch.items()}
    return batch


def _read(unread: list[Tensor], history: History, model: nn.Module) -> None:
    """Move losses from the device into the history, and stop a run that has blown up."""
    if not unread:
        return
    for loss in distributed.total(*torch.stack(unread).tolist()):
        loss /= distributed.world_size()
        if not math.isfinite(loss):
            step = len(history.losses) + 1
            raise LessonError(f"the loss became {loss} in step {step}; try a smaller learning rate, or clip_norm")
        history.losses.append(loss)
    unread.clear()
    # A gradient can overflow where the loss did not; such weights must not replace a checkpoint that is still good.
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        step = len(history.losses)
        raise LessonError(f"the weights are not finite any more after step {step}; try a smaller learning rate, or clip_norm")


def _note_best(history: History, monitor: str) -> bool:
    """Compare the last epoch with the best one so far; return whether it is the new best."""
    sign = -1 if "loss" in monitor else 1
    now, best = len(history.epochs) - 1, history.best_epoch
    value = sign * history.epochs[now][monitor]
    is_best = value > sign * history.epochs[best][monitor] if best >= 0 else not math.isnan(value)
    if is_best:
        history.best_epoch = now
    history.stale = now - history.best_epoch
    return is_best


def _track(tracker: Any, history: History, first_step: int) -> None:
    """Write the last epoch's curves."""
    for step in range(first_step, len(history.losses)):
        tracker.log({"train/loss": history.losses[step], "train/learning_rate": history.rates[step]}, step)
    tracker.log({f"epoch/{name}": value for name, value in history.epochs[-1].items()}, len(history.losses))


@contextlib.contextmanager
def _ctrl_c_noted(keeper: "_Keeper") -> Iterator[list[bool]]:
    """Turn the first Ctrl-C into an entry in the list that is yielded; the second one interrupts at once.

    Interrupted in mid-step, the weights and the optimizer's memory would no longer belong together.
    """
    pressed: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread may handle signals; and a shell starts `... &` with Ctrl-C ignored: it is meant for somebody else.
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield pressed
        return

    def note(*_) -> None:
        pressed.append(True)
        if not distributed.is_on():  # torchrun passes on what the terminal may have sent already: one press, two signals
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    except RuntimeError:  # Ctrl-C ends a DataLoader's workers as well, and the loader complains before the step is done
        keeper.stop_if(pressed)
        raise
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class _Keeper:
    """Writes and reads the checkpoints of one run. Without a folder it does nothing."""

    folder: Path | None
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    batches: Any
    history: History
    settings: dict[str, Any]
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def knows_the_batch(self) -> bool:
        """`Batches` can go on in mid-epoch; a DataLoader cannot, it starts the epoch again."""
        return hasattr(self.batches, "load_state_dict")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs out of the folder, and clear away what a run that was killed while saving left there."""
        if self.folder is None or not distributed.is_main():
            yield
            return
        with checkpoint.alone(self.folder):
            for unfinished in (*self.folder.glob("last.pt.*.tmp"), *self.folder.glob("best.pt.*.tmp")):
                unfinished.unlink(missing_ok=True)
            yield

    def save_is_due(self) -> bool:
        due = time.monotonic() - self.saved_at > SECONDS_BETWEEN_SAVES
        return due and self.folder is not None and self.knows_the_batch

    def save_in_mid_epoch(self, epoch: int) -> None:
        if self.knows_the_batch:
            self.save(epoch)

    def save(self, epoch: int) -> None:
        """Write last.pt: `epoch` is the one to go on with."""
        if self.folder is not None:
            checkpoint.save(self.folder / "last.pt", self._state(epoch))
            self.saved_at = time.monotonic()

    def _state(self, epoch: int) -> dict[str, Any]:
        generator = self._loader_generator()
        return {
            "epoch": epoch,
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "batches": self.batches.state_dict() if self.knows_the_batch else None,
            "loader": generator.get_state() if generator else None,
            "random": random_state(),
            "history": vars(self.history),
        }

    def _loader_generator(self) -> torch.Generator | None:
        """The generator that a DataLoader was given; without one it draws from the global one."""
        return None if self.knows_the_batch else getattr(self.batches, "generator", None)

    def save_best(self, numbers: dict[str, float]) -> None:
        if self.folder is not None:
            checkpoint.save(self.folder / "best.pt", {"model": self.model.state_dict(), "numbers": numbers})

    def resume(self) -> tuple[int, int]:
        """Put everything back as last.pt has it; return the epoch to go on with, and how many batches of it are done."""
        path = self.folder / "last.pt" if self.folder else None
        if path is None or not path.exists():
            print("nothing to resume; starting from the beginning")
            return 0, 0
        state = checkpoint.load(path)
        try:
            different = self._differences(state["settings"])
            if different:
                raise LessonError(f"{paths.short(path)} has other settings: {different}; use those, or start without --resume")
            self._put_back(state, path)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise LessonError(f"{paths.short(path)} does not fit this run ({error}); start without --resume") from None
        print(f"going on after step {len(self.history.losses)} (epoch {state['epoch'] + 1})")
        return state["epoch"], state["batches"]["position"] if state["batches"] else 0

    def _differences(self, settings: dict[str, Any]) -> str:
        """What is other in `settings` than here; "" if nothing is."""
        names = [name for name in {**settings, **self.settings} if settings.get(name) != self.settings.get(name)]
        return ", ".join(f"{name} {settings.get(name)} (now {self.settings.get(name)})" for name in names)

    def _put_back(self, state: dict[str, Any], source: Path) -> None:
        checkpoint.load_weights(self.model, state["model"], source)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if state["batches"] is not None:
            self.batches.load_state_dict(state["batches"])
        if state["loader"] is not None:
            self._loader_generator().set_state(state["loader"])
        vars(self.history).update(state["history"])
        restore_random_state(state["random"])

    def start_together(self, epoch: int, done: int) -> tuple[int, int]:
        """Put every process where process 0 is: weights, optimizer, place in the data, random numbers. Returns its arguments."""
        if not distributed.is_on():
            return epoch, done
        state = distributed.from_main({**self._state(epoch), "done": done, "count": len(self.batches)})
        different = self._differences(state["settings"])
        if len(self.batches) != state["count"]:
            different = f"{state['count']} batches (here {len(self.batches)})"
        if different:
            raise LessonError(f"process 0 runs with other data or settings than process {distributed.rank()}: {different}")
        if not distributed.is_main():
            self._put_back(state, Path("process 0"))
        return state["epoch"], state["done"]

    def stop_if(self, ctrl_c: Any) -> None:
        if ctrl_c:
            kept = f"; saved in {paths.short(self.folder)}, go on with --resume" if self.folder else "; nothing was saved"
            raise KeyboardInterrupt(f"stopped by Ctrl-C after step {len(self.history.losses)}{kept}")
