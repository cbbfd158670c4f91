"""Who forecasts best, and is it certain? · 누가 가장 잘 예측하는가, 그것은 확실한가

Errors of every method over folds and seeds, intervals and what they hold, and whether anything beats the last value.
폴드와 시드에 따른 방법별 오차, 예측 구간의 포함률과 폭, 그리고 마지막 값을 이기는 방법이 있는지 살펴본다.

Run        python -m study run project7/evaluate        (after python -m study run project7)
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from project7_forecasting.backtest import NETWORKS, Backtest, compare, judge, load, measure, verdict, winners
from project7_forecasting.model import LEVELS
from utils.forecast_scores import covered
from utils.lesson import check, run
from utils.plotting import label, save_figure

KOREAN = {
    "last value": "마지막 값",
    "drift": "추세 연장",
    "seasonal naive": "한 주기 전 값",
    "moving average": "이동 평균",
    "climatology": "평년값",
    "ridge": "릿지 회귀",
    "convolution": "합성곱",
    NETWORKS: "신경망 전체",
}


# %% Numbers
def numbers(backtest: Backtest) -> dict[str, float]:
    """What counts of a backtest, flat.

    Returns:
        Of the networks together: "error", "pinball", "coverage", "width"; "baseline" is the error of the best simple rule on the
        test, "ratio" the networks' error by it, "ridge" that of ridge regression; "beaten_by" counts the methods that are better
        than the last value beyond doubt.
    """
    found = measure(backtest, NETWORKS)
    baseline = measure(backtest, backtest.best_rule())["error"]
    return {
        "error": found["error"],
        "baseline": baseline,
        "ratio": found["error"] / baseline,
        "ridge": measure(backtest, "ridge")["error"],
        "last_value": measure(backtest, "last value")["error"],
        "pinball": found["pinball"],
        "coverage": found["coverage"],
        "width": found["width"],
        "beaten_by": len(winners(backtest)),
    }


def spread_over_folds(backtest: Backtest, method: str) -> Tensor:
    """The mean absolute error in each fold: (folds,)."""
    errors = backtest.errors(method)
    return torch.stack([errors[backtest.fold == number].nanmean() for number in backtest.fold.unique()])


def check_learned(backtest: Backtest, is_asked: bool) -> None:
    """See that the networks beat the best simple rule, which was chosen on the test, where something can be learned."""
    found = numbers(backtest)
    learned = found["ratio"] < 0.98 or not is_asked
    check(
        learned, f"{backtest.name}: the networks' error is {found['ratio']:.1%} of that of {backtest.best_rule()}, not below 98 %"
    )


def show(backtest: Backtest) -> None:
    """Print the table of a backtest, and the verdict."""
    found = judge(backtest)
    count, ahead = len(backtest.origins), backtest.horizon
    unit = f" in {backtest.unit}" if backtest.unit != backtest.target else ""
    print(f"\n{backtest.name}: {backtest.target}{unit}, {ahead} rows ahead, {count:,} forecasts")
    print(f"   {'':15}    one     all   folds         seeds    90 % hold  width   pinball   against the last value")
    for method in backtest.quantiles:
        its, folds = measure(backtest, method), spread_over_folds(backtest, method)
        seeds = backtest.seeds.get(method)
        over_seeds = "" if seeds is None or len(seeds) < 2 else f"± {seeds.mean(dim=1).std():.3g}"
        told = ""
        if method in found:
            low, high = found[method].interval()
            told = f"{found[method].difference:+8.3g} ({low:+.3g} to {high:+.3g})"
        print(
            f"   {method:15} {its['error_one']:6.4g} {its['error']:7.4g}   {folds.min():.3g}–{folds.max():<8.3g} {over_seeds:9} "
            f"{its['coverage']:6.1%} {its['width']:9.4g} {its['pinball']:8.4g}  {told}"
        )
    print(f"   {verdict(backtest)}")
    best = backtest.best_rule()
    for other in dict.fromkeys((best, "ridge")):
        one = compare(backtest, NETWORKS, other)
        low, high = one.interval()
        print(f"   the networks against {other}: {one.difference:+.3g} {backtest.unit} ({low:+.3g} to {high:+.3g})")


# %% Figures
def name_of(method: str) -> str:
    """A method's name in the reader's language."""
    return label(method, KOREAN.get(method, method))


def draw_errors(backtest: Backtest):
    """The error of every method over the rows ahead, and in each fold; returns the figure. The hopeless are left out."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
    most = 2 * backtest.errors("last value").nanmean()
    for method in (method for method in backtest.quantiles if backtest.errors(method).nanmean() < most):
        errors = backtest.errors(method).nanmean(dim=0)  # (horizon,)
        style = {"linewidth": 3, "color": "black"} if method == NETWORKS else {}
        left.plot(range(1, len(errors) + 1), errors, "o-", markersize=3, label=name_of(method), **style)
        folds = spread_over_folds(backtest, method)
        right.plot(folds, [name_of(method)] * len(folds), "o", alpha=0.6, color=left.lines[-1].get_color())
    left.set(xlabel=label("rows ahead", "몇 행 앞"), ylabel=f"{label('mean absolute error', '평균 절대 오차')} ({backtest.unit})")
    right.set(xlabel=f"{label('error in each fold', '폴드별 오차')} ({backtest.unit})")
    left.xaxis.get_major_locator().set_params(integer=True)
    right.invert_yaxis()
    right.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize="small")
    figure.suptitle(backtest.name)
    return figure


