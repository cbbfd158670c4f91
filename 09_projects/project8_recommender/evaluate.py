"""How far off are the stars, how often is the next film on the list, and what of people and films that are new? · 추천 평가

Root mean squared error on fold 1, hit rate and NDCG on everybody's last film among all that the person has not seen, and
the cold start: people after their first ratings, films that nobody has seen.
폴드 1에서 평점의 RMSE를, 각자의 마지막 영화로 적중률과 NDCG를 잰다. 후보는 아직 보지 않은 모든 영화다. 콜드 스타트도 잰다.

Run        python -m study run recommender/evaluate        (after python -m study run recommender)
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from project8_recommender import ranking
from project8_recommender.data import CHOICE, TEST, Histories, histories, load
from project8_recommender.factors import fit_stars, fit_watched
from project8_recommender.model import make_network
from project8_recommender.neighbours import fit_biases, fit_neighbours, in_scale
from project8_recommender.recommend import load_saved
from utils import checkpoint
from utils.datasets import Source
from utils.datasets.ratings import RatingData, Ratings
from utils.datasets.simulated_ratings import Truth
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

# For the ways without a training loop; chosen like the networks' in train.py.
CLASSIC = {
    "bias_pull": (5.0, 2.0),
    "neighbours": {"most": 40, "shrink": 100.0},
    "people_neighbours": {"most": 80, "shrink": 100.0},
    "stars": {"factors": 20, "penalty": 1.4, "bias_penalty": 4.0, "rounds": 15},
    "watched": {"factors": 64, "weight": 10.0, "penalty": 40.0, "rounds": 10},
    "film_neighbours": 0.0,
}
SAMPLE_CLASSIC = {
    **CLASSIC,
    "stars": {"factors": 5, "penalty": 1.0, "bias_penalty": 4.0, "rounds": 15},
    "watched": {"factors": 16, "weight": 5.0, "penalty": 20.0, "rounds": 10},
}
STAR_NAMES = {
    "means": ("means", "평균"),
    "people_neighbours": ("neighbours: people", "이웃: 사람"),
    "film_neighbours": ("neighbours: films", "이웃: 영화"),
    "factors_als": ("factors, least squares", "행렬 분해 (ALS)"),
    "factors_sgd": ("factors, gradient", "행렬 분해 (SGD)"),
    "neural_stars": ("neural CF", "신경망 협업 필터링"),
}
NEXT_NAMES = {
    "popularity": ("popularity", "인기"),
    "film_neighbours": ("neighbours: films", "이웃: 영화"),
    "factors_als": ("factors, least squares", "행렬 분해 (ALS)"),
    "bpr": ("BPR", "BPR"),
    "neural_next": ("neural CF", "신경망 협업 필터링"),
    "two_tower": ("two towers", "투 타워"),
    "transformer": ("Transformer", "트랜스포머"),
}
STAR_BASELINES, NEXT_BASELINES = ("means",), ("popularity", "film_neighbours")  # what has to be beaten; grey in the figure
RATINGS_GIVEN = (0, 1, 2, 3, 5, 10, 20)  # by somebody new


# %% Stars
@torch.no_grad()
def predicted(model: nn.Module, ratings: Ratings) -> Tensor:
    """The stars that a network gives to pairs, within the scale: (N,) on the CPU."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    pairs = zip(ratings.people.split(8192), ratings.films.split(8192), strict=True)
    stars = torch.cat([model(people.to(device), films.to(device)).float().cpu() for people, films in pairs])
    model.train(was_training)
    return in_scale(stars)


def squared_error(stars: Tensor, told: Tensor) -> float:
    return (stars - told).square().mean().item()


def root_error(stars: Tensor, told: Tensor) -> float:
    """Root mean squared error, in stars."""
    return squared_error(stars, told) ** 0.5


