"""Scenes for detection and segmentation: digits and shapes that overlap, drawn on patches of real photographs.

    scenes = draw_scenes(1000, seed=0)
    scenes.images[0]                    # (3, 128, 128) uint8
    scenes.boxes[0], scenes.labels[0]   # (n, 4) and (n,): what a detector learns
    scenes.masks[0]                     # (128, 128): what a segmentation network learns; 0 is the background

Two to six objects of ten classes, painted one after another, so that nearer ones cover farther ones. The digits are
scikit-learn's, written by hand by real people, enlarged and in coloured ink; the shapes are full or hollow, with or without
an edge. A hollow disc would be a ring, so there is none. Strips of paper lie among them, which are no objects. A box holds the
part of an object that can be seen; an object of which less than 30 % can be seen has none, and its visible pixels stay in the
mask.

Training, validation and test scenes share no part of a photograph and no written digit; those of the test are mostly from
other writers.
"""

import colorsys
import functools
import math
from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.datasets import cache, picture_book
from utils.datasets.boxes import Boxed, DetectionData, Masked, SegmentationData
from utils.lesson import mention

Split = Literal["train", "validation", "test"]
SHAPES = ("disc", "square", "triangle", "star", "ring")
DIGITS = {"two": 2, "three": 3, "four": 4, "six": 6, "seven": 7}  # not 0, 1, 5, 8, 9: too like a ring or one of these
CLASSES = (*SHAPES, *DIGITS)
ENLARGED = 4  # 8x8 pixels of a written digit become 32x32, smoothly, before they are drawn at any size
FINER = 3  # shapes are drawn so much larger, then reduced: smooth edges
VISIBLE = 0.3  # the share of an object that must be seen for it to have a box
# Which part of a photograph's width belongs to which split. Between the parts lies a margin that no scene shows.
BANDS = {"train": ((0.0, 0.32), (0.51, 0.66), (0.85, 1.0)), "validation": ((0.34, 0.49),), "test": ((0.68, 0.83),)}
# The digits are in the order in which people wrote them. The last 360 are the test set, as for `mnist`.
WRITTEN = {"train": slice(0, 1257), "validation": slice(1257, 1437), "test": slice(1437, None)}


class Scenes(NamedTuple):
    """Drawn scenes, with what is to be found in them.

    Attributes:
        images: uint8 (N, 3, size, size).
        masks: uint8 (N, size, size): 0 for the background, else 1 + the label of the object that is seen there.
        owners: uint8 (N, size, size): whose pixels they are: 0 for the background, k for the k-th object, farther ones first.
            It counts the objects without a box too.
        boxes: For each scene, float32 (n, 4): x1 y1 x2 y2 in pixels, farther objects first. n may be 0.
        labels: For each scene, int64 (n,), indices into CLASSES.
    """

    images: Tensor
    masks: Tensor
    owners: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]


def scenes_with_boxes(train: int = 2000, validation: int = 200, test: int = 400, size: int = 128, seed: int = 0) -> DetectionData:
    """Draw scenes for detection.

    Args:
        train: Number of training scenes; the first ones stay the same when there are more.
        validation: Number of scenes to choose settings with.
        test: Number of scenes for the last look.
        size: Width and height.
        seed: Other scenes for another seed.
    """
    counts = {"train": train, "validation": validation, "test": test}
    splits = {}
    for split, count in counts.items():
        drawn = draw_scenes(count, seed, size, split)
        splits[split] = Boxed(list(drawn.images), drawn.boxes, drawn.labels)
    data = DetectionData(**splits, classes=list(CLASSES), source=_source(counts, size), is_real=False)
    mention("data", data.source)
    return data


def scenes_with_masks(
    train: int = 2000, validation: int = 200, test: int = 400, size: int = 128, seed: int = 0
) -> SegmentationData:
    """Draw scenes for segmentation: the same pictures as scenes_with_boxes draws for the same arguments."""
    counts = {"train": train, "validation": validation, "test": test}
    splits = {}
    for split, count in counts.items():
        drawn = draw_scenes(count, seed, size, split)
        splits[split] = Masked(drawn.images, drawn.masks)
    data = SegmentationData(**splits, classes=["background", *CLASSES], source=_source(counts, size), is_real=False)
    mention("data", data.source)
    return data


