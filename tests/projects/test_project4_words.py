"""Project 4 turns any text into words and pieces, in both languages and whatever somebody types."""

import random
import unicodedata

import pytest
import torch
from projects.sentiment_world import world

from project4_sentiment import data
from project4_sentiment.data import ReviewBatches, all_of, load, write_sample
from project4_sentiment.words import (
    HEAD,
    NO_WORD,
    TAIL,
    UNSEEN,
    Lexicon,
    clean,
    encode,
    find_words,
    learn_lexicon,
    pieces_of,
    window,
    words_of,
)
from utils.datasets import Texts
from utils.lesson import LessonError

CPU = torch.device("cpu")
EMOJI = "👩‍👩‍👧"  # three persons, joined


class TestWords:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("The soup wasn't salty!!", ["the", "soup", "wasn't", "salty", "!!"]),
            ("it’s fine", ["it's", "fine"]),
            ("배우는 훌륭했다. ㅋㅋ", ["배우는", "훌륭했다", ".", "ㅋㅋ"]),
            (f"good{EMOJI}bad", ["good", EMOJI, "bad"]),
            ("<b>bold</b>", ["<", "b", ">", "bold", "</", "b", ">"]),
            ("a_b 3.5", ["a", "_", "b", "3", ".", "5"]),
            ("", []),
            (" \n\t　", []),
            ("x" * 40, ["x" * 16, "x" * 16, "x" * 8]),
            ("half \ud83d a pair", ["half", "?", "a", "pair"]),
            ("плохо 最悪 ١", ["плохо", "最悪", "١"]),
            ("İstanbul", ["i̇stanbul"]),  # its small letter is two
        ],
    )
    def test_are_found(self, text, words):
        assert words_of(text) == words

    def test_hangul_taken_apart_reads_the_same(self):
        text = "배우는 훌륭했다."
        assert words_of(unicodedata.normalize("NFD", text)) == words_of(text)

    def test_spans_are_in_order_and_cover_all_but_spaces(self):
        rng = random.Random(0)
        for _ in range(200):
            text = clean("".join(rng.choice("ab한글 \n.!'_\ud83d😀ñ0") for _ in range(30)))
            spans, end = find_words(text), 0
            for span in spans:
                assert span.start >= end and text[end : span.start].strip() == "" and span.start < span.end
                end = span.end
            assert text[end:].strip() == ""

    def test_of_a_long_text_both_ends_are_read(self):
        text = " ".join(f"w{number}" for number in range(1000))
        assert words_of(text) == [f"w{number}" for number in [*range(HEAD), *range(1000 - TAIL, 1000)]]
        exactly = find_words(" ".join("w" for _ in range(HEAD + TAIL)))
        assert window(exactly) == exactly

    def test_pieces_are_runs_of_two_to_four_and_the_whole(self):
        assert set(pieces_of("film")) == {"<film>", *"<f fi il lm m> <fi fil ilm lm> <fil film ilm>".split()}
        assert pieces_of("굿") == ["<굿>", "<굿", "굿>"]


class TestLexicon:
    def test_knows_the_most_frequent_pieces_of_training(self):
        lexicon = learn_lexicon(["good good film", "good"], most=5, least=2)
        assert len(lexicon) == 5 and set(lexicon.pieces) <= set(pieces_of("good"))
        assert not learn_lexicon(["good film"], most=50, least=2).spell("film")

    def test_other_endings_and_spellings_are_known_other_scripts_not(self):
        lexicon = learn_lexicon(["재미있었어요 wonderful"] * 3, most=500)
        for word in ("재미있네", "재미있었다", "wonderfull", "Wonderful".lower()):
            assert lexicon.spell(word)
        for word in ("плохо", "最悪", "سيء", EMOJI, "zzz", "괜찮"):
            assert lexicon.spell(word) == []

    def test_a_quarter_of_the_pieces_must_be_known(self):
        pieces = pieces_of("film")  # thirteen of them
        assert Lexicon(pieces[:3]).spell("film") == [] and Lexicon(pieces[:4]).spell("film") == [2, 3, 4, 5]

    def test_encoding_spells_each_word_once(self):
        lexicon = learn_lexicon(["good film"] * 3, most=100)
        words, texts = encode(lexicon, [["good", "плохо", "film", "good"], ["плохо"], [], ["film"]])
        assert texts.tolist() == [[2, UNSEEN, 3, 2], [UNSEEN, 0, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0]]
        assert len(words) == 4 and words[NO_WORD].sum() == 0 and words[2][words[2] > 0].tolist() == lexicon.spell("good")
        assert words[UNSEEN].tolist() == [UNSEEN] + [0] * (words.shape[1] - 1)  # one piece, which belongs to no word
        assert UNSEEN not in lexicon.spell("good") + lexicon.spell("film") and lexicon.spell("") == []
        assert words.dtype == texts.dtype == torch.int32


