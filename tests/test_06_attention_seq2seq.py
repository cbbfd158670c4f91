"""Sequence to sequence with attention: looking back is what long numbers need, and three silent mistakes have their marks."""

import random
import re

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.lesson import LessonError

NAMES = {word: str(i) for i, word in enumerate("zero one two three four five six seven eight nine".split())} | {"oh": "0"}


@pytest.fixture(scope="module")
def seq2seq():
    return lesson("06_advanced/attention_seq2seq")


@pytest.fixture(scope="module")
def trained(seq2seq):
    """Networks with attention and without, and one whose softmax goes over the targets, trained on numbers of 1 to 6 digits."""
    data = seq2seq.spoken_numbers(2000, 1, 6, seed=0)
    networks = {"with attention": ("dot", -1), "without": ("none", -1), "wrong axis": ("dot", -2)}
    for name, (score, axis) in networks.items():
        networks[name] = seq2seq.Writer(32, score, seed=0, dim=axis)
        networks[name].losses = seq2seq.train(networks[name], data, steps=150, lr=0.02, seed=0)
    return networks


def understand(words: list[str]) -> str:
    """What a listener would write."""
    said = " ".join(words)
    for times, name in ((2, "double"), (3, "triple")):
        said = re.sub(rf"{name} (\w+)", lambda found, times=times: " ".join([found[1]] * times), said)
    return "".join(NAMES[word] for word in said.split())


class TestNumbers:
    def test_are_said_so_that_one_can_write_them_down(self, seq2seq):
        draw, heard = random.Random(0), set()
        for number in ("7", "007", "2244", "555", "3333", "00000000", "9122334445"):
            for _ in range(20):
                words = seq2seq.say([int(digit) for digit in number], draw)
                heard |= set(words)
                assert understand(words) == number
        assert {"oh", "zero", "double", "triple"} < heard

    def test_are_padded(self, seq2seq):
        words, digits = seq2seq.spoken_numbers(200, 2, 5, seed=1)
        assert len(words) == len(digits) == 200
        counts = set()
        for row, target in zip(words, digits, strict=True):
            written = target[target != seq2seq.IGNORE].tolist()
            assert written[-1] == seq2seq.END and seq2seq.END not in written[:-1]
            spoken = row[row != seq2seq.PAD]
            assert (row[len(spoken) :] == seq2seq.PAD).all()
            assert understand([seq2seq.WORDS[i] for i in spoken.tolist()]) == "".join(map(str, written[:-1]))
            counts.add(len(written) - 1)
        assert counts == {2, 3, 4, 5}
        assert torch.equal(words, seq2seq.spoken_numbers(200, 2, 5, seed=1)[0])


class TestWriter:
    @pytest.mark.parametrize("score", ["dot", "additive", "none"])
    def test_padding_changes_nothing(self, seq2seq, score):
        model, words = seq2seq.Writer(8, score, seed=0), seq2seq.spoken_numbers(5, 3, 3, seed=0)[0]
        before = torch.tensor([[seq2seq.END, 1, 2]] * 5)
        logits = []
        for x in (words, F.pad(words, (0, 4))):
            memory = model.encode(x)
            logits.append(model.decode(before, memory[-1][None], memory)[0])
        assert logits[0].shape == (5, 3, 11)
        torch.testing.assert_close(*logits)

    def test_weights_are_distributions_over_real_words(self, seq2seq, trained):
        words = seq2seq.spoken_numbers(20, 1, 6, seed=3)[0]
        digits, weights = seq2seq.write(trained["with attention"], words, 7)
        assert digits.shape == (20, 7) and weights.shape == (20, 7, words.shape[1])
        torch.testing.assert_close(weights.sum(dim=2), torch.ones(20, 7))
        assert weights.transpose(1, 2)[words == seq2seq.PAD].eq(0).all()

    def test_look_up_is_pytorchs(self, seq2seq, trained):
        words, model = seq2seq.spoken_numbers(20, 1, 6, seed=3)[0], trained["with attention"]
        states, real, last = memory = model.encode(words)
        before = torch.full((20, 2), seq2seq.END)
        out, _ = model.decoder(model.digits(before), last[None])
        expected = F.scaled_dot_product_attention(model.query(out), model.key(states), states, attn_mask=real[:, None])
        torch.testing.assert_close(model.decode(before, last[None], memory)[2] @ states, expected)

    def test_writing_step_by_step_is_decoding_at_once(self, seq2seq, trained):
        words, model = seq2seq.spoken_numbers(20, 4, 4, seed=3)[0], trained["with attention"]
        digits, _ = seq2seq.write(model, words, 5)
        memory, start = model.encode(words), torch.full((20, 1), seq2seq.END)
        with torch.no_grad():
            logits, _, _ = model.decode(torch.cat([start, digits[:, :-1]], dim=1), memory[-1][None], memory)
        assert torch.equal(logits.argmax(dim=2), digits)


