from __future__ import annotations

import pytest

from netdump.errors import RemoteProtocolError
from netdump.wire import CREDIT_MIN, Ack, Chunk, Finish
from netdump.wire._stream import Stream
from tests.wire.examples import RESUME, chunk

MIB = 1 << 20
COST = MIB + 4096


def stream(credit: int = 2 * CREDIT_MIN, offset: int = 0) -> Stream:
    return Stream(RESUME._replace(offset=offset, chunks=bool(offset), credit=credit), 64 * MIB)


def add(to: Stream, raw_bytes: int = MIB, length: int = MIB) -> None:
    """A chunk, whatever its data; the stream is told."""
    one = Chunk(to.offset, length, b"", b"", chunk(0, 1).codec, b"")
    to.check_chunk(one)
    to.add(one, raw_bytes)


def test_account() -> None:
    one = stream(offset=MIB)
    assert (one.offset, one.acked_offset, one.chunks, one.cost) == (MIB, MIB, 1, 0)
    add(one)
    add(one, raw_bytes=0)
    assert (one.offset, one.acked_offset, one.chunks, one.cost) == (3 * MIB, MIB, 3, COST + 4096)
    one.acknowledge(Ack(2 * MIB))
    assert (one.acked_offset, one.acked_cost) == (2 * MIB, COST)
    one.acknowledge(Ack(3 * MIB))
    assert (one.acked_offset, one.acked_cost) == (3 * MIB, one.cost)


@pytest.mark.parametrize(
    ("offset", "length", "reason"),
    [(1, 1, "bad-order"), (MIB - 1, 1, "bad-order"), (MIB, 63 * MIB + 1, "bad-field"), (MIB, 63 * MIB, "")],
)
def test_order(offset: int, length: int, reason: str) -> None:
    one = stream(offset=MIB)
    check = Chunk(offset, length, b"", b"", chunk(0, 1).codec, b"")
    if not reason:
        one.check_chunk(check)
        return
    with pytest.raises(RemoteProtocolError) as caught:
        one.check_chunk(check)
    assert caught.value.reason == reason


@pytest.mark.parametrize("offset", [0, MIB - 1, MIB + 1, 2 * MIB - 1, 4 * MIB, 1 << 63])
def test_bad_ack_changes_nothing(offset: int) -> None:
    one = stream()
    for _ in range(3):
        add(one)
    one.acknowledge(Ack(MIB))
    with pytest.raises(RemoteProtocolError) as caught:
        one.acknowledge(Ack(offset, CREDIT_MIN))
    assert caught.value.reason == "bad-ack"
    assert (one.acked_offset, one.acked_cost, one.credit) == (MIB, COST, 2 * CREDIT_MIN)


def test_credit_is_used_up_and_freed() -> None:
    one = stream(credit=2 * COST)
    add(one)
    assert one.may_send(MIB)
    assert one.may_receive(MIB)
    add(one)
    assert not one.may_send(0)
    assert not one.may_receive(0)
    one.acknowledge(Ack(MIB))
    assert one.may_send(MIB)
    assert not one.may_send(MIB + 1)


def test_lowered_credit_binds_the_client_at_once_and_the_collector_later() -> None:
    """[W-57]: what was granted is not taken back from chunks that are on their way."""
    one = stream(credit=4 * COST)
    add(one)
    one.acknowledge(Ack(0, 2 * COST))
    assert one.may_send(MIB)
    add(one)
    assert not one.may_send(0)
    assert one.may_receive(2 * MIB + 4096)
    assert not one.may_receive(2 * MIB + 4097)
    one.acknowledge(Ack(2 * MIB))
    assert one.may_send(2 * MIB + 4096)
    assert not one.may_send(2 * MIB + 4097)
    add(one)
    add(one)
    assert not one.may_receive(0)
    one.acknowledge(Ack(3 * MIB))
    assert one.may_receive(MIB)
    assert not one.may_receive(MIB + 1)


def test_finish() -> None:
    one = stream()
    add(one, raw_bytes=0, length=32 * MIB)
    with pytest.raises(RemoteProtocolError) as early:
        one.check_finish(Finish(64 * MIB, 1, b""))
    add(one, raw_bytes=0, length=32 * MIB)
    for wrong in (Finish(64 * MIB, 1, b""), Finish(64 * MIB - 1, 2, b"")):
        with pytest.raises(RemoteProtocolError) as other:
            one.check_finish(wrong)
        assert other.value.reason == "bad-root"
    assert early.value.reason == "bad-order"
    one.check_finish(Finish(64 * MIB, 2, b""))
