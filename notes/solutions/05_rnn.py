"""Solutions of stage 05, to read after your own attempt."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def read_with_resets(x: Tensor, starts: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> Tensor:
    # Multiplying keeps the rows that go on in the same tensor as those that begin anew.
    h, states = x.new_zeros(len(x), len(bias)), []
    for t in range(x.shape[1]):
        h = h * ~starts[:, t, None]  # (batch, hidden) * (batch, 1)
        h = (x[:, t] @ w_ih.T + h @ w_hh.T + bias).tanh()
        states.append(h)
    return torch.stack(states, dim=1)


def jamo(text: str) -> list[tuple[int, int, int]]:
    # 19 · 21 · 28 syllables in order: the number of a syllable, read in mixed radix, is its three pieces.
    found = []
    for syllable in text:
        rest, final = divmod(ord(syllable) - 0xAC00, 28)
        found.append((*divmod(rest, 21), final))
    return found


def state_jacobian(states: Tensor, w_hh: Tensor) -> Tensor:
    # By the chain rule; d tanh(a) = (1 - tanh²(a)) da, and tanh(a) is the state itself.
    product = torch.eye(len(w_hh), dtype=w_hh.dtype)
    for h in states[1:]:
        product = (1 - h.square())[:, None] * w_hh @ product  # (hidden, hidden)
    return product


def orthonormal_columns(matrix: Tensor) -> Tensor:
    # Of numbers from the bell curve this makes every orthogonal matrix equally likely: nn.init.orthogonal_ does the same by QR.
    columns = matrix[:, :0]  # none yet
    for v in matrix.unbind(dim=1):
        v = v - columns @ (columns.T @ v)
        columns = torch.cat([columns, (v / v.norm())[:, None]], dim=1)
    return columns


def lstm_backward(
    upstream_h: Tensor, upstream_c: Tensor, c_before: Tensor, c: Tensor, i: Tensor, f: Tensor, g: Tensor, o: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    # Two ways lead to c: through h, bent by tanh, and straight from the next step. The last line is what it is all about: from
    # c to c_before there is a product with f and nothing else.
    at_c = upstream_c + upstream_h * o * (1 - c.tanh() ** 2)
    at_i = at_c * g * i * (1 - i)
    at_f = at_c * c_before * f * (1 - f)
    at_g = at_c * i * (1 - g**2)
    at_o = upstream_h * c.tanh() * o * (1 - o)
    return torch.cat([at_i, at_f, at_g, at_o], dim=1), at_c * f


def open_forget_gates(model: nn.Module, value: float) -> int:
    # fill_ changes the parameter in place: the optimizer that has it already keeps training the same tensor.
    count = 0
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            hidden = module.hidden_size
            for name, parameter in module.named_parameters():
                if name.startswith("bias_ih"):
                    parameter.data[hidden : 2 * hidden].fill_(value)
                    count += hidden
                elif name.startswith("bias_hh"):
                    parameter.data[hidden : 2 * hidden].fill_(0.0)
    return count


def flag_sequences(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    # No rule that looks at the last steps can be better than a coin here, and no average either: all of it stands in step one.
    labels = torch.randint(2, (count,), generator=generator)
    x = torch.randn(count, length, 1, generator=generator)
    x[:, 0, 0] = 2.0 * labels - 1
    return x, labels


def masked_mean_and_max(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    # Multiplying by the mask would let NaN through. For the mean padding counts as 0, for the maximum as less than anything.
    real = (torch.arange(states.shape[1], device=states.device) < lengths[:, None]).unsqueeze(-1)  # (batch, steps, 1)
    mean = torch.where(real, states, 0.0).sum(dim=1) / lengths[:, None]
    return mean, torch.where(real, states, -torch.inf).amax(dim=1)


def spans(tags: list[str]) -> list[tuple[int, int, str]]:
    found, start, open_kind = [], 0, ""
    for place, tag in enumerate([*tags, "O"]):  # one more, so that the last span is closed
        kind = tag[2:]
        if open_kind and tag != f"I-{open_kind}":
            found.append((start, place, open_kind))
            open_kind = ""
        if kind and not open_kind:
            start, open_kind = place, kind
    return found


def beam_step(scores: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    # The beginnings of one example compete with one another, never with those of another example.
    best, places = (scores.unsqueeze(-1) + log_p).flatten(start_dim=1).topk(width, dim=1)
    return best, places // log_p.shape[-1], places % log_p.shape[-1]


def mase(forecasts: Tensor, targets: Tensor, past: Tensor, period: int) -> float:
    # The scale comes from the past: it is known before the forecasts are made, and the same for all forecasters.
    naive = (past[period:] - past[:-period]).abs().mean()
    return ((forecasts - targets).abs().mean() / naive).item()


def forecast_recursively(one_step: Callable[[Tensor], Tensor], window: Tensor, horizon: int) -> Tensor:
    lags = window.shape[1]
    for _ in range(horizon):  # cat makes a new tensor, so the window that was given stays as it is
        window = torch.cat([window, one_step(window[:, -lags:])[:, None]], dim=1)
    return window[:, lags:]


def standardize_as_you_go(x: Tensor) -> Tensor:
    # Not even the value itself counts among those it is measured by. The loop is quadratic, and easy to believe.
    out = torch.zeros_like(x)
    for t in range(2, len(x)):
        std = x[:t].std()
        if std > 0:
            out[t] = (x[t] - x[:t].mean()) / std
    return out


def leaky_columns(prepare: Callable[[Tensor], Tensor], x: Tensor, day: int) -> list[int]:
    # Row `day` is read when x[day - 1] is known and x[day] is not: it belongs to those that must not change.
    other = x.clone()
    other[day:] += 1000
    before, after = prepare(x)[: day + 1], prepare(other)[: day + 1]
    changed = (before != after) & ~(before.isnan() & after.isnan())
    return changed.any(dim=0).nonzero().flatten().tolist()


def causal_convolution(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    # One product of matrices for each of the filter's weights. Zeros for all that is missing stand in front, none behind.
    size, time = weight.shape[2], x.shape[2]
    padded = torch.cat([x.new_zeros(*x.shape[:2], (size - 1) * dilation), x], dim=2)
    return sum(weight[:, :, k] @ padded[:, :, k * dilation : k * dilation + time] for k in range(size))


def conformal_interval(forecasts: Tensor, targets: Tensor, new: Tensor, share: float) -> tuple[Tensor, Tensor]:
    # Without the + 1 the interval holds a little too little, and the fewer errors there are, the more it lacks.
    errors = (forecasts - targets).abs().sort().values
    k = math.ceil((len(errors) + 1) * share)
    half = errors[k - 1] if k <= len(errors) else math.inf
    return new - half, new + half
