"""A collector that starts while another process has the index locked, or damaged and open."""

from __future__ import annotations

import asyncio
import functools
import gc
import sqlite3
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine

from netdump import wire
from netdump.errors import BusyError, IndexFaultError, StorageFaultError, StoreError
from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.record import State
from netdump.server import latecatalog, recorder
from netdump.server.latecatalog import RETRY_S, LateCatalog, open_catalog
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import PATIENCE_S, Desk, Events, Host, Papers, Rig
from tests.server.test_dumps import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


DUMP = SampleDump(seed=171, image_bytes=100_000)
LATER = SampleDump(seed=172, image_bytes=100_000)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock."""
    # Before SQLite is told how long to wait, Python has it wait for 5 s.
    monkeypatch.setattr(
        "netdump.index.index.create_engine", functools.partial(create_engine, connect_args={"timeout": 0.05})
    )
    monkeypatch.setattr("netdump.index.index._PRAGMAS", ("busy_timeout=50",))
    monkeypatch.setattr(recorder, "ANSWER_S", 0.3)


@contextmanager
def locked(folder: Path, how: str = "EXCLUSIVE") -> Iterator[None]:
    """As by a shell of sqlite3, or a list that hangs."""
    database = sqlite3.connect(folder / NAME, isolation_level=None)
    database.execute(f"BEGIN {how}")
    database.execute("SELECT count(*) FROM dumps").fetchone()
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.close()


@pytest.mark.parametrize("how", ["EXCLUSIVE", "DEFERRED"])
def test_dumps_are_received_while_the_index_cannot_be_opened(folder: Path, web1: Papers, ann: Papers, how: str) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.send_all(DUMP)
    with Index.open(folder / NAME) as index:
        index.remove(DUMP.origin.id)  # so that there is something to write, which a reader keeps from being written
    with ExitStack() as lock:
        lock.enter_context(locked(folder, how))
        with Rig(folder) as rig, Desk(rig, ann) as desk:
            assert "locked" in str(rig.events.wait("index-locked")["reason"])
            with Host(rig, web1) as host:
                assert isinstance(host.send_all(LATER), wire.Receipt)
            with Host(rig, web1) as host:
                assert isinstance(host.hello(DUMP), wire.Receipt)
            assert desk.error("GET", "/v1/dumps") == (409, "busy")
            assert not rig.events.all("index-opened")
            lock.close()
            rig.skip(RETRY_S)
            rig.events.wait("index-opened")
            states = {each["id"]: each["state"] for each in desk.get("/v1/dumps")["dumps"]}
            assert states == {DUMP.origin.id: "complete", LATER.origin.id: "complete"}
            rig.events.wait("dump-restored")  # what else waits for the index goes on
    assert not rig.events.all("index-rebuilt")


def test_dumps_are_received_while_there_is_no_room_for_an_index(folder: Path, web1: Papers, ann: Papers) -> None:
    (folder / NAME).unlink(missing_ok=True)  # the template's
    with pytest.MonkeyPatch.context() as full:
        full.setattr("netdump.index.index._PRAGMAS", ("busy_timeout=50", "max_page_count=1"))  # SQLITE_FULL
        with Rig(folder) as rig, Desk(rig, ann) as desk:
            assert "full" in str(rig.events.wait("index-failed")["reason"])
            with Host(rig, web1) as host:
                assert isinstance(host.send_all(LATER), wire.Receipt)
            assert desk.error("GET", "/v1/dumps") == (409, "busy")
            full.undo()
            rig.skip(RETRY_S)
            rig.events.wait("index-opened")
            assert [each["state"] for each in desk.get("/v1/dumps")["dumps"]] == ["complete"]


def test_dumps_are_received_while_the_index_is_brought_up_to_date(
    folder: Path, web1: Papers, ann: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes minutes to make one anew for tens of thousands of dumps, and a host waits for seconds."""
    store(folder, DUMP)
    made, real = threading.Event(), open_catalog

    def slow(*arguments: Any) -> LocalCatalog:
        assert made.wait(PATIENCE_S)
        return real(*arguments)

    monkeypatch.setattr(latecatalog, "PATIENCE_S", 0.0)
    monkeypatch.setattr(latecatalog, "open_catalog", slow)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        rig.events.wait("index-late")
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(LATER), wire.Receipt)
        assert desk.error("GET", "/v1/dumps") == (409, "busy")
        made.set()
        rig.events.wait("index-opened")
        states = {each["id"]: each["state"] for each in desk.get("/v1/dumps")["dumps"]}
        assert states == {DUMP.origin.id: "complete", LATER.origin.id: "complete"}


