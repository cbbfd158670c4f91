"""Activation functions · 활성화 함수

Between two layers stands a bend, or they would be one. On the way down every gradient is multiplied by its slope: where
the slope is small gradients vanish, where it is zero units die.
층과 층 사이에는 꺾임이 있어야 한다. 없으면 두 층이 한 층과 같다. 그런데 내려오는 기울기에는 그 꺾임의 미분이 곱해진다. 미분이
작으면 기울기가 사라지고, 0이면 유닛이 죽는다.

You will
  1. write eight activation functions and their derivatives, equal to PyTorch's
  2. write softmax and its gradient, which needs no matrix
  3. meet the error everyone meets when writing one of their own: a NaN from a value that was right
  4. follow gradients down through thirty layers, and predict how fast they vanish
  5. train the same network with each of them, against one without a bend, and see ReLUs die of a large learning rate

Before     01_basics/autograd.py, 01_basics/basic_nn.py
Run        python -m study run activation_functions (about 17 s on one CPU core, after importing torch)
You see    30 sigmoids leave 1e-12 of a gradient; a ring read to 0.97 by ReLU, to 0.53 without a bend; functions.png, ring.png
Try next   --width 4: first guess which function copes best with twelve hidden units, and whether ReLU still does; then look
Theory     notes/en/02_neural_networks.md · notes/ko/02_neural_networks.md
Practise   python -m study check 02
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.lesson import check, run
from utils.plotting import label, save_figure

RATES = (0.003, 0.01, 0.1)  # Adam's learning rates, of which every activation function gets its own; the last is too large


# %% 1. Eight functions and their derivatives
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ): squeezes everything into 0 to 1."""
    return 1 / (1 + torch.exp(-x))


def normal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Φ(x), the chance that a standard normal number is below x, and its derivative, the density."""
    return 0.5 * (1 + torch.erf(x / math.sqrt(2))), torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def gelu_tanh(x: Tensor) -> tuple[Tensor, Tensor]:
    """GELU with Φ(x) replaced by ½ (1 + tanh u), which is sigmoid(2 u); and its derivative."""
    s = sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return x * s, s + x * s * (1 - s) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x.square())


# By name: the function by hand, its derivative by hand, PyTorch's own module.
ACTIVATIONS = {
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x)), nn.Sigmoid()),
    "tanh": (lambda x: 2 * sigmoid(2 * x) - 1, lambda x: 4 * sigmoid(2 * x) * (1 - sigmoid(2 * x)), nn.Tanh()),
    "ReLU": (lambda x: x.clamp(min=0), lambda x: torch.where(x > 0, 1.0, 0.0), nn.ReLU()),
    "leaky ReLU": (lambda x: torch.where(x > 0, x, 0.01 * x), lambda x: torch.where(x > 0, 1.0, 0.01), nn.LeakyReLU(0.01)),
    "ELU": (lambda x: torch.where(x > 0, x, torch.exp(x) - 1), lambda x: torch.exp(x.clamp(max=0)), nn.ELU()),
    "GELU": (lambda x: x * normal(x)[0], lambda x: normal(x)[0] + x * normal(x)[1], nn.GELU()),
    "GELU, tanh": (lambda x: gelu_tanh(x)[0], lambda x: gelu_tanh(x)[1], nn.GELU(approximate="tanh")),
    "SiLU": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))), nn.SiLU()),
}


def compare_with_torch() -> tuple[float, float]:
    """Return the largest difference from PyTorch's of any value and of any derivative between -100 and 100, in float64."""
    x = torch.linspace(-100, 100, 4001, dtype=torch.float64, requires_grad=True)
    value, slope = 0.0, 0.0
    for function, derivative, torchs in ACTIVATIONS.values():
        theirs = torchs(x)
        (gradient,) = torch.autograd.grad(theirs.sum(), x)  # of the sum: every number's own derivative
        value = max(value, (function(x) - theirs).abs().max().item())
        slope = max(slope, (derivative(x) - gradient).abs().max().item())
    print(f"1. {len(ACTIVATIONS)} functions differ from PyTorch's by {value:.0e} at most, their derivatives by {slope:.0e}")
    return value, slope


# %% 2. Softmax: every output depends on every input
def softmax(logits: Tensor) -> Tensor:
    """Turn logits (..., classes) into probabilities; subtracting the largest changes nothing and keeps exp() finite."""
    exponentials = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def softmax_backward(p: Tensor, upstream: Tensor) -> Tensor:
    """Turn d loss / d p into d loss / d logits, both (..., classes)."""
    # d p_i / d z_j = p_i ([i = j] - p_j), so Σ_i upstream_i p_i ([i = j] - p_j) = p_j (upstream_j - Σ_i upstream_i p_i).
    return p * (upstream - (upstream * p).sum(dim=-1, keepdim=True))


