"""Prediction intervals · 예측 구간

"21 degrees tomorrow" is half a forecast: the other half is how far off it may be. A network learns quantiles from a loss of one
line; whether its intervals hold what they promise has to be measured, and can be put right afterwards.
"내일 21도"는 절반짜리 예측이다. 나머지 절반은 얼마나 빗나갈 수 있는가이다. 신경망은 한 줄짜리 손실로 분위수를 배운다.
그 구간이 약속을 지키는지는 재 봐야 알고, 나중에 바로잡을 수도 있다.

You will
  1. write the pinball loss, and see that what minimises it is the quantile
  2. teach one network five quantiles at once, count how often they cross, and put them in order
  3. measure coverage and width on days to come, beside the naive interval made of past errors
  4. correct the intervals by conformal prediction, once and rolling, and draw the fan

Before     05_rnn/forecasting.py, 03_training/loss_functions.py
Run        python -m study run prediction_intervals  (about 14 s on one CPU core, after importing torch)
You see    90 % held by intervals a fifth narrower than the naive ones, an overtrained network put right; coverage.png, fan.png
Try next   --memory 30: correct by the last month instead of 100 days. First guess what becomes of the width, then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import math

import torch
from torch import Tensor, nn

from utils.datasets import seattle_weather
from utils.lesson import check, run
from utils.networks.forecasters import Recurrent
from utils.plotting import label, save_figure

LEVELS = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])  # the first and the last enclose 90 %
WINDOW, HORIZON, YEAR = 21, 7, 365


# %% 1. The pinball loss
def pinball(forecasts: Tensor, targets: Tensor, levels: Tensor) -> Tensor:
    """Mean over everything of level * error where the target is above the forecast, (1 - level) * error where it is below.

    Args:
        forecasts: (..., quantiles).
        targets: (...).
        levels: (quantiles,), from 0 to 1.
    """
    above = targets[..., None] - forecasts
    return torch.maximum(levels * above, (levels - 1) * above).mean()


def minimise_pinball(sample: Tensor, levels: Tensor, steps: int = 3000) -> float:
    """Look for the constants with the smallest pinball loss by gradient descent; return how far they are from the quantiles."""
    constants = sample.mean().repeat(len(levels)).requires_grad_()
    for step in range(steps):
        (slope,) = torch.autograd.grad(pinball(constants.expand(len(sample), -1), sample, levels) * len(levels), constants)
        constants = (constants - 4 / (1 + step / 100) * slope).detach().requires_grad_()
    return (constants - torch.quantile(sample, levels)).abs().max().item()


def meet_error(sample: Tensor) -> str:
    """Ask for a quantile by a number that comes from NumPy, or from float64; return PyTorch's answer."""
    try:
        torch.quantile(sample.float(), torch.tensor([0.05, 0.95], dtype=torch.float64))
    except RuntimeError as error:
        print(f'   "{error}": levels and data must have one dtype; levels.to(sample)')
        return str(error)


