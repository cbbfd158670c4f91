"""The CIFAR-10 program that every repository has, kept as the plain reference for benchmarks/cifar10.py.

ResNet-18 with a 3x3 stem (11,173,962 parameters), a DataLoader that takes one PIL picture at a time through RandomCrop with
padding 4, RandomHorizontalFlip, ToTensor and Normalize, SGD with momentum 0.9 and weight decay 5e-4, batch 128, learning rate 0.1
on a cosine, float32. Nothing here is wrong, and 200 epochs of it on a GPU are said to end at 95 %; it is the habit that project 2
is measured against.

    python benchmarks/tutorial_cifar10.py --cpu-seconds 300

The cosine is stretched over the CPU seconds that it is given: it is not punished for a run that is cut short. Eight times it
prints a line of JSON: CPU seconds of training so far, images seen, test accuracy in percent; the looks cost it nothing.
"""

import json
import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet18

from utils import datasets
from utils.datasets import Images
from utils.lesson import check, run

NORMALIZE = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
AUGMENT = transforms.Compose(
    [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(), NORMALIZE]
)
PLAIN = transforms.Compose([transforms.ToTensor(), NORMALIZE])


class Pictures(Dataset):
    """PIL pictures and their labels, as torchvision.datasets.CIFAR10 gives them, whatever format the copy on disk has."""

    def __init__(self, data: Images, transform: transforms.Compose):
        self.arrays, self.labels, self.transform = data.images.permute(0, 2, 3, 1).numpy(), data.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def make_network() -> nn.Module:
    """ResNet-18 for pictures of 32x32: no stride and no pooling in the first layers."""
    network = resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False), nn.Identity()
    return network


def endless(loader: DataLoader) -> Iterator:
    """Epoch after epoch."""
    while True:
        yield from loader


@torch.no_grad()
def accuracy(network: nn.Module, loader: DataLoader) -> float:
    """In percent."""
    network.eval()
    right = sum((network(images).argmax(dim=1) == labels).sum().item() for images, labels in loader)
    network.train()
    return 100 * right / len(loader.dataset)


def main(cpu_seconds: float = 300.0, test_images: int = 10_000, seed: int = 0) -> dict[str, float]:
    """Train the reference for a given time.

    Args:
        cpu_seconds: CPU seconds of training: loading, forward, backward, optimizer.
        test_images: How many of the test images to look at.
        seed: Of the weights, the order and the augmentation.
    """
    check(cpu_seconds > 0 and 0 < test_images <= 10_000, "--cpu-seconds must be above 0, --test-images in 1..10000")
    data = datasets.cifar10("real")
    torch.manual_seed(seed)
    train = DataLoader(Pictures(data.train, AUGMENT), batch_size=128, shuffle=True, drop_last=True)
    _, looked_at = datasets.hold_out(data.test, count=test_images)  # a random part: they may be in the order of their classes
    test = DataLoader(Pictures(looked_at, PLAIN), batch_size=100)
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    seen, used, next_look, started = 0, 0.0, 1, time.process_time()
    for images, labels in endless(train):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 + math.cos(math.pi * min(1.0, used / cpu_seconds)))
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        seen, used = seen + len(labels), time.process_time() - started
        if used >= cpu_seconds * next_look / 8:
            before = time.process_time()
            found = accuracy(network, test)
            print(json.dumps({"cpu_seconds": used, "images": seen, "accuracy": found}), flush=True)
            started += time.process_time() - before  # looking is not training
            while used >= cpu_seconds * next_look / 8:  # a step may be longer than an eighth
                next_look += 1
        if used >= cpu_seconds:
            return {"accuracy": found, "images": seen, "cpu_seconds": used}
    raise AssertionError("a DataLoader that is empty")


if __name__ == "__main__":
    run(main, all_cores=True)
