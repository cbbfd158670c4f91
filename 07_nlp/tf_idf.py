"""TF-IDF and logistic regression · TF-IDF와 로지스틱 회귀

Count words, or pieces of words; let those weigh more that few texts have; fit a linear model. That takes seconds, is hard to
beat, and is what every network for texts has to be compared with.
낱말이나 낱말 조각을 세고, 적은 글에만 나오는 것에 무게를 더 주고, 선형 모델을 맞춘다. 몇 초면 되는데도 이기기 어렵다. 글을 다루는
신경망이라면 무엇이든 먼저 여기에 견주어야 한다.

You will
  1. count n-grams of words and of characters into a sparse tensor, equal to scikit-learn's
  2. search small talk with cosines: with wrong spaces and wrong letters, in English and in Korean
  3. fit logistic regression with L-BFGS, the gradient by hand, equal to scikit-learn's; choose its one setting by validation
  4. do four things wrong: one with a message, one without, one that changes nothing, one that finds what is not there

Before     07_nlp/text_preprocessing.py
Run        python -m study run tf_idf                 (about 8 s on one CPU core, after importing torch)
You see    0.981 of our opinions judged rightly; without spaces, words find 0.12 of Korean texts, characters all; strength.png
Try next   --longest 1: no pairs of words. First guess the accuracy, and whether the best strength rises or falls
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import random
import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from utils import datasets
from utils.datasets import Texts, chatterbot
from utils.lesson import check, run
from utils.plotting import label, save_figure

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)  # how much the data weigh against small weights: scikit-learn's C


# %% 1. A sparse tensor
def terms_of(text: str, unit: str, longest: int) -> Iterable[str]:
    """Cut text into n-grams of words or characters, n from 1 to `longest`, as scikit-learn does.

    A word has two letters or more; what stands between words is lost. Characters include the spaces.
    """
    if unit == "words":
        words = re.findall(r"\b\w\w+\b", text.lower())
        return (" ".join(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))
    text = re.sub(r"\s\s+", " ", text.lower())
    return (text[i : i + n] for n in range(1, longest + 1) for i in range(len(text) - n + 1))


class TfIdf:
    """Terms of texts, and how much each weighs; with `most`, those that the most texts have. sublinear: n count as 1 + ln(n)."""

    def __init__(self, texts: list[str], unit: str = "words", longest: int = 1, sublinear: bool = True, most: int | None = None):
        self.unit, self.longest, self.sublinear = unit, longest, sublinear
        counts = [Counter(terms_of(text, unit, longest)) for text in texts]
        found = Counter(term for count in counts for term in count)  # in how many texts
        kept = sorted(sorted(found, key=lambda term: (-found[term], term))[:most])
        self.places = {term: i for i, term in enumerate(kept)}
        holding = torch.tensor([found[term] for term in kept], dtype=torch.float64)
        self.weights = ((1 + len(texts)) / (1 + holding)).log() + 1  # (terms,): as if one more text held every term

    def __call__(self, texts: list[str]) -> Tensor:
        """Return a sparse tensor (texts, terms) of float64, whose rows have length 1; terms that are not known are left out."""
        rows, columns, values = [], [], []
        for row, text in enumerate(texts):
            for term, count in Counter(terms_of(text, self.unit, self.longest)).items():
                if term in self.places:
                    rows.append(row)
                    columns.append(self.places[term])
                    values.append(count)
        counts, places = torch.tensor(values, dtype=torch.float64), torch.tensor([rows, columns], dtype=torch.int64)
        weights = (1 + counts.log() if self.sublinear else counts) * self.weights[places[1]]
        lengths = torch.zeros(len(texts), dtype=torch.float64).index_add(0, places[0], weights**2).sqrt()
        shape = len(texts), len(self.places)
        return torch.sparse_coo_tensor(places, weights / lengths[places[0]], shape, check_invariants=True).coalesce()


def compare_with_sklearn(texts: list[str]) -> dict[str, float]:
    """Return how far the tensors are from scikit-learn's, in two settings, on every second text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    known, new, found = texts[::2], texts[1::2], {}
    for unit, analyser, longest, sublinear in (("words", "word", 2, False), ("characters", "char", 4, True)):
        theirs = TfidfVectorizer(analyzer=analyser, ngram_range=(1, longest), sublinear_tf=sublinear).fit(known)
        ours = TfIdf(known, unit, longest, sublinear)
        check(list(theirs.get_feature_names_out()) == list(ours.places), f"other {unit} than scikit-learn's")
        tensor, matrix = ours(new), theirs.transform(new)
        found[f"off_{unit}"] = off = (tensor.to_dense() - torch.from_numpy(matrix.toarray())).abs().max().item()
        told = f"{tuple(tensor.shape)}, {tensor.values().numel() / len(new):.0f} in a row are not 0; off by {off:.0e}"
        print(f"1. {unit}, n up to {longest}: {told}")
    return found


