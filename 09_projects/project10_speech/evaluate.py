"""What does it hear, and where does it fail? · 무엇을 알아듣고 어디서 틀리는가

Load the saved network, measure it on the test clips against the nearest mean, and draw: confusion matrix, accuracy of each
speaker, its mistakes, and how much noise it bears.
저장한 신경망을 테스트 음성으로 평가하고, 혼동 행렬, 화자별 정확도, 틀린 음성, 잡음에 대한 강건성을 그린다.

Run        python -m study run speech/evaluate        (after python -m study run speech)
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from project10_speech.data import nearest_mean, stacked
from project10_speech.features import add_noise
from project10_speech.model import DigitNet
from utils import checkpoint, paths
from utils.datasets import Source
from utils.datasets.speech import Clips, SpeechData, fsdd
from utils.device import pick_device
from utils.evaluation import draw_confusion, look
from utils.lesson import mention, run
from utils.plotting import label, save_figure

FACTS = ("words", "rate", "source", "accuracy")  # what must be saved with the weights
NOISE = (40, 20, 10, 5, 0, -5)  # dB


def load_network(model: Path | None, device: torch.device) -> tuple[DigitNet, dict]:
    """Load the trained network, ready to answer.

    Args:
        model: Its file; None is where training puts it.
        device: Where it goes.

    Returns:
        The network, and what was saved with it: words, rate, source, accuracy.

    Raises:
        LessonError: There is none, or it is another model's.
    """
    path, about = checkpoint.load_facts(model, paths.models("project10_speech") / "digits.pt", FACTS, "run speech")
    network = DigitNet(about["rate"])
    about = checkpoint.load_model(path, network, device)
    return network.to(device).eval(), about


# %% Measuring
def logits_of(model: nn.Module, waves: Tensor, device: torch.device) -> Tensor:
    """Logits (clips, classes) of waves (clips, n), on the CPU."""
    return look(model, waves, device, [lambda batch: batch])[0]


def measure(model: nn.Module, data: SpeechData, device: torch.device) -> dict[str, float]:
    """Measure a network on the test clips.

    Returns:
        Accuracies in 0..1: the network's, the baseline's (the nearest mean shape), the worst speaker's; the number of mistakes.
    """
    predicted = logits_of(model, stacked(data.test), device).argmax(dim=1)
    right = predicted == data.test.labels
    return {
        "accuracy": right.float().mean().item(),
        "baseline_accuracy": (nearest_mean(data.train, data.test) == data.test.labels).float().mean().item(),
        "worst_speaker_accuracy": min(accuracy_of_each(right, data.test).values()),
        "mistakes": (~right).sum().item(),
        "test_clips": len(data.test),
    }


def accuracy_of_each(right: Tensor, clips: Clips) -> dict[str, float]:
    """Accuracy in 0..1 of each speaker, by name; `right` is (clips,) bool."""
    return {name: right[clips.by(name)].float().mean().item() for name in dict.fromkeys(clips.speakers)}


def accuracy_in_noise(
    model: nn.Module, test: Clips, device: torch.device, decibels: Sequence[float] = NOISE, seed: int = 0
) -> dict[float, float]:
    """Accuracy in 0..1 where white noise is added, for each number of decibels between voice and noise (SNR)."""
    waves = stacked(test)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same noise on every device
    found = {}
    for level in decibels:
        noisy = add_noise(waves, torch.randn(waves.shape, generator=generator), torch.full((len(waves),), float(level)))
        predicted = logits_of(model, noisy, device).argmax(dim=1)
        found[level] = (predicted == test.labels).float().mean().item()
    return found


def half_of(clips: Clips) -> Clips:
    """Half of the clips, drawn at random, the same each time: every other one of the computed voices says an even digit."""
    return clips.at(torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))[: len(clips) // 2])


# %% Pictures
def draw_speakers(accuracies: dict[str, float], baseline: dict[str, float]):
    """Bars of each speaker's accuracy, the baseline's as a line across each; returns the figure."""
    import matplotlib.pyplot as plt

    names = sorted(accuracies, key=accuracies.get)
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.32 * len(names)), layout="constrained")
    bars = axis.barh(names, [100 * accuracies[name] for name in names], color="tab:blue", label=label("network", "신경망"))
    axis.bar_label(bars, fmt="%.0f", padding=3)
    axis.plot(
        [100 * baseline[name] for name in names], names, "k|", markersize=12, label=label("nearest mean", "가장 가까운 평균")
    )
    axis.set(xlim=(0, 108), xlabel=label("accuracy (%)", "정확도 (%)"), title=label("Each speaker of the test", "테스트 화자별"))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.5 / len(names) ** 0.5), ncols=2, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def draw_noise(accuracies: dict[float, float]):
    """Accuracy against the distance between voice and noise; returns the figure."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    axis.plot(list(accuracies), [100 * value for value in accuracies.values()], "o-")
    axis.axhline(10, color="gray", linestyle=":", label=label("chance", "무작위"))
    axis.set(
        xlabel=label("voice above added noise (dB)", "신호 대 잡음비 (dB)"),
        ylabel=label("accuracy (%)", "정확도 (%)"),
        ylim=(0, 102),
        title=label("How much noise it bears", "잡음에 대한 강건성"),
    )
    axis.invert_xaxis()
    axis.grid(alpha=0.3)
    axis.legend(loc="center left")
    return figure


