"""utils.lesson: the command line, the report, and errors in one sentence."""

import errno
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from utils import lesson, paths
from utils.lesson import LessonError, check, mention, run

ROOT = Path(__file__).resolve().parents[2]

LESSON = '''
"""A lesson."""
import os, sys, time
from utils.lesson import LessonError, check, mention, run

def main(steps: int = 3, lr: float = 0.5, name: str = "plain", loud: bool = False) -> dict[str, float]:
    """Do something.

    Args:
        steps: How many steps to walk.
        lr: How far each goes.
        name: What to do.
        loud: Say more.
    """
    if name == "complain":
        raise LessonError("the spoon is missing")
    if name == "bug":
        return {"value": 1 / 0}
    if name == "check":
        check(steps > 3, "too few steps")
    if name == "wait":
        print("ready", flush=True)
        time.sleep(60)
    if name == "endless":
        while True:
            print("line after line")
    if name == "korean":
        print("손실 → 0.5 ½")
    mention("data", "twelve numbers of our own")
    return {"steps": steps, "value": steps * lr}

if __name__ == "__main__":
    run(main)
'''


@pytest.fixture
def start(tmp_path):
    """Start the lesson above, as a reader would, in a process of its own."""
    file = tmp_path / "spoons.py"
    file.write_text(LESSON, encoding="utf-8")

    def popen(*arguments, python=(), environment=None, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8", **options}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        return subprocess.Popen([sys.executable, *python, str(file), *arguments], env=environment, **options)

    return popen


def finished(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def record(name="spoons", file="results.json"):
    return json.loads((Path(os.environ["STUDY_WORK_DIR"]) / "outputs" / name / file).read_text(encoding="utf-8"))


def main_for_tests(steps: int = 3, lr: float = 0.5) -> dict[str, float]:
    """Take a few steps.

    Args:
        steps: How many.
        lr: How far each goes.
    """
    return {"steps": steps, "way": steps * lr}


def run_here(monkeypatch, main, *arguments, **options):
    """Run a lesson in this process, as if `arguments` had been typed."""
    monkeypatch.setattr(sys, "argv", ["lesson.py", *arguments])
    run(main, **options)


def failing(error):
    def main() -> dict[str, float]:
        """Fail."""
        raise error

    return main


class TestCommandLine:
    def test_flags_change_the_arguments(self, start):
        code, out, err = finished(start("--steps", "5", "--lr", "0.25"))
        assert (code, err) == (0, "")
        assert "1.25" in out
        assert record()["arguments"] == {"steps": "5", "lr": "0.25", "name": "plain", "loud": "False"}

    def test_help_has_every_flag_with_its_sentence_and_default(self, monkeypatch, capsys):
        with pytest.raises(SystemExit) as stop:
            run_here(monkeypatch, main_for_tests, "--help")
        assert stop.value.code in (0, None)
        out = capsys.readouterr().out
        for expected in ("--steps", "How many.", "3", "--lr", "How far each goes.", "0.5", "Take a few steps."):
            assert expected in out

    @pytest.mark.parametrize("arguments", [("--stepz", "5"), ("--steps", "many"), ("--lr", "fast"), ("surplus",), ("--steps",)])
    def test_wrong_flag_ends_with_2_before_anything_is_done(self, monkeypatch, capsys, arguments):
        def main(steps: int = 3, lr: float = 0.5) -> dict[str, float]:
            """Never reached."""
            raise AssertionError("main was called")

        with pytest.raises(SystemExit) as stop:
            run_here(monkeypatch, main, *arguments)
        assert stop.value.code == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert arguments[0] in told

    def test_dashes_and_underscores_are_the_same_flag(self, monkeypatch, capsys):
        def main(batch_size: int = 3) -> dict[str, float]:
            """Say it."""
            return {"batch_size": batch_size}

        run_here(monkeypatch, main, "--batch-size", "77")
        assert "77" in capsys.readouterr().out

    def test_notebook_ignores_the_arguments_of_its_kernel(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
        run_here(monkeypatch, main_for_tests, "-f", "/run/user/kernel-1234.json", "--steps", "9")
        assert "1.5" in capsys.readouterr().out

    def test_notebook_shows_the_figures(self, monkeypatch, tmp_path):
        shown = []
        display = types.ModuleType("IPython.display")
        display.Image, display.display = lambda filename: filename, shown.append
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
        monkeypatch.setitem(sys.modules, "IPython.display", display)

        def main() -> None:
            """Write a figure and something else."""
            mention("written", "outputs/spoons/curve.png")
            mention("written", str(tmp_path / "curve.png"))
            mention("written", "models/spoons/model.pt")

        run_here(monkeypatch, main)
        assert shown == [paths.ROOT / "outputs/spoons/curve.png", tmp_path / "curve.png"]

    def test_notebook_shows_the_error_itself(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
        with pytest.raises(LessonError, match="the spoon"):
            run_here(monkeypatch, failing(LessonError("the spoon is missing")))


class TestReport:
    def test_prints_and_records_what_it_was_measured_on(self, start):
        code, out, _ = finished(start())
        assert code == 0
        assert "data     twelve numbers of our own" in out
        assert "value  1.5" in out
        assert "results.json" in out
        written = record()
        assert written["lesson"].endswith("spoons.py")
        assert written["data"] == ["twelve numbers of our own"]
        assert written["results"] == {"steps": 3, "value": 1.5}
        assert written["python"].count(".") == 2
        assert written["seconds"] >= 0

    def test_mentions_of_an_earlier_run_are_forgotten(self, monkeypatch, capsys):
        mention("data", "of the run before")
        run_here(monkeypatch, main_for_tests)
        assert "of the run before" not in capsys.readouterr().out
        assert record("test_lesson")["data"] == []

    def test_same_line_is_mentioned_once(self, monkeypatch, capsys):
        def main() -> dict[str, float]:
            """Load twice."""
            mention("data", "the same data")
            mention("data", "the same data")
            return {"loads": 2}

        run_here(monkeypatch, main)
        assert capsys.readouterr().out.count("the same data") == 1

    def test_nothing_to_report_is_fine(self, monkeypatch, capsys):
        def main() -> None:
            """Only print."""
            print("hello")

        run_here(monkeypatch, main)
        assert "hello" in capsys.readouterr().out
        assert not (paths.outputs("test_lesson") / "results.json").exists()

    def test_two_runs_at_once_leave_one_whole_file(self, start):
        both = [start("--steps", "4"), start("--steps", "5")]
        assert [finished(process)[0] for process in both] == [0, 0]
        written = record()
        assert written["results"]["value"] == int(written["arguments"]["steps"]) * 0.5
        assert [file.name for file in paths.outputs("spoons").iterdir()] == ["results.json"]

    def test_record_that_cannot_be_written_leaves_nothing_behind(self, monkeypatch, capsys):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device", "results.json")

        monkeypatch.setattr(lesson.os, "replace", full)
        with pytest.raises(SystemExit):
            run_here(monkeypatch, main_for_tests)
        assert list(paths.outputs("test_lesson").iterdir()) == []
        assert "disk is full" in capsys.readouterr().err

    def test_work_folder_moves(self, monkeypatch, tmp_path):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path / "공책 a"))
        run_here(monkeypatch, main_for_tests)
        assert (tmp_path / "공책 a" / "outputs" / "test_lesson" / "results.json").exists()

    def test_unusable_work_folder_is_told_before_the_work(self, monkeypatch, capsys, tmp_path):
        (tmp_path / "file").write_text("mine")
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path / "file"))

        def train() -> dict[str, float]:
            """Never reached."""
            raise AssertionError("main was called")

        with pytest.raises(SystemExit) as stop:
            run_here(monkeypatch, train)
        told = capsys.readouterr().err.strip()
        assert stop.value.code == 1
        assert len(told.splitlines()) == 1
        assert f"STUDY_WORK_DIR={tmp_path / 'file'}" in told

        def page() -> None:
            """Writes nothing, so that it may be shown from anywhere."""
            print("the page")

        run_here(monkeypatch, page)
        assert "the page" in capsys.readouterr().out

    @pytest.mark.parametrize("number, advice", [(errno.EROFS, "; set STUDY_WORK_DIR"), (errno.ENOSPC, "free some space, or set")])
    def test_project_that_cannot_be_written(self, monkeypatch, capsys, number, advice):
        def fail(folder):
            raise OSError(number, os.strerror(number), str(folder))

        monkeypatch.delenv("STUDY_WORK_DIR")
        monkeypatch.setattr(paths, "try_writing", fail)
        with pytest.raises(SystemExit):
            run_here(monkeypatch, failing(AssertionError("main was called")))
        told = capsys.readouterr().err.strip()
        assert len(told.splitlines()) == 1
        assert os.strerror(number) in told and advice in told and str(paths.ROOT) in told

    def test_project_is_recorded_under_its_own_name(self):
        assert paths.lesson_name(ROOT / "09_projects" / "project1_mnist" / "train.py") == "project1_mnist"
        assert paths.lesson_name(ROOT / "01_basics" / "autograd.py") == "autograd"


