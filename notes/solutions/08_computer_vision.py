"""Solutions of stage 08, to read after your own attempt."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou


def unletterbox(boxes: Tensor, side: int, width: int, height: int) -> Tensor:
    scale = side / max(width, height)
    margin = torch.tensor([side - scale * width, side - scale * height] * 2) / 2  # left and top; 0 for the longer side
    limits = torch.tensor([width, height] * 2, dtype=boxes.dtype)
    return ((boxes - margin) / scale).clamp(min=0).minimum(limits)  # the margin belongs to the square: off before scaling


def pairwise_giou(ours: Tensor, theirs: Tensor) -> Tensor:
    ours = ours[:, None]  # (n, 1, 4) against (m, 4)
    sides = torch.minimum(ours[..., 2:], theirs[:, 2:]) - torch.maximum(ours[..., :2], theirs[:, :2])
    hull = (torch.maximum(ours[..., 2:], theirs[:, 2:]) - torch.minimum(ours[..., :2], theirs[:, :2])).prod(dim=-1)
    areas = (ours[..., 2:] - ours[..., :2]).prod(dim=-1), (theirs[:, 2:] - theirs[:, :2]).prod(dim=-1)
    common = sides.clamp(min=0).prod(dim=-1)
    union = areas[0] + areas[1] - common
    return common / union - (hull - union) / hull


def merge_boxes(boxes: Tensor, scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    order, merged, best = scores.argsort(descending=True, stable=True), [], []
    while len(order):
        group = box_iou(boxes[order[:1]], boxes[order])[0] > threshold
        group[0] = True  # itself, even where it has no area
        chosen = order[group]
        weights = scores[chosen] / scores[chosen].sum()
        merged.append(weights @ boxes[chosen])  # (k,) @ (k, 4)
        best.append(scores[chosen[0]])
        order = order[~group]
    return torch.stack(merged) if merged else boxes, torch.stack(best) if best else scores


def best_threshold(scores: Tensor, right: Tensor, count: int) -> tuple[float, float]:
    cuts = scores.unique().flip(0)  # best first, and argmax takes the first of equals
    believed = scores >= cuts[:, None]  # (cuts, n): equal scores come together
    # 2PR / (P + R) with P = hits / believed and R = hits / count is 2 hits / (believed + count): nothing is divided by 0.
    f1 = 2 * (believed & right).sum(dim=1) / (believed.sum(dim=1) + count)
    return cuts[f1.argmax()].item(), f1.max().item()


def boxes_from_bins(logits: Tensor, centres: Tensor, stride: float) -> Tensor:
    bins = torch.arange(logits.shape[2], dtype=logits.dtype, device=logits.device)
    distances = stride * (logits.softmax(dim=2) @ bins)  # (cells, 4)
    return torch.cat([centres - distances[:, :2], centres + distances[:, 2:]], dim=1)


def quality_focal_loss(logits: Tensor, scores: Tensor, power: float = 2.0) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    return (entropy * (logits.sigmoid() - scores).abs() ** power).sum() / scores.sum().clamp(min=1)


def cells_by_centre(boxes: Tensor, centres: Tensor, reach: float) -> Tensor:
    if not len(boxes):
        return torch.full((len(centres),), -1, device=centres.device)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (m, 1, 2)
    inside = (centres >= low) & (centres <= high) & ((centres - (low + high) / 2).abs() <= reach)  # (m, cells, 2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    areas = torch.where(inside.all(dim=2), areas[:, None], torch.inf)  # (m, cells)
    smallest, owner = areas.min(dim=0)
    # min() may return any of equal places on a GPU; argmax of the first True is the first on every device.
    owner = (areas == smallest).int().argmax(dim=0)
    return torch.where(smallest.isfinite(), owner, -1)


def best_possible_recall(sizes: Tensor, anchors: Tensor, most: float = 4.0) -> float:
    # The larger of a ratio and its inverse treats stretching and shrinking alike; the worse of the two sides decides.
    ratio = sizes[:, None] / anchors  # (n, k, 2)
    worst = torch.maximum(ratio, 1 / ratio).amax(dim=2)
    return (worst.amin(dim=1) <= most).float().mean().item()


def bipartite_match(iou: Tensor) -> Tensor:
    free = iou.clone()
    chosen = torch.full((len(iou),), -1)
    for _ in range(len(iou)):
        truth, anchor = divmod(free.argmax().item(), iou.shape[1])  # argmax of all pairs, row by row: the first of equals
        chosen[truth] = anchor
        free[truth] = -1  # lower than any IoU: an IoU of 0 may still have to be taken
        free[:, anchor] = -1
    return chosen


def task_aligned_assign(
    scores: Tensor, iou: Tensor, inside: Tensor, k: int = 10, alpha: float = 1.0, beta: float = 6.0
) -> Tensor:
    if len(iou) == 0:
        return torch.full((iou.shape[1],), -1)  # max of nothing is an error
    metric = scores**alpha * iou**beta * inside
    chosen = torch.zeros_like(inside).scatter_(1, metric.topk(k, dim=1).indices, True) & (metric > 0)
    best, owner = iou.masked_fill(~chosen, -1).max(dim=0)
    return torch.where(best >= 0, owner, -1)


def predict_in_tiles(predict: Callable[[Tensor], Tensor], picture: Tensor, size: int, stride: int) -> Tensor:
    # Near a tile's edge the network does not see what lies around; where tiles overlap, another one does.
    rows, columns = ([*range(0, side - size, stride), side - size] for side in picture.shape[1:])
    total, tiles = 0, torch.zeros(picture.shape[1:])
    for top in rows:
        for left in columns:
            place = (..., slice(top, top + size), slice(left, left + size))
            logits = predict(picture[place][None])[0]  # (classes, size, size)
            if isinstance(total, int):
                total = logits.new_zeros(len(logits), *picture.shape[1:])
            total[place] += logits
            tiles[place] += 1
    return total / tiles.to(total.device)


def boundary_iou(answer: Tensor, mask: Tensor, distance: int) -> Tensor:
    # A pixel is of the band if it is of the mask and the smallest value around it is 0. Minus a maximum is a minimum.
    bands = []
    for one in (answer, mask):
        around = F.pad(one[None].float(), [distance] * 4)
        bands.append(one & (-F.max_pool2d(-around, 2 * distance + 1, stride=1)[0] < 0.5))
    either = (bands[0] | bands[1]).sum()
    return (bands[0] & bands[1]).sum() / either if either else torch.tensor(1.0)


def tversky_loss(logits: Tensor, masks: Tensor, false_alarms: float, misses: float) -> Tensor:
    p = logits.sigmoid()
    hits, alarms, missed = (p * masks).sum(), (p * (1 - masks)).sum(), ((1 - p) * masks).sum()
    wrong = false_alarms * alarms + misses * missed  # 1 - hits / (hits + wrong) is wrong / (hits + wrong)
    return wrong / (hits + wrong).clamp(min=1e-8)


def turn_boxes(boxes: Tensor, width: int) -> Tensor:
    # What was right is on top now: y' = width - x, and x' = y. The right edge x2 becomes the upper one.
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([y1, width - x2, y2, width - x1], dim=1)


def number_pieces(mask: Tensor) -> Tensor:
    numbers, count = torch.zeros(mask.shape, dtype=torch.long), 0
    for start in mask.nonzero().tolist():
        if numbers[tuple(start)]:
            continue
        count, waiting = count + 1, [start]
        while waiting:  # a flood from the first pixel that has no number yet
            row, column = waiting.pop()
            inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
            if inside and mask[row, column] and not numbers[row, column]:
                numbers[row, column] = count
                waiting += [[row - 1, column], [row + 1, column], [row, column - 1], [row, column + 1]]
    return numbers


def panoptic_quality(iou: Tensor) -> tuple[float, float, float]:
    right = iou[iou > 0.5]  # above a half there is one partner at most, so nothing has to be assigned
    if not len(right):
        return 0.0, 0.0, 0.0
    segmentation, recognition = right.mean().item(), 2 * len(right) / sum(iou.shape)  # TP + FP/2 + FN/2 = (found + true) / 2
    return segmentation * recognition, segmentation, recognition


def statistics_loss(maps: Tensor, goal: Tensor) -> Tensor:
    # The diagonal of the Gram matrix is mean² + deviation²: this knows both apart, and nothing of how channels go together.
    (std, mean), (goal_std, goal_mean) = (torch.std_mean(x, dim=(2, 3), correction=0) for x in (maps, goal))
    return ((mean - goal_mean).square() + (std - goal_std).square()).mean()


def gram_in_strips(strips: Iterable[Tensor]) -> Tensor:
    # Sums first, one division at the end: a mean of the strips' Gram matrices would count low strips as much as high ones.
    total, places = 0, 0
    for strip in strips:
        flat = strip.flatten(start_dim=1)  # (channels, height · width)
        total, places = total + flat @ flat.T, places + flat.shape[1]
    return total / places


class ConditionalInstanceNorm(nn.Module):
    def __init__(self, styles: int, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(styles, channels)), nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        weight, bias = (shares @ one for one in (self.weight, self.bias))  # (n, channels): a mixture for each picture
        return F.instance_norm(x) * weight[:, :, None, None] + bias[:, :, None, None]


def paint_any_size(painter: Callable[[Tensor], Tensor], pictures: Tensor, multiple: int = 4) -> Tensor:
    height, width = pictures.shape[2:]
    below, right = -height % multiple, -width % multiple  # 0 where it is a multiple already
    painted = painter(F.pad(pictures, (0, right, 0, below), mode="reflect"))  # the last dimension comes first
    return painted[:, :, :height, :width]


def adain_by_region(content: Tensor, mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    result = torch.empty_like(content)
    for part, style in ((mask, inside), (~mask, outside)):
        places = content[..., part]  # (1, channels, places of this part)
        (variance, mean), (spread, goal) = (
            torch.var_mean(maps, dim=2, correction=0, keepdim=True) for maps in (places, style.flatten(start_dim=2))
        )
        result[..., part] = (places - mean) / (variance + 1e-5).sqrt() * (spread + 1e-5).sqrt() + goal
    return result


def keep_colours(painted: Tensor, photo: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=photo.device).view(3, 1, 1)
    brighter = ((painted - photo) * weights).sum(dim=1, keepdim=True)  # (n, 1, height, width): the weights add up to 1
    return (photo + brighter).clamp(0, 1)
