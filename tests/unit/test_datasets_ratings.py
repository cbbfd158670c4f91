"""MovieLens in its official files, and one sentence for everything that can be wrong with them."""

import zipfile

import pytest
import torch

from utils.datasets import ratings as module
from utils.datasets.ratings import Ratings, movielens, random_folds, read_1m, read_100k
from utils.lesson import LessonError

PEOPLE, FILMS = 12, 15


def rows(between: str) -> list[str]:
    """Everybody rates ten films."""
    pairs = [(person, 1 + (3 * person + film) % FILMS) for person in range(1, PEOPLE + 1) for film in range(10)]
    return [
        between.join(map(str, (person, film, 1 + (person * film) % 5, 880_000_000 + number)))
        for number, (person, film) in enumerate(pairs)
    ]


@pytest.fixture
def folder(tmp_path):
    """MovieLens 100k, very small."""
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    lines = rows("\t")
    files = {
        "u.data": lines,
        "u.genre": ["unknown|0", "Comedy|1", "Drama|2", ""],
        "u.item": [f"{n}|Café {n}, The ({1980 + n})|01-Jan-1980||http://x|0|{n % 2}|{1 - n % 2}" for n in range(1, FILMS + 1)],
        "u.user": [f"{n}|{15 + 4 * n}|{'MF'[n % 2]}|{'writer' if n % 3 else 'artist'}|55455" for n in range(1, PEOPLE + 1)],
    }
    for number in range(1, 6):
        files[f"u{number}.base"] = [line for place, line in enumerate(lines) if place % 5 != number - 1]
        files[f"u{number}.test"] = lines[number - 1 :: 5]
    for name, text in files.items():
        (folder / name).write_bytes(("\n".join(text) + "\n").encode("latin-1"))
    return folder


def change(folder, name: str, line: int, text: str) -> None:
    path = folder / name
    lines = path.read_bytes().decode("latin-1").split("\n")
    lines[line - 1] = text
    path.write_bytes("\n".join(lines).encode("latin-1"))


