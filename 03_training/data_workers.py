"""Data workers · 데이터 로더의 워커

A data loader can fetch batches in other processes while the network computes. Each gets a copy of the data set: of its random
generator, and of its stream. What was meant to happen once then happens once in every worker.
데이터 로더는 신경망이 계산하는 동안 다른 프로세스(워커)에서 배치를 가져올 수 있다. 그런데 워커는 저마다 데이터셋의 복사본을
받는다. 난수 생성기도 스트림도 복사된다. 그래서 한 번만 일어나야 할 일이 워커마다 한 번씩 일어난다.

You will
  1. turn a CSV into a stream, which is read from front to back and has no length
  2. see two workers hand out every row of it twice, and divide the work
  3. see two workers draw the same augmentation, in every epoch again, and seed them
  4. start a worker without a main guard, and read the message aloud
  5. measure what a row costs: from the file, from memory, as a tensor on the device

Before     03_training/data_loading.py
Run        python -m study run data_workers       (about 3 s on one CPU core, after importing torch)
You see    178 rows that two workers hand out as 356; of 16 random numbers 4 different ones, until workers are seeded; draws.png
Try next   --workers 4, seeded alike: first guess how many of 16 random numbers are still different, more or fewer; then look
Theory     notes/en/03_training.md · notes/ko/03_training.md
Practise   python -m study check 03
"""

import csv
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from utils.batches import Batches
from utils.device import pick_device
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure
from utils.seeding import seed_worker


# %% 1. A CSV as a stream
def write_table(path: Path) -> None:
    """Write scikit-learn's wines as a CSV: 178 real ones, 13 measurements each, and which of three cultivars it is."""
    from sklearn.datasets import load_wine

    wine = load_wine()
    mention("data", "wine (scikit-learn), written as a CSV: 178 real wines, 13 measurements, 3 cultivars")
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*wine.feature_names, "cultivar"], *np.column_stack([wine.data, wine.target]).tolist()])


class TableStream(IterableDataset):
    """A CSV of any length, one row in memory at a time. It only has __iter__: no length, and no order but its own."""

    def __init__(self, path: Path, divided: bool = False):
        """`divided`: each worker reads a part of the rows, not all of them."""
        self.path, self.divided = path, divided

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """Yield measurements (13,) and the cultivar, row by row."""
        worker = get_worker_info()  # None in the main process
        first, step = (worker.id, worker.num_workers) if self.divided and worker else (0, 1)
        with open(self.path, newline="", encoding="utf-8") as file:
            for row in islice(csv.DictReader(file), first, None, step):
                *measurements, cultivar = map(float, row.values())  # in a CSV everything is text
                yield torch.tensor(measurements), int(cultivar)


def compare_streams(path: Path) -> int:
    """Stream the CSV by hand and by PyTorch's DataLoader; return how many batches were equal."""
    rows, batches = iter(TableStream(path)), list(DataLoader(TableStream(path), batch_size=32))
    for x, y in batches:
        ours = list(islice(rows, 32))  # a loader of a stream: take what comes
        check(torch.equal(torch.stack([row for row, _ in ours]), x), "PyTorch's DataLoader gives another batch")
        check([truth for _, truth in ours] == y.tolist(), "PyTorch's DataLoader gives other labels")
    table = list(TableStream(path))  # a list has __len__ and __getitem__: the same rows as a data set that can be shuffled
    print(f"1. a stream of {len(table)} rows makes {len(batches)} batches, equal to PyTorch's; the first is {tuple(x.shape)}")
    return len(batches)


# %% 2. A stream in several workers
def count_rows(path: Path, workers: int, divided: bool, start: str | None = None) -> int:
    """Return how many rows arrive from `workers` processes; start: "fork" or "spawn", None for this platform's way."""
    loader = DataLoader(TableStream(path, divided), batch_size=32, num_workers=workers, multiprocessing_context=start)
    return sum(len(y) for _, y in loader)


# %% 3. Random numbers in several workers
class Draws(Dataset):
    """What an augmentation would draw for each of eight examples, by its own generator, NumPy's global one, PyTorch's."""

    def __init__(self):
        self.own = np.random.default_rng(0)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([self.own.random(), np.random.random(), torch.rand(()).item()], dtype=torch.float64)


def same_seed(worker_id: int) -> None:
    """A worker_init_fn as many programs have it: wrong."""
    np.random.seed(0)


def own_seed(worker_id: int) -> None:
    """A worker_init_fn that is right: PyTorch has given every worker, and every epoch, a seed of its own; hand it on."""
    seed_worker(worker_id)  # to Python's and NumPy's global generators
    get_worker_info().dataset.own = np.random.default_rng(torch.initial_seed())


def draw(init: Callable[[int], None] | None, workers: int, seed: int, start: str | None = None) -> Tensor:
    """Load two epochs; return what the eight examples were given (2, 8, 3): by their own generator, NumPy's, PyTorch's."""
    generator = torch.Generator().manual_seed(seed)  # the workers' seeds are drawn from it
    loader = DataLoader(Draws(), 1, num_workers=workers, worker_init_fn=init, generator=generator, multiprocessing_context=start)
    return torch.stack([torch.cat(list(loader)) for _ in range(2)])


