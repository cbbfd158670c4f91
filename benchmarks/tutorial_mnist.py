"""The MNIST program that every tutorial has, kept as the plain reference for benchmarks/mnist.py.

A DataLoader that turns one picture at a time into a tensor and normalises it, two convolutions (32, 64), max pooling, dropout,
two linear layers (128, 10), Adadelta, batch 64, the learning rate times 0.7 after every epoch. Nothing here is wrong; it is
the habit that project 1 is measured against.

    python benchmarks/tutorial_mnist.py --epochs 4

After every epoch it prints one line of JSON: epoch, test accuracy in percent, CPU seconds of the process so far.
"""

import json
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from utils import catalogue
from utils.lesson import check, run


class Net(nn.Module):
    """Two convolutions, pooling, dropout, two linear layers: 1,199,882 parameters."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 1, 28, 28) to logits (batch, 10)."""
        x = F.relu(self.conv1(x))  # (batch, 32, 26, 26)
        x = F.relu(self.conv2(x))  # (batch, 64, 24, 24)
        x = self.dropout1(F.max_pool2d(x, 2)).flatten(1)  # (batch, 9216)
        return self.fc2(self.dropout2(F.relu(self.fc1(x))))


def main(epochs: int = 4, seed: int = 0) -> dict[str, float]:
    """Train the tutorial's network on the real MNIST.

    Args:
        epochs: Passes over the 60,000 training images.
        seed: Of the weights, the dropout and the order.
    """
    place = catalogue.find("mnist")
    check(
        place is not None and place.name == "train-images-idx3-ubyte" and place.parent.parent.name == "MNIST",
        "this needs MNIST's official files in MNIST/raw: python -m study data mnist",
    )
    torch.manual_seed(seed)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    root = place.parent.parent.parent
    train = DataLoader(MNIST(root, train=True, transform=transform), batch_size=64, shuffle=True)
    test = DataLoader(MNIST(root, train=False, transform=transform), batch_size=1000)
    model = Net()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)

    for epoch in range(epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            correct = sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in test)
        accuracy = 100 * correct / len(test.dataset)
        print(json.dumps({"epoch": epoch + 1, "accuracy": accuracy, "cpu_seconds": time.process_time()}), flush=True)
    return {"accuracy": accuracy, "cpu_seconds": time.process_time()}


if __name__ == "__main__":
    run(main, all_cores=True)
