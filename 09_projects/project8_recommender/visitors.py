"""A small town whose tastes are known: what an experiment on recommenders estimates can be held against the truth.

Nothing here is real. Every person has a chance to watch each film if it is recommended; it is made of the film's appeal, which
is the same for all, and of how its flavour meets the person's taste. What people watched before depends on both, and on what
everybody talks about. A recommender sees only that history.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from utils.lesson import check


@dataclass(frozen=True)
class Town:
    """People and films.

    Attributes:
        chances: (people, films), float64: how likely a person is to watch a film if it is recommended. No recommender sees it.
        seen: (people, films), bool: what was watched before. Nobody is recommended what they have seen.
    """

    chances: Tensor
    seen: Tensor


def make_town(people: int, films: int, taste: float, seed: int) -> Town:
    """Draw a town.

    Args:
        people: How many.
        films: How many; a person has seen 3 to a third of them.
        taste: How much tastes differ; at 0 everybody likes the same films.
        seed: Of everything that is drawn.
    """
    check(people >= 2 and films >= 15 and taste >= 0, f"a town of {people} people, {films} films, taste {taste}: >= 2, 15 and 0")
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tastes, flavours = normal(people, 4), normal(films, 4)
    appeal = normal(films)
    logits = -2.7 + 0.5 * appeal + taste * tastes @ flavours.T / 2  # (people, films): / √4, so that taste² is the variance
    counts = (films * 0.12 * normal(people).mul(0.6).exp()).round().clamp(3, films // 3)  # films seen: a few people, very many
    # The largest of log-weight + Gumbel noise are a draw without replacement (Efraimidis & Spirakis, 2006).
    noise = -torch.rand(people, films, generator=generator, dtype=torch.float64).log().neg().log()
    ranks = (logits + appeal + noise).argsort(dim=1, descending=True).argsort(dim=1)
    return Town(logits.sigmoid(), ranks < counts[:, None])


def popularity(town: Town) -> Tensor:
    """Score films by the share of people who have seen them: (people, films), all rows alike."""
    return town.seen.double().mean(dim=0).expand_as(town.chances)


def item_neighbours(town: Town, shrinkage: float = 20.0) -> Tensor:
    """Score films by how like they are to what the person has seen: (people, films).

    The likeness of two films is the cosine of their columns, shrunk towards 0 where few people have seen both.
    """
    seen = town.seen.double()
    together = seen.T @ seen  # (films, films): how many have seen both
    norms = together.diagonal().sqrt().clamp(min=1)
    trust = together / (together + shrinkage).clamp(min=1e-12)  # near 1 where many people have seen both
    likeness = together / (norms[:, None] * norms) * trust
    likeness.fill_diagonal_(0)  # a film does not recommend itself
    return seen @ likeness / seen.sum(dim=1, keepdim=True)


def page(scores: Tensor, seen: Tensor, count: int) -> Tensor:
    """The `count` best films that a person has not seen, best first: indices (people, count)."""
    return scores.masked_fill(seen, -torch.inf).topk(count, dim=1).indices


def chance_of_page(town: Town, films: Tensor) -> Tensor:
    """How likely each person is to watch at least one of the films (people, count) on the page: (people,)."""
    return 1 - (1 - town.chances.gather(1, films)).prod(dim=1)


def standardise(scores: Tensor) -> Tensor:
    """Give each person's scores (people, films) mean 0 and standard deviation 1."""
    return (scores - scores.mean(dim=1, keepdim=True)) / scores.std(dim=1, keepdim=True).clamp(min=1e-12)


def own_taste(town: Town) -> Tensor:
    """Item neighbours, with half of what is merely popular taken out again: (people, films)."""
    return standardise(item_neighbours(town)) - 0.5 * standardise(popularity(town))
