"""A notebook from a lesson: its cells as they are, in the format of Jupyter (nbformat 4.5). Standard library only."""

import ast
import hashlib
import json
import re
from pathlib import Path

from study import files, lessons
from study.messages import Problem, companion, say

CELL = re.compile(r"^# %%[ ]?(.*)$", re.MULTILINE)

# A notebook is started in its own folder, or anywhere; a lesson knows where it lies and finds what it imports.
FIND_THE_COURSE = """\
# Find the course, so that `utils` and the projects can be imported.
import sys
from pathlib import Path

root = next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "{path}").exists())
sys.path[:0] = [str(root), str(root / "09_projects")]
__file__ = str(root / "{path}")"""


def make(root: Path, name: str, anyway: bool) -> Path:
    """Write notebooks/<name>.ipynb and return its path. One that the reader has changed stays, unless `anyway`."""
    paths = lessons.runnable(root)
    path = lessons.find(name, paths)
    usual = lessons.usual_name(path, paths)
    target = root / "notebooks" / f"{usual.replace('/', '_')}.ipynb"
    content = json.dumps(notebook((root / path).read_text(encoding="utf-8"), path), indent=1, ensure_ascii=False) + "\n"
    if target.exists() and not anyway and not _untouched(target):
        place = target.relative_to(root).as_posix()
        raise Problem(
            say(
                f"{place} has been worked in and stays as it is; to replace it:  {companion()} notebook {usual} --anyway",
                f"{place}에 작업한 내용이 있어 그대로 두었습니다. 바꾸려면:  {companion()} notebook {usual} --anyway",
            )
        )
    files.replace(target, content)
    return target


def notebook(source: str, path: str) -> dict:
    """The notebook of a lesson, as the object that its JSON holds.

    Args:
        source: The lesson's text: a docstring, then code in which lines `# %% Title` begin a cell.
        path: Of the lesson, from the course's folder.
    """
    docstring = ast.parse(source).body[0]
    end = docstring.end_lineno
    cells = [_cell("markdown", _markdown(ast.literal_eval(docstring.value))), _cell("code", FIND_THE_COURSE.format(path=path))]
    before, *pieces = CELL.split("".join(source.splitlines(keepends=True)[end:]))
    cells.append(_cell("code", before))
    for title, code in zip(pieces[::2], pieces[1::2], strict=True):
        if title:
            cells.append(_cell("markdown", f"## {title}"))
        cells.append(_cell("code", code))
    cells = [cell for cell in cells if cell["source"]]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "study": {"lesson": path, "made": _digest(cells)},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(kind: str, text: str) -> dict:
    cell = {"cell_type": kind, "id": "", "metadata": {}, "source": text.strip("\n").splitlines(keepends=True)}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell


def _markdown(docstring: str) -> str:
    """The docstring with its first line as a heading; the rest keeps its lines, as it does in the file."""
    title, _, rest = docstring.strip().partition("\n")
    return f"# {title}\n\n```text\n{rest.strip()}\n```"


def _digest(cells: list[dict]) -> str:
    sources = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def _untouched(file: Path) -> bool:
    """Is it as it was made? Running its cells does not count as a change, editing them does."""
    try:
        content = json.loads(file.read_bytes())
        return content["metadata"]["study"]["made"] == _digest(content["cells"])
    except (ValueError, KeyError, TypeError):
        return False
