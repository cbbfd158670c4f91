"""Sequences of different length · 길이가 다른 시퀀스

A recurrent network reads short sentences and long ones; a tensor wants all of them equally long. So the short ones are filled
up, and what remains is the art of never mistaking the filling for text.
순환 신경망은 짧은 문장도 긴 문장도 읽지만, 텐서는 모두 같은 길이를 요구한다. 그래서 짧은 문장은 뒤를 채운다. 남은 일은 채운 것을
글로 오해하지 않는 것이다.

You will
  1. read sentences with a mask by hand, packed, and one at a time: equal; then without a mask, and see what is wrong
  2. take losses over real steps only, meet two errors of pack_padded_sequence, and get rid of most of the padding
  3. classify: is the new date later than the old one? And make two mistakes that no message tells
  4. tag every symbol: which date is the old one? Reading one way and both ways, in English and in Korean

Before     05_rnn/lstm_gru.py
Run        python -m study run sequence_modeling   (about 30 s on one CPU core, after importing torch)
You see    0.94 classified right, by counting symbols 0.50; a one-way tagger that knows English but not Korean; sequences.png
Try next   --pool 1: batches of mixed lengths. First guess which of the three classifiers suffer, and how much; then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import random
from collections import Counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from utils.datasets.moved_dates import OUTSIDE, Sentence, write_sentences
from utils.lesson import check, run
from utils.plotting import label, save_figure

PAD, UNKNOWN, IGNORE = 0, 1, -100  # two symbols, and the tag that cross_entropy leaves out unless told otherwise
SIZE = 64  # sentences in a batch
Pick = Literal["last_state", "zeros", "padding", "every_state"]  # what of a network's states the answer is made from


def batch(sentences: list[Sentence], vocabulary: dict[str, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fill up to the longest: symbols (batch, steps), lengths (batch,), tags (batch, steps), later (batch,)."""
    rows = [torch.tensor([vocabulary.get(symbol, UNKNOWN) for symbol in one.symbols]) for one in sentences]
    tags = pad_sequence([torch.tensor(one.tags) for one in sentences], batch_first=True, padding_value=IGNORE)
    lengths, later = torch.tensor([len(row) for row in rows]), torch.tensor([one.later for one in sentences])
    return pad_sequence(rows, batch_first=True, padding_value=PAD), lengths, tags, later


