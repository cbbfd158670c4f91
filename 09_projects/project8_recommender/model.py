"""The networks: factors by gradient, neural collaborative filtering, two towers, a Transformer over what was watched.

Films are numbered from 0; in histories, 0 is no film, and film f is f + 1 (`data.NO_FILM`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from project8_recommender.data import NO_FILM
from utils.lesson import check


class Factors(nn.Module):
    """Matrix factorisation: mean + person's bias + film's bias + person · film. For stars, or as a score (BPR).

    The same function as `factors.StarFactors`, fitted by following the gradient.
    """

    def __init__(self, people: int, films: int, factors: int = 20, mean: float = 0.0):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.person, self.film = nn.Embedding(people, 1 + factors), nn.Embedding(films, 1 + factors)
        for table in (self.person, self.film):
            nn.init.normal_(table.weight, std=0.1)
            nn.init.zeros_(table.weight[:, 0])  # the bias

    def forward(self, people: Tensor, films: Tensor) -> Tensor:
        """People (batch,) and films (batch,) or (batch, candidates) → stars or scores of the films' shape."""
        film = self.film(films)  # (batch, [candidates,] 1 + factors)
        person = self.person(people)
        if films.dim() == 2:
            person = person.unsqueeze(1)
        return self.mean + person[..., 0] + film[..., 0] + (person[..., 1:] * film[..., 1:]).sum(dim=-1)


