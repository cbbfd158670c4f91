"""Time series · 시계열

A forecast is worth something if it beats the simplest rules on days that were still to come when it was made.
예측은 만들 당시 아직 오지 않은 날들에서 가장 단순한 규칙을 이길 때 비로소 값어치가 있다.

You will
  1. look at a series: trend, season and remainder, autocorrelation and partial autocorrelation, by hand
  2. cut it into windows, and walk forward through it by splits that are equal to scikit-learn's
  3. measure the rules to beat: last value, seasonal naive, moving average, drift; in MAE, RMSE and MASE
  4. beat them by ridge regression on lags, one step and several steps ahead, recursive and direct; or not: prices

Before     03_training/data_pitfalls.py
Run        python -m study run time_series         (about 4 s on one CPU core, after importing torch)
You see    a week of temperature forecast with 9 % less error than the best rule, prices with none; series.png
Try next   --lags 2: two days of memory instead of 14. First guess how much of ridge regression's advantage is left, then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets import monthly_prices, seattle_weather
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. Looking at a series
def autocorrelation(x: Tensor, lags: int) -> Tensor:
    """Return how the series x (time,) goes with itself k steps later, for k = 0 ... lags: (lags + 1,), the first is 1."""
    centred = x - x.mean()
    products = [(centred[k:] * centred[: len(x) - k]).sum() for k in range(lags + 1)]
    return torch.stack(products) / products[0]


def partial_autocorrelation(correlations: Tensor) -> Tensor:
    """Return what each lag tells that the shorter ones do not, by the recursion of Durbin and Levinson: (lags + 1,)."""
    partial, weights = [correlations.new_ones(())], correlations.new_zeros(0)
    for k in range(1, len(correlations)):  # weights: of the best linear forecast from k - 1 lags, the newest first
        known = weights @ correlations[1:k].flip(0)  # what they say about lag k
        new = (correlations[k] - known) / (1 - weights @ correlations[1:k])
        weights = torch.cat([weights - new * weights.flip(0), new[None]])
        partial.append(new)
    return torch.stack(partial)


def decompose(x: Tensor, period: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split x (time,) into trend, season and remainder, each (time,); half a period at both ends has no trend: NaN."""
    half = period // 2
    weights = x.new_ones(2 * half + 1)
    if period % 2 == 0:
        weights[[0, -1]] = 0.5  # an even number of values has none in the middle: take one more, both ends by half
    trend = x.new_full((len(x),), torch.nan)
    trend[half : len(x) - half] = x.unfold(0, 2 * half + 1, 1) @ weights / period
    phase = torch.arange(len(x)) % period
    means = torch.stack([(x - trend)[phase == p].nanmean() for p in range(period)])  # (period,)
    if period > 31:  # a day's mean over few years is rough: smooth it over a month, round the year
        means = F.pad(means[None], (15, 15), mode="circular").unfold(1, 31, 1).mean(dim=2)[0]
    season = (means - means.mean())[phase]
    return trend, season, x - trend - season


