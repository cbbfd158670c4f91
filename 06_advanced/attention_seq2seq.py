"""Sequence to sequence with attention · 어텐션이 있는 시퀀스-투-시퀀스

One network reads a sentence, another writes the answer. If all they share is one vector, long sentences do not fit in; if the
writer may look back at every word, they do. On spoken numbers, what makes the difference can be measured, and drawn.
한 신경망이 문장을 읽고 다른 신경망이 답을 쓴다. 둘 사이를 잇는 것이 벡터 하나뿐이면 긴 문장은 다 담기지 않는다. 쓰는 쪽이 단어
하나하나를 돌아볼 수 있으면 담을 필요가 없다. 말로 부른 번호를 받아 적게 하면 그 차이를 재고 그릴 수 있다.

You will
  1. have numbers spoken as on the telephone: "double oh seven", and fill them up to a batch with its mask
  2. build an encoder and a decoder from GRUs, with the attention of your choice between them
  3. train them with and without attention, over seeds, and compare by length
  4. see where the decoder looks while it writes
  5. make three mistakes that no message tells; one of them hides behind a good loss

Before     06_advanced/attention.py
Run        python -m study run attention_seq2seq   (about 28 s on one CPU core, after importing torch)
You see    of twelve digits, 0.77 right with attention and 0.00 without; lengths.png, alignment.png
Try next   --hidden 128: twice the memory for both. First guess who gains, and at which length; then look at lengths.png
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
import random
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

Score = Literal["dot", "additive", "none"]
Examples = tuple[Tensor, Tensor]  # words (n, sources), digits (n, targets)
Memory = tuple[Tensor, Tensor, Tensor]  # states (batch, sources, hidden), mask (batch, sources), last states (batch, hidden)
WORDS = ("", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh", "double", "triple")
KOREAN = {"with attention": "어텐션 있음", "without": "어텐션 없음"}
PAD, END, IGNORE = 0, 10, -100  # a word that is none; the answer "that is all" after the digits 0-9; a target that is none


# %% 1. Spoken numbers
def say(digits: list[int], draw: random.Random) -> list[str]:
    """Say digits as one does on the telephone: 2, 0, 0, 7 → two double oh seven, or otherwise."""
    words, i = [], 0
    while i < len(digits):
        times = next((n for n in (3, 2) if digits[i : i + n] == [digits[i]] * n and draw.random() < 0.8), 1)
        digit = "oh" if digits[i] == 0 and draw.random() < 0.5 else WORDS[digits[i] + 1]
        words += ([], ["double"], ["triple"])[times - 1] + [digit]
        i += times
    return words


def spoken_numbers(count: int, shortest: int, longest: int, seed: int) -> Examples:
    """Draw numbers of `shortest` to `longest` digits, in which a digit often repeats.

    Returns words (count, sources), filled up with PAD; digits and END (count, targets), filled up with IGNORE.
    """
    draw, spoken, written = random.Random(seed), [], []
    for _ in range(count):
        digits = [draw.randrange(10)]
        for _ in range(draw.randint(shortest, longest) - 1):
            digits.append(digits[-1] if draw.random() < 0.3 else draw.randrange(10))
        spoken.append(torch.tensor([WORDS.index(word) for word in say(digits, draw)]))
        written.append(torch.tensor([*digits, END]))
    return pad_sequence(spoken, batch_first=True), pad_sequence(written, batch_first=True, padding_value=IGNORE)


# %% 2. Reader and writer
class Writer(nn.Module):
    """A GRU reads words, another writes digits; between two digits it looks back at the words, unless score is "none".

    Args:
        hidden: Size of both states.
        score: How words are looked up: dot, additive, or none (Sutskever et al., 2014: the last state is all that it gets).
        dim: The axis of the softmax. Any but -1 is a mistake.
        seed: Seed of the initial weights.
    """

    def __init__(self, hidden: int, score: Score, seed: int, dim: int = -1):
        super().__init__()
        torch.manual_seed(seed)
        self.score, self.dim = score, dim
        self.words, self.digits = nn.Embedding(len(WORDS), 32, padding_idx=PAD), nn.Embedding(11, 32)
        self.encoder, self.decoder = nn.GRU(32, hidden, batch_first=True), nn.GRU(32, hidden, batch_first=True)
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.v = nn.Parameter(torch.randn(hidden) / math.sqrt(hidden))  # of the additive score
        self.mix, self.head = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, 11)

    def encode(self, words: Tensor) -> Memory:
        """Read words (batch, sources)."""
        states, real = self.encoder(self.words(words))[0], words != PAD
        last = real.sum(dim=1) - 1  # (batch,): where the last word stands that is none of the padding
        return states, real, states[torch.arange(len(words), device=words.device), last]

    def decode(self, before: Tensor, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write on after the digits `before` (batch, targets): logits (batch, targets, 11), the new state, and the weights."""
        states, real, last = memory
        out, state = self.decoder(self.digits(before), state)  # (batch, targets, hidden)
        if self.score == "none":
            found, weights = last[:, None].expand_as(out), None
        else:
            query, key = self.query(out), self.key(states)
            if self.score == "dot":
                scores = query @ key.transpose(1, 2) / math.sqrt(key.shape[2])  # (batch, targets, sources)
            else:
                scores = (query[:, :, None] + key[:, None]).tanh() @ self.v  # (batch, targets, sources, hidden) → one number
            weights = scores.masked_fill(~real[:, None], -math.inf).softmax(self.dim)
            weights = weights.nan_to_num()  # of nothing but -inf; with the right mask and axis there is no such row
            found = weights @ states  # (batch, targets, hidden)
        return self.head(torch.tanh(self.mix(torch.cat([out, found], dim=2)))), state, weights


