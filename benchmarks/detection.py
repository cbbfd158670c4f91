"""Project 5's detector: milliseconds in each runtime, and what it finds in frames as of a webcam.

    python benchmarks/detection.py speed --threads 1 2        each runtime at 320 pixels, in turn, as a ratio to eager
    python benchmarks/detection.py camera                     average precision in simulated frames of a webcam

Both want a trained network (python -m study run detection, or --model) and a machine that does nothing else; `speed` wants what
`study setup --extra onnx` installs, and a C++ compiler for torch.compile. Results: README.md here.
"""

import io
import statistics
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from project5_realtime_detection.data import on_paper
from project5_realtime_detection.export import differences, write_files
from project5_realtime_detection.finder import Finder, Runtime, load_finder, without_doubles
from project5_realtime_detection.model import load_network, save_network
from utils.average_precision import mean_average_precision
from utils.batches import to_pixels
from utils.box_augmentation import letterbox, resize
from utils.datasets import picture_book
from utils.datasets.scenes import BANDS, CLASSES, draw_scenes
from utils.lesson import check, mention, run

HEIGHT, WIDTH = 480, 640  # of a webcam's frame
RUNTIMES: tuple[Runtime, ...] = ("eager", "compiled", "exported", "onnx", "int8")


# ------------------------------------------------------------------------------------------------------------- speed


