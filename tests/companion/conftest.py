"""A small project to try the companion on: the real study/ and lessons that only print. No test touches the real READMEs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from study import cli

ROOT = Path(__file__).resolve().parents[2]

ROADMAP = {
    "README.md": """\
# A course

- [ ] [Not in the roadmap](01_basics/autograd.py)

<!-- roadmap:start -->
### Step 1: Basics

- [ ] [Autograd](01_basics/autograd.py), gradients
- [ ] [A first network](01_basics/basic_nn.py)
- [ ] [Exercises](01_basics/exercises.py)
- Perceptron · planned

### Step 2: Projects

- [ ] [MNIST](09_projects/project1_mnist/)
<!-- roadmap:end -->

The end
""",
    "README.ko.md": """\
<!-- roadmap:start -->
### 1단계: 기초

* [ ] [자동 미분](./01_basics/autograd.py)
* [ ] [첫 신경망](./01_basics/basic_nn.py)
* [ ] [연습문제](./01_basics/exercises.py)
* 퍼셉트론 · 예정

### 2단계: 프로젝트

* [ ] [손글씨 숫자](./09_projects/project1_mnist)
<!-- roadmap:end -->
""",
}

LESSON = """\
import os, sys
print(__file__)
print("arguments", sys.argv[1:])
print("utf8", sys.flags.utf8_mode)
print("path", os.environ["PYTHONPATH"])
if __name__ == "__main__":
    sys.exit(int(os.environ.get("EXIT_WITH", 0)))
"""

PYPROJECT = """\
[tool.pytest.ini_options]
pythonpath = [".", "09_projects", "tests"]
addopts = "--import-mode=importlib"
"""

EXERCISES = '''\
"""Exercises"""


def double(x):
    """Twice x."""
    raise NotImplementedError  # TODO


def shout(text):
    """text in capitals."""
    raise NotImplementedError  # TODO
'''

SOLUTIONS = """\
def double(x):
    return 2 * x


def shout(text):
    return text.upper()
"""

CHECKS = '''\
from exercises.checking import expect


def test_double(answers):
    """Hint: add it
    to itself.

    힌트: 자기 자신을
    더한다.
    """
    expect(answers.double(3), 6, call="double(3)")


def test_shout(answers):
    """Hint: str has a method.

    힌트: str 의 메서드를 쓴다.
    """
    expect(answers.shout("ab"), "AB", call="shout('ab')")
'''


def write_project(root: Path) -> Path:
    """Write the small project to `root`; the Python that runs the tests satisfies its requirements."""
    shutil.copytree(ROOT / "study", root / "study", ignore=shutil.ignore_patterns("__pycache__"))
    files = {
        **ROADMAP,
        "requirements.txt": "pytest>=7\npytest-timeout>=2\npytest-xdist>=3\n-e .\n",
        "requirements-browser.txt": "pytest>=7\n",
        "pyproject.toml": PYPROJECT,
        "01_basics/autograd.py": LESSON,
        "01_basics/basic_nn.py": LESSON,
        "01_basics/exercises.py": EXERCISES,
        "02_neural_networks/two_spirals.py": LESSON,
        "notes/solutions/01_basics.py": SOLUTIONS,
        "tests/exercises/test_01_basics.py": CHECKS,
        **{f"09_projects/project1_mnist/{part}.py": LESSON for part in ("train", "evaluate", "predict")},
        **{f"09_projects/project1_mnist/{part}.py": "VALUE = 1\n" for part in ("model", "data", "__init__")},
    }
    for name in ("tests/exercises/conftest.py", "tests/exercises/checking.py"):
        files[name] = (ROOT / name).read_text(encoding="utf-8")
    for name in ("__init__", "catalogue", "lesson", "paths"):
        files[f"utils/{name}.py"] = (ROOT / "utils" / f"{name}.py").read_text(encoding="utf-8")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="\n")
    return root


def plain_environment(**changes: str) -> dict[str, str]:
    """The variables of a terminal in which nobody has set anything up."""
    dropped = ("STUDY_", "PYTHON", "PYTEST_", "LC_", "NO_COLOR", "VIRTUAL_ENV", "COV_", "EXIT_WITH")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return variables | {"LANG": "C.UTF-8", "STUDY_LANG": "en", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"} | changes


@pytest.fixture(autouse=True)
def english(monkeypatch):
    """Tests read English unless they say otherwise, whatever the machine's language and surroundings are."""
    for name in ("STUDY_WORK_DIR", "STUDY_DATA_DIR", "VIRTUAL_ENV", "NO_COLOR", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STUDY_LANG", "en")


@pytest.fixture
def project(tmp_path) -> Path:
    return write_project(tmp_path / "project")


@pytest.fixture
def here(project, capsys):
    """Run a command of the companion in this process, which is quicker than `study`; only text and exit code are of interest."""

    def run(*arguments: str) -> SimpleNamespace:
        code = cli.main(list(arguments), root=project)
        output = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=output.out, stderr=output.err)

    return run


@pytest.fixture
def study(project):
    """Run `python -m study ...` in the small project, as a process."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "study", *arguments]
        return subprocess.run(
            command,
            cwd=project,
            env=plain_environment(**variables),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=300,
        )

    return run
