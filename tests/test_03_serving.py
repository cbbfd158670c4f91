"""Serving: what is sent is answered or refused in a sentence, loads are asked as planned, and an end loses nothing."""

import asyncio
import contextlib
import time

import httpx
import pytest
import torch
from conftest import lesson
from torch import nn

from utils.batching import Batcher
from utils.datasets import mnist
from utils.lesson import LessonError

PICTURE = bytes(784)


@pytest.fixture(scope="module")
def serving():
    return lesson("03_training/serving")


@pytest.fixture(scope="module")
def network(serving):
    torch.manual_seed(0)
    return serving.make_network(width=16)


@contextlib.asynccontextmanager
async def client_of(app):
    """A client of a service that has started."""
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://digits") as client:
        yield client


def asked(serving, model, *requests, waiting=10):
    """The responses to (method, path, content), asked one after the other."""

    async def ask():
        async with client_of(serving.create_app(Batcher(model, most=4, wait=0.0, waiting=waiting))) as client:
            return [await client.request(method, path, content=content) for method, path, content in requests]

    return asyncio.run(ask())


class Slow(nn.Module):
    """Takes its time, from the second call on."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.calls = seconds, 0

    def forward(self, x):
        self.calls += 1
        time.sleep(self.seconds if self.calls > 1 else 0)
        return torch.zeros(len(x), 10)


class TestService:
    def test_answers_as_the_network(self, serving, network):
        pixels = torch.randint(256, (28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        (response,) = asked(serving, network, ("POST", "/predict", pixels.numpy().tobytes()))
        probabilities = network(pixels.view(1, 1, 28, 28) / 255).softmax(dim=1)[0]
        assert response.status_code == 200
        assert response.json() == {
            "digit": probabilities.argmax().item(),
            "probability": pytest.approx(probabilities.max().item(), abs=1e-4),
        }

    def test_health_and_readiness(self, serving, network):
        health, ready, _, after = asked(
            serving,
            network,
            ("GET", "/health", None),
            ("GET", "/ready", None),
            ("POST", "/predict", PICTURE),
            ("GET", "/health", None),
        )
        assert health.json() == {"status": "ok", "batches": 1, "waiting": 0}  # the model was tried before anybody came
        assert ready.status_code == 200 and ready.json() == {"status": "ready"}
        assert after.json()["batches"] == 2

    def test_not_ready_before_the_start_and_alive_all_the_same(self, serving, network):
        async def ask():
            app = serving.create_app(Batcher(network, most=4, wait=0.0, waiting=10))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://digits") as client:
                return await client.get("/ready"), await client.get("/health")

        ready, health = asyncio.run(ask())
        assert ready.status_code == 503 and ready.json() == {"error": "the model is still being prepared", "kind": "busy"}
        assert health.status_code == 200

    @pytest.mark.parametrize(
        ("content", "status", "words"),
        [
            (b"", 422, "a picture has 784 bytes, row by row; this one has 0"),
            (bytes(783), 422, "this one has 783"),
            (bytes(785), 413, "more than"),
            (bytes(5_000_000), 413, "more than"),
        ],
    )
    def test_what_is_no_picture_is_refused_in_a_sentence(self, serving, network, content, status, words):
        bad, good = asked(serving, network, ("POST", "/predict", content), ("POST", "/predict", PICTURE))
        assert bad.status_code == status and words in bad.json()["error"]
        assert good.status_code == 200

    def test_too_many_are_refused_and_the_others_answered(self, serving):
        async def ask():
            async with client_of(serving.create_app(Batcher(Slow(0.2), most=1, wait=0.0, waiting=2))) as client:
                return await asyncio.gather(*(client.post("/predict", content=PICTURE) for _ in range(8)))

        responses = asyncio.run(ask())
        statuses = [response.status_code for response in responses]
        assert set(statuses) == {200, 503} and 2 <= statuses.count(200) <= 3
        refused = next(response for response in responses if response.status_code == 503)
        assert refused.json() == {"error": "2 questions are waiting already: ask again in a moment", "kind": "busy"}

    def test_too_late_is_told(self, serving, monkeypatch):
        monkeypatch.setattr(serving, "TIMEOUT", 0.02)
        (response,) = asked(serving, Slow(0.2), ("POST", "/predict", PICTURE))
        assert response.status_code == 504
        assert response.json() == {"error": "there was no answer within 0.02 seconds", "kind": "late"}


class TestLoad:
    def test_is_open(self, serving):
        """A slow server is asked at the same moments as a fast one, and what waited in its queue counts."""

        class Client:
            def __init__(self, seconds):
                self.seconds, self.moments, self.one_at_a_time = seconds, [], asyncio.Lock()

            async def post(self, path, content):
                self.moments.append(time.perf_counter())
                async with self.one_at_a_time:
                    await asyncio.sleep(self.seconds)
                return httpx.Response(200, json={"digit": 1})

        async def ask(seconds):
            client = Client(seconds)
            started = time.perf_counter()
            answers = await serving.ask_at_random(client, [PICTURE] * 20, rate=200.0, seed=0)
            return [moment - started for moment in client.moments], answers

        fast, _ = asyncio.run(ask(0.0))
        slow, answers = asyncio.run(ask(0.1))
        gaps = torch.empty(20).exponential_(200.0, generator=torch.Generator().manual_seed(0)).cumsum(0)
        assert max(fast) < 1.8 and max(slow) < 1.8  # 20 answers take the slow one 2 s: nobody waited for them
        assert all(moment >= due - 0.002 for moment, due in zip(slow, gaps.tolist(), strict=True))
        assert max(took for took, _, _ in answers) > 1.5

    def test_a_time_begins_when_the_question_is_due(self, serving):
        class Client:
            async def post(self, path, content):
                return httpx.Response(200, json={"digit": 1})

        answers = asyncio.run(serving.ask_at_random(Client(), [PICTURE] * 10, rate=8.0, seed=0))
        last = torch.empty(10).exponential_(8.0, generator=torch.Generator().manual_seed(0)).sum().item()
        assert last > 0.8 and min(took for took, _, _ in answers[5:]) < 0.4

    def test_summary_by_hand(self, serving):
        answers = [(0.001 * i, 200, {}) for i in range(1, 101)] + [(9.0, 503, {}), (9.0, 504, {})]
        found = serving.summary(answers, seconds=2.0)
        assert found["p50"] == pytest.approx(50.5) and found["p99"] == pytest.approx(99.01)
        assert found["refused"] == pytest.approx(2 / 102) and found["a_second"] == pytest.approx(50)

    def test_through_the_service(self, serving, network):
        batcher = Batcher(network, most=8, wait=0.0, waiting=100)
        answers, seconds = asyncio.run(serving.under_load(batcher, [PICTURE] * 30, rate=500.0, seed=0))
        assert [status for _, status, _ in answers] == [200] * 30 and seconds > 0
        assert sum(size * count for size, count in batcher.sizes.items()) == 31  # and the one that warms up


def test_stopped_in_the_middle_all_are_answered(serving, network):
    assert asyncio.run(serving.stop_in_the_middle(network, torch.zeros(30, 1, 28, 28))) == 30


def test_the_limits_are_met(serving, network):
    expected = {"one picture": 200, "half of one": 422, "ten of them": 413, "twenty at once": 503}
    assert asyncio.run(serving.meet_limits(network)) == expected


def test_capacity_is_of_one_by_one(serving):
    assert asyncio.run(serving.answered_a_second(Slow(0.02), questions=10)) <= 50


class TestMain:
    FLAGS = {"width": 64, "steps": 150, "most": 8, "wait_ms": 1.0, "waiting": 50, "seconds": 0.2, "port": 0}

    @pytest.fixture(autouse=True)
    def _few_questions(self, serving, monkeypatch):
        monkeypatch.setattr(serving, "MOST_QUESTIONS", 40)

    def test_serves_what_has_learned(self, serving):
        results = serving.main(**self.FLAGS, source="sample", seed=0)
        data = mnist("sample")
        baseline = serving.nearest_mean_accuracy(data.train, data.test)
        assert results["accuracy"] > results["baseline"] == baseline > 0.8
        assert results["answers_of_another"] == 0 and results["answered_at_the_end"] == 40

    def test_check_notices_answers_that_are_mixed_up(self, serving, monkeypatch):
        real = Batcher.compute
        monkeypatch.setattr(Batcher, "compute", lambda self, together: real(self, together).roll(1, dims=1))
        with pytest.raises(LessonError, match="another one's"):
            serving.main(**self.FLAGS, source="sample", seed=0)

    def test_check_notices_a_network_that_has_not_learned(self, serving):
        with pytest.raises(LessonError, match="more --steps"):
            serving.main(**self.FLAGS | {"steps": 1}, source="sample", seed=0)

    @pytest.mark.parametrize("flag", ["width", "steps", "most", "waiting", "seconds", "wait_ms"])
    def test_flags_that_cannot_be(self, serving, flag):
        with pytest.raises(LessonError, match="above 0"):
            serving.main(**self.FLAGS | {flag: -1}, source="sample", seed=0)
