"""What the numbers of the noise do: the directions in which a face changes most, named by what they change.

A network's noise has many numbers, and none of them means anything by itself. But some combinations change the face a lot and
others hardly. They are found from the outside, the same way for either network: make many faces, and look for the best linear
map from noise to picture. Its singular vectors are directions in the noise, the first being that along which the picture changes
most. Each is then walked, and a reader reads off the faces what changes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from project6_faces.model import Maker
from project6_faces.reader import Reader

FACES = 500  # that are made to find the directions
WALK = 2.0  # standard deviations of the noise, to either side
SEARCHED = 3  # times as many directions are looked at as are wanted, as several may change the same thing most
MEASURED = 16  # faces that walk along each direction


@dataclass(frozen=True)
class Direction:
    """A direction in the noise.

    Attributes:
        vector: (noise,), of length 1.
        change: Root of the mean squared difference of pixels between its two ends, in 0..1.
        name: What it changes most, of what can be measured: the attributes that a reader reads, and a few means of pixels.
        effects: For each thing that can be measured the mean difference between the two ends; 2 is about all that there is.
    """

    vector: Tensor
    change: float
    name: str
    effects: dict[str, float]


@torch.no_grad()
def find_directions(model: Maker, wishes: Tensor, count: int, reader: Reader | None, attributes: list[str]) -> list[Direction]:
    """The directions along which faces change most, each named after something else.

    Args:
        model: Who makes faces.
        wishes: (attributes,), the same for all faces: what is asked for changes without any direction.
        count: Of directions, at most: each is kept that changes something else most than all before it.
        reader: Reads `attributes` off a face; without one, names are of what can be seen in the pixels only.
        attributes: Their names.
    """
    device = next(model.parameters()).device
    noise = torch.randn(FACES, model.noise, generator=torch.Generator().manual_seed(0))
    same = wishes.expand(FACES, -1)
    made = [model.draw(a.to(device), b.to(device)).cpu() for a, b in zip(noise.split(500), same.split(500), strict=True)]
    pictures = torch.cat(made).flatten(1)
    slopes = torch.linalg.lstsq(noise - noise.mean(dim=0), pictures - pictures.mean(dim=0)).solution  # (noise, pixels)
    _, _, vectors = torch.linalg.svd(slopes.T, full_matrices=False)
    found: list[Direction] = []
    for vector in vectors[: SEARCHED * count]:
        one = _measured(model, vector, wishes, reader, attributes)
        if one.name not in [other.name for other in found]:  # a second slider for the same thing would say nothing new
            found.append(one)
        if len(found) == count:
            break
    return found


def _measured(model: Maker, vector: Tensor, wishes: Tensor, reader: Reader | None, attributes: list[str]) -> Direction:
    device = next(model.parameters()).device
    noise = torch.randn(MEASURED, model.noise, generator=torch.Generator().manual_seed(1))
    noise = noise - (noise @ vector)[:, None] * vector  # what the direction adds is all that there is along it
    same = wishes.expand(MEASURED, -1).to(device)
    low, high = (model.draw((noise + side * WALK * vector).to(device), same).cpu() for side in (-1, 1))
    effects = {name: (one - other).mean().item() for name, one, other in _readings(high, low, reader, attributes)}
    name = max(effects, key=lambda name: abs(effects[name]))
    if effects[name] < 0:  # a direction has no sign of its own: more is to the right
        vector, effects = -vector, {key: -value for key, value in effects.items()}
    return Direction(vector, (high - low).square().mean().sqrt().item(), name, effects)


def _readings(high: Tensor, low: Tensor, reader: Reader | None, attributes: list[str]) -> list[tuple[str, Tensor, Tensor]]:
    """What can be measured, at either end, so that from one extreme to the other is about 2."""
    found = [(name, measure(high), measure(low)) for name, measure in PIXELS.items()]
    if reader is not None:
        found += list(zip(attributes, reader.read(high).T, reader.read(low).T, strict=True))
    return found


def _mean(images: Tensor, rows: slice, columns: slice) -> Tensor:
    return images[:, :, rows, columns].mean(dim=(2, 3))  # (n, channels)


def _redness(colours: Tensor) -> Tensor:
    return 4 * (colours[:, 0] - colours[:, -1])  # red minus blue: 0 where there is one channel


def _greenness(colours: Tensor) -> Tensor:
    return 4 * (colours[:, colours.shape[1] // 2] - (colours[:, 0] + colours[:, -1]) / 2)


ALL, TOP, BOTTOM, LEFT, RIGHT = slice(None), slice(0, 5), slice(28, None), slice(0, 16), slice(16, None)
PIXELS = {  # of 32x32, in parts of the picture where the background and the clothes usually are
    "brightness": lambda images: 4 * images.mean(dim=(1, 2, 3)),
    "contrast": lambda images: 4 * images.flatten(1).std(dim=1),
    "light from the right": lambda images: 4 * (_mean(images, ALL, RIGHT) - _mean(images, ALL, LEFT)).mean(dim=1),
    "light from above": lambda images: 4 * (_mean(images, LEFT, ALL) - _mean(images, RIGHT, ALL)).mean(dim=1),
    "red background": lambda images: _redness(_mean(images, TOP, TOP)),
    "green background": lambda images: _greenness(_mean(images, TOP, TOP)),
    "red clothes": lambda images: _redness(_mean(images, BOTTOM, slice(8, 24))),
    "green clothes": lambda images: _greenness(_mean(images, BOTTOM, slice(8, 24))),
}
