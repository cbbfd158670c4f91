"""Guided diffusion · 유도 확산 모델

A diffusion model need not take as many steps back as it learned with, nor make whatever it likes: one network, trained with
labels that are sometimes left out, can be asked for a digit, in a few steps, and more or less insistently.
확산 모델은 학습할 때만큼 많은 스텝을 되돌아올 필요도, 아무것이나 그릴 필요도 없다. 레이블을 가끔 빼고 학습한 신경망 하나에
원하는 숫자를 몇 스텝 만에, 원하는 만큼 강하게 요구할 수 있다.

You will
  1. meet an error: one label more than there are digits
  2. take any number of steps with any noise (DDIM), and find DDPM among them
  3. train one network with and without labels, and ask it for digits
  4. measure what fewer steps cost, with noise on the way and without
  5. ask more insistently: more often what was asked for, less variety
  6. walk from one picture to another through the noise

Before     06_advanced/diffusion.py
Run        python -m study run guided_diffusion   (about 35 s on one CPU core, after importing torch)
You see    97 of 100 digits as asked for, and all of them when asked twice as insistently; digits.png, curves.png
Try next   --drop 0: no label is ever left out. Guess first: what becomes of the plain samples, what of the guided ones?
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.datasets import Source, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.sample_quality import fit_enlarger, frechet_distance, train_judge

NONE = 10  # the label of those who do not say which digit


# %% 1. A network that is told time and label
class Block(nn.Module):
    """Two convolutions with a shortcut; between them, time and label scale and shift each channel."""

    def __init__(self, inputs: int, outputs: int, told: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.told = nn.Linear(told, 2 * outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)
        out = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(out) * (1 + scale) + shift))


class UNet(nn.Module):
    """Noisy pictures (n, 1, 14, 14), times (n,), labels (n,) → the noise in them. As in diffusion.py, but for the labels."""

    def __init__(self, width: int = 16, labels: int = NONE + 1):
        super().__init__()
        self.width, wide, told = width, 2 * width, 4 * width
        self.time = nn.Sequential(nn.Linear(2 * width, told), nn.SiLU(), nn.Linear(told, told))
        self.labels = nn.Embedding(labels, told)
        self.stem, self.shrink = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, wide, 3, stride=2, padding=1)
        self.down, self.middle1 = Block(width, width, told), Block(wide, wide, told)
        self.middle2, self.middle3 = Block(wide, wide, told), Block(2 * wide, wide, told)
        self.grow, self.up = nn.ConvTranspose2d(wide, width, 2, stride=2), Block(2 * width, width, told)
        self.norm, self.head = nn.GroupNorm(4, width), nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        angles = t[:, None].float() * 1000.0 ** (-torch.arange(self.width, device=t.device) / self.width)
        told = F.silu(self.time(torch.cat([angles.cos(), angles.sin()], dim=1)) + self.labels(labels))  # (n, told)
        fine = self.down(self.stem(x), told)  # (n, width, 14, 14)
        coarse = self.middle1(self.shrink(fine), told)  # (n, 2 width, 7, 7)
        x = self.middle3(torch.cat([self.middle2(coarse, told), coarse], dim=1), told)
        x = self.up(torch.cat([self.grow(x), fine], dim=1), told)
        return self.head(F.silu(self.norm(x)))


def meet_error() -> str:
    """Give a network for ten labels the eleventh, "none"; return PyTorch's answer."""
    try:
        return str(UNet(width=4, labels=10)(torch.zeros(1, 1, 14, 14), torch.tensor([1]), torch.tensor([NONE])))
    except IndexError as error:
        print(f'1. "{error}"\n   read: an embedding of 10 has no row 10; "no label" needs a row too. On CUDA: device-side assert')
        return str(error)


# %% 2. Any number of steps
def signal_left(timesteps: int) -> Tensor:
    """Return (T + 1,) float64: the share of the variance that is the picture's after t steps, Nichol and Dhariwal's cosine."""
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    curve = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return F.pad((curve[1:] / curve[:-1]).clamp(min=0.001).cumprod(0), (1, 0), value=1.0)


