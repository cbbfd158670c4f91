"""Solutions of stage 02, to read after your own attempt."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron_step(weights: Tensor, example: Tensor, truth: int) -> Tensor:
    # <= and not <: zero weights give every example the score 0, and with < the rule would never start.
    # A sum makes a new tensor; weights += ... would have changed the caller's.
    if truth * (weights @ example) <= 0:
        return weights + truth * example
    return weights


def mistake_bound(x: Tensor, labels: Tensor, direction: Tensor) -> float:
    # Dividing by the length makes the margin a distance; without that, a longer direction would look like a wider margin.
    margin = (labels * (x @ direction)).min() / direction.norm()
    if margin <= 0:
        return float("inf")
    return (x.norm(dim=1).max() / margin).square().item()


def parity_network() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # All three units count the ones; they fire from 1, from 2 and from 3 ones on. Up, down, up: 1 - 1 + 1 is 1 for an odd count.
    return torch.ones(3, 3), torch.tensor([-0.5, -1.5, -2.5]), torch.tensor([1.0, -1.0, 1.0]), torch.tensor(-0.5)


def least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    # The bias is the weight of a feature that is always 1. The gradient 2 Xᵀ(Xw - y) / n is zero where XᵀX w = Xᵀy.
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)  # (examples, features + 1)
    solution = torch.linalg.solve(ones.T @ ones, ones.T @ y)
    return solution[:-1], solution[-1].item()


def largest_learning_rate(x: Tensor) -> float:
    # The loss is a quadratic function of the weights, so its second derivatives, 2 XᵀX / n, are the same everywhere. The largest
    # eigenvalue is the curvature of the steepest direction; eigvalsh sorts them, smallest first.
    curvatures = torch.linalg.eigvalsh(2 * x.T @ x / len(x))
    return 2 / curvatures[-1].item()


def tanh_network_gradients(x: Tensor, target: Tensor, weight1: Tensor, weight2: Tensor) -> tuple[Tensor, Tensor]:
    # Up, keeping what the way down needs. The mean is over all batch · outputs numbers, hence numel() and not len().
    h = (x @ weight1.T).tanh()  # (batch, hidden)
    output = h @ weight2.T  # (batch, outputs)
    # Down: each line is one operation of the way up, backwards. tanh's slope is 1 - tanh², and h is tanh already.
    to_output = 2 * (output - target) / output.numel()
    to_h = to_output @ weight2
    to_before_tanh = to_h * (1 - h.square())
    return to_before_tanh.T @ x, to_output.T @ h


class MultiLayerPerceptron(nn.Module):
    def __init__(self, sizes: list[int]):
        super().__init__()
        # A plain list would hide the layers: parameters() would be empty, and nothing would be trained, moved or saved.
        self.linears = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        # No ReLU after the last layer: logits must be free to be negative.
        for linear in self.linears[:-1]:
            x = linear(x).relu()
        return self.linears[-1](x)


def log_sigmoid(x: Tensor) -> Tensor:
    # -ln(1 + e⁻ˣ) overflows for negative x; there it equals x - ln(1 + eˣ). Both at once: e to the power of -|x| is at most 1.
    # log1p keeps the digits that 1 + tiny would lose. torch.logaddexp(zeros, -x) is the same idea, finished.
    # minimum and not clamp: at exactly 0 it passes half of the gradient on, and sigmoid(0) is just that.
    return torch.minimum(x, torch.zeros_like(x)) - torch.log1p(torch.exp(-x.abs()))


def dead_share(before_relu: Tensor) -> float:
    # all(dim=0) asks about every example of one unit; asking about all units of one example would be all(dim=1).
    return (before_relu <= 0).all(dim=0).float().mean().item()


def starting_bias(labels: Tensor, classes: int) -> Tensor:
    # softmax(log p) is p, because exp undoes log and p already sums to 1. The first loss is then the entropy of the
    # classes, not ln(classes), which matters most where one class is rare.
    return (labels.bincount(minlength=classes) / len(labels)).log()


def calibrate(network: nn.Sequential, x: Tensor) -> None:
    # One pass, layer by layer: what goes into a layer has already come through the scaled ones. With bias 0 the output is
    # proportional to the weight, so one division is exact. In place under no_grad: the parameter stays the same leaf.
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                layer.weight /= layer(x).std()
            x = layer(x)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    # The optimizer skips a parameter without a gradient; leaving the frozen ones out says so to the reader, too.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() < 2], "weight_decay": 0.0},
    ]


class EarlyStopping:
    def __init__(self, patience: int):
        self.patience = patience
        self.best, self.best_step = float("inf"), -1
        self.step = -1

    def should_stop(self, loss: float) -> bool:
        # A comparison with NaN is False, so that NaN never becomes the best; `min` would have let it in.
        self.step += 1
        if loss < self.best:
            self.best, self.best_step = loss, self.step
        return self.step - self.best_step >= self.patience
