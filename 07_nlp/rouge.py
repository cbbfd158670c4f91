"""ROUGE: judging summaries · ROUGE로 요약 평가하기

How good is a summary? ROUGE counts the words, pairs of words and word sequences that it shares with one written by a person.
That is easy to compute, easy to get wrong for Korean, and blind to a "not".
요약이 얼마나 좋은지 ROUGE는 사람이 쓴 요약과 겹치는 단어, 단어 쌍, 단어 순서를 세어 답한다. 계산은 쉽지만 한국어에서는 잘못 세기
쉽고, "않았다" 하나에 뜻이 뒤집혀도 알아채지 못한다.

You will
  1. cut texts into units: words, syllables, jamo, or what the usual package leaves of Korean, which is nothing
  2. count n-grams: ROUGE-1 and ROUGE-2 with precision, recall and F1
  3. find longest common subsequences by dynamic programming: ROUGE-L, and ROUGE-Lsum for several sentences
  4. see what the unit does to Korean scores
  5. put an interval around a score, and around the difference of two, by bootstrap
  6. turn meanings round, and watch the score not move

Before     07_nlp/text_summarization.py
Run        python -m study run rouge   (about 3 s on one CPU core, after importing torch)
You see    a true sentence in other words has ROUGE-1 0.36, one that says the opposite 0.95 (Korean 0.49, 0.93); units.png
Try next   --texts 20: first guess whether the interval of lead minus random still excludes 0
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from utils.datasets import Source
from utils.datasets.news import Document, to_summarize
from utils.lesson import check, run
from utils.plotting import label, save_figure


class Score(NamedTuple):
    """Shares of the candidate's units that are in the reference, of the reference's in the candidate, and their harmonic mean."""

    precision: float
    recall: float
    f1: float


# A reference; the same in other words; then what is false: the opposite, things exchanged, and the words in any order.
CASES = {
    "en": [
        ("The mayor did not close the old bridge on Monday.", "On Monday the town's ageing bridge stayed open.",
         "The mayor did close the old bridge on Monday.", "The bridge did not close the old mayor on Monday.",
         "Monday the on mayor bridge close old did the not."),
        ("Paul beat Eric in the final and won the cup.", "The cup went to Paul, as Eric lost.",
         "Paul beat Eric in the final and never won the cup.", "Eric beat Paul in the final and won the cup.",
         "Cup the and Eric won final Paul the in beat."),
        ("The factory will not hire 300 workers next spring.", "No jobs for 300 people at the plant before summer.",
         "The factory will hire 300 workers next spring.", "The workers will not hire 300 factory next spring.",
         "Spring 300 will workers not factory the next hire."),
    ],
    "ko": [
        ("시장은 월요일에 낡은 다리를 막지 않았다.", "월요일 오래된 다리의 통행은 그대로였다.",
         "시장은 월요일에 낡은 다리를 막았다.", "다리는 월요일에 낡은 시장을 막지 않았다.",
         "않았다 다리를 월요일에 막지 시장은 낡은."),
        ("김민준이 결승에서 이서연을 이기고 우승컵을 들었다.", "이서연은 져서 우승컵이 김민준에게 돌아갔다.",
         "김민준이 결승에서 이서연을 이기지 못하고 우승컵을 들었다.", "이서연이 결승에서 김민준을 이기고 우승컵을 들었다.",
         "들었다 우승컵을 이서연을 김민준이 이기고 결승에서."),
        ("공장은 내년 봄에 300명을 뽑지 않는다.", "여름 전에는 300명의 일자리가 생기지 않는다.",
         "공장은 내년 봄에 300명을 뽑는다.", "300명은 내년 봄에 공장을 뽑지 않는다.",
         "뽑지 봄에 300명을 않는다 내년 공장은."),
    ],
}  # fmt: skip
KINDS = "in other words", "the opposite", "exchanged", "any order"


# %% 1. Units
def latin_words(text: str) -> list[str]:
    """Cut as the package rouge-score does: whatever is not a to z or a digit is thrown away."""
    return re.findall(r"[a-z0-9]+", text.lower())


def words(text: str) -> list[str]:
    """Cut into words of any script. NFC first: Korean typed on some systems comes apart into jamo that nobody sees."""
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).lower())


def syllables(text: str) -> list[str]:
    """Cut into words, and those in Hangul into syllables: 다리를 → 다, 리, 를."""
    return [unit for word in words(text) for unit in re.findall(r"[가-힣]|[^가-힣]+", word)]


def jamo(text: str) -> list[str]:
    """Cut into words, and those in Hangul into letters: 말 → ㅁ, ㅏ, ㄹ."""
    return [letter for unit in syllables(text) for letter in (unicodedata.normalize("NFD", unit) if unit >= "가" else [unit])]


UNITS: dict[str, Callable[[str], list[str]]] = {
    "as rouge-score": latin_words,
    "words": words,
    "syllables": syllables,
    "jamo": jamo,
}


# %% 2. N-grams
def make_score(common: int, candidate: int, reference: int) -> Score:
    """Make a score of three counts; where there is nothing, it is 0."""
    precision, recall = common / max(candidate, 1), common / max(reference, 1)
    return Score(precision, recall, 2 * precision * recall / (precision + recall) if common else 0.0)


def rouge_n(candidate: list[str], reference: list[str], n: int) -> Score:
    """Count common n-grams, each as often as it is in both (Lin, 2004)."""
    one, other = (Counter(zip(*(units[i:] for i in range(n)), strict=False)) for units in (candidate, reference))
    return make_score((one & other).total(), one.total(), other.total())


# %% 3. Longest common subsequences
def lcs_table(a: list[str], b: list[str]) -> list[list[int]]:
    """Return how many units the beginnings a[:i] and b[:j] share in order, for all i, j: a table (len(a) + 1, len(b) + 1)."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table


