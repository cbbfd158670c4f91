"""What the tests of the projects' pages share: a real server, pictures to send to it, tabs, and what holds for every page."""

import asyncio
import contextlib
import io
import re
import struct
import subprocess
import sys
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

from study.processes import child_environment
from utils import paths, web


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


@contextlib.contextmanager
def command_of(program: str) -> Iterator[tuple[subprocess.Popen, str, str]]:
    """Run an app.py in a process of its own; yield the process, the address of its page, and what it said until it was there."""
    command = [sys.executable, program, "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=child_environment(paths.ROOT)
    ) as process:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("stop"):
                break
        yield process, re.search(r"http://127\.0\.0\.1:\d+", said)[0], said


def unserved(monkeypatch: pytest.MonkeyPatch, main: Callable, **settings) -> FastAPI:
    """Run a page's `main` for the whole network, and return the application that it would serve."""
    served = []
    monkeypatch.setattr(web, "serve", lambda app, listening, host: served.append((app, listening.getsockname()[1], host)))
    main(host="0.0.0.0", port=0, **settings)
    app, port, host = served[0]
    assert port > 0 and host == "0.0.0.0"
    return app


def asked_from_elsewhere(app: FastAPI, method: str = "GET", path: str = "/health", **settings) -> httpx.Response:
    """What an application answers to who comes by another name than this computer's own; without a network."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://classroom.example") as client:
            return await client.request(method, path, **settings)

    return asyncio.run(ask())


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


def until_held(tab, held: list, count: int) -> None:
    """Wait until so many requests are held back in a list; the page goes on meanwhile."""
    end = time.monotonic() + 30
    while len(held) < count:
        assert time.monotonic() < end, f"{len(held)} came, not {count}"
        tab.wait_for_timeout(30)


def check_refused(response: httpx.Response, status: int, kind: str) -> None:
    """What cannot be answered is told in one sentence, and its kind in one word."""
    assert (response.status_code, response.json()["kind"]) == (status, kind)
    assert 10 < len(response.json()["error"]) < 150 and "\n" not in response.json()["error"]


def check_only_this_computers_names(client: httpx.Client, path: str = "/health") -> None:
    """Neither another name for this computer nor a page from elsewhere gets an answer out of the server."""
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 400
    assert "access-control-allow-origin" not in client.get(path, headers={"Origin": "https://evil.example"}).headers


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
