"""Byte-level BPE, the tokenizer of GPT-2 and of most language models since, in the variant of SmolLM2: every digit by itself.

    tokenizer = read_gguf(GGUF(path))           # or read_json(path), for Hugging Face's tokenizer.json, or train(texts, 2000)
    tokens = tokenizer.encode("Hello, 세상")
    tokenizer.decode(tokens)

Text is cut into words, words into bytes; then pairs that were frequent in training are joined, the most frequent first (Sennrich
et al., 2016, https://arxiv.org/abs/1508.07909). Every text can be written so, in any script. Special tokens are never read out of
a text unless that is asked for: what a user types cannot end the user's turn.
"""

import codecs
import heapq
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from utils import paths
from utils.gguf import GGUF
from utils.lesson import LessonError, check

CONTROL, USER_DEFINED = 3, 4  # kinds of tokens in a GGUF file that are not made of bytes
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's white space; Python's \s has four more
WORDS_KEPT = 50_000  # whose tokens are remembered


@lru_cache
def byte_letters() -> dict[int, str]:
    """A visible character for each of the 256 bytes, as GPT-2 writes them in its vocabulary: itself, or one from 256 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


@lru_cache
def character_classes() -> tuple[str, str]:
    r"""Unicode's letters and numbers (\p{L} and \p{N}, which Python's `re` lacks), as ranges for a [class]."""
    ranges: dict[str, list[list[int]]] = {"L": [], "N": []}
    for code in range(sys.maxunicode + 1):
        found = ranges.get(unicodedata.category(chr(code))[0])
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        elif found is not None:
            found.append([code, code])
    letters, numbers = ("".join(rf"\U{first:08x}-\U{last:08x}" for first, last in found) for found in ranges.values())
    return letters, numbers


@lru_cache
def word_patterns() -> tuple[re.Pattern, re.Pattern]:
    """What cuts a text into digits and the rest, and what finds the words in that: GPT-2's pattern."""
    letters, numbers = character_classes()
    ending, letter, number = r"'(?:[stmd]|re|ve|ll)", rf" ?[{letters}]+", rf" ?[{numbers}]+"
    other, spaces = rf" ?[^{SPACE}{letters}{numbers}]+", rf"[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+"
    return re.compile(f"([{numbers}])"), re.compile("|".join([ending, letter, number, other, spaces]))


class ByteBPE:
    """A vocabulary, and the pairs that are joined.

    Attributes:
        vocabulary: Tokens, written in `byte_letters`, and their numbers.
        special: Tokens that stand for no text, such as <|im_end|>, and their numbers.
    """

    def __init__(self, vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]], special: Mapping[str, int]):
        self.vocabulary, self.special = dict(vocabulary), dict(special)
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        bytes_of = {letter: byte for byte, letter in byte_letters().items()}
        whole = all(len(pair) == 2 and "".join(pair) in self.vocabulary for pair in self._ranks)
        check(whole, "a merge makes a token that the vocabulary lacks")
        self._bytes = {number: name.encode("utf-8") for name, number in self.special.items()}
        for token, number in self.vocabulary.items():
            if token not in self.special:
                check(all(letter in bytes_of for letter in token), f"token {number}, {token!r}, is not written in bytes")
                self._bytes[number] = bytes(bytes_of[letter] for letter in token)
        longest_first = sorted(self.special, key=len, reverse=True)
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if self.special else None
        self._word = lru_cache(WORDS_KEPT)(self._join)

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs that are joined, the first one first."""
        return list(self._ranks)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Turn a text into tokens.

        Args:
            text: Any; of a surrogate without its partner only "?" is left.
            special: Read <|im_end|> and the like as special tokens. Never with what somebody else has written.
        """
        if special and self._special_pattern is not None:
            parts = self._special_pattern.split(text)  # special tokens at odd places
            return [token for i, part in enumerate(parts) for token in ([self.special[part]] if i % 2 else self._plain(part))]
        return self._plain(text)

    def decode(self, tokens: Iterable[int], special: bool = False) -> str:
        """Turn tokens back into text; bytes that are no UTF-8 become �. With special=True special tokens are written out."""
        known = self._bytes if special else {**self._bytes, **dict.fromkeys(self.special.values(), b"")}
        return b"".join(known[token] for token in tokens).decode("utf-8", errors="replace")

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Text as tokens come in. A character whose bytes are spread over several tokens appears with its last."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in tokens:
            if piece := decoder.decode(self._bytes[token]):
                yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    def _plain(self, text: str) -> list[int]:
        digits, words = word_patterns()
        return [token for part in digits.split(text) for word in words.findall(part) for token in self._word(word)]

    def _join(self, word: str) -> tuple[int, ...]:
        """The tokens of a word: its bytes, pairs joined by rank, of equals the first. n letters take n log n steps."""
        letters = byte_letters()
        parts: list[str | None] = [letters[byte] for byte in word.encode("utf-8", errors="replace")]
        after, before = [*range(1, len(parts)), -1], [*range(-1, len(parts) - 1)]
        waiting: list[tuple[int, int, str, str]] = []  # rank, place of the left part, and the two parts as they were then

        def offer(left: int, right: int) -> None:
            if left >= 0 and right >= 0 and (parts[left], parts[right]) in self._ranks:
                pair = parts[left], parts[right]
                heapq.heappush(waiting, (self._ranks[pair], left, *pair))

        for i in range(len(parts) - 1):
            offer(i, i + 1)
        while waiting:
            _, left, one, other = heapq.heappop(waiting)
            right = after[left]
            if parts[left] != one or right < 0 or parts[right] != other:
                continue  # one of them was joined to something else meanwhile
            parts[left], parts[right] = one + other, None
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        return tuple(
            self.vocabulary[part] for part in parts if part in self.vocabulary
        )  # a byte that nobody has seen is left out


