"""The command line: python3 -m study COMMAND."""

import argparse
import ast
import os
import sys
import time
from argparse import Namespace
from pathlib import Path

from study import environment, lessons, records
from study.messages import Problem, companion, paint, prepare_console, say
from study.options import speak_the_readers_language
from study.processes import child_environment, hand_over, program

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    "setup",
    "run",
    "watch",
    "next",
    "tick",
    "untick",
    "check",
    "hint",
    "solution",
    "notebook",
    "note",
    "stats",
    "data",
    "bench",
    "results",
    "doctor",
    "test",
)


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run one command; return the exit code. What a reader can cause ends in one sentence."""
    prepare_console()
    speak_the_readers_language()
    try:
        own, passed_on = split(arguments)
        if own and not own[0].startswith("-") and own[0] not in COMMANDS:
            raise not_a_command(own[0], root)
        options = parser().parse_args(own)
        options.passed_on = passed_on
        code = options.command(root, options)
        sys.stdout.flush()
        return code or 0
    except Problem as problem:
        return fail(str(problem), problem.code)
    except KeyboardInterrupt:
        return fail(say("stopped; the same command goes on from here", "중단했습니다. 같은 명령으로 이어서 할 수 있습니다"), 130)
    except BrokenPipeError:  # `... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return fail(f"{error.strerror or error}: {error.filename}" if error.filename else f"{error.strerror or error}", 1)


def fail(sentence: str, code: int) -> int:
    sys.stdout.flush()
    print(f"{paint('study:', 'red', sys.stderr)} {sentence}", file=sys.stderr)
    return code


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part the companion's own arguments from those that a lesson or pytest gets, untouched: `--help`, for example."""
    if arguments[:1] in (["run"], ["watch"], ["bench"]):
        return arguments[:2], arguments[2:]
    if arguments[:1] == ["test"] and arguments[1:] not in (["-h"], ["--help"]):
        return arguments[:1], arguments[1:]
    return arguments, []


