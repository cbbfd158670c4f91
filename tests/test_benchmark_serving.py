"""The benchmark of the service: its questions reach another process, at the rates that it tells. No time is asserted."""

import asyncio
import importlib
import multiprocessing

import pytest
from conftest import processes
from torch import nn

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def benchmark():
    return importlib.import_module("benchmarks.serving")


class TestService:
    @pytest.fixture(autouse=True)
    def _started_from_a_fork_server(self, benchmark, monkeypatch):
        context = processes()
        monkeypatch.setattr(benchmark.multiprocessing, "get_context", lambda method: context)

    def test_answers_over_http_and_ends_even_when_the_asking_fails(self, benchmark):
        with pytest.raises(ZeroDivisionError), benchmark.service("wide", most=4, wait=0.0) as address:
            found = asyncio.run(benchmark.ask(address, [bytes(784)] * 4, rate=5.0, seed=0))
            raise ZeroDivisionError
        assert found["a_second"] > 0 and found["p99"] >= found["p50"] > 0
        assert not multiprocessing.active_children()

    def test_one_that_cannot_start_is_told(self, benchmark):
        with pytest.raises(SystemExit, match="did not start"), benchmark.service("no such network", most=4, wait=0.0):
            pass


class TestMain:
    @pytest.fixture
    def asked(self, benchmark, monkeypatch):
        """What would be measured: (most, wait, rate), with a network that takes 20 ms for one picture."""
        asked = []

        def measure(kind, most, wait, rate, seconds, repeats):
            asked.append((most, wait, rate))
            return {"p50": 1.0, "p99": 2.0, "a_second": rate, "refused": 0.0}

        monkeypatch.setattr(benchmark, "measure", measure)
        monkeypatch.setattr(benchmark, "load_network", lambda kind: nn.Identity())
        monkeypatch.setattr(benchmark.lesson("request_batching"), "milliseconds_each", lambda model, sizes: [20.0, 5.0])
        return asked

    def test_rates_are_in_units_of_one_by_one(self, benchmark, asked):
        results = benchmark.main("load", shares=(0.5, 2.0), most=8)
        assert asked == [(1, 0.0, 25.0), (8, 0.0, 25.0), (1, 0.0, 100.0), (8, 0.0, 100.0)]
        assert results["a_second_2_in_batches"] == 100.0 and results["a_second_0.5_one_by_one"] == 25.0

    def test_waits_differ_and_nothing_else(self, benchmark, asked):
        benchmark.main("wait", shares=(0.5,))
        assert asked == [(32, wait, 25.0) for wait in (0.0, 0.002, 0.01, 0.05)]

    @pytest.mark.parametrize("flags", [{"shares": (0.5, 0.0)}, {"most": 0}, {"seconds": 0.0}, {"repeats": 0}])
    def test_flags_that_cannot_be(self, benchmark, flags):
        with pytest.raises(LessonError, match="above 0"):
            benchmark.main("load", **flags)
