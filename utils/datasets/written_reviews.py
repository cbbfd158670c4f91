"""Reviews in which not the words count but how they are put together: written here, as many as one likes.

    write_reviews(1, seed=0)[0].text       # "although the soup was not salty, nobody would call the waiter kind."

"Not" turns a word round; after "but", and before "although", comes what counts; "very" changes nothing. Training never shows all
combinations: each adjective is met with three quarters of the ways to affirm, to negate and to concede, and with held_out=True
with the other quarter: "far from salty" where it used to be "not salty" and "hardly salty". Who has learned by heart what belongs
together knows nothing about that; who has learned what "not" and "but" do reads on.
Adjectives, and the things they are said of, come from datasets/samples/opinions.txt.
"""

import random
import re
from typing import NamedTuple

import torch

from utils.datasets.opinions import TOPICS, word_lists
from utils.datasets.reviews import Texts
from utils.lesson import mention

# A mark before a word says what it does: * it says what was thought, ^ it says which of two clauses counts. Later on
# ~ stands instead of * where a clause does not count.
# The first of a row is the most frequent one.
STATEMENTS = {
    "en": (
        "{thing} {was} {very}*{word}",
        "i would *not *deny that {thing} {was} {very}*{word}",
        "{thing} {was} *nothing *but *{word}",
        "i would call {thing} {very}*{word}",
    ),
    "ko": (
        "{thing} {very}*{past}",
        "{thing} *{present}지 *않다고는 할 수 *없었",
        "{thing} {very}*{past}다고 할 수 *있었",
        "{thing} {very}*{past}다고 할 *만했",
    ),
}
NEGATIONS = {
    "en": (
        "{thing} {was} *not {very}*{word}",
        "{thing} *{was}n't {very}*{word}",
        "{thing} {was} *far *from *{word}",
        "{thing} {was} *hardly *{word}",
        "{thing} {was} *anything *but *{word}",  # a "but" that is none
        "i would *not say that {thing} {was} {very}*{word}",
        "*nobody would call {thing} {very}*{word}",
    ),
    "ko": (
        "{thing} *안 *{past}",
        "{thing} *{present}지 *않았",
        "{thing} *별로 *{present}지 *않았",
        "{thing} {very}*{past}다고 할 수 *없었",
        "{thing} *전혀 *안 *{past}",
    ),
}
INTENSIFIERS = {"en": ("very", "really", "quite", "truly"), "ko": ("매우", "정말", "아주", "꽤")}
AGREEING = {"en": ("", " and ", ""), "ko": ("", "고 ", "다")}
# Between two clauses that disagree: what stands before, between and after them, and which of them counts.
CONTRASTS = {
    "en": (
        (("", ", ^but ", ""), 1),
        (("", ", ^yet ", ""), 1),
        (("", ". ^however, ", ""), 1),
        (("^although ", ", ", ""), 1),
        (("^even ^though ", ", ", ""), 1),
        (("", ", ^although ", ""), 0),
        (("", ", ^even ^though ", ""), 0),
    ),
    "ko": (
        (("", "다. ^하지만 ", "다"), 1),
        (("", "다. ^그래도 ", "다"), 1),
        (("", "다. ^다만 ", "다"), 0),
        (("", "지만 ", "다"), 1),
        (("", "긴 했지만 ", "다"), 1),
        (("^비록 ", "지만 ", "다"), 1),
        (("", "다. ^물론 ", "긴 했다"), 0),
    ),
}
ASIDES = {
    "en": (
        "it was a monday.",
        "my sister had told me about it.",
        "it was the second time.",
        "a friend was with me.",
        "it rained that day.",
        "i am writing this at home.",
    ),
    "ko": (
        "월요일이었다.",
        "동생이 알려 주었다.",
        "이번이 두 번째였다.",
        "친구도 함께 있었다.",
        "그날은 비가 왔다.",
        "집에 와서 쓴다.",
    ),
}
MARKS = {"*": "counts", "~": "conceded", "^": "contrast", "": "other"}


class Review(NamedTuple):
    """What somebody wrote.

    Attributes:
        text: In lower case; sentences end in full stops.
        label: 1 for praise, 0 for a complaint.
        language: "en" or "ko".
    """

    text: str
    label: int
    language: str


class Explained(NamedTuple):
    """A review, and what each of its words is there for.

    Attributes:
        review: It.
        words: Its words and signs, in order; a Korean word has its endings with it.
        roles: Of each word: "counts" (an adjective that decides, or what negates it), "conceded" (the same in a clause that does
            not count), "contrast" (but, although, 하지만; endings like -지만 are no words of their own), or "other".
    """

    review: Review
    words: list[str]
    roles: list[str]


