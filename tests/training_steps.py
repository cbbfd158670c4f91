"""Does each step of a training loop start from gradients of 0? Adam hardly notices where they add up; losses tell little."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def numbers(below: int, *shape: int) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(0))


def weights_of(loss: Tensor) -> set[Tensor]:
    """All parameters that a loss hangs on: the leaves of its graph."""
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
    return {node.variable for node in seen if hasattr(node, "variable")}


def check_gradients_do_not_add_up(train: Callable[[], object]) -> None:
    """Watch `train` make three steps: before each, no weight of its loss may have a gradient left from the step before."""
    backward, steps = Tensor.backward, []

    def watched(loss, *arguments, **keywords):
        weights = weights_of(loss)
        steps.append((len(weights), sum(weight.grad is not None and bool(weight.grad.any()) for weight in weights)))
        return backward(loss, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "backward", watched)
        train()
    assert len(steps) == 3
    assert all(weights > 0 and left == 0 for weights, left in steps), "gradients of the step before were still there"
