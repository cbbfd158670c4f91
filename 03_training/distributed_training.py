"""Distributed training · 분산 학습

Several processes hold the same model. Each computes the gradients of its part of the batch, an all-reduce hands the mean to
all of them, and all take the same step. Done right, many processes take exactly the steps of one.
여러 프로세스가 같은 모델을 하나씩 들고 배치를 나누어 맡는다. 저마다 구한 기울기를 all-reduce로 평균하면 모두가 같은 스텝을
밟는다. 제대로 하면 프로세스가 몇 개든 하나일 때와 똑같은 스텝이 된다.

You will
  1. build an all-reduce out of messages between neighbours
  2. average gradients by hand and by DDP, and get those of the whole batch; and by a mean of means, which is not the same
  3. deal data out with a sampler, and make the two mistakes everyone makes
  4. train on real digits: one process prints and saves, and all end with the weights of a single process
  5. stop, and go on with another number of processes; and see what the others are told when one dies

Before     03_training/training_loop.py, 03_training/save_and_load.py
Run        python -m study run distributed_training       (about 20 s on one CPU core; it starts its two processes itself)
           torchrun --nproc-per-node 2 03_training/distributed_training.py       (torchrun starts them; all but the death)
You see    gradients and, after 105 steps, weights equal to 1e-14; 4.5 % off by the mean of means; a death noticed within a second
Try next   --processes 4. First guess which of the numbers change, and whether it is faster on your machine; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import contextlib
import copy
import itertools
import os
import signal
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

from utils import datasets, distributed, paths
from utils.batches import Batches
from utils.checkpoint import save_model
from utils.device import pick_device
from utils.lesson import check, run
from utils.training import classification_loss, evaluate, fit


# %% 1. An all-reduce out of messages between neighbours
def ring_all_reduce(numbers: Tensor) -> Tensor:
    """Sum `numbers` (n,), n at least the number of processes k, over all processes; each talks to its neighbours only.

    For k - 1 turns the sums of k pieces travel to the right and grow, for k - 1 more they travel finished: nobody hears them all.
    """
    me, k = dist.get_rank(), dist.get_world_size()
    pieces = list(numbers.tensor_split(k))
    for turn in range(2 * (k - 1)):
        outgoing, incoming = (me - turn) % k, (me - turn - 1) % k
        received = torch.empty_like(pieces[incoming])
        sending = dist.isend(pieces[outgoing], dst=(me + 1) % k)  # does not wait: were all to wait for the right, all would hang
        dist.recv(received, src=(me - 1) % k)
        sending.wait()
        pieces[incoming] = pieces[incoming] + received if turn < k - 1 else received
    return torch.cat(pieces)


def compare_all_reduce(seed: int) -> float:
    """Return how far our sum is from PyTorch's, over numbers that are different in every process."""
    numbers = torch.randn(1001, generator=torch.Generator().manual_seed(seed + dist.get_rank()), dtype=torch.float64)
    ours = ring_all_reduce(numbers)
    dist.all_reduce(numbers)  # in place
    print(f"1. process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: that, and where to meet, is all that it was told")
    print(f"   our all-reduce and PyTorch's differ by {(ours - numbers).abs().max():.0e}")
    return (ours - numbers).abs().max().item()


