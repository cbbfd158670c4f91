"""Sequence to sequence: beam search is greedy at width 1 and exhaustive when wide, and unseen numbers are read."""

import pytest
import torch
from conftest import lesson

from utils.datasets.number_words import ENGLISH, KOREAN, draw_numbers, in_english, in_korean
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def seq2seq():
    return lesson("05_rnn/seq2seq")


@pytest.fixture(scope="module")
def data(seq2seq):
    """Numbers to learn from, and numbers that are held out."""
    return [seq2seq.pairs(*draw_numbers(count, held_out, seed=0)) for count, held_out in ((5000, False), (300, True))]


@pytest.fixture(scope="module")
def trained(seq2seq, data):
    return seq2seq.train(data[0], hidden=64, steps=150, lr=0.02, own=0.0, seed=0)


class TestNumbers:
    @pytest.mark.parametrize(
        ("n", "english", "korean"),
        [
            (7, "seven", "칠"),
            (10, "ten", "십"),
            (111, "one hundred eleven", "백십일"),
            (2026, "two thousand twenty six", "이천이십육"),
            (10000, "ten thousand", "만"),
            (90210, "ninety thousand two hundred ten", "구만이백십"),
            (100000, "one hundred thousand", "십만"),
            (999999, "nine hundred ninety nine thousand nine hundred ninety nine", "구십구만구천구백구십구"),
        ],
    )
    def test_in_words(self, n, english, korean):
        assert " ".join(in_english(n)) == english
        assert "".join(in_korean(n)) == korean

    def test_no_two_numbers_share_their_words(self):
        for spell, vocabulary in ((in_english, ENGLISH), (in_korean, KOREAN)):
            words = [tuple(spell(n)) for n in range(1, 20000)]
            assert len(set(words)) == len(words)
            assert {word for one in words for word in one} <= set(vocabulary)

    def test_held_out_numbers_are_never_learned_from(self):
        train, test = (set(draw_numbers(count, held_out, seed=4)[0]) for count, held_out in ((5000, False), (1000, True)))
        assert not train & test
        assert {len(str(n)) for n in test} == {2, 3, 4, 5, 6}

    def test_pairs(self, seq2seq):
        found = seq2seq.pairs([2026, 30], [True, False])
        assert [seq2seq.WORDS[i] for i in found.source[0]] == list("이천이십육")
        assert found.source[1].tolist() == [seq2seq.WORDS.index("thirty"), 0, 0, 0, 0]
        assert found.lengths.tolist() == [5, 1]
        assert [seq2seq.DIGITS[i] for i in found.target[0]] == ["<bos>", "2", "0", "2", "6", "<eos>"]
        assert found.target[1].tolist() == [seq2seq.BOS, 6, 3, seq2seq.EOS, 0, 0]


class TestTranslator:
    def test_state_does_not_see_padding(self, seq2seq, data):
        torch.manual_seed(0)
        model = seq2seq.Translator(8)
        many = model.encode(data[1].source, data[1].lengths)
        for i in (0, 5, 9):
            alone = model.encode(data[1].source[i : i + 1, : data[1].lengths[i]], data[1].lengths[i : i + 1])
            torch.testing.assert_close(alone[:, 0], many[:, i])

    def test_decoder_does_not_see_what_it_has_to_write(self, seq2seq, data):
        torch.manual_seed(0)
        model, state = seq2seq.Translator(8), torch.randn(1, 1, 8)
        read, other = torch.tensor([[1, 5, 6, 7]]), torch.tensor([[1, 5, 9, 9]])
        ours, theirs = (model.decode(one, state)[0] for one in (read, other))
        torch.testing.assert_close(ours[:, :2], theirs[:, :2])
        assert not torch.allclose(ours[:, 2:], theirs[:, 2:])
        torch.testing.assert_close(ours.exp().sum(dim=-1), torch.ones(1, 4))

    def test_error_is_the_one_everyone_meets(self, seq2seq, data):
        assert "out of range" in seq2seq.meet_error(seq2seq.Translator(4), data[1])


