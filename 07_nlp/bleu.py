"""BLEU: judging translations · BLEU로 번역 평가하기

BLEU counts how many runs of one to four words a translation shares with a right one. It is cheap, it is in every paper, and it
sees neither meaning nor a missing "not"; who knows how it counts knows which of its numbers may be compared.
BLEU는 번역이 모범 번역과 공유하는 한 낱말부터 네 낱말까지의 토막을 센다. 값싸고 논문마다 나오지만 뜻도, 빠진 "않"도 보지 못한다.
어떻게 세는지 알면 어떤 숫자끼리 견주어도 되는지 알 수 있다.

You will
  1. write BLEU and chrF out, equal to sacrebleu's to the last digit
  2. see bad translations with a good score, and good ones with a bad score, in both languages
  3. get five numbers for one and the same output, and see why papers do not compare
  4. find out what a wrong particle costs: whole words in BLEU, a character in chrF
  5. meet the mistake everyone makes, and draw a confidence interval for a difference

Before     07_nlp/machine_translation.py
Run        python -m study run bleu                (about 3 s on one CPU core, after importing torch)
You see    68.5 for poison, 5.0 for a good translation; one output from 18.8 to 83.4; a difference of 0.62 to 1.15; bootstrap.png
Try next   --sentences 100: first guess whether the second system is still seen to be worse
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
import random
import re
import string
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from utils.datasets.small_translations import write_translations
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.translation_scores import bleu as finished_bleu
from utils.translation_scores import chrf as finished_chrf

SIGNS = "".join(sign for sign in string.punctuation if sign not in "',-.")
GOOD_BUT_WRONG = [  # what it should be, and what a system wrote
    ("Take two tablets every four hours, and never more than eight a day.",
     "Take eight tablets every four hours, and never more than two a day."),
    ("The doctor did not say that the child was ill.", "The doctor did say that the child was ill."),
    ("민수가 어제 지혜에게 책을 빌려주었다.", "지혜가 어제 민수에게 책을 빌려주었다."),
]  # fmt: skip
WRONG_BUT_GOOD = [
    ("The meeting was cancelled because of the heavy rain.", "They called it off, since it was pouring."),
    ("비가 많이 와서 회의가 취소되었다.", "폭우 때문에 모임을 열지 못했다."),
]
OTHER_FORM = str.maketrans("은는이가을를", "는은가이를을")


# %% 1. BLEU and chrF
def tokenize(text: str, how: str = "13a") -> list[str]:
    """Cut a text as WMT's evaluations do ("13a"), into characters ("char"), or at white space ("none")."""
    if how == "char":
        return [*"".join(text.split())]
    if how == "13a":
        for written, meant in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            text = text.replace(written, meant)
        text = re.sub(f"([{re.escape(SIGNS)}])", r" \1 ", f" {text} ")  # every sign is a word of its own, but
        text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)  # . and , stay inside numbers, 3,318
        text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
        text = re.sub(r"([0-9])(-)", r"\1 \2 ", text)  # - and ' stay inside words
    return text.split()


def count_ngrams(hypothesis: Sequence[str], reference: Sequence[str], n: int) -> tuple[int, int, int]:
    """Return how many n-grams match, each at most as often as the reference has it, and how many there are on both sides."""
    ours, theirs = (Counter(tuple(side[i : i + n]) for i in range(len(side) - n + 1)) for side in (hypothesis, reference))
    return sum(min(count, theirs[gram]) for gram, count in ours.items()), ours.total(), theirs.total()


def count_for_bleu(hypotheses: Sequence[str], references: Sequence[str], how: str = "13a") -> Tensor:
    """Return all that BLEU needs, for each sentence (n, 10): four times matches and n-grams, then the lengths of both."""
    rows = []
    for pair in zip(hypotheses, references, strict=True):
        words = [tokenize(text, how) for text in pair]
        rows.append([number for n in (1, 2, 3, 4) for number in count_ngrams(*words, n)[:2]] + [len(side) for side in words])
    return torch.tensor(rows, dtype=torch.float64)


def bleu_of(counts: Tensor) -> float:
    """BLEU, 0 to 100, from counts added up over all sentences (10,): a corpus is judged as a whole."""
    *pairs, length, wanted = counts.tolist()
    matches, totals, halves, precisions = pairs[::2], pairs[1::2], 0, []
    if not any(matches) or not all(totals):
        return 0.0
    for match, total in zip(matches, totals, strict=True):
        halves += match == 0  # "exp": the first n without a match counts half a match, the next one a quarter, ...
        precisions.append((match or 0.5**halves) / total)
    brevity = min(1.0, math.exp(1 - wanted / length))  # short is easy: who writes only what is sure has a perfect precision
    return 100 * brevity * math.prod(precisions) ** (1 / 4)


