"""What the tests of project 5 share: pictures of coloured rectangles, a finder whose answers are known, an untrained network."""

import functools
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from project5_realtime_detection import train
from project5_realtime_detection.finder import Finder
from project5_realtime_detection.model import Detector, save_network
from utils.datasets.boxes import Boxed, DetectionData
from utils.seeding import seed_everything
from utils.training import fit, rise_and_fall

CLASSES = ["red", "blue"]
PAINTS = {"red": (230, 20, 20), "blue": (20, 20, 230)}
SIDE = 64
SOURCE = "sample: painted rectangles"


def picture_of(*things: tuple[str, tuple[int, int, int, int]], height: int = 96, width: int = 128) -> Tensor:
    """A grey picture (3, height, width) uint8 with painted rectangles: picture_of(("red", (10, 20, 50, 60)))."""
    picture = torch.full((3, height, width), 128, dtype=torch.uint8)
    for name, (x1, y1, x2, y2) in things:
        picture[:, y1:y2, x1:x2] = torch.tensor(PAINTS[name], dtype=torch.uint8)[:, None, None]
    return picture


def known_finder(side: int = SIDE) -> Finder:
    """It finds what is red and what is blue, one box each, with scores 0.9 and 0.6, exact to a pixel of what it sees."""
    return Finder(_look, CLASSES, side, "nothing: it knows red and blue by heart")


def _look(pictures: Tensor) -> tuple[Tensor, Tensor]:
    boxes, scores = torch.zeros(1, 2, 4), torch.zeros(1, 2, 2)
    red, green, blue = pictures[0]
    for label, (strong, weak, score) in enumerate(((red, blue, 0.9), (blue, red, 0.6))):
        painted = (strong > 0.6) & (weak < 0.35) & (green < 0.35)
        if painted.any():
            rows, columns = painted.any(dim=1).nonzero(), painted.any(dim=0).nonzero()
            boxes[0, label] = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            scores[0, label, label] = score
    return boxes, scores


def painted(count: int, seed: int) -> Boxed:
    """Pictures of one to three rectangles that do not touch, of random sizes, red or blue."""
    r = Random(seed)
    split = Boxed([], [], [])
    for _ in range(count):
        things = []
        for column in r.sample(range(3), r.randint(1, 3)):
            width, height = r.randint(14, 20), r.randint(14, 44)
            x, y = 21 * column + r.randint(0, 20 - width), r.randint(0, SIDE - height)
            things.append((r.choice(CLASSES), (x, y, x + width, y + height)))
        split.images.append(picture_of(*things, height=SIDE, width=SIDE))
        split.boxes.append(torch.tensor([box for _, box in things], dtype=torch.float32))
        split.labels.append(torch.tensor([CLASSES.index(name) for name, _ in things]))
    return split


def world() -> DetectionData:
    """Painted rectangles in three splits."""
    return DetectionData(painted(96, 0), painted(24, 1), painted(24, 2), CLASSES, SOURCE, is_real=False)


RECIPE = {
    "width": 8,
    "side": SIDE,
    "batch_size": 8,
    "lr": 0.1,
    "others_lr": 0.02,
    "scale": (0.9, 1.1),
    "mosaics": 0.0,
    "mirror": True,
    "epochs": 6,
}


@functools.cache
def trained() -> tuple[Detector, float]:
    """A network that has learned to find red and blue, in a few seconds, and how precisely it finds what is held out."""
    seed_everything(0)
    data = world()
    model, batches, optimizer = train.prepare(data, RECIPE, 0, torch.device("cpu"))
    schedule = rise_and_fall(optimizer, RECIPE["epochs"] * len(batches))
    fit(model, batches, optimizer, train.compute_loss, epochs=RECIPE["epochs"], scheduler=schedule)
    return model, train.validation_numbers(model.eval(), data, SIDE)["map_50"]


def trained_file(path: Path) -> Path:
    """A file as training writes it, of the network that has learned; returns its path."""
    model, precision = trained()
    save_network(path, model, CLASSES, SIDE, SOURCE, precision)
    return path


def untrained_file(path: Path, classes: list[str] = CLASSES, width: int = 4, side: int = SIDE) -> Path:
    """A file as training writes it, with random weights; returns its path."""
    seed_everything(0)
    save_network(path, Detector(len(classes), width), classes, side, "sample: nothing", 0.0, seed=0)
    return path
