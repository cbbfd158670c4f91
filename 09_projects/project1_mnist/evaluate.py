"""What did the network learn, and where does it fail? · 무엇을 배웠고 어디서 틀리는가

Load the saved network, measure it on the test images, and draw: confusion matrix, worst mistakes, filters, feature maps,
Grad-CAM, an embedding.
저장한 신경망을 불러와 테스트 이미지로 평가하고, 혼동 행렬, 가장 크게 틀린 그림, 필터, 특징 맵, Grad-CAM, 임베딩을 그린다.

Run        python -m study run mnist/evaluate          (about 10 s; after python -m study run mnist)
"""

import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from project1_mnist.data import shift
from project1_mnist.model import Net
from utils import checkpoint, datasets, paths
from utils.batches import to_pixels
from utils.datasets import ImageData, Images, Source, nearest_mean_accuracy
from utils.device import pick_device
from utils.evaluation import draw_confusion, draw_embedding, draw_worst_mistakes, grad_cam, look, show_heat
from utils.lesson import run
from utils.plotting import label, save_figure

NEIGHBOURS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # (down, right): as it is, and one pixel in each direction
FACTS = ("classes", "source", "accuracy")  # what must be saved with the weights


def load_network(model: Path | None, device: torch.device) -> tuple[Net, dict]:
    """Load the trained network, ready to answer.

    Args:
        model: Its file; None is where training puts it.
        device: Where it goes.

    Returns:
        The network, and what was saved with it: classes, source, accuracy.

    Raises:
        LessonError: There is none, or it is another model's.
    """
    path, about = checkpoint.load_facts(model, paths.models("project1_mnist") / "model.pt", FACTS, "run mnist")
    network = Net()
    checkpoint.load_model(path, network, device)
    return network.eval(), about


# %% Measuring
def looks(model: nn.Module, images: Tensor, device: torch.device, tta: bool) -> Tensor:
    """Probabilities (5, N, classes) of five shifted copies of uint8 images (N, 1, 28, 28); without `tta` (1, N, classes)."""

    def moved(batch: Tensor, down: int, right: int) -> Tensor:
        return to_pixels(shift(batch, down, right))

    views = [partial(moved, down=down, right=right) for down, right in (NEIGHBOURS if tta else NEIGHBOURS[:1])]
    return look(model, images, device, views).softmax(dim=-1)


def probabilities(model: nn.Module, images: Tensor, device: torch.device, tta: bool = True) -> Tensor:
    """Probability of each class for uint8 images (N, 1, 28, 28), as (N, classes) on the CPU.

    Args:
        model: The network.
        images: The pictures.
        device: Where the network is.
        tta: Test-time augmentation: average over five copies, the image and four that are shifted by one pixel. Their mistakes
            differ, so the mean makes fewer.
    """
    return looks(model, images, device, tta).mean(dim=0)


def measure(model: nn.Module, data: ImageData, device: torch.device, tta: bool = True) -> dict[str, float]:
    """Measure a network on the test images.

    Args:
        model: The network, on `device`.
        data: Its data set; the training images are for the baseline only.
        device: Where to compute.
        tta: Test-time augmentation: average over five shifted copies of each test image.

    Returns:
        Accuracies in 0..1 with test-time augmentation (if `tta`) and without it, the baseline's (the nearest mean image), the
        number of mistakes and of test images, and the seconds it took.
    """
    test = data.test
    started = time.perf_counter()
    found = looks(model, test.images, device, tta)  # (5 or 1, N, classes)
    right, right_plain = found.mean(dim=0).argmax(dim=1) == test.labels, found[0].argmax(dim=1) == test.labels
    seconds = time.perf_counter() - started
    return {
        "accuracy": right.float().mean().item(),
        "accuracy_without_tta": right_plain.float().mean().item(),
        "baseline_accuracy": nearest_mean_accuracy(data.train, test),
        "mistakes": (~right).sum().item(),
        "test_images": len(test),
        "evaluation_seconds": seconds,
    }


# %% What is inside
@torch.no_grad()
def layer_by_layer(model: Net, pixels: Tensor) -> dict[str, Tensor]:
    """The maps (batch, channels, height, width) that leave each of the three blocks (after its ReLU)."""
    maps, x = {}, (pixels - model.mean) / model.std
    for layer in model.features:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            maps[f"block {len(maps) + 1}"] = x
    return maps


