"""The table of results: every lesson and project is run with its default settings, and its headline is written down.

What was measured is kept in notes/results.json; the tables in notes/en/results.md and notes/ko/results.md are made of it, and
two pictures for them in notes/figures.
"""

import ast
import csv
import datetime
import hashlib
import io
import json
import math
import statistics
import subprocess
import tempfile
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from study import environment, files, lessons, results_chart
from study.messages import Problem, companion, paint, say
from study.processes import child_environment

KEPT = "notes/results.json"
TABLES = {"en": "notes/en/results.md", "ko": "notes/ko/results.md"}
CHARTS = {"more": "notes/figures/results_shares.svg", "less": "notes/figures/results_errors.svg"}
ARROWS = {"more": " ↑", "less": " ↓", "": ""}
HEADLINES = "study/headlines.csv"


class Headline(NamedTuple):
    """What the table says of one program.

    Attributes:
        metric: A number among the results that a run prints.
        baseline: Another, which it is held against: chance, the simplest rule, the same without the idea. Empty where the number
            is a difference that should be 0, or a price.
        better: "more" or "less" is better than the baseline; empty where the two are compared and neither is.
        what: Both, in words.
        translated: The same in Korean.
    """

    metric: str
    baseline: str
    better: str
    what: str
    translated: str


def read_headlines(root: Path) -> dict[str, Headline]:
    """Program to headline, in the order of the course."""
    with (root / HEADLINES).open(encoding="utf-8", newline="") as file:
        return {program: Headline(*rest) for program, *rest in list(csv.reader(file))[1:]}


