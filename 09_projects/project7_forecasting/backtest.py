"""Walking forward: every method forecasts each test period from what was known before it, and is measured on what came.

All get the same deal: they learn from the same rows, their intervals are corrected by the same calibration rows and by whatever
of the test period has become known since, and they are judged on the same targets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from project7_forecasting.data import Fold, Task
from project7_forecasting.model import LEVELS, PAIRS, quantiles_of, widened
from project7_forecasting.rules import SIMPLE, rules_for, with_past_errors
from utils import checkpoint, paths
from utils.forecast_scores import Comparison, conformal_corrections, covered, diebold_mariano, interval_score, pinball
from utils.lesson import LessonError, check

NETWORKS = "networks"  # the mean of all of them: the forecast that is judged, decided before any test was seen
CERTAIN = 0.05  # the chance to call a method better that is not, over all methods together


class Trained:
    """A trained network: its kind, its seed, itself."""

    def __init__(self, kind: str, seed: int, network: nn.Module):
        self.kind, self.seed, self.network = kind, seed, network


@dataclass(frozen=True)
class Backtest:
    """What every method forecast, and what came. Everything is in the target's units and on the CPU.

    Attributes:
        name: Of the series.
        source: One line that says what was loaded.
        target: The column.
        unit: Of the target.
        period: Rows in a season.
        stride: Rows from one forecast to the next.
        fold: (n,), in which fold each forecast was made.
        origins: (n,), the rows after which they were made.
        targets: (n, horizon); NaN where nothing was measured.
        quantiles: By method, (n, horizon, levels), corrected.
        uncorrected: The same before the correction.
        seeds: By kind of network, and for one of each kind together: the error of each seed in each fold, (seeds, folds).
        history: (time,), the target; NaN where nothing was measured.
        dates: (time + horizon), as text.
        future: By method, (horizon, levels): the forecast after the last row.
        corrections: (horizon, intervals): what was added to the future intervals of the networks, in the task's scale.
    """

    name: str
    source: str
    target: str
    unit: str
    period: int
    stride: int
    fold: Tensor
    origins: Tensor
    targets: Tensor
    quantiles: dict[str, Tensor]
    uncorrected: dict[str, Tensor]
    seeds: dict[str, Tensor]
    history: Tensor
    dates: list[str]
    future: dict[str, Tensor]
    corrections: Tensor

    @property
    def horizon(self) -> int:
        return self.targets.shape[1]

    def errors(self, method: str) -> Tensor:
        """Absolute errors of the median: (n, horizon)."""
        return (self.quantiles[method][..., len(LEVELS) // 2] - self.targets).abs()

    def best_rule(self) -> str:
        """The simple rule with the smallest error on the test: the hardest comparison for what has learned."""
        return min((name for name in self.quantiles if name in SIMPLE), key=lambda name: self.errors(name).nanmean().item())


# %% Forecasting
def forecast_fold(task: Task, fold: Fold, networks: Sequence[Trained]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Forecast the calibration and the test period of a fold.

    Returns:
        By method (n, horizon, levels), and those of each network by itself; all in the task's scale, uncorrected, on the CPU.
    """
    origins = torch.cat([fold.calibration, fold.test])
    at_home = task.to("cpu")  # rules count in float64, which not every device has
    found = {
        name: with_past_errors(rule(at_home, fold), at_home, fold, LEVELS)(origins) for name, rule in rules_for(task).items()
    }
    scale, there = task.scale(fold), origins.to(task.observed.device)
    each = [quantiles_of(one.network, task, scale, there).cpu() for one in networks]
    for kind in dict.fromkeys(one.kind for one in networks):
        found[kind] = torch.stack([its for one, its in zip(networks, each, strict=True) if one.kind == kind]).mean(dim=0)
    if networks:
        found[NETWORKS] = torch.stack(each).mean(dim=0)
    return found, each


def corrections_for(quantiles: Tensor, task: Task, fold: Fold) -> Tensor:
    """What to add to both ends of each interval of the test period, (test, horizon, intervals), in the task's scale.

    Args:
        quantiles: (calibration + test, horizon, levels), in the task's scale, on the CPU.
        task: The task.
        fold: Where the two meet.
    """
    origins = torch.cat([fold.calibration, fold.test])
    targets = task.targets.cpu()[origins]
    count = len(fold.calibration)
    found = []
    for share, (low, high) in PAIRS.items():
        scores = torch.maximum(quantiles[..., low] - targets, targets - quantiles[..., high])  # (n, horizon)
        found.append(conformal_corrections(scores, origins, first=count, memory=count, share=share))
    return torch.stack(found, dim=-1)


def gather(task: Task, folds: Sequence[Fold], networks: Sequence[Sequence[Trained]]) -> Backtest:
    """Forecast with networks that were trained for each fold, the last of which lies in the future."""
    raw, corrected, future, seeds = {}, {}, {}, {}
    for number, (fold, its) in enumerate(zip(folds, networks, strict=True)):
        found, each = forecast_fold(task, fold, its)
        is_future, calibration = number == len(folds) - 1, len(fold.calibration)
        for method, quantiles in found.items():
            added = corrections_for(quantiles, task, fold)
            ready = task.in_units(widened(quantiles[calibration:], added))
            if is_future:
                future[method] = ready[0]
                corrections = added[0]  # of the networks, which come last
                continue
            raw.setdefault(method, []).append(task.in_units(quantiles[calibration:]))
            corrected.setdefault(method, []).append(ready)
        if not is_future:
            for kind, errors in _errors_by_seed(task, fold, its, each).items():
                seeds.setdefault(kind, []).append(errors)
    tested = folds[:-1]
    origins = torch.cat([fold.test for fold in tested])
    return Backtest(
        task.name,
        task.source,
        task.columns[0],
        task.unit,
        task.period,
        task.plan.stride,
        torch.cat([torch.full((len(fold.test),), number) for number, fold in enumerate(tested)]),
        origins,
        task.in_units(task.targets).cpu()[origins],
        {method: torch.cat(parts) for method, parts in corrected.items()},
        {method: torch.cat(parts) for method, parts in raw.items()},
        {kind: torch.stack(parts, dim=1) for kind, parts in seeds.items()},
        task.in_units(task.measured).cpu(),
        [str(date).replace("T", " ").removesuffix(":00:00") for date in task.dates],
        future,
        corrections,
    )


