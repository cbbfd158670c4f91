"""Learning-rate schedules · 학습률 스케줄

Large steps get far and never settle, small steps settle and never get far. A schedule takes large ones first and small ones last;
each of them is a short formula, and what it brings can be measured, if the constant rate is given a fair chance.
큰 보폭은 멀리 가지만 자리를 잡지 못하고, 작은 보폭은 자리를 잡지만 멀리 가지 못한다. 스케줄은 처음에 크게, 마지막에 작게 걷는다.
스케줄은 저마다 짧은 식 하나이고, 얼마나 이득인지는 고정 학습률에도 공평한 기회를 준 다음에야 잴 수 있다.

You will
  1. write step decay, cosine, warm-up, one-cycle and plateau as functions of the step, equal to PyTorch's
  2. raise the rate until training breaks: the range test, and the rate it suggests
  3. give every schedule, and the constant rate, its own best rate, and compare what they achieve
  4. make the mistakes everyone makes: a scheduler that never steps, or steps once an epoch; and read the one that is told

Before     03_training/optimizers.py
Run        python -m study run lr_scheduling       (about 12 s on one CPU core, after importing torch)
You see    validation loss 0.160 at the best constant rate, 0.100 to 0.111 with schedules, 0.345 if one never steps; schedules.png
Try next   --batch-size 128: eight times as many digits in a step. First guess what is left of the schedules' advantage; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers

from utils.datasets import Images, Source, hold_out, mnist, nearest_mean_accuracy
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.training import evaluate

Examples = tuple[Tensor, Tensor]  # inputs (n, 196), labels (n,)


# %% 1. Schedules as functions of the step
def step_decay(step: int, lr: float, steps: int) -> float:
    """A tenth of the rate after each third of the steps."""
    return lr * 0.1 ** (step // (steps // 3))


def cosine(step: int, lr: float, steps: int) -> float:
    """Down to zero along half a wave."""
    return lr * (1 + math.cos(math.pi * step / steps)) / 2


def warm_up_cosine(step: int, lr: float, steps: int) -> float:
    """Up from a hundredth of the rate in the first tenth of the steps; then the cosine."""
    warm_up = steps // 10
    if step < warm_up:
        return lr * (0.01 + 0.99 * step / warm_up)
    return cosine(step - warm_up, lr, steps - warm_up)


def one_cycle(step: int, lr: float, steps: int) -> tuple[float, float]:
    """Return rate and momentum: the rate rises for 30 % of the steps, then falls to almost nothing; momentum the other way."""
    peak = 0.3 * steps - 1
    way = step / peak if step <= peak else 1 + (step - peak) / (steps - 1 - peak)  # 0 at the start, 1 at the peak, 2 at the end
    bend = (1 - math.cos(math.pi * way)) / 2  # 0, 1, 0, and smooth
    low = lr / 25 if step <= peak else lr / 25 / 10_000
    return low + (lr - low) * bend, 0.95 - 0.1 * bend


def plateau(losses: list[float], lr: float, factor: float = 0.3, patience: int = 1) -> list[float]:
    """Return the rate after each loss: `factor` times as large after more than `patience` losses in a row without a new best."""
    rates, best, bad = [], math.inf, 0
    for loss in losses:
        bad, best = (0, loss) if loss < best * (1 - 1e-4) else (bad + 1, best)  # a hair better does not count
        if bad > patience and lr * (1 - factor) > 1e-8:  # PyTorch does not bother with less
            lr, bad = lr * factor, 0
        rates.append(lr)
    return rates


SCHEDULERS = {  # by PyTorch, for an optimizer that was made with the learning rate `lr`
    "constant": lambda optimizer, lr, steps: schedulers.ExponentialLR(optimizer, gamma=1.0),
    "step": lambda optimizer, lr, steps: schedulers.StepLR(optimizer, step_size=steps // 3, gamma=0.1),
    "cosine": lambda optimizer, lr, steps: schedulers.CosineAnnealingLR(optimizer, T_max=steps),
    "warm-up": lambda optimizer, lr, steps: schedulers.SequentialLR(
        optimizer,
        [schedulers.LinearLR(optimizer, 0.01, 1.0, steps // 10), schedulers.CosineAnnealingLR(optimizer, steps - steps // 10)],
        milestones=[steps // 10],
    ),
    "one-cycle": lambda optimizer, lr, steps: schedulers.OneCycleLR(optimizer, max_lr=lr, total_steps=steps),
    "plateau": lambda optimizer, lr, steps: schedulers.ReduceLROnPlateau(optimizer, factor=0.3, patience=1),
    "range test": lambda optimizer, lr, steps: schedulers.ExponentialLR(optimizer, gamma=30_000 ** (1 / steps)),
}


def compare_with_torch(lr: float, steps: int, seed: int) -> dict[str, float]:
    """Hold every schedule, and one-cycle's momentum, against PyTorch's; by name, return the largest difference at any step."""
    losses = torch.rand(steps, generator=torch.Generator().manual_seed(seed)).tolist()  # any will do
    by_hand = {"step": step_decay, "cosine": cosine, "warm-up": warm_up_cosine}
    ours = {name: [(rate(step, lr, steps), 0.9) for step in range(steps)] for name, rate in by_hand.items()}
    ours["one-cycle"] = [one_cycle(step, lr, steps) for step in range(steps)]
    ours["plateau"] = [(rate, 0.9) for rate in (lr, *plateau(losses[:-1], lr))]
    found = {}
    for name in ours:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
        scheduler, theirs = SCHEDULERS[name](optimizer, lr, steps), []
        for loss in losses:
            theirs.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
            optimizer.step()
            scheduler.step(*[loss] if name == "plateau" else [])
        found[name] = max(abs(a - b) for row in zip(ours[name], theirs, strict=True) for a, b in zip(*row, strict=True))
    print("1. by hand against PyTorch's: " + ", ".join(f"{name} {gap:.0e}" for name, gap in found.items()))
    return found


# %% 2. Training with a schedule, and the range test
def as_examples(data: Images) -> Examples:
    """Average every 2x2 pixels (n, 1, 28, 28), standardized by MNIST's mean and standard deviation: rows (n, 196)."""
    return F.avg_pool2d((data.images.float() / 255 - 0.1307) / 0.3081, 2).flatten(start_dim=1), data.labels


