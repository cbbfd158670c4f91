"""Attention · 어텐션

Attention is a dictionary that answers every question: a query is compared with all keys, and out comes an average of the values,
weighted by how well their keys fit. Because everything in it is smooth, what to ask and what to answer to can be learned.
어텐션은 어떤 질문에도 답하는 사전이다. 쿼리를 모든 키와 견주고, 키가 맞는 만큼 가중치를 주어 값들을 평균한다. 모든 계산이
매끄러워서 무엇을 물을지, 무엇에 답할지를 학습할 수 있다.

You will
  1. ask a dictionary softly, and see it turn into an ordinary one as the question gets sharper
  2. write the look-up with a softmax of your own, equal to PyTorch's under every kind of mask, gradients too
  3. set both classic scores beside each other: additive and dot product
  4. measure why the dot product is divided by √d
  5. meet the error everyone meets with a mask, and three mistakes that no message tells

Before     02_neural_networks/mlp.py
Run        python -m study run attention           (about 2 s on one CPU core, after importing torch)
You see    differences of 1e-6 and less; a softmax that hardly moves without the scale; scale.png
Try next   --width 256: both scores have four times the work; first guess what becomes of additive_time
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
import timeit

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. A dictionary that answers softly
def ask_softly(sharpness: float) -> Tensor:
    """Ask a dictionary of four entries for the third; return the weights of the entries (4,)."""
    keys, values = torch.eye(4), torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    query = sharpness * keys[2:3]  # (1, 4)
    weights = (query @ keys.T).softmax(dim=1)  # (1, 4): e to the power of each match, divided by their sum
    answer = (weights @ values).item()
    print(f"1. sharpness {sharpness:2g}: weights {[round(weight, 3) for weight in weights[0].tolist()]}, answer {answer:.2f}")
    return weights[0]


# %% 2. The look-up
def softmax(scores: Tensor, dim: int = -1) -> Tensor:
    """Turn scores into weights that sum to 1; where all scores are -inf, all weights are 0 (torch.softmax would say NaN)."""
    top = scores.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    exps = (scores - top).exp()  # the largest is e⁰ = 1: nothing overflows
    total = exps.sum(dim, keepdim=True)
    return exps / (total + (total == 0))  # without anything to look at, 0 / 1


def look_up(scores: Tensor, value: Tensor, mask: Tensor | None = None, dim: int = -1) -> tuple[Tensor, Tensor]:
    """Average values by their scores.

    Args:
        scores: (..., targets, sources): how well each source's key fits each target's query.
        value: (..., sources, width).
        mask: Broadcasts to scores. bool: True may be looked at; float: added to the scores.
        dim: Over which axis of the scores the weights sum to 1. Any but the last is a mistake (section 5).

    Returns:
        Averages (..., targets, width), weights (..., targets, sources).
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights = softmax(scores, dim)
    return weights @ value, weights


def dot_scores(query: Tensor, key: Tensor) -> Tensor:
    """Score by the dot product, scaled (Vaswani et al., 2017): (..., targets, d), (..., sources, d) → (..., targets, sources)."""
    return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])


def additive_scores(query: Tensor, key: Tensor, v: Tensor) -> Tensor:
    """Score by a small network (Bahdanau et al., 2015): v · tanh(query + key), of the same shapes; v is (d,)."""
    return (query.unsqueeze(-2) + key.unsqueeze(-3)).tanh() @ v  # of every pair, (..., targets, sources, d), one number