# %% 2. One network, five quantiles
def load() -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs (time, 6), the temperature (time,), and its next values (time, horizon), NaN beyond the end.

    The inputs are scaled by the first two years, the network's; the third is for correcting, the fourth for testing.
    """
    table = torch.from_numpy(seattle_weather().values).float()
    table[:, 2] = table[:, 2].log1p()  # rain
    angle = 2 * math.pi * torch.arange(len(table))[:, None] / 365.25
    known = table[: len(table) - 2 * YEAR]
    inputs = torch.cat([(table - known.mean(dim=0)) / known.std(dim=0), angle.sin(), angle.cos()], dim=1)
    later = torch.cat([table[1:, 0], torch.full((HORIZON,), torch.nan)]).unfold(0, HORIZON, 1)  # (time, horizon)
    return inputs, table[:, 0], later


def windows(ends: Tensor) -> Tensor:
    return ends[:, None] + torch.arange(1 - WINDOW, 1)  # (n, window)


def train(data: tuple[Tensor, Tensor, Tensor], known: int, steps: int, lr: float, seed: int) -> nn.Module:
    """Train a GRU on the first `known` days to say at each step the quantiles of the changes on the next days."""
    inputs, y, later = data
    torch.manual_seed(seed)
    network = Recurrent(nn.GRU, inputs.shape[1], 16, HORIZON * len(LEVELS))
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    changes = (later - y[:, None]) / y[:known].std()
    for _ in range(steps):
        rows = windows(torch.randint(WINDOW - 1, known - HORIZON, (64,)))
        answers = network(inputs[rows]).unflatten(2, (HORIZON, -1))  # (64, window, horizon, quantiles)
        loss = pinball(answers[:, 5:], changes[rows][:, 5:], LEVELS)  # before, too little is read
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return network.eval()


@torch.no_grad()
def forecast(network: nn.Module, data: tuple[Tensor, Tensor, Tensor], known: int, ends: Tensor) -> Tensor:
    """The quantiles of the days after each of the rows `ends`: (n, horizon, quantiles), in degrees."""
    inputs, y, _ = data
    changes = network(inputs[windows(ends)])[:, -1].unflatten(1, (HORIZON, -1))
    return y[ends, None, None] + changes * y[:known].std()


def crossings(quantiles: Tensor) -> float:
    """The share of forecasts in which some quantile is below a smaller one."""
    return (quantiles.diff(dim=-1) < 0).any(dim=-1).float().mean().item()


# %% 3. Coverage and width
def naive_quantiles(data: tuple[Tensor, Tensor, Tensor], known: int, ends: Tensor) -> Tensor:
    """The last value, with the quantiles of its own past errors round it: (n, horizon, quantiles)."""
    _, y, later = data
    past = torch.arange(known - HORIZON)
    spread = torch.quantile(later[past] - y[past, None], LEVELS, dim=0).T  # (horizon, quantiles)
    return y[ends, None, None] + spread


def measure(low: Tensor, high: Tensor, targets: Tensor) -> tuple[float, float, float]:
    """Return coverage, width, and interval score: the width, plus 2 / 0.1 times by how much it misses; (n, horizon) each."""
    missed = (low - targets).clamp(min=0) + (targets - high).clamp(min=0)
    return (missed == 0).float().mean().item(), (high - low).mean().item(), (high - low + 20 * missed).mean().item()


# %% 4. Conformal correction
def scores(low: Tensor, high: Tensor, targets: Tensor) -> Tensor:
    """How far each target is outside of its interval; negative: how far inside. (n, horizon)"""
    return torch.maximum(low - targets, targets - high)


def needed(some: Tensor, share: float = 0.9) -> Tensor:
    """The correction that would have covered `share` of the scores (n, horizon), and one more day to come: (horizon,).

    The ceil((n + 1) * share)-th smallest of them: of n + 1 equally likely places, the new score is then below in `share`.
    """
    place = min(math.ceil((len(some) + 1) * share), len(some))
    return some.sort(dim=0).values[place - 1]


def correct_rolling(low: Tensor, high: Tensor, targets: Tensor, before: Tensor, memory: int) -> Tensor:
    """Correct every day anew by the last `memory` scores that are known on it; `before` (m, horizon) are those of last year.

    Returns:
        The corrections, (n, horizon). A score of h days ahead is known h days later, not earlier.
    """
    every = torch.cat([before, scores(low, high, targets)])  # (m + n, horizon)
    corrections = torch.empty_like(low)
    for day in range(len(low)):
        for h in range(HORIZON):
            now = len(before) + day - h  # the first score that is not known yet: its target comes h + 1 days after its forecast
            corrections[day, h] = needed(every[max(0, now - memory) : now, h : h + 1])[0]
    return corrections


def draw_figures(found: dict, fan: Tensor, last: Tensor, truth: Tensor, share: float) -> None:
    """Draw coverage against width for every way and seed, and the fan of one forecast."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for name, runs in found.items():
        axis.plot([one[1] for one in runs], [one[0] for one in runs], "o", label=name)
    axis.axhline(share, color="grey", linestyle=":")
    axis.set(xlabel=label("mean width (°C)", "평균 폭 (°C)"), ylabel=label("coverage on the test year", "테스트 해의 포함률"))
    axis.legend()
    save_figure(figure, __file__, "coverage")
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    days = torch.arange(1, HORIZON + 1)
    for a, b, alpha in ((0, 4, 0.25), (1, 3, 0.45)):
        axis.fill_between(
            days, fan[:, a], fan[:, b], color="tab:blue", alpha=alpha, linewidth=0, label=f"{LEVELS[b] - LEVELS[a]:.0%}"
        )
    axis.plot(days, fan[:, 2], color="tab:blue", label=label("median", "중앙값"))
    axis.plot(torch.arange(1 - len(last), 1), last, "k.-", label=label("known", "알고 있는 값"))
    axis.plot(days, truth, "k.:", label=label("what came", "실제로 온 값"))
    axis.set(xlabel=label("days", "일"), ylabel="°C", xticks=range(-12, HORIZON + 1, 2))
    axis.legend()
    save_figure(figure, __file__, "fan")


