"""Texts as numbered words, and which words stand near which: what vectors of words are learned from."""

import re
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from utils.lesson import check


class Corpus(NamedTuple):
    """Texts as numbers.

    Attributes:
        words: The different ones, the most frequent first.
        ids: Each word of the texts by its place in `words`, (n,) int64.
        sentences: The number of the text in which it stands, (n,) int64.
        counts: How often each of `words` occurs, (words,) float64.
    """

    words: list[str]
    ids: Tensor
    sentences: Tensor
    counts: Tensor


def read_corpus(texts: list[str], seldom: int = 1, most: int | None = None) -> Corpus:
    """Cut texts into words, in lower case and without signs, and number them.

    Args:
        texts: Words are letters, digits and apostrophes in a row; in Korean, particles and endings are part of a word.
        seldom: Words that occur less often than this are left out.
        most: How many different words are kept at most, the most frequent ones.

    Raises:
        LessonError: Fewer than 1,000 words remain.
    """
    cut = [re.findall(r"[\w']+", text.lower()) for text in texts]
    counted = Counter(word for words in cut for word in words).most_common(most)
    numbers = {word: i for i, (word, count) in enumerate(counted) if count >= seldom}
    rows = [(numbers[word], i) for i, words in enumerate(cut) for word in words if word in numbers]
    check(len(rows) >= 1000, f"there are only {len(rows)} words to learn from; needed are 1,000: more sentences?")
    ids, sentences = torch.tensor(rows).T.contiguous()
    return Corpus(list(numbers), ids, sentences, ids.bincount().double())


def neighbours(corpus: Corpus, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find all pairs of words of one text that are at most `window` words apart.

    Returns:
        The word on the left (pairs,), the word on the right (pairs,), and how far apart they are (pairs,).
    """
    found = []
    for distance in range(1, window + 1):
        together = corpus.sentences[distance:] == corpus.sentences[:-distance]
        left, right = corpus.ids[:-distance][together], corpus.ids[distance:][together]
        found.append((left, right, torch.full_like(left, distance)))
    left, right, distances = (torch.cat(parts) for parts in zip(*found, strict=True))
    return left, right, distances
