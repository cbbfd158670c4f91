"""Every exercise: the solution passes its check, the blank does not, and neither does anything else that is easily written.

All of it on copies: a learner who fills in exercises keeps a green suite.
"""

import ast
import copy
import inspect
from pathlib import Path

import pytest
from exercises.checking import judge, load

from study.exercises import exercise_names, split_hint, stages

ROOT = Path(__file__).resolve().parents[1]
STAGES = stages(ROOT)
EXERCISES = [(stage, name) for stage in STAGES for name in exercise_names(ROOT, stage)]
every_stage = pytest.mark.parametrize("stage", STAGES)
every_exercise = pytest.mark.parametrize(("stage", "name"), EXERCISES)

Definition = ast.FunctionDef | ast.ClassDef
RAISE = ast.parse("raise NotImplementedError").body
RETURN_NONE = ast.parse("return None").body
ANYTHING = ast.parse("def anything(*arguments, **keywords): ...").body[0].args


def exercise_file(stage: str) -> ast.Module:
    """The stage's exercises as a syntax tree; skips while a learner's file is not Python."""
    try:
        return ast.parse((ROOT / stage / "exercises.py").read_bytes())
    except SyntaxError as error:
        pytest.skip(f"{stage}/exercises.py, line {error.lineno}: {error.msg}")


def definitions(tree: ast.Module) -> dict[str, Definition]:
    """The public functions and classes at the top of a file."""
    return {node.name: node for node in tree.body if isinstance(node, Definition) and not node.name.startswith("_")}


def is_blank(node: Definition) -> bool:
    """Does every function in it still end in `raise NotImplementedError`?"""
    functions = [part for part in ast.walk(node) if isinstance(part, ast.FunctionDef)]
    return bool(functions) and all(ast.unparse(function.body[-1]) == "raise NotImplementedError" for function in functions)


def with_bodies(tree: ast.Module, body: list[ast.stmt], keep_methods: bool = True) -> ast.Module:
    """A copy in which every function and method takes anything and consists of its docstring and `body`.

    The rest of the file may be the learner's by now: an import that fails, a print to try out what is blank here. That
    is allowed to fail. With keep_methods=False classes lose their methods altogether.
    """
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.args, node.returns = copy.deepcopy(ANYTHING), None
            node.body = [*docstring(node), *copy.deepcopy(body)]
        elif isinstance(node, ast.ClassDef) and not keep_methods:
            node.body = [part for part in node.body if not isinstance(part, ast.FunctionDef)] or [ast.Pass()]
    tree.body = [node if isinstance(node, Definition) else may_fail(node) for node in tree.body if not is_future(node)]
    return ast.fix_missing_locations(tree)


def docstring(node: ast.FunctionDef) -> list[ast.stmt]:
    return node.body[:1] if ast.get_docstring(node) is not None else []


def may_fail(statement: ast.stmt) -> ast.stmt:
    attempt = ast.parse("try:\n    ...\nexcept Exception:\n    pass").body[0]
    attempt.body = [statement]
    return attempt


def is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"  # it would have to come first


def outcome(stage: str, name: str, answers: Path) -> tuple[str, str]:
    """Run one check against the file `answers`; what `study check` would report, and its message."""
    check = getattr(load(ROOT / "tests" / "exercises" / f"test_{stage}.py"), f"test_{name}")
    try:
        check(load(answers))
    except Exception as error:
        return judge(error, answers)
    return "passed", ""


@every_exercise
def test_solution_passes(stage, name):
    assert outcome(stage, name, ROOT / "notes" / "solutions" / f"{stage}.py") == ("passed", "")


@every_exercise
def test_blank_is_not_tried(stage, name, tmp_path):
    answers = tmp_path / "exercises.py"
    answers.write_text(ast.unparse(with_bodies(exercise_file(stage), RAISE)), encoding="utf-8")
    skip_if_gone(stage, name)
    assert outcome(stage, name, answers) == ("untried", "")


@every_exercise
@pytest.mark.parametrize("keep_methods", [True, False])
def test_returning_nothing_is_wrong(stage, name, keep_methods, tmp_path):
    answers = tmp_path / "exercises.py"
    answers.write_text(ast.unparse(with_bodies(exercise_file(stage), RETURN_NONE, keep_methods)), encoding="utf-8")
    skip_if_gone(stage, name)
    status, message = outcome(stage, name, answers)
    assert status == "wrong"
    assert message


def skip_if_gone(stage: str, name: str) -> None:
    if name not in definitions(exercise_file(stage)):
        pytest.skip(f"{name} is not in {stage}/exercises.py any more")


@every_stage
def test_exercises_checks_and_solutions_have_the_same_names(stage):
    """What is blank in the exercises has a check; the reader's own functions beside them may have any name."""
    checks = set(exercise_names(ROOT, stage))
    solutions = ast.parse((ROOT / "notes" / "solutions" / f"{stage}.py").read_bytes())
    assert set(definitions(solutions)) == checks
    blanks = {name for name, node in definitions(exercise_file(stage)).items() if is_blank(node)}
    assert blanks <= checks


@every_stage
def test_blanks_say_what_to_do_and_take_what_the_solutions_take(stage):
    exercises = definitions(exercise_file(stage))
    solutions = definitions(ast.parse((ROOT / "notes" / "solutions" / f"{stage}.py").read_bytes()))
    if not all(is_blank(node) for node in exercises.values()):
        pytest.skip("somebody is at work on these exercises")
    for name, node in exercises.items():
        assert ast.get_docstring(node), f"{name} has no docstring"
        assert parameters(node) == parameters(solutions[name]), f"{name} takes other arguments than its solution"


def parameters(node: Definition) -> list[str]:
    """Names of the parameters: a function's, or those of all methods of a class."""
    if isinstance(node, ast.FunctionDef):
        return [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
    return [f"{method.name}.{name}" for method in node.body if isinstance(method, ast.FunctionDef) for name in parameters(method)]


@every_exercise
def test_hint_is_in_both_languages(stage, name):
    node = exercise_names(ROOT, stage)[name]
    docstring = inspect.cleandoc(ast.get_docstring(node) or "")
    assert docstring.startswith("Hint:") and docstring.count("힌트:") == 1
    english, korean = split_hint(docstring)
    assert len(english) > 20 and len(korean) > 10 and korean != english
    assert [argument.arg for argument in node.args.args] == ["answers"]


def test_every_stage_with_exercises_has_checks():
    with_exercises = sorted(file.parent.name for file in ROOT.glob("[0-9][0-9]_*/exercises.py"))
    assert set(with_exercises) <= set(STAGES)
