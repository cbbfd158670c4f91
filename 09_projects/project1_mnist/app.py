"""Draw a digit in the browser and watch the probabilities move. · 브라우저에 숫자를 그리면 확률이 움직인다

    python -m study run mnist/app

The page sends the drawing as a PNG, as it would any picture; the server brings it into MNIST's form (picture.py) and answers with
what the network makes of it. Training comes first: python -m study run mnist
"""

import threading
from pathlib import Path

import torch
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from torch import Tensor, nn

from project1_mnist.evaluate import load_network
from project1_mnist.model import Net
from project1_mnist.picture import digit_from
from utils import web
from utils.device import pick_device
from utils.lesson import run
from utils.pictures import open_picture

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 2_000_000  # of a picture that is sent


def create_app(network: Net, about: dict, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        network: Trained, in eval mode, on its device.
        about: What was saved with it: classes, source, accuracy.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("MNIST", PAGE, only_this_computer)
    one_at_a_time = threading.Lock()  # fifty large pictures decoded at once would not fit into memory

    def answer(content: bytes) -> dict:
        with one_at_a_time:
            pixels = digit_from(open_picture(content))
            return look_at(network, pixels)

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", **{name: about[name] for name in ("classes", "source", "accuracy")}}

    @app.post("/predict")
    async def predict(request: Request) -> dict:
        content = await web.read_body(request, MOST_BYTES)
        # In a thread: while one picture is looked at, the server can accept the next one.
        return await run_in_threadpool(answer, content)

    return app


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
    with web.listen(host, port) as listening:
        app = create_app(network, about, only_this_computer=host in web.LOOPBACK)
        print(f"trained on  {about['source']}")
        print(f"accuracy    {about['accuracy']:.2%} on its test set")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main)
