"""VAE, GAN and diffusion in one table: the three lessons' networks, judged in one run by the same classifier at the same size.

    python benchmarks/generative.py                     three seeds, on the sample (about 5 minutes of CPU)
    python benchmarks/generative.py --source real       on MNIST

Each network is trained with its lesson's own functions and default settings, one thread. All pictures are judged at 28x28: those
that a network draws at 14x14 are enlarged by one linear map, fitted to training pictures; "real, halved" shows what that alone
costs. What was measured is in README.md here.
"""

import importlib.util
import inspect
import statistics
import time
from collections.abc import Callable
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import paths
from utils.datasets import Source, mnist
from utils.lesson import check, run
from utils.sample_quality import Judge, fit_enlarger, frechet_distance, gaussian_samples, precision_recall, train_judge


def load(name: str) -> ModuleType:
    """Return a lesson of 06_advanced: an import statement cannot name a folder that begins with a digit."""
    path = paths.ROOT / "06_advanced" / f"{name}.py"
    check(path.exists(), f"{paths.short(path)} is missing; it is one of the lessons that are compared")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def setting(lesson: ModuleType, name: str):
    """Return the default of one of the flags of a lesson."""
    return inspect.signature(lesson.main).parameters[name].default


def draw_vae(images: Tensor, count: int, seed: int) -> tuple[Tensor, float]:
    """Train the lesson's variational autoencoder with beta 1; return pictures, and the CPU seconds of training."""
    vae, started = load("vae"), time.process_time()
    model = vae.VAE(setting(vae, "width"), seed)
    vae.train(model, images, 1.0, setting(vae, "steps"), setting(vae, "lr"), seed)
    seconds = time.process_time() - started
    return vae.draw_codes(model, count, seed, torch.device("cpu")), seconds


def draw_gan(images: Tensor, count: int, seed: int) -> tuple[Tensor, float]:
    """Train the lesson's spectrally normalised GAN, likewise."""
    gan, started = load("gan"), time.process_time()
    small = F.avg_pool2d(images, 2) * 2 - 1
    torch.manual_seed(seed)
    players = gan.make_generator(32), gan.Discriminator(32, setting(gan, "sharpness"))
    average = gan.play(players, small, [setting(gan, "steps")], setting(gan, "lr"), seed)[0]
    seconds = time.process_time() - started
    return fit_enlarger(small, images)(gan.draw_pictures(average, count, seed + 1)), seconds


def draw_diffusion(images: Tensor, count: int, seed: int) -> tuple[Tensor, float]:
    """Train the lesson's diffusion model, likewise."""
    diffusion, started = load("diffusion"), time.process_time()
    small, left = F.avg_pool2d(images, 2) * 2 - 1, diffusion.signal_left(setting(diffusion, "timesteps"))
    torch.manual_seed(seed)
    average = diffusion.train(small, left, diffusion.UNet(), setting(diffusion, "steps"), setting(diffusion, "lr"), seed)
    seconds = time.process_time() - started
    noise = torch.randn(count, 1, 14, 14, generator=torch.Generator().manual_seed(seed))
    return fit_enlarger(small, images)(diffusion.sample(average, noise, left, seed)[-1]), seconds


def measure(judge: Judge, real: Tensor, pictures: Tensor) -> dict[str, float]:
    """Fréchet distance to the features of all training pictures; precision and recall among equally many of them."""
    fake, order = judge.features(pictures), torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    precision, recall = precision_recall(real[order[: len(fake)]], fake)
    return {"frechet_distance": frechet_distance(real, fake), "precision": precision, "recall": recall}


def main(seeds: int = 3, source: Source = "sample") -> dict[str, float]:
    """Measure all of them.

    Args:
        seeds: Networks of each kind.
        source: Pictures from: auto, real, sample.
    """
    check(seeds > 0, f"--seeds {seeds}: at least one is needed")
    data = mnist(source)
    images, test = data.train.images[:10_000] / 255, data.test.images[:1000] / 255
    judge, count = train_judge(data.train), len(test)
    real, enlarge = judge.features(images), fit_enlarger(F.avg_pool2d(images, 2), images)
    fixed = {"real": test, "real, halved": enlarge(F.avg_pool2d(test, 2))}
    makers: dict[str, Callable] = {
        "Gaussian": lambda images, count, seed: (gaussian_samples(images, count, seed), 0.0),
        "VAE": draw_vae,
        "GAN": draw_gan,
        "diffusion": draw_diffusion,
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in [*fixed, *makers]}

    def note(name: str, pictures: Tensor, **more: float) -> None:
        runs[name].append(found := measure(judge, real, pictures) | more)
        print(f"{name:13}" + ", ".join(f"{what} {value:.3f}" for what, value in found.items()), flush=True)

    for name, pictures in fixed.items():
        note(name, pictures)
    for seed in range(seeds):
        for name, make in makers.items():
            started = time.process_time()
            pictures, training = make(images, count, seed)
            note(name, pictures, training_cpu_seconds=training, drawing_cpu_seconds=time.process_time() - started - training)
    results = {}
    for name, what in [(name, what) for name, found in runs.items() for what in found[0]]:
        values, key = [found[what] for found in runs[name]], f"{name}_{what}".replace(", ", "_")
        results[key] = statistics.mean(values)
        if len(values) > 1:
            results[f"{key}_spread"] = statistics.stdev(values)
    return results


if __name__ == "__main__":
    run(main)
