"""Views: given up when dumps need the room, oldest first, and nothing else is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.errors import BusyError
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.record import State
from netdump.server.config import Space
from netdump.server.recorder import Recorder
from netdump.server.space import Measure, Room, SpaceWatch
from netdump.server.views import Views
from netdump.store.intake import verify_chunk
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import MIB, Events, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPACE = {
    "min_free_bytes": 16 * MIB,
    "min_free_percent": 0,
    "admit_free_bytes": 64 * MIB,
    "admit_free_percent": 0,
    "check_s": 300,
}
DUMPS = [SampleDump(seed=80 + number, image_bytes=20_000) for number in range(3)]


class Disk:
    """A disk on which each vmcore takes 100 MiB."""

    def __init__(self, folder: Path, free_bytes: int) -> None:
        self.folder = folder
        self.free_bytes = free_bytes

    def __call__(self) -> Measure:
        views = len(list((self.folder / "dumps").glob("*/vmcore")))
        return Measure(max(self.free_bytes - views * 100 * MIB, 0), 1 << 41)


class Bench:
    def __init__(self, folder: Path, index: Index) -> None:
        self.folder, self.index, self.events = folder, index, Events()
        self.store = Store(folder / "dumps")
        self.disk = Disk(folder, 1 << 40)
        self.space = SpaceWatch(Space(**SPACE), self.disk)
        self.recorder = Recorder(lambda: index, self.store, self.events)
        self.views = Views(self.store, self.space, self.recorder, self.events)

    def make(self, dump: SampleDump) -> None:
        with self.store.open_writer(dump.origin) as writer:
            for chunk in dump.chunks:
                writer.append(chunk, len(verify_chunk(chunk)))
            writer.finish(dump.root)
        self.store.dump(dump.origin.id).reassemble()
        self.recorder.refresh(dump.origin.id).result()

    def left(self) -> list[SampleDump]:
        return [dump for dump in DUMPS if (self.folder / "dumps" / dump.origin.id / "vmcore").exists()]


@pytest.fixture
def bench(folder: Path) -> Iterator[Bench]:
    with Index.open(folder / NAME) as index:
        bench = Bench(folder, index)
        for dump in DUMPS:
            bench.make(dump)
        yield bench
        bench.recorder.close()


def test_with_plenty_of_room_nothing_goes(bench: Bench) -> None:
    assert bench.views.room() is Room.PLENTY
    assert bench.left() == DUMPS


def test_the_oldest_go_first_and_no_more_than_needed(bench: Bench) -> None:
    bench.disk.free_bytes = 350 * MIB  # 50 with all three
    assert bench.views.room() is Room.PLENTY
    assert bench.left() == DUMPS[1:]
    assert [event["dump"] for event in bench.events.all("vmcore-dropped")] == [DUMPS[0].origin.id]
    bench.disk.free_bytes = 150 * MIB
    assert bench.views.room() is Room.PLENTY
    assert bench.left() == []
    bench.disk.free_bytes = 50 * MIB
    assert bench.views.room() is Room.LOW
    for dump in DUMPS:
        assert bench.store.dump(dump.origin.id).verify().ok
        bench.recorder.refresh(dump.origin.id).result()
    assert not any(record.vmcore for record in bench.index.list())


@pytest.mark.parametrize("shows", [True, False])
def test_a_file_system_that_shows_later_what_is_free_costs_no_other_view(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, shows: bool
) -> None:
    """XFS does, since Linux 5.19; and what an analyst has open is not free at all."""
    monkeypatch.setattr("netdump.server.views.SHOW_S", 60.0 if shows else 0.0)
    monkeypatch.setattr(bench.views, "_disk_bytes", lambda _: 100 * MIB)
    looks = 0

    def measure() -> Measure:
        nonlocal looks
        looks += 1
        return Measure(150 * MIB if shows and looks > 9 else 50 * MIB, 1 << 41)

    monkeypatch.setattr(bench.space, "_ask", measure)
    assert bench.views.room() is (Room.PLENTY if shows else Room.LOW)
    assert bench.left() == DUMPS[1:]


def test_for_want_of_files_nothing_goes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one file of the thousands that dumps need."""
    monkeypatch.setattr(bench.space, "_settings", Space(**SPACE | {"min_free_percent": 1, "admit_free_percent": 1}))
    files = Measure(1 << 60, 1 << 60, 0, 1 << 20)
    monkeypatch.setattr(bench.space, "_ask", lambda: files)
    assert bench.views.room() is Room.NONE
    files = files._replace(free_bytes=0)
    assert bench.views.room() is Room.NONE
    assert bench.left() == DUMPS


