"""Diffusion models · 확산 모델

A network learns one thing: which noise has been added to a picture. Asked again and again, it turns pure noise into new pictures.
신경망이 배우는 것은 하나, 그림에 어떤 잡음이 더해졌는지 알아맞히는 것뿐이다. 거듭 물으면 순수한 잡음이 새 그림이 된다.

You will
  1. meet an error whose silent twin is worse
  2. build a U-Net, which makes pictures smaller and then larger again, and is told how much noise there is
  3. train it, keep a moving average of its weights, as PyTorch does, and compare it with the best linear denoiser
  4. turn noise into digits (Ho, Jain and Abbeel, 2020), look at them, measure them, and see that they are not copies

Before     06_advanced/diffusion_process.py, 04_cnn/conv_layers.py
Run        python -m study run diffusion   (about 38 s on one CPU core, after importing torch)
You see    Fréchet distance 0.23, of Gaussian pixels 0.57, of real digits 0.07; samples.png
Try next   --timesteps 20: a fifth of the work when sampling. Guess first: does the loss suffer, or do the samples?
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.datasets import Source, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.sample_quality import fit_enlarger, frechet_distance, gaussian_samples, precision_recall, train_judge

Denoiser = Callable[[Tensor, Tensor], Tensor]  # noisy pictures (n, 1, 14, 14), times (n,) in 1..T → the noise in them
SIZE = 14  # the network works on pictures of half the size: a quarter of the pixels


# %% 1. Noise of any strength, and the error everyone meets
def signal_left(timesteps: int) -> Tensor:
    """Return (T + 1,) float64: the share of the variance that is still the picture's after t steps, from 1 down to nearly 0."""
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    curve = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2  # Nichol and Dhariwal, 2021
    beta = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)  # the share that each step replaces by noise
    return F.pad((1 - beta).cumprod(0), (1, 0), value=1.0)


def add_noise(pictures: Tensor, noise: Tensor, left: Tensor, t: Tensor) -> Tensor:
    """Take t (n,) steps at once: pictures and noise (n, 1, size, size), mixed so that the variance stays."""
    share = left.float().to(t.device)[t].view(-1, 1, 1, 1)  # (n, 1, 1, 1), so that it fits pictures
    return share.sqrt() * pictures + (1 - share).sqrt() * noise


def meet_error() -> tuple[str, float]:
    """Multiply pictures by numbers (n,), not (n, 1, 1, 1): return the message, and the damage where none comes."""
    pictures, shares = torch.ones(SIZE, 1, SIZE, SIZE), torch.linspace(0, 1, SIZE)
    silent = (shares * pictures - shares.view(-1, 1, 1, 1) * pictures).abs().max().item()
    try:
        return str(shares[:8] * pictures[:8]), silent
    except RuntimeError as error:
        print(f'1. "{error}"\n   read: (8,) met (8, 1, 14, 14) from the right. 14 pictures: no message, wrong by {silent:.0f}')
        return str(error), silent