def lcs_places(reference: list[str], candidate: list[str]) -> set[int]:
    """Walk back through the table: which places of the reference belong to the longest common subsequence."""
    table, places, i, j = lcs_table(reference, candidate), set(), len(reference), len(candidate)
    while i and j:
        if reference[i - 1] == candidate[j - 1]:
            i, j = i - 1, j - 1
            places.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:  # where both ways are equally long, every program chooses; rouge-score's, too, drops the reference's unit
            i -= 1
    return places


def rouge_l(candidate: list[str], reference: list[str]) -> Score:
    """Score the longest common subsequence: units in the same order, with gaps."""
    return make_score(lcs_table(reference, candidate)[-1][-1], len(candidate), len(reference))


def rouge_lsum(candidate: list[list[str]], reference: list[list[str]]) -> Score:
    """Score sentences: of each of the reference's, what it shares in order with any of the candidate's; no unit counts twice."""
    left = sum(map(Counter, candidate), Counter())
    common = 0
    for sentence in reference:
        for place in sorted(set().union(*(lcs_places(sentence, other) for other in candidate))):
            if left[sentence[place]] > 0:
                left[sentence[place]] -= 1
                common += 1
    return make_score(common, sum(map(len, candidate)), sum(map(len, reference)))


# %% 4. What the unit does
def compare_units(documents: list[Document]) -> dict[str, tuple[float, float]]:
    """Return mean ROUGE-1 of texts' first two sentences with their summary, and with another one, for each unit; draw it."""
    import matplotlib.pyplot as plt

    texts, found = [" ".join(one.sentences[:2]) for one in documents], {}
    print("4. ROUGE-1 of the first two sentences with: their summary, that of another text; how often the first is higher")
    for name, cut in UNITS.items():
        own, foreign = (
            torch.tensor([rouge_n(cut(text), cut(one.summary), 1).f1 for text, one in zip(texts, some, strict=True)])
            for some in (documents, documents[1:] + documents[:1])
        )
        found[name] = own.mean().item(), foreign.mean().item()
        print(f"   {name:14} {found[name][0]:.3f} {found[name][1]:.3f}   {(own > foreign).float().mean():.2f}")
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for i, told in enumerate((label("its own summary", "자기 요약"), label("another text's", "다른 글의 요약"))):
        axis.bar([place + 0.4 * i for place in range(len(found))], [row[i] for row in found.values()], 0.4, label=told)
    axis.set_xticks([place + 0.2 for place in range(len(found))], found)
    axis.set(ylabel="ROUGE-1")
    axis.legend()
    save_figure(figure, __file__, "units")
    return found