class TestThreads:
    @pytest.fixture(autouse=True)
    def _two_threads(self):
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(1)

    @pytest.mark.parametrize("all_cores, expected", [(False, 1), (True, 2)])
    def test_one_unless_all_cores(self, monkeypatch, all_cores, expected):
        def main() -> dict[str, float]:
            """Count the threads."""
            assert torch.get_num_threads() == expected
            return {"threads": torch.get_num_threads()}

        run_here(monkeypatch, main, all_cores=all_cores)


class TestErrors:
    def fails_with(self, monkeypatch, capsys, error, code=1):
        with pytest.raises(SystemExit) as stop:
            run_here(monkeypatch, failing(error))
        assert stop.value.code == code
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert len(told.strip().splitlines()) == 1
        return told

    def test_expected_failure_is_one_sentence(self, start):
        code, out, err = finished(start("--name", "complain"))
        assert (code, out) == (1, "")
        assert err.strip() == "error: the spoon is missing"

    def test_bug_shows_its_traceback(self, start):
        code, _, err = finished(start("--name", "bug"))
        assert code == 1
        assert "Traceback" in err and "1 / 0" in err and "ZeroDivisionError" in err

    def test_check_also_holds_under_O(self, start):
        code, _, err = finished(start("--name", "check", python=["-O"]))
        assert (code, err.strip()) == (1, "error: too few steps")

    def test_check(self):
        check(True, "fine")
        with pytest.raises(LessonError, match="^not fine$"):
            check(False, "not fine")

    @pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to the whole console, this test included")
    def test_ctrl_c_ends_with_130(self, start, ctrl_c):
        process = start("--name", "wait")
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        code, _, err = finished(process)
        assert code == 130
        assert "Ctrl-C" in err and "Traceback" not in err

    def test_ctrl_c_while_the_flags_are_read(self, monkeypatch, capsys):
        def pressed(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("tyro.cli", pressed)
        with pytest.raises(BaseException) as stop:  # a KeyboardInterrupt would end the tests
            run_here(monkeypatch, main_for_tests)
        assert isinstance(stop.value, SystemExit) and stop.value.code == 130
        assert "Ctrl-C" in capsys.readouterr().err

    def test_reader_who_has_seen_enough(self, start):
        process = start("--name", "endless")
        assert process.stdout.readline() == "line after line\n"
        process.stdout.close()  # as `| head -1` does
        err = process.stderr.read()
        assert process.wait(timeout=60) == 0 or os.name == "nt"
        process.stderr.close()
        assert "Traceback" not in err and "BrokenPipe" not in err

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
    @pytest.mark.parametrize("name", ["plain", "complain"])
    def test_output_onto_a_full_disk(self, start, name):
        with open("/dev/full", "w") as full:
            process = start("--name", name, stdout=full, environment={"PYTHONUNBUFFERED": ""})
            code, _, err = finished(process)
        assert code != 0
        assert "Traceback" not in err and "Exception ignored" not in err
        assert "disk is full" in err or "spoon" in err

    def test_console_that_cannot_print_korean(self, start):
        code, out, err = finished(start("--name", "korean", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}))
        assert (code, err) == (0, "")
        assert "?" in out and "0.5" in out

    def test_full_disk(self, monkeypatch, capsys):
        told = self.fails_with(monkeypatch, capsys, OSError(errno.ENOSPC, "No space left on device", "models/last.pt"))
        assert "disk is full" in told and "models/last.pt" in told

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
    def test_no_permission(self, monkeypatch, capsys, number):
        told = self.fails_with(monkeypatch, capsys, OSError(number, "no", "outputs/x"))
        assert "permission" in told and "outputs/x" in told and "STUDY_WORK_DIR" in told

    def test_missing_file(self, monkeypatch, capsys):
        told = self.fails_with(monkeypatch, capsys, FileNotFoundError(errno.ENOENT, "No such file or directory", "picture.png"))
        assert "No such file" in told and "picture.png" in told

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more lines"),
            RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 123 bytes."),
        ],
    )
    def test_out_of_memory(self, monkeypatch, capsys, error):
        told = self.fails_with(monkeypatch, capsys, error)
        assert "out of memory" in told and "--batch-size" in told

    @pytest.mark.parametrize("message", ["Unable to allocate 7.45 GiB for an array with shape (1000000000,)", ""])
    def test_memory_of_the_machine(self, monkeypatch, capsys, message):
        told = self.fails_with(monkeypatch, capsys, MemoryError(message))
        assert "not enough memory" in told and message in told

    def test_other_runtime_errors_are_bugs(self, monkeypatch):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            run_here(monkeypatch, failing(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)")))
