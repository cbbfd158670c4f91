"""Byte-pair encoding · 바이트 쌍 인코딩

Words are too many, characters too short. BPE starts from characters or bytes and joins the most frequent pair, again and again:
what is frequent in the texts that it learns from becomes one token, and what was never seen can still be spelled.
낱말은 너무 많고 글자는 너무 짧다. BPE는 글자나 바이트에서 시작해 가장 잦은 쌍을 잇기를 되풀이한다. 배우는 글에서 잦은 것은 토큰
하나가 되고, 한 번도 본 적 없는 것도 조각으로 적을 수 있다.

You will
  1. learn merges from scratch, on characters and on bytes, and see how often a tie decides
  2. encode what was never seen, equal to utils/byte_bpe.py; with bytes nothing is lost, and one error waits
  3. count tokens per word, in English and in Korean, as the vocabulary grows
  4. see what a tokenizer that has learned English makes of Korean
  5. predict the next token by counting: the smallest loss per token is the worst model

Before     07_nlp/text_preprocessing.py
Run        python -m study run byte_pair_encoding     (about 6 s on one CPU core, after importing torch)
You see    2.4 tokens an English word, 3.1 a Korean one; 9.7 if only English was learned; equal to utils; tokens_per_word.png
Try next   --korean 0.1: a tenth of the Korean texts. First guess tokens per word, in Korean and in English
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise
from typing import Literal

import torch

from utils import byte_bpe
from utils.datasets import chatterbot, korean_english
from utils.gguf import GGUF
from utils.language import ngram_losses
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.weights import SMOLLM2

Pair = tuple[str, str]
UNKNOWN, SIZES = "<unk>", (256, 400, 600, 800, 1000, 1200, 1500)  # SIZES of vocabularies that are compared; 256: only bytes
NEW = "뷁 ① 👩‍👩‍👧 naïve  ŝtelo\n"  # what no training text has


# %% 1. Learning
def cut_characters(text: str) -> list[str]:
    """Cut text into words, with a sign in front of each: it says where a word begins, so that text can be put together again."""
    return ["▁" + word for word in text.split()]


def cut_bytes(text: str) -> list[str]:
    """Cut text into words by GPT-2's rules, and write each of their bytes as a letter of its own, a space as Ġ."""
    (digits, words), letters = byte_bpe.word_patterns(), byte_bpe.byte_letters()
    found = [word for part in digits.split(text) for word in words.findall(part)]  # a space belongs to the word after it
    return ["".join(letters[byte] for byte in word.encode()) for word in found]


def join(parts: list[str], pair: Pair) -> list[str]:
    """Join a pair wherever it stands, from the left: of a a a the first two."""
    joined, i = [], 0
    while i < len(parts):
        both = tuple(parts[i : i + 2]) == pair
        joined.append(pair[0] + pair[1] if both else parts[i])
        i += 1 + both
    return joined


def learn(texts: Iterable[str], cut: Callable[[str], list[str]], size: int) -> "BPE":
    """Join the most frequent pair of tokens inside words, again and again, until there are `size` tokens.

    Of equally frequent pairs that with the smaller numbers is joined, the left token's first, as in Hugging Face's trainer.
    """
    words = Counter(word for text in texts for word in cut(text))
    first = byte_bpe.byte_letters().values() if cut is cut_bytes else {letter for word in words for letter in word}
    alphabet = sorted(first) if cut is cut_bytes else [UNKNOWN, *sorted(first)]
    check(size >= len(alphabet), f"--size {size} is too small: the letters alone are {len(alphabet)}")
    ids, parts, counts = {token: i for i, token in enumerate(alphabet)}, {word: list(word) for word in words}, Counter()
    for word, often in words.items():
        for pair in pairwise(word):
            counts[pair] += often
    merges, ties = [], 0
    while len(ids) < size and (most := max(counts.values(), default=0)) > 1:  # what occurs once is left
        best = [pair for pair, often in counts.items() if often == most]
        pair, ties = min(best, key=lambda pair: (ids[pair[0]], ids[pair[1]])), ties + (len(best) > 1)
        merges.append(pair)
        ids.setdefault("".join(pair), len(ids))  # what two different pairs make is one token
        for word in [word for word in parts if "".join(pair) in word]:  # nothing changes in the others
            for old in pairwise(parts[word]):
                counts[old] -= words[word]
            parts[word] = join(parts[word], pair)
            for new in pairwise(parts[word]):
                counts[new] += words[word]
    return BPE(cut, merges, ids, ties)


