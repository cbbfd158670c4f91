"""Project 8 recommends, says exactly why, and refuses ratings that cannot be."""

import pytest
import torch
from projects.recommender_world import plain_recommender

from project8_recommender import recommend
from project8_recommender.recommend import RatingError, load_recommender, read_rated, save_recommender
from utils import checkpoint, paths
from utils.lesson import LessonError

ABOUT = {"source": "sample: a toy world", "people": 2, "seed": 0, "size": "100k", "rmse": 0.8}


@pytest.fixture(scope="module")
def plain():
    return plain_recommender()


class TestRecommending:
    def test_films_like_those_that_were_liked_come_first(self, plain):
        found = plain.recommend([(0, 5), (6, 1)], count=5)
        assert {one.film for one in found} == {1, 2, 3, 4, 5}
        assert all(one.stars > 4 and one.usual == 3 for one in found)
        assert {one.film for one in plain.recommend([(0, 1)], count=6)} == {6, 7, 8, 9, 10, 11}

    def test_reasons_and_the_usual_stars_are_the_prediction(self, plain):
        for one in plain.recommend([(0, 4), (7, 2), (1, 3)], count=20):
            assert one.usual + sum(one.reasons) == pytest.approx(one.stars, abs=1e-5)
            assert one.reasons[2] == pytest.approx(0, abs=1e-6)  # three stars are what film 1 has anyway

    def test_reason_by_hand(self, plain):
        (one, *_) = plain.recommend([(0, 5)], count=1)
        # Two numbers, the bias held by 4 and the factor by 1; both features are 1: share = 2 · (1/4 + 1) / (1 + 1/4 + 1)
        assert one.reasons == pytest.approx([2 * 1.25 / 2.25])

    def test_neither_rated_nor_rare_films(self, plain):
        found = {one.film for one in plain.recommend([(0, 5), (3, 5)], count=50)}
        assert found == set(range(12)) - {0, 3}

    def test_stars_stay_within_the_scale(self, plain):
        assert max(one.stars for one in plain.recommend([(film, 5) for film in range(5)])) <= 5

    @pytest.mark.parametrize(
        ("ratings", "kind", "told"),
        [
            ([], "empty", "there is no rating yet"),
            ([(0, 6)], "scale", "a rating of 6 is outside the scale of 1 to 5"),
            ([(0, 0)], "scale", "a rating of 0 is outside"),
            ([(0, float("nan"))], "scale", "a rating of nan is outside"),
            ([(13, 5)], "unknown", "there is no film number 13, only 0 to 12"),
            ([(-1, 5)], "unknown", "there is no film number -1"),
            ([(2, 5), (1, 3), (2, 4)], "twice", "film number 2 is rated twice"),
            ([(0, 5)] * 201, "too_many", "201 ratings are too many: 200 at most"),
        ],
    )
    def test_ratings_that_cannot_be_are_one_sentence(self, plain, ratings, kind, told):
        with pytest.raises(RatingError, match=told) as caught:
            plain.recommend(ratings)
        assert caught.value.kind == kind and "\n" not in str(caught.value)


class TestTitles:
    @pytest.mark.parametrize(
        ("title", "film"), [("Alpha", 0), (" alpha ", 0), ("가", 0), ("Beta (1991)", 1), ("beta (2001)", 11)]
    )
    def test_are_found(self, plain, title, film):
        assert plain.find(title) == film

    @pytest.mark.parametrize(
        ("title", "told"),
        [
            ("Gama", r"there is no film 'Gama'; did you mean Gamma \(1992\)"),
            ("Beta", r"several films are called 'Beta': say which: Beta \(1991\), Beta \(2001\)"),
            ("qqqqqqqq", "there is no film 'qqqqqqqq'$"),
            ("", "there is no film ''"),
        ],
    )
    def test_are_not_guessed(self, plain, title, told):
        with pytest.raises(RatingError, match=told):
            plain.find(title)

    def test_with_stars(self, plain):
        assert read_rated(["Alpha=5", "Kappa = 1.5"], plain) == [(0, 5.0), (9, 1.5)]
        for text in ("Alpha", "Alpha=", "Alpha=five"):
            with pytest.raises(RatingError):
                read_rated([text], plain)


class TestFile:
    @pytest.fixture
    def path(self, plain):
        path = paths.models("project8_recommender") / "model.pt"
        save_recommender(path, plain, {}, **ABOUT)
        return path

    def test_holds_everything(self, plain, path):
        again, about = load_recommender(None)
        assert about["source"] == ABOUT["source"]
        assert [again.recommend([(0, 5)])[place].reasons for place in (0, 5)] == [
            plain.recommend([(0, 5)])[place].reasons for place in (0, 5)
        ]
        assert again.titles_ko == plain.titles_ko and again.genres == plain.genres

    def test_says_to_train_first(self):
        with pytest.raises(LessonError, match="there is no trained network yet: run `python -m study run recommender` first"):
            load_recommender(None)

    def test_damaged_or_other_files(self, path):
        saved = checkpoint.load(path)
        for change, told in (
            ({"counts": saved["counts"][:5]}, "the file's films do not belong to its factors"),
            ({"stars": {"mean": 1.0}}, "is not a recommender of this project"),
            ({"films": [1, 2]}, "is not a recommender of this project"),
        ):
            checkpoint.save(path, saved | change)
            with pytest.raises(LessonError, match=told):
                load_recommender(path)
        checkpoint.save(path, {"model": {}})
        with pytest.raises(LessonError, match=r"model.pt does not say its source, people"):
            load_recommender(path)
        path.write_bytes(b"half")
        with pytest.raises(LessonError, match="truncated or damaged|not a checkpoint"):
            load_recommender(path)

    def test_command(self, path, capsys):
        recommend.main(rated=("Alpha=5", "Eta=1"), count=2)
        said = capsys.readouterr().out
        assert "Beta (1991)  (for everybody 3.00)" in said and "+0." in said and "Alpha (1990)" in said
        recommend.main(person=2, count=3)
        assert "most stars for person 2" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({}, "there is no rating yet"),
            ({"person": 3}, "--person 3: there are people 1 to 2"),
            ({"person": 0}, "--person 0: there are people 1 to 2"),
            ({"person": 1, "rated": ("Alpha=5",)}, "either --rated or --person"),
            ({"rated": ("Alpha=7",)}, "outside the scale"),
            ({"rated": ("Alpha=5", "가=4")}, "is rated twice"),
            ({"rated": ("Alpha=5",), "count": 0}, "--count must be above 0"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, path, wrong, told):
        with pytest.raises(LessonError, match=told):
            recommend.main(**wrong)


def test_weights_are_plain_tensors(plain):
    assert all(isinstance(value, (torch.Tensor, float)) for value in vars(plain.factors).values())
