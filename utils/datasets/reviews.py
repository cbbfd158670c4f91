"""Reviews that praise or complain, real ones in English and Korean, and made-up ones for lessons that run without them.

data = nsmc()
data.train.texts[0], data.train.labels[0]    # "영원한 지존", 1
data.source                                  # print it beside every number
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from utils import paths
from utils.datasets.opinions import write_opinions
from utils.datasets.sources import Source, damaged, locate, unreadable
from utils.lesson import mention

CLASSES = ("negative", "positive")
UNREADABLE = (tarfile.TarError, EOFError, OSError, UnicodeDecodeError)  # a broken gzip raises an OSError


@dataclass(frozen=True)
class Texts:
    """Labelled texts: strings, and labels (N,) int64."""

    texts: list[str]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: slice | Tensor) -> "Texts":
        """A part of them, by slice or by a tensor of positions."""
        chosen = self.texts[index] if isinstance(index, slice) else [self.texts[i] for i in index.tolist()]
        return Texts(chosen, self.labels[index])


@dataclass(frozen=True)
class TextData:
    """A data set of labelled texts.

    Attributes:
        classes: The name of each label.
        source: One line that says what was really loaded. Belongs beside every number that is reported.
        is_real: False for a sample.
    """

    train: Texts
    test: Texts
    classes: tuple[str, ...]
    source: str
    is_real: bool


def imdb(source: Source = "auto") -> TextData:
    """Film reviews of IMDb, in English, a few hundred words each (Maas et al., 2011): 25,000 to train on, 25,000 to test on.

    Reads the official archive as it is, unpacked, or a part of it in the same folders. Files come sorted by class: shuffle.
    The sample is made up (`utils.datasets.opinions`): 4,000 + 1,000 opinions of a sentence or two, half of them in Korean.

    Args:
        source: "auto", "real" or "sample".

    Raises:
        LessonError: A file is damaged, or source="real" and the set cannot be had.
    """
    place = locate("imdb", source)
    if place is None:
        return _sample("IMDb")
    found: dict[str, tuple[list[str], list[int]]] = {"train": ([], []), "test": ([], [])}
    try:
        for parts, content in _imdb_files(place):
            if len(parts) > 2 and parts[-3] in found and parts[-2] in ("neg", "pos"):
                texts, labels = found[parts[-3]]
                texts.append(content.decode("utf-8").replace("<br />", " "))
                labels.append(int(parts[-2] == "pos"))
    except UNREADABLE as error:
        raise unreadable(place, error, "imdb") from None
    train, test = (_shaped(place, texts, labels, "imdb") for texts, labels in found.values())
    whole = "" if len(train) == len(test) == 25_000 else "a part of "
    return _told(TextData(train, test, CLASSES, f"{whole}IMDb reviews ({_sizes(train, test)}), {paths.short(place)}", True))


def nsmc(source: Source = "auto") -> TextData:
    """Reviews of films on Naver, in Korean, at most 140 characters each (Park, 2016): 150,000 to train on, 50,000 to test on.

    Reads ratings_train.txt and ratings_test.txt; reviews without a word are left out. The sample is that of `imdb`.

    Args:
        source: "auto", "real" or "sample".

    Raises:
        LessonError: A file is damaged, or source="real" and the set cannot be had.
    """
    place = locate("nsmc", source)
    if place is None:
        return _sample("NSMC")
    train, test = (_read_nsmc(place.with_name(f"ratings_{split}.txt")) for split in ("train", "test"))
    kind = "NSMC" if (len(train), len(test)) == (149_995, 49_997) else "own copy of NSMC, not its official split"
    return _told(TextData(train, test, CLASSES, f"{kind} ({_sizes(train, test)}), {paths.short(place)}", True))


def rt_polarity(source: Source = "auto", seed: int = 0) -> TextData:
    """Sentences from film reviews on Rotten Tomatoes, in English ("MR"; Pang and Lee, 2005): 5,331 of each kind.

    There is no official test set: after a shuffle, the last tenth is ours. The sample is that of `imdb`.

    Args:
        source: "auto", "real" or "sample".
        seed: Of the shuffle.

    Raises:
        LessonError: A file is damaged, or source="real" and the set cannot be had.
    """
    place = locate("rt_polarity", source)
    if place is None:
        return _sample("MR")
    texts, labels = [], []
    for label, kind in enumerate(("neg", "pos")):
        lines = [line.strip() for line in _text_of(place.with_suffix(f".{kind}"), "rt_polarity", "latin-1").split("\n")]
        texts += filter(None, lines)
        labels += [label] * sum(map(bool, lines))
    everything = _shaped(place, texts, labels, "rt_polarity")
    everything = everything[torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))]
    end = len(everything) - len(everything) // 10
    train, test = everything[:end], everything[end:]
    told = f"MR, sentence polarity v1.0 ({_sizes(train, test)}, our split with seed {seed}), {paths.short(place)}"
    return _told(TextData(train, test, CLASSES, told, True))


# ------------------------------------------------------------------------------------------------------------ reading


def _imdb_files(place: Path) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Each file: the parts of its path, and its bytes."""
    if place.is_dir():  # .../aclImdb/train
        for path in sorted(place.parent.glob("*/*/*.txt")):
            yield path.parts, path.read_bytes()
    else:
        with tarfile.open(place) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".txt"):
                    yield tuple(member.name.split("/")), archive.extractfile(member).read()


def _read_nsmc(path: Path) -> Texts:
    texts, labels = [], []
    for number, line in enumerate(_text_of(path, "nsmc", "utf-8").split("\n")[1:], start=2):
        fields = line.rstrip("\r").split("\t")
        if fields == [""]:
            continue
        if len(fields) != 3 or fields[2] not in ("0", "1"):
            raise damaged(path, f"line {number} is not an id, a review and 0 or 1", "nsmc")
        if fields[1].strip():  # a few reviews say nothing
            texts.append(fields[1])
            labels.append(int(fields[2]))
    return _shaped(path, texts, labels, "nsmc")


def _text_of(path: Path, name: str, encoding: str) -> str:
    try:
        return path.read_text(encoding=encoding)
    except UNREADABLE as error:
        raise unreadable(path, error, name) from None


def _shaped(place: Path, texts: list[str], labels: list[int], name: str) -> Texts:
    if len(set(labels)) < 2:
        raise damaged(place, "it does not hold both positive and negative reviews", name)
    return Texts(texts, torch.tensor(labels))


def _sizes(train: Texts, test: Texts) -> str:
    return f"{len(train):,} + {len(test):,}"


def _sample(instead_of: str) -> TextData:
    train, test = (
        Texts([opinion.text for opinion in opinions], torch.tensor([opinion.content for opinion in opinions]))
        for opinions in (write_opinions(4000, seed=0), write_opinions(1000, seed=1))
    )
    return _told(TextData(train, test, CLASSES, f"sample: {_sizes(train, test)} made-up opinions; not {instead_of}", False))


def _told(data: TextData) -> TextData:
    mention("data", data.source)
    return data