def compare_softmax(seed: int) -> float:
    """Return the largest difference of softmax and its gradient from PyTorch's, small logits and large ones, in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits, upstream = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    logits = (logits * torch.tensor([[1.0], [1], [10], [10], [1000], [1000]])).requires_grad_()
    theirs = logits.softmax(dim=-1)
    theirs.backward(upstream)
    p = softmax(logits.detach())
    difference = max((p - theirs).abs().max().item(), (softmax_backward(p, upstream) - logits.grad).abs().max().item())
    print(f"2. softmax and its gradient differ from PyTorch's by {difference:.0e} at most")
    return difference


# %% 3. The error everyone meets
def meet_nan() -> tuple[float, float]:
    """Differentiate our ELU at x = 1000, in float32, which ends near e⁸⁸; return its value and its derivative by autograd."""
    x = torch.tensor(1000.0, requires_grad=True)
    elu = ACTIVATIONS["ELU"][0](x)
    elu.backward()
    print(f"3. ELU(1000) by hand is {elu.item():g}, and its derivative by autograd {x.grad.item():g}")
    print("   read: where() computes both branches; 0 times the slope of the other one, e¹⁰⁰⁰ = ∞, is no number. Clamp x first")
    return elu.item(), x.grad.item()


# %% 4. Through depth
def predicted_factor(name: str) -> tuple[float, float]:
    """Return the scale of weights that keeps numbers their size on the way up, and what a layer then makes of a gradient."""
    z = torch.linspace(-8, 8, 4000, dtype=torch.float64)  # what enters a unit, a sum of many numbers, is nearly normal
    f, slope = (torch.trapezoid(g(z).square() * normal(z)[1], z).sqrt().item() for g in ACTIVATIONS[name][:2])
    return 1 / f, slope / f  # for ReLU √2 (He et al., 2015) and 1


def gradient_lengths(name: str, width: int, depth: int, seed: int) -> Tensor:
    """Send a random gradient down fresh layers; return its length below each over that at the top (depth + 1,), as log10."""
    generator = torch.Generator().manual_seed(seed)
    scale, _ = predicted_factor(name)
    passed = [torch.randn(100, width, generator=generator, requires_grad=True)]
    for _ in range(depth):
        weight = scale / width**0.5 * torch.randn(width, width, generator=generator)
        passed.append(ACTIVATIONS[name][2](passed[-1]) @ weight.T)  # (100, width)
    gradients = torch.autograd.grad(passed[-1], passed, torch.randn(100, width, generator=generator))
    lengths = torch.stack([gradient.norm() for gradient in gradients])
    return (lengths / lengths[-1]).log10()


def vanish(width: int, depth: int, networks: int, seed: int) -> dict[str, Tensor]:
    """Follow gradients down fresh networks of every function; return what `gradient_lengths` says, averaged over networks."""
    found = {}
    print(f"4. what one layer makes of a gradient's length, and what {depth} layers leave of it")
    for name in ACTIVATIONS:
        logs = torch.stack([gradient_lengths(name, width, depth, seed + i) for i in range(networks)])
        found[name] = logs.mean(dim=0)  # (depth + 1,)
        told = f"predicted {predicted_factor(name)[1]:.3f}, measured {10 ** (found[name][0] / depth):.3f}"
        print(f"   {name:10} {told}; left 10^({found[name][0]:.1f} ± {logs[:, 0].std(correction=0):.1f})")
    return found


# %% 5. The same network with each of them
def ring(points: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw points (points, 2) of a square; their labels (points,) say which lie on a ring that covers half of it."""
    x = 2 * torch.rand(points, 2, generator=torch.Generator().manual_seed(seed)) - 1
    return x, ((x.norm(dim=1) - 0.65).abs() < 0.25).long()


