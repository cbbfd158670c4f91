"""Project 1 reads a person's own picture: whatever its form, it comes out as MNIST's pictures look."""

import io
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from projects.serving import encoded, png_header
from torch import Tensor

from project1_mnist import predict
from project1_mnist.data import mean_and_std, training_batches
from project1_mnist.model import Net
from project1_mnist.picture import digit_from
from study.processes import child_environment
from utils import datasets, paths
from utils.checkpoint import save_model
from utils.lesson import LessonError
from utils.pictures import PictureError, open_picture
from utils.training import classification_loss, fit

LINES = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]  # a 7, as shares of the picture's sides


def seven(size=(280, 280), width=20, ink=0, paper=255, area=(0.0, 0.0, 1.0, 1.0)) -> Image.Image:
    """Draw a 7 with PIL, in `area` (left, top, right, bottom, as shares) of the picture."""
    image = Image.new("L", size, paper)
    left, top, right, bottom = area
    points = [((left + x * (right - left)) * size[0], (top + y * (bottom - top)) * size[1]) for x, y in LINES]
    ImageDraw.Draw(image).line(points, fill=ink, width=width, joint="curve")
    return image


def photo(digit: np.ndarray, seed: int) -> Image.Image:
    """What a phone makes of ink (height, width) in 0..1: a yellowish sheet in uneven light, noise, JPEG."""
    generator = np.random.default_rng(seed)
    height, width = digit.shape
    y, x = np.mgrid[0:height, 0:width]
    angle = generator.uniform(0, 2 * np.pi)
    light = 0.65 + 0.45 * ((x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle))
    grey = light * (1 - 0.6 * digit) + generator.normal(0, 0.03, digit.shape)
    colours = np.stack([grey, 0.97 * grey, 0.9 * grey], axis=-1)
    file = io.BytesIO()
    Image.fromarray((colours.clip(0, 1) * 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return Image.open(file)


def on_layer(ink: Image.Image, brightness: int) -> Image.Image:
    """A drawing on a transparent layer: everywhere the same brightness, the shape in the alpha channel."""
    image = Image.new("RGBA", ink.size, (brightness, brightness, brightness, 0))
    image.putalpha(ink)
    return image


class TestPicture:
    def test_comes_out_in_mnists_form(self):
        pixels = digit_from(seven(size=(500, 300), area=(0.1, 0.5, 0.3, 0.9)))
        assert pixels.shape == (1, 1, 28, 28)
        assert (pixels.dtype, pixels.min().item()) == (torch.float32, 0)
        assert pixels.max().item() > 0.95
        rows, columns = (pixels[0, 0].amax(dim=d).nonzero().flatten() for d in (1, 0))
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == pytest.approx(20, abs=1)
        weight = pixels[0, 0] / pixels.sum()
        for d in (0, 1):  # the centre of mass is in the middle
            assert (weight.sum(dim=d) * (torch.arange(28) + 0.5)).sum().item() == pytest.approx(14, abs=0.51)

    def test_aspect_ratio_stays(self):
        bar = Image.new("L", (300, 300), 255)
        bar.paste(0, (100, 50, 140, 250))  # 40 x 200
        pixels = digit_from(bar)[0, 0]
        assert (pixels > 0.5).any(dim=1).sum() == 20
        assert (pixels > 0.5).any(dim=0).sum() == 4

    @pytest.mark.parametrize(
        "image",
        [
            pytest.param(seven(ink=255, paper=0), id="white on black"),
            pytest.param(seven(ink=90, paper=160), id="little contrast"),
            pytest.param(seven(size=(28, 28), width=2), id="small"),
            pytest.param(seven(size=(3000, 3000), width=210), id="large"),
            pytest.param(seven(size=(800, 800), width=10, area=(0.0, 0.7, 0.25, 0.95)), id="in a corner"),
            pytest.param(seven(width=3), id="thin"),
            pytest.param(seven(width=34), id="thick"),
            pytest.param(seven().convert("1"), id="1 bit"),
            pytest.param(seven().convert("P"), id="palette"),
            pytest.param(seven().convert("CMYK"), id="CMYK"),
            pytest.param(Image.fromarray(np.asarray(seven()).astype(np.uint16) * 200 + 5000), id="16 bit"),
            pytest.param(on_layer(seven(ink=255, paper=0), 0), id="black ink on nothing"),
            pytest.param(on_layer(seven(ink=255, paper=0), 255), id="white ink on nothing"),
            pytest.param(photo(1 - np.asarray(seven((600, 600), 42)) / 255.0, seed=1), id="photo"),
        ],
    )
    def test_every_form_comes_out_alike(self, image):
        expected, pixels = digit_from(seven()), digit_from(image)
        similarity = torch.cosine_similarity(expected.flatten(), pixels.flatten(), dim=0).item()
        assert similarity > 0.8  # a 1 has 0.5

    def test_turned_by_its_exif(self):
        turned = seven().rotate(90, expand=True)
        exif = Image.Exif()
        exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
        file = io.BytesIO()
        turned.save(file, "JPEG", exif=exif, quality=95)
        torch.testing.assert_close(digit_from(open_picture(file.getvalue())), digit_from(seven()), atol=0.2, rtol=0)

    def test_note_with_round_corners_keeps_its_paper(self):
        note = seven().convert("RGB")
        mask = Image.new("L", note.size, 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, 279, 279), radius=60, fill=255)
        note.putalpha(mask)
        torch.testing.assert_close(digit_from(note), digit_from(seven()), atol=0.2, rtol=0)

    def test_dust_and_the_edge_of_the_sheet_do_not_count(self):
        dusty = seven()
        draw = ImageDraw.Draw(dusty)
        draw.ellipse((20, 240, 24, 244), fill=0)
        draw.rectangle((270, 60, 279, 279), fill=60)
        torch.testing.assert_close(digit_from(dusty), digit_from(seven()), atol=0.2, rtol=0)

    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 2), (2000, 2)])
    def test_tiny_pictures_are_told_to_be_blank(self, size):
        with pytest.raises(PictureError, match="blank"):
            digit_from(Image.new("L", size, 200))

    def test_empty_paper_is_blank(self):
        noise = np.random.default_rng(0).normal(0, 0.05, (300, 400))
        sheet = (np.linspace(0.5, 0.9, 400) + noise).clip(0, 1) * 255
        for image in (Image.fromarray(sheet.astype(np.uint8)), Image.new("RGBA", (50, 50), (0, 0, 0, 0))):
            with pytest.raises(PictureError) as caught:
                digit_from(image)
            assert caught.value.kind == "blank"


