"""Lessons and tests run as if there were no companion in between: flags, exit codes, Ctrl-C."""

import os
import runpy
import signal
import subprocess
import sys
import time

import pytest
from companion.conftest import ROOT, plain_environment, write_project

from study import processes

posix = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT, which Windows does not have")

ENDS_WITH_7_ON_CTRL_C = """\
import sys, time
try:
    print("here", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("saved", flush=True)
    sys.exit(7)
"""

# What a lesson is told about itself, that it shares no names with the companion, and that processes of its own find it.
AS_PYTHON_WOULD = """\
import multiprocessing
import sys
def square(x):
    return x * x
if __name__ == "__main__":
    print(sys.argv)
    print(sys.path[0])
    print(sys.modules["__main__"].square.__module__, __spec__)
    print(sorted(set(globals()) - {"multiprocessing", "sys", "square"} - {name for name in globals() if name.startswith("__")}))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(square, (4,)))
"""

AS_ON_WINDOWS = """\
import os, sys
from study.processes import hand_over
os.name = "nt"
sys.exit(hand_over(sys.argv[1:], os.environ))
"""

IGNORES_CTRL_C = """\
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(0.4)
pathlib.Path(sys.argv[1]).touch()
"""


def test_flags_go_through_untouched(study):
    flags = ["--help", "-h", "--lr", "0.1", "--", "--cpu", "", "a b", "한글"]
    assert f"arguments {flags}" in study("run", "autograd", *flags).stdout


@pytest.mark.parametrize("code", [0, 77])
def test_exit_code_comes_back(study, code):
    assert study("run", "mnist", EXIT_WITH=str(code)).returncode == code


def test_variables_of_the_child(study, project):
    lines = study("run", "autograd", PYTHONPATH="mine", PYTHONUTF8="0").stdout.splitlines()
    assert "utf8 1" in lines
    assert f"path {os.pathsep.join([str(project), str(project / '09_projects'), 'mine'])}" in lines


def test_unknown_lesson(here):
    result = here("run", "autogard")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.strip() == 'study: there is no "autogard"; did you mean autograd?'


def test_exercises_are_checked_not_run(here):
    result = here("run", "01_basics/exercises.py")
    assert result.returncode == 2
    assert "-m study check 01" in result.stderr


def test_a_lesson_in_place_of_a_command(here):
    result = here("autograd")
    assert result.returncode == 2
    assert "-m study run autograd" in result.stderr


def test_a_misspelt_command(here):
    assert "did you mean doctor" in here("docter").stderr


class TestOptionsInKorean:
    @pytest.mark.parametrize(
        "arguments, told",
        [
            (["run"], "빠진 인자: NAME"),
            (["next", "--foo"], "알 수 없는 인자: --foo"),
            (["setup", "--extra"], "--extra: 값을 하나 주어야 합니다"),
            (["tick"], "빠진 인자: NAME"),
            (["note", "weekl"], "고를 수 있는 값"),
            (["note"], "빠진 인자: KIND\n"),
            (["setup", "--cpu=3"], "값을 받지 않는 옵션입니다: '3'"),
        ],
    )
    def test_errors(self, here, monkeypatch, capsys, arguments, told):
        monkeypatch.setenv("STUDY_LANG", "ko")
        with pytest.raises(SystemExit) as stop:
            here(*arguments)
        assert stop.value.code == 2
        errors = capsys.readouterr().err
        assert errors.startswith("사용법: ") and told in errors and ": 오류: " in errors
        assert "usage" not in errors and "error:" not in errors  # Python 3.10 says "argument --extra: ..." without asking gettext

    def test_help(self, here, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_LANG", "ko")
        with pytest.raises(SystemExit):
            here("note", "--help")
        output = capsys.readouterr().out
        assert "사용법: " in output and "인자:" in output and "옵션:" in output and "이 도움말을" in output

    def test_english_stays(self, here, capsys):
        with pytest.raises(SystemExit):
            here("run")
        assert "usage: " in (errors := capsys.readouterr().err) and "error: the following arguments are required: NAME" in errors


def test_run_without_a_name_and_its_help(study):
    assert study("run").returncode == 2
    assert "NAME" in study("run", "--help").stdout


@posix
def test_ctrl_c_is_the_lessons_own(project):
    (project / "01_basics" / "autograd.py").write_text(ENDS_WITH_7_ON_CTRL_C, encoding="utf-8")
    command = [sys.executable, "-m", "study", "run", "autograd"]
    with subprocess.Popen(command, cwd=project, env=plain_environment(), stdout=-1, stderr=-1, encoding="utf-8") as child:
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=20)
    assert (child.returncode, output) == (7, "saved\n")
    assert "Traceback" not in errors


@posix
@pytest.mark.parametrize("command", ["run", "bench"])
def test_ctrl_c_while_the_lesson_imports(project, command):
    (project / "benchmarks").mkdir()
    for folder in ("01_basics", "benchmarks"):
        (project / folder / "autograd.py").write_text('"""A"""\nimport time\nprint("here", flush=True)\ntime.sleep(30)\n')
    command = [sys.executable, "-m", "study", command, "autograd"]
    with subprocess.Popen(command, cwd=project, env=plain_environment(), stdout=-1, stderr=-1, encoding="utf-8") as child:
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=20)
    assert child.returncode == 130
    assert errors.endswith("\n\nstudy: stopped by Ctrl-C\n") and "Traceback" not in errors


