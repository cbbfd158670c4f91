"""What does a review say, and which words say so? · 리뷰는 무엇을 말하고, 어떤 단어가 그렇게 말하는가

    python -m study run sentiment/predict "The soup was not salty." "배우들은 훌륭했지만 결말이 아쉬웠다."

Every word has a number: by how much the log-odds of praise fall when the word is covered up. That is what the network does, and
no guess about it: type ○ in place of the word, and see. Training comes first: python -m study run sentiment
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import tyro
from torch import Tensor

from project4_sentiment.model import ReviewClassifier, load_network
from project4_sentiment.words import HEAD, NO_WORD, TAIL, Lexicon, Span, clean, encode, find_words, window
from utils.device import pick_device
from utils.lesson import LessonError, check, mention, run

UNSURE = 0.6  # below this probability of the likelier verdict, there is none
MOST_PARTS = 64  # parts of a text that are covered in turn; where there are more words, several at a time
COVERED = ""  # no word of a text is empty, so that it is unknown to every lexicon

Kind = Literal["praise", "complaint", "unsure", "unknown"]


class NoText(LessonError):
    """Nothing was written."""

    kind = "blank"  # for the page; see utils.web


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    Attributes:
        text: As it was written.
        kind: "word" (one, or several that are covered together), "unknown" (the network only sees that it is there), "skipped"
            (between the window's two ends), or "space".
        strength: Of a word: the log-odds of the text minus those with the word covered; above 0 it speaks for praise, below 0
            for complaint. 0 in a text that is unknown.
    """

    text: str
    kind: Literal["word", "unknown", "skipped", "space"]
    strength: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What the network makes of a text.

    Attributes:
        kind: "praise" or "complaint"; "unsure" where neither reaches a probability of UNSURE; "unknown" where fewer than half of
            the words that were read are known.
        probability: Of praise, calibrated; of an unknown text 0.5.
        log_odds: The same as log(probability / (1 - probability)).
        pieces: The whole text, cut into parts, in order.
        words: How many it has.
        read: How many were read: all, or the first HEAD and the last TAIL.
        known: How many of those are known.
        together: How many neighbours were covered at a time: 1, but in long texts.
    """

    kind: Kind
    probability: float
    log_odds: float
    pieces: list[Piece]
    words: int
    read: int
    known: int
    together: int


class Judge:
    """A trained network, ready to be asked.

    Args:
        model: In eval mode, on its device.
        lexicon: What it knows.
        temperature: Divides its log-odds, so that of what it says with 80 % certainty 80 % is right.
    """

    def __init__(self, model: ReviewClassifier, lexicon: Lexicon, temperature: float):
        self.model, self.lexicon, self.temperature = model, lexicon, temperature

    @torch.no_grad()
    def log_odds(self, texts: Sequence[Sequence[str]], batch_size: int = 64) -> Tensor:
        """Calibrated log-odds of praise of texts, each a list of words: (texts,) on the CPU. Like lengths are read together."""
        device = self.model.pieces.weight.device
        words, rows = encode(self.lexicon, texts)
        words, lengths, found = words.to(device), (rows != NO_WORD).sum(dim=1), torch.zeros(len(rows))
        for chosen in lengths.argsort(stable=True).split(batch_size):
            longest = max(1, int(lengths[chosen].max()))
            batch = rows[chosen, :longest] if rows.shape[1] else rows.new_zeros(len(chosen), 1)
            found[chosen] = self.model(words, batch.to(device)).float().cpu()
        return found / self.temperature

    def judge(self, text: str) -> Verdict:
        """Read a text, and find out what each of its words does.

        Raises:
            NoText: There is nothing in it but spaces.
        """
        text = clean(text)
        spans = find_words(text)
        if not text.strip():
            raise NoText("there is no text: write a sentence or two")
        read = window(spans)
        words = [text[start:end].lower() for start, end in read]
        known = [place for place, word in enumerate(words) if self.lexicon.spell(word)]
        counts = {"words": len(spans), "read": len(read), "known": len(known), "together": max(1, -(-len(known) // MOST_PARTS))}
        if not is_enough(len(known), len(read)):
            marks = [Mark(*span, "word" if place in known else "unknown", 0.0) for place, span in enumerate(read)]
            return Verdict("unknown", 0.5, 0.0, _cut(text, _with_gap(marks, spans)), **counts)
        groups = _groups(known, counts["together"])
        covered = [[COVERED if place in group else word for place, word in enumerate(words)] for group in groups]
        odds, *without = self.log_odds([words, *covered]).tolist()
        marks = [
            Mark(read[group[0]].start, read[group[-1]].end, "word", odds - left)
            for group, left in zip(groups, without, strict=True)
        ]
        told = {place for mark in marks for place in range(mark.start, mark.end)}
        marks += [Mark(*span, "unknown", 0.0) for span in read if span.start not in told]
        probability = torch.tensor(odds).sigmoid().item()
        return Verdict(verdict_of(probability), probability, odds, _cut(text, _with_gap(marks, spans)), **counts)


def is_enough(known: int, read: int) -> bool:
    """Whether a text of which so many words are known can be judged at all: half of those that were read."""
    return 0 < read <= 2 * known


def verdict_of(probability: float) -> Kind:
    """The verdict on a text that is praise with this probability."""
    if max(probability, 1 - probability) < UNSURE:
        return "unsure"
    return "praise" if probability > 0.5 else "complaint"


def load_judge(file: Path | None, device: torch.device | str = "cpu") -> tuple[Judge, dict]:
    """A Judge from what training has saved, and the facts about it; see `model.load_network`."""
    model, lexicon, about = load_network(file, device)
    return Judge(model, lexicon, about["temperature"]), about


# %% Parts of a text
class Mark(NamedTuple):
    """What text[start:end] is, and what it does; see `Piece`."""

    start: int
    end: int
    kind: str
    strength: float


def _groups(known: Sequence[int], size: int) -> list[Sequence[int]]:
    """Places of words that are covered together, `size` of them; none of them on the two sides of what is not read."""
    before = sum(place < HEAD for place in known) if size > 1 else len(known)
    return [part[i : i + size] for part in (known[:before], known[before:]) for i in range(0, len(part), size)]


def _with_gap(marks: Sequence[Mark], spans: Sequence[Span]) -> list[Mark]:
    """Marks in order, with one for the words between the window's ends, where there are any."""
    gap = [Mark(spans[HEAD].start, spans[-TAIL - 1].end, "skipped", 0.0)] if len(spans) > HEAD + TAIL else []
    return sorted([*marks, *gap])


