"""The recurrent network: by hand it is nn.RNN and autograd, and one that spells names beats counting letters."""

import math
import unicodedata
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson
from torch import nn

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def vanilla():
    return lesson("05_rnn/vanilla_rnn")


@pytest.fixture(scope="module")
def names(vanilla):
    """English names: to learn from, and others; and their letters."""
    learn, choose, test = vanilla.load_names("en", seed=0)
    return learn, choose, "".join(sorted(set("".join(learn + choose + test))))


@pytest.fixture(scope="module")
def spelled(vanilla, names):
    """A network that was trained for a short while, and its losses."""
    learn, _, alphabet = names
    torch.manual_seed(0)
    model = vanilla.LetterModel(27, 64)
    return model, vanilla.train(model, *vanilla.encode(learn, alphabet), steps=200, lr=0.01, seed=0)


class TestByHand:
    def test_is_pytorchs(self, vanilla):
        assert max(vanilla.compare_with_torch(steps=30, seed=1)) < 1e-10

    @pytest.mark.parametrize("steps", [1, 2, 9])
    def test_two_layers(self, vanilla, steps):
        """What the upper layer says about its input is the upstream of the lower one."""
        torch.manual_seed(steps)
        rnn = nn.RNN(3, 4, num_layers=2, batch_first=True, dtype=torch.float64)
        weights = [parameter.detach() for parameter in rnn.parameters()]
        x, h, upstream = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, steps, 3), (2, 2, 4), (2, steps, 4)))
        low = vanilla.forward(x, h[0], *weights[:4])
        high = vanilla.forward(low[:, 1:], h[1], *weights[4:])
        out, _ = rnn(x.requires_grad_(), h.requires_grad_())
        torch.testing.assert_close(high[:, 1:], out)
        grad_low, high_first, high_grads = vanilla.backward(low[:, 1:], high, upstream, *weights[4:6])
        grad_x, low_first, low_grads = vanilla.backward(x.detach(), low, grad_low, *weights[:2])
        theirs = torch.autograd.grad(out, [x, h, *rnn.parameters()], upstream)
        ours = [grad_x, torch.stack([low_first, high_first]), *low_grads, *high_grads]
        torch.testing.assert_close(ours, list(theirs), rtol=0, atol=1e-10)

    def test_later_inputs_do_not_change_earlier_states(self, vanilla):
        weights = [torch.randn(*shape, generator=torch.Generator().manual_seed(0)) for shape in ((3, 2), (3, 3), (3,), (3,))]
        x, h = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(1)), torch.zeros(1, 3)
        other = torch.cat([x[:, :4], -x[:, 4:]], dim=1)
        one, two = vanilla.forward(x, h, *weights), vanilla.forward(other, h, *weights)
        assert torch.equal(one[:, :5], two[:, :5]) and not torch.equal(one[:, 5:], two[:, 5:])


class TestPieces:
    def test_longer_pieces_miss_less(self, vanilla):
        off, message = vanilla.truncate([1, 10, 50, 100], 100, seed=0)
        assert "Trying to backward through the graph a second time" in message
        assert off[0] > 0.3 > off[1] > off[2] > 0.01
        assert off[3] == 0  # one piece is the whole

    def test_cutting_stops_what_comes_from_later(self, vanilla):
        """By hand: every piece is walked back on its own, from the state that it began with."""
        torch.manual_seed(0)
        rnn = nn.RNN(2, 3, batch_first=True, dtype=torch.float64)
        x, upstream = torch.randn(1, 12, 2, dtype=torch.float64), torch.randn(1, 12, 3, dtype=torch.float64)
        with torch.no_grad():
            weights = [parameter.clone() for parameter in rnn.parameters()]
            states = vanilla.forward(x, torch.zeros(1, 3, dtype=torch.float64), *weights)
            cuts = [slice(start, start + 4) for start in (0, 4, 8)]
            pieces = [vanilla.backward(x[:, c], states[:, c.start : c.stop + 1], upstream[:, c], *weights[:2])[2] for c in cuts]
        ours = torch.cat([sum(parts).flatten() for parts in zip(*pieces, strict=True)])
        torch.testing.assert_close(ours, vanilla.gradient_in_pieces(rnn, x, upstream, 4), rtol=0, atol=1e-12)


