"""Where the tensors live and the arithmetic is done."""

import contextlib
import ctypes
import os
import platform
from pathlib import Path

import torch

from utils import distributed
from utils.lesson import LessonError, check, mention


def pick_device(name: str = "auto") -> torch.device:
    """Turn a --device flag into a device that is really there. Of several processes each gets a GPU of its own.

    Args:
        name: "auto" (CUDA, else MPS, else CPU), or "cpu", "cuda", "cuda:1", "mps".

    Raises:
        LessonError: The device asked for is not there, or the name is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if name == "mps" and distributed.is_on():
            name = "cpu"  # an Apple GPU cannot be shared out
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LessonError(f"--device {name}: no such device; choose auto, cpu, cuda or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise LessonError(f"--device {name}: the course runs on cpu, cuda and mps; choose one of them, or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        why = "this PyTorch was built without CUDA" if torch.version.cuda is None else "no NVIDIA GPU or driver was found"
        raise LessonError(f"--device {name}: {why}; use --device cpu, or see 'GPU' in README.md")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LessonError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise LessonError(f"--device {name}: MPS needs a Mac with an Apple chip; use --device cpu")
    if distributed.is_on():
        device = _of_this_process(device)
        mention("device", f"{distributed.world_size()} processes, of which this is the first one's:")
    mention("device", describe(device))
    return device


def _of_this_process(device: torch.device) -> torch.device:
    """The device of one of several processes: on every machine torchrun counts them in LOCAL_RANK."""
    check(device.type != "mps", "--device mps: several processes cannot share an Apple GPU; use --device cpu")
    if device.type == "cuda":
        check(device.index is None, f"--device {device}: several processes take a GPU each; use --device cuda")
        number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        check(number < gpus, f"--device cuda: there are more processes than GPUs ({gpus}); use --nproc-per-node {gpus}")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)  # for what asks for "the" GPU: NCCL, pinned memory
    return device


def describe(device: torch.device) -> str:
    """One line about a device, for a result's report: "cpu (AMD EPYC, 2 threads)"."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    if device.type == "mps":
        return f"mps ({platform.processor() or 'Apple'} GPU)"
    return f"cpu ({_cpu_name()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)})"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux; elsewhere platform.processor() knows
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, and does not only imitate them."""
    if device.type == "cpu":
        return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, on_cpu: bool = False) -> contextlib.AbstractContextManager:
    """Mixed precision where it helps: bfloat16 on devices that compute in it, nothing elsewhere.

    bfloat16 has the range of float32, so no loss scaling is needed.

    Args:
        device: Where the arithmetic is done.
        on_cpu: On a CPU too, if it has bfloat16. Large convolutions then take about half the time
            (03_training/speed_and_memory.py measures that). Off, a lesson's numbers are alike on all CPUs.
    """
    if has_bfloat16(device) and (device.type != "cpu" or on_cpu):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def keep_memory() -> None:
    """Let this process keep the memory that tensors give back, for the tensors of the next step. Linux with glibc only.

    By default glibc returns each large block to the system, and the system fills it with zeros, page by page, before it is used
    again. The price: the process stays as large as it has ever been. See mallopt(3).
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
        library = ctypes.CDLL(None)
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)
