"""Project 2's page: the API and its limits, and a real browser."""

import re

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from projects.serving import (
    asked_from_elsewhere,
    check_both_languages_say_the_same,
    check_only_this_computers_names,
    check_refused,
    check_takes_nothing_from_elsewhere,
    encoded,
    png_header,
    serving,
    unserved,
    until_held,
    visits,
)
from torch import Tensor, nn

from project2_cifar10 import app as page
from project2_cifar10 import predict
from project2_cifar10.picture import image_from
from utils import datasets, paths
from utils.datasets import ImageData, Images
from utils.lesson import LessonError

CLASSES = ["automobile", "frog", "airplane", "ship"]
COLOURS = [(230, 40, 30), (40, 200, 60), (40, 80, 230), (230, 230, 230)]
ABOUT = {"classes": CLASSES, "source": "sample: four colours; not CIFAR-10", "accuracy": 0.9, "temperature": 0.25}


class Colours(nn.Module):
    """Takes red for an automobile, green for a frog, blue for an airplane, and has no opinion on ships."""

    def __init__(self):
        super().__init__()
        self.last_maps = nn.Conv2d(3, 4, 1, bias=False)
        nn.init.eye_(self.last_maps.weight.data.view(4, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.last_maps(pixels).mean(dim=(2, 3))


def picture(colour: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A disc of one of the COLOURS, right of the middle, on grey."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    disc = (x - 0.6 * size[0]) ** 2 + (y - 0.5 * size[1]) ** 2 < (0.25 * min(size)) ** 2
    return Image.fromarray(np.where(disc[..., None], COLOURS[colour], 60).astype(np.uint8))


@pytest.fixture(scope="module")
def data() -> ImageData:
    """The data set that the page takes its examples from."""
    images = torch.stack([image_from(picture(colour)) for colour in (0, 1, 2, 3, 0)])
    some = Images(images, torch.tensor([0, 1, 2, 3, 0]))
    return ImageData(some, some, CLASSES, ABOUT["source"], is_real=False)


@pytest.fixture(scope="module")
def address(data):
    """A real server on a free port of this computer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "cifar10", lambda *_: data)
        with serving(page.create_app(Colours().eval(), ABOUT)) as address:
            yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


class TestAnswers:
    @pytest.mark.parametrize("colour", [0, 1, 2])
    def test_says_what_the_network_says(self, client, colour):
        answer = client.post("/predict", content=encoded(picture(colour))).json()
        image = image_from(picture(colour))
        probabilities, heat = predict.answer(Colours(), image, ABOUT["temperature"])
        assert answer["probabilities"] == pytest.approx(probabilities.tolist(), abs=1e-5)
        assert probabilities.argmax() == colour
        assert answer["undecided_between"] == pytest.approx(predict.undecided_between(probabilities), abs=1e-4)
        assert torch.equal(torch.tensor(answer["pixels"]).permute(2, 0, 1), image.long())
        assert torch.equal(torch.tensor(answer["heat"]), heat.mul(255).round().long())
        assert answer["heat"][colour][16][19] > 230 and answer["heat"][colour][2][2] < 80  # on the disc, and beside it

    def test_health_says_what_it_was_trained_on(self, client):
        assert client.get("/health").json() == {"status": "ok", **{n: ABOUT[n] for n in ("classes", "source", "accuracy")}}

    def test_examples_are_test_images_one_of_each_class(self, client, data):
        examples = client.get("/examples").json()
        assert [example["class"] for example in examples] == [0, 1, 2, 3]
        assert torch.equal(torch.tensor(examples[1]["pixels"]).permute(2, 0, 1), data.test.images[1].long())
        sent = encoded(Image.fromarray(np.array(examples[1]["pixels"], dtype=np.uint8)))
        assert client.post("/predict", content=sent).json()["pixels"] == examples[1]["pixels"]  # 32x32 stays as it is

    def test_no_examples_of_what_it_was_not_trained_on(self, data, monkeypatch):
        asked = []

        def load(source):
            asked.append(source)
            return ImageData(data.train, data.test, CLASSES, "", is_real=source == "auto")

        monkeypatch.setattr(datasets, "cifar10", load)
        real = {**ABOUT, "source": "CIFAR-10, official files"}
        assert len(page.pick_examples(ABOUT)) == len(page.pick_examples(real)) == 4
        assert asked == ["sample", "auto"]  # neither may download
        assert page.pick_examples({**ABOUT, "classes": ["cat"]}) == []
        monkeypatch.setattr(datasets, "cifar10", lambda _: data)  # the real pictures are gone: "auto" gives the sample
        assert page.pick_examples(real) == []

        def damaged(_):
            raise LessonError("truncated")

        monkeypatch.setattr(datasets, "cifar10", damaged)
        assert page.pick_examples(real) == []

    def test_page_takes_nothing_from_elsewhere(self, client):
        check_takes_nothing_from_elsewhere(client.get("/"))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=30)
        text = page.PAGE.read_text(encoding="utf-8")
        for classes in (datasets.pictures.CIFAR10_CLASSES, datasets.picture_book.CLASSES):
            assert all(re.search(rf"\b{name}: \"[가-힣]+\"", text) for name in classes)


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b"Dear Sir or Madam", 415, "unreadable"),
            (encoded(picture(0))[:150], 422, "damaged"),
            (encoded(picture(0, (400, 300)), "JPEG")[:2000], 422, "damaged"),
            (png_header(10_000, 10_000), 413, "too_large"),
            (png_header(100_000, 100_000), 413, "too_large"),
            (encoded(Image.new("RGB", (90, 90), (9, 9, 9))), 422, "blank"),
            (encoded(picture(0, (3, 200))), 422, "too_small"),
            (b"x" * (page.MOST_BYTES + 1), 413, "too_large"),
        ],
        ids=["empty", "text", "half a PNG", "half a JPEG", "100 megapixels", "bomb", "one colour", "a sliver", "too many bytes"],
    )
    def test_one_sentence_for_each(self, client, body, status, kind):
        response = client.post("/predict", content=body)
        check_refused(response, status, kind)
        assert client.post("/predict", content=encoded(picture(1))).status_code == 200  # and it goes on

    def test_only_this_computers_names(self, client):
        check_only_this_computers_names(client)

    def test_command_puts_it_together(self, monkeypatch, capsys):
        monkeypatch.setattr(page, "load_network", lambda *_: (Colours(), ABOUT))
        app, said = unserved(monkeypatch, page.main, device="cpu"), capsys.readouterr().out
        assert ABOUT["source"] in said and "90.00%" in said
        assert asked_from_elsewhere(app).status_code == 200  # open to the network: any name is its name

    def test_command_says_to_train_first(self):
        assert not (paths.models("project2_cifar10") / "model.pt").exists()
        with pytest.raises(LessonError, match="python -m study run cifar10"):
            page.main(device="cpu", port=0)


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture
def opened(browser, address):
    """Open the page as one reader sees it; whatever the browser complains about, but for refused pictures, fails the test."""
    with visits(browser, address, ready="#thumbnails button", refused="status of 4(13|15|22)") as open_page:
        yield open_page


def wait_for(tab, name: str) -> None:
    tab.wait_for_selector(f"#best:text-is('{name}')")


def drop(tab, *contents: bytes) -> None:
    """Drop files onto the page."""
    tab.evaluate(
        """(contents) => {
            const transfer = new DataTransfer();
            contents.forEach((bytes, i) => transfer.items.add(new File([new Uint8Array(bytes)], `${i}.png`)));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        [list(each) for each in contents],
    )


class TestBrowser:
    def test_photo_example_and_another_photo(self, opened, client, tmp_path):
        tab = opened()
        picture(1).save(tmp_path / "frog.png")
        tab.set_input_files("#file", tmp_path / "frog.png")
        wait_for(tab, "frog")
        answer = client.post("/predict", content=encoded(picture(1))).json()
        assert tab.locator("#bars .value").all_inner_texts() == [f"{100 * share:.1f}%" for share in answer["probabilities"]]
        seen = tab.evaluate("[...document.querySelector('#seen').getContext('2d').getImageData(0, 0, 32, 32).data]")
        assert np.array(seen).reshape(32, 32, 4)[..., :3].tolist() == answer["pixels"]
        assert tab.inner_text("#where-title") == "What spoke for “frog”"
        row = tab.evaluate("[...document.querySelector('#where').getContext('2d').getImageData(0, 200, 400, 1).data]")
        disc, beside = (sum(row[4 * x : 4 * x + 3]) for x in (250, 20))
        assert disc > 2 * beside  # the heat is bright where the frog's colour is
        tab.click("#bars button >> nth=0")
        assert tab.inner_text("#where-title") == "What spoke for “automobile”"
        tab.click("#thumbnails button >> nth=2")
        wait_for(tab, "airplane")
        assert "It is: airplane." in tab.inner_text("#second")
        drop(tab, encoded(picture(0)))
        wait_for(tab, "automobile")
        assert "It is:" not in tab.inner_text("#second")

    def test_what_cannot_be_used_is_one_sentence(self, opened):
        tab = opened("?lang=ko")
        for contents, said in (
            ([b"Dear Sir"], "사진이 아닙니다"),
            ([b""], "사진이 아닙니다"),
            ([encoded(picture(0))[:150]], "손상"),
            ([png_header(10_000, 10_000)], "너무 큽니다"),
            ([encoded(picture(0)), encoded(picture(1))], "한 장만"),
        ):
            drop(tab, *contents)
            tab.wait_for_selector(f"#problem:has-text('{said}')")
            assert tab.inner_text("#best") == "?"
        drop(tab, encoded(picture(1)))
        wait_for(tab, "개구리")
        assert tab.locator("#problem").is_hidden()

    def test_earlier_answer_does_not_come_over_a_later_one(self, opened):
        tab = opened()
        held = []
        tab.route("**/predict", lambda route: held.append(route))
        for number in (0, 1):
            drop(tab, encoded(picture(number)))
            until_held(tab, held, number + 1)
        held[1].continue_()
        wait_for(tab, "frog")
        held[0].continue_()
        tab.wait_for_timeout(200)
        assert tab.inner_text("#best") == "frog"

    def test_large_photo_is_made_smaller_before_it_is_sent(self, opened, tmp_path):
        noise = np.random.default_rng(0).integers(0, 8, (1500, 2000, 3), dtype=np.uint8)
        image = Image.fromarray(np.asarray(picture(2, (2000, 1500))) + noise)
        image.save(tmp_path / "large.bmp")
        assert (tmp_path / "large.bmp").stat().st_size > page.MOST_BYTES
        tab = opened()
        tab.set_input_files("#file", tmp_path / "large.bmp")
        wait_for(tab, "airplane")

    def test_keyboard_alone(self, opened):
        tab = opened()
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "file"
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")  # the first example
        wait_for(tab, "automobile")
        tab.wait_for_selector("#spoken:has-text('automobile, ')", state="attached")
        for _ in range(5):  # over the other examples to the bars
            tab.keyboard.press("Tab")
        tab.keyboard.press("Space")
        assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    def test_narrow_touch_screen_in_korean_and_the_dark(self, opened):
        settings = {"viewport": {"width": 360, "height": 700}, "has_touch": True, "color_scheme": "dark"}
        tab = opened("?lang=ko", **settings)
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
        assert (tab.title(), tab.locator("html").get_attribute("lang")) == ("사진을 보여 주세요", "ko")
        assert tab.locator("#camera-button").is_visible()
        assert tab.get_attribute("#camera", "capture") == "environment"
        assert tab.locator("#sample").is_visible()
        tab.tap("#thumbnails button >> nth=1")
        wait_for(tab, "개구리")
        assert tab.evaluate("document.querySelector('#best').getBoundingClientRect().top < innerHeight")
        assert all(re.search("[가-힣]", text) for text in tab.locator("[data-text]").all_text_contents())
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