def _errors_by_seed(task: Task, fold: Fold, networks: Sequence[Trained], each: Sequence[Tensor]) -> dict[str, Tensor]:
    """The mean absolute error of each seed in a fold, by kind, and for one network of each kind together: (seeds,)."""
    middle, targets = len(LEVELS) // 2, task.in_units(task.targets.cpu()[fold.test])

    def errors(members: list[Tensor]) -> Tensor:
        together = torch.stack(members).mean(dim=0)[len(fold.calibration) :, :, middle]
        return (task.in_units(together) - targets).abs().nanmean()

    found = {}
    for seed in dict.fromkeys(one.seed for one in networks):
        mine = [(one.kind, its) for one, its in zip(networks, each, strict=True) if one.seed == seed]
        for kind, its in mine:
            found.setdefault(kind, []).append(errors([its]))
        found.setdefault(NETWORKS, []).append(errors([its for _, its in mine]))
    return {kind: torch.stack(values) for kind, values in found.items()}


# %% Measuring
def measure(backtest: Backtest, method: str) -> dict[str, float]:
    """What a method is worth on the test periods.

    Returns:
        "error" (mean absolute, in units), "error_one" of the first row ahead, "pinball", and of the 90 % interval "coverage",
        "width" and "score" (Winkler's); "coverage_before" the correction.
    """
    quantiles, targets = backtest.quantiles[method], backtest.targets
    low, high = quantiles[..., 0], quantiles[..., -1]
    before = backtest.uncorrected[method]
    errors = backtest.errors(method)
    return {
        "error": errors.nanmean().item(),
        "error_one": errors[:, 0].nanmean().item(),
        "pinball": pinball(quantiles, targets, LEVELS).nanmean().item(),
        "coverage": covered(low, high, targets).nanmean().item(),
        "coverage_before": covered(before[..., 0], before[..., -1], targets).nanmean().item(),
        "width": (high - low)[~targets.isnan()].mean().item(),
        "score": interval_score(low, high, targets, 0.9).nanmean().item(),
    }


def compare(backtest: Backtest, method: str, other: str) -> Comparison:
    """Whether a method's absolute errors, averaged over the rows ahead, differ from another's."""
    lags = 2 * math.ceil(backtest.horizon / backtest.stride)  # forecasts overlap by their horizon; twice that to be careful
    return diebold_mariano(backtest.errors(method).nanmean(dim=1), backtest.errors(other).nanmean(dim=1), lags)


def judge(backtest: Backtest, other: str = "last value") -> dict[str, Comparison]:
    """Every method but `other` against it."""
    return {method: compare(backtest, method, other) for method in backtest.quantiles if method != other}


def winners(backtest: Backtest, other: str = "last value") -> list[str]:
    """The methods that are better than `other` beyond doubt, the best first.

    One comparison in twenty of equals would come out so by chance; with m methods each has to be m times as certain (Bonferroni).
    """
    found = judge(backtest, other)
    better = [method for method, one in found.items() if one.difference < 0 and one.p_value < CERTAIN / len(found)]
    return sorted(better, key=lambda method: found[method].difference)


def is_short(backtest: Backtest) -> bool:
    """Whether there are fewer than ten horizons of forecasts: so few do not say how much their losses vary together."""
    return len(backtest.origins) * backtest.stride < 10 * backtest.horizon


def verdict(backtest: Backtest) -> str:
    """One sentence: who beats the last value, if anybody does."""
    count = len(backtest.origins)
    return _verdict(backtest) + (f" (with care: {count} forecasts that overlap are few)" if is_short(backtest) else "")


def _verdict(backtest: Backtest) -> str:
    better = winners(backtest)
    if not better:
        closest = min(judge(backtest).items(), key=lambda item: item[1].difference)
        low, high = closest[1].interval()
        return (
            f"nothing beats the last value: {closest[0]} comes out best with a difference of {closest[1].difference:+.3g} "
            f"{backtest.unit}, but {low:+.3g} to {high:+.3g} is what could be true"
        )
    best = NETWORKS if NETWORKS in better else better[0]  # the best on the test would be a choice by the test
    share = 1 - backtest.errors(best).nanmean() / backtest.errors("last value").nanmean()
    return f"{', '.join(better)} beat the last value beyond doubt; {best} by {share:.1%}"


# %% The file
def save(path: Path, backtests: Sequence[Backtest]) -> None:
    """Keep backtests in one file, so that they can be measured and drawn again without training."""
    checkpoint.save(path, {"backtests": [vars(one) for one in backtests]})


def load(path: Path | None = None) -> list[Backtest]:
    """Load what `save` has written; without a path, where training puts it.

    Raises:
        LessonError: There is no such file, it is damaged, or something else.
    """
    if path is None:
        path = paths.models("project7_forecasting") / "backtests.pt"
        check(path.exists(), "nothing has been forecast yet: run `python -m study run project7` first")
    try:
        return [Backtest(**one) for one in checkpoint.load(path)["backtests"]]
    except (TypeError, KeyError) as error:
        raise LessonError(f"{paths.short(path)} holds no backtests of this project ({error})") from None
