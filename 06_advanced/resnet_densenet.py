"""ResNet and DenseNet · ResNet과 DenseNet

ResNet adds a block's input to its output, DenseNet lays both side by side. Written with torchvision's names, each class takes
torchvision's weights and gives its numbers; and what fits by name and shape may still be another network.
ResNet은 블록의 입력을 출력에 더하고, DenseNet은 둘을 나란히 이어 붙인다. torchvision과 같은 이름으로 쓰면 그 가중치를 그대로 읽어
같은 수를 낸다. 그러나 이름과 모양이 다 맞아도 다른 신경망일 수 있다.

You will
  1. write ResNet-18, -34, -50 and DenseNet-121: torchvision's weights load strictly; outputs, gradients, statistics are equal
  2. meet the error everyone meets when loading weights, and the switch that silences it and cures nothing
  3. train small ones of the same classes on pictures
  4. make the mistake that no message tells: load good weights strictly into almost the same network

Before     04_cnn/image_classification.py, 04_cnn/batch_normalization.py
Run        python -m study run resnet_densenet      (about 40 s on one CPU core, after importing torch)
You see    all numbers equal to torchvision's; 0.52, 0.45 and 0.44 right, nearest mean 0.25; good weights that lose 0.17 silently
Try next   --seed 1: other weights at the start. First guess what of the table will be the same: the order, or the loss by v1?
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.batches import Batches
from utils.datasets import Source, cifar10, hold_out, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, run
from utils.training import classification_loss, evaluate, fit


# %% 1. ResNet: add
def stem(width: int, small: bool) -> tuple[nn.Module, nn.Module]:
    """Return the first convolution and the pooling: 224x224 pictures come out as 56x56, `small` ones of 32x32 as 16x16."""
    if small:
        return nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.Identity()
    return nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.MaxPool2d(3, stride=2, padding=1)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the way past a block: nothing at all where shapes agree, else a 1x1 convolution that makes them agree."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()  # no weights, so no names in the state dict
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way past them: (batch, inputs, h, w) → (batch, width, h / stride, w / stride)."""

    expansion = 1  # channels that come out, as a multiple of the width

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))  # the branch ends without ReLU: it may take away, too


class Bottleneck(nn.Module):
    """1x1 down to `width` channels, 3x3 there, 1x1 up: (batch, inputs, h, w) → (batch, 4 · width, h / stride, w / stride)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class ResNet(nn.Module):
    """Pictures (batch, 3, h, w) → logits (batch, classes), in stages of `depths` blocks."""

    def __init__(self, block: type, depths: tuple[int, ...], width: int = 64, classes: int = 1000, small: bool = False):
        super().__init__()
        self.conv1, self.maxpool = stem(width, small)
        self.bn1, inputs = nn.BatchNorm2d(width), width
        self.stages = [f"layer{i + 1}" for i in range(len(depths))]
        for i, depth in enumerate(depths):
            blocks = nn.Sequential()
            for j in range(depth):
                blocks.append(block(inputs, width * 2**i, stride=2 if i > 0 and j == 0 else 1))
                inputs = width * 2**i * block.expansion
            self.add_module(self.stages[i], blocks)
        self.fc = nn.Linear(inputs, classes)
        for conv in [module for module in self.modules() if isinstance(module, nn.Conv2d)]:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # He et al., 2015

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))  # (batch, 3, 224, 224) → (batch, 64, 56, 56)
        for name in self.stages:
            x = self.get_submodule(name)(x)  # in the end (batch, 512, 7, 7); of bottlenecks (batch, 2048, 7, 7)
        return self.fc(x.mean(dim=(2, 3)))


# %% DenseNet: lay side by side
class DenseLayer(nn.Module):
    """Look at all features so far, and put `growth` new ones beside them: (batch, c, h, w) → (batch, c + growth, h, w)."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(out)))], dim=1)  # the old features go on untouched


class DenseNet(nn.Module):
    """Pictures (batch, 3, h, w) → logits (batch, classes), in stages of `depths` layers with transitions between them."""

    def __init__(self, growth: int, depths: tuple[int, ...], width: int = 64, classes: int = 1000, small: bool = False):
        super().__init__()
        conv, pool = stem(width, small)
        parts = OrderedDict(conv0=conv, norm0=nn.BatchNorm2d(width), relu0=nn.ReLU(), pool0=pool)
        for i, depth in enumerate(depths, start=1):
            layers = [(f"denselayer{j + 1}", DenseLayer(width + j * growth, growth)) for j in range(depth)]
            parts[f"denseblock{i}"] = nn.Sequential(OrderedDict(layers))
            width += depth * growth
            if i < len(depths):  # half the channels, half the height and width
                norm, conv = nn.BatchNorm2d(width), nn.Conv2d(width, width // 2, 1, bias=False)
                transition = OrderedDict(norm=norm, relu=nn.ReLU(), conv=conv, pool=nn.AvgPool2d(2))
                parts[f"transition{i}"], width = nn.Sequential(transition), width // 2
        self.features = nn.Sequential(parts | {"norm5": nn.BatchNorm2d(width)})
        self.classifier = nn.Linear(width, classes)
        for conv in [module for module in self.modules() if isinstance(module, nn.Conv2d)]:
            nn.init.kaiming_normal_(conv.weight)  # as torchvision does, here by inputs
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x))  # (batch, 3, 224, 224) → (batch, 1024, 7, 7)
        return self.classifier(x.mean(dim=(2, 3)))


