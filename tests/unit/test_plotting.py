"""utils.plotting: whole pictures, and labels that the machine can draw."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

from utils import lesson, paths, plotting
from utils.plotting import korean_font, label, save_figure


@pytest.fixture(autouse=True)
def _no_font_was_chosen(monkeypatch):
    """As in a fresh process: a Korean label of another test has changed matplotlib's settings for all that follow."""
    monkeypatch.setitem(matplotlib.rcParams, "font.family", ["sans-serif"])
    monkeypatch.setitem(matplotlib.rcParams, "axes.unicode_minus", True)


@pytest.fixture
def coarse_figures():
    """Here they are whole, as the reader's are."""


@pytest.fixture
def figure():
    figure, axis = plt.subplots(figsize=(1, 1))
    axis.plot([0, 1])
    yield figure
    plt.close(figure)


@pytest.fixture
def fonts(monkeypatch):
    """Pretend that fonts of these names are installed."""

    class Font:
        def __init__(self, name):
            self.name, self.fname = name, f"/fonts/{name}.ttf"

    def pretend(*names, installed_since=()):
        korean_font.cache_clear()
        manager = matplotlib.font_manager.fontManager
        monkeypatch.setattr(manager, "ttflist", [Font(name) for name in names])
        monkeypatch.setattr(manager, "addfont", lambda path: manager.ttflist.append(Font(Path(path).stem)))
        found = [f"/fonts/{name}.ttf" for name in (*names, *installed_since)]
        monkeypatch.setattr(matplotlib.font_manager, "findSystemFonts", lambda: found)

    with matplotlib.rc_context():
        yield pretend
    korean_font.cache_clear()


class TestSaveFigure:
    def test_writes_a_picture_and_closes_the_figure(self, figure, monkeypatch):
        monkeypatch.setattr(lesson, "_mentioned", {})
        target = save_figure(figure, "01_basics/autograd.py", "line")
        assert target == paths.outputs("autograd") / "line.png"
        assert plt.imread(target).ndim == 3
        assert not plt.fignum_exists(figure.number)
        assert lesson._mentioned["written"] == [paths.short(target)]
        assert [file.name for file in target.parent.iterdir()] == ["line.png"]

    def test_old_picture_survives_a_failure(self, figure, monkeypatch):
        target = paths.outputs("autograd") / "line.png"
        target.write_bytes(b"the old picture")

        def half(path, **_):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(figure, "savefig", half)
        with pytest.raises(OSError):
            save_figure(figure, "01_basics/autograd.py", "line")
        assert target.read_bytes() == b"the old picture"
        assert [file.name for file in target.parent.iterdir()] == ["line.png"]


class TestKoreanData:
    """Words that a lesson draws because they are its data: no label stands ready in English for them."""

    @pytest.fixture
    def drawn(self):
        figure, axis = plt.subplots(figsize=(2, 2), layout="constrained")
        axis.plot([0, 1], label="한글")
        axis.legend()
        axis.set_title("ㄱ for 강")
        axis.set_xticks(range(2), ["학교", "plain"], rotation=60)
        axis.annotate("값", (0, 0))
        yield figure, axis
        plt.close(figure)

    def test_in_latin_letters_where_no_font_has_hangul(self, drawn, monkeypatch, recwarn):
        figure, axis = drawn
        monkeypatch.setattr(plotting, "korean_font", lambda: None)
        save_figure(figure, "07_nlp/machine_translation.py", "alignment")
        labels = axis.get_xticklabels()
        assert [text.get_text() for text in labels] == ["hakgyo", "plain"]
        assert {text.get_rotation() for text in labels} == {60.0}
        assert axis.get_title() == "g for gang"
        assert [text.get_text() for text in (*axis.texts, *axis.get_legend().get_texts())] == ["gaps", "hangeul"]
        assert not [warning for warning in recwarn if "missing from" in str(warning.message)]

    def test_in_a_font_that_has_hangul_for_an_english_reader_too(self, drawn, monkeypatch):
        figure, axis = drawn
        monkeypatch.setattr(plotting, "korean_font", lambda: "NanumGothic")
        monkeypatch.setenv("STUDY_LANG", "en")
        monkeypatch.setattr(figure, "savefig", lambda path, **_: path.touch())  # the font is only pretended
        save_figure(figure, "07_nlp/machine_translation.py", "alignment")
        texts = [*axis.get_xticklabels(), *axis.texts, *axis.get_legend().get_texts()]
        assert [text.get_text() for text in texts] == ["학교", "plain", "값", "한글"]
        families = {text.get_text(): text.get_fontfamily() for text in texts}
        assert families["plain"] == ["sans-serif"]
        assert all(families[word] == ["NanumGothic", "DejaVu Sans"] for word in ("학교", "값", "한글"))

    @pytest.mark.parametrize(
        "korean, latin",
        [("한글", "hangeul"), ("때문에", "ttaemune"), ("없다", "eopsda"), ("ㄱㅏ", "ga"), ("뷁 é ½", "bwelk é ½"), ("", "")],
    )
    def test_letters(self, korean, latin):
        assert plotting.in_latin_letters(korean) == latin


