"""What the tests of the projects' pages share: a real server, and pictures to send to it."""

import contextlib
import io
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from utils import web


@contextlib.contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve an application on a port of this computer, 0 for a free one, and say at which address."""
    with web.listen("127.0.0.1", port) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@contextlib.contextmanager
def visits(browser, address: str, ready: str, refused: str = "(?!)") -> Iterator[Callable]:
    """Yield a function that opens a page as one reader sees it: open_page("?lang=ko", viewport={...}) returns the tab.

    Whatever the browser complains about in the end fails the test.

    Args:
        browser: Who opens it, unless open_page(browser=...) says otherwise.
        address: Where it is, unless open_page(address=...) says otherwise.
        ready: Selector of what is there when the page has come.
        refused: Complaints with this in them are expected (a regular expression).
    """
    complaints, contexts = [], []

    def open_page(query: str = "", browser=browser, address: str = address, **settings):
        contexts.append(browser.new_context(**{"viewport": {"width": 1000, "height": 900}, "locale": "en-US", **settings}))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(20_000)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(f"{address}/{query}")
        tab.wait_for_selector(ready)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not re.search(refused, text)] == []


def until(tab, expression: str) -> None:
    """Wait until a JavaScript expression is true. (Playwright's own wait_for_function needs eval, which the pages forbid.)"""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(30)
    pytest.fail(f"never came true: {expression}")


def check_takes_nothing_from_elsewhere(response: httpx.Response) -> None:
    """A page that "/" answered with runs its own script and style only, and asks nobody but its own server."""
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy, policy
    assert len(re.findall("'sha256-", policy)) == 4, policy  # the shared style and script, and its own
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", response.text))
    assert addresses == {"http://www.w3.org"}, addresses  # the name of SVG's vocabulary; nothing is fetched from there
    for risk in ("innerHTML", "insertAdjacentHTML"):  # what somebody typed would become part of the page
        assert risk not in response.text, risk


def check_both_languages_say_the_same(page: Path, more_than: int) -> None:
    """A page has the same words in English as in Korean, in the same order, and more than so many."""
    text = page.read_text(encoding="utf-8")
    english, korean = (text.split(f"\n  {language}: {{")[1].split("\n  },")[0] for language in ("en", "ko"))
    names = [re.findall(r"(?:^|,) *(\w+): (?=[\"(])", part, re.MULTILINE) for part in (english, korean)]
    assert len(names[0]) > more_than, names[0]
    assert names[0] == names[1], set(names[0]) ^ set(names[1])
