"""Written dates: each can be read back in one way only, and no day is in two splits."""

import random
import re
from datetime import date

import pytest

from utils.datasets import written_dates as writer

ENGLISH = {name.lower(): i for i, name in enumerate(writer.MONTHS, 1)}
ENGLISH |= {name[:3]: i for name, i in ENGLISH.items()} | {"sept": 9}
SINO = {syllable: i for i, syllable in enumerate("공일이삼사오육칠팔구")} | {"유": 6, "시": 10}


def year_of(text: str) -> int:
    """What two digits mean."""
    number = int(text)
    return number if len(text) == 4 else number + (1900 if number >= 50 else 2000)


def sino(text: str) -> int:
    """What a number in Sino-Korean syllables means, or single digits in a row."""
    if not set(text) & set("십백천") and len(text) == 4:
        return int("".join(str(SINO[syllable]) for syllable in text))
    total, digit = 0, 0
    for syllable in text:
        unit = {"십": 10, "백": 100, "천": 1000}.get(syllable)
        total, digit = (total + (digit or 1) * unit, 0) if unit else (total, SINO[syllable])
    return total + digit


@pytest.fixture(scope="module")
def drawn():
    return writer.written_dates(4000, "training", seed=3)


def forms(drawn, pattern: str) -> list[tuple[re.Match, date]]:
    found = [(re.fullmatch(pattern, text.lower()), date.fromisoformat(iso)) for text, iso in drawn]
    found = [(match, day) for match, day in found if match]
    assert len(found) > 50
    return found


def test_digits(drawn):
    for match, day in forms(drawn, r"(\d{4}|\d\d)(?:-|/|\. ?)(\d+)(?:-|/|\. ?)(\d+)\.?"):
        if "/" not in match[0] or len(match[1]) == 4:
            assert (year_of(match[1]), int(match[2]), int(match[3])) == (day.year, day.month, day.day)
    for match, day in forms(drawn, r"(\d{4})(\d\d)(\d\d)"):
        assert (int(match[1]), int(match[2]), int(match[3])) == (day.year, day.month, day.day)
    for match, day in forms(drawn, r"(\d{1,2})/(\d+)/(\d+)"):
        assert (year_of(match[3]), int(match[1]), int(match[2])) == (day.year, day.month, day.day)


def test_english(drawn):
    for match, day in forms(drawn, r"(?:([a-z]+),? )?([a-z]+)\.? (\d+)(?:st|nd|rd|th)?,? '?(\d+)"):
        assert (year_of(match[4]), ENGLISH[match[2]], int(match[3])) == (day.year, day.month, day.day)
        assert match[1] in (None, writer.WEEKDAYS[day.weekday()].lower(), writer.WEEKDAYS[day.weekday()][:3].lower())
    for match, day in forms(drawn, r".*?(\d+)(?:st|nd|rd|th)?(?: of | |-)([a-z]+)\.?(?:, | |-)'?(\d+)"):
        assert (year_of(match[3]), ENGLISH[match[2]], int(match[1])) == (day.year, day.month, day.day)
    ends = {match[2] for match, _ in forms(drawn, r".*?\b(\d+)(st|nd|rd|th).*")}
    assert ends == {"st", "nd", "rd", "th"}
    assert not any(re.search(r"1[123](st|nd|rd)|[^1][123]th", text.lower()) for text, _ in drawn)


def test_english_words():
    draw = random.Random(0)
    cases = {
        date(1984, 3, 21): "twenty-first of march nineteen eighty-four",
        date(2000, 1, 1): "first of january two thousand",
        date(2010, 5, 30): "thirtieth of may twenty ten",
        date(2009, 12, 12): "twelfth of december two thousand and nine",
    }
    for day, expected in cases.items():
        assert expected in {writer.english_words(day, draw).lower() for _ in range(200)}


def test_korean(drawn):
    for match, day in forms(drawn, r"'?(\d+)년 ?(\d+)월 ?(\d+)일.*"):
        assert (year_of(match[1]), int(match[2]), int(match[3])) == (day.year, day.month, day.day)
    for match, day in forms(drawn, r"([^\d년]+)년 ?([^\d월]+)월 ?([^\d일(]*?[^\d(])일(?: ?\(.\)| .요일)?"):
        assert (sino(match[1]), sino(match[2]), sino(match[3])) == (day.year, day.month, day.day)
    assert any("유월" in text for text, _ in drawn) and any("시월" in text for text, _ in drawn)
    assert not any("육월" in text or "십월" in text for text, _ in drawn)


def test_no_text_means_two_days(drawn):
    meanings = {}
    for text, day in drawn:
        assert meanings.setdefault(text.lower(), day) == day


def test_splits_have_no_day_in_common_and_are_all_days():
    splits = {split: set(writer.days_of(split)) for split in ("training", "validation", "test")}
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == writer.DAYS
    assert min(set.union(*splits.values())) == date(1950, 1, 1) and max(set.union(*splits.values())) == date(2049, 12, 31)
    assert [len(splits[split]) for split in ("training", "validation", "test")] == [29_220, 3653, 3652]
    for split, days in splits.items():
        assert {date.fromisoformat(iso) for _, iso in writer.written_dates(200, split, seed=1)} <= days


def test_the_same_seed_writes_the_same():
    assert writer.written_dates(20, "test", seed=5) == writer.written_dates(20, "test", seed=5)
    assert writer.written_dates(20, "test", seed=5) != writer.written_dates(20, "test", seed=6)
