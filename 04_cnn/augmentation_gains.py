"""What augmentation buys · 데이터 증강의 효과

Augmentation is a stand-in for data one does not have. So its worth can be told in the same coin: how many more real images would
have helped as much? It depends on how well the changes match what really varies, and some changes do harm.
데이터 증강은 가지고 있지 않은 데이터의 대역이다. 그러니 효과도 같은 단위로 잴 수 있다. 진짜 이미지가 몇 장 더 있었다면 그만큼
나아졌을까? 변형이 실제로 달라지는 것과 맞을수록 효과가 크고, 해로운 변형도 있다.

You will
  1. write five augmentations in one form, and a harmful one
  2. meet the error that everyone meets with mixed labels
  3. train the same small network on few images with each, equally long, from several seeds
  4. compare each with none, on the same images from the same start; then more images with none, and read off what they are worth

Before     04_cnn/data_augmentation.py
Run        python -m study run augmentation_gains      (about 50 s on one CPU core, after importing torch)
You see    flip, crop and colour together worth 1.8 times as many images (CIFAR-10, own copy: 1.4), all five no gain; gains.png
Try next   --steps 1000 --seeds 2: nearly three times as long. First guess which row gains most, and which loses; then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images, Source, cifar10, hold_out, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Batch = tuple[Tensor, Tensor]  # images (n, 3, height, width) from 0 to 1, targets (n, classes): probabilities
Recipe = list[Callable[[Tensor, Tensor, torch.Generator], Batch]]  # augmentations, one after the other


# %% 1. Augmentations: images, targets and a generator on the CPU → images, targets
def flip(images: Tensor, targets: Tensor, generator: torch.Generator, axis: int = 3) -> Batch:
    """Mirror half of the images: left to right, or upside down with axis 2."""
    which = (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5).to(images.device)
    return torch.where(which, images.flip(axis), images), targets


def crop(images: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
    """Move each image by up to 4 pixels; what comes in from outside is its own reflection."""
    n, channels, height, width = images.shape
    top, left = torch.randint(0, 9, (2, n, 1, 1, 1), generator=generator).to(images.device)
    rows = top + torch.arange(height, device=top.device).view(-1, 1)  # (n, 1, height, 1)
    columns = left + torch.arange(width, device=top.device)  # (n, 1, 1, width)
    images = F.pad(images, [4] * 4, mode="reflect").gather(2, rows.expand(n, channels, height, width + 8))
    return images.gather(3, columns.expand(n, channels, height, width)), targets


def colour(images: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
    """Change brightness, contrast and saturation by up to 40 %."""
    factors = (0.6 + 0.8 * torch.rand(3, len(images), 1, 1, 1, generator=generator)).to(images.device)
    images = factors[0] * images
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + factors[1] * (images - mean)
    grey = images.mean(dim=1, keepdim=True)
    return (grey + factors[2] * (images - grey)).clamp(0, 1), targets


def cutout(images: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
    """Paint a grey square of 11 x 11 pixels over each image; its centre lies anywhere, so that an edge may cut it."""
    n, _, height, width = images.shape
    row, column = (torch.rand(2, n, 1, 1, 1, generator=generator) * torch.tensor([height, width]).view(2, 1, 1, 1, 1)).floor()
    near = ((torch.arange(height).view(-1, 1) - row).abs() < 6) & ((torch.arange(width) - column).abs() < 6)
    return images.masked_fill(near.to(images.device), 0.5), targets  # near is (n, 1, height, width)


def mixup(images: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
    """Lay another image of the batch over each; the targets are mixed in the same shares."""
    share = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    return torch.lerp(images[partner], images, share), torch.lerp(targets[partner], targets, share.view(-1, 1))


RECIPES: dict[str, Recipe] = {
    "none": [],
    "flip": [flip],
    "crop": [crop],
    "colour": [colour],
    "these three": [flip, crop, colour],
    "cutout": [cutout],
    "mixup": [mixup],
    "all five": [flip, crop, colour, cutout, mixup],
    "upside down": [partial(flip, axis=2)],
}


# %% 2. The error everyone meets
def forget_probabilities() -> str:
    """Give cross_entropy one-hot targets as F.one_hot makes them; return PyTorch's answer."""
    try:
        F.cross_entropy(torch.zeros(2, 3), F.one_hot(torch.tensor([0, 2]), 3))
    except RuntimeError as error:
        message = str(error)
    print(
        f"2. {message}\n   read: targets as wide as the logits are probabilities, so floats: F.one_hot(labels, classes).float()"
    )
    return message


