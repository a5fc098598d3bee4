"""The local store keeps the contract, on a disk and in memory; what only it can get wrong is tested below."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from netdump.errors import BusyError, DamagedError, DumpNotFoundError, StorageFaultError
from netdump.store.files import LocalFiles
from netdump.store.layout import TRASH
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles, Moment, Stopped
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import CLOCK, StoreContract, append_all, deliver

SAMPLE = SampleDump()
ID = SAMPLE.origin.id


class TestLocalStore(StoreContract):
    def open_store(self, place: Path) -> Store:
        return Store(place / "dumps", clock=lambda: CLOCK)


class TestMemoryStore(StoreContract):
    def setup_method(self) -> None:
        self.files = MemoryFiles()

    def open_store(self, place: Path) -> Store:
        return Store(place / "dumps", self.files, clock=lambda: CLOCK)


def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "dumps")
        deliver(store, SAMPLE)
        store.dump(ID).reassemble()
    finally:
        os.umask(before)
    found = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "dumps", *(tmp_path / "dumps").rglob("*")]
    }
    assert {found.pop(name) for name in ("dumps", ID, "segments")} == {0o700}
    assert {"origin.json", "headline", "manifest.json", "receipt.json", "vmcore", "lock"} <= set(found)
    assert set(found.values()) == {0o600}


def test_the_lock_holds_between_stores(tmp_path: Path) -> None:
    with Store(tmp_path / "dumps").open_writer(SAMPLE.origin), pytest.raises(BusyError):
        Store(tmp_path / "dumps").open_writer(SAMPLE.origin)


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps")
    deliver(store, SAMPLE, 6)
    folder = tmp_path / "dumps" / ID
    sound = sorted(path.name for path in (folder / "segments").iterdir())
    for name in ("headline.partial", "vmcore.partial", "segments/00.seg.partial"):
        (folder / name).write_bytes(b"rest")
    orphan = "segments/ffffffffffff0000-ffffffffffff0001.seg"
    (folder / orphan).write_bytes(b"not sound")
    (folder / "segments" / "notes.txt").write_bytes(b"nobody's business")
    (folder / "segments" / f"{0:016x}-{1:016x}.seg").mkdir()
    (folder / "x.partial").mkdir()
    assert store.dump(ID).durable.chunks == 6
    assert (folder / orphan).exists(), "a reader removes nothing"
    store.open_writer(SAMPLE.origin).close()
    assert sorted(path.name for path in (folder / "segments").iterdir() if path.is_file()) == [*sound, "notes.txt"]
    assert [path.name for path in folder.glob("*.partial")] == ["x.partial"], "a folder is nothing of the store's"


def test_a_segment_that_is_not_sound_is_sent_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps", clock=lambda: CLOCK)
    deliver(store, SAMPLE, 9)
    second = tmp_path / "dumps" / ID / "segments" / store.dump(ID).segments()[1].name
    second.write_bytes(second.read_bytes()[:-1])
    with store.open_writer(SAMPLE.origin) as writer:
        assert writer.durable.chunks == 3
        append_all(writer, SAMPLE.chunks[3:])
        writer.finish(SAMPLE.root)
    assert store.dump(ID).verify().ok


def test_a_complete_dump_that_is_damaged_is_not_written_to(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps")
    deliver(store, SAMPLE)
    folder = tmp_path / "dumps" / ID
    names = sorted(path.name for path in (folder / "segments").iterdir())
    (folder / "segments" / names[1]).write_bytes(b"")
    with pytest.raises(DamagedError, match=names[1]):
        store.open_writer(SAMPLE.origin)
    assert sorted(path.name for path in (folder / "segments").iterdir()) == names
    (folder / "manifest.json").write_bytes(b"{}\n")
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        store.open_writer(SAMPLE.origin)
    (folder / "origin.json").write_bytes(b"{}\n")
    with pytest.raises(DamagedError, match=r"origin\.json"):
        store.open_writer(SAMPLE.origin)
    store.delete(ID)


def test_a_folder_without_origin_is_not_a_dump_yet(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps")
    (tmp_path / "dumps" / ID).mkdir(parents=True)
    (tmp_path / "dumps" / f".trash-{ID}-00").mkdir()
    (tmp_path / "dumps" / "lost+found").mkdir()
    assert store.ids() == []
    deliver(store, SAMPLE, 1)
    assert store.ids() == [ID]


def test_of_many_deletions_not_each_lists_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200,000 dumps the list takes as long as several deletions do."""
    store, listed, names = Store(tmp_path / "dumps"), list[str](), LocalFiles.names
    for seed in range(1, 5):
        deliver(store, SampleDump(seed))

    def noted(files: LocalFiles, folder: str) -> list[str]:
        listed.append(folder)
        return names(files, folder)

    monkeypatch.setattr(LocalFiles, "names", noted)
    for seed in range(1, 5):
        store.delete(SampleDump(seed).origin.id)
    assert listed.count("") == 1


