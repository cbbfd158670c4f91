"""A person's own picture, brought into the form of those that the network has learned from: a small square in RGB."""

import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.datasets.captions import middle_square
from utils.pictures import PictureError, in_colour

LEAST = 16  # pixels: with fewer on a side there is nothing to be seen


def image_from(photo: Image.Image, side: int) -> Tensor:
    """The square in the middle of a picture of any size and mode: (3, side, side) uint8.

    Raises:
        PictureError: It is tiny, or of one colour.
    """
    photo = ImageOps.exif_transpose(photo)  # a phone stores the picture as the sensor lay, and notes how to turn it
    if min(photo.size) < LEAST:
        raise PictureError("too_small", f"the picture is {photo.width}x{photo.height} pixels; there is nothing to see in it")
    image = torch.from_numpy(middle_square(in_colour(photo), side))
    if (image.amax(dim=(1, 2)) - image.amin(dim=(1, 2))).max() < 3:
        raise PictureError("blank", "the picture is of one colour; there is nothing to describe in it")
    return image
