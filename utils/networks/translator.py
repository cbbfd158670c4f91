"""The Transformer that translates (Vaswani et al., 2017): an encoder that reads, a decoder that writes and looks at that.

    model = Translator(tokens=4000, width=256, heads=4, layers=3)
    logits = model(source, before)              # training: what follows each of the tokens `before` (batch, targets)
    reading = model.read(source)                # use: the source is read once ...
    logits = model.write(tokens, reading)       # ... and every call reads on where the last one ended (KV cache)

Norms first; one matrix of embeddings for source, target and output (Press and Wolf, 2017), so both languages share a vocabulary.
06_advanced/transformer.py builds such layers by hand, 07_nlp/machine_translation.py trains one.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check

PAD, START, END = 0, 1, 2  # tokens that are no text: filling, what stands before a translation, and behind it
SPECIAL = ("<pad>", "<start>", "<end>")  # their names, for utils.byte_bpe.train


@dataclass
class Reading:
    """What the decoder knows: the source, and what it has written so far.

    Attributes:
        mask: (batch, 1, 1, sources) bool, False where the source is only padding.
        memory: For every layer of the decoder, the source's keys and values (batch, heads, sources, head width).
        past: Likewise for the tokens written, (batch, heads, written, head width); None before the first.
    """

    mask: Tensor
    memory: list[tuple[Tensor, Tensor]]
    past: list[tuple[Tensor, Tensor]] | None = None

    @property
    def length(self) -> int:
        """How many tokens have been written."""
        return 0 if self.past is None else self.past[0][0].shape[2]

    def select(self, rows: Tensor) -> "Reading":
        """Keep these rows (n,) of the batch, in this order; one may come several times."""
        memory, past = ([(k[rows], v[rows]) for k, v in pairs or []] for pairs in (self.memory, self.past))
        return Reading(self.mask[rows], memory, past or None)


class Layer(nn.Module):
    """Look, look at the source (in a decoder), then think; each reads a normed copy of the stream and adds to it."""

    def __init__(self, width: int, heads: int, dropout: float, cross: bool):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.memory, self.cross_out = (
            (nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)) if cross else (None, None, None)
        )
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if cross else 2))

    def heads_of(self, x: Tensor, parts: int) -> Tensor:
        """Cut (batch, steps, parts · width) into (parts, batch, heads, steps, head width)."""
        return x.unflatten(2, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def read_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of what the encoder made of the source (batch, sources, width)."""
        keys, values = self.heads_of(self.memory(memory), 2)
        return keys, values

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None = None,
        memory: tuple[Tensor, Tensor] | None = None, real: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # fmt: skip
        """Take x (batch, steps, width), and what came before it; return the new stream, and all keys and values so far."""
        q, k, v = self.heads_of(self.qkv(self.norms[0](x)), 3)
        if past is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(past, (k, v), strict=True))
        x = x + self.dropout(self.out(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)))
        if memory is not None:
            (q,) = self.heads_of(self.query(self.norms[1](x)), 1)
            x = x + self.dropout(self.cross_out(F.scaled_dot_product_attention(q, *memory, real).transpose(1, 2).flatten(2)))
        return x + self.dropout(self.down(F.relu(self.up(self.norms[-1](x))))), (k, v)


class Translator(nn.Module):
    """Source tokens (batch, sources) and the target tokens before → logits of the next ones (batch, targets, tokens).

    Args:
        tokens: Size of the vocabulary that both languages share, PAD, START and END in it.
        width: Of the stream, a multiple of `heads` and even.
        heads: Of every attention.
        layers: Of the encoder, and of the decoder.
        dropout: On embeddings and on what each part adds to the stream.
        max_length: Tokens that a source or a target may have.
        seed: Of the initial weights.
    """

    def __init__(
        self, tokens: int, width: int, heads: int, layers: int, dropout: float = 0.0, max_length: int = 512, seed: int = 0
    ):  # fmt: skip
        super().__init__()
        check(width % heads == 0 and width % 2 == 0, f"a width of {width} is not even, or cannot be cut into {heads} heads")
        torch.manual_seed(seed)
        self.width, self.max_length, self.dropout = width, max_length, nn.Dropout(dropout)
        self.embedding = nn.Embedding(tokens, width)
        self.encoder, self.decoder = (
            nn.ModuleList(Layer(width, heads, dropout, cross) for _ in range(layers)) for cross in (False, True)
        )
        self.read_norm, self.write_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        turns = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = torch.arange(max_length, dtype=torch.float32)[:, None] * turns  # (max_length, width / 2)
        self.register_buffer("places", torch.cat([angles.sin(), angles.cos()], dim=1), persistent=False)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)  # so that the logits begin near 1
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2 and "embedding" not in name:
                nn.init.xavier_uniform_(parameter)

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Look up tokens (batch, steps), and add where they stand."""
        end = start + tokens.shape[1]
        check(end <= self.max_length, f"a text of {end} tokens; this model takes at most {self.max_length}")
        return self.dropout(self.embedding(tokens) * math.sqrt(self.width) + self.places[start:end])

    def read(self, source: Tensor) -> Reading:
        """Read a source (batch, sources), filled up with PAD."""
        x, real = self.embed(source), (source != PAD)[:, None, None]
        for layer in self.encoder:
            x, _ = layer(x, real)
        x = self.read_norm(x)
        return Reading(real, [layer.read_memory(x) for layer in self.decoder])

    def write(self, tokens: Tensor, reading: Reading) -> Tensor:
        """Read the next target tokens (batch, steps), of which `reading` takes note; logits (batch, steps, vocabulary)."""
        steps, start = tokens.shape[1], reading.length
        x, past = self.embed(tokens, start), reading.past or [None] * len(self.decoder)
        mask = torch.ones(steps, start + steps, dtype=torch.bool, device=tokens.device).tril(start)  # no looking ahead
        reading.past = []
        for layer, before, memory in zip(self.decoder, past, reading.memory, strict=True):
            x, now = layer(x, mask, before, memory, reading.mask)
            reading.past.append(now)
        return F.linear(self.write_norm(x), self.embedding.weight)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        return self.write(before, self.read(source))
