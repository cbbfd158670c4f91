"""Ratings: who gave which film how many stars, and when. MovieLens in its official files, or simulated people where it is not.

    data = movielens("auto")
    data.ratings.stars, data.films.titles, data.folds[0]     # folds[0] is (u1.base, u1.test)

People and films are numbered from 0, as the official lists have them. A rating that cannot be (six stars, an unknown person,
the same film twice) is one sentence with the file and the line.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from utils import paths
from utils.datasets.sources import Source, damaged, locate, unreadable
from utils.lesson import LessonError, check, mention

LOWEST, HIGHEST = 1, 5  # of the scale
AGES = (18, 25, 35, 45, 50, 56)  # where a group of ages begins; the first one is before
# ratings.dat's numbers for what people do
WORK_1M = (
    "other educator artist administration student service doctor executive farmer homemaker schoolchild lawyer programmer "
    "retired sales scientist self-employed engineer craftsman unemployed writer"
).split()


class Ratings(NamedTuple):
    """Who gave what to which film, each (N,).

    Attributes:
        people: Numbers of people, int64.
        films: Numbers of films, int64.
        stars: float32, 1 to 5.
        times: Seconds since 1970, int64.
    """

    people: Tensor
    films: Tensor
    stars: Tensor
    times: Tensor

    def at(self, places: Tensor) -> "Ratings":
        """Some of the ratings; `places` are numbers or a mask. (A tuple's own `[...]` takes a column.)"""
        return Ratings(*(column[places] for column in self))


@dataclass(frozen=True)
class Films:
    """What is known of the films.

    Attributes:
        titles: In English, or as the data set has them.
        titles_ko: In Korean, where somebody wrote them; otherwise the same.
        years: Of release; 0 where it is not known.
        genres: (films, genres) of 0 and 1, float32.
        genre_names, genre_names_ko: What its columns are called.
    """

    titles: list[str]
    titles_ko: list[str]
    years: list[int]
    genres: Tensor
    genre_names: Sequence[str]
    genre_names_ko: Sequence[str]

    def __len__(self) -> int:
        return len(self.titles)

    def features(self) -> Tensor:
        """Genres, and the decade as numbers between 0 and 1 for each that occurs: (films, features)."""
        decades = torch.tensor(self.years) // 10
        known = sorted(set(decades[decades > 0].tolist()))
        return torch.cat([self.genres, *((decades == decade).float().unsqueeze(1) for decade in known)], dim=1)


@dataclass(frozen=True)
class People:
    """What is known of the people: `features` (people, features) of 0 and 1, and what the columns are called."""

    features: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class RatingData:
    """A data set of ratings.

    Attributes:
        ratings: All of them, as they lie in the file.
        films: In the order of their numbers.
        people: In the order of their numbers.
        folds: Five pairs (to learn from, to test on); each rating is in the test of one.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for simulated people.
    """

    ratings: Ratings
    films: Films
    people: People
    folds: list[tuple[Ratings, Ratings]] = field(repr=False)
    source: str
    is_real: bool


def random_folds(ratings: Ratings, seed: int = 0, count: int = 5) -> list[tuple[Ratings, Ratings]]:
    """Deal the ratings out to `count` tests; what is not in a test is there to learn from."""
    fold = torch.randperm(len(ratings.stars), generator=torch.Generator().manual_seed(seed)) % count
    return [(ratings.at(fold != number), ratings.at(fold == number)) for number in range(count)]


# %% MovieLens by name
def movielens(source: Source = "auto", size: str = "100k", download: bool = False) -> RatingData:
    """MovieLens (Harper and Konstan, 2015), or simulated people.

    Args:
        source: "auto", "real" or "sample".
        size: "100k": 943 people, 1,682 films, the folds u1 to u5. "1m": 6,040 people, 3,952 films, folds of our own.
        download: With "auto", try the official download before the sample.

    Raises:
        LessonError: A file is damaged, or source="real" and it cannot be had.
    """
    name = f"movielens_{size}"
    place = locate(name, source, download)
    if place is None:
        from utils.datasets.simulated_ratings import simulate  # it needs this module's classes

        return simulate().data
    data = (read_100k if size == "100k" else read_1m)(place)
    mention("data", data.source)
    return data


def read_100k(place: Path) -> RatingData:
    """MovieLens 100k: the folder that holds u.data, u.data itself, or the zip as it is downloaded.

    u.data has tabs between person, film, stars and time; u.item (Latin-1) and u.user have |. Where the folds u1 to u5 are
    missing, others are dealt.
    """
    files = _Files(place, "u.data", "movielens_100k")
    people = _read_people(files, "u.user", "|", (1, 2, 3))
    genres = [name for _, (name, *_) in files.rows("u.genre", "|", 2)]
    films = _films_100k(files, genres)
    sizes = len(people), len(films)
    ratings = _read_ratings(files, "u.data", "\t", *sizes)
    if files.has("u1.base"):
        folds = [tuple(_read_ratings(files, f"u{n}.{part}", "\t", *sizes) for part in ("base", "test")) for n in range(1, 6)]
    else:
        folds = random_folds(ratings)
    return RatingData(ratings, films, people, folds, _told("MovieLens 100k", ratings, files), is_real=True)


def read_1m(place: Path) -> RatingData:
    """MovieLens 1M: ratings.dat, movies.dat and users.dat (Latin-1, "::" between fields), or the zip. Folds are our own.

    Film numbers have gaps: where there is no film of a number, its title is empty, and nobody has rated it.
    """
    files = _Files(place, "ratings.dat", "movielens_1m")
    people = _read_people(files, "users.dat", "::", (2, 1, 3), dict(enumerate(WORK_1M)))
    rows = list(files.rows("movies.dat", "::", 3))
    genres = sorted({genre for _, (*_, told) in rows for genre in told.split("|")})
    count = max(files.number(line, "movies.dat", number) for line, (number, *_) in rows)
    titles, is_of = [""] * count, torch.zeros(count, len(genres))
    for line, (number, title, told) in rows:
        place_of = files.number(line, "movies.dat", number) - 1
        titles[place_of] = title
        is_of[place_of, [genres.index(genre) for genre in told.split("|")]] = 1
    films = Films(*_titles_and_years(titles), is_of, genres, genres)
    ratings = _read_ratings(files, "ratings.dat", "::", len(people), count)
    return RatingData(ratings, films, people, random_folds(ratings), _told("MovieLens 1M", ratings, files), is_real=True)


# ------------------------------------------------------------------------------------------------------ the files


class _Files:
    """The files of one data set: in a folder, or in a zip, which is read as it is."""

    def __init__(self, place: Path, main: str, name: str):
        self.name, self.zip, self.folder = name, None, place if place.is_dir() else place.parent
        self.place = place
        if place.suffix == ".zip":
            try:
                self.zip = zipfile.ZipFile(place)
            except (OSError, zipfile.BadZipFile) as error:
                raise unreadable(place, error, name) from None
            inside = [one for one in self.zip.namelist() if one.rpartition("/")[2] == main]
            if not inside:
                raise damaged(place, f"there is no {main} in it", name)
            self.folder = Path(inside[0]).parent

    def path(self, file: str) -> Path:
        return self.place / self.folder / file if self.zip else self.folder / file

    def has(self, file: str) -> bool:
        return (self.folder / file).as_posix() in self.zip.namelist() if self.zip else self.path(file).exists()

    def rows(self, file: str, between: str, least: int) -> Iterator[tuple[int, list[str]]]:
        """The lines of a file in fields, each with its number.

        Raises:
            LessonError: There is no such file, it is empty, or a line has fewer than `least` fields.
        """
        try:
            content = self.zip.read((self.folder / file).as_posix()) if self.zip else self.path(file).read_bytes()
        except KeyError:
            raise damaged(self.place, f"there is no {file} in it", self.name) from None
        except (OSError, zipfile.BadZipFile) as error:
            raise unreadable(self.path(file), error, self.name) from None
        found = False
        # Latin-1 has a letter for every byte: a title in another encoding looks wrong, and nothing else breaks.
        for number, line in enumerate(io.StringIO(content.decode("latin-1")), start=1):
            if line.strip() == "":
                continue
            fields = line.rstrip("\r\n").split(between)
            if len(fields) < least:
                raise self.wrong(file, number, f"{line.strip()[:40]!r} has {len(fields)} fields, and {least} belong there")
            found = True
            yield number, fields
        if not found:
            raise damaged(self.path(file), "it is empty", self.name)

    def number(self, line: int, file: str, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise self.wrong(file, line, f"{text[:40]!r} is not a whole number") from None
        if number < 1:
            raise self.wrong(file, line, f"numbers begin with 1, here is {number}")
        return number

    def wrong(self, file: str, line: int, what: str) -> LessonError:
        return LessonError(f"{paths.short(self.path(file))}, line {line}: {what}; the file was left as it is")


def _read_ratings(files: _Files, file: str, between: str, people: int, films: int) -> Ratings:
    """Read ratings, and hold each to what can be."""
    rows, seen = [], {}
    for line, (person, film, stars, time, *_) in files.rows(file, between, 4):
        try:
            row = int(person), int(film), float(stars), int(time)
        except ValueError:
            raise files.wrong(file, line, f"{person!r}, {film!r}, {stars!r}, {time!r} are not four numbers") from None
        if not LOWEST <= row[2] <= HIGHEST:
            raise files.wrong(file, line, f"a rating of {row[2]:g} is outside the scale of {LOWEST} to {HIGHEST}")
        if not 1 <= row[0] <= people:
            raise files.wrong(file, line, f"there is no person {row[0]}, only 1 to {people}")
        if not 1 <= row[1] <= films:
            raise files.wrong(file, line, f"there is no film {row[1]}, only 1 to {films}")
        before = seen.setdefault(row[:2], line)
        if before != line:
            raise files.wrong(file, line, f"person {row[0]} has rated film {row[1]} in line {before} already")
        rows.append(row)
    numbers, rated, stars_given, times = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Ratings(numbers - 1, rated - 1, stars_given.float(), times)


def _read_people(files: _Files, file: str, between: str, places: Sequence[int], work: dict[int, str] | None = None) -> People:
    """Age group, gender and work of everybody as 0 and 1; `places` says where age, gender and work stand in a line."""
    rows = []
    for expected, (line, fields) in enumerate(files.rows(file, between, 5), start=1):
        if fields[0] != str(expected):
            raise files.wrong(file, line, f"person {expected} should stand here, not {fields[0][:40]!r}")
        age, gender, does = (fields[place] for place in places)
        rows.append((sum(files.number(line, file, age) >= first for first in AGES), gender, does))
    kinds = sorted({does for *_, does in rows}, key=lambda does: (len(does), does) if work else (0, does))
    columns = [[float(group == number) for group, *_ in rows] for number in range(len(AGES) + 1)]
    columns += [[float(gender == "F") for _, gender, _ in rows]]
    columns += [[float(does == kind) for *_, does in rows] for kind in kinds]
    ages = [f"younger than {AGES[0]}", *(f"{first} or older" for first in AGES)]
    names = [*ages, "woman", *(work.get(int(kind), kind) if work and kind.isdecimal() else kind for kind in kinds)]
    return People(torch.tensor(columns).T.contiguous(), names)


def _films_100k(files: _Files, genres: list[str]) -> Films:
    titles, is_of = [], []
    for expected, (line, fields) in enumerate(files.rows("u.item", "|", 5 + len(genres)), start=1):
        if fields[0] != str(expected):
            raise files.wrong("u.item", line, f"film {expected} should stand here, not {fields[0][:40]!r}")
        if not set(fields[-len(genres) :]) <= {"0", "1"}:
            raise files.wrong("u.item", line, "each genre has a 0 or a 1")
        titles.append(fields[1])
        is_of.append([float(flag) for flag in fields[-len(genres) :]])
    return Films(*_titles_and_years(titles), torch.tensor(is_of), genres, genres)


def _titles_and_years(titles: list[str]) -> tuple[list[str], list[str], list[int]]:
    """Cut "Matrix, The (1999)" into "The Matrix" and 1999; otherwise it stays. (Twice: there is no Korean.)"""
    names, years = [], []
    for title in titles:
        name, _, rest = title.strip().rpartition(" (")
        is_year = rest[:4].isdecimal() and rest[4:] == ")"
        years.append(int(rest[:4]) if is_year else 0)
        name = name if is_year else title.strip()
        body, _, article = name.rpartition(", ")
        names.append(f"{article} {body}" if body and article in ("The", "A", "An") else name)
    return names, list(names), years


def _told(title: str, ratings: Ratings, files: _Files) -> str:
    counts = f"{len(ratings.stars):,} ratings by {len(ratings.people.unique()):,} people"
    check(len(ratings.stars) >= 100, f"{paths.short(files.place)} has {counts}: too few to learn from")
    return f"{title} ({counts}), {paths.short(files.place)}"
