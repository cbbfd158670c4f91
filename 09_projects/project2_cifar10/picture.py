"""A person's own photo, brought into the form that CIFAR-10's pictures have: 32x32 pixels, RGB.

The objects of CIFAR-10 fill their pictures. Of a photo that is not square we therefore take the square in its middle: the whole
photo between two bars would show the object smaller than the network has ever seen one, beside bars that it has never seen.
What stands at the side of a wide photo is lost. Cutting the photo close around the object helps more than anything else.
"""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.pictures import PictureError

SIDE = 32  # pixels of the pictures that the network was trained on
LEAST = 8  # pixels: with fewer on a side there is nothing to be seen


def image_from(photo: Image.Image) -> Tensor:
    """Bring a photo of any size and mode into CIFAR-10's form.

    Returns:
        (3, 32, 32) uint8.

    Raises:
        PictureError: It is tiny, fully transparent, or of one colour.
    """
    square = middle_square(to_rgb(photo))
    if square.width < LEAST:
        raise PictureError("too_small", f"the picture is {photo.width}x{photo.height} pixels; there is nothing to see in it")
    # Pillow averages over all the pixels that fall into one (antialias): taking every hundredth would show noise.
    small = square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()
    if (image.amax(dim=(1, 2)) - image.amin(dim=(1, 2))).max() < 3:
        raise PictureError("blank", "the picture is of one colour; there is nothing to see in it")
    return image


def to_rgb(photo: Image.Image) -> Image.Image:
    """A picture in any mode as 8-bit RGB, the right way up."""
    photo = ImageOps.exif_transpose(photo)  # a phone stores the picture as the sensor lay, and notes how to turn it
    if photo.mode.startswith("I"):  # 16 bits per pixel, as scanners write; Pillow's own conversion would cut them off at 255
        grey = np.asarray(photo).clip(0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if "A" in photo.getbands() or "transparency" in photo.info:
        layer = photo.convert("RGBA")
        if layer.getextrema()[3][1] == 0:
            raise PictureError("blank", "the picture is fully transparent; there is nothing to see in it")
        paper = Image.new("RGBA", layer.size, (128, 128, 128, 255))  # grey: neither a white nor a black object vanishes on it
        return Image.alpha_composite(paper, layer).convert("RGB")
    return photo.convert("RGB")


def middle_square(photo: Image.Image) -> Image.Image:
    """The largest square in the middle of a picture."""
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.crop((left, top, left + side, top + side))
