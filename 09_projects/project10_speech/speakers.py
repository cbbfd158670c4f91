"""Does it understand somebody it never heard? · 처음 듣는 사람의 말도 알아듣는가

The usual test of FSDD has the same six people as the training. Here each of them is held out in turn: the network learns from the
other five, and is tested on all that the sixth one said, in the same way, with the same settings.
FSDD의 통상적인 테스트에는 학습에 나온 여섯 명이 그대로 나온다. 여기서는 한 명씩 빼고 나머지 다섯 명으로 학습해
그 사람의 음성으로 평가한다.

Run        python -m study run speech/speakers                     (six trainings: ten minutes on two CPU cores)
           python -m study run speech/speakers --speakers theo
"""

import torch

from project10_speech.data import nearest_mean, plain_batches
from project10_speech.evaluate import draw_speakers
from project10_speech.train import RECIPE, prepare
from utils.datasets.speech import Clips, fsdd
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import save_figure
from utils.seeding import seed_everything
from utils.training import classification_loss, evaluate, fit


def without(clips: Clips, speaker: str) -> tuple[Clips, Clips]:
    """What the others said, and what this one said."""
    theirs = clips.by(speaker)
    return clips.at(~theirs), clips.at(theirs)


def all_clips(*parts: Clips) -> Clips:
    """Several sets of clips as one."""
    return Clips(
        [wave for part in parts for wave in part.waves],
        torch.cat([part.labels for part in parts]),
        [name for part in parts for name in part.speakers],
        torch.cat([part.takes for part in parts]),
        parts[0].rate,
    )


def main(
    speakers: tuple[str, ...] = (),
    epochs: int = RECIPE["epochs"],
    seed: int = 0,
    device: str = "auto",
    figures: bool = True,
) -> dict[str, float]:
    """Hold out one speaker after the other: train on the others, test on all clips of this one.

    Args:
        speakers: Whom to hold out; without it, each in turn.
        epochs: Passes over the training clips.
        seed: Of the weights, the order of the clips and how they are varied.
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw the accuracies.
    """
    check(epochs > 0, "--epochs must be above 0")
    data = fsdd("real")
    clips = all_clips(data.train, data.validation, data.test)
    known = sorted(set(clips.speakers))
    unknown = [name for name in speakers if name not in known]
    check(not unknown, f"nobody is called {', '.join(unknown)}; there are {', '.join(known)}")
    where = pick_device(device)
    accuracies, baseline = {}, {}
    for speaker in speakers or known:
        training, test = without(clips, speaker)
        seed_everything(seed)
        network, batches, optimizer, schedule = prepare(training, {**RECIPE, "epochs": epochs}, seed, where)
        fit(network, batches, optimizer, classification_loss, epochs=epochs, scheduler=schedule)
        accuracies[speaker] = evaluate(network, plain_batches(test, where))["accuracy"]
        baseline[speaker] = (nearest_mean(training, test) == test.labels).float().mean().item()
        print(f"{speaker:10} network {accuracies[speaker]:.1%}  nearest mean {baseline[speaker]:.1%}")
    if figures:
        save_figure(draw_speakers(accuracies, baseline), __file__, "held_out_speakers")
    mean, mean_baseline = (sum(found.values()) / len(found) for found in (accuracies, baseline))
    return {
        **{f"{name}_accuracy": value for name, value in accuracies.items()},
        **{f"{name}_baseline_accuracy": value for name, value in baseline.items()},
        "mean_accuracy": mean,
        "mean_baseline_accuracy": mean_baseline,
    }


if __name__ == "__main__":
    run(main, all_cores=True)