NETWORKS = {  # torchvision's own, and small ones of the same classes
    "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2)),
    "resnet34": lambda: ResNet(BasicBlock, (3, 4, 6, 3)),
    "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
    "densenet121": lambda: DenseNet(32, (6, 12, 24, 16)),
}
SMALL = {
    "basic": lambda: ResNet(BasicBlock, (2, 2, 2), 16, 10, small=True),
    "bottleneck": lambda: ResNet(Bottleneck, (2, 2, 2), 12, 10, small=True),
    "dense": lambda: DenseNet(8, (4, 4, 4), 16, 10, small=True),
}


def compare_with_torchvision(name: str, seed: int) -> float:
    """Load torchvision's weights into ours; return the largest relative difference of anything, in both modes."""
    from torchvision.models import get_model

    generator = torch.Generator().manual_seed(seed)
    theirs, ours, pairs = get_model(name, weights=None), NETWORKS[name](), []
    for norm in [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]:
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):  # at first all are alike, a mix-up shows not
            nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    ours.load_state_dict(theirs.state_dict())  # strict: every name and every shape must agree
    x = torch.randn(2, 3, 64, 64, generator=generator)
    for training in (False, True):
        found = []
        for model in (ours, theirs):
            logits = model.train(training)(x)
            gradients = torch.autograd.grad(logits.square().mean(), list(model.parameters()))
            found.append([logits.detach(), *gradients, *(buffer.float() for buffer in model.buffers())])  # statistics, too
        pairs += zip(*found, strict=True)
    difference = max(((one - other).abs().max() / other.abs().max().clamp_min(1e-12)).item() for one, other in pairs)
    told = f"logits, gradients, statistics within {difference:.0e} in both modes"
    print(f"1. {name:11} {len(ours.state_dict())} tensors load; {told}")
    return difference


# %% 2. The error everyone meets
def meet_error() -> str:
    """Load weights that were made for other classes; return PyTorch's answer."""
    try:
        ResNet(BasicBlock, (1,), classes=10).load_state_dict(ResNet(BasicBlock, (1,), classes=1000).state_dict())
    except RuntimeError as error:
        message = str(error).splitlines()[1].strip()
        print(f'2. "{message}"\n   read: made for 1,000 classes, you have 10: all may be loaded but fc, which has to learn anew')
        return message


# %% 3. Small ones learn
def train(model: nn.Module, data: tuple[Tensor, Tensor], epochs: int, seed: int) -> None:
    """Train with SGD, the rate rising, then falling to zero."""
    batches = Batches(*data, batch_size=32, drop_last=True, device=data[0].device, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * len(batches), cycle_momentum=False)
    fit(model, batches, optimizer, classification_loss, epochs=epochs, scheduler=schedule)


# %% 4. The mistake that no message tells
def as_v1(model: nn.Module) -> nn.Module:
    """Move the stride of every bottleneck from its 3x3 convolution to the 1x1 before it, as in the paper of 2015."""
    for module in model.modules():
        if isinstance(module, Bottleneck):  # no weight changes its name or its shape
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    return model


# %% All of it, in order
def main(epochs: int = 2, source: Source = "auto", device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Build ResNet and DenseNet, show them equal to torchvision's, train small ones, and load weights in wrong ways.

    Args:
        epochs: How often each small network sees its 4,000 pictures.
        source: Pictures from: auto (CIFAR-10 if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps; for the training.
        seed: Seed of everything that is drawn.
    """
    check(epochs > 0, f"--epochs {epochs}: at least 1 is needed")
    where, data = pick_device(device), cifar10(source)
    results = {"difference": max(compare_with_torchvision(name, seed) for name in NETWORKS)}
    check(results["difference"] < 1e-5, f"ours and torchvision's numbers differ by {results['difference']:.0e}")
    meet_error()
    parts = hold_out(data.train, 4000)[1], data.test
    results["baseline"] = baseline = max(parts[1].labels.bincount().max().item() / len(parts[1]), nearest_mean_accuracy(*parts))
    known, test = ((F.layer_norm(part.images.to(where).float(), (3, 32, 32)), part.labels.to(where)) for part in parts)
    batches = Batches(*test, batch_size=100, shuffle=False, device=where)
    for name, build in SMALL.items():
        torch.manual_seed(seed)
        model = build().to(where)
        train(model, known, epochs, seed)
        results[name] = right = evaluate(model, batches)["accuracy"]
        print(f"3. {name:10} {right:.3f} right on pictures never seen, nearest mean {baseline:.3f}")
        check(1 - right < 0.85 * (1 - baseline), f"{name}: {right:.1%} right, the simplest rule {baseline:.1%}: more --epochs?")
        if name == "bottleneck":
            other = as_v1(build().to(where))
            other.load_state_dict(model.state_dict())  # strict, and not a word
            results["v1"] = evaluate(other, batches)["accuracy"]
            print(f"4. the same weights, loaded strictly, but v1's strides: {results['v1']:.3f} right, and no message")
    return results


if __name__ == "__main__":
    run(main)
