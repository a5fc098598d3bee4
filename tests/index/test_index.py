"""The SQLite file: rows, order, several processes, and every way in which the file can be wrong."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from netdump.errors import BusyError, IndexFaultError
from netdump.index import index as index_module
from netdump.index.index import Index, Share
from netdump.index.place import NAME
from netdump.index.reading import Query
from netdump.index.record import UNREADABLE, DumpRecord, State
from tests.index.test_record import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator


def record(number: int, **changes: object) -> DumpRecord:
    plain = DumpRecord(f"{number:032x}", "web1", State.ARRIVING, 1 << 20, 4096, 0, 1000 + number, 1000 + number)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


@pytest.fixture
def index(migrated: Path) -> Iterator[Index]:
    with Index.open(migrated) as opened:
        yield opened


def test_a_record_comes_back(index: Index) -> None:
    bare = record(1)
    index.put(FULL)
    index.put(bare)
    assert index.get(FULL.id) == FULL
    assert index.get(bare.id) == bare
    assert index.get("f" * 32) is None
    assert index.ids() == {FULL.id, bare.id}


def test_put_replaces_the_row(index: Index) -> None:
    index.put(FULL)
    index.put(replace(FULL, panic=None, totals=None, remark="x"))
    assert index.list() == [replace(FULL, panic=None, totals=None, remark="x")]


@pytest.mark.parametrize(
    ("remark", "found", "expected"),
    [
        ("segment 3: bad digest", State.COMPLETE, (State.DAMAGED, "segment 3: bad digest")),
        ("segment 3: bad digest", State.ARRIVING, (State.ARRIVING, None)),
        (f"{UNREADABLE}input/output error", State.COMPLETE, (State.COMPLETE, None)),
    ],
)
def test_damage_that_was_found_meanwhile_stays(
    index: Index, remark: str, found: State, expected: tuple[State, str | None]
) -> None:
    gathered = record(1, state=found, vmcore=True)
    index.put(record(1, state=State.DAMAGED, remark=remark))
    index.renew(gathered)
    row = index.get(gathered.id)
    assert row is not None
    assert (row.state, row.remark) == expected
    assert row.vmcore
    index.renew(record(2))
    assert len(index.ids()) == 2


def test_a_dump_that_was_sent_again_is_not_the_one_that_was_found_damaged(index: Index) -> None:
    index.put(record(1, state=State.DAMAGED, remark="segment 3: bad digest"))
    index.renew(record(1, state=State.COMPLETE, first_seen=2000))
    assert [(row.state, row.remark) for row in index.list()] == [(State.COMPLETE, None)]


def test_add_leaves_known_dumps_alone(index: Index) -> None:
    index.put(record(1, chunks=5))
    index.add([record(1), record(2)])
    index.add([])
    assert [(dump.id[-1], dump.chunks) for dump in index.list()] == [("2", 0), ("1", 5)]


def test_what_add_costs_does_not_grow_with_the_index(index: Index) -> None:
    index.add(record(number) for number in range(500))
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with index._engine.connect() as connection:
        cast("sqlite3.Connection", connection.connection.driver_connection).set_progress_handler(step, 1)
    index.add([record(0), record(500)])
    assert 0 < steps < 500
    assert len(index.ids()) == 501


def test_progress_makes_a_dump_arriving(index: Index) -> None:
    index.put(record(1, state=State.INTERRUPTED))
    index.advance(record(1).id, durable_bytes=4096, stored_bytes=500, chunks=2, updated=2000)
    index.advance("f" * 32, durable_bytes=1, stored_bytes=1, chunks=1, updated=1)
    assert index.list() == [record(1, durable_bytes=4096, stored_bytes=500, chunks=2, updated=2000)]


def test_states_and_remarks(index: Index) -> None:
    index.put(record(1, remark="kept"))
    index.set_state(record(1).id, State.INTERRUPTED)
    assert index.get(record(1).id) == record(1, remark="kept", state=State.INTERRUPTED)
    index.set_state(record(1).id, State.DAMAGED, "broken")
    assert index.get(record(1).id) == record(1, remark="broken", state=State.DAMAGED)


def test_removed_dumps_are_forgotten(index: Index) -> None:
    index.put(record(1))
    index.remove(record(1).id)
    index.remove(record(1).id)
    assert index.list() == []


def test_newest_first_also_within_a_second(index: Index) -> None:
    for number, order in ((1, 50), (2, 70), (3, 60)):
        index.put(record(number, first_seen=1000, order_ns=order))
    index.put(record(4, first_seen=999, order_ns=99))
    assert [dump.id[-1] for dump in index.list()] == ["2", "3", "1", "4"]


def test_pages_follow_one_another(index: Index) -> None:
    for number in range(7):
        index.put(record(number, first_seen=1000 + number // 3))
    pages: list[str] = []
    before = None
    while page := index.list(Query(before=before, limit=2)):
        pages += [dump.id for dump in page]
        before = pages[-1]
    assert pages == [dump.id for dump in index.list()]
    assert len(pages) == 7


def test_filters(index: Index) -> None:
    index.put(record(1))
    index.put(record(2, host="web2", state=State.COMPLETE))
    index.put(record(3, state=State.DAMAGED, drill=True))

    def listed(query: Query, also: tuple[State, ...] = ()) -> str:
        return "".join(dump.id[-1] for dump in index.list(query, also))

    assert listed(Query(host="web1")) == "31"
    assert listed(Query(host="web")) == ""
    assert listed(Query(state=State.COMPLETE)) == "2"
    assert listed(Query(state=State.COMPLETE), (State.DAMAGED,)) == "32"
    assert listed(Query(since=1002)) == "32"
    assert listed(Query(drill=True)) == "3"
    assert listed(Query(drill=False)) == "21"
    assert listed(Query(host="web1", limit=1)) == "3"


def test_a_census(index: Index) -> None:
    assert index.census() == dict.fromkeys(State, Share(0, 0))
    for number, state in enumerate((State.COMPLETE, State.DAMAGED, State.COMPLETE)):
        index.put(record(number, state=state, stored_bytes=10**number))
    index.put(record(7, state=State.COMPLETE, stored_bytes=0))
    some = {State.COMPLETE: Share(3, 101), State.DAMAGED: Share(1, 10)}
    assert index.census() == {**dict.fromkeys(State, Share(0, 0)), **some}


def test_pragmas_are_set(path: Path, index: Index) -> None:
    with index._read() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert values == ["truncate", 2, 10_000]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_write_changes_nothing(index: Index) -> None:
    index.put(FULL)
    with pytest.raises(IndexFaultError):
        index.put(replace(FULL, host=None))  # type: ignore[arg-type]
    assert index.list() == [FULL]


def test_threads_share_an_index(index: Index) -> None:
    def put(number: int) -> None:
        for turn in range(5):
            index.put(record(number * 10 + turn))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index.list()) == 20


def test_threads_write_in_the_order_of_coming(index: Index) -> None:
    """A thread with thousands of rows to write keeps no other from the index."""
    with index._write():
        other = threading.Thread(target=index.put, args=(record(1),))
        other.start()
        while len(index._turns._queue) < 2:
            assert other.is_alive()
    index.put(record(2))
    with index._read() as connection:
        rows = connection.exec_driver_sql("SELECT id FROM dumps ORDER BY rowid").scalars().all()
    other.join()
    assert rows == [record(1).id, record(2).id]


def test_a_thread_whose_turn_does_not_come(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BUSY_SECONDS", 0.01)
    with index._write(), pytest.raises(BusyError, match="all the time"):
        index.put(FULL)
    index.put(FULL)


def _open_and_put(path: str, number: int) -> None:
    with Index.open(Path(path)) as opened:
        for turn in range(5):
            opened.put(record(number * 10 + turn))


def test_processes_make_and_fill_one_index(path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    processes = [context.Process(target=_open_and_put, args=(str(path), number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    with Index.open(path) as opened:
        assert len(opened.ids()) == 15


def test_a_writer_that_does_not_come_to_an_end(path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_PRAGMAS", ("busy_timeout=1", "journal_mode=TRUNCATE"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Index.open(path) as late, pytest.raises(BusyError):
        late.put(FULL)
    other.close()


def test_an_index_that_is_asked_for_too_much_at_once_is_not_damaged(index: Index) -> None:
    """A disk that hangs holds up whoever asks, and then those who find no connection: nothing is to be made anew."""
    pool: Any = index._engine.pool
    pool._timeout = 0.01
    with ExitStack() as stack:
        for _ in range(pool.size() + pool._max_overflow):
            stack.enter_context(index._engine.connect())
        with pytest.raises(BusyError, match="more at once"):
            index.ids()
    assert index.ids() == set()


def test_a_damaged_file_names_the_remedy(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 400)
    with pytest.raises(IndexFaultError, match=rf"netdump reindex {path.parent}"):
        Index.open(path)


def test_an_index_that_is_made_between_two_looks_at_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(sqlite3.Connection):
        """Somebody else makes the index behind the first thing that is asked."""

        asked = 0

        def execute(self, *words: Any) -> sqlite3.Cursor:
            answer = super().execute(*words)
            Slow.asked += 1
            if Slow.asked == 1:
                rows = answer.fetchall()
                monkeypatch.setattr("sqlite3.dbapi2.connect", plain)
                Index.open(path).close()
                return super().execute(f"SELECT {rows[0][0]}")
            return answer

    plain = sqlite3.connect
    monkeypatch.setattr("sqlite3.dbapi2.connect", partial(plain, factory=Slow))
    with Index.open(path) as opened:
        assert opened.ids() == set()
    assert Slow.asked > 1


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(IndexFaultError, match=r"another program.*netdump reindex"):
        Index.open(path)
    assert path.read_bytes() == before


def test_an_index_of_a_newer_version_is_left_alone(path: Path) -> None:
    Index.open(path).close()
    other = sqlite3.connect(path)
    other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.commit()
    other.close()
    with pytest.raises(IndexFaultError, match=r"newer netdump.*reindex"):
        Index.open(path)


@pytest.mark.parametrize(
    "statement", ["DROP TABLE dumps", "UPDATE dumps SET state = 'x'", "UPDATE dumps SET totals = '{'"]
)
def test_rows_that_make_no_sense_name_the_remedy(path: Path, statement: str) -> None:
    with Index.open(path) as opened:
        opened.put(FULL)
    other = sqlite3.connect(path)
    other.execute(statement)
    other.commit()
    other.close()
    with Index.open(path) as opened, pytest.raises(IndexFaultError, match="netdump reindex"):
        opened.list()


def test_damage_inside_the_file_names_the_remedy(path: Path) -> None:
    with Index.open(path) as opened:
        opened.add(record(number) for number in range(200))
    data = bytearray(path.read_bytes())
    for position in range(8192, len(data), 4096):
        data[position : position + 64] = b"\xff" * 64
    path.write_bytes(data)
    with Index.open(path) as opened, pytest.raises(IndexFaultError, match="netdump reindex"):
        opened.list()


def rot(path: Path, btree: str, old: bytes, new: bytes) -> None:
    """Change bytes of a leaf page of one of SQLite's trees."""
    with closing(sqlite3.connect(path)) as other:
        (root,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (btree,)).fetchone()
    content = bytearray(path.read_bytes())
    page = slice((root - 1) * 4096, root * 4096)
    assert content[page].count(old) == 1
    content[page] = content[page].replace(old, new)
    path.write_bytes(content)


