"""Pictures that change, and their boxes with them: what detectors are trained with.

    picture, boxes = flip(picture, boxes)
    picture, boxes, kept = zoom(picture, boxes, generator, scale=(0.5, 2.0))
    labels = labels[kept]

A picture is uint8 (3, height, width), on any device; boxes are float (n, 4), x1 y1 x2 y2 in pixels, on the same device; n may be
0. Pixels are counted by their borders: the box 0 0 1 1 is the first pixel. What is drawn comes from a generator on the CPU, so
that the same seed gives the same pictures on every device. Nothing is changed in place.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

GREY = 114  # where a picture does not reach; about the mean of photographs, so that it is neither dark nor bright to a network
BRIGHTNESS_OF = (0.2989, 0.587, 0.114)  # red, green and blue, as the eye sees them; torchvision's digits


class Moved(NamedTuple):
    """A picture and the boxes that are still in it.

    Attributes:
        picture: uint8 (3, height, width).
        boxes: float (m, 4), cut at the picture's edges.
        kept: int64 (m,): which rows of the boxes before these are. `labels[kept]` are their labels.
    """

    picture: Tensor
    boxes: Tensor
    kept: Tensor


def resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Make a picture (3, h, w) as large as `size` (height, width): bilinear, smoothed where it becomes smaller."""
    if tuple(picture.shape[1:]) == tuple(size):
        return picture
    large = F.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0]
    return large.round().clamp(0, 255).byte()


# ---------------------------------------------------------------------------------------------------- whole pictures


def letterbox(picture: Tensor, side: int) -> tuple[Tensor, float, tuple[int, int]]:
    """Fit a picture of any shape into a square, its proportions as they are, with grey around it.

    Args:
        picture: uint8 (3, height, width).
        side: Width and height of the square.

    Returns:
        The square (3, side, side); the factor by which the picture was enlarged; where its upper left corner lies, (left, top)
    """
    height, width = picture.shape[1:]
    factor = side / max(height, width)
    rows, columns = (max(1, round(length * factor)) for length in (height, width))
    left, top = (side - columns) // 2, (side - rows) // 2
    edges = (left, side - columns - left, top, side - rows - top)
    return F.pad(resize(picture, (rows, columns)), edges, value=GREY), factor, (left, top)


def letterbox_boxes(boxes: Tensor, factor: float, offset: tuple[int, int]) -> Tensor:
    """Move boxes (n, 4) of a picture into its letterbox; `factor` and `offset` as `letterbox` returned them."""
    return boxes * factor + boxes.new_tensor(offset).repeat(2)


def unletterbox(boxes: Tensor, factor: float, offset: tuple[int, int], width: int, height: int) -> Tensor:
    """Move boxes (n, 4) found in a letterbox back into the picture of `width` x `height` pixels, and cut them at its edges."""
    return clip((boxes - boxes.new_tensor(offset).repeat(2)) / factor, width, height)


def clip(boxes: Tensor, width: int, height: int) -> Tensor:
    """Cut boxes (n, 4) at the edges of a picture."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height]).repeat(2))


# ------------------------------------------------------------------------------------------------------- augmentation


def flip(picture: Tensor, boxes: Tensor, vertical: bool = False) -> tuple[Tensor, Tensor]:
    """Mirror left and right, or top and bottom if `vertical`."""
    (x1, y1, x2, y2), (height, width) = boxes.unbind(dim=1), picture.shape[1:]
    if vertical:
        return picture.flip(1), torch.stack([x1, height - y2, x2, height - y1], dim=1)
    return picture.flip(2), torch.stack([width - x2, y1, width - x1, y2], dim=1)


def cut(
    picture: Tensor, boxes: Tensor, window: tuple[int, int, int, int], size: tuple[int, int] | None = None, share: float = 0.3
) -> Moved:
    """Cut a window out of a picture and resize it.

    Args:
        picture: uint8 (3, height, width).
        boxes: float (n, 4).
        window: x1 y1 x2 y2 in whole pixels. It may reach beyond the picture, where it is grey.
        size: (height, width) of the result; the window's own without it.
        share: A box of which less than this share of its area is left is dropped, and so is one of no area.
    """
    x1, y1, x2, y2 = window
    height, width = picture.shape[1:]
    size = size or (y2 - y1, x2 - x1)
    piece = F.pad(picture, (-x1, x2 - width, -y1, y2 - height), value=GREY)  # a negative padding cuts off
    seen = clip(boxes - boxes.new_tensor([x1, y1, x1, y1]), x2 - x1, y2 - y1)
    left = area(seen)
    kept = ((left >= share * area(boxes)) & (left > 0)).nonzero()[:, 0]
    factors = boxes.new_tensor([size[1] / (x2 - x1), size[0] / (y2 - y1)]).repeat(2)
    return Moved(resize(piece, size), seen[kept] * factors, kept)


def random_crop(
    picture: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    generator: Generator,
    scale: tuple[float, float] = (1.0, 1.0),
    stretch: float = 1.0,
    share: float = 0.3,
) -> Moved:
    """Show a random part of a picture, enlarged by a random factor, in a frame of `size` (height, width).

    Args:
        picture: uint8 (3, height, width).
        boxes: float (n, 4).
        size: (height, width) of the result.
        generator: On the CPU.
        scale: The smallest and the largest factor; the logarithm is drawn evenly, so that 1/2 is as likely as 2.
        stretch: Up to so many times wider or higher than it was; 1.1 is gentle.
        share: As in `cut`.
    """
    factor, wider = draw_factor(scale, generator), draw_factor((1 / stretch, stretch), generator)
    rows, columns = max(1, round(size[0] / factor * wider)), max(1, round(size[1] / factor / wider))
    top, left = (_start(length, part, generator) for length, part in zip(picture.shape[1:], (rows, columns), strict=True))
    return cut(picture, boxes, (left, top, left + columns, top + rows), size, share)


def _start(length: int, part: int, generator: Generator) -> int:
    """Where a part begins: inside the picture, or, where it is larger, so that the whole picture is in it."""
    spare = length - part
    return min(0, spare) + int(torch.randint(abs(spare) + 1, (), generator=generator))


def zoom(
    picture: Tensor,
    boxes: Tensor,
    generator: Generator,
    scale: tuple[float, float] = (0.5, 1.5),
    stretch: float = 1.0,
    share: float = 0.3,
) -> Moved:
    """Enlarge or reduce what is in the picture, which keeps its size: `random_crop` with the picture's own size."""
    return random_crop(picture, boxes, tuple(picture.shape[1:]), generator, scale, stretch, share)


