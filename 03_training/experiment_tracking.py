"""Experiment tracking · 실험 기록

A tracker writes down what a run was given and what came out of it, step by step, in a file that outlives the program. Then
runs can be compared that were made weeks apart, and a choice between them rests on numbers instead of on memory.
실험 기록 도구는 실행에 무엇을 주었고 무엇이 나왔는지를 스텝마다 파일에 남긴다. 그러면 몇 주 간격을 두고 실행한 실험도
비교할 수 있고, 기억이 아니라 숫자를 보고 설정을 고르게 된다.

You will
  1. write a tracker by hand: a file of lines, each a name, a step and a number
  2. write the same run with TensorBoard: curves, pictures, histograms, the graph, an embedding, hyperparameters
  3. read its file back and find the same numbers; then the same with W&B and MLflow, offline, where they are installed
  4. make the mistake everyone makes: two runs in one folder
  5. compare a small sweep from its files alone, and let the test set judge the winner once

Before     03_training/training_loop.py
Run        python -m study run experiment_tracking   (about 9 s on one CPU core; 25 s with W&B and MLflow)
You see    the same curve from every file; the sweep's table; accuracy 0.92, the nearest mean image 0.83; sweep.png
Try next   --rates 0.05 0.2 1: one of them is too large. First guess what its line in the table will say, then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import itertools
import json
import statistics
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import paths, tracking
from utils.datasets import Images, Source, hold_out, mnist, nearest_mean_accuracy
from utils.lesson import LessonError, check, mention, run
from utils.plotting import label, save_figure

Curves = dict[str, dict[int, float]]  # name → step → value
HIDDEN = (8, 64)  # sizes of the hidden layer in the sweep


# %% 1. A tracker by hand
class Lines:
    """One JSON object on each line: the settings first, then every point as it comes."""

    def __init__(self, path: Path, settings: dict):
        self.path, self.file = path, path.open("w", encoding="utf-8")
        self.file.write(json.dumps({"settings": settings}) + "\n")

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Add one point to each curve named in `numbers`."""
        for name, value in numbers.items():
            self.file.write(json.dumps({"name": name, "step": step, "value": value}) + "\n")

    def close(self) -> None:
        self.file.close()


def read_lines(path: Path) -> tuple[dict, Curves]:
    """Read such a file; return (settings, curves)."""
    first, *points = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    curves: Curves = {}
    for point in points:
        curves.setdefault(point["name"], {})[point["step"]] = point["value"]
    return first["settings"], curves


# %% The run that is written down
def pixels(data: Images) -> Tensor:
    """Float images (N, 1, 28, 28) in 0..1."""
    return data.images.float() / 255


@torch.no_grad()
def accuracy(model: nn.Module, data: Images) -> float:
    """Share of right answers, 0..1."""
    return (model(pixels(data)).argmax(dim=1) == data.labels).float().mean().item()