# %% 2. The gradients of the whole batch
def make_model(seed: int) -> nn.Module:
    """A small network; in float64, so that only the rounding of the 16th digit tells several processes from one."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)).double()


def gradients(model: nn.Module, images: Tensor, labels: Tensor, weight: float = 1.0) -> Tensor:
    """The gradients of weight · cross entropy, one after the other: (parameters,)."""
    model.zero_grad()
    (weight * F.cross_entropy(model(images), labels)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def compare_gradients(seed: int, count: int = 21) -> dict[str, float]:
    """Return how far three averages are from the gradients of one batch of `count` examples, relative to their length."""
    k = dist.get_world_size()
    model, generator = make_model(seed), torch.Generator().manual_seed(seed)
    images = torch.rand(count, 784, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 10, (count,), generator=generator)
    whole = gradients(model, images, labels)
    mine = torch.arange(count).tensor_split(k)[dist.get_rank()]  # 11 examples for one, 10 for the other
    part, weight = (images[mine], labels[mine]), k * len(mine) / count  # were the parts equal, it would be 1
    ddp = DistributedDataParallel(copy.deepcopy(model))  # all-reduces within backward(), while earlier layers are still at work
    averages = {"hand": ring_all_reduce(gradients(model, *part, weight)) / k, "ddp": gradients(ddp, *part, weight)}
    averages["unweighted"] = ring_all_reduce(gradients(model, *part)) / k
    errors = {name: ((average - whole).norm() / whole.norm()).item() for name, average in averages.items()}
    print(f"2. off the whole batch's gradients: by hand {errors['hand']:.0e}, DDP {errors['ddp']:.0e} of their length")
    print(f"   {errors['unweighted']:.1%} for a mean of means that forgets that {count} examples made unequal parts")
    return {f"{name}_error": error for name, error in errors.items()}


# %% 3. Who gets which example
def deal_out(count: int) -> dict[str, float]:
    """Deal `count` examples out for two epochs; return how many came twice or never, and how many in a hand kept their place."""
    sampler = DistributedSampler(range(count), seed=0)
    first, forgotten = list(sampler), list(sampler)  # the same again, unless set_epoch says which epoch it is
    sampler.set_epoch(1)
    hands = [None] * dist.get_world_size()
    dist.all_gather_object(hands, first)
    dealt = set(sum(hands, []))
    repeated, missing = len(hands) * len(first) - len(dealt), count - len(dealt)  # repeated: all must take equally many steps
    places, forgotten_places = (sum(a == b for a, b in zip(first, hand, strict=True)) for hand in (list(sampler), forgotten))
    print(f"3. {count} examples, {len(first)} for each process: {missing} missing, {repeated} dealt twice")
    print(f"   next epoch: {places} in the same place; {forgotten_places} if set_epoch is forgotten")
    print(f"   the sampler itself forgotten, every process takes all {count}: no error, and nothing gained")
    return {"repeated": repeated, "missing": missing, "places": places, "forgotten_places": forgotten_places}


# %% 4. Training, together and alone
class Run:
    """What one training run needs. Every process makes its own, from the same seed."""

    def __init__(self, source: datasets.Source, epochs: int, lr: float, seed: int, device: str):
        self.device, self.epochs, self.data = pick_device(device), epochs, datasets.mnist(source)
        self.model = make_model(seed).to(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        self.batches = self.make_batches(self.data.train[:1400], batch_size=200, seed=seed)  # of real data no more either

    def make_batches(self, part: datasets.Images, **settings) -> Batches:
        """Batches of pixels (batch, 1, 28, 28) in 0..1 and labels (batch,)."""
        return Batches(part.images, part.labels, transform=lambda x, _: x.double() / 255, device=self.device, **settings)

    def fit(self, compute_loss: Callable = classification_loss, resume: bool = False) -> nn.Module:
        """Train with the course's own loop, which shares every batch out where there are several processes."""
        options = {"epochs": self.epochs, "checkpoints": paths.models("distributed_training"), "resume": resume}
        fit(self.model, self.batches, self.optimizer, compute_loss, **options)
        return self.model

    def fit_alone(self) -> nn.Module:
        """Train as a single process would: the plain loop over whole batches."""
        for batch in (batch for _ in range(self.epochs) for batch in self.batches):
            self.optimizer.zero_grad()
            classification_loss(self.model, batch).backward()
            self.optimizer.step()
        return self.model


