"""Project 10 · Spoken digits · 말로 하는 숫자 인식

Train a small convolutional network on log-mel pictures of spoken digits, measure it, look into it, save it.
말로 한 숫자의 로그 멜 스펙트로그램을 작은 합성곱 신경망에 학습시키고, 평가하고, 속을 들여다보고, 저장한다.

Run        python -m study run speech                      (sample: under a minute; FSDD: about a minute)
           python -m study run speech --source sample --language ko
           python -m study run speech --resume             (go on after Ctrl-C or a crash)
Then       python -m study run speech/evaluate · speech/predict seven.wav · speech/speakers
           python -m study run speech/strings · speech/app  (whole numbers, and the microphone)
"""

import time

import torch
from torch.optim.lr_scheduler import LambdaLR

from project10_speech import evaluate as evaluation
from project10_speech.data import TrainingBatches, plain_batches
from project10_speech.model import DigitNet
from utils import paths, tracking
from utils.checkpoint import check_saved, save_model
from utils.datasets import Source
from utils.datasets.speech import Clips, Language, fsdd
from utils.device import pick_device
from utils.evaluation import draw_learning_curves
from utils.lesson import check, run
from utils.muon import Muon
from utils.plotting import label, save_figure
from utils.seeding import seed_everything
from utils.training import check_above_zero, classification_loss, evaluate, fit, recipe_with, rise_and_fall

# Chosen on takes 5 to 9 of FSDD and on computed voices that are held out, never on the test.
RECIPE = {"epochs": 12, "batch_size": 50, "lr": 0.1}
SAMPLE_RECIPE = {**RECIPE, "epochs": 5}
OTHER_LR = 0.01  # of the head, and of the biases and scales of batch norms


# %% The recipe
def make_optimizer(model: DigitNet, lr: float) -> Muon:
    """Muon for the filters of convolutions, as in project 2; SGD for all others.

    Muon turns the filters of a layer as a whole: four epochs of it do more for the computed voices than six of AdamW.

    Args:
        model: On its device.
        lr: How far a step turns the filters.
    """
    filters = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 4]
    groups = [
        {"params": filters, "lr": lr, "momentum": 0.6, "orthogonal": True},
        {"params": others, "lr": OTHER_LR, "momentum": 0.85, "weight_decay": 1e-3},
    ]
    return Muon(groups, dtype=torch.float32)


def prepare(training: Clips, recipe: dict, seed: int, device: torch.device) -> tuple[DigitNet, TrainingBatches, Muon, LambdaLR]:
    """Everything that `fit` wants: the network, the batches, the optimizer and its schedule.

    Args:
        training: The clips to learn from.
        recipe: "epochs", "batch_size" and "lr".
        seed: Of the order and of the variations of the clips; the network draws from the global generator.
        device: Where to compute.
    """
    model = DigitNet(training.rate).to(device)
    batches = TrainingBatches(training, recipe["batch_size"], device, seed)
    optimizer = make_optimizer(model, recipe["lr"])
    return model, batches, optimizer, rise_and_fall(optimizer, recipe["epochs"] * len(batches), rise=0.2)


# %% All of it, in order
def main(
    source: Source = "auto",
    language: Language = "en",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train on the Free Spoken Digit Dataset, or on computed voices where it is not; evaluate, draw and save.

    Args:
        source: "auto" (FSDD where it is on disk, else computed voices), "real" or "sample".
        language: Of the computed voices: "en" or "ko". FSDD is in English.
        epochs: Passes over the training clips; without it, 12 for FSDD and 5 for the sample.
        batch_size: Clips in a step.
        lr: How far a step turns the filters at its highest.
        seed: Of the weights, the order of the clips and how they are varied.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with the run that was interrupted.
        figures: Draw what the network learned, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    data = fsdd(source, language)
    print(f"data: {data.source}")
    where = pick_device(device)
    recipe = recipe_with(RECIPE if data.is_real else SAMPLE_RECIPE, epochs=epochs, batch_size=batch_size, lr=lr)
    check_above_zero(recipe, "epochs", "batch_size", "lr")
    check(recipe["batch_size"] > 1, "--batch-size 1: batch normalisation needs at least two clips")

    seed_everything(seed)
    network, batches, optimizer, schedule = prepare(data.train, recipe, seed, where)
    validation_batches = plain_batches(data.validation, where)
    folder = paths.models("project10_speech")
    settings = {"data": data.source, "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project10_speech"), settings) if figures else None
    started = time.perf_counter()
    history = fit(
        network,
        batches,
        optimizer,
        classification_loss,
        epochs=recipe["epochs"],
        scheduler=schedule,
        validate=lambda network: evaluate(network, validation_batches),
        checkpoints=folder / "digits",
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    results = evaluation.measure(network, data, where)
    path = folder / "digits.pt"
    about = {"words": list(data.words), "rate": data.train.rate, "source": data.source, "accuracy": results["accuracy"]}
    save_model(path, network, **about, seed=seed)
    check_saved(path, network, DigitNet(data.train.rate), where)

    if figures:
        save_figure(
            draw_learning_curves(history, label("Learning rate of the filters", "필터의 학습률")), __file__, "learning_curves"
        )
        evaluation.draw_everything(network, data, where)
        log.close()
    ours, baseline = results["accuracy"], results["baseline_accuracy"]
    check(
        1 - ours < (1 - baseline) / 2,
        f"the network ({ours:.3f}) is not clearly better than the nearest mean ({baseline:.3f}): more than half of its mistakes",
    )
    return {**results, "validation_accuracy": history.epochs[-1]["accuracy"], "training_seconds": seconds}


if __name__ == "__main__":
    run(main, all_cores=True)
