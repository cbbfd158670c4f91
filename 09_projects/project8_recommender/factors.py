"""Matrix factorisation by alternating least squares: with the films held, every person's best factors are one solved equation.

For stars (`fit_stars`): mean + film's bias + person's bias + person · film, squared error on the ratings that exist.
For what is watched (`fit_watched`; Hu, Koren and Volinsky, 2008): every film that was not watched is a weak no.

Both have a closed form for somebody who was not there in training (`fold_in`), and what comes out is a sum over that person's
own ratings: the reasons that the page shows are exact.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from project8_recommender.neighbours import in_scale, table
from utils.datasets.ratings import Ratings


def ridge(features: Tensor, weights: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """Solve many small least-squares problems at once that share their features.

    Args:
        features: (columns, factors), of the side that is held.
        weights: (rows, columns), 0 where there is no rating.
        targets: (rows, columns), read only where the weight is above 0.
        penalty: (rows, factors) above 0, of each squared factor.

    Returns:
        (rows, factors), for each row the minimum of Σ weights · (targets - features · x)² + Σ penalty · x².
    """
    count = features.shape[1]
    products = (features.unsqueeze(2) * features.unsqueeze(1)).flatten(1)  # (columns, factors²)
    left = (weights @ products).unflatten(1, (count, count)) + torch.diag_embed(penalty)
    return torch.linalg.solve(left, (weights * targets) @ features)


@dataclass(frozen=True)
class StarFactors:
    """Stars = mean + film_bias + [1, film] · person: a person's first number is the person's bias.

    Attributes:
        mean: Of all ratings.
        person: (people, 1 + factors).
        film_bias: (films,).
        film: (films, factors).
        penalty: Of squared factors; a person with n ratings is held by penalty · n^0.5 in total.
        bias_penalty: Of squared biases.
    """

    mean: float
    person: Tensor
    film_bias: Tensor
    film: Tensor
    penalty: float
    bias_penalty: float

    @property
    def film_features(self) -> Tensor:
        """(films, 1 + factors): the 1 meets the person's bias."""
        return torch.cat([torch.ones(len(self.film), 1), self.film], dim=1)

    def predict(self, people: Tensor, films: Tensor) -> Tensor:
        """Stars for pairs, (N,), within the scale."""
        return in_scale(self.mean + self.film_bias[films] + (self.film_features[films] * self.person[people]).sum(dim=1))

    def fold_in(self, films: Tensor, stars: Tensor) -> Tensor:
        """The factors of somebody new, as if the films had been fitted with this person: (1 + factors,).

        Without ratings they are 0: what is predicted is how good a film is for everybody.
        """
        return self._solution(films) @ (stars - self.mean - self.film_bias[films])

    def reasons(self, films: Tensor, stars: Tensor) -> Tensor:
        """How many stars each rating of somebody new adds to the prediction of each film: (all films, ratings).

        Exact: the prediction is mean + film_bias + their sum, before it is brought into the scale.
        """
        return (self.film_features @ self._solution(films)) * (stars - self.mean - self.film_bias[films])

    def _solution(self, films: Tensor) -> Tensor:
        """The matrix (1 + factors, ratings) that makes factors of what the film's bias leaves over of ratings."""
        features = self.film_features[films]  # (ratings, 1 + factors)
        penalty = penalties(torch.tensor([len(films)]), features.shape[1], self.penalty, self.bias_penalty)[0]
        return torch.linalg.solve(features.T @ features + penalty.diag(), features.T)


def penalties(counts: Tensor, factors: int, penalty: float, bias_penalty: float) -> Tensor:
    """What holds each row's bias and factors: (rows, factors). Who has more ratings is held a little more (by their root)."""
    each = penalty * counts.clamp(min=1).sqrt()
    return torch.cat([torch.full((len(counts), 1), bias_penalty), each.unsqueeze(1).expand(-1, factors - 1)], dim=1)