def measure_stars(data: RatingData, networks: dict[str, nn.Module], settings: dict, fold: int = 0) -> dict[str, float]:
    """Root mean squared error of every way, and of one number for all, on the test ratings of a fold: "rmse_..."."""
    learn, test = data.folds[fold]
    sizes = len(data.people), len(data.films)
    biases = fit_biases(learn, *sizes, settings["bias_pull"])
    ways = {
        "means": biases,
        "people_neighbours": fit_neighbours(learn, biases, of_people=True, **settings["people_neighbours"]),
        "film_neighbours": fit_neighbours(learn, biases, of_people=False, **settings["neighbours"]),
        "factors_als": fit_stars(learn, *sizes, **settings["stars"]),
    }
    found = {name: root_error(way.predict(test.people, test.films), test.stars) for name, way in ways.items()}
    found |= {name: root_error(predicted(networks[name], test), test.stars) for name in STAR_NAMES if name in networks}
    found["constant"] = root_error(learn.stars.mean(), test.stars)
    return {f"rmse_{name}": value for name, value in found.items()}


# %% The next film
def scorers(watched: Histories, networks: dict[str, nn.Module], settings: dict) -> dict[str, ranking.Scorer]:
    """Every way to score films, by name; all have learned from the same histories, without everybody's last two films."""
    known = watched.without_last(CHOICE)
    ways = {
        "popularity": ranking.popularity(known),
        "film_neighbours": ranking.film_neighbours(known, settings["film_neighbours"]),
        "factors_als": ranking.watched_factors(fit_watched(known.seen(), **settings["watched"])),
    }
    for name in NEXT_NAMES:
        if name in networks:
            ways[name] = lambda histories, model=networks[name]: ranking.score(model, histories)
    return ways


def measure_next(watched: Histories, ways: dict[str, ranking.Scorer], back: int = TEST) -> dict[str, float]:
    """Every way, and chance, on the film that is `back` from the end of everybody's history: "hit_...", "gain_..."."""
    found = {}
    for name, scorer in ways.items():
        found |= {f"{key}_{name}": value for key, value in ranking.measure_scorer(scorer, watched, back).items()}
    left = watched.films - watched.lengths + back  # films that each person may be recommended
    chance = ranking.hit_and_gain(torch.arange(1.0, 1 + ranking.TOP))
    return found | {f"{key}_chance": (ranking.TOP * chance[key] / left).mean().item() for key in chance}


def best_possible(truth: Truth, data: RatingData, watched: Histories) -> dict[str, float]:
    """What somebody would reach who knew every taste and every mood; the rest is chance."""
    test = data.folds[0][1]
    known = watched.without_last(TEST)
    places = ranking.ranks(truth.next_film, known.seen(), watched.from_end(TEST))
    found = {f"{key}_possible": value for key, value in ranking.hit_and_gain(places).items()}
    return found | {"rmse_possible": root_error(truth.expected_stars()[test.people, test.films], test.stars)}


