"""Modules, of tests too, and functions stay small enough to read (ARCHITECTURE.md; style: 600 and 60 lines)."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

# path or path:function -> why it may be larger
ALLOWED: dict[str, str] = {}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_modules() -> None:
    large = {
        name: count
        for path in sources("netdump", "bench", "tests")
        if (count := len(path.read_text().splitlines())) > MODULE_LINES_MAX
        and (name := str(path.relative_to(ROOT))) not in ALLOWED
    }
    assert not large


def test_functions() -> None:
    large: dict[str, int] = {}
    for path in sources("netdump"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                name = f"{path.relative_to(ROOT)}:{node.name}"
                if lines > FUNCTION_LINES_MAX and name not in ALLOWED:
                    large[name] = lines
    assert not large


def test_exceptions_still_apply() -> None:
    assert all((ROOT / name.partition(":")[0]).exists() for name in ALLOWED)
