"""Sequences of different length: padding changes nothing where it is masked, and order is learned where counting fails."""

import random

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn

from utils.datasets.moved_dates import MONTHS, NEW, OLD, OUTSIDE, write_sentences
from utils.lesson import LessonError

DATES = random.Random(3).sample([(month, day) for month in range(1, 13) for day in range(1, 29)], 336)


@pytest.fixture(scope="module")
def sequences():
    return lesson("05_rnn/sequence_modeling")


@pytest.fixture(scope="module")
def data():
    """Sentences to learn from, sentences with other dates, and the vocabulary of the first."""
    train, test = write_sentences(1500, DATES[:286], seed=0), write_sentences(300, DATES[286:], seed=1)
    return train, test, {symbol: 2 + i for i, symbol in enumerate(sorted({symbol for one in train for symbol in one.symbols}))}


class TestSentences:
    def test_pairs_differ_in_the_order_only(self, data):
        for one, other in zip(data[0][::2], data[0][1::2], strict=True):
            assert sorted(one.symbols) == sorted(other.symbols)
            assert one.later == 1 - other.later

    def test_tags_name_the_dates(self, data):
        def date(sentence, tag):
            symbols = [symbol for symbol, its in zip(sentence.symbols, sentence.tags, strict=True) if its in (tag, tag + 1)]
            if sentence.language == "ko":
                assert symbols[1::2] == ["월", "일"]
                return int(symbols[0]), int(symbols[2])
            return MONTHS.index(symbols[0]) + 1, int(symbols[1])

        for sentence in data[0]:
            assert len(sentence.symbols) == len(sentence.tags)
            assert sentence.tags.count(OLD) == sentence.tags.count(NEW) == 1 and OUTSIDE in sentence.tags
            assert sentence.later == (date(sentence, NEW) > date(sentence, OLD))

    def test_both_languages_and_many_lengths(self, data):
        lengths = [len(one.symbols) for one in data[0]]
        assert {one.language for one in data[0]} == {"en", "ko"}
        assert min(lengths) < 15 and max(lengths) > 60
        assert write_sentences(10, DATES, 5) == write_sentences(10, DATES, 5) != write_sentences(10, DATES, 6)

    def test_batch_is_filled_up(self, sequences, data):
        rows = [data[0][0], data[0][10], data[0][20]]
        x, lengths, tags, later = sequences.batch(rows, data[2])
        assert x.shape == tags.shape == (3, max(lengths))
        for row, its, length, one in zip(x, tags, lengths, rows, strict=True):
            assert (row[:length] > 1).all() and (row[length:] == sequences.PAD).all()
            assert its.tolist() == one.tags + [sequences.IGNORE] * int(len(row) - length)
        assert later.tolist() == [one.later for one in rows]
        assert sequences.batch(rows[:1], {})[0].unique().tolist() == [sequences.UNKNOWN]


