"""Project 1 · Handwritten digits · 손글씨 숫자 인식

Train a small convolutional network on MNIST, measure it, look into it, save it.
작은 합성곱 신경망을 MNIST로 학습하고, 평가하고, 그 속을 들여다보고, 저장한다.

Run        python -m study run mnist                       (sample: about 10 s; real MNIST: about 30 s on two CPU cores)
           python -m study run mnist --preset fast         (one epoch)
           python -m study run mnist --resume              (go on after Ctrl-C or a crash)
Try next   --images 100 --epochs 200: about ten of each digit, and time to learn them. First guess the accuracy, then look
Then       python -m study run mnist/evaluate · mnist/predict picture.png · mnist/app
"""

import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from project1_mnist import evaluate as evaluation
from project1_mnist.data import mean_and_std, training_batches
from project1_mnist.model import Net
from utils import datasets, paths, tracking
from utils.checkpoint import check_saved, save_model
from utils.datasets import Source
from utils.device import pick_device
from utils.evaluation import draw_learning_curves, plain_batches
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.seeding import seed_everything
from utils.training import check_above_zero, evaluate, fit, recipe_with, rise_and_fall

# Chosen on 5,000 training images that were held out, never on the test set; benchmarks/README.md has what was tried.
PRESETS = {
    "default": {"epochs": 4, "batch_size": 128, "lr": 0.2, "shift": 2},
    "fast": {"epochs": 1, "batch_size": 64, "lr": 0.2, "shift": 1},  # who sees each image once needs less variety
}
SAMPLE_PRESETS = {
    "default": {"epochs": 20, "batch_size": 64, "lr": 0.1, "shift": 2},
    "fast": {"epochs": 6, "batch_size": 64, "lr": 0.1, "shift": 2},
}


def smoothed_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross entropy against softened targets: 0.91 for the right digit, 0.01 for each other one.

    A network that must not be quite certain generalises a little better (Szegedy et al., 2016).
    """
    images, labels = batch
    return F.cross_entropy(model(images), labels, label_smoothing=0.1)


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; weight decay for weights only, not for biases and the scales of batch norms."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


def triangle(optimizer: torch.optim.Optimizer, steps: int, peak: float = 0.25) -> LambdaLR:
    """Raise the learning rate from nearly 0 to its full value in the first quarter of the run, then lower it to 0.

    The slow start lets the batch norms settle; the slow end lets the weights settle (Smith and Topin, 2018).
    """
    return rise_and_fall(optimizer, steps, rise=peak)


def main(
    source: Source = "auto",
    preset: Literal["default", "fast"] = "default",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    shift: int | None = None,
    images: int | None = None,
    seed: int = 0,
    device: str = "auto",
    tta: bool = True,
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train on MNIST, or on a small sample of real digits where MNIST cannot be had; evaluate, draw and save.

    Args:
        source: "auto" (MNIST from disk or the network, else the sample), "real" (never the sample) or "sample".
        preset: "default" for accuracy, "fast" for a first look.
        epochs: Passes over the training images; without it, the preset's.
        batch_size: Images in a step; without it, the preset's.
        lr: The highest learning rate; without it, the preset's.
        shift: Training images are moved by up to this many pixels in each direction; without it, the preset's.
        images: Train on this many images only: how much data does it take?
        seed: Of the weights, the order of the images and their shifts.
        device: "auto", "cpu", "cuda" or "mps".
        tta: Test-time augmentation: average over five shifted copies of each test image.
        resume: Go on with the run that was interrupted.
        figures: Draw what the network learned, and log the curves (a few seconds more).
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    data = datasets.mnist(source, download=True)
    print(f"data: {data.source}")
    if not data.is_real:
        torch.set_num_threads(1)  # the sample is small: threads would wait for one another longer than they work
    device = pick_device(device)
    presets = PRESETS if data.is_real else SAMPLE_PRESETS
    recipe = recipe_with(presets[preset], epochs=epochs, batch_size=batch_size, lr=lr, shift=shift)
    check_above_zero(recipe, "epochs", "batch_size", "lr")
    check(0 <= recipe["shift"] < 28, f"--shift {recipe['shift']}: the images are 28 pixels wide")

    seed_everything(seed)
    training, validation = datasets.hold_out(data.train, count=len(data.train) // 12)
    if images is not None:
        check(0 < images <= len(training), f"--images {images}: there are {len(training)} to train on")
        training = training[:images]
    model = Net(*mean_and_std(training.images)).to(device, memory_format=torch.channels_last)
    batches = training_batches(training, recipe["batch_size"], device, seed, recipe["shift"])
    validation_batches = plain_batches(validation, device)
    optimizer = make_optimizer(model, recipe["lr"])
    folder = paths.models("project1_mnist")
    settings = {"data": data.source, "images": len(training), "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project1_mnist"), settings) if figures else None

    started = time.perf_counter()
    history = fit(
        model,
        batches,
        optimizer,
        smoothed_loss,
        epochs=recipe["epochs"],
        scheduler=triangle(optimizer, steps=recipe["epochs"] * len(batches)),
        validate=lambda model: evaluate(model, validation_batches),
        checkpoints=folder,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    results = evaluation.measure(model, data, device, tta)
    path = folder / "model.pt"
    # The weights of the last step: with a learning rate that ends at 0 they are the best ones.
    # The accuracy of one look at each image: that is how predict.py and app.py use the network.
    save_model(path, model, classes=data.classes, source=data.source, accuracy=results["accuracy_without_tta"], seed=seed)
    check_saved(path, model, Net(), device)

    if figures:
        save_figure(
            draw_learning_curves(history, label("Learning rate", "학습률"), loss_scale="log"), __file__, "learning_curves"
        )
        evaluation.draw_everything(model, data, device)
        log.close()
    ours, baseline = results["accuracy"], results["baseline_accuracy"]
    check(ours > baseline + 0.05, f"the network ({ours:.3f}) is hardly better than the nearest mean image ({baseline:.3f})")
    return {**results, "validation_accuracy": history.epochs[-1]["accuracy"], "training_seconds": seconds}


if __name__ == "__main__":
    run(main, all_cores=True)
