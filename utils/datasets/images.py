"""Labelled pictures as tensors, and the two things that every lesson does with them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Labelled pictures: images (N, channels, height, width) uint8 in 0..255, labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index) -> "Images":
        """A part of them, by slice, mask or index tensor."""
        return Images(self.images[index], self.labels[index])


@dataclass(frozen=True)
class ImageData:
    """A data set of labelled pictures.

    Attributes:
        classes: The name of each label.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for a sample.
    """

    train: Images
    test: Images
    classes: list[str]
    source: str
    is_real: bool


def hold_out(data: Images, count: int, seed: int = 0) -> tuple[Images, Images]:
    """Split off `count` random examples, for choosing settings without touching the test set.

    Returns:
        (the rest, the held-out examples)
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data[order[count:]], data[order[:count]]


def nearest_mean_accuracy(train: Images, test: Images) -> float:
    """The baseline for pictures: average all training images of each class, choose the average that a test image is closest to.

    Returns:
        The share of right answers on the test images, 0..1.
    """
    classes = train.labels.unique()
    means = torch.stack([train.images[train.labels == label].float().mean(dim=0).flatten() for label in classes])
    distances = torch.cdist(test.images.float().flatten(1), means)  # (N, classes)
    return (classes[distances.argmin(dim=1)] == test.labels).float().mean().item()
