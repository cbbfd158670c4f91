"""Project 4 judges a text and tells which words decided: what it says of a word is what covering it does."""

import math
import re

import pytest
import torch
from projects.sentiment_world import VALUES, plain_judge
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from project4_sentiment import predict
from project4_sentiment.model import ReviewClassifier, Shape, load_network, save_network, turned
from project4_sentiment.predict import Judge, NoText, in_words, printable, strongest, verdict_of
from project4_sentiment.words import HEAD, TAIL, clean, encode, learn_lexicon, words_of
from utils import checkpoint, paths
from utils.lesson import LessonError

ABOUT = {"temperature": 1.5, "source": "sample: a toy world", "accuracy": 0.9, "seed": 0}
TEXTS = ["the good film was not bad at all!", "국은 좋다고 하면 틀립니다.", "good", "so so , , film … 👍 bad", "film " * 90]


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Random weights: nothing about what it says is simple."""
    torch.manual_seed(3)
    lexicon = learn_lexicon(TEXTS * 3, most=900)
    return Judge(ReviewClassifier(Shape(len(lexicon), 12, 10)).eval(), lexicon, temperature=0.7)


class TestNetwork:
    def test_padding_and_neighbours_in_the_batch_do_not_count(self, judge):
        texts = [words_of(text) for text in TEXTS]
        together = judge.log_odds(texts)
        for text, found in zip(texts, together, strict=True):
            words, rows = encode(judge.lexicon, [text])
            with torch.no_grad():
                alone = judge.model(words, rows) / 0.7
            torch.testing.assert_close(found, alone[0])
            filled = torch.nn.functional.pad(rows, (0, 9))
            with torch.no_grad():
                torch.testing.assert_close(judge.model(words, filled) / 0.7, alone)

    def test_order_of_words_counts(self, judge):
        one, other = judge.log_odds([["the", "good", "film", "bad"], ["the", "bad", "film", "good"]])
        assert abs(one - other) > 1e-4

    def test_is_the_bidirectional_lstm_of_packed_texts(self):
        """What nn.LSTM does with a packed sequence, with the same weights."""
        torch.manual_seed(0)
        model, theirs = ReviewClassifier(Shape(5, 4, 3)), torch.nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        for suffix, lstm in (("", model.forwards), ("_reverse", model.backwards)):
            for name, weight in lstm.named_parameters():
                getattr(theirs, name + suffix).data.copy_(weight)
        vectors, lengths = torch.randn(4, 6, 4), torch.tensor([6, 1, 3, 5])
        is_word = torch.arange(6) < lengths.unsqueeze(1)
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
        ours = torch.cat([model.forwards(vectors)[0], turned(model.backwards(turned(vectors, is_word))[0], is_word)], dim=2)
        torch.testing.assert_close(ours * is_word.unsqueeze(2), expected)

    def test_text_without_words_has_the_bias(self, judge):
        found = judge.log_odds([[], ["film"], ["плохо"], ["최악"]])
        assert found[0].item() == pytest.approx(judge.model.judge.bias.item() / judge.temperature)
        assert found[2] == found[3] and len(set(found.tolist())) == 3

    def test_by_hand(self, judge):
        """One text, computed word by word."""
        model, words = judge.model, ["the", "good", "film"]
        with torch.no_grad():
            vectors = torch.stack([model.pieces.weight[judge.lexicon.spell(word)].mean(dim=0) for word in words])
            onwards, back = model.forwards(vectors)[0], model.backwards(vectors.flip(0))[0].flip(0)
            states = torch.cat([onwards, back], dim=1)
            weights = model.attention(states).softmax(dim=0)
            read, said = (weights * states).sum(dim=0), vectors.sum(dim=0) / 3**0.5
            expected = model.judge(torch.cat([read, said])) / judge.temperature
        torch.testing.assert_close(judge.log_odds([words]), expected)


class TestStrength:
    @pytest.mark.parametrize("text", TEXTS[:4])
    def test_is_what_covering_the_word_does(self, judge, text):
        """The reader's own test: type something unknown in its place, and ask again."""
        verdict = judge.judge(text)
        words = [i for i, piece in enumerate(verdict.pieces) if piece.kind == "word"]
        for i in words:
            rest = "".join(" ○ " if i == j else piece.text for j, piece in enumerate(verdict.pieces))
            without = judge.log_odds([words_of(rest)]).item()
            assert verdict.pieces[i].strength == pytest.approx(verdict.log_odds - without, abs=1e-5)
            assert len(words) == 1 or judge.judge(rest).log_odds == pytest.approx(without, abs=1e-5)

    def test_signs_are_of_the_words(self):
        verdict = plain_judge().judge("The superb plot, the awful film!")
        strength = {piece.text: piece.strength for piece in verdict.pieces if piece.kind == "word"}
        assert strength["superb"] > 0 > strength["awful"] and strength["!"] > 0
        values = [VALUES[word] for word in ("the", "superb", "plot", "the", "awful", "!")]  # the comma and "film" are unknown
        assert verdict.log_odds == pytest.approx(sum(values) / 8**0.5, abs=1e-5)
        assert strength["superb"] == pytest.approx(3 / 8**0.5, abs=1e-5)

    @pytest.mark.parametrize("text", [*TEXTS, "  <b>훌륭</b>\n\n плохо 👍👍 it’s\t", "a" * 500, "! " * 700, "плохо " * 500])
    def test_pieces_are_the_whole_text(self, judge, text):
        verdict = judge.judge(text)
        assert "".join(piece.text for piece in verdict.pieces) == clean(text)
        assert all(piece.strength == 0 for piece in verdict.pieces if piece.kind != "word")

    def test_long_text_is_read_at_both_ends_a_few_words_at_a_time(self):
        judge = plain_judge()
        text = " ".join(["superb"] * HEAD + ["awful"] * 5000 + ["plot"] * TAIL)
        verdict = judge.judge(text)
        assert (verdict.words, verdict.read, verdict.known, verdict.together) == (5000 + HEAD + TAIL, HEAD + TAIL, HEAD + TAIL, 5)
        assert verdict.log_odds == pytest.approx(3 * HEAD / 300**0.5, abs=1e-4)
        kinds = [piece.kind for piece in verdict.pieces if piece.kind != "space"]
        assert kinds.count("skipped") == 1 and kinds.count("word") == (HEAD + TAIL) // 5
        skipped = next(piece for piece in verdict.pieces if piece.kind == "skipped")
        assert skipped.text == " ".join(["awful"] * 5000)
        first = next(piece for piece in verdict.pieces if piece.kind == "word")
        assert first.text == "superb superb superb superb superb"
        assert first.strength == pytest.approx(3 * 5 / 300**0.5, abs=1e-4)

    def test_temperature_divides_everything(self):
        one, other = (plain_judge(temperature).judge("superb plot") for temperature in (1.0, 2.0))
        assert other.log_odds == pytest.approx(one.log_odds / 2)
        assert other.probability == pytest.approx(1 / (1 + math.exp(-1.5 / 2**0.5)), abs=1e-5)
        assert other.pieces[0].strength == pytest.approx(one.pieces[0].strength / 2)


