"""English sentences with their Korean or German translation, made by a grammar of our own, as many as one likes.

    write_translations(2, "training", "ko", seed=0)
    # ("Joon bought three red books at the market yesterday.", "준은 어제 시장에서 빨간 책 세 권을 샀다.")
    # ("The farmer laughed because Mina hid a cat.", "미나가 고양이를 숨겼기 때문에 농부는 웃었다.")

What has to be learned: the verb goes to the end, in Korean always, in German its second half and in subordinate clauses;
relative clauses and reasons come first in Korean; particles by the final consonant (은/는, 이/가, 을/를), counters by the thing
(권, 마리); articles and adjectives by gender and number in German. Which verb has which object decides on the split: "buy" with
"book" is in the test only, so nobody can know those sentences by heart. Each English sentence has exactly one translation here.
"""

import random
import re
from typing import Literal, NamedTuple

from utils.datasets.sentence_pairs import PairData, korean_english, multi30k
from utils.datasets.sources import Source
from utils.lesson import check, mention

Language = Literal["ko", "de"]
Split = Literal["training", "validation", "test"]
# English singular and plural | Korean and its counter | German singular, gender, plural
THINGS = """
book books|책 권|Buch n Bücher
letter letters|편지 통|Brief m Briefe
apple apples|사과 개|Apfel m Äpfel
pencil pencils|연필 자루|Bleistift m Bleistifte
ticket tickets|표 장|Karte f Karten
picture pictures|그림 점|Bild n Bilder
flower flowers|꽃 송이|Blume f Blumen
dog dogs|강아지 마리|Hund m Hunde
cat cats|고양이 마리|Katze f Katzen
bicycle bicycles|자전거 대|Fahrrad n Fahrräder
car cars|자동차 대|Auto n Autos
shirt shirts|셔츠 벌|Hemd n Hemden
knife knives|칼 자루|Messer n Messer
chair chairs|의자 개|Stuhl m Stühle
hat hats|모자 개|Hut m Hüte
coat coats|외투 벌|Mantel m Mäntel
"""
# English base, third person, past | Korean present, past stem, stem before 지, before a noun: past, present, future | German
VERBS = """
buy buys bought|산다 샀 사 산 사는 살|kaufen kauft gekauft
sell sells sold|판다 팔았 팔 판 파는 팔|verkaufen verkauft verkauft
see sees saw|본다 보았 보 본 보는 볼|sehen sieht gesehen
find finds found|찾는다 찾았 찾 찾은 찾는 찾을|finden findet gefunden
lose loses lost|잃어버린다 잃어버렸 잃어버리 잃어버린 잃어버리는 잃어버릴|verlieren verliert verloren
paint paints painted|그린다 그렸 그리 그린 그리는 그릴|malen malt gemalt
bring brings brought|가져온다 가져왔 가져오 가져온 가져오는 가져올|bringen bringt gebracht
hide hides hid|숨긴다 숨겼 숨기 숨긴 숨기는 숨길|verstecken versteckt versteckt
wash washes washed|씻는다 씻었 씻 씻은 씻는 씻을|waschen wäscht gewaschen
choose chooses chose|고른다 골랐 고르 고른 고르는 고를|wählen wählt gewählt
steal steals stole|훔친다 훔쳤 훔치 훔친 훔치는 훔칠|stehlen stiehlt gestohlen
count counts counted|센다 셌 세 센 세는 셀|zählen zählt gezählt
"""
PEOPLE = """
Mina|미나|Mina
Joon|준|Joon
Sora|소라|Sora
Emil|에밀|Emil
Anna|안나|Anna
Tom|톰|Tom
my mother|우리 어머니|meine Mutter
my brother|우리 형|mein Bruder
the teacher|선생님|der Lehrer
the doctor|의사|die Ärztin
the farmer|농부|der Bauer
the pupil|학생|die Schülerin
the child|아이|das Kind
the baker|제빵사|der Bäcker
"""
QUALITIES = """
red|빨간|rot
blue|파란|blau
new|새|neu
old|낡은|alt
small|작은|klein
big|큰|groß
beautiful|예쁜|schön
heavy|무거운|schwer
white|하얀|weiß
strange|이상한|seltsam
"""
PLACES = """
at the market|시장에서|auf dem Markt
in the garden|정원에서|im Garten
at school|학교에서|in der Schule
at the station|역에서|am Bahnhof
in the kitchen|부엌에서|in der Küche
in the park|공원에서|im Park
at home|집에서|zu Hause
"""
TIMES = {
    "past": "yesterday|어제|gestern; last week|지난주에|letzte Woche; this morning|오늘 아침에|heute Morgen",
    "present": "every day|매일|jeden Tag; every week|매주|jede Woche",
    "future": "tomorrow|내일|morgen; next week|다음 주에|nächste Woche",
}
REACTIONS = "laughed|웃었다|gelacht; slept|잤다|geschlafen; sang|노래했다|gesungen; cried|울었다|geweint"
THOUGHTS = "says|말한다|sagt; believes|믿는다|glaubt; hears|듣는다|hört"
NUMBERS = (
    "two|두|zwei; three|세|drei; four|네|vier; five|다섯|fünf; six|여섯|sechs; seven|일곱|sieben; nine|아홉|neun; ten|열|zehn"
)
KINDS = {"statement": 4, "question": 2, "not": 2, "who": 2, "that": 2, "because": 1, "because first": 1, "when": 1}