class TestLabel:
    @pytest.mark.parametrize(
        "language, installed, expected",
        [
            ("ko", ["DejaVu Sans", "NanumGothic"], "손실"),
            ("ko_KR.UTF-8", ["Malgun Gothic"], "손실"),
            ("ko", ["DejaVu Sans"], "loss"),  # boxes instead of syllables help nobody
            ("en", ["NanumGothic"], "loss"),
        ],
    )
    def test_korean_where_it_is_wanted_and_can_be_drawn(self, fonts, monkeypatch, language, installed, expected):
        fonts(*installed)
        monkeypatch.setenv("STUDY_LANG", language)
        assert label("loss", "손실") == expected

    def test_korean_font_is_set_with_one_for_the_rest(self, fonts, monkeypatch):
        fonts("UnDotum", "Noto Sans CJK KR")
        monkeypatch.setenv("STUDY_LANG", "ko")
        label("loss", "손실")
        assert matplotlib.rcParams["font.family"] == ["Noto Sans CJK KR", "DejaVu Sans"]
        assert not matplotlib.rcParams["axes.unicode_minus"]

    def test_font_that_was_installed_since_is_found(self, fonts, monkeypatch):
        fonts("DejaVu Sans", installed_since=["NanumGothic"])
        monkeypatch.setenv("STUDY_LANG", "ko")
        assert label("loss", "손실") == "손실"
        assert [font.name for font in matplotlib.font_manager.fontManager.ttflist] == ["DejaVu Sans", "NanumGothic"]

    def test_locale_decides_without_study_lang(self, fonts, monkeypatch):
        fonts("NanumGothic")
        for name in ("STUDY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
            monkeypatch.delenv(name, raising=False)
        for name, expected in (("ko_KR", "손실"), ("Korean_Korea", "손실"), ("en_US", "loss"), (None, "loss")):
            monkeypatch.setattr("locale.getlocale", lambda *_, name=name: (name, "UTF-8"))
            assert label("loss", "손실") == expected

    def test_korean_locale_that_is_not_installed(self, fonts, monkeypatch):
        """As in a bare container: Python falls back to C, the companion speaks Korean, and so do the figures."""
        fonts("NanumGothic")
        for name, value in (("STUDY_LANG", ""), ("LC_ALL", ""), ("LC_MESSAGES", ""), ("LANG", "ko_KR.UTF-8")):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("locale.getlocale", lambda *_: (None, None))
        assert label("loss", "손실") == "손실"
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        assert label("loss", "손실") == "loss"

    def test_syllables_are_drawn(self, monkeypatch, recwarn):
        korean_font.cache_clear()
        if korean_font() is None:
            pytest.skip(f"none of these fonts is installed: {', '.join(plotting.KOREAN_FONTS)}")
        monkeypatch.setenv("STUDY_LANG", "ko")
        with matplotlib.rc_context():
            figure, axis = plt.subplots()
            axis.set_title(label("loss", "손실 -1"))
            save_figure(figure, __file__, "korean")
        assert not [warning for warning in recwarn if "missing from" in str(warning.message)]
