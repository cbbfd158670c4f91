"""Saving and loading that survive a full disk, a pulled plug and a hostile file."""

import contextlib
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from utils import distributed, paths
from utils.lesson import LessonError, check, explain, mention


def save(path: Path, state: dict) -> None:
    """Write `state` to `path`, all of it or nothing.

    It is written to another file beside `path`, forced to the disk, and then renamed, which replaces the old checkpoint in one
    step: killed at any moment, there is a whole checkpoint under that name, the old one or the new one.

    Where torchrun started several processes, all of them call this, the first one writes, and nobody goes on before it has.

    Raises:
        LessonError: The disk is full or cannot be written to. The old checkpoint is as it was.
    """
    if distributed.is_main():
        _write(path, state)
    distributed.meet()


def _write(path: Path, state: dict) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a failed write into a RuntimeError
        reason = error if isinstance(error, OSError) else error.__context__
        kept = "; the checkpoint from before is untouched" if path.exists() else ""
        told = explain(reason) if isinstance(reason, OSError) else str(error).splitlines()[0]
        raise LessonError(f"could not save {paths.short(path)}: {told}{kept}") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def load(path: Path, device: torch.device | str = "cpu") -> dict:
    """Read a checkpoint without running any code in it.

    A pickle can hold instructions to run anything (https://pytorch.org/docs/stable/generated/torch.load.html), so only tensors
    and plain Python values are let through: `weights_only=True`.

    Raises:
        LessonError: The file is missing, truncated, no checkpoint, or holds more than plain data.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise LessonError(f"{paths.short(path)} does not exist; train first, or name another file") from None
    except IsADirectoryError:
        raise LessonError(f"{paths.short(path)} is a folder, not a checkpoint") from None
    except PermissionError as error:
        raise LessonError(explain(error)) from None
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # the pickle instruction that names a function or a class
            raise LessonError(
                f"{paths.short(path)} holds Python objects or code, not only weights; it was refused and nothing in it was run"
            ) from None
        raise LessonError(f"{paths.short(path)} is not a checkpoint, or it is damaged; the file was left as it is") from None
    except torch.OutOfMemoryError:
        raise
    except Exception:  # out of a damaged file comes nearly anything: RuntimeError, EOFError, KeyError, struct.error, ...
        raise LessonError(f"{paths.short(path)} is truncated or damaged; the file was left as it is: train again") from None
    if not isinstance(state, dict):
        raise LessonError(f"{paths.short(path)} holds a {type(state).__name__}, not a checkpoint")
    return state


def load_facts(file: Path | None, default: Path, names: Sequence[str], command: str) -> tuple[Path, dict]:
    """Load what a project has kept, and see that all it needs stands in it.

    Args:
        file: As the reader named it; None is `default`.
        default: Where training puts it.
        names: Keys that have to be there.
        command: What trains it: "run mnist".

    Returns:
        Which file that is, and what is in it.

    Raises:
        LessonError: As for `load`; nothing has been trained yet; or a name is missing.
    """
    path = file or default
    if file is None:
        check(path.exists(), f"there is no trained network yet: run `python -m study {command}` first")
    kept = load(path)
    missing = [name for name in names if name not in kept]
    check(not missing, f"{paths.short(path)} does not say its {', '.join(missing)}: train again with `python -m study {command}`")
    return path, kept


def save_model(path: Path, model: nn.Module, **about) -> None:
    """Save a network's weights together with plain facts about them: data source, accuracy, settings."""
    save(path, {"model": model.state_dict(), **about})
    mention("written", paths.short(path))


def load_model(path: Path, model: nn.Module, device: torch.device | str = "cpu") -> dict:
    """Load weights into `model`, which must fit exactly, and move it to `device`.

    Returns:
        The facts that were saved with them.

    Raises:
        LessonError: As for `load`, or the weights are another network's; the message names the keys.
    """
    about = load(path, device)
    weights = about.pop("model", None)
    if not isinstance(weights, dict):
        raise LessonError(f"{paths.short(path)} has no weights under 'model'; keys: {_first_few(list(about)) or 'none'}")
    load_weights(model, weights, path)
    model.to(device)
    return about


def check_saved(path: Path, model: nn.Module, again: nn.Module, device: torch.device | str = "cpu") -> None:
    """Load `path` into `again`, a new network like `model`, and see that it holds what `model` has.

    Raises:
        LessonError: As for `load_model`, or a weight differs.
    """
    load_model(path, again, device)
    pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    same = all(torch.equal(ours.cpu(), saved.cpu()) for ours, saved in pairs)
    check(same, f"{paths.short(path)} does not hold what was saved")


def load_weights(model: nn.Module, weights: dict, path: Path) -> None:
    """Put `weights` into `model`, or say by name which keys do not fit."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    differ = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in expected
        if found.get(name, expected[name]) != expected[name]
    ]
    problems = []
    for word, names in (("lacks", missing), ("also has", unknown), ("has", differ)):
        if names:
            problems.append(f"{word} {_first_few(names)}")
    if problems:
        raise LessonError(f"{paths.short(path)} is of another model than {type(model).__name__}: it {', '.join(problems)}")
    model.load_state_dict(weights)


def _first_few(names: list, most: int = 3) -> str:
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process: a second run that wants it is turned away instead of mixing its checkpoints in.

    The operating system lifts the lock when the process ends, however it ends.

    Raises:
        LessonError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+b") as file:
        try:
            _lock(file)
        except OSError:
            raise LessonError(
                f"another run is training into {paths.short(folder)} right now; wait until it has ended, or stop it first"
            ) from None
        yield


def _lock(file) -> None:
    """Take an exclusive lock on an open file, or raise OSError at once."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        # lockf, not flock: a DataLoader's workers, forked from this process, would inherit a flock and outlive it for seconds.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
