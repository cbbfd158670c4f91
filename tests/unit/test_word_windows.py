"""Texts as numbered words."""

import pytest
import torch

from utils.lesson import LessonError
from utils.word_windows import neighbours, read_corpus


def test_corpus():
    corpus = read_corpus(["The dog's bone, the CAT.", "나는 학교에 간다!"] * 200, seldom=2)
    assert corpus.words[0] == "the" and set(corpus.words) == {"the", "dog's", "bone", "cat", "나는", "학교에", "간다"}
    assert [corpus.words[i] for i in corpus.ids[:5]] == ["the", "dog's", "bone", "the", "cat"]
    assert corpus.sentences[:9].tolist() == [0] * 5 + [1] * 3 + [2]
    assert corpus.counts.tolist() == [400.0] + [200.0] * 6


def test_seldom_words_are_left_out():
    corpus = read_corpus(["a b"] * 600 + ["a c"] * 3, seldom=4)
    assert corpus.words == ["a", "b"] and read_corpus(["a b"] * 1000 + ["a c"] * 3, most=1).words == ["a"]
    with pytest.raises(LessonError, match="1,000"):
        read_corpus(["a b"])


def test_neighbours():
    corpus = read_corpus(["a b c", "b a"] * 250)
    left, right, distances = neighbours(corpus, 2)
    found = sorted((corpus.words[i] + corpus.words[j], d) for i, j, d in zip(left, right, distances.tolist(), strict=True))
    assert found == sorted([("ab", 1), ("bc", 1), ("ac", 2), ("ba", 1)] * 250)
    assert distances.dtype == torch.int64
