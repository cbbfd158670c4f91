"""Rate a few films, in the browser. · 브라우저에서 영화를 평가하고 추천을 받는다

    python -m study run recommender/app
    python -m study run recommender/app --host 0.0.0.0      also for others in the same network

The page asks once for the list of films. After every star it sends all ratings as JSON, {"ratings": [[film, stars], ...]}; the
server answers with films, their predicted stars, and what each rating adds (recommend.py). Nothing is kept. Training comes first:
python -m study run recommender
"""

import json
from dataclasses import asdict
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from project8_recommender.recommend import MOST_RATED, RARE, Recommender, load_recommender
from utils import web
from utils.lesson import run

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 20_000  # of what is sent: MOST_RATED ratings have a tenth of it
COUNT = 10  # films that are recommended


def create_app(recommender: Recommender, about: dict, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        recommender: Who answers.
        about: What was saved with it: source, rmse.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("Recommender", PAGE, only_this_computer)
    # The films that most people have rated come first: those somebody new is most likely to know.
    rated = (film for film, count in enumerate(recommender.counts) if count > 0)
    order = sorted(rated, key=lambda film: -recommender.counts[film])
    films = [
        {
            "film": film,
            "title": {"en": recommender.titles[film], "ko": recommender.titles_ko[film]},
            "year": recommender.years[film],
            "genres": dict(zip(("en", "ko"), recommender.genres[film], strict=True)),
        }
        for film in order
    ]

    def answer(ratings: list[tuple[int, float]]) -> dict:
        found = recommender.recommend(ratings, COUNT)
        return {"recommended": [{**asdict(one), "raters": recommender.counts[one.film]} for one in found]}

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", "source": about["source"], "rmse": about["rmse"], "rare": RARE, "most_bytes": MOST_BYTES}

    @app.get("/films")
    async def list_films() -> dict:
        return {"films": films, "most": MOST_RATED}

    @app.post("/recommend")
    async def recommend(request: Request) -> dict:
        ratings = read_request(await web.read_body(request, MOST_BYTES))
        return await run_in_threadpool(answer, ratings)

    return app


def read_request(content: bytes) -> list[tuple[int, float]]:
    """The ratings out of what was sent.

    Raises:
        RequestError: It is not JSON, or no list of pairs of a whole number and a number.
    """
    unreadable = web.RequestError("unreadable", 'JSON with ratings was expected: {"ratings": [[film, stars], ...]}')
    try:
        pairs = [(film, stars) for film, stars in json.loads(content)["ratings"]]
        if not all(type(film) is int and type(stars) in (int, float) for film, stars in pairs):  # True would be an int as well
            raise unreadable
        return [(film, float(stars)) for film, stars in pairs]
    except (ValueError, RecursionError, TypeError, KeyError, OverflowError):  # the last: a number too large for a float
        raise unreadable from None


def main(host: str = "127.0.0.1", port: int = 8000, model: Path | None = None) -> None:
    """Show the page on which you rate films and get others.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network.
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another file than models/project8_recommender/model.pt.
    """
    recommender, about = load_recommender(model)
    with web.listen(host, port) as listening:
        app = create_app(recommender, about, only_this_computer=host in web.LOOPBACK)
        print(f"learned from  {about['source']}")
        print(f"error         {about['rmse']:.3f} stars (RMSE) on test ratings")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main)
