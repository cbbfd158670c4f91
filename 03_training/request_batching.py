"""Request batching · 요청 묶기

A hundred people ask one network about one picture each. One by one, it fetches its weights from memory a hundred times; all at
once, a single time. A batcher stands between: it lets questions gather for an instant, and hands everyone their own answer.
백 사람이 한 신경망에 그림을 한 장씩 묻는다. 하나씩 물으면 가중치를 메모리에서 백 번 읽고, 백 장을 한꺼번에 물으면 한 번만 읽는다.
그 사이에 배처(batcher)가 선다. 질문이 잠깐 모이기를 기다렸다가 함께 계산하고, 저마다 자기 답을 돌려준다.

You will
  1. measure what a batch saves, and for which networks
  2. make the mistake everyone makes in asynchronous code: compute in the event loop, and all others wait
  3. write a batcher, and show that everyone gets the answer to their own question
  4. let it wait for others, and see what that costs when few ask and brings when many do
  5. ask more than it can answer, with a queue without an end and with a limit

Before     03_training/export_formats.py
Run        python -m study run request_batching    (about 20 s on one CPU core, after importing torch)
You see    at twice the load that one by one can bear: p50 of 0.8 s one by one, 0.05 s in batches that wait for nobody
Try next   --width 64: a network that fits into the processor's cache. First guess what batches bring then; then look at 1 and 4
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from utils.lesson import check, run

SIDE = 28
MOST_QUESTIONS = 1000  # in a load: a fast network would be asked more than one process can ask


def make_network(width: int) -> nn.Sequential:
    """Three linear layers, from pictures (n, 1, 28, 28) to logits (n, 10); not trained, for only time matters here."""
    layers = [nn.Linear(SIDE * SIDE, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(nn.Flatten(), *layers).eval()


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


# %% 3. A batcher
class Batcher:
    """Gathers questions and asks the model about several at once.

    utils/batching.py is the finished one: there a batch that fails tells those who asked, the next one gets its turn, and nothing
    is computed for who has gone.

    Args:
        model: From (n, ...) to (n, ...).
        most: Questions in a batch, at most.
        wait: Seconds that the first question of a batch waits for others.
        waiting: Questions that may wait, at most; 0: any number.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], most: int, wait: float = 0.0, waiting: int = 0):
        self.model, self.most, self.wait = model, most, wait
        self.queue: asyncio.Queue[tuple[Tensor, asyncio.Future]] = asyncio.Queue(waiting)
        self.sizes: list[int] = []

    async def ask(self, x: Tensor) -> Tensor:
        """Wait for the answer to one question, of any shape that all questions have. Raises asyncio.QueueFull."""
        future = asyncio.get_running_loop().create_future()  # an answer that is not there yet
        self.queue.put_nowait((x, future))
        return await future

    async def gather(self) -> list[tuple[Tensor, asyncio.Future]]:
        """Wait for a question; then for others, until there are `most` of them or `wait` is over."""
        batch = [await self.queue.get()]
        until = time.perf_counter() + self.wait
        while len(batch) < self.most:
            if not self.queue.empty():
                batch.append(self.queue.get_nowait())
            elif (left := until - time.perf_counter()) > 0:
                await asyncio.sleep(min(left, 0.001))
            else:
                break
        return batch

    async def work(self) -> None:
        """Answer batch after batch, for ever."""
        while True:
            batch = await self.gather()
            together = torch.stack([x for x, _ in batch])  # (n, ...)
            answers = await asyncio.to_thread(self.compute, together)  # meanwhile new questions come in
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)
            self.sizes.append(len(batch))

    @torch.inference_mode()
    def compute(self, together: Tensor) -> Tensor:
        return self.model(together)


async def ask_at_once(batcher: Batcher, pictures: Tensor) -> Tensor:
    """Ask about each of the pictures (n, ...) at the same moment; return the answers, in the order of those who asked."""
    worker = asyncio.create_task(batcher.work())
    answers = await asyncio.gather(*map(batcher.ask, pictures))
    worker.cancel()
    return torch.stack(answers)


# %% 4. Under load
class Load(NamedTuple):
    """What came of a load: milliseconds by which half, and 99 %, were answered; mean batch size; share refused."""

    p50: float
    p99: float
    size: float
    refused: float


async def under_load(batcher: Batcher, questions: int, rate: float, seed: int) -> tuple[Load, Tensor]:
    """Ask `rate` times a second on average, at random moments, whether earlier questions are answered or not (open loop).

    A time counts from the moment when the question was due. To wait for an answer before asking again (closed loop) would ask
    less just when the batcher is slow, and hide what people would have had to wait.

    Returns:
        The summary, and for each question the milliseconds it took, NaN where it was refused: (questions,).
    """
    gaps = torch.empty(questions).exponential_(rate, generator=torch.Generator().manual_seed(seed))
    picture, started = torch.zeros(1, SIDE, SIDE), time.perf_counter()

    async def ask(due: float) -> float:
        await asyncio.sleep(started + due - time.perf_counter())  # at once where that is below 0
        try:
            await batcher.ask(picture)
        except asyncio.QueueFull:
            return float("nan")
        return 1000 * (time.perf_counter() - started - due)

    worker = asyncio.create_task(batcher.work())
    took = torch.tensor(await asyncio.gather(*map(ask, gaps.cumsum(0).tolist())))
    worker.cancel()
    p50, p99 = took.nanquantile(torch.tensor([0.5, 0.99])).tolist()
    return Load(p50, p99, statistics.fmean(batcher.sizes), took.isnan().float().mean().item()), took


# %% All of it, in order
def main(
    width: int = 4096, most: int = 32, wait_ms: float = 20.0, waiting: int = 50, seconds: float = 1.5, seed: int = 0
) -> dict[str, float]:
    """Gather questions into batches, and measure what that brings and what it costs.

    Args:
        width: Of the network's hidden layers.
        most: Pictures in a batch.
        wait_ms: The longest that the first question waits for others; 0 and a tenth of it are tried beside it.
        waiting: Questions that may wait where there is a limit.
        seconds: How long each load lasts, at most.
        seed: Seed of weights, pictures and moments.
    """
    check(min(width, most, wait_ms, waiting, seconds) > 0, "all sizes and times must be above 0")
    torch.manual_seed(seed)
    network, filters = make_network(width), nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    sizes, each, results = [1, 4, 16, 32], {}, {}
    for name, model in (("linear", network), ("convolutions", filters)):
        each[name] = milliseconds_each(model, sizes)
        print(f"1. {name}, ms a picture: " + ", ".join(f"{ms:.2f} in {n}" for ms, n in zip(each[name], sizes, strict=True)))
    results |= {f"saved_{name}": found[0] / found[-1] for name, found in each.items()}

    loop, thread = (asyncio.run(others_wait(in_a_thread, 0.3)) for in_a_thread in (False, True))
    print(f"2. during 0.3 s of computing others wait {loop:.3f} s; when it is in a thread, {thread:.3f} s")
    results |= {"waited_in_loop": loop, "waited_in_thread": thread}

    pictures = torch.rand(100, 1, SIDE, SIDE)
    batcher = Batcher(network, most)
    answers = asyncio.run(ask_at_once(batcher, pictures))
    with torch.inference_mode():
        alone = torch.cat([network(picture[None]) for picture in pictures])  # (100, 10)
    off = (answers - alone).abs().max().item()
    nearest = torch.cdist(answers, alone).argmin(dim=1)  # whose answer is it?
    check(torch.equal(nearest, torch.arange(100)), "somebody got another's answer")
    print(f"3. 100 questions in batches of {batcher.sizes}: each its own answer, off by {off:.0e} from being asked alone")
    results |= {"off": off, "batches": len(batcher.sizes)}

    started = time.perf_counter()
    asyncio.run(ask_at_once(Batcher(network, most=1), pictures))
    capacity = len(pictures) / (time.perf_counter() - started)  # questions a second, one by one
    for load, share in (("little", 0.3), ("much", 2.0)):
        rate = share * capacity
        questions = min(int(rate * seconds), MOST_QUESTIONS) + 1
        print(f"4. {rate:.0f} questions a second, {share:g} of what can be answered one by one")
        for name, largest, wait in (
            ("single", 1, 0.0),
            ("now", most, 0.0),
            ("soon", most, wait_ms / 10),
            ("late", most, wait_ms),
        ):
            found, _ = asyncio.run(under_load(Batcher(network, largest, wait / 1000), questions, rate, seed))
            told = "one by one" if name == "single" else f"wait {wait:g} ms"
            print(f"   {told:12} p50 {found.p50:5.0f} ms, p99 {found.p99:5.0f} ms, {found.size:4.1f} in a batch")
            results |= {f"{key}_{load}_{name}": value for key, value in found._asdict().items() if key != "refused"}

    for name, limit in (("no_end", 0), ("limit", waiting)):
        found, took = asyncio.run(under_load(Batcher(network, 1, waiting=limit), questions, rate, seed))
        early, late = (part.nanmedian().item() for part in took.chunk(2))
        told = f"a queue of {limit}" if limit else "a queue without an end"
        print(f"5. {told}: at first half wait {early:.0f} ms, later {late:.0f} ms; {found.refused:.0%} are refused at once")
        results |= {f"early_{name}": early, f"late_{name}": late, f"refused_{name}": found.refused}
    return results


if __name__ == "__main__":
    run(main)