class Entry(NamedTuple):
    """A line of a table: what it is in each language, with its forms."""

    en: str
    ko: str
    de: str


def _table(text: str) -> list[Entry]:
    return [Entry(*line.strip().split("|")) for line in re.split("[\n;]", text.strip())]


def translations(source: Source, into: Literal["ko", "de", "fr"], pairs: int = 6000, seed: int = 0) -> PairData:
    """Sentences in English and their translations: Multi30k, for Korean Tatoeba's sentences; or ours.

    Args:
        source: "real", "sample", or "auto": real where the files are, else ours.
        into: "ko", "de", or "fr", which our grammar does not speak.
        pairs: Of ours, for training; 300 each for validation and test.
        seed: Of ours.

    Raises:
        LessonError: As `multi30k` and `korean_english`; or French is asked for, and only ours are there.
    """
    real = korean_english(source) if into == "ko" else multi30k("en", into, source)
    if real is not None:
        return real
    check(into in ("ko", "de"), f"the grammar of the sample speaks Korean and German, not {into!r}: ko, de, or real data")
    sizes = {"training": pairs, "validation": 300, "test": 300}
    splits = [write_translations(count, split, into, seed) for split, count in sizes.items()]
    data = PairData(*splits, f"sentences of our own grammar, en to {into} ({pairs:,} + 300 + 300, seed {seed})")
    mention("data", data.source)
    return data


def write_translations(count: int, split: Split, into: Language = "ko", seed: int = 0) -> list[tuple[str, str]]:
    """Write different sentences and their translations.

    Args:
        count: How many.
        split: Which pairs of verb and object to use: 6 of 8 are for training, 1 each for validation and test.
        into: "ko" or "de". The English sentences are the same for both.
        seed: The same seed writes the same.
    """
    draw, pairs = random.Random(f"{split} {seed}"), {}
    things, verbs, tables = _table(THINGS), _table(VERBS), [_table(part) for part in (PEOPLE, QUALITIES, PLACES)]
    allowed = {"test": (0,), "validation": (1,), "training": (2, 3, 4, 5, 6, 7)}[split]
    combinations = [(v, n) for i, v in enumerate(verbs) for j, n in enumerate(things) if (5 * i + 3 * j) % 8 in allowed]
    while len(pairs) < count:
        verb, thing = draw.choice(combinations)
        english, korean, german = _sentence(draw, verb, thing, *tables)
        pairs[english] = korean if into == "ko" else german
    return [*pairs.items()]


