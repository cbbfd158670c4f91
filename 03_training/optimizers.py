"""Optimizers · 옵티마이저

An optimizer decides what to do with a gradient: follow it, remember earlier ones, scale every coordinate by how large its
gradients were, or straighten a whole matrix of them. Each rule is a few lines, and none is the best one everywhere.
옵티마이저는 기울기를 어떻게 쓸지 정한다. 그대로 따르거나, 지난 기울기를 기억하거나, 좌표마다 기울기의 크기로 나누거나,
행렬을 통째로 고르게 펴기도 한다. 규칙은 저마다 몇 줄이면 되고, 어디서나 가장 좋은 것은 없다.

You will
  1. write SGD, momentum, Nesterov, RMSprop, Adam and AdamW, and Muon, which straightens the updates of weight matrices
  2. see them equal to torch.optim step for step, with weight decay and without
  3. see what Muon does to a matrix: all its singular values become about 1
  4. race along a ravine, along the same ravine turned by 45°, and through Rosenbrock's valley
  5. meet the error everyone meets with a parameter of one's own

Before     02_neural_networks/linear_regression.py, 02_neural_networks/mlp.py
Run        python -m study run optimizers          (about 3 s on one CPU core, after importing torch)
You see    seven rules equal to PyTorch's; RMSprop at 2e-61 in the ravine, and at 0.002 in the turned one; paths.png
Try next   --steps 1000. First guess which two get to the bottom of Rosenbrock's valley, and which two are still far; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.lesson import check, run
from utils.plotting import label, save_figure

# %% 1. The rules
# Each takes a parameter, its gradient, and what the rule remembers about this parameter, a dict that is empty at first; it
# returns the parameter after the step. `decay` is the weight decay: how strongly the parameter is pulled towards zero.


def sgd(w: Tensor, gradient: Tensor, memory: dict, lr: float, decay: float = 0.0) -> Tensor:
    """One step downhill. Weight decay is the gradient of decay/2 · w², added."""
    return w - lr * (gradient + decay * w)


def momentum(w: Tensor, gradient: Tensor, memory: dict, lr: float, decay: float = 0.0, beta: float = 0.9) -> Tensor:
    """A ball that rolls: the velocity keeps nine tenths of itself at every step, and gains the gradient."""
    memory["velocity"] = beta * memory.get("velocity", 0) + gradient + decay * w
    return w - lr * memory["velocity"]


def nesterov(w: Tensor, gradient: Tensor, memory: dict, lr: float, decay: float = 0.0, beta: float = 0.9) -> Tensor:
    """Momentum that steps as if it had already rolled on: it brakes earlier before the opposite wall."""
    gradient = gradient + decay * w
    memory["velocity"] = beta * memory.get("velocity", 0) + gradient
    return w - lr * (gradient + beta * memory["velocity"])


def rmsprop(w: Tensor, gradient: Tensor, memory: dict, lr: float, decay: float = 0.0, alpha: float = 0.99) -> Tensor:
    """Divides every coordinate by the size that its gradients usually have: all move at about the same pace."""
    gradient = gradient + decay * w
    memory["square"] = alpha * memory.get("square", 0) + (1 - alpha) * gradient**2
    return w - lr * gradient / (memory["square"].sqrt() + 1e-8)


def adam(w: Tensor, gradient: Tensor, memory: dict, lr: float, decay: float = 0.0, betas: tuple = (0.9, 0.999)) -> Tensor:
    """Momentum and RMSprop together (Kingma and Ba, 2015). Both averages begin at 0; dividing by 1 - βᵗ makes up for that."""
    gradient = gradient + decay * w
    t = memory["steps"] = memory.get("steps", 0) + 1
    memory["mean"] = betas[0] * memory.get("mean", 0) + (1 - betas[0]) * gradient
    memory["square"] = betas[1] * memory.get("square", 0) + (1 - betas[1]) * gradient**2
    mean, square = memory["mean"] / (1 - betas[0] ** t), memory["square"] / (1 - betas[1] ** t)
    return w - lr * mean / (square.sqrt() + 1e-8)


def adamw(w: Tensor, gradient: Tensor, memory: dict, lr: float, decay: float = 0.01) -> Tensor:
    """Adam whose weight decay shrinks the weight itself, undivided by any gradient's size (Loshchilov and Hutter, 2019)."""
    return adam((1 - lr * decay) * w, gradient, memory, lr)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Bring all singular values near 1 and leave the directions as they are, by matrix products alone (Newton-Schulz).

    Every step maps each singular value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵, which takes 0.01 to 1 into about 0.7 to 1.2 in
    five steps. bfloat16 is exact enough for that, and fast on GPUs.
    """
    x = matrix.bfloat16()
    x = x.T if matrix.shape[0] > matrix.shape[1] else x  # x xᵀ is then the smaller of the two products
    x = x / x.norm().clamp(min=1e-7)  # now no singular value is above 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)  # addmm: β a + α b @ c
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)


def muon(w: Tensor, gradient: Tensor, memory: dict, lr: float, decay: float = 0.0, beta: float = 0.95) -> Tensor:
    """Nesterov's momentum, orthogonalized (Jordan et al., 2024): for weight matrices; whatever else there is goes by AdamW."""
    if w.dim() != 2:
        return adamw(w, gradient, memory, lr, decay)
    mean = memory.get("mean", torch.zeros_like(w))
    memory["mean"] = mean.lerp(gradient, 1 - beta)  # β · mean + (1 - β) · gradient
    update = orthogonalize(gradient.lerp(memory["mean"], beta))
    return (1 - lr * decay) * w - lr * math.sqrt(max(1, w.shape[0] / w.shape[1])) * update