def test_a_lesson_finds_itself_as_python_would_have_it(study, project):
    (project / "01_basics" / "autograd.py").write_text(AS_PYTHON_WOULD, encoding="utf-8")
    result = study("run", "autograd", "--lr", "1")
    assert result.returncode == 0, result.stderr
    file = project / "01_basics" / "autograd.py"
    assert result.stdout.splitlines() == [f"{[str(file), '--lr', '1']}", str(file.parent), "__main__ None", "[]", "16"]


def test_a_bug_is_shown_without_the_companion(study, project):
    (project / "01_basics" / "autograd.py").write_text("def main():\n    return 1 / 0\n\n\nmain()\n", encoding="utf-8")
    result = study("run", "autograd")
    assert result.returncode == 1
    assert "return 1 / 0" in result.stderr and "ZeroDivisionError" in result.stderr
    assert "start.py" not in result.stderr and result.stderr.count("File ") == 2
    (project / "01_basics" / "autograd.py").write_text("def main(:\n", encoding="utf-8")
    result = study("run", "autograd")
    assert "SyntaxError" in result.stderr and "start.py" not in result.stderr


def test_too_little_memory_for_torch(study, project):
    raised = 'raise ImportError("libtorch_cpu.so: failed to map segment from shared object")\n'
    (project / "01_basics" / "autograd.py").write_text(raised, encoding="utf-8")
    result = study("run", "autograd")
    assert result.returncode == 1
    told = result.stderr.strip().splitlines()[-1]
    assert told.startswith("study: not enough memory to load PyTorch (libtorch_cpu.so: failed to map")
    assert "Traceback" not in result.stderr


@posix
def test_ctrl_c_where_a_process_cannot_be_replaced(tmp_path):
    """As on Windows: the terminal sends it to both, the companion waits and returns the lesson's exit code."""
    lesson = tmp_path / "lesson.py"
    lesson.write_text(ENDS_WITH_7_ON_CTRL_C, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", AS_ON_WINDOWS, sys.executable, str(lesson)],
        cwd=ROOT,
        env=plain_environment(),
        stdout=-1,
        stderr=-1,
        encoding="utf-8",
        start_new_session=True,
    ) as child:
        assert child.stdout.readline() == "here\n"
        os.killpg(child.pid, signal.SIGINT)
        output, errors = child.communicate(timeout=20)
    assert (child.returncode, output, errors) == (7, "saved\n", "")


@posix
def test_call_waits_for_the_child_and_then_reports_ctrl_c(tmp_path):
    done = tmp_path / "done"
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(KeyboardInterrupt):
        processes.call([sys.executable, "-c", IGNORES_CTRL_C, str(done)])
    assert done.exists()


def test_pytest_flags_go_through(study):
    result = study("test", "-q", "-k", "double", "tests/exercises")
    assert result.returncode == 0
    assert "1 passed" in result.stdout
    assert study("test", "-k", "nothing_is_called_so").returncode == 5


def test_whole_suite_runs_in_two_processes(study, project):
    (project / "tests" / "test_two.py").write_text(
        "import os\n\n\ndef test_worker():\n    assert os.environ['PYTEST_XDIST_WORKER_COUNT'] == '2'\n", encoding="utf-8"
    )
    result = study("test")
    assert "2 workers" in result.stdout, result.stdout + result.stderr
    assert study("test", "tests/test_two.py").returncode == 1  # one file needs no second process
    option = "def pytest_addoption(parser):\n    parser.addoption('--slow', action='store_true')\n"
    (project / "tests" / "conftest.py").write_text(option, encoding="utf-8")
    assert "2 workers" in study("test", "--slow").stdout


def test_root_with_spaces_and_hangul(tmp_path):
    root = write_project(tmp_path / "내 공부 폴더 (1)")
    result = subprocess.run(
        [sys.executable, "-m", "study", "run", "autograd"],
        cwd=root,
        env=plain_environment(),
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    assert str(root / "01_basics" / "autograd.py") in result.stdout


def test_the_companion_itself_starts_quickly(study):
    study("next")
    started = time.perf_counter()
    study("next")
    assert time.perf_counter() - started < 3  # a tenth of a second on a quiet machine; torch alone would take two


class TestOldPython:
    """__main__.py is all that an old Python reads: it must parse it."""

    def test_one_sentence(self, monkeypatch):
        monkeypatch.setattr(sys, "version_info", (3, 8, 18))
        with pytest.raises(SystemExit, match="needs Python 3.10 or newer, this is 3.8"):
            runpy.run_path(str(ROOT / "study" / "__main__.py"), run_name="__main__")

    @pytest.mark.parametrize("file", ["__main__.py", "__init__.py"])
    def test_nothing_that_an_old_python_cannot_parse(self, file):
        import ast

        source = (ROOT / "study" / file).read_bytes()
        source.decode("ascii")
        new = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match, ast.AsyncFunctionDef, ast.Starred)
        nodes = list(ast.walk(ast.parse(source, feature_version=(3, 4))))
        assert not [node for node in nodes if isinstance(node, new)]
