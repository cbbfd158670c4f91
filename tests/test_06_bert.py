"""BERT: it looks both ways, hides words by the rule, and what it learns from blanks holds on texts it has never seen."""

import math

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.datasets.opinions import vocabulary, write_opinions
from utils.lesson import LessonError
from utils.networks.bert import BertConfig, MaskedLanguageModel
from utils.wordpiece import WordPiece


@pytest.fixture(scope="module")
def bert():
    return lesson("06_advanced/bert")


@pytest.fixture(scope="module")
def tokenizer():
    return WordPiece(vocabulary(), uncased=False)


@pytest.fixture(scope="module")
def texts(tokenizer):
    """Texts to learn from, and others: ids (texts, steps)."""
    known = [opinion.text for opinion in write_opinions(3000, seed=0)]
    unseen = sorted({opinion.text for opinion in write_opinions(400, seed=1)} - set(known))
    return tokenizer.batch(known)[0], tokenizer.batch(unseen)[0]


@pytest.fixture(scope="module")
def trained(bert, tokenizer, texts):
    """A small network, and the losses on the other texts: its own and those of counting."""
    tokens, model = len(tokenizer.vocabulary), bert.Encoder(len(tokenizer.vocabulary), 48, 1, 4, seed=0)
    bert.pretrain(model, texts[0], steps=250, share=0.3, lr=0.02, seed=0)
    inputs, chosen = bert.mask_tokens(texts[1], 0.15, tokens, torch.Generator().manual_seed(0))
    shown = bert.mask_tokens(texts[0], 0.15, tokens, torch.Generator().manual_seed(1))[0], texts[0]
    loss, accuracy = bert.measure(model, inputs, texts[1], chosen)
    return {"model": model, "loss": loss, "accuracy": accuracy} | bert.count_baselines(shown, (inputs, texts[1], chosen), tokens)


class Recorder(nn.Module):
    """Stands where a network should, and notes what it is asked: inputs, mask, places."""

    def __init__(self, tokens: int):
        super().__init__()
        self.bias, self.asked = nn.Parameter(torch.zeros(tokens)), []

    def forward(self, ids, real, where):
        self.asked.append((ids, real, where))
        return self.bias.expand(int(where.sum()), -1)


class TestEncoder:
    def test_equals_the_finished_one(self, bert):
        """With every weight at random: what starts as 0 or 1 would hide a mistake."""
        ours = bert.Encoder(50, 24, 2, 3, seed=0)
        for parameter in ours.parameters():
            nn.init.normal_(parameter, std=0.3)
        theirs = MaskedLanguageModel(BertConfig(50, 24, 2, 3, 96, bert.LONGEST)).eval()
        renamed = bert.published_names(ours.state_dict())
        assert {name for name in theirs.state_dict() if "pooler" not in name} == set(renamed)
        theirs.load_state_dict(theirs.state_dict() | renamed)
        ids, segments = torch.randint(50, (3, 9)), torch.randint(2, (3, 9))
        real = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
        with torch.no_grad():
            expected = theirs(ids, real, segments, where=real)
            torch.testing.assert_close(ours(ids, real, real, segments), expected, atol=1e-5, rtol=1e-5)

    def test_what_it_notices_and_what_not(self, bert, texts):
        found = bert.look_around(texts[0][:8], 400, seed=0)
        assert found["off"] < 1e-5
        assert found["padding changed"] == 0
        assert min(found[name] for name in ("last word changed", "second segment", "order turned round")) > 1e-2

    def test_error(self, bert):
        assert "index out of range" in bert.meet_error(400)


class TestMasks:
    def test_80_10_10(self, bert, texts):
        ids = texts[0]
        inputs, chosen = bert.mask_tokens(ids, 0.15, 300, torch.Generator().manual_seed(0))
        assert torch.equal(inputs[~chosen], ids[~chosen]), "what is not asked for stays"
        words = ids >= 5
        assert not (chosen & ~words).any(), "special tokens are not asked for"
        assert (chosen.sum() / words.sum()).item() == pytest.approx(0.15, abs=0.01)
        hidden, kept = inputs[chosen] == bert.MASK, inputs[chosen] == ids[chosen]
        assert hidden.float().mean().item() == pytest.approx(0.8, abs=0.02)
        assert kept.float().mean().item() == pytest.approx(0.1, abs=0.02)
        others = inputs[chosen][~hidden & ~kept]
        assert others.min() >= 5 and others.max() < 300 and len(others.unique()) > 100, "any word, and no special token"

    def test_other_batches_get_other_masks(self, bert, texts):
        generator = torch.Generator().manual_seed(0)
        masks = [bert.mask_tokens(texts[0], 0.3, 300, generator)[1] for _ in range(2)]
        assert not torch.equal(*masks)


