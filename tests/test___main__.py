"""The entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.__main__ import main
from netdump.errors import DependencyError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from pathlib import Path


class Interrupting:
    """An import path on which Ctrl-C is pressed."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        if name.startswith("netdump."):
            raise KeyboardInterrupt
        return None


@pytest.mark.parametrize(("command", "module"), [("send", "netdump.client.command"), ("list", "netdump.cli.main")])
def test_ctrl_c_while_importing(
    command: str, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting, *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["netdump", command])
    assert main() == 130
    assert capsys.readouterr() == ("", "netdump: interrupted\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_files_that_are_closed(closed: str, tmp_path: Path) -> None:
    """The status says how it went, and nothing that is opened gets their numbers."""
    folder = tmp_path / "collector"
    command = f'"$0" -m netdump init "$1" --name localhost {closed}'
    assert subprocess.run(["sh", "-c", command, sys.executable, str(folder)], timeout=60).returncode == 0
    assert b"Made a collector" not in b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_terminal_that_cannot_show_everything() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "netdump", "enroll", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"--token ndt1.\u2026" in done.stdout


def test_send_names_a_missing_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "netdump.client.command", raising=False)
    monkeypatch.delitem(sys.modules, "netdump.codec", raising=False)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setattr(sys, "argv", ["netdump", "send", "core"])
    assert main() == DependencyError.exit_status
    advice = "pip install . in a checkout of netdump, or its wheel (docs/deploy.md)"
    assert capsys.readouterr() == (
        "",
        f"netdump: this command needs zstandard, which is not installed: {advice}\n",
    )