class TestVerdict:
    @pytest.mark.parametrize(
        ("probability", "kind"),
        [(0.95, "praise"), (0.6, "praise"), (0.59, "unsure"), (0.5, "unsure"), (0.41, "unsure"), (0.3, "complaint")],
    )
    def test_is_kept_back_near_one_half(self, probability, kind):
        assert verdict_of(probability) == kind

    @pytest.mark.parametrize("text", ["плохой фильм", "最悪の映画", "👍👍👍", "\ud83d", "?", "zzzz"])
    def test_nothing_known_is_no_verdict(self, text):
        verdict = plain_judge().judge(text)
        assert (verdict.kind, verdict.probability, verdict.known) == ("unknown", 0.5, 0)
        assert re.fullmatch(r"I cannot tell: 0 of \d words are known, too few", in_words(verdict))
        assert {piece.kind for piece in verdict.pieces} <= {"unknown", "space"}

    def test_half_of_the_words_must_be_known(self):
        judge = plain_judge()
        assert judge.judge("superb плохо").kind == "praise"
        verdict = judge.judge("superb плохо фильм")
        assert (verdict.kind, verdict.probability, verdict.log_odds, verdict.known) == ("unknown", 0.5, 0.0, 1)
        assert [(piece.kind, piece.strength) for piece in verdict.pieces if piece.kind != "space"] == [
            ("word", 0), ("unknown", 0), ("unknown", 0)
        ]  # fmt: skip
        long = judge.judge("superb " + "плохо " * 999)
        assert (long.kind, long.words, long.read) == ("unknown", 1000, HEAD + TAIL)
        assert [piece.kind for piece in long.pieces].count("skipped") == 1

    @pytest.mark.parametrize("text", ["", "  \n\t", "\u3000"])
    def test_empty_text_is_told(self, text):
        with pytest.raises(NoText, match="there is no text"):
            plain_judge().judge(text)

    def test_words_say_what_was_not_read(self):
        judge = plain_judge()
        assert in_words(plain_judge(0.1).judge("superb")) == "praise, over 99%"
        assert in_words(judge.judge("superb superb")) == "praise, 99%"
        assert in_words(judge.judge("awful плохо")) == "complaint, 89%; 1 of 2 words are unknown"
        assert in_words(judge.judge("the plot")) == "I cannot tell: complaint, 50%"
        assert "first 100 and the last 200 of 1,000 words" in in_words(judge.judge("superb " * 1000))

    def test_strongest_are_sorted_either_way(self):
        found = strongest(plain_judge().judge("the superb plot the awful awful film"), most=2)
        assert [piece.text for piece in found] == ["superb", "awful"]
        assert printable("a\x1b[31m\nb한") == "a [31m b한"


