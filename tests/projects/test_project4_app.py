"""Project 4's page: the API and its limits, many at once, and a real browser."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from projects.sentiment_world import plain_judge
from projects.serving import (
    asked_from_elsewhere,
    check_both_languages_say_the_same,
    check_only_this_computers_names,
    check_refused,
    check_takes_nothing_from_elsewhere,
    serving,
    unserved,
    until_held,
    visits,
)

from project4_sentiment import app as page
from project4_sentiment.words import HEAD, TAIL
from utils import paths
from utils.lesson import LessonError

ABOUT = {"source": "sample: a toy world", "accuracy": 0.9, "seed": 0}
MARKUP = '<img src=x onerror="document.title=1"><script>document.title = 1</script><b>superb</b>'


@pytest.fixture(scope="module")
def judge():
    return plain_judge()


@pytest.fixture(scope="module")
def address(judge):
    """A real server on a free port of this computer."""
    with serving(page.create_app(judge, ABOUT)) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


def ask(client: httpx.Client, text: str) -> dict:
    response = client.post("/judge", content=json.dumps({"text": text}))
    assert response.status_code == 200
    return response.json()


class TestAnswers:
    @pytest.mark.parametrize(
        "text", ["superb plot!", "The plot, awful", "the", "плохо 👍", "half \ud83d superb", MARKUP, "훌륭\n영화"]
    )
    def test_says_what_the_network_says(self, client, judge, text):
        answer, verdict = ask(client, text), judge.judge(text)
        assert (answer["kind"], answer["words"], answer["known"]) == (verdict.kind, verdict.words, verdict.known)
        assert answer["probability"] == pytest.approx(verdict.probability, abs=1e-6)
        assert [(piece["text"], piece["kind"]) for piece in answer["pieces"]] == [
            (piece.text, piece.kind) for piece in verdict.pieces
        ]
        assert [piece["strength"] for piece in answer["pieces"]] == pytest.approx([piece.strength for piece in verdict.pieces])

    @pytest.mark.parametrize(
        ("text", "kind"), [("superb " * 14_300, "praise"), ("x" * 100_000, "unknown"), ("엄청" * 17_000, "unknown")]
    )
    def test_hundred_kilobytes_are_read_at_both_ends(self, client, text, kind):
        answer = ask(client, text)
        assert answer["kind"] == kind and answer["read"] == HEAD + TAIL < answer["words"]
        assert len(json.dumps(answer)) < 60_000

    def test_health_says_what_it_was_trained_on(self, client):
        told = client.get("/health").json()
        assert told["status"] == "ok" and told["source"] == ABOUT["source"] and (told["head"], told["tail"]) == (HEAD, TAIL)

    def test_page_takes_nothing_from_elsewhere(self, client):
        check_takes_nothing_from_elsewhere(client.get("/"))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=30)


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b'{"text": ', 415, "unreadable"),
            (b"\xff\xfe\x00", 415, "unreadable"),
            (b"[" * 40_000, 415, "unreadable"),
            (b"[]", 415, "unreadable"),
            (b"{}", 415, "unreadable"),
            (b"7", 415, "unreadable"),
            (b'{"text": 7}', 415, "unreadable"),
            (b'{"text": ["a"]}', 415, "unreadable"),
            (b'{"text": ""}', 422, "blank"),
            (b'{"text": " \\n\\u3000"}', 422, "blank"),
            (b"x" * (page.MOST_BYTES + 1), 413, "too_large"),
        ],
    )
    def test_one_sentence_for_each(self, client, body, status, kind):
        response = client.post("/judge", content=body)
        check_refused(response, status, kind)
        assert ask(client, "superb")["kind"] == "praise"  # and it goes on

    def test_large_body_without_a_length_is_refused_too(self, client):
        response = client.post("/judge", content=(b"x" * 10_000 for _ in range(40)))
        assert response.json()["kind"] == "too_large"

    def test_other_methods_and_names(self, client):
        assert client.get("/judge").status_code == 405
        assert client.get("/docs").status_code == 404
        check_only_this_computers_names(client)

    def test_twenty_at_once_each_get_their_own_answer(self, client, judge):
        texts = [f"superb {'plot ' * number}" for number in range(20)]
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda text: ask(client, text), texts))
        assert [answer["probability"] for answer in answers] == pytest.approx([judge.judge(text).probability for text in texts])
        assert len({answer["probability"] for answer in answers}) == 20

    def test_command_puts_it_together(self, judge, monkeypatch, capsys):
        monkeypatch.setattr(page, "load_judge", lambda *_: (judge, ABOUT))
        app, said = unserved(monkeypatch, page.main, device="cpu"), capsys.readouterr().out
        assert ABOUT["source"] in said and "90.00%" in said
        assert asked_from_elsewhere(app).status_code == 200  # open to the network: any name is its name

    def test_command_says_to_train_first(self):
        assert not (paths.models("project4_sentiment") / "model.pt").exists()
        with pytest.raises(LessonError, match="python -m study run sentiment"):
            page.main(device="cpu", port=0)


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture
def opened(browser, address):
    """Open the page as one reader sees it; whatever the browser complains about, but for refused texts, fails the test."""
    with visits(browser, address, ready="#trained:not(:empty)") as open_page:
        yield open_page


def judge_text(tab, text: str, verdict: str) -> None:
    """Type a review, send it, and wait for the verdict."""
    tab.fill("#text", text)
    tab.click("#send")
    tab.wait_for_selector(f"#verdict:text-is('{verdict}')")


class TestBrowser:
    def test_verdict_and_the_words_that_made_it(self, opened, judge):
        tab = opened()
        judge_text(tab, "The superb plot, the awful plot!", "I cannot tell")
        judge_text(tab, "The superb plot!", "Praise")
        verdict = judge.judge("The superb plot!")
        assert f"{100 * verdict.probability:.1f}%" in tab.inner_text("#sure")
        assert tab.inner_text("#marked") == "The superb plot!"
        best = max(verdict.pieces, key=lambda piece: piece.strength)
        assert tab.inner_text("#strongest li >> nth=0").split("\n")[0] == best.text == "superb"
        assert (
            tab.inner_text("#strongest .value >> nth=0")
            == f"+{best.strength:.2f}"
            == tab.get_attribute("#marked .praise >> nth=0", "title")
        )
        assert tab.locator("#marked .complaint").first.inner_text() == "The"
        judge_text(tab, "awful плохо", "Complaint")
        assert tab.inner_text("#marked .unknown") == "плохо" and "1 of 2 words are unknown" in tab.inner_text("#notes")
        tab.wait_for_selector("#spoken:has-text('Complaint, probability')", state="attached")

    def test_markup_is_shown_and_never_executed(self, opened):
        tab = opened()
        judge_text(tab, MARKUP.replace("superb", "superb " * 30), "Praise")
        assert "onerror=" in tab.inner_text("#marked") and tab.title() == "Praise or complaint?"
        assert tab.locator("#answer img, #answer b:not(#scale b), #answer script").count() == 0

    def test_what_cannot_be_judged_is_one_sentence(self, opened):
        tab = opened("?lang=ko")
        for text, told in (("", "내용이 없습니다"), (" \n ", "내용이 없습니다"), ("한" * 110_000, "너무 깁니다")):
            tab.evaluate("text => { document.querySelector('#text').value = text; }", text)
            tab.click("#send")
            tab.wait_for_selector(f"#problem:visible:has-text('{told}')")
        for text in ("плохой фильм", "👍👍", "\\ud83d"):
            tab.evaluate(f"document.querySelector('#text').value = JSON.parse('\"{text}\"')")
            tab.click("#send")
            tab.wait_for_selector("#sure:has-text('0개만 알아서')")
            assert tab.inner_text("#verdict") == "판단할 수 없습니다" and tab.locator("#problem").is_hidden()
        judge_text(tab, "훌륭 " * 12_000, "긍정")
        assert "12,000개 가운데 앞 100개와 뒤 200개만" in tab.inner_text("#notes")

    def test_earlier_answer_does_not_come_over_a_later_one(self, opened):
        tab, held = opened(), []
        tab.route("**/judge", lambda route: held.append(route))
        for number, text in enumerate(("superb", "awful")):
            tab.fill("#text", text)
            tab.press("#text", "Control+Enter")
            until_held(tab, held, number + 1)
        held[1].continue_()
        tab.wait_for_selector("#verdict:text-is('Complaint')")
        held[0].continue_()
        tab.wait_for_timeout(150)
        assert tab.inner_text("#verdict") == "Complaint"

    def test_narrow_touch_screen_in_korean_and_the_dark(self, opened):
        tab = opened("?lang=ko", viewport={"width": 360, "height": 700}, has_touch=True, color_scheme="dark")
        assert (tab.title(), tab.locator("html").get_attribute("lang")) == ("칭찬일까요, 불평일까요?", "ko")
        assert tab.locator("#sample").is_visible()
        tab.fill("#text", "훌륭 " + "x" * 200)
        tab.tap("#send")
        tab.wait_for_selector("#verdict:text-is('판단할 수 없습니다')")
        assert tab.evaluate("document.querySelector('#verdict').getBoundingClientRect().top < innerHeight")
        assert all(re.search("[가-힣]", text) for text in tab.locator("[data-text]").all_text_contents())
        assert tab.evaluate("document.documentElement.scrollWidth") == 360

    def test_keyboard_alone(self, opened):
        tab = opened()
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "text"
        tab.keyboard.type("superb")
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#verdict:text-is('Praise')")
        tab.keyboard.press("Tab")
        tab.keyboard.press("Space")  # clears
        assert tab.input_value("#text") == "" and tab.locator("#why").is_hidden()
        assert tab.evaluate("document.activeElement.id") == "text"
