"""Whether there is a seat, credit, room on the disk and a dump left for today; who waits, and for how long."""

from __future__ import annotations

import dataclasses
import socket
import sqlite3
from contextlib import closing, suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.index.gather import is_held
from netdump.index.place import NAME
from netdump.server.admission import Usage
from netdump.server.config import DAY_S, Limits
from netdump.server.reception import QUEUE_S, Reception, _Metered
from netdump.server.recorder import PROGRESS_S, Recorder
from netdump.server.seats import CREDIT_FIRST, CREDIT_LEAST, LOOK_S, MEASURED_S, Seats
from netdump.server.space import Measure
from netdump.store.files import LocalFiles
from netdump.store.layout import ORIGIN
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.sample_dump import SampleDump
from tests.server.offers import DUMP, ENDS, OTHER, code_of, vmcore
from tests.server.rig import MIB, Host, Papers, Rig
from tests.server.test_reception import wait_until

if TYPE_CHECKING:
    from pathlib import Path


THIRD = SampleDump(seed=46, image_bytes=50_000, host="web2")
ONE_EACH = {"limits": {"active_dumps_per_host": 1}}


def queued(host: Host, dump: SampleDump) -> None:
    """Offer a dump for which there is no seat, and deliver its headline."""
    answer = host.resume(dump)
    assert not answer.credit
    if not answer.headline:
        host.headline(dump)


def test_a_headline_never_waits_and_chunks_do(folder: Path, web1: Papers) -> None:
    """[W-37]: who finds no seat delivers its headline, waits, and is called when another one is through."""
    with Rig(folder, ONE_EACH) as rig, Host(rig, web1) as first, Host(rig, web1) as second:
        assert first.resume(DUMP).credit
        queued(second, OTHER)
        rig.events.wait("dump-queues")
        assert (folder / "dumps" / OTHER.origin.id / "headline").exists()
        second.say(wire.Keepalive())
        first.headline(DUMP)
        first.chunks(DUMP.chunks)
        assert isinstance(first.finish(DUMP), wire.Receipt)
        assert second.hear() == wire.Ack(0, CREDIT_FIRST)
        second.chunks(OTHER.chunks)
        assert isinstance(second.finish(OTHER), wire.Receipt)


def test_chunks_without_credit_are_a_breach(folder: Path, web1: Papers) -> None:
    with Rig(folder, ONE_EACH) as rig, Host(rig, web1) as first, Host(rig, web1) as second:
        first.resume(DUMP)
        queued(second, OTHER)
        second.say_raw(bytes(OTHER.chunks[0].frame))
        answer = second.hear()
        assert isinstance(answer, wire.Error)
        assert answer.code is wire.ErrorCode.CREDIT_EXCEEDED


def test_who_waits_longest_is_first_and_too_many_come_back(
    folder: Path, web2: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also who came back in between: what counts is when the dump was first seen."""
    monkeypatch.setattr(Seats, "pause_s", lambda _, *, has_waited: 7 if has_waited else 600)
    limits = {"active_dumps": 1, "active_dumps_per_host": 1, "waiting_dumps": 1}
    early, late = OTHER, SampleDump(seed=44, image_bytes=5_000)
    with Rig(folder, {"limits": limits}) as rig, Host(rig, web2) as first:
        first.resume(DUMP)
        with Host(rig, web2) as host:
            queued(host, early)
            rig.events.wait("dump-queues")
        rig.events.wait("dump-interrupted")
        age(folder, early)
        with Host(rig, web2) as younger, Host(rig, web2) as older:
            queued(younger, late)
            rig.events.wait("dump-queues", 2)
            queued(older, early)
            answer = younger.hear()
            assert isinstance(answer, wire.Defer), "the one that was seen last gives way"
            assert answer.seconds == 600
            assert "the headline is here" in answer.text
            first.socket.close()
            assert older.hear() == wire.Ack(0, CREDIT_FIRST)
            older.chunks(early.chunks)
            assert isinstance(older.finish(early), wire.Receipt)


def age(folder: Path, dump: SampleDump) -> None:
    """Let a dump have been seen a day earlier."""
    origin = Store(folder / "dumps").dump(dump.origin.id).origin
    path = folder / "dumps" / origin.id / "origin.json"
    path.write_bytes(dataclasses.replace(origin, created=origin.created - DAY_S).pack())


def test_a_mistake_while_a_dump_waits_ends_its_connection(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host is told, and the log what it was; the dump that arrives goes on."""

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Seats, "queue", mistaken)
    with Rig(folder, ONE_EACH) as rig, Host(rig, web1) as first, Host(rig, web1) as second:
        first.resume(DUMP)
        queued(second, OTHER)
        assert code_of(second.hear()) is wire.ErrorCode.INTERNAL
        (mistake,) = rig.mistakes
        assert mistake["message"] == "attending to a host failed"
        assert isinstance(mistake["exception"], ZeroDivisionError)
        rig.mistakes.clear()
        first.headline(DUMP)
        first.chunks(DUMP.chunks)
        assert isinstance(first.finish(DUMP), wire.Receipt)


