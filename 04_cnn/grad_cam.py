"""Grad-CAM: where a network looked · Grad-CAM, 신경망이 본 곳

The last feature maps of a network still know where it saw what, and the gradient of a class says how much each map speaks for
it; together they make a heat map. It always looks convincing, so whether it shows what the network goes by has to be tested.
마지막 특징 맵은 무엇을 어디서 보았는지 아직 알고 있고, 클래스의 기울기는 맵마다 그 클래스를 얼마나 편드는지 알려 준다. 둘을
합치면 히트맵이 된다. 히트맵은 언제나 그럴듯해 보이므로, 신경망이 정말 그것을 보고 답했는지는 시험해 보아야 한다.

You will
  1. build Grad-CAM with a hook, equal to what the classifier's weights say, and meet the error everyone meets with hooks
  2. put four pictures together into one, and see whether the heat for a class lies on the quarter where it is
  3. shuffle the trained weights: a heat map that does not mind has never looked at the network
  4. cover the picture piece by piece for a second opinion, and look at the worst mistakes

Before     04_cnn/calibration.py
Run        python -m study run grad_cam            (about 30 s on one CPU core, after importing torch)
You see    0.53 of the heat where it should be, 0.25 with shuffled weights, as by chance; heat_maps.png
Try next   --images 6400: a fifth of the training. First guess what becomes of accuracy, and of the heat in its place; then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import copy
import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, cifar10, mnist, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. A network, and Grad-CAM
def block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Return convolution, batch norm, ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class Network(nn.Module):
    """Four convolutions, the mean over all places, a linear classifier: small, and with 8x8 places left at the end."""

    def __init__(self, channels: int):
        super().__init__()
        self.features = nn.Sequential(*block(channels, 32, 2), *block(32, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64))
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)  # (batch, 3, 32, 32) → (batch, 64, 8, 8); four pictures in one, 64x64 → (batch, 64, 16, 16)
        return self.classifier(maps.mean(dim=(2, 3)))  # (batch, 64) → logits (batch, 10)


def prepare(images: Tensor) -> Tensor:
    """Turn bytes (n, channels, height, width) into numbers around 0: each picture less its mean, by its standard deviation."""
    std, mean = torch.std_mean(images.float(), dim=(1, 2, 3), keepdim=True)
    return (images - mean) / std.clamp_min(1)


def train(x: Tensor, labels: Tensor, images: int, lr: float, seed: int) -> Network:
    """Show a new network `images` of the pictures x, in random order; return it in eval mode."""
    torch.manual_seed(seed)  # for weights and batches
    network, steps = Network(x.shape[1]).to(x.device), images // 32
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(x), (32,)).to(x.device)
        loss = F.cross_entropy(network(prepare(x[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def grad_cam(network: nn.Module, x: Tensor, classes: Tensor, layer: str = "features") -> Tensor:
    """Say where the maps of a layer speak for a class.

    Args:
        network: In eval mode, so that no picture's answer depends on the others.
        x: Prepared pictures (n, channels, ...).
        classes: (n,) the class that each picture is asked about.
        layer: Name of the module that gives the maps (n, maps, height, width).

    Returns:
        Heat maps (n, height, width), nowhere below 0.
    """
    kept = []  # the hook is called after the module's forward, with what it was given and what it returns
    handle = network.get_submodule(layer).register_forward_hook(lambda module, given, maps: kept.append(maps))
    try:
        logits = network(x)  # (n, 10)
    finally:
        handle.remove()  # or it would go on keeping, in every later forward pass
    score = logits.gather(1, classes.unsqueeze(1)).sum()  # a picture's maps touch its own logit only: one backward for all
    (gradients,) = torch.autograd.grad(score, kept)  # (n, maps, height, width), and nothing is added to any .grad
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (n, maps, 1, 1): how much more of a map would raise the logit
    return (weights * kept[0]).sum(dim=1).relu().detach()  # what speaks against the class is left out


@torch.no_grad()
def class_activation(network: Network, x: Tensor, classes: Tensor) -> Tensor:
    """Return the same without hook and gradient: after a mean over all places, the classifier's weights are the gradient."""
    maps = network.features(x)  # (n, 64, height, width)
    weights = network.classifier.weight[classes] / maps[0, 0].numel()  # (n, 64): d logit / d one place of a map
    return torch.einsum("nk,nkhw->nhw", weights, maps).relu()


