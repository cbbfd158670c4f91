"""What did the network learn, and where does it fail? · 무엇을 배웠고 어디서 틀리는가

Load the saved network, measure it on the test images, and draw: confusion matrix, worst mistakes, filters, feature maps,
Grad-CAM, an embedding.
저장한 신경망을 불러와 테스트 이미지로 평가하고, 혼동 행렬, 가장 크게 틀린 그림, 필터, 특징 맵, Grad-CAM, 임베딩을 그린다.

Run        python -m study run mnist/evaluate          (about 10 s; after python -m study run mnist)
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from project1_mnist.data import shift, to_pixels
from project1_mnist.model import Net
from utils import datasets, paths
from utils.checkpoint import load_model
from utils.datasets import ImageData, Images, Source, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import run
from utils.plotting import label, save_figure

NEIGHBOURS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # (down, right): as it is, and one pixel in each direction


# %% Measuring
@torch.no_grad()
def look(model: nn.Module, images: Tensor, device: torch.device, shifts: tuple[tuple[int, int], ...]) -> Tensor:
    """Probabilities (shifts, N, classes) on the CPU for uint8 images (N, 1, 28, 28), shifted in each of these ways."""
    model.eval()
    found = []
    for batch in images.split(500):
        batch = batch.to(device)
        logits = torch.stack([model(to_pixels(shift(batch, down, right))) for down, right in shifts])
        found.append(logits.softmax(dim=-1).cpu())
    return torch.cat(found, dim=1)


def probabilities(model: nn.Module, images: Tensor, device: torch.device, copies: bool = True) -> Tensor:
    """Probability of each class for uint8 images (N, 1, 28, 28), as (N, classes) on the CPU.

    Args:
        model: The network.
        images: The pictures.
        device: Where the network is.
        copies: Average over five copies, shifted by one pixel each: their mistakes differ, so the mean makes fewer.
    """
    return look(model, images, device, NEIGHBOURS if copies else NEIGHBOURS[:1]).mean(dim=0)


def measure(model: nn.Module, data: ImageData, device: torch.device, copies: bool = True) -> dict[str, float]:
    """Accuracies in 0..1 on the test images: with shifted copies (if `copies`), without them, and the baseline's."""
    test = data.test
    started = time.perf_counter()
    looks = look(model, test.images, device, NEIGHBOURS if copies else NEIGHBOURS[:1])  # (5 or 1, N, classes)
    right, right_plain = looks.mean(dim=0).argmax(dim=1) == test.labels, looks[0].argmax(dim=1) == test.labels
    seconds = time.perf_counter() - started
    return {
        "accuracy": right.float().mean().item(),
        "accuracy_without_copies": right_plain.float().mean().item(),
        "baseline_accuracy": nearest_mean_accuracy(data.train, test),
        "mistakes": (~right).sum().item(),
        "test_images": len(test),
        "evaluation_seconds": seconds,
    }


# %% Where it fails
def draw_confusion(predicted: Tensor, labels: Tensor, classes: list[str]):
    """How often each digit was taken for each other one; returns the figure."""
    import matplotlib.pyplot as plt

    count = len(classes)
    matrix = torch.bincount(labels * count + predicted, minlength=count * count).view(count, count)  # (true, predicted)
    mistakes = matrix.clone().fill_diagonal_(0)
    figure, axis = plt.subplots(figsize=(6.5, 6))
    axis.imshow(mistakes.numpy(), cmap="Reds", vmax=max(1, mistakes.max().item()))
    for true in range(count):
        for guess in range(count):
            if matrix[true, guess]:
                color = "silver" if true == guess else "white" if mistakes[true, guess] > 0.6 * mistakes.max() else "black"
                axis.text(guess, true, matrix[true, guess].item(), ha="center", va="center", color=color, fontsize=9)
    axis.set(xticks=range(count), yticks=range(count), xticklabels=classes, yticklabels=classes)
    axis.set_xlabel(label("the network said", "신경망의 답"))
    axis.set_ylabel(label("it was", "정답"))
    wrong = mistakes.sum().item()
    axis.set_title(
        label(f"{wrong} mistakes in {len(labels):,} test images", f"테스트 이미지 {len(labels):,}장 중 {wrong}장 오답")
    )
    return figure


