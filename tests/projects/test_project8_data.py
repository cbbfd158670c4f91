"""Project 8's histories, and how a ranking is measured."""

import pytest
import torch
from projects.recommender_world import FILMS, PEOPLE, SEEN, world

from project8_recommender import ranking
from project8_recommender.data import CHOICE, NO_FILM, TEST, Histories, histories, hold_out, load, windows
from project8_recommender.factors import fit_watched
from project8_recommender.model import TwoTower, make_network
from project8_recommender.ranking import hit_and_gain, ranks, score
from project8_recommender.train import next_film_loss, prefixes
from utils.datasets.ratings import Ratings
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def watched():
    """Two people: films 4, 2, 0, 1, 3 and 1, 0, 3, 2, 4, 5 in their order, though the ratings come in another one."""
    films, people = [0, 3, 4, 1, 2, 5, 0, 1, 2, 3, 4], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    times = [30, 50, 10, 40, 20, 60, 20, 10, 40, 30, 50]
    return histories(Ratings(torch.tensor(people), torch.tensor(films), torch.ones(11), torch.tensor(times)), 2, 6)


class TestHistories:
    def test_are_in_the_order_of_time(self, watched):
        assert watched.sequences.tolist() == [[5, 3, 1, 2, 4, NO_FILM], [2, 1, 4, 3, 5, 6]]
        assert watched.lengths.tolist() == [5, 6]

    def test_same_second_keeps_the_order_of_the_file(self):
        ratings = Ratings(torch.zeros(6, dtype=torch.long), torch.tensor([3, 1, 2, 5, 0, 4]), torch.ones(6), torch.zeros(6))
        assert histories(ratings, 1, 6).sequences.tolist() == [[4, 2, 3, 6, 1, 5]]

    def test_held_out_films_are_not_known(self, watched):
        assert watched.from_end(TEST).tolist() == [3, 5] and watched.from_end(CHOICE).tolist() == [1, 4]
        known = watched.without_last(CHOICE)
        assert known.sequences.tolist() == [[5, 3, 1, 0, 0, 0], [2, 1, 4, 3, 0, 0]]
        for back in (CHOICE, TEST):
            seen = watched.without_last(back).seen()
            assert (seen.gather(1, watched.from_end(back)[:, None]) == 0).all()
        assert known.seen()[0].tolist() == [1, 0, 1, 0, 1, 0]

    def test_newest_films(self, watched):
        assert watched.newest(3).tolist() == [[1, 2, 4], [3, 5, 6]]
        assert watched.newest(8)[0].tolist() == [5, 3, 1, 2, 4, 0, 0, 0]

    def test_pairs_are_all_there_are(self, watched):
        assert watched.without_last(3).pairs().tolist() == [[0, 4], [0, 2], [1, 1], [1, 0], [1, 3]]

    def test_windows_predict_every_film_but_the_first_once(self):
        data = world()
        known = histories(data.ratings, PEOPLE, FILMS).without_last(CHOICE)
        pieces = windows(known, most=4)
        assert pieces.shape[1] == 5
        predicted = pieces[:, 1:]
        assert (predicted != NO_FILM).sum() == PEOPLE * (SEEN - CHOICE - 1)
        assert (pieces[predicted[:, 0] != NO_FILM][:, 0] != NO_FILM).all() and (predicted[:, 0] != NO_FILM).all()

    def test_prefixes_are_what_came_before(self, watched):
        history, following = prefixes(watched, most=3)
        pairs = {(tuple(row), film) for row, film in zip(history.tolist(), following.tolist(), strict=True)}
        assert len(following) == 4 + 5
        assert ((5, 0, 0), 2) in pairs and ((5, 3, 1), 1) in pairs and ((4, 3, 5), 5) in pairs

    def test_new_films_are_in_no_prefix(self, watched):
        new = torch.tensor([True, False, False, False, False, False])
        history, following = prefixes(watched, most=3, new=new)
        assert (history != 1).all() and (following != 0).all() and len(following) == 7

    def test_new_films_are_kept_from_the_two_towers(self, watched):
        """Not even as films that were not watched: their own numbers get no gradient, and what they are like says nothing."""
        torch.manual_seed(0)
        new, model = torch.tensor([False, False, True, False, False, True]), TwoTower(torch.eye(6), width=4, left_out=0.0)
        next_film_loss(model, prefixes(watched, most=3, new=new), new).backward()
        for moved in (model.own.weight.grad, model.own_bias.weight.grad, model.tell.weight.grad.T, model.bias.weight.grad.T):
            assert (moved[new] == 0).all() and (moved[~new] != 0).any(dim=1).all()

    def test_short_histories_are_refused(self):
        ratings = Ratings(torch.zeros(4, dtype=torch.long), torch.arange(4), torch.ones(4), torch.arange(4))
        with pytest.raises(LessonError, match="1 people have rated fewer than 5 films"):
            histories(ratings, 1, 4)


