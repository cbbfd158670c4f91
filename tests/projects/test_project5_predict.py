"""Project 5 looks at files and folders: whatever their form, boxes come out in the picture as one sees it."""

import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image
from projects.detection_world import known_finder, picture_of, untrained_file
from projects.serving import encoded, png_header

from project5_realtime_detection import predict
from utils import paths, plotting
from utils.average_precision import Found
from utils.lesson import LessonError
from utils.pictures import PictureError, open_picture

RED, BLUE = (20, 12, 100, 60), (120, 40, 180, 100)
SCENE = Image.fromarray(picture_of(("red", RED), ("blue", BLUE), height=120, width=200).permute(1, 2, 0).numpy())


def seen(content: bytes) -> torch.Tensor:
    """What the finder gets of a file."""
    return predict.as_tensor(predict.picture_from(open_picture(content)))


def turned(orientation: int, operation: Image.Transpose) -> bytes:
    """A picture that lies on its side in its file, with a note of its camera how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    SCENE.transpose(operation).save(file, "PNG", exif=exif)
    return file.getvalue()


class TestPicture:
    @pytest.mark.parametrize(
        "content",
        [
            encoded(SCENE),
            encoded(SCENE, "BMP"),
            encoded(SCENE.convert("RGBA")),
            encoded(SCENE.convert("P", palette=Image.Palette.ADAPTIVE)),
            turned(3, Image.Transpose.ROTATE_180),
            turned(6, Image.Transpose.ROTATE_90),
            turned(8, Image.Transpose.ROTATE_270),
            turned(2, Image.Transpose.FLIP_LEFT_RIGHT),
        ],
        ids=["PNG", "BMP", "alpha", "palette", "upside down", "on its side", "on its other side", "mirrored"],
    )
    def test_comes_out_the_right_way_up(self, content):
        picture = seen(content)
        assert picture.dtype == torch.uint8 and picture.is_contiguous()
        assert torch.equal(picture, predict.as_tensor(SCENE))

    def test_grey_and_16_bit(self):
        grey = np.arange(120 * 200, dtype=np.uint16).reshape(120, 200) % 256
        expected = torch.from_numpy(grey.astype(np.uint8)).expand(3, -1, -1)
        for picture in (Image.fromarray(grey.astype(np.uint8)), Image.fromarray(grey * 257)):
            assert torch.equal(seen(encoded(picture)), expected)

    def test_transparent_parts_are_white(self):
        picture = SCENE.convert("RGBA")
        picture.paste((0, 0, 0, 0), (0, 0, 200, 10))
        assert (seen(encoded(picture))[:, :10] == 255).all()

    @pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7)])
    def test_nothing_to_see(self, size):
        with pytest.raises(PictureError, match="nothing to see"):
            seen(encoded(Image.new("RGB", size)))

    def test_sliver_is_looked_at(self):
        assert len(known_finder().find(seen(encoded(Image.new("RGB", (8, 4000), (230, 20, 20))))).scores) == 1


class TestDrawing:
    def test_box_and_name_are_drawn(self):
        found = known_finder(200).find(predict.as_tensor(SCENE))
        drawn = predict.draw(SCENE, found, ["red", "blue"])
        assert drawn.size == SCENE.size and SCENE.getpixel((20, 30)) == (230, 20, 20)  # drawn into a copy
        colours = [tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5)) for colour in predict.COLOURS[:2]]
        for (x1, y1, x2, y2), colour in zip((RED, BLUE), colours, strict=True):
            edge = [drawn.getpixel(place) for place in ((x1, (y1 + y2) // 2), ((x1 + x2) // 2, y2), (x2, (y1 + y2) // 2))]
            assert edge == [colour] * 3
            assert drawn.getpixel(((x1 + x2) // 2, (y1 + y2) // 2)) == SCENE.getpixel(((x1 + x2) // 2, (y1 + y2) // 2))

    def test_boxes_at_the_very_edge_and_names_that_need_another_font(self):
        boxes = torch.tensor([[0.0, 0, 200, 120], [195, 0, 200, 5], [0, 118, 3, 120]])
        found = Found(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 11]))
        classes = [f"이름 {number}" for number in range(12)]  # more than there are colours
        assert np.asarray(predict.draw(SCENE, found, classes)).std() > 0
        assert predict.draw(SCENE, Found(boxes[:0], boxes[:0, 0], boxes[:0, 0].long()), classes).tobytes() == SCENE.tobytes()

    def test_korean_names_in_latin_letters_where_no_font_has_hangul(self, monkeypatch):
        found = known_finder(200).find(predict.as_tensor(SCENE))
        monkeypatch.setattr("utils.plotting.korean_font", lambda: None)
        in_korean, in_latin = (predict.draw(SCENE, found, names) for names in (["빨강", "cup"], ["ppalgang", "cup"]))
        assert in_korean.tobytes() == in_latin.tobytes()

    def test_korean_names_in_a_font_that_has_hangul(self):
        if plotting.korean_font() is None:
            pytest.skip(f"none of these fonts is installed: {', '.join(plotting.KOREAN_FONTS)}")
        font, names = predict.font_and_names(["빨강", "cup"], 20)
        assert names == ["빨강", "cup"]
        assert bytes(font.getmask("빨")) != bytes(font.getmask("강"))  # where a font lacks a letter, it draws the same box

    def test_large_picture_is_drawn_smaller(self):
        found = known_finder(200).find(predict.as_tensor(SCENE))
        large = SCENE.resize((4000, 2400))
        drawn = predict.draw(large, Found(found.boxes * 20, found.scores, found.labels), ["red", "blue"])
        assert drawn.size == (1600, 960) and drawn.getpixel((160, 300)) == (0x3F, 0x90, 0xDA)


@pytest.fixture
def known(monkeypatch):
    """The finder that knows red and blue, in place of a trained network."""
    monkeypatch.setattr(predict, "load_finder", lambda *_: known_finder(200))


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one in a folder of its own, and things that are none."""
    folder = tmp_path / "my pictures"
    (folder / "more").mkdir(parents=True)
    SCENE.save(folder / "one.png")
    SCENE.save(folder / "more" / "ONE.BMP")
    Image.new("RGB", (50, 50)).save(folder / "more" / "사진.webp")
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    (folder / "._one.png").write_bytes(b"what macOS keeps beside a file")
    return folder