def train(train_on: Images, validation: Images, settings: dict, path: Path) -> nn.Module:
    """Train 784 → hidden → 10 with SGD, its rate falling to 0; loss and validation accuracy of every tenth step go to `path`."""
    torch.manual_seed(settings["seed"])
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, settings["hidden"]), nn.ReLU(), nn.Linear(settings["hidden"], 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["lr"], momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=settings["steps"])
    images, tracker = pixels(train_on), Lines(path, settings)
    for step in range(settings["steps"]):
        chosen = torch.randint(len(images), (64,))
        loss = F.cross_entropy(model(images[chosen]), train_on.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 10 == 9:
            # .item(): a number. The tensor would keep the whole graph of its step in memory.
            tracker.log({"train/loss": loss.item(), "validation/accuracy": accuracy(model, validation)}, step)
    tracker.close()
    return model


# %% 2. TensorBoard
def write_tensorboard(folder: Path, model: nn.Sequential, data: Images, settings: dict, curves: Curves) -> None:
    """Write all that TensorBoard shows: one call for each of its tabs."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:  # `with` closes it, also when the run fails
        for name, curve in curves.items():
            for step, value in curve.items():
                writer.add_scalar(name, value, step)
        losses, end = F.cross_entropy(model(pixels(data)), data.labels, reduction="none"), settings["steps"]
        writer.add_images("worst", pixels(data[losses.topk(16).indices]), end)
        losses.mean().backward()
        for name, parameter in model.named_parameters():
            writer.add_histogram(f"weights/{name}", parameter, end)
            writer.add_histogram(f"gradients/{name}", parameter.grad, end)
        few = data[:100]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it traces the model in a way that PyTorch is about to give up
            writer.add_graph(model, pixels(few))
        features = model[:3](pixels(few)).detach()  # (100, hidden): what the last layer sees, a point for each image
        writer.add_embedding(features, metadata=few.labels.tolist(), label_img=pixels(few))
        best = {"best/accuracy": max(curves["validation/accuracy"].values())}
        writer.add_hparams(settings, best, run_name=".")  # ".": into this folder, not into a new one


def read_tensorboard(folder: Path):
    """Read the event files of a folder back; return TensorBoard's accumulator of what is in them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()  # 0: all points, not a sample of them


# %% 3. W&B and MLflow
def in_other_tools(folder: Path, settings: dict, curves: Curves) -> int:
    """Write the curves through utils.tracking's three calls, read the files; return how many tools say the same as ours."""
    agree = 0
    for kind in ("wandb", "mlflow"):
        try:
            tracker = tracking.start(kind, folder, settings)
        except LessonError as error:
            print(f"   skipped: {error}")
            continue
        for step in curves["train/loss"]:
            tracker.log({name: curve[step] for name, curve in curves.items()}, step)
        tracker.close()
        agree += (agrees := same(tracker.read(), curves))
        print(f"   {kind}: read back, it says the same as ours: {agrees}")
    return agree


def same(ours: Curves, theirs: Curves) -> bool:
    """Whether both hold the same points, in single precision: TensorBoard keeps no more."""
    single = [{name: {step: np.float32(v) for step, v in curve.items()} for name, curve in c.items()} for c in (ours, theirs)]
    return single[0] == single[1]


# %% 4. The mistake everyone makes
def two_runs_in_one_folder(folder: Path) -> int:
    """Log two runs of ten steps into the same folder; return how many points TensorBoard joins into one curve."""
    from torch.utils.tensorboard import SummaryWriter

    for lr in (0.1, 0.2):
        with SummaryWriter(str(folder), filename_suffix=f"_{lr}") as writer:
            for step in range(10):
                writer.add_scalar("loss", 1 / (1 + lr * step), step)
    steps = [point.step for point in read_tensorboard(folder).Scalars("loss")]
    print(f"4. two runs in one folder are one curve that runs back: steps {steps[8:13]}; give each run its own")
    return len(steps)


# %% 5. A sweep, compared from its files
def compare(files: list[Path]) -> list[tuple[dict, float, float]]:
    """Read runs back; return (settings without the seed, mean and spread of the last validation accuracy), best first."""
    groups: dict[str, list[float]] = {}
    for path in files:
        settings, curves = read_lines(path)
        group = json.dumps({name: value for name, value in settings.items() if name != "seed"})
        groups.setdefault(group, []).append(list(curves["validation/accuracy"].values())[-1])
    rows = [(json.loads(group), statistics.mean(ends), statistics.stdev(ends)) for group, ends in groups.items()]
    return sorted(rows, key=lambda row: row[1], reverse=True)


def draw_sweep(files: list[Path]):
    """Validation accuracy over the steps, a curve for each run; returns the figure."""
    import matplotlib.pyplot as plt

    runs = [read_lines(path) for path in files]
    rates = sorted({settings["lr"] for settings, _ in runs})
    figure, panels = plt.subplots(1, len(rates), figsize=(4 * len(rates), 3.6), layout="constrained", sharey=True, squeeze=False)
    for settings, curves in runs:
        curve, panel = curves["validation/accuracy"], panels[0, rates.index(settings["lr"])]
        name = label(f"{settings['hidden']} hidden units", f"은닉 유닛 {settings['hidden']}개") if settings["seed"] == 0 else None
        panel.plot(list(curve), list(curve.values()), f"C{HIDDEN.index(settings['hidden'])}", linewidth=1, label=name)
        panel.set(title=label(f"learning rate {settings['lr']:g}", f"학습률 {settings['lr']:g}"), xlabel=label("step", "스텝"))
    panels[0, 0].set(ylabel=label("validation accuracy", "검증 정확도"), ylim=(0, 1))
    panels[0, 0].legend()
    return figure


def main(
    source: Source = "auto", steps: int = 300, rates: tuple[float, ...] = (0.01, 0.05, 0.2), seeds: int = 3, others: bool = True
) -> dict[str, float]:
    """Write runs down, read them back, compare them, test the best.

    Args:
        source: "auto" (MNIST where it is on disk, else the sample), "real" or "sample".
        steps: Batches of 64 in every run.
        rates: Learning rates of the sweep; each is tried with 8 and with 64 hidden units.
        seeds: Runs of every setting, two at least.
        others: Write with W&B and MLflow as well, where they are installed.
    """
    check(steps >= 10 and seeds >= 2, "--steps must be 10 or more, --seeds 2 or more")
    data = mnist(source)
    train_on, validation = hold_out(data.train, count=len(data.train) // 6)
    folder = tracking.new_folder(paths.outputs("experiment_tracking"))
    mention("written", f"{paths.short(folder)}  (see it with: tensorboard --logdir {paths.short(folder)})")
    settings = {"lr": 0.05, "hidden": 64, "seed": 0, "steps": steps}
    model = train(train_on, validation, settings, folder / "first.jsonl")
    settings, curves = read_lines(folder / "first.jsonl")  # what was written is all that the rest gets to see
    print(f"1. first.jsonl: {settings}, {' and '.join(curves)} at {len(curves['train/loss'])} steps")
    write_tensorboard(folder / "tensorboard", model, validation, settings, curves)
    events = read_tensorboard(folder / "tensorboard")
    counts = {kind: len(events.Tags()[kind]) for kind in ("scalars", "histograms", "images")}
    print(f"2. TensorBoard's event file: {counts}, and a graph")
    agree = int(same({name: {point.step: point.value for point in events.Scalars(name)} for name in curves}, curves))
    print(f"3. tensorboard: read back, it says the same as ours: {agree == 1}")
    if others:
        agree += in_other_tools(folder, settings, curves)
    joined = two_runs_in_one_folder(folder / "mixed_up")
    models = {}
    for lr, hidden, seed in itertools.product(rates, HIDDEN, range(seeds)):
        path = folder / f"lr{lr:g}_hidden{hidden}_seed{seed}.jsonl"
        models[path] = train(train_on, validation, {"lr": lr, "hidden": hidden, "seed": seed, "steps": steps}, path)
    save_figure(draw_sweep(list(models)), __file__, "sweep")
    print(f"5. {len(models)} runs, from their files: validation accuracy, mean ± standard deviation over {seeds} seeds")
    for setting, mean, spread in (rows := compare(list(models))):
        print(f"   learning rate {setting['lr']:<5g} {setting['hidden']:2} hidden units  {mean:.3f} ± {spread:.3f}")
    best, expected, _ = rows[0]
    winners = [model for path, model in models.items() if best.items() <= read_lines(path)[0].items()]
    test = statistics.mean(accuracy(model, data.test) for model in winners)
    baseline = nearest_mean_accuracy(train_on, data.test)
    print(f"   the best setting on the test images: {test:.3f}, the nearest mean image {baseline:.3f}")
    check(test > max(0.1, baseline) + 0.03, "the best of the sweep is hardly better than the nearest mean image")
    results = {"tools_that_agree": agree, "joined_points": joined, "best_lr": best["lr"], "best_hidden": best["hidden"]}
    return results | {"validation_accuracy": expected, "test_accuracy": test, "baseline_accuracy": baseline}


if __name__ == "__main__":
    run(main)
