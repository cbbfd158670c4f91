"""Inside a training step: small batches add up to the big one, clipping is PyTorch's, and a rare digit is found."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.datasets import hold_out, mnist
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def step():
    return lesson("03_training/inside_a_step")


@pytest.fixture(scope="module")
def parts(step):
    """1,000 digits to learn from, 400 to validate with, 360 for the last look."""
    data = mnist("sample")
    rest, held_out = hold_out(data.train, 400, seed=0)
    return step.as_examples(rest[:1000]), step.as_examples(held_out), step.as_examples(data.test)


class TestAccumulation:
    def test_small_batches_are_the_big_one_if_divided(self, step, parts):
        for seed in range(3):
            right, undivided, normed = step.accumulate(parts[0], seed)
            assert right < 1e-6
            assert 2.5 < undivided < 3.5  # four small batches: four times as long, and 4 - 1 = 3
            assert normed > 0.05

    def test_each_part_counts_by_its_size(self, step, parts):
        data = parts[0][0][:30], parts[0][1][:30]
        model = step.new_network(0)
        whole = step.gradient(model, data, 30)
        assert all((step.gradient(model, data, size) - whole).norm() < 1e-5 * whole.norm() for size in (1, 7, 29, 30))

    def test_gradient_is_backwards(self, step, parts):
        data = parts[0][0][:8], parts[0][1][:8]
        model = step.new_network(0)
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        torch.testing.assert_close(step.gradient(model, data, 8), expected)

    def test_error_is_the_one_everyone_meets(self, step, parts):
        assert "backward through the graph a second time" in step.meet_error(parts[0], seed=0)


class TestClipping:
    def test_by_hand_is_pytorchs(self, step, parts):
        for seed in range(3):
            assert step.compare_clipping((parts[0][0][:32], parts[0][1][:32]), seed) < 1e-6

    def test_direction_stays_and_short_gradients_stay_as_they_are(self, step):
        first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
        first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
        assert step.clip_gradients([first, second], max_norm=10) == 5
        assert first.grad.tolist() == [3, 0] and second.grad.tolist() == [4]
        assert step.clip_gradients([first, second], max_norm=1) == 5
        assert first.grad.tolist() == pytest.approx([0.6, 0]) and second.grad.tolist() == pytest.approx([0.8])

    def test_one_spoiled_batch_ruins_what_is_not_clipped(self, step, parts):
        for seed in range(2):
            norms, ruined = step.train_with_spoiled_batch(*parts[:2], float("inf"), seed)
            _, kept = step.train_with_spoiled_batch(*parts[:2], 2.0, seed)
            assert norms.argmax() == 149 and norms[149] > 20 * norms.median()
            assert ruined[13] > 0.9 and ruined[14] < 0.5
            assert kept[14:].min() > 0.85


class TestRareDigit:
    def test_make_rare_keeps_all_others(self, step, parts):
        labels = step.make_rare(parts[0], keep=7, seed=3)[1]
        before, after = (part.bincount(minlength=10) for part in (parts[0][1], labels))
        assert after[step.RARE] == 7
        assert torch.equal(before[torch.arange(10) != step.RARE], after[torch.arange(10) != step.RARE])

    def test_measure_by_hand(self, step):
        truth = torch.tensor([8, 8, 8, 8, 1, 2])
        said = torch.tensor([8, 8, 8, 1, 8, 2])
        recall, precision, accuracy = step.measure_rare(nn.Identity(), (nn.functional.one_hot(said, 10).float(), truth))
        assert (recall, precision, accuracy) == pytest.approx((3 / 4, 3 / 4, 4 / 6))

    def test_trained_network_is_ready_for_use(self, step, parts):
        data = parts[0][0][:64], parts[0][1][:64]
        assert not step.train_on_rare(data, epochs=1, seed=0).training

    def test_weights_and_sampler_find_what_plain_training_misses(self, step, parts):
        tables = step.compare_ways(parts[0], parts[2], keep=10, epochs=4, seeds=range(3))
        recall = {name: table[:, 0] for name, table in tables.items()}
        assert recall["plain"].mean() < 0.2
        assert recall["weights"].min() > 0.35 and recall["weights"].mean() > 0.5
        assert recall["sampler"].min() > 0.35 and recall["sampler"].mean() > 0.5
        for name in ("weights", "sampler"):
            assert tables[name][:, 1].mean() > 0.6  # not by calling everything an 8
            assert tables[name][:, 2].mean() > tables["plain"][:, 2].mean() + 0.02


class TestMain:
    def test_rare_digit_is_found(self, step):
        results = step.main(rare=10, epochs=4, seeds=1, source="sample", seed=0)
        assert min(results["recall_weights"], results["recall_sampler"]) > results["baseline_recall"] + 0.2
        assert results["accumulated_off"] < 1e-6 and results["clipping_off"] < 1e-6
        assert results["worst_accuracy_clipped"] > results["worst_accuracy_not_clipped"] + 0.3

    @pytest.mark.real_data("mnist")
    def test_rare_digit_is_found_in_mnist(self, step):
        results = step.main(rare=10, epochs=5, seeds=1, source="real", seed=0)
        assert min(results["recall_weights"], results["recall_sampler"]) > results["baseline_recall"] + 0.2
        assert results["accuracy_weights"] > results["accuracy_plain"] + 0.02

    def test_check_notices_a_cure_that_does_not_work(self, step, monkeypatch):
        monkeypatch.setattr(step, "train_with_spoiled_batch", lambda *_: (torch.ones(300), torch.ones(30)))
        with pytest.raises(LessonError, match="hardly"):
            step.main(rare=1, epochs=1, seeds=1, source="sample", seed=0)
