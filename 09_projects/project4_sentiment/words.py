"""From a text to what the network reads: words, and for every word the pieces of which it consists.

    lexicon = learn_lexicon(training_texts, most=30_000)
    words, texts = encode(lexicon, ["재미있어요!", "not a good film"])     # what `model.ReviewClassifier` takes

A word is known by its pieces: all runs of two to four letters in it, its beginning and end marked, and the whole of it
(Bojanowski et al., 2017, https://arxiv.org/abs/1607.04606). 재미있었어요 and 재미있네 share <재, 재미, 미있 and more, so that an
ending nobody has seen does not make a word unknown. English endings and spelling mistakes are met in the same way.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

HEAD, TAIL = 100, 200  # words of a long text that are read: its first ones, and its last ones, where verdicts tend to stand
LONGEST = 16  # letters of a word; what is longer was written without spaces, and is cut
KNOWN = 0.25  # the share of a word's pieces that must be known, or the word is not seen
NO_WORD, UNSEEN = 0, 1  # rows of `encode`: padding, and a word of which only is seen that it is there
# Letters and digits, with apostrophes inside; or punctuation, emoji and the like.
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]+|_+")


class Span(NamedTuple):
    """Where in a text a word stands: text[start:end]."""

    start: int
    end: int


def clean(text: str) -> str:
    """Bring a text into one form: composed characters, straight apostrophes, and "?" for half a surrogate.

    Some programs write Hangul taken apart into jamo (NFD), macOS in the names of files; composed (NFC), a syllable is one letter.
    """
    whole = text.encode("utf-8", errors="replace").decode("utf-8")
    return unicodedata.normalize("NFC", whole).replace("’", "'")


def find_words(text: str) -> list[Span]:
    """The words of a clean text, in order. Spaces belong to none of them."""
    spans = []
    for match in WORD.finditer(text):
        start, end = match.span()
        spans += [Span(first, min(first + LONGEST, end)) for first in range(start, end, LONGEST)]
    return spans


def window(spans: Sequence[Span]) -> list[Span]:
    """What is read of a long text: its first HEAD words and its last TAIL words. A shorter one is read in full."""
    return list(spans) if len(spans) <= HEAD + TAIL else [*spans[:HEAD], *spans[-TAIL:]]


def words_of(text: str) -> list[str]:
    """The words of a text that are read, in small letters."""
    text = clean(text)
    return [text[start:end].lower() for start, end in window(find_words(text))]


def pieces_of(word: str) -> list[str]:
    """The pieces of a word: film → <film>, <f, fi, il, lm, m>, <fi, fil, ilm, lm>, <fil, film, ilm>."""
    marked = f"<{word}>"
    runs = [marked[i : i + n] for n in (2, 3, 4) for i in range(len(marked) - n + 1)]
    return list(dict.fromkeys([marked, *runs]))


class Lexicon:
    """The pieces that are known, and their numbers from 2 on; 0 is none, and 1 the only piece of every word that is not seen."""

    def __init__(self, pieces: Iterable[str]):
        self.pieces = list(pieces)
        self._numbers = {piece: number for number, piece in enumerate(self.pieces, start=2)}

    def __len__(self) -> int:
        return len(self.pieces)

    def spell(self, word: str) -> list[int]:
        """The numbers of a word's known pieces; none, if they are less than a quarter of it: then the word is unknown."""
        pieces = pieces_of(word)
        numbers = [self._numbers[piece] for piece in pieces if piece in self._numbers]
        return numbers if len(numbers) >= KNOWN * len(pieces) else []


def learn_lexicon(texts: Iterable[str], most: int, least: int = 3) -> Lexicon:
    """The most frequent pieces of the training texts.

    Args:
        texts: To learn from.
        most: How many pieces to know.
        least: How often a piece must occur.
    """
    counts: Counter[str] = Counter()
    for word, count in Counter(word for text in texts for word in words_of(text)).items():
        for piece in pieces_of(word):
            counts[piece] += count
    frequent = sorted((-count, piece) for piece, count in counts.items() if count >= least)  # of equals the first by alphabet
    return Lexicon(piece for _, piece in frequent[:most])


def encode(lexicon: Lexicon, texts: Iterable[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Turn texts, each a list of words, into tensors. A word that comes a thousand times is spelled once.

    Returns:
        words: (different words + 2, pieces), the pieces' numbers; 0 fills up. The first row is NO_WORD, the second UNSEEN.
        texts: (texts, longest text), the words' rows; NO_WORD fills up, and unknown words are UNSEEN. Both int32.
    """
    rows: dict[str, int] = {}
    spelled = [torch.tensor([number], dtype=torch.int32) for number in (NO_WORD, UNSEEN)]
    found = []
    for text in texts:
        for word in text:
            if word not in rows:
                numbers = lexicon.spell(word)
                rows[word] = len(spelled) if numbers else UNSEEN
                if numbers:
                    spelled.append(torch.tensor(numbers, dtype=torch.int32))
        found.append(torch.tensor([rows[word] for word in text], dtype=torch.int32))
    return pad_sequence(spelled, batch_first=True), pad_sequence(found, batch_first=True)
