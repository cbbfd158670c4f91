"""Label assignment: which cells answer for an object · 레이블 할당: 물체를 책임질 칸 정하기

Somebody has to say which cells of a grid shall have seen an object and which shall be quiet. That rule stands outside the network
and decides how much there is to learn from, what becomes of objects that overlap, and whether suppression is needed at the end.
격자의 어느 칸이 물체를 맡고 어느 칸이 잠자코 있을지는 누군가 정해 주어야 한다. 신경망 바깥에 있는 이 규칙이 배울 거리의 양과,
겹친 물체의 운명과, 비최대 억제 없이 지낼 수 있는지를 정한다.

You will
  1. write five rules: the cell of the centre, all cells inside, a radius (FCOS), the cheapest few (SimOTA), exactly one (DETR)
  2. count the cells that an object gets, and those that two objects want
  3. train the same small detector from the same start by each rule, and compare precision, duplicates and overlapping objects
  4. take non-maximum suppression away, and meet the error everyone makes: a decision has no gradient

Before     08_computer_vision/object_detection.py, anchor_matching.py
Run        python -m study run label_assignment    (about 50 s on one CPU core, after importing torch)
You see    AP@0.5 about 0.56 by the centre, 0.20 by all inside; without suppression one-to-one loses 0.04 and a radius 0.28
Try next   --steps 400 --seeds 1 (80 s): first guess which rule gains most from six times the steps
Theory     notes/en/08_computer_vision.md · notes/ko/08_computer_vision.md
Practise   python -m study check 08
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.average_precision import Found, mean_average_precision
from utils.datasets.scenes import draw_scenes
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.plotting import save_figure

SIZE, STRIDE, CLASSES = 64, 4, 2  # pixels of a picture and of a cell; shapes and digits
RULES = ("centre", "inside", "radius", "dynamic", "one-to-one")
MEASURES = ("at_50", "without", "duplicates", "alone", "overlapping", "spread")


class Examples(NamedTuple):
    """Pictures (N, 3, 64, 64) float32; of each its boxes (n, 4), x1 y1 x2 y2 in pixels, and labels (n,), 0 a shape, 1 a digit."""

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]


def load(count: int, split: str, seed: int, device: torch.device) -> Examples:
    """Draw scenes; the ten classes become two."""
    scenes = draw_scenes(count, seed, SIZE, split)
    mention("data", f"sample: {count:,} {split} scenes of shapes and handwritten digits, drawn here, {SIZE}x{SIZE}")
    images, boxes = F.layer_norm(scenes.images.float(), (3, SIZE, SIZE)).to(device), [part.to(device) for part in scenes.boxes]
    return Examples(images, boxes, [(part // 5).to(device) for part in scenes.labels])


# %% 1. Five rules
def middles(device: torch.device) -> Tensor:
    """The middles of all cells (cells, 2): x y in pixels, row by row."""
    return torch.cartesian_prod(*[torch.arange(STRIDE / 2, SIZE, STRIDE, device=device)] * 2).flip(1)


def choose(rule: str, boxes: Tensor, labels: Tensor, logits: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Let truths, boxes (n, 4) and labels (n,), choose cells, of which the network says logits (cells, classes) and boxes found
    (cells, 4); return choices (n, cells) bool, and costs (n, cells): of truths that chose the same cell the cheapest gets it.
    """
    from scipy.optimize import linear_sum_assignment
    from torchvision.ops import box_iou

    points = middles(boxes.device)
    inside = torch.cat([points - boxes[:, None, :2], boxes[:, None, 2:] - points], dim=-1).amin(dim=-1) > 0  # (n, cells)
    away = (points - (boxes[:, None, :2] + boxes[:, None, 2:]) / 2).abs().amax(dim=-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1, keepdim=True).expand_as(away)  # a small object has fewer cells to lose
    if rule == "centre":
        return F.one_hot(away.argmin(dim=1), len(points)).bool(), area
    if rule in ("inside", "radius"):
        return inside & ((away < 1.5 * STRIDE) | (rule == "inside")), area
    iou, wanted = box_iou(boxes, found), F.one_hot(labels, CLASSES).float()[:, None].expand(-1, len(points), -1)
    loss = F.binary_cross_entropy_with_logits(logits.expand(len(boxes), -1, -1), wanted, reduction="none").sum(dim=-1)
    cost = loss - 3 * iou.clamp(min=1e-8).log() + 1e6 * ~inside  # as in YOLOX (Ge et al., 2021)
    if rule == "one-to-one":
        cells = linear_sum_assignment(cost.cpu().numpy())[1]  # the Hungarian method: all pairs together as cheap as can be
        return F.one_hot(torch.from_numpy(cells).to(boxes.device), len(points)).bool(), cost
    cells = (iou * inside).topk(10, dim=1).values.sum(dim=1).int().clamp(min=1)  # the better the boxes, the more of them
    return inside & (cost.argsort(dim=1).argsort(dim=1) < cells[:, None]), cost


