"""Sequence to sequence · 시퀀스-투-시퀀스

One network reads a sequence and keeps what it understood in one state; another one writes a sequence from that state, symbol by
symbol, reading what it has just written.
한 신경망이 시퀀스를 읽어 상태 하나에 담으면, 다른 신경망이 방금 쓴 기호를 다시 읽으며 한 기호씩 써 나간다.

You will
  1. write numbers in words, in Korean and in English, and meet the error everyone meets between two vocabularies
  2. build an encoder and a decoder, and train them with teacher forcing: 이천이십육 → 2026, "two thousand twenty six" → 2026
  3. measure the gap between reading the right digits and reading one's own
  4. search with a beam, written out: equal to greedy at width 1, equal to trying everything when it is wide enough
  5. find the limit of one state for everything: accuracy against length

Before     05_rnn/sequence_modeling.py
Run        python -m study run seq2seq             (about 33 s on one CPU core, after importing torch)
You see    0.95 of numbers it never saw read without a mistake, of six digits 0.81 (lookup: 0); seq2seq.png
Try next   --own 0.25: the decoder reads some of its own guesses. First guess which of the two accuracies that helps; then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from utils.datasets.number_words import ENGLISH, KOREAN, draw_numbers, in_english, in_korean
from utils.lesson import check, run
from utils.plotting import label, save_figure

PAD, BOS, EOS = 0, 1, 2  # in both vocabularies: filling, begin, end of the sequence
DIGITS = ["<pad>", "<bos>", "<eos>", *"0123456789"]  # what the decoder writes
WORDS = ["<pad>", "<bos>", "<eos>", *ENGLISH, *KOREAN]  # what the encoder reads


# %% 1. Numbers in words
class Pairs(NamedTuple):
    source: Tensor  # (n, steps) words, then PAD
    lengths: Tensor  # (n,) of the sources
    target: Tensor  # (n, digits + 2): BOS, the digits, EOS, then PAD


def pairs(numbers: list[int], korean: list[bool]) -> Pairs:
    """Numbers as the encoder reads them and the decoder writes them."""
    words = [in_korean(n) if its else in_english(n) for n, its in zip(numbers, korean, strict=True)]
    source = [torch.tensor([WORDS.index(word) for word in one]) for one in words]
    target = [torch.tensor([BOS, *(3 + int(digit) for digit in str(n)), EOS]) for n in numbers]
    lengths = torch.tensor([len(one) for one in source])
    return Pairs(pad_sequence(source, batch_first=True), lengths, pad_sequence(target, batch_first=True))


# %% 2. Two networks, and one state between them
class Translator(nn.Module):
    """A GRU that reads, and a GRU that writes."""

    def __init__(self, hidden: int):
        super().__init__()
        self.read = nn.Embedding(len(WORDS), 32, padding_idx=PAD)
        self.encoder = nn.GRU(32, hidden, batch_first=True)
        self.write = nn.Embedding(len(DIGITS), 32, padding_idx=PAD)
        self.decoder = nn.GRU(32, hidden, batch_first=True)
        self.head = nn.Linear(hidden, len(DIGITS))

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        """Words (batch, steps) → all that the decoder will know of them, (1, batch, hidden)."""
        return self.encoder(pack_padded_sequence(self.read(source), lengths, batch_first=True, enforce_sorted=False))[1]

    def decode(self, symbols: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Symbols so far (batch, steps), state (1, batch, hidden) → log-probabilities of the next ones, and the state then."""
        out, state = self.decoder(self.write(symbols), state)
        return self.head(out).log_softmax(dim=-1), state  # (batch, steps, symbols)


def meet_error(model: Translator, data: Pairs) -> str:
    """Hand the decoder what belongs to the encoder; return PyTorch's answer."""
    try:
        model.decode(data.source, model.encode(data.source, data.lengths))
    except IndexError as error:
        print(f'2. "{error}": the decoder knows {len(DIGITS)} symbols, word {int(data.source.max())} is none of them')
        return str(error)


def train(data: Pairs, hidden: int, steps: int, lr: float, own: float, seed: int) -> Translator:
    """Train with teacher forcing: the decoder reads the right symbols, a share `own` of them replaced by its own guesses."""
    torch.manual_seed(seed)
    model = Translator(hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(data.source), (128,))
        source, lengths, target = (part[rows] for part in data)
        state, read = model.encode(source[:, : lengths.max()], lengths), target[:, :-1]  # BOS and the digits
        if own:
            with torch.no_grad():
                guesses = torch.cat([read[:, :1], model.decode(read, state)[0].argmax(dim=-1)[:, :-1]], dim=1)
            read = torch.where(torch.rand(read.shape) < own, guesses, read)
        log_p, _ = model.decode(read, state)  # (batch, steps, symbols)
        loss = F.nll_loss(log_p.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)  # of the digits and EOS
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