def _source(counts: dict[str, int], size: int) -> str:
    numbers = " + ".join(f"{count:,}" for count in counts.values())
    return f"sample: scenes of handwritten digits and shapes on photographs, drawn here, {size}x{size} ({numbers})"


def draw_scenes(count: int, seed: int, size: int = 128, split: Split = "train", classes: Sequence[str] = CLASSES) -> Scenes:
    """Draw scenes: the same for the same arguments, and the first ones the same for a larger count.

    Args:
        count: How many.
        seed: Other scenes for another seed.
        size: Width and height in pixels.
        split: Whose photographs and written digits: "train", "validation" or "test".
        classes: Draw objects of these only, so that more of them touch others of their class. Labels stay indices into CLASSES.
    """
    which = [CLASSES.index(name) for name in classes]

    def draw_all() -> cache.Arrays:
        images = np.empty((count, 3, size, size), np.uint8)
        masks, owners = np.empty((2, count, size, size), np.uint8)
        boxes, labels = [np.empty((0, 4), np.float32)], [np.empty(0, np.int64)]  # there may be no scene
        for i in range(count):
            images[i], masks[i], owners[i], found, their_labels = draw(Random(f"scene {seed} {split} {i}"), size, split, which)
            boxes.append(found)
            labels.append(their_labels)
        numbers = np.array([len(found) for found in labels[1:]], np.int64)
        return {
            "images": images,
            "masks": masks,
            "owners": owners,
            "boxes": np.concatenate(boxes),
            "labels": np.concatenate(labels),
            "numbers": numbers,
        }

    if count < 300:  # quickly drawn
        arrays = draw_all()
    else:
        code = picture_book.fingerprint(__file__, picture_book.__file__)
        arrays = cache.kept(f"scenes-{split}-{count}-{size}", f"{code} {split} {count} {size} {seed} {which}", draw_all)
    parts = {name: torch.from_numpy(array) for name, array in arrays.items()}
    numbers = parts["numbers"].tolist()
    return Scenes(
        parts["images"],
        parts["masks"],
        parts["owners"],
        list(parts["boxes"].split(numbers)),
        list(parts["labels"].split(numbers)),
    )


def draw(r: Random, size: int, split: Split, which: Sequence[int] = range(len(CLASSES))) -> tuple[np.ndarray, ...]:
    """Draw one scene, with objects of the classes `which`, indices into CLASSES.

    Returns:
        image (3, size, size) uint8, mask and owner (size, size) uint8, boxes (n, 4) float32, labels (n,) int64
    """
    canvas = np.asarray(_patch(r, size, split), np.float32) * r.uniform(0.55, 1)  # (size, size, 3)
    owner = np.zeros((size, size), np.int64)  # who is seen at each pixel: 0 the background, k the k-th object
    light = r.uniform(0, 2 * math.pi)  # where it comes from, for all objects alike
    for _ in range(r.choice((0, 0, 1, 2))):
        _paint(canvas, owner, 0, _strip(r, size), r, light, split)
    objects: list[tuple[float, float, float]] = []
    values, areas = [0], [0]  # of each in the mask, and how many pixels it covers where nothing hides it
    for k in range(1, r.randint(2, 6) + 1):
        label = which[r.randrange(len(which))]
        reach = r.uniform(0.12, 0.26) * size
        x, y = _place(r, reach, size, objects)
        objects.append((x, y, reach))
        if CLASSES[label] in DIGITS:
            sprite = _digit(r, DIGITS[CLASSES[label]], split, x, y, reach)
        else:
            sprite = _shape(r, CLASSES[label], x, y, reach)
        values.append(1 + label)
        areas.append(_paint(canvas, owner, k, sprite, r, light, split))

    seen = np.bincount(owner.ravel(), minlength=len(values))
    kept = [k for k in range(1, len(values)) if seen[k] >= VISIBLE * areas[k]]
    boxes = np.array([_box(owner == k) for k in kept], np.float32).reshape(-1, 4)
    labels = np.array([values[k] - 1 for k in kept], np.int64)
    return _photographed(r, canvas), np.array(values, np.uint8)[owner], owner.astype(np.uint8), boxes, labels


