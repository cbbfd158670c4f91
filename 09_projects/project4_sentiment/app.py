"""Type a review, in the browser. · 브라우저에서 리뷰를 써 본다

    python -m study run sentiment/app
    python -m study run sentiment/app --host 0.0.0.0      also for others in the same network

The page sends the text as JSON, {"text": "..."}; the server answers with the verdict, its probability, and the text in pieces,
each with what it does to the verdict (predict.py). Nothing is kept. Training comes first: python -m study run sentiment
"""

import json
import threading
from dataclasses import asdict
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from project4_sentiment.predict import UNSURE, Judge, load_judge
from project4_sentiment.words import HEAD, TAIL
from utils import web
from utils.device import pick_device
from utils.lesson import run

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 300_000  # of a text that is sent; a hundred thousand letters of Hangul have as many
MOST_SENT = 400  # letters of a piece that are sent back; of what was not read, nobody wants to see all


def create_app(judge: Judge, about: dict, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        judge: Who answers.
        about: What was saved with the network: source, accuracy.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("Sentiment", PAGE, only_this_computer)
    one_at_a_time = threading.Lock()  # twenty texts at once would share the same cores, and each would come late

    def answer(text: str) -> dict:
        with one_at_a_time:
            verdict = asdict(judge.judge(text))
        verdict["pieces"] = [{**piece, "text": shortened(piece["text"])} for piece in verdict["pieces"]]
        return verdict

    @app.get("/health")
    async def health() -> dict:
        facts = {name: about[name] for name in ("source", "accuracy")}
        return {"status": "ok", **facts, "head": HEAD, "tail": TAIL, "unsure": UNSURE, "most_bytes": MOST_BYTES}

    @app.post("/judge")
    async def look(request: Request) -> dict:
        text = read_request(await web.read_body(request, MOST_BYTES))
        # In a thread: while one text is read, the server can accept the next one.
        return await run_in_threadpool(answer, text)

    return app


def shortened(text: str) -> str:
    """A long piece by its beginning and its end."""
    return text if len(text) <= MOST_SENT else f"{text[: MOST_SENT // 2]} … {text[-MOST_SENT // 2 :]}"


def read_request(content: bytes) -> str:
    """The text out of what was sent.

    Raises:
        RequestError: It is not JSON, or no text is in it.
    """
    try:
        text = json.loads(content)["text"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise web.RequestError("unreadable", 'JSON with a text was expected: {"text": "..."}') from None
    if not isinstance(text, str):
        raise web.RequestError("unreadable", "the text is no text")
    return text


def main(host: str = "127.0.0.1", port: int = 8000, model: Path | None = None, device: str = "auto") -> None:
    """Show the page on which the network judges what you write.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network.
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another trained network than models/project4_sentiment/model.pt.
        device: auto, cpu, cuda or mps.
    """
    judge, about = load_judge(model, pick_device(device))
    with web.listen(host, port) as listening:
        app = create_app(judge, about, only_this_computer=host in web.LOOPBACK)
        print(f"trained on  {about['source']}")
        print(f"accuracy    {about['accuracy']:.2%} on its test set")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main)
