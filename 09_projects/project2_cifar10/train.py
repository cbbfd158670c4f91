"""Project 2 · Small pictures of ten kinds · 작은 컬러 사진 분류

Train a convolutional network on CIFAR-10, measure it, look into it, save it. Every step of the recipe is a function of its own.
합성곱 신경망을 CIFAR-10으로 학습하고, 평가하고, 속을 들여다보고, 저장한다. 학습 레시피의 단계마다 함수가 하나씩 있다.

Run        python -m study run cifar10                     (sample: under a minute; CIFAR-10: 2.5 minutes on two CPU cores)
           python -m study run cifar10 --preset fast       (a first look)
           python -m study run cifar10 --preset long       (25 minutes)
           python -m study run cifar10 --preset record     (a GPU)
           python -m study run cifar10 --resume            (go on after Ctrl-C or a crash)
Try next   --images 500 (a tenth of the sample's pictures, and of the steps): first guess the accuracy, then look
Then       python -m study run cifar10/evaluate · cifar10/predict picture.jpg · cifar10/app
"""

import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from project2_cifar10 import evaluate as evaluation
from project2_cifar10.data import TrainingBatches, mean_and_std
from project2_cifar10.model import Classifier, make_model
from project2_cifar10.whitening import whiten_first_layer
from utils import datasets, paths, tracking
from utils.batches import Batches, to_pixels
from utils.checkpoint import check_saved, save_model
from utils.datasets import Images, Source
from utils.device import autocast, has_bfloat16, pick_device
from utils.evaluation import draw_learning_curves, plain_batches
from utils.lesson import check, run
from utils.muon import Muon
from utils.plotting import label, save_figure
from utils.seeding import seed_everything
from utils.training import check_above_zero, evaluate, fit, recipe_with

Preset = Literal["default", "fast", "long", "record"]
Name = Literal["small", "medium", "wideresnet", "resnet18"]

# "default" and "long" were chosen on 5,000 training images that were held out, never on the test set; benchmarks/README.md has
# what was tried. The others follow from them.
#   lr             how far a step turns the filters          head_lr   learning rate of the last layer
#   decay          weight decay of all but the filters, for each image of a batch
#   sizes          of the pictures, in equal parts of the run
#   shift, cutout  in pixels; no preset cuts anything out, `benchmarks/cifar10.py ablation` tries it
QUICK = {"model": "small", "batch_size": 500, "lr": 0.24, "head_lr": 6.0, "decay": 5e-7, "shift": 2, "cutout": 0}
PRESETS = {
    "default": {**QUICK, "epochs": 5, "sizes": (20, 24, 32)},
    "fast": {**QUICK, "epochs": 1, "sizes": (20, 24, 32), "shift": 1},
    "long": {**QUICK, "model": "medium", "epochs": 22, "sizes": (24, 28, 32)},
    # After airbench94_muon (Jordan, 2024), which reports 94.0 % on the official files with 8 epochs of all images. Of this one
    # only the first steps were tried, on a CPU; the whole of it, on a GPU, was not.
    "record": {**QUICK, "model": "medium", "epochs": 10, "batch_size": 2000, "head_lr": 0.67, "decay": 2e-6, "sizes": (32,)},
}
SAMPLE_PRESETS = {
    "default": {**QUICK, "batch_size": 100, "epochs": 6, "sizes": (20, 32)},
    "fast": {**QUICK, "batch_size": 100, "epochs": 3, "sizes": (20, 32)},
}
SMOOTHING = 0.2


