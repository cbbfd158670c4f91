"""Boxes and their overlap · 바운딩 박스와 IoU

A detector answers with boxes: four numbers, written in three ways, in pixels or not, and most bugs of detectors are a mix-up of
these. How well two boxes agree is intersection over union; as a loss it is blind where boxes do not meet, and its relatives see.
검출기는 박스로 답한다. 숫자 네 개인데 쓰는 방식이 셋이고 단위도 픽셀이거나 아니어서, 검출기 버그는 대개 이것을 뒤섞은 것이다.
두 박스가 얼마나 맞는지는 IoU로 잰다. 손실로 쓰면 만나지 않는 박스에는 눈이 멀고, 그 친척들은 본다.

You will
  1. convert boxes between formats, and measure what each mix-up costs: most come without a message
  2. write IoU of all pairs as one broadcast, equal to torchvision's
  3. meet the error everyone meets, and two that say nothing: bytes, and a box of no area
  4. write GIoU, DIoU and CIoU, equal to torchvision's in value and gradient
  5. let boxes walk to objects, with one loss each, and see who never arrives
  6. see which errors L1 in pixels takes for equal

Before     02_neural_networks/linear_regression.py, 03_training/loss_functions.py
Run        python -m study run boxes_and_iou        (about 6 s on one CPU core, after importing torch)
You see    a pixel too narrow costs 6 % of IoU; boxes apart: 1 - IoU never arrives, GIoU after 84 steps, CIoU after 67; walks.png
Try next   --size 64: scenes half as large, steps of a pixel as before. First guess IoU with a box one pixel too narrow, and L1
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

import math

import torch
from torch import Tensor

from utils.datasets.scenes import draw_scenes
from utils.lesson import check, run
from utils.plotting import label, save_figure

LOSSES = ("1 - IoU", "L1", "GIoU", "DIoU", "CIoU")
FIT = 0.9  # the IoU from which a box has arrived


# %% 1. Formats
def to_centers(boxes: Tensor) -> Tensor:
    """x1 y1 x2 y2 → centre x, centre y, width, height, as networks predict them; (..., 4)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def to_corners(boxes: Tensor) -> Tensor:
    """Centre x, centre y, width, height → x1 y1 x2 y2; (..., 4)."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def mix_up(boxes: Tensor) -> dict[str, float]:
    """Read boxes (n, 4) in wrong ways; return the mean IoU with what was meant."""
    sizes = to_centers(boxes)[:, 2:]
    readings = {
        # Pascal VOC numbers pixels from 1, and x2 is the last one inside: what we call 0 and 10 is 1 and 10 there
        "VOC as written": boxes + torch.tensor([1, 1, 0, 0]),
        "VOC, all four less 1": boxes - torch.tensor([0, 0, 1, 1]),
        "x y width height as corners": torch.cat([boxes[:, :2], sizes.maximum(boxes[:, :2])], dim=1),  # COCO's files
        "y before x": boxes[:, [1, 0, 3, 2]],
        "picture squeezed to 4:3, boxes not": boxes * torch.tensor([1, 0.75, 1, 0.75]),  # shares of its sides would fit
    }
    found, small = {}, areas(boxes).argsort()[: len(boxes) // 10]
    for name, reading in readings.items():
        overlaps = iou(boxes, reading)
        found |= {name: overlaps.mean().item(), f"{name}, smallest tenth": overlaps[small].mean().item()}
        print(f"1. {name:34} IoU with what was meant {overlaps.mean():.3f}, of the smallest tenth {overlaps[small].mean():.3f}")
    return found


# %% 2. Intersection over union
def areas(boxes: Tensor) -> Tensor:
    """(..., 4) → (...)"""
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def common_and_union(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and union of boxes (..., 4), pair by pair; shapes are broadcast."""
    low, high = torch.maximum(ours[..., :2], theirs[..., :2]), torch.minimum(ours[..., 2:], theirs[..., 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)  # without the clamp, two negative sides make a positive area
    return common, areas(ours) + areas(theirs) - common


def iou(ours: Tensor, theirs: Tensor) -> Tensor:
    """Intersection over union, 0 to 1, pair by pair; of each with each, (n, m), from ours (n, 1, 4) and theirs (m, 4)."""
    common, union = common_and_union(ours, theirs)
    return common / union


def compare_iou(boxes: list[Tensor]) -> float:
    """Return how far our IoU of all pairs of each scene is from torchvision's."""
    from torchvision.ops import box_iou

    off = max((iou(some[:, None], some) - box_iou(some, some)).abs().max().item() for some in boxes if len(some))
    print(f"2. IoU of each with each, {len(boxes)} scenes: off from torchvision by {off:.0e}")
    return off


# %% 3. The error everyone meets, and two that say nothing
def meet_errors(boxes: Tensor) -> tuple[str, float, float]:
    """Give one box as (4,), boxes in bytes, and one of no area; return torchvision's answers."""
    from torchvision.ops import box_iou, complete_box_iou_loss

    try:
        box_iou(boxes, boxes[0])
    except IndexError as error:
        message = str(error)
    print(f'3. "{message}"\n   read: one box is no list of boxes. boxes[0] is (4,); boxes[:1] is (1, 4)')
    pair = torch.tensor([[[10, 10, 40, 40]], [[60, 10, 90, 40]]], dtype=torch.uint8)  # they do not meet
    in_bytes = box_iou(*pair).item()
    point = complete_box_iou_loss(boxes[:1], torch.tensor([[5.0, 5, 5, 5]])).item()
    print(f"   no message: two boxes that do not meet, in uint8, where 40 - 60 is {256 - 20}: IoU {in_bytes:.2f}")
    print(f"   no message: CIoU's loss for a box of no area is {point}, and so is every weight after that step")
    return message, in_bytes, point


# %% 4. Relatives that see farther
def box_loss(ours: Tensor, theirs: Tensor, kind: str, eps: float = 1e-7) -> Tensor:
    """How wrong boxes (n, 4) are, (n,): one of LOSSES. L1 is the mean of the four differences in pixels."""
    if kind == "L1":
        return (ours - theirs).abs().mean(dim=1)
    common, union = common_and_union(ours, theirs)
    overlap = common / (union + eps)
    ends, starts = torch.maximum(ours, theirs)[:, 2:], torch.minimum(ours, theirs)[:, :2]
    hull = ends - starts  # (n, 2), the sides of the smallest box round both
    if kind == "1 - IoU":
        return 1 - overlap
    if kind == "GIoU":  # the share of that box that neither fills: it falls when they come closer (Rezatofighi et al., 2019)
        return 1 - overlap + (hull.prod(dim=1) - union) / (hull.prod(dim=1) + eps)
    a, b = to_centers(ours), to_centers(theirs)
    apart = (a - b)[:, :2].square().sum(dim=1) / (hull.square().sum(dim=1) + eps)
    if kind == "DIoU":  # the distance of the centres in units of its diagonal, squared (Zheng et al., 2020)
        return 1 - overlap + apart
    shape = 4 / math.pi**2 * (torch.atan(b[:, 2] / b[:, 3]) - torch.atan(a[:, 2] / a[:, 3])).square()
    with torch.no_grad():  # a weight, no path for gradients: the better boxes overlap, the more their shape counts
        weight = shape / (1 - overlap + shape + eps)
    return 1 - overlap + apart + weight * shape


def compare_losses(boxes: Tensor, others: Tensor) -> float:
    """Return how far our losses of pairs (n, 4) and their gradients are from torchvision's, in float64."""
    from torchvision import ops

    finished = (ops.generalized_box_iou_loss, ops.distance_box_iou_loss, ops.complete_box_iou_loss)
    noise, off = torch.rand(boxes.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 0.0
    for kind, their_loss in zip(LOSSES[2:], finished, strict=True):
        x, y = (boxes + noise).requires_grad_(), others.double()  # off whole pixels: where sides meet, a slope has two values
        values = box_loss(x, y, kind), their_loss(x, y)
        slopes = [torch.autograd.grad(value.sum(), x)[0] for value in values]
        off = max(off, (values[0] - values[1]).abs().max().item(), (slopes[0] - slopes[1]).abs().max().item())
    print(f"4. GIoU, DIoU, CIoU and their gradients, {len(boxes)} pairs: off from torchvision by {off:.0e}")
    return off


# %% 5. Boxes that walk
def walk(start: Tensor, goal: Tensor, kind: str, steps: int, lr: float = 1.0) -> Tensor:
    """Move boxes (n, 4) by Adam, about `lr` pixels a step and side; return all their places (steps + 1, n, 4)."""
    boxes = start.clone().requires_grad_()
    optimizer, path = torch.optim.Adam([boxes], lr=lr), [start]
    for _ in range(steps):
        optimizer.zero_grad()
        box_loss(boxes, goal, kind).sum().backward()  # of the sum: no box knows of the others
        optimizer.step()
        path.append(boxes.detach().clone())
    return torch.stack(path)


def compare_walks(start: Tensor, goal: Tensor, steps: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Let each loss fit the same boxes; return who arrives, when, how large they become on the way, and all paths."""
    meet, found, paths = iou(start, goal) > 0, {}, {}
    for kind in LOSSES:
        paths[kind] = path = walk(start, goal, kind, steps)
        there = iou(path, goal) >= FIT  # (steps + 1, n)
        first = torch.where(there.any(dim=0), there.int().argmax(dim=0), math.inf)
        largest = areas(path).amax(dim=0) / torch.maximum(areas(start), areas(goal))
        for name, chosen in (("meeting", meet), ("apart", ~meet)):
            share = found[f"{kind} {name} share"] = first[chosen].isfinite().float().mean().item()
            step = found[f"{kind} {name} steps"] = first[chosen].median().item()
            growth = found[f"{kind} {name} growth"] = largest[chosen].median().item()
            print(f"5. {kind:8} {name:8} {share:4.0%} arrive, after {step:3.0f} steps; largest area on the way x {growth:.1f}")
    return found, paths


# %% 6. What L1 takes for equally wrong
def compare_sizes(boxes: Tensor, error: float, seed: int) -> dict[str, float]:
    """Move each side of boxes (n, 4) by `error` pixels, then by a tenth of its length; compare small and large boxes."""
    signs = torch.randint(2, boxes.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    by_pixels = iou(boxes + error * signs, boxes)
    by_tenths = boxes + 0.1 * to_centers(boxes)[:, [2, 3, 2, 3]] * signs
    order, third, found = areas(boxes).argsort(), len(boxes) // 3, {}
    for name, part in (("smallest", order[:third]), ("largest", order[-third:])):
        found[f"IoU {name}"] = overlap = by_pixels[part].mean().item()
        l1, ciou = (box_loss(by_tenths[part], boxes[part], kind).mean().item() for kind in ("L1", "CIoU"))
        found |= {f"L1 {name}": l1, f"CIoU {name}": ciou}
        print(f"6. {name} third: {error:.0f} px off on every side, IoU {overlap:.2f}; ", end="")
        print(f"a tenth off on every side, L1 {l1:.1f} px, CIoU {ciou:.2f}")
    return found


# %% All of it, in order
def draw(image: Tensor, paths: dict[str, Tensor], goal: Tensor, one: int) -> None:
    """Draw the walks of box `one` on its object's scene (3, size, size), and by step the IoU of all boxes that were apart."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    left.imshow(image.permute(1, 2, 0).numpy())
    around = [0, 2, 2, 0, 0], [1, 1, 3, 3, 1]  # which of x1 y1 x2 y2 are x and y of its corners, all the way round
    left.plot(*(goal[one, axis] for axis in around), "w", linewidth=3)
    for kind, path in paths.items():
        color = f"C{LOSSES.index(kind)}"
        right.plot(iou(path, goal)[:, iou(path[0], goal) == 0].mean(dim=1), color=color, label=kind)
        for box in path[:80:20, one] if kind in ("1 - IoU", "GIoU", "CIoU") else ():
            left.plot(*(box[axis] for axis in around), color=color, linewidth=1)
    left.set(title=label("every 20 steps; white: the object", "20스텝마다, 흰색은 물체"), xticks=[], yticks=[])
    right.set(xlabel=label("step", "스텝"), ylabel=label("mean IoU of boxes that were apart", "떨어져 있던 박스의 평균 IoU"))
    right.legend()
    save_figure(figure, __file__, "walks")


def main(scenes: int = 200, size: int = 128, steps: int = 300, seed: int = 0) -> dict[str, float]:
    """Convert boxes, measure their overlap, and let them walk to objects.

    Args:
        scenes: Scenes whose boxes are used, at least 50.
        size: Width and height of the scenes in pixels, at least 32.
        steps: Of gradient descent, at about 1 pixel each.
        seed: Of scenes, starts and errors.
    """
    from torchvision.ops import box_convert

    check(scenes >= 50 and size >= 32 and steps >= 1, "--scenes: at least 50, --size: at least 32, --steps: at least 1")
    drawn = draw_scenes(scenes, seed, size)
    boxes = torch.cat(drawn.boxes)  # (n, 4)
    check(torch.equal(to_centers(boxes), box_convert(boxes, "xyxy", "cxcywh")), "this is not torchvision's box_convert")
    check(torch.equal(to_corners(to_centers(boxes)), boxes), "boxes do not survive being converted there and back")
    found = mix_up(boxes) | {"off_iou": compare_iou(drawn.boxes)}
    meet_errors(boxes)
    owners = torch.arange(scenes).repeat_interleave(torch.tensor([len(one) for one in drawn.boxes]))  # (n,)
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))
    goal, start = boxes[order[:400]], boxes[order.roll(1)[:400]]  # objects, and boxes of other ones, mostly in other scenes
    found["off_losses"] = compare_losses(start, goal)
    walks, paths = compare_walks(start, goal, steps)
    found |= walks | compare_sizes(boxes, 4.0, seed)
    one = int((iou(start, goal) == 0).nonzero()[2])
    draw(drawn.images[owners[order[one]]], paths, goal, one)
    check(max(found["off_iou"], found["off_losses"]) < 1e-6, "these are not torchvision's numbers")
    check(found["CIoU apart share"] > found["1 - IoU apart share"] + 0.5, "CIoU does not see farther than IoU: more --steps?")
    return {name.replace(",", "").replace(" ", "_"): value for name, value in found.items() if math.isfinite(value)}


if __name__ == "__main__":
    run(main)
