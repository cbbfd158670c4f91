"""Texts for models that write.

text = tinyshakespeare()        # speeches from Shakespeare's plays where they are there, else small stories of our own
text.source                     # what was really loaded: print it beside every number
train, held = text.split()      # int64: places in text.alphabet
text.decode(train[:80])         # and back
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from utils import catalogue, paths
from utils.datasets.small_stories import write_stories
from utils.datasets.sources import Source, damaged, locate
from utils.lesson import LessonError, check, explain, mention


@dataclass(frozen=True)
class Text:
    """A text.

    Attributes:
        characters: All of it.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for what was made up here.
    """

    characters: str
    source: str
    is_real: bool

    @cached_property
    def alphabet(self) -> str:
        """The different characters, sorted; the line break comes first."""
        return "\n" + "".join(sorted(set(self.characters) - {"\n"}))

    def encode(self, characters: str) -> Tensor:
        """Number characters by their places in the alphabet: (n,) int64.

        Raises:
            LessonError: A character is not in the text.
        """
        places = {character: i for i, character in enumerate(self.alphabet)}
        unknown = "".join(sorted(set(characters) - places.keys()))
        check(not unknown, f"the text has no {unknown!r}, so that nothing can be known about it")
        return torch.tensor([places[character] for character in characters], dtype=torch.long)

    def decode(self, ids: Tensor) -> str:
        """Turn (n,) back into characters."""
        return "".join(self.alphabet[i] for i in ids.tolist())

    def split(self, share: float = 0.9) -> tuple[Tensor, Tensor]:
        """The first `share`, encoded, to train on, and what comes after it to validate on: a text is never shuffled."""
        end = int(share * len(self.characters))
        ids = self.encode(self.characters)
        return ids[:end], ids[end:]


def tinyshakespeare(source: Source = "auto", stories: int = 6000, seed: int = 0) -> Text:
    """Speeches from Shakespeare's plays: 1,115,394 characters, 65 different ones (Karpathy, 2015).

    The sample is small stories in English and Korean that are written anew (`utils.datasets.small_stories`), one in a line.

    Args:
        source: "auto" and "real" read the file, "sample" never does; "real" also downloads it.
        stories: How many stories the sample has, about 75 characters each.
        seed: Of the sample.

    Raises:
        LessonError: The file is damaged, or source="real" and it cannot be had.
    """
    path = locate("tinyshakespeare", source)
    if path is None:
        characters = "\n".join(write_stories(stories, seed)) + "\n"
        text = Text(characters, f"sample: {stories:,} small stories in English and Korean; not Shakespeare", is_real=False)
    else:
        official = catalogue.CATALOGUE["tinyshakespeare"].files[0]
        try:
            content, size = path.read_text(encoding="utf-8"), path.stat().st_size
        except UnicodeDecodeError:
            raise damaged(path, "it is not text in UTF-8", "tinyshakespeare") from None
        except OSError as error:
            raise LessonError(f"{paths.short(path)} cannot be read: {explain(error)}") from None
        if size < official.bytes:
            raise damaged(path, f"{size:,} bytes instead of {official.bytes:,}", "tinyshakespeare")
        kind = "official file" if catalogue.checksum(path) == official.md5 else "own copy (not the official checksum)"
        text = Text(content, f"tinyshakespeare, {kind} ({len(content):,} characters), {paths.short(path)}", is_real=True)
    mention("data", text.source)
    return text
