"""HELLO and its answers: whose dump it is, who else is at it, whether there is a seat; fencing; receipts."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from netdump import wire
from netdump.errors import DumpNotFoundError
from netdump.pki import check_receipt
from netdump.server.config import DAY_S
from netdump.server.reception import ANSWER_S, QUEUE_S
from netdump.server.seats import CREDIT_FIRST
from netdump.server.space import Measure
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import MIB, PATIENCE_S, Desk, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.store.origin import Origin
    from netdump.store.writer import DumpWriter

DUMP = SampleDump(seed=41, image_bytes=400_000, chunk_bytes=16_384)
OTHER = SampleDump(seed=42, image_bytes=50_000)
ENDS = [0, *(chunk.offset + chunk.length for chunk in DUMP.chunks)]


def vmcore(folder: Path, dump: SampleDump) -> bytes:
    return (folder / "dumps" / dump.origin.id / "vmcore").read_bytes()


def code_of(answer: wire.Message | None) -> object:
    assert isinstance(answer, wire.Decline | wire.Error), answer
    return answer.code


# Going on


def test_a_dump_is_received_restored_and_signed_for(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1) as host:
        receipt = host.send_all(DUMP)
        assert receipt.root == DUMP.root
        rig.events.wait("dump-restored")
    assert vmcore(folder, DUMP) == DUMP.image
    fields = check_receipt(receipt.document, (folder / "pki" / "ca.crt").read_bytes())
    assert (fields["id"], fields["host"], fields["root"]) == (DUMP.origin.id, "web1", DUMP.root.hex())
    assert (fields["collector"], fields["image_bytes"]) == ("localhost", 400_000)
    assert (folder / "dumps" / DUMP.origin.id / "receipt.json").read_bytes() == receipt.document


@pytest.mark.parametrize("after", [0, 1, 7, len(DUMP.chunks) - 1, len(DUMP.chunks)])
def test_after_a_cut_it_goes_on_where_it_was(folder: Path, web1: Papers, after: int) -> None:
    with Rig(folder) as rig:
        with Host(rig, web1) as host:
            assert host.resume(DUMP) == wire.Resume(
                0, wire.chain_start(DUMP.dump_id, 400_000), 0, headline=False, credit=CREDIT_FIRST, keepalive=5, idle=30
            )
            host.headline(DUMP)
            host.chunks(DUMP.chunks[:after])
        rig.events.wait("dump-interrupted")
        with Host(rig, web1) as host:
            resume = host.resume(DUMP)
            assert resume.headline
            assert (resume.offset, resume.chunks) == (ENDS[after], after)
            assert resume.chain == DUMP.chain_at(DUMP.chunks[:after])
            rest = list(DUMP.cut(resume.offset, seed=99))  # cut otherwise than before
            host.chunks(rest)
            root = DUMP.root_of([*DUMP.chunks[:after], *rest])
            assert isinstance(host.finish(DUMP, root), wire.Receipt)
        rig.events.wait("dump-restored")
    assert vmcore(folder, DUMP) == DUMP.image


def test_a_cut_at_any_byte(folder: Path, web1: Papers) -> None:
    """The stream is cut within frames, again and again; all that was whole before a cut is there after it."""
    with Rig(folder) as rig:
        attempt, offset = 0, 0
        while offset < len(DUMP.image):
            with Host(rig, web1) as host:
                resume = host.resume(DUMP)
                assert resume.offset == offset
                if not resume.headline:
                    host.headline(DUMP)
                frames = b"".join(chunk.frame for chunk in DUMP.chunks if chunk.offset >= offset)
                host.say_raw(frames[: 9_000 + 7_919 * attempt])
            attempt += 1
            last = rig.events.wait("dump-interrupted", attempt)["offset"]
            assert isinstance(last, int)
            whole = 0
            for chunk in DUMP.chunks:
                if chunk.offset >= offset:
                    whole += len(chunk.frame)
                    if whole <= 9_000 + 7_919 * (attempt - 1):
                        assert last >= chunk.offset + chunk.length
            offset = last
        assert attempt > 3
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)


def test_a_complete_dump_is_answered_with_its_receipt_at_once(folder: Path, web1: Papers) -> None:
    free = Measure(1 << 40, 1 << 41)
    room = [free]
    limits = {"active_dumps": 1, "active_dumps_per_host": 1, "dumps_per_host_per_day": 1}
    with Rig(folder, {"limits": limits, "store": {"keep_vmcore": False}}, measure=lambda: room[0]) as rig:
        with Host(rig, web1) as host:
            first = host.send_all(OTHER)
        rig.events.wait("dump-complete")
        (folder / "dumps" / OTHER.origin.id / "headline").stat()
        with Host(rig, web1) as host:
            assert host.hello(DUMP) is not None  # quota: a second dump today
        room[0] = Measure(0, 1 << 41)  # and no room at all
        with Host(rig, web1) as host:
            assert host.hello(OTHER, attempt=5, agent="another") == first
            assert host.ended()


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_receipt_that_was_never_made_is_made_later(folder: Path, web1: Papers, left: str) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        with Host(rig, web1) as host:
            host.send_all(OTHER)
        rig.events.wait("dump-complete")
        receipt = folder / "dumps" / OTHER.origin.id / "receipt.json"
        receipt.unlink()
        if left == "an empty file":
            receipt.touch(0o600)
        with Host(rig, web1) as host:
            again = host.hello(OTHER)
        assert isinstance(again, wire.Receipt)
        assert check_receipt(again.document, (folder / "pki" / "ca.crt").read_bytes())["id"] == OTHER.origin.id


def test_a_receipt_that_cannot_be_signed_now(folder: Path, web1: Papers) -> None:
    with Rig(folder, {"store": {"keep_vmcore": False}}) as rig:
        key = folder / "pki" / "collector.key"
        key.rename(folder / "elsewhere")
        with Host(rig, web1) as host:
            host.resume(OTHER)
            host.headline(OTHER)
            host.chunks(OTHER.chunks)
            assert code_of(host.finish(OTHER)) is wire.ErrorCode.INTERNAL
        assert "collector.key" in str(rig.events.wait("dump-complete")["reason"])
        with Host(rig, web1) as host:
            assert isinstance(host.hello(OTHER), wire.Defer)
        (folder / "elsewhere").rename(key)
        with Host(rig, web1) as host:
            assert isinstance(host.hello(OTHER), wire.Receipt)


# Refusals


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
def test_a_damaged_dump(folder: Path, web1: Papers, what: str) -> None:
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


# Left by a collector that did not live to write the origin


@pytest.mark.parametrize("left", ["nothing", "segments", "half an origin"])
def test_a_folder_without_origin_is_a_new_dump(folder: Path, web1: Papers, left: str) -> None:
    place = folder / "dumps" / DUMP.origin.id
    with Rig(folder) as rig:
        place.mkdir()
        if left != "nothing":
            (place / "segments").mkdir()
            (place / "lock").touch(0o600)
        if left == "half an origin":
            (place / "origin.json.partial").write_bytes(b'{"age')
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


def queued(host: Host, dump: SampleDump) -> None:
    """Offer a dump for which there is no seat, and deliver its headline."""
    answer = host.resume(dump)
    assert not answer.credit
    if not answer.headline:
        host.headline(dump)


def test_a_headline_never_waits_and_chunks_do(folder: Path, web1: Papers, web2: Papers) -> None:
    """[W-37]: who finds no seat delivers its headline, waits, and is called when another one is through."""
    with Rig(folder, {"limits": {"active_dumps": 1}}) as rig, Host(rig, web1) as first, Host(rig, web2) as second:
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


def test_chunks_without_credit_are_a_breach(folder: Path, web1: Papers, web2: Papers) -> None:
    with Rig(folder, {"limits": {"active_dumps": 1}}) as rig, Host(rig, web1) as first, Host(rig, web2) as second:
        first.resume(DUMP)
        queued(second, OTHER)
        second.say_raw(bytes(OTHER.chunks[0].frame))
        answer = second.hear()
        assert isinstance(answer, wire.Error)
        assert answer.code is wire.ErrorCode.CREDIT_EXCEEDED


def test_who_waits_longest_is_first_and_too_many_come_back(folder: Path, web1: Papers, web2: Papers) -> None:
    """Also who came back in between: what counts is when the dump was first seen."""
    limits = {"active_dumps": 1, "active_dumps_per_host": 1, "waiting_dumps": 1, "defer_s": 33}
    early, late = OTHER, SampleDump(seed=44, image_bytes=5_000)
    with Rig(folder, {"limits": limits}) as rig, Host(rig, web1) as first:
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
            assert answer.seconds == 33
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


def test_nobody_waits_for_ever(folder: Path, web1: Papers, web2: Papers) -> None:
    """A host may have another collector to go to."""
    with Rig(folder, {"limits": {"active_dumps": 1}}) as rig, Host(rig, web1) as first, Host(rig, web2) as second:
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
        assert skipped >= QUEUE_S


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


def test_dumps_a_day(folder: Path, web1: Papers, web2: Papers) -> None:
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


# Space and faults


def test_low_space_defers_new_dumps_and_holds_running_ones(folder: Path, web1: Papers, web2: Papers) -> None:
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
            assert isinstance(newcomer.hello(OTHER), wire.Defer)
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


# Fencing


def test_a_newer_connection_fences_the_older(folder: Path, web1: Papers) -> None:  # [W-77]
    with Rig(folder, {"store": {"publish_s": 1}}) as rig, Host(rig, web1) as older:
        older.resume(DUMP)
        older.headline(DUMP)
        older.chunks(DUMP.chunks[:5])
        older.await_ack(ENDS[5])
        with Host(rig, web1) as newer:
            resume = newer.resume(DUMP)
            assert resume.offset == ENDS[5]
            assert code_of(older.hear()) is wire.ErrorCode.FENCED
            # Whatever the older one still says is not heard.
            older.say_raw(bytes(DUMP.chunks[5].frame))
            newer.chunks(DUMP.chunks[5:])
            assert isinstance(newer.finish(DUMP), wire.Receipt)
        rig.events.wait("dump-restored")
        assert len(rig.events.all("dump-fenced")) == 1
    assert vmcore(folder, DUMP) == DUMP.image


def test_what_the_older_brought_counts(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1) as older:
        older.resume(DUMP)
        older.headline(DUMP)
        older.chunks(DUMP.chunks)
        older.say(wire.Finish(400_000, len(DUMP.chunks), DUMP.root))
        with Host(rig, web1) as newer:
            answer = newer.hello(DUMP)
            # Whatever of it had arrived when the newer connection came: it is a prefix, or all of it.
            assert isinstance(answer, wire.Receipt) or (isinstance(answer, wire.Resume) and answer.offset in ENDS)


def test_a_crowd_of_connections_of_one_dump(folder: Path, web1: Papers) -> None:
    """Many at the same time: each is answered or fenced, one remains, and the dump is whole."""
    done: list[object] = []

    def attempt(rig: Rig) -> None:
        with Host(rig, web1) as host:
            try:
                answer = host.hello(DUMP)
                if isinstance(answer, wire.Resume):
                    if not answer.headline:
                        host.headline(DUMP)
                    host.chunks(chunk for chunk in DUMP.chunks if chunk.offset >= answer.offset)
                    answer = host.finish(DUMP)
                done.append(answer)
            except (AssertionError, OSError) as error:  # fenced while it was sending
                done.append(error)

    with Rig(folder) as rig:
        threads = [threading.Thread(target=attempt, args=(rig,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        with Host(rig, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        rig.events.wait("dump-restored")
        assert rig.collector.ingest_address.port
    assert len(done) == 6
    assert vmcore(folder, DUMP) == DUMP.image


# Slow opening


def test_a_dump_that_takes_long_to_open_is_deferred_and_let_go(folder: Path, web1: Papers) -> None:
    gate, entered = threading.Event(), threading.Event()

    def slow(open_writer: Callable[[Store, Origin], DumpWriter]) -> Callable[[Store, Origin], DumpWriter]:
        def opened(store: Store, origin: Origin, **options: Any) -> DumpWriter:
            entered.set()
            assert gate.wait(PATIENCE_S)
            return open_writer(store, origin, **options)

        return opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open_writer", slow(Store.open_writer))
        with Rig(folder) as rig:
            with Host(rig, web1) as host:
                hello = wire.Hello(DUMP.dump_id, 400_000, 4096, 0)
                host.say(hello)
                assert entered.wait(PATIENCE_S)
                rig.skip(ANSWER_S + 0.1)
                assert isinstance(host.hear(), wire.Defer)
            gate.set()
            with Host(rig, web1) as host:
                assert isinstance(host.hello(DUMP), wire.Resume), "the dump was let go, its seat too"


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