class TestFile:
    @pytest.fixture
    def saved(self, judge):
        path = paths.models("project4_sentiment") / "model.pt"
        save_network(path, judge.model, judge.lexicon, **ABOUT)
        return path

    def test_comes_back_as_it_was(self, judge, saved):
        model, lexicon, about = load_network(None)
        assert about == ABOUT and lexicon.pieces == judge.lexicon.pieces and not model.training
        texts = [words_of(text) for text in TEXTS]
        assert torch.equal(Judge(model, lexicon, 0.7).log_odds(texts), judge.log_odds(texts))

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"pieces": None}, "does not say its pieces"),
            ({"temperature": None}, "does not say its temperature"),
            ({"shape": [3, 12, 10]}, "pieces do not belong"),
            ({"shape": "large"}, "not a network of this project"),
            ({"shape": [1, 2]}, "not a network of this project"),
            ({"pieces": 7}, "not a network of this project"),
            ({"model": {}}, "another model"),
        ],
    )
    def test_wrong_files_are_one_sentence(self, saved, change, told):
        state = {**checkpoint.load(saved), **change}
        torch.save({key: value for key, value in state.items() if value is not None}, saved)
        with pytest.raises(LessonError, match=told) as caught:
            load_network(saved)
        assert "\n" not in str(caught.value)

    def test_missing_and_truncated(self, saved):
        with pytest.raises(LessonError, match="does not exist"):
            load_network(saved.with_name("other.pt"))
        saved.write_bytes(saved.read_bytes()[:1000])
        with pytest.raises(LessonError, match="truncated or damaged"):
            load_network(saved)
        saved.unlink()
        with pytest.raises(LessonError, match="python -m study run sentiment"):
            load_network(None)

    def test_command(self, saved, judge, capsys):
        texts = ("the good film", "", "плохо", "국은 좋다고 하면 \ud83d 틀립니다.")
        results = predict.main(texts, device="cpu")
        said = capsys.readouterr().out
        assert set(results) == {"1_praise", "3_praise", "4_praise"} and results["3_praise"] == 0.5
        assert "text 2: there is no text" in said and "I cannot tell: 0 of 1 words are known" in said
        calibrated = Judge(judge.model, judge.lexicon, 1.5)
        assert results["1_praise"] == pytest.approx(calibrated.judge(texts[0]).probability)
        best = strongest(calibrated.judge(texts[0]))[0]
        assert f"{best.strength:+6.2f}  {best.text}" in said

    def test_command_without_a_text(self):
        with pytest.raises(LessonError, match="at least one text"):
            predict.main((), device="cpu")
