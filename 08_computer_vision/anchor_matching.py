"""Matching anchors: what each of them learns · 앵커 매칭: 앵커마다 무엇을 배울까

A thousand anchors lie over a picture of four objects. Matching says which of them are examples of an object, which of background
and which of nothing; encoding says by how much each example is to be moved and stretched, in numbers that are easy to learn.
물체가 네 개인 그림 위에 앵커가 천 개 놓여 있다. 매칭은 어느 앵커가 물체의 예제이고 어느 것이 배경이며 어느 것을 무시할지 정한다.
인코딩은 예제마다 얼마나 옮기고 늘려야 하는지를 배우기 쉬운 수로 나타낸다.

You will
  1. match anchors by IoU, equal to torchvision's Matcher, and meet the objects that its rule forgets
  2. count examples: how many anchors of background there are for each of an object, by the thresholds of three papers
  3. turn boxes into offsets and back, equal to torchvision's BoxCoder, and see where its weights 10 and 5 come from
  4. do the same without anchors: cells and distances, equal to torchvision's BoxLinearCoder
  5. meet the error everyone makes: a picture without an object

Before     08_computer_vision/anchor_boxes.py
Run        python -m study run anchor_matching     (about 6 s on one CPU core, after importing torch)
You see    29 examples of objects to 939 of background, or 5 to 861; spreads of 0.14 and 0.23, which is what 10 and 5 even out
Try next   --times 0.5: first guess how many anchors are left as examples when the pictures are half as large
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import math

import torch
from torch import Tensor

from utils.datasets.scenes import draw_scenes
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure

STRIDES = (8, 16, 32)
ANCHORS = torch.tensor(  # what anchor_boxes found on scenes: width and height in pixels, three for each stride
    [[(18, 31), (29, 29), (23, 38)], [(35, 36), (29, 48), (43, 42)], [(35, 54), (49, 51), (58, 57)]], dtype=torch.float32
)
NEGATIVE, IGNORED = -1, -2  # as in torchvision; from 0 on, the number of the truth that an anchor answers for
THRESHOLDS = {"SSD": (0.5, 0.5), "RetinaNet": (0.5, 0.4), "RPN": (0.7, 0.3)}  # RPN: the proposals of Faster R-CNN
WEIGHTS = torch.tensor([10.0, 10.0, 5.0, 5.0])  # of the offsets x y w h, since R-CNN (Girshick et al., 2014)
LARGEST = math.log(1000 / 16)  # an offset may make an anchor 62.5 times as large


def cells(size: int, stride: int) -> Tensor:
    """The middles of all cells of a square picture (n, 2): x y in pixels, row by row."""
    return torch.cartesian_prod(*[torch.arange(stride / 2, math.ceil(size / stride) * stride, stride)] * 2).flip(1)


def tile(size: int) -> Tensor:
    """All anchors of a square picture (N, 4): x1 y1 x2 y2 in pixels."""
    laid = [(cells(size, stride)[:, None], shapes / 2) for stride, shapes in zip(STRIDES, ANCHORS, strict=True)]
    return torch.cat([torch.cat([middles - half, middles + half], dim=-1).flatten(0, 1) for middles, half in laid])


# %% 1. Matching
def match(iou: Tensor, high: float, low: float) -> Tensor:
    """Say what each anchor is an example of.

    It belongs to the truth that it overlaps most: as an example of it from an IoU of `high` on, of background below `low`, of
    nothing in between. But the anchors that a truth overlaps most are examples in any case, lest it should go without.

    Returns:
        Of an IoU (truths, anchors): (anchors,) the number of a truth, NEGATIVE or IGNORED.
    """
    if len(iou) == 0:
        return torch.full((iou.shape[1],), NEGATIVE)
    overlap, own = iou.max(dim=0)
    matched = torch.where(overlap >= high, own, torch.where(overlap < low, NEGATIVE, IGNORED))
    best = (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)
    return torch.where(best, own, matched)  # `own` may be another truth than the one in need, which then stays without


# %% 2. Counting
def count(truths: list[Tensor], size: int, high: float, low: float) -> dict[str, float]:
    """Match all pictures.

    Returns:
        positive, ignored, negative: Anchors in a picture.
        unreached: Share of truths with no anchor that overlaps them by `high`.
        forgotten: Share of truths of which no anchor is an example, although the best anchors of each are one of something.
        otherwise: Anchors that torchvision's Matcher matches otherwise.
    """
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou

    matcher, anchors = Matcher(high, low, allow_low_quality_matches=True), tile(size)
    kinds, unreached, forgotten, otherwise, total = torch.zeros(3), 0, 0, 0, sum(map(len, truths))
    for boxes in truths:
        iou = box_iou(boxes, anchors)
        matched = match(iou, high, low)
        kinds += torch.stack([(matched >= 0).sum(), (matched == IGNORED).sum(), (matched == NEGATIVE).sum()])
        unreached += (iou.amax(dim=1) < high).sum().item()
        forgotten += len(boxes) - len(matched[matched >= 0].unique())
        otherwise += (matcher(iou) != matched).sum().item() if len(boxes) else 0  # theirs refuses a picture without objects
    found = dict(zip(("positive", "ignored", "negative"), (kinds / len(truths)).tolist(), strict=True))
    return found | {"unreached": unreached / total, "forgotten": forgotten / total, "otherwise": otherwise}


# %% 3. Offsets
def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """What has to be learned (n, 4): the way to the centre in widths and heights of the anchor, and two logarithms of ratios."""
    size = anchors[:, 2:] - anchors[:, :2]
    way = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / size
    return torch.cat([way, ((boxes[:, 2:] - boxes[:, :2]) / size).log()], dim=1) * WEIGHTS


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """The boxes (n, 4) that offsets (n, 4) make of anchors (n, 4)."""
    offsets, size = offsets / WEIGHTS, anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + offsets[:, :2] * size
    half = offsets[:, 2:].clamp(max=LARGEST).exp() * size / 2  # the exp of what an untrained network says may be infinite
    return torch.cat([centre - half, centre + half], dim=1)


def compare_offsets(truths: list[Tensor], size: int) -> dict[str, float]:
    """Encode and decode all examples of RetinaNet's thresholds.

    Returns:
        How far offsets and boxes are from torchvision's, and decoded boxes (in pixels) from the truth; how far the four offsets
        spread before weights are put to them.
    """
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.ops import box_iou

    anchors, pairs, coder = tile(size), [], BoxCoder(tuple(WEIGHTS.tolist()))
    for boxes in truths:
        matched = match(box_iou(boxes, anchors), *THRESHOLDS["RetinaNet"])
        pairs.append((boxes[matched[matched >= 0]], anchors[matched >= 0]))
    boxes, laid = (torch.cat(side) for side in zip(*pairs, strict=True))
    offsets = encode(boxes, laid)
    back, wild = decode(offsets, laid), torch.full((1, 4), 500.0)  # an untrained network may say 500
    spread = (offsets / WEIGHTS).std(dim=0).tolist()
    print(f"3. {len(boxes):,} examples: offsets spread by " + ", ".join(f"{value:.2f}" for value in spread), end="; ")
    print("times 10, 10, 5, 5: " + ", ".join(f"{value:.1f}" for value in offsets.std(dim=0).tolist()))
    print(f"   an offset of 500 makes {(laid[0, 2] - laid[0, 0]):.0f} px to {decode(wild, laid[:1])[0, 2]:.0f}", end=", ")
    print(f"without the clamp to {torch.exp(wild[0, 2] / WEIGHTS[2]):.0e} times as many")
    return {
        "off_offsets": (offsets - coder.encode_single(boxes, laid)).abs().max().item(),
        "off_boxes": (back - coder.decode_single(offsets, laid)).abs().max().item(),
        "off_inverse": (back - boxes).abs().max().item(),
    } | {f"spread_{name}": value for name, value in zip("xywh", spread, strict=True)}


# %% 4. Without anchors
def distances(boxes: Tensor, middles: Tensor, stride: int) -> Tensor:
    """How far the left, upper, right and lower side of boxes (n, 4) lie from the middles of cells (m, 2), in cells: (n, m, 4)."""
    return torch.cat([middles - boxes[:, None, :2], boxes[:, None, 2:] - middles], dim=-1) / stride


def count_cells(truths: list[Tensor], size: int) -> dict[str, float]:
    """Let every cell of stride 8 whose middle lies in a box be an example of it (FCOS without its centre sampling).

    Returns:
        positive, negative: Cells in a picture.
        contested: Share of the positive ones that lie in two boxes or more.
        forgotten: Share of truths in which no middle lies.
        off_distances: How far they are from torchvision's BoxLinearCoder's.
    """
    from torchvision.models.detection._utils import BoxLinearCoder

    positive, contested, forgotten, off, coder, middles = 0, 0, 0, 0.0, BoxLinearCoder(), cells(size, STRIDES[0])
    squares = torch.cat([middles - STRIDES[0] / 2, middles + STRIDES[0] / 2], dim=1)  # what torchvision takes for anchors
    for boxes in truths:
        sides = distances(boxes, middles, STRIDES[0])  # (truths, cells, 4)
        inside = sides.amin(dim=-1) > 0
        positive += inside.any(dim=0).sum().item()
        contested += (inside.sum(dim=0) > 1).sum().item()
        forgotten += (~inside.any(dim=1)).sum().item()
        for box, ours in zip(boxes, sides, strict=True):
            off = max(off, (ours - coder.encode(squares, box.expand_as(squares))).abs().max().item())
    found = {"positive": positive / len(truths), "negative": len(middles) - positive / len(truths), "off_distances": off}
    return found | {"contested": contested / max(positive, 1), "forgotten": forgotten / sum(map(len, truths))}


# %% 5. The error everyone makes
def meet_error(size: int) -> str:
    """Match a picture in which there is nothing; return what PyTorch says."""
    from torchvision.ops import box_iou

    nothing = box_iou(torch.zeros(0, 4), tile(size))  # (0, anchors)
    try:
        nothing.max(dim=0)
    except IndexError as error:
        print(f'5. "{error}"\n   read: there is no truth to choose. Such a picture need not be left out: all its', end=" ")
        print(f"{(match(nothing, 0.5, 0.4) == NEGATIVE).sum():,} anchors are examples of background")
        return str(error)


# %% All of it, in order
def draw(boxes: Tensor, size: int) -> None:
    """Draw the truths of a picture in black, and the anchors that are examples of them, for each pair of thresholds."""
    import matplotlib.pyplot as plt
    from torchvision.ops import box_iou

    figure, axes = plt.subplots(1, len(THRESHOLDS), figsize=(12, 4.2), layout="constrained")
    figure.suptitle(label("anchors: of objects + ignored + of background", "앵커: 물체의 예제 + 무시 + 배경의 예제"))
    anchors = tile(size)
    for axis, (name, thresholds) in zip(axes, THRESHOLDS.items(), strict=True):
        matched = match(box_iou(boxes, anchors), *thresholds)
        examples = matched >= 0
        colours = [f"C{i}" for i in matched[examples].tolist()] + ["k"] * len(boxes)
        for (x1, y1, x2, y2), colour in zip(torch.cat([anchors[examples], boxes]).tolist(), colours, strict=True):
            width = 3 if colour == "k" else 1
            axis.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width))
        title = f"{name}: {examples.sum()} + {(matched == IGNORED).sum()} + {(matched == NEGATIVE).sum()}"
        axis.set(xlim=(0, size), ylim=(size, 0), aspect="equal", title=title, xticks=[], yticks=[])
    save_figure(figure, __file__, "matches")


def main(pictures: int = 300, times: float = 1.0, seed: int = 0) -> dict[str, float]:
    """Match anchors with the objects of scenes, and count and encode what they learn.

    Args:
        pictures: Test scenes, at least 10.
        times: How much larger than 128 pixels they are shown, boxes with them, 0.1 to 4; the anchors stay as they are.
        seed: Of the scenes.
    """
    check(pictures >= 10 and 0.1 <= times <= 4, "--pictures: at least 10; --times: 0.1 to 4")
    size, truths = round(128 * times), [boxes * times for boxes in draw_scenes(pictures, seed, split="test").boxes]
    mention("data", f"sample: boxes of {pictures} scenes, shown at {size}x{size}, drawn here")
    results = {}
    print(f"1. {len(tile(size)):,} anchors in a picture")
    for name, thresholds in THRESHOLDS.items():
        found = count(truths, size, *thresholds)
        print(f"2. {name:12}" + ", ".join(f"{found[kind]:6.1f} {kind}" for kind in ("positive", "ignored", "negative")), end=",")
        print(
            f" 1 : {found['negative'] / found['positive']:.0f}; {found['unreached']:.3f} of the objects below the threshold",
            end="",
        )
        print(f", {found['forgotten']:.4f} forgotten; {found['otherwise']} anchors matched otherwise than by torchvision")
        results |= {f"{name}_{key}": value for key, value in found.items()}
    results |= compare_offsets(truths, size)
    found = count_cells(truths, size)
    print(f"4. cells instead: {found['positive']:.1f} positive, {found['negative']:.1f} negative", end="; ")
    print(f"{found['contested']:.3f} of the positive ones contested, forgotten {found['forgotten']:.4f}")
    results |= {f"cells_{key}": value for key, value in found.items()}
    meet_error(size)
    draw(max(truths, key=len), size)
    off = max(results["off_offsets"], results["off_boxes"], results["cells_off_distances"])
    same = not any(results[f"{name}_otherwise"] for name in THRESHOLDS)
    check(same and off < 1e-3, f"not what torchvision does: offsets or boxes {off:.0e} off, or other matches")
    return results


if __name__ == "__main__":
    run(main)
