"""Gates at work: LSTM and GRU learn to count brackets, and a cell by hand sees inside the trained LSTM."""

import math

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def gates():
    return lesson("05_rnn/gates")


@pytest.fixture(scope="module")
def trained(gates):
    """An LSTM that counts in strings of 20, and its losses."""
    model = gates.Counter("LSTM", hidden=16, forget_bias=0.0, seed=0)
    return model, gates.train(model, steps=400, length=20, lr=0.04, seed=0)


class TestStrings:
    def test_depths_are_those_of_the_brackets(self, gates):
        characters, depths = gates.make_strings(300, 60, seed=1)
        assert characters.shape == depths.shape == (300, 60)
        for row, expected in zip(characters[:20].tolist(), depths[:20].tolist(), strict=True):
            text = "".join(gates.CHARACTERS[number] for number in row)
            assert [text[: i + 1].count("(") - text[: i + 1].count(")") for i in range(60)] == expected
        assert depths.min() == 0 and depths.max() == 8
        assert (characters < 3).float().mean() == pytest.approx(0.5, abs=0.02)
        assert not torch.equal(characters, gates.make_strings(300, 60, seed=2)[0])

    def test_last_six_characters_are_not_enough(self, gates):
        known = gates.make_strings(1000, 40, seed=1)
        assert 0.35 < gates.simple_rule(known, gates.make_strings(300, 40, seed=2)) < 0.6
        short = gates.make_strings(2000, 6, seed=1)  # here they are everything
        assert gates.simple_rule(short, gates.make_strings(300, 6, seed=2)) > 0.98


class TestCounting:
    def test_learns_to_count_in_strings_it_has_not_seen(self, gates, trained):
        model, losses = trained
        assert losses[0] == pytest.approx(math.log(9), abs=0.3)
        assert sum(losses[-20:]) / 20 < 0.1
        right = gates.at_every_place(model, *gates.make_strings(300, 20, seed=10**9))
        assert right.shape == (20,) and right.mean() > 0.97

    def test_forget_bias_goes_to_the_forget_gate_once(self, gates):
        plain, open_ = (gates.Counter("LSTM", 4, bias, seed=0).recurrent for bias in (0.0, 3.0))
        difference = open_.bias_ih_l0 - plain.bias_ih_l0 + open_.bias_hh_l0 - plain.bias_hh_l0
        torch.testing.assert_close(difference.detach(), torch.tensor([0.0] * 4 + [3.0] * 4 + [0.0] * 8))


class TestWatching:
    def test_sees_what_happens_inside(self, gates, trained):
        lstm = trained[0].recurrent
        characters, _ = gates.make_strings(7, 25, seed=3)
        seen = gates.watch(lstm, characters)
        assert all(values.shape == (7, 25, 16) for values in seen.values())
        outputs, (_, c) = lstm(torch.nn.functional.one_hot(characters, 5).float())
        torch.testing.assert_close(seen["o"] * seen["c"].tanh(), outputs.detach(), rtol=0, atol=1e-5)
        torch.testing.assert_close(seen["c"][:, -1], c[0].detach(), rtol=0, atol=1e-5)
        assert all(0 <= seen[gate].min() and seen[gate].max() <= 1 for gate in "ifo") and seen["g"].min() < -0.5

    def test_a_unit_counts(self, gates, trained):
        characters, depths = gates.make_strings(300, 20, seed=4)
        found = gates.find_counter(gates.watch(trained[0].recurrent, characters), characters, depths)
        assert abs(found["correlation"]) > 0.9
        assert found["open"] * found["close"] < 0 and found["open"] * found["correlation"] > 0
        assert min(abs(found["open"]), abs(found["close"])) > 0.3
        assert abs(found["letter"]) < 0.15
        untrained = gates.Counter("LSTM", 16, 0.0, seed=0).recurrent
        found = gates.find_counter(gates.watch(untrained, characters), characters, depths)
        assert min(abs(found["open"]), abs(found["close"])) < 0.2

    def test_finds_the_unit(self, gates):
        characters, depths = gates.make_strings(50, 20, seed=5)
        seen = {name: torch.rand(50, 20, 3, generator=torch.Generator().manual_seed(0)) for name in "ifgoc"}
        seen["c"][:, :, 1] = 2 - 0.5 * depths
        seen["i"][:, :, 1] = 1.0
        seen["g"][:, :, 1] = torch.where(characters == 3, -0.5, 0.0) + torch.where(characters == 4, 0.5, 0.0)
        found = gates.find_counter(seen, characters, depths)
        assert found["unit"] == 1 and found["correlation"] == pytest.approx(-1)
        assert (found["open"], found["close"], found["letter"]) == pytest.approx((-0.5, 0.5, 0.0))


class TestMain:
    def test_both_count(self, gates):
        results = gates.main(hidden=16, steps=160, length=12, lr=0.06, forget_bias=0.0, device="cpu", seed=0)
        assert results["baseline_accuracy"] < 0.9
        assert min(results["LSTM_accuracy"], results["GRU_accuracy"]) > 0.965
        assert {"LSTM_accuracy_long", "GRU_accuracy_long", "counter_forget"} <= set(results)
        assert abs(results["counter_correlation"]) > 0.8

    def test_check_notices_networks_that_have_not_learned(self, gates):
        with pytest.raises(LessonError, match="more --steps"):
            gates.main(hidden=4, steps=3, length=20, lr=0.05, forget_bias=0.0, device="cpu", seed=0)

    def test_refuses_too_short_strings(self, gates):
        with pytest.raises(LessonError, match="--length"):
            gates.main(hidden=4, steps=3, length=5, lr=0.05, forget_bias=0.0, device="cpu", seed=0)