def test_baselines_are_what_counting_gives(bert):
    ids = torch.tensor([[2, 5, 6, 3], [2, 5, 7, 3], [2, 8, 6, 3]])
    inputs, chosen = ids.clone(), torch.zeros_like(ids, dtype=torch.bool)
    inputs[2, 2], chosen[0, 2], chosen[2, 1] = bert.MASK, True, True
    found = bert.count_baselines((inputs, ids), (inputs, ids, chosen), 9)
    share = [count + 0.1 for count in (0, 0, 0, 0, 0, 2, 2, 1, 1)]  # special tokens are no words
    share = [one / sum(share) for one in share]
    assert found["unigram"] == pytest.approx(-(math.log(share[6]) + math.log(share[8])) / 2, rel=1e-4)

    def guess(left: int, right: int, answer: int) -> float:
        pairs = [(inputs[i, j + side].item(), ids[i, j].item(), side) for i in range(3) for j in range(4) for side in (-1, 1)
                 if 0 <= j + side < 4]  # fmt: skip
        both = [1 / one for one in share]
        for near, side in ((left, -1), (right, 1)):
            counts = [pairs.count((near, word, side)) + 2 * share[word] for word in range(9)]
            both = [before * count / sum(counts) for before, count in zip(both, counts, strict=True)]
        return -math.log(both[answer] / sum(both))

    assert found["neighbours"] == pytest.approx((guess(5, 3, 6) + guess(2, bert.MASK, 8)) / 2, rel=1e-4)


class TestTraining:
    def test_beats_word_frequencies_on_unseen_texts(self, trained):
        assert trained["loss"] < 0.6 * trained["unigram"]
        assert trained["accuracy"] > 0.35
        assert trained["neighbours"] < 0.6 * trained["unigram"], "counting is a good guess, too"

    def test_loss_is_taken_at_the_chosen_words_only(self, bert, texts):
        model, everywhere = Recorder(284), Recorder(284)
        bert.pretrain(model, texts[0], steps=30, share=0.15, lr=0.01, seed=0)
        bert.pretrain(everywhere, texts[0], steps=30, share=0.15, lr=0.01, seed=0, everywhere=True)
        places, words = (sum(int(part.sum()) for _, _, part in asked) for asked in (model.asked, everywhere.asked))
        assert places / words == pytest.approx(0.15, abs=0.01)
        for ids, real, where in model.asked:
            assert where[ids == bert.MASK].all(), "what is hidden is asked for"
            assert torch.equal(real, ids > 0) and not (where & ~real).any()

    def test_masks_are_drawn_anew_in_each_step(self, bert, texts):
        model = Recorder(284)
        bert.pretrain(model, texts[0][:1].expand(64, -1), steps=3, share=0.3, lr=0.01, seed=0)  # always the same text
        first, second, third = (where for _, _, where in model.asked)
        assert not torch.equal(first, second) and not torch.equal(first, third)

    def test_blanks(self, bert, trained, tokenizer):
        found = bert.fill_in(trained["model"], tokenizer, ("the soup [MASK] cold.", "국[MASK] 짰다. 우리는 기뻤다."))
        assert set(found[0][:2]) & {"was", "were"} and set(found[1][:2]) & {"##은", "##는"}


class TestMain:
    def test_learns(self, bert):
        results = bert.main(texts=2000, steps=200, share=0.3, width=48, lr=0.01, device="cpu", seed=1)
        assert results["loss"] < 0.6 * results["baseline"] and results["hidden"] == pytest.approx(0.8, abs=0.04)

    def test_check_notices_a_network_that_does_not_learn(self, bert):
        with pytest.raises(LessonError, match="more --steps"):
            bert.main(texts=200, steps=2, share=0.15, width=8, lr=1e-9, device="cpu", seed=0)

    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ({"steps": 0}, "--steps 1"), ({"width": 6}, "--width of 4"), ({"texts": 63}, "--texts 64"),
            ({"share": 1.0}, "--share 1.0"), ({"share": 0.0}, "--share 0.0"),
        ],
    )  # fmt: skip
    def test_check_notices_settings_that_cannot_be(self, bert, flags, told):
        settings = {"texts": 100, "steps": 1, "share": 0.15, "width": 8, "lr": 0.01, "device": "cpu", "seed": 0} | flags
        with pytest.raises(LessonError, match=told):
            bert.main(**settings)
