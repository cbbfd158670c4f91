"""Project 10 · (b) Digits in a row · 이어 말한 숫자 인식

Train a network with CTC to hear strings of digits whose moments nobody has marked, and measure it where they are said apart, and
where they run together.
숫자를 언제 말했는지 표시하지 않은 채 CTC로 숫자열을 듣는 신경망을 학습하고, 띄어 말할 때와 이어 말할 때를 나누어 평가한다.

Run        python -m study run speech/strings                     (sample: under a minute; real recordings: a few minutes)
           python -m study run speech/strings --preset fast       (a first look)
           python -m study run speech/strings --resume            (go on after Ctrl-C or a crash)
You see    word error rates of the network and of cutting at silences; ctc_strings.png: what it says, and when
Try next   --epochs 2: first guess which kind of error is left, digits missed, replaced, or added
Then       python -m study run speech/app · speech/whisper
"""

import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from project10_speech import word_errors
from project10_speech.baseline import CutAndClassify
from project10_speech.ctc import align, occupancy
from project10_speech.digit_strings import LEARNED, StringBatches, StringData, Strings, load
from project10_speech.listener import DigitListener, Listener, load_network, model_file, save_network
from utils import checkpoint, paths, tracking
from utils.datasets import Source
from utils.device import pick_device
from utils.evaluation import draw_losses
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.seeding import seed_everything
from utils.training import History, check_above_zero, fit, load_best, recipe_with, rise_and_fall

Preset = Literal["default", "fast"]
STEPS = 50  # batches between two looks at the validation strings

# Chosen on the validation strings, never on the test ones.
PRESETS = {
    "default": {"channels": 96, "blocks": 4, "epochs": 30, "batch_size": 24, "lr": 3e-3, "dropout": 0.2},
    "fast": {"channels": 64, "blocks": 3, "epochs": 10, "batch_size": 16, "lr": 4e-3, "dropout": 0.1},
}
SAMPLE_PRESETS = {
    "default": {"channels": 64, "blocks": 3, "epochs": 8, "batch_size": 16, "lr": 8e-3, "dropout": 0.1},
    "fast": {"channels": 48, "blocks": 3, "epochs": 4, "batch_size": 16, "lr": 6e-3, "dropout": 0.1},
}
AT_ONCE = 50  # strings that are listened to together


