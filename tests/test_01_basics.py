"""Stage 01: what the lessons show is true, and what learns has learned."""

import math

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError

CPU = torch.device("cpu")


class TestTensorOperations:
    def test_main_reports_what_it_found(self):
        results = lesson("01_basics/tensor_operations").main(points=12, device="cpu", seed=0)
        assert results["error_right_shape"] == 0
        assert results["error_wrong_shape"] == pytest.approx(4 / 3)  # the mean of (i - j)² over i, j in 1, 2, 3
        assert results["einsum_difference"] < 1e-5
        assert results["device_difference"] == 0

    def test_numbers_have_limits(self):
        made = lesson("01_basics/tensor_operations").make_tensors()
        assert made["overflow"].item() == 4
        assert made["lost digit"].item() == 2**24
        assert made["mixed"].dtype == torch.float32

    def test_parts_have_the_shapes_it_says(self):
        shapes = {name: tuple(part.shape) for name, part in lesson("01_basics/tensor_operations").pick_parts().items()}
        assert shapes == {
            "t[1]": (4,), "t[:, 1]": (3,), "t[:, 1:2]": (3, 1), "t[-1, -1]": (), "t[[2, 0]]": (2, 4), "t[t > 8]": (3,),
            "t.sum(dim=0)": (4,),
        }  # fmt: skip

    def test_broadcast_table(self):
        table, _, _ = lesson("01_basics/tensor_operations").broadcast(CPU)
        assert table.tolist() == [[10 * i + j for j in (1, 2, 3, 4)] for i in range(3)]

    def test_transpose_shares_memory_and_view_refuses_it(self):
        shared, message = lesson("01_basics/tensor_operations").views_and_strides(CPU)
        assert shared
        assert "view size is not compatible" in message

    def test_slices_share_and_lists_copy(self):
        _, after = lesson("01_basics/tensor_operations").share_and_copy()
        with_numpy = {"b = a.numpy()": 100, "b = torch.tensor(a.numpy())": 1}
        assert after == {"b = a": 100, "b = a[:2]": 100, "b = a[[0, 1]]": 1, "b = a.clone()": 1, **with_numpy}

    def test_numpy_brings_its_usual_kind(self):
        a, _ = lesson("01_basics/tensor_operations").share_and_copy()
        assert a.dtype == torch.float64

    def test_shape_error_is_the_one_everyone_meets(self):
        message, _ = lesson("01_basics/tensor_operations").multiply(CPU, seed=0)
        assert "shapes cannot be multiplied (2x3 and 2x3)" in message

    def test_distances_are_torchs(self):
        tensor_operations = lesson("01_basics/tensor_operations")
        generator = torch.Generator().manual_seed(0)
        a, b = torch.rand(5, 3, generator=generator), torch.rand(4, 3, generator=generator)
        for distances in (tensor_operations.pairwise_distances, tensor_operations.pairwise_distances_in_a_loop):
            torch.testing.assert_close(distances(a, b), torch.cdist(a, b))

    def test_check_notices_two_ways_that_disagree(self, monkeypatch):
        tensor_operations = lesson("01_basics/tensor_operations")
        monkeypatch.setattr(tensor_operations, "pairwise_distances", torch.sub)
        with pytest.raises(LessonError, match="disagree"):
            tensor_operations.main(points=3, device="cpu", seed=0)


class TestAutograd:
    def test_derivatives_agree(self):
        results = lesson("01_basics/autograd").main(steps=200, lr=0.2, seed=0)
        assert results["autograd_error"] == 0
        assert results["differences_error"] < 2e-6
        assert results["softplus_difference"] < 1e-12

    def test_gradients_add_up_until_cleared(self):
        assert lesson("01_basics/autograd").gradients_add_up() == (5, 3)

    def test_second_derivative(self):
        assert lesson("01_basics/autograd").derivative_of_derivative() == (27, 18)

    def test_line_is_the_least_squares_line(self):
        autograd = lesson("01_basics/autograd")
        x, y = autograd.noisy_line(seed=3)
        columns = torch.stack([x, torch.ones_like(x)], dim=1)
        best = torch.linalg.lstsq(columns, y.unsqueeze(1)).solution.flatten()
        path, losses = autograd.descend(x, y, steps=200, lr=0.2)
        torch.testing.assert_close(path[-1], best, atol=1e-4, rtol=0)
        assert losses[-1] < 0.01 * losses[0]

    def test_limit_separates_standing_from_running_away(self):
        autograd = lesson("01_basics/autograd")
        x, y = autograd.noisy_line(seed=0)
        limit = 2 / autograd.steepest_curvature(x, y)
        assert autograd.descend(x, y, steps=300, lr=0.97 * limit)[1][-1] < 0.02
        assert autograd.descend(x, y, steps=300, lr=1.03 * limit)[1][-1] > 1e3

    def test_graph_holds_each_operation_and_leaf_once(self):
        names = lesson("01_basics/autograd").print_graph()
        expected = ["PowBackward0", "AddBackward0", "SinBackward0", "MulBackward0", "AccumulateGrad", "AccumulateGrad"]
        assert names[:2] == expected[:2]
        assert sorted(names) == sorted(expected)

    def test_error_message_is_the_one_everyone_meets(self):
        assert "does not require grad" in lesson("01_basics/autograd").stop_recording()

    def test_check_notices_a_step_that_is_too_large(self):
        with pytest.raises(LessonError, match="lr"):
            lesson("01_basics/autograd").main(steps=200, lr=1.2, seed=0)

    def test_check_notices_an_untrained_line(self):
        with pytest.raises(LessonError, match="steps"):
            lesson("01_basics/autograd").main(steps=1, lr=0.2, seed=0)

    def test_check_notices_a_wrong_derivative(self, monkeypatch):
        autograd = lesson("01_basics/autograd")
        monkeypatch.setattr(autograd.Softplus, "backward", staticmethod(lambda ctx, upstream: upstream))
        with pytest.raises(LessonError, match="derivative"):
            autograd.verify_softplus()


