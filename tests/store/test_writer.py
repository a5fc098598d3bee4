"""What the writer does to the disk, and when it has to give up.

What it promises is in the contract and test_crashes.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.errors import DamagedError, StorageFaultError
from netdump.store.store import Store
from netdump.store.writer import RESTED_S
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all, deliver

if TYPE_CHECKING:
    from netdump.store.writer import DumpWriter

SAMPLE = SampleDump()
ID = SAMPLE.origin.id
ROOT = Path("dumps")


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles(MemoryFiles())


@pytest.fixture
def writer(files: FaultyFiles) -> DumpWriter:
    return Store(ROOT, files).open_writer(SAMPLE.origin)


def kinds(files: FaultyFiles, first: int) -> list[str]:
    return [operation.kind for operation in files.operations[first:]]


def test_a_chunk_costs_one_write(files: FaultyFiles, writer: DumpWriter) -> None:
    append_all(writer, SAMPLE.chunks[:1])
    first = len(files.operations)
    append_all(writer, SAMPLE.chunks[1:3])
    assert kinds(files, first) == ["write", "write"]
    writer.publish()
    assert kinds(files, first + 2) == ["write", "write", "sync", "close", "rename", "sync_folder"]


def test_the_frames_are_kept_as_they_came(files: FaultyFiles, writer: DumpWriter) -> None:
    append_all(writer, SAMPLE.chunks[:3])
    writer.publish()
    (name,) = files.names(f"{ID}/segments")
    frames = b"".join(chunk.frame for chunk in SAMPLE.chunks[:3])
    file = files.open(f"{ID}/segments/{name}")
    assert file.read(72, len(frames)) == frames


def test_the_open_segment_is_a_partial_file(files: FaultyFiles, writer: DumpWriter) -> None:
    """[S-01], [S-02]."""
    append_all(writer, SAMPLE.chunks[:1])
    assert [name.endswith(".partial") for name in files.names(f"{ID}/segments")] == [True]
    writer.close()
    assert files.names(f"{ID}/segments") == []


def test_after_a_fault_nothing_but_close(files: FaultyFiles, writer: DumpWriter) -> None:
    writer.put_headline(SAMPLE.headline)
    append_all(writer, SAMPLE.chunks[:2])
    writer.publish()
    append_all(writer, SAMPLE.chunks[2:4])
    files.fail(error=errno.ENOSPC)
    with pytest.raises(StorageFaultError, match=f"storing chunks of dump {ID}.*make room"):
        append_all(writer, SAMPLE.chunks[4:5])
    assert writer.pending_cost == writer.pending_bytes == 0
    assert not any(name.endswith(".partial") for name in files.names(f"{ID}/segments")), (
        "its room is given back at once"
    )
    before = len(files.operations)
    for call in (
        lambda: append_all(writer, SAMPLE.chunks[2:3]),
        writer.publish,
        lambda: writer.put_headline(b""),
        lambda: writer.finish(SAMPLE.root),
    ):
        with pytest.raises(StorageFaultError, match=r"earlier fault.*open the dump again"):
            call()
    assert len(files.operations) == before, "not even a look at the disk"
    assert writer.durable.chunks == 2
    writer.close()
    with Store(ROOT, files).open_writer(SAMPLE.origin) as again:
        assert again.durable.chunks == 2
        append_all(again, SAMPLE.chunks[2:])
        again.finish(SAMPLE.root)


@pytest.mark.parametrize("kind", ["write", "sync", "close", "rename", "sync_folder"])
def test_a_segment_whose_publishing_failed_never_counts(kind: str) -> None:
    """[S-04]: neither for the one who opens the dump next, nor after a power cut."""
    memory = MemoryFiles()
    files = FaultyFiles(memory)
    writer = Store(ROOT, files).open_writer(SAMPLE.origin)
    append_all(writer, SAMPLE.chunks[:3])
    files.fail(["write", "write", "sync", "close", "rename", "sync_folder"].index(kind))
    with pytest.raises(StorageFaultError, match="publishing a segment"):
        writer.publish()
    assert writer.durable.offset == 0
    writer.close()
    assert memory.names(f"{ID}/segments") == []
    memory.cut_power()
    with Store(ROOT, memory).open_writer(SAMPLE.origin) as again:
        assert again.durable.offset == 0


def test_a_full_segment_is_published_by_itself(
    files: FaultyFiles, writer: DumpWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netdump.store.writer.SEGMENT_CHUNKS_MAX", 4)
    append_all(writer, SAMPLE.chunks[:4])
    assert writer.durable.chunks == 0
    append_all(writer, SAMPLE.chunks[4:5])
    assert writer.durable.chunks == 4
    append_all(writer, SAMPLE.chunks[5:])
    manifest = writer.finish(SAMPLE.root)
    assert {segment.chunks for segment in manifest.segments[:-1]} == {4}


def test_totals_of_earlier_sessions_are_counted_once_and_late() -> None:
    memory = MemoryFiles()
    deliver(Store(ROOT, memory), SAMPLE, 9)
    files = FaultyFiles(memory)
    writer = Store(ROOT, files).open_writer(SAMPLE.origin)
    assert kinds(files, 0).count("read") < 20, "opening reads tables, not chunks"
    append_all(writer, SAMPLE.chunks[9:])
    assert "read" not in kinds(files, files.operations.index(next(o for o in files.operations if o.kind == "create")))
    manifest = writer.finish(SAMPLE.root)
    assert manifest.totals.image_bytes == len(SAMPLE.image)
    assert manifest.totals.stored == sum(len(chunk.frame) for chunk in SAMPLE.chunks)


@pytest.mark.parametrize("place", [0, 7, -5])
@pytest.mark.parametrize("segment", [0, 1])
@pytest.mark.parametrize("waited_s", [60, RESTED_S + 60])
def test_damage_of_earlier_sessions_is_sent_again(waited_s: float, segment: int, place: int) -> None:
    """place: a byte counted from the start of a run table: its state, its length, the length of the field."""
    memory = MemoryFiles()
    store = Store(ROOT, memory, clock=lambda: SAMPLE.origin.created + waited_s)
    deliver(store, SAMPLE, 9)
    content = memory.content(f"{ID}/segments/{memory.names(f'{ID}/segments')[segment]}")
    first = SAMPLE.chunks[3 * segment]
    content[content.index(first.table, 72) + place] ^= 0x11
    with store.open_writer(SAMPLE.origin) as writer:
        append_all(writer, SAMPLE.chunks[9:])
        with pytest.raises(StorageFaultError, match=f"{ID}.*damaged and is removed.*sends it again"):
            writer.finish(SAMPLE.root)
        assert writer.manifest is None
    with store.open_writer(SAMPLE.origin) as writer:
        assert writer.durable.offset == first.offset
        append_all(writer, SAMPLE.chunks[3 * segment :])
        writer.finish(SAMPLE.root)
    assert store.dump(ID).verify().ok


@pytest.mark.parametrize(
    ("waited_s", "noticed"), [(0, False), (60, False), (RESTED_S + 60, True), (-1, True), (-RESTED_S - 60, True)]
)
def test_rot_of_data_that_has_lain_for_long_is_sent_again(waited_s: float, noticed: bool) -> None:
    memory = MemoryFiles()
    store = Store(ROOT, memory, clock=lambda: SAMPLE.origin.created + waited_s)
    deliver(store, SAMPLE, 9)
    content = memory.content(f"{ID}/segments/{memory.names(f'{ID}/segments')[1]}")
    content[content.index(SAMPLE.chunks[4].frame) + len(SAMPLE.chunks[4].frame) - 1] ^= 1
    with store.open_writer(SAMPLE.origin) as writer:
        append_all(writer, SAMPLE.chunks[9:])
        if noticed:
            with pytest.raises(StorageFaultError, match="damaged and is removed"):
                writer.finish(SAMPLE.root)
        else:
            writer.finish(SAMPLE.root)
    if not noticed:
        with pytest.raises(DamagedError):  # as the collector does right afterwards
            store.dump(ID).reassemble()
        return
    with store.open_writer(SAMPLE.origin) as writer:
        assert writer.durable.offset == SAMPLE.chunks[3].offset
        append_all(writer, SAMPLE.chunks[3:])
        writer.finish(SAMPLE.root)
    assert store.dump(ID).verify().ok


def test_only_a_received_chunk_can_be_stored(writer: DumpWriter) -> None:
    with pytest.raises(AssertionError, match="frame"):
        writer.append(SAMPLE.chunks[0]._replace(frame=b""), 0)


def test_a_receipt_is_for_a_complete_dump_and_its_own(files: FaultyFiles, writer: DumpWriter) -> None:
    with pytest.raises(AssertionError):
        writer.put_receipt(b"")
    append_all(writer, SAMPLE.chunks)
    manifest = writer.finish(SAMPLE.root)
    other = SampleDump(2)
    with pytest.raises(DamagedError):
        writer.put_receipt(other.receipt(manifest).replace(b'"chunks"', b'"Chunks"'))
    assert writer.receipt() is None
    writer.put_receipt(SAMPLE.receipt(manifest))
    assert writer.receipt() == SAMPLE.receipt(manifest)


def test_closing_never_fails(files: FaultyFiles, writer: DumpWriter) -> None:
    append_all(writer, SAMPLE.chunks[:1])
    files.fail(times=10)
    writer.close()
    files.fail(times=0)
    fresh = FaultyFiles(MemoryFiles())
    Store(ROOT, fresh).open_writer(SAMPLE.origin).close()
    Store(ROOT, fresh).open_writer(SAMPLE.origin).close()
