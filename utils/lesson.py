"""What every lesson and project starts with: a command line, a report at the end, errors in one sentence.

    def main(steps: int = 200, lr: float = 0.1) -> dict[str, float]: ...

    if __name__ == "__main__":
        run(main)

Nothing heavy is imported here: torch is the lesson's own import, tyro is loaded when a command line is read.
"""

import contextlib
import errno
import functools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from utils import paths

# How PyTorch says so on GPUs, on Linux and macOS, and on Windows.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_mentioned: dict[str, list[str]] = {}  # what the helpers reported during this run: data source, device, figures


class LessonError(Exception):
    """Something a reader can put right. `run` prints its message as one sentence, without a traceback."""


def check(condition: bool, message: str) -> None:
    """Raise LessonError(message) unless `condition` holds. Unlike `assert`, it also holds under `python -O`."""
    if not condition:
        raise LessonError(message)


def mention(topic: str, text: str) -> None:
    """Remember something for the report at the end of the run: what was loaded, where it ran, what was written.

    Args:
        topic: "data", "device" or "written".
        text: One line. The same line is kept once.
    """
    lines = _mentioned.setdefault(topic, [])
    if text not in lines:
        lines.append(text)


def run(main: Callable[..., dict[str, float] | None], all_cores: bool = False) -> None:
    """Run a lesson's `main` as a command, or as a notebook cell.

    The flags, their types, defaults and help come from main's signature and docstring (tyro). At the end the data source, the
    device, the results and the files written are printed, and recorded in outputs/<lesson>/results.json. Where torchrun started
    several processes, they join here (`utils.distributed`), and one of them reports.

    Args:
        main: The lesson; returns a flat dict of numbers, or None where there is nothing to report.
        all_cores: For long runs on large tensors: every core, and memory that is kept (`utils.device.keep_memory`). Without it
            PyTorch gets one thread: on small tensors, threads wait for one another longer than they work.
    """
    file = Path(main.__globals__.get("__file__") or "lesson")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that cannot print Korean shows "?" and goes on
    if "ipykernel" in sys.modules:
        _run(main, file, {}, all_cores)  # the arguments in sys.argv are the kernel's, not ours
        _show_figures()
        return

    os.environ.setdefault("MPLBACKEND", "Agg")  # figures go to files; no window, no screen needed
    try:
        arguments = _read_arguments(main, file)
        with _processes():
            _run(main, file, arguments, all_cores)
            sys.stdout.flush()
    except LessonError as error:
        _fail(str(error))
    except KeyboardInterrupt as error:
        _fail(str(error) or "stopped by Ctrl-C; nothing was saved that was not saved before", code=130)
    except BrokenPipeError:  # `... | head`: the reader has seen enough
        _discard_output()
    except OSError as error:
        _fail(explain(error))
    except MemoryError as error:
        detail = f" ({error})" if str(error) else ""
        _fail(f"there is not enough memory{detail}; close other programs, or try a smaller --batch-size")
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in OUT_OF_MEMORY):
            raise
        _fail(f"the device ran out of memory ({str(error).splitlines()[0]}); try a smaller --batch-size or --device cpu")


def _read_arguments(main: Callable, file: Path) -> dict:
    """What was typed, as main's arguments; ends the program after --help and where a flag is wrong."""
    import tyro

    @functools.wraps(main)  # tyro reads main's signature and docstring through it
    def parsed(**arguments):
        return arguments

    with contextlib.nullcontext() if _reports() else silence(errors=True):
        return tyro.cli(parsed, prog=f"python -m study run {_command(file)}")


def explain(error: OSError) -> str:
    """One sentence for an operating-system error: which file, what happened, what to do."""
    where = f" {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full; could not write{where}; what was there before is untouched: free some space and run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to read or write{where}; set STUDY_WORK_DIR to a folder of your own to write there instead"
    return f"{error.strerror or error}{where}"


def _in_company() -> bool:
    """Whether torchrun started this process, as one of several; then it says so in the environment."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "MASTER_ADDR" in os.environ


def _reports() -> bool:
    return not _in_company() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def silence(errors: bool = False) -> Iterator[None]:
    """Let what is printed inside vanish, and what goes to standard error as well if `errors`."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        with contextlib.redirect_stderr(nowhere) if errors else contextlib.nullcontext():
            yield


