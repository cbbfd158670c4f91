"""ViT or CNN · ViT와 CNN

Which is better on small pictures, a Vision Transformer or a convolutional network? An answer needs equal cost, equal training,
a learning rate chosen for each, and several seeds; then the two are taken apart by shuffling what they see.
작은 그림에서는 비전 트랜스포머와 합성곱 신경망 중 무엇이 나은가? 답하려면 비용과 학습 조건이 같아야 하고, 학습률은 각자에게 맞게
골라야 하며, 시드가 여럿이어야 한다. 그다음 보이는 것을 뒤섞어 둘이 무엇에 기대는지 갈라 본다.

You will
  1. count what both cost, by formula and with PyTorch's counter, and see the counter miss a whole block without a word
  2. shuffle patches: a ViT without positions does not notice, to the last digits
  3. train them alike, each with the learning rate that is best for it on held-out training pictures
  4. draw learning curves with their spread; put convolutions in front of a ViT; shuffle what both see

Before     06_advanced/vision_transformer.py
Run        python -m study run vit_or_cnn   (about 55 s on one CPU core, after importing torch)
You see    with 4,000 pictures the CNN at 0.49, the ViT at 0.29, with a stem 0.34; nearest mean 0.23; curves.png
Try next   --choose --others 3: rates chosen again, 4 minutes. First guess what the ViT makes of the rate that suits the CNN
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from utils.datasets import Source, cifar10, hold_out, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Data = tuple[Tensor, Tensor]  # pictures (n, 3, 32, 32), labels (n,)
CPU, PATCH, SIDE, WIDTH, HIDDEN, CLASSES = torch.device("cpu"), 8, 4, 64, 128, 10  # 32 x 32 pixels are 4 x 4 patches
CHOICES = (0.001, 0.003, 0.01, 0.03)  # of the learning rate; with the sample, --choose --others 3 chose these:
RATES = {"ViT": 0.003, "CNN": 0.03, "ViT with a stem": 0.01}


# %% 1. Networks of equal cost
class Block(nn.Module):
    """A pre-norm encoder block, its attention written out so that each multiplication can be counted: (n, tokens, width)."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads, self.norm_1, self.norm_2 = heads, nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (n, heads, tokens, size)
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(dim=3)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_2(x))


class VisionTransformer(nn.Module):
    """Pictures (n, 3, 32, 32) → logits (n, 10), read from the mean of all tokens. The stem makes these, (n, 64, 4, 4)."""

    def __init__(self, stem: nn.Module, depth: int, positions: bool = True):
        super().__init__()
        self.stem, self.blocks = stem, nn.Sequential(*[Block(heads=4) for _ in range(depth)], nn.LayerNorm(WIDTH))
        self.places, self.head = nn.Parameter(torch.randn(SIDE**2, WIDTH)) if positions else None, nn.Linear(WIDTH, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.stem(pictures).flatten(2).transpose(1, 2)  # (n, 16, 64)
        return self.head(self.blocks(x if self.places is None else x + self.places).mean(dim=1))


def convolve(*layers: tuple[int, int, int]) -> list[nn.Module]:
    """3 x 3 convolutions of (inputs, outputs, stride), each with its norm and ReLU."""
    return [part for a, b, s in layers for part in (nn.Conv2d(a, b, 3, s, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())]


def build(kind: str, seed: int, where: torch.device = CPU) -> nn.Module:
    """Build one of three networks that cost nearly the same; the stem is paid for with a block (Xiao et al., 2021)."""
    torch.manual_seed(seed)
    if kind == "ViT":
        model = VisionTransformer(nn.Conv2d(3, WIDTH, PATCH, stride=PATCH), depth=4)
    elif kind == "ViT with a stem":
        model = VisionTransformer(nn.Sequential(*convolve((3, 16, 2), (16, 32, 2), (32, WIDTH, 2))), depth=3)
    else:
        layers = convolve((3, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, WIDTH, 2), (WIDTH, WIDTH, 1))
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES))
    # channels_last is only an order in memory; convolutions are faster with it on a CPU, and on MPS it is not a sound one.
    return model.to(where, memory_format=torch.preserve_format if where.type == "mps" else torch.channels_last)


