"""Project 9's page: the API and its limits, and a real browser."""

import re

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from projects.captioning_world import SENTENCES, Brightness
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
    until,
    visits,
)

from project9_captioning import app as page
from project9_captioning.picture import image_from
from project9_captioning.predict import Describer
from utils import paths
from utils.lesson import LessonError

ABOUT = {"source": "sample: bright and dark", "is_real": False, "exact": 0.9, "cider": 8.5}


def picture(brightness: int, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """Grey but for a red dot."""
    image = Image.new("RGB", size, (brightness,) * 3)
    image.paste((220, 30, 30), (size[0] // 2, size[1] // 2, size[0] // 2 + 5, size[1] // 2 + 5))
    return image


@pytest.fixture(scope="module")
def describer() -> Describer:
    model = Brightness()
    return Describer(model, model.vocabulary, ["en", "ko"])


@pytest.fixture(scope="module")
def address(describer):
    """A real server on a free port of this computer."""
    with serving(page.create_app(describer, ABOUT)) as address:
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


class TestAnswers:
    @pytest.mark.parametrize(("brightness", "name"), [(230, "bright"), (20, "dark")])
    def test_says_what_the_network_says(self, client, brightness, name):
        answer = client.post("/caption", content=encoded(picture(brightness))).json()
        assert {language: one["text"] for language, one in answer["captions"].items()} == SENTENCES[name]
        assert torch.equal(torch.tensor(answer["pixels"]).permute(2, 0, 1), image_from(picture(brightness), 56).long())
        for one in answer["captions"].values():
            assert " ".join(word["text"] for word in one["words"]) == one["text"] and 0 < one["probability"] < 1
            assert all(np.shape(word["look"]) == (7, 7) and word["look"][0][0] == 255 for word in one["words"])

    def test_health_and_examples(self, client, describer):
        assert client.get("/health").json() == {"status": "ok", **ABOUT, "languages": ["en", "ko"]}
        examples = client.get("/examples").json()
        assert np.shape(examples) == (page.EXAMPLES, 56, 56, 3) and np.array(examples).std() > 10
        of_photographs = page.create_app(describer, {**ABOUT, "is_real": True}, only_this_computer=False)
        assert asked_from_elsewhere(of_photographs, path="/examples").json() == []  # those are not ours to show

    def test_page_takes_nothing_from_elsewhere(self, client):
        check_takes_nothing_from_elsewhere(client.get("/"))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=30)


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b"Dear Sir or Madam", 415, "unreadable"),
            (encoded(picture(90))[:90], 422, "damaged"),
            (png_header(10_000, 10_000), 413, "too_large"),
            (encoded(Image.new("RGB", (90, 90), (9, 9, 9))), 422, "blank"),
            (encoded(picture(90, (3, 200))), 422, "too_small"),
            (b"x" * (page.MOST_BYTES + 1), 413, "too_large"),
        ],
        ids=["empty", "text", "half a PNG", "100 megapixels", "one colour", "a sliver", "too many bytes"],
    )
    def test_one_sentence_for_each(self, client, body, status, kind):
        response = client.post("/caption", content=body)
        check_refused(response, status, kind)
        assert client.post("/caption", content=encoded(picture(200))).status_code == 200  # and it goes on

    def test_only_this_computers_names(self, client):
        check_only_this_computers_names(client)

    def test_command_puts_it_together(self, describer, monkeypatch, capsys):
        monkeypatch.setattr(page, "load_describer", lambda *_: (describer, ABOUT))
        app, said = unserved(monkeypatch, page.main, beam=1, device="cpu"), capsys.readouterr().out
        assert ABOUT["source"] in said and "90.0%" in said
        assert asked_from_elsewhere(app).status_code == 200  # open to the network: any name is its name
        with pytest.raises(LessonError, match="--beam must be above 0"):
            page.main(port=0, beam=0, device="cpu")

    def test_command_says_to_train_first(self):
        assert not (paths.models("project9_captioning") / "model.pt").exists()
        with pytest.raises(LessonError, match="python -m study run captioning"):
            page.main(device="cpu", port=0)


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture
def opened(browser, address):
    """Open the page as one reader sees it; whatever the browser complains about, but for refused pictures, fails the test."""
    ours = "status of 4(13|15|22)|willReadFrequently"  # refused pictures; and the tests themselves look at pixels
    with visits(browser, address, ready="#thumbnails button", refused=ours) as open_page:
        yield lambda query="", **settings: open_page(query, **{"reduced_motion": "reduce"} | settings)


def sentences(tab) -> list[str]:
    """What is written, in the order on the page."""
    return [
        " ".join(tab.locator(f".sentence >> nth={i}").locator("button").all_inner_texts())
        for i in range(tab.locator(".sentence").count())
    ]