class Sprite(NamedTuple):
    """One thing before it is painted. It may reach beyond the scene.

    Attributes:
        left, top: Where its upper left corner lies in the scene.
        cover: (side, side) float32, 0 where one looks past it, 1 where it hides what is behind.
        edge: (side, side) float32, how much of each pixel is its edge in a second colour; None without one.
    """

    left: int
    top: int
    cover: np.ndarray
    edge: np.ndarray | None


def _place(r: Random, reach: float, size: int, others: list[tuple[float, float, float]]) -> tuple[float, float]:
    """A centre for the next object: it may overlap the others, it seldom hides them."""
    wanted, best = r.uniform(0.1, 0.8), (-1.0, 0.0, 0.0)
    for _ in range(10):
        x, y = (r.uniform(0.75 * reach, size - 0.75 * reach) for _ in range(2))
        apart = min((math.hypot(x - x2, y - y2) / (reach + reach2) for x2, y2, reach2 in others), default=2.0)
        best = max(best, (apart, x, y))
        if apart > wanted:
            break
    return best[1:]


def _shape(r: Random, name: str, x: float, y: float, reach: float) -> Sprite:
    """A shape: full, full with an edge, or hollow; turned and stretched a little."""
    turn = r.uniform(0, 2 * math.pi)
    if name == "square":
        corners = [(math.cos(angle), math.sin(angle)) for angle in ((i + 0.5) * math.pi / 2 for i in range(4))]
    elif name == "triangle":
        angles = (i * 2 * math.pi / 3 + r.uniform(-0.25, 0.25) for i in range(3))
        corners = [(math.cos(angle), math.sin(angle)) for angle in angles]
    elif name == "star":
        points, inner = r.choice((5, 5, 5, 6)), r.uniform(0.4, 0.52)
        angles = (i * math.pi / points for i in range(2 * points))
        corners = [
            (math.cos(angle) * (inner if i % 2 else 1), math.sin(angle) * (inner if i % 2 else 1))
            for i, angle in enumerate(angles)
        ]
    else:
        corners = [(0.9 * math.cos(angle), 0.9 * math.sin(angle)) for angle in (i * math.pi / 24 for i in range(48))]
    kind = r.random()
    hollow = r.uniform(0.5, 0.75) if name == "ring" else 0.0
    if name in ("square", "triangle", "star") and kind < 0.2:
        hollow = r.uniform(0.6, 0.72)
    edge = r.uniform(0.76, 0.88) if kind > 0.65 else 0.0  # what is left for the inside

    stretch = math.exp(r.uniform(-0.13, 0.13))
    a, b, c, d = _turned(turn, stretch, 1 / stretch)
    side = 2 * math.ceil(1.4 * reach) + 3  # room for the shadow
    left, top = math.floor(x) - side // 2, math.floor(y) - side // 2

    def polygon(canvas, scale: float, value: int) -> None:
        unit = reach * scale
        points = [(FINER * (x - left + unit * (a * u + b * v)), FINER * (y - top + unit * (c * u + d * v))) for u, v in corners]
        canvas.polygon(points, fill=value)

    cover = _drawn(side, lambda canvas: (polygon(canvas, 1, 255), hollow and polygon(canvas, hollow, 0)))
    if not edge:
        return Sprite(left, top, cover, None)
    if hollow:  # outside only; the hole is the hole
        edge = (1 + hollow) / 2
    inside = _drawn(side, lambda canvas: polygon(canvas, edge, 255))
    return Sprite(left, top, cover, 1 - inside)


