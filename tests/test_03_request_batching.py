"""Request batching: everyone gets the answer to their own question, batches are as large as they may be, a full queue refuses."""

import asyncio
import threading
import time

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def batching():
    return lesson("03_training/request_batching")


class Doubler:
    """Doubles numbers; remembers how many came at once, and can be held up."""

    def __init__(self):
        self.sizes, self.threads, self.go_on = [], set(), threading.Event()
        self.go_on.set()

    def __call__(self, x):
        self.sizes.append(len(x))
        self.threads.add((threading.get_ident(), torch.is_inference_mode_enabled()))
        assert self.go_on.wait(10)
        return 2 * x


def with_worker(batcher, scenario):
    """Run `scenario()` while the batcher works."""

    async def whole():
        worker = asyncio.create_task(batcher.work())
        try:
            return await asyncio.wait_for(scenario(), 10)
        finally:
            worker.cancel()

    return asyncio.run(whole())


class TestBatcher:
    def test_everyone_gets_their_own_answer(self, batching):
        batcher = batching.Batcher(Doubler(), most=8)
        numbers = torch.arange(50.0).view(50, 1)
        assert torch.equal(asyncio.run(batching.ask_at_once(batcher, numbers)), 2 * numbers)

    def test_what_is_there_is_computed_together(self, batching):
        model = Doubler()
        batcher = batching.Batcher(model, most=4)
        asyncio.run(batching.ask_at_once(batcher, torch.zeros(10, 1)))
        assert model.sizes == batcher.sizes == [4, 4, 2]

    def test_equal_to_being_asked_alone(self, batching):
        torch.manual_seed(0)
        network, pictures = batching.make_network(32), torch.rand(20, 1, 28, 28)
        answers = asyncio.run(batching.ask_at_once(batching.Batcher(network, most=8), pictures))
        with torch.inference_mode():
            alone = torch.cat([network(picture[None]) for picture in pictures])
        assert answers.shape == (20, 10)
        torch.testing.assert_close(answers, alone, rtol=0, atol=1e-5)

    def test_computes_in_another_thread_without_gradients(self, batching):
        model = Doubler()
        asyncio.run(batching.ask_at_once(batching.Batcher(model, most=2), torch.zeros(4, 1)))
        assert all(thread != threading.get_ident() and inference for thread, inference in model.threads)

    def test_while_one_batch_is_computed_the_next_one_gathers_without_waiting(self, batching):
        model = Doubler()
        batcher = batching.Batcher(model, most=4)

        async def scenario():
            model.go_on.clear()
            first = asyncio.create_task(batcher.ask(torch.zeros(1)))
            while not model.sizes:
                await asyncio.sleep(0.001)
            others = [asyncio.create_task(batcher.ask(torch.zeros(1))) for _ in range(3)]
            await asyncio.sleep(0.01)
            model.go_on.set()
            await asyncio.gather(first, *others)

        with_worker(batcher, scenario)
        assert model.sizes == [1, 3]

    @pytest.mark.parametrize(("wait", "sizes"), [(2.0, [2]), (0.0, [1, 1])])
    def test_the_first_waits_for_others_as_long_as_it_is_told(self, batching, wait, sizes):
        model = Doubler()
        batcher = batching.Batcher(model, most=2, wait=wait)

        async def scenario():
            first = asyncio.create_task(batcher.ask(torch.zeros(1)))
            await asyncio.sleep(0.1)
            await asyncio.gather(first, batcher.ask(torch.ones(1)))

        with_worker(batcher, scenario)
        assert model.sizes == sizes

    def test_a_full_batch_waits_for_nobody(self, batching):
        batcher = batching.Batcher(Doubler(), most=3, wait=30.0)
        asyncio.run(asyncio.wait_for(batching.ask_at_once(batcher, torch.zeros(3, 1)), 10))

    def test_a_full_queue_refuses_at_once(self, batching):
        model = Doubler()
        batcher = batching.Batcher(model, most=1, waiting=2)

        async def scenario():
            model.go_on.clear()
            asked = [asyncio.create_task(batcher.ask(torch.zeros(1)))]
            while not model.sizes:
                await asyncio.sleep(0.001)
            asked += [asyncio.create_task(batcher.ask(torch.zeros(1))) for _ in range(5)]
            await asyncio.sleep(0.01)
            refused = sum(task.done() for task in asked)
            model.go_on.set()
            return refused, await asyncio.gather(*asked, return_exceptions=True)

        refused, answers = with_worker(batcher, scenario)
        assert refused == 3 == sum(isinstance(answer, asyncio.QueueFull) for answer in answers)


class TestLoop:
    def test_who_computes_in_the_loop_stops_all_others(self, batching):
        assert asyncio.run(batching.others_wait(in_a_thread=False, seconds=0.2)) >= 0.2

    def test_a_thread_does_not(self, batching):
        fastest = min(asyncio.run(batching.others_wait(in_a_thread=True, seconds=0.2)) for _ in range(3))
        assert fastest < 0.15


class TestLoad:
    def test_is_open(self, batching):
        """A slow model is asked at the same moments as a fast one, and what waited in its queue counts."""

        def slow(x):
            time.sleep(0.05)
            return x

        load, took = asyncio.run(batching.under_load(batching.Batcher(slow, most=1), 20, rate=200.0, seed=0))
        assert took[-1] > 500 and load.p99 > load.p50 > 200 and load.refused == 0 and load.size == 1
        load, took = asyncio.run(batching.under_load(batching.Batcher(slow, most=20), 20, rate=200.0, seed=0))
        assert took.max() < 500 and load.size > 2

    def test_refused_ones_are_counted_and_have_no_time(self, batching):
        def slow(x):
            time.sleep(0.1)
            return x

        load, took = asyncio.run(batching.under_load(batching.Batcher(slow, most=1, waiting=1), 10, rate=500.0, seed=0))
        assert load.refused == took.isnan().float().mean().item() >= 0.5
        assert load.p99 < 1000


def test_milliseconds_are_for_one_picture(batching):
    each = batching.milliseconds_each(lambda x: time.sleep(0.02), [1, 4], rounds=3)
    assert each[0] >= 20 and 5 <= each[1] < each[0]


class TestMain:
    FLAGS = {"width": 64, "most": 8, "wait_ms": 20.0, "waiting": 5, "seconds": 0.2}

    @pytest.fixture(autouse=True)
    def _few_questions(self, batching, monkeypatch):
        monkeypatch.setattr(batching, "MOST_QUESTIONS", 40)

    def test_all_sections(self, batching):
        results = batching.main(**self.FLAGS, seed=0)
        assert results["off"] < 1e-5 and results["batches"] == 13
        assert results["waited_in_loop"] >= 0.3

    def test_check_notices_answers_that_are_mixed_up(self, batching, monkeypatch):
        real = batching.Batcher.compute
        monkeypatch.setattr(batching.Batcher, "compute", lambda self, together: real(self, together).roll(1, dims=0))
        with pytest.raises(LessonError, match="another's answer"):
            batching.main(**self.FLAGS, seed=0)

    @pytest.mark.parametrize("flag", ["width", "most", "waiting", "seconds", "wait_ms"])
    def test_flags_that_cannot_be(self, batching, flag):
        with pytest.raises(LessonError, match="above 0"):
            batching.main(**self.FLAGS | {flag: 0}, seed=0)
