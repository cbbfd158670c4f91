"""A series, prepared: what was observed, what is known ahead, what is to be forecast, and the folds on which it is tested.

Nothing here looks ahead. Gaps are filled from the past, every number that scales something comes from the rows that a fold may
learn from, and what is known ahead of its time, the calendar for example, is kept apart from what is only observed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils import catalogue, datasets
from utils.datasets import Source
from utils.datasets.series import Series, from_csv
from utils.lesson import LessonError, check

Name = Literal["seattle", "stocks", "pm25", "aapl", "airline"]


@dataclass(frozen=True)
class Plan:
    """How a series is forecast and tested; numbers are rows.

    Attributes:
        window: What a network reads.
        horizon: How far ahead it forecasts.
        folds: How many times it walks forward.
        test: In each fold.
        calibration: Before each test period: for the intervals, never learned from.
        stride: A forecast is made after every so many rows of a test period.
        longest: Learn from this many rows at most (a window that slides), or None for all (one that grows).
    """

    window: int
    horizon: int
    folds: int
    test: int
    calibration: int
    stride: int = 1
    longest: int | None = None


class Preset(NamedTuple):
    """A series of the course: who reads it, its columns with the target first, those to take logarithms of, unit, plan.

    `differences`: the inputs are changes from row to row, because the series has no level to come back to: it grows, or wanders.
    """

    reader: str
    columns: str
    logarithms: str
    unit: str
    plan: Plan
    differences: bool = False


SETS = {
    "seattle": Preset(
        "seattle_weather",
        "temp_max temp_min precipitation wind",
        "precipitation",
        "°C",
        Plan(window=21, horizon=7, folds=4, test=91, calibration=180),
    ),
    "stocks": Preset(
        "monthly_prices",
        "^GSPC IBM AAPL MSFT",
        "^GSPC IBM AAPL MSFT",
        "points",
        Plan(window=13, horizon=3, folds=4, test=24, calibration=48),
        differences=True,
    ),
    "pm25": Preset(
        "beijing_pm25",
        "pm2.5 DEWP TEMP PRES Iws Ir NE NW SE cv",
        "pm2.5 Iws Ir",
        "µg/m³",
        Plan(window=48, horizon=24, folds=4, test=2190, calibration=2190, stride=7),
    ),
    "aapl": Preset(
        "aapl",
        "Close Volume",
        "Close Volume",
        "$",
        Plan(window=20, horizon=5, folds=5, test=150, calibration=250),
        differences=True,
    ),
    "airline": Preset(
        "airline_passengers",
        "Passengers",
        "Passengers",
        "thousands",
        Plan(window=13, horizon=12, folds=3, test=18, calibration=24),
        differences=True,
    ),
}
OFFLINE = ("seattle", "stocks")  # they come with installed packages
HARMONICS = 2  # waves in each cycle of the calendar
FEWEST = 20  # forecasts to learn from


class Scale(NamedTuple):
    """Means and standard deviations, all from the rows that a fold may learn from; what is constant there is divided by 1."""

    mean: Tensor  # (variables,), of what is read
    std: Tensor
    changes: Tensor  # (horizon,), standard deviations of the target's changes from the last value
    ahead_mean: Tensor  # (columns known ahead,)
    ahead_std: Tensor


@dataclass(frozen=True)
class Fold:
    """One step of walking forward: learn, calibrate, test, in this order of time.

    Attributes:
        start: The first row to learn from.
        known: The first row that is not learned from any more; `calibration` begins with it.
        calibration: Origins (n,), rows after which to forecast; their targets are all known before the test period begins.
        test: Origins (n,); their targets lie in the test period.
    """

    start: int
    known: int
    calibration: Tensor
    test: Tensor


@dataclass(frozen=True)
class Task:
    """What to forecast from what.

    Attributes:
        name: Of the series.
        source: One line that says what was loaded.
        unit: Of the target.
        columns: What is observed, the target first.
        ahead_columns: What the reader says is known ahead.
        dates: (time + horizon,) numpy datetime64.
        observed: (time, variables), the target first; gaps are filled from the past, logarithms taken.
        inputs: (time, variables), what is read of them: themselves, or their changes from row to row.
        measured: (time,), the target, NaN where it was not measured.
        targets: (time, horizon), the target on the next rows; NaN where it was not measured or is to come.
        calendar: (time + horizon, points): the date as points on circles.
        ahead: (time + horizon, columns), what is known ahead, in units.
        logarithm: Whether the target is one.
        period: Rows in a season.
        plan: How it is tested.
        is_real: False for numbers that somebody made up.
    """

    name: str
    source: str
    unit: str
    columns: tuple[str, ...]
    ahead_columns: tuple[str, ...]
    dates: np.ndarray
    observed: Tensor
    inputs: Tensor
    measured: Tensor
    targets: Tensor
    calendar: Tensor
    ahead: Tensor
    logarithm: bool
    period: int
    plan: Plan
    is_real: bool

    def __len__(self) -> int:
        return len(self.observed)

    def to(self, device: torch.device | str) -> "Task":
        names = ("observed", "inputs", "measured", "targets", "calendar", "ahead")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def input_size(self) -> int:
        """Numbers in each step of `windows`."""
        return len(self.columns) + self.calendar.shape[1] + self.plan.horizon * len(self.ahead_columns)

    def in_units(self, y: Tensor) -> Tensor:
        return y.expm1() if self.logarithm else y

    def scale(self, fold: Fold) -> Scale:
        """What a fold may know of the spread of each column, and of the changes that it is to forecast."""
        rows, variables = slice(fold.start, fold.known), self.inputs.shape[1]
        learned = torch.cat([self.inputs[rows], self.ahead[rows]], dim=1)
        mean, std = learned.mean(dim=0), learned.std(dim=0)
        std = std.where(std > 0, 1.0)
        past = self.origins_to_learn(fold).to(self.inputs.device)
        changes = (self.targets[past] - self.observed[past, :1]).square().nanmean(dim=0).sqrt()  # (horizon,), round 0
        return Scale(mean[:variables], std[:variables], changes.where(changes > 0, 1.0), mean[variables:], std[variables:])

    def rows_ahead(self, origins: Tensor) -> Tensor:
        """The rows that are to be forecast: (..., horizon)."""
        return origins.unsqueeze(-1) + torch.arange(1, self.plan.horizon + 1, device=origins.device)

    def known_ahead(self, origins: Tensor, scale: Scale) -> Tensor:
        """What is known of the rows to be forecast: the calendar of the first, and the columns known ahead of all; (..., k)."""
        ahead = (self.ahead[self.rows_ahead(origins)] - scale.ahead_mean) / scale.ahead_std  # (..., horizon, columns)
        return torch.cat([self.calendar[origins + 1], ahead.flatten(-2)], dim=-1)  # a later date is a turn of the first

    def windows(self, origins: Tensor, scale: Scale) -> Tensor:
        """What a network reads: (n, window, inputs), scaled. Each step has what is observed on it, and what is known ahead."""
        rows = origins[:, None] + torch.arange(1 - self.plan.window, 1, device=origins.device)  # (n, window)
        return torch.cat([(self.inputs[rows] - scale.mean) / scale.std, self.known_ahead(rows, scale)], dim=2)

    def origins_to_learn(self, fold: Fold) -> Tensor:
        """Rows after which to forecast when learning: whole windows, and targets that all lie before `fold.known`."""
        return torch.arange(fold.start + self.plan.window - 1, fold.known - self.plan.horizon)


# %% Folds
def walk_forward(task: Task) -> list[Fold]:
    """The folds that test on the last folds x test rows, each learning from what was before it."""
    plan, rows = task.plan, len(task)
    starts = [rows - (plan.folds - number) * plan.test for number in range(plan.folds)]
    return [_fold(plan, begin, torch.arange(begin - 1, begin + plan.test - plan.horizon, plan.stride)) for begin in starts]


def last_fold(task: Task) -> Fold:
    """The fold whose test period is still to come: one forecast after the last row."""
    return _fold(task.plan, len(task), torch.tensor([len(task) - 1]))


def _fold(plan: Plan, begin: int, test: Tensor) -> Fold:
    known = begin - plan.calibration
    start = 0 if plan.longest is None else max(0, known - plan.longest)
    return Fold(start, known, torch.arange(known - 1, begin - plan.horizon, plan.stride), test)


# %% Series
def names_for(source: Source) -> tuple[str, ...]:
    """The series to forecast: "sample" those that come with packages, "real" the others, "auto" those of them that are there."""
    real = tuple(name for name in SETS if name not in OFFLINE)
    if source == "auto":
        real = tuple(name for name in real if catalogue.find(SETS[name].reader))
    return OFFLINE if source == "sample" else real or OFFLINE


def load(name: str, **changes: int | None) -> Task:
    """One of SETS, prepared; `changes` of its plan that are None change nothing.

    Raises:
        LessonError: Its file is missing or damaged, or too short for the plan.
    """
    preset = SETS[name]
    series = getattr(datasets, preset.reader)().select(*preset.columns.split())
    return prepare(series, name, preset.unit, preset.logarithms.split(), (), _changed(preset.plan, changes), preset.differences)


def load_csv(
    path: Path,
    target: str | None = None,
    known: Sequence[str] = (),
    logarithm: bool = False,
    differences: bool = False,
    period: int | None = None,
    date_column: str | None = None,
    date_format: str | None = None,
    **changes: int | None,
) -> Task:
    """Any CSV file with a column of dates, prepared.

    Args:
        path: The file.
        target: The column to forecast; without it the first one that has numbers.
        known: Columns that are known ahead: holidays, prices that are planned. They go on after the target's last number.
        logarithm: Take the target's logarithm: its changes are factors then.
        differences: Read changes from row to row instead of values, for a series that comes back to no level.
        period: Rows in a season; without it what is usual for the distance between the dates.
        date_column: Without it, the one whose name says so.
        date_format: As in `datetime.strptime`; without it, year first.
        changes: Of the plan, which otherwise follows from the length of the series.

    Raises:
        LessonError: Something in the file cannot be used; the message says what, and where.
    """
    name = Path(path).stem
    check(name not in (*SETS, "backtests"), f"{Path(path).name}: the course has a {name} of its own; give the file another name")
    series = from_csv(path, date_column=date_column, date_format=date_format, period=period)
    target = target or next(name for name in series.names if name not in known)
    others = [name for name in series.names if name not in (target, *known)]
    series = series.select(target, *others, *known)  # names that are not there are told
    check(target not in known, f"{target} is what is to be forecast: it cannot be known ahead")
    rows = int((~np.isnan(series.values[:, 0])).sum())
    horizon = changes.get("horizon") or {"hour": 24, "day": 7, "business day": 5, "week": 4, "month": 3}.get(series.frequency, 1)
    plan = Plan(
        window=max(3, min(3 * horizon, rows // 8)),
        horizon=horizon,
        folds=4,
        test=max(rows // 16, 2 * horizon),
        calibration=max(rows // 8, 2 * horizon),
        stride=max(1, rows // 10_000),
    )
    return prepare(series, name, target, [target] if logarithm else [], tuple(known), _changed(plan, changes), differences)


def _changed(plan: Plan, changes: dict[str, int | None]) -> Plan:
    changes = {name: value for name, value in changes.items() if value is not None}
    for name, value in changes.items():
        check(value >= 1, f"--{name} must be 1 or more, not {value}")
    return replace(plan, **changes)


def prepare(
    series: Series,
    name: str,
    unit: str,
    logarithms: Sequence[str],
    known: Sequence[str],
    plan: Plan,
    differences: bool = False,
) -> Task:
    """Make a task out of a series whose first column is the target and whose last ones are `known` ahead.

    Raises:
        LessonError: The series has no regular step, never changes, has holes where there may be none, or is too short.
    """
    series, ahead = _split_known(regular(series, name), known, name, plan.horizon)
    target = series.names[0]
    measured = series.values[:, 0]
    check(not np.isnan(measured).all(), f"{name}: nothing was measured in column {target}")
    check(
        np.nanmin(measured) < np.nanmax(measured), f"{name}: {target} is {np.nanmin(measured):g} everywhere: nothing to forecast"
    )
    series = _useful_columns(series, name)
    filled = series.filled()
    begin = int((~np.isnan(filled)).all(axis=1).argmax())  # from the first row on which every column is known
    check(not np.isnan(filled[begin]).any(), f"{name}: no row has a number in every column so far; leave some columns out")
    series, filled, ahead = series[begin:], filled[begin:], ahead[begin:]
    x, y = torch.from_numpy(filled), torch.from_numpy(series.values[:, 0])
    logs = [column in logarithms for column in series.names]
    least = x[:, logs].min().item() if any(logs) else 0.0
    check(least > -1, f"{name}: logarithms need numbers above -1 (it is log(1 + x)), and {least:g} is among them")
    x[:, logs] = x[:, logs].log1p()
    y = y.log1p() if logs[0] else y
    targets = torch.cat([y[1:], y.new_full((plan.horizon,), torch.nan)]).unfold(0, plan.horizon, 1)  # (time, horizon)
    dates = np.concatenate([series.dates, later_dates(series.dates, series.frequency, plan.horizon)])
    _check_length(len(x), plan, name)
    learned = series.dates[: len(x) - plan.folds * plan.test - plan.calibration]
    return Task(
        name,
        series.source,
        unit,
        tuple(series.names),
        tuple(known),
        dates,
        x.float(),
        (x.diff(dim=0, prepend=x[:1]) if differences else x).float(),
        y.float(),
        targets.float(),
        calendar_points(dates, series.frequency, years=(learned[-1] - learned[0]) / np.timedelta64(365, "D")),
        torch.from_numpy(ahead).float(),
        logs[0],
        series.period,
        plan,
        series.is_real,
    )


def regular(series: Series, name: str) -> Series:
    """Add a row of NaN for every date that has none, so that a row is always one step.

    Not in business days: the days on which an exchange was closed are no steps of its time.
    """
    check(
        series.frequency != "irregular",
        f"{name}: its dates follow no step of hours, days, weeks or months that a forecast could go on with; resample it first",
    )
    gaps = series.gaps()
    if series.frequency == "business day" or len(gaps) == 0:
        return series
    check(
        len(gaps) < len(series), f"{name}: {len(gaps):,} dates have no row and only {len(series):,} have one; resample it first"
    )
    dates = np.union1d(series.dates, gaps)
    off_beat = len(dates) - len(series) - len(gaps)
    steps = np.unique(np.diff(dates.astype("datetime64[s]")))
    check(
        off_beat == 0 and (len(steps) == 1 or series.frequency == "month"),
        f"{name}: some of its dates lie between the steps of its {series.frequency}s; resample it first",
    )
    values = np.full((len(dates), len(series.names)), np.nan)
    values[np.searchsorted(dates, series.dates)] = series.values
    return replace(series, values=values, dates=dates)


def _split_known(series: Series, known: Sequence[str], name: str, horizon: int) -> tuple[Series, np.ndarray]:
    """Part what is known ahead from what is observed; the former goes on for `horizon` rows after the target's last number."""
    if not known:
        return series, np.zeros((len(series) + horizon, 0))
    first = len(series.names) - len(known)
    measured = np.flatnonzero(~np.isnan(series.values[:, 0]))
    end = int(measured[-1]) + 1 if len(measured) else 0
    ahead = series.values[: end + horizon, first:]
    told = ", ".join(known)
    check(
        len(ahead) == end + horizon,
        f"{name}: columns that are known ahead ({told}) have to go on for {horizon} rows after the last {series.names[0]}; "
        f"they go on for {len(series) - end}",
    )
    check(not np.isnan(ahead).any(), f"{name}: columns that are known ahead ({told}) may have no empty cells")
    return series.select(*series.names[:first])[:end], ahead


