"""Project 8 · What to watch next · 영화 추천

Learn from ratings how many stars a person will give, and which film comes next; compare ten ways, from means to a Transformer.
평점에서 두 가지를 배운다. 이 사람이 별을 몇 개 줄지, 다음에 어떤 영화를 볼지. 평균부터 트랜스포머까지 열 가지 방법을 비교한다.

Run        python -m study run recommender                     (simulated people: 35 s of CPU)
           python -m study run recommender --source real       (MovieLens 100k: 6 minutes on one core)
           python -m study run recommender --resume            (go on after Ctrl-C or a crash)
Try next   --people 150: first guess whether factors still know more of the stars than means do, then look
Then       python -m study run recommender/evaluate · recommender/recommend --rated "The Sleepy Choir=5" · recommender/app
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from project8_recommender import evaluate as evaluation
from project8_recommender.data import CHOICE, NO_FILM, Histories, histories, hold_out, load, windows
from project8_recommender.factors import fit_stars
from project8_recommender.model import SequenceTransformer, TwoTower, make_network
from project8_recommender.ranking import LOOK_BACK, hit_and_gain, ranks, score
from project8_recommender.recommend import Recommender, load_recommender, save_recommender
from utils import paths, tracking
from utils.batches import Batches
from utils.datasets import Source
from utils.datasets.ratings import RatingData
from utils.device import pick_device
from utils.lesson import check, run
from utils.seeding import seed_everything
from utils.training import History, check_above_zero, fit, load_best, recipe_with, rise_and_fall

# Chosen on held-out ratings and on everybody's last film but one; README.md has what was tried.
RECIPES = {
    "factors_sgd": {"factors": 20, "epochs": 60, "batch_size": 512, "lr": 15.0, "penalty": 0.12},
    "neural_stars": {"factors": 16, "epochs": 12, "batch_size": 512, "lr": 2e-3, "penalty": 0.05},
    "bpr": {"factors": 32, "epochs": 30, "batch_size": 512, "lr": 5e-3, "penalty": 0.01},
    "neural_next": {"factors": 16, "epochs": 10, "batch_size": 512, "lr": 2e-3, "penalty": 0.003},
    "two_tower": {"factors": 48, "epochs": 10, "batch_size": 256, "lr": 2e-3, "penalty": 0.0},
    "transformer": {"factors": 48, "epochs": 60, "batch_size": 64, "lr": 2e-3, "penalty": 0.0},
}
SAMPLE_RECIPES = {
    "factors_sgd": {"factors": 5, "epochs": 40, "batch_size": 256, "lr": 20.0, "penalty": 0.13},
    "neural_stars": {"factors": 8, "epochs": 10, "batch_size": 256, "lr": 3e-3, "penalty": 0.02},
    "bpr": {"factors": 16, "epochs": 15, "batch_size": 512, "lr": 1e-2, "penalty": 0.01},
    "neural_next": {"factors": 8, "epochs": 6, "batch_size": 512, "lr": 3e-3, "penalty": 0.003},
    "two_tower": {"factors": 32, "epochs": 6, "batch_size": 256, "lr": 3e-3, "penalty": 0.0},
    "transformer": {"factors": 48, "epochs": 20, "batch_size": 32, "lr": 3e-3, "penalty": 0.0},
}
NEGATIVES = {"bpr": 1, "neural_next": 20}  # films that were not watched, for each that was


# %% Losses
def star_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], penalty: float) -> Tensor:
    """Squared error of a batch (people, films, stars), and `penalty` times the squares of the vectors that it uses."""
    people, films, stars = batch
    return F.mse_loss(model(people, films), stars) + penalty * _squares(model, people, films)


def candidate_loss(model: nn.Module, batch: tuple[Tensor], penalty: float) -> Tensor:
    """How surprising it is that of some films the first one was watched.

    With one other film this is BPR (Rendle et al., 2009): -log sigmoid(score of the watched - score of the other one).

    Args:
        model: From people and films to scores.
        batch: One tensor (batch, 2 + others): the person, the film that was watched, films that were not.
        penalty: Of the squares of the vectors that are used.
    """
    people, films = batch[0][:, 0], batch[0][:, 1:]
    scores = model(people, films)  # (batch, 1 + others)
    watched = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
    return F.cross_entropy(scores, watched) + penalty * _squares(model, people, films)


def _squares(model: nn.Module, people: Tensor, films: Tensor) -> Tensor:
    return model.person(people).square().sum(dim=-1).mean() + model.film(films).square().sum(dim=-1).mean()


def next_film_loss(model: TwoTower, batch: tuple[Tensor, Tensor], new: Tensor | None = None) -> Tensor:
    """Cross entropy of the film that follows each history (batch, time), among all films that are there to learn from.

    Args:
        model: From histories to scores of all films.
        batch: Histories and the films that follow (batch,).
        new: (films,) bool, films that are kept from the network until it is measured.
    """
    history, following = batch
    scores = model(history)
    if new is not None:
        scores = scores.masked_fill(new.to(scores.device), -1e9)
    return F.cross_entropy(scores, following)


def sequence_loss(model: SequenceTransformer, batch: tuple[Tensor]) -> Tensor:
    """Cross entropy of every next film in pieces of histories (batch, 1 + time): all places learn at once."""
    inputs, following = batch[0][:, :-1], batch[0][:, 1:]
    is_film = following != NO_FILM
    return F.cross_entropy(model.score(model.read(inputs)[is_film]), following[is_film] - 1)


# %% What there is to train
class Draw:
    """Adds films that the person has not watched to pairs (person, film); called by `Batches` with its own generator."""

    def __init__(self, seen: Tensor, count: int):
        """`seen` (people, films) of 0 and 1; `count` films are drawn for each pair."""
        self.seen, self.count = seen.bool(), count

    def __call__(self, pairs: Tensor, generator: torch.Generator) -> Tensor:
        """(batch, 2) → (batch, 2 + count)."""
        people = pairs[:, :1].cpu()
        drawn = torch.randint(self.seen.shape[1], (len(pairs), self.count), generator=generator)
        for _ in range(5):  # a person has seen a small part of all films: five draws leave next to none of them
            again = torch.randint(self.seen.shape[1], drawn.shape, generator=generator)
            drawn = torch.where(self.seen[people, drawn], again, drawn)
        return torch.cat([pairs, drawn.to(pairs.device)], dim=1)


@dataclass
class Task:
    """A network with all that it takes to train it.

    Attributes:
        model: With random weights, on its device.
        batches: To learn from.
        loss: From the model and a batch.
        validate: After every epoch, on what is held out.
        monitor: Which of its numbers decides on the epoch that is kept.
        optimizer: Of its parameters.
    """

    model: nn.Module
    batches: Batches
    loss: Callable[[nn.Module, Any], Tensor]
    validate: Callable[[nn.Module], dict[str, float]]
    monitor: str
    optimizer: torch.optim.Optimizer


def star_task(name: str, data: RatingData, recipe: dict, seed: int, device: torch.device) -> Task:
    """Predict stars: "factors_sgd" or "neural_stars"."""
    learn, held = hold_out(data.folds[0][0], seed=0)
    mean = learn.stars.mean().item()
    model = make_network(name, data.people.features, data.films.features(), recipe["factors"], mean).to(device)
    if name == "factors_sgd":
        # The loss is the mean of a batch, and a vector is in few of its ratings: what moves it is lr / batch_size for each.
        optimizer = torch.optim.SGD(model.parameters(), lr=recipe["lr"])
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe["lr"])
    return Task(
        model,
        Batches(learn.people, learn.films, learn.stars, batch_size=recipe["batch_size"], device=device, seed=seed),
        functools.partial(star_loss, penalty=recipe["penalty"]),
        lambda model: {"loss_of_held_out": evaluation.squared_error(evaluation.predicted(model, held), held.stars)},
        "loss_of_held_out",
        optimizer,
    )


def next_task(
    name: str, data: RatingData, watched: Histories, recipe: dict, seed: int, device: torch.device, new: Tensor | None = None
) -> Task:
    """Predict the next film: "bpr", "neural_next", "two_tower" or "transformer".

    Args:
        name: Which network.
        data: What is known of people and films.
        watched: Everybody's films; the last two are not learned from.
        recipe: Settings as in RECIPES.
        seed: Of the order and of the films that are drawn.
        device: Where to compute.
        new: (films,) bool for "two_tower": films that are kept from it.
    """
    known, size = watched.without_last(CHOICE), recipe["batch_size"]
    targets = watched.from_end(CHOICE)
    model = make_network(name, data.people.features, data.films.features(), recipe["factors"]).to(device)
    if name in NEGATIVES:
        draw = Draw(known.seen(), NEGATIVES[name])
        batches = Batches(known.pairs(), batch_size=size, transform=draw, device=device, seed=seed)
        loss = functools.partial(candidate_loss, penalty=recipe["penalty"])
    elif name == "two_tower":
        history, following = prefixes(known, LOOK_BACK, new)
        batches = Batches(history, following, batch_size=size, device=device, seed=seed)
        loss = functools.partial(next_film_loss, new=new)
    else:
        batches = Batches(windows(known, model.most), batch_size=size, device=device, seed=seed)
        loss = sequence_loss

    def validate(model: nn.Module) -> dict[str, float]:
        return hit_and_gain(ranks(score(model, known, new), known.seen(), targets))

    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe["lr"], weight_decay=0.01 if name == "transformer" else 0.0)
    return Task(model, batches, loss, validate, "gain", optimizer)


def prefixes(known: Histories, most: int, new: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Every film but a person's first, with the `most` films before it: (N, most) histories and (N,) the films that follow.

    Films that are `new` follow no history, and are in none.
    """
    before, following = [], []
    for place in range(1, int(known.lengths.max())):
        there = known.lengths > place
        before.append(known.sequences[there, max(0, place - most) : place])
        following.append(known.sequences[there, place] - 1)
    padded = [F.pad(one, (0, most - one.shape[1])) for one in before]
    history, after = torch.cat(padded), torch.cat(following)
    if new is not None:
        is_new = torch.cat([torch.tensor([False]), new])  # NO_FILM is not
        history = history.masked_fill(is_new[history], NO_FILM)
        history, after = history[~new[after]], after[~new[after]]
    return history, after