def draw_filters(model: Net):
    """The 16 patterns of 5x5 pixels that the first convolution looks for; returns the figure."""
    import matplotlib.pyplot as plt

    filters = model.features[0].weight.detach().cpu()[:, 0]  # (16, 5, 5)
    largest = filters.abs().max()
    figure, axes = plt.subplots(2, 8, figsize=(10, 3.2))
    for axis, pattern in zip(axes.flat, filters, strict=True):
        picture = axis.imshow(pattern.numpy(), cmap="coolwarm", vmin=-largest, vmax=largest)
        axis.axis("off")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    figure.suptitle(
        label("First convolution: red wants ink, blue wants none", "첫 합성곱의 필터: 빨강은 획, 파랑은 빈 곳에 반응")
    )
    return figure


def draw_feature_maps(model: Net, image: Tensor):
    """What each block makes of one uint8 image (1, 28, 28); returns the figure."""
    import matplotlib.pyplot as plt

    device = next(model.parameters()).device
    pixels = to_pixels(image.unsqueeze(0).to(device))
    maps = layer_by_layer(model, pixels)
    figure, axes = plt.subplots(len(maps), 9, figsize=(12, 1.45 * len(maps) + 0.6))
    for row, (name, channels) in zip(axes, maps.items(), strict=True):
        row[0].imshow(image[0].numpy(), cmap="gray_r")
        size = channels.shape[-1]
        row[0].set_title(f"{name}: {channels.shape[1]} x {size}x{size}", fontsize=9)
        strongest = channels[0].mean(dim=(1, 2)).argsort(descending=True)[:8]
        for axis, channel in zip(row[1:], channels[0, strongest].cpu(), strict=True):
            axis.imshow(channel.numpy(), cmap="viridis")
        for axis in row:
            axis.axis("off")
    figure.suptitle(label("Feature maps: the eight strongest of each block", "특징 맵: 블록마다 가장 강한 여덟 개"))
    figure.tight_layout()
    return figure


def draw_grad_cam(model: Net, test: Images, classes: list[str]):
    """For one image of each digit: what spoke for the answer, and what for the second-best answer; returns the figure."""
    import matplotlib.pyplot as plt

    device = next(model.parameters()).device
    first = torch.stack([(test.labels == digit).nonzero()[0, 0] for digit in test.labels.unique()])
    pixels = to_pixels(test.images[first].to(device))
    with torch.no_grad():
        best_two = model(pixels).topk(2).indices  # (classes, 2)
    figure, axes = plt.subplots(2, len(first), figsize=(1.3 * len(first), 3.4))
    for row in (0, 1):
        heat = grad_cam(model, model.features[4], pixels, best_two[:, row])  # features[4]: the second convolution
        for column, axis in enumerate(axes[row]):
            show_heat(axis, pixels[column], heat[column])
            axis.set_title(f"{row + 1}. {classes[best_two[column, row]]}", fontsize=9)
    figure.suptitle(
        label(
            "Grad-CAM: where the network looked for its first and second answer",
            "Grad-CAM: 신경망이 첫째와 둘째 답을 위해 본 곳",
        )
    )
    figure.tight_layout()
    return figure


@torch.no_grad()
def last_features(model: Net, images: Tensor) -> Tensor:
    """The 864 numbers behind the last layer for uint8 images (N, 1, 28, 28), as (N, 864)."""
    device = next(model.parameters()).device
    pixels = (to_pixels(batch.to(device)) for batch in images.split(500))
    return torch.cat([model.features((part - model.mean) / model.std) for part in pixels])


def draw_everything(model: Net, data: ImageData, device: torch.device) -> None:
    """Write all figures to outputs/project1_mnist/."""
    model.eval()
    found = probabilities(model, data.test.images, device)
    some = data.test[torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))[:1500]]
    figures = {
        "confusion_matrix": draw_confusion(found.argmax(dim=1), data.test.labels, data.classes),
        "worst_mistakes": draw_worst_mistakes(data.test, found, data.classes),
        "filters": draw_filters(model),
        "feature_maps": draw_feature_maps(model, data.test.images[0]),
        "grad_cam": draw_grad_cam(model, data.test, data.classes),
        "embedding": draw_embedding(last_features(model, some.images), some.labels, data.classes),
    }
    for name, figure in figures.items():
        save_figure(figure, __file__, name)


# %% All of it, in order
def main(model: Path | None = None, source: Source = "auto", device: str = "auto", figures: bool = True) -> dict[str, float]:
    """Load a trained network, measure it on the test images and draw what it learned.

    Args:
        model: The checkpoint; without it, the one that `python -m study run mnist` wrote.
        source: "auto", "real" or "sample": the test images.
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw as well.
    """
    device = pick_device(device)
    network, about = load_network(model, device)
    network.to(memory_format=torch.channels_last)
    data = datasets.mnist(source)
    print(f"trained on: {about['source']}")
    print(f"tested on:  {data.source}")
    if figures:
        draw_everything(network, data, device)
    return measure(network, data, device)


if __name__ == "__main__":
    run(main, all_cores=True)
