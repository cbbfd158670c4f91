"""Exercises: checking the reader's file against tests/exercises, and the hints that stand there.

The checks run as a pytest process that writes its findings into a report, one JSON object on a line. A check that takes too
long (an endless loop) ends that process; the checks after it then run in another.
"""

import ast
import inspect
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from study import environment, lessons
from study.messages import Problem, companion, language, paint, say
from study.processes import call, child_environment

SECONDS = 20  # for one exercise


@dataclass(frozen=True)
class Finding:
    """What one check found: status is "passed", "wrong", "untried" or "broken" (the whole file)."""

    exercise: str
    status: str
    message: str = ""
    printed: str = ""


def stages(root: Path) -> list[str]:
    """The stages that have exercises: "01_basics", ..."""
    return [file.stem.removeprefix("test_") for file in sorted((root / "tests" / "exercises").glob("test_[0-9]*.py"))]


def find_stage(root: Path, name: str) -> str:
    """The stage that the reader means by 01, 1, basics, 01_basics or a path inside it."""
    with_exercises = stages(root)
    wanted = "/".join(lessons.parts_of(name)).removesuffix("/exercises")
    matches = [stage for stage in with_exercises if wanted in lessons.names_of(stage)]
    if matches:
        return matches[0]
    known = ", ".join(with_exercises) or "-"
    raise Problem(
        say(
            f'no stage "{name}" has exercises; these have: {known}',
            f'연습문제가 있는 "{name}" 단계가 없습니다. 있는 단계: {known}',
        ),
        code=2,
    )


