"""Starting other programs, so that Ctrl-C and exit codes behave as if there were no companion in between."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def child_environment(root: Path) -> dict[str, str]:
    """The environment variables for lessons and tests: `utils` and the projects can be imported, text is UTF-8."""
    paths = [str(root), str(root / "09_projects"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def program(python: Path, file: Path, flags: list[str]) -> list[str]:
    """The command that runs a lesson, a part of a project or a benchmark: as `python FILE FLAGS`, but see start.py."""
    return [str(python), str(Path(__file__).with_name("start.py")), str(file), *flags]


def call(command: list[str], **options) -> int:
    """Run `command`, wait for it and return its exit code; `options` are those of subprocess.Popen.

    Raises:
        KeyboardInterrupt: Ctrl-C came. It has reached the child as well, and the child has ended.
    """
    code, interrupted = _run(command, **options)
    if interrupted:
        raise KeyboardInterrupt
    return code


def hand_over(command: list[str], environment: dict[str, str]) -> int:
    """Let `command` go on in this process's place: signals, output and exit code are its own.

    Windows cannot replace a process; there we wait beside it and return its exit code.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(command[0], command, environment)
    return _run(command, env=environment)[0]


def _run(command: list[str], **options) -> tuple[int, bool]:
    """Run to the end, also when Ctrl-C comes: the terminal sends it to the child too, which decides what it means.

    Here it is only noted. As a KeyboardInterrupt it could come just when the child's exit code has arrived, and lose it.
    """
    pressed: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # a job in the background ignores Ctrl-C, and so does its child
        signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        return subprocess.Popen(command, **options).wait(), bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
