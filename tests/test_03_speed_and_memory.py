"""Speed and memory: every trick leaves the numbers as they were, and what is measured is what happens. No time is asserted."""

import json

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn

from utils import paths
from utils.datasets import mnist, nearest_mean_accuracy
from utils.lesson import LessonError
from utils.training import evaluate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def speed():
    return lesson("03_training/speed_and_memory")


@pytest.fixture
def network(speed):
    torch.manual_seed(0)
    return speed.Network(channels=8, depth=3)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 1, 14, 14, generator=generator), torch.randint(10, (16,), generator=generator)


def kept_for_backward(run) -> int:
    """Bytes that autograd keeps while `run` computes, each piece of memory counted once."""
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = run()
    del out
    return sum(kept.values())


class TestTrace:
    def test_follows_every_allocation(self, speed):
        def allocate():
            a = torch.empty(1000, dtype=torch.float32)
            b = torch.empty(500, dtype=torch.float32)
            del a
            c = torch.empty(250, dtype=torch.float32)
            del b, c

        _, curve = speed.trace(allocate, "allocations")
        held = [size for _, size in curve]
        assert held == [4000, 6000, 2000, 3000, 1000, 0]
        moments = [moment for moment, _ in curve]
        assert moments == sorted(moments) and moments[0] == 0

    def test_shares_name_what_dominates_and_the_file_can_be_read(self, speed, network, batch):
        shares, _ = speed.trace(lambda: speed.step(network, batch), "some name")
        assert sum(share for _, share, _ in shares) == pytest.approx(1)
        assert [share for _, share, _ in shares] == sorted((share for _, share, _ in shares), reverse=True)
        calls = {name: count for name, _, count in shares}
        assert calls["aten::convolution_backward"] == 4  # the stem and three blocks
        assert calls["aten::gelu"] == 3
        file = paths.outputs("speed_and_memory") / "trace_some_name.json"
        assert json.loads(file.read_text(encoding="utf-8"))["traceEvents"]

    def test_peak_is_what_backward_needs_and_a_little_more(self, speed, network, batch):
        _, curve = speed.trace(lambda: speed.step(network, batch), "plain")
        kept = kept_for_backward(lambda: network(batch[0]))
        assert kept < max(held for _, held in curve) < 3 * kept
        assert curve[-1][1] < 0.01 * kept  # all of it is given back


