"""utils.datasets.detection: VOC and COCO say the same, boxes stay on their objects, damage is one sentence."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import everything_in
from PIL import Image

from utils import lesson
from utils.datasets import bccd, read_coco, read_voc
from utils.datasets.boxes import Boxed
from utils.lesson import LessonError

WIDTH, HEIGHT = 80, 60
CELLS = {  # x1 y1 x2 y2, counted from 0, of what is drawn
    "a": [("RBC", (10, 20, 30, 50)), ("WBC", (40, 0, 80, 25))],
    "b": [("Platelets", (5, 5, 9, 10))],
    "c": [],
    "d": [("RBC", (0, 0, 80, 60))],
    "e": [("WBC", (20, 30, 60, 60))],
}
SPLITS = {"train": ["a", "b", "c"], "val": ["d"], "test": ["e"]}


def drawn(cells) -> np.ndarray:
    """White boxes on black: (HEIGHT, WIDTH, 3) uint8."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for _, (x1, y1, x2, y2) in cells:
        pixels[y1:y2, x1:x2] = 255
    return pixels


def encoded(picture, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def turned_by_exif(orientation: int) -> dict:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


def xml(cells, size=(WIDTH, HEIGHT)) -> str:
    """As labelImg writes it: pixels counted from 1, the last one belongs to the box."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in cells
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>\n{stated}{objects}</annotation>\n"


def put_voc(folder: Path) -> Path:
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name, cells in CELLS.items():
        (folder / f"JPEGImages/{name}.png").write_bytes(encoded(drawn(cells)))
        (folder / f"Annotations/{name}.xml").write_text(xml(cells), encoding="utf-8")
    for split, names in SPLITS.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def coco(names=tuple(CELLS)) -> dict:
    ids = {"RBC": 3, "Platelets": 90, "WBC": 11}  # with gaps, in no order
    images = [{"id": 100 + i, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names)]
    annotations = [
        {"id": 1, "image_id": 100 + i, "category_id": ids[label], "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for i, name in enumerate(names)
        for label, (x1, y1, x2, y2) in CELLS[name]
    ]
    categories = [{"id": key, "name": name} for name, key in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def voc(without_data) -> Path:
    return put_voc(without_data / "BCCD")


@pytest.fixture
def put_coco(voc):
    """Write a COCO file beside the VOC files, after a change: put_coco(change) returns its path."""

    def put(change=None) -> Path:
        content = coco()
        if change is not None:
            change(content)
        file = voc / "instances.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        return file

    return put


@pytest.fixture
def told(monkeypatch) -> dict[str, list[str]]:
    """What the report of a run would say."""
    mentioned: dict[str, list[str]] = {}
    monkeypatch.setattr(lesson, "_mentioned", mentioned)
    return mentioned


def refused(folder: Path, read, *words: str) -> None:
    """Reading gives one sentence with these words, and no file has changed."""
    before = everything_in(folder)
    with pytest.raises(LessonError) as error:
        read()
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert everything_in(folder) == before


def assert_sound(split: Boxed) -> None:
    assert len(split.images) == len(split.boxes) == len(split.labels) > 0
    for image, boxes, labels in zip(*split, strict=True):
        assert (image.dtype, image.ndim, image.shape[0]) == (torch.uint8, 3, 3) and image.is_contiguous()
        assert (boxes.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert boxes.shape == (len(labels), 4)
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= image.shape[2]) & (y1 >= 0) & (y1 < y2) & (y2 <= image.shape[1])).all()


def one(voc: Path, picture: bytes | None = None, annotation: str | None = None, size: int | None = None):
    """(image, boxes, labels) of picture d, after it was changed; the classes are BCCD's."""
    if picture is not None:
        (voc / "JPEGImages/d.png").write_bytes(picture)  # PIL looks at what is inside, not at the ending
    if annotation is not None:
        (voc / "Annotations/d.xml").write_text(annotation, encoding="utf-8")
    split, _ = read_voc(voc, "val", ["RBC", "WBC", "Platelets"], size)
    assert_sound(split)
    return split.images[0], split.boxes[0], split.labels[0]


class TestLayouts:
    def test_voc(self, voc):
        split, classes = read_voc(voc, "train")
        assert_sound(split)
        assert classes == ["Platelets", "RBC", "WBC"]
        assert [labels.tolist() for labels in split.labels] == [[1, 2], [0], []]
        assert [boxes.tolist() for boxes in split.boxes] == [[list(box) for _, box in CELLS[name]] for name in "abc"]
        assert split.boxes[2].shape == (0, 4)  # a picture without an object is an example, too
        for image, name in zip(split.images, "abc", strict=True):
            assert (image.permute(1, 2, 0).numpy() == drawn(CELLS[name])).all()

    def test_classes_of_another_split(self, voc):
        classes = ["WBC", "RBC", "Platelets"]
        split, same = read_voc(voc, "val", classes)
        assert same == classes and same is not classes and split.labels[0].tolist() == [1]

    def test_coco_says_the_same(self, voc, put_coco):
        split, classes = read_coco(put_coco(), voc / "JPEGImages")
        assert classes == ["RBC", "WBC", "Platelets"]  # in the order of their ids
        expected = [read_voc(voc, part, classes)[0] for part in ("train", "val", "test")]
        for found, parts in zip(split, zip(*expected, strict=True), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, [x for part in parts for x in part], strict=True))

    def test_crowds_are_left_out(self, voc, put_coco):
        split, _ = read_coco(put_coco(lambda content: content["annotations"][0].update(iscrowd=1)), voc / "JPEGImages")
        assert split.labels[0].tolist() == [1]

    def test_lists_for_one_class(self, voc):
        (voc / "ImageSets/Main/RBC_val.txt").write_text("a  1\nd -1\n\n", encoding="utf-8")
        assert len(read_voc(voc, "RBC_val")[0].images) == 2

    @pytest.mark.parametrize("stated", [None, (0, 0)])
    def test_size_that_nobody_wrote_down(self, voc, stated):
        assert one(voc, annotation=xml(CELLS["d"], stated))[1].tolist() == [[0, 0, 80, 60]]


