"""Extractive summaries · 추출 요약

The simplest summary picks sentences. Which ones? The first ones, those that most others resemble, or those that a small network
has learned to pick; a score by counting words says who is right, and an oracle says how much there was to win.
가장 단순한 요약은 문장을 고르는 것이다. 첫머리의 문장, 다른 문장들과 가장 닮은 문장, 작은 신경망이 고르도록 배운 문장 가운데
무엇이 나은지는 단어를 세는 점수로 재고, 정답을 아는 오라클로 얼마나 더 나아질 수 있었는지 안다.

You will
  1. cut English and Korean texts into sentences, with "Mr. Kim", 3.14 and quotations in the way
  2. score summaries by the words, or syllables, that they share with a reference (ROUGE)
  3. build TextRank: a graph of similar sentences, and PageRank on it, equal to an eigenvector
  4. train a network to pick what the oracle picks, in English, and let it pick in Korean
  5. compare all of them with random sentences, the first ones, and the oracle
  6. make two mistakes of PageRank that no message tells

Before     07_nlp/text_preprocessing.py
Run        python -m study run text_summarization   (about 11 s on one CPU core, after importing torch)
You see    ROUGE-1 of random sentences 0.31, lead 0.36, TextRank 0.41, learned 0.55, oracle 0.57; picks.png
Try next   --sentences 1: first guess whose score suffers least
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
import re
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from utils.datasets import Source
from utils.datasets.news import Document, to_summarize
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.sentences import split_sentences


# %% 1. Sentences
def compare_splitters(documents: list[Document]) -> dict[str, dict[str, float]]:
    """Return, for three rules, the share of sentences of each language found whole, neither cut nor joined to another."""
    every, space = re.compile(r"[^.!?]+[.!?]+[\"']*"), re.compile(r"(?<=[.!?])\s+")
    rules = {"at every . ! ?": every.findall, "at . ! ? and a space": space.split, "as in utils.sentences": split_sentences}
    found: dict[str, dict[str, float]] = {name: {} for name in rules}
    for name, rule in rules.items():
        for language in ("en", "ko"):
            texts = [one.sentences for one in documents if one.language == language]
            pieces = [{piece.strip() for piece in rule(" ".join(text))} for text in texts]
            whole = [sentence in some for text, some in zip(texts, pieces, strict=True) for sentence in text]
            found[name][language] = sum(whole) / len(whole)
        print(f"1. cut {name:21} sentences found whole: en {found[name]['en']:.3f}, ko {found[name]['ko']:.3f}")
    return found


# %% 2. ROUGE
def grams(text: str, n: int) -> Counter:
    """Count the n-grams of a text: of Latin words and numbers, and of Hangul syllables, for particles are glued to words."""
    units = re.findall(r"[a-z0-9]+|[가-힣]", text.lower())
    return Counter(zip(*(units[i:] for i in range(n)), strict=False))


def rouge(candidate: Counter, reference: Counter) -> float:
    """Return F1: the harmonic mean of the shares of the candidate's and of the reference's n-grams that the other has."""
    common = (candidate & reference).total()
    return 2 * common / max(candidate.total() + reference.total(), 1)


def pick_by_rouge(document: Document) -> list[int]:
    """Pick greedily what raises ROUGE-1 + ROUGE-2 most, knowing the summary: the oracle."""
    reference = [grams(document.summary, n) for n in (1, 2)]
    each = [[grams(sentence, n) for n in (1, 2)] for sentence in document.sentences]
    picked, so_far = [], [Counter(), Counter()]
    for _ in range(min(document.count, len(each))):
        longer = {i: [a + b for a, b in zip(so_far, each[i], strict=True)] for i in range(len(each)) if i not in picked}
        best = max(longer, key=lambda i: sum(map(rouge, longer[i], reference)))
        picked.append(best)
        so_far = longer[best]
    return sorted(picked)


# %% 3. TextRank
def terms(sentence: str) -> list[str]:
    """Latin words and numbers, and pairs of neighbouring Hangul syllables: 불길은 → 불길, 길은."""
    hangul = re.findall(r"[가-힣]+", sentence)
    return re.findall(r"[a-z0-9]+", sentence.lower()) + [word[i : i + 2] for word in hangul for i in range(len(word) - 1)]


def count_rarity(documents: list[Document]) -> dict[str, float]:
    """Return the inverse document frequency of each term, sentences being the documents; "" is a term that is in none."""
    sentences = [set(terms(sentence)) for document in documents for sentence in document.sentences]
    counts = Counter(term for sentence in sentences for term in sentence)
    return {term: math.log(len(sentences) / n) for term, n in counts.items()} | {"": math.log(len(sentences))}


def similarities(sentences: list[str], rarity: dict[str, float]) -> Tensor:
    """Return cosines of TF-IDF vectors (n, n), float64, with zeros for each with itself."""
    counts = [Counter(terms(sentence)) for sentence in sentences]
    columns = sorted(set().union(*counts)) or [""]
    vectors = [[count[term] * rarity.get(term, rarity[""]) for term in columns] for count in counts]
    vectors = F.normalize(torch.tensor(vectors, dtype=torch.float64), dim=1)
    return (vectors @ vectors.T).fill_diagonal_(0)


def transitions(weights: Tensor) -> Tensor:
    """Turn weights (n, n) into probabilities: column j says where a reader goes from sentence j; without ties, anywhere."""
    totals = weights.sum(dim=0)  # (n,)
    return torch.where(totals > 0, weights / totals.clamp(min=1e-300), 1 / len(weights))


def pagerank(step: Tensor, damping: float = 0.85, steps: int = 200) -> Tensor:
    """Let a reader follow `step` (n, n), and jump anywhere with probability 1 - damping; return where he is in the end (n,)."""
    ranks = F.one_hot(torch.tensor(0), len(step)).to(step.dtype)  # where he begins is forgotten, thanks to the jumps
    for _ in range(steps):
        ranks = damping * (step @ ranks) + (1 - damping) / len(step)
    return ranks


def by_eigenvector(step: Tensor, damping: float = 0.85) -> Tensor:
    """Return the same as the whole matrix's eigenvector for the eigenvalue 1, which is the largest."""
    values, vectors = torch.linalg.eig(damping * step + (1 - damping) / len(step))
    ranks = vectors[:, values.real.argmax()].real
    return ranks / ranks.sum()