def _strip(r: Random, size: int) -> Sprite:
    """A strip of paper: long, thin, and no object."""
    x, y, length, width = r.uniform(0, size), r.uniform(0, size), r.uniform(0.15, 0.35) * size, r.uniform(0.012, 0.035) * size
    a, b, c, d = _turned(r.uniform(0, math.pi), length, width)
    side = 2 * math.ceil(1.1 * length) + 9
    left, top = math.floor(x) - side // 2, math.floor(y) - side // 2
    corners = [(x - left + a * u + b * v, y - top + c * u + d * v) for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    cover = _drawn(side, lambda canvas: canvas.polygon([(FINER * u, FINER * v) for u, v in corners], fill=255))
    return Sprite(left, top, cover, None)


def _drawn(side: int, paint) -> np.ndarray:
    """What `paint` draws on a canvas FINER times as large, reduced: (side, side) in 0..1 with smooth edges."""
    from PIL import Image, ImageDraw

    layer = Image.new("L", (FINER * side, FINER * side))
    paint(ImageDraw.Draw(layer))
    return np.asarray(layer.reduce(FINER), np.float32) / 255


def _turned(angle: float, width: float, height: float) -> tuple[float, float, float, float]:
    """The matrix (a, b, c, d) that stretches, then turns."""
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * width, -sin * height, sin * width, cos * height


def _digit(r: Random, digit: int, split: Split, x: float, y: float, reach: float) -> Sprite:
    """A written digit as ink: enlarged, slanted and turned a little, with a thinner or a thicker pen."""
    from PIL import Image

    written = Image.fromarray(r.choice(_written(split)[digit]))
    side = 2 * math.ceil(1.4 * reach) + 3
    left, top = math.floor(x) - side // 2, math.floor(y) - side // 2
    # Pillow asks where each pixel of the result comes from: the inverse of what is done to the digit.
    scale = ENLARGED * 4.4 / reach
    a, b, c, d = _turned(r.uniform(-0.25, 0.25), scale * r.uniform(0.9, 1.2), scale)
    b += r.uniform(-0.2, 0.2) * scale
    middle_x, middle_y = x - left, y - top
    centre = written.width / 2
    matrix = (a, b, centre - a * middle_x - b * middle_y, c, d, centre - c * middle_x - d * middle_y)
    ink = np.asarray(written.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR), np.float32) / 255
    sharpness = max(1.0, 2 * ENLARGED / scale)  # from paper to ink within about a pixel
    return Sprite(left, top, ((ink - r.uniform(0.43, 0.53)) * sharpness + 0.5).clip(0, 1), None)


@functools.cache
def _written(split: Split) -> dict[int, list[np.ndarray]]:
    """The written digits of a split: for each digit, pictures (48, 48) uint8 with an empty margin."""
    from PIL import Image, ImageFilter
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.pad(digits.images[WRITTEN[split]] * (255 / 16), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)  # (N, 12, 12)
    written: dict[int, list[np.ndarray]] = {digit: [] for digit in DIGITS.values()}
    for image, digit in zip(images, digits.target[WRITTEN[split]].tolist(), strict=True):
        if digit in written:
            large = Image.fromarray(image).resize((12 * ENLARGED, 12 * ENLARGED), Image.Resampling.LANCZOS)
            written[digit].append(np.asarray(large.filter(ImageFilter.GaussianBlur(0.3 * ENLARGED))))
    return written


