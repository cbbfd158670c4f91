"""Mode collapse · 모드 붕괴

A generator that runs ahead of its discriminator draws one kind of thing only, and moves on when it is found out. A penalty on the
discriminator's slope cures it; on eight clusters in a plane it can be counted how many kinds there are.
생성자가 판별자보다 앞서 달리면 한 가지만 그리다가, 들키면 다른 것으로 옮겨 간다. 판별자의 기울기에 벌점을 주면 낫는다.
평면에 놓인 군집 여덟 개에서는 몇 가지를 그리는지 셀 수 있다.

You will
  1. count modes: of real points, of a normal distribution, and of a generator that has collapsed
  2. compute a gradient penalty, check it where the answer is known, and forget create_graph: a message, and then silence
  3. provoke collapse over seeds, and cure it twice at the same learning rates: by R1 and by WGAN-GP
  4. see what the Wasserstein distance has that the Jensen-Shannon divergence has not, and how well a critic estimates it

Before     06_advanced/gan.py
Run        python -m study run mode_collapse     (about 24 s on one CPU core, after importing torch)
You see    modes in the second half of the game: 1.8 of 8, with R1 6.7, with WGAN-GP 7.8; collapse.png
Try next   --speed 1: equal learning rates. First guess whether the plain game still collapses, and what happens to the cures
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

MODES, SPREAD, LATENT = 8, 0.05, 8  # clusters on a circle of radius 2, their standard deviation, numbers of noise
KINDS = ("plain", "R1", "WGAN-GP")


# %% 1. Modes, counted
def centres() -> Tensor:
    """Where the clusters are, (MODES, 2)."""
    angle = torch.arange(MODES) * 2 * math.pi / MODES
    return 2 * torch.stack([angle.cos(), angle.sin()], dim=1)


def ring(count: int, draw: torch.Generator) -> Tensor:
    """Draw points (count, 2), from all clusters alike."""
    return centres()[torch.randint(MODES, (count,), generator=draw)] + SPREAD * torch.randn(count, 2, generator=draw)


def count_modes(points: Tensor) -> tuple[int, float]:
    """Return how many clusters have at least 1 % of the points (n, 2) within 4 deviations, and the share that has one there."""
    distance, nearest = torch.cdist(points.cpu(), centres()).min(dim=1)
    good = distance < 4 * SPREAD
    counts = torch.bincount(nearest[good], minlength=MODES)
    return (counts >= 0.01 * len(points)).sum().item(), good.float().mean().item()


# %% 2. A penalty on slopes
def slopes(critic: nn.Module, x: Tensor) -> Tensor:
    """Return the length of d critic / d x at each of the points (n, d), so that a loss made of it can be differentiated again."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)  # a sum: each point has an output of its own
    return (gradient.square().sum(dim=1) + 1e-12).sqrt()  # the root of 0 has no slope


def slope_penalty(critic: nn.Module, real: Tensor, fake: Tensor, draw: torch.Generator, least: float = -1.0) -> Tensor:
    """WGAN-GP (Gulrajani et al., 2017): slopes between real points and fakes (n, d) should be 1; with least=0, at most 1."""
    share = torch.rand(len(real), 1, generator=draw).to(real.device)
    return (slopes(critic, share * real + (1 - share) * fake) - 1).clamp(min=least).square().mean()


def r1_penalty(critic: nn.Module, real: Tensor) -> Tensor:
    """R1 (Mescheder et al., 2018): at real points there should be none."""
    return slopes(critic, real).square().mean() / 2


def forget_create_graph(seed: int) -> tuple[str, float]:
    """Return PyTorch's message for a penalty without create_graph, and its share in the gradient once it is added to a loss."""
    torch.manual_seed(seed)
    critic, x = make_net(2, 1, 16), torch.randn(32, 2)
    weights, at = list(critic.parameters()), x.clone().requires_grad_()
    penalty = (torch.autograd.grad(critic(at).sum(), at)[0].norm(dim=1) - 1).square().mean()
    alone, both = (torch.autograd.grad(critic(x).mean() + more, weights) for more in (0, penalty))
    share = max((a - b).abs().max().item() for a, b in zip(alone, both, strict=True))
    try:
        return str(penalty.backward()), share
    except RuntimeError as error:
        return str(error), share


# %% 3. Provoked and cured
def make_net(inputs: int, outputs: int, width: int) -> nn.Sequential:
    """(n, inputs) → (n, outputs), through two hidden layers."""
    layers = nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    return nn.Sequential(*layers)