@pytest.mark.asyncio
async def test_an_index_that_was_late_is_said_to_be_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if that was so between the wait for it and what needs it, while the collector began to listen."""
    monkeypatch.setattr(latecatalog, "PATIENCE_S", 0.0)
    events, begun = Events(), list[str]()
    late = LateCatalog(folder, events)

    async def then() -> None:
        begun.append("")

    await late.open_soon()
    assert late._opening is not None
    await asyncio.wait({late._opening})
    await late.begin(then)
    await late.close()
    assert begun == [""]
    assert len(events.all("index-late")) == len(events.all("index-opened")) == 1


@pytest.mark.asyncio
async def test_a_mistake_of_ours_with_an_index_that_was_late_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latecatalog, "PATIENCE_S", 0.0)
    monkeypatch.setattr(latecatalog, "RETRY_S", 0.0)
    events, begun, real = Events(), asyncio.Event(), open_catalog

    def mistaken(*_: Any) -> LocalCatalog:
        monkeypatch.setattr(latecatalog, "open_catalog", real)
        raise AssertionError("a row too many")

    async def then() -> None:
        begun.set()

    monkeypatch.setattr(latecatalog, "open_catalog", mistaken)
    late = LateCatalog(folder, events)
    late._opening = asyncio.create_task(asyncio.to_thread(late.open))
    await late.begin(then)
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    await late.close()
    (event,) = events.all("index-failed")
    assert event["reason"] == "AssertionError: a row too many"


def test_a_collector_stops_while_its_index_is_brought_up_to_date(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(folder, DUMP)
    begun = threading.Event()

    def refresh(_: LocalCatalog, keep_on: Callable[[], None]) -> None:
        begun.set()
        while True:
            keep_on()

    monkeypatch.setattr(latecatalog, "PATIENCE_S", 0.0)
    monkeypatch.setattr(LocalCatalog, "refresh", refresh)
    with Rig(folder) as rig:
        assert begun.wait(PATIENCE_S)
    assert rig.events.all("index-late")
    assert not any(rig.events.all(f"index-{what}") for what in ("opened", "failed", "locked", "rebuilt"))


@pytest.mark.asyncio
async def test_an_index_that_fails_as_the_collector_stops_is_nobodys_business(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten, stops = list[object](), threading.Event()

    def fail(*_: Any) -> LocalCatalog:
        assert stops.wait(PATIENCE_S)
        raise IndexFaultError("made by a newer netdump")

    monkeypatch.setattr(latecatalog, "PATIENCE_S", 0.0)
    monkeypatch.setattr(latecatalog, "open_catalog", fail)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: forgotten.append(context))
    late = LateCatalog(folder, Events())
    await late.open_soon()
    stops.set()
    await late.close()
    del late
    gc.collect()
    assert not forgotten


def test_a_dump_that_is_complete_before_the_index_is_open_does_not_stay_arriving(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All dumps have been looked at by then."""
    begun, made, real = threading.Event(), threading.Event(), open_catalog

    def slow(*arguments: Any) -> LocalCatalog:
        assert begun.wait(PATIENCE_S)
        catalog = real(*arguments)
        assert made.wait(PATIENCE_S)
        return catalog

    monkeypatch.setattr(latecatalog, "PATIENCE_S", 0.0)
    monkeypatch.setattr(latecatalog, "open_catalog", slow)
    with Rig(folder, {"store": {"keep_vmcore": False}, "scrub": {"enabled": False}}) as rig:
        with Host(rig, web1) as host:
            host.resume(LATER)
            begun.set()
            deadline = time.monotonic() + PATIENCE_S
            while LATER.origin.id not in _ids(folder):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            host.headline(LATER)
            host.chunks(LATER.chunks)
            assert isinstance(host.finish(LATER), wire.Receipt)
        rig.events.wait("dump-complete")
        made.set()
        rig.events.wait("index-opened")
    with Index.open(folder / NAME) as index:
        row = index.get(LATER.origin.id)
    assert row is not None
    assert row.state is State.COMPLETE


