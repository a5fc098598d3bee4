"""HELLO and its answers: whose dump it is, what is known of it, whether it can be opened."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Self

import pytest

from netdump import wire
from netdump.errors import DumpNotFoundError
from netdump.index.gather import is_held
from netdump.index.place import NAME as INDEX_NAME
from netdump.server.reception import ANSWER_S, KEPT_S
from netdump.server.recorder import Recorder
from netdump.store.dump import Dump
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from tests.server.offers import DUMP, OTHER, code_of, vmcore
from tests.server.rig import HASTE_S, MIB, PATIENCE_S, Desk, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.store.origin import Origin
    from netdump.store.writer import DumpWriter


@pytest.mark.parametrize("state", ["arriving", "interrupted", "complete"])
def test_another_hosts_dump_is_not_touched_nor_told_of(
    folder: Path, web1: Papers, web2: Papers, state: str
) -> None:  # [W-32]
    with Rig(folder) as rig, Host(rig, web1) as owner:
        if state == "complete":
            owner.send_all(DUMP)
            rig.events.wait("dump-restored")
        else:
            owner.resume(DUMP)
            owner.headline(DUMP)
            owner.chunks(DUMP.chunks[:3])
        if state == "interrupted":
            owner.socket.close()
            rig.events.wait("dump-interrupted")
        for changes in ({}, {"image_bytes": 5, "level": 31}):  # also when it offers something else under that id
            with Host(rig, web2) as thief:
                assert thief.hello(DUMP, **changes) == wire.Decline(wire.DeclineCode.NOT_OWNER)
        if state == "arriving":
            owner.chunks(DUMP.chunks[3:])
            assert isinstance(owner.finish(DUMP), wire.Receipt), "the owner was not disturbed"


@pytest.mark.parametrize("changes", [{"image_bytes": 399_999}, {"page_bytes": 8192}, {"level": 31}])
@pytest.mark.parametrize("complete", [False, True])
def test_the_same_id_with_other_facts(folder: Path, web1: Papers, changes: dict[str, Any], complete: bool) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            if complete:
                host.send_all(DUMP)
            else:
                host.resume(DUMP)
        rig.events.wait("dump-complete" if complete else "dump-interrupted")
        with Host(rig, web1) as host:
            assert code_of(host.hello(DUMP, **changes)) is wire.DeclineCode.MISMATCH


def test_too_large_an_image(folder: Path, web1: Papers) -> None:
    with Rig(folder, {"limits": {"image_bytes": MIB}}) as rig, Host(rig, web1) as host:
        assert code_of(host.hello(DUMP, image_bytes=MIB + 1)) is wire.DeclineCode.TOO_LARGE
    assert not list((folder / "dumps").iterdir())


@pytest.mark.parametrize("what", ["manifest.json", "segment"])
def test_a_damaged_dump(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Also if nobody has found it so before, and the index with it."""
    monkeypatch.setattr(Recorder, "is_damaged", lambda *_: False)
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")
        place = folder / "dumps" / DUMP.origin.id
        victim = next((place / "segments").iterdir()) if what == "segment" else place / what
        victim.write_bytes(victim.read_bytes()[:-1])
        with Host(rig, web1) as host:
            assert code_of(host.hello(DUMP)) is wire.DeclineCode.DAMAGED


def test_a_dump_that_verification_found_damaged(folder: Path, web1: Papers, web2: Papers, ann: Papers) -> None:
    """Its documents are sound, so nothing but the index knows: no receipt, until a verification takes that back."""
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")
        victim = next((folder / "dumps" / DUMP.origin.id / "segments").iterdir())
        sound = victim.read_bytes()
        half = len(sound) // 2
        verify = f"/v1/dumps/{DUMP.origin.id}/verify"
        with Desk(rig, ann) as desk:
            victim.write_bytes(sound[:half] + bytes([sound[half] ^ 1]) + sound[half + 1 :])
            assert not json.loads(desk.ask("POST", verify).data)["ok"]
            for attempt in range(2):
                with Host(rig, web1) as host:
                    assert code_of(host.hello(DUMP, attempt=attempt)) is wire.DeclineCode.DAMAGED
            with Host(rig, web2) as host:
                assert code_of(host.hello(DUMP)) is wire.DeclineCode.NOT_OWNER  # [W-32]
            victim.write_bytes(sound)
            assert json.loads(desk.ask("POST", verify).data)["ok"]
        with Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Receipt)


