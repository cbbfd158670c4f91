"""Attention as the lessons write it out, against PyTorch's own: CPU seconds, as a ratio in one run.

    python benchmarks/attention.py look-up       the look-up alone, against F.scaled_dot_product_attention
    python benchmarks/attention.py layer         the whole layer, against nn.MultiheadAttention

Each way is timed in turn with the others, several times, and medians are compared: what disturbs one disturbs all. One thread, on
the CPU; on Windows, whose clock of CPU seconds ticks every 16 ms, only long sequences say something. Results: README.md here.
"""

import functools
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from utils import paths
from utils.lesson import check, run

HEADS, WIDTH = 4, 32  # heads, and numbers in each


def lesson(name: str):
    """Import a lesson of stage 06: a module name in an import statement cannot start with a digit."""
    if str(paths.ROOT) not in sys.path:
        sys.path.insert(0, str(paths.ROOT))
    return importlib.import_module(f"06_advanced.{name}")


def seconds(way: Callable[..., Tensor], inputs: list[Tensor], backward: bool) -> float:
    """CPU seconds of one call, with its backward pass or without gradients at all."""
    started = time.process_time()
    with torch.set_grad_enabled(backward):
        out = way(*inputs)
        if backward:
            torch.autograd.grad(out.sum(), inputs)
    return time.process_time() - started


def compare(
    ways: dict[str, Callable[..., Tensor]], lengths: list[int], make: Callable[[int], list[Tensor]], repeats: int
) -> dict[str, float]:
    """Return the median time of each way in units of the first one's, forward and with the backward pass; print all of it."""
    found, reference = {}, next(iter(ways))
    for length in lengths:
        inputs = [part.requires_grad_() for part in make(length)]
        for backward in (False, True):
            rows = [[seconds(way, inputs, backward) for way in ways.values()] for _ in range(repeats + 1)][1:]  # 1st: warming up
            times = dict(zip(ways, map(statistics.median, zip(*rows, strict=True)), strict=True))
            kind = "forward and backward" if backward else "forward"
            told = ", ".join(f"{name} {took / times[reference]:.2f}" for name, took in times.items())
            print(f"{length:5} steps, {kind:20}: {told}; {reference} took {1000 * times[reference]:.2f} ms", flush=True)
            found |= {f"{name}_{length}{'_backward' * backward}": took / times[reference] for name, took in times.items()}
    return {name.replace(" ", "_"): share for name, share in found.items() if not name.startswith(reference)}


def look_up(lengths: list[int], batch: int, causal: bool, repeats: int) -> dict[str, float]:
    """Time the look-up: with the matrix of all scores, block by block with a softmax in one pass, and PyTorch's."""
    cost = lesson("attention_cost")
    ways = {
        "fused": functools.partial(F.scaled_dot_product_attention, is_causal=causal),
        "plain": functools.partial(cost.plain_attention, causal=causal),
        "blocks": functools.partial(cost.blocked_attention, causal=causal),
        "blocks twice": functools.partial(cost.blocked_attention, causal=causal, twice=True),
    }
    generator = torch.Generator().manual_seed(0)
    return compare(ways, lengths, lambda n: list(torch.randn(3, batch, HEADS, n, WIDTH, generator=generator).unbind()), repeats)


def layer(lengths: list[int], batch: int, causal: bool, repeats: int) -> dict[str, float]:
    """Time self-attention as a layer, with the same parameters, and PyTorch's also with the weights that ours always returns."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(HEADS * WIDTH, HEADS, batch_first=True)
    ours = lesson("multi_head_attention").MultiHeadAttention(HEADS * WIDTH, HEADS)
    ours.load_state_dict(theirs.state_dict())

    def call(module: nn.Module, x: Tensor, **options: bool) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if causal else None
        return module(x, x, x, attn_mask=mask, **options)[0]

    ways = {
        "pytorch": functools.partial(call, theirs, need_weights=False),
        "pytorch weights": functools.partial(call, theirs),
        "ours": functools.partial(call, ours),
    }
    generator = torch.Generator().manual_seed(0)
    return compare(ways, lengths, lambda n: [torch.randn(batch, n, HEADS * WIDTH, generator=generator)], repeats)


def main(
    what: Annotated[Literal["look-up", "layer"], tyro.conf.Positional],
    longest: int = 1024, batch: int = 4, causal: bool = False, repeats: int = 15,
) -> dict[str, float]:  # fmt: skip
    """Measure one thing.

    Args:
        what: What to measure.
        longest: Steps of the longest sequence, at least 64; the others have a quarter and a sixteenth of it.
        batch: Sequences at once.
        causal: With a causal mask.
        repeats: How often each way is timed; medians count.
    """
    check(longest >= 64 and min(batch, repeats) > 0, "at least --longest 64, --batch 1 and --repeats 1 are needed")
    lengths = [longest // 16, longest // 4, longest]
    return (look_up if what == "look-up" else layer)(lengths, batch, causal, repeats)


if __name__ == "__main__":
    run(main)
