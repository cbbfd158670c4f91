"""How good generated pictures are, measured in the features of a small classifier.

    judge = train_judge(data.train)
    real, fake = judge.features(data.train.images / 255), judge.features(generated)  # (n, 64) each
    frechet_distance(real, fake), kernel_distance(real, fake), precision_recall(real, fake)
    nearest(generated, known)       # is it a copy?

A distance says little by itself. Two others belong beside it: that of real pictures that nobody trained on (the floor), and that
of `gaussian_samples` (what knows only the pixels' means and covariances). It also depends on the number of pictures and on the
judge, so only distances with the same of both can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Images
from utils.lesson import check

FEATURES = 64
JUDGE_STEPS = 300  # of 64 pictures each


# --------------------------------------------------------------------------------------------- distances between clouds


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The squared Fréchet distance between the normal distributions that fit two clouds (Heusel et al., 2017, "FID").

    |mean_a - mean_b|² + trace(C_a + C_b - 2 (C_a C_b)^½), the C being covariances (https://arxiv.org/abs/1706.08500).

    Args:
        a: Features (n, d).
        b: Features (m, d).

    Returns:
        0 for equal means and covariances. Drawn from one distribution, small clouds are further apart than large ones.

    Raises:
        LessonError: A cloud has no more points than dimensions, so nobody can say how it is spread.
    """
    few, features = min(len(a), len(b)), a.shape[1]
    check(few > features, f"a Fréchet distance in {features} dimensions needs more than {features} pictures, there are {few}")
    a, b = a.cpu().double(), b.cpu().double()  # float32 loses the difference of traces; MPS has no float64
    covariance_a, covariance_b = torch.atleast_2d(a.T.cov()), torch.atleast_2d(b.T.cov())  # (d, d)
    # C_a C_b has the eigenvalues of C_a^½ C_b C_a^½, which is symmetric; the trace of a root is the sum of their roots.
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp_min(0).sqrt().sum()
    means = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return (means + covariance_a.trace() + covariance_b.trace() - 2 * overlap).item()


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The squared maximum mean discrepancy of two clouds, unbiased, with a cubic kernel (Bińkowski et al., 2018, "KID").

    The kernel is (x·y / d + 1)³ (https://arxiv.org/abs/1801.01401): equal means, covariances and third moments are at distance 0.
    Unlike the Fréchet distance it assumes no normal distribution, and few points are not further apart on average than many:
    drawn from one distribution, clouds of any size are at 0 on average, and so sometimes below.

    Args:
        a: Features (n, d), n > 1.
        b: Features (m, d), m > 1.
    """
    check(min(len(a), len(b)) > 1, f"a kernel distance needs two pictures at least, there are {min(len(a), len(b))}")
    a, b = a.cpu().double(), b.cpu().double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        """The mean over pairs of two different points: a point is always near to itself, which would say nothing."""
        values = kernel(x, x)
        return (values.sum() - values.trace()) / (len(x) * (len(x) - 1))

    return (within(a) + within(b) - 2 * kernel(a, b).mean()).item()


def nearest(images: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """For each of some pictures the nearest of the known ones, by the root of the mean squared difference of their pixels.

    Args:
        images: (n, channels, height, width).
        known: (m, channels, height, width), in the same range.

    Returns:
        Distances (n,), and the numbers of the nearest (n,), on the CPU.
    """
    known = known.cpu().flatten(1)
    found = [torch.cdist(part, known).min(dim=1) for part in images.cpu().flatten(1).split(500)]
    distances, indices = (torch.cat(column) for column in zip(*found, strict=True))
    return distances / known.shape[1] ** 0.5, indices


def copied(distances: Tensor, usual: Tensor, share: float = 0.01) -> float:
    """The share of generated pictures that are nearer to a training picture than all but `share` of the real test pictures.

    Args:
        distances: Of generated pictures to the nearest training picture (`nearest`).
        usual: Of test pictures to the nearest training picture: what is usual between different pictures.
        share: What is returned, on average, where nothing is copied.
    """
    return (distances < usual.quantile(share)).float().mean().item()


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """How many fakes lie among the real points, and how many real points among the fakes (Kynkäänniemi et al., 2019).

    A point lies among others if it is no further from one of them than that one's k-th nearest neighbour
    (https://arxiv.org/abs/1904.06991). Low precision: fakes look wrong. Low recall: some kinds of real pictures never come.

    Args:
        real: Features (n, d), n > k.
        fake: Features (m, d), m > k. With n and m far apart, the larger cloud has the smaller balls: take equally many.
        k: The larger, the larger the balls, and both numbers.

    Returns:
        (precision, recall), each in 0..1.
    """
    check(0 < k < min(len(real), len(fake)), f"k = {k} neighbours are not to be had among {min(len(real), len(fake))} points")
    return _share_among(fake, real, k), _share_among(real, fake, k)


def _share_among(points: Tensor, others: Tensor, k: int) -> float:
    """The share of `points` within at least one of the balls around `others`."""
    radii = torch.cat([_distances(part, others).kthvalue(k + 1, dim=1).values for part in others.split(1000)])  # 1st: itself
    return torch.cat([(_distances(part, others) <= radii).any(dim=1) for part in points.split(1000)]).float().mean().item()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, m); exact, so that a copy is at 0: the faster way by a matrix product would leave a rounding error there."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


# ------------------------------------------------------------------------------------------------ a classifier that judges


@dataclass(frozen=True)
class Judge:
    """A trained classifier of pictures (n, channels, height, width), float in 0..1. It stays on the CPU and does not change.

    Attributes:
        body: Pictures → features (n, 64).
        head: Features → logits (n, classes).
        mean: Of the training pictures' pixels.
        std: Likewise.
    """

    body: nn.Module
    head: nn.Module
    mean: float
    std: float

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(n, 64) float32 on the CPU: what the classifier looks at to decide."""
        _check_pictures(images)
        return torch.cat([self.body((part.cpu().float() - self.mean) / self.std) for part in images.split(500)])

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """(n,) int64 on the CPU: the most probable label of each."""
        return self.head(self.features(images)).argmax(dim=1)


def train_judge(train: Images, seed: int = 0) -> Judge:
    """Train a small convolutional network on labelled pictures: always the same number of steps, about 5 s on one CPU core.

    Same pictures and seed, same judge. The global random generator is left as it was.

    Args:
        train: Pictures of at least 16x16 and their labels.
        seed: Of the initial weights and of the order of the pictures.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv2d(train.images.shape[1], 16, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 4 * 4, FEATURES),
        )  # fmt: skip
        head = nn.Sequential(nn.BatchNorm1d(FEATURES), nn.ReLU(), nn.Linear(FEATURES, int(train.labels.max()) + 1))
        std, mean = (one.item() for one in torch.std_mean(train.images[:10_000].float() / 255))
        optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=JUDGE_STEPS)
        for _ in range(JUDGE_STEPS):
            batch = torch.randint(len(train), (64,))
            images = (train.images[batch].float() / 255 - mean) / std
            loss = F.cross_entropy(head(body(images)), train.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return Judge(body.eval().requires_grad_(False), head.eval().requires_grad_(False), mean, std)


# ---------------------------------------------------------------------------------------------- a baseline, and enlarging


def gaussian_samples(train_images: Tensor, count: int, seed: int) -> Tensor:
    """Draw pictures from the normal distribution that has the mean and the covariance of the training pictures' pixels.

    Args:
        train_images: (n, channels, height, width), float in 0..1.
        count: How many to draw.
        seed: For drawing.

    Returns:
        (count, channels, height, width) on the CPU, clipped to 0..1.
    """
    _check_pictures(train_images)
    pixels = train_images.cpu().float().flatten(1)
    mean = pixels.mean(dim=0)
    # Normal weights on the centred pictures make a sum that is normal and has their covariance; as PCA would, without its cost.
    weights = torch.randn(count, len(pixels), generator=torch.Generator().manual_seed(seed)) / (len(pixels) - 1) ** 0.5
    return (mean + weights @ (pixels - mean)).clamp(0, 1).view(count, *train_images.shape[1:])


def fit_enlarger(small: Tensor, large: Tensor) -> Callable[[Tensor], Tensor]:
    """Find the best linear map from small pictures to large ones, so that what a network draws small can be judged large.

    Args:
        small: (n, channels, height, width), in any range.
        large: The same pictures, larger, in 0..1.

    Returns:
        A function from pictures like `small` to pictures like `large`, on the CPU, clipped to 0..1.
    """
    x, y = small.cpu().flatten(1).double(), large.cpu().flatten(1).double()
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    x = x - x_mean
    ridge = 1e-3 * len(x) * torch.eye(x.shape[1], dtype=x.dtype)  # pixels that never change would leave the map undefined
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ (y - y_mean))

    def enlarge(pictures: Tensor) -> Tensor:
        found = (pictures.cpu().flatten(1).double() - x_mean) @ weights + y_mean
        return found.clamp(0, 1).float().view(-1, *large.shape[1:])

    return enlarge


def _check_pictures(images: Tensor) -> None:
    """Neither bytes nor -1..1, which would silently be measured as very bad pictures."""
    told = f"pictures have to be float in 0..1, (n, channels, height, width); these are {images.dtype} {tuple(images.shape)}"
    check(images.is_floating_point() and images.ndim == 4, told)
    low, high = images.aminmax()
    check(-1e-3 <= low and high <= 1.001, f"pictures have to lie in 0..1; these go from {low:.3g} to {high:.3g}")