def bleu(hypotheses: Sequence[str], references: Sequence[str], how: str = "13a") -> float:
    return bleu_of(count_for_bleu(hypotheses, references, how).sum(dim=0))


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """chrF, 0 to 100: precision and recall of n-grams of 1 to 6 characters, no spaces; recall counts twice as much."""
    shares = []
    for n in range(1, 7):
        rows = [count_ngrams(*(tokenize(text, "char") for text in pair), n) for pair in zip(hypotheses, references, strict=True)]
        matches, ours, theirs = (sum(column) for column in zip(*(row for row in rows if row[2]), (0, 0, 0), strict=True))
        if ours and theirs:
            shares.append((matches / ours, matches / theirs))
    precision, recall = (sum(column) / len(shares) for column in zip(*shares, strict=True)) if shares else (0, 0)
    return 100 * 5 * precision * recall / (4 * precision + recall or 1)  # F with beta = 2: 1 + beta² and beta²


def show_bleu(hypothesis: str, reference: str) -> float:
    """Print how the BLEU of one sentence comes about, and return it."""
    *grams, length, wanted = (counts := count_for_bleu([hypothesis], [reference])[0]).long().tolist()
    parts = ", ".join(f"{match}/{total}" for match, total in zip(grams[::2], grams[1::2], strict=True))
    print(f"1. {' | '.join(tokenize(hypothesis))}\n   {' | '.join(tokenize(reference))}")
    print(f"   n-grams {parts}, lengths {length} and {wanted}: BLEU {bleu_of(counts):.2f}")
    return bleu_of(counts)


def compare(sentences: int, seed: int) -> float:
    """Return by how much our scores differ from the finished ones (which tests hold against sacrebleu), on damaged sentences."""
    off = []
    for into in ("ko", "de"):
        right = [text for _, text in write_translations(sentences, "test", into, seed)]
        wrong = damage(right, 0.3, seed)
        off += [bleu(wrong, right, how) - finished_bleu(wrong, right, how) for how in ("13a", "char", "none")]
        off += [chrf(wrong, right) - finished_chrf(wrong, right)]
    return max(map(abs, off))


# %% 2. What it does not see
def score_sentences() -> dict[str, list[tuple[float, float]]]:
    """Return BLEU and chrF of each of the pairs above."""
    found = {}
    for name, pairs in (("wrong, good score", GOOD_BUT_WRONG), ("right, bad score", WRONG_BUT_GOOD)):
        found[name] = [(bleu([ours], [right]), chrf([ours], [right])) for right, ours in pairs]
        print(f"2. {name}: BLEU, chrF")
        for (right, ours), scores in zip(pairs, found[name], strict=True):
            print("   {:5.1f} {:5.1f}".format(*scores) + f"  {ours}  ({right})")
    return found


# %% 3. One output, many numbers
def damage(texts: Sequence[str], share: float, seed: int) -> list[str]:
    """Spoil a share of the words of each text, as translators do: leave them out, write them twice, or write another one."""
    draw, spoilt = random.Random(seed), []
    for text in texts:
        words, written = text.split(), []
        for word in words:
            kinds = [[], [word, word], [draw.choice(words)]]
            written += draw.choice(kinds) if draw.random() < share else [word]
        spoilt.append(" ".join(written))
    return spoilt


def count_differently(sentences: int, seed: int) -> dict[str, float]:
    """Judge one output, of a system that never learned capitals but for the first letter, in the ways of different papers."""
    right = [text for _, text in write_translations(sentences, "test", "de", seed)]
    ours = [text.lower().capitalize() for text in damage(right, 0.1, seed)]
    found = {
        "cased, detokenised": bleu(ours, right),
        "lowercased": bleu(*([text.lower() for text in side] for side in (ours, right))),
        "split at spaces only": bleu(ours, right, "none"),
        "of characters": bleu(ours, right, "char"),
        "mean of sentences": sum(bleu([a], [b]) for a, b in zip(ours, right, strict=True)) / len(right),
    }
    print("3. one output: " + ", ".join(f"{name} {score:.1f}" for name, score in found.items()))
    return found


