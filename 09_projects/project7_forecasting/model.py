"""The networks that say by how much a series will change, in quantiles, and the file in which they are kept.

    (batch, window, inputs) → (batch, steps, horizon x levels), the answers belong to the last steps of the window

LSTM and convolution answer at every step of what they read; N-BEATS reads the whole window and answers once.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from project7_forecasting.data import Plan, Scale, Task
from utils import checkpoint, paths
from utils.lesson import LessonError, check
from utils.networks.forecasters import Convolutional, Recurrent

LEVELS = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])  # of the quantiles; the first and the last enclose 90 %
PAIRS = {0.9: (0, 4), 0.5: (1, 3)}  # intervals, and which levels are their ends
KINDS = ("LSTM", "convolution", "N-BEATS")
FACTS = (
    *("kinds", "hidden", "inputs", "columns", "ahead_columns", "plan", "scale", "corrections", "logarithm"),
    *("options", "name", "source", "error", "ratio"),
)
TRAIN_AGAIN = "train again with `python -m study run project7`"


class Blocks(nn.Module):
    """N-BEATS, the generic one (Oreshkin et al., 2020), with all columns as its input.

    Each block says what it understood of the window and what follows from it. The next one reads what is left of the window.
    """

    def __init__(self, inputs: int, window: int, hidden: int, outputs: int, blocks: int = 3):
        """Args: inputs in each of `window` steps; hidden is the size of each block's two layers."""
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs * window, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
            for _ in range(blocks)
        )
        self.understood = nn.ModuleList(nn.Linear(hidden, inputs * window) for _ in range(blocks))
        self.follows = nn.ModuleList(nn.Linear(hidden, outputs) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        left, answer = x.flatten(1), 0.0  # (batch, window x inputs)
        for block, understood, follows in zip(self.blocks, self.understood, self.follows, strict=True):
            read = block(left)  # (batch, hidden)
            left = left - understood(read)
            answer = answer + follows(read)
        return answer.unsqueeze(1)  # (batch, 1, outputs): one answer, at the last step


def make_network(kind: str, inputs: int, plan: Plan, hidden: int) -> nn.Module:
    """One of KINDS with random weights; `inputs` is `Task.input_size`."""
    outputs = plan.horizon * len(LEVELS)
    if kind == "N-BEATS":
        return Blocks(inputs, plan.window, 2 * hidden, outputs)
    return Recurrent(nn.LSTM, inputs, hidden, outputs) if kind == "LSTM" else Convolutional(inputs, hidden, outputs)


@torch.no_grad()
def quantiles_of(network: nn.Module, task: Task, scale: Scale, origins: Tensor) -> Tensor:
    """Forecast the target after each of the rows `origins`: quantiles in order, (n, horizon, levels), in the task's scale."""
    network.eval()
    answers = torch.cat([network(task.windows(some, scale))[:, -1] for some in origins.split(1000)])
    changes = answers.unflatten(1, (task.plan.horizon, len(LEVELS))).sort(dim=-1).values  # sorting never makes the loss worse
    return task.observed[origins, :1, None] + changes * scale.changes[:, None]


# %% The file
class Forecaster:
    """Networks that forecast together: the mean of their quantiles, corrected by what their intervals had held."""

    def __init__(self, networks: Sequence[tuple[str, nn.Module]], scale: Scale, corrections: Tensor):
        """Args: networks with their kinds; corrections (horizon, intervals) are added at both ends, in the task's scale."""
        self.networks, self.scale, self.corrections = list(networks), scale, corrections

    def __call__(self, task: Task, origins: Tensor) -> Tensor:
        """Quantiles of the target after each of the rows, (n, horizon, levels), in units."""
        together = torch.stack([quantiles_of(network, task, self.scale, origins) for _, network in self.networks]).mean(dim=0)
        return task.in_units(widened(together, self.corrections.expand(len(origins), -1, -1)))


def widened(quantiles: Tensor, corrections: Tensor) -> Tensor:
    """Quantiles (n, horizon, levels) with corrections (n, horizon, intervals) at both ends of each of PAIRS, in order again."""
    corrected = quantiles.clone()
    for number, (low, high) in enumerate(PAIRS.values()):
        corrected[..., low] -= corrections[..., number]
        corrected[..., high] += corrections[..., number]
    middle = quantiles[..., len(LEVELS) // 2]  # stays: a correction below 0 may not carry an end over it
    below, above = corrected[..., :2], corrected[..., 3:]
    below = torch.minimum(below.sort(dim=-1).values, middle.unsqueeze(-1))
    above = torch.maximum(above.sort(dim=-1).values, middle.unsqueeze(-1))
    return torch.cat([below, middle.unsqueeze(-1), above], dim=-1)


def save_forecaster(path: Path, forecaster: Forecaster, task: Task, hidden: int, **about) -> None:
    """Keep the networks in one file, with everything that is needed to use them."""
    together = nn.ModuleList(network for _, network in forecaster.networks)
    checkpoint.save_model(
        path,
        together,
        kinds=[kind for kind, _ in forecaster.networks],
        hidden=hidden,
        inputs=task.input_size,
        columns=list(task.columns),
        ahead_columns=list(task.ahead_columns),
        plan=vars(task.plan),
        scale=list(forecaster.scale),
        corrections=forecaster.corrections,
        logarithm=task.logarithm,
        **about,
    )


def load_forecaster(path: Path, device: torch.device | str = "cpu") -> tuple[Forecaster, dict]:
    """Load what `save_forecaster` has written.

    Returns:
        The forecaster, and the facts: "name", "source", "columns", "plan", "options" of the command line, "error", "ratio".

    Raises:
        LessonError: There is no such file, it is damaged, or it is another model's.
    """
    about = checkpoint.load_facts(path, path, FACTS, "run project7")[1]
    try:
        plan = Plan(**about["plan"])
        networks = [(kind, make_network(kind, about["inputs"], plan, about["hidden"])) for kind in about["kinds"]]
        scale = Scale(*(one.to(device) for one in about["scale"]))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise LessonError(f"{paths.short(path)} is not a forecaster of this project ({error}): {TRAIN_AGAIN}") from None
    about = checkpoint.load_model(path, nn.ModuleList(network for _, network in networks), device)
    for _, network in networks:
        network.eval()
    return Forecaster(networks, scale, about["corrections"].to(device)), about | {"plan": plan}


def fits(task: Task, about: dict) -> None:
    """See that a task is one that saved networks can read.

    Raises:
        LessonError: It has other columns, or is forecast in another way.
    """
    for what, expected, found in (
        ("columns", about["columns"], list(task.columns)),
        ("columns known ahead", about["ahead_columns"], list(task.ahead_columns)),
        ("window and horizon", [about["plan"].window, about["plan"].horizon], [task.plan.window, task.plan.horizon]),
        ("logarithm", about["logarithm"], task.logarithm),
        ("inputs", about["inputs"], task.input_size),
    ):
        check(expected == found, f"the networks were trained on a series whose {what} were {expected}, here they are {found}")