@pytest.mark.parametrize("query", [Query(), Query(host="web1"), Query(limit=1), Query(host="web1", limit=1)])
def test_an_entry_that_leads_to_another_row(path: Path, query: Query) -> None:
    ids = [record(number).id.encode() for number in range(4)]
    with Index.open(path) as opened:
        opened.add([record(0), record(1), record(2), record(3, host="web2" if query.host else "web1")])
    last = 2 if query.host else 3
    rot(path, "dumps_host" if query.host else "dumps_newest", ids[last] + bytes([last + 1]), ids[last] + b"\x02")
    with Index.open(path) as opened, pytest.raises(IndexFaultError, match="leads to"):
        opened.list(query)


@pytest.mark.parametrize("query", [Query(), Query(state=State.ARRIVING), Query(drill=False)])
def test_an_entry_that_leads_nowhere(path: Path, query: Query) -> None:
    with Index.open(path) as opened:
        opened.add(record(number) for number in range(3))
    rot(path, "dumps_newest", record(2).id.encode() + b"\x03", record(2).id.encode() + b"\x13")
    with Index.open(path) as opened, pytest.raises(IndexFaultError, match="netdump reindex"):
        opened.list(query)


def test_a_row_that_was_added_twice(path: Path) -> None:
    dump_id = record(2).id.encode()
    with Index.open(path) as opened:
        opened.add(record(number) for number in range(3))
    rot(path, "sqlite_autoindex_dumps_1", dump_id, b"f" * 32)
    with Index.open(path) as opened:
        opened.add([record(2)])
        with pytest.raises(IndexFaultError, match="out of order"):
            opened.list()