def train(texts: Iterable[str], vocab_size: int, special: Sequence[str] = (), least: int = 2) -> ByteBPE:
    """Learn a vocabulary: join the most frequent pair of tokens inside words, again and again, until there are enough tokens.

    Of equally frequent pairs the one with the smaller numbers is joined first, as in Hugging Face's trainer.

    Args:
        texts: To learn from; each is cut into words by itself.
        vocab_size: Tokens in the end, special ones and the 256 bytes among them. Fewer, where no pair is frequent enough.
        special: Tokens that stand for no text; they get the first numbers.
        least: How often a pair must occur to be joined.

    Raises:
        LessonError: `vocab_size` has no room for the bytes.
    """
    letters = byte_letters()
    names = [*special, *sorted(letters.values())]
    check(vocab_size >= len(names), f"a vocabulary of {vocab_size} tokens: {len(names)} are needed for bytes and special tokens")
    number = {name: i for i, name in enumerate(names)}
    digits, words = word_patterns()
    found = Counter(word for text in texts for part in digits.split(text) for word in words.findall(part))
    parts = [[number[letters[byte]] for byte in word.encode("utf-8", errors="replace")] for word in found]
    counts = list(found.values())
    frequency: Counter[tuple[int, int]] = Counter()
    places: dict[tuple[int, int], set[int]] = defaultdict(set)  # in which words a pair occurs, or did
    for place, (word, count) in enumerate(zip(parts, counts, strict=True)):
        for pair in pairwise(word):
            frequency[pair] += count
            places[pair].add(place)
    waiting = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(waiting)
    merges = []
    while waiting and len(names) < vocab_size:
        count, pair = heapq.heappop(waiting)
        if -count != frequency[pair]:  # it has become rarer since it was put here
            if frequency[pair] >= least:
                heapq.heappush(waiting, (-frequency[pair], pair))
            continue
        if -count < least:
            break
        new = len(names)
        merges.append((names[pair[0]], names[pair[1]]))
        names.append("".join(merges[-1]))
        changed = set()
        for place in places.pop(pair):
            before, after = parts[place], _merged(parts[place], pair, new)
            parts[place] = after
            for old in pairwise(before):
                frequency[old] -= counts[place]
            for made in pairwise(after):
                frequency[made] += counts[place]
                if new in made:
                    places[made].add(place)
                    changed.add(made)
        for made in changed:
            heapq.heappush(waiting, (-frequency[made], made))
    vocabulary = {name: i for i, name in enumerate(names)}
    return ByteBPE(vocabulary, merges, {name: vocabulary[name] for name in special})


def _merged(word: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replace each pair in a word, from the left, by its new token."""
    out, i = [], 0
    while i < len(word):
        joined = tuple(word[i : i + 2]) == pair
        out.append(new if joined else word[i])
        i += 1 + joined
    return out


def read_gguf(file: GGUF) -> ByteBPE:
    """The tokenizer in a GGUF file's metadata.

    Raises:
        LessonError: There is none, or one of another kind.
    """
    kind = tuple(file.metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    check(kind == ("gpt2", "smollm"), f"{paths.short(file.path)}: a tokenizer of the kind {kind}; only SmolLM's is known here")
    tokens, kinds, merges = (file.metadata.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type", "merges"))
    whole = isinstance(tokens, list) and isinstance(merges, list) and kinds is not None and len(kinds) == len(tokens)
    check(whole, f"{paths.short(file.path)}: its tokenizer is incomplete")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    special = {token: number for token, number in vocabulary.items() if kinds[number] in (CONTROL, USER_DEFINED)}
    return ByteBPE(vocabulary, [tuple(merge.split(" ")) for merge in merges], special)


def read_json(path: Path) -> ByteBPE:
    """The tokenizer in a tokenizer.json of Hugging Face's, of SmolLM's kind.

    Raises:
        LessonError: It is not such a file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model, cut = content["model"], json.dumps(content["pre_tokenizer"])
        merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
        special = {token["content"]: token["id"] for token in content["added_tokens"]}
        known = model["type"] == "BPE" and '"ByteLevel"' in cut and '"individual_digits": true' in cut
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LessonError(f"{paths.short(path)} is not a tokenizer.json: {type(error).__name__}, {error}") from None
    check(known, f"{paths.short(path)}: not a byte-level BPE with single digits, the only kind that is known here")
    return ByteBPE(model["vocab"] | special, merges, special)
