from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.checkup.machine import DeniedError, Machine, is_hidden

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_there(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "6.1", "x86_64", is_root=False)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/b").write_bytes(b" \xff17 \n")
    (tmp_path / "proc/a").write_text("17\n")
    assert (machine.text("proc/a"), machine.number("proc/a")) == ("17", 17)
    assert (machine.text("proc/b"), machine.number("proc/b")) == ("\ufffd17", None)
    assert (machine.text("proc/c"), machine.number("proc/c"), machine.text("proc")) == (None, None, None)
    assert machine.exists("proc/a")
    assert not machine.exists("proc/c")
    assert machine.folder("proc") == ["a", "b"]
    assert machine.folder("sys") == []
    assert machine.path("proc/a") == tmp_path / "proc/a"


def test_what_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DeniedError, match=r"^/proc/iomem$"):
        Machine(tmp_path).text("proc/iomem")


def test_this_machine() -> None:
    machine = Machine()
    assert machine.text("proc/sys/kernel/osrelease") == machine.release


def test_files_that_are_not_for_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert not is_hidden(tmp_path / "file")
    assert not is_hidden(tmp_path / "absent")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert is_hidden(tmp_path / "file")

    def refuse(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr("os.stat", refuse)  # its folder may not be entered
    assert is_hidden(tmp_path / "file")
