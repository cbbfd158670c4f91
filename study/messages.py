"""What the companion says, in the reader's language and within what the console can show."""

import locale
import os
import sys
from pathlib import Path

COLOURS = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}


class Problem(Exception):
    """Something the reader can put right: told in one sentence, without a traceback.

    Args:
        message: The sentence, already in the reader's language.
        code: The exit code: 1, or 2 for a name or flag that does not exist.
    """

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


def say(english: str, korean: str) -> str:
    """Pick the text in the reader's language."""
    return korean if language() == "ko" else english


def language() -> str:
    """The reader's language, "ko" or "en": STUDY_LANG, else the locale; English where the console has no Hangul."""
    chosen = os.environ.get("STUDY_LANG") or _locale()
    return "ko" if chosen.lower().startswith("ko") and can_show("한글") else "en"


def _locale() -> str:
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if os.environ.get(variable):
            return os.environ[variable]
    return locale.getlocale()[0] or ""  # Windows sets no variable; it answers "Korean_Korea" here


def can_show(text: str) -> bool:
    """Can standard output's encoding hold `text`?"""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def prepare_console() -> None:
    """Let no character stop the program: what a console cannot show becomes "?"."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def paint(text: str, colour: str, stream=None) -> str:
    """Colour `text` where `stream` (default: standard output) is a terminal that shows colours."""
    return f"\033[{COLOURS[colour]}m{text}\033[0m" if _shows_colour(stream or sys.stdout) else text


def _shows_colour(stream) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    return os.name != "nt" or _windows_console_takes_colour()


def _windows_console_takes_colour() -> bool:
    """Switch on escape sequences in Windows' console; consoles before Windows 10 refuse."""
    import ctypes

    console = ctypes.windll.kernel32.GetStdHandle(-11)
    mode = ctypes.c_ulong()
    understands_escapes = 0x0004
    if not ctypes.windll.kernel32.GetConsoleMode(console, ctypes.byref(mode)):
        return False
    return bool(ctypes.windll.kernel32.SetConsoleMode(console, mode.value | understands_escapes))


def note(text: str) -> None:
    """Say something beside the matter itself: on standard error, so that a lesson's own output stays clean."""
    print(paint(text, "dim", sys.stderr), file=sys.stderr, flush=True)


def companion() -> str:
    """How the reader starts the companion: with the Python they typed, or the platform's usual one."""
    typed = sys.orig_argv[0] if sys.orig_argv else ""
    if not typed or Path(typed).name != typed:  # a path: the launcher's or an editor's, nobody types that
        typed = "py" if os.name == "nt" else "python3"
    return f"{typed} -m study"
