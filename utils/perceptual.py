"""What a network sees in a picture, and how far two pictures are apart by that: features, and the losses of style transfer.

    network = load_perceptual("auto", device)
    maps = network(pictures, network.style)             # (n, 3, height, width) of 0..1 → {"stage1": (n, 16, ...), ...}
    style_loss(maps, {name: gram(one) for name, one in network(painting, network.style).items()})
    network.source                                      # whose features these are: print it beside every picture

08_computer_vision/style_transfer.py builds the losses. Weights are taken from where they are; nothing is downloaded here.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import checkpoint
from utils.lesson import check, mention
from utils.weights import EFFICIENTNET_LITE0, check_sha256

Weights = Literal["auto", "vgg19", "efficientnet_lite0", "random"]
Maps = Mapping[str, Tensor]  # feature maps (n, channels, height, width) by the name of their layer

VGG19_FILE, VGG19_SHA256 = "vgg19-dcbb9e9d.pth", "dcbb9e9d"  # the digits are what torchvision itself checks
GET_VGG19 = "python -c \"from torchvision.models import vgg19; vgg19(weights='DEFAULT')\""


class PerceptualNetwork(nn.Module):
    """A frozen network that gives feature maps by name, each channel with mean 0 and deviation 1 over photographs.

    Gatys et al. (2015) scaled the channels of VGG likewise. Without it, a few loud channels decide what style is.

    Attributes:
        stages: Parts of the network by name, from the input on; each continues where the last one ended.
        content: The layer that says what is to be seen.
        style: The layers that say how it is painted, fine ones first.
        unseen: Layers that nothing here is optimised for: to judge what was made with those of `style`.
        source: Which weights these are.
        trained: Whether it has learned anything: a network that has not knows colours and textures, and things not at all.
    """

    def __init__(
        self, stages: Mapping[str, nn.Module], content: str, style: Collection[str], unseen: Collection[str],
        mean: Collection[float], std: Collection[float], source: str, trained: bool = True,
    ):  # fmt: skip
        """Freeze the stages; mean and std are of the colours that they want, for values of 0..1."""
        super().__init__()
        self.stages = nn.ModuleDict(stages).eval().requires_grad_(False)
        self.content, self.style, self.unseen, self.source = content, tuple(style), tuple(unseen), source
        self.trained = trained
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.scales: dict[str, tuple[Tensor, Tensor]] = {}
        self._measure_scales()

    def train(self, mode: bool = True) -> "PerceptualNetwork":
        """Stay in eval mode: a frozen network has no other."""
        return super().train(False)

    def forward(self, pictures: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Look at pictures.

        Args:
            pictures: (n, 3, height, width), values 0..1, at least 32 pixels high and wide.
            names: Of the layers that are wanted; what lies behind the last of them is not computed.

        Returns:
            Feature maps (n, channels, height, width) by name, in the network's order.

        Raises:
            LessonError: The network has no such layer, or the picture is too small for it.
        """
        unknown = set(names) - set(self.stages)
        check(not unknown, f"there is no layer {', '.join(sorted(unknown))}; there are {', '.join(self.stages)}")
        check(min(pictures.shape[-2:]) >= 32, f"{tuple(pictures.shape[-2:])} pixels are too few for these features: 32 at least")
        maps, x = {}, (pictures - self.mean) / self.std
        for name, stage in self.stages.items():
            x = stage(x)
            if name in names:
                maps[name] = x
                if name in self.scales:
                    mean, std = (value.to(x.device) for value in self.scales[name])
                    maps[name] = (x - mean) / std
            if len(maps) == len(set(names)):
                break
        return maps

    @torch.no_grad()
    def _measure_scales(self) -> None:
        """Measure each channel's mean and deviation over the packaged photographs."""
        seen: dict[str, list[Tensor]] = {name: [] for name in self.stages}
        for photograph in packaged_photographs(192):
            for name, maps in self(photograph, self.stages).items():
                seen[name].append(maps[0].flatten(start_dim=1))  # (channels, places)
        for name, parts in seen.items():
            std, mean = torch.std_mean(torch.cat(parts, dim=1), dim=1)
            std = std.clamp_min(0.1 * std.mean().item()) + 0.01  # a channel that hardly ever speaks is not made to shout
            self.scales[name] = (mean.view(-1, 1, 1), std.view(-1, 1, 1))


