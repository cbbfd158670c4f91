"""Short news reports in English and Korean with a summary of each: written here, as many as one likes.

    report = write_reports(1, seed=0)[0]
    report.sentences      # ("By noon there was no other subject at the market.", "A fire destroyed the barn of ...", ...)
    report.summary        # "A fire at the barn of Ruth Kelford in Norrby drove 417 people out of their homes."

What happened is told in one sentence, a number that matters in another; around them stand details, quotations, and sentences that
have nothing to do with it. In a third of the long reports what happened comes first. The summary says both in other words.
Names and numbers are made so that those of the three splits have nothing in common. The sentences come from
datasets/samples/reports.txt.
"""

import functools
import random
import re
from typing import Literal, NamedTuple

from utils import paths

Split = Literal["training", "validation", "test"]
TOPICS = ("fire", "match", "factory", "find", "bridge")
WOMEN, MEN = "Nora Ruth Emma Lucy Ida Vera".split(), "Paul Adam Hugo Otto Eric Carl".split()
SURNAMES = [
    start + end
    for start in "Kel Mar Hol Bren Tor Wes Al Fen Gar Lin Mor Pel Rad Sten Vin Wal Dan Bur".split()
    for end in "ford wick man ston by ley mer ridge son ton well worth den lock".split()
]
NAMES_KO = [
    family + one + two for family in "김이박최정강조윤장임한오" for one in "민서지도하은수현" for two in "준우연호경진율원"
]
TOWNS = {
    "en": "Norrby Ashwater Eastmoor Longfield Redhill Stillwater Highcross Oldport".split(),
    "ko": "새솔시 한내시 가온시 늘봄시 푸른시 노을시 다솜시 은하시".split(),
}
WEEKDAYS = {"en": "Monday Tuesday Wednesday Thursday Friday".split(), "ko": "월요일 화요일 수요일 목요일 금요일".split()}
PARTICLES = re.compile(r"([가-힣])(은/는|이/가|을/를)")


class Report(NamedTuple):
    """A report.

    Attributes:
        sentences: In their order; joined by spaces they are the text.
        summary: One sentence that nobody finds in the text.
        main: Which sentence says what happened.
        key: Which sentence has the number that matters.
        facts: The person and the number that the summary names, as they stand in the text.
        language: "en" or "ko".
    """

    sentences: tuple[str, ...]
    summary: str
    main: int
    key: int
    facts: tuple[str, str]
    language: str


@functools.cache
def _lines() -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    for line in (paths.ROOT / "datasets" / "samples" / "reports.txt").read_text(encoding="utf-8").splitlines():
        kind, _, text = line.partition("\t")
        lines.setdefault(kind, []).extend(text.split("|"))
    return lines


@functools.cache
def _part(kind: str, split: Split) -> list[str]:
    """The surnames, Korean names or numbers of a split: eight, one and one tenth of all."""
    everything = {"surnames": SURNAMES, "names": NAMES_KO, "numbers": [str(n) for n in range(100, 1000)]}[kind].copy()
    random.Random(0).shuffle(everything)
    tenth = len(everything) // 10
    parts = {"test": (0, tenth), "validation": (tenth, 2 * tenth), "training": (2 * tenth, len(everything))}
    return everything[slice(*parts[split])]


def write_reports(count: int, seed: int, split: Split = "training", short: bool = False) -> list[Report]:
    """Write reports, half of them in each language.

    Args:
        count: How many.
        seed: The same seed and split write the same.
        split: Whose names and numbers are used: no two splits share any.
        short: Three or four sentences instead of seven to thirteen.
    """
    draw = random.Random(f"{split} {seed} {short}")
    return [_write(draw.choice(("en", "ko")), draw.choice(TOPICS), draw, split, short) for _ in range(count)]


def _write(language: str, topic: str, draw: random.Random, split: Split, short: bool) -> Report:
    words = _facts(language, topic, draw, split)

    def some(kind: str, how_many: int) -> list[str]:
        return [_fill(line, words) for line in draw.sample(_lines()[f"{language} {kind}"], how_many)]

    (main,), (key,), (summary,) = (some(f"{topic} {kind}", 1) for kind in ("main", "key", "summary"))
    if short:
        rest = draw.choice([some("aside", 1), some(f"{topic} detail", 1), some(f"{topic} quote", 1)])
        hooks = some("hook", draw.randint(0, 1))
    else:
        details = some(f"{topic} detail", draw.randint(3, 5))
        rest = details + some(f"{topic} quote", draw.randint(1, 2)) + some("aside", draw.randint(1, 2))
        hooks = some("hook", draw.randint(0, 2))
    rest.append(key)
    draw.shuffle(rest)
    sentences = (*hooks, main, *rest)
    return Report(sentences, summary, len(hooks), sentences.index(key), (words["p"], words["n"]), language)


def _facts(language: str, topic: str, draw: random.Random, split: Split) -> dict[str, str]:
    """What goes into the gaps: p, q people, P, Q the same with title, s a third one's surname, t, u towns, n, m, d numbers."""
    town, other = draw.sample(TOWNS[language], 2)
    facts = {"t": town, "u": other, "w": draw.choice(WEEKDAYS[language]), "o": draw.choice(_lines()[f"{language} {topic} thing"])}
    facts |= {"n": draw.choice(_part("numbers", split)), "m": str(draw.randint(12, 99)), "d": f"{draw.randint(12, 98) / 10}"}
    if language == "ko":
        facts["p"], facts["q"], facts["s"] = draw.sample(_part("names", split), 3)
        return facts | {"P": facts["p"]}
    one, two, facts["s"] = draw.sample(_part("surnames", split), 3)
    for letter, surname in (("p", one), ("q", two)):
        first = draw.choice(WOMEN + MEN)
        facts |= {letter: f"{first} {surname}", letter.upper(): f"{'Ms.' if first in WOMEN else 'Mr.'} {surname}"}
    return facts


def _fill(line: str, words: dict[str, str]) -> str:
    """Fill the gaps of a sentence, and choose Korean particles: 은, 이, 을 after a consonant, 는, 가, 를 after a vowel."""
    text = line.format_map(words)
    text = PARTICLES.sub(lambda found: found[1] + found[2].split("/")[(ord(found[1]) - ord("가")) % 28 == 0], text)
    return text[0].upper() + text[1:]
