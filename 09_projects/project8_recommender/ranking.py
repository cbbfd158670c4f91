"""Who comes next? Scores of all films for everybody, by different ways, and how good a ranking is.

A ranking is measured against all films that the person has not seen. (Against a hundred random ones every way looks good, and the
order among the ways changes: Krichene and Rendle, 2020.)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from project8_recommender.data import Histories
from project8_recommender.factors import WatchedFactors
from project8_recommender.model import Factors, NeuralCF, SequenceTransformer, TwoTower
from project8_recommender.neighbours import cosine_neighbours
from utils.lesson import check

TOP = 10  # places on the list that is shown
AT_ONCE = 256  # people who are scored together
LOOK_BACK = 50  # films of a history that the two towers read

Scorer = Callable[[Histories], Tensor]  # from histories to scores of all films, (people, films)


# %% How good
def ranks(scores: Tensor, seen: Tensor, targets: Tensor) -> Tensor:
    """The place of each person's target among all films that were not seen: (people,), 1 is the first.

    Films with the same score as the target share their places: half of them come before it, or whoever gives all films the
    same score would always be right.

    Args:
        scores: (people, films).
        seen: (people, films), 1 for a film that cannot be recommended any more.
        targets: (people,) film numbers, not among those seen.

    Raises:
        LessonError: A score is not a number.
    """
    check(bool(scores.isfinite().all()), "a score is not a finite number")
    mine = scores.gather(1, targets.unsqueeze(1))  # (people, 1)
    open_to = seen == 0
    before = ((scores > mine) & open_to).sum(dim=1)
    same = ((scores == mine) & open_to).sum(dim=1) - 1  # itself
    return 1 + before + same / 2


def hit_and_gain(places: Tensor, top: int = TOP) -> dict[str, float]:
    """The share of targets among the first `top` ("hit"), and NDCG ("gain"), which counts 1 / log2(1 + place) for each hit."""
    hits = places <= top
    gains = hits / (1 + places).log2()
    return {"hit": hits.float().mean().item(), "gain": gains.mean().item()}


def measure_scorer(scorer: Scorer, histories: Histories, back: int) -> dict[str, float]:
    """`hit_and_gain` of the film that is `back` from the end of each history, from what was known before it."""
    known = histories.without_last(back)
    return hit_and_gain(ranks(scorer(known), known.seen(), histories.from_end(back)))


# %% Ways to score
def popularity(known: Histories) -> Scorer:
    """Every film by how many people have watched it: the same list for everybody."""
    counts = known.seen().sum(dim=0)
    return lambda histories: counts.expand(len(histories), -1)


def film_neighbours(known: Histories, shrink: float) -> Scorer:
    """Films that the same people watch: the sum of similarities to everything in the history."""
    similar = cosine_neighbours(known.seen(), shrink)
    return lambda histories: histories.seen() @ similar


def watched_factors(fitted: WatchedFactors) -> Scorer:
    """Everybody folded in with their own history."""
    return lambda histories: fitted.scores(histories.seen())


@torch.no_grad()
def score(model: nn.Module, histories: Histories, new: Tensor | None = None) -> Tensor:
    """Scores of a trained network on the CPU: (people, films).

    Args:
        model: Left in the mode in which it was.
        histories: Of everybody in their order, for networks that know people by their number (`Factors`, `NeuralCF`).
        new: (films,) bool for `TwoTower`, of which films the features are all there is.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    found = []
    for some in torch.arange(len(histories)).split(AT_ONCE):
        if isinstance(model, (Factors, NeuralCF)):
            films = torch.arange(histories.films, device=device).expand(len(some), -1)
            scores = model(some.to(device), films)
        else:
            history = histories.of(some).newest(model.most if isinstance(model, SequenceTransformer) else LOOK_BACK).to(device)
            scores = model(history, new.to(device)) if isinstance(model, TwoTower) and new is not None else model(history)
        found.append(scores.float().cpu())
    model.train(was_training)
    return torch.cat(found)
