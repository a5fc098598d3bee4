from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.init import finish

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_disks_first(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    done: list[str] = []

    def refuse(action: str) -> None:
        done.append(action)
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.sync", lambda: done.append("sync"))
    monkeypatch.setattr(finish, "reboot", refuse)
    assert finish.finish("halt") == 1
    assert done == ["sync", "halt"]
    assert said == ["cannot halt: Operation not permitted"]


def test_the_best_shell_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "SHELL", ())
    assert finish.shell_command() == []
    shell = tmp_path / "sh"
    shell.touch()
    monkeypatch.setattr(finish, "SHELL", (str(tmp_path / "absent"), str(shell)))
    assert finish.shell_command() == [str(shell)]