class TestResizing:
    @pytest.mark.parametrize("size", [40, 33, 160])
    def test_boxes_stay_on_their_objects(self, voc, size):
        split, _ = read_voc(voc, "train", size=size)
        assert_sound(split)
        for image, boxes in zip(split.images[:2], split.boxes[:2], strict=True):
            assert image.shape == (3, round(size * HEIGHT / WIDTH), size)
            seen = (image[0] > 127).nonzero().float()  # (pixels, 2): y and x
            union = torch.cat([boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)])
            edges = torch.cat([seen.amin(dim=0).flip(0), seen.amax(dim=0).flip(0) + 1])
            assert (edges - union).abs().max() <= 1

    def test_no_size_is_no_picture(self, voc):
        refused(voc, lambda: read_voc(voc, "val", size=0), "cannot become 0 pixels")

    def test_very_long_picture(self, voc):
        strip = encoded(np.full((2, 900, 3), 7, np.uint8))
        image, boxes, _ = one(voc, strip, xml([("RBC", (0, 0, 900, 2))], None), size=30)
        assert image.shape == (3, 1, 30) and boxes.tolist() == [[0, 0, 30, 1]]


class TestBoxesThatDoNotFit:
    def test_reach_out_of_the_picture(self, voc, told):
        cells = [("RBC", (-20, 10, 30, 90)), ("WBC", (5, 5, 10, 10))]
        assert one(voc, annotation=xml(cells))[1].tolist() == [[0, 10, 30, 60], [5, 5, 10, 10]]
        assert told["data"] == [
            "datasets/BCCD/ImageSets/Main/val.txt: boxes cut at the picture's edge: 1, left out as without area: 0"
        ]

    def test_tools_that_count_from_0(self, voc, told):
        """They write 0 where labelImg writes 1: a pixel too far to the left is nothing to tell."""
        assert one(voc, annotation=xml([("RBC", (-1, -1, 30, 20))]))[1].tolist() == [[0, 0, 30, 20]]
        assert not told

    @pytest.mark.parametrize(
        "box",
        [
            (9, 9, 10, 10),  # written as xmin = xmax: a click
            (9, 5, 10, 20),
            (30, 10, 20, 40),  # right is left of left
            (100, 10, 120, 40),  # beside the picture
            (-20, -20, -5, -5),
        ],
    )
    def test_no_area(self, voc, told, box):
        _, boxes, labels = one(voc, annotation=xml([("WBC", box), ("RBC", (1, 1, 5, 5))]))
        assert boxes.tolist() == [[1, 1, 5, 5]] and labels.tolist() == [0]
        assert told["data"][0].endswith("edge: 0, left out as without area: 1")

    def test_coco_counts_from_0(self, voc, put_coco, told):
        def change(content):
            content["annotations"][0]["bbox"] = [-5, 0, 10, 10]
            content["annotations"][1]["bbox"] = [3, 3, 0, 4]

        split, _ = read_coco(put_coco(change), voc / "JPEGImages")
        assert split.boxes[0].tolist() == [[0, 0, 5, 10]]
        assert told["data"][0].endswith("edge: 1, left out as without area: 1")

    def test_none_with_an_area(self, voc):
        (voc / "Annotations/d.xml").write_text(xml([("RBC", (9, 9, 10, 10))]), encoding="utf-8")
        refused(voc, lambda: read_voc(voc, "val"), "val.txt", "no box in it has an area inside its picture")


