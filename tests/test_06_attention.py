"""Attention: the look-up is PyTorch's under every mask, the scale keeps the softmax alive, the traps are shown as they are."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def attention():
    return lesson("06_advanced/attention")


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TestSoftDictionary:
    def test_sharpness_decides(self, attention):
        for sharpness in (0.0, 1.0, 30.0):
            expected = math.exp(sharpness) / (math.exp(sharpness) + 3)
            assert attention.ask_softly(sharpness)[2].item() == pytest.approx(expected)
        assert attention.ask_softly(30.0)[2].item() == pytest.approx(1)


class TestSoftmax:
    def test_is_pytorchs(self, attention):
        scores = 100 * draw(4, 5)
        for dim in (0, 1):
            torch.testing.assert_close(attention.softmax(scores, dim), scores.softmax(dim))
        assert attention.softmax(torch.tensor([1e4, 1e4])).tolist() == [0.5, 0.5]  # nothing overflows

    def test_gradient_is_pytorchs_also_where_one_source_is_left(self, attention):
        scores = draw(2, 4).index_fill(1, torch.tensor([3]), -math.inf)
        scores[1, 1:] = -math.inf
        upstream = draw(2, 4, seed=1)
        scores.requires_grad_()
        ours, theirs = (torch.autograd.grad(way(scores, -1), scores, upstream)[0] for way in (attention.softmax, torch.softmax))
        torch.testing.assert_close(ours, theirs)

    def test_of_nothing_is_nothing(self, attention):
        scores = torch.full((1, 3), -math.inf, requires_grad=True)
        weights = attention.softmax(scores)
        assert weights.tolist() == [[0, 0, 0]]
        assert torch.autograd.grad(weights.sum(), scores)[0].tolist() == [[0, 0, 0]]


class TestLookUp:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
    def test_is_pytorchs_under_every_mask(self, attention, dtype, tolerance):
        found = attention.compare_masks(dtype, seed=3)
        assert list(found) == ["none", "padding", "causal", "padding and causal", "float", "blind"]
        assert max(found.values()) < tolerance

    def test_weights_of_a_target_sum_to_one(self, attention):
        mask = torch.tensor([True, True, False])
        out, weights = attention.look_up(draw(2, 4, 3), draw(2, 3, 5, seed=1), mask)
        assert out.shape == (2, 4, 5)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, dtype=torch.float64))
        assert weights[..., 2].eq(0).all()

    def test_what_is_masked_does_not_count(self, attention):
        value, mask = draw(1, 3, 5), torch.tensor([True, True, False])
        changed = value.clone()
        changed[:, 2] = 1e6
        scores = draw(1, 4, 3, seed=1)
        assert torch.equal(attention.look_up(scores, value, mask)[0], attention.look_up(scores, changed, mask)[0])

    def test_more_targets_than_sources(self, attention):
        query, key, value = draw(2, 7, 4), draw(2, 3, 4, seed=1), draw(2, 3, 6, seed=2)
        ours = attention.look_up(attention.dot_scores(query, key), value)[0]
        torch.testing.assert_close(ours, F.scaled_dot_product_attention(query, key, value))


class TestScores:
    def test_additive_follows_its_formula(self, attention):
        query, key, v = draw(3, 2, 4), draw(3, 5, 4, seed=1), draw(4, seed=2)
        scores = attention.additive_scores(query, key, v)
        assert scores.shape == (3, 2, 5)
        expected = sum(v[i] * math.tanh(query[1, 0, i] + key[1, 3, i]) for i in range(4)).item()
        assert scores[1, 0, 3].item() == pytest.approx(expected)

    def test_dot_product_is_a_matrix_product(self, attention):
        assert attention.compare_scores(steps=64, width=32, seed=0)["off"] < 1e-5

    def test_scale_keeps_variance_and_slope(self, attention):
        found = attention.measure_scale((4, 256), seed=1)
        for width in (4, 256):
            assert found["scaled", width][0] == pytest.approx(1, rel=0.15)
            assert found["plain", width][0] == pytest.approx(width, rel=0.15)
        assert found["plain", 256][1] > 0.85 > 0.4 > found["scaled", 256][1]
        assert found["plain", 256][2] < found["scaled", 256][2] / 2
        assert (paths.outputs("attention") / "scale.png").exists()


class TestMistakes:
    def test_error_and_its_silent_sibling(self, attention):
        message, off = attention.meet_error()
        assert "must match the size of tensor b (4)" in message
        assert off > 0.1

    def test_two_conventions(self, attention):
        apart, alike, leak = attention.compare_polarity(seed=1)
        assert apart > 0.1 > 1e-6 > alike
        assert leak > 1

    def test_wrong_axis(self, attention):
        smallest, largest = attention.look_over_targets(seed=0)
        assert smallest < 0.9 < 1.1 < largest


class TestMain:
    def test_holds_together(self, attention):
        results = attention.main(width=16, steps=32, seed=1)
        assert results["off_float32"] < 2e-6 and results["off_float64"] < 1e-12
        assert results["sharp_weight"] > 0.999
        assert results["plain_slope"] < results["scaled_slope"]

    def test_check_notices_a_missing_scale(self, attention, monkeypatch):
        monkeypatch.setattr(attention, "dot_scores", lambda query, key: query @ key.mT)
        with pytest.raises(LessonError, match="PyTorch's numbers"):
            attention.main(width=16, steps=32, seed=1)

    def test_check_notices_a_setting_that_cannot_be(self, attention):
        with pytest.raises(LessonError, match="at least"):
            attention.main(width=1, steps=32, seed=1)
