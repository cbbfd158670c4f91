"""Rate a few films, and get others, with the ratings that speak for each. · 영화 몇 편을 평가하고 추천과 그 이유를 받는다

    python -m study run recommender/recommend --rated "The Sleepy Choir=5" "The Ninth Passenger=1"

Somebody new is folded into the factors (factors.py): the best factors for these ratings, with the films as they are. The stars
that come out are what the film has for everybody, plus a sum over the ratings that were given. So the reasons are no story
told afterwards: they add up to the prediction. What one rating adds depends on the others.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from project8_recommender.factors import StarFactors
from project8_recommender.neighbours import in_scale
from utils import checkpoint, paths
from utils.datasets.ratings import HIGHEST, LOWEST
from utils.lesson import LessonError, check, mention, run

RARE = 10  # films with fewer ratings are not recommended: what a handful of people said is chance
MOST_RATED = 200  # ratings that are taken from somebody new
FACTS = ("source", "people", "seed", "size", "stars", "films", "counts", "networks", "rmse")
TRAIN_AGAIN = "train again with `python -m study run recommender`"


class RatingError(LessonError):
    """A rating that cannot be used; `kind` says why in one word, for the page (see utils.web)."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Recommendation:
    """A film that somebody new has not rated.

    Attributes:
        film: Its number.
        stars: What is predicted, within the scale.
        usual: What it has for everybody.
        reasons: What each rating adds, in the order in which the ratings were given; usual + their sum is `stars` before it is
            brought into the scale.
    """

    film: int
    stars: float
    usual: float
    reasons: list[float]


@dataclass(frozen=True)
class Recommender:
    """Who recommends.

    Attributes:
        factors: Fitted to all ratings.
        titles, titles_ko: Of the films.
        years: Of the films, 0 where it is not known.
        genres: For each film its genres in English and in Korean, as one line.
        counts: How many people have rated each film.
    """

    factors: StarFactors
    titles: list[str]
    titles_ko: list[str]
    years: list[int]
    genres: list[tuple[str, str]]
    counts: list[int]

    def find(self, title: str) -> int:
        """The number of the film with this title, in English or Korean, with or without its year.

        Raises:
            RatingError: There is none; the message names the most similar titles. Or there are several, of different years.
        """
        wanted = title.strip().casefold()
        names = {}
        for number, pair in enumerate(zip(self.titles, self.titles_ko, strict=True)):
            for name in {one.casefold() for one in pair if one}:
                names.setdefault(name, []).append(number)
                names.setdefault(f"{name} ({self.years[number]})", []).append(number)
        found = names.get(wanted, [])
        if not found:
            near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
            told = "; did you mean " + " or ".join(self.name(names[one][0]) for one in near) + "?" if near else ""
            raise RatingError("unknown", f"there is no film {title.strip()[:60]!r}{told}")
        if len({self.name(number) for number in found}) > 1:
            years = ", ".join(self.name(number) for number in found)
            raise RatingError("unknown", f"several films are called {title.strip()[:60]!r}: say which: {years}")
        return max(found, key=self.counts.__getitem__)  # MovieLens has some films twice: the entry that more people have rated

    def name(self, film: int) -> str:
        """Title and year."""
        return f"{self.titles[film]} ({self.years[film]})" if self.years[film] else self.titles[film]

    def recommend(self, ratings: Sequence[tuple[int, float]], count: int = 10) -> list[Recommendation]:
        """The films with the most predicted stars among those that were not rated and are not RARE.

        Args:
            ratings: Films by number, with stars.
            count: How many to recommend.

        Raises:
            RatingError: There is no rating; a film is unknown or comes twice; a rating is outside the scale.
        """
        check_ratings(ratings, len(self.titles))
        films = torch.tensor([film for film, _ in ratings])
        stars = torch.tensor([float(given) for _, given in ratings])
        reasons = self.factors.reasons(films, stars)  # (all films, ratings)
        usual = self.factors.mean + self.factors.film_bias
        predicted = usual + reasons.sum(dim=1)
        shown = torch.tensor(self.counts) >= RARE
        shown[films] = False
        order = predicted.masked_fill(~shown, -torch.inf).argsort(descending=True, stable=True)[: min(count, int(shown.sum()))]
        return [
            Recommendation(film, in_scale(predicted[film]).item(), usual[film].item(), reasons[film].tolist())
            for film in order.tolist()
        ]


