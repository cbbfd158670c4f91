"""Pictures with boxes: what object detection learns from, in the layouts of Pascal VOC and of COCO, and BCCD's blood cells.

data = bccd()
if data is not None:
    data.train.images[0]    # (3, 480, 640) uint8
    data.train.boxes[0]     # (n, 4): x1 y1 x2 y2 in pixels
    data.source             # print it beside every number

train, classes = read_voc(Path("my_boxes"), "train")
test, _ = read_voc(Path("my_boxes"), "test", classes)
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
import torch
from torch import Tensor

from utils import paths
from utils.datasets.boxes import Boxed, DetectionData
from utils.datasets.sources import Source, locate
from utils.lesson import LessonError, check, explain, mention

BCCD_CLASSES = ["RBC", "WBC", "Platelets"]
WHOLE = 364  # pictures in BCCD
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MOST_BYTES = 10_000_000  # of one XML file; a thousand objects take a fiftieth of it
ROUNDING = 1.0  # pixels by which a box may reach out of its picture without anybody being told


class _Annotated(NamedTuple):
    """What is written about one picture.

    Attributes:
        picture: Its file.
        size: Width and height, as somebody wrote them down; None where nobody did.
        names: The class of each object.
        boxes: x1 y1 x2 y2 of each object in pixels, as they stand there: anything can.
        where: The file that says so.
    """

    picture: Path
    size: tuple[int, int] | None
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    where: Path


def bccd(source: Source = "auto", size: int | None = None) -> DetectionData | None:
    """Blood cells under the microscope (BCCD, Shenggan, 2017): 205 + 87 + 72 pictures of 640x480 with 4,886 boxes.

    Red cells (RBC), white cells (WBC) and platelets. Red cells are eleven times as frequent as each of the others, overlap and
    are cut off by the edge, and not all of them are marked. Two boxes are a click without a width and are left out.

    Args:
        source: "auto", "real" or "sample".
        size: What the longer side becomes; None leaves the pictures as they are.

    Returns:
        The pictures in their official splits; None where the set is not there and may be missing: the lesson has its own sample.

    Raises:
        LessonError: A file is damaged or missing, or source="real" and the set is not there.
    """
    place = locate("bccd", source)
    if place is None:
        return None
    splits = [read_voc(place, split, BCCD_CLASSES, size)[0] for split in ("train", "val", "test")]
    counts = [len(split.images) for split in splits]
    boxes = sum(len(labels) for split in splits for labels in split.labels)
    whole = "" if sum(counts) == WHOLE else "a part of "
    resized = f", longer side {size}" if size else ""
    pictures = " + ".join(f"{count:,}" for count in counts)
    told = f"{whole}BCCD ({pictures} pictures{resized}, {boxes:,} boxes; checksum unknown), {paths.short(place)}"
    mention("data", told)
    return DetectionData(*splits, BCCD_CLASSES.copy(), told, is_real=True)


def read_voc(folder: Path, split: str, classes: Sequence[str] | None = None, size: int | None = None) -> tuple[Boxed, list[str]]:
    """Read boxes in the layout of Pascal VOC: ImageSets/Main/<split>.txt, Annotations/<id>.xml, JPEGImages/<id>.jpg.

    VOC counts pixels from 1, and the last one belongs to the box: xmin=1 xmax=640 is all of a picture 640 wide, here 0 to 640. A
    box with xmin = xmax is a click rather than an object one pixel wide, and has no area. Objects marked as difficult are read
    like all others.

    Args:
        folder: Holds the three.
        split: "train", "val", "test" or another list in ImageSets/Main.
        classes: The names, in the order of their labels; None takes those found in this split, sorted. Hand the classes of the
            training split to the others, so that a label means the same in all of them.
        size: What the longer side of each picture becomes, boxes with it; None leaves the pictures as they are.

    Returns:
        (pictures with boxes, classes). A picture is turned as the camera was held (EXIF) and its boxes are taken to be drawn on
        the turned picture, unless the size in the XML file is only that of the picture as stored: then it stays as it is.
        What reaches out of the picture is cut off; boxes of no area are left out; how many were is told at the end of the run.

    Raises:
        LessonError: A file is missing or damaged, a class is unknown, or there is no object at all. No file is changed.
    """
    folder = Path(folder)
    pictures = _pictures_in(folder / "JPEGImages")
    records = [_voc_record(folder, name, pictures) for name in _names_in(folder / "ImageSets" / "Main" / f"{split}.txt")]
    found = sorted({name for record in records for name in record.names})
    classes = found if classes is None else list(classes)
    return _decoded(records, classes, size, folder / "ImageSets" / "Main" / f"{split}.txt"), classes


def read_coco(
    annotations: Path, folder: Path, classes: Sequence[str] | None = None, size: int | None = None
) -> tuple[Boxed, list[str]]:
    """Read boxes in the layout of COCO: one JSON file with images, annotations and categories.

    A box is written as x, y, width, height, and x y are counted from 0. Crowds (iscrowd=1: one box around many objects) are left
    out. The ids of categories may have gaps, labels have none.

    Args:
        annotations: The JSON file, as instances_val2017.json.
        folder: Holds the pictures.
        classes: The names, in the order of their labels; None takes the file's categories, in the order of their ids.
        size: As in `read_voc`.

    Returns:
        As `read_voc`.

    Raises:
        LessonError: As `read_voc`.
    """
    annotations = Path(annotations)
    try:
        with open(annotations, encoding="utf-8-sig") as file:
            content = json.load(file)
    except OSError as error:
        raise _unread(annotations, error) from None
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON
        raise _damaged(annotations, f"it is not JSON ({str(error).splitlines()[0]})") from None
    records, names = _coco_records(content, annotations, Path(folder))
    classes = names if classes is None else list(classes)
    return _decoded(records, classes, size, annotations), classes


# ------------------------------------------------------------------------------------------------------------- Pascal VOC


def _pictures_in(folder: Path) -> dict[str, Path]:
    """Every picture of a folder, by its name without the ending."""
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise _unread(folder, error) from None
    return {file.stem: file for file in files if file.suffix.lower() in PICTURE_ENDINGS and not file.name.startswith(".")}


def _names_in(listing: Path) -> list[str]:
    """The first word of each line: in lists for a single class, 1 or -1 stands behind it."""
    try:
        names = [line.split()[0] for line in listing.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise _unread(listing, error) from None
    except UnicodeDecodeError:
        raise _damaged(listing, "it is not a list of names in UTF-8") from None
    for name in names:
        if Path(name).name != name:
            raise _damaged(listing, f"{name} is not the name of a picture")
    return names


def _voc_record(folder: Path, name: str, pictures: dict[str, Path]) -> _Annotated:
    file = folder / "Annotations" / f"{name}.xml"
    root = _parsed(file)
    if name not in pictures:
        raise LessonError(f"{paths.short(folder / 'JPEGImages' / name)}.jpg is missing; {paths.short(file)} has its boxes")
    names, boxes = [], []
    for number, thing in enumerate(root.findall("object"), start=1):
        label = (thing.findtext("name") or "").strip()
        if not label:
            raise _damaged(file, f"object {number} has no name")
        left, top, right, bottom = (
            _number(thing.findtext(f"bndbox/{key}"), file, f"{key} of object {number}")
            for key in ("xmin", "ymin", "xmax", "ymax")
        )
        first = 1 if left < right and top < bottom else 0  # the number of the first pixel; a click keeps its width of 0
        names.append(label)
        boxes.append((left - first, top - first, right, bottom))
    stated = [root.findtext(f"size/{key}") for key in ("width", "height")]
    width, height = (_number(text, file, "the size") if text else 0 for text in stated)  # some tools write 0, or nothing
    size = (round(width), round(height)) if width > 0 and height > 0 else None
    return _Annotated(pictures[name], size, names, boxes, file)


def _parsed(file: Path) -> Element:
    """Read an XML file whoever wrote it.

    A document type is refused, as no annotation needs one: it is where entities are declared, with which a short file grows to
    fill the memory (the "billion laughs") or asks for other files.
    """

    def refuse(*_) -> None:
        raise _damaged(file, "it declares a document type, which annotations have no use for")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = builder.start, builder.end, builder.data
    try:
        if file.stat().st_size > MOST_BYTES:
            raise _damaged(file, f"it is larger than {MOST_BYTES // 10**6} MB")
        parser.Parse(file.read_bytes(), True)
    except OSError as error:
        raise _unread(file, error) from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter: an encoding that expat does not know
        raise _damaged(file, f"it is not XML ({error})") from None
    root = builder.close()
    if root.tag != "annotation":
        raise _damaged(file, f"it holds <{root.tag}>, not <annotation>")
    return root


def _number(value: object, file: Path, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _damaged(file, f"{what} is {'missing' if value is None else 'not a number'}") from None
    if not math.isfinite(number) or abs(number) > 1e9:
        raise _damaged(file, f"{what} is {number:g}")
    return number


# ------------------------------------------------------------------------------------------------------------------- COCO


def _coco_records(content: object, file: Path, folder: Path) -> tuple[list[_Annotated], list[str]]:
    """What a COCO file says: its pictures, and the names of its classes."""
    images, annotations, categories = (_entries(content, key, file) for key in ("images", "annotations", "categories"))
    names: dict[object, str] = {}
    for number, category in _numbered(categories):
        names[_key(category, "id", file, f"category {number}")] = _text(category, "name", file, f"category {number}")
    records: dict[object, _Annotated] = {}
    for number, image in _numbered(images):
        path = Path(_text(image, "file_name", file, f"image {number}"))
        if path.anchor or ".." in path.parts:
            raise _damaged(file, f"image {number} lies outside the folder of pictures")
        width, height = (_number(image.get(key, 0), file, f"{key} of image {number}") for key in ("width", "height"))
        size = (round(width), round(height)) if width > 0 and height > 0 else None
        key = _key(image, "id", file, f"image {number}")
        if key in records:
            raise _damaged(file, f"two images have the id {key}")
        records[key] = _Annotated(folder / path, size, [], [], file)
    for number, annotation in _numbered(annotations):
        what = f"annotation {number}"
        image, category = (_key(annotation, key, file, what) for key in ("image_id", "category_id"))
        if image not in records:
            raise _damaged(file, f"{what} belongs to image {image}, which is not in it")
        if category not in names:
            raise _damaged(file, f"{what} has category {category}, which is not in it")
        if annotation.get("iscrowd"):
            continue
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise _damaged(file, f"{what} has no bbox of four numbers")
        x, y, width, height = (_number(value, file, f"bbox of {what}") for value in box)
        records[image].names.append(names[category])
        records[image].boxes.append((x, y, x + width, y + height))
    in_order = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
    return list(records.values()), list(dict.fromkeys(in_order))


def _entries(content: object, key: str, file: Path) -> list[dict]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _damaged(file, f"it has no list of {key}, as COCO's files do")
    return entries


def _numbered(entries: list[dict]) -> Iterator[tuple[int, dict]]:
    return enumerate(entries, start=1)


def _key(entry: dict, name: str, file: Path, what: str) -> int | str:
    if not isinstance(entry.get(name), int | str):
        raise _damaged(file, f"{what} has no {name}")
    return entry[name]


def _text(entry: dict, name: str, file: Path, what: str) -> str:
    if not isinstance(entry.get(name), str) or not entry[name].strip():
        raise _damaged(file, f"{what} has no {name}")
    return entry[name].strip()


# ------------------------------------------------------------------------------------------------ from files to tensors


def _decoded(records: list[_Annotated], classes: list[str], size: int | None, where: Path) -> Boxed:
    """Decode all pictures and bring their boxes into them."""
    check(size is None or size >= 1, f"the longer side of a picture cannot become {size} pixels")
    if not records:
        raise _damaged(where, "there is no picture in it")
    for record in records:
        unknown = [name for name in record.names if name not in classes]
        if unknown:
            raise _damaged(record.where, f"class {unknown[0]} is none of {', '.join(classes)}")
    if not any(record.names for record in records):
        raise _damaged(where, "no picture in it has an object")
    split = Boxed([], [], [])
    cut = left_out = 0
    for record in records:
        image, scale = _pixels(record, size)
        height, width = image.shape[1:]
        boxes = torch.tensor(record.boxes, dtype=torch.float64).reshape(-1, 4)
        inside, reaches_out, has_area = _placed(boxes, scale, width, height)
        cut += int((reaches_out & has_area).sum())
        left_out += int((~has_area).sum())
        labels = torch.tensor([classes.index(name) for name in record.names], dtype=torch.int64)
        split.images.append(image)
        split.boxes.append(inside[has_area])
        split.labels.append(labels[has_area])
    if not any(len(labels) for labels in split.labels):
        raise _damaged(where, "no box in it has an area inside its picture")
    if cut or left_out:
        mention("data", f"{paths.short(where)}: boxes cut at the picture's edge: {cut:,}, left out as without area: {left_out:,}")
    return split


def _placed(boxes: Tensor, scale: tuple[float, float], width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes as somebody drew them, in a resized picture.

    Args:
        boxes: (n, 4) float64, in pixels of the picture on which they were drawn.
        scale: By which it was multiplied, in x and y.
        width, height: Of the resized picture.

    Returns:
        The boxes (n, 4) float32, inside the picture; which reached out of it, (n,) bool; which have an area in it, (n,) bool.
    """
    factors = torch.tensor([*scale, *scale], dtype=torch.float64)
    limits = torch.tensor([width, height, width, height], dtype=torch.float64)
    inside = (boxes * factors).clamp(min=torch.zeros(4, dtype=torch.float64), max=limits)
    reaches_out = ((boxes - inside / factors).abs() > ROUNDING).any(dim=1)
    inside = inside.float()
    return inside, reaches_out, (inside[:, 2:] > inside[:, :2]).all(dim=1)


