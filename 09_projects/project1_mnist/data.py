"""MNIST for the network: as float pixels, shifted at random while it trains."""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.batches import Batches, to_pixels
from utils.datasets import Images


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Move pictures (batch, channels, height, width) by whole pixels; what comes in at the edge is 0, the background."""
    height, width = images.shape[-2:]
    margin = max(abs(down), abs(right))
    padded = F.pad(images, (margin, margin, margin, margin))
    top, left = margin - down, margin - right
    return padded[..., top : top + height, left : left + width]


def shifted_pixels(images: Tensor, generator: torch.Generator, most: int) -> Tensor:
    """Move a whole batch by up to `most` pixels in each direction, the same for every picture in it.

    A digit two pixels to the left is the same digit: the network should not need to see it there to know.
    One draw for a batch is as good as one for each picture when there are many batches, and much cheaper.
    """
    down, right = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
    return to_pixels(shift(images, down, right))


def training_batches(data: Images, batch_size: int, device: torch.device, seed: int, most: int = 2) -> Batches:
    """Shuffled batches (pixels, labels), each of them moved by up to `most` pixels."""
    return Batches(
        data.images,
        data.labels,
        batch_size=min(batch_size, len(data)),
        drop_last=True,  # a last batch of a few pictures has unreliable statistics for batch normalisation
        transform=lambda images, generator: shifted_pixels(images, generator, most),
        device=device,
        seed=seed,
    )


def mean_and_std(images: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of uint8 images, in 0..1. Of the training images only."""
    counts = torch.bincount(images.flatten(), minlength=256).double()  # of each brightness: 256 numbers, not millions
    brightness = torch.arange(256) / 255
    mean = (counts * brightness).sum() / counts.sum()
    variance = (counts * (brightness - mean).square()).sum() / counts.sum()
    return mean.item(), variance.sqrt().item()
