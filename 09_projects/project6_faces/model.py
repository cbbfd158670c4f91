"""Two networks that make faces out of noise and wishes, a diffusion model and a GAN, and the code in which both think.

    maker.draw(noise, wishes)       # (n, maker.noise) and (n, wishes) → pictures (n, channels, 32, 32) in 0..1

A face of 32x32 pixels in colour is 3,072 numbers, most of which repeat their neighbours. Both networks therefore make a code of
128 numbers: how much of each of the 128 directions in which the training faces differ most (eigenfaces; Turk and Pentland, 1991).
From code to picture is one matrix. That is what latent diffusion does with an autoencoder (Rombach et al., 2022), here with the
best linear one, which nobody has to train.

A wish lies in -1..1 for an attribute that is known in training (smile, glasses ...). Where none is known there are no wishes.
"""

import copy
import math
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from utils import checkpoint, paths
from utils.lesson import LessonError, check

Kind = Literal["diffusion", "gan"]
SIZE = 32  # height and width of a face
CODES = 128  # numbers in a code; fewer where there are no more faces than that
TIMES, STEPS_BACK = 200, 16  # steps from a code to noise in training, and back from noise when it draws
GUIDANCE = 1.2  # how insistently wishes are asked for; chosen on the validation faces, as README.md says
GAN_NOISE = 32  # numbers from which the GAN makes a face
SHARPNESS = 3.0  # what the spectrally normalised discriminator's logits are multiplied by, as in 06_advanced/gan.py
FACTS = (
    "kind",
    "shape",
    "attributes",
    "source",
    "set",
    "count",
    "directions",
    "names",
    "resting",
    "reader",
)  # what must be saved with the weights
TRAIN_AGAIN = "train again with `python -m study run faces`"


class Shape(NamedTuple):
    """How large a network is: hidden units, residual blocks, channels of a picture, numbers in a code, and wishes."""

    width: int
    blocks: int
    channels: int
    codes: int
    wishes: int


# %% Faces as codes
class Eigenfaces(nn.Module):
    """Pictures (n, channels, 32, 32) in 0..1 to codes (n, codes) with a variance of 1, and back.

    Codes are scaled halfway between as they come, where the first few would be all that a network sees, and all equal, where the
    last ones, which are fine detail and chance, would count as much as the first: each is divided by the root of its deviation.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.picture = (shape.channels, SIZE, SIZE)
        self.register_buffer("mean", torch.zeros(math.prod(self.picture)))
        self.register_buffer("directions", torch.zeros(math.prod(self.picture), shape.codes))
        self.register_buffer("scales", torch.ones(shape.codes))

    def learn(self, pictures: Tensor) -> None:
        """Take the directions in which these pictures differ most; always the same for the same pictures."""
        flat = pictures.flatten(1)  # (n, pixels)
        self.mean = flat.mean(dim=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, values, self.directions = torch.svd_lowrank(flat - self.mean, len(self.scales), niter=4)
        scales = (values / len(flat) ** 0.5).clamp_min(1e-4).sqrt()
        self.scales = scales * ((flat - self.mean) @ self.directions / scales).std()

    def encode(self, pictures: Tensor) -> Tensor:
        return (pictures.flatten(1) - self.mean) @ self.directions / self.scales

    def decode(self, codes: Tensor) -> Tensor:
        return ((codes * self.scales) @ self.directions.T + self.mean).unflatten(1, self.picture)


class Block(nn.Module):
    """Two layers with a shortcut; what is told comes in between."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.first, self.told, self.last = nn.LayerNorm(width), *(nn.Linear(width, width) for _ in range(3))
        nn.init.zeros_(self.last.weight)  # at first, a block changes nothing

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return x + self.last(F.silu(self.first(self.norm(x)) + self.told(told)))


# %% The diffusion model
class Denoiser(nn.Module):
    """Noisy codes (n, codes), times (n,), wishes (n, wishes) → velocities (n, codes).

    Where `heard` (n,) is 0, the wishes are not told, and the network knows that they are not.
    """

    def __init__(self, shape: Shape, waves: int = 16):
        super().__init__()
        self.waves = waves
        self.told = nn.Sequential(nn.Linear(2 * waves + shape.wishes + 1, shape.width), nn.SiLU())
        self.first, self.last = nn.Linear(shape.codes, shape.width), nn.Linear(shape.width, shape.codes)
        self.blocks = nn.ModuleList(Block(shape.width) for _ in range(shape.blocks))

    def forward(self, x: Tensor, t: Tensor, wishes: Tensor, heard: Tensor) -> Tensor:
        angles = t[:, None].float() * 1000.0 ** (-torch.arange(self.waves, device=t.device) / self.waves)
        told = self.told(torch.cat([angles.cos(), angles.sin(), wishes * heard[:, None], heard[:, None]], dim=1))
        x = self.first(x)
        for block in self.blocks:
            x = block(x, told)
        return self.last(x)


def signal_left(timesteps: int) -> Tensor:
    """The share of the variance that is the code's after t steps, (timesteps + 1,): Nichol and Dhariwal's cosine (2021)."""
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    curve = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return F.pad((curve[1:] / curve[:-1]).clamp(min=0.001).cumprod(0), (1, 0), value=1.0).float()


