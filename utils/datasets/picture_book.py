"""The picture book: drawn objects on patches of real photographs, for lessons that run without CIFAR-10.

Ten classes in CIFAR-10's format. What makes it worth classifying: every object has its own proportions, parts, pose, size
and paint; it stands before a piece of a photograph, among scraps of paper in the same paints, sometimes half hidden. All
classes take their paints and backgrounds from the same places, so that neither gives the class away. Test pictures use
parts of the photographs that training pictures never see.
"""

import colorsys
import functools
import hashlib
import math
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from random import Random

import numpy as np
import torch

from utils.datasets import cache, drawings
from utils.datasets.drawings import DRAWINGS, Pen
from utils.datasets.images import Images

CLASSES = tuple(DRAWINGS)
LIGHTER = 0.9  # the share of objects that are lighter than their background
HARD_PAIR = ("mushroom", "tree")  # what a good network confuses most
# Which part of a photograph's width belongs to which split. Between the parts lies a margin that no picture shows.
BANDS = {"train": ((0.0, 0.36), (0.64, 1.0)), "test": ((0.4, 0.6),)}


def load(
    train: int = 5000, test: int = 2000, size: int = 32, classes: tuple[str, ...] = CLASSES, seed: int = 0
) -> tuple[Images, Images]:
    """Draw the picture book: the same pictures for the same arguments.

    Args:
        train: Number of training pictures; the classes take turns.
        test: Number of test pictures.
        size: Width and height.
        classes: Which classes, in the order of their labels.
        seed: Other pictures for another seed.

    Returns:
        (training, test): images (N, 3, size, size) uint8, labels (N,) int64, in random order.
    """
    drawn = _drawn("train", train, size, classes, seed), _drawn("test", test, size, classes, seed)
    return tuple(Images(split.images.clone(), split.labels.clone()) for split in drawn)  # the caller may write into them


@functools.cache
def _drawn(split: str, count: int, size: int, classes: tuple[str, ...], seed: int) -> Images:
    labels = [i % len(classes) for i in range(count)]
    Random(f"order {seed} {split}").shuffle(labels)

    def draw_all() -> cache.Arrays:
        return {"images": np.stack([draw(classes[label], split, size, f"{seed} {split} {i}") for i, label in enumerate(labels)])}

    if count * size**2 < 500 * 32**2:  # quickly drawn
        arrays = draw_all()
    else:
        key = f"{fingerprint(__file__, drawings.__file__)} {split} {count} {size} {classes} {seed}"
        arrays = cache.kept(f"picture-book-{split}-{count}-{len(classes)}-{size}", key, draw_all)
    return Images(torch.from_numpy(arrays["images"]), torch.tensor(labels))


@functools.cache
def fingerprint(*code: str) -> str:
    """What drawings depend on: the packages they are drawn with and that have the photographs, and the files of code."""
    packages = " ".join(metadata.version(package) for package in ("pillow", "scikit-learn", "matplotlib"))
    digest = hashlib.sha256(packages.encode())
    for file in code:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def draw(name: str, split: str, size: int, seed: str) -> np.ndarray:
    """Draw one picture.

    Args:
        name: One of CLASSES.
        split: Which part of the photographs it may show: "train" or "test".
        size: Width and height.
        seed: Of everything that is drawn at random. With the same seed, another object gets the same paints, pose and background.

    Returns:
        (3, size, size) uint8
    """
    from PIL import Image, ImageDraw

    r = Random(seed)
    background = np.asarray(_patch(r, split, size), np.float32) * r.uniform(0.35, 0.9)  # in the shade, mostly
    paints = _paints(r, _brightness(background.mean(axis=(0, 1))))

    finer = 3 if size <= 64 else 2  # drawn larger, then reduced: smooth edges
    side = size * finer
    layer = Image.new("RGBA", (side, side))  # transparent where nothing is drawn
    canvas = ImageDraw.Draw(layer)
    for _ in range(r.choice((0, 0, 1, 2))):
        _scrap(canvas, r, side, paints)
    reach = r.uniform(0.45, 0.9) ** 0.7 * side / 2
    stretch = math.exp(r.uniform(-0.15, 0.15))
    room = 0.7 * (side / 2 - 0.9 * reach)
    place = (
        side / 2 + r.uniform(-room, room),
        side / 2 + r.uniform(-room, room),
        reach * stretch * r.choice((-1, 1)),
        reach / stretch,
        math.radians(r.triangular(-30, 30)),
    )
    outline = r.choice(((25, 25, 25), (230, 230, 230))) if r.random() < 0.4 else None
    pen = Pen(canvas, place, paints, outline, thickness=side / 32 * r.uniform(0.4, 0.8))
    in_front = r.random() < 0.35
    DRAWINGS[name](pen, r)
    if in_front:
        _scrap(canvas, r, side, paints)

    drawn = np.asarray(layer.reduce(finer), np.float32)  # (size, size, 4)
    colour, cover = drawn[..., :3], drawn[..., 3:] / 255
    picture = background * (1 - cover) + _shaded(r, colour, split) * cover
    return np.ascontiguousarray(_photographed(r, picture).transpose(2, 0, 1))


