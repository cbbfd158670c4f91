"""utils.distributed: several processes do what one does, together, and end together.

Each test starts processes of its own and gives them the environment that torchrun would.
tests/test_03_distributed_training.py starts torchrun itself.
"""

import functools
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import conftest
import matplotlib.pyplot as plt
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from utils import batches, checkpoint, device, distributed, lesson, paths, tracking
from utils.batches import Batches, Parts
from utils.lesson import LessonError
from utils.plotting import save_figure
from utils.seeding import seed_everything
from utils.training import classification_loss, evaluate, fit

PROCESSES = conftest.processes()


def in_process(number: int, count: int, port: int, folder: Path, action, patience: float, environment: dict[str, str]) -> None:
    """What runs in each process: `action`; what it returned, printed and said at the end is kept in files."""
    torch.set_num_threads(1)
    os.environ |= environment  # a fork server has the one that it was started in
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests were started in the background
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    distributed.SECONDS_TO_ANSWER = patience
    with open(folder / f"printed{number}", "w", encoding="utf-8") as sys.stdout:
        try:
            if action is run_lesson:
                action()
                return
            with distributed.processes():
                torch.save(action(), folder / f"result{number}")
        except (LessonError, KeyboardInterrupt) as error:
            (folder / f"words{number}").write_text(str(error), encoding="utf-8")
            sys.exit(1)


