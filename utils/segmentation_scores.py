"""How good masks are: confusion matrix, intersection over union, and which pixels lie near a boundary.

    counts = confusion_matrix(answers, masks, classes=11)
    mean_iou(counts), pixel_accuracy(counts)

08_computer_vision/image_segmentation.py writes them out and says what they see and what they do not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets.boxes import IGNORED
from utils.lesson import check


def confusion_matrix(answers: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Count pixels by class and answer. Counts of several pictures add up to those of all.

    Args:
        answers: (..., height, width) integers from 0 to classes - 1.
        masks: The same shape; IGNORED (255) where nothing counts.
        classes: How many.

    Returns:
        (classes, classes) int64 on the CPU: in row c and column a, pixels of class c that were called a.

    Raises:
        LessonError: Other shapes, or a class that is none.
    """
    check(answers.shape == masks.shape, f"answers of shape {tuple(answers.shape)} for masks of {tuple(masks.shape)}")
    counted = masks != IGNORED
    truth, answers = masks[counted].long(), answers[counted].long()
    for name, values in (("masks", truth), ("answers", answers)):
        low, high = (int(value) for value in values.aminmax()) if len(values) else (0, 0)
        check(low >= 0 and high < classes, f"the {name} have classes from {low} to {high}, expected 0 to {classes - 1}")
    return torch.bincount(truth * classes + answers, minlength=classes**2).view(classes, classes).cpu()


def intersection_over_union(counts: Tensor) -> Tensor:
    """IoU of each class (classes,) float64 from a confusion matrix; NaN for a class that neither occurs nor is answered."""
    both = counts.diagonal().double()
    return both / (counts.sum(dim=0) + counts.sum(dim=1) - both)


def mean_iou(counts: Tensor) -> float:
    """The mean over the classes that occur or are answered; NaN where no pixel counts."""
    return intersection_over_union(counts).nanmean().item()


def pixel_accuracy(counts: Tensor) -> float:
    """The share of pixels that are right; NaN where none counts."""
    return (counts.diagonal().sum().double() / counts.sum()).item()


def near_boundary(masks: Tensor, distance: int) -> Tensor:
    """Find the pixels with another class at most `distance` pixels away, diagonals too (a trimap; Kohli et al., 2009).

    What is IGNORED is no other class: where it begins, nobody knows what borders on what.

    Args:
        masks: (n, height, width) integers.
        distance: At least 1, in pixels.

    Returns:
        (n, height, width) bool.
    """
    ignored, values = masks == IGNORED, masks.float()
    window = {"kernel_size": 2 * distance + 1, "stride": 1, "padding": distance}
    highest = F.max_pool2d(values.masked_fill(ignored, -1), **window)
    lowest = -F.max_pool2d(-values.masked_fill(ignored, IGNORED), **window)
    return (highest > lowest) & ~ignored


def wrong_by_distance(answers: Tensor, masks: Tensor, rings: Sequence[int]) -> list[float]:
    """Tell how many pixels are wrong at boundaries, and how many far from them.

    Args:
        answers: (n, height, width) integers.
        masks: The same shape; what is IGNORED does not count.
        rings: Distances in pixels, rising.

    Returns:
        The share of wrong pixels up to the first distance, from there to the second, ..., and beyond the last; NaN where no
        pixel is.
    """
    found, rest = [], masks != IGNORED
    for ring in rings:
        near = rest & near_boundary(masks, ring)
        found.append((answers != masks)[near].float().mean().item())
        rest = rest & ~near
    return [*found, (answers != masks)[rest].float().mean().item()]
