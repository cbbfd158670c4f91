"""Exercises · 연습문제: fast style transfer

Put your code where it says TODO, then:  python -m study check 08
Stuck?  python -m study hint ConditionalInstanceNorm
"""

from collections.abc import Callable

import torch  # noqa: F401  (for your code)
from torch import Tensor, nn


class ConditionalInstanceNorm(nn.Module):
    """Instance norm with weights and biases for several styles, so that one network paints all of them (Dumoulin et al., 2017).

    Each channel of each picture gets mean 0 and variance 1 over its places (eps 1e-5); then it is multiplied by a weight and a
    bias is added. These belong to the style: parameters `weight` (styles, channels), at first 1, and `bias`, at first 0.
    """

    def __init__(self, styles: int, channels: int):
        super().__init__()
        raise NotImplementedError  # TODO

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """Normalise x (n, channels, height, width); shares (n, styles) mixes the styles' weights and biases for each picture."""
        raise NotImplementedError  # TODO


def paint_any_size(painter: Callable[[Tensor], Tensor], pictures: Tensor, multiple: int = 4) -> Tensor:
    """Paint pictures of any size with a network that only takes multiples: nothing is cut off, nothing is stretched.

    Continue the pictures at the right and at the bottom by their mirror image, by as little as possible; paint; cut off what was
    added.

    Args:
        painter: Takes and gives pictures whose height and width are multiples of `multiple`.
        pictures: (n, 3, height, width), each side at least `multiple`.
        multiple: Of the height and the width.

    Returns:
        Painted pictures of the size of `pictures`.
    """
    raise NotImplementedError  # TODO