def _useful_columns(series: Series, name: str) -> Series:
    """Without the columns that never change, or have no number at all: nothing can be learned from them. Says so."""
    useful, left_out = [series.names[0]], []
    for column, values in zip(series.names[1:], series.values.T[1:], strict=True):
        constant = np.isnan(values).all() or np.nanmin(values) == np.nanmax(values)
        (left_out if constant else useful).append(column)
    if left_out:
        print(f"{name}: left out, for nothing changes in them: {', '.join(left_out)}")
    return series.select(*useful)


def _check_length(rows: int, plan: Plan, name: str) -> None:
    learned = rows - plan.folds * plan.test - plan.calibration
    needed = plan.window + plan.horizon - 1 + FEWEST
    for what, length in (("test", plan.test), ("calibration", plan.calibration)):
        check(
            length >= plan.horizon, f"--{what} {length} is too short for a --horizon of {plan.horizon}: needed are as many rows"
        )
    check(
        learned >= needed,
        f"{name} is too short: of {rows:,} rows {max(0, learned):,} are left to learn from and {needed} are needed; fewer "
        f"--folds, or a shorter --test, --calibration, --window or --horizon would leave more",
    )


# %% What is known ahead
def later_dates(dates: np.ndarray, frequency: str, count: int) -> np.ndarray:
    """The dates of the next `count` rows."""
    last, steps = dates[-1], np.arange(1, count + 1)
    if frequency == "month":
        month = last.astype("datetime64[M]")
        return (month + steps + (last - month)).astype(dates.dtype)
    if frequency == "business day":
        return np.busday_offset(last.astype("datetime64[D]"), steps, roll="backward").astype(dates.dtype)
    step = {"hour": np.timedelta64(1, "h"), "day": np.timedelta64(1, "D"), "week": np.timedelta64(7, "D")}[frequency]
    return (last + steps * step).astype(dates.dtype)


