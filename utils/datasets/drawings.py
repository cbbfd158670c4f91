"""Ten things to draw, each as a small program of polygons: no two drawings of one thing are alike.

Every drawing fills the square from (-1, -1) at the top left to (1, 1) at the bottom right, looking to the right. A `Pen` then
turns, stretches and places it. `r` is the random generator from which a drawing takes its proportions, its parts and which
of its three paints goes where.
"""

import functools
import math
from collections.abc import Callable, Sequence
from random import Random

Point = tuple[float, float]


class Pen:
    """Draws on a Pillow picture, in the object's own coordinates.

    Args:
        canvas: A Pillow ImageDraw.
        place: (x, y, half width, half height, angle) of the object on the canvas, in pixels and radians. A negative half
            width mirrors it.
        paints: Three colours: main, second, third.
        outline: Colour of the outline, or None.
        thickness: Of the outline, in pixels.
    """

    def __init__(self, canvas, place, paints: Sequence[tuple[int, int, int]], outline, thickness: float):
        x, y, half_width, half_height, angle = place
        cos, sin = math.cos(angle), math.sin(angle)
        self._matrix = (cos * half_width, -sin * half_height, x, sin * half_width, cos * half_height, y)
        self._unit = (abs(half_width) + half_height) / 2  # pixels in one unit, for the width of lines
        self._canvas, self._outline, self._thickness = canvas, outline, round(thickness)
        self.main, self.second, self.third = paints

    def polygon(self, points: Sequence[Point], paint) -> None:
        a, b, c, d, e, f = self._matrix
        corners = [(a * x + b * y + c, d * x + e * y + f) for x, y in points]
        self._canvas.polygon(corners, fill=paint)
        if self._outline:
            self._canvas.line([*corners, corners[0], corners[1]], self._outline, self._thickness, joint="curve")

    def ellipse(self, x: float, y: float, rx: float, ry: float, paint) -> None:
        self.polygon(arc(x, y, rx, ry), paint)

    def box(self, left: float, top: float, right: float, bottom: float, paint) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], paint)

    def line(self, points: Sequence[Point], width: float, paint) -> None:
        """A line of `width` units with round joints."""
        a, b, c, d, e, f = self._matrix
        corners = [(a * x + b * y + c, d * x + e * y + f) for x, y in points]
        pixels = max(1, round(width * self._unit))
        if self._outline:
            self._canvas.line(corners, self._outline, pixels + 2 * self._thickness, joint="curve")
        self._canvas.line(corners, paint, pixels, joint="curve")


def arc(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360, steps: int = 24) -> list[Point]:
    """Points on an ellipse, from `start` to `end` degrees: 0 is right, 90 is down, 180 is left, 270 is up."""
    return [(x + rx * cos, y + ry * sin) for cos, sin in _directions(start, end, steps)]


@functools.cache
def _directions(start: float, end: float, steps: int) -> list[Point]:
    angles = (math.radians(start + (end - start) * i / (steps - 1)) for i in range(steps))
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def boat(pen: Pen, r: Random) -> None:
    """A hull with a mast, and a sail before it, behind it, or both."""
    deck, bottom = r.uniform(0.3, 0.55), r.uniform(0.8, 1)
    mast = r.uniform(-0.25, 0.2)
    top = r.uniform(-1, -0.75)
    foot = deck - r.uniform(0.08, 0.18)
    pen.line([(mast, deck), (mast, top)], 0.09, pen.third)
    kind = r.random()
    if kind < 0.75:  # a mainsail before the mast
        pen.polygon([(mast + 0.07, top), (mast + 0.07, foot), (r.uniform(0.6, 0.9), foot)], pen.second)
    if kind > 0.3:  # a foresail behind it
        pen.polygon([(mast - 0.07, top + r.uniform(0.05, 0.4)), (mast - 0.07, foot), (r.uniform(-0.95, -0.65), foot)], pen.second)
    bow, stern = r.uniform(0.5, 0.75), r.uniform(-0.8, -0.6)
    pen.polygon([(-1, deck), (1, deck), (bow, bottom), (stern, bottom)], pen.main)
    if r.random() < 0.4:
        pen.polygon([(-0.95, deck), (1, deck), (0.93, deck + 0.13), (-0.9, deck + 0.13)], pen.third)


