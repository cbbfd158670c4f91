"""Project 6 · Faces that nobody has · 얼굴 생성

Train a diffusion model or a GAN to make faces, ask it for glasses and a smile, and measure what comes out: how far from real
ones, how many kinds, and whether they are copies.
확산 모델이나 GAN으로 얼굴을 만드는 법을 학습하고, 안경과 미소를 요구하고, 결과를 잰다. 진짜와 얼마나 먼지, 얼마나 다양한지,
베낀 것은 아닌지.

Run        python -m study run faces                              (drawn faces: about a minute of one core)
           python -m study run faces --model gan                  (the other network)
           python -m study run faces --source real --data olivetti
           python -m study run faces --resume                     (go on after Ctrl-C or a crash)
Try next   --model gan: guess which of its numbers are better than those of normal pixels, and which are not
Then       python -m study run faces/evaluate · faces/app
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from project6_faces import evaluate as evaluation
from project6_faces.data import coded_batches, load, pictures, shape_for
from project6_faces.directions import find_directions
from project6_faces.model import KINDS, Diffusion, Gan, Kind, Maker, follow, load_network, save_network
from project6_faces.reader import Space, space_for
from utils import checkpoint, paths, tracking
from utils.datasets import Source
from utils.datasets.faces import FaceData, Name
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import save_figure
from utils.sample_quality import kernel_distance
from utils.seeding import seed_everything
from utils.training import check_above_zero, fit, recipe_with, rise_and_fall

# Chosen on the validation faces, never on the test ones; README.md has what was tried.
RECIPES = {
    "diffusion": {"steps": 1125, "lr": 2e-3, "width": 384, "blocks": 3, "batch_size": 64},
    "gan": {"steps": 1125, "lr": 1e-3, "width": 384, "blocks": 2, "batch_size": 64},
}
LEAST_FACES = 100  # a distance in 64 features needs more than 64
STEPS_PER_EPOCH = 400  # between two looks at the validation faces
ENOUGH = 0.7  # of the way from the Fréchet distance of test faces to that of normal pixels, for the diffusion model
MORE, HALF = 0.05, 0.5  # above their precision, and of their recall, for the GAN
DIRECTIONS = 6  # in the noise, that are looked for and kept
DEAF = 0.1  # share of the faces of which the diffusion model is not told the wishes
READING = 1.0  # weight of reading wishes beside telling real from made, in the GAN


# %% The recipe
def diffusion_loss(model: Diffusion, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error of the guessed velocity, for codes (batch, codes) and wishes (batch, wishes)."""
    codes, wishes = batch
    follow(model.average, model.net)
    noisy, times, velocities = model.noisy(codes)
    heard = (torch.rand(len(codes)) >= DEAF).float().to(codes.device)
    return F.mse_loss(model.net(noisy, times, wishes, heard), velocities)