# %% 4. Particles
def compare_particles(sentences: int, seed: int) -> dict[str, float]:
    """Give all particles of Korean sentences the wrong form; return BLEU of words, BLEU of characters, and chrF."""
    right = [text for _, text in write_translations(sentences, "test", "ko", seed)]
    wrong = [re.sub("[은는이가을를](?= )", lambda particle: particle[0].translate(OTHER_FORM), text) for text in right]
    found = {"words": bleu(wrong, right), "characters": bleu(wrong, right, "char"), "chrF": chrf(wrong, right)}
    print(f"4. {wrong[0]}: " + ", ".join(f"{name} {score:.1f}" for name, score in found.items()))
    return found


# %% 5. Mistakes, and chance
def make_mistakes(sentences: int, seed: int) -> tuple[str, dict[str, float]]:
    """Lose an empty translation; return what Python says, and a score that nobody complains about."""
    right = [text for _, text in write_translations(sentences, "test", "de", seed)]
    ours = ["", *damage(right, 0.1, seed)[1:]]
    kept = [line for line in ours if line]  # how a file is read without its empty lines
    try:
        bleu(kept, right)
    except ValueError as error:
        message = str(error)
    found = {"all lines": bleu(ours, right), "one line lost": bleu(kept, right[:-1])}
    print(f'5. "{message}"\n   read: a line is missing, and all that follow are compared with their neighbours. No message:')
    print("   " + ", ".join(f"{name} {score:.1f}" for name, score in found.items()))
    return message, found


def bootstrap(one: Tensor, other: Tensor, draws: int, seed: int) -> Tensor:
    """Draw test sets anew from counts (n, 10) of two systems, the same sentences for both; return BLEU of each (2, draws)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(one), (draws, len(one)), generator=generator)
    times = torch.zeros(draws, len(one), dtype=one.dtype).scatter_add_(1, chosen, torch.ones_like(chosen, dtype=one.dtype))
    return torch.tensor([[bleu_of(row) for row in times @ counts] for counts in (one, other)])


def compare_systems(sentences: int, draws: int, seed: int) -> dict[str, float]:
    """Judge a system, and one that makes some mistakes more; draw how far chance moves their difference. All in BLEU."""
    import matplotlib.pyplot as plt

    right = [text for _, text in write_translations(sentences, "test", "ko", seed)]
    better = damage(right, 0.1, seed)
    counts = [count_for_bleu(written, right, "char") for written in (better, damage(better, 0.01, seed))]
    one, other = bootstrap(*counts, draws, seed)
    paired, apart = one - other, one - other.flip(0)  # on the same sentences drawn, and on others for each system
    low, high = (torch.stack([one, paired, apart]).quantile(q, dim=1).tolist() for q in (0.025, 0.975))
    scores = [bleu_of(part.sum(dim=0)) for part in counts]
    print(f"   two systems: {scores[0]:.1f} (in 95 % of draws {low[0]:.1f} to {high[0]:.1f}) and {scores[1]:.1f}")
    print(f"   difference {low[1]:.2f} to {high[1]:.2f}; with sentences drawn for each by itself {low[2]:.2f} to {high[2]:.2f}")
    figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
    names = label("other sentences for each", "저마다 다른 문장"), label("the same sentences", "같은 문장")
    axis.hist([apart.numpy(), paired.numpy()], bins=40, label=names, histtype="stepfilled", alpha=0.7)
    axis.set(xlabel=label("difference in BLEU", "BLEU 차이"), ylabel=label("draws", "뽑은 횟수"))
    axis.legend()
    save_figure(figure, __file__, "bootstrap")
    return {"better": scores[0], "worse": scores[1], "low": low[1], "high": high[1], "unpaired_low": low[2]}


# %% All of it, in order
def main(sentences: int = 1000, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Write BLEU out, and find out what its numbers mean.

    Args:
        sentences: Of the test sets, at least 100.
        draws: Test sets drawn anew for the confidence intervals, at least 100.
        seed: Of sentences, damages and draws.
    """
    check(sentences >= 100 and draws >= 100, "--sentences and --draws: at least 100")
    found = {"shown_bleu": show_bleu("Two dogs are running over the grass.", "Two dogs run over the green grass.")}
    found["off"] = compare(sentences // 5, seed)
    print(f"   off from utils.translation_scores, which is held against sacrebleu, by {found['off']:.0e}")
    check(found["off"] < 1e-9, "this is not the BLEU that everybody reports")
    for name, scores in score_sentences().items():
        found |= {f"{name.split(',')[0]}_{i}": score for i, (score, _) in enumerate(scores)}
    found |= count_differently(sentences, seed) | compare_particles(sentences, seed)
    found |= make_mistakes(sentences, seed)[1] | compare_systems(sentences, draws, seed)
    return {name.replace(",", "").replace(" ", "_"): score for name, score in found.items()}


if __name__ == "__main__":
    run(main)
