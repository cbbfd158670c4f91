"""Language models compared · 언어 모델 비교

Counting, a recurrent network and a Transformer predict the same tokens of the same text, and one number tells who does it best.
But only if nothing is given away: not the state that an LSTM could carry on, not the context of a window's first tokens.
횟수를 센 n-gram, 순환 신경망, 트랜스포머가 같은 글의 같은 토큰을 예측하면 숫자 하나로 누가 나은지 알 수 있다. 다만 LSTM이
이어받을 수 있는 상태도, 창의 첫 토큰들이 가질 수 있는 문맥도 버리지 않아야 공정하다.

You will
  1. cut a text into subwords and into streams, and build an LSTM and a Transformer with tied embeddings
  2. train both with warm-up, a cosine and clipped gradients
  3. put them into one table with Kneser-Ney: parameters, tokens seen, CPU seconds, perplexity, bits per character
  4. take away one thing at a time: the overlap of windows, the state, tying, the schedule, clipping
  5. meet the error everyone meets who carries a state on

Before     07_nlp/ngram_models.py, 05_rnn/lstm_gru.py, 06_advanced/gpt.py
Run        python -m study run language_model      (about 28 s on one CPU core, after importing torch)
You see    0.56 bits per character by counting, 0.49 by the LSTM, 0.56 by the Transformer; places.png
Try next   --corpus ko --steps 300: 19,000 characters of Korean. First guess in which order the three come in
Theory     notes/en/07_nlp.md · notes/ko/07_nlp.md
Practise   python -m study check 07
"""

import math
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import byte_bpe, datasets
from utils.datasets.plain_texts import plain_text, stories_text
from utils.device import pick_device
from utils.kneser_ney import KneserNey
from utils.lesson import check, run
from utils.plotting import label, save_figure

State = tuple[Tensor, Tensor] | None  # of an LSTM, (1, batch, width) each; a Transformer has none


class Tokens(NamedTuple):
    """A text in three parts, (n,) int64 each; how many different tokens there are, and how many characters the test part has."""

    train: Tensor
    validation: Tensor
    test: Tensor
    symbols: int
    characters: int


# %% 1. Tokens, and streams of them
def read(corpus: str, source: datasets.Source, symbols: int, seed: int, device: torch.device | str) -> Tokens:
    """Cut a text into the tokens of a byte-level BPE that was trained on the beginning of its first part."""
    text = stories_text(seed=seed) if corpus == "stories" else plain_text(corpus, source, seed)
    tokenizer = byte_bpe.train(text.train[:100_000].splitlines(keepends=True), symbols)
    parts = (torch.tensor(tokenizer.encode(part), device=device) for part in (text.train, text.validation, text.test))
    return Tokens(*parts, len(tokenizer), len(text.test))


