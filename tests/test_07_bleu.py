"""BLEU and chrF: sacrebleu's in every digit, and what they do not see is what the lesson says."""

import random

import pytest
import torch
from conftest import lesson

from utils import paths, translation_scores
from utils.datasets.small_translations import write_translations
from utils.lesson import LessonError

# Tokenisation, translations, references, BLEU and chrF as sacrebleu 2.6.0 gives them.
CASES = [
    ("13a", ["Two dogs run."], ["Two dogs are running."], 27.534765745, 38.213956245),
    ("13a", ["The cat sat on the mat, didn't it?"], ["The cat sat on a mat, did it not?"], 30.374414221, 60.611512917),
    ("13a", ["It costs 3,318.50 dollars (about 10-15%)."], ["It costs 3,318.50 dollars - about 10-15 %."],
     54.524691196, 85.786977598),
    ("13a", ["&quot;Tom &amp; Anna&quot; said: well-known."], ['"Tom & Anna" said: well known.'], 67.168773647, 50.859740687),
    ("13a", ["Zwei Hunde rennen über die grüne Wiese .", "Ein Mann schläft ."],
     ["Zwei Hunde laufen über die grüne Wiese.", "Ein Mann schläft auf einer Bank."], 44.536484891, 67.432150306),
    ("13a", ["", "A woman in a red coat walks home."], ["Nobody is there.", "A woman in a red coat is walking home."],
     37.904036534, 48.815269104),
    ("13a", ["no word in common here"], ["gar nichts davon steht dort"], 0.0, 9.920664343),
    ("13a", ["the the the the the the the"], ["The cat is on the mat."], 6.567274736, 10.585480288),
    ("13a", ["나는 어제 책을 읽었다.", "그는 학교에 갔다."], ["나는 어제 그 책을 읽었다.", "그가 학교에 갔다."],
     40.588416034, 58.307135388),
    ("char", ["나는 어제 책을 읽었다.", "그는 학교에 갔다."], ["나는 어제 그 책을 읽었다.", "그가 학교에 갔다."],
     71.132760801, 58.307135388),
    ("char", ["개가 달린다"], ["개는 달린다."], 34.983301253, 27.395612173),
    ("none", ["A b c d e , f .", "g h"], ["a b c d e, f .", "g h i"], 27.63625546, 76.392436382),
    ("13a", ["Yes."], ["Yes."], 0.0, 100.0),  # no sentence has four words
]  # fmt: skip


@pytest.fixture(scope="module")
def judging():
    return lesson("07_nlp/bleu")


@pytest.mark.parametrize(("how", "ours", "right", "bleu", "chrf"), CASES, ids=[case[1][0][:20] for case in CASES])
def test_equals_sacrebleu(judging, how, ours, right, bleu, chrf):
    for found in (judging.bleu(ours, right, how), translation_scores.bleu(ours, right, how)):
        assert found == pytest.approx(bleu, abs=1e-7)
    for found in (judging.chrf(ours, right), translation_scores.chrf(ours, right)):
        assert found == pytest.approx(chrf, abs=1e-7)


def test_equals_sacrebleu_on_all_kinds_of_text(judging):
    sacrebleu, draw = pytest.importorskip("sacrebleu"), random.Random(0)
    signs = [*map(chr, range(32, 127)), *"가나é…“”0123456789.,-  ", "&quot;", "&amp;lt;", "\t", "\u3000", "\u00a0"]
    for _ in range(40):
        right = ["".join(draw.choices(signs, k=draw.randint(0, 30))) for _ in range(draw.choice((1, 2, 20)))]
        ours = [text if draw.random() < 0.2 else "".join(draw.sample(text, draw.randint(0, len(text)))) for text in right]
        for how in ("13a", "char", "none"):
            expected = sacrebleu.corpus_bleu(ours, [right], tokenize=how, force=True).score
            assert judging.bleu(ours, right, how) == pytest.approx(expected, abs=1e-9)
            assert translation_scores.bleu(ours, right, how) == pytest.approx(expected, abs=1e-9)
        expected = sacrebleu.corpus_bleu(ours, [right], lowercase=True, force=True).score
        assert translation_scores.bleu(ours, right, lowercase=True) == pytest.approx(expected, abs=1e-9)
        expected = sacrebleu.corpus_chrf(ours, [right]).score
        assert judging.chrf(ours, right) == pytest.approx(expected, abs=1e-9)
        assert translation_scores.chrf(ours, right) == pytest.approx(expected, abs=1e-9)


def test_tokens(judging):
    assert judging.tokenize("It's 3,318.50, well-known (10-15%).") == "It's 3,318.50 , well-known ( 10 - 15 % ) .".split()
    assert judging.tokenize("책을 샀다.", "char") == [*"책을샀다."]
    assert judging.tokenize("책을 샀다.", "none") == ["책을", "샀다."]


