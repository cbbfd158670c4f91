"""The diffusion process · 확산 과정

Noise is added to data in many small steps until nothing else is left; whoever guesses the data well at every step can walk
all the way back. For a few distributions the best guess is a formula, so the way back can be tried before anything is learned.
데이터에 잡음을 조금씩 거듭 더하면 잡음만 남는다. 단계마다 원래 데이터를 잘 추측할 수 있으면 그 길을 끝까지 되짚어 올 수 있다.
몇몇 분포에서는 가장 좋은 추측이 식으로 나온다. 그래서 아무것도 배우지 않고도 되돌아가 볼 수 있다.

You will
  1. add noise in steps and at once, and see that it is the same; compare two schedules
  2. take a step back when the start is known, and hold it against Bayes' rule
  3. meet an error whose message means: this is no place in a table
  4. turn noise into numbers of a known distribution, with the right noise on the way, with too much, and with none
  5. denoise digits in three ways that need no training, and see what the perfect answer to the training set makes of noise

Before     06_advanced/vae.py
Run        python -m study run diffusion_process   (about 5 s on one CPU core, after importing torch)
You see    numbers that find back to three hills, and a perfect denoiser that only makes copies; three figures
Try next   --timesteps 10: a tenth of the steps. Guess first which of the three kinds of noise then does best
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets import Source, mnist
from utils.lesson import check, run
from utils.plotting import label, save_figure

Denoiser = Callable[[Tensor, int], Tensor]  # what is there after t steps (n, size), and t → the best guess of the start (n, size)
Kind = Literal["posterior", "step", "none"]
WEIGHTS, MEANS, SPREAD = (0.2, 0.5, 0.3), (-2.0, 0.0, 1.5), 0.2  # three hills of numbers


# %% 1. Adding noise
def signal_left(schedule: Literal["cosine", "linear"], timesteps: int) -> Tensor:
    """Return (T + 1,) float64: which share of the variance is the data's after t steps ("alpha bar"), from 1 to nearly 0."""
    if schedule == "linear":  # Ho, Jain and Abbeel, 2020: from 0.0001 to 0.02 in 1,000 steps
        beta = torch.linspace(0.1, 20, timesteps, dtype=torch.float64) / timesteps  # the share that a step replaces by noise
    else:  # Nichol and Dhariwal, 2021
        t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        curve = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = 1 - curve[1:] / curve[:-1]
    return F.pad((1 - beta.clamp(max=0.999)).cumprod(0), (1, 0), value=1.0)


def compare_forward(left: Tensor, start: float, draws: int, seed: int) -> float:
    """Add noise to one number in steps, many times; return the largest distance from the closed form, of mean or deviation."""
    generator, worst, x = torch.Generator().manual_seed(seed), 0.0, torch.full((draws,), start)
    for t in range(1, len(left)):
        alpha = left[t] / left[t - 1]
        x = alpha.sqrt() * x + (1 - alpha).sqrt() * torch.randn(draws, generator=generator)
        mean, deviation = left[t].sqrt() * start, (1 - left[t]).sqrt()  # at once
        worst = max(worst, (x.mean() - mean).abs().item(), (x.std() - deviation).abs().item())
    return worst


