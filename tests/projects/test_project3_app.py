"""Project 3's page: the stream and its limits, readers in line, replies that are stopped, and a real browser."""

import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from projects.serving import (
    asked_from_elsewhere,
    check_both_languages_say_the_same,
    check_only_this_computers_names,
    check_refused,
    check_takes_nothing_from_elsewhere,
    command_of,
    serving,
    unserved,
)
from projects.test_project3_chat import BYTES, TRICKY, load_saved, said, tiny_bot

from project3_chatbot import app as page
from project3_chatbot.chat import Bot, Settings
from utils.lesson import LessonError


def events(lines) -> list[tuple[str, dict]]:
    """Server-sent events out of lines of text."""
    found, name = [], ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def ask(address: str, *texts: str, **settings) -> list[tuple[str, dict]]:
    """Send a conversation, and wait for all that comes back."""
    response = httpx.post(f"{address}/reply", content=json.dumps({"messages": said(*texts), **settings}), timeout=60)
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/event-stream")
    return events(response.text.splitlines())


def text_of(found: list[tuple[str, dict]]) -> str:
    return "".join(data["text"] for name, data in found if name == "piece")


def until(condition, seconds: float = 20) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def bot() -> Bot:
    return tiny_bot()


@pytest.fixture(scope="module")
def address(bot):
    """A real server on a free port of this computer."""
    with serving(page.create_app(bot)) as address:
        yield address


@pytest.fixture
def endless() -> Bot:
    """A bot that goes on until it is stopped, 50 tokens a second at most."""
    bot = tiny_bot(max_length=2000, stops=False)
    bot.model.pause = 0.02
    return bot


@pytest.fixture
def endless_address(endless):
    with serving(page.create_app(endless, most_waiting=3)) as address:
        yield address


