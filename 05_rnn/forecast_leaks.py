"""Leaks in forecasting · 예측에 새어 드는 미래

Nearly every wonderful result in forecasting is a look into the future that nobody noticed. Here it is taken on purpose, in five
ways; each time the error that is measured stands beside the one that arrives when the forecaster is put to work.
시계열 예측에서 나오는 놀라운 결과는 거의 모두 아무도 모르게 미래를 들여다본 것이다. 여기서는 일부러 다섯 가지 방법으로
들여다보고, 그때마다 잰 오차와 실제로 예측을 맡겼을 때의 오차를 나란히 놓는다.

You will
  1. forecast a week of temperature honestly: the number that every cheat is held against
  2. scale with the future, and take the season out with the future: two leaks that are small, and why
  3. let the answer into the window, and smooth before cutting: two leaks that promise a fifth less error
  4. shuffle the days, and let that choose a model: the leak that costs most
  5. catch leaks: a test that finds each one that comes in through the inputs, whatever the code looks like

Before     05_rnn/time_series.py
Run        python -m study run forecast_leaks      (about 3 s on one CPU core, after importing torch)
You see    an error of 2.74 °C that leaks turn into 2.24, and 7.7 °C that were sold as 2.5; leaks.png
Try next   --horizon 1: one day ahead. First guess which leak gains most from it, and what its error becomes; then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets import seattle_weather
from utils.lesson import check, run
from utils.plotting import label, save_figure

YEAR = 365  # days that are kept for the last look
Errors = tuple[float, float]  # measured, and later: what the same forecaster does when nobody knows the future


# %% 1. An honest forecast
def make_windows(x: Tensor, lags: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Cut x (time,) into inputs (n, lags), oldest first, and the targets (n, horizon) that follow them."""
    windows = x.unfold(0, lags + horizon, 1)  # (n, lags + horizon)
    return windows[:, :lags], windows[:, lags:]


def cut(rows: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Return the rows of the past and those of the last year; between them those whose targets reach into it are left out."""
    return torch.arange(rows - YEAR - (horizon - 1)), torch.arange(rows - YEAR, rows)


def with_calendar(inputs: Tensor, lags: int) -> Tensor:
    """Add the day of the year of the first target as a point on a circle: known in advance, so no leak."""
    angle = 2 * math.pi * (torch.arange(len(inputs)) + lags)[:, None] / 365.25
    return torch.cat([inputs, angle.sin(), angle.cos()], dim=1)  # (n, lags + 2)


def fit_ridge(inputs: Tensor, targets: Tensor, penalty: float, scale_by: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Fit ridge regression; inputs are standardized by themselves, or by `scale_by`. Return it as a function."""
    known = inputs if scale_by is None else scale_by
    mean, std, offset = known.mean(dim=0), known.std(dim=0), targets.mean(dim=0)
    x = (inputs - mean) / std
    weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (targets - offset))
    return lambda new: (new - mean) / std @ weights + offset  # (n, horizon)


def mae(forecasts: Tensor, targets: Tensor) -> float:
    return (forecasts - targets).abs().mean().item()


def forecast_honestly(x: Tensor, lags: int, horizon: int, penalty: float) -> tuple[float, float]:
    """Return the error of ridge regression on the last year, and that of the last value."""
    inputs, targets = make_windows(x, lags, horizon)
    past, test = cut(len(inputs), horizon)
    table = with_calendar(inputs, lags)
    model = fit_ridge(table[past], targets[past], penalty)
    return mae(model(table[test]), targets[test]), mae(inputs[test, -1:], targets[test])


# %% 2. Statistics that know the future
def scale_on_everything(x: Tensor, lags: int, horizon: int, penalty: float) -> Errors:
    """Standardize with mean and standard deviation of all years, the last one among them."""
    inputs, targets = make_windows(x, lags, horizon)
    past, test = cut(len(inputs), horizon)
    table = with_calendar(inputs, lags)
    cheat = fit_ridge(table[past], targets[past], penalty, scale_by=table)
    honest = fit_ridge(table[past], targets[past], penalty)
    return mae(cheat(table[test]), targets[test]), mae(honest(table[test]), targets[test])


