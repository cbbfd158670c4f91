"""How good translations are: BLEU and chrF, equal to sacrebleu's (07_nlp/bleu.py writes BLEU out and says what it does not see).

bleu(["Zwei Hunde rennen."], ["Zwei Hunde laufen."])                # 35.4: cased, detokenised, 13a
bleu(["개가 달린다"], ["개는 달린다"], tokenize="char")
chrf(["개가 달린다"], ["개는 달린다"])
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.lesson import check

Tokenization = Literal["13a", "char", "none"]
ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
RULES = [  # of NIST's mteval-v13a
    (re.compile(r"([\x20-\x26\x28-\x2b\x3a-\x40\x5b-\x60\x7b-\x7e/])"), r" \1 "),  # ASCII's signs, but ' , - .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # , and . stay inside numbers, nowhere else
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]


def tokenize_13a(text: str) -> list[str]:
    """Split a sentence as WMT's evaluations do: at white space, and signs apart from words."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for written, meant in ENTITIES:
        text = text.replace(written, meant)
    text = f" {text} "
    for pattern, apart in RULES:
        text = pattern.sub(apart, text)
    return text.split()


def tokenize(text: str, how: Tokenization) -> list[str]:
    """Cut a sentence into what BLEU counts: 13a words, characters that are no space, or words as they stand."""
    text = text.rstrip()
    return tokenize_13a(text) if how == "13a" else [*"".join(text.split())] if how == "char" else text.split()


def matches(hypothesis: Sequence, reference: Sequence, n: int) -> tuple[int, int, int]:
    """Count n-grams: of the hypothesis, of the reference, and those of the hypothesis that the reference has (clipped)."""
    ours, theirs = (Counter(tuple(side[i : i + n]) for i in range(len(side) - n + 1)) for side in (hypothesis, reference))
    return ours.total(), theirs.total(), (ours & theirs).total()


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str], tokenize_as: Tokenization = "13a") -> Tensor:
    """Count what BLEU needs of each sentence, so that any selection of sentences has its BLEU by a sum.

    Args:
        hypotheses: Translations.
        references: What they should be, one each.
        tokenize_as: "13a", "char" or "none".

    Returns:
        (n, 10) int64: n-grams of the hypothesis for n from 1 to 4, matches likewise, lengths of hypothesis and reference.

    Raises:
        LessonError: Not as many translations as references, or none.
    """
    check(len(hypotheses) == len(references) > 0, f"{len(hypotheses)} translations and {len(references)} references")
    rows = []
    for pair in zip(hypotheses, references, strict=True):
        ours, theirs = (tokenize(text, tokenize_as) for text in pair)
        counts = [matches(ours, theirs, n) for n in (1, 2, 3, 4)]
        rows.append([total for total, _, _ in counts] + [match for _, _, match in counts] + [len(ours), len(theirs)])
    return torch.tensor(rows)


def bleu_of(counts: Tensor) -> float:
    """BLEU, 0 to 100, of counts (10,) that were added up; an n without a match counts half, a quarter, ... of one ("exp")."""
    *numbers, length, wanted = counts.tolist()
    totals, matched, half, logarithms = numbers[:4], numbers[4:], 1.0, 0.0
    if not any(matched) or not all(totals):
        return 0.0
    for total, match in zip(totals, matched, strict=True):
        if match == 0:
            half /= 2
        logarithms += math.log((match or half) / total) / 4
    return 100 * math.exp(logarithms + min(0, 1 - wanted / length))


def bleu(hypotheses: Sequence[str], references: Sequence[str], tokenize: Tokenization = "13a", lowercase: bool = False) -> float:
    """Corpus BLEU (Papineni et al., 2002), 0 to 100, as sacrebleu computes it (Post, 2018).

    Args:
        hypotheses, references, tokenize: As in `bleu_counts`.
        lowercase: Compare without capitals.
    """
    if lowercase:
        hypotheses, references = ([text.lower() for text in side] for side in (hypotheses, references))
    return bleu_of(bleu_counts(hypotheses, references, tokenize).sum(dim=0))


def chrf(hypotheses: Sequence[str], references: Sequence[str], longest: int = 6, beta: float = 2.0) -> float:
    """Corpus chrF (Popović, 2015), 0 to 100: F score of character n-grams, spaces left out, recall `beta` times as important.

    Args:
        hypotheses: Translations.
        references: What they should be, one each.
        longest: n-grams from 1 to this.
        beta: 2 in chrF2, which everybody reports.
    """
    check(len(hypotheses) == len(references) > 0, f"{len(hypotheses)} translations and {len(references)} references")
    sides = [["".join(text.split()) for text in side] for side in (hypotheses, references)]
    precisions, recalls = [], []
    for n in range(1, longest + 1):
        counted = [matches(*pair, n) for pair in zip(*sides, strict=True)]
        counted = [counts for counts in counted if counts[1]]  # a reference of three characters has no 4-gram to judge by
        ours, theirs, both = (sum(column) for column in zip(*counted, strict=True)) if counted else (0, 0, 0)
        if ours and theirs:
            precisions.append(both / ours)
            recalls.append(both / theirs)
    if not any(precisions):
        return 0.0
    precision, recall = (sum(values) / len(values) for values in (precisions, recalls))
    return 100 * (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def judge(hypotheses: Sequence[str], references: Sequence[str], language: str) -> dict[str, float]:
    """Return BLEU (of characters in Korean, whose words carry particles), chrF, and the share of sentences exactly right."""
    exact = sum(ours == theirs for ours, theirs in zip(hypotheses, references, strict=True)) / len(references)
    tokenization = "char" if language == "ko" else "13a"
    return {"bleu": bleu(hypotheses, references, tokenization), "chrf": chrf(hypotheses, references), "exact": exact}


def most_similar(known: Sequence[str], asked: Sequence[str]) -> list[int]:
    """Find for each sentence the most similar known one, by the cosine of their bags of words: a translation memory, a baseline.

    Args:
        known: Sentences whose translations are at hand.
        asked: Sentences.

    Returns:
        Which of the known ones, for each.
    """
    words = {word: i for i, word in enumerate(sorted({word for text in asked for word in tokenize_13a(text)}))}

    def bags(texts: Sequence[str]) -> Tensor:  # (texts, words), each of length 1; words that nobody asks for count in it
        rows = torch.zeros(len(texts), len(words) + 1)
        for row, text in zip(rows, texts, strict=True):
            numbers = torch.tensor([words.get(word, len(words)) for word in tokenize_13a(text)], dtype=torch.int64)
            row.index_add_(0, numbers, torch.ones(len(numbers)))
        return F.normalize(rows, dim=1)[:, :-1]

    wanted, groups = bags(asked), [known[i : i + 1000] for i in range(0, len(known), 1000)]
    return torch.cat([wanted @ bags(group).T for group in groups], dim=1).argmax(dim=1).tolist()
