"""Sentiment analysis: padding has no say, words count by their parts, and an LSTM reads what counting cannot."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.datasets import Texts
from utils.datasets.written_reviews import written_splits
from utils.lesson import LessonError
from utils.subwords import Subwords

REVIEWS = [
    "the bus was late.",
    "국은 짰지만 종업원은 친절했다.",
    "the soup was not salty, but nobody would call the waiter kind!!!",
]
SETTINGS = {
    "source": "sample", "data": "nsmc", "steps": 1, "width": 8, "lr": 0.006, "networks": 1, "device": "cpu", "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("07_nlp/sentiment_analysis")


@pytest.fixture(scope="module")
def subwords():
    return Subwords(REVIEWS, least=1)


@pytest.fixture(scope="module")
def setting(lesson_module):
    return lesson_module.Setting(steps=250, batch=32, lr=0.01, dropout=0.1, forget=0.0, least=2, longest=60)


@pytest.fixture
def networks(lesson_module, subwords, setting):
    """One of each kind that has learned nothing."""
    return {kind: lesson_module.Network(len(subwords), kind, 8, 0, setting).eval() for kind in ("bag", "lstm", "transformer")}


class TestNetwork:
    def test_padding_has_no_say_unless_the_mask_is_forgotten(self, lesson_module, networks, subwords):
        moved = lesson_module.forget_the_mask(networks, subwords, REVIEWS)
        for kind in networks:
            assert moved[f"{kind}_with_mask"] < 1e-5
            assert moved[f"{kind}_without_mask"] > 0.01
            assert networks[kind].masked

    def test_words_are_sums_of_their_parts(self, networks, subwords):
        ids, _ = subwords.batch(subwords.encode(REVIEWS, 60))
        model = networks["lstm"]
        found = model.words(ids)[1, 0]  # 국은
        numbers = ids[1, 0][ids[1, 0] > 0]
        torch.testing.assert_close(found, F.embedding_bag(numbers[None], model.parts.weight, mode="sum")[0] / len(numbers) ** 0.5)
        assert model.words(torch.zeros(1, 1, 5, dtype=torch.int64)).eq(0).all(), "a word without parts is nothing"

    def test_bag_does_not_see_order_and_the_others_do(self, lesson_module, networks, subwords):
        for kind, model in networks.items():
            one, other = lesson_module.judge(model, subwords, ["late not kind", "kind not late"])
            assert torch.allclose(one, other, atol=1e-6) == (kind == "bag")

    def test_attention_equals_pytorchs(self, lesson_module):
        torch.manual_seed(0)
        states, query = torch.randn(2, 5, 4), torch.randn(4)
        real = torch.arange(5) < torch.tensor([[5], [3]])
        weights = lesson_module.attend(states @ query, real)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
        assert weights[1, 3:].eq(0).all()
        expected = F.scaled_dot_product_attention(query.expand(2, 1, 4), states, states, attn_mask=real[:, None], scale=1.0)
        torch.testing.assert_close(weights[:, None] @ states, expected)

    def test_bodies_are_of_about_one_size(self, lesson_module, setting):
        sizes = [
            sum(weights.numel() for weights in lesson_module.Network(9, kind, 64, 0, setting).body.parameters())
            for kind in ("bag", "lstm", "transformer")
        ]
        assert max(sizes) < 1.02 * min(sizes)

    def test_dropout_is_for_training_only(self, lesson_module, subwords):
        strong = lesson_module.Setting(1, 2, 0.01, 0.5, 0.5, 1, 60)
        model = lesson_module.Network(len(subwords), "lstm", 8, 0, strong)
        ids, real = subwords.batch(subwords.encode(REVIEWS, 60))
        assert not torch.equal(model(ids, real), model(ids, real))
        model.eval()
        assert torch.equal(model(ids, real), model(ids, real))


class TestEmptyReview:
    def test_message(self, lesson_module, networks):
        assert "greater than 0" in lesson_module.read_nothing(networks["lstm"])

    def test_is_judged_all_the_same(self, lesson_module, networks, subwords):
        for model in networks.values():
            logits = lesson_module.judge(model, subwords, ["", "  \n", "🙂", "late"])
            assert logits.shape == (4, 2) and logits.isfinite().all()


class TestLearning:
    def test_counting_words_fails_and_an_lstm_reads(self, lesson_module, setting):
        train, known, unseen = written_splits(0, train=4000, test=300)
        counted = lesson_module.count_words(train, {"unseen": unseen}, korean=False)["unseen"]
        majority = unseen.labels.bincount().max().item() / len(unseen)
        subwords = Subwords(train.texts, setting.least)
        model = lesson_module.Network(len(subwords), "lstm", 32, 0, setting)
        losses = lesson_module.train(model, subwords, train, 350, 0.012, 0)
        found = {
            name: (lesson_module.judge(model, subwords, test.texts).argmax(dim=1) == test.labels).float().mean().item()
            for name, test in (("known", known), ("unseen", unseen))
        }
        assert found["unseen"] > max(majority, counted) + 0.2 and found["known"] > 0.85, (found, counted)
        assert sum(losses[-20:]) / 20 < 0.35 and not model.training

    def test_counting_is_good_where_words_tell(self, lesson_module):
        texts = Texts(["재미있다", "지루하다", "참 재미있었다", "좀 지루했다"] * 3, torch.tensor([1, 0, 1, 0] * 3))
        assert lesson_module.count_words(texts, {"test": texts}, korean=True) == {"test": 1.0}


class TestMain:
    @pytest.fixture
    def fewer(self, lesson_module, monkeypatch):
        monkeypatch.setattr(lesson_module, "written_splits", lambda seed: written_splits(seed, train=120, test=60))

    def test_reports_all_of_it(self, lesson_module, fewer, monkeypatch, capsys):
        monkeypatch.setattr(lesson_module, "check", lambda condition, message: None)
        results = lesson_module.main(**SETTINGS | {"networks": 2})
        for test in ("known", "unseen", "hand_en", "hand_ko"):
            assert all(0 <= results[f"{name}_{test}"] <= 1 for name in ("words", "bag", "lstm", "transformer"))
        assert results["lstm_with_mask"] < 1e-5 and len(results) == 22
        assert "transformer, seed 1" in capsys.readouterr().out
        assert (paths.outputs("sentiment_analysis") / "accuracies.png").exists()

    def test_check_notices_networks_that_do_not_read(self, lesson_module, fewer):
        with pytest.raises(LessonError, match="more --steps"):
            lesson_module.main(**SETTINGS | {"lr": 1e-9})

    @pytest.mark.parametrize(
        ("flags", "told"),
        [({"steps": -1}, "--steps"), ({"networks": 0}, "--networks 1"), ({"width": 6}, "--width 4"), ({"lr": -0.1}, "--lr")],
    )
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags, told):
        with pytest.raises(LessonError, match=told):
            lesson_module.main(**SETTINGS | flags)


@pytest.mark.slow  # 9,600 real sentences, a minute of computing
@pytest.mark.real_data("rt_polarity")
def test_lstm_on_real_sentences(lesson_module):
    results = lesson_module.main(**SETTINGS | {"source": "real", "data": "mr", "steps": 0, "width": 64, "lr": 0.0})
    assert results["lstm_test"] >= 0.76
