"""Project 1's page: the API and its limits, fifty readers at once, and a real browser."""

import base64
import io
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from projects.serving import (
    asked_from_elsewhere,
    check_both_languages_say_the_same,
    check_refused,
    check_takes_nothing_from_elsewhere,
    command_of,
    encoded,
    serving,
    until,
    visits,
)

from project1_mnist import app as page
from project1_mnist.data import mean_and_std, training_batches
from project1_mnist.model import Net
from project1_mnist.picture import digit_from
from utils import datasets, paths, web
from utils.checkpoint import save_model
from utils.lesson import LessonError
from utils.training import classification_loss, fit

ABOUT = {"classes": [str(digit) for digit in range(10)], "source": "sample: scikit-learn's digits; not MNIST", "accuracy": 0.95}
DIGITS = {  # strokes, as shares of the drawing's sides
    2: [[(0.3, 0.35), (0.4, 0.22), (0.6, 0.22), (0.68, 0.38), (0.55, 0.55), (0.3, 0.78), (0.72, 0.78)]],
    3: [[(0.32, 0.22), (0.66, 0.22), (0.48, 0.46), (0.66, 0.6), (0.6, 0.76), (0.45, 0.8), (0.32, 0.74)]],
    4: [[(0.38, 0.2), (0.28, 0.55), (0.72, 0.55)], [(0.6, 0.3), (0.58, 0.85)]],
}