# %% 2. A network that is told the time
def time_embedding(t: Tensor, width: int) -> Tensor:
    """Times (n,) → (n, width): cosines and sines, each wave slower than the one before. (positions.py does so with places.)"""
    angles = t[:, None].float() * 1000.0 ** (-torch.arange(width // 2, device=t.device) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Block(nn.Module):
    """Two convolutions with a shortcut; between them, the time scales and shifts each channel."""

    def __init__(self, inputs: int, outputs: int, times: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(times, 2 * outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)  # at first, a block changes nothing

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        out = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(out) * (1 + scale) + shift))


class UNet(nn.Module):
    """Noisy pictures (n, 1, 14, 14) and times (n,) → the noise in them. Down to 7x7, and up beside what was there before."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.width, wide, times = width, 2 * width, 4 * width
        self.time = nn.Sequential(nn.Linear(2 * width, times), nn.SiLU(), nn.Linear(times, times), nn.SiLU())
        self.stem, self.shrink = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, wide, 3, stride=2, padding=1)
        self.down, self.middle1 = Block(width, width, times), Block(wide, wide, times)
        self.middle2, self.middle3 = Block(wide, wide, times), Block(2 * wide, wide, times)
        self.grow, self.up = nn.ConvTranspose2d(wide, width, 2, stride=2), Block(2 * width, width, times)
        self.norm, self.head = nn.GroupNorm(4, width), nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # so it begins with the same answer everywhere

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(time_embedding(t, 2 * self.width))  # (n, times)
        fine = self.down(self.stem(x), time)  # (n, width, 14, 14)
        coarse = self.middle1(self.shrink(fine), time)  # (n, 2 width, 7, 7)
        x = self.middle3(torch.cat([self.middle2(coarse, time), coarse], dim=1), time)
        x = self.up(torch.cat([self.grow(x), fine], dim=1), time)  # (n, width, 14, 14)
        return self.head(F.silu(self.norm(x)))


# %% 3. Training, and the average of many networks
@torch.no_grad()
def average_weights(average: nn.Module, model: nn.Module, decay: float = 0.99) -> None:
    """Move each weight of `average` by 1 - decay of the way to the model's."""
    for old, new in zip(average.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def compare_average(steps: int) -> float:
    """Average weights that change at random, by hand and by PyTorch; return the largest difference."""
    model = nn.Linear(5, 5)
    ours, theirs = copy.deepcopy(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    for step in range(steps):
        average_weights(ours, model)
        theirs.update_parameters(model)  # the first time it copies them
        nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(step))
    return (ours.weight - theirs.module.weight).abs().max().item()


def train(pictures: Tensor, left: Tensor, model: UNet, steps: int, lr: float, seed: int) -> UNet:
    """Teach the network to say which noise was added; return the moving average of its weights."""
    generator, average = torch.Generator().manual_seed(seed), copy.deepcopy(model)  # all draws are made on the CPU
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        chosen = torch.randint(len(pictures), (32,), generator=generator).to(pictures.device)
        t = torch.randint(1, len(left), (32,), generator=generator).to(pictures.device)  # every strength equally often
        noise = torch.randn(32, *pictures.shape[1:], generator=generator).to(pictures.device)
        loss = F.mse_loss(model(add_noise(pictures[chosen], noise, left, t), t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average_weights(average, model, min(0.99, (1 + step) / (10 + step)))  # soon forgets the first weights
    return average


def linear_loss(pictures: Tensor, left: Tensor) -> float:
    """Return the lowest loss that any linear denoiser can have on these pictures; it follows from their covariance alone."""
    values, share = torch.linalg.eigvalsh(pictures.flatten(1).cpu().double().T.cov()).clamp(min=0), left[1:, None]
    return (share * values / (share * values + 1 - share)).mean().item()


@torch.no_grad()
def measure_loss(denoiser: Denoiser, pictures: Tensor, left: Tensor, seed: int) -> float:
    """Return the mean squared error of the guessed noise, each picture being noisy by each number of steps."""
    generator, total = torch.Generator().manual_seed(seed), 0.0
    for t in torch.arange(1, len(left), device=pictures.device)[:, None].expand(-1, len(pictures)):  # (n,), all alike
        noise = torch.randn(pictures.shape, generator=generator).to(pictures.device)
        total += F.mse_loss(denoiser(add_noise(pictures, noise, left, t), t), noise).item()
    return total / (len(left) - 1)


# %% 4. From noise to digits
@torch.no_grad()
def sample(denoiser: Denoiser, noise: Tensor, left: Tensor, seed: int) -> list[Tensor]:
    """Take all steps back from noise (n, 1, size, size); return the pictures after each, the noise first."""
    x, generator, seen = noise, torch.Generator().manual_seed(seed), [noise]
    for t in range(len(left) - 1, 0, -1):
        now, before, alpha = left[t].item(), left[t - 1].item(), (left[t] / left[t - 1]).item()
        noise = denoiser(x, torch.full((len(x),), t, device=x.device))
        clean = ((x - (1 - now) ** 0.5 * noise) / now**0.5).clamp(-1, 1)  # no pixel is beyond
        mean = (before**0.5 * (1 - alpha) * clean + alpha**0.5 * (1 - before) * x) / (1 - now)
        deviation = ((1 - alpha) * (1 - before) / (1 - now)) ** 0.5  # 0 in the last step
        seen.append(x := mean + deviation * torch.randn(x.shape, generator=generator).to(x.device))
    return seen


def shrink(images: Tensor) -> Tensor:
    """Pictures (n, 1, 28, 28) in 0..255 → (n, 1, 14, 14) in -1..1."""
    return F.avg_pool2d(images.float(), 2) / 127.5 - 1


# %% All of it, in order
def draw(panels: dict[str, Tensor]) -> None:
    """Draw 64 pictures (64, 1, 28, 28) of each kind."""
    import matplotlib.pyplot as plt

    korean = {"from noise": "잡음에서 숫자로", "diffusion": "확산 모델", "Gaussian": "정규분포", "real": "진짜"}
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4.2), layout="constrained")
    for axis, (name, pictures) in zip(axes, panels.items(), strict=True):
        axis.imshow(pictures[:64].view(8, 8, 28, 28).transpose(1, 2).reshape(224, 224).numpy(), cmap="gray")
        axis.set(title=label(name, korean[name]), xticks=[], yticks=[])
    save_figure(figure, __file__, "samples")


def main(
    steps: int = 1000, timesteps: int = 100, lr: float = 4e-3, source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Train a denoiser, and make digits with it.

    Args:
        steps: Steps of training, on 32 pictures each.
        timesteps: Steps from a picture to noise, and back.
        lr: The highest learning rate.
        source: Pictures from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: For weights, batches and noise.
    """
    check(min(steps, timesteps - 1) > 0, f"--steps {steps} --timesteps {timesteps}: needed are at least 1 and 2")
    where, data, left = pick_device(device), mnist(source), signal_left(timesteps)
    meet_error()
    torch.manual_seed(seed)
    model, images, results = UNet().to(where), data.train.images[:10_000] / 255, {"average": compare_average(100)}
    print(f"3. moving average: PyTorch's within {results['average']:.0e}")
    known, test = shrink(data.train.images).to(where), shrink(data.test.images[:360]).to(where)
    average = train(known, left, model, steps, lr, seed)
    results |= {"loss": measure_loss(average, test, left, seed), "loss_linear": linear_loss(test, left)}
    print(f"3. loss on new digits: {results['loss']:.4f}; no linear denoiser can have less than {results['loss_linear']:.4f}")
    noise = torch.randn(300, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).to(where)
    seen, judge, enlarge = sample(average, noise, left, seed), train_judge(data.train), fit_enlarger(known[:10_000], images)
    made = {"diffusion": enlarge(seen[-1]), "Gaussian": gaussian_samples(images, 300, seed)}
    made["real"], real = data.test.images[:300] / 255, judge.features(images)
    for name, pictures in made.items():
        features, end = judge.features(pictures), "" if name == "diffusion" else f"_{name}"
        results[f"frechet_distance{end}"] = distance = frechet_distance(real, features)
        results[f"precision{end}"], results[f"recall{end}"] = found = precision_recall(real[:: len(real) // 300][:300], features)
        print(f"4. {name:9}: Fréchet distance {distance:.3f}, precision {found[0]:.2f}, recall {found[1]:.2f}")
    for name, pictures in (("samples", seen[-1]), ("new_digits", test)):
        results[f"nearest_{name}"] = torch.cdist(pictures.flatten(1), known.flatten(1)).min(dim=1).values.mean().item()
        print(f"4. {name} are {results[f'nearest_{name}']:.2f} from the nearest training picture")
    way = [enlarge(seen[round(i * timesteps / 7)][:8]) for i in range(8)]  # eight digits at eight times
    draw({"from noise": torch.stack(way, dim=1).flatten(0, 1)} | made)
    better = results["loss"] < results["loss_linear"] and results["frechet_distance"] < results["frechet_distance_Gaussian"]
    check(better, "no better than what knows means and covariances only: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