class TestBeam:
    def test_width_one_is_greedy(self, seq2seq, data, trained):
        longest = data[1].target.shape[1] - 1
        written = seq2seq.greedy(trained, data[1], longest)
        states = trained.encode(data[1].source, data[1].lengths).detach()
        for i in range(100):
            ours, _ = seq2seq.beam_search(trained.decode, states[:, [i]], width=1, longest=longest)
            assert ours == [symbol for symbol in written[i].tolist() if symbol != seq2seq.PAD]

    @pytest.mark.parametrize("seed", range(3))
    def test_wide_enough_is_everything(self, seq2seq, seed):
        torch.manual_seed(seed)
        model, state = seq2seq.Translator(6), 3 * torch.randn(1, 1, 6)
        model.head.weight.data *= 8
        wide, score = seq2seq.beam_search(model.decode, state, width=13**3, longest=3)
        best, best_score = seq2seq.try_everything(model.decode, state, vocabulary=13, longest=3)
        assert wide == best
        assert score == pytest.approx(best_score, abs=1e-4)

    def test_score_is_the_log_probability_of_what_is_returned(self, seq2seq, data, trained):
        states = trained.encode(data[1].source, data[1].lengths).detach()
        for i in range(20):
            for width, alpha in ((1, 0.0), (4, 0.0), (4, 1.0)):
                symbols, score = seq2seq.beam_search(trained.decode, states[:, [i]], width, 7, alpha)
                log_p, _ = trained.decode(torch.tensor([[seq2seq.BOS, *symbols[:-1]]]), states[:, [i]])
                assert score == pytest.approx(log_p[0, range(len(symbols)), symbols].sum().item(), abs=1e-4)

    def test_greedy_is_led_astray_and_a_beam_is_not(self, seq2seq):
        """The likeliest first symbol leads nowhere; length normalisation prefers the longer of two answers."""
        after = {1: {3: 0.6, 4: 0.4}, 3: {5: 0.3, 6: 0.3, 7: 0.4}, 4: {2: 0.9, 5: 0.1}, 7: {2: 1.0}}

        def decode(symbols, state):
            rows = torch.full((len(symbols), 1, 8), 1e-9)
            for row, symbol in zip(rows, symbols[:, -1].tolist(), strict=True):
                for following, p in after.get(symbol, {2: 1.0}).items():
                    row[0, following] = p
            return rows.log(), state

        state = torch.zeros(1, 1, 1)
        greedy, wide, normalised = (
            seq2seq.beam_search(decode, state, w, 4, alpha) for w, alpha in ((1, 0.0), (2, 0.0), (2, 2.0))
        )
        assert greedy[0] == [3, 7, 2] and greedy[1] == pytest.approx(torch.tensor(0.24).log().item(), abs=1e-5)
        assert wide[0] == [4, 2] and wide[1] == pytest.approx(torch.tensor(0.36).log().item(), abs=1e-5)
        assert normalised[0] == [3, 7, 2]


class TestLearning:
    def test_numbers_never_seen_are_read(self, seq2seq, data, trained):
        exact = seq2seq.exact_by_length(trained, data[1])
        forced, free = seq2seq.symbol_accuracy(trained, data[1])
        nearest = seq2seq.nearest_answer(*data)
        assert exact.shape == (5,) and exact[0] > 0.5  # by looking up it would be 0
        assert free.mean() > nearest.mean() + 0.15
        assert forced.mean() > free.mean() + 0.03  # the gap
        assert forced[0] == free[0]  # before the first symbol both have read the same

    def test_own_guesses_are_read_while_training(self, seq2seq, data):
        plain, own = (seq2seq.train(data[0], 8, 3, 0.01, share, seed=0) for share in (0.0, 1.0))
        assert not torch.equal(plain.head.weight, own.head.weight)

    def test_check_notices_networks_that_do_not_learn(self, seq2seq, monkeypatch):
        monkeypatch.setattr(seq2seq, "train", lambda data, hidden, *_: seq2seq.Translator(hidden))
        monkeypatch.setattr(seq2seq, "draw_numbers", lambda count, held_out, seed: draw_numbers(300, held_out, seed))
        monkeypatch.setattr(seq2seq, "compare_widths", lambda model, data, widths, alpha: {1: [0.0]})
        with pytest.raises(LessonError, match="more --steps"):
            seq2seq.main(steps=4, hidden=8, lr=0.005, own=0.0, seed=0)
        with pytest.raises(LessonError, match="needed"):
            seq2seq.main(steps=1, hidden=8, lr=0.005, own=0.0, seed=0)

    @pytest.mark.slow  # three networks, about 25 s of CPU: six digits take 600 steps
    def test_long_numbers_are_the_limit(self, seq2seq):
        results = seq2seq.main(steps=600, hidden=128, lr=0.005, own=0.0, seed=1)
        assert results["trained_exact"] > 0.85
        assert results["small_longest"] < 0.5 * results["trained_longest"]
        assert results["early_forced"] > results["early_free"] + 0.1
        assert results["beam_5"] > results["beam_1"] - 0.02  # nothing forbids a loss
