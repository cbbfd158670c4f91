"""Every rule is torch.optim's step for step, Muon straightens, and a turned ravine tells who looks at coordinates."""

import math

import pytest
import torch
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def optimizers():
    return lesson("03_training/optimizers")


def walk(rule, gradients, lr: float, decay: float = 0.0, start: float = 1.0) -> list[float]:
    """The places that a rule visits when these are the gradients."""
    w, memory, places = torch.tensor([start], dtype=torch.float64), {}, []
    for gradient in gradients:
        w = rule(w, torch.tensor([gradient], dtype=torch.float64), memory, lr, decay)
        places.append(w.item())
    return places


class TestRulesByHand:
    def test_sgd_and_momentum(self, optimizers):
        assert walk(optimizers.sgd, [1, 1], lr=0.1) == pytest.approx([0.9, 0.8])
        assert walk(optimizers.momentum, [1, 1], lr=0.1) == pytest.approx([0.9, 0.71])  # velocities 1, 1.9
        assert walk(optimizers.nesterov, [1, 1], lr=0.1) == pytest.approx([0.81, 0.539])  # 1 + 0.9, 1 + 0.9 · 1.9

    def test_adam_begins_with_steps_of_the_learning_rate(self, optimizers):
        for size in (1e-3, 1.0, 1e3):  # however large the gradient is
            assert walk(optimizers.adam, [size, size], lr=0.1) == pytest.approx([0.9, 0.8], abs=1e-4)
        assert walk(optimizers.rmsprop, [1], lr=0.01) == pytest.approx([0.9])  # ten times that: nothing makes up for the start

    def test_decay_is_divided_in_adam_and_not_in_adamw(self, optimizers):
        """A weight with large gradients is held back less by Adam's weight decay, and just as much by AdamW's."""
        for rule, alike in ((optimizers.adam, False), (optimizers.adamw, True)):
            shrunk = [
                walk(rule, [size, -size] * 50, 0.01, decay=0.0)[-1] - walk(rule, [size, -size] * 50, 0.01, decay=0.1)[-1]
                for size in (1.0, 100.0)
            ]
            assert (shrunk[1] == pytest.approx(shrunk[0], rel=0.01)) is alike

    def test_memory_belongs_to_one_parameter(self, optimizers):
        memory = {}
        optimizers.momentum(torch.zeros(2), torch.ones(2), memory, lr=0.1)
        assert list(memory) == ["velocity"]
        assert optimizers.momentum(torch.zeros(2), torch.ones(2), {}, lr=0.1).tolist() == pytest.approx([-0.1, -0.1])


class TestAgainstTorch:
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_step_for_step(self, optimizers, decay):
        differences = optimizers.compare_with_torch(steps=100, decay=decay, seed=1)
        assert list(differences)[:6] == ["SGD", "momentum", "Nesterov", "RMSprop", "Adam", "AdamW"]
        assert ("Muon" in differences) == hasattr(torch.optim, "Muon")
        assert all(difference < 1e-6 for difference in differences.values()), differences

    def test_they_do_not_stand_still(self, optimizers, monkeypatch):
        """The comparison would notice a rule that does nothing."""
        monkeypatch.setitem(optimizers.RULES, "Adam", lambda w, gradient, memory, lr, decay: w)
        assert optimizers.compare_with_torch(steps=5, decay=0.0, seed=0)["Adam"] > 1e-3


class TestMuon:
    @pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30)])
    def test_singular_values_come_near_one(self, optimizers, shape):
        matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(optimizers.orthogonalize(matrix))
        assert optimizers.orthogonalize(matrix).shape == shape
        assert values.max() < 1.3
        assert values.min() > (0.6 if shape != (30, 30) else 0.1)  # a square one may have a value too near 0 to be lifted

    def test_scale_does_not_matter(self, optimizers):
        matrix = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(optimizers.orthogonalize(matrix), optimizers.orthogonalize(64 * matrix))

    def test_no_gradient_is_no_disaster(self, optimizers):
        assert optimizers.orthogonalize(torch.zeros(3, 4)).tolist() == [[0] * 4] * 3

    def test_directions_stay(self, optimizers):
        before, after, nearness = optimizers.straighten(seed=1)
        assert before[0] > 50 * before[-1]
        assert 0.6 < after.min() and after.max() < 1.3
        assert nearness > 0.95

    def test_vectors_go_by_adamw(self, optimizers):
        w, gradient = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -4.0])
        ours, theirs = (rule(w, gradient, {}, 0.1, 0.2) for rule in (optimizers.muon, optimizers.adamw))
        assert torch.equal(ours, theirs)


class TestRace:
    def test_turning_the_ravine_hurts_who_looks_at_coordinates(self, optimizers):
        straight, turned = (optimizers.race(landscape, steps=100) for landscape in ("ravine", "turned ravine"))
        for name in ("SGD", "momentum", "Nesterov"):
            assert turned[name][2] == pytest.approx(straight[name][2], rel=1e-3)  # they only see the gradient as an arrow
        assert turned["RMSprop"][2] > 1e6 * straight["RMSprop"][2]
        assert straight["SGD"][2] > 10 * straight["momentum"][2] > 10 * straight["Nesterov"][2]

    def test_paths_begin_and_end_where_they_should(self, optimizers):
        for landscape, (function, start, lowest) in optimizers.LANDSCAPES.items():
            assert function(torch.tensor([lowest], dtype=torch.float64)).item() == 0
            for lr, path, height in optimizers.race(landscape, steps=60).values():
                assert 1e-4 <= lr <= 1
                assert path.shape == (61, 2)
                assert torch.equal(path[:1], start)
                assert height == pytest.approx(function(path[-1:]).item())
                assert height < 0.5 * function(start).item()

    def test_momentum_gets_through_rosenbrocks_valley(self, optimizers):
        found = optimizers.race("Rosenbrock", steps=300)
        assert found["momentum"][2] < 0.01 * found["SGD"][2]


class TestMain:
    def test_reports_what_it_found(self, optimizers):
        results = optimizers.main(steps=30, seed=0)
        assert results["difference"] < 1e-6
        assert results["cosine_with_UVt"] > 0.95
        assert len(results) == 17 and all(math.isfinite(value) for value in results.values())

    def test_error_is_the_one_everyone_meets(self, optimizers):
        assert "non-leaf" in optimizers.meet_error()

    def test_check_notices_a_wrong_rule(self, optimizers, monkeypatch):
        compare = optimizers.compare_with_torch
        monkeypatch.setattr(optimizers, "compare_with_torch", lambda steps, decay, seed: compare(3, decay, seed))
        monkeypatch.setitem(optimizers.RULES, "Nesterov", optimizers.momentum)
        with pytest.raises(LessonError, match="differs"):
            optimizers.main(steps=2, seed=0)

    def test_check_notices_singular_values_that_stay(self, optimizers, monkeypatch):
        monkeypatch.setattr(optimizers, "compare_with_torch", lambda steps, decay, seed: {"Muon": 0.0})
        monkeypatch.setattr(optimizers, "orthogonalize", lambda matrix: matrix / matrix.norm())
        with pytest.raises(LessonError, match="singular"):
            optimizers.main(steps=2, seed=0)