class TestKindsOfPictures:
    @pytest.mark.parametrize("kind", ["grey", "grey 16 bit", "alpha", "grey alpha", "palette", "CMYK", "GIF"])
    def test_become_three_channels_of_8_bits(self, voc, kind):
        shape = (WIDTH, HEIGHT)
        picture = {
            "grey": Image.new("L", shape, 128),
            "grey 16 bit": Image.fromarray(np.full((HEIGHT, WIDTH), 128 * 257, np.uint16)),
            "alpha": Image.new("RGBA", shape, (0, 0, 0, 127)),  # half black on white
            "grey alpha": Image.new("LA", shape, (0, 127)),
            "palette": Image.new("RGB", shape, (128, 128, 128)).convert("P", palette=Image.Palette.ADAPTIVE),
            "CMYK": Image.new("CMYK", shape, (127, 127, 127, 0)),
            "GIF": Image.new("L", shape, 128),
        }[kind]
        image, _, _ = one(voc, encoded(picture, {"CMYK": "JPEG", "GIF": "GIF"}.get(kind, "PNG")))
        assert image.shape == (3, HEIGHT, WIDTH)
        assert (image.int() - 128).abs().max() <= 3

    def turned(self, voc, stated, size=None):
        """A picture that is stored lying on its side, and a box that was drawn on one of the two."""
        box = (10, 20, 30, 50) if stated != (WIDTH, HEIGHT) else (20, 30, 50, 50)
        upright = np.zeros((WIDTH, HEIGHT, 3), np.uint8)  # 60 wide, 80 high
        upright[20:50, 10:30] = 255
        stored = np.rot90(upright)  # 80 wide, 60 high: orientation 6 turns it back, clockwise
        return one(voc, encoded(stored, "JPEG", quality=95, **turned_by_exif(6)), xml([("RBC", box)], stated), size)

    @pytest.mark.parametrize("stated", [(HEIGHT, WIDTH), None, (WIDTH, HEIGHT)])
    def test_boxes_belong_to_the_turned_picture_unless_the_size_says_otherwise(self, voc, stated):
        image, boxes, _ = self.turned(voc, stated)
        assert image.shape == ((3, HEIGHT, WIDTH) if stated == (WIDTH, HEIGHT) else (3, WIDTH, HEIGHT))
        x1, y1, x2, y2 = boxes[0].int().tolist()
        assert image[:, y1:y2, x1:x2].float().mean() > 250
        assert image.float().mean() * image[0].numel() < 1.05 * 255 * (x2 - x1) * (y2 - y1)  # and nothing bright outside

    def test_longer_side_is_that_of_the_turned_picture(self, voc):
        image, boxes, _ = self.turned(voc, None, size=40)
        assert image.shape == (3, 40, 30) and boxes.tolist() == [[5, 10, 15, 25]]

    def test_upside_down(self, voc):
        """Both pictures have the same size: the boxes belong to the turned one."""
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[:30] = 255
        image, _, _ = one(voc, encoded(pixels, "JPEG", **turned_by_exif(3)))
        assert image[:, :25].float().mean() < 5 and image[:, 35:].float().mean() > 250

    def test_damaged_note_of_the_camera(self, voc):
        whole = encoded(drawn(CELLS["d"]), "JPEG", **turned_by_exif(6))
        start = whole.index(b"Exif\x00\x00") + 6
        image, _, _ = one(voc, whole[: start + 2] + b"\xff" * 12 + whole[start + 14 :])
        assert image.shape == (3, HEIGHT, WIDTH)