def _pixels(record: _Annotated, size: int | None) -> tuple[Tensor, tuple[float, float]]:
    """The picture as its boxes were drawn on it, resized: (3, height, width) uint8, and the factors in x and y."""
    from PIL import Image

    from utils.pictures import in_colour, open_picture

    try:
        picture = open_picture(record.picture)
    except FileNotFoundError:
        message = f"{paths.short(record.picture)} is missing; {paths.short(record.where)} has its boxes"
        raise LessonError(message) from None
    except OSError as error:
        raise _unread(record.picture, error) from None
    picture = in_colour(_turned(picture, record))
    drawn = picture.size
    if size is not None:
        factor = size / max(drawn)
        resized = tuple(max(1, round(side * factor)) for side in drawn)
        picture = picture.resize(resized, Image.Resampling.BILINEAR)  # Pillow's is antialiased
    scale = picture.width / drawn[0], picture.height / drawn[1]
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous(), scale


def _turned(picture, record: _Annotated):
    """The picture as the camera was held, or as it was stored where the annotation has only that size."""
    from PIL import ImageOps

    try:
        turned = ImageOps.exif_transpose(picture)
    except Exception:  # a damaged note of the camera: Pillow raises nearly anything; the pixels are whole
        turned = picture
    for candidate in (turned, picture):
        if record.size in (None, candidate.size):
            return candidate
    stated, found = (f"{width}x{height}" for width, height in (record.size, picture.size))
    raise _damaged(record.where, f"it says that {record.picture.name} is {stated} pixels, but it is {found}")


def _unread(path: Path, error: OSError) -> LessonError:
    if isinstance(error, FileNotFoundError):
        return LessonError(f"{paths.short(path)} is missing")
    return LessonError(explain(error))


def _damaged(path: Path, what: str) -> LessonError:
    return LessonError(f"{paths.short(path)} cannot be used: {what}; the file was left as it is")