# %% 3. Reading the right digits, and reading one's own
@torch.no_grad()
def greedy(model: Translator, data: Pairs, longest: int) -> Tensor:
    """Write the likeliest symbol at every step: (n, longest), PAD after EOS."""
    state, symbol = model.encode(data.source, data.lengths), torch.full((len(data.source), 1), BOS)
    written, going = [], symbol == BOS
    for _ in range(longest):
        log_p, state = model.decode(symbol, state)
        written.append(symbol := log_p.argmax(dim=-1).where(going, PAD))  # (n, 1)
        going = going & (symbol != EOS)
    return torch.cat(written, dim=1)


@torch.no_grad()
def symbol_accuracy(model: Translator, data: Pairs) -> tuple[Tensor, Tensor]:
    """The share of symbols that are right, place by place, reading the right ones, and reading one's own: (steps,) each."""
    target = data.target[:, 1:]  # (n, steps)
    forced = model.decode(data.target[:, :-1], model.encode(data.source, data.lengths))[0].argmax(dim=-1)
    answers = forced, greedy(model, data, target.shape[1])
    return tuple(((answer == target) & (target != PAD)).sum(dim=0) / (target != PAD).sum(dim=0) for answer in answers)


def exact_by_length(model: Translator, data: Pairs) -> Tensor:
    """The share of numbers without a mistake, for 2, 3, ... digits: (lengths,)."""
    target = data.target[:, 1:]
    right, digits = (greedy(model, data, target.shape[1]) == target).all(dim=1).float(), (target > EOS).sum(dim=1)
    return torch.stack([right[digits == n].mean() for n in range(2, target.shape[1])])


def nearest_answer(data: Pairs, test: Pairs) -> Tensor:
    """Answer with the training example whose words are the most alike, in any order; return what is right, place by place."""
    counts = [F.one_hot(part.source, len(WORDS)).sum(dim=1)[:, 1:].float() for part in (test, data)]
    answers, target = data.target[torch.cdist(*counts, p=1).argmin(dim=1), 1:], test.target[:, 1:]
    return ((answers == target) & (target != PAD)).sum(dim=0) / (target != PAD).sum(dim=0)


# %% 4. Beam search
@torch.no_grad()
def beam_search(decode: Callable, state: Tensor, width: int, longest: int, alpha: float = 0.0) -> tuple[list[int], float]:
    """Keep the `width` likeliest beginnings at every step; return the best that ended, and its log-probability.

    `decode` is as Translator.decode, `state` (1, 1, hidden). Before the best is chosen, log-probabilities are divided by the
    number of their symbols to the power `alpha` (length normalisation). At most `longest` symbols are written, EOS among them.
    """
    symbols, scores, ended = torch.full((1, 1), BOS), torch.zeros(1), []
    for _ in range(longest):
        log_p, state = decode(symbols[:, -1:], state.expand(-1, len(symbols), -1).contiguous())  # (beginnings, 1, vocabulary)
        total = scores[:, None] + log_p[:, -1]  # (beginnings, vocabulary): log-probabilities add up
        scores, best = total.flatten().topk(min(width, total.numel()))
        parents = best // total.shape[1]
        symbols, state = torch.cat([symbols[parents], best[:, None] % total.shape[1]], dim=1), state[:, parents]
        ends = symbols[:, -1] == EOS
        ended += zip(symbols[ends, 1:].tolist(), scores[ends].tolist(), strict=True)
        if ends.all():
            break
        symbols, scores, state = symbols[~ends], scores[~ends], state[:, ~ends]
    ended = ended or zip(symbols[:, 1:].tolist(), scores.tolist(), strict=True)  # none came to an end
    return max(ended, key=lambda one: one[1] / len(one[0]) ** alpha)


@torch.no_grad()
def try_everything(decode: Callable, state: Tensor, vocabulary: int, longest: int) -> tuple[list[int], float]:
    """The likeliest of all sequences that end within `longest` symbols, by scoring every one of them."""
    best = ([], -torch.inf)
    for length in range(1, longest + 1):
        bodies = product([symbol for symbol in range(vocabulary) if symbol != EOS], repeat=length - 1)
        written = torch.tensor([[*body, EOS] for body in bodies])  # (sequences, length)
        read = F.pad(written[:, :-1], (1, 0), value=BOS)
        log_p, _ = decode(read, state.expand(-1, len(read), -1).contiguous())
        scores = log_p.gather(2, written[:, :, None]).sum(dim=(1, 2))
        if scores.max() > best[1]:
            best = written[scores.argmax()].tolist(), scores.max().item()
    return best


