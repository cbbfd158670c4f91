"""A whole data set as tensors on the device, cut into batches and augmented there.

A DataLoader fetches one example at a time in Python, transforms it, and stacks the results. Where the whole set fits into memory
one indexing operation gives the same batch many times faster (benchmarks/mnist.py measures it). Use a DataLoader
(03_training/data_loading.py) where it does not fit, or where each example needs real work to decode.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from utils.distributed import is_on, rank, world_size
from utils.lesson import check


class Batches:
    """Batches of tensors that belong together, in a new random order in every epoch.

        for images, labels in Batches(images, labels, batch_size=128, device=device):

    The order and the augmentation are drawn on the CPU from a generator of its own, so they are the same on every device and do
    not depend on what else draws random numbers. `state_dict` holds where it is, to the batch: training that is resumed
    goes on with exactly the batches that were still to come.
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        transform: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        """Move the tensors to the device.

        Args:
            tensors: Each of shape (N, ...), the same N.
            batch_size: Examples in a batch.
            shuffle: Draw a new order for every epoch; otherwise as they come.
            drop_last: Leave out the last batch where it is smaller than the others.
            transform: Called as transform(batch_of_the_first_tensor, generator): normalise, augment.
            device: Where the tensors are kept and the transform works.
            seed: Of the order and of the generator that the transform gets.
        """
        if len({len(tensor) for tensor in tensors}) != 1:
            raise ValueError(f"the tensors differ in length: {[len(tensor) for tensor in tensors]}")
        self.tensors = tuple(tensor.to(device) for tensor in tensors)
        self.batch_size, self.shuffle, self.drop_last, self.transform = batch_size, shuffle, drop_last, transform
        self.generator = torch.Generator().manual_seed(seed)
        self._order: Tensor | None = None  # of the epoch under way
        self.position = 0  # how many batches of it were handed out
        self._resumed = False
        if batch_size < 1 or len(self) == 0:
            raise ValueError(
                f"{len(tensors[0])} examples in batches of {batch_size} (drop_last={drop_last}) make no batch at all"
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        count = len(self.tensors[0])
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if not self._resumed:
            self._order, self.position = self._draw_order(), 0
        self._resumed = False
        order = self._order  # this loop's own: an earlier one that was left may still be waiting to be cleared away
        try:
            for position in range(self.position, len(self)):
                start = position * self.batch_size
                chosen = order[start : start + self.batch_size].to(self.tensors[0].device)
                batch = tuple(tensor[chosen] for tensor in self.tensors)
                if self.transform is not None:
                    batch = (self.transform(batch[0], self.generator), *batch[1:])
                self.position = position + 1
                yield batch
        finally:  # also when the loop was left early
            if self._order is order:
                self._order, self.position = None, 0

    def _draw_order(self) -> Tensor:
        count = len(self.tensors[0])
        return torch.randperm(count, generator=self.generator) if self.shuffle else torch.arange(count)

    def state_dict(self) -> dict:
        """Where this is: the order of the epoch under way, how much of it was handed out, the generator."""
        return {"order": self._order, "position": self.position, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Go back to where `state_dict` was taken; the next loop goes on in mid-epoch."""
        if state["order"] is not None and len(state["order"]) != len(self.tensors[0]):
            raise ValueError(f"the saved order is of {len(state['order'])} examples, here are {len(self.tensors[0])}")
        self._order, self.position = state["order"], state["position"]
        self._resumed = self._order is not None
        self.generator.set_state(state["generator"])


class BatchesByLength(Batches):
    """Shuffled batches of sequences that are about equally long, so that little padding is computed."""

    def __init__(
        self,
        *tensors: Tensor,
        lengths: Tensor,
        blur: Callable[[Tensor, Tensor], Tensor],
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        """Move the tensors to the device.

        Args:
            tensors: Each of shape (N, ...), the same N.
            lengths: (N,), how long each example is.
            blur: From lengths (n,) and as many random numbers in 0..1 to what they are sorted by. Sorted by the lengths alone,
                the same examples would meet in every epoch.
            batch_size: Examples in a batch; the last one may have fewer.
            device: Where the tensors are kept.
            seed: Of the order.
        """
        super().__init__(*tensors, batch_size=batch_size, device=device, seed=seed)
        self.lengths, self.blur = lengths, blur

    def _draw_order(self) -> Tensor:
        """Sort a random order by length, cut it into batches, and shuffle those. A batch that is not full stays the last."""
        order = super()._draw_order()
        full = len(order) // self.batch_size * self.batch_size
        order, rest = order[:full], order[full:]
        blurred = self.blur(self.lengths[order], torch.rand(full, generator=self.generator))
        batches = order[blurred.argsort()].view(-1, self.batch_size)
        return torch.cat([batches[torch.randperm(len(batches), generator=self.generator)].flatten(), rest])


def to_pixels(images: Tensor) -> Tensor:
    """Turn uint8 images (batch, channels, height, width) in 0..255 into float32 pixels in 0..1.

    channels_last keeps the channels of one pixel side by side in memory; convolutions are faster on it, on CPUs as on GPUs.
    """
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


# -------------------------------------------------------------------------------- for a run of several processes


def my_part(count: int) -> tuple[slice, float]:
    """Which of a batch's `count` examples this process computes, and with which weight its mean enters the mean of the means.

    Too few to share out (a batch norm needs two examples) are computed by all of them: the mean is the same.
    """
    if count < 2 * world_size():
        return slice(0, count), 1.0
    start, end = (count * number // world_size() for number in (rank(), rank() + 1))
    return slice(start, end), (end - start) * world_size() / count


class Parts:
    """This process's part of every batch, each with its weight in the mean: the batch and 1.0 where there is one process.

    A DataLoader loads the part only. Other batches are made in full by every process and then cut, so that each random number
    that `Batches` draws is the one it would be in a single process.
    """

    def __init__(self, batches: Iterable):
        """Share out `batches`: `Batches`, a DataLoader, or a list of tuples of tensors.

        Raises:
            LessonError: A DataLoader's data set is a stream, which has no parts.
        """
        self.batches, self.weights = batches, None
        if is_on() and isinstance(batches, DataLoader):
            check(
                batches.batch_sampler is not None and not isinstance(batches.dataset, IterableDataset),
                "a DataLoader of a stream, or without a batch_size, cannot be shared out; run it in one process",
            )
            self.weights = deque()  # of the batches that are being loaded
            names = "num_workers collate_fn pin_memory timeout worker_init_fn multiprocessing_context generator prefetch_factor"
            same = {name: getattr(batches, name) for name in [*names.split(), "persistent_workers"]}
            self.batches = DataLoader(batches.dataset, batch_sampler=_Indices(batches.batch_sampler, self.weights), **same)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        alone = not is_on()
        for batch in self.batches:
            if alone:
                yield batch, 1.0
            elif self.weights is not None:
                yield batch, self.weights.popleft()
            else:
                part, weight = my_part(len(batch[0]))
                yield tuple(tensor[part] for tensor in batch), weight


class _Indices:
    """A DataLoader's batch sampler, cut down to this process's part of every batch."""

    def __init__(self, batch_sampler: Iterable[list[int]], weights: deque[float]):
        self.batch_sampler, self.weights = batch_sampler, weights

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[int]]:
        self.weights.clear()
        for indices in self.batch_sampler:
            part, weight = my_part(len(indices))
            self.weights.append(weight)
            yield indices[part]
