"""What a network that paints in any style is trained on: patches of photographs, and as many styles as one likes.

The styles are sheets of marbled paper, each with its own colours, width and direction of veins, drawn in a millisecond; some are
cut into tiles.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def marbled_paper(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw sheets of paper: noise of one width and direction, in bands of a few colours.

    Args:
        count: How many sheets.
        size: Height and width, in pixels.
        generator: Of everything that is drawn at random, on the CPU.

    Returns:
        (count, 3, size, size), values 0..1
    """
    down, right = torch.fft.fftfreq(size)[:, None] * size, torch.fft.rfftfreq(size)[None] * size  # waves per picture
    papers = []
    for angle, frequency, longer, colours, contrast, sharp in torch.rand(count, 6, generator=generator).tolist():
        frequency, turn = 2 ** (2.8 + 1.5 * frequency) * size / 128, angle * math.pi
        across = right * math.cos(turn) + down * math.sin(turn)
        along = (down * math.cos(turn) - right * math.sin(turn)) * (1 + 5 * longer**2)
        band = torch.exp(-((torch.hypot(across, along) / frequency - 1) ** 2) / 0.18)
        band = torch.stack([band, torch.exp(-(right**2 + down**2) / 18)])  # veins, and a slow drift
        noise = torch.fft.irfft2(torch.fft.rfft2(torch.randn(2, size, size, generator=generator)) * band, s=(size, size))
        veins, drift = noise / noise.std(dim=(1, 2), keepdim=True)
        palette = torch.rand(3 + int(4 * colours), 3, generator=generator)
        palette = torch.lerp(palette.mean(dim=0), palette, 0.5 + 0.5 * contrast)
        level = (0.5 * veins + 0.35 * drift + 0.5).clamp(0, 1 - 1e-4) * (len(palette) - 1)
        lower = level.floor()
        share = torch.sigmoid((4 + 10 * sharp) * (level - lower - 0.5))[..., None]  # wide or narrow passages between colours
        papers.append(torch.lerp(palette[lower.long()], palette[lower.long() + 1], share).permute(2, 0, 1))
    return torch.stack(papers)


def laid_in_tiles(papers: Tensor, generator: torch.Generator) -> Tensor:
    """Lay sheets of paper in tiles, each of one colour of its sheet, with dark joints: as large and as regular as drawn.

    Args:
        papers: (n, 3, size, size), values 0..1
        generator: Of everything that is drawn at random, on the CPU.

    Returns:
        (n, 3, size, size), values 0..1
    """
    size, laid = papers.shape[3], []
    pixels = torch.cartesian_prod(*2 * [torch.arange(size)]).float()  # (size², 2): y, x
    for paper, (large, crooked, joint, uneven) in zip(papers, torch.rand(len(papers), 4, generator=generator), strict=True):
        side = 5 + 9 * large.item()
        tiles = torch.cartesian_prod(*2 * [torch.arange(0, size + side, side)])
        tiles = tiles + crooked * side * (torch.rand(tiles.shape, generator=generator) - 0.5)
        distances, nearest = torch.cdist(pixels, tiles).topk(2, largest=False)
        y, x = tiles.round().long().clamp(0, size - 1).unbind(dim=1)
        stone = paper[:, y, x] + 0.15 * uneven * torch.randn(1, len(tiles), generator=generator)
        cover = (distances[:, 1] - distances[:, 0] - 2 * joint).clamp(0, 1)  # 0 in the joints: as far from the next as from ours
        laid.append((stone[:, nearest[:, 0]] * cover + 0.18 * (1 - cover)).clamp(0, 1).view(3, size, size))
    return torch.stack(laid)


def paper_styles(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw sheets of marbled paper, every other one laid in tiles: (count, 3, size, size), values 0..1."""
    papers = marbled_paper(count, size, generator)
    papers[1::2] = laid_in_tiles(papers[1::2], generator)
    return papers


def photograph_patches(pictures: Sequence[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Cut squares out of pictures, up to twice as large and then reduced, half of them mirrored.

    Args:
        pictures: (1, 3, height, width) each; they take turns.
        count: How many squares.
        size: Height and width, in pixels; no larger than the pictures.
        generator: Of places and sizes, on the CPU.

    Returns:
        (count, 3, size, size)
    """
    cut = []
    for number in range(count):
        picture, draw = pictures[number % len(pictures)], torch.rand(4, generator=generator).tolist()
        side = min(int(size * (1 + draw[0])), *picture.shape[2:])
        y, x = (int(share * (length - side + 1)) for share, length in zip(draw[1:3], picture.shape[2:], strict=True))
        patch = F.interpolate(picture[:, :, y : y + side, x : x + side], size=(size, size), mode="bilinear", antialias=True)
        cut.append(patch.flip(3) if draw[3] < 0.5 else patch)
    return torch.cat(cut)
