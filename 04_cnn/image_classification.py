"""Image classification · 이미지 분류

A convolution is a dense layer with two beliefs built in: what matters lies close together, and it matters wherever it lies.
That pays as far as pictures are like that; and each further ingredient is worth what it adds over several seeds, no more.
합성곱은 두 가지 믿음을 새겨 넣은 완전 연결층이다. 중요한 것은 서로 가까이 있고, 어디에 있든 똑같이 중요하다는 믿음이다. 이미지가
정말 그런 만큼 이득을 보고, 그 밖의 재료는 여러 시드에서 실제로 보태는 만큼만 값어치가 있다.

You will
  1. write a convolutional classifier out, with a dense rival of the same size, and meet the error everyone meets in it
  2. take its ingredients away one at a time: batch norm, depth, schedule, convolution; several seeds for each
  3. put both beliefs to the test: shuffle all pixels, so that no neighbour is left, and move pictures by some pixels
  4. train it for longer with the same loop, and look once at all test pictures
  5. make the mistake that no message tells: measuring in training mode

Before     04_cnn/batch_normalization.py
Run        python -m study run image_classification (about 40 s on one CPU core, after importing torch)
You see    about 0.7 right on pictures never seen, nearest mean 0.23; what each ingredient buys, and one that costs; ablation.png
Try next   --data mnist: digits. First guess which ingredients still matter, and what shuffled and moved pixels cost; then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers

from utils.datasets import Images, Source, cifar10, hold_out, mnist, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. A convolutional classifier, and its rival
def block(inputs: int, outputs: int, stride: int, batch_norm: bool) -> nn.Sequential:
    """Convolution, batch norm, ReLU. The norm shifts each channel by a number it learns, so a bias before it would be idle."""
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=not batch_norm)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # PyTorch's own would leave a rival without norm no chance
    return nn.Sequential(conv, nn.BatchNorm2d(outputs) if batch_norm else nn.Identity(), nn.ReLU())


class Network(nn.Module):
    """A stem, three stages of `depth` convolutions each, the mean over all places, a linear classifier."""

    def __init__(self, channels: int, widths: tuple[int, int, int] = (16, 32, 64), depth: int = 2, batch_norm: bool = True):
        super().__init__()
        self.stem = block(channels, widths[0], 2, batch_norm)
        self.stages, inputs = nn.ModuleList(), widths[0]
        for width in widths:
            sizes = [inputs, *[width] * depth]  # channels before and after each convolution
            self.stages.append(nn.Sequential(*(block(a, b, 1, batch_norm) for a, b in zip(sizes, sizes[1:], strict=False))))
            inputs = width
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (batch, 3, 32, 32) → (batch, 16, 16, 16); digits (batch, 1, 28, 28) → (batch, 16, 14, 14)
        x = self.stages[0](x)  # (batch, 16, 16, 16)
        x = self.stages[1](F.max_pool2d(x, 2))  # (batch, 32, 8, 8)
        x = self.stages[2](F.max_pool2d(x, 2))  # (batch, 64, 4, 4)
        return self.classifier(x.mean(dim=(2, 3)))  # (batch, 64) → logits (batch, 10)


def dense(channels: int, size: int) -> nn.Module:
    """Build the rival without convolution: one hidden layer, as wide as the Network's number of parameters allows."""
    inputs = channels * size**2
    budget = sum(parameter.numel() for parameter in Network(channels).parameters())
    hidden = (budget - 10) // (inputs + 12)  # a unit costs a weight per input, two numbers of the norm, a weight per class
    layers = [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def meet_error() -> str:
    """Flatten the pictures at the end instead of averaging them, and give 28x28 where 32x32 was planned; return the answer."""
    flat = nn.Sequential(Network(channels=1).stem, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16 * 4 * 4, 10))
    try:
        flat(torch.zeros(2, 1, 28, 28))
    except RuntimeError as error:
        print(f'1. "{error}"\n   read: planned were 16·4·4 inputs, 16·3·3 came. The mean over all places takes any size')
        return str(error)


# %% 2. Recipes, and the loop that trains by them
class Recipe(NamedTuple):
    """What is trained and how; where nothing is said, as in the first one."""

    lr: float  # the highest, each recipe's own: the best of RATES on validation pictures; --search finds it again
    build: Callable[[int, int], nn.Module] = lambda channels, size: Network(channels)
    schedule: bool = True
    shuffled: bool = False  # the pixels of all pictures, into one and the same disorder


