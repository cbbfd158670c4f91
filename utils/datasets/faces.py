"""Faces for networks that generate: drawn by the course, or the real sets where they are on disk.

    data = faces("auto")
    data.train.images       # (N, channels, 32, 32) uint8
    data.train.wishes       # (N, attributes) float in -1..1: what a generator is asked for; no columns where none is known
    data.attributes         # ["turn", "smile", ...], the names of the columns
    data.source             # print it beside every number

    olivetti    400 grey pictures of 40 people       olivetti/olivetti_faces.npy, or the original olivettifaces.mat
    lfw         13,233 pictures of 5,749 people      lfw/Ada_Lovelace/Ada_Lovelace_0001.jpg
    celeba      202,599 pictures, 40 attributes      celeba/img_align_celeba/000001.jpg, celeba/list_attr_celeba.txt

Real faces are real people: what is generated from them is nobody, and is to be said to be generated wherever it is shown.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from utils import paths
from utils.datasets import cache
from utils.datasets.drawn_faces import ATTRIBUTES, asked, draw_parameters, render
from utils.lesson import LessonError, check, explain, mention
from utils.pictures import PictureError, in_colour, open_picture

Name = Literal["auto", "drawn", "olivetti", "lfw", "celeba"]
PLACES = {  # below a data folder, in order of preference
    "celeba": ("celeba/img_align_celeba", "CelebA/img_align_celeba", "img_align_celeba"),
    "lfw": ("lfw", "lfw-deepfunneled", "lfw_funneled"),
    "olivetti": ("olivetti/olivetti_faces.npy", "olivetti/olivettifaces.mat", "olivettifaces.mat"),
}
HOMEPAGES = {
    "celeba": "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    "lfw": "https://vis-www.cs.umass.edu/lfw/",
    "olivetti": "https://cam-orl.co.uk/facedatabase.html",
}
CELEBA_ATTRIBUTES = ("Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair")  # of its forty: those that can be seen in 32 pixels
CELEBA_BOX = (25, 57, 153, 185)  # the face in an aligned picture of 178x218: left, top, right, bottom
LFW_BOX = (62, 62, 188, 188)  # likewise in one of 250x250
CELEBA_TEST, CELEBA_VALIDATION = 182_638, 162_771  # the official parts begin with these pictures
MOST_CELEBA = 20_000  # pictures to learn from; more would not change a network of this size


@dataclass(frozen=True)
class Faces:
    """Pictures (N, channels, size, size) uint8, and what is known of each, (N, attributes) float in -1..1."""

    images: Tensor
    wishes: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class FaceData:
    """Faces to learn from, to choose settings with, and for the last look.

    Attributes:
        name: As `faces` takes it.
        attributes: The names of the wishes' columns; empty where nothing is known of the faces.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for drawn faces.
    """

    train: Faces
    validation: Faces
    test: Faces
    attributes: list[str]
    source: str
    is_real: bool
    name: str


def faces(name: Name = "drawn", size: int = 32, count: int = 6000) -> FaceData:
    """Load a set of faces.

    Args:
        name: "drawn", "olivetti", "lfw" or "celeba"; "auto" takes the largest real one that is on disk, else the drawn ones.
        size: Height and width that every picture gets.
        count: Drawn faces to learn from.

    Raises:
        LessonError: The set is not there, or a file of it is damaged.
    """
    if name == "auto":
        name = next((one for one in PLACES if find(one)), "drawn")
    data = drawn(count, size) if name == "drawn" else READERS[name](_found(name), size)
    mention("data", data.source)
    return data


def find(name: str) -> Path | None:
    """The first of the set's places that exists in a data folder, or None."""
    candidates = (folder / place for folder in paths.data_folders() for place in PLACES[name])
    return next((path for path in candidates if path.exists()), None)