class TestNames:
    @pytest.mark.parametrize(("language", "count"), [("en", 1900), ("ko", 2300)])
    def test_parts_share_nothing(self, vanilla, language, count):
        parts = vanilla.load_names(language, seed=3)
        whole = [name for part in parts for name in part]
        assert len(whole) == len(set(whole)) > count
        assert len(parts[1]) == len(parts[2]) == len(whole) // 10
        assert parts[0] != vanilla.load_names(language, seed=4)[0]

    def test_hangul_comes_in_pieces(self, vanilla):
        learn, *_ = vanilla.load_names("ko", seed=0)
        letters = set("".join(learn))
        assert all(0x1100 <= ord(letter) <= 0x11FF for letter in letters) and 50 < len(letters) < 60
        assert all("가" <= syllable <= "힣" for syllable in unicodedata.normalize("NFC", "".join(learn)))

    def test_targets_are_one_step_ahead(self, vanilla):
        inputs, targets = vanilla.encode(["ab", "b"], "ab")
        assert inputs.tolist() == [[0, 1, 2], [0, 2, 0]]
        assert targets.tolist() == [[1, 2, 0], [2, 0, vanilla.NOTHING]]

    def test_check_notices_a_file_that_is_cut_off(self, vanilla, monkeypatch, tmp_path):
        monkeypatch.setattr(vanilla, "ROOT", tmp_path)
        (tmp_path / "datasets" / "samples").mkdir(parents=True)
        (tmp_path / "datasets" / "samples" / "names_en.txt").write_text("Bath\nYork\n", encoding="utf-8")
        with pytest.raises(LessonError, match="names_en.txt holds 2 names"):
            vanilla.load_names("en", seed=0)


class TestCounting:
    def test_by_hand(self, vanilla):
        """aa, ab: of three letters and two ends, and of what follows an a."""
        _, learned = vanilla.encode(["aa", "ab"], "ab")
        _, unseen = vanilla.encode(["ba"], "ab")
        one = vanilla.ngram(learned, unseen, 1, 3)  # counts: end 2, a 3, b 1
        assert one[0].tolist() == pytest.approx([(1 + 1) / 9, (3 + 1) / 9, (2 + 1) / 9])
        two = vanilla.ngram(learned, unseen, 2, 3)  # b first: never; a after b: never, b was seen once; end after a: 1 of 3
        assert two[0].tolist() == pytest.approx([(0 + 3 * 2 / 9) / 5, (0 + 3 * 4 / 9) / 4, (1 + 3 * 3 / 9) / 6])

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_probabilities_add_up_to_1(self, vanilla, names, n):
        _, learned = vanilla.encode(names[0], names[2])
        every = torch.tensor([[5, 1, symbol] for symbol in range(27)])
        assert vanilla.ngram(learned, every, n, 27)[:, 2].sum().item() == pytest.approx(1, abs=1e-5)

    def test_behind_the_end_there_is_nothing(self, vanilla, names):
        _, targets = vanilla.encode(names[1], names[2])
        assert torch.equal(vanilla.ngram(targets, targets, 2, 27).isnan(), targets == vanilla.NOTHING)

    def test_pairs_are_counters(self, vanilla, names):
        learn, others, alphabet = names
        pairs = Counter(pair for name in learn for pair in zip(f".{name}", f"{name}.", strict=True))
        singles = Counter("".join(f"{name}." for name in learn))
        costs = []
        for name in others:
            for before, letter in zip(f".{name}", f"{name}.", strict=True):
                came = sum(pairs[before, after] for after in f".{alphabet}")
                single = (singles[letter] + 3 / 27) / (sum(singles.values()) + 3)
                costs.append(-math.log((pairs[before, letter] + 3 * single) / (came + 3)))
        ours = -vanilla.ngram(*(vanilla.encode(part, alphabet)[1] for part in (learn, others)), 2, 27).log()
        assert ours.nanmean().item() == pytest.approx(sum(costs) / len(costs), abs=1e-4)


