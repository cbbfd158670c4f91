"""Contrastive learning · 대조 학습

Two views of one picture should have features that are alike, views of different pictures should not: that takes no labels. What
the views have in common is all that such a network can learn, so whoever chooses the augmentation chooses what it learns.
한 그림의 두 모습은 특징이 닮고 다른 그림의 모습과는 달라야 한다. 여기에는 레이블이 필요 없다. 신경망이 배울 수 있는 것은
두 모습에 공통된 것뿐이므로, 증강을 고르는 사람이 무엇을 배울지 고르는 셈이다.

You will
  1. write the loss of SimCLR, NT-Xent, as two loops and as one cross entropy, and meet the error everyone meets
  2. train on pictures without labels, and read the features with a linear probe
  3. compare: pixels, the same network untrained, and training with all or few labels
  4. take the negatives away: a perfect loss, and every picture in the same point
  5. look at neighbours in feature space

Before     04_cnn/few_shot.py, 04_cnn/augmentation_gains.py
Run        python -m study run contrastive_learning (about 51 s on one CPU core, after importing torch)
You see    right on new pictures: 0.41 by features learned without labels, 0.34 by pixels, 0.20 untrained; neighbours.png
Try next   --views crop: the two views keep their colours. First guess how the probe does, and how the loss; then explain both
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.batches import Batches
from utils.datasets import Images, Source, cifar10, hold_out, nearest_mean_accuracy
from utils.device import pick_device
from utils.evaluation import show_image
from utils.lesson import check, run
from utils.plotting import label, save_figure

Examples = tuple[Tensor, Tensor]  # pictures (n, 3, 32, 32) of floats, labels (n,)
LR, VIEWS = 0.003, {"both": ("crop", "colour"), "crop": ("crop",), "colour": ("colour",)}


# %% 1. The loss
def nt_xent(one: Tensor, two: Tensor, temperature: float) -> Tensor:
    """Of each view of n pictures, (n, width) twice, find the other one among all 2n - 1 (Chen et al., 2020)."""
    features = F.normalize(torch.cat([one, two]), dim=1)
    same = torch.eye(len(features), dtype=torch.bool, device=features.device)
    logits = (features @ features.T / temperature).masked_fill(same, -math.inf)  # (2n, 2n); nobody is asked for itself
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device).roll(len(one)))  # i ↔ i + n


def nt_xent_in_loops(one: Tensor, two: Tensor, temperature: float) -> float:
    """The same, as the paper's formula says it, one pair at a time."""
    features, total = [*one, *two], 0.0
    for i, feature in enumerate(features):
        scores = [math.exp(F.cosine_similarity(feature, other, dim=0).item() / temperature) for other in features]
        total -= math.log(scores[(i + len(one)) % len(features)] / (sum(scores) - scores[i]))
    return total / len(features)


def compare_losses(temperature: float, seed: int) -> tuple[float, str]:
    """Return how far both are apart, and PyTorch's answer to targets for one view only."""
    one, two = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    difference = abs(nt_xent(one, two, temperature).item() - nt_xent_in_loops(one, two, temperature))
    print(f"1. two loops and one cross entropy agree within {difference:.0e}")
    try:
        return difference, str(F.cross_entropy(torch.cat([one, two]) @ torch.cat([one, two]).T, torch.arange(6)))
    except ValueError as error:
        print(f'   "{error}"\n   read: both views ask, so there are twice as many rows as pictures, and as many targets')
        return difference, str(error)


