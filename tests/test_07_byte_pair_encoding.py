"""Byte-pair encoding: the merges and tokens of Hugging Face's trainer and of utils, and what they make of two languages."""

from collections import Counter
from itertools import pairwise

import pytest
from conftest import lesson

from utils import byte_bpe, paths
from utils.datasets.small_stories import write_stories
from utils.lesson import LessonError
from utils.weights import Published

NASTY = ["", " ", "  a  b ", "\n\n x\t", "don't 1234", "뷁쀍 ㅋㅋㅋ", "👩‍👩‍👧 naïve", "a\u00a0b", "ŝŝŝŝ", "中文 العربية"]


@pytest.fixture(scope="module")
def lesson_module():
    return lesson("07_nlp/byte_pair_encoding")


@pytest.fixture(scope="module")
def texts():
    return write_stories(150, seed=0) + ["ㅋㅋㅋㅋㅋㅋㅋ ㅋㅋㅋㅋㅋ", "aaaa aaaaaaa haha hahahaha", "It's 12:30, isn't it?"] * 2


@pytest.fixture(scope="module")
def new():
    return write_stories(40, seed=1) + NASTY


@pytest.fixture(scope="module")
def by_bytes(lesson_module, texts):
    return lesson_module.learn(texts, lesson_module.cut_bytes, 600)


class TestLearning:
    def test_join(self, lesson_module):
        assert lesson_module.join(list("aaabab"), ("a", "b")) == ["a", "a", "ab", "ab"]
        assert lesson_module.join(list("aaaaa"), ("a", "a")) == ["aa", "aa", "a"]
        assert lesson_module.join([], ("a", "a")) == []

    def test_the_most_frequent_pair_first_and_of_equals_that_with_the_smallest_numbers(self, lesson_module):
        tokenizer = lesson_module.learn(["bc bc bc ab ab ab 가나 가나 x"], lesson_module.cut_characters, 100)
        assert list(tokenizer.ids)[:9] == ["<unk>", "a", "b", "c", "x", "▁", "가", "나", "ab"]
        assert tokenizer.merges == [("a", "b"), ("b", "c"), ("▁", "ab"), ("▁", "bc"), ("▁", "가"), ("▁가", "나")]
        assert tokenizer.ties == 4  # ab, bc, ▁a, ▁b: three of each; in the end three pairs of 가나, then two

    def test_as_counting_everything_anew(self, lesson_module, texts):
        """The counts that are kept up to date are those that one would count."""
        words = Counter(word for text in texts for word in lesson_module.cut_characters(text))
        parts, tokenizer = {word: list(word) for word in words}, lesson_module.learn(texts, lesson_module.cut_characters, 400)
        for merge in tokenizer.merges:
            counts = Counter()
            for word, often in words.items():
                counts.update(pair for pair in pairwise(parts[word]) for _ in range(often))
            assert merge == min(counts, key=lambda pair: (-counts[pair], *(tokenizer.ids[part] for part in pair)))
            parts = {word: lesson_module.join(tokens, merge) for word, tokens in parts.items()}
        assert len(tokenizer.ids) == 400

    def test_a_smaller_one_is_what_it_was_on_its_way(self, lesson_module, texts, new, by_bytes):
        small, smaller = lesson_module.learn(texts, lesson_module.cut_bytes, 400), by_bytes.smaller(400)
        assert small.merges == smaller.merges
        assert [small.encode(text) for text in new] == [smaller.encode(text) for text in new]
        assert by_bytes.smaller(10**6).merges == by_bytes.merges
        assert by_bytes.smaller(256).encode("가a") == [small.ids[letter] for letter in lesson_module.cut_bytes("가a")[0]]


class TestEquality:
    def test_utils(self, lesson_module, texts, new, by_bytes):
        found = lesson_module.compare_with_finished(by_bytes, texts, new)
        assert found == {"different_merges": 0, "different_texts": 0, "lost_texts": 0}
        assert byte_bpe.train(texts, 600).vocabulary == by_bytes.ids

    def test_hugging_face_on_bytes(self, lesson_module, texts, new, by_bytes):
        tokenizers = pytest.importorskip("tokenizers")
        pieces = tokenizers.pre_tokenizers
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
        theirs.pre_tokenizer = pieces.Sequence([pieces.Digits(individual_digits=True), pieces.ByteLevel(add_prefix_space=False)])
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=600, min_frequency=2, initial_alphabet=pieces.ByteLevel.alphabet(), show_progress=False
        )
        self.compare(theirs, trainer, by_bytes, texts, new)

    def test_hugging_face_on_characters(self, lesson_module, texts, new):
        tokenizers = pytest.importorskip("tokenizers")
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
        theirs.normalizer = tokenizers.normalizers.Sequence(  # spaces at the ends, and several in a row: as str.split has them
            [tokenizers.normalizers.Replace(tokenizers.Regex(r"\s+"), " "), tokenizers.normalizers.Strip()]
        )
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=500, min_frequency=2, special_tokens=["<unk>"], show_progress=False)
        self.compare(theirs, trainer, lesson_module.learn(texts, lesson_module.cut_characters, 500), texts, new)

    @staticmethod
    def compare(theirs, trainer, ours, texts, new):
        """The same merges in the same order, the same numbers, and the same tokens of texts that neither has seen."""
        import json

        theirs.train_from_iterator(texts, trainer)
        merges = [
            tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in json.loads(theirs.to_str())["model"]["merges"]
        ]
        assert merges == ours.merges
        assert theirs.get_vocab() == ours.ids
        assert [theirs.encode(text).ids for text in new] == [ours.encode(text) for text in new]