class TestOpening:
    @pytest.mark.parametrize(
        ("what", "kind"),
        [
            (b"", "unreadable"),
            (b"<!doctype html><p>Not found", "unreadable"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable"),  # Pillow would start Ghostscript
            (encoded(seven())[:500], "damaged"),
            (encoded(seven(), "JPEG")[:2000], "damaged"),
            (png_header(10_000, 10_000), "too_large"),
            (png_header(100_000, 100_000), "too_large"),
        ],
        ids=["empty", "web page", "EPS", "half a PNG", "half a JPEG", "100 megapixels", "10,000 megapixels"],
    )
    def test_says_what_is_wrong(self, what, kind):
        with pytest.raises(PictureError) as caught:
            digit_from(open_picture(what))
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)

    def test_hundred_megapixels_are_refused_by_the_header(self):
        claims = png_header(10_000, 10_000)
        tracemalloc.start()
        started = time.perf_counter()
        with pytest.raises(PictureError, match="50 megapixels"):
            open_picture(claims)
        seconds, (_, most) = time.perf_counter() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seconds < 1
        assert most < 1_000_000


@pytest.fixture(scope="module")
def network() -> Net:
    """A small network's first lesson: a few epochs of the sample."""
    torch.manual_seed(0)
    data = datasets.mnist("sample")
    model = Net(*mean_and_std(data.train.images))
    batches = training_batches(data.train, batch_size=64, device=torch.device("cpu"), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, batches, optimizer, classification_loss, epochs=4)
    return model.eval()