def _paint(canvas: np.ndarray, owner: np.ndarray, k: int, sprite: Sprite, r: Random, light: float, split: Split) -> int:
    """Paint a thing over what is there, with its shadow, and note where it is seen.

    Returns:
        How many pixels it covers, those beyond the scene among them.
    """
    from PIL import Image, ImageFilter

    size, side = len(canvas), len(sprite.cover)
    left, top = max(0, sprite.left), max(0, sprite.top)
    right, bottom = min(size, sprite.left + side), min(size, sprite.top + side)
    inside = slice(top - sprite.top, bottom - sprite.top), slice(left - sprite.left, right - sprite.left)
    here = slice(top, bottom), slice(left, right)
    ground = canvas[here]  # a view: what is written to it is in the scene
    paint = _paints(r, ground.mean(axis=(0, 1)))

    softness = r.uniform(0.02, 0.035) * side
    shadow = np.asarray(Image.fromarray((255 * sprite.cover).astype(np.uint8)).filter(ImageFilter.BoxBlur(softness)), np.float32)
    shift = round(-1.8 * softness * math.cos(light)), round(-1.8 * softness * math.sin(light))
    shadow = np.roll(shadow, shift, axis=(1, 0))[inside]
    ground *= (1 - shadow * (r.uniform(0.2, 0.6) / 255))[..., None]

    colour = np.broadcast_to(paint[0], (side, side, 3))
    if sprite.edge is not None:
        colour = paint[0] + sprite.edge[..., None] * (paint[1] - paint[0])
    ramp = np.linspace(-1, 1, side, dtype=np.float32) * r.uniform(0.05, 0.35)
    shade = 1 + math.cos(light) * ramp + math.sin(light) * ramp[:, None]
    if r.random() < 0.4:  # the grain of a piece of photograph
        grain = np.asarray(_patch(r, side, split).convert("L"), np.float32)
        shade = shade * (1 + r.uniform(0.2, 0.6) * (grain / grain.mean() - 1))
    cover = sprite.cover[inside]
    ground += cover[..., None] * (colour[inside] * shade[inside][..., None] - ground)

    owner[here][cover > 0.5] = k
    return int((sprite.cover > 0.5).sum())


def _paints(r: Random, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two colours (3,) float32: one that stands out from the ground, and one that stands out from it."""
    least = r.choice((60, 100, 100, 100))  # now and then there is little contrast
    paints = [ground]
    while len(paints) < 3:
        shade = colorsys.hsv_to_rgb(r.random(), r.uniform(0.2, 0.95), r.uniform(0.25, 1))
        colour = np.array(shade, np.float32) * 255
        if math.dist(colour, paints[-1]) > least:
            paints.append(colour)
    return paints[1], paints[2]


def _patch(r: Random, size: int, split: Split):
    """A square piece of a photograph, from the bands that belong to the split, as a Pillow picture of size x size."""
    from PIL import Image

    for _ in range(5):  # plain cloth and dark corners are dull: rather look for something else
        photo = r.choice(picture_book.photographs())
        start, end = r.choice(BANDS[split])
        side = r.uniform(50, 76)
        left, top = r.uniform(start * photo.width, end * photo.width - side), r.uniform(0, photo.height - side)
        patch = photo.crop((round(left), round(top), round(left + side), round(top + side)))
        darkest, brightest = np.percentile(np.asarray(patch)[::4, ::4], (5, 95))
        if brightest - darkest > 80:
            break
    patch = patch.resize((size, size), Image.Resampling.BICUBIC)
    return patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if r.random() < 0.5 else patch


def _photographed(r: Random, canvas: np.ndarray) -> np.ndarray:
    """Focus, contrast, brightness and noise of a camera: (size, size, 3) float to (3, size, size) uint8."""
    from PIL import Image, ImageFilter

    size = len(canvas)
    contrast, brightness = r.uniform(0.75, 1.1), r.uniform(-20, 20)
    canvas = ((canvas - 128) * contrast + (128 + brightness)).clip(0, 255).astype(np.uint8)
    if r.random() < 0.6:
        focus = ImageFilter.BoxBlur(r.uniform(0.2, 0.8) * size / 128)
        canvas = np.asarray(Image.fromarray(canvas).filter(focus))
    noise = np.frombuffer(r.randbytes(canvas.size), np.uint8).reshape(canvas.shape)
    canvas = canvas + (noise.astype(np.float32) - 127.5) * r.uniform(0.01, 0.14)
    return np.ascontiguousarray(canvas.clip(0, 255).astype(np.uint8).transpose(2, 0, 1))


def _box(seen: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box x1 y1 x2 y2 round the pixels (size, size) that are True."""
    columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
