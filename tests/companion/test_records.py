"""note, stats, solution, bench: what a learner keeps and looks up."""

import datetime
import subprocess

import pytest

from study import records

TODAY = datetime.date(2026, 3, 9)
TEMPLATE = "# Paper note · 논문 노트\n\n- Title:\n"


@pytest.fixture
def templates(project):
    folder = project / "notes/templates"
    folder.mkdir(parents=True)
    for name in records.KINDS.values():
        (folder / name).write_text(TEMPLATE, encoding="utf-8")
    return folder


class TestNote:
    def test_dated_copy(self, project, templates):
        note = records.new_note(project, "weekly", [], TODAY)
        assert note == project / "notes/mine/2026-03-09-weekly.md"
        assert note.read_text(encoding="utf-8") == TEMPLATE

    def test_title(self, project, templates):
        note = records.new_note(project, "paper", ["Attention", "is all", "you need?"], TODAY)
        assert note.name == "2026-03-09-paper-attention-is-all-you-need.md"
        assert note.read_text(encoding="utf-8").splitlines()[0] == "# Attention is all you need?"

    @pytest.mark.parametrize("title", ["../../evil", "a/b\\c:d*?", "x" * 300, "어텐션"])
    def test_any_title_makes_a_name_in_the_folder(self, project, templates, title):
        note = records.new_note(project, "paper", [title], TODAY)
        assert note.parent == project / "notes/mine" and note.exists() and len(note.name) < 100

    def test_what_is_written_stays(self, project, templates):
        note = records.new_note(project, "weekly", [], TODAY)
        note.write_text("mine", encoding="utf-8")
        assert records.new_note(project, "weekly", [], TODAY) == note
        assert note.read_text(encoding="utf-8") == "mine"

    def test_command(self, here, templates):
        result = here("note", "experiment")
        assert result.stdout.startswith("notes/mine/") and result.stdout.endswith("-experiment.md\n")

    def test_unknown_kind(self, study):
        result = study("note", "diary")
        assert result.returncode == 2 and "weekly" in result.stderr and "Traceback" not in result.stderr

    def test_template_is_missing(self, here):
        assert "git restore notes/templates/weekly_review.md" in here("note", "weekly").stderr

    def test_every_template_is_there(self):
        from companion.conftest import ROOT

        assert {file.name for file in (ROOT / "notes/templates").glob("*.md")} == set(records.KINDS.values())


class TestStats:
    @staticmethod
    def number(text: str, name: str) -> str:
        return next(line for line in text.splitlines() if line.endswith(name)).removesuffix(name).strip()

    def test_nothing_yet(self, here):
        result = here("stats")
        assert result.returncode == 0
        assert self.number(result.stdout, "lessons ticked") == "0 / 2"
        assert self.number(result.stdout, "projects finished") == "0 / 1"
        assert self.number(result.stdout, "exercises passed") == "0 / 2"
        assert self.number(result.stdout, "your commits") == "-"

    def test_ticked_passed_written(self, here, project, templates):
        here("tick", "autograd", "mnist")
        (project / "01_basics/autograd.py").write_text("class A(nn.Module):\n    pass\n\nclass B:\n    pass\n", encoding="utf-8")
        (project / "09_projects/project1_mnist/model.py").write_text("class C(torch.nn.Module):\n    pass\n", encoding="utf-8")
        answers = "def double(x):\n    return 2 * x\n\n\ndef shout(text):\n    return text\n"
        (project / "01_basics/exercises.py").write_text(answers, encoding="utf-8")
        here("note", "paper", "One")
        here("note", "weekly", "paper week")
        text = here("stats").stdout
        assert self.number(text, "lessons ticked") == "1 / 2"
        assert self.number(text, "projects finished") == "1 / 1"
        assert self.number(text, "exercises passed") == "1 / 2"
        assert self.number(text, "models in what you ticked") == "2"
        assert self.number(text, "papers noted") == "1"
        assert self.number(text, "notes written") == "2"

    @pytest.mark.parametrize("answers", ["def double(:\n", "import nothing_of_this_name\n", "\0"])
    def test_exercises_that_cannot_be_run(self, here, project, answers):
        (project / "01_basics/exercises.py").write_text(answers, encoding="utf-8")
        assert self.number(here("stats").stdout, "exercises passed") == "0 / 2"

    def test_commits_are_the_learners(self, here, project):
        def git(*arguments: str) -> None:
            subprocess.run(["git", "-C", str(project), *arguments], check=True, capture_output=True)

        git("init")
        for email in ("a@other", "me@home", "me@home"):
            git("-c", f"user.email={email}", "-c", "user.name=n", "commit", "--allow-empty", "-m", "m")
        git("config", "user.email", "me@home")
        assert self.number(here("stats").stdout, "your commits") == "2"

    def test_korean(self, here, monkeypatch):
        monkeypatch.setenv("STUDY_LANG", "ko")
        assert self.number(here("stats").stdout, "체크한 레슨") == "0 / 2"


class TestSolution:
    def test_after_a_pass(self, here, project):
        (project / "01_basics/exercises.py").write_text("def double(x):\n    return x + x\n", encoding="utf-8")
        result = here("solution", "double")
        assert result.returncode == 0
        assert result.stdout == "notes/solutions/01_basics.py:1\ndef double(x):\n    return 2 * x\n"

    def test_not_before(self, here):
        result = here("solution", "double")
        assert (result.returncode, result.stdout) == (1, "")
        assert "hint double" in result.stderr and "solution double --anyway" in result.stderr

    def test_before_with_anyway(self, here):
        assert "return text.upper()" in here("solution", "01/shout", "--anyway").stdout

    def test_unknown(self, here):
        assert "did you mean" in here("solution", "doubel").stderr


class TestBench:
    @pytest.fixture(autouse=True)
    def benchmarks(self, project):
        (project / "benchmarks").mkdir()
        text = '"""Ours against theirs.\n\nMore.\n"""\nimport sys\nprint("ran", sys.argv[1:])\n'
        (project / "benchmarks/mnist.py").write_text(text, encoding="utf-8")

    def test_list(self, here):
        assert here("bench").stdout.split() == ["mnist", "Ours", "against", "theirs."]

    def test_run_with_its_flags(self, study):
        assert "ran ['cost', '--help']" in study("bench", "mnist", "cost", "--help").stdout

    def test_unknown(self, here):
        assert "did you mean mnist?" in here("bench", "mnits").stderr
        assert "study bench shows what there is" in here("bench", "xylophone").stderr
