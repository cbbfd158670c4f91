"""Draw a digit in the browser and watch the probabilities move. · 브라우저에 숫자를 그리면 확률이 움직인다

    python -m study run mnist/app

The page sends the drawing as a PNG, as it would any picture; the server brings it into MNIST's form (picture.py) and answers with
what the network makes of it. Training comes first: python -m study run mnist
"""

import base64
import errno
import hashlib
import re
import socket
import threading
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from torch import Tensor, nn

from project1_mnist.model import Net
from project1_mnist.picture import PictureError, digit_from, open_picture
from project1_mnist.predict import load_network
from utils.device import pick_device
from utils.lesson import LessonError, check, run

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 2_000_000  # of a picture that is sent
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")  # the names under which only this computer reaches itself
STATUS = {"too_large": 413, "unreadable": 415, "damaged": 422, "blank": 422}  # HTTP status for each PictureError


def create_app(network: Net, about: dict, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        network: Trained, in eval mode, on its device.
        about: What was saved with it: classes, source, accuracy.
        only_this_computer: Refuse requests that came by another name than this computer's own. A page on the internet can make
            its own name point to 127.0.0.1 and then talk to us from the reader's browser (DNS rebinding).
    """
    page = PAGE.read_text(encoding="utf-8")
    security = {
        "Content-Security-Policy": content_security_policy(page),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    # Pages of documentation would come from the internet, and there are two addresses to document.
    app = FastAPI(title="MNIST", docs_url=None, redoc_url=None, openapi_url=None)
    if only_this_computer:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    one_at_a_time = threading.Lock()  # fifty large pictures decoded at once would not fit into memory

    def answer(content: bytes) -> dict:
        with one_at_a_time:
            pixels = digit_from(open_picture(content))
            return look_at(network, pixels)

    @app.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers=security)

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", **{name: about[name] for name in ("classes", "source", "accuracy")}}

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        try:
            content = await read_body(request)
            # In a thread: while one picture is looked at, the server can accept the next one.
            return JSONResponse(await run_in_threadpool(answer, content))
        except PictureError as error:
            return JSONResponse({"error": str(error), "kind": error.kind}, STATUS[error.kind])

    return app


async def read_body(request: Request) -> bytes:
    """Read what was sent, up to MOST_BYTES.

    Raises:
        PictureError: It is more, or it announces more; then it is not read to its end.
    """
    too_large = PictureError("too_large", f"the picture has more than {MOST_BYTES // 1_000_000} MB; make it smaller first")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MOST_BYTES:
        raise too_large
    content = bytearray()
    try:
        async for chunk in request.stream():  # a body sent in chunks announces nothing
            content += chunk
            if len(content) > MOST_BYTES:
                raise too_large
    except ClientDisconnect:
        raise PictureError("damaged", "the connection ended before the picture did") from None
    return bytes(content)


@torch.no_grad()
def look_at(network: Net, pixels: Tensor) -> dict:
    """What the network makes of pixels (1, 1, 28, 28) in 0..1.

    Returns:
        "digit", the most probable class; "probabilities" of all classes; "pixels", 28 rows of 28 whole numbers in 0..255; "maps",
        what the first layer found where: for each of its channels, rows of whole numbers in 0..255.
    """
    pixels = pixels.to(next(network.parameters()).device)
    probabilities = network(pixels).softmax(dim=1)[0].tolist()
    end = next(index for index, layer in enumerate(network.features) if isinstance(layer, nn.ReLU)) + 1
    maps = network.features[:end]((pixels - network.mean) / network.std)[0]  # (16, 12, 12)
    return {
        "digit": max(range(len(probabilities)), key=probabilities.__getitem__),
        "probabilities": probabilities,
        "pixels": as_bytes(pixels[0, 0]),
        "maps": as_bytes(maps / maps.max().clamp(min=1e-6)),
    }


def as_bytes(values: Tensor) -> list:
    """Turn a tensor in 0..1 into nested lists of whole numbers in 0..255, short to send."""
    return values.mul(255).round().int().tolist()


def content_security_policy(page: str) -> str:
    """Allow the page's own script and style, by their hash, and nothing from anywhere else.

    (https://developer.mozilla.org/docs/Web/HTTP/CSP)
    """
    script, style = (
        " ".join(f"'sha256-{_sha256(text)}'" for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL))
        for tag in ("script", "style")
    )
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def listen(host: str, port: int) -> socket.socket:
    """Open the port, so that what goes wrong is told before the server starts.

    Raises:
        LessonError: The port is taken, or no port; the host is not this computer.
    """
    check(0 <= port <= 65535, f"--port {port}: ports are numbered from 0 to 65535; 0 takes a free one")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LessonError(
                f"port {port} of {host} is taken, perhaps by this page in another terminal; choose another one with --port"
            ) from None
        reason = error.strerror.split(" (while")[0]
        raise LessonError(f"cannot listen on --host {host} --port {port}: {reason}") from None


def main(host: str = "127.0.0.1", port: int = 8000, model: Path | None = None, device: str = "auto") -> None:
    """Show the page on which you draw a digit.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network.
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another trained network than models/project1_mnist/model.pt.
        device: auto, cpu, cuda or mps.
    """
    where = pick_device(device)
    network, about = load_network(model, where)
    with listen(host, port) as listening:
        port = listening.getsockname()[1]
        only_this_computer = host in LOOPBACK
        app = create_app(network, about, only_this_computer)
        print(f"trained on  {about['source']}")
        print(f"accuracy    {about['accuracy']:.2%} on its test set")
        print(f"open        http://{f'[{host}]' if ':' in host else host}:{port}")
        if not only_this_computer:
            print("            everyone who reaches this computer over the network can use it")
        print("stop        Ctrl-C", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn has closed everything and hands the Ctrl-C on
            print("stopped")


if __name__ == "__main__":
    run(main)