class TestModel:
    def test_starts_at_knowing_nothing_and_learns(self, vanilla, names, spelled):
        model, losses = spelled
        assert losses[0] == pytest.approx(math.log(27), abs=0.2)
        costs = vanilla.costs(model, *vanilla.encode(names[1], names[2]))
        pairs = -vanilla.ngram(*(vanilla.encode(part, names[2])[1] for part in names[:2]), 2, 27).log()
        assert costs.nanmean() < 0.92 * pairs.nanmean()

    def test_costs_are_those_of_the_letters_only(self, vanilla, names, spelled):
        inputs, targets = vanilla.encode(names[1], names[2])
        costs = vanilla.costs(spelled[0], inputs, targets)
        assert torch.equal(costs.isnan(), targets == vanilla.NOTHING)
        with torch.no_grad():
            loss = F.cross_entropy(spelled[0](inputs)[0].flatten(0, 1), targets.flatten())
        assert costs.nanmean().item() == pytest.approx(loss.item(), abs=1e-5)

    def test_names_do_not_know_of_each_other_nor_of_their_future(self, vanilla, names, spelled):
        inputs, targets = vanilla.encode(names[1][:9], names[2])
        others = inputs.clone()
        others[1:], others[0, 5:] = 3, 4
        one, two = (vanilla.costs(spelled[0], part, targets) for part in (inputs, others))
        torch.testing.assert_close(one[0, :5], two[0, :5])
        assert (one[1:] - two[1:]).abs().nansum() > 1

    def test_inventing_step_by_step_is_reading_at_once(self, vanilla, names, spelled):
        """At a temperature near 0 each letter is the likeliest one after those before."""
        model, alphabet = spelled[0], names[2]
        name = vanilla.invent(model, alphabet, 2, temperature=1e-4, seed=0)[0]
        inputs, targets = vanilla.encode([name], alphabet)
        with torch.no_grad():
            assert torch.equal(model(inputs)[0].argmax(dim=2), targets)

    def test_temperature(self, vanilla, names, spelled):
        drawn = {t: vanilla.invent(spelled[0], names[2], 200, t, seed=1) for t in (0.3, 1.0, 2.0)}
        different = [len(set(part)) for part in drawn.values()]
        assert different[0] < different[1] <= different[2]
        pairs = {name[i : i + 2] for name in names[0] for i in range(len(name) - 1)}
        odd = [sum(part[i : i + 2] not in pairs for part in names for i in range(len(part) - 1)) for names in drawn.values()]
        assert odd[0] < odd[1] < odd[2]  # letters that stand together in no name


class TestMain:
    def test_beats_counting_and_copying_learns_nothing(self, vanilla, capsys):
        results = vanilla.main(language="en", hidden=64, steps=240, lr=0.01, seed=1)
        known = set(vanilla.load_names("en", seed=1)[0])
        told = [line.partition("are new: ")[2].split() for line in capsys.readouterr().out.splitlines() if "are new" in line]
        assert len(told) == 3 and all(part and not set(part) & known for part in told)
        assert results["gradients_difference"] < 1e-10
        assert results["loss"] < 0.92 * results["bigram"] < 0.8 * results["unigram"]
        assert results["copier_training_loss"] < 0.2 and results["copier_loss"] > math.log(27)
        assert 350 < results["new_names"] <= 500

    def test_check_notices_a_network_that_does_not_learn(self, vanilla):
        with pytest.raises(LessonError, match="more --steps"):
            vanilla.main(language="en", hidden=8, steps=8, lr=0.01, seed=0)

    def test_check_notices_wrong_flags(self, vanilla):
        with pytest.raises(LessonError, match="--hidden 0"):
            vanilla.main(language="en", hidden=0, steps=8, lr=0.01, seed=0)

    @pytest.mark.slow  # two whole trainings, 30 s of CPU: triples of letters are harder to beat
    @pytest.mark.parametrize("language", ["en", "ko"])
    def test_beats_triples(self, vanilla, language):
        results = vanilla.main(language=language, hidden=128, steps=1000, lr=0.01, seed=2)
        assert results["loss"] < 0.94 * results["trigram"]
