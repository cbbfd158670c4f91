"""check and hint, from the command line to the learner's file."""

import pytest

from study import cli, exercises

FILE = "01_basics/exercises.py"

MANY_CHECKS = "from exercises.checking import expect\n" + "\n".join(
    f'''
def test_{name}(answers):
    """Hint: h

    힌트: ㅎ
    """
    expect(answers.{name}(3), 6, call="{name}(3)")
'''
    for name in ("right", "off", "nothing", "blank", "raises", "inside", "gone", "Kind", "quits", "library")
)

MANY_ANSWERS = """\
def helper(x):
    return x.missing


def right(x):
    return 2 * x


def off(x):
    print("x is", x)
    return 2 * x + 1


def nothing(x):
    2 * x


def blank(x):
    raise NotImplementedError  # TODO


def raises(x):
    return x / 0


def inside(x):
    return helper(x)


class Kind:
    pass


def quits(x):
    exit()


def library(x):
    from asyncio import AbstractEventLoop

    return AbstractEventLoop().run_forever()
"""


def write(project, text: str) -> None:
    (project / FILE).write_text(text, encoding="utf-8")


@pytest.fixture
def check(project, capfd):
    """Check in this process; return the exit code and what was printed."""

    def run(*stage: str) -> tuple[int, str]:
        code = cli.main(["check", *stage], root=project)
        output = capfd.readouterr()
        return code, output.out + output.err

    return run


def test_not_tried(study):
    result = study("check", "01")
    assert result.returncode == 1
    assert result.stdout.count("[not tried]") == 2 and "0 of 2 passed" in result.stdout
    assert "solutions" not in result.stdout


def test_every_kind_of_answer(project, check):
    (project / "tests/exercises/test_01_basics.py").write_text(MANY_CHECKS, encoding="utf-8")
    write(project, MANY_ANSWERS)
    code, output = check("01")
    assert code == 1
    for words in (
        "[passed]    right",
        "[wrong]     off\n      off(3): expected 6, got 7\n      | x is 3\n",
        "[wrong]     nothing\n      nothing(3): expected 6, got None (is a `return` missing?)",
        "[not tried] blank\n",
        "[wrong]     raises\n      line 23: ZeroDivisionError: division by zero",
        "[wrong]     inside\n      line 2: AttributeError: 'int' object has no attribute 'missing'",
        "[wrong]     gone\n      exercises.py has no gone any more",
        "[wrong]     Kind\n      TypeError: Kind() takes no arguments",
        "[wrong]     quits\n      line 35: SystemExit",
        "[wrong]     library\n      line 41: NotImplementedError",  # not the blank's own
        "1 of 10 passed",
        "hint off",
    ):
        assert words in output
    assert output.count("solutions") == 1


def test_all_passed(project, check):
    write(project, (project / "notes/solutions/01_basics.py").read_text(encoding="utf-8"))
    code, output = check()
    assert code == 0
    assert "notes/solutions/01_basics.py:1\n" in output and "notes/solutions/01_basics.py:5\n" in output
    assert "2 of 2 passed" in output and "tick 01/exercises" in output


def test_file_that_cannot_be_loaded(project, check):
    write(project, "def double(x):\n    return (2 * x\n")
    code, output = check("basics")
    assert code == 1
    assert output.count("line 2: '(' was never closed") == 1 and "Traceback" not in output


def test_endless_loops_end_and_the_others_are_checked(project, check, monkeypatch):
    monkeypatch.setattr(exercises, "SECONDS", 1)
    write(project, "def double(x):\n    while True: pass\n\ndef shout(text):\n    return text.upper()\n")
    code, output = check("1")
    assert code == 1
    assert "double\n      not finished after 1 s: a loop without an end?" in output
    assert "[passed]    shout" in output


def test_endless_loop_outside_of_the_functions(project, check, monkeypatch):
    monkeypatch.setattr(exercises, "SECONDS", 1)
    write(project, "while True: pass\n")
    code, output = check("1")
    assert code == 1
    assert output.count("not finished after 1 s") == 1


def test_python_itself_ends(project, check):
    write(project, "import os\n\ndef double(x):\n    os._exit(3)\n\ndef shout(text):\n    return text.upper()\n")
    code, output = check("1")
    assert code == 1
    assert "Python itself ended (exit code 3)" in output and "[passed]    shout" in output


def test_missing_file(project, check):
    (project / FILE).unlink()
    code, output = check("01")
    assert code == 1
    assert "git restore 01_basics/exercises.py" in output


def test_checks_that_cannot_run(project, check):
    (project / "tests/exercises/conftest.py").write_text("import a_module_that_nobody_has\n", encoding="utf-8")
    code, output = check("01")
    assert code == 1
    assert "a_module_that_nobody_has" in output and "could not run" in output


@pytest.mark.parametrize("name", ["01", "1", "basics", "01_basics", "01_basics/", "01_basics/exercises.py", "BASICS"])
def test_names_of_a_stage(project, name):
    assert exercises.find_stage(project, name) == "01_basics"


@pytest.mark.parametrize("name", ["02", "9", "autograd", "-"])
def test_stage_without_exercises(here, name):
    result = here("check", name)
    assert result.returncode == 2
    assert "01_basics" in result.stderr


def test_korean(project, check, monkeypatch):
    monkeypatch.setenv("STUDY_LANG", "ko")
    (project / "tests" / "conftest.py").write_text("raise ImportError('not meant for the exercises')", encoding="utf-8")
    write(project, "def double(x):\n    return 7\n\ndef shout(text):\n    raise NotImplementedError\n")
    _, output = check("01")
    assert "[틀림]" in output and "double(3): 기대한 값 6, 실제 값 7" in output and "[아직] shout" in output


class TestHint:
    def test_in_both_languages(self, study):
        assert study("hint", "double").stdout == "add it\nto itself.\n"
        assert study("hint", "DOUBLE", STUDY_LANG="ko").stdout == "자기 자신을\n더한다.\n"

    def test_unknown(self, here):
        result = here("hint", "duoble")
        assert result.returncode == 2 and "did you mean double?" in result.stderr
