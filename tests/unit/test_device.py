"""utils.device: a device that is there, or a sentence about why not."""

import contextlib
import platform
import subprocess
import sys

import pytest
import torch

from utils import device, lesson, paths
from utils.device import autocast, describe, pick_device
from utils.lesson import LessonError

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
needs_mps = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs a Mac with an Apple chip")


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many NVIDIA GPUs, an Apple GPU, a PyTorch built with CUDA."""

    def pretend(gpus: int = 0, apple: bool = False, built_with_cuda: bool = True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
        monkeypatch.setattr(torch.version, "cuda", "13.0" if built_with_cuda else None)
        monkeypatch.setattr("utils.device.describe", str)  # the real one would ask a GPU that is not there

    return pretend


class TestPickDevice:
    def test_cpu_is_always_there(self):
        assert pick_device("cpu") == torch.device("cpu")

    @pytest.mark.parametrize(
        "gpus, apple, expected", [(2, False, "cuda"), (1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
    )
    def test_auto_takes_the_best(self, machine, gpus, apple, expected):
        machine(gpus=gpus, apple=apple)
        assert pick_device("auto").type == expected

    @pytest.mark.parametrize(
        "name, gpus, built, told",
        [
            ("cuda", 0, False, "built without CUDA"),
            ("cuda", 0, True, "no NVIDIA GPU or driver"),
            ("cuda:2", 2, True, "there are 2 GPUs"),
            ("mps", 0, True, "Apple chip"),
            ("gpu", 0, True, "no such device"),
            ("", 0, True, "no such device"),
            ("cuda:first", 1, True, "no such device"),
            ("meta", 0, True, "cpu, cuda and mps"),
            ("xpu", 0, True, "cpu, cuda and mps"),
        ],
    )
    def test_what_is_not_there_is_told_in_one_sentence(self, machine, name, gpus, built, told):
        machine(gpus=gpus, built_with_cuda=built)
        with pytest.raises(LessonError, match=told) as error:
            pick_device(name)
        assert "\n" not in str(error.value)
        assert f"--device {name}" in str(error.value)

    def test_second_gpu(self, machine):
        machine(gpus=2)
        assert pick_device("cuda:1") == torch.device("cuda", 1)

    def test_goes_into_the_report(self, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        pick_device("cpu")
        assert lesson._mentioned["device"][0].startswith("cpu (")

    @needs_cuda
    def test_cuda(self):
        assert torch.ones(1, device=pick_device("cuda")).item() == 1
        assert "GiB" in describe(torch.device("cuda"))

    @needs_mps
    def test_mps(self):
        assert torch.ones(1, device=pick_device("mps")).item() == 1
        assert describe(torch.device("mps")).startswith("mps")


class TestDescribe:
    def test_threads_are_named(self):
        assert describe(torch.device("cpu")).endswith(", 1 thread)")


class TestAutocast:
    def test_cpu_computes_in_float32(self):
        assert isinstance(autocast(torch.device("cpu")), contextlib.nullcontext)
        with autocast(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

    @pytest.mark.parametrize("has_it, expected", [(True, torch.bfloat16), (False, torch.float32)])
    def test_cpu_computes_in_bfloat16_where_it_can_if_asked(self, monkeypatch, has_it, expected):
        monkeypatch.setattr(device, "has_bfloat16", lambda _: has_it)
        with autocast(torch.device("cpu"), on_cpu=True):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected

    @needs_cuda
    def test_cuda_computes_in_bfloat16_where_it_can(self):
        expected = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        ones = torch.ones(2, 2, device="cuda")
        with autocast(torch.device("cuda")):
            assert (ones @ ones).dtype == expected


class TestKeepMemory:
    # How many pages the system had to find for 20 tensors of 32 MiB, one after the other, after 20 others: before and after.
    COUNT_FAULTS = """
import resource, torch
from utils.device import keep_memory

def print_faults():
    counts = []
    for _ in range(40):
        torch.ones(8 * 2**20)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print(counts[-1] - counts[19])

print_faults()
keep_memory()
print_faults()
"""

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to")
    def test_memory_is_used_again(self):
        command = [sys.executable, "-c", self.COUNT_FAULTS]
        done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, encoding="utf-8", check=True)
        before, after = map(int, done.stdout.split())
        assert 5 * after < before

    @pytest.mark.skipif(platform.libc_ver()[0] == "glibc", reason="for systems without glibc")
    def test_other_systems_are_left_alone(self):
        device.keep_memory()
