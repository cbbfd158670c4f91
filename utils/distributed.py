"""One run in several processes, each computing its part of every batch.

    torchrun --nproc-per-node 2 09_projects/project1_mnist/train.py

A program needs no change for it: `utils.lesson.run` joins the processes, `fit` and `evaluate` share out the batches, and process
0 is the one that prints, draws and saves. In a run of one process nothing here does anything. How it works inside is the subject
of 03_training/distributed_training.py.

The batch stays as large as it was, so k processes take the same steps as one, up to rounding. What differs: dropout
draws other units in each process, and a batch norm standardises each process's part by itself; the running statistics of process
0 are kept. (On GPUs `nn.SyncBatchNorm.convert_sync_batchnorm(model)` brings the parts together.)
"""

import contextlib
import io
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.lesson import LessonError, silence
from utils.seeding import random_state, restore_random_state

SECONDS_TO_ANSWER = 60.0  # how long a process waits for the others; PyTorch's own 30 minutes look like a run that hangs
SAVED = "what was saved before is whole, and a program with --resume goes on from it"
_store: Any = None  # a few numbers that all processes see, also when one of them is dead
_meetings = 0


def is_on() -> bool:
    """Whether this run has several processes."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if is_on() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if is_on() else 1


def is_main() -> bool:
    """Whether this is process 0: the one that prints, draws and saves."""
    return rank() == 0


# ------------------------------------------------------------------------------------------------- beginning and end


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started; inside, only process 0 prints. All of them leave together.

    CPUs talk through gloo, NVIDIA's GPUs through NCCL.

    Raises:
        LessonError: Another process died, or does not answer.
        SystemExit: This process ends too, but another one has said why already: one mishap, one message.
    """
    global _store, _meetings
    before = signal.signal(signal.SIGTERM, _end_with_the_others)
    patience = timedelta(seconds=SECONDS_TO_ANSWER)
    try:
        _store, number, count = next(dist.rendezvous("env://", timeout=patience))  # what torchrun put into the environment
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, store=_store, rank=number, world_size=count, timeout=patience)
        _meetings = 0
        with contextlib.nullcontext() if is_main() else silence():
            yield
        meet()
        _arrive("the door", wait=is_main())  # process 0 may be the one that keeps the store: it leaves last
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun is about to send it; what is to be said comes first
        if not _is_first_to_speak():
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
        if isinstance(error, RuntimeError) and _came_through_the_line(error):
            raise LessonError(_what_happened(error)) from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    signal.signal(signal.SIGTERM, before)


def start(count: int, work: Callable, *arguments: Any) -> list:
    """Run `work` in `count` new processes, as torchrun starts them; it joins them by `processes`.

    Returns:
        What each of them returned, plain Python values; None for one that died or failed.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # where they find one another
    new = multiprocessing.get_context("spawn")  # a Python of its own for each: works on every system, and with GPUs
    results = new.SimpleQueue()
    members = [new.Process(target=_member, args=(n, count, store.port, results, work, arguments)) for n in range(count)]
    for process in members:
        process.start()
    for process in members:
        process.join()
    found = dict(results.get() for _ in members if not results.empty())
    return [found.get(number) for number in range(count)]


def _member(number: int, count: int, port: int, results: Any, work: Callable, arguments: tuple) -> None:
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in {**place, "TORCHELASTIC_USE_AGENT_STORE": True}.items()}
    torch.set_num_threads(1)
    results.put((number, work(*arguments)))


def _end_with_the_others(*_) -> None:
    raise LessonError(f"another process of this run died, or the run was told to stop from outside; {SAVED}")


def _came_through_the_line(error: RuntimeError) -> bool:
    """Whether it is another process that failed, and not this one."""
    told = str(error).lower()
    told_by_the_line = isinstance(error, dist.DistError) or "gloo" in told
    return told_by_the_line and any(words in told for words in ("connection", "broken pipe", "timed out", "remote process"))


def _what_happened(error: RuntimeError) -> str:
    if "timed out" in str(error).lower():
        return f"another process of this run did not answer for {SECONDS_TO_ANSWER:.0f} s; do all of them take the same steps?"
    return f"another process of this run died; {SAVED}"


def _is_first_to_speak() -> bool:
    try:
        return _store.add("words", 1) == 1
    except (RuntimeError, AttributeError):  # the store was in the process that died, or there never was one
        return True


def meet() -> None:
    """Wait until every process has come here, however long the slowest takes: torchrun notices the ones that die.

    Not dist.barrier(): that waits for `SECONDS_TO_ANSWER` only, and nothing can interrupt it.
    """
    global _meetings
    if is_on():
        _meetings += 1
        _arrive(f"meeting {_meetings}")


def _arrive(place: str, wait: bool = True) -> None:
    _store.add(place, 1)
    while wait and _store.add(place, 0) < world_size():
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------------------ one answer


def total(*numbers: float) -> tuple[float, ...]:
    """Each number summed over the processes."""
    if not is_on():
        return numbers
    sums = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return tuple(sums.tolist())


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Whether each flag is raised in any of the processes: what one decides, all of them do."""
    return tuple(raised > 0 for raised in total(*flags)) if is_on() else flags


def from_main(value: Any) -> Any:
    """Process 0's value, in every process: tensors (on the CPU) and plain Python values, nested as they like."""
    if not is_on():
        return value
    packed = io.BytesIO()
    torch.save(value if is_main() else None, packed)
    parcel = [packed.getvalue()]
    dist.broadcast_object_list(parcel, src=0)
    return torch.load(io.BytesIO(parcel[0]), map_location="cpu", weights_only=False)  # it is our own


def follow_main(model: nn.Module) -> None:
    """Give every process the buffers (running statistics) and the random numbers of process 0."""
    if is_on():
        buffers = list(model.buffers())
        with torch.no_grad():
            for ours, mains in zip(buffers, from_main(buffers), strict=True):
                ours.copy_(mains)
        restore_random_state(from_main(random_state()))


# --------------------------------------------------------------------------------------------------------- training


class _Loss(nn.Module):
    """A model together with its loss, as one module."""

    def __init__(self, model: nn.Module, compute_loss: Callable[[nn.Module, Any], Tensor]):
        super().__init__()
        self.model, self.compute_loss = model, compute_loss

    def forward(self, batch: Any) -> Tensor:
        return self.compute_loss(self.model, batch)


def averaging(
    model: nn.Module, compute_loss: Callable[[nn.Module, Any], Tensor], step: Callable[[], int]
) -> Callable[[nn.Module, Any], Tensor]:
    """`compute_loss`, such that backward() leaves every process with the mean of their gradients; `step` counts.

    DDP wraps model and loss together: the loss gets the model itself and may use any of its methods, not only forward.
    """
    if not is_on():
        return compute_loss
    ddp = DistributedDataParallel(_Loss(model, compute_loss))
    device = next(model.parameters()).device

    def loss_of_part(_: nn.Module, batch: Any) -> Tensor:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # what is drawn outside, all draw alike
            torch.manual_seed(hash((torch.initial_seed(), step(), rank())))  # but each drops out units of its own
            return ddp(batch)

    return loss_of_part
