"""Pixels that took seconds to make, kept in outputs/cache/ for the next run. Deleting that folder is safe."""

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from utils import paths

Arrays = dict[str, np.ndarray]


def folder() -> Path:
    """Where the files are kept."""
    return paths.work_folder() / "outputs" / "cache"


def kept(name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Return what make() returns, from the last run's file where that was made of the same.

    Args:
        name: Of the file, without an ending.
        key: Says of what the arrays are made: with another key they are made anew.
        make: Makes the arrays.
    """
    file = folder() / f"{name}.npz"
    arrays = _read(file, key)
    if arrays is None:
        arrays = make()
        _write(file, key, arrays)
    return arrays


def fingerprint(files: Iterable[Path], *settings) -> str:
    """A key for `kept`: name, size and time of every file that something is made of, and how it is made."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read(file: Path, key: str) -> Arrays | None:
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):  # then make it again
        with np.load(file) as content:
            if content["key"].item() == key:
                return {name: content[name] for name in content.files if name != "key"}
    return None


def _write(file: Path, key: str, arrays: Arrays) -> None:
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")  # two runs at once do not meet in one file
    with contextlib.suppress(OSError):  # a full disk or a read-only folder: the next run makes it again, that is all
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as sink:
                np.savez(sink, key=key, **arrays)
            os.replace(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)
