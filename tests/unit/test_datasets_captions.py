"""utils.datasets.captions: Flickr8k's layout is read, what is wrong with it is one sentence, and no file is changed."""

import conftest
import numpy as np
import pytest
from PIL import Image

from utils.datasets.captions import flickr8k, read_flickr8k
from utils.lesson import LessonError

LISTS = {"train": ["a.jpg", "b.jpg"], "dev": ["c.jpg"], "test": ["d.jpg"]}


@pytest.fixture
def folder(tmp_path):
    """A set in Flickr8k's layout: four photographs with two captions each."""
    place = tmp_path / "Flickr8k"
    (place / "Flicker8k_Dataset").mkdir(parents=True)
    lines = []
    for number, name in enumerate("abcd"):
        wide = np.zeros((40, 60, 3), np.uint8)
        wide[:, 10:50] = (50 * number + 20, 90, 30)  # the square in the middle
        Image.fromarray(wide).save(place / "Flicker8k_Dataset" / f"{name}.jpg", quality=95)
        lines += [f"{name}.jpg#0\tA {name} runs .", f"{name}.jpg#1\tThe {name} is running ."]
    lines.append("2258277193_586949ec62.jpg.1#0\tsome people waiting .")  # a slip of the official file
    (place / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for split, names in LISTS.items():
        (place / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return place


class TestReading:
    def test_splits_captions_and_middle_squares(self, folder):
        before = conftest.everything_in(folder)
        data = read_flickr8k(folder, size=20)
        assert [len(split.images) for split in data[:3]] == [2, 1, 1] and data.is_real
        assert data.train.images.shape == (2, 3, 20, 20)
        assert data.train.captions == [["A a runs .", "The a is running ."], ["A b runs .", "The b is running ."]]
        assert (data.test.images[0].float().mean(dim=(1, 2)) - data.test.images.new_tensor([170, 90, 30])).abs().max() < 8
        assert "2 + 1 + 1 pictures" in data.source and data.source.startswith("a part of Flickr8k")
        assert conftest.everything_in(folder) == before

    def test_is_found_in_a_data_folder(self, without_data, folder, monkeypatch):
        assert flickr8k("auto") is None and flickr8k("sample") is None
        with pytest.raises(LessonError, match="Flickr8k is not there: unpack its two zips"):
            flickr8k("real")
        monkeypatch.setenv("STUDY_DATA_DIR", str(folder.parent))
        assert len(flickr8k("auto", size=16).train.images) == 2 and flickr8k("sample") is None

    def test_texts_and_pictures_unpacked_side_by_side(self, folder):
        texts = folder.parent / "texts"
        texts.mkdir()
        for file in folder.glob("*.txt"):
            file.rename(texts / file.name)
        folder.joinpath("Flicker8k_Dataset").rename(folder.parent / "Flicker8k_Dataset")
        assert len(read_flickr8k(texts, size=16).train.captions) == 2

    def test_windows_line_ends_and_a_mark_of_utf8(self, folder):
        file = folder / "Flickr8k.token.txt"
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
        assert read_flickr8k(folder, size=16).train.captions[0][0] == "A a runs ."


class TestDamage:
    @pytest.mark.parametrize(
        ("file", "content", "told"),
        [
            ("Flickr8k.token.txt", None, "Flickr8k.token.txt is missing: unpack Flickr8k_text.zip"),
            ("Flickr8k.token.txt", b"", "has no captions"),
            ("Flickr8k.token.txt", b"\xff\xfe\x00\x01", "it is not text in UTF-8"),
            ("Flickr8k.token.txt", b"a.jpg#0 no tab", "line 1: expected `picture.jpg#0`, a tab and a caption"),
            ("Flickr8k.token.txt", b"a.jpg#0\tOne .\nb.jpg#0\t.\nc.jpg#0\tTwo", "has no caption of b.jpg and 1 more pictures"),
            ("Flickr_8k.devImages.txt", None, "Flickr_8k.devImages.txt is missing"),
            ("Flickr_8k.testImages.txt", b"\n\n", "Flickr_8k.testImages.txt names no pictures"),
            ("Flickr_8k.devImages.txt", b"a.jpg\n", "a.jpg is a picture of both train and validation"),
            ("Flickr_8k.devImages.txt", b"../secret.jpg\n", "is not the name of a picture"),
            ("Flickr_8k.devImages.txt", b"c.txt\n", "is not the name of a picture"),
            ("Flicker8k_Dataset/c.jpg", None, "lacks c.jpg: unpack Flickr8k_Dataset.zip again"),
            ("Flicker8k_Dataset/c.jpg", b"", "c.jpg cannot be read"),
            ("Flicker8k_Dataset/c.jpg", b"\xff\xd8\xff\xe0half", "c.jpg cannot be read"),
        ],
    )
    def test_one_sentence_for_each(self, folder, file, content, told):
        if content is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(content)
        before = conftest.everything_in(folder)
        with pytest.raises(LessonError, match=told) as error:
            read_flickr8k(folder, size=16)
        assert "\n" not in str(error.value) and conftest.everything_in(folder) == before

    def test_no_pictures_at_all(self, folder):
        folder.joinpath("Flicker8k_Dataset").rename(folder / "elsewhere")
        with pytest.raises(LessonError, match="Flicker8k_Dataset is missing: unpack Flickr8k_Dataset.zip"):
            read_flickr8k(folder, size=16)