def _cut(text: str, marks: Sequence[Mark]) -> list[Piece]:
    """The text as pieces, by marks in order that do not overlap; what is between them is space."""
    pieces, done = [], 0
    for start, end, kind, strength in marks:
        if done < start:
            pieces.append(Piece(text[done:start], "space"))
        pieces.append(Piece(text[start:end], kind, strength))
        done = end
    return [*pieces, Piece(text[done:], "space")] if done < len(text) else pieces


# %% In words
def in_words(verdict: Verdict) -> str:
    """One sentence: the verdict, how probable it is, and what was not read."""
    share = max(verdict.probability, 1 - verdict.probability)
    told = "over 99%" if share > 0.99 else f"{share:.0%}"
    likelier = "praise" if verdict.probability > 0.5 else "complaint"
    said = {
        "unknown": f"I cannot tell: {verdict.known} of {verdict.read} words are known, too few",
        "unsure": f"I cannot tell: {likelier}, {share:.0%}",
    }.get(verdict.kind, f"{verdict.kind}, {told}")
    if verdict.read < verdict.words:
        said += f"; read were the first {HEAD} and the last {TAIL} of {verdict.words:,} words"
    if verdict.kind != "unknown" and verdict.known < verdict.read:
        said += f"; {verdict.read - verdict.known} of {verdict.read} words are unknown"
    return said


def strongest(verdict: Verdict, most: int = 5) -> list[Piece]:
    """The pieces that do most, one way or the other, the strongest first."""
    words = [piece for piece in verdict.pieces if piece.kind == "word"]
    return sorted(words, key=lambda piece: -abs(piece.strength))[:most]


def printable(text: str) -> str:
    """Text on one line, without the control characters with which it could move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def main(texts: tyro.conf.Positional[tuple[str, ...]], model: Path | None = None, device: str = "auto") -> dict[str, float]:
    """Say of each text whether it praises or complains, and which words say so.

    Args:
        texts: Each in quotation marks, in English or Korean.
        model: Another trained network than models/project4_sentiment/model.pt.
        device: auto, cpu, cuda or mps.
    """
    check(len(texts) > 0, 'write at least one text: python -m study run sentiment/predict "The soup was not salty."')
    judge, about = load_judge(model, pick_device(device))
    mention("data", f"trained on {about['source']}; {about['accuracy']:.2%} right on its test set")
    results = {}
    for number, text in enumerate(texts, start=1):
        try:
            verdict = judge.judge(text)
        except NoText as error:
            print(f"text {number}: {error}")
            continue
        short = printable(clean(text))
        print(f"{short[:100]}{'…' * (len(short) > 100)}\n  {in_words(verdict)}")
        for piece in strongest(verdict):
            print(f"  {piece.strength:+6.2f}  {printable(piece.text)[:80]}")
        results[f"{number}_praise"] = verdict.probability
    if results:
        print("\nNumbers before words: by how much the log-odds of praise fall when they are covered.")
    return results


if __name__ == "__main__":
    run(main)
