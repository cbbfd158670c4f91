"""Positions · 위치

Attention sees a bag of words. Where a word stands must be put into what it is shown, as a vector that is added, or into how it
compares, as a rotation; and that choice decides what becomes of sequences that are longer than any it has learned from.
어텐션에는 문장이 단어 주머니로 보인다. 단어의 자리는 벡터로 더해서 보여 주거나, 회전으로 바꾸어 비교할 때 넣어 주어야 한다. 어느
쪽을 고르느냐에 따라, 배운 것보다 긴 시퀀스를 만났을 때 벌어지는 일이 달라진다.

You will
  1. shuffle a sentence: attention does not notice, unless a mask tells it
  2. write positions as waves, as a table and as rotations; see which of them know only distances
  3. teach all of them to say what stood three places before, and ask them about longer sequences, over seeds
  4. meet the error everyone meets with a table of positions, and a mistake that no message tells

Before     06_advanced/transformer.py
Run        python -m study run positions           (about 24 s on one CPU core, after importing torch)
You see    all learn at length 16; at four times the length, rotations are right in half and more, others in 0.3; lengths.png
Try next   --shift 48: in training, sequences begin anywhere from place 0 to 48. First guess whom that helps, and whom it hurts
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.device import pick_device
from utils.lesson import check, run
from utils.plotting import label, save_figure

KINDS = {"none": "없음", "table": "표", "waves": "사인파", "rotation": "회전"}
DIGITS, ROOM = 10, 256  # what sequences consist of; how many places the table has, most of them never used in training


# %% 1. A bag of words
@torch.no_grad()
def shuffle_words(seed: int) -> dict[str, float]:
    """Shuffle the words of a sentence; return how far a Transformer's outputs, put back in order, are from what they were."""
    torch.manual_seed(seed)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    model, x, order = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(1, 8, 16), torch.randperm(8)
    causal, found = torch.ones(8, 8).triu(1).bool(), {}
    for name, place, mask in (("nothing", 0, None), ("waves", waves(torch.arange(8), 16), None), ("a causal mask", 0, causal)):
        moved = model(x[:, order] + place, mask) - model(x + place, mask)[:, order]
        found[name] = moved.abs().max().item()
    print("1. shuffled: outputs move by " + ", ".join(f"{moved:.1g} with {name}" for name, moved in found.items()))
    return found


# %% 2. Waves, a table, rotations
def angles(places: Tensor, width: int, base: float = 10_000.0) -> Tensor:
    """How far each of width / 2 clocks has turned at each place (steps,): (steps, width / 2), the first by 1, others slower."""
    return places[:, None] * base ** (-torch.arange(0, width, 2, device=places.device) / width)


def waves(places: Tensor, width: int) -> Tensor:
    """Make positions (steps, width) to be added: where the hands of all clocks point (Vaswani et al., 2017)."""
    turned = angles(places, width)
    return torch.cat([turned.sin(), turned.cos()], dim=1)


def rotate(x: Tensor, places: Tensor) -> Tensor:
    """Turn queries or keys (..., steps, d) by their places (steps,): numbers i and i + d / 2 by clock i (Su et al., 2021)."""
    turned = angles(places, x.shape[-1])  # (steps, d / 2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * turned.cos() - b * turned.sin(), a * turned.sin() + b * turned.cos()], dim=-1)


def compare_distances(seed: int) -> dict[str, float]:
    """Move 12 queries and 12 keys by 1,000 places; return by how much their scores change, and other properties of rotations."""
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 12, 16, generator=generator, dtype=torch.float64)
    here, there = torch.arange(12).double(), torch.arange(1000, 1012).double()
    table = torch.randn(1012, 16, generator=generator, dtype=torch.float64)

    def change(one: Tensor, other: Tensor) -> float:
        return (one - other).abs().max().item()

    scores = [rotate(q, places) @ rotate(k, places).T for places in (here, there)]
    alike = [wave @ wave.T for wave in (waves(here, 16), waves(there, 16))]  # of positions with one another
    added = [(q + wave) @ (k + wave).T for wave in (waves(here, 16), waves(there, 16))]
    rows = [(q + row) @ (k + row).T for row in (table[:12], table[1000:])]
    turns = torch.polar(torch.ones(12, 8).double(), angles(here, 16))  # as complex numbers: one product for each pair
    one, other = (torch.complex(*part.chunk(2, dim=1)) * turns for part in (q, k))
    found = {"rotation": change(*scores), "waves alone": change(*alike), "waves": change(*added), "table": change(*rows)}
    print("2. moved by 1,000 places, scores change by " + ", ".join(f"{name} {moved:.1g}" for name, moved in found.items()))
    found["complex"] = change(scores[0], (one @ other.mH).real)
    found["length"] = change(rotate(q, there).norm(dim=1), q.norm(dim=1))
    print(f"   rotations are products of complex numbers (off by {found['complex']:.0e}), and change no length")
    return found


