"""Kneser-Ney smoothing: probabilities that sum to one, and those that counting by hand gives."""

import math
from collections import Counter, defaultdict

import pytest
import torch

from utils.kneser_ney import KneserNey, discounts
from utils.language import ngram_losses
from utils.lesson import LessonError


def a_text(length: int, symbols: int, seed: int) -> torch.Tensor:
    """Symbols that depend on the two before them, the last two never among them."""
    generator = torch.Generator().manual_seed(seed)
    noise, text = torch.randint(symbols - 2, (length,), generator=generator).tolist(), [0, 1]
    for one in noise:
        text.append((3 * text[-1] + text[-2]) % (symbols - 2) if one > 1 else one)
    return torch.tensor(text)


def by_hand(text: list[int], symbols: int, order: int):
    """A function of n-grams, from dictionaries and loops."""
    grams = {n: Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for n in range(1, order + 1)}
    for n in range(1, order):
        before = defaultdict(set)
        for gram in grams[n + 1]:
            before[gram[1:]].add(gram[0])
        grams[n] = {gram: len(symbols_before) for gram, symbols_before in before.items()}
    less = {n: discounts(torch.tensor([*counts.values()])).tolist() for n, counts in grams.items()}

    def chance(gram: tuple[int, ...]) -> float:
        if not gram:
            return 1 / symbols
        table, off = grams[len(gram)], less[len(gram)]
        after = {other: count for other, count in table.items() if other[:-1] == gram[:-1]}
        if not after:
            return chance(gram[1:])
        count, free = after.get(gram, 0), sum(off[min(number, 3) - 1] for number in after.values())
        own = max(count - off[min(count, 3) - 1], 0) if count else 0
        return (own + free * chance(gram[1:])) / sum(after.values())

    return chance


@pytest.mark.parametrize("order", [1, 2, 4])
def test_is_what_loops_and_dictionaries_say(order):
    text = a_text(300, 7, seed=0)
    model, chance = KneserNey(text, 7, order), by_hand(text.tolist(), 7, order)
    grams = torch.cat([text.unfold(0, order, 1)[::7], torch.randint(7, (60, order), generator=torch.Generator().manual_seed(1))])
    expected = torch.tensor([chance(tuple(gram)) for gram in grams.tolist()], dtype=torch.float64)
    torch.testing.assert_close(model.chances(grams), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_sums_to_one_after_every_context(order):
    text = a_text(500, 9, seed=1)
    model = KneserNey(text, 9, order)
    for length in range(order + 1):  # also shorter and longer than it looks at
        contexts = torch.randint(9, (40, length), generator=torch.Generator().manual_seed(length))
        chances = model.next(contexts)
        assert chances.shape == (40, 9) and chances.min() > 0
        torch.testing.assert_close(chances.sum(dim=1), torch.ones(40, dtype=torch.float64), rtol=0, atol=1e-12)


def test_loss_is_the_mean_of_all_but_the_first():
    text, held = a_text(400, 7, seed=2), a_text(50, 7, seed=3)
    model, everything = KneserNey(text, 7, 3), torch.cat([text, held])
    logs = [model.next(everything[None, :i])[0, everything[i]].log().item() for i in range(len(text) + 1, len(everything))]
    assert model.loss(text, held) == pytest.approx(-sum(logs) / len(logs), abs=1e-12)


def test_of_single_symbols_it_is_near_witten_bell():
    text, held = a_text(3000, 7, seed=4), a_text(500, 7, seed=5)
    assert KneserNey(text, 7, 1).loss(text, held) == pytest.approx(ngram_losses(text, held, 7, 1)[0], abs=0.02)


def test_discounts():
    counts = torch.tensor([1] * 40 + [2] * 10 + [3] * 5 + [4] * 3 + [9])
    share = 40 / 60
    expected = [1 - 2 * share * 10 / 40, 2 - 3 * share * 5 / 10, 3 - 4 * share * 3 / 5]
    torch.testing.assert_close(discounts(counts), torch.tensor(expected, dtype=torch.float64))
    assert discounts(torch.tensor([1] * 4 + [2])).tolist() == pytest.approx([4 / 6] * 3)
    assert discounts(torch.tensor([5, 9])).tolist() == [0.5] * 3
    strange = discounts(torch.tensor([1] * 2 + [2] + [3] * 50 + [4] * 90))
    assert 0 < strange.min() and (strange <= torch.tensor([1.0, 2, 3])).all()


def test_counts_neighbours():
    text = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0, 2, 3, 2, 4, 2, 0, 2])  # 1 is frequent, but only ever after 0
    model = KneserNey(text, 6, 2)
    new = model.next(torch.tensor([[5]]))[0]
    assert new[2] > new[1]


@pytest.mark.parametrize(("symbols", "order", "message"), [(100, 10, "too many"), (7, 0, "cannot be counted"), (7, 9, "cannot")])
def test_what_cannot_be_counted(symbols, order, message):
    with pytest.raises(LessonError, match=message):
        KneserNey(torch.tensor([1, 2, 3, 4]), symbols, order)


def test_shares_of_what_was_never_seen_are_finite():
    model = KneserNey(torch.zeros(50, dtype=torch.long), 3, 4)
    assert math.isfinite(model.loss(torch.zeros(9, dtype=torch.long), torch.tensor([0, 1, 2, 0])))
