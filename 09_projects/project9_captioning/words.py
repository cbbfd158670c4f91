"""A sentence as tokens: words, and Korean particles by themselves.

split("작은 원이 별을 가린다")     # ["작은", "원", "+이", "별", "+을", "가린다"]
join(split("작은 원이 별을 가린다"))

So "원이", "원은" and "원을" share what they say of the picture, and which particle follows is learned for itself.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from utils.lesson import check
from utils.networks.translator import PAD

END, UNKNOWN, ENGLISH, KOREAN = 1, 2, 3, 4  # after PAD
SPECIAL = ("<pad>", "<end>", "<unknown>", "<en>", "<ko>")
STARTS = {"en": ENGLISH, "ko": KOREAN}  # the token before the first word says in which language to write
PARTICLE = re.compile(r"([가-힣]+?)(은|는|이|가|을|를|에)?")
GLUE = "+"  # before a token that belongs to the one before it


def split(sentence: str) -> list[str]:
    """Cut a sentence into words in small letters, signs and Korean particles; of signs only the comma says something."""
    found = []
    for word in re.findall(r"[^\W_]+(?:['’-][^\W_]+)*|,", sentence.lower()):
        cut = PARTICLE.fullmatch(word)
        if cut and cut[2]:
            found += [cut[1], GLUE + cut[2]]
        else:
            found.append(GLUE + word if word == "," else word)
    return found


def join(tokens: Iterable[str]) -> str:
    """The sentence that `split` has cut, but for capitals and signs."""
    return " ".join(tokens).replace(f" {GLUE}", "")


class Vocabulary:
    """Numbers for tokens.

    Args:
        tokens: All of them, SPECIAL first.
    """

    def __init__(self, tokens: Sequence[str]):
        check(tuple(tokens[: len(SPECIAL)]) == SPECIAL, "a vocabulary begins with the special tokens")
        self.tokens = list(tokens)
        self.numbers = {token: number for number, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, language: str, sentence: str) -> list[int]:
        """Numbers of a sentence between its language's start and END; a token that is not known becomes UNKNOWN."""
        return [STARTS[language], *(self.numbers.get(token, UNKNOWN) for token in split(sentence)), END]

    def words(self, numbers: Iterable[int]) -> list[str]:
        """Tokens up to the first END, without starts and padding."""
        found = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, *STARTS.values()):
                found.append(self.tokens[number])
        return found

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence."""
        return join(self.words(numbers))


def learn_vocabulary(sentences: Iterable[str], least: int) -> Vocabulary:
    """All tokens that occur at least `least` times, the most frequent first.

    Raises:
        LessonError: There is none.
    """
    counts = Counter(token for sentence in sentences for token in split(sentence))
    kept = sorted((token for token in counts if counts[token] >= least), key=lambda token: (-counts[token], token))
    check(bool(kept), f"no word of the captions occurs {least} times")
    return Vocabulary([*SPECIAL, *kept])