def assign(rule: str, boxes: Tensor, labels: Tensor, logits: Tensor, found: Tensor) -> Tensor:
    """Say for which truth each cell answers (cells,), -1 for none; arguments as for `choose`."""
    if len(boxes) == 0:
        return torch.full((len(logits),), -1, device=logits.device)
    chosen, cost = choose(rule, boxes, labels, logits, found)
    least, owner = cost.masked_fill(~chosen, torch.inf).min(dim=0)
    return torch.where(least < torch.inf, owner, -1)


# %% 2. Before any training
def count_cells(data: Examples) -> dict[str, float]:
    """Return, for the rules that ask no network, the cells of an object on average, and the share of them that two want."""
    results, quiet = {}, torch.zeros(len(middles(data.images.device)), 4, device=data.images.device)
    for rule in RULES[:3]:
        wishes = [choose(rule, *truth, quiet[:, :CLASSES], quiet)[0].sum(dim=0) for truth in zip(*data[1:], strict=True)]
        wishes = torch.stack(wishes)  # (N, cells), how many truths want each cell
        cells, twice = (wishes > 0).sum().item() / sum(map(len, data.boxes)), (wishes > 1).sum() / (wishes > 0).sum()
        print(f"2. {rule:8} {cells:4.1f} cells for an object, {twice:.3f} of them wanted twice")
        results |= {f"{rule}_cells": cells, f"{rule}_twice": twice.item()}
    return results


# %% 3. One detector
class Detector(nn.Module):
    """Cells of 4 px that see what is around them; each says its classes, and how far the four sides of its box are."""

    def __init__(self):
        from torchvision.ops import Conv2dNormActivation as Conv  # with batch normalization and ReLU

        super().__init__()
        self.fine = nn.Sequential(Conv(3, 16, stride=2), Conv(16, 32, stride=2))
        self.coarse = nn.Sequential(Conv(32, 64, stride=2), Conv(64, 64), Conv(64, 32), nn.Upsample(scale_factor=2))
        self.head = nn.Sequential(Conv(32, 48), Conv(48, 48), nn.Conv2d(48, CLASSES + 4, 1))
        nn.init.normal_(self.head[-1].weight, std=0.01)
        nn.init.constant_(self.head[-1].bias[:CLASSES], -4.0)  # nearly all cells are to be quiet: start from there

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, cells, classes) and boxes (N, cells, 4)."""
        fine, points = self.fine(images), middles(images.device)  # (N, 32, 16, 16)
        out = self.head(fine + self.coarse(fine)).flatten(2).transpose(1, 2)  # (N, cells, 6)
        sides = 3 * STRIDE * F.softplus(out[..., CLASSES:])  # left, up, right, down, in pixels
        return out[..., :CLASSES], torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)


def detection_loss(rule: str, logits: Tensor, found: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> Tensor:
    """The classes of all cells and the boxes of those that answer for something, both divided by the number of these."""
    from torchvision.ops import generalized_box_iou_loss

    wanted, ours, theirs = torch.zeros_like(logits), [], []
    for i, (truth, kinds) in enumerate(zip(boxes, labels, strict=True)):
        owner = assign(rule, truth, kinds, logits[i].detach(), found[i].detach())
        wanted[i, owner >= 0, kinds[owner[owner >= 0]]] = 1
        ours.append(found[i][owner >= 0])
        theirs.append(truth[owner[owner >= 0]])
    ours, theirs = torch.cat(ours), torch.cat(theirs)
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return (loss + 2 * generalized_box_iou_loss(ours, theirs, reduction="sum")) / max(len(ours), 1)


def train(data: Examples, rule: str, steps: int, seed: int) -> Detector:
    """Train a detector with AdamW on 32 pictures a step, the rate rising, then falling to zero; one start for all rules."""
    torch.manual_seed(seed)
    network, generator = Detector().to(data.images.device), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
    for _ in range(steps):
        batch = torch.randint(len(data.images), (32,), generator=generator).tolist()
        boxes, labels = ([part[i] for i in batch] for part in data[1:])
        loss = detection_loss(rule, *network(data.images[batch]), boxes, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


# %% 4. What came of it
@torch.no_grad()
def detect(network: Detector, images: Tensor, suppress: bool) -> list[Found]:
    """Return what the cells of each picture say, the surest first, with or without non-maximum suppression."""
    from torchvision.ops import batched_nms

    found = []
    for logits, boxes in zip(*network.eval()(images), strict=True):
        scores, kinds = logits.sigmoid().max(dim=1)
        kept = batched_nms(boxes, scores, kinds, 0.5) if suppress else scores.argsort(descending=True)
        found.append(Found(boxes[kept], scores[kept], kinds[kept]))
    return found


def judge(network: Detector, data: Examples) -> Tensor:
    """Return MEASURES but the last (5,): AP@0.5 with suppression and without; how many further boxes lie on an object, at least
    half as sure as its best; shares found by the ten surest boxes, of objects that overlap no other by 0.1, and of those that do.
    """
    from torchvision.ops import box_iou

    every, kept = (detect(network, data.images, suppress) for suppress in (False, True))
    scores = [mean_average_precision(found, *data[1:], CLASSES).at_50 for found in (kept, every)]
    further, right, touched = [], [], []
    for before, after, boxes, labels in zip(every, kept, *data[1:], strict=True):
        on, hit = ((box_iou(boxes, one.boxes) >= 0.5) & (labels[:, None] == one.labels) for one in (before, after))
        sure = on * before.scores  # (truths, cells)
        further.append((on & (sure >= sure.amax(dim=1, keepdim=True) / 2)).sum(dim=1)[on.any(dim=1)] - 1)
        right.append(hit[:, :10].any(dim=1))
        touched.append((box_iou(boxes, boxes) > 0.1).sum(dim=1) > 1)
    further, right, touched = torch.cat(further).float(), torch.cat(right).float(), torch.cat(touched)
    return torch.tensor([*scores, further.mean(), right[~touched].mean(), right[touched].mean()])


# %% 5. The error everyone makes
def meet_error(network: Detector, data: Examples) -> str:
    """Ask for the cheapest pairs while gradients are kept; return what PyTorch says."""
    logits, found = network(data.images[:1])
    try:
        choose("one-to-one", data.boxes[0], data.labels[0], logits[0], found[0])
    except RuntimeError as error:
        print(f'5. "{error}"\n   read: who answers is decided, not differentiated. Decide from detached numbers')
        return str(error)


# %% All of it, in order
def draw(network: Detector, data: Examples) -> None:
    """Draw which cells answer in the fullest picture, by each rule and what `network` says."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(RULES), figsize=(14, 3), layout="constrained")
    image, boxes, labels = max(zip(*data, strict=True), key=lambda example: len(example[1]))
    said = [part[0].detach() for part in network.eval()(image[None])]
    for axis, rule in zip(axes, RULES, strict=True):
        who = assign(rule, boxes, labels, *said).cpu()
        axis.imshow(((image.permute(1, 2, 0).cpu() + 2) / 5).clamp(0, 1).numpy(), extent=(0, SIZE, SIZE, 0))
        axis.scatter(*middles("cpu")[who >= 0].T.tolist(), c=who[who >= 0].tolist(), cmap="tab10", vmax=9, edgecolors="white")
        axis.set(title=rule, xticks=[], yticks=[])
    save_figure(figure, __file__, "rules")