def draw_worst_mistakes(test: Images, found: Tensor, classes: list[str], most: int = 20):
    """The mistakes of which the network was most certain; returns the figure.

    Args:
        test: The test images.
        found: Probabilities (N, classes).
        classes: Names of the classes.
        most: How many to draw.
    """
    import matplotlib.pyplot as plt

    certainty, predicted = found.max(dim=1)
    wrong = (predicted != test.labels).nonzero().flatten()
    worst = wrong[certainty[wrong].argsort(descending=True)][:most]
    columns = 10 if len(worst) > 5 else 5
    rows = max(1, -(-len(worst) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(1.35 * columns, 1.75 * rows + 0.5), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, worst.tolist(), strict=False):
        axis.imshow(test.images[i, 0].numpy(), cmap="gray_r")
        title = f"{classes[test.labels[i]]} \u2192 {classes[predicted[i]]}  {certainty[i]:.0%}"
        axis.set_title(title, fontsize=9)
    figure.suptitle(label("Worst mistakes: truth \u2192 answer, certainty", "가장 확신하고 틀린 그림: 정답 \u2192 답, 확신"))
    figure.tight_layout()
    return figure


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


def grad_cam(model: Net, pixels: Tensor, classes: Tensor) -> Tensor:
    """Which places spoke for a class (Selvaraju et al., 2017).

    Each map of the second convolution is weighted by how much the class's logit would grow with it; what is positive in the sum
    spoke for the class.

    Args:
        model: The network, in eval mode.
        pixels: (batch, 1, 28, 28) in 0..1.
        classes: The class to explain for each picture, (batch,).

    Returns:
        (batch, 28, 28) in 0..1.
    """
    before, after = model.features[:5], model.features[5:]
    maps = before((pixels - model.mean) / model.std).detach().requires_grad_()  # (batch, 48, 10, 10)
    logits = model.classifier(after(maps))
    chosen = logits.gather(1, classes.unsqueeze(1)).sum()
    (gradient,) = torch.autograd.grad(chosen, maps)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (batch, 48, 1, 1)
    places = (weights * maps.detach()).sum(dim=1, keepdim=True).relu()  # (batch, 1, 10, 10)
    places = nn.functional.interpolate(places, size=pixels.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return places / places.amax(dim=(1, 2), keepdim=True).clamp_min(1e-8)


def draw_grad_cam(model: Net, test: Images, classes: list[str]):
    """For one image of each digit: what spoke for the answer, and what for the second-best answer; returns the figure."""
    import matplotlib.pyplot as plt

    device = next(model.parameters()).device
    first = torch.stack([(test.labels == digit).nonzero()[0, 0] for digit in test.labels.unique()])
    pixels = to_pixels(test.images[first].to(device))
    with torch.no_grad():
        best_two = model(pixels).topk(2).indices  # (classes, 2)
    figure, axes = plt.subplots(2, len(first), figsize=(1.3 * len(first), 3.4))
    for row, place in enumerate(("best", "second")):
        heat = grad_cam(model, pixels, best_two[:, row]).cpu()
        for column, axis in enumerate(axes[row]):
            axis.imshow(pixels[column, 0].cpu().numpy(), cmap="gray_r")
            axis.imshow(heat[column].numpy(), cmap="jet", alpha=0.45)
            axis.set_title(f"{place}: {classes[best_two[column, row]]}", fontsize=9)
            axis.axis("off")
    figure.suptitle(label("Grad-CAM: where the network looked for each answer", "Grad-CAM: 각 답을 위해 신경망이 본 곳"))
    figure.tight_layout()
    return figure


@torch.no_grad()
def draw_embedding(model: Net, test: Images, classes: list[str], most: int = 1500):
    """The 864 numbers behind the last layer, brought into the plane by t-SNE (van der Maaten and Hinton, 2008)."""
    import matplotlib.pyplot as plt
    from sklearn.manifold import TSNE

    device = next(model.parameters()).device
    some = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:most]]
    features = torch.cat(
        [model.features((to_pixels(batch.to(device)) - model.mean) / model.std) for batch in some.images.split(500)]
    )
    plane = TSNE(perplexity=min(30, len(some) // 4), init="pca", random_state=0, max_iter=500).fit_transform(
        features.cpu().numpy()
    )
    figure, axis = plt.subplots(figsize=(7.5, 7))
    points = axis.scatter(*plane.T, c=some.labels.numpy(), cmap="tab10", s=7, vmin=-0.5, vmax=9.5)
    for digit in some.labels.unique():
        middle = torch.from_numpy(plane)[some.labels == digit].median(dim=0).values
        axis.text(*middle.tolist(), classes[digit], fontsize=17, weight="bold", ha="center", va="center")
    figure.colorbar(points, ticks=range(len(classes)), shrink=0.8)
    axis.set(xticks=[], yticks=[])
    axis.set_title(
        label(f"{len(some):,} test images as the last layer sees them", f"마지막 층에서 본 테스트 이미지 {len(some):,}장")
    )
    return figure


def draw_everything(model: Net, data: ImageData, device: torch.device) -> None:
    """Write all figures to outputs/project1_mnist/."""
    model.eval()
    found = probabilities(model, data.test.images, device)
    figures = {
        "confusion_matrix": draw_confusion(found.argmax(dim=1), data.test.labels, data.classes),
        "worst_mistakes": draw_worst_mistakes(data.test, found, data.classes),
        "filters": draw_filters(model),
        "feature_maps": draw_feature_maps(model, data.test.images[0]),
        "grad_cam": draw_grad_cam(model, data.test, data.classes),
        "embedding": draw_embedding(model, data.test, data.classes),
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
    network = Net().to(memory_format=torch.channels_last)
    about = load_model(model or paths.models("project1_mnist") / "model.pt", network, device)
    data = datasets.mnist(source)
    print(f"trained on: {about.get('source', 'unknown')}")
    print(f"tested on:  {data.source}")
    if figures:
        draw_everything(network, data, device)
    return measure(network, data, device)


if __name__ == "__main__":
    run(main, all_cores=True)