def test_a_deletion_removes_what_one_that_was_killed_has_left(tmp_path: Path) -> None:
    """Its room is wanted now, not at the next start of the collector."""
    store = Store(tmp_path / "dumps")
    deliver(store, SAMPLE)
    deliver(store, other := SampleDump(2))
    trash = tmp_path / "dumps" / f".trash-{other.origin.id}-00"
    (tmp_path / "dumps" / other.origin.id).rename(trash)
    store.delete(ID)
    assert os.listdir(tmp_path / "dumps") == []


def test_folders_of_dumps_that_never_came_to_be_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "dumps"
    store = Store(root)
    stillborn = ("a" * 32, "segments/"), ("b" * 32, "lock"), ("c" * 32, "origin.json.partial")
    robbed = ("d" * 32, "segments/0000000000000000-0000000000001000.seg"), ("e" * 32, "vmcore")
    for dump_id, inside in (*stillborn, *robbed):
        path = root / dump_id / inside
        path.parent.mkdir(parents=True)
        path.mkdir() if inside.endswith("/") else path.touch()
    (root / "not-a-dump").mkdir()
    deliver(store, SAMPLE, 1)
    store.empty_trash()
    assert sorted(path.name for path in root.iterdir()) == sorted([ID, "d" * 32, "e" * 32, "not-a-dump"])


def test_what_killed_writers_have_left_of_dumps_is_removed(tmp_path: Path) -> None:
    """Who would make the image again may find no room, for what is left of it; a host may never come back."""
    store = Store(tmp_path / "dumps")
    deliver(store, SAMPLE, 3)
    before = sorted((tmp_path / "dumps" / ID).rglob("*"))
    left = [tmp_path / "dumps" / ID / name for name in ("vmcore.partial", f"segments/{9:016x}.seg.partial")]
    for path in left:
        path.touch()
    lock = LocalFiles(tmp_path / "dumps").lock(f"{ID}/lock")
    store.empty_trash()
    assert all(path.exists() for path in left), "somebody is at work"
    lock.release()
    store.empty_trash()
    assert sorted((tmp_path / "dumps" / ID).rglob("*")) == before
    assert store.dump(ID).verify().ok


def test_a_dump_that_is_being_born_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps")
    (tmp_path / "dumps" / ID / "segments").mkdir(parents=True)
    lock = LocalFiles(tmp_path / "dumps").lock(f"{ID}/lock")
    store.empty_trash()
    assert (tmp_path / "dumps" / ID).is_dir()
    lock.release()
    store.empty_trash()
    assert os.listdir(tmp_path / "dumps") == []


