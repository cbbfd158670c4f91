"""Project 2 looks at a person's own photo: whatever its form, it comes out as the training images look."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from project2_cifar10 import predict
from project2_cifar10.model import make_model
from project2_cifar10.picture import image_from, middle_square
from utils import paths
from utils.batches import to_pixels
from utils.checkpoint import save_model
from utils.evaluation import grad_cam
from utils.lesson import LessonError
from utils.pictures import PictureError, open_picture

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ABOUT = {"name": "small", "classes": CLASSES, "source": "CIFAR-10, own copy", "accuracy": 0.82, "seed": 0, "temperature": 0.1}


def photo(size: tuple[int, int] = (320, 320)) -> Image.Image:
    """Red above, blue below, and a white square to the left of the middle."""
    width, height = size
    picture = Image.new("RGB", size, (200, 30, 30))
    picture.paste((20, 40, 180), (0, height // 2, width, height))
    side = min(size)
    left = (width - side) // 2 + side // 10
    picture.paste((250, 250, 250), (left, height // 2 - side // 10, left + side // 5, height // 2 + side // 10))
    return picture


def difference(one: Tensor, other: Tensor) -> float:
    return (one.float() - other.float()).abs().mean().item()


class TestPicture:
    def test_comes_out_as_32x32(self):
        image = image_from(photo())
        assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
        assert image[:, 2, 16].tolist() == [200, 30, 30] and image[:, 30, 16].tolist() == [20, 40, 180]
        assert image[:, 16, 6].tolist() == [250, 250, 250]

    def test_training_image_stays_as_it_is(self):
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        assert image_from(Image.fromarray(pixels)).permute(1, 2, 0).numpy().tolist() == pixels.tolist()

    @pytest.mark.parametrize("size", [(500, 320), (320, 700), (321, 320)])
    def test_middle_square_of_other_shapes(self, size):
        picture = Image.new("RGB", size, (0, 255, 0))
        side = min(size)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        picture.paste(photo((side, side)), (left, top))
        assert middle_square(picture).size == (side, side)
        assert difference(image_from(picture), image_from(photo((side, side)))) == 0

    @pytest.mark.parametrize("size", [(3000, 3000), (200, 200), (33, 33), (16, 16)])
    def test_any_size_looks_alike(self, size):
        assert difference(image_from(photo(size)), image_from(photo())) < 8

    def test_averages_where_it_makes_smaller(self):
        """Of a fine chequered pattern every hundredth pixel would be black or white; the mean is grey."""
        fine = np.indices((640, 640)).sum(axis=0) % 2 * 255
        fine[:, :320] = 0
        image = image_from(Image.fromarray(fine.astype(np.uint8)))
        assert image[:, :, 20:].float().sub(127.5).abs().max() < 3

    @pytest.mark.parametrize(
        ("picture", "expected"),
        [
            pytest.param(photo().convert("RGBA"), photo(), id="RGBA"),
            pytest.param(photo().convert("P", palette=Image.Palette.ADAPTIVE), photo(), id="palette"),
            pytest.param(photo().convert("CMYK"), photo(), id="CMYK"),
            pytest.param(photo().convert("YCbCr"), photo(), id="YCbCr"),
            pytest.param(photo().convert("L"), photo().convert("L").convert("RGB"), id="grey"),
            pytest.param(photo().convert("LA"), photo().convert("L").convert("RGB"), id="grey with alpha"),
            pytest.param(
                Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257),
                photo().convert("L").convert("RGB"),
                id="16 bit",
            ),
            pytest.param(
                Image.fromarray(np.asarray(photo().convert("L")).astype(np.int32) * 257),
                photo().convert("L").convert("RGB"),
                id="32 bit",
            ),
        ],
    )
    def test_every_mode(self, picture, expected):
        assert difference(image_from(picture), image_from(expected)) < 3

    def test_transparent_part_becomes_grey(self):
        layer = photo().convert("RGBA")
        alpha = Image.new("L", layer.size, 255)
        alpha.paste(0, (0, 0, 320, 100))
        layer.putalpha(alpha)
        image = image_from(layer)
        assert image[:, 2, 2].tolist() == [128, 128, 128] and image[:, 30, 16].tolist() == [20, 40, 180]

    def test_palette_with_a_transparent_colour(self):
        picture = photo().convert("P", palette=Image.Palette.ADAPTIVE)
        picture.info["transparency"] = picture.getpixel((5, 5))
        assert image_from(picture)[:, 2, 2].tolist() == [128, 128, 128]

    def test_turned_by_its_exif(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
        file = io.BytesIO()
        photo((400, 320)).rotate(90, expand=True).save(file, "JPEG", exif=exif, quality=95)
        assert difference(image_from(open_picture(file.getvalue())), image_from(photo((400, 320)))) < 4

    @pytest.mark.parametrize(
        ("picture", "kind"),
        [
            (Image.new("RGB", (200, 100), (10, 200, 30)), "blank"),
            (Image.new("RGBA", (200, 100), (10, 200, 30, 0)), "blank"),
            (photo((7, 300)), "too_small"),
            (Image.new("L", (1, 1)), "too_small"),
        ],
        ids=["one colour", "transparent", "seven pixels wide", "one pixel"],
    )
    def test_says_what_is_wrong(self, picture, kind):
        with pytest.raises(PictureError) as caught:
            image_from(picture)
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return make_model("small").eval()


@pytest.fixture
def saved(network):
    path = paths.models("project2_cifar10") / "model.pt"
    save_model(path, network, **ABOUT)
    return path


class TestAnswer:
    def test_probabilities_and_a_heat_for_every_class(self, network):
        image = image_from(photo())
        probabilities, heat = predict.answer(network, image, temperature=0.1)
        pixels = to_pixels(image.unsqueeze(0))
        with torch.no_grad():
            torch.testing.assert_close(probabilities, (network(pixels)[0] / 0.1).softmax(dim=0))
        assert heat.shape == (10, 32, 32)
        for one in (0, 7):
            torch.testing.assert_close(heat[one], grad_cam(network, network.last_maps, pixels, torch.tensor([one]))[0])

    @pytest.mark.parametrize(("shares", "expected"), [([1.0, 0, 0, 0], 1), ([0.25] * 4, 4), ([0.5, 0.5, 0, 0], 2)])
    def test_undecided_between(self, shares, expected):
        assert predict.undecided_between(torch.tensor(shares)) == pytest.approx(expected)

    def test_words_say_when_it_is_unsure(self):
        sure = predict.in_words(torch.tensor([0.9, 0.06, 0.03, 0.01]), ["a", "b", "c", "d"])
        assert sure.startswith("a 90.0%, b 6.0%, c 3.0%; as undecided as between 1.5") and "unsure" not in sure
        unsure = predict.in_words(torch.tensor([0.3, 0.3, 0.2, 0.2]), ["a", "b", "c", "d"])
        assert "unsure, as undecided as between 3.9" in unsure and "none of them" in unsure
        assert predict.in_words(torch.tensor([0.8, 0.2]), ["a", "b"]).startswith("a 80.0%, b 20.0%;")


class TestCommand:
    def test_looks_at_each_photo_and_draws_it(self, network, saved, tmp_path, capsys):
        files = {"1_my photo": tmp_path / "my photo.png", "2_사진": tmp_path / "사진.jpg"}
        photo((500, 320)).save(files["1_my photo"])
        photo().save(files["2_사진"])
        results = predict.main(tuple(files.values()), device="cpu")
        said = capsys.readouterr().out
        for name, file in files.items():
            probabilities, _ = predict.answer(network, image_from(open_picture(file)), ABOUT["temperature"])
            best = probabilities.argmax().item()
            assert results[f"{name}_class"] == best
            assert results[f"{name}_probability"] == pytest.approx(probabilities[best].item(), abs=1e-5)
            assert f"{file}: {CLASSES[best]} {probabilities[best]:.1%}, " in said
            assert plt.imread(paths.outputs("project2_cifar10") / f"predict_{name}.png").std() > 0.05
        assert "no answer for “none of these”" in said

    def test_the_others_go_on_when_some_fail(self, saved, tmp_path, capsys):
        wrong = {"text.png": b"Dear Sir", "empty.jpg": b"", "half.png": b"", "plain.png": b""}
        files = [tmp_path / name for name in (*wrong, "missing.png", "good.png")]
        for name, content in wrong.items():
            (tmp_path / name).write_bytes(content)
        photo().save(tmp_path / "good.png")
        (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:400])
        Image.new("RGB", (50, 50)).save(tmp_path / "plain.png")
        with pytest.raises(LessonError) as caught:
            predict.main(tuple(files), device="cpu")
        first, *lines = str(caught.value).splitlines()
        assert first == "5 of 6 pictures could not be read:"
        assert all(name in line for name, line in zip((*wrong, "missing.png"), lines, strict=True))
        assert "good.png: " in capsys.readouterr().out

    def test_says_what_to_do_first(self, tmp_path):
        with pytest.raises(LessonError, match="at least one picture"):
            predict.main((), device="cpu")
        with pytest.raises(LessonError, match="python -m study run cifar10"):
            predict.main((tmp_path / "a.png",), device="cpu")
