"""Regularization · 규제

A network with more weights than examples can learn its examples by heart, wrong labels included, and is then worse on new ones.
Regularization is whatever makes learning by heart harder than learning the rule.
예제보다 가중치가 많은 신경망은 예제를 틀린 레이블까지 통째로 외울 수 있고, 그러면 새 데이터에서 나빠진다. 규칙을 배우는 것보다
외우는 것을 어렵게 만드는 방법을 통틀어 규제라고 한다.

You will
  1. overfit on purpose: few digits, some with wrong labels, and a network that is too large
  2. write weight decay and dropout, equal to PyTorch's, and find that weight decay is two different things
  3. stop early, and compare all cures, more data among them, each at the strength that validation chose
  4. make the mistake that everyone makes with dropout, and that no message tells
  5. widen a model past the point where it fits everything, and see its error come down again: double descent

Before     02_neural_networks/initialization.py
Run        python -m study run regularization      (about 19 s on one CPU core, after importing torch)
You see    69 % right without a cure, 88 % with all; an error that rises a thousandfold and falls; cures.png, double_descent.png
Try next   --noise 0: all labels are right. First guess which cures still help, then look
Theory     notes/en/02_neural_networks.md · notes/ko/02_neural_networks.md
Practise   python -m study check 02
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, hold_out, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Examples = tuple[Tensor, Tensor]  # inputs (n, 196) from 0 to 1, labels (n,)


# %% 1. Few digits, some with wrong labels
def as_examples(data: Images, device: torch.device) -> Examples:
    """Turn pixels (n, 1, 28, 28), bytes, into rows (n, 196): every 2x2 pixels become their average."""
    return F.avg_pool2d(data.images.float() / 255, 2).flatten(start_dim=1).to(device), data.labels.to(device)


def draw_examples(pool: Images, count: int, noise: float, seed: int) -> Images:
    """Choose `count` digits by chance, and give a share `noise` of them one of the nine wrong labels."""
    generator = torch.Generator().manual_seed(seed)
    chosen = pool[torch.randperm(len(pool), generator=generator)[:count]]
    wrong = torch.rand(count, generator=generator) < noise
    shift = wrong * torch.randint(1, 10, (count,), generator=generator)  # 0, or 1 to 9: never all the way round
    return Images(chosen.images, (chosen.labels + shift) % 10)


# %% 2. Weight decay and dropout
def descend(optimizer_class: type, penalty: float = 0.0, shrink: float = 0.0, weight_decay: float = 0.0) -> Tensor:
    """Take 20 steps down a small loss, with decay in one of three ways; return the weights (3,)."""
    w = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_class([w], lr=0.1, weight_decay=weight_decay)
    for _ in range(20):
        loss = (torch.tensor([0.1, 1.0, 10.0]) * (w - 1).square()).sum() + penalty / 2 * w.square().sum()
        optimizer.zero_grad()
        loss.backward()  # the penalty's gradient is penalty · w
        with torch.no_grad():
            w *= 1 - 0.1 * shrink  # 0.1 is the learning rate: SGD's step makes the same of the penalty's gradient
        optimizer.step()
    return w.detach()


def compare_weight_decay(decay: float = 0.5) -> dict[tuple[str, str], float]:
    """Hold decay by hand, in two ways, against PyTorch's; by way and optimizer, return the largest difference."""
    found = {}  # Adam divides every gradient by its usual size, the penalty's part with it, so there the two ways part
    for plain, with_decay in ((torch.optim.SGD, torch.optim.SGD), (torch.optim.Adam, torch.optim.AdamW)):
        for way in ("penalty", "shrink"):
            difference = descend(plain, **{way: decay}) - descend(with_decay, weight_decay=decay)
            found[way, with_decay.__name__] = difference.abs().max().item()
    print("2. weight decay by hand against PyTorch's: " + ", ".join(f"{' / '.join(key)} {gap:.0e}" for key, gap in found.items()))
    return found


class Dropout(nn.Module):
    """In training, drop each number with probability p and let the rest grow by 1 / (1 - p): the expected value stays."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - self.p)  # 1 with probability 1 - p, else 0; new every time
        return x * keep / (1 - self.p)


def compare_dropout(seed: int, p: float = 0.3, times: int = 4000) -> tuple[float, float, float]:
    """Hold our dropout against PyTorch's; return how far it is from that, its mean from x, and from x in eval mode."""
    x = 1 + torch.rand(50, generator=torch.Generator().manual_seed(seed))
    ours, outputs = Dropout(p), []
    for dropout in (ours, nn.Dropout(p)):
        torch.manual_seed(seed)  # for the same mask
        outputs.append(dropout(x))
    difference = (outputs[0] - outputs[1]).abs().max().item()
    of_mean = (ours(x.expand(times, 50)).mean(dim=0) / x - 1).abs().max().item()
    print(f"   dropout by hand differs from PyTorch's by {difference:.0e}; the mean of {times} masks is x within {of_mean:.1%}")
    return difference, of_mean, (ours.eval()(x) - x).abs().max().item()


