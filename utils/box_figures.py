"""Boxes drawn over pictures, for the figures of lessons."""

from collections.abc import Sequence

import torch
from torch import Tensor

from utils.average_precision import Found
from utils.datasets.boxes import Boxed
from utils.plotting import label as text_label


def draw_boxes(axis, image: Tensor, boxes: Tensor, labels: Tensor, classes: list[str], scores: Tensor | None = None) -> None:
    """Show a picture with boxes in the colours of their classes.

    Args:
        axis: A matplotlib Axes; its ticks are removed.
        image: uint8 (3, height, width).
        boxes: (n, 4), x1 y1 x2 y2 in pixels.
        labels: (n,), indices into `classes`.
        classes: The name of each class.
        scores: (n,), written behind the names.
    """
    from matplotlib.patches import Rectangle

    height, width = image.shape[1:]
    axis.imshow(image.permute(1, 2, 0).cpu().numpy(), extent=(0, width, height, 0))  # so that 0 is the border of the first pixel
    for i, ((x1, y1, x2, y2), label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
        text, colour = classes[label] if scores is None else f"{classes[label]} {scores[i]:.2f}", f"C{label % 10}"
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.5))
        axis.text(x1, y1, text, color="white", fontsize=7, clip_on=True, bbox={"facecolor": colour, "pad": 0.8, "linewidth": 0})
    axis.set(xticks=[], yticks=[])


def compare_boxes(truth: Boxed, found: Sequence[Found], classes: list[str], maps: Tensor):
    """Make a figure with a column for each picture: the truth, what was found, and a map of scores from 0 to 1.

    Args:
        truth: n pictures with their boxes.
        found: What was found in each.
        classes: The name of each class.
        maps: (n, rows, columns).

    Returns:
        A matplotlib Figure.
    """
    import matplotlib.pyplot as plt

    columns = len(truth.images)
    height = 2.3 * truth.images[0].shape[1] / truth.images[0].shape[2]
    figure, axes = plt.subplots(3, columns, figsize=(2.3 * columns, 3 * height), layout="constrained", squeeze=False)
    for (top, middle, bottom), image, boxes, labels, one, scores in zip(axes.T, *truth, found, maps, strict=True):
        draw_boxes(top, image, boxes, labels, classes)
        draw_boxes(middle, image, one.boxes, one.labels, classes, one.scores)
        bottom.imshow(scores.numpy(), vmin=0, vmax=1)
        bottom.set(xticks=[], yticks=[])
    names = text_label("truth", "정답"), text_label("found", "찾은 것"), text_label("best score", "가장 높은 점수")
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name)
    return figure


def training_curves(losses: Sequence[float], precision: dict[int, float]):
    """Make a figure of training: the loss of every step, smoothed over 20, and mAP@0.5 on validation pictures by step."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    smooth = torch.tensor(losses).unfold(0, min(20, len(losses)), 1).mean(dim=1).numpy()
    left.plot(range(len(losses) - len(smooth) + 1, len(losses) + 1), smooth)
    left.set(xlabel=text_label("step", "스텝"), ylabel=text_label("training loss", "학습 손실"), ylim=(0, None))
    right.plot(list(precision), list(precision.values()), "o-")
    right.set(xlabel=text_label("step", "스텝"), ylabel=text_label("validation mAP@0.5", "검증 mAP@0.5"), ylim=(0, 1))
    return figure
