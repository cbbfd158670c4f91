"""Faces as the networks learn from them: codes and wishes in batches."""

import torch
from torch import Tensor

from project6_faces.model import CODES, SIZE, Eigenfaces, Shape
from utils.batches import Batches
from utils.datasets import Source
from utils.datasets.faces import FaceData, Name, faces
from utils.lesson import check


def load(source: Source = "sample", name: Name = "auto", count: int = 6000) -> FaceData:
    """The faces to learn from.

    Args:
        source: "sample" draws faces; "real" takes the set `name`; "auto" does so if one is there.
        name: "olivetti", "lfw", "celeba", or "auto" for the largest that is on disk.
        count: Drawn faces to learn from.

    Raises:
        LessonError: source="real" and the set is not there, or it is damaged.
    """
    check(source != "real" or name != "drawn", "--source real: drawn faces are no real ones; choose olivetti, lfw or celeba")
    data = faces("drawn" if source == "sample" else name, SIZE, count)
    check(source != "real" or data.is_real, "--source real: there are no faces in datasets/; README.md says where they come from")
    return data


def load_again(about: dict) -> FaceData:
    """The faces that a saved network has learned from.

    Raises:
        LessonError: They are not there any more, or are others.
    """
    data = faces(about["set"], SIZE, about["count"])
    told = f"the network was trained on other faces ({about['source']}) than those that are there now ({data.source})"
    check(data.source == about["source"], f"{told}: train again with `python -m study run faces`")
    return data


def pictures(images: Tensor) -> Tensor:
    """Pictures uint8 as float in 0..1."""
    return images.float() / 255


def with_mirrored(data: FaceData) -> tuple[Tensor, Tensor]:
    """Training pictures in 0..1 and their wishes; real ones also mirrored, which changes none of what is known of them.

    Of drawn faces it is known which way they turn, and they are as many as one likes.
    """
    images, wishes = pictures(data.train.images), data.train.wishes
    return (torch.cat([images, images.flip(3)]), torch.cat([wishes, wishes])) if data.is_real else (images, wishes)


def shape_for(data: FaceData, width: int, blocks: int) -> Shape:
    """The size of a network for these faces; a code has at most half as many numbers as there are faces."""
    images = data.train.images
    return Shape(width, blocks, images.shape[1], min(CODES, len(images) // 2), len(data.attributes))


def coded_batches(
    data: FaceData, eigenfaces: Eigenfaces, batch_size: int, steps: int, device: torch.device, seed: int
) -> Batches:
    """Teach the eigenfaces, and return shuffled batches (codes, wishes) of the faces, on the device.

    An epoch takes the faces several times where they are few, so that it has about `steps` steps: the time between two looks at
    the validation faces does not depend on how many there are.
    """
    images, wishes = with_mirrored(data)
    eigenfaces.learn(images)
    codes = eigenfaces.encode(images)
    passes = max(1, round(steps * batch_size / len(codes)))
    codes, wishes = codes.repeat(passes, 1), wishes.repeat(passes, 1)
    return Batches(codes, wishes, batch_size=min(batch_size, len(codes)), drop_last=True, device=device, seed=seed)


def some_wishes(data: FaceData, count: int, seed: int) -> Tensor:
    """Wishes (count, attributes) as they come: those of validation faces drawn at random."""
    chosen = torch.randint(len(data.validation), (count,), generator=torch.Generator().manual_seed(seed))
    return data.validation.wishes[chosen]