def car(pen: Pen, r: Random) -> None:
    """A car from the side: body, cabin, two windows, two wheels."""
    roof, waist, floor = r.uniform(-0.75, -0.5), r.uniform(-0.12, 0.05), r.uniform(0.4, 0.5)
    front, back = r.uniform(0.35, 0.65), r.uniform(-0.95, -0.55)
    cabin = [(back, waist), (back + r.uniform(0.05, 0.3), roof), (front - r.uniform(0.2, 0.35), roof), (front, waist)]
    pen.polygon([(-1, floor), (-1, waist + 0.05), *cabin, (0.9, waist + 0.1), (1, floor)], pen.main)
    left, right = cabin[1][0] + 0.02, cabin[2][0] - 0.02
    middle = (left + right) / 2 + r.uniform(-0.1, 0.1)
    for a, b, lower_a, lower_b in (
        (left, middle - 0.05, back + 0.13, middle - 0.05),
        (middle + 0.05, right, middle + 0.05, front - 0.1),
    ):
        pen.polygon([(a, roof + 0.1), (b, roof + 0.1), (lower_b, waist), (lower_a, waist)], pen.second)
    radius = r.uniform(0.22, 0.32)
    for x in (r.uniform(-0.65, -0.5), r.uniform(0.5, 0.65)):
        pen.ellipse(x, floor, radius, radius * 1.15, pen.third)
        pen.ellipse(x, floor, radius * 0.4, radius * 0.45, pen.second)


def house(pen: Pen, r: Random) -> None:
    """A front with a gable or hipped roof, a door, windows, and perhaps a chimney."""
    eaves = r.uniform(-0.3, 0.05)
    wall = r.uniform(0.65, 0.85)
    if r.random() < 0.6:
        chimney = r.choice((-1, 1)) * r.uniform(0.35, 0.55)
        pen.box(chimney - 0.12, r.uniform(-1, -0.85), chimney + 0.12, eaves, pen.third)
    pen.box(-wall, eaves, wall, 1, pen.main)
    ridge = r.uniform(0, 0.5) if r.random() < 0.4 else 0
    pen.polygon([(-1, eaves), (-ridge, -0.95), (ridge, -0.95), (1, eaves)], pen.second)
    door = r.choice((-0.4, 0, 0.4))
    pen.box(door - 0.15, r.uniform(0.35, 0.5), door + 0.15, 1, pen.third)
    for x in (-0.42, 0.42):
        if abs(x - door) > 0.3:
            pen.box(x - 0.15, eaves + 0.25, x + 0.15, eaves + 0.58, pen.third)


def tree(pen: Pen, r: Random) -> None:
    """A trunk with one of four crowns: a fir's, a round one, one of several balls, a stone pine's."""
    trunk = r.uniform(0.07, 0.17)
    kind = r.randrange(4)
    pen.polygon([(-trunk * 0.7, -0.2), (trunk * 0.7, -0.2), (trunk * 1.3, 1), (-trunk * 1.3, 1)], pen.second)
    if kind == 0:  # a fir: triangles on top of one another
        tiers, narrow, low = r.choice((1, 2, 3)), r.uniform(0.3, 0.5), r.uniform(0.4, 0.75)
        for i in reversed(range(tiers)):
            top, bottom = -1 + (low + 1) * 0.85 * i / tiers, -1 + (low + 1) * (i + 1) / tiers
            width = narrow + 0.4 * (i + 1) / tiers
            pen.polygon([(0, top), (width, bottom), (-width, bottom)], pen.main)
    elif kind == 1:  # a round crown
        pen.ellipse(0, -0.35, r.uniform(0.5, 0.85), r.uniform(0.5, 0.68), pen.main)
    elif kind == 2:  # a crown of several balls
        for _ in range(r.randint(4, 6)):
            pen.ellipse(r.uniform(-0.5, 0.5), r.uniform(-0.65, 0), 0.42, 0.36, pen.main)
    else:  # a stone pine, flat below: from afar a mushroom, were it not for its branches
        edge, width = r.uniform(-0.25, 0), r.uniform(0.75, 1)
        for side in (-0.5, 0.5):
            pen.line([(0, 0.5), (side * width, edge)], 0.09, pen.second)
        pen.polygon([*arc(0, edge, width, edge + r.uniform(0.75, 0.95), 180, 360), (0.5 * width, edge + 0.15)], pen.main)
    if r.random() < 0.4 and kind:
        for _ in range(4):
            pen.ellipse(r.uniform(-0.4, 0.4), r.uniform(-0.65, -0.1), 0.09, 0.09, pen.third)