# %% 4. A network that picks
def describe(document: Document, rarity: dict[str, float]) -> Tensor:
    """Describe each sentence by eight numbers (n, 8) that mean the same in every language."""
    count, weights = len(document.sentences), similarities(document.sentences, rarity)
    places, lengths = torch.arange(count), torch.tensor([float(len(sentence)) for sentence in document.sentences])
    signs = torch.tensor([[bool(re.search(r"\d", sentence)), '"' in sentence] for sentence in document.sentences])
    after = torch.cat([weights.diagonal(1), weights.new_zeros(1)])  # how much the next one resembles it
    columns = [places / count, 1 / (places + 1), lengths / lengths.mean(), pagerank(transitions(weights)) * count]
    return torch.cat([torch.stack([*columns, weights.amax(dim=1), after], dim=1).float(), signs], dim=1)


def train_scorer(described: list[Tensor], picks: list[list[int]], steps: int, lr: float, seed: int, device) -> nn.Module:
    """Train a small network from descriptions (..., 8) to scores (..., 1): its softmax over each text is to meet the picks."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1)).to(device)
    x = pad_sequence(described, batch_first=True).to(device)  # (texts, sentences, 8), all texts at once
    real = pad_sequence([torch.ones(len(one), dtype=torch.bool) for one in described], batch_first=True).to(device)
    wanted = torch.zeros(real.shape)
    for row, picked in zip(wanted, picks, strict=True):
        row[picked] = 1 / len(picked)
    wanted, optimizer = wanted.to(device), torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(steps):
        scores = model(x)[:, :, 0].masked_fill(~real, -1e9)  # (texts, sentences): padding is never picked
        loss = F.cross_entropy(scores, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def best_of(documents: list[Document], scores: list[Tensor]) -> list[list[int]]:
    """Return where the highest scores (n,) of each document stand, in the order of the text."""
    return [sorted(some.topk(min(one.count, len(some))).indices.tolist()) for one, some in zip(documents, scores, strict=True)]


# %% 5. Who picks best
def measure(documents: list[Document], picks: list[list[int]]) -> Tensor:
    """Return ROUGE-1 and ROUGE-2 of each text's picks, (texts, 2)."""
    texts = [" ".join(one.sentences[i] for i in picked) for one, picked in zip(documents, picks, strict=True)]
    pairs = zip(texts, (one.summary for one in documents), strict=True)
    return torch.tensor([[rouge(grams(text, n), grams(summary, n)) for n in (1, 2)] for text, summary in pairs])


