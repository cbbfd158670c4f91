"""The network: a CNN makes a grid of places out of a picture, and a Transformer decoder looks at them and writes.

    model = Captioner(Shape(side=56, tokens=66, width=64, heads=4, layers=2))
    logits, found = model(images, tokens)   # training: what follows each token, and which words are about the picture at all
    reading = model.read(images)            # use: the picture is read once ...
    logits = model.write(tokens, reading)   # ... and every call writes on where the last one ended (KV cache)

The decoder's layers are those of `utils.networks.translator`; instead of a sentence in another language they look at places. What
places know of one another decides where to look (keys); what is found there is only what can be seen at the place (values). So
which shape it is can hardly be learned from what lies beside it.

Before each word there is a last look: the decoder points at places, and what they would say is added to what it would say
itself (compare the pointer networks of Vinyals et al., 2015, https://arxiv.org/abs/1506.03134). The decoder only has to know
whose colour comes next; which colour it is, the place says.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from project9_captioning.words import SPECIAL, UNKNOWN, Vocabulary
from utils import checkpoint, paths
from utils.lesson import LessonError, check
from utils.networks.translator import Layer, Reading

TRAIN_AGAIN = "train again with `python -m study run captioning`"
FACTS = ("model", "tokens", "shape", "source", "exact")
STRIDE = 8  # pixels from one place of the grid to the next


class Shape(NamedTuple):
    """Sizes: pixels of a picture's side, tokens known, numbers at each place, heads and layers of the decoder."""

    side: int
    tokens: int
    width: int
    heads: int
    layers: int

    @property
    def places(self) -> int:
        """Of the grid, on one side."""
        return self.side // STRIDE


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class Captioner(nn.Module):
    """Pictures and the tokens before → logits of the next ones.

    Args:
        shape: Its size.
        dropout: On embeddings, on places, and on what each part adds to the decoder's stream.
        covered: In training the decoder cannot read some words of a caption: of each another share, from 0 to this one. Else it
            learns from its own words what cannot come next (a colour and a shape that were never together), and believes that
            rather than the picture.
    """

    longest = 64  # tokens of a caption that can be written

    def __init__(self, shape: Shape, dropout: float = 0.0, covered: float = 0.0):
        super().__init__()
        side, tokens, width, heads, layers = self.shape = shape
        self.covered = covered
        check(width % heads == 0 and width % 2 == 0, f"a width of {width} cannot be cut into {heads} heads, or in half")
        check(side % STRIDE == 0 and side > 0, f"a picture of {side} pixels cannot be cut into places of {STRIDE}")
        half = width // 2
        self.eye = nn.Sequential(
            *_convolution(3, half // 2, stride=2),  # (batch, width / 4, side / 2, side / 2)
            *_convolution(half // 2, half),
            nn.MaxPool2d(2),  # side / 4: the strongest answer, wherever in the four pixels it was
            *_convolution(half, width),
            nn.MaxPool2d(2),  # side / 8
            *_convolution(width, width),
        ).to(memory_format=torch.channels_last)  # the numbers of a pixel side by side: convolutions took two thirds of the time
        self.rows, self.columns = (nn.Parameter(0.5 * torch.randn(shape.places, width)) for _ in range(2))  # where a place is
        self.compare = Layer(width, heads, dropout, cross=False)  # places look at one another: which thing is left of which?
        self.alone_norm, self.compared_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.speak = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))  # what a place would say, as an embedding
        self.ask, self.answer = nn.Linear(width, width), nn.Linear(width, width)  # of the last look: its queries, its keys
        self.rare = nn.Parameter(torch.full((tokens,), -5.0))  # few words are about any one place
        self.embedding = nn.Embedding(tokens, width)
        self.order = nn.Embedding(self.longest, width)  # a vector for the first token, the second, ...
        self.decoder = nn.ModuleList(Layer(width, heads, dropout, cross=True) for _ in range(layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        nn.init.normal_(self.order.weight, std=width**-0.5)

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Look at pictures.

        Args:
            images: (batch, 3, side, side) uint8.

        Returns:
            What there is at each place, and what it is among the others; both (batch, places, width), row after row.
        """
        maps = self.eye((images.float() / 127.5 - 1).to(memory_format=torch.channels_last))  # (batch, width, side / 8, side / 8)
        where = self.rows[:, None] + self.columns  # (rows, columns, width)
        alone = self.dropout(maps.flatten(2).transpose(1, 2) + where.flatten(0, 1))
        compared, _ = self.compare(alone, None)
        return self.alone_norm(alone), self.compared_norm(compared)

    def read(self, images: Tensor) -> Reading:
        """Read pictures (batch, 3, side, side) uint8.

        Where to look is decided by what places are among the others; what is found there is what they are by themselves. The
        memory has keys and values for every layer of the decoder; then, for the last look, keys and what each place would say,
        both (batch, places, width).
        """
        alone, compared = self.see(images)
        every = torch.ones(len(alone), 1, 1, alone.shape[1], dtype=torch.bool, device=alone.device)
        memory = [(layer.read_memory(compared)[0], layer.read_memory(alone)[1]) for layer in self.decoder]
        return Reading(every, [*memory, (self.answer(compared), self.speak(alone))])

    def think(self, tokens: Tensor, reading: Reading) -> Tensor:
        """Read the next tokens (batch, steps), of which `reading` takes note; the decoder's stream (batch, steps, width)."""
        start, steps = reading.length, tokens.shape[1]
        check(start + steps <= self.longest, f"a caption of {start + steps} tokens; at most {self.longest} can be written")
        x = self.dropout(self.embedding(tokens) + self.order.weight[start : start + steps])
        mask = torch.ones(steps, start + steps, dtype=torch.bool, device=tokens.device).tril(start)  # no looking ahead
        past, reading.past = reading.past or [None] * len(self.decoder), []
        for layer, before, memory in zip(self.decoder, past, reading.memory[:-1], strict=True):
            x, now = layer(x, mask, before, memory)  # all places are real: there is nothing to leave out
            reading.past.append(now)
        return self.norm(x)

    def point(self, thought: Tensor, reading: Reading) -> Tensor:
        """How much of the last look each place gets (batch, steps, places), adding up to 1; `thought` comes from `think`."""
        keys, _ = reading.memory[-1]
        return (self.ask(thought) @ keys.transpose(1, 2) / keys.shape[2] ** 0.5).softmax(dim=2)

    def write(self, tokens: Tensor, reading: Reading) -> Tensor:
        """Read the next tokens (batch, steps), of which `reading` takes note; logits (batch, steps, vocabulary)."""
        thought = self.think(tokens, reading)
        _, said = reading.memory[-1]
        return F.linear(thought + self.point(thought, reading) @ said, self.embedding.weight)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What a step of training needs.

        Args:
            images: (batch, 3, side, side) uint8.
            tokens: (batch, captions, steps), the beginnings of captions of each.

        Returns:
            Logits of what follows each token (batch, captions, steps, vocabulary), and log-odds that a word is about anything in
            the picture (batch, vocabulary): a word is, if it is about any place of it.
        """
        if self.training:
            share = self.covered * torch.rand(*tokens.shape[:2], 1)  # drawn on the CPU: the same on every device
            covered = (torch.rand(tokens.shape) < share).to(tokens.device)
            tokens = tokens.masked_fill(covered & (tokens >= len(SPECIAL)), UNKNOWN)
        reading = self.read(images)
        named = F.linear(reading.memory[-1][1], self.embedding.weight) + self.rare  # (batch, places, vocabulary)
        batch, captions, _ = tokens.shape
        rows = torch.arange(batch, device=tokens.device).repeat_interleave(captions)  # read once for all captions of it
        logits = self.write(tokens.flatten(0, 1), reading.select(rows))
        return logits.unflatten(0, (batch, captions)), named.logsumexp(dim=1)

    @torch.no_grad()
    def looks(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Where the last look went when it was chosen what follows each token.

        Args:
            images: (batch, 3, side, side) uint8.
            tokens: (batch, steps), a start and what was written; one caption for each picture.

        Returns:
            (batch, steps, rows, columns); each map adds up to 1.
        """
        reading = self.read(images)
        shares = self.point(self.think(tokens, reading), reading)  # (batch, steps, places)
        return shares.unflatten(2, (self.shape.places, self.shape.places))


def save_network(path: Path, model: Captioner, vocabulary: Vocabulary, **about) -> None:
    """Keep a network in one file: weights, size, the words that it knows, and facts about it."""
    checkpoint.save_model(path, model, tokens=vocabulary.tokens, shape=list(model.shape), **about)


def load_network(file: Path | None, device: torch.device | str = "cpu") -> tuple[Captioner, Vocabulary, dict]:
    """Load what `save_network` has written, ready to look at pictures.

    Args:
        file: None is where training puts it.
        device: Where it goes.

    Returns:
        The network, its vocabulary, and the facts: "source", "exact", "languages".

    Raises:
        LessonError: There is no such file, it is damaged, or it is another model's.
    """
    path, about = checkpoint.load_facts(file, paths.models("project9_captioning") / "model.pt", FACTS, "run captioning")
    try:
        shape, vocabulary = Shape(*about["shape"]), Vocabulary(about["tokens"])
        model = Captioner(shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LessonError(f"{paths.short(path)} is not a network of this project ({error}): {TRAIN_AGAIN}") from None
    check(len(vocabulary) == shape.tokens, f"{paths.short(path)}: its words do not belong to its weights: {TRAIN_AGAIN}")
    about = checkpoint.load_model(path, model, device)
    del about["tokens"], about["shape"]
    return model.eval(), vocabulary, about
