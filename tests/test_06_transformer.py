"""The Transformer: PyTorch's in every number, does not look ahead, and betrays a mask that is the wrong way round."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.lesson import LessonError

OPTIONS = {"dropout": 0.0, "batch_first": True}


@pytest.fixture(scope="module")
def transformer():
    return lesson("06_advanced/transformer")


@pytest.fixture(scope="module")
def model(transformer):
    torch.manual_seed(0)
    return transformer.Transformer(2, 8, 2, 12).double()


class TestLayers:
    @pytest.mark.parametrize("norm_first", [False, True])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-13)])
    def test_are_pytorchs(self, transformer, dtype, tolerance, norm_first):
        found = transformer.compare_layers(dtype, norm_first, seed=3)
        assert {name.partition(", ")[2] for name in found} == {"", "causal", "padding", "memory mask", "all"}
        assert max(found.values()) < tolerance

    @pytest.mark.parametrize("norm_first", [False, True])
    def test_comparison_notices_the_other_norm(self, transformer, norm_first):
        ours, theirs = transformer.EncoderLayer(8, 2, 12, norm_first), nn.TransformerEncoderLayer(8, 2, 12, **OPTIONS)
        off = transformer.difference(ours, theirs, (torch.randn(2, 3, 8),), {}, {})
        assert off > 0.1 if norm_first else off < 5e-6

    def test_layer_norm_is_pytorchs(self, transformer):
        x = 100 + torch.randn(4, 5, 8, dtype=torch.float64)
        torch.testing.assert_close(transformer.LayerNorm(8).double()(x), torch.nn.functional.layer_norm(x, (8,)))

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_in_use_too(self, transformer):
        """In eval mode PyTorch takes another way, which leaves padding out."""
        theirs = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, **OPTIONS), 2, nn.LayerNorm(8)).eval()
        ours = transformer.Stack(transformer.EncoderLayer, 2, 8, 2, 12)
        ours.load_state_dict(theirs.state_dict())
        x, real = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([[5], [3], [1]])
        with torch.no_grad():
            torch.testing.assert_close(ours(x, real[:, None, None])[real], theirs(x, src_key_padding_mask=~real)[real])


class TestWhole:
    @pytest.mark.filterwarnings("ignore:enable_nested_tensor")
    @pytest.mark.parametrize("norm_first", [False, True])
    def test_is_pytorchs(self, transformer, norm_first):
        assert transformer.compare_whole(torch.float32, norm_first, seed=4) < 5e-6
        assert transformer.compare_whole(torch.float64, norm_first, seed=4) < 1e-13

    @pytest.mark.parametrize(("depth", "width", "hidden"), [(1, 8, 5), (3, 16, 64)])
    def test_formula_counts_what_is_there(self, transformer, depth, width, hidden):
        model = transformer.Transformer(depth, width, 2, hidden)
        assert transformer.count_parameters(depth, width, hidden) == sum(p.numel() for p in model.parameters())


class TestWhatMayMove:
    def test_what_may_and_what_must_not(self, transformer):
        found = transformer.change_inputs(seed=2)
        assert found["a later word"] == found["padding"] == 0
        assert min(found["a later word, no mask"], found["padding, no mask"], found["what is read"]) > 0.01

    def test_each_output_hangs_on_its_past_and_on_all_that_is_read(self, model):
        source, target = torch.randn(2, 1, 4, 8, dtype=torch.float64)
        causal, real = torch.ones(4, 4).tril().bool(), torch.tensor([True, True, True, False])
        jacobians = torch.autograd.functional.jacobian(lambda *both: model(*both, real, causal)[0], (source, target))
        read, written = (jacobian.abs().sum(dim=(1, 2, 4)) for jacobian in jacobians)  # (targets, sources) each
        assert written.triu(1).eq(0).all() and written.tril().gt(0).sum() == 10
        assert read[:, :3].gt(0).all() and read[:, 3].eq(0).all()


class TestMistakes:
    def test_messages(self, transformer):
        message, found = transformer.meet_error(seed=1)
        assert message.startswith("Need attn_mask if specifying the is_causal hint")
        assert not found[0]  # whether evaluation says NaN is up to PyTorch's version

    def test_noise_cannot_be_predicted_unless_it_is_seen(self, transformer):
        right, inverted = (transformer.predict_noise(inverted, steps=100, seed=1) for inverted in (False, True))
        assert right > 2.2 and inverted < 1.5


def test_main(transformer):
    results = transformer.main(depth=2, width=16, seed=1)
    assert results["parameters"] == transformer.count_parameters(2, 16, 64)
    assert results["off_float64"] < 1e-13 and results["a_later_word"] == 0


def test_settings_that_cannot_be(transformer):
    with pytest.raises(LessonError, match="--depth 1"):
        transformer.main(depth=0, width=8, seed=0)
    with pytest.raises(LessonError, match="--width 8"):
        transformer.main(depth=1, width=12, seed=0)
