"""What attention costs · 어텐션의 비용

Every word is compared with every word: twice the length is four times the work, and four times the memory for the scores. The
work stays; the memory need not be spent, because a softmax can be computed while it is still being read.
모든 단어를 모든 단어와 견준다. 길이가 두 배면 계산도, 점수를 담을 메모리도 네 배가 된다. 계산은 줄지 않지만 메모리는 아낄 수
있다. 소프트맥스는 점수를 읽어 가면서 계산할 수 있기 때문이다.

You will
  1. compute a softmax in one pass over numbers that come in pieces
  2. build attention on it that never holds the matrix of all scores: equal to the plain one, gradients too
  3. see that training brings the matrix back, and how computing twice gets rid of it again
  4. measure time and memory against length, beside PyTorch's fused attention and a linear layer
  5. meet the error everyone meets

Before     06_advanced/multi_head_attention.py
Run        python -m study run attention_cost      (about 6 s on one CPU core, after importing torch)
You see    four times the time and memory for twice the length; in blocks and computed twice, nothing to keep; cost.png
Try next   --longest 1024: first guess what becomes of the bytes, and of plain_time_growth
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import functools
import math
import timeit
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from utils.lesson import check, run
from utils.plotting import label, save_figure

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


# %% 1. A softmax in one pass
def online_softmax(pieces: Iterable[Tensor]) -> tuple[float, float]:
    """Read numbers (n,) piece by piece; return the largest, and the sum of e to the power of (number - largest).

    That is all a softmax needs to know of the others. Where a piece brings a new largest one, the sum so far is corrected.
    """
    top, total = -math.inf, 0.0
    for piece in pieces:
        new = max(top, piece.max().item())
        total = total * math.exp(top - new) + (piece - new).exp().sum().item()  # e^(x - top) · e^(top - new) = e^(x - new)
        top = new
    return top, total


def compare_softmax(seed: int) -> tuple[float, float]:
    """Return by how much a softmax in pieces is off, and how many times too large the sum becomes without the correction."""
    numbers = 30 * torch.randn(1000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pieces = numbers.sort().values.split(100)  # the worst order: every piece brings a new largest one
    top, total = online_softmax(pieces)
    off = ((numbers - top).exp() / total - numbers.softmax(dim=0)).abs().max().item()
    excess = sum((piece - piece.max()).exp().sum().item() for piece in pieces) / total
    print(f"1. softmax of 1,000 numbers in ten pieces: off by {off:.0e}; uncorrected, the sum is {excess:.0f} times too large")
    return off, excess


# %% 2. Attention in pieces
def later(scores: Tensor, diagonal: int) -> Tensor:
    """Make the causal mask of scores (..., targets, sources): True above this diagonal, where a source comes too late."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(diagonal)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Look up all targets at once: (..., targets, d), (..., sources, d), (..., sources, width) → (..., targets, width)."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (..., targets, sources): the whole matrix
    if causal:
        scores = scores.masked_fill(later(scores, 1), -math.inf)
    return scores.softmax(dim=-1) @ value


def look_up_rows(rows: Tensor, key: Tensor, value: Tensor, first: int, block: int, causal: bool) -> Tensor:
    """Look up some targets, the first of which is number `first`: read keys and values block by block, each only once."""
    top, total, out = torch.full_like(rows[..., :1], -math.inf), 0.0, 0.0  # top and total are (..., rows, 1)
    last = first + rows.shape[-2] if causal else key.shape[-2]
    for start in range(0, last, block):  # where all sources come later than all rows, nothing is computed at all
        keys, values = key[..., start : start + block, :], value[..., start : start + block, :]
        scores = rows @ keys.transpose(-2, -1) / math.sqrt(rows.shape[-1])  # (..., rows, block): all that is ever held
        if causal:
            scores = scores.masked_fill(later(scores, 1 + first - start), -math.inf)
        new = torch.maximum(top, scores.amax(dim=-1, keepdim=True))
        correction, weights = (top - new).exp(), (scores - new).exp()
        total = total * correction + weights.sum(dim=-1, keepdim=True)
        out = out * correction + weights @ values
        top = new
    return out / total


def blocked_attention(
    query: Tensor, key: Tensor, value: Tensor, causal: bool = False, block: int = 128, twice: bool = False
) -> Tensor:
    """Compute what plain_attention does, a block of targets by a block of sources at a time.

    Args:
        query, key, value: (..., targets, d), (..., sources, d), (..., sources, width).
        causal: Target i sees the sources 0 ... i.
        block: Rows and columns of a block.
        twice: Keep nothing of the blocks for the backward pass, but compute them again there.
    """
    parts = []
    for first in range(0, query.shape[-2], block):
        arguments = query[..., first : first + block, :], key, value, first, block, causal
        parts.append(checkpoint(look_up_rows, *arguments, use_reentrant=False) if twice else look_up_rows(*arguments))
    return torch.cat(parts, dim=-2)


def compare_ways(length: int, seed: int) -> dict[str, float]:
    """Return by how much outputs and gradients in blocks differ from the plain way's, which also is PyTorch's."""
    generator, found = torch.Generator().manual_seed(seed), {}
    *inputs, upstream = torch.randn(4, 2, length, 8, generator=generator, dtype=torch.float64)
    inputs = [part.requires_grad_() for part in inputs]
    for causal in (False, True):
        ways = {"fused": F.scaled_dot_product_attention(*inputs, is_causal=causal)}
        ways |= {f"blocks of {block}": blocked_attention(*inputs, causal, block) for block in (1, 7, 64)}
        ways["computed twice"] = blocked_attention(*inputs, causal, 16, twice=True)
        out = plain_attention(*inputs, causal)
        expected = out, *torch.autograd.grad(out, inputs, upstream)
        for name, out in ways.items():
            got = out, *torch.autograd.grad(out, inputs, upstream)
            off = max((one - other).abs().max().item() for one, other in zip(got, expected, strict=True))
            found[name] = max(off, found.get(name, 0.0))
    print(f"2. {length} steps, outputs and gradients off by " + ", ".join(f"{name} {off:.0e}" for name, off in found.items()))
    return found


