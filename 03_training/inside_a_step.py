"""Inside a training step · 학습 스텝 들여다보기

A step goes where its gradient points, and the gradient is an average over examples. Which examples count, how many at a time, and
how far a single step may go can each be changed between the loss and the step.
스텝은 기울기가 가리키는 쪽으로 가고, 기울기는 예제들에 대한 평균이다. 한 번에 예제를 몇 개 볼지, 어떤 예제를 더 중요하게 볼지,
한 스텝에 얼마나 멀리 갈지는 모두 손실과 스텝 사이에서 바꿀 수 있다.

You will
  1. add up gradients over small batches until they equal the big batch's; and forget to divide, which tells nobody
  2. meet the error everyone meets when a loss is used twice
  3. clip gradients by hand, equal to clip_grad_norm_, and see one spoiled batch ruin a network, or not
  4. teach a digit that is rare, by weights in the loss and by a sampler, and count how many of it are found

Before     03_training/training_loop.py
Run        python -m study run inside_a_step       (about 5 s on one CPU core, after importing torch)
You see    0.01 of a rare digit found, 0.65 with weights; accuracy 0.27 after one spoiled batch, 0.93 if clipped; steps.png
Try next   --rare 2: two examples of the rare digit instead of ten. First guess what weights can still do; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler

from utils.datasets import Images, Source, hold_out, mnist
from utils.lesson import check, run
from utils.plotting import label, save_figure

Examples = tuple[Tensor, Tensor]  # pictures (n, 1, 14, 14), labels (n,)
RARE = 8  # the digit that becomes rare


def as_examples(data: Images) -> Examples:
    """Average every 2x2 pixels (n, 1, 28, 28), standardized by MNIST's mean and standard deviation."""
    return F.avg_pool2d((data.images.float() / 255 - 0.1307) / 0.3081, 2), data.labels


def new_network(seed: int, norm: bool = False) -> nn.Module:
    """Draw a network (n, 1, 14, 14) → (n, 10) logits, with batch normalisation if asked for."""
    torch.manual_seed(seed)  # also for the batches that are drawn afterwards
    middle = nn.BatchNorm1d(128) if norm else nn.Identity()
    return nn.Sequential(nn.Flatten(), nn.Linear(196, 128), middle, nn.ReLU(), nn.Linear(128, 10))


# %% 1. Accumulation
def gradient(model: nn.Module, data: Examples, size: int, divide: bool = True) -> Tensor:
    """Return the gradient of the mean loss, all parameters in one row, added up over small batches of `size`."""
    model.zero_grad()
    for inputs, labels in zip(data[0].split(size), data[1].split(size), strict=True):
        share = len(labels) / len(data[1]) if divide else 1  # the last one may be smaller
        (share * F.cross_entropy(model(inputs), labels)).backward()  # adds, and frees the graph of this small batch
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulate(data: Examples, seed: int) -> tuple[float, float, float]:
    """Add up gradients of 8 + 8 + 8 + 6 examples; return how far they are from that of 30, as a share of it.

    In order: done right, not divided, and with batch normalisation.
    """
    data = data[0][:30], data[1][:30]
    found = []
    for norm, divide in ((False, True), (False, False), (True, True)):
        model = new_network(seed, norm)
        whole, added = gradient(model, data, 30), gradient(model, data, 8, divide)
        found.append(((added - whole).norm() / whole.norm()).item())
    print(
        f"1. gradients of 8 + 8 + 8 + 6 examples are {found[0]:.0e} off that of 30, and {found[1]:.0%} off if nothing is divided"
    )
    print(f"   with batch normalisation {found[2]:.0%} off, and no division helps: each small batch is normalised by itself")
    return tuple(found)


# %% 2. The error everyone meets when adding up
def meet_error(data: Examples, seed: int) -> str:
    """Add up losses, and call backward on the sum after every small batch; return PyTorch's answer."""
    model, total = new_network(seed), 0
    try:
        for inputs, labels in zip(data[0].split(8), data[1].split(8), strict=True):
            total = total + F.cross_entropy(model(inputs), labels)
            total.backward()
    except RuntimeError as error:
        message = str(error)
    print(f'2. "{message.split(".")[0]}."')
    print("   read: the sum still holds the first batch's graph, which backward() has freed. Add gradients up, not losses")
    return message


