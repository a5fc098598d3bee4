"""Making the index anew: the same rows, from any state of the old one, never under somebody's feet."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError, DumpNotFoundError, IndexFaultError, NotACollectorError, StorageFaultError
from netdump.index import rebuild
from netdump.index.catalog import LocalCatalog
from netdump.index.gather import gather
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.reading import Query
from netdump.index.rebuild import SERVE_LOCK_NAME, SERVE_STATUS_NAME, reindex, set_aside
from netdump.index.record import State, was_unreadable
from netdump.store.store import Store
from tests.index.stored import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.index.record import DumpRecord


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dumps in every state, and the index that a collector would have made of them."""
    directory = tmp_path_factory.mktemp("collector")
    store = Store(directory / "dumps")
    with LocalCatalog(directory) as catalog:
        for number, chunks in ((1, None), (2, 5), (3, 0), (4, None), (5, None)):
            Sample(number=number, created=1000 + number, host=f"web{number % 2}").store(store, chunks)
            catalog.list(Query())
        (directory / "dumps" / Sample(number=4).id / "headline").write_bytes(b"x")
        catalog.show(Sample(number=4).id)
        store.dump(Sample(number=5).id).reassemble()
        catalog.show(Sample(number=5).id)
    return directory


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    """A copy of it, with the times of the files."""
    return shutil.copytree(made, tmp_path / "collector")


def rows(directory: Path) -> list[DumpRecord]:
    with Index.open(directory / NAME) as index:
        return index.list()


def test_a_rebuilt_index_has_identical_rows(directory: Path) -> None:
    before = rows(directory)
    assert len({record.state for record in before}) == 3
    seen: list[DumpRecord] = []
    assert reindex(directory, seen.append) == 5
    assert rows(directory) == before
    assert sorted(seen, key=lambda record: record.id) == sorted(before, key=lambda record: record.id)


@pytest.mark.parametrize("state", ["missing", "damaged", "foreign", "newer", "half-written"])
def test_whatever_was_there_before(directory: Path, state: str) -> None:
    before = rows(directory)
    path = directory / NAME
    if state == "missing":
        path.unlink()
    elif state in {"damaged", "half-written"}:
        path.write_bytes(path.read_bytes()[:5000] if state == "half-written" else b"x" * 9000)
    else:
        statement = (
            "UPDATE alembic_version SET version_num = '9999'" if state == "newer" else "PRAGMA application_id = 7"
        )
        database = sqlite3.connect(path)
        database.execute(statement)
        database.commit()
        database.close()
    reindex(directory)
    assert rows(directory) == before
    assert sorted(os.listdir(directory)) == ["dumps", "index.lock", "index.sqlite", "serve.lock"]


def put_a_stranger(path: Path, kind: str) -> None:
    """What is no file, in the place of a file."""
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
        (path / "precious").write_bytes(b"somebody's")
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
@pytest.mark.parametrize("name", [NAME, f"{NAME}-journal"])
def test_what_is_no_file_is_moved_out_of_the_way(directory: Path, kind: str, name: str) -> None:
    before = rows(directory)
    put_a_stranger(directory / name, kind)
    with pytest.raises(IndexFaultError, match="no plain file") as error:
        rows(directory)
    assert error.value.damaged
    assert reindex(directory) == 5
    assert reindex(directory) == 5
    assert rows(directory) == before
    moved = directory / name.replace(NAME, f"{NAME}.damaged-1")
    assert moved.is_symlink() if kind == "link" else moved.is_fifo() or (moved / "precious").exists()
    assert not (directory / f"{NAME}.replaced").exists()


def test_a_journal_of_the_old_index_is_not_played_into_the_new_one(directory: Path) -> None:
    before = rows(directory)
    # A collector that is killed while it commits leaves its journal behind; here of a large transaction.
    script = (
        "import os, sqlite3, sys\n"
        "index = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "index.execute('PRAGMA cache_size=1')\n"
        "index.execute('BEGIN IMMEDIATE')\n"
        "index.execute(\"UPDATE dumps SET remark = printf('%20000s', 'x')\")\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(directory / NAME)], check=True)
    assert (directory / f"{NAME}-journal").stat().st_size
    reindex(directory)
    assert rows(directory) == before


def test_not_beside_a_running_collector(directory: Path) -> None:
    descriptor = os.open(directory / SERVE_LOCK_NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    before, status = (directory / NAME).read_bytes(), directory / SERVE_STATUS_NAME
    status.write_text("it runs")
    with pytest.raises(BusyError, match="a collector runs"):
        reindex(directory)
    os.close(descriptor)
    assert (directory / NAME).read_bytes() == before
    assert status.exists()
    reindex(directory)
    assert not status.exists(), "it was killed: who looks meanwhile would take it for one that runs"


def test_not_while_another_command_reads(directory: Path) -> None:
    with LocalCatalog(directory), pytest.raises(BusyError, match="in use"):
        reindex(directory)
    reindex(directory)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may be done after it."""


@pytest.mark.parametrize("step", range(1, 7))
def test_killed_at_any_step_of_the_swap(directory: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    before = rows(directory)
    steps = 0

    def killed_at(name: str) -> None:
        path_class = type(directory)
        plain = getattr(path_class, name)

        def operation(self: Path, *arguments: object, **options: object) -> object:
            nonlocal steps
            if self.name.startswith(NAME):
                steps += 1
                if steps == step:
                    raise Killed
            return plain(self, *arguments, **options)

        monkeypatch.setattr(path_class, name, operation)

    killed_at("rename")
    killed_at("unlink")
    with suppress(Killed):
        reindex(directory)
    assert steps >= min(step, 5)
    monkeypatch.undo()
    with LocalCatalog(directory) as catalog:
        assert catalog.list(Query()) == before
    reindex(directory)
    assert rows(directory) == before


def test_a_killed_rebuild_is_cleared_away(directory: Path) -> None:
    leftover = directory / "index.rebuild"
    leftover.mkdir()
    (leftover / NAME).write_bytes(b"half")
    before = rows(directory)
    reindex(directory)
    assert rows(directory) == before
    assert not leftover.exists()


def test_many_dumps_are_written_in_batches(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "_BATCH", 2)
    before = rows(directory)
    assert reindex(directory) == 5
    assert rows(directory) == before


def test_a_folder_that_is_no_collectors(tmp_path: Path) -> None:
    with pytest.raises(NotACollectorError):
        reindex(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_what_root_makes_belongs_to_the_collector(directory: Path) -> None:
    os.chown(directory, 1234, 1234)
    (directory / NAME).unlink()
    (directory / "index.lock").unlink()
    reindex(directory)
    made = [directory / name for name in (NAME, "index.lock", SERVE_LOCK_NAME)]
    assert [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in made] == [(1234, 0o600)] * 3


def test_a_dump_that_cannot_be_read_hides_no_other(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Sample(number=2).id

    def refuse(store: Store, dump_id: str) -> DumpRecord:
        if dump_id == bad:
            raise StorageFaultError("reading: input/output error")
        return gather(store, dump_id)

    monkeypatch.setattr("netdump.index.gather.gather", refuse)
    assert reindex(directory) == 5
    states = {record.id: record.state for record in rows(directory)}
    assert [dump_id for dump_id in states if was_unreadable(record_of(directory, dump_id).remark)] == [bad]
    assert states[bad] is State.DAMAGED


def test_a_dump_that_is_deleted_meanwhile_is_passed_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Sample(number=2).id

    def look(store: Store, dump_id: str) -> DumpRecord:
        if dump_id == gone:
            raise DumpNotFoundError(gone)
        return gather(store, dump_id)

    monkeypatch.setattr(rebuild, "gather_anyway", look)
    assert reindex(directory) == 4
    assert gone not in {record.id for record in rows(directory)}
    assert len(rows(directory)) == 4


def test_a_disk_that_takes_no_index(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(directory)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rebuild, "_swap", full)
    with pytest.raises(IndexFaultError, match="cannot be made anew: No space left on device"):
        reindex(directory)
    assert rows(directory) == before


def test_a_folder_that_cannot_be_locked(directory: Path) -> None:
    (directory / SERVE_LOCK_NAME).unlink(missing_ok=True)
    (directory / SERVE_LOCK_NAME).mkdir()
    with pytest.raises(IndexFaultError, match="cannot be worked on: Is a directory"):
        reindex(directory)


def record_of(directory: Path, dump_id: str) -> DumpRecord:
    return next(record for record in rows(directory) if record.id == dump_id)


def test_a_damaged_index_is_set_aside(directory: Path) -> None:
    path = directory / NAME
    for number in (1, 2):
        path.write_bytes(b"x" * 9000)
        path.with_name(f"{NAME}-journal").write_bytes(b"y")
        aside = set_aside(directory)
        assert aside == directory / f"{NAME}.damaged-{number}"
        assert aside.read_bytes() == b"x" * 9000
        assert aside.with_name(f"{aside.name}-journal").read_bytes() == b"y"
        assert not path.exists()
        with LocalCatalog(directory) as catalog:
            assert len(catalog.list(Query())) == 5


def test_of_damaged_indexes_the_newest_are_kept(directory: Path) -> None:
    """And nothing that is no file, which is none of ours, or is called otherwise."""
    path = directory / NAME
    others = path.with_name(f"{NAME}.damaged-2"), path.with_name(f"{NAME}.damaged-mine")
    others[0].mkdir()
    others[1].touch()
    for number in range(3, 10):
        path.write_bytes(b"x")
        path.with_name(f"{NAME}-journal").write_bytes(b"y")
        assert set_aside(directory).name == f"{NAME}.damaged-{number}"
    kept = {f"{NAME}.damaged-{number}{suffix}" for number in (7, 8, 9) for suffix in ("", "-journal")}
    assert {each.name for each in directory.glob("*.damaged-*")} == kept | {other.name for other in others}


def test_an_index_in_use_is_not_set_aside(directory: Path) -> None:
    with Index.open(directory / NAME), pytest.raises(BusyError, match="in use"):
        set_aside(directory)
    assert len(rows(directory)) == 5
