"""Exercises · 연습문제: tensors, gradients, a first network

Put your code where it says TODO, then:  python -m study check 01
Stuck?  python -m study hint standardize
A loop is fine unless the exercise says otherwise. No function may change the tensors that it is given, except where it says so.

TODO라고 적힌 자리에 코드를 쓰고 나서 실행한다:  python -m study check 01
막히면:  python -m study hint standardize
따로 말이 없으면 반복문을 써도 된다. 바꾸라고 한 곳이 아니면 받은 텐서를 바꾸지 않는다.
"""

from collections.abc import Callable

import torch  # noqa: F401  (for your code)
from torch import Tensor, nn


def standardize(x: Tensor) -> Tensor:
    """Shift and scale every column to mean 0 and standard deviation 1, by torch's own mean and std.

    Args:
        x: (examples, features) float; no column is constant.

    Returns:
        (examples, features), a new tensor.
    """
    raise NotImplementedError  # TODO


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of examples whose largest logit stands at the right class, a Python float from 0 to 1.

    Args:
        logits: (examples, classes) float, any real numbers.
        labels: (examples,) int64, the right class of each example.
    """
    raise NotImplementedError  # TODO


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Turn class numbers into rows that are 1 at the class and 0 elsewhere. Without a loop, and without F.one_hot.

    Args:
        labels: (examples,) int64, each from 0 to classes - 1.
        classes: How many classes there are.

    Returns:
        (examples, classes) float32.
    """
    raise NotImplementedError  # TODO


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Say which strides a fresh tensor of this shape has, one for each dimension. No torch needed.

    (2, 3) has strides (3, 1): one row further is 3 places further in memory, one column further is 1 place.
    Sizes are 1 or more; the empty shape () has the empty strides ().
    """
    raise NotImplementedError  # TODO


def channels_first(images: Tensor) -> Tensor:
    """Reorder images from the way files store them to the way PyTorch's layers want them.

    Args:
        images: (batch, height, width, channels): red, green and blue of one pixel lie side by side.

    Returns:
        (batch, channels, height, width), contiguous, of the same dtype.
    """
    raise NotImplementedError  # TODO


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distance of every row of `a` to every row of `b`. Without a loop, and without torch.cdist.

    Args:
        a: (n, features) float.
        b: (m, features) float.

    Returns:
        (n, m).
    """
    raise NotImplementedError  # TODO


def numerical_gradient(f: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-3) -> Tensor:
    """Estimate the gradient of f at x by central differences, (f(x + h) - f(x - h)) / 2h, one entry of x at a time.

    Args:
        f: Turns a tensor like x into a single number, a tensor of shape ().
        x: (n,) float64.
        h: How far to step to either side.

    Returns:
        (n,) float64, entry i the derivative with respect to x[i].
    """
    raise NotImplementedError  # TODO


def gradient_step(parameters: list[Tensor], loss: Tensor, lr: float) -> None:
    """Take one step of gradient descent: change every parameter in place, by -lr times d loss / d parameter.

    The function is called again and again, each time with a newly computed loss, so no call may be disturbed by
    the one before. Afterwards every parameter is still a leaf that requires a gradient.

    Args:
        parameters: Leaf tensors with requires_grad=True, of any shapes.
        loss: A tensor of shape (), computed from the parameters; backward() has not been called.
        lr: Learning rate.
    """
    raise NotImplementedError  # TODO


def freeze(model: nn.Module, prefix: str) -> int:
    """Exclude every parameter whose name begins with `prefix` from training; leave the others as they are.

    Args:
        model: Any module; named_parameters() gives the names, like "0.weight" in an nn.Sequential.
        prefix: For example "0." for everything in the first layer.

    Returns:
        How many single numbers of the model will still be trained.
    """
    raise NotImplementedError  # TODO


class Linear(nn.Module):
    """A linear layer by hand: y = x Wᵀ + b, without nn.Linear.

    It learns `weight` (outputs, inputs) and `bias` (outputs,), float32. The weights begin as random numbers, no two
    layers alike; the bias begins as zeros.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        raise NotImplementedError  # TODO

    def forward(self, x: Tensor) -> Tensor:
        """Map the last dimension: (..., inputs) → (..., outputs), however many dimensions stand before it."""
        raise NotImplementedError  # TODO