# %% 2. Two views, and a network
def draw_view(pictures: Tensor, kinds: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Change pictures (n, 3, h, w) at random, each in its own way: a mirrored piece of it, enlarged; other colours."""
    n = len(pictures)
    if "crop" in kinds:
        area, mirror = 0.3 + 0.7 * torch.rand(n, generator=generator), torch.rand(n, generator=generator).round() * 2 - 1
        side, place = area.sqrt(), torch.rand(n, 2, generator=generator) * 2 - 1
        window = torch.zeros(n, 2, 3)  # a grid counts from -1 to 1: size on the diagonal, then the middle
        window[:, 0, 0], window[:, 1, 1], window[:, :, 2] = side * mirror, side, place * (1 - side.unsqueeze(1))
        grid = F.affine_grid(window.to(pictures.device), pictures.shape, align_corners=False)
        pictures = F.grid_sample(pictures, grid, align_corners=False, padding_mode="reflection")
    if "colour" in kinds:
        mixed = torch.rand(n, 3, 3, generator=generator)
        share, mixed = torch.rand(n, 1, 1, generator=generator), mixed / mixed.sum(dim=2, keepdim=True)
        gain, shift = (torch.rand(n, 3, 1, generator=generator) * 0.8 + low for low in (0.6, -0.4))
        matrix = gain * torch.lerp(torch.eye(3).expand(n, 3, 3), mixed, share)  # (n, 3, 3): from its own colours to mixed ones
        pictures = torch.einsum("nij,njhw->nihw", matrix.to(pictures.device), pictures) + shift.unsqueeze(2).to(pictures.device)
    return pictures


def encoder(width: int, seed: int) -> nn.Sequential:
    """Pictures (n, 3, 32, 32) → features (n, 4 · width)."""
    torch.manual_seed(seed)
    sizes, blocks = ((3, 1, 2), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1)), []  # channels in and out, in widths; stride
    for inputs, outputs, stride in sizes:
        conv = nn.Conv2d(inputs if inputs == 3 else inputs * width, outputs * width, 3, stride, padding=1, bias=False)
        blocks += [conv, nn.BatchNorm2d(outputs * width), nn.ReLU()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(memory_format=torch.channels_last)


def pretrain(
    pictures: Tensor, kinds: tuple[str, ...], epochs: int, temperature: float, seed: int, negatives: bool = True
) -> tuple[nn.Module, list[float]]:
    """Train encoder and projector by two views of each picture; return them and the losses. Negatives may be left out."""
    projector = nn.Sequential(nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 64))  # serves the loss, and is then thrown away
    network, losses = nn.Sequential(encoder(24, seed), projector).to(pictures.device).train(), []
    batches = Batches(pictures, batch_size=128, drop_last=True, device=pictures.device, seed=seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * len(batches))
    for _ in range(epochs):
        for (batch,) in batches:
            views = torch.cat([draw_view(batch, kinds, batches.generator) for _ in range(2)])
            one, two = network(views.contiguous(memory_format=torch.channels_last)).chunk(2)  # (n, 64) each
            loss = nt_xent(one, two, temperature) if negatives else -F.cosine_similarity(one, two).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return network, losses


@torch.no_grad()
def read(features: nn.Module, pictures: Tensor) -> Tensor:
    """Return the features (n, width) of pictures."""
    return torch.cat([features.eval()(part) for part in pictures.split(500)])


# %% 3. What the features are worth
def probe(known: Examples, test: Examples, penalty: float) -> float:
    """Fit logistic regression to features (n, width) and labels, to the end; return its accuracy on others."""
    std, mean = torch.std_mean(known[0], dim=0)
    (x, labels), (queries, right) = [((part - mean) / (std + 1e-6), truth) for part, truth in (known, test)]
    layer = nn.Linear(x.shape[1], 10).to(x.device)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss_and_gradient() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), labels) + penalty / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(loss_and_gradient)
    return (layer(queries).argmax(dim=1) == right).float().mean().item()


def supervise(data: Examples, steps: int, seed: int) -> nn.Module:
    """Train the same encoder with a linear layer on 128 labelled pictures a step, on views that are drawn in the same way."""
    network = nn.Sequential(encoder(24, seed), nn.Linear(96, 10)).to(data[0].device).train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(data[1]), (128,), generator=generator).to(data[1].device)
        views = draw_view(data[0][chosen], VIEWS["both"], generator).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(views), data[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


# %% 4. Without negatives
def mean_cosine(features: Tensor) -> float:
    """The mean cosine between features (n, width) of different pictures: 1 if all point the same way."""
    unit = F.normalize(features, dim=1)
    return ((unit.sum(dim=0).square().sum() - len(unit)) / (len(unit) * (len(unit) - 1))).item()


# %% 5. Neighbours
def draw_neighbours(known: Images, asked: Images, spaces: dict[str, Examples]) -> dict[str, float]:
    """Find 5 known pictures for each asked one, by cosine in each space; draw some, return the shares that are of its class."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(spaces), figsize=(6 * len(spaces), 4.2), layout="constrained")
    found = {}
    for axis, (name, (pool, queries)) in zip(axes, spaces.items(), strict=True):
        std, mean = torch.std_mean(pool, dim=0)
        one, two = (F.normalize((part - mean) / (std + 1e-6), dim=1) for part in (queries, pool))
        nearest = (one @ two.T).topk(5, dim=1).indices.cpu()  # (m, 5)
        found[f"neighbours_{name}"] = (known.labels[nearest] == asked.labels.unsqueeze(1)).float().mean().item()
        rows = torch.cat([asked.images[:4, None], known.images[nearest[:4]]], dim=1)  # (4, 6, 3, 32, 32)
        show_image(axis, F.pad(rows, [1] * 4, value=255).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3))
        axis.set_title(label(*{"pixels": ("by pixels", "픽셀로"), "simclr": ("by features", "특징으로")}[name]))
    save_figure(figure, __file__, "neighbours")
    print("5. of the same class:", ", ".join(f"{name} {share:.3f}" for name, share in found.items()))
    return found


