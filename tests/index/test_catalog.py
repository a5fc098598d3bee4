"""The catalog of a folder: right with a fresh, a stale, an empty and no index, beside a writer and without one."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest

from netdump.errors import (
    AmbiguousIdError,
    BusyError,
    DumpNotFoundError,
    NotACollectorError,
    StorageFaultError,
)
from netdump.index.catalog import LocalCatalog
from netdump.index.gather import gather
from netdump.index.index import Index
from netdump.index.reading import Query
from netdump.index.record import DumpRecord, State
from netdump.store.restore import Restoration, Wanted, read_segment
from netdump.store.store import Store
from tests.index.stored import LOG, Sample, listed

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.store.writer import DumpWriter


def test_dumps_that_the_index_does_not_know_are_listed(store: Store, catalog: LocalCatalog) -> None:
    old, new = Sample(number=2, created=1000).store(store), Sample(number=1, created=2000).store(store, chunks=2)
    assert listed(catalog) == [new, old]
    assert [record.state for record in catalog.list(Query())] == [State.INTERRUPTED, State.COMPLETE]
    assert catalog.index.ids() == {old, new}


def test_dumps_that_are_gone_are_not_listed(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    gone, there = Sample(number=1).store(store), Sample(number=2).store(store)
    assert len(listed(catalog)) == 2
    shutil.rmtree(tmp_path / "dumps" / gone)
    assert listed(catalog) == [there]
    assert catalog.index.ids() == {there}, "it counts against its host's quota no more"
    shutil.rmtree(tmp_path / "dumps" / there)
    assert listed(catalog) == []
    assert catalog.index.ids() == set()


def test_pages_go_on_behind_a_dump_that_is_gone(
    tmp_path: Path, store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netdump.index.catalog._PAGE", 2)
    ids = [Sample(number=number, created=9000 - number).store(store) for number in range(5)]
    assert listed(catalog) == ids
    for gone in ids[:4]:
        shutil.rmtree(tmp_path / "dumps" / gone)
    assert listed(catalog) == ids[4:]
    assert catalog.index.ids() == {ids[4]}


def test_pages_go_on_behind_a_dump_that_is_deleted_meanwhile(
    tmp_path: Path, store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that starts while the nightly job deletes reads them all, too."""
    monkeypatch.setattr("netdump.index.catalog._PAGE", 2)
    ids = [Sample(number=number, created=9000 - number).store(store) for number in range(5)]
    catalog.refresh()
    due, holds = [ids[1]], Store.holds

    def deleted_first(store: Store, dump_id: str) -> bool:
        if dump_id in due:
            due.clear()
            with LocalCatalog(tmp_path) as job:
                job.delete(dump_id)
        return holds(store, dump_id)

    monkeypatch.setattr(Store, "holds", deleted_first)
    assert listed(catalog) == [ids[0], *ids[2:]]
    assert catalog.index.ids() == {ids[0], *ids[2:]}


@pytest.mark.parametrize("page", [1, 9])
@pytest.mark.parametrize("seems", [1, 1_000_000])
def test_a_dump_that_can_be_read_at_last_is_listed_in_its_place(
    store: Store, catalog: LocalCatalog, page: int, seems: int
) -> None:
    """As after `chown`. Whoever lists to delete believes no list that is out of order."""
    ids = [Sample(number=number, created=9000 - number).store(store) for number in range(3)]
    segments = store.root / ids[1] / "segments"
    segments.rename(store.root / ids[1] / "elsewhere")
    segments.symlink_to("segments")
    os.utime(store.root / ids[1] / "origin.json", (seems, seems))
    assert listed(catalog) == ([ids[0], ids[2], ids[1]] if seems == 1 else [ids[1], ids[0], ids[2]])
    segments.unlink()
    (store.root / ids[1] / "elsewhere").rename(segments)
    first = listed(catalog, Query(limit=page))
    rest = listed(catalog, Query(before=first[-1]))
    assert first + rest == ids


def test_a_page_leaves_out_what_has_moved_to_an_earlier_one(store: Store, catalog: LocalCatalog) -> None:
    old, new = Sample(number=1, created=1000).store(store), Sample(number=2, created=2000).store(store)
    segments = store.root / new / "segments"
    segments.rename(store.root / new / "elsewhere")
    segments.symlink_to("segments")
    os.utime(store.root / new / "origin.json", (1, 1))
    assert listed(catalog) == [old, new]
    segments.unlink()
    (store.root / new / "elsewhere").rename(segments)
    assert listed(catalog, Query(before=old)) == []
    assert listed(catalog) == [new, old]