# %% 1. Three ways to the same states, and one that is not
def by_hand(weights: list[Tensor], x: Tensor, lengths: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
    """Step a GRU through x (batch, steps, features): states (batch, steps, hidden), 0 at padding; last ones (batch, hidden)."""
    state, states = x.new_zeros(len(x), weights[1].shape[1]), [x] * x.shape[1]  # weights[1] is (3 · hidden, hidden)
    for step in sorted(range(x.shape[1]), reverse=backwards):  # backwards, the padding comes first
        real = (step < lengths)[:, None]  # (batch, 1), a column of the mask
        state = torch.where(real, torch.gru_cell(x[:, step], state, *weights), state)  # at padding it stands still
        states[step] = torch.where(real, state, 0.0)
    return torch.stack(states, dim=1), state


def compare_ways(lengths: Tensor, seed: int) -> dict[str, float]:
    """Read a padded batch in several ways; return by how much each differs from reading the sentences one at a time."""
    torch.manual_seed(seed)
    gru = nn.GRU(8, 16, batch_first=True, bidirectional=True)  # states: 16 numbers forwards, 16 backwards
    real = torch.arange(int(lengths.max())) < lengths[:, None]  # (batch, steps), the mask
    x = torch.randn(*real.shape, 8) * real[:, :, None]  # padding is zeros, as from nn.Embedding(padding_idx=0)
    alone = [gru(row[None, :length]) for row, length in zip(x, lengths.tolist(), strict=True)]
    states = pad_sequence([out[0] for out, _ in alone], batch_first=True)  # (batch, steps, 32)
    last = torch.cat([last for _, last in alone], dim=1)  # (2 directions, batch, 16)
    mean = torch.stack([out[0].mean(dim=0) for out, _ in alone])  # (batch, 32)
    hand = [by_hand(weights, x, lengths, backwards) for weights, backwards in zip(gru.all_weights, (False, True), strict=True)]
    hand, hand_last = torch.cat([out for out, _ in hand], dim=2), torch.stack([last for _, last in hand])
    packed, packed_last = gru(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    packed, _ = pad_packed_sequence(packed, batch_first=True)  # zeros where there is padding
    padded, padded_last = gru(x)  # nobody says where the sentences end
    pairs = {"mask": (hand, states), "mask_last": (hand_last, last), "packed": (packed, states)}
    pairs |= {"packed_last": (packed_last, last), "packed_mean": (packed.sum(dim=1) / lengths[:, None], mean)}
    pairs |= {"last": (padded_last[0], last[0]), "mean": (packed.mean(dim=1), mean)}
    pairs |= {"forward": (padded[real][:, :16], states[real][:, :16]), "backward": (padded[real][:, 16:], states[real][:, 16:])}
    off = {name: (ours - right).abs().max().item() for name, (ours, right) in pairs.items()}
    for told, wrong in (("1. as one at a time:", False), ("   not:             ", True)):
        print(told, ", ".join(f"{name} {value:.0e}" for name, value in off.items() if (value > 1e-3) == wrong))
    return off


# %% 2. Losses over what is real, two errors, and less padding
def compare_losses(tags: Tensor, seed: int) -> dict[str, float]:
    """Score a tagger that guesses on padded tags (batch, steps): by ignore_index, by hand, and with the padding counted."""
    logits = torch.randn(*tags.shape, 5, generator=torch.Generator().manual_seed(seed)) + torch.tensor([3.0, 0, 0, 0, 0])
    real, filled = tags != IGNORE, tags.clamp(min=OUTSIDE)
    each, right = -logits.log_softmax(dim=2).gather(2, filled[:, :, None])[:, :, 0], (logits.argmax(dim=2) == filled).float()
    found = {"ignored": F.cross_entropy(logits.transpose(1, 2), tags), "by hand": each[real].mean(), "counted": each.mean()}
    found = {name: x.item() for name, x in (found | {"right": right[real].mean(), "right, counted": right.mean()}).items()}
    print("2. loss and accuracy of guessing tags: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    return found


def meet_errors() -> list[str]:
    """Pack lengths that are not sorted, and lengths that are not on the CPU; return PyTorch's answers."""
    messages = []
    for lengths in (torch.tensor([2, 5, 3]), torch.tensor([5, 3, 2], device="meta")):  # "meta" as good as a GPU: not the CPU
        try:
            pack_padded_sequence(torch.zeros(3, 5, 8), lengths, batch_first=True)
        except RuntimeError as error:
            messages.append(str(error))
            print(f'   "{error}"')
    print("   read: say enforce_sorted=False, and leave the lengths on the CPU, even where the sentences are on a GPU")
    return messages


def batches(sentences: list[Sentence], pool: int, seed: int) -> list[list[Sentence]]:
    """Cut into batches: shuffle, sort by length within pools of `pool` batches, and shuffle the batches."""
    shuffled = (draw := random.Random(seed)).sample(sentences, len(sentences))
    pools = [shuffled[i : i + SIZE * pool] for i in range(0, len(shuffled), SIZE * pool)]
    ordered = [one for rows in pools for one in sorted(rows, key=lambda row: len(row.symbols))]
    return draw.sample(cut := [ordered[i : i + SIZE] for i in range(0, len(ordered), SIZE)], len(cut))


def count_padding(cut: list[list[Sentence]]) -> tuple[float, int]:
    """The share of padding among all places of these batches, and the steps that a network takes through them."""
    lengths = [[len(one.symbols) for one in rows] for rows in cut]
    return 1 - sum(map(sum, lengths)) / sum(max(row) * len(row) for row in lengths), sum(map(max, lengths))


# %% 3. and 4. One answer for a sentence, one for every symbol
class Reader(nn.Module):
    """Embedding → GRU → linear layer on some of its states: symbols (batch, steps) → logits, one or one per step."""

    def __init__(self, symbols: int, hidden: int, pick: Pick, both_ways: bool):
        super().__init__()
        self.pick, self.embedding = pick, nn.Embedding(symbols, 32, padding_idx=PAD)
        self.gru = nn.GRU(32, hidden, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(hidden * (1 + both_ways), 5 if pick == "every_state" else 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = self.embedding(x)  # (batch, steps, 32)
        if self.pick == "padding":  # a mistake: the state after all padding has been read, too
            return self.head(self.gru(x)[0][:, -1])
        states, last = self.gru(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        if self.pick == "last_state":
            return self.head(torch.cat([*last], dim=1))  # (directions, batch, hidden) → (batch, 2)
        states = pad_packed_sequence(states, batch_first=True)[0]  # (batch, steps, directions · hidden)
        return self.head(states if self.pick == "every_state" else states[:, -1])  # "zeros", a mistake: the padding's state


def train(
    sentences: list[Sentence], vocabulary: dict[str, int], pick: Pick, both_ways: bool,
    hidden: int, steps: int, pool: int, lr: float, seed: int,
) -> Reader:  # fmt: skip
    """Train a tagger if `pick` is "every_state", else a classifier."""
    torch.manual_seed(seed)
    model, cut = Reader(len(vocabulary) + 2, hidden, pick, both_ways), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for step in range(steps):
        cut = cut or batches(sentences, pool, seed + step)  # a new epoch
        x, lengths, tags, later = batch(cut.pop(), vocabulary)
        logits = model(x, lengths)  # (batch, steps, 5) or (batch, 2)
        loss = F.cross_entropy(logits.flatten(0, -2), tags.flatten() if pick == "every_state" else later)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def measure(model: Reader, cut: list[list[Sentence]], vocabulary: dict[str, int]) -> float:
    """The share of sentences that are classified right, or of which all tags are right."""
    right = []
    for x, lengths, tags, later in (batch(rows, vocabulary) for rows in cut):
        answers = model(x, lengths).argmax(dim=-1)  # (batch, steps) or (batch,)
        right.append(((answers == tags) | (tags == IGNORE)).all(dim=1) if answers.dim() == 2 else answers == later)
    return torch.cat(right).double().mean().item()


def baselines(data: list[Sentence], test: list[Sentence], vocabulary: dict[str, int]) -> tuple[float, float]:
    """What a linear classifier of the counts of symbols gets right; and whoever gives each symbol its most frequent tag."""
    x, new = (F.one_hot(batch(part, vocabulary)[0], len(vocabulary) + 2).sum(dim=1)[:, 1:].double() for part in (data, test))
    later, new_later = (torch.tensor([one.later for one in part]) for part in (data, test))
    weights = torch.linalg.lstsq(x, later.double() - 0.5, driver="gelsd").solution  # (symbols,): more than 0 is later
    seen = Counter(pair for one in data for pair in zip(one.symbols, one.tags, strict=True)).most_common()
    usual = {symbol: tag for (symbol, tag), _ in reversed(seen)}  # of each symbol, the most frequent tag is written last
    tagged = [[usual.get(symbol, OUTSIDE) for symbol in one.symbols] == one.tags for one in test]
    return ((new @ weights > 0) == new_later.bool()).double().mean().item(), sum(tagged) / len(tagged)


def draw_figure(cuts: dict[str, list[list[Sentence]]], found: dict[str, float]) -> None:
    """Draw twelve batches of both kinds, and what was right."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for axis, (title, cut) in zip(axes, cuts.items(), strict=False):
        places = [(len(one.symbols), max(len(other.symbols) for other in rows)) for rows in cut[:12] for one in rows]
        for lengths, color in zip(list(zip(*places, strict=True))[::-1], ("lightgrey", "C0"), strict=True):
            axis.barh(range(len(places)), lengths, height=1, color=color)
        axis.set(title=title, xlabel=label("steps (grey: padding)", "스텝 (회색: 패딩)"), ylabel=label("sentences", "문장"))
    axes[2].barh(list(found)[::-1], list(found.values())[::-1])
    axes[2].set(title=label("share of sentences that are right", "맞힌 문장의 비율"), xlim=(0, 1))
    save_figure(figure, __file__, "sequences")


# %% All of it, in order
def main(
    sentences: int = 4000, steps: int = 400, hidden: int = 64, pool: int = 16, lr: float = 0.02, seed: int = 0
) -> dict[str, float]:
    """Read sentences of different length without mistaking padding for text: classify them, and tag their symbols.

    Args:
        sentences: How many to learn from.
        steps: Steps that each classifier is trained; a tagger takes a quarter of them.
        hidden: Size of the state of each direction.
        pool: Batches among which sentences are sorted by length; 1 does not sort.
        lr: The highest learning rate.
        seed: Seed of sentences, weights and batches.
    """
    check(sentences >= 128 and steps >= 40 and min(hidden, pool) > 0, "needed are --sentences 128 and --steps 40, or more")
    dates = random.Random(seed).sample([(month, day) for month in range(1, 13) for day in range(1, 29)], 336)
    data, test = write_sentences(sentences, dates[:286], seed), write_sentences(1000, dates[286:], seed + 1)  # no date in both
    vocabulary = {symbol: 2 + i for i, symbol in enumerate(sorted({symbol for one in data for symbol in one.symbols}))}
    off = compare_ways(batch(data[:32], vocabulary)[1], seed)
    check(max(value for name, value in off.items() if "mask" in name or "packed" in name) < 1e-6, "packing changes the states")
    compare_losses(batch(data[:32], vocabulary)[2], seed)
    meet_errors()
    cuts = {f"shuffled in pools of {n}": batches(data, n, seed) for n in dict.fromkeys((1, pool))}
    results = {"last_state_off": off["last"]}
    for name, cut in cuts.items():
        results["padding"], results["steps_per_epoch"] = count_padding(cut)
        print(f"   {name}: {results['padding']:.0%} of the places are padding, {results['steps_per_epoch']:,} steps in an epoch")
    results["counts"], results["usual_tags"] = baselines(data, test, vocabulary)
    cuts_of_test = {"mixed": batches(test, 1, seed), "alike": batches(test, len(test), seed)}
    print(f"3. later or earlier: counting symbols {results['counts']:.3f}; among sentences of any length, of the same length")
    for pick in ("last_state", "zeros", "padding"):
        model = train(data, vocabulary, pick, False, hidden, steps, pool, lr, seed)
        results |= {f"{pick}_{name}": measure(model, cut, vocabulary) for name, cut in cuts_of_test.items()}
        print(f"   {pick:12} {results[f'{pick}_mixed']:.3f} {results[f'{pick}_alike']:.3f}")
    print(f"4. all tags of a sentence: usual tags {results['usual_tags']:.3f}; English, Korean")
    for way, both_ways in (("one_way", False), ("both_ways", True)):
        model = train(data, vocabulary, "every_state", both_ways, hidden, steps // 4, pool, lr, seed)
        for language in ("en", "ko"):
            results[f"{way}_{language}"] = measure(model, [[one for one in test if one.language == language]], vocabulary)
        print(f"   {way:12} {results[f'{way}_en']:.3f} {results[f'{way}_ko']:.3f}")
    draw_figure(cuts, {name: right for name, right in results.items() if name.endswith(("mixed", "alike", "_en", "_ko"))})
    right, tagged = results["last_state_mixed"], min(results["both_ways_en"], results["both_ways_ko"])
    check(1 - right < 0.5 * (1 - max(0.5, results["counts"])), f"only {right:.1%} classified right: more --steps?")
    check(1 - tagged < 0.3 * (1 - results["usual_tags"]), f"only {tagged:.1%} tagged right: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
