"""Project 9 · Picture to sentence · 이미지 캡셔닝

Train a network to say in English and Korean what is in a picture, compare it with what can be said without looking, save it.
그림에 무엇이 있는지 영어와 한국어로 말하는 신경망을 학습하고, 그림을 보지 않고 할 수 있는 말과 비교하고, 저장한다.

Run        python -m study run captioning                     (sample: two and a half minutes on one slow core)
           python -m study run captioning --preset fast       (a first look)
           python -m study run captioning --resume            (go on after Ctrl-C or a crash)
Try next   --epochs 1: first guess how many known combinations are right after one pass, and how many new ones, then look
Then       python -m study run captioning/evaluate · captioning/predict drawing.png · captioning/app
"""

import time
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from project9_captioning import evaluate as evaluation
from project9_captioning.data import CaptionSet, all_sentences, encode, load, make_batches, unknown_share
from project9_captioning.model import Captioner, Shape, load_network, save_network
from project9_captioning.predict import Describer
from project9_captioning.words import SPECIAL, Vocabulary, learn_vocabulary
from utils import checkpoint, paths, tracking
from utils.batches import Batches
from utils.datasets import Source
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.networks.translator import PAD
from utils.plotting import save_figure
from utils.seeding import seed_everything
from utils.training import check_above_zero, fit, load_best, recipe_with, rise_and_fall

Preset = Literal["default", "fast"]

# Of the sample chosen on the validation scenes, never on the test ones. Those for Flickr8k are a beginning: it was not there.
PRESETS = {
    "default": {"width": 256, "layers": 3, "epochs": 20, "batch_size": 64, "lr": 1e-3, "dropout": 0.3, "covered": 0.1},
    "fast": {"width": 128, "layers": 2, "epochs": 6, "batch_size": 64, "lr": 1e-3, "dropout": 0.2, "covered": 0.1},
}
SAMPLE_PRESETS = {
    "default": {"width": 64, "layers": 2, "epochs": 3, "batch_size": 16, "lr": 3e-3, "dropout": 0.0, "covered": 1.0},
    "fast": {"width": 64, "layers": 2, "epochs": 1, "batch_size": 16, "lr": 3e-3, "dropout": 0.0, "covered": 1.0},
}
REAL_SIDE = 112  # pixels of Flickr8k's pictures
HEADS = 4
NAMING = 0.1  # what the second part of the loss weighs, which is a sum over all words