# %% 2. Search
DAMAGES = {
    "whole": str,
    "no_spaces": lambda text: text.replace(" ", ""),
    "slips": lambda text: re.sub(r"\b(\w)(\w)(\w)", r"\1\3\2", text),  # the second and third letter exchanged
}


def search(count: int, seed: int) -> dict[str, float]:
    """Ask for texts among all small talk, as they are and damaged; return the share of them that is found, first of all."""
    found = {}
    print(f"2. {count} texts asked for among all: as they are, without spaces, with slips")
    for language in ("en", "ko"):
        data = chatterbot(language)
        texts = sorted({turn for part in (data.train, data.validation, data.test) for dialogue in part for turn in dialogue})
        asked = random.Random(seed).sample(range(len(texts)), count)
        for unit, longest in (("words", 1), ("characters", 3)):
            tfidf, shares = TfIdf(texts, unit, longest), []
            documents = tfidf(texts)
            for damage in DAMAGES.values():
                questions = tfidf([damage(texts[i]) for i in asked]).to_dense()  # (count, terms)
                cosines, best = torch.sparse.mm(documents, questions.T).max(dim=0)  # of (texts, count): rows have length 1
                shares.append(((best == torch.tensor(asked)) & (cosines > 0)).double().mean().item())
            print(f"   {language} {unit:11}" + "".join(f"{share:7.3f}" for share in shares))
            found |= {f"{language}_{unit}_{name}": share for name, share in zip(DAMAGES, shares, strict=True)}
    return found


