"""What the tests of project 6 share: few faces, a small network, and a reader that was taught quickly."""

import functools

import torch

from project6_faces import evaluate
from project6_faces.data import coded_batches, pictures, shape_for
from project6_faces.directions import find_directions
from project6_faces.model import KINDS, Maker
from project6_faces.reader import Reader, train_reader
from project6_faces.studio import Studio
from utils.datasets.faces import FaceData, Faces, drawn

CPU = torch.device("cpu")


@functools.cache
def few_faces(count: int = 400, held: int = 200) -> FaceData:
    """Drawn faces, a few."""
    return drawn(count, held=held)


@functools.cache
def a_quick_reader() -> Reader:
    """A reader that was taught for two seconds, once for all tests."""
    return train_reader(few_faces(1500, 500), steps=80)


def photographs(count: int = 120) -> FaceData:
    """Faces of which nothing is known, grey, as Olivetti's are: stripes, as it matters to nobody what they show."""
    images = torch.randint(0, 256, (count, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    parts = [Faces(part, torch.zeros(len(part), 0)) for part in (images, images[:30], images.flip(2)[:80])]
    return FaceData(*parts, [], "Olivetti, made up", is_real=True, name="olivetti")


def untrained(kind: str, data: FaceData) -> Maker:
    """A small network that has learned the eigenfaces and nothing else."""
    torch.manual_seed(0)
    model = KINDS[kind](shape_for(data, 32, 1))
    coded_batches(data, model.eigenfaces, 64, 5, CPU, 0)
    return model.eval()


def facts(model: Maker, data: FaceData) -> dict:
    """What is saved beside a network."""
    resting = evaluate.resting(data)
    found = find_directions(model, resting, 3, None, data.attributes)
    about = {"attributes": data.attributes, "source": data.source, "set": data.name, "count": len(data.train), "seed": 0}
    about |= {"directions": torch.stack([one.vector for one in found]), "names": [one.name for one in found]}
    torch.manual_seed(0)
    reader = Reader(model.shape.channels, len(data.attributes)).state_dict() if data.attributes else None
    return about | {"resting": resting, "reader": reader}


def studio(kind: str, data: FaceData) -> tuple[Studio, dict]:
    """Somebody who draws without having learned it, and what would have been saved."""
    model = untrained(kind, data)
    about = {**facts(model, data), "kind": kind}
    return Studio(model, about, pictures(data.train.images), pictures(data.test.images)), about
