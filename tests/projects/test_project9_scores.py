"""project9_captioning.scores: numbers worked out by hand, a second way to compute them, what they should and should not like."""

import math
from random import Random

import numpy as np
import pytest

from project9_captioning.scores import bleu_many, cider
from utils.lesson import LessonError
from utils.translation_scores import bleu

WORDS = "a the dog cat runs sits on grass red ball big".split()


def sentences(r: Random, count: int) -> list[str]:
    return [" ".join(r.choices(WORDS, k=r.randint(3, 11))) for _ in range(count)]


@pytest.fixture(scope="module")
def written() -> tuple[list[str], list[list[str]]]:
    """Twelve pictures with one to four right captions, and captions that share some words with them."""
    r = Random(0)
    references = [sentences(r, r.randint(1, 4)) for _ in range(12)]
    hypotheses = [r.choice(right) if i % 3 == 0 else sentences(r, 1)[0] for i, right in enumerate(references)]
    return hypotheses, references


def cider_with_vectors(hypotheses: list[str], references: list[list[str]], sigma: float = 6.0) -> float:
    """CIDEr-D again, plainly: every n-gram there is gets a place in long vectors."""
    scores = []
    for n in (1, 2, 3, 4):

        def cut(text: str, n: int = n) -> list[tuple[str, ...]]:
            words = text.split()
            return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

        every = sorted({gram for text in hypotheses + sum(references, []) for gram in cut(text)})
        place = {gram: i for i, gram in enumerate(every)}

        def counts(text: str, place: dict = place, cut=cut) -> np.ndarray:
            vector = np.zeros(len(place))
            np.add.at(vector, [place[gram] for gram in cut(text)], 1)
            return vector

        with_gram = sum(np.max([counts(one) for one in right], axis=0) > 0 for right in references)
        rarity = np.log(len(references)) - np.log(np.maximum(1, with_gram))
        of_pictures = []
        for ours, right in zip(hypotheses, references, strict=True):
            similarities = []
            for one in right:
                g, h = counts(ours) * rarity, counts(one) * rarity
                norm = np.linalg.norm(g) * np.linalg.norm(h)
                difference = len(ours.split()) - len(one.split())
                cosine = np.minimum(g, h) @ h / norm if norm else 0.0
                similarities.append(math.exp(-(difference**2) / (2 * sigma**2)) * cosine)
            of_pictures.append(np.mean(similarities))
        scores.append(np.mean(of_pictures))
    return 10 * float(np.mean(scores))


class TestCider:
    def test_equals_a_second_computation(self, written):
        found = cider(*written)
        assert found == pytest.approx(cider_with_vectors(*written), abs=1e-12) and 1 < found < 9

    def test_by_hand(self):
        """Of two pictures each has one caption of four words, all rare: log 2 everywhere, and it cancels."""
        references = [["w x y z"], ["k l m n"]]
        assert cider(["w x y z", "k l m n"], references) == pytest.approx(10)
        # "w x y q": 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, no quadruple
        assert cider(["w x y q", "k l m n"], references) == pytest.approx(5 + 5 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)

    def test_what_all_captions_say_counts_nothing(self):
        references = [["a dog"], ["a cat"], ["a bird"]]
        assert cider(["a", "a", "a"], references) == 0 < cider(["dog", "cat", "bird"], references)

    def test_repeating_a_rare_word_does_not_pay(self):
        references = [["a dog runs on grass"], ["a cat sits on grass"]]
        once = cider(["a dog", "a cat sits on grass"], references)
        assert cider(["a dog dog dog dog", "a cat sits on grass"], references) < once

    def test_wrong_length_costs(self):
        references = [["w x y z"], ["k l m n"]]
        wide = cider(["w x y z q r s t", "k l m n"], references, sigma=1e9)
        assert cider(["w x y z q r s t", "k l m n"], references) < wide


class TestBleu:
    def test_with_one_reference_it_is_the_usual_one(self, written):
        hypotheses, references = written
        only = [right[0] for right in references]
        assert bleu_many(hypotheses, [[one] for one in only]) == pytest.approx(bleu(hypotheses, only, "none"), abs=1e-9)
        assert bleu_many(only, [[one] for one in only]) == pytest.approx(100)

    def test_equals_sacrebleu(self, written):
        sacrebleu = pytest.importorskip("sacrebleu")
        hypotheses, references = written
        most = max(map(len, references))
        streams = [[right[i] if i < len(right) else None for right in references] for i in range(most)]
        score = sacrebleu.corpus_bleu(hypotheses, streams, tokenize="none", force=True).score
        assert bleu_many(hypotheses, references) == pytest.approx(score, abs=1e-6)

    def test_what_is_too_short_is_lowered(self):
        right = ["a dog runs on the red grass", "a dog runs on the red grass with a big ball"]
        assert bleu_many(["a dog runs on"], [right]) == pytest.approx(100 * math.exp(1 - 7 / 4))  # 4 words, where 7 are closest
        assert bleu_many(["a dog runs on the red grass"], [right]) == pytest.approx(100)

    def test_any_reference_will_do_and_the_closest_length_counts(self):
        right = ["a dog runs on the red grass", "the big dog runs"]
        assert bleu_many(["the big dog runs"], [right]) == pytest.approx(100)
        assert bleu_many(["the the the the the the the"], [right]) < 10  # "the" counts once: no reference has it twice
        assert bleu_many(["cat"], [["a dog runs"]]) == 0


@pytest.mark.parametrize("score", [bleu_many, cider])
def test_nothing_to_compare_is_one_sentence(score):
    with pytest.raises(LessonError, match="2 captions, and right ones for 1 pictures"):
        score(["a", "b"], [["a"]])
    with pytest.raises(LessonError, match="1 of 2 pictures have no right caption"):
        score(["a", "b"], [["a"], []])
    with pytest.raises(LessonError, match="0 captions"):
        score([], [])


def test_one_picture_has_nothing_particular():
    with pytest.raises(LessonError, match="CIDEr compares pictures"):
        cider(["a"], [["a"]])
