"""Whitening: turn patches of pictures into numbers of equal size that tell nothing about one another.

Neighbouring pixels are nearly equal, red is nearly green: the twelve numbers of a 2x2 patch say the same thing twelve times, and
what distinguishes patches, edges and colours, is small beside their brightness. A network could learn to undo that, but it
takes many steps, and it can be computed: the eigenvectors of the patches' covariance are the directions in which they vary
independently, and each is divided by how much they vary along it (David Page, "How to train your ResNet 8", 2019).
"""

import torch
from torch import Tensor, nn


def covariance_of_patches(images: Tensor, size: int = 2) -> Tensor:
    """Covariance (3·size², 3·size²) of all patches of size x size pixels in normalised images (N, 3, height, width)."""
    patches = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, 3, rows, columns, size, size)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * size**2).double()  # one patch in each row
    return patches.T.cov()


def whitening_filters(images: Tensor, size: int = 2, floor: float = 5e-4) -> Tensor:
    """Filters (3·size², 3, size, size) that make the patches of these images white: uncorrelated, each with variance 1.

    Args:
        images: Normalised pixels (N, 3, height, width).
        size: Of the patches.
        floor: Added to every variance: a direction that hardly varies holds noise, which should not become as loud as the rest.
    """
    variances, directions = torch.linalg.eigh(covariance_of_patches(images, size))  # a direction in each column
    filters = directions.T / (variances + floor).sqrt().unsqueeze(1)
    return filters.view(-1, images.shape[1], size, size).float()


@torch.no_grad()
def whiten_first_layer(convolution: nn.Conv2d, images: Tensor) -> None:
    """Set the weights of a convolution to whitening filters and their negatives: after the activation, both signs are there.

    Args:
        convolution: Twice as many filters as a patch has numbers.
        images: Normalised pixels (N, 3, height, width); a few thousand are enough.
    """
    filters = whitening_filters(images, size=convolution.kernel_size[0])
    convolution.weight.copy_(torch.cat([filters, -filters]))