def table() -> list[dict]:
    with open(paths.outputs("project5_realtime_detection") / "found.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestCommand:
    def test_whole_folder(self, known, folder, capsys):
        results = predict.main((folder,))
        assert (results["pictures"], results["objects"]) == (3, 4) and results["milliseconds_per_picture"] > 0
        rows = table()
        assert [(row["picture"], row["class"], row["score"]) for row in rows] == [
            (str(folder / name), thing, score)
            for name in ("more/ONE.BMP", "one.png")
            for thing, score in (("red", "0.9000"), ("blue", "0.6000"))
        ]
        for row, truth in zip(rows, (RED, BLUE) * 2, strict=True):
            assert [float(row[edge]) for edge in ("x1", "y1", "x2", "y2")] == pytest.approx(truth, abs=1)
        said = capsys.readouterr().out
        assert f"{folder / 'one.png'}: 2 found: red 90%, blue 60%" in said and "사진.webp: nothing found" in said
        assert "It knows red, blue, and nothing else." in said
        drawn = {file.name for file in (paths.outputs("project5_realtime_detection") / "found").iterdir()}
        assert drawn == {"ONE.png", "one_2.png", "사진.png"}

    def test_threshold_leaves_out(self, known, folder):
        assert predict.main((folder / "one.png",), threshold=0.7)["objects"] == 1
        assert [row["class"] for row in table()] == ["red"]

    def test_one_bad_file_does_not_stop_the_others(self, known, folder, tmp_path, capsys):
        wrong = {
            "1 text.png": b"Dear Sir",
            "2 empty.jpg": b"",
            "3 half.png": encoded(SCENE)[:200],
            "4 huge.png": png_header(10_000, 10_000),
        }
        wrong["5 tiny.png"] = encoded(Image.new("RGB", (2, 2)))
        for name, content in wrong.items():
            (folder / name).write_bytes(content)
        with pytest.raises(LessonError) as caught:
            predict.main((folder, tmp_path / "missing.png"))
        first, *lines = str(caught.value).splitlines()
        assert first == "6 of 9 pictures could not be read:"
        assert all(name in line for name, line in zip((*wrong, "missing.png"), lines, strict=True))
        assert len(table()) == 4 and "one.png: 2 found" in capsys.readouterr().out

    def test_a_network_from_its_file(self, folder):
        untrained_file(paths.models("project5_realtime_detection") / "model.pt")
        assert predict.main((folder,), threshold=0, device="cpu")["objects"] > 0
        assert {row["class"] for row in table()} <= {"red", "blue"}

    def test_says_what_is_wrong(self, known, tmp_path):
        with pytest.raises(LessonError, match="at least one picture"):
            predict.main(())
        with pytest.raises(LessonError, match="no picture in the folder"):
            predict.main((tmp_path,))
        with pytest.raises(LessonError, match="--threshold 30"):
            predict.main((tmp_path / "a.png",), threshold=30)
        with pytest.raises(LessonError, match="--overlap -1"):
            predict.main((tmp_path / "a.png",), overlap=-1)

    def test_says_what_to_do_first(self, folder):
        with pytest.raises(LessonError, match="python -m study run"):
            predict.main((folder / "one.png",), device="cpu")
