"""A detector without a network: what can be found with edges and least squares alone, as a baseline for those that learn more.

    found = find_by_gradients(data.train, data.test.images, classes=10)
    mean_average_precision(found, data.test.boxes, data.test.labels, classes=10).at_50

Histograms of oriented gradients in a window round each cell of a grid (Dalal and Triggs, 2005), and two linear maps from them:
one to a score for each class, one to the distances of the four sides. The windows have one size, so objects much larger or
smaller than 56 pixels are hard to it.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.average_precision import Found
from utils.datasets.boxes import Boxed

STRIDE = 8  # pixels from cell to cell
WINDOW = 7  # cells
DIRECTIONS = 8


def find_by_gradients(
    known: Boxed, images: Sequence[Tensor], classes: int, ridge: float = 1.0, overlap: float = 0.5
) -> list[Found]:
    """Fit two linear maps to known pictures, and find with them.

    Args:
        known: Pictures with boxes, on the CPU.
        images: Where to look: each uint8 (3, height, width), on the CPU.
        classes: How many there are.
        ridge: How strongly weights are held small.
        overlap: Of a class, no two boxes with more IoU than this are kept.

    Returns:
        For each of `images`, up to 100 boxes.
    """
    from torchvision.ops import batched_nms

    size = DIRECTIONS * WINDOW**2 + 1
    squares, products = torch.zeros(2, size, size), [torch.zeros(size, classes), torch.zeros(size, 4)]
    for (windows, centres), boxes, labels in zip(_windows(known.images), known.boxes, known.labels, strict=True):
        middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        thing, cell = ((centres - middle).abs() < STRIDE).all(dim=2).nonzero(as_tuple=True)  # the four cells round its middle
        scores = torch.zeros(len(centres), classes)
        scores[cell, labels[thing]] = 1
        near, sides = windows[cell], (boxes[thing] - centres[cell].repeat(1, 2)) * torch.tensor([-1, -1, 1, 1])
        for i, (x, y) in enumerate(((windows, scores), (near, sides))):
            squares[i] += x.T @ x
            products[i] += x.T @ y
    for_scores, for_sides = (torch.linalg.solve(a + ridge * torch.eye(size), b) for a, b in zip(squares, products, strict=True))
    found = []
    for windows, centres in _windows(images):
        scores, (low, high) = windows @ for_scores, (windows @ for_sides).clamp(min=1).split(2, dim=1)
        boxes = torch.cat([centres - low, centres + high], dim=1)
        cell, labels = (scores > 0.02).nonzero(as_tuple=True)
        kept = batched_nms(boxes[cell], scores[cell, labels], labels, overlap)[:100]
        found.append(Found(boxes[cell][kept], scores[cell, labels][kept], labels[kept]))
    return found


def _windows(images: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each picture: what is seen round each cell, (cells, 8 · 49 + 1), and where the cells' centres are, (cells, 2)."""
    for image in images:
        grey = F.pad(image.float().mean(dim=0)[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
        dx, dy = grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]  # (h, w)
        direction = (torch.atan2(dy, dx) / torch.pi * DIRECTIONS).floor() % DIRECTIONS  # dark to bright or back: the same edge
        strength = torch.hypot(dx, dy) * (direction == torch.arange(DIRECTIONS)[:, None, None])  # (8, h, w)
        cells = F.avg_pool2d(strength, STRIDE, ceil_mode=True)
        windows = F.normalize(F.unfold(cells[None], WINDOW, padding=WINDOW // 2)[0].T, dim=1)  # contrast counts nothing
        yield F.pad(windows, (0, 1), value=1.0), cell_centres(*cells.shape[1:], STRIDE)


def cell_centres(rows: int, columns: int, stride: int) -> Tensor:
    """Where the cells of a grid lie in their picture, row by row: (rows · columns, 2), x before y, in pixels."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.stack([x, y], dim=-1).view(-1, 2) + 0.5) * stride
