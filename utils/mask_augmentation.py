"""Changing pictures together with their masks, on the device, a batch at a time.

images, masks = crop_and_zoom(images, masks, (128, 160), zoom=1.5, flip=True, generator=generator)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets.boxes import IGNORED


def crop_and_zoom(
    images: Tensor, masks: Tensor, size: tuple[int, int], zoom: float, flip: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut a piece out of each picture and the same one out of its mask, enlarged or reduced, and mirrored or not.

    Pictures are resampled bilinearly. Masks hold numbers of classes, which must not be mixed: each pixel takes the nearest one.

    Args:
        images: float (n, channels, height, width).
        masks: (n, height, width) integers.
        size: Height and width of the pieces.
        zoom: Pictures are enlarged by a factor between 1 / zoom and zoom, drawn for each.
        flip: Mirror every second one or so, left and right.
        generator: On the CPU, so that all devices draw alike.

    Returns:
        images (n, channels, *size), 0 where a piece reaches beyond its picture; masks int64 (n, *size), IGNORED there.
    """
    draws = (2 * torch.rand(len(images), 4, generator=generator) - 1).to(images.device)  # from -1 to 1
    share = draws.new_tensor(size[::-1]) / draws.new_tensor([images.shape[3], images.shape[2]])  # of the width and the height
    share = share / zoom ** draws[:, :1]  # (n, 2): as much of them does each piece show
    centre = draws[:, 1:3] * (1 - share).abs()  # the piece inside its picture, or the picture inside its piece
    moves = torch.cat([torch.diag_embed(share), centre[..., None]], dim=2)  # (n, 2, 3), x and y from -1 to 1
    if flip:
        moves[:, 0, 0] *= torch.where(draws[:, 3] < 0, -1, 1)
    grid = F.affine_grid(moves, [len(images), 1, *size], align_corners=False)
    pieces = F.grid_sample(images, grid, align_corners=False)
    # Beyond the picture comes 0, so what is IGNORED is made 0 before, and IGNORED again after that.
    labels = F.grid_sample(masks[:, None].float() - IGNORED, grid, mode="nearest", align_corners=False) + IGNORED
    return pieces, labels[:, 0].round().long()
