"""Project 5's page: the API and its limits, and a real browser with a camera whose pictures are known."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image
from projects.detection_world import known_finder, picture_of, untrained_file
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
    until_held,
    visits,
)

from project5_realtime_detection import app as page
from project5_realtime_detection.predict import COLOURS, contrast_to
from utils import paths
from utils.datasets import detection, scenes
from utils.lesson import LessonError

RED = (80, 60, 240, 200)  # of 640x480: it stays where it is, while the blue one jumps from one place to the other
BLUE = ((400, 240, 560, 420), (320, 20, 440, 140))
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def image_of(*things, height: int = 480, width: int = 640) -> Image.Image:
    return page.as_image(picture_of(*things, height=height, width=width))


SCENE = image_of(("red", RED), ("blue", BLUE[0]))


@pytest.fixture(scope="module")
def address():
    """A real server on a free port of this computer, whose network finds what is red and what is blue."""
    with serving(page.create_app(known_finder(side=320))) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


def turned(picture: Image.Image) -> bytes:
    """A JPEG as a telephone stores it that was held upright: lying on its side, with a note how to turn it."""
    import io

    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    file = io.BytesIO()
    picture.rotate(90, expand=True).save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


class TestAnswers:
    @pytest.mark.parametrize(
        "content",
        [encoded(SCENE), encoded(SCENE, "BMP"), encoded(SCENE, "TIFF"), encoded(SCENE.convert("RGBA")), turned(SCENE)],
        ids=["PNG", "BMP", "TIFF", "alpha", "turned by its EXIF"],
    )
    def test_boxes_in_the_picture_as_it_is_seen(self, client, content):
        answer = client.post("/find", content=content).json()
        assert (answer["width"], answer["height"]) == (640, 480)
        assert [(each["label"], round(each["score"], 3)) for each in answer["found"]] == [(0, 0.9), (1, 0.6)]
        for each, truth in zip(answer["found"], (RED, BLUE[0]), strict=True):
            assert each["box"] == pytest.approx(truth, abs=4)  # two pixels of what the network sees
        assert answer["opening"] > 0 and answer["finding"] > 0 and "preview" not in answer

    def test_grey_and_16_bit_are_read_and_nothing_is_in_them(self, client):
        sixteen_bit = Image.new("I;16", (60, 40), 40_000)
        for picture in (SCENE.convert("L"), SCENE.convert("LA"), SCENE.convert("P").convert("L"), sixteen_bit):
            answer = client.post("/find", content=encoded(picture)).json()
            assert answer["found"] == [] and (answer["width"], answer["height"]) == picture.size

    def test_sends_the_picture_back_where_it_is_asked_for(self, client):
        answer = client.post("/find?preview", content=encoded(SCENE, "TIFF")).json()
        assert answer["preview"].startswith("data:image/jpeg;base64,") and len(answer["found"]) == 2

    def test_health_says_what_it_knows(self, client):
        told = client.get("/health").json()
        assert (told["classes"], told["side"]) == (["red", "blue"], 320) and "by heart" in told["source"]
        assert [each["colour"] for each in told["colours"]] == list(COLOURS)

    def test_names_can_be_read_on_every_colour(self):
        def luminance(colour: str) -> float:
            linear = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
            linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in linear]
            return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) + 0.05

        for colour in COLOURS:
            high, low = sorted((luminance(colour), luminance(contrast_to(colour))), reverse=True)
            assert high / low >= 4.5  # what WCAG asks for
        assert len(set(COLOURS)) == len(scenes.CLASSES) == 10

    def test_examples_are_test_pictures_of_what_it_was_trained_on(self, client, monkeypatch):
        assert client.get("/examples").json() == []  # of red and blue there is no data set
        examples = page.pick_examples(list(scenes.CLASSES))
        drawn = scenes.draw_scenes(page.EXAMPLES, seed=0, size=320, split="test")
        assert len(examples) == page.EXAMPLES
        for example, boxes, labels in zip(examples, drawn.boxes, drawn.labels, strict=True):
            assert example["picture"].startswith("data:image/jpeg;base64,")
            assert [each["box"] for each in example["truth"]] == boxes.tolist()
            assert [each["label"] for each in example["truth"]] == labels.tolist()
        monkeypatch.setattr(detection, "bccd", lambda: None)
        assert page.pick_examples(detection.BCCD_CLASSES) == []

    @pytest.mark.real_data("bccd")
    def test_examples_of_blood_cells(self):
        examples = page.pick_examples(detection.BCCD_CLASSES)
        assert len(examples) == page.EXAMPLES and all(example["truth"] for example in examples)

    def test_page_takes_nothing_from_elsewhere(self, client):
        check_takes_nothing_from_elsewhere(client.get("/"))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=50)
        text = page.PAGE.read_text(encoding="utf-8")
        assert all(re.search(rf"\b{name}: \"[가-힣]", text) for name in (*scenes.CLASSES, *detection.BCCD_CLASSES))


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b"Dear Sir or Madam", 415, "unreadable"),
            (encoded(SCENE)[:150], 422, "damaged"),
            (encoded(SCENE, "JPEG")[:2000], 422, "damaged"),
            (png_header(10_000, 10_000), 413, "too_large"),
            (png_header(100_000, 100_000), 413, "too_large"),
            (encoded(Image.new("RGB", (3, 200))), 422, "too_small"),
            (b"x" * (page.MOST_BYTES + 1), 413, "too_large"),
        ],
        ids=["empty", "text", "half a PNG", "half a JPEG", "100 megapixels", "bomb", "a sliver", "too many bytes"],
    )
    def test_one_sentence_for_each(self, client, body, status, kind):
        response = client.post("/find", content=body)
        check_refused(response, status, kind)
        assert len(client.post("/find", content=encoded(SCENE)).json()["found"]) == 2  # and it goes on

    def test_only_this_computers_names(self, client):
        check_only_this_computers_names(client)

    def test_many_wait_their_turn_and_too_many_are_told(self, monkeypatch):
        looking, go_on = threading.Event(), threading.Event()

        def slowly(finder, content, preview):
            looking.set()
            assert go_on.wait(20)
            return {"found": content.decode()}

        monkeypatch.setattr(page, "answer", slowly)
        with serving(page.create_app(known_finder())) as address, ThreadPoolExecutor(20) as pool:

            def ask(number: int) -> httpx.Response:
                return httpx.post(f"{address}/find", content=str(number), timeout=20)

            first = pool.submit(ask, 0)
            assert looking.wait(10)
            assert httpx.get(f"{address}/health", timeout=5).status_code == 200  # others are answered meanwhile
            others = [pool.submit(ask, number) for number in range(1, 20)]
            while sum(each.done() for each in others) < 19 - page.MOST_WAITING:
                pass
            go_on.set()
            answers = [each.result() for each in (first, *others)]
        kinds = [answer.json().get("kind") for answer in answers]
        assert kinds.count("busy") == 19 - page.MOST_WAITING
        assert all(answer.status_code == 503 for answer in answers if "kind" in answer.json())
        assert all(answer.json()["found"] == str(i) for i, answer in enumerate(answers) if "found" in answer.json())

    def test_command_puts_it_together(self, monkeypatch, capsys):
        untrained_file(paths.models("project5_realtime_detection") / "model.pt")
        app, said = unserved(monkeypatch, page.main, device="cpu"), capsys.readouterr().out
        assert "red, blue; nothing else" in said and "only in a browser on this computer" in said
        assert asked_from_elsewhere(app).status_code == 200  # open to the network: any name is its name
        answer = asked_from_elsewhere(app, "POST", "/find", content=encoded(SCENE)).json()
        assert (answer["width"], answer["height"]) == (640, 480)

    def test_command_says_to_train_first(self):
        assert not (paths.models("project5_realtime_detection") / "model.pt").exists()
        with pytest.raises(LessonError, match="python -m study run"):
            page.main(device="cpu", port=0)


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture(scope="module")
def with_camera(launch, tmp_path_factory):
    """A browser whose camera shows a film of ours, over and over: half a second of each scene."""
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    frames = (encoded(image_of(("red", RED), ("blue", place)), "JPEG") for place in BLUE)
    film.write_bytes(b"".join(15 * frame for frame in frames))
    return launch(*CAMERA, f"--use-file-for-fake-video-capture={film}")


@pytest.fixture
def opened(address):
    """Open the page as one reader sees it; whatever the browser complains about, but for refused pictures, fails the test."""
    with visits(None, address, ready="#known li", refused="status of 4(13|15|22)|ERR_CONNECTION_REFUSED") as open_page:
        yield lambda browser, query="", **settings: open_page(query, browser, **settings)


def start(tab) -> None:
    """Start the camera, and wait until something was found."""
    tab.click("#camera")
    until(tab, "drawn.length === 2")


def on_stage(tab, box, width: int = 640, height: int = 480) -> list[float]:
    """Where a box of the picture belongs on the page: x, y, width, height."""
    stage_width, stage_height = tab.evaluate("[overlay.clientWidth, overlay.clientHeight]")
    scale = min(stage_width / width, stage_height / height)
    left, top = (stage_width - scale * width) / 2, (stage_height - scale * height) / 2
    return [left + scale * box[0], top + scale * box[1], scale * (box[2] - box[0]), scale * (box[3] - box[1])]


def drawn(tab, label: int) -> list[float]:
    """Where the box of a class is drawn."""
    return tab.evaluate(
        "label => { const {x, y, width, height} = drawn.find(d => d.label === label); return [x, y, width, height]; }", label
    )


# Copied first: Chromium complains in its console when a canvas that is drawn on a screen is read again and again.
READ = """([id, x, y, width, height]) => {
    const canvas = document.querySelector(id), dots = canvas.width / canvas.clientWidth;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, -Math.round(x * dots), -Math.round(y * dots));
    return [...copy.getImageData(0, 0, width, height).data];
}"""


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def colour_at(tab, canvas: str, x: float, y: float) -> tuple[int, ...]:
    """What a canvas shows at a place of the page: red, green, blue, alpha."""
    return tuple(tab.evaluate(READ, [canvas, x, y, 1, 1]))


def rgb(colour: str) -> tuple[int, ...]:
    return *(int(colour[at : at + 2], 16) for at in (1, 3, 5)), 255


def upload(tab, content: bytes, name: str = "picture") -> None:
    tab.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def problem(tab, said: str) -> None:
    tab.wait_for_selector(f"#problem:visible:has-text('{said}')")


class TestCamera:
    def test_boxes_lie_where_the_things_are(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        assert drawn(tab, 0) == pytest.approx(on_stage(tab, RED), abs=4)
        places = [on_stage(tab, place) for place in BLUE]
        for place in (*places, places[0]):  # it follows what moves
            until(tab, f"drawn.some(d => d.label === 1 && Math.abs(d.x - {place[0]}) < 4)")
        x, y, width, height = drawn(tab, 0)
        for at in ((x, y + height / 2), (x + width / 2, y + height), (x + width, y + height / 2)):
            assert colour_at(tab, "#boxes", *at) == rgb(COLOURS[0])
        assert colour_at(tab, "#boxes", x + width / 2, y + height / 2)[3] == 0  # the thing itself can be seen
        assert tab.locator("#known .seen .name").all_inner_texts() == ["red", "blue"]
        assert tab.locator("#known .value").all_inner_texts() == ["90%", "60%"]
        until(tab, "Number(document.querySelector('#fps').textContent) > 1")
        assert 0 < int(tab.inner_text("#latency")) < 5000
        assert all(re.fullmatch(r"[\d.]+ ms", text) for text in tab.locator("#parts dd").all_inner_texts())
        tab.wait_for_selector("#spoken:has-text('Found: red, blue')", state="attached")
        assert tab.inner_text("#state") == "Live"

    def test_threshold_asks_nobody(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        tab.click("#freeze")
        until(tab, "source.frozen && drawn.length === 2")
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.fill("#threshold", "70")
        assert [each["label"] for each in tab.evaluate("drawn")] == [0]
        assert tab.inner_text("#threshold-value") == "70%" and tab.locator("#known .seen").count() == 1
        tab.fill("#threshold", "95")
        assert tab.evaluate("drawn") == [] and asked == []

    def test_frozen_picture_has_its_own_boxes(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        for _ in range(2):
            tab.click("#freeze")
            until(tab, "source.frozen && drawn.length === 2")
            x, y, width, height = drawn(tab, 1)
            seen = colour_at(tab, "#still", x + width / 2, y + height / 2)
            assert seen[2] > 180 and seen[0] < 80  # in the blue box it is blue
            before = tab.evaluate("drawn")
            tab.wait_for_timeout(700)
            assert tab.evaluate("drawn") == before and tab.inner_text("#state") == "Frozen"
            tab.click("#freeze")
            until(tab, "!source.frozen && times.length > 0")  # it goes on

    def test_mirror_turns_the_view_and_not_what_is_sent(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        tab.click("#mirror")
        mirrored = on_stage(tab, (640 - RED[2], RED[1], 640 - RED[0], RED[3]))
        until(tab, f"drawn.length && Math.abs(drawn.find(d => d.label === 0).x - {mirrored[0]}) < 4")
        tab.wait_for_timeout(300)
        assert drawn(tab, 0) == pytest.approx(mirrored, abs=4)
        assert tab.evaluate("getComputedStyle(video).transform").startswith("matrix(-1")
        assert tab.evaluate("shown.found[0].box[0] / shown.width") == pytest.approx(RED[0] / 640, abs=0.02)

    def test_one_question_at_a_time(self, with_camera, opened):
        tab = opened(with_camera)
        waiting, most, count = set(), 0, 0

        def slow(route):
            nonlocal most, count
            waiting.add(route)
            most, count = max(most, len(waiting)), count + 1
            tab.wait_for_timeout(80)
            waiting.discard(route)
            route.continue_()

        tab.route("**/find", slow)
        start(tab)
        for _ in range(300):
            if count > 5:
                break
            tab.wait_for_timeout(30)
        assert count > 5 and most == 1
        sent = tab.evaluate("small(video, 640, 480).then(createImageBitmap).then((sent) => [sent.width, sent.height])")
        assert sent == [320, 240]  # no larger than the network sees it
        tab.click("#camera")  # no more frames
        tab.unroute_all(behavior="ignoreErrors")

    def test_stream_that_ends_and_camera_that_comes_back(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        tab.evaluate("source.stream.getVideoTracks()[0].dispatchEvent(new Event('ended'))")  # as when it is unplugged
        problem(tab, "The camera has stopped")
        assert tab.evaluate("drawn") == [] and tab.inner_text("#camera") == "Start the camera"
        tab.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")  # and plugged in again
        until(tab, "drawn.length === 2")
        assert tab.locator("#problem").is_hidden()
        tab.evaluate("source.stream.getVideoTracks()[0].stop()")  # an end without a word
        problem(tab, "The camera has stopped")
        start(tab)
        assert tab.locator("#problem").is_hidden()

    def test_camera_that_sends_nothing_is_told_and_goes_on(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        tab.evaluate("source.lastFrame = -1e9; video.pause()")
        problem(tab, "sends no more pictures")
        until(tab, "drawn.length === 0")  # also where an answer was still under way
        tab.evaluate("video.play()")
        until(tab, "drawn.length === 2 && document.querySelector('#problem').hidden")

    def test_server_that_goes_and_comes_back_with_another_network(self, with_camera, opened):
        with serving(page.create_app(known_finder(320))) as address:
            tab = opened(with_camera, address=address)
            start(tab)
        problem(tab, "The server does not answer")
        until(tab, "drawn.length === 0")  # old boxes would be a lie
        other = known_finder(320)
        other.classes = ["apple", "plum"]
        with serving(page.create_app(other), port=int(address.rsplit(":")[-1])):
            until(tab, "drawn.length === 2 && document.querySelector('#problem').hidden")
            assert tab.locator("#known .name").all_inner_texts() == ["apple", "plum"]
            tab.close()

    def test_out_of_sight_it_rests(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        tab.evaluate(HIDE, True)
        until(tab, "!source.asking")
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.wait_for_timeout(800)
        assert asked == [] and "not in sight" in tab.inner_text("#state")
        tab.evaluate(HIDE, False)
        until(tab, "times.length > 0")
        assert asked and tab.inner_text("#state") == "Live"

    def test_two_tabs_at_once(self, with_camera, opened):
        tabs = [opened(with_camera), opened(with_camera, "?lang=ko")]
        for tab in tabs:
            start(tab)
        for tab in tabs:
            until(tab, "times.length > 0")
            assert drawn(tab, 0) == pytest.approx(on_stage(tab, RED), abs=4)

    def test_stop_ends_the_camera(self, with_camera, opened):
        tab = opened(with_camera)
        start(tab)
        tab.evaluate("window.track = source.stream.getVideoTracks()[0]")
        tab.click("#camera")
        assert tab.evaluate("window.track.readyState") == "ended" and tab.evaluate("source === null && video.srcObject === null")
        tab.wait_for_timeout(300)
        assert tab.evaluate("drawn") == [] and tab.locator("#known .seen").count() == 0
        assert tab.locator("#problem").is_hidden() and tab.locator("#invitation").is_visible()


class TestNoCamera:
    def test_refused(self, launch, opened):
        tab = opened(launch(CAMERA[0]), permissions=[])  # nobody clicks on "allow"
        tab.context.grant_permissions([])  # everything that is not granted is refused
        tab.click("#camera")
        problem(tab, "refused the camera")
        upload(tab, encoded(SCENE))  # pictures can be looked at all the same
        until(tab, "drawn.length === 2")
        assert tab.locator("#problem").is_hidden()

    def test_none_there(self, launch, opened):
        tab = opened(launch(f"{CAMERA[0]}=device-count=0", CAMERA[1]), "?lang=ko")
        tab.click("#camera")
        problem(tab, "카메라가 없습니다")

    def test_used_by_another_program(self, browser, opened):
        tab = opened(browser)
        tab.evaluate(
            "void (navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotReadableError'); })"
        )
        tab.click("#camera")
        problem(tab, "another program")

    def test_page_that_came_over_the_network_without_https(self, browser, opened):
        tab = opened(browser)
        tab.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")  # as a browser has it there
        tab.click("#camera")
        problem(tab, "https")

    def test_stopped_before_it_was_allowed(self, browser, opened):
        tab = opened(browser)
        tab.evaluate("void (navigator.mediaDevices.getUserMedia = () => new Promise((resolve) => { window.allow = resolve; }))")
        tab.click("#camera")
        assert "permission" in tab.inner_text("#state")
        tab.click("#camera")
        tab.evaluate("window.late = document.createElement('canvas').captureStream(); void window.allow(window.late)")
        until(tab, "window.late.getVideoTracks()[0].readyState === 'ended'")
        assert tab.evaluate("source") is None


class TestPictures:
    @pytest.mark.parametrize("content", [encoded(SCENE), turned(SCENE), encoded(SCENE, "TIFF")], ids=["PNG", "EXIF", "TIFF"])
    def test_boxes_lie_on_the_picture_as_it_is_seen(self, browser, opened, content):
        tab = opened(browser)
        upload(tab, content)
        until(tab, "drawn.length === 2")
        for label, truth in enumerate((RED, BLUE[0])):
            x, y, width, height = box = drawn(tab, label)
            assert box == pytest.approx(on_stage(tab, truth), abs=4)
            seen = colour_at(tab, "#still", x + width / 2, y + height / 2)
            assert seen[2 * label] > 180 and seen[2 - 2 * label] < 80
        assert re.fullmatch(r"Looked at in \d+ ms", tab.inner_text("#state"))

    def test_tall_picture_stays_on_the_screen(self, browser, opened):
        tab = opened(browser)
        upload(tab, encoded(image_of(("red", (10, 300, 90, 380)), height=600, width=100)))
        until(tab, "drawn.length === 1")
        assert drawn(tab, 0) == pytest.approx(on_stage(tab, (10, 300, 90, 380), 100, 600), abs=4)
        assert tab.evaluate("document.querySelector('#stage').getBoundingClientRect().height < innerHeight")

    def test_what_cannot_be_used_is_one_sentence(self, browser, opened):
        tab = opened(browser, "?lang=ko")
        for content, said in (
            (b"Dear Sir", "사진이 아닙니다"),
            (b"", "사진이 아닙니다"),
            (encoded(SCENE)[:150], "손상"),
            (png_header(10_000, 10_000), "너무 큽니다"),
            (encoded(Image.new("RGB", (3, 200))), "너무 작아서"),
        ):
            upload(tab, content)
            problem(tab, said)
            assert tab.evaluate("drawn") == [] and tab.locator("#invitation").is_visible()
        both = [{"name": "a.png", "mimeType": "image/png", "buffer": encoded(SCENE)}] * 2
        tab.evaluate("document.querySelector('#file').multiple = true")
        tab.set_input_files("#file", both)
        problem(tab, "한 장만")
        upload(tab, encoded(SCENE))
        until(tab, "drawn.length === 2 && document.querySelector('#problem').hidden")

    def test_earlier_answer_does_not_come_over_a_later_one(self, browser, opened):
        tab, held = opened(browser), []
        tab.route("**/find", lambda route: held.append(route))
        for count, picture in enumerate((SCENE, image_of(("red", RED))), start=1):
            upload(tab, encoded(picture))
            until_held(tab, held, count)
        held[1].continue_()
        until(tab, "drawn.length === 1")
        held[0].continue_()
        tab.wait_for_timeout(300)
        assert tab.evaluate("drawn.length") == 1


class TestExamples:
    @pytest.fixture
    def examples(self, monkeypatch):
        """A server with two test pictures."""
        told = [
            {"picture": page.as_data_url(image_of(("red", RED))), "truth": [{"box": RED, "label": 0}]},
            {"picture": page.as_data_url(SCENE), "truth": [{"box": RED, "label": 0}, {"box": BLUE[0], "label": 1}]},
        ]
        monkeypatch.setattr(page, "pick_examples", lambda classes: told)
        with serving(page.create_app(known_finder(320))) as address:
            yield address

    def test_truth_beside_what_was_found(self, browser, opened, examples):
        tab = opened(browser, address=examples)
        tab.click("#thumbnails button >> nth=1")
        until(tab, "drawn.length === 2")
        tab.fill("#threshold", "95")  # takes the found ones away
        x, y, _, _ = on_stage(tab, RED)
        assert max(tab.evaluate(READ, ["#boxes", x, y + 20, 1, 40])[3::4]) == 0
        tab.check("#truth")
        assert max(tab.evaluate(READ, ["#boxes", x, y + 20, 1, 40])[3::4]) > 100
        upload(tab, encoded(SCENE))
        until(tab, "document.querySelector('#truth-row').hidden")

    def test_moving_scenes_are_a_camera_for_those_who_have_none(self, browser, opened, examples):
        tab = opened(browser, address=examples)
        tab.click("#film")
        until(tab, "drawn.some(d => d.label === 0)")
        first = drawn(tab, 0)[0]
        until(tab, f"drawn.some(d => d.label === 0 && Math.abs(d.x - {first}) > 10)")  # it moves
        assert tab.inner_text("#state").startswith("Moving scenes") and tab.locator("#mirror").is_hidden()
        until(tab, "times.length > 0")
        tab.click("#camera")
        until(tab, "source === null")


class TestForEverybody:
    def test_keyboard_alone(self, with_camera, opened):
        tab = opened(with_camera)
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "camera"
        tab.keyboard.press("Enter")
        until(tab, "drawn.length === 2")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "freeze"
        tab.keyboard.press("Space")
        until(tab, "source.frozen")
        for _ in range(10):
            if tab.evaluate("document.activeElement.id") == "threshold":
                break
            tab.keyboard.press("Tab")
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text("#threshold-value") == "31%"
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    def test_narrow_touch_screen_in_korean_and_the_dark(self, with_camera, opened):
        tab = opened(with_camera, "?lang=ko", viewport={"width": 360, "height": 700}, has_touch=True, color_scheme="dark")
        assert (tab.title(), tab.locator("html").get_attribute("lang")) == ("무엇이 보이나요?", "ko")
        tab.tap("#camera")
        until(tab, "drawn.length === 2")
        assert drawn(tab, 0) == pytest.approx(on_stage(tab, RED), abs=4)
        assert tab.evaluate("document.querySelector('#status').getBoundingClientRect().bottom < innerHeight")
        assert all(re.search("[가-힣]", text) for text in tab.locator("[data-text]").all_text_contents())
        assert tab.evaluate("document.documentElement.scrollWidth") == 360

    def test_says_where_the_frames_go_and_what_it_was_trained_on(self, browser, opened):
        tab = opened(browser)
        assert "this computer and nowhere else" in tab.inner_text("#private")
        assert "by heart" in tab.inner_text("#trained") and tab.locator("#sample").is_hidden()
