"""ROUGE: equal to Google's package on English, right on Korean, with intervals that hold what they promise, and blind."""

import random
import unicodedata

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.news import to_summarize
from utils.lesson import LessonError

# What rouge-score 0.1.2 says: reference, candidate, and precision, recall and F1 of ROUGE-1, 2, L and Lsum.
PUBLISHED = [
    ("A cat was on the mat, and the dog slept.", "The cat sat on the mat.\nThe dog slept near it.",
     [(7 / 11, 0.7, 2 / 3), (0.4, 4 / 9, 0.421052631579), (7 / 11, 0.7, 2 / 3), (7 / 11, 0.7, 2 / 3)]),
    ("police killed the gunman", "the gunman kill police\nnobody else",
     [(0.5, 0.75, 0.6), (0.2, 1 / 3, 0.25), (1 / 3, 0.5, 0.4), (1 / 3, 0.5, 0.4)]),
    ("The owners are to ask the buyer to pay back a $900m loan.\nThe buyer faces demands.",
     "The buyer faces a loan.\nOwners ask the buyer of the unit to pay back $900m.",
     [(0.875, 0.823529411765, 0.848484848485), (0.4, 0.375, 0.387096774194), (0.5625, 0.529411764706, 0.545454545455),
      (0.8125, 0.764705882353, 0.787878787879)]),
    ("a b c d e", "e d c b a", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.2, 0.2, 0.2), (0.2, 0.2, 0.2)]),
    ("one two", "three", [(0.0, 0.0, 0.0)] * 4),
]  # fmt: skip


@pytest.fixture(scope="module")
def rouge():
    return lesson("07_nlp/rouge")


def all_scores(rouge, reference, candidate):
    one, other = rouge.latin_words(candidate), rouge.latin_words(reference)
    lines = [[rouge.latin_words(line) for line in text.split("\n") if line] for text in (candidate, reference)]
    return [rouge.rouge_n(one, other, 1), rouge.rouge_n(one, other, 2), rouge.rouge_l(one, other), rouge.rouge_lsum(*lines)]


class TestUnits:
    def test_korean(self, rouge):
        text = "시장은 3번 Bus를!"
        assert rouge.latin_words(text) == ["3", "bus"]
        assert rouge.words(text) == ["시장은", "3번", "bus를"]
        assert rouge.syllables(text) == ["시", "장", "은", "3", "번", "bus", "를"]
        assert len(rouge.jamo("말")) == 3 and len(rouge.jamo("리 ab")) == 3

    def test_text_that_came_apart(self, rouge):
        apart = unicodedata.normalize("NFD", "다리를 막았다")
        for cut in (rouge.words, rouge.syllables, rouge.jamo):
            assert cut(apart) == cut("다리를 막았다")

    def test_nothing(self, rouge):
        for cut in rouge.UNITS.values():
            assert cut("") == cut(" .!? ") == []
        assert rouge.rouge_n([], [], 1).f1 == rouge.rouge_l([], ["a"]).f1 == rouge.rouge_lsum([], []).f1 == 0.0


class TestScores:
    @pytest.mark.parametrize(("reference", "candidate", "expected"), PUBLISHED)
    def test_published_values(self, rouge, reference, candidate, expected):
        for got, right in zip(all_scores(rouge, reference, candidate), expected, strict=True):
            assert got == pytest.approx(right, abs=1e-10)

    def test_equals_the_package(self, rouge):
        scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
        draw = random.Random(0)
        for _ in range(200):
            candidate, reference = (
                "\n".join(" ".join(draw.choices("abcdefg", k=draw.randint(1, 9))) for _ in range(draw.randint(1, 4)))
                for _ in "12"
            )
            for got, right in zip(
                all_scores(rouge, reference, candidate), scorer.score(reference, candidate).values(), strict=True
            ):
                assert tuple(got) == pytest.approx(tuple(right), abs=1e-12)
        assert scorer.score("고양이가 잔다", "고양이가 잔다")["rouge1"].fmeasure == 0.0  # no Korean at all

    def test_longest_common_subsequence(self, rouge):
        assert rouge.lcs_table([*"abcbdab"], [*"bdcaba"])[-1][-1] == 4
        places = rouge.lcs_places([*"abcbdab"], [*"bdcaba"])
        common = "".join("abcbdab"[i] for i in sorted(places))
        assert common in ("bcba", "bcab", "bdab")

    def test_no_unit_counts_twice(self, rouge):
        assert rouge.rouge_lsum([["a", "b"]], [["a", "b"], ["a", "b"]]) == pytest.approx((1.0, 0.5, 2 / 3))


class TestIntervals:
    def test_bootstrap_is_the_normal_interval_of_many(self, rouge):
        scores = torch.rand(400, generator=torch.Generator().manual_seed(0))
        low, high = rouge.bootstrap(scores, 2000, 0)
        mean, error = scores.mean().item(), 1.96 * scores.std().item() / 20
        assert low == pytest.approx(mean - error, abs=0.004) and high == pytest.approx(mean + error, abs=0.004)
        assert rouge.bootstrap(torch.full((9,), 0.5), 100, 0) == (0.5, 0.5)

    def test_nine_of_ten_hold_the_truth(self, rouge):
        generator = torch.Generator().manual_seed(1)
        inside = 0
        for seed in range(200):
            low, high = rouge.bootstrap(torch.rand(40, generator=generator), 300, seed)
            inside += low < 0.5 < high
        assert 178 <= inside <= 199  # 95 % of 200 are 190; of so few texts it is a little less

    def test_systems(self, rouge):
        documents = to_summarize(320, 2, "sample", 0)[1]
        found = rouge.compare_systems(documents, 500, 0)
        assert found["lead_low"] < found["lead_mean"] < found["lead_high"]
        assert found["difference_mean"] == pytest.approx(found["lead_mean"] - found["random_mean"], abs=1e-6)


def test_units_change_korean_scores(rouge):
    korean = [one for one in to_summarize(320, 2, "sample", 0)[1] if one.language == "ko"]
    found = rouge.compare_units(korean)
    assert list(found) == ["as rouge-score", "words", "syllables", "jamo"]
    own, foreign = ([row[i] for row in found.values()] for i in (0, 1))
    assert own == sorted(own) and foreign == sorted(foreign) and own[0] < 0.1
    assert own[2] - foreign[2] > own[3] - foreign[3]  # jamo: everything resembles everything
    assert (paths.outputs("rouge") / "units.png").exists()


def test_what_it_does_not_see(rouge):
    found = rouge.deceive()
    for language in ("en", "ko"):
        true = found["in other words"][language]
        for kind in ("the opposite", "exchanged", "any order"):
            assert found[kind][language][0] > 0.9 > 0.6 > true[0]
        assert all(found[kind][language][2] > true[2] for kind in ("the opposite", "exchanged"))
    assert found["any order"]["en"][1] < 0.1


def test_main(rouge, capsys):
    results = rouge.main(texts=20, draws=50, source="sample", seed=0)
    assert results["in_other_words"] < results["exchanged"] and "as rouge-score: nothing" in capsys.readouterr().out
    with pytest.raises(LessonError, match="--texts 2"):
        rouge.main(texts=1)
