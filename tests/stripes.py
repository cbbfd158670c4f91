"""Pictures of stripes, and a network that has learned them: what the tests of transfer learning share."""

import torch
import torch.nn.functional as F
from torch import nn

from utils.datasets import Images
from utils.pretrained import Backbone


def striped_pictures(count: int, seed: int, noise: float) -> Images:
    """Pictures (count, 3, 16, 16) of noisy stripes: lying (0) or standing (1)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    wave = (torch.arange(16) + torch.randint(0, 8, (count, 1), generator=generator)) * 0.8
    wave = 40 * torch.sin(wave).view(count, 1, 16, 1).expand(-1, 3, -1, 16)
    wave = torch.where(labels.view(-1, 1, 1, 1) == 1, wave.transpose(2, 3), wave)
    noises = noise * torch.randn(count, 3, 16, 16, generator=generator)
    return Images((128 + wave + noises).clamp(0, 255).to(torch.uint8), labels)


def learn_stripes(stages: nn.Sequential, width: int, classes: int, noise: float) -> Backbone:
    """Train stages that make `width` features, and a classifier after them, on such stripes."""
    backbone = Backbone(stages, nn.Linear(width, classes), 16, (128.0,) * 3, (64.0,) * 3, "stripes")
    network, seen = nn.Sequential(stages, backbone.classifier), striped_pictures(320, seed=9, noise=noise)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for batch in torch.arange(320).split(16):
        loss = F.cross_entropy(network(backbone.prepare(seen.images[batch])), seen.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    stages.eval()
    return backbone
