"""The vmcore of complete dumps: made in the background, when there is room, and again after a restart."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from netdump.index.index import NAME, Index
from netdump.server.config import Space
from netdump.server.recorder import Recorder
from netdump.server.restorer import Restorer
from netdump.server.space import Measure, SpaceWatch
from netdump.store import Dump, Store, verify_chunk
from netdump.store.files import LocalFiles
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import MIB, PATIENCE_S, Desk, Events, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


DUMP = SampleDump(seed=71, image_bytes=200_000)
PLENTY = Measure(1 << 40, 1 << 41)
LOW = Measure(40 * MIB, 1 << 41)
SPACE = {
    "min_free_bytes": 16 * MIB,
    "min_free_percent": 0,
    "admit_free_bytes": 64 * MIB,
    "admit_free_percent": 0,
    "check_s": 300,
}


def vmcore(folder: Path, dump: SampleDump = DUMP) -> Path:
    return folder / "dumps" / dump.origin.id / "vmcore"


def test_with_keep_vmcore_off_there_is_none(folder: Path, web1: Papers) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")
    assert not vmcore(folder).exists()
    with Rig(folder) as rig:  # and with it on, the next start makes it
        rig.events.wait("dump-restored")
    assert vmcore(folder).read_bytes() == DUMP.image
    with Rig(folder) as rig:  # and the one after it has nothing to do
        pass
    assert not rig.events.all("dump-restored")


def test_it_waits_for_room(folder: Path, web1: Papers, olga: Papers) -> None:
    room = [PLENTY]
    with Rig(folder, {"space": SPACE}, measure=lambda: room[0]) as rig, Desk(rig, olga) as desk:
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.headline(DUMP)
            host.chunks(DUMP.chunks)
            room[0] = LOW
            host.finish(DUMP)
        rig.events.wait("dump-complete")
        other = SampleDump(seed=72, image_bytes=5_000)
        room[0] = PLENTY
        with Host(rig, web1) as host:
            host.resume(other)
        rig.events.wait("dump-interrupted")
        desk.get(f"/v1/dumps/{other.origin.id}")
        assert desk.ask("DELETE", f"/v1/dumps/{other.origin.id}").status == 200  # frees room, and says so
        rig.events.wait("dump-restored")
    assert vmcore(folder).read_bytes() == DUMP.image


def test_damage_is_found_and_noted(folder: Path, web1: Papers, ann: Papers) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")
    (segment,) = (folder / "dumps" / DUMP.origin.id / "segments").iterdir()
    content = bytearray(segment.read_bytes())
    content[5_000] ^= 1
    segment.write_bytes(content)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        rig.events.wait("dump-damaged")
        while desk.get(f"/v1/dumps/{DUMP.origin.id}")["state"] != "damaged":
            pass
    assert not vmcore(folder).exists()


def test_a_stop_does_not_wait_for_a_large_one(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stopping = threading.Event(), threading.Event()
    reassemble = Dump.reassemble

    def slowly(self: Dump, target: Path | None = None, progress: Callable[[int], None] | None = None) -> object:
        def watched(offset: int) -> None:
            begun.set()
            assert stopping.wait(PATIENCE_S)
            assert progress is not None
            progress(offset)

        return reassemble(self, target, watched)

    async def close(self: Restorer) -> None:
        asyncio.get_running_loop().call_soon(stopping.set)  # when the thread has been told to stop
        await close_really(self)

    close_really = Restorer.close
    monkeypatch.setattr(Restorer, "close", close)
    monkeypatch.setattr(Dump, "reassemble", slowly)
    with Rig(folder) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        assert begun.wait(PATIENCE_S)
    assert not rig.events.all("dump-restored")
    assert sorted(path.name for path in vmcore(folder).parent.iterdir() if "vmcore" in path.name) == []
    assert Store(folder / "dumps").dump(DUMP.origin.id).complete


@pytest.mark.asyncio
async def test_a_dump_that_was_deleted_meanwhile_is_no_trouble(folder: Path) -> None:
    events = Events()
    store = Store(folder / "dumps")
    with Index.open(folder / NAME) as index:
        recorder = Recorder(index, store, events)
        restorer = Restorer(store, SpaceWatch(Space(), lambda: PLENTY), recorder, events)
        await restorer.idle()
        restorer.add("0" * 32)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        await restorer.close()
        recorder.close()
    assert not events.all("restore-failed")


@pytest.mark.asyncio
async def test_a_fault_of_the_disk_is_told_and_not_repeated(folder: Path) -> None:
    events = Events()
    files = FaultyFiles(LocalFiles(folder / "dumps"))
    store = Store(folder / "dumps", files)
    with store.open_writer(DUMP.origin) as writer:
        for chunk in DUMP.chunks:
            writer.append(chunk, len(verify_chunk(chunk)))
        writer.finish(DUMP.root)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(index, Store(folder / "dumps"), events)
        restorer = Restorer(store, SpaceWatch(Space(), lambda: PLENTY), recorder, events)
        files.fill_up()
        restorer.add(DUMP.origin.id)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        assert len(events.all("restore-failed")) == 1
        files.make_room()
        restorer.add(DUMP.origin.id)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        await restorer.close()
        recorder.close()
    assert vmcore(folder).read_bytes() == DUMP.image
