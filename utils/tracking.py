"""Writing down a run so that it can be looked at while it goes on: `tensorboard --logdir outputs`."""

import time
from pathlib import Path

from utils import paths
from utils.lesson import mention


class TensorBoard:
    """Numbers and figures of one run, for TensorBoard.

    Each run gets a folder of its own, named after the time it started: TensorBoard shows one curve for each folder.
    """

    def __init__(self, folder: Path):
        """Start a log below `folder`; logs of earlier runs are kept."""
        # Importing tensorboard takes longer than a small lesson, so it waits until somebody wants it.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / time.strftime("%Y-%m-%d_%H-%M-%S")))
        mention("written", f"{paths.short(folder)}  (see it with: tensorboard --logdir outputs)")

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Add one point to each curve named in `numbers`."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def figure(self, name: str, figure, step: int = 0) -> None:
        """Add a matplotlib figure; it stays open."""
        self._writer.add_figure(name, figure, step, close=False)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()
