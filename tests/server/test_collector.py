"""Start and stop: one collector a folder, what it finds there, what it leaves behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sqlite3
import stat
import threading
import time
from queue import Queue
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.errors import (
    AddressError,
    BusyError,
    ConfigError,
    IndexFaultError,
    NotACollectorError,
    PkiError,
    StorageFaultError,
    ThreadsError,
)
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.rebuild import SERVE_STATUS_NAME as STATUS
from netdump.index.record import State
from netdump.server import diskfailures, upkeep
from netdump.server.collector import Collector, Surroundings
from netdump.server.config import build
from netdump.server.ingest import IngestService
from netdump.server.recorder import Recorder
from netdump.server.space import Measure
from netdump.server.status import Status, StatusFile, inspect
from netdump.store.files import LocalFiles
from netdump.store.intake import verify_chunk
from netdump.store.segment import SegmentReader
from netdump.store.store import Store
from netdump.store.writer import DumpWriter
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import deliver
from tests.server.rig import PATIENCE_S, Desk, Events, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netdump.server.audit import Audit
    from netdump.store.segment import SegmentInfo, StoredChunk
    from netdump.store.totals import Totals

DUMP = SampleDump(seed=111, image_bytes=300_000)
WORDS_MAX = 2000


def test_it_says_where_it_listens_while_it_runs(folder: Path) -> None:
    status = folder / STATUS
    with Rig(folder) as rig:
        told = json.loads(status.read_text())
        assert (told["pid"], told["ingest"], told["api"]) == (os.getpid(), str(rig.ingest), str(rig.api))
        assert stat.S_IMODE(status.stat().st_mode) == 0o600
        assert rig.ingest.port != rig.api.port != 0
    assert not status.exists()
    assert not status.with_suffix(".partial").exists()


def test_it_says_when_it_starts_that_it_takes_no_new_dumps(folder: Path) -> None:
    with Rig(folder, measure=lambda: Measure(5_000_000, 1 << 40)) as rig:
        reason = str(rig.events.wait("space-low")["reason"])
        assert reason.startswith("5,000,000 bytes are free, new dumps are told to come back below ")

    def fail() -> Measure:
        raise OSError(errno.EIO, "Input/output error")

    with Rig(folder, measure=fail) as rig:
        assert "cannot be measured: Input/output error" in str(rig.events.wait("space-low")["reason"])


def test_it_says_how_it_is_once_a_minute(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its file, in the line for systemd, and in the log."""
    room, told, write = [1 << 40], Queue[Status](), StatusFile.write

    def watched(file: StatusFile, status: Status) -> None:
        write(file, status)
        told.put(status)

    def await_word(is_meant: Callable[[Status], bool]) -> Status:
        for _ in range(WORDS_MAX):
            if is_meant(status := told.get(timeout=PATIENCE_S)):
                return status
        raise AssertionError(status)

    monkeypatch.setattr(StatusFile, "write", watched)
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)
    with Rig(folder, measure=lambda: Measure(room[0], 1 << 40)) as rig:
        assert told.get(timeout=PATIENCE_S).dumps is None  # at the start it waits for nothing
        none = dict.fromkeys(map(str, State), 0)
        await_word(lambda status: status.dumps == none and status.stored_bytes == 0)
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        await_word(lambda status: status.dumps == {**none, "complete": 1} and bool(status.stored_bytes))
        assert await_word(lambda _: True).events["dump-complete"] == 1
        room[0] = 1000
        await_word(lambda status: [topic for topic, _ in status.troubles] == ["space"])
        assert rig.collector.status.startswith("TOO LITTLE ROOM: 1,000 bytes are free")
        assert [topic for topic, _ in inspect(folder, int(time.time())).troubles] == ["space"]
        room[0] = 1 << 40
        await_word(lambda status: status.troubles == ())
        assert rig.collector.status == rig.collector.ready
        assert (len(rig.events.all("space-low")), len(rig.events.all("space-enough"))) == (1, 1)


def test_it_says_that_the_disk_fails_until_it_works(folder: Path, web1: Papers) -> None:
    files = FaultyFiles(LocalFiles(folder / "dumps"))
    with Rig(folder, {"store": {"keep_vmcore": False}}, files=files) as rig, pytest.MonkeyPatch.context() as later:
        health = rig.collector._health
        assert health is not None
        assert health.look().troubles == ()
        files.fill_up()
        with Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Defer)
        (trouble,) = health.look().troubles
        assert trouble.topic == "store"
        assert "trying to write" in trouble.fact
        files.make_room()
        (trouble,) = health.look().troubles
        assert f"opening dump {DUMP.origin.id}: No space left" in trouble.fact
        later.setattr(diskfailures, "RECENT_S", 0.0)
        assert health.look().troubles == ()
        assert ".trial" not in os.listdir(folder / "dumps")


