"""./run, beside an interpreter and a pip that only write down how they were called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INTERPRETER = """#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
case $* in
    *" venv --clear "*)
        mkdir -p .venv/bin
        for name in python pip netdump; do
            printf '#!/bin/sh\\necho "%s $*" >>"$CALLS"\\n' $name >.venv/bin/$name
            chmod +x .venv/bin/$name
        done ;;
    -c*) exec "$REAL" "$@" ;;
esac
"""
SET_UP = ["python -m pip", "netdump list"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout, ümläut"
    folder.mkdir()
    for name in ("run", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(INTERPRETER)
    interpreter.chmod(0o755)
    return folder


def calls(checkout: Path) -> list[str]:
    """What `./run netdump list` calls, two words of each, less the interpreter's one-liners."""
    written = checkout.parent / "calls"
    written.unlink(missing_ok=True)
    environment = {"CALLS": str(written), "REAL": sys.executable, "PYTHON": str(checkout.parent / "interpreter")}
    command = ["sh", str(checkout / "run"), "netdump", "list"]
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, timeout=60)
    lines = [" ".join(line.split(" ")[:3]).strip() for line in written.read_text().splitlines()]
    return [line for line in lines if " -c" not in line and line not in ("interpreter -V", "pip --version")]


def test_what_is_set_up_stays(checkout: Path) -> None:
    assert calls(checkout) == ["interpreter -m venv", *SET_UP]
    assert calls(checkout) == ["netdump list"]


def test_a_set_up_that_was_broken_off_is_begun_anew(checkout: Path) -> None:
    calls(checkout)
    (checkout / ".venv/bin/pip").unlink()
    (checkout / ".venv/.done-server").unlink()
    assert calls(checkout) == ["interpreter -m venv", *SET_UP]


def test_a_checkout_that_was_moved_is_set_up_anew(checkout: Path) -> None:
    calls(checkout)
    (checkout / ".venv/bin/pip").write_text("#!/nowhere/python\n")
    assert calls(checkout.rename(checkout.with_name("moved"))) == ["interpreter -m venv", *SET_UP]
