"""Draw faces with sliders, in the browser. · 브라우저에서 슬라이더로 얼굴을 그린다

    python -m study run faces/app
    python -m study run faces/app --host 0.0.0.0      also for others in the same network

The page sends what the sliders say as JSON, {"wishes": [...], "walk": [...], "seed": 0}; the server answers with a face, what the
reader reads off it, and the nearest training face. Training comes first: python -m study run faces
"""

import json
import threading
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from torch import Tensor

from project6_faces.studio import FARTHEST, Studio, load_studio
from utils import web
from utils.datasets.drawn_faces import ATTRIBUTES
from utils.device import pick_device
from utils.lesson import run

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 4000  # of what the sliders say
ENDS = {one.name: [one.low[1], one.high[1]] for one in ATTRIBUTES}  # what the ends of a slider look like


def create_app(studio: Studio, about: dict, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        studio: Who draws.
        about: What was saved with the network: kind, resting, set.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("Faces", PAGE, only_this_computer)
    one_at_a_time = threading.Lock()  # a slider that is pulled asks many times a second

    def answer(asked: dict) -> dict:
        with one_at_a_time:
            made = studio.draw(**asked)
        found = {"face": rows(made.face), "nearest": rows(made.nearest), "distance": made.distance, "read": made.read}
        return {**found, "close": made.distance < studio.usual[1]}

    @app.get("/health")
    async def health() -> dict:
        facts = {"kind": about["kind"], "source": studio.source, "is_real": about["set"] != "drawn", "farthest": FARTHEST}
        resting = about["resting"].tolist()
        attributes = [
            {"name": name, "switch": resting[i] == -1, "ends": ENDS.get(name, ["-", "+"]), "resting": resting[i]}
            for i, name in enumerate(studio.attributes)
        ]
        return {"status": "ok", **facts, "attributes": attributes, "directions": studio.names, "usual": studio.usual[0]}

    @app.post("/draw")
    async def draw(request: Request) -> dict:
        asked = read_request(await web.read_body(request, MOST_BYTES))
        # In a thread: while one face is drawn, the server can accept the next request.
        return await run_in_threadpool(answer, asked)

    return app


def rows(picture: Tensor) -> list[list[list[int]]]:
    """A picture (channels, height, width) in 0..1 as rows of pixels [red, green, blue] in 0..255."""
    return (picture.expand(3, -1, -1) * 255).round().int().permute(1, 2, 0).tolist()


def read_request(content: bytes) -> dict:
    """What the sliders say.

    Raises:
        RequestError: It is not JSON, or no numbers.
    """
    try:
        asked = json.loads(content)
        wishes, walk = ([float(number) for number in asked[name]] for name in ("wishes", "walk"))
        if isinstance(asked["seed"], bool) or not isinstance(asked["seed"], int):
            raise TypeError
    except (ValueError, RecursionError, TypeError, KeyError, OverflowError):
        expected = '{"wishes": [0, 1], "walk": [0, 0], "seed": 3}'
        raise web.RequestError("unreadable", f"JSON with numbers was expected: {expected}") from None
    return {"wishes": wishes, "walk": walk, "seed": asked["seed"]}


def main(host: str = "127.0.0.1", port: int = 8000, model: Path | None = None, device: str = "auto") -> None:
    """Show the page on which the network draws what the sliders say.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network.
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another trained network than models/project6_faces/model.pt.
        device: auto, cpu, cuda or mps.
    """
    studio, about = load_studio(model, pick_device(device))
    with web.listen(host, port) as listening:
        app = create_app(studio, about, only_this_computer=host in web.LOOPBACK)
        print(f"trained on  {about['source']}")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main)
