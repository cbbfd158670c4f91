"""Exercises · 연습문제: attention and the architectures built on it

Put your code where it says TODO, then:  python -m study check 06
Stuck?  python -m study hint attention_mask
"""

import math  # noqa: F401  (for your code)

import torch
from torch import Tensor, nn


def attention_mask(lengths: Tensor, steps: int, window: int) -> Tensor:
    """Make the mask for sentences that are filled up to `steps` words and read from left to right.

    A word may look at itself and at the window - 1 words before it, at nothing that comes later, and at no padding.

    Args:
        lengths: (batch,) int64, of the sentences, at least 1.
        steps: Words of the longest, or more.
        window: At least 1.

    Returns:
        (batch, 1, steps, steps) bool for F.scaled_dot_product_attention of (batch, heads, steps, width): True may be looked at.
        What stands in the rows of padding is of no importance, as long as each has something to look at.
    """
    raise NotImplementedError  # TODO


class AdditiveMemory(nn.Module):
    """Bahdanau's attention as a decoder uses it: states are prepared once, and then looked up at every step.

    The score of a state for a query is v(tanh(query_layer(query) + key_layer(state))). All three layers are linear, from the
    widths of query and state to `width`, from there to 1; only key_layer has a bias.
    """

    def __init__(self, query_width: int, state_width: int, width: int):
        super().__init__()
        raise NotImplementedError  # TODO: self.query_layer, self.key_layer, self.v

    def prepare(self, states: Tensor, real: Tensor) -> None:
        """Keep what does not depend on the query: states (batch, sources, state_width), mask (batch, sources), True for words."""
        raise NotImplementedError  # TODO

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Look up queries (batch, query_width): averages of the states (batch, state_width), weights (batch, sources)."""
        raise NotImplementedError  # TODO


def mean_distance(weights: Tensor, real: Tensor) -> float:
    """How far a decoder jumps: the mean distance between the words that two targets in a row look at most.

    Args:
        weights: (batch, targets, sources), at least two targets.
        real: (batch, targets) bool: False where a target is padding. Padding is at the end, and each row has two targets or more.

    Returns:
        The mean of |source of target i + 1 - source of target i| over all pairs of real neighbours in the batch.
    """
    raise NotImplementedError  # TODO


def with_heads(x: Tensor, heads: int) -> Tensor:
    """Cut (batch, steps, width) into heads: (batch, heads, steps, width / heads), head 0 the first numbers of every step."""
    raise NotImplementedError  # TODO


def merge_partial(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Put attention together that was computed in parts, each over its own sources, as on several machines.

    Args:
        parts: Of each part its output (..., targets, width), which is the average over its own sources, and the logarithm of the
            sum of e to the power of its scores (..., targets, 1), -inf where a mask left nothing. Scores may be in the thousands.

    Returns:
        (..., targets, width): what attention over all sources gives; zeros where no part has anything.
    """
    raise NotImplementedError  # TODO


def count_multiplications(model: nn.Module, x: Tensor) -> int:
    """Count how many numbers all convolutions and linear layers of a model multiply with a weight while it reads x.

    A number that comes out of such a layer took as many multiplications as its kernel (of one output channel), or its row of the
    matrix, has weights; groups make kernels smaller. Biases, norms and pooling do not count.

    Args:
        model: Any; left without hooks, and in the mode in which it was.
        x: What it reads, with a batch dimension; all examples count.

    Returns:
        The number of multiplications.
    """
    raise NotImplementedError  # TODO


def load_what_fits(model: nn.Module, saved: dict[str, Tensor]) -> list[str]:
    """Load somebody else's weights into a model as far as they fit.

    Names may begin with "module.", as nn.DataParallel writes them; that is taken off. Tensors whose name the model does not have,
    or whose shape is another one, are left out. `saved` stays as it is.

    Args:
        model: Gets the weights.
        saved: A state dict.

    Returns:
        The names of the model's tensors that were not loaded, sorted.
    """
    raise NotImplementedError  # TODO


def stochastic_depth(branch: Tensor, rate: float, training: bool, generator: torch.Generator) -> Tensor:
    """Switch a residual branch off for some examples of the batch (Huang et al., 2016).

    In training each example loses its whole branch with probability `rate`; what is left is scaled so that the expected value
    stays the same. In eval mode nothing happens.

    Args:
        branch: (batch, ...) what the branch answered.
        rate: From 0 to 1; with 1 nothing is left.
        training: The mode.
        generator: Draws; on the CPU, as the branch.

    Returns:
        As `branch`.
    """
    raise NotImplementedError  # TODO
