"""Project 2 against the program that every repository has, and what each step of its recipe buys.

    python benchmarks/cifar10.py accuracy --preset default --seeds 3      the command itself, several seeds
    python benchmarks/cifar10.py curve --preset default                   accuracy after equal CPU time, ours and the reference's
    python benchmarks/cifar10.py input                                    images per second of both input pipelines
    python benchmarks/cifar10.py ablation --seeds 3                       the recipe with one step left out, on held-out images
    python benchmarks/cifar10.py record --steps 12                        the GPU's recipe, its first steps on this CPU

It needs CIFAR-10 (python -m study data cifar10, or a copy) and a machine that does nothing else. What was measured is in
README.md here. All but `accuracy` compute in one thread: CPU seconds are then seconds of work, not of waiting.
"""

import contextlib
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal
from unittest.mock import patch

import torch
import tyro
from torch import nn
from torch.utils.data import DataLoader
from tutorial_cifar10 import AUGMENT, Pictures

from project2_cifar10 import train
from project2_cifar10.data import TrainingBatches, mirror_half
from project2_cifar10.evaluate import mean_logits, views
from project2_cifar10.model import Classifier
from utils import datasets, device, paths
from utils.datasets import Images
from utils.device import autocast
from utils.evaluation import look, plain_batches
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.seeding import seed_everything
from utils.training import fit

HERE = Path(__file__).resolve().parent
PROJECTS = paths.ROOT / "09_projects"
CPU = torch.device("cpu")
What = Literal["accuracy", "curve", "input", "ablation", "record", "ours"]