def not_a_command(name: str, root: Path) -> Problem:
    """The sentence about a word that is no command: the name of a lesson, or a typing error."""
    try:
        lesson = lessons.usual_name(lessons.find(name, lessons.runnable(root)), lessons.runnable(root))
    except Problem:
        return lessons.unknown(name, list(COMMANDS))
    command = f"{companion()} run {lesson}"
    return Problem(say(f"to run this lesson:  {command}", f"이 레슨을 실행하려면:  {command}"), code=2)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog=companion(),
        description=say(
            "The study companion. Without a command: the roadmap.", "학습 도우미. 명령 없이 부르면 로드맵을 보여 줍니다."
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.set_defaults(command=show_roadmap)
    commands = top.add_subparsers(metavar="COMMAND")

    def add(name: str, command, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        return sub

    setup = add(
        "setup",
        set_up,
        say("make or update .venv; instant when it is complete", ".venv를 만들거나 갱신. 이미 갖추어졌으면 바로 끝남"),
    )
    setup.add_argument(
        "--cpu",
        action="store_true",
        help=say("PyTorch without CUDA, 5 GB less; remembered", "CUDA 없는 PyTorch(5 GB 절약). 기억됨"),
    )
    setup.add_argument(
        "--extra",
        action="append",
        default=[],
        metavar="NAME",
        help=say("also requirements-NAME.txt; remembered", "requirements-NAME.txt도 설치. 기억됨"),
    )

    run = add(
        "run",
        run_lesson,
        say(
            "run a lesson or project: run autograd --lr 0.1, run mnist, run mnist/predict",
            "레슨이나 프로젝트 실행: run autograd --lr 0.1, run mnist",
        ),
    )
    run.add_argument(
        "name", metavar="NAME", help=say("its flags follow it: run NAME --help", "옵션은 이름 뒤에: run NAME --help")
    )

    watched = say(
        "run it again at every save: watch autograd; for exercises: watch 01, watch standardize",
        "저장할 때마다 다시 실행: watch autograd. 연습문제는 watch 01, watch standardize",
    )
    add("watch", watch, watched).add_argument("name", metavar="NAME")

    add("next", show_next, say("what comes next", "다음에 할 것"))
    ticking = say(
        "tick off: tick autograd, tick 01/exercises, tick mnist", "체크하기: tick autograd, tick 01/exercises, tick mnist"
    )
    add("tick", tick, ticking).add_argument("names", metavar="NAME", nargs="+")
    add("untick", untick, say("take a tick back", "체크 지우기")).add_argument("names", metavar="NAME", nargs="+")

    check = add("check", check_exercises, say("check your exercises: check 01", "연습문제 검사: check 01"))
    check.add_argument(
        "stage",
        metavar="STAGE",
        nargs="?",
        help=say("01, 1, basics or 01_basics; default: every stage", "01, 1, basics, 01_basics. 없으면 모든 단계"),
    )
    add("hint", show_hint, say("a hint for an exercise", "연습문제 힌트")).add_argument("name", metavar="NAME")

    see = add("solution", show_solution, say("the solution of an exercise that has passed", "통과한 연습문제의 풀이"))
    see.add_argument("name", metavar="NAME")
    see.add_argument("--anyway", action="store_true", help=say("also before it has passed", "통과하기 전에도 보기"))

    book = add(
        "notebook", make_notebook, say("a Jupyter notebook of a lesson, in notebooks/", "레슨을 notebooks/의 Jupyter 노트북으로")
    )
    book.add_argument("name", metavar="NAME")
    book.add_argument(
        "--anyway", action="store_true", help=say("replace one that was worked in", "작업한 노트북도 새로 만들어 바꾸기")
    )

    written = add("note", write_note, say("a dated copy of a template, in notes/mine/", "양식에 날짜를 붙여 notes/mine/에 복사"))
    written.add_argument("kind", metavar="KIND", choices=records.KINDS, help=", ".join(records.KINDS))
    written.add_argument(
        "title", metavar="TITLE", nargs="*", default=[], help=say("becomes part of its name", "파일 이름에 들어갈 제목")
    )

    add("stats", show_stats, say("your own numbers: lessons, exercises, notes, commits", "나의 기록: 레슨, 연습문제, 노트, 커밋"))

    data = add(
        "data", show_or_fetch_data, say("which data sets are here; with names: fetch them", "데이터셋 목록. 이름을 주면 내려받기")
    )
    data.add_argument("names", metavar="NAME", nargs="*")

    bench = add("bench", run_benchmark, say("which benchmarks there are; with a name: run it", "벤치마크 목록. 이름을 주면 실행"))
    bench.add_argument("name", metavar="NAME", nargs="?")

    table = add(
        "results",
        measure_results,
        say(
            "run every lesson and write notes/*/results.md; with names: only these",
            "모든 레슨을 실행해 notes/*/results.md를 쓰기. 이름을 주면 그것만",
        ),
    )
    table.add_argument("names", metavar="NAME", nargs="*")
    table.add_argument("--seeds", type=int, default=3, metavar="N", help=say("runs of each (3)", "레슨마다 실행할 횟수(3)"))

    add("doctor", examine, say("is everything in place?", "모두 제대로 준비되었는지 살펴보기"))
    add("test", run_tests, say("the project's tests; pytest's flags follow", "프로젝트 테스트. pytest 옵션은 뒤에"))
    return top


# ---------------------------------------------------------------- the commands: what they need is imported when they are called


def set_up(root: Path, options: Namespace) -> None:
    started = time.perf_counter()
    python = environment.setup(root, cpu=options.cpu, chosen=tuple(options.extra))
    seconds = time.perf_counter() - started
    print(say(f"ready ({seconds:.1f} s): {python}", f"준비되었습니다 ({seconds:.1f}초): {python}"))


def run_lesson(root: Path, options: Namespace) -> int:
    path = find_lesson(root, options.name)
    python = environment.ensure(root)
    return hand_over(program(python, root / path, options.passed_on), child_environment(root))


def watch(root: Path, options: Namespace) -> None:
    from study import watching

    watching.watch(root, options.name, options.passed_on)


def find_lesson(root: Path, name: str) -> str:
    """The path of a lesson or project part; exercises are not run but checked, which is said."""
    from study import exercises

    for stage in exercises.stages(root):
        if "/".join(lessons.parts_of(name)) in lessons.names_of(f"{stage}/exercises.py"):
            command = f"{companion()} check {lessons.names_of(stage)[0]}"
            raise Problem(
                say(f"exercises are checked, not run:  {command}", f"연습문제는 실행하지 않고 검사합니다:  {command}"), code=2
            )
    return lessons.find(name, lessons.runnable(root))


def run_tests(root: Path, options: Namespace) -> int:
    python = environment.ensure(root)
    os.chdir(root)
    # Two processes take half as long for all of the tests. For a few of them, importing torch twice would take longer.
    flags = options.passed_on
    if flags in ([], ["--slow"]):
        flags = ["-n", "2", "--dist", "loadfile", *flags]
    return hand_over([str(python), "-m", "pytest", *flags], child_environment(root))


def show_roadmap(root: Path, options: Namespace) -> None:
    from study import roadmap

    roadmap.show(root)


def show_next(root: Path, options: Namespace) -> None:
    from study import roadmap

    roadmap.show_next(roadmap.read(root))


def tick(root: Path, options: Namespace) -> None:
    from study import roadmap

    roadmap.tick(root, options.names, ticked=True)


def untick(root: Path, options: Namespace) -> None:
    from study import roadmap

    roadmap.tick(root, options.names, ticked=False)


def check_exercises(root: Path, options: Namespace) -> int:
    from study import exercises

    stages = [exercises.find_stage(root, options.stage)] if options.stage else exercises.stages(root)
    return 0 if exercises.check(root, stages) else 1


def show_hint(root: Path, options: Namespace) -> None:
    from study import exercises

    print(exercises.hint(root, options.name))


def show_solution(root: Path, options: Namespace) -> None:
    from study import exercises

    print(exercises.solution(root, options.name, options.anyway))


def make_notebook(root: Path, options: Namespace) -> None:
    from study import notebooks

    print(notebooks.make(root, options.name, options.anyway).relative_to(root).as_posix())


def write_note(root: Path, options: Namespace) -> None:
    print(records.new_note(root, options.kind, options.title).relative_to(root).as_posix())


def show_stats(root: Path, options: Namespace) -> None:
    records.show_stats(root)


def run_benchmark(root: Path, options: Namespace) -> int | None:
    """Run one of benchmarks/, or say which there are and what they take; what they measured stands in the README there."""
    files = {file.relative_to(root).as_posix(): file for file in sorted((root / "benchmarks").glob("*.py"))}
    if options.name is None:
        for path, file in files.items():
            summary = (ast.get_docstring(ast.parse(file.read_bytes())) or "").partition("\n")[0]
            print(f"  {paint(f'{lessons.usual_name(path, list(files)):18}', 'bold')} {summary}")
        return None
    path = lessons.find(options.name, list(files), listed_by="bench")
    return hand_over(program(environment.ensure(root), root / path, options.passed_on), child_environment(root))


def measure_results(root: Path, options: Namespace) -> int:
    from study import results

    return results.measure(root, options.names, options.seeds)


def show_or_fetch_data(root: Path, options: Namespace) -> None:
    from study import data

    if options.names:
        data.fetch(options.names)
    else:
        data.show()


def examine(root: Path, options: Namespace) -> int:
    from study import doctor

    return 0 if doctor.examine(root) else 1