def train_network(task: Task, recipe: dict, folder: str, settings: dict, resume: bool, tracker=None) -> History:
    """Train with `fit`, and leave the network with the weights of its best epoch, in eval mode."""
    checkpoints = paths.models("project8_recommender") / folder
    history = fit(
        task.model,
        task.batches,
        task.optimizer,
        task.loss,
        epochs=recipe["epochs"],
        scheduler=rise_and_fall(task.optimizer, steps=recipe["epochs"] * len(task.batches)),
        validate=task.validate,
        monitor=task.monitor,
        clip_norm=None if folder == "factors_sgd" else 5.0,
        checkpoints=checkpoints,
        resume=resume,
        settings=settings,
        tracker=tracker,
    )
    load_best(task.model, checkpoints)
    return history


def final_recommender(data: RatingData, settings: dict) -> Recommender:
    """What the page uses: factors fitted to all ratings, the test ones as well; how good they are was measured without them."""
    films = data.films
    factors = fit_stars(data.ratings, len(data.people), len(films), **settings["stars"])
    genres = [
        tuple(
            ", ".join(names[place] for place in row.nonzero().squeeze(1).tolist())
            for names in (films.genre_names, films.genre_names_ko)
        )
        for row in films.genres
    ]
    counts = torch.bincount(data.ratings.films, minlength=len(films)).tolist()
    return Recommender(factors, films.titles, films.titles_ko, films.years, genres, counts)