# %% 3. Logistic regression
def fit(x: Tensor, labels: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Minimise strength · Σ cross entropy + |w|² / 2 with L-BFGS; return w (terms,) and b (1,)."""
    w, b = torch.zeros(x.shape[1], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    turned, y = x.t().coalesce(), labels.double()  # turned round once; autograd would turn it round in each step
    optimizer = torch.optim.LBFGS([w, b], max_iter=300, tolerance_grad=1e-5, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        logits = (x @ w[:, None])[:, 0] + b  # (texts,)
        off = torch.sigmoid(logits) - y  # the derivative of the cross entropy
        w.grad, b.grad = strength * (turned @ off[:, None])[:, 0] + w, strength * off.sum(dim=0, keepdim=True)
        return strength * torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum") + w @ w / 2

    optimizer.step(loss)
    return w, b


def accuracy(model: tuple[Tensor, Tensor], x: Tensor, labels: Tensor) -> float:
    w, b = model
    return (((x @ w[:, None])[:, 0] + b > 0) == labels).double().mean().item()


def compare_probabilities(known: Texts, test: Texts) -> float:
    """Return how far probabilities of test texts are from those of scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    tfidf = TfIdf(known.texts)
    x, new = tfidf(known.texts), tfidf(test.texts)
    (w, b), theirs = fit(x, known.labels, 1.0), LogisticRegression(C=1.0, tol=1e-8, max_iter=1000)
    probabilities = theirs.fit(x.to_dense().numpy(), known.labels.numpy()).predict_proba(new.to_dense().numpy())[:, 1]
    off = (torch.sigmoid((new @ w[:, None])[:, 0] + b) - torch.from_numpy(probabilities)).abs().max().item()
    print(f"3. logistic regression: probabilities are off by {off:.0e} from scikit-learn's")
    return off


def choose_strength(known: Texts, unit: str, longest: int) -> float:
    """Fit on four fifths of the texts with each strength; return the one that is best on the last fifth, and draw them all."""
    import matplotlib.pyplot as plt

    end = len(known) * 4 // 5
    tfidf = TfIdf(known.texts[:end], unit, longest)
    x, held = tfidf(known.texts[:end]), tfidf(known.texts[end:])
    models = [fit(x, known.labels[:end], strength) for strength in STRENGTHS]
    shares = [(accuracy(model, x, known.labels[:end]), accuracy(model, held, known.labels[end:])) for model in models]
    told = (f"{strength:g}: {one:.3f} {other:.3f}" for strength, (one, other) in zip(STRENGTHS, shares, strict=True))
    print("   strength: accuracy on what was learned, on what was held out;  " + ", ".join(told))
    figure, axis = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for lines, name in zip(zip(*shares, strict=True), (("learned from", "배운 글"), ("held out", "떼어 둔 글")), strict=True):
        axis.semilogx(STRENGTHS, lines, "o-", label=label(*name))
    axis.set(xlabel=label("strength of the data (C)", "데이터의 세기(C)"), ylabel=label("accuracy", "정확도"))
    axis.legend()
    save_figure(figure, __file__, "strength")
    return max(zip(shares, STRENGTHS, strict=True), key=lambda pair: pair[0][1])[1]


# %% 4. Mistakes
def learn_terms_twice(known: Texts, test: Texts, most: int) -> tuple[str, float, float]:
    """Learn terms of test texts anew; return PyTorch's answer, and accuracies with `most` terms: rightly, and in this way."""
    model = fit(TfIdf(known.texts)(known.texts), known.labels, 1.0)
    try:
        accuracy(model, TfIdf(test.texts[:100])(test.texts[:100]), test.labels[:100])
    except RuntimeError as error:
        message = str(error)
    tfidf = TfIdf(known.texts, most=most)
    model = fit(tfidf(known.texts), known.labels, 1.0)
    right, wrong = (accuracy(model, one(test.texts), test.labels) for one in (tfidf, TfIdf(test.texts, most=most)))
    print(f'4. "{message}"\n   read: the weights belong to other terms; learn terms once, from the texts that you learn from')
    print(f"   with {most} terms both times there is no message: {wrong:.3f} instead of {right:.3f}")
    return message, right, wrong


def leak(data: Texts, draws: int, seed: int) -> dict[str, float]:
    """Learn from 200 texts and judge 200 others, in four ways; return the mean accuracies of `draws` draws.

    honest: nothing is known of the others. idf_of_all: terms and weights come from all 400. coin: labels are thrown, and those
    500 terms are kept by which the first 200 labels differ most. coin_of_all: the same, but by which all 400 labels differ.
    """
    found = {"honest": [], "idf_of_all": [], "coin": [], "coin_of_all": []}
    for i in range(draws):
        generator = torch.Generator().manual_seed(seed + i)
        some = data[torch.randperm(len(data), generator=generator)[:400]]
        coin = torch.randint(2, (400,), generator=generator)
        for name, learned in (("honest", some.texts[:200]), ("idf_of_all", some.texts)):
            x = TfIdf(learned, longest=2)(some.texts).to_dense()  # (400, terms)
            found[name].append(accuracy(fit(x[:200].to_sparse(), some.labels[:200], 3.0), x[200:], some.labels[200:]))
        for name, seen in (("coin", 200), ("coin_of_all", 400)):
            apart = (x[:seen] * (2 * coin[:seen, None] - 1)).mean(dim=0).abs() / (x[:seen].std(dim=0) + 1e-9)  # (terms,)
            chosen = x[:, apart.topk(min(500, len(apart))).indices]
            found[name].append(accuracy(fit(chosen[:200].to_sparse(), coin[:200], 3.0), chosen[200:], coin[200:]))
    means = {name: sum(shares) / draws for name, shares in found.items()}
    print("   200 texts to learn from: {honest:.3f}; weights from the test texts, too: {idf_of_all:.3f}".format(**means))
    print("   a coin for a label: {coin:.3f}; terms chosen by the test labels, too: {coin_of_all:.3f}".format(**means))
    return means


# %% All of it, in order
def main(
    data: Literal["sample", "imdb", "nsmc", "rt_polarity"] = "sample", unit: Literal["words", "characters"] = "words",
    longest: int = 2, draws: int = 5, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Turn texts into weighted counts, search with them, and tell praise from complaint.

    Args:
        data: Which reviews to judge: our own, or real ones.
        unit: What is counted in them.
        longest: The longest n-grams.
        draws: Draws of texts for the mistakes.
        seed: Of the order of texts, and of draws.
    """
    check(min(longest, draws) > 0, "needed are --longest 1 and --draws 1, or more")
    reviews = datasets.imdb("sample") if data == "sample" else getattr(datasets, data)("real")
    test, order = reviews.test, torch.randperm(len(reviews.train), generator=torch.Generator().manual_seed(seed))
    known = reviews.train[order]  # files come sorted by class
    results = compare_with_sklearn([text[:200] for text in known.texts[:1000]]) | search(200, seed)
    results["off_probabilities"] = compare_probabilities(known[:500], test[:200])
    strength = choose_strength(known, unit, longest)
    tfidf = TfIdf(known.texts, unit, longest)
    model, terms = fit(tfidf(known.texts), known.labels, strength), list(tfidf.places)
    results["accuracy"] = accuracy(model, tfidf(test.texts), test.labels)
    results["majority"] = test.labels.bincount().max().item() / len(test)
    print(f"   strength {strength:g}: accuracy on new texts {results['accuracy']:.3f}; of {len(terms):,} terms these say most")
    for sign, places in (("-", model[0].argsort()), ("+", (-model[0]).argsort())):
        print(f"   {sign} {' · '.join(terms[i] for i in places[:14].tolist())}")
    _, results["few_terms"], results["few_terms_learned_twice"] = learn_terms_twice(known[:1000], test, 60)
    results |= leak(known[:4000], draws, seed)
    check(max(results["off_words"], results["off_characters"]) < 1e-12, "the tensors are not those of scikit-learn")
    check(results["accuracy"] > results["majority"] + 0.1, "hardly better than the larger class: other n-grams?")
    return results


if __name__ == "__main__":
    run(main)
