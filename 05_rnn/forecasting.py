"""Forecasting with networks · 신경망으로 하는 예측

Four networks read a series and say how far it will move; simple rules decide whether that is worth anything.
네 가지 신경망이 시계열을 읽고 값이 얼마나 움직일지 답한다. 그 답에 값어치가 있는지는 단순한 규칙들이 판정한다.

You will
  1. prepare a series: fill gaps from the past, scale by the past, forecast the change instead of the value
  2. prove by a test that no network looks ahead, and see what one that does promises, and what it keeps
  3. compare them, and the mean of them all, with naive rules and ridge regression: over seeds, one step and several

Before     05_rnn/forecast_leaks.py, 05_rnn/lstm_gru.py
Run        python -m study run forecasting         (about 40 s on one CPU core, after importing torch)
You see    three days of temperature with 11 % less error than the best naive rule, prices with none; forecasting.png
Try next   --data pm25, if you have the file: first guess whether the gain is larger one hour ahead or over a day, then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import datasets
from utils.lesson import check, run
from utils.networks.forecasters import Convolutional, Recurrent, Transformer
from utils.plotting import label, save_figure

NAIVE = ("last value", "drift", "seasonal naive", "average of")
Data = Literal["offline", "seattle", "stocks", "pm25", "aapl", "airline"]
# What reads it; columns, the target first; those to take logarithms of; rows to read, to forecast; cycles; rows to test on.
SETS = {
    "seattle": ("seattle_weather", "temp_max temp_min precipitation wind", "precipitation", 21, 3, [365.25], 365),
    "stocks": ("monthly_prices", "^GSPC IBM AAPL MSFT", "^GSPC IBM AAPL MSFT", 13, 3, [12.0], 96),
    "pm25": ("beijing_pm25", "pm2.5 DEWP TEMP PRES Iws Ir NE NW SE cv", "pm2.5 Iws Ir", 48, 24, [24.0, 8766.0], 8760),
    "aapl": ("aapl", "Close Volume", "Close Volume", 20, 5, [5.0], 750),
    "airline": ("airline_passengers", "Passengers", "Passengers", 25, 12, [12.0], 36),
}


# %% 1. A series, prepared
@dataclass(frozen=True)
class Task:
    """What to forecast from what; as many rows as the last `test` are before them for validation."""

    x: Tensor  # (time, variables), the target first; gaps are filled from the past
    targets: Tensor  # (time, horizon): the target on the next rows; NaN where it was not measured
    calendar: Tensor  # (time, 2 x cycles): the date as points on circles, known in advance
    logarithm: bool  # of the target
    window: int
    horizon: int
    period: int
    test: int

    def in_units(self, y: Tensor) -> Tensor:
        return y.expm1() if self.logarithm else y

    def windows(self, known: int, ends: Tensor) -> Tensor:
        """What is read up to each of the rows `ends`, (n, window, inputs), scaled by the first `known` rows of the series."""
        scaled = (self.x - self.x[:known].mean(dim=0)) / self.x[:known].std(dim=0)
        return torch.cat([scaled, self.calendar], dim=1)[ends[:, None] + torch.arange(1 - self.window, 1)]


def load(name: str, alone: bool = False) -> Task:
    """Read a data set; `alone`: its target without the other variables."""
    reader, columns, logarithms, window, horizon, cycles, test = SETS[name]
    series = getattr(datasets, reader)().select(*(columns := columns.split()[: 1 if alone else None]))
    x, measured = torch.from_numpy(series.filled()), torch.from_numpy(series.values[:, 0])
    x, measured = (rows[int((~x.isnan()).all(dim=1).int().argmax()) :] for rows in (x, measured))  # from the first complete row
    logs = [column in logarithms.split() for column in columns]
    x[:, logs] = x[:, logs].log1p()
    targets = torch.cat([measured[1:], measured.new_full((horizon,), torch.nan)]).unfold(0, horizon, 1)  # (time, horizon)
    targets = targets.log1p() if logs[0] else targets
    angles = 2 * math.pi * torch.arange(len(x))[:, None] / torch.tensor(cycles)
    calendar = torch.cat([angles.sin(), angles.cos()], dim=1)
    return Task(x.float(), targets.float(), calendar, logs[0], window, horizon, series.period, test)


# %% 2. Networks that look back only: (batch, time, inputs) -> (batch, time, horizon), an answer at every step
HIDDEN = 16  # size of a state, or channels
NETWORKS = {
    "LSTM": lambda inputs, task: Recurrent(nn.LSTM, inputs, HIDDEN, task.horizon),
    "GRU": lambda inputs, task: Recurrent(nn.GRU, inputs, HIDDEN, task.horizon),
    "convolution": lambda inputs, task: Convolutional(inputs, HIDDEN, task.horizon),
    "Transformer": lambda inputs, task: Transformer(inputs, HIDDEN, task.horizon, task.window),
    "looks ahead": lambda inputs, task: Convolutional(inputs, HIDDEN, task.horizon, causal=False),
}


@torch.no_grad()
def looks_ahead(network: nn.Module, x: Tensor, step: int) -> bool:
    """Whether answers before `step` change with what is read from that step on; x (batch, time, inputs)."""
    other = torch.cat([x[:, :step], 3 - 2 * x[:, step:]], dim=1)
    return not torch.allclose(network(x)[:, :step], network(other)[:, :step], atol=1e-5)


def meet_error() -> str:
    """Hand an LSTM windows of one variable as they lie in memory, (batch, time); return PyTorch's answer."""
    try:
        nn.LSTM(1, 8, batch_first=True)(torch.zeros(32, 21))
    except RuntimeError as error:
        print(f'   "{error}": one variable is a dimension too, (32, 21, 1): windows.unsqueeze(-1)')
        return str(error)