def count_different(drawn: Tensor) -> list[int]:
    """Return how many of the numbers (2, 8, 3) are different, for each of the three generators."""
    return [len(column.unique()) for column in drawn.flatten(0, 1).T]


# %% 4. The main guard
UNGUARDED = """
import multiprocessing

worker = multiprocessing.get_context("spawn").Process(target=print, args=["a batch"])
worker.start()
worker.join()
"""


def meet_missing_guard(script: str = UNGUARDED) -> list[str]:
    """Run a script that starts a process as macOS and Windows do; return the lines of what it prints and complains.

    A DataLoader with num_workers starts its workers in this way, and says last that one of them "exited unexpectedly".
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.py"
        file.write_text(script, encoding="utf-8")
        done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, encoding="utf-8", errors="replace")
    return (done.stdout + done.stderr).splitlines()


# %% 5. What a row costs
def seconds(batches: Iterable, passes: int) -> float:
    """Return the seconds that the fastest of some passes over all batches takes."""
    times = []
    for _ in range(passes):
        started = time.perf_counter()
        for _ in batches:
            pass
        times.append(time.perf_counter() - started)
    return min(times)


def measure_cost(path: Path, workers: int, passes: int, start: str | None = None) -> dict[str, float]:
    """Return how many microseconds a row takes in batches of 32, by way of loading; and milliseconds to start the workers."""
    table = list(TableStream(path))
    x, y = torch.stack([row for row, _ in table]), torch.tensor([truth for _, truth in table])
    ways = {
        "stream": DataLoader(TableStream(path), batch_size=32),
        "memory": DataLoader(table, batch_size=32, shuffle=True),
        "Batches": Batches(x, y, batch_size=32, device=pick_device("auto")),
    }
    cost = {name: 1e6 * seconds(batches, passes) / len(table) for name, batches in ways.items()}
    started = DataLoader(TableStream(path, divided=True), batch_size=32, num_workers=workers, multiprocessing_context=start)
    return cost | ({"workers_start": 1e3 * seconds(started, passes=1)} if workers else {})


def draw_figure(drawn: dict[str, Tensor]) -> None:
    """Draw random numbers as colours, two epochs of eight examples each: the same colour is the same number."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(drawn), figsize=(10, 2.3), layout="constrained")
    for axis, (name, numbers) in zip(axes, drawn.items(), strict=True):
        axis.imshow(numbers.numpy(), cmap="nipy_spectral", vmin=0, vmax=1)
        axis.set(title=name, xlabel=label("example", "예제"), ylabel=label("epoch", "에포크"), yticks=[0, 1])
    save_figure(figure, __file__, "draws")


# %% All of it, in order
def main(workers: int = 2, passes: int = 20, seed: int = 0) -> dict[str, float]:
    """Load in several processes, see what all of them do alike, and measure what loading costs.

    Args:
        workers: Processes that load; 0 leaves out what needs them.
        passes: Passes over the rows for every way of loading; the fastest counts.
        seed: The workers' seeds are drawn from it.
    """
    check(0 <= workers <= 8 and passes > 0, f"--workers {workers} --passes {passes}: 0 to 8 workers, at least one pass")
    if "ipykernel" in sys.modules and multiprocessing.get_start_method() != "fork":
        print("Workers started here would not find this notebook's classes: data sets belong in a .py file. Going on without.")
        workers = 0
    results = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "wine.csv"
        write_table(path)
        results["equal_batches"] = compare_streams(path)
        if workers:
            rows = {divided: count_rows(path, workers, divided) for divided in (False, True)}
            print(f"2. {workers} workers hand out {rows[False]} rows; {rows[True]} where each reads a part")
            wrong, right = draw(same_seed, workers, seed), draw(own_seed, workers, seed)
            for title, drawn in (("seeded alike", wrong), ("each its own", right)):
                own, numpys, torchs = count_different(drawn)
                print(f"3. {title}, different of 16: {own} by its own generator, {numpys} by NumPy's, {torchs} by PyTorch's")
            titles = label("a generator that was copied", "복사된 생성기"), label("a seed for each worker", "워커마다의 시드")
            draw_figure(dict(zip(titles, (wrong[..., 0], right[..., 0]), strict=True)))
            check(count_different(right) == [16] * 3, "workers with seeds of their own draw the same numbers")
            results |= {"rows": rows[True], "rows_undivided": rows[False], "different_alike": count_different(wrong)[0]}
        cost = measure_cost(path, workers, passes)
    message = meet_missing_guard()
    told = [line.strip() for line in message if line.strip()]
    start = next((i for i, line in enumerate(told) if line.startswith("An attempt")), -10)  # above it stands a traceback
    print("4. " + "\n   ".join(told[start:]))
    print("   read: the new process runs this file from its top, and would start a process itself: put that under a main guard")
    told = ", ".join(f"{name} {value:.3g} µs" for name, value in cost.items() if name != "workers_start")
    print(f"5. a row costs: {told}; starting {workers} workers took {cost.get('workers_start', 0):.0f} ms")
    return results | {"memory_over_batches": cost["memory"] / cost["Batches"]}


if __name__ == "__main__":
    run(main)
