"""style_pictures: the right pictures under their names, drawn ones with a style of their own, damage is one sentence."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from utils import catalogue, lesson
from utils.datasets import drawn_styles, styles
from utils.datasets.styles import style_pictures
from utils.lesson import LessonError

SHAPES = {"amber": (80, 80), "mosaic": (60, 90), "udnie": (90, 60)}  # height, width


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever asks the network fails the test."""

    def refuse(name):
        raise LessonError(f"{name}: the network was asked")

    monkeypatch.setattr(catalogue, "fetch", refuse)


@pytest.fixture
def place(without_data):
    """Three files, each of one grey."""
    folder = without_data / "style_transfer"
    folder.mkdir()
    for i, (name, (height, width)) in enumerate(SHAPES.items()):
        buffer = io.BytesIO()
        Image.new("RGB", (width, height), (50 * i, 50 * i, 50 * i)).save(buffer, "JPEG")
        (folder / f"{name}.jpg").write_bytes(buffer.getvalue())
    return folder


class TestReal:
    def test_names_and_pixels(self, place, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        data = style_pictures("real", size=500)
        assert list(data.content) == ["amber"] and list(data.styles) == ["mosaic", "udnie"] and data.is_real
        for i, (name, shape) in enumerate(SHAPES.items()):
            picture = {**data.content, **data.styles}[name]
            assert picture.dtype == torch.uint8 and picture.shape == (3, *shape)  # never enlarged
            assert (picture.float() - 50 * i).abs().max() <= 1
        assert data.source == ("content amber, styles mosaic and udnie, datasets/style_transfer; shorter side at most 500 pixels")
        assert lesson._mentioned["data"] == [data.source]

    def test_size_is_of_the_shorter_side(self, place):
        data = style_pictures("auto", size=20)
        assert data.content["amber"].shape == (3, 20, 20)
        assert data.styles["mosaic"].shape == (3, 20, 30) and data.styles["udnie"].shape == (3, 30, 20)

    def test_real_is_real(self, without_data):
        with pytest.raises(LessonError):
            style_pictures("real")

    @pytest.mark.parametrize("name", SHAPES)
    def test_missing(self, place, fails, name):
        (place / f"{name}.jpg").unlink()
        fails(style_pictures, f"{name}.jpg is missing")

    @pytest.mark.parametrize("name", SHAPES)
    def test_cut_off(self, place, fails, name):
        whole = (place / f"{name}.jpg").read_bytes()
        for content in (b"", b"<html></html>", whole[:30], whole[: len(whole) // 2], whole[:-60]):
            (place / f"{name}.jpg").write_bytes(content)
            fails(style_pictures, f"{name}.jpg is damaged: it is", "study data style_pictures")

    def test_size_of_nothing(self, place, fails):
        fails(lambda source: style_pictures(source, size=0), "cannot have 0 pixels")

    @pytest.mark.real_data("style_pictures")
    def test_files(self):
        data = style_pictures("real", size=128)
        assert data.content["amber"].shape == (3, 128, 128) and data.styles["udnie"].shape == (3, 128, 128)
        assert data.styles["mosaic"].shape == (3, 128, 154)


class TestSample:
    def test_photographs_in_drawn_styles(self, without_data):
        data = style_pictures()
        assert list(data.content) == ["china", "flower"] and list(data.styles) == ["mosaic", "brush strokes"]
        assert all(picture.shape == (3, 256, 384) for picture in data.content.values())
        assert all(picture.shape == (3, 256, 256) and picture.dtype == torch.uint8 for picture in data.styles.values())
        assert not data.is_real and data.source == (
            "sample: content china and flower (scikit-learn's photographs), styles mosaic and brush strokes "
            "(drawn by the course); shorter side at most 256 pixels"
        )

    def test_sample_even_if_the_files_are_there(self, place):
        assert not style_pictures("sample").is_real

    def test_drawn_once(self, without_data, monkeypatch):
        first = style_pictures("sample", size=64)
        monkeypatch.setattr(styles, "DRAWN", {})
        assert torch.equal(style_pictures("sample", size=64).styles["mosaic"], first.styles["mosaic"])

    def test_caller_may_write_into_them(self, without_data):
        style_pictures("sample").styles["mosaic"].zero_()
        assert style_pictures("sample").styles["mosaic"].float().mean() > 50


class TestDrawings:
    @pytest.fixture
    def drawn(self) -> dict[str, np.ndarray]:
        styles = style_pictures("sample", size=512).styles
        return {name: picture.permute(1, 2, 0).numpy() for name, picture in styles.items()}

    def test_the_same_in_every_run(self, drawn):
        assert drawn["mosaic"].shape == (512, 512, 3)
        assert (drawn_styles.mosaic() == drawn["mosaic"]).all()

    def test_tiles_fill_the_picture_and_grout_parts_them(self, drawn):
        tiles, regions = drawn_styles._laid(np.random.default_rng(0))
        assert len(tiles) == len(regions) > 1500 and set(regions) == {0, 1, 2}
        dark = (drawn["mosaic"].max(axis=2) < 90).reshape(8, 64, 8, 64).mean(axis=(1, 3))  # the share in each of 64 squares
        assert (dark > 0.05).all() and (dark < 0.8).all()

    def test_strokes_follow_the_flow(self, drawn):
        """Along the flow the painting changes less than across it."""
        picture = drawn["brush strokes"].astype(float).mean(axis=2)
        down, right = np.gradient(picture)
        x, y = drawn_styles._flow(drawn_styles._grid()).T.reshape(2, 512, 512)
        along, across = abs(right * x + down * y), abs(right * y - down * x)
        assert across.mean() > 1.5 * along.mean()

    def test_colours_between_those_of_a_palette(self):
        colours = drawn_styles._mixed(["000000", "ff0080"], np.array([-1, 0, 0.5, 1, 7]))
        assert colours.tolist() == [[0, 0, 0], [0, 0, 0], [127.5, 0, 64], [255, 0, 128], [255, 0, 128]]