def word_by_word(sentence: str, into: Language = "ko") -> str:
    """Translate with a dictionary that knows every word and phrase of the grammar, and nothing else."""
    where, known = ("ko", "de").index(into) + 1, {"not": ("않다", "nicht"), "who": ("", "der"), "because": ("때문에", "weil")}
    known |= {"when": ("때", "wenn"), "that": ("고", "dass"), "a": ("", "ein"), "the": ("그", "das"), "will": ("", "wird")}
    meanings = {english: forms[where - 1] for english, forms in known.items()}
    for text in (PEOPLE, QUALITIES, PLACES, *TIMES.values(), REACTIONS, THOUGHTS, NUMBERS):
        meanings |= {entry.en: entry[where] for entry in _table(text)}
    for entry in _table(THINGS):
        meanings |= dict.fromkeys(entry.en.split(), entry[where].split()[0])
    for entry in _table(VERBS):
        meanings |= dict.fromkeys(entry.en.split(), entry[where].split()[0])
    rest, words = sentence[0].lower() + sentence[1:].rstrip(".?").replace(",", ""), []
    rest = rest if any(rest.startswith(f"{key} ") for key in meanings) else sentence.rstrip(".?")
    while rest:
        key = max((key for key in meanings if f"{rest} ".startswith(f"{key} ")), key=len, default=None)
        words.append("" if key is None else meanings[key])
        rest = rest.removeprefix(key).strip() if key else rest.partition(" ")[2]
    text = " ".join(filter(None, words))
    return text[0].upper() + text[1:] + sentence[-1]


