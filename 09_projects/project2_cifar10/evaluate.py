"""What did the network learn, and where does it fail? · 무엇을 배웠고 어디서 틀리는가

Load the saved network, measure it on the test images, and draw: accuracy by class, confusion matrix, calibration, worst
mistakes, Grad-CAM, robustness to noise and shifts, and how sure it is of pictures that are none of its classes.
저장한 신경망을 불러와 테스트 이미지로 평가하고, 클래스별 정확도, 혼동 행렬, 보정, 가장 크게 틀린 그림, Grad-CAM,
잡음과 이동에 대한 강건성, 열 가지에 속하지 않는 그림을 얼마나 확신하는지를 그린다.

Run        python -m study run cifar10/evaluate        (after python -m study run cifar10)
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from project2_cifar10.model import make_model
from utils import checkpoint, datasets, paths
from utils.batches import to_pixels
from utils.datasets import ImageData, Images, Source, nearest_mean_accuracy
from utils.device import pick_device
from utils.evaluation import (
    draw_class_accuracy,
    draw_confusion,
    draw_reliability,
    draw_worst_mistakes,
    expected_calibration_error,
    fit_temperature,
    grad_cam,
    look,
    show_heat,
    show_image,
)
from utils.lesson import check, run
from utils.plotting import label, save_figure

FACTS = ("name", "classes", "source", "accuracy")  # what must be saved with the weights


def load_network(model: Path | None, device: torch.device) -> tuple[nn.Module, dict]:
    """Load the trained network, ready to answer.

    Args:
        model: Its file; None is where training puts it.
        device: Where it goes.

    Returns:
        The network, and what was saved with it: name, classes, source, accuracy, temperature.

    Raises:
        LessonError: There is none, or it is another model's.
    """
    path, about = checkpoint.load_facts(model, paths.models("project2_cifar10") / "model.pt", FACTS, "run cifar10")
    network = make_model(about["name"], classes=len(about["classes"]))
    about = checkpoint.load_model(path, network, device)
    about.setdefault("temperature", 1.0)
    return network.to(memory_format=torch.channels_last).eval(), about


# %% Measuring
def moved(pixels: Tensor, down: int, right: int) -> Tensor:
    """Move pictures (batch, 3, height, width) by whole pixels; what comes in at an edge is mirrored there."""
    height, width = pixels.shape[-2:]
    margin = max(abs(down), abs(right))
    padded = F.pad(pixels, (margin, margin, margin, margin), mode="reflect")
    return padded[..., margin - down : margin - down + height, margin - right : margin - right + width]


def see(images: Tensor, step: int, mirrored: bool) -> Tensor:
    """Pixels of uint8 images (batch, 3, 32, 32), moved by `step` pixels down and to the right, and then perhaps mirrored."""
    pixels = moved(to_pixels(images), step, step)
    return pixels.flip(3) if mirrored else pixels


def views(tta: bool) -> list[Callable[[Tensor], Tensor]]:
    """The ways to look at an image: as it is; with `tta` also moved by a pixel, two ways, and all three mirrored."""
    if not tta:
        return [to_pixels]
    return [partial(see, step=step, mirrored=mirrored) for mirrored in (False, True) for step in (0, 1, -1)]


def mean_logits(logits: Tensor) -> Tensor:
    """Average logits (views, N, classes) over the views; what is not moved counts as much as what is moved (Jordan, 2024)."""
    if len(logits) == 1:
        return logits[0]
    weights = torch.tensor([0.5, 0.25, 0.25]).repeat(2) / 2
    return (weights.view(-1, 1, 1) * logits).sum(dim=0)


def measure(model: nn.Module, data: ImageData, device: torch.device, tta: bool = True) -> dict[str, float]:
    """Measure a network on the test images.

    Args:
        model: The network, on `device`.
        data: Its data set; the training images are for the baseline only.
        device: Where to compute.
        tta: Test-time augmentation: look at each image in six ways (`views`). Its mistakes differ, so the mean makes fewer.

    Returns:
        Accuracies in 0..1 with test-time augmentation (if `tta`) and without it, the baseline's (the nearest mean image), the
        number of mistakes, the expected calibration error without augmentation, and the seconds it took.
    """
    test = data.test
    started = time.perf_counter()
    logits = look(model, test.images, device, views(tta))  # (6 or 1, N, classes)
    right, right_plain = (found.argmax(dim=1) == test.labels for found in (mean_logits(logits), logits[0]))
    seconds = time.perf_counter() - started
    return {
        "accuracy": right.float().mean().item(),
        "accuracy_without_tta": right_plain.float().mean().item(),
        "baseline_accuracy": nearest_mean_accuracy(data.train, test),
        "calibration_error": expected_calibration_error(logits[0].softmax(dim=1), test.labels),
        "mistakes": (~right).sum().item(),
        "test_images": len(test),
        "evaluation_seconds": seconds,
    }


def temperature_for(model: nn.Module, held_out: Images, device: torch.device) -> float:
    """What to divide the logits by, so that they are as certain as they may be; from images that were not trained on.

    Label smoothing teaches a network to be less certain than it may be (Müller et al., 2019): here it is below 1.
    """
    return fit_temperature(look(model, held_out.images, device, [to_pixels])[0], held_out.labels)


def with_temperature(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Calibrated probabilities for the logits (N, classes) of test images, each with a temperature from other images than itself.

    One half of the test images gets the temperature that was fitted on the other half, and the other way round: this shows what
    one number can do. Which number predict.py and app.py use is fitted on the validation images, as every setting.

    Returns:
        Probabilities (N, classes), and the mean of the two temperatures.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    halves = shuffled.chunk(2)
    found, temperatures = torch.empty_like(logits), []
    for one, other in (halves, halves[::-1]):
        temperatures.append(fit_temperature(logits[other], labels[other]))
        found[one] = (logits[one] / temperatures[-1]).softmax(dim=1)
    return found, sum(temperatures) / 2


# %% How much it bears
NOISE = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # standard deviation, where black is 0 and white is 1
SHIFTS = (0, 1, 2, 3, 4, 6, 8, 12)  # pixels of the 32


def accuracy_under(model: nn.Module, test: Images, device: torch.device, change: Callable[[Tensor], Tensor]) -> float:
    """Accuracy in 0..1 where `change` is done to the pixels (batch, 3, 32, 32) of every batch."""
    logits = look(model, test.images, device, [lambda images: change(to_pixels(images))])[0]
    return (logits.argmax(dim=1) == test.labels).float().mean().item()


def moved_in_turn(pixels: Tensor, step: int) -> Tensor:
    """Move the first picture of (batch, 3, height, width) down by `step` pixels, the next ones up, right and left, and so on."""
    result = pixels.clone()
    for first, (down, right) in enumerate([(step, 0), (-step, 0), (0, step), (0, -step)][: len(pixels)]):
        result[first::4] = moved(pixels[first::4], down, right)
    return result


def robustness(model: nn.Module, test: Images, device: torch.device) -> dict[str, dict[float, float]]:
    """Accuracy on test images with noise in them, and moved: a quarter of them down, up, right and left each.

    Returns:
        "noise": standard deviation → accuracy in 0..1; "shift": pixels → accuracy.
    """
    generator = torch.Generator().manual_seed(0)  # on the CPU: the same noise on every device

    def noisy(pixels: Tensor, level: float) -> Tensor:
        return (pixels + level * torch.randn(pixels.shape, generator=generator).to(pixels.device)).clamp(0, 1)

    return {
        "noise": {level: accuracy_under(model, test, device, partial(noisy, level=level)) for level in NOISE},
        "shift": {step: accuracy_under(model, test, device, partial(moved_in_turn, step=step)) for step in SHIFTS},
    }


def draw_robustness(model: nn.Module, test: Images, device: torch.device, chance: float, most: int = 1000):
    """Accuracy against noise and against shift, each above one test image so changed; returns the figure.

    Args:
        model: The network.
        test: The test images.
        device: Where to compute.
        chance: What a guess gets.
        most: How many test images are enough.
    """
    import matplotlib.pyplot as plt

    some = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:most]]
    found = robustness(model, some, device)
    pixels = to_pixels(some.images[:1])
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    examples = {
        "noise": [(pixels + level * noise).clamp(0, 1)[0] for level in NOISE],
        "shift": [moved(pixels, 0, step)[0] for step in SHIFTS],
    }
    titles = {
        "noise": label("Noise: its standard deviation (black 0, white 1)", "잡음의 표준편차 (검정 0, 흰색 1)"),
        "shift": label("Shift in pixels, in four directions", "이동한 픽셀 수 (네 방향)"),
    }
    figure = plt.figure(figsize=(13, 5.2), layout="constrained")
    for part, (name, accuracies) in zip(figure.subfigures(1, 2), found.items(), strict=True):
        columns = len(accuracies)
        axes = part.subplot_mosaic([["curve"] * columns, list(range(columns))], height_ratios=[3.2, 1])
        curve = axes["curve"]
        curve.plot(list(accuracies), [100 * value for value in accuracies.values()], "o-", color="tab:blue")
        curve.axhline(100 * chance, color="gray", linestyle=":", label=label("chance", "무작위"))
        curve.set(ylim=(0, 100), xlabel=titles[name], ylabel=label("accuracy (%)", "정확도 (%)"))
        curve.grid(alpha=0.3)
        curve.legend(loc="upper right")
        for column, (level, image) in enumerate(zip(accuracies, examples[name], strict=True)):
            show_image(axes[column], image)
            axes[column].set_title(f"{level:g}", fontsize=9)
    figure.suptitle(
        label(f"What it bears: accuracy on {len(some):,} test images", f"강건성: 테스트 이미지 {len(some):,}장의 정확도")
    )
    return figure


# %% What it looks at, and what it does not know
def draw_grad_cam(model: nn.Module, test: Images, classes: list[str]):
    """For one image of each class: what spoke for the answer, and what for the second-best answer; returns the figure."""
    import matplotlib.pyplot as plt

    device = next(model.parameters()).device
    first = torch.stack([(test.labels == one).nonzero()[0, 0] for one in test.labels.unique()])
    pixels = to_pixels(test.images[first].to(device))
    with torch.no_grad():
        best_two = model(pixels).topk(2).indices  # (classes, 2)
    figure, axes = plt.subplots(3, len(first), figsize=(1.55 * len(first), 5.4))
    for column, axis in enumerate(axes[0]):
        show_image(axis, test.images[first[column]])
        axis.set_title(classes[test.labels[first[column]]], fontsize=10)
    for row in (0, 1):
        heat = grad_cam(model, model.last_maps, pixels, best_two[:, row])
        for column, axis in enumerate(axes[1 + row]):
            show_heat(axis, pixels[column], heat[column])
            axis.set_title(f"{row + 1}. {classes[best_two[column, row]]}", fontsize=10)
    figure.suptitle(
        label(
            "Grad-CAM: truth, and where the network looked for its first and second answer",
            "Grad-CAM: 정답, 그리고 신경망이 첫째와 둘째 답을 위해 본 곳",
        )
    )
    figure.tight_layout()
    return figure


def strangers(count: int = 300) -> dict[str, Tensor]:
    """Pictures that are none of the classes, each (count, 3, 32, 32) uint8.

    Returns:
        "portrait": pieces of matplotlib's photo of Grace Hopper in uniform; "noise": random pixels.
    """
    import numpy as np
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    generator = np.random.default_rng(0)
    with get_sample_data("grace_hopper.jpg") as file:
        portrait = Image.open(file).convert("RGB")
    pieces = []
    for _ in range(count):
        side = int(generator.integers(100, min(portrait.size) + 1))
        left, top = (int(generator.integers(0, size - side + 1)) for size in portrait.size)
        pieces.append(portrait.resize((32, 32), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))
    portraits = torch.from_numpy(np.stack([np.asarray(piece) for piece in pieces])).permute(0, 3, 1, 2)
    noise = torch.from_numpy(generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8))
    return {"portrait": portraits.contiguous(), "noise": noise}


def draw_strangers(model: nn.Module, logits: Tensor, labels: Tensor, device: torch.device):
    """How certain the network is of its right answers, of its mistakes, and of pictures that are none of its classes.

    Softmax must give the ten classes 100 % in all: it has no way to say "none of these", and certainty is a poor sign of it
    (Hendrycks and Gimpel, 2017, https://arxiv.org/abs/1610.02136). AUROC: how often the network is more certain of a test image
    than of a stranger, both drawn at random; 50 % is a coin.

    Args:
        model: The network.
        logits: Of the test images (N, classes).
        labels: (N,)
        device: Where the network is.

    Returns:
        The figure.
    """
    import matplotlib.pyplot as plt
    from sklearn.metrics import roc_auc_score

    certainty, predicted = logits.softmax(dim=1).max(dim=1)
    right = predicted == labels
    rows = {
        label("test images, answered right", "맞힌 테스트 이미지"): (certainty[right], ""),
        label("test images, answered wrong", "틀린 테스트 이미지"): (certainty[~right], ""),
    }
    names = {
        "portrait": label("pieces of a portrait", "인물 사진의 조각"),
        "noise": label("random pixels", "무작위 픽셀"),
    }
    for name, images in strangers().items():
        theirs = look(model, images, device, [to_pixels])[0].softmax(dim=1).max(dim=1).values
        told_apart = roc_auc_score([1] * len(certainty) + [0] * len(theirs), torch.cat([certainty, theirs]))
        rows[names[name]] = theirs, f", AUROC {told_apart:.0%}"
    figure, axes = plt.subplots(len(rows), 1, figsize=(8, 6.4), sharex=True, layout="constrained")
    for number, (axis, (name, (values, note))) in enumerate(zip(axes, rows.items(), strict=True)):
        axis.hist(values.numpy(), bins=40, range=(0, 1), color="tab:blue" if number < 2 else "tab:red", alpha=0.75)
        middle = f"{values.median():.0%}" if len(values) else "-"
        axis.set_title(f"{name}: {label('median', '중앙값')} {middle}{note}", fontsize=10, loc="left")
        axis.set(yticks=[])
    axes[-1].set(xlabel=label("probability of the most probable class", "가장 확률이 높은 클래스의 확률"), xlim=(0, 1))
    figure.suptitle(
        label(
            "There is no answer “none of these”\nAUROC: how often a test image gets a higher certainty than such a picture",
            "“이 중에 없음”이라는 답은 없다\nAUROC: 테스트 이미지를 이런 그림보다 더 확신하는 비율",
        ),
        fontsize=11,
    )
    return figure


# %% All of it, in order
def draw_everything(model: nn.Module, data: ImageData, device: torch.device) -> None:
    """Write all figures to outputs/project2_cifar10/."""
    model.eval()
    test, classes = data.test, data.classes
    logits = look(model, test.images, device, [to_pixels])[0]  # what predict.py and app.py see: no test-time augmentation
    plain, predicted = logits.softmax(dim=1), logits.argmax(dim=1)
    calibrated, temperature = with_temperature(logits, test.labels)
    panels = {
        label("as trained", "학습한 그대로"): plain,
        label(f"divided by a temperature of {temperature:.2f}", f"온도 {temperature:.2f}로 나눈 뒤"): calibrated,
    }
    figures = {
        "class_accuracy": draw_class_accuracy(predicted, test.labels, classes),
        "confusion_matrix": draw_confusion(predicted, test.labels, classes),
        "calibration": draw_reliability(panels, test.labels),
        "worst_mistakes": draw_worst_mistakes(test, plain, classes),
        "grad_cam": draw_grad_cam(model, test, classes),
        "robustness": draw_robustness(model, test, device, chance=1 / len(classes)),
        "strangers": draw_strangers(model, logits, test.labels, device),
    }
    for name, figure in figures.items():
        save_figure(figure, __file__, name)


def main(
    model: Path | None = None, source: Source = "auto", device: str = "auto", tta: bool = True, figures: bool = True
) -> dict[str, float]:
    """Load a trained network, measure it on the test images and draw what it learned.

    Args:
        model: The checkpoint; without it, the one that `python -m study run cifar10` wrote.
        source: "auto", "real" or "sample": the test images.
        device: "auto", "cpu", "cuda" or "mps".
        tta: Look at each test image in six ways and take the mean.
        figures: Draw as well.
    """
    device = pick_device(device)
    network, about = load_network(model, device)
    data = datasets.cifar10(source)
    print(f"trained on: {about['source']}")
    print(f"tested on:  {data.source}")
    check(
        about["classes"] == data.classes,
        f"this network tells apart {', '.join(about['classes'])}; the test images are of {', '.join(data.classes)}. "
        "Choose the data it was trained on with --source real or --source sample",
    )
    if figures:
        draw_everything(network, data, device)
    return measure(network, data, device, tta)


if __name__ == "__main__":
    run(main, all_cores=True)
