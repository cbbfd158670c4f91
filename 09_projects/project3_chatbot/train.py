"""Project 3 · A chatbot · 챗봇

Train a small Llama to answer in English and Korean, measure it on dialogues it has never seen, save it with its tokenizer.
작은 Llama가 영어와 한국어로 답하도록 학습하고, 처음 보는 대화로 평가하고, 토크나이저와 함께 저장한다.

Run        python -m study run chatbot                     (sample: about a minute; real dialogues: six to ten on one CPU core)
           python -m study run chatbot --preset fast       (a first look)
           python -m study run chatbot --resume            (go on after Ctrl-C or a crash)
Try next   --exercises 0 (no "repeat after me" before the dialogues): first guess what becomes of recall_at_1, then look
Then       python -m study run chatbot/evaluate · chatbot/talk · chatbot/app
"""

import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from project3_chatbot import evaluate as evaluation
from project3_chatbot.data import (
    IGNORED,
    DialogueBatches,
    chains,
    exercises,
    learn_tokenizer,
    load,
    pairs,
    targets,
    training_rows,
)
from project3_chatbot.model import encode, load_network, make_model, save_network
from utils import checkpoint, paths, tracking
from utils.datasets import Source
from utils.device import pick_device
from utils.lesson import check, run
from utils.networks.llama import Llama
from utils.plotting import save_figure
from utils.seeding import seed_everything
from utils.training import History, check_above_zero, fit, load_best, recipe_with, rise_and_fall

Preset = Literal["default", "fast"]

# The sample's default was chosen on the validation dialogues, never on the test ones. That of the real dialogues follows from it
# and from what ten minutes allow.
PRESETS = {
    "default": {"vocab": 4000, "width": 128, "layers": 3, "exercises": 40_000, "epochs": 6, "batch_size": 48, "lr": 3e-3},
    "fast": {"vocab": 2000, "width": 96, "layers": 2, "exercises": 30_000, "epochs": 2, "batch_size": 48, "lr": 3e-3},
}
SAMPLE_PRESETS = {
    "default": {"vocab": 1000, "width": 64, "layers": 2, "exercises": 24_000, "epochs": 8, "batch_size": 32, "lr": 5e-3},
    "fast": {"vocab": 600, "width": 64, "layers": 2, "exercises": 10_000, "epochs": 2, "batch_size": 32, "lr": 5e-3},
}
LONGEST = 128  # tokens of a dialogue that are learned
REPEATED = 40  # of so many exercises one comes again among the dialogues, so that it is not forgotten


# %% The recipe
def reply_loss(model: Llama, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross entropy, in nats a token, over what the bot has to say in a batch (tokens, targets), each (batch, time)."""
    tokens, following = batch
    return F.cross_entropy(model(tokens).flatten(0, 1).float(), following.flatten(), ignore_index=IGNORED)


def make_optimizer(model: Llama, lr: float) -> torch.optim.AdamW:
    """AdamW; weight decay for the matrices only, not for the scales of the norms."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    scales = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": scales, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr, betas=(0.9, 0.98))


def learn(model: Llama, rows: list, recipe: dict, device: torch.device, seed: int, **more) -> History:
    """One call of `fit`, with the recipe's optimizer and schedule.

    Args:
        model: On its device.
        rows: Tokens and targets.
        recipe: "epochs", "batch_size" and "lr".
        device: Where the model is.
        seed: Of the order.
        more: What `fit` gets beside.
    """
    batches = DialogueBatches(rows, recipe["batch_size"], device, seed)
    optimizer = make_optimizer(model, recipe["lr"])
    schedule = rise_and_fall(optimizer, steps=recipe["epochs"] * len(batches))
    return fit(model, batches, optimizer, reply_loss, epochs=recipe["epochs"], scheduler=schedule, clip_norm=1.0, **more)


