"""Reading dates with a Transformer · 트랜스포머로 날짜 읽기

A Transformer of our own learns what "3rd of Mar 24", 3/3/2024 and 이천이십사년 삼월 삼일 have in common: 2024-03-03. It is asked
about days that it has never seen in any form, so looking up what it was shown would never be right.
직접 만든 트랜스포머가 "3rd of Mar 24", 3/3/2024, 이천이십사년 삼월 삼일이 모두 2024-03-03임을 배운다. 시험에는 어떤 꼴로도 본
적이 없는 날만 나오므로, 본 것을 외워서는 하나도 맞힐 수 없다.

You will
  1. read what people write, in both languages, and cut it into tokens
  2. build encoder and decoder with cross-attention between them, and let them write symbol by symbol
  3. train it within a minute, and compare it with a rule for one form and with a parser that many programs use
  4. see which token each digit of the answer was read from
  5. make four mistakes that no message tells, and find the mark of each

Before     06_advanced/transformer.py, 06_advanced/positions.py
Run        python -m study run date_translation    (about 47 s on one CPU core, after importing torch)
You see    99 % of new days read without a mistake, by a well-known parser 53 %; the lowest loss reads none; alignment.png
Try next   --depth 1: half the layers. First guess how many of 100 new days it still reads
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
import re
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from utils.datasets.written_dates import written_dates
from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Flaw = Literal["none", "no causal mask", "no positions", "no padding mask", "softmax over the targets"]
Pairs = tuple[Tensor, Tensor]  # tokens (n, sources), symbols of the answers (n, 10)
SYMBOLS, START = "0123456789-", 11  # what an answer consists of, and what stands before it
PAD, UNKNOWN = 0, 1  # a token that is none, and all tokens that the training texts do not have


# %% 1. From text to tokens
def split_text(text: str) -> list[str]:
    """Cut a text into single digits, Latin words, Hangul syllables and signs; capitals and spaces are lost."""
    return re.findall(r"\d|[a-z]+|[가-힣]|[^\w\s]", text.lower())


def make_vocabulary(texts: list[str]) -> dict[str, int]:
    """Number the tokens of texts from 2 on."""
    return {token: i for i, token in enumerate(sorted({token for text in texts for token in split_text(text)}), 2)}


def encode(texts: list[str], vocabulary: dict[str, int]) -> Tensor:
    """Turn texts into tokens (n, sources), filled up with PAD."""
    rows = [torch.tensor([vocabulary.get(token, UNKNOWN) for token in split_text(text)]) for text in texts]
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


# %% 2. Encoder and decoder
class Attention(nn.Module):
    """Multi-head attention that keeps its weights in `weights` to be looked at; `dim` is the softmax's axis."""

    def __init__(self, width: int, heads: int, dim: int = -1):
        super().__init__()
        self.heads, self.dim = heads, dim
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Let x (batch, targets, width) look at memory (batch, sources, width) where the mask (..., targets, sources) is True."""
        parts = (self.query, x), (self.key, memory), (self.value, memory)
        q, k, v = (layer(part).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer, part in parts)
        scores = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~mask, -math.inf)
        self.weights = scores.softmax(self.dim).nan_to_num()  # of nothing but -inf; on the right axis there is no such row
        return self.out((self.weights @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A layer, norms first; of a decoder, if it has cross-attention."""

    def __init__(self, width: int, heads: int, dim: int, cross: bool):
        super().__init__()
        self.attention, self.cross = Attention(width, heads, dim), Attention(width, heads, dim) if cross else None
        self.small = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if cross else 2))

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        x = x + self.attention(y := self.norms[0](x), y, mask)
        if self.cross is not None:
            x = x + self.cross(self.norms[1](x), memory, real)
        return x + self.small(self.norms[-1](x))