# %% 3. Training and measuring
def train(name: str, task: Task, known: int, steps: int, lr: float, seed: int) -> nn.Module:
    """Train on windows whose targets, too, lie in the first `known` rows; the loss is the mean absolute error, scaled."""
    torch.manual_seed(seed)  # for the weights and the batches
    network = NETWORKS[name](task.x.shape[1] + task.calendar.shape[1], task)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    changes = (task.targets - task.x[:, :1]) / task.x[:known, 0].std()  # (time, horizon)
    for _ in range(steps):
        ends = torch.randint(task.window - 1, known - task.horizon, (64,))
        wanted = changes[ends[:, None] + torch.arange(1 - task.window, 1)]  # (64, window, horizon): at every step of a window
        errors = (network(task.windows(known, ends)) - wanted)[:, task.window // 4 :]  # before, too little is read
        loss = errors[~errors.isnan()].abs().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return network.eval()


@torch.no_grad()
def forecast(network: nn.Module, task: Task, known: int, ends: Tensor) -> Tensor:
    """Forecast the target after each of the rows `ends`: (n, horizon)."""
    changes = torch.cat([network(task.windows(known, part))[:, -1] for part in ends.split(1000)])
    return task.x[ends, :1] + changes * task.x[:known, 0].std()


def ridge(task: Task, known: int, ends: Tensor, penalty: float = 100.0) -> Tensor:
    """The same by ridge regression on the whole window, as in time_series.py."""
    past = torch.arange(task.window - 1, known - task.horizon)
    past = past[~task.targets[past].isnan().any(dim=1)]
    x, new = (F.pad(task.windows(known, rows).flatten(1), (0, 1), value=1.0).double() for rows in (past, ends))
    square = x.T @ x + penalty * torch.eye(x.shape[1])
    weights = torch.linalg.solve(square, x.T @ (task.targets - task.x[:, :1])[past].double())
    return task.x[ends, :1] + (new @ weights).float()


def naive_rules(task: Task, ends: Tensor) -> dict[str, Tensor]:
    """The simple rules, by name: (n, horizon)."""
    y, ahead = task.x[:, 0], torch.arange(1, task.horizon + 1)
    last = y[ends, None].expand(-1, task.horizon)
    season = ends[:, None] + ahead - task.period * (1 + (ahead - 1) // task.period)
    averages = {f"average of {n}": y.unfold(0, n, 1)[ends - n + 1].mean(dim=1)[:, None].expand_as(last) for n in (3, 7, 14)}
    return {"last value": last, "drift": last + (last - y[0]) / ends[:, None] * ahead, "seasonal naive": y[season], **averages}


def errors_of(forecasts: Tensor, task: Task, ends: Tensor) -> Tensor:
    """The mean absolute error at each step ahead, in units: (horizon,)."""
    return (task.in_units(forecasts) - task.in_units(task.targets[ends])).abs().nanmean(dim=0)


def promise_and_keep(task: Task, steps: int, lr: float, seed: int) -> tuple[float, float]:
    """Train the network that looks ahead; return its error in mid-window, and at the end of windows, where there is no future."""
    known, ends = len(task.x) - 2 * task.test, ends_of(task, len(task.x) - task.test)
    network, middle = train("looks ahead", task, known, steps, lr, seed), ends - task.window // 2
    with torch.no_grad():
        changes = network(task.windows(known, ends))[:, -1 - task.window // 2] * task.x[:known, 0].std()
    kept = errors_of(forecast(network, task, known, ends), task, ends)
    return errors_of(task.x[middle, :1] + changes, task, middle).mean().item(), kept.mean().item()


# %% The comparison
def ends_of(task: Task, last: int) -> Tensor:
    """The rows after which to forecast what lies in the period before row `last`; of a very long one every seventh."""
    return torch.arange(last - task.test - 1, last - task.horizon, 1 if task.test < 2000 else 7)


def compare(name: str, steps: int, lr: float, seeds: range) -> dict[str, Tensor]:
    """By method, the error at each step ahead on validation and on test, (2, seeds, horizon); everything is fitted for each."""
    task, alone, found = load(name), load(name, alone=True), {}
    for last in (len(task.x) - task.test, len(task.x)):
        known, ends, networks = last - task.test, ends_of(task, last), {}
        for kind, its in {"GRU, alone": alone, "LSTM": task, "GRU": task, "convolution": task, "Transformer": task}.items():
            trained = [train(kind.partition(",")[0], its, known, steps, lr, seed) for seed in seeds]
            networks[kind] = [forecast(network, its, known, ends) for network in trained]
        together = [torch.stack(one_of_each).mean(dim=0) for one_of_each in zip(*networks.values(), strict=True)]
        rules = naive_rules(task, ends) | {"ridge": ridge(task, known, ends)}
        answers = {rule: [one] for rule, one in rules.items()} | networks | {"their mean": together}
        for method, several in answers.items():
            found.setdefault(method, []).append(torch.stack([errors_of(one, task, ends) for one in several]))
    return {method: torch.stack(both) for method, both in found.items()}


def report(name: str, found: dict[str, Tensor]) -> dict[str, float]:
    """Print the table of a data set, and return what counts of it."""
    naive = [both[1, 0] for rule, both in found.items() if rule.startswith(NAIVE)]  # (horizon,) each, on test
    best_one, best = min(errors[0] for errors in naive), min(errors.mean() for errors in naive)
    print(f"3. {name:16} validation   test: one step     all {len(naive[0]):2}            against the best naive rule")
    for method, (validation, test) in found.items():
        spread = f"± {test.mean(dim=1).std():.3f}" if len(test) > 1 else ""
        told = f"{validation.mean():10.3f} {test[:, 0].mean():15.3f} {test.mean():10.3f} {spread:9}"
        print(f"   {method:16} {told} {test[:, 0].mean() / best_one - 1:+8.1%} {test.mean() / best - 1:+8.1%}")
    test = found["their mean"][1]  # for every data set the same: the best on each test would be a choice by the test
    numbers = {"error": test.mean(), "baseline": best, "ratio": test.mean() / best, "ratio_one": test[:, 0].mean() / best_one}
    learned = numbers["ratio"] < 0.95 or name not in ("seattle", "pm25")  # nothing is asked of prices
    check(learned, f"{name}: the networks' error is {numbers['ratio']:.0%} of the best naive rule's")
    return {f"{name}_{key}": value.item() for key, value in numbers.items()}


def draw_figure(found: dict[str, dict[str, Tensor]]) -> None:
    """Draw the test error of every method over the steps ahead, a picture for each data set."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(6 * len(found), 4.2), layout="constrained", squeeze=False)
    for axis, (name, methods) in zip(axes[0], found.items(), strict=True):
        for method in "last value,seasonal naive,average of 7,ridge,GRU,convolution,Transformer,their mean".split(","):
            errors = methods[method][1].mean(dim=0)  # (horizon,)
            axis.plot([str(k + 1) for k in range(len(errors))], errors, "--" if method.startswith(NAIVE) else "o-", label=method)
        axis.set(xlabel=label("steps ahead", "몇 걸음 앞"), ylabel=label("mean absolute error", "평균 절대 오차"), title=name)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    save_figure(figure, __file__, "forecasting")


# %% All of it, in order
def main(data: Data = "offline", steps: int = 120, lr: float = 0.005, seeds: int = 3, seed: int = 0) -> dict[str, float]:
    """Forecast time series by networks, and hold them against rules that learn nothing.

    Args:
        data: offline (seattle and stocks), or one of seattle, stocks, pm25, aapl, airline.
        steps: Training steps of each network.
        lr: The highest learning rate.
        seeds: Networks of each kind.
        seed: The first seed.
    """
    check(min(steps, seeds) >= 1, "needed are one or more --steps and --seeds")
    names = ["seattle", "stocks"] if data == "offline" else [data]
    task = load(names[0])
    x = task.windows(100, torch.tensor([60, 70]))  # (2, window, inputs)
    ahead = {name: looks_ahead(make(x.shape[2], task).eval(), x, task.window // 2) for name, make in NETWORKS.items()}
    print("2. looks ahead: " + ", ".join(f"{name} {'YES' if it_does else 'no'}" for name, it_does in ahead.items()))
    meet_error()
    promised, kept = promise_and_keep(task, steps, lr, seed)
    print(f"   the network that looks ahead promises an error of {promised:.2f} and keeps {kept:.2f}")
    tables = {name: compare(name, steps, lr, range(seed, seed + seeds)) for name in names}
    draw_figure(tables)
    results = {"leaks_found": sum(ahead.values()), "promised": promised, "kept": kept}
    return results | {key: value for one in tables.items() for key, value in report(*one).items()}


if __name__ == "__main__":
    run(main)
