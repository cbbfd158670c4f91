"""A small convolutional network for 28x28 grey pictures."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Three convolutions and one linear layer: 57,754 parameters.

    Each convolution is followed by batch normalisation (Ioffe and Szegedy, 2015) and a ReLU. The pooling comes before them: it
    leaves a quarter of the numbers, so that what follows costs a quarter.

    The network takes pixels in 0..1 and normalises them itself: a checkpoint cannot be used with the wrong mean.
    """

    def __init__(self, mean: float = 0.1307, std: float = 0.3081, classes: int = 10):
        """Make a network with random weights.

        Args:
            mean: Of the training pixels, in 0..1 (the default is MNIST's).
            std: Their standard deviation.
            classes: How many kinds of pictures to tell apart.
        """
        super().__init__()
        # Buffers are saved with the weights and move with them to a device, but no optimizer changes them.
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=5, bias=False),  # (batch, 16, 24, 24); the bias would be undone by the batch norm
            nn.MaxPool2d(2),  # (batch, 16, 12, 12)
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 48, kernel_size=3, bias=False),  # (batch, 48, 10, 10)
            nn.MaxPool2d(2),  # (batch, 48, 5, 5)
            nn.BatchNorm2d(48),
            nn.ReLU(inplace=True),
            nn.Conv2d(48, 96, kernel_size=3, bias=False),  # (batch, 96, 3, 3)
            nn.BatchNorm2d(96),
            nn.ReLU(inplace=True),
            nn.Flatten(),  # (batch, 864)
        )
        self.classifier = nn.Linear(864, classes)  # no softmax and no ReLU after it: cross_entropy takes raw logits

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (batch, 1, 28, 28) in 0..1 into logits (batch, classes)."""
        return self.classifier(self.features((images - self.mean) / self.std))