class TestVariants:
    def test_all_give_the_numbers_of_plain(self, speed, network, batch):
        variants = speed.make_variants(network, batch)
        found = speed.measure(variants, rounds=1, device=CPU)
        assert list(found) == ["plain", "channels_last", "bf16 autocast", "checkpointing"]
        for name, tolerance in (("plain", 0), ("channels_last", 1e-5), ("checkpointing", 0), ("bf16 autocast", 0.1)):
            _, _, logits, gradients, _ = found[name]
            assert logits <= tolerance and gradients <= tolerance, name
        assert found["bf16 autocast"][3] > 1e-4  # 8 bits of precision: it really was on
        assert found["checkpointing"][1] < found["plain"][1]

    def test_plain_is_what_loss_backward_gives(self, speed, network, batch):
        logits, gradients = speed.step(network, batch)
        F.cross_entropy(network(batch[0]), batch[1]).backward()
        expected = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
        torch.testing.assert_close(gradients, expected)
        torch.testing.assert_close(logits, network(batch[0]).detach())

    def test_each_does_what_its_name_says(self, speed, network, batch):
        variants = speed.make_variants(network, batch)
        assert variants["channels_last"][0].blocks[0][0].weight.is_contiguous(memory_format=torch.channels_last)
        assert not network.blocks[0][0].weight.is_contiguous(memory_format=torch.channels_last)

        def forward(network, examples, bf16):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                return network(examples[0])

        kept = {name: kept_for_backward(lambda v=v: forward(*v)) for name, v in variants.items()}
        assert kept["checkpointing"] < 0.6 * kept["plain"]  # of each block its input only
        assert kept["bf16 autocast"] < 0.6 * kept["plain"]  # the peak is higher where a processor without bf16 converts
        assert not network.checkpointed

    def test_checkpointing_draws_the_same_dropout_again(self, speed, network, batch):
        for block in network.blocks:
            block.append(nn.Dropout(0.4))
        results = []
        for checkpointed in (False, True):
            network.checkpointed = checkpointed
            torch.manual_seed(3)
            results.append(speed.step(network, batch))
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-6)
        torch.manual_seed(4)
        assert not torch.equal(speed.step(network, batch)[1], results[1][1])  # another mask, other gradients

    def test_no_compiler_is_told_in_a_sentence(self, speed, network, batch, monkeypatch, capsys):
        def fail(block):
            raise RuntimeError("Compiler: cl is not found.\nand a long traceback")

        monkeypatch.setattr(nn.Module, "compile", fail)
        assert speed.compile_blocks(network, batch) is None
        assert capsys.readouterr().out.strip() == "going on without torch.compile: Compiler: cl is not found."

    @pytest.mark.slow  # compiling takes 20 s
    def test_compiled_is_the_same(self, speed, network, batch):
        plain = speed.step(network, batch)
        seconds = speed.compile_blocks(network, batch)
        if seconds is None:
            pytest.skip("no C++ compiler")
        compiled = speed.step(network, batch)
        torch.testing.assert_close(compiled[0], plain[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(compiled[1], plain[1], rtol=1e-3, atol=1e-5)
        x = torch.randn(1000)
        torch.testing.assert_close(torch.compile(speed.chain)(x), speed.chain(x), rtol=1e-5, atol=1e-5)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
    def test_on_a_gpu(self, speed, network, batch):
        network, batch = network.cuda(), tuple(tensor.cuda() for tensor in batch)
        found = speed.measure(speed.make_variants(network, batch), rounds=2, device=torch.device("cuda"))
        assert found["channels_last"][3] < 1e-2 and found["checkpointing"][3] < 1e-4
        assert found["checkpointing"][1] < found["plain"][1]


def test_jobs_are_done_in_turn(speed):
    done = []
    times = speed.median_times({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, rounds=2, device=CPU)
    assert done == ["a", "b"] * 3  # once to warm up
    assert set(times) == {"a", "b"} and min(times.values()) >= 0


def test_a_loader_and_tensors_give_the_same_batches(speed, batch):
    same, ratio = speed.compare_feeding(batch, batch_size=5, rounds=3)
    assert same and ratio > 0


def test_view_is_the_error_everyone_meets(speed, batch):
    assert "view size is not compatible" in speed.meet_view(batch[0])


class TestTraining:
    def test_learns(self, speed):
        data = mnist("sample")
        digits, new = ((3 * (F.avg_pool2d(p.images / 255, 2) - 0.13), p.labels) for p in (data.train, data.test))
        baseline = nearest_mean_accuracy(data.train, data.test)
        torch.manual_seed(1)
        network = speed.Network(channels=16, depth=2)
        speed.train(network, digits, epochs=5, lr=0.02, seed=1)
        assert evaluate(network, [new])["accuracy"] > baseline + 0.02
        assert network.stem.weight.is_contiguous(memory_format=torch.channels_last)

    def test_main_measures_and_learns(self, speed):
        results = speed.main(channels=8, batch_size=16, rounds=1, compiled=False, epochs=5, source="sample", device="cpu", seed=0)
        assert results["accuracy"] > results["baseline_accuracy"] > 0.8
        assert results["peak_mb_checkpointing"] < results["peak_mb_plain"]
        assert "compile_seconds" not in results
        assert (paths.outputs("speed_and_memory") / "step.png").exists()

    def test_check_notices_a_network_that_does_not_learn(self, speed, monkeypatch):
        monkeypatch.setattr(speed, "train", lambda network, digits, epochs, lr, seed: None)
        with pytest.raises(LessonError, match="more --epochs"):
            speed.main(channels=2, batch_size=4, rounds=1, compiled=False, epochs=1, source="sample", device="cpu", seed=0)

    def test_check_notices_a_setting_that_cannot_be(self, speed):
        with pytest.raises(LessonError, match="at least 1"):
            speed.main(channels=2, batch_size=0, rounds=1, compiled=False, epochs=1, source="sample", device="cpu", seed=0)