def exercise_names(root: Path, stage: str) -> dict[str, ast.FunctionDef]:
    """The exercises of a stage, in order, each with its check (an ast node)."""
    file = root / "tests" / "exercises" / f"test_{stage}.py"
    nodes = ast.parse(file.read_bytes(), str(file)).body
    return {
        node.name.removeprefix("test_"): node
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def names(root: Path) -> list[str]:
    """Every exercise as stage/exercise, in the order of the course."""
    return [f"{stage}/{exercise}" for stage in stages(root) for exercise in exercise_names(root, stage)]


# ---------------------------------------------------------------- check


def check(root: Path, stage_names: list[str]) -> bool:
    """Check the exercises of the stages and print what was found; return whether all of them passed."""
    if not stage_names:
        raise Problem(say("there are no exercises yet", "아직 연습문제가 없습니다"))
    for stage in stage_names:
        _need_answers(root, stage)
    return all([_check_stage(root, stage) for stage in stage_names])  # a list: every stage gets its turn


def _need_answers(root: Path, stage: str) -> None:
    path = f"{stage}/exercises.py"
    if not (root / path).is_file():
        raise Problem(
            say(
                f"{path} is missing: get it back with  git restore {path}",
                f"{path}이 없습니다.  git restore {path}  으로 되살리세요",
            )
        )


def find_out(root: Path, stage: str, names: list[str]) -> dict[str, Finding]:
    """Check the exercises `names` of a stage.

    Raises:
        Problem: the reader's file is missing or cannot be run at all.
    """
    _need_answers(root, stage)
    python = environment.ensure(root)
    findings: dict[str, Finding] = {}
    while len(findings) < len(names):
        found = _run_checks(root, python, stage, [name for name in names if name not in findings])
        findings |= {finding.exercise: finding for finding in found}
        broken = next((finding for finding in found if finding.status == "broken"), None)
        if broken:
            raise Problem(broken.message)
    return findings


def _check_stage(root: Path, stage: str) -> bool:
    names = list(exercise_names(root, stage))
    print(paint(f"{stage}/exercises.py", "bold"), flush=True)
    try:
        findings = find_out(root, stage, names)
    except Problem as broken:
        print(f"  {paint(str(broken), 'red')}")
        return False
    for name in names:
        _show(root, stage, findings[name])
    missing = [name for name in names if findings[name].status != "passed"]
    print(say(f"{len(names) - len(missing)} of {len(names)} passed", f"{len(names)}개 중 {len(names) - len(missing)}개 통과"))
    if missing:
        print(f"{say('stuck?', '막히면:')}  {companion()} hint {missing[0]}")
    else:
        print(f"{say('tick them off:', '체크하기:')}  {companion()} tick {lessons.names_of(stage)[0]}/exercises")
    return not missing


def check_current(root: Path, stage: str, exercise: str | None) -> None:
    """Check one exercise, or all of a stage, and print only the one that is being solved.

    That is the first that is wrong, else the first that is not tried yet.
    """
    names = [exercise] if exercise else list(exercise_names(root, stage))
    findings = find_out(root, stage, names)
    of_status = {status: [name for name in names if findings[name].status == status] for status in ("wrong", "untried", "passed")}
    current = (of_status["wrong"] + of_status["untried"] + names)[0]
    _show(root, stage, findings[current])
    if not exercise:
        done = len(of_status["passed"])
        print(say(f"{done} of {len(names)} passed", f"{len(names)}개 중 {done}개 통과"))


def _run_checks(root: Path, python: Path, stage: str, names: list[str]) -> list[Finding]:
    """Run the checks of `names` in one process; at least the first of them has a finding afterwards."""
    file = f"tests/exercises/test_{stage}.py"
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder, "report.jsonl"), Path(folder, "log.txt")
        command = [str(python), "-m", "pytest", *(f"{file}::test_{name}" for name in names)]
        command += ["--answers", str(root / stage / "exercises.py"), "--report", str(report), "-p", "no:cacheprovider"]
        command += ["-p", "pytest_timeout", "--timeout", str(SECONDS)]
        command += ["--timeout-method", "thread"]  # it also ends loops that never come back to Python, and Windows has no other
        command += ["--confcutdir", "tests/exercises"]  # tests/conftest.py is for the project's own tests, which speak English
        variables = child_environment(root) | {"STUDY_LANG": language(), "OMP_NUM_THREADS": "1"}
        variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # starts twice as quickly
        with log.open("wb") as output:
            code = call(command, cwd=root, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
        output = log.read_text(encoding="utf-8", errors="replace")
    findings = _read_report([json.loads(line) for line in lines], code, timed_out="Timeout +++" in output)
    if not findings:
        print(output.rstrip())
        raise Problem(
            say(
                "the checks could not run; pytest's reason stands above",
                "검사를 실행하지 못했습니다. pytest가 밝힌 까닭은 위에 있습니다",
            )
        )
    return findings


def _read_report(records: list[dict], code: int, timed_out: bool) -> list[Finding]:
    """The findings, plus one for the exercise in which the process ended, if it ended too early."""
    findings = {}
    for record in records:
        if "exercise" in record and record["status"] != "started":
            findings.setdefault(record["exercise"], Finding(**record))
    started = [record["exercise"] for record in records if record["status"] == "started"]
    if started and started[-1] not in findings:
        if timed_out:
            message = say(
                f"not finished after {SECONDS} s: a loop without an end?",
                f"{SECONDS}초가 지나도 끝나지 않습니다. 무한 반복인가요?",
            )
        else:
            message = say(f"Python itself ended (exit code {code})", f"파이썬이 종료되었습니다 (종료 코드 {code})")
        outside = records[-1]["status"] == "loading"  # then every other exercise would end there as well
        findings[started[-1]] = Finding(started[-1], "broken" if outside else "wrong", message)
    return list(findings.values())


def _show(root: Path, stage: str, finding: Finding) -> None:
    """One exercise in one line, and below it what there is to say about it."""
    label, colour = {
        "passed": (say("[passed]   ", "[통과]"), "green"),
        "wrong": (say("[wrong]    ", "[틀림]"), "red"),
        "untried": (say("[not tried]", "[아직]"), "yellow"),
    }[finding.status]
    solution = f"   {_solution(root, stage, finding.exercise)}" if finding.status == "passed" else ""
    print(f"  {paint(label, colour)} {finding.exercise}{paint(solution, 'dim') if solution else ''}")
    if finding.message:
        print(f"      {finding.message}")
    for line in finding.printed.splitlines()[-10:]:
        print(paint(f"      | {line}", "dim"))


def _solution(root: Path, stage: str, exercise: str) -> str:
    """Where the solution stands: path and line."""
    node = _solution_node(root, stage, exercise)
    path = f"notes/solutions/{stage}.py"
    return f"{path}:{node.lineno}" if node else path


def _solution_node(root: Path, stage: str, exercise: str) -> ast.AST | None:
    nodes = ast.parse((root / f"notes/solutions/{stage}.py").read_bytes()).body
    return next((node for node in nodes if getattr(node, "name", None) == exercise), None)


# ---------------------------------------------------------------- solution


def solution(root: Path, name: str, anyway: bool) -> str:
    """Where the solution of an exercise stands, and the solution, once the reader's own has passed.

    Args:
        root: The course's folder.
        name: Of the exercise.
        anyway: Show it although the exercise has not passed.
    """
    stage, _, exercise = lessons.find(name, names(root)).partition("/")
    if not anyway and find_out(root, stage, [exercise])[exercise].status != "passed":
        hint, see = f"{companion()} hint {name}", f"{companion()} solution {name} --anyway"
        raise Problem(
            say(
                f"{exercise} has not passed yet; a hint may do:  {hint}  (to see the solution:  {see})",
                f"{exercise}을(를) 아직 통과하지 못했습니다. 힌트부터 보세요:  {hint}  (풀이를 보려면:  {see})",
            )
        )
    node = _solution_node(root, stage, exercise)
    lines = (root / f"notes/solutions/{stage}.py").read_text(encoding="utf-8").splitlines()
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join([paint(_solution(root, stage, exercise), "dim"), *lines[first - 1 : node.end_lineno]])


# ---------------------------------------------------------------- hint


def hint(root: Path, name: str) -> str:
    """The hint for an exercise in the reader's language."""
    stage, _, exercise = lessons.find(name, names(root)).partition("/")
    english, korean = split_hint(ast.get_docstring(exercise_names(root, stage)[exercise]) or "")
    return say(english, korean)


def split_hint(docstring: str) -> tuple[str, str]:
    """The English and the Korean half of "Hint: ...  힌트: ...", each as it stands."""
    english, _, korean = inspect.cleandoc(docstring).partition("힌트:")
    english = english.strip().removeprefix("Hint:").strip()
    return english, korean.strip() or english
