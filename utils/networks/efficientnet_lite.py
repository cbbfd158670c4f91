"""EfficientNet-Lite0: an ImageNet classifier for telephones, 4.65 million weights, small enough to fine-tune on a CPU.

Tan and Le, 2019 (https://arxiv.org/abs/1905.11946) found the shape of the network by search; the Lite variant of 2020 leaves out
what small processors are slow at: no squeeze-and-excitation, and ReLU6 instead of swish. The stochastic depth that it was trained
with is left out here: in eval mode it does nothing.
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

# Of each stage: kernel size, stride of its first block, expansion, output channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding "SAME": ceil(size / stride) outputs, whatever the kernel.

    With a stride of 2 that can take an odd number of zeros, and the odd one goes below and to the right. PyTorch's `padding=1`
    puts as many before as after, which shifts the features by a pixel: weights that were trained with SAME lose accuracy.
    """

    def forward(self, x: Tensor) -> Tensor:
        padding = []  # F.pad wants the last dimension first
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, unless activate=False, ReLU6. Eps and momentum are TensorFlow's for this network."""
    layers = [
        SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, nn.ReLU6()) if activate else nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter every channel by itself, narrow by 1x1 without an activation; add the input where it fits.

    Sandler et al., 2018 (https://arxiv.org/abs/1801.04381).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = inputs * expansion
        self.expand = conv_norm(inputs, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = conv_norm(width, width, kernel, stride, groups=width)
        self.project = conv_norm(width, outputs, 1, activate=False)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))  # (batch, outputs, height / stride, width / stride)
        return x + out if self.adds_input else out


class EfficientNetLite0(nn.Module):
    """Pictures (batch, 3, height, width), normalised as (x - 127) / 128 of 0..255, to logits (batch, num_classes).

    Made for 224x224; any size from 32 on works.

    Attributes:
        stages: From pictures to features (batch, 1280), in nine parts: stem, seven stages of blocks, head.
        classifier: From features to logits.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        channels, stages = 32, [conv_norm(3, 32, 3, stride=2)]
        for kernel, stride, expansion, outputs, blocks in STAGES:
            first = InvertedResidual(channels, outputs, kernel, stride, expansion)
            more = [InvertedResidual(outputs, outputs, kernel, 1, expansion) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *more))
            channels = outputs
        head = nn.Sequential(*conv_norm(channels, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.stages = nn.Sequential(*stages, head)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stages(x)  # (batch, 1280)
        return self.classifier(self.dropout(features))  # (batch, num_classes)


def rename_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the names in the published file, `_blocks.3._bn0.bias`, into ours, `stages.3.0.expand.1.bias`.

    Raises:
        KeyError: A name that such a file does not have.
    """
    places = [f"stages.{stage}.{block}" for stage, (*_, blocks) in enumerate(STAGES, start=1) for block in range(blocks)]
    outside = {"_conv_stem": "stages.0.0", "_bn0": "stages.0.1", "_conv_head": "stages.8.0", "_bn1": "stages.8.1"}
    outside["_fc"] = "classifier"
    inside = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0", "_bn1": "depthwise.1"}
    inside |= {"_project_conv": "project.0", "_bn2": "project.1"}
    renamed = {}
    for name, tensor in weights.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
        if block is not None:
            number, layer, kind = block.groups()
            renamed[f"{dict(enumerate(places))[int(number)]}.{inside[layer]}.{kind}"] = tensor
        else:
            layer, _, kind = name.partition(".")
            renamed[f"{outside[layer]}.{kind}"] = tensor
    return renamed
