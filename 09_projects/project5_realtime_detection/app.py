"""Hold something into the camera, and see it found. · 카메라에 무언가를 비추면 찾아낸다

    python -m study run detection/app
    python -m study run detection/app --runtime onnx      another form of the same network; see detection/export

The browser asks for the camera and sends its frames here, one at a time, as small JPEGs; the answer is what was found, and the
page draws it over the live picture. Files are answered in the same way. Nothing is kept. A browser gives the camera only to a
page from its own computer, http://127.0.0.1, or to one that came over https. Training comes first: python -m study run detection
"""

import base64
import io
import time
from pathlib import Path

import torch
from fastapi import FastAPI, Request
from PIL import Image
from torch import Tensor

from project5_realtime_detection.finder import Finder, Runtime, load_finder
from project5_realtime_detection.predict import COLOURS, LONGEST, as_tensor, contrast_to, picture_from
from utils import web
from utils.datasets import detection, scenes
from utils.lesson import LessonError, run
from utils.pictures import open_picture

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 20_000_000  # of a picture that is sent; the page makes larger ones smaller first
MOST_WAITING = 8  # pictures that wait while one is looked at: a page sends one at a time, so that many pages can be open
LEAST_SCORE = 0.1  # the page gets every box from this score on, and shows those above its threshold without asking again
EXAMPLES = 8


def create_app(finder: Finder, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        finder: Who looks at the pictures.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("Real-time detection", PAGE, only_this_computer)
    looking = web.InTurn("pictures", MOST_WAITING)
    web.serve_examples(app, lambda: pick_examples(finder.classes))

    @app.get("/health")
    async def health() -> dict:
        colours = [{"colour": colour, "contrast": contrast_to(colour)} for colour in COLOURS]
        return {"status": "ok", "classes": finder.classes, "source": finder.source, "side": finder.side, "colours": colours}

    @app.post("/find")
    async def find(request: Request) -> dict:
        content = await web.read_body(request, MOST_BYTES)
        return await looking.do(answer, finder, content, "preview" in request.query_params)

    return app


def answer(finder: Finder, content: bytes, preview: bool = False) -> dict:
    """Open a picture and say what is in it.

    Args:
        finder: Who looks at it.
        content: Of the picture's file.
        preview: Send the picture back as well, for a browser that cannot show its format.

    Returns:
        "width" and "height" of the picture as one sees it; "found", for each box its "box" x1 y1 x2 y2 in pixels, its "score" and
        its "label", the surest first; "opening" and "finding", in milliseconds; "preview", a data URL of a JPEG.

    Raises:
        PictureError: It is no picture that can be looked at.
    """
    started = time.perf_counter()
    picture = picture_from(open_picture(content))
    opened = time.perf_counter()
    found = finder.find(as_tensor(picture), threshold=LEAST_SCORE)
    ended = time.perf_counter()
    told = {
        "width": picture.width,
        "height": picture.height,
        "found": [
            {"box": box, "score": score, "label": label}
            for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        ],
        "opening": 1000 * (opened - started),
        "finding": 1000 * (ended - opened),
    }
    if preview:
        picture.thumbnail((LONGEST, LONGEST))
        told["preview"] = as_data_url(picture)
    return told


def pick_examples(classes: list[str]) -> list[dict]:
    """A few test pictures of the data set with these classes; none where it is not there, or another one.

    Returns:
        For each its "picture", a data URL, and its "truth": for each object its "box" x1 y1 x2 y2 in pixels and its "label".
    """
    if classes == list(scenes.CLASSES):
        drawn = scenes.draw_scenes(EXAMPLES, seed=0, size=320, split="test")
        pictures, boxes, labels = list(drawn.images), drawn.boxes, drawn.labels
    else:
        try:
            data = detection.bccd()
        except (LessonError, OSError):
            return []  # the page does without
        if data is None or data.classes != classes:
            return []
        pictures, boxes, labels = (part[:EXAMPLES] for part in data.test)
    return [
        {
            "picture": as_data_url(as_image(picture)),
            "truth": [{"box": box, "label": label} for box, label in zip(its_boxes.tolist(), its_labels.tolist(), strict=True)],
        }
        for picture, its_boxes, its_labels in zip(pictures, boxes, labels, strict=True)
    ]


def as_image(picture: Tensor) -> Image.Image:
    """A picture (3, height, width) uint8 as Pillow has it."""
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def as_data_url(picture: Image.Image) -> str:
    """A picture as a JPEG inside an address, so that the page needs no second request for it."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def main(
    host: str = "127.0.0.1",
    port: int = 8000,
    model: Path | None = None,
    runtime: Runtime = "eager",
    device: str = "auto",
) -> None:
    """Show the page that finds things in front of your camera.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network (pictures only, no camera).
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another trained network than models/project5_realtime_detection/model.pt.
        runtime: eager, compiled, exported, onnx or int8; the last three need python -m study run detection/export first.
        device: auto, cpu, cuda or mps.
    """
    finder = load_finder(model, runtime, device)
    with web.listen(host, port) as listening:
        finder.find(torch.zeros(3, finder.side, finder.side, dtype=torch.uint8))  # the first picture takes longer than the others
        app = create_app(finder, only_this_computer=host in web.LOOPBACK)
        print(f"trained on  {finder.source}")
        print(f"knows       {', '.join(finder.classes)}; nothing else")
        here = f"http://localhost:{listening.getsockname()[1]}"  # http://0.0.0.0 would be refused the camera
        print(f"camera      only in a browser on this computer, at {here}: elsewhere a browser asks for https")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main, all_cores=True)
