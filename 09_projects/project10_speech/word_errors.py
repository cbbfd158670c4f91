"""How wrong is what was heard? The word error rate: the fewest words to replace, take out and put in, per word that was said.

heard, said = "7 3 0 5".split(), "7 3 5 5 1".split()
count_errors(heard, said)           # one replaced, one missed
word_error_rate([heard], [said])    # 0.4; above 1 where much is heard that nobody said
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from utils.lesson import check


class Errors(NamedTuple):
    """What has to be done to what was said to get what was heard."""

    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        """All of them: the edit distance."""
        return sum(self)


def count_errors(heard: Sequence[Hashable], said: Sequence[Hashable]) -> Errors:
    """The fewest errors that explain what was heard (Levenshtein, 1966); of equally few, with the most substitutions.

    Row by row: the best way to get from the first words that were said to the first words that were heard.
    """
    row = [Errors(0, 0, insertions) for insertions in range(len(heard) + 1)]  # nothing said, so many words heard
    for deletions, word in enumerate(said, 1):
        above, row = row, [Errors(0, deletions, 0)]
        for place, other in enumerate(heard):
            kept, lost, added = above[place], above[place + 1], row[place]
            row.append(
                min(
                    kept._replace(substitutions=kept.substitutions + (word != other)),
                    lost._replace(deletions=lost.deletions + 1),
                    added._replace(insertions=added.insertions + 1),
                    key=lambda errors: (errors.total, -errors.substitutions),
                )
            )
    return row[-1]


def word_error_rate(heard: Sequence[Sequence[Hashable]], said: Sequence[Sequence[Hashable]]) -> float:
    """Errors in all strings together, per word that was said.

    Raises:
        LessonError: Nothing was said at all: there is nothing to divide by.
    """
    words = sum(map(len, said))
    check(words > 0, "a word error rate needs at least one word that was said")
    return sum(count_errors(*pair).total for pair in zip(heard, said, strict=True)) / words


def told(heard: Sequence[Sequence[Hashable]], said: Sequence[Sequence[Hashable]]) -> str:
    """One line: the rate, and what it is made of."""
    sums = [sum(kind) for kind in zip(*(count_errors(*pair) for pair in zip(heard, said, strict=True)), strict=True)]
    kinds = ", ".join(f"{count} {name}" for count, name in zip(sums, ("replaced", "missed", "added"), strict=True))
    return f"{word_error_rate(heard, said):.1%} of {sum(map(len, said)):,} words wrong ({kinds})"