# %% The recipe, step by step
def smoothed_loss(model: nn.Module, batch: tuple[Tensor, Tensor], smoothing: float = SMOOTHING) -> Tensor:
    """Cross entropy against softened targets: 0.82 for the right class, 0.02 for each other one.

    A network that must not be quite certain generalises better (Szegedy et al., 2016), and a short run gains more by it.
    """
    pixels, labels = batch
    with autocast(pixels.device, on_cpu=True):
        logits = model(pixels)
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def make_optimizer(model: Classifier, recipe: dict) -> Muon:
    """Muon for the filters of convolutions; SGD for the head and for the biases and scales of batch norms.

    Args:
        model: On its device.
        recipe: "lr", "head_lr", "decay" and "batch_size": a step of more images decays more, so that an epoch decays as much.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    filters = [parameter for parameter in trained if parameter.ndim == 4]
    others = [parameter for parameter in trained if parameter.ndim == 1]
    decay = recipe["decay"] * recipe["batch_size"]  # the share that one step takes away; SGD multiplies it by the learning rate
    head_lr = recipe["head_lr"]
    groups = [
        {"params": filters, "lr": recipe["lr"], "momentum": 0.6, "orthogonal": True},
        {"params": others, "lr": 0.03, "momentum": 0.85, "weight_decay": decay / 0.03},
        {"params": [model.head.weight], "lr": head_lr, "momentum": 0.85, "weight_decay": decay / head_lr},
    ]
    return Muon(groups, dtype=torch.bfloat16 if has_bfloat16(model.mean.device) else torch.float32)


def fall(optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """Lower the learning rates on a straight line to 0. No slow start: whitened input and orthogonal steps need none."""
    return LambdaLR(optimizer, lambda step: 1 - step / steps)


def prepare(
    training: Images, classes: int, recipe: dict, seed: int, device: torch.device
) -> tuple[Classifier, TrainingBatches, Muon, LambdaLR]:
    """Everything that `fit` wants: the network, the batches, the optimizer and its schedule.

    Args:
        training: The images to train on.
        classes: How many there are.
        recipe: Settings as in PRESETS.
        seed: Of the order and the augmentation of the images; the network draws from the global generator.
        device: Where to compute.
    """
    recipe = {**recipe, "batch_size": min(recipe["batch_size"], len(training))}
    model = make_model(recipe["model"], classes, *mean_and_std(training.images))
    if recipe["model"] in ("small", "medium"):
        whiten_first_layer(model.features[0], (to_pixels(training.images[:5000]) - model.mean) / model.std)
    model.to(device, memory_format=torch.channels_last)
    augmentation = {name: recipe[name] for name in ("epochs", "sizes", "shift", "cutout")}
    batches = TrainingBatches(training, recipe["batch_size"], device, seed, **augmentation)
    optimizer = make_optimizer(model, recipe)
    return model, batches, optimizer, fall(optimizer, steps=recipe["epochs"] * len(batches))


def validation_numbers(model: nn.Module, batches: Batches) -> dict[str, float]:
    """Loss and accuracy as `utils.training.evaluate`, in the precision that training has."""
    with autocast(next(model.parameters()).device, on_cpu=True):
        return evaluate(model, batches)


# %% All of it, in order
def main(
    source: Source = "auto",
    preset: Preset = "default",
    model: Name | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    images: int | None = None,
    seed: int = 0,
    device: str = "auto",
    tta: bool = True,
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train on CIFAR-10, or on our own drawn sample where CIFAR-10 cannot be had; evaluate, draw and save.

    Args:
        source: "auto" (CIFAR-10 from disk or the network, else the sample), "real" (never the sample) or "sample".
        preset: "default" for 2.5 minutes on two CPU cores, "fast" for a first look, "long" for 25 minutes, "record" for a GPU.
        model: "small", "medium", or the much slower "wideresnet" and "resnet18"; without it, the preset's.
        epochs: Passes over the training images; without it, the preset's.
        batch_size: Images in a step; without it, the preset's.
        lr: How far a step turns the filters at first; without it, the preset's.
        images: Train on this many images only: how much data does it take?
        seed: Of the weights, the order of the images and how they are augmented.
        device: "auto", "cpu", "cuda" or "mps".
        tta: Test-time augmentation: average over mirrored and shifted copies of each test image.
        resume: Go on with the run that was interrupted.
        figures: Draw what the network learned, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    data = datasets.cifar10(source, download=True)
    print(f"data: {data.source}")
    where = pick_device(device)
    presets = PRESETS if data.is_real else SAMPLE_PRESETS
    check(preset in presets, f"--preset {preset} is for CIFAR-10; the sample has {' and '.join(presets)}")
    recipe = recipe_with(presets[preset], model=model, epochs=epochs, batch_size=batch_size, lr=lr)
    check_above_zero(recipe, "epochs", "batch_size", "lr")

    seed_everything(seed)
    training, validation = datasets.hold_out(data.train, count=len(data.train) // 25)
    if images is not None:
        check(0 < images <= len(training), f"--images {images}: there are {len(training)} to train on")
        training = training[:images]
    network, batches, optimizer, schedule = prepare(training, len(data.classes), recipe, seed, where)
    validation_batches = plain_batches(validation, where)
    folder = paths.models("project2_cifar10")
    settings = {"data": data.source, "images": len(training), "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project2_cifar10"), settings) if figures else None
    if preset == "record" and where.type == "cuda":
        network.compile()  # in place: the names of the weights stay as they are

    started = time.perf_counter()
    history = fit(
        network,
        batches,
        optimizer,
        smoothed_loss,
        epochs=recipe["epochs"],
        scheduler=schedule,
        validate=lambda network: validation_numbers(network, validation_batches),
        checkpoints=folder,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    results = evaluation.measure(network, data, where, tta)
    path = folder / "model.pt"
    about = {"name": recipe["model"], "classes": data.classes, "source": data.source, "seed": seed}
    # The accuracy of one look at each image: that is how predict.py and app.py use the network.
    about |= {"accuracy": results["accuracy_without_tta"], "temperature": evaluation.temperature_for(network, validation, where)}
    save_model(path, network, **about)
    check_saved(path, network, make_model(recipe["model"], len(data.classes)), where)

    if figures:
        rate = label("Learning rate of the filters", "필터의 학습률")
        save_figure(draw_learning_curves(history, rate), __file__, "learning_curves")
        evaluation.draw_everything(network, data, where)
        log.close()
    ours, baseline = results["accuracy"], results["baseline_accuracy"]
    check(ours > baseline + 0.1, f"the network ({ours:.3f}) is hardly better than the nearest mean image ({baseline:.3f})")
    return {**results, "validation_accuracy": history.epochs[-1]["accuracy"], "training_seconds": seconds}


if __name__ == "__main__":
    run(main, all_cores=True)