# %% 3. Clipping
def clip_gradients(parameters: list[nn.Parameter], max_norm: float) -> float:
    """Multiply all gradients by one number, so that their common norm is at most `max_norm`; return the norm before."""
    norm = torch.stack([parameter.grad.norm() for parameter in parameters]).norm().item()
    for parameter in parameters:
        parameter.grad *= min(1.0, max_norm / (norm + 1e-6))
    return norm


def compare_clipping(data: Examples, seed: int) -> float:
    """Clip to less and to more than the norm; return the largest difference from what PyTorch makes of the same gradients."""
    differences = []
    for max_norm in (0.1, 1000.0):
        clipped = []
        for clip in (clip_gradients, nn.utils.clip_grad_norm_):
            model = new_network(seed)
            before = gradient(model, data, len(data[1])).norm()
            clip(list(model.parameters()), max_norm)
            clipped.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        differences.append((clipped[0] - clipped[1]).abs().max().item())
        print(
            f"{'  ' if differences[1:] else '3.'} clipped to {max_norm:g}: the norm {before:.3g} becomes {clipped[0].norm():.3g}"
        )
    return max(differences)


def train_with_spoiled_batch(train: Examples, validation: Examples, max_norm: float, seed: int) -> tuple[Tensor, Tensor]:
    """Train 300 steps, the 150th on raw bytes; return gradient norms (300,), and validation accuracy of each tenth step (30,)."""
    model = new_network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    norms, accuracies = [], []
    for step in range(1, 301):
        batch = torch.randint(len(train[1]), (32,))
        inputs = train[0][batch] * (255 if step == 150 else 1)  # somebody forgot to divide
        loss = F.cross_entropy(model(inputs), train[1][batch])
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_gradients(list(model.parameters()), max_norm))
        optimizer.step()
        if step % 10 == 0:
            with torch.no_grad():
                accuracies.append((model(validation[0]).argmax(dim=1) == validation[1]).float().mean().item())
    return torch.tensor(norms), torch.tensor(accuracies)


# %% 4. A digit that is rare
def make_rare(data: Examples, keep: int, seed: int) -> Examples:
    """Keep only a few examples of the rare digit, and all of the others."""
    order = torch.randperm(len(data[1]), generator=torch.Generator().manual_seed(seed))
    is_rare = data[1][order] == RARE
    chosen = torch.cat([order[~is_rare], order[is_rare][:keep]])
    return data[0][chosen], data[1][chosen]


