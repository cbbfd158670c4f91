"""Dates as people write them, in English and Korean: written here, as many as one likes.

    written_dates(3, "training", seed=0)   # [("3rd of Mar 24", "2024-03-03"), ("이천이십사년 삼월 삼일", "2024-03-03"), ...]

The days are those of 1950 to 2049, so two digits say which year is meant. With slashes the month comes first (3/4/24 is March 4),
with dots and hyphens the year does (24.3.4), unless the month is a word (4-Mar-24).
"""

import random
from datetime import date, timedelta
from typing import Literal

from utils.datasets.number_words import SMALL, TENS, in_english, in_korean

Split = Literal["training", "validation", "test"]
FIRST, DAYS = date(1950, 1, 1), 36_525  # 1950-01-01 to 2049-12-31
MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ORDINALS = """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
sixteenth seventeenth eighteenth nineteenth twentieth""".split()
ORDINALS += [f"twenty-{word}" for word in ORDINALS[:9]] + ["thirtieth", "thirty-first"]


def days_of(split: Split) -> list[date]:
    """Return the days that belong to a split: eight, one and one tenth of all, the same whatever is drawn from them."""
    days = [FIRST + timedelta(i) for i in range(DAYS)]
    random.Random(0).shuffle(days)
    test, validation = days[: DAYS // 10], days[DAYS // 10 : DAYS // 5]
    return {"training": days[DAYS // 5 :], "validation": validation, "test": test}[split]


def written_dates(count: int, split: Split, seed: int) -> list[tuple[str, str]]:
    """Draw days of a split, each written in a form of its own; return (as it is written, as ISO 8601 has it)."""
    draw, days = random.Random(f"{split} {seed}"), days_of(split)
    return [(write_date(day, draw), day.isoformat()) for day in draw.choices(days, k=count)]


def write_date(day: date, draw: random.Random) -> str:
    """Write a day in one of the forms, drawn anew."""
    return draw.choice(FORMS)(day, draw)


def in_digits(day: date, draw: random.Random) -> str:
    """2024-03-04, 2024/3/4, 24.3.4, 20240304: the year first."""
    sign = draw.choice(["-", "/", ".", ". ", ""])
    if sign in ("-", "") or draw.random() < 0.3:
        return day.strftime(f"%Y{sign}%m{sign}%d")
    year = draw.choice([f"{day.year}", f"{day.year % 100:02}"]) if sign != "/" else day.year  # 24/3/4 could be anything
    return f"{year}{sign}{day.month}{sign}{day.day}" + ("." if sign == ". " else "")


def american(day: date, draw: random.Random) -> str:
    """3/4/2024, 03/04/24: the month first."""
    month, number = draw.choice([(day.month, day.day), (f"{day.month:02}", f"{day.day:02}")])
    return f"{month}/{number}/{draw.choice([f'{day.year}', f'{day.year % 100:02}'])}"


def english(day: date, draw: random.Random) -> str:
    """March 4, 2024, 4th of Mar 24, Mon 4 March '24, 04-Mar-2024."""
    month = MONTHS[day.month - 1]
    short = {5: "May", 9: "Sept"}.get(day.month, f"{month[:3]}.")
    month = draw.choice([month, month, month[:3], short])
    year = draw.choice([f"{day.year}", f"{day.year}", f"{day.year % 100:02}", f"'{day.year % 100:02}"])
    nth = f"{day.day}{'th' if 10 < day.day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day.day % 10, 'th')}"
    text = draw.choice([
        f"{month} {day.day}, {year}", f"{month} {nth}, {year}", f"{month} {nth} {year}", f"{day.day} {month} {year}",
        f"{nth} of {month} {year}", f"the {nth} of {month}, {year}", f"{day.day:02}-{month[:3]}-{year}",
    ])  # fmt: skip
    weekday = WEEKDAYS[day.weekday()]
    text = draw.choice(["", "", f"{weekday}, ", f"{weekday[:3]} ", f"{weekday[:3]}, "]) + text
    return draw.choice([text, text, text.lower(), text.upper()])


def english_words(day: date, draw: random.Random) -> str:
    """The fourth of March, nineteen eighty-four; March fourth, two thousand and one."""
    month, nth, century, rest = MONTHS[day.month - 1], ORDINALS[day.day - 1], *divmod(day.year, 100)
    if rest < 10 or (century == 20 and draw.random() < 0.3):
        year = "two thousand" + draw.choice([" ", " and "]) + _below_hundred(rest) if rest else "two thousand"
    else:
        year = f"{_below_hundred(century)} {_below_hundred(rest)}"
    return draw.choice([f"the {nth} of {month}, {year}", f"{nth} of {month} {year}", f"{month} {nth}, {year}"])


def _below_hundred(n: int) -> str:
    return SMALL[n - 1] if n < 20 else "-".join([TENS[n // 10 - 2], *in_english(n % 10)])


def korean(day: date, draw: random.Random) -> str:
    """2024년 3월 4일, '24년 3월 4일 (월), 2024년3월4일 월요일."""
    year = draw.choice([f"{day.year}", f"{day.year}", f"{day.year % 100:02}", f"'{day.year % 100:02}"])
    gap = draw.choice([" ", " ", ""])
    return f"{year}년{gap}{day.month}월{gap}{day.day}일" + _korean_weekday(day, draw)


def korean_words(day: date, draw: random.Random) -> str:
    """이천이십사년 삼월 사일, 이공이사년 시월 십일일 월요일."""
    digits = "".join("공일이삼사오육칠팔구"[int(digit)] for digit in str(day.year))
    year = draw.choice(["".join(in_korean(day.year)), "".join(in_korean(day.year)), digits])
    month = {6: "유", 10: "시"}.get(day.month) or "".join(in_korean(day.month))  # not 육월, 십월
    gap = draw.choice([" ", " ", ""])
    return f"{year}년{gap}{month}월{gap}{''.join(in_korean(day.day))}일" + _korean_weekday(day, draw)


def _korean_weekday(day: date, draw: random.Random) -> str:
    name = "월화수목금토일"[day.weekday()]
    return draw.choice(["", "", f"({name})", f" ({name})", f" {name}요일"])


FORMS = (in_digits, american, english, english, english_words, korean, korean_words)