@pytest.fixture
def saved(network):
    """The network where `predict` looks for it."""
    path = paths.models("project1_mnist") / "model.pt"
    save_model(path, network, classes=[str(digit) for digit in range(10)], source="sample: digits", accuracy=0.95)
    return path


@torch.no_grad()
def accuracy(network: Net, pixels: Tensor, labels: Tensor) -> float:
    return (network(pixels).argmax(dim=1) == labels).float().mean().item()


class TestAccuracyOnPictures:
    """Held-out digits of the sample, made into pictures that people have, are read as well as the digits themselves."""

    @pytest.mark.parametrize("form", ["black on white", "off-centre", "layer", "photo"])
    def test_form(self, network, form):
        test = datasets.mnist("sample").test[:40]

        def picture(digit: Tensor, seed: int) -> Image.Image:
            ink = Image.fromarray(digit.numpy()).resize((220, 220), Image.Resampling.BICUBIC)
            sheet = Image.new("L", (420, 340), 0)
            sheet.paste(ink, (10, 5) if form == "off-centre" else (100, 60))
            if form == "layer":
                return on_layer(sheet, 255)
            if form == "photo":
                return photo(np.asarray(sheet) / 255.0, seed)
            return Image.fromarray(255 - np.asarray(sheet))

        pixels = torch.cat([digit_from(picture(digit[0], seed)) for seed, digit in enumerate(test.images)])
        plain = accuracy(network, test.images.float() / 255, test.labels)
        assert plain > 0.85
        assert accuracy(network, pixels, test.labels) > plain - 0.1


class TestCommand:
    def test_reads_each_picture_and_draws_it(self, network, saved, tmp_path, capsys):
        files = {"1_a seven": tmp_path / "a seven.png", "2_숫자": tmp_path / "숫자.jpg"}
        seven().save(files["1_a seven"])
        photo(1 - np.asarray(seven()) / 255.0, seed=0).convert("RGB").save(files["2_숫자"])
        results = predict.main(tuple(files.values()), device="cpu")
        said = capsys.readouterr().out
        for name, file in files.items():
            with torch.no_grad():
                probabilities = network(digit_from(open_picture(file))).softmax(dim=1)[0]
            (first, _), (best, runner_up) = (top.tolist() for top in probabilities.topk(2))
            assert (results[f"{name}_digit"], results[f"{name}_runner_up"]) == (best, runner_up)
            assert results[f"{name}_probability"] == pytest.approx(first, abs=1e-5)
            assert f"{file}: {best} ({first:.1%})" in said
        written = sorted(path.name for path in paths.outputs("project1_mnist").iterdir())
        assert written == ["predict_1_a seven.png", "predict_2_숫자.png"]

    def test_the_others_go_on_when_one_fails(self, saved, tmp_path, capsys):
        good, bad, missing = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "missing.png"
        seven().save(good)
        bad.write_bytes(b"hello")
        with pytest.raises(LessonError) as caught:
            predict.main((missing, bad, good), device="cpu")
        assert "good.png: " in capsys.readouterr().out
        assert "2 of 3 pictures" in str(caught.value)
        assert f"{bad} is not a picture" in str(caught.value)
        assert str(missing) in str(caught.value)
        assert bad.read_bytes() == b"hello"

    def test_says_to_train_first(self, tmp_path):
        with pytest.raises(LessonError, match="python -m study run mnist"):
            predict.main((tmp_path / "a.png",), device="cpu")

    def test_says_to_name_a_picture(self):
        with pytest.raises(LessonError, match="at least one picture"):
            predict.main((), device="cpu")

    @pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGB", "I;16"])
    def test_draws_every_kind_of_picture(self, mode):
        image = seven() if mode != "I;16" else Image.fromarray(np.asarray(seven()).astype(np.uint16) * 257)
        shown = predict.for_display(image if mode == "I;16" else image.convert(mode))
        assert shown.shape[:2] == (280, 280)

    def test_from_the_command_line(self, saved, tmp_path):
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"hello")
        command = [sys.executable, predict.__file__, str(bad), "--device", "cpu"]
        process = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=child_environment(paths.ROOT))
        assert process.returncode == 1
        assert f"error: {bad} is not a picture" in process.stderr
        assert "Traceback" not in process.stderr