# %% 3. With and without
def train(model: Writer, data: Examples, steps: int, lr: float, seed: int) -> list[float]:
    """Take steps of AdamW on 64 numbers each, the decoder being given the right digits before; return the losses."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(data[0]), (64,), generator=generator).to(data[0].device)
        words, digits = (part[batch] for part in data)
        before = F.pad(digits[:, :-1].clamp(min=0), (1, 0), value=END)  # END also stands at the beginning
        memory = model.encode(words)
        logits, _, _ = model.decode(before, memory[-1][None], memory)  # (64, targets, 11)
        loss = F.cross_entropy(logits.flatten(0, 1), digits.flatten(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def write(model: Writer, words: Tensor, targets: int, real: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Return digits (batch, targets), each written from the model's own last one, and all weights; `real` is another mask."""
    states, right, last = model.encode(words)
    memory = states, right if real is None else real, last
    digit, state, digits, weights = torch.full_like(words[:, :1], END), last[None], [], []
    for _ in range(targets):
        logits, state, looked = model.decode(digit, state, memory)
        digits.append(digit := logits.argmax(dim=2))  # (batch, 1)
        weights.append(looked)
    return torch.cat(digits, dim=1), None if looked is None else torch.cat(weights, dim=1)


def accuracy(model: Writer, data: Examples, real: Tensor | None = None) -> float:
    """The share of numbers that are right in every digit and in their end."""
    digits, _ = write(model, data[0], data[1].shape[1], real)
    return ((digits == data[1]) | (data[1] == IGNORE)).all(dim=1).float().mean().item()


