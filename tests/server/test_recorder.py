"""The index while dumps arrive: states, progress, usage; and that its troubles are nobody's but its own."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netdump import wire
from netdump.errors import BusyError, StorageFaultError
from netdump.index.gather import gather
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.record import UNREADABLE, DumpRecord, State
from netdump.server import recorder as module
from netdump.server.admission import Usage
from netdump.server.recorder import Recorder
from netdump.store.recovery import Durable
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all, deliver
from tests.server.rig import Desk, Events, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.index.reading import Query

DUMP = SampleDump(seed=61, image_bytes=300_000)
QUOTA = 1 << 40
UNKNOWN = Usage(0, 0, known=False)


def row(folder: Path, dump: SampleDump = DUMP) -> DumpRecord:
    with Index.open(folder / NAME) as index:
        record = index.get(dump.origin.id)
    assert record is not None
    return record


@pytest.fixture
def recorder(folder: Path) -> Iterator[Recorder]:
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, Store(folder / "dumps"), Events())
        yield recorder
        recorder.close()


def test_complete_dumps_with_a_vmcore_and_without(folder: Path, recorder: Recorder) -> None:
    store = Store(folder / "dumps")
    late, early, restored, half = (SampleDump(seed, image_bytes=30_000) for seed in (1, 2, 3, 4))
    for number, sample in enumerate((early, restored, late)):
        sample.origin = replace(sample.origin, created=1000 + number)  # type: ignore[misc]
        deliver(store, sample)
    deliver(store, half, 1)
    store.dump(restored.origin.id).reassemble()
    for sample in (late, half, restored, early):
        recorder.refresh(sample.origin.id).result()
    assert recorder.complete(restored=True) == [restored.origin.id]
    assert recorder.complete(restored=False) == [early.origin.id, late.origin.id]
    store.dump(restored.origin.id).drop_vmcore()
    assert recorder.complete(restored=True) == [], "whatever the index says of it"


def test_a_census_is_that_of_the_index(folder: Path, recorder: Recorder) -> None:
    store = Store(folder / "dumps")
    deliver(store, DUMP)
    recorder.refresh(DUMP.origin.id).result()
    recorder.damaged(DUMP.origin.id, "rot").result()
    with Index.open(folder / NAME) as index:
        assert recorder.census() == index.census()
    assert recorder.census()[State.DAMAGED].dumps == 1


def test_the_life_of_a_row(folder: Path, web1: Papers, ann: Papers) -> None:
    with Rig(folder, {"store": {"publish_s": 1, "keep_vmcore": False}}) as rig, Desk(rig, ann) as desk:
        path = f"/v1/dumps/{DUMP.origin.id}"
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.headline(DUMP)
            host.chunks(DUMP.chunks[:9])
            end = DUMP.chunks[9].offset
            host.await_ack(end)
            shown = desk.get(path)
            assert (shown["state"], shown["durable_bytes"], shown["chunks"]) == ("arriving", end, 9)
            assert shown["machine"] == "x86_64"
            assert shown["stored_bytes"] > 0
        rig.events.wait("dump-interrupted")
        assert desk.get(path)["state"] == "interrupted"
        assert [each["state"] for each in desk.get("/v1/dumps")["dumps"]] == ["interrupted"]
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")
        shown = desk.get(path)
        assert (shown["state"], shown["durable_bytes"], shown["root"]) == ("complete", 300_000, DUMP.root.hex())
    assert row(folder).state is State.COMPLETE
    assert row(folder).root == DUMP.root.hex()


def test_progress_is_noted_now_and_then(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[tuple[int, int]] = []

    def advance(_: Index, dump_id: str, *, durable_bytes: int, stored_bytes: int, chunks: int, updated: int) -> None:
        assert dump_id == DUMP.origin.id
        noted.append((durable_bytes, chunks))

    monkeypatch.setattr(Index, "advance", advance)
    settings = {"store": {"publish_s": 1, "keep_vmcore": False}, "ingest": {"idle_s": 600, "keepalive_s": 60}}
    with Rig(folder, settings) as rig, Host(rig, web1) as host:
        host.resume(DUMP)
        host.headline(DUMP)
        host.chunks(DUMP.chunks[:4])
        host.await_ack(DUMP.chunks[4].offset)
        rig.skip(module.PROGRESS_S)
        rig.call(lambda: None)
    assert noted == [(DUMP.chunks[4].offset, 4)]


def test_usage(recorder: Recorder) -> None:
    day = 86_400
    now = 10 * day
    index = recorder._index
    for number, (host, first_seen, size) in enumerate(
        [("a", now - day + 1, 5), ("a", now - day, 7), ("a", now, 11), ("b", now, 13), ("a", now + 9 * day, 2)]
    ):
        index.put(
            DumpRecord(
                id=f"{number:032x}",
                host=host,
                state=State.COMPLETE,
                image_bytes=1,
                page_bytes=4096,
                level=0,
                first_seen=first_seen,
                updated=now,
                stored_bytes=size,
            )
        )
    assert recorder.usage("a", now, QUOTA) == Usage(2, 25)
    assert recorder.usage("c", now, QUOTA) == Usage(0, 0)


def test_of_a_host_in_a_crash_loop_todays_rows_are_looked_at(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its quotas end with some 10,000 dumps, which take longer to look at than a question may."""
    day, index, looked = 86_400, recorder._index, list[str]()
    for number in range(30):
        index.put(DumpRecord(f"{number:032x}", "a", State.COMPLETE, 1, 4096, 0, number * day, 1000, stored_bytes=3))
    index_list = Index.list

    def noted(index: Index, query: Query) -> list[DumpRecord]:
        found = index_list(index, query)
        looked.extend(record.id for record in found)
        return found

    monkeypatch.setattr(Index, "list", noted)
    assert recorder.usage("a", 29 * day + 5, QUOTA) == Usage(1, 90)
    assert looked == [f"{29:032x}"]


