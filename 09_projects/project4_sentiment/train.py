"""Project 4 · Praise or complaint? · 리뷰 감성 분류

Train a network to judge reviews in English and Korean, teach it how sure it may be, measure it, save it.
영어와 한국어 리뷰를 판정하는 신경망을 학습하고, 확신의 정도를 보정하고, 평가하고, 저장한다.

Run        python -m study run sentiment                     (sample: under a minute; real reviews: five on one core)
           python -m study run sentiment --preset fast       (a first look)
           python -m study run sentiment --resume            (go on after Ctrl-C or a crash)
Try next   --reviews 500 (of each language): first guess what becomes of counting words, and of the network, then look
Then       python -m study run sentiment/evaluate · sentiment/predict "The soup was not salty." · sentiment/app
"""

import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from project4_sentiment import evaluate as evaluation
from project4_sentiment.data import ReviewBatches, ReviewSet, all_of, load, told_source
from project4_sentiment.model import ReviewClassifier, Shape, load_network, save_network
from project4_sentiment.predict import Judge
from project4_sentiment.words import Lexicon, learn_lexicon
from utils import checkpoint, paths, tracking
from utils.datasets import Source
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import save_figure
from utils.seeding import seed_everything
from utils.training import check_above_zero, fit, load_best, recipe_with, rise_and_fall

Preset = Literal["default", "fast"]

# Chosen on the validation reviews, never on the test ones; README.md has what was tried.
PRESETS = {
    "default": {"pieces": 40_000, "width": 64, "hidden": 64, "epochs": 8, "batch_size": 64, "lr": 3e-3, "dropout": 0.5},
    "fast": {"pieces": 30_000, "width": 48, "hidden": 48, "epochs": 2, "batch_size": 64, "lr": 4e-3, "dropout": 0.4},
}
SAMPLE_PRESETS = {
    "default": {"pieces": 4000, "width": 48, "hidden": 48, "epochs": 10, "batch_size": 32, "lr": 5e-3, "dropout": 0.1},
    "fast": {"pieces": 4000, "width": 48, "hidden": 48, "epochs": 6, "batch_size": 32, "lr": 5e-3, "dropout": 0.1},
}


# %% The recipe
def review_loss(model: ReviewClassifier, batch: tuple[Tensor, Tensor], words: Tensor) -> Tensor:
    """Cross entropy of a batch (texts, labels); `words` says what the texts' numbers mean (`data.ReviewBatches`)."""
    texts, labels = batch
    return F.binary_cross_entropy_with_logits(model(words, texts).float(), labels)


