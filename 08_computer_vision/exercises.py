"""Exercises · 연습문제: boxes, masks and styles

Put your code where it says TODO, then:  python -m study check 08
Stuck?  python -m study hint unletterbox
"""

from collections.abc import Callable, Iterable

import torch  # noqa: F401  (for your code)
from torch import Tensor, nn


def unletterbox(boxes: Tensor, side: int, width: int, height: int) -> Tensor:
    """Take boxes from a network's square input back to the picture that was fitted into it.

    The picture was scaled by one factor, so that its longer side has `side` pixels, and put into the middle of the square;
    what was left on both sides was filled.

    Args:
        boxes: x1 y1 x2 y2 in pixels of the square, (n, 4).
        side: Width and height of the square.
        width: Of the original picture, in pixels.
        height: Likewise.

    Returns:
        (n, 4) in pixels of the original picture; what reaches beyond its edges is cut off.
    """
    raise NotImplementedError  # TODO


def pairwise_giou(ours: Tensor, theirs: Tensor) -> Tensor:
    """Generalised IoU of each box with each: IoU less the share of the smallest box round both that neither fills.

    Args:
        ours: x1 y1 x2 y2, (n, 4).
        theirs: (m, 4).

    Returns:
        (n, m), -1 to 1.
    """
    raise NotImplementedError  # TODO