def calendar_points(dates: np.ndarray, frequency: str, years: float) -> Tensor:
    """The date as points on circles: of the day for hours, of the week for hours and days, of the year for all.

    Args:
        dates: (time,)
        frequency: As in `Series`.
        years: How many of them are learned from. In less than two, the day of the year only says how long ago something was.

    Returns:
        (time, points): sine and cosine of HARMONICS waves in each cycle.
    """
    days = (dates - np.datetime64("1970-01-05")) / np.timedelta64(1, "D")  # since a Monday
    year = dates.astype("datetime64[Y]")
    through_year = (dates - year.astype(dates.dtype)) / ((year + 1).astype(dates.dtype) - year.astype(dates.dtype))
    cycles = {"day": days % 1, "week": days % 7 / 7, "year": through_year}
    chosen = {"hour": ["day", "week"], "day": ["week"], "business day": ["week"]}.get(frequency, [])
    chosen = chosen + (["year"] if years >= 2 else [])
    angles = [2 * math.pi * wave * cycles[name] for name in chosen for wave in range(1, HARMONICS + 1)]
    points = [function(angle) for angle in angles for function in (np.sin, np.cos)]
    return torch.from_numpy(np.stack(points, axis=1)).float() if points else torch.zeros(len(dates), 0)


# %% The command line
def read(names: Sequence[str], csv: Path | None, source: Source, options: dict, changes: dict) -> list[Task]:
    """The tasks that a command line asks for: a file of one's own, series by name, or those that `source` stands for."""
    if csv is not None:
        check(not names, "either --csv or --data, not both")
        return [load_csv(csv, **options, **changes)]
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise LessonError(f"{', '.join(given)}: only with --csv")
    return [load(name, **changes) for name in names or names_for(source)]
