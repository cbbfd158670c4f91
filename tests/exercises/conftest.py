"""Checks of the exercises: `pytest` holds them against the solutions, `python3 -m study check` against the reader's file."""

import json
from pathlib import Path

import pytest
from exercises import checking

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--answers", metavar="PATH", help="the file to check (default: the stage's notes/solutions)")
    parser.addoption("--report", metavar="PATH", help="a file for the findings, one JSON object on a line")


@pytest.fixture(scope="module")
def answers(request):
    """The module under check."""
    path = _answers_path(request.config, request.path)
    _record(request.config, status="loading")
    module = checking.load(path)
    _record(request.config, status="loaded")
    return module


def _answers_path(config, check_file: Path) -> Path:
    chosen = config.getoption("answers", default=None)  # absent where this file was found after the command line was read
    return Path(chosen) if chosen else ROOT / "notes" / "solutions" / f"{check_file.stem.removeprefix('test_')}.py"


def _record(config, **finding) -> None:
    """Add a line to the report; written at once, because an endless loop ends in the end of this process."""
    report = config.getoption("report", default=None)
    if report:
        with open(report, "a", encoding="utf-8") as file:
            file.write(json.dumps(finding, ensure_ascii=False) + "\n")


def pytest_runtest_setup(item):
    _record(item.config, exercise=_exercise(item), status="started")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.excinfo is not None:
        status, message = checking.judge(call.excinfo.value, _answers_path(item.config, item.path))
        _record(item.config, exercise=_exercise(item), status=status, message=message, printed=report.capstdout)
    elif call.when == "call":
        _record(item.config, exercise=_exercise(item), status="passed")
    return report


def _exercise(item) -> str:
    return item.name.removeprefix("test_")
