"""Speed and memory · 속도와 메모리

A profiler tells where the time and the memory of a training step go; only what costs much is worth making cheaper. Every trick
must leave the numbers as they were, and whether it helps depends on the machine: measure it on yours.
프로파일러는 학습 한 스텝의 시간과 메모리가 어디에 쓰이는지 알려 준다. 많이 드는 것만 줄일 값어치가 있다. 어떤 기법이든 계산
결과는 그대로여야 하고, 도움이 되는지는 컴퓨터마다 다르므로 직접 재어 보아야 한다.

You will
  1. profile a training step, read its table aloud, and follow its memory allocation by allocation
  2. see what torch.compile is for
  3. measure channels_last, autocast, checkpointing and torch.compile in one run: time, peak memory, how far the numbers move
  4. feed tensors that lie on the device, beside a DataLoader
  5. meet the error that everyone meets with channels_last, and train with what helps everywhere

Before     03_training/training_loop.py, 03_training/data_loading.py
Run        python -m study run speed_and_memory    (about 26 s on one CPU core, 16 of them compiling; again about 12 s)
You see    mostly convolution; bf16 takes 0.7 of the time (9 on a CPU without it), checkpointing 1.3; step.png, trace_*.json
Try next   --channels 4: an eighth of the width. First guess which trick changes sides, from help to harm; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import copy
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from utils.batches import Batches
from utils.datasets import Source, mnist, nearest_mean_accuracy
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.paths import outputs, short
from utils.plotting import label, save_figure
from utils.training import classification_loss, evaluate, fit

Examples = tuple[Tensor, Tensor]  # pictures (n, 1, 14, 14), labels (n,)
Variant = tuple[nn.Module, Examples, bool]  # a network, what it is given, whether under autocast


class Network(nn.Module):
    """Residual convolutions over small pictures (n, 1, 14, 14), the maximum over all places, logits (n, 10)."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, channels, 3, padding=1), nn.Linear(channels, 10)
        blocks = (nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GELU()) for _ in range(depth))
        self.blocks, self.checkpointed = nn.ModuleList(blocks), False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (n, channels, 14, 14)
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x))
        return self.head(x.amax(dim=(2, 3)))


def step(network: nn.Module, examples: Examples, bf16: bool = False) -> tuple[Tensor, Tensor]:
    """Return the logits (n, 10), and the gradients of all parameters in one row."""
    with torch.autocast(examples[0].device.type, dtype=torch.bfloat16, enabled=bf16):
        logits = network(examples[0])
        loss = F.cross_entropy(logits, examples[1])
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return logits.detach().float(), torch.cat([gradient.flatten() for gradient in gradients])


# %% 1. A profiler's trace
def trace(run_step: Callable[[], object], name: str) -> tuple[list[tuple], list[tuple]]:
    """Profile a step, and write its trace; return (operator, share of the time, calls), longest first, and (ms, bytes held)."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks to standard error otherwise
    run_step()  # the first one also chooses algorithms
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities, profile_memory=True) as profiler:
        run_step()
    file = outputs("speed_and_memory") / f"trace_{name.replace(' ', '_')}.json"
    profiler.export_chrome_trace(str(file))
    rows = [(row.key, row.self_device_time_total or row.self_cpu_time_total, row.count) for row in profiler.key_averages()]
    total = sum(microseconds for _, microseconds, _ in rows)
    shares = sorted(((key, microseconds / total, count) for key, microseconds, count in rows), key=lambda row: -row[1])
    events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    events = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    held = itertools.accumulate(event["args"]["Bytes"] for event in events)  # negative where memory was given back
    return shares, [((event["ts"] - events[0]["ts"]) / 1000, size) for event, size in zip(events, held, strict=True)]


# %% 2. What torch.compile is for
def chain(x: Tensor) -> Tensor:
    """Compute many small things of every number: each line alone reads and writes all of x."""
    return x * torch.sigmoid(1.702 * x) + torch.tanh(x) * x.square()


def compile_blocks(network: Network, examples: Examples) -> float | None:
    """Compile the blocks, which are all alike, so once; return the seconds, or None where there is no compiler."""
    started = time.perf_counter()
    try:
        for block in network.blocks:
            block.compile()
        step(network, examples)  # compiling begins when the first input comes
    except (RuntimeError, ImportError, OSError) as error:
        print(f"   going on without torch.compile: {str(error).strip().splitlines()[0][:100]}")
        return None
    return time.perf_counter() - started


def median_times(jobs: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Do all jobs in turn, `rounds` times, so that what disturbs one disturbs all; return the median seconds of each."""
    times = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            getattr(torch, device.type).synchronize()  # a GPU works on after the call has returned
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}  # at first something is still being set up


