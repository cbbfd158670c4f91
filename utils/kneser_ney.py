"""Counting at its best: an n-gram model with modified Kneser-Ney smoothing, on tensors; 07_nlp/ngram_models.py builds it by hand.

model = KneserNey(ids, symbols=65, order=5)
model.loss(held)                # nats a symbol; exp of it is the perplexity
model.next(ids[None, -4:])      # (1, 65): how likely each symbol is to come next
"""

import torch
from torch import Tensor

from utils.lesson import check

LEAST = 0.01  # a discount of 0 would leave nothing to what was never seen


class KneserNey:
    """Counts each n-gram up to an order, takes a little off, and hands that to the next shorter context.

    Shorter contexts count what comes before them, not how often they come: "Francisco" is frequent, but only after "San" (Kneser
    and Ney, 1995). The three discounts of each order, for counts of 1, 2 and more, are those of Chen and Goodman (1998).

    Args:
        ids: (n,) int64, a text.
        symbols: How many different ones there are; those not in the text have a share too.
        order: The longest n-gram; symbols ** order must fit into an int64.

    Raises:
        LessonError: The n-grams are too long to be numbered, or longer than the text.
    """

    def __init__(self, ids: Tensor, symbols: int, order: int):
        check(symbols**order < 2**63, f"{order}-grams of {symbols} different symbols are too many; count shorter ones")
        check(0 < order <= len(ids), f"{order}-grams cannot be counted in {len(ids)} symbols")
        self.symbols, self.order, self.tables = symbols, order, []
        ids = ids.cpu()
        for n in range(1, order + 1):
            if n == order:
                grams, counts = self._numbers(ids.unfold(0, n, 1)).unique(return_counts=True)  # sorted
            else:  # count the different symbols before an n-gram: a longer one, without its first symbol
                longer = self._numbers(ids.unfold(0, n + 1, 1)).unique()
                grams, counts = (longer % symbols**n).unique(return_counts=True)
            less = discounts(counts)[counts.clamp(max=3) - 1]  # (grams,)
            contexts, place = (grams // symbols).unique(return_inverse=True)
            total, free = (torch.zeros(len(contexts)).double().index_add(0, place, x.double()) for x in (counts, less))
            self.tables.append((grams, (counts - less) / total[place], contexts, free / total))

    def _numbers(self, grams: Tensor) -> Tensor:
        """Write n-grams (m, n) as one number each, (m,)."""
        return grams @ self.symbols ** torch.arange(grams.shape[1] - 1, -1, -1)

    def chances(self, grams: Tensor) -> Tensor:
        """How likely the last symbol of each n-gram (m, n) is after those before it: (m,) float64."""
        found = torch.full((len(grams),), 1 / self.symbols, dtype=torch.float64)
        for n, (known, own, contexts, free) in enumerate(self.tables[: grams.shape[1]], 1):
            asked = self._numbers(grams[:, grams.shape[1] - n :])
            gram = torch.searchsorted(known, asked).clamp(max=len(known) - 1)
            context = torch.searchsorted(contexts, asked // self.symbols).clamp(max=len(contexts) - 1)
            mixed = own[gram] * (known[gram] == asked) + free[context] * found
            found = torch.where(contexts[context] == asked // self.symbols, mixed, found)
        return found

    def next(self, ids: Tensor) -> Tensor:
        """How likely each symbol is after texts (batch, n): (batch, symbols) float64; only the last order - 1 count."""
        context = ids.cpu()[:, max(0, ids.shape[1] - self.order + 1) :]
        every = torch.arange(self.symbols).expand(len(ids), -1).unsqueeze(2)  # (batch, symbols, 1)
        grams = torch.cat([context.unsqueeze(1).expand(-1, self.symbols, -1), every], dim=2)  # (batch, symbols, n + 1)
        return self.chances(grams.flatten(0, 1)).view(len(ids), self.symbols)

    def loss(self, before: Tensor, held: Tensor) -> float:
        """Predict a text from all that stands before it.

        Args:
            before: (n,) int64, usually what was counted.
            held: (m,) int64, what comes right after it.

        Returns:
            The mean loss in nats a symbol of all symbols held but the first, as of `utils.language.ngram_losses`.
        """
        text = torch.cat([before, held]).cpu()
        grams = text[len(before) + 2 - self.order :].unfold(0, self.order, 1)  # (m - 1, order)
        return -self.chances(grams).log().mean().item()


def discounts(counts: Tensor) -> Tensor:
    """What to take off counts of 1, of 2, and of 3 or more: (3,) float64, from how many n-grams have each count.

    Where that cannot be told, because there are none with a count of 1 to 4, one discount serves for all.

    Args:
        counts: (grams,) int64, at least 1 each.
    """
    ones, twos, threes, fours = ((counts == i).sum().item() for i in (1, 2, 3, 4))
    share = ones / (ones + 2 * twos) if ones and twos else 0.5
    if not (ones and twos and threes and fours):
        return torch.full((3,), share, dtype=torch.float64)
    found = [1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes]
    return torch.tensor([min(max(less, LEAST), count) for count, less in enumerate(found, 1)], dtype=torch.float64)
