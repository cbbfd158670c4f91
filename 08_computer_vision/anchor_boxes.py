"""Anchor boxes: which boxes to start from · 앵커 박스: 어떤 박스에서 출발할까

A detector with anchors lays the same few boxes over every cell of a grid and learns to correct those that nearly hold an object.
So anchors decide what it can learn: an object that none of them resembles is hardly ever an example of anything.
앵커를 쓰는 검출기는 격자의 칸마다 똑같은 박스 몇 개를 놓고, 물체와 거의 맞는 박스를 고쳐 쓰는 법을 배운다.
그래서 무엇을 배울 수 있는지는 앵커가 정한다. 어떤 앵커와도 닮지 않은 물체는 학습 예제가 되는 일이 거의 없다.

You will
  1. find anchors by k-means with 1 - IoU as its distance, and hold them against Euclid's, the logarithm's and borrowed ones
  2. tile them over grids of three strides, equal to torchvision's AnchorGenerator
  3. count the objects that no anchor reaches, and find out what the places between two cells cost
  4. make the mistake everyone makes, anchors for pictures of another size, and see what grids without anchors do without

Before     08_computer_vision/object_detection.py
Run        python -m study run anchor_boxes        (about 7 s on one CPU core, after importing torch)
You see    the distance hardly matters: 0.873 against 0.869; borrowed anchors miss 52 %, pictures of half the size cost 42 %
Try next   --per-grid 1: first guess how many objects a third of the anchors still reach
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from utils.datasets.detection import bccd
from utils.datasets.scenes import draw_scenes
from utils.datasets.sources import Source
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure

STRIDES = (8, 16, 32)
ZOOMS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
BORROWED = torch.tensor(  # the nine of YOLOv3, found on COCO's streets and kitchens: width and height for pictures of 416 px
    [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)]
)


class Truth(NamedTuple):
    """Boxes x1 y1 x2 y2 in pixels: all of the training pictures (n, 4); of each test picture (m, 4), its height and width."""

    known: Tensor
    boxes: list[Tensor]
    sizes: list[tuple[int, int]]


def load(pictures: int, source: Source, seed: int) -> dict[str, Truth]:
    """Return the boxes of our scenes, and those of blood cells where BCCD is there."""
    train, test = draw_scenes(pictures, seed), draw_scenes(pictures, seed, split="test")
    mention("data", f"sample: boxes of {pictures} + {pictures} scenes, 128x128, drawn here")
    found = {"scenes": Truth(torch.cat(train.boxes), test.boxes, [(128, 128)] * pictures)}
    if (cells := bccd(source, size=320)) is not None:
        sizes = [tuple(image.shape[1:]) for image in cells.test.images]
        found["BCCD"] = Truth(torch.cat(cells.train.boxes), cells.test.boxes, sizes)
    return found


def width_height(boxes: Tensor) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2]


# %% 1. Which anchors?
def size_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of boxes with a common centre, from widths and heights (n, 2) and (k, 2): (n, k)."""
    intersection = torch.minimum(sizes[:, None], anchors).prod(dim=-1)
    return intersection / (sizes.prod(dim=-1)[:, None] + anchors.prod(dim=-1) - intersection)


def distance(sizes: Tensor, anchors: Tensor, how: str) -> Tensor:
    """How far sizes (n, 2) are from anchors (k, 2): (n, k). To "log", 10 is as far from 20 as 100 from 200."""
    if how == "iou":
        return 1 - size_iou(sizes, anchors)
    return torch.cdist(sizes, anchors) if how == "euclid" else torch.cdist(sizes.log(), anchors.log())


def find_anchors(sizes: Tensor, k: int, how: str, seed: int, starts: int = 10) -> Tensor:
    """k-means: give each box to the nearest anchor, move each anchor to the mean of its boxes, until nothing changes.

    With 1 - IoU it is YOLOv2's recipe (Redmon and Farhadi, 2017). The mean size of some boxes is not the size nearest to them by
    IoU, so the cost may rise on the way; the best of several starts is kept.

    Args:
        sizes: (n, 2), width and height.
        k: How many anchors.
        how: The distance: iou, euclid, log.
        seed: Of the boxes to start from.
        starts: How many times.

    Returns:
        (k, 2), the smallest area first.
    """
    check(k <= len(sizes), f"{k} anchors cannot be found from {len(sizes)} boxes: fewer --per-grid, or more --pictures")
    generator, best, least = torch.Generator().manual_seed(seed), sizes[:k], math.inf
    for _ in range(starts):
        anchors, before = sizes[torch.randperm(len(sizes), generator=generator)[:k]], torch.empty(0)
        for _ in range(300):
            nearest = distance(sizes, anchors, how).argmin(dim=1)  # (n,)
            if torch.equal(nearest, before):
                break
            before = nearest
            for i in nearest.unique():  # an anchor that is nearest to nothing stays where it is
                own = sizes[nearest == i]
                anchors[i] = own.log().mean(dim=0).exp() if how == "log" else own.mean(dim=0)
        cost = distance(sizes, anchors, how).amin(dim=1).pow(1 if how == "iou" else 2).mean().item()
        if cost < least:
            best, least = anchors, cost
    return best[best.prod(dim=1).argsort()]


