"""Project 8's page: the API and its limits, many at once, and a real browser."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from projects.recommender_world import MARKUP, plain_recommender
from projects.serving import (
    asked_from_elsewhere,
    check_both_languages_say_the_same,
    check_only_this_computers_names,
    check_refused,
    check_takes_nothing_from_elsewhere,
    serving,
    unserved,
    until,
    until_held,
    visits,
)

from project8_recommender import app as page
from utils import paths
from utils.lesson import LessonError

ABOUT = {"source": "sample: a toy world", "rmse": 0.8}


@pytest.fixture(scope="module")
def recommender():
    return plain_recommender()


@pytest.fixture(scope="module")
def address(recommender):
    """A real server on a free port of this computer."""
    with serving(page.create_app(recommender, ABOUT)) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


def ask(client: httpx.Client, *ratings: tuple[int, float]) -> list[dict]:
    response = client.post("/recommend", content=json.dumps({"ratings": ratings}))
    assert response.status_code == 200, response.text
    return response.json()["recommended"]


class TestAnswers:
    @pytest.mark.parametrize("ratings", [[(0, 5)], [(0, 5), (7, 1)], [(3, 2.5), (9, 4), (12, 1)]])
    def test_recommends_what_the_model_recommends(self, client, recommender, ratings):
        answer, expected = ask(client, *ratings), recommender.recommend(ratings, page.COUNT)
        assert [one["film"] for one in answer] == [one.film for one in expected] and len(answer) <= page.COUNT
        for told, one in zip(answer, expected, strict=True):
            assert told["reasons"] == pytest.approx(one.reasons) and told["stars"] == pytest.approx(one.stars)
            assert told["raters"] == recommender.counts[one.film] and len(told["reasons"]) == len(ratings)

    def test_films_come_with_the_best_known_first(self, client, recommender):
        told = client.get("/films").json()
        assert [one["film"] for one in told["films"]] == list(range(13)) and told["most"] == 200
        assert told["films"][1] == {
            "film": 1,
            "title": {"en": "Beta", "ko": "나"},
            "year": 1991,
            "genres": {"en": "plus", "ko": "더하기"},
        }

    def test_health_says_what_it_was_trained_on(self, client):
        told = client.get("/health").json()
        assert told["status"] == "ok" and (told["source"], told["rmse"]) == (ABOUT["source"], ABOUT["rmse"])

    def test_page_takes_nothing_from_elsewhere(self, client):
        check_takes_nothing_from_elsewhere(client.get("/"))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=25)


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b'{"ratings": [[0, 5]', 415, "unreadable"),
            (b"\xff\xfe\x00", 415, "unreadable"),
            (b"[" * 15_000, 415, "unreadable"),
            (b"[]", 415, "unreadable"),
            (b"{}", 415, "unreadable"),
            (b'{"ratings": 7}', 415, "unreadable"),
            (b'{"ratings": [[0]]}', 415, "unreadable"),
            (b'{"ratings": [[0, 5, 5]]}', 415, "unreadable"),
            (b'{"ratings": [["0", 5]]}', 415, "unreadable"),
            (b'{"ratings": [[0.0, 5]]}', 415, "unreadable"),
            (b'{"ratings": [[true, 5]]}', 415, "unreadable"),
            (b'{"ratings": [[0, null]]}', 415, "unreadable"),
            (b'{"ratings": [[0, 1' + b"0" * 400 + b"]]}", 415, "unreadable"),
            (b'{"ratings": []}', 422, "empty"),
            (b'{"ratings": [[0, 6]]}', 422, "scale"),
            (b'{"ratings": [[0, -1]]}', 422, "scale"),
            (b'{"ratings": [[0, NaN]]}', 422, "scale"),
            (b'{"ratings": [[0, 1e999]]}', 422, "scale"),
            (b'{"ratings": [[13, 5]]}', 422, "unknown"),
            (b'{"ratings": [[-1, 5]]}', 422, "unknown"),
            (b'{"ratings": [[1' + b"0" * 400 + b", 5]]}", 422, "unknown"),
            (b'{"ratings": [[0, 5], [0, 4]]}', 422, "twice"),
            (json.dumps({"ratings": [[0, 5]] * 201}).encode(), 422, "too_many"),
            (b"x" * (page.MOST_BYTES + 1), 413, "too_large"),
        ],
    )
    def test_one_sentence_for_each(self, client, body, status, kind):
        response = client.post("/recommend", content=body)
        check_refused(response, status, kind)
        assert len(ask(client, (0, 5))) == page.COUNT  # and it goes on

    def test_other_methods_and_names(self, client):
        assert client.get("/recommend").status_code == 405
        assert client.get("/docs").status_code == 404
        check_only_this_computers_names(client, "/films")

    def test_twenty_at_once_each_get_their_own_answer(self, client, recommender):
        asked = [[(film, stars), (7, 1.5)] for film in (0, 1, 2, 3) for stars in (1, 2, 3, 4, 5)]
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda ratings: ask(client, *ratings), asked))
        for answer, ratings in zip(answers, asked, strict=True):
            assert answer[0]["reasons"] == pytest.approx(recommender.recommend(ratings)[0].reasons)

    def test_command_puts_it_together(self, recommender, monkeypatch, capsys):
        monkeypatch.setattr(page, "load_recommender", lambda *_: (recommender, ABOUT))
        app, said = unserved(monkeypatch, page.main), capsys.readouterr().out
        assert ABOUT["source"] in said and "0.800 stars" in said
        assert asked_from_elsewhere(app).status_code == 200  # open to the network: any name is its name

    def test_command_says_to_train_first(self):
        assert not (paths.models("project8_recommender") / "model.pt").exists()
        with pytest.raises(LessonError, match="python -m study run recommender"):
            page.main(port=0)


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture
def opened(browser, address):
    """Open the page as one reader sees it; whatever the browser complains about fails the test."""
    with visits(browser, address, ready="#trained:not(:empty)", refused="ERR_CONNECTION|status of 422") as open_page:
        yield open_page


def rate(tab, title: str, stars: int) -> None:
    """Give a film its stars."""
    tab.check(f"#films li:has(b:text-matches('^{title} ')) input >> nth={stars - 1}", force=True)


def numbers(tab, selector: str) -> list[float]:
    return [float(text.replace("−", "-").lstrip("★ ")) for text in tab.locator(selector).all_inner_texts()]


class TestBrowser:
    def test_stars_bring_films_and_their_reasons(self, opened, recommender):
        tab = opened()
        assert "Rate one film" in tab.inner_text("#told") and tab.locator("#recommended > li").count() == 0
        rate(tab, "Alpha", 5)
        tab.wait_for_selector("#told:text-is('From one rating.')")
        rate(tab, "Eta", 2)
        tab.wait_for_selector("#told:text-is('From 2 ratings.')")
        expected = recommender.recommend([(0, 5), (6, 2)], page.COUNT)
        assert tab.locator("#recommended > li .head b").all_inner_texts() == [recommender.name(one.film) for one in expected]
        assert numbers(tab, "#recommended .value") == pytest.approx([one.stars for one in expected], abs=0.051)
        first = sorted(expected[0].reasons, key=abs, reverse=True)
        assert numbers(tab, "#recommended > li >> nth=0 >> .share") == pytest.approx(first, abs=0.0051)
        assert tab.inner_text("#recommended .name >> nth=0") == "Alpha ★5"
        assert tab.inner_text("#mine") == "Only those I rated (2)"

    def test_stars_can_be_changed_and_taken_back(self, opened):
        tab = opened()
        rate(tab, "Alpha", 5)
        tab.wait_for_selector("#recommended b:text-is('Beta (1991)')")
        rate(tab, "Alpha", 1)
        tab.wait_for_selector("#recommended b:text-is('Theta (1997)')")
        assert tab.locator("#films li >> nth=0 >> label.on").count() == 1
        tab.click("#films button[aria-label='Take back the rating of Alpha']")
        tab.wait_for_selector("#recommended:empty", state="attached")
        assert "Rate one film" in tab.inner_text("#told") and tab.locator("#films label.on").count() == 0

    def test_more_than_three_reasons_are_added_up(self, opened, recommender):
        tab = opened()
        ratings = [("Alpha", 0, 5), ("Gamma", 2, 4), ("Delta", 3, 4), ("Eta", 6, 1), ("Iota", 8, 2)]
        for title, _, stars in ratings:
            rate(tab, title, stars)
        tab.wait_for_selector("#told:text-is('From 5 ratings.')")
        (one, *_) = recommender.recommend([(film, stars) for _, film, stars in ratings])
        assert tab.inner_text("#recommended > li >> nth=0 >> .name >> nth=3") == "2 other ratings"
        assert sum(numbers(tab, "#recommended > li >> nth=0 >> .share")) == pytest.approx(sum(one.reasons), abs=0.021)

    def test_search_in_either_language_and_only_mine(self, opened):
        tab = opened()
        tab.fill("#search", "eta")
        assert tab.locator("#films b").all_inner_texts() == [
            "Beta (1991)",
            "Zeta (1995)",
            "Eta (1996)",
            "Theta (1997)",
            "Beta (2001)",
        ]
        rate(tab, "Zeta", 4)
        tab.fill("#search", "드묾")
        assert tab.locator("#films b").all_inner_texts() == ["Rare (2002)"]
        tab.fill("#search", "no such film")
        assert tab.inner_text("#films") == "No film has this in its title."
        tab.fill("#search", "")
        tab.click("#mine")
        assert tab.locator("#films b").all_inner_texts() == ["Zeta (1995)"]
        assert tab.get_attribute("#mine", "aria-pressed") == "true"
        tab.click("#clear")
        assert tab.locator("#films b").count() == 13 and tab.locator("#films label.on").count() == 0
        assert tab.evaluate("document.activeElement.id") == "search"

    def test_markup_in_a_title_is_shown_and_never_executed(self, opened):
        tab = opened()
        rate(tab, "Alpha", 5)
        tab.wait_for_selector("#recommended > li")
        assert MARKUP in tab.inner_text("#films") and MARKUP in tab.inner_text("#recommended")
        assert tab.locator("img").count() == 0 and tab.title() == "What to watch next"

    def test_server_away_and_back(self, opened, address):
        tab = opened()
        tab.route("**/recommend", lambda route: route.abort("connectionrefused"))
        rate(tab, "Alpha", 5)
        tab.wait_for_selector("#problem:visible:has-text('The server does not answer')")
        tab.unroute("**/recommend")
        rate(tab, "Gamma", 4)
        tab.wait_for_selector("#told:text-is('From 2 ratings.')")
        assert tab.locator("#problem").is_hidden() and tab.locator("#recommended > li").count() == page.COUNT

    def test_what_the_server_refuses_is_one_sentence(self, opened):
        tab = opened("?lang=ko")
        tab.evaluate("rated.set(99, 5)")
        rate(tab, "가", 5)
        tab.wait_for_selector("#problem:visible:text-is('서버가 모르는 영화입니다. 페이지를 새로 고치세요.')")
        assert tab.locator("#recommended > li").count() == 0
        tab.evaluate("rated.delete(99); mostBytes = 3")
        rate(tab, "나", 5)
        tab.wait_for_selector("#problem:visible:has-text('별점이 너무 많습니다')")

    def test_earlier_answer_does_not_come_over_a_later_one(self, opened):
        tab, held = opened(), []
        tab.route("**/recommend", lambda route: held.append(route))
        for number, stars in enumerate((5, 1)):
            rate(tab, "Alpha", stars)
            until_held(tab, held, number + 1)
        held[1].continue_()
        tab.wait_for_selector("#recommended b:text-is('Theta (1997)')")
        held[0].continue_()
        tab.wait_for_timeout(150)
        assert tab.inner_text("#recommended b >> nth=0") == "Eta (1996)"

    def test_narrow_touch_screen_in_korean_and_the_dark(self, opened):
        tab = opened("?lang=ko", viewport={"width": 360, "height": 700}, has_touch=True, color_scheme="dark")
        assert (tab.title(), tab.locator("html").get_attribute("lang")) == ("다음에 뭘 볼까요?", "ko")
        assert tab.locator("#sample").is_visible()
        tab.tap("#films li:has-text('가 (') label >> nth=4")
        tab.wait_for_selector("#told:text-is('별점 1개로 추천했습니다.')")
        assert "모두에게는 3.0점(49명이 평가)" in tab.inner_text("#recommended > li >> nth=0")
        assert all(re.search("[가-힣]", text) for text in tab.locator("[data-text]").all_text_contents())
        assert tab.evaluate("document.documentElement.scrollWidth") == 360

    def test_keyboard_alone(self, opened):
        tab = opened()
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "search"
        tab.keyboard.press("Tab")
        tab.keyboard.press("Space")  # one star
        tab.wait_for_selector("#recommended b:text-is('Theta (1997)')")
        for _ in range(4):
            tab.keyboard.press("ArrowRight")
        until(tab, "document.querySelectorAll('#films li:first-child label.on').length === 5")
        tab.wait_for_selector("#recommended b:text-is('Beta (1991)')")
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")  # takes it back
        tab.wait_for_selector("#recommended:empty", state="attached")
