"""Serving a model · 모델 서빙

A server computes for many people at once. What arrives together is computed together, since a large network takes hardly longer
for eight questions than for one; what is too much is refused in a sentence, because a queue without an end helps nobody.
서버는 여러 사람의 요청을 동시에 처리한다. 함께 도착한 요청은 함께 계산한다. 큰 신경망은 여덟 개를 물어도 하나일 때보다 별로 오래
걸리지 않기 때문이다. 감당할 수 없는 요청은 한 문장으로 거절한다. 끝없이 늘어나는 줄은 누구에게도 도움이 되지 않는다.

You will
  1. measure what a batch saves, and for which networks
  2. make the mistake everyone makes in asynchronous code: compute in the event loop, and all others wait
  3. build a service around utils/batching.py: health, readiness, limits on size, number and time, and an orderly end
  4. ask it at random moments, whether it has answered or not: p50, p99 and answers a second, with and without batching
  5. stop it in the middle, and see that nothing it had accepted is lost

Before     03_training/export_formats.py
Run        python -m study run serving             (about 15 s on one CPU core, after importing torch)
You see    at twice the load that one by one can bear: p50 of 0.2 s in batches, all answered; else 1.5 s, and half of them refused
Try next   --wait-ms 50: batches have time to fill. First guess what that does to p50 at little load and at much; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import asyncio
import contextlib
import statistics
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


# %% 1. What a batch saves
@torch.inference_mode()
def milliseconds_each(model: nn.Module, sizes: list[int], rounds: int = 15) -> list[float]:
    """Return for each batch size the median milliseconds for one of its pictures."""
    found = []
    for size in sizes:
        x, seconds = torch.zeros(size, 1, SIDE, SIDE), []
        for _ in range(rounds):
            started = time.perf_counter()
            model(x)
            seconds.append(time.perf_counter() - started)
        found.append(1000 * statistics.median(seconds) / size)
    return found


# %% 2. The mistake everyone makes
async def others_wait(in_a_thread: bool, seconds: float) -> float:
    """Answer one question that takes `seconds`; return how long everything else in the event loop stands still."""

    async def handler() -> None:
        if in_a_thread:
            await asyncio.to_thread(time.sleep, seconds)
        else:
            time.sleep(seconds)  # as model(x) would, without an await: the loop comes to nothing else

    started = time.perf_counter()
    busy = asyncio.create_task(handler())
    await asyncio.sleep(0.001)  # somebody else, who has next to nothing to do
    waited = time.perf_counter() - started
    await busy
    return waited


# %% 3. A service
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


# %% 4. Under load
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


async def under_load(batcher: Batcher, bodies: list[bytes], rate: float, seed: int) -> tuple[list[Answer], float]:
    """Start a service, ask it, and stop it; return the answers and the seconds they took. No network: HTTP in one process."""
    import httpx

    app = create_app(batcher)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://digits")
    async with app.router.lifespan_context(app), client:
        started = time.perf_counter()
        answers = await ask_at_random(client, bodies, rate, seed)
        return answers, time.perf_counter() - started


def summary(answers: list[Answer], seconds: float) -> dict[str, float]:
    """Return milliseconds by which half and 99 % of the answered were answered, answers a second, and the share refused."""
    times = torch.tensor([took for took, status, _ in answers if status == 200] or [float("nan")])
    refused = sum(status != 200 for _, status, _ in answers) / len(answers)
    p50, p99 = (1000 * times.quantile(torch.tensor([0.5, 0.99]))).tolist()
    return {"p50": p50, "p99": p99, "a_second": (1 - refused) * len(answers) / seconds, "refused": refused}


# %% 5. An orderly end
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
        seconds: How long each load lasts.
        port: Serve here afterwards, until Ctrl-C; 0: do not.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        seed: Seed of weights, digits and moments.
    """
    check(min(width, steps, most, waiting, seconds) > 0 <= wait_ms, "all sizes and times above 0, --wait-ms from 0 on")
    digits = mnist(source)
    data, test = ((part.images / 255, part.labels) for part in (digits.train, digits.test[:1000]))
    torch.manual_seed(seed)
    network, filters = make_network(width), nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    train(network, *data, steps, lr=0.1, seed=seed)
    own = network(test[0]).argmax(dim=1)  # (n,)
    results = {"accuracy": (own == test[1]).float().mean().item(), "baseline": nearest_mean_accuracy(digits.train, digits.test)}
    check(results["accuracy"] > max(0.1, results["baseline"]), f"{results['accuracy']:.1%} right: more --steps?")
    sizes, each, other = [1, 4, 16, 32], {}, 0
    for name, model in (("linear", network), ("convolutions", filters)):
        each[name] = milliseconds_each(model, sizes)
        print(f"1. {name}, ms a picture: " + ", ".join(f"{ms:.2f} in {n}" for ms, n in zip(each[name], sizes, strict=True)))
    results |= {f"saved_{name}": found[0] / found[-1] for name, found in each.items()}
    loop, thread = (asyncio.run(others_wait(in_a_thread, 0.3)) for in_a_thread in (False, True))
    print(f"2. during 0.3 s of computing others wait {loop:.3f} s; when it is in a thread, {thread:.3f} s")
    for load, share in (("little", 0.5), ("much", 2.0)):
        rate = share * 1000 / each["linear"][0]  # in units of what could be answered one by one
        rows = torch.arange(int(rate * seconds) + 1) % len(own)
        bodies = [(test[0][row] * 255).round().to(torch.uint8).numpy().tobytes() for row in rows]
        for name, largest, wait in (("single", 1, 0.0), ("batches", most, wait_ms / 1000)):
            answers, took = asyncio.run(under_load(Batcher(network, largest, wait, waiting), bodies, rate, seed))
            found = summary(answers, took)
            told = f"p50 {found['p50']:4.0f} ms, p99 {found['p99']:4.0f} ms, {found['a_second']:4.0f} answers a second"
            print(f"4. {rate:4.0f} questions a second, {name:7}: {told}, {found['refused']:4.0%} refused")
            results |= {f"{key}_{load}_{name}": value for key, value in found.items()}
            served = [(said["digit"], row) for (_, status, said), row in zip(answers, rows, strict=True) if status == 200]
            other += sum(digit != own[row].item() for digit, row in served)
    accepted = asyncio.run(stop_in_the_middle(network, test[0][:40]))
    print(f"5. stopped with 40 questions in the queue: {accepted} were answered")
    check(other == 0 == 40 - accepted, f"{other} answers are another one's, {40 - accepted} questions accepted and forgotten")
    if port:
        from utils.web import listen, serve

        with listen("127.0.0.1", port) as listening:
            serve(create_app(Batcher(network, most, wait_ms / 1000, waiting)), listening, "127.0.0.1")
    return results | {"answered_at_the_end": accepted, "answers_of_another": other}


if __name__ == "__main__":
    run(main)