def compare_anchors(name: str, truth: Truth, k: int, seed: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Find anchors of each kind on the training boxes and judge them on the test boxes, each laid where the box is.

    Returns:
        The anchors (k, 2); then of the IoU of each box with its best anchor: the mean, and the share of 0.7 and more among the
        tenth of the boxes that is smallest.
    """
    known, sizes = width_height(truth.known), width_height(torch.cat(truth.boxes))
    kinds = {how: find_anchors(known, k, how, seed) for how in ("iou", "euclid", "log")}
    kinds["borrowed"], found = BORROWED / 416 * max(truth.sizes[0]), {}
    small = sizes.prod(dim=1) <= sizes.prod(dim=1).quantile(0.1)
    for how, anchors in kinds.items():
        best = size_iou(sizes, anchors).amax(dim=1)
        found[f"{name}_{how}_mean"], found[f"{name}_{how}_small"] = best.mean().item(), (best[small] >= 0.7).float().mean().item()
        print(f"1. {name}, {len(anchors)} anchors, {how:8}: mean IoU {best.mean():.3f}", end=", ")
        print(f"0.7 and more for {found[f'{name}_{how}_small']:.2f} of the smallest boxes")
    return kinds, found


# %% 2. Where?
def tile(anchors: Tensor, height: int, width: int) -> Tensor:
    """Lay anchors (3 a, 2), the smallest first, on the middle of every cell: the finest grid gets the first a, and so on.

    Returns:
        (N, 4), x1 y1 x2 y2 in pixels: by stride, row, column, anchor. Some reach out of the picture.
    """
    tiled = []
    for stride, sizes in zip(STRIDES, anchors.chunk(len(STRIDES)), strict=True):
        y, x = (torch.arange(stride / 2, math.ceil(length / stride) * stride, stride) for length in (height, width))
        centres = torch.cartesian_prod(y, x).flip(1)[:, None]  # (cells, 1, 2)
        tiled.append(torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1).flatten(0, 1))  # (cells · a, 4)
    return torch.cat(tiled)


def compare_tiles(anchors: Tensor) -> float:
    """Return by how much tiles differ from torchvision's, in pixels; those lie on the upper left corner of each cell."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    generator, grids = AnchorGenerator(((1,),) * len(STRIDES)), [[96 // stride, 128 // stride] for stride in STRIDES]
    generator.cell_anchors = [torch.cat([-sizes / 2, sizes / 2], dim=1) for sizes in anchors.chunk(len(STRIDES))]
    theirs = generator.grid_anchors(grids, [[torch.tensor(stride)] * 2 for stride in STRIDES])
    middle = torch.cat([boxes + stride / 2 for boxes, stride in zip(theirs, STRIDES, strict=True)])
    off = (tile(anchors, 96, 128) - middle).abs().max().item()
    print(f"2. a picture of 128x96 px gets {len(middle):,} anchors; moved to the middle, torchvision's are {off:.0e} px away")
    return off


# %% 3. What they reach
def reach(anchors: Tensor, truth: Truth, times: float = 1.0) -> tuple[float, float]:
    """Show pictures `times` as large; return the mean IoU of truths with their best anchor, and the share that has below 0.5."""
    from torchvision.ops import box_iou

    pictures = zip(truth.boxes, truth.sizes, strict=True)
    tiles = [(boxes * times, tile(anchors, *(round(side * times) for side in size))) for boxes, size in pictures if len(boxes)]
    best = torch.cat([box_iou(boxes, tiled).amax(dim=1) for boxes, tiled in tiles])  # (truths,)
    return best.mean().item(), (best < 0.5).float().mean().item()


def compare_reach(name: str, kinds: dict[str, Tensor], truth: Truth) -> dict[str, float]:
    """Return what anchors of each kind reach from the places where they lie."""
    found = {}
    for how, anchors in kinds.items():
        mean, missed = reach(anchors, truth)
        print(f"3. {name}, {how:8}: mean IoU {mean:.3f} from the middle of a cell; no anchor reaches {missed:.4f} of the truths")
        found |= {f"{name}_{how}_tiled": mean, f"{name}_{how}_missed": missed}
    return found


# %% 4. Pictures of another size
def holds_no_centre(boxes: Tensor, stride: int) -> Tensor:
    """Say of each box (n, 4) whether no cell has its middle in it (n,): with one, a grid without anchors is content."""
    x1, y1, x2, y2 = (boxes / stride - 0.5).T  # in cells; middles lie where both numbers are whole
    return (x1.ceil() > x2.floor()) | (y1.ceil() > y2.floor())


def zoom(name: str, anchors: Tensor, truth: Truth) -> dict[float, tuple[float, float]]:
    """Leave the anchors as they are, and change the size of the pictures.

    Returns:
        For each factor the share of truths that no anchor reaches, and of those in which no cell of stride 8 has its middle.
    """
    found = {}
    for times in ZOOMS:
        empty = holds_no_centre(torch.cat(truth.boxes) * times, STRIDES[0])
        found[times] = reach(anchors, truth, times)[1], empty.float().mean().item()
    print(f"4. {name}, pictures {', '.join(f'{times:g}' for times in found)} times as large. There is no message, but")
    for side, what in enumerate(("no anchor reaches a share of", "no cell lies in a share of  ")):
        print(f"   {what} " + ", ".join(f"{pair[side]:.2f}" for pair in found.values()))
    return found


# %% All of it, in order
def draw(name: str, kinds: dict[str, Tensor], truth: Truth, reached: dict[float, tuple[float, float]]) -> None:
    """Draw the sizes of boxes with the anchors, and what is not reached in pictures of other sizes."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    sizes = width_height(truth.known)
    left.plot(*sizes.T, ".", color="0.85", label=label("boxes", "박스"))
    for (how, anchors), sign in zip(kinds.items(), "os^x", strict=True):
        left.plot(*anchors.T, sign, label=how, fillstyle="none")
    limits = (0, 1.1 * sizes.max().item())
    left.set(xlabel=label("width in pixels", "너비(픽셀)"), ylabel=label("height", "높이"), xlim=limits, ylim=limits)
    names = label("no anchor reaches it", "닿는 앵커가 없다"), label("no cell lies in it", "안에 칸이 없다")
    for side, what in enumerate(names):
        right.plot(range(len(ZOOMS)), [pair[side] for pair in reached.values()], "o-", label=what)
    right.set(xlabel=label("times as large", "배율"), ylabel=label("share of truths", "정답 박스의 비율"))
    right.set_xticks(range(len(ZOOMS)), [f"{times:g}" for times in ZOOMS])
    for axis in (left, right):
        axis.legend()
    save_figure(figure, __file__, f"anchors_{name.lower()}")


def main(per_grid: int = 3, pictures: int = 300, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Find anchors, lay them out, and count what they reach.

    Args:
        per_grid: Anchors in a cell, for each of the three grids.
        pictures: Scenes to find anchors with, and as many others to count on.
        source: auto (blood cells too if BCCD is there), real (BCCD has to be there), sample (scenes only).
        seed: Of the scenes and of k-means.
    """
    check(per_grid > 0 and pictures >= 10, "--per-grid: at least 1; --pictures: at least 10")
    results = {}
    for name, truth in load(pictures, source, seed).items():
        kinds, found = compare_anchors(name, truth, len(STRIDES) * per_grid, seed)
        results |= found | {"off": compare_tiles(kinds["iou"])} | compare_reach(name, kinds, truth)
        reached = zoom(name, kinds["iou"], truth)
        for times, (missed, empty) in reached.items():
            results |= {f"{name}_missed_at_{times:g}": missed, f"{name}_empty_at_{times:g}": empty}
        draw(name, kinds, truth, reached)
        check(results["off"] < 1e-4, f"tiles are {results['off']:.1g} px off torchvision's")
        fewer = results[f"{name}_iou_missed"] < results[f"{name}_borrowed_missed"]
        check(fewer, f"{name}: anchors of its own reach no more than borrowed ones: more --per-grid?")
    return results


if __name__ == "__main__":
    run(main)
