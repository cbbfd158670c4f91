"""The roadmap: what is shown, and boxes that are ticked in both READMEs or in neither."""

import os
import subprocess
import sys

import pytest
from companion.conftest import ROADMAP, plain_environment

from study import roadmap
from study.messages import Problem


def contents(project) -> dict[str, bytes]:
    return {name: (project / name).read_bytes() for name in ROADMAP}


def test_nothing_ticked(here):
    output = here().stdout
    assert "Step 1: Basics" in output
    assert "0 of 4" in output  # what is planned does not count, nor what stands outside the marks
    assert "Perceptron · planned" in output and "[ ] Perceptron" not in output
    assert "Not in the roadmap" not in output
    assert "-m study run autograd" in output


def test_progress_and_next_follow_the_ticks(here):
    result = here("tick", "autograd", "basic_nn")
    assert result.returncode == 0, result.stderr
    assert "-m study check 01" in result.stdout  # the next item is the exercises
    output = here().stdout
    assert "[x] Autograd" in output and "2 of 4" in output
    here("tick", "01/exercises")
    assert "-m study run mnist" in here("next").stdout
    assert "Everything is ticked" in here("tick", "mnist").stdout
    assert here("untick", "autograd").returncode == 0
    assert "-m study run autograd" in here("next").stdout


def test_korean(study):
    result = study(STUDY_LANG="ko")
    assert "1단계: 기초" in result.stdout and "4개 중 0개" in result.stdout and "다음: 자동 미분" in result.stdout
    by_locale = study(STUDY_LANG="", LANG="ko_KR.UTF-8")
    assert by_locale.stdout == result.stdout


@pytest.mark.parametrize("name", ["exercises", "01/exercises", "basics/exercises", "1/exercises.py", "01_basics/exercises.py"])
def test_names_of_exercises(project, name):
    if name == "exercises":  # every stage has some
        with pytest.raises(Problem):
            roadmap.tick(project, [name], ticked=True)
    else:
        roadmap.tick(project, [name], ticked=True)
        assert b"[x] [Exercises]" in (project / "README.md").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.rstrip(b"\n"),
        lambda text: (
            text.replace(b"<!-- roadmap:end -->", b"\t \n  <!-- roadmap:end -->   ") + b"\xff not utf-8 \x0c \x85 \xe2\x80\xa8"
        ),
        lambda text: text.replace(b"- [ ]", b"  + [ ]").replace(b"* [ ]", b"3. [ ]"),
        lambda text: text.replace(b"(01_basics/autograd.py)", b'(<./01_basics/autograd.py> "title")'),
    ],
)
def test_only_the_box_changes(project, change):
    before = {name: change(text) for name, text in contents(project).items()}
    for name, text in before.items():
        (project / name).write_bytes(text)
    roadmap.tick(project, ["autograd"], ticked=True)
    after = contents(project)
    for name, text in before.items():
        start = text.index(b"roadmap:start")
        assert after[name] == text[:start] + text[start:].replace(b"[ ]", b"[x]", 1)
    roadmap.tick(project, ["autograd"], ticked=False)
    assert contents(project) == before


def test_box_is_known_by_its_link(project):
    korean = project / "README.ko.md"
    lines = korean.read_text(encoding="utf-8").replace("자동 미분", "Something [else]").splitlines(keepends=True)
    lines.insert(8, lines.pop(3))
    korean.write_text("".join(lines), encoding="utf-8")
    roadmap.tick(project, ["autograd"], ticked=True)
    assert "* [x] [Something [else]](./01_basics/autograd.py)" in korean.read_text(encoding="utf-8")
    assert korean.read_text(encoding="utf-8").count("[x]") == 1


def test_capital_x_and_ticking_twice(project, capsys):
    readme = project / "README.md"
    readme.write_bytes(readme.read_bytes().replace(b"- [ ] [Autograd]", b"- [X] [Autograd]"))
    assert roadmap.read(project)[0].ticked
    roadmap.tick(project, ["autograd"], ticked=True)  # the Korean box is still open
    assert b"- [X] [Autograd]" in readme.read_bytes()
    before = contents(project)
    roadmap.tick(project, ["autograd"], ticked=True)
    assert contents(project) == before
    assert "already so" in capsys.readouterr().out


def test_one_unknown_name_changes_nothing(here, project):
    before = contents(project)
    result = here("tick", "autograd", "basic_nm")
    assert result.returncode == 2
    assert "did you mean basic_nn?" in result.stderr
    assert contents(project) == before


def test_second_file_cannot_be_written(project, monkeypatch):
    before = contents(project)
    real, calls = os.replace, []

    def fail_the_second_time(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(roadmap.os, "replace", fail_the_second_time)
    with pytest.raises(Problem, match="README.ko.md could not be written.*No space left"):
        roadmap.tick(project, ["autograd"], ticked=True)
    assert contents(project) == before
    assert not list(project.glob("*.tmp"))


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_read_only(here, project, name):
    before = contents(project)
    (project / name).chmod(0o444)
    result = here("tick", "autograd")
    assert result.returncode == 1
    assert f"{name} is read-only" in result.stderr
    assert contents(project) == before


@pytest.mark.parametrize("damage", ["missing", "empty", "no end", "turned round"])
@pytest.mark.parametrize("command", [("tick", "autograd"), ()])
def test_damaged_readme(here, project, damage, command):
    readme = project / "README.md"
    if damage == "missing":
        readme.unlink()
    else:
        text = {
            "empty": "",
            "no end": "<!-- roadmap:start -->\n- [ ] [A](a.py)",
            "turned round": "<!-- roadmap:end --><!-- roadmap:start -->",
        }
        readme.write_text(text[damage], encoding="utf-8")
    result = here(*command)
    assert result.returncode == 1
    assert "README.md" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_file_mode_survives(project):
    (project / "README.md").chmod(0o664)
    roadmap.tick(project, ["autograd"], ticked=True)
    assert (project / "README.md").stat().st_mode & 0o777 == 0o664


class TestConsole:
    @pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp949"])
    @pytest.mark.parametrize("command", [(), ("--help",), ("data",)])
    def test_poor_encodings(self, study, encoding, command):
        result = study(*command, STUDY_LANG="ko", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr

    def test_ascii_gets_english_and_an_ascii_bar(self, study):
        study("tick", "autograd", "basic_nn")
        output = study(STUDY_LANG="ko", PYTHONIOENCODING="ascii", PYTHONUTF8="0").stdout
        assert "#" * 15 + "-" * 15 + "  2 of 4" in output

    def test_no_colour_in_a_pipe(self, here):
        assert "\033[" not in here().stdout

    @pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
    @pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
    def test_colour_on_a_terminal(self, project, variables, coloured):
        import pty

        ours, theirs = pty.openpty()
        environment = plain_environment(**({"TERM": "xterm"} | variables))
        subprocess.run([sys.executable, "-m", "study", "next"], cwd=project, env=environment, stdout=theirs)
        os.close(theirs)
        assert (b"\033[" in os.read(ours, 10_000)) is coloured

    @pytest.mark.skipif(os.name != "posix", reason="pipes")
    def test_reader_that_stops_reading(self, project):
        ours, theirs = os.pipe()
        os.close(ours)
        result = subprocess.run([sys.executable, "-m", "study"], cwd=project, env=plain_environment(), stdout=theirs, stderr=-1)
        os.close(theirs)
        assert result.stderr == b""
