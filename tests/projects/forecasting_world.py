"""What the tests of project 7 share: a small series in which there is something to learn, and one in which there is nothing."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import torch

from project7_forecasting.data import Plan, Task, load_csv

PLAN = {"window": 9, "horizon": 3, "folds": 2, "test": 30, "calibration": 40}


def shop(days: int = 420, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sales that follow the week, double on holidays, which are known ahead, and remember yesterday; and visitors.

    Returns:
        Sales (days,), visitors (days,), holidays (days,) of 0 and 1.
    """
    random = np.random.default_rng(seed)
    holidays = (random.random(days) < 0.15).astype(float)
    mood = np.zeros(days)
    for day in range(1, days):
        mood[day] = 0.9 * mood[day - 1] + random.normal()
    week = 8 * np.sin(2 * np.pi * np.arange(days) / 7)
    sales = 90 + week + 12 * holidays + 4 * mood
    return sales, 5 * mood + random.normal(size=days), holidays


def walk(days: int = 420, seed: int = 1) -> np.ndarray:
    """A random walk: the best forecast of it is its last value."""
    return 100 + np.random.default_rng(seed).normal(size=days).cumsum()


def dates(days: int) -> list[str]:
    return [str(date(2023, 1, 2) + timedelta(days=day)) for day in range(days)]


def write_csv(path: Path, columns: dict[str, np.ndarray | list], days: int | None = None) -> Path:
    """A CSV file with a column of dates."""
    count = days or len(next(iter(columns.values())))
    rows = [",".join(["date", *columns])]
    for row, day in enumerate(dates(count)):
        rows.append(",".join([day, *(_cell(values[row]) for values in columns.values())]))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else "" if np.isnan(value) else f"{value:.6f}"


def shop_csv(path: Path, seed: int = 0, ahead: int = 3) -> Path:
    """The shop's file: the last `ahead` rows have a holiday column only."""
    sales, visitors, holidays = shop(seed=seed)
    for column in (sales, visitors):
        column[len(column) - ahead :] = np.nan
    return write_csv(path, {"sales": sales, "visitors": visitors, "holiday": holidays})


def shop_task(folder: Path, seed: int = 0, **changes: int) -> Task:
    return load_csv(shop_csv(folder / "shop.csv", seed), "sales", ["holiday"], period=7, **{**PLAN, **changes})


def walk_task(folder: Path, seed: int = 1) -> Task:
    return load_csv(write_csv(folder / "walk.csv", {"price": walk(seed=seed)}), differences=True, **PLAN)


def task_of(values: torch.Tensor, plan: Plan | None = None, period: int = 1) -> Task:
    """A task without columns beside the target, without a calendar, and with dates of no meaning."""
    plan = plan or Plan(window=3, horizon=2, folds=1, test=10, calibration=10)
    y = values.float()
    targets = torch.cat([y[1:], y.new_full((plan.horizon,), torch.nan)]).unfold(0, plan.horizon, 1)
    count = len(y) + plan.horizon
    days = np.datetime64("2023-01-02") + np.arange(count)
    nothing = torch.zeros(count, 0)
    x = y[:, None]
    return Task("toy", "toy", "m", ("y",), (), days, x, x, y, targets, nothing, nothing, False, period, plan, False)