def _sentence(draw: random.Random, verb: Entry, thing: Entry, people: list, qualities: list, places: list) -> Entry:
    """One sentence in all languages."""
    kind = draw.choices([*KINDS], [*KINDS.values()])[0]
    tense = "past" if kind in ("who", "because", "because first", "when") else draw.choice(("past", "past", "present", "future"))
    one, other = draw.sample([person for person in people if kind != "who" or person.en.startswith("the ")], 2)
    place = draw.choice(places) if draw.random() < 0.4 and kind != "not" else Entry("", "", "")
    time = draw.choice(_table(TIMES[tense])) if draw.random() < 0.5 else Entry("", "", "")
    first = bool(time.en) and kind in ("statement", "not") and draw.random() < 0.4
    what = _object(draw, thing, draw.choice(qualities) if draw.random() < 0.6 else None, kind == "not")
    reaction, thought = draw.choice(_table(REACTIONS)), draw.choice(_table(THOUGHTS))
    end, en, ko, de = "?" if kind == "question" else ".", verb.en.split(), verb.ko.split(), verb.de.split()
    # English: who does what, where and when; helpers only in questions and negations.
    doing = {"past": en[2], "present": en[1], "future": f"will {en[0]}"}[tense]
    helper = {"past": "did", "present": "does", "future": "will"}[tense]
    when = "" if first else time.en
    clause = _join(one.en, f"{helper} not {en[0]}" if kind == "not" else doing, what.en, place.en, when)
    english = {
        "question": _join(helper, one.en, en[0], what.en, place.en, when),
        "who": _join(one.en, "who", doing, what.en, place.en, when, reaction.en),
        "that": _join(other.en, thought.en, "that", clause),
        "because": _join(other.en, reaction.en, "because", clause),
        "because first": _join("because", clause + ",", other.en, reaction.en),
        "when": _join("when", clause + ",", other.en, reaction.en),
    }.get(kind, _join(time.en if first else "", clause))
    # Korean: topic, time, place, thing, verb; what explains comes before what it explains.
    present, past, stem, past_noun, _, future = ko
    rest = _join("" if first else time.ko, place.ko, what.ko)
    plain = {"past": f"{past}다", "present": present, "future": f"{future} 것이다"}[tense]
    asked = {"past": f"{past}니", "present": f"{ko[4].removesuffix('는')}니", "future": f"{future} 거니"}[tense]
    negated = {"past": f"{stem}지 않았다", "present": f"{stem}지 않는다", "future": f"{stem}지 않을 것이다"}[tense]
    topic, subject = _with(one.ko, "은는"), _with(one.ko, "이가")
    korean = {
        "question": _join(topic, rest, asked),
        "not": _join(time.ko if first else "", topic, rest, negated),
        "who": _join(rest, past_noun, topic, reaction.ko),
        "that": _join(_with(other.ko, "은는"), subject, rest, plain.replace("것이다", "것이라") + "고", thought.ko),
        "when": _join(subject, rest, f"{past}을 때", _with(other.ko, "은는"), reaction.ko),
    }.get(kind, _join(time.ko if first else "", topic, rest, plain))
    if kind.startswith("because"):
        korean = _join(subject, rest, f"{past}기 때문에", _with(other.ko, "은는"), reaction.ko)
    # German: the finite verb comes second, in a subordinate clause last; its other half always stands at the end.
    finite, half = {"past": ("hat", de[2]), "present": (de[1], ""), "future": ("wird", de[0])}[tense]
    rest = _join("" if first else time.de, place.de, what.de)
    who = one.de.split()[0]  # as a relative pronoun: der, die, das
    late = _join(one.de, rest, half, finite)
    german = {
        "question": _join(finite, one.de, rest, half),
        "who": _join(one.de + ",", who, rest, half, f"{finite},", "hat", reaction.de),
        "that": _join(other.de, thought.de + ",", "dass", late),
        "because": _join(other.de, "hat", reaction.de + ",", "weil", late),
        "because first": _join("weil", late + ",", "hat", other.de, reaction.de),
        "when": _join("als", late + ",", "hat", other.de, reaction.de),
    }.get(kind, _join(time.de, finite, one.de, rest, half) if first else _join(one.de, finite, rest, half))
    return Entry(*(text[0].upper() + text[1:] + end for text in (english, korean, german)))


def _object(draw: random.Random, thing: Entry, quality: Entry | None, negated: bool) -> Entry:
    """What it is done to, with its article or number: "three red books", 빨간 책 세 권을, drei rote Bücher."""
    (one, many), (ko, counter), (de, gender, des) = thing.en.split(), thing.ko.split(), thing.de.split()
    en, adjective, ending = (quality.en, quality.ko, quality.de) if quality else ("", "", "")
    number = draw.choice(_table(NUMBERS))
    kind = draw.choice(("a", "the") if negated else ("a", "the", "number"))
    if kind == "number":
        return Entry(_join(number.en, en, many), _join(adjective, ko, number.ko, _with(counter, "을를")),
                     _join(number.de, ending and f"{ending}e", des))  # fmt: skip
    mixed, weak = {"m": ("en", "en"), "f": ("e", "e"), "n": ("es", "e")}[gender]  # accusative, after ein, and after der
    if kind == "the":
        article = {"m": "den", "f": "die", "n": "das"}[gender]
        german = _join(article, ending and ending + weak, de, "nicht" if negated else "")
        return Entry(_join("the", en, one), _join("그", adjective, _with(ko, "을를")), german)
    article = ("kein" if negated else "ein") + {"m": "en", "f": "e", "n": ""}[gender]
    an = "an" if (en or one)[0] in "aeiou" else "a"
    return Entry(_join(an, en, one), _join(adjective, _with(ko, "을를")), _join(article, ending and ending + mixed, de))


def _join(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _with(word: str, particles: str) -> str:
    """Add a particle: the first of two after a final consonant (받침), the second after a vowel."""
    return word + particles[(ord(word[-1]) - ord("가")) % 28 == 0]
