"""What a record says of each thing that can stand in the store."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING

import pytest

from netdump.errors import DumpNotFoundError, StorageFaultError
from netdump.index import gather as module
from netdump.index.gather import gather, gather_anyway, is_held
from netdump.index.record import DumpRecord, State, was_unreadable
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all
from netdump.wire import HeadlineDocument, pack_document
from tests.index.stored import PANIC, Sample

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "dumps", clock=lambda: 1_795_377_900.7)


def test_a_complete_dump(store: Store) -> None:
    sample = Sample(drill=True)
    dump_id = sample.store(store)
    record = gather(store, dump_id)
    manifest = store.dump(dump_id).manifest
    assert manifest is not None
    assert record == DumpRecord(
        id=dump_id,
        host="web1",
        state=State.COMPLETE,
        image_bytes=len(sample.image),
        page_bytes=4096,
        level=31,
        first_seen=1_795_377_839,
        updated=1_795_377_900,
        drill=True,
        kernel_release="6.1.0-56-cloud-amd64",
        kernel_version="#1 SMP PREEMPT_DYNAMIC",
        machine="x86_64",
        nodename="crashy",
        panic=PANIC,
        crash_time=1_795_377_830,
        completed=1_795_377_900,
        durable_bytes=len(sample.image),
        stored_bytes=sum(path.stat().st_size for path in (store.root / dump_id / "segments").iterdir()),
        chunks=8,
        root=sample.root().hex(),
        totals={state: getattr(manifest.totals, state) for state in ("data", "zero", "alias", "excluded", "lost")},
        excluded={"free": manifest.totals.excluded},
        order_ns=(store.root / dump_id / "origin.json").stat().st_mtime_ns,
    )
    assert record.totals is not None
    assert sum(record.totals.values()) == len(sample.image)
    assert all(record.totals.values())


@pytest.mark.parametrize(("headline", "expected"), [(None, "late"), ("early", "early; late")])
def test_remarks_of_headline_and_finish(store: Store, headline: str | None, expected: str) -> None:
    sample = SampleDump()
    with store.open_writer(sample.origin) as writer:
        writer.put_headline(pack_document(HeadlineDocument(remark=headline)))
        append_all(writer, sample.chunks)
        writer.finish(sample.root, "late")
    assert gather(store, sample.origin.id).remark == expected


def test_a_log_is_searched_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile one takes seconds, and its host comes back four times a second."""
    dump_id, searched = Sample().store(store), list[bytes]()
    monkeypatch.setattr(module, "_PANICS", OrderedDict())
    monkeypatch.setattr(module, "panic_line", searched.append)
    assert [gather(store, dump_id).panic for _ in range(3)] == [None] * 3
    assert len(searched) == 1


def test_searches_are_forgotten_in_the_order_of_their_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PANICS", OrderedDict())
    monkeypatch.setattr(module, "_PANICS_KEPT", 2)
    searched = list[bytes]()
    monkeypatch.setattr(module, "panic_line", searched.append)
    for log in (b"a", b"b", b"a", b"c", b"a", b"b"):
        assert module._panic_line(log) is None
    assert searched == [b"a", b"b", b"c", b"b"]


def test_the_restored_image_is_noted(store: Store) -> None:
    dump_id = Sample().store(store)
    store.dump(dump_id).reassemble()
    assert gather(store, dump_id).vmcore


def test_an_interrupted_dump(store: Store) -> None:
    sample = Sample()
    dump_id = sample.store(store, chunks=5)
    folder = store.root / dump_id
    for number, path in enumerate(sorted((folder / "segments").iterdir())):
        os.utime(path, (sample.created + 100 + number, sample.created + 100 + number))
    os.utime(folder / "headline", (sample.created + 7, sample.created + 7))
    record = gather(store, dump_id)
    assert (record.state, record.durable_bytes, record.chunks) == (State.INTERRUPTED, 5 * 8 * 4096, 5)
    assert (record.completed, record.root, record.totals, record.excluded) == (None, None, None, {})
    assert record.panic == PANIC
    assert record.updated == sample.created + 102


def test_a_dump_that_somebody_writes_is_arriving(store: Store) -> None:
    sample = Sample()
    with sample.open(store) as writer:
        assert is_held(store.root / sample.id)
        record = gather(store, sample.id)
        assert (record.state, record.durable_bytes, record.panic) == (State.ARRIVING, 0, None)
        sample.write(writer, chunks=4)
        assert gather(store, sample.id).durable_bytes == 4 * 8 * 4096
    assert not is_held(store.root / sample.id)
    assert gather(store, sample.id).state is State.INTERRUPTED