# %% 2. One step back
def step_back(start: Tensor | float, now: Tensor | float, left: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of what was there after t - 1 steps, given the start and what is there after t."""
    alpha = left[t] / left[t - 1]
    from_start = left[t - 1].sqrt() * (1 - alpha) / (1 - left[t])
    from_now = alpha.sqrt() * (1 - left[t - 1]) / (1 - left[t])
    return from_start * start + from_now * now, (1 - alpha) * (1 - left[t - 1]) / (1 - left[t])


def compare_bayes(left: Tensor, t: int, start: float, now: float) -> float:
    """Multiply prior by likelihood on a fine grid; return how far mean and variance are from those of `step_back`."""
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64)  # what may have been there after t - 1 steps
    alpha = left[t] / left[t - 1]
    prior = -((x - left[t - 1].sqrt() * start) ** 2) / (2 * (1 - left[t - 1]))  # logarithms, but for a constant
    likelihood = -((now - alpha.sqrt() * x) ** 2) / (2 * (1 - alpha))
    weights, (mean, variance) = (prior + likelihood).softmax(dim=0), step_back(start, now, left, t)
    return max((weights @ x - mean).abs().item(), (weights @ (x - mean) ** 2 - variance).abs().item())


# %% 3. The error everyone meets
def meet_error(left: Tensor) -> str:
    """Draw times as one draws numbers, and look them up in the table; return PyTorch's answer."""
    try:
        return str(left[torch.rand(4) * (len(left) - 1)])
    except IndexError as error:
        print(f'3. "{error}"\n   read: times are places in a table. torch.randint(1, T + 1, (n,)) draws them')
        return str(error)


# %% 4. All steps back
def walk_back(denoiser: Denoiser, noise: Tensor, left: Tensor, seed: int, kind: Kind = "posterior") -> list[Tensor]:
    """Go from noise (n, size) back to data; return what was there after each step, the noise first.

    `kind` is the variance of the noise that steps add: of `step_back`, of the step forward, or none. The last adds none.
    """
    x, generator, seen = noise, torch.Generator().manual_seed(seed), [noise]
    for t in range(len(left) - 1, 0, -1):
        mean, variance = step_back(denoiser(x, t), x, left, t)  # as if the guess were the start
        if kind != "posterior":
            variance = variance * 0 if kind == "none" or t == 1 else 1 - left[t] / left[t - 1]
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        seen.append(x)
    return seen


def hills_denoiser(left: Tensor) -> Denoiser:
    """Return the best guess for numbers from the three hills: a linear guess for each hill, weighted by its probability."""
    weights, means = (torch.tensor(values, dtype=torch.float64) for values in (WEIGHTS, MEANS))

    def denoise(x: Tensor, t: int) -> Tensor:
        away, variance = x - left[t].sqrt() * means, left[t] * SPREAD**2 + 1 - left[t]  # (n, 1) - (3,) → (n, 3)
        probable = (weights.log() - away**2 / (2 * variance)).softmax(dim=1)
        guesses = means + left[t].sqrt() * SPREAD**2 / variance * away
        return (probable * guesses).sum(dim=1, keepdim=True)

    return denoise


def normal(count: int, size: int, seed: int) -> Tensor:
    """Draw standard normal numbers (count, size), float64."""
    return torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draw_hills(count: int, seed: int) -> Tensor:
    """Draw numbers (count, 1) from the three hills."""
    generator = torch.Generator().manual_seed(seed)
    hill = torch.multinomial(torch.tensor(WEIGHTS), count, replacement=True, generator=generator)
    return (torch.tensor(MEANS)[hill] + SPREAD * torch.randn(count, generator=generator))[:, None].double()


def distance(a: Tensor, b: Tensor) -> float:
    """How far one has to move the numbers (n, 1) on average to turn them into the others (Wasserstein)."""
    return (a.sort(dim=0).values - b.sort(dim=0).values).abs().mean().item()


def compare_kinds(timesteps: tuple[int, ...], count: int, seed: int) -> dict[tuple[str, int], float]:
    """Return for each kind of noise and number of steps how far the numbers end up from the three hills."""
    real, noise = draw_hills(count, seed), normal(count, 1, seed)
    found = {("real", 0): distance(real, draw_hills(count, seed + 1))}
    for kind, steps in product(("posterior", "step", "none"), timesteps):
        left = signal_left("cosine", steps)
        found[kind, steps] = distance(walk_back(hills_denoiser(left), noise, left, seed, kind)[-1], real)
    print("4. distance from the hills: " + ", ".join(f"{kind} {steps} {value:.3f}" for (kind, steps), value in found.items()))
    return found


# %% 5. Digits without training
def linear_denoiser(pictures: Tensor, left: Tensor) -> Denoiser:
    """Return the best guess if pictures (n, pixels) were normal: the best of all linear denoisers."""
    mean = pictures.mean(dim=0)
    values, vectors = torch.linalg.eigh(pictures.T.cov())

    def denoise(x: Tensor, t: int) -> Tensor:
        along = (x - left[t].sqrt() * mean) @ vectors  # (n, pixels), in the axes of the covariance
        return mean + (along * left[t].sqrt() * values / (left[t] * values + 1 - left[t])) @ vectors.T

    return denoise


def recall_pictures(x: Tensor, t: int, pictures: Tensor, left: Tensor) -> Tensor:
    """Return the best guess if there were these pictures (n, pixels) and no others: what minimises a training loss."""
    likelihood = -(torch.cdist(x, left[t].sqrt() * pictures) ** 2) / (2 * (1 - left[t]))  # (batch, n)
    return likelihood.softmax(dim=1) @ pictures


def losses_by_time(denoiser: Denoiser, pictures: Tensor, left: Tensor, seed: int) -> Tensor:
    """Return (T,): the mean squared error in the noise that a guess implies, after t = 1..T steps."""
    found = []
    for t in range(1, len(left)):
        noise = normal(*pictures.shape, seed + t)
        x = left[t].sqrt() * pictures + (1 - left[t]).sqrt() * noise
        found.append(F.mse_loss((x - left[t].sqrt() * denoiser(x, t)) / (1 - left[t]).sqrt(), noise))
    return torch.stack(found)


# %% All of it, in order
def draw(pictures: Tensor, path: list[Tensor], losses: dict[str, Tensor], made: dict[str, Tensor]) -> None:
    """Draw digits under noise, numbers on their way back, and what three denoisers make of noise."""
    import matplotlib.pyplot as plt

    korean = {"cosine": "코사인", "linear": "선형", "zero": "0", "memory": "기억"}
    figure, axes = plt.subplots(2, 9, figsize=(11, 2.8), layout="constrained")
    for row, schedule in zip(axes, ("cosine", "linear"), strict=True):
        left = signal_left(schedule, 80)[::10]
        for share, axis in zip(left, row, strict=True):
            x = share.sqrt() * pictures[0] + (1 - share).sqrt() * normal(1, 196, 0)
            axis.imshow(x.view(14, 14).numpy(), cmap="gray", vmin=-2, vmax=2)
            axis.set(xticks=[], yticks=[], title=f"{share:.3f}")
        row[0].set_ylabel(label(schedule, korean[schedule]))
    save_figure(figure, __file__, "forward")

    figure, (way, hills) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(3, 1), sharey=True, layout="constrained")
    way.plot(torch.cat([x[:80] for x in path], dim=1).T.numpy(), color="C0", linewidth=0.5)
    way.set(xlabel=label("steps back", "되돌아온 스텝"), ylabel=label("number", "수"))
    for numbers in (path[-1], draw_hills(len(path[-1]), 5)):
        hills.hist(numbers[:, 0].numpy(), bins=50, orientation="horizontal", histtype="step")
    hills.legend([label("made", "만든 것"), label("real", "진짜")])
    save_figure(figure, __file__, "back")

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for name, values in losses.items():
        axes[0].semilogy(range(1, len(values) + 1), values, label=label(name, korean[name]))
    axes[0].legend()
    axes[0].set(xlabel=label("steps of noise", "잡음 스텝"), ylabel=label("error in the noise", "잡음 오차"))
    for axis, (name, pixels) in zip(axes[1:], made.items(), strict=True):
        axis.imshow(pixels[:32].view(4, 8, 14, 14).transpose(1, 2).reshape(56, 112).numpy(), cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[], title=label(name, korean[name]))
    save_figure(figure, __file__, "denoisers")