def test_what_a_killed_collector_left_as_arriving_is_settled(store: Store, catalog: LocalCatalog) -> None:
    complete, half = Sample(number=1), Sample(number=2)
    with complete.open(store) as one, half.open(store) as two:
        assert {record.state for record in catalog.list(Query())} == {State.ARRIVING}
        complete.write(one)
        half.write(two, chunks=4)
        # The rows are those of the beginning, the lock tells that somebody is at work.
        assert [record.durable_bytes for record in catalog.list(Query())] == [0, 0]
    by_id = {record.id: record for record in catalog.list(Query())}
    assert by_id[complete.id].state is State.COMPLETE
    assert (by_id[half.id].state, by_id[half.id].durable_bytes) == (State.INTERRUPTED, 4 * 8 * 4096)
    assert catalog.index.get(half.id) == by_id[half.id]


def test_an_interrupted_dump_that_goes_on_is_arriving_whatever_the_index_says(
    store: Store, catalog: LocalCatalog
) -> None:
    sample = Sample()
    sample.store(store, chunks=2)
    assert [record.state for record in catalog.list(Query())] == [State.INTERRUPTED]
    with sample.open(store):
        assert [record.state for record in catalog.list(Query())] == [State.ARRIVING]
        assert listed(catalog, Query(state=State.ARRIVING)) == [sample.id]
        assert listed(catalog, Query(state=State.INTERRUPTED)) == []
    sample.store(store)
    assert listed(catalog, Query(state=State.COMPLETE)) == [sample.id]