def test_a_dump_whose_folder_is_removed_as_stillborn_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that was killed has left it, its host comes back, and the trash is emptied meanwhile."""
    store, make_folder = Store(tmp_path / "dumps"), LocalFiles.make_folder
    (tmp_path / "dumps" / ID).mkdir()

    def thrown_away(files: LocalFiles, name: str) -> None:
        if name.endswith("/segments"):
            store.empty_trash()
        make_folder(files, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "make_folder", thrown_away)
        with pytest.raises(BusyError):
            store.open_writer(SAMPLE.origin)
    deliver(store, SAMPLE)


def test_a_full_disk_does_not_keep_the_trash_from_being_emptied(tmp_path: Path) -> None:
    (tmp_path / "dumps" / ID).mkdir(parents=True)
    files = FaultyFiles(LocalFiles(tmp_path / "dumps"))
    files.fill_up()
    Store(tmp_path / "dumps", files).empty_trash()


def test_trash_that_stays_keeps_nothing_else(tmp_path: Path) -> None:
    """As on NFS, where a file that somebody reads gets another name, in the same folder, when it is removed."""
    root, kept = tmp_path / "dumps", f"{TRASH}{'1' * 32}-00"
    gone = [root / f"{TRASH}{'2' * 32}-00", root / ("3" * 32)]
    remove_folder = LocalFiles.remove_folder

    def stay(files: LocalFiles, name: str) -> None:
        if name == kept:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        remove_folder(files, name)

    def leave() -> None:
        for path in (root / kept, *gone):
            path.mkdir(parents=True, exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalFiles, "remove_folder", stay)
        store = Store(root)
        leave()
        with pytest.raises(StorageFaultError, match=r"emptying the trash.*not empty"):
            store.empty_trash()
        assert os.listdir(root) == [kept]
        deliver(store, SAMPLE)
        leave()
        store.delete(ID)
        assert sorted(os.listdir(root)) == sorted([kept, gone[1].name])


@pytest.mark.parametrize("name", ["", "segments", "origin.json", "lock", "segments/0000000000000000.seg.partial"])
def test_a_symbolic_link_leads_nowhere(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "dumps")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    link = tmp_path / "dumps" / ID / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside if name in {"", "segments"} else outside / "file")
    with suppress(StorageFaultError, FileExistsError):
        deliver(store, SAMPLE, 3)
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"mine"


def test_a_deletion_cut_short_is_all_or_nothing() -> None:
    def run(number: int) -> bool:
        memory = MemoryFiles()
        deliver(Store(Path("dumps"), memory, clock=lambda: CLOCK), SAMPLE)
        files = FaultyFiles(memory)
        files.stop(number, Moment.AFTER)
        try:
            Store(Path("dumps"), files).delete(ID)
        except Stopped:
            pass
        else:
            return False
        store = Store(Path("dumps"), memory)
        if store.ids():
            assert store.dump(ID).verify().ok
            store.delete(ID)
        store.empty_trash()
        store.empty_trash()
        assert memory.all_names() == memory.names("") == []
        return True

    assert sum(run(number) for number in range(200)) > 20


def test_deleting_survives_a_power_cut() -> None:
    memory = MemoryFiles()
    store = Store(Path("dumps"), memory)
    deliver(store, SAMPLE)
    store.delete(ID)
    memory.cut_power()
    assert store.ids() == []


def test_a_lock_of_a_folder_that_was_moved_away_is_worth_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps")
    deliver(store, SAMPLE, 1)
    writer = store.open_writer(SAMPLE.origin)
    os.rename(tmp_path / "dumps" / ID, tmp_path / "elsewhere")
    with store.open_writer(SAMPLE.origin) as other:
        assert other.durable.offset == 0
    writer.close()


def test_a_new_root_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(LocalFiles, "sync_folder", lambda files, name: synced.append(f"{files._root}{name}"))
    Store(tmp_path / "dumps")
    assert synced == [str(tmp_path)]


def test_a_missing_root_is_a_fault(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps")
    (tmp_path / "dumps").rmdir()
    for call in (store.ids, store.try_out, store.empty_trash, lambda: store.open_writer(SAMPLE.origin)):
        with pytest.raises(StorageFaultError, match=r"dumps|dump "):
            call()
    with pytest.raises(StorageFaultError, match="making the folder"):
        Store(tmp_path / "absent" / "dumps")
    with pytest.raises(StorageFaultError, match="name too long"):  # stat(2) fails, as it does with EIO
        Store(tmp_path / ("d" * 300))


def test_trying_whether_it_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    store, trial = Store(tmp_path / "dumps"), tmp_path / "dumps" / ".trial"
    store.try_out()
    for path in (trial, trial.with_name(".trial.partial")):
        path.touch()  # of a collector that was killed
    store.try_out()
    assert not os.listdir(tmp_path / "dumps")


def test_a_folder_without_origin_is_no_dump_yet(tmp_path: Path) -> None:
    store, unborn = Store(tmp_path / "dumps"), "f" * 32
    deliver(store, SAMPLE)
    (tmp_path / "dumps" / unborn).mkdir()
    assert store.candidates() == sorted([ID, unborn])
    assert store.ids() == [ID]
    assert [store.holds(each) for each in (ID, unborn, "0" * 32, "../dumps")] == [True, False, False, False]
    with pytest.raises(DumpNotFoundError):
        store.resolve(unborn)