class TestStream:
    def test_says_what_the_bot_says(self, address, bot):
        found = ask(address, "Hello there", temperature=0.9, seed=4)
        assert text_of(found) == "".join(bot.reply(said("Hello there"), Settings(temperature=0.9, seed=4))) != ""
        assert {name for name, _ in found[:-1]} == {"piece"}
        name, end = found[-1]
        assert name == "end" and end["tokens"] == len(text_of(found)) and 0 < end["first"] and end["per_second"] > 0
        assert not end["cut"]

    @pytest.mark.parametrize("text", [*TRICKY, "line\nbreaks\r\n\n\nevent: end\ndata: {}"])
    def test_whatever_is_said_comes_whole(self, text):
        bot = tiny_bot(BYTES)
        with serving(page.create_app(bot)) as address:
            found = ask(address, text, temperature=1.2)
        assert text_of(found) == "".join(bot.reply(said(text), Settings(temperature=1.2)))
        assert [name for name, _ in found].count("end") == 1

    def test_comes_while_it_is_written(self, endless, endless_address):
        with httpx.stream("POST", f"{endless_address}/reply", json={"messages": said("Hi")}, timeout=20) as response:
            assert next(response.iter_lines()) == "event: piece"
            assert endless.model.calls < 20
        assert response.headers["cache-control"] == "no-store"

    def test_says_that_it_was_cut(self, endless, endless_address):
        endless.model.pause = 0
        name, end = ask(endless_address, "Hi")[-1]
        assert (name, end["tokens"], end["cut"]) == ("end", 256, True)

    def test_next_turn_reads_only_what_is_new(self, bot, address):
        long = "The same long beginning of a conversation, again and again and again."
        first = text_of(ask(address, long))
        before = bot.model.read
        end = ask(address, long, first, "And now?")[-1][1]
        assert bot.model.read - before < 30 + end["tokens"]  # the question and special tokens; the last token as well

    def test_model_that_fails_is_told(self, endless, endless_address, monkeypatch):
        def fail(*_):
            raise RuntimeError("")

        with monkeypatch.context() as patch:
            patch.setattr(endless.model, "states", fail)
            with httpx.stream("POST", f"{endless_address}/reply", json={"messages": said("Hi")}, timeout=20) as response:
                lines = []
                with pytest.raises(httpx.RemoteProtocolError):  # the connection ends without an end
                    for line in response.iter_lines():
                        lines.append(line)
        assert events(lines) == [("error", {"error": "the model failed: RuntimeError", "kind": "other"})]
        endless.model.pause = 0
        assert ask(endless_address, "Hi")[-1][0] == "end"  # and it goes on

    def test_health_says_which_model_answers(self, address):
        told = httpx.get(f"{address}/health").json()
        assert told == {"status": "ok", "name": "own", "source": "sample: noise", "most_bytes": page.MOST_BYTES}

    def test_page_takes_nothing_from_elsewhere(self, address):
        check_takes_nothing_from_elsewhere(httpx.get(address))

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=30)


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b'{"messages": [', 415, "unreadable"),
            (b"\xff\xfe\x00", 415, "unreadable"),
            (b"[" * 40_000, 415, "unreadable"),
            (b"[]", 415, "unreadable"),
            (b"7", 415, "unreadable"),
            (b"{}", 415, "unreadable"),
            (b'{"messages": []}', 415, "unreadable"),
            (b'{"messages": [7]}', 415, "unreadable"),
            (b'{"messages": [{"role": "user"}]}', 415, "unreadable"),
            (b'{"messages": [{"role": "user", "content": 7}]}', 415, "unreadable"),
            (b'{"messages": [{"role": "system", "content": "Hi"}]}', 415, "unreadable"),
            (json.dumps({"messages": said("Hi", "Oh")}).encode(), 415, "unreadable"),
            (json.dumps({"messages": said("Hi"), "temperature": "warm"}).encode(), 415, "unreadable"),
            (json.dumps({"messages": said("Hi"), "temperature": float("nan")}).encode(), 415, "unreadable"),
            (json.dumps({"messages": said("Hi"), "temperature": -1}).encode(), 415, "unreadable"),
            (json.dumps({"messages": said("Hi"), "temperature": True}).encode(), 415, "unreadable"),
            (json.dumps({"messages": said("Hi"), "seed": 2**63}).encode(), 415, "unreadable"),
            (json.dumps({"messages": said(" \n ")}).encode(), 422, "blank"),
            (json.dumps({"messages": said("x" * 100_000)}).encode(), 413, "too_large"),
            (json.dumps({"messages": said("x" * 40_000)}).encode(), 422, "too_long"),
        ],
    )
    def test_one_sentence_for_each(self, address, body, status, kind):
        response = httpx.post(f"{address}/reply", content=body, timeout=20)
        check_refused(response, status, kind)
        assert ask(address, "Hi")[-1][0] == "end"  # and it goes on

    def test_large_body_without_a_length_is_refused_too(self, address):
        response = httpx.post(f"{address}/reply", content=(b"x" * 1000 for _ in range(100)), timeout=20)
        assert response.json()["kind"] == "too_large"

    def test_other_methods_and_addresses(self, address):
        assert httpx.get(f"{address}/reply").status_code == 405
        assert httpx.get(f"{address}/docs").status_code == 404
        with httpx.Client(base_url=address) as client:
            check_only_this_computers_names(client)


