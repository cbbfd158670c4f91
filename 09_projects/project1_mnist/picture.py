"""A person's own picture of a digit, brought into the form that MNIST's pictures have.

A network knows only what it was trained on: white ink on black, a digit 20 pixels tall or wide, its centre of mass in the middle
of 28x28 pixels (http://yann.lecun.com/exdb/mnist/). A photo of a note on a desk is none of that. What is done here before the
network sees it decides more about the answer than any layer of the network.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from utils.pictures import PictureError

WORKING_SIZE = 280  # pixels of the longest side while we look for the digit: strokes stay visible, and it takes milliseconds
BOX, FIELD = 20, 28  # MNIST: the digit fits into 20x20 pixels, in the middle of 28x28
STROKE = 2.0  # the least width of a stroke, in pixels of the 28x28


def digit_from(image: Image.Image) -> Tensor:
    """Bring a picture of one digit into MNIST's form.

    Args:
        image: Any size and mode: dark ink on bright paper or the reverse, a photo, a scan, a drawing on a transparent layer.

    Returns:
        (1, 1, 28, 28) float32 in 0..1, white ink on black.

    Raises:
        PictureError: There is nothing in the picture.
    """
    grey = reduce_to(to_grey(image), WORKING_SIZE)  # (height, width) in 0..1
    ink = ink_of(grey)  # (height, width) in 0..1, 1 is ink
    digit = strengthen(crop(ink))
    return centre(fit_into_box(digit)).view(1, 1, FIELD, FIELD)


# ------------------------------------------------------------------------------------------------- from a file to grey


def to_grey(image: Image.Image) -> Tensor:
    """Brightness (height, width) float32 in 0..1 of a picture in any mode, the right way up."""
    image = ImageOps.exif_transpose(image)  # a phone stores the picture as the sensor lay, and notes how to turn it
    if image.mode.startswith("I"):  # 16 bits per pixel, as scanners write; Pillow's own conversion would cut them off at 255
        return torch.from_numpy(np.asarray(image).astype(np.float32) / 65535).clamp(0, 1)
    if "A" in image.getbands() or "transparency" in image.info:
        return without_transparency(image.convert("RGBA"))
    return torch.from_numpy(np.asarray(image.convert("L")).astype(np.float32) / 255)


def without_transparency(image: Image.Image) -> Tensor:
    """Put an RGBA picture onto paper; return its brightness (height, width).

    Where what is visible is all of one brightness, the shape of the digit is in the transparency alone: it is ink, and it gets a
    paper that it stands out from, white for black ink and black for white ink. Otherwise there is paper in the picture
    already, a note with round corners for example, and the transparent part is made the same.
    """
    grey = torch.from_numpy(np.asarray(image.convert("RGB").convert("L")).astype(np.float32) / 255)
    alpha = torch.from_numpy(np.asarray(image.getchannel("A")).astype(np.float32) / 255)
    if alpha.sum() == 0:
        raise PictureError("blank", "the picture is fully transparent; draw a digit and try again")
    mean = (alpha * grey).sum() / alpha.sum()
    spread = ((alpha * (grey - mean).square()).sum() / alpha.sum()).sqrt()
    if spread < 0.15:
        paper = 1.0 if mean < 0.5 else 0.0
    else:
        paper = grey[alpha > 0.5].median() if (alpha > 0.5).any() else 1.0
    return alpha * grey + (1 - alpha) * paper


def reduce_to(grey: Tensor, longest: int) -> Tensor:
    """Shrink (height, width) so that the longest side has `longest` pixels; leave a smaller picture as it is."""
    scale = longest / max(grey.shape)
    return grey if scale >= 1 else resize(grey, scale)


def resize(picture: Tensor, scale: float) -> Tensor:
    """Scale (height, width) by a factor, averaging over the pixels that fall into one (antialias)."""
    size = [max(1, round(side * scale)) for side in picture.shape]
    return F.interpolate(picture[None, None], size=size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)


# ------------------------------------------------------------------------------------------------------ from grey to ink


def ink_of(grey: Tensor) -> Tensor:
    """Tell ink from paper.

    Args:
        grey: (height, width) in 0..1, of either polarity.

    Returns:
        (height, width) in 0..1: 0 is paper, 1 is ink.

    Raises:
        PictureError: There is only paper.
    """
    contrast = contrast_with_paper(grey if ink_is_dark(grey) else 1 - grey)
    threshold = otsu_threshold(contrast)
    is_ink = contrast > threshold
    paper, ink = contrast[~is_ink], contrast[is_ink]
    # Cut in two, plain noise also has a brighter half: 2.7 of its standard deviations above the darker one, if it is Gaussian.
    if len(ink) == 0 or len(paper) == 0 or ink.mean() - paper.mean() < max(0.08, 5 * paper.std(correction=0).item()):
        raise PictureError("blank", "the picture is blank, or its ink is too faint; write a digit, dark and large, and try again")
    level = paper.mean() + 0.3 * (ink.mean() - paper.mean())  # noise and creases stay below
    return ((contrast - level) / (ink.median() - level)).clamp(0, 1) * without_specks(is_ink)


def ink_is_dark(grey: Tensor) -> bool:
    """Whether the pixels of (height, width) that differ most from the paper are darker than it."""
    difference = (grey - paper_along_border(grey)).flatten().sort().values
    few = max(1, len(difference) // 200)
    return (-difference[:few].mean() > difference[-few:].mean()).item()


def paper_along_border(grey: Tensor) -> Tensor:
    """How bright the paper is everywhere (height, width), judged from the picture's border, where there is no ink.

    Light falls unevenly but smoothly, so that a paraboloid through the border's pixels, by least squares, is a good guess.
    Border pixels far from it belong to something else: they are dropped, and the rest is fitted again.
    """
    height, width = grey.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    terms = torch.stack([torch.ones_like(x), x, y, x * y, x.square(), y.square()], dim=-1)  # (height, width, 6)
    margin = max(1, round(0.04 * min(height, width)))
    on_border = torch.ones_like(grey, dtype=torch.bool)
    on_border[margin:-margin, margin:-margin] = False

    columns, values = terms[on_border], grey[on_border]
    keep = (values - values.median()).abs() <= 0.25  # ink that runs out of the picture is far from the paper
    for _ in range(3):
        # gelsd: also for a picture with too few pixels to tell six numbers from
        solution = torch.linalg.lstsq(columns[keep], values[keep].unsqueeze(1), driver="gelsd").solution
        error = (columns @ solution).squeeze(1).sub(values).abs()
        keep = error <= max(0.02, error.quantile(0.75).item())  # 0.02: of a drawing without noise, all of the paper is kept
    return (terms @ solution).squeeze(-1).clamp(0, 1)


def contrast_with_paper(grey: Tensor) -> Tensor:
    """How much of the light of the paper nearby is missing at each pixel (height, width): 0 on paper, towards 1 for ink.

    The highest value around each pixel removes the strokes, and the lowest value of that gives what is dark and wide its
    extent back (a closing; Serra, 1982): uneven light and shadows stay with their edges, only the strokes are gone.
    """
    around = round(0.15 * min(grey.shape)) + 1
    size = 2 * around + 1  # wider than a stroke
    beyond = F.pad(grey[None], (around,) * 4, mode="replicate")[0]  # the paper goes on beyond the picture's border
    paper = -highest_around(-highest_around(beyond, size), size)[around:-around, around:-around]
    return 1 - grey / paper.clamp(min=0.1)  # a share: ink in a shadow takes away from less light


def highest_around(picture: Tensor, size: int) -> Tensor:
    """The highest value in the size x size pixels around each one of (height, width); rows first, then columns, is cheaper."""
    rows = F.max_pool2d(picture[None, None], (1, size), stride=1, padding=(0, size // 2))
    return F.max_pool2d(rows, (size, 1), stride=1, padding=(size // 2, 0))[0, 0]


def otsu_threshold(values: Tensor) -> float:
    """The value that parts a histogram into two groups whose means lie furthest apart, weighted by their sizes (Otsu, 1979)."""
    low, high = values.min().item(), values.max().item()
    counts = torch.histc(values, bins=256, min=low, max=high + 1e-6)
    centres = torch.linspace(low, high, 256)
    below, above = counts.cumsum(0), counts.sum() - counts.cumsum(0)
    sums = (counts * centres).cumsum(0)
    mean_below, mean_above = sums / below.clamp(min=1), (sums[-1] - sums) / above.clamp(min=1)
    between = below * above * (mean_above - mean_below).square()
    best = between >= between.max() * (1 - 1e-6)  # two sharp groups: every value between them, of which we take the middle one
    return centres[best].mean().item()


def without_specks(is_ink: Tensor) -> Tensor:
    """Which pixels (height, width) belong to the digit: the pieces of ink that are not tiny beside the largest one.

    A piece that runs out of the picture is the edge of the sheet or of a shadow, if there is a digit inside.
    """
    from scipy import ndimage  # comes with scikit-learn

    # One pixel more on each side: the soft edge of a stroke belongs to it, and pieces that almost touch are one.
    grown = (highest_around(is_ink.float(), 3) > 0).numpy()
    pieces, count = ndimage.label(grown, structure=np.ones((3, 3)))
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    areas[0] = 0  # the paper
    at_edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    inside = np.delete(areas, at_edge)
    if len(inside) and inside.max() > 0.3 * areas.max():
        areas[at_edge] = 0
    return torch.from_numpy((areas >= 0.05 * areas.max())[pieces])


# --------------------------------------------------------------------------------------------------- from ink to MNIST


def crop(ink: Tensor) -> Tensor:
    """Cut (height, width) to the ink."""
    rows, columns = ink.amax(dim=1).nonzero(), ink.amax(dim=0).nonzero()
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def strengthen(digit: Tensor) -> Tensor:
    """Thicken strokes that would be thinner than STROKE pixels in the 28x28: MNIST's writers had soft pencils.

    Returns:
        The digit with 10 pixels for each pixel of the box.
    """
    fine = 10
    digit = resize(digit, fine * BOX / max(digit.shape))
    is_ink = digit > 0.5
    inside = highest_around(-is_ink.float(), 3) < 0  # ink with ink all around
    edge = (is_ink & ~inside).sum().item()
    width = 2 * is_ink.sum().item() / max(1, edge)  # of a long stripe with two edges
    missing = round(fine * STROKE - width)
    if missing < 2:
        return digit
    around = missing // 2
    return highest_around(F.pad(digit, (around,) * 4), 2 * around + 1)


def fit_into_box(digit: Tensor) -> Tensor:
    """Scale (height, width) so that its longest side has 20 pixels; the aspect ratio stays."""
    return resize(digit, BOX / max(digit.shape))


def centre(digit: Tensor) -> Tensor:
    """Put (height, width), at most 20x20, onto 28x28 with its centre of mass in the middle, as near as whole pixels allow."""
    height, width = digit.shape
    weight = digit / digit.sum()
    middle_y = (weight.sum(dim=1) * (torch.arange(height) + 0.5)).sum().item()
    middle_x = (weight.sum(dim=0) * (torch.arange(width) + 0.5)).sum().item()
    top = min(max(round(FIELD / 2 - middle_y), 0), FIELD - height)
    left = min(max(round(FIELD / 2 - middle_x), 0), FIELD - width)
    return F.pad(digit, (left, FIELD - width - left, top, FIELD - height - top))
