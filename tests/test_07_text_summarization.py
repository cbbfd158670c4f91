"""Extractive summaries: ROUGE by hand, PageRank and its mistakes, a network that picks better than lead, in both languages."""

import math
from collections import Counter

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.news import Document, to_summarize
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def summaries():
    return lesson("07_nlp/text_summarization")


@pytest.fixture(scope="module")
def documents():
    return to_summarize(160, 2, "sample", seed=0)


@pytest.fixture(scope="module")
def rarity(summaries, documents):
    return summaries.count_rarity(documents[0])


@pytest.fixture
def graph(summaries, documents, rarity):
    return summaries.transitions(summaries.similarities(documents[1][0].sentences, rarity))


def test_splitters(summaries, documents):
    found = summaries.compare_splitters(documents[1])
    here, spaces, stops = found["as in utils.sentences"], found["at . ! ? and a space"], found["at every . ! ?"]
    assert here == {"en": 1.0, "ko": 1.0}
    assert all(stops[language] < spaces[language] < 0.9 for language in here)


class TestRouge:
    def test_grams(self, summaries):
        assert summaries.grams("The cat, the CAT 3", 1) == Counter({("the",): 2, ("cat",): 2, ("3",): 1})
        assert summaries.grams("불이 났다.", 2) == Counter({("불", "이"): 1, ("이", "났"): 1, ("났", "다"): 1})
        assert not summaries.grams("one", 2) and not summaries.grams("", 1)

    def test_score(self, summaries):
        one, other = (summaries.grams(text, 1) for text in ("the cat sat on the mat", "a cat was on the mat"))
        assert summaries.rouge(one, other) == pytest.approx(2 / 3)  # cat, on, the, mat: 4 of 6 and of 6
        assert summaries.rouge(one, one) == 1.0 and summaries.rouge(Counter(), one) == 0.0 == summaries.rouge(
            Counter(), Counter()
        )

    def test_oracle(self, summaries):
        document = Document(["x y.", "a b c.", "a b.", "d."], "a b c d", "en", 2)
        assert summaries.pick_by_rouge(document) == [1, 3]
        assert summaries.pick_by_rouge(document._replace(count=9)) == [0, 1, 2, 3]


class TestTextRank:
    def test_terms(self, summaries):
        assert summaries.terms("The 3 Cats") == ["the", "3", "cats"]
        assert summaries.terms("불길은 보였다") == ["불길", "길은", "보였", "였다"]

    def test_similarities(self, summaries):
        weights = summaries.similarities(["a b", "b a", "c", "."], {"a": 1.0, "b": 2.0, "": 3.0})
        assert weights[0, 1] == pytest.approx(1.0) and weights.sum() == pytest.approx(2.0) and weights.dtype == torch.float64
        weights = summaries.similarities(["a b", "b c"], {"a": 1.0, "b": 2.0, "c": 3.0, "": 9.0})
        assert weights[0, 1] == pytest.approx(4 / math.sqrt(5 * 13))

    def test_pagerank_is_the_eigenvector_and_networkx(self, summaries, documents, rarity):
        networkx = pytest.importorskip("networkx")
        for document in documents[1][:5]:
            weights = summaries.similarities(document.sentences, rarity)
            step = summaries.transitions(weights)
            ranks = summaries.pagerank(step, 0.85, 200)
            torch.testing.assert_close(ranks, summaries.by_eigenvector(step, 0.85), rtol=0, atol=1e-12)
            torch.testing.assert_close(step.sum(dim=0), torch.ones(len(step), dtype=torch.float64))
            assert ranks.sum() == pytest.approx(1.0)
            expected = networkx.pagerank(networkx.from_numpy_array(weights.numpy()), alpha=0.85, tol=1e-13, max_iter=1000)
            torch.testing.assert_close(ranks, torch.tensor([*expected.values()], dtype=torch.float64), rtol=0, atol=1e-10)

    def test_a_sentence_without_ties(self, summaries):
        weights = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
        step = summaries.transitions(weights)
        assert step[:, 2].tolist() == pytest.approx([1 / 3] * 3)
        ranks = summaries.pagerank(step, 0.85, 200)
        assert ranks[2] == pytest.approx(0.15 / 3 / (1 - 0.85 / 3)) and ranks[0] == pytest.approx(ranks[1])

    def test_mistakes(self, summaries, graph):
        found = summaries.make_mistakes(graph)
        assert found["gap"] < 1e-12 and found["spread"] > 0.03
        assert found["wrong_axis"] < 1e-12  # all ranks alike
        assert found["swing"] > 0.4  # never settles