# %% All of it, in order
def main(
    source: Source = "auto",
    preset: Preset = "default",
    vocab: int | None = None,
    width: int | None = None,
    layers: int | None = None,
    exercises: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    dialogues: int | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train a chatbot, evaluate it, draw and save; then it can be talked to.

    Args:
        source: "auto" (DailyDialog and Chatbot_data where they are, else the sample), "real" (never the sample) or "sample".
        preset: "default", or "fast" for a first look.
        vocab: Tokens of the tokenizer; without it, the preset's.
        width: Numbers per token, in steps of 32; without it, the preset's.
        layers: Blocks; without it, the preset's.
        exercises: Made-up dialogues of random words that come first; without it, the preset's; 0 for none.
        epochs: Passes over the dialogues; without it, the preset's.
        batch_size: Dialogues in a step; without it, the preset's.
        lr: The highest learning rate; without it, the preset's.
        dialogues: Train on this many dialogues of each language only: how much data does it take?
        seed: Of the weights, the exercises and the order.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with the run that was interrupted.
        figures: Draw, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    data = load(source)
    told = evaluation.told_source(data)
    print(f"data: {told}")
    is_real = all(one.is_real for one in data.values())
    if not is_real:
        torch.set_num_threads(1)  # the sample's model is small: threads would wait for one another longer than they work
    where = pick_device(device)
    recipe = recipe_with(
        (PRESETS if is_real else SAMPLE_PRESETS)[preset],
        vocab=vocab, width=width, layers=layers, exercises=exercises, epochs=epochs, batch_size=batch_size, lr=lr,
    )  # fmt: skip
    check_above_zero(recipe, "layers", "epochs", "batch_size", "lr")
    check(recipe["exercises"] >= 0, "--exercises must not be below 0")
    check(recipe["width"] > 0 and recipe["width"] % 32 == 0, f"--width {recipe['width']}: heads are 32 wide, so 32, 64, 96, ...")
    fewest = min(len(one.train) for one in data.values())
    check(dialogues is None or 0 < dialogues <= fewest, f"--dialogues {dialogues}: there are {fewest} in one of the languages")

    seed_everything(seed)
    training = [turns for one in data.values() for turns in one.train[:dialogues]]
    validation = [pair for one in data.values() for pair in pairs(one.validation)]
    tokenizer = learn_tokenizer(training, recipe["vocab"])
    model = make_model(len(tokenizer), recipe["width"], recipe["layers"]).to(where)
    folder = paths.models("project3_chatbot")
    settings = {"data": told, "dialogues": len(training), "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project3_chatbot"), settings) if figures else None

    started = time.perf_counter()
    made = chains(make_exercises(training, recipe["exercises"], seed), seed)
    if made:
        print(f"\n1. {len(made):,} exercises: repeat some of my words")
        rows = [(tokens, targets(tokenizer, tokens)) for tokens in (encode(tokenizer, turns) for turns in made)]
        once = {**recipe, "epochs": 1}
        learn(model, rows, once, where, seed, checkpoints=folder / "exercises", resume=resume, settings=settings)
    print(f"\n2. {len(training):,} dialogues")
    rows = training_rows(tokenizer, training, LONGEST, made[::REPEATED], seed)
    history = learn(
        model,
        rows,
        recipe,
        where,
        seed,
        validate=lambda model: evaluation.reply_loss(model, tokenizer, validation),
        monitor="loss",
        checkpoints=folder,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    # Later epochs know the training dialogues by heart, and answer others worse: the best epoch is kept, not the last.
    load_best(model, folder)
    results = evaluation.measure(model, tokenizer, data)
    path = folder / "model.pt"
    save_network(path, model, tokenizer, told, results)
    checkpoint.check_saved(path, model, load_network(path, where)[0], where)
    evaluation.show_answers(model, tokenizer)
    if figures:
        save_figure(evaluation.draw_learning_curves(history), __file__, "learning_curves")
        save_figure(evaluation.draw_recall(results), __file__, "recall")
        log.close()
    ours, counted = results["perplexity"], results["unigram_perplexity"]
    check(ours < 0.6 * counted, f"a perplexity of {ours:.0f} is hardly better than counting tokens ({counted:.0f})")
    best = history.epochs[history.best_epoch]["loss"]
    return {**results, "validation_loss": best, "best_epoch": history.best_epoch + 1, "training_seconds": seconds}


def make_exercises(training: list, count: int, seed: int) -> list:
    """`data.exercises`, under a name that the flag --exercises does not hide."""
    return exercises(training, count, seed)


if __name__ == "__main__":
    run(main, all_cores=True)