def test_one_that_was_made_since_goes_last(bench: Bench) -> None:
    bench.disk.free_bytes = 350 * MIB
    bench.views.room()
    bench.store.dump(DUMPS[0].origin.id).reassemble()
    bench.views.made(DUMPS[0].origin.id)
    assert bench.views.room() is Room.PLENTY
    assert bench.left() == [DUMPS[0], DUMPS[2]]


def test_the_view_of_a_damaged_dump_stays(bench: Bench) -> None:
    bench.index.set_state(DUMPS[0].origin.id, State.DAMAGED, "bad digest")
    bench.views.made(DUMPS[0].origin.id)
    bench.disk.free_bytes = 0
    assert bench.views.room() is Room.NONE
    assert bench.left() == [DUMPS[0]]


def test_the_view_of_a_dump_that_was_put_right_goes_like_others(bench: Bench) -> None:
    bench.index.set_state(DUMPS[0].origin.id, State.DAMAGED, "bad digest")
    bench.disk.free_bytes = 0
    bench.views.room()
    assert bench.left() == [DUMPS[0]]
    bench.recorder.sound(DUMPS[0].origin.id).result()
    bench.views.room()
    assert bench.left() == [DUMPS[0]], "the index is not asked for a list again and again"
    bench.views._list_again = 0.0
    bench.views.room()
    assert bench.left() == []


def test_one_that_is_gone_already(bench: Bench) -> None:
    bench.store.dump(DUMPS[0].origin.id).drop_vmcore()
    bench.store.delete(DUMPS[1].origin.id)
    bench.disk.free_bytes = 0
    bench.views.room()
    assert [event["dump"] for event in bench.events.all("vmcore-dropped")] == [DUMPS[2].origin.id]


def test_an_index_that_is_locked_for_a_while_costs_no_view_its_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise BusyError("the index is locked")

    bench.disk.free_bytes = 350 * MIB  # 50 with all three
    for method in ("ids_in", "get"):
        with monkeypatch.context() as patch:
            patch.setattr(Index, method, locked)
            assert bench.views.room() is Room.LOW
            assert bench.views.room() is Room.LOW
        assert bench.views.room() is Room.LOW, "it is not asked again at once"
        bench.views._again = 0.0
    assert len(bench.events.all("index-failed")) == 2
    assert bench.views.room() is Room.PLENTY
    assert bench.left() == DUMPS[1:]


def test_a_view_never_costs_another_hosts_dump(folder: Path, web1: Papers, web2: Papers) -> None:
    disk = Disk(folder, 1 << 40)
    with Rig(folder, {"space": SPACE}, measure=disk) as rig:
        for number, dump in enumerate(DUMPS):
            with Host(rig, web1) as host:
                host.send_all(dump)
            rig.events.wait("dump-restored", number + 1)
        disk.free_bytes = 350 * MIB
        new = SampleDump(seed=90, image_bytes=100_000)
        with Host(rig, web2) as host:
            host.resume(new)
            host.headline(new)
            host.chunks(new.chunks[:2])
            disk.free_bytes = 30 * MIB  # and while it arrives
            host.chunks(new.chunks[2:])
            assert isinstance(host.finish(new), wire.Receipt)
        assert {event["dump"] for event in rig.events.all("vmcore-dropped")} == {dump.origin.id for dump in DUMPS}
        assert not rig.events.all("dump-waits")


def test_what_they_take_up_can_be_had(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [bench.folder / "dumps" / dump.origin.id / "vmcore" for dump in DUMPS]
    for path in paths:
        path.write_bytes(bytes(range(256)) * 80)
        os.truncate(path, 1 << 30)  # most of it takes up nothing
    sizes = [path.stat().st_blocks * 512 for path in paths]
    assert min(sizes) >= 20_000
    assert bench.views.spare_bytes() == sum(sizes)
    bench.index.set_state(DUMPS[0].origin.id, State.DAMAGED, "bad digest")
    paths[1].unlink()
    assert bench.views.spare_bytes() == sizes[2]
    assert bench.left() == [DUMPS[0], DUMPS[2]], "asking gives up nothing"

    def busy(*_: object, **__: object) -> list[str]:
        raise BusyError("locked")

    monkeypatch.setattr(Recorder, "complete", busy)
    assert bench.views.spare_bytes() == 0
