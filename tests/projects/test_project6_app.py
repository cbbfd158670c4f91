"""Project 6's page: the API and its limits, many at once, and a real browser."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from projects.faces_world import few_faces, photographs, studio
from projects.serving import (
    check_both_languages_say_the_same,
    check_only_this_computers_names,
    check_refused,
    check_takes_nothing_from_elsewhere,
    serving,
    until,
    visits,
)

from project6_faces import app as page

NOTHING = {"wishes": [0.0] * 8, "walk": [0.0] * 3, "seed": 1}


@pytest.fixture(scope="module")
def somebody():
    return studio("gan", few_faces(200, 100))


@pytest.fixture(scope="module")
def address(somebody):
    """A real server on a free port of this computer."""
    with serving(page.create_app(*somebody)) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


def ask(client: httpx.Client, **changed) -> dict:
    response = client.post("/draw", content=json.dumps({**NOTHING, **changed}))
    assert response.status_code == 200, response.text
    return response.json()


class TestAnswers:
    def test_draws_what_the_studio_draws(self, client, somebody):
        answer, made = ask(client, seed=4, walk=[1.0, 0.0, -1.0]), somebody[0].draw([0.0] * 8, [1.0, 0.0, -1.0], 4)
        assert answer["face"] == page.rows(made.face) and answer["nearest"] == page.rows(made.nearest)
        assert answer["distance"] == pytest.approx(made.distance) and answer["read"] == pytest.approx(made.read)
        assert (len(answer["face"]), len(answer["face"][0]), len(answer["face"][0][0])) == (32, 32, 3)
        assert answer["close"] == (made.distance < somebody[0].usual[1])

    def test_health_says_what_there_is_to_pull(self, client, somebody):
        told = client.get("/health").json()
        assert told["status"] == "ok" and told["kind"] == "gan" and not told["is_real"]
        assert [one["name"] for one in told["attributes"]] == somebody[0].attributes
        assert [one["switch"] for one in told["attributes"]].index(True) == 2 and len(told["directions"]) == 3
        assert told["attributes"][2]["resting"] == -1 and told["attributes"][1]["ends"] == ["corners down", "corners up"]

    def test_many_at_once_get_their_own_face(self, client):
        alone = [ask(client, seed=seed)["face"] for seed in range(6)]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda seed: ask(client, seed=seed)["face"], range(6)))
        assert together == alone and alone[0] != alone[1]

    def test_grey_faces_without_attributes(self):
        somebody, about = studio("diffusion", photographs())
        with serving(page.create_app(somebody, about)) as address, httpx.Client(base_url=address, timeout=20) as client:
            told = client.get("/health").json()
            assert told["attributes"] == [] and told["is_real"]
            answer = ask(client, wishes=[])
            assert answer["read"] == [] and answer["face"][3][4][0] == answer["face"][3][4][2]

    def test_page_takes_nothing_from_elsewhere(self, client):
        check_takes_nothing_from_elsewhere(client.get("/"))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=18)

    def test_every_name_has_a_korean_one(self):
        from project6_faces.directions import PIXELS

        text = page.PAGE.read_text(encoding="utf-8").split("const NAMES")[1].split("};")[0]
        for name in (*page.ENDS, *PIXELS, *(end for ends in page.ENDS.values() for end in ends)):
            assert f"{name}:" in text or f'"{name}":' in text or name == "without" or name == "with", name


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b'{"wishes": ', 415, "unreadable"),
            (b"\xff\xfe\x00", 415, "unreadable"),
            (b"[" * 3000, 415, "unreadable"),
            (b"[]", 415, "unreadable"),
            (b"{}", 415, "unreadable"),
            (json.dumps({**NOTHING, "wishes": "no"}).encode(), 415, "unreadable"),
            (json.dumps({**NOTHING, "seed": 1.5}).encode(), 415, "unreadable"),
            (json.dumps({**NOTHING, "seed": True}).encode(), 415, "unreadable"),
            (json.dumps({**NOTHING, "seed": -1}).encode(), 422, "other"),
            (json.dumps({**NOTHING, "seed": 10**400}).encode(), 422, "other"),
            (json.dumps({**NOTHING, "walk": [0, 0]}).encode(), 422, "other"),
            (json.dumps({**NOTHING, "walk": [0, 0, 9]}).encode(), 422, "other"),
            (json.dumps({**NOTHING, "walk": [0, 0, float("nan")]}).encode(), 422, "other"),
            (json.dumps({**NOTHING, "wishes": [float("inf")] * 8}).encode(), 422, "other"),
            (b"x" * (page.MOST_BYTES + 1), 413, "too_large"),
        ],
    )
    def test_one_sentence_for_each(self, client, body, status, kind):
        response = client.post("/draw", content=body)
        check_refused(response, status, kind)
        assert ask(client)["face"]  # and it goes on

    def test_other_methods_and_names(self, client):
        assert client.get("/draw").status_code == 405
        assert client.get("/docs").status_code == 404
        check_only_this_computers_names(client)


@pytest.fixture
def opened(browser, address):
    """Open the page: opened("?lang=ko", viewport=...). It must not have complained in the end."""
    with visits(browser, address, ready="body[data-drawn]", refused="status of 502|willReadFrequently") as open_page:
        yield open_page


PIXELS = "id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 32, 32).data]"


def pixels(tab, name: str) -> list[list[list[int]]]:
    """What a canvas shows, as rows of [red, green, blue]."""
    values = tab.evaluate(PIXELS, name)
    return [[values[4 * (32 * row + column) : 4 * (32 * row + column) + 3] for column in range(32)] for row in range(32)]


def pull(tab, name: str, value: float) -> None:
    """Put a slider somewhere, and wait for the face."""
    before = int(tab.get_attribute("body", "data-drawn"))
    tab.evaluate(
        "([id, value]) => { const one = document.getElementById(id); one.value = value; one.dispatchEvent(new Event('input')); }",
        [name, value],
    )
    until(tab, f"Number(document.body.dataset.drawn) > {before}")


class TestBrowser:
    def test_sliders_change_the_face(self, opened, client):
        tab = opened()
        resting = {"wishes": [0, 0, -1, 0, 0, 0, 0, 0]}
        assert pixels(tab, "face") == ask(client, **resting)["face"]
        pull(tab, "walk-1", 2.0)
        answer = ask(client, **resting, walk=[0, 2.0, 0])
        assert pixels(tab, "face") == answer["face"] and pixels(tab, "nearest") == answer["nearest"]
        assert f"{answer['distance']:.3f} away" in tab.inner_text("#distance")
        tab.click("#wishes-2")  # glasses
        until(tab, "Number(document.body.dataset.drawn) > 2")
        wanted = ask(client, wishes=[0, 0, 1, 0, 0, 0, 0, 0], walk=[0, 2.0, 0])
        assert pixels(tab, "face") == wanted["face"]
        assert tab.inner_text("#wishes .slider >> nth=2 >> output").replace("−", "-") == f"{wanted['read'][2]:.2f}"
        tab.click("#reset")
        until(tab, "Number(document.body.dataset.drawn) > 3")
        assert pixels(tab, "face") == ask(client, **resting)["face"]

    def test_another_face(self, opened):
        tab = opened()
        before = pixels(tab, "face")
        tab.click("#another")
        tab.wait_for_selector("#spoken:has-text('A new face')", state="attached")
        assert pixels(tab, "face") != before

    def test_while_a_slider_is_pulled_only_its_last_place_counts(self, opened, client):
        tab, asked = opened(), []
        tab.on("request", lambda request: asked.append(request) if request.url.endswith("/draw") else None)
        tab.evaluate(
            "() => { const one = document.getElementById('walk-0'); for (let i = -60; i <= 60; i += 1) "
            "{ one.value = i / 20; one.dispatchEvent(new Event('input')); } }"
        )
        until(tab, "Number(document.body.dataset.drawn) >= 3")
        assert len(asked) == 2
        assert pixels(tab, "face") == ask(client, wishes=[0, 0, -1, 0, 0, 0, 0, 0], walk=[3.0, 0, 0])["face"]

    def test_server_away_and_back(self, opened):
        tab = opened()
        tab.route("**/draw", lambda route: route.fulfill(status=502, body="bad gateway", content_type="text/html"))
        tab.click("#another")
        tab.wait_for_selector("#problem:visible:has-text('Something went wrong')")
        tab.unroute("**/draw")
        tab.click("#another")
        tab.wait_for_selector("#problem", state="hidden")

    def test_narrow_touch_screen_in_korean_and_the_dark(self, opened):
        tab = opened("?lang=ko", viewport={"width": 360, "height": 700}, has_touch=True, color_scheme="dark")
        assert (tab.title(), tab.locator("html").get_attribute("lang")) == ("아무도 아닌 얼굴", "ko")
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
        labels = tab.locator(".slider label").all_text_contents()
        assert len(labels) == 11 and all(any("가" <= letter <= "힣" for letter in text) for text in labels), labels

    def test_keyboard_alone(self, opened):
        tab = opened()
        for expected in ("another", "reset", "wishes-0"):
            tab.keyboard.press("Tab")
            assert tab.evaluate("document.activeElement.id") == expected
        before = pixels(tab, "face")
        drawn = int(tab.get_attribute("body", "data-drawn"))
        tab.keyboard.press("End")
        until(tab, f"Number(document.body.dataset.drawn) > {drawn}")
        assert tab.input_value("#wishes-0") == "1" and pixels(tab, "face") != before
