"""Pictures for style transfer: content to be painted anew, and styles to paint it in.

data = style_pictures()
data.content["amber"]    # (3, 256, 256) uint8
data.styles["mosaic"]    # (3, 256, 308) uint8
data.source              # print it beside every picture
"""

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils import paths
from utils.datasets import cache, drawn_styles
from utils.datasets.sources import Source, damaged, locate, unreadable
from utils.lesson import check, mention

CONTENT = ("amber",)
STYLES = ("mosaic", "udnie")
PHOTOGRAPHS = ("china", "flower")
DRAWN = {"mosaic": drawn_styles.mosaic, "brush strokes": drawn_styles.brush_strokes}
WRONG = {"unreadable": "it is not a picture", "damaged": "it is cut off", "too_large": "it has more than 50 megapixels"}


@dataclass(frozen=True)
class StyleData:
    """Pictures by name, each uint8 (3, height, width); no two need have the same shape.

    Attributes:
        content: What is to be seen.
        styles: How it is to be painted.
        source: One line that says what was really loaded. Belongs beside every picture that is made of them.
        is_real: False for the sample.
    """

    content: dict[str, Tensor]
    styles: dict[str, Tensor]
    source: str
    is_real: bool


def style_pictures(source: Source = "auto", size: int = 256) -> StyleData:
    """The pictures with which PyTorch's example of fast neural style shows itself: one photograph, two styles.

    Reads `style_transfer/amber.jpg` (a church door, 1080x1080), `mosaic.jpg` (a woman in stained glass, 470x391) and `udnie.jpg`
    (Picabia's painting of 1913, 512x512).
    The sample's content is scikit-learn's two photographs, a Chinese pavilion and a dahlia, 640x427; its styles are drawn by the
    course (`utils.datasets.drawn_styles`), 512x512: a mosaic of stone tiles, and a night sky in brush strokes.

    Args:
        source: "auto", "real" or "sample".
        size: Of the shorter side, in pixels; the other keeps its proportion. A picture that is smaller stays as it is.

    Raises:
        LessonError: A file is damaged or missing, or source="real" and the pictures are not there. No file is changed.
    """
    check(size > 0, f"a picture cannot have {size} pixels")
    place = locate("style_pictures", source)
    if place is None:
        content, styles = _photographs(), _drawn()
        told = (
            f"sample: content {' and '.join(content)} (scikit-learn's photographs), styles {' and '.join(styles)} "
            "(drawn by the course)"
        )
    else:
        content, styles = ({name: _read(place / f"{name}.jpg") for name in names} for names in (CONTENT, STYLES))
        told = f"content {' and '.join(content)}, styles {' and '.join(styles)}, {paths.short(place)}"
    told += f"; shorter side at most {size} pixels"
    mention("data", told)
    content, styles = ({name: _resized(pixels, size) for name, pixels in part.items()} for part in (content, styles))
    return StyleData(content, styles, told, is_real=place is not None)


def _read(file: Path) -> np.ndarray:
    """(height, width, 3) uint8"""
    from utils.pictures import PictureError, open_picture

    try:
        return np.asarray(open_picture(file).convert("RGB"))
    except PictureError as error:
        raise damaged(file, WRONG[error.kind], "style_pictures") from None
    except OSError as error:
        raise unreadable(file, error, "style_pictures") from None


def _photographs() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_sample_image

    return {name: load_sample_image(f"{name}.jpg") for name in PHOTOGRAPHS}


def _drawn() -> dict[str, np.ndarray]:
    """The drawn styles, kept for the next run; drawn anew with other code or other packages."""
    versions = [metadata.version(package) for package in ("numpy", "scipy", "pillow")]
    key = hashlib.sha256(Path(drawn_styles.__file__).read_bytes()).hexdigest()
    return cache.kept("drawn-styles", f"{key} {versions}", lambda: {name: draw() for name, draw in DRAWN.items()})


def _resized(pixels: np.ndarray, size: int) -> Tensor:
    """(height, width, 3) to (3, height, width), the shorter side `size` or less."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    scale = min(1.0, size / min(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)  # Pillow's is antialiased
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()