# %% 3. What stood before
class Block(nn.Module):
    """A layer of a Transformer, norms first, that may turn queries and keys."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norms = heads, nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.small = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, places: Tensor | None) -> Tensor:
        parts = self.project(self.norms[0](x)).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)  # (batch, heads, steps, d)
        if places is not None:
            q, k = rotate(q, places), rotate(k, places)  # not the values: what is said does not depend on the place
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.small(self.norms[1](x))


class Reader(nn.Module):
    """A Transformer of two layers that sees a whole sequence: digits (batch, steps) → logits (batch, steps, 10)."""

    def __init__(self, kind: str, seed: int, width: int = 64, heads: int = 4):
        super().__init__()
        torch.manual_seed(seed)
        self.kind, self.digit = kind, nn.Embedding(DIGITS, width)
        self.table = nn.Embedding(ROOM, width) if kind == "table" else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(2))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, DIGITS))

    def forward(self, digits: Tensor, start: int = 0) -> Tensor:
        x, places = self.digit(digits), torch.arange(start, start + digits.shape[1], device=digits.device)
        if self.kind == "table":
            x = x + self.table(places)
        elif self.kind == "waves":
            x = x + waves(places, x.shape[2])
        for block in self.blocks:
            x = block(x, places if self.kind == "rotation" else None)
        return self.head(x)


def train(model: Reader, length: int, back: int, shift: int, steps: int, lr: float, seed: int) -> float:
    """Teach it to say what stood `back` places before, on 64 new sequences a step; return the last loss.

    Each batch starts at a place from 0 to `shift`, drawn anew.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        digits = torch.randint(DIGITS, (64, length), generator=generator).to(model.digit.weight.device)
        start = int(torch.randint(shift + 1, (), generator=generator))
        loss = F.cross_entropy(model(digits, start)[:, back:].transpose(1, 2), digits[:, :-back])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


@torch.no_grad()
def measure(model: Reader, length: int, back: int, seed: int, start: int = 0) -> Tensor:
    """Return the share of right answers at every place (length - back,) of 100 new sequences."""
    digits = torch.randint(DIGITS, (100, length), generator=torch.Generator().manual_seed(seed)).to(model.digit.weight.device)
    return (model(digits, start)[:, back:].argmax(dim=2) == digits[:, :-back]).float().mean(dim=0).cpu()


def compare_lengths(models: dict[str, list[Reader]], length: int, back: int, seed: int) -> dict[str, Tensor]:
    """Return accuracies (networks, 5) at 1 to 4 times the length that they learned from; draw them, and those by place."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    lengths, found = [length, 5 * length // 4, 3 * length // 2, 2 * length, 4 * length], {}
    print(f"3. right at lengths of {lengths}:")
    for i, (kind, networks) in enumerate(models.items()):
        found[kind] = torch.tensor([[measure(model, n, back, seed).mean().item() for n in lengths] for model in networks])
        for row in found[kind]:
            print(f"   {kind:9}" + "".join(f"{right:6.2f}" for right in row))
        axes[0].plot(lengths, found[kind].T.numpy(), "o-", color=f"C{i}", markersize=4)[0].set_label(label(kind, KINDS[kind]))
        axes[1].plot(range(back, 2 * length), measure(networks[0], 2 * length, back, seed).numpy(), color=f"C{i}")
    titles = label("length of the sequence", "시퀀스의 길이"), label("place, twice the length", "자리, 두 배 길이")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlabel=title, ylabel=label("accuracy", "정확도"), ylim=(0, 1.05))
    axes[1].axvline(length - 0.5, color="grey", linestyle=":")  # where the sequences ended that they learned from
    figure.legend(loc="outside right upper")
    save_figure(figure, __file__, "lengths")
    return found


# %% 4. Mistakes
def meet_error(models: dict[str, list[Reader]], length: int, back: int, seed: int) -> tuple[str, dict[str, float]]:
    """Ask a table for a place that it does not have; return PyTorch's answer, and accuracies where all begins 4 places later."""
    try:
        Reader("table", seed)(torch.zeros(1, ROOM + 1, dtype=torch.int64))  # on the CPU: a GPU says less, and stops altogether
    except IndexError as error:
        message = str(error)
    print(f'4. "{message}"\n   read: the table has {ROOM} places, from 0 to {ROOM - 1}; nobody can look up place {ROOM}')
    found = {kind: measure(networks[0], length, back, seed, start=4).mean().item() for kind, networks in models.items()}
    told = ", ".join(f"{kind} {right:.2f}" for kind, right in found.items())
    print(f"   no message where padding stands in front, so that all begins at place 4: right {told}")
    return message, found


# %% All of it, in order
def main(
    length: int = 16, back: int = 3, shift: int = 0, steps: int = 150, networks: int = 3, lr: float = 0.004,
    device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Tell a Transformer where words stand, in four ways, and see which of them carry over to longer sequences.

    Args:
        length: Of the sequences to learn from, 8 to 64.
        back: How many places before stands what is asked for.
        shift: The highest place at which a sequence begins in training.
        steps: Steps that each network is trained, on 64 sequences each.
        networks: How many of every kind.
        lr: The highest learning rate.
        device: auto, cpu, cuda or mps.
        seed: The first seed.
    """
    check(8 <= length <= ROOM // 4 and 0 < back < length, f"needed are --length 8 to {ROOM // 4} and --back 1 to length - 1")
    check(0 <= shift <= ROOM - length, f"--shift {shift}: from 0 to {ROOM - length}, where the table ends")
    check(min(steps, networks) > 0, "at least --steps 1 and --networks 1 are needed")
    where = pick_device(device)
    shuffle_words(seed)
    check(compare_distances(seed)["rotation"] < 1e-10, "scores of rotated queries and keys depend on more than the distance")
    models = {kind: [Reader(kind, i).to(where) for i in range(seed, seed + networks)] for kind in KINDS}
    for trained in models.values():
        for i, model in enumerate(trained, seed):
            train(model, length, back, shift, steps, lr, i)
    found = compare_lengths(models, length, back, seed + 10**6)
    meet_error(models, length, back, seed + 10**6)
    results = {f"{kind}_accuracy": rows[:, 0].mean().item() for kind, rows in found.items()}
    results |= {f"{kind}_twice_as_long": rows[:, 3].mean().item() for kind, rows in found.items()}
    best = min(right for name, right in results.items() if name.endswith("accuracy") and name != "none_accuracy")
    check(best > max(0.5, 2 * results["none_accuracy"]), "positions do not help: more --steps?")
    return results


if __name__ == "__main__":
    run(main)