# %% 3. What each trick costs and saves
def make_variants(network: Network, examples: Examples) -> dict[str, Variant]:
    """Return a network four times, three of them with a trick."""
    last, saving = copy.deepcopy(network).to(memory_format=torch.channels_last), copy.deepcopy(network)
    saving.checkpointed = True
    pixels = examples[0].to(memory_format=torch.channels_last), examples[1]  # the same shapes, in another order in memory
    variants = {"plain": (network, examples, False), "channels_last": (last, pixels, False)}
    return variants | {"bf16 autocast": (network, examples, True), "checkpointing": (saving, examples, False)}


def measure(variants: dict[str, Variant], rounds: int, device: torch.device) -> dict[str, tuple]:
    """Return by name: time / plain's, peak bytes, relative distances of logits and gradients from plain's, memory curve."""
    times = median_times({name: partial(step, *variant) for name, variant in variants.items()}, rounds, device)
    plain, found = step(*variants["plain"]), {}
    for name, variant in variants.items():
        off = [((ours - theirs).norm() / theirs.norm()).item() for ours, theirs in zip(step(*variant), plain, strict=True)]
        _, curve = trace(partial(step, *variant), name)
        peak = max((held for _, held in curve), default=0)
        if device.type == "cuda":  # a GPU's allocator keeps count itself
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step(*variant)
            peak = torch.cuda.max_memory_allocated() - before
        found[name] = times[name] / times["plain"], peak, *off, curve
        told = f"{found[name][0]:.2f} of the time, {peak / 2**20:4.1f} MB at most"
        print(f"{'3.' if name == 'plain' else '  '} {name:14} {told}, logits off by {off[0]:.0e}, gradients by {off[1]:.0e}")
    return found


# %% 4. Feeding
def compare_feeding(examples: Examples, batch_size: int, rounds: int) -> tuple[bool, float]:
    """Return whether a DataLoader and Batches give the same, and how many times as long the DataLoader takes."""
    loader = DataLoader(TensorDataset(*examples), batch_size=batch_size)
    batches = Batches(*examples, batch_size=batch_size, shuffle=False)
    pairs = [pair for ours, theirs in zip(batches, loader, strict=True) for pair in zip(ours, theirs, strict=True)]
    times = median_times({"loader": lambda: list(loader), "batches": lambda: list(batches)}, rounds, torch.device("cpu"))
    return all(torch.equal(*pair) for pair in pairs), times["loader"] / times["batches"]


# %% 5. The error everyone meets, and training with what helps everywhere
def meet_view(pictures: Tensor) -> str:
    """Flatten channels_last activations by view; return PyTorch's answer."""
    h = nn.Conv2d(1, 4, 3, device=pictures.device)(pictures).to(memory_format=torch.channels_last)
    try:
        h.view(len(h), -1)
    except RuntimeError as error:
        print(f'5. "{error}" flatten(start_dim=1) copies where it must')
        return str(error)


def train(network: Network, examples: Examples, epochs: int, lr: float, seed: int) -> None:
    """Train in place: tensors on the device, channels_last, and bf16 where utils.device.autocast finds it worth while."""
    network.to(memory_format=torch.channels_last)
    batches = Batches(*examples, batch_size=64, seed=seed, device=examples[0].device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(batches))
    fit(network, batches, optimizer, classification_loss, epochs=epochs, scheduler=schedule)


