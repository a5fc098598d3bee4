"""The map at the top of a large package names all its modules: who comes new to it begins there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "netdump"
MAPPED = ("client", "image", "server")


@pytest.mark.parametrize("package", MAPPED)
def test_every_module_is_on_the_map(package: str) -> None:
    folder = PACKAGES / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()), clean=False) or ""
    rows = re.findall(r"^    (\S+(?: \S+)*)  ", text, re.MULTILINE)
    named = [name for row in rows for name in row.split()]
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(named) == sorted(modules - {"__init__", "__main__"})
