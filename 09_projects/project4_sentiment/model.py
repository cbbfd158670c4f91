"""The network that reads a review, and the file in which it is kept with the pieces that it knows.

    vectors of pieces → a vector for each word → LSTM, forwards and backwards → attention → one number

The number is the logarithm of the odds: above 0 praise is likelier, below 0 complaint.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from project4_sentiment.words import NO_WORD, UNSEEN, Lexicon
from utils import checkpoint, paths
from utils.lesson import LessonError, check

FACTS = ("pieces", "shape", "temperature", "source", "accuracy")  # what must be saved with the weights
TRAIN_AGAIN = "train again with `python -m study run sentiment`"


class Shape(NamedTuple):
    """How large a network is: pieces that it knows, numbers in the vector of a word, and in the state of each LSTM."""

    pieces: int
    width: int
    hidden: int


class ReviewClassifier(nn.Module):
    """Reads words with their neighbours, looks for those that matter, and judges.

    Args:
        shape: Its size.
        dropout: The share of the words' vectors, and of what was read, that is set to 0 in training.
        unseen: The share of words that are covered up in training. So a text with a covered word, by which predict.py finds out
            what the word does, is nothing new, and neither is a word that is unknown.
    """

    def __init__(self, shape: Shape, dropout: float = 0.5, unseen: float = 0.05):
        super().__init__()
        self.shape, self.unseen = shape, unseen
        self.pieces = nn.Embedding(shape.pieces + 2, shape.width, padding_idx=NO_WORD)
        with torch.no_grad():
            self.pieces.weight.mul_(0.3)  # begun at a standard deviation of 1, what words say drowns in it for epochs
        self.forwards = nn.LSTM(shape.width, shape.hidden, batch_first=True)
        self.backwards = nn.LSTM(shape.width, shape.hidden, batch_first=True)
        self.attention = nn.Linear(2 * shape.hidden, 1)
        self.judge = nn.Linear(2 * shape.hidden + shape.width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, texts: Tensor) -> Tensor:
        """Judge a batch of texts.

        Args:
            words: (words, pieces) int32, of `words.encode`; the first row is NO_WORD, the second UNSEEN.
            texts: (batch, time) int32, rows of `words`; NO_WORD is padding, and comes last.

        Returns:
            (batch,), the log-odds of praise; a text without words has the bias, whatever it is filled up with.
        """
        if self.training:
            covered = (torch.rand(texts.shape) < self.unseen).to(texts.device)  # drawn on the CPU: the same on every device
            texts = texts.masked_fill(covered & (texts != NO_WORD), UNSEEN)
        used, places = texts.unique(return_inverse=True)  # of the many words few are in this batch
        vectors = self.dropout(self.spell(words[used])[places])  # (batch, time, width)
        is_word = texts != NO_WORD  # (batch, time)
        # Padding is read last in both directions: no word's state knows of it. (nn.LSTM's own way, a packed sequence and
        # bidirectional=True, gives the same; of texts of 300 words its backward pass took ten times as long on a CPU.)
        states = [self.forwards(vectors)[0], turned(self.backwards(turned(vectors, is_word))[0], is_word)]
        states = self.dropout(torch.cat(states, dim=2))  # (batch, time, 2 * hidden)
        weights = self.attention(states).squeeze(2).masked_fill(~is_word, -1e9).softmax(dim=1) * is_word  # (batch, time)
        read = (weights.unsqueeze(2) * states).sum(dim=1)  # (batch, 2 * hidden)
        # A direct way for what words say by themselves; divided by a root, what many words agree on weighs more than one word.
        count = is_word.sum(dim=1, keepdim=True).clamp(min=1)
        said = (vectors * is_word.unsqueeze(2)).sum(dim=1) / count.sqrt()  # (batch, width)
        return self.judge(torch.cat([read, said], dim=1)).squeeze(1)

    def spell(self, words: Tensor) -> Tensor:
        """A vector for each word, the mean of its pieces': (words, pieces) → (words, width)."""
        count = (words != NO_WORD).sum(dim=1, keepdim=True).clamp(min=1)
        return self.pieces(words).sum(dim=1) / count


def turned(steps: Tensor, is_word: Tensor) -> Tensor:
    """Turn each text round, the last word first; padding stays at the end.

    Args:
        steps: (batch, time, numbers).
        is_word: (batch, time), False for padding, which comes last.
    """
    time = torch.arange(is_word.shape[1], device=is_word.device)
    last = is_word.sum(dim=1, keepdim=True) - 1
    places = torch.where(is_word, last - time, time)  # (batch, time)
    return steps.gather(1, places.unsqueeze(2).expand_as(steps))


def save_network(path: Path, model: ReviewClassifier, lexicon: Lexicon, **about) -> None:
    """Keep a network in one file: weights, size, the pieces that it knows, and facts about it."""
    checkpoint.save_model(path, model, pieces=lexicon.pieces, shape=list(model.shape), **about)


def load_network(file: Path | None, device: torch.device | str = "cpu") -> tuple[ReviewClassifier, Lexicon, dict]:
    """Load what `save_network` has written, ready to judge.

    Args:
        file: None is where training puts it.
        device: Where it goes.

    Returns:
        The network, its lexicon, and the facts: "temperature", "source", "accuracy".

    Raises:
        LessonError: There is no such file, it is damaged, or it is another model's.
    """
    path, about = checkpoint.load_facts(file, paths.models("project4_sentiment") / "model.pt", FACTS, "run sentiment")
    try:
        shape, lexicon = Shape(*about["shape"]), Lexicon(about["pieces"])
        model = ReviewClassifier(shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LessonError(f"{paths.short(path)} is not a network of this project ({error}): {TRAIN_AGAIN}") from None
    check(len(lexicon) == shape.pieces, f"{paths.short(path)}: its pieces do not belong to its weights: {TRAIN_AGAIN}")
    about = checkpoint.load_model(path, model, device)
    del about["pieces"], about["shape"]
    return model.eval(), lexicon, about
