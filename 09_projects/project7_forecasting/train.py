"""Project 7 · What comes next? · 시계열 예측

Walk forward through a series: train networks on what was known, forecast what came, and hold them against simple rules and ridge
regression, point by point and interval by interval. Then forecast what nobody knows yet, and write a report.
시계열을 따라가며 그때까지 알던 것으로 신경망을 학습하고, 그다음에 실제로 온 값을 예측한다. 단순한 규칙과 릿지 회귀를
기준으로 점 예측과 예측 구간을 평가하고, 아직 아무도 모르는 값을 예측해 보고서를 쓴다.

Run        python -m study run project7                         (Seattle's weather and the S&P 500)
           python -m study run project7 --data airline aapl     (series of which you have the files)
           python -m study run project7 --csv sales.csv         (a file of your own with a column of dates)
           python -m study run project7 --resume                (go on after Ctrl-C or a crash)
Try next   --seeds 1: half the networks. First guess how much error that adds, and whether a verdict changes; then look
Then       python -m study run project7/evaluate · project7/report · project7/predict
"""

import shutil
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from project7_forecasting import backtest as walking
from project7_forecasting import evaluate as evaluation
from project7_forecasting import report as reporting
from project7_forecasting.backtest import NETWORKS, Backtest, Trained
from project7_forecasting.data import Fold, Name, Scale, Task, last_fold, read, walk_forward
from project7_forecasting.model import KINDS, LEVELS, Forecaster, load_forecaster, make_network, save_forecaster
from utils import distributed, paths
from utils.batches import Batches
from utils.datasets import Source
from utils.device import pick_device
from utils.lesson import check, run, silence
from utils.seeding import seed_everything
from utils.training import check_above_zero, fit, rise_and_fall

# Chosen on calibration periods, never on test periods. The same for every series.
RECIPE = {"hidden": 16, "steps": 120, "batch_size": 32, "lr": 1e-2, "weight_decay": 0.1}
LEARNABLE = ("seattle", "pm25", "airline")  # series in which there is something to learn; of prices nothing is asked