def test_a_disk_that_takes_no_word_ends_nothing(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    is_full, pack = [False], Status.pack

    def failing(status: Status) -> bytes:
        if is_full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pack(status)

    monkeypatch.setattr(Status, "pack", failing)
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)
    with Rig(folder) as rig:
        is_full[0] = True
        failed = rig.events.wait("upkeep-failed")
        assert failed["what"] == STATUS
        assert str(failed["reason"]).endswith(f"{STATUS} cannot be written: No space left on device")
        assert rig.collector.status.startswith(f"NOT LOOKED AFTER: {STATUS}: ")
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        is_full[0] = False
        rig.events.wait("upkeep-works")


def test_a_collector_starts_on_a_full_disk(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what one that was killed has said of itself is not taken for its word."""
    (folder / STATUS).write_text("long ago")

    def fail(_: Status) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Status, "pack", fail)
    with Rig(folder) as rig:
        assert rig.events.wait("upkeep-failed")["what"] == STATUS
        assert not (folder / STATUS).exists()
        with Host(rig, web1) as host:
            host.send_all(DUMP)


def test_dumps_are_received_with_the_threads_that_there_are(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of processes no more are to be had; one of each kind there was at the start."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Rig(folder) as rig:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-restored")
        monkeypatch.undo()


def test_no_threads_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("disk"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ThreadsError, match="raise the limit of processes"), Rig(folder):
            pass
    with Rig(folder):  # a start that failed gives everything back
        pass


@pytest.mark.parametrize("year", [1975, 2099])
def test_a_wrong_clock_is_loud_and_costs_no_dump(folder: Path, web1: Papers, year: int) -> None:
    now = [(year - 1970) * 365.25 * 86_400]
    with Rig(folder, clock=lambda: now[0]) as rig:
        assert f"this clock says {year}-" in str(rig.events.wait("clock-wrong")["reason"])
        assert rig.collector.status.startswith(f"THE CLOCK IS WRONG: this clock says {year}-")
        assert rig.collector.status.endswith(rig.collector.ready)
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        assert not rig.events.all("host-refused")


def test_a_clock_behind_the_folder_is_loud(folder: Path) -> None:
    with Rig(folder, clock=lambda: time.time() - 7200) as rig:  # within all dates
        assert "was last written to at" in str(rig.events.wait("clock-wrong")["reason"])
    with Rig(folder) as rig:
        assert not rig.events.all("clock-wrong")
        assert rig.collector.status == rig.collector.ready


def test_what_a_killed_one_left_is_replaced(folder: Path) -> None:
    (folder / STATUS).write_text("old")
    (folder / STATUS).with_suffix(".partial").write_text("older")
    with Rig(folder):
        assert json.loads((folder / STATUS).read_text())["pid"] == os.getpid()


def test_the_name_of_the_store_is_durable_before_it_listens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made the store may not have seen to that; without it all dumps are as safe as a cached name."""
    synced: list[os.stat_result] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        if not (folder / STATUS).exists():
            synced.append(os.fstat(descriptor))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with Rig(folder):
        assert any(os.path.samestat(each, folder.stat()) for each in synced)


def test_one_a_folder(folder: Path) -> None:
    with Rig(folder) as rig:
        with pytest.raises(BusyError, match="another collector runs on"), Rig(folder):
            pass
        with socket.create_connection((rig.ingest.host, rig.ingest.port)):
            pass  # the first one is unharmed
        assert (folder / STATUS).exists()
    with Rig(folder):
        pass


def test_folders_that_are_no_collectors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotACollectorError, match="netdump init"), Rig(tmp_path / "nothing"):
        pass
    (tmp_path / "half" / "dumps").mkdir(parents=True)
    with pytest.raises(StorageFaultError, match="name too long"), Rig(tmp_path / ("d" * 300)):
        pass  # stat(2) fails, as it does with EIO
    with pytest.raises(NotACollectorError), Rig(tmp_path / "half"):
        pass
    (folder / "pki" / "collector.key").unlink()
    with pytest.raises(PkiError, match=r"collector\.key"), Rig(folder):
        pass
    with pytest.raises(PkiError), Rig(folder):  # not BusyError: a start that failed gives its lock back
        pass


def test_an_address_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        taken = f"127.0.0.1:{sock.getsockname()[1]}"
        for section in ("ingest", "api"):
            with pytest.raises(AddressError, match=taken), Rig(folder, {section: {"listen": taken}}):
                pass
    with Rig(folder):  # nothing of the failed starts is in the way
        pass


def test_a_store_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = LocalFiles.names

    def failing(files: LocalFiles, name: str) -> list[str]:
        if not name:
            raise OSError(errno.EIO, "Input/output error")
        return names(files, name)

    monkeypatch.setattr(LocalFiles, "names", failing)
    with pytest.raises(StorageFaultError, match="listing the dumps"), Rig(folder):
        pass