def speed(model: Path | None, side: int, threads: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Milliseconds of the network, and of `find` from a frame of 640x480 to boxes, in each runtime; medians of runs in turn."""
    network, about = load_network(model)
    scenes = draw_scenes(8, 0, HEIGHT, "test")
    frames = [resize(image, (HEIGHT, WIDTH)) for image in scenes.images]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.pt"
        save_network(file, network, about["classes"], side, about["source"], about["average_precision"])
        write_files(file, list(draw_scenes(32, 0, side).images))
        for count in threads:
            torch.set_num_threads(count)
            torch.compiler.reset()
            finders = {runtime: load_finder(file, runtime, "cpu") for runtime in RUNTIMES}
            times: dict[str, list[tuple[float, float]]] = {runtime: [] for runtime in RUNTIMES}
            for number in range(repeats + 1):
                for runtime, finder in finders.items():
                    times[runtime].append(_milliseconds(finder, frames[number % len(frames)]))
            apart = {runtime: differences(finders["eager"], finder, frames) for runtime, finder in finders.items()}
            found |= _report(count, times, apart)
        found |= _parts(finders["eager"], frames, repeats)
    return found


def _milliseconds(finder: Finder, frame: Tensor) -> tuple[float, float]:
    """The network alone, and all of `find`."""
    square = to_pixels(letterbox(frame, finder.side)[0][None])
    started = time.perf_counter()
    with torch.inference_mode():
        finder.forward(square)
    between = time.perf_counter()
    finder.find(frame)
    return 1000 * (between - started), 1000 * (time.perf_counter() - between)


def _report(count: int, times: dict[str, list[tuple[float, float]]], apart: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Print a line for each runtime; the first run, which pays for memory and compiling, is left out."""
    print(
        f"{count} thread{'s' * (count > 1)}: network, frame to boxes, frames a second, ratio to eager, apart in pixels and scores"
    )
    medians = {name: tuple(map(statistics.median, zip(*rows[1:], strict=True))) for name, rows in times.items()}
    found = {}
    for name, (network, whole) in medians.items():
        ratio = medians["eager"][1] / whole
        box, score = apart[name]
        print(
            f"  {name:9}{network:7.1f} ms{whole:8.1f} ms{1000 / whole:7.0f}/s{ratio:7.2f}{box:10.1e} px{score:9.1e}", flush=True
        )
        found |= {f"{name}_network_ms_{count}": network, f"{name}_ms_{count}": whole, f"{name}_ratio_{count}": ratio}
    return found


def _parts(finder: Finder, frames: list[Tensor], repeats: int) -> dict[str, float]:
    """What is not the network: fitting a frame into the square, and throwing double boxes out."""
    fit, doubles = [], []
    for number in range(repeats):
        started = time.perf_counter()
        square = to_pixels(letterbox(frames[number % len(frames)], finder.side)[0][None])
        fit.append(time.perf_counter() - started)
        with torch.inference_mode():
            boxes, scores = finder.forward(square)
        started = time.perf_counter()
        without_doubles(boxes[0], scores[0], 0.3, 0.5)
        doubles.append(time.perf_counter() - started)
    return {"letterbox_ms": 1000 * statistics.median(fit), "without_doubles_ms": 1000 * statistics.median(doubles)}


# ------------------------------------------------------------------------------------------------------------ camera


def camera(model: Path | None, count: int, seed: int) -> dict[str, float]:
    """Average precision on simulated frames, by how large the sheet is in the frame."""
    finder = load_finder(model, device="cpu")
    check(finder.classes == list(CLASSES), "this network does not find shapes and digits: python -m study run detection")
    print(f"trained on: {finder.source}")
    results = {}
    for name, sizes in {"near": (0.8, 1.0), "middle": (0.55, 0.8), "far": (0.35, 0.55)}.items():
        frames, boxes, labels = simulated(count, seed, sizes)
        found = [finder.find(frame, 0.01) for frame in frames]
        precision = mean_average_precision(found, boxes, labels, len(CLASSES), [0.5])
        results[f"map_50_{name}"] = precision.at_50
    return results


def simulated(count: int, seed: int, sizes: tuple[float, float]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Frames of a webcam that somebody holds a sheet into: test scenes on paper, somewhere before a photograph.

    Light, focus, noise and JPEG vary. The sheet is not turned or bent, and nobody's fingers are on it: a real camera is harder.

    Args:
        count: How many.
        seed: Other frames for another seed.
        sizes: The side of the sheet as a share of the frame's height, at least and at most.

    Returns:
        Frames (3, 480, 640) uint8; their boxes (n, 4) in pixels; their labels (n,).
    """
    from PIL import Image, ImageFilter

    r, generator = Random(seed), torch.Generator().manual_seed(seed)
    scenes = draw_scenes(count, seed, 320, "test")
    frames, boxes = [], []
    for image, mask, owners, theirs in zip(scenes.images, scenes.masks, scenes.owners, scenes.boxes, strict=True):
        photo, (start, end) = r.choice(picture_book.photographs()), BANDS["test"][0]
        part = photo.crop((round(start * photo.width), 0, round(end * photo.width), photo.height))
        frame = part.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        side = round(r.uniform(*sizes) * HEIGHT)
        left, top = r.randint(0, WIDTH - side), r.randint(0, HEIGHT - side)
        sheet = resize(on_paper(image, mask, owners, generator), (side, side))
        frame.paste(Image.fromarray(sheet.permute(1, 2, 0).numpy()), (left, top))
        frame = frame.filter(ImageFilter.GaussianBlur(r.uniform(0, 1.5)))
        shot = np.asarray(frame, np.float32) * r.uniform(0.5, 1.1)
        shot += np.frombuffer(r.randbytes(shot.size), np.uint8).reshape(shot.shape) * 0.08 - 10
        file = io.BytesIO()
        Image.fromarray(shot.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=r.randint(50, 90))
        frames.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).contiguous())
        boxes.append(theirs * (side / 320) + torch.tensor([left, top, left, top]))
    return frames, boxes, scenes.labels


def main(
    what: Annotated[Literal["speed", "camera"], tyro.conf.Positional],
    model: Path | None = None,
    side: int = 320,
    threads: tuple[int, ...] = (1,),
    repeats: int = 40,
    frames: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Measure one thing.

    Args:
        what: What to measure.
        model: The network's file; without it, the one that `python -m study run detection` wrote.
        side: Of what it sees, for speed.
        threads: How many, one after another, for speed.
        repeats: Runs of each runtime, in turn; their median counts.
        frames: How many of each size, for camera.
        seed: Of the frames.
    """
    check(min(side, repeats, frames, *threads) > 0, "--side, --threads, --repeats and --frames must be above 0")
    check(side % 32 == 0, "--side must be a multiple of 32")
    if what == "camera":
        torch.set_num_threads(threads[0])
        return camera(model, frames, seed)
    mention("device", f"cpu, {' and '.join(map(str, threads))} thread{'s' * (max(threads) > 1)}")
    return speed(model, side, threads, repeats)


if __name__ == "__main__":
    run(main, all_cores=True)