def start(script: Path, *flags: str, work: str, threads: int | None = None) -> str:
    """Run a script to its end and return what it printed.

    Args:
        script: The file.
        flags: Its flags.
        work: Where it writes, so that the reader's own checkpoints stay as they are.
        threads: How many it may use; without it, one for each core.
    """
    importable = os.pathsep.join([str(paths.ROOT), str(PROJECTS)])
    environment = {**os.environ, "PYTHONPATH": importable, "STUDY_WORK_DIR": work}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run([sys.executable, str(script), *flags], env=environment, capture_output=True, encoding="utf-8")
    check(done.returncode == 0, f"{script.name} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def summary(name: str, values: list[float]) -> dict[str, float]:
    """Mean, standard deviation and worst of `values`."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {f"{name} (mean)": statistics.mean(values), f"{name} (spread)": spread, f"{name} (worst)": min(values)}


# ------------------------------------------------------------------------------------------------- the command itself


def accuracy(preset: str, seeds: int) -> dict[str, float]:
    """Test accuracy in percent with and without test-time augmentation over seeds, and the median of the times."""
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as work:
            script = PROJECTS / "project2_cifar10" / "train.py"
            start(script, "--source", "real", "--preset", preset, "--seed", str(seed), "--no-figures", work=work)
            record = json.loads(Path(work, "outputs", "project2_cifar10", "results.json").read_text(encoding="utf-8"))
        runs.append({**record["results"], "whole_run_seconds": record["seconds"]})
        print(preset, seed, {name: round(value, 4) for name, value in runs[-1].items()}, flush=True)
    found: dict[str, float] = {}
    for name in ("accuracy", "accuracy_without_tta", "validation_accuracy"):
        found |= summary(name, [100 * one[name] for one in runs])
    for name in ("training_seconds", "evaluation_seconds", "whole_run_seconds"):
        found[name] = statistics.median(one[name] for one in runs)
    return found


# ------------------------------------------------------------------------------------------ accuracy after equal CPU time


def ours(preset: str, epochs: int | None, test_images: int, seed: int) -> dict[str, float]:
    """Train with a preset; after every epoch print what tutorial_cifar10.py prints, one look at each image."""
    data = datasets.cifar10("real")
    _, looked_at = datasets.hold_out(data.test, count=test_images)
    recipe = train.PRESETS[preset] | ({} if epochs is None else {"epochs": epochs})
    last: dict[str, float] = {}
    started = time.process_time()
    seed_everything(seed)
    model, batches, optimizer, schedule = train.prepare(data.train, 10, recipe, seed, CPU)

    def measure(model: nn.Module) -> dict[str, float]:
        nonlocal started
        before = time.process_time()
        found = train.validation_numbers(model, plain_batches(looked_at, CPU))["accuracy"]
        last.update(cpu_seconds=before - started, images=batches.step * batches.batch_size, accuracy=100 * found)
        print(json.dumps(last), flush=True)
        started += time.process_time() - before  # looking is not training
        return {}

    fit(model, batches, optimizer, train.smoothed_loss, epochs=recipe["epochs"], scheduler=schedule, validate=measure)
    return last


def curve(preset: str, epochs: int | None, test_images: int, seeds: int) -> dict[str, float]:
    """Ours with a preset, then the reference with the CPU seconds that ours took; test accuracy in percent, one look."""
    curves: dict[str, list[list[dict]]] = {"ours": [], "reference": []}
    for seed in range(seeds):  # in turn, so that a machine that changes its speed changes it for both
        same = ("--test-images", str(test_images))
        flags = ("ours", "--preset", preset, "--seed", str(seed), *(() if epochs is None else ("--epochs", str(epochs))), *same)
        with tempfile.TemporaryDirectory() as work:
            curves["ours"].append(_lines(start(HERE / "cifar10.py", *flags, work=work, threads=1)))
            budget = curves["ours"][-1][-1]["cpu_seconds"]
            flags = ("--cpu-seconds", str(budget), "--seed", str(seed), *same)
            curves["reference"].append(_lines(start(HERE / "tutorial_cifar10.py", *flags, work=work, threads=1)))
        for name, runs in curves.items():
            for point in runs[-1]:
                print(name, seed, {key: round(value, 2) for key, value in point.items()}, flush=True)
    _draw_curves(curves, datasets.cifar10("real").source)
    found: dict[str, float] = {}
    for name, runs in curves.items():
        found |= summary(name, [points[-1]["accuracy"] for points in runs])
        found[f"{name}_cpu_seconds"] = statistics.median(points[-1]["cpu_seconds"] for points in runs)
        found[f"{name}_images_per_cpu_second"] = statistics.median(
            points[-1]["images"] / points[-1]["cpu_seconds"] for points in runs
        )
    return found


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def _draw_curves(curves: dict[str, list[list[dict]]], source: str) -> None:
    import matplotlib.pyplot as plt

    titles = {
        "ours": label("project 2", "프로젝트 2"),
        "reference": label("ResNet-18, DataLoader, SGD", "ResNet-18, DataLoader, SGD"),
    }
    figure, axis = plt.subplots(figsize=(7.5, 4.8))
    for (name, runs), colour in zip(curves.items(), ("seagreen", "slategrey"), strict=True):
        for number, points in enumerate(runs):
            seconds, accuracies = ([point[key] for point in points] for key in ("cpu_seconds", "accuracy"))
            axis.plot(seconds, accuracies, "o-", color=colour, markersize=4, label=titles[name] if number == 0 else None)
    axis.set(xlabel=label("CPU seconds of training, one thread", "학습 CPU 시간(초), 스레드 하나"), title=source)
    axis.set(ylabel=label("test accuracy (%)", "테스트 정확도 (%)"), ylim=(0, 100))
    axis.title.set_fontsize(9)
    axis.grid(alpha=0.3)
    axis.legend(loc="center right")
    save_figure(figure, __file__, "cifar10_curve")


# -------------------------------------------------------------------------------------------------- the input pipeline


def input_pipelines(repeats: int = 5) -> dict[str, float]:
    """Images per second of our batches and of a DataLoader, both mirrored and shifted, 32x32; medians, in turn."""
    torch.set_num_threads(1)
    training = datasets.cifar10("auto").train[:5000]
    batches = TrainingBatches(training, 500, CPU, seed=0)
    loader = DataLoader(Pictures(training, AUGMENT), batch_size=128, shuffle=True)

    def speed(source) -> float:
        started = time.perf_counter()
        count = sum(len(labels) for _, labels in source)
        return count / (time.perf_counter() - started)

    speed(batches)  # the first time pays for memory
    pairs = [(speed(batches), speed(loader)) for _ in range(repeats)]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return {"ours_images_per_second": mine, "loader_images_per_second": theirs, "times_faster": ratio}


# ------------------------------------------------------------------------------------------------- what each step buys


def _plain_first_layer(model: Classifier, batches: TrainingBatches) -> None:
    """A first layer like any other: random, and trained."""
    model.features[0].reset_parameters()
    model.features[0].weight.requires_grad_(True)


def _mirrored_at_random(model: Classifier, batches: TrainingBatches) -> None:
    batches.mirror, alternating = False, batches.transform
    batches.transform = lambda images, generator: alternating(mirror_half(images, generator), generator)


def _set(**settings) -> Callable[[Classifier, TrainingBatches], None]:
    def change(model: Classifier, batches: TrainingBatches) -> None:
        vars(batches).update(settings)

    return change


def _sgd(model: Classifier, recipe: dict) -> torch.optim.Optimizer:
    """SGD for the filters too, at the best of four learning rates (README.md here)."""
    optimizer = train.make_optimizer(model, recipe | {"lr": 1.0})
    optimizer.param_groups[0].update(orthogonal=False, momentum=0.85, weight_decay=5e-4)
    return optimizer


ABLATIONS: dict[str, Callable[[Classifier, TrainingBatches], None]] = {
    "everything": lambda model, batches: None,
    "no whitening": _plain_first_layer,
    "no mirroring": _set(mirror=False),  # the half that was mirrored stays so
    "mirrored at random": _mirrored_at_random,
    "no shifts": _set(shift=0),
    "32x32 all along": _set(sizes=(32,)),
    "cutout 8": _set(cutout=8),
    "SGD instead of Muon": lambda model, batches: None,
    "no label smoothing": lambda model, batches: None,
    "constant learning rate": lambda model, batches: None,
    "float32": lambda model, batches: None,
}


def ablation(preset: str, epochs: int | None, seeds: int, rows: tuple[str, ...]) -> dict[str, float]:
    """Accuracy in percent on 5,000 held-out training images, mean and spread over seeds, with one step of the recipe left out.

    Every row takes the same number of steps; its CPU seconds stand beside it. The test images are not touched.
    """
    torch.set_num_threads(1)
    unknown = [row for row in rows if row not in ABLATIONS]
    check(not unknown, f"no row is called {', '.join(unknown)}; there are: {', '.join(ABLATIONS)}")
    training, validation = datasets.hold_out(datasets.cifar10("real").train, count=5000)
    recipe = train.PRESETS[preset] | ({} if epochs is None else {"epochs": epochs})
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        for row in rows or ABLATIONS:
            seconds, with_tta, without = _train_and_measure(row, recipe, seed, training, validation)
            print(seed, row, f"{seconds:.0f} CPU s, {with_tta:.2f} %, without TTA {without:.2f} %", flush=True)
            for name, value in ((row, with_tta), (f"{row}, without TTA", without), (f"{row}, CPU seconds", seconds)):
                found.setdefault(name, []).append(value)
    return functools.reduce(dict.__or__, (summary(name, values) for name, values in found.items()))


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Compute as on a CPU without bfloat16."""
    with patch.object(device, "has_bfloat16", lambda _: False), patch.object(train, "has_bfloat16", lambda _: False):
        yield


def _train_and_measure(row: str, recipe: dict, seed: int, training: Images, validation: Images) -> tuple[float, float, float]:
    """CPU seconds of training, and accuracy in percent with and without test-time augmentation."""
    started = time.process_time()
    seed_everything(seed)
    model, batches, optimizer, schedule = train.prepare(training, 10, recipe, seed, CPU)
    ABLATIONS[row](model, batches)
    steps = recipe["epochs"] * len(batches)
    if row == "SGD instead of Muon":
        optimizer = _sgd(model, recipe)
        schedule = train.fall(optimizer, steps)
    elif row == "no whitening":  # its first layer is trained as well
        optimizer = train.make_optimizer(model, recipe)
        schedule = train.fall(optimizer, steps)
    elif row == "constant learning rate":
        schedule = None
    smoothing = 0.0 if row == "no label smoothing" else train.SMOOTHING
    loss = functools.partial(train.smoothed_loss, smoothing=smoothing)
    with in_float32() if row == "float32" else contextlib.nullcontext():
        fit(model, batches, optimizer, loss, epochs=recipe["epochs"], scheduler=schedule)
    seconds = time.process_time() - started
    with autocast(CPU, on_cpu=True):
        logits = look(model, validation.images, CPU, views(tta=True))
    answers = mean_logits(logits).argmax(dim=1), logits[0].argmax(dim=1)
    return seconds, *(100 * (answer == validation.labels).float().mean().item() for answer in answers)


# ------------------------------------------------------------------------------------------------- the GPU's recipe


def record(steps: int, seed: int = 0) -> dict[str, float]:
    """The first steps of `--preset record`, which is for a GPU, on this CPU: in bfloat16 (where it has it) and in float32.

    Prints loss and accuracy on each batch of 2,000 before its step. What a GPU makes of the whole run is not measured here.
    """
    torch.set_num_threads(1)
    training = datasets.cifar10("real").train
    recipe = train.PRESETS["record"]
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, precision in (("bfloat16", contextlib.nullcontext()), ("float32", in_float32())):
        with precision:
            seed_everything(seed)
            model, batches, optimizer, schedule = train.prepare(training, 10, recipe, seed, CPU)
            curves[name], answers = [], []
            model.register_forward_hook(lambda module, inputs, logits, answers=answers: answers.append(logits.argmax(dim=1)))
            for pixels, labels in itertools.islice(batches, steps):
                loss = train.smoothed_loss(model, (pixels, labels))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                right = (answers.pop() == labels).float().mean().item()
                curves[name].append((loss.item(), 100 * right))
                print(f"{name} step {len(curves[name])}  loss {loss.item():.4f}  accuracy {100 * right:.1f} %", flush=True)
    both = list(zip(*curves.values(), strict=True))
    return {
        "loss_bfloat16": both[-1][0][0],
        "loss_float32": both[-1][1][0],
        "accuracy_bfloat16": both[-1][0][1],
        "accuracy_float32": both[-1][1][1],
        "largest_difference_of_the_loss": max(abs(one[0] - other[0]) for one, other in both),
    }


def main(
    what: Annotated[What, tyro.conf.Positional],
    preset: train.Preset = "default",
    epochs: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    test_images: int = 10_000,
    steps: int = 12,
    rows: tuple[str, ...] = (),
) -> dict[str, float]:
    """Measure one thing.

    Args:
        what: What to measure; "ours" is a part of "curve", in a process of its own.
        preset: The recipe.
        epochs: A shorter run, for `curve` and `ablation`; without it, the preset's.
        seeds: Runs of each kind, with seeds 0, 1, ...
        seed: Of `ours`.
        test_images: How many of them `curve` looks at.
        steps: Of `record`.
        rows: Of `ablation`; without it, all.
    """
    if what == "accuracy":
        return accuracy(preset, seeds)
    if what == "curve":
        return curve(preset, epochs, test_images, seeds)
    if what == "ours":
        return ours(preset, epochs, test_images, seed)
    if what == "ablation":
        return ablation(preset, epochs, seeds, rows)
    return input_pipelines() if what == "input" else record(steps)


if __name__ == "__main__":
    run(main, all_cores=True)
