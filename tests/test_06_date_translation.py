"""Dates: a Transformer reads days it has never seen, looks at what it copies, and four mistakes have their marks."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lesson

from utils import paths
from utils.datasets.written_dates import written_dates
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def dates():
    return lesson("06_advanced/date_translation")


@pytest.fixture(scope="module")
def texts():
    """Days in digits with the year first, which are learned soon: those of four digits, two hyphens."""
    return {split: [pair for pair in written_dates(n, split, 0) if pair[0].count("-") == 2 and pair[0][:4].isdigit()]
            for split, n in (("training", 15_000), ("test", 3000))}  # fmt: skip


@pytest.fixture(scope="module")
def data(dates, texts):
    vocabulary = dates.make_vocabulary([text for text, _ in texts["training"]])
    return vocabulary, *(dates.make_pairs(*zip(*texts[split], strict=True), vocabulary) for split in ("training", "test"))


@pytest.fixture(scope="module")
def trained(dates, data):
    found = {}
    for flaw in ("none", "no causal mask", "no positions"):
        model = dates.DateReader(len(data[0]) + 2, 32, 4, 1, seed=0, flaw=flaw)
        found[flaw] = model, dates.train(model, data[1], steps=100, lr=0.01, seed=0)
    return found


class TestTokens:
    def test_text(self, dates):
        assert dates.split_text("Mon, 3rd of MAR '24") == ["mon", ",", "3", "rd", "of", "mar", "'", "2", "4"]
        assert dates.split_text("이천년 유월 일일 (목)") == [*"이천년유월일일(목)"]

    def test_encoding(self, dates):
        vocabulary = dates.make_vocabulary(["3 mar", "2년"])
        assert sorted(vocabulary.values()) == [2, 3, 4, 5]
        rows = dates.encode(["mar 3", "apr"], vocabulary)
        assert rows.tolist() == [[vocabulary["mar"], vocabulary["3"]], [dates.UNKNOWN, dates.PAD]]


class TestReader:
    def test_attention_is_pytorchs(self, dates):
        torch.manual_seed(0)
        layer, x, memory = dates.Attention(8, 2), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
        mask = torch.tensor([[True] * 5, [True, True, False, False, False]])[:, None, None]
        q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in (layer.query(x), layer.key(memory), layer.value(memory)))
        expected = layer.out(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer(x, memory, mask), expected)

    def test_padding_and_later_symbols_change_nothing(self, dates):
        model = dates.DateReader(9, 16, 4, 2, seed=0)
        tokens, before = torch.randint(2, 9, (3, 6)), torch.randint(10, (3, 10))
        logits = model.decode(before, model.encode(tokens), tokens)
        padded, later = F.pad(tokens, (0, 4)), before.clone()
        torch.testing.assert_close(model.decode(before, model.encode(padded), padded), logits)
        later[:, 6:] = (later[:, 6:] + 1) % 10
        torch.testing.assert_close(model.decode(later, model.encode(tokens), tokens)[:, :6], logits[:, :6])
        for flaw in ("no causal mask", "no padding mask", "softmax over the targets"):
            flawed = dates.DateReader(9, 16, 4, 2, seed=0, flaw=flaw)
            one = flawed.decode(before, flawed.encode(tokens), tokens)
            other = flawed.decode(before, flawed.encode(padded), padded) if "padding" in flaw else flawed.decode(
                later, flawed.encode(tokens), tokens)  # fmt: skip
            assert (one - other)[:, :6].abs().max() > 1e-3

    def test_order_counts(self, dates):
        tokens = torch.randint(2, 9, (1, 6))
        for flaw in ("none", "no positions"):
            model = dates.DateReader(9, 16, 4, 2, seed=0, flaw=flaw)
            moved = (model.encode(tokens.flip(1)).flip(1) - model.encode(tokens)).abs().max()
            assert moved < 1e-5 if flaw == "no positions" else moved > 0.01

    def test_writing_is_what_decoding_says(self, dates, trained, data):
        model, tokens = trained["none"][0], data[2][0][:20]
        written = model.write(tokens)
        logits = model.decode(F.pad(written[:, :-1], (1, 0), value=dates.START), model.encode(tokens), tokens)
        assert torch.equal(logits.argmax(dim=2), written)


class TestTraining:
    def test_reads_days_it_has_never_seen(self, dates, trained, data):
        assert dates.right(trained["none"][0], data[2]).float().mean() > 0.9

    def test_looks_at_what_it_copies(self, dates, trained, data):
        found = dates.draw_alignment(trained["none"][0], data[0], ["2031-04-25", "1976-10-08"])
        assert sum(place == i for row in found for i, place in enumerate(row) if i not in (4, 7)) >= 12  # of 16 digits
        assert (paths.outputs("date_translation") / "alignment.png").exists()

    def test_marks_of_mistakes(self, dates, trained, data):
        right = {flaw: dates.right(model, data[2]).float().mean() for flaw, (model, _) in trained.items()}
        assert trained["no causal mask"][1] < 0.1 and right["no causal mask"] < 0.1  # the loss says nothing
        assert trained["no positions"][1] > 0.3 and right["no positions"] < 0.1

    def test_comparison_of_flaws(self, dates, data):
        few = [part[:30] for part in data[2]]
        found = dates.compare_flaws(data[1], few, len(data[0]) + 2, steps=2, seed=0)
        assert list(found) == ["none", "no causal mask", "no positions", "no padding mask", "softmax over the targets"]
        assert all(len(row) == 3 for row in found.values())


@pytest.mark.parametrize(
    ("text", "day"),
    [("March 3, 2024", "2024-03-03"), ("3/4/24", "2024-03-04"), ("3 Mar 49", "2049-03-03"), ("3 Mar 50", "1950-03-03"),
     ("2024년 3월 3일 (일)", "")],
)  # fmt: skip
def test_what_dateutil_reads(dates, text, day):
    assert dates.read_by_rule(text) == day


@pytest.mark.slow  # a minute: all forms, as the lesson trains it
def test_main_learns(dates):
    results = dates.main(steps=1000, lr=0.005, depth=2, device="cpu", seed=1)
    assert results["accuracy"] > 0.985 > 0.8 > results["dateutil_accuracy"]
    assert max(right for name, right in results.items() if name.startswith(("no_causal", "no_positions", "softmax"))) < 0.25


def test_main_notices_what_does_not_learn(dates, monkeypatch):
    monkeypatch.setattr(dates, "compare_flaws", lambda *_: {"none": (0.0, 0.0, 0.0)})  # five networks more; tested above
    with pytest.raises(LessonError, match="more --steps"):
        dates.main(steps=1, lr=1e-6, depth=1, device="cpu", seed=0)
    with pytest.raises(LessonError, match="--steps 1"):
        dates.main(steps=0, lr=0.005, depth=1, device="cpu", seed=0)
