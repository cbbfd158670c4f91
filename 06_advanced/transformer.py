"""The Transformer · 트랜스포머

A Transformer is one layer, many times: attention carries things from place to place, a small network works on each place alone,
and what both find is added to what was there. Put together from these parts by hand, it is PyTorch's in every number.
트랜스포머는 층 하나를 여러 번 쌓은 것이다. 어텐션은 자리와 자리 사이로 정보를 나르고, 작은 신경망은 자리마다 따로 계산하며, 둘의
결과를 원래 값에 더한다. 이 부품들로 직접 만들면 PyTorch의 것과 모든 수가 같다.

You will
  1. write both layers, of encoder and decoder, norm after or norm first: equal to PyTorch's under every mask, gradients too
  2. stack them to a whole nn.Transformer, and count its parameters by a formula
  3. change what comes later, and what is padding: what may move, and what must not
  4. meet the error everyone meets, and hand over a mask the wrong way round: what training, evaluation and the loss say to it

Before     06_advanced/multi_head_attention.py
Run        python -m study run transformer         (about 3 s on one CPU core, after importing torch)
You see    differences of 1e-6 and less; random digits, which nobody can predict, predicted with an inverted mask
Try next   --width 1024, then --depth 12: first guess how many times the parameters each of them gives
Theory     notes/en/06_advanced.md · notes/ko/06_advanced.md
Practise   python -m study check 06
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, run


# %% 1. Two layers
class Attention(nn.MultiheadAttention):
    """Only the parameters are inherited; what is done with them is written out. True in the mask: may be looked at."""

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let x (batch, targets, width) look at memory (batch, sources, width) where the mask (..., targets, sources) is True."""
        parts = zip((x, memory, memory), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (F.linear(*part).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (batch, heads, targets, sources)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        return self.out_proj((scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2))


class LayerNorm(nn.LayerNorm):
    """Standardise each vector by itself, then scale and shift it."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class EncoderLayer(nn.Module):
    """Look at one another, then think alone: nn.TransformerEncoderLayer without dropout."""

    def __init__(self, width: int, heads: int, hidden: int, norm_first: bool = False):
        super().__init__()
        self.norm_first, self.self_attn = norm_first, Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)

    def add(self, x: Tensor, norm: LayerNorm, branch: Callable[[Tensor], Tensor]) -> Tensor:
        return x + branch(norm(x)) if self.norm_first else norm(x + branch(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.linear1(x).relu())

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.add(x, self.norm1, lambda x: self.self_attn(x, x, mask))
        return self.add(x, self.norm2, self.feed_forward)


class DecoderLayer(EncoderLayer):
    """An encoder layer that also looks at what the encoder made of its input: nn.TransformerDecoderLayer without dropout."""

    def __init__(self, width: int, heads: int, hidden: int, norm_first: bool = False):
        super().__init__(width, heads, hidden, norm_first)
        self.multihead_attn, self.norm3 = Attention(width, heads), LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None, memory_mask: Tensor | None = None) -> Tensor:
        x = self.add(x, self.norm1, lambda x: self.self_attn(x, x, mask))
        x = self.add(x, self.norm2, lambda x: self.multihead_attn(x, memory, memory_mask))
        return self.add(x, self.norm3, self.feed_forward)


def difference(ours: nn.Module, theirs: nn.Module, inputs: tuple[Tensor, ...], mine: dict, keywords: dict) -> float:
    """Return by how much outputs and all gradients differ with random parameters, in units of the largest number (at least 1)."""
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)  # biases of 0 and norms of 1 would hide a mistake
    ours.load_state_dict(theirs.state_dict())
    results, leaves = [], [part.clone().requires_grad_() for part in inputs]
    for module, options in ((ours, mine), (theirs, keywords)):
        out = module(*leaves, **options)
        parameters = [parameter for _, parameter in sorted(module.named_parameters())]
        results.append([out, *torch.autograd.grad((out * torch.linspace(-1, 1, out.shape[2])).sum(), [*leaves, *parameters])])
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in zip(*results, strict=True))


def compare_layers(dtype: torch.dtype, norm_first: bool, seed: int) -> dict[str, float]:
    """Return by how much both layers differ from PyTorch's, under every mask."""
    torch.manual_seed(seed)
    x, memory = torch.randn(3, 5, 12, dtype=dtype), torch.randn(3, 7, 12, dtype=dtype)
    causal, near = torch.ones(5, 5).tril().bool(), torch.ones(5, 7).tril(2).bool()  # near: i sees the sources 0 ... i + 2
    real, read = (torch.arange(steps) < torch.tensor([[steps], [4], [3]]) for steps in (5, 7))  # (3, steps): three sentences
    words, sources = real[:, None, None], read[:, None, None]  # for scores (batch, heads, targets, sources)
    padding = {"tgt_key_padding_mask": ~real, "memory_key_padding_mask": ~read}
    cases = {  # our mask, and PyTorch's: there True is what must not be looked at
        "encoder": ({}, {}),
        "encoder, causal": ({"mask": causal}, {"src_mask": ~causal}),
        "encoder, padding": ({"mask": words}, {"src_key_padding_mask": ~real}),
        "decoder, causal": ({"mask": causal}, {"tgt_mask": ~causal}),
        "decoder, memory mask": ({"memory_mask": near}, {"memory_mask": ~near}),
        "decoder, all": ({"mask": causal & words, "memory_mask": sources}, {"tgt_mask": ~causal} | padding),
    }
    both, found = ((EncoderLayer, nn.TransformerEncoderLayer, (x,)), (DecoderLayer, nn.TransformerDecoderLayer, (x, memory))), {}
    for name, (mine, keywords) in cases.items():
        ours, theirs, inputs = both["decoder" in name]
        theirs = theirs(12, 4, 20, dropout=0.0, batch_first=True, norm_first=norm_first, dtype=dtype)
        found[name] = difference(ours(12, 4, 20, norm_first).to(dtype), theirs, inputs, mine, keywords)
    print(f"1. {dtype}, norm {'first' if norm_first else 'after'}: off by {max(found.values()):.0e} in {len(found)} cases")
    return found


# %% 2. The whole
class Stack(nn.Module):
    """Layers on top of one another, and a norm at the end: nn.TransformerEncoder or nn.TransformerDecoder."""

    def __init__(self, kind: type[EncoderLayer], depth: int, width: int, heads: int, hidden: int, norm_first: bool = False):
        super().__init__()
        layers = (kind(width, heads, hidden, norm_first) for _ in range(depth))
        self.layers, self.norm = nn.ModuleList(layers), LayerNorm(width)

    def forward(self, x: Tensor, *context: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, *context)
        return self.norm(x)


class Transformer(nn.Module):
    """Two stacks: nn.Transformer without dropout."""

    def __init__(self, depth: int, *sizes: int, norm_first: bool = False):
        super().__init__()
        self.encoder, self.decoder = (Stack(kind, depth, *sizes, norm_first) for kind in (EncoderLayer, DecoderLayer))

    def forward(self, source: Tensor, target: Tensor, read: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Read source (batch, sources, width) where `read` is True; write on from target (batch, targets, width) under `mask`."""
        return self.decoder(target, self.encoder(source, read), mask, read)


def compare_whole(dtype: torch.dtype, norm_first: bool, seed: int) -> float:
    """Return by how much a Transformer differs from nn.Transformer, with padding and causal mask."""
    torch.manual_seed(seed)
    inputs = torch.randn(3, 7, 12, dtype=dtype), torch.randn(3, 5, 12, dtype=dtype)
    real, causal = torch.arange(7) < torch.tensor([[7], [4], [1]]), torch.ones(5, 5).tril().bool()
    theirs = nn.Transformer(12, 4, 2, 2, 20, dropout=0.0, batch_first=True, norm_first=norm_first, dtype=dtype)
    keywords = {"src_key_padding_mask": ~real, "memory_key_padding_mask": ~real, "tgt_mask": ~causal}
    ours, mine = Transformer(2, 12, 4, 20, norm_first=norm_first).to(dtype), {"read": real[:, None, None], "mask": causal}
    return difference(ours, theirs, inputs, mine, keywords)


def count_parameters(depth: int, width: int, hidden: int) -> int:
    """Count a Transformer's parameters: attention, small networks, norms of `depth` layers on both sides, and two last norms."""
    attention, small, norm = 4 * width * (width + 1), 2 * width * hidden + hidden + width, 2 * width
    return depth * (3 * attention + 2 * small + 5 * norm) + 2 * norm


# %% 3. What may move
@torch.no_grad()
def change_inputs(seed: int) -> dict[str, float]:
    """Return how far the outputs of the first four of six words move when something else changes."""
    torch.manual_seed(seed)
    model, source, target = Transformer(2, 16, 4, 32), torch.randn(1, 6, 16), torch.randn(1, 6, 16)
    real, causal, late = torch.arange(6) < 4, torch.ones(6, 6).tril().bool(), (torch.arange(6)[:, None] > 3).float()
    cases = {
        "a later word": (source, target + late, real, causal),
        "a later word, no mask": (source, target + late, real, None),
        "padding": (source + late, target, real, causal),
        "padding, no mask": (source + late, target, None, causal),
        "what is read": (source + 1 - late, target, real, causal),
    }
    found = {name: model(*case) - model(source, target, *case[2:]) for name, case in cases.items()}
    found = {name: moved[:, :4].abs().max().item() for name, moved in found.items()}
    print("3. outputs move with " + ", ".join(f"{name} {moved:.2g}" for name, moved in found.items()))
    return found


# %% 4. Mistakes
@torch.no_grad()
def meet_error(seed: int) -> tuple[str, list[bool]]:
    """Say only that it is causal; return PyTorch's answer, and whether tril() as the mask gives NaN in training, and in use."""
    torch.manual_seed(seed)
    layer, x = nn.TransformerEncoderLayer(12, 4, 20, dropout=0.0, batch_first=True), torch.randn(2, 5, 12)
    try:
        layer(x, is_causal=True)
    except RuntimeError as error:
        message = str(error)
    print(f'4. "{message.partition(".")[0]}"\n   read: is_causal says which kind of mask comes; the mask must come, too')
    mask = torch.ones(5, 5).tril().bool()  # causal for F.scaled_dot_product_attention; for this layer True is what is ignored
    found = [layer.train(mode)(x, mask).isnan().any().item() for mode in (True, False)]
    print(f"   tril() for triu(1), no message: each word sees only later ones. NaN in training: {found[0]}, in use: {found[1]}")
    return message, found


def predict_noise(inverted: bool, steps: int, seed: int) -> float:
    """Have PyTorch's layer say the next one of random digits; return the last loss, which cannot be below ln 10 = 2.30."""
    torch.manual_seed(seed)
    embed, places, head = nn.Embedding(10, 32), nn.Parameter(torch.randn(16, 32)), nn.Linear(32, 10)
    layer, mask = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True), torch.ones(16, 16).triu(1).bool() ^ inverted
    optimizer = torch.optim.AdamW([*embed.parameters(), *head.parameters(), *layer.parameters(), places], lr=0.01)
    for _ in range(steps):
        digits = torch.randint(10, (64, 17))
        loss = F.cross_entropy(head(layer(embed(digits[:, :-1]) + places, mask)).transpose(1, 2), digits[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"   random digits, {'inverted' if inverted else 'right'} mask: after {steps} steps, loss {loss.item():.2f}")
    return loss.item()


# %% All of it, in order
def main(depth: int = 6, width: int = 512, seed: int = 0) -> dict[str, float]:
    """Build the Transformer from its parts.

    Args:
        depth: Layers on each side of the Transformer whose parameters are counted.
        width: Its width, a multiple of 8, the number of its heads; its small networks are four times as wide.
        seed: Seed of all random numbers.
    """
    check(min(depth, width) > 0 == width % 8, "needed are at least --depth 1, and --width 8, 16, 24, ...")
    results = {}
    for dtype, tolerance in ((torch.float32, 5e-6), (torch.float64, 1e-13)):
        layers = [off for norm_first in (False, True) for off in compare_layers(dtype, norm_first, seed).values()]
        whole, name = compare_whole(dtype, norm_first=False, seed=seed), str(dtype)[6:]
        print(f"2. {dtype}, the whole of it: off by {whole:.0e}")
        results |= {f"off_{name}": max(layers), f"whole_off_{name}": whole}
        check(max(*layers, whole) < tolerance, "the layers do not give PyTorch's numbers")
    theirs = nn.Transformer(width, 8, depth, depth, 4 * width, batch_first=True, device="meta")  # shapes without numbers
    results["parameters"] = sum(parameter.numel() for parameter in theirs.parameters())
    check(results["parameters"] == count_parameters(depth, width, 4 * width), "the formula does not count what is there")
    results |= {name.replace(",", "").replace(" ", "_"): moved for name, moved in change_inputs(seed).items()}
    check(results["a_later_word"] == results["padding"] == 0, "something moves that must not")
    meet_error(seed)
    results |= {f"{name}_mask_loss": predict_noise(name == "inverted", steps=150, seed=seed) for name in ("right", "inverted")}
    return results


if __name__ == "__main__":
    run(main)
