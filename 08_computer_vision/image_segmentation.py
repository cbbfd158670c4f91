"""Image segmentation: a U-Net · 이미지 분할: U-Net

A class for every pixel: the network shrinks the picture to see what is there, grows it again to say where, and on each level
hands over what it saw before shrinking. Pixel accuracy does not tell how good it is: sky and road are easy, and large.
픽셀마다 클래스를 매긴다. 신경망은 이미지를 줄여 가며 무엇이 있는지 알아내고 다시 키우며 어디에 있는지 답하는데, 단계마다 줄이기
전에 본 것을 건네준다. 얼마나 잘하는지는 픽셀 정확도로 알 수 없다. 하늘과 도로는 쉬운 데다 넓기 때문이다.

You will
  1. write a U-Net out, and meet the error everyone meets: sizes that cannot be halved
  2. write out the loss per pixel, the confusion matrix and IoU, equal to second computations; and see accuracy deceive
  3. measure what the skip connections buy, at boundaries and far from them, over seeds
  4. train it for longer, and look at each class

Before     04_cnn/image_classification.py, 06_advanced/skip_connections.py
Run        python -m study run image_segmentation      (about 45 s on one CPU core, after importing torch)
You see    wrong at boundaries: 0.44 with skips, 0.59 without; mIoU 0.53, "all background" 0.27 with 81 % right; masks.png
Try next   --comparison-steps 360 --seeds 1: first guess whether, trained longer, boundaries without skips become as good as with
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, camvid, scenes_with_masks
from utils.datasets.boxes import IGNORED, Masked, SegmentationData
from utils.device import keep_memory, pick_device
from utils.lesson import check, run
from utils.mask_augmentation import crop_and_zoom
from utils.plotting import label, save_figure
from utils.segmentation_scores import pixel_accuracy, wrong_by_distance

RINGS = (1, 2, 4, 8)  # distances to the next boundary, in pixels
PLACES = [f"≤ {ring}" for ring in RINGS] + [f"> {RINGS[-1]}"]


# Channels of each level, pieces shown in training, highest rate, zoom, whether mirrored. SAMPLE's chosen on validation scenes.
SAMPLE = SimpleNamespace(widths=(8, 16, 32, 64, 96), crop=(64, 64), lr=0.01, zoom=1.0, flip=False)
CAMVID = SimpleNamespace(widths=(16, 32, 64, 96, 128), crop=(128, 160), lr=0.003, zoom=1.5, flip=True)


def draw_scenes() -> SegmentationData:
    """Scenes with three classes: telling ten kinds of objects apart would take longer than a minute."""
    data, groups = scenes_with_masks(1000, 0, 300, size=64), torch.tensor([0, *[1] * 5, *[2] * 5], dtype=torch.uint8)
    known, test = (Masked(part.images, groups[part.masks.long()]) for part in (data.train, data.test))
    return replace(data, train=known, test=test, classes=["background", "shape", "digit"])


# %% 1. The network
def convolve(inputs: int, outputs: int) -> nn.Sequential:
    """Twice convolution, norm, ReLU, the size kept."""
    first, second = (nn.Conv2d(channels, outputs, 3, padding=1, bias=False) for channels in (inputs, outputs))
    return nn.Sequential(first, nn.BatchNorm2d(outputs), nn.ReLU(), second, nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Pictures (n, 3, height, width) → logits (n, classes, height, width), of any size (Ronneberger et al., 2015)."""

    def __init__(self, classes: int, widths: tuple[int, ...], skips: bool = True):
        super().__init__()
        self.skips = skips
        self.down = nn.ModuleList(convolve(inputs, outputs) for inputs, outputs in pairwise((3, *widths)))
        self.up = nn.ModuleList(convolve(above + below, above) for above, below in pairwise(widths))
        self.classify = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = []
        for level, layers in enumerate(self.down):
            x = layers(F.max_pool2d(x, 2) if level else x)  # 180x240 → 90x120 → 45x60 → 22x30 → 11x15
            seen.append(x)
        x = seen.pop()  # the bottleneck: few places, many channels
        for layers in reversed(self.up):
            skip = seen.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear")  # to the size of the skip: 22 becomes 45, not 44
            x = layers(torch.cat([skip if self.skips else torch.zeros_like(skip), x], dim=1))
        return self.classify(x)


def meet_error() -> str:
    """Halve a picture of 45x60, double it, and lay it beside what it was; return PyTorch's answer."""
    x = torch.zeros(1, 8, 45, 60)
    try:
        torch.cat([x, F.interpolate(F.max_pool2d(x, 2), scale_factor=2)], dim=1)
    except RuntimeError as error:
        print(f'1. "{error}"\n   read: 45 was halved to 22, and doubled that is 44. Enlarge to the size of the skip, not by 2')
        return str(error)