def critic_loss(kind: str, critic: nn.Module, real: Tensor, fake: Tensor, weight: float, draw: torch.Generator) -> Tensor:
    """What the critic minimises; `weight` multiplies its penalty."""
    if kind == "WGAN-GP":
        return critic(fake).mean() - critic(real).mean() + weight * slope_penalty(critic, real, fake, draw)
    loss = F.softplus(-critic(real)).mean() + F.softplus(critic(fake)).mean()
    return loss + weight * r1_penalty(critic, real) if kind == "R1" else loss


def generator_loss(kind: str, outputs: Tensor) -> Tensor:
    """What the generator minimises, by the critic's outputs for its points."""
    return -outputs.mean() if kind == "WGAN-GP" else F.softplus(-outputs).mean()


def play(kind: str, steps: int, lr: float, speed: float, weight: float, seed: int, device) -> tuple[list, Tensor]:
    """Train critic (rate lr) and generator (speed times lr) on 64 points each; in WGAN-GP the critic takes 4 steps to each one.

    Return for 8 times, the end being the last, (step, modes, share of good points), and 500 points each (8, 500, 2).
    """
    torch.manual_seed(seed)
    draw, generator, critic = torch.Generator().manual_seed(seed), make_net(LATENT, 2, 64), make_net(2, 1, 64)
    generator, critic = generator.to(device), critic.to(device)
    generator_step = torch.optim.Adam(generator.parameters(), lr * speed, betas=(0.5, 0.9))
    critic_step = torch.optim.Adam(critic.parameters(), lr, betas=(0.5, 0.9))
    times, counted, clouds = {max(1, steps * i // 8) for i in range(1, 9)}, [], []
    for step in range(1, steps + 1):
        for _ in range(4 if kind == "WGAN-GP" else 1):
            real, noise = ring(64, draw).to(device), torch.randn(64, LATENT, generator=draw).to(device)
            loss = critic_loss(kind, critic, real, generator(noise).detach(), weight, draw)
            critic_step.zero_grad()
            loss.backward()
            critic_step.step()
        loss = generator_loss(kind, critic(generator(torch.randn(64, LATENT, generator=draw).to(device))))
        generator_step.zero_grad()
        loss.backward()
        generator_step.step()
        if step in times:
            points = sample(generator, 2000, seed)
            counted.append((step, *count_modes(points)))
            clouds.append(points[:500])
    return counted, torch.stack(clouds)


@torch.no_grad()
def sample(generator: nn.Module, count: int, seed: int) -> Tensor:
    """Return new points (count, 2), on the CPU."""
    noise = torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed + 1000))
    return generator(noise.to(next(generator.parameters()).device)).cpu()


# %% 4. How far apart
def exact_distance(a: Tensor, b: Tensor) -> float:
    """Return the Wasserstein distance of two clouds (n, 1): in one dimension the cheapest plan is to keep the order."""
    return (a.flatten().sort().values - b.flatten().sort().values).abs().mean().item()


