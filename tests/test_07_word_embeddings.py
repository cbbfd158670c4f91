"""Word embeddings: hand and PyTorch agree, held-out analogies are found, and nothing is learned without negatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.datasets.small_world import World, write_questions, write_world
from utils.lesson import LessonError
from utils.word_windows import read_corpus

CPU = torch.device("cpu")
SETTINGS = {"source": "sample", "sentences": 300, "steps": 2, "width": 8, "window": 4, "negatives": 5, "lr": 0.02}
SETTINGS |= {"device": "cpu", "seed": 0}


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("07_nlp/word_embeddings")


@pytest.fixture(scope="module")
def world():
    """English sentences, the corpus, and questions about countries and their capitals."""
    written = write_world("en", 6000, seed=0)
    corpus = read_corpus(written.sentences, seldom=3)
    capitals = ({"capital": pairs["capital"]} for pairs in (written.stated, written.held_out))
    return written, corpus, write_questions(corpus.words, *capitals)


class TestWindows:
    def test_frequent_words_are_thinned_out(self, lesson_module):
        counts = torch.tensor([900.0, 99, 1], dtype=torch.float64)
        kept = lesson_module.chance_to_stay(counts, 0.01)
        assert kept.tolist() == pytest.approx([math.sqrt(1 / 90) + 1 / 90, math.sqrt(10 / 99) + 10 / 99, 1])

    def test_windows_end_where_sentences_end(self, lesson_module):
        corpus = read_corpus(["a b c", "d e"] * 300)
        around = lesson_module.look_around(corpus, torch.tensor([0, 1, 3, 1499]), torch.tensor([2, 1, 2, 2]), 2)
        words = [[corpus.words[i] if i >= 0 else "-" for i in row] for row in around.tolist()]
        assert words == [["-", "-", "b", "c"], ["-", "a", "c", "-"], ["-", "-", "e", "-"], ["-", "d", "-", "-"]]


class TestLoss:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_by_hand_and_by_torch(self, lesson_module, seed):
        assert max(lesson_module.compare_by_hand(seed).values()) < 1e-12

    def test_value(self, lesson_module):
        loss = lesson_module.negative_sampling_loss(torch.tensor([[2.0, -1.0, 0.0]]))
        expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)) + math.log(2)
        assert loss.item() == pytest.approx(expected, rel=1e-6)

    def test_scores_of_a_bag(self, lesson_module):
        model = lesson_module.Word2Vec(5, 4, seed=0)
        torch.nn.init.normal_(model.outputs.weight)
        scores = model(torch.tensor([[1, 2, 5]]), torch.tensor([[3, 0]]))
        mean = model.inputs.weight[[1, 2]].mean(dim=0)
        torch.testing.assert_close(scores[0], model.outputs.weight[[3, 0]] @ mean)


class TestCounting:
    def test_ppmi_is_what_its_definition_says(self, lesson_module):
        """Of all singular vectors, the products are those of the matrix itself."""
        corpus = read_corpus(["a b", "a b", "a c", "b d d"] * 130)
        ids = {word: i for i, word in enumerate(corpus.words)}
        vectors = lesson_module.count(corpus, 1, 300, seed=0)
        sums = torch.zeros(4, 4, dtype=torch.float64)
        for one, other, times in (("a", "b", 2), ("a", "c", 1), ("b", "d", 1), ("d", "d", 1)):
            sums[ids[one], ids[other]] += times
            sums[ids[other], ids[one]] += times
        noise = sums.sum(dim=0) ** 0.75
        pmi = (sums / sums.sum(dim=1, keepdim=True) * noise.sum() / noise).log().clamp(min=0)
        _, values, right = torch.linalg.svd(pmi)
        expected = pmi @ right.T @ (1 / values.sqrt()).diag() @ ((1 / values.sqrt()).diag() @ right @ pmi.T)
        torch.testing.assert_close((vectors @ vectors.T).double(), expected, rtol=1e-3, atol=1e-3)


class TestQuestions:
    def test_answers(self, lesson_module):
        vectors = torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [0, -1, 0]])
        found = lesson_module.answer(vectors, torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]]))
        assert found == {"": 0.5, "_alone": 0.5, "_all_words": 0.5}

    def test_the_questions_own_words_are_left_out(self, lesson_module):
        vectors = torch.tensor([[1.0, 0], [1.0, 0.01], [0, 1], [0.3, 1]])  # b - a is nearly nothing: c is nearest to itself
        found = lesson_module.answer(vectors, torch.tensor([[0, 1, 2, 3]]))
        assert found == {"": 1, "_alone": 1, "_all_words": 0}

    def test_neighbours(self, lesson_module):
        groups = {"cow": "animal", "cat": "animal", "cake": "food", "tea": "food"}
        known = World([], {}, {}, {word: [word] for word in groups}, {}, groups)
        vectors = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1], [5, 5]])
        right, chance = lesson_module.compare_neighbours(vectors, ["cow", "cat", "cake", "tea", "the"], known)
        assert (right, chance) == (1, pytest.approx(1 / 3))
        assert lesson_module.compare_neighbours(vectors[[0, 2, 1, 3, 4]], ["cow", "cat", "cake", "tea", "the"], known)[0] == 0


class TestLearning:
    def test_skip_gram_finds_capitals_that_were_never_stated(self, lesson_module, world):
        written, corpus, questions = world
        table, loss = lesson_module.train(corpus, False, 500, 48, 4, 5, 0.03, 0, CPU)
        found, counted = (lesson_module.answer(vectors, questions) for vectors in (table, lesson_module.count(corpus, 4, 48, 0)))
        assert found[""] > max(0.4, counted[""] + 0.2, found["_alone"] + 0.2), found
        right, chance = lesson_module.compare_neighbours(table, corpus.words, written)
        assert right > chance + 0.3 and 0.5 < loss < 2

    def test_cbow_learns_too(self, lesson_module, world):
        written, corpus, _ = world
        table, _ = lesson_module.train(corpus, True, 400, 32, 4, 5, 0.05, 0, CPU)
        right, chance = lesson_module.compare_neighbours(table, corpus.words, written)
        assert right > chance + 0.2

    def test_without_negatives_the_loss_is_low_and_words_are_alike(self, lesson_module, world):
        _, corpus, questions = world
        table, loss = lesson_module.train(corpus, False, 150, 32, 4, 0, 0.02, 0, CPU)
        units = F.normalize(table, dim=1)
        assert loss < 0.05 and (units @ units.T).mean() > 0.3
        assert lesson_module.answer(table, questions)[""] < 0.2


def test_unknown_word(lesson_module, world):
    assert "out of range" in lesson_module.ask_for_unknown(world[1])


def test_projector_and_figure(lesson_module):
    words = ["france", "paris", "italy", "rome"]
    tables = {name: torch.randn(4, 5, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(("one", "other"))}
    lesson_module.draw_pairs(tables, words, [("france", "paris"), ("italy", "rome"), ("spain", "madrid")])
    folder = paths.outputs("word_embeddings")
    assert (folder / "pairs.png").exists()
    (metadata,), (vectors,) = folder.rglob("metadata.tsv"), folder.rglob("tensors.tsv")
    assert metadata.read_text(encoding="utf-8").split() == words
    assert len(vectors.read_text(encoding="utf-8").splitlines()) == 4


class TestMain:
    def test_check_notices_vectors_that_learned_nothing(self, lesson_module):
        with pytest.raises(LessonError, match="more --steps"):
            lesson_module.main(**SETTINGS)

    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ({"steps": 0}, "above 0"), ({"window": 0}, "above 0"), ({"negatives": 0}, "above 0"), ({"lr": 0.0}, "above 0"),
            ({"sentences": 10}, "1,000"),
        ],
    )  # fmt: skip
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags, told):
        with pytest.raises(LessonError, match=told):
            lesson_module.main(**SETTINGS | flags)

    @pytest.mark.slow  # about 25 s: that the default run learns in both languages is seen nowhere else
    def test_default_run_learns(self, lesson_module):
        results = lesson_module.main(source="sample", device="cpu", seed=0)
        for language in ("en", "ko"):
            baseline = max(results[f"{language}_counts"], results[f"{language}_skipgram_alone"], results[f"{language}_chance"])
            assert results[f"{language}_skipgram"] > baseline + 0.3
        assert results["negatives_none_loss"] < 0.01 and results["negatives_none_right"] < results["negatives_five_right"]