def train_on_rare(
    data: Examples, epochs: int, seed: int, weight: Tensor | None = None, chances: Tensor | None = None
) -> nn.Module:
    """Train with a weight for each class in the loss (10,), a chance for each example to be drawn (n,), or neither."""
    model = new_network(seed, norm=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    for _ in range(epochs):
        order = torch.randperm(len(data[1]))
        if chances is not None:  # as many examples as before, rare ones again and again
            order = torch.tensor(list(WeightedRandomSampler(chances, len(data[1]))))
        for batch in order.split(32):
            loss = F.cross_entropy(model(data[0][batch]), data[1][batch], weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def measure_rare(model: nn.Module, data: Examples) -> tuple[float, float, float]:
    """Return recall (how much of the rare digit is found), precision (how much of what is called so is it), and accuracy."""
    with torch.no_grad():
        said = model(data[0]).argmax(dim=1)
    is_rare, called_rare = data[1] == RARE, said == RARE
    found = (is_rare & called_rare).sum()
    return (
        (found / is_rare.sum()).item(),
        (found / called_rare.sum().clamp(min=1)).item(),
        (said == data[1]).float().mean().item(),
    )


def compare_ways(pool: Examples, test: Examples, keep: int, epochs: int, seeds: range) -> dict[str, Tensor]:
    """Train without a cure, with class weights, and with a sampler; by way, return recall, precision, accuracy (seeds, 3)."""
    found = {"plain": [], "weights": [], "sampler": []}
    for seed in seeds:
        data = make_rare(pool, keep, seed)
        weight = len(data[1]) / (10 * data[1].bincount(minlength=10))  # of a class: how much rarer than a tenth it is
        for name, settings in (("plain", {}), ("weights", {"weight": weight}), ("sampler", {"chances": weight[data[1]]})):
            found[name].append(measure_rare(train_on_rare(data, epochs, seed, **settings), test))
    tables = {name: torch.tensor(rows) for name, rows in found.items()}
    for name, table in tables.items():
        (recall, precision, accuracy), spread = table.mean(dim=0).tolist(), table[:, 0].std(correction=0)
        print(f"4. {name:8} recall of {RARE} {recall:.2f} ± {spread:.2f}, precision {precision:.2f}, accuracy {accuracy:.3f}")
    return tables


def draw_steps(spoiled: dict, tables: dict[str, Tensor]) -> None:
    """Draw the accuracy round a spoiled batch, with and without clipping; and recall of the rare digit, every seed."""
    import matplotlib.pyplot as plt

    figure, (curves, dots) = plt.subplots(1, 2, figsize=(11, 4.3), layout="constrained")
    for name, colour in (("not clipped", "tab:red"), ("clipped", "tab:blue")):
        lines = curves.plot(range(10, 301, 10), torch.stack([after for _, after in spoiled[name]]).T, color=colour, alpha=0.7)
        lines[0].set_label(name)
    curves.set(xlabel="step", ylabel="accuracy", title=label("one spoiled batch half-way", "중간에 망가진 배치 하나"))
    curves.legend(loc="lower left")
    for name, table in tables.items():
        dots.plot([name] * len(table), table[:, 0], "o", alpha=0.6)
    dots.set(ylim=(-0.03, 1), title=label(f"recall of the rare digit {RARE}, every seed", f"드문 숫자 {RARE}의 재현율, 시드마다"))
    save_figure(figure, __file__, "steps")


# %% All of it, in order
def main(rare: int = 10, epochs: int = 5, seeds: int = 5, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Accumulate and clip gradients, and teach a digit that is rare.

    Args:
        rare: Examples of the rare digit to learn from; there are about a hundred of every other.
        epochs: Passes over them in section 4.
        seeds: Runs for every setting.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: The first seed.
    """
    check(min(rare, epochs, seeds) >= 1, f"--rare {rare} --epochs {epochs} --seeds {seeds}: at least one of each is needed")
    data = mnist(source)
    rest, held_out = hold_out(data.train, 400)
    pool, validation, test = as_examples(rest[:1000]), as_examples(held_out), as_examples(data.test)
    off, undivided, normed = accumulate(pool, seed)
    meet_error(pool, seed)
    clipping = compare_clipping((pool[0][:32], pool[1][:32]), seed)
    runs = range(seed, seed + seeds)
    spoiled = {
        name: [train_with_spoiled_batch(pool, validation, max_norm, s) for s in runs]
        for name, max_norm in (("not clipped", float("inf")), ("clipped", 2.0))
    }
    worst = {name: sum(after[14:].min().item() for _, after in found) / seeds for name, found in spoiled.items()}
    jump = max(norms[149] / norms.median() for norms, _ in spoiled["not clipped"])
    print(f"   one batch of bytes: a gradient up to {jump:.0f} times as long as usual; accuracy, at worst, mean of the seeds:")
    print(f"   {worst['not clipped']:.3f}, and {worst['clipped']:.3f} if it is clipped to 2")
    tables = compare_ways(pool, test, rare, epochs, runs)
    draw_steps(spoiled, tables)
    results = {"accumulated_off": off, "undivided_off": undivided, "batch_norm_off": normed, "clipping_off": clipping}
    results |= {"worst_accuracy_clipped": worst["clipped"], "worst_accuracy_not_clipped": worst["not clipped"]}
    for k, key in enumerate(("recall", "precision", "accuracy")):
        results |= {f"{key}_{name}": table[:, k].mean().item() for name, table in tables.items()}
    results["baseline_recall"] = max(0.1, results["recall_plain"])  # guessing finds one in ten
    for name in ("weights", "sampler"):
        check(results[f"recall_{name}"] > results["baseline_recall"] + 0.1, f"{name}: hardly more of the rare digit is found")
    return results


if __name__ == "__main__":
    run(main)