# %% All of it, in order
def main(
    epochs: int = 8, temperature: float = 0.2, views: Literal["both", "crop", "colour"] = "both", labels: int = 20,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train on pictures without labels, and measure what the features are worth.

    Args:
        epochs: How often each network sees its 5,000 pictures, in two views.
        temperature: What cosines are divided by.
        views: What differs between two views of a picture: both, only the crop, or only the colour.
        labels: Labels of each class, where there are few.
        source: Pictures from: auto (CIFAR-10 if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Seed of everything that is drawn.
    """
    check(min(epochs, labels) > 0 < temperature, f"--epochs {epochs} --labels {labels} --temperature {temperature}: all above 0")
    where, data, results = pick_device(device), cifar10(source), {"difference": compare_losses(temperature, seed)[0]}
    parts = hold_out(data.train, 5000, seed)[1], hold_out(data.test, 2000, seed)[1]  # files may be sorted by class
    known, test = (((part.images.to(where).float() / 255 - 0.5) * 4, part.labels.to(where)) for part in parts)
    few = torch.cat([(known[1] == c).nonzero()[:labels, 0] for c in range(10)])  # the order is random already

    def judge(name: str, features: Examples, penalty: float = 0.001) -> None:
        """Probe features of known and test pictures, with all labels and with few."""
        for kind, picked in {name: slice(None), f"{name}_few": few}.items():
            results[kind] = probe((features[0][picked], known[1][picked]), (features[1], test[1]), penalty)
        print(f"   {name:10} {results[name]:.3f} right with all labels, {results[f'{name}_few']:.3f} with {labels} of each class")

    print("3. logistic regression on")
    spaces = {"pixels": (known[0].flatten(1), test[0].flatten(1))}
    judge("pixels", spaces["pixels"], penalty=1.0)  # both chosen on held-out pictures: 3,072 numbers need a short leash
    untrained = encoder(24, seed).to(where)
    with torch.no_grad():
        for part in known[0].split(250):
            untrained(part)  # in train mode: its batch norms should know what comes
    judge("untrained", (read(untrained, known[0]), read(untrained, test[0])))
    network, losses = pretrain(known[0], VIEWS[views], epochs, temperature, seed)
    spaces["simclr"] = read(network[0], known[0]), read(network[0], test[0])
    judge("simclr", spaces["simclr"])
    results |= {"loss": sum(losses[-20:]) / len(losses[-20:]), "cosine": mean_cosine(read(network, test[0]))}
    for name, examples in {"supervised": known, "supervised_few": (known[0][few], known[1][few])}.items():
        labelled = supervise(examples, len(losses), seed)
        results[name] = (read(labelled, test[0]).argmax(dim=1) == test[1]).float().mean().item()
    print(
        f"   the same network trained on labels: {results['supervised']:.3f} with all, {results['supervised_few']:.3f} with few"
    )
    network, losses = pretrain(known[0], VIEWS[views], 1, temperature, seed, negatives=False)
    results |= {"collapsed_cosine": mean_cosine(read(network, test[0])), "collapsed_loss": losses[-1]}
    told = f"cosine of different pictures {results['collapsed_cosine']:.2f}, with negatives {results['cosine']:.2f}"
    print(f"4. without negatives: loss {losses[-1]:.3f} of -1; {told}")
    results |= draw_neighbours(*parts, spaces)
    margin = results["simclr"] - max(results["untrained"], results["pixels"], nearest_mean_accuracy(*parts), 0.1)
    check(margin > 0.03 or views != "both", f"the probe is {margin:+.3f} away from pixels and untrained features: more --epochs?")
    return results


if __name__ == "__main__":
    run(main)
