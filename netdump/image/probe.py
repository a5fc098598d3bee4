"""Runs in a bare interpreter: imports what the image must be able to import, and tells what that loaded.

Started by `python -I -S -c`, one JSON object on stdin and one on stdout. Owns the answer to "which modules and shared
objects does the client use": it looks at sys.modules and at the memory map of its own process after doing what the
client does up to its first packet. Imports nothing at the top that would then be found.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ast import AST
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec

OWN = ("__main__", "netdump.image.rehearsal")  # not for the image


def load(roots: list[str]) -> None:
    """Import every root, and what the functions of netdump's modules import when they run, until nothing is new."""
    from importlib import import_module  # noqa: PLC0415

    wanted, done, read = set(roots), set[str](), set[str]()
    while wanted:
        for name in sorted(wanted):
            import_module(name)
        done |= wanted
        wanted = nested(read) - done


def nested(read: set[str]) -> set[str]:
    """The modules that functions of loaded modules of netdump import. read: not again, and added to."""
    before = set(sys.modules)
    import ast  # noqa: PLC0415 - forgotten again, unless the client has loaded it

    found: set[str] = set()
    for name in before - read:
        path = getattr(sys.modules[name], "__file__", None)
        if name.startswith("netdump.") and path and path.endswith(".py"):
            with open(path, "rb") as file:
                tree = ast.parse(file.read())
            for function in ast.walk(tree):
                if isinstance(function, ast.FunctionDef):
                    found |= _imported(ast.walk(function))
    read |= before
    forget(before)
    return found


def _imported(nodes: Iterator[AST]) -> set[str]:
    import ast  # noqa: PLC0415 - see nested

    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def forget(before: set[str]) -> None:
    """Take modules out again that this program loaded for itself."""
    for name in set(sys.modules) - before:
        del sys.modules[name]


def modules() -> list[dict[str, str]]:
    """Every loaded module that has a file: name, path, kind (source, extension, other), package ("" or "1")."""
    found = []
    for name, module in sorted(sys.modules.items()):
        spec: ModuleSpec | None = getattr(module, "__spec__", None)
        path: str | None = getattr(module, "__file__", None)
        package = "1" if hasattr(module, "__path__") else ""
        if spec is not None and spec.name != name:
            spec = _replaced(name)
            path, package = spec.origin if spec is not None and spec.has_location else None, ""
        if path and name not in OWN:
            found.append({"name": name, "path": path, "kind": _kind(spec, path), "package": package})
    return found


def _replaced(name: str) -> ModuleSpec | None:
    """The module of that name that has put another one into its place, as collections.abc does from Python 3.13 on.

    None if there is none, as for os.path.
    """
    folders = getattr(sys.modules.get(name.rpartition(".")[0]), "__path__", None)
    if folders is None:
        return None
    return next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, folders)) is not None), None)


def _kind(spec: ModuleSpec | None, path: str) -> str:
    if spec is not None and spec.origin == "frozen":
        return "frozen"
    if spec is not None and type(spec.loader).__name__ == "ExtensionFileLoader":
        return "extension"
    return "source" if path.endswith(".py") else "other"


def libraries() -> list[str]:
    """Every shared object that is mapped into this process, by its real path."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        fields = [line.rstrip("\n").split(maxsplit=5) for line in maps]
    mapped = {line[5] for line in fields if len(line) == 6 and "x" in line[1] and line[5].startswith("/")}
    return sorted(mapped)


def main() -> None:
    """Answer the one request."""
    before = set(sys.modules)
    import json  # noqa: PLC0415 - taken out again below if the client did not load it

    request = json.load(sys.stdin)
    forget(before)
    sys.path.extend(request["path"])
    answer: dict[str, object] = {}
    try:
        load(request["roots"])
        if request["bundle"]:
            from netdump.image.rehearsal import rehearse  # noqa: PLC0415

            rehearse(request["bundle"])
    except Exception as error:  # whatever it is, the builder turns it into the sentence that the user reads
        answer["error"] = {
            "type": type(error).__name__,
            "status": getattr(error, "exit_status", 0),
            "text": str(error),
            "name": getattr(error, "name", None) or "",
        }
    answer["modules"] = modules()
    answer["libraries"] = libraries()
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
