"""Figures: saved to outputs/<lesson>/, with labels that the machine's fonts can show."""

import contextlib
import functools
import os
from pathlib import Path

from utils import paths
from utils.lesson import mention

KOREAN_FONTS = (
    "Malgun Gothic",  # Windows
    "Apple SD Gothic Neo",  # macOS
    "AppleGothic",
    "NanumGothic",
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",  # the same file holds Hangul; matplotlib lists a collection by its first name
    "Noto Sans KR",
    "UnDotum",
    "Baekmuk Gulim",
)


def save_figure(figure, file: str, name: str) -> Path:
    """Write a matplotlib figure to outputs/<lesson>/<name>.png and close it.

    Args:
        figure: A matplotlib Figure.
        file: The lesson's `__file__`.
        name: The picture's name, without an ending.
    """
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    from utils import distributed

    for text in figure.findobj(Text):
        if text.get_fontfamily() == ["sans-serif"]:  # made before the first Korean `label` changed the default
            text.set_fontfamily(plt.rcParams["font.family"])
    target = paths.outputs(paths.lesson_name(file)) / f"{name}.png"
    if not distributed.is_main():  # of several processes, one draws
        plt.close(figure)
        return target
    unfinished = target.with_name(f"{name}.{os.getpid()}.tmp.png")  # a run that is stopped leaves no half picture
    try:
        figure.savefig(unfinished, dpi=110, bbox_inches="tight")
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
        plt.close(figure)
    mention("written", paths.short(target))
    return target


@functools.cache
def korean_font() -> str | None:
    """The first installed font that has Hangul, or None."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    if not any(font.name in KOREAN_FONTS for font in manager.ttflist):
        # matplotlib keeps its list of fonts on disk: one that was installed since is not in it.
        for path in set(font_manager.findSystemFonts()) - {font.fname for font in manager.ttflist}:
            with contextlib.suppress(OSError, RuntimeError):  # a font file that matplotlib cannot read
                manager.addfont(path)
    installed = {font.name for font in manager.ttflist}
    return next((name for name in KOREAN_FONTS if name in installed), None)


def label(english: str, korean: str) -> str:
    """A label for a figure: Korean for a Korean reader where a font for it is installed, else English.

    Without such a font matplotlib would draw a box for every syllable.
    """
    if not _reader_is_korean() or korean_font() is None:
        return english
    import matplotlib

    matplotlib.rcParams["font.family"] = [korean_font(), "DejaVu Sans"]
    matplotlib.rcParams["axes.unicode_minus"] = False  # many Korean fonts lack the minus sign U+2212
    return korean


def _reader_is_korean() -> bool:
    import locale

    language = os.environ.get("STUDY_LANG") or locale.getlocale()[0] or ""
    return language.lower().startswith("ko")
