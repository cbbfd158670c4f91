"""Serving a model · 모델 서빙

A service puts a network where others can ask it. It computes together what arrives together, refuses in a sentence what is no
picture, too large or too much, says whether it lives and whether it is ready, and loses nothing that it has accepted.
서비스는 다른 사람이 물어볼 수 있는 곳에 신경망을 둔다. 함께 도착한 요청은 함께 계산하고, 그림이 아니거나 너무 크거나 너무 많은
요청은 한 문장으로 거절한다. 살아 있는지, 받을 준비가 되었는지 알리고, 끝낼 때도 이미 받은 요청은 하나도 버리지 않는다.

You will
  1. build a service around utils/batching.py: health, readiness, limits on size, number and time; and run into the limits
  2. ask it at random moments, whether it has answered or not: what half of the people wait at most (p50), and 99 in 100 (p99)
  3. stop it in the middle, and see that nothing it had accepted is lost

Before     03_training/request_batching.py
Run        python -m study run serving             (about 30 s on one CPU core, after importing torch)
You see    at twice the load that one by one can bear: p50 of 0.05 s in batches; else 0.8 s, and half of the people refused
Try next   --wait-ms 50: batches have time to fill. First guess what that does to p50 at little load and at much; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.batching import Batcher
from utils.datasets import Source, mnist, nearest_mean_accuracy
from utils.lesson import LessonError, check, run

Answer = tuple[float, int, dict]  # seconds since the question was due, HTTP status, what was said
SIDE = 28
MOST_QUESTIONS = 1500  # in a load: a fast network would be asked more than one process can ask
TIMEOUT = 2.0  # seconds; who has waited longer has gone


def make_network(width: int) -> nn.Sequential:
    """Three linear layers, from pictures (n, 1, 28, 28) in 0..1 to logits (n, 10)."""
    sizes = [SIDE * SIDE, width, width, 10]
    layers = [part for ends in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(*ends), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def train(network: nn.Module, pictures: Tensor, labels: Tensor, steps: int, lr: float, seed: int) -> None:
    """Train in place with SGD and momentum, 64 drawn pictures a step, at a rate that falls to 0."""
    optimizer, generator = torch.optim.SGD(network.parameters(), lr, momentum=0.9), torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        rows = torch.randint(len(pictures), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(network(pictures[rows]), labels[rows]).backward()
        optimizer.step()


# %% 1. A service
def create_app(batcher: Batcher):
    """Make the application: POST /predict takes 784 bytes, GET /health says that it lives, GET /ready whether to send people."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    from utils.web import STATUS, RequestError, read_body

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(batcher.work())
        await batcher.ask(torch.zeros(1, SIDE, SIDE))  # the first call is slow: it should be nobody's
        app.state.ready = True
        yield
        app.state.ready = False
        await batcher.close(worker)  # when all that was accepted is answered

    app = FastAPI(title="digits", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.ready = False

    @app.exception_handler(LessonError)
    async def tell(request: Request, error: LessonError) -> JSONResponse:
        return JSONResponse({"error": str(error), "kind": error.kind}, {**STATUS, "late": 504}.get(error.kind, 422))

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", "batches": batcher.sizes.total(), "waiting": batcher.queue.qsize()}

    @app.get("/ready")
    async def ready() -> dict:
        if not app.state.ready:
            raise RequestError("busy", "the model is still being prepared")
        return {"status": "ready"}

    @app.post("/predict")
    async def predict(request: Request) -> dict:
        content = await read_body(request, most_bytes=SIDE * SIDE)
        if len(content) != SIDE * SIDE:
            raise RequestError("damaged", f"a picture has {SIDE * SIDE} bytes, row by row; this one has {len(content)}")
        x = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(1, SIDE, SIDE) / 255
        try:
            logits = await asyncio.wait_for(batcher.ask(x), TIMEOUT)
        except asyncio.TimeoutError:
            raise RequestError("late", f"there was no answer within {TIMEOUT:g} seconds") from None
        probability, digit = logits.softmax(dim=0).max(dim=0)
        return {"digit": digit.item(), "probability": round(probability.item(), 4)}

    return app


async def meet_limits(model: nn.Module) -> dict[str, int]:
    """Send what a service should not answer, read its sentences, and return the HTTP status of each."""
    app, found = create_app(Batcher(model, most=1, wait=0.0, waiting=2)), {}
    async with app.router.lifespan_context(app), client_of(app) as client:
        for name, size in (("one picture", SIDE * SIDE), ("half of one", SIDE * SIDE // 2), ("ten of them", 10 * SIDE * SIDE)):
            response = await client.post("/predict", content=bytes(size))
            found[name] = response.status_code
            print(f"1. {name}: {response.status_code}, {response.json().get('error', 'an answer')}")
        crowd = await asyncio.gather(*(client.post("/predict", content=bytes(SIDE * SIDE)) for _ in range(20)))
        refused = [response for response in crowd if response.status_code != 200]
        found["twenty at once"] = max(response.status_code for response in crowd)
        print(f"   twenty at once: {len(refused)} are refused with {found['twenty at once']}, {refused[0].json()['error']}")
    return found


# %% 2. Under load
async def answered_a_second(model: nn.Module, questions: int = 50) -> float:
    """Return how many questions a second the service answers one by one, all of them asked at once."""
    app = create_app(Batcher(model, most=1, wait=0.0, waiting=questions))
    async with app.router.lifespan_context(app), client_of(app) as client:
        started = time.perf_counter()
        await asyncio.gather(*(client.post("/predict", content=bytes(SIDE * SIDE)) for _ in range(questions)))
        return questions / (time.perf_counter() - started)


async def ask_at_random(client, bodies: list[bytes], rate: float, seed: int) -> list[Answer]:
    """Ask `rate` times a second on average, at random moments, whether earlier questions are answered or not (open loop).

    A time counts from the moment when the question was due. To wait for an answer before asking again (closed loop) would ask
    less just when the server is slow, and hide what people would have had to wait.
    """
    gaps = torch.empty(len(bodies)).exponential_(rate, generator=torch.Generator().manual_seed(seed))
    started = time.perf_counter()

    async def ask(due: float, body: bytes) -> Answer:
        await asyncio.sleep(started + due - time.perf_counter())  # at once where that is below 0
        response = await client.post("/predict", content=body)
        return time.perf_counter() - started - due, response.status_code, response.json()

    return await asyncio.gather(*map(ask, gaps.cumsum(0).tolist(), bodies))


def client_of(app):
    """Return a client that speaks HTTP to an application in this process, without a network."""
    import httpx

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://digits")


async def under_load(batcher: Batcher, bodies: list[bytes], rate: float, seed: int) -> tuple[list[Answer], float]:
    """Start a service, ask it, and stop it; return the answers and the seconds they took."""
    app = create_app(batcher)
    async with app.router.lifespan_context(app), client_of(app) as client:
        started = time.perf_counter()
        answers = await ask_at_random(client, bodies, rate, seed)
        return answers, time.perf_counter() - started


def summary(answers: list[Answer], seconds: float) -> dict[str, float]:
    """Return milliseconds by which half and 99 % of the answered were answered, answers a second, and the share refused."""
    times = torch.tensor([took for took, status, _ in answers if status == 200] or [float("nan")])
    refused = sum(status != 200 for _, status, _ in answers) / len(answers)
    p50, p99 = (1000 * times.quantile(torch.tensor([0.5, 0.99]))).tolist()
    return {"p50": p50, "p99": p99, "a_second": (1 - refused) * len(answers) / seconds, "refused": refused}


# %% 3. An orderly end
async def stop_in_the_middle(model: nn.Module, pictures: Tensor) -> int:
    """Ask many questions at once, and end the service at once; return how many were answered all the same."""
    batcher = Batcher(model, most=4, wait=0.0, waiting=len(pictures))
    app = create_app(batcher)
    async with app.router.lifespan_context(app):
        asked = [asyncio.create_task(batcher.ask(picture)) for picture in pictures]
        await asyncio.sleep(0)  # they are in the queue now
    return sum(task.done() and task.exception() is None for task in asked)


# %% All of it, in order
def main(
    width: int = 4096, steps: int = 60, most: int = 32, wait_ms: float = 2.0, waiting: int = 100, seconds: float = 3.0,
    port: int = 0, source: Source = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Serve a network to many at once, with batches and without, and measure what they wait.

    Args:
        width: Of both hidden layers.
        steps: Of training, 64 digits each.
        most: Pictures in a batch.
        wait_ms: How long the first question waits for others.
        waiting: Questions that may wait.
        seconds: How long each load lasts, at most.
        port: Serve here afterwards, until Ctrl-C; 0: do not.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: Seed of weights, digits and moments.
    """
    check(min(width, steps, most, waiting, seconds) > 0 <= wait_ms, "all sizes and times above 0, --wait-ms from 0 on")
    digits = mnist(source)
    data, test = ((part.images / 255, part.labels) for part in (digits.train, digits.test[:1000]))
    torch.manual_seed(seed)
    network = make_network(width)
    train(network, *data, steps, lr=0.1, seed=seed)
    own = network(test[0]).argmax(dim=1)  # (n,)
    results = {"accuracy": (own == test[1]).float().mean().item(), "baseline": nearest_mean_accuracy(digits.train, digits.test)}
    check(results["accuracy"] > max(0.1, results["baseline"]), f"{results['accuracy']:.1%} right: more --steps?")
    statuses = asyncio.run(meet_limits(network))
    check(list(statuses.values()) == [200, 422, 413, 503], f"the limits answer with {statuses}")
    capacity, other = asyncio.run(answered_a_second(network)), 0
    for load, share in (("little", 0.5), ("much", 2.0)):
        rate = share * capacity  # in units of what can be answered one by one
        rows = torch.arange(min(int(rate * seconds), MOST_QUESTIONS) + 1) % len(own)
        bodies = [(test[0][row] * 255).round().to(torch.uint8).numpy().tobytes() for row in rows]
        for name, largest, wait in (("single", 1, 0.0), ("batches", most, wait_ms / 1000)):
            answers, took = asyncio.run(under_load(Batcher(network, largest, wait, waiting), bodies, rate, seed))
            found = summary(answers, took)
            told = f"p50 {found['p50']:4.0f} ms, p99 {found['p99']:4.0f} ms, {found['a_second']:4.0f} answers a second"
            print(f"2. {rate:4.0f} questions a second, {name:7}: {told}, {found['refused']:4.0%} refused")
            results |= {f"{key}_{load}_{name}": value for key, value in found.items()}
            served = [(said["digit"], row) for (_, status, said), row in zip(answers, rows, strict=True) if status == 200]
            other += sum(digit != own[row].item() for digit, row in served)
    accepted = asyncio.run(stop_in_the_middle(network, test[0][:40]))
    print(f"3. stopped with 40 questions in the queue: {accepted} were answered")
    check(other == 0 == 40 - accepted, f"{other} answers are another one's, {40 - accepted} questions accepted and forgotten")
    if port:
        from utils.web import listen, serve

        with listen("127.0.0.1", port) as listening:
            serve(create_app(Batcher(network, most, wait_ms / 1000, waiting)), listening, "127.0.0.1")
    return results | {"answered_at_the_end": accepted, "answers_of_another": other}


if __name__ == "__main__":
    run(main)
