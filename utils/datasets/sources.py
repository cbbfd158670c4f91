"""What the data sets of every kind share: where one comes from, and how it is told that a file is damaged."""

from pathlib import Path
from typing import Literal

from utils import catalogue, paths
from utils.lesson import LessonError, explain

Source = Literal["auto", "real", "sample"]


def locate(name: str, source: Source, download: bool = False) -> Path | None:
    """Decide between the real set and the sample.

    Args:
        name: As in `utils.catalogue`.
        source: "auto", "real" or "sample".
        download: With "auto", try the official download before the sample.

    Returns:
        Where the real set lies, or None: use the sample.

    Raises:
        LessonError: source="real", and it can neither be found nor downloaded.
    """
    place = None if source == "sample" else catalogue.find(name)
    if place is None and (source == "real" or (source == "auto" and download)):
        try:
            catalogue.fetch(name)
            place = catalogue.find(name)
        except (LessonError, OSError) as error:
            if source == "real":
                raise
            print(f"Going on with the sample: {explain(error) if isinstance(error, OSError) else error}")
    return place


def damaged(path: Path, what: str, name: str) -> LessonError:
    """The error for a file that is there and cannot be used."""
    return LessonError(
        f"{paths.short(path)} is damaged: {what}. Move it away and run `python -m study data {name}`, "
        "or go on with --source sample; the file was left as it is"
    )


def unreadable(path: Path, error: Exception, name: str) -> LessonError:
    """The error for a file that could not be read: missing, refused by the system, or with something else in it."""
    if isinstance(error, FileNotFoundError):
        return LessonError(f"{paths.short(path)} is missing: get it from {catalogue.CATALOGUE[name].homepage}")
    if isinstance(error, OSError) and error.errno is not None:
        return LessonError(explain(error))
    return damaged(path, f"it cannot be read ({str(error).splitlines()[0].rstrip(':')})", name)