class TestHeldOut:
    def test_no_rating_is_in_both(self):
        ratings = world().ratings
        learn, held = hold_out(ratings, share=0.25, seed=0)
        pairs = [set(zip(part.people.tolist(), part.films.tolist(), strict=True)) for part in (learn, held)]
        assert (
            not pairs[0] & pairs[1]
            and len(pairs[1]) == len(ratings.stars) // 4
            and len(pairs[0] | pairs[1]) == len(ratings.stars)
        )

    def test_sample_comes_with_its_truth(self):
        data, truth = load("sample", people=30)
        assert len(data.people) == 30 and truth.preference.shape == (30, len(data.films))


class TestRanks:
    def test_by_hand(self):
        scores = torch.tensor([[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]])
        seen = torch.tensor([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]])
        assert ranks(scores, seen, torch.tensor([2, 0, 3])).tolist() == [2, 4, 2.5]

    def test_who_says_the_same_of_all_is_not_right(self):
        places = ranks(torch.zeros(50, 100), torch.zeros(50, 100), torch.arange(50))
        assert hit_and_gain(places) == {"hit": 0.0, "gain": 0.0}

    def test_what_is_no_number_is_an_error(self):
        with pytest.raises(LessonError, match="a score is not a finite number"):
            ranks(torch.tensor([[1.0, float("nan")]]), torch.zeros(1, 2), torch.tensor([0]))

    def test_hit_and_gain_by_hand(self):
        found = hit_and_gain(torch.tensor([1.0, 3, 10, 11, 500]))
        assert found["hit"] == pytest.approx(0.6)
        assert found["gain"] == pytest.approx((1 + 0.5 + 1 / torch.tensor(11.0).log2().item()) / 5)


class TestScorers:
    def test_history_decides_and_the_future_does_not(self):
        data = world()
        watched = histories(data.ratings, PEOPLE, FILMS)
        known = watched.without_last(CHOICE)
        ways = [ranking.film_neighbours(known, 0.0), ranking.watched_factors(fit_watched(known.seen(), factors=4))]
        for name in ("two_tower", "transformer"):
            torch.manual_seed(0)
            model = make_network(name, data.people.features, data.films.features(), 8)
            ways.append(lambda histories, model=model: score(model, histories))
        changed = Histories(watched.sequences.clone(), watched.lengths, FILMS)
        changed.sequences[:, -CHOICE:] = changed.sequences[:, -CHOICE:].flip(1)
        for way in ways:
            before = way(known)
            torch.testing.assert_close(way(changed.without_last(CHOICE)), before)
            assert not torch.allclose(way(watched), before)

    def test_popularity_counts_what_is_known(self):
        watched = histories(world().ratings, PEOPLE, FILMS).without_last(CHOICE)
        scores = ranking.popularity(watched)(watched)
        assert scores.shape == (PEOPLE, FILMS) and scores[0].sum() == PEOPLE * (SEEN - CHOICE)

    def test_scores_do_not_depend_on_who_is_scored_together(self, monkeypatch):
        data = world()
        watched = histories(data.ratings, PEOPLE, FILMS)
        for name in ("bpr", "neural_next", "two_tower", "transformer"):
            torch.manual_seed(0)
            model = make_network(name, data.people.features, data.films.features(), 8).train()
            together = score(model, watched)
            assert model.training
            monkeypatch.setattr(ranking, "AT_ONCE", 7)
            torch.testing.assert_close(score(model, watched), together)
            monkeypatch.undo()


class TestNetworks:
    def test_transformer_does_not_look_ahead(self):
        data = world()
        model = make_network("transformer", data.people.features, data.films.features(), 8).eval()
        history = torch.tensor([[3, 5, 7, 9, 2]])
        changed = history.clone()
        changed[0, 3:] = NO_FILM
        torch.testing.assert_close(model.read(history)[:, :3], model.read(changed)[:, :3])
        torch.testing.assert_close(model(changed), model(history[:, :3]))  # nor does it see what fills up

    def test_order_matters_to_the_transformer_only(self):
        data = world()
        one, other = torch.tensor([[3, 5, 7]]), torch.tensor([[7, 5, 3]])
        for name, same in (("two_tower", True), ("transformer", False)):
            torch.manual_seed(0)
            model = make_network(name, data.people.features, data.films.features(), 8).eval()
            assert torch.allclose(model(one), model(other), atol=1e-5) == same

    def test_new_film_is_known_by_its_features(self):
        data = world()
        torch.manual_seed(0)
        model = make_network("two_tower", data.people.features, data.films.features(), 8).eval()
        new = torch.zeros(FILMS, dtype=torch.bool)
        new[[0, 2]] = True  # both even, 1980 and 1982: nothing tells them apart
        scores = model(torch.tensor([[5, 9]]), new)
        assert scores[0, 0] == scores[0, 2] and scores[0, 4] != scores[0, 6]

    def test_empty_history_has_scores(self):
        data = world()
        for name in ("two_tower", "transformer"):
            model = make_network(name, data.people.features, data.films.features(), 8).eval()
            assert model(torch.zeros(2, 3, dtype=torch.long)).isfinite().all()

    def test_width_must_fit_the_heads(self):
        with pytest.raises(LessonError, match="a width of 7 cannot be shared out among 2 heads"):
            make_network("transformer", torch.zeros(2, 1), torch.zeros(3, 1), 7)
