"""Multi-head attention: PyTorch's in every number, knows no order, does not look ahead, and needs a head for each question."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils import paths
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def multi():
    return lesson("06_advanced/multi_head_attention")


@pytest.fixture(scope="module")
def trained(multi):
    models = {heads: multi.Operator(heads, questions=2, width=32, seed=0) for heads in (1, 4)}
    for model in models.values():
        multi.train(model, steps=100, lr=0.01, seed=0)
    return models


@pytest.fixture(scope="module")
def books(multi):
    return multi.telephone_books(500, 2, torch.Generator().manual_seed(99))


class TestLayer:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
    def test_is_pytorchs(self, multi, dtype, tolerance):
        found = multi.compare_layers(dtype, seed=5)
        assert list(found) == ["self", "causal", "cross, padding", "kdim and vdim", "bias for each head"]
        assert max(found.values()) < tolerance

    @pytest.mark.parametrize("dims", [{}, {"kdim": 6}, {"vdim": 5}, {"kdim": 6, "vdim": 5}])
    def test_state_dict_is_pytorchs(self, multi, dims):
        ours, theirs = multi.MultiHeadAttention(8, 2, **dims), nn.MultiheadAttention(8, 2, batch_first=True, **dims)
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())

    def test_masks_together(self, multi):
        torch.manual_seed(0)
        ours, theirs = multi.MultiHeadAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(3, 4, 8)
        masks = {
            "key_padding_mask": torch.arange(4) >= torch.tensor([4, 3, 1])[:, None],
            "attn_mask": torch.ones(4, 4, dtype=torch.bool).triu(1),
        }
        for average in (True, False):
            pairs = zip(*(layer(x, x, x, average_attn_weights=average, **masks) for layer in (ours, theirs)), strict=True)
            for one, other in pairs:
                torch.testing.assert_close(one, other)

    def test_what_is_ignored_does_not_count(self, multi):
        torch.manual_seed(0)
        layer, x = multi.MultiHeadAttention(8, 2), torch.randn(2, 4, 8)
        ignored = torch.tensor([[False, False, True, True]] * 2)
        changed = torch.where(ignored[:, :, None], 1e3, x)
        out = [layer(x, memory, memory, key_padding_mask=ignored)[0] for memory in (x, changed)]
        assert torch.equal(*out)

    def test_width_that_cannot_be_cut(self, multi):
        with pytest.raises(LessonError, match="cannot be cut"):
            multi.MultiHeadAttention(10, 4)


class TestProperties:
    def test_order_and_causality(self, multi):
        found = multi.shuffle_and_change(seed=2)
        assert found["shuffled"] < 1e-6
        assert found["last one changed, causal"] == 0
        assert found["shuffled, with places"] > 0.1 and found["last one changed"] > 0.01

    def test_every_later_token(self, multi):
        torch.manual_seed(0)
        layer, x, causal = multi.MultiHeadAttention(8, 2).double(), torch.randn(1, 5, 8).double(), torch.ones(5, 5).triu(1).bool()
        jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, x, x, attn_mask=causal)[0], x)
        influence = jacobian.abs().sum(dim=(0, 2, 3, 5))  # (targets, sources)
        assert influence.triu(1).eq(0).all() and influence.tril().gt(0).sum() == 15

    def test_mistakes(self, multi):
        message, leak = multi.meet_error(seed=0)
        assert message == "embed_dim must be divisible by num_heads"
        assert leak > 0.05


class TestHeads:
    def test_books(self, multi):
        books, names, digits = multi.telephone_books(300, 3, torch.Generator().manual_seed(1))
        assert books.shape == (300, multi.ENTRIES, 2)
        for book, asked, answer in zip(books.tolist(), names.tolist(), digits.tolist(), strict=True):
            entries = dict(book)
            assert len(entries) == multi.ENTRIES and len(set(asked)) == 3
            assert [entries[name] for name in asked] == answer

    def test_one_head_answers_one_question(self, multi, trained, books):
        first, second, both = multi.measure(trained[1], books)
        assert max(first, second) > 0.85 and both < 0.4
        assert multi.measure(trained[4], books)[2] > 0.85 > 0.4 > both

    def test_heads_look_at_the_names_asked_for(self, multi, trained, books):
        logits, weights = trained[4](books[0], books[1])
        assert logits.shape == (500, 2, multi.DIGITS) and weights.shape == (500, 4, multi.ENTRIES)
        torch.testing.assert_close(weights.sum(dim=2), torch.ones(500, 4))
        asked = (books[0][:, :, 0, None] == books[1][:, None]).any(dim=2)  # (books, entries)
        assert (weights * asked[:, None]).sum(dim=2).mean() > 0.6  # by chance 0.25
        multi.draw_heads(trained, books)
        assert (paths.outputs("multi_head_attention") / "heads.png").exists()


class TestMain:
    def test_learns(self, multi):
        results = multi.main(questions=2, steps=70, networks=1, device="cpu", seed=3)
        assert results["8_heads"] > 0.8 > 0.5 > results["1_heads"]
        assert results["baseline_accuracy"] < 0.5 and results["causal_leak"] == 0

    def test_check_notices_networks_that_do_not_learn(self, multi):
        with pytest.raises(LessonError, match="more --steps"):
            multi.main(questions=2, steps=1, networks=1, device="cpu", seed=0)

    def test_check_notices_settings_that_cannot_be(self, multi):
        with pytest.raises(LessonError, match="from 2 to 8"):
            multi.main(questions=1, steps=1, networks=1, device="cpu", seed=0)
        with pytest.raises(LessonError, match="at least"):
            multi.main(questions=2, steps=1, networks=0, device="cpu", seed=0)
