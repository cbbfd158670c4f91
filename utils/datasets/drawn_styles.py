"""Two pictures with a style, drawn by programs: a mosaic of stone tiles, and a night sky in brush strokes.

Style transfer needs a picture whose manner shows at every place: the size and shape of its marks, their edges, their colours
and how they follow one another. A mosaic and a painting differ in all four. Both are the same picture in every run.

Coordinates go from (0, 0) at the top left to (1, 1) at the bottom right.
"""

from collections.abc import Sequence

import numpy as np

SIDE = 512  # pixels

# ----------------------------------------------------------------------------------------------------------------- mosaic

TILE = 0.0235  # distance between the tiles of a row
SUN = np.array([0.68, 0.30])
SHORE = 0.66
SKY = ("f7d154", "f2a93b", "e8743b", "c8443f", "8e3a63", "4b3f8f", "2f5aa8", "3f86c6")  # from the sun outwards
HILLS = ("c9b458", "7fb04a", "2f7d4f", "1f4d3a")  # from the ridge down
SEA = ("0e2f5a", "14508c", "1b7aa6", "35a7b5")
SUNLIGHT, RAY, GLITTER = "fff0b0", "f9d976", "f6c65b"


def mosaic() -> np.ndarray:
    """The sun over hills and a sea, laid in stone: Voronoi cells in rows that follow what they show, and dark grout between.

    Returns:
        (SIDE, SIDE, 3) uint8
    """
    from scipy.spatial import cKDTree

    random = np.random.default_rng(0)
    tiles, regions = _laid(random)
    colours = _stones(tiles, regions, random)

    # A pixel belongs to the nearest tile; it lies in the grout where the second nearest is hardly farther.
    pixels = _grid()
    distances, nearest = cKDTree(tiles).query(pixels, k=2)
    across = tiles[nearest[:, 1]] - tiles[nearest[:, 0]]
    apart = np.linalg.norm(across, axis=1)
    to_edge = (distances[:, 1] ** 2 - distances[:, 0] ** 2) / (2 * apart) * SIDE  # pixels to the line in the middle
    facing = -(across / apart[:, None]) @ np.array([0.6, 0.8])  # 1 at edges towards the upper left, where the light comes from
    bevel = 1 + 0.28 * facing * np.exp(-(((to_edge - 2.2) / 1.4) ** 2))
    stone = colours[nearest[:, 0]] * bevel[:, None] + random.normal(0, 4, (len(pixels), 1))
    grout = np.array([52, 46, 44]) + random.normal(0, 7, (len(pixels), 1))
    cover = (to_edge - 0.9).clip(0, 1)[:, None]
    return _picture(stone * cover + grout * (1 - cover))


