"""Project 8's means, neighbours and factors: closed forms are the minimum, and reasons add up."""

import pytest
import torch

from project8_recommender.factors import fit_stars, fit_watched, penalties, ridge, solve_watched
from project8_recommender.model import Factors
from project8_recommender.neighbours import cosine_neighbours, fit_biases, fit_neighbours
from utils.datasets.ratings import Ratings


def small(people: int = 12, films: int = 9, seed: int = 0) -> Ratings:
    """Two tastes: half of the people like the first films, the others the last ones; a third of the ratings is missing."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(people), torch.arange(films))
    pairs = pairs[torch.rand(len(pairs), generator=generator) < 0.67]
    likes = (pairs[:, 0] % 2 == 0) == (pairs[:, 1] < films // 2)
    stars = torch.where(likes, 4.0, 2.0) + torch.randint(0, 2, (len(pairs),), generator=generator)
    return Ratings(pairs[:, 0], pairs[:, 1], stars, torch.arange(len(pairs)))


def descended(loss, *parameters: torch.Tensor, steps: int = 3000, lr: float = 0.02) -> float:
    """Follow the gradient to the minimum."""
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    return value.item()


class TestMeans:
    def test_biases_are_where_the_gradient_leads(self):
        ratings = small()
        found = fit_biases(ratings, 12, 9, pull=(2.0, 3.0))
        person, film = torch.zeros(12, requires_grad=True), torch.zeros(9, requires_grad=True)

        def loss():
            left = ratings.stars - found.mean - person[ratings.people] - film[ratings.films]
            return left.square().sum() + 2 * person.square().sum() + 3 * film.square().sum()

        descended(loss, person, film, lr=0.005)
        torch.testing.assert_close(found.person, person.detach(), atol=2e-3, rtol=0)
        torch.testing.assert_close(found.film, film.detach(), atol=2e-3, rtol=0)

    def test_who_has_no_ratings_is_average(self):
        found = fit_biases(small(), 13, 10)
        assert found.person[12] == 0 and found.film[9] == 0
        assert found.predict(torch.tensor([12]), torch.tensor([9])).item() == pytest.approx(found.mean)


class TestNeighbours:
    @pytest.mark.parametrize("of_people", [True, False])
    def test_similar_rows_are_those_of_the_same_taste(self, of_people):
        ratings = small()
        found = fit_neighbours(ratings, fit_biases(ratings, 12, 9), of_people, most=4, shrink=1.0)
        same = torch.arange(12) % 2 if of_people else (torch.arange(9) < 4).long()
        same = same[:, None] == same
        assert found.similar[same].mean() > 0.2 > -0.1 > found.similar[~same].mean()
        assert (found.similar.diagonal() == 0).all()
        torch.testing.assert_close(found.similar, found.similar.T)

    def test_correlation_by_hand(self):
        ratings = small()
        found = fit_neighbours(ratings, fit_biases(ratings, 12, 9), most=4, shrink=5.0)
        both = (found.rated[0] * found.rated[1]).bool()
        one, other = found.left[0][both], found.left[1][both]
        expected = (one @ other) / (one.norm() * other.norm()) * both.sum() / (both.sum() + 5)
        assert found.similar[0, 1].item() == pytest.approx(expected.item(), abs=1e-5)

    @pytest.mark.parametrize("of_people", [True, False])
    def test_better_than_means_where_tastes_differ(self, of_people):
        ratings = small(60, 30)
        test = torch.arange(len(ratings.stars)) % 5 == 0
        learn, asked = ratings.at(~test), ratings.at(test)
        biases = fit_biases(learn, 60, 30)
        found = fit_neighbours(learn, biases, of_people, most=10, shrink=5.0)
        error = (found.predict(asked.people, asked.films) - asked.stars).square().mean()
        assert error < 0.6 * (biases.predict(asked.people, asked.films) - asked.stars).square().mean()

    def test_film_without_raters_has_its_bias(self):
        ratings = small()
        found = fit_neighbours(ratings, fit_biases(ratings, 13, 10))
        asked = torch.tensor([12, 0]), torch.tensor([0, 9])
        torch.testing.assert_close(found.predict(*asked), found.biases.predict(*asked))

    def test_cosine_by_hand(self):
        seen = torch.tensor([[1.0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]])
        similar = cosine_neighbours(seen, shrink=2.0)
        assert similar[0, 1].item() == pytest.approx(2 / 6**0.5 * 2 / 4) and similar[0, 2] == 0 == similar[2, 2]
        assert cosine_neighbours(seen, shrink=0.0).isfinite().all()


class TestFactors:
    def test_one_half_is_the_minimum_that_the_gradient_finds(self):
        """With one side held, the problem is convex: least squares and gradient end at the same place."""
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(9, 3, generator=generator)
        weights, targets = torch.rand(12, 9, generator=generator), torch.randn(12, 9, generator=generator)
        penalty = torch.full((12, 3), 0.5)
        solved = ridge(features, weights, targets, penalty)
        followed = torch.zeros(12, 3, requires_grad=True)
        descended(lambda: (weights * (targets - followed @ features.T).square()).sum() + 0.5 * followed.square().sum(), followed)
        torch.testing.assert_close(solved, followed.detach(), atol=1e-4, rtol=0)

    def test_both_sides_end_at_the_same_error_as_the_gradient(self):
        """With as many factors as films there is no local minimum beside the best one: the penalised errors must agree."""
        ratings = small(10, 6)
        table, rated = torch.zeros(10, 6), torch.zeros(10, 6)
        table[ratings.people, ratings.films], rated[ratings.people, ratings.films] = ratings.stars - 3, 1.0
        penalty = 0.7

        def error(person, film):
            return (rated * (table - person @ film.T).square()).sum() + penalty * (person.square().sum() + film.square().sum())

        generator = torch.Generator().manual_seed(0)
        film = torch.randn(6, 6, generator=generator)
        for _ in range(300):
            person = ridge(film, rated, table, torch.full((10, 6), penalty))
            film = ridge(person, rated.T, table.T, torch.full((6, 6), penalty))
        sides = [torch.randn(rows, 6, generator=generator).requires_grad_() for rows in (10, 6)]
        assert error(person, film).item() == pytest.approx(descended(lambda: error(*sides), *sides, lr=0.01), rel=1e-4)

    def test_people_solve_their_equations(self):
        ratings = small()
        found = fit_stars(ratings, 12, 9, factors=3, penalty=0.8, bias_penalty=1.5, rounds=8)
        mine = ratings.people == 4
        films, stars = ratings.films[mine], ratings.stars[mine]
        torch.testing.assert_close(found.fold_in(films, stars), found.person[4], atol=1e-4, rtol=1e-4)
        person = torch.zeros(4, requires_grad=True)
        hold = torch.tensor([1.5, *[0.8 * len(films) ** 0.5] * 3])

        def loss():
            left = stars - found.mean - found.film_bias[films] - found.film_features[films] @ person
            return left.square().sum() + (hold * person.square()).sum()

        descended(loss, person)
        torch.testing.assert_close(found.person[4], person.detach(), atol=1e-4, rtol=1e-3)

    def test_films_solve_theirs_as_well(self):
        ratings = small()
        found = fit_stars(ratings, 12, 9, factors=2, penalty=0.8, bias_penalty=1.5, rounds=200)
        film = torch.cat([found.film_bias[:, None], found.film], dim=1).requires_grad_()
        person = found.person[ratings.people]
        left = ratings.stars - found.mean - person[:, 0] - film[ratings.films, 0]
        left = left - (person[:, 1:] * film[ratings.films, 1:]).sum(dim=1)
        hold = penalties(torch.bincount(ratings.films, minlength=9), 3, 0.8, 1.5)
        (left.square().sum() + (hold * film.square()).sum()).backward()
        assert film.grad.abs().max() < 0.01  # beside 10 or so for films that are all 0

    def test_reasons_add_up_to_the_prediction(self):
        ratings = small()
        found = fit_stars(ratings, 12, 9, factors=3)
        films, stars = torch.tensor([0, 5, 2]), torch.tensor([5.0, 1.0, 4.0])
        reasons = found.reasons(films, stars)
        predicted = found.mean + found.film_bias + found.film_features @ found.fold_in(films, stars)
        torch.testing.assert_close(found.mean + found.film_bias + reasons.sum(dim=1), predicted)
        # What one rating adds is what is lost if its stars had been the usual ones.
        usual = stars.clone()
        usual[1] = found.mean + found.film_bias[5]
        without = found.mean + found.film_bias + found.film_features @ found.fold_in(films, usual)
        torch.testing.assert_close(predicted - without, reasons[:, 1], atol=1e-5, rtol=1e-4)

    def test_nothing_rated_is_what_everybody_thinks(self):
        found = fit_stars(small(), 12, 9, factors=3)
        nobody = found.fold_in(torch.tensor([], dtype=torch.long), torch.tensor([]))
        assert (nobody == 0).all() and nobody.shape == (4,)

    def test_finds_tastes(self):
        ratings = small(60, 30)
        test = torch.arange(len(ratings.stars)) % 5 == 0
        learn, asked = ratings.at(~test), ratings.at(test)
        found = fit_stars(learn, 60, 30, factors=2, penalty=0.5)
        error = (found.predict(asked.people, asked.films) - asked.stars).square().mean()
        assert error < 0.35  # a coin decides about one star: 0.25

    def test_network_is_the_same_function(self):
        found = fit_stars(small(), 12, 9, factors=3)
        model = Factors(12, 9, factors=3, mean=found.mean)
        with torch.no_grad():
            model.person.weight.copy_(found.person)
            model.film.weight.copy_(torch.cat([found.film_bias[:, None], found.film], dim=1))
        people, films = torch.arange(9), torch.arange(9)
        torch.testing.assert_close(model(people, films).clamp(1, 5).detach(), found.predict(people, films))
        torch.testing.assert_close(model(people, torch.stack([films, films.flip(0)], dim=1))[:, 0], model(people, films))

    def test_more_ratings_are_held_by_their_root(self):
        hold = penalties(torch.tensor([0, 1, 16]), 3, penalty=2.0, bias_penalty=5.0)
        assert hold.tolist() == [[5, 2, 2], [5, 2, 2], [5, 8, 8]]


class TestWatched:
    def test_every_film_counts_and_the_watched_ones_more(self):
        generator = torch.Generator().manual_seed(0)
        seen = (torch.rand(7, 5, generator=generator) < 0.4).float()
        film = torch.randn(5, 2, generator=generator)
        solved = solve_watched(film, seen, weight=4.0, penalty=0.3)
        person = torch.zeros(7, 2, requires_grad=True)

        def loss():
            return ((1 + 3 * seen) * (seen - person @ film.T).square()).sum() + 0.3 * person.square().sum()

        descended(loss, person)
        torch.testing.assert_close(solved, person.detach(), atol=1e-4, rtol=1e-3)

    def test_finds_what_goes_together(self):
        seen = torch.zeros(20, 8)
        seen[::2, :4] = seen[1::2, 4:] = 1
        seen[0, 3] = seen[1, 7] = 0
        scores = fit_watched(seen, factors=2, weight=5.0, penalty=0.5).scores(seen)
        assert scores[0, 3] > scores[0, 4:].max() and scores[1, 7] > scores[1, :4].max()

    def test_empty_history_has_no_preference(self):
        seen = torch.zeros(6, 4)
        seen[1:, :2] = 1
        assert (fit_watched(seen, factors=2).scores(torch.zeros(1, 4)) == 0).all()