def _found(name: str) -> Path:
    place = find(name)
    if place is None:
        raise LessonError(
            f"{name} is not there: get it from {HOMEPAGES[name]} and put {PLACES[name][0]} into datasets/ or $STUDY_DATA_DIR"
        )
    return place


def drawn(count: int, size: int = 32, held: int = 1000, seed: int = 0) -> FaceData:
    """Draw faces with `utils.datasets.drawn_faces`; `held` each to choose by and to test on."""
    splits = []
    for number, many in enumerate((count, held, held)):
        parameters = draw_parameters(many, 3 * seed + number)
        key = f"{cache.fingerprint([Path(__file__).with_name('drawn_faces.py')])} {many} {size} {seed}"
        images = cache.kept(f"faces-{number}-{size}", key, lambda wanted=parameters: {"images": render(wanted, size).numpy()})
        splits.append(Faces(torch.from_numpy(images["images"]), asked(parameters)))
    told = f"sample: {count:,} + {held:,} + {held:,} faces drawn by the course, {size}x{size} in colour"
    return FaceData(*splits, [attribute.name for attribute in ATTRIBUTES], told, is_real=False, name="drawn")


# ------------------------------------------------------------------------------------------------------------ real sets


def olivetti(place: Path, size: int = 32) -> FaceData:
    """AT&T's faces of 40 people, ten pictures each: seven to learn from, one to choose by, two to test on.

    The same people are in all three: with four people in a test set nothing could be said about the others. So a test face is
    often near to a training face, and copying is hard to tell: what is measured is strict.
    """
    try:
        if place.suffix == ".mat":
            from scipy.io import loadmat

            pixels = loadmat(place)["faces"].T.reshape(-1, 64, 64).transpose(0, 2, 1)  # written by columns
        else:
            pixels = np.load(place, allow_pickle=False)
    except OSError as error:
        raise LessonError(explain(error) if error.errno else _told(place, "it cannot be read")) from None
    except Exception:  # scipy and NumPy raise nearly anything for a damaged file
        raise LessonError(_told(place, "it cannot be read")) from None
    if pixels.ndim != 3 or pixels.shape[1:] != (64, 64) or len(pixels) % 10 or len(pixels) < 100:
        raise LessonError(_told(place, f"expected (400, 64, 64) pixels, found {pixels.shape}"))
    if pixels.dtype.kind == "f":
        pixels = pixels * 255  # scikit-learn keeps them in 0..1
    images = torch.from_numpy(np.ascontiguousarray(pixels)).float().unsqueeze(1)
    images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True).round().clamp(0, 255).byte()
    number = torch.arange(len(images)) % 10
    splits = [_without_wishes(images[part]) for part in (number < 7, number == 7, number > 7)]
    counts = " + ".join(f"{len(split):,}" for split in splits)
    told = f"Olivetti ({counts} pictures of the same people, grey, {size}x{size}; own copy), {paths.short(place)}"
    return FaceData(*splits, [], told, is_real=True, name="olivetti")


def lfw(place: Path, size: int = 32) -> FaceData:
    """Labeled Faces in the Wild: every tenth person is held out to choose by, and every other tenth to test on."""
    people = sorted(folder for folder in place.iterdir() if folder.is_dir())
    files: list[list[Path]] = [[], [], []]
    for number, person in enumerate(people):
        files[{8: 1, 9: 2}.get(number % 10, 0)] += sorted(person.glob("*.jpg"))
    splits = [_without_wishes(images) for images in _decoded("lfw", files, size, LFW_BOX, (250, 250))]
    counts = " + ".join(f"{len(split):,}" for split in splits)
    told = f"LFW ({counts} pictures, {len(people):,} people, each in one part; {size}x{size}), {paths.short(place)}"
    return FaceData(*splits, [], told, is_real=True, name="lfw")