def _paints(r: Random, ground: float) -> list[tuple[int, int, int]]:
    """Three colours that stand out from one another, the first also from the background's brightness: mostly by being lighter."""
    lighter = ground < 90 or (ground < 170 and r.random() < LIGHTER)  # on a bright background there is only darker
    apart = 25 if r.random() < 0.25 else 60  # now and then there is little contrast
    paints: list[tuple[int, int, int]] = []
    while len(paints) < 3:
        shade = colorsys.hsv_to_rgb(r.random(), r.uniform(0.1, 0.9), r.uniform(0.1, 1))
        colour = tuple(round(255 * channel) for channel in shade)
        step = _brightness(colour) - ground
        stands_out = paints or (step if lighter else -step) > apart
        if stands_out and all(sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 100 for other in paints):
            paints.append(colour)
    return paints


def _brightness(colour: Sequence[float]) -> float:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _scrap(canvas, r: Random, side: int, paints: list[tuple[int, int, int]]) -> None:
    """A scrap of paper with a few corners, somewhere."""
    x, y, radius = r.uniform(0, side), r.uniform(0, side), r.uniform(0.08, 0.22) * side
    corners, turn = r.randint(3, 7), r.uniform(0, 6.28)
    outer = ((turn + 2 * math.pi * i / corners, radius * r.uniform(0.6, 1.2)) for i in range(corners))
    canvas.polygon([(x + length * math.cos(angle), y + length * math.sin(angle)) for angle, length in outer], r.choice(paints))


@functools.cache
def photographs() -> list:
    """Three photographs that come with scikit-learn and matplotlib, as Pillow pictures in RGB."""
    import importlib.resources

    from matplotlib import cbook
    from PIL import Image

    images = importlib.resources.files("sklearn.datasets") / "images"
    portrait = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    photos = [Image.open(str(file)).convert("RGB") for file in (images / "china.jpg", images / "flower.jpg", portrait)]
    photos[-1] = photos[-1].crop((0, 330, *photos[-1].size))  # from the shoulders down: half a face is no background
    return photos


def _patch(r: Random, split: str, size: int):
    """A square piece of a photograph, from the bands that belong to the split."""
    from PIL import Image

    photo = r.choice(photographs())
    start, end = r.choice(BANDS[split])
    side = r.uniform(32, 100)
    left = r.uniform(start * photo.width, end * photo.width - side)
    top = r.uniform(0, photo.height - side)
    patch = photo.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if r.random() < 0.5 else patch


def _shaded(r: Random, colour: np.ndarray, split: str) -> np.ndarray:
    """Paint is seldom flat: the grain of a piece of photograph, light that falls from one side, or both."""
    size = len(colour)
    kind = r.random()
    if kind < 0.4:
        grain = np.asarray(_patch(r, split, size).convert("L"), np.float32)[..., None]
        colour = colour * (1 + r.uniform(0.2, 0.7) * (grain / grain.mean() - 1))
    if kind > 0.3:
        angle, strength = r.uniform(0, 6.28), r.uniform(0.1, 0.4)
        ramp = np.linspace(-strength, strength, size, dtype=np.float32)
        colour = colour * (1 + ramp * math.cos(angle) + ramp[:, None] * math.sin(angle))[..., None]
    return colour.clip(0, 255)


def _photographed(r: Random, picture: np.ndarray) -> np.ndarray:
    """Contrast, brightness and noise of a camera."""
    picture = (picture - 128) * r.uniform(0.65, 1.1) + 128 + r.uniform(-20, 20)
    noise = np.frombuffer(r.randbytes(picture.size), np.uint8).reshape(picture.shape)
    return (picture + (noise.astype(np.float32) - 127.5) * r.uniform(0, 0.2)).clip(0, 255).astype(np.uint8)
