"""The roadmap in README.md and README.ko.md: what there is, what is ticked, what comes next.

Between the lines `<!-- roadmap:start -->` and `<!-- roadmap:end -->`, `### ` begins a step, `- [ ] [Title](path)` is something
to do and tick, and a bullet without a box is planned. A box is known by its link; everything else may be edited freely.
"""

import os
import posixpath
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from study import lessons
from study.messages import Problem, can_show, companion, language, paint, say

READMES = {"en": "README.md", "ko": "README.ko.md"}
START, END = b"<!-- roadmap:start -->", b"<!-- roadmap:end -->"
BULLET = rb"(?P<indent>\s*(?:[-*+]|\d+[.)])\s+)"
BOX = re.compile(BULLET + rb"\[(?P<tick>[ xX])\]\s+\[(?P<title>.*?)\]\(\s*<?(?P<target>[^)>\s]+)[^)]*\)")
PLANNED = re.compile(BULLET + rb"(?P<title>.*\S)")


@dataclass(frozen=True)
class Item:
    """One bullet of the roadmap; `target` is the path it links to, "" for what is only planned."""

    step: str
    title: str
    target: str
    ticked: bool


# ---------------------------------------------------------------- reading


def read(root: Path) -> list[Item]:
    """The roadmap in the reader's language, in the order of the course."""
    content = _content(root / READMES[language()])
    items, step = [], ""
    for line in _lines(content, root / READMES[language()]):
        text = line.strip()
        if text.startswith(b"### "):
            step = _text(text[4:])
        elif box := BOX.match(line):
            items.append(Item(step, _text(box["title"]), _target(box), box["tick"] != b" "))
        elif planned := PLANNED.match(line):
            items.append(Item(step, _text(planned["title"]), "", False))
    return items


def _content(readme: Path) -> bytes:
    try:
        return readme.read_bytes()
    except FileNotFoundError:
        name = readme.name
        raise Problem(
            say(
                f"{name} is missing: get it back with  git restore {name}",
                f"{name}가 없습니다.  git restore {name}  으로 되살리세요",
            )
        ) from None


def _lines(content: bytes, readme: Path) -> list[bytes]:
    """The lines between the two marks, with their line ends."""
    start, end = content.find(START), content.find(END)
    if not 0 <= start < end:
        marks = f"{START.decode()} ... {END.decode()}"
        raise Problem(
            say(
                f"{readme.name} has no roadmap between  {marks}: compare with  git diff {readme.name}",
                f"{readme.name}에서 로드맵({marks})을 찾지 못했습니다.  git diff {readme.name}  으로 확인하세요",
            )
        )
    return content[start + len(START) : end].splitlines(keepends=True)


def _text(markdown: bytes) -> str:
    return markdown.decode("utf-8", errors="replace").replace("**", "").replace("`", "").strip()


def _target(box: re.Match) -> str:
    """The link as a path from the root: "./01_basics/autograd.py#L3" is 01_basics/autograd.py."""
    return posixpath.normpath(unquote(_text(box["target"])).partition("#")[0])


# ---------------------------------------------------------------- showing


def show(root: Path) -> None:
    """Print the steps with their ticks, how far the reader is, and what comes next."""
    items = read(root)
    step = None
    for item in items:
        if item.step != step:
            step = item.step
            print(f"\n{paint(step, 'bold')}")
        if not item.target:
            print(paint(f"      {item.title}", "dim"))
        elif item.ticked:
            print(f"  {paint('[x]', 'green')} {item.title}")
        else:
            print(f"  [ ] {item.title}")
    boxes = [item for item in items if item.target]
    done = sum(item.ticked for item in boxes)
    print(f"\n{progress_bar(done, len(boxes))}  {say(f'{done} of {len(boxes)}', f'{len(boxes)}개 중 {done}개')}")
    show_next(items)


def progress_bar(done: int, total: int, width: int = 30) -> str:
    full, empty = ("█", "░") if can_show("█░") else ("#", "-")
    filled = width * done // max(total, 1)
    return full * filled + empty * (width - filled)


