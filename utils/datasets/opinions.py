"""Opinions about food, rooms, rides and the like, in English and Korean: written here, as many as one likes.

    write_opinions(2, seed=0)[0].text      # "the soup was salty, but the waiter was not rude. we left happy."

Each is content or not, and everything in it agrees with that: "and" joins two praises or two complaints, after "but" comes what
counts, "not" turns a word round. So what words mean can be learned from the words around them, as in real texts.
The words come from datasets/samples/opinions.txt.
"""

import functools
import random
from typing import NamedTuple

from utils import paths

TOPICS = ("food", "people", "rooms", "rides", "stories", "things")


class Opinion(NamedTuple):
    """What somebody wrote.

    Attributes:
        text: In lower case; sentences end in full stops.
        topic: What it is about, a place in TOPICS.
        content: 1 or 0: whether they liked it.
        language: "en" or "ko".
    """

    text: str
    topic: int
    content: int
    language: str


@functools.cache
def word_lists() -> dict[str, list[str]]:
    """Return the lists of opinions.txt by their names: "en food good" → ["delicious", "fresh", "tasty", "hearty"]."""
    lines = (paths.ROOT / "datasets" / "samples" / "opinions.txt").read_text(encoding="utf-8").splitlines()
    return {kind: row.split("|") for kind, _, row in (line.partition("\t") for line in lines)}


def write_opinions(count: int, seed: int, moods: float = 0.7) -> list[Opinion]:
    """Write opinions: all topics, both languages, and praise and complaint are equally frequent.

    Args:
        count: How many.
        seed: The same seed writes the same.
        moods: The share of them that end in a sentence like "we left happy".
    """
    draw, opinions = random.Random(seed), []
    for _ in range(count):
        language, topic, content = draw.choice(("en", "ko")), draw.randrange(len(TOPICS)), draw.randrange(2)
        text = _judge(language, TOPICS[topic], bool(content), draw) + "."
        if draw.random() < moods:
            mood = draw.choice(word_lists()[f"{language} mood {'good' if content else 'bad'}"])
            text += f" we left {mood}." if language == "en" else f" 우리는 {mood}다."
        opinions.append(Opinion(text, topic, content, language))
    return opinions


def _judge(language: str, topic: str, content: bool, draw: random.Random) -> str:
    """One to three things judged alike, or one against the other: then their order and a little word say which of them counts."""
    kind = draw.choices(("one", "both", "three", "but", "although", "although first"), (2, 3, 2, 1, 1, 1))[0]
    things = draw.sample(word_lists()[f"{language} {topic}"], {"one": 1, "three": 3}.get(kind, 2))
    agrees = {"but": (False, True), "although": (True, False), "although first": (False, True)}.get(kind, (True, True, True))
    clauses = [_clause(language, draw, topic, thing, content == does) for thing, does in zip(things, agrees, strict=False)]
    if language == "ko":
        start, between = {"but": ("", "지만 "), "although": ("", "다. 다만 "), "although first": ("비록 ", "지만 ")}.get(
            kind, ("", "고 ")
        )
        return start + between.join(clauses) + "다"
    *first, last = clauses
    if kind == "although first":
        return f"although {first[0]}, {last}"
    between = {"but": ", but ", "although": " although "}.get(kind, " and ")
    return between.join([", ".join(first), last] if first else [last])


def _clause(language: str, draw: random.Random, topic: str, thing: str, good: bool) -> str:
    """A thing and what it was like; of Korean without the ending."""
    negated, own = draw.random() < 0.1, draw.random() < 0.7
    very = own and draw.random() < 0.25  # nothing is very perfect
    quality = draw.choice(word_lists()[f"{language} {topic if own else 'any'} {'good' if good != negated else 'bad'}"])
    if language == "en":
        was = "were" if thing.endswith("+") else "was"
        return " ".join(["the", thing.rstrip("+"), was, *["not"] * negated, *["very"] * very, quality])
    present, past = quality.split(" ")
    marker = "은" if (ord(thing[-1]) - ord("가")) % 28 else "는"  # after a final consonant: 은
    return " ".join([thing + marker, *["매우"] * very, f"{present}지 않았" if negated else past])


def vocabulary() -> list[str]:
    """The pieces of which opinions consist, special tokens first: for `utils.wordpiece.WordPiece(..., uncased=False)`."""
    from utils.wordpiece import SPECIAL

    pieces = {".", ",", "the", "was", "were", "not", "very", "and", "but", "although", "we", "left"}
    pieces |= {"매우", "않았", "비록", "다만", "우리", "##지", *(f"##{ending}" for ending in ("고", "지만", "다", "은", "는"))}
    for entries in word_lists().values():
        pieces.update(word.rstrip("+") for entry in entries for word in entry.split(" "))
    return [*SPECIAL, *sorted(pieces)]
