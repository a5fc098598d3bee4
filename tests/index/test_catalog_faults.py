"""The catalog of a folder whose index is damaged, or whose disk does not give a dump back: what is sound is shown."""

from __future__ import annotations

import errno
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError, IndexFaultError, StorageFaultError
from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.reading import Query
from netdump.index.record import State
from netdump.store.files import LocalFiles
from tests.index.stored import PANIC, Sample, listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.store.store import Store


def test_no_index_is_no_hindrance(tmp_path: Path, store: Store) -> None:
    dump_id = Sample().store(store)
    assert not (tmp_path / NAME).exists()
    with LocalCatalog(tmp_path) as catalog:
        (record,) = catalog.list(Query())
    assert (record.id, record.panic) == (dump_id, PANIC)


def test_a_damaged_index_names_the_remedy(tmp_path: Path, store: Store) -> None:
    (tmp_path / NAME).write_bytes(b"x" * 5000)
    with pytest.raises(IndexFaultError, match="netdump reindex"):
        LocalCatalog(tmp_path)


def _in_the_file(tmp_path: Path, statement: str) -> None:
    other = sqlite3.connect(tmp_path / NAME)
    with other:
        other.execute(statement)
    other.close()


def test_a_damaged_row_is_filled_in_again_while_the_index_is_in_use(tmp_path: Path, store: Store) -> None:
    told: list[tuple[str, str]] = []
    ids = {Sample(number=number).store(store) for number in (1, 2)}
    with LocalCatalog(tmp_path, lambda *what: told.append(what)) as catalog, LocalCatalog(tmp_path) as other:
        before = {record.id: record for record in catalog.list(Query())}
        checked, bad = sorted(ids)
        catalog.index.set_checked({checked: 1_800_000_000})
        _in_the_file(tmp_path, f"UPDATE dumps SET panic = 'another' WHERE id = '{bad}'")
        after = {record.id: record for record in catalog.list(Query())}
        assert after == before | {checked: replace(before[checked], checked=1_800_000_000)}
        assert "not what was written" in told[0][0]
        assert told[0][1].startswith("1 damaged row")
        assert catalog.show(bad) == other.show(bad) == before[bad]
    assert len(told) == 1


@pytest.mark.parametrize("ask", ["list", "show", "delete"])
def test_a_file_that_makes_no_sense_is_replaced_while_the_index_is_in_use(
    tmp_path: Path, store: Store, ask: str
) -> None:
    told: list[tuple[str, str]] = []
    dump_id = Sample().store(store)
    with LocalCatalog(tmp_path, lambda *what: told.append(what)) as catalog:
        before = catalog.list(Query())
        _in_the_file(tmp_path, "DROP TABLE dumps")
        if ask == "delete":
            catalog.delete(dump_id)
            before = []
        elif ask == "show":
            assert catalog.show(dump_id) == before[0]
        assert catalog.list(Query()) == before
        assert "index.sqlite.damaged-1" in told[0][1]
    with LocalCatalog(tmp_path) as catalog:
        assert catalog.list(Query()) == before
    assert len(told) == 1


def test_a_dump_is_deleted_though_there_is_no_room_to_say_so(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump_id = Sample().store(store)
    with LocalCatalog(tmp_path) as catalog:
        catalog.refresh()
        with monkeypatch.context() as full:
            full.setattr(Index, "remove", _no_room)
            catalog.delete(dump_id)
        assert not store.holds(dump_id)
        assert catalog.index.ids() == {dump_id}
        assert catalog.list(Query()) == []
        assert not catalog.index.ids()


def _no_room(index: Index, _dump_id: str) -> None:
    """As SQLite says it of a full disk."""
    with index._write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        connection.exec_driver_sql("CREATE TABLE more AS SELECT zeroblob(1 << 20)")


def test_a_damaged_index_that_another_process_has_open_stays(tmp_path: Path, store: Store) -> None:
    dump_id = Sample().store(store)
    with LocalCatalog(tmp_path) as catalog:
        with LocalCatalog(tmp_path):
            _in_the_file(tmp_path, "DROP TABLE dumps")
            with pytest.raises(BusyError, match="in use by another"):
                catalog.list(Query())
        assert [record.id for record in catalog.list(Query())] == [dump_id]


def test_threads_go_on_while_the_index_is_replaced(tmp_path: Path, store: Store) -> None:
    ids = {Sample(number=number).store(store) for number in (1, 2)}
    with LocalCatalog(tmp_path) as catalog:
        catalog.refresh()
        with ThreadPoolExecutor(4) as pool:
            for _ in range(3):
                _in_the_file(tmp_path, "DROP TABLE dumps")
                lists = [pool.submit(catalog.list, Query()) for _ in range(8)]
                assert [{record.id for record in each.result()} for each in lists] == [ids] * 8


def _unreadable(monkeypatch: pytest.MonkeyPatch, dump_id: str) -> None:
    """The disk fails under one dump."""
    status, opened = LocalFiles.status, LocalFiles.open

    def refuse(method: Callable[[LocalFiles, str], object]) -> Callable[[LocalFiles, str], object]:
        def guarded(files: LocalFiles, name: str) -> object:
            if name.startswith(dump_id):
                raise OSError(errno.EIO, os.strerror(errno.EIO), name)
            return method(files, name)

        return guarded

    monkeypatch.setattr(LocalFiles, "status", refuse(status))
    monkeypatch.setattr(LocalFiles, "open", refuse(opened))


@pytest.mark.parametrize("known", [False, True])
def test_a_dump_that_cannot_be_read_hides_no_other(
    store: Store, catalog: LocalCatalog, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = Sample(number=1), Sample(number=2)
    good.store(store)
    if known:
        with bad.open(store) as writer:
            listed(catalog)
            bad.write(writer)
    else:
        bad.store(store)
    with monkeypatch.context() as patch:
        _unreadable(patch, bad.id)
        catalog.refresh()
        by_id = {record.id: record for record in catalog.list(Query())}
        assert by_id[good.id].state is State.COMPLETE
        assert by_id[bad.id].state is State.DAMAGED
        assert (by_id[bad.id].remark or "").startswith("cannot be read: ")
        assert by_id[bad.id].host == ("web1" if known else "")
        with pytest.raises(StorageFaultError):
            catalog.show(bad.id)
    # The disk is in order again: nobody has to say so.
    by_id = {record.id: record for record in catalog.list(Query())}
    assert (by_id[bad.id].state, by_id[bad.id].remark) == (State.COMPLETE, catalog.show(bad.id).remark)
    row = catalog.index.get(bad.id)
    assert row is not None
    assert row.state is State.COMPLETE


def test_a_lock_that_cannot_be_looked_at(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    sample = Sample()
    sample.store(store, chunks=2)
    assert len(listed(catalog)) == 1
    lock = tmp_path / "dumps" / sample.id / "lock"
    lock.unlink()
    lock.symlink_to("nowhere")
    (record,) = catalog.list(Query())
    assert record.state is State.DAMAGED
