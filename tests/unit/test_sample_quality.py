"""utils.sample_quality: the formula against SciPy, toy clouds counted by hand, and a judge that sees what is wrong."""

import math

import pytest
import torch

from utils import sample_quality as quality
from utils.datasets import Images, mnist
from utils.lesson import LessonError


def cloud(count: int, dimensions: int, seed: int) -> torch.Tensor:
    """Correlated points of no particular shape."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dimensions, dimensions, generator=generator)
    return torch.randn(count, dimensions, generator=generator) @ mix + torch.randn(dimensions, generator=generator)


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Images]:
    """Training and test digits, at half their size."""
    data = mnist("sample")
    return tuple(
        Images(torch.nn.functional.avg_pool2d(part.images.float(), 2).round().byte(), part.labels)
        for part in (data.train, data.test)
    )


@pytest.fixture(scope="module")
def judge(digits) -> quality.Judge:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "JUDGE_STEPS", 60)
        return quality.train_judge(digits[0])


class TestFrechetDistance:
    def test_is_scipys_formula(self):
        linalg = pytest.importorskip("scipy.linalg")
        for seed, dimensions in ((0, 2), (1, 7), (2, 20)):
            a, b = cloud(100, dimensions, seed).double(), cloud(150, dimensions, seed + 10).double()
            root = torch.from_numpy(linalg.sqrtm((a.T.cov() @ b.T.cov()).numpy()).real)
            expected = (a.mean(0) - b.mean(0)).square().sum() + (a.T.cov() + b.T.cov() - 2 * root).trace()
            assert quality.frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-8, abs=1e-8)

    def test_by_hand(self):
        """Along one axis: the difference of means and that of standard deviations, squared. Here 3² and (1 - 2)²."""
        a = torch.tensor([[-1.0], [1.0]]).repeat(500, 1) * math.sqrt(999 / 1000)
        assert quality.frechet_distance(a, 2 * a + 3) == pytest.approx(9 + 1, rel=1e-6)

    def test_zero_and_symmetric(self):
        a, b = cloud(60, 5, 0), cloud(60, 5, 1)
        assert quality.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
        assert quality.frechet_distance(a, b) == pytest.approx(quality.frechet_distance(b, a), rel=1e-9)

    def test_feature_that_never_changes(self):
        a, b = cloud(60, 3, 0), cloud(60, 3, 1)
        dead_a, dead_b = (torch.cat([one, torch.zeros(60, 2)], dim=1) for one in (a, b))
        assert quality.frechet_distance(dead_a, dead_b) == pytest.approx(quality.frechet_distance(a, b), rel=1e-6)

    def test_too_few(self):
        with pytest.raises(LessonError, match="more than 8 pictures, there are 8"):
            quality.frechet_distance(cloud(8, 8, 0), cloud(100, 8, 1))


class TestPrecisionRecall:
    def test_by_hand(self):
        """With k = 1 the balls around 0, 1, 10 reach 1, 1 and 9; those around 0.5, 1.4, 30 reach 0.9, 0.9 and 28.6."""
        real, fake = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [1.4], [30.0]])
        assert quality.precision_recall(real, fake, k=1) == pytest.approx((2 / 3, 1.0))
        assert quality.precision_recall(fake, real, k=1) == pytest.approx((1.0, 2 / 3))

    def test_what_it_says_of_collapse_invention_and_copies(self):
        real = torch.cat([torch.randn(300, 2), torch.randn(300, 2) + 30])
        collapsed, invented = torch.randn(600, 2), torch.cat([torch.randn(300, 2), torch.randn(300, 2) - 30])
        precision, recall = quality.precision_recall(real, collapsed)
        assert precision > 0.95 and recall == pytest.approx(0.5, abs=0.05)
        precision, recall = quality.precision_recall(real, invented)
        assert precision == pytest.approx(0.5, abs=0.05)
        assert quality.precision_recall(real, real.clone()) == (1, 1)

    def test_chunks_change_nothing(self):
        real, fake = cloud(1100, 4, 0), cloud(1050, 4, 0)[:, [1, 0, 2, 3]]
        everything = torch.cdist(real, real, compute_mode="donot_use_mm_for_euclid_dist")
        radii = everything.sort(dim=1).values[:, 3]
        inside = (torch.cdist(fake, real, compute_mode="donot_use_mm_for_euclid_dist") <= radii).any(dim=1)
        assert quality.precision_recall(real, fake, k=3)[0] == pytest.approx(inside.float().mean().item())

    @pytest.mark.parametrize("k", [0, 5])
    def test_neighbours_that_are_not_there(self, k):
        with pytest.raises(LessonError, match="not to be had"):
            quality.precision_recall(cloud(9, 2, 0), cloud(5, 2, 0), k=k)


class TestJudge:
    def test_knows_the_digits_and_sees_what_is_wrong(self, judge, digits):
        train, test = (part.images / 255 for part in digits)
        assert (judge.classify(test) == digits[1].labels).float().mean() > 0.85
        features = judge.features(train)
        assert features.shape == (len(train), quality.FEATURES)
        floor, noisy, few_kinds, gaussian = (
            quality.frechet_distance(features, judge.features(fake))
            for fake in (
                test,
                (test + 0.3 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1),
                test[digits[1].labels < 5],
                quality.gaussian_samples(train, 360, seed=0),
            )
        )
        assert 0 < floor < min(noisy, few_kinds, gaussian) / 2

    def test_same_every_time_and_leaves_the_generator_alone(self, digits, monkeypatch):
        monkeypatch.setattr(quality, "JUDGE_STEPS", 4)
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        first = quality.train_judge(digits[0], seed=3)
        assert torch.equal(torch.rand(1), expected)
        second, other = quality.train_judge(digits[0], seed=3), quality.train_judge(digits[0], seed=4)
        pictures = digits[1].images[:20] / 255
        assert torch.equal(first.features(pictures), second.features(pictures))
        assert not torch.equal(first.features(pictures), other.features(pictures))

    def test_does_not_change(self, judge, digits):
        pictures = digits[1].images[:8] / 255
        assert torch.equal(judge.features(pictures)[:2], judge.features(pictures)[:2])
        torch.testing.assert_close(judge.features(pictures[:2]), judge.features(pictures)[:2])  # not in train mode
        assert not judge.features(pictures.clone().requires_grad_()).requires_grad
        with pytest.raises(AttributeError):
            judge.mean = 0.0

    def test_pictures_in_another_range(self, judge, digits):
        pictures = digits[1].images[:8]
        with pytest.raises(LessonError, match="float in 0..1"):
            judge.features(pictures)
        for wrong in (pictures.float(), pictures / 127.5 - 1):
            with pytest.raises(LessonError, match="lie in 0..1"):
                judge.features(wrong)

    def test_colour_pictures_of_any_size(self, monkeypatch):
        monkeypatch.setattr(quality, "JUDGE_STEPS", 2)
        images = torch.randint(0, 256, (30, 3, 40, 24), dtype=torch.uint8)
        judge = quality.train_judge(Images(images, torch.arange(30) % 4))
        assert judge.features(images / 255).shape == (30, 64) and judge.classify(images / 255).max() < 4


class TestGaussianSamples:
    def test_has_mean_and_covariance(self):
        images = (0.5 + 0.04 * cloud(500, 4, 0) / 4).view(500, 1, 2, 2).clamp(0.2, 0.8)  # far from the ends: nothing is clipped
        drawn = quality.gaussian_samples(images, 20_000, seed=0)
        assert drawn.shape == (20_000, 1, 2, 2)
        torch.testing.assert_close(drawn.mean(dim=0), images.mean(dim=0), atol=2e-3, rtol=0)
        expected = images.flatten(1).T.cov()
        torch.testing.assert_close(drawn.flatten(1).T.cov(), expected, atol=0.05 * expected.max().item(), rtol=0)
        assert torch.equal(drawn[:5], quality.gaussian_samples(images, 20_000, seed=0)[:5])

    def test_stays_in_range(self, digits):
        drawn = quality.gaussian_samples(digits[0].images / 255, 50, seed=1)
        assert drawn.min() == 0 and drawn.max() == 1


class TestEnlarger:
    def test_loses_little_and_fits_what_it_has_not_seen(self, digits):
        train, test = (part.images / 255 for part in digits)
        halves = [torch.nn.functional.avg_pool2d(part, 2) * 2 - 1 for part in (train, test)]
        enlarged = quality.fit_enlarger(halves[0], train)(halves[1])
        assert enlarged.shape == test.shape and enlarged.min() >= 0 and enlarged.max() <= 1
        plain = torch.nn.functional.interpolate(halves[1], scale_factor=2) / 2 + 0.5
        assert (enlarged - test).square().mean() < (plain - test).square().mean() / 2