def show_next(items: list[Item]) -> None:
    """Print the first box without a tick, the command for it, and how to tick it."""
    targets = [item.target for item in items if item.target]
    item = next((item for item in items if item.target and not item.ticked), None)
    if item is None:
        print(say("Everything is ticked. Well done!", "모두 마쳤습니다. 수고하셨습니다!"))
        return
    tick = f"{companion()} tick {lessons.usual_name(item.target, targets)}"
    print(f"{say('next:', '다음:')} {paint(item.title, 'bold')}")
    print(f"  {command_for(item.target, targets)}")
    print(f"  {paint(say(f'then  {tick}', f'마치면  {tick}'), 'dim')}")


def command_for(target: str, targets: list[str]) -> str:
    """What to type for a roadmap item: check for exercises, run for lessons and projects, else the file to read."""
    stage, _, file = target.partition("/")
    if file == "exercises.py":
        return f"{companion()} check {lessons.names_of(stage)[0]}"
    if target.endswith(".py") or file.startswith("project"):
        return f"{companion()} run {lessons.usual_name(target, targets)}"
    return say(f"read {target}", f"{target} 읽기")


# ---------------------------------------------------------------- ticking


def tick(root: Path, names: list[str], ticked: bool) -> None:
    """Set the boxes of `names` in both READMEs, or change neither file."""
    before = {root / name: _content(root / name) for name in READMES.values()}
    targets = _targets(before)
    chosen = [lessons.find(name, targets) for name in names]
    after = {readme: _set_boxes(content, readme, chosen, ticked) for readme, content in before.items()}
    changed = {readme: content for readme, content in after.items() if content != before[readme]}
    _write_all(changed, before)
    for target in chosen:
        already = "" if changed else say("(already so)", "(이미 그렇습니다)")
        print(f"{paint('[x]', 'green') if ticked else '[ ]'} {lessons.usual_name(target, targets)} {already}".rstrip())
    if ticked:
        show_next(read(root))


def _targets(readmes: dict[Path, bytes]) -> list[str]:
    """Every link with a box, in either language, each once."""
    boxes = [BOX.match(line) for readme, content in readmes.items() for line in _lines(content, readme)]
    return list(dict.fromkeys(_target(box) for box in boxes if box))


def _set_boxes(content: bytes, readme: Path, targets: list[str], ticked: bool) -> bytes:
    """`content` with the boxes of `targets` set; no other byte changes."""
    lines = _lines(content, readme)
    start = content.find(START) + len(START)
    end = start + sum(map(len, lines))
    for number, line in enumerate(lines):
        box = BOX.match(line)
        if box and _target(box) in targets and (box["tick"] != b" ") != ticked:
            lines[number] = line[: box.start("tick")] + (b"x" if ticked else b" ") + line[box.end("tick") :]
    return content[:start] + b"".join(lines) + content[end:]


def _write_all(contents: dict[Path, bytes], before: dict[Path, bytes]) -> None:
    """Replace every file, each in one stroke; if one cannot be replaced, put back those that were."""
    for readme in contents:
        if not readme.stat().st_mode & stat.S_IWUSR:
            raise Problem(
                say(
                    f"{readme.name} is read-only: allow writing to it first",
                    f"{readme.name}가 읽기 전용입니다. 쓰기를 허용하세요",
                )
            )
    written = []
    for readme, content in contents.items():
        try:
            _replace(readme, content)
        except OSError as error:
            for earlier in written:
                _replace(earlier, before[earlier])
            raise Problem(
                say(
                    f"{readme.name} could not be written ({error.strerror}); neither README was changed",
                    f"{readme.name}에 쓰지 못해({error.strerror}) 두 README 모두 그대로 두었습니다",
                )
            ) from None
        written.append(readme)


def _replace(readme: Path, content: bytes) -> None:
    """Write `content` beside the file, then move it there: a reader sees the old file or the new one, never half of one."""
    readme = readme.resolve()
    unfinished = readme.with_name(f"{readme.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        shutil.copymode(readme, unfinished)
        os.replace(unfinished, readme)
    finally:
        unfinished.unlink(missing_ok=True)
