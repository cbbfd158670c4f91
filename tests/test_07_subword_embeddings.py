"""Subword embeddings: pieces and their hash, means of pieces, and forms that never occurred find their word."""

import unicodedata

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.small_world import World, write_world
from utils.lesson import LessonError
from utils.word_windows import neighbours, read_corpus

CPU = torch.device("cpu")
SETTINGS = {"sentences": 300, "steps": 1, "width": 8, "buckets": 500, "lr": 1e-9, "device": "cpu", "seed": 0}
WAY = {"buckets": 3000, "shortest": 3, "longest": 5, "jamo": True, "steps": 200, "width": 32, "lr": 0.3, "seed": 0}


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("07_nlp/subword_embeddings")


@pytest.fixture(scope="module")
def world():
    """Korean sentences, and what `compare` found in them."""
    written = write_world("ko", 6000, seed=0)
    return written, read_corpus(written.sentences)


@pytest.fixture(scope="module")
def found(lesson_module, world):
    ways = {"pieces": {}, "not trained": {"steps": 0}, "whole words": {"longest": 0, "steps": 20}}
    return lesson_module.compare(*world, ways, WAY, CPU)


class TestPieces:
    def test_jamo(self, lesson_module):
        assert lesson_module.to_jamo("소는") == "ㅅㅗ·ㄴㅡㄴ"
        assert lesson_module.to_jamo("값 a힣") == "ㄱㅏㅄ aㅎㅣㅎ"
        for syllable in map(chr, range(ord("가"), ord("힣") + 1, 97)):  # the same letters as Unicode's own
            names = [unicodedata.name(letter).split()[-1] for letter in unicodedata.normalize("NFD", syllable)]
            ours = [unicodedata.name(letter).split()[-1] for letter in lesson_module.to_jamo(syllable) if letter != "·"]
            assert ours == names

    def test_all_syllables_differ(self, lesson_module):
        assert len({lesson_module.to_jamo(chr(i)) for i in range(ord("가"), ord("힣") + 1)}) == 11172

    def test_ngrams(self, lesson_module):
        assert lesson_module.to_ngrams("cows", 3, 4, False) == ["<co", "cow", "ows", "ws>", "<cow", "cows", "ows>"]
        assert lesson_module.to_ngrams("소", 3, 3, True) == ["<ㅅㅗ", "ㅅㅗ·", "ㅗ·>"]
        assert lesson_module.to_ngrams("cow", 3, 0, False) == []

    def test_hash_is_fnv1a(self, lesson_module):
        """Numbers from its authors' test vectors (http://www.isthe.com/chongo/tech/comp/fnv/)."""
        known = {"": 0x811C9DC5, "a": 0xE40C292C, "b": 0xE70C2DE5, "foobar": 0xBF9CF968}
        assert {text: lesson_module.fnv1a(text) for text in known} == known

    def test_numbers(self, lesson_module):
        cut = {"buckets": 7, "shortest": 3, "longest": 3, "jamo": False}
        pieces = lesson_module.number_pieces(["cow", "cows"], {"cow": 0, "dog": 1}, **cut)
        buckets = [2 + lesson_module.fnv1a(piece) % 7 for piece in ("<co", "cow", "ow>", "ows", "ws>")]
        assert pieces.tolist() == [[0, *buckets[:3]], [*buckets[:2], *buckets[3:]]]
        whole = lesson_module.number_pieces(["cow", "cows"], {"cow": 0}, **cut | {"longest": 0})
        assert whole.tolist() == [[0], [8]]  # a word without row and pieces is nothing but padding

    def test_collisions(self, lesson_module):
        words = [f"word{i}" for i in range(300)]
        shared, expected = lesson_module.count_collisions(words, 1000, 3, 6, False)
        assert shared == pytest.approx(expected, abs=0.06) and 0.3 < expected < 0.9
        assert lesson_module.count_collisions(words, 10**7, 3, 6, False)[0] < 0.01
        assert lesson_module.count_collisions(words, 1, 3, 6, False) == (1, 1)


