"""`netdump reindex`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.errors import BusyError, NotACollectorError
from netdump.index.catalog import LocalCatalog
from netdump.store.store import Store
from tests.cli.collector import WHOLE, fill

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell


def test_a_damaged_index_is_made_anew(shell: Shell, folder: Path) -> None:
    fill(folder)
    before = shell.run("list", "--root", folder, "--json").object
    (folder / "index.sqlite").write_bytes(b"x" * 5000)
    done = shell.run("reindex", folder)
    assert (done.status, done.out, done.err) == (0, "2 dumps indexed\n", "")
    assert shell.run("list", "--root", folder, "--json").object == before


def test_damaged_dumps_are_named(shell: Shell, folder: Path) -> None:
    fill(folder)
    (folder / "dumps" / WHOLE.id / "manifest.json").write_bytes(b"{}")
    done = shell.run("reindex", folder)
    assert (done.status, done.out) == (0, "2 dumps indexed, 1 damaged\n")
    assert f"dump {WHOLE.id} is damaged" in done.err
    assert shell.run("reindex", folder, "--json").object == {"dumps": 2, "damaged": [WHOLE.id]}


def test_one_dump(shell: Shell, folder: Path) -> None:
    WHOLE.store(Store(folder / "dumps"))
    assert shell.run("reindex", folder).out == "1 dump indexed\n"


def test_refusals(shell: Shell, folder: Path, tmp_path: Path) -> None:
    fill(folder)
    with LocalCatalog(folder):
        assert shell.run("reindex", folder).status == BusyError.exit_status
    (tmp_path / "other").mkdir()
    assert shell.run("reindex", tmp_path / "other").status == NotACollectorError.exit_status