def load_perceptual(weights: Weights = "auto", device: torch.device | str = "cpu", seed: int = 0) -> PerceptualNetwork:
    """Take features from the first place that has them.

    Args:
        weights: "vgg19": torchvision's, from torch's hub cache. "efficientnet_lite0": from an optional package
            (`python -m study setup --extra models`). "random": a small network that has never learned anything.
            "auto": the first of these that is on this machine.
        device: Where the network goes.
        seed: Of the random weights.

    Raises:
        LessonError: What was asked for by name is not on this machine, or a file is not the one that it should be.
    """
    if weights == "auto":
        weights = "vgg19" if vgg19_file().exists() else "efficientnet_lite0" if EFFICIENTNET_LITE0.packaged() else "random"
    network = _vgg19() if weights == "vgg19" else _lite0() if weights == "efficientnet_lite0" else random_features(seed)
    mention("data", f"features: {network.source}")
    return network.to(device)


def random_features(seed: int = 0, width: int = 32) -> PerceptualNetwork:
    """Features of a network in the shape of VGG that has learned nothing: its weights are as drawn.

    Random filters followed by ReLU know textures astonishingly well (Ustyuzhaninov et al., 2017,
    https://arxiv.org/abs/1606.00021), and things not at all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages, channels = {}, 3
        for block in range(1, 6):
            outputs = min(width * 2 ** (block - 1), 4 * width)
            for number, inputs in ((1, channels), (2, outputs)):
                conv = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                nn.init.zeros_(conv.bias)
                shrink = nn.AvgPool2d(2) if block > 1 and number == 1 else nn.Identity()
                stages[f"random{block}_{number}"] = nn.Sequential(shrink, conv, nn.ReLU())
            channels = outputs
    source = f"random weights, seed {seed}: nobody has trained this network"
    style, unseen = ([name for name in stages if name.endswith(end)] for end in ("_2", "_1"))
    return PerceptualNetwork(stages, "random3_2", style, unseen, (0.45,) * 3, (0.25,) * 3, source, trained=False)


def vgg19_file() -> Path:
    """Where torchvision keeps (or would keep) VGG-19: in torch's hub cache, which $TORCH_HOME moves."""
    return Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE


def _vgg19() -> PerceptualNetwork:
    """VGG-19 up to its last block, with averages in place of maxima (as Gatys et al. did, for smoother pictures)."""
    file = vgg19_file()
    check(file.exists(), f"VGG-19's weights (548 MB) are not on this machine; {GET_VGG19} gets them, or use other --weights")
    from torchvision.models import vgg19

    check_sha256(file, VGG19_SHA256, "delete it and get it again, or use other --weights")
    network = vgg19()
    checkpoint.load_weights(network, checkpoint.load(file), file)
    layers = [_gentle(layer) for layer in network.features]
    ends = {"conv1_1": 2, "conv1_2": 4, "conv2_1": 7, "conv2_2": 9, "conv3_1": 12, "conv3_2": 14}  # each behind its ReLU
    ends |= {"conv4_1": 21, "conv4_2": 23, "conv4_3": 25, "conv5_1": 30}
    starts = [0, *ends.values()]
    stages = {name: nn.Sequential(*layers[start:end]) for start, (name, end) in zip(starts, ends.items(), strict=False)}
    style, unseen = [name for name in ends if name.endswith("_1")], ["conv1_2", "conv2_2", "conv3_2", "conv4_3"]
    mean, std, source = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "VGG-19, ImageNet-1k, torchvision's official IMAGENET1K_V1"
    return PerceptualNetwork(stages, "conv4_2", style, unseen, mean, std, source)


def _gentle(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.MaxPool2d):
        return nn.AvgPool2d(2)
    return nn.ReLU() if isinstance(layer, nn.ReLU) else layer  # not in place: the map before it is somebody's


