"""WordPiece: how BERT cuts text into tokens that are all in a vocabulary of fixed size.

    tokenizer = WordPiece.from_file(Path("vocab.txt"))
    tokenizer.tokens("Unaffable!")         # ["una", "##ffa", "##ble", "!"]
    ids, real = tokenizer.batch(["A sentence.", "Another one, a longer one."])

The text is cut at white space and punctuation, then each word into the longest pieces that the vocabulary has, from the left.
Devlin et al., 2018 (https://arxiv.org/abs/1810.04805), after Schuster and Nakajima, 2012. A program that knows another version of
Unicode may cut otherwise at characters that are new in it (of 1.1 million, at 503 from Hugging Face's tokenizer).
"""

import re
import unicodedata
from pathlib import Path

import torch
from torch import Tensor

from utils import paths
from utils.lesson import LessonError, check, explain

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 100  # characters; a longer one becomes [UNK]
# Chinese characters, each a word of its own: first and last of eight blocks of Unicode. Kana and Hangul are not among them.
CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """A tokenizer with BERT's rules.

    Args:
        vocabulary: Tokens in the order of their ids, among them SPECIAL; a piece that continues a word begins with "##".
        uncased: Lower-case the text and take accents off, as the vocabulary of an "uncased" model expects it. That takes Korean
            syllables apart into letters, too: for a Korean vocabulary say False.

    Attributes:
        ids: From token to id.
    """

    def __init__(self, vocabulary: list[str], uncased: bool = True):
        self.vocabulary, self.uncased = list(vocabulary), uncased
        self.ids = {token: i for i, token in enumerate(self.vocabulary)}
        missing = [token for token in SPECIAL if token not in self.ids]
        check(not missing, f"the vocabulary lacks {', '.join(missing)}: is it one of BERT's?")

    @classmethod
    def from_file(cls, path: Path, uncased: bool = True) -> "WordPiece":
        """Read a vocab.txt: a token in each line, UTF-8.

        Raises:
            LessonError: The file is missing, cannot be read, or is no vocabulary of BERT's.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: a token may be a rare line separator
            return cls(lines[:-1] if lines[-1] == "" else lines, uncased)
        except FileNotFoundError:
            raise LessonError(f"{paths.short(path)} does not exist: the vocabulary has to lie beside the weights") from None
        except OSError as error:
            raise LessonError(explain(error)) from None
        except UnicodeDecodeError:
            raise LessonError(f"{paths.short(path)} is not UTF-8 text: is it a vocabulary?") from None
        except LessonError as error:
            raise LessonError(f"{paths.short(path)}: {error}") from None

    def words(self, text: str) -> list[str]:
        """Cut text at white space and around punctuation and Chinese characters; control characters vanish."""
        text = "".join(_cleaned(character) for character in text)
        if self.uncased:
            text = "".join(part for part in unicodedata.normalize("NFD", text) if unicodedata.category(part) != "Mn")
            text = "".join(character.lower() for character in text)  # one by one: a final sigma is like any other
        return "".join(f" {c} " if _is_punctuation(c) else c for c in text).split()

    def pieces(self, word: str) -> list[str]:
        """Cut a word into the longest pieces that the vocabulary has, from the left; ["[UNK]"] where that does not work out."""
        found, start = [], 0
        while start < len(word) <= LONGEST_WORD:
            starts = "##" if start else ""
            end = next((end for end in range(len(word), start, -1) if starts + word[start:end] in self.ids), None)
            if end is None:
                return ["[UNK]"]
            found.append(starts + word[start:end])
            start = end
        return found or ["[UNK]"]

    def tokens(self, text: str) -> list[str]:
        """Cut text into tokens. Special tokens that are written out in it, like "[MASK]", stay whole."""
        found = []
        for part in re.split(f"({'|'.join(map(re.escape, SPECIAL))})", text):
            found += [part] if part in SPECIAL else [piece for word in self.words(part) for piece in self.pieces(word)]
        return found

    def encode(self, text: str, second: str | None = None, longest: int | None = None) -> list[int]:
        """Ids of [CLS] text [SEP], or of [CLS] text [SEP] second [SEP]; a single text may be cut off at `longest` ids."""
        one = [self.ids[token] for token in self.tokens(text)]
        cls, sep = self.ids["[CLS]"], self.ids["[SEP]"]
        if second is None:
            return [cls, *(one if longest is None else one[: longest - 2]), sep]
        return [cls, *one, sep, *(self.ids[token] for token in self.tokens(second)), sep]

    def batch(self, texts: list[str], longest: int = 512) -> tuple[Tensor, Tensor]:
        """Encode texts and fill them up with [PAD]: ids (texts, steps), and (texts, steps) bool, True where a token is real."""
        rows = [torch.tensor(self.encode(text, longest=longest)) for text in texts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.ids["[PAD]"])
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(ids.shape[1]) < lengths[:, None]

    def text(self, ids: list[int]) -> str:
        """Join tokens to words again, with a space between any two words."""
        return " ".join(self.vocabulary[i] for i in ids).replace(" ##", "")


def _cleaned(character: str) -> str:
    """A character as the cutting wants it: white space as " ", controls as "", Chinese characters with a space on both sides."""
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    return f" {character} " if any(first <= ord(character) <= last for first, last in CHINESE) else character


def _is_punctuation(character: str) -> bool:
    """Everything that Unicode calls punctuation, and all signs on an English keyboard, also `$`, `+` and `~`."""
    ascii_sign = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return ascii_sign or unicodedata.category(character).startswith("P")
