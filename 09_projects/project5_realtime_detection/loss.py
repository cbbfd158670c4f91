"""What a cell should have said, and how far off it was.

Task-aligned assignment (Feng et al., 2021, "TOOD", https://arxiv.org/abs/2108.07755): an object is the task of those cells inside
it that do it best already, judged by score and overlap together. So the network itself settles which of the three maps an object
belongs to, and what becomes a high score is what has a good box.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from project5_realtime_detection.model import Detector, Said

NOTHING = -1  # label of a row that only fills up
CELLS = 10  # for each object, at most
SCORE_POWER, OVERLAP_POWER = 0.5, 4.0  # how much each counts when the cells of an object are chosen
BOX_WEIGHT = 4.0  # of the loss of boxes against that of scores


class Targets(NamedTuple):
    """What the cells of a batch should say.

    Attributes:
        chosen: bool (batch, cells): which have an object to find.
        boxes: (batch, cells, 4), of their objects; anything where nothing was chosen.
        scores: (batch, cells, classes) in 0..1.
    """

    chosen: Tensor
    boxes: Tensor
    scores: Tensor


def detection_loss(model: Detector, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The loss of a batch.

    Args:
        model: Gets the pictures.
        batch: pictures (batch, 3, side, side) in 0..1, boxes (batch, most, 4), labels (batch, most), NOTHING where no box is.

    Returns:
        Binary cross entropy of the scores, and 1 - CIoU of the boxes of chosen cells, by how well they were done.
    """
    from torchvision.ops import complete_box_iou_loss

    pictures, boxes, labels = batch
    said = model.say(pictures)
    targets = assign(said, boxes, labels)
    total = targets.scores.sum().clamp(min=1.0)
    wrong_scores = F.binary_cross_entropy_with_logits(said.logits, targets.scores, reduction="sum")
    chosen = targets.chosen
    wrong_boxes = complete_box_iou_loss(said.boxes[chosen], targets.boxes[chosen], reduction="none")
    weights = targets.scores.sum(dim=2)[chosen]
    return (wrong_scores + BOX_WEIGHT * (weights * wrong_boxes).sum()) / total


@torch.no_grad()
def assign(said: Said, boxes: Tensor, labels: Tensor) -> Targets:
    """Choose the cells for each object.

    Args:
        said: What the network says now.
        boxes: (batch, most, 4)
        labels: (batch, most), NOTHING where there is no box.
    """
    is_box = labels != NOTHING  # (batch, most)
    rows = labels.clamp(min=0)
    scores = said.logits.sigmoid().transpose(1, 2)  # (batch, classes, cells)
    scores = scores.gather(1, rows[..., None].expand(-1, -1, scores.shape[2]))  # (batch, most, cells): of the object's class
    overlaps = pairwise_overlaps(boxes, said.boxes)  # (batch, most, cells)
    to_sides = torch.cat([said.centres - boxes[..., None, :2], boxes[..., None, 2:] - said.centres], dim=3)
    inside = (to_sides > 0).all(dim=3) & is_box[..., None]  # the centre of the cell in the box
    quality = scores**SCORE_POWER * overlaps**OVERLAP_POWER * inside

    best = quality.topk(min(CELLS, quality.shape[2]), dim=2).indices
    candidates = torch.zeros_like(quality, dtype=torch.bool).scatter_(2, best, True) & inside
    # A cell has one box to give: where two objects want it, the one it overlaps more gets it.
    wanted = torch.where(candidates, overlaps, -1.0)
    object_of = wanted.argmax(dim=1)  # (batch, cells)
    chosen = candidates.any(dim=1)
    owned = candidates & (torch.arange(boxes.shape[1], device=boxes.device)[:, None] == object_of[:, None])

    # The best cell of an object should say how much it overlaps; the others less, as they do it less well.
    quality, overlaps = quality * owned, overlaps * owned
    share = quality / quality.amax(dim=2, keepdim=True).clamp(min=1e-9)
    aims = (share * overlaps.amax(dim=2, keepdim=True)).amax(dim=1)  # (batch, cells)
    target_boxes = boxes.gather(1, object_of[..., None].expand(-1, -1, 4))
    target_scores = F.one_hot(rows.gather(1, object_of), said.logits.shape[2]) * aims[..., None]
    return Targets(chosen, target_boxes, target_scores)


def pairwise_overlaps(ours: Tensor, theirs: Tensor) -> Tensor:
    """Intersection over union of boxes (batch, n, 4) with boxes (batch, m, 4): (batch, n, m)."""
    lower_right = torch.minimum(ours[:, :, None, 2:], theirs[:, None, :, 2:])  # (batch, n, m, 2)
    sides = lower_right - torch.maximum(ours[:, :, None, :2], theirs[:, None, :, :2])
    common = sides.clamp(min=0).prod(dim=3)
    areas, their_areas = ((boxes[..., 2:] - boxes[..., :2]).prod(dim=2) for boxes in (ours, theirs))
    return common / (areas[:, :, None] + their_areas[:, None] - common).clamp(min=1e-9)
