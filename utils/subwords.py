"""Words as sets of their character n-grams, so that a word nobody has seen is still read by its parts (Bojanowski et al., 2017).

    subwords = Subwords(train_texts, least=5)
    encoded = subwords.encode(texts, longest=60)     # one tensor of word numbers for each text
    ids, real = subwords.batch(encoded)              # (texts, words, parts), 0 where there is none; (texts, words) bool

A network adds up the vectors of a word's parts. Korean puts its endings on the word: 재미있다, 재미있었다 and 재미없었지만 are
three words, but they have 재미 in common, and 있 or 없 tells what is thought.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from utils.lesson import check

WORD = re.compile(r"[\w']+|([^\w\s])\1*")  # "!!!" is one word
LENGTHS = {"hangul": (1, 4), "other": (3, 6)}  # of n-grams: a syllable of Hangul is two or three letters
MOST_PARTS = 24


def words(text: str) -> list[str]:
    """Cut text into words in lower case, and runs of the same sign."""
    return [match[0] for match in WORD.finditer(unicodedata.normalize("NFC", text).lower())]


def parts(word: str) -> list[str]:
    """The word, marked by "=", and its n-grams; "<" and ">" stand for where it begins and ends. At most MOST_PARTS."""
    shortest, longest = LENGTHS["hangul" if re.search("[가-힣]", word) else "other"]
    bounded = f"<{word}>"
    grams = [bounded[i : i + n] for n in range(shortest, longest + 1) for i in range(len(bounded) - n + 1)]
    return [f"={word}", *(gram for gram in grams if gram not in "<>")][:MOST_PARTS]


class Subwords:
    """Numbers for the parts that occur in texts to learn from.

    Args:
        texts: To learn from.
        least: Parts that occur in fewer words of the texts get no number.

    Attributes:
        ids: From part to number; 0 is none.
    """

    def __init__(self, texts: list[str], least: int):
        counts = Counter()
        for word, times in Counter(word for text in texts for word in words(text)).items():
            for part in set(parts(word)):
                counts[part] += times
        self.ids = {part: i for i, part in enumerate(sorted(part for part in counts if counts[part] >= least), start=1)}
        check(bool(self.ids), f"no part of a word occurs {least} times in {len(texts)} texts")
        self._numbers: dict[str, int] = {}
        self._parts: list[Tensor] = [torch.zeros(1, dtype=torch.int64)]  # of each word; the first one is the empty text's
        self._table = torch.zeros(1, 1, dtype=torch.int64)

    def __len__(self) -> int:
        """Numbers there are, 0 included: the rows that an embedding needs."""
        return len(self.ids) + 1

    def encode(self, texts: list[str], longest: int) -> list[Tensor]:
        """Number the words of each text, `longest` of them at most. A text without any gets one word that has no parts."""
        encoded = [torch.tensor([self._number(word) for word in words(text)[:longest]] or [0]) for text in texts]
        if len(self._table) < len(self._parts):  # words have been met for the first time
            self._table = pad_sequence(self._parts, batch_first=True)
        return encoded

    def batch(self, encoded: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Fill up to the longest text: the parts (texts, words, parts), 0 for none, and which words are real (texts, words)."""
        lengths = torch.tensor([len(text) for text in encoded])
        real = torch.arange(int(lengths.max())) < lengths[:, None]
        return self._table[pad_sequence(encoded, batch_first=True)], real

    def draw_batches(self, encoded: list[Tensor], size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield batches of texts of similar length, so that there is little padding, in ever new random orders, without an end.

        Each is (positions in `encoded`, parts, which words are real).
        """
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.tensor([len(text) for text in encoded])
        while True:
            pools = torch.randperm(len(encoded), generator=generator).split(20 * size)
            batches = [batch for pool in pools for batch in pool[lengths[pool].argsort()].split(size)]
            for i in torch.randperm(len(batches), generator=generator).tolist():
                yield batches[i], *self.batch([encoded[j] for j in batches[i].tolist()])

    def _number(self, word: str) -> int:
        if word not in self._numbers:
            self._numbers[word] = len(self._parts)
            self._parts.append(torch.tensor([self.ids[part] for part in parts(word) if part in self.ids] or [0]))
        return self._numbers[word]
