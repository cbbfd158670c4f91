"""results: every lesson is run, its headline is kept, and the tables are made of what was kept."""

import csv
import json
import re
from xml.etree import ElementTree

import pytest
from companion.conftest import ROOT

from study import results
from study.roadmap import read as read_roadmap

# Prints nothing and records what utils.lesson.run would: a number that depends on the seed, and one that does not.
LESSON = """\
import json, os, pathlib, sys
def main(seed: int = 0): ...
seed = int(sys.argv[2]) if sys.argv[1:] else 0
if pathlib.Path(__file__).with_name("broken").exists():
    sys.exit("error: no luck today")
with open(os.environ["COUNT"], "a", encoding="utf-8") as file:
    file.write(pathlib.Path(__file__).stem + "\\n")
folder = pathlib.Path(os.environ["STUDY_WORK_DIR"], "outputs", pathlib.Path(__file__).stem)
folder.mkdir(parents=True)
record = {"results": {"accuracy": 0.9 + seed / 100, "chance": 0.1}, "data": ["coins of our own"], "device": ["cpu (abacus)"]}
record |= {"seconds": 2.0, "python": "3.11", "torch": "2.14", "system": "Linux"}
(folder / "results.json").write_text(json.dumps(record), encoding="utf-8")
"""

HEADLINES = """\
program,metric,baseline,better,what,what in Korean
01_basics/autograd.py,accuracy,chance,more,"right, by chance","맞힌 비율, 우연"
01_basics/basic_nn.py,accuracy,,,share of heads,앞면의 비율
"""


@pytest.fixture
def course(project, monkeypatch, tmp_path):
    """A project with two lessons that record results, and write down that they were run."""
    (project / results.HEADLINES).write_text(HEADLINES, encoding="utf-8")
    (project / "01_basics/autograd.py").write_text(LESSON, encoding="utf-8")
    (project / "01_basics/basic_nn.py").write_text(LESSON.replace("seed: int = 0", ""), encoding="utf-8")
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    (tmp_path / "count").write_text("", encoding="utf-8")
    return project


@pytest.fixture
def runs(tmp_path):
    """Which lessons were run, in order."""
    return lambda: (tmp_path / "count").read_text(encoding="utf-8").split()


