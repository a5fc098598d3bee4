"""The scrub: what is due when, rot found and told, going on where it was, and the collector around it."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from netdump.errors import DamagedError
from netdump.index.catalog import LocalCatalog
from netdump.index.place import NAME as INDEX_NAME
from netdump.pki import durable
from netdump.server import scrub
from netdump.server.config import DAY_S
from netdump.server.scrub import NAME, RATE_MIN, Memory
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all, deliver
from tests.server.rig import PATIENCE_S, Desk, Host, Papers, Rig
from tests.server.scrubbing import CREATED, DAYS, NEW, OLD, Desktop, fill, flip, segment_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.store.files import LocalFile, Status
    from netdump.store.findings import Report


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return fill(tmp_path)


def test_the_one_checked_longest_ago_is_next(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 5 * DAY_S, pass_days=DAYS)
    assert desk.scrubber.next_due() is None, "they were verified when they came"
    desk.now = CREATED + (DAYS / 2) * DAY_S
    first = desk.scrubber.next_due()
    assert first in {OLD.origin.id, NEW.origin.id}
    assert desk.scrubber.check(first).ok
    second = desk.scrubber.next_due()
    assert {first, second} == {OLD.origin.id, NEW.origin.id}
    assert second is not None
    desk.now += 5
    assert desk.scrubber.check(second).ok
    assert desk.scrubber.next_due() is None
    assert desk.told.times == {first: desk.now - 5, second: desk.now}
    desk.now += DAYS / 2 * DAY_S
    assert desk.scrubber.next_due() == first
    desk.now = 0
    assert desk.scrubber.next_due() == first, "a check in the future is none"
    assert not desk.told.bad
    assert desk.told.settled == 6, "what the index could not be told before is tried again each time"


def test_a_dump_that_cannot_be_looked_at_does_not_keep_others_from_it(directory: Path) -> None:
    lock = directory / "dumps" / OLD.origin.id / "lock"
    lock.unlink()
    lock.symlink_to("lock")  # ELOOP, as good as EIO
    desk = Desktop(directory, CREATED + DAYS * DAY_S, pass_days=DAYS)
    for _ in range(2):
        assert desk.scrubber.next_due() == NEW.origin.id
    (event,) = desk.events.all("scrub-failed")  # said once
    assert event["dump"] == OLD.origin.id
    assert OLD.origin.id in str(event["reason"])
    lock.unlink()
    assert desk.scrubber.check(NEW.origin.id).ok
    assert desk.scrubber.next_due() == OLD.origin.id


def test_a_dump_whose_segments_cannot_be_listed_does_not_keep_others_from_it(tmp_path: Path) -> None:
    (tmp_path / "dumps").mkdir()
    for sample, chunks in ((OLD, 1), (NEW, 1000)):
        deliver(Store(tmp_path / "dumps"), sample, chunks)
    segments = tmp_path / "dumps" / OLD.origin.id / "segments"
    segments.rename(tmp_path / "elsewhere")
    segments.touch()  # ENOTDIR, as good as EIO
    desk = Desktop(tmp_path, CREATED + DAYS * DAY_S, pass_days=DAYS)
    while (dump_id := desk.scrubber.next_due()) is not None:
        desk.scrubber.check(dump_id)
    assert set(desk.told.bad) == {OLD.origin.id}
    assert set(desk.told.times) == {OLD.origin.id, NEW.origin.id}


def test_a_dump_whose_manifest_cannot_be_read_does_not_keep_others_from_it(directory: Path) -> None:
    """Not even whether there is one: a bad block among the inodes."""
    manifest = f"{OLD.origin.id}/manifest.json"

    class Failing(LocalFiles):
        def status(self, name: str) -> Status | None:
            return super().status(_readable(name))

        def open(self, name: str) -> LocalFile:
            return super().open(_readable(name))

    def _readable(name: str) -> str:
        if name == manifest:
            raise OSError(errno.EIO, "Input/output error")
        return name

    desk = Desktop(directory, CREATED + DAYS * DAY_S, Failing(directory / "dumps"), pass_days=DAYS)
    assert desk.scrubber.next_due() == OLD.origin.id
    assert not desk.scrubber.check(OLD.origin.id).ok
    assert desk.told.bad[OLD.origin.id].startswith("manifest.json: Input/output error")
    assert desk.scrubber.next_due() == NEW.origin.id


def test_a_mistake_with_one_dump_does_not_keep_others_from_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "REST_S", 0.0)
    desk, tried = Desktop(directory, CREATED + DAYS * DAY_S, pass_days=DAYS), list[str]()
    check = desk.scrubber.check

    def stumble(dump_id: str) -> Report:
        tried.append(dump_id)
        if len(tried) == 4:
            desk.scrubber._stop.set()
        if dump_id == OLD.origin.id:
            desk.scrubber._memory.dump = dump_id
            raise ZeroDivisionError("a mistake")
        return check(dump_id)

    monkeypatch.setattr(desk.scrubber, "check", stumble)
    desk.scrubber._run()
    assert tried == [OLD.origin.id, NEW.origin.id, OLD.origin.id, OLD.origin.id]


def test_all_dumps_are_looked_at_once_for_all_that_are_due(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet leaves tens of thousands, and each check would pay for them all."""
    desk, looks = Desktop(directory, CREATED + DAYS * DAY_S, pass_days=DAYS), list[list[str]]()
    ids = Store.ids

    def noted(store: Store) -> list[str]:
        looks.append(ids(store))
        return looks[-1]

    monkeypatch.setattr(Store, "ids", noted)
    first = desk.scrubber.next_due()
    assert first is not None
    desk.scrubber.check(first)
    second = desk.scrubber.next_due()
    assert {first, second} == {OLD.origin.id, NEW.origin.id}
    assert len(looks) == 1
    desk.store.delete(second or "")
    assert desk.scrubber.next_due() is None
    assert second not in desk.scrubber._new