# %% 2. Encoding
class BPE:
    """A tokenizer: how text is cut into words, the pairs to be joined in the order in which they were learned, all tokens."""

    def __init__(self, cut: Callable[[str], list[str]], merges: list[Pair], ids: dict[str, int], ties: int = 0):
        self.cut, self.merges, self.ids, self.ties = cut, merges, ids, ties
        self.ranks, self.tokens = {pair: rank for rank, pair in enumerate(merges)}, list(ids)

    def smaller(self, size: int) -> "BPE":
        """Return the tokenizer of `size` tokens that this one was on its way."""
        return BPE(self.cut, self.merges[: len(self.merges) - max(0, len(self.ids) - size)], self.ids)

    def split(self, word: str) -> list[str]:
        """Cut a word into tokens: join the pair that was learned first, and of equals the leftmost, until none is left."""
        parts = list(word)
        while places := [(self.ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in self.ranks]:
            _, i = min(places)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return parts

    def encode(self, text: str) -> list[int]:
        """Turn text into the numbers of its tokens; a character that is not in the alphabet is UNKNOWN, and lost."""
        return [self.ids.get(token, self.ids.get(UNKNOWN)) for word in self.cut(text) for token in self.split(word)]

    def decode(self, ids: Iterable[int], errors: str = "strict") -> str:
        """Turn numbers back into text; errors="replace" makes � of bytes that are no UTF-8."""
        text = "".join(self.tokens[i] for i in ids)
        if self.cut is cut_characters:
            return text.replace("▁", " ").removeprefix(" ")
        byte_of = {letter: byte for byte, letter in byte_bpe.byte_letters().items()}
        return bytes(byte_of[letter] for letter in text).decode("utf-8", errors)


def compare_with_finished(tokenizer: BPE, texts: list[str], new: list[str]) -> dict[str, float]:
    """Learn the same with utils/byte_bpe.py; return how many merges, and how many new texts, come out otherwise."""
    started = time.process_time()
    theirs = byte_bpe.train(texts, len(tokenizer.ids))
    print(f"2. utils/byte_bpe.py learns the same in {time.process_time() - started:.1f} s")
    found = {"different_merges": sum(one != other for one, other in zip(tokenizer.merges, theirs.merges, strict=True))}
    found["different_texts"] = sum(tokenizer.encode(text) != theirs.encode(text) for text in new)
    found["lost_texts"] = sum(tokenizer.decode(tokenizer.encode(text)) != text for text in new)
    print(f"   of {len(new)} new texts {found['different_texts']} are encoded otherwise, {found['lost_texts']} do not come back")
    return found


def meet_error(tokenizer: BPE, text: str) -> str:
    """Decode a text token by token; return Python's answer."""
    ids = tokenizer.encode(text)
    try:
        print("".join(tokenizer.decode([i]) for i in ids))
    except UnicodeDecodeError as error:
        message = str(error)
    pieces = " ".join(tokenizer.decode([i], "replace") for i in ids)
    print(f'   "{message}"\n   read: a token may end in the middle of a character: {pieces}; decode all of {text} at once')
    return message


# %% 3. and 4. Tokens per word, bytes per token
def measure(encode: Callable[[str], list[int]], texts: list[str]) -> tuple[float, float]:
    """Return tokens per word, as spaces cut them, and bytes per token."""
    tokens, words = sum(len(encode(text)) for text in texts), sum(len(text.split()) for text in texts)
    return tokens / words, sum(len(text.encode()) for text in texts) / tokens


def compare_sizes(tokenizer: BPE, sizes: list[int], new: dict[str, list[str]]) -> dict[str, list[float]]:
    """Return tokens per word of each language's new texts with vocabularies of these sizes, and draw them."""
    import matplotlib.pyplot as plt

    tokenizers = [tokenizer.smaller(size) for size in sizes]
    found = {language: [measure(one.encode, texts)[0] for one in tokenizers] for language, texts in new.items()}
    print("3. tokens per word, vocabulary of " + "".join(f"{size:7,}" for size in sizes))
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for language, per_word in found.items():
        print(f"   {language:31}" + "".join(f"{tokens:7.2f}" for tokens in per_word))
        axis.plot(sizes, per_word, "o-", label=language)
    axis.set(xlabel=label("tokens in the vocabulary", "어휘 크기"), ylabel=label("tokens per word", "낱말당 토큰 수"), ylim=0)
    axis.legend()
    save_figure(figure, __file__, "tokens_per_word")
    return found


def compare_languages(known: dict[str, list[str]], new: dict[str, list[str]], size: int) -> dict[str, float]:
    """Return bytes per token of tokenizers that have learned one language or both, on new texts of each."""
    encoders = {language: learn(texts, cut_bytes, size).encode for language, texts in known.items()}
    encoders["both"] = learn([text for texts in known.values() for text in texts], cut_bytes, size).encode
    file, found = SMOLLM2.find(), {}
    if file is not None:
        packed = file.suffix == ".gguf"
        theirs = byte_bpe.read_gguf(GGUF(file)) if packed else byte_bpe.read_json(file.with_name("tokenizer.json"))
        encoders["SmolLM2"] = theirs.encode
    print(f"4. {size:,} tokens learned from   " + "   ".join(f"{language}: per word, bytes" for language in new))
    for name, encode in encoders.items():
        rows = {language: measure(encode, texts) for language, texts in new.items()}
        print(f"   {name:26}" + "".join(f"{tokens:16.2f}{size:7.2f}" for tokens, size in rows.values()))
        found |= {f"{name}_on_{language}": row[1] for language, row in rows.items()}
    return found


# %% 5. Losses
def compare_losses(tokenizer: BPE, sizes: list[int], known: list[str], new: list[str]) -> dict[int, tuple[float, float]]:
    """Predict each token of new texts from the two before it, by counting; return nats per token, and per byte, by size."""
    found, length = {}, len("\n".join(new).encode())
    print("5. loss from two tokens before, nats:")
    for size in sizes:
        one = tokenizer.smaller(size)
        seen, held = (torch.tensor(one.encode("\n".join(texts))) for texts in (known, new))
        loss = ngram_losses(seen, held, size, 3)[-1]
        found[size] = loss, loss * len(held) / length
        print(f"   vocabulary of {size:5,}: {found[size][0]:.3f} per token, {found[size][1]:.3f} per byte")
    return found


# %% All of it, in order
def read_texts(source: str, korean: float) -> list[dict[str, list[str]]]:
    """Return texts to learn from and new ones, both by language; of small talk equally many bytes of each are learned from."""
    if source == "real":
        data = korean_english("real")
        parts = [{"en": [one for one, _ in part], "ko": [other for _, other in part]} for part in (data.train, data.test)]
    else:
        data = {language: chatterbot(language) for language in ("en", "ko")}
        chosen = {name: one.train for name, one in data.items()}, {name: one.test for name, one in data.items()}
        parts = [
            {name: list(dict.fromkeys(turn for one in some for turn in one)) for name, some in part.items()} for part in chosen
        ]
        room = sum(len(text.encode()) for text in parts[0]["ko"])
        ends = accumulate(len(text.encode()) for text in parts[0]["en"])
        parts[0]["en"] = [text for text, end in zip(parts[0]["en"], ends, strict=True) if end <= room]
    parts[0]["ko"] = parts[0]["ko"][: max(1, round(korean * len(parts[0]["ko"])))]
    return parts


def main(size: int = 1500, korean: float = 1.0, source: Literal["sample", "real"] = "sample") -> dict[str, float]:
    """Learn byte-pair encodings, and measure what they make of English and Korean.

    Args:
        size: Tokens of the largest vocabulary.
        korean: Which share of the Korean texts is learned from, besides all English ones.
        source: Small talk (sample), or sentences that are translations of one another (real).
    """
    check(0 < korean <= 1, f"--korean {korean}: a share, more than 0 and at most 1")
    known, new = read_texts(source, korean)
    both = known["en"] + known["ko"]
    for name, cut in (("characters", cut_characters), ("bytes", cut_bytes)):
        tokenizer = learn(both, cut, size)
        told = f"{tokenizer.ties:,} of {len(tokenizer.merges):,} merges chosen among equally frequent ones; the first are"
        print(f"1. {name}: {told}\n   {' '.join(map(''.join, tokenizer.merges[:30]))}")
    results = {"ties": tokenizer.ties} | compare_with_finished(tokenizer, both, [*new["en"], *new["ko"], NEW])
    meet_error(tokenizer, "뷁")
    sizes = [one for one in SIZES if one < size] + [size]
    results |= {f"per_word_{language}": row[-1] for language, row in compare_sizes(tokenizer, sizes, new).items()}
    results |= compare_languages(known, new, size)
    losses = compare_losses(tokenizer, sizes, both, new["en"] + new["ko"])
    results |= {"bytes_per_token_loss": losses[256][0], "per_token_loss": losses[size][0], "per_byte_loss": losses[size][1]}
    check(results["different_merges"] + results["different_texts"] == 0, "the two tokenizers are not the same")
    check(losses[size][1] < losses[256][1], "tokens predict a text no better than bytes: a larger --size?")
    return results


if __name__ == "__main__":
    run(main)
