"""Long memory: where the vanilla cell answers as if it had read nothing, LSTM and GRU remember, if their gates begin open."""

import math

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def memory():
    return lesson("05_rnn/long_memory")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestTasks:
    @pytest.mark.parametrize("length", [2, 7, 30])
    def test_adding(self, memory, length):
        x, sums = memory.adding(2000, length, generator())
        assert x.shape == (2000, length, 2) and sums.shape == (2000, 1)
        numbers, marks = x.unbind(dim=2)
        assert torch.equal(marks[:, : length // 2].sum(dim=1), torch.ones(2000))  # one in each half
        assert torch.equal(marks[:, length // 2 :].sum(dim=1), torch.ones(2000))
        assert marks.sum(dim=0).min() > 0  # anywhere in it
        torch.testing.assert_close(numbers[marks.bool()].view(2000, 2).sum(dim=1), sums[:, 0])
        assert (sums - 1).square().mean().item() == pytest.approx(memory.BASELINES["adding"], rel=0.1)

    def test_recall(self, memory):
        x, symbols = memory.recall(2000, 12, generator())
        assert x.shape == (2000, 12, 13) and torch.equal(x.sum(dim=2), torch.ones(2000, 12))
        kinds = x.argmax(dim=2)
        assert torch.equal(kinds[:, 0], symbols) and (kinds[:, -1] == 12).all()
        assert kinds[:, 1:-1].min() == 8 and kinds[:, 1:-1].max() == 11
        assert symbols.bincount().min() > 200 and memory.BASELINES["recall"] == 7 / 8


class TestReader:
    @pytest.mark.parametrize("task", ["adding", "recall"])
    def test_cells_are_of_one_size(self, memory, task):
        sizes = [sum(p.numel() for p in memory.Reader(c, task, 4500, 0.0, 0).recurrent.parameters()) for c in memory.CELLS]
        assert max(sizes) <= 4500 and min(sizes) > 0.93 * 4500
        answers = memory.Reader("GRU", task, 500, 0.0, 0)(memory.TASKS[task](5, 9, generator())[0])
        assert answers.shape == ((5, 1) if task == "adding" else (5, 8))

    @pytest.mark.parametrize(("cell", "blocks"), [("LSTM", 4), ("GRU", 3)])
    def test_bias_goes_to_the_gate_that_keeps(self, memory, cell, blocks):
        """Wide open, it keeps the state: noise in between changes little."""
        plain, open_ = (memory.Reader(cell, "recall", 900, bias, seed=0).recurrent for bias in (0.0, 9.0))
        hidden = plain.hidden_size
        expected = torch.zeros(blocks * hidden)
        expected[hidden : 2 * hidden] = 9.0
        torch.testing.assert_close((open_.bias_ih_l0 - plain.bias_ih_l0).detach(), expected)
        assert torch.equal(open_.bias_hh_l0, plain.bias_hh_l0)
        if cell == "GRU":
            x, h = torch.zeros(1, 40, 13), torch.linspace(-0.9, 0.9, hidden).view(1, 1, hidden)
            torch.testing.assert_close(open_(x, h)[1], h, rtol=0, atol=0.05)
            assert (plain(x, h)[1] - h).abs().max() > 0.3

    def test_vanilla_cell_has_no_gate(self, memory):
        one, other = (memory.Reader("RNN", "adding", 300, bias, seed=0) for bias in (0.0, 5.0))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class TestMistakes:
    def test_error_is_the_one_everyone_meets(self, memory):
        assert "Expected target size [3, 8], got [3, 2]" in memory.keep_the_steps()

    def test_a_dimension_too_few_punishes_the_right_answer(self, memory):
        perfect, always, warning = memory.forget_a_dimension(seed=1)
        assert perfect == pytest.approx(1 / 3, rel=0.1) and always == pytest.approx(1 / 6, rel=0.1)
        assert "target size" in warning and "different to the input size" in warning


class TestLearning:
    def test_starts_at_guessing(self, memory):
        model = memory.Reader("LSTM", "recall", 1000, 3.0, seed=0)
        (loss,) = memory.train(model, length=10, steps=1, lr=0.0, seed=0)
        assert loss == pytest.approx(math.log(8), abs=0.2)
        assert memory.measure(model, length=10) == pytest.approx(7 / 8, abs=0.05)

    def test_adds_over_20_steps_where_the_vanilla_cell_does_not(self, memory):
        errors = {}
        for cell, lr in (("GRU", 0.03), ("RNN", 0.01)):
            model = memory.Reader(cell, "adding", 2500, 1.0, seed=0)
            memory.train(model, length=20, steps=200, lr=lr, seed=0)
            errors[cell] = memory.measure(model, length=20)
        assert errors["GRU"] < 0.02 < 0.1 < errors["RNN"]

    def test_main(self, memory, monkeypatch):
        monkeypatch.setattr(memory, "RATES", {"RNN": 1e-2, "LSTM": 4e-2, "GRU": 4e-2})
        monkeypatch.setattr(memory, "BIASES", (3.0,))
        monkeypatch.setattr(memory, "KEEP_BIAS", {"adding": 1.0, "recall": 3.0})
        results = memory.main(lengths=(6,), steps=200, weights=2000, networks=1, device="cpu", seed=0)
        assert max(results["adding_LSTM_6"], results["adding_GRU_6"]) < 0.04
        assert max(results["recall_LSTM_6"], results["recall_GRU_6"]) < 0.1
        assert results["recall_bias_3"] == results["recall_LSTM_6"]

    def test_check_notices_networks_that_have_not_learned(self, memory, monkeypatch):
        monkeypatch.setattr(memory, "BIASES", (3.0,))
        with pytest.raises(LessonError, match="more --steps"):
            memory.main(lengths=(6,), steps=10, weights=200, networks=1, device="cpu", seed=0)

    def test_refuses_what_cannot_be(self, memory):
        with pytest.raises(LessonError, match="--lengths"):
            memory.main(lengths=(), steps=10, weights=200, networks=1, device="cpu", seed=0)
        with pytest.raises(LessonError, match="--steps"):
            memory.main(lengths=(6,), steps=1, weights=200, networks=1, device="cpu", seed=0)


@pytest.mark.slow  # the promise itself, over forty steps: about 30 s of CPU
def test_keeps_its_promise(memory, monkeypatch):
    monkeypatch.setattr(memory, "RATES", {"RNN": 1e-2, "LSTM": 4e-2, "GRU": 2e-2})
    monkeypatch.setattr(memory, "BIASES", (0.0, 3.0))
    monkeypatch.setattr(memory, "KEEP_BIAS", {"adding": 1.0, "recall": 3.0})
    results = memory.main(lengths=(40,), steps=600, weights=4500, networks=1, device="cpu", seed=0)
    assert max(results["adding_LSTM_40"], results["adding_GRU_40"]) < 0.02 < 0.1 < results["adding_RNN_40"]
    assert max(results["recall_LSTM_40"], results["recall_GRU_40"]) < 0.1 < 0.5 < results["recall_RNN_40"]
    assert results["recall_bias_0"] > 0.7
