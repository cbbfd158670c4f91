"""What text costs before a network sees it: our byte-level BPE in Python against Hugging Face's in Rust, on the same text.

    python benchmarks/text.py train        learning a vocabulary (1 minute)
    python benchmarks/text.py encode       turning text into tokens, new words and known ones (1 minute)

It needs NSMC and Multi30k (python -m study data), `pip install tokenizers`, and a machine that does nothing else. What was
measured is in README.md here.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import tyro

from utils import byte_bpe, datasets
from utils.lesson import LessonError, check, mention, run


def texts(language: str) -> list[str]:
    """Film reviews in Korean, or captions in English."""
    if language == "ko":
        return datasets.nsmc("real").train.texts
    pairs = datasets.multi30k("en", "de")
    check(pairs is not None, "Multi30k is not there:  python -m study data multi30k")
    return [english for english, _ in pairs.train]


def theirs():
    """Hugging Face's byte-level BPE with our way of cutting text, not trained."""
    try:
        import tokenizers
    except ImportError:
        raise LessonError("the reference is not installed:  pip install tokenizers") from None
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    mention("reference", f"tokenizers {tokenizers.__version__}, one thread")
    return tokenizer


def learn_theirs(tokenizer, lines: list[str], vocab_size: int) -> None:
    """Train it, with all 256 bytes in its alphabet as ours has."""
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    trainer = BpeTrainer(vocab_size=vocab_size, min_frequency=2, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)


def seconds(action: Callable[[], object]) -> float:
    """How long it takes, once."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def train(lines: list[str], vocab_size: int, repeats: int) -> dict[str, float]:
    """Both learn a vocabulary from the same lines, in turn; it is the same vocabulary."""
    ours, other = [], []
    for _ in range(repeats):
        tokenizer = theirs()
        other.append(seconds(partial(learn_theirs, tokenizer, lines, vocab_size)))
        ours.append(seconds(partial(byte_bpe.train, lines, vocab_size)))
    mine = byte_bpe.train(lines, vocab_size)
    check(tokenizer.encode(lines[0]).tokens == [name_of(mine, token) for token in mine.encode(lines[0])], "tokens differ")
    return compared("train", ours, other)


def name_of(tokenizer: byte_bpe.ByteBPE, token: int) -> str:
    """A token as it is written in the vocabulary."""
    return next(name for name, number in tokenizer.vocabulary.items() if number == token)


def encode_all(tokenizer, lines: list[str]) -> None:
    """Line by line, as a data set does it."""
    for line in lines:
        tokenizer.encode(line)


def encode(lines: list[str], vocab_size: int, repeats: int) -> dict[str, float]:
    """Both turn the same lines into tokens: words that they see for the first time, and then all of them again."""
    tokenizer, mine = theirs(), byte_bpe.train(lines[:10_000], vocab_size)
    learn_theirs(tokenizer, lines[:10_000], vocab_size)
    held, times = lines[10_000:20_000], {}
    for _ in range(repeats):
        again = byte_bpe.ByteBPE(mine.vocabulary, mine.merges, mine.special)  # knows no word yet
        fresh = tokenizer.from_str(tokenizer.to_str())
        for name in ("first", "again"):
            times.setdefault(name, ([], []))
            times[name][0].append(seconds(partial(encode_all, again, held)))
            times[name][1].append(seconds(partial(encode_all, fresh, held)))
    found = {}
    for name, (ours, other) in times.items():
        found |= compared(name, ours, other)
    return found


def compared(name: str, ours: list[float], other: list[float]) -> dict[str, float]:
    """Medians, and the median of the ratios of runs that came one after the other."""
    ratios = [one / another for one, another in zip(ours, other, strict=True)]
    return {
        f"{name}_ours": statistics.median(ours),
        f"{name}_theirs": statistics.median(other),
        f"{name}_ratio": statistics.median(ratios),
    }


def main(
    what: Annotated[Literal["train", "encode"], tyro.conf.Positional],
    language: Literal["ko", "en"] = "ko",
    vocab_size: int = 8000,
    repeats: int = 5,
) -> dict[str, float]:
    """Measure one thing.

    Args:
        what: What to measure.
        language: Of the texts.
        vocab_size: Tokens, 256 bytes among them.
        repeats: Runs of each; their median counts.
    """
    return {"train": train, "encode": encode}[what](texts(language), vocab_size, repeats)


if __name__ == "__main__":
    run(main)