class TestTraining:
    def test_attention_is_what_long_numbers_need(self, seq2seq, trained):
        test = seq2seq.spoken_numbers(200, 6, 6, seed=5)
        looking, blind = (seq2seq.accuracy(trained[name], test) for name in ("with attention", "without"))
        assert looking > 0.5 and looking > blind + 0.3

    def test_comparison(self, seq2seq, trained):
        networks = {name: [trained[name]] for name in ("with attention", "without")}
        found = seq2seq.compare_lengths(networks, 6, seed=7, device="cpu")
        assert found["with attention"].shape == found["without"].shape == (1, 5)
        assert found["with attention"][0, 3] > found["without"][0, 3] + 0.3
        assert (paths.outputs("attention_seq2seq") / "lengths.png").exists()

    def test_it_looks_at_the_word_that_it_writes(self, seq2seq, trained):
        words = torch.tensor([[seq2seq.WORDS.index(word) for word in "nine four seven three".split()]])
        digits, weights = seq2seq.write(trained["with attention"], words, 4)
        assert digits.tolist() == [[9, 4, 7, 3]]
        assert weights[0].argmax(dim=1).tolist() == [0, 1, 2, 3]
        written = seq2seq.draw_alignment(trained["with attention"], ("double oh seven", "four six"), "cpu")
        assert written == ["007", "46"]
        assert (paths.outputs("attention_seq2seq") / "alignment.png").exists()


def test_mistakes(seq2seq, trained):
    found = seq2seq.compare_mistakes(trained["with attention"], trained["wrong axis"], seq2seq.spoken_numbers(300, 1, 6, seed=9))
    assert found["right mask"] > 0.7
    assert found["inverted mask"] < found["right mask"] - 0.4
    assert found["no mask"] < found["right mask"]
    assert found["softmax over the targets"] < 0.1  # and its loss says nothing
    assert sum(trained["wrong axis"].losses[-20:]) < sum(trained["without"].losses[-20:]) / 2


def test_later_digits_leak_through_the_wrong_axis_only(seq2seq, trained):
    words, digits = seq2seq.spoken_numbers(20, 6, 6, seed=11)
    before = F.pad(digits[:, :-1], (1, 0), value=seq2seq.END)
    changed = before.clone()
    changed[:, 4:] = (changed[:, 4:] + 3) % 10
    for name, leaks in (("with attention", False), ("wrong axis", True)):
        memory = trained[name].encode(words)
        logits = [trained[name].decode(given, memory[-1][None], memory)[0][:, :4] for given in (before, changed)]
        assert (logits[0] - logits[1]).abs().max().item() > 0.1 if leaks else torch.allclose(*logits, atol=1e-5)


class TestMain:
    def test_learns(self, seq2seq):
        results = seq2seq.main(longest=4, steps=80, hidden=32, score="additive", networks=1, lr=0.02, device="cpu", seed=1)
        assert results["accuracy"] > 0.5 and results["accuracy"] > results["baseline_accuracy"]

    def test_check_notices_networks_that_do_not_learn(self, seq2seq):
        with pytest.raises(LessonError, match="more --steps"):
            seq2seq.main(longest=4, steps=2, hidden=4, score="dot", networks=1, lr=1e-9, device="cpu", seed=0)

    def test_check_notices_settings_that_cannot_be(self, seq2seq):
        with pytest.raises(LessonError, match="--longest 4"):
            seq2seq.main(longest=3, steps=2, hidden=4, score="dot", networks=1, lr=0.01, device="cpu", seed=0)
        with pytest.raises(LessonError, match="dot or additive"):
            seq2seq.main(longest=4, steps=2, hidden=4, score="none", networks=1, lr=0.01, device="cpu", seed=0)
