"""What needs no training loop: means of people and films, and neighbours.

The bias model says how generous a person is and how good a film. Neighbours look at what is left: films that the same people
liked more than was to be expected belong together, and people who liked the same films.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from utils.datasets.ratings import HIGHEST, LOWEST, Ratings

ROUNDS = 10  # of setting people's and films' biases in turn; after it they move by less than a thousandth of a star


def table(ratings: Ratings, people: int, films: int, values: Tensor | None = None) -> Tensor:
    """The ratings (or other `values`, one for each) as a matrix (people, films) with 0 where there is none."""
    filled = torch.zeros(people, films)
    filled[ratings.people, ratings.films] = ratings.stars if values is None else values
    return filled


@dataclass(frozen=True)
class Biases:
    """The stars that a film gets on average, and how much more or less each person and each film has.

    Attributes:
        mean: Of all ratings.
        person: (people,), how generous each is.
        film: (films,), how good each is, cleared of who has seen it.
    """

    mean: float
    person: Tensor
    film: Tensor

    def predict(self, people: Tensor, films: Tensor) -> Tensor:
        """Stars for pairs, (N,), within the scale."""
        return in_scale(self.mean + self.person[people] + self.film[films])

    def left_over(self, ratings: Ratings) -> Tensor:
        """What the biases do not explain of each rating: (N,)."""
        return ratings.stars - self.mean - self.person[ratings.people] - self.film[ratings.films]


def in_scale(stars: Tensor) -> Tensor:
    """Nobody can give six stars: predicting them can only be wrong."""
    return stars.clamp(LOWEST, HIGHEST)


def fit_biases(ratings: Ratings, people: int, films: int, pull: tuple[float, float] = (5.0, 5.0)) -> Biases:
    """Means, pulled towards 0 where there are few ratings: minimises the squared error + pull · biases².

    Args:
        ratings: To learn from.
        people: How many there are, with ratings or without.
        films: How many there are.
        pull: Of people and of films: how many ratings of exactly the mean each of them is given beside its own.
    """
    mean = ratings.stars.mean().item()
    count_person = torch.bincount(ratings.people, minlength=people) + pull[0]
    count_film = torch.bincount(ratings.films, minlength=films) + pull[1]
    person, film = torch.zeros(people), torch.zeros(films)
    for _ in range(ROUNDS):
        left = ratings.stars - mean - person[ratings.people]
        film = torch.zeros(films).index_add(0, ratings.films, left) / count_film
        left = ratings.stars - mean - film[ratings.films]
        person = torch.zeros(people).index_add(0, ratings.people, left) / count_person
    return Biases(mean, person, film)


# %% Neighbours
@dataclass(frozen=True)
class Neighbours:
    """Films beside films, or people beside people.

    Attributes:
        biases: What is subtracted first.
        left: (rows, columns), what the biases leave over of each rating, 0 where there is none; rows are compared.
        rated: (rows, columns), 1 where there is a rating.
        similar: (rows, rows), from -1 to 1, 0 on the diagonal.
        most: How many neighbours speak.
        of_people: Rows are people; otherwise films.
    """

    biases: Biases
    left: Tensor
    rated: Tensor
    similar: Tensor
    most: int
    of_people: bool

    def predict(self, people: Tensor, films: Tensor) -> Tensor:
        """Stars for pairs: the biases, and the weighted mean of what the most similar neighbours leave over: (N,)."""
        rows, columns = (people, films) if self.of_people else (films, people)
        moved = torch.zeros(len(rows))
        for column in columns.unique():  # all pairs of a column have the same candidates
            pairs = columns == column
            there = self.rated[:, column].nonzero().squeeze(1)
            if len(there) == 0:
                continue
            weights = self.similar[rows[pairs]][:, there]  # (pairs, candidates)
            weights, places = weights.topk(min(self.most, len(there)), dim=1)
            weights = weights.clamp(min=0)  # who disagrees with me says little about what I like
            said = self.left[there, column][places]
            # A tenth in the denominator: neighbours who are hardly similar move the prediction a little, not all the way.
            moved[pairs] = (weights * said).sum(dim=1) / (weights.sum(dim=1) + 0.1)
        return in_scale(self.biases.mean + self.biases.person[people] + self.biases.film[films] + moved)


def fit_neighbours(ratings: Ratings, biases: Biases, of_people: bool = False, most: int = 40, shrink: float = 50.0) -> Neighbours:
    """Find out who is similar to whom: the correlation of what the biases leave over, on what both have rated.

    Two films that the same two people have rated can agree perfectly by chance. So the correlation is multiplied by
    n / (n + shrink), where n people have rated both.

    Args:
        ratings: To learn from.
        biases: Fitted to the same ratings.
        of_people: Compare people; otherwise films.
        most: How many neighbours speak in a prediction.
        shrink: How many ratings in common make half of the correlation count.
    """
    sizes = len(biases.person), len(biases.film)
    left, rated = table(ratings, *sizes, biases.left_over(ratings)), table(ratings, *sizes, torch.ones(len(ratings.stars)))
    if not of_people:
        left, rated = left.T.contiguous(), rated.T.contiguous()
    squares = left.square() @ rated.T  # (rows, rows): of a row's squares, those where the other one has a rating too
    common = rated @ rated.T
    correlation = (left @ left.T) / (squares * squares.T).sqrt().clamp(min=1e-6)
    similar = correlation * common / (common + shrink)
    similar.fill_diagonal_(0)
    return Neighbours(biases, left, rated, similar, most, of_people)


def cosine_neighbours(seen: Tensor, shrink: float = 10.0) -> Tensor:
    """How often two films are seen by the same people: the cosine of their columns, shrunk where few have seen both.

    Args:
        seen: (people, films) of 0 and 1.
        shrink: As in `fit_neighbours`.

    Returns:
        (films, films), 0 on the diagonal.
    """
    common = seen.T @ seen
    count = common.diagonal()
    similar = common / (count.unsqueeze(0) * count.unsqueeze(1)).sqrt().clamp(min=1) * common / (common + shrink).clamp(min=1)
    return similar.fill_diagonal_(0)