def meet_error() -> str:
    """Hang a backward hook on a layer that is followed by a ReLU in place; return PyTorch's answer."""
    layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    layers[0].register_full_backward_hook(lambda module, gradients_in, gradients_out: None)
    try:
        layers(torch.zeros(1, 4))
    except RuntimeError as error:
        print(f'   "{str(error).partition(". ")[0]}": the ReLU writes over what the hook must see; do without inplace=True')
        return str(error)


# %% 2. Is the heat where the object is?
def four_in_one(x: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Put pictures of four classes together, `count` times; return (count, channels, 2h, 2w), and their classes (count, 4)."""
    generator = torch.Generator().manual_seed(seed)
    places = [(labels == c).nonzero().flatten() for c in labels.unique()]  # of each class that there is
    chosen = torch.stack([torch.randperm(len(places), generator=generator)[:4] for _ in range(count)])  # (count, 4)
    picks = [[places[c][torch.randint(len(places[c]), (), generator=generator)] for c in row] for row in chosen.tolist()]
    index = torch.tensor(picks, device=x.device)
    a, b, c, d = x[index].unbind(dim=1)  # (count, channels, h, w) each
    return torch.cat([torch.cat([a, b], dim=3), torch.cat([c, d], dim=3)], dim=2), labels[index]


def heat_in_place(network: Network, four: Tensor, classes: Tensor) -> Tensor:
    """Return which share of the heat for each class lies on its own quarter, (count, 4); a quarter of it would be chance."""
    shares = []
    for k in range(4):  # 0 above left, 1 above right, 2 below left, 3 below right
        heat = grad_cam(network, four, classes[:, k])  # (count, 2h, 2w)
        quarters = torch.stack([half for row in heat.chunk(2, dim=1) for half in row.chunk(2, dim=2)], dim=1)
        mass = quarters.sum(dim=(2, 3))  # (count, 4)
        shares.append((mass[:, k] / mass.sum(dim=1)).nan_to_num(0.25))  # no heat at all says nothing
    return torch.stack(shares, dim=1)


# %% 3. Does the map depend on what was learned?
def shuffled(network: Network, seed: int) -> Network:
    """Return a copy with the numbers of every weight in another order: of the same sizes, and ignorant."""
    network, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return network


# %% 4. A second opinion
@torch.no_grad()
def occlusion(network: nn.Module, x: Tensor, classes: Tensor, size: int = 8, stride: int = 4) -> Tensor:
    """Cover place after place with a grey square; return how far the class's log-probability falls, (n, rows, columns)."""
    own = torch.arange(len(x)), classes
    before = network(x).log_softmax(dim=1)[own]  # (n,)
    tops, lefts = (range(0, side - size + 1, stride) for side in x.shape[2:])
    falls = []
    for top, left in itertools.product(tops, lefts):
        covered = x.clone()
        covered[:, :, top : top + size, left : left + size] = 0  # the picture's own mean
        falls.append(before - network(covered).log_softmax(dim=1)[own])
    return torch.stack(falls, dim=1).unflatten(1, (len(tops), len(lefts)))


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation of each map (n, h, w) with its fellow: 1 if they put all places in the same order."""
    ranks = [maps.flatten(start_dim=1).argsort(dim=1).argsort(dim=1).double() for maps in (a, b)]  # (n, h·w)
    one, other = (F.normalize(rank - rank.mean(dim=1, keepdim=True), dim=1) for rank in ranks)
    return (one * other).sum(dim=1)


def draw_figure(mistakes: list, four: Tensor, heats: dict[str, Tensor]) -> None:
    """Draw mistakes: pictures (6, channels, h, w), titles, two heat maps of each; then four in one, and its heat by title."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, 6, figsize=(10, 7.4), layout="constrained", subplot_kw={"xticks": [], "yticks": []})

    def show(axis, picture: Tensor, title: str, heat: Tensor | None = None) -> None:
        axis.imshow(picture.permute(1, 2, 0).cpu().numpy(), cmap="gray")
        if heat is not None:
            low, high = ((picture.shape[1] - 1) / 2 + way * 2 * len(heat) for way in (-1, 1))  # places lie 4 pixels apart
            axis.autoscale(False)
            axis.imshow(heat.cpu().numpy(), cmap="inferno", alpha=0.6, extent=(low, high, high, low), interpolation="bilinear")
        axis.set_title(title, fontsize=8)

    for column, (picture, title, cam, covered) in zip(axes.T, zip(*mistakes, strict=True), strict=False):
        for axis, name, heat in zip(column, (title, "Grad-CAM", label("covering", "가리기")), (None, cam, covered), strict=False):
            show(axis, picture, name, heat)
    for axis, (title, heat) in zip(axes[3], {"": None, **heats}.items(), strict=True):
        show(axis, four, title, heat)
    save_figure(figure, __file__, "heat_maps")


# %% All of it, in order
def main(
    data: Literal["cifar10", "mnist"] = "cifar10", images: int = 32_000, lr: float = 0.05, pictures: int = 200,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Build Grad-CAM, test whether it shows what the network goes by, and look at the worst mistakes.

    Args:
        data: cifar10, or what stands in for it where it is missing; mnist.
        images: Pictures that the network sees in training.
        lr: The highest learning rate.
        pictures: How many heat maps each test is made with.
        source: auto (the real pictures if they are there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Seed of everything that is drawn.
    """
    check(min(images // 64, pictures) > 0, f"--images {images} --pictures {pictures}: needed are 64 and 1, or more")
    where, loaded = pick_device(device), {"cifar10": cifar10, "mnist": mnist}[data](source)
    network = train(loaded.train.images.to(where), loaded.train.labels.to(where), images, lr, seed)
    test, labels, names = loaded.test.images.to(where), loaded.test.labels.to(where), loaded.classes
    with torch.no_grad():
        sure, answers = torch.cat([network(prepare(part)) for part in test.split(250)]).softmax(dim=1).max(dim=1)  # (n,) each
    accuracy = (right := answers == labels).float().mean().item()
    baseline = max(nearest_mean_accuracy(loaded.train, loaded.test), labels.bincount().max().item() / len(labels))
    check(1 - accuracy < 0.8 * (1 - baseline), f"{accuracy:.1%} right, the simplest rule {baseline:.1%}: more --images?")
    chosen = right.nonzero().flatten()[:: max(1, int(right.sum()) // pictures)][:pictures]  # from all over: files lie by class
    x, asked = prepare(test[chosen]), labels[chosen]
    cam = grad_cam(network, x, asked)  # (pictures, 8, 8)
    difference = (cam - class_activation(network, x, asked)).abs().max().item()
    print(f"1. {accuracy:.3f} right; Grad-CAM by a hook and by the classifier's weights differ by {difference:.0e}")
    meet_error()
    ignorant, (four, classes) = shuffled(network, seed), four_in_one(test[right], labels[right], pictures, seed)
    in_place, by_chance = (heat_in_place(each, prepare(four), classes).mean().item() for each in (network, ignorant))
    print(f"2. four in one: {in_place:.3f} of the heat on the right quarter, chance 0.25\n3. weights shuffled: {by_chance:.3f}")
    covered = occlusion(network, x, asked)  # (pictures, 7, 7)
    small, theirs = (F.adaptive_avg_pool2d(maps, covered.shape[1:]) for maps in (cam, grad_cam(ignorant, x, asked)))
    pairs = {"own": (small, covered), "other": (small, covered.roll(len(x) // 2, dims=0)), "shuffled": (theirs, covered)}
    agreement = {f"agreement_{name}": rank_correlation(*pair).mean().item() for name, pair in pairs.items()}
    told = "rank correlation with covering {:.2f}; with covering another picture {:.2f}; if weights are shuffled {:.2f}"
    print("4. " + told.format(*agreement.values()))
    worst = (sure * ~right).topk(6).indices  # the surest of the wrong
    x, asked, first = prepare(test[worst]), answers[worst], prepare(four[:1])
    titles = [f"{names[labels[i]]} → {names[answers[i]]} {sure[i]:.2f}" for i in worst]
    print("   the surest mistakes: " + ", ".join(titles))
    heats = {names[c]: grad_cam(network, first, c.view(1))[0] for c in classes[0]}
    heats[label("shuffled", "섞은 가중치")] = grad_cam(ignorant, first, classes[0, :1])[0]
    draw_figure([test[worst], titles, grad_cam(network, x, asked), occlusion(network, x, asked).relu()], four[0], heats)
    results = {"accuracy": accuracy, "baseline_accuracy": baseline, "in_place": in_place, "in_place_shuffled": by_chance}
    return {**results, **agreement, "difference_by_hand": difference}


if __name__ == "__main__":
    run(main)
