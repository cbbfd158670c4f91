"""News and their summaries: what a program learns from that shortens texts.

data = bbc_news()
if data is not None:
    data.train[0].text, data.train[0].summary
    data.source    # print it beside every number
"""

import random
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from utils import paths
from utils.datasets.reports import write_reports
from utils.datasets.sources import Source, damaged, locate, unreadable
from utils.lesson import mention
from utils.sentences import split_sentences

UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)
WHOLE = 2225  # articles
PICKED = 0.45  # the share of the sentences that the BBC's summaries keep, counted on training articles


class Article(NamedTuple):
    """One of the news.

    Attributes:
        title: The headline.
        text: Paragraphs, one line each, without the headline.
        summary: What somebody made of it.
        topic: business, entertainment, politics, sport or tech.
    """

    title: str
    text: str
    summary: str
    topic: str


@dataclass(frozen=True)
class NewsData:
    """Articles in three splits.

    Attributes:
        source: One line that says what was really loaded. Belongs beside every number that is reported.
    """

    train: list[Article]
    validation: list[Article]
    test: list[Article]
    source: str


def bbc_news(source: Source = "auto", seed: int = 0) -> NewsData | None:
    """2,225 articles of the BBC, in English, of 2004 and 2005 (Greene and Cunningham, 2006), with summaries.

    The summaries are sentences picked from the article, in their order, nearly half of them: whoever picks sentences does well
    here without effort. 133 articles stand there twice; copies go to the same split. There is no official split: a tenth is for
    validation, a tenth for the test.

    Args:
        source: "auto", "real" or "sample".
        seed: Of the split.

    Returns:
        The articles; None where the set is not there and may be missing: the lesson has its own sample.

    Raises:
        LessonError: A file is damaged, or source="real" and the set is not there.
    """
    place = locate("bbc_news", source)
    if place is None:
        return None
    found: dict[str, dict[tuple[str, str], str]] = {"News Articles": {}, "Summaries": {}}
    try:
        for parts, content in _files(place):
            if len(parts) > 2 and parts[-3] in found:
                found[parts[-3]][parts[-2:]] = _decoded(content)
    except UNREADABLE as error:
        raise unreadable(place, error, "bbc_news") from None
    texts, summaries = found["News Articles"], found["Summaries"]
    alone = sorted(texts.keys() ^ summaries.keys())
    if alone or not texts:
        raise damaged(place, f"{'/'.join(alone[0])} is there without its twin" if alone else "no articles in it", "bbc_news")
    copies: dict[str, list[Article]] = {}  # an article and its duplicates
    for name, text in sorted(texts.items()):
        title, *paragraphs = [line.strip() for line in text.splitlines() if line.strip()] or [""]
        article = Article(title, "\n".join(paragraphs), summaries[name].strip(), name[0])
        copies.setdefault(article.text, []).append(article)
    groups = list(copies.values())
    random.Random(seed).shuffle(groups)
    tenth = len(groups) // 10
    parts = groups[2 * tenth :], groups[tenth : 2 * tenth], groups[:tenth]
    splits = [[article for group in part for article in group] for part in parts]
    sizes = " + ".join(f"{len(split):,}" for split in splits)
    whole = "" if len(texts) == WHOLE else "a part of "
    told = f"{whole}BBC News Summary ({sizes}, our split with seed {seed}), {paths.short(place)}"
    mention("data", told)
    return NewsData(*splits, told)


class Document(NamedTuple):
    """A text cut into sentences.

    Attributes:
        sentences: In their order.
        summary: The reference.
        language: "en" or "ko".
        count: How many sentences a summary picked from it should have.
    """

    sentences: list[str]
    summary: str
    language: str
    count: int


def to_summarize(count: int, sentences: int, source: Source = "sample", seed: int = 0) -> tuple[list[Document], list[Document]]:
    """Texts to be summarised by picking sentences: of the BBC, or reports in English and Korean that are written here.

    Args:
        count: Texts to learn from; a quarter as many are for the test.
        sentences: How many to pick from a report; of the BBC's articles it is the share that their summaries have.
        source: "auto", "real" or "sample".
        seed: Of the split, or of the reports.

    Raises:
        LessonError: As `bbc_news`.
    """
    news = bbc_news(source, seed)
    if news is None:
        mention("data", f"sample: {count:,} + {count // 4:,} reports in English and Korean, written here; not BBC News")
        reports = write_reports(count, seed), write_reports(count // 4, seed, "test")
        return tuple([Document([*one.sentences], one.summary, one.language, sentences) for one in part] for part in reports)
    splits = []
    for articles in (news.train[:count], news.test[: count // 4]):
        cut = [(split_sentences(article.text), article.summary) for article in articles]
        splits.append([Document(some, summary, "en", max(1, round(PICKED * len(some)))) for some, summary in cut])
    return splits[0], splits[1]


def _files(place: Path) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Each text: the parts of its path, and its bytes."""
    if place.is_dir():  # .../News Articles
        for path in sorted(place.parent.glob("*/*/*.txt")):
            yield path.parts, path.read_bytes()
    elif place.suffix == ".zip":
        with zipfile.ZipFile(place) as archive:
            for name in archive.namelist():
                if name.endswith(".txt"):
                    yield tuple(name.split("/")), archive.read(name)
    else:
        with tarfile.open(place) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".txt"):
                    yield tuple(member.name.split("/")), archive.extractfile(member).read()


def _decoded(content: bytes) -> str:
    """The text of a file: one of them, sport/199.txt, is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
