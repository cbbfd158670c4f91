"""What a learner keeps: dated notes made from notes/templates, and the numbers that say how far they are."""

import ast
import datetime
import re
import shutil
import subprocess
from pathlib import Path

from study import exercises, roadmap
from study.messages import Problem, companion, paint, say

KINDS = {
    "weekly": "weekly_review.md",
    "experiment": "experiment_log.md",
    "paper": "paper_note.md",
    "error": "error_diary.md",
}
FOLDER = "notes/mine"

# ---------------------------------------------------------------- notes


def new_note(root: Path, kind: str, title: list[str], today: datetime.date | None = None) -> Path:
    """Copy a template to notes/mine/<date>-<kind>[-<title>].md and return where it is. A note that is there stays as it is.

    Args:
        root: The course's folder.
        kind: One of KINDS.
        title: Words that become part of the name, and its first heading.
        today: Its date; today's if None.
    """
    words = "-".join(re.findall(r"\w+", " ".join(title).casefold()))
    date = (today or datetime.date.today()).isoformat()
    note = root / FOLDER / f"{'-'.join(part for part in (date, kind, words[:60]) if part)}.md"
    template = root / "notes" / "templates" / KINDS[kind]
    if not template.is_file():
        path = template.relative_to(root).as_posix()
        raise Problem(
            say(
                f"{path} is missing: get it back with  git restore {path}",
                f"{path}이 없습니다.  git restore {path}  으로 되살리세요",
            )
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    text = template.read_text(encoding="utf-8")
    if title:
        text = text.replace(text.partition("\n")[0], f"# {' '.join(title)}", 1)
    try:
        with note.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        pass
    return note


def _notes(root: Path, kind: str | None = None) -> list[Path]:
    return sorted((root / FOLDER).glob(f"????-??-??-{kind}*.md" if kind else "*.md"))


# ---------------------------------------------------------------- numbers


def show_stats(root: Path) -> None:
    """Print the learner's own measures."""
    items = [item for item in roadmap.read(root) if item.target]
    lessons_ = [item for item in items if item.target.endswith(".py") and not item.target.endswith("exercises.py")]
    projects = [item for item in items if item.target.startswith("09_projects/")]
    passed, all_exercises = _exercises(root)
    ticked_files = [root / item.target for item in lessons_ if item.ticked]
    for project in projects:
        if project.ticked:
            ticked_files += sorted((root / project.target).glob("*.py"))

    rows = [
        (say("lessons ticked", "체크한 레슨"), f"{sum(item.ticked for item in lessons_)} / {len(lessons_)}"),
        (say("projects finished", "마친 프로젝트"), f"{sum(item.ticked for item in projects)} / {len(projects)}"),
        (say("exercises passed", "통과한 연습문제"), f"{passed} / {all_exercises}"),
        (say("models in what you ticked", "체크한 레슨과 프로젝트에 든 모델"), str(sum(map(count_models, ticked_files)))),
        (say("papers noted", "읽고 정리한 논문"), str(len(_notes(root, "paper")))),
        (say("notes written", "쓴 노트"), str(len(_notes(root)))),
        (say("your commits", "내 커밋"), _commits(root)),
    ]
    for name, value in rows:
        print(f"  {paint(f'{value:>9}', 'bold')}  {name}")
    done, total = sum(item.ticked for item in items), len(items)
    print(f"\n{roadmap.progress_bar(done, total)}  {say(f'{done} of {total}', f'{total}개 중 {done}개')}")
    if not _notes(root):
        print(paint(say(f"a first note:  {companion()} note weekly", f"첫 노트:  {companion()} note weekly"), "dim"))


def _exercises(root: Path) -> tuple[int, int]:
    """How many exercises pass, and how many there are. Those that are still to do are not run, which would take minutes."""
    passed = 0
    every = exercises.names(root)
    for stage in exercises.stages(root):
        tried = sorted(_tried(root / stage / "exercises.py") & set(exercises.exercise_names(root, stage)))
        if tried:
            try:
                findings = exercises.find_out(root, stage, tried)
            except Problem:  # a file that cannot be run has nothing that passes; `check` says why
                continue
            passed += sum(finding.status == "passed" for finding in findings.values())
    return passed, len(every)


def _tried(file: Path) -> set[str]:
    """The functions and classes of an exercise file in which no `raise NotImplementedError` is left."""
    try:
        nodes = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return set()
    return {node.name for node in nodes if hasattr(node, "name") and not any(map(_is_todo, ast.walk(node)))}


def _is_todo(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node)


def count_models(file: Path) -> int:
    """How many networks (subclasses of nn.Module) a file defines."""
    try:
        nodes = ast.walk(ast.parse(file.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return 0
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return sum(any(ast.unparse(base).split(".")[-1] == "Module" for base in node.bases) for node in classes)


def _commits(root: Path) -> str:
    """How many commits in this folder are by the one whose name git would write under the next; "-" where git cannot say."""
    git = shutil.which("git")
    if git is None:
        return "-"

    def ask(*arguments: str) -> str:
        done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, encoding="utf-8", errors="replace")
        return done.stdout.strip() if done.returncode == 0 else ""

    email = ask("config", "user.email")
    count = ask("rev-list", "--count", "--fixed-strings", f"--author=<{email}>", "HEAD") if email else ""
    return count or "-"
