"""Scenes with a sentence about each, in English and Korean: two or three coloured shapes, and how they lie to one another.

    drawn = draw_captioned(1000, seed=0)
    drawn.images[0]                  # (3, 56, 56) uint8
    tell(drawn.scenes[0], "en")      # "a large red disc is left of a small blue square, and a small green star is below them"
    tell(drawn.scenes[0], "ko")      # "큰 빨간 원이 작은 파란 네모 왼쪽에 있고, 작은 초록 별은 그 아래쪽에 있다"

The first two things are close together, the third lies apart from them, so that one sentence is right and no other. Sentences
are put together from few words, and which of their combinations are in which split is fixed:

    train, validation, known    everything but what follows
    held_out                    a colour, a shape and a relation that are never together in training: of either of the first two
    validation_held_out         other such combinations, for choosing settings
    new_pair                    a colour and a shape that are never together in training, whatever the relation

The backgrounds are pieces of real photographs; training, validation and test scenes share no part of one.
"""

import colorsys
import math
from random import Random
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.datasets import cache, picture_book
from utils.datasets.scenes import BANDS
from utils.lesson import check

Split = Literal["train", "validation", "validation_held_out", "known", "held_out", "new_pair"]
Language = Literal["en", "ko"]
SPLITS = Split.__args__
SIDE = 56  # pixels of a picture; distances below are in such pixels, whatever the size that is drawn
FINER = 4  # shapes are drawn so much larger, then reduced: smooth edges
SIZES = ("small", "large")
COLOURS = ("red", "yellow", "green", "blue", "white")
SHAPES = ("disc", "square", "triangle", "star", "ring")
RELATIONS = ("left of", "above", "inside")
SIDES = ("left", "right", "above", "below")  # where a third thing lies
NEW_PAIRS = {("yellow", "star"), ("blue", "ring"), ("red", "triangle")}  # never together in training
KOREAN = {
    "small": "작은", "large": "큰",
    "red": "빨간", "yellow": "노란", "green": "초록", "blue": "파란", "white": "하얀",
    "disc": "원", "square": "네모", "triangle": "세모", "star": "별", "ring": "고리",
    "left": "왼쪽", "right": "오른쪽", "above": "위쪽", "below": "아래쪽",
}  # fmt: skip
# Each colour as hue, saturation and value: from, to.
PAINTS = {
    "red": ((0.97, 1.02), (0.75, 1), (0.7, 1)),
    "yellow": ((0.13, 0.17), (0.75, 1), (0.85, 1)),
    "green": ((0.3, 0.4), (0.6, 1), (0.45, 0.8)),
    "blue": ((0.57, 0.64), (0.65, 1), (0.6, 1)),
    "white": ((0, 1), (0, 0.05), (0.92, 1)),
}
REACHES = {"small": (6.6, 7.3), "large": (10.2, 11.2)}  # from the middle of a thing to its farthest points
MARGIN = 1.0  # pixels between a thing and the edge of the picture
RIM = 2  # pixels, dark, round each thing: so it looks alike wherever it lies, on a wall or inside another thing


class Thing(NamedTuple):
    """One of SIZES, COLOURS and SHAPES each."""

    size: str
    colour: str
    shape: str


class Scene(NamedTuple):
    """What is in a picture.

    Attributes:
        things: Two or three. The first one is left of, above or inside the second.
        relation: Of the first to the second, one of RELATIONS.
        third: Where the third lies to both, one of SIDES; None where there are two.
    """

    things: tuple[Thing, ...]
    relation: str
    third: str | None


class CaptionedScenes(NamedTuple):
    """Drawn scenes.

    Attributes:
        images: uint8 (N, 3, size, size).
        scenes: What is in each.
        boxes: float32 (N, 3, 4): x1 y1 x2 y2 of each thing in pixels, in the order of `Scene.things`; zeros for no third.
    """

    images: Tensor
    scenes: list[Scene]
    boxes: Tensor


# ------------------------------------------------------------------------------------------------------------ sentences


