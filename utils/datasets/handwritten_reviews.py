"""320 short reviews written by hand for this course, half of them English, half Korean: to evaluate with, and for nothing else.

    reviews = handwritten_reviews("ko")
    reviews.texts[12], reviews.labels[12]    # "이야기가 뻔하고 연기도 어색해서 보는 내내 지루했다.", 0
    kinds("ko")[12]                          # "plain"

They are of films, books, food, hotels, products, courses, apps and concerts. No review means the opposite of what it says.
Never train on them and never choose a setting by them: they are too few, and a test that was looked at is no test any more.
"""

import functools
from typing import NamedTuple

import torch

from utils import paths
from utils.datasets.reviews import Texts
from utils.lesson import check, mention

LANGUAGES = {"en": "English", "ko": "Korean"}
KINDS = (
    "plain",  # says what was good or bad
    "negation",  # "not bad at all"
    "contrast",  # "slow start, but the last hour is magnificent"
    "intensity",  # "barely edible", "absolutely stunning"
    "mixed-register",  # as people type: slang, abbreviations, typing errors, no capitals, in Korean missing spaces
    "implicit",  # no word of praise or complaint: "I missed my stop twice because of this book."
    "comparison",  # "my ten-dollar earbuds sound clearer than these"
)


class _Review(NamedTuple):
    language: str
    label: int
    kind: str
    text: str


@functools.cache
def _reviews(language: str) -> list[_Review]:
    check(language in LANGUAGES, f'there are hand-written reviews in "en" and in "ko", not in "{language}"')
    lines = (paths.ROOT / "datasets" / "samples" / "reviews_by_hand.txt").read_text(encoding="utf-8").splitlines()
    fields = (line.split("\t") for line in lines)
    return [_Review(written_in, int(label), kind, text) for written_in, label, kind, text in fields if written_in == language]


def handwritten_reviews(language: str) -> Texts:
    """Reviews of 3 to 40 words, 80 negative (0) and 80 positive (1) ones, for evaluation only.

    They come sorted by kind, and each kind by label, positive first. Accuracies on so few differ by chance: the standard error
    of 0.80 is 0.03 on all 160, and 0.08 within one kind (22 or 24 reviews).

    Args:
        language: "en" or "ko".

    Raises:
        LessonError: It is another language.
    """
    reviews = _reviews(language)
    mention("data", f"{len(reviews)} hand-written reviews in {LANGUAGES[language]}, for evaluation only")
    return Texts([review.text for review in reviews], torch.tensor([review.label for review in reviews]))


def kinds(language: str) -> list[str]:
    """What is difficult about each of `handwritten_reviews(language)`, in the same order: one of KINDS, each half positive.

    Raises:
        LessonError: It is another language.
    """
    return [review.kind for review in _reviews(language)]
