"""Comparing optimizers · 옵티마이저 비교

"Which optimizer is best?" is answered wrongly more often than most questions, because the answer depends on the learning rates.
Here each one gets its own, chosen on validation, then several new starts, and the spread is shown beside the mean.
어느 옵티마이저가 가장 좋은가? 답이 학습률에 따라 달라지는 탓에 잘못 답하기 쉬운 물음이다. 여기서는 저마다 검증 데이터로
고른 학습률을 쓰고, 새 초깃값으로 여러 번 학습해 평균과 함께 퍼진 정도도 본다.

You will
  1. train a network on digits with six optimizers at eight learning rates, and give each the one that serves validation best
  2. make the mistake everyone makes: one learning rate for all, and see that it can crown nearly anyone
  3. train again from new starts with the chosen rates, and compare means, spreads, and speed
  4. hold the results against the simplest rule, and look at what the test digits say about the differences

Before     03_training/optimizers.py
Run        python -m study run optimizer_comparison   (about 18 s on one CPU core, after importing torch)
You see    0.85 right with SGD, 0.89 with Muon, the simplest rule 0.81; at one rate for all, five different winners;
           comparison.png
Try next   --steps 20, hardly any training. First guess how far apart best and worst are then (after 150 steps: 0.04), and which
           learning rates are chosen; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, mnist
from utils.lesson import check, run
from utils.plotting import label, save_figure

Data = tuple[Tensor, Tensor]  # pixels (n, 196) in [0, 1] and labels (n,)
RATES = [10 ** (k / 2) for k in range(-7, 1)]  # 0.0003 to 1: a factor of about 3 from one to the next


# %% 1. Six optimizers, eight learning rates
def make_optimizers(name: str, model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Return what trains the model, without weight decay; Muon takes matrices only, and leaves the biases to AdamW."""
    parameters = list(model.parameters())
    if name == "Muon":
        matrices, others = [p for p in parameters if p.dim() == 2], [p for p in parameters if p.dim() != 2]
        return [torch.optim.Muon(matrices, lr=lr, weight_decay=0), torch.optim.AdamW(others, lr=lr, weight_decay=0)]
    kinds = {
        "SGD": (torch.optim.SGD, {}),
        "momentum": (torch.optim.SGD, {"momentum": 0.9}),
        "Nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        "RMSprop": (torch.optim.RMSprop, {}),
        "Adam": (torch.optim.Adam, {}),
    }
    kind, settings = kinds[name]
    return [kind(parameters, lr=lr, **settings)]


def names() -> list[str]:
    """Return the optimizers to compare; torch.optim has Muon from PyTorch 2.9 on."""
    return ["SGD", "momentum", "Nesterov", "RMSprop", "Adam"] + ["Muon"] * hasattr(torch.optim, "Muon")


def digits(source: Source) -> tuple[Data, Data, Data]:
    """Return digits to train on, to choose by, and to test on; those to choose by are the last 400 of the training set."""
    data = mnist(source)
    parts = data.train[:-400], data.train[-400:], data.test
    return tuple((F.avg_pool2d(part.images / 255, 2).flatten(1), part.labels) for part in parts)


def train(name: str, lr: float, train_on: Data, validation: Data, steps: int, seed: int) -> tuple[list[float], nn.Module]:
    """Train a network on batches of 64; return the loss on validation after every fifth step, and the network.

    The same seed means the same first weights and the same batches, whatever the optimizer.
    """
    generator = torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizers, losses = make_optimizers(name, model, lr), []
    for step in range(1, steps + 1):
        batch = torch.randint(len(train_on[1]), (64,), generator=generator)
        loss = F.cross_entropy(model(train_on[0][batch]), train_on[1][batch])
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if step % 5 == 0:
            with torch.no_grad():
                losses.append(F.cross_entropy(model(validation[0]), validation[1]).item())
    return losses, model


def try_rates(train_on: Data, validation: Data, steps: int) -> dict[str, Tensor]:
    """Return, for each optimizer, the last loss on validation at each of RATES, the mean of two seeds; inf where it ran away."""
    tried = {}
    print("1. the learning rate that serves validation best:")
    for name in names():
        last = [[train(name, lr, train_on, validation, steps, seed)[0][-1] for seed in (1000, 1001)] for lr in RATES]
        tried[name] = torch.tensor(last).mean(dim=1).nan_to_num(math.inf)  # (rates,)
        print(f"   {name:9} {RATES[tried[name].argmin()]:<6.1g} loss {tried[name].min():.3f}")
    return tried


