"""Generative adversarial networks · 생성적 적대 신경망

Two networks play against each other: one draws pictures from noise, the other tells them from real ones; where the second finds
a difference, its gradient tells the first what to change. The game has no loss that must fall, so it needs care, and a yardstick.
두 신경망이 겨룬다. 하나는 잡음에서 그림을 그리고, 다른 하나는 진짜와 가려낸다. 가려낸 차이는 기울기가 되어 고칠 곳을 알려 준다.
이 게임에는 반드시 내려가야 하는 손실이 없다. 그래서 세심한 설정과 따로 마련한 잣대가 필요하다.

You will
  1. see why the generator does not minimise what the discriminator maximises: that slope is gone when it is needed most
  2. build spectral normalisation, and find it equal to PyTorch's and to the largest singular value
  3. meet the error everyone meets without .detach(), and its usual remedy, after which hardly any gradient is left
  4. let a GAN of convolutions (DCGAN) play with and without it, from the same weights, and average the generator's over time
  5. look at samples over time, and measure them: Fréchet distance, precision, recall, and whether they are copies

Before     06_advanced/vae.py, 04_cnn/batch_normalization.py
Run        python -m study run gan     (about 31 s on one CPU core, after importing torch)
You see    Fréchet distance 0.29, where a normal distribution of pixels has 0.57 and real digits have 0.07; samples.png
Try next   --sharpness 1: a gentler discriminator. First guess what suffers more, precision or recall
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from utils.datasets import Source, mnist
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.sample_quality import Judge, fit_enlarger, frechet_distance, gaussian_samples, precision_recall, train_judge

LATENT = 32  # numbers of noise that a picture is made from


# %% 1. What the generator minimises
def generator_slopes(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes of log(1 - p), which the discriminator maximises, and of -log p, by logits of fakes; low: surely fake."""
    logits = logits.clone().requires_grad_()
    losses = F.logsigmoid(-logits), -F.logsigmoid(logits)  # p = sigmoid(logit), and 1 - p = sigmoid(-logit)
    return tuple(torch.autograd.grad(loss.sum(), logits)[0] for loss in losses)


# %% 2. Spectral normalisation
class SpectralNorm(nn.Module):
    """Divide a weight by its largest singular value, so that it stretches no input by more than 1 (Miyato et al., 2018).

    Power iteration finds it, one step in each forward pass in train mode. A kernel (out, in, h, w) counts as (out, in * h * w).
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", torch.randn(matrix.shape[0], device=matrix.device))
        self.register_buffer("v", torch.randn(matrix.shape[1], device=matrix.device))
        for _ in range(15):
            self.follow(matrix)

    @torch.no_grad()
    def follow(self, matrix: Tensor) -> None:
        """One step of power iteration: u and v turn towards the directions that the matrix stretches most."""
        self.u = F.normalize(matrix @ self.v, dim=0)
        self.v = F.normalize(matrix.T @ self.u, dim=0)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        if self.training:
            self.follow(matrix)
        return weight / (self.u @ matrix @ self.v)  # the gradient flows through both


def normalise(layer: nn.Module) -> nn.Module:
    """Have every use of layer.weight go through SpectralNorm; what is trained is layer.parametrizations.weight.original."""
    return parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))


def compare_norms(seed: int) -> tuple[float, float, float]:
    """Return by how much outputs and gradients differ from PyTorch's own, and the largest singular value from 1."""
    torch.manual_seed(seed)
    layer, x = nn.Conv2d(3, 8, 4), torch.randn(2, 3, 6, 6)
    nets = normalise(copy.deepcopy(layer)), parametrizations.spectral_norm(copy.deepcopy(layer))
    parts = [net.parametrizations.weight for net in nets]
    parts[0][0].u, parts[0][0].v = parts[1][0]._u.clone(), parts[1][0]._v.clone()  # from the same start
    outs = [[net(x) for _ in range(200)][-1] for net in nets]
    grads = [torch.autograd.grad(out.square().mean(), part.original)[0] for out, part in zip(outs, parts, strict=True)]
    largest = torch.linalg.svdvals(nets[0].eval().weight.flatten(1))[0].item()
    return *((a - b).abs().max().item() for a, b in (outs, grads)), abs(largest - 1)


