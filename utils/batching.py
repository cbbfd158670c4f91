"""Questions of many people, answered by one model a batch at a time.

    batcher = Batcher(network, most=32, wait=0.002, waiting=100)
    worker = asyncio.create_task(batcher.work())
    logits = await batcher.ask(picture)          # from as many places at once as you like
    await batcher.close(worker)                  # after what was accepted is answered

03_training/request_batching.py builds one by hand; 03_training/serving.py puts a service around this one.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from utils.lesson import LessonError


class Busy(LessonError):
    """So many questions are waiting that one more would wait too long. A page answers with HTTP status 503 (`utils.web`)."""

    kind = "busy"


class Batcher:
    """Gathers questions and asks the model about several at once, in one thread of its own: the event loop stays free.

    Args:
        model: From (n, ...) to (n, ...); in eval mode.
        most: Questions in a batch, at most.
        wait: Seconds that the first one waits for others. With 0 a batch is what has come while the last one was computed.
        waiting: Questions that may wait, at most; the next one is refused.

    Attributes:
        sizes: How many batches there were of each size.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], most: int, wait: float, waiting: int):
        self.model, self.most, self.wait = model, most, wait
        self.sizes: Counter[int] = Counter()
        self.queue: asyncio.Queue[tuple[Tensor, asyncio.Future]] = asyncio.Queue(maxsize=waiting)
        self.thread = ThreadPoolExecutor(max_workers=1)

    async def ask(self, x: Tensor) -> Tensor:
        """Return the model's answer to one question x; all questions have the same shape.

        Raises:
            Busy: Too many are waiting.
        """
        future = asyncio.get_running_loop().create_future()
        try:
            self.queue.put_nowait((x, future))
        except asyncio.QueueFull:
            raise Busy(f"{self.queue.maxsize} questions are waiting already: ask again in a moment") from None
        return await future

    async def gather(self) -> list[tuple[Tensor, asyncio.Future]]:
        """Wait for a question, and then for others, not longer than `wait` and not for more than `most`."""
        batch = [await self.queue.get()]
        until = time.perf_counter() + self.wait
        while len(batch) < self.most:
            try:
                batch.append(self.queue.get_nowait())
            except asyncio.QueueEmpty:
                if (left := until - time.perf_counter()) <= 0:
                    break
                await asyncio.sleep(min(left, 0.001))
        return batch

    async def work(self) -> None:
        """Answer batch after batch, for ever."""
        while True:
            batch = await self.gather()
            wanted = [(x, future) for x, future in batch if not future.done()]  # some may have gone in the meantime
            if wanted:
                await self.answer(wanted)
            for _ in batch:
                self.queue.task_done()

    async def answer(self, batch: list[tuple[Tensor, asyncio.Future]]) -> None:
        """Ask the model about a batch, and hand its answers out; or what went wrong, so that the next batch gets its turn."""
        self.sizes[len(batch)] += 1
        try:
            together = torch.stack([x for x, _ in batch])
            answers = await asyncio.get_running_loop().run_in_executor(self.thread, self.compute, together)
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)

    async def close(self, worker: asyncio.Task) -> None:
        """End `worker`, which does `work`, when all that was accepted is answered."""
        await self.queue.join()
        worker.cancel()
        self.thread.shutdown()

    @torch.inference_mode()
    def compute(self, together: Tensor) -> Tensor:
        """Ask the model, outside of the event loop."""
        return self.model(together)
