"""Four networks for 32x32 colour pictures.

    small        1,161,248 parameters   seven convolutions, 64, 128 and 256 channels
    medium       1,972,768              the same with 64, 256 and 256 channels
    wideresnet   2,748,880              WideResNet-16-4
    resnet18    11,173,952              ResNet-18 with a first layer for small pictures

All of them take pixels in 0..1 and normalise them themselves: a checkpoint cannot be used with the wrong mean. All of them pool
over whatever size is left in the end, so that training can begin with smaller pictures.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training pixels, red, green and blue


class Classifier(nn.Module):
    """Normalise, compute feature maps, pool them, and give each class its logit."""

    def __init__(self, features: nn.Module, channels: int, classes: int, mean: Sequence[float], std: Sequence[float]):
        """Put normalisation before and a linear layer behind `features`, whose maps have this many channels."""
        super().__init__()
        # Buffers are saved with the weights and move with them to a device, but no optimizer changes them.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.features = features
        self.head = nn.Linear(channels, classes, bias=False)
        nn.init.normal_(self.head.weight)

    @property
    def last_maps(self) -> nn.Module:
        """The module whose output (batch, channels, height, width) is pooled: Grad-CAM looks at it."""
        return self.features

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (batch, 3, height, width) in 0..1 into logits (batch, classes)."""
        maps = self.features((images - self.mean) / self.std)
        strongest = maps.amax(dim=(2, 3))  # (batch, channels): was this feature anywhere?
        # Logits begin near 0, so that nothing is certain before anything was learned; the head itself can learn fast.
        return self.head(strongest) / self.head.in_features


# ------------------------------------------------------------------------------------------------------- the fast ones


def fast_net(*channels: int) -> tuple[nn.Sequential, int]:
    """Seven convolutions in the shape of airbench94 (Jordan, 2024: https://arxiv.org/abs/2404.00498).

    The first one whitens patches of 2x2 pixels (whitening.py): its 24 filters are computed from the data, and not trained.
    Pictures of 32x32 leave it as 31x31, and the groups as 15x15, 7x7 and 3x3.
    """
    whiten = nn.Conv2d(3, 24, kernel_size=2, bias=False)
    whiten.weight.requires_grad_(False)
    groups = [group(before, after) for before, after in pairwise([24, *channels])]
    return nn.Sequential(whiten, nn.GELU(), *groups), channels[-1]


def group(channels_in: int, channels: int) -> nn.Sequential:
    """Two convolutions; the pooling between them leaves a quarter of the numbers, so that what follows costs a quarter."""
    return nn.Sequential(
        filters(channels_in, channels),
        nn.MaxPool2d(2),
        batch_norm(channels),
        nn.GELU(),
        filters(channels, channels),
        batch_norm(channels),
        nn.GELU(),
    )


def filters(channels_in: int, channels: int) -> nn.Conv2d:
    """A 3x3 convolution that begins by handing its input on; only the channels that are new begin at random."""
    convolution = nn.Conv2d(channels_in, channels, kernel_size=3, padding=1, bias=False)  # the batch norm would undo a bias
    nn.init.dirac_(convolution.weight.data[:channels_in])
    return convolution


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation without a learned scale, whose statistics follow quickly: there are only a few hundred steps."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


# --------------------------------------------------------------------------------------------------------- residual ones


def resnet18() -> tuple[nn.Sequential, int]:
    """torchvision's ResNet-18 (He et al., 2016) with the stem for small pictures: 3x3 without stride, and no pooling."""
    from torchvision import models

    network = models.resnet18()
    network.conv1, network.maxpool = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False), nn.Identity()
    return nn.Sequential(*list(network.children())[:-2]), 512  # without its own pooling and linear layer


class WideBlock(nn.Module):
    """Two convolutions beside a shortcut; batch norm and ReLU come before each (He et al., 2016: "Identity mappings")."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels_in, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        ready = F.relu(self.norm1(x))
        return self.conv2(F.relu(self.norm2(self.conv1(ready)))) + self.shortcut(ready)


def wide_resnet(depth: int = 16, width: int = 4) -> tuple[nn.Sequential, int]:
    """WideResNet (Zagoruyko and Komodakis, 2016): three stages of (depth - 4) / 6 blocks, `width` times the usual channels."""
    channels = [16, 16 * width, 32 * width, 64 * width]
    layers = [nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False)]
    for stage in (1, 2, 3):
        for block in range((depth - 4) // 6):
            channels_in = channels[stage - 1] if block == 0 else channels[stage]
            layers.append(WideBlock(channels_in, channels[stage], stride=2 if block == 0 and stage > 1 else 1))
    return nn.Sequential(*layers, nn.BatchNorm2d(channels[-1]), nn.ReLU()), channels[-1]


# --------------------------------------------------------------------------------------------------------------- by name

NETWORKS = {
    "small": partial(fast_net, 64, 128, 256),
    "medium": partial(fast_net, 64, 256, 256),
    "wideresnet": wide_resnet,
    "resnet18": resnet18,
}


def make_model(name: str, classes: int = 10, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Classifier:
    """Make a network with random weights.

    Args:
        name: "small", "medium", "wideresnet" or "resnet18".
        classes: How many kinds of pictures to tell apart.
        mean: Of the training pixels in 0..1, one number for each colour.
        std: Their standard deviations.

    Raises:
        LessonError: There is no such network.
    """
    check(name in NETWORKS, f"no network is called {name!r}; there are {', '.join(NETWORKS)}")
    return Classifier(*NETWORKS[name](), classes, mean, std)