def _laid(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where the tiles lie (N, 2), and in which region each is: 0 sky, 1 hills, 2 sea."""
    laid = [[], [], []]
    for row in range(60):
        radius = row * TILE
        count = max(1, round(2 * np.pi * radius / TILE))
        angle = (np.arange(count) + random.random()) / count * 2 * np.pi
        laid[0].append(SUN + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))  # rings around the sun
        x = np.arange(-0.02, 1.02, TILE) + random.uniform(0, TILE)
        laid[1].append(np.stack([x, _ridge(x) + (row + 0.5) * TILE], axis=1))  # rows below the ridge
        laid[2].append(np.stack([x, SHORE + _wave(x) + (row - 2) * TILE], axis=1))  # waves
    places, regions = [], []
    for region, rows in enumerate(laid):
        tiles = np.concatenate(rows)
        tiles = tiles + random.normal(0, 0.09 * TILE, tiles.shape)  # by hand
        tiles = tiles[(abs(tiles - 0.5) < 0.53).all(axis=1)]
        tiles = tiles[_region(tiles) == region]
        places.append(tiles)
        regions.append(np.full(len(tiles), region))
    return np.concatenate(places), np.concatenate(regions)


def _ridge(x: np.ndarray) -> np.ndarray:
    """The height at which the hills end."""
    return 0.60 - 0.13 * np.exp(-(((x - 0.22) / 0.17) ** 2)) - 0.06 * np.exp(-(((x - 0.55) / 0.1) ** 2))


def _wave(x: np.ndarray) -> np.ndarray:
    return 0.014 * np.sin(2 * np.pi * 1.6 * x)


def _region(places: np.ndarray) -> np.ndarray:
    x, y = places.T
    return np.where(y > SHORE, 2, np.where(y > _ridge(x), 1, 0))


def _stones(tiles: np.ndarray, regions: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The colour of each tile, (N, 3) in 0..255."""
    x, y = tiles.T
    from_sun = np.linalg.norm(tiles - SUN, axis=1)
    ring = np.round(from_sun / TILE)
    shade = (from_sun - 0.09) / 0.085 + np.where(ring % 2 == 1, 0.5, -0.5)  # every other ring is a shade ahead
    sky = _mixed(SKY, np.round(shade))
    sky[from_sun < 0.1] = _rgb(SUNLIGHT)
    turn = np.arctan2(y - SUN[1], x - SUN[0]) / (2 * np.pi) * 14 % 1
    sky[(abs(turn - 0.5) < 0.17) & (from_sun > 0.13) & (from_sun < 0.30)] = _rgb(RAY)

    hills = _mixed(HILLS, np.floor((y - _ridge(x)) / 0.045))

    row = np.round((y - SHORE - _wave(x)) / TILE)
    swell = 1.6 + 1.6 * np.sin(2 * np.pi * (1.6 * x + 0.13 * row) + 0.9 * row) + random.normal(0, 0.5, len(x))
    sea = _mixed(SEA, np.round(swell))
    path = abs(x - SUN[0]) < 0.05 + 0.1 * (y - SHORE)  # the sun, mirrored in the sea
    sea[path & (random.random(len(x)) < 0.6)] = _rgb(GLITTER)

    colours = np.choose(regions[:, None], [sky, hills, sea])
    return colours * random.normal(1, 0.09, (len(x), 1)) + random.normal(0, 8, (len(x), 3))  # no two stones are alike


# ---------------------------------------------------------------------------------------------------------- brush strokes

# Stars: where, how large, and which way the sky turns around them.
STARS = ((0.30, 0.30, 0.17, 1), (0.72, 0.22, 0.12, -1), (0.55, 0.47, 0.10, 1), (0.92, 0.50, 0.10, 1), (0.08, 0.55, 0.10, -1))
NIGHT = ("121e54", "1e3e8a", "3a6cb4", "7aa8cd", "cddccd")
MEADOW = ("26423a", "42683c", "7c8a3a", "ba983e")
GLOW, HALO = "facd4b", "f0e296"
LAYERS = ((1400, 0.022, 0.10), (2600, 0.013, 0.075), (3000, 0.008, 0.05))  # strokes, their width, their length: finer on top
STEPS = 10  # points of a stroke
BRISTLES = 5


def brush_strokes() -> np.ndarray:
    """A night sky over a meadow, painted in strokes that follow the air and the grass.

    Returns:
        (SIDE, SIDE, 3) uint8
    """
    from PIL import Image, ImageDraw

    random = np.random.default_rng(0)
    finer = 2  # drawn larger, then reduced: smooth edges
    ground = Image.fromarray(_picture(0.8 * _paint(_grid())))  # no canvas shows between the strokes
    picture = ground.resize((finer * SIDE, finer * SIDE))
    canvas = ImageDraw.Draw(picture)
    for count, width, length in LAYERS:
        starts = random.uniform(-0.03, 1.03, (count, 2))
        strokes = _followed(starts, length * random.uniform(0.7, 1.3, (count, 1)))
        paints = _paint(starts) * random.normal(1, 0.13, (count, 1)) + random.normal(0, 9, (count, 3))
        for stroke, paint in zip(strokes, paints, strict=True):
            _draw_stroke(canvas, stroke, paint, width, finer * SIDE, random)
    return np.asarray(picture.reduce(finer))


def _followed(starts: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Follow the flow from each start: (points, 2) for each. A stroke stops where sky and meadow meet."""
    points = [starts]
    for _ in range(STEPS):
        points.append(points[-1] + lengths / STEPS * _flow(points[-1]))
    strokes = np.stack(points, axis=1)  # (count, STEPS + 1, 2)
    below = _is_meadow(strokes)
    same = (below == below[:, :1]).cumprod(axis=1).sum(axis=1)  # points before the first on the other side
    return [stroke[:end] for stroke, end in zip(strokes, same, strict=True)]


def _draw_stroke(canvas, stroke: np.ndarray, paint: np.ndarray, width: float, side: int, random: np.random.Generator) -> None:
    """Draw a stroke as its bristles, side by side: each has a little more or less of the paint, and may end earlier."""
    if len(stroke) < 4:
        return
    along = np.gradient(stroke, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    for place in np.linspace(-0.4, 0.4, BRISTLES):
        first, last = random.integers(0, 2, 2)
        line = (stroke + place * width * across)[first : len(stroke) - last] * side
        load = random.normal(1 - 0.2 * place, 0.07)  # one side of the brush carries more
        colour = tuple((paint * load).clip(0, 255).astype(int).tolist())
        canvas.line(line.ravel().tolist(), colour, max(1, round(1.35 * width / BRISTLES * side)), joint="curve")


def _is_meadow(places: np.ndarray) -> np.ndarray:
    x, y = places[..., 0], places[..., 1]
    return y > 0.70 + 0.05 * np.sin(5 * x + 0.7) + 0.03 * np.sin(11 * x)


def _flow(places: np.ndarray) -> np.ndarray:
    """The direction of the strokes, of length 1: wind that turns around the stars, and grass along the hills."""
    x, y = places.T
    wind = np.stack([np.ones_like(x), 0.25 * np.sin(6 * x + 2 * y)])
    for star_x, star_y, size, sense in STARS:
        dx, dy = x - star_x, y - star_y
        wind += sense * 7 / size * np.exp(-(dx**2 + dy**2) / (2 * size**2)) * np.stack([-dy, dx])
    slope = np.arctan(0.25 * np.cos(5 * x + 0.7) + 0.33 * np.cos(11 * x)) + 0.35 * np.sin(9 * x + 14 * y)
    grass = np.stack([np.cos(slope), np.sin(slope)])
    flow = np.where(_is_meadow(places), grass, wind)
    return (flow / np.linalg.norm(flow, axis=0).clip(1e-6)).T


def _paint(places: np.ndarray) -> np.ndarray:
    """The colour at each place, (N, 3) in 0..255."""
    x, y = places.T
    sky = _mixed(NIGHT, 1.3 + 0.9 * np.sin(5 * y - 3 * x) + 0.55 * np.sin(11 * x + 9 * y))
    for star_x, star_y, size, _ in STARS:
        distance = (np.hypot(x - star_x, y - star_y) / size)[:, None]
        light = np.where(distance < 0.6, _rgb(GLOW), _rgb(HALO))
        strength = np.maximum(np.exp(-((distance / 0.38) ** 2)), 0.75 * np.exp(-(((distance - 0.85) / 0.16) ** 2)))
        sky = sky * (1 - strength) + light * strength
    meadow = _mixed(MEADOW, 1.2 + 1.2 * np.sin(7 * x + 20 * y) + 2.5 * (y - 0.7))
    return np.where(_is_meadow(places)[:, None], meadow, sky)


# ------------------------------------------------------------------------------------------------------------------- both


def _grid() -> np.ndarray:
    """The middle of every pixel, row by row: (SIDE * SIDE, 2)."""
    middles = (np.arange(SIDE) + 0.5) / SIDE
    return np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)


def _picture(colours: np.ndarray) -> np.ndarray:
    return colours.clip(0, 255).astype(np.uint8).reshape(SIDE, SIDE, 3)


def _rgb(colour: str) -> np.ndarray:
    """ "ff0000" -> [255, 0, 0]"""
    return np.array(list(bytes.fromhex(colour)), dtype=float)


def _mixed(palette: Sequence[str], places: np.ndarray) -> np.ndarray:
    """Colours from a palette, (N, 3): at 0 its first, at 0.5 halfway to the second."""
    colours = np.stack([_rgb(colour) for colour in palette])
    places = places.clip(0, len(palette) - 1)
    return np.stack([np.interp(places, np.arange(len(palette)), channel) for channel in colours.T], axis=-1)