def mosaic(
    pictures: Sequence[Tensor],
    boxes: Sequence[Tensor],
    side: int,
    generator: Generator,
    scale: tuple[float, float] = (0.5, 1.0),
    share: float = 0.3,
) -> Moved:
    """Put a random part of each of four pictures round a random point of a square.

    Args:
        pictures: Four, uint8 (3, height, width), of any sizes.
        boxes: Those of each, float (n, 4).
        side: Width and height of the square.
        generator: On the CPU.
        scale: By how much each is enlarged at least and at most.
        share: As in `cut`.

    Returns:
        `kept` counts the rows of all four one after another: `torch.cat(labels)[kept]` are the labels.
    """
    if len(pictures) != 4 or len(boxes) != 4:
        raise ValueError(f"a mosaic needs four pictures with their boxes, not {len(pictures)} and {len(boxes)}")
    x, y = (int(torch.randint(side // 4, side - side // 4, (), generator=generator)) for _ in range(2))
    x, y = max(1, x), max(1, y)  # of a square of less than four pixels
    square = pictures[0].new_full((3, side, side), GREY)
    found, kept, before = [], [], 0
    corners = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
    for picture, its_boxes, (x1, y1, x2, y2) in zip(pictures, boxes, corners, strict=True):
        part = random_crop(picture, its_boxes, (y2 - y1, x2 - x1), generator, scale, share=share)
        square[:, y1:y2, x1:x2] = part.picture
        found.append(part.boxes + part.boxes.new_tensor([x1, y1, x1, y1]))
        kept.append(part.kept + before)
        before += len(its_boxes)
    return Moved(square, torch.cat(found), torch.cat(kept))


def jitter_colour(
    picture: Tensor, generator: Generator, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4
) -> Tensor:
    """Change the colours of a picture (3, height, width) by random factors, each from 1 - x to 1 + x. Boxes stay."""
    drawn = [draw_even(1 - width, 1 + width, generator) for width in (brightness, contrast, saturation)]
    return colour(picture, *(max(0.0, factor) for factor in drawn))


def colour(picture: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Change brightness, then contrast, then saturation of a picture (3, height, width); 1 leaves each as it is, 0 removes it."""
    x = (picture.float() * brightness).clamp(0, 255)
    mean = grey(x).mean()
    x = (mean + contrast * (x - mean)).clamp(0, 255)
    pale = grey(x)
    return (pale + saturation * (x - pale)).clamp(0, 255).round().byte()


def grey(picture: Tensor) -> Tensor:
    """How bright each pixel looks: (3, height, width) → (1, height, width)."""
    return (picture * picture.new_tensor(BRIGHTNESS_OF).view(3, 1, 1)).sum(dim=0, keepdim=True)


def area(boxes: Tensor) -> Tensor:
    """Pixels in each box: (n, 4) → (n,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def draw_even(low: float, high: float, generator: Generator) -> float:
    """Draw a number evenly from low to high."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def draw_factor(scale: tuple[float, float], generator: Generator) -> float:
    """Draw a factor between the two; 1/2 is as likely as 2."""
    low, high = scale
    return low * (high / low) ** torch.rand((), generator=generator).item()
