"""Exporting a graph: what is written down is what was meant, or it is refused; and what goes wrong silently is measured."""

import pytest
import torch
from conftest import lesson
from torch import nn
from torch.export import export

from utils.datasets import mnist, nearest_mean_accuracy
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def graphs():
    module = lesson("03_training/export_graph")
    module.Network.__module__ = "__main__"  # as when it runs: TorchScript cannot read a module's name like 03_training
    return module


@pytest.fixture(scope="module")
def digits():
    data = mnist("sample")
    return [(part.images.float() / 255, part.labels) for part in (data.train, data.test)]


@pytest.fixture(scope="module")
def network(graphs, digits):
    """Trained well enough to tell right from wrong."""
    torch.manual_seed(1)
    network = graphs.Network(dropout=0.5)
    graphs.train(network, digits[0], steps=80, lr=3e-3, seed=1)
    return network


class TestInterpreter:
    def test_computes_what_the_network_computes(self, graphs, network, digits):
        operations, ours, theirs = graphs.compare_interpreter(network, digits[1][0][:50])
        assert operations == ["conv2d", "batch_norm", "relu", "max_pool2d", "flatten", "dropout", "linear"]
        assert ours <= 1e-5 and theirs <= 1e-5

    def test_takes_the_weights_of_the_program(self, graphs, network, digits):
        pictures = digits[1][0][:4]
        program = export(network, (pictures,))
        program.state_dict["head.2.bias"] = program.state_dict["head.2.bias"] + 1
        with torch.no_grad():
            torch.testing.assert_close(graphs.interpret(program, pictures), network(pictures) + 1)

    def test_knows_constants_methods_and_a_size_that_changes(self, graphs):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("shift", torch.arange(3.0), persistent=False)

            def forward(self, x):
                first, second = (x + self.shift).split([1, 2], dim=1)
                return torch.cat([second, first], dim=1).reshape(x.shape[0], 3, 1) * x.shape[0]

        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        program = export(Odd(), (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=8)},))
        assert torch.equal(graphs.interpret(program, x), Odd()(x))


class TestSizes:
    def test_another_size_is_refused(self, graphs, network, digits):
        assert "2" in graphs.meet_size(network, digits[1][0])

    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_any_size_up_to_the_largest(self, graphs, network, digits, count):
        pictures = digits[1][0][:count]
        program = graphs.export_batches(network, digits[1][0], largest=8).module()
        with torch.no_grad():
            torch.testing.assert_close(program(pictures), network(pictures))

    def test_more_than_the_largest_is_refused(self, graphs, network, digits):
        program = graphs.export_batches(network, digits[1][0], largest=8).module()
        with pytest.raises((AssertionError, RuntimeError), match="8"):
            program(digits[1][0][:9])


class TestBranches:
    def test_frozen_said_and_better(self, graphs, network, digits, capsys):
        right = graphs.accuracy(network, *digits[1])
        message, found = graphs.compare_branches(network, digits[1])
        assert "data-dependent" in message
        assert found["if_dark"] == found["cond_dark"] == found["where_dark"] == right
        assert found["where_mixed"] == right
        assert found["if_mixed"] == found["cond_mixed"] < right - 0.15  # a third has the wrong ink
        assert found["trace_dark"] < 0.3
        output = capsys.readouterr()
        assert output.out.startswith('3. "Could not') and "forward" not in output.out + output.err

    def test_each_picture_is_turned_on_its_own(self, graphs, digits):
        pictures = digits[1][0][:6]
        some = torch.cat([1 - pictures[:2], pictures[2:]])
        each = graphs.EachChooses(nn.Identity())(some)
        torch.testing.assert_close(each, pictures)
        assert torch.equal(graphs.PythonChooses(nn.Identity())(some), some)  # on the whole the batch is black
        torch.testing.assert_close(graphs.PythonChooses(nn.Identity())(1 - pictures), pictures)


class TestEval:
    def test_forgotten_it_answers_otherwise(self, graphs, network, digits):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        torch.manual_seed(0)
        changed, alone = graphs.forget_eval(network, digits[1][0])
        assert changed > 0.02 and alone > 0.02
        assert not network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_remembered_it_does_not(self, graphs, network, digits):
        program = graphs.export_batches(network, digits[1][0], largest=400).module()
        together, again = program(digits[1][0]), program(digits[1][0])
        alone = torch.cat([program(picture[None]) for picture in digits[1][0][:50]])
        assert torch.equal(together, again)
        torch.testing.assert_close(alone, together[:50], rtol=0, atol=1e-4)


class TestOldFiles:
    def test_weights_move_over(self, graphs, network, digits, tmp_path):
        graphs.as_torchscript(network, digits[1][0][:2]).save(tmp_path / "old.pt")
        torch.manual_seed(5)
        fresh = graphs.Network(dropout=0.5)
        message, off = graphs.read_old(tmp_path / "old.pt", fresh, digits[1][0])
        assert "weights_only" in message and off <= 1e-5
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in fresh.state_dict().items())


class TestMain:
    def test_learns_and_everything_agrees(self, graphs):
        results = graphs.main(steps=120, lr=3e-3, dropout=0.5, source="sample", seed=0)
        data = mnist("sample")
        assert results["baseline"] == nearest_mean_accuracy(data.train, data.test)
        assert results["accuracy"] > results["baseline"] + 0.04
        assert max(results[name] for name in ("interpreter_off", "graph_off", "old_off")) < 1e-4

    def test_check_notices_a_network_that_has_not_learned(self, graphs):
        with pytest.raises(LessonError, match="more --steps"):
            graphs.main(steps=1, lr=3e-3, dropout=0.5, source="sample", seed=0)

    @pytest.mark.parametrize("flags", [{"steps": 0}, {"lr": 0.0}, {"dropout": 1.0}, {"dropout": -0.1}])
    def test_flags_that_cannot_be(self, graphs, flags):
        with pytest.raises(LessonError, match="--dropout"):
            graphs.main(**{"steps": 1, "lr": 1e-3, "dropout": 0.5, "source": "sample", "seed": 0} | flags)
