"""What the index says of how far dumps have come, whatever kept it from being told in between."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from netdump.errors import BusyError
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.record import State
from netdump.server.recorder import Recorder
from netdump.store.recovery import Durable
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all
from tests.server.rig import Events

if TYPE_CHECKING:
    from pathlib import Path

DUMP = SampleDump(seed=62, image_bytes=300_000)


def test_progress_is_noted_once_the_index_can_be_told_again(folder: Path) -> None:
    """A dump may arrive for hours, and have begun while the index was brought up to date, or locked for a moment."""
    index: Index | None = None
    store, dump_id = Store(folder / "dumps"), DUMP.origin.id

    def opened() -> Index:
        if index is None:
            raise BusyError("the index is not open yet")
        return index

    events = Events()
    recorder = Recorder(opened, store, events)
    with store.open_writer(DUMP.origin):
        recorder.refresh(dump_id)
        for chunks in range(1, 4):
            recorder.advance(dump_id, Durable(chunks, bytes(32), chunks), 100)
            recorder._pool.submit(lambda: None).result()
        assert len(events.all("index-failed")) == 1, "not with each step of each dump"
        with Index.open(folder / NAME) as index:
            recorder.advance(dump_id, Durable(8192, bytes(32), 2), 200)
            recorder._pool.submit(lambda: None).result()
            record = index.get(dump_id)
            assert record is not None
            assert (record.state, record.durable_bytes, record.stored_bytes) == (State.ARRIVING, 8192, 200)
            recorder.close()


def test_a_dump_that_has_ended_does_not_arrive_any_more(folder: Path) -> None:
    """Its row may be written but once for its beginning and its end: before an older word of how far it had come."""
    store, dump_id, locked = Store(folder / "dumps"), DUMP.origin.id, threading.Event()
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, Events())
        recorder._pool.submit(locked.wait, 20)
        with store.open_writer(DUMP.origin) as writer:
            recorder.refresh(dump_id)
            append_all(writer, DUMP.chunks[:3])
            recorder.advance(dump_id, writer.publish(), 1)
            append_all(writer, DUMP.chunks[3:])
            writer.finish(DUMP.root)
        recorder.refresh(dump_id)
        locked.set()
        recorder.close()
        record = index.get(dump_id)
    assert record is not None
    assert (record.state, record.durable_bytes) == (State.COMPLETE, 300_000)