# %% The recipe
def string_loss(model: DigitListener, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """CTC's loss of a batch (waves, samples, targets, lengths), per digit; what does not fit into its frames is left out.

    A silence has no digits to divide by, and is judged per frame: in one piece it would weigh as much as all its frames, and the
    network would first of all learn to say nothing.
    """
    waves, samples, targets, lengths = batch
    log_probs, frames = model(waves, samples)
    log_probs = log_probs.float()
    if log_probs.device.type == "mps":  # has no CTC of its own
        log_probs, targets, frames, lengths = (tensor.cpu() for tensor in (log_probs, targets, frames, lengths))
    losses = F.ctc_loss(log_probs, targets, frames, lengths, reduction="none", zero_infinity=True)  # (batch,)
    return (losses / torch.where(lengths > 0, lengths, frames)).mean()


def heard_by(listener: Listener, strings: Strings) -> list[list[int]]:
    """What the network hears in all of them."""
    return [listener.digits(log_probs) for log_probs in all_log_probs(listener, strings)]


def all_log_probs(listener: Listener, strings: Strings) -> list[Tensor]:
    """For each string its log-probabilities (time, 11)."""
    found = []
    for start in range(0, len(strings), AT_ONCE):
        found += listener.log_probs(strings.waves[start : start + AT_ONCE])
    return found


def validation_numbers(listener: Listener, strings: Strings) -> dict[str, float]:
    """The word error rate, read greedily, and the share of strings that are right as a whole."""
    heard = heard_by(listener, strings)
    return {"word_error_rate": word_errors.word_error_rate(heard, strings.digits), "accuracy": whole_strings(heard, strings)}


def whole_strings(heard: list[list[int]], strings: Strings) -> float:
    """The share of strings in which nothing is wrong."""
    return sum(one == other for one, other in zip(heard, strings.digits, strict=True)) / len(strings)


# %% Measuring
def measure(model: DigitListener, data: StringData, baseline: CutAndClassify | None, source: str) -> dict[str, float]:
    """Word error rates on the test strings, greedily and with a beam, and of cutting at silences and classifying.

    Returns:
        Flat numbers; those of strings with pauses end in "_apart", without in "_together"; the others are of all.
    """
    results = {}
    ways = {"": Listener(model, source), "greedy_": Listener(model, source, beam=1)}
    listeners = {name: lambda strings, listener=listener: heard_by(listener, strings) for name, listener in ways.items()}
    if baseline is not None:
        listeners["baseline_"] = baseline.hear
    for name, listen in listeners.items():
        heard, said = [], []
        for manner, strings in (("apart", data.apart), ("together", data.together)):
            mine = listen(strings)
            results[f"{name}word_error_rate_{manner}"] = word_errors.word_error_rate(mine, strings.digits)
            if name == "":
                results[f"whole_strings_{manner}"] = whole_strings(mine, strings)
                print(f"{manner:9} {word_errors.told(mine, strings.digits)}")
            heard, said = heard + mine, said + strings.digits
        results[f"{name}word_error_rate"] = word_errors.word_error_rate(heard, said)
    return results


def draw_curves(history: History):
    """Loss of every step, and the word error rate on the validation strings. Returns the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    draw_losses(left, history.losses)
    steps = torch.arange(1, len(history.epochs) + 1) * STEPS
    right.plot(steps.tolist(), [epoch["word_error_rate"] for epoch in history.epochs], marker="o", color="navy")
    right.set(ylim=(0, None), xlabel=label("step", "스텝"), title=label("Word error rate (validation)", "단어 오류율(검증)"))
    return figure


def draw_strings(listener: Listener, strings: Strings, count: int = 2):
    """For a few strings the sound, what the network says in each frame, and the likeliest way through it. Returns the figure."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, count, figsize=(6.2 * count, 6.4), layout="constrained", squeeze=False)
    for (top, middle, bottom), number in zip(axes.T, range(count), strict=True):
        wave, digits = strings.waves[number], strings.digits[number]
        (log_probs,) = listener.log_probs([wave])
        heard = listener.digits(log_probs)
        seconds = len(wave) / strings.rate
        features, _ = listener.model.picture(wave[None].to(listener.model.judge.weight.device), torch.tensor([len(wave)]))
        top.imshow(
            features[0].cpu().numpy(), aspect="auto", origin="lower", cmap="magma", extent=(0, seconds, 0, len(features[0]))
        )
        said = label("said", "말한 것"), label("heard", "들은 것")
        top.set_title(f"{said[0]} {' '.join(map(str, digits))}    {said[1]} {' '.join(map(str, heard))}", fontsize=11)
        top.set_ylabel(label("mel band", "멜 대역"))
        symbols = [digit + 1 for digit in heard]
        length = len(log_probs) * listener.seconds_per_frame
        panels = (
            (middle, log_probs.exp(), label("what it says", "신경망의 답")),
            (
                bottom,
                occupancy(log_probs, symbols),
                label("where each digit is, given the string", "문자열이 정해졌을 때 각 숫자의 위치"),
            ),
        )
        for axis, values, title in panels:
            axis.imshow(
                values.T.numpy(), aspect="auto", origin="lower", cmap="magma", vmin=0, vmax=1, extent=(0, length, -1.5, 9.5)
            )
            axis.set_yticks(range(-1, 10), [label("blank", "블랭크"), *map(str, range(10))], fontsize=8)
            axis.set_title(title, fontsize=10)
        times = (torch.arange(len(log_probs)) + 0.5) * listener.seconds_per_frame
        bottom.plot(times, [symbol - 1 for symbol in align(log_probs, symbols)], color="cyan", linewidth=1)
        bottom.set_xlabel(label("seconds", "초"))
    return figure


# %% All of it, in order
def main(
    source: Source = "auto",
    preset: Preset = "default",
    channels: int | None = None,
    blocks: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    dropout: float | None = None,
    strings: int = 150,
    seed: int = 0,
    device: str = "auto",
    baseline: bool = True,
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train a network to hear strings of digits, measure it, draw and save it; then it can be talked to.

    Args:
        source: "auto" (the Free Spoken Digit Dataset if it is there, else computed voices), "real" or "sample".
        preset: "default", or "fast" for a first look.
        channels: Of the convolutions; without it, the preset's.
        blocks: Convolutions that look further and further; without it, the preset's.
        epochs: Times 50 steps; without it, the preset's.
        batch_size: Strings in a step; without it, the preset's.
        lr: The highest learning rate; without it, the preset's.
        dropout: Share of the numbers that are dropped in training; without it, the preset's.
        strings: Test strings of each manner.
        seed: Of the weights and of the strings to learn from.
        device: "auto", "cpu", "cuda" or "mps".
        baseline: Compare with cutting at silences and classifying the pieces.
        resume: Go on with the run that was interrupted.
        figures: Draw, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    data = load(source, strings)
    told = data.clips.source
    print(f"data: {told}")
    where = pick_device(device)
    recipe = recipe_with(
        (PRESETS if data.clips.is_real else SAMPLE_PRESETS)[preset],
        channels=channels, blocks=blocks, epochs=epochs, batch_size=batch_size, lr=lr, dropout=dropout,
    )  # fmt: skip
    check_above_zero(recipe, "channels", "blocks", "epochs", "batch_size", "lr")
    check(0 <= recipe["dropout"] < 1, "--dropout is a share: at least 0, and below 1")

    seed_everything(seed)
    model = DigitListener(recipe["channels"], recipe["blocks"], dropout=recipe["dropout"]).to(where)
    batches = StringBatches(data.clips.train, STEPS, recipe["batch_size"], LEARNED, seed)
    folder = model_file().parent
    settings = {"data": told, "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project10_speech"), settings) if figures else None
    optimizer = torch.optim.AdamW(model.parameters(), recipe["lr"], weight_decay=0.01)
    greedily = Listener(model, told, beam=1)
    started = time.perf_counter()
    history = fit(
        model,
        batches,
        optimizer,
        string_loss,
        epochs=recipe["epochs"],
        scheduler=rise_and_fall(optimizer, steps=recipe["epochs"] * STEPS),
        validate=lambda _: validation_numbers(greedily, data.validation),
        clip_norm=1.0,
        checkpoints=folder,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    load_best(model, folder)
    print()
    cutter = CutAndClassify.learn(data.clips.train, data.validation) if baseline else None
    results = measure(model, data, cutter, told)
    path = model_file()
    save_network(path, model, source=told, word_error_rate=results["word_error_rate"], seed=seed)
    checkpoint.check_saved(path, model, load_network(path, where)[0], where)
    if figures:
        save_figure(draw_curves(history), __file__, "ctc_learning_curves")
        save_figure(draw_strings(Listener(model, told), data.together), __file__, "ctc_strings")
        log.close()
    # Who hears nothing at all has an error rate of 1, and whoever says the likeliest digit is hardly better.
    most = min(1.0, results.get("baseline_word_error_rate", 1.0))
    rate = results["word_error_rate"]
    check(rate < 0.75 * most, f"a word error rate of {rate:.3f} is not enough: it should be below three quarters of {most:.3f}")
    best = history.epochs[history.best_epoch]
    results |= {"validation_word_error_rate": best["word_error_rate"], "best_epoch": history.best_epoch + 1}
    return {**results, "training_seconds": seconds}


if __name__ == "__main__":
    run(main)
