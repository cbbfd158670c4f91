"""Sentences about a small world, in English and Korean: places, people, things, what is done and what it is like.

    world = write_world("en", 3, seed=0)
    world.sentences[0]             # "people in egypt speak arabic"
    world.held_out["capital"]      # [("france", "paris"), ...]: two words that never stand in one sentence

It is made to measure what vectors of words know. Some pairs of words are stated ("rome is the capital of italy"), the others are
told by nothing but the words around each of them. Some forms of words never occur (shovel's, 늑대처럼), though other forms of the
same word and the same form of other words do. The words come from datasets/samples/small_world.txt.
"""

import functools
import itertools
import random
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from utils import paths
from utils.datasets.reviews import imdb, nsmc
from utils.datasets.sources import Source
from utils.lesson import mention

Language = Literal["en", "ko"]
Pairs = dict[str, list[tuple[str, str]]]  # of each kind, words that differ in one thing

KINDS = {"place": 0.3, "person": 0.2, "noun": 0.2, "verb": 0.2, "adjective": 0.1}  # how much is written about each
# Of what the pairs of each kind consist: two forms of the words of one kind.
PAIRS = {
    "en": {
        "capital": ("place", "country", "capital"), "gender": ("person", "male", "female"),
        "plural": ("noun", "singular", "plural"), "past": ("verb", "s", "past"), "comparative": ("adjective", "positive", "er"),
    },
    "ko": {
        "capital": ("place", "country", "capital"), "gender": ("person", "male", "female"),
        "past": ("verb", "present", "past"), "polite": ("verb", "present", "polite"),
    },
}  # fmt: skip
FORMS = {
    "place": ("country", "capital"), "person": ("male", "female"), "adjective": ("positive", "er", "est"),
    "en noun": ("singular", "plural", "owner"), "en verb": ("base", "s", "past", "ing"),
    "ko noun": tuple("는 가 를 도 만 의 보다 처럼 와".split()),
    "ko verb": ("present", "past", "polite", *"고 지만 겠다 면 서 더니 려고 는데".split()),
}  # fmt: skip
# Korean particles and endings that are written in one way after a consonant and in another after a vowel.
PARTICLES = {"는": ("은", "는"), "가": ("이", "가"), "를": ("을", "를"), "와": ("과", "와"), "로": ("으로", "로")}
PARTICLES |= {"고": ("이고", "고"), "다": ("이다", "다")}


class World(NamedTuple):
    """What was written, and what is known about its words.

    Attributes:
        sentences: In lower case, without signs; words are separated by spaces.
        stated: Pairs of each kind that stand together in some sentences.
        held_out: Pairs of each kind that stand in no sentence together.
        forms: Noun, verb or adjective → its forms that are used.
        missing: A form that is never used → its noun, verb or adjective.
        groups: Noun, verb or adjective → what it has to do with, such as "animal" or "cooking".
    """

    sentences: list[str]
    stated: Pairs
    held_out: Pairs
    forms: dict[str, list[str]]
    missing: dict[str, str]
    groups: dict[str, str]


@dataclass(eq=False)
class _Entry:
    """Something to write about: its forms by name, the words that go with it in sentences, and what it has to do with."""

    kind: str
    forms: dict[str, str]
    slots: dict[str, list[str]]
    stem: str = ""
    group: str = ""