# %% 3. What is kept for the backward pass
def count_kept(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> int:
    """Return the bytes that autograd keeps until the backward pass, inputs not counted; a tensor kept twice counts once."""
    inputs, kept = [part.detach().requires_grad_() for part in (query, key, value)], {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = attention(*inputs)  # noqa: F841  (as long as it lives, what was kept does, and no memory is used again)
    return sum(size for place, size in kept.items() if place not in {part.untyped_storage().data_ptr() for part in inputs})


# %% 4. Time and memory against length
WAYS = {
    "plain": plain_attention,
    "blocks": blocked_attention,
    "blocks twice": functools.partial(blocked_attention, twice=True),
    "fused": F.scaled_dot_product_attention,
}


def measure_costs(lengths: tuple[int, ...], repeats: int, seed: int) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Return, at every length, seconds of a forward pass (best of some) and bytes kept, for every way; draw both."""
    import matplotlib.pyplot as plt

    generator, seconds, kept = torch.Generator().manual_seed(seed), {}, {}
    linear = nn.Linear(32, 32)
    ways = WAYS | {"linear layer": lambda query, key, value: linear(query)}
    for length in lengths:
        inputs = torch.randn(3, 1, 4, length, 32, generator=generator)  # query, key and value: (batch, heads, steps, width)
        with torch.no_grad():  # in turn: what disturbs one disturbs all
            times = [[timeit.timeit(lambda way=way: way(*inputs), number=1) for way in ways.values()] for _ in range(repeats)]  # noqa: B023
        for name, best in zip(ways, map(min, zip(*times, strict=True)), strict=True):
            seconds.setdefault(name, []).append(best)
        for name, way in WAYS.items():
            kept.setdefault(name, []).append(count_kept(way, *inputs))
    print(f"4. steps {lengths}: seconds, and bytes kept for the backward pass")
    for name, row in seconds.items():
        told = "   ".join(f"{second:7.4f}" for second in row), " ".join(f"{size:11,}" for size in kept.get(name, []))
        print(f"   {name:13} {told[0]}   {told[1]}")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    titles = label("seconds", "초"), label("bytes kept for the backward pass", "역전파를 위해 남겨 두는 바이트")
    for axis, table, title in zip(axes, (seconds, kept), titles, strict=True):
        for name, row in table.items():
            axis.plot(lengths, row, "o-", label=name)
        axis.set(xscale="log", yscale="log", title=title, xlabel=label("steps", "스텝"))
        axis.set_xticks(lengths, lengths)
        axis.minorticks_off()
    axes[0].legend()
    save_figure(figure, __file__, "cost")
    return seconds, kept


def measure_causal(length: int, repeats: int, seed: int) -> float:
    """Return the time in blocks with a causal mask, in units of the time without."""
    inputs = torch.randn(3, 1, 4, length, 32, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        times = [
            [timeit.timeit(lambda on=on: blocked_attention(*inputs, on), number=1) for on in (True, False)]
            for _ in range(repeats)
        ]
    share = min(pair[0] for pair in times) / min(pair[1] for pair in times)
    print(f"   causal, in blocks: {share:.2f} of the time, because blocks above the diagonal are left out")
    return share


# %% 5. The error everyone meets
def meet_error() -> str:
    """Ask for the scores of eight million steps; return PyTorch's answer."""
    query = torch.ones(2**23, 1)
    try:
        plain_attention(query, query, query)
    except RuntimeError as error:
        message = str(error)
    print(f'5. "{message[message.find("DefaultCPU") :].partition(".")[0]}"')
    print(f"   read: 4 bytes for each of {2**23:,} x {2**23:,} scores; no machine has that")
    return message


# %% All of it, in order
def main(longest: int = 2048, repeats: int = 5, seed: int = 0) -> dict[str, float]:
    """Measure what attention costs, and compute it without the matrix of all scores.

    Args:
        longest: Steps of the longest sequence, at least 512; the others have a half, a quarter and an eighth of it.
        repeats: How often each time is measured; the shortest counts.
        seed: Seed of all random numbers.
    """
    check(longest >= 512 and repeats > 0, "at least --longest 512 and --repeats 1 are needed")
    off, excess = compare_softmax(seed)
    worst = max(compare_ways(24, seed).values())
    check(max(off, worst) < 1e-12, "attention in blocks does not give the plain one's numbers")
    seconds, kept = measure_costs((longest // 8, longest // 4, longest // 2, longest), repeats, seed)
    results = {f"{name.replace(' ', '_')}_time_growth": row[-1] / row[-2] for name, row in seconds.items()}
    results |= {f"{name.replace(' ', '_')}_bytes": row[-1] for name, row in kept.items()}
    results["causal_time"] = measure_causal(longest, repeats, seed)
    meet_error()
    check(kept["plain"][-1] >= 4 * kept["plain"][-2] > kept["fused"][-1], "the plain way's memory should be quadratic")
    return results


if __name__ == "__main__":
    run(main)