def draw_coverage(backtest: Backtest):
    """What the 90 % intervals hold and how wide they are, over the rows ahead, before the correction and after; the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    ahead = range(1, backtest.horizon + 1)
    for number, method in enumerate(("last value", "ridge", NETWORKS)):
        for quantiles, style in ((backtest.uncorrected[method], ":"), (backtest.quantiles[method], "-")):
            held = covered(quantiles[..., 0], quantiles[..., -1], backtest.targets).nanmean(dim=0)
            left.plot(ahead, 100 * held, style, color=f"C{number}", label=name_of(method) if style == "-" else None)
            right.plot(ahead, (quantiles[..., -1] - quantiles[..., 0]).nanmean(dim=0), style, color=f"C{number}")
    left.axhline(90, color="gray", linewidth=1)
    left.set(xlabel=label("rows ahead", "몇 행 앞"), ylabel=label("held by 90 % intervals (%)", "90 % 구간의 포함률 (%)"))
    right.set(xlabel=label("rows ahead", "몇 행 앞"), ylabel=f"{label('mean width', '평균 폭')} ({backtest.unit})")
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(title=label("dotted: before the correction", "점선: 보정 전"), loc="outside lower center", ncols=3)
    figure.suptitle(backtest.name)
    return figure


def draw_future(backtest: Backtest):
    """The last rows, and the forecast of what comes; returns the figure."""
    import matplotlib.pyplot as plt

    count = 4 * backtest.horizon
    history = backtest.history[-count:]
    future = backtest.future[NETWORKS]  # (horizon, levels)
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    axis.plot(range(1 - len(history), 1), history, "k.-", label=label("known", "알고 있는 값"))
    ahead = range(1, backtest.horizon + 1)
    for low, high, alpha in ((0, 4, 0.25), (1, 3, 0.45)):
        share = f"{100 * (LEVELS[high] - LEVELS[low]):.0f} %"
        axis.fill_between(ahead, future[:, low], future[:, high], color="tab:blue", alpha=alpha, linewidth=0, label=share)
    axis.plot(ahead, future[:, 2], color="tab:blue", label=label("median", "중앙값"))
    axis.set(title=f"{backtest.name}: {backtest.dates[-backtest.horizon]} …", xlabel=label("rows", "행"), ylabel=backtest.unit)
    axis.legend()
    return figure


def draw_losses(losses: dict[str, Tensor]):
    """The mean training loss of all networks of each series, step by step; returns the figure."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, its in losses.items():
        axis.plot(its.mean(dim=0), label=name)
    axis.set(xlabel=label("step", "스텝"), ylabel=label("pinball loss", "핀볼 손실"))
    axis.legend()
    return figure


def draw(backtests: Sequence[Backtest], losses: dict[str, Tensor] | None = None) -> None:
    """Write the figures to outputs/project7_forecasting/."""
    for backtest in backtests:
        save_figure(draw_errors(backtest), __file__, f"{backtest.name}_errors")
        save_figure(draw_coverage(backtest), __file__, f"{backtest.name}_coverage")
        save_figure(draw_future(backtest), __file__, f"{backtest.name}_future")
    if losses:
        save_figure(draw_losses(losses), __file__, "losses")


def main(backtests: Path | None = None, figures: bool = True) -> dict[str, float]:
    """Measure what was forecast, again.

    Args:
        backtests: The file; without it, the one that `python -m study run project7` wrote.
        figures: Draw as well.
    """
    found, results = load(backtests), {}
    for one in found:
        print(f"data: {one.source}")
        show(one)
        results |= {f"{one.name}_{name}": value for name, value in numbers(one).items()}
    if figures:
        draw(found)
    return results


if __name__ == "__main__":
    run(main)