BATCH = 32  # pictures in a step
RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
RECIPES = {
    "everything": Recipe(0.2),
    "no batch norm": Recipe(0.05, lambda channels, size: Network(channels, batch_norm=False)),
    "half as deep": Recipe(0.4, lambda channels, size: Network(channels, widths=(30, 60, 90), depth=1)),  # and wider instead
    "constant rate": Recipe(0.1, schedule=False),
    "shuffled pixels": Recipe(0.2, shuffled=True),
    "dense": Recipe(0.2, dense),
}


def prepare(images: Tensor) -> Tensor:
    """Turn bytes (n, channels, height, width) into numbers around 0: each picture less its mean, by its standard deviation."""
    x = images.float()
    std, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / std.clamp_min(1)


def shuffle_pixels(data: Images) -> Images:
    """Bring the pixels of every picture into the same disorder."""
    order = torch.randperm(data.images[0, 0].numel(), generator=torch.Generator().manual_seed(0)).to(data.images.device)
    return Images(data.images.flatten(start_dim=2)[:, :, order].view_as(data.images), data.labels)


def move(data: Images, by: int) -> Images:
    """Move every picture down and to the right by `by` pixels; what comes in from outside repeats the edge."""
    padded = F.pad(data.images.float(), (by, 0, by, 0), mode="replicate")
    return Images(padded[:, :, : data.images.shape[2], : data.images.shape[3]].to(torch.uint8), data.labels)


def train(recipe: Recipe, parts: list[Images], images: int, seed: int) -> tuple[nn.Module, list[float], list[float]]:
    """Show a new network `images` pictures of parts[0]; return it, its losses, and how much of each other part is right."""
    known, *others = map(shuffle_pixels, parts) if recipe.shuffled else parts
    torch.manual_seed(seed)  # for the weights
    generator = torch.Generator().manual_seed(seed)  # for the pictures: the same ones for every recipe
    model, steps, losses = recipe.build(*known.images.shape[1:3]), images // BATCH, []
    model.to(known.images.device, memory_format=torch.channels_last)  # the same numbers, stored so that convolution is faster
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = schedulers.ConstantLR(optimizer, factor=1.0)
    if recipe.schedule:
        schedule = schedulers.OneCycleLR(optimizer, recipe.lr, total_steps=steps, cycle_momentum=False)
    for _ in range(steps):
        batch = torch.randint(len(known), (BATCH,), generator=generator).to(known.images.device)
        logits = model(prepare(known.images[batch]))  # (32, 10)
        loss = F.cross_entropy(logits, known.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model.eval(), losses, [accuracy(model, part) for part in others]


@torch.no_grad()
def accuracy(model: nn.Module, data: Images) -> float:
    """Return the share of right answers, in the mode that the model is in."""
    answers = torch.cat([model(prepare(images)).argmax(dim=1) for images in data.images.split(100)])
    return (answers == data.labels).float().mean().item()


def choose_rates(parts: list[Images], images: int, seed: int) -> dict[str, Recipe]:
    """Give every recipe the rate at which it does best on parts[1], which must not be test pictures."""
    tried = {name: [recipe._replace(lr=lr) for lr in RATES] for name, recipe in RECIPES.items()}
    return {name: max(ways, key=lambda one: train(one, parts, images, seed)[2][0]) for name, ways in tried.items()}


# %% 3. What each ingredient buys
def compare_recipes(recipes: dict[str, Recipe], parts: list[Images], images: int, seeds: range) -> dict[str, tuple]:
    """Train by every recipe with every seed; by name, return how much of parts[1] and [2] is right (2, seeds), and the losses."""
    found = {}
    print(f"2. right after {images:,} pictures, mean ± standard deviation of {len(seeds)} seeds; then with the pictures moved")
    for name, recipe in recipes.items():
        models, losses, shares = zip(*(train(recipe, parts, images, seed) for seed in seeds), strict=True)
        found[name] = torch.tensor(shares).T, torch.tensor(losses)  # (2, seeds), (seeds, steps)
        (full, _), (right, moved) = found["everything"][0], found[name][0]
        gap, spread = right.mean() - full.mean(), torch.hypot(full.std(correction=0), right.std(correction=0))
        told = f"{gap:+.3f}{', within the spread' * bool(gap.abs() < spread)}" * (name != "everything")
        size = sum(parameter.numel() for parameter in models[0].parameters())
        print(f"   {name:15} {size:6,} weights, rate {recipe.lr:<4g} ", end=" ")
        print(f"{right.mean():.3f} ± {right.std(correction=0):.3f}  {moved.mean():.3f}  {told}")
    return found


def draw_figure(found: dict[str, tuple], baseline: float) -> None:
    """Draw the training losses, smoothed over 40 steps, and the test accuracy of every network."""
    import matplotlib.pyplot as plt

    figure, (curves, dots) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, ((right, _), losses) in found.items():
        over = min(40, losses.shape[1])
        smooth = F.avg_pool1d(losses.mean(dim=0, keepdim=True), over, stride=1)[0]  # of all seeds
        curves.plot(BATCH * (torch.arange(len(smooth)) + over / 2), smooth, label=name)
        dots.plot(right, [name] * len(right), "o", alpha=0.6)
    dots.axvline(baseline, color="grey", linestyle=":", label=label("nearest mean", "최근접 평균"))
    dots.set(xlabel=label("test accuracy, every seed", "테스트 정확도, 시드마다"))
    dots.invert_yaxis()
    curves.set(xlabel=label("pictures seen", "본 이미지 수"), ylabel=label("training loss", "학습 손실"))
    curves.legend()
    dots.legend()
    save_figure(figure, __file__, "ablation")


# %% 5. The mistake that no message tells
def forget_eval(model: nn.Module, test: Images) -> tuple[float, float]:
    """Measure in training mode: on pictures in random order, and sorted by class, as they lie in folders."""
    model = copy.deepcopy(model).train()  # a copy, because even without gradients every batch moves the norm's running means
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0)).to(test.labels.device)
    mixed, by_class = accuracy(model, test[order]), accuracy(model, test[test.labels.argsort(stable=True)])
    print(f"5. eval() forgotten: {mixed:.3f}; pictures sorted by class, each batch standardized by its one class: {by_class:.3f}")
    return mixed, by_class