def celeba(place: Path, size: int = 32) -> FaceData:
    """CelebA in its official parts, with five attributes: the first 20,000 pictures to learn from, 2,000 for the others."""
    table = place.with_name("list_attr_celeba.txt")
    known = _celeba_attributes(table)
    parts: list[list[Path]] = [[], [], []]
    for name in known:
        number = int(Path(name).stem)
        part = parts[0 if number < CELEBA_VALIDATION else 1 if number < CELEBA_TEST else 2]
        if len(part) < (MOST_CELEBA if part is parts[0] else 2000) and (place / name).exists():
            part.append(place / name)
    splits = []
    for part, images in zip(parts, _decoded("celeba", parts, size, CELEBA_BOX, (178, 218)), strict=True):
        splits.append(Faces(images, torch.tensor([known[file.name] for file in part]).float()))
    counts = " + ".join(f"{len(split):,}" for split in splits)
    told = f"CelebA ({counts} pictures of its official parts, {size}x{size}), {paths.short(place)}"
    return FaceData(*splits, list(CELEBA_ATTRIBUTES), told, is_real=True, name="celeba")


READERS: dict[str, Callable[[Path, int], FaceData]] = {"olivetti": olivetti, "lfw": lfw, "celeba": celeba}


def _celeba_attributes(table: Path) -> dict[str, list[int]]:
    """The chosen attributes, -1 or 1, of every picture: below a line with their number and one with 40 names."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
        names = lines[1].split()
        columns = [names.index(name) + 1 for name in CELEBA_ATTRIBUTES]
    except OSError as error:
        raise LessonError(f"CelebA's attributes cannot be read: {explain(error)}") from None
    except (UnicodeDecodeError, IndexError, ValueError):
        raise LessonError(
            _told(table, "its second line should hold 40 names, among them " + ", ".join(CELEBA_ATTRIBUTES))
        ) from None
    known = {}
    for number, line in enumerate(lines[2:], start=3):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != len(names) + 1 or not Path(cells[0]).stem.isdecimal() or not set(cells[1:]) <= {"-1", "1"}:
            raise LessonError(
                _told(table, f"line {number} is not a picture's name and {len(names)} times 1 or -1; is it cut off?")
            )
        known[Path(cells[0]).name] = [int(cells[column]) for column in columns]
    return known


def _decoded(
    name: str, parts: list[list[Path]], size: int, box: tuple[int, int, int, int], expected: tuple[int, int]
) -> list[Tensor]:
    """Decode three lists of pictures, cutting `box` out of each: (n, 3, size, size) uint8."""
    for part, many, what in zip(parts, (100, 1, 1), ("learn from", "choose by", "test on"), strict=True):
        check(len(part) >= many, f"{name} has {len(part)} pictures to {what}, and at least {many} are needed: is it whole?")

    def decode() -> cache.Arrays:
        return {str(number): np.stack([_face(file, size, box, expected) for file in part]) for number, part in enumerate(parts)}

    arrays = cache.kept(f"{name}-{size}", cache.fingerprint(_flat(parts), size, box), decode)
    return [torch.from_numpy(arrays[str(number)]) for number in range(3)]


def _flat(parts: Iterable[Iterable[Path]]) -> list[Path]:
    return [file for part in parts for file in part]


def _face(file: Path, size: int, box: tuple[int, int, int, int], expected: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    try:
        picture = in_colour(open_picture(file))
    except PictureError as error:
        raise LessonError(f"{error}; the file was left as it is") from None
    except OSError as error:
        raise LessonError(explain(error)) from None
    if picture.size != expected:
        found, wanted = (f"{width}x{height}" for width, height in (picture.size, expected))
        raise LessonError(_told(file, f"it is {found} pixels, and the official ones are {wanted}"))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box)).transpose(2, 0, 1)  # Pillow's is antialiased


def _without_wishes(images: Tensor) -> Faces:
    return Faces(images, torch.zeros(len(images), 0))


def _told(path: Path, what: str) -> str:
    return f"{paths.short(path)} cannot be used: {what}; the file was left as it is"
