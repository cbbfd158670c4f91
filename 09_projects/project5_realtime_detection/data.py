"""What is trained on: drawn scenes, blood cells, or a folder of one's own; and batches of it, cut, zoomed and put together.

A folder of one's own has the layout of Pascal VOC or of COCO:

    my_boxes/ImageSets/Main/train.txt        my_boxes/annotations/train.json (or instances_train2017.json)
    my_boxes/Annotations/one.xml             my_boxes/images/one.jpg         (or my_boxes/train2017/one.jpg)
    my_boxes/JPEGImages/one.jpg

with val and test beside train; of those that are missing, a tenth of the training pictures each is kept out of training.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from project5_realtime_detection.loss import NOTHING
from utils.batches import Batches, to_pixels
from utils.box_augmentation import flip, jitter_colour, mosaic, random_crop
from utils.datasets.boxes import Boxed, DetectionData
from utils.datasets.detection import bccd, read_coco, read_voc
from utils.datasets.scenes import CLASSES, draw_scenes
from utils.lesson import check, mention

Kind = Literal["scenes", "bccd", "folder"]
PAPER_SEED = 1


# %% What there is
def load(
    kind: Kind, side: int, folder: Path | None = None, scenes: tuple[int, int, int] = (1000, 80, 250), paper: float = 0.0
) -> DetectionData:
    """Pictures with boxes in three splits.

    Args:
        kind: "scenes" (drawn here), "bccd" (blood cells, from disk) or "folder".
        side: Of the pictures that the network sees; scenes are drawn so large, other pictures are kept half as large again.
        folder: For "folder": what is in it is told at the top of this file.
        scenes: How many to draw to train, validate and test.
        paper: Share of the scenes that are drawn on paper.

    Raises:
        LessonError: A file is missing or damaged, or there is nothing to find in the pictures.
    """
    if kind == "scenes":
        return drawn(scenes, side, paper)
    if kind == "bccd":
        return bccd("real", size=side * 3 // 2)
    check(folder is not None, "--data folder needs --folder: where your pictures are")
    return from_folder(folder, size=side * 3 // 2)


def drawn(counts: tuple[int, int, int], side: int, paper: float) -> DetectionData:
    """Scenes, a share of them on paper, with some outlines: what a learner holds into the camera."""
    splits = {}
    for split, count in zip(("train", "validation", "test"), counts, strict=True):
        scenes = draw_scenes(count, 0, side, split)
        images = scenes.images.clone()
        generator = torch.Generator().manual_seed(PAPER_SEED)
        for number in (torch.rand(count, generator=generator) < paper).nonzero()[:, 0].tolist():
            images[number] = on_paper(scenes.images[number], scenes.masks[number], scenes.owners[number], generator)
        splits[split] = Boxed(list(images), scenes.boxes, scenes.labels)
    on = f", {paper:.0%} of them on paper" if paper else ""
    told = f"sample: scenes of handwritten digits and shapes{on}, drawn here, {side}x{side} ({' + '.join(map(str, counts))})"
    mention("data", told)
    return DetectionData(**splits, classes=list(CLASSES), source=told, is_real=False)


def on_paper(image: Tensor, mask: Tensor, owners: Tensor, generator: torch.Generator) -> Tensor:
    """Put the objects of a scene on a sheet of paper; squares, triangles and stars sometimes become outlines, as of a pen.

    Args:
        image: (3, side, side) uint8.
        mask: (side, side): 1 + label where an object is seen.
        owners: (side, side): whose pixels they are.
        generator: On the CPU.
    """
    side = image.shape[-1]
    numbers = torch.rand(6, generator=generator).tolist()
    white = 150 + 105 * numbers[0] - 20 * torch.rand(3, generator=generator)
    ramp = torch.linspace(-0.5, 0.5, side)
    light = 1 + 0.6 * (numbers[1] - 0.5) * ramp + 0.6 * (numbers[2] - 0.5) * ramp[:, None]
    sheet = white[:, None, None] * light + 8 * torch.randn(3, side, side, generator=generator) * numbers[3]
    drawn = owners > 0
    pen = round(side * (0.012 + 0.02 * numbers[4]))
    for owner in owners.unique().tolist():
        of_it = owners == owner
        hollow_allowed = owner > 0 and mask[of_it][0] - 1 in (CLASSES.index(name) for name in ("square", "triangle", "star"))
        if hollow_allowed and torch.rand((), generator=generator) < 0.5:
            drawn &= ~(smooth(of_it.float(), 2 * pen + 1) > 0.999)  # all that is farther than the pen from its edge
    cover = smooth(drawn.float(), 3)
    return (sheet + cover * (image - sheet)).clamp(0, 255).byte()


def smooth(mask: Tensor, size: int) -> Tensor:
    """The mean of a square of size x size pixels round each pixel of (height, width); beyond the edge, the edge goes on."""
    padded = F.pad(mask[None, None], [size // 2] * 4, mode="replicate")
    return F.avg_pool2d(padded, size, stride=1)[0, 0]


def from_folder(folder: Path, size: int) -> DetectionData:
    """Pictures of one's own, in the layout of VOC or COCO."""
    check(folder.is_dir(), f"--folder {folder}: there is no such folder")
    is_voc = (folder / "ImageSets" / "Main").is_dir()
    found = {split: find_split(folder, split) for split in ("train", "val", "test")}
    check(
        found["train"] is not None,
        f"{folder} has neither ImageSets/Main/train.txt (the layout of VOC) nor annotations/train.json (that of COCO)",
    )
    parts: dict[str, Boxed] = {}
    classes = None
    for split, place in found.items():
        if place is None:
            continue
        if is_voc:
            parts[split], classes = read_voc(folder, split, classes, size)
        else:
            parts[split], classes = read_coco(place, pictures_of(folder, place), classes, size)
    missing = [split for split in found if split not in parts]
    parts["train"], kept_out = hold_out(parts["train"], len(missing))
    parts |= dict(zip(missing, kept_out, strict=True))
    counts = " + ".join(f"{len(parts[split].images):,}" for split in found)
    held = f"; {' and '.join(missing)} from the training pictures" if missing else ""
    told = f"{folder.name} ({counts} pictures of {', '.join(classes)}{held})"
    mention("data", told)
    return DetectionData(parts["train"], parts["val"], parts["test"], classes, told, is_real=True)