def compare_lengths(models: dict[str, list[Writer]], longest: int, seed: int, device) -> dict[str, Tensor]:
    """Return accuracies (networks, lengths) on 300 new numbers of each of five lengths, the fourth being `longest`; draw them."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    lengths = [longest // 4, longest // 2, 3 * longest // 4, longest, 4 * longest // 3]
    tests, found = [[part.to(device) for part in spoken_numbers(300, n, n, seed + n)] for n in lengths], {}
    print("3. right in every digit, by length:\n" + " " * 17 + "".join(f"{n:6}" for n in lengths))
    for name, networks in models.items():
        found[name] = torch.tensor([[accuracy(model, test) for test in tests] for model in networks])
        for row in found[name]:
            print(f"   {name:14}" + "".join(f"{right:6.2f}" for right in row))
        lines = axis.plot(lengths, found[name].T.numpy(), "o-", color="C0" if name == "with attention" else "C1")
        lines[0].set_label(label(name, KOREAN[name]))
    axis.axvline(longest + 0.5, color="grey", linestyle=":")
    axis.set(xticks=lengths, xlabel=label("digits in the number", "번호의 자릿수"), ylabel=label("accuracy", "정확도"))
    axis.legend()
    save_figure(figure, __file__, "lengths")
    return found


# %% 4. Where it looks
def draw_alignment(model: Writer, numbers: tuple[str, ...], device) -> list[str]:
    """Have numbers written that are given as words; draw the weights, and return what was written."""
    import matplotlib.pyplot as plt

    (figure, axes), written = plt.subplots(1, len(numbers), figsize=(5.5 * len(numbers), 4.6), layout="constrained"), []
    for axis, spoken in zip(axes, numbers, strict=True):
        words = torch.tensor([[WORDS.index(word) for word in spoken.split()]], device=device)
        digits, weights = write(model, words, 3 * words.shape[1] + 1)
        stop = [*digits[0].tolist(), END].index(END)
        written.append("".join(map(str, digits[0, :stop].tolist())))
        axis.imshow(weights[0, : stop + 1].cpu().numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(words.shape[1]), spoken.split(), rotation=60)
        axis.set_yticks(range(stop + 1), [*written[-1], label("end", "끝")])
    print(f"4. written down: {', '.join(written)}")
    save_figure(figure, __file__, "alignment")
    return written


# %% 5. Mistakes
def compare_mistakes(model: Writer, wrong_axis: Writer, test: Examples) -> dict[str, float]:
    """Return accuracies of the trained model with right, no and inverted mask, and of one trained with the wrong softmax axis."""
    real = test[0] != PAD
    found = {"right mask": accuracy(model, test), "no mask": accuracy(model, test, torch.ones_like(real))}
    found |= {"inverted mask": accuracy(model, test, ~real), "softmax over the targets": accuracy(wrong_axis, test)}
    print("5. numbers that are right: " + ", ".join(f"{name} {right:.2f}" for name, right in found.items()))
    return found


# %% All of it, in order
def main(
    longest: int = 12, steps: int = 300, hidden: int = 64, score: Score = "dot", networks: int = 3, lr: float = 0.01,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Build attention, and show what a decoder gains by looking back.

    Args:
        longest: Most digits of a number to learn from; at least 4.
        steps: Steps that each network is trained, on 64 numbers each.
        hidden: Size of the states.
        score: How the network with attention compares: dot or additive.
        networks: How many of both kinds, from other initial weights and batches.
        lr: The highest learning rate.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(
        longest > 3 and min(steps, hidden, networks) > 0, "needed are at least --longest 4, --steps 1, --hidden 1, --networks 1"
    )
    check(score != "none", "--score none is what the network is compared with: say dot or additive")
    where = pick_device(device)
    data, mixed = ([part.to(where) for part in spoken_numbers(n, 1, longest, seed + i)] for i, n in enumerate((10_000, 1000)))
    print(f'1. {len(data[0]):,} numbers like "{" ".join(WORDS[word] for word in data[0][0].tolist() if word)}"')
    models, losses = {}, {}
    for name, kind, axis in (("with attention", score, -1), ("without", "none", -1), ("softmax over the targets", score, -2)):
        seeds = range(seed, seed + networks) if axis == -1 else (seed,)
        models[name] = [Writer(hidden, kind, i, axis).to(where) for i in seeds]
        losses[name] = [sum(train(model, data, steps, lr, i)[-20:]) / 20 for i, model in zip(seeds, models[name], strict=True)]
        print(f"3. {name}: losses {', '.join(f'{loss:.3f}' for loss in losses[name])}")
    wrong_axis, trained = models.pop("softmax over the targets")[0], models["with attention"][0]
    found = compare_lengths(models, longest, seed + 2, where)
    draw_alignment(trained, ("double oh seven", "nine triple two oh double one four six"), where)
    results = {name.replace(" ", "_"): right for name, right in compare_mistakes(trained, wrong_axis, mixed).items()}
    looking, blind = found["with attention"][:, 3], found["without"][:, 3]  # at the longest that was learned
    results |= {"accuracy": looking.mean().item(), "lowest": looking.min().item(), "baseline_accuracy": blind.mean().item()}
    results |= {"loss": losses["with attention"][0], "wrong_axis_loss": losses["softmax over the targets"][0]}
    check(results["accuracy"] > max(0.3, 3 * results["baseline_accuracy"]), "too few of the longest are right: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