def test_no_receipt_for_an_old_dump_of_which_nobody_can_tell_whether_it_is_damaged(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has the index locked; of what came just now all was verified."""
    monkeypatch.setattr("netdump.server.recorder.ANSWER_S", 0.3)
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")
        with closing(sqlite3.connect(folder / INDEX_NAME, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            with Host(rig, web1) as host:
                assert isinstance(host.hello(DUMP), wire.Receipt)
            monkeypatch.setattr("netdump.server.reception.RESTED_S", -1.0)
            with Host(rig, web1) as host:
                assert isinstance(host.hello(DUMP), wire.Defer)
        wait_until(lambda: _gets_receipt(rig, web1))


def _gets_receipt(rig: Rig, papers: Papers) -> bool:
    with Host(rig, papers) as host:
        return isinstance(host.hello(DUMP), wire.Receipt)


def test_an_incomplete_dump_found_damaged_goes_on_before_the_damage(folder: Path, web1: Papers, ann: Papers) -> None:
    """The host still has all of it."""
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig, Desk(rig, ann) as desk:
        for first, last in ((0, 5), (5, 9)):  # a segment each
            with Host(rig, web1) as host:
                host.resume(DUMP)
                if not first:
                    host.headline(DUMP)
                host.chunks(DUMP.chunks[first:last])
            rig.events.wait("dump-interrupted", 1 if not first else 2)
        victim = max((folder / "dumps" / DUMP.origin.id / "segments").iterdir())
        content = victim.read_bytes()
        half = len(content) // 2
        victim.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
        verify = f"/v1/dumps/{DUMP.origin.id}/verify"
        assert not json.loads(desk.ask("POST", verify).data)["ok"]
        assert desk.get(f"/v1/dumps/{DUMP.origin.id}")["state"] == "damaged"
        with Host(rig, web1) as host:
            assert host.resume(DUMP).offset == DUMP.chunks[5].offset
            host.chunks(DUMP.chunks[5:])
            assert isinstance(host.finish(DUMP), wire.Receipt)
        assert rig.events.wait("dump-mended")["offset"] == DUMP.chunks[5].offset
        rig.events.wait("dump-complete")
        assert json.loads(desk.ask("POST", verify).data)["ok"]
        assert desk.get(f"/v1/dumps/{DUMP.origin.id}")["state"] == "complete"


@pytest.mark.parametrize("name", ["durable", "receipt"])
def test_a_dump_that_is_deleted_while_it_is_looked_at_is_not_damaged(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of terabytes there are so many segments that looking at them takes minutes."""
    look = getattr(Dump, name)
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")

        def delete_and_look(dump: Dump) -> object:
            Store(folder / "dumps").delete(dump.id)
            return look.fget(dump)

        with monkeypatch.context() as patch:
            patch.setattr(Dump, name, property(delete_and_look))
            with Host(rig, web1) as host:
                assert isinstance(host.hello(DUMP), wire.Defer)
        assert not Store(folder / "dumps").candidates()
        with Host(rig, web1) as host:
            host.send_all(DUMP)


def test_a_dump_whose_owner_cannot_be_read(folder: Path, web1: Papers, web2: Papers) -> None:  # [W-32]
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-complete")
        origin = folder / "dumps" / DUMP.origin.id / "origin.json"
        origin.write_bytes(origin.read_bytes()[:-1])
        answers = []
        for papers in (web1, web2):
            with Host(rig, papers) as host:
                answers.append(host.hello(DUMP))
        assert isinstance(answers[0], wire.Defer)
        assert answers[0] == answers[1]
        assert not {"damage", "origin", "owner"} & set(answers[0].text.split())
        assert "origin.json" in str(rig.events.wait("dump-refused")["reason"])


@pytest.mark.parametrize("left", ["nothing", "segments", "half an origin"])
def test_a_folder_without_origin_is_a_new_dump(folder: Path, web1: Papers, left: str) -> None:
    place = folder.parent / "made"
    with Rig(folder) as rig:
        place.mkdir()
        if left != "nothing":
            (place / "segments").mkdir()
            (place / "lock").touch(0o600)
        if left == "half an origin":
            (place / "origin.json.partial").write_bytes(b'{"age')
        place.rename(folder / "dumps" / DUMP.origin.id)  # at once: a collector that starts tidies such up
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        rig.events.wait("dump-restored")
    assert vmcore(folder, DUMP) == DUMP.image


def test_a_disk_that_is_full_before_the_origin_is_written(folder: Path, web1: Papers) -> None:
    files = FaultyFiles(LocalFiles(folder / "dumps"))
    with Rig(folder, {"store": {"keep_vmcore": False}}, files=files) as rig:
        # Room for the folder and what is in it, none for what follows.
        files.fill_up(at=1 + [kind for kind, _ in _opening(folder.parent / "other")].index("lock"))
        with Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Defer)
        assert (folder / "dumps" / DUMP.origin.id).is_dir()
        assert not (folder / "dumps" / DUMP.origin.id / "origin.json").exists()
        files.make_room()
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)


def _opening(root: Path) -> list[tuple[str, str]]:
    """What the store does for HELLO of a new dump: it looks for it, then makes it."""
    root.mkdir()
    files = FaultyFiles(LocalFiles(root))
    store = Store(root, files)
    with pytest.raises(DumpNotFoundError):
        store.dump(DUMP.origin.id)
    store.open_writer(DUMP.origin).close()
    return list(files.operations)