class TestMeasuring:
    def test_every_program_with_every_seed(self, course, here, runs):
        assert here("results", "--seeds", "3").returncode == 0
        assert runs() == ["autograd", "autograd", "autograd", "basic_nn"]  # the second has no --seed
        page = (course / "notes/en/results.md").read_text(encoding="utf-8")
        row = "| [autograd](../../01_basics/autograd.py) | right, by chance ↑ | **0.91 (0.9 … 0.92)** | 0.1 | 2 |"
        assert row in page and "| share of heads | **0.9** |  | 2 |" in page
        assert "cpu (abacus), Python 3.11, PyTorch 2.14, Linux" in page and "4 runs" in page
        assert "맞힌 비율, 우연" in (course / "notes/ko/results.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("values", "told"),
        [([2.5e-16], "2.5e-16"), ([0.12345], "0.123"), ([904.4, 1213.2], "1,059 (904 … 1,213)"), ([-0.5, 0.5], "0 (-0.5 … 0.5)")],
    )
    def test_three_digits_that_count(self, values, told):
        assert results._spread(values) == told

    def test_pictures(self, course, here):
        here("results", "--seeds", "3")
        shares = (course / "notes/figures/results_shares.svg").read_text(encoding="utf-8")
        # The axis goes from 190 at 0 % to 720 at 100 %: 0.91 on average, from 0.90 to 0.92, and 0.1 by chance.
        ElementTree.fromstring(shares)
        assert 'class="result" cx="672.3"' in shares and 'class="baseline" cx="243.0"' in shares
        assert 'class="range" x1="667.0" x2="677.6"' in shares and ">autograd</text>" in shares
        assert "basic_nn" not in shares  # it is held against nothing
        assert "circle" not in (course / "notes/figures/results_errors.svg").read_text(encoding="utf-8")

    def test_errors_are_drawn_in_parts_of_their_baseline(self, course):
        text = HEADLINES.replace("chance,more", "chance,less")
        (course / results.HEADLINES).write_text(text, encoding="utf-8")
        runs = [{"metric": 2.0, "baseline": 4.0}, {"metric": 6.0, "baseline": 4.0}]
        picture = results.chart(course, {"01_basics/autograd.py": {"runs": runs}}, "less")
        assert 'class="baseline" cx="543.3"' in picture  # 1 on an axis that ends at 1.5
        assert 'class="range" x1="366.7" x2="720.0"' in picture

    def test_goes_on_where_it_was(self, course, here, runs):
        here("results", "autograd", "--seeds", "1")
        here("results", "--seeds", "2")
        assert runs() == ["autograd", "autograd", "basic_nn"]

    def test_a_lesson_that_changed_is_measured_anew(self, course, here, runs):
        here("results", "--seeds", "2")
        with (course / "01_basics/autograd.py").open("a", encoding="utf-8") as file:
            file.write("print(1)\n")
        results.write_pages(course)
        assert "(before its last change)" in (course / "notes/en/results.md").read_text(encoding="utf-8")
        here("results", "--seeds", "2")
        assert runs() == ["autograd", "autograd", "basic_nn", "autograd", "autograd"]
        assert "(before its last change)" not in (course / "notes/en/results.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("text", "same"),
        [
            ('"""Coins, tossed"""\nx = f"{1}#{{}}"  # another remark\n\ny = 2\n', True),
            ('"""Coins"""\r\nx = f"{1}#{{}}"\r\ny = 2', True),
            ('x = f"{1}#{{}}"\ny = 2\n', True),
            ('"""Coins"""\nx = f"{1}"\ny = 2\n', False),
            ('"""Coins"""\nx = f"{1}#{{}}"\ny = 3\n', False),
            ('"""Coins"""\nx = f"{1}#{{}}"\ny = (\n', False),
        ],
    )
    def test_words_about_a_lesson_are_no_change_of_it(self, tmp_path, text, same):
        (tmp_path / "one.py").write_text('"""Coins"""\nx = f"{1}#{{}}"  # a remark\ny = 2\n', encoding="utf-8")
        (tmp_path / "two.py").write_bytes(text.encode())
        assert (results.fingerprint_of(tmp_path / "one.py") == results.fingerprint_of(tmp_path / "two.py")) == same

    @pytest.mark.parametrize(
        ("text", "takes"),
        [
            ("def main(steps: int = 9, seed: int = 0): ...", True),
            ("def main(*, seed: int | None = None): ...", True),
            ("def main(seeds: int = 5): ...\n\ndef helper(seed: int): ...", False),
            ("class Run:\n    seed: int = 0\n\n    def main(self, seed: int): ...\n\ndef main(): ...", False),
            ("def main(seed: int = 0:", False),
        ],
    )
    def test_only_an_argument_of_main_is_a_flag(self, tmp_path, text, takes):
        (tmp_path / "one.py").write_text(text, encoding="utf-8")
        assert results._takes_seed(tmp_path / "one.py") == takes

    def test_leaves_the_readers_outputs_alone(self, course, here):
        here("results", "--seeds", "1")
        assert not (course / "outputs").exists()

    def test_one_that_fails_does_not_stop_the_others(self, course, here, runs):
        (course / "01_basics/broken").touch()
        result = here("results", "--seeds", "1")
        assert result.returncode == 1 and "no luck today" in result.stdout and not runs()
        (course / "01_basics/broken").unlink()
        assert here("results", "--seeds", "1").returncode == 0

    def test_a_number_that_is_not_there(self, course, here):
        text = HEADLINES.replace("basic_nn.py,accuracy", "basic_nn.py,beauty")
        (course / results.HEADLINES).write_text(text, encoding="utf-8")
        result = here("results", "--seeds", "1")
        assert result.returncode == 1 and "no 'beauty'" in result.stdout

    @pytest.mark.parametrize(("arguments", "sentence"), [(("--seeds", "0"), "at least 1"), (("autogard",), "autograd")])
    def test_wrong_arguments(self, course, here, arguments, sentence):
        result = here("results", *arguments)
        assert result.returncode == 2 and sentence in result.stderr

    def test_damaged_file(self, course, here):
        (course / "notes").mkdir(exist_ok=True)
        (course / results.KEPT).write_text("{", encoding="utf-8")
        assert f"git restore {results.KEPT}" in here("results").stderr


class TestThisCourse:
    def test_every_program_has_a_headline(self):
        lessons = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("0[1-8]_*/*.py")}
        lessons = {path for path in lessons if not path.endswith(("exercises.py", "__init__.py"))}
        projects = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("09_projects/*/train.py")}
        assert set(results.read_headlines(ROOT)) == lessons | projects

    def test_headlines_follow_the_roadmap_in_each_stage(self):
        roadmap = [item.target for item in read_roadmap(ROOT)]
        told = [path.removesuffix("/train.py") for path in results.read_headlines(ROOT)]
        assert told == sorted((path for path in roadmap if path in told), key=lambda path: path.split("/")[0])

    def test_every_headline_is_whole(self):
        with (ROOT / results.HEADLINES).open(encoding="utf-8", newline="") as file:
            for row in list(csv.reader(file))[1:]:
                assert len(row) == 6 and row[1] and row[4] and row[5], row
                assert row[3] in results.ARROWS and (row[2] or not row[3]), row

    @pytest.mark.parametrize("language", ["en", "ko"])
    def test_the_tables_say_what_was_measured(self, language):
        kept = results.read(ROOT)
        page = (ROOT / results.TABLES[language]).read_text(encoding="utf-8")
        # Whoever changes a lesson has not measured it anew, and need not.
        told, found = (
            re.sub(r" \((before its last change|마지막 수정 전)\)", "", text)
            for text in (page, results.table(ROOT, kept, language))
        )
        assert kept and told == found
        json.dumps(kept, allow_nan=False)  # a result that is not a number is none

    @pytest.mark.parametrize("better", list(results.CHARTS))
    def test_the_pictures_show_what_was_measured(self, better):
        drawn = (ROOT / results.CHARTS[better]).read_text(encoding="utf-8")
        assert drawn == results.chart(ROOT, results.read(ROOT), better)
