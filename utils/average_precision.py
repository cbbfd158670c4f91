"""Mean average precision of a detector, counted as COCO counts it.

    found = [Found(boxes, scores, labels), ...]  # of each picture, what the detector says
    precision = mean_average_precision(found, truth.boxes, truth.labels, classes=10)
    precision.mean, precision.at_50              # AP@0.5:0.95 and AP@0.5

08_computer_vision/mean_average_precision.py builds this step by step. The numbers are those of pycocotools' COCOeval for "bbox",
boxes of all areas, at most 100 per picture and class.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.lesson import check

COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # the very numbers of COCO: 0.55 is written in several ways
RECALLS = torch.from_numpy(np.linspace(0, 1, 101))
MOST = 100  # boxes of a class in a picture that count, best first


class Found(NamedTuple):
    """What a detector says about one picture.

    Attributes:
        boxes: float (n, 4), x1 y1 x2 y2 in pixels. n may be 0.
        scores: float (n,), the surer, the higher.
        labels: int64 (n,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Matched(NamedTuple):
    """All boxes that were found, picture after picture, the best of each picture first.

    Attributes:
        scores: float64 (n,).
        labels: int64 (n,).
        right: bool (thresholds, n): whether it is the first to find its object, with so large an overlap.
    """

    scores: Tensor
    labels: Tensor
    right: Tensor


class Precision(NamedTuple):
    """How well boxes were found, 0 to 1.

    Attributes:
        mean: Over all thresholds and all classes that occur.
        at_50: At threshold 0.5, over all classes that occur; NaN where 0.5 is not among the thresholds.
        per_class: float64 (thresholds, classes); NaN for a class that does not occur.
    """

    mean: float
    at_50: float
    per_class: Tensor


def mean_average_precision(
    found: Sequence[Found],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    classes: int,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> Precision:
    """Judge what was found in all pictures together.

    Args:
        found: For each picture, on any device.
        boxes: What is there, for each picture (m, 4): x1 y1 x2 y2 in pixels; m may be 0.
        labels: For each picture (m,), 0 to classes - 1.
        classes: How many there are.
        thresholds: Overlaps (IoU) from which a box counts as right, above 0, at most 1.

    Raises:
        LessonError: The lists do not fit together, or no picture has any box.
    """
    matched = match(found, boxes, labels, classes, thresholds)
    counts = sum((theirs.cpu().bincount(minlength=classes) for theirs in labels), torch.zeros(classes).long())
    check(int(counts.sum()) > 0, "no picture has any box: where nothing is to be found, precision means nothing")
    per_class = torch.full((len(thresholds), classes), torch.nan, dtype=torch.float64)
    for label in counts.nonzero().flatten().tolist():
        chosen = matched.labels == label
        order = matched.scores[chosen].argsort(descending=True, stable=True)  # of all pictures together
        per_class[:, label] = average_precision(matched.right[:, chosen][:, order], int(counts[label]))
    at_50 = [row.nanmean().item() for row, threshold in zip(per_class, thresholds, strict=True) if abs(threshold - 0.5) < 1e-9]
    return Precision(per_class.nanmean().item(), at_50[0] if at_50 else float("nan"), per_class)


def average_precision(right: Tensor, count: int) -> Tensor:
    """Average precision of one class at 101 recalls: at each, the best precision with at least that recall.

    Args:
        right: bool (thresholds, n), found boxes in falling order of score.
        count: How many there are to be found.

    Returns:
        float64 (thresholds,)
    """
    hits = right.double().cumsum(dim=1)
    precision = hits / torch.arange(1, right.shape[1] + 1, dtype=torch.float64)
    best = precision.flip(1).cummax(dim=1).values.flip(1) if right.shape[1] else precision  # of this point and all that follow
    best = torch.nn.functional.pad(best, (0, 1))  # 0 for a recall that is never reached
    first = torch.searchsorted(hits / count, RECALLS.expand(len(right), -1).contiguous())  # where each recall is reached
    return best.gather(1, first).mean(dim=1)


def match(
    found: Sequence[Found],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    classes: int,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> Matched:
    """Decide of every found box whether it is right.

    In order of score each takes, of the objects of its class that nobody has taken, the one it overlaps most, if the overlap
    reaches the threshold. Arguments as for mean_average_precision.
    """
    check(len(found) == len(boxes) == len(labels), f"{len(found)} pictures found, {len(boxes)} with boxes, {len(labels)} labels")
    check(all(0 < threshold <= 1 for threshold in thresholds), "thresholds: above 0, at most 1")
    parts = [Matched(torch.zeros(0).double(), torch.zeros(0).long(), torch.zeros(len(thresholds), 0).bool())]
    for picture, (one, theirs, their_labels) in enumerate(zip(found, boxes, labels, strict=True)):
        ours = Found(*(part.detach().cpu() for part in one))
        theirs, their_labels = theirs.cpu(), their_labels.cpu()
        _check_picture(f"picture {picture}, found", ours.boxes, ours.labels, classes)
        _check_picture(f"picture {picture}, what is there", theirs, their_labels, classes)
        scores_fit = ours.scores.shape == ours.labels.shape and bool(ours.scores.isfinite().all())
        check(scores_fit, f"picture {picture}: every box found needs a score that is a number")
        order = _best(ours.scores, ours.labels)
        overlaps = _overlaps(ours.boxes[order].double(), theirs.double())
        overlaps[ours.labels[order, None] != their_labels] = 0
        right = [_take(overlaps, threshold) for threshold in thresholds] if overlaps.numel() else []
        right = torch.stack(right) if right else torch.zeros(len(thresholds), len(order), dtype=torch.bool)
        parts.append(Matched(ours.scores[order].double(), ours.labels[order].long(), right))
    scores, kinds, right = zip(*parts, strict=True)
    return Matched(torch.cat(scores), torch.cat(kinds), torch.cat(right, dim=1))


def _check_picture(where: str, boxes: Tensor, labels: Tensor, classes: int) -> None:
    fit = boxes.dim() == 2 and boxes.shape[1] == 4 and labels.shape == boxes.shape[:1]
    check(fit, f"{where}: boxes {tuple(boxes.shape)} and labels {tuple(labels.shape)}; they should be (n, 4) and (n,)")
    in_order = bool((boxes.isfinite().all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1)).all())
    check(in_order, f"{where}: a box is not x1 y1 x2 y2 with x1 <= x2 and y1 <= y2")
    known = bool(((labels >= 0) & (labels < classes)).all())
    check(known, f"{where}: a label is not one of 0 to {classes - 1}")


def _best(scores: Tensor, labels: Tensor) -> Tensor:
    """Return indices in falling order of score, at most MOST of each class."""
    order = scores.argsort(descending=True, stable=True)
    if len(order) <= MOST:
        return order
    kinds = labels[order]
    rank = (kinds[:, None] == kinds).tril(-1).sum(dim=1)  # how many of its class come before it
    return order[rank < MOST]


def _overlaps(ours: Tensor, theirs: Tensor) -> Tensor:
    """IoU (n, m) of boxes (n, 4) and (m, 4); in float64, because torchvision's box_iou of float32 may miss a threshold."""
    sides = torch.minimum(ours[:, None, 2:], theirs[:, 2:]) - torch.maximum(ours[:, None, :2], theirs[:, :2])
    common = sides.clamp(min=0).prod(dim=2)
    areas, their_areas = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (ours, theirs))
    return torch.where(common > 0, common / (areas[:, None] + their_areas - common), 0)  # two points have no area together


def _take(overlaps: Tensor, threshold: float) -> Tensor:
    """Let each row of overlaps (n, m), best first, take a column; return which rows got one (n,)."""
    enough = overlaps >= min(threshold, 1 - 1e-10)  # as COCO: a box on itself may lack the last digit
    right, taken = torch.zeros(len(overlaps), dtype=torch.bool), set()
    wishes: dict[int, list[tuple[float, int]]] = {}
    for row, column in enough.nonzero().tolist():
        wishes.setdefault(row, []).append((overlaps[row, column].item(), column))
    for row, columns in wishes.items():
        free = [(overlap, column) for overlap, column in columns if column not in taken]
        if free:
            taken.add(max(free)[1])  # of two equal overlaps the later column, as COCO
            right[row] = True
    return right
