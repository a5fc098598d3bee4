"""The vmcore of complete dumps: made in the background, when there is room, and again after a restart."""

from __future__ import annotations

import asyncio
import errno
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.server.config import Space
from netdump.server.recorder import Recorder
from netdump.server.restorer import Restorer
from netdump.server.space import Measure, SpaceWatch
from netdump.server.views import Views
from netdump.store.dump import Dump
from netdump.store.files import LocalFiles
from netdump.store.intake import verify_chunk
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.sample_dump import SampleDump
from tests.server.arrivals import cannot_sign, sign
from tests.server.rig import MIB, PATIENCE_S, Desk, Events, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.store.writer import DumpWriter


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


def restorer_of(
    store: Store, recorder: Recorder, events: Events, receipt: Callable[[DumpWriter], object] = sign
) -> Restorer:
    space = SpaceWatch(Space(), lambda: PLENTY)
    return Restorer(store, space, recorder, Views(store, space, recorder, events), events, receipt=receipt)


def deliver(store: Store, dump: SampleDump = DUMP) -> None:
    with store.open_writer(dump.origin) as writer:
        for chunk in dump.chunks:
            writer.append(chunk, len(verify_chunk(chunk)))
        writer.finish(dump.root)


def test_a_host_gets_its_receipt_while_the_vmcore_is_made(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dump that was complete when the collector was killed, or had no file descriptor left to sign for it."""
    deliver(Store(folder / "dumps"))
    begun, goes_on, check = threading.Event(), threading.Event(), Restorer._check

    def slow(restorer: Restorer, offset: int) -> None:
        begun.set()
        assert goes_on.wait(PATIENCE_S)
        check(restorer, offset)

    monkeypatch.setattr(Restorer, "_check", slow)
    with Rig(folder) as rig:
        assert begun.wait(PATIENCE_S)
        with Host(rig, web1) as host:
            answer = host.hello(DUMP)
        goes_on.set()
        assert isinstance(answer, wire.Receipt), answer
        rig.events.wait("dump-restored")


@pytest.mark.asyncio
async def test_keys_that_are_not_in_order_keep_no_vmcore_from_being_made(folder: Path) -> None:
    events, store = Events(), Store(folder / "dumps")
    deliver(store)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        restorer = restorer_of(store, recorder, events, cannot_sign)
        restorer.add(DUMP.origin.id)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        await restorer.close()
        recorder.close()
    assert vmcore(folder).read_bytes() == DUMP.image


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


def test_a_start_makes_the_newest_first(folder: Path) -> None:
    """Where there is not room for all: the oldest would be given up again for the next dump that comes."""
    dumps = [SampleDump(seed, image_bytes=30_000) for seed in (72, 73, 74)]
    for number, dump in enumerate(dumps):
        dump.origin = replace(dump.origin, created=1000 + number)  # type: ignore[misc]
        deliver(Store(folder / "dumps"), dump)
    with Rig(folder) as rig:
        rig.events.wait("dump-restored", 3)
    made = [each["dump"] for each in rig.events.all("dump-restored")]
    assert made == [dump.origin.id for dump in reversed(dumps)]


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


@pytest.mark.asyncio
async def test_dumps_that_wait_for_room_are_not_looked_at_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start with little room all wait that have no vmcore, which of a fleet are tens of thousands."""
    room, events, store, looks, measures = [LOW], Events(), Store(folder / "dumps"), list[str](), list[Measure]()
    samples = [SampleDump(seed, image_bytes=20_000) for seed in (81, 82, 83)]
    for sample in samples:
        deliver(store, sample)
    look = Store.dump

    def noted(store: Store, dump_id: str) -> Dump:
        looks.append(dump_id)
        return look(store, dump_id)

    def measure() -> Measure:
        measures.append(room[0])
        return room[0]

    monkeypatch.setattr(Store, "dump", noted)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        space = SpaceWatch(Space(**SPACE), measure)
        restorer = Restorer(store, space, recorder, Views(store, space, recorder, events), events, receipt=sign)
        for sample in samples:
            restorer.add(sample.origin.id)
        told = await asyncio.to_thread(events.wait, "restore-waits")
        assert told["dumps"] == len(samples), "one line for all of them"
        assert len(events.all("restore-waits")) == 1
        before, measured = len(looks), len(measures)
        for _ in range(5):
            await asyncio.sleep(0.05)
            space.poke()
        assert len(looks) == before
        assert len(measures) <= measured + 12, "two looks for each poke"
        deliver(store, newest := SampleDump(84, image_bytes=20_000))
        restorer.add(newest.origin.id)
        assert (await asyncio.to_thread(events.wait, "restore-waits", 2))["dump"] == newest.origin.id
        assert set(looks[before:]) == {newest.origin.id}
        room[0] = PLENTY
        space.poke()
        await restorer.idle()
        assert all(vmcore(folder, sample).read_bytes() == sample.image for sample in samples)
        assert not restorer._needed
        await restorer.close()
        recorder.close()


@pytest.mark.asyncio
async def test_one_that_was_asked_for_twice_and_got_room_in_between_waits_no_more(folder: Path) -> None:
    events, store = Events(), Store(folder / "dumps")
    large, small = SampleDump(seed=85, image_bytes=40_000), SampleDump(seed=86, image_bytes=20_000)
    for sample in (large, small):
        deliver(store, sample)
    room = [LOW, LOW, PLENTY, LOW, LOW]  # at each look: what there is for the large one, and each of both; and then

    def measure() -> Measure:
        return room.pop(0) if room else PLENTY

    with Index.open(folder / NAME) as index:
        recorder, space = Recorder(lambda: index, store, events), SpaceWatch(Space(**SPACE), measure)
        restorer = Restorer(store, space, recorder, Views(store, space, recorder, events), events, receipt=sign)
        restorer.add(large.origin.id)
        await asyncio.to_thread(events.wait, "restore-waits")
        del room[:-3]
        for _ in range(2):
            restorer.add(small.origin.id)
        assert (await asyncio.to_thread(events.wait, "dump-restored"))["dump"] == small.origin.id
        space.poke()
        await restorer.idle()
        assert len(events.all("restore-waits")) == 1
        assert not events.all("restore-failed")
        await restorer.close()
        recorder.close()


@pytest.mark.asyncio
async def test_a_mistake_does_not_end_it(folder: Path) -> None:
    """Also one that is none with a dump: the next would come when a dump is complete, and that may be in weeks."""
    faults, events, store = [RuntimeError("can't start new thread")], Events(), Store(folder / "dumps")
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    deliver(store)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        space = SpaceWatch(Space(check_s=1), lambda: PLENTY)
        restorer = Restorer(store, space, recorder, Views(store, space, recorder, events), events, receipt=sign)
        fitting = restorer._fitting_bytes

        def fail_once(waiting: tuple[str, ...]) -> int:
            if faults:
                raise faults.pop()
            return fitting(waiting)

        restorer._fitting_bytes = fail_once  # type: ignore[method-assign]
        restorer.add(DUMP.origin.id)
        await restorer.idle()
        assert vmcore(folder).read_bytes() == DUMP.image
        assert "new thread" in str(events.wait("restore-failed")["reason"])
        await restorer.close()
        recorder.close()


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
async def test_what_is_damaged_is_not_tried_again(folder: Path) -> None:
    events, store = Events(), Store(folder / "dumps")
    deliver(store)
    (segment,) = (folder / "dumps" / DUMP.origin.id / "segments").iterdir()
    content = bytearray(segment.read_bytes())
    content[5_000] ^= 1
    segment.write_bytes(content)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        restorer = restorer_of(store, recorder, events)
        restorer.add(DUMP.origin.id)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        await restorer.close()
        recorder.close()
    assert len(events.all("dump-damaged")) == 1


@pytest.mark.asyncio
async def test_the_index_is_told_of_one_before_the_next_is_made(folder: Path) -> None:
    """A start may have thousands to make."""
    events, store, hangs = Events(), Store(folder / "dumps"), threading.Event()
    dumps = [SampleDump(seed, image_bytes=30_000) for seed in (72, 73)]
    for dump in dumps:
        deliver(store, dump)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        recorder._pool.submit(hangs.wait, PATIENCE_S)
        restorer = restorer_of(store, recorder, events)
        for dump in dumps:
            restorer.add(dump.origin.id)
        await asyncio.to_thread(events.wait, "dump-restored")
        await asyncio.sleep(0.1)
        assert not vmcore(folder, dumps[1]).exists()
        hangs.set()
        await restorer.idle()
        assert vmcore(folder, dumps[1]).exists()
        await restorer.close()
        recorder.close()


@pytest.mark.asyncio
async def test_a_stop_does_not_wait_for_room(folder: Path) -> None:
    events, store = Events(), Store(folder / "dumps")
    deliver(store)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        space = SpaceWatch(Space(**SPACE), lambda: LOW)
        restorer = Restorer(store, space, recorder, Views(store, space, recorder, events), events, receipt=sign)
        restorer.add(DUMP.origin.id)
        await asyncio.to_thread(events.wait, "restore-waits")
        await asyncio.wait_for(restorer.close(), PATIENCE_S)
        recorder.close()


@pytest.mark.asyncio
async def test_room_that_cannot_be_measured_is_told_and_not_repeated(folder: Path) -> None:
    events, store, measures = Events(), Store(folder / "dumps"), [LOW]
    deliver(store)

    def measure() -> Measure:
        if not measures:
            raise OSError(errno.EIO, "Input/output error")
        return measures[0]

    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        space = SpaceWatch(Space(**SPACE), measure)
        restorer = Restorer(store, space, recorder, Views(store, space, recorder, events), events, receipt=sign)
        restorer.add(DUMP.origin.id)
        await asyncio.to_thread(events.wait, "restore-waits")
        measures.clear()
        async with asyncio.timeout(PATIENCE_S):
            while restorer._task is not None:
                space.poke()
                await asyncio.sleep(0)
        await restorer.close()
        recorder.close()
    (failure,) = events.all("restore-failed")
    assert "cannot be measured" in str(failure["reason"])


@pytest.mark.asyncio
async def test_a_dump_that_was_deleted_meanwhile_is_no_trouble(folder: Path) -> None:
    events = Events()
    store = Store(folder / "dumps")
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        restorer = restorer_of(store, recorder, events)
        await restorer.idle()
        restorer.add("0" * 32)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        await restorer.close()
        recorder.close()
    assert not events.all("restore-failed")


@pytest.mark.asyncio
async def test_a_dump_that_is_deleted_while_it_is_looked_at_does_not_come_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, store = Events(), Store(folder / "dumps")
    deliver(store)

    def delete(dump: Dump) -> None:
        store.delete(dump.id)

    monkeypatch.setattr(Dump, "receipt", property(delete))
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        restorer = restorer_of(store, recorder, events)
        assert not restorer._restore(DUMP.origin.id), "somebody is at it"
        assert restorer._restore(DUMP.origin.id)
        await restorer.close()
        recorder.close()
    assert not events.all("restore-failed")
    assert not store.candidates()


@pytest.mark.asyncio
async def test_a_fault_of_the_disk_is_told_and_not_repeated(folder: Path) -> None:
    events = Events()
    files = FaultyFiles(LocalFiles(folder / "dumps"))
    store = Store(folder / "dumps", files)
    deliver(store)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, Store(folder / "dumps"), events)
        restorer = restorer_of(store, recorder, events)
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


