from __future__ import annotations

import marshal
from types import CodeType

import pytest

from netdump.image.compiler import compile_source

SOURCE = b'''"""Module."""
from __future__ import annotations


class Empty:
    """Only a docstring."""


def f(x: int) -> int:
    """Doc."""
    assert x, "stays"
    return x
'''


def load(compiled: bytes) -> dict[str, object]:
    code = marshal.loads(compiled[16:])
    assert isinstance(code, CodeType)
    names: dict[str, object] = {}
    exec(code, names)
    return names


def test_docstrings_go_and_assertions_stay() -> None:
    names = load(compile_source(SOURCE, "/usr/lib/x.py"))
    function, empty = names["f"], names["Empty"]
    assert callable(function)
    assert function.__doc__ is None
    assert empty.__doc__ is None
    assert names.get("__doc__") is None
    assert function(3) == 3
    with pytest.raises(AssertionError, match="stays"):
        function(0)


def test_tracebacks_show_the_path_in_the_image() -> None:
    code = marshal.loads(compile_source(SOURCE, "/usr/lib/x.py")[16:])
    assert code.co_filename == "/usr/lib/x.py"
    assert code.co_consts  # and line numbers are the source's
    function = next(each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == "f")
    assert function.co_firstlineno == 9


def test_the_import_system_asks_neither_time_nor_source() -> None:
    assert compile_source(SOURCE, "x")[4:8] == b"\x01\0\0\0"


def test_what_does_not_compile() -> None:
    with pytest.raises(SyntaxError):
        compile_source(b"def", "x")
