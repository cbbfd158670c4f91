"""An LSTM in both directions with attention, which judges a text by its words (07_nlp/sentiment_analysis.py builds it)."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class AttentiveLstm(nn.Module):
    """Reads words by their parts (`utils.subwords`); its verdict is one number, and above 0 it is praise.

    Args:
        count: How many parts of words have a number, 0 (none) included.
        width: Of word vectors, and of the states in each direction.
        seed: Of the initial weights.
    """

    def __init__(self, count: int, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.parts = nn.Embedding(count, width, padding_idx=0)
        with torch.no_grad():
            self.parts.weight[1:].normal_(std=0.1)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.query, self.head = nn.Linear(2 * width, 1), nn.Linear(2 * width, 1)

    def words(self, ids: Tensor) -> Tensor:
        """Add up the parts of each word, such that it varies as one of them: (batch, words, parts) → (batch, words, width)."""
        return self.parts(ids).sum(dim=2) / (ids > 0).sum(dim=2, keepdim=True).clamp(min=1).sqrt()

    def read(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return verdicts (batch,) on word vectors (batch, words, width), and attention weights (batch, words).

        Args:
            x: Vectors of words.
            real: (batch, words) bool, False where there is padding, which comes last; each text has a word.
        """
        packed = pack_padded_sequence(x, real.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[
            0
        ]  # (batch, words, 2 width)
        weights = self.query(states).squeeze(2).masked_fill(~real, -torch.inf).softmax(dim=1)
        return self.head((weights[:, None] @ states).squeeze(1)).squeeze(1), weights

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """Return verdicts (batch,) on texts (batch, words, parts)."""
        return self.read(self.words(ids), real)[0]