def make_optimizer(model: ReviewClassifier, lr: float) -> torch.optim.AdamW:
    """AdamW; the vectors of pieces are not decayed, or the rare ones would vanish before they come again."""
    vectors = [model.pieces.weight]
    others = [parameter for name, parameter in model.named_parameters() if name != "pieces.weight"]
    return torch.optim.AdamW([{"params": others, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], lr)


def validation_numbers(judge: Judge, data: dict[str, ReviewSet]) -> dict[str, float]:
    """Accuracy on the held-out reviews of each set, and its mean over the sets: each counts as much, however small."""
    numbers = {}
    for name, one in data.items():
        found = evaluation.judged(judge, one.validation)
        numbers[f"accuracy_{name}"] = ((found > 0) == one.validation.labels.bool()).float().mean().item()
    return {"accuracy": sum(numbers.values()) / len(numbers), **numbers}


def prepare(
    data: dict[str, ReviewSet], recipe: dict, seed: int, device: torch.device
) -> tuple[ReviewClassifier, Lexicon, ReviewBatches]:
    """What there is to train: a network with random weights, what it knows, and the batches.

    Args:
        data: The sets; it learns from all of them together.
        recipe: Settings as in PRESETS.
        seed: Of the order of the reviews; the network draws from the global generator.
        device: Where to compute.
    """
    training = all_of([one.train for one in data.values()])
    lexicon = learn_lexicon(training.texts, recipe["pieces"])
    model = ReviewClassifier(Shape(len(lexicon), recipe["width"], recipe["hidden"]), recipe["dropout"]).to(device)
    return model, lexicon, ReviewBatches(lexicon, training, recipe["batch_size"], device, seed)


# %% All of it, in order
def main(
    source: Source = "auto",
    preset: Preset = "default",
    pieces: int | None = None,
    width: int | None = None,
    hidden: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    dropout: float | None = None,
    reviews: int | None = None,
    seed: int = 0,
    device: str = "auto",
    baseline: bool = True,
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train a classifier of reviews, calibrate and evaluate it, draw and save; then it can be asked.

    Args:
        source: "auto" (those of NSMC, MR and IMDb that are there, else the sample), "real" (all three) or "sample".
        preset: "default", or "fast" for a first look.
        pieces: Pieces of words to know; without it, the preset's.
        width: Numbers in the vector of a word; without it, the preset's.
        hidden: Numbers in the state of each LSTM; without it, the preset's.
        epochs: Passes over the reviews; without it, the preset's.
        batch_size: Reviews in a step; without it, the preset's.
        lr: The highest learning rate; without it, the preset's.
        dropout: Share of the numbers that are dropped in training; without it, the preset's.
        reviews: Train on this many reviews of each set only: how much data does it take?
        seed: Of the weights and of the order.
        device: "auto", "cpu", "cuda" or "mps".
        baseline: Compare with counting words.
        resume: Go on with the run that was interrupted.
        figures: Draw, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    check(reviews is None or reviews > 0, "--reviews must be above 0")
    data = load(source, reviews)
    told = told_source(data)
    print(f"data: {told}")
    is_real = all(one.is_real for one in data.values())
    where = pick_device(device)
    recipe = recipe_with(
        (PRESETS if is_real else SAMPLE_PRESETS)[preset],
        pieces=pieces, width=width, hidden=hidden, epochs=epochs, batch_size=batch_size, lr=lr, dropout=dropout,
    )  # fmt: skip
    check_above_zero(recipe, "pieces", "width", "hidden", "epochs", "batch_size", "lr")
    check(0 <= recipe["dropout"] < 1, "--dropout is a share: at least 0, and below 1")

    seed_everything(seed)
    model, lexicon, batches = prepare(data, recipe, seed, where)
    plain = Judge(model, lexicon, temperature=1.0)
    folder = paths.models("project4_sentiment")
    settings = {"data": told, "reviews": reviews, "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project4_sentiment"), settings) if figures else None

    optimizer = make_optimizer(model, recipe["lr"])
    started = time.perf_counter()
    history = fit(
        model,
        batches,
        optimizer,
        lambda model, batch: review_loss(model, batch, batches.words),
        epochs=recipe["epochs"],
        scheduler=rise_and_fall(optimizer, steps=recipe["epochs"] * len(batches)),
        validate=lambda _: validation_numbers(plain, data),
        clip_norm=1.0,
        checkpoints=folder,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    load_best(model, folder)
    validation = all_of([one.validation for one in data.values()])
    judge = Judge(model, lexicon, evaluation.find_temperature(plain, validation))
    results = evaluation.measure(judge, data, baseline) | evaluation.measure_by_hand(judge)
    path = folder / "model.pt"
    about = {"temperature": judge.temperature, "source": told, "accuracy": results["accuracy"], "seed": seed}
    save_network(path, model, lexicon, **about)
    checkpoint.check_saved(path, model, load_network(path, where)[0], where)
    evaluation.show_answers(judge)
    if figures:
        save_figure(evaluation.draw_learning_curves(history), __file__, "learning_curves")
        evaluation.draw_results(judge, data, results)
        log.close()
    # Counting words tells real reviews apart so well that the network may be a little below; the sample was made to need order.
    least = max(0.5, results.get("baseline_accuracy", 0.0)) + (-0.05 if is_real else 0.05)
    check(results["accuracy"] > least, f"an accuracy of {results['accuracy']:.3f} is not enough: it should be above {least:.3f}")
    best = history.epochs[history.best_epoch]["accuracy"]
    results |= {"validation_accuracy": best, "best_epoch": history.best_epoch + 1, "temperature": judge.temperature}
    return {**results, "training_seconds": seconds}


if __name__ == "__main__":
    run(main)