# %% The recipe
def quantile_loss(network: nn.Module, origins: Tensor, task: Task, scale: Scale) -> Tensor:
    """The pinball loss of changes in units of their spread, at the steps of the windows at which enough has been read.

    Args:
        network: (batch, window, inputs) → (batch, steps, horizon x levels).
        origins: (batch,), the last rows of the windows.
        task: What to forecast.
        scale: From what the fold may know.
    """
    window = task.plan.window
    answers = network(task.windows(origins, scale))[:, -(window - window // 4) :]  # before, too little is read
    answers = answers.unflatten(2, (task.plan.horizon, len(LEVELS)))  # (batch, steps, horizon, levels)
    rows = origins[:, None] + torch.arange(1 - answers.shape[1], 1, device=origins.device)  # (batch, steps)
    changes = (task.targets[rows] - task.observed[rows, :1]) / scale.changes  # (batch, steps, horizon)
    measured = ~changes.isnan()
    above = changes[measured].unsqueeze(-1) - answers[measured]  # (numbers, levels)
    levels = LEVELS.to(above)
    return torch.maximum(levels * above, (levels - 1) * above).mean()


def make_batches(task: Task, fold: Fold, steps: int, batch_size: int, seed: int) -> Batches:
    """So many batches of origins: one shuffle of all of them after another. Long series take no longer than short ones."""
    origins = task.origins_to_learn(fold)
    origins = origins[~task.targets.cpu()[origins].isnan().all(dim=1)]
    check(len(origins) > 0, f"{task.name}: nothing was measured in the rows to learn from")
    generator = torch.Generator().manual_seed(seed)
    shuffles = [origins[torch.randperm(len(origins), generator=generator)] for _ in range(-(-steps * batch_size // len(origins)))]
    device = task.observed.device
    return Batches(torch.cat(shuffles)[: steps * batch_size], batch_size=batch_size, shuffle=False, device=device, seed=seed)


def train_network(
    task: Task, fold: Fold, kind: str, recipe: dict, seed: int, folder: Path, resume: bool
) -> tuple[nn.Module, list[float]]:
    """Train one network for one fold; return it with the loss of every step."""
    seed_everything(seed)
    scale, device = task.scale(fold), task.observed.device
    network = make_network(kind, task.input_size, task.plan, recipe["hidden"]).to(device)
    batches = make_batches(task, fold, recipe["steps"], recipe["batch_size"], seed)
    optimizer = torch.optim.AdamW(network.parameters(), recipe["lr"], weight_decay=recipe["weight_decay"])
    with silence():  # seventy networks would fill the terminal
        history = fit(
            network,
            batches,
            optimizer,
            lambda network, batch: quantile_loss(network, batch[0], task, scale),
            epochs=1,  # of drawn batches: with the same number of steps, long series take no longer
            scheduler=rise_and_fall(optimizer, recipe["steps"], rise=0.3),
            clip_norm=1.0,
            checkpoints=folder,
            resume=resume,
            settings={"data": task.source, "plan": str(task.plan), "known": fold.known, "kind": kind, "seed": seed, **recipe},
        )
    return network.eval(), history.losses


def train_all(
    task: Task, recipe: dict, seeds: range, folder: Path, resume: bool
) -> tuple[list[Fold], list[list[Trained]], Tensor]:
    """Train every kind with every seed for every fold, and for the one that lies in the future.

    Returns:
        The folds, their networks, and the losses of all of them (networks, steps).
    """
    folds, networks, losses = [*walk_forward(task), last_fold(task)], [], []
    for number, fold in enumerate(folds):
        what = f"fold {number + 1}/{len(folds) - 1}" if number + 1 < len(folds) else "for what comes"
        print(f"{task.name}: {what}, learning from {task.dates[fold.start]} to {task.dates[fold.known - 1]}", flush=True)
        trained = []
        for kind in KINDS:
            for seed in seeds:
                its = folder / f"fold{number + 1}_{kind}_{seed}"
                network, its_losses = train_network(task, fold, kind, recipe, seed, its, resume)
                trained.append(Trained(kind, seed, network))
                losses.append(torch.tensor(its_losses))
        networks.append(trained)
    return folds, networks, torch.stack(losses)


# %% All of it, in order
def main(
    data: tuple[Name, ...] = (),
    source: Source = "auto",
    csv: Path | None = None,
    target: str | None = None,
    known: tuple[str, ...] = (),
    logarithm: bool = False,
    differences: bool = False,
    period: int | None = None,
    date_column: str | None = None,
    date_format: str | None = None,
    window: int | None = None,
    horizon: int | None = None,
    folds: int | None = None,
    test: int | None = None,
    calibration: int | None = None,
    stride: int | None = None,
    longest: int | None = None,
    hidden: int = RECIPE["hidden"],
    steps: int = RECIPE["steps"],
    batch_size: int = RECIPE["batch_size"],
    lr: float = RECIPE["lr"],
    weight_decay: float = RECIPE["weight_decay"],
    seeds: int = 2,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    figures: bool = True,
) -> dict[str, float]:
    """Forecast series by walking forward, judge every method, save the networks, and write the report.

    Args:
        data: Series of the course; without any, those that `source` stands for.
        source: "sample" (seattle, stocks), "real" (pm25, aapl, airline), or "auto" for those of the latter that are there.
        csv: A file of your own with a header, a column of dates and columns of numbers.
        target: With --csv: the column to forecast; without it the first one that has numbers.
        known: With --csv: columns that are known ahead (holidays, planned prices); they go on after the target's last number.
        logarithm: With --csv: take the target's logarithm; its changes are factors then.
        differences: With --csv: read changes from row to row instead of values.
        period: With --csv: rows in a season.
        date_column: With --csv: the column of dates, if its name does not say so.
        date_format: With --csv: as in strptime, "%d.%m.%Y"; without it, year first.
        window: Rows that are read; without it, what the series' plan says. So for the next six.
        horizon: Rows ahead that are forecast.
        folds: Test periods.
        test: Rows in each of them.
        calibration: Rows before each of them by which intervals are corrected.
        stride: Rows from one forecast to the next in a test period.
        longest: Learn from so many rows at most: a window that slides instead of one that grows.
        hidden: Size of the networks' states and channels.
        steps: Training steps of each network.
        batch_size: Windows in a step.
        lr: The highest learning rate.
        weight_decay: How strongly weights are drawn to 0.
        seeds: Networks of each kind.
        seed: The first seed.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with the run that was interrupted; networks that are finished are not trained again.
        figures: Draw.
    """
    recipe = {"hidden": hidden, "steps": steps, "batch_size": batch_size, "lr": lr}
    check_above_zero({**recipe, "seeds": seeds}, *recipe, "seeds")
    check(weight_decay >= 0, "--weight-decay must be 0 or more")
    recipe["weight_decay"] = weight_decay
    options = {"target": target, "known": list(known), "logarithm": logarithm, "differences": differences}
    options |= {"period": period, "date_column": date_column, "date_format": date_format}
    changes = {"window": window, "horizon": horizon, "folds": folds, "test": test}
    changes |= {"calibration": calibration, "stride": stride, "longest": longest}
    tasks = read(data, csv, source, options, changes)
    where, folder = pick_device(device), paths.models("project7_forecasting")
    started, results, backtests, losses = time.perf_counter(), {}, [], {}
    for task in (task.to(where) for task in tasks):
        found, losses[task.name] = walk(task, recipe, range(seed, seed + seeds), folder, resume, options if csv else None)
        backtests.append(found)
        evaluation.show(found)
        results |= {f"{task.name}_{name}": value for name, value in evaluation.numbers(found).items()}
    walking.save(folder / "backtests.pt", backtests)
    results["training_seconds"] = time.perf_counter() - started
    if distributed.is_main():
        reporting.write(backtests)
    if figures:
        evaluation.draw(backtests, losses)
    for found in backtests:
        evaluation.check_learned(found, is_asked=found.name in LEARNABLE and csv is None)
    return results


def walk(task: Task, recipe: dict, seeds: range, folder: Path, resume: bool, options: dict | None) -> tuple[Backtest, Tensor]:
    """Train for every fold of a task, forecast, and save the networks that forecast what is to come.

    Args:
        task: The series.
        recipe: Settings as in RECIPE.
        seeds: Of the networks.
        folder: For the networks.
        resume: Go on with what is there.
        options: With which the file of one's own was read, or None for a series of the course.
    """
    runs = folder / "runs" / task.name
    folds, networks, losses = train_all(task, recipe, seeds, runs, resume)
    found = walking.gather(task, folds, networks)
    last = [(one.kind, one.network) for one in networks[-1]]
    forecaster = Forecaster(last, task.scale(folds[-1]), found.corrections.to(task.observed.device))
    facts = evaluation.numbers(found)
    path = folder / f"{task.name}.pt"
    about = {"source": task.source, "name": task.name, "error": facts["error"], "ratio": facts["ratio"], "options": options}
    save_forecaster(path, forecaster, task, recipe["hidden"], **about)
    again, _ = load_forecaster(path, task.observed.device)
    origin = folds[-1].test.to(task.observed.device)
    same = torch.allclose(again(task, origin).cpu()[0], found.future[NETWORKS], rtol=1e-4, atol=1e-4)
    check(same, f"{paths.short(path)} does not forecast what was forecast")
    if distributed.is_main():
        shutil.rmtree(runs, ignore_errors=True)  # every network is finished: there is nothing to resume any more
    return found, losses


if __name__ == "__main__":
    run(main)
