"""Draw one face for somebody: wishes, directions in the noise, and the nearest training face beside it.

studio, about = load_studio()
made = studio.draw(wishes=[0, 1, -1, 0, 0, 0, 0, 0], walk=[0, 2, 0, 0, 0, 0], seed=3)
made.face, made.nearest, made.distance, made.read
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from project6_faces.data import load_again, pictures
from project6_faces.model import Maker, load_network
from project6_faces.reader import Reader
from utils.lesson import check
from utils.sample_quality import nearest

FARTHEST = 3.0  # standard deviations that one can walk along a direction; the noise itself is hardly ever farther out


@dataclass(frozen=True)
class Made:
    """A face.

    Attributes:
        face: (channels, 32, 32) in 0..1.
        nearest: The training face that is nearest to it, likewise.
        distance: To that one, root of the mean squared difference of pixels.
        read: What the reader reads off it, a number in about -1..1 for each attribute; none where nothing is known.
    """

    face: Tensor
    nearest: Tensor
    distance: float
    read: list[float]


class Studio:
    """A network, its directions, its training faces and a reader.

    Attributes:
        attributes: Names of what can be asked for.
        names: Of the directions.
        resting: What is asked for if nobody asks, (attributes,).
        usual: Distance from a real test face to its nearest training face: the median, and what one in a hundred is nearer than.
        source: What it has learned from.
    """

    def __init__(self, model: Maker, about: dict, train: Tensor, test: Tensor):
        """Take a network and what was saved with it, and its training and test faces (n, channels, 32, 32) in 0..1."""
        self.model, self.train = model, train
        self.attributes, self.names, self.source = about["attributes"], about["names"], about["source"]
        self.directions, self.resting = about["directions"], about["resting"]
        self.reader = None
        if about["reader"] is not None and self.attributes:
            self.reader = Reader(model.shape.channels, len(self.attributes)).eval()
            self.reader.load_state_dict(about["reader"])
        distances, _ = nearest(test, train)
        self.usual = distances.median().item(), distances.quantile(0.01).item()

    def draw(self, wishes: Sequence[float], walk: Sequence[float], seed: int) -> Made:
        """Make the face for wishes in -1..1 at a place `walk` along the directions, everything else being decided by the seed.

        Raises:
            LessonError: There are too many or too few numbers, or one is out of its range.
        """
        _check_numbers("wishes", wishes, len(self.attributes), 1.0)
        _check_numbers("walk", walk, len(self.names), FARTHEST)
        check(0 <= seed < 2**31, f"a seed lies between 0 and {2**31 - 1}")
        device = next(self.model.parameters()).device
        noise = torch.randn(1, self.model.noise, generator=torch.Generator().manual_seed(seed))
        noise = noise - noise @ self.directions.T @ self.directions  # the directions are at right angles to one another
        noise = noise + torch.tensor([list(walk)], dtype=torch.float32) @ self.directions
        asked = torch.tensor([list(wishes)], dtype=torch.float32).view(1, len(self.attributes))
        face = self.model.draw(noise.to(device), asked.to(device)).cpu()
        distance, index = nearest(face, self.train)
        read = [] if self.reader is None else self.reader.read(face)[0].tolist()
        return Made(face[0], self.train[index.item()], distance.item(), read)


def _check_numbers(name: str, numbers: Sequence[float], count: int, most: float) -> None:
    check(len(numbers) == count, f"{name}: {count} numbers were expected, and {len(numbers)} came")
    check(all(abs(number) <= most for number in numbers), f"{name}: each number lies between {-most:g} and {most:g}")


def load_studio(model: Path | None = None, device: torch.device | str = "cpu") -> tuple[Studio, dict]:
    """Load the trained network and the faces that it learned from.

    Args:
        model: Its file; None is where training puts it.
        device: Where it draws.

    Returns:
        The studio, and what was saved with the network.

    Raises:
        LessonError: There is no network yet, its file is damaged, or its faces are not there any more.
    """
    maker, about = load_network(model, device)
    data = load_again(about)
    return Studio(maker, about, pictures(data.train.images), pictures(data.test.images)), about
