"""CIFAR-10 for the network: float pixels, mirrored and shifted while it trains, and smaller at first."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.batches import Batches, to_pixels
from utils.datasets import Images


def mirror_half(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror a random half of the images (N, 3, height, width), left to right; returns new ones."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def shift(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move each image (batch, 3, height, width) by up to `most` pixels; what comes in at an edge is mirrored there."""
    batch, _, height, width = images.shape
    down, right = torch.randint(-most, most + 1, (2, batch, 1), generator=generator)
    rows = _mirrored(torch.arange(height) + down, height).to(images.device)  # (batch, height): which row comes to this place
    columns = _mirrored(torch.arange(width) + right, width).to(images.device)
    images = images.gather(2, rows.view(batch, 1, height, 1).expand_as(images))
    return images.gather(3, columns.view(batch, 1, 1, width).expand_as(images))


def _mirrored(places: Tensor, size: int) -> Tensor:
    """Bring places beyond the edges, -1 or size, back to 1 and size - 2."""
    return (size - 1) - ((size - 1) - places.abs()).abs()


def cut_out(pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Make a square of size x size pixels grey, somewhere in each picture (DeVries and Taylor, 2017)."""
    batch, _, height, width = pixels.shape
    top, left = torch.randint(0, height - size + 1, (2, batch, 1), generator=generator).to(pixels.device)
    row, column = (torch.arange(length, device=pixels.device) for length in (height, width))
    inside_rows = (row >= top) & (row < top + size)  # (batch, height)
    inside_columns = (column >= left) & (column < left + size)
    return pixels.masked_fill((inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)).unsqueeze(1), 0.5)


def resize(pixels: Tensor, size: int) -> Tensor:
    """Make pictures (batch, 3, height, width) smaller: (batch, 3, size, size)."""
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


class TrainingBatches(Batches):
    """Shuffled batches (pixels, labels) whose augmentation depends on how far the run is; a resumed run goes on in its place.

    Mirroring alternates: a random half of the images is mirrored in the first epoch, the other half in the second, and so on.
    If it were drawn anew each time, half of the images would come the same way round as the time before (Jordan, 2024).

    The pictures grow: small ones cost little, and what is learned first are coarse shapes (Howard, 2018, "progressive resizing").
    """

    def __init__(
        self,
        data: Images,
        batch_size: int,
        device: torch.device,
        seed: int,
        *,
        epochs: int = 1,
        sizes: Sequence[int] = (32,),
        shift: int = 2,
        cutout: int = 0,
        mirror: bool = True,
    ):
        """Move the data to the device.

        Args:
            data: The training images.
            batch_size: Examples in a batch.
            device: Where the images are kept and augmented.
            seed: Of the order and of the augmentation.
            epochs: How long the run is, for `sizes`.
            sizes: Width and height of the pictures; each size has an equal part of the run's steps.
            shift: Pictures are moved by up to this many pixels in each direction.
            cutout: Width and height of the square that is made grey; 0 for none.
            mirror: Mirror them, in turn.
        """
        images = mirror_half(data.images, torch.Generator().manual_seed(seed)) if mirror else data.images
        super().__init__(
            images,
            data.labels,
            batch_size=min(batch_size, len(data)),
            drop_last=True,  # a last batch of a few pictures has unreliable statistics for batch normalisation
            transform=self._augmented,
            device=device,
            seed=seed,
        )
        self.steps, self.sizes = epochs * len(self), tuple(sizes)
        self.shift, self.cutout, self.mirror = shift, cutout, mirror
        self.step = 0  # how many batches were made since the run began

    def _augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        epoch = self.step // len(self)
        size = self.sizes[min(len(self.sizes) * self.step // self.steps, len(self.sizes) - 1)]
        self.step += 1
        if self.mirror and epoch % 2 == 1:
            images = images.flip(3)
        if self.shift > 0:
            images = shift(images, self.shift, generator)
        pixels = to_pixels(images)
        if self.cutout > 0:
            pixels = cut_out(pixels, self.cutout, generator)
        return resize(pixels, size)

    def state_dict(self) -> dict:
        """Where this is in the epoch, and in the run."""
        return {**super().state_dict(), "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Go back to where `state_dict` was taken."""
        super().load_state_dict(state)
        self.step = state["step"]


def mean_and_std(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each colour in uint8 images (N, 3, height, width), in 0..1. Of the training images only."""
    means, deviations = [], []
    levels = torch.arange(256) / 255
    for colour in images.unbind(dim=1):
        counts = torch.bincount(colour.flatten(), minlength=256).double()  # how often each level occurs
        shares = counts / counts.sum()  # 256 numbers, not millions
        mean = (shares * levels).sum()
        means.append(mean.item())
        deviations.append((shares * (levels - mean).square()).sum().sqrt().item())
    return means, deviations
