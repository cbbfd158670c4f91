"""What is learned from and what is held out: two questions about the same ratings.

How many stars?   Fold 1 of the data set (MovieLens: u1.base and u1.test). A tenth of what is there to learn from is held out to
                  choose by.
What comes next?  Everybody's films in the order in which they were rated. The last one is the test, the one before it is there to
                  choose by, and the rest is learned from. Whoever watches a film and hates it has watched it: stars do not count.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from utils.datasets import Source
from utils.datasets.ratings import RatingData, Ratings, movielens
from utils.datasets.simulated_ratings import Truth, simulate
from utils.lesson import check

NO_FILM = 0  # fills up short histories; film f is written as f + 1
CHOICE, TEST = 2, 1  # how far from the end of a history the film to predict is: to choose by, and for the last look
LEAST = 5  # films that somebody must have rated


def load(source: Source, size: str = "100k", people: int | None = None) -> tuple[RatingData, Truth | None]:
    """MovieLens, or simulated people and the truth about them; "auto" takes what is on disk.

    Args:
        source: "auto", "real" or "sample".
        size: Of MovieLens: "100k" or "1m".
        people: How many to simulate, if they are simulated; without it, the usual number.

    Raises:
        LessonError: A file is damaged or missing, or there are too few people.
    """
    data = None if source == "sample" else movielens(source, size)
    if data is not None and data.is_real:
        check(people is None or people == len(data.people), "--people is for simulated ones: add --source sample")
        return data, None
    world = simulate() if people is None else simulate(people=people)
    return world.data, world.truth


def hold_out(ratings: Ratings, share: float = 0.1, seed: int = 0) -> tuple[Ratings, Ratings]:
    """A random part of the ratings to choose by: what is left to learn from, and what is held out."""
    order = torch.randperm(len(ratings.stars), generator=torch.Generator().manual_seed(seed))
    held = int(share * len(order))
    return ratings.at(order[held:]), ratings.at(order[:held])


@dataclass(frozen=True)
class Histories:
    """Everybody's films in their order.

    Attributes:
        sequences: (people, longest) int64: film numbers + 1 from the left, then NO_FILM.
        lengths: (people,), how many films each has.
        films: How many films there are.
    """

    sequences: Tensor
    lengths: Tensor
    films: int

    def __len__(self) -> int:
        return len(self.sequences)

    def of(self, people: Tensor) -> "Histories":
        """Some of the people; `people` are numbers or a mask."""
        return Histories(self.sequences[people], self.lengths[people], self.films)

    def without_last(self, count: int) -> "Histories":
        """What was known before the last `count` films."""
        lengths = self.lengths - count
        places = torch.arange(self.sequences.shape[1])
        return Histories(self.sequences.masked_fill(places >= lengths.unsqueeze(1), NO_FILM), lengths, self.films)

    def from_end(self, place: int) -> Tensor:
        """The number of the film that is 1, 2, ... from the end of each history: (people,)."""
        return self.sequences.gather(1, (self.lengths - place).unsqueeze(1)).squeeze(1) - 1

    def seen(self) -> Tensor:
        """(people, films), 1 for every film in the history."""
        marks = torch.zeros(len(self), self.films + 1)
        return marks.scatter_(1, self.sequences, 1.0)[:, 1:].contiguous()  # column 0 was NO_FILM

    def newest(self, most: int) -> Tensor:
        """The last `most` films of each history, from the left, then NO_FILM: (people, most)."""
        begin = (self.lengths - most).clamp(min=0).unsqueeze(1)
        padded = torch.cat([self.sequences, torch.zeros(len(self), most, dtype=torch.long)], dim=1)
        return padded.gather(1, begin + torch.arange(most))

    def pairs(self) -> Tensor:
        """Every (person, film) there is: (N, 2)."""
        people, places = (self.sequences != NO_FILM).nonzero(as_tuple=True)
        return torch.stack([people, self.sequences[people, places] - 1], dim=1)


def histories(ratings: Ratings, people: int, films: int) -> Histories:
    """Put everybody's films in the order of time; where two have the same second, in the order of the file.

    Raises:
        LessonError: Somebody has rated fewer than LEAST films.
    """
    lengths = torch.bincount(ratings.people, minlength=people)
    few = int((lengths < LEAST).sum())
    check(few == 0, f"{few} people have rated fewer than {LEAST} films: too few to learn from some and test on others")
    order = ratings.times.argsort(stable=True)
    order = order[ratings.people[order].argsort(stable=True)]  # by person, and each person's by time
    sequences = torch.zeros(people, int(lengths.max()), dtype=torch.long)
    sequences[torch.arange(sequences.shape[1]) < lengths.unsqueeze(1)] = ratings.films[order] + 1
    return Histories(sequences, lengths, films)


def windows(known: Histories, most: int) -> Tensor:
    """Long histories cut into pieces of at most `most` + 1 films for the sequence network: (pieces, most + 1).

    A piece begins with the film with which the one before it ends: every film but a person's first is predicted once.
    """
    padded = torch.cat([known.sequences, torch.zeros(len(known), most + 1, dtype=torch.long)], dim=1)
    pieces = []
    for start in range(0, int(known.lengths.max()) - 1, most):
        pieces.append(padded[known.lengths > start + 1, start : start + most + 1])
    return torch.cat(pieces)
