"""What attention costs: in blocks it is the plain one in every number; what is kept grows as it is said to grow."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def cost():
    return lesson("06_advanced/attention_cost")


def draw(count, *shape, dtype=torch.float64):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


class TestOnlineSoftmax:
    @pytest.mark.parametrize("order", ["rising", "falling"])
    def test_top_and_total(self, cost, order):
        numbers = (100 * draw(60)).sort(descending=order == "falling").values
        top, total = cost.online_softmax(numbers.split(7))
        assert top == numbers.max().item()
        assert top + math.log(total) == pytest.approx(numbers.logsumexp(dim=0).item(), rel=1e-12)

    def test_correction_matters(self, cost):
        off, excess = cost.compare_softmax(seed=1)
        assert off < 1e-12 and excess > 2


class TestBlocks:
    def test_is_the_plain_one_with_gradients(self, cost):
        found = cost.compare_ways(21, seed=2)
        assert list(found) == ["fused", "blocks of 1", "blocks of 7", "blocks of 64", "computed twice"]
        assert max(found.values()) < 1e-12

    @pytest.mark.parametrize("causal", [False, True])
    def test_large_scores_overflow_nothing(self, cost, causal):
        query, key, value = draw(3, 2, 20, 4)
        got = cost.blocked_attention(1000 * query, key, value, causal, block=6)
        torch.testing.assert_close(got, F.scaled_dot_product_attention(1000 * query, key, value, is_causal=causal))

    def test_more_sources_than_targets(self, cost):
        key, value = draw(2, 3, 2, 19, 4)
        query = draw(1, 3, 2, 5, 4)[0]
        got = cost.blocked_attention(query, key, value, block=8)
        torch.testing.assert_close(got, F.scaled_dot_product_attention(query, key, value))

    def test_float32(self, cost):
        inputs = draw(3, 1, 4, 100, 16, dtype=torch.float32)
        torch.testing.assert_close(
            cost.blocked_attention(*inputs, block=32), F.scaled_dot_product_attention(*inputs), atol=1e-6, rtol=0
        )

    def test_never_holds_more_than_a_block_of_scores(self, cost, monkeypatch):
        sizes = []
        softened = torch.Tensor.amax
        monkeypatch.setattr(
            torch.Tensor, "amax", lambda scores, **options: (sizes.append(scores.shape), softened(scores, **options))[1]
        )
        cost.blocked_attention(*draw(3, 1, 50, 4), block=16)
        assert max(rows * columns for _, rows, columns in sizes) == 256 and len(sizes) == 16
        sizes.clear()
        cost.blocked_attention(*draw(3, 1, 64, 4), causal=True, block=16)
        assert len(sizes) == 4 + 3 + 2 + 1  # blocks above the diagonal are not computed


class TestKept:
    def test_plain_is_quadratic_and_twice_is_not(self, cost):
        kept = {}
        for name, way in cost.WAYS.items():
            kept[name] = [cost.count_kept(way, *draw(3, 1, 2, length, 8, dtype=torch.float32)) for length in (256, 512)]
        assert kept["plain"] == [2 * 256**2 * 4, 2 * 512**2 * 4]  # the weights, 4 bytes each
        assert kept["blocks"][1] > 3 * kept["blocks"][0] > 3 * kept["plain"][0]
        assert kept["blocks twice"][1] <= 2 * 512 * 8 * 4  # no more than the output
        assert kept["fused"][1] <= 2.5 * kept["fused"][0]

    def test_figure(self, cost):
        seconds, kept = cost.measure_costs((64, 128), repeats=1, seed=0)
        assert list(seconds) == [*cost.WAYS, "linear layer"] and list(kept) == list(cost.WAYS)
        assert all(len(row) == 2 and min(row) > 0 for row in seconds.values())
        assert (paths.outputs("attention_cost") / "cost.png").exists()


def test_error(cost):
    assert f"tried to allocate {4 * 2**46}" in cost.meet_error()


class TestMain:
    def test_holds_together(self, cost):
        results = cost.main(longest=512, repeats=1, seed=1)
        assert results["plain_bytes"] == 4 * 4 * 512**2
        assert results["fused_bytes"] < results["plain_bytes"] / 4
        assert results["causal_time"] > 0

    def test_check_notices_a_setting_that_cannot_be(self, cost):
        with pytest.raises(LessonError, match="--longest 512"):
            cost.main(longest=100, repeats=1, seed=0)