def test_pages_and_limits_count_what_is_listed(
    store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netdump.index.catalog._PAGE", 2)
    for number in range(1, 8):
        Sample(pages=8, number=number, created=1000 + number).store(store, chunks=None if number % 2 else 0)
    complete = listed(catalog, Query(state=State.COMPLETE))
    assert [dump_id[0] for dump_id in complete] == ["7", "5", "3", "1"]
    assert listed(catalog, Query(state=State.COMPLETE, limit=2)) == complete[:2]
    assert listed(catalog, Query(state=State.COMPLETE, before=complete[1])) == complete[2:]
    assert listed(catalog, Query(limit=3)) == listed(catalog)[:3]


def test_only_what_is_shown_is_looked_at(store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet leaves tens of thousands of dumps, and whoever asks for one does not pay for them all."""
    dumps = [Sample(pages=8, number=number, created=number).store(store) for number in range(1, 10)]
    listed(catalog)
    asked, holds = list[str](), Store.holds

    def noted(store: Store, dump_id: str) -> bool:
        asked.append(dump_id)
        return holds(store, dump_id)

    monkeypatch.setattr(Store, "holds", noted)
    assert listed(catalog, Query(limit=2)) == dumps[:-3:-1]
    assert asked == dumps[:-3:-1]
    asked.clear()
    assert catalog.show(dumps[4]).id == dumps[4]
    assert asked == [dumps[4]]
    monkeypatch.setattr(Store, "candidates", None)
    assert listed(catalog, Query(before=dumps[2])) == dumps[1::-1], "what is new stands on the first page"
    catalog.delete(dumps[4])
    assert catalog.show(dumps[5]).id == dumps[5]


def test_a_store_that_is_older_than_the_index(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    """As put back from a backup: nothing is complete there that was when the index was written."""
    dump_id = Sample(pages=8).store(store)
    assert [record.state for record in catalog.list(Query())] == [State.COMPLETE]
    (tmp_path / "dumps" / dump_id / "manifest.json").unlink()
    (row,) = catalog.list(Query())
    assert row.state is State.INTERRUPTED
    assert catalog.list(Query(state=State.COMPLETE)) == []
    assert catalog.list(Query(state=State.INTERRUPTED)) == [row] == [catalog.show(dump_id)]


def test_a_page_leaves_out_dumps_that_went_away_since_the_first(store: Store, catalog: LocalCatalog) -> None:
    dumps = [Sample(pages=8, number=number, created=number).store(store) for number in range(1, 6)]
    assert listed(catalog, Query(limit=2)) == [dumps[4], dumps[3]]
    store.delete(dumps[1])
    assert listed(catalog, Query(before=dumps[3])) == [dumps[2], dumps[0]]


def test_a_page_after_a_dump_that_is_not_there(store: Store, catalog: LocalCatalog) -> None:
    Sample().store(store)
    with pytest.raises(DumpNotFoundError):
        catalog.list(Query(before="f" * 32))


def test_show_follows_the_store(store: Store, catalog: LocalCatalog) -> None:
    sample = Sample()
    with sample.open(store) as writer:
        sample.write(writer, chunks=2)
        assert catalog.show(sample.id).durable_bytes == 2 * 8 * 4096
        sample.write(writer, chunks=6)
        record = catalog.show(sample.id)
    assert (record.state, record.durable_bytes) == (State.ARRIVING, 6 * 8 * 4096)
    sample.store(store)
    assert catalog.show(sample.id[:8]) == catalog.index.get(sample.id)


def test_ids_are_shortened_as_in_git(store: Store, catalog: LocalCatalog) -> None:
    one = Sample(number=0xABCD1).store(store, chunks=0)
    two = Sample(number=0xABCD2).store(store, chunks=0)
    assert catalog.show("abcd1").id == one
    assert catalog.show(two).id == two
    assert catalog.show("ABCD2").id == two
    with pytest.raises(AmbiguousIdError, match=one):
        catalog.show("abcd")
    for wrong in ("abc", "", "ffff", "../..", "abcd1" + "0" * 40):
        with pytest.raises(DumpNotFoundError):
            catalog.show(wrong)


def test_log_receipt_and_headline(store: Store, catalog: LocalCatalog) -> None:
    dump_id = Sample().store(store, chunks=0)
    bare = Sample(number=2, log=None).store(store, chunks=0)
    assert catalog.log(dump_id) == LOG
    assert catalog.log(bare) == b""
    assert catalog.receipt(dump_id) is None
    assert catalog.headline(dump_id) == Sample().headline()


def test_a_plan_restores_the_dump(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    sample = Sample()
    plan = catalog.plan(sample.store(store))
    assert (plan.complete, plan.offset, plan.image_bytes, plan.chunks) == (
        True,
        len(sample.image),
        len(sample.image),
        8,
    )
    assert plan.root == sample.root().hex()
    wanted = Wanted(bytes.fromhex(plan.id), plan.image_bytes, bytes.fromhex(plan.root))
    with Restoration.to(tmp_path / "out", wanted) as restoration:
        for segment in plan.segments:
            copy = tmp_path / segment.name
            copy.write_bytes(b"".join(catalog.read_segment(plan.id, segment.name, 0)))
            assert copy.stat().st_size == segment.bytes
            with read_segment(copy, segment.name, bytes.fromhex(plan.id)) as reader:
                assert (reader.info.sha256.hex(), reader.info.chunks) == (segment.sha256, segment.chunks)
                restoration.write(reader)
        restoration.finish()
    assert (tmp_path / "out").read_bytes() == sample.image


def test_the_plan_of_an_incomplete_dump_ends_where_it_does(store: Store, catalog: LocalCatalog) -> None:
    plan = catalog.plan(Sample().store(store, chunks=5))
    assert (plan.complete, plan.offset, plan.chunks, plan.root) == (False, 5 * 8 * 4096, 5, None)
    assert [segment.chunks for segment in plan.segments] == [2, 2, 1]
    assert catalog.plan(Sample(number=2).store(store, chunks=0)).segments == ()


def test_segments_are_read_from_any_offset(store: Store, catalog: LocalCatalog) -> None:
    plan = catalog.plan(Sample().store(store))
    name = plan.segments[0].name
    whole = b"".join(catalog.read_segment(plan.id, name, 0))
    assert b"".join(catalog.read_segment(plan.id, name, 100)) == whole[100:]
    assert list(catalog.read_segment(plan.id, name, len(whole))) == []
    file = catalog.open_segment(plan.id, name)
    assert (file.size(), file.read(5, 3)) == (len(whole), whole[5:8])
    file.close()


@pytest.mark.parametrize("name", ["../origin.json", "origin.json", "", "0" * 16 + "-" + "f" * 16 + ".seg", "x\0"])
def test_nothing_but_segments_can_be_opened(store: Store, catalog: LocalCatalog, name: str) -> None:
    dump_id = Sample().store(store)
    with pytest.raises(DumpNotFoundError):
        catalog.open_segment(dump_id, name)


def test_what_is_no_file_is_no_segment(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    plan = catalog.plan(Sample().store(store))
    path = tmp_path / "dumps" / plan.id / "segments" / plan.segments[0].name
    path.unlink()
    path.mkdir()
    with pytest.raises(DumpNotFoundError):
        list(catalog.read_segment(plan.id, plan.segments[0].name, 0))


def test_dumps_that_go_away_meanwhile(store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample()
    with sample.open(store):
        listed(catalog)
    Sample(number=2).store(store, chunks=0)

    def gone(_store: Store, dump_id: str) -> None:
        raise DumpNotFoundError(dump_id)

    monkeypatch.setattr("netdump.index.gather.gather", gone)
    assert listed(catalog) == []


def test_verify_tells_the_index(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    dump_id = Sample().store(store)
    assert catalog.verify(dump_id).ok
    segment = min((tmp_path / "dumps" / dump_id / "segments").iterdir())
    before = segment.read_bytes()
    segment.write_bytes(before[:300] + bytes([before[300] ^ 1]) + before[301:])
    report = catalog.verify(dump_id[:8])
    assert not report.ok
    (damaged,) = catalog.list(Query(state=State.DAMAGED))
    assert damaged.remark is not None
    assert segment.name in damaged.remark
    assert catalog.show(dump_id) == damaged
    segment.write_bytes(before)
    assert catalog.verify(dump_id).ok
    assert [record.state for record in catalog.list(Query())] == [State.COMPLETE]


def _damaged_half(tmp_path: Path, store: Store) -> Sample:
    """A dump that is not complete, of which a page has rotted."""
    sample = Sample()
    segment = min((tmp_path / "dumps" / sample.store(store, chunks=6) / "segments").iterdir())
    content = segment.read_bytes()
    segment.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    return sample


def test_what_its_host_has_sent_again_while_it_was_read_is_not_damaged(
    tmp_path: Path, store: Store, catalog: LocalCatalog
) -> None:
    sample = _damaged_half(tmp_path, store)

    def come_back(_offset: int) -> None:
        if store.dump(sample.id).manifest is None:
            with store.open_writer(sample.origin(), distrust=True) as writer:
                sample.write(writer)

    report = catalog.verify(sample.id, come_back)
    assert (report.ok, report.complete, report.image_bytes) == (True, True, len(sample.image))
    assert [record.state for record in catalog.list(Query())] == [State.COMPLETE]


def test_a_dump_that_arrives_again_is_not_called_damaged(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    sample = _damaged_half(tmp_path, store)
    writers: list[DumpWriter] = []

    def come_back(_offset: int) -> None:
        if not writers:
            writers.append(store.open_writer(sample.origin(), distrust=True))

    with pytest.raises(BusyError, match=f"{sample.id} arrives"):
        catalog.verify(sample.id, come_back)
    assert [record.state for record in catalog.list(Query())] == [State.ARRIVING]
    with writers[0] as writer:
        sample.write(writer)
    assert catalog.show(sample.id).state is State.COMPLETE


def test_a_damaged_vmcore_is_made_again(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    dump_id = Sample().store(store)
    view = store.dump(dump_id).reassemble().path
    image = view.read_bytes()
    view.write_bytes(bytes([image[0] ^ 1]) + image[1:])
    report = catalog.verify(dump_id)
    assert report.ok
    assert report.remade
    assert report.view is not None
    assert view.read_bytes() == image
    assert [record.state for record in catalog.list(Query())] == [State.COMPLETE]
    assert catalog.verify(dump_id).view is None
    view.write_bytes(image[:-1])
    with store.open_writer(store.dump(dump_id).origin):
        report = catalog.verify(dump_id)
    assert report.ok
    assert not report.remade
    assert not view.exists(), "better none than a wrong one"


def test_a_collector_that_stops_does_not_wait_for_a_vmcore(store: Store, catalog: LocalCatalog) -> None:
    dump_id = Sample().store(store)
    view = store.dump(dump_id).reassemble().path
    view.write_bytes(view.read_bytes()[:-1])

    def stop(_offset: int) -> None:
        if not view.exists():
            raise BusyError("the collector stops")

    report = catalog.verify(dump_id, stop)
    assert report.ok
    assert not report.remade
    assert not view.exists()


def test_the_vmcore_of_a_damaged_dump_stays(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    dump_id = Sample().store(store)
    view = store.dump(dump_id).reassemble().path
    view.write_bytes(view.read_bytes() + b"more")
    segment = min((tmp_path / "dumps" / dump_id / "segments").iterdir())
    segment.write_bytes(segment.read_bytes()[:-1])
    report = catalog.verify(dump_id)
    assert not report.ok
    assert not report.remade
    assert view.exists(), "it may be the best there is"


@pytest.mark.parametrize("known", [True, False])
def test_a_folder_that_can_only_be_read(
    store: Store, migrated: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """known: its index can be read."""
    sample, bad = Sample(), Sample(number=2)
    sample.store(store)
    with LocalCatalog(migrated.parent) as catalog:
        bad.store(store)
        catalog.refresh()
        catalog.index.set_state(bad.id, State.DAMAGED, "rot")
    if not known:
        migrated.write_bytes(migrated.read_bytes()[:5000])
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **options: mode != os.W_OK and access(path, mode, **options))
    before = sorted((path, path.stat().st_mtime_ns) for path in migrated.parent.rglob("*"))
    with LocalCatalog(migrated.parent) as catalog:
        assert set(listed(catalog)) == {sample.id, bad.id}
        assert catalog.show(sample.id).state is State.COMPLETE
        assert catalog.show(bad.id).state is (State.DAMAGED if known else State.COMPLETE)
        assert catalog.verify(sample.id).ok
        assert catalog.log(sample.id) == LOG
    assert sorted((path, path.stat().st_mtime_ns) for path in migrated.parent.rglob("*")) == before


def test_delete_takes_the_dump_out_of_store_and_index(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    sample = Sample()
    sample.store(store)
    assert listed(catalog) == [sample.id]
    with sample.open(store), pytest.raises(BusyError):
        catalog.delete(sample.id)
    catalog.delete(sample.id)
    assert (listed(catalog), catalog.index.ids(), os.listdir(tmp_path / "dumps")) == ([], set(), [])
    with pytest.raises(DumpNotFoundError):
        catalog.delete(sample.id)


def test_a_dump_that_is_deleted_in_part_is_gone(
    store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample()
    sample.store(store)
    assert listed(catalog) == [sample.id]

    def fail(_store: Store, _name: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Store, "_remove_tree", fail)
    with pytest.raises(StorageFaultError):
        catalog.delete(sample.id)
    assert catalog.index.ids() == set()


def test_refresh_at_the_start_of_a_collector(tmp_path: Path, store: Store, catalog: LocalCatalog) -> None:
    gone, half, new = Sample(number=1), Sample(number=2), Sample(number=3)
    with gone.open(store), half.open(store) as writer:
        listed(catalog)
        half.write(writer, chunks=2)
    shutil.rmtree(tmp_path / "dumps" / gone.id)
    new.store(store)
    catalog.refresh()
    rows = {record.id: (record.state, record.durable_bytes) for record in catalog.index.list()}
    assert rows == {
        half.id: (State.INTERRUPTED, 2 * 8 * 4096),
        new.id: (State.COMPLETE, len(new.image)),
    }


def test_a_dump_that_comes_while_a_list_is_made_is_no_damage(
    store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is there first, then its origin, then its row; the page on which that stands may be read already."""
    known, coming = Sample(number=1).store(store), Sample(number=2)
    (store.root / coming.id).mkdir()
    list_rows = Index.list

    def then_it_comes(*arguments: Any) -> list[DumpRecord]:
        page = list_rows(*arguments)
        coming.store(store)
        catalog.index.add([gather(store, coming.id)])
        return page

    with monkeypatch.context() as patch:
        patch.setattr(LocalCatalog, "mend", None)
        patch.setattr(Index, "list", then_it_comes)
        assert listed(catalog) == [known]
    assert set(listed(catalog)) == {known, coming.id}


def test_a_row_of_what_is_no_id_is_forgotten(migrated: Path, store: Store, catalog: LocalCatalog) -> None:
    dump_id = Sample().store(store)
    catalog.refresh()
    with sqlite3.connect(migrated) as database:
        database.execute("UPDATE dumps SET id = 'x' || substr(id, 2)")
    catalog.refresh()
    assert listed(catalog) == [dump_id]


def test_a_refresh_that_is_stopped_keeps_what_it_has_done(
    store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netdump.index.catalog._PAGE", 2)
    dumps = [Sample(pages=8, number=number).store(store) for number in range(1, 7)]
    steps = iter(range(5))

    def keep_on() -> None:
        next(steps)

    with pytest.raises(StopIteration):
        catalog.refresh(keep_on)
    assert catalog.index.ids() == set(dumps[:4])
    catalog.refresh()
    assert catalog.index.ids() == set(dumps)


def test_one_list_at_a_time_looks_for_new_dumps(catalog: LocalCatalog) -> None:
    with ThreadPoolExecutor(1) as pool, catalog._adding:
        listing = pool.submit(listed, catalog)
        assert not wait({listing}, 0.2).done
    assert listing.result() == []


def test_a_folder_that_is_no_collectors(tmp_path: Path) -> None:
    with pytest.raises(NotACollectorError):
        LocalCatalog(tmp_path)
    assert os.listdir(tmp_path) == []
