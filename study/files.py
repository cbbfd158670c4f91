"""Files that are written whole or not at all."""

import os
from pathlib import Path


def replace(file: Path, text: str) -> None:
    """Write a text file at once: whoever stops us has the old one or the new one. Its folder is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