class Diffusion(nn.Module):
    """A network that learns to take noise out of codes, and the moving average of its weights, which is the one that draws.

    Attributes:
        noise: Numbers from which it makes a face: as many as in a code.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, self.noise = shape, shape.codes
        self.eigenfaces, self.net = Eigenfaces(shape), Denoiser(shape)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.register_buffer("left", signal_left(TIMES), persistent=False)

    def noisy(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add noise of any strength to codes (n, codes): (noisy ones, times (n,), velocities).

        The velocity is how a code changes on its way to noise (Salimans and Ho, 2022). Unlike the noise, it is worth guessing at
        every time: where nearly all is noise, it is the code.
        """
        t = torch.randint(1, TIMES + 1, (len(codes),)).to(codes.device)  # drawn on the CPU: the same on every device
        noise = torch.randn(codes.shape).to(codes.device)
        signal, rest = self.left[t].sqrt().unsqueeze(1), (1 - self.left[t]).sqrt().unsqueeze(1)
        return signal * codes + rest * noise, t, signal * noise - rest * codes

    @torch.no_grad()
    def draw(self, noise: Tensor, wishes: Tensor, guidance: float = GUIDANCE) -> Tensor:
        """Make faces (n, channels, 32, 32) in 0..1, by DDIM (Song et al., 2021): the same for the same noise.

        Args:
            noise: (n, codes), normally distributed.
            wishes: (n, wishes), in -1..1.
            guidance: 1 asks as in training, more asks more insistently (Ho and Salimans, 2022).
        """
        x, net, heard = noise, self.average.eval(), torch.ones(len(noise), device=noise.device)
        times = torch.linspace(TIMES, 0, STEPS_BACK + 1).round().long().tolist()
        for now, before in zip(times[:-1], times[1:], strict=True):
            t = torch.full((len(x),), now, device=x.device)
            velocity = net(x, t, wishes, heard)
            if guidance != 1:
                plain = net(x, t, wishes, 0 * heard)
                velocity = plain + guidance * (velocity - plain)
            signal, rest = self.left[now].sqrt(), (1 - self.left[now]).sqrt()
            clean, found = signal * x - rest * velocity, rest * x + signal * velocity  # the code, and the noise in it
            x = self.left[before].sqrt() * clean + (1 - self.left[before]).sqrt() * found
        return self.eigenfaces.decode(x).clamp(0, 1)


# %% The GAN
class Generator(nn.Module):
    """Noise (n, GAN_NOISE) and wishes (n, wishes) → codes (n, codes)."""

    def __init__(self, shape: Shape):
        super().__init__()
        width = shape.width
        self.layers = nn.Sequential(
            nn.Linear(GAN_NOISE + shape.wishes, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.2),
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.2), nn.Linear(width, shape.codes),
        )  # fmt: skip

    def forward(self, noise: Tensor, wishes: Tensor) -> Tensor:
        return self.layers(torch.cat([noise, wishes], dim=1))


class Discriminator(nn.Module):
    """Codes (n, codes) → logits (n,), high for real ones, and the wishes read off them (n, wishes).

    Reading what a face looks like is the second task of one body (Odena et al., 2017, "AC-GAN"): from it the generator learns
    what wishes mean.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        width = shape.width
        self.body = nn.Sequential(
            spectral_norm(nn.Linear(shape.codes, width)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(width, width)),
            nn.LeakyReLU(0.2),
        )
        self.judge = spectral_norm(nn.Linear(width, 1))
        self.reader = nn.Linear(width, shape.wishes) if shape.wishes else None

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.body(codes)
        read = self.reader(seen) if self.reader else seen[:, :0]
        return SHARPNESS * self.judge(seen).squeeze(1), read


class Gan(nn.Module):
    """Generator, discriminator, and the moving average of the generator's weights, which is the one that draws.

    Attributes:
        noise: Numbers from which it makes a face.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, self.noise = shape, GAN_NOISE
        self.eigenfaces, self.net, self.discriminator = Eigenfaces(shape), Generator(shape), Discriminator(shape)
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    @torch.no_grad()
    def draw(self, noise: Tensor, wishes: Tensor) -> Tensor:
        """Make faces (n, channels, 32, 32) in 0..1 of noise (n, GAN_NOISE) for wishes (n, wishes)."""
        return self.eigenfaces.decode(self.average.eval()(noise, wishes)).clamp(0, 1)


Maker = Diffusion | Gan
KINDS = {"diffusion": Diffusion, "gan": Gan}


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, keep: float = 0.99) -> None:
    """Move the averaged weights, and a batch norm's numbers, by 1 - keep of the way to the model's."""
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        old.lerp_(new, 1 - keep) if old.is_floating_point() else old.copy_(new)


# %% The file
def save_network(path: Path, model: Maker, **about) -> None:
    """Keep a network in one file: weights, eigenfaces, size, and facts about it."""
    kind = next(kind for kind, made in KINDS.items() if isinstance(model, made))
    checkpoint.save_model(path, model, kind=kind, shape=list(model.shape), **about)


def load_network(file: Path | None, device: torch.device | str = "cpu") -> tuple[Maker, dict]:
    """Load what `save_network` has written, ready to draw.

    Args:
        file: None is where training puts it.
        device: Where it goes.

    Returns:
        The network, and the facts: "attributes" (names of its wishes), "source", "set" and "count" (of its training faces),
        "directions" (n, noise) with their "names" (`directions.py`), and what else was saved.

    Raises:
        LessonError: There is no such file, it is damaged, or it is another model's.
    """
    path, about = checkpoint.load_facts(file, paths.models("project6_faces") / "model.pt", FACTS, "run faces")
    try:
        model = KINDS[about["kind"]](Shape(*about["shape"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise LessonError(f"{paths.short(path)} is not a network of this project ({error}): {TRAIN_AGAIN}") from None
    fits = len(about["attributes"]) == model.shape.wishes and about["directions"].shape == (len(about["names"]), model.noise)
    check(fits, f"{paths.short(path)}: its attributes or directions do not belong to its weights: {TRAIN_AGAIN}")
    about = checkpoint.load_model(path, model, device)
    return model.eval(), about