def test_nobody_waits_for_ever(folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may have another collector to go to. It does not come back after those who found no place."""
    monkeypatch.setattr(Seats, "pause_s", lambda _, *, has_waited: 7 if has_waited else 600)
    with Rig(folder, ONE_EACH) as rig, Host(rig, web1) as first, Host(rig, web1) as second:
        first.resume(DUMP)
        queued(second, OTHER)
        rig.events.wait("dump-queues")
        heard: wire.Message | None = wire.Keepalive()
        skipped = 0
        while isinstance(heard, wire.Keepalive):
            for host in (first, second):
                host.say(wire.Keepalive())
            rig.skip(6)
            skipped += 6
            heard = second.hear_any()
        assert isinstance(heard, wire.Defer)
        assert heard.seconds == 7
        assert skipped >= QUEUE_S


def test_a_slow_line_keeps_nobody_waiting(folder: Path, web1: Papers, web2: Papers) -> None:
    with Rig(folder, {"limits": {"active_dumps": 1}}) as rig, Host(rig, web1) as first, Host(rig, web2) as second:
        first.resume(DUMP)
        queued(second, OTHER)
        rig.events.wait("dump-queues")
        rig.skip(LOOK_S)
        assert second.hear() == wire.Ack(0, CREDIT_LEAST)
        second.chunks(OTHER.chunks)
        assert isinstance(second.finish(OTHER), wire.Receipt)
        first.headline(DUMP)
        first.chunks(DUMP.chunks)
        assert isinstance(first.finish(DUMP), wire.Receipt)


def test_one_look_at_those_who_sit_is_due_however_many_wait(
    folder: Path, web1: Papers, web2: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes from the next what it has to judge by."""
    due: list[Reception] = []

    def note(self: Reception) -> None:
        due.append(self)

    monkeypatch.setattr(Reception, "_look_later", note)
    with Rig(folder, {"limits": {"active_dumps": 1}}) as rig, Host(rig, web1) as first:
        first.resume(DUMP)
        with Host(rig, web2) as second, Host(rig, web2) as third:
            queued(second, OTHER)
            queued(third, THIRD)
            rig.events.wait("dump-queues", 2)
    assert len(due) == 1


def test_the_pace_of_a_dump_is_that_since_it_was_seated() -> None:
    """Who waits for a seat, or has only just sat down, has none."""
    arrival, seat = SimpleNamespace(taken_bytes=0), SimpleNamespace(taken=False, since=16.0)
    metered = _Metered(arrival, seat)  # type: ignore[arg-type]
    assert metered.pace(10, 20) is None
    seat.taken, arrival.taken_bytes = True, 8000
    assert metered.pace(10, 20) == 2000
    arrival.taken_bytes = 9000
    assert metered.pace(20, 22) == 500
    assert metered.pace(22, 22 + MEASURED_S / 2) is None


def test_a_dump_of_which_all_is_here_needs_no_seat(folder: Path, web1: Papers, web2: Papers) -> None:
    with Rig(folder, {"limits": {"active_dumps": 1}}) as rig:
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.headline(DUMP)
            host.chunks(DUMP.chunks)
            host.await_ack(DUMP.origin.image_bytes)
        rig.events.wait("dump-interrupted")
        with Host(rig, web2) as busy, Host(rig, web1) as host:
            busy.resume(OTHER)
            answer = host.resume(DUMP)
            assert answer.offset == DUMP.origin.image_bytes
            assert answer.credit
            assert isinstance(host.finish(DUMP), wire.Receipt)


def test_credit_is_shared(folder: Path, web1: Papers, web2: Papers) -> None:
    """The more dumps arrive, the less each may have on its way; what one leaves, the others get."""
    settings = {"ingest": {"credit_total_bytes": 8 << 20, "credit_bytes": 8 << 20}}
    with Rig(folder, settings) as rig, Host(rig, web1) as first:
        assert first.resume(DUMP).credit == 8 << 20
        first.headline(DUMP)
        with Host(rig, web2) as second:
            assert second.resume(OTHER).credit == 4 << 20
            first.say(DUMP.chunks[0])
            first.await_ack(DUMP.chunks[0].length)
            assert first.wire.credit == 4 << 20
        rig.events.wait("dump-interrupted")
        first.say(DUMP.chunks[1])
        first.await_ack(DUMP.chunks[1].offset + DUMP.chunks[1].length)
        assert first.wire.credit == 8 << 20


@pytest.mark.parametrize("answers", [True, False], ids=["the-index-knows", "the-index-does-not-answer"])
def test_dumps_a_day(
    folder: Path, web1: Papers, web2: Papers, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    if not answers:
        monkeypatch.setattr(Recorder, "usage", lambda *_: Usage(0, 0, known=False))
    with Rig(folder, {"limits": {"dumps_per_host_per_day": 2}}) as rig:
        for number in range(3):
            with Host(rig, web1) as host:
                answer = host.hello(SampleDump(seed=50 + number, image_bytes=5_000))
                if number < 2:
                    assert isinstance(answer, wire.Resume)
                else:
                    assert code_of(answer) is wire.DeclineCode.QUOTA
            if number < 2:
                rig.events.wait("dump-interrupted", number + 1)
        with Host(rig, web1) as host:
            assert isinstance(host.hello(SampleDump(seed=50, image_bytes=5_000)), wire.Resume), "known already"
        with Host(rig, web2) as host:
            assert isinstance(host.hello(OTHER), wire.Resume), "another host"


def was_opened(place: Path) -> bool:
    """Whether a dump was made there, and is not held any more."""
    return (place / ORIGIN).exists() and not is_held(place)


def test_dumps_a_day_of_a_host_that_does_not_wait_for_its_answer(folder: Path, web1: Papers) -> None:
    """What it has offered is there, and is in the index, so it counts."""
    dumps = [SampleDump(seed=50 + number, image_bytes=5_000) for number in range(3)]
    with Rig(folder, {"limits": {"dumps_per_host_per_day": 2}}) as rig:
        for dump in dumps[:2]:
            with Host(rig, web1) as host:
                # In one piece, so that the end is seen with HELLO: then nothing is read before the answer.
                host.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                host.say(wire.Hello(dump.dump_id, 5_000, 4096, 0))
                with suppress(OSError):
                    host.socket.unwrap()
            wait_until(partial(was_opened, folder / "dumps" / dump.origin.id))
        assert not rig.events.all("dump-arrives")
        with Host(rig, web1) as host:
            assert code_of(host.hello(dumps[2])) is wire.DeclineCode.QUOTA


def test_what_a_host_may_store_while_the_index_does_not_answer(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts what it knew last, and what came since: a host can keep it from answering."""
    usages = [Usage(0, Limits().stored_bytes_per_host - 160_000)]
    monkeypatch.setattr(Recorder, "usage", lambda *_: usages.pop() if usages else Usage(0, 0, known=False))
    with Rig(folder, {"store": {"publish_s": 1}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(DUMP)  # 150,000 bytes
        with Host(rig, web1) as host:
            host.resume(OTHER)
            host.headline(OTHER)
            host.chunks(OTHER.chunks)  # 39,000 bytes
            host.await_ack(OTHER.origin.image_bytes)
            assert code_of(host.hear()) is wire.ErrorCode.STORAGE
        rig.events.wait("dump-interrupted")
        with Host(rig, web1) as host:
            answer = host.hello(OTHER)
            assert isinstance(answer, wire.Defer), "not for good: it may have been given room meanwhile"
            assert "all the space" in answer.text


def test_an_index_that_did_not_answer_knows_what_is_stored(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dump that goes on also what was there before, for as long as it arrives."""
    with Rig(folder, {"store": {"publish_s": 1}}) as rig:
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.headline(DUMP)
            host.chunks(DUMP.chunks[:10])
            host.await_ack(ENDS[10])
        rig.events.wait("dump-interrupted")
        monkeypatch.setattr(Recorder, "_ask", lambda _self, _work, otherwise: otherwise)
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.chunks(DUMP.chunks[10:12])
            host.await_ack(ENDS[12])
            rig.skip(PROGRESS_S + 0.1)
            stored = sum(path.stat().st_size for path in (folder / "dumps").rglob("*.seg"))
            wait_until(lambda: sqlite_stored(folder) == stored)


def sqlite_stored(folder: Path) -> int:
    """What the index says that all dumps take up."""
    with closing(sqlite3.connect(folder / NAME)) as database:
        (stored,) = database.execute("SELECT sum(stored_bytes) FROM dumps").fetchone()
    return int(stored)


def test_dumps_at_the_same_time_share_what_their_host_may_store(
    folder: Path, web1: Papers, web2: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was let in while there was room for any one of them."""
    limits = Limits()
    known = Usage(0, limits.stored_bytes_per_host - 160_000)
    monkeypatch.setattr(Recorder, "usage", lambda *_: known)
    with Rig(folder, {"store": {"publish_s": 1}}) as rig:
        with Host(rig, web1) as first, Host(rig, web1) as second, Host(rig, web2) as another:
            for host, dump in ((first, DUMP), (second, OTHER), (another, THIRD)):
                host.resume(dump)
                host.headline(dump)
            first.chunks(DUMP.chunks)  # 150,000 bytes
            first.await_ack(ENDS[-1])
            second.chunks(OTHER.chunks)  # 39,000 bytes
            second.await_ack(OTHER.origin.image_bytes)
            assert code_of(second.hear()) is wire.ErrorCode.STORAGE
            another.chunks(THIRD.chunks)
            assert isinstance(another.finish(THIRD), wire.Receipt)
        rig.events.wait("dump-interrupted", 2)
        with Host(rig, web1) as host:  # the index is asked anew
            assert host.resume(OTHER).offset == OTHER.origin.image_bytes
            assert isinstance(host.finish(OTHER), wire.Receipt)


def test_low_space_defers_new_dumps_behind_their_headlines_and_holds_running_ones(
    folder: Path, web1: Papers, web2: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who are told to come back do so one after another, as those for whom there is no seat."""
    monkeypatch.setattr(Seats, "pause_s", lambda _, *, has_waited: 7 if has_waited else 77)
    room = [Measure(1 << 40, 1 << 41)]
    with (
        Rig(folder, {"space": SPACE, "store": {"publish_s": 1}}, measure=lambda: room[0]) as rig,
        Host(rig, web1) as host,
    ):
        host.resume(DUMP)
        host.headline(DUMP)
        host.chunks(DUMP.chunks[:4])
        host.await_ack(ENDS[4])
        room[0] = Measure(40 * MIB, 1 << 41)  # low: new ones wait, this one goes on
        with Host(rig, web2) as newcomer:
            assert newcomer.resume(OTHER).credit == 0
            newcomer.headline(OTHER)
            answer = newcomer.hear()
            assert isinstance(answer, wire.Defer)
            assert answer.text == "the headline is here; the collector is short of space, see [space] in its settings"
            assert answer.seconds == 77
        rig.events.wait("dump-interrupted")
        assert Store(folder / "dumps").dump(OTHER.origin.id).headline() is not None
        with Host(rig, web2) as newcomer:
            assert newcomer.hello(OTHER) == answer, "once is enough, but of its pages there is none, so it is new"
        assert len(rig.events.all("dump-arrives")) == 2, "what can only be put off need not be opened"
        host.chunks(DUMP.chunks[4:8])
        host.await_ack(ENDS[8])
        room[0] = Measure(0, 1 << 41)  # none: it waits, alive
        host.chunks(DUMP.chunks[8:])
        host.say(wire.Finish(400_000, len(DUMP.chunks), DUMP.root))
        rig.events.wait("dump-waits")
        for _ in range(4):
            rig.skip(5.1)
            assert isinstance(host.hear_any(), wire.Keepalive)
            host.say(wire.Keepalive())
        with Host(rig, web2) as newcomer:
            assert isinstance(newcomer.hello(OTHER), wire.Defer)
        room[0] = Measure(1 << 40, 1 << 41)
        rig.skip(SPACE["check_s"])
        answer = host.hear()
        while isinstance(answer, wire.Ack):
            answer = host.hear()
        assert isinstance(answer, wire.Receipt)
        rig.events.wait("dump-restored")
    assert vmcore(folder, DUMP) == DUMP.image


def test_low_space_holds_no_dump_that_the_index_does_not_know(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is locked, or away: what is stored of a dump says the store."""
    room = [Measure(1 << 40, 1 << 41)]
    with Rig(folder, {"space": SPACE, "store": {"publish_s": 1}}, measure=lambda: room[0]) as rig:
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.headline(DUMP)
            host.chunks(DUMP.chunks[:4])
            host.await_ack(ENDS[4])
        rig.events.wait("dump-interrupted")
        room[0] = Measure(40 * MIB, 1 << 41)
        monkeypatch.setattr(Recorder, "_ask", lambda _recorder, _work, otherwise: otherwise)
        with Host(rig, web1) as host:
            resume = host.resume(DUMP)
            assert (resume.offset, resume.credit) == (ENDS[4], CREDIT_FIRST)
            host.chunks(DUMP.chunks[4:])
            assert isinstance(host.finish(DUMP), wire.Receipt)


def test_low_space_takes_a_headline_for_one_that_is_damaged(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Measure(40 * MIB, 1 << 41)
    with Rig(folder, {"space": SPACE}, measure=lambda: room) as rig:
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.headline(DUMP)
            assert isinstance(host.hear(), wire.Defer)
        rig.events.wait("dump-interrupted")
        (folder / "dumps" / DUMP.origin.id / "headline").write_bytes(b"rotten")
        monkeypatch.setattr(Recorder, "is_damaged", lambda *_: True)
        with Host(rig, web1) as host:
            assert not host.resume(DUMP).headline
            host.headline(DUMP)
            assert isinstance(host.hear(), wire.Defer)
    assert Store(folder / "dumps").dump(DUMP.origin.id).headline() is not None


def test_a_disk_that_takes_no_more_files(folder: Path, web1: Papers) -> None:
    room = [Measure(1 << 40, 1 << 41, 0, 1 << 20)]
    space = SPACE | {"min_free_percent": 2, "admit_free_percent": 5}
    with Rig(folder, {"space": space}, measure=lambda: room[0]) as rig:
        with Host(rig, web1) as host:
            answer = host.hello(DUMP)
            assert isinstance(answer, wire.Defer)
            assert answer.text == "the collector is short of inodes, see [space] in its settings"
        room[0] = room[0]._replace(free_files=40_000)
        with Host(rig, web1) as host:
            assert host.resume(DUMP).credit == 0
            host.headline(DUMP)
            answer = host.hear()
            assert isinstance(answer, wire.Defer)
            assert answer.text is not None
            assert "short of inodes" in answer.text
        room[0] = room[0]._replace(free_files=1 << 19)
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)


SPACE = {
    "min_free_bytes": 16 * MIB,
    "min_free_percent": 0,
    "admit_free_bytes": 64 * MIB,
    "admit_free_percent": 0,
    "check_s": 20,
}


def test_a_full_disk_that_nobody_saw_coming(folder: Path, web1: Papers) -> None:
    files = FaultyFiles(LocalFiles(folder / "dumps"))
    with Rig(folder, {"store": {"keep_vmcore": False, "publish_s": 1}}, files=files) as rig:
        with Host(rig, web1) as host:
            host.resume(DUMP)
            host.headline(DUMP)
            host.chunks(DUMP.chunks[:4])
            host.await_ack(ENDS[4])
            files.fill_up()
            host.chunks(DUMP.chunks[4:])
            assert code_of(host.hear()) is wire.ErrorCode.STORAGE
        rig.events.wait("dump-interrupted")
        with Host(rig, web1) as host:
            assert isinstance(host.hello(DUMP), wire.Defer)
        files.make_room()
        with Host(rig, web1) as host:
            assert host.resume(DUMP).offset == ENDS[4]
            host.chunks(DUMP.chunks[4:])
            assert isinstance(host.finish(DUMP), wire.Receipt)
        rig.events.wait("dump-complete")
    store = Store(folder / "dumps")
    assert store.dump(DUMP.origin.id).verify().ok