def season_of(x: Tensor) -> Tensor:
    """The usual value of each of 365 days: the mean over the years, smoothed over a month."""
    phase = torch.arange(len(x)) % 365
    means = torch.stack([x[phase == day].mean() for day in range(365)])
    return F.pad(means[None], (15, 15), mode="circular").unfold(1, 31, 1).mean(dim=2)[0]  # (365,)


def season_from_everything(x: Tensor, lags: int, horizon: int, penalty: float) -> Errors:
    """Take the season out before the cut, so that the year to be forecast has helped to say what is usual in it."""
    errors = []
    for known in (x, x[: len(x) - YEAR - horizon + 1]):
        deviations = x - season_of(known)[torch.arange(len(x)) % 365]
        inputs, targets = make_windows(deviations, lags, horizon)  # an error of a deviation is one of the temperature
        past, test = cut(len(inputs), horizon)
        errors.append(mae(fit_ridge(inputs[past], targets[past], penalty)(inputs[test]), targets[test]))
    return errors[0], errors[1]


# %% 3. Inputs that know the future
def target_in_the_window(x: Tensor, lags: int, horizon: int, penalty: float) -> Errors:
    """Make the windows one row too late: the newest input is the first target. Later, the value before has to stand in for it."""
    inputs, targets = make_windows(x, lags, horizon)
    past, test = cut(len(inputs), horizon)
    late = torch.cat([inputs[:, 1:], targets[:, :1]], dim=1)
    later = torch.cat([inputs[:, 1:], inputs[:, -1:]], dim=1)
    model = fit_ridge(with_calendar(late, lags)[past], targets[past], penalty)
    return tuple(mae(model(with_calendar(table, lags)[test]), targets[test]) for table in (late, later))


def smooth(rows: Tensor) -> Tensor:
    """The mean of each value with the three before and the three after it; at the ends of a row, with those that are there."""
    return F.avg_pool1d(rows[:, None], 7, stride=1, padding=3, count_include_pad=False)[:, 0]


def centred_smoothing(x: Tensor, lags: int, horizon: int, penalty: float) -> Errors:
    """Smooth the series, then cut it. Later, the last three values of a window have nothing after them to be smoothed by."""
    inputs, targets = make_windows(x, lags, horizon)
    past, test = cut(len(inputs), horizon)
    before = make_windows(smooth(x[None])[0], lags, horizon)[0]
    model = fit_ridge(with_calendar(before, lags)[past], targets[past], penalty)
    return tuple(mae(model(with_calendar(table, lags)[test]), targets[test]) for table in (before, smooth(inputs)))


# %% 4. Shuffled days
def neighbours(inputs: Tensor, targets: Tensor, past: Tensor, test: Tensor, count: int = 5) -> Tensor:
    """Forecast what followed, on average, on the most similar known days: (n, horizon)."""
    nearest = torch.cdist(inputs[test], inputs[past]).topk(count, largest=False).indices  # (n, count)
    return targets[past][nearest].mean(dim=1)


def shuffle_days(x: Tensor, horizon: int, date_weights: list[float], seed: int) -> dict[float, Errors]:
    """Compare days by their last week and by their date; by the weight of the date, return both errors."""
    inputs, targets = make_windows(x, 7, horizon)
    past, test = cut(len(inputs), horizon)
    order, found = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed)), {}
    for weight in date_weights:
        date = weight * torch.arange(len(inputs))[:, None] / 365
        table = torch.cat([(inputs - inputs[past].mean()) / inputs[past].std(), date], dim=1)  # (n, 8)
        cuts = (order[YEAR:], order[:YEAR]), (past, test)
        found[weight] = tuple(mae(neighbours(table, targets, *one), targets[one[1]]) for one in cuts)
    return found


# %% 5. Catching leaks
def looks_ahead(prepare: Callable[[Tensor], Tensor], x: Tensor, day: int) -> bool:
    """Whether what is prepared for the forecasts up to `day` changes with the values from that day on: (time,) to (n, inputs).

    Row i of what is prepared belongs to the forecast that is made when x[0] ... x[i - 1] are known.
    """
    future = x.clone()
    future[day:] = 1000 - 3 * future[day:]  # anything else will do
    return not torch.equal(prepare(x)[: day + 1], prepare(future)[: day + 1])


