"""Writing down a run so that it can be looked at while it goes on: `tensorboard --logdir outputs`."""

from pathlib import Path

from utils import paths
from utils.lesson import mention


class TensorBoard:
    """Numbers and figures of one run, for TensorBoard.

    The log of an earlier run in the same folder is kept: TensorBoard shows one curve for each run.
    """

    def __init__(self, folder: Path):
        # Importing tensorboard takes longer than a small lesson, so it waits until somebody wants it.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
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