# %% 5. Intervals
def bootstrap(scores: Tensor, draws: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of scores (texts,): draw as many texts, with repetition, and again, and again."""
    chosen = torch.randint(len(scores), (draws, len(scores)), generator=torch.Generator().manual_seed(seed))
    low, high = scores[chosen].mean(dim=1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def compare_systems(documents: list[Document], draws: int, seed: int) -> dict[str, float]:
    """Return ROUGE-L of lead and of random sentences, the interval of each, and of their difference, text by text."""
    generator, scores = torch.Generator().manual_seed(seed), {"lead": [], "random": []}
    for one in documents:
        some = torch.randperm(len(one.sentences), generator=generator)[: one.count].tolist()
        for name, picked in (("lead", range(len(one.sentences))[: one.count]), ("random", sorted(some))):
            text = " ".join(one.sentences[i] for i in picked)
            scores[name].append(rouge_l(syllables(text), syllables(one.summary)).f1)
    lead, chance = (torch.tensor(some) for some in scores.values())
    found = {}
    print(f"5. ROUGE-L of {len(documents)} texts: mean and 95 % interval")
    for name, some in (("lead", lead), ("random", chance), ("difference", lead - chance)):
        low, high = bootstrap(some, draws, seed)
        found |= {f"{name}_mean": some.mean().item(), f"{name}_low": low, f"{name}_high": high}
        print(f"   {name:10} {some.mean():6.3f}  {low:6.3f} to {high:.3f}")
    return found


# %% 6. What it does not see
def deceive() -> dict[str, dict[str, list[float]]]:
    """Return mean ROUGE-1, 2 and L of each kind of CASES, in both languages."""
    found: dict[str, dict[str, list[float]]] = {}
    print("6. ROUGE-1, 2, L: " + "en".rjust(21) + "ko".rjust(23))
    for i, kind in enumerate(KINDS, start=1):
        found[kind] = {}
        for language, rows in CASES.items():
            pairs = [(syllables(row[i]), syllables(row[0])) for row in rows]
            scores = torch.tensor([[rouge_n(*pair, 1).f1, rouge_n(*pair, 2).f1, rouge_l(*pair).f1] for pair in pairs])
            found[kind][language] = scores.mean(dim=0).tolist()
        both = "     ".join(" ".join(f"{score:5.2f}" for score in row) for row in found[kind].values())
        print(f"   {kind:16} {'true ' if i == 1 else 'false'} {both}")
    return found


# %% All of it, in order
def main(texts: int = 200, draws: int = 1000, source: Source = "sample", seed: int = 0) -> dict[str, float]:
    """Score summaries, and find out what the score does not see.

    Args:
        texts: Texts whose summaries are scored.
        draws: Of the bootstrap.
        source: sample for reports written here; auto or real for BBC News.
        seed: Of texts, random sentences and bootstrap.
    """
    check(min(texts, draws) > 1, "needed are at least --texts 2 and --draws 2")
    sentence = "시장은 다리를 막았다."
    print(f"1. {sentence}  " + "; ".join(f"{name}: {' '.join(cut(sentence)) or 'nothing'}" for name, cut in UNITS.items()))
    documents = to_summarize(4 * texts, 2, source, seed)[1]
    korean = [one for one in documents if one.language == "ko"]
    units = compare_units(korean or documents)
    results = {f"{name.replace(' ', '_').replace('-', '_')}_own": row[0] for name, row in units.items()}
    results |= compare_systems(documents, draws, seed)
    for kind, row in deceive().items():
        results[kind.replace(" ", "_")] = (row["en"][0] + row["ko"][0]) / 2
    check(results["in_other_words"] < results["the_opposite"], "ROUGE saw the difference")
    return results


if __name__ == "__main__":
    run(main)