def streams(ids: Tensor, batch_size: int, window: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Read a text in `batch_size` places at once, on and on: inputs and targets (batch, window), and whether it begins anew."""
    length = (len(ids) - 1) // batch_size
    check(length >= window, f"{len(ids):,} tokens are too few for {batch_size} streams of {window}")
    inputs, targets = (part[: batch_size * length].view(batch_size, length) for part in (ids[:-1], ids[1:]))
    while True:
        for start in range(0, length - window + 1, window):
            yield inputs[:, start : start + window], targets[:, start : start + window], start == 0


# %% 2. Two networks, and how they are trained
class Recurrent(nn.Module):
    """An LSTM: tokens (batch, steps) and its state after those before them → logits (batch, steps, symbols) and the new state."""

    def __init__(self, symbols: int, width: int, seed: int, tied: bool = True):
        super().__init__()
        torch.manual_seed(seed)
        self.tokens, self.lstm = nn.Embedding(symbols, width), nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, symbols)
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        if tied:
            self.head.weight = self.tokens.weight  # one vector for a token, whether it is read or written

    def forward(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        out, state = self.lstm(self.tokens(ids), state)  # (batch, steps, width)
        return self.head(out), state


class Transformer(nn.Module):
    """A decoder as in 06_advanced/gpt.py, of PyTorch's layers: up to `context` tokens (batch, steps) → logits; no state."""

    def __init__(self, symbols: int, context: int, width: int, layers: int, heads: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.tokens, self.places = nn.Embedding(symbols, width), nn.Embedding(context, width)
        options = {"dropout": 0.0, "activation": F.gelu, "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, heads, 4 * width, **options) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        steps = ids.shape[1]
        later = torch.ones(steps, steps, dtype=torch.bool, device=ids.device).triu(1)  # True where nobody may look
        x = self.tokens(ids) + self.places.weight[:steps]  # (batch, steps, width)
        for layer in self.layers:
            x = layer(x, src_mask=later, is_causal=True)  # True: this is the usual mask, PyTorch need not read it
        return self.head(self.norm(x)), None


def train(
    model: nn.Module, ids: Tensor, steps: int, batch_size: int, window: int, lr: float, schedule: bool = True,
    clip: float = 1.0, carry: bool = True,
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Take steps of AdamW on streams of ids (n,); return all losses and the lengths that the gradients had before clipping."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.99), weight_decay=0.01)
    losses, lengths, state = [], [], None
    for step, (inputs, targets, anew) in zip(range(steps), streams(ids, batch_size, window), strict=False):
        share = min(10 * (step + 1) / steps, 0.5 + 0.5 * math.cos(math.pi * step / steps))  # up in a tenth, then down to 0
        optimizer.param_groups[0]["lr"] = lr * share if schedule else lr
        logits, state = model(inputs, None if anew or not carry else state)
        state = state and tuple(part.detach() for part in state)  # what was read stays, the way back to it ends
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        lengths.append(nn.utils.clip_grad_norm_(model.parameters(), clip).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, lengths


# %% 3. One table
@torch.no_grad()
def carried_loss(model: Recurrent, ids: Tensor, window: int, carry: bool = True) -> float:
    """Predict all tokens but the first, a window at a time, with the state carried on or with a new one for each window."""
    total, state = 0.0, None
    for inputs, targets in zip(ids[:-1].split(window), ids[1:].split(window), strict=True):
        logits, state = model(inputs[None], state if carry else None)
        total += F.cross_entropy(logits[0], targets, reduction="sum").item()
    return total / (len(ids) - 1)


@torch.no_grad()
def window_loss(model: Transformer, ids: Tensor, context: int, stride: int) -> float:
    """Predict all tokens but the first in windows that move on by `stride`: of each, only what is new counts."""
    total, done = 0.0, 0  # tokens predicted so far
    while done < len(ids) - 1:
        end = min(done + (stride if done else context), len(ids) - 1)
        start = max(0, end - context)
        logits = model(ids[None, start:end])[0][0]  # (steps, symbols)
        total += F.cross_entropy(logits[done - start :], ids[done + 1 : end + 1], reduction="sum").item()
        done = end
    return total / (len(ids) - 1)


@torch.no_grad()
def by_place(model: nn.Module, ids: Tensor, window: int) -> Tensor:
    """The mean loss at each place of windows that neither overlap nor carry anything on: (window,)."""
    windows = ids.unfold(0, window + 1, window)
    return F.cross_entropy(model(windows[:, :-1])[0].transpose(1, 2), windows[:, 1:], reduction="none").mean(dim=0)


def draw_places(found: dict[str, Tensor], counting: float) -> None:
    """Draw the losses by how much of its window a network has seen."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, losses in found.items():
        axis.plot(range(1, len(losses) + 1), losses.cpu(), ".-", label=name)
    axis.axhline(counting, color="grey", linestyle=":", label="Kneser-Ney")
    axis.set(xlabel=label("tokens seen in the window", "창에서 본 토큰 수"), ylabel=label("loss", "손실"), ylim=(0, None))
    axis.legend()
    save_figure(figure, __file__, "places")


# %% 4. Taking things away
def take_away(tokens: Tokens, width: int, steps: int, lr: float, window: int, seed: int) -> dict[str, float]:
    """Train LSTMs with one thing changed; return losses on validation by what was changed."""
    held, found = tokens.validation[:6000], {}
    changes = {"nothing": {}, "clipping": {"clip": math.inf}, "the schedule": {"schedule": False}, "the state": {"carry": False}}
    print(f"4. LSTM, {steps} steps, taken away: loss on validation, longest gradient, parameters")
    for name, options in (changes | {"tying": {}}).items():
        model = Recurrent(tokens.symbols, width, seed, tied=name != "tying").to(held.device)
        lengths = train(model, tokens.train, steps, 8, window, lr, **options)[1]
        found[name] = carried_loss(model, held, window, options.get("carry", True))
        print(f"   {name:12} {found[name]:.3f} {max(lengths):6.2f} {sum(p.numel() for p in model.parameters()):8,}")
    return found


def meet_error(tokens: Tokens) -> str:
    """Carry a state on without detaching it; return PyTorch's answer."""
    model, state, message = Recurrent(tokens.symbols, 8, seed=0).to(tokens.train.device), None, ""
    try:
        for _, (inputs, targets, _) in zip(range(2), streams(tokens.train, 2, 8), strict=False):
            logits, state = model(inputs, state)
            F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    except RuntimeError as error:
        message = str(error)
    print(f'5. "{message.partition(" (")[0]}"\n   read: the state leads back into the window before: detach() it')
    return message


# %% All of it, in order
def main(
    corpus: Literal["stories", "en", "ko"] = "stories", source: datasets.Source = "sample", symbols: int = 512, width: int = 64,
    steps: int = 600, shorter: int = 200, lr: float = 0.02, window: int = 64, device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Compare Kneser-Ney, an LSTM and a Transformer on the same tokens.

    Args:
        corpus: stories (of our own, in both languages), en or ko (small talk; if source is real, Shakespeare or NSMC).
        source: "sample", "real" or "auto"; stories are always a sample.
        symbols: Different tokens, 257 to 1024.
        width: Of the Transformer, a multiple of 4; the LSTM is twice as wide.
        steps: Steps of training, on 8 windows each.
        shorter: Steps of each of the trainings in section 4.
        lr: The highest learning rate of the LSTM; the Transformer's is a quarter of it.
        window: Tokens in a window, at least 8; the Transformer sees no more.
        device: auto, cpu, cuda or mps.
        seed: Of stories, splits and weights.
    """
    check(257 <= symbols <= 1024 and width > 0 and width % 4 == 0, "--symbols is 257 to 1024, --width a multiple of 4")
    check(min(steps, shorter) > 0 and window >= 8, "--steps and --shorter are at least 1, --window at least 8")
    tokens = read(corpus, source, symbols, seed, where := pick_device(device))
    begun = time.process_time()
    counted = (KneserNey(tokens.train, symbols, n) for n in range(1, 7))  # 1024 ** 6 still fits into a number
    best = min(counted, key=lambda model: model.loss(tokens.train, tokens.validation))
    rows = {f"{best.order}-grams": (sum(len(table[0]) for table in best.tables), len(tokens.train), time.process_time() - begun)}
    losses = [best.loss(tokens.train, tokens.test)]
    lstm, transformer = Recurrent(symbols, 2 * width, seed).to(where), Transformer(symbols, window, width, 2, 4, seed).to(where)
    networks = {"LSTM": lstm, "Transformer": transformer}
    for name, model in networks.items():
        begun = time.process_time()
        train(model, tokens.train, steps, 8, window, lr if model is lstm else lr / 4)
        rows[name] = sum(p.numel() for p in model.parameters()), steps * 8 * window, time.process_time() - begun
    losses += [carried_loss(lstm, tokens.test, window), window_loss(transformer, tokens.test, window, window // 2)]
    per_character = (len(tokens.test) - 1) / tokens.characters / math.log(2)
    print("3.             numbers kept  tokens seen  CPU s  perplexity  bits per character")
    for (name, (kept, seen, seconds)), loss in zip(rows.items(), losses, strict=True):
        print(f"   {name:11} {kept:12,} {seen:12,} {seconds:6.1f} {math.exp(loss):11.3f} {per_character * loss:19.3f}")
    part = tokens.test[:4000]
    strides = [math.exp(window_loss(transformer, part, window, window // share)) for share in (1, 2, 8)]
    carried, anew = (math.exp(carried_loss(lstm, part, window, carry)) for carry in (True, False))
    print("   Transformer, windows that overlap by 0, 1/2, 7/8: {:.3f}, {:.3f}, {:.3f}".format(*strides), end="; ")
    print(f"LSTM, state carried on: {carried:.3f}, begun anew in each window: {anew:.3f}")
    draw_places({name: by_place(model, part, window) for name, model in networks.items()}, losses[0])
    results = {"no_overlap": strides[0], "most_overlap": strides[2], "carried": carried, "anew": anew}
    for name, loss in zip(("ngram", "lstm", "transformer"), losses, strict=True):
        results |= {f"{name}_perplexity": math.exp(loss), f"{name}_bits": per_character * loss}
    changed = take_away(tokens, 2 * width, shorter, lr, window, seed)
    results |= {f"without_{name.replace(' ', '_')}": loss for name, loss in changed.items()}
    meet_error(tokens)
    check(min(losses[1:]) < losses[0], "counting predicts better than both networks: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