def fit_stars(
    ratings: Ratings,
    people: int,
    films: int,
    factors: int = 10,
    penalty: float = 2.0,
    bias_penalty: float = 3.0,
    rounds: int = 15,
    seed: int = 0,
) -> StarFactors:
    """Set everybody's factors, then every film's, then again: each half finds the best there is with the other one held.

    Args:
        ratings: To learn from.
        people: How many there are, with ratings or without.
        films: How many there are.
        factors: Numbers for each person and film, beside the bias.
        penalty: Of squared factors; see `penalties`.
        bias_penalty: Of squared biases.
        rounds: How often.
        seed: Of the films' first factors.
    """
    mean = ratings.stars.mean().item()
    centred = table(ratings, people, films, ratings.stars - mean)
    rated = table(ratings, people, films, torch.ones(len(ratings.stars)))
    film = 0.1 * torch.randn(films, 1 + factors, generator=torch.Generator().manual_seed(seed))  # the bias comes first
    film[:, 0] = 0
    person = torch.zeros(people, 1 + factors)
    hold_people = penalties(rated.sum(dim=1), 1 + factors, penalty, bias_penalty)
    hold_films = penalties(rated.sum(dim=0), 1 + factors, penalty, bias_penalty)
    for _ in range(rounds):
        # A bias is a factor whose counterpart is 1: what the other side's bias says is subtracted from the targets.
        features = torch.cat([torch.ones(films, 1), film[:, 1:]], dim=1)
        person = ridge(features, rated, centred - film[:, 0], hold_people)
        features = torch.cat([torch.ones(people, 1), person[:, 1:]], dim=1)
        film = ridge(features, rated.T, centred.T - person[:, 0], hold_films)
    features = torch.cat([torch.ones(films, 1), film[:, 1:]], dim=1)
    person = ridge(features, rated, centred - film[:, 0], hold_people)  # so that `fold_in` agrees with everybody's own factors
    return StarFactors(mean, person, film[:, 0], film[:, 1:].contiguous(), penalty, bias_penalty)


# %% What is watched
@dataclass(frozen=True)
class WatchedFactors:
    """How likely a film is to be watched: person · film, from Σ over all films of weight · (watched - person · film)².

    Attributes:
        film: (films, factors).
        weight: Of a film that was watched; of the others it is 1.
        penalty: Of squared factors.
    """

    film: Tensor
    weight: float
    penalty: float

    def fold_in(self, seen: Tensor) -> Tensor:
        """Factors of people by what they have seen, (people, films) of 0 and 1: (people, factors)."""
        return solve_watched(self.film, seen, self.weight, self.penalty)

    def scores(self, seen: Tensor) -> Tensor:
        """(people, films), higher is likelier."""
        return self.fold_in(seen) @ self.film.T


def solve_watched(other: Tensor, seen: Tensor, weight: float, penalty: float) -> Tensor:
    """The best factors of rows (rows, factors), where `other` (columns, factors) is held; `seen` is (rows, columns)."""
    penalty_each = torch.full((len(seen), other.shape[1]), penalty)
    return ridge(other, 1 + (weight - 1) * seen, seen, penalty_each)


def fit_watched(
    seen: Tensor, factors: int = 32, weight: float = 10.0, penalty: float = 20.0, rounds: int = 10, seed: int = 0
) -> WatchedFactors:
    """Alternating least squares on everything that was watched and not watched.

    Args:
        seen: (people, films) of 0 and 1.
        factors: Numbers for each person and film.
        weight: How much more a yes counts than one of the many weak noes.
        penalty: Of squared factors.
        rounds: How often each side is solved.
        seed: Of the films' first factors.
    """
    film = 0.1 * torch.randn(seen.shape[1], factors, generator=torch.Generator().manual_seed(seed))
    for _ in range(rounds):
        person = solve_watched(film, seen, weight, penalty)
        film = solve_watched(person, seen.T, weight, penalty)
    return WatchedFactors(film, weight, penalty)
