"""Compose a scene or bring a picture, in the browser, and read what the network says of it. · 브라우저에서 그림을 설명하게 한다

    python -m study run captioning/app
    python -m study run captioning/app --host 0.0.0.0      also for others in the same network

The page sends the picture; the server makes a small square of it (picture.py) and answers with a sentence in each language, word
by word with where the network looked for it (predict.py). Nothing is kept. Training comes first: python -m study run captioning
"""

import threading
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from project9_captioning.picture import image_from
from project9_captioning.predict import Caption, Describer, load_describer
from utils import web
from utils.datasets.captioned_scenes import draw_captioned
from utils.device import pick_device
from utils.lesson import check, run
from utils.pictures import as_rows, open_picture

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 8_000_000  # of a picture that is sent; the page makes larger ones smaller first
EXAMPLES = 6


def create_app(describer: Describer, about: dict, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        describer: Who answers.
        about: What was saved with the network: source, is_real, exact, cider.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("Captions", PAGE, only_this_computer)
    one_at_a_time = threading.Lock()  # fifty large photos decoded at once would not fit into memory
    examples = [] if about["is_real"] else [as_rows(image) for image in draw_captioned(EXAMPLES, seed=1, split="held_out").images]

    def answer(content: bytes) -> dict:
        with one_at_a_time:
            image = image_from(open_picture(content), describer.model.shape.side)
            captions = {language: as_json(describer.describe(image, language)) for language in describer.languages}
            return {"pixels": as_rows(image), "captions": captions}

    @app.get("/health")
    async def health() -> dict:
        facts = {name: about[name] for name in ("source", "is_real", "exact", "cider")}
        return {"status": "ok", **facts, "languages": describer.languages}

    @app.get("/examples")
    async def show_examples() -> list:
        return examples

    @app.post("/caption")
    async def look(request: Request) -> dict:
        content = await web.read_body(request, MOST_BYTES)
        # In a thread: while one picture is looked at, the server can accept the next one.
        return await run_in_threadpool(answer, content)

    return app


def as_json(caption: Caption) -> dict:
    """A sentence for the page: "text", "probability", and "words".

    Each word has its "look", rows of whole numbers of which the largest in the sentence is 255.
    """
    most = max((word.look.max().item() for word in caption.words), default=1.0)
    words = [{"text": word.text, "look": (255 * word.look / most).round().int().tolist()} for word in caption.words]
    return {"text": caption.text, "probability": caption.probability, "words": words}


def main(host: str = "127.0.0.1", port: int = 8000, model: Path | None = None, beam: int = 3, device: str = "auto") -> None:
    """Show the page on which the network describes your pictures.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network.
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another trained network than models/project9_captioning/model.pt.
        beam: Beginnings of a sentence that are gone on with.
        device: auto, cpu, cuda or mps.
    """
    check(beam > 0, "--beam must be above 0")
    describer, about = load_describer(model, pick_device(device), beam)
    with web.listen(host, port) as listening:
        app = create_app(describer, about, only_this_computer=host in web.LOOPBACK)
        print(f"trained on  {about['source']}")
        print(f"right       {about['exact']:.1%} of the captions of its test pictures, CIDEr {about['cider']:.2f}")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main)
