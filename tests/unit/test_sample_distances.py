"""utils.sample_quality: the kernel distance against its formula and scikit-learn's kernel, and who is a copy."""

import pytest
import torch

from utils import sample_quality as quality
from utils.lesson import LessonError


def normal(count: int, dimensions: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


class TestKernelDistance:
    def test_is_scikit_learns_kernel_averaged_over_pairs(self):
        kernel = pytest.importorskip("sklearn.metrics.pairwise").polynomial_kernel
        a, b = normal(20, 3, 0).double(), normal(30, 3, 1).double() + 1
        aa, bb, ab = (torch.from_numpy(kernel(x, y, degree=3, gamma=1 / 3, coef0=1)) for x, y in ((a, a), (b, b), (a, b)))
        pairs_a, pairs_b = ~torch.eye(20, dtype=torch.bool), ~torch.eye(30, dtype=torch.bool)
        expected = aa[pairs_a].mean() + bb[pairs_b].mean() - 2 * ab.mean()
        assert quality.kernel_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)

    def test_unbiased(self):
        """Of one distribution: 0 on average, however few; with the diagonal left in, it would be 0.3 above."""
        found = [quality.kernel_distance(normal(10, 4, 2 * i), normal(10, 4, 2 * i + 1)) for i in range(400)]
        mean = sum(found) / len(found)
        error = torch.tensor(found).std().item() / 20
        assert abs(mean) < 4 * error and min(found) < 0 < max(found) and 4 * error < 0.3

    def test_sees_what_covariances_do_not(self):
        """Coins have the mean and the variance of a normal distribution, but for a skew one the third moment differs."""
        a = normal(2000, 1, 0)
        skew = -torch.log(1 - torch.rand(2000, 1, generator=torch.Generator().manual_seed(1))) - 1
        assert quality.kernel_distance(a, skew) > 1 > 10 * abs(quality.kernel_distance(a, normal(2000, 1, 2)))

    def test_too_few(self):
        with pytest.raises(LessonError, match="two pictures at least, there are 1"):
            quality.kernel_distance(normal(1, 3, 0), normal(5, 3, 1))


class TestNearest:
    def test_by_hand(self):
        known = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
        images = torch.tensor([0.9, 0.1]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
        distances, indices = quality.nearest(images, known)
        torch.testing.assert_close(distances, torch.tensor([0.1, 0.1]))
        assert indices.tolist() == [2, 0]

    def test_chunks_change_nothing(self):
        images, known = normal(1100, 4, 0).view(-1, 1, 2, 2), normal(50, 4, 1).view(-1, 1, 2, 2)
        distances, indices = quality.nearest(images, known)
        every = torch.cdist(images.flatten(1), known.flatten(1)) / 2
        torch.testing.assert_close(distances, every.min(dim=1).values, atol=1e-5, rtol=1e-4)
        assert (indices == every.argmin(dim=1)).float().mean() > 0.99

    def test_copies_are_found_and_new_ones_are_not(self):
        known, test, new = (normal(400, 20, seed).view(-1, 1, 4, 5) for seed in range(3))
        usual = quality.nearest(test, known)[0]
        assert quality.copied(quality.nearest(known, known)[0], usual) == 1
        assert quality.copied(quality.nearest(new, known)[0], usual) < 0.04
        half = torch.cat([known[:100], new[:100]])
        assert quality.copied(quality.nearest(half, known)[0], usual) == pytest.approx(0.5, abs=0.03)
