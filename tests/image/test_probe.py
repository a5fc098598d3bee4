from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import netdump
from netdump.image import probe
from netdump.image.closure import bare_interpreter

FOLDER = Path(netdump.__file__).parents[1]


def ask(**request: Any) -> dict[str, Any]:
    asked = {"path": [str(FOLDER)], "roots": [], "bundle": "", **request}
    command = [*bare_interpreter(), "-c", Path(probe.__file__).read_text()]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def names(answer: dict[str, Any]) -> set[str]:
    return {module["name"] for module in answer["modules"]}


def test_only_what_was_asked_for_is_found() -> None:
    bare = names(ask())
    assert "json" not in bare
    assert "ast" not in bare
    assert names(ask(roots=["netdump.pages"])) - bare > {"netdump.pages", "netdump"}


def test_imports_inside_functions_are_followed() -> None:
    found = names(ask(roots=["netdump.image.init.stages"]))
    assert {"netdump.image.init.network", "netdump.image.init.save", "ctypes", "socket"} <= found
    assert not {"ast", "annotationlib"} & found


def test_help_needs_no_compression() -> None:
    """argparse loads shutil for the width of the terminal."""
    program = "from netdump.client.arguments import make_parser; make_parser().format_help()"
    loaded = "import sys; print(*sys.modules)"
    command = [*bare_interpreter(), "-c", f"import sys; sys.path.insert(0, {str(FOLDER)!r}); {program}; {loaded}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "argparse" in done.stdout.split()
    assert not {"shutil", "bz2", "lzma"} & set(done.stdout.split())


def test_kinds_and_libraries() -> None:
    answer = ask(roots=["ssl"])
    kinds = {module["name"]: module["kind"] for module in answer["modules"]}
    assert kinds["ssl"] == "source"
    assert kinds["_ssl"] == "extension"
    assert any("libssl" in path for path in answer["libraries"])
    assert all(Path(path).exists() for path in answer["libraries"])


def test_a_module_that_puts_another_into_its_place(tmp_path: Path) -> None:
    """As collections.abc does from Python 3.13 on: its file is needed too."""
    package = tmp_path / "household"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "guest.py").write_text("import json, sys\nsys.modules[__name__] = json\n")
    found = {module["name"]: module for module in ask(path=[str(tmp_path)], roots=["household.guest"])["modules"]}
    guest = {"name": "household.guest", "path": str(package / "guest.py"), "kind": "source", "package": ""}
    assert found["household.guest"] == guest
    assert found["json"]["package"] == "1"
    assert "os.path" not in found


def test_what_cannot_be_imported_is_told() -> None:
    error = ask(roots=["no_such_module"])["error"]
    assert (error["type"], error["name"]) == ("ModuleNotFoundError", "no_such_module")
