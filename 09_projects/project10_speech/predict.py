"""Which digit is in a recording of your own? · 내 녹음 속 숫자 알아듣기

    python -m study run speech/predict seven.wav other.wav

WAV files of any rate, mono or stereo, one digit in each of them, within a second. For every file there is a figure that shows
what the network really hears. Training comes first: python -m study run speech. Several digits in a row: speech/app.
"""

from pathlib import Path

import torch
import tyro
from torch import Tensor

from project10_speech.data import SECONDS, fitted
from project10_speech.evaluate import load_network, logits_of
from project10_speech.model import DigitNet
from utils.device import pick_device
from utils.evaluation import draw_probabilities
from utils.lesson import LessonError, check, mention, run
from utils.plotting import label, save_figure
from utils.sound import read_speech

MOST_SECONDS = 10.0


@torch.no_grad()
def draw(wave: Tensor, rate: int, network: DigitNet, probabilities: Tensor, words: list[str]):
    """Draw the wave (n,), what the network hears of it, and the probabilities (classes,); return the figure."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    left.plot((torch.arange(len(wave)) / rate).numpy(), wave.numpy(), linewidth=0.5)
    left.set(title=label("your recording", "내 녹음"), xlabel=label("seconds", "초"))
    device = next(network.parameters()).device
    features = network.features(fitted(wave, round(SECONDS * rate))[None].to(device))[0].cpu()
    middle.imshow(features.numpy(), origin="lower", aspect="auto", cmap="magma")
    middle.set(title=label("what the network hears", "신경망이 듣는 것"), xticks=[], yticks=[])
    draw_probabilities(right, probabilities, [word if word.isascii() else str(digit) for digit, word in enumerate(words)])
    return figure


def main(recordings: tyro.conf.Positional[tuple[Path, ...]], model: Path | None = None, device: str = "auto") -> dict[str, float]:
    """Tell the digit in each of your recordings.

    Args:
        recordings: WAV files with one digit each.
        model: Another trained network than models/project10_speech/digits.pt.
        device: auto, cpu, cuda or mps.
    """
    check(len(recordings) > 0, "name at least one recording: python -m study run speech/predict seven.wav")
    where = pick_device(device)
    network, about = load_network(model, where)
    mention("data", f"trained on {about['source']}; {about['accuracy']:.2%} right on its test set")
    results, problems = {}, []
    for number, path in enumerate(recordings, start=1):
        try:
            wave = read_speech(path, about["rate"], MOST_SECONDS)
        except LessonError as error:
            if len(recordings) == 1:
                raise
            print(f"{path.name}: left out: {error}")
            problems.append(path)
            continue
        clip = fitted(wave, round(SECONDS * about["rate"]))
        probabilities = logits_of(network, clip[None], where).softmax(dim=1)[0]
        digit = probabilities.argmax().item()
        if len(wave) > len(clip):
            print(f"{path.name} lasts {len(wave) / about['rate']:.1f} seconds; its loudest second was heard")
        print(f"{path.name}: {digit} ({about['words'][digit]}), {probabilities[digit]:.1%}")
        save_figure(draw(wave, about["rate"], network, probabilities, about["words"]), __file__, f"heard_{number}_{path.stem}")
        results |= {f"{number}_digit": digit, f"{number}_probability": probabilities[digit].item()}
    check(len(problems) < len(recordings), "none of the recordings could be used")
    return results


if __name__ == "__main__":
    run(main)