class TestScorer:
    def test_descriptions(self, summaries, rarity):
        document = Document(['He said: "Red."', "Red 3 red.", "Blue."], "", "en", 1)
        x = summaries.describe(document, rarity)
        assert x.shape == (3, 8) and x.isfinite().all()
        assert x[:, 0].tolist() == pytest.approx([0, 1 / 3, 2 / 3]) and x[:, 1].tolist() == pytest.approx([1, 1 / 2, 1 / 3])
        assert x[:, 2].mean() == pytest.approx(1.0) and x[:, 3].sum() == pytest.approx(3.0)
        assert x[:, 6:].tolist() == [[0, 1], [1, 0], [0, 0]]

    def test_each_step_takes_the_gradient_anew(self, summaries):
        """Three steps on one text, with gradients that cannot add up."""
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
        trained = summaries.train_scorer([x], [[1, 2]], 3, 0.05, 0, "cpu")
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
        optimizer, weights = torch.optim.AdamW(model.parameters(), lr=0.05), [*model.parameters()]
        for _ in range(3):
            loss = -model(x)[:, 0].log_softmax(dim=0)[[1, 2]].mean()
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = gradient
            optimizer.step()
        for ours, expected in zip(trained.parameters(), weights, strict=True):
            torch.testing.assert_close(ours, expected)

    def test_padding_does_not_count(self, summaries):
        torch.manual_seed(0)
        described, picks = [torch.randn(n, 8) for n in (3, 4)], [[1], [0, 2]]
        alone = summaries.train_scorer(described, picks, 5, 0.01, 0, "cpu")
        beside = summaries.train_scorer([*described, torch.zeros(30, 8)], [*picks, [0]], 5, 0.01, 0, "cpu")
        longer = summaries.train_scorer([*described, torch.zeros(2, 8)], [*picks, [0]], 5, 0.01, 0, "cpu")
        assert (beside[0].weight - longer[0].weight).abs().max() < 1e-6  # equal sentences: only padding differs
        assert (alone[0].weight - beside[0].weight).abs().max() > 0

    def test_best(self, summaries):
        document = Document(["a"] * 4, "", "en", 2)
        assert summaries.best_of([document] * 2, [torch.tensor([0.1, 3, 2, 9]), torch.tensor([5.0])]) == [[1, 3], [0]]

    def test_picks_better_than_lead_in_a_language_that_it_has_not_seen(self, summaries, documents, rarity):
        train, test = documents
        english = [one for one in train if one.language == "en"]
        korean = [one for one in test if one.language == "ko"]
        described = [summaries.describe(one, rarity) for one in english]
        model = summaries.train_scorer(described, [*map(summaries.pick_by_rouge, english)], 150, 0.02, 0, "cpu")
        scores = [model(summaries.describe(one, rarity))[:, 0].detach() for one in korean]
        picks = {"learned": summaries.best_of(korean, scores), "lead": [[0, 1]] * len(korean)}
        picks["oracle"] = [*map(summaries.pick_by_rouge, korean)]
        found = {name: summaries.measure(korean, some)[:, 0].mean() for name, some in picks.items()}
        assert found["lead"] + 0.1 < found["learned"] < found["oracle"]


def test_main_learns(summaries):
    results = summaries.main(sentences=2, documents=160, steps=150, lr=0.02, networks=1, source="sample", device="cpu", seed=1)
    assert results["random_rouge1"] + 0.03 < results["lead_rouge1"] + 0.1 < results["learned_rouge1"] < results["oracle_rouge1"]
    assert results["textrank_rouge1"] > results["lead_rouge1"] and results["gap"] < 1e-12
    assert (paths.outputs("text_summarization") / "picks.png").exists()


def test_main_notices_what_does_not_learn(summaries):
    with pytest.raises(LessonError, match="more --steps"):  # trained for one step, away from nothing
        summaries.main(sentences=2, documents=40, steps=1, lr=0.0, networks=3, source="sample", device="cpu", seed=0)
    with pytest.raises(LessonError, match="--sentences 1"):
        summaries.main(sentences=0)
    with pytest.raises(LessonError, match="at least 40"):
        summaries.main(documents=10)