# %% All of it, in order
def main(
    source: Source = "auto",
    size: Literal["100k", "1m"] = "100k",
    people: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    device: str = "auto",
    networks: bool = True,
    cold_start: bool = True,
    resume: bool = False,
    figures: bool = True,
    tracker: tracking.Kind = "tensorboard",
) -> dict[str, float]:
    """Compare ten ways to recommend, draw and save; then films can be asked for.

    Args:
        source: "auto" (MovieLens where it is on disk, else simulated people), "real" or "sample".
        size: Of MovieLens: "100k" or "1m".
        people: How many people to simulate; without it, 600.
        epochs: Passes over the ratings for every network; without it, each its own.
        batch_size: Examples in a step for every network; without it, each its own.
        lr: The highest learning rate of every network; without it, each its own.
        seed: Of the networks' weights and of the order of the examples.
        device: "auto", "cpu", "cuda" or "mps".
        networks: Train the networks; without them only what has a closed form: seconds.
        cold_start: Measure new people and new films as well.
        resume: Go on with the run that was interrupted.
        figures: Draw, and log the curves.
        tracker: What to log them with: "tensorboard", or "wandb" or "mlflow" from `study setup --extra tracking`.
    """
    data, truth = load(source, size, people)
    print(f"data: {data.source}")
    where, settings = pick_device(device), evaluation.CLASSIC if data.is_real else evaluation.SAMPLE_CLASSIC
    recipes = {
        name: recipe_with(recipe, epochs=epochs, batch_size=batch_size, lr=lr)
        for name, recipe in (RECIPES if data.is_real else SAMPLE_RECIPES).items()
    }
    for recipe in recipes.values():
        check_above_zero(recipe, "epochs", "batch_size", "lr")
    watched = histories(data.ratings, len(data.people), len(data.films))
    log = tracking.start(tracker, paths.outputs("project8_recommender"), {"data": data.source, "seed": seed}) if figures else None
    started, trained = time.perf_counter(), {}

    def train_one(name: str, folder: str, learned_from: Histories = watched, new_films: Tensor | None = None) -> nn.Module:
        print(f"\n{folder}")
        seed_everything(seed)
        if name in evaluation.STAR_NAMES:
            task = star_task(name, data, recipes[name], seed, where)
        else:
            task = next_task(name, data, learned_from, recipes[name], seed, where, new_films)
        train_network(task, recipes[name], folder, {"data": data.source, "seed": seed, **recipes[name]}, resume, log)
        return task.model

    for name in recipes if networks else ():
        trained[name] = train_one(name, name)
    ways = evaluation.scorers(watched, trained, settings)
    results = evaluation.measure_stars(data, trained, settings) | evaluation.measure_next(watched, ways)
    choice = evaluation.measure_next(watched, ways, CHOICE)
    best = max((name for name in ways if name not in evaluation.NEXT_BASELINES), key=lambda name: choice[f"gain_{name}"])
    if truth is not None:
        results |= evaluation.best_possible(truth, data, watched)
    if cold_start:
        new_people, new_films = evaluation.choose_new(len(data.people), len(data.films))
        tower = train_one("two_tower", "two_tower_new_people", watched.of(~new_people)) if networks else None
        results |= evaluation.measure_new_people(data, watched, new_people, settings, tower)
        if networks:
            tower = train_one("two_tower", "two_tower_new_films", new_films=new_films)
            results |= evaluation.measure_new_films(data, watched, new_films, tower)
    results["training_seconds"] = time.perf_counter() - started

    recommender = final_recommender(data, settings)
    path = paths.models("project8_recommender") / "model.pt"
    kept = {name: [model.state_dict(), recipes[name]["factors"]] for name, model in trained.items()}
    about = {"source": data.source, "people": len(data.people), "seed": seed, "size": size, "rmse": results["rmse_factors_als"]}
    save_recommender(path, recommender, kept, **about)
    again = load_recommender(path)[0].factors
    check(torch.equal(again.film, recommender.factors.film), f"{paths.short(path)} does not hold what was saved")
    if figures:
        evaluation.draw_results(results)
        log.close()
    check_learned(results, best)
    return results