class DateReader(nn.Module):
    """A Transformer from tokens, of which there are `tokens`, to dates; `flaw` is a mistake to make (section 5)."""

    def __init__(self, tokens: int, width: int, heads: int, depth: int, seed: int, flaw: Flaw = "none"):
        super().__init__()
        torch.manual_seed(seed)
        self.flaw, dim = flaw, -2 if flaw == "softmax over the targets" else -1
        self.tokens, self.symbols = nn.Embedding(tokens, width), nn.Embedding(len(SYMBOLS) + 1, width)
        self.encoder = nn.ModuleList(Layer(width, heads, dim, cross=False) for _ in range(depth))
        self.decoder = nn.ModuleList(Layer(width, heads, dim, cross=True) for _ in range(depth))
        self.read, self.wrote, self.head = nn.LayerNorm(width), nn.LayerNorm(width), nn.Linear(width, len(SYMBOLS))

    def place(self, x: Tensor) -> Tensor:
        """Add to each vector where it stands, as waves; the slowest takes 280 places, for texts are short."""
        steps, width = x.shape[1:]
        turns = 50.0 ** (-torch.arange(0, width, 2, device=x.device) / width)
        angles = torch.arange(steps, device=x.device)[:, None] * turns  # (steps, width / 2)
        return x if self.flaw == "no positions" else x + torch.cat([angles.sin(), angles.cos()], dim=1)

    def encode(self, tokens: Tensor) -> Tensor:
        """Read tokens (batch, sources): (batch, sources, width)."""
        x = self.place(self.tokens(tokens))
        for layer in self.encoder:
            x = layer(x, self.real(tokens))
        return self.read(x)

    def real(self, tokens: Tensor) -> Tensor:
        """Make the padding mask (batch, 1, 1, sources)."""
        return (torch.ones_like(tokens, dtype=torch.bool) if self.flaw == "no padding mask" else tokens != PAD)[:, None, None]

    def decode(self, before: Tensor, memory: Tensor, tokens: Tensor) -> Tensor:
        """Say what follows each of the symbols `before` (batch, targets): logits (batch, targets, 11)."""
        x, steps = self.place(self.symbols(before)), before.shape[1]
        causal = torch.ones(steps, steps, dtype=torch.bool, device=x.device)
        for layer in self.decoder:
            x = layer(x, causal if self.flaw == "no causal mask" else causal.tril(), memory, self.real(tokens))
        return self.head(self.wrote(x))

    @torch.no_grad()
    def write(self, tokens: Tensor) -> Tensor:
        """Write answers (batch, 10), each symbol the likeliest one after the model's own last ones."""
        memory, written = self.encode(tokens), torch.full_like(tokens[:, :1], START)
        for _ in range(10):
            last = self.decode(written, memory, tokens)[:, -1]
            written = torch.cat([written, last.argmax(dim=1, keepdim=True)], dim=1)
        return written[:, 1:]


# %% 3. Training
def make_pairs(texts: list[str], answers: list[str], vocabulary: dict[str, int]) -> Pairs:
    return encode(texts, vocabulary), torch.tensor([[SYMBOLS.index(sign) for sign in answer] for answer in answers])


