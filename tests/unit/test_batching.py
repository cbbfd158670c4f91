"""The batcher: everyone gets his own answer, batches are as large as they may be, and what is too much is refused."""

import asyncio
import threading
import time

import pytest
import torch

from utils.batching import Batcher, Busy


class Model:
    """Doubles numbers; remembers how many came at once, and can be held up."""

    def __init__(self):
        self.sizes, self.threads, self.go_on = [], set(), threading.Event()
        self.go_on.set()

    def __call__(self, x):
        self.sizes.append(len(x))
        self.threads.add(threading.get_ident())
        assert self.go_on.wait(10)
        return 2 * x


def with_batcher(scenario, model, most=4, wait=0.0, waiting=100):
    """Run `scenario(batcher)` while a worker works, then close."""

    async def whole():
        batcher = Batcher(model, most, wait, waiting)
        worker = asyncio.create_task(batcher.work())
        try:
            return await scenario(batcher)
        finally:
            await asyncio.wait_for(batcher.close(worker), 10)

    return asyncio.run(whole())


def numbers(count):
    return [torch.tensor([float(i)]) for i in range(count)]


class TestAnswers:
    def test_everyone_gets_his_own(self):
        async def scenario(batcher):
            return await asyncio.gather(*map(batcher.ask, numbers(50)))

        answers = with_batcher(scenario, Model(), most=8)
        assert [answer.item() for answer in answers] == [2.0 * i for i in range(50)]

    def test_what_is_there_is_one_batch(self):
        async def scenario(batcher):
            await asyncio.gather(*map(batcher.ask, numbers(10)))
            return dict(batcher.sizes)

        model = Model()
        assert with_batcher(scenario, model, most=4) == {4: 2, 2: 1}
        assert model.sizes == [4, 4, 2]

    def test_computes_in_one_other_thread_and_without_gradients(self):
        seen = []

        def model(x):
            seen.append((threading.get_ident(), torch.is_inference_mode_enabled()))
            return x

        async def scenario(batcher):
            await asyncio.gather(*map(batcher.ask, numbers(6)))

        with_batcher(scenario, model, most=2)
        assert len(set(seen)) == 1 and seen[0][0] != threading.get_ident() and seen[0][1]

    def test_while_one_batch_is_computed_the_next_one_gathers(self):
        model = Model()

        async def scenario(batcher):
            model.go_on.clear()
            first = asyncio.create_task(batcher.ask(torch.zeros(1)))
            while not model.sizes:
                await asyncio.sleep(0.001)
            others = [asyncio.create_task(batcher.ask(x)) for x in numbers(3)]
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in [first, *others])
            model.go_on.set()
            await asyncio.gather(first, *others)

        with_batcher(scenario, model, most=4)
        assert model.sizes == [1, 3]


class TestWaiting:
    def test_the_first_waits_for_others(self):
        model = Model()

        async def scenario(batcher):
            first = asyncio.create_task(batcher.ask(torch.zeros(1)))
            await asyncio.sleep(0.02)
            await asyncio.gather(first, batcher.ask(torch.ones(1)))

        with_batcher(scenario, model, most=4, wait=0.5)
        assert model.sizes == [2]

    def test_but_not_when_the_batch_is_full(self):
        async def scenario(batcher):
            started = time.perf_counter()
            await asyncio.gather(*map(batcher.ask, numbers(4)))
            return time.perf_counter() - started

        assert with_batcher(scenario, Model(), most=4, wait=20.0) < 10


class TestTooMuch:
    def test_a_full_queue_refuses_and_goes_on(self):
        model = Model()

        async def scenario(batcher):
            model.go_on.clear()
            asked = [asyncio.create_task(batcher.ask(torch.zeros(1)))]
            while not model.sizes:
                await asyncio.sleep(0.001)
            asked += [asyncio.create_task(batcher.ask(x)) for x in numbers(5)]
            await asyncio.sleep(0.01)
            model.go_on.set()
            return await asyncio.gather(*asked, return_exceptions=True)

        answers = with_batcher(scenario, model, most=2, waiting=3)
        assert [isinstance(answer, Busy) for answer in answers] == [False] * 4 + [True] * 2
        assert answers[-1].kind == "busy" and "3 questions are waiting already" in str(answers[-1])

    def test_nothing_is_computed_for_who_has_gone(self):
        model = Model()

        async def scenario(batcher):
            model.go_on.clear()
            first = asyncio.create_task(batcher.ask(torch.zeros(1)))
            while not model.sizes:
                await asyncio.sleep(0.001)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(batcher.ask(torch.ones(1)), 0.01)
            last = asyncio.create_task(batcher.ask(torch.tensor([5.0])))
            await asyncio.sleep(0.01)
            model.go_on.set()
            return (await asyncio.gather(first, last))[1].item()

        assert with_batcher(scenario, model, most=4) == 10
        assert model.sizes == [1, 1]


class TestErrors:
    def test_of_the_model_reach_who_asked_and_the_next_are_answered(self):
        def model(x):
            if (x < 0).any():
                raise ValueError("below 0")
            return x

        async def scenario(batcher):
            with pytest.raises(ValueError, match="below 0"):
                await batcher.ask(torch.tensor([-1.0]))
            return (await batcher.ask(torch.tensor([3.0]))).item()

        assert with_batcher(scenario, model) == 3

    def test_too_few_answers_are_an_error_and_nobody_waits_for_ever(self):
        async def scenario(batcher):
            return await asyncio.gather(*map(batcher.ask, numbers(3)), return_exceptions=True)

        answers = with_batcher(scenario, lambda x: x[:2])
        assert isinstance(answers[2], ValueError)


class TestEnd:
    def test_what_was_accepted_is_answered(self):
        model = Model()

        async def whole():
            batcher = Batcher(model, most=2, wait=0.0, waiting=100)
            worker = asyncio.create_task(batcher.work())
            asked = [asyncio.create_task(batcher.ask(x)) for x in numbers(9)]
            await asyncio.sleep(0)
            await batcher.close(worker)
            return [task.done() and task.result().item() for task in asked]

        assert asyncio.run(whole()) == [2.0 * i for i in range(9)]
