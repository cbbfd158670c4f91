"""Muon for the filters of convolutions and SGD for everything else, as one optimizer."""

from collections.abc import Iterable

import torch
from torch import Tensor


def orthogonalize(matrix: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Bring the singular values of a matrix near 1 and leave their directions as they are, by matrix products alone.

    The Newton-Schulz iteration with Jordan's coefficients; 03_training/optimizers.py shows what it does to a matrix. Five steps
    are usual; airbench94 takes three for convolutions, and so do we; small values then stay smaller.
    """
    x = matrix.to(dtype)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x  # x xᵀ is then the smaller of the two products
    x = x / x.norm().clamp(min=1e-7)  # now no singular value is above 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)  # addmm: β a + α b @ c
    return (x.T if is_tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, made orthogonal for the groups that say so (Jordan et al., 2024).

    A convolution's weights (filters, channels, height, width) are taken for a matrix with one filter in each row. At each step
    they are brought back to a fixed length: the batch norm behind them makes their length meaningless, and if it grew, the same
    step would turn them less.
    """

    def __init__(self, groups: Iterable[dict], steps: int = 3, dtype: torch.dtype = torch.float32):
        """Take groups of parameters, each with its own "lr", "momentum", "weight_decay" and "orthogonal" (by default False).

        Args:
            groups: Dicts with "params" and settings.
            steps: Of the Newton-Schulz iteration.
            dtype: What it computes in; bfloat16 is exact enough for it where the device is fast in it.
        """
        super().__init__(groups, {"lr": 0.1, "momentum": 0.85, "weight_decay": 0.0, "orthogonal": False})
        self.steps, self.dtype = steps, dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step; a closure, which other optimizers may call for a loss, is not."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group["lr"], group["momentum"], group["weight_decay"], group["orthogonal"])

    def _step(self, parameter: Tensor, lr: float, momentum: float, weight_decay: float, orthogonal: bool) -> None:
        gradient = parameter.grad.add(parameter, alpha=weight_decay)
        state = self.state[parameter]
        velocity = state.setdefault("velocity", torch.zeros_like(parameter)).mul_(momentum).add_(gradient)
        update = gradient.add(velocity, alpha=momentum)  # Nesterov: as if it had rolled on already
        if orthogonal:
            update = orthogonalize(update.flatten(1), self.steps, self.dtype).view_as(parameter)
            parameter.mul_(len(parameter) ** 0.5 / parameter.norm())  # a filter's length is then 1, in the mean
        parameter.sub_(update, alpha=lr)