class TestSets:
    def test_sample_is_balanced_and_its_splits_have_nothing_in_common(self):
        sets = write_sample(train=600, held=200)
        assert set(sets) == {"en", "ko"} and not sets["en"].is_real and "made-up" in sets["ko"].source
        for one in sets.values():
            splits = [set(split.texts) for split in (one.train, one.validation, one.test)]
            assert not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])
            assert all(0.35 < split.labels.float().mean() < 0.65 for split in (one.train, one.validation, one.test))

    def test_without_real_data_there_is_the_sample(self, without_data, monkeypatch):
        monkeypatch.setattr(data, "write_sample", world)
        assert set(load("auto")) == set(load("sample")) == {"en", "ko"}
        assert len(load("sample", reviews=7)["en"].train) == 7

    def test_auto_takes_the_real_sets_that_are_there(self, without_data):
        lines = [f"{number}\t{'좋아요' if number % 2 else '별로'} {number}\t{number % 2}" for number in range(60)]
        (without_data / "nsmc").mkdir()
        for split in ("train", "test"):
            path = without_data / "nsmc" / f"ratings_{split}.txt"
            path.write_text("\n".join(["id\tdocument\tlabel", *lines]) + "\n", encoding="utf-8")
        sets = load("auto")
        assert list(sets) == ["nsmc"] and sets["nsmc"].is_real
        one = sets["nsmc"]
        assert (len(one.train), len(one.validation), len(one.test)) == (54, 6, 60)
        assert not set(one.train.texts) & set(one.validation.texts)
        assert all(("좋아요" in text) == label for text, label in zip(one.train.texts, one.train.labels, strict=True))

    def test_damaged_set_is_told(self, without_data):
        (without_data / "nsmc").mkdir()
        (without_data / "nsmc" / "ratings_train.txt").write_text("id\tdocument\tlabel\n1\tonly two\n", encoding="utf-8")
        with pytest.raises(LessonError, match="line 2"):
            load("auto")


class TestBatches:
    @pytest.fixture
    def reviews(self) -> Texts:
        rng = random.Random(1)
        texts = [" ".join(rng.choices(["good", "film"], k=rng.randint(1, 40))) for _ in range(100)]
        return Texts([*texts, "плохо", ""], torch.arange(102) % 2)

    def test_are_all_reviews_once_of_like_length(self, reviews):
        batches = ReviewBatches(learn_lexicon(["good film"] * 3, most=100), reviews, 16, CPU, seed=0)
        seen, waste = [], 0
        for texts, labels in batches:
            lengths = (texts > 0).sum(dim=1)
            assert texts.shape[1] == lengths.max() and (texts[range(len(texts)), lengths - 1] > 0).all()
            waste += int((texts == 0).sum())
            seen += [(tuple(text[text > 0].tolist()), label) for text, label in zip(texts, labels.tolist(), strict=True)]
        number = {word: place for place, word in enumerate(dict.fromkeys(" ".join(reviews.texts[:2]).split()), start=2)}
        expected = [(tuple(number[word] for word in text.split()), float(i % 2)) for i, text in enumerate(reviews.texts[:100])]
        assert sorted(seen) == sorted(expected)  # the last two say nothing that is known
        assert waste < 0.3 * sum(map(len, (text for text, _ in seen)))

    def test_order_is_new_in_every_epoch_and_the_same_for_a_seed(self, reviews):
        lexicon = learn_lexicon(["good film"] * 3, most=100)
        batches, again = (ReviewBatches(lexicon, reviews, 16, CPU, seed=4) for _ in range(2))
        first, second = ([texts.tolist() for texts, _ in batches] for _ in range(2))
        assert first != second and first == [texts.tolist() for texts, _ in again]

    def test_sets_are_put_together(self):
        sets = list(world().values())
        both = all_of([one.test for one in sets])
        assert len(both) == len(sets[0].test) + len(sets[1].test) and both.labels[-1] == sets[1].test.labels[-1]