class NeuralCF(nn.Module):
    """Neural collaborative filtering (He et al., 2017): a product of factors, and a network that reads more than it.

    Whether a network finds more than the product is a question to measure (Rendle et al., 2020), not to assume.
    """

    def __init__(self, person_features: Tensor, film_features: Tensor, factors: int = 16, hidden: int = 32, dropout: float = 0.2):
        """Make the network.

        Args:
            person_features: (people, features), kept in the network.
            film_features: (films, features), kept in the network.
            factors: Numbers in each of the two vectors that a person and a film have.
            hidden: Neurons.
            dropout: Share of the hidden numbers that are dropped in training.
        """
        super().__init__()
        people, films = len(person_features), len(film_features)
        self.register_buffer("person_features", person_features)
        self.register_buffer("film_features", film_features)
        self.person, self.film = nn.Embedding(people, 2 * factors + 1), nn.Embedding(films, 2 * factors + 1)
        for table in (self.person, self.film):
            nn.init.normal_(table.weight, std=0.1)
        told = person_features.shape[1] + film_features.shape[1]
        self.network = nn.Sequential(
            nn.Linear(2 * factors + told, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden // 2),
            nn.ReLU(),
            nn.Linear(hidden // 2, 1),
        )
        self.factors = factors

    def forward(self, people: Tensor, films: Tensor) -> Tensor:
        """People (batch,) and films (batch,) or (batch, candidates) → scores of the films' shape."""
        if films.dim() == 2:
            people = people.unsqueeze(1).expand_as(films)
        person, film = self.person(people), self.film(films)  # (..., 2 * factors + 1)
        product = (person[..., 1 : self.factors + 1] * film[..., 1 : self.factors + 1]).sum(dim=-1)
        read = [person[..., self.factors + 1 :], film[..., self.factors + 1 :]]
        read += [self.person_features[people], self.film_features[films]]
        return person[..., 0] + film[..., 0] + product + self.network(torch.cat(read, dim=-1)).squeeze(-1)


class TwoTower(nn.Module):
    """A vector for a person and a vector for a film, made by two networks that never see each other's input.

    The person is the mean of the films in the history: nobody has a number of their own, so that somebody new needs no training.
    The film is what its features say plus a vector of its own, which is left out at random: so the features learn to do without
    it, and a film that nobody has seen has a place as well. Films' vectors can be made beforehand; that is why large services
    search this way first.
    """

    def __init__(self, film_features: Tensor, width: int = 48, left_out: float = 0.3, dropout: float = 0.2):
        """Make the network.

        Args:
            film_features: (films, features), kept in the network.
            width: Numbers in a vector.
            left_out: How often a film's own vector is left out in training.
            dropout: Share of a person's numbers that are dropped in training.
        """
        super().__init__()
        self.register_buffer("film_features", film_features)
        self.own = nn.Embedding(len(film_features), width)
        nn.init.normal_(self.own.weight, std=0.05)
        self.tell = nn.Linear(film_features.shape[1], width)
        self.bias = nn.Linear(film_features.shape[1], 1)
        self.own_bias = nn.Embedding(len(film_features), 1)
        nn.init.zeros_(self.own_bias.weight)
        self.person = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.left_out = left_out

    def film_vectors(self, new: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The films' tower: vectors (films, width) and biases (films,); of films that are `new` (films,) from features alone."""
        keep = torch.ones(len(self.film_features), 1, device=self.own.weight.device)
        if self.training:
            keep = (torch.rand(len(keep), 1) >= self.left_out).to(keep)  # drawn on the CPU: the same on every device
        elif new is not None:
            keep = (~new).unsqueeze(1).to(keep)
        vectors = self.tell(self.film_features) + keep * self.own.weight
        return vectors, (self.bias(self.film_features) + keep * self.own_bias.weight).squeeze(1)

    def forward(self, history: Tensor, new: Tensor | None = None) -> Tensor:
        """Histories (batch, time) → scores of all films (batch, films); an empty history is an average person."""
        vectors, bias = self.film_vectors(new)
        # One row more: NO_FILM is all zeros.
        read = F.embedding(history, torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors]))  # (batch, time, width)
        count = (history != NO_FILM).sum(dim=1, keepdim=True).clamp(min=1)
        person = self.person(read.sum(dim=1) / count)  # (batch, width)
        return person @ vectors.T + bias


class SequenceTransformer(nn.Module):
    """What comes next, read from what came before, in its order (after SASRec: Kang and McAuley, 2018).

    A decoder like a language model's, with films for words: every place sees what is to its left and predicts the next film.
    SASRec compares the next film with one other; here it is the cross entropy against all films, which does as much for it as
    its successors did (Klenitskiy and Vasilev, 2023).
    """

    def __init__(
        self, film_features: Tensor, width: int = 48, heads: int = 2, layers: int = 2, most: int = 50, dropout: float = 0.2
    ):
        """Make the network.

        Args:
            film_features: (films, features), kept in the network; a film's vector is what they say plus one of its own.
            width: Numbers in a vector.
            heads: Of attention.
            layers: Of attention and feed-forward network.
            most: Films that it can look back on.
            dropout: Share of the numbers that are dropped in training.

        Raises:
            LessonError: The width cannot be shared out among the heads.
        """
        super().__init__()
        check(width % heads == 0, f"a width of {width} cannot be shared out among {heads} heads")
        self.most = most
        self.register_buffer("film_features", film_features)
        self.own = nn.Embedding(len(film_features), width)
        self.tell = nn.Linear(film_features.shape[1], width, bias=False)
        self.places = nn.Embedding(most, width)
        nn.init.normal_(self.own.weight, std=0.1)
        nn.init.normal_(self.places.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(len(film_features)))

    def film_vectors(self) -> Tensor:
        """(films, width), the same on the way in and on the way out."""
        return self.own.weight + self.tell(self.film_features)

    def read(self, history: Tensor) -> Tensor:
        """Histories (batch, time) → what is known at every place (batch, time, width)."""
        time = history.shape[1]
        # NO_FILM comes last, and nothing looks to its right: no film's place sees it.
        mask = nn.Transformer.generate_square_subsequent_mask(time, device=history.device)
        vectors = self.film_vectors()
        vectors = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])  # NO_FILM is all zeros
        inputs = self.dropout(F.embedding(history, vectors) + self.places.weight[:time])
        return self.layers(inputs, mask=mask, is_causal=True)

    def score(self, states: Tensor) -> Tensor:
        """States (..., width) → scores of all films (..., films)."""
        return states @ self.film_vectors().T + self.bias

    def forward(self, history: Tensor) -> Tensor:
        """Histories (batch, time), `most` films at most → scores of all films as the next one (batch, films)."""
        last = ((history != NO_FILM).sum(dim=1) - 1).clamp(min=0)  # an empty history is read as one place without a film
        states = self.read(history)
        return self.score(states[torch.arange(len(history), device=history.device), last])


def make_network(name: str, person_features: Tensor, film_features: Tensor, factors: int, mean: float = 0.0) -> nn.Module:
    """A network with random weights, by the name that it has in `train.RECIPES`.

    Args:
        name: "factors_sgd", "neural_stars", "bpr", "neural_next", "two_tower" or "transformer".
        person_features: (people, features).
        film_features: (films, features).
        factors: Numbers in its vectors.
        mean: Of the stars, where it predicts stars: so that it begins with it instead of 0.
    """
    if name in ("factors_sgd", "bpr"):
        return Factors(len(person_features), len(film_features), factors, mean)
    if name in ("neural_stars", "neural_next"):
        model = NeuralCF(person_features, film_features, factors)
        nn.init.constant_(model.network[-1].bias, mean)
        return model
    return (TwoTower if name == "two_tower" else SequenceTransformer)(film_features, factors)