class TestLine:
    def test_twenty_at_once_are_answered_in_order_without_mixing(self, bot, address):
        texts = [f"I am number {number} of twenty" for number in range(20)]
        alone = {text: "".join(bot.reply(said(text), Settings(seed=1))) for text in texts}
        assert len(set(alone.values())) == 20
        bot.model.pause = 0.002
        ended = []

        def one(text: str) -> list[tuple[str, dict]]:
            found = ask(address, text, seed=1)
            ended.append(text)
            return found

        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(one, text) for text in texts]
            answers = [future.result() for future in waiting]
        bot.model.pause = 0.0
        assert [text_of(found) for found in answers] == [alone[text] for text in texts]
        told = [[data["place"] for name, data in found if name == "wait"] for found in answers]
        assert all(places == sorted(set(places), reverse=True) for places in told)  # it only becomes less
        assert max(max(places, default=0) for places in told) >= 10

    def test_who_came_first_is_first(self, endless, endless_address):
        order, threads = [], []

        def one(name: str) -> None:
            with httpx.stream("POST", f"{endless_address}/reply", json={"messages": said(name)}, timeout=60) as response:
                for line in response.iter_lines():
                    if line == "event: piece":
                        order.append(name)
                        break

        for name in ("first", "second", "third"):
            threads.append(threading.Thread(target=one, args=(name,)))
            threads[-1].start()
            time.sleep(0.15)
        for thread in threads:
            thread.join()
        assert order == ["first", "second", "third"]

    def test_too_many_are_told_so(self, endless_address):
        url, body = f"{endless_address}/reply", {"messages": said("Hi")}
        streams = [httpx.stream("POST", url, json=body, timeout=20) for _ in range(3)]
        lines = [stream.__enter__().iter_lines() for stream in streams]
        assert [next(each) for each in lines] == ["event: piece", "event: wait", "event: wait"]
        refused = httpx.post(url, json=body, timeout=20)
        assert refused.status_code == 503 and refused.json()["kind"] == "busy" and len(refused.json()["error"]) < 100
        streams[1].__exit__(None, None, None)  # one who waited leaves, and his place is free
        with httpx.stream("POST", url, json=body, timeout=20) as response:
            until(lambda: response.status_code == 200)
        for stream in (streams[0], streams[2]):
            stream.__exit__(None, None, None)

    def test_others_are_heard_while_it_writes(self, endless_address):
        with httpx.stream("POST", f"{endless_address}/reply", json={"messages": said("Hi")}, timeout=20) as response:
            lines = response.iter_lines()
            next(lines)
            assert httpx.get(f"{endless_address}/health", timeout=5).status_code == 200


class TestStop:
    def test_reader_who_leaves_stops_the_model(self, endless, endless_address):
        with httpx.stream("POST", f"{endless_address}/reply", json={"messages": said("Hi")}, timeout=20) as response:
            lines = response.iter_lines()
            while endless.model.calls < 5:
                next(lines)
        left = endless.model.calls
        time.sleep(0.4)
        stopped = endless.model.calls
        assert stopped - left < 10  # of the 251 that were to come
        time.sleep(0.4)
        assert endless.model.calls == stopped
        endless.model.pause = 0
        assert ask(endless_address, "Hi")[-1][0] == "end"  # the line goes on

    def test_reader_who_leaves_the_line_costs_nothing(self, endless, endless_address):
        url = f"{endless_address}/reply"
        with httpx.stream("POST", url, json={"messages": said("Hi")}, timeout=20) as first:
            lines = first.iter_lines()  # kept: a stream is closed with its lines
            next(lines)
            with httpx.stream("POST", url, json={"messages": said("x" * 500)}, timeout=20) as second:
                assert next(second.iter_lines()) == "event: wait"
            read = endless.model.read
        time.sleep(0.3)
        assert endless.model.read - read < 100  # the 500 letters were never read


class TestCommand:
    def test_puts_it_together(self, bot, monkeypatch, capsys):
        monkeypatch.setattr(page, "load_bot", lambda *_: bot)
        app = unserved(monkeypatch, page.main, device="cpu")
        assert "sample: noise" in capsys.readouterr().out
        assert asked_from_elsewhere(app).status_code == 200  # open to the network: any name is its name

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match=r"python -m study run chatbot"):
            page.main(device="cpu", port=0)

    @pytest.mark.skipif(os.name == "nt", reason="Ctrl-C for one process cannot be sent on Windows")
    def test_ctrl_c_ends_it_in_the_middle_of_a_reply(self):
        load_saved(tiny_bot(max_length=2000, stops=False))
        with command_of(page.__file__) as (process, address, _):
            with httpx.stream("POST", f"{address}/reply", json={"messages": said("Hi")}, timeout=20) as response:
                lines = response.iter_lines()
                next(lines)
                process.send_signal(signal.SIGINT)
                _, complaints = process.communicate(timeout=20)
            assert process.returncode == 0 and "Traceback" not in complaints


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture
def opened(browser, address):
    """Open the page as one reader sees it; whatever the browser complains about, but for refused questions, fails the test."""
    complaints, contexts = [], []

    def open_page(query: str = "", at: str = address, context=None, **settings):
        if context is None:
            contexts.append(browser.new_context(**{"viewport": {"width": 1000, "height": 800}, "locale": "en-US", **settings}))
        tab = (context or contexts[-1]).new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: dialog.accept() if dialog.type == "confirm" else complaints.append(dialog.message))
        tab.goto(f"{at}/{query}")
        tab.wait_for_selector("#suggestions button", state="attached")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not re.search("status of (422|503)|ERR_CONNECTION_REFUSED", text)] == []


