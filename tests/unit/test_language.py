"""utils.language: counts as one would count by hand, and every symbol predicted once."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.language import ngram_losses, text_loss, train_on_rows, write_on
from utils.lesson import LessonError


def by_hand(train: list[int], held: list[int], symbols: int, n: int) -> float:
    """The same model, one symbol at a time."""
    total = 0.0
    for i in range(1, len(held)):
        before, chance = [*train, *held[:i]], 1 / symbols
        for size in range(n):
            context = before[len(before) - size :]
            after = [train[j + size] for j in range(len(train) - size) if train[j : j + size] == context]
            if after:
                kinds = len(set(after))
                chance = (after.count(held[i]) + kinds * chance) / (len(after) + kinds)
        total -= math.log(chance)
    return total / (len(held) - 1)


class TestNgrams:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_are_counted_as_by_hand(self, seed):
        ids = torch.randint(4, (90,), generator=torch.Generator().manual_seed(seed))
        train, held = ids[:70], ids[70:]
        expected = [by_hand(train.tolist(), held.tolist(), 5, n) for n in range(1, 5)]
        assert ngram_losses(train, held, 5, 4) == pytest.approx(expected)

    def test_what_repeats_is_predicted_from_two_symbols_on(self):
        ids = torch.tensor([0, 1, 2, 1] * 200)
        losses = ngram_losses(ids[:700], ids[700:], 3, 3)
        assert losses[0] == pytest.approx(1.5 * math.log(2), abs=0.02)
        assert losses[1] == pytest.approx(0.5 * math.log(2), abs=0.02)
        assert losses[2] < 0.02

    def test_probabilities_sum_to_one(self):
        train = torch.randint(4, (60,), generator=torch.Generator().manual_seed(0))
        chances = [math.exp(-ngram_losses(train, torch.tensor([2, last]), 4, 3)[2]) for last in range(4)]
        assert sum(chances) == pytest.approx(1)

    def test_too_many_are_one_sentence(self):
        with pytest.raises(LessonError, match="too many"):
            ngram_losses(torch.arange(200), torch.arange(9), 200, 9)
        with pytest.raises(LessonError, match="cannot be counted"):
            ngram_losses(torch.arange(2), torch.arange(2), 3, 3)


class Remembers(nn.Module):
    """Its loss at a place tells how many symbols stood before it: the logit of every symbol that is 0 or that many."""

    def forward(self, ids):
        seen = torch.arange(1, ids.shape[1] + 1).float()
        return torch.stack([torch.zeros_like(seen), seen], dim=1).expand(len(ids), -1, -1)


class TestTextLoss:
    @pytest.mark.parametrize("length", [9, 10, 12, 13, 16, 17, 50])
    def test_every_symbol_counts_once_and_from_the_longest_context(self, length):
        ids = torch.zeros(length, dtype=torch.long)
        half, expected = 4, []
        for place in range(1, length):  # the first window reaches to place 8, each of the others four further
            start = 0 if place <= 8 else half * math.ceil((place - 8) / half)
            start = min(start, length - 9)
            expected.append(math.log(1 + math.exp(place - start)))
        assert text_loss(Remembers(), ids, 8) == pytest.approx(sum(expected) / len(expected), rel=1e-5)

    def test_is_the_mean_over_all_symbols_where_context_does_not_matter(self):
        ids = torch.randint(7, (1000,), generator=torch.Generator().manual_seed(0))
        model = nn.Embedding(7, 7)
        expected = F.cross_entropy(model(ids[:-1]), ids[1:]).item()
        for context in (2, 3, 10, 999):
            assert text_loss(model, ids, context) == pytest.approx(expected, rel=1e-5)

    def test_short_text_is_one_sentence(self):
        with pytest.raises(LessonError, match="too short"):
            text_loss(nn.Embedding(7, 7), torch.zeros(8, dtype=torch.long), 8)


class TestWriteOn:
    def test_draws_by_the_probabilities(self):
        class Coin(nn.Module):
            def forward(self, ids):
                assert ids.shape[1] <= 3  # no more than the context
                return torch.tensor([0.9, 0.1, 1e-9]).log().expand(*ids.shape, 3)

        ids = torch.full((500, 1), 2)
        written = write_on(Coin(), ids, 8, context=3, seed=0)
        assert written.shape == (500, 9) and torch.equal(written[:, :1], ids)
        assert (written[:, 1:] == 1).float().mean().item() == pytest.approx(0.1, abs=0.02)
        assert torch.equal(written, write_on(Coin(), ids, 8, context=3, seed=0))
        assert not torch.equal(written, write_on(Coin(), ids, 8, context=3, seed=1))


class TestTrainOnRows:
    def test_learns_the_next_symbol(self):
        rows = torch.arange(12).repeat(20)[torch.arange(40)[:, None] + torch.arange(9)]
        torch.manual_seed(0)
        model = nn.Embedding(12, 12)
        losses = train_on_rows(model, rows, 60, 8, 0.3, seed=0)
        assert len(losses) == 60 and losses[-1] < 0.1
        assert torch.equal(model(torch.arange(12)).argmax(dim=1), torch.arange(1, 13) % 12)