def by_hand() -> dict[str, int]:
    """Return the multiplications for one picture by formula; norms and activations are left out, as is usual."""

    def conv(side: int, inputs: int, outputs: int, kernel: int = 3) -> int:
        return side**2 * outputs * inputs * kernel**2  # each output number is a sum over a window

    tokens, stem = SIDE**2, conv(16, 3, 16) + conv(8, 16, 32) + conv(4, 32, WIDTH)
    block = tokens * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 2 * tokens**2 * WIDTH  # q k v out, two of the MLP; scores, mixing
    found = conv(SIDE, 3, WIDTH, PATCH) + 4 * block, stem + conv(16, 16, 16) + conv(8, 32, 32) + conv(4, WIDTH, WIDTH)
    return dict(zip(RATES, (number + WIDTH * CLASSES for number in (*found, stem + 3 * block)), strict=True))  # and the head


def count(model: nn.Module, *shape: int) -> int:
    """Count the multiplications for an input of this shape; the counter tells twice as many, since it counts additions, too."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(shape))
    return counter.get_total_flops() // 2


def compare_costs() -> dict[str, float]:
    """Count all three, check them against the formulas; then count PyTorch's own block, with gradients and without."""
    found, formula = {kind: count(build(kind, 0), 1, 3, 32, 32) for kind in RATES}, by_hand()
    unequal = max(found.values()) / min(found.values())
    check(found == formula and unequal < 1.05, f"the counter says {found}, the formulas {formula}: equal costs are needed")
    print("1. multiplications: " + ", ".join(f"{kind} {number:,}" for kind, number in found.items()))
    theirs = nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, batch_first=True, norm_first=True).eval()
    seen = count(theirs, 1, SIDE**2, WIDTH)
    with torch.no_grad():
        missed = count(theirs, 1, SIDE**2, WIDTH)  # one fused operation, of which the counter knows nothing
    print(f"   PyTorch's own block in eval mode: {seen:,}; under no_grad: {missed:,}, and no message")
    return {"unequal": unequal, "counted": seen, "counted_fused": missed}


# %% 2. Shuffled patches
def shuffle(pictures: Tensor, order: Tensor | None) -> Tensor:
    """Put the patches of all pictures (n, 3, 32, 32) in the same new order (16,); None leaves them as they are."""
    if order is None:
        return pictures
    return F.fold(F.unfold(pictures, PATCH, stride=PATCH)[:, :, order], pictures.shape[2:], PATCH, stride=PATCH)


@torch.no_grad()
def compare_shuffled(order: Tensor, seed: int) -> dict[str, float]:
    """Return by how much the logits of fresh ViTs move when patches do, without and with positions."""
    torch.manual_seed(seed)
    pictures, stem = torch.randn(8, 3, 32, 32), nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
    models = [VisionTransformer(stem, 4, positions) for positions in (False, True)]
    bag, places = ((model(shuffle(pictures, order)) - model(pictures)).abs().max().item() for model in models)
    print(f"2. shuffled patches move logits by {bag:.0e} without positions, by {places:.2f} with")
    return {"moved_bag": bag, "moved_places": places}


