"""Figures: saved to outputs/<lesson>/, with labels that the machine's fonts can show."""

import contextlib
import functools
import os
import re
import unicodedata
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

HANGUL = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]+")  # pieces of syllables, letters, syllables
# How the Revised Romanization writes the pieces: 19 consonants that begin a syllable, 21 vowels, 27 consonants that end one.
LATIN = {
    0x1100: "g kk n d tt r m b pp s ss - j jj ch k t p h",
    0x1161: "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i",
    0x11A8: "k kk ks n nj nh t l lk lm lp ls lt lp lh m p ps t t ng t t k t p t",
}


def save_figure(figure, file: str, name: str) -> Path:
    """Write a matplotlib figure to outputs/<lesson>/<name>.png and close it.

    Args:
        figure: A matplotlib Figure.
        file: The lesson's `__file__`.
        name: The picture's name, without an ending.
    """
    import matplotlib.pyplot as plt

    from utils import distributed

    _choose_fonts(figure)
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


def _choose_fonts(figure) -> None:
    """Set every text of the figure in a font that has its letters. Where none has Hangul, write that in Latin letters.

    It is not only labels that are Korean: a lesson may draw the words of a sentence.
    """
    import matplotlib
    from matplotlib.text import Text
    from matplotlib.ticker import ScalarFormatter

    scales = [scale for axes in figure.axes for scale in (axes.xaxis, axes.yaxis)]
    for scale in scales:  # they write their labels anew whenever they are drawn
        if not isinstance(scale.get_major_formatter(), ScalarFormatter):  # which writes numbers
            names = [text.get_text() for text in scale.get_ticklabels()]
            if any(map(HANGUL.search, names)) and korean_font() is None:
                scale.set_ticks(scale.get_ticklocs(), [in_latin_letters(name) for name in names])
    for text in figure.findobj(Text):
        if text.get_fontfamily() == ["sans-serif"]:  # made before the first Korean `label` changed the default
            text.set_fontfamily(matplotlib.rcParams["font.family"])
        if HANGUL.search(text.get_text()):
            if korean_font() is None:
                text.set_text(in_latin_letters(text.get_text()))
            else:
                text.set_fontfamily([korean_font(), "DejaVu Sans"])


def in_latin_letters(text: str) -> str:
    """`text` with its Hangul written letter by letter in Latin ones: 한글 → hangeul. Not as it is spoken: 독립 → dokrip."""
    letters = {}
    for first, names in LATIN.items():
        letters |= {first + place: name.replace("-", "") for place, name in enumerate(names.split())}
    return HANGUL.sub(lambda found: unicodedata.normalize("NFKD", found[0]).translate(letters), text)


def _reader_is_korean() -> bool:
    import locale

    # The same questions as the companion's, so that both speak one language.
    chosen = (os.environ.get(name) for name in ("STUDY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"))
    language = next(filter(None, chosen), None) or locale.getlocale()[0] or ""
    return language.lower().startswith("ko")
