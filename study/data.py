"""Data sets: what is on disk, what there is to fetch. The catalogue itself is utils/catalogue.py."""

from pathlib import Path

from study import lessons
from study.messages import Problem, companion, paint, say


def show() -> None:
    """Print every data set: where it lies, or how large it is and how to fetch it."""
    from utils import catalogue

    for name, entry in catalogue.CATALOGUE.items():
        place = catalogue.find(name)
        print(f"{paint('[OK]', 'green') if place else '[--]'} {paint(name, 'bold')}  {entry.title}")
        if place:
            print(f"     {say('on disk', '위치')}: {place}")
        else:
            if entry.files:
                print(f"     {say('fetch it', '받기')}: {companion()} data {name}  ({entry.bytes / 1e6:.1f} MB)")
            else:
                print(f"     {say('put it there yourself', '직접 넣기')}: datasets/{entry.places[0]}")
            print(f"     {say('until then', '그 전까지')}: {entry.sample}")
        print(paint(f"     {say('licence', '라이선스')}: {entry.licence} · {say('source', '출처')}: {entry.homepage}", "dim"))


def fetch(names: list[str]) -> None:
    """Download data sets, one after the other, except those that are there."""
    from utils import catalogue
    from utils.lesson import LessonError

    known = list(catalogue.CATALOGUE)
    chosen = [lessons.find(name, known, listed_by="data") for name in names]  # a typing error is told before any download
    for name in chosen:
        place: Path | None = catalogue.find(name)
        if place is None:
            try:
                place = catalogue.fetch(name)
            except LessonError as error:
                raise Problem(str(error)) from None
        print(f"{paint('[OK]', 'green')} {name}: {place}")