def compare_masks(dtype: torch.dtype, seed: int) -> dict[str, float]:
    """Return by how much outputs and gradients differ from PyTorch's fused attention, for every kind of mask."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value, upstream = (torch.randn(3, 2, 5, 8, generator=generator, dtype=dtype) for _ in range(4))
    real = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]  # (3, 5): three sentences, of 5, 3 and 1 words
    causal = torch.ones(5, 5, dtype=torch.bool).tril()  # target i may look at the sources 0 ... i
    masks = {"none": None, "padding": real[:, None, None], "causal": causal, "padding and causal": real[:, None, None] & causal}
    masks |= {"float": torch.randn(2, 5, 5, generator=generator, dtype=dtype), "blind": causal.tril(-1)}
    inputs, found = [part.requires_grad_() for part in (query, key, value)], {}
    for name, mask in masks.items():
        options = {"is_causal": True} if name == "causal" else {"attn_mask": mask}
        both = look_up(dot_scores(query, key), value, mask)[0], F.scaled_dot_product_attention(*inputs, **options)
        ours, theirs = ([out, *torch.autograd.grad(out, inputs, upstream)] for out in both)
        found[name] = max((one - other).abs().max().item() for one, other in zip(ours, theirs, strict=True))
    print(f"2. {dtype}: off by at most " + ", ".join(f"{name} {off:.0e}" for name, off in found.items()))
    return found


# %% 3. Two scores
def compare_scores(steps: int, width: int, seed: int) -> dict[str, float]:
    """Score `steps` queries against as many keys; return what the additive score costs, in units of the dot product's cost."""
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, steps, width, generator=generator)
    v = torch.randn(width, generator=generator)
    pairs = torch.stack([torch.stack([v @ torch.tanh(q + k) for k in key[:4]]) for q in query[:4]])  # as the formula says it
    off = (additive_scores(query, key, v)[:4, :4] - pairs).abs().max().item()
    ways = (lambda: additive_scores(query, key, v)), (lambda: dot_scores(query, key))
    times = [[timeit.timeit(way, number=3) for way in ways] for _ in range(10)]  # in turn: what disturbs one disturbs both
    time = min(pair[0] for pair in times) / min(pair[1] for pair in times)
    print(f"3. additive scores off by {off:.0e} from one pair at a time; of {steps} x {steps} pairs it holds {width} times")
    print(f"   as many numbers as the dot product, and takes {time:.0f} times as long: all dot products are one matrix product")
    return {"off": off, "time": time}


# %% 4. Why it is scaled
def measure_scale(widths: tuple[int, ...], seed: int) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Look up 1,000 random queries among 16 random keys, scaled and plain; draw the weights.

    Returns:
        By ("scaled" or "plain", width): variance of the scores, mean largest weight, mean slope of the softmax at that weight.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    found, generator = {}, torch.Generator().manual_seed(seed)
    for axis, name in zip(axes, ("scaled", "plain"), strict=True):
        for width in widths:
            query, key = torch.randn(1000, 1, width, generator=generator), torch.randn(1000, 16, width, generator=generator)
            scores = dot_scores(query, key) * (1 if name == "scaled" else math.sqrt(width))  # (1000, 1, 16)
            weights = softmax(scores).sort(dim=-1, descending=True).values
            largest = weights[..., 0]
            slope = largest * (1 - largest)  # d weight / d its score: what a gradient is multiplied with on its way back
            found[name, width] = scores.var().item(), largest.mean().item(), slope.mean().item()
            told = "variance of the scores {:6.2f}, largest weight {:.2f}, slope there {:.3f}".format(*found[name, width])
            print(f"4. {name:6} width {width:3}: {told}")
            axis.plot(range(1, 17), weights.mean(dim=(0, 1)).numpy(), "o-", markersize=3, label=f"d = {width}")
        title = "q · k / √d" if name == "scaled" else "q · k"
        axis.set(title=title, xlabel=label("keys, best first", "키, 잘 맞는 순서"), ylabel=label("weight", "가중치"), ylim=(0, 1))
        axis.legend()
    save_figure(figure, __file__, "scale")
    return found