class TestEncoding:
    def test_nothing_is_lost_with_bytes(self, by_bytes, new):
        assert [by_bytes.decode(by_bytes.encode(text)) for text in new] == new

    def test_characters_that_were_never_seen_are_lost(self, lesson_module, texts):
        tokenizer = lesson_module.learn(texts, lesson_module.cut_characters, 400)
        assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0]
        assert tokenizer.decode(tokenizer.encode("Nora 뷁 has")) == "Nora <unk> has"

    def test_the_error(self, lesson_module, by_bytes, capsys):
        assert "can't decode byte 0xeb in position 0: unexpected end of data" in lesson_module.meet_error(by_bytes, "뷁")
        assert "�" in capsys.readouterr().out


class TestLanguages:
    def test_measure(self, lesson_module):
        assert lesson_module.measure(lambda text: list(text.encode()), ["ab c", "가"]) == (7 / 3, 1)

    def test_what_was_not_learned_from_falls_into_bytes(self, lesson_module, monkeypatch):
        monkeypatch.setattr(lesson_module, "SMOLLM2", Published("none", "no-such-package", "none", "00"))
        known, new = lesson_module.read_texts("sample", 1.0)
        sizes = [sum(len(text.encode()) for text in texts) for texts in known.values()]
        assert 0.99 < sizes[0] / sizes[1] <= 1, "equally many bytes of both languages"
        found = lesson_module.compare_languages({name: part[:300] for name, part in known.items()}, new, 500)
        assert found["en_on_ko"] < 1.02 and found["ko_on_en"] < 1.2
        assert found["ko_on_ko"] > 2.2 and found["en_on_en"] > 1.7
        assert 1.4 < found["both_on_en"] < found["en_on_en"] and 1.7 < found["both_on_ko"] < found["ko_on_ko"]

    def test_larger_vocabularies(self, lesson_module, by_bytes, texts, new):
        found = lesson_module.compare_sizes(by_bytes, [256, 400, 600], {"new": new[:40]})["new"]
        assert found[0] > 1.5 * found[1] > 1.5 * found[2]
        assert (paths.outputs("byte_pair_encoding") / "tokens_per_word.png").exists()
        losses = lesson_module.compare_losses(by_bytes, [256, 600], texts, new[:40])
        assert losses[256][0] == pytest.approx(losses[256][1])
        assert losses[600][0] > losses[256][0] and losses[600][1] < losses[256][1]


class TestMain:
    def test_reads_a_share_of_the_korean_texts(self, lesson_module):
        whole, tenth = (lesson_module.read_texts("sample", share)[0] for share in (1.0, 0.1))
        assert tenth["ko"] == whole["ko"][: round(0.1 * len(whole["ko"]))] and tenth["en"] == whole["en"]

    @pytest.fixture
    def few_texts(self, lesson_module, monkeypatch, texts, new):
        monkeypatch.setattr(
            lesson_module, "read_texts", lambda source, korean: ({"en": texts, "ko": texts}, {"en": new, "ko": new})
        )
        monkeypatch.setattr(lesson_module, "SMOLLM2", Published("none", "no-such-package", "none", "00"))

    def test_everything(self, lesson_module, few_texts, capsys):
        results = lesson_module.main(size=420, korean=1.0, source="sample")
        assert results["different_merges"] == results["different_texts"] == results["lost_texts"] == 0
        assert results["per_byte_loss"] < results["bytes_per_token_loss"] < results["per_token_loss"]
        assert results["per_word_en"] == results["per_word_ko"] > 1
        assert "merges chosen among equally frequent ones" in capsys.readouterr().out

    def test_check_notices_another_result_than_that_of_utils(self, lesson_module, few_texts, monkeypatch):
        found = {"different_merges": 1, "different_texts": 0, "lost_texts": 0}
        monkeypatch.setattr(lesson_module, "compare_with_finished", lambda *_: found)
        with pytest.raises(LessonError, match="not the same"):
            lesson_module.main(size=420, korean=1.0, source="sample")

    @pytest.mark.parametrize(("flags", "told"), [({"size": 255}, "letters alone are"), ({"korean": 0.0}, "--korean 0")])
    def test_check_notices_settings_that_cannot_be(self, lesson_module, flags, told):
        with pytest.raises(LessonError, match=told):
            lesson_module.main(**{"size": 1500, "korean": 1.0, "source": "sample"} | flags)
