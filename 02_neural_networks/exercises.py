"""Exercises · 연습문제: networks, from one neuron to deep ones

Put your code where it says TODO, then:  python -m study check 02
Stuck?  python -m study hint perceptron_step
"""

from itertools import pairwise  # noqa: F401  (for your code)

import torch  # noqa: F401  (for your code)
from torch import Tensor, nn


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


def tanh_network_gradients(x: Tensor, target: Tensor, weight1: Tensor, weight2: Tensor) -> tuple[Tensor, Tensor]:
    """Find the gradients of a two-layer network with tanh between its layers, and without biases. No autograd here.

    The network: h = tanh(x weight1ᵀ), output = h weight2ᵀ. The loss: the mean of (output - target)² over all its numbers.

    Args:
        x: (batch, inputs) float.
        target: (batch, outputs) float.
        weight1: (hidden, inputs).
        weight2: (outputs, hidden).

    Returns:
        d loss / d weight1 (hidden, inputs) and d loss / d weight2 (outputs, hidden).
    """
    raise NotImplementedError  # TODO


class MultiLayerPerceptron(nn.Module):
    """Linear layers with ReLU between them: sizes [4, 8, 3] means 4 inputs, 8 hidden units, 3 outputs.

    The layers are an nn.ModuleList called `linears`. There may be any number of them, one at least: [4, 3] is a single layer.
    """

    def __init__(self, sizes: list[int]):
        super().__init__()
        raise NotImplementedError  # TODO

    def forward(self, x: Tensor) -> Tensor:
        """Turn (batch, sizes[0]) into logits (batch, sizes[-1]), any real numbers."""
        raise NotImplementedError  # TODO


def log_sigmoid(x: Tensor) -> Tensor:
    """Return ln(1 / (1 + e⁻ˣ)), number by number, for any size of x: -1000 gives -1000, and 1000 gives 0.

    Its gradient by autograd must be right there as well. Without F.logsigmoid and F.softplus.

    Args:
        x: Any shape, float.

    Returns:
        A new tensor of the same shape.
    """
    raise NotImplementedError  # TODO


def dead_share(before_relu: Tensor) -> float:
    """Say which share of a layer's units is dead: ReLU answers 0 to every example, and passes no gradient for any.

    Args:
        before_relu: (examples, units), what enters the ReLU. ReLU's slope at exactly 0 is 0.

    Returns:
        A Python float from 0 to 1.
    """
    raise NotImplementedError  # TODO


def starting_bias(labels: Tensor, classes: int) -> Tensor:
    """Give a classifier's last layer a bias to start with: softmax of it alone is the share of each class.

    A network that starts there need not spend its first steps on learning which classes are frequent.

    Args:
        labels: (examples,) int64, each from 0 to classes - 1; every class occurs.
        classes: How many classes there are.

    Returns:
        (classes,) float32. Softmax does not notice an added constant: choose the one for which exp(bias) sums to 1.
    """
    raise NotImplementedError  # TODO


def calibrate(network: nn.Sequential, x: Tensor) -> None:
    """Initialize by measuring: scale the weight of each nn.Linear, in place, so that its output on x has standard deviation 1.

    Each layer is measured with the layers before it already scaled. The standard deviation is that of all numbers of the
    output together, by torch's std(). Weights change by a factor and are still trained afterwards.

    Args:
        network: Any layers in a row; the nn.Linear among them have biases that are all 0. In eval mode.
        x: (batch, inputs), a batch like those to come.
    """
    raise NotImplementedError  # TODO


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Sort parameters for an optimizer: matrices (and everything with more dimensions) decay, the others do not.

    Biases and the scales of normalization layers have one dimension; pulling them to zero helps against nothing.

    Args:
        model: Any module.
        weight_decay: For those that decay.

    Returns:
        Two groups as torch.optim takes them, {"params": list of parameters, "weight_decay": number}: first those that decay,
        then the others with 0.0, both in the order of model.parameters(). Frozen parameters (requires_grad=False) are in neither.
    """
    raise NotImplementedError  # TODO


class EarlyStopping:
    """Say when to stop: after `patience` validation losses in a row that are no new lowest.

    Attributes:
        best: The lowest loss so far; infinity before the first.
        best_step: Its number, the first loss that is told being number 0; -1 before the first.
    """

    def __init__(self, patience: int):
        raise NotImplementedError  # TODO

    def should_stop(self, loss: float) -> bool:
        """Take in the next validation loss. Equal to the lowest is no new lowest, and neither is NaN."""
        raise NotImplementedError  # TODO