def step(x: Tensor, clean: Tensor, now: float, before: float, eta: float) -> tuple[Tensor, float]:
    """Go from where a share `now` of the variance is the picture's to where `before` is (Song, Meng and Ermon, 2021, "DDIM").

    `clean` guesses the picture in x; eta: 0 adds no noise, 1 as much as DDPM. Returns the mean, and the deviation of new noise.
    """
    noise = (x - now**0.5 * clean) / (1 - now) ** 0.5  # what is left when the guess is taken away
    deviation = eta * ((1 - before) / (1 - now) * (1 - now / before)) ** 0.5
    return before**0.5 * clean + max(1 - before - deviation**2, 0) ** 0.5 * noise, deviation


def compare_ddpm(left: Tensor) -> float:
    """Take every step with eta 1; return the largest distance from DDPM's mean and deviation."""
    (x, clean), worst = torch.tensor([0.7, -0.4], dtype=torch.float64), 0.0
    for t in range(1, len(left)):
        now, before, alpha = left[t].item(), left[t - 1].item(), (left[t] / left[t - 1]).item()
        mean, deviation = step(x, clean, now, before, eta=1)
        expected = (before**0.5 * (1 - alpha) * clean + alpha**0.5 * (1 - before) * x) / (1 - now)
        worst = max(worst, abs(mean - expected).item(), abs(deviation**2 - (1 - alpha) * (1 - before) / (1 - now)))
    return worst


@torch.no_grad()
def sample(model: UNet, noise: Tensor, labels: Tensor, left: Tensor, steps: int, weight: float, eta: float, seed: int) -> Tensor:
    """Turn noise (n, 1, 14, 14) into pictures of the labels (n,), in `steps` steps, at most as many as there are.

    weight: 0 as if nobody had asked, 1 as asked, above 1 away from the former and beyond the latter (Ho and Salimans, 2022).
    """
    x, generator = noise, torch.Generator().manual_seed(seed)
    times = torch.linspace(len(left) - 1, 0, steps + 1).round().long().tolist()
    for t, earlier in zip(times[:-1], times[1:], strict=True):
        time = torch.full((len(x),), t, device=x.device)
        guess = model(x, time, labels)
        if weight != 1:
            plain = model(x, time, torch.full_like(labels, NONE))
            guess = plain + weight * (guess - plain)
        now, before = left[t].item(), left[earlier].item()
        mean, deviation = step(x, ((x - (1 - now) ** 0.5 * guess) / now**0.5).clamp(-1, 1), now, before, eta)
        x = mean + deviation * torch.randn(x.shape, generator=generator).to(x.device)
    return x


# %% 3. Training
def train(pictures: Tensor, labels: Tensor, left: Tensor, model: UNet, steps: int, drop: float, lr: float, seed: int) -> None:
    """Teach the network to say which noise was added, given the label, which is left out for a share `drop` of the pictures."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        chosen = torch.randint(len(pictures), (32,), generator=generator).to(pictures.device)
        t = torch.randint(1, len(left), (32,), generator=generator).to(pictures.device)
        noise = torch.randn(32, *pictures.shape[1:], generator=generator).to(pictures.device)
        told = labels[chosen].masked_fill((torch.rand(32, generator=generator) < drop).to(pictures.device), NONE)
        share = left.float().to(t.device)[t].view(-1, 1, 1, 1)
        loss = F.mse_loss(model(share.sqrt() * pictures[chosen] + (1 - share).sqrt() * noise, t, told), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


# %% 5. Variety, and 6. the way from one noise to another
def variety(features: Tensor, labels: Tensor) -> float:
    """Return the mean distance between two pictures (their features, (n, d)) of the same label."""
    return torch.stack([torch.pdist(features[labels == digit]).mean() for digit in labels.unique()]).mean().item()


def between(one: Tensor, other: Tensor, count: int) -> Tensor:
    """Return noise (count, ...) on the arc from one to the other; on the straight line, it would be too weak in the middle."""
    angles = torch.linspace(0, math.pi / 2, count, device=one.device).view(-1, *[1] * one.dim())
    return angles.cos() * one + angles.sin() * other


# %% All of it, in order
def draw(grids: dict[str, Tensor], distances: dict[str, dict[int, float]], asked: dict[float, dict[str, float]]) -> None:
    """Draw digits (one row each) by weight and between two noises, quality by steps, accuracy and variety by weight."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(grids), figsize=(4 * len(grids), 5.4), layout="constrained")
    for axis, (name, pictures) in zip(axes, grids.items(), strict=True):
        rows = pictures.view(-1, 10, 14, 14)[:8].permute(1, 2, 0, 3).reshape(140, 112)  # a digit a row
        axis.imshow(rows.cpu().numpy(), cmap="gray", vmin=-1, vmax=1)
        axis.set(title=name, xticks=[], yticks=[])
    save_figure(figure, __file__, "digits")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, values in distances.items():
        left.plot(list(values), list(values.values()), "o-", label=name)
    for name, korean in (("accuracy", "정확도"), ("variety", "다양성")):
        right.plot(list(asked), [found[name] for found in asked.values()], "o-", label=label(name, korean))
    left.set(xlabel=label("steps", "스텝"), ylabel=label("Fréchet distance", "프레셰 거리"), ylim=(0, None))
    right.set(xlabel=label("weight", "가중치"), ylim=(0, None))
    left.legend()
    right.legend()
    save_figure(figure, __file__, "curves")