def train(name: str, lr: float, parts: list[Examples], steps: int, batch_size: int, seed: int, step_every: float = 1) -> tuple:
    """Train on parts[0], measure on parts[1]; return the network, rate and loss of every step, and the validation losses."""
    torch.manual_seed(seed)  # for the weights and the batches
    network = nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    scheduler = SCHEDULERS[name](optimizer, lr, steps)
    (x, labels), rates, losses, validated = parts[0], [], [], []
    for step in range(1, steps + 1):
        batch = torch.randint(len(x), (batch_size,))
        loss = F.cross_entropy(network(x[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        rates.append(optimizer.param_groups[0]["lr"])  # the number in which a scheduler leaves its rate
        if step % 20 == 0:
            validated.append(evaluate(network, [parts[1]])["loss"])
            if name == "plateau":
                scheduler.step(validated[-1])  # the only one that looks at how it goes
        if name != "plateau" and step % step_every == 0:
            scheduler.step()  # after optimizer.step(), and every time: another step_every is a mistake to be made
    return network, rates, losses, validated


def read_range_test(rates: list[float], losses: list[float]) -> tuple[list[float], list[float], float]:
    """Smooth a run's losses up to where it breaks; return the rates so far, the smooth losses, and the rate they suggest."""
    smooth, mean = [], 0.0
    for step, loss in enumerate(losses, start=1):
        mean = 0.9 * mean + 0.1 * loss
        smooth.append(mean / (1 - 0.9**step))  # the weights so far add up to 1 - 0.9**step
        if not smooth[-1] < 2 * smooth[0]:  # twice the first loss, or nan
            break
    lowest = rates[smooth.index(min(smooth))]
    print(f"2. range test: the loss is lowest at {lowest:.2g} and has doubled at {rates[step - 1]:.2g}: try {lowest / 10:.2g}")
    return rates[:step], smooth, lowest / 10  # where the loss is lowest it is about to break


# %% 3. What each schedule achieves
def compare_schedules(parts: list[Examples], grid: list[float], steps: int, batch_size: int, seeds: range) -> dict:
    """Train with every schedule at every rate; by name, return the best rate for validation, its runs, and all mean losses."""
    found = {}
    for name in list(SCHEDULERS)[:-1]:
        tried = {lr: [train(name, lr, parts, steps, batch_size, seed) for seed in seeds] for lr in grid}
        means = {lr: sum(run[3][-1] for run in runs) / len(seeds) for lr, runs in tried.items()}
        best = min(grid, key=lambda lr: means[lr] if math.isfinite(means[lr]) else math.inf)
        found[name] = best, tried[best], means
    return found


# %% 4. The mistakes everyone makes
def meet_error() -> str:
    """Plan a one-cycle of 10 epochs, and step it after each of 67 batches; return PyTorch's answer."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = SCHEDULERS["one-cycle"](optimizer, 0.1, 10)
    try:
        for _ in range(67):
            optimizer.step()
            scheduler.step()
    except ValueError as error:
        print(f'4. "{error}"')
        print("   read: planned in epochs, stepped after every batch. Of all schedulers only this one notices; and none this:")
        return str(error)


def measure_mistakes(parts: list[Examples], rates: dict[str, float], steps: int, batch_size: int, seeds: range) -> dict:
    """Step schedulers too rarely; by name and use, return the mean validation loss."""
    found, epoch = {}, math.ceil(len(parts[0][0]) / batch_size)
    for name, lr in rates.items():
        for use, step_every in {"never": math.inf, "once_an_epoch": epoch}.items():
            runs = [train(name, lr, parts, steps, batch_size, seed, step_every) for seed in seeds]
            loss = found[f"loss_{name}_{use}"] = sum(run[3][-1] for run in runs) / len(seeds)
            print(f"   {name:9} {use.replace('_', ' ')}: loss {loss:.3f}, rate from {runs[0][1][0]:.2g} to {runs[0][1][-1]:.2g}")
    return found


def draw_figure(tested: tuple[list[float], list[float], float], found: dict, wrong: dict[str, list[float]]) -> None:
    """Draw the schedules, the range test, the validation losses, and the test errors of every seed."""
    import matplotlib.pyplot as plt

    figure, ((schedules, test), (curves, dots)) = plt.subplots(2, 2, figsize=(9.2, 6.4), layout="constrained")
    test.plot(*tested[:2], color="black")
    test.axvline(tested[2], color="grey", linestyle=":")
    for name, (lr, runs, means) in found.items():
        schedules.plot(runs[0][1], label=f"{name}, {lr:.2g}")
        curves.plot(torch.arange(1, len(runs[0][3]) + 1) * 20, torch.tensor([run[3] for run in runs]).mean(dim=0))
        dots.plot(wrong[name], [name] * len(runs), "o", alpha=0.6)
        test.plot(*zip(*means.items(), strict=True), "o-", markersize=3)
    schedules.set(xlabel="step", ylabel="learning rate", title=label("each at its best rate", "저마다 가장 좋은 학습률로"))
    title = label("range test; dots: validation", "범위 시험. 점은 검증")
    test.set(xscale="log", yscale="log", ylim=(0.08, 4), xlabel="learning rate", ylabel="cross-entropy", title=title)
    curves.set(yscale="log", xlabel="step", ylabel="cross-entropy", title=label("validation, mean of seeds", "검증, 시드의 평균"))
    dots.set(xlabel=label("share wrong", "틀린 비율"), title=label("test, every seed", "테스트, 시드마다"))
    schedules.legend()
    save_figure(figure, __file__, "schedules")


# %% All of it, in order
def main(steps: int = 300, batch_size: int = 16, seeds: int = 3, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Build learning-rate schedules, find a rate, and measure what each schedule achieves.

    Args:
        steps: Steps of every training run.
        batch_size: Digits in a step.
        seeds: Runs for every setting.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: The first seed.
    """
    check(min(steps / 60, batch_size, seeds) >= 1, "needed are 60 or more --steps, and one or more --batch-size and --seeds")
    results, wrong = {"difference_by_hand": max(compare_with_torch(0.1, steps, seed).values())}, {}
    data = mnist(source)
    rest, held_out = hold_out(data.train, min(1000, len(data.train) // 4))
    *parts, test = (as_examples(part) for part in (rest, held_out, data.test))
    tested = read_range_test(*train("range test", 1e-4, parts, 100, batch_size, seed)[1:3])
    runs = range(seed, seed + seeds)
    found = compare_schedules(parts, [0.005 * 2**k for k in range(5)], steps, batch_size, runs)
    for name, (lr, trained, means) in found.items():
        wrong[name] = [1 - evaluate(run[0], [test])["accuracy"] for run in trained]  # the last look
        results |= {f"rate_{name}": lr, f"loss_{name}": means[lr], f"accuracy_{name}": 1 - sum(wrong[name]) / seeds}
        told = f"validation loss {means[lr]:.3f}, test accuracy {1 - max(wrong[name]):.3f} to {1 - min(wrong[name]):.3f}"
        print(f"3. {name:9} at {lr:.2g}: {told}")
    results["loss_suggested"] = sum(train("constant", tested[2], parts, steps, batch_size, s)[3][-1] for s in runs) / seeds
    print(f"   constant at the suggested {tested[2]:.2g}: validation loss {results['loss_suggested']:.3f}")
    draw_figure(tested, found, wrong)
    meet_error()
    results |= measure_mistakes(parts, {name: found[name][0] for name in ("cosine", "one-cycle")}, steps, batch_size, runs)
    baseline = max(0.1, nearest_mean_accuracy(rest, data.test))
    results |= {"accuracy": results["accuracy_cosine"], "baseline_accuracy": baseline, "suggested_rate": tested[2]}
    check(1 - results["accuracy"] < 0.85 * (1 - baseline), f"cosine is hardly better than the nearest mean, {baseline:.3f}")
    return results


if __name__ == "__main__":
    run(main)