# %% 3. Training, the same for all
def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Move a batch by up to 4 pixels, and mirror a random half of it."""
    (top, left), mirrored = torch.randint(9, (2,), generator=generator), torch.rand(len(pictures), generator=generator) < 0.5
    moved = F.pad(pictures, [4] * 4, mode="reflect")[:, :, top : top + 32, left : left + 32]
    return torch.where(mirrored.view(-1, 1, 1, 1).to(moved.device), moved.flip(3), moved)


def train(model: nn.Module, data: Data, steps: int, lr: float, seed: int, order: Tensor | None = None) -> float:
    """Take steps of AdamW on 64 pictures each, shuffled by `order` after they were moved; return CPU seconds per step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    started = time.process_time()
    for _ in range(steps):
        chosen = torch.randint(len(data[0]), (64,), generator=generator).to(data[0].device)
        loss = F.cross_entropy(model(shuffle(augment(data[0][chosen], generator), order)), data[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return (time.process_time() - started) / steps


@torch.no_grad()
def accuracy(model: nn.Module, data: Data, order: Tensor | None = None) -> float:
    """The share of right answers, on pictures shuffled by `order` if there is one."""
    model.eval()
    logits = torch.cat([model(shuffle(part, order)) for part in data[0].split(250)])
    return (logits.argmax(dim=1) == data[1]).float().mean().item()


def learn(kind: str, known: Data, test: Data, steps: int, lr: float, seeds: range, order: Tensor, shuffled: bool) -> Tensor:
    """Return of a network for each seed its accuracy, that on shuffled test pictures, and CPU seconds per step: (seeds, 3)."""
    rows = []
    for seed in seeds:
        seconds = train(model := build(kind, seed, known[0].device), known, steps, lr, seed, order if shuffled else None)
        rows.append([accuracy(model, test), accuracy(model, test, order), seconds])
    right, mixed, seconds = (found := torch.tensor(rows)).T
    print(f"   {kind} at {lr:g}, {len(known[0]):,}{' shuffled' * shuffled} pictures: {right.mean():.3f} right", end=" ")
    print(f"({', '.join(f'{one:.3f}' for one in right)}), {mixed.mean():.3f} of shuffled; {1000 * seconds.mean():.0f} ms a step")
    return found


# %% 4. Learning curves
def draw_curves(found: dict[tuple[str, int], Tensor], baseline: float) -> None:
    """Draw shares of right answers (networks,) over the number of pictures: means, and bars from lowest to highest."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for kind in RATES:
        sizes, rows = zip(*((f"{size:,}", right) for (name, size), right in found.items() if name == kind), strict=True)
        low, mean, high = zip(*((right.min(), right.mean(), right.max()) for right in rows), strict=True)
        line = axis.plot(sizes, mean, "o-", label=label(kind, kind.replace("with a stem", "+ 합성곱 스템")))[0]
        axis.vlines(sizes, low, high, line.get_color(), linewidth=5, alpha=0.4)
    axis.axhline(baseline, color="grey", linestyle=":", label=label("nearest mean", "최근접 평균"))
    axis.set(xlabel=label("training pictures", "학습 그림 수"), ylabel=label("accuracy", "정확도"))
    axis.legend()
    save_figure(figure, __file__, "curves")


# %% All of it, in order
def main(
    sizes: tuple[int, ...] = (250, 1000, 4000), steps: int = 180, networks: int = 3, others: int = 1, choose: bool = False,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Compare a ViT and a CNN of equal cost.

    Args:
        sizes: Numbers of training pictures; the stem and the shuffling are tried with the most.
        steps: Steps that each network is trained, on 64 pictures each.
        networks: How many ViTs and CNNs learn from the most pictures, with other weights and batches.
        others: How many of each kind learn from fewer, with a stem, or from shuffled pictures; one is no more than a glimpse.
        choose: Choose learning rates anew, on 1,000 held-out training pictures; else take those that were chosen for 180 steps.
        source: Pictures from: auto (CIFAR-10 if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(steps, networks, others, *(sizes or [0])) > 0, "needed are at least --steps 1, --networks 1, --others 1, --sizes 1")
    where, data, most = pick_device(device), cifar10(source), max(sizes)
    rest, held_out = hold_out(data.train, 1000, seed=0)  # both in random order: files may be sorted by class
    check(most <= len(rest), f"--sizes {most}: there are {len(rest):,} training pictures besides the 1,000 held out")
    known, test = rest[:most], hold_out(data.test, 2000, seed=0)[1]
    baseline = max(test.labels.bincount().max().item() / len(test), nearest_mean_accuracy(known, test))
    known, held_out, test = ((F.layer_norm(x.images.to(where).float(), (3, 32, 32)), x.labels.to(where))
                             for x in (known, held_out, test))  # fmt: skip
    order = torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(1))
    results = {"baseline": baseline, **compare_costs(), **compare_shuffled(order, seed)}
    rates, found, many, few = dict(RATES), {}, range(seed, seed + networks), range(seed, seed + others)
    for kind in RATES if choose else ():
        tried = {rate: learn(kind, known, held_out, steps, rate, few, order, False)[:, 0].mean() for rate in CHOICES}
        rates[kind] = max(tried, key=tried.get)
    for size in sizes:
        for kind in RATES if size == most else ("ViT", "CNN"):
            seeds = many if size == most and kind != "ViT with a stem" else few
            found[kind, size] = learn(kind, (known[0][:size], known[1][:size]), test, steps, rates[kind], seeds, order, False)
            results[f"{kind}_{size}".replace(" ", "_")] = found[kind, size][:, 0].mean().item()
    draw_curves({key: rows[:, 0] for key, rows in found.items()}, baseline)
    for kind in ("ViT", "CNN"):
        straight, both = found[kind, most], learn(kind, known, test, steps, rates[kind], few, order, True)
        results |= {f"{kind}_test_shuffled": straight[:, 1].mean().item(), f"{kind}_all_shuffled": both[:, 1].mean().item()}
        results[f"{kind}_seconds"] = straight[:, 2].mean().item()
    worse = min(found[kind, most][:, 0].mean().item() for kind in ("ViT", "CNN"))
    check(worse > baseline + 0.02, f"{worse:.3f} is not clear of the nearest mean, {baseline:.3f}: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