# %% 2. The mistake everyone makes
def winners(tried: dict[str, Tensor]) -> list[str]:
    """Return, for each of RATES, which optimizer a comparison at that one rate would call the best."""
    best = torch.stack(list(tried.values())).argmin(dim=0)  # (optimizers, rates) → (rates,)
    crowned = [list(tried)[i] for i in best]
    told = ", ".join(f"{name} at {lr:.1g}" for lr, name in zip(RATES, crowned, strict=True))
    print(f"2. one rate for all, and the best is: {told}")
    return crowned


# %% 3. From new starts
def compare(tried: dict[str, Tensor], data: tuple[Data, Data, Data], steps: int, seeds: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Train with the chosen rates, and seeds that chose nothing.

    Returns:
        For each optimizer the losses on validation (seeds, steps / 5), and the accuracies on test (seeds,).
    """
    train_on, validation, (x, labels) = data
    found = {}
    print("3. right on test, and when the loss on validation is where SGD ends:")
    for name, last in tried.items():
        runs = [train(name, RATES[last.argmin()], train_on, validation, steps, seed) for seed in range(seeds)]
        losses = torch.tensor([losses for losses, _ in runs])
        right = torch.tensor([(model(x).argmax(dim=1) == labels).float().mean() for _, model in runs])
        found[name] = losses, right
        reached = (losses.mean(dim=0) <= found["SGD"][0].mean(dim=0)[-1]).nonzero()
        when = f"step {5 * (1 + reached[0].item())}" if len(reached) else "never"
        print(f"   {name:9} {right.mean():.3f} ± {right.std():.3f}, {when}")
    return found


# %% 4. What the differences are worth
def nearest_mean(train_on: Data, test: Data) -> float:
    """Return the accuracy of the simplest rule: the class whose mean picture is nearest."""
    means = torch.stack([train_on[0][train_on[1] == digit].mean(dim=0) for digit in range(10)])
    return (torch.cdist(test[0], means).argmin(dim=1) == test[1]).float().mean().item()


def draw_comparison(tried: dict[str, Tensor], found: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Draw the loss on validation against the learning rate, and against the step at the best one."""
    import matplotlib.pyplot as plt

    figure, (rates, curves) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for name, (losses, _) in found.items():
        (line,) = rates.plot(RATES, tried[name], "o-", markersize=4, label=name)
        steps = range(5, 5 * losses.shape[1] + 1, 5)
        curves.plot(steps, losses.mean(dim=0), color=line.get_color())
        curves.fill_between(steps, losses.amin(dim=0), losses.amax(dim=0), color=line.get_color(), alpha=0.15)
    title = label("every optimizer has a range of its own", "옵티마이저마다 알맞은 범위가 다르다")
    rates.set(xscale="log", yscale="log", ylim=(0.05, 5), xlabel="learning rate", ylabel="validation loss", title=title)
    rates.legend()
    title = label("at its best rate: mean and range of the seeds", "가장 좋은 학습률에서, 시드의 평균과 범위")
    curves.set(yscale="log", ylim=(0.05, 5), xlabel="step", title=title)
    save_figure(figure, __file__, "comparison")


# %% All of it, in order
def main(steps: int = 150, seeds: int = 5, source: Source = "auto") -> dict[str, float]:
    """Compare optimizers fairly: each with its own learning rate, over several seeds, the spread shown.

    Args:
        steps: Optimizer steps of every training.
        seeds: How many times each optimizer trains with the rate that was chosen for it.
        source: Where the digits come from: the real MNIST, the sample, or whichever is there.
    """
    check(steps >= 5 and seeds > 1, f"--steps {steps} --seeds {seeds}: at least five steps, and two seeds for a spread")
    data = digits(source)
    tried = try_rates(data[0], data[1], steps)
    winners(tried)
    found = compare(tried, data, steps, seeds)
    draw_comparison(tried, found)

    baseline = max(0.1, nearest_mean(data[0], data[2]))
    accuracy = {name: right.mean().item() for name, (_, right) in found.items()}
    best, worst = max(accuracy.values()), min(accuracy.values())
    spread = max(right.std().item() for _, right in found.values())
    print(f"4. best and worst are {best - worst:.3f} apart, the seeds of one up to ± {spread:.3f}; nearest mean {baseline:.3f}")
    check(best > baseline + 0.02, f"the best is right {best:.3f}, the nearest mean picture {baseline:.3f}: more --steps?")
    results = {f"lr_{name}": RATES[last.argmin()] for name, last in tried.items()}
    return results | {f"accuracy_{name}": right for name, right in accuracy.items()} | {"baseline_accuracy": baseline}


if __name__ == "__main__":
    run(main)