class TestMovieLens100k:
    def test_everything_is_where_the_files_have_it(self, folder):
        data = read_100k(folder)
        assert len(data.ratings.stars) == 120 and data.is_real and "120 ratings by 12 people" in data.source
        assert [column[0].item() for column in data.ratings] == [0, 3, 5.0, 880_000_000]
        assert (data.films.titles[0], data.films.years[0]) == ("The Café 1", 1981)
        assert data.films.genres[0].tolist() == [0, 1, 0] and list(data.films.genre_names) == ["unknown", "Comedy", "Drama"]
        assert data.films.features().shape == (FILMS, 3 + 2)  # the eighties and the nineties
        assert list(data.people.names[-3:]) == ["woman", "artist", "writer"] and data.people.names[0] == "younger than 18"
        assert data.people.features[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 1, 0, 1]  # 19, F, writer
        assert [(len(base.stars), len(test.stars)) for base, test in data.folds] == [(96, 24)] * 5

    @pytest.mark.parametrize("place", ["u.data", "zip"])
    def test_the_file_itself_or_the_zip_will_do(self, folder, tmp_path, place):
        where = folder / "u.data"
        if place == "zip":
            where = tmp_path / "ml-100k.zip"
            with zipfile.ZipFile(where, "w") as archive:
                for file in folder.iterdir():
                    archive.write(file, f"ml-100k/{file.name}")
        assert torch.equal(read_100k(where).ratings.stars, read_100k(folder).ratings.stars)

    def test_without_folds_others_are_dealt(self, folder):
        (folder / "u1.base").unlink()
        folds = read_100k(folder).folds
        assert [len(test.stars) for _, test in folds] == [24] * 5

    @pytest.mark.parametrize(
        ("name", "line", "text", "told"),
        [
            ("u.data", 3, "1\t6\t6\t880000002", "u.data, line 3: a rating of 6 is outside the scale of 1 to 5"),
            ("u.data", 3, "1\t6\t0\t880000002", "a rating of 0 is outside the scale"),
            ("u.data", 3, "1\t6\tnan\t880000002", "a rating of nan is outside the scale"),
            ("u.data", 3, "13\t6\t5\t880000002", "line 3: there is no person 13, only 1 to 12"),
            ("u.data", 3, "1\t16\t5\t880000002", "there is no film 16, only 1 to 15"),
            ("u.data", 3, "1\t0\t5\t880000002", "there is no film 0"),
            ("u.data", 3, "1\t4\t5\t880000002", "line 3: person 1 has rated film 4 in line 1 already"),
            ("u.data", 3, "1\t6\t5", "has 3 fields, and 4 belong there"),
            ("u.data", 3, "1,6,5,880000002", "has 1 fields"),
            ("u.data", 3, "one\t6\t5\t880000002", "are not four numbers"),
            ("u1.test", 2, "1\t6\t9\t880000002", "u1.test, line 2: a rating of 9"),
            ("u.item", 2, "7|Out of order|||x|0|0|1", "u.item, line 2: film 2 should stand here, not '7'"),
            ("u.item", 2, "2|Half", "u.item, line 2"),
            ("u.item", 2, "2|A film|||x|0|7|1", "each genre has a 0 or a 1"),
            ("u.user", 4, "4|old|M|writer|1", "u.user, line 4: 'old' is not a whole number"),
        ],
    )
    def test_what_cannot_be_is_one_sentence_with_the_line(self, folder, name, line, text, told):
        change(folder, name, line, text)
        with pytest.raises(LessonError, match=told) as caught:
            read_100k(folder)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 250

    def test_empty_missing_and_broken_files(self, folder, tmp_path, monkeypatch):
        (folder / "u.user").write_bytes(b"\n")
        monkeypatch.setitem(module.damaged.__globals__["catalogue"].CATALOGUE, "movielens_100k", _Entry())
        with pytest.raises(LessonError, match="u.user is damaged: it is empty"):
            read_100k(folder)
        (folder / "u.user").unlink()
        with pytest.raises(LessonError, match="u.user is missing: get it from"):
            read_100k(folder)
        broken = tmp_path / "ml-100k.zip"
        broken.write_bytes(b"PK\x03\x04 cut off")
        with pytest.raises(LessonError, match=r"ml-100k.zip is damaged"):
            read_100k(broken)

    def test_too_few_ratings(self, folder):
        (folder / "u.data").write_bytes("\n".join(rows("\t")[:50]).encode())
        with pytest.raises(LessonError, match="50 ratings by 5 people: too few"):
            read_100k(folder)


class _Entry:
    homepage = "https://grouplens.org"


class TestMovieLens1M:
    def test_numbers_may_have_gaps(self, tmp_path):
        text = {
            "ratings.dat": rows("::"),
            "movies.dat": [f"{n}::Film {n} (1999)::Comedy|Drama" for n in (*range(1, FILMS), FILMS + 3)],
            "users.dat": [f"{n}::F::25::{n % 3}::55455" for n in range(1, PEOPLE + 1)],
        }
        for name, lines in text.items():
            (tmp_path / name).write_text("\n".join(line.replace("::15::", "::18::") for line in lines), encoding="latin-1")
        data = read_1m(tmp_path)
        assert len(data.films) == 18 and data.films.titles[15] == "" and data.films.years[15] == 0
        assert list(data.films.genre_names) == ["Comedy", "Drama"] and data.films.genres[17].tolist() == [1, 1]
        assert data.people.names[-3:] == ["other", "educator", "artist"] and data.films.titles[17] == "Film 18"
        assert sum(len(test.stars) for _, test in data.folds) == 120


class TestFolds:
    def test_each_rating_is_tested_once(self):
        ratings = Ratings(torch.arange(50), torch.arange(50), torch.ones(50), torch.arange(50))
        folds = random_folds(ratings, seed=1)
        assert sorted(torch.cat([test.people for _, test in folds]).tolist()) == list(range(50))
        assert all(not set(base.people.tolist()) & set(test.people.tolist()) for base, test in folds)


def test_without_the_real_set_people_are_simulated():
    data = movielens("sample")
    assert not data.is_real and data.source.startswith("sample: ")