def _ids(folder: Path) -> set[str]:
    with Index.open(folder / NAME) as index:
        return index.ids()


def test_a_collector_that_could_not_open_its_index_stops_all_the_same(folder: Path) -> None:
    store(folder, DUMP)
    with locked(folder), Rig(folder) as rig:
        rig.events.wait("index-locked")
    assert not rig.events.all("index-opened")


def test_a_damaged_index_that_somebody_has_open_is_set_aside_once_it_is_not(folder: Path, ann: Papers) -> None:
    store(folder, DUMP)
    with Rig(folder):
        pass
    content = bytearray((folder / NAME).read_bytes())
    with ExitStack() as reader:
        reader.enter_context(Index.open(folder / NAME))
        content[4096:] = b"\xff" * (len(content) - 4096)
        (folder / NAME).write_bytes(content)
        with Rig(folder) as rig, Desk(rig, ann) as desk:
            rig.events.wait("index-locked")
            reader.close()
            rig.skip(RETRY_S)
            rig.events.wait("index-opened")
            assert rig.events.all("index-rebuilt")
            assert [each["state"] for each in desk.get("/v1/dumps")["dumps"]] == ["complete"]


def test_an_index_that_is_no_file_is_set_aside(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
    (folder / NAME).mkdir()
    events = Events()
    open_catalog(folder, events).close()
    assert events.all("index-rebuilt")[0]["damaged"] == f"{NAME}.damaged-1"
    assert (folder / f"{NAME}.damaged-1").is_dir()
    assert (folder / NAME).is_file()


@pytest.mark.asyncio
async def test_what_goes_wrong_later_is_logged_and_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, then, done = Events(), asyncio.Event(), asyncio.Event()
    subject = LateCatalog(folder, events)
    with pytest.raises(BusyError, match="not open yet"):
        subject.index()
    results: list[StoreError | LocalCatalog] = [
        StorageFaultError("the disk is full"),
        BusyError("locked"),
        open_catalog(folder, events),
    ]

    def opened(*_: object) -> LocalCatalog:
        result = results.pop(0)
        if isinstance(result, StoreError):
            raise result
        return result

    async def begin() -> None:
        if not then.is_set():
            then.set()
            raise BusyError("locked again")
        done.set()

    monkeypatch.setattr(latecatalog, "open_catalog", opened)
    monkeypatch.setattr(latecatalog, "RETRY_S", 0.01)
    await subject.begin(begin)
    async with asyncio.timeout(20):
        await done.wait()
    assert [event["reason"] for event in events.all("index-failed") + events.all("index-locked")] == [
        "the disk is full; dumps are received without it",
        "locked again",
        "locked; dumps are received without it",
    ]
    assert not subject.index().ids()
    await subject.close()


@pytest.mark.asyncio
async def test_what_stays_wrong_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, done = Events(), asyncio.Event()
    subject = LateCatalog(folder, events)
    newer, mistake = IndexFaultError("of a newer netdump"), AssertionError("a row too many")
    faults = [newer, newer, newer, mistake, mistake, newer]
    begins = [BusyError("locked"), BusyError("locked"), newer]

    def opened(*_: object) -> LocalCatalog:
        if faults:
            raise faults.pop(0)
        return open_catalog(folder, events)

    async def begin() -> None:
        if begins:
            raise begins.pop(0)
        done.set()

    monkeypatch.setattr(latecatalog, "open_catalog", opened)
    monkeypatch.setattr(latecatalog, "RETRY_S", 0.0)
    await subject.begin(begin)
    async with asyncio.timeout(20):
        await done.wait()
    await subject.close()
    assert [event["reason"] for event in events.all("index-failed")] == [
        "of a newer netdump",
        "AssertionError: a row too many",
        "of a newer netdump",
        "locked",
        "of a newer netdump",
    ]
