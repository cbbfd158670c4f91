"""LSTM and GRU: cells by hand are PyTorch's; with fixed gates, the gradient of c is the product of the forget gates."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def rnn():
    return lesson("05_rnn/lstm_gru")


class TestCells:
    def test_equal_pytorchs_cells(self, rnn):
        torch.manual_seed(0)
        x, h, c = torch.randn(4, 3).double(), torch.randn(4, 6).double(), torch.randn(4, 6).double()
        for cell, state in ((nn.LSTMCell(3, 6).double(), (h, c)), (nn.GRUCell(3, 6).double(), (h,))):
            weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
            name = type(cell).__name__.removesuffix("Cell")
            expected = cell(x, state if name == "LSTM" else h)
            expected = expected if name == "LSTM" else (expected,)
            torch.testing.assert_close(rnn.CELLS[name](x, state, weights), expected, rtol=0, atol=1e-14)

    def test_gates_do_what_their_names_say(self, rnn):
        """Biases of ±50 open and close them: kept, written, hidden."""
        zeros, state = torch.zeros(1, 2), (torch.zeros(1, 1), torch.tensor([[3.0]]))

        def step(i, f, g, o):
            weights = [torch.zeros(4, 2), torch.zeros(4, 1), torch.tensor([i, f, g, o]), torch.zeros(4)]
            return [part.item() for part in rnn.lstm_step(zeros, state, weights)]

        assert step(-50.0, 50.0, 50.0, -50.0) == pytest.approx([0, 3])  # nothing in, nothing lost, nothing shown
        assert step(50.0, 50.0, 50.0, -50.0) == pytest.approx([0, 4])  # adds the candidate, which is 1
        assert step(50.0, -50.0, -50.0, 50.0) == pytest.approx([-0.76159, -1], abs=1e-4)  # forgets, writes -1, shows tanh(-1)

    def test_gru_keeps_by_its_update_gate_and_resets_in_two_ways(self, rnn):
        weights = [torch.zeros(3, 1), torch.tensor([[0.0], [0.0], [2.0]]), torch.zeros(3), torch.tensor([0.0, 50.0, 1.0])]
        x, h = torch.zeros(1, 1), torch.tensor([[0.4]])
        assert rnn.gru_step(x, (h,), weights)[0].item() == pytest.approx(0.4)  # z = 1: all is kept
        weights[3] = torch.tensor([0.0, -50.0, 1.0])  # r = 1/2, z = 0: h is the candidate
        after, first = (rnn.gru_step(x, (h,), weights, reset_first=way)[0] for way in (False, True))
        assert after.item() == pytest.approx(torch.tensor(0.5 * (2 * 0.4 + 1)).tanh().item())
        assert first.item() == pytest.approx(torch.tensor(2 * (0.5 * 0.4) + 1).tanh().item())


class TestLayers:
    @pytest.mark.parametrize("cell", ["LSTM", "GRU"])
    @pytest.mark.parametrize(("layers", "directions"), [(1, 1), (1, 2), (3, 1), (2, 2)])
    def test_outputs_states_and_gradients_are_pytorchs(self, rnn, cell, layers, directions):
        assert 0 < rnn.compare_ways(cell, layers, directions, torch.float32, seed=1) < 1e-6
        assert rnn.compare_ways(cell, layers, directions, torch.float64, seed=1) < 1e-12

    def test_a_wrong_order_of_gates_would_show(self, rnn, monkeypatch):
        def confused(x, h, weights):
            f, i, g, o = lstm_gates(x, h, weights)
            return i, f, g, o

        lstm_gates = rnn.lstm_gates
        monkeypatch.setattr(rnn, "lstm_gates", confused)
        assert rnn.compare_ways("LSTM", 1, 1, torch.float64, seed=1) > 0.01

    def test_with_copied_weights_and_other_sizes(self, rnn):
        torch.manual_seed(4)
        theirs = nn.GRU(2, 5, 3, batch_first=True, bidirectional=True).double()
        copy = nn.GRU(2, 5, 3, batch_first=True, bidirectional=True).double()
        copy.load_state_dict(theirs.state_dict())
        x, h = torch.randn(4, 9, 2).double(), torch.randn(6, 4, 5).double()
        outputs, (last,) = rnn.read(copy, x, (h,))
        assert outputs.shape == (4, 9, 10) and last.shape == (6, 4, 5)
        torch.testing.assert_close((outputs, last), theirs(x, h), rtol=0, atol=1e-12)
        torch.testing.assert_close(outputs[:, -1, :5], last[4], rtol=0, atol=0)  # forward: its last is at the end
        torch.testing.assert_close(outputs[:, 0, 5:], last[5], rtol=0, atol=0)  # backward: at the beginning

    @pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
    def test_parameters(self, rnn, cell):
        layer = getattr(nn, cell)(10, 7)
        assert rnn.count_parameters(cell, 10, 7) == sum(parameter.numel() for parameter in layer.parameters())


class TestBiases:
    def test_two_are_one_too_many_but_for_the_candidate_of_a_gru(self, rnn):
        moved, _ = rnn.move_biases("LSTM", seed=2)
        assert len(moved) == 4 and max(moved) < 1e-14
        (r, z, n), reset_first = rnn.move_biases("GRU", seed=2)
        assert max(r, z) < 1e-14 and n > 0.1
        assert reset_first > 0.01


class TestGradient:
    def test_with_fixed_gates_is_the_product_of_the_forget_gates(self, rnn):
        left = rnn.carry(1.0, steps=30, seed=3)
        assert all(curve.shape == (31,) and curve[0] == 1 for curve in left.values())
        torch.testing.assert_close(left["gates"], left["product"], rtol=1e-10, atol=0)
        assert (left["LSTM"] / left["product"])[-1] > 2  # what goes through h and the gates comes on top

    def test_vanishes_in_a_new_lstm_too_unless_its_forget_gate_is_open(self, rnn):
        without, with_bias, wide = (rnn.carry(bias, steps=60, seed=3) for bias in (0.0, 1.0, 4.0))
        assert without["RNN"][-1] < 1e-12 and without["LSTM"][-1] < 1e-10
        assert without["product"][10] == pytest.approx(0.5**10, rel=1)
        assert 1e-8 < with_bias["LSTM"][-1] < 0.01
        assert wide["LSTM"][-1] > 0.1
        torch.testing.assert_close(with_bias["RNN"], without["RNN"])


class TestMistakes:
    def test_errors_are_the_ones_everyone_meets(self, rnn):
        one, two = rnn.forget_the_cell_state()
        assert "index 1 is out of bounds for dimension 0 with size 1" in one
        assert "hx and cx should also be 3-D but got (2-D, 2-D)" in two

    def test_without_batch_first_strings_meet_and_nothing_is_said(self, rnn):
        assert rnn.count_changed(batch_first=True, seed=5) == 1
        assert rnn.count_changed(batch_first=False, seed=5) == 4


class TestMain:
    def test_returns_what_it_found(self, rnn):
        results = rnn.main(distance=40, forget_bias=2.0, seed=1)
        assert results["LSTM_difference"] < 1e-12 and results["GRU_difference"] < 1e-12
        assert (results["LSTM_parameters"], results["GRU_parameters"]) == (132_096, 99_072)
        assert results["LSTM_biases_moved"] < 1e-14 < 0.1 < results["GRU_biases_moved"]
        assert results["RNN_left"] < results["LSTM_left_without_bias"] < 1e-6 < 0.01 < results["LSTM_left"]
        assert (results["changed_batch_first"], results["changed_without"]) == (1, 4)

    def test_check_notices_a_wrong_cell(self, rnn, monkeypatch):
        gru_step = rnn.gru_step
        monkeypatch.setitem(rnn.CELLS, "GRU", lambda x, state, weights: gru_step(x, state, weights, reset_first=True))
        with pytest.raises(LessonError, match="GRU by hand differs"):
            rnn.main(distance=2, forget_bias=1.0, seed=0)

    def test_refuses_no_distance(self, rnn):
        with pytest.raises(LessonError, match="--distance 1"):
            rnn.main(distance=1, forget_bias=1.0, seed=0)
