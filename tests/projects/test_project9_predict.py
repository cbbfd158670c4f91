"""Project 9 describes a picture of one's own, shows where it looked, and says in one sentence what it cannot read."""

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from projects.captioning_world import SENTENCES, Brightness
from projects.serving import encoded, png_header

from project9_captioning import predict
from project9_captioning.picture import image_from
from project9_captioning.predict import Describer
from utils import paths
from utils.lesson import LessonError
from utils.pictures import PictureError

ABOUT = {"source": "sample: bright and dark", "is_real": False}


@pytest.fixture
def describer(monkeypatch) -> Describer:
    model = Brightness()
    describer = Describer(model, model.vocabulary, ["en", "ko"])
    monkeypatch.setattr(predict, "load_describer", lambda *_: (describer, ABOUT))
    return describer


def bright(size: tuple[int, int] = (90, 60)) -> Image.Image:
    """White but for a dot in the middle."""
    image = Image.new("RGB", size, "white")
    image.putpixel((size[0] // 2, size[1] // 2), (0, 0, 0))
    return image


class TestPicture:
    def test_middle_square_of_any_mode(self):
        wide = Image.new("RGB", (200, 100), "red")
        wide.paste((0, 0, 255), (50, 0, 150, 100))
        wide.paste((0, 255, 0), (90, 40, 110, 60))
        image = image_from(wide, 56)
        assert image.shape == (3, 56, 56) and image.dtype == torch.uint8
        assert image[:, 28, 2].tolist() == [0, 0, 255] and image[:, 28, 28].tolist() == [0, 255, 0]
        for mode in ("L", "RGBA", "P", "CMYK", "1", "I;16"):
            photo = bright().convert("L").convert(mode) if mode != "I;16" else Image.new("I;16", (60, 60), 60000)
            if mode == "I;16":
                photo.putpixel((30, 30), 0)
            assert image_from(photo, 16).shape == (3, 16, 16)

    @pytest.mark.parametrize(("size", "kind"), [((200, 8), "too_small"), ((60, 60), "blank")])
    def test_nothing_to_see(self, size, kind):
        with pytest.raises(PictureError) as error:
            image_from(Image.new("RGB", size, "navy"), 56)
        assert error.value.kind == kind


class TestDescriber:
    def test_words_with_their_particles_and_looks(self, describer):
        image = image_from(bright(), 56)
        english, korean = (describer.describe(image, language) for language in ("en", "ko"))
        assert english.text == SENTENCES["bright"]["en"] and korean.text == SENTENCES["bright"]["ko"]
        assert [word.text for word in english.words] == ["a", "bright,", "plain", "picture"]
        assert [word.text for word in korean.words] == ["밝은", "그림이", "있다"]
        assert all(word.look.shape == (7, 7) and word.look[0, 0] == 1 for word in korean.words)
        assert 0.1 < english.probability < 1
        assert describer.sentences(torch.stack([image, image // 9]), "en") == [SENTENCES[one]["en"] for one in ("bright", "dark")]

    def test_unknown_language_is_one_sentence(self, describer):
        with pytest.raises(LessonError, match="the network writes en and ko, not fr"):
            describer.describe(image_from(bright(), 56), "fr")


class TestCommand:
    def test_describes_and_draws(self, describer, tmp_path, capsys):
        bright().save(tmp_path / "snow.png")
        results = predict.main((tmp_path / "snow.png",), beam=1, device="cpu")
        said = capsys.readouterr().out
        assert SENTENCES["bright"]["en"] in said and SENTENCES["bright"]["ko"] in said and "only ever seen drawn shapes" in said
        assert set(results) == {"1_snow_en_probability", "1_snow_ko_probability"}
        assert plt.imread(paths.outputs("project9_captioning") / "predict_1_snow.png").std() > 0.01

    def test_what_cannot_be_read_comes_after_the_others(self, describer, tmp_path, capsys):
        files = {
            "a.png": encoded(bright())[:90],
            "b.txt": b"no picture",
            "c.png": png_header(90_000, 90_000),
            "d.png": encoded(bright()),
        }
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(LessonError, match="4 of 5 pictures could not be read") as error:
            predict.main(tuple(tmp_path / name for name in (*files, "none.png")), beam=1, device="cpu")
        assert all(name in str(error.value) for name in ("a.png", "b.txt", "c.png", "none.png"))
        assert SENTENCES["bright"]["en"] in capsys.readouterr().out

    def test_wrong_flags_are_one_sentence(self, describer, tmp_path):
        with pytest.raises(LessonError, match="name at least one picture"):
            predict.main(())
        with pytest.raises(LessonError, match="--beam must be above 0"):
            predict.main((tmp_path / "a.png",), beam=0)
