"""Opening pictures that somebody else made: any file may come, and none of them may stop or fill the computer."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from utils.lesson import LessonError, explain

Prepared = TypeVar("Prepared")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # not all that Pillow knows: for EPS it would start a program
MEGAPIXELS = 50  # the most that is decoded
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1")  # how photos of an iPhone begin, after four bytes


class PictureError(LessonError):
    """A picture that cannot be used. `kind` says why in one word: unreadable, damaged, too_large, or a project's own."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def open_picture(source: Path | str | bytes) -> Image.Image:
    """Open and decode a picture.

    Args:
        source: A file, or its content.

    Raises:
        PictureError: It is no picture, it is cut off, or it has more than 50 megapixels, which its header tells before anything
            is decoded: a file of a few kilobytes can claim to be a picture that fills the memory.
        OSError: There is no such file, or it may not be read.
    """
    name = "what was sent" if isinstance(source, bytes) else str(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damaged notes in the header and its own, higher limit
        try:
            picture = Image.open(file, formats=FORMATS)  # reads the header only
            megapixels = picture.width * picture.height / 1e6
        except Image.DecompressionBombError:
            megapixels = float("inf")
        except UnidentifiedImageError:
            file.seek(4)
            if file.read(8) in HEIC:
                raise PictureError("unreadable", f"{name} is a HEIC photo, which cannot be read; save it as JPEG first") from None
            raise PictureError("unreadable", f"{name} is not a picture; PNG, JPEG, WebP, GIF, BMP and TIFF can be read") from None
        except (OSError, SyntaxError, ValueError, EOFError):
            raise PictureError("damaged", f"{name} is damaged: its header cannot be read; save or copy it again") from None
        if megapixels > MEGAPIXELS:
            raise PictureError("too_large", f"{name} has more than {MEGAPIXELS} megapixels; make it smaller first")
        try:
            picture.load()
        except (OSError, SyntaxError, ValueError, EOFError):  # Pillow's decoders raise all of these
            raise PictureError("damaged", f"{name} is cut off or damaged; save or copy it again") from None
    return picture


def in_colour(picture: Image.Image) -> Image.Image:
    """Any picture in RGB: 16 bits made 8, what is transparent on white."""
    if picture.mode.startswith(("I", "F")):  # 16 bits for each pixel
        picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("RGB")


def open_each(
    files: Sequence[Path], prepare: Callable[[Image.Image], Prepared], failed: list[str]
) -> Iterator[tuple[int, Path, Image.Image, Prepared]]:
    """Open pictures one after another, and bring each into the form in which it is looked at; skip what cannot be used.

    Args:
        files: Where they are.
        prepare: From a picture to what is looked at; it may refuse one with a LessonError.
        failed: Gets a sentence for each that was skipped, for `check_all_read` in the end.

    Yields:
        Which of the files it is, from 1 on; the file; the picture; and what `prepare` made of it.
    """
    for number, file in enumerate(files, start=1):
        try:
            picture = open_picture(file)
            prepared = prepare(picture)
        except OSError as error:
            failed.append(explain(error))
        except LessonError as error:
            failed.append(str(error) if str(file) in str(error) else f"{file}: {error}")
        else:
            yield number, file, picture, prepared


def check_all_read(failed: list[str], pictures: int) -> None:
    """Tell what could not be read, after the others have had their turn.

    Args:
        failed: A sentence for each picture that could not.
        pictures: How many there were in all.

    Raises:
        LessonError: There is one.
    """
    if failed:
        count = f"{len(failed)} of {pictures} pictures could not be read:\n  " if pictures > 1 else ""
        raise LessonError(count + "\n  ".join(failed))


def as_rows(image: Tensor) -> list:
    """Turn an image (3, height, width) uint8 into rows of [red, green, blue], as a page draws them."""
    return image.permute(1, 2, 0).tolist()
