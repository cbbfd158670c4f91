"""LSTM and GRU · LSTM과 GRU

A vanilla recurrent cell writes its whole state anew at every step. An LSTM keeps a second state that it only adds to, and gates,
numbers from 0 to 1 that it learns, say what is kept, what is added and what is shown; a GRU does it with one state and two gates.
기본 순환 셀은 스텝마다 상태를 통째로 새로 쓴다. LSTM은 더하기만 하는 상태를 하나 더 두고, 무엇을 남기고 더하고 내보낼지를
0에서 1 사이의 수인 게이트로 배워서 정한다. GRU는 상태 하나와 게이트 두 개로 같은 일을 한다.

You will
  1. write both cells, in PyTorch's order of the gates
  2. stack them in layers and both directions: outputs, states and gradients are equal to nn.LSTM's and nn.GRU's
  3. see why there are two biases, and where the reset gate sits
  4. measure what is left of a gradient after a hundred steps, and what a forget-gate bias of 1 does to it
  5. meet the error everyone meets, and the mistake that no message tells

Before     05_rnn/vanilla_rnn.py
Run        python -m study run lstm_gru            (about 3 s on one CPU core, after importing torch)
You see    both cells equal to PyTorch's within 1e-12, a new LSTM whose gradient vanishes nevertheless; gradients.png
Try next   --forget-bias 4: gates of 0.98. First guess how much of the gradient is left after 100 steps, then look
Theory     notes/en/05_rnn.md · notes/ko/05_rnn.md
Practise   python -m study check 05
"""

import torch
from torch import Tensor, nn

from utils.lesson import check, run
from utils.plotting import label, save_figure

State = tuple[Tensor, ...]  # LSTM: hidden and cell state (h, c); GRU: (h,). Each (batch, hidden), as a layer sees it


# %% 1. Two cells
def lstm_gates(x: Tensor, h: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
    """From the input (batch, inputs) and the last h (batch, hidden): input, forget, candidate, output, (batch, hidden) each."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights  # (4 hidden, inputs), (4 hidden, hidden), (4 hidden,), (4 hidden,)
    i, f, g, o = (x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh).chunk(4, dim=1)  # PyTorch's order; others differ
    return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()


def lstm_step(x: Tensor, state: State, weights: list[Tensor]) -> State:
    h, c = state
    i, f, g, o = lstm_gates(x, h, weights)
    c = f * c + i * g  # keep a share of the old, add a share of the new: from step to step no matrix and no tanh
    return o * c.tanh(), c


def gru_step(x: Tensor, state: State, weights: list[Tensor], reset_first: bool = False) -> State:
    """Take one step of a GRU as PyTorch and cuDNN do it, or, if reset_first, as Cho et al. (2014) wrote it."""
    (h,), (weight_ih, weight_hh, bias_ih, bias_hh) = state, weights  # 3 hidden instead of 4: reset, update, candidate
    x_r, x_z, x_n = (x @ weight_ih.T + bias_ih).chunk(3, dim=1)
    h_r, h_z, h_n = (h @ weight_hh.T + bias_hh).chunk(3, dim=1)  # one product of matrices for all three
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    if reset_first:  # a product of its own, which has to wait for r
        n = (x_n + (r * h) @ weight_hh.chunk(3)[2].T + bias_hh.chunk(3)[2]).tanh()
    else:
        n = (x_n + r * h_n).tanh()
    return ((1 - z) * n + z * h,)  # the new gets what the old does not keep: input and forget gate in one


CELLS = {"LSTM": lstm_step, "GRU": gru_step}


# %% 2. Layers, and both directions
def read(network: nn.LSTM | nn.GRU, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Do what `network` does, with its weights and our cells.

    Args:
        network: With batch_first and without dropout.
        x: (batch, steps, inputs).
        state: (h, c), or for a GRU (h,), each (layers · directions, batch, hidden): a layer's forward one, then its backward one.

    Returns:
        The top layer's h at every step (batch, steps, directions · hidden), and the last state, of the same shapes as `state`.
    """
    last = []
    for _ in range(network.num_layers):
        outputs = []
        for backward in (False, True)[: 1 + network.bidirectional]:
            now, weights = tuple(part[len(last)] for part in state), network.all_weights[len(last)]
            said = []
            for x_t in x.flip(1).unbind(1) if backward else x.unbind(1):  # (batch, inputs)
                now = CELLS[network.mode](x_t, now, weights)
                said.append(now[0])
            outputs.append(torch.stack(said[::-1] if backward else said, dim=1))  # (batch, steps, hidden), in the order of x
            last.append(now)
        x = torch.cat(outputs, dim=2)  # (batch, steps, directions · hidden): the next layer reads both directions
    return x, tuple(torch.stack(part) for part in zip(*last, strict=True))


def compare_ways(cell: str, layers: int, directions: int, dtype: torch.dtype, seed: int) -> float:
    """Read the same in both ways; return the largest difference of outputs, last states, and gradients of all that goes in."""
    torch.manual_seed(seed)
    network = getattr(nn, cell)(5, 7, layers, batch_first=True, bidirectional=directions == 2).to(dtype)
    x = torch.randn(3, 11, 5, dtype=dtype, requires_grad=True)
    shape, found = (layers * directions, 3, 7), []
    state = tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(2 if cell == "LSTM" else 1))
    for outputs, last in (read(network, x, state), network(x, state if cell == "LSTM" else state[0])):
        results = [outputs, *(last if isinstance(last, tuple) else (last,))]
        loss = sum((i + 1) * result.sin().mean() for i, result in enumerate(results))  # every number counts, each by its own
        found.append([*results, *torch.autograd.grad(loss, [x, *state, *network.parameters()])])
    return max((ours - theirs).abs().max().item() for ours, theirs in zip(*found, strict=True))