# %% 5. Mistakes
def meet_error() -> tuple[str, float]:
    """Hand PyTorch a mask (batch, sources); return its answer, and how far outputs are off where it has none."""
    real = torch.arange(6) < torch.tensor([6, 5, 4, 3])[:, None]  # (4, 6): four sentences of at most six words
    generator = torch.Generator().manual_seed(0)
    key, value = torch.randn(2, 4, 2, 6, 8, generator=generator)  # (batch, heads, sources, width) each
    query = torch.randn(4, 2, 5, 8, generator=generator)  # five targets
    try:
        F.scaled_dot_product_attention(query, key, value, attn_mask=real)
    except RuntimeError as error:
        message = str(error)
    print(f'5. "{message.splitlines()[0]}"')
    print("   read: a mask is (batch, heads, targets, sources) and matched from the right: say mask[:, None, None, :]")
    both = [F.scaled_dot_product_attention(query[:, :, :4], key, value, attn_mask=mask) for mask in (real, real[:, None, None])]
    off = (both[0] - both[1]).abs().max().item()
    print(f"   with as many targets as sentences, no message: sentence 2's mask becomes target 2's, outputs are off by {off:.1f}")
    return message, off


def compare_polarity(seed: int) -> tuple[float, float, float]:
    """Give one bool mask to both of PyTorch's attentions.

    Returns:
        How far the outputs are apart; how far with one mask inverted; how far padding, made larger, moves the wrong output.
    """
    torch.manual_seed(seed)
    module, x = nn.MultiheadAttention(8, 1, bias=False, batch_first=True), torch.randn(2, 4, 8)
    real = torch.tensor([[True, True, True, False]] * 2)  # the last word is padding
    moved = x + 10 * ~real[:, :, None]
    with torch.no_grad():
        query, key, value = F.linear(x, module.in_proj_weight).chunk(3, dim=2)
        right, inverted = (F.scaled_dot_product_attention(query, key, value, mask[:, None]) for mask in (real, ~real))
        theirs = module(x, x, x, key_padding_mask=real)[0]
        leak = (module(x, moved, moved, key_padding_mask=real)[0] - theirs).abs().max().item()
        apart, alike = ((theirs - module.out_proj(out)).abs().max().item() for out in (right, inverted))
    print("   True: may be looked at (scaled_dot_product_attention); True: is ignored (nn.MultiheadAttention)")
    print(f"   the same mask for both: {apart:.1f} apart; one of them inverted: {alike:.0e}")
    print(f"   the test for it: change the padding. With the wrong mask, outputs move by {leak:.0f}; they must not move at all")
    return apart, alike, leak


def look_over_targets(seed: int) -> tuple[float, float]:
    """Take the softmax over the wrong axis; return the smallest and the largest sum of the weights of a target."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, 4, 6, 8, generator=generator)  # (4, 6, 8) each: as many targets as sources
    out, weights = look_up(dot_scores(query, key), value, dim=-2)
    sums = weights.sum(dim=-1)
    print(f"   softmax over the targets: {tuple(out.shape)} as it should be, but the weights of one target sum to", end=" ")
    print(f"{sums.min():.1f} up to {sums.max():.1f}")
    return sums.min().item(), sums.max().item()


# %% All of it, in order
def main(width: int = 64, steps: int = 128, seed: int = 0) -> dict[str, float]:
    """Build attention from its parts, and meet its traps.

    Args:
        width: Size of queries and keys where two scores are compared, at least 2.
        steps: How many of each there are.
        seed: Seed of all random numbers.
    """
    check(width > 1 and steps > 3, f"--width {width} --steps {steps}: at least 2 and 4 are needed")
    weights = [ask_softly(sharpness)[2].item() for sharpness in (0, 1, 4, 16)]
    off = max(compare_masks(torch.float32, seed).values()), max(compare_masks(torch.float64, seed).values())
    check(off[0] < 1e-6 and off[1] < 1e-12, "attention by hand does not give PyTorch's numbers")
    scores = compare_scores(steps, width, seed)
    scale = measure_scale((4, 64, 512), seed)
    message, silent = meet_error()
    apart, alike, leak = compare_polarity(seed)
    smallest, largest = look_over_targets(seed)
    return {
        "off_float32": off[0], "off_float64": off[1], "sharp_weight": weights[-1], "additive_time": scores["time"],
        "plain_slope": scale["plain", 512][2], "scaled_slope": scale["scaled", 512][2],
        "silent_mask": silent, "polarity_apart": apart, "polarity_alike": alike,
    }  # fmt: skip


if __name__ == "__main__":
    run(main)