def catch_leaks(x: Tensor, lags: int) -> dict[str, bool]:
    """Hold the ways to prepare inputs against the test; by name, return whether they look ahead."""

    def rows(series: Tensor, shift: int = 0) -> Tensor:
        """Windows that end before each day, or `shift` days later; a day without enough before it gets zeros."""
        return F.pad(series, (lags - shift, shift)).unfold(0, lags, 1)[: len(series)]  # (time, lags)

    ways = {
        "honest": rows,
        "smoothed backwards": lambda x: rows(F.pad(x[None, None], (6, 0)).unfold(2, 7, 1).mean(dim=3)[0, 0]),
        "scaled on everything": lambda x: rows((x - x.mean()) / x.std()),
        "season from everything": lambda x: rows(x - season_of(x)[torch.arange(len(x)) % 365]),
        "target in the window": lambda x: rows(x, shift=1),
        "centred smoothing": lambda x: rows(smooth(x[None])[0]),
    }
    found = {name: looks_ahead(prepare, x, day=len(x) - YEAR) for name, prepare in ways.items()}
    print("5. looks ahead: " + ", ".join(f"{name} {'YES' if ahead else 'no'}" for name, ahead in found.items()))
    return found


def meet_error(x: Tensor) -> str:
    """Cut away the last window's row of the inputs only, as an off-by-one does; return PyTorch's answer."""
    inputs, targets = make_windows(x, 14, 1)
    try:
        fit_ridge(inputs[:-1], targets, 1.0)
    except RuntimeError as error:
        print(f'   "{error}"')
        print("   read: a row more in one than in the other. The tempting cure, to cut at the wrong end, is the leak of a day")
        return str(error)


def draw_figure(found: dict[str, Errors], baseline: float) -> None:
    """Draw what each leak promises and what it keeps."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
    rows = torch.arange(len(found)).flip(0)
    for k, name in enumerate((label("measured", "잰 오차"), label("later", "실제로 겪는 오차"))):
        axis.barh(rows + 0.2 - 0.4 * k, [errors[k] for errors in found.values()], height=0.4, label=name)
    axis.axvline(baseline, color="grey", linestyle=":", label=label("last value", "마지막 값"))
    axis.set(yticks=rows, yticklabels=list(found), xlabel=label("mean absolute error (°C)", "평균 절대 오차 (°C)"))
    axis.legend()
    save_figure(figure, __file__, "leaks")


# %% All of it, in order
def main(lags: int = 14, horizon: int = 7, penalty: float = 10.0, seed: int = 0) -> dict[str, float]:
    """Cheat at forecasting in five ways, and see what is promised and what is kept.

    Args:
        lags: Days that a forecast looks back.
        horizon: Days that it looks ahead.
        penalty: Of ridge regression.
        seed: Of the shuffled days.
    """
    check(2 <= lags <= 60 and 1 <= horizon <= 30, f"--lags {lags} --horizon {horizon}: needed are 2 to 60, and 1 to 30")
    x = torch.from_numpy(seattle_weather().select("temp_max").values[:, 0])  # (1461,)
    honest, baseline = forecast_honestly(x, lags, horizon, penalty)
    print(f"1. honest: {honest:.2f} °C; the last value {baseline:.2f}")
    found = {"honest": (honest, honest)}
    for way in (scale_on_everything, season_from_everything, target_in_the_window, centred_smoothing):
        found[way.__name__.replace("_", " ")] = way(x, lags, horizon, penalty)
    shuffled = shuffle_days(x, horizon, [0.0, 1.0, 5.0, 25.0], seed)
    chosen = min(shuffled, key=lambda weight: shuffled[weight][0])
    found["shuffled days"] = shuffled[chosen]
    for name, (measured, later) in list(found.items())[1:]:
        print(f"   {name:22} measured {measured:.2f}, later {later:.2f}")
    print("4. weight of the date: " + ", ".join(f"{w:g}: {a:.2f}, later {b:.2f}" for w, (a, b) in shuffled.items()))
    caught = catch_leaks(x, lags)
    meet_error(x)
    draw_figure(found, baseline)
    results = {"honest": honest, "baseline_last_value": baseline}
    for name, (measured, later) in list(found.items())[1:]:
        results |= {f"{name.replace(' ', '_')}_measured": measured, f"{name.replace(' ', '_')}_later": later}
    check(honest < 0.98 * baseline, f"the honest forecast's error is {honest:.2f}, the last value's {baseline:.2f}")
    return {**results, "leaks_caught": sum(caught.values())}


if __name__ == "__main__":
    run(main)
