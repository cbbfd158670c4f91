"""Which words decided: scores of padding are none, scores add up where they should, and some methods hit what decides."""

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.written_reviews import write_explained
from utils.lesson import LessonError
from utils.networks.attentive_lstm import AttentiveLstm
from utils.subwords import Subwords

REVIEWS = [
    "the bus was late.",
    "국은 짰지만 종업원은 친절했다.",
    "the soup was not salty, but nobody would call the waiter kind.",
]
SETTINGS = {"steps": 1, "width": 8, "lr": 0.012, "reviews": 20, "points": 2, "device": "cpu", "seed": 0}


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("07_nlp/sentiment_explained")


@pytest.fixture(scope="module")
def small():
    """A network that has learned nothing, and a batch."""
    subwords = Subwords(REVIEWS, least=1)
    return AttentiveLstm(len(subwords), 8, seed=0).eval(), subwords.batch(subwords.encode(REVIEWS, 60))


@pytest.fixture(scope="module")
def trained(lesson_module):
    """A network that can judge, reviews of one language that it judges, and their batch."""
    shown = [one for one in write_explained(4000, seed=0) if one.review.language == "en"]
    asked = [one for one in write_explained(200, seed=10**6) if one.review.language == "en"]
    texts, labels = [one.review.text for one in shown], torch.tensor([one.review.label for one in shown])
    subwords = Subwords(texts, least=2)
    model = AttentiveLstm(len(subwords), 24, seed=0)
    losses = lesson_module.train(model, subwords, texts, labels, 220, 0.015, 0)
    assert sum(losses[-10:]) / 10 < 0.35, "it has not learned to judge"
    return model, asked, subwords.batch(subwords.encode([one.review.text for one in asked], 60))


class TestNetwork:
    def test_padding_has_no_say(self, small):
        model, (ids, real) = small
        together, weights = model.read(model.words(ids), real)
        alone = torch.cat([model(ids[i : i + 1, :n], real[i : i + 1, :n]) for i, n in enumerate(real.sum(dim=1).tolist())])
        torch.testing.assert_close(together, alone)
        assert weights[~real].eq(0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))


class TestScores:
    def test_padding_gets_none(self, lesson_module, small):
        model, batch = small
        for method in lesson_module.METHODS.values():
            scores = method(model, batch)
            assert scores.shape == batch[1].shape and scores[~batch[1]].abs().max() < 1e-6 < scores[batch[1]].abs().max()

    def test_all_but_attention_agree_on_a_linear_network(self, lesson_module, small):
        class Linear(AttentiveLstm):
            def read(self, x, real):
                return ((x * real[..., None]) @ self.head.weight[0, : x.shape[2]]).sum(dim=1), real.float()

        model, batch = Linear(len(small[0].parts.weight), 8, seed=1), small[1]
        one, *others = (method(model, batch) for name, method in lesson_module.METHODS.items() if name != "attention")
        for other in others:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert lesson_module.add_up(model, batch, one) < 1e-4

    def test_integrated_gradients_add_up_to_the_verdict(self, lesson_module, trained):
        model, _, (ids, real) = trained
        batch = ids[:40], real[:40]
        found = lesson_module.add_up(model, batch, lesson_module.by_integrated_gradients(model, batch, points=40))
        plain = lesson_module.add_up(model, batch, lesson_module.by_gradient(model, batch))
        assert found < 0.1 and plain > 2 * found

    def test_leaving_out_is_reading_without(self, lesson_module, small):
        model, batch = small
        scores = lesson_module.by_leaving_out(model, batch)
        shorter = batch[0][:1, [0, 1, 2, 4]], torch.ones(1, 4, dtype=torch.bool)  # "the bus was ." without "late"
        moved = (model(*batch)[0] - model(*shorter)[0]) * lesson_module.decision(model, batch)[0]
        assert scores[0, 3].item() == pytest.approx(moved.item(), abs=1e-5)

    def test_gradient_of_what_was_computed_is_none(self, lesson_module, small):
        message = lesson_module.ask_for_nothing(*small)
        assert message.startswith("None") and "not a leaf" in message
        assert all(weights.grad is None for weights in small[0].parameters())


class TestWithout:
    def test_takes_words_out_and_closes_the_gap(self, lesson_module):
        ids, real = torch.arange(1, 9).view(2, 4, 1), torch.tensor([[True] * 4, [True, True, False, False]])
        gone = torch.tensor([[False, True, False, True], [True, True, False, False]])
        kept, still = lesson_module.without((ids, real), gone)
        assert kept[0, :2, 0].tolist() == [1, 3] and still.tolist() == [[True, True, False, False], [True, False, False, False]]

    def test_pointing(self, lesson_module):
        reviews = [one for one in write_explained(60, seed=0) if "conceded" in one.roles][:2]
        scores = torch.zeros(2, 40)
        scores[0, reviews[0].roles.index("counts")] = 1
        scores[1, reviews[1].roles.index("conceded")] = 1
        real = torch.arange(40) < torch.tensor([[len(one.words)] for one in reviews])
        assert lesson_module.point(scores, real, reviews) == {"counts": 0.5, "conceded": 0.5}


class TestLearning:
    def test_leaving_out_hits_what_decides(self, lesson_module, trained):
        model, asked, batch = trained
        share = sum(one.roles.count("counts") / len(one.words) for one in asked) / len(asked)
        found = lesson_module.by_leaving_out(model, batch)
        assert lesson_module.point(found, batch[1], asked)["counts"] > share + 0.3
        random = torch.rand(batch[1].shape, generator=torch.Generator().manual_seed(0))
        curves = [lesson_module.delete(model, batch, scores, 3) for scores in (found, random)]
        assert curves[0][0] == pytest.approx(curves[1][0]) and curves[0][2] < curves[1][2] - 0.1

    def test_main_reports_all_of_it(self, lesson_module, trained, monkeypatch):
        monkeypatch.setattr(lesson_module, "check", lambda condition, message: None)
        results = lesson_module.main(**SETTINGS)
        assert {f"{name}_{what}" for name in ("attention", "gradient", "integrated", "left_out", "random")
                for what in ("counts", "conceded", "sure")} < set(results)  # fmt: skip
        assert (paths.outputs("sentiment_explained") / "words.png").exists()
        assert (paths.outputs("sentiment_explained") / "deletion.png").exists()

    def test_check_notices_a_network_that_cannot_judge(self, lesson_module):
        with pytest.raises(LessonError, match="more --steps"):
            lesson_module.main(**SETTINGS)


@pytest.mark.parametrize("flags", [{"steps": 0}, {"width": 0}, {"reviews": 0}, {"points": 0}])
def test_check_notices_settings_that_cannot_be(lesson_module, flags):
    with pytest.raises(LessonError, match="--points 1"):
        lesson_module.main(**SETTINGS | flags)