def flower(pen: Pen, r: Random) -> None:
    """Five to eight petals round a centre, on a bent stem with up to two leaves."""
    head = r.uniform(-0.45, -0.3)
    bend = r.uniform(-0.2, 0.2)
    pen.line([(0, head), (bend, 0.4), (0, 1)], 0.1, pen.third)
    for side in (-1, 1):
        if r.random() < 0.7:
            y = r.uniform(0.35, 0.65)
            pen.polygon(
                [(bend * 0.8, y + 0.15), (side * 0.3, y - 0.1), (side * 0.65, y - 0.2), (side * 0.35, y + 0.15)], pen.third
            )
    petals = r.randint(5, 8)
    reach, size = r.uniform(0.28, 0.42), r.uniform(0.85, 1.2) * 1.2 / petals
    turn = r.uniform(0, 6.28)
    for i in range(petals):
        angle = turn + 2 * math.pi * i / petals
        pen.ellipse(reach * math.cos(angle), head + reach * math.sin(angle), size, size, pen.main)
    centre = r.uniform(0.16, 0.24)
    pen.ellipse(0, head, centre, centre, pen.second)


def fish(pen: Pen, r: Random) -> None:
    """A body with a tail and an eye; fins and stripes as they come."""
    height, back = r.uniform(0.4, 0.65), r.uniform(-0.5, -0.35)
    pen.polygon(
        [(back + 0.15, 0), (-1, -r.uniform(0.4, 0.65)), (r.uniform(-0.85, -0.7), 0), (-1, r.uniform(0.4, 0.65))], pen.second
    )
    if r.random() < 0.8:
        pen.polygon([(-0.2, -height * 0.8), (r.uniform(-0.2, 0), -height - 0.3), (0.45, -height * 0.75)], pen.second)
    if r.random() < 0.6:
        pen.polygon([(-0.1, height * 0.8), (-0.15, height + 0.25), (0.25, height * 0.8)], pen.second)
    middle = (back + 1) / 2
    body = arc(middle - 0.1, 0, 1 - middle + 0.1, height)
    pen.polygon([(x, y * (1 if x > 0 else 1 - 0.4 * -x)) for x, y in body], pen.main)
    stripes = r.randint(0, 2)
    for i in range(stripes):
        x = -0.1 + 0.3 * i
        pen.polygon([(x, -height * 0.8), (x + 0.13, -height * 0.8), (x + 0.13, height * 0.8), (x, height * 0.8)], pen.second)
    pen.ellipse(0.68, -height * 0.22, 0.1, 0.1, pen.third)


def bird(pen: Pen, r: Random) -> None:
    """Body, head, beak, tail, two legs, and a wing that is raised or folded."""
    for x in (-0.05, 0.2):
        pen.line([(x, 0.4), (x + 0.05, 1)], 0.07, pen.third)
    lift = r.uniform(-0.25, 0.2)
    pen.polygon([(-0.35, 0), (-1, lift - 0.1), (-1, lift + 0.2), (-0.35, 0.3)], pen.second)
    pen.ellipse(0, 0.15, r.uniform(0.55, 0.65), r.uniform(0.38, 0.48), pen.main)
    head_x, head_y = r.uniform(0.4, 0.55), r.uniform(-0.5, -0.35)
    head = r.uniform(0.28, 0.34)
    pen.polygon([(0.1, -0.1), (head_x - 0.2, head_y), (head_x + 0.22, head_y), (0.5, 0.25)], pen.main)
    pen.polygon([(head_x + 0.2, head_y - 0.12), (1, head_y + r.uniform(-0.02, 0.15)), (head_x + 0.2, head_y + 0.16)], pen.third)
    pen.ellipse(head_x, head_y, head, head, pen.main)
    pen.ellipse(head_x + 0.08, head_y - 0.06, 0.08, 0.08, pen.third)
    tip = r.uniform(-0.9, -0.5) if r.random() < 0.4 else r.uniform(0.1, 0.4)  # the wing: raised or folded
    pen.polygon([(0.25, 0), (-0.05, -0.05), (-0.55, tip), (-0.3, 0.25), (0.05, 0.35)], pen.second)