def distance(weights: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """The largest difference between two models' weights."""
    return max((weights[name].cpu() - others[name].cpu()).abs().max().item() for name in weights)


def train(settings: dict) -> dict[str, float]:
    """Train together, and alone for comparison; return accuracy, baseline, and how far the weights are apart."""
    ours = Run(**settings)
    weights = ours.fit().state_dict()
    from_one = distance(weights, Run(**settings).fit_alone().state_dict())
    save_model(paths.models("distributed_training") / "model.pt", ours.model)  # all call it, process 0 writes, all wait for it
    train, test = ours.data.train, ours.data.test[:2000]
    accuracy = evaluate(ours.model, ours.make_batches(test, batch_size=60, shuffle=False))["accuracy"]
    baseline = datasets.nearest_mean_accuracy(train, test)
    print(f"4. weights {from_one:.0e} from those of one process; accuracy {accuracy:.3f}, nearest mean image {baseline:.3f}")
    distances = {"from_one_process": from_one, "from_process_0": distance(weights, distributed.from_main(weights))}
    return {"accuracy": accuracy, "baseline_accuracy": baseline, **distances}


# %% 5. Stop, and go on with another number of processes
def stop(settings: dict, after: int) -> None:
    """Train until Ctrl-C reaches one of the processes: it tells the others, and all stop after the same step."""
    steps = itertools.count(1)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        if next(steps) == after and distributed.rank() == distributed.world_size() - 1:
            signal.raise_signal(signal.SIGINT)
        return classification_loss(model, batch)

    with contextlib.suppress(KeyboardInterrupt):
        Run(**settings).fit(loss)


def go_on(settings: dict) -> float:
    """Go on from what was saved, with as many processes as there are now; return the distance from a run without a break."""
    found = distance(Run(**settings).fit(resume=True).state_dict(), Run(**settings).fit_alone().state_dict())
    print(f"5. stopped, gone on with {distributed.world_size()}: weights {found:.0e} from those of a run without a break")
    return found


# %% 6. A process that dies
def lose_one() -> tuple[str, float] | None:
    """The last process dies without a word; return what PyTorch tells the others, and after how many seconds."""
    dist.init_process_group("gloo")
    dist.all_reduce(torch.zeros(1))  # all are here
    if dist.get_rank() == dist.get_world_size() - 1:
        os._exit(1)
    started = time.perf_counter()
    try:
        dist.all_reduce(torch.zeros(1))  # the others wait for its numbers
    except RuntimeError as error:
        found = str(error).split("] ", 1)[-1].split(". ")[0], time.perf_counter() - started  # without the place in gloo's source
    dist.destroy_process_group()
    return found


# %% All of it, in order
def sections(settings: dict) -> dict[str, float]:
    """Sections 1 to 5, in one of the processes."""
    with contextlib.nullcontext() if distributed.is_on() else distributed.processes():  # on: `utils.lesson.run` has joined
        found = {"ring_difference": compare_all_reduce(settings["seed"]), **compare_gradients(settings["seed"])}
        found |= deal_out(count=101) | train(settings)
        stop(settings, after=10)
        return found


def main(
    processes: int = 2, source: datasets.Source = "sample", epochs: int = 15, lr: float = 0.1, seed: int = 0, device: str = "cpu"
) -> dict[str, float]:
    """Train one network in several processes, and find out whether it is the one that a single process trains.

    Args:
        processes: How many to start; torchrun starts its own.
        source: "auto" (MNIST where it is on disk, else the sample), "real" or "sample".
        epochs: Passes over 1,400 images.
        lr: Learning rate.
        seed: Of weights, order and random numbers.
        device: Of section 4: "cpu", or "cuda" where there are as many GPUs as processes.
    """
    check(processes > 1 and epochs > 1, f"--processes {processes} --epochs {epochs}: at least 2 are needed")
    settings = {"source": source, "epochs": epochs, "lr": lr, "seed": seed, "device": device}
    if distributed.is_on():
        results = sections(settings) | {"from_no_break": go_on(settings)}
    else:
        Run(**settings)  # a wrong flag, data that are damaged: told once, and before anything is started
        everyone = distributed.start(processes, sections, settings)
        check(None not in everyone, "one of the processes failed; why stands above")
        results = everyone[0] | {"from_no_break": go_on(settings)}  # in this process alone
        message, results["seconds_to_notice"] = distributed.start(processes, lose_one)[0]
        print(f'6. {results["seconds_to_notice"]:.2f} s after a process died: "{message}"')
        print("   read: nobody at the other end. utils.distributed says it in a sentence, and torchrun ends the rest")
    check(results["accuracy"] > results["baseline_accuracy"] + 0.02, "hardly better than the nearest mean image: more --epochs?")
    return results


if __name__ == "__main__":
    run(main)
