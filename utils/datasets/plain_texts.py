"""Plain text in English or Korean, in three parts: what language models are compared on.

text = plain_text("ko")
text.train[:40]                     # a string; turns, reviews or lines end in line breaks
text.source                         # print it beside every number
split = numbered(text, words=False)
split.train                         # int64: places in split.symbols
"""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from utils.datasets.dialogues import chatterbot
from utils.datasets.reviews import nsmc
from utils.datasets.small_stories import write_stories
from utils.datasets.sources import Source, locate
from utils.datasets.texts import tinyshakespeare
from utils.lesson import mention


@dataclass(frozen=True)
class PlainText:
    """A text to learn from, one to choose settings on, and one for the last look.

    Attributes:
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for the sample.
    """

    train: str
    validation: str
    test: str
    source: str
    is_real: bool


@dataclass(frozen=True)
class NumberedText:
    """The three parts as symbols, (n,) int64 each: places in `symbols`, which has all of them, so that none is unknown."""

    train: Tensor
    validation: Tensor
    test: Tensor
    symbols: list[str]


def plain_text(language: Literal["en", "ko"], source: Source = "auto", seed: int = 0) -> PlainText:
    """Shakespeare's speeches in English, film reviews (NSMC) in Korean; the sample is small talk (`chatterbot`) in either.

    Args:
        language: "en" or "ko".
        source: "auto", "real" or "sample".
        seed: Of the split of the sample, by what the dialogues begin with. The others are cut in their own order.

    Raises:
        LessonError: A file is damaged, or source="real" and it cannot be had.
    """
    if locate("tinyshakespeare" if language == "en" else "nsmc", source) is None:
        talk = chatterbot(language, seed)
        lines = ([turn for dialogue in part for turn in dialogue] for part in (talk.train, talk.validation, talk.test))
        return PlainText(*map(_joined, lines), talk.source, is_real=False)
    if language == "en":
        text = tinyshakespeare(source)
        lines = text.characters.splitlines()
        tenth = len(lines) // 10
        lines = lines[: 8 * tenth], lines[8 * tenth : 9 * tenth], lines[9 * tenth :]
        return PlainText(*map(_joined, lines), text.source, is_real=True)
    reviews = nsmc(source)
    tenth = len(reviews.train) // 10
    lines = reviews.train.texts[:-tenth], reviews.train.texts[-tenth:], reviews.test.texts
    return PlainText(*map(_joined, lines), reviews.source, is_real=True)


def stories_text(count: int = 6000, seed: int = 0) -> PlainText:
    """Small stories of our own in both languages, one in a line: eight tenths, one, and one of them.

    Args:
        count: How many stories, about 75 characters each.
        seed: The same seed writes the same.
    """
    stories, tenth = write_stories(count, seed), count // 10
    parts = map(_joined, (stories[: -2 * tenth], stories[-2 * tenth : -tenth], stories[-tenth:]))
    text = PlainText(*parts, f"sample: {count:,} small stories in English and Korean", is_real=False)
    mention("data", text.source)
    return text


def numbered(text: PlainText, words: bool = False, longest: int = 1_000_000) -> NumberedText:
    """Cut a text into characters, or into words in lower case, signs and line breaks, and number them.

    Args:
        text: As from `plain_text`.
        words: Words instead of characters.
        longest: How many symbols of `train` to keep; of the others no more than an eighth of that.
    """
    parts = [
        re.findall(r"\n|\w+|[^\w\s]", part.lower()) if words else [*part] for part in (text.train, text.validation, text.test)
    ]
    parts = [part[:most] for part, most in zip(parts, (longest, longest // 8, longest // 8), strict=True)]
    places = {symbol: i for i, symbol in enumerate(sorted(set().union(*parts)))}
    return NumberedText(*(torch.tensor([places[symbol] for symbol in part]) for part in parts), [*places])


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
