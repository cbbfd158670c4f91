"""A report that can be sent around: one HTML file with everything in it, in English and Korean. · 보고서

Who beats the last value and who does not, what comes next, every test forecast beside what came, errors and intervals.
마지막 값을 이기는 방법이 있는지, 다음에 무엇이 올지, 모든 테스트 예측과 실제로 온 값, 오차와 예측 구간을 보여 준다.

Run        python -m study run project7/report        (after python -m study run project7)
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from project7_forecasting.backtest import NETWORKS, Backtest, compare, is_short, judge, load, measure, verdict, winners
from project7_forecasting.evaluate import spread_over_folds
from project7_forecasting.rules import SIMPLE
from utils import paths
from utils.forecast_scores import covered
from utils.lesson import mention, run

PAGE = Path(__file__).with_name("page.html")
MOST_SHOWN = 150  # test forecasts in the report; of more, every second or third


# %% What the page is told
def facts(backtest: Backtest) -> dict:
    """Everything that the page shows of a backtest, in plain values; a number that is not known is None."""
    found, better = judge(backtest), winners(backtest)
    best = backtest.best_rule()
    chosen = torch.arange(0, len(backtest.origins), -(-len(backtest.origins) // MOST_SHOWN))
    first = max(0, int(backtest.origins[0]) - 6 * backtest.horizon)  # earlier rows are not drawn
    return {
        "name": backtest.name,
        "source": backtest.source,
        "target": backtest.target,
        "unit": backtest.unit,
        "horizon": backtest.horizon,
        "forecasts": len(backtest.origins),
        "folds": int(backtest.fold.max()) + 1,
        "dates": backtest.dates[first:],
        "history": plain(backtest.history[first:]),
        "origins": (backtest.origins[chosen] - first).tolist(),
        "walks": {
            method: plain(backtest.quantiles[method][chosen]) for method in dict.fromkeys((NETWORKS, "ridge", best, "last value"))
        },
        "future": {method: plain(quantiles) for method, quantiles in backtest.future.items()},
        "methods": [_method(backtest, method, found, better) for method in backtest.quantiles],
        "best_rule": best,
        "winners": better,
        "is_short": is_short(backtest),
        "against_rule": _against(backtest, best),
        "against_ridge": _against(backtest, "ridge"),
    }


def _method(backtest: Backtest, method: str, found: dict, better: list[str]) -> dict:
    low, high = backtest.quantiles[method][..., 0], backtest.quantiles[method][..., -1]
    folds = spread_over_folds(backtest, method)
    about = {name: _number(value) for name, value in measure(backtest, method).items()}
    about |= {"name": method, "is_rule": method in SIMPLE, "is_better": method in better, "folds": plain(folds)}
    seeds = backtest.seeds.get(method)
    about["seeds"] = None if seeds is None or len(seeds) < 2 else _number(seeds.mean(dim=1).std().item())
    if method in found:
        one = found[method]
        about |= {"difference": _number(one.difference), "interval": [_number(end) for end in one.interval()]}
    about["errors"] = plain(backtest.errors(method).nanmean(dim=0))
    about["held"] = plain(covered(low, high, backtest.targets).nanmean(dim=0))
    return about


def _against(backtest: Backtest, other: str) -> dict:
    one = compare(backtest, NETWORKS, other)
    return {"other": other, "difference": _number(one.difference), "interval": [_number(end) for end in one.interval()]}


def plain(values: Tensor) -> list:
    """A tensor as nested lists of four digits; None for NaN."""
    return [plain(one) for one in values] if values.ndim > 1 else [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


# %% The file
def render(backtests: Sequence[Backtest]) -> str:
    """The report as HTML that needs nothing from elsewhere, and takes nothing: a browser is told to refuse it."""
    from utils import web  # brings a web server along, which nothing else here needs

    # "<" in a name, a column or a source may not end the script in which the data stands.
    told = json.dumps({"series": [facts(one) for one in backtests]}, ensure_ascii=False).replace("<", "\\u003c")
    html = web.with_shared(PAGE.read_text(encoding="utf-8"))
    policy = web.content_security_policy(html).partition("; frame-ancestors")[0]  # which only counts in an HTTP header
    html = html.replace("<!-- policy -->", f'<meta http-equiv="Content-Security-Policy" content="{policy}">')
    return html.replace("<!-- data -->", f'<script type="application/json" id="data">{told}</script>')


def write(backtests: Sequence[Backtest], path: Path | None = None) -> Path:
    """Write the report, all of it or nothing; without a path to outputs/project7_forecasting/report.html."""
    path = path or paths.outputs("project7_forecasting") / "report.html"
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(render(backtests), encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    mention("written", paths.short(path))
    return path


def main(backtests: Path | None = None, to: Path | None = None) -> dict[str, float]:
    """Write the report again.

    Args:
        backtests: The file; without it, the one that `python -m study run project7` wrote.
        to: Where to write it; without it, outputs/project7_forecasting/report.html.
    """
    found = load(backtests)
    for one in found:
        print(f"{one.name}: {verdict(one)}")
    path = write(found, to)
    return {"series": len(found), "kilobytes": path.stat().st_size / 1e3}


if __name__ == "__main__":
    run(main)