# %% Cold start
def choose_new(people: int, films: int, share: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Who and what is treated as new, a fifth of each: masks (people,) and (films,)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(people, generator=generator) < share, torch.rand(films, generator=generator) < share


def measure_new_people(
    data: RatingData, watched: Histories, new: Tensor, settings: dict, two_tower: nn.Module | None = None
) -> dict[str, float]:
    """What is known of somebody after 0, 1, 2, ... ratings, by ways that have never seen these people.

    Stars: of the films after the twentieth, from the first k ratings. The next film: everybody's last one, from the k films
    before it (none that was seen before is recommended).

    Args:
        data: All ratings.
        watched: All histories.
        new: (people,) bool, who is new; the others are learned from.
        settings: As CLASSIC.
        two_tower: Trained without the new people.

    Returns:
        "rmse_means_5", "rmse_factors_5", "hit_popularity_5", "hit_factors_5", "hit_film_neighbours_5", "hit_two_tower_5", ...
    """
    learn = data.ratings.at(~new[data.ratings.people])
    sizes = len(data.people), len(data.films)
    fitted, pull = fit_stars(learn, *sizes, **settings["stars"]), settings["bias_pull"]
    biases = fit_biases(learn, *sizes, pull)
    stars_of = torch.zeros(sizes)
    stars_of[data.ratings.people, data.ratings.films] = data.ratings.stars
    known, newcomers = watched.of(~new), watched.of(new)
    ways = {
        "popularity": ranking.popularity(known),
        "film_neighbours": ranking.film_neighbours(known, settings["film_neighbours"]),
        "factors": ranking.watched_factors(fit_watched(known.seen(), **settings["watched"])),
    }
    if two_tower is not None:
        ways["two_tower"] = lambda histories: ranking.score(two_tower, histories)
    before = newcomers.without_last(TEST)
    seen, target = before.seen(), newcomers.from_end(TEST)
    found = {}
    for count in RATINGS_GIVEN:
        short = Histories(
            before.newest(count) if count else torch.zeros(len(before), 1, dtype=torch.long),
            before.lengths.clamp(max=count),
            before.films,
        )
        for name, scorer in ways.items():
            found[f"hit_{name}_{count}"] = ranking.hit_and_gain(ranking.ranks(scorer(short), seen, target))["hit"]
        pairs = []  # (by means, by factors, told)
        for person in new.nonzero().squeeze(1).tolist():
            films = watched.sequences[person, : watched.lengths[person]] - 1
            given, later = films[:count], films[max(RATINGS_GIVEN) :]
            stars, told = stars_of[person, given], stars_of[person, later]
            left = (stars - biases.mean - biases.film[given]).sum() / (count + pull[0])
            by_means = in_scale(biases.mean + biases.film[later] + left)
            by_factors = in_scale(fitted.mean + fitted.film_bias + fitted.film_features @ fitted.fold_in(given, stars))[later]
            pairs.append(torch.stack([by_means, by_factors, told]))
        by_means, by_factors, told = torch.cat(pairs, dim=1)
        found[f"rmse_means_{count}"], found[f"rmse_factors_{count}"] = root_error(by_means, told), root_error(by_factors, told)
    return found


def measure_new_films(data: RatingData, watched: Histories, new: Tensor, two_tower: nn.Module) -> dict[str, float]:
    """Films that nobody has seen, told apart by their features.

    What is measured: of pairs of a new film that the person has watched and one that the person has not, the share in the right
    order, as a mean over people. Chance is 0.5.

    Args:
        data: What is known of the films.
        watched: All histories.
        new: (films,) bool, which are new.
        two_tower: Trained without them.

    Returns:
        "auc_two_tower", and "auc_genres": by how like a film's features are to the mean of what the person has watched.
    """
    seen, hidden = watched.seen(), watched.sequences
    is_new = torch.cat([torch.tensor([False]), new])
    old = [row[(row > 0) & ~is_new[row]] for row in hidden]
    kept = Histories(nn.utils.rnn.pad_sequence(old, batch_first=True), torch.tensor([len(row) for row in old]), watched.films)
    features = data.films.features()
    features = features / features.norm(dim=1, keepdim=True).clamp(min=1e-6)
    profile = kept.seen() @ features / kept.lengths.clamp(min=1).unsqueeze(1)
    ways = {"two_tower": ranking.score(two_tower, kept, new), "genres": (profile - profile.mean(dim=0)) @ features.T}
    found = {}
    for name, scores in ways.items():
        shares = []
        for person in range(len(seen)):
            yes, no = scores[person, new & (seen[person] > 0)], scores[person, new & (seen[person] == 0)]
            if len(yes) and len(no):
                shares.append(((yes[:, None] > no).float() + 0.5 * (yes[:, None] == no).float()).mean())
        check(len(shares) > 0, "nobody has watched any of the new films: there is nothing to measure")
        found[f"auc_{name}"] = torch.stack(shares).mean().item()
    return found


# %% Figures
def draw_comparison(results: dict[str, float]):
    """Stars and next films: every way beside the others, and the best possible where it is known; returns the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    stars = label("Error of the stars (RMSE, less is better)", "평점 오차 (RMSE, 작을수록 좋다)")
    hits = label("Next film among the first 10 (%)", "다음 영화가 상위 10편에 든 비율 (%)")
    panels = ((left, "rmse", STAR_NAMES, STAR_BASELINES, stars, 1), (right, "hit", NEXT_NAMES, NEXT_BASELINES, hits, 100))
    for axis, key, names, baselines, title, scale in panels:
        there = [name for name in names if f"{key}_{name}" in results]
        values = [scale * results[f"{key}_{name}"] for name in there]
        colours = ["gray" if name in baselines else "tab:blue" for name in there]
        places = range(len(there))
        axis.scatter(values, places, s=70, color=colours, zorder=3)
        for place, value in zip(places, values, strict=True):
            told = f"{value:.3f}" if scale == 1 else f"{value:.1f}"
            axis.annotate(told, (value, place), (8, 0), textcoords="offset points", va="center")
        if f"{key}_possible" in results:
            axis.axvline(
                scale * results[f"{key}_possible"], color="black", linestyle=":", label=label("best possible", "가능한 최선")
            )
        axis.set(title=title, yticks=places, yticklabels=[label(*names[name]) for name in there])
        axis.invert_yaxis()
        axis.margins(x=0.2)
        axis.grid(alpha=0.3)
    if "hit_possible" in results:
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower center")
    return figure


def draw_cold_start(results: dict[str, float]):
    """Error and hit rate by the number of ratings that somebody new has given; returns the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    lines = (
        (left, "rmse_means", label("means", "평균"), "gray", 1),
        (left, "rmse_factors", label("factors, folded in", "행렬 분해 (끼워 넣기)"), "tab:blue", 1),
        (right, "hit_popularity", label("popularity", "인기"), "gray", 100),
        (right, "hit_film_neighbours", label("neighbours: films", "이웃: 영화"), "tab:green", 100),
        (right, "hit_factors", label("factors, folded in", "행렬 분해 (끼워 넣기)"), "tab:blue", 100),
        (right, "hit_two_tower", label("two towers", "투 타워"), "tab:orange", 100),
    )
    for axis, key, name, colour, scale in lines:
        if f"{key}_0" in results:
            values = [scale * results[f"{key}_{count}"] for count in RATINGS_GIVEN]
            axis.plot(range(len(values)), values, "o-", color=colour, markersize=4, label=name)
    left.set_title(label("Error of the stars (RMSE)", "평점 오차 (RMSE)"))
    right.set_title(label("Next film among the first 10 (%)", "다음 영화가 상위 10편에 든 비율 (%)"))
    for axis in (left, right):
        axis.set(xticks=range(len(RATINGS_GIVEN)), xticklabels=RATINGS_GIVEN)
        axis.set_xlabel(label("ratings that somebody new has given", "새 사람이 매긴 평점 수"))
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def draw_results(results: dict[str, float]) -> None:
    """Write the figures to outputs/project8_recommender/."""
    save_figure(draw_comparison(results), __file__, "comparison")
    if "hit_factors_0" in results:
        save_figure(draw_cold_start(results), __file__, "cold_start")


def main(
    model: Path | None = None, source: Source = "auto", size: str = "100k", device: str = "auto", figures: bool = True
) -> dict[str, float]:
    """Load what was trained, and measure it again.

    Args:
        model: The file; without it, the one that `python -m study run recommender` wrote.
        source: "auto", "real" or "sample": the ratings.
        size: Of MovieLens: "100k" or "1m".
        device: "auto", "cpu", "cuda" or "mps".
        figures: Draw as well.
    """
    saved, where = load_saved(model), pick_device(device)
    data, truth = load(source, size, saved["people"])
    print(f"trained on: {saved['source']}\ntested on:  {data.source}")
    # Another set's test ratings may be this one's training ratings: what is measured then is memory.
    check(data.source == saved["source"], "these are other ratings than it was trained on: choose them with --source and --size")
    networks = {}
    for name, (weights, factors) in saved["networks"].items():
        networks[name] = make_network(name, data.people.features, data.films.features(), factors).to(where).eval()
        checkpoint.load_weights(networks[name], weights, Path(name))
    settings = CLASSIC if data.is_real else SAMPLE_CLASSIC
    watched = histories(data.ratings, len(data.people), len(data.films))
    results = measure_stars(data, networks, settings) | measure_next(watched, scorers(watched, networks, settings))
    if truth is not None:
        results |= best_possible(truth, data, watched)
    if figures:
        draw_results(results)
    return results


if __name__ == "__main__":
    run(main)