def main(steps: int = 64, seeds: int = 3, pictures: int = 1000, device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Train one detector by five rules, and compare.

    Args:
        steps: Steps of each training, on 32 pictures each.
        seeds: Detectors of each rule.
        pictures: Scenes to learn from, at least 200.
        device: auto, cpu, cuda or mps.
        seed: The first seed, and that of the scenes.
    """
    check(min(steps, seeds) > 0 and pictures >= 200, "--steps and --seeds: at least 1; --pictures: at least 200")
    data, test = (load(*what, seed, pick_device(device)) for what in ((pictures, "train"), (200, "test")))
    guesses = [Found(boxes, torch.ones(len(boxes)), labels) for boxes, labels in zip(*data[1:], strict=True)][: len(test.boxes)]
    results = count_cells(test) | {"baseline": mean_average_precision(guesses, *test[1:], CLASSES).at_50}  # without looking
    for rule in RULES:
        networks = [train(data, rule, steps, one) for one in range(seed, seed + seeds)]
        by, mean = torch.std_mean(torch.stack([judge(one, test) for one in networks]), dim=0, correction=0)
        print(f"4. {rule:10} AP@0.5 {mean[0]:.3f} ± {by[0]:.3f}, without suppression {mean[1]:.3f} ± {by[1]:.3f};", end=" ")
        print(f"{mean[2]:4.1f} duplicates; {mean[3]:.2f} found of objects alone, {mean[4]:.2f} of overlapping ones")
        results |= {f"{rule}_{name}": value for name, value in zip(MEASURES, [*mean.tolist(), by[0].item()], strict=True)}
    meet_error(networks[0], test)
    draw(networks[0], test)
    worst = min(results[f"{rule}_at_50"] for rule in RULES)
    check(worst > 2 * results["baseline"] + 0.1, f"AP@0.5 of {worst:.2f} after {steps} steps: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