def estimate_distance(a: Tensor, b: Tensor, steps: int, seed: int) -> float:
    """Train a critic on two clouds (n, d), its slope being at most 1 or a little more; return the difference of its means by it.

    Were it to be 1, a critic that slopes the wrong way would stay so: in one dimension the way back leads through slope 0.
    """
    torch.manual_seed(seed)
    critic, draw = make_net(a.shape[1], 1, 64), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(critic.parameters(), 0.01, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        loss = critic(b).mean() - critic(a).mean() + 20 * slope_penalty(critic, a, b, draw, least=0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    between = torch.cat([a, (a + b) / 2, b])
    return ((critic(a).mean() - critic(b).mean()) / slopes(critic, between).max()).item()


def jensen_shannon(shift: float) -> float:
    """Return the Jensen-Shannon divergence of two normal distributions of deviation 0.1, `shift` apart, summed on a grid."""
    x = torch.linspace(-1, shift + 1, 20_001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(mean, 0.1).log_prob(x) for mean in (0.0, shift))
    middle = torch.logaddexp(p, q) - math.log(2)
    return torch.trapezoid((p.exp() * (p - middle) + q.exp() * (q - middle)) / 2, x).item()


def compare_distances(shifts: tuple[float, ...], steps: int, seed: int) -> list[tuple[float, float, float]]:
    """Return, by how far two clouds of 256 numbers are apart: exact distance, a critic's estimate, Jensen-Shannon divergence."""
    draw, found = torch.Generator().manual_seed(seed), []
    for shift in shifts:
        a, b = 0.1 * torch.randn(2, 256, 1, generator=draw) + torch.tensor([shift, 0.0]).view(2, 1, 1)
        found.append((exact_distance(a, b), estimate_distance(a, b, steps, seed), jensen_shannon(shift)))
        print(f"4. {shift:g} apart: " + "distance {:.3f}, by the critic {:.3f}; Jensen-Shannon {:.3f}".format(*found[-1]))
    return found


# %% All of it, in order
def draw_clouds(clouds: dict[str, Tensor], steps: int) -> None:
    """Draw points (8, 500, 2) over time, a row for each kind."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(clouds), 8, figsize=(16, 2.1 * len(clouds)), layout="constrained", sharex=True, sharey=True)
    for row, (kind, series) in zip(axes, clouds.items(), strict=True):
        for i, (axis, points) in enumerate(zip(row, series, strict=True)):
            axis.scatter(*centres().T, s=60, facecolors="none", edgecolors="silver")
            axis.scatter(*points.T, s=2, color=f"C{KINDS.index(kind)}")
            axis.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
            axes[0, i].set_title(label(f"step {steps * (i + 1) // 8}", f"{steps * (i + 1) // 8}스텝"))
        row[0].set_ylabel(kind)
    save_figure(figure, __file__, "collapse")


def main(
    steps: int = 1000, speed: float = 4.0, seeds: int = 3, lr: float = 2e-3, device: str = "auto", seed: int = 0
) -> dict[str, float]:  # fmt: skip
    """Provoke mode collapse and cure it, and compare distances.

    Args:
        steps: Of each generator, on 64 points each; at least 8.
        speed: How many times as large the generator's learning rate is.
        seeds: Games of each kind.
        lr: The critics' learning rate.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    told = f"--steps {steps} --speed {speed:g} --seeds {seeds} --lr {lr:g}: needed are at least 8 steps, and all above 0"
    check(steps >= 8 and min(speed, seeds, lr) > 0, told)
    where, real = pick_device(device), ring(2000, torch.Generator().manual_seed(seed))
    root = torch.linalg.cholesky(real.T.cov())
    normal = real.mean(dim=0) + torch.randn(2000, 2, generator=torch.Generator().manual_seed(seed)) @ root.T
    results, clouds = {}, {}
    for name, points in (("real", real), ("normal", normal)):
        results[f"modes_{name}"], results[f"good_{name}"] = count_modes(points)
        print(f"1. {name}: {results[f'modes_{name}']} modes, {results[f'good_{name}']:.2f} of the points are good")
    message, results["penalty_left"] = forget_create_graph(seed)
    print(f'2. "{message[:59]}..."\n   added to a loss: no message, and it changes the gradient by {results["penalty_left"]:g}')
    for kind, weight in zip(KINDS, (0.0, 1.0, 1.0), strict=True):
        ends = []
        for one in range(seed, seed + seeds):
            counted, cloud = play(kind, steps, lr, speed, weight, one, where)
            clouds.setdefault(kind, cloud)  # the first seed's
            ends.append([sum(modes for _, modes, _ in counted[4:]) / 4, counted[-1][2]])  # in the second half, at the end
            print(f"3. {kind:8}" + "   ".join(f"{modes} {good:.2f}" for _, modes, good in counted))
        name, (modes, good) = kind.lower().replace("-", "_"), torch.tensor(ends).unbind(dim=1)
        results |= {f"modes_{name}": modes.mean().item(), f"good_{name}": good.mean().item()}
        results[f"least_{name}"] = modes.min().item()
    draw_clouds(clouds, steps)
    for shift, (exact, guess, divergence) in zip((0.5, 1, 2, 4), compare_distances((0.5, 1, 2, 4), 200, seed), strict=True):
        results |= {f"critic_error_{shift:g}": abs(guess / exact - 1), f"jensen_shannon_{shift:g}": divergence}
    few, many = results["modes_plain"], min(results["least_r1"], results["least_wgan_gp"])
    check(many > few + 2, f"{many:g} modes with a penalty, {few:.1f} without: more --steps?")
    check(results["good_r1"] > results["good_normal"], "points no better than those of a normal distribution: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