# %% 2. Windows, and walking forward
def make_windows(x: Tensor, lags: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Cut x (time,) into inputs (n, lags), oldest first, and the targets (n, horizon) that follow them."""
    windows = x.unfold(0, lags + horizon, 1)  # (n, lags + horizon): views, nothing is copied
    return windows[:, :lags], windows[:, lags:]


def walk_forward(rows: int, folds: int, test_size: int, gap: int = 0, longest: int | None = None) -> list[tuple[range, range]]:
    """Test on the last folds x test_size rows, fold by fold; each time learn from all rows before, or the `longest` last ones.

    Of these, `gap` rows before each test are left out: their targets are not all known yet when it begins.
    """
    starts = [rows - (folds - i) * test_size for i in range(folds)]
    return [(range(max(0, s - gap - (longest or rows)), s - gap), range(s, s + test_size)) for s in starts]


def meet_error(x: Tensor) -> str:
    """Turn a series round as NumPy does it, and hand it to PyTorch; return its answer."""
    try:
        torch.from_numpy(x.numpy()[::-1])
    except ValueError as error:
        print(f'2. "{str(error).partition(",")[0]}": NumPy reverses by reading backwards; for a tensor, x.flip(0) copies')
        return str(error)


# %% 3. Rules to beat
def simple_rules(x: Tensor, starts: Tensor, horizon: int, period: int, average: int) -> dict[str, Tensor]:
    """Forecast x[start] ... x[start + horizon - 1] from what is before each start; by rule, return (n, horizon)."""
    ahead = torch.arange(horizon)
    last, times = x[starts - 1, None], starts[:, None] + ahead  # (n, 1), (n, horizon)
    slope = (last - x[0]) / (starts[:, None] - 1)  # of the line from the first value to the last
    return {
        "last value": last.expand(-1, horizon),
        "seasonal naive": x[times - period * (1 + ahead // period)],
        f"average of {average}": x.unfold(0, average, 1)[starts - average].mean(dim=1)[:, None].expand(-1, horizon),
        "drift": last + slope * (ahead + 1),
    }


def measure(forecasts: Tensor, targets: Tensor, naive: float) -> tuple[float, float, float]:
    """Return MAE, RMSE and MASE: the MAE over that of the last value, one step ahead, in the past: `naive`."""
    errors = (forecasts - targets).abs()
    return errors.mean().item(), errors.square().mean().sqrt().item(), errors.mean().item() / naive


# %% 4. Ridge regression on lags
class Ridge:
    """Linear regression with a penalty on the squared weights; inputs are standardized by those that it was fitted to."""

    def __init__(self, inputs: Tensor, targets: Tensor, penalty: float):
        self.mean, self.std = inputs.mean(dim=0), inputs.std(dim=0)
        x, self.offset = (inputs - self.mean) / self.std, targets.mean(dim=0)
        square = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype)
        self.weights = torch.linalg.solve(square, x.T @ (targets - self.offset))  # (inputs, horizon)

    def __call__(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std @ self.weights + self.offset  # (n, horizon)


def with_calendar(inputs: Tensor, times: Tensor, year: float) -> Tensor:
    """Add the time of year of the first day to forecast, as a point on a circle: the calendar is known in advance, so no leak."""
    if not year:
        return inputs
    angle = 2 * math.pi * times[:, None] / year
    return torch.cat([inputs, angle.sin(), angle.cos()], dim=1)  # (n, lags + 2)


def forecast(
    x: Tensor, splits: list[tuple[range, range]], lags: int, horizon: int, penalty: float, year: float
) -> tuple[Tensor, Tensor]:
    """Walk forward with ridge regression; return direct and recursive forecasts, (n, horizon) each; row i begins on day lags + i.

    Direct: weights for each day ahead. Recursive: one day, again and again; earlier forecasts stand in for what is not known.
    """
    inputs, targets = make_windows(x, lags, horizon)
    table, found = with_calendar(inputs, torch.arange(len(inputs)) + lags, year), []
    for past, test in splits:
        one_day, window = Ridge(table[past], targets[past][:, :1], penalty), inputs[test]
        for day in range(horizon):
            now = with_calendar(window[:, -lags:], torch.tensor(test) + lags + day, year)
            window = torch.cat([window, one_day(now)], dim=1)  # (n, lags + day + 1)
        found.append((Ridge(table[past], targets[past], penalty)(table[test]), window[:, lags:]))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def compare_forecasts(x: Tensor, rows: int, lags: int, horizon: int, settings: dict, penalty: float, average: int) -> dict:
    """Walk through the last of the first `rows` windows in twelve steps; by name, return MAE, RMSE and MASE."""
    splits = walk_forward(rows, 12, settings["test"] // 12, gap=horizon - 1)
    tested = torch.cat([torch.tensor(test) for _, test in splits])
    naive = x[: lags + splits[0][1][0]].diff().abs().mean().item()
    found = simple_rules(x, tested + lags, horizon, settings["period"], average)
    found["ridge, direct"], found["ridge, recursive"] = forecast(x, splits, lags, horizon, penalty, settings["year"])
    return {name: measure(one, make_windows(x, lags, horizon)[1][tested], naive) for name, one in found.items()}


def choose_and_compare(x: Tensor, lags: int, horizon: int, settings: dict) -> dict:
    """Choose penalty and average on the stretch before the last one; return what they achieve on the last."""
    before, rows, rest = len(x) - lags - horizon + 1 - settings["test"], len(x) - lags - horizon + 1, (lags, horizon, settings)
    penalties = {p: compare_forecasts(x, before, *rest, p, 3)["ridge, direct"][0] for p in (1.0, 10.0, 100.0)}
    averages = {n: compare_forecasts(x, before, *rest, 1.0, n)[f"average of {n}"][0] for n in (3, 7, 14)}
    penalty, average = min(penalties, key=penalties.get), min(averages, key=averages.get)
    print(f"   {f'{horizon} ahead, penalty {penalty:g}':20}  MAE  RMSE  MASE")
    found = compare_forecasts(x, rows, *rest, penalty, average)
    for name, errors in found.items():
        print(f"   {name:20}" + " ".join(f"{error:5.2f}" for error in errors))
    return found


def compare_by_hand(x: Tensor, lags: int) -> tuple[float, float, int]:
    """Return how far correlations and ridge regression are from other ways to them, and how many splits differ."""
    from sklearn.linear_model import Ridge as Reference
    from sklearn.model_selection import TimeSeriesSplit

    ours = autocorrelation(x, lags)
    power = torch.fft.irfft(torch.fft.rfft(x - x.mean(), n=2 * len(x)).abs().square())[: lags + 1]  # twice as long: no wrapping
    off = (ours - power / power[0]).abs().max().item()
    inputs, targets = make_windows(x, lags, 3)
    z = ((inputs - inputs.mean(dim=0)) / inputs.std(dim=0)).numpy()
    theirs = torch.from_numpy(Reference(alpha=10.0).fit(z, targets.numpy()).predict(z))
    different = 0
    for longest in (None, 200):  # expanding, sliding
        splits = TimeSeriesSplit(12, test_size=30, gap=6, max_train_size=longest).split(inputs.numpy())
        for (a, b), (past, test) in zip(walk_forward(len(inputs), 12, 30, 6, longest), splits, strict=True):
            different += list(a) != past.tolist() or list(b) != test.tolist()
    return off, (Ridge(inputs, targets, 10.0)(inputs) - theirs).abs().max().item(), different


def draw_series(dates, x: Tensor, parts: tuple[Tensor, ...], remainder: Tensor, changes: Tensor) -> None:
    """Draw a series and its parts, and the correlations of its remainder and of the changes of a price."""
    import matplotlib.pyplot as plt

    figure, (left, *right) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    left.plot(dates, x, linewidth=0.4, color="grey")
    left.plot(dates, parts[0], label=label("trend", "추세"))
    left.plot(dates, parts[1] + x.mean(), label=label("season + mean", "계절 + 평균"))
    left.set(xticks=dates[::730], ylabel="°C", title=label("Seattle, daily maximum", "시애틀, 일 최고 기온"))
    series = ((remainder, label("what remains", "나머지")), (changes, label("S&P 500, monthly change", "S&P 500, 월 변화")))
    for axis, (one, title) in zip(right, series, strict=True):
        correlations = autocorrelation(one, 24)
        for shift, bars in ((-0.2, correlations), (0.2, partial_autocorrelation(correlations))):
            axis.bar([k + shift for k in range(25)], bars.tolist(), width=0.4)
        axis.legend([label("autocorrelation", "자기상관"), label("partial", "편자기상관")])
        axis.axhspan(-1.96 / len(one) ** 0.5, 1.96 / len(one) ** 0.5, color="grey", alpha=0.3)  # where 95 % of noise stays
        axis.set(xlabel=label("lag", "시차"), ylim=(-0.3, 1.05), title=title)
    left.legend()
    save_figure(figure, __file__, "series")


# %% All of it, in order
def main(lags: int = 14, horizon: int = 7) -> dict[str, float]:
    """Look at time series, and forecast them by simple rules and by ridge regression.

    Args:
        lags: Days, or months, that a forecast looks back.
        horizon: Days, or months, that it looks ahead.
    """
    check(1 <= lags <= 60 and 2 <= horizon <= 30, f"--lags {lags} --horizon {horizon}: needed are 1 to 60, and 2 to 30")
    weather, prices = seattle_weather(), torch.from_numpy(monthly_prices().select("^GSPC").values[:, 0])
    x = torch.from_numpy(weather.values[:, 0])  # (1461,)
    parts = decompose(x, 365)
    _, season, remainder = (part[~parts[0].isnan()] for part in parts)  # (1097,) each
    strength = 1 - (remainder.var() / (season + remainder).var()).item()
    correlation_off, ridge_off, different = compare_by_hand(x, 20)
    print(f"1. the season makes up {strength:.0%} of what is not trend")
    print(f"   by hand: {different} splits differ, correlations by {correlation_off:.0e}, ridge regression by {ridge_off:.0e}")
    draw_series(weather.dates, x, parts, remainder, prices.log().diff())
    meet_error(x)
    results = {"difference_by_hand": max(correlation_off, ridge_off, different), "season_strength": strength}
    for name, series, settings in (
        ("temperature", x, {"test": 360, "period": 365, "year": 365.25}),  # °C
        ("prices", 100 * prices.log(), {"test": 120, "period": 12, "year": 0.0}),  # an error of 1 is one of 1 %
    ):
        print(f"3. {name}, the last {settings['test']}:")
        for steps, ahead in (("one", 1), ("path", horizon)):
            errors = {rule: mae for rule, (mae, *_) in choose_and_compare(series, lags, ahead, settings).items()}
            best = min(mae for rule, mae in errors.items() if "ridge" not in rule)
            ways = {"last": "last value", "direct": "ridge, direct", "recursive": "ridge, recursive"}
            results |= {f"{name}_{steps}_{way}": errors[rule] for way, rule in ways.items()} | {f"{name}_{steps}_baseline": best}
    ratio = results["temperature_path_direct"] / results["temperature_path_baseline"]
    check(ratio < 0.97, f"ridge regression's error is {ratio:.0%} of the best simple rule's: it has learned nothing")
    return results


if __name__ == "__main__":
    run(main)
