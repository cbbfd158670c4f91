"""Solutions of stage 01, to read after your own attempt."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def standardize(x: Tensor) -> Tensor:
    # dim=0 is the dimension that disappears, so one mean per column remains: (features,), which broadcasts over the rows.
    # x - mean makes a new tensor; x -= mean would have changed the caller's.
    return (x - x.mean(dim=0)) / x.std(dim=0)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    # argmax over dim=1 compares the classes of one example. Softmax would not change which is largest, so it is not needed.
    # bool has no mean, hence float(); item() turns the tensor of shape () into a Python number.
    return (logits.argmax(dim=1) == labels).float().mean().item()


def one_hot(labels: Tensor, classes: int) -> Tensor:
    # (examples, 1) == (classes,) → (examples, classes): broadcasting asks every example about every class at once.
    return (labels.unsqueeze(1) == torch.arange(classes, device=labels.device)).float()


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    # The last dimension lies side by side; one step in an earlier one skips everything that the later ones hold.
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def channels_first(images: Tensor) -> Tensor:
    # permute says which old dimension comes where. reshape would give the right shape too, and scramble the pixels:
    # it keeps the order in memory, and the order is just what has to change. contiguous() then rewrites the memory.
    return images.permute(0, 3, 1, 2).contiguous()


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    # A new dimension of size 1 lets every row of a meet every row of b: (n, 1, features) - (m, features) → (n, m, features).
    return (a.unsqueeze(1) - b).square().sum(dim=2).sqrt()


def numerical_gradient(f: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-3) -> Tensor:
    # A step to both sides cancels the error in h, so that the error in h² remains: 1e-6 instead of 1e-3.
    # The step is a tensor of its own, because x[i] += h would change the caller's x.
    gradient = torch.zeros_like(x)
    for i in range(len(x)):
        step = torch.zeros_like(x)
        step[i] = h
        gradient[i] = (f(x + step) - f(x - step)) / (2 * h)
    return gradient


def gradient_step(parameters: list[Tensor], loss: Tensor, lr: float) -> None:
    # backward() adds to .grad, so old gradients go first. no_grad: the update is not part of what is differentiated, and
    # in place (-=) keeps the parameter the same leaf; `parameter = parameter - ...` would only give a new tensor a name.
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    with torch.no_grad():
        for parameter in parameters:
            parameter -= lr * parameter.grad


def freeze(model: nn.Module, prefix: str) -> int:
    # A parameter without requires_grad gets no gradient, so no optimizer moves it.
    for name, parameter in model.named_parameters():
        if name.startswith(prefix):
            parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        # nn.Parameter is what registers a tensor with the module. Dividing by √inputs keeps the output's spread near
        # the input's, however many inputs are added up. With equal weights all outputs would learn the same.
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias
