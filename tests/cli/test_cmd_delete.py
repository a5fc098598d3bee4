"""`netdump delete`."""

from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError, DumpNotFoundError, StorageFaultError
from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from tests.cli.collector import HALF, WHOLE, fill
from tests.index.stored import PANIC, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.index.reading import Query
    from netdump.index.record import DumpRecord
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
        "dumps": [{"id": HALF.id, "deleted": True}]
    }


def test_several_by_id(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("delete", HALF.id, "no5uch", WHOLE.id, "--root", folder, "--yes")
    assert done.status == DumpNotFoundError.exit_status
    assert (folder / "dumps" / HALF.id).exists(), "nothing is deleted where one of them is not known"
    done = shell.run("delete", HALF.id, WHOLE.id[:8], WHOLE.id, "--root", folder, "--yes")
    assert (done.status, done.out) == (0, f"deleted dump {HALF.id}\ndeleted dump {WHOLE.id}\n")


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--drills"], [WHOLE.id]),
        (["--until", "2026-11-22T20:05:00Z"], [HALF.id]),
        (["--state", "damaged"], [HALF.id, WHOLE.id]),
        (["--since", "2026-01-01"], []),
    ],
)
def test_those_that_options_say(shell: Shell, folder: Path, options: list[str], left: list[str]) -> None:
    fill(folder)
    done = shell.run("delete", *options, "--root", folder, "--yes")
    assert (done.status, "no such dumps" in done.err) == (0, len(left) == 2)
    assert [dump["id"] for dump in shell.run("list", "--root", folder, "--json").object["dumps"]] == left


def test_what_came_while_the_clock_was_wrong_is_not_old(shell: Shell, folder: Path) -> None:
    early = Sample(number=0xABCD3, created=86_400)
    early.store(fill(folder))
    done = shell.run("delete", "--until", "1d", "--root", folder, "--yes")
    assert (done.status, done.out) == (0, f"deleted dump {HALF.id}\ndeleted dump {WHOLE.id}\n")
    assert "1 of the dumps stay: they came while the collector's clock was wrong" in done.err
    listed = shell.run("list", "--until", "2026-01-01", "--root", folder, "--json").object["dumps"]
    assert [dump["id"] for dump in listed] == [early.id]
    assert shell.run("delete", early.id, "--root", folder, "--yes").status == 0


@pytest.mark.parametrize("options", [[], ["abcd", "--drills"]])
def test_which_must_be_said(shell: Shell, folder: Path, options: list[str]) -> None:
    """Above all, none does not mean all."""
    fill(folder)
    done = shell.run("delete", *options, "--root", folder, "--yes")
    assert (done.status, "say which dumps" in done.err) == (2, True)
    assert len(shell.run("list", "--root", folder, "--json").object["dumps"]) == 2


def test_an_empty_name_is_no_host(shell: Shell, folder: Path) -> None:
    """As of a variable that is not set. A collector lists all dumps for it."""
    fill(folder)
    done = shell.run("delete", "--host", "", "--yes", "--root", folder)
    assert (done.status, "cannot be a name" in done.err) == (2, True)
    assert len(shell.run("list", "--root", folder, "--json").object["dumps"]) == 2


def test_none(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("delete", "--host", "WEB1", "--yes", "--root", folder)
    told = "netdump: no such dumps of WEB1: upper and lower case count in the name of a host\n"
    assert (done.status, done.out, done.err) == (0, "", told), "that is another host than web1"
    assert shell.run("delete", "--host", "x", "--root", folder, "--json").object == {"dumps": []}


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


def test_a_person_is_asked_once_for_many(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    monkeypatch.setattr(sys, "stdin", Keyboard("n\n"))
    done = shell.run("delete", "--until", "1d", "--root", folder)
    assert done.status != 0
    assert "2 dumps of 2 hosts, " in done.err
    assert "first seen 2026-11-22T20:03:59Z to 2026-11-22T20:05:00Z\n  1 complete, 1 interrupted\n" in done.err
    assert len(shell.run("list", "--root", folder, "--json").object["dumps"]) == 2


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


def test_those_that_arrive_do_not_keep_the_others(shell: Shell, folder: Path) -> None:
    store = fill(folder)
    with HALF.open(store):
        done = shell.run("delete", "--until", "1d", "--root", folder, "--yes", "--json")
        assert (done.status, HALF.id in done.err) == (BusyError.exit_status, True)
    assert done.object == {"dumps": [{"id": HALF.id, "deleted": False}, {"id": WHOLE.id, "deleted": True}]}
    assert not (folder / "dumps" / WHOLE.id).exists()


def test_one_that_the_disk_does_not_let_go_does_not_keep_the_others(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else of a job that deletes what is old, newest first, nothing older would ever go."""
    fill(folder)
    rename = LocalFiles.rename

    def refused(files: LocalFiles, old: str, new: str) -> None:
        if old == HALF.id:
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(files, old, new)

    monkeypatch.setattr(LocalFiles, "rename", refused)
    done = shell.run("delete", "--until", "1d", "--root", folder, "--yes", "--json")
    assert (done.status, f"{HALF.id}: Permission denied" in done.err) == (StorageFaultError.exit_status, True)
    assert done.object == {"dumps": [{"id": HALF.id, "deleted": False}, {"id": WHOLE.id, "deleted": True}]}


def test_one_that_is_gone_is_deleted_though_the_index_is_locked(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)

    def locked(_index: Index, _dump_id: str) -> None:
        raise BusyError("the index is locked")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Index, "remove", locked)
        done = shell.run("delete", WHOLE.id, "--root", folder, "--yes")
    assert (done.status, done.out) == (0, f"deleted dump {WHOLE.id}\n")
    assert [dump["id"] for dump in shell.run("list", "--root", folder, "--json").object["dumps"]] == [HALF.id]


def test_what_others_have_deleted_is_gone(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(folder)
    real = LocalCatalog.delete

    def late(catalog: LocalCatalog, dump_id: str) -> None:
        store.delete(dump_id)
        real(catalog, dump_id)

    monkeypatch.setattr(LocalCatalog, "delete", late)
    done = shell.run("delete", HALF.id, WHOLE.id, "--root", folder, "--yes")
    assert (done.status, done.out.count("deleted dump")) == (0, 2)


def test_what_was_completed_meanwhile_stays(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked may think for an hour, and of thousands the last ones wait for minutes."""
    fill(folder)
    plain = LocalCatalog.list

    def late(catalog: LocalCatalog, query: Query) -> list[DumpRecord]:
        listed = plain(catalog, query)
        HALF.store(Store(folder / "dumps"))
        return listed

    monkeypatch.setattr(LocalCatalog, "list", late)
    done = shell.run("delete", "--state", "interrupted", "--yes", "--root", folder, "--json")
    assert done.status == BusyError.exit_status
    assert done.object == {"dumps": [{"id": HALF.id, "deleted": False}]}
    assert f"dump {HALF.id} was interrupted when it was listed, is complete now, and stays" in done.err
    assert (folder / "dumps" / HALF.id).exists()