def check_learned(results: dict[str, float], best: str) -> None:
    """Every way learned something, and the one that was `best` on what is held out beats neighbours as well.

    Args:
        results: On the test ratings and films.
        best: One of the ways to find the next film.

    Raises:
        LessonError: Stars are not predicted better than by means, or the next film not better than by popularity.
    """
    # Whoever has learned nothing says the same of all, and where ratings are few that is better than means.
    most = min(results["rmse_means"], results["rmse_constant"])
    stars = results["rmse_factors_als"]
    check(stars < most - 0.01, f"an error of {stars:.3f} stars is not enough: means or one number for all have {most:.3f}")
    for name in ("factors_sgd", "neural_stars"):
        error = results.get(f"rmse_{name}", stars)
        check(error < most, f"{name} has an error of {error:.3f} stars, and means or one number for all {most:.3f}")
    for name in (name for name in evaluation.NEXT_NAMES if name not in evaluation.NEXT_BASELINES):
        found, least = results.get(f"gain_{name}", 1.0), max(results["gain_popularity"], results["gain_chance"])
        check(found > least, f"gain of {name} is {found:.3f}, and it should be above {least:.3f}")
    for key in ("hit", "gain"):
        found, least = results[f"{key}_{best}"], max(results[f"{key}_{name}"] for name in (*evaluation.NEXT_BASELINES, "chance"))
        check(found > least, f"{key} of {best} is {found:.3f}, and it should be above {least:.3f}")


if __name__ == "__main__":
    run(main)