# %% 3. Training, and stopping early
@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return cross-entropy and accuracy, in eval mode."""
    logits = network.eval()(x)  # (n, 10)
    return F.cross_entropy(logits, labels).item(), (logits.argmax(dim=1) == labels).float().mean().item()


def train(
    few: Examples, validation: Examples, steps: int, lr: float, seed: int, dropout=0.0, decay=0.0, patience: int | None = None
) -> tuple[nn.Module, Tensor, float, float]:
    """Train two hidden layers; return them, and of training and validation set the losses (every 20 steps, 2) and accuracies."""
    torch.manual_seed(seed)  # for weights, batches and masks
    network = nn.Sequential(
        nn.Linear(196, 128), nn.ReLU(), Dropout(dropout), nn.Linear(128, 128), nn.ReLU(), Dropout(dropout), nn.Linear(128, 10)
    ).to(few[0].device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay)
    losses, best, best_weights = [], 0, {}
    for step in range(1, steps + 1):
        network.train()
        batch = torch.randint(len(few[0]), (64,)).to(few[0].device)
        loss = F.cross_entropy(network(few[0][batch]), few[1][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            losses.append((evaluate(network, *few)[0], evaluate(network, *validation)[0]))
            if losses[-1][1] <= losses[best][1]:
                best, best_weights = len(losses) - 1, {name: w.clone() for name, w in network.state_dict().items()}
            elif patience is not None and len(losses) - 1 - best >= patience:
                break  # so many losses in a row were no new best
    if patience is not None:
        network.load_state_dict(best_weights)
    return network, torch.tensor(losses), evaluate(network, *few)[1], evaluate(network, *validation)[1]


def draw_cures(losses: Tensor, shares: dict[str, Tensor], baseline: float) -> None:
    """Draw the losses without a cure, (measurements, 2), and the accuracies of every cure, (seeds, 2): training, held out."""
    import matplotlib.pyplot as plt

    figure, (curves, dots) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    table = torch.stack(list(shares.values())).flip(0)  # (cures, seeds, 2): the first cure on top
    rows = torch.arange(len(table)).repeat_interleave(table.shape[1])
    for k, name in enumerate((label("training set", "학습 세트"), label("held out", "따로 둔 데이터"))):
        curves.plot(20 * torch.arange(1, len(losses) + 1), losses[:, k], label=name)
        dots.plot(table[:, :, k].flatten(), rows, "o", alpha=0.6, label=name)
    curves.set(xlabel="step", ylabel="cross-entropy", title=label("no cure; held out: validation set", "규제 없음, 검증 세트"))
    dots.axvline(baseline, color="grey", linestyle=":", label=label("nearest mean", "최근접 평균"))
    dots.set(yticks=range(len(table)), yticklabels=list(shares)[::-1], xlabel="accuracy", title=label("held out: test", "테스트"))
    dots.legend()
    save_figure(figure, __file__, "cures")


# %% 4. The mistake everyone makes with dropout
@torch.no_grad()
def forget_eval(network: nn.Module, x: Tensor, labels: Tensor, times: int = 20) -> tuple[float, list[float]]:
    """Return the accuracy as it should be measured, and `times` measurements in training mode, with dropout at work."""
    right = evaluate(network, x, labels)[1]
    forgotten = [(network.train()(x).argmax(dim=1) == labels).float().mean().item() for _ in range(times)]
    print(f"4. validation in eval mode {right:.3f}; eval() forgotten, dropout on: {min(forgotten):.3f} to {max(forgotten):.3f}")
    return right, forgotten


# %% 5. Double descent
def double_descent(sets: list[Examples], held_out: Examples, ridges: tuple[float, float], seed: int) -> tuple[list[int], Tensor]:
    """Fit random ReLU features to the labels by least squares; return widths, and held-out errors (ridges, sets, widths)."""
    import matplotlib.pyplot as plt

    widths = [int(len(sets[0][0]) * share) for share in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10)]
    first_layer = torch.randn(196, widths[-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    errors = torch.empty(len(ridges), len(sets), len(widths))
    for i, few in enumerate(sets):
        (x, y), (x_new, y_new) = ((x.cpu().double(), F.one_hot(labels.cpu(), 10).double()) for x, labels in (few, held_out))
        for k, width in enumerate(widths):
            h, h_new = (((inputs - x.mean(dim=0)) @ first_layer[:, :width]).relu() for inputs in (x, x_new))  # (n, width)
            for j, ridge in enumerate(ridges):
                weights = h.T @ torch.linalg.solve(h @ h.T + ridge * torch.eye(len(h)), y)  # (width, 10): of many the smallest
                errors[j, i, k] = (h_new @ weights - y_new).square().mean()
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for ridge, colour, ones in zip(ridges, ("tab:red", "tab:blue"), errors, strict=True):
        axis.plot(widths, ones.T, color=colour, linewidth=0.5)
        axis.plot(widths, ones.mean(dim=0), "o-", color=colour, label=f"ridge {ridge:g}")
    axis.axvline(len(h), color="grey", linestyle=":", label=label("as many features as examples", "특징 수 = 예제 수"))
    axis.set(xscale="log", yscale="log", xlabel=label("random features", "무작위 특징의 수"), ylabel="mean squared error")
    axis.legend()
    save_figure(figure, __file__, "double_descent")
    return widths, errors


# %% All of it, in order
def main(
    examples: int = 200, noise: float = 0.2, steps: int = 400, lr: float = 0.003, seeds: int = 3,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Overfit digits on purpose, then compare what helps against it.

    Args:
        examples: Digits to learn from.
        noise: Share of them with a wrong label.
        steps: Training steps, each on 64 of them.
        lr: AdamW's learning rate.
        seeds: Networks for every setting, each with its own digits.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    where = pick_device(device)
    decays, (dropout_difference, *_) = compare_weight_decay(), compare_dropout(seed)
    data = mnist(source)
    pool, held_out = hold_out(data.train, 400)
    check(20 <= examples <= len(pool) // 5, f"--examples {examples}: needed are 20 to {len(pool) // 5}")
    check(steps >= 20 and seeds > 0, f"--steps {steps} --seeds {seeds}: needed are 20 steps and one seed")
    validation, test = as_examples(held_out, where), as_examples(data.test, where)
    sets = {n: [as_examples(draw_examples(pool, n * examples, noise, seed + i), where) for i in range(seeds)] for n in (1, 5)}
    cures = {  # how many times the examples, and the strengths to choose from
        "no cure": (1, [{}]),
        "early stopping": (1, [{"patience": n} for n in (1, 3, 10)]),
        "dropout": (1, [{"dropout": p} for p in (0.3, 0.5, 0.7)]),
        "weight decay": (1, [{"decay": d} for d in (1.0, 3.0, 10.0)]),
        "5 x the data": (5, [{}]),
        "all of these": (5, [{"patience": 10, "dropout": p, "decay": 0.3} for p in (0.3, 0.5, 0.7)]),
    }
    means = [torch.stack([x[y == c].mean(dim=0) for c in range(10)]).nan_to_num(9) for x, y in sets[1]]  # the simplest rule
    right = torch.stack([torch.cdist(test[0], mean).argmin(dim=1) == test[1] for mean in means])  # (seeds, n)
    baseline = max(0.1, right.float().mean().item())
    print(f"3. {examples} digits, {noise:.0%} wrong labels: accuracy in training; on the test set (nearest mean {baseline:.3f})")
    runs, shares = {}, {}
    for cure, (n, ways) in cures.items():
        tried = [(way, [train(few, validation, steps, lr, seed + i, **way) for i, few in enumerate(sets[n])]) for way in ways]
        chosen, runs[cure] = max(tried, key=lambda one: sum(accuracy for *_, accuracy in one[1]))  # by validation accuracy
        shares[cure] = torch.tensor([[known, evaluate(network, *test)[1]] for network, _, known, _ in runs[cure]])  # last look
        training, new = shares[cure].T  # (seeds,) each
        print(f"   {cure:14} {training.mean():.3f}; {new.mean():.3f} ({new.min():.3f} to {new.max():.3f})  {chosen or ''}")
    draw_cures(torch.stack([losses for _, losses, *_ in runs["no cure"]]).mean(dim=0), shares, baseline)
    forget_eval(runs["dropout"][-1][0], *validation)
    widths, errors = double_descent(sets[1], validation, (1e-6, 30.0), seed)
    error = dict(zip(widths, errors[0].mean(dim=0).tolist(), strict=True))
    print("5. error by features: " + ", ".join(f"{width}: {error[width]:.3g}" for width in widths))
    results = {f"accuracy_{cure.replace(' ', '_')}": share[:, 1].mean().item() for cure, share in shares.items()}
    wrong, limit = 1 - results["accuracy_all_of_these"], 1 - max(baseline, results["accuracy_no_cure"])
    check(wrong < limit, f"with all cures {wrong:.1%} are wrong, with none or by the simplest rule {limit:.1%}")
    results |= {"baseline_accuracy": baseline, "training_accuracy_no_cure": shares["no cure"][:, 0].mean().item()}
    results |= {"error_narrow": error[examples // 4], "error_at_threshold": error[examples], "error_widest": error[widths[-1]]}
    return {**results, "difference_by_hand": max(dropout_difference, decays["shrink", "SGD"], decays["shrink", "AdamW"])}


if __name__ == "__main__":
    run(main)
