"""What learns without gradients: simple rules, climatology, and ridge regression. Whoever trains a network has to beat these.

Each is fitted to a fold, and then forecasts the target after any rows (origins): (n,) → (n, horizon), in the task's own scale.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from project7_forecasting.data import Fold, Task

Forecaster = Callable[[Tensor], Tensor]

AVERAGES = (3, 7, 14, 28)  # rows
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
MOST_LEARNED = 10_000  # forecasts that ridge regression learns from: of more, every second or third


def last_value(task: Task, fold: Fold) -> Forecaster:
    """Everything stays as it is."""
    return lambda origins: task.observed[origins, :1].expand(-1, task.plan.horizon)


def drift(task: Task, fold: Fold) -> Forecaster:
    """The line from the first value that is learned from to the last one goes on."""

    def forecast(origins: Tensor) -> Tensor:
        y = task.observed[:, 0]
        slope = (y[origins] - y[fold.start]) / (origins - fold.start)
        return y[origins, None] + slope[:, None] * torch.arange(1, task.plan.horizon + 1, device=y.device)

    return forecast


def seasonal_naive(task: Task, fold: Fold) -> Forecaster:
    """As it was one season before; NaN where the series had not begun."""
    ahead = torch.arange(1, task.plan.horizon + 1, device=task.observed.device)
    back = task.period * (1 + (ahead - 1) // task.period) - ahead  # whole seasons back, to what is known

    def forecast(origins: Tensor) -> Tensor:
        rows = origins[:, None] - back
        return task.observed[rows.clamp(min=0), 0].masked_fill(rows < 0, torch.nan)

    return forecast


def moving_average(task: Task, fold: Fold) -> Forecaster:
    """The mean of the last values; how many of them is chosen on the rows that are learned from."""
    past = learned_origins(task, fold)

    def average(origins: Tensor, length: int) -> Tensor:
        rows = origins[:, None] - torch.arange(length, device=origins.device)
        return task.observed[rows.clamp(min=0), 0].mean(dim=1, keepdim=True).expand(-1, task.plan.horizon)

    length = min(AVERAGES, key=lambda length: (average(past, length) - task.targets[past]).abs().nanmean().item())
    return lambda origins: average(origins, length)


def climatology(task: Task, fold: Fold) -> Forecaster:
    """What is usual for the date, whatever has just happened: a regression on what is known ahead, and on nothing else."""
    scale = task.scale(fold)
    ahead = (task.ahead - scale.ahead_mean) / scale.ahead_std
    table = F.pad(torch.cat([task.calendar, ahead], dim=1), (0, 1), value=1.0).double()  # (time + horizon, points + columns + 1)
    rows = torch.arange(fold.start, fold.known, device=table.device)
    rows = rows[~task.measured[rows].isnan()]
    weights = _solve(table[rows], task.measured[rows, None].double(), 1e-3)
    return lambda origins: (table[task.rows_ahead(origins)] @ weights).squeeze(-1).float()


def ridge(task: Task, fold: Fold) -> Forecaster:
    """Linear regression on the whole window and on what is known ahead, with a penalty on large weights.

    It forecasts changes from the last value. The penalty is chosen on the last fifth of what it learns from.
    """
    past = learned_origins(task, fold)
    past = past[~task.targets[past].isnan().any(dim=1)]
    past = past[:: -(-len(past) // MOST_LEARNED)]
    scale = task.scale(fold)

    def table(origins: Tensor) -> Tensor:
        rows = origins[:, None] + torch.arange(1 - task.plan.window, 1, device=origins.device)
        window = ((task.inputs[rows] - scale.mean) / scale.std).flatten(1)  # (n, window x variables)
        return F.pad(torch.cat([window, task.known_ahead(origins, scale)], dim=1), (0, 1), value=1.0).double()

    x, y = table(past), (task.targets - task.observed[:, :1])[past].double()
    cut = len(past) * 4 // 5
    first = x[: max(1, cut - task.plan.horizon)]  # behind them targets reach into the rest

    def error(penalty: float) -> float:
        return (x[cut:] @ _solve(first, y[: len(first)], penalty) - y[cut:]).abs().mean().item()

    weights = _solve(x, y, min(PENALTIES, key=error))
    return lambda origins: task.observed[origins, :1] + (table(origins) @ weights).float()


RULES = {
    "last value": last_value,
    "drift": drift,
    "seasonal naive": seasonal_naive,
    "moving average": moving_average,
    "climatology": climatology,
    "ridge": ridge,
}
SIMPLE = tuple(name for name in RULES if name != "ridge")


def rules_for(task: Task) -> dict[str, Callable[[Task, Fold], Forecaster]]:
    """Those that the series allows: without a whole season to learn from there is nothing seasonal."""
    fewest = len(task) - task.plan.folds * task.plan.test - task.plan.calibration
    has_season = 1 < task.period < fewest - task.plan.horizon
    return {name: rule for name, rule in RULES.items() if has_season or name != "seasonal naive"}


def learned_origins(task: Task, fold: Fold) -> Tensor:
    return task.origins_to_learn(fold).to(task.observed.device)


def with_past_errors(forecast: Forecaster, task: Task, fold: Fold, levels: Tensor) -> Forecaster:
    """Quantiles round a forecast of one number: those of its errors on what was learned from, for every row ahead.

    Args:
        forecast: (n,) → (n, horizon).
        task: The task.
        fold: What was learned from.
        levels: (levels,), the one in the middle 0.5: there the forecast stays as it is.

    Returns:
        (n,) → (n, horizon, levels).
    """
    past, middle = learned_origins(task, fold), len(levels) // 2
    errors = task.targets[past] - forecast(past)  # (n, horizon)
    spread = torch.nanquantile(errors.double(), levels.double().to(errors.device), dim=0).T.float()  # (horizon, levels)
    spread[:, :middle].clamp_(max=0.0)  # of a rule that is always too low all errors are above 0: it stays what it is
    spread[:, middle] = 0.0
    spread[:, middle + 1 :].clamp_(min=0.0)
    return lambda origins: forecast(origins)[..., None] + spread


def _solve(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Weights (inputs, outputs) of ridge regression; the constant, the last input, is not made smaller."""
    shrink = torch.full((x.shape[1],), penalty, dtype=x.dtype, device=x.device)
    shrink[-1] = 1e-6
    return torch.linalg.solve(x.T @ x + shrink.diag(), x.T @ y)