class TestBasicNN:
    def test_by_hand_equals_torch(self):
        basic_nn = lesson("01_basics/basic_nn")
        assert basic_nn.linear_by_hand(seed=0) < 1e-5
        assert basic_nn.compare_with_torch(seed=0) < 1e-12
        assert basic_nn.save_and_load(seed=0) == 0

    def test_learns_more_than_the_simplest_rule(self):
        results = lesson("01_basics/basic_nn").main(hidden=64, steps=1000, lr=0.2, source="sample", device="cpu", seed=0)
        assert results["first_loss"] == pytest.approx(math.log(10), abs=0.2)  # untrained, ten classes are alike
        assert results["baseline_accuracy"] == pytest.approx(0.84, abs=0.02)
        assert results["accuracy"] > 0.88
        assert results["last_loss"] < 0.08  # softmax before cross_entropy would stay above 1.46

    def test_logits_are_free_numbers(self):
        network = lesson("01_basics/basic_nn").TwoLayerNetwork(4, 8, 3, torch.Generator().manual_seed(0))
        logits = network(torch.randn(100, 4, generator=torch.Generator().manual_seed(1)))
        assert logits.min() < 0 < logits.max()  # a ReLU after the logits would leave nothing below 0
        assert not torch.allclose(logits.sum(dim=1), torch.ones(100))

    def test_two_layers_bend(self):
        network = lesson("01_basics/basic_nn").TwoLayerNetwork(4, 8, 3, torch.Generator().manual_seed(0))
        x = torch.randn(100, 4, generator=torch.Generator().manual_seed(1))
        middle = network(torch.zeros(1, 4))
        assert (network(x) + network(-x) - 2 * middle).abs().max() > 0.05  # without the bend this is 0

    def test_only_training_drops(self):
        training, evaluating = lesson("01_basics/basic_nn").switch_modes(seed=0)
        assert set(training.tolist()) == {0, 2}
        assert evaluating.tolist() == [1] * 8

    def test_dtype_error_is_the_one_everyone_meets(self):
        message = lesson("01_basics/basic_nn").feed_raw_bytes(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
        assert "dtype" in message

    def test_pixels_become_numbers_from_0_to_1(self):
        images = torch.arange(784).remainder(256).to(torch.uint8).view(1, 1, 28, 28)
        x = lesson("01_basics/basic_nn").as_inputs(images)
        assert (x.shape, x.dtype, x.min().item(), x.max().item()) == ((1, 784), torch.float32, 0, 1)

    def test_nearest_mean(self):
        x, labels = torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([0, 0, 1])
        predicted = lesson("01_basics/basic_nn").nearest_mean(x, labels, torch.tensor([[5.0], [6.0]]), classes=2)
        assert predicted.tolist() == [0, 1]  # the averages are 1 and 10

    def test_check_notices_a_wrong_gradient(self, monkeypatch):
        basic_nn = lesson("01_basics/basic_nn")
        monkeypatch.setattr(basic_nn, "linear_by_hand", lambda seed: 1e-3)
        with pytest.raises(LessonError, match="disagree"):
            basic_nn.main(hidden=64, steps=1, lr=0.2, source="sample", device="cpu", seed=0)

    def test_check_notices_an_untrained_network(self):
        with pytest.raises(LessonError, match="simplest rule"):
            lesson("01_basics/basic_nn").main(hidden=64, steps=1, lr=0.2, source="sample", device="cpu", seed=0)