def train(model: DateReader, data: Pairs, steps: int, lr: float, seed: int) -> float:
    """Take steps of AdamW on 64 pairs each, the decoder being given the right symbols before; return the mean last loss."""
    generator, losses = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(data[0]), (64,), generator=generator).to(data[0].device)
        tokens, answers = (part[rows] for part in data)
        logits = model.decode(F.pad(answers[:, :-1], (1, 0), value=START), model.encode(tokens), tokens)  # (64, 10, 11)
        loss = F.cross_entropy(logits.flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / len(losses[-20:])


def right(model: DateReader, data: Pairs) -> Tensor:
    """Which dates are right in every symbol: (n,) bool."""
    return (model.write(data[0]) == data[1]).all(dim=1)


def read_by_rule(text: str) -> str:
    """Read a date with dateutil, which comes with matplotlib; return it in ISO 8601, or nothing."""
    from dateutil import parser

    try:
        day = parser.parse(text)
    except (ValueError, OverflowError):
        return ""
    return day.replace(year=day.year - 100).date().isoformat() if day.year > 2049 else day.date().isoformat()


# %% 4. Where it looks
@torch.no_grad()
def draw_alignment(model: DateReader, vocabulary: dict[str, int], texts: list[str]) -> list[list[int]]:
    """Draw the mean weights of the last cross-attention; return at which token each symbol of each text looks most."""
    import matplotlib.pyplot as plt

    (figure, axes), found = plt.subplots(1, len(texts), figsize=(10, 4), layout="constrained"), []
    for axis, text in zip(axes, texts, strict=True):
        tokens = encode([text], vocabulary).to(model.head.weight.device)
        written = model.write(tokens)
        model.decode(F.pad(written[:, :-1], (1, 0), value=START), model.encode(tokens), tokens)
        weights = model.decoder[-1].cross.weights[0].mean(dim=0).cpu()  # (10, sources)
        found.append(weights.argmax(dim=1).tolist())
        axis.imshow(weights.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(tokens.shape[1]), split_text(text), rotation=60)
        axis.set_yticks(range(10), [SYMBOLS[symbol] for symbol in written[0].tolist()])
    save_figure(figure, __file__, "alignment")
    return found


# %% 5. Mistakes
def compare_flaws(data: Pairs, test: Pairs, tokens: int, steps: int, seed: int) -> dict[str, tuple[float, float, float]]:
    """Train small networks with each flaw; return last losses, accuracies, and accuracies with eight more tokens of padding."""
    found, padded = {}, (F.pad(test[0], (0, 8)), test[1])
    print(f"5. small networks, {steps} steps: last loss; right; right with more padding")
    for flaw in get_args(Flaw):
        model = DateReader(tokens, 32, 4, 1, seed, flaw).to(data[0].device)
        loss = train(model, data, steps, 0.01, seed)
        found[flaw] = loss, *(right(model, pairs).float().mean().item() for pairs in (test, padded))
        print(f"   {flaw:24} {found[flaw][0]:6.3f} {found[flaw][1]:6.3f} {found[flaw][2]:6.3f}")
    return found


# %% All of it, in order
def main(steps: int = 1000, lr: float = 0.005, depth: int = 2, device: str = "auto", seed: int = 0) -> dict[str, float]:
    """Teach a Transformer to read dates.

    Args:
        steps: Steps of training, on 64 dates each.
        lr: The highest learning rate.
        depth: Layers on each side.
        device: auto, cpu, cuda or mps.
        seed: Seed of initial weights, texts and batches.
    """
    check(min(steps, depth) > 0, "at least --steps 1 and --depth 1 are needed")
    where, sizes = pick_device(device), {"training": 20_000, "test": 2000}
    (texts, answers), (new, truth) = (zip(*written_dates(n, name, seed), strict=True) for name, n in sizes.items())
    vocabulary = make_vocabulary(texts)
    print(f"1. {len(texts):,} texts of {len(set(answers)):,} days, {len(vocabulary)} tokens: {' · '.join(texts[:4])}")
    data, test = ([part.to(where) for part in make_pairs(*both, vocabulary)] for both in ((texts, answers), (new, truth)))
    model = DateReader(len(vocabulary) + 2, 64, 4, depth, seed).to(where)
    loss, found = train(model, data, steps, lr, seed), right(model, test).cpu()
    korean = torch.tensor([bool(re.search("[가-힣]", text)) for text in new])
    results = {"loss": loss, "accuracy": found.float().mean().item(), "korean_accuracy": found[korean].float().mean().item()}
    by_rule = torch.tensor([[text == day, read_by_rule(text) == day] for text, day in zip(new, truth, strict=True)]).float()
    results["one_form_accuracy"], results["dateutil_accuracy"] = by_rule.mean(dim=0).tolist()
    rest = f"{results['dateutil_accuracy']:.3f}, of those without Hangul {by_rule[~korean, 1].mean():.3f}"
    print(f"3. new days: right {results['accuracy']:.4f}; only ISO {results['one_form_accuracy']:.3f}, dateutil {rest}")
    for i in (~found).nonzero()[:5, 0].tolist():
        print(f"   wrong: {new[i]} → {''.join(SYMBOLS[j] for j in model.write(test[0][i : i + 1])[0].tolist())}")
    draw_alignment(model, vocabulary, ["Mon, 5th of Jul 76", label("July fifth, 1976", "천구백칠십육년 칠월 오일")])
    flaws = compare_flaws(data, tuple(part[:500] for part in test), len(vocabulary) + 2, 250, seed)
    results |= {f"{name.replace(' ', '_')}_accuracy": row[1] for name, row in flaws.items() if name != "none"}
    check(results["accuracy"] > max(0.5, results["dateutil_accuracy"]), "too few dates are right: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
