"""What the checks share: comparing what came out with what should have, and judging what went wrong.

    from exercises.checking import expect

    def test_softmax(answers):
        \"\"\"Hint: ...

        힌트: ...
        \"\"\"
        expect(answers.softmax(x), torch.softmax(x, dim=-1), call="softmax([1, 2])")

torch is not imported here: where a tensor is compared, somebody has imported it.
"""

import ast
import inspect
import linecache
import math
import numbers
import sys
import textwrap
import traceback
import types
from pathlib import Path

from study.messages import say


class Wrong(AssertionError):
    """An exercise gives another result than it should. The message is written for the reader."""


class Broken(Exception):
    """The file as a whole cannot be loaded, so none of its exercises can be checked."""


def names_used(function) -> set[str]:
    """The names that the code of a function or class uses, with or without a dot before them: for what must not be used.

    Names that it makes itself, as parameters and variables, are left out: `grad = 2 * x` uses no autograd.
    """
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    after_dots = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    variables = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return after_dots | {node.id for node in names} - parameters - variables


# ---------------------------------------------------------------- comparing


def expect(got, expected, call: str, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Hold a result against the right one.

    Args:
        got: What the exercise returned.
        expected: A number, bool, string, dtype, None or tensor, or a tuple, list or dict of these. Types count (an int passes
            for a float), and so do a tensor's shape and dtype.
        call: The call as the reader would write it: "softmax([1, 2])".
        rtol: Relative tolerance of floating-point numbers.
        atol: Absolute tolerance of floating-point numbers.

    Raises:
        Wrong: they differ; the message says how.
    """
    difference = _difference(got, expected, rtol, atol)
    if difference:
        raise Wrong(f"{call}: {difference}")


def _difference(got, expected, rtol: float, atol: float) -> str | None:
    """How `got` differs from `expected`; None where it does not."""
    if got is None and expected is not None:
        return _sentence(expected, "None", say("is a `return` missing?", "`return`을 빠뜨렸나요?"))
    if _is_tensor(expected):
        return _tensor_difference(got, expected, rtol, atol)
    if isinstance(expected, bool):
        return None if got is expected else _sentence(expected, got, _item_remark(got))
    if isinstance(expected, numbers.Real):
        return _number_difference(got, expected, rtol, atol)
    if isinstance(expected, (tuple, list)):
        return _sequence_difference(got, expected, rtol, atol)
    if isinstance(expected, dict):
        return _dict_difference(got, expected, rtol, atol)
    same = type(got) is type(expected) and got == expected
    return None if same else _sentence(expected, got)


def _is_tensor(value) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _tensor_difference(got, expected, rtol: float, atol: float) -> str | None:
    import torch

    if not _is_tensor(got):
        remark = say(f"a {type(got).__name__}, not a tensor", f"텐서가 아니라 {type(got).__name__}")
        return _sentence(expected, got, remark)
    if got.shape != expected.shape:
        return _sentence(expected, got, say("another shape", "모양이 다릅니다"))
    if got.dtype != expected.dtype:
        return _sentence(expected.dtype, got.dtype, say("another dtype", "dtype이 다릅니다"))
    got, expected = got.detach().cpu(), expected.detach().cpu()
    unexpected_nan = got.isnan() & ~expected.isnan()
    if unexpected_nan.any():
        return _sentence(expected, got, say("NaN: not a number", "NaN은 수가 아닙니다") + _place(unexpected_nan))
    close = torch.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return None
    if not got.dim():
        return _sentence(expected, got)
    where = tuple((~close).nonzero()[0].tolist())
    ours, right = f"{got[where].item():.6g}", f"{expected[where].item():.6g}"
    return _sentence(expected, got, say(f"{ours} instead of {right}", f"{right} 대신 {ours}") + _place(~close))


def _place(wrong) -> str:
    """Where the first True stands, for example " at [0, 1]"."""
    where = wrong.nonzero()[0].tolist()
    return say(f" at {where}", f" (위치 {where})") if where else ""


def _number_difference(got, expected, rtol: float, atol: float) -> str | None:
    kind = numbers.Integral if isinstance(expected, numbers.Integral) else numbers.Real
    if isinstance(got, bool) or not isinstance(got, kind):
        remark = _item_remark(got) or say(
            f"a {type(got).__name__}, not a {type(expected).__name__}",
            f"{type(expected).__name__}이(가) 아니라 {type(got).__name__}",
        )
        return _sentence(expected, got, remark)
    if math.isnan(got) or math.isnan(expected):
        return None if math.isnan(got) and math.isnan(expected) else _sentence(expected, got)
    if kind is numbers.Integral:
        return None if got == expected else _sentence(expected, got)
    return None if math.isclose(got, expected, rel_tol=rtol, abs_tol=atol) else _sentence(expected, got)


def _item_remark(got) -> str:
    return (
        say("a tensor; .item() makes a Python number of it", "텐서입니다. .item()으로 파이썬 수를 꺼냅니다")
        if _is_tensor(got)
        else ""
    )


def _sequence_difference(got, expected, rtol: float, atol: float) -> str | None:
    kind = tuple if isinstance(expected, tuple) else list
    if not isinstance(got, kind):
        remark = say(f"a {type(got).__name__}, not a {kind.__name__}", f"{kind.__name__}이(가) 아니라 {type(got).__name__}")
        return _sentence(expected, got, remark)
    if len(got) != len(expected):
        return _sentence(
            expected, got, say(f"{len(got)} items instead of {len(expected)}", f"{len(expected)}개가 아니라 {len(got)}개")
        )
    for place, (ours, right) in enumerate(zip(got, expected, strict=True)):
        difference = _difference(ours, right, rtol, atol)
        if difference and _is_tensor(right):
            return f"[{place}]: {difference}"
        if difference:  # small things are easier to compare as a whole
            return _sentence(expected, got, say(f"item {place}", f"{place}번째 항목"))
    return None


def _dict_difference(got, expected, rtol: float, atol: float) -> str | None:
    if not isinstance(got, dict) or got.keys() != expected.keys():
        return _sentence(expected, got)
    for key, right in expected.items():
        difference = _difference(got[key], right, rtol, atol)
        if difference:
            return f"[{key!r}]: {difference}"
    return None


def _sentence(expected, got, remark: str = "") -> str:
    got = got if got == "None" else _show(got)
    sentence = say(f"expected {_show(expected)}, got {got}", f"기대한 값 {_show(expected)}, 실제 값 {got}")
    return f"{sentence} ({remark})" if remark else sentence


def _show(value, longest: int = 120) -> str:
    """`value` on one line, shortened; a tensor with its shape."""
    if _is_tensor(value):
        text = " ".join(repr(value.detach()).split())
        return _shorten(text, longest) + say(f" of shape {tuple(value.shape)}", f" 모양 {tuple(value.shape)}")
    return _shorten(" ".join(repr(value).split()), longest)


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 4] + " ..."


# ---------------------------------------------------------------- loading and judging


def load(path: Path) -> types.ModuleType:
    """The file at `path` as a module, always from its present text.

    Raises:
        Broken: the file is missing, is not Python, or fails while it is read.
    """
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    module.__getattr__ = lambda name: _vanished(name, path)
    sys.modules[f"answers in {path}"] = module  # dataclasses look their module up
    module.__name__ = f"answers in {path}"
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except OSError as error:
        raise Broken(f"{path.name}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        line = f"{_line(error.lineno)}: " if getattr(error, "lineno", None) else ""
        raise Broken(f"{line}{getattr(error, 'msg', error)}") from None
    except (Exception, SystemExit) as error:
        raise Broken(_told(error, path)) from None
    return module


def _vanished(name: str, path: Path):
    if name.startswith("__"):
        raise AttributeError(name)
    raise Wrong(say(f"{path.name} has no {name} any more", f"{path.name}에 {name}이(가) 없습니다"))


def judge(error: BaseException, path: Path) -> tuple[str, str]:
    """What an exception out of a check means for the exercise in the file at `path`.

    Returns:
        "untried", "wrong" or "broken", and a line for the reader.
    """
    if isinstance(error, Broken):
        return "broken", str(error)
    if isinstance(error, NotImplementedError) and _raised_by_blank(error, path):
        return "untried", ""
    if isinstance(error, AssertionError) and _line_in(error, path) is None:
        return "wrong", _first_line(error)
    return "wrong", _told(error, path)


def _raised_by_blank(error: NotImplementedError, path: Path) -> bool:
    """Is it the exercise's own `raise`? torch raises NotImplementedError as well."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    linecache.checkcache(last.filename)
    return Path(last.filename) == path and "NotImplementedError" in linecache.getline(last.filename, last.lineno)


def _told(error: BaseException, path: Path) -> str:
    """An exception in one line, with the line of the reader's file where it arose."""
    line = _line_in(error, path)
    where = f"{_line(line)}: " if line else ""
    message = _first_line(error)
    return f"{where}{type(error).__name__}: {message}" if message else f"{where}{type(error).__name__}"


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of the file at `path` that the exception passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return lines[-1] if lines else None


def _line(number: int) -> str:
    return say(f"line {number}", f"{number}번째 줄")


def _first_line(error: BaseException) -> str:
    return _shorten(next(iter(str(error).strip().splitlines()), ""), 300)