# %% The recipe
def caption_loss(model: Captioner, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross entropy of what follows each token, and of which words are about the picture at all.

    The second part asks the places of the picture for words, without any sentence (compare Fang et al., 2015,
    https://arxiv.org/abs/1411.4952): else the CNN learns nothing before the decoder knows where to look.
    """
    images, tokens = batch  # (batch, captions, steps)
    logits, found = model(images, tokens[..., :-1])
    writing = F.cross_entropy(logits.float().flatten(0, 2), tokens[..., 1:].flatten(), ignore_index=PAD)
    is_said = torch.zeros_like(found).scatter_(1, tokens.flatten(1), 1.0)  # (batch, vocabulary), in any of its captions
    naming = F.binary_cross_entropy_with_logits(found.float(), is_said.float(), reduction="none")[:, len(SPECIAL) :]
    return writing + NAMING * naming.sum(dim=1).mean()


def blind_loss(model: Captioner, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross entropy of all captions where every picture is the same grey one: it is read once and shown to all."""
    images, tokens = batch
    captions = tokens.flatten(0, 1)  # (batch * captions, steps)
    rows = torch.zeros(len(captions), dtype=torch.int64, device=tokens.device)
    logits = model.write(captions[:, :-1], model.read(evaluation.nothing_to_see(images[:1])).select(rows)).float()
    return F.cross_entropy(logits.flatten(0, 1), captions[:, 1:].flatten(), ignore_index=PAD)


def make_optimizer(model: Captioner, lr: float) -> torch.optim.AdamW:
    """AdamW; matrices and kernels are decayed, vectors (norms, biases) are not."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr, (0.9, 0.98), fused=True)


def prepare(data: CaptionSet, recipe: dict, seed: int, device: torch.device) -> tuple[Captioner, Vocabulary, Batches]:
    """What there is to train: a network with random weights, what it knows, and the batches.

    Args:
        data: Pictures with captions.
        recipe: Settings as in PRESETS.
        seed: Of the order of the pictures; the network draws from the global generator.
        device: Where to compute.
    """
    vocabulary = learn_vocabulary(all_sentences(data.train), least=5 if data.is_real else 1)
    shape = Shape(data.train.images.shape[-1], len(vocabulary), recipe["width"], HEADS, recipe["layers"])
    model = Captioner(shape, recipe["dropout"], recipe["covered"]).to(device)
    tokens = encode(vocabulary, data.train, model.longest)
    unknown = [unknown_share(encode(vocabulary, one, model.longest)) for one in (data.train, data.validation)]
    mention("data", f"{len(vocabulary):,} tokens; unknown are {unknown[0]:.1%} in training, {unknown[1]:.1%} in validation")
    return model, vocabulary, make_batches(data.train, tokens, recipe["batch_size"], device, seed)


def train_blind(data: CaptionSet, recipe: dict, seed: int, device: torch.device) -> Describer:
    """The same network, shown the same grey picture for a quarter of the captions: it learns what is said, not of what."""
    torch.manual_seed(seed)
    quarter = replace(data, train=data.train[: len(data.train) // 4])
    model, vocabulary, batches = prepare(quarter, recipe, seed, device)
    model.rare.requires_grad_(False)  # there is nothing to name
    optimizer = make_optimizer(model, recipe["lr"])
    print("a decoder that sees nothing, for comparison:")
    schedule = rise_and_fall(optimizer, steps=len(batches))
    fit(model, batches, optimizer, blind_loss, epochs=1, scheduler=schedule, clip_norm=1.0)
    return Describer(model.eval(), vocabulary, list(data.train.captions))


# %% All of it, in order
def main(
    source: Source = "auto",
    preset: Preset = "default",
    scenes: int = 4000,
    width: int | None = None,
    layers: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    dropout: float | None = None,
    covered: float | None = None,
    beam: int = 1,
    seed: int = 0,
    device: str = "auto",
    baseline: bool = True,
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train a network that describes pictures, evaluate it, draw and save; then it can be shown pictures.

    Args:
        source: "auto" (Flickr8k if it is there, else the sample), "real" or "sample".
        preset: "default", or "fast" for a first look.
        scenes: Training scenes of the sample; each is also shown in a mirror.
        width: Numbers at each place of the picture and for each token; without it, the preset's.
        layers: Of the decoder; without it, the preset's.
        epochs: Passes over the pictures; without it, the preset's.
        batch_size: Pictures in a step; without it, the preset's.
        lr: The highest learning rate; without it, the preset's.
        dropout: Share of the numbers that are dropped in training; without it, the preset's.
        covered: The largest share of a caption's words that the decoder cannot read in training; without it, the preset's.
        beam: Beginnings of a sentence that are gone on with when it is measured; 1 takes the likeliest word each time.
        seed: Of the weights, of the order, and of the sample's scenes.
        device: "auto", "cpu", "cuda" or "mps".
        baseline: Compare with what can be said without a network, and by one that sees nothing.
        resume: Go on with the run that was interrupted.
        figures: Draw, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    check(scenes > 0, "--scenes must be above 0")
    check(beam > 0, "--beam must be above 0")
    data = load(source, scenes, REAL_SIDE, seed)
    print(f"data: {data.source}")
    recipe = recipe_with(
        (PRESETS if data.is_real else SAMPLE_PRESETS)[preset],
        width=width, layers=layers, epochs=epochs, batch_size=batch_size, lr=lr, dropout=dropout, covered=covered,
    )  # fmt: skip
    check_above_zero(recipe, "width", "layers", "epochs", "batch_size", "lr")
    check(min(recipe["batch_size"], scenes) > 1, "--batch-size and --scenes must be above 1: a batch norm compares pictures")
    check(0 <= recipe["dropout"] < 1, "--dropout is a share: at least 0, and below 1")
    check(0 <= recipe["covered"] <= 1, "--covered is a share: from 0 to 1")
    where = pick_device(device)

    seed_everything(seed)
    model, vocabulary, batches = prepare(data, recipe, seed, where)
    describer = Describer(model, vocabulary, list(data.train.captions), beam)
    folder = paths.models("project9_captioning")
    settings = {"data": data.source, "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project9_captioning"), settings) if figures else None

    monitor = "cider" if data.is_real else "exact"
    optimizer = make_optimizer(model, recipe["lr"])
    started = time.perf_counter()
    history = fit(
        model,
        batches,
        optimizer,
        caption_loss,
        epochs=recipe["epochs"],
        scheduler=rise_and_fall(optimizer, steps=recipe["epochs"] * len(batches), rise=0.15),
        validate=lambda _: evaluation.validation_numbers(describer, data.validation),
        monitor=monitor,
        clip_norm=1.0,
        checkpoints=folder,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    load_best(model, folder)
    results = evaluation.measure(describer, data)
    if baseline:
        results |= evaluation.measure_baselines(data, train_blind(data, recipe, seed, where))
    path = folder / "model.pt"
    about = {"source": data.source, "is_real": data.is_real, "languages": describer.languages, "seed": seed}
    about |= {"scenes": scenes, "exact": results["exact"], "cider": results["cider"]}
    save_network(path, model, vocabulary, **about)
    checkpoint.check_saved(path, model, load_network(path, where)[0], where)
    evaluation.show_captions(describer, data)
    if figures:
        save_figure(evaluation.draw_learning_curves(history, monitor), __file__, "learning_curves")
        evaluation.draw_results(describer, data, results)
        log.close()
    if data.is_real:
        least = max(0.05, results.get("baseline_cider", 0.0))
        check(results["cider"] > least, f"a CIDEr of {results['cider']:.3f} is not enough: it should be above {least:.3f}")
    else:
        least = max(0.4, results.get("baseline_exact", 0.0) + 0.2)
        check(results["exact"] > least, f"{results['exact']:.1%} of the captions are right; it should be more than {least:.0%}")
    best = history.epochs[history.best_epoch][monitor]
    return {**results, f"validation_{monitor}": best, "best_epoch": history.best_epoch + 1, "training_seconds": seconds}


if __name__ == "__main__":
    run(main)