def test_the_trash_is_emptied_while_it_runs_and_until_it_stops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand folders to look at are no reason to receive nothing."""
    asked: Queue[Callable[[], None]] = Queue()
    monkeypatch.setattr(Store, "empty_trash", lambda _, keep_on: asked.put(keep_on))
    with Rig(folder):
        keep_on = asked.get(timeout=PATIENCE_S)
        keep_on()
    with pytest.raises(BusyError):
        keep_on()


def test_trash_that_cannot_be_emptied_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise StorageFaultError("emptying the trash: Input/output error")

    monkeypatch.setattr(Store, "empty_trash", failing)
    with Rig(folder) as rig:
        assert "Input/output error" in str(rig.events.wait("trash-kept")["reason"])


def test_sockets_of_the_service_manager_are_used(folder: Path, web1: Papers) -> None:
    sockets = {role: socket.create_server(("127.0.0.1", 0)) for role in ("ingest", "api")}
    ports = {role: sock.getsockname()[1] for role, sock in sockets.items()}
    rig = Rig(folder)
    audit: Audit = rig.events
    rig.collector = Collector(folder, rig.config, Surroundings(audit, sockets))
    with rig:
        assert (rig.ingest.port, rig.api.port) == (ports["ingest"], ports["api"])
        with Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Resume)


def incomplete(folder: Path, chunks: int) -> None:
    """What a collector that was killed in the middle has left."""
    with Store(folder / "dumps").open_writer(DUMP.origin) as writer:
        writer.put_headline(DUMP.headline)
        for chunk in DUMP.chunks[:chunks]:
            writer.append(chunk, len(verify_chunk(chunk)))
        writer.publish()


def test_the_index_learns_what_is_there(folder: Path, ann: Papers) -> None:
    incomplete(folder, 5)
    complete, gone = SampleDump(seed=112, image_bytes=10_000), SampleDump(seed=113, image_bytes=10_000)
    for dump in (complete, gone):
        with Store(folder / "dumps").open_writer(dump.origin) as writer:
            for chunk in dump.chunks:
                writer.append(chunk, len(verify_chunk(chunk)))
            writer.finish(dump.root)
    with Rig(folder) as rig:
        rig.events.wait("dump-restored", 2)
    with Index.open(folder / NAME) as index:
        index.set_state(DUMP.origin.id, State.ARRIVING)  # as the collector would have left it
    shutil.rmtree(folder / "dumps" / gone.origin.id)
    trash = folder / "dumps" / f".trash-{gone.origin.id}-00"
    trash.mkdir()
    (trash / "lock").touch()
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        states = {each["id"]: each["state"] for each in desk.get("/v1/dumps")["dumps"]}
    assert states == {DUMP.origin.id: "interrupted", complete.origin.id: "complete"}
    with Index.open(folder / NAME) as index:
        assert index.ids() == set(states)
    assert not trash.exists()


@pytest.mark.parametrize("damage", ["the header", "a page", "a row"])
def test_a_damaged_index_does_not_keep_it_from_starting(folder: Path, ann: Papers, damage: str) -> None:
    incomplete(folder, 5)
    with Rig(folder):
        pass
    path = folder / NAME
    if damage == "a row":
        database = sqlite3.connect(path)
        database.execute("UPDATE dumps SET state = 'nonsense'")
        database.commit()
        database.close()
    else:
        content = bytearray(path.read_bytes())
        start = 0 if damage == "the header" else 4096
        content[start:] = b"\xff" * (len(content) - start)
        path.write_bytes(content)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        assert [each["state"] for each in desk.get("/v1/dumps")["dumps"]] == ["interrupted"]
        (event,) = rig.events.all("index-rebuilt")
    assert event["damaged"] == f"{NAME}.damaged-1"
    assert (folder / f"{NAME}.damaged-1").exists()
    with Rig(folder) as rig:
        assert not rig.events.all("index-rebuilt")


def test_an_index_of_another_program_is_not_touched(folder: Path) -> None:
    database = sqlite3.connect(folder / NAME)
    database.execute("PRAGMA application_id = 7")
    database.commit()
    database.close()
    with pytest.raises(IndexFaultError, match="another program"), Rig(folder):
        pass
    assert not list(folder.glob("*.damaged-*"))


def test_a_dump_that_cannot_be_read_does_not_keep_it_from_starting(
    folder: Path, ann: Papers, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    incomplete(folder, 5)

    def refuse(_store: Store, dump_id: str) -> None:
        raise StorageFaultError(f"reading dump {dump_id}: input/output error")

    monkeypatch.setattr("netdump.index.gather.gather", refuse)
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig, Desk(rig, ann) as desk:
        with Host(rig, web1) as host:
            host.send_all(SampleDump(seed=116, image_bytes=10_000))
        (shown,) = (each for each in desk.get("/v1/dumps")["dumps"] if each["id"] == DUMP.origin.id)
    assert shown["state"] == "damaged"
    assert "input/output error" in shown["remark"]


def test_a_dump_goes_on_after_a_stop_in_the_middle(folder: Path, web1: Papers) -> None:
    place = 9
    with Rig(folder) as rig:
        host = Host(rig, web1)
        host.resume(DUMP)
        host.headline(DUMP)
        host.chunks(DUMP.chunks[:place])
        # The last of them has arrived when the answer to something behind it is there.
        host.say_raw(wire.pack(wire.Keepalive()))
        host.await_ack(DUMP.chunks[place].offset)
        host.chunks(DUMP.chunks[place : place + 3])
    with host:
        while isinstance(answer := host.hear(), wire.Ack):
            pass
        assert isinstance(answer, wire.Error)
        assert answer.code is wire.ErrorCode.SHUTTING_DOWN
    with Rig(folder) as rig:
        with Host(rig, web1) as host:
            resume = host.resume(DUMP)
            assert DUMP.chunks[place].offset <= resume.offset <= DUMP.chunks[place + 3].offset
            host.chunks(chunk for chunk in DUMP.chunks if chunk.offset >= resume.offset)
            assert isinstance(host.finish(DUMP), wire.Receipt)
        rig.events.wait("dump-restored")
    assert (folder / "dumps" / DUMP.origin.id / "vmcore").read_bytes() == DUMP.image


def test_a_stop_does_not_wait_for_a_long_finish(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a dump of terabytes that is old, all of it is read before it is complete."""
    deliver(Store(folder / "dumps"), DUMP, 9)
    begun, stops, read, count, close = threading.Event(), threading.Event(), [], DumpWriter._count, IngestService.close

    def slow(writer: DumpWriter, info: SegmentInfo) -> Totals:
        read.append(info)
        begun.set()
        assert stops.wait(PATIENCE_S)
        return count(writer, info)

    async def closing(service: IngestService) -> None:
        stops.set()
        await close(service)

    monkeypatch.setattr(DumpWriter, "_count", slow)
    monkeypatch.setattr(IngestService, "close", closing)
    with Rig(folder) as rig, Host(rig, web1) as host:
        offset = host.resume(DUMP).offset
        host.chunks(chunk for chunk in DUMP.chunks if chunk.offset >= offset)
        host.say(wire.Finish(len(DUMP.image), host.wire.chunks, DUMP.root))
        assert begun.wait(PATIENCE_S)
    assert len(read) == 1
    monkeypatch.undo()
    with Rig(folder) as rig, Host(rig, web1) as host:
        host.send_all(DUMP)