def test_no_quota_is_used_up_by_a_row_that_has_rotted(folder: Path, recorder: Recorder) -> None:
    recorder._index.put(DumpRecord("a" * 32, "a", State.COMPLETE, 1, 4096, 0, 1000, 1000, stored_bytes=3))
    with closing(sqlite3.connect(folder / NAME)) as database, database:
        database.execute("UPDATE dumps SET stored_bytes = 1 << 50")
    assert recorder.usage("a", 1 << 30, QUOTA) == UNKNOWN, "nothing is known"


def test_usage_counts_all_pages(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIST_LIMIT_MAX", 2)
    for number in range(5):
        recorder._index.put(
            DumpRecord(f"{number:032x}", "a", State.COMPLETE, 1, 4096, 0, 1000 + number, 1000, stored_bytes=1)
        )
    assert recorder.usage("a", 1000, QUOTA) == Usage(5, 5)


def test_who_was_found_damaged(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIST_LIMIT_MAX", 1)
    for number, (state, remark) in enumerate(
        [
            (State.DAMAGED, "x"),
            (State.COMPLETE, ""),
            (State.DAMAGED, f"{UNREADABLE}: input/output error"),
            (State.DAMAGED, "y"),
        ]
    ):
        recorder._index.put(DumpRecord(f"{number:032x}", "a", state, 1, 4096, 0, 1000 + number, 1000, remark=remark))
    assert recorder.found_damaged() == {f"{0:032x}", f"{3:032x}"}


def _break(folder: Path) -> None:
    with sqlite3.connect(folder / NAME) as database:
        database.execute("ALTER TABLE dumps RENAME TO elsewhere")
    database.close()


def test_a_broken_index_is_made_anew_while_dumps_arrive(folder: Path, web1: Papers) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        _break(folder)
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        rig.events.wait("index-mended")
        rig.events.wait("dump-complete")
    with Index.open(folder / NAME) as index:
        (record,) = index.list()
    assert (record.id, record.state) == (DUMP.origin.id, State.COMPLETE)


def test_a_broken_index_that_cannot_be_mended_loses_no_dump(folder: Path, web1: Papers) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig, Index.open(folder / NAME):
        _break(folder)
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        rig.events.wait("index-failed", 3)
    assert Store(folder / "dumps").dump(DUMP.origin.id).verify().ok


def test_an_index_that_another_process_has_locked_stops_no_dump(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        database = sqlite3.connect(folder / NAME, isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        database.execute("ROLLBACK")
        database.close()
        (reason, *_) = [event["reason"] for event in rig.events.all("index-failed")]
        assert "locked" in str(reason)
    assert Store(folder / "dumps").dump(DUMP.origin.id).verify().ok


def test_a_dump_that_is_gone_leaves_the_index(recorder: Recorder) -> None:
    recorder._index.put(DumpRecord("0" * 32, "a", State.COMPLETE, 1, 4096, 0, 1000, 1000))
    recorder.refresh("0" * 32).result()
    assert recorder._index.get("0" * 32) is None


def test_a_row_that_waits_to_be_written_is_written_once(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    free, gathered = threading.Event(), list[str]()

    def note(store: Store, dump_id: str) -> DumpRecord:
        gathered.append(dump_id)
        return gather(store, dump_id)

    monkeypatch.setattr(module, "gather", note)
    recorder._pool.submit(free.wait, 20)
    first = recorder.refresh("00" * 16)
    assert recorder.refresh("00" * 16) is first
    other = recorder.refresh("11" * 16)
    free.set()
    first.result(20)
    other.result(20)
    recorder.refresh("00" * 16).result(20)
    assert gathered == ["00" * 16, "11" * 16, "00" * 16]


def test_the_queue_of_an_index_that_hangs_does_not_grow(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    done, hangs = list[object](), threading.Event()
    monkeypatch.setattr(module, "ANSWER_S", 0.01)
    monkeypatch.setattr(module, "gather", lambda _store, _id: done.append("row"))
    monkeypatch.setattr(Index, "get", lambda *_: done.append("asked"))
    monkeypatch.setattr(Index, "list", lambda *_: done.append("asked"))
    monkeypatch.setattr(Index, "renew", lambda *_: None)
    monkeypatch.setattr(Index, "advance", lambda _index, dump_id, **values: done.append((dump_id, values["chunks"])))
    recorder._pool.submit(hangs.wait, 20)
    for chunks in range(5):
        assert recorder.usage("a", 1000, QUOTA) == UNKNOWN
        assert not recorder.is_damaged("0" * 32)
        for number in range(2):
            recorder.refresh(f"{number:032x}")
            recorder.advance(f"{number + 2:032x}", Durable(chunks, bytes(32), chunks), 1)
    hangs.set()
    recorder.close()
    assert done == ["row", (f"{2:032x}", 4), "row", (f"{3:032x}", 4)]


def test_a_collector_that_stops_waits_for_verdicts_only(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else stands in the store, where the next start finds it."""
    done, begun = list[str](), threading.Event()
    monkeypatch.setattr(module, "CLOSING_S", -1.0)
    monkeypatch.setattr(module, "gather", lambda _store, _id: done.append("row"))
    monkeypatch.setattr(Index, "set_state", lambda *_: done.append("damaged"))
    recorder._pool.submit(begun.wait, 20)
    recorder.refresh("00" * 16)
    recorder.damaged("00" * 16, "a bit has rotted")
    closing = threading.Thread(target=recorder.close)
    closing.start()
    while recorder._until == math.inf:
        closing.join(0.001)
    begun.set()
    closing.join(20)
    assert done == ["damaged"]


def test_damage_is_noted(recorder: Recorder) -> None:
    recorder._index.put(DumpRecord("0" * 32, "a", State.COMPLETE, 1, 4096, 0, 1000, 1000))
    recorder.damaged("0" * 32, "x" * 5000).result()
    record = recorder._index.get("0" * 32)
    assert record is not None
    assert record.state is State.DAMAGED
    assert record.remark == "x" * 500


@pytest.fixture
def reader(folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another process that reads the index: until it ends by ROLLBACK, the index can be read, and not written."""
    index = recorder._index
    for number in range(3):
        index.put(DumpRecord(f"{number:032x}", "a", State.COMPLETE, 1, 4096, 0, 1000, 1000))
    with index._write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
    database = sqlite3.connect(folder / NAME, isolation_level=None)
    database.execute("BEGIN")
    database.execute("SELECT * FROM dumps").fetchone()
    yield database
    database.close()


def states(recorder: Recorder) -> list[State]:
    return [record.state for record in sorted(recorder._index.list(), key=lambda record: record.id)]


def test_verdicts_wait_for_an_index_that_cannot_be_written(recorder: Recorder, reader: sqlite3.Connection) -> None:
    recorder.damaged("0" * 32, "bad digest").result()
    recorder.damaged(f"{2:032x}", f"{UNREADABLE}: input/output error").result()
    recorder.checked({f"{1:032x}": 2000}).result()
    assert states(recorder) == [State.COMPLETE] * 3
    assert recorder.found_damaged() == {"0" * 32}
    assert recorder.is_damaged("0" * 32)
    assert not recorder.is_damaged(f"{2:032x}")
    assert not recorder.is_complete("0" * 32)
    assert recorder.is_complete(f"{1:032x}")
    reader.execute("ROLLBACK")
    recorder.settle()
    assert recorder.is_damaged("0" * 32)
    assert not recorder.is_complete("0" * 32)
    assert states(recorder) == [State.DAMAGED, State.COMPLETE, State.DAMAGED]
    checked = recorder._index.get(f"{1:032x}")
    assert checked is not None
    assert checked.checked == 2000
    assert not recorder._damage
    assert not recorder._checks


def test_verdicts_are_written_before_what_comes_later(
    folder: Path, recorder: Recorder, reader: sqlite3.Connection
) -> None:
    deliver(Store(folder / "dumps"), DUMP)
    recorder.damaged(f"{1:032x}", "bad digest").result()
    reader.execute("ROLLBACK")
    recorder.refresh(DUMP.origin.id).result()
    assert State.DAMAGED in states(recorder)
    recorder.damaged(DUMP.origin.id, "bad digest").result()
    recorder.sound(DUMP.origin.id).result()
    assert recorder.found_damaged() == {f"{1:032x}"}


@pytest.mark.parametrize("name", ["list", "get", "_ask"])
def test_a_verdict_is_known_while_it_is_written(
    recorder: Recorder, reader: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It waits no more once the index has answered without it."""
    place = Recorder if name == "_ask" else Index
    ask = getattr(place, name)

    def then_written(*arguments: Any) -> object:
        answer = ask(*arguments)
        monkeypatch.setattr(place, name, ask)
        reader.execute("ROLLBACK")
        recorder.settle()
        recorder._pool.submit(lambda: None).result()
        assert not recorder._damage
        return answer

    dump_id = "0" * 32
    recorder.damaged(dump_id, "bad digest").result()
    monkeypatch.setattr(place, name, then_written)
    match name:
        case "list":
            assert recorder.found_damaged() == {dump_id}
        case "get":
            assert not recorder.is_complete(dump_id)
        case _:
            assert recorder.is_damaged(dump_id)


def test_damage_of_a_dump_without_a_row_is_noted(folder: Path, recorder: Recorder) -> None:
    """It came while there was no index."""
    deliver(Store(folder / "dumps"), DUMP)
    recorder.damaged("0" * 32, "deleted since").result()
    recorder.damaged(DUMP.origin.id, "bad digest").result()
    assert row(folder).state is State.DAMAGED
    assert row(folder).host == DUMP.origin.host
    assert recorder.found_damaged() == {DUMP.origin.id}


def test_a_verdict_that_waits_is_written_at_the_end(recorder: Recorder, reader: sqlite3.Connection) -> None:
    recorder.damaged("0" * 32, "bad digest").result()
    reader.execute("ROLLBACK")
    recorder.close()
    assert states(recorder)[0] is State.DAMAGED


def test_a_verdict_on_what_is_given_up_waits_no_longer(recorder: Recorder, reader: sqlite3.Connection) -> None:
    recorder.damaged("0" * 32, "bad digest").result()
    recorder.mended("0" * 32)
    assert not recorder.is_damaged("0" * 32)
    reader.execute("ROLLBACK")
    recorder.settle()
    assert recorder.found_damaged() == set()


def test_what_was_mended_and_completed_before_the_index_could_be_told_is_not_damaged(
    folder: Path, recorder: Recorder
) -> None:
    """The row of a damaged dump does not become sound by a look at its documents; its mending says that it is."""
    store, dump_id, busy = Store(folder / "dumps"), DUMP.origin.id, threading.Event()
    deliver(store, DUMP, 3)
    recorder.refresh(dump_id).result()
    recorder.damaged(dump_id, "bad digest").result()
    recorder._pool.submit(busy.wait, 20)
    recorder.mended(dump_id)
    with store.open_writer(DUMP.origin) as writer:
        append_all(writer, DUMP.chunks[3:])
        writer.finish(DUMP.root)
    recorder.refresh(dump_id)
    busy.set()
    assert not recorder.is_damaged(dump_id)
    assert row(folder).state is State.COMPLETE


def test_a_mending_waits_for_an_index_that_cannot_be_written(
    folder: Path, recorder: Recorder, reader: sqlite3.Connection
) -> None:
    reader.execute("ROLLBACK")
    deliver(Store(folder / "dumps"), DUMP)
    recorder.damaged(DUMP.origin.id, "bad digest").result()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM dumps").fetchone()
    recorder.mended(DUMP.origin.id)
    assert not recorder.is_damaged(DUMP.origin.id)
    assert recorder.found_damaged() == set()
    assert row(folder).state is State.DAMAGED
    reader.execute("ROLLBACK")
    recorder.settle()
    assert not recorder.is_damaged(DUMP.origin.id)
    assert row(folder).state is State.COMPLETE


def test_rows_wait_for_an_index_that_cannot_be_written(
    folder: Path, recorder: Recorder, reader: sqlite3.Connection
) -> None:
    deliver(Store(folder / "dumps"), DUMP)
    recorder.refresh(DUMP.origin.id).result()
    recorder.refresh("0" * 32).result()  # deleted since
    assert len(states(recorder)) == 3
    reader.execute("ROLLBACK")
    recorder.settle()
    recorder.is_damaged("")
    assert row(folder).state is State.COMPLETE
    assert recorder._index.get("0" * 32) is None
    assert not recorder._rows


@pytest.mark.parametrize("error", [StorageFaultError("Input/output error"), ZeroDivisionError("a mistake")])
def test_a_dump_that_cannot_be_read_keeps_no_other_from_the_index(
    folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    deliver(Store(folder / "dumps"), DUMP)

    def read(store: Store, dump_id: str) -> DumpRecord:
        if dump_id == "0" * 32:
            raise error
        return gather(store, dump_id)

    monkeypatch.setattr(module, "gather", read)
    recorder.refresh("0" * 32).result()
    recorder.refresh(DUMP.origin.id).result()
    assert row(folder).state is State.COMPLETE
    assert not recorder._rows


def test_nobody_waits_for_an_index_that_has_not_answered(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever did would hold a thread that dumps are written with: two questions a host, and hosts come in crowds."""
    hangs = threading.Event()
    recorder._index.put(DumpRecord("0" * 32, "a", State.COMPLETE, 1, 4096, 0, 1000, 1000, stored_bytes=5))
    recorder._pool.submit(hangs.wait, 20)
    monkeypatch.setattr(module, "ANSWER_S", 0.01)
    assert recorder.usage("a", 1000, QUOTA) == UNKNOWN
    monkeypatch.setattr(module, "ANSWER_S", 20.0)
    begun = time.monotonic()
    assert recorder.usage("a", 1000, QUOTA) == UNKNOWN
    assert recorder.is_damaged("0" * 32) is None
    assert time.monotonic() < begun + 10
    hangs.set()
    recorder._pool.submit(lambda: None).result()
    assert recorder.usage("a", 1000, QUOTA) == Usage(1, 5)


def test_checks_that_the_index_does_not_know(recorder: Recorder) -> None:
    for name in "abc":
        recorder._index.put(DumpRecord(name, "a", State.COMPLETE, 1, 4096, 0, 1000, 1000))
    recorder.checked({"a": 2000, "b": 2000}).result()
    assert recorder.untold({"a": 2000, "b": 3000, "c": 2000, "gone": 2000}) == {"b": 3000, "c": 2000}


def test_checks_of_many_dumps_are_written_some_at_a_time(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, fifty thousand keep everybody else from the index for half an hour."""
    monkeypatch.setattr(module, "CHECKS_AT_ONCE", 2)
    steps, set_checked = list[list[str]](), Index.set_checked

    def noted(index: Index, checks: dict[str, int]) -> None:
        steps.append([*checks])
        set_checked(index, checks)

    monkeypatch.setattr(Index, "set_checked", noted)
    for name in "abc":
        recorder._index.put(DumpRecord(name, "a", State.COMPLETE, 1, 4096, 0, 1000, 1000))
    recorder.checked(dict.fromkeys("abc", 2000)).result()
    assert steps == [["a", "b"], ["c"]]
    assert recorder._index.checks() == dict.fromkeys("abc", 2000)


def test_no_more_verdicts_wait_than_that(
    recorder: Recorder, reader: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    for number in range(3):
        recorder.damaged(f"{number:032x}", "bad digest").result()
        recorder.checked({f"{number:032x}": 2000}).result()
    recorder.damaged("0" * 32, "another").result()
    assert recorder._damage == {"0" * 32: "another", f"{1:032x}": "bad digest"}
    assert len(recorder._checks) == 2


def test_a_dump_that_is_sound_is_damaged_no_more(folder: Path, recorder: Recorder) -> None:
    deliver(Store(folder / "dumps"), DUMP)
    recorder.refresh(DUMP.origin.id).result()
    before = row(folder)
    recorder.sound(DUMP.origin.id).result()
    assert row(folder) == before
    recorder.damaged(DUMP.origin.id, "bad digest").result()
    recorder.refresh(DUMP.origin.id).result()
    assert row(folder).state is State.DAMAGED, "a look at its documents is not enough"
    recorder.sound(DUMP.origin.id).result()
    assert row(folder) == before
    recorder.sound("0" * 32).result()  # deleted meanwhile


def test_who_tells_of_a_sound_dump_hears_that_the_index_cannot_be_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process reads and does not end: the index can be read, and not written."""
    monkeypatch.setattr("netdump.index.index._PRAGMAS", ("busy_timeout=0", "journal_mode=TRUNCATE"))
    deliver(Store(folder / "dumps"), DUMP)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, Store(folder / "dumps"), Events())
        recorder.refresh(DUMP.origin.id).result()
        recorder.damaged(DUMP.origin.id, "bad digest").result()
        database = sqlite3.connect(folder / NAME, isolation_level=None)
        database.execute("BEGIN")
        database.execute("SELECT * FROM dumps").fetchone()
        with pytest.raises(BusyError, match="is locked by another process"):
            recorder.sound(DUMP.origin.id).result()
        assert recorder.found_damaged() == {DUMP.origin.id}
        database.execute("ROLLBACK")
        database.close()
        recorder.sound(DUMP.origin.id).result()
        assert recorder.found_damaged() == set()
        recorder.close()


def test_damage_found_while_a_row_is_written_stays(
    folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(Store(folder / "dumps"), DUMP)
    recorder.refresh(DUMP.origin.id).result()
    assert row(folder).state is State.COMPLETE

    def gathered(store: Store, dump_id: str) -> DumpRecord:
        record = gather(store, dump_id)
        with Index.open(folder / NAME) as index:  # a verification ends at this moment
            index.set_state(dump_id, State.DAMAGED, "bad digest")
        return record

    monkeypatch.setattr(module, "gather", gathered)
    recorder.refresh(DUMP.origin.id).result()
    assert (row(folder).state, row(folder).remark) == (State.DAMAGED, "bad digest")
