"""utils.subwords: words, their parts, and batches without a surprise."""

from itertools import islice

import pytest
import torch

from utils.lesson import LessonError
from utils.subwords import MOST_PARTS, Subwords, parts, words


def test_words():
    assert words("Don't!!! It's 재미있다, 정말...") == ["don't", "!!!", "it's", "재미있다", ",", "정말", "..."]
    assert words("\u1112\u1161\u11ab") == ["한"], "taken apart or not, it is one syllable"
    assert words(" \n") == []


def test_parts():
    assert parts("국은") == ["=국은", "국", "은", "<국", "국은", "은>", "<국은", "국은>", "<국은>"]
    assert parts("bad") == ["=bad", "<ba", "bad", "ad>", "<bad", "bad>", "<bad>"]
    assert set(parts("재미있다")) & set(parts("재미없었지만")) >= {"재", "미", "재미", "<재미"}
    assert len(parts("a" * 1000)) == MOST_PARTS


def test_batch():
    subwords = Subwords(["국은 짜다", "국이 짜다"], least=2)
    assert set(subwords.ids) >= {"=짜다", "국", "<국"} and "=국은" not in subwords.ids and 0 not in subwords.ids.values()
    ids, real = subwords.batch(subwords.encode(["국은 짜다", "", "xyz", "짜다 짜다 짜다"], longest=2))
    assert real.tolist() == [[True, True], [True, False], [True, False], [True, True]]
    assert ids.shape[:2] == (4, 2) and ids[1:3].eq(0).all() and torch.equal(ids[0, 1], ids[3, 0])
    assert {list(subwords.ids)[i - 1] for i in ids[0, 0].tolist() if i} == {"국", "<국"}
    assert int(ids.max()) < len(subwords)


def test_batches_show_every_text_once_and_are_of_similar_length():
    texts = [" ".join("ab" for _ in range(1 + i % 9)) for i in range(90)]
    subwords = Subwords(texts, least=1)
    encoded = subwords.encode(texts, longest=20)
    rounds = list(islice(subwords.draw_batches(encoded, 10, seed=0), 18))
    for epoch in (rounds[:9], rounds[9:]):
        assert sorted(i for chosen, _, _ in epoch for i in chosen.tolist()) == list(range(90))
        assert sum(int((~real).sum()) for _, _, real in epoch) < 20
    assert [chosen.tolist() for chosen, _, _ in rounds[:9]] != [chosen.tolist() for chosen, _, _ in rounds[9:]]
    again = next(subwords.draw_batches(encoded, 10, seed=0))
    assert torch.equal(again[0], rounds[0][0]) and torch.equal(again[1], rounds[0][1])


def test_nothing_to_learn_from():
    with pytest.raises(LessonError, match="no part"):
        Subwords(["a b"], least=5)
