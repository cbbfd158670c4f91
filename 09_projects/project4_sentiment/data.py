"""Reviews for the network: which sets there are, what is held out of them, and batches of texts that are about equally long.

One network learns both languages. Where none of the real sets is there, `utils.datasets` writes reviews in both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from project4_sentiment.words import NO_WORD, UNSEEN, Lexicon, encode, words_of
from utils import catalogue, datasets
from utils.batches import BatchesByLength
from utils.datasets import Source, Texts
from utils.datasets.handwritten_reviews import handwritten_reviews
from utils.datasets.written_reviews import write_reviews
from utils.lesson import mention

REAL = {"nsmc": datasets.nsmc, "rt_polarity": datasets.rt_polarity, "imdb": datasets.imdb}
KOREAN = ("nsmc", "ko")  # the sets whose language is Korean
MOST_VALIDATION = 3000  # reviews that are held out of a set's training reviews, at most; a tenth of a smaller set


@dataclass(frozen=True)
class ReviewSet:
    """Labelled reviews of one kind: 1 for praise, 0 for complaint.

    Attributes:
        train: To learn from.
        validation: To choose by: the epoch, the temperature.
        test: For the last look.
        source: One line that says what was really loaded.
        is_real: False for a sample.
    """

    train: Texts
    validation: Texts
    test: Texts
    source: str
    is_real: bool


# %% The sets
def load(source: Source, reviews: int | None = None) -> dict[str, ReviewSet]:
    """The data sets by name: "nsmc", "rt_polarity" and "imdb", or "en" and "ko" of the sample.

    Args:
        source: "real" (all three), "sample" (reviews of our own), or "auto" for those of the three that are there, if any.
        reviews: Learn from this many reviews of each set only.

    Raises:
        LessonError: A file is damaged, or source="real" and a set cannot be had.
    """
    names = list(REAL) if source == "real" else [name for name in REAL if source == "auto" and catalogue.find(name)]
    sets = {name: load_real(name) for name in names} or write_sample()
    return {name: _fewer(one, reviews) for name, one in sets.items()}


def load_real(name: str) -> ReviewSet:
    """One of the REAL sets; what is held out to choose by comes from a shuffle of its training reviews."""
    data = REAL[name]("real")
    held = min(MOST_VALIDATION, len(data.train) // 10)
    shuffled = data.train[torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))]
    return ReviewSet(shuffled[held:], shuffled[:held], data.test, data.source, is_real=True)


def write_sample(train: int = 8000, held: int = 2000) -> dict[str, ReviewSet]:
    """Reviews of our own in both languages, that can be told apart only by how their words are put together.

    `write_reviews` can tie some adjectives to praise and others to complaints, or the other way about. Half of the reviews are of
    either kind: no word belongs to a label any more, and whoever counts words has nothing to count. No review is in two splits.

    Args:
        train: How many to learn from.
        held: How many each to choose by and to test on, before those are left out that were written before.
    """
    seen: set[str] = set()
    splits = []
    for number, count in enumerate((train, held, held)):
        written = write_reviews(count // 2, 2 * number, held_out=False) + write_reviews(count // 2, 2 * number + 1, held_out=True)
        splits.append([review for review in written if review.text not in seen])
        seen |= {review.text for review in written}
    source = f"sample: {' + '.join(f'{len(split):,}' for split in splits)} made-up reviews of rooms, food and the like"
    mention("data", source)
    return {
        language: ReviewSet(*(_in_language(split, language) for split in splits), source, is_real=False)
        for language in ("en", "ko")
    }


def written_by_hand() -> dict[str, Texts]:
    """Reviews written by hand for this course, in each language: to test on, never to learn from."""
    return {language: handwritten_reviews(language) for language in ("en", "ko")}


def told_source(data: dict[str, ReviewSet]) -> str:
    """One line for all the sets."""
    return " · ".join(dict.fromkeys(one.source for one in data.values()))


def all_of(sets: Sequence[Texts]) -> Texts:
    """Several sets of texts as one."""
    return Texts([text for one in sets for text in one.texts], torch.cat([one.labels for one in sets]))


def _in_language(reviews: list, language: str) -> Texts:
    chosen = [review for review in reviews if review.language == language]
    return Texts([review.text for review in chosen], torch.tensor([review.label for review in chosen]))


def _fewer(one: ReviewSet, reviews: int | None) -> ReviewSet:
    return ReviewSet(one.train[:reviews], one.validation, one.test, one.source, one.is_real)


# %% Batches
class ReviewBatches(BatchesByLength):
    """Shuffled batches (texts, labels) of reviews that are about equally long, so that little padding is computed.

    Attributes:
        words: What the texts' numbers mean, (different words + 2, pieces) int32, on the device.
    """

    def __init__(self, lexicon: Lexicon, reviews: Texts, batch_size: int, device: torch.device, seed: int):
        """Read the reviews and move them to the device; those in which no word is known are left out.

        Args:
            lexicon: What is known.
            reviews: To learn from.
            batch_size: Reviews in a batch; the last one may have fewer.
            device: Where they are kept.
            seed: Of the order.
        """
        words, texts = encode(lexicon, map(words_of, reviews.texts))
        known = (texts > UNSEEN).any(dim=1)
        texts, labels = texts[known], reviews.labels[known].float()
        lengths = (texts != NO_WORD).sum(dim=1)
        self.words = words.to(device)
        super().__init__(texts, labels, lengths=lengths, blur=blurred, batch_size=batch_size, device=device, seed=seed)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for texts, labels in super().__iter__():
            longest = int((texts != NO_WORD).any(dim=0).sum())
            yield texts[:, :longest], labels


def blurred(lengths: Tensor, noise: Tensor) -> Tensor:
    """Lengths by which reviews are sorted, up to a fifth too long, so that batches are new in every epoch; noise is in 0..1."""
    return lengths * (1 + 0.2 * noise)