def measure(root: Path, names: list[str], seeds: int) -> int:
    """Run what is not measured yet with that many seeds, or has changed since; then write the tables.

    After every run the numbers are on disk: a run that is stopped goes on where it was.

    Args:
        root: The course's folder.
        names: Lessons and projects; all of them if empty.
        seeds: Runs of each, with --seed 0, 1, ...; one where there is no such flag.

    Returns:
        0, or 1 if a run failed.
    """
    if seeds < 1:
        raise Problem(say("--seeds: at least 1", "--seeds: 1 이상이어야 합니다"), code=2)
    headlines = read_headlines(root)
    chosen = [lessons.find(name, list(headlines)) for name in names] or list(headlines)
    python, kept, failed = environment.ensure(root), read(root), []
    for path in chosen:
        fingerprint = fingerprint_of(root / path)
        if kept.get(path, {}).get("version") != fingerprint:
            kept[path] = {"version": fingerprint, "runs": []}
        wanted = seeds if _takes_seed(root / path) else 1
        while len(kept[path]["runs"]) < wanted:
            seed = len(kept[path]["runs"])
            print(f"{path} {paint(f'--seed {seed}', 'dim') if wanted > 1 else ''}".rstrip(), end="  ", flush=True)
            flags = ["--seed", str(seed)] if wanted > 1 else []
            try:
                kept[path]["runs"].append(run_once(root, python, path, flags, headlines[path]))
            except Problem as problem:
                print(paint(str(problem), "red"))
                failed.append(path)
                break
            print("{metric:.4g}  {seconds:.0f} s".format(**kept[path]["runs"][-1]))
            files.replace(root / KEPT, json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    write_pages(root)
    print("  ".join(TABLES.values()))
    if failed:
        print(say(f"failed: {', '.join(failed)}", f"실패: {', '.join(failed)}"))
    return 1 if failed else 0


def read(root: Path) -> dict[str, dict]:
    """What was measured so far: path to version and runs; nothing, if nothing was.

    Raises:
        Problem: the file cannot be read.
    """
    try:
        return json.loads((root / KEPT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        sentence = say(
            f"{KEPT} is damaged ({error}): get it back with  git restore {KEPT}",
            f"{KEPT}이 손상되었습니다({error}).  git restore {KEPT}  으로 되살리세요",
        )
        raise Problem(sentence) from error


def fingerprint_of(file: Path) -> str:
    """Twelve digits that change with what a lesson does, not with its docstring, comments or spaces; of a project, all of it."""
    parts = sorted(file.parent.glob("*.py")) if file.name == "train.py" else [file]
    return hashlib.sha256("".join(map(_code_of, parts)).encode()).hexdigest()[:12]


def _code_of(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    try:
        body = ast.parse(text).body
        comments = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT]
    except SyntaxError:  # in the middle of an edit
        return text
    lines = text.splitlines()
    for comment in comments:
        row, column = comment.start
        lines[row - 1] = lines[row - 1][:column]
    title = body[:1] if ast.get_docstring(ast.Module(body[:1], [])) else []
    return "".join("".join(lines[title[0].end_lineno if title else 0 :]).split())


def _takes_seed(file: Path) -> bool:
    """Whether a program has a flag --seed: `utils.lesson.run` makes the flags from the arguments of its `main`."""
    try:
        body = ast.parse(file.read_text(encoding="utf-8")).body
    except SyntaxError:  # in the middle of an edit: the run itself will say so
        return False
    mains = [node.args for node in body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    return any(argument.arg == "seed" for main in mains for argument in main.args + main.kwonlyargs)


def run_once(root: Path, python: Path, path: str, flags: list[str], headline: Headline) -> dict:
    """Run a lesson in a folder of its own, so that the reader's outputs stay as they are; return what the table needs.

    Raises:
        Problem: it failed, or has no such number.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = child_environment(root) | {"STUDY_WORK_DIR": folder, "STUDY_LANG": "en"}
        command = [str(python), str(root / path), *flags]
        done = subprocess.run(command, env=settings, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1]
            raise Problem(say(f"failed: {last}", f"실패: {last}"))
        try:
            record = json.loads(next(Path(folder, "outputs").glob("*/results.json")).read_text(encoding="utf-8"))
            numbers = {"metric": record["results"][headline.metric]}
            if headline.baseline:
                numbers["baseline"] = record["results"][headline.baseline]
        except StopIteration:
            raise Problem(say("it recorded no results", "결과를 남기지 않았습니다")) from None
        except KeyError as error:
            raise Problem(say(f"its results have no {error}", f"결과에 {error}이(가) 없습니다")) from None
    about = {name: record[name] for name in ("seconds", "device", "python", "torch", "system")}
    return numbers | about | {"data": record["data"][:1], "date": datetime.date.today().isoformat()}


# ---------------------------------------------------------------- the pages


def write_pages(root: Path) -> None:
    """Write both tables and both pictures from what was measured."""
    kept = read(root)
    for language, path in TABLES.items():
        files.replace(root / path, table(root, kept, language))
    for better, path in CHARTS.items():
        files.replace(root / path, chart(root, kept, better))


def chart(root: Path, kept: dict[str, dict], better: str) -> str:
    """Return a picture of all shares of which more is better, or of all errors, in parts of their baseline."""
    rows, furthest = [], 1.0
    for path, headline in read_headlines(root).items():
        runs = kept.get(path, {}).get("runs")
        if not runs or headline.better != better:
            continue
        found, baseline = [run["metric"] for run in runs], statistics.fmean(run["baseline"] for run in runs)
        if better == "less":
            found, baseline = [value / baseline for value in found], 1.0
        elif max(*found, baseline) > 1:  # modes found, say: not a share
            continue
        furthest = max(furthest, *found)
        rows.append(results_chart.Row(path.split("/")[0], _name_of(path), found, baseline))
    step = 0.25 if furthest <= 2 else 1
    places = [step * number for number in range(math.ceil(furthest / step) + 1)]
    ticks = {place: f"{place:.0%}" if better == "more" else f"{place:g}" for place in places}
    return results_chart.draw(rows, ticks)


def _name_of(path: str) -> str:
    return path.removesuffix("/train.py").removesuffix(".py").split("/")[-1]


def table(root: Path, kept: dict[str, dict], language: str) -> str:
    """Return the page in one language: a table for each stage, and how it was measured."""

    def words(english: str, korean: str) -> str:
        return korean if language == "ko" else english

    headlines = read_headlines(root)
    measured = [path for path in headlines if kept.get(path, {}).get("runs")]
    runs = [run for path in measured for run in kept[path]["runs"]]
    lines = [
        words("# Results", "# 결과"),
        "",
        *_introduction(runs, len(measured), len(headlines), words),
        "",
        *_pictures(words),
        "",
    ]
    for stage in dict.fromkeys(path.split("/")[0] for path in measured):
        lines += [
            f"## {stage}",
            "",
            words("| | what | result | against | s |", "| | 무엇을 | 결과 | 기준 | 초 |"),
            "|---|---|---|---|---|",
        ]
        for path in measured:
            if path.startswith(f"{stage}/"):
                lines.append(_row(root, path, kept[path], headlines[path], words))
        lines.append("")
    return "\n".join(lines)


def _introduction(runs: list[dict], measured: int, programs: int, words: Callable[[str, str], str]) -> list[str]:
    if not runs:
        return [words(f"Nothing was measured yet: `{companion()} results`.", f"아직 잰 것이 없다: `{companion()} results`.")]
    named = [run for run in runs if run["device"]] or runs  # a lesson that asks for no device does not say which it had
    machines = sorted(
        {f"{', '.join(run['device']) or 'cpu'}, Python {run['python']}, PyTorch {run['torch']}, {run['system']}" for run in named}
    )
    dates = sorted({run["date"] for run in runs})
    total = sum(run["seconds"] for run in runs)
    when = dates[0] if len(dates) == 1 else f"{dates[0]} … {dates[-1]}"
    return [
        words(
            f"Lessons and projects with their default settings, {when}. Written by `python3 -m study results`, which you can "
            f"run again: {measured} programs of {programs}, {len(runs)} runs, {total / 60:.0f} minutes.",
            f"레슨과 프로젝트를 기본 설정으로 실행한 결과, {when}. `python3 -m study results`가 썼으며 다시 실행할 수 있다. "
            f"프로그램 {programs}개 중 {measured}개, 실행 {len(runs)}번, {total / 60:.0f}분.",
        ),
        "",
        words(
            "Result and baseline are means over the seeds 0, 1, ...; behind them the lowest and the highest. One number: one "
            "run. ↑: more is better, ↓: less. Unless its row says so, a number was measured on the samples that come with the "
            "course, and says nothing of MNIST, CIFAR-10 or another real data set.",
            "결과와 기준은 시드 0, 1, …에 대한 평균이고, 뒤에 최솟값과 최댓값이 있다. 수가 하나면 한 번 실행한 것이다. "
            "↑는 클수록, ↓는 작을수록 좋다. "
            "따로 적지 않은 한 과정에 딸린 샘플 데이터로 잰 값이며, MNIST나 CIFAR-10 같은 실제 데이터셋의 결과가 아니다.",
        ),
        "",
        *[f"- {machine}" for machine in machines],
    ]


def _pictures(words: Callable[[str, str], str]) -> list[str]:
    shares, errors = (f"../figures/{Path(path).name}" for path in CHARTS.values())
    return [
        words(
            "Shares of which more is better, in the order of the course: a dot is the result, the pale line behind it its range "
            "over the seeds, a ring the baseline.",
            "클수록 좋은 비율을 과정의 순서대로 그렸다. 점이 결과, 뒤의 옅은 선이 시드에 따른 범위, 고리가 기준이다.",
        ),
        "",
        f"![{words('shares', '비율')}]({shares})",
        "",
        words(
            "Errors, losses and waits, of which less is better, as parts of their baseline (1).",
            "작을수록 좋은 오차, 손실, 대기 시간. 기준을 1로 놓았다.",
        ),
        "",
        f"![{words('errors', '오차')}]({errors})",
    ]


def _row(root: Path, path: str, measured: dict, headline: Headline, words: Callable[[str, str], str]) -> str:
    runs, folder = measured["runs"], path.removesuffix("train.py")
    changed = (
        "" if fingerprint_of(root / path) == measured["version"] else words(" (before its last change)", " (마지막 수정 전)")
    )
    real = [line for line in runs[0]["data"] if "STUDY_DATA_DIR" in line or line.startswith("datasets/")]
    where = f"; {real[0].replace('|', '/')}" if real else ""
    cells = [
        f"[{_name_of(path)}](../../{folder})",
        words(headline.what, headline.translated) + ARROWS[headline.better] + where + changed,
        f"**{_spread([run['metric'] for run in runs])}**",
        _spread([run["baseline"] for run in runs]) if headline.baseline else "",
        f"{statistics.median(run['seconds'] for run in runs):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _spread(values: list[float]) -> str:
    """Mean, and the range where there is one: 0.91 (0.90 to 0.92)."""
    mean, low, high = map(_in_digits, (statistics.fmean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} … {high})"


def _in_digits(value: float) -> str:
    """Three digits that count, but thousands in full: 0.912, 46.8, 1,160."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
