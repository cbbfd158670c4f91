"""Project 5 · Real-time detection · 실시간 객체 탐지

Train a small detector on drawn scenes, on blood cells or on pictures of your own, measure it, look at its mistakes, save it.
작은 검출기를 그린 장면, 혈액 세포 사진, 또는 직접 모은 사진으로 학습하고, 평가하고, 오류를 살펴보고, 저장한다.

Run        python -m study run detection                            (drawn scenes: a minute)
           python -m study run detection --preset fast              (a first look)
           python -m study run detection --preset camera            (for the webcam)
           python -m study run detection --data bccd                (blood cells)
           python -m study run detection --data folder --folder my_boxes      (your own: layout of VOC or COCO)
           python -m study run detection --resume                   (go on after Ctrl-C or a crash)
Try next   --mosaics 0.5 (half of the pictures are put together of four): first guess whether it helps within a minute, then look
Then       python -m study run detection/evaluate · detection/export · detection/predict picture.jpg · detection/app
"""

import time
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from project5_realtime_detection import evaluate as evaluation
from project5_realtime_detection.data import DetectionBatches, Kind, load
from project5_realtime_detection.finder import Finder, load_finder
from project5_realtime_detection.loss import detection_loss
from project5_realtime_detection.model import Convolution, Detector, load_network, save_network
from utils import checkpoint, paths, tracking
from utils.average_precision import mean_average_precision
from utils.datasets.boxes import DetectionData
from utils.device import autocast, has_bfloat16, pick_device
from utils.lesson import check, run
from utils.muon import Muon
from utils.plotting import save_figure
from utils.seeding import seed_everything
from utils.training import check_above_zero, fit, load_best, recipe_with, rise_and_fall

Preset = Literal["default", "fast", "camera"]

# Chosen on validation pictures, never on the test ones; README.md has what was tried.
#   side, scale    of the pictures in pixels, and by how much what is in them is enlarged at least and at most
#   lr, others_lr  how far a step turns the filters, and the learning rate of everything else
#   mosaics        share of pictures that are put together of four         paper   share of the scenes that are on paper
#   mirror         whether things may be mirrored                          scenes  to train, validate and test
QUICK = {"width": 16, "side": 160, "batch_size": 8, "lr": 0.1, "others_lr": 0.02, "scale": (0.8, 1.3), "mosaics": 0.0}
SCENES = {**QUICK, "mirror": False, "paper": 0.0, "scenes": (1000, 80, 250)}
CAMERA = {"side": 320, "epochs": 6, "scale": (0.3, 1.2), "mosaics": 0.5, "paper": 0.5, "scenes": (2000, 100, 300)}
PHOTOS = {**QUICK, "side": 320, "scale": (0.7, 1.8), "mirror": True, "epochs": 40}
PRESETS = {
    "scenes": {
        "default": {**SCENES, "epochs": 3},
        "fast": {**SCENES, "epochs": 2, "scenes": (700, 50, 100)},
        "camera": {**SCENES, **CAMERA},
    },
    "bccd": {"default": PHOTOS, "fast": {**PHOTOS, "epochs": 4}},
    "folder": {"default": {**PHOTOS, "mirror": False}, "fast": {**PHOTOS, "mirror": False, "epochs": 4}},
}