def test_short_is_not_cheap(judging):
    """A translation of the surest words only: perfect precision, and a brevity penalty of exp(1 - 8/4)."""
    counts = judging.count_for_bleu(["a b c d"], ["a b c d e f g h"], "none").sum(dim=0)
    assert judging.bleu_of(counts) == pytest.approx(100 * torch.tensor(-1.0).exp().item(), rel=1e-6)


def test_is_no_mean_of_sentences(judging):
    counts = judging.count_for_bleu(["a b c d e", "x y z w v"], ["a b c d e", "x y z w u"], "none")
    assert judging.bleu_of(counts.sum(dim=0)) != pytest.approx((judging.bleu_of(counts[0]) + judging.bleu_of(counts[1])) / 2)


def test_shown_sentence(judging, capsys):
    assert judging.show_bleu("Two dogs run.", "Two dogs are running.") == pytest.approx(27.534765745)
    assert "n-grams 3/4, 1/3, 0/2, 0/1, lengths 4 and 5" in capsys.readouterr().out


def test_sees_no_meaning(judging):
    found = judging.score_sentences()
    wrong, right = found["wrong, good score"], found["right, bad score"]
    assert min(bleu for bleu, _ in wrong) > 3 * max(bleu for bleu, _ in right)
    assert min(chrf for _, chrf in wrong) > 3 * max(chrf for _, chrf in right)


def test_damage(judging):
    texts = ["a b c d e f g h"] * 300
    assert judging.damage(texts, 0.0, seed=0) == texts
    spoilt = [text.split() for text in judging.damage(texts, 0.3, seed=0)]
    assert {len(words) > 8 for words in spoilt} == {len(words) < 8 for words in spoilt} == {True, False}
    assert 0.6 < sum(len({*words} & {*"abcdefgh"}) for words in spoilt) / 2400 < 0.95


def test_numbers_of_one_output_do_not_compare(judging):
    found = judging.count_differently(100, seed=1)
    assert found["lowercased"] > found["cased, detokenised"] + 30
    assert max(found.values()) - min(found.values()) > 50
    assert found["mean of sentences"] != pytest.approx(found["cased, detokenised"], abs=0.02)


def test_particles_cost_whole_words(judging):
    found = judging.compare_particles(100, seed=1)
    assert found["words"] < found["chrF"] - 20 < found["characters"]


def test_lost_line(judging):
    message, found = judging.make_mistakes(100, seed=1)
    assert message.startswith("zip() argument 2 is longer")
    assert found["one line lost"] < 10 < 70 < found["all lines"]


class TestBootstrap:
    def test_draws_sentences_with_replacement(self, judging):
        right = [text for _, text in write_translations(60, "test", "ko", seed=0)]
        counts = judging.count_for_bleu(judging.damage(right, 0.2, seed=0), right, "char")
        one, other = judging.bootstrap(counts, counts, draws=100, seed=0)
        assert torch.equal(one, other)  # the same sentences for both
        assert one.mean().item() == pytest.approx(judging.bleu_of(counts.sum(dim=0)), abs=2) and one.std() > 0.3
        assert torch.equal(judging.bootstrap(counts, counts, draws=100, seed=0)[0], one)

    def test_pairing_sees_a_difference_that_drawing_apart_does_not(self, judging):
        found = judging.compare_systems(400, draws=200, seed=1)
        assert found["unpaired_low"] < 0 < found["low"] < found["better"] - found["worse"] < found["high"]
        assert (paths.outputs("bleu") / "bootstrap.png").exists()


class TestFinished:
    def test_judge(self):
        found = translation_scores.judge(["개가 달린다", "나는 잔다."], ["개는 달린다.", "나는 잔다."], "ko")
        assert found["exact"] == 0.5
        assert found["bleu"] == translation_scores.bleu(["개가 달린다", "나는 잔다."], ["개는 달린다.", "나는 잔다."], "char")
        assert translation_scores.judge(["a b c d."], ["a b c d."], "de") == {"bleu": pytest.approx(100), "chrf": 100, "exact": 1}

    def test_most_similar(self):
        known = ["the dog sleeps", "a cat sleeps in the garden", "the dog runs home today"]
        assert translation_scores.most_similar(known, ["the dog runs home", "a garden", "the dog sleeps"]) == [2, 1, 0]

    def test_as_many_translations_as_references(self):
        for score in (translation_scores.bleu, translation_scores.chrf):
            with pytest.raises(LessonError, match="2 translations and 1 references"):
                score(["a", "b"], ["a"])
            with pytest.raises(LessonError, match="0 translations"):
                score([], [])


def test_main(judging):
    results = judging.main(sentences=100, draws=100, seed=0)
    assert results["off"] < 1e-9 and results["better"] > results["worse"]
    with pytest.raises(LessonError, match="at least 100"):
        judging.main(sentences=5, draws=100, seed=0)