class SlowOpening:
    """Store.open_writer that waits until it may go on, and is counted. A context manager."""

    def __init__(self) -> None:
        self.gate, self.entered, self.times = threading.Event(), threading.Event(), 0
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        open_writer = Store.open_writer

        def slow(store: Store, origin: Origin, **options: Any) -> DumpWriter:
            self.times += 1
            self.entered.set()
            assert self.gate.wait(PATIENCE_S)
            return open_writer(store, origin, **options)

        self._patch.setattr(Store, "open_writer", slow)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def defer(self, rig: Rig, papers: Papers) -> None:
        """Offer the dump, and be told to come back while it is being opened."""
        fenced = len(rig.events.all("dump-fenced"))
        with Host(rig, papers) as host:
            host.say(wire.Hello(DUMP.dump_id, 400_000, 4096, 0))
            if self.entered.is_set():
                rig.events.wait("dump-fenced", fenced + 1)
            assert self.entered.wait(PATIENCE_S)
            rig.skip(ANSWER_S + 0.1)
            assert isinstance(host.hear(), wire.Defer)


@pytest.mark.parametrize("while_it_opens", [False, True])
def test_a_dump_that_takes_long_to_open_is_open_when_its_host_comes_back(
    folder: Path, web1: Papers, while_it_opens: bool
) -> None:
    with SlowOpening() as opening, Rig(folder) as rig:
        opening.defer(rig, web1)
        if while_it_opens:
            opening.defer(rig, web1)
        opening.gate.set()
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        assert opening.times == 1
        rig.events.wait("dump-restored")
    assert vmcore(folder, DUMP) == DUMP.image


def test_a_host_that_comes_back_again_and_again_leaves_nothing_behind(folder: Path, web1: Papers) -> None:
    with SlowOpening() as opening, Rig(folder) as rig:
        for _ in range(3):
            opening.defer(rig, web1)
        tasks = rig.call(lambda: len(asyncio.all_tasks()))
        for _ in range(4):
            opening.defer(rig, web1)
        wait_until(lambda: rig.call(lambda: len(asyncio.all_tasks())) <= tasks)
        opening.gate.set()
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        assert opening.times == 1
        rig.events.wait("dump-restored")


def test_a_host_has_as_many_dumps_opened_at_a_time_as_may_arrive(folder: Path, web1: Papers, web2: Papers) -> None:
    """It takes CPU from all others, and long, where a host has seen to it that there is much to look at."""
    with SlowOpening() as opening, Rig(folder) as rig, ExitStack() as stack:
        hosts = [stack.enter_context(Host(rig, web1)) for _ in range(4)]
        for number, host in enumerate(hosts):
            host.say(wire.Hello(number.to_bytes(16, "big"), 400_000, 4096, 0))
        wait_until(lambda: opening.times >= 2)
        other = stack.enter_context(Host(rig, web2))
        other.say(wire.Hello(DUMP.dump_id, 400_000, 4096, 0))
        wait_until(lambda: opening.times >= 3)
        time.sleep(10 * HASTE_S)
        times = opening.times
        opening.gate.set()
        assert times == 3
        assert all(isinstance(host.hear(), wire.Resume) for host in (*hosts, other))


def test_a_dump_that_was_opened_too_late_is_let_go(folder: Path, web1: Papers) -> None:
    with SlowOpening() as opening, Rig(folder) as rig:
        opening.defer(rig, web1)
        opening.gate.set()
        place = folder / "dumps" / DUMP.origin.id
        wait_until(lambda: is_held(place))

        def let_go() -> bool:
            rig.skip(KEPT_S + 0.1)
            return not is_held(place)

        wait_until(let_go)
        with Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Resume)
        assert opening.times == 2


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_dump_that_was_opened_too_late_is_not_offered_as_another(folder: Path, web1: Papers) -> None:
    with SlowOpening() as opening, Rig(folder) as rig:
        opening.defer(rig, web1)
        opening.gate.set()
        with Host(rig, web1) as host:
            assert code_of(host.hello(DUMP, image_bytes=399_999)) is wire.DeclineCode.MISMATCH
        with Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Resume)


def test_a_stop_does_not_wait_for_a_host_that_may_come_back(folder: Path, web1: Papers) -> None:
    with SlowOpening() as opening:
        with Rig(folder) as rig:
            opening.defer(rig, web1)
            opening.gate.set()
            begun = time.monotonic()
        assert time.monotonic() - begun < KEPT_S / 2


def test_a_host_that_left_before_its_answer(folder: Path, web1: Papers) -> None:
    with Rig(folder, {"limits": {"active_dumps_per_host": 1}}) as rig:
        for _ in range(5):
            with Host(rig, web1) as host:
                host.say(wire.Hello(DUMP.dump_id, 400_000, 4096, 0))
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)


def test_a_busy_dump_is_deferred(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig:
        with Host(rig, web1) as host:
            host.resume(DUMP)
        rig.events.wait("dump-interrupted")
        with Store(folder / "dumps").open_writer(DUMP.origin), Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Defer)


def test_events_are_about_somebody(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig:
        with Host(rig, web1) as host:
            host.send_all(OTHER)
        event = rig.events.wait("dump-complete")
        assert (event["host"], event["peer"], event["dump"]) == ("web1", "127.0.0.1", OTHER.origin.id)
        json.dumps(event)
