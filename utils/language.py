"""Language models: how well a text is predicted, by counting (the baseline of them all) and by a network, and writing on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check


def ngram_losses(train: Tensor, held: Tensor, symbols: int, highest: int) -> list[float]:
    """Predict a text by the counts of n-grams in another one, for n from 1 to `highest`.

    A context that was seen n times, with k different symbols after it, trusts its own counts as far as n / (n + k), and leaves
    the rest to the context that is one symbol shorter (Witten and Bell, 1991); the shortest leaves it to pure chance.

    Args:
        train: (n,) int64, symbols to count.
        held: (m,) int64, symbols that come right after them, to be predicted; on the CPU, as `train`.
        symbols: How many different ones there are.
        highest: symbols ** highest must fit into an int64: of 132 symbols no more than 8.

    Returns:
        The mean loss in nats a symbol of all but the first, of each n.

    Raises:
        LessonError: The n-grams are too long to be counted in this way, or longer than the text.
    """
    check(symbols**highest < 2**63, f"{highest}-grams of {symbols} different symbols are too many; count shorter ones")
    check(0 < highest <= len(train), f"{highest}-grams cannot be counted in {len(train)} symbols")
    text, losses = torch.cat([train, held]), []
    chance = torch.full((len(held),), 1 / symbols, dtype=torch.float64)
    for n in range(1, highest + 1):
        digits = symbols ** torch.arange(n - 1, -1, -1)  # an n-gram is written as one number: its context, then its last symbol
        grams, counts = (train.unfold(0, n, 1) @ digits).unique(return_counts=True)  # sorted
        contexts, place, kinds = (grams // symbols).unique(return_inverse=True, return_counts=True)
        totals = torch.zeros_like(contexts).index_add(0, place, counts)
        asked = text[len(train) - n + 1 :].unfold(0, n, 1) @ digits  # (m,)
        gram, context = _places(grams, asked), _places(contexts, asked // symbols)
        count = counts[gram] * (grams[gram] == asked)  # 0 where it was never seen
        known = contexts[context] == asked // symbols
        total, new = totals[context] * known, kinds[context] * known
        chance = torch.where(known, (count + new * chance) / (total + new).clamp(min=1), chance)
        losses.append(-chance[1:].log().mean().item())
    return losses


def _places(numbers: Tensor, asked: Tensor) -> Tensor:
    """Where in sorted numbers each of those asked for stands, if it is there at all."""
    return torch.searchsorted(numbers, asked).clamp(max=len(numbers) - 1)


@torch.no_grad()
def text_loss(model: nn.Module, ids: Tensor, context: int) -> float:
    """Predict a whole text, every symbol but the first exactly once, and from at least half a context where there is one.

    Args:
        model: Turns symbols (batch, context) into logits of the next one (batch, context, symbols).
        ids: (n,) int64, on the model's device.
        context: How many symbols the model reads at once, at least 2.

    Returns:
        The mean loss in nats a symbol.

    Raises:
        LessonError: The text is shorter than context + 1.
    """
    check(len(ids) > context, f"a text of {len(ids)} characters is too short for a context of {context}")
    half = context // 2
    windows = torch.cat([ids.unfold(0, context + 1, half), ids[None, -context - 1 :]])  # (windows, context + 1)
    new = torch.full((len(windows),), half)  # how many of its symbols no window before it has predicted
    new[0], new[-1] = context, 0
    new[-1] = len(ids) - 1 - new.sum()
    counted, total = (torch.arange(context) >= context - new[:, None]).to(ids.device), 0.0
    for part, count in zip(windows.split(64), counted.split(64), strict=True):
        losses = F.cross_entropy(model(part[:, :-1]).transpose(1, 2), part[:, 1:], reduction="none")  # (64, context)
        total += losses[count].sum().item()
    return total / (len(ids) - 1)


@torch.no_grad()
def write_on(model: nn.Module, ids: Tensor, count: int, context: int, seed: int) -> Tensor:
    """Let a model continue texts, drawing each symbol by its probabilities (06_advanced/text_generation.py has other ways).

    Args:
        model: As in `text_loss`.
        ids: (batch, n) int64, how the texts begin, at least one symbol each; on the model's device.
        count: How many symbols to add.
        context: How many symbols the model reads at once.
        seed: Of the draws; they are made on the CPU, so that all devices draw alike.

    Returns:
        (batch, n + count).
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        chances = model(ids[:, -context:])[:, -1].softmax(dim=1)  # (batch, symbols)
        ids = torch.cat([ids, torch.multinomial(chances.cpu(), 1, generator=generator).to(ids.device)], dim=1)
    return ids


def train_on_rows(model: nn.Module, rows: Tensor, steps: int, batch_size: int, lr: float, seed: int) -> list[float]:
    """Train a model to predict the next symbol, with AdamW and a warm-up; 06_advanced/gpt.py shows how it is done.

    Args:
        model: As in `text_loss`.
        rows: (rows, context + 1) int64, on the model's device.
        steps: How many steps.
        batch_size: Rows in a step.
        lr: The highest learning rate.
        seed: Of the batches.

    Returns:
        The loss of every step.
    """
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (batch_size,), generator=generator).to(rows.device)]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses
