"""Faces drawn by a program of our own, for networks that generate: what every face was asked to be is known.

    parameters = draw_parameters(1000, seed=0)      # (1000, 14) float
    images = render(parameters, size=32)            # (1000, 3, 32, 32) uint8
    parameters[:, NAMES.index("smile")]             # of each face, -1 (corners of the mouth down) to 1 (up)

The first eight parameters (ATTRIBUTES) are what a person would name, and are what is asked of a generator; the others (nuisances)
are drawn too and nobody asks for them. All are independent of one another. A face is painted in layers, each a shape with a soft
edge, for all faces at once: thousands a second on one core. They are cartoons: nothing that was measured on them holds for
photographs.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Attribute(NamedTuple):
    """Something that can be seen in a face.

    Attributes:
        name: In one word.
        low: Its smallest value, and what that looks like.
        high: Likewise its largest.
        is_switch: It is there or not (0 or 1); the others are continuous and uniform.
    """

    name: str
    low: tuple[float, str]
    high: tuple[float, str]
    is_switch: bool = False


ATTRIBUTES = (
    Attribute("turn", (-1, "to the left"), (1, "to the right")),  # up to 34 degrees, as the beholder sees it
    Attribute("smile", (-1, "corners down"), (1, "corners up")),
    Attribute("glasses", (0, "without"), (1, "with"), is_switch=True),
    Attribute("light", (-1, "from the left"), (1, "from the right")),
    Attribute("skin", (0, "light"), (1, "dark")),
    Attribute("hair", (0, "black"), (1, "blond")),
    Attribute("length", (0, "short hair"), (1, "long hair")),
    Attribute("width", (-1, "narrow"), (1, "wide")),
)
NUISANCES = ("across", "down", "eyes", "fringe", "behind", "worn")  # where, how open, how long, and two hues; each in 0..1
NAMES = (*(attribute.name for attribute in ATTRIBUTES), *NUISANCES)

LIGHT_SKIN, DARK_SKIN = (0.99, 0.85, 0.73), (0.38, 0.23, 0.15)
HAIR = ((0.07, 0.05, 0.05), (0.40, 0.22, 0.11), (0.90, 0.73, 0.40))  # at 0, a half and 1
FARTHEST = 0.6  # radians by which a head is turned at most
EYE, MOST_PIXELS = 0.46, 4_000_000  # where an eye sits on the head, in radians from its middle; painted at once


# --------------------------------------------------------------------------------------------------------- parameters


def draw_parameters(count: int, seed: int) -> Tensor:
    """Draw parameters (count, 14) of faces, columns as in NAMES; the same for the same arguments."""
    found = torch.rand(count, len(NAMES), generator=torch.Generator().manual_seed(seed))
    for column, attribute in enumerate(ATTRIBUTES):
        low, high = attribute.low[0], attribute.high[0]
        found[:, column] = found[:, column].round() if attribute.is_switch else low + (high - low) * found[:, column]
    return found


def asked(parameters: Tensor) -> Tensor:
    """The columns of parameters that are asked of a generator: (n, 8), scaled to -1..1."""
    lows, highs = (torch.tensor([float(end[0]) for end in ends]) for ends in zip(*_ends(), strict=True))
    return (parameters[:, : len(ATTRIBUTES)] - lows) / (highs - lows) * 2 - 1


def _ends() -> list[tuple[tuple[float, str], tuple[float, str]]]:
    return [(attribute.low, attribute.high) for attribute in ATTRIBUTES]


# ------------------------------------------------------------------------------------------------------------ painting


def render(parameters: Tensor, size: int = 32) -> Tensor:
    """Paint faces.

    Args:
        parameters: (n, 14), as `draw_parameters` makes them.
        size: Height and width in pixels.

    Returns:
        (n, 3, size, size) uint8.
    """
    at_once = max(1, MOST_PIXELS // size**2)
    return torch.cat([_paint(part, size) for part in parameters.split(at_once)])


def _paint(parameters: Tensor, size: int) -> Tensor:
    """The layers of a face, from the back to the front. Coordinates: x to the right and y down, the picture from -1 to 1."""
    p = {name: parameters[:, column, None, None] for column, name in enumerate(NAMES)}  # each (n, 1, 1)
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = line[:, None].expand(size, size), line.expand(size, size)
    layers = _Layers(x, y, soft=1.2 / size)

    middle_x, middle_y = 0.08 * (p["across"] - 0.5), 0.06 + 0.08 * (p["down"] - 0.5)
    half_width, half_height = 0.49 + 0.07 * p["width"], 0.63
    yaw = FARTHEST * p["turn"]
    skin, hair = _between(p["skin"], LIGHT_SKIN, DARK_SKIN), _along(p["hair"], HAIR)
    dark = 0.55 * skin

    def across(angle: float) -> tuple[Tensor, Tensor]:
        """Where something at this angle on the head appears, and how much narrower than from the front."""
        turned = yaw + angle
        return middle_x + half_width * turned.sin(), turned.cos().clamp(min=0.15)

    layers.begin(_hue(p["behind"], 0.8, 0.15) * (1 - 0.15 * y))
    worn = _hue(p["worn"], 0.45, 0.35)
    layers.paint(layers.ellipse(0.5 * middle_x, middle_y + 1.22, 0.95, 0.5), worn)
    back = middle_x - 0.10 * half_width * p["turn"]  # what is behind the face moves the other way
    below = half_height * (0.25 + 1.15 * p["length"])
    wide = (1.16 + 0.12 * p["length"]) * half_width
    layers.paint(layers.egg(back, middle_y - 0.12, wide, 0.98 * half_height, below, fullness=5), 0.85 * hair)
    layers.paint(layers.ellipse(middle_x, middle_y + 0.72, 0.4 * half_width, 0.34), 0.8 * skin)
    for side in (-1, 1):
        ear, _ = across(side * 1.42)
        layers.paint(layers.ellipse(ear, middle_y + 0.06, 0.09, 0.15), 0.9 * skin)

    slope = 0.3 * p["light"] * ((x - middle_x) / half_width).clamp(-1, 1)  # the side that the light comes from is brighter
    layers.paint(layers.egg(middle_x, middle_y, half_width, half_height, half_height, jaw=0.24), skin * (1 + slope).unsqueeze(1))

    nose, _ = across(0.0)
    nose = nose + 0.12 * yaw.sin()  # it stands out, so a turn moves it further
    layers.paint(0.6 * layers.ellipse(nose, middle_y + 0.13, 0.045, 0.13), 0.72 * skin)
    opened = 0.8 + 0.5 * p["eyes"]
    eyes_y = middle_y - 0.06
    for side in (-1, 1):
        place, narrow = across(side * EYE)
        layers.paint(layers.ellipse(place, eyes_y, 0.125 * narrow, 0.075 * opened), _grey(0.97))
        pupil = place + 0.02 * p["turn"]
        layers.paint(layers.ellipse(pupil, eyes_y, 0.06 * narrow, 0.066 * opened), _grey(0.06))
        raised = eyes_y - 0.17
        layers.paint(layers.ellipse(place, raised, 0.15 * narrow, 0.028), 0.6 * hair)

    mouth, narrow = across(0.0)
    reach, mouth_y = 0.26 * narrow, middle_y + 0.38
    along = (x - mouth) / reach
    lips = mouth_y - 0.2 * p["smile"] * (along.square() - 0.4)  # a parabola: its ends are the corners
    layers.paint(layers.band(y - lips, 0.04) * layers.band(x - mouth, reach), _rgb(0.62, 0.14, 0.16) * (0.5 + 0.5 * skin))

    there = p["glasses"]
    for side in (-1, 1):
        place, narrow = across(side * EYE)
        rim = layers.ring(place, eyes_y, 0.2 * narrow, 0.16, 0.035)
        layers.paint(there * rim, _grey(0.08))
        arm = layers.band(y - eyes_y + 0.03, 0.025) * layers.band(x - across(side * 1.1)[0], 0.13 * narrow)
        layers.paint(there * arm, _grey(0.08))
    layers.paint(there * layers.band(y - eyes_y, 0.025) * layers.band(x - nose, 0.07), _grey(0.08))

    parting = middle_x + half_width * 0.35 * p["turn"]
    hairline = middle_y - half_height * (0.62 - 0.22 * p["fringe"]) + 0.5 * (x - parting).square()
    crown = layers.egg(middle_x, middle_y - 0.05, 1.1 * half_width, 0.99 * half_height, half_height)
    layers.paint(crown * layers.above(y - hairline), hair * (1 + 0.6 * slope).unsqueeze(1))
    layers.paint(0.5 * crown * layers.band(y - hairline, 0.02), dark)
    return (layers.canvas.clamp(0, 1) * 255).round().to(torch.uint8)


class _Layers:
    """A canvas (n, 3, size, size), and shapes on it: each a share (n, size, size) of every pixel, 1 inside and 0 outside.

    Args:
        x, y: Coordinates of the pixels, (size, size).
        soft: How far an edge takes to go from inside to outside, so that it has no steps.
    """

    def __init__(self, x: Tensor, y: Tensor, soft: float):
        self.x, self.y, self.soft = x, y, soft

    def begin(self, colour: Tensor) -> None:
        """Fill the canvas with a colour (n, 3), or one for every pixel."""
        self.canvas = colour.expand(-1, -1, *self.x.shape).clone()

    def paint(self, share: Tensor, colour: Tensor) -> None:
        """Cover a share (n, size, size) of each pixel with a colour (n, 3, 1, 1) or (n, 3, size, size)."""
        self.canvas = self.canvas + share.unsqueeze(1) * (colour - self.canvas)

    def above(self, distance: Tensor) -> Tensor:
        """Where the distance is negative."""
        return (-4 * distance / self.soft).sigmoid()

    def band(self, distance: Tensor, half: Tensor | float) -> Tensor:
        """Where the distance is between -half and half."""
        return self.above(distance.abs() - half)

    def ellipse(self, x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float) -> Tensor:
        return self.egg(x, y, half_width, half_height, half_height)

    def egg(self, x: Tensor, y: Tensor, wide: Tensor | float, up: Tensor | float, down: Tensor | float,
            jaw: float = 0.0, fullness: int = 2) -> Tensor:  # fmt: skip
        """Half an ellipse up and another one down from (x, y); that is narrowed by a jaw, and made a rectangle by fullness."""
        high = (self.y - y) / torch.where(self.y < y, up, down)
        sideways = (self.x - x) / (wide * (1 - jaw * high.clamp(0, 1).square()))
        power = torch.where(self.y < y, 2, fullness)
        radius = (sideways.abs() ** power + high.abs() ** power) ** (1 / power)
        return self.above((radius - 1) * _smaller(wide, up))

    def ring(self, x: Tensor, y: Tensor, half_width: Tensor, half_height: float, half_thickness: float) -> Tensor:
        radius = (((self.x - x) / half_width).square() + ((self.y - y) / half_height).square()).sqrt()
        return self.band((radius - 1) * _smaller(half_width, half_height), half_thickness)


def _smaller(one: Tensor | float, other: Tensor | float) -> Tensor:
    return torch.minimum(torch.as_tensor(one), torch.as_tensor(other))


def _rgb(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _grey(value: float) -> Tensor:
    return _rgb(value, value, value)


def _hue(turn: Tensor, middle: float, swing: float) -> Tensor:
    """Colours (n, 3, 1, 1) around the colour wheel, the turns being (n, 1, 1) in 0..1."""
    shifts = torch.tensor([0.0, 1 / 3, 2 / 3]).view(1, 3, 1, 1)
    return middle + swing * (2 * torch.pi * (turn.unsqueeze(1) - shifts)).cos()


def _between(share: Tensor, one: tuple[float, ...], other: tuple[float, ...]) -> Tensor:
    """Colours (n, 3, 1, 1) on the way from one to the other, the shares being (n, 1, 1)."""
    return _rgb(*one).lerp(_rgb(*other), share.unsqueeze(1))


def _along(share: Tensor, colours: tuple[tuple[float, ...], ...]) -> Tensor:
    """Colours on a way through three."""
    first, second, third = colours
    near, far = _between(2 * share, first, second), _between(2 * share - 1, second, third)
    return torch.where(share.unsqueeze(1) < 0.5, near, far)