class TestWays:
    @pytest.mark.parametrize("lengths", [[3, 7, 5], [1, 9, 9, 2], [4]])
    def test_packed_and_masked_equal_one_at_a_time(self, sequences, lengths):
        off = sequences.compare_ways(torch.tensor(lengths), seed=1)
        for name in ("mask", "mask_last", "packed", "packed_last", "packed_mean", "forward"):
            assert off[name] < 1e-6, name
        if min(lengths) < max(lengths):
            for name in ("last", "mean", "backward"):
                assert off[name] > 0.01, name

    def test_gradients_by_hand(self, sequences):
        torch.manual_seed(0)
        gru = nn.GRU(3, 4, batch_first=True)
        x, lengths = torch.randn(2, 6, 3), torch.tensor([6, 2])
        states, last = sequences.by_hand(gru.all_weights[0], x, lengths, backwards=False)
        ours = torch.autograd.grad(states.square().sum() + last.sum(), gru.all_weights[0])
        alone = [gru(row[None, :length]) for row, length in zip(x, lengths.tolist(), strict=True)]
        right = torch.autograd.grad(sum(out.square().sum() + state.sum() for out, state in alone), gru.all_weights[0])
        for one, other in zip(ours, right, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

    def test_loss_is_the_mean_over_real_steps(self, sequences, data):
        found = sequences.compare_losses(sequences.batch(data[0][:16:2], data[2])[2], seed=2)
        assert found["ignored"] == pytest.approx(found["by hand"], abs=1e-6)
        assert found["counted"] < found["ignored"] - 0.05
        assert found["right, counted"] > found["right"] + 0.03  # padding is easy: it flatters

    def test_errors_are_the_ones_everyone_meets(self, sequences):
        unsorted, elsewhere = sequences.meet_errors()
        assert "enforce_sorted" in unsorted and "CPU" in elsewhere


class TestBatches:
    def test_every_sentence_once(self, sequences, data):
        for pool in (1, 4, 1000):
            cut = sequences.batches(data[0], pool, seed=3)
            assert all(len(rows) <= sequences.SIZE for rows in cut)
            assert sorted(one.symbols for rows in cut for one in rows) == sorted(one.symbols for one in data[0])
        assert sequences.batches(data[0], 4, seed=3) != sequences.batches(data[0], 4, seed=4)

    def test_padding_is_counted(self, sequences, data):
        short, long = sorted(data[0], key=lambda one: len(one.symbols))[:: len(data[0]) - 1]
        share, steps = sequences.count_padding([[short, long], [short]])
        places = 2 * len(long.symbols) + len(short.symbols)
        assert steps == len(long.symbols) + len(short.symbols)
        assert share == pytest.approx((len(long.symbols) - len(short.symbols)) / places)

    def test_sorting_saves_most_of_it(self, sequences, data):
        found = [sequences.count_padding(sequences.batches(data[0], pool, seed=0)) for pool in (1, 8, 1000)]
        assert found[0][0] > 0.5 > 0.3 > found[1][0] > found[2][0]
        assert found[0][1] > 2 * found[1][1]


class TestReader:
    def test_right_ones_do_not_see_their_company(self, sequences, data):
        rows = sorted(data[0][::5], key=lambda one: len(one.symbols))
        for pick, both_ways in (("last_state", False), ("last_state", True), ("every_state", True), ("zeros", False)):
            torch.manual_seed(0)
            model = sequences.Reader(len(data[2]) + 2, 8, pick, both_ways).eval()
            alone, among = (model(*sequences.batch(part, data[2])[:2]) for part in (rows[:1], [rows[0], rows[-1]]))
            same = torch.allclose(alone[0], among[0, : alone.shape[1]] if pick == "every_state" else among[0], atol=1e-6)
            assert same == (pick != "zeros"), pick

    def test_last_state_is_the_one_after_the_last_symbol(self, sequences, data):
        torch.manual_seed(0)
        model = sequences.Reader(len(data[2]) + 2, 8, "last_state", False)
        x, lengths, _, _ = sequences.batch(data[0][:8], data[2])
        states, _ = model.gru(model.embedding(x))
        torch.testing.assert_close(model(x, lengths), model.head(states[range(8), lengths - 1]))

    def test_zeros_answer_the_bias(self, sequences, data):
        model = sequences.Reader(len(data[2]) + 2, 8, "zeros", False)
        rows = sorted(data[0][::5], key=lambda one: len(one.symbols))
        logits = model(*sequences.batch([*rows[:3], rows[-1]], data[2])[:2])
        torch.testing.assert_close(logits[:3], model.head.bias.expand(3, 2))


class TestLearning:
    def test_tagger_needs_both_ways_in_korean(self, sequences, data):
        train, test, vocabulary = data
        parts = {language: [[one for one in test if one.language == language]] for language in ("en", "ko")}
        for both_ways in (False, True):
            model = sequences.train(train, vocabulary, "every_state", both_ways, hidden=32, steps=60, pool=8, lr=0.02, seed=0)
            right = {language: sequences.measure(model, part, vocabulary) for language, part in parts.items()}
            assert right["en"] > 0.9
            assert (right["ko"] > 0.9) == both_ways
            assert both_ways or right["ko"] < 0.6  # at the first date, nobody who reads one way can know which it is

    def test_order_is_learned_where_counting_cannot(self, sequences):
        """Four dates are quickly learned; which of two is the new one, and later, is still a question of order."""
        dates = [(2, 1), (5, 1), (8, 1), (11, 1)]
        train, test = write_sentences(640, dates, seed=0), write_sentences(200, dates, seed=1)
        vocabulary = {symbol: 2 + i for i, symbol in enumerate(sorted({symbol for one in train for symbol in one.symbols}))}
        model = sequences.train(train, vocabulary, "last_state", False, hidden=24, steps=120, pool=8, lr=0.02, seed=0)
        right = sequences.measure(model, sequences.batches(test, 1, seed=0), vocabulary)
        assert right > sequences.baselines(train, test, vocabulary)[0] + 0.25

    def test_counting_is_exactly_chance(self, sequences, data):
        counts, usual = sequences.baselines(*data)
        assert counts == 0.5
        assert usual < 0.05

    def test_measure_ignores_padding_and_nothing_else(self, sequences, data):
        class Oracle(nn.Module):
            def forward(self, x, lengths):
                tags = sequences.batch(data[1][:20], data[2])[2].clamp(min=0)
                return F.one_hot(tags, 5)

        assert sequences.measure(Oracle(), [data[1][:20]], data[2]) == 1

    def test_check_notices_networks_that_do_not_learn(self, sequences, monkeypatch):
        monkeypatch.setattr(sequences, "draw_figure", lambda cuts, found: None)
        untrained = lambda data, vocabulary, pick, both_ways, *_: sequences.Reader(len(vocabulary) + 2, 4, pick, both_ways)  # noqa: E731
        monkeypatch.setattr(sequences, "train", untrained)
        with pytest.raises(LessonError, match="more --steps"):
            sequences.main(sentences=256, steps=40, hidden=4, pool=4, lr=1e-5, seed=0)
        with pytest.raises(LessonError, match="needed"):
            sequences.main(sentences=10, steps=40, hidden=4, pool=4, lr=1e-5, seed=0)

    @pytest.mark.slow  # five networks, about 30 s of CPU: comparing dates takes 400 steps
    def test_order_is_learned_and_mistakes_are_seen(self, sequences):
        results = sequences.main(sentences=4000, steps=400, hidden=64, pool=16, lr=0.02, seed=1)
        assert results["last_state_mixed"] > 0.85
        assert results["last_state_mixed"] == results["last_state_alike"]
        assert results["zeros_mixed"] < 0.6
        assert min(results["both_ways_en"], results["both_ways_ko"]) > 0.97
        assert results["one_way_ko"] < 0.6