# %% All of it, in order
def main(
    data: Literal["cifar10", "mnist"] = "cifar10", images: int = 16_000, ablation_images: int = 6_400, seeds: int = 3,
    shift: int = 4, search: bool = False, source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Classify pictures by convolution, and measure what each of its ingredients buys.

    Args:
        data: cifar10, or what stands in for it where it is missing; mnist.
        images: Pictures that the last network sees in training.
        ablation_images: Pictures that each network of the comparison sees.
        seeds: Networks by each recipe.
        shift: Pixels by which test pictures are moved.
        search: Choose every learning rate again first, on validation pictures.
        source: auto (the real pictures if they are there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(images, ablation_images) >= 5 * BATCH and seeds > 0, f"needed are {5 * BATCH} pictures and one seed, or more")
    where, loaded = pick_device(device), {"cifar10": cifar10, "mnist": mnist}[data](source)
    pictures, test = (Images(part.images.to(where), part.labels.to(where)) for part in (loaded.train, loaded.test))
    known, validation = hold_out(pictures, len(pictures) // 10)
    _, some = hold_out(test, min(1000, len(test)))  # enough for the comparison; all would take as long as the training
    meet_error()
    recipes = choose_rates([known, validation], ablation_images, seed - 1) if search else RECIPES
    found = compare_recipes(recipes, [known, some, move(some, shift)], ablation_images, range(seed, seed + seeds))
    baseline = max(test.labels.bincount().max().item() / len(test), nearest_mean_accuracy(known, test))
    draw_figure(found, baseline)
    model, _, (right,) = train(recipes["everything"], [known, test], images, seed)
    print(f"4. after {images:,} pictures: {right:.3f} right, nearest mean {baseline:.3f}")
    mixed, by_class = forget_eval(model, test)
    results = {"accuracy": right, "baseline_accuracy": baseline, "eval_forgotten": mixed, "eval_forgotten_by_class": by_class}
    for name, (shares, _) in found.items():
        mean, moved = shares.mean(dim=1).tolist()
        results |= {f"mean_{name.replace(' ', '_')}": mean, f"moved_{name.replace(' ', '_')}": moved}
    check(1 - right < 0.8 * (1 - baseline), f"{right:.1%} right, the simplest rule {baseline:.1%}: more --images?")
    return results


if __name__ == "__main__":
    run(main)