def _processes() -> contextlib.AbstractContextManager:
    if not _in_company():
        return contextlib.nullcontext()
    from utils import distributed  # needs torch

    return distributed.processes()


def _run(main: Callable, file: Path, arguments: dict, all_cores: bool) -> None:
    """Call main, then print and record what came out."""
    _mentioned.clear()
    if main.__annotations__.get("return", dict) is not None:  # one that returns nothing records nothing: a page, a conversation
        _check_work_folder(paths.lesson_name(file))
    _prepare_torch(all_cores)
    started = time.perf_counter()
    results = main(**arguments)
    seconds = time.perf_counter() - started

    print()
    for topic in ("data", "device"):
        for line in _mentioned.get(topic, []):
            print(f"{topic:8} {line}")
    if results:
        width = max(len(name) for name in results)
        for name, value in results.items():
            print(f"{'result':8} {name:{width}}  {_format(value)}")
    print(f"{'time':8} {seconds:.1f} s")
    if results and _reports():
        mention("written", paths.short(_record(file, arguments, results, seconds)))
    for line in _mentioned.get("written", []):
        print(f"{'written':8} {line}")


def _check_work_folder(name: str) -> None:
    """Raise LessonError where the run could not write its results: told now, not after minutes of training."""
    try:
        paths.try_writing(paths.work_folder() / "outputs" / name)
    except OSError as error:
        reason = error.strerror or error
        if os.environ.get("STUDY_WORK_DIR"):
            folder = os.environ["STUDY_WORK_DIR"]
            raise LessonError(f"nothing can be written to STUDY_WORK_DIR={folder} ({reason}); set it to another folder") from None
        advice = "free some space, or set" if error.errno == errno.ENOSPC else "set"
        place = paths.ROOT / "outputs"
        raise LessonError(f"nothing can be written to {place} ({reason}); {advice} STUDY_WORK_DIR to another folder") from None


def _show_figures() -> None:
    """In a notebook: the figures that were saved, below the cell."""
    figures = [line for line in _mentioned.get("written", []) if line.endswith(".png")]
    if figures:
        from IPython.display import Image, display

        for figure in figures:
            display(Image(filename=paths.ROOT / figure))  # where outputs/ is elsewhere, the path is absolute and stays so


def _prepare_torch(all_cores: bool) -> None:
    torch = sys.modules.get("torch")  # a lesson that does not use torch need not wait for it
    if torch is None:
        return
    if all_cores:
        from utils.device import keep_memory

        keep_memory()
    else:
        torch.set_num_threads(1)


def _format(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.4g}"


def _command(file: Path) -> str:
    """What follows `study run`: "autograd", "project1_mnist", "project1_mnist/predict"."""
    name = paths.lesson_name(file)
    return name if file.stem in ("train", name) else f"{name}/{file.stem}"


def _record(file: Path, arguments: dict, results: dict[str, float], seconds: float) -> Path:
    """Write outputs/<lesson>/results.json: the numbers together with what they were measured on."""
    torch = sys.modules.get("torch")
    record = {
        "lesson": paths.short(file),
        "arguments": {name: str(value) for name, value in arguments.items()},
        "data": _mentioned.get("data", []),
        "device": _mentioned.get("device", []),
        "results": results,
        "seconds": round(seconds, 2),
        "python": platform.python_version(),
        "torch": getattr(torch, "__version__", None),
        "system": f"{platform.system()} {platform.machine()}",
    }
    name = f"{file.stem}_results" if "/" in _command(file) else "results"
    target = paths.outputs(paths.lesson_name(file)) / f"{name}.json"
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")  # two runs at once do not meet in one file
    try:
        unfinished.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _discard_output() -> None:
    """Let what is still to be printed vanish: nobody reads it any more, and Python would complain about that at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int = 1) -> None:
    try:
        sys.stdout.flush()
    except OSError:  # standard output goes to a full disk, or to nobody
        _discard_output()
    print(f"\nerror: {message}", file=sys.stderr)
    sys.exit(code)