def test_a_stop_does_not_wait_until_a_damaged_dump_is_read(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(Store(folder / "dumps"), DUMP, 9)
    begun, stops, read = threading.Event(), threading.Event(), list[str]()
    chunks, close = SegmentReader.chunks, IngestService.close

    def slow(segment: SegmentReader) -> Iterator[StoredChunk]:
        read.append(segment.name)
        begun.set()
        assert stops.wait(PATIENCE_S)
        return chunks(segment)

    async def closing(service: IngestService) -> None:
        stops.set()
        await close(service)

    monkeypatch.setattr(Recorder, "is_damaged", lambda *_: True)
    monkeypatch.setattr(SegmentReader, "chunks", slow)
    monkeypatch.setattr(IngestService, "close", closing)
    with Rig(folder, {"scrub": {"enabled": False}}) as rig, Host(rig, web1) as host:
        host.say(wire.Hello(DUMP.dump_id, len(DUMP.image), 4096, DUMP.origin.level))
        assert begun.wait(PATIENCE_S)
    assert len(read) == 1


def test_what_is_left_running_after_a_stop(folder: Path, web1: Papers, ann: Papers) -> None:
    """Nothing: no thread of the collector, no descriptor."""
    before_threads = {thread.ident for thread in threading.enumerate()}
    before = len(os.listdir("/proc/self/fd"))
    for seed in (114, 115):
        with Rig(folder) as rig, Host(rig, web1) as host, Desk(rig, ann) as desk:
            host.send_all(SampleDump(seed=seed, image_bytes=20_000))
            desk.get("/v1/dumps")
            rig.events.wait("dump-complete")
    assert {thread.ident for thread in threading.enumerate()} <= before_threads
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_settings_are_checked_before_anything_is_done() -> None:
    with pytest.raises(ConfigError):
        build({"limits": {"active_dumps": 0}})
    assert Events().all("x") == []
