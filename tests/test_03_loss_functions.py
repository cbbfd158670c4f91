"""Every loss is PyTorch's, its formula is the one it is named after, and no logits can break it."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def losses():
    return lesson("03_training/loss_functions")


def tensor(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


class TestNumbers:
    def test_by_hand(self, losses):
        prediction, target = tensor(1, 5, -2), tensor(0, 2, -2)
        assert losses.mse(prediction, target).tolist() == [1, 9, 0]
        assert losses.mae(prediction, target).tolist() == [1, 3, 0]
        assert losses.huber(prediction, target, delta=2.0).tolist() == [0.5, 4, 0]

    def test_huber_fits_together_at_delta(self, losses):
        for delta in (0.5, 3.0):
            below, above = losses.huber(tensor(delta - 1e-9, delta + 1e-9), tensor(0, 0), delta)
            assert below.item() == pytest.approx(above.item(), abs=1e-7)

    def test_each_likes_another_constant(self, losses):
        targets = tensor(1, 2, 3, 4, 90)
        best = losses.best_constants(targets, delta=1.0)
        assert best["MSE"] == pytest.approx(20, abs=0.01)  # the mean
        assert best["MAE"] == pytest.approx(3, abs=0.01)  # the median
        assert best["Huber"] == pytest.approx(3, abs=0.3)
        assert losses.best_constants(targets, delta=1000.0)["Huber"] == pytest.approx(20, abs=0.01)  # nothing is beyond it: MSE


class TestLogits:
    def test_log_sum_exp_is_torchs_for_any_logits(self, losses):
        logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for scale in (1, 1000, 1e6):
            torch.testing.assert_close(losses.log_sum_exp(scale * logits), torch.logsumexp(scale * logits, dim=-1))

    def test_probabilities_of_a_row_sum_to_one(self, losses):
        probabilities = losses.log_softmax(tensor(1, 2, 3, 4).view(2, 2)).exp()
        assert probabilities.sum(dim=1).tolist() == pytest.approx([1, 1])

    def test_textbook_is_right_while_it_lasts(self, losses):
        logits, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4
        torch.testing.assert_close(losses.naive_cross_entropy(logits, labels), F.cross_entropy(logits, labels, reduction="none"))

    def test_lost_where_exp_overflows(self, losses):
        """The largest float32 is e^88.7, float64 e^709.8, float16 e^11.09; bfloat16 has the exponents of float32."""
        for dtype, limit in ((torch.float32, 89), (torch.float64, 710), (torch.float16, 12), (torch.bfloat16, 89)):
            assert losses.first_loss_lost(losses.naive_cross_entropy, dtype) == limit
            assert losses.first_loss_lost(losses.cross_entropy, dtype) == math.inf


class TestClasses:
    def test_smoothing_is_cross_entropy_of_smoothed_targets(self, losses):
        logits, label = tensor(1, 2, 3, 4).view(1, 4), torch.tensor([2])
        smoothed = tensor(0.05, 0.05, 0.85, 0.05)
        expected = -(smoothed * logits.log_softmax(dim=1)).sum(dim=1)
        torch.testing.assert_close(losses.smoothed_cross_entropy(logits, label, 0.2), expected)

    def test_bce_is_softmax_of_two_classes(self, losses):
        logits = tensor(-3, 0.5, 800, -800)
        two = torch.stack([torch.zeros(4, dtype=torch.float64), logits], dim=1)
        for answer in (0, 1):
            ours = losses.bce_with_logits(logits, torch.full((4,), float(answer), dtype=torch.float64))
            torch.testing.assert_close(ours, F.cross_entropy(two, torch.full((4,), answer), reduction="none"))

    def test_focal_without_focus_is_half_the_bce(self, losses):
        logits, targets = tensor(-2, 0, 3), tensor(1, 0, 1)
        bce = losses.bce_with_logits(logits, targets)
        torch.testing.assert_close(losses.focal(logits, targets, gamma=0.0, alpha=0.5), bce / 2)
        assert losses.focal(logits, targets, gamma=2.0, alpha=0.5)[2] < 0.01 * bce[2]  # nearly right: hardly counts

    def test_cross_entropy_is_entropy_and_kl(self, losses):
        target = tensor(0.5, 0.5, 0).view(1, 3)  # a probability of 0 is allowed
        log_probabilities = tensor(1, 2, 3).view(1, 3).log_softmax(dim=1)
        kl = losses.kl_divergence(log_probabilities, target)
        torch.testing.assert_close(kl + math.log(2), -(target * log_probabilities).sum(dim=1))
        same = tensor(0.5, 0.25, 0.25).view(1, 3)
        assert losses.kl_divergence(same.log(), same).tolist() == [0]

    def test_hinge_is_satisfied(self, losses):
        scores = tensor(2, 1, 0, 2, 1.5, 0).view(2, 3)
        assert losses.hinge(scores, torch.tensor([0, 0])).tolist() == pytest.approx([0, 0.5 / 3])

    def test_triplet_is_satisfied(self, losses):
        anchor, near, far = tensor(0, 0).view(1, 2), tensor(3, 0).view(1, 2), tensor(0, 5).view(1, 2)
        assert losses.triplet(anchor, near, far, margin=1.0).tolist() == [0]
        assert losses.triplet(anchor, near, far, margin=3.0).tolist() == pytest.approx([1], abs=1e-5)


class TestTorch:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_all_eleven_and_their_gradients(self, losses, seed):
        differences = losses.compare_with_torch(draws=300, seed=seed)
        assert len(differences) == 11
        assert all(value < 1e-12 and gradient < 1e-12 for value, gradient in differences.values())

    def test_error_is_the_one_everyone_meets(self, losses):
        assert "multi-target not supported" in losses.meet_error()

    def test_softmax_twice_leaves_a_floor_and_no_slope(self, losses):
        floor, once, twice = losses.softmax_twice(classes=10)
        assert floor == pytest.approx(math.log(math.e + 9) - 1)
        assert once == pytest.approx(-1, abs=1e-6)
        assert -1e-6 < twice < 0


class TestMain:
    def test_reports_what_it_found(self, losses):
        results = losses.main(dtype="float32", draws=100, seed=0)
        assert results["difference"] < 1e-12
        assert results["naive_lost_from"] == 89
        assert results["typing_error_moves_MSE"] == pytest.approx(1620 / 7, abs=0.5)
        assert abs(results["typing_error_moves_MAE"]) < 0.5

    def test_check_notices_a_loss_that_is_not_pytorchs(self, losses, monkeypatch):
        monkeypatch.setattr(losses, "mse", losses.mae)
        with pytest.raises(LessonError, match="differs"):
            losses.main(dtype="float32", draws=100, seed=0)

    def test_check_notices_a_cross_entropy_that_overflows(self, losses, monkeypatch):
        monkeypatch.setattr(losses, "log_sum_exp", lambda logits: logits.exp().sum(dim=-1).log())
        with pytest.raises(LessonError, match="lost"):
            losses.main(dtype="float32", draws=100, seed=0)