def write_reviews(count: int, seed: int, held_out: bool = False) -> list[Review]:
    """Write reviews: both languages, and praise and complaint, are equally frequent.

    Args:
        count: How many.
        seed: The same seed writes the same.
        held_out: What decides is said in combinations that are otherwise never written.
    """
    return [explained.review for explained in write_explained(count, seed, held_out)]


def written_splits(seed: int, train: int = 4000, test: int = 1000) -> tuple[Texts, Texts, Texts]:
    """Write reviews to learn from, others in the same combinations, and in held-out ones; no text stands in two of them."""
    found, seen = [], set()
    for place, count in enumerate((train, test, test)):
        reviews = [one for one in write_reviews(count, seed + place * 10**6, held_out=place == 2) if one.text not in seen]
        seen |= {one.text for one in reviews}
        found.append(Texts([one.text for one in reviews], torch.tensor([one.label for one in reviews])))
    mention("data", f"sample: {len(found[0]):,} reviews from a grammar of our own, English and Korean; not real ones")
    return tuple(found)


def write_explained(count: int, seed: int, held_out: bool = False) -> list[Explained]:
    """Write the reviews of `write_reviews`, and say which of their words decide."""
    draw, explained = random.Random(seed), []
    for _ in range(count):
        language, label = draw.choice(("en", "ko")), draw.randrange(2)
        marked = _judge(language, draw.choice(TOPICS), label, held_out, draw) + "."
        asides = [draw.choice(ASIDES[language]) if draw.random() < 0.3 else "" for _ in range(2)]
        marked = f"{asides[0]} {marked} {asides[1]}".strip()
        pieces = re.findall(r"([*~^]?)([\w']+|[^\w\s*~^])", marked)
        review = Review(re.sub(r"[*~^]", "", marked), label, language)
        explained.append(Explained(review, [word for _, word in pieces], [MARKS[mark] for mark, _ in pieces]))
    return explained


def _judge(language: str, topic: str, label: int, held_out: bool, draw: random.Random) -> str:
    """One thing judged, two alike, or one against the other."""
    kind = draw.choices(("one", "both", "contrast"), (3, 3, 4))[0]
    things = draw.sample(word_lists()[f"{language} {topic}"], 1 if kind == "one" else 2)
    contrast = draw.randrange(len(CONTRASTS[language])) if kind == "contrast" else None
    joints, counting = (AGREEING[language], None) if contrast is None else CONTRASTS[language][contrast]
    clauses = []
    for place, thing in enumerate(things):
        counts, negated, own = counting in (None, place), draw.random() < (0.7 if held_out else 0.3), draw.random() < 0.7
        templates = (NEGATIONS if negated else STATEMENTS)[language]
        template = draw.choices(range(len(templates)), (3, *[1] * (len(templates) - 1)))[0]
        good = (bool(label) == counts) != negated  # the adjective, that is
        adjectives = word_lists()[f"{language} {topic if own else 'any'} {'good' if good else 'bad'}"]
        adjective = adjectives[draw.choice(_allowed(template, None if counts else contrast, held_out))]
        very = draw.choice(INTENSIFIERS[language]) + " " if own and draw.random() < 0.3 else ""  # nothing is very perfect
        if language == "en":
            clause = _in_english(templates[template], thing, very, adjective)
        else:
            clause = _in_korean(templates[template], thing, very, adjective, present=joints[place + 1].startswith("긴"))
        clauses.append(clause if counts else clause.replace("*", "~"))
    before, between, after = joints
    return before + between.join(clauses) + after


def _allowed(template: int, contrast: int | None, held_out: bool) -> list[int]:
    """Which of four adjectives may stand in a template, and, where it does not count, with a contrast; or which may not."""
    never = {template % 4} if contrast is None else {template % 4, contrast % 4}
    return sorted(never) if held_out else [i for i in range(4) if i not in never]


def _in_english(template: str, thing: str, very: str, adjective: str) -> str:
    was = "were" if thing.endswith("+") else "was"
    return template.format(thing=f"the {thing.rstrip('+')}", was=was, very=very, word=adjective)


def _in_korean(template: str, thing: str, very: str, adjective: str, present: bool) -> str:
    """All but the ending; in the present where the ending asks for that: 짰지만, but 짜긴 했지만, and 짜지 않긴 했지만."""
    stem, past = adjective.split(" ")
    particle = "은" if (ord(thing[-1]) - ord("가")) % 28 else "는"  # after a final consonant: 은
    clause = template.format(thing=thing + particle, very=very, present=stem, past=past)
    if not present:
        return clause
    if clause.endswith(past):
        return clause.removesuffix(past) + stem
    return clause[:-1] + "하" if clause.endswith("했") else clause[:-1]  # 만했 → 만하, 않았 → 않