def draw_picks(picks: dict[str, list[list[int]]]) -> None:
    """Draw how often each of the first ten places in the text is picked."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, korean in {"lead": "앞 문장", "TextRank": "TextRank", "learned": "학습", "oracle": "오라클"}.items():
        shares = [sum(i in picked for picked in picks[name]) / len(picks[name]) for i in range(10)]
        axis.plot(range(1, 11), shares, "o-", label=label(name, korean))
    axis.set(xlabel=label("place in the text", "글에서의 자리"), ylabel=label("share of texts", "글의 비율"))
    axis.legend()
    save_figure(figure, __file__, "picks")


# %% 6. Mistakes
def make_mistakes(step: Tensor) -> dict[str, float]:
    """Return how far ranks lie from the eigenvector, and apart; apart with the wrong axis; how a star's swing without jumps."""
    star = torch.zeros(5, 5, dtype=step.dtype)
    star[0, 1:] = star[1:, 0] = 1  # all resemble one sentence, and nothing else
    swing = (pagerank(transitions(star), 1.0, 201) - pagerank(transitions(star), 1.0, 200)).abs().max().item()
    right, wrong = pagerank(step), pagerank(step.T)
    found = {"gap": (right - by_eigenvector(step)).abs().max().item(), "spread": (right.max() - right.min()).item()}
    found |= {"wrong_axis": (wrong.max() - wrong.min()).item(), "swing": swing}
    print("6. ranks: " + ", ".join(f"{name} {value:.2g}" for name, value in found.items()))
    return found


# %% All of it, in order
def main(
    sentences: int = 2, documents: int = 800, steps: int = 300, lr: float = 0.02, networks: int = 3,
    source: Source = "sample", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Summarise by picking sentences.

    Args:
        sentences: How many to pick; of BBC's articles 45 % are picked instead.
        documents: Texts to learn from; a quarter as many are for the test.
        steps: Steps of training the network that scores sentences.
        lr: The learning rate.
        networks: Networks, and rounds of random picking, each from another seed.
        source: sample for reports written here; auto or real for BBC News.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(min(sentences, steps, networks) > 0, "needed are at least --sentences 1, --steps 1, --networks 1")
    check(documents >= 40, f"--documents {documents}: at least 40 are needed")
    (train, test), where = to_summarize(documents, sentences, source, seed), pick_device(device)
    korean, rarity = torch.tensor([one.language == "ko" for one in test]), count_rarity(train)
    if korean.any():
        compare_splitters(test)
    (known, new), oracle = ([describe(one, rarity) for one in part] for part in (train, test)), [*map(pick_by_rouge, train)]
    english = [i for i, one in enumerate(train) if one.language == "en"]
    picks = {"lead": [[*range(min(one.count, len(one.sentences)))] for one in test], "oracle": [*map(pick_by_rouge, test)]}
    picks["TextRank"] = best_of(test, [x[:, 3] for x in new])
    found = {name: [measure(test, some)] for name, some in picks.items()}
    for i in range(seed, seed + networks):
        generator = torch.Generator().manual_seed(i)
        picks["random"] = best_of(test, [torch.rand(len(x), generator=generator) for x in new])
        for name, rows in (("learned", range(len(train))), ("learned in English", english)):
            model = train_scorer([known[j] for j in rows], [oracle[j] for j in rows], steps, lr, i, where)
            with torch.no_grad():
                picks[name] = best_of(test, [model(x.to(where))[:, 0].cpu() for x in new])
        for name in ("random", "learned", "learned in English"):
            found.setdefault(name, []).append(measure(test, picks[name]))
    print("5. picked by            ROUGE-1  ROUGE-2   ROUGE-1 in English, in Korean")
    results = {"lowest": min(one[:, 0].mean().item() for one in found["learned"])}
    for name in ("random", "lead", "TextRank", "learned", "learned in English", "oracle"):
        scores = torch.stack(found[name]).mean(dim=0)  # (texts, 2)
        row = torch.cat([scores.mean(dim=0), scores[~korean, :1].mean(dim=0), scores[korean, :1].mean(dim=0)]).tolist()
        print(f"   {name:20} {row[0]:8.3f} {row[1]:8.3f} {row[2]:12.3f} {row[3]:8.3f}")
        keys = [f"{name.replace(' ', '_').lower()}_{kind}" for kind in ("rouge1", "rouge2", "english", "korean")]
        results |= {key: value for key, value in zip(keys, row, strict=True) if value == value}  # BBC has no Korean: nan
    draw_picks(picks)
    results |= make_mistakes(transitions(similarities(test[0].sentences, rarity)))
    check(results["lowest"] > max(results["lead_rouge1"], results["random_rouge1"]), "no better than lead: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
