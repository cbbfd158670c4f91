"""What detection and segmentation hold: pictures with boxes, and pictures with a class for each pixel."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

IGNORED = 255  # a pixel of a mask that counts nowhere


class Boxed(NamedTuple):
    """Pictures of any size, each with its boxes. A picture without objects has boxes (0, 4) and labels (0,).

    Attributes:
        images: Each uint8 (3, height, width).
        boxes: Each float32 (n, 4): x1 y1 x2 y2 in pixels, 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height.
        labels: Each int64 (n,).
    """

    images: list[Tensor]
    boxes: list[Tensor]
    labels: list[Tensor]


@dataclass(frozen=True)
class DetectionData:
    """Boxes in three splits.

    Attributes:
        classes: The name behind each label.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: Whether these are the real pictures and not the sample.
    """

    train: Boxed
    validation: Boxed
    test: Boxed
    classes: list[str]
    source: str
    is_real: bool


class Masked(NamedTuple):
    """Pictures of one size, each with the class of every pixel.

    Attributes:
        images: uint8 (N, 3, height, width).
        masks: uint8 (N, height, width); IGNORED where nothing counts.
    """

    images: Tensor
    masks: Tensor


@dataclass(frozen=True)
class SegmentationData:
    """Masks in three splits.

    Attributes:
        classes: The name behind each value of a mask.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: Whether these are the real pictures and not the sample.
    """

    train: Masked
    validation: Masked
    test: Masked
    classes: list[str]
    source: str
    is_real: bool
