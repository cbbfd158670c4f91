"""Talk to the chatbot in the browser. · 브라우저에서 챗봇과 이야기한다

    python -m study run chatbot/app
    python -m study run chatbot/app --model smollm2 --int8

The page sends the whole conversation with each question; the server keeps none. The reply comes back as server-sent events
(https://html.spec.whatwg.org/multipage/server-sent-events.html), each with JSON behind "data:":

    wait    {"place": 2}        so many are before you; one reply is written at a time
    piece   {"text": " sky"}    the next piece of the reply
    end     {"tokens": 41, "first": 0.31, "per_second": 21.7, "cut": false}
    error   {"error": "...", "kind": "other"}

Whoever closes the connection has the model stop before its next token.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from project3_chatbot.chat import HOTTEST, Bot, CachePool, Message, Meter, Name, Settings, load_bot
from utils import web
from utils.device import pick_device
from utils.lesson import run

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 50_000  # of a conversation that is sent; the page leaves out the oldest turns of a longer one
MOST_WAITING = 32


def create_app(bot: Bot, only_this_computer: bool = True, most_waiting: int = MOST_WAITING) -> FastAPI:
    """Make the web application.

    Args:
        bot: Who replies.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
        most_waiting: Replies that are written or waited for at the same time, at most.
    """
    app = web.create_app("Chatbot", PAGE, only_this_computer)
    line, caches = Line(), CachePool(bot)

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", "name": bot.name, "source": bot.source, "most_bytes": MOST_BYTES}

    @app.post("/reply")
    async def reply(request: Request) -> Response:
        messages, settings = read_request(await web.read_body(request, MOST_BYTES))
        # What is wrong with the conversation is said while it still can be an answer.
        prompt = await run_in_threadpool(bot.prompt, messages, settings.most)
        if len(line.waiting) >= most_waiting:
            raise web.RequestError("busy", f"{most_waiting} others are waiting for a reply already: try again in a minute")
        ticket = line.join()
        return EventStream(write(bot, prompt, settings, line.places(ticket), caches), at_end=partial(line.leave, ticket))

    return app


class Line:
    """Who waits for a reply, in the order in which they came; the first one's is written.

    Everything here happens in the server's event loop, one thing at a time: no lock is needed.
    """

    def __init__(self):
        self.waiting: list[object] = []
        self.moved = asyncio.Event()

    def join(self) -> object:
        """Stand at the end, with the ticket that is returned."""
        ticket = object()
        self.waiting.append(ticket)
        return ticket

    async def places(self, ticket: object) -> AsyncGenerator[int, None]:
        """How many are before a ticket, again whenever somebody has left; it ends when there are none."""
        while place := self.waiting.index(ticket):
            yield place
            await self.moved.wait()

    def leave(self, ticket: object) -> None:
        """Go, from whatever place, and let the others know."""
        self.waiting.remove(ticket)
        self.moved.set()
        self.moved = asyncio.Event()


class EventStream(StreamingResponse):
    """Server-sent events; as soon as nobody reads them any more, their generator is closed.

    Args:
        events: Where they come from.
        at_end: Called afterwards, whether all, some or none were sent.
    """

    def __init__(self, events: AsyncGenerator[str, None], at_end: Callable[[], None]):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy in between is to hand on each piece at once
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self.events, self.at_end = events, at_end

    async def __call__(self, scope, receive, send) -> None:
        try:
            async with contextlib.aclosing(self.events):
                await super().__call__(scope, receive, send)
        finally:
            self.at_end()


async def write(
    bot: Bot, prompt: list[int], settings: Settings, places: AsyncIterator[int], caches: CachePool
) -> AsyncGenerator[str, None]:
    """Wait until one is first in line, then have the reply written; yield all of it as events."""
    async for place in places:
        yield event("wait", place=place)
    cache, meter = caches.take(prompt), Meter()
    pieces = bot.write(prompt, settings, cache, meter)
    try:
        # Each piece in a thread: while it is computed the server hears others, and notices who has gone.
        while (piece := await run_in_threadpool(next, pieces, None)) is not None:
            yield event("piece", text=piece)
        yield event("end", tokens=meter.tokens, first=meter.first, per_second=meter.per_second, cut=meter.cut)
    except Exception as error:
        yield event("error", error=f"the model failed: {type(error).__name__}", kind="other")
        raise  # the terminal says the rest
    finally:
        pieces.close()
        caches.give_back(cache)


def event(name: str, **data) -> str:
    """One server-sent event. JSON has no line breaks, which would end it."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def read_request(content: bytes) -> tuple[list[Message], Settings]:
    """Turn what was sent into a conversation, and how to reply to it.

    Raises:
        RequestError: It is not JSON, no conversation, or an empty question.
    """
    try:
        sent = json.loads(content)
        messages = [{"role": one["role"], "content": one["content"]} for one in sent["messages"]]
        temperature, seed = sent.get("temperature", Settings.temperature), sent.get("seed", Settings.seed)
    except (ValueError, RecursionError):
        raise web.RequestError("unreadable", "what was sent is not JSON") from None
    except (TypeError, KeyError, AttributeError):
        raise web.RequestError("unreadable", 'a conversation was expected: {"messages": [{"role", "content"}]}') from None
    in_turn = all(one["role"] == ("assistant" if number % 2 else "user") for number, one in enumerate(messages))
    if not in_turn or len(messages) % 2 == 0 or not all(isinstance(one["content"], str) for one in messages):
        raise web.RequestError("unreadable", "user and assistant speak in turn, in text; the first and the last are the user")
    if not messages[-1]["content"].strip():
        raise web.RequestError("blank", "the question is empty")
    if type(temperature) not in (int, float) or not 0 <= temperature <= HOTTEST:
        raise web.RequestError("unreadable", f"the temperature is a number from 0 to {HOTTEST:g}")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise web.RequestError("unreadable", "the seed is a whole number, 0 or more")
    return messages, Settings(temperature=temperature, seed=seed)


def main(
    model: Name = "own",
    host: str = "127.0.0.1",
    port: int = 8000,
    int8: bool = False,
    file: Path | None = None,
    device: str = "auto",
) -> None:
    """Show the page on which you talk to a chatbot.

    Args:
        model: own, which you have trained, or smollm2, a published one.
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network.
        port: The number behind the colon in the address; 0 takes a free one.
        int8: Weights of one byte instead of four: a CPU writes more than twice as fast, nearly as well.
        file: Other weights than the usual ones.
        device: auto, cpu, cuda or mps.
    """
    bot = load_bot(model, pick_device(device), file, int8)
    with web.listen(host, port) as listening:
        app = create_app(bot, only_this_computer=host in web.LOOPBACK)
        print(f"model       {bot.source}")
        web.serve(app, listening, host)


if __name__ == "__main__":
    run(main, all_cores=True)
