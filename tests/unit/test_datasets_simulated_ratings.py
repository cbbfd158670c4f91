"""Simulated people: what is said to be true of them is."""

import pytest
import torch

from utils.datasets.simulated_ratings import GENRES, in_both, simulate
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def world():
    return simulate(people=300, films=200, seed=0)


def last_films(ratings):
    """Everybody's last film, and what each had seen before: (people,) and (people, films)."""
    people = int(ratings.people.max()) + 1
    last = torch.tensor([ratings.films[ratings.people == person][-1] for person in range(people)])
    seen = torch.zeros(people, 200, dtype=torch.bool)
    seen[ratings.people, ratings.films] = True
    seen[torch.arange(people), last] = False
    return last, seen


class TestWhatCanBeSeen:
    def test_ratings_are_ratings(self, world):
        ratings = world.data.ratings
        assert set(ratings.stars.tolist()) == {1, 2, 3, 4, 5}
        assert len(torch.stack([ratings.people, ratings.films]).unique(dim=1).T) == len(ratings.stars)  # nobody rates twice
        assert torch.bincount(ratings.people).min() >= 20
        for person in (0, 7, 299):
            assert (ratings.times[ratings.people == person].diff() > 0).all()

    def test_titles_are_in_both_languages_and_differ(self, world):
        films = world.data.films
        assert len(set(films.titles)) == len(set(films.titles_ko)) == 200
        assert all(title.startswith("The ") and title.isascii() for title in films.titles)
        assert all(any("가" <= letter <= "힣" for letter in title) for title in films.titles_ko)
        assert (films.genres.sum(dim=1) >= 1).all() and 1960 <= min(films.years) and max(films.years) <= 2020

    def test_every_genre_has_six_words_of_each_kind(self):
        for words in GENRES.values():
            assert [len(in_both(line)) for line in words] == [6, 6]
            assert all(len(pair) == 2 for line in words for pair in in_both(line))

    def test_same_seed_same_world(self, world):
        again = simulate(people=300, films=200, seed=0)
        assert torch.equal(again.data.ratings.stars, world.data.ratings.stars)
        assert not torch.equal(simulate(people=300, films=200, seed=1).truth.preference, world.truth.preference)

    @pytest.mark.parametrize("wrong", [{"people": 5}, {"films": 20}, {"films": 361}])
    def test_worlds_that_cannot_be(self, wrong):
        with pytest.raises(LessonError, match="10 people or more, and 100 to 360 films"):
            simulate(**wrong)


class TestTruth:
    def test_expected_stars_are_the_mean_of_what_is_written(self, world):
        generator = torch.Generator().manual_seed(1)
        preference = world.truth.preference[:3, :4]
        drawn = (preference + 0.7 * torch.randn(20_000, 3, 4, generator=generator)).round().clamp(1, 5).mean(dim=0)
        torch.testing.assert_close(world.truth.expected_stars()[:3, :4], drawn, atol=0.03, rtol=0)

    def test_nobody_predicts_stars_better(self, world):
        ratings, truth = world.data.ratings, world.truth
        best = truth.expected_stars()[ratings.people, ratings.films]
        error = (best - ratings.stars).square().mean()
        for wrong in (best + 0.1, best - 0.1, 0.9 * best + 0.1 * ratings.stars.mean()):
            assert error < (wrong - ratings.stars).square().mean()
        assert 0.6 < error.sqrt() < 0.75

    def test_next_film_has_the_probability_that_is_told(self, world):
        last, seen = last_films(world.data.ratings)
        told = world.truth.next_film
        torch.testing.assert_close(told.sum(dim=1), torch.ones(300))
        assert (told[seen] == 0).all()
        expected = told.topk(10, dim=1).values.sum(dim=1)  # how often the likeliest ten should hold the film
        found = (told.topk(10, dim=1).indices == last[:, None]).any(dim=1).float()
        assert abs(found.mean() - expected.mean()) < 3 * (expected * (1 - expected)).sum().sqrt() / 300

    def test_what_is_missing_is_not_missing_at_random(self, world):
        ratings, truth = world.data.ratings, world.truth
        seen = truth.preference[ratings.people, ratings.films].mean()
        assert seen > truth.preference.mean() + 0.2