@torch.no_grad()
def draw_mistakes(model: DigitNet, waves: Tensor, logits: Tensor, test: Clips, words: Sequence[str], most: int = 10):
    """The log-mel pictures of clips (clips, n) that were answered wrong, the most certain first; returns the figure."""
    import matplotlib.pyplot as plt

    certainty, predicted = logits.softmax(dim=1).max(dim=1)
    wrong = (predicted != test.labels).nonzero()[:, 0]
    wrong = wrong[certainty[wrong].argsort(descending=True)][:most]
    columns = 5
    rows = max(1, -(-len(wrong) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(13, 2.8 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, number in zip(axes.flat, wrong.tolist(), strict=False):
        device = next(model.parameters()).device
        picture = model.log_mel(waves[number : number + 1].to(device))[0].cpu()
        axis.imshow(picture.numpy(), origin="lower", aspect="auto", cmap="magma")
        said, heard = words[test.labels[number]], words[predicted[number]]
        axis.set_title(
            label(
                f"{test.speakers[number]}: {said}\nheard: {heard}, {certainty[number]:.0%}",
                f"{test.speakers[number]}: {said}\n답: {heard}, {certainty[number]:.0%}",
            ),
            fontsize=9,
        )
    figure.suptitle(label(f"{len(wrong)} of its mistakes", f"틀린 음성 {len(wrong)}개"))
    return figure


def draw_everything(model: DigitNet, data: SpeechData, device: torch.device) -> None:
    """Write all figures to outputs/project10_speech/."""
    model.eval()
    test = data.test
    waves = stacked(test)
    logits = logits_of(model, waves, device)
    predicted = logits.argmax(dim=1)
    by_mean = accuracy_of_each(nearest_mean(data.train, test) == test.labels, test)
    # Korean words need a Korean font, which a reader of the English labels may not have.
    words = [word if word.isascii() else label(str(digit), word) for digit, word in enumerate(data.words)]
    confusion = draw_confusion(predicted, test.labels, words)
    mistakes = int((predicted != test.labels).sum())
    confusion.axes[0].set_title(
        label(f"{mistakes} mistakes in {len(test):,} test clips", f"테스트 음성 {len(test):,}개 중 {mistakes}개 오답")
    )
    figures = {
        "confusion_matrix": confusion,
        "speakers": draw_speakers(accuracy_of_each(predicted == test.labels, test), by_mean),
        "noise": draw_noise(accuracy_in_noise(model, half_of(test), device)),
        "mistakes": draw_mistakes(model, waves, logits, test, words),
    }
    for name, figure in figures.items():
        save_figure(figure, __file__, name)


def main(model: Path | None = None, source: Source = "auto", device: str = "auto", figures: bool = True) -> dict[str, float]:
    """Load a trained network, measure it on the test clips and draw what it learned.

    Args:
        model: The checkpoint; without it, the one that `python -m study run speech` wrote.
        source: "auto", "real" or "sample": the test clips.
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw as well.
    """
    where = pick_device(device)
    network, about = load_network(model, where)
    data = fsdd(source, "en" if about["words"][0].isascii() else "ko")
    print(f"trained on: {about['source']}")
    print(f"tested on:  {data.source}")
    mention("data", f"trained on {about['source']}")
    if figures:
        draw_everything(network, data, where)
    return measure(network, data, where)


if __name__ == "__main__":
    run(main, all_cores=True)
