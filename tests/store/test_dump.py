"""Reading a dump: what only the local reader can get wrong. What every reader promises is in the contract."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError, DamagedError, DumpNotFoundError, StorageFaultError
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all, deliver

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.store.dump import Dump

SAMPLE = SampleDump()
ID = SAMPLE.origin.id
ROOT = Path("dumps")


def stored(chunks: int = 1000) -> tuple[MemoryFiles, Dump]:
    memory = MemoryFiles()
    store = Store(ROOT, memory)
    deliver(store, SAMPLE, chunks)
    return memory, store.dump(ID)


def test_a_reader_sees_a_dump_grow() -> None:
    memory, dump = stored(0)
    with Store(ROOT, memory).open_writer(SAMPLE.origin) as writer:
        append_all(writer, SAMPLE.chunks[:3])
        assert (dump.durable.chunks, dump.manifest) == (0, None)
        writer.publish()
        assert dump.durable == writer.durable
        append_all(writer, SAMPLE.chunks[3:])
        writer.finish(SAMPLE.root)
        assert dump.complete
        assert dump.receipt is None


def test_a_reader_changes_nothing() -> None:
    memory, dump = stored(5)
    before = {name: bytes(memory.content(name)) for name in memory.all_names()}
    files = FaultyFiles(memory)
    dump = Store(ROOT, files).dump(ID)
    assert dump.segments()
    assert dump.verify().ok
    assert dump.size_on_disk > 0
    assert dump.vmcore_path is None
    assert dump.read_log()
    assert {name: bytes(memory.content(name)) for name in memory.all_names()} == before
    assert {operation.kind for operation in files.operations} <= {"open", "read", "size", "close", "names", "status"}


def test_the_path_of_the_image(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps")
    deliver(store, SAMPLE)
    dump = store.dump(ID)
    assert dump.reassemble().path == tmp_path / "dumps" / ID / "vmcore"
    assert dump.vmcore_path == tmp_path / "dumps" / ID / "vmcore"
    assert dump.vmcore_path.read_bytes() == SAMPLE.image
    total = sum(path.stat().st_blocks * 512 for path in (tmp_path / "dumps" / ID).rglob("*") if path.is_file())
    assert dump.size_on_disk == total


def test_restoring_is_stopped_by_the_lock_and_gives_it_back() -> None:
    memory, dump = stored()
    memory.content(f"{ID}/segments/{dump.segments()[1].name}")[100] ^= 1
    with pytest.raises(DamagedError):
        dump.reassemble()
    assert dump.vmcore_path is None
    assert not any(name.endswith(".partial") for name in memory.all_names())
    lock = memory.lock(f"{ID}/lock")
    with pytest.raises(BusyError):
        dump.reassemble()
    lock.release()


def test_a_dump_that_is_deleted_before_it_is_restored_is_no_fault_of_the_disk() -> None:
    memory, dump = stored()
    assert dump.complete
    Store(ROOT, memory).delete(ID)
    with pytest.raises(DumpNotFoundError):
        dump.reassemble()


def test_damage_is_said() -> None:
    memory, dump = stored()
    name = dump.segments()[0].name
    memory.content(f"{ID}/segments/{name}")[0] ^= 1
    with pytest.raises(DamagedError, match=name):
        _ = dump.durable
    with pytest.raises(DamagedError, match=name):
        dump.open_segment(name)
    memory.content(f"{ID}/headline")[0] ^= 1
    with pytest.raises(DamagedError, match="headline"):
        dump.read_log()
    memory.content(f"{ID}/manifest.json")[0] ^= 1
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        _ = Store(ROOT, memory).dump(ID).manifest
    memory.content(f"{ID}/origin.json")[0] ^= 1
    with pytest.raises(DamagedError, match=r"origin\.json"):
        _ = Store(ROOT, memory).dump(ID).origin


def test_what_can_be_had_of_a_dump_whose_manifest_is_damaged() -> None:
    """All, but nothing proves that: so it is read, and neither restored in its place nor answered with a receipt."""
    memory, sound = stored()
    segments = sound.segments()
    memory.content(f"{ID}/manifest.json")[100] ^= 1
    dump = Store(ROOT, memory).dump(ID)
    assert dump.believed_manifest() is None
    assert dump.segments() == segments
    assert dump.read_log() == sound.read_log() != b""
    assert [table.offset for table in dump.run_tables()] == [table.offset for table in sound.run_tables()]
    dump.open_segment(segments[0].name).close()
    for refused in (lambda: dump.complete, lambda: dump.durable, dump.reassemble):
        with pytest.raises(DamagedError, match=r"manifest\.json"):
            refused()
    assert [finding.file for finding in dump.verify().findings] == ["manifest.json"]


def test_a_sound_segment_that_is_not_the_one_named() -> None:
    memory, dump = stored()
    other = MemoryFiles()
    info = dump.segments()[0]
    with Store(ROOT, other).open_writer(SAMPLE.origin) as writer:
        append_all(writer, [SAMPLE.chunk(0, 100), SAMPLE.chunk(100, info.end - 100)])
        writer.publish()
    memory.content(f"{ID}/segments/{info.name}")[:] = other.content(f"{ID}/segments/{info.name}")
    with pytest.raises(DamagedError, match="not the segment"):
        dump.open_segment(info.name)


def test_a_disk_that_does_not_read_is_a_fault() -> None:
    memory, _ = stored()
    calls: list[Callable[[Dump], object]] = [
        lambda dump: dump.origin,
        lambda dump: dump.manifest,
        lambda dump: dump.receipt,
        lambda dump: dump.headline(),
        lambda dump: dump.durable,
        lambda dump: dump.size_on_disk,
        lambda dump: dump.vmcore_path,
        lambda dump: dump.reassemble(),
        lambda dump: dump.open_segment(dump.segments()[0].name),
    ]
    for call in calls:
        files = FaultyFiles(memory)
        dump = Store(ROOT, files).dump(ID)
        files.fail(times=100, error=errno.EIO)
        with pytest.raises(StorageFaultError, match=ID):
            call(dump)


def test_a_folder_that_is_no_dump_yet() -> None:
    memory = MemoryFiles()
    memory.make_folder(ID)
    dump = Store(ROOT, memory).dump(ID)
    with pytest.raises(DumpNotFoundError):
        _ = dump.origin
    assert not dump.verify().ok