def cup(pen: Pen, r: Random) -> None:
    """A cup with a handle; a saucer, a stripe and steam as they come."""
    top, base = r.uniform(-0.6, -0.35), r.uniform(0.35, 0.6)
    handle = arc(0.55, 0.1, r.uniform(0.35, 0.45), r.uniform(0.3, 0.4), -80, 80, 12)
    pen.line(handle, r.uniform(0.13, 0.19), pen.main)
    if r.random() < 0.5:
        pen.ellipse(-0.1, 0.88, 0.85, 0.12, pen.second)
    side = arc(-0.1, top, 0.7, 0.1, 180, 360, 12)
    pen.polygon([*side, (0.58, 0.3), (base - 0.1, 0.85), (-base - 0.1, 0.85), (-0.78, 0.3)], pen.main)
    pen.ellipse(-0.1, top, 0.7, 0.14, pen.third)
    if r.random() < 0.4:
        pen.polygon([(-0.79, 0.1), (0.59, 0.1), (0.57, 0.35), (-0.77, 0.35)], pen.second)
    if r.random() < 0.5:
        for x in (-0.35, 0.1):
            pen.line([(x, top - 0.15), (x + 0.12, top - 0.28), (x, top - 0.4), (x + 0.1, top - 0.52)], 0.07, pen.second)


def umbrella(pen: Pen, r: Random) -> None:
    """A dome with a scalloped edge on a stick, with a hooked handle or without."""
    edge, top = r.uniform(-0.2, 0.1), r.uniform(-0.95, -0.75)
    bend = r.choice((-1, 1)) * 0.13
    hook = arc(bend, 0.8, 0.13, 0.17, 180 if bend > 0 else 0, 0 if bend > 0 else 180, 8) if r.random() < 0.75 else []
    pen.line([(0, top - 0.05), (0, 0.8), *hook], r.uniform(0.08, 0.16), pen.third)
    panels, depth = r.choice((3, 4, 5)), r.uniform(0.03, 0.14)
    scallops = []
    for i in reversed(range(panels)):  # from right to left
        x = -1 + (2 * i + 1) / panels
        scallops += arc(x, edge, 1 / panels, depth, 0, -180, 8)
    dome = arc(0, edge, 1, edge - top, 180, 360, 24)
    pen.polygon([*dome, *scallops], pen.main)
    if r.random() < 0.6:
        for i in range(1, panels, 2):
            left, right = -1 + 2 * i / panels, -1 + 2 * (i + 1) / panels
            pen.polygon([(0, top), (left, edge), (right, edge)], pen.second)


def mushroom(pen: Pen, r: Random) -> None:
    """A stalk under a dome, with spots or without."""
    edge, top = r.uniform(-0.05, 0.2), r.uniform(-0.95, -0.75)
    stalk = r.uniform(0.1, 0.32)
    foot = stalk * r.uniform(1, 1.4)
    pen.polygon(
        [(-stalk, edge - 0.1), (stalk, edge - 0.1), (foot, 0.85), (foot * 0.6, 1), (-foot * 0.6, 1), (-foot, 0.85)], pen.second
    )
    width = r.uniform(0.8, 1)
    pen.polygon([*arc(0, edge, width, edge - top, 180, 360), *arc(0, edge, width, r.uniform(-0.08, 0.16), 0, 180, 12)], pen.main)
    if r.random() < 0.6:
        for x, y in ((-0.5, -0.2), (0.05, -0.45), (0.5, -0.15), (-0.2, -0.05)):
            size = r.uniform(0.08, 0.15)
            pen.ellipse(x + r.uniform(-0.08, 0.08), edge + y + r.uniform(-0.08, 0.08), size, size, pen.third)


DRAWINGS: dict[str, Callable[[Pen, Random], None]] = {
    drawing.__name__: drawing for drawing in (bird, boat, car, cup, fish, flower, house, mushroom, tree, umbrella)
}