def test_the_row_of_another_dump_is_not_taken_for_it(path: Path) -> None:
    dump_id = record(2).id
    with Index.open(path) as opened:
        opened.add(record(number) for number in range(3))
    rot(path, "sqlite_autoindex_dumps_1", dump_id.encode() + b"\x03", dump_id.encode() + b"\x02")
    with Index.open(path) as opened, pytest.raises(IndexFaultError, match="not what was written"):
        opened.get(dump_id)


def test_a_row_that_is_passed_over(path: Path) -> None:
    with Index.open(path) as opened:
        opened.add(record(number) for number in range(3))
    rot(path, "dumps_newest", b"\x0a\x00\x00\x00\x03", b"\x0a\x00\x00\x00\x02")
    with Index.open(path) as opened:
        missing = opened.ids() - {each.id for each in opened.list()}
        assert len(missing) == 1
        opened.assert_unknown({"f" * 32})
        with pytest.raises(IndexFaultError, match="passed over"):
            opened.assert_unknown(missing)


def test_a_schema_that_never_was(path: Path) -> None:
    Index.open(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE alembic_version SET version_num = '0 01'")
        other.commit()
    with pytest.raises(IndexFaultError, match="netdump reindex") as caught:
        Index.open(path)
    assert caught.value.damaged


def test_an_empty_file_becomes_an_index(path: Path) -> None:
    path.touch()
    with Index.open(path) as opened:
        assert opened.list() == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexFaultError, match="cannot be opened"):
        Index.open(tmp_path / "nowhere" / NAME)