def main(timesteps: int = 100, numbers: int = 5000, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Add noise, and walk back with guesses that are formulas.

    Args:
        timesteps: Steps of the process.
        numbers: How many numbers walk back.
        source: Pictures from: auto (MNIST if it is there, else the sample), real, sample.
        seed: For all that is drawn.
    """
    check(timesteps > 2 and numbers > 99, f"--timesteps {timesteps} --numbers {numbers}: needed are at least 3 and 100")
    results, data = {}, mnist(source)
    for schedule in ("linear", "cosine"):
        left = signal_left(schedule, timesteps)
        results[f"forward_{schedule}"] = far = compare_forward(left, 1.5, 20_000, seed)
        kept = f"{left[timesteps // 2]:.3f} of the variance left half-way, {left[-1]:.0e} at the end"
        print(f"1. {schedule}: {kept}; in steps and at once differ by {far:.3f}")
    results["bayes"] = max(compare_bayes(left, t, 0.7, -0.4) for t in range(2, timesteps + 1))
    print(f"2. mean and variance of the step back are Bayes' within {results['bayes']:.0e}")
    meet_error(left)
    found = compare_kinds((timesteps, 4 * timesteps), numbers, seed)
    results |= {kind: found[kind, timesteps] for kind in ("posterior", "step", "none")} | {"floor": found["real", 0]}
    known, test = (F.avg_pool2d(x.images.double(), 2).flatten(1) / 127.5 - 1 for x in (data.train[:1437], data.test[:360]))
    denoisers = {"linear": linear_denoiser(known, left), "memory": lambda x, t: recall_pictures(x, t, known, left)}
    losses = {"zero": torch.ones(timesteps)} | {name: losses_by_time(one, test, left, seed) for name, one in denoisers.items()}
    results |= {f"loss_{name}": values.mean().item() for name, values in losses.items()}
    print("5. error in the noise of new digits: " + ", ".join(f"{name} {values.mean():.3f}" for name, values in losses.items()))
    made = {name: walk_back(denoiser, normal(64, 196, seed), left, seed)[-1] for name, denoiser in denoisers.items()}
    for name, pictures in (made | {"new digits": test}).items():
        results[f"nearest_{name}".replace(" ", "_")] = nearest = torch.cdist(pictures, known).min(dim=1).values.mean().item()
        print(f"   {name:10}: {nearest:.3f} away from the nearest digit that is known")
    draw(test, walk_back(hills_denoiser(left), normal(numbers, 1, seed), left, seed), losses, made)
    check(results["bayes"] < 1e-6 and results["posterior"] < results["none"] / 2, f"not what the formulas say: {results}")
    return results


if __name__ == "__main__":
    run(main)
