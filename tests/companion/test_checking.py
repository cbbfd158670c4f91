"""expect(): equal things pass, and whatever differs is told in words."""

import pytest
import torch
from exercises.checking import Broken, Wrong, expect, load

NAN = float("nan")


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (3, 3), (3.0000001, 3.0), (3, 3.0), (NAN, NAN), (True, True), ("a", "a"), (None, None), ({}, {}),
        ([1, 2.0], [1, 2.0]), ((1, "a", None), (1, "a", None)), (torch.float32, torch.float32),
        (torch.Size([2, 3]), (2, 3)), ((2, 3), torch.Size([2, 3])), ({"a": torch.ones(2)}, {"a": torch.ones(2)}),
        (torch.ones(2, requires_grad=True), torch.ones(2)), (torch.nn.Parameter(torch.ones(1)), torch.ones(1)),
        (torch.tensor(NAN), torch.tensor(NAN)), (torch.tensor([True]), torch.tensor([True])),
        (torch.zeros(0, 3), torch.zeros(0, 3)),
        (torch.tensor([1]), torch.tensor([1])), (torch.tensor([1 + 2j]), torch.tensor([1 + 2j])),
        (torch.ones(2).half(), torch.ones(2).half() + 1e-6),
    ],
)  # fmt: skip
def test_equal(got, expected):
    expect(got, expected, call="f()")


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (4, 3, "f(): expected 3, got 4"),
        (3.1, 3.0, "expected 3.0, got 3.1"),
        (3.0, 3, "a float, not a int"),
        (True, 1, "a bool, not a int"),
        (1, True, "expected True, got 1"),
        (torch.tensor(True), True, ".item()"),
        (torch.tensor(3.0), 3.0, ".item()"),
        ("3", 3.0, "expected 3.0, got '3' (a str, not a float)"),
        (NAN, 1.0, "got nan"),
        (None, 3, "got None (is a `return` missing?)"),
        (None, torch.ones(2), "got None (is a `return` missing?)"),
        (3, None, "expected None, got 3"),
        ("b", "a", "expected 'a', got 'b'"),
        (torch.float64, torch.float32, "expected torch.float32, got torch.float64"),
        ([1, 2], (1, 2), "a list, not a tuple"),
        ((1, 2), (1, 3), "expected (1, 3), got (1, 2) (item 1)"),
        ((1,), (1, 2), "1 items instead of 2"),
        ((1, None), (1, 2), "expected (1, 2), got (1, None)"),
        ({"a": 1}, {"b": 1}, "expected {'b': 1}, got {'a': 1}"),
        ({"a": 1}, {"a": 2}, "['a']: expected 2, got 1"),
        ([torch.zeros(1)], [torch.ones(1)], "[0]: expected tensor([1.]) of shape (1,), got tensor([0.]) of shape (1,)"),
        ([1.0, 2.0], torch.ones(2), "a list, not a tensor"),
        (torch.ones(2, 1), torch.ones(2), "of shape (2, 1) (another shape)"),
        (torch.ones(2).double(), torch.ones(2), "expected torch.float32, got torch.float64 (another dtype)"),
        (torch.tensor([1, 0]), torch.tensor([1, 2]), "0 instead of 2 at [1]"),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, 2.0]), "NaN: not a number at [1]"),
        (torch.tensor(1.0), torch.tensor(2.0), "expected tensor(2.) of shape (), got tensor(1.) of shape ()"),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 3j]), "at [0]"),
        (torch.tensor([True, False]), torch.tensor([True, True]), "at [1]"),
        (torch.zeros(100, 100), torch.eye(100), "0 instead of 1 at [0, 0]"),
    ],
)  # fmt: skip
def test_different(got, expected, words):
    with pytest.raises(Wrong) as raised:
        expect(got, expected, call="f()")
    assert words in str(raised.value)
    assert len(str(raised.value)) < 500 and "\n" not in str(raised.value)


def test_tolerance():
    expect(1.05, 1.0, call="f()", atol=0.1)
    expect(torch.tensor([1.05]), torch.tensor([1.0]), call="f()", rtol=0.1)


def test_load_reads_the_present_text(tmp_path):
    file = tmp_path / "answers.py"
    for value in (1, 2):  # within one second and of one length: a cached .pyc would be taken for fresh
        file.write_text(f"x = {value}\n", encoding="utf-8")
        assert load(file).x == value
    assert not (tmp_path / "__pycache__").exists()


def test_load_can_hold_dataclasses(tmp_path):
    file = tmp_path / "answers.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n",
        encoding="utf-8",
    )
    assert load(file).A().x == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "answers.py: No such file"),
        ("def double(x):\n    return (2 * x\n", "line 2: '(' was never closed"),
        ("def double(x):\nreturn 2 * x\n", "line 2: expected an indented block"),
        ("\nx = undefined\n", "line 2: NameError: name 'undefined' is not defined"),
        ("import a_module_that_nobody_has\n", "line 1: ModuleNotFoundError"),
        ("raise SystemExit(0)\n", "line 1: SystemExit: 0"),
        ("x = '\0'\n", "null bytes"),
    ],
)
def test_file_that_cannot_be_loaded(tmp_path, text, words):
    file = tmp_path / "answers.py"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(Broken) as raised:
        load(file)
    assert words in str(raised.value)