def test_mean_is_that_of_embedding_bag(lesson_module):
    model = lesson_module.FastText(torch.tensor([[0, 3, 9], [1, 9, 9], [9, 9, 9]]), 9, 3, 5, seed=0)
    ours, theirs = lesson_module.pool_by_hand(model.inputs, model.pieces), model.inputs(model.pieces)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(theirs[0], model.inputs.weight[[0, 3]].mean(dim=0))
    assert theirs[2].eq(0).all()


def test_questions(lesson_module):
    groups = {"cow": "animal", "cat": "animal", "cake": "food", "tea": "food"}
    known = World(
        [], {}, {}, {"cow": ["cow"], "cat": ["cats"], "cake": ["cake"], "tea": ["tea"]}, {"cows": "cow", "cat": "cat"}, groups
    )
    vectors = torch.tensor([[1.0, 0.2], [1, 0.4], [0.1, 1], [0, 1], [-1, 1]])
    words = ["cow", "cats", "cake", "tea", "the"]
    assert lesson_module.find_words(torch.tensor([[1.0, 0.2], [1, 0.4]]), vectors, known, words) == (1, 1)
    assert lesson_module.find_words(torch.tensor([[0.1, 1], [1, 0.4]]), vectors, known, words) == (0.5, 0.5)


class TestLearning:
    def test_new_forms_find_their_word_and_what_has_to_do_with_the_same(self, found):
        own, related = found["pieces"][:2]
        assert own > found["whole words"][0] + 0.3
        assert related > max(found["not trained"][1], found["whole words"][1]) + 0.2

    def test_true_neighbours_score_above_noise(self, world, found):
        """With labels the wrong way round the vectors would be as good: every u would only be -u."""
        left, right, _ = neighbours(world[1], 1)
        noise = torch.randint(len(world[1].words), (500,), generator=torch.Generator().manual_seed(0))
        scores = found["pieces"][2](left[:500], torch.stack([right[:500], noise], dim=1))
        assert (scores[:, 0] > scores[:, 1]).float().mean() > 0.8

    def test_whole_words_can_only_guess(self, found):
        assert found["whole words"][0] < 0.15

    def test_mistakes(self, lesson_module, world, found, capsys):
        mistakes = lesson_module.meet_mistakes(*world, *found["pieces"][2:])
        assert mistakes["nfc"] == found["pieces"][0] and mistakes["nfd"] < 0.3
        assert mistakes["python_hashes"] == 2
        assert "offsets" in capsys.readouterr().out

    def test_figure(self, lesson_module, found):
        lesson_module.draw_bars({"en": found, "ko": found})
        assert (paths.outputs("subword_embeddings") / "unseen_forms.png").exists()


class TestMain:
    def test_check_notices_vectors_that_learned_nothing(self, lesson_module):
        with pytest.raises(LessonError, match="more --steps"):
            lesson_module.main(**SETTINGS)

    @pytest.mark.parametrize(
        ("flags", "told"),
        [({"steps": 0}, "above 0"), ({"buckets": 0}, "above 0"), ({"lr": 0.0}, "above 0"), ({"sentences": 10}, "1,000")],
    )
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags, told):
        with pytest.raises(LessonError, match=told):
            lesson_module.main(**SETTINGS | flags)

    @pytest.mark.slow  # about 20 s: that the default run learns in both languages is seen nowhere else
    def test_default_run_learns(self, lesson_module):
        results = lesson_module.main(device="cpu", seed=0)
        for language in ("en", "ko"):
            baseline = max(results[f"{language}_{name}_related"] for name in ("not_trained", "whole_words"))
            assert results[f"{language}_pieces_related"] > baseline + 0.3
            assert results[f"{language}_pieces"] > results[f"{language}_whole_words"] + 0.5
            assert results[f"{language}_bag_off"] < 1e-5
