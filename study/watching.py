"""`watch`: run a lesson again whenever it is saved, and check the exercise that is being solved.

The files are asked for their time and size ten times a second, which needs no package and works on every system and on network
drives. Only source files are looked at: what a run writes (figures, checkpoints, bytecode) starts nothing.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from study import environment, exercises, lessons
from study.messages import Problem, note, paint, say
from study.processes import child_environment, program

LOOK_EVERY = 0.1  # seconds
DEBOUNCE = 0.2  # seconds without a change, until the change counts: an editor may write a file in several strokes
GRACE = 3.0  # seconds that a run has to end by itself when it is to make way for the next

Stamp = tuple[int, int, int]
Snapshot = dict[Path, Stamp]


def watch(root: Path, name: str, flags: list[str]) -> None:
    """Run or check `name` now and after every save, until Ctrl-C.

    Args:
        root: The course's folder.
        name: A lesson or part of a project; a stage, whose exercises are then checked; or an exercise.
        flags: Go to the lesson.
    """
    paths = lessons.runnable(root)
    if wanted := _exercises_of(root, name, paths):
        if flags:
            text = " ".join(flags)
            raise Problem(say(f"exercises take no flags: {text}", f"연습문제에는 옵션이 없습니다: {text}"), code=2)
        stage, exercise = wanted
        _Watcher(root, None, [], stage, exercise).go_on()
    path = lessons.find(name, paths)
    stage = path.partition("/")[0]
    _Watcher(root, path, flags, stage if stage in exercises.stages(root) else None, None).go_on()


def _exercises_of(root: Path, name: str, paths: list[str]) -> tuple[str, str | None] | None:
    """The stage, and the exercise in it, that `name` means: (stage, None) for all of them, None where it means a lesson."""
    wanted = "/".join(lessons.parts_of(name))
    if any(wanted in lessons.names_of(path) for path in paths):
        return None
    for stage in exercises.stages(root):
        if wanted in lessons.names_of(stage) + lessons.names_of(f"{stage}/exercises.py"):
            return stage, None
    names = exercises.names(root)
    if any(wanted in lessons.names_of(exercise) for exercise in names):
        stage, _, exercise = lessons.find(name, names).partition("/")
        return stage, exercise
    return None


class _Watcher:
    """What is watched, and what a save sets off.

    Args:
        root: The course's folder.
        lesson: The path of what is run again; None where only exercises are checked.
        flags: The lesson's.
        stage: The stage whose exercises are checked when their file is saved; None where there are none.
        exercise: The one to check; None for the first that has not passed.
    """

    def __init__(self, root: Path, lesson: str | None, flags: list[str], stage: str | None, exercise: str | None):
        self.root, self.lesson, self.flags, self.stage, self.exercise = root, lesson, flags, stage, exercise
        self.python = environment.ensure(root)
        self.answers = root / stage / "exercises.py" if stage else None

    def files(self) -> Iterator[Path]:
        """Whose saving matters: the lesson (a project's whole folder), what it imports from utils, the exercises."""
        if self.answers:
            yield self.answers
        if self.lesson:
            file = self.root / self.lesson
            yield file
            if file.parent.parent.name == "09_projects":
                yield from file.parent.glob("*.py")
                yield from file.parent.glob("*.html")
            yield from (self.root / "utils").rglob("*.py")

    def look(self) -> Snapshot:
        """Time, size and number of every file that is not empty. A file that was renamed into place has another number."""
        found = {}
        for file in self.files():
            try:
                status = file.stat()
            except OSError:  # deleted, or just being replaced
                continue
            if status.st_size:  # otherwise it was emptied a moment ago, to be written anew
                found[file] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def go_on(self) -> None:
        """Run, wait for a save, run again; ends with KeyboardInterrupt."""
        changed = {self.root / self.lesson} if self.lesson else {self.answers}
        while True:
            before = self.look()
            if self.answers in changed:
                self.check()
            if self.lesson and changed - {self.answers}:
                changed = self.run(before)
            else:
                changed = set()
            if not changed:
                self.tell_that_we_wait()
                changed = self.wait(before, lambda: False)

    def check(self) -> None:
        """Check the exercise, and say what was found; a mistake in the file is no reason to stop watching."""
        try:
            exercises.check_current(self.root, self.stage, self.exercise)
        except Problem as problem:
            print(paint(str(problem), "red"))

    def run(self, before: Snapshot) -> set[Path]:
        """Run the lesson to its end, or until something is saved; return what was saved."""
        print(paint(f"── {time.strftime('%H:%M:%S')}  {' '.join([self.lesson, *self.flags])}", "bold"), flush=True)
        command = program(self.python, self.root / self.lesson, self.flags)
        if not (self.root / self.lesson).exists():
            note(say(f"{self.lesson} is not there; waiting for it", f"{self.lesson} 파일이 없습니다. 생길 때까지 기다립니다"))
            return set()
        with subprocess.Popen(command, env=child_environment(self.root)) as process:
            try:
                changed = self.wait(before, lambda: process.poll() is not None)
                process.terminate()
            finally:  # after Ctrl-C, of which the terminal has told the run as well: it may be saving what it has
                _end(process)
        if changed:
            note(say("saved: starting again", "저장됨: 다시 시작합니다"))
        elif process.returncode:
            note(say(f"ended with exit code {process.returncode}", f"종료 코드 {process.returncode}"))
        return changed

    def wait(self, before: Snapshot, is_over: Callable[[], bool]) -> set[Path]:
        """Wait until something has been saved and DEBOUNCE has passed without another change, or until `is_over`.

        Returns:
            The files that differ from `before` and are there; empty where it is over.
        """
        last, since = before, time.monotonic()
        while not is_over():
            time.sleep(LOOK_EVERY)
            now = self.look()
            if now != last:
                last, since = now, time.monotonic()
            saved = {file for file, stamp in now.items() if before.get(file) != stamp}
            if saved and time.monotonic() - since >= DEBOUNCE:
                return saved
        return set()

    def tell_that_we_wait(self) -> None:
        what = self.lesson or f"{self.stage}/exercises.py"
        note(say(f"waiting for {what} to be saved; Ctrl-C ends", f"{what} 저장을 기다립니다. 끝내려면 Ctrl-C"))


def _end(process: subprocess.Popen) -> None:
    """Give a run time to end by itself, then end it."""
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