def draw_figure(found: dict[str, tuple]) -> None:
    """Draw the memory that a step holds, from its beginning to its end."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for name, (*_, curve) in found.items():
        milliseconds, held = zip(*curve, strict=True)
        axis.step(milliseconds, [size / 2**20 for size in held], where="post", label=name)
    axis.set(xlabel=label("ms since the step began", "스텝을 시작한 뒤 지난 시간(ms)"), ylabel="MB")
    axis.legend()
    save_figure(figure, __file__, "step")


# %% All of it, in order
def main(
    channels: int = 32, batch_size: int = 64, rounds: int = 9, compiled: bool = True, epochs: int = 8,
    source: Source = "auto", device: str = "auto", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Find out where the time and the memory of a training step go, and what each trick is worth on this machine.

    Args:
        channels: Of the convolutions that are measured; the network that trains has 16.
        batch_size: Pictures in a step that is measured.
        rounds: How often each thing is measured.
        compiled: Whether to measure torch.compile, which takes longer than all the rest.
        epochs: Passes of the training over 1,437 digits.
        source: Digits from: auto (MNIST if it is there, else the sample), real, sample.
        device: auto, cpu, cuda or mps.
        seed: Seed of the weights and of the order of the digits.
    """
    check(min(channels, batch_size, rounds, epochs) > 0, "--channels, --batch-size, --rounds and --epochs must be at least 1")
    where, data = pick_device(device), mnist(source)
    torch.manual_seed(seed)
    few, test = data.train[:1437], data.test[:1000]
    digits, new = (((F.avg_pool2d(part.images / 255, 2) - 0.13).to(where) * 3, part.labels.to(where)) for part in (few, test))
    batch, network = (digits[0][:batch_size], digits[1][:batch_size]), Network(channels, depth=6).to(where)
    shares, _ = trace(partial(step, network, batch), "plain")
    print("1. " + "\n   ".join(f"{share:4.0%} in {count:2} calls of {name}" for name, share, count in shares[:5]))
    mention("written", f"{short(outputs('speed_and_memory'))}/trace_*.json (open them at ui.perfetto.dev)")
    variants, results = make_variants(network, batch), {}
    if compiled and (seconds := compile_blocks(fast := copy.deepcopy(network), batch)):
        variants["torch.compile"] = fast, batch, False
        x, fused = torch.randn(10**6, device=where), torch.compile(chain)
        times = median_times({"plain": lambda: chain(x), "fused": lambda: fused(x)}, rounds, where)
        results = {"compile_seconds": seconds, "fused_speed_up": times["plain"] / times["fused"]}
        print(f"2. compiled in {seconds:.0f} s; a chain of small operations is {results['fused_speed_up']:.1f} times as fast")
    found = measure(variants, rounds, where)
    draw_figure(found)
    same, loader_ratio = compare_feeding((digits[0].cpu(), digits[1].cpu()), 64, rounds)
    print(f"4. a DataLoader takes {loader_ratio:.0f} times as long as Batches; the same batches: {same}")
    meet_view(batch[0])

    learner = Network(channels=16, depth=2).to(where)
    train(learner, digits, epochs, lr=0.02, seed=seed)  # a fifth of the digits, held out, chose this rate
    accuracy = evaluate(learner, [new])["accuracy"]
    baseline = max(nearest_mean_accuracy(few, test), test.labels.bincount().max().item() / len(test))
    check(accuracy > baseline, f"{accuracy:.1%} right, the simplest rule {baseline:.1%}: more --epochs?")
    check(max(found[name][3] for name in ("channels_last", "checkpointing")) < 1e-2, "a trick moves the gradients")
    results |= {"accuracy": accuracy, "baseline_accuracy": baseline, "loader_ratio": loader_ratio}
    for name, (ratio, peak, *_) in found.items():
        results |= {f"time_{name.replace(' ', '_')}": ratio, f"peak_mb_{name.replace(' ', '_')}": peak / 2**20}
    return results


if __name__ == "__main__":
    run(main)