def merge_boxes(boxes: Tensor, scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression that throws no evidence away: each box that stays becomes the mean of those it would drop.

    In order of score, a box gathers all boxes that are left and overlap it by more than `threshold`, and itself. They become one
    box, their mean weighted by scores, with the best score of them. (BlazeFace does so: its boxes tremble less in a video.)

    Args:
        boxes: x1 y1 x2 y2 of one class, (n, 4).
        scores: (n,), above 0.
        threshold: Of IoU.

    Returns:
        Boxes (m, 4) and scores (m,), best first.
    """
    raise NotImplementedError  # TODO


def best_threshold(scores: Tensor, right: Tensor, count: int) -> tuple[float, float]:
    """Choose the score from which on boxes are believed, so that F1 = 2 · precision · recall / (precision + recall) is best.

    Only scores that occur are tried, and boxes with the same score are believed together or not at all. Of equally good ones
    the highest is chosen.

    Args:
        scores: Of all boxes that were found, in any order, (n,), n at least 1.
        right: Whether each is right, bool (n,).
        count: How many objects there are.

    Returns:
        The lowest score that is believed, and the F1 it gives.
    """
    raise NotImplementedError  # TODO


def boxes_from_bins(logits: Tensor, centres: Tensor, stride: float) -> Tensor:
    """Read boxes from distributions, as YOLOv8 does: how far each side is, is not one number but a softmax over bins 0 to k - 1.

    The distance is the mean of the distribution, in strides. (An edge that is hard to see gets a broad distribution.)

    Args:
        logits: (cells, 4, k): for left, top, right, bottom the logits of each bin.
        centres: (cells, 2), x and y in pixels.
        stride: Pixels from cell to cell.

    Returns:
        (cells, 4), x1 y1 x2 y2 in pixels.
    """
    raise NotImplementedError  # TODO


def quality_focal_loss(logits: Tensor, scores: Tensor, power: float = 2.0) -> Tensor:
    """Binary cross entropy for wanted scores between 0 and 1, in which easy answers count little (Li et al., 2020).

    Each entry's cross entropy is multiplied by |sigmoid(logit) - score| to the given power. Gradients go through that, too.
    Logits of -200 or 200 must not make inf or NaN.

    Args:
        logits: (cells, classes).
        scores: (cells, classes), 0 for all that is background.
        power: 0 leaves the plain cross entropy.

    Returns:
        The sum of all entries divided by the sum of the wanted scores, or by 1 where that is less: ().
    """
    raise NotImplementedError  # TODO


def cells_by_centre(boxes: Tensor, centres: Tensor, reach: float) -> Tensor:
    """Decide which object each cell answers for without asking the network, as FCOS does (Tian et al., 2019).

    A cell may answer for an object if its centre lies inside the box, edges included, and, in x and in y, at most `reach` pixels
    from the middle of the box. Of several objects the one with the smallest area gets it; of equal areas the first.

    Args:
        boxes: (m, 4), x1 y1 x2 y2; m may be 0.
        centres: (cells, 2).
        reach: In pixels.

    Returns:
        (cells,) int64: the object's row, -1 for the background.
    """
    raise NotImplementedError  # TODO


def best_possible_recall(sizes: Tensor, anchors: Tensor, most: float = 4.0) -> float:
    """Say what share of boxes at least one anchor could answer for, as YOLOv5 judges anchors before it trains.

    It asks for no IoU but for ratios: an anchor can answer for a box if neither side has to become more than `most` times as long
    or as short. Exactly `most` times is allowed.

    Args:
        sizes: (n, 2), widths and heights of the boxes.
        anchors: (k, 2), the same of the anchors.
        most: At least 1.
    """
    raise NotImplementedError  # TODO


def bipartite_match(iou: Tensor) -> Tensor:
    """Give every truth an anchor of its own, the best pairs first: the first half of SSD's matching.

    Of all pairs whose truth and anchor are both free take the one with the highest IoU, until every truth has an anchor. Unlike
    torchvision's rule it forgets nobody. Of equal pairs the one of the first truth, then of the first anchor, is taken.

    Args:
        iou: (truths, anchors), no more truths than anchors; there may be no truth.

    Returns:
        (truths,) int64, the anchor of each.
    """
    raise NotImplementedError  # TODO


def task_aligned_assign(
    scores: Tensor, iou: Tensor, inside: Tensor, k: int = 10, alpha: float = 1.0, beta: float = 6.0
) -> Tensor:
    """Assign cells as TOOD (Feng et al., 2021) and YOLOv8 do: to each truth those that are good at both tasks.

    The metric of a cell for a truth is score^alpha · IoU^beta, and 0 outside of the truth's box. Each truth chooses the k cells
    with the highest metric, but none where it is 0. A cell that several truths chose answers for the one with the highest IoU.

    Args:
        scores: (truths, cells), what each cell says about the class of each truth, 0 to 1. There may be no truth.
        iou: (truths, cells), of the box of each cell with each truth.
        inside: (truths, cells) bool, whether the cell lies in the truth's box.
        k: How many cells a truth chooses at most; at least as many cells are there.
        alpha: The weight of the class.
        beta: The weight of the box.

    Returns:
        (cells,) int64, the truth for which each cell answers, -1 for none.
    """
    raise NotImplementedError  # TODO


def predict_in_tiles(predict: Callable[[Tensor], Tensor], picture: Tensor, size: int, stride: int) -> Tensor:
    """Segment a picture that is too large for the network or the memory: in tiles that overlap, their logits averaged.

    Tiles of size x size start at 0, stride, 2 stride, ... in both directions, as long as they fit; where the last one would leave
    a rest, one more lies flush with the edge. A pixel's logits are the mean over all tiles that show it.

    Args:
        predict: Makes logits (1, classes, size, size) of a tile (1, 3, size, size).
        picture: (3, height, width), neither below `size`.
        size: Height and width of a tile.
        stride: From one tile to the next, at most `size`.

    Returns:
        Logits (classes, height, width).
    """
    raise NotImplementedError  # TODO


def boundary_iou(answer: Tensor, mask: Tensor, distance: int) -> Tensor:
    """Compare two masks at their edges only: Boundary IoU (Cheng et al., 2021).

    Of each mask keep the pixels from which some pixel that is not of the mask is at most `distance` away, in rows and in columns
    (a square of 2 distance + 1 pixels around it); what lies outside the picture is not of the mask. The result is the IoU of the
    two bands, 1 where both are empty.

    Args:
        answer: (height, width) bool.
        mask: The same shape.
        distance: In pixels, at least 1.

    Returns:
        A number, float32 ().
    """
    raise NotImplementedError  # TODO


def tversky_loss(logits: Tensor, masks: Tensor, false_alarms: float, misses: float) -> Tensor:
    """Dice that says which mistakes are worse (Salehi et al., 2017): 1 - hits / (hits + a · false alarms + b · misses).

    All three are sums of probabilities over the whole batch: of wire where there is some (hits), of wire where there is none
    (false alarms), of none where there is some (misses). a = b = 1/2 is Dice, a = b = 1 is IoU. Where there is nothing and the
    network is sure of it, the loss is 0 and so is its gradient.

    Args:
        logits: (n, height, width).
        masks: The same shape, 0 or 1.
        false_alarms: Their weight a, above 0.
        misses: Their weight b.

    Returns:
        The loss, ().
    """
    raise NotImplementedError  # TODO


def turn_boxes(boxes: Tensor, width: int) -> Tensor:
    """Move boxes to where they belong when their picture is turned: by torch.rot90(picture, 1, dims=(1, 2)), counter-clockwise.

    Args:
        boxes: (n, 4), x1 y1 x2 y2 in pixels with x1 <= x2 and y1 <= y2; n may be 0.
        width: Of the picture before it is turned.

    Returns:
        (n, 4), again with x1 <= x2 and y1 <= y2.
    """
    raise NotImplementedError  # TODO


def number_pieces(mask: Tensor) -> Tensor:
    """Number the connected pieces of a mask as scipy.ndimage.label does: neighbours share an edge; corners do not connect.

    Args:
        mask: (h, w) bool.

    Returns:
        (h, w) int64: 0 outside; 1, 2, ... in the order in which reading row by row meets the pieces first.
    """
    raise NotImplementedError  # TODO


def panoptic_quality(iou: Tensor) -> tuple[float, float, float]:
    """Judge the objects of one class in one picture.

    Args:
        iou: (found, true) float: intersection over union of every mask found with every true one. Neither the masks found nor
            the true ones overlap among themselves. Either number may be 0, not both.

    Returns:
        Panoptic quality, the mean IoU of what was found rightly (IoU above 0.5), and recognition quality TP / (TP + FP/2 + FN/2).
        The first is the product of the two others; where nothing was found rightly, all three are 0.
    """
    raise NotImplementedError  # TODO


def statistics_loss(maps: Tensor, goal: Tensor) -> Tensor:
    """A style loss without Gram matrices: only each channel's mean and standard deviation over all places (Li et al., 2017).

    (mean - mean of the goal)² + (deviation - deviation of the goal)², in the mean over channels and pictures. Deviations divide
    by the number of places.

    Args:
        maps: Feature maps of pictures (n, channels, height, width).
        goal: Feature maps of one style picture (1, channels, any height, any width).

    Returns:
        A scalar, through which gradients flow to `maps`.
    """
    raise NotImplementedError  # TODO


def gram_in_strips(strips: Iterable[Tensor]) -> Tensor:
    """The Gram matrix of a picture too large for memory, whose feature maps come strip by strip.

    Args:
        strips: Maps (channels, height, width) of strips of one picture, of the same width, but not all of the same height.

    Returns:
        (channels, channels): sums of products over all places of the picture, divided by how many places there are.
    """
    raise NotImplementedError  # TODO


class ConditionalInstanceNorm(nn.Module):
    """Instance norm with weights and biases for several styles, so that one network paints all of them (Dumoulin et al., 2017).

    Each channel of each picture gets mean 0 and variance 1 over its places (eps 1e-5); then it is multiplied by a weight and a
    bias is added. These belong to the style: parameters `weight` (styles, channels), at first 1, and `bias`, at first 0.
    """

    def __init__(self, styles: int, channels: int):
        super().__init__()
        raise NotImplementedError  # TODO

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """Normalise x (n, channels, height, width); shares (n, styles) mixes the styles' weights and biases for each picture."""
        raise NotImplementedError  # TODO


def paint_any_size(painter: Callable[[Tensor], Tensor], pictures: Tensor, multiple: int = 4) -> Tensor:
    """Paint pictures of any size with a network that only takes multiples: nothing is cut off, nothing is stretched.

    Continue the pictures at the right and at the bottom by their mirror image, by as little as possible; paint; cut off what was
    added.

    Args:
        painter: Takes and gives pictures whose height and width are multiples of `multiple`.
        pictures: (n, 3, height, width), each side at least `multiple`.
        multiple: Of the height and the width.

    Returns:
        Painted pictures of the size of `pictures`.
    """
    raise NotImplementedError  # TODO


def adain_by_region(content: Tensor, mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Give two parts of a photograph two styles: a person in one, what is behind in another (Huang & Belongie, 2017).

    Within each part of the content, a channel gets the mean and the deviation that it has over the whole of that part's style.
    The content's own mean and deviation are those of the part as well, not of the whole picture. Deviations divide by the number
    of places, and are sqrt(variance + 1e-5).

    Args:
        content: Feature maps of one photograph (1, channels, height, width).
        mask: (height, width) bool, True inside; both parts have at least two places.
        inside: Feature maps of the style for the inside (1, channels, any height, any width).
        outside: Of the style for the outside, likewise.

    Returns:
        (1, channels, height, width)
    """
    raise NotImplementedError  # TODO


def keep_colours(painted: Tensor, photo: Tensor) -> Tensor:
    """Take only the brightness from a painted picture; the colours stay the photograph's (Gatys et al., 2016).

    The brightness of a pixel is 0.299 red + 0.587 green + 0.114 blue. Red, green and blue of the photograph's pixel all change
    by the same amount, so that its brightness becomes the painted pixel's. Then clamp to 0..1.

    Args:
        painted: (n, 3, height, width), values 0..1
        photo: Of the same shape.

    Returns:
        (n, 3, height, width), values 0..1
    """
    raise NotImplementedError  # TODO