def train(bend: nn.Module, width: int, x: Tensor, labels: Tensor, steps: int, lr: float, seed: int) -> nn.Sequential:
    """Train three hidden layers with `bend` after each, from nn.Linear's own start, by Adam on 64 random points a step."""
    torch.manual_seed(seed)  # the same weights for every function
    hidden = [nn.Linear(2, width), bend, nn.Linear(width, width), bend, nn.Linear(width, width), bend]
    network = nn.Sequential(*hidden, nn.Linear(width, 2))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=generator)
        loss = F.cross_entropy(network(x[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    return (network(x).argmax(dim=1) == labels).float().mean().item()


@torch.no_grad()
def dead_shares(network: nn.Sequential, x: Tensor) -> list[float]:
    """Return each hidden layer's share of units that get 0 or less from all examples x (n, 2): ReLU passes them no gradient."""
    inputs = [network[:i](x) for i in range(1, len(network) - 1, 2)]  # what enters each activation function, (n, width)
    return [(entering <= 0).all(dim=0).float().mean().item() for entering in inputs]


def compare_functions(width: int, steps: int, networks: int, seed: int) -> dict[str, tuple[Tensor, Tensor, nn.Sequential]]:
    """Train with every function and with none; by name, test accuracies (networks,), dead shares (rates, layers), a network."""
    data, validation, test = (ring(600, seed=3 * seed + part) for part in range(3))
    found = {}
    print(f"5. right on test points; units of the last hidden layer below 0 for every point, at lr {', '.join(map(str, RATES))}")
    for name, bend in {"none": nn.Identity(), **{name: module for name, (_, _, module) in ACTIVATIONS.items()}}.items():
        trained = {lr: [train(bend, width, *data, steps, lr, seed + i) for i in range(networks)] for lr in RATES}
        scores = {lr: sum(accuracy(network, *validation) for network in trained[lr]) for lr in RATES}
        best = max(scores, key=scores.get)
        right = torch.tensor([accuracy(network, *test) for network in trained[best]])
        dead = torch.tensor([[dead_shares(network, data[0]) for network in trained[lr]] for lr in RATES]).mean(dim=1)
        found[name] = right, dead, trained[best][0]
        told = "  ".join(f"{share:4.0%}" for share in dead[:, -1])
        print(f"   {name:10} {right.mean():.3f} ± {right.std(correction=0):.3f}  (lr {best:<5})  {told}")
    return found


def draw_figures(lengths: dict[str, Tensor], found: dict[str, tuple[Tensor, Tensor, nn.Sequential]]) -> None:
    """Draw the functions, their derivatives and gradients through depth; then the plane as each network sees it."""
    import matplotlib.pyplot as plt

    figure, (curves, slopes, depths) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    x = torch.linspace(-4, 4, 400)
    for (name, (function, derivative, _)), style in zip(ACTIVATIONS.items(), ["-", "--"] * 4, strict=False):
        curves.plot(x.numpy(), function(x).numpy(), style, label=name)
        slopes.plot(x.numpy(), derivative(x).numpy(), style)
        depths.plot(lengths[name].numpy(), style)
    curves.set(ylim=(-1.5, 3), title=label("function", "함수"))
    slopes.set(title=label("derivative", "미분"))
    depths.set(xlabel="layer", title=label("length of the gradient, log10", "기울기 길이의 상용로그"))
    curves.legend()
    save_figure(figure, __file__, "functions")
    side = torch.linspace(-1, 1, 201)
    figure, axes = plt.subplots(1, len(found), figsize=(13, 1.8), layout="constrained", subplot_kw={"xticks": [], "yticks": []})
    for axis, (name, (right, _, network)) in zip(axes, found.items(), strict=True):
        inside = network(torch.cartesian_prod(side, side)).softmax(dim=1)[:, 1].view(201, 201)
        axis.imshow(inside.detach().numpy(), cmap="coolwarm", vmin=0, vmax=1)
        axis.set_title(f"{name} {right.mean():.2f}", fontsize=9)
    save_figure(figure, __file__, "ring")


# %% All of it, in order
def main(width: int = 32, depth: int = 30, steps: int = 400, networks: int = 3, seed: int = 0) -> dict[str, float]:
    """Write activation functions and their derivatives, and measure what each does to gradients and to learning.

    Args:
        width: Units in each of the three hidden layers of section 5.
        depth: Layers that a gradient has to pass in section 4.
        steps: Steps that each network is trained.
        networks: Networks, each with a seed of its own, behind every mean.
        seed: Seed of the points, the initial weights and the batches.
    """
    check(min(width, depth, steps, networks) > 0, "--width, --depth, --steps and --networks must be at least 1")
    difference = max(*compare_with_torch(), compare_softmax(seed))
    check(difference < 1e-9, f"by hand and by PyTorch, values or derivatives differ by {difference:.1e}")
    meet_nan()
    lengths = vanish(100, depth, networks, seed)
    found = compare_functions(width, steps, networks, seed)
    draw_figures(lengths, found)
    baseline = max(0.5, found["none"][0].mean().item())  # a coin gets half of them
    ours = found["ReLU"][0].mean().item()
    check(ours > baseline + 0.15, f"with ReLU {ours:.2f} are right, without a bend {baseline:.2f}: more --steps or --width?")
    results = {"accuracy": ours, "baseline_accuracy": baseline, "difference": difference}
    return results | {"dead": found["ReLU"][1][-1, -1].item(), "sigmoid_left": 10 ** lengths["sigmoid"][0].item()}


if __name__ == "__main__":
    run(main)