# %% All of it, in order
def main(steps: int = 150, lr: float = 0.01, memory: int = 100, seeds: int = 3, seed: int = 0) -> dict[str, float]:
    """Forecast intervals of temperature for a week, measure what they hold, and correct them.

    Args:
        steps: Training steps of each network.
        lr: The highest learning rate.
        memory: Days by which the rolling correction is made.
        seeds: Networks.
        seed: The first seed.
    """
    check(min(steps, seeds) >= 1 and memory >= 10, "needed are one or more --steps and --seeds, and ten or more --memory")
    data = load()
    _, y, later = data
    off = minimise_pinball(y[:500], LEVELS)
    print(f"1. the constants that minimise the pinball loss are within {off:.3f} °C of the quantiles")
    meet_error(y)
    known, end = len(y) - 2 * YEAR, len(y) - HORIZON
    year3, year4 = torch.arange(known - 1, known + YEAR - HORIZON), torch.arange(known + YEAR - 1, end)
    naive = naive_quantiles(data, known, year4)
    ways = ("naive", "network", "corrected once", "corrected rolling", "overtrained", "overtrained, corrected")
    found, losses, crossed = {way: [] for way in ways}, [], []
    for number, longer in [(seed, 6), *((number, 1) for number in range(seed, seed + seeds))]:
        network = train(data, known, longer * steps, lr, number)
        raw = [forecast(network, data, known, ends) for ends in (year3, year4)]
        calibration, test = (quantiles.sort(dim=-1).values for quantiles in raw)  # in order; no quantile gets worse on the whole
        past = scores(calibration[..., 0], calibration[..., -1], later[year3])  # (n, horizon)
        low, high, targets = test[..., 0], test[..., -1], later[year4]
        once = needed(past)
        if longer > 1:  # one network is trained for too long, on purpose
            found["overtrained"].append(measure(low, high, targets))
            found["overtrained, corrected"].append(measure(low - once, high + once, targets))
            continue
        crossed.append(crossings(raw[1]))
        losses.append(pinball(test, targets, LEVELS).item())
        found["naive"].append(measure(naive[..., 0], naive[..., -1], targets))
        rolling = correct_rolling(low, high, targets, past, memory)
        for way, by in (("network", 0.0), ("corrected once", once), ("corrected rolling", rolling)):
            found[way].append(measure(low - by, high + by, targets))
    print(
        f"2. quantiles cross in {sum(crossed) / seeds:.1%} of the forecasts\n3. {'':22} coverage   width   score (90 % promised)"
    )
    results = {"quantile_off": off, "crossed": sum(crossed) / seeds}
    for way, runs in found.items():
        coverage, width, score = torch.tensor(runs).mean(dim=0).tolist()
        apart = max(one[0] for one in runs) - min(one[0] for one in runs)
        print(f"   {way:22} {coverage:8.1%} {width:7.2f} {score:7.2f}   (coverage of the seeds {apart:.1%} apart)")
        key = way.replace(",", "").replace(" ", "_")
        results |= {f"coverage_{key}": coverage, f"width_{key}": width, f"score_{key}": score}
    draw_figures(found, test[180], y[year4[180] - 13 : year4[180] + 1], later[year4[180]], 0.9)
    results |= {"pinball": sum(losses) / seeds, "baseline_pinball": pinball(naive, later[year4], LEVELS).item()}
    ratio = results["pinball"] / results["baseline_pinball"]
    check(ratio < 0.95, f"the network's pinball loss is {ratio:.0%} of the naive interval's: it has hardly learned anything")
    return results


if __name__ == "__main__":
    run(main)