def drawn(digit: int, side: int = 200) -> Image.Image:
    image = Image.new("L", (side, side), 255)
    for stroke in DIGITS[digit]:
        ImageDraw.Draw(image).line([(x * side, y * side) for x, y in stroke], fill=0, width=side // 14, joint="curve")
    return image


@pytest.fixture(scope="module")
def network() -> Net:
    """A small network's first lesson: a few epochs of the sample."""
    torch.manual_seed(0)
    data = datasets.mnist("sample")
    model = Net(*mean_and_std(data.train.images))
    batches = training_batches(data.train, batch_size=64, device=torch.device("cpu"), seed=0)
    fit(model, batches, torch.optim.Adam(model.parameters(), lr=3e-3), classification_loss, epochs=4)
    return model.eval()


@pytest.fixture(scope="module")
def address(network):
    """A real server on a free port of this computer."""
    with serving(page.create_app(network, ABOUT)) as address:
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


def connect(address: str) -> socket.socket:
    """A connection below HTTP, for requests that no well-behaved client sends."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


class TestAnswers:
    @pytest.mark.parametrize("digit", DIGITS)
    def test_predict_says_what_the_network_says(self, client, network, digit):
        response = client.post("/predict", content=encoded(drawn(digit)))
        assert response.status_code == 200
        answer = response.json()
        with torch.no_grad():
            pixels = digit_from(drawn(digit))
            expected = network(pixels).softmax(dim=1)[0]
        assert answer["probabilities"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert answer["digit"] == expected.argmax().item() == digit
        assert torch.tensor(answer["pixels"]).tolist() == (pixels[0, 0] * 255).round().int().tolist()

    def test_maps_are_the_first_layers(self, client, network):
        maps = torch.tensor(client.post("/predict", content=encoded(drawn(2))).json()["maps"])
        with torch.no_grad():
            expected = network.features[:4]((digit_from(drawn(2)) - network.mean) / network.std)[0]
        assert maps.shape == (16, 12, 12)
        torch.testing.assert_close(maps / 255, expected / expected.max(), atol=0.003, rtol=0)

    def test_health_says_what_it_was_trained_on(self, client):
        assert client.get("/health").json() == {"status": "ok", **ABOUT}

    def test_page_takes_nothing_from_elsewhere(self, client):
        check_takes_nothing_from_elsewhere(client.get("/"))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=25)


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b'{"picture": [1, 2', 415, "unreadable"),
            (b"<html>", 415, "unreadable"),
            (encoded(drawn(2))[:300], 422, "damaged"),
            (encoded(Image.new("L", (280, 280), 255)), 422, "blank"),
            (encoded(Image.new("RGBA", (560, 560), (0, 0, 0, 0))), 422, "blank"),
            (encoded(Image.new("1", (10_000, 5_001))), 413, "too_large"),
        ],
        ids=["empty", "half a JSON", "web page", "half a PNG", "blank sheet", "empty layer", "50 megapixels and a bit"],
    )
    def test_one_sentence_for_what_is_no_digit(self, client, body, status, kind):
        response = client.post("/predict", content=body)
        check_refused(response, status, kind)
        assert client.post("/predict", content=encoded(drawn(2))).status_code == 200  # and it goes on

    @pytest.mark.parametrize("length", [page.MOST_BYTES + 1, 5_000_000_000])
    def test_large_body_is_refused_unread(self, address, length):
        with connect(address) as connection:
            connection.sendall(f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")  # though nothing of the body was sent

    def test_large_body_without_a_length_is_not_read_to_its_end(self, address):
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with connect(address) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(page.MOST_BYTES // 0x10000 + 1):  # a little more than is allowed, and never the end
                connection.sendall(chunk)
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")

    def test_body_of_just_the_limit_is_read(self, client):
        assert client.post("/predict", content=b"x" * page.MOST_BYTES).status_code == 415

    def test_reader_who_leaves_in_the_middle(self, client, address):
        with connect(address) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n123")
        assert client.post("/predict", content=encoded(drawn(2))).status_code == 200

    def test_other_methods_and_addresses(self, client):
        assert client.get("/predict").status_code == 405
        assert client.get("/docs").status_code == 404
        assert client.get("/../model.pt").status_code == 404

    @pytest.mark.parametrize(
        ("host", "status"), [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("evil.example", 400)]
    )
    def test_only_this_computers_names(self, client, host, status):
        assert client.get("/health", headers={"Host": host}).status_code == status

    def test_other_names_when_it_listens_to_the_network(self, network):
        app = page.create_app(network, ABOUT, only_this_computer=False)
        assert asked_from_elsewhere(app).status_code == 200

    def test_no_page_elsewhere_may_read_it(self, client):
        response = client.post("/predict", content=encoded(drawn(2)), headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers


class TestServer:
    def test_fifty_at_once(self, address):
        alone = {digit: httpx.post(f"{address}/predict", content=encoded(drawn(digit))).json() for digit in DIGITS}
        digits = [list(DIGITS)[i % len(DIGITS)] for i in range(50)]
        begin = threading.Barrier(50)

        def ask(digit: int) -> dict:
            begin.wait()
            return httpx.post(f"{address}/predict", content=encoded(drawn(digit)), timeout=60).json()

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(ask, digits))
        assert answers == [alone[digit] for digit in digits]

    def test_answers_others_while_it_looks_at_a_picture(self, address, monkeypatch):
        looking, go_on = threading.Event(), threading.Event()

        def slowly(*_):
            looking.set()
            assert go_on.wait(10)
            return {}

        monkeypatch.setattr(page, "look_at", slowly)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(httpx.post, f"{address}/predict", content=encoded(drawn(3)))
            assert looking.wait(10)
            assert httpx.get(f"{address}/health", timeout=5).status_code == 200
            assert not waiting.done()
            go_on.set()
            assert waiting.result().status_code == 200

    def test_port_that_is_taken(self):
        with web.listen("127.0.0.1", 0) as first:
            port = first.getsockname()[1]
            with pytest.raises(LessonError, match=f"port {port} of 127.0.0.1 is taken.*--port"):
                web.listen("127.0.0.1", port)

    @pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99_999), ("127.0.0.1", -1), ("no.such.host.invalid", 0)])
    def test_places_that_do_not_exist(self, host, port):
        with pytest.raises(LessonError, match="port"):
            web.listen(host, port)

    @pytest.mark.skipif(os.name == "nt", reason="Ctrl-C for one process cannot be sent on Windows")
    def test_command_says_where_it_is_and_ends_with_ctrl_c(self, network):
        save_model(paths.models("project1_mnist") / "model.pt", network, **ABOUT)
        with command_of(page.__file__) as (process, address, said):
            assert ABOUT["source"] in said
            assert "95.00%" in said
            assert httpx.get(f"{address}/health", timeout=20).status_code == 200
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=20)
            assert process.returncode == 0
            assert "Traceback" not in complaints

    def test_command_says_to_train_first(self):
        with pytest.raises(LessonError, match="python -m study run mnist"):
            page.main(device="cpu", port=0)


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture
def opened(browser, address):
    """Open the page as one reader sees it; whatever the browser complains about fails the test."""
    with visits(browser, address, ready="#trained:not(:empty)") as open_page:
        yield open_page


def draw(tab, digit: int) -> None:
    """Draw with the mouse."""
    box = tab.locator("#canvas").bounding_box()
    for stroke in DIGITS[digit]:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        tab.mouse.move(*points[0])
        tab.mouse.down()
        for point in points[1:]:
            tab.mouse.move(*point, steps=6)
        tab.mouse.up()


def bars(tab) -> list[str]:
    return tab.locator("#bars .value").all_inner_texts()


def from_data_url(url: str) -> bytes:
    return base64.b64decode(url.split(",")[1])


def wait_for(tab, digit: int) -> None:
    """Wait until everything drawn was asked about, and `digit` is the answer. (The page's own variables can be read.)"""
    until(tab, f"!asking && !outdated && document.querySelector('#digit').textContent === '{digit}'")


class TestBrowser:
    def test_draw_clear_and_draw_again(self, opened, address):
        tab = opened()
        asked = []
        tab.on("request", lambda request: asked.append(time.perf_counter()) if request.url.endswith("/predict") else None)
        assert bars(tab) == [""] * 10
        for digit in (2, 3):
            draw(tab, digit)
            wait_for(tab, digit)
            drawing = tab.evaluate("document.querySelector('#canvas').toDataURL()")
            answer = httpx.post(f"{address}/predict", content=from_data_url(drawing)).json()
            assert tab.inner_text("#digit") == str(answer["digit"]) == str(digit)
            assert bars(tab) == [f"{100 * share:.1f}%" for share in answer["probabilities"]]
            seen = from_data_url(tab.evaluate("document.querySelector('#seen').toDataURL()"))
            assert np.asarray(Image.open(io.BytesIO(seen)).convert("L")).tolist() == answer["pixels"]
            assert tab.locator("#maps canvas").count() == 16
            tab.click("#clear")
            assert (tab.inner_text("#digit"), bars(tab)) == ("?", [""] * 10)
        assert len(asked) >= 4  # while drawing, not only at the end

    def test_asks_one_question_at_a_time_and_forgets_what_was_cleared(self, opened):
        tab = opened()
        open_questions, most = set(), 0

        def slow(route):
            nonlocal most
            open_questions.add(route)
            most = max(most, len(open_questions))
            tab.wait_for_timeout(100)
            open_questions.discard(route)
            route.continue_()

        tab.route("**/predict", slow)
        draw(tab, 4)
        tab.click("#clear")  # while an answer is on its way
        tab.wait_for_timeout(400)
        assert tab.inner_text("#digit") == "?"
        draw(tab, 3)
        wait_for(tab, 3)
        assert most == 1

    def test_picture_of_ones_own(self, opened, tmp_path):
        tab = opened(color_scheme="dark")
        draw(tab, 3)
        wait_for(tab, 3)
        drawn(2, side=900).save(tmp_path / "two.png")
        tab.set_input_files("#file", tmp_path / "two.png")
        wait_for(tab, 2)
        draw(tab, 3)  # drawing again takes the picture away
        wait_for(tab, 3)

    def test_large_picture_is_made_smaller_before_it_is_sent(self, opened, tmp_path):
        image = drawn(2, side=1200)
        noise = Image.effect_noise(image.size, 40).point(lambda value: value // 4)
        Image.merge("RGB", [Image.blend(image, noise, 0.2)] * 3).save(tmp_path / "large.bmp")
        assert (tmp_path / "large.bmp").stat().st_size > page.MOST_BYTES
        tab = opened()
        tab.set_input_files("#file", tmp_path / "large.bmp")
        wait_for(tab, 2)

    def test_says_what_is_wrong_with_a_picture(self, browser, address, tmp_path):
        (tmp_path / "letter.png").write_bytes(b"Dear Sir or Madam")
        with browser.new_context(locale="ko-KR") as context:  # not `opened`: Chromium notes the refusal in its console
            tab = context.new_page()
            tab.goto(address)
            tab.set_input_files("#file", tmp_path / "letter.png")
            tab.wait_for_selector("#problem:visible")
            assert "사진이 아닙니다" in tab.inner_text("#problem")
            assert tab.inner_text("#digit") == "?"
            draw(tab, 3)
            wait_for(tab, 3)
            assert tab.locator("#problem").is_hidden()

    def test_folder_cannot_be_opened(self, opened, tmp_path):
        """The browser hands a folder over like a file, and refuses to read it; only its debugger can drop a real one."""
        tab = opened()
        drawn(2).save(tmp_path / "two.png")
        box = tab.locator("#canvas").bounding_box()
        debugger = tab.context.new_cdp_session(tab)

        def drop(place: Path) -> None:
            data = {"items": [], "files": [str(place)], "dragOperationsMask": 1}
            for kind in ("dragEnter", "dragOver", "drop"):
                debugger.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 50, "y": box["y"] + 50, "data": data})

        sent = []
        tab.on("request", lambda request: sent.append(request.url))
        drop(tmp_path)
        tab.wait_for_selector("#problem:visible")
        assert tab.inner_text("#problem") == "This file cannot be opened."
        assert tab.inner_text("#digit") == "?" and not sent
        drop(tmp_path / "two.png")
        wait_for(tab, 2)
        assert tab.locator("#problem").is_hidden()
        drop(tmp_path)
        draw(tab, 3)
        wait_for(tab, 3)
        assert tab.locator("#problem").is_hidden()

    def test_keyboard_alone(self, opened):
        tab = opened()
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "canvas"
        tab.keyboard.press("Space")
        for _ in range(14):
            tab.keyboard.press("ArrowDown")
        # What a screen reader says, once the hand rests: on a busy machine it rests in between as well, and more is said later.
        until(tab, "document.querySelector('#spoken').textContent.startsWith(document.querySelector('#digit').textContent)")
        assert re.fullmatch(r"\d, [\d.]+%", tab.inner_text("#spoken"))
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "clear"
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.keyboard.press("Control+z")
        assert tab.inner_text("#digit") == "?"

    def test_narrow_touch_screen_in_korean_and_the_dark(self, opened):
        tab = opened("?lang=ko", viewport={"width": 375, "height": 700}, has_touch=True, color_scheme="dark")
        assert tab.evaluate("document.documentElement.scrollWidth") == 375
        assert tab.title() == "숫자를 그려 보세요"
        assert tab.locator("html").get_attribute("lang") == "ko"
        tab.tap("#canvas")  # a dot is a drawing too
        until(tab, "document.querySelector('#digit').textContent !== '?'")
        tab.tap("#clear")
        assert tab.inner_text("#digit") == "?"
        assert all(re.search("[가-힣]", text) for text in tab.locator("[data-text]").all_text_contents())

    def test_says_that_it_was_trained_on_a_sample(self, opened):
        tab = opened()
        assert ABOUT["source"] in tab.inner_text("#trained")
        assert "95.00%" in tab.inner_text("#trained")
        assert tab.locator("#sample").is_visible()
