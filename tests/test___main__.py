"""The entry point."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from netdump.__main__ import main

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


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