@pytest.mark.asyncio
async def test_a_mistake_with_one_dump_is_not_for_the_others_to_pay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, other = Events(), SampleDump(seed=73, image_bytes=5_000)
    store = Store(folder / "dumps")
    for dump in (DUMP, other):
        deliver(store, dump)
    reassemble = Dump.reassemble

    def mistaken(self: Dump, progress: Callable[[int], None]) -> object:
        if self.id == DUMP.origin.id:
            raise ZeroDivisionError("oops")
        return reassemble(self, progress=progress)

    monkeypatch.setattr(Dump, "reassemble", mistaken)
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        restorer = restorer_of(store, recorder, events)
        for dump in (DUMP, other):
            restorer.add(dump.origin.id)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        (failure,) = events.all("restore-failed")
        assert (failure["dump"], failure["reason"]) == (DUMP.origin.id, "ZeroDivisionError: oops")
        assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
        monkeypatch.setattr(Dump, "reassemble", reassemble)
        restorer.add(DUMP.origin.id)  # and it still works
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        await restorer.close()
        recorder.close()
    for dump in (DUMP, other):
        assert vmcore(folder, dump).read_bytes() == dump.image


@pytest.mark.asyncio
async def test_one_that_is_half_done_gives_way_to_dumps(folder: Path) -> None:
    events, looks = Events(), 0
    store = Store(folder / "dumps")
    deliver(store)

    def measure() -> Measure:
        nonlocal looks
        looks += 1
        return LOW if looks == 5 else PLENTY  # dumps arrive beside it; what it is made of is enough for more looks

    space = SpaceWatch(Space(admit_free_bytes=64 * MIB, check_s=300), measure)
    with Index.open(folder / NAME) as index:
        recorder = Recorder(lambda: index, store, events)
        restorer = Restorer(store, space, recorder, Views(store, space, recorder, events), events, receipt=sign)
        restorer.add(DUMP.origin.id)
        assert "ran short" in str(await asyncio.to_thread(events.wait, "restore-waits"))
        assert not list(vmcore(folder).parent.glob("vmcore*"))
        while not vmcore(folder).exists():
            space.poke()
            await asyncio.sleep(0)
        await asyncio.wait_for(restorer.idle(), PATIENCE_S)
        await restorer.close()
        recorder.close()
    assert vmcore(folder).read_bytes() == DUMP.image
    assert len(events.all("restore-waits")) == 1
