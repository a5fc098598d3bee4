"""`netdump delete`."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError, DumpNotFoundError
from tests.cli.collector import HALF, WHOLE, fill
from tests.index.stored import PANIC

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_yes_deletes(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("delete", WHOLE.id[:6], "--root", folder, "--yes")
    assert (done.status, done.out) == (0, f"deleted dump {WHOLE.id}\n")
    assert not (folder / "dumps" / WHOLE.id).exists()
    assert shell.run("delete", WHOLE.id, "--root", folder, "--yes").status == DumpNotFoundError.exit_status
    assert shell.run("delete", HALF.id, "--root", folder, "--yes", "--json").object == {
        "id": HALF.id,
        "deleted": True,
    }


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("", False)])
def test_a_person_is_asked(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, *, gone: bool
) -> None:
    fill(folder)
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))
    done = shell.run("delete", WHOLE.id, "--root", folder)
    assert (done.status == 0) is gone
    assert (folder / "dumps" / WHOLE.id).exists() is not gone
    assert PANIC in done.err
    assert "web1" in done.err


def test_nobody_to_ask(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    done = shell.run("delete", WHOLE.id, "--root", folder)
    assert (done.status, "--yes" in done.err) == (2, True)
    assert (folder / "dumps" / WHOLE.id).exists()


def test_a_dump_that_arrives_stays(shell: Shell, folder: Path) -> None:
    store = fill(folder)
    with HALF.open(store):
        assert shell.run("delete", HALF.id, "--root", folder, "--yes").status == BusyError.exit_status
    assert (folder / "dumps" / HALF.id).exists()
