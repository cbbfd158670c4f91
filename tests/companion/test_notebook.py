"""notebook: a lesson's cells in Jupyter's format; one that was worked in is never lost."""

import json

import pytest
from companion.conftest import ROOT

from study import notebooks

LESSON = '''\
"""Autograd · 자동 미분

The idea.
"""

import math


# %% 1. First
def first():
    return math.pi


# %%
if __name__ == "__main__":
    print(first())
'''


@pytest.fixture
def lesson(project):
    file = project / "01_basics/autograd.py"
    file.write_text(LESSON, encoding="utf-8")
    return file


def read(project) -> dict:
    return json.loads((project / "notebooks/autograd.ipynb").read_text(encoding="utf-8"))


def test_cells(here, project, lesson):
    result = here("notebook", "autograd")
    assert (result.returncode, result.stdout) == (0, "notebooks/autograd.ipynb\n")
    cells = read(project)["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "code", "markdown", "code", "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert sources[0] == "# Autograd · 자동 미분\n\n```text\nThe idea.\n```"
    assert sources[2:] == [
        "import math",
        "## 1. First",
        "def first():\n    return math.pi",
        'if __name__ == "__main__":\n    print(first())',
    ]


def test_cells_run_one_after_another(here, project, lesson, monkeypatch, capsys):
    here("notebook", "autograd")
    monkeypatch.chdir(project / "notebooks")
    monkeypatch.setattr("sys.path", [])
    names = {"__name__": "__main__"}
    for cell in read(project)["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert capsys.readouterr().out == "3.141592653589793\n"
    assert names["__file__"] == str(lesson)


def test_is_a_notebook_to_jupyter(here, project, lesson):
    nbformat = pytest.importorskip("nbformat")
    here("notebook", "autograd")
    nbformat.validate(nbformat.read(project / "notebooks/autograd.ipynb", as_version=4))


def test_every_lesson_has_the_same_code_in_its_notebook():
    for file in sorted(ROOT.glob("0[1-8]_*/*.py")):
        source = file.read_text(encoding="utf-8")
        path = file.relative_to(ROOT).as_posix()
        cells = [cell for cell in notebooks.notebook(source, path)["cells"] if cell["cell_type"] == "code"][1:]
        lines = [line for cell in cells for line in "".join(cell["source"]).splitlines() if line]
        assert lines == [line for line in source.partition('\n"""\n')[2].splitlines() if line and not line.startswith("# %%")], (
            path
        )
        for cell in cells:
            compile("".join(cell["source"]), path, "exec")


class TestWorkIsNotLost:
    def test_made_again_after_the_lesson_changed(self, here, project, lesson):
        here("notebook", "autograd")
        lesson.write_text(LESSON.replace("math.pi", "math.e"), encoding="utf-8")
        assert here("notebook", "autograd").returncode == 0
        assert "math.e" in (project / "notebooks/autograd.ipynb").read_text(encoding="utf-8")

    def test_outputs_are_no_work(self, here, project, lesson):
        here("notebook", "autograd")
        content = read(project)
        content["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "3.14"}]
        (project / "notebooks/autograd.ipynb").write_text(json.dumps(content), encoding="utf-8")
        assert here("notebook", "autograd").returncode == 0

    @pytest.mark.parametrize("damaged", [False, True])
    def test_edited_stays(self, here, project, lesson, damaged):
        here("notebook", "autograd")
        content = read(project)
        content["cells"][-1]["source"] = ["mine"]
        text = "{ not a notebook" if damaged else json.dumps(content)
        file = project / "notebooks/autograd.ipynb"
        file.write_text(text, encoding="utf-8")
        result = here("notebook", "autograd")
        assert result.returncode == 1 and "notebook autograd --anyway" in result.stderr
        assert file.read_text(encoding="utf-8") == text
        assert here("notebook", "autograd", "--anyway").returncode == 0
        assert "mine" not in file.read_text(encoding="utf-8")


def test_part_of_a_project(here, project):
    (project / "09_projects/project1_mnist/evaluate.py").write_text(LESSON, encoding="utf-8")
    assert here("notebook", "mnist/evaluate").stdout == "notebooks/mnist_evaluate.ipynb\n"


def test_unknown_name(here):
    assert "did you mean autograd?" in here("notebook", "autogard").stderr