# %% 3. A small network, trained equally long whatever it is shown
def network(classes: int, seed: int) -> nn.Sequential:
    """Four convolutions: images (n, 3, 32, 32) → logits (n, classes); 26,000 weights."""
    torch.manual_seed(seed)  # layers draw their weights from the global generator

    def block(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, 8, size=5, stride=2)]  # (n, 8, 16, 16)
    layers += [*block(8, 16), nn.MaxPool2d(2)]  # (n, 16, 8, 8)
    layers += [*block(16, 32), nn.MaxPool2d(2)]  # (n, 32, 4, 4)
    layers += [*block(32, 64), nn.AdaptiveMaxPool2d(1), nn.Flatten()]  # (n, 64): the largest, wherever in the image it was
    return nn.Sequential(*layers, nn.Linear(64, classes))


def train(few: Images, recipe: Recipe, classes: int, steps: int, lr: float, device: torch.device, seed: int) -> nn.Module:
    """Take steps of AdamW on batches of 16; the rate rises to `lr` and falls to 0. The seed gives the start and the batches."""
    model = network(classes, seed).to(device, memory_format=torch.channels_last)  # a quarter faster here than without
    images, targets = few.images.to(device) / 255, F.one_hot(few.labels, classes).float().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    order, draws = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    for _ in range(steps):
        chosen = torch.randint(len(few), (16,), generator=order).to(device)
        x, y = images[chosen], targets[chosen]
        for augment in recipe:
            x, y = augment(x, y, draws)
        loss = F.cross_entropy(model((x - 0.5).to(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, data: Images) -> float:
    """Return the share of unchanged images that are classified right."""
    device = next(model.parameters()).device
    answers = torch.cat([model(images.to(device) / 255 - 0.5).argmax(dim=1).cpu() for images in data.images.split(500)])
    return (answers == data.labels).float().mean().item()


# %% 4. Compare on the same images, from the same start
def compare(pool: Images, test: Images, plans: dict[str, tuple[int, Recipe]], seeds: range, **settings) -> dict[str, Tensor]:
    """Train every plan (number of images, recipe) with every seed; return training and test accuracies, (seeds, 2) each.

    Each seed has images of its own, and all plans of a seed share them: a plan with more has the same ones and others.
    """
    found = {name: torch.zeros(len(seeds), 2) for name in plans}
    for i, seed in enumerate(seeds):
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
        for name, (count, recipe) in plans.items():
            few = pool[order[:count]]
            model = train(few, recipe, seed=seed, **settings)
            found[name][i] = torch.tensor([accuracy(model, few), accuracy(model, test)])
    return found


def images_worth(counts: list[int], accuracies: list[float], reached: float) -> float:
    """Read off how many images reach an accuracy, along straight lines over the logarithm of the count; within `counts`."""
    return float(np.exp(np.interp(reached, np.maximum.accumulate(accuracies), np.log(counts))))


def draw_figure(found: dict[str, Tensor], counts: list[int], baseline: float) -> None:
    """Draw training and test accuracy of every setting; then accuracy against the number of images."""
    import matplotlib.pyplot as plt

    figure, (settings, data) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained", width_ratios=[3, 2])
    shares = torch.stack([found[name] for name in RECIPES])  # (settings, seeds, 2)
    training, test = shares.mean(dim=1).T.tolist()
    settings.bar(list(RECIPES), training, color="gainsboro", label=label("training", "학습"))
    settings.bar(list(RECIPES), test, color="tab:blue", alpha=0.7, label=label("test", "테스트"))
    settings.plot(shares[:, :, 1].numpy(), "k.", markersize=5)
    settings.axhline(found["none"][:, 1].mean().item(), color="tab:blue", linestyle=":")
    settings.tick_params("x", rotation=25)
    settings.set(ylabel=label("accuracy", "정확도"), ylim=(0, 1.2))
    settings.legend(loc="upper right", ncols=2)
    more = torch.stack([found["none"][:, 1], *(found[f"{count} images"][:, 1] for count in counts[1:])])  # (counts, seeds)
    data.errorbar(counts, more.mean(dim=1), more.std(dim=1), fmt="o-", capsize=4, label=label("no augmentation", "증강 없음"))
    three = found["these three"][:, 1].mean().item()
    data.axhline(three, color="tab:green", label=label("flip, crop, colour", "반전, 자르기, 색"))
    data.axhline(baseline, color="grey", linestyle="--", label=label("nearest mean", "가장 가까운 평균"))
    data.set(xscale="log", xlabel=label("images", "이미지 수"))
    data.set_xticks(counts, counts)
    data.minorticks_off()
    data.legend()
    save_figure(figure, __file__, "gains")


# %% All of it, in order
def main(
    images: int = 100, steps: int = 360, lr: float = 0.01, seeds: int = 3,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train a small network on few images with and without augmentation, and on more images without.

    Args:
        images: Images to train on.
        steps: Steps of every training, each on 16 images.
        lr: The largest learning rate.
        seeds: Trainings of every setting, each on images of its own.
        source: Images from: auto (CIFAR-10 if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    where, data = pick_device(device), cifar10(source)
    counts = [images, 2 * images, 4 * images]
    check(images >= 10 and counts[-1] <= len(data.train), f"--images {images}: needed are 10 to {len(data.train) // 4}")
    check(steps >= 10 and seeds >= 2, f"--steps {steps} --seeds {seeds}: needed are 10 steps and 2 seeds")
    forget_probabilities()
    plans = {name: (images, recipe) for name, recipe in RECIPES.items()}
    plans |= {f"{count} images": (count, []) for count in counts[1:]}
    (_, few), (_, test) = hold_out(data.train, images), hold_out(data.test, 1000)  # by chance: files may come class by class
    settings = {"classes": len(data.classes), "steps": steps, "lr": lr, "device": where}
    found = compare(data.train, test, plans, range(seed, seed + seeds), **settings)
    print(f"4. {images} images, {steps} steps, {seeds} seeds: right in training, in the test; gain over none, seed by seed")
    gains = {}
    for name, shares in found.items():
        gains[name] = shares[:, 1] - found["none"][:, 1]  # (seeds,) same images, same start
        told = f"{shares[:, 0].mean():.3f}  {shares[:, 1].mean():.3f} ± {shares[:, 1].std():.3f}"
        print(f"   {name:12} {told}  {gains[name].mean():+.3f} ± {gains[name].std():.3f}")
    curve = [found[name][:, 1].mean().item() for name in ("none", *list(plans)[-2:])]
    best = found["these three"][:, 1].mean().item()
    worth = images_worth(counts, curve, best)
    print(f"   flip, crop and colour together: like {worth:.0f} images without, {worth / images:.1f} times as many")
    baseline = max(nearest_mean_accuracy(few, test), test.labels.bincount().max().item() / len(test))
    draw_figure(found, counts, baseline)
    spread = gains["these three"].std().item()
    check(min(curve[0], best) > baseline, f"right: {curve[0]:.3f}, {best:.3f}; nearest mean {baseline:.3f}: more --steps?")
    gain, unsure = best - curve[0], spread / seeds**0.5  # the mean of n seeds varies less than one seed, by the root of n
    check(gain > unsure, f"augmentation gains {gain:.3f}, and {seeds} seeds know it to ±{unsure:.3f}: more --steps or --seeds?")
    results = {"gain": gain, "gain_spread": spread, "baseline": baseline, "worth": worth}
    for name, shares in found.items():
        key = name.replace(" ", "_")
        results[f"training_{key}"], results[f"test_{key}"] = shares.mean(dim=0).tolist()
    return results


if __name__ == "__main__":
    run(main)
