"""Sentences and their translations: what machine translation learns from.

data = multi30k("en", "de")
data.train[0]       # ("Two young, White males are outside near many bushes.", "Zwei junge weiße Männer sind ...")
data.source         # print it beside every number
"""

import gzip
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

from utils import paths
from utils.catalogue import CATALOGUE, checksum
from utils.datasets.sources import Source, damaged, locate, unreadable
from utils.lesson import mention

Pair = tuple[str, str]


@dataclass(frozen=True)
class PairData:
    """Pairs (sentence, its translation), in three splits.

    Attributes:
        source: One line that says what was really loaded. Belongs beside every number that is reported.
    """

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]
    source: str


def multi30k(of: str = "en", into: str = "de", source: Source = "auto") -> PairData | None:
    """What people wrote about photographs, translated by others (Elliott et al., 2016): 29,000, 1,014 and 1,000 sentences.

    Args:
        of, into: Two of "en", "de", "fr".
        source: "auto", "real" or "sample".

    Returns:
        The pairs; None where the set is not there and may be missing: the lesson has its own sample.

    Raises:
        LessonError: A file is damaged or missing, or source="real" and the set cannot be had.
    """
    place = locate("multi30k", source)
    if place is None:
        return None
    splits = []
    for split in ("train", "val", "test_2016_flickr"):
        sides = [_lines_of(place.with_name(f"{split}.{language}.gz")) for language in (of, into)]
        if len(sides[0]) != len(sides[1]):
            raise damaged(place, f"{split} has {len(sides[0])} sentences in {of} and {len(sides[1])} in {into}", "multi30k")
        splits.append(list(zip(*sides, strict=True)))
    official = {file.name: file.md5 for file in CATALOGUE["multi30k"].files}
    kind = "official files" if checksum(place) == official[place.name] else "own copy (not the official checksum)"
    sizes = " + ".join(f"{len(split):,}" for split in splits)
    return _told(PairData(*splits, f"Multi30k, {of} to {into}, {kind} ({sizes}), {paths.short(place)}"))


def korean_english(source: Source = "auto", seed: int = 0) -> PairData | None:
    """Everyday sentences in English and Korean, from Tatoeba by way of manythings.org: a few thousand pairs.

    There is no official split. Of sentences that stand there in several translations all go to the same one; a tenth of the
    English sentences is for validation and a tenth for the test.

    Args:
        source: "auto", "real" or "sample".
        seed: Of the split.

    Returns:
        Pairs (English, Korean); None where the set is not there and may be missing.

    Raises:
        LessonError: The file is damaged, or source="real" and it is not there.
    """
    place = locate("korean_english", source)
    if place is None:
        return None
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(place, error, "korean_english") from None
    translations: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) < 2:
            raise damaged(place, f"line {number} is not an English and a Korean sentence", "korean_english")
        translations.setdefault(fields[0], []).append(fields[1])
    sentences = sorted(translations)
    random.Random(seed).shuffle(sentences)
    tenth = len(sentences) // 10
    parts = sentences[2 * tenth :], sentences[tenth : 2 * tenth], sentences[:tenth]
    splits = [[(english, korean) for english in part for korean in translations[english]] for part in parts]
    sizes = " + ".join(f"{len(split):,}" for split in splits)
    return _told(PairData(*splits, f"Tatoeba, English and Korean ({sizes}, our split with seed {seed}), {paths.short(place)}"))


def _lines_of(path: Path) -> list[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [line.strip() for line in lines]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(path, error, "multi30k") from None


def _told(data: PairData) -> PairData:
    mention("data", data.source)
    return data