# %% 2. Loss and scores
def pixel_loss(logits: Tensor, masks: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of logits (n, classes, h, w) and masks (n, h, w), weighted by class: the mean of what is not IGNORED."""
    counted = masks != IGNORED
    targets = masks.masked_fill(~counted, 0).long()  # gather needs a class, even where it will not count
    losses = -logits.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]  # (n, h, w)
    return (losses * weights[targets] * counted).sum() / (weights[targets] * counted).sum()


def confusion_matrix(answers: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Count how often each class (rows) got each answer (columns); what is IGNORED does not count."""
    counted = masks != IGNORED
    pairs = masks[counted].long() * classes + answers[counted]  # one number for each pair of truth and answer
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).cpu()


def iou(counts: Tensor) -> Tensor:
    """Intersection over union of each class: pixels that are both of it and called so, among those that are one or the other."""
    both = counts.diagonal().double()
    return both / (counts.sum(dim=0) + counts.sum(dim=1) - both)  # 0 / 0 for a class that is nowhere: NaN


def compare(classes: int, seed: int) -> tuple[float, float]:
    """Return how far the loss is from PyTorch's, and IoU from IoU of sets of pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, 24, 32, generator=generator, dtype=torch.float64)
    masks = torch.randint(classes, (3, 24, 32), generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = IGNORED
    weights, answers, off = torch.rand(classes, generator=generator, dtype=torch.float64), logits.argmax(dim=1), []
    for c, ours in enumerate(iou(confusion_matrix(answers, masks, classes))):
        found, there = (set((one & (masks != IGNORED)).flatten().nonzero()[:, 0].tolist()) for one in (answers == c, masks == c))
        off.append(abs(ours.item() - len(found & there) / len(found | there)))
    loss_off = (pixel_loss(logits, masks, weights) - F.cross_entropy(logits, masks, weights, ignore_index=IGNORED)).abs().item()
    print(f"2. off from PyTorch's loss by {loss_off:.0e}, from IoU of sets of pixels by {max(off):.0e}")
    return loss_off, max(off)


def score_baselines(train: Masked, test: Masked, classes: int) -> dict[str, tuple[float, float]]:
    """Return pixel accuracy and mIoU of rules that see no shape."""
    seen = torch.stack([train.masks == c for c in range(classes)])  # (classes, n, h, w)
    there = seen.sum(dim=1)  # (classes, h, w): how often at each place
    means = torch.stack([train.images.movedim(1, -1)[one].float().mean(dim=0) for one in seen])  # (classes, 3)
    pixels = test.images.movedim(1, -1).flatten(1, 2).float()  # (n, h · w, 3)
    answers = {
        "the most frequent class at each place": there.argmax(dim=0).expand_as(test.masks),
        "the nearest mean colour": torch.stack([torch.cdist(one, means).argmin(dim=1) for one in pixels]).view_as(test.masks),
    }
    found = {}
    for name, answer in answers.items():
        counts = confusion_matrix(answer, test.masks, classes)
        found[name] = pixel_accuracy(counts), iou(counts).nanmean().item()
        print(f"   {name:37} {found[name][0]:.3f} of the pixels right, mIoU {found[name][1]:.3f}")
    return found


# %% 3. Training, and where the errors are
def prepare(images: Tensor) -> Tensor:
    """Turn bytes into numbers around 0, each picture less its mean and by its spread: dusk and noon look more alike."""
    return F.layer_norm(images.float(), images.shape[1:])


def train(recipe: SimpleNamespace, data: Masked, classes: int, skips: bool, steps: int, seed: int) -> UNet:
    """Train on 8 pictures a step; rare classes weigh more, by the root of how rare they are (see segmentation_losses.py)."""
    torch.manual_seed(seed)  # the same weights with skips and without
    generator, where = torch.Generator().manual_seed(seed), data.images.device
    network = UNet(classes, recipe.widths, skips).to(where, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps, pct_start=0.2)
    weights = torch.stack([(data.masks == c).sum() for c in range(classes)]).clamp(min=1) ** -0.5
    for _ in range(steps):
        batch = torch.randint(len(data.images), (8,), generator=generator).to(where)
        pictures = prepare(data.images[batch]), data.masks[batch]
        images, masks = crop_and_zoom(*pictures, recipe.crop, recipe.zoom, recipe.flip, generator)
        loss = F.cross_entropy(network(images), masks, weights, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def answer(network: nn.Module, images: Tensor) -> Tensor:
    """Return the likeliest class of each pixel (n, h, w)."""
    return torch.cat([network(prepare(some)).argmax(dim=1) for some in images.split(20)])


# %% All of it, in order
def draw(images: Tensor, rows: dict[str, Tensor], wrong: dict[str, Tensor], classes: int) -> None:
    """Draw pictures with masks and answers, and the share of wrong pixels by their distance to a boundary."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(13, 6), layout="constrained")
    pictures, curves = figure.subfigures(1, 2, width_ratios=(2, 1))
    grid = pictures.subplots(len(rows) + 1, len(images), squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for i, picture in enumerate(images.cpu()):
        grid[0][i].imshow(picture.movedim(0, -1).numpy())
        for axis, (name, masks) in zip(grid[1:, i], rows.items(), strict=True):
            axis.imshow(masks[i].cpu().numpy(), "tab20", vmin=0, vmax=classes, interpolation="nearest")  # IGNORED: last colour
            axis.set_ylabel("" if i else name)
    axis = curves.subplots()
    for kind, shares in wrong.items():
        axis.errorbar(PLACES, shares.mean(dim=0), shares.std(dim=0, correction=0), marker="o", label=kind)
    axis.set(xlabel=label("pixels to a boundary", "경계까지 픽셀 수"), ylabel=label("share that is wrong", "틀린 비율"))
    axis.legend()
    save_figure(figure, __file__, "masks")


def main(
    source: Source = "sample", steps: int = 360, comparison_steps: int = 120, seeds: int = 2, threads: int = 1,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Give every pixel a class, and measure what the skip connections of a U-Net buy.

    Args:
        source: sample (scenes drawn here), real (CamVid: each step takes ten times as long), auto (CamVid if it is there).
        steps: Steps of the network that is shown.
        comparison_steps: Steps of each network with and without skips.
        seeds: Networks with and without skips.
        threads: CPU cores to work on.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(steps, comparison_steps) > 9 and min(seeds, threads) > 0, "--steps and --comparison-steps: at least 10; others: 1")
    torch.set_num_threads(threads)
    if threads > 1:  # a long run on large tensors
        keep_memory()
    where, data = pick_device(device), camvid(source) or draw_scenes()
    recipe, classes = CAMVID if data.is_real else SAMPLE, len(data.classes)
    known, test = (Masked(part.images.to(where), part.masks.to(where)) for part in (data.train, data.test))
    meet_error()
    compare(classes, seed)
    results = {"baseline_miou": max(mean for _, mean in score_baselines(known, test, classes).values())}
    wrong, rows = {}, {label("mask", "마스크"): test.masks}
    print(f"3. wrong by distance to a boundary in pixels, {comparison_steps} steps, seeds {seeds}: " + ", ".join(PLACES))
    for kind, skips in {"with skips": True, "without": False}.items():
        networks = (train(recipe, known, classes, skips, comparison_steps, one) for one in range(seed, seed + seeds))
        answers = [answer(network, test.images) for network in networks]
        wrong[kind], rows[kind] = torch.tensor([wrong_by_distance(one, test.masks, RINGS) for one in answers]), answers[0]
        by, mean = torch.std_mean(wrong[kind], dim=0, correction=0)
        print(f"   {kind:10} " + ", ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, by, strict=True)))
        results |= {f"wrong_at_boundary_{kind.replace(' ', '_')}": mean[0].item()}
    rows[label("longer", "더 오래")] = answers = answer(train(recipe, known, classes, True, steps, seed), test.images)
    counts = confusion_matrix(answers, test.masks, classes)
    results |= {"miou": iou(counts).nanmean().item(), "pixel_accuracy": pixel_accuracy(counts)}
    print("4. {} steps: {pixel_accuracy:.3f} of the pixels right, mIoU {miou:.3f}; IoU and share".format(steps, **results))
    for name, score, share in zip(data.classes, iou(counts), counts.sum(dim=1) / counts.sum(), strict=True):
        print(f"   {name:12} {score:.3f} {share:6.1%}")
    print(f"   wrong by distance: {', '.join(f'{one:.3f}' for one in wrong_by_distance(answers, test.masks, RINGS))}")
    some = torch.linspace(0, len(test.images) - 1, 4).long().to(where)
    draw(test.images[some], {name: masks[some] for name, masks in rows.items()}, wrong, classes)
    check(results["miou"] > results["baseline_miou"] + 0.1, "a rule that sees no shape is nearly as good: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