# %% The recipe
def compute_loss(model: Detector, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The loss of a batch (`loss.detection_loss`); convolutions in bfloat16 where the device is fast in it."""
    with autocast(batch[0].device, on_cpu=True):
        return detection_loss(model, batch)


def make_optimizer(model: Detector, lr: float, others_lr: float) -> Muon:
    """Muon for the filters that a batch norm follows; SGD with momentum for everything else.

    In as many steps as fit into a minute Muon goes much farther than AdamW (README.md has the numbers).
    """
    filters = [module.convolution.weight for module in model.modules() if isinstance(module, Convolution)]
    known = {id(parameter) for parameter in filters}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [
        {"params": filters, "lr": lr, "momentum": 0.6, "orthogonal": True},
        {"params": others, "lr": others_lr, "momentum": 0.85},
    ]
    return Muon(groups, dtype=torch.bfloat16 if has_bfloat16(filters[0].device) else torch.float32)


def prepare(data: DetectionData, recipe: dict, seed: int, device: torch.device) -> tuple[Detector, DetectionBatches, Muon]:
    """What there is to train: a network with random weights, batches, and the optimizer.

    Args:
        data: To learn from.
        recipe: Settings as in PRESETS.
        seed: Of the order and the augmentation; the network draws from the global generator.
        device: Where to compute.
    """
    model = Detector(len(data.classes), recipe["width"]).to(device, memory_format=torch.channels_last)
    augmentation = {name: recipe[name] for name in ("scale", "mosaics", "mirror")}
    batches = DetectionBatches(data.train, recipe["side"], recipe["batch_size"], seed, **augmentation)
    return model, batches, make_optimizer(model, recipe["lr"], recipe["others_lr"])


def validation_numbers(model: nn.Module, data: DetectionData, side: int) -> dict[str, float]:
    """Average precision on the validation pictures: "map_50" at an overlap of 0.5, "map" over 0.5 to 0.95."""
    finder = Finder(model, data.classes, side, data.source, next(model.parameters()).device)
    found = evaluation.look(finder, data.validation)
    precision = mean_average_precision(found, data.validation.boxes, data.validation.labels, len(data.classes))
    return {"map_50": precision.at_50, "map": precision.mean}


# %% All of it, in order
def main(
    data: Kind = "scenes",
    folder: Path | None = None,
    preset: Preset = "default",
    width: int | None = None,
    side: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    mosaics: float | None = None,
    mirror: bool | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train a detector, measure it on test pictures, draw its mistakes and save it; then it can be used.

    Args:
        data: "scenes" (drawn here), "bccd" (blood cells, from disk) or "folder" (your own).
        folder: Where your pictures are: the layout of Pascal VOC or of COCO (README.md).
        preset: "default", "fast" for a first look, or "camera" for scenes as a webcam sees them.
        width: Channels of the first layer; without it, the preset's.
        side: Width and height of what the network sees, in pixels; without it, the preset's.
        epochs: Passes over the pictures; without it, the preset's.
        batch_size: Pictures in a step; without it, the preset's.
        lr: How far a step turns the filters at most; without it, the preset's.
        mosaics: Share of the pictures that are put together of four; without it, the preset's.
        mirror: Whether things may be mirrored, both ways; without it, the preset's.
        seed: Of the weights, the order and the augmentation.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with the run that was interrupted.
        figures: Draw, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    check(preset in PRESETS[data], f"--preset {preset} is for scenes; --data {data} has {' and '.join(PRESETS[data])}")
    recipe = recipe_with(
        PRESETS[data][preset],
        width=width, side=side, epochs=epochs, batch_size=batch_size, lr=lr, mosaics=mosaics, mirror=mirror,
    )  # fmt: skip
    check_above_zero(recipe, "width", "side", "epochs", "batch_size", "lr")
    check(recipe["width"] % 2 == 0, "--width must be even")
    check(recipe["side"] % 32 == 0, "--side must be a multiple of 32: the coarsest map has a cell for 32 pixels")
    check(0 <= recipe["mosaics"] <= 1, "--mosaics is a share: from 0 to 1")
    where = pick_device(device)
    drawn = {name: recipe[name] for name in ("scenes", "paper") if name in recipe}
    pictures = load(data, recipe["side"], folder, **drawn)
    print(f"data: {pictures.source}")

    seed_everything(seed)
    model, batches, optimizer = prepare(pictures, recipe, seed, where)
    place = paths.models("project5_realtime_detection")
    settings = {"data": pictures.source, "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project5_realtime_detection"), settings) if figures else None
    started = time.perf_counter()
    history = fit(
        model,
        batches,
        optimizer,
        compute_loss,
        epochs=recipe["epochs"],
        scheduler=rise_and_fall(optimizer, steps=recipe["epochs"] * len(batches)),
        validate=lambda model: validation_numbers(model, pictures, recipe["side"]),
        monitor="map",  # of a few hundred objects, mAP@0.5 alone jumps about
        checkpoints=place,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    load_best(model, place)
    path = place / "model.pt"
    best = history.epochs[history.best_epoch]
    save_network(path, model, pictures.classes, recipe["side"], pictures.source, best["map_50"], recipe=recipe, seed=seed)
    checkpoint.check_saved(path, model, load_network(path, where)[0], where)
    results, found, precision = evaluation.measure(load_finder(path, device=device), pictures)
    if figures:
        save_figure(evaluation.draw_learning_curves(history), __file__, "learning_curves")
        evaluation.draw_results(found, precision, pictures)
        log.close()
    ours, baseline = results["map_50"], results["baseline_map_50"]
    check(ours > baseline + 0.1, f"mAP@0.5 is {ours:.3f}: hardly better than boxes drawn without looking ({baseline:.3f})")
    results |= {"validation_map_50": best["map_50"], "best_epoch": history.best_epoch + 1}
    return {**results, "training_seconds": seconds}


if __name__ == "__main__":
    run(main, all_cores=True)
