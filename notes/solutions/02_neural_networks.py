"""Solutions of stage 02, to read after your own attempt."""

import torch
from torch import Tensor


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