def _lite0() -> PerceptualNetwork:
    """EfficientNet-Lite0 up to its fifth stage of blocks; where it skips every other place, it takes the mean of four instead.

    What a stride skips has no gradient of its own: optimised pictures get a grid of dots.
    """
    from utils.networks.efficientnet_lite import SameConv2d
    from utils.pretrained import load_backbone

    backbone = load_backbone("efficientnet_lite0")
    for part in [part for part in backbone.stages.modules() if isinstance(part, nn.Sequential)]:
        conv = part[0]
        if isinstance(conv, SameConv2d) and conv.stride == (2, 2):
            conv.stride = (1, 1)
            part[0] = nn.Sequential(conv, nn.AvgPool2d(2))
    stem, first, *others = backbone.stages[:6]
    stages, style, unseen = {"stem": stem, "stage1": first}, ["stem", "stage1"], []
    for number, blocks in enumerate(others, start=2):  # a stage's first block, and all others together
        stages |= {f"stage{number}_1": blocks[0], f"stage{number}_{len(blocks)}": blocks[1:]}
        style, unseen = [*style, f"stage{number}_{len(blocks)}"], [*unseen, f"stage{number}_1"]
    mean, std = ([value / 255 for value in values] for values in (backbone.mean, backbone.std))
    return PerceptualNetwork(stages, "stage4_3", style, unseen, mean, std, backbone.source)


def packaged_photographs(size: int) -> list[Tensor]:
    """The packaged photographs, each (1, 3, height, width) of 0..1 with a shorter side of `size` pixels."""
    from torchvision.transforms.functional import pil_to_tensor, resize

    from utils.datasets import picture_book

    return [resize(pil_to_tensor(photo), size, antialias=True)[None] / 255 for photo in picture_book.photographs()]


# ------------------------------------------------------------------------------------------------------- distances


def gram(maps: Tensor) -> Tensor:
    """Which features occur together, in the mean over places: (n, channels, height, width) to (n, channels, channels)."""
    places = maps.flatten(start_dim=2)  # (n, channels, height · width)
    return places @ places.transpose(1, 2) / places.shape[2]


def content_loss(maps: Maps, wanted: Maps) -> Tensor:
    """The mean squared difference of feature maps, place by place: as a share of how much they vary; mean over layers."""
    return torch.stack([F.mse_loss(maps[name], goal) / goal.var(correction=0) for name, goal in wanted.items()]).mean()


def style_loss(maps: Maps, grams: Maps) -> Tensor:
    """The squared difference to Gram matrices (1 or n, channels, channels), as a share of their own squares; mean over layers."""
    losses = [
        F.mse_loss(gram(maps[name]), goal.expand(len(maps[name]), -1, -1)) / goal.square().mean() for name, goal in grams.items()
    ]
    return torch.stack(losses).mean()


@torch.no_grad()
def style_distance(network: PerceptualNetwork, pictures: Tensor, style: Tensor, names: Collection[str]) -> float:
    """How far pictures (n, 3, height, width) are from a style (1, 3, ...) in some layers: `style_loss`, 0 for the same style."""
    return style_loss(network(pictures, names), grams_of(network, style, names)).item()


@torch.no_grad()
def content_distance(network: PerceptualNetwork, pictures: Tensor, content: Tensor) -> float:
    """How far pictures (n, 3, height, width) are from what others of the same size show: `content_loss`."""
    names = (network.content,)
    return content_loss(network(pictures, names), network(content, names)).item()


@torch.no_grad()
def grams_of(network: PerceptualNetwork, style: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """The Gram matrices of a style picture (1, 3, height, width), by layer."""
    return {name: gram(maps) for name, maps in network(style, names).items()}


def match_colours(pictures: Tensor, style: Tensor) -> Tensor:
    """Give pictures (n, 3, height, width) the mean and the covariance of a style's colours: what a transfer has to beat.

    The way with the least movement, between the two as normal distributions: C_p^-1/2 (C_p^1/2 C_s C_p^1/2)^1/2 C_p^-1/2.
    """
    matched = []
    goal = style.flatten(start_dim=2)[0].double().cpu()  # (3, places); float64, which MPS does not have
    for picture in pictures:
        pixels = picture.flatten(start_dim=1).double().cpu()
        root = _power(pixels.cov(), 0.5)
        back = _power(pixels.cov(), -0.5)
        move = back @ _power(root @ goal.cov() @ root, 0.5) @ back
        moved = move @ (pixels - pixels.mean(dim=1, keepdim=True)) + goal.mean(dim=1, keepdim=True)
        matched.append(moved.view(picture.shape).clamp(0, 1).to(picture))
    return torch.stack(matched)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0 if exponent > 0 else 1e-8) ** exponent @ vectors.T
