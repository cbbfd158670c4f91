"""What every page of the course shares: one HTML file and its security headers, one place to listen at, errors in one sentence.

    with listen(host, port) as listening:
        app = create_app("MNIST", Path(__file__).with_name("page.html"), only_this_computer=host in LOOPBACK)

        @app.post("/predict")
        async def predict(request: Request) -> dict:
            return answer(await read_body(request, most_bytes=2_000_000))

        serve(app, listening)

An endpoint raises LessonError where something cannot be done; the page gets {"error": one sentence, "kind": one word} as JSON.
"""

import asyncio
import base64
import errno
import hashlib
import logging
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from utils.lesson import LessonError, check

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")  # the names under which only this computer reaches itself
SHARED = Path(__file__).with_name("page")
STATUS = {"too_large": 413, "unreadable": 415, "busy": 503}  # HTTP status for each `kind` of error; 422 for all others


class RequestError(LessonError):
    """A request that cannot be answered. `kind` says why in one word, for the page to say it in its reader's language."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def create_app(title: str, page: Path, only_this_computer: bool = True, own_scripts: bool = False) -> FastAPI:
    """Make a web application that shows one page at "/" and tells a LessonError as JSON.

    Args:
        title: Its name.
        page: The HTML file, with its script and style inside; see `with_shared`.
        only_this_computer: Refuse requests that came by another name than this computer's own. A page on the internet can make
            its own name point to 127.0.0.1 and then talk to us from the reader's browser (DNS rebinding).
        own_scripts: The page may load scripts from this server as well: what works on sound has to be a file of its own.
    """
    html = with_shared(page.read_text(encoding="utf-8"))
    headers = security_headers(html, own_scripts)
    # Pages of documentation would come from the internet, and there are two or three addresses to document.
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    if only_this_computer:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))

    @app.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    @app.exception_handler(LessonError)
    async def tell(request: Request, error: LessonError) -> JSONResponse:
        kind = getattr(error, "kind", "other")
        return JSONResponse({"error": str(error), "kind": kind}, STATUS.get(kind, 422))

    return app


def with_shared(html: str) -> str:
    """Put what pages share (utils/page/) where a page says <!-- shared style --> and <!-- shared script -->."""
    for tag, file in (("style", "shared.css"), ("script", "shared.js")):
        html = html.replace(f"<!-- shared {tag} -->", f"<{tag}>\n{(SHARED / file).read_text(encoding='utf-8')}</{tag}>")
    return html


def security_headers(html: str, own_scripts: bool = False) -> dict[str, str]:
    """HTTP headers with which a browser takes nothing into the page that is not in the page."""
    return {
        "Content-Security-Policy": content_security_policy(html, own_scripts),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def content_security_policy(html: str, own_scripts: bool = False) -> str:
    """Allow the page's own script and style, by their hash, and nothing from anywhere else; this server's scripts if asked for.

    (https://developer.mozilla.org/docs/Web/HTTP/CSP)
    """
    script, style = (
        " ".join(f"'sha256-{_sha256(text)}'" for text in re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL))
        for tag in ("script", "style")
    )
    script += " 'self'" if own_scripts else ""
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Read what was sent.

    Raises:
        RequestError: It is more than `most_bytes`, or announces more; then it is not read to its end. Or its sender has gone.
    """
    too_large = RequestError("too_large", f"what was sent has more than {most_bytes / 1e6:g} MB; make it smaller first")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise too_large
    content = bytearray()
    try:
        async for chunk in request.stream():  # a body sent in chunks announces nothing
            content += chunk
            if len(content) > most_bytes:
                raise too_large
    except ClientDisconnect:
        raise RequestError("damaged", "the connection ended before what was sent did") from None
    return bytes(content)


def serve_examples(app: FastAPI, pick: Callable[[], list[dict]]) -> None:
    """Answer at "/examples" with what `pick` returns: asked when the first reader comes, as reading a data set takes seconds."""
    only_once = threading.Lock()
    examples: list[dict] = []

    def load_examples() -> list[dict]:
        with only_once:
            if not examples:
                examples.extend(pick())
            return examples

    @app.get("/examples")
    async def show_examples() -> list[dict]:
        return await run_in_threadpool(load_examples)


class InTurn:
    """One thread, and always the same, that does one thing after another: two at once would share the cores, and each come late.

    Args:
        things: What is worked on, as the error calls it.
        most_waiting: So many wait while one is worked on.
    """

    def __init__(self, things: str, most_waiting: int):
        self.thread = ThreadPoolExecutor(max_workers=1)
        self.things, self.most_waiting = things, most_waiting
        self.waiting = 0  # only changed in the server's event loop: no lock is needed

    async def do(self, work: Callable[..., dict], *arguments) -> dict:
        """Wait for one's turn, and return what `work` makes of the arguments.

        Raises:
            RequestError: Too many are waiting already.
        """
        if self.waiting > self.most_waiting:
            raise RequestError("busy", f"{self.waiting} {self.things} are waiting already; try again in a moment")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, work, *arguments)
        finally:
            self.waiting -= 1


def listen(host: str, port: int) -> socket.socket:
    """Open the port, so that what goes wrong is told before the server starts.

    Raises:
        LessonError: The port is taken, or no port; the host is not this computer.
    """
    check(0 <= port <= 65535, f"--port {port}: ports are numbered from 0 to 65535; 0 takes a free one")
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # An answer is sent in two parts, head and body. Without this the second waits until the first is acknowledged, which may
        # take 40 ms. asyncio sees to it where it opens the socket itself; connections inherit it from ours.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LessonError(
                f"port {port} of {host} is taken, perhaps by this page in another terminal; choose another one with --port"
            ) from None
        reason = error.strerror.split(" (while")[0]
        raise LessonError(f"cannot listen on --host {host} --port {port}: {reason}") from None


def serve(app: FastAPI, listening: socket.socket, host: str) -> None:
    """Say where the page is, and serve it until Ctrl-C.

    Args:
        app: What `create_app` made.
        listening: What `listen` opened.
        host: What it was opened with.
    """
    port = listening.getsockname()[1]
    print(f"open        http://{f'[{host}]' if ':' in host else host}:{port}")
    if host not in LOOPBACK:
        print("            everyone who reaches this computer over the network can use it")
    print("stop        Ctrl-C", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3))
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn has closed everything and hands the Ctrl-C on
        print("stopped")


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Keep a request that Ctrl-C cuts short from filling the terminal: it was meant to end."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
