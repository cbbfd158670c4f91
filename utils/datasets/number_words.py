"""Numbers in words, in English and in Sino-Korean, and numbers to learn them from.

in_english(2026)   # ["two", "thousand", "twenty", "six"]
in_korean(2026)    # ["이", "천", "이", "십", "육"]
"""

import random

SMALL = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ENGLISH, KOREAN = (*SMALL, *TENS, "hundred", "thousand"), tuple("일이삼사오육칠팔구십백천만")  # all words


def in_english(n: int) -> list[str]:
    """Write a number from 1 to 999,999 in English words."""
    words = []
    for unit, name in ((1000, "thousand"), (100, "hundred")):
        if n >= unit:
            words, n = [*words, *in_english(n // unit), name], n % unit
    if n >= 20:
        words, n = [*words, TENS[n // 10 - 2]], n % 10
    return [*words, SMALL[n - 1]] if n else words


def in_korean(n: int) -> list[str]:
    """Write a number from 1 to 99,999,999 in Sino-Korean syllables; 일 before 십, 백, 천 and a leading 만 is left out."""
    if n >= 10_000:
        return [*(in_korean(n // 10_000) if n >= 20_000 else []), "만", *(in_korean(n % 10_000) if n % 10_000 else [])]
    words = []
    for unit, name in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit, n = divmod(n, unit)
        if digit > 1 or digit == unit == 1:
            words.append("일이삼사오육칠팔구"[digit - 1])
        if digit and name:
            words.append(name)
    return words


def draw_numbers(count: int, held_out: bool, seed: int) -> tuple[list[int], list[bool]]:
    """Draw numbers of two to six digits, each length as often; and whether each is to be written in Korean.

    A fifth of all numbers, chosen by the seed, is held out: it is drawn with `held_out` and never without.
    """
    choose, draw, numbers = random.Random(seed), random.Random(2 * seed + held_out + 1), []
    held = set(choose.sample(range(10**6), 200_000))
    while len(numbers) < count:
        digits = draw.randint(2, 6)
        number = draw.randrange(10 ** (digits - 1), 10**digits)
        if (number in held) == held_out:
            numbers.append(number)
    return numbers, [draw.random() < 0.5 for _ in numbers]