def together(folder: Path, action, count: int = 2, patience: float = 30.0) -> tuple[list, list[str]]:
    """Run `action` in several processes; return what each returned (None: nothing), and what was said at the end."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun's: it outlives every process
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*folder.glob("result*"), *folder.glob("words*")):
        file.unlink()
    same = (count, store.port, folder, action, patience, dict(os.environ))
    processes = [PROCESSES.Process(target=in_process, args=(number, *same)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    results = [folder / f"result{number}" for number in range(count)]
    words = [file.read_text(encoding="utf-8") for file in sorted(folder.glob("words*"))]
    return [torch.load(file, weights_only=False) if file.exists() else None for file in results], words


# -------------------------------------------------------------------------------------------- what the processes do


class Examples(Dataset):
    """37 examples, and how many of them were asked for."""

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(37, 4, generator=generator, dtype=torch.float64)
        self.y = (self.x[:, 0] * self.x[:, 1] > 0).long()
        self.loaded = 0

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        self.loaded += 1
        return self.x[index], self.y[index]


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(4), 0


def noisy(x, generator):
    return x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def plain_network() -> nn.Module:
    """One whose result does not depend on how a batch is cut."""
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2)).double()


def drawing_network() -> nn.Module:
    """One that keeps statistics and draws."""
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2)).double()


def press_in_step(step: int, in_rank: int, model, batch, count=itertools.count(1)):  # noqa: B008  (one counter for all steps)
    """classification_loss; in one step Ctrl-C reaches one of the processes."""
    if next(count) == step and distributed.rank() == in_rank:
        signal.raise_signal(signal.SIGINT)
    return classification_loss(model, batch)


def train(
    folder: Path | None = None,
    network=plain_network,
    loader: bool = False,
    loss=classification_loss,
    resume: bool = False,
    **options,
) -> dict:
    """A run with everything that could come apart: batches of 10, 10, 10 and 7, noise, momentum, a schedule, clipping."""
    seed_everything(options.pop("seed", 3))
    model, examples = network(), Examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    if loader:
        shared = DataLoader(examples, batch_size=10, shuffle=True)
    else:
        shared = Batches(examples.x, examples.y, batch_size=10, transform=noisy, seed=3)
    check = Batches(examples.x, examples.y, batch_size=8, shuffle=False)
    options = {"epochs": 4, "validate": lambda model: evaluate(model, check), "clip_norm": 0.5, **options}
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16)
    history = fit(model, shared, optimizer, loss, scheduler=schedule, checkpoints=folder, **options)
    return {"model": model.state_dict(), "history": vars(history), "loaded": examples.loaded, "random": torch.rand(3)}


def assert_close(one: dict, other: dict, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(one["model"], other["model"], rtol=tolerance, atol=tolerance)
    for name in ("losses", "rates"):
        assert one["history"][name] == pytest.approx(other["history"][name], rel=tolerance)
    for ours, theirs in zip(one["history"]["epochs"], other["history"]["epochs"], strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance)


def assert_same_everywhere(results: list[dict]) -> None:
    first, *others = results
    for other in others:
        torch.testing.assert_close(first["model"], other["model"], rtol=0, atol=0)
        assert first["history"] == other["history"]
        assert torch.equal(first["random"], other["random"])  # what is drawn afterwards, all draw alike


# ------------------------------------------------------------------------------------------------------------ tests


class TestOneProcess:
    def test_nothing_happens(self):
        model = nn.Linear(2, 2)
        assert not distributed.is_on() and distributed.is_main()
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.total(1.5, 2) == (1.5, 2) and distributed.any_of(True, False) == (True, False)
        assert distributed.from_main(model) is model
        assert distributed.averaging(model, classification_loss, step=int) is classification_loss
        distributed.meet()
        before = torch.get_rng_state()
        distributed.follow_main(model)
        assert torch.equal(torch.get_rng_state(), before)
        loader = DataLoader(Stream())
        assert Parts(loader).batches is loader

    @pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "x"}, {"WORLD_SIZE": "2"}])
    def test_run_joins_nobody_where_torchrun_started_nobody(self, monkeypatch, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert not lesson._in_company()


class TestMyPart:
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10, 64])
    @pytest.mark.parametrize("world", [1, 2, 3, 7])
    def test_mean_of_weighted_means_is_the_mean(self, monkeypatch, count, world):
        numbers = torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        monkeypatch.setattr(batches, "world_size", lambda: world)
        means, seen = [], []
        for number in range(world):
            monkeypatch.setattr(batches, "rank", lambda number=number: number)
            part, weight = batches.my_part(count)
            assert len(numbers[part]) >= min(count, 2)  # never one alone: a batch norm could not standardise it
            means.append(weight * numbers[part].mean())
            seen += range(count)[part]
        assert torch.stack(means).mean().item() == pytest.approx(numbers.mean().item(), abs=1e-12)
        assert sorted(seen) == list(range(count)) or count < 2 * world


class TestFit:
    @pytest.fixture
    def alone(self):
        return {loader: train(loader=loader) for loader in (False, True)}

    @pytest.mark.parametrize("loader", [False, True])
    @pytest.mark.parametrize("count", [2, 3])
    def test_takes_the_steps_of_one_process(self, tmp_path, alone, loader, count):
        results, words = together(tmp_path, functools.partial(train, loader=loader), count)
        assert words == []
        assert_same_everywhere(results)
        assert_close(results[0], alone[loader])
        first, *_, last = (epoch["train_loss"] for epoch in alone[loader]["history"]["epochs"])
        assert last < first

    def test_parts_together_are_the_batches_of_one_process(self, tmp_path):
        parts, _ = together(tmp_path, my_examples, count=3)
        for whole, *cut in zip(my_examples(), *parts, strict=True):
            assert whole == (sum(cut, []) if len(whole) >= 6 else cut[0]) and len(whole) <= 10
            assert [len(part) for part in cut] in ([3, 3, 4], [4, 4, 4])  # 4 examples are too few for three

    def test_a_loader_loads_only_its_part(self, tmp_path, alone):
        results, _ = together(tmp_path, functools.partial(train, loader=True, validate=None))
        assert [result["loaded"] for result in results] == [4 * 18, 4 * 19] and alone[True]["loaded"] == 4 * 37

    def test_statistics_and_dropout(self, tmp_path):
        results, _ = together(tmp_path, functools.partial(train, network=drawing_network))
        assert_same_everywhere(results)
        first, second = (result["history"]["losses"] for result in results)
        assert first == second

    def test_every_process_drops_out_units_of_its_own(self, tmp_path):
        (first, second), _ = together(tmp_path, masks)
        assert first.shape == second.shape == (3, 4, 50)  # steps, examples, units
        assert not torch.equal(first, second) and not torch.equal(first[0], first[1])

    def test_loss_may_use_any_method_of_the_model(self, tmp_path):
        results, words = together(tmp_path, functools.partial(train, network=WithMethods, loss=own_method))
        assert words == []
        assert_close(results[0], train(network=WithMethods, loss=own_method))

    def test_seeds_that_differ_do_not_matter(self, tmp_path):
        results, _ = together(tmp_path, seeds_of_their_own)
        assert_same_everywhere(results)

    def test_decisions_are_process_zeros(self, tmp_path):
        results, _ = together(tmp_path, undecided)
        assert_same_everywhere(results)
        assert [len(result["history"]["epochs"]) for result in results] == [3, 3]

    def test_bad_loss_in_one_part_ends_all_with_one_sentence(self, tmp_path):
        results, words = together(tmp_path, functools.partial(train, loss=bad_in_process_one))
        assert results == [None, None]
        assert len(words) == 1 and "the loss became nan in step 1" in words[0]

    def test_other_data_are_refused(self, tmp_path):
        _, words = together(tmp_path, other_settings)
        assert words == ["process 0 runs with other data or settings than process 1: data real (now sample)"]
        _, words = together(tmp_path, other_length)
        assert words == ["process 0 runs with other data or settings than process 1: 4 batches (here 5)"]

    def test_stream_is_refused(self, tmp_path):
        _, words = together(tmp_path, stream)
        assert len(words) == 1 and "run it in one process" in words[0]

    def test_evaluate_sums_over_all(self, tmp_path):
        results, _ = together(tmp_path, measure, count=3)
        for result in results:
            assert result == pytest.approx(measure(), rel=1e-12)


def my_examples() -> list[list[int]]:
    shared = Batches(torch.arange(34), batch_size=10, seed=1)
    return [part.tolist() for _ in range(2) for (part,), _ in Parts(shared)]


def masks() -> torch.Tensor:
    """What a dropout layer let through in three steps."""
    seen = []

    def loss(model, batch):
        seen.append(nn.functional.dropout(torch.ones(len(batch[0]), 50)))
        return model(batch[0]).mean()

    seed_everything(0)
    model = nn.Linear(4, 1)
    fit(model, Batches(torch.zeros(24, 4), batch_size=8), torch.optim.SGD(model.parameters(), lr=0.1), loss, epochs=1)
    return torch.stack(seen)


class WithMethods(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = plain_network()
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))

    def score(self, x):
        return self.network(x)

    forward = score


def own_method(model, batch):
    return nn.functional.cross_entropy(model.score(batch[0]), batch[1]) + model.score(batch[0]).square().mean()


def seeds_of_their_own() -> dict:
    return train(network=drawing_network, seed=distributed.rank(), loader=True)


def undecided() -> dict:
    """Each process would stop in another epoch."""
    values = iter([0.5, 0.4, 0.3, 0.2] if distributed.is_main() else [0.5, 0.6, 0.7, 0.8])
    return train(validate=lambda _: {"accuracy": next(values)}, patience=2)


def bad_in_process_one(model, batch):
    return classification_loss(model, batch) * (float("nan") if distributed.rank() == 1 else 1)


def other_settings() -> dict:
    return train(settings={"data": "real" if distributed.is_main() else "sample", "lr": 0.1})


def other_length() -> None:
    model = plain_network()
    shared = Batches(*[Examples().x[: 32 if distributed.is_main() else 33]] * 2, batch_size=8)
    fit(model, shared, torch.optim.SGD(model.parameters(), lr=0.1), classification_loss, epochs=1)


def stream() -> None:
    model = nn.Linear(4, 2)
    Parts(DataLoader(Stream(), batch_size=2))
    fit(model, [], torch.optim.SGD(model.parameters(), lr=0.1), classification_loss, epochs=1)


def measure() -> dict:
    seed_everything(0)
    examples = Examples()
    return evaluate(plain_network(), Batches(examples.x, examples.y, batch_size=5))


class TestStopAndResume:
    @pytest.mark.parametrize("counts", [(2, 1), (1, 2), (2, 3), (2, 2)])
    def test_with_another_number_of_processes(self, tmp_path, counts):
        """Ctrl-C reaches one process only; all stop after the same step, and what was saved is for any number of them."""
        for number, count in enumerate(counts):
            loss = functools.partial(press_in_step, 6, count - 1) if number == 0 else classification_loss
            action = functools.partial(train, tmp_path / "run", loss=loss, resume=number == 1)
            results, words = together(tmp_path, action, count)
            if number == 0:
                assert results == [None] * count
                assert len(words) == 1 and "stopped by Ctrl-C after step 6" in words[0] and "--resume" in words[0]
                assert {file.name for file in (tmp_path / "run").iterdir()} == {"last.pt", "best.pt", ".lock"}
        assert_same_everywhere(results)
        assert_close(results[0], train())

    def test_as_many_processes_go_on_bit_for_bit(self, tmp_path):
        network = functools.partial(train, network=drawing_network)
        straight, _ = together(tmp_path, network)
        together(tmp_path, functools.partial(network, tmp_path / "run", loss=functools.partial(press_in_step, 7, 0)))
        resumed, _ = together(tmp_path, functools.partial(network, tmp_path / "run", resume=True))
        assert_same_everywhere([straight[0], *resumed])

    def test_what_is_saved_is_whole_for_everybody_at_once(self, tmp_path):
        results, words = together(tmp_path, functools.partial(save_and_read, tmp_path / "model.pt"))
        assert (results, words) == ([(7.0, 1), (7.0, 0)], [])  # process 0's, and it alone has written
        assert [file.name for file in tmp_path.glob("model*")] == ["model.pt"]


def save_and_read(path: Path) -> tuple[float, int]:
    written, real = [], os.fsync
    os.fsync = lambda file: (written.append(file), real(file))
    model = nn.Linear(1, 1)
    nn.init.constant_(model.bias, 7.0 + distributed.rank())  # process 0's is what counts
    checkpoint.save_model(path, model)
    checkpoint.load_model(path, model)
    return model.bias.item(), len(written)


class TestEnd:
    def seconds(self, tmp_path, action, **options):
        started = time.monotonic()
        results, words = together(tmp_path, action, **options)
        assert len(words) == 1 and "\n" not in words[0]
        assert not any(results)
        return time.monotonic() - started, words[0]

    @pytest.mark.parametrize("number", [0, 1])
    def test_process_that_dies_without_a_word(self, tmp_path, number):
        seconds, words = self.seconds(tmp_path, functools.partial(train, loss=functools.partial(die_in_step, number)))
        assert "another process of this run died" in words and "--resume" in words
        assert seconds < 20

    def test_process_that_says_why_is_the_only_one(self, tmp_path):
        _, words = self.seconds(tmp_path, complain, count=3)
        assert words == "the spoon is missing"

    def test_same_mishap_everywhere_is_told_once(self, tmp_path):
        _, words = self.seconds(tmp_path, complain_all)
        assert words == "no spoons here"

    def test_process_that_does_something_else_for_too_long(self, tmp_path):
        _, words = self.seconds(tmp_path, dawdle, patience=1)
        assert "did not answer for 1 s" in words

    def test_told_to_stop(self, tmp_path):
        _, words = self.seconds(tmp_path, told_to_stop)
        assert "told to stop" in words and "--resume" in words


def die_in_step(number: int, model, batch, count=itertools.count(1)):  # noqa: B008
    if next(count) == 3 and distributed.rank() == number:
        os._exit(3)
    return classification_loss(model, batch)


def complain() -> None:
    if distributed.rank() == 1:
        raise LessonError("the spoon is missing")
    distributed.total(1.0)


def complain_all() -> None:
    raise LessonError("no spoons here")


def dawdle() -> None:
    if distributed.rank() == 1:
        time.sleep(4)
    distributed.total(1.0)


def told_to_stop() -> None:
    signal.raise_signal(signal.SIGTERM)  # torchrun tells all of them
    distributed.meet()


class TestRun:
    def test_one_prints_draws_and_records(self, tmp_path, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path / "work"))
        together(tmp_path, run_lesson)
        written = sorted(file.name.partition(".tfevents")[0] for file in (tmp_path / "work").rglob("*.*") if file.is_file())
        assert written == ["events.out", "figure.png", "results.json"]
        (record,) = (tmp_path / "work").rglob("results.json")
        assert json.loads(record.read_text(encoding="utf-8"))["results"] == {"rank": 0}
        printed = (tmp_path / "printed0").read_text(encoding="utf-8")
        assert printed.startswith("hello\n") and "2 processes" in printed and "figure.png" in printed
        assert (tmp_path / "printed1").read_text(encoding="utf-8") == ""


def run_lesson() -> None:
    sys.argv = ["lesson.py"]
    lesson.run(report)


def report() -> dict[str, float]:
    """Leave traces of every kind."""
    print("hello")
    device.pick_device("cpu")
    save_figure(plt.figure(), __file__, "figure")
    tracker = tracking.start("tensorboard", paths.outputs("curves"))
    tracker.log({"loss": 1.0}, 0)
    tracker.figure("empty", plt.figure())
    tracker.close()
    return {"rank": distributed.rank()}


class TestDevice:
    @pytest.fixture
    def machine(self, monkeypatch):
        """Pretend to be process 1 of two, on a machine with so many GPUs."""

        def pretend(gpus: int, apple: bool = False):
            monkeypatch.setattr(distributed, "is_on", lambda: True)
            monkeypatch.setattr(distributed, "world_size", lambda: 2)
            monkeypatch.setenv("LOCAL_RANK", "1")
            monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
            monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
            monkeypatch.setattr(device, "describe", str)  # the real one would ask a GPU that is not there

        return pretend

    @pytest.mark.parametrize("name, gpus, apple, expected", [("auto", 2, False, "cuda:1"), ("cuda", 4, False, "cuda:1")])
    def test_each_takes_the_gpu_of_its_number(self, machine, name, gpus, apple, expected):
        machine(gpus, apple)
        assert device.pick_device(name) == torch.device(expected)

    @pytest.mark.parametrize("name, gpus, apple", [("auto", 0, False), ("auto", 0, True), ("cpu", 2, False)])
    def test_cpu(self, machine, name, gpus, apple):
        machine(gpus, apple)
        assert device.pick_device(name) == torch.device("cpu")

    @pytest.mark.parametrize(
        "name, gpus, apple, told",
        [
            ("cuda", 1, False, "more processes than GPUs .1.; use --nproc-per-node 1"),
            ("cuda:0", 2, False, "a GPU each"),
            ("mps", 0, True, "cannot share an Apple GPU"),
        ],
    )
    def test_what_cannot_be_is_one_sentence(self, machine, name, gpus, apple, told):
        machine(gpus, apple)
        with pytest.raises(LessonError, match=told):
            device.pick_device(name)

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs two NVIDIA GPUs")
    def test_nccl(self, tmp_path):
        results, words = together(tmp_path, on_gpus)
        assert words == [] and results == [[3.0, "cuda:0"], [3.0, "cuda:1"]]


def on_gpus() -> list:
    chosen = device.pick_device("cuda")
    number = torch.tensor(distributed.rank() + 1.0, device=chosen)
    dist.all_reduce(number)
    return [number.item(), str(chosen)]
