"""watch: what is saved runs again, what a run writes does not, and nothing hangs."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from companion.conftest import plain_environment

from study import cli, watching

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals, which Windows does not have")

LESSON = "import sys\nprint('run {number}', sys.argv[1:], flush=True)\n"
SLOW = "import time\nprint('begun', flush=True)\ntime.sleep(60)\nprint('never', flush=True)\n"
WRITES = """\
from pathlib import Path
for folder in ("outputs/autograd", "01_basics", "utils/__pycache__"):
    Path(folder).mkdir(parents=True, exist_ok=True)
Path("outputs/autograd/figure.png").write_bytes(b"")
Path("01_basics/notes.txt").write_text("mine")
Path("utils/__pycache__/new.pyc").write_bytes(b"")
print("wrote", flush=True)
"""
WAITING = "waiting for"


class Watch:
    """A `study watch` that runs, and what it prints, line by line."""

    def __init__(self, project: Path, *arguments: str):
        self.project = project
        command = [sys.executable, "-m", "study", "watch", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=project,
            env=plain_environment(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=os.name == "posix",
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [self.lines.put(line.rstrip()) for line in self.process.stdout], daemon=True).start()

    def until(self, text: str, seconds: float = 60) -> list[str]:
        """The lines up to the one in which `text` stands."""
        seen, end = [], time.monotonic() + seconds
        while not seen or text not in seen[-1]:
            try:
                seen.append(self.lines.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                pytest.fail(f"{text!r} did not come; these did: {seen}")
        return seen

    def is_quiet(self, seconds: float = 1.0) -> bool:
        time.sleep(seconds)
        return self.lines.empty()

    def ctrl_c(self) -> int:
        """As a terminal does: to the companion and to what it runs."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(20)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def watch(project):
    started = []

    def start(*arguments: str) -> Watch:
        started.append(Watch(project, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def save(project):
    def write(text: str, name: str = "01_basics/autograd.py") -> None:
        (project / name).write_text(text, encoding="utf-8")

    return write


class TestLesson:
    def test_runs_now_and_after_every_save(self, watch, save):
        save(LESSON.format(number=1))
        watching_ = watch("autograd", "--steps", "3")
        assert "run 1 ['--steps', '3']" in watching_.until(WAITING)
        save(LESSON.format(number=2))
        assert "run 2 ['--steps', '3']" in watching_.until(WAITING)

    def test_an_editor_that_writes_by_renaming(self, watch, save, project):
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        save(LESSON.format(number=2), "01_basics/.autograd.py.swp")
        os.replace(project / "01_basics/.autograd.py.swp", project / "01_basics/autograd.py")
        assert "run 2 []" in watching_.until(WAITING)

    def test_deleted_and_there_again(self, watch, save, project):
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        (project / "01_basics/autograd.py").unlink()
        assert watching_.is_quiet()
        save(LESSON.format(number=2))
        assert "run 2 []" in watching_.until(WAITING)

    def test_a_save_of_which_the_first_half_is_done(self, watch, save):
        """Many editors empty the file before they write it, and a busy computer may take its time in between."""
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        save("")
        assert watching_.is_quiet()
        save(LESSON.format(number=2))
        assert "run 2 []" in watching_.until(WAITING)

    def test_what_the_run_writes_starts_nothing(self, watch, save):
        save(WRITES)
        watching_ = watch("autograd")
        assert "wrote" in watching_.until(WAITING)
        assert watching_.is_quiet()

    def test_a_helper_that_is_saved_starts_it_too(self, watch, save):
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        save("VALUE = 2\n", "utils/helper.py")
        assert "run 1 []" in watching_.until(WAITING)

    def test_several_strokes_are_one_save(self, watch, save):
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        for number in range(2, 6):
            save(LESSON.format(number=number))
            time.sleep(0.05)
        lines = watching_.until(WAITING)
        assert [line for line in lines if line.startswith("run")] == ["run 5 []"]
        assert watching_.is_quiet()

    def test_saving_during_a_run_starts_it_again(self, watch, save):
        save(SLOW)
        watching_ = watch("autograd")
        watching_.until("begun")
        save(LESSON.format(number=2))
        lines = watching_.until(WAITING)
        assert "saved: starting again" in lines and "run 2 []" in lines and "never" not in lines

    def test_mistake_in_the_lesson_does_not_end_the_watch(self, watch, save):
        save("1 / 0\n")
        watching_ = watch("autograd")
        assert "ended with exit code 1" in watching_.until(WAITING)
        save(LESSON.format(number=2))
        assert "run 2 []" in watching_.until(WAITING)

    def test_project(self, watch, save):
        watching_ = watch("mnist")
        watching_.until(WAITING)
        save("VALUE = 2\n", "09_projects/project1_mnist/model.py")
        assert any("project1_mnist" in line for line in watching_.until(WAITING))


@posix
class TestSignals:
    def test_ctrl_c_while_waiting(self, watch, save):
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        assert watching_.ctrl_c() == 130
        assert not any("Traceback" in line for line in watching_.until("stopped"))

    def test_ctrl_c_during_a_run_lets_it_save(self, watch, save):
        save("try:\n    print('begun', flush=True); __import__('time').sleep(60)\nexcept KeyboardInterrupt:\n    print('kept')\n")
        watching_ = watch("autograd")
        watching_.until("begun")
        assert watching_.ctrl_c() == 130
        assert "kept" in watching_.until("stopped")

    def test_resized_window(self, watch, save):
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        os.killpg(watching_.process.pid, signal.SIGWINCH)
        assert watching_.is_quiet()
        save(LESSON.format(number=2))
        assert "run 2 []" in watching_.until(WAITING)


class TestExercises:
    def test_only_the_one_that_is_being_solved(self, watch, save, project):
        file = project / "01_basics/exercises.py"
        watching_ = watch("01")
        lines = watching_.until(WAITING)
        assert any("[not tried] double" in line for line in lines) and not any("shout" in line for line in lines)
        save(
            file.read_text(encoding="utf-8").replace("raise NotImplementedError  # TODO", "return 2 * x", 1),
            "01_basics/exercises.py",
        )
        lines = watching_.until(WAITING)
        assert any("[not tried] shout" in line for line in lines) and "1 of 2 passed" in lines

    def test_one_by_its_name(self, watch, save):
        watching_ = watch("shout")
        assert any("[not tried] shout" in line for line in watching_.until(WAITING))
        save("def shout(text):\n    return text.lower()\n", "01_basics/exercises.py")
        assert any("[wrong]     shout" in line for line in watching_.until(WAITING))

    def test_saved_beside_a_lesson(self, watch, save):
        """Only the exercises are checked: the lesson, which did not change, is not run again."""
        save(LESSON.format(number=1))
        watching_ = watch("autograd")
        watching_.until(WAITING)
        save("def double(x):\n    return 3 * x\n", "01_basics/exercises.py")
        lines = watching_.until(WAITING)
        assert any("[wrong]     double" in line for line in lines) and "run 1 []" not in lines

    def test_file_that_python_cannot_read(self, watch, save):
        watching_ = watch("01")
        watching_.until(WAITING)
        save("def double(:\n", "01_basics/exercises.py")
        assert any("SyntaxError" in line or "syntax" in line for line in watching_.until(WAITING))
        save("def double(x):\n    return 2 * x\n", "01_basics/exercises.py")
        assert "1 of 2 passed" in watching_.until(WAITING)


class TestNames:
    def test_unknown(self, here):
        result = here("watch", "autogard")
        assert (result.returncode, result.stderr.strip()) == (2, 'study: there is no "autogard"; did you mean autograd?')

    def test_flags_are_for_lessons(self, here):
        assert "exercises take no flags: --steps 3" in here("watch", "shout", "--steps", "3").stderr

    def test_korean(self, here, monkeypatch):
        monkeypatch.setenv("STUDY_LANG", "ko")
        assert "옵션이 없습니다" in here("watch", "shout", "--steps", "3").stderr

    def test_a_lesson_comes_before_an_exercise_of_the_same_name(self, project, monkeypatch):
        seen = []
        monkeypatch.setattr(watching._Watcher, "go_on", lambda self: seen.append((self.lesson, self.stage, self.exercise)))
        (project / "01_basics/shout.py").write_text(LESSON, encoding="utf-8")
        cli.main(["watch", "shout"], root=project)
        assert seen == [("01_basics/shout.py", "01_basics", None)]
