"""Distributed training: the sums are right, several processes are one, and under torchrun a project needs no change."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import lesson, processes
from torch.utils.data import DistributedSampler

from project1_mnist import train
from project1_mnist.model import Net
from utils import checkpoint, distributed, paths
from utils.lesson import LessonError

ROOT = Path(__file__).resolve().parents[1]
DEALT_OUT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE")
SETTINGS = {"source": "sample", "epochs": 15, "lr": 0.1, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def training():
    return lesson("03_training/distributed_training")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Where there is a fork server it imports torch once for all processes; the lesson itself starts new ones everywhere."""
    if sys.platform == "linux":
        context = processes()
        start = distributed.start
        monkeypatch.setattr(distributed.multiprocessing, "get_context", lambda _: context)
        monkeypatch.setattr(distributed, "start", lambda count, *work: start(count, in_our_environment, dict(os.environ), *work))


def in_our_environment(environment: dict[str, str], work, *arguments):
    """A fork server has the environment that it was started in."""
    os.environ |= {name: value for name, value in environment.items() if name not in DEALT_OUT}
    return work(*arguments)


@pytest.fixture(scope="module")
def results(training, tmp_path_factory):
    """What the whole lesson returns, with two processes of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        quickly.__wrapped__(patch)
        return training.main(processes=2, **SETTINGS)


def in_group(work, *arguments):
    with distributed.processes():
        return work(*arguments)


def ring_of_ranks(size: int) -> list[float]:
    return lesson("03_training/distributed_training").ring_all_reduce(torch.arange(float(size)) + 100 * dist.get_rank()).tolist()


class TestByHand:
    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_ring_sums_over_all(self, count):
        for found in distributed.start(count, in_group, ring_of_ranks, 7):
            assert found == [count * i + 100 * sum(range(count)) for i in range(7)]

    def test_gradients_are_those_of_the_whole_batch(self, results):
        assert results["ring_difference"] < 1e-12
        assert results["hand_error"] < 1e-13 and results["ddp_error"] < 1e-13
        assert 0.01 < results["unweighted_error"] < 0.2

    def test_sampler_deals_out_everything(self, results):
        assert (results["missing"], results["repeated"]) == (0, 1)  # 101 examples for two
        assert results["places"] < 10 and results["forgotten_places"] == 51
        sampler = [list(DistributedSampler(range(100), num_replicas=4, rank=rank)) for rank in range(4)]
        assert sorted(sum(sampler, [])) == list(range(100))


class TestLearning:
    def test_reads_digits_as_one_process_does(self, results):
        assert results["accuracy"] > results["baseline_accuracy"] + 0.02 > 0.85
        assert results["from_one_process"] < 1e-10 and results["from_process_0"] == 0
        assert results["from_no_break"] < 1e-10

    def test_death_is_noticed(self, results):
        assert results["seconds_to_notice"] < 10

    def test_check_notices_a_network_that_learned_nothing(self, training):
        with pytest.raises(LessonError, match="more --epochs"):
            training.main(processes=2, **{**SETTINGS, "epochs": 2, "lr": 1e-6})

    @pytest.mark.parametrize("wrong", [{"processes": 1}, {"epochs": 1}])
    def test_too_few(self, training, wrong):
        with pytest.raises(LessonError, match="at least 2"):
            training.main(**{"processes": 2, **SETTINGS, **wrong})


@pytest.fixture
def torchrun():
    """Start a program under torchrun, as a reader would; it ends with the test at the latest."""
    started = []

    def popen(file: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", file, *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / '09_projects'}", "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
        return started[-1]

    yield popen
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow  # each imports torch in three processes
class TestTorchrun:
    def test_lesson(self, torchrun):
        flags = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
        out, err = (process := torchrun("03_training/distributed_training.py", *flags)).communicate(timeout=200)
        assert process.returncode == 0, err
        found = dict(re.findall(r"^result   (\w+) +(\S+)$", out, re.MULTILINE))
        assert float(found["ddp_error"]) < 1e-13 and float(found["from_one_process"]) < 1e-10
        assert float(found["from_no_break"]) < 1e-10 and "gone on with 2" in out
        assert float(found["accuracy"]) > 0.86
        assert out.count("1. process 0 of 2") == 1  # one of them prints

    def test_project_needs_no_change(self, torchrun):
        process = torchrun("09_projects/project1_mnist/train.py", *"--source sample --epochs 6 --device cpu --no-figures".split())
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        found = dict(re.findall(r"^result   (\w+) +(\S+)$", out, re.MULTILINE))
        assert float(found["accuracy"]) > 0.94 and out.count("epoch 6/6") == 1 and "2 processes" in out
        about = checkpoint.load_model(paths.models("project1_mnist") / "model.pt", Net())
        assert about["accuracy"] == pytest.approx(float(found["accuracy_without_tta"]), abs=1e-3)

    @pytest.mark.skipif(os.name == "nt", reason="finds torchrun's processes with ps")
    def test_project_with_a_process_killed_ends_at_once_and_goes_on_with_one(self, torchrun):
        flags = "--source sample --preset fast --epochs 6 --batch-size 16 --device cpu --no-figures"
        process = torchrun("09_projects/project1_mnist/train.py", *flags.split())
        stop = threading.Timer(200, process.kill)
        stop.start()
        for line in process.stdout:
            if line.startswith("epoch 1/6"):
                break
        stop.cancel()
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(listed[-1]), signal.SIGKILL)
        started = time.monotonic()
        _, err = process.communicate(timeout=100)
        assert process.returncode != 0 and time.monotonic() - started < 60  # torch takes seconds to leave on a busy machine
        words = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(words) == 1 and "another process of this run died" in words[0] and "--resume" in words[0]

        found = train.main(
            source="sample", preset="fast", epochs=6, batch_size=16, lr=None, images=None, seed=0, device="cpu",
            resume=True, figures=False,
        )  # fmt: skip
        assert found["accuracy"] > 0.94
