"""Solutions of stage 06, to read after your own attempt."""

import math

import torch
from torch import Tensor, nn


def attention_mask(lengths: Tensor, steps: int, window: int) -> Tensor:
    # How far back each source lies from each target decides on order and window; the lengths decide on padding. In a row of
    # padding the window may have moved past the last word: there we let the word see itself, so that no softmax is of nothing.
    place = torch.arange(steps, device=lengths.device)
    back = place[:, None] - place  # (targets, sources)
    real = place < lengths[:, None]  # (batch, sources)
    mask = (back >= 0) & (back < window) & real[:, None]  # (batch, targets, sources)
    return (mask | (back == 0) & ~real[:, :, None])[:, None]


class AdditiveMemory(nn.Module):
    # The states' half of the score is the same for every query. Projecting it once saves a decoder of T steps T - 1 of the
    # larger one of its two matrix products.
    def __init__(self, query_width: int, state_width: int, width: int):
        super().__init__()
        self.query_layer = nn.Linear(query_width, width, bias=False)
        self.key_layer = nn.Linear(state_width, width)
        self.v = nn.Linear(width, 1, bias=False)

    def prepare(self, states: Tensor, real: Tensor) -> None:
        self.states, self.real = states, real
        self.keys = self.key_layer(states)  # (batch, sources, width)

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.v(torch.tanh(self.query_layer(query)[:, None] + self.keys)).squeeze(2)  # (batch, sources)
        weights = scores.masked_fill(~self.real, -math.inf).softmax(dim=1)
        return (weights[:, None] @ self.states).squeeze(1), weights


def mean_distance(weights: Tensor, real: Tensor) -> float:
    # A pair counts where its second target is real: padding is at the end, so the first one is then real, too.
    jumps = weights.argmax(dim=2).diff(dim=1).abs()  # (batch, targets - 1)
    return jumps[real[:, 1:]].double().mean().item()


def with_heads(x: Tensor, heads: int) -> Tensor:
    # Cut the last axis, then move the heads in front. A view to (batch, heads, steps, ...) at once has the right shape, too, and
    # cuts the steps into pieces instead: head 0 would get the first steps.
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def merge_partial(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    # Each part's share in the whole is the softmax over the parts of their logarithms. The largest one is subtracted first, so
    # that e to the power of a thousand is never computed; where all are -inf there is nothing to subtract.
    sums = torch.stack([part[1] for part in parts])  # (parts, ..., targets, 1)
    top = sums.amax(dim=0)
    shares = (sums - top.masked_fill(top == -math.inf, 0.0)).exp()
    total = shares.sum(dim=0)
    outputs = torch.stack([part[0] for part in parts]).masked_fill(sums == -math.inf, 0.0)  # whatever stands there, perhaps NaN
    return (shares * outputs).sum(dim=0) / (total + (total == 0))


def count_multiplications(model: nn.Module, x: Tensor) -> int:
    counts = []

    def count(module: nn.Module, _, out: Tensor) -> None:
        counts.append(out.numel() * module.weight[0].numel())

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def load_what_fits(model: nn.Module, saved: dict[str, Tensor]) -> list[str]:
    own = model.state_dict()
    found = {name.removeprefix("module."): tensor for name, tensor in saved.items()}
    fitting = {name: tensor for name, tensor in found.items() if name in own and tensor.shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def stochastic_depth(branch: Tensor, rate: float, training: bool, generator: torch.Generator) -> Tensor:
    if not training or rate == 0:
        return branch
    if rate == 1:
        return torch.zeros_like(branch)
    stays = torch.rand(len(branch), *[1] * (branch.dim() - 1), generator=generator) >= rate
    return branch * stays / (1 - rate)