# %% 3. The players
def make_generator(width: int) -> nn.Sequential:
    """Noise (n, LATENT) → pictures (n, 1, 14, 14) in -1..1: strided transposed convolutions, batch norm, tanh, as in DCGAN."""
    return nn.Sequential(
        nn.Linear(LATENT, 2 * width * 9, bias=False), nn.Unflatten(1, (2 * width, 3, 3)), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 3, stride=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),  # (n, width, 7, 7)
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1), nn.Tanh(),
    )  # fmt: skip


class Discriminator(nn.Module):
    """Pictures (n, 1, 14, 14) → logits (n,), high for real ones. Sharpness multiplies normalised logits; 0: no normalisation."""

    def __init__(self, width: int, sharpness: float):
        super().__init__()
        layers = nn.Conv2d(1, width, 4, 2, 1), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.Linear(2 * width * 9, 1)
        first, second, last = (normalise(layer) if sharpness else layer for layer in layers)
        self.body = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), nn.Flatten(), last)
        self.sharpness = sharpness or 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.sharpness * self.body(x).squeeze(1)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross entropy of logits (n,): real pictures have the label 1, fakes 0."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """The non-saturating one, -log p: fakes should get the label 1."""
    return F.softplus(-fake).mean()


def forget_detach(seed: int) -> tuple[str, float]:
    """Return what PyTorch says without .detach(), and which share of the gradient's length retain_graph=True leaves."""
    torch.manual_seed(seed)
    generator, discriminator = make_generator(8), Discriminator(8, sharpness=0)
    real, fake, weights = torch.rand(64, 1, 14, 14) * 2 - 1, generator(torch.randn(64, LATENT)), list(generator.parameters())
    wrong = discriminator_loss(discriminator(real), discriminator(fake))  # fake.detach() would be right
    right = torch.autograd.grad(generator_loss(discriminator(fake)), weights, retain_graph=True)
    wrong.backward(retain_graph=True)
    left = sum((weight.grad + one).square().sum() for weight, one in zip(weights, right, strict=True))  # gradients add up
    share = (left / sum(one.square().sum() for one in right)).sqrt().item()
    wrong.backward()
    try:
        return str(generator_loss(discriminator(fake)).backward()), share
    except RuntimeError as error:
        return str(error), share


# %% 4. The game
def play(players: tuple[nn.Module, nn.Module], pictures: Tensor, times: list[int], lr: float, seed: int, keep: float = 0.99):
    """Let generator (rate lr / 2) and discriminator (lr) take steps in turn, on 64 of the pictures (n, 1, 14, 14) each.

    Return the generator with averaged weights, what it drew from the same 10 noise vectors at the times, and losses (steps, 2).
    """
    (generator, discriminator), draw, device = players, torch.Generator().manual_seed(seed), pictures.device
    watched, seen, losses = torch.randn(10, LATENT, generator=draw).to(device), [], []
    average = copy.deepcopy(generator).eval()
    generator_step = torch.optim.Adam(generator.parameters(), lr / 2, betas=(0.5, 0.999))
    discriminator_step = torch.optim.Adam(discriminator.parameters(), lr, betas=(0.5, 0.999))
    for step in range(1, times[-1] + 1):
        real = pictures[torch.randint(len(pictures), (64,), generator=draw).to(device)]
        fake = generator(torch.randn(64, LATENT, generator=draw).to(device))
        loss = discriminator_loss(discriminator(real), discriminator(fake.detach()))  # the generator shall not help
        discriminator_step.zero_grad()
        loss.backward()
        discriminator_step.step()
        drawn = generator_loss(discriminator(fake))
        generator_step.zero_grad()
        drawn.backward()  # also leaves gradients in the discriminator: its next zero_grad() takes them away
        generator_step.step()
        losses.append(torch.stack([loss, drawn]).detach())
        with torch.no_grad():
            for old, new in zip(average.state_dict().values(), generator.state_dict().values(), strict=True):
                old.copy_(old.lerp(new, 1 - min(keep, step / (10 + step))) if old.is_floating_point() else new)
            if step in times:
                seen.append(average(watched).cpu())
    return average, seen, torch.stack(losses).cpu()


# %% 5. How good
@torch.no_grad()
def draw_pictures(generator: nn.Module, count: int, seed: int) -> Tensor:
    """Return `count` new pictures (count, 1, 14, 14) in -1..1, on the CPU."""
    noise = torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed))
    return generator.eval()(noise.to(generator[0].weight.device)).cpu()


