"""What can be run, and by which names."""

import difflib
import re
from pathlib import Path, PurePosixPath

from study.messages import Problem, companion, say


def runnable(root: Path) -> list[str]:
    """Every lesson and every part of a project that runs, as paths from the root, in the order of the course."""
    paths = []
    for stage in sorted(root.glob("[0-9][0-9]_*")):
        paths += [file for file in sorted(stage.glob("*.py")) if file.stem not in ("exercises", "__init__")]
        paths += [file for file in sorted(stage.glob("project*/*.py")) if _is_program(file)]
    return [file.relative_to(root).as_posix() for file in paths]


def _is_program(file: Path) -> bool:
    """Is it run, or only imported by others, as a project's model.py is?"""
    return b'if __name__ == "__main__":' in file.read_bytes()


def names_of(path: str) -> list[str]:
    """All names of a path, the usual one first.

    "01_basics/autograd.py" is autograd, basics/autograd, 01/autograd, 1/autograd, 01_basics/autograd;
    "09_projects/project1_mnist/train.py" and the project's folder are mnist, project1, project1_mnist and those
    below 09_projects/; "evaluate.py" beside it is mnist/evaluate, ...; a stage's exercises are 01/exercises, ...
    """
    first, *rest = parts_of(path)
    stages = _short_forms(first)
    if not rest:
        return stages
    if rest[0].startswith("project"):
        projects = _short_forms(rest[0])
        projects += [f"{stage}/{project}" for stage in stages for project in projects]
        if len(rest) == 1:
            return projects
        parts = [f"{project}/{'/'.join(rest[1:])}" for project in projects]
        return projects + parts if rest[1:] == ["train"] else parts
    inside = [f"{stage}/{'/'.join(rest)}" for stage in stages]
    return inside if rest == ["exercises"] else [rest[-1], *inside]


def parts_of(name: str) -> list[str]:
    """What a reader typed, or a path, taken apart: no case, no .py, no ./, either slash, - for _."""
    name = name.strip().casefold().replace("\\", "/").replace("-", "_").removesuffix(".py")
    return list(PurePosixPath(name).parts) or [""]


def _short_forms(folder: str) -> list[str]:
    """01_basics → 01, basics, 1, 01_basics; project5_realtime_detection → detection, realtime_detection, project5, ..."""
    if stage := re.fullmatch(r"(\d+)_(.+)", folder):
        return [stage[1], stage[2], str(int(stage[1])), folder]
    if project := re.fullmatch(r"(project\d+)_(.+)", folder):
        return list(dict.fromkeys([project[2].split("_")[-1], project[2], project[1], folder]))
    return [folder]


def find(name: str, paths: list[str], listed_by: str = "") -> str:
    """The one of `paths` that the reader means by `name`.

    Args:
        name: What the reader typed.
        paths: What there is.
        listed_by: The command that lists it; "" is none, which shows the roadmap.

    Raises:
        Problem: there is none, and which ones come near; or there are several, and which.
    """
    wanted = "/".join(parts_of(name))
    matches = [path for path in paths if wanted in names_of(path)]
    if len(matches) > 1:  # forecasting is a lesson and a project: the lesson comes first, the project is also project7
        matches = [path for path in matches if not path.startswith("09_projects/")] or matches
    if len(matches) == 1:
        return matches[0]
    if matches:
        choices = ", ".join(f"{names_of(path)[-1]}" for path in matches)
        raise Problem(say(f"{name} is more than one thing: {choices}", f"{name} 이름이 여럿입니다: {choices}"), code=2)
    raise unknown(name, paths, listed_by)


def unknown(name: str, paths: list[str], listed_by: str = "") -> Problem:
    """The sentence about a name that does not exist, with the names that come near, or those in the stage of that name."""
    wanted = "/".join(parts_of(name))
    inside = [usual_name(path, paths) for path in paths if "/" in path and wanted in names_of(path.partition("/")[0])]
    if inside:
        listed = ", ".join(inside)
        english, korean = f"{name} is a whole stage; choose from: {listed}", f"{name}은(는) 단계 전체입니다. 고르세요: {listed}"
        return Problem(say(english, korean), code=2)
    usual = {other: usual_name(path, paths) for path in paths for other in names_of(path)}
    near = [usual[other] for other in difflib.get_close_matches(wanted, usual, n=9, cutoff=0.6)]
    near = list(dict.fromkeys(near))[:3]
    if near:
        english, korean = f"did you mean {' or '.join(near)}?", f"혹시 {' 또는 '.join(near)} 인가요?"
    else:
        command = f"{companion()} {listed_by}".rstrip()
        english, korean = f"{command} shows what there is", f"{command}로 목록을 볼 수 있습니다"
    return Problem(say(f'there is no "{name}"; {english}', f'"{name}" 이(가) 없습니다. {korean}'), code=2)


def usual_name(path: str, paths: list[str]) -> str:
    """The shortest usual name of `path` that none of the other `paths` has."""
    taken = {name for other in paths if other != path for name in names_of(other)}
    return next((name for name in names_of(path) if name not in taken), path)
