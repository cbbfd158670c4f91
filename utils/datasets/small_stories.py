"""Very small stories in English and Korean, written here, as many as one likes: what somebody has, gets, or gives away.

    write_stories(2, seed=0)
    # Joon has 7 kites. It is windy. She gives 3 of them to Nora. Now Joon has 4 kites.
    # 보라는 책이 3권 있다. 은수가 보라에게 2권을 더 준다. 이제 보라에게는 책이 5권 있다.

Much of a story is settled by what stands far before it: who it is about, he or she, the things and in Korean how they are
counted, the sum. Who only knows the last few characters cannot know that. `holds_together` tells whether a story got it right.
"""

import random

GIRLS, BOYS = "Mina Nora Lucy Emma Sora Ruth".split(), "Joon Adam Paul Hugo Eric Otto".split()
THINGS = "apple pear kite shell button ribbon pencil cookie stamp marble".split()
OPENINGS = ("{a} has {n}.", "{a} finds {n}.", "Here is {a} with {n}.", "In the bag of {a} there {are} {n}.")
FEWER = ("{She} gives {k} of them to {b}. Now {a} has {m}.", "{b} asks for {k}, and {she} says yes. Now {m} {belong} to {a}.")
MORE = ("{b} gives {a} {k} more. Now {she} has {m}.", "{She} gets {k} more from {b}. Now {m} {belong} to {a}.")
ASIDES = ("It is windy.", "The sun is out.", "It is almost noon.", "A dog barks.", "Nobody sees it.")

NAMES_KO = "민지 보라 은수 지우 하늘 도윤 서연 태민 가람 유진 수빈 현우".split()
COUNTERS = {"책": "권", "공책": "권", "연필": "자루", "붓": "자루", "사과": "개", "공": "개"} | {
    "종이": "장", "사진": "장", "장미": "송이", "병아리": "마리", "강아지": "마리", "양말": "켤레",
}  # fmt: skip
OPENINGS_KO = ("{a는} {t가} {n} 있다.", "{a는} {t를} {n} 얻었다.", "{a에게} {t가} {n} 생겼다.", "{t} {n가} {a} 앞에 있다.")
FEWER_KO = ("{a는} {b에게} {n} 가운데 {k를} 준다. 이제 {a에게}는 {t가} {m} 남았다.",)
FEWER_KO += ("{b가} {k를} 달라고 해서 {a는} 그렇게 한다. 남은 {t는} {m}다.",)
MORE_KO = ("{b가} {a에게} {k를} 더 준다. 이제 {a에게}는 {t가} {m} 있다.", "{a는} {b에게} {k를} 더 받는다. {t는} 모두 {m}다.")
ASIDES_KO = ("바람이 분다.", "날이 맑다.", "곧 점심때다.", "멀리서 개가 짖는다.", "본 사람은 없다.")
PARTICLES = {"는": ("은", "는"), "가": ("이", "가"), "를": ("을", "를"), "에게": ("에게", "에게")}


def write_stories(count: int, seed: int) -> list[str]:
    """Write stories, one line each, half of them in Korean.

    Args:
        count: How many.
        seed: The same seed writes the same.
    """
    draw, stories = random.Random(seed), []
    for _ in range(count):
        korean, fewer = draw.random() < 0.5, draw.random() < 0.5
        one, other = draw.sample(NAMES_KO if korean else GIRLS + BOYS, 2)
        thing = draw.choice([*COUNTERS] if korean else THINGS)
        n = draw.randint(2 if fewer else 1, 9 if fewer else 8)
        k = draw.randint(1, n - 1 if fewer else 9 - n)  # what is left, or there in the end, is 1 to 9
        aside = draw.choice(ASIDES_KO if korean else ASIDES) if draw.random() < 0.5 else ""
        frame = draw.choice(_frames(korean, fewer, aside))
        stories.append(frame.format_map(_facts(one, other, thing, n, k, fewer)))
    return stories


def holds_together(story: str) -> bool:
    """Tell whether names, things, counts, he and she agree: whether it is a story that could have been written here."""
    korean = any("가" <= character <= "힣" for character in story)
    names = sorted((name for name in (NAMES_KO if korean else GIRLS + BOYS) if name in story), key=story.index)
    things = [thing for thing in (COUNTERS if korean else THINGS) if thing in story]
    numbers = [int(character) for character in story if character.isdecimal()]
    if len(names) != 2 or not things or len(numbers) not in (3, 4) or 0 in numbers:
        return False
    n, k = numbers[0], numbers[-2]
    for one, other in (names, names[::-1]):
        for thing in things:  # 공책 is also a 공 and a 책
            for fewer in (True, False):
                facts = _facts(one, other, thing, n, k, fewer)
                for aside in ("", *(ASIDES_KO if korean else ASIDES)):
                    if any(frame.format_map(facts) == story for frame in _frames(korean, fewer, aside)):
                        return True
    return False


def _frames(korean: bool, fewer: bool, aside: str) -> list[str]:
    """Whole stories with gaps, the aside after the first sentence."""
    openings = OPENINGS_KO if korean else OPENINGS
    endings = (FEWER_KO if fewer else MORE_KO) if korean else (FEWER if fewer else MORE)
    return [" ".join(filter(None, (opening, aside, ending))) for opening in openings for ending in endings]


def _facts(one: str, other: str, thing: str, n: int, k: int, fewer: bool) -> dict[str, str]:
    """What goes into the gaps of a story."""
    m = n - k if fewer else n + k
    if thing in COUNTERS:
        unit = COUNTERS[thing]
        words = {"a": one, "b": other, "t": thing, "n": f"{n}{unit}", "k": f"{k}{unit}", "m": f"{m}{unit}"}
        return words | {name + ending: _with(word, ending) for name, word in words.items() for ending in PARTICLES}
    counted = {name: f"{count} {thing}{'s' * (count > 1)}" for name, count in (("n", n), ("m", m))}
    she = "she" if one in GIRLS else "he"
    verbs = {"are": "are" if n > 1 else "is", "belong": "belong" if m > 1 else "belongs"}
    return {"a": one, "b": other, "k": str(k), "she": she, "She": she.capitalize(), **counted, **verbs}


def _with(word: str, particle: str) -> str:
    """Add a particle: 은, 이, 을 after a consonant, 는, 가, 를 after a vowel."""
    return word + PARTICLES[particle][(ord(word[-1]) - ord("가")) % 28 == 0]
