"""Runs in a bare interpreter: compiles source files to bytecode without docstrings.

Started by `python -I -S -c`. stdin: one JSON list of [source path, path in the image]. stdout: for each, its length (8
bytes, little-endian) and a .pyc file. A process of its own, because what marshal writes depends on which strings the
process happens to share; here every run does the same. Docstrings cost memory in the capture kernel and nobody reads
them there; assertions stay.
"""

from __future__ import annotations

import ast
import json
import marshal
import sys
from importlib.util import MAGIC_NUMBER, source_hash

UNCHECKED_HASH = 1  # PEP 552: the import system compares neither time nor content
_SCOPES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def compile_source(source: bytes, path: str) -> bytes:
    """Return the .pyc file for source. path: what tracebacks show. Raises SyntaxError."""
    tree = ast.parse(source, path)
    for node in ast.walk(tree):
        if isinstance(node, _SCOPES) and ast.get_docstring(node, clean=False) is not None:
            text = node.body.pop(0)
            if not node.body and not isinstance(node, ast.Module):
                node.body.append(ast.copy_location(ast.Pass(), text))
    code = compile(tree, path, "exec", dont_inherit=True, optimize=0)
    head = MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little") + source_hash(source)
    return head + marshal.dumps(code)


def main() -> None:
    """Compile what stdin names."""
    for path, shown in json.load(sys.stdin):
        with open(path, "rb") as file:
            compiled = compile_source(file.read(), shown)
        sys.stdout.buffer.write(len(compiled).to_bytes(8, "little") + compiled)


if __name__ == "__main__":
    main()