def count_parameters(cell: str, inputs: int, hidden: int) -> int:
    """Count a layer's numbers: in every block, a unit has a weight for each input and each hidden unit, and two biases."""
    return {"RNN": 1, "GRU": 3, "LSTM": 4}[cell] * hidden * (inputs + hidden + 2)


# %% 3. Two biases, and the place of the reset gate
def move_biases(cell: str, seed: int) -> tuple[list[float], float]:
    """Move 1 from one bias to the other, block by block; return how far h changes each time, and what resetting first changes."""
    torch.manual_seed(seed)
    weights = [weight.detach().double() for weight in getattr(nn, cell)(5, 7).all_weights[0]]
    x, state = torch.randn(3, 5).double(), (torch.randn(3, 7).double(),) * (2 if cell == "LSTM" else 1)
    before, moved = CELLS[cell](x, state, weights)[0], []
    for block in torch.eye(len(weights[2]) // 7).double():
        shift = block.repeat_interleave(7)  # (blocks · hidden,): 1 in this block, else 0
        after = CELLS[cell](x, state, [*weights[:2], weights[2] - shift, weights[3] + shift])[0]
        moved.append((after - before).abs().max().item())
    reset_first = (gru_step(x, state, weights, reset_first=True)[0] - before).abs().max().item() if cell == "GRU" else 0.0
    return moved, reset_first


# %% 4. What is left of a gradient
def carry(forget_bias: float, steps: int, seed: int) -> dict[str, Tensor]:
    """Let new networks of 32 units read noise, and ask how much the last state depends on that of t steps before.

    Returns:
        For t = 0 ... steps, mean absolute gradients (steps + 1,) of the sum over the last state: "RNN", of h by h; "LSTM", of c
        by c; "gates", of c by c if the gates are held fixed; and "product", the mean product of the forget gates in between.
    """
    torch.manual_seed(seed)
    x = torch.randn(16, steps, 8, dtype=torch.float64)
    lstm, rnn = nn.LSTM(8, 32).double().requires_grad_(False), nn.RNN(8, 32).double().requires_grad_(False)
    weights, (weight_ih, weight_hh, bias_ih, bias_hh) = lstm.all_weights[0], rnn.all_weights[0]
    weights[2][32:64] += forget_bias  # PyTorch has no option for it; in one of the two biases, because they are added
    start = torch.zeros(16, 32, dtype=torch.float64, requires_grad=True)
    ways = {"RNN": [start], "LSTM": [start], "gates": [start]}
    h, fixed, forgets = start.detach(), start.detach(), []
    for x_t in x.unbind(1):
        ways["RNN"].append((x_t @ weight_ih.T + bias_ih + ways["RNN"][-1] @ weight_hh.T + bias_hh).tanh())
        i, f, g, o = (gate.detach() for gate in lstm_gates(x_t, fixed, weights))
        ways["gates"].append(f * ways["gates"][-1] + i * g)
        fixed = (o * ways["gates"][-1].tanh()).detach()
        forgets.append(f)
        h, c = lstm_step(x_t, (h, ways["LSTM"][-1]), weights)
        ways["LSTM"].append(c)
    left = {way: torch.autograd.grad(states[-1].sum(), states[::-1]) for way, states in ways.items()}
    left["product"] = torch.stack([torch.ones_like(f), *forgets[::-1]]).cumprod(dim=0).unbind(0)
    return {way: torch.stack([gradient.abs().mean() for gradient in gradients]) for way, gradients in left.items()}


def draw_carried(carried: dict[float, dict[str, Tensor]]) -> None:
    """Draw what is left of the gradient, by forget-gate bias, against the distance."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axis.semilogy(next(iter(carried.values()))["RNN"], color="grey", label=label("vanilla RNN", "기본 RNN"))
    for bias, left in carried.items():
        (line,) = axis.semilogy(
            left["LSTM"], label=label(f"LSTM, forget-gate bias + {bias:g}", f"LSTM, 망각 게이트 편향 + {bias:g}")
        )
        axis.semilogy(left["product"], ":", color=line.get_color())
    axis.set(xlabel=label("steps back", "거슬러 간 스텝"), ylabel=label("gradient of the last state", "마지막 상태의 기울기"))
    axis.set(ylim=(1e-13, 3), title=label("dotted: the product of the forget gates", "점선: 망각 게이트의 곱"))
    axis.legend()
    save_figure(figure, __file__, "gradients")


# %% 5. An error, and a mistake without one
def forget_the_cell_state() -> list[str]:
    """Start an LSTM of one layer, and one of two, from h alone, as one starts a GRU; return PyTorch's answers."""
    messages = []
    for layers in (1, 2):
        try:
            nn.LSTM(5, 7, layers, batch_first=True)(torch.zeros(3, 11, 5), torch.zeros(layers, 3, 7))
        except (IndexError, RuntimeError) as error:
            messages.append(str(error))
    print(f'5. "{messages[0]}" (one layer),\n   "{messages[1]}" (two)')
    print("   read: an LSTM's state is (h, c). It was given one tensor, and took it apart: h = state[0], c = state[1]")
    return messages


def count_changed(batch_first: bool, seed: int) -> int:
    """Hand an LSTM four strings, (batch, steps, inputs), and change the first; return how many of the four answers change."""
    torch.manual_seed(seed)
    recurrent, x = nn.LSTM(5, 7, batch_first=batch_first), torch.randn(4, 11, 5)
    other = torch.cat([torch.zeros(1, 11, 5), x[1:]])
    return (recurrent(x)[0] != recurrent(other)[0]).any(dim=2).any(dim=1).sum().item()


# %% All of it, in order
def main(distance: int = 100, forget_bias: float = 1.0, seed: int = 0) -> dict[str, float]:
    """Build LSTM and GRU, prove them right, and see what their gates do to a gradient.

    Args:
        distance: Steps that section 4 looks back.
        forget_bias: Added there to the bias of the forget gate of a new LSTM, beside 0.
        seed: Seed of weights and inputs.
    """
    check(2 <= distance <= 1000, f"--distance {distance}: needed are 2 to 1000 steps")
    results = {}
    print("2. by hand against PyTorch's, 1 to 3 layers, 1 and 2 directions: largest difference")
    for cell in CELLS:
        shapes = [(layers, directions) for layers in (1, 2, 3) for directions in (1, 2)]
        single, double = (max(compare_ways(cell, *s, dtype, seed) for s in shapes) for dtype in (torch.float32, torch.float64))
        check(single < 1e-6 and double < 1e-12, f"the {cell} by hand differs from PyTorch's by {single:.0e}, {double:.0e}")
        count = count_parameters(cell, 128, 128)
        times = count / count_parameters("RNN", 128, 128)
        print(f"   {cell:4}  float32 {single:.0e}, float64 {double:.0e}; 128 → 128: {count:,} parameters, {times:g} x vanilla")
        results |= {f"{cell}_difference": double, f"{cell}_parameters": count}
    for cell, names in (("LSTM", "ifgo"), ("GRU", "rzn")):
        moved, reset_first = move_biases(cell, seed)
        told = ", ".join(f"{name} {change:.0e}" for name, change in zip(names, moved, strict=True))
        print(f"3. {cell}: 1 moved from b_ih to b_hh changes h by {told}")
        results[f"{cell}_biases_moved"] = max(moved)
    print(f"   GRU: reset before the product instead of after it changes h by {reset_first:.2f}")
    results["reset_first"] = reset_first

    carried = {bias: carry(bias, distance, seed) for bias in sorted({0.0, forget_bias})}
    print(f"4. gradient of the last state by that of {distance} steps before")
    print(f"   vanilla RNN {carried[0.0]['RNN'][-1]:.0e}")
    for bias, left in carried.items():
        told = f"{left['LSTM'][-1]:.0e}, the product of the forget gates {left['product'][-1]:.0e}"
        print(f"   LSTM, forget-gate bias + {bias:g}: {told}")
        apart = (left["gates"] / left["product"] - 1).abs().max().item()
        check(
            apart < 1e-9, f"with the gates held fixed, the gradient is not the product of the forget gates, but {apart:.0e} off"
        )
    draw_carried(carried)
    results |= {"RNN_left": carried[0.0]["RNN"][-1].item(), "LSTM_left_without_bias": carried[0.0]["LSTM"][-1].item()}
    results["LSTM_left"] = carried[forget_bias]["LSTM"][-1].item()

    forget_the_cell_state()
    changed = [count_changed(batch_first, seed) for batch_first in (True, False)]
    told = f"{changed[0]} answer changes with batch_first=True; without it {changed[1]}, and no message"
    print(f"   one of 4 strings is changed: {told}")
    return results | {"changed_batch_first": changed[0], "changed_without": changed[1]}


if __name__ == "__main__":
    run(main)