def test_looking_leaves_the_lock_free(store: Store) -> None:
    sample = Sample()
    sample.store(store, chunks=1)
    assert not is_held(store.root / sample.id)
    sample.open(store).close()


def test_no_lock_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path)


@pytest.mark.parametrize("name", ["lock", "segments"])
def test_what_cannot_be_read_is_a_fault_of_the_disk(store: Store, name: str) -> None:
    """A link that leads to itself (ELOOP) stands for every error of the disk."""
    sample = Sample()
    sample.store(store, chunks=1)
    folder = store.root / sample.id
    (folder / name).rename(folder / "elsewhere")
    (folder / name).symlink_to(name)
    with pytest.raises(StorageFaultError, match=sample.id):
        gather(store, sample.id)
    os.utime(folder / "origin.json", (5000, 5000))
    record = gather_anyway(store, sample.id)
    assert (record.state, was_unreadable(record.remark)) == (State.DAMAGED, True)
    assert (record.first_seen, record.order_ns) == (5000, 5000 * 10**9)


def test_a_folder_that_cannot_be_read_is_no_older_than_it_is(store: Store) -> None:
    """As one of root's. It is not the first to go when the oldest are deleted."""
    sample = Sample()
    sample.store(store, chunks=1)
    folder = store.root / sample.id
    folder.rename(store.root / "elsewhere")
    folder.symlink_to(sample.id)
    os.utime(folder, (5000, 5000), follow_symlinks=False)
    record = gather_anyway(store, sample.id)
    assert (record.state, was_unreadable(record.remark), record.first_seen) == (State.DAMAGED, True, 5000)


def test_a_lock_that_cannot_be_opened(store: Store) -> None:
    sample = Sample()
    sample.store(store, chunks=1)
    folder = store.root / sample.id
    (folder / "lock").unlink()
    (folder / "lock").symlink_to("lock")
    with pytest.raises(StorageFaultError, match="looking at the lock of dump"):
        is_held(folder)


def test_a_dump_without_headline(store: Store) -> None:
    sample = Sample()
    sample.open(store).close()
    record = gather(store, sample.id)
    assert (record.panic, record.machine, record.state) == (None, None, State.INTERRUPTED)


def test_times_that_cannot_be_are_left_out(store: Store) -> None:
    sample = Sample(created=1 << 63)
    sample.open(store).close()
    assert gather(store, sample.id).first_seen == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("origin.json", b"{}"),
        ("manifest.json", b"{}"),
        ("headline", b"another"),
    ],
)
def test_a_damaged_document_makes_a_damaged_dump(store: Store, name: str, change: bytes) -> None:
    dump_id = Sample().store(store)
    sound = gather(store, dump_id)
    (store.root / dump_id / name).write_bytes(change)
    record = gather(store, dump_id)
    assert record.state is State.DAMAGED
    assert record.remark is not None
    assert name in record.remark
    assert record.host == ("" if name == "origin.json" else "web1")
    assert record.panic == (PANIC if name == "manifest.json" else None)
    found = (0, 0) if name == "origin.json" else (sound.durable_bytes, sound.chunks)
    assert (record.durable_bytes, record.chunks) == found


@pytest.mark.parametrize("size", [None, 100])
def test_a_segment_that_is_not_whole_makes_a_damaged_dump(store: Store, size: int | None) -> None:
    dump_id = Sample().store(store)
    segment = sorted((store.root / dump_id / "segments").iterdir())[1]
    if size is None:
        segment.unlink()
    else:
        os.truncate(segment, size)
    record = gather(store, dump_id)
    assert (record.state, record.panic) == (State.DAMAGED, PANIC)
    assert record.remark is not None
    assert segment.name in record.remark


def test_a_dump_that_is_not_there(store: Store) -> None:
    with pytest.raises(DumpNotFoundError):
        gather(store, "a" * 32)


@pytest.mark.parametrize("moment", ["_panic_line", "_size"])
def test_a_dump_that_is_deleted_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """It is not damaged, nor interrupted: nobody would take such a row back before somebody lists dumps."""
    dump_id = Sample().store(store)

    def delete(_asked: object) -> None:
        if store.holds(dump_id):
            store.delete(dump_id)

    monkeypatch.setattr(f"netdump.index.gather.{moment}", delete)
    with pytest.raises(DumpNotFoundError):
        gather_anyway(store, dump_id)
