"""Where things are read and written. Standard library only.

Everything that a run writes goes below outputs/ and models/ in the project's folder, or below $STUDY_WORK_DIR where that is
set (a class that shares one read-only checkout). Data is looked for in datasets/ and then in $STUDY_DATA_DIR.
"""

import contextlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def work_folder() -> Path:
    """The folder below which outputs/ and models/ lie."""
    return Path(os.environ.get("STUDY_WORK_DIR") or ROOT).expanduser()


def outputs(name: str) -> Path:
    """The folder for figures, logs and results of the lesson or project `name`. Made if it is missing."""
    return _made(work_folder() / "outputs" / name)


def models(name: str) -> Path:
    """The folder for checkpoints of the lesson or project `name`. Made if it is missing."""
    return _made(work_folder() / "models" / name)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def try_writing(folder: Path) -> None:
    """Find out whether files can be written below `folder`, which need not be there yet. Nothing is left behind.

    Raises:
        OSError: They cannot: no permission, a file in the place of a folder, a full disk.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    attempt = existing / f"study.{os.getpid()}.tmp"
    try:
        attempt.write_bytes(bytes(4096))  # a full disk still takes an empty file
    finally:
        with contextlib.suppress(OSError):
            attempt.unlink()


def lesson_name(file: str | Path) -> str:
    """The name under which a script's files are kept: "autograd" for a lesson, "project1_mnist", "benchmarks"."""
    path = Path(file).resolve()
    has_folder_of_its_own = path.parent.parent.name == "09_projects" or path.parent.name == "benchmarks"
    return path.parent.name if has_folder_of_its_own else path.stem


def data_folders() -> list[Path]:
    """The folders that may hold data sets, in the order in which they are searched."""
    folders = [ROOT / "datasets"]
    if os.environ.get("STUDY_DATA_DIR"):
        folders.append(Path(os.environ["STUDY_DATA_DIR"]).expanduser())
    return folders


def short(path: Path) -> str:
    """`path` as a reader wants to see it: relative to the project, or to $STUDY_DATA_DIR, where it lies inside."""
    roots = {"": ROOT}
    if os.environ.get("STUDY_DATA_DIR"):
        roots["$STUDY_DATA_DIR/"] = data_folders()[-1]
    for name, root in roots.items():
        with contextlib.suppress(ValueError):
            return name + path.resolve().relative_to(root.resolve()).as_posix()
    return str(path)