def test_a_dump_that_was_lost_meanwhile_comes_before_those_that_are_due(directory: Path) -> None:
    desk = Desktop(directory, CREATED + DAYS * DAY_S, pass_days=DAYS)
    first = desk.scrubber.next_due()
    (second,) = {OLD.origin.id, NEW.origin.id} - {first}
    desk.told.verdicts = {second}
    assert desk.scrubber.next_due() == first
    desk.told.verdicts = set()
    assert desk.scrubber.next_due() == second


def test_a_dump_that_goes_away_does_not_keep_others_from_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "ids", lambda _: ["0" * 32, NEW.origin.id])
    desk = Desktop(directory, CREATED + DAYS * DAY_S, pass_days=DAYS)
    assert desk.scrubber.next_due() == NEW.origin.id
    assert not desk.events.all("scrub-failed")


def test_rot_is_found_and_told(directory: Path) -> None:
    victim = segment_of(directory, OLD)
    flip(victim, victim.stat().st_size // 2)
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    assert not desk.scrubber.check(OLD.origin.id).ok
    assert desk.scrubber.check(NEW.origin.id).ok
    assert victim.name in desk.told.bad[OLD.origin.id]
    assert desk.events.all("dump-damaged")[0]["dump"] == OLD.origin.id
    assert [event["sound"] for event in desk.events.all("dump-checked")] == [False, True]


def test_a_dump_that_was_put_right_is_damaged_no_more(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.told.verdicts = {OLD.origin.id, NEW.origin.id}
    flip(segment_of(directory, NEW), 400)  # as it was found
    assert desk.scrubber.next_due() in {OLD.origin.id, NEW.origin.id}
    for sample in (OLD, NEW):
        desk.scrubber.check(sample.origin.id)
    assert desk.told.verdicts == {NEW.origin.id}
    assert [event["dump"] for event in desk.events.all("dump-sound")] == [OLD.origin.id]
    assert desk.views == [OLD.origin.id], "while it was damaged no vmcore was made of it"
    assert desk.scrubber.next_due() is None, "nothing was lost that must be found again"


def put_right_and_untold(directory: Path) -> Desktop:
    """The index calls OLD damaged, and was locked when that was found to be over; NEW is checked."""
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.scrubber.check(NEW.origin.id)
    desk.told.verdicts, desk.told.is_locked = {OLD.origin.id}, True
    assert desk.scrubber.next_due() == OLD.origin.id
    assert desk.scrubber.check(OLD.origin.id).ok
    return desk


def test_a_dump_that_was_put_right_while_the_index_is_locked_is_told_of_later(directory: Path) -> None:
    """It is not read again for that, and the lock is said once."""
    desk = put_right_and_untold(directory)
    for _ in range(3):
        assert desk.scrubber.next_due() is None
    (event,) = desk.events.all("index-failed")
    assert (event["dump"], "locked" in str(event["reason"])) == (OLD.origin.id, True)
    assert not desk.events.all("dump-sound")
    assert OLD.origin.id not in desk.told.times
    desk.told.is_locked = False
    read, desk.now = desk.now, desk.now + 3600
    assert desk.scrubber.next_due() is None
    assert not desk.told.verdicts
    assert [event["dump"] for event in desk.events.all("dump-sound")] == [OLD.origin.id]
    assert desk.told.times[OLD.origin.id] == read, "when it was read"
    assert desk.views == [OLD.origin.id]
    assert len(desk.events.all("dump-checked")) == 2


def test_a_dump_that_has_rotted_again_before_the_index_was_told_is_read_again(directory: Path) -> None:
    desk = put_right_and_untold(directory)
    assert desk.scrubber.next_due() is None
    desk.told.refusal = DamagedError("its manifest is damaged")
    assert desk.scrubber.next_due() == OLD.origin.id


def test_a_restart_before_the_index_was_told_reads_it_once_more(directory: Path) -> None:
    desk = put_right_and_untold(directory)
    desk.scrubber._save()
    again = Desktop(directory, desk.now)
    again.told.verdicts = {OLD.origin.id}
    assert again.scrubber.next_due() == OLD.origin.id
    again.scrubber.check(OLD.origin.id)
    assert not again.told.verdicts


def test_a_dump_that_is_deleted_before_the_index_was_told_is_forgotten(directory: Path) -> None:
    desk = put_right_and_untold(directory)
    desk.store.delete(OLD.origin.id)
    desk.told.is_locked = False
    assert desk.scrubber.next_due() is None
    assert not desk.events.all("dump-sound")


def while_it_is_read(desk: Desktop, dump_id: str, then: Callable[[], object]) -> None:
    """Check a dump, and do something behind its first chunk."""
    done = list[object]()

    def take(_size: int) -> None:
        if desk.scrubber._memory.offset and not done:
            done.append(then())

    desk.scrubber._paced._files._take = take  # type: ignore[attr-defined]
    desk.scrubber.check(dump_id)
    assert done


def test_a_dump_that_is_deleted_while_it_is_read_is_not_damaged(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    while_it_is_read(desk, OLD.origin.id, lambda: desk.store.delete(OLD.origin.id))
    assert not desk.events.all("dump-damaged")
    assert not desk.told.bad
    assert desk.scrubber.next_due() == NEW.origin.id


def test_a_dump_that_is_deleted_and_sent_again_while_it_is_read_is_not_damaged(directory: Path) -> None:
    def send_again() -> None:
        desk.store.delete(OLD.origin.id)
        with desk.store.open_writer(replace(OLD.origin, created=CREATED + 1)) as writer:
            append_all(writer, OLD.chunks[:4])
            writer.publish()

    desk = Desktop(directory, CREATED + 40 * DAY_S)
    while_it_is_read(desk, OLD.origin.id, send_again)
    assert not desk.events.all("dump-damaged")
    assert not desk.told.bad


def test_a_dump_that_is_mended_and_completed_while_it_is_read_is_not_damaged(directory: Path) -> None:
    """Its host came back and sent again what was bad; it was bad when it was read."""
    sample = SampleDump(3)
    deliver(Store(directory / "dumps"), sample, 12)
    flip(segment_of(directory, sample, 3), 400)

    def complete() -> None:
        with Store(directory / "dumps").open_writer(sample.origin, distrust=True) as writer:
            append_all(writer, [chunk for chunk in sample.chunks if chunk.offset >= writer.durable.offset])
            writer.finish(sample.root)

    desk = Desktop(directory, CREATED + 40 * DAY_S)
    while_it_is_read(desk, sample.origin.id, complete)
    assert not desk.told.bad
    assert desk.scrubber.check(sample.origin.id).complete
    assert [event["sound"] for event in desk.events.all("dump-checked")] == [True]


def test_a_verdict_that_comes_while_a_dump_is_read_stays(directory: Path) -> None:
    """What was read before it may have rotted since."""
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.scrubber.next_due()
    desk.told.verdicts = {OLD.origin.id}
    desk.scrubber.check(OLD.origin.id)
    assert desk.told.verdicts == {OLD.origin.id}


def test_a_check_that_began_behind_the_damage_takes_no_verdict_back(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.told.verdicts = {OLD.origin.id}
    flip(segment_of(directory, OLD), 400)
    desk.scrubber.next_due()
    desk.scrubber._memory.dump, desk.scrubber._memory.offset = OLD.origin.id, OLD.chunks[5].offset
    desk.scrubber.check(OLD.origin.id)
    assert desk.told.verdicts == {OLD.origin.id}


def test_a_damaged_view_is_dropped_and_asked_for_again(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    view = desk.store.dump(OLD.origin.id).reassemble().path
    flip(view, 1000)
    assert desk.scrubber.check(OLD.origin.id).ok
    assert desk.views == [OLD.origin.id]
    assert not view.exists()
    assert not desk.told.bad
    assert desk.events.all("vmcore-damaged")


def test_a_restart_goes_on_where_it_was(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.scrubber.check(NEW.origin.id)
    memory = desk.scrubber._memory
    memory.dump, memory.offset = OLD.origin.id, OLD.chunks[5].offset
    desk.scrubber._save()
    flip(segment_of(directory, OLD, 0), 400)  # before that place
    again = Desktop(directory, desk.now)
    assert again.scrubber.next_due() == OLD.origin.id
    report = again.scrubber.check(OLD.origin.id)
    assert report.ok
    assert report.chunks < len(OLD.chunks)
    assert again.scrubber.next_due() is None
    assert not again.scrubber.check(OLD.origin.id).ok, "the next time all of it"


def test_what_is_remembered_of_many_dumps_is_written_less_often(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 MB of 50,000 would else be written each half minute, for ever."""
    saved, now, write = list[float](), [1000.0], durable.write

    def noted(path: Path, data: bytes) -> None:
        saved.append(now[0])
        write(path, data)

    class Time:
        @staticmethod
        def monotonic() -> float:
            now[0] += 10
            return now[0]

    monkeypatch.setattr(durable, "write", noted)
    monkeypatch.setattr(scrub, "time", Time)
    for known in (0, 20_000):
        saved.clear()
        desk = Desktop(directory, CREATED + 40 * DAY_S, rate_bytes=1 << 30)
        desk.scrubber._memory.checked |= {f"{number:032x}": CREATED for number in range(known)}
        for _ in range(5):
            desk.scrubber.check(OLD.origin.id)
        pauses = [later - earlier for earlier, later in pairwise(saved)]
        assert len(pauses) > 1
        assert min(pauses) >= (100 if known else 30)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, None])
def test_a_damaged_memory_is_forgotten(directory: Path, content: bytes | None) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.scrubber.check(OLD.origin.id)
    if content is None:
        flip(directory / NAME, 20)
    else:
        (directory / NAME).write_bytes(content)
    assert Memory.load(directory / NAME) == Memory()
    assert Desktop(directory, desk.now).scrubber.next_due() is not None


def test_what_is_gone_is_forgotten(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    desk.scrubber.check(OLD.origin.id)
    desk.scrubber._memory.dump = OLD.origin.id
    desk.store.delete(OLD.origin.id)
    assert desk.scrubber.next_due() == NEW.origin.id
    assert desk.scrubber._memory == Memory()


def test_a_verdict_that_the_index_has_lost_is_found_again_before_all_else(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    for sample in (OLD, NEW):
        desk.scrubber.check(sample.origin.id)
    assert desk.scrubber.next_due() is None
    desk.told.verdicts = {NEW.origin.id}  # by `netdump verify`
    assert desk.scrubber.next_due() is None
    desk.told.verdicts = None
    assert desk.scrubber.next_due() is None, "locked is not lost"
    assert desk.events.all("index-failed")
    desk.scrubber._save()
    desk = Desktop(directory, desk.now + 20 * DAY_S)  # a restart, after which the index is another one
    assert desk.scrubber.next_due() == NEW.origin.id, "though the other one is due too"
    desk.scrubber.check(NEW.origin.id)
    assert desk.scrubber.next_due() == OLD.origin.id
    desk.scrubber.check(OLD.origin.id)
    assert desk.scrubber.next_due() is None


def test_what_was_lost_is_read_from_its_beginning(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    memory = desk.scrubber._memory
    memory.dump, memory.offset = OLD.origin.id, OLD.chunks[5].offset
    memory.damaged = {OLD.origin.id}
    flip(segment_of(directory, OLD, 0), 400)  # before that place
    assert desk.scrubber.next_due() == OLD.origin.id
    desk.scrubber.check(OLD.origin.id)
    assert not desk.told.bad
    assert desk.scrubber.next_due() == OLD.origin.id
    desk.scrubber.check(OLD.origin.id)
    assert desk.told.bad
    assert not memory.lost


def test_what_was_lost_is_read_at_full_speed(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S, rate_bytes=1 << 30)
    desk.scrubber._rate = RATE_MIN
    desk.scrubber._memory.lost = {OLD.origin.id}
    begun = time.monotonic()
    desk.scrubber._take(RATE_MIN)
    assert desk.scrubber._next_read < begun + 0.5


def test_a_verdict_that_went_with_its_row_comes_back(folder: Path, web1: Papers, ann: Papers) -> None:
    """What `netdump verify` has found, when the row that says so rots."""
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(OLD)
        rig.events.wait("dump-complete")
    victim = segment_of(folder, OLD)
    flip(victim, victim.stat().st_size // 2)
    with LocalCatalog(folder) as catalog:
        assert not catalog.verify(OLD.origin.id).ok
    with Rig(folder, {"store": {"keep_vmcore": False}}):
        pass  # its scrub remembers that when it stops
    assert Memory.load(folder / NAME).damaged == {OLD.origin.id}
    database = sqlite3.connect(folder / INDEX_NAME)
    database.execute("UPDATE dumps SET state = 'complete'")
    database.commit()
    database.close()
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig, Desk(rig, ann) as desk:
        rig.events.wait("index-rebuilt")
        assert rig.events.wait("dump-damaged")["dump"] == OLD.origin.id
        rig.events.wait("dump-checked")
        deadline = time.monotonic() + PATIENCE_S
        while (shown := desk.get(f"/v1/dumps/{OLD.origin.id}"))["state"] != "damaged":
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
        assert victim.name in shown["remark"]


def test_a_dump_in_use_waits(directory: Path) -> None:
    desk = Desktop(directory, CREATED + 40 * DAY_S)
    with desk.store.open_writer(OLD.origin), desk.store.open_writer(NEW.origin):
        assert desk.scrubber.next_due() is None
    assert desk.scrubber.next_due() is not None


def test_an_index_is_told_of_checks_it_does_not_know_some_at_a_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever waits in its queue, hosts that ask it wait for."""
    monkeypatch.setattr(scrub, "CHECKS_AT_ONCE", 2)
    desk = Desktop(directory, CREATED)
    desk.scrubber._memory.checked = {"a": 1, "b": 2, "c": 3, "d": 4}
    desk.told.times, desk.told.is_slow = {"b": 2}, True
    thread = threading.Thread(target=desk.scrubber._tell_checks)
    thread.start()
    assert desk.told.was_told.wait(PATIENCE_S)
    thread.join(0.1)
    assert desk.told.told == ["a", "c"]
    desk.told.is_slow = False
    desk.told.pending.set_result(None)
    thread.join(PATIENCE_S)
    assert desk.told.told == ["a", "c", "d"]
    desk.told.times = {}
    desk.scrubber._stop.set()
    desk.scrubber._tell_checks()
    desk.told.verdicts = None
    desk.scrubber._tell_checks()
    assert desk.told.told == ["a", "c", "d"]
    assert len(desk.events.all("index-failed")) == 1


def test_the_index_is_told_of_one_check_before_the_next(directory: Path) -> None:
    desk = Desktop(directory, CREATED)
    desk.told.is_slow = True
    thread = threading.Thread(target=desk.scrubber.check, args=(NEW.origin.id,))
    thread.start()
    assert desk.told.was_told.wait(PATIENCE_S)
    thread.join(0.1)
    assert thread.is_alive()
    assert desk.told.told == [NEW.origin.id]
    desk.told.pending.set_result(None)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_mistake_while_the_index_is_told_does_not_end_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "REST_S", 0.0)
    desk, asked = Desktop(directory, CREATED), []

    def stumble(checks: dict[str, int]) -> dict[str, int]:
        asked.append(checks)
        if len(asked) == 1:
            raise ZeroDivisionError("a mistake")
        desk.scrubber._stop.set()
        return {}

    monkeypatch.setattr(desk.told, "untold", stumble)
    desk.scrubber._run()
    assert [each["reason"] for each in desk.events.all("scrub-failed")] == ["ZeroDivisionError: a mistake"]
    assert len(asked) == 2


def test_what_was_checked_is_remembered_before_a_rest(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be days until the next dump is due, and a machine that loses its power closes nothing."""
    desk = Desktop(directory, CREATED + DAYS * DAY_S, pass_days=DAYS)
    remembered, writes, write = list[set[str]](), list[str](), durable.write

    def noted(path: Path, data: bytes) -> None:
        writes.append(path.name)
        write(path, data)

    def rest(timeout: float | None = None) -> bool:
        if desk.scrubber._due:
            return False  # a pause between two reads
        remembered.append(set(Memory.load(directory / NAME).checked))
        if len(remembered) == 2:
            desk.scrubber._stop.set()
        return False

    monkeypatch.setattr(durable, "write", noted)
    desk.scrubber._stop.wait = rest  # type: ignore[method-assign]
    desk.scrubber._run()
    assert remembered == [{OLD.origin.id, NEW.origin.id}] * 2
    assert len(writes) == 2, "after the first check, and before the first rest"


def test_a_collector_finds_rot_by_itself(folder: Path, web1: Papers, ann: Papers) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(OLD)
        rig.events.wait("dump-complete")
    origin = Store(folder / "dumps").dump(OLD.origin.id).origin
    victim = segment_of(folder, OLD)
    flip(victim, victim.stat().st_size // 2)
    (folder / NAME).write_bytes(Memory({OLD.origin.id: origin.created - 400 * DAY_S}).pack())
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig, Desk(rig, ann) as desk:
        assert rig.events.wait("dump-damaged")["dump"] == OLD.origin.id
        rig.events.wait("dump-checked")
        for _ in range(200):
            shown = desk.get(f"/v1/dumps/{OLD.origin.id}")
            if shown["state"] == "damaged" and (shown["checked"] or "") >= shown["completed"]:
                break
            time.sleep(0.05)
        assert shown["state"] == "damaged"
        assert victim.name in shown["remark"]
        assert shown["checked"] >= shown["completed"], "not the stamp of 400 days ago"


def test_it_can_be_switched_off(folder: Path) -> None:
    with Rig(folder, {"scrub": {"enabled": False}}) as rig:
        assert rig.is_running
    assert not (folder / NAME).exists()
