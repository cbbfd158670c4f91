"""How good captions are, where a picture has several right ones: BLEU with many references, and CIDEr-D.

bleu_many(["a dog runs"], [["a dog runs fast", "the dog is running"]])
cider(["a dog runs", "two cats"], [["a dog runs fast", "the dog is running"], ["two cats", "a pair of cats"]])

BLEU asks how many of the words, pairs, ... of a caption are in any of the right ones. CIDEr asks what is particular to a picture:
a word that is in the captions of every picture ("a", "is") counts nothing, one that is in few counts much.
"""

import math
from collections import Counter
from collections.abc import Sequence

from utils.lesson import check
from utils.translation_scores import Tokenization, tokenize

Grams = Counter[tuple[str, ...]]
LONGEST = 4  # words in an n-gram


def grams(words: Sequence[str], n: int) -> Grams:
    """Count the n-grams of a sentence."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _cut(hypotheses: Sequence[str], references: Sequence[Sequence[str]], how: Tokenization) -> list[tuple[list, list]]:
    """Cut all sentences into words, and see that there is something to compare."""
    check(len(hypotheses) == len(references) > 0, f"{len(hypotheses)} captions, and right ones for {len(references)} pictures")
    empty = sum(not right for right in references)
    check(empty == 0, f"{empty} of {len(references)} pictures have no right caption to compare with")
    pairs = zip(hypotheses, references, strict=True)
    return [(tokenize(ours, how), [tokenize(one, how) for one in right]) for ours, right in pairs]


def bleu_many(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize_as: Tokenization = "none") -> float:
    """Corpus BLEU (Papineni et al., 2002) with several references for each sentence, 0 to 100.

    An n-gram counts as often as in the reference that has it most often; the length to compare with is that of the reference
    that is closest in length, the shorter one of two. With one reference it is `utils.translation_scores.bleu`.

    Args:
        hypotheses: One caption for each picture.
        references: The right ones of each picture, at least one.
        tokenize_as: "none" (words as they stand), "13a" or "char".

    Raises:
        LessonError: Not as many pictures in one as in the other, or none; a picture without a reference.
    """
    totals, matched, length, wanted = [0] * LONGEST, [0] * LONGEST, 0, 0
    for ours, right in _cut(hypotheses, references, tokenize_as):
        length += len(ours)
        wanted += min((abs(len(one) - len(ours)), len(one)) for one in right)[1]
        for n in range(1, LONGEST + 1):
            counts, most = grams(ours, n), Counter()
            for one in right:
                most |= grams(one, n)  # the larger count of each
            totals[n - 1] += counts.total()
            matched[n - 1] += (counts & most).total()
    if not any(matched) or not all(totals):
        return 0.0
    half, logarithm = 1.0, 0.0
    for total, match in zip(totals, matched, strict=True):
        if match == 0:
            half /= 2  # counts half, a quarter, ... of a match, as sacrebleu does ("exp")
        logarithm += math.log((match or half) / total) / LONGEST
    return 100 * math.exp(logarithm + min(0.0, 1 - wanted / length))


def cider(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize_as: Tokenization = "none", sigma: float = 6.0
) -> float:
    """CIDEr-D (Vedantam et al., 2015, https://arxiv.org/abs/1411.5726), 0 to 10, as everybody reports it times ten.

    Each n-gram of a caption weighs its count times log(pictures / pictures with it in a reference); the cosine of these weights
    with those of each reference, averaged over references and over n from 1 to 4. "D": a weight counts only as far as the
    reference has it too, so that repeating a rare word does not pay, and a wrong length costs (a Gaussian of width sigma).

    Args:
        hypotheses, references, tokenize_as: As in `bleu_many`.
        sigma: Words by which the length may differ.

    Returns:
        The mean over pictures. It depends on all the pictures: what is rare among them is what counts.

    Raises:
        LessonError: As for `bleu_many`, or only one picture: nothing can be particular to it.
    """
    cut = _cut(hypotheses, references, tokenize_as)
    check(len(cut) > 1, "CIDEr compares pictures: with one there is nothing that only its captions say")
    total = 0.0
    for n in range(1, LONGEST + 1):
        pictures = Counter(gram for _, right in cut for gram in set().union(*(grams(one, n) for one in right)))
        rarity = {gram: math.log(len(cut) / count) for gram, count in pictures.items()}
        unseen = math.log(len(cut))  # of an n-gram that no reference has

        def weigh(words: Sequence[str], n: int = n, rarity: dict = rarity, unseen: float = unseen) -> tuple[dict, float]:
            weights = {gram: count * rarity.get(gram, unseen) for gram, count in grams(words, n).items()}
            return weights, math.sqrt(sum(weight**2 for weight in weights.values()))

        for ours, right in cut:
            weights, norm = weigh(ours)
            for one in right:
                theirs, their_norm = weigh(one)
                shared = sum(min(weight, theirs[gram]) * theirs[gram] for gram, weight in weights.items() if gram in theirs)
                if shared > 0:
                    penalty = math.exp(-((len(ours) - len(one)) ** 2) / (2 * sigma**2))
                    total += penalty * shared / (norm * their_norm) / len(right)
    return 10 * total / (LONGEST * len(cut))
