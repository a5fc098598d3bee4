"""Dumps that go on: after cuts, from another connection, to the receipt; fencing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.pki import check_receipt
from netdump.server.reception import ANSWER_S
from netdump.server.seats import CREDIT_FIRST
from netdump.server.space import Measure
from tests.server.offers import DUMP, ENDS, OTHER, code_of, vmcore
from tests.server.rig import PATIENCE_S, Host, Papers, Rig

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_dump_is_not_busy_any_more_when_what_the_older_brought_is_stored(folder: Path, web1: Papers) -> None:
    """Who came meanwhile was told that it is."""
    disk = threading.Event()

    def measure() -> Measure:
        assert disk.wait(PATIENCE_S)
        return Measure(1 << 40, 1 << 41)

    with Rig(folder, measure=measure) as rig, Host(rig, web1) as older:
        disk.set()
        older.resume(DUMP)
        disk.clear()
        try:
            older.headline(DUMP)
            with Host(rig, web1) as newer:
                newer.say(wire.Hello(DUMP.dump_id, 400_000, 4096, 0))
                rig.events.wait("dump-fenced")
                rig.skip(ANSWER_S + 0.1)
                assert isinstance(newer.hear(), wire.Defer)
        finally:
            disk.set()
        rig.events.wait("dump-interrupted")
        with Host(rig, web1) as last:
            assert isinstance(last.hello(DUMP), wire.Resume)


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