def compare_widths(model: Translator, data: Pairs, widths: list[int], alpha: float) -> dict[int, list[float]]:
    """By width: the share of numbers that are right, the mean log-probability, and by how many symbols the length is off."""
    found, longest, states = {}, data.target.shape[1] - 1, model.encode(data.source, data.lengths).detach()  # (1, n, hidden)
    right = [[symbol for symbol in row if symbol != PAD] for row in data.target[:, 1:].tolist()]
    for width in widths:
        answers = [beam_search(model.decode, states[:, [i]], width, longest, alpha) for i in range(len(right))]
        rows = [(ours == its, score, len(ours) - len(its)) for (ours, score), its in zip(answers, right, strict=True)]
        found[width] = torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist()
        told = "4. beam of {:2}, alpha {:g}: {:.3f} right, log-probability {:.3f}, length off by {:+.2f}"
        print(told.format(width, alpha, *found[width]))
    return found


def draw_figure(by_length: dict[str, Tensor], by_place: dict[str, Tensor]) -> None:
    """Draw accuracy against the length of the number, and against the place in it."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    names = label("digits", "자릿수"), label("place", "자리")
    for axis, first, name_of_x, curves in zip(axes, (2, 1), names, (by_length, by_place), strict=True):
        for name, curve in curves.items():
            axis.plot(range(first, first + len(curve)), curve.numpy(), "o-", label=name)
        axis.set(xlabel=name_of_x, ylabel=label("right", "맞힌 비율"), xticks=range(first, first + len(curve)))
        axis.legend()
    save_figure(figure, __file__, "seq2seq")


# %% All of it, in order
def main(steps: int = 600, hidden: int = 128, lr: float = 0.005, own: float = 0.0, seed: int = 0) -> dict[str, float]:
    """Teach two networks to read numbers in words and to write them in digits, and search for what they would write.

    Args:
        steps: Training steps on 128 numbers each; one network gets a quarter of them, to see mistakes.
        hidden: Size of the state between encoder and decoder; another network gets a quarter of it.
        lr: The highest learning rate.
        own: Share of symbols that the decoder reads from itself while training (scheduled sampling).
        seed: Seed of numbers, weights and batches.
    """
    check(steps >= 4 and hidden >= 4 and 0 <= own <= 1, "needed are --steps 4, --hidden 4, or more, and --own from 0 to 1")
    data, test = (pairs(*draw_numbers(count, held_out, seed)) for count, held_out in ((20_000, False), (1000, True)))
    sizes = {"trained": (hidden, steps), "early": (hidden, steps // 4), "small": (hidden // 4, steps)}
    models = {name: train(data, size, count, lr, own, seed) for name, (size, count) in sizes.items()}
    meet_error(models["trained"], test)
    by_length, by_place, results = {}, {"nearest": nearest_answer(data, test)}, {}
    for name, model in models.items():
        forced, free = symbol_accuracy(model, test)
        by_length[name] = exact = exact_by_length(model, test)
        by_place |= {f"{name}, right symbols": forced, f"{name}, its own": free} if name != "small" else {}
        numbers = {"exact": exact.mean(), "longest": exact[-1], "forced": forced.mean(), "free": free.mean()}
        results |= {f"{name}_{what}": number.item() for what, number in numbers.items()}
        digits = " ".join(f"{share:.3f}" for share in exact.tolist())
        print(f"3. {name:8}symbols: forced {forced.mean():.3f}, free {free.mean():.3f}; numbers of 2 to 6 digits: {digits}")
    few = Pairs(*(part[:200] for part in test))
    beams = {alpha: compare_widths(models["early"], few, [1, 2, 5, 10], alpha) for alpha in (0.0, 1.0)}
    results |= {f"beam_{width}": found[0] for width, found in beams[0.0].items()} | {"nearest": by_place["nearest"].mean().item()}
    decode, state = models["early"].decode, models["early"].encode(few.source[:1], few.lengths[:1])
    wide, best = beam_search(decode, state, 13**3, 3), try_everything(decode, state, 13, 3)
    check(wide[0] == best[0] and abs(wide[1] - best[1]) < 1e-4, f"a beam that drops nothing finds {wide}, not the best, {best}")
    draw_figure(by_length, by_place)
    check(results["trained_exact"] > 0.6, f"only {results['trained_exact']:.1%} of the numbers are right: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
