"""Exercises · 연습문제: the perceptron, linear regression

Put your code where it says TODO, then:  python -m study check 02
Stuck?  python -m study hint perceptron_step
"""

import torch  # noqa: F401  (for your code)
from torch import Tensor


def perceptron_step(weights: Tensor, example: Tensor, truth: int) -> Tensor:
    """Apply Rosenblatt's rule to one example: correct the weights if they put it on the wrong side, or on the boundary.

    Args:
        weights: (inputs,) float.
        example: (inputs,) float, its last entry the 1 that carries the bias.
        truth: +1 or -1.

    Returns:
        (inputs,) the weights afterwards; the tensor that was given stays as it is.
    """
    raise NotImplementedError  # TODO


def mistake_bound(x: Tensor, labels: Tensor, direction: Tensor) -> float:
    """Return how many mistakes Novikoff allows the perceptron on these data: (R / γ)², a Python float.

    R is the length of the longest example. The margin γ is the smallest of all labels · (example · u), where u is `direction`
    scaled to length 1.

    Args:
        x: (examples, inputs) float.
        labels: (examples,) float, each +1 or -1.
        direction: (inputs,) float, of any length but 0.

    Returns:
        The bound; infinity where the direction does not put every example strictly on its right side.
    """
    raise NotImplementedError  # TODO


def parity_network() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Set the weights of a network by hand that says whether the number of ones among three inputs is odd.

    Its three hidden units are steps: h = (x @ weight1.T + bias1 > 0).float(). It answers yes where h @ weight2 + bias2 > 0.

    Returns:
        weight1 (3, 3), bias1 (3,), weight2 (3,), bias2 (): float32 tensors.
    """
    raise NotImplementedError  # TODO


def least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """Return the weights and the bias whose predictions x @ weights + bias have the smallest mean squared error.

    By solving the normal equations: torch.linalg.solve is allowed, lstsq and pinv are not.

    Args:
        x: (examples, features) float64; no feature is a sum of multiples of the others and a constant.
        y: (examples,) float64.

    Returns:
        The weights (features,) float64, and the bias, a Python float.
    """
    raise NotImplementedError  # TODO


def largest_learning_rate(x: Tensor) -> float:
    """Return the learning rate above which gradient descent on the mean squared error of x @ weights runs away. No bias.

    Args:
        x: (examples, features) float64.

    Returns:
        2 / the largest curvature of (x @ weights - y)² averaged over the examples; it does not depend on y. A Python float.
    """
    raise NotImplementedError  # TODO