class TestDamage:
    def val(self, voc, *words):
        refused(voc, lambda: read_voc(voc, "val", ["RBC", "WBC", "Platelets"]), *words)

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("", "is not XML"),
            (xml(CELLS["d"])[:80], "is not XML"),
            ("a picture\n", "is not XML"),
            ("<?xml version='1.0' encoding='klingon'?><annotation/>", "is not XML"),
            ("<?xml version='1.0' encoding='cp949'?><annotation/>", "is not XML"),  # of several bytes: expat knows none
            ("<html><body>404</body></html>", "holds <html>"),
            (xml(CELLS["d"]).replace("<xmax>80</xmax>", ""), "xmax of object 1 is missing"),
            (xml(CELLS["d"]).replace("<xmax>80</xmax>", "<xmax>wide</xmax>"), "xmax of object 1 is not a number"),
            (xml(CELLS["d"]).replace("<xmax>80</xmax>", "<xmax>nan</xmax>"), "xmax of object 1 is nan"),
            (xml(CELLS["d"]).replace("<xmax>80</xmax>", "<xmax>1e300</xmax>"), "xmax of object 1 is 1e+300"),
            (xml(CELLS["d"]).replace("<name>RBC</name>", ""), "object 1 has no name"),
            (xml(CELLS["d"]).replace("RBC", "alien"), "class alien is none of RBC, WBC, Platelets"),
            (xml(CELLS["d"], (640, 480)), "it says that d.png is 640x480 pixels, but it is 80x60"),
        ],
    )
    def test_annotation(self, voc, content, told):
        (voc / "Annotations/d.xml").write_text(content, encoding="utf-8")
        self.val(voc, "Annotations/d.xml", told)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    @pytest.mark.parametrize(
        "declared",
        [
            '<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">',
            '<!ENTITY b SYSTEM "file:///etc/passwd">',
            '<!ENTITY % b SYSTEM "http://localhost/evil.dtd"> %b;',
        ],
    )
    def test_entities_are_not_expanded(self, voc, encoding, declared):
        content = f"<!DOCTYPE annotation [{declared}]>{xml(CELLS['d'])}".replace("RBC", "&b;")
        (voc / "Annotations/d.xml").write_text(content, encoding=encoding)
        self.val(voc, "declares a document type")

    def test_other_encodings(self, voc):
        content = "<?xml version='1.0' encoding='utf-16'?><!-- 세포 -->" + xml(CELLS["d"])
        (voc / "Annotations/d.xml").write_text(content, encoding="utf-16")
        assert read_voc(voc, "val")[0].labels[0].tolist() == [0]

    def test_very_large_file(self, voc):
        (voc / "Annotations/d.xml").write_bytes(b" " * 10_000_001)
        self.val(voc, "larger than 10 MB")

    def test_picture(self, voc):
        noise = encoded(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), "JPEG")
        place = voc / "JPEGImages/d.png"
        for content, told in ((noise[: len(noise) // 2], "cut off"), (b"", "not a picture"), (b"hello", "not a picture")):
            place.write_bytes(content)
            self.val(voc, "d.png", told)
        place.unlink()
        self.val(voc, "JPEGImages/d.jpg is missing", "Annotations/d.xml has its boxes")

    def test_100_megapixels(self, voc):
        """A file of 12 kB whose header says 10,000 x 10,000."""
        (voc / "JPEGImages/d.png").write_bytes(encoded(Image.new("1", (10_000, 10_000))))
        self.val(voc, "more than 50 megapixels")

    @pytest.mark.parametrize("part", ["Annotations/d.xml", "ImageSets/Main/val.txt"])
    def test_missing_file(self, voc, part):
        (voc / part).unlink()
        self.val(voc, f"{part} is missing")

    def test_missing_folder(self, voc):
        (voc / "JPEGImages").rename(voc / "pictures")
        self.val(voc, "JPEGImages is missing")

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"\n", "there is no picture in it"),
            (b"c\n", "no picture in it has an object"),
            (b"../JPEGImages/d\n", "is not the name of a picture"),
            (b"\xff\xfe\x00\xd8", "not a list of names"),
        ],
    )
    def test_list(self, voc, content, told):
        (voc / "ImageSets/Main/val.txt").write_bytes(content)
        self.val(voc, "val.txt", told)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda c: c.pop("images"), "no list of images"),
            (lambda c: c.update(annotations={}), "no list of annotations"),
            (lambda c: c.update(categories=["RBC"]), "no list of categories"),
            (lambda c: c.update(images=[], annotations=[]), "there is no picture in it"),
            (lambda c: c.update(annotations=[]), "no picture in it has an object"),
            (lambda c: c["images"][1].update(id=100), "two images have the id 100"),
            (lambda c: c["images"][1].pop("id"), "image 2 has no id"),
            (lambda c: c["images"][0].update(file_name="../ImageSets/a.png"), "image 1 lies outside"),
            (lambda c: c["images"][0].update(file_name="/etc/passwd"), "image 1 lies outside"),
            (lambda c: c["images"][0].update(file_name="z.png"), "z.png is missing"),
            (lambda c: c["images"][0].update(width=640), "it says that a.png is 640x60 pixels, but it is 80x60"),
            (lambda c: c["annotations"][1].update(image_id=5), "annotation 2 belongs to image 5"),
            (lambda c: c["annotations"][1].update(category_id=5), "annotation 2 has category 5"),
            (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), "annotation 2 has no bbox of four numbers"),
            (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, float("nan")]), "bbox of annotation 2 is nan"),
            (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, None]), "bbox of annotation 2 is missing"),
        ],
    )
    def test_coco(self, voc, put_coco, change, told):
        file = put_coco(change)
        refused(voc, lambda: read_coco(file, voc / "JPEGImages"), told)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"[" * 200_000])
    def test_not_json(self, voc, content):
        (voc / "instances.json").write_bytes(content)
        refused(voc, lambda: read_coco(voc / "instances.json", voc / "JPEGImages"), "instances.json")

    def test_no_json(self, voc):
        refused(voc, lambda: read_coco(voc / "instances.json", voc / "JPEGImages"), "instances.json is missing")

    def test_coco_of_other_classes(self, voc, put_coco):
        file = put_coco()
        refused(voc, lambda: read_coco(file, voc / "JPEGImages", ["cat"]), "class RBC is none of cat")


class TestBccd:
    def test_splits(self, voc, told):
        data = bccd("real", size=40)
        assert data.classes == ["RBC", "WBC", "Platelets"] and data.is_real
        assert [len(split.images) for split in (data.train, data.validation, data.test)] == [3, 1, 1]
        assert data.source == ("a part of BCCD (3 + 1 + 1 pictures, longer side 40, 5 boxes; checksum unknown), datasets/BCCD")
        assert told["data"] == [data.source]

    def test_without_the_set(self, without_data):
        assert bccd("auto") is None is bccd("sample")
        refused(without_data, lambda: bccd("real"), "bccd", "BCCD_Dataset")

    def test_damage_is_no_reason_for_the_sample(self, voc, fails):
        (voc / "Annotations/a.xml").write_text("<annotation>", encoding="utf-8")
        fails(bccd, "Annotations/a.xml cannot be used: it is not XML")

    @pytest.mark.real_data("bccd")
    def test_real(self, told):
        data = bccd("real", size=160)
        splits = (data.train, data.validation, data.test)
        assert [len(split.images) for split in splits] == [205, 87, 72]
        for split in splits:
            assert_sound(split)
            assert all(image.shape == (3, 120, 160) for image in split.images)
        labels = torch.cat([labels for split in splits for labels in split.labels])
        assert labels.bincount().tolist() == [4153, 372, 361]  # two of 4,155 red cells have no area
        assert sum(line.endswith("edge: 0, left out as without area: 1") for line in told["data"]) == 2