def tell(scene: Scene, language: Language) -> str:
    """The one sentence that is right, in small letters and without a full stop, as captions are usually written."""
    return _in_english(scene) if language == "en" else _in_korean(scene)


def _in_english(scene: Scene) -> str:
    first, second, *third = (" ".join(("a", *thing)) for thing in scene.things)
    said = f"{first} is {scene.relation} {second}"
    if third:
        where = {"left": "to the left of", "right": "to the right of"}.get(scene.third, scene.third)
        said += f", and {third[0]} is {where} them"
    return said


def _in_korean(scene: Scene) -> str:
    first, second, *third = (" ".join(KOREAN[word] for word in thing) for thing in scene.things)
    where = {"left of": "왼쪽", "above": "위쪽", "inside": "안"}[scene.relation]
    said = f"{with_particle(first, '이가')} {second} {where}에"
    return f"{said} 있고, {with_particle(third[0], '은는')} 그 {KOREAN[scene.third]}에 있다" if third else f"{said} 있다"


def with_particle(words: str, both: str) -> str:
    """Add the particle that fits the last sound: the first of the two (이, 은) after a consonant, else the second."""
    return words + both[(ord(words[-1]) - ord("가")) % 28 == 0]


# --------------------------------------------------------------------------------------------------------- combinations


def owner(thing: Thing, relation: str) -> Literal["train", "validation", "test"]:
    """Who may see a thing as the first or the second in a relation. In each relation every colour and shape is in training.

    Of 75 combinations of a colour, a shape and a relation 8 are held out for the test, and 5 others for validation; one of
    these, a red triangle, is a new pair as well, and never drawn there.
    """
    colour, shape, kind = COLOURS.index(thing.colour), SHAPES.index(thing.shape), RELATIONS.index(relation)
    diagonal = (colour - shape - kind) % 5
    if diagonal == 0 and (colour + kind) % 2 == 0:
        return "test"
    return "validation" if diagonal == 3 and (colour + kind) % 3 == 0 else "train"


def belongs(scene: Scene, split: Split) -> bool:
    """Whether a scene may be in a split."""
    is_new = any((thing.colour, thing.shape) in NEW_PAIRS for thing in scene.things)
    owners = {owner(thing, scene.relation) for thing in scene.things[:2]}
    if split == "new_pair":
        return is_new
    if split == "held_out":
        return not is_new and "test" in owners
    if split == "validation_held_out":
        return not is_new and "validation" in owners and "test" not in owners
    return not is_new and owners == {"train"}


def mirrored(drawn: CaptionedScenes) -> CaptionedScenes:
    """The same scenes with left and right exchanged, in the picture and in what it is said to show."""
    size, others = drawn.images.shape[-1], {"left": "right", "right": "left"}
    scenes, boxes = [], drawn.boxes.clone()
    boxes[..., [0, 2]] = torch.where(boxes[..., 2:3] > 0, size - boxes[..., [2, 0]], 0.0)
    for i, scene in enumerate(drawn.scenes):
        if scene.relation == "left of":
            first, second, *third = scene.things
            scene = scene._replace(things=(second, first, *third))
            boxes[i, [0, 1]] = boxes[i, [1, 0]]
        scenes.append(scene._replace(third=others.get(scene.third, scene.third)))
    return CaptionedScenes(drawn.images.flip(3), scenes, boxes)


# ------------------------------------------------------------------------------------------------------------- pictures


def draw_captioned(count: int, seed: int, split: Split = "train", size: int = SIDE) -> CaptionedScenes:
    """Draw scenes: the same for the same arguments, and the first ones the same for a larger count.

    Args:
        count: How many.
        seed: Other scenes for another seed.
        split: Which combinations, and whose part of the photographs; see above.
        size: Width and height in pixels.

    Raises:
        LessonError: There is no such split.
    """
    check(split in SPLITS, f"there is no split {split!r}: {', '.join(SPLITS)}")
    randoms = [Random(f"captioned {seed} {split} {i}") for i in range(count)]
    scenes = [_compose(r, split) for r in randoms]

    def draw_all() -> cache.Arrays:
        images, boxes = np.empty((count, 3, size, size), np.uint8), np.zeros((count, 3, 4), np.float32)
        for i, (r, scene) in enumerate(zip(randoms, scenes, strict=True)):
            images[i], found = draw(r, scene, split, size)
            boxes[i, : len(found)] = found
        return {"images": images, "boxes": boxes}

    if count < 300:  # quickly drawn
        arrays = draw_all()
    else:
        code = picture_book.fingerprint(__file__, picture_book.__file__)
        arrays = cache.kept(f"captioned-{split}-{count}-{size}", f"{code} {split} {count} {size} {seed}", draw_all)
    return CaptionedScenes(torch.from_numpy(arrays["images"]), scenes, torch.from_numpy(arrays["boxes"]))