class TestBrowser:
    def test_shape_is_put_and_described_and_taken_back(self, opened):
        tab = opened()
        tab.check("input[name=colour][value=white]")
        tab.click("#stage", position={"x": 60, "y": 60})
        tab.wait_for_selector(".sentence button")
        assert sentences(tab) == [SENTENCES["dark"]["en"], SENTENCES["dark"]["ko"]]
        pixel = "Array.from(document.querySelector('#stage').getContext('2d').getImageData({0}, {0}, 1, 1).data)"
        box = tab.locator("#stage").bounding_box()
        middle = round(60 * 448 / box["width"])
        assert min(tab.evaluate(pixel.format(middle))[:3]) > 230
        tab.click("#undo")
        tab.wait_for_selector("#waiting:has-text('What will it say?')")
        assert max(tab.evaluate(pixel.format(middle))[:3]) < 90 and tab.locator("#invitation").is_visible()

    def test_word_shows_where_it_looked(self, opened, tmp_path):
        tab = opened()
        picture(230).save(tmp_path / "snow.png")
        tab.set_input_files("#file", tmp_path / "snow.png")
        tab.wait_for_selector(".sentence button")
        assert sentences(tab)[0] == SENTENCES["bright"]["en"]
        corner = """(at) => {
            const [red, green, blue] = document.querySelector("#where").getContext("2d").getImageData(at, at, 1, 1).data;
            return red + green + blue;
        }"""
        before = tab.evaluate(corner, 300)
        tab.hover(".sentence button:text('bright,')")
        assert tab.inner_text("#where-title") == "Where it looked for “bright”"
        assert tab.evaluate(corner, 300) < 0.6 * before and tab.evaluate(corner, 25) > 1.5 * tab.evaluate(corner, 300)
        tab.focus(".sentence[lang=ko] button >> nth=1")
        assert tab.inner_text("#where-title") == "Where it looked for “그림이”"
        assert tab.locator(".sentence button[aria-pressed=true]").count() == 1
        assert SENTENCES["bright"]["en"] in tab.text_content("#spoken")

    def test_words_appear_one_after_another(self, opened):
        tab = opened(reduced_motion="no-preference")
        tab.click("#thumbnails button >> nth=0")
        tab.wait_for_selector(".sentence")
        until(tab, "document.querySelectorAll('.sentence button:not([hidden])').length > 2")
        until(tab, "document.querySelectorAll('.sentence button[hidden]').length === 0")

    def test_keyboard_alone(self, opened):
        tab = opened()
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "stage"
        for key in ("ArrowLeft", "ArrowUp", "Enter"):
            tab.keyboard.press(key)
        tab.wait_for_selector(".sentence button")
        for _ in range(3):
            tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.name") == "size"
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")  # takes it back
        tab.wait_for_selector("#waiting")
        assert tab.evaluate("document.activeElement.id") == "undo"

    def test_what_cannot_be_described_is_one_sentence(self, opened, tmp_path):
        tab = opened("?lang=ko")
        for content, told in (
            (b"text", "읽을 수 있는 그림이 아닙니다"),
            (encoded(Image.new("RGB", (50, 50))), "한 가지 색뿐입니다"),
        ):
            (tmp_path / "file.png").write_bytes(content)
            tab.set_input_files("#file", tmp_path / "file.png")
            tab.wait_for_selector(f"#problem:visible:has-text('{told}')")
            assert tab.locator(".sentence").count() == 0
        tab.click("#thumbnails button >> nth=1")
        tab.wait_for_selector(".sentence button")
        assert tab.locator("#problem").is_hidden() and sentences(tab)[0] in (one["ko"] for one in SENTENCES.values())

    def test_server_goes_away_and_comes_back(self, browser, describer):
        context = browser.new_context(locale="en-US", reduced_motion="reduce")
        tab = context.new_page()
        with serving(page.create_app(describer, ABOUT)) as address:
            tab.goto(address)
            tab.wait_for_selector("#thumbnails button")
        tab.click("#thumbnails button >> nth=0")
        tab.wait_for_selector("#problem:visible:has-text('The server does not answer')")
        with serving(page.create_app(describer, ABOUT), port=int(address.rpartition(":")[2])):
            tab.click("#thumbnails button >> nth=0")
            tab.wait_for_selector(".sentence button")
            assert tab.locator("#problem").is_hidden()
            context.close()

    def test_narrow_touch_screen_in_korean_and_the_dark(self, opened):
        tab = opened("?lang=ko", viewport={"width": 360, "height": 700}, has_touch=True, color_scheme="dark")
        assert (tab.title(), tab.locator("html").get_attribute("lang")) == ("그림에 무엇이 있을까요?", "ko")
        tab.tap("#stage")
        tab.wait_for_selector(".sentence button")
        assert sentences(tab)[0] == SENTENCES["dark"]["ko"] and tab.locator("#sample").is_visible()
        assert all(re.search("[가-힣]", text) for text in tab.locator("[data-text]").all_text_contents())
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