def gan_loss(model: Gan, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The losses of both players, as one number: each one's gradient reaches its own weights only, so they step at once.

    The generator's wishes are those of other faces in the batch. Both also learn what wishes look like.
    """
    codes, wishes = batch
    follow(model.average, model.net)
    asked = wishes.roll(1, dims=0)
    noise = torch.randn(len(codes), model.noise).to(codes.device)  # drawn on the CPU: the same on every device
    fake = model.net(noise, asked)
    real_logits, read = model.discriminator(codes)
    fake_logits, _ = model.discriminator(fake.detach())  # the generator shall not help
    found_out = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
    model.discriminator.requires_grad_(False)  # nor shall the discriminator let itself be fooled
    logits, seen = model.discriminator(fake)
    model.discriminator.requires_grad_(True)
    loss = found_out + F.softplus(-logits).mean()
    return loss + READING * (F.mse_loss(read, wishes) + F.mse_loss(seen, asked)) if wishes.shape[1] else loss


LOSSES = {"diffusion": diffusion_loss, "gan": gan_loss}


def make_optimizer(model: Maker, lr: float) -> torch.optim.Adam:
    """Adam; in the game the generator's rate is half of the discriminator's, and it remembers less."""
    if isinstance(model, Diffusion):
        return torch.optim.Adam(model.net.parameters(), lr, betas=(0.9, 0.99), fused=True)
    players = [{"params": model.discriminator.parameters()}, {"params": model.net.parameters(), "lr": lr / 2}]
    return torch.optim.Adam(players, lr, betas=(0.5, 0.99), fused=True)


def validation_numbers(model: Maker, data: FaceData, space: Space, count: int = 300) -> dict[str, float]:
    """How far generated faces are from the validation faces."""
    made = evaluation.generate(model, data, count, seed=1)
    return {"kernel_distance": kernel_distance(space.features(pictures(data.validation.images)), space.features(made))}


def check_learned(kind: Kind, results: dict[str, float]) -> None:
    """Compare with normal pixels, which know means and covariances only.

    The diffusion model has to be nearer to real faces than they are. The GAN is not (README.md has the numbers); of it is wanted
    that more of its faces are among the real ones, without many kinds missing.
    """
    found, floor, pixels = (results[f"frechet_{name}"] for name in ("model", "test", "gaussian"))
    most = floor + ENOUGH * (pixels - floor)
    if kind == "diffusion":
        check(found < most, f"a Fréchet distance of {found:.3f} is not enough, less than {most:.3f} is wanted: more --steps?")
        return
    least, kinds = results["precision_gaussian"] + MORE, HALF * results["recall_gaussian"]
    told = f"a precision of {results['precision_model']:.3f} and a recall of {results['recall_model']:.3f} are not enough"
    good = results["precision_model"] > least and results["recall_model"] > kinds
    check(good, f"{told}, more than {least:.3f} and {kinds:.3f} are wanted: more --steps?")
    if found > pixels:
        told = f"its Fréchet distance is {found:.2f}, that of normal pixels {pixels:.2f}"
        print(f"{told}: by this measure the GAN is worse than the baseline, as README.md says")


# %% All of it, in order
def main(
    source: Source = "sample",
    data: Name = "auto",
    model: Kind = "diffusion",
    steps: int | None = None,
    lr: float | None = None,
    width: int | None = None,
    batch_size: int | None = None,
    faces: int = 6000,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Train a network that makes faces, measure it, draw and save; then it can be asked for faces.

    Args:
        source: "sample" (faces drawn by the course), "real", or "auto" for real ones if they are there.
        data: Which real faces: "olivetti", "lfw", "celeba", or "auto" for the largest set that is there.
        model: "diffusion" or "gan".
        steps: Of training, rounded to whole epochs; without it, the recipe's.
        lr: The highest learning rate; without it, the recipe's.
        width: Hidden units; without it, the recipe's.
        batch_size: Faces in a step; without it, the recipe's.
        faces: Drawn faces to learn from.
        seed: Of the weights, the order and the noise.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with the run that was interrupted.
        figures: Draw, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    check(faces >= LEAST_FACES, f"--faces must be at least {LEAST_FACES}")
    recipe = recipe_with(RECIPES[model], steps=steps, lr=lr, width=width, batch_size=batch_size)
    check_above_zero(recipe, "steps", "lr", "width", "batch_size")
    check(recipe["batch_size"] > 1, "--batch-size must be at least 2: one face by itself cannot be normalised")
    given = load(source, data, faces)
    print(f"data: {given.source}")
    where, space = pick_device(device), space_for(given)
    print(f"distances are measured in {space.name}")

    seed_everything(seed)
    shape = shape_for(given, recipe["width"], recipe["blocks"])
    maker = KINDS[model](shape)
    batches = coded_batches(given, maker.eigenfaces, recipe["batch_size"], min(recipe["steps"], STEPS_PER_EPOCH), where, seed)
    maker.to(where)
    folder = paths.models("project6_faces") / model
    settings = {"data": given.source, "seed": seed, **recipe}
    log = tracking.start(tracker, paths.outputs("project6_faces"), settings) if figures else None

    epochs = max(1, round(recipe["steps"] / len(batches)))
    optimizer = make_optimizer(maker, recipe["lr"])
    started = time.perf_counter()
    history = fit(
        maker,
        batches,
        optimizer,
        LOSSES[model],
        epochs=epochs,
        scheduler=rise_and_fall(optimizer, steps=epochs * len(batches)),
        validate=lambda one: validation_numbers(one, given, space),
        clip_norm=10.0,
        checkpoints=folder,
        resume=resume,
        settings=settings,
        tracker=log,
    )
    seconds = time.perf_counter() - started

    maker.eval()
    results, shown = evaluation.measure(maker, given, space, seed)
    path = paths.models("project6_faces") / "model.pt"
    found = find_directions(maker, evaluation.resting(given), DIRECTIONS, space.reader, given.attributes)
    about = {"attributes": given.attributes, "source": given.source, "set": given.name, "count": len(given.train), "seed": seed}
    about |= {"directions": torch.stack([one.vector for one in found]), "names": [one.name for one in found]}
    about |= {"resting": evaluation.resting(given), "reader": space.reader.state_dict() if space.reader else None}
    save_network(path, maker, **about)
    checkpoint.check_saved(path, maker, load_network(path, where)[0], where)
    evaluation.show(results)
    print("directions in the noise: " + ", ".join(f"{one.name} ({one.change:.3f})" for one in found))
    if figures:
        save_figure(evaluation.draw_learning_curves(history), __file__, "learning_curves")
        evaluation.draw_results(maker, given, shown)
        log.close()
    check_learned(model, results)
    return {**results, "training_seconds": seconds}


if __name__ == "__main__":
    run(main)