def find_split(folder: Path, split: str) -> Path | None:
    """The file that says what is in a split, if there is one."""
    annotations = folder / "annotations"
    if (folder / "ImageSets" / "Main").is_dir():
        files = [folder / "ImageSets" / "Main" / f"{split}.txt"]
    else:
        files = [annotations / f"{split}.json", *sorted(annotations.glob(f"instances_{split}*.json"))]
    return next((file for file in files if file.is_file()), None)


def pictures_of(folder: Path, annotations: Path) -> Path:
    """Where the pictures of a COCO file are: images/, or a folder with the name of the split, or the folder itself."""
    places = [folder / "images", folder / annotations.stem.removeprefix("instances_")]
    return next((place for place in places if place.is_dir()), folder)


def hold_out(split: Boxed, times: int) -> tuple[Boxed, list[Boxed]]:
    """Take a tenth of the pictures, those with objects, out of a split, so many times; always the same ones.

    Returns:
        The rest, and what was taken.
    """
    order = torch.randperm(len(split.images), generator=torch.Generator().manual_seed(0)).tolist()
    with_objects = [index for index in order if len(split.labels[index])]
    count = max(1, len(order) // 10)
    check(
        times * count < len(with_objects), f"{len(with_objects)} pictures with objects are too few to keep some out of training"
    )
    taken = [with_objects[count * time : count * (time + 1)] for time in range(times)]
    rest = sorted(set(order).difference(*taken))
    return chosen(split, rest), [chosen(split, sorted(one)) for one in taken]


def chosen(split: Boxed, indices: list[int]) -> Boxed:
    """Some of the pictures."""
    return Boxed(*([part[index] for index in indices] for part in split))


# %% Batches
class DetectionBatches(Batches):
    """Shuffled batches (pictures, boxes, labels), each picture a random part of one picture or of four.

    pictures (batch, 3, side, side) float32 in 0..1, boxes (batch, most, 4), labels (batch, most), NOTHING where there is no box.
    """

    def __init__(
        self,
        split: Boxed,
        side: int,
        batch_size: int,
        seed: int,
        *,
        scale: tuple[float, float] = (0.5, 1.5),
        mosaics: float = 0.5,
        mirror: bool = False,
        colour: float = 0.4,
    ):
        """Take the pictures as they are; they are cut and moved one by one.

        Args:
            split: To learn from.
            side: Width and height of the pictures that come out.
            batch_size: Pictures in a batch.
            seed: Of the order and of the augmentation.
            scale: By how much what is seen is enlarged at least and at most; at 1 the whole picture fits into the square.
            mosaics: Share of pictures that are put together of four.
            mirror: Whether things may be mirrored, left to right and top to bottom: cells may, digits may not.
            colour: By which share brightness, contrast and saturation change at most.
        """
        indices = torch.arange(len(split.images))
        # a last batch of a few pictures has unreliable statistics for batch normalisation
        super().__init__(indices, batch_size=min(batch_size, len(indices)), drop_last=True, seed=seed)
        self.split, self.side, self.scale, self.mosaics = split, side, scale, mosaics
        self.mirror, self.colour = mirror, colour

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for (indices,) in super().__iter__():
            made = [self._made(index) for index in indices.tolist()]
            pictures, boxes, labels = zip(*made, strict=True)
            yield to_pixels(torch.stack(pictures)), *filled_up(boxes, labels)

    def _made(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """One picture (3, side, side) uint8 with its boxes (n, 4) and labels (n,)."""
        if self._drawn() < self.mosaics:
            others = torch.randint(len(self.split.images), (3,), generator=self.generator).tolist()
            chosen = [index, *others]
            images, boxes, labels = ([part[one] for one in chosen] for part in self.split)
            low, high = (one * self._fit(images[0]) for one in self.scale)
            moved = mosaic(images, boxes, self.side, self.generator, (low, high))
            labels = torch.cat(labels)[moved.kept]
        else:
            picture, boxes, labels = (part[index] for part in self.split)
            low, high = (one * self._fit(picture) for one in self.scale)
            moved = random_crop(picture, boxes, (self.side, self.side), self.generator, (low, high))
            labels = labels[moved.kept]
        picture, boxes = moved.picture, moved.boxes
        if self.mirror:
            for vertical in (False, True):
                if self._drawn() < 0.5:
                    picture, boxes = flip(picture, boxes, vertical)
        return jitter_colour(picture, self.generator, *[self.colour] * 3), boxes, labels

    def _fit(self, picture: Tensor) -> float:
        return self.side / max(picture.shape[1:])

    def _drawn(self) -> float:
        return torch.rand((), generator=self.generator).item()


def filled_up(boxes: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes and labels of pictures with different numbers of them, as two tensors: (batch, most, 4) and (batch, most)."""
    most = max(1, *map(len, labels))
    all_boxes, all_labels = torch.zeros(len(boxes), most, 4), torch.full((len(labels), most), NOTHING)
    for row, (theirs, their_labels) in enumerate(zip(boxes, labels, strict=True)):
        all_boxes[row, : len(theirs)] = theirs
        all_labels[row, : len(theirs)] = their_labels
    return all_boxes, all_labels
