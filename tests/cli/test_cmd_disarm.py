from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.cli import cmd_disarm
from netdump.errors import ArmError
from netdump.image.armed import RECORD, forget_record, only_one

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.commands import Shell


def test_disarming(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(cmd_disarm, "only_one", lambda: only_one(tmp_path))
    monkeypatch.setattr(cmd_disarm, "forget_record", lambda: forget_record(tmp_path))
    (tmp_path / RECORD).touch()
    for was_loaded, words in ((True, "Disarmed.\n"), (False, "No capture kernel was loaded.\n")):
        monkeypatch.setattr(cmd_disarm, "unload", lambda was_loaded=was_loaded: was_loaded)
        done = shell.run("disarm")
        assert (done.status, done.out) == (0, words)
        assert not (tmp_path / RECORD).exists()


def test_root_only(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert shell.run("disarm").status == ArmError.exit_status