RULES = {"SGD": sgd, "momentum": momentum, "Nesterov": nesterov, "RMSprop": rmsprop, "Adam": adam, "AdamW": adamw, "Muon": muon}


# %% 2. Against torch.optim
def compare_with_torch(steps: int, decay: float, seed: int) -> dict[str, float]:
    """Train a small network by each rule and by torch.optim; return the largest difference of any weight after any step."""
    theirs = {
        "SGD": (torch.optim.SGD, {"lr": 0.1}),
        "momentum": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
        "Nesterov": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
        "RMSprop": (torch.optim.RMSprop, {"lr": 0.01}),
        "Adam": (torch.optim.Adam, {"lr": 0.01}),
        "AdamW": (torch.optim.AdamW, {"lr": 0.01}),
    }
    if hasattr(torch.optim, "Muon"):  # it came with PyTorch 2.9
        theirs["Muon"] = torch.optim.Muon, {"lr": 0.02}
    generator, shapes = torch.Generator().manual_seed(seed), ((64, 6), (64, 3), (6, 10), (10, 3))
    x, y, *start = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)

    def gradients(weights: list[Tensor]) -> tuple[Tensor, ...]:  # of a network without biases: Muon takes matrices only
        weights = [w.detach().requires_grad_() for w in weights]
        return torch.autograd.grad(F.mse_loss(torch.tanh(x @ weights[0]) @ weights[1], y), weights)

    differences = {}
    for name, (optimizer_class, settings) in theirs.items():
        ours, memories = start, [{}, {}]
        parameters = [w.clone().requires_grad_() for w in start]
        optimizer = optimizer_class(parameters, weight_decay=decay, **settings)
        differences[name] = 0.0
        for _ in range(steps):
            steps_of = zip(ours, gradients(ours), memories, strict=True)
            ours = [RULES[name](w, gradient, memory, settings["lr"], decay) for w, gradient, memory in steps_of]
            for parameter, gradient in zip(parameters, gradients(parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()
            worst = max((a - b).abs().max().item() for a, b in zip(ours, parameters, strict=True))
            differences[name] = max(differences[name], worst)
    return differences


# %% 3. What Muon does to a matrix
def straighten(seed: int) -> tuple[Tensor, Tensor, float]:
    """Orthogonalize a matrix of very unequal singular values; return these before and after, and the cosine with U Vᵀ."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(20, 50, generator=generator) * torch.logspace(0, -2, 20).unsqueeze(1)
    u, before, vt = torch.linalg.svd(matrix, full_matrices=False)  # matrix = U S Vᵀ: with every value in S at 1, it is U Vᵀ
    result = orthogonalize(matrix)
    after = torch.linalg.svdvals(result)
    nearness = F.cosine_similarity(result.flatten(), (u @ vt).flatten(), dim=0).item()
    ranges = f"{before[-1]:.2f} to {before[0]:.1f} become {after[-1]:.2f} to {after[0]:.2f}"
    print(f"3. Muon: singular values {ranges}; the cosine with U Vᵀ is {nearness:.3f}")
    return before, after, nearness


# %% 4. Three landscapes
def ravine(p: Tensor) -> Tensor:
    """Fifty times as steep across as along; lowest at (0, 0). Points (n, 2) → heights (n,)."""
    return (p[:, 0] ** 2 + 50 * p[:, 1] ** 2) / 2


def rosenbrock(p: Tensor) -> Tensor:
    """A valley that bends (Rosenbrock, 1960); lowest at (1, 1). Points (n, 2) → heights (n,)."""
    return (1 - p[:, 0]) ** 2 + 100 * (p[:, 1] - p[:, 0] ** 2) ** 2


TURN = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / 2**0.5  # p @ TURN turns p by -45°
START = torch.tensor([[-2.0, 0.6]], dtype=torch.float64)
LANDSCAPES = {  # the function, where to start, where it is lowest
    "ravine": (ravine, START, (0, 0)),
    "turned ravine": (lambda p: ravine(p @ TURN), START @ TURN.T, (0, 0)),  # the same place in it
    "Rosenbrock": (rosenbrock, torch.tensor([[-1.2, 1.0]], dtype=torch.float64), (1, 1)),
}


def race(landscape: str, steps: int) -> dict[str, tuple[float, Tensor, float]]:
    """Walk by each rule at 25 learning rates; return the rate that ends lowest, its path (steps + 1, 2), and the height there."""
    function, start, _ = LANDSCAPES[landscape]
    rates = torch.logspace(-4, 0, 25, dtype=torch.float64).unsqueeze(1)  # (25, 1): all of them walk side by side
    found = {}
    for name in ("SGD", "momentum", "Nesterov", "RMSprop", "Adam"):  # not Muon: a point is no matrix
        path, memory = [start.repeat(25, 1)], {}  # (25, 2)
        for _ in range(steps):
            p = path[-1].requires_grad_()
            (gradient,) = torch.autograd.grad(function(p).sum(), p)
            path.append(RULES[name](p.detach(), gradient, memory, rates))
        heights = function(path[-1]).nan_to_num(math.inf)
        best = heights.argmin().item()
        found[name] = rates[best].item(), torch.stack(path)[:, best].detach(), heights[best].item()
    told = ", ".join(f"{name} {height:.0e}" for name, (_, _, height) in found.items())
    print(f"{'4.' if landscape == 'ravine' else '  '} {landscape}: {told}")
    return found


def draw_paths(races: dict[str, dict]) -> None:
    """Draw the paths over the landscapes."""
    import matplotlib.pyplot as plt

    side = torch.linspace(-2.2, 2.2, 221, dtype=torch.float64)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    for axis, (landscape, found) in zip(axes, races.items(), strict=True):
        function, _, lowest = LANDSCAPES[landscape]
        height = function(torch.cartesian_prod(side, side)).view(221, 221)
        axis.contour(side, side, height.T, levels=torch.logspace(-1, 3, 13), linewidths=0.6, colors="grey")
        for name, (lr, path, end) in found.items():
            axis.plot(*path.T, ".-", markersize=3, linewidth=1, label=f"{name}, lr {lr:.2g}: {end:.0e}")
        axis.plot(*lowest, "k*", markersize=13)
        axis.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", title=landscape)
        axis.legend(loc="lower right", fontsize="small", title=label("height at the end", "마지막 높이"))
    save_figure(figure, __file__, "paths")


# %% 5. The error everyone meets
def meet_error() -> str:
    """Scale a tensor after asking for its gradient, and hand it to an optimizer; return PyTorch's answer."""
    try:
        torch.optim.SGD([torch.randn(3, requires_grad=True) * 0.1], lr=0.1)
    except ValueError as error:
        message = str(error)
    print(f'5. "{message}"')
    print("   read: this tensor was computed from a parameter and is none; scale first, then .requires_grad_() or nn.Parameter")
    return message


# %% All of it, in order
def main(steps: int = 100, seed: int = 0) -> dict[str, float]:
    """Build the usual optimizers, hold them against PyTorch's, and race them.

    Args:
        steps: Steps of every race.
        seed: Seed of the network that the rules are compared on, its data, and Muon's matrix.
    """
    check(steps > 0, f"--steps {steps}: at least one step is needed")
    compared = [compare_with_torch(100, decay, seed) for decay in (0.0, 0.1)]
    worst = max(max(differences.values()) for differences in compared)
    print(f"2. {', '.join(compared[0])}: off by {worst:.0e} at most in 100 steps, with weight decay and without")
    if "Muon" not in compared[0]:
        print("   Muon was not compared: torch.optim has it from PyTorch 2.9 on")
    _, after, nearness = straighten(seed)
    races = {landscape: race(landscape, steps) for landscape in LANDSCAPES}
    draw_paths(races)
    meet_error()
    check(worst < 1e-6, f"an optimizer differs from PyTorch's by {worst:.1e}")
    check(0.6 < after.min() and after.max() < 1.3, f"singular values from {after.min():.2f} to {after.max():.2f} are not near 1")
    results = {"difference": worst, "cosine_with_UVt": nearness}
    return results | {f"{place.replace(' ', '_')}_{name}": found[name][2] for place, found in races.items() for name in found}


if __name__ == "__main__":
    run(main)
