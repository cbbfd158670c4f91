"""Run a program as `python PROGRAM FLAGS` would, except that Ctrl-C ends it in one line at any time.

    python study/start.py PROGRAM FLAGS

A lesson sees to that itself once its own code runs. Before, it imports torch, for seconds: what goes wrong there is told here.
"""

import sys
from pathlib import Path
from types import ModuleType, TracebackType

NO_MEMORY = ("failed to map segment", "cannot allocate memory", "paging file is too small")  # Linux, Linux, Windows


def main(file: str) -> None:
    """Run a program. Its command line stands in sys.argv, its folder takes the place of ours in sys.path."""
    if sys.path[0] == str(Path(__file__).parent):  # it is not there under PYTHONSAFEPATH
        sys.path[0] = str(Path(file).parent)
    sys.excepthook = tell
    program = sys.modules["__main__"] = ModuleType("__main__")
    program.__file__ = file
    try:
        exec(compile(Path(file).read_bytes(), file, "exec"), program.__dict__)
    except KeyboardInterrupt:
        say_in_one_line("stopped by Ctrl-C", "Ctrl-C로 중단했습니다")
        sys.exit(130)


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error as Python does, without the frames that are ours; too little memory for PyTorch is one sentence."""
    if isinstance(error, ImportError | OSError) and any(words in str(error).lower() for words in NO_MEMORY):
        reason = str(error).splitlines()[0]
        say_in_one_line(
            f"not enough memory to load PyTorch ({reason}); close other programs, or lift the limit: ulimit -v unlimited",
            f"PyTorch를 불러올 메모리가 모자랍니다({reason}). 다른 프로그램을 닫거나 제한을 푸세요: ulimit -v unlimited",
        )
        return
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def say_in_one_line(english: str, korean: str) -> None:
    from study.messages import say  # only now: nothing of the companion is loaded where all goes well

    print(f"\nstudy: {say(english, korean)}", file=sys.stderr)


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    main(sys.argv[0])