def check_ratings(ratings: Sequence[tuple[int, float]], films: int) -> None:
    """Hold ratings to what can be.

    Raises:
        RatingError: See `Recommender.recommend`.
    """
    if not ratings:
        raise RatingError("empty", "there is no rating yet: rate one film or more first")
    if len(ratings) > MOST_RATED:
        raise RatingError("too_many", f"{len(ratings)} ratings are too many: {MOST_RATED} at most")
    seen = set()
    for film, stars in ratings:
        if not 0 <= film < films:
            raise RatingError("unknown", f"there is no film number {film!s:.20}, only 0 to {films - 1}")
        if not LOWEST <= stars <= HIGHEST:  # and NaN is not
            raise RatingError("scale", f"a rating of {stars:g} is outside the scale of {LOWEST} to {HIGHEST}")
        if film in seen:
            raise RatingError("twice", f"film number {film} is rated twice: which of the two counts?")
        seen.add(film)


# %% The file
def save_recommender(path: Path, recommender: Recommender, networks: dict, **about) -> None:
    """Keep everything in one file: factors and films for `Recommender`, and the networks with their sizes for evaluate.py."""
    factors = recommender.factors
    films = [recommender.titles, recommender.titles_ko, recommender.years, [list(pair) for pair in recommender.genres]]
    checkpoint.save(path, {"stars": vars(factors), "films": films, "counts": recommender.counts, "networks": networks, **about})
    mention("written", paths.short(path))


def load_saved(file: Path | None) -> dict:
    """What `save_recommender` has written.

    Args:
        file: None is where training puts it.

    Raises:
        LessonError: There is no such file, it is damaged, or something else.
    """
    return checkpoint.load_facts(file, paths.models("project8_recommender") / "model.pt", FACTS, "run recommender")[1]


def load_recommender(file: Path | None) -> tuple[Recommender, dict]:
    """The recommender, and facts about it: "source", "rmse" on the test ratings.

    Raises:
        LessonError: As `load_saved`, or the parts of the file do not belong together.
    """
    saved = load_saved(file)
    try:
        factors = StarFactors(**saved["stars"])
        titles, titles_ko, years, genres = saved["films"]
        recommender = Recommender(factors, titles, titles_ko, years, [tuple(pair) for pair in genres], saved["counts"])
        sizes = {
            len(titles),
            len(titles_ko),
            len(years),
            len(genres),
            len(saved["counts"]),
            *map(len, (factors.film, factors.film_bias)),
        }
    except (TypeError, ValueError) as error:
        raise LessonError(f"the file is not a recommender of this project ({error}): {TRAIN_AGAIN}") from None
    check(len(sizes) == 1, f"the file's films do not belong to its factors: {TRAIN_AGAIN}")
    return recommender, saved


def read_rated(rated: Sequence[str], recommender: Recommender) -> list[tuple[int, float]]:
    """Turn "title=stars" into film numbers and stars.

    Raises:
        RatingError: One is not of this form, or its title is unknown.
    """
    pairs = []
    for text in rated:
        title, _, stars = text.rpartition("=")
        try:
            pairs.append((recommender.find(title), float(stars)))
        except ValueError:
            raise RatingError(
                "unreadable", f'{text[:60]!r} is not of the form "title=stars", such as "The Sleepy Choir=5"'
            ) from None
    return pairs


def main(rated: tuple[str, ...] = (), person: int | None = None, count: int = 10, model: Path | None = None) -> None:
    """Recommend films to somebody.

    Args:
        rated: What you think of some films: "title=stars", 1 to 5.
        person: Or somebody of the data set, by number from 1.
        count: How many films.
        model: Another file than models/project8_recommender/model.pt.
    """
    check(count > 0, "--count must be above 0")
    check(person is None or not rated, "either --rated or --person: who is it for?")
    recommender, _ = load_recommender(model)
    if person is not None:
        people = len(recommender.factors.person)
        check(1 <= person <= people, f"--person {person}: there are people 1 to {people}")
        factors = recommender.factors
        predicted = in_scale(factors.mean + factors.film_bias + factors.film_features @ factors.person[person - 1])
        shown = torch.tensor(recommender.counts) >= RARE
        print(f"most stars for person {person}, seen or not:")
        for film in predicted.masked_fill(~shown, 0).argsort(descending=True)[:count].tolist():
            print(f"  {predicted[film]:.2f}  {recommender.name(film)}")
        return
    ratings = read_rated(rated, recommender)
    for one in recommender.recommend(ratings, count):
        print(f"  {one.stars:.2f}  {recommender.name(one.film)}  (for everybody {one.usual:.2f})")
        strongest = sorted(zip(one.reasons, ratings, strict=True), key=lambda pair: -abs(pair[0]))[:3]
        print("        " + ", ".join(f"{share:+.2f} {recommender.name(film)}" for share, (film, _) in strongest))


if __name__ == "__main__":
    run(main)
