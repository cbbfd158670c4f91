"""Show the network a photo, in the browser. · 브라우저에서 신경망에 사진을 보여 준다

    python -m study run cifar10/app
    python -m study run cifar10/app --host 0.0.0.0      also for a telephone in the same network, whose camera can be used

The page sends the photo; the server brings it into CIFAR-10's form (picture.py) and answers with the probabilities and, for each
class, where in the picture the network found what spoke for it. Training comes first: python -m study run cifar10
"""

import threading
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from torch import Tensor, nn

from project2_cifar10 import predict
from project2_cifar10.evaluate import load_network
from project2_cifar10.picture import image_from
from utils import datasets, web
from utils.datasets import Images
from utils.device import pick_device
from utils.lesson import LessonError, run
from utils.pictures import as_rows, open_picture

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 8_000_000  # of a photo that is sent; the page makes larger ones smaller first


def create_app(network: nn.Module, about: dict, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        network: Trained, in eval mode, on its device.
        about: What was saved with it: classes, source, accuracy, temperature.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("CIFAR-10", PAGE, only_this_computer)
    one_at_a_time = threading.Lock()  # fifty large photos decoded at once would not fit into memory
    web.serve_examples(app, lambda: pick_examples(about))

    def answer(content: bytes) -> dict:
        with one_at_a_time:
            return look_at(network, image_from(open_picture(content)), about["temperature"])

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", **{name: about[name] for name in ("classes", "source", "accuracy")}}

    @app.post("/predict")
    async def look(request: Request) -> dict:
        content = await web.read_body(request, MOST_BYTES)
        # In a thread: while one photo is looked at, the server can accept the next one.
        return await run_in_threadpool(answer, content)

    return app


def look_at(network: nn.Module, image: Tensor, temperature: float) -> dict:
    """What the network makes of an image (3, 32, 32) uint8, its logits divided by the temperature.

    Returns:
        "probabilities" of all classes; "undecided_between" how many equally probable ones; "pixels", 32 rows of 32 times red,
        green, blue in 0..255; "heat", for each class 32 rows of 32 whole numbers in 0..255.
    """
    probabilities, heat = predict.answer(network, image, temperature)
    return {
        "probabilities": probabilities.tolist(),
        "undecided_between": predict.undecided_between(probabilities),
        "pixels": as_rows(image),
        "heat": heat.mul(255).round().int().tolist(),
    }


def pick_examples(about: dict) -> list[dict]:
    """One test image of each class, of the data that the network was trained on; none where that is not there any more.

    Returns:
        For each image its "class", a number, and its "pixels".
    """
    is_sample = about["source"].startswith("sample")
    try:
        data = datasets.cifar10("sample" if is_sample else "auto")
    except (LessonError, OSError):
        return []  # the page does without
    if data.is_real == is_sample or data.classes != about["classes"]:
        return []
    return [{"class": one, "pixels": as_rows(first_of(data.test, one))} for one in data.test.labels.unique().tolist()]


def first_of(test: Images, one: int) -> Tensor:
    """The first test image of class `one`, (3, height, width)."""
    return test.images[(test.labels == one).nonzero()[0, 0]]


def main(host: str = "127.0.0.1", port: int = 8000, model: Path | None = None, device: str = "auto") -> None:
    """Show the page on which the network looks at your photos.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network.
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another trained network than models/project2_cifar10/model.pt.
        device: auto, cpu, cuda or mps.
    """
    network, about = load_network(model, pick_device(device))
    with web.listen(host, port) as listening:
        app = create_app(network, about, only_this_computer=host in web.LOOPBACK)
        print(f"trained on  {about['source']}")
        print(f"accuracy    {about['accuracy']:.2%} on its test set")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main)
