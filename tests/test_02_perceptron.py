"""The perceptron keeps its promises, and what it cannot do is shown to be impossible."""

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def perceptron():
    return lesson("02_neural_networks/perceptron")


class TestRule:
    def test_one_mistake_at_a_time(self, perceptron):
        x = torch.tensor([[1.0, 1], [2, 1], [-1, 1]], dtype=torch.float64)
        labels = torch.tensor([1.0, 1, -1], dtype=torch.float64)
        # Zero weights are wrong about everything; (1, 1) is right about [2, 1], and gives [-1, 1] the score 0.
        assert perceptron.perceptron(x, labels, passes=10).tolist() == [[0, 0], [1, 1], [2, 0]]

    @pytest.mark.parametrize("inputs", [2, 10])
    def test_ends_with_every_example_right(self, perceptron, inputs):
        x, labels, plane = perceptron.separable_points(inputs, margin=0.1, seed=0, points=100)
        weights = perceptron.perceptron(x, labels, passes=1000)[-1]
        assert (labels * (x @ weights) > 0).all()
        assert (labels * (x @ plane)).min() >= 0.1
        assert 20 < (labels > 0).sum() < 80  # two classes worth telling apart

    def test_learns_the_plane_and_not_the_points(self, perceptron):
        for seed in range(5):
            x, labels, _ = perceptron.separable_points(10, margin=0.1, seed=seed, points=400)
            weights = perceptron.perceptron(x[:200], labels[:200], passes=1000)[-1]
            right = (labels[200:] * (x[200:] @ weights) > 0).double().mean()
            most = (labels[200:] == labels[:200].sum().sign()).double().mean()  # always the more frequent answer
            assert right > 0.85 > most + 0.1

    def test_every_correction_is_an_sgd_step(self, perceptron):
        for seed in range(2):
            x, labels, _ = perceptron.separable_points(2, margin=0.05, seed=seed, points=100)
            assert perceptron.compare_with_torch(x, labels, passes=3) < 1e-12

    def test_relu_would_never_start(self, perceptron):
        x, labels, _ = perceptron.separable_points(2, margin=0.05, seed=0, points=100)
        weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        torch.relu(-labels[0] * (weights @ x[0])).backward()
        assert weights.grad.tolist() == [0, 0, 0]


class TestNovikoff:
    def test_bound_by_hand(self, perceptron):
        x, labels = torch.tensor([[3.0, 4.0], [1.0, 0.0], [-2.0, 1.0]]), torch.tensor([1.0, 1.0, -1.0])
        for length in (0.1, 1, 10):
            assert perceptron.mistake_bound(x, labels, torch.tensor([length, 0.0])) == pytest.approx(25)

    def test_a_direction_that_does_not_separate_bounds_nothing(self, perceptron):
        with pytest.raises(LessonError, match="separate"):
            perceptron.mistake_bound(torch.eye(2), torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0]))

    def test_holds_on_nineteen_data_sets_by_either_margin(self, perceptron):
        counted = perceptron.count_mistakes(seed=1)
        mistakes, known, widest = counted.T
        assert counted.shape == (19, 3)
        assert (mistakes >= 1).all()
        assert (mistakes <= torch.minimum(known, widest)).all()
        assert (widest <= 1.05 * known).all()  # the widest margin is at least (nearly) as wide as any other
        assert widest[mistakes.argmax()] < 0.5 * known[mistakes.argmax()]  # and in ten dimensions much wider

    def test_widest_direction_is_the_widest(self, perceptron):
        x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-3.0, 0.0]], dtype=torch.float64)
        labels = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
        direction = perceptron.widest_direction(x, labels)
        assert (direction / direction.norm()).tolist() == pytest.approx([0.5**0.5, 0.5**0.5], abs=1e-3)


class TestXOR:
    def test_rule_goes_in_a_circle_and_no_line_gets_all_four(self, perceptron):
        circle, labelings, line = perceptron.try_xor()
        assert circle.tolist() == [[0, 0, 0], [0, 0, -1], [0, 1, 0], [1, 1, 1], [0, 0, 0]]
        ways = {tuple(row) for row in labelings.tolist()}
        assert len(ways) == 14
        assert (-1, 1, 1, -1) not in ways and (1, -1, -1, 1) not in ways
        right = (perceptron.with_ones(perceptron.CORNERS) @ line).sign() == perceptron.XOR
        assert right.sum() == 3

    def test_two_hidden_steps_by_hand(self, perceptron):
        assert perceptron.by_hand(perceptron.CORNERS).tolist() == [-1, 1, 1, -1]

    def test_gradient_descent_finds_a_hidden_layer_and_not_always(self, perceptron):
        solved = {}
        for hidden in (1, 2, 4):
            right, _ = perceptron.train_networks(hidden, networks=200, steps=1000, lr=1.0, seed=3)
            solved[hidden] = (right == 1).double().mean().item()
        assert solved[1] == 0  # one unit is a line with a soft edge
        assert 0.5 < solved[2] < 0.8
        assert solved[4] > 0.92

    def test_networks_side_by_side_do_not_touch_one_another(self, perceptron):
        _, together = perceptron.train_networks(2, networks=3, steps=20, lr=1.0, seed=0)
        _, start = perceptron.train_networks(2, networks=3, steps=0, lr=1.0, seed=0)
        alone = [parameter[1:2].clone().requires_grad_() for parameter in start]
        optimizer = torch.optim.SGD(alone, lr=1.0)
        for _ in range(20):
            logits = perceptron.forward(alone, perceptron.CORNERS).squeeze(0)
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(logits, (perceptron.XOR > 0).double()).backward()
            optimizer.step()
        for ours, theirs in zip(alone, together, strict=True):
            torch.testing.assert_close(ours[0], theirs[1])

    def test_shape_error_is_the_one_everyone_meets(self, perceptron):
        message = perceptron.meet_shape_error()
        assert "([4])" in message and "([4, 1])" in message


class TestMain:
    def test_learns_what_a_line_cannot(self, perceptron):
        results = perceptron.main(margin=0.05, networks=40, steps=1000, seed=0)
        assert results["mistakes"] <= results["bound"]
        assert results["torch_difference"] < 1e-12
        assert results["baseline_accuracy"] == 0.75
        assert results["accuracy"] > 0.93
        assert results["solved_by_1"] == 0 and results["solved_by_8"] > 0.95

    def test_check_notices_untrained_networks(self, perceptron):
        with pytest.raises(LessonError, match="steps"):
            perceptron.main(margin=0.3, networks=40, steps=1, seed=0)