def main(
    steps: int = 1000, timesteps: int = 100, drop: float = 0.15, lr: float = 4e-3,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train a denoiser with labels, and ask it for digits in several ways.

    Args:
        steps: Steps of training, on 32 pictures each.
        timesteps: Steps from a picture to noise; at least 50.
        drop: The share of pictures whose label is left out in training.
        lr: The highest learning rate.
        source: Pictures from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: For weights, batches and noise.
    """
    check(steps > 0 and timesteps >= 50 and 0 <= drop <= 1, "needed: --steps 1, --timesteps 50, --drop between 0 and 1")
    where, data, left = pick_device(device), mnist(source), signal_left(timesteps)
    meet_error()
    torch.manual_seed(seed)
    results = {"ddpm": compare_ddpm(left)}
    print(f"2. with eta 1 and all steps it is DDPM within {results['ddpm']:.0e}")
    model, known = UNet().to(where), F.avg_pool2d(data.train.images.float(), 2).to(where) / 127.5 - 1  # (n, 1, 14, 14)
    train(known, data.train.labels.to(where), left, model, steps, drop, lr, seed)
    noise, labels = torch.randn(200, 1, 14, 14, generator=torch.Generator().manual_seed(seed)).to(where), torch.arange(200) % 10
    judge, images = train_judge(data.train), data.train.images[:10_000] / 255
    enlarge, real = fit_enlarger(known[:10_000], images), judge.features(images)

    def look(pictures: Tensor) -> Tensor:
        return judge.features(enlarge(pictures))

    def make(steps: int, weight: float, eta: float) -> Tensor:
        return sample(model, noise, labels.to(where), left, steps, weight, eta, seed)

    distances, asked, grids = {}, {}, {}
    for eta in (0, 1):
        distances[f"eta {eta}"] = found = {n: frechet_distance(real, look(make(n, 1.0, eta))) for n in (5, 10, 20, 50)}
        results |= {f"frechet_eta{eta}_{n}": value for n, value in found.items()}
        print(f"4. eta {eta}: Fréchet distance " + ", ".join(f"{value:.3f} in {n} steps" for n, value in found.items()))
    spread = variety(real, data.train.labels[:10_000])
    for weight in (0, 1, 2, 4):
        pictures = make(20, weight, 1)
        features, grids[f"{label('weight', '가중치')} {weight}"] = look(pictures), pictures
        right = (judge.head(features).argmax(dim=1) == labels).float().mean().item()
        kept = variety(features, labels) / spread
        asked[weight] = found = {"accuracy": right, "variety": kept, "frechet": frechet_distance(real, features)}
        print(f"5. weight {weight}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
        results |= {f"{name}_{weight}": value for name, value in found.items()}
    ways = torch.stack([between(one, other, 8) for one, other in zip(noise[:10], noise[10:20], strict=True)], dim=1)
    path = sample(model, ways.flatten(0, 1), torch.arange(80, device=where) % 10, left, 20, 2, 0, seed)
    draw(grids | {label("between", "사이"): path}, distances, asked)
    guided, plain = results["accuracy_2"], results["accuracy_0"]
    check(guided > max(0.3, 2 * plain), f"{guided:.0%} of the digits are those asked for, {plain:.0%} unasked: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
