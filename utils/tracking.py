"""Writing down a run so that it can be looked at while it goes on, in whichever tool you like: the same three calls.

    tracker = start("tensorboard", outputs("project1_mnist"), settings={"lr": 0.1})
    tracker.log({"train/loss": 0.7}, step=0)
    tracker.figure("mistakes", figure, step=0)
    tracker.close()

TensorBoard comes with the course. W&B and MLflow are an extra: `python -m study setup --extra tracking`. Nothing here needs an
account or the network: W&B writes offline, MLflow into an SQLite file. Each run is kept apart from those before it.
"""

import contextlib
import json
import logging
import sqlite3
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from utils import distributed, paths
from utils.lesson import LessonError, mention

Kind = Literal["tensorboard", "wandb", "mlflow"]


class Tracker(Protocol):
    """What every tool here can do."""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Add one point to each curve named in `numbers`."""

    def figure(self, name: str, figure: Any, step: int = 0) -> None:
        """Add a matplotlib figure; it stays open."""

    def close(self) -> None:
        """Write what is still in memory."""


def start(kind: Kind, folder: Path, settings: dict[str, Any] | None = None) -> Tracker:
    """Begin to write down a run. Of several processes that make one run, the first one writes.

    Args:
        kind: Which tool.
        folder: Everything is written below it; runs of earlier days stay there.
        settings: What this run was given: learning rate, seed, data.

    Raises:
        LessonError: W&B or MLflow is not installed.
    """
    if not distributed.is_main():
        return Nothing()
    if kind == "tensorboard":
        return TensorBoard(folder / "tensorboard", settings)
    return WandB(folder, settings) if kind == "wandb" else MLflow(folder, settings)


class Nothing:
    """Writes nothing down."""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Add nothing."""

    def figure(self, name: str, figure: Any, step: int = 0) -> None:
        """Add nothing."""

    def close(self) -> None:
        """Nothing is in memory."""


class TensorBoard:
    """Event files in a folder of its own for each run, named after the time it started: one curve for each folder."""

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None):
        """Start a log below `folder`; the settings become a page of text beside the curves."""
        # Importing tensorboard takes longer than a small lesson, so it waits until somebody wants it.
        from torch.utils.tensorboard import SummaryWriter

        self.folder = new_folder(folder)
        self._writer = SummaryWriter(str(self.folder))
        if settings:
            self._writer.add_text("settings", "\n".join(f"- {name}: {value}" for name, value in settings.items()))
        mention("written", f"{paths.short(folder)}  (see it with: tensorboard --logdir outputs)")

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Add one point to each curve named in `numbers`."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def figure(self, name: str, figure: Any, step: int = 0) -> None:
        """Add a matplotlib figure; it stays open."""
        self._writer.add_figure(name, figure, step, close=False)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


class WandB:
    """Weights & Biases, offline: a run-*.wandb file, which `wandb sync` uploads if you ever want that."""

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None):
        """Start a run in `folder`/wandb, whatever WANDB_MODE says: nothing leaves this machine."""
        try:
            import wandb
        except ImportError:
            raise _not_installed("W&B") from None
        folder.mkdir(parents=True, exist_ok=True)
        options = wandb.Settings(console="off", silent=True)  # it would copy all that is printed, and print itself
        self._run = wandb.init(project="pytorch-study", dir=str(folder), mode="offline", config=settings, settings=options)
        self._image = wandb.Image
        self.folder = Path(self._run.dir).parent
        mention("written", f"{paths.short(self.folder)}  (upload it with: wandb sync {paths.short(self.folder)})")

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Add one point to each curve named in `numbers`."""
        self._run.log(dict(numbers), step=step)

    def figure(self, name: str, figure: Any, step: int = 0) -> None:
        """Add a matplotlib figure; it stays open."""
        self._run.log({name: self._image(figure)}, step=step)

    def close(self) -> None:
        """Write what is still in memory."""
        self._run.finish()

    def read(self) -> dict[str, dict[int, float]]:
        """Read the curves back from the file: name → step → value.

        W&B has no reader of its own for it. After 7 bytes of heading run-*.wandb is a LevelDB log: blocks of 32 KiB, full of
        records, each a protocol buffer (https://github.com/google/leveldb/blob/main/doc/log_format.md).
        """
        from wandb.proto.wandb_internal_pb2 import Record

        curves: dict[str, dict[int, float]] = {}
        (path,) = self.folder.glob("run-*.wandb")
        for content in _log_records(path.read_bytes(), start=7):
            record = Record.FromString(content)
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                if not name.startswith("_") and isinstance(value, (int, float)):
                    curves.setdefault(name, {})[row["_step"]] = value
        return curves


class MLflow:
    """MLflow: all runs of a folder in one SQLite file, figures beside it."""

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None):
        """Start a run in `folder`/mlflow.db."""
        try:
            with _quiet("alembic", "mlflow"):
                from mlflow import MlflowClient
        except ImportError:
            raise _not_installed("MLflow") from None
        folder.mkdir(parents=True, exist_ok=True)
        self.database = folder / "mlflow.db"
        with _quiet("alembic", "mlflow"):  # it tells about every table that it makes
            self._client = MlflowClient(f"sqlite:///{self.database.as_posix()}")
            experiment = self._client.get_experiment_by_name("pytorch-study")
            if experiment is None:
                place = (folder / "mlflow-artifacts").as_uri()
                identity = self._client.create_experiment("pytorch-study", artifact_location=place)
            else:
                identity = experiment.experiment_id
            self._run_id = self._client.create_run(identity, run_name=time.strftime("%Y-%m-%d_%H-%M-%S")).info.run_id
        for name, value in (settings or {}).items():
            self._client.log_param(self._run_id, name, value)
        mention(
            "written", f"{paths.short(self.database)}  (see it with: mlflow ui --backend-store-uri sqlite:///{self.database})"
        )

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Add one point to each curve named in `numbers`."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        points = [Metric(name, float(value), now, step) for name, value in numbers.items()]
        self._client.log_batch(self._run_id, metrics=points)

    def figure(self, name: str, figure: Any, step: int = 0) -> None:
        """Add a matplotlib figure; it stays open."""
        self._client.log_figure(self._run_id, figure, f"{name}_{step}.png")

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id)

    def read(self) -> dict[str, dict[int, float]]:
        """Read the curves back from the file, with nothing but Python: name → step → value."""
        curves: dict[str, dict[int, float]] = {}
        connection = sqlite3.connect(self.database)
        question = "SELECT key, step, value FROM metrics WHERE run_uuid = ?"
        for name, step, value in connection.execute(question, [self._run_id]):
            curves.setdefault(name, {})[step] = value
        connection.close()
        return curves


def _log_records(content: bytes, start: int) -> Iterator[bytes]:
    """The records of a LevelDB log, put together from their parts."""
    position, parts = start, []
    while position + 7 <= len(content):
        rest = 32768 - position % 32768
        if rest < 7:  # no room for a record's heading: the block ends in zeros
            position += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)  # checksum, length, whole or part
        parts.append(content[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield b"".join(parts)
            parts = []


def new_folder(parent: Path) -> Path:
    """Make a folder named after this moment; a second run in the same second gets a number."""
    now, number = time.strftime("%Y-%m-%d_%H-%M-%S"), 1
    while True:
        folder = parent / (now if number == 1 else f"{now}_{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _not_installed(name: str) -> LessonError:
    return LessonError(f"{name} is not installed; `python -m study setup --extra tracking` installs it, and TensorBoard is there")


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let these loggers say warnings and errors only."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