def _compose(r: Random, split: Split) -> Scene:
    """Choose what is in a scene of a split."""
    while True:
        relation = r.choice(RELATIONS)
        things = [Thing(r.choice(SIZES), r.choice(COLOURS), r.choice(SHAPES)) for _ in range(r.choice((2, 2, 3)))]
        if relation == "inside":
            things = [thing._replace(size=("small", "large", "small")[i]) for i, thing in enumerate(things)]  # they need room
        if relation == "inside" and things[0].colour == things[1].colour:
            continue  # nobody could tell them apart
        sides = {"left of": ("above", "below"), "above": ("left", "right")}.get(relation, SIDES)
        scene = Scene(tuple(things), relation, r.choice(sides) if len(things) == 3 else None)
        if belongs(scene, split):
            return scene


def draw(r: Random, scene: Scene, split: Split, size: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene.

    Returns:
        image (3, size, size) uint8; boxes (things, 4) float32, x1 y1 x2 y2 of each.
    """
    canvas = _background(r, split, size)  # (size, size, 3)
    covers = [_cover(r, thing.shape, place, size) for thing, place in zip(scene.things, _arrange(r, scene), strict=True)]
    across, down = r.uniform(-0.15, 0.15), r.uniform(-0.15, 0.15)  # the light falls from one side
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = (1 + across * ramp + down * ramp[:, None])[..., None]  # (size, size, 1)
    for i in reversed(range(len(covers))):  # the first thing lies on top
        canvas *= 1 - 0.85 * _with_rim(covers[i], size)[..., None]
        canvas += covers[i][..., None] * (_paint(scene.things[i].colour, r) * light - canvas)
    noise = np.frombuffer(r.randbytes(canvas.size), np.uint8).reshape(canvas.shape).astype(np.float32) - 127.5
    picture = (canvas * r.uniform(0.85, 1.05) + noise * r.uniform(0.02, 0.06)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(2, 0, 1)), np.array([_box(one > 0.5) for one in covers], np.float32)


def _background(r: Random, split: Split, size: int) -> np.ndarray:
    """A pale or dark piece of a photograph, from the bands that belong to the split: (size, size, 3) float32."""
    from PIL import Image

    photo = r.choice(picture_book.photographs())
    band = "train" if split == "train" else "validation" if split.startswith("validation") else "test"
    start, end = r.choice(BANDS[band])
    side = r.uniform(40, 76)
    left, top = r.uniform(start * photo.width, end * photo.width - side), r.uniform(0, photo.height - side)
    box = (round(left), round(top), round(left + side), round(top + side))
    patch = np.asarray(photo.crop(box).resize((size, size), Image.Resampling.BICUBIC), np.float32)
    grey = patch.mean(axis=2, keepdims=True)
    return (grey + r.uniform(0.1, 0.5) * (patch - grey)) * r.uniform(0.25, 0.6)  # duller than any paint


def _arrange(r: Random, scene: Scene) -> list[tuple[float, float, float]]:
    """Middle and reach (x, y, reach) of each thing, all inside the picture, in pixels of SIDE."""
    while True:
        a, b = (r.uniform(*REACHES[thing.size]) for thing in scene.things[:2])
        if scene.relation == "inside":
            a, b = r.uniform(7.0, 7.5), r.uniform(16.5, 17.5)  # in the hole of a ring there is some space round it
            step, angle = r.uniform(0, 0.03) * b, r.uniform(0, 2 * math.pi)
        else:
            step = a + b + r.uniform(0.5, 3)
            angle = r.uniform(-0.25, 0.25) + (math.pi if scene.relation == "left of" else -math.pi / 2)
        places = [(step * math.cos(angle), step * math.sin(angle), a), (0.0, 0.0, b)]
        left, top, right, bottom = _around(places)
        if scene.third:
            c = r.uniform(*REACHES[scene.things[2].size])
            apart = c + r.uniform(5, 9)  # farther than the first two are from each other
            across, down = (left + right) / 2, (top + bottom) / 2
            across += r.uniform(-0.15, 0.15) * (right - left)
            down += r.uniform(-0.15, 0.15) * (bottom - top)
            x = {"left": left - apart, "right": right + apart}.get(scene.third, across)
            y = {"above": top - apart, "below": bottom + apart}.get(scene.third, down)
            places.append((x, y, c))
            left, top, right, bottom = _around(places)
        room = [SIDE - 2 * MARGIN - extent for extent in (right - left, bottom - top)]
        if min(room) >= 0:
            shift_x, shift_y = (MARGIN + r.uniform(0, free) for free in room)
            return [(x - left + shift_x, y - top + shift_y, reach) for x, y, reach in places]


def _around(places: list[tuple[float, float, float]]) -> tuple[float, float, float, float]:
    """The box left, top, right, bottom round all places (x, y, reach)."""
    lows = (min(place[axis] - place[2] for place in places) for axis in (0, 1))
    highs = (max(place[axis] + place[2] for place in places) for axis in (0, 1))
    return (*lows, *highs)


def _cover(r: Random, shape: str, place: tuple[float, float, float], size: int) -> np.ndarray:
    """Where a shape hides what is behind it: (size, size) float32 in 0..1 with smooth edges. A ring's hole is open."""
    from PIL import Image, ImageDraw

    scale = FINER * size / SIDE
    x, y, reach = (scale * value for value in place)
    turn = r.uniform(-0.2, 0.2)

    def points(polar: list[tuple[float, float]]) -> list[tuple[float, float]]:  # of (angle, distance)
        return [(x + reach * far * math.cos(angle + turn), y + reach * far * math.sin(angle + turn)) for angle, far in polar]

    layer = Image.new("L", (FINER * size, FINER * size))
    canvas = ImageDraw.Draw(layer)
    quarter = math.pi / 2
    if shape in ("disc", "ring"):
        far = 0.94 * reach
        canvas.ellipse((x - far, y - far, x + far, y + far), fill=255)
        if shape == "ring":
            far *= r.uniform(0.62, 0.68)
            canvas.ellipse((x - far, y - far, x + far, y + far), fill=0)
    elif shape == "square":
        canvas.polygon(points([(quarter * (i + 0.5), 1) for i in range(4)]), fill=255)
    elif shape == "triangle":
        canvas.polygon(points([(-quarter + 4 / 3 * quarter * i, 1) for i in range(3)]), fill=255)
    else:
        inner = r.uniform(0.42, 0.48)
        canvas.polygon(points([(-quarter + 0.4 * quarter * i, inner if i % 2 else 1) for i in range(10)]), fill=255)
    return np.asarray(layer.reduce(FINER), np.float32) / 255


def _with_rim(cover: np.ndarray, size: int) -> np.ndarray:
    """A cover (size, size) and the pixels round it: each takes the largest value in a square, first along rows, then columns."""
    width = RIM * size // SIDE
    padded = np.pad(cover, width)
    across = np.max([padded[:, i : i + size] for i in range(2 * width + 1)], axis=0)
    return np.max([across[i : i + size] for i in range(2 * width + 1)], axis=0)


def _paint(colour: str, r: Random) -> np.ndarray:
    """A shade of a colour: (3,) float32, up to 255."""
    hue, saturation, value = (r.uniform(*limits) for limits in PAINTS[colour])
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _box(seen: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box x1 y1 x2 y2 round the pixels (size, size) that are True."""
    columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
