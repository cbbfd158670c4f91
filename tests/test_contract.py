"""The house rules, held against every lesson that is there. Nothing here looks at a default value: those are the reader's."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = sorted(path for path in ROOT.glob("0[1-8]_*") if path.is_dir())
LESSONS = [path for stage in STAGES for path in sorted(stage.glob("*.py")) if not path.stem.startswith(("exercises", "__init__"))]
PROJECTS = sorted(path for path in (ROOT / "09_projects").glob("project*") if path.is_dir())
HEAVY = ("matplotlib", "sklearn", "pandas", "seaborn", "tensorboard", "torchvision", "torchaudio", "fastapi", "PIL", "tyro")

# Imports each module in turn and tells what that printed, loaded and took.
IMPORTER = """
import contextlib, importlib, io, json, sys, time
report = {}
for name in sys.argv[1:]:
    printed, before, started = io.StringIO(), set(sys.modules), time.perf_counter()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        importlib.import_module(name)
    loaded = sorted({module.partition(".")[0] for module in set(sys.modules) - before})
    report[name] = {"printed": printed.getvalue(), "loaded": loaded, "seconds": time.perf_counter() - started}
print(json.dumps(report))
"""


def import_in_turn(*names: str) -> dict[str, dict]:
    """What importing these modules does, in one new process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "09_projects")])}
    command = [sys.executable, "-c", IMPORTER, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.fixture(scope="module")
def imported() -> dict[str, dict]:
    """What happens when utils and then every lesson is imported, torch first."""
    utils = ("utils.lesson", "utils.plotting", "utils.seeding", "utils.device")
    return import_in_turn("torch", "numpy", *utils, *map(name_of, LESSONS))


def imports_in(tree: ast.AST) -> set[str]:
    """The names of all modules that a file imports, anywhere in it."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def is_korean(text: str) -> bool:
    return re.search("[가-힣]", text) is not None


@pytest.mark.parametrize("path", LESSONS, ids=name_of)
class TestLesson:
    def test_title_and_idea_are_in_both_languages(self, path):
        title, _, rest = (ast.get_docstring(parsed(path)) or "").partition("\n")
        assert re.match(r"[A-Z].+ · .*[가-힣]", title), "the first line is: English title · 한국어 제목"
        idea = rest.partition("You will")[0]
        assert is_korean(idea) and re.search("[a-z]{3,} [a-z]{2,}", idea)

    def test_docstring_has_every_field(self, path):
        docstring = ast.get_docstring(parsed(path)) or ""
        for field in ("You will", "Before", "Run", "You see", "Try next", "Theory", "Practise"):
            assert re.search(rf"^{field}\s", docstring, re.MULTILINE), f"{field} is missing"
        stage = path.parent.name
        for words in (
            f"python -m study run {path.stem}",
            f"notes/en/{stage}.md",
            f"notes/ko/{stage}.md",
            f"study check {stage[:2]}",
        ):
            assert words in docstring
        assert re.search(r"^Run.*\(.*\b(\d+|MEASURE) ?s\b", docstring, re.MULTILINE), "Run says how long it takes"

    def test_has_cells(self, path):
        cells = re.findall(r"^# %% \S.*", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(cells) >= 3

    def test_main_can_be_called_and_read_as_a_command_line(self, path):
        main = function(parsed(path), "main")
        assert main is not None, "there is no main"
        assert not (main.args.posonlyargs or main.args.vararg or main.args.kwarg)
        assert main.returns is not None and ast.unparse(main.returns).startswith("dict[str, float]")
        arguments = [*main.args.args, *main.args.kwonlyargs]
        defaults = [*main.args.defaults, *(default for default in main.args.kw_defaults if default is not None)]
        assert len(defaults) == len(arguments), "every argument has a default"
        docstring = ast.get_docstring(main) or ""
        assert docstring.partition("\n")[0].endswith((".", "?")), "main's first sentence is the command's help"
        if arguments:
            assert "Args:" in docstring
        for argument in arguments:
            assert argument.annotation is not None, f"{argument.arg} has no type"
            assert re.search(rf"^\s+{argument.arg}: \S", docstring, re.MULTILINE), f"Args does not explain {argument.arg}"

    def test_nothing_runs_on_import_but_definitions(self, path):
        *body, last = parsed(path).body
        assert ast.unparse(last).startswith("if __name__ == '__main__':\n    run(main")
        for node in body:
            plain = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert isinstance(node, plain) or docstring, f"line {node.lineno} does something when the file is imported"

    def test_import_is_silent_quick_and_light(self, path, imported):
        found = imported[name_of(path)]
        assert found["printed"] == ""
        assert not set(found["loaded"]) & set(HEAVY), "import it inside the function that needs it"
        assert found["seconds"] < 5  # an ordinary one takes milliseconds; this notices one that trains

    def test_imports_no_other_lesson_and_no_project(self, path):
        others = {other.stem for other in LESSONS if other != path} | {project.name for project in PROJECTS}
        others |= {".", *(stage.name for stage in STAGES)}
        assert not {name.partition(".")[0] for name in imports_in(parsed(path))} & others

    def test_is_not_too_long(self, path):
        """One that grows a second subject becomes two. Counted are lines with something on them."""
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 260

    def test_is_in_the_roadmap_and_the_notes(self, path):
        link = path.relative_to(ROOT).as_posix()
        for readme in ("README.md", "README.ko.md"):
            if (ROOT / readme).exists():
                assert f"({link})" in (ROOT / readme).read_text(encoding="utf-8"), f"{readme} does not link to {link}"
        for language in ("en", "ko"):
            assert (ROOT / "notes" / language / f"{path.parent.name}.md").exists()


class TestUtils:
    FILES = sorted((ROOT / "utils").rglob("*.py"))

    @pytest.mark.parametrize("path", FILES, ids=name_of)
    def test_imports_nothing_from_lessons_projects_and_companion(self, path):
        forbidden = {lesson.stem for lesson in LESSONS} | {project.name for project in PROJECTS} | {"study"}
        assert not {name.partition(".")[0] for name in imports_in(parsed(path))} & forbidden

    def test_package_itself_imports_nothing(self):
        assert not imports_in(parsed(ROOT / "utils" / "__init__.py"))

    def test_what_an_ordinary_lesson_uses_is_light(self, imported):
        for name, found in imported.items():
            if name.startswith("utils"):
                assert not set(found["loaded"]) & set(HEAVY), name
                assert found["printed"] == ""

    def test_command_line_and_catalogue_do_without_torch(self):
        """`study data` reads the catalogue before anything is installed."""
        found = import_in_turn("utils.catalogue", "utils.lesson", "utils.paths", "utils.plotting")
        loaded = {module for one in found.values() for module in one["loaded"]}
        assert not loaded & {*HEAVY, "torch", "numpy"}

    @pytest.mark.parametrize("path", FILES, ids=name_of)
    def test_public_functions_are_explained(self, path):
        for node in parsed(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{node.name} has no docstring"


class TestProject:
    def test_every_one_is_a_package_that_pip_installs(self):
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib came with Python 3.11
        packages = re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)[1]
        for project in PROJECTS:
            assert f'"{project.name}"' in packages
            assert f'{project.name} = "09_projects/{project.name}"' in text
            assert re.search(rf'known-first-party = .*"{project.name}"', text)

    def test_every_package_of_utils_is_listed(self):
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for init in (ROOT / "utils").rglob("__init__.py"):
            assert f'"{".".join(init.parent.relative_to(ROOT).parts)}"' in text

    def test_projects_import_no_lesson_and_no_other_project(self):
        for project in PROJECTS:
            others = {lesson.stem for lesson in LESSONS} | {other.name for other in PROJECTS if other != project}
            for path in project.glob("*.py"):
                assert not {name.partition(".")[0] for name in imports_in(parsed(path))} & others, path


class TestRequirements:
    @pytest.mark.parametrize("name", ["requirements.txt", "requirements-browser.txt"])
    def test_ascii_with_lower_bounds_only(self, name):
        text = (ROOT / name).read_bytes().decode("ascii")  # pip on a Korean Windows reads it as cp949
        for line in text.splitlines():
            if line and not line.startswith(("#", "-e ")):
                assert re.fullmatch(r"[a-z0-9-]+>=\d+(\.\d+)*(,\s*!=\d+(\.\d+)*)*(\s*;.*)?", line), line
        assert name != "requirements.txt" or text.rstrip().endswith("-e .")