def say(tab, text: str, wait: bool = True) -> None:
    """Type something and press Enter."""
    tab.fill("#question", text)
    tab.press("#question", "Enter")
    if wait:
        tab.wait_for_selector("#messages:visible")
        tab.wait_for_selector("#stop", state="hidden")


def bubbles(tab) -> list[str]:
    return tab.locator("#messages .text").all_text_contents()


def titles(tab) -> list[str]:
    return tab.locator("#list .open").all_text_contents()


class TestBrowser:
    def test_asks_and_hears(self, opened, bot, monkeypatch):
        """With a seed that is given: an untrained bot now and then has nothing to say."""
        write = type(bot).write
        monkeypatch.setattr(
            type(bot), "write", lambda self, prompt, settings, *rest: write(self, prompt, replace(settings, seed=0), *rest)
        )
        tab, sent = opened(), []
        tab.on("request", lambda request: sent.append(request.post_data_json) if request.url.endswith("/reply") else None)
        assert "sample: noise" in tab.inner_text("#source")
        assert tab.locator("#welcome").is_visible()
        say(tab, "Hello there")
        say(tab, "Go on")
        asked, first, again, second = bubbles(tab)
        assert (asked, again) == ("Hello there", "Go on") and first and second
        assert sent[1]["messages"] == said("Hello there", first, "Go on")
        assert sent[1]["temperature"] == 0.7
        note = tab.locator("#messages .note").last.inner_text()
        assert re.fullmatch(r"own · \d+ tokens · first after [\d.]+ s · [\d.]+ a second", note)
        assert tab.text_content("#spoken") == second  # a screen reader says the whole reply, once
        assert tab.get_attribute("#spoken", "aria-live") == "polite"

    def test_markup_is_never_executed(self, opened, bot, monkeypatch):
        markup = '<img src=x onerror="document.title=1"><script>document.title = 1</script><b>bold</b>'
        monkeypatch.setattr(type(bot), "write", lambda *_: (piece for piece in (markup[:30], markup[30:])))
        tab = opened()
        say(tab, markup)
        assert bubbles(tab) == [markup, markup]
        tab.reload()
        tab.wait_for_selector("#messages li")
        assert bubbles(tab) == [markup, markup] and titles(tab)[0].startswith("<img src=x")
        assert tab.title() == "Talk to it"
        assert tab.locator("#messages img, #messages b, #list img, #messages script").count() == 0

    def test_stop_button_stops_the_model(self, opened, endless, endless_address):
        tab = opened(at=endless_address)
        say(tab, "Hi", wait=False)
        tab.wait_for_selector("#stop:visible")
        until(lambda: len(bubbles(tab)[-1]) > 3)
        assert tab.locator("#messages .writing").count() == 1
        tab.click("#stop")
        tab.wait_for_selector("#send:visible")
        kept, left = bubbles(tab)[-1], endless.model.calls
        tab.wait_for_timeout(500)
        assert endless.model.calls - left < 15
        stopped = endless.model.calls
        tab.wait_for_timeout(400)
        assert endless.model.calls == stopped and bubbles(tab)[-1] == kept
        assert tab.locator("#messages .note").last.inner_text() == "own · stopped"
        say(tab, "Again", wait=False)  # with Esc as well
        until(lambda: len(bubbles(tab)) == 4 and bubbles(tab)[-1])
        tab.keyboard.press("Escape")
        tab.wait_for_selector("#send:visible")

    def test_conversations_stay_apart(self, opened):
        tab = opened()
        say(tab, "First conversation about apples and pears and many other kinds of fruit")
        apples = bubbles(tab)
        tab.click("#new")
        assert tab.locator("#welcome").is_visible()
        say(tab, "Second one")
        assert titles(tab) == ["Second one", "First conversation about apples and pear…"]
        tab.click("#list .open >> nth=1")
        assert bubbles(tab) == apples
        tab.reload()  # and is still there
        tab.wait_for_selector("#messages li")
        assert bubbles(tab) == apples and len(titles(tab)) == 2
        tab.click("#list .delete >> nth=1")
        assert titles(tab) == ["Second one"] and bubbles(tab)[0] == "Second one"
        tab.click("#list .delete")
        assert titles(tab) == ["New conversation"] and tab.locator("#welcome").is_visible()
        tab.reload()
        assert titles(tab) == ["New conversation"]

    def test_reply_goes_on_in_its_own_conversation(self, opened, endless, endless_address):
        tab = opened(at=endless_address)
        endless.model.pause = 0.005
        say(tab, "Long one", wait=False)
        until(lambda: len(bubbles(tab)[-1:]) and len(bubbles(tab)[-1]) > 3)
        tab.click("#new")
        assert tab.locator("#send").is_visible() and tab.locator("#list .writing").count() == 1
        say(tab, "Other", wait=False)
        tab.wait_for_selector("#messages .note:has-text('before yours')")  # it waits for the other one
        tab.wait_for_selector("#send:visible", timeout=30_000)
        assert bubbles(tab)[0] == "Other" and len(bubbles(tab)) == 2
        tab.click("#list .open >> nth=1")
        assert bubbles(tab)[0] == "Long one" and len(bubbles(tab)[1]) == 256
        assert "cut off" in tab.locator("#messages .note").last.inner_text()

    def test_two_tabs(self, opened):
        one = opened()
        other = opened(context=one.context)
        say(one, "From the first tab")
        until(lambda: "From the first tab" in titles(other))
        say(other, "From the second tab")
        until(lambda: len([title for title in titles(one) if title.startswith("From the")]) == 2)
        other.click("#list li:has-text('first') .delete")
        until(lambda: "From the first tab" not in titles(one))

    def test_leaving_the_page_stops_the_model_and_keeps_what_was_said(self, opened, endless, endless_address):
        tab = opened(at=endless_address)
        say(tab, "Hi", wait=False)
        until(lambda: len(bubbles(tab)[-1]) > 3)
        tab.reload()
        tab.wait_for_selector("#messages li")
        left = endless.model.calls
        assert bubbles(tab)[0] == "Hi" and len(bubbles(tab)[1]) > 3
        tab.wait_for_timeout(600)
        assert endless.model.calls - left < 15

    def test_question_that_cannot_be_answered_comes_back(self, opened):
        tab = opened()
        for text, told in (("x" * 2000, "more than the model can read"), ("y" * 60_000, "too long to be sent")):
            say(tab, text, wait=False)
            tab.wait_for_selector(f"#problem:visible:has-text('{told}')")
            assert tab.input_value("#question") == text and tab.locator("#messages li").count() == 0
        say(tab, "Hello")
        assert tab.locator("#problem").is_hidden() and len(bubbles(tab)) == 2

    def test_server_that_went_away(self, opened, bot):
        with serving(page.create_app(bot)) as address:
            tab = opened(at=address)
        say(tab, "Hello?", wait=False)
        tab.wait_for_selector("#problem:visible:has-text('does not answer')")
        assert tab.input_value("#question") == "Hello?"

    def test_long_conversation_is_sent_without_its_beginning(self, opened):
        tab, sent = opened(), []
        many = [text for number in range(60) for text in (f"question {number}", "한" * 400)]
        one = {"id": "long", "changed": 1, "messages": said(*many)}
        tab.evaluate("one => localStorage.setItem('pytorch-study.chatbot/long', JSON.stringify(one))", one)
        for broken in ("{", "null", '{"id": "x", "messages": [7]}', '{"id": "x", "messages": 7}'):
            tab.evaluate("text => localStorage.setItem('pytorch-study.chatbot/' + text, text)", broken)
        tab.reload()
        tab.wait_for_selector("#suggestions button", state="attached")
        tab.click("#list .open >> nth=1")
        tab.on("request", lambda request: sent.append(request.post_data) if request.url.endswith("/reply") else None)
        say(tab, "Go on")
        assert len(sent[0].encode()) <= page.MOST_BYTES
        messages = json.loads(sent[0])["messages"]
        assert messages[0]["role"] == "user" and messages[-1]["content"] == "Go on" and len(messages) < 100
        assert len(bubbles(tab)) == 122 and tab.locator("#problem").is_hidden()

    def test_keyboard(self, opened):
        tab = opened()
        assert tab.evaluate("document.activeElement.id") == "question"
        tab.keyboard.type("one")
        tab.keyboard.press("Shift+Enter")
        tab.keyboard.type("two")
        assert tab.input_value("#question") == "one\ntwo" and tab.locator("#messages li").count() == 0
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#messages li >> nth=1")
        tab.wait_for_selector("#send:visible")
        assert bubbles(tab)[0] == "one\ntwo" and tab.input_value("#question") == ""
        tab.keyboard.press("Enter")  # nothing was typed
        assert tab.locator("#messages li").count() == 2 and tab.locator("#send").is_disabled()

    def test_enter_that_ends_a_syllable_sends_nothing(self, opened):
        tab = opened()
        tab.fill("#question", "안녕")
        tab.evaluate(
            "document.querySelector('#question').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true}))"
        )
        assert tab.locator("#messages li").count() == 0 and tab.input_value("#question") == "안녕"

    def test_temperature_is_sent_and_kept(self, opened):
        tab, sent = opened(), []
        tab.on("request", lambda request: sent.append(request.post_data_json) if request.url.endswith("/reply") else None)
        tab.fill("#temperature", "1.2")
        assert tab.inner_text("#degrees") == "1.2"
        say(tab, "Hello")
        assert sent[0]["temperature"] == 1.2
        tab.reload()
        assert tab.input_value("#temperature") == "1.2"

    def test_suggestion(self, opened):
        tab = opened()
        text = tab.inner_text("#suggestions button >> nth=0")
        tab.click("#suggestions button >> nth=0")
        tab.wait_for_selector("#messages li >> nth=1")
        assert bubbles(tab)[0] == text

    def test_narrow_touch_screen_in_korean_and_the_dark(self, opened):
        tab = opened("?lang=ko", viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True, color_scheme="dark")
        assert (tab.title(), tab.locator("html").get_attribute("lang")) == ("말을 걸어 보세요", "ko")
        say(tab, "아주 " * 40 + "x" * 60)
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
        assert tab.evaluate("document.querySelector('#question').getBoundingClientRect().bottom <= innerHeight")
        assert tab.locator("#side").is_hidden()
        tab.tap("#menu")
        assert tab.locator("#side").is_visible() and tab.get_attribute("#menu", "aria-expanded") == "true"
        tab.tap("#new")
        assert tab.locator("#side").is_hidden() and tab.locator("#welcome").is_visible()
        assert all(re.search("[가-힣]", text) for text in tab.locator("[data-text]").all_text_contents())
        assert tab.evaluate("document.documentElement.scrollWidth") == 360

    def test_browser_that_keeps_nothing(self, browser, address):
        with browser.new_context(locale="en-US") as context:
            context.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }})")
            tab = context.new_page()
            tab.goto(address)
            tab.wait_for_selector("#suggestions button")
            say(tab, "Hello")
            assert len(bubbles(tab)) == 2 and "no room" in tab.inner_text("#problem")