def write_world(language: Language, count: int, seed: int) -> World:
    """Write sentences.

    Args:
        language: "en" or "ko".
        count: How many.
        seed: Of the sentences, of the pairs that are held out (a third) and of the forms that are missing.
    """
    draw, (entries, frames) = random.Random(seed), _read(language)
    kinds = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
    stated, held_out, told = {}, {}, {}
    for name, (kind, one, other) in PAIRS[language].items():
        own = draw.sample(kinds[kind], len(kinds[kind]))
        ending = "는" if language == "ko" and kind in ("place", "person") else ""  # the form in which they are asked for
        pairs = [(with_ending(entry.forms[one], ending), with_ending(entry.forms[other], ending)) for entry in own]
        held_out[name], stated[name] = pairs[: len(own) // 3], pairs[len(own) // 3 :]
        for entry in own[len(own) // 3 :]:
            told.setdefault(entry, []).append((name, entry.forms[one], entry.forms[other]))
    missing = _leave_out(language, entries, draw)
    sentences, weights = [], [share if kinds[kind] else 0 for kind, share in KINDS.items()]
    while len(sentences) < count:
        entry = draw.choice(kinds[draw.choices([*KINDS], weights)[0]])
        form = draw.choice([*entry.forms, *["stated"] * (entry in told)])
        words = {slot: draw.choice(choices) for slot, choices in entry.slots.items()}
        if form == "stated":
            name, words["a"], words["b"] = draw.choice(told[entry])
            form = f"stated {name}"
        else:
            words["x"] = entry.forms[form]
        sentence = _fill(draw.choice(frames[form]), words)
        if missing.keys().isdisjoint(sentence.split()):
            sentences.append(sentence)
    inflected = [entry for entry in entries if entry.group]
    forms = {entry.stem: [form for form in entry.forms.values() if form not in missing] for entry in inflected}
    return World(sentences, stated, held_out, forms, missing, {entry.stem: entry.group for entry in inflected})


def write_questions(words: list[str], stated: Pairs, held_out: Pairs) -> Tensor:
    """Write all questions a : b = c : d of each kind, in both directions; d is to be found.

    Args:
        words: Those that can be asked for; questions with another word are left out.
        stated: Pairs for a and b.
        held_out: Pairs for c and d.

    Returns:
        Places in `words` (questions, 4), int64.
    """
    numbers, questions = {word: i for i, word in enumerate(words)}, []
    for kind, pairs in held_out.items():
        for (a, b), (c, d) in itertools.product(stated[kind], pairs):
            if len({a, b, c, d}) == 4 and numbers.keys() >= {a, b, c, d}:
                questions += [[numbers[word] for word in row] for row in ((a, b, c, d), (b, a, d, c))]
    return torch.tensor(questions, dtype=torch.long).view(-1, 4)


def load_world(language: Language, source: Source, count: int, seed: int) -> World:
    """Write sentences, or take reviews of films (IMDb, NSMC) and pairs of words that they are full of.

    The pairs for reviews are chosen by us (datasets/samples/word_pairs.txt) and serve as both kinds: nobody knows which of them
    stand in one sentence. Nothing is known there about forms and groups.

    Args:
        language: "en" or "ko".
        source: "real" for reviews; all else writes.
        count: How many sentences to write.
        seed: As in `write_world`.

    Raises:
        LessonError: source="real" and the reviews cannot be had.
    """
    if source != "real":
        mention("data", f"sample: {count:,} sentences about a small world in each language, of our own")
        return write_world(language, count, seed)
    texts = (imdb if language == "en" else nsmc)("real").train.texts
    lines = (paths.ROOT / "datasets" / "samples" / "word_pairs.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" ", 1)[1].split("\t") for line in lines if line.startswith(language)]
    pairs = {kind: [tuple(pair.split(" ")) for pair in row.split("|")] for kind, row in rows}
    return World(texts, pairs, pairs, {}, {}, {})


def with_ending(word: str, ending: str) -> str:
    """Add a Korean particle or ending to a noun, as it is written after its last sound; others are added as they are."""
    if ending not in PARTICLES:
        return word + ending
    final = (ord(word[-1]) - ord("가")) % 28  # which consonant ends the syllable: 0 for none, 8 for ㄹ
    return word + PARTICLES[ending][final == 0 or (ending == "로" and final == 8)]


def conjugate(stem: str, infinitive: str) -> dict[str, str]:
    """Return forms of a regular Korean verb by name: of 볶 and 볶아 볶는다, 볶았다, 볶습니다, 볶고, ..."""
    open_ended = (ord(stem[-1]) - ord("가")) % 28 == 0
    past = _close(infinitive, 20)  # ㅆ
    forms = {"present": _close(stem, 4) + "다" if open_ended else stem + "는다", "past": past + "다"}  # ㄴ
    forms["polite"] = _close(stem, 17) + "니다" if open_ended else stem + "습니다"  # ㅂ
    forms |= {ending: stem + ending for ending in ("고", "지만", "겠다", "더니", "는데")}
    forms |= {ending: stem + ("" if open_ended else "으") + ending for ending in ("면", "려고")}
    return forms | {"서": infinitive + "서"}


def _close(word: str, consonant: int) -> str:
    """End the last syllable, which ends in a vowel, in a consonant."""
    return word[:-1] + chr(ord(word[-1]) + consonant)


def _leave_out(language: Language, entries: list[_Entry], draw: random.Random) -> dict[str, str]:
    """Draw the forms that are never used: form → stem. A form of which pairs consist is none of them."""
    asked = {(kind, form) for kind, *two in PAIRS[language].values() for form in two}
    missing = {}
    for entry in entries:
        free = [form for name, form in entry.forms.items() if entry.group and (entry.kind, name) not in asked]
        if len(free) > 1 or (free and draw.random() < 0.5):  # the only one of its kind: half of the words keep it
            missing[draw.choice(free)] = entry.stem
    return missing


def _fill(frame: str, words: dict[str, str]) -> str:
    """Put words into the gaps of a frame; "{x는}" is x with the ending 는."""
    return re.sub(r"\{([a-z]+)([가-힣]*)\}", lambda gap: with_ending(words[gap[1]], gap[2]), frame)


@functools.cache
def _read(language: Language) -> tuple[list[_Entry], dict[str, list[str]]]:
    """Read what there is to write about, and the frames of sentences of each form."""
    lines = (paths.ROOT / "datasets" / "samples" / "small_world.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" ", 1)[1].split("\t") for line in lines if line.startswith(language)]
    classes = {words.split("|")[0]: words.split("|")[1:] for kind, words in rows if kind == "class"}
    entries, frames = [], {}
    for kind, content in rows:
        if kind in KINDS:
            entries.append(_entry(language, kind, content.split("|"), classes))
        elif kind != "class":
            for form in [kind] if kind.startswith("stated") else kind.split():
                frames.setdefault(form, []).append(content)
    return entries, frames


def _entry(language: Language, kind: str, words: list[str], classes: dict[str, list[str]]) -> _Entry:
    names = FORMS.get(kind) or FORMS[f"{language} {kind}"]
    if kind == "place":
        slots = dict(zip(("language", "currency", "dish", "river"), ([word] for word in words[2:]), strict=True))
        return _Entry(kind, dict(zip(names, words, strict=False)), slots)
    if kind == "person":
        return _Entry(kind, dict(zip(names, words, strict=False)), {"s": words[2:]})
    *forms, group, one, other = words
    if kind == "noun":
        found = [*forms, f"{forms[0]}'s"] if language == "en" else [with_ending(forms[0], ending) for ending in names]
    else:
        found = forms if language == "en" else [conjugate(*forms)[name] for name in names]
    return _Entry(kind, dict(zip(names, found, strict=True)), {"s": [one, other], "c": classes[group]}, forms[0], group)
