"""Run tables without their data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import DamagedError
from netdump.pages import PageState, Run
from netdump.store.findings import Damage, DamageFoundError
from netdump.store.intake import verify_chunk
from netdump.store.runtables import RunTable
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump, received_chunk

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.wire import Chunk

DUMP = SampleDump(seed=5)


def fill(root: Path, dump: SampleDump, chunks: list[Chunk], *, whole: bool = True) -> Store:
    store = Store(root)
    with store.open_writer(dump.origin) as writer:
        writer.put_headline(dump.headline)
        for number, chunk in enumerate(chunks):
            writer.append(chunk, len(verify_chunk(chunk)))
            if number % 3 == 2:
                writer.publish()
        writer.publish()
        if whole:
            writer.finish(dump.root)
    return store


@pytest.mark.parametrize("count", [None, 7, 0])
def test_they_come_as_they_were_sent(tmp_path: Path, count: int | None) -> None:
    sent = DUMP.chunks[:count]
    dump = fill(tmp_path, DUMP, sent, whole=count is None).dump(DUMP.origin.id)
    assert list(dump.run_tables()) == [RunTable(chunk.offset, chunk.length, chunk.table) for chunk in sent]


def test_a_table_larger_than_what_is_read_at_first(tmp_path: Path) -> None:
    dump = SampleDump(seed=6, image_bytes=4000)
    runs = [Run(PageState.LOST if number % 2 else PageState.ZERO, 1) for number in range(4000)]
    chunk = received_chunk(0, runs, b"")
    store = fill(tmp_path, dump, [chunk], whole=False)
    assert [table.table for table in store.dump(dump.origin.id).run_tables()] == [chunk.table]


def test_nothing_is_decompressed(tmp_path: Path) -> None:
    store = fill(tmp_path, DUMP, DUMP.chunks)
    for path in sorted((tmp_path / DUMP.origin.id / "segments").iterdir()):
        data = bytearray(path.read_bytes())
        with store.dump(DUMP.origin.id).open_segment(path.name) as segment:
            ends = [entry.position + entry.frame_bytes for entry in segment.entries() if entry.raw_bytes]
        for end in ends:
            data[end - 1] ^= 0xFF
        path.write_bytes(data)
    assert len(list(store.dump(DUMP.origin.id).run_tables())) == len(DUMP.chunks)
    assert not store.dump(DUMP.origin.id).verify().ok


@pytest.mark.parametrize("into", [0, 4])
def test_damage_in_a_table_is_found(tmp_path: Path, into: int) -> None:
    store = fill(tmp_path, DUMP, DUMP.chunks)
    path = min((tmp_path / DUMP.origin.id / "segments").iterdir())
    data = bytearray(path.read_bytes())
    data[data.index(DUMP.chunks[1].table) + into] ^= 0x40
    path.write_bytes(data)
    tables = store.dump(DUMP.origin.id).run_tables()
    next(tables)
    with pytest.raises(DamagedError, match=DUMP.origin.id) as caught:
        next(tables)
    assert isinstance(caught.value, DamageFoundError)
    assert caught.value.finding.damage is Damage.BAD_CHUNK


def test_runs_of_another_chunk_are_found(tmp_path: Path) -> None:
    """A table that is well formed, but calls for other data than the segment's table says."""
    dump = SampleDump(seed=7, image_bytes=8192)
    store = fill(tmp_path, dump, [received_chunk(0, [Run(PageState.ZERO, 8192)], b"")], whole=False)
    (path,) = (tmp_path / dump.origin.id / "segments").iterdir()
    data = bytearray(path.read_bytes())
    at = data.index(bytes([PageState.ZERO, 0, 0, 0, 0, 0, 0x20, 0]))
    data[at] = PageState.DATA
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="call for 8192 bytes"):
        list(store.dump(dump.origin.id).run_tables())
