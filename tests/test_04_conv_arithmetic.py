"""Convolution arithmetic: formulas hold for real layers, and every layer by hand is PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def arithmetic():
    return lesson("04_cnn/conv_arithmetic")


@pytest.fixture(scope="module")
def x():
    return torch.randn(2, 8, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_other_shapes_are_infinitely_far_apart(arithmetic):
    assert arithmetic.apart(torch.zeros(2, 3), torch.zeros(3)) == float("inf")
    assert arithmetic.apart(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0])) == 3


class TestWindows:
    def test_padding_by_hand_is_the_layers(self, arithmetic, x):
        worst, corner = arithmetic.compare_padding(x)
        assert worst < 1e-12
        assert corner["zeros"] == pytest.approx(4 / 9)
        assert [corner[mode] for mode in ("reflect", "replicate", "circular")] == pytest.approx([1, 1, 1])

    def test_stride_and_dilation(self, arithmetic, x):
        weight = torch.randn(3, 8, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        assert max(arithmetic.compare_steps(x, weight)) < 1e-12


class TestSizes:
    def test_of_many_layers(self, arithmetic):
        tried, wrong = arithmetic.count_sizes()
        assert tried > 500 and wrong == 0

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [((28, 3), 26), ((28, 3, 1, 1), 28), ((224, 7, 2, 3), 112), ((7, 3, 2), 3), ((8, 3, 2), 3), ((32, 3, 1, 4, 4), 32)],
    )
    def test_known_ones(self, arithmetic, settings, expected):
        assert arithmetic.output_size(*settings) == expected

    def test_a_window_that_does_not_fit(self, arithmetic):
        assert arithmetic.output_size(3, 5) <= 0
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            nn.Conv2d(1, 1, 5)(torch.zeros(1, 1, 3, 3))

    def test_transposed_undoes_where_nothing_was_rounded_off(self, arithmetic):
        for size in range(3, 20):
            small = arithmetic.output_size(size, 3, 2, 1)
            assert arithmetic.transposed_size(small, 3, 2, 1) == (size if size % 2 else size - 1)

    def test_the_error_and_two_ways_out(self, arithmetic):
        message, inputs, logits = arithmetic.meet_error()
        assert "mat1 and mat2 shapes cannot be multiplied (4x6272 and 25088x10)" in message
        assert inputs == 32 * 14 * 14
        assert logits == (4, 10)


class TestChannels:
    def test_groups_and_pointwise(self, arithmetic, x):
        groups, pointwise = arithmetic.compare_groups(x)
        assert groups < 1e-12 and pointwise < 1e-12

    def test_counted_products_are_the_formulas(self, arithmetic):
        dense = nn.Conv2d(64, 32, 3, padding=1, bias=False)
        assert arithmetic.count_products(dense) == (64 * 32 * 9, 64 * 32 * 9 * 32 * 32)
        depthwise, mix = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.Conv2d(64, 32, 1, bias=False)
        assert arithmetic.count_products(depthwise, mix) == (64 * 9 + 64 * 32, (64 * 9 + 64 * 32) * 32 * 32)


class TestTransposed:
    @pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (2, 3), (1, 1), (5, 1)])
    def test_is_stamping_and_the_gradient(self, arithmetic, x, kernel, stride):
        weight = torch.randn(8, 4, kernel, kernel, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        assert max(arithmetic.compare_transposed(x, weight, stride)) < 1e-12

    def test_overlaps_make_a_checkerboard_unless_the_stride_divides_the_kernel(self, arithmetic):
        assert arithmetic.draw_checkerboard(kernel=3, stride=2) == [3, 1, 1]  # overlaps of 1, 2 and 4 stamps
        assert arithmetic.draw_checkerboard(kernel=5, stride=3)[0] == 3
        assert arithmetic.draw_checkerboard(kernel=4, stride=4) == [1, 1, 1]
        assert arithmetic.draw_checkerboard(kernel=2, stride=1)[0] == 1


class TestPooling:
    def test_by_hand_is_pytorchs(self, arithmetic, x):
        differences, by_pool, by_amax = arithmetic.compare_pooling(x)
        assert len(differences) == 3 and max(differences) < 1e-12
        assert by_pool == [[1, 0], [0, 0]]
        assert by_amax == [[0.25, 0.25], [0.25, 0.25]]


class TestFields:
    def test_formula(self, arithmetic):
        assert arithmetic.receptive_field([]) == (1, 1)
        assert arithmetic.receptive_field([(3, 1, 1)] * 5) == (11, 1)
        assert arithmetic.receptive_field([(7, 2, 1), (3, 2, 1)]) == (11, 4)  # where a ResNet begins
        assert arithmetic.receptive_field([(3, 1, d) for d in (1, 2, 4, 8)]) == (31, 1)

    @pytest.mark.parametrize("stack", [[(3, 1, 1), (3, 1, 1)], [(3, 2, 1), (5, 1, 2)], [(2, 2, 1), (2, 2, 1), (3, 1, 1)]])
    def test_is_what_the_gradient_says(self, arithmetic, stack):
        paths = arithmetic.measure_field(stack)
        rows = paths.sum(dim=1).nonzero().flatten()
        assert rows[-1] - rows[0] + 1 == arithmetic.receptive_field(stack)[0]
        assert paths.sum() == torch.tensor([kernel**2 for kernel, _, _ in stack]).prod()  # each layer multiplies the paths

    def test_a_deep_stack_looks_at_the_middle(self, arithmetic):
        fields = arithmetic.compare_fields()
        assert all(said == seen for said, seen, _ in fields.values())
        assert fields["five 3x3"][2] > 0.85
        assert fields["one 11x11"][2] == pytest.approx(49 / 121)


class TestMain:
    @pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2)])
    def test_everything_is_equal(self, arithmetic, kernel, stride, monkeypatch):
        monkeypatch.setattr(arithmetic, "compare_fields", lambda: {"five 3x3": (11, 11, 0.9)})
        results = arithmetic.main(kernel=kernel, stride=stride, seed=1)
        assert results["largest_difference"] < 1e-12
        assert results["saving"] == pytest.approx(9 * 64 / (9 + 64))
        assert results["checkerboard_values"] == (3 if kernel == 3 else 1)

    def test_check_notices_a_wrong_formula(self, arithmetic, monkeypatch):
        monkeypatch.setattr(arithmetic, "compare_fields", lambda: {"five 3x3": (11, 13, 0.9)})
        with pytest.raises(LessonError, match="formulas"):
            arithmetic.main(kernel=3, stride=2, seed=0)

    def test_check_notices_a_wrong_layer(self, arithmetic, monkeypatch):
        monkeypatch.setattr(arithmetic, "by_stamping", lambda x, weight, stride: F.conv_transpose2d(x, weight))
        monkeypatch.setattr(arithmetic, "compare_fields", lambda: {})
        with pytest.raises(LessonError, match="equal differ by inf"):
            arithmetic.main(kernel=3, stride=2, seed=0)

    def test_check_notices_a_setting_that_cannot_be(self, arithmetic):
        with pytest.raises(LessonError, match="--kernel 0"):
            arithmetic.main(kernel=0, stride=2, seed=0)