def measure(judge: Judge, real: Tensor, images: Tensor) -> dict[str, float]:
    """Compare images (n, 1, 28, 28) in 0..1 with features (m, 64) of training pictures; nearest: the median distance to one."""
    fake, order = judge.features(images), torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    precision, recall = precision_recall(real[order[: len(fake)]], fake)  # equally many of both
    nearest = torch.cdist(fake, real).amin(dim=1).median().item()
    return {"frechet": frechet_distance(real, fake), "precision": precision, "recall": recall, "nearest": nearest}


def draw_samples(seen: dict[str, list[Tensor]], real: Tensor, times: list[int]) -> None:
    """Draw pictures over time, a row of the same ten noise vectors for each time, beside real ones."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(seen) + 1, figsize=(15, 3.2), layout="constrained")
    rows = {name: torch.cat(pictures) for name, pictures in seen.items()} | {label("real", "진짜"): real[: 10 * len(times)]}
    for axis, (name, pictures) in zip(axes, rows.items(), strict=True):
        tiles = pictures.view(-1, 10, 14, 14).permute(0, 2, 1, 3).reshape(-1, 140)  # (rows * 14, 10 * 14)
        axis.imshow(tiles.numpy(), cmap="gray", vmin=-1, vmax=1)
        ticks = range(7, 14 * len(times), 14) if name in seen else []
        axis.set(title=name, xticks=[], yticks=ticks, yticklabels=times[: len(ticks)])
    axes[0].set_ylabel(label("after step", "스텝"))
    save_figure(figure, __file__, "samples")


# %% All of it, in order
def main(
    steps: int = 1000, sharpness: float = 5.0, lr: float = 4e-3, source: Source = "auto", device: str = "auto", seed: int = 0
) -> dict[str, float]:  # fmt: skip
    """Play the game with and without spectral normalisation, and measure what comes out.

    Args:
        steps: Of each player, on 64 pictures each.
        sharpness: What the spectrally normalised discriminator's logits are multiplied by.
        lr: The discriminator's learning rate; the generator's is half of it.
        source: Pictures from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Of weights, noise and batches.
    """
    check(min(steps, sharpness, lr) > 0, f"--steps {steps} --sharpness {sharpness:g} --lr {lr:g}: all have to be above 0")
    where, data, norms = pick_device(device), mnist(source), compare_norms(seed)
    known, test = (part.images.float() / 255 for part in (data.train[:10_000], data.test[:1000]))
    small = F.avg_pool2d(known, 2) * 2 - 1  # (n, 1, 14, 14) in -1..1: a quarter of the work
    enlarge = fit_enlarger(small, known)
    print("1. of a fake that is seen through: slope {:.4f} saturating, {:.4f} not".format(*generator_slopes(torch.tensor(-8.0))))
    print("2. spectral norm, off in output, gradient, largest singular value: " + ", ".join(f"{one:.0e}" for one in norms))
    message, left = forget_detach(seed)
    print(f'3. "{message[:61]}..."\n   with retain_graph=True no message, and {left:.1%} of the gradient')
    judge, count, seen, times = train_judge(data.train), len(test), {}, sorted({max(1, steps >> i) for i in range(6)})
    others = {"held_out": enlarge(F.avg_pool2d(test, 2) * 2 - 1), "gaussian": gaussian_samples(known, count, seed)}
    real = judge.features(known)
    found = {name: measure(judge, real, pictures) for name, pictures in others.items()}
    for name, bound in (("plain", 0.0), ("spectral", sharpness)):
        torch.manual_seed(seed)  # the same weights for both
        players = make_generator(32).to(where), Discriminator(32, bound).to(where)
        average, seen[name], losses = play(players, small.to(where), times, lr, seed)
        found[name] = measure(judge, real, enlarge(draw_pictures(average, count, seed + 1)))
        print(f"4. {name}: the losses at the end are {' and '.join(f'{one:.2f}' for one in losses[-50:].mean(dim=0))}")
    found["last_weights"] = measure(judge, real, enlarge(draw_pictures(players[0], count, seed + 1)))
    for name, numbers in found.items():
        print(f"5. {name:13}" + "   ".join(f"{what} {number:6.3f}" for what, number in numbers.items()))
    draw_samples(seen, small, times)
    results = {"spectral_difference": max(norms), "gradient_left": left}
    results |= {f"{what}_{name}": number for name, numbers in found.items() for what, number in numbers.items()}
    check(results["frechet_spectral"] < results["frechet_gaussian"], "no better than normally distributed pixels: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
