"""Sentences in which something moves from one date to another, in English and Korean: written here, as many as one likes.

    write_sentences(2, [(3, 12), (5, 2)], seed=0)   # "... from March 12 to May 2 ...", and the same the other way round

The words come from datasets/samples/moved_dates.txt.
"""

import random
import re
from typing import NamedTuple

from utils import paths

OUTSIDE, OLD, NEW = 0, 1, 3  # tags: a date begins with OLD or NEW and goes on with OLD + 1 or NEW + 1, as in BIO
MONTHS = "January February March April May June July August September October November December".split()
Date = tuple[int, int]  # month, day: the later one of two is the larger


class Sentence(NamedTuple):
    """A sentence with the answers to two questions.

    Attributes:
        symbols: Words, numbers, signs; of Korean, single syllables.
        tags: One for each symbol.
        later: 1 if the new date is later in the year than the old one, else 0.
        language: "en" or "ko".
    """

    symbols: list[str]
    tags: list[int]
    later: int
    language: str


def write_sentences(count: int, dates: list[Date], seed: int) -> list[Sentence]:
    """Write sentences in pairs that differ in nothing but which of two dates is the old one.

    Around them stand other sentences, up to eight and mostly none or one: many texts are short, and a few are long.

    Args:
        count: An even number.
        dates: Which to choose from, at least two.
        seed: The same seed writes the same.
    """
    lines = (paths.ROOT / "datasets" / "samples" / "moved_dates.txt").read_text(encoding="utf-8").splitlines()
    words = {kind: row.split("|") for kind, _, row in (line.partition("\t") for line in lines)}
    draw, sentences = random.Random(seed), []
    while len(sentences) < count:
        language, others = draw.choice(["en", "ko"]), min(8, int(draw.expovariate(0.6)))
        parts = [draw.choice(words[f"{language} other"]).replace("{n}", str(draw.randint(1, 28))) for _ in range(others)]
        parts.insert(draw.randint(0, others), draw.choice(words[f"{language} frame"]))
        frame = " ".join(parts).replace("{e}", draw.choice(words[f"{language} event"]))
        one, other = draw.sample(dates, 2)
        sentences += [_fill(frame, one, other, language), _fill(frame, other, one, language)]
    return sentences


def _fill(frame: str, old: Date, new: Date, language: str) -> Sentence:
    """Cut a frame into symbols, put in two dates, and tag all of it."""
    symbols, tags = [], []
    for piece in re.findall(r"\{\w+\}|\d+|[A-Za-z]+|[가-힣]|[^\w\s]", frame):
        first = {"{old}": OLD, "{new}": NEW}.get(piece, OUTSIDE)
        month, day = new if first == NEW else old
        date = [str(month), "월", str(day), "일"] if language == "ko" else [MONTHS[month - 1], str(day)]
        symbols += [piece] if first == OUTSIDE else date
        tags += [OUTSIDE] if first == OUTSIDE else [first] + [first + 1] * (len(date) - 1)
    return Sentence(symbols, tags, int(new > old), language)
