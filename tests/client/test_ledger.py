from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.client.ledger import Boundary, Ledger
from netdump.errors import RemoteProtocolError
from netdump.wire import Resume, chain_link, chain_start

ID = bytes(16)
SIZE = 1000


def resume(offset: int, chunks: int, chain: bytes) -> Resume:
    return Resume(offset, chain, chunks, True, 1 << 21, 1, 3)


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def chains(count: int) -> list[bytes]:
    found = [chain_start(ID, SIZE)]
    for number in range(count):
        found.append(chain_link(found[-1], digest(number)))
    return found


def sent(count: int) -> Ledger:
    """A ledger after so many chunks of 10 bytes."""
    ledger = Ledger(ID, SIZE)
    for number in range(count):
        ledger.add(10, digest(number))
    return ledger


def test_links_the_chain() -> None:
    assert sent(3).last == Boundary(30, 3, chains(3)[3])


@pytest.mark.parametrize("chunks", range(6))
def test_resume_at_a_known_boundary(chunks: int) -> None:
    ledger = sent(5)
    ledger.resume(resume(10 * chunks, chunks, chains(5)[chunks]))
    assert ledger.last == Boundary(10 * chunks, chunks, chains(5)[chunks])


@pytest.mark.parametrize("chunks", range(6))
def test_a_wrong_chain_at_a_known_boundary_is_a_breach(chunks: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        sent(5).resume(resume(10 * chunks, chunks, bytes(32)))
    assert caught.value.reason == "bad-root"


def test_the_start_is_known_for_ever() -> None:
    ledger = sent(5)
    ledger.acknowledge(50)
    with pytest.raises(RemoteProtocolError):
        ledger.resume(resume(0, 0, bytes(32)))


@pytest.mark.parametrize(("offset", "chunks"), [(30, 4), (25, 3), (900, 90), (0, 1)])
def test_anything_else_is_obeyed(offset: int, chunks: int) -> None:
    ledger = sent(5)
    ledger.resume(resume(offset, chunks, bytes(32)))
    assert ledger.last == (offset, chunks, bytes(32))


def test_chunks_after_the_resume_offset_count_as_never_sent() -> None:
    ledger = sent(5)
    ledger.resume(resume(20, 2, chains(5)[2]))
    ledger.add(10, digest(77))  # the third chunk reads otherwise now
    ledger.resume(resume(30, 3, chain_link(chains(5)[2], digest(77))))
    with pytest.raises(RemoteProtocolError):
        ledger.resume(resume(30, 3, chains(5)[3]))


def test_the_first_chunk_that_is_acknowledged_is_progress() -> None:
    assert sent(1).acknowledge(10)


def test_acknowledged_chunks_are_forgotten() -> None:
    ledger = sent(5)
    assert ledger.acknowledge(30)
    assert not ledger.acknowledge(30)
    ledger.resume(resume(10, 1, bytes(32)))  # a collector that lost what it promised: obeyed
    assert ledger.last.offset == 10


@settings(derandomize=True, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 50), st.just("ack"), st.just("cut")), max_size=60), st.data())
def test_a_collector_that_keeps_what_it_got_is_never_accused(steps: list[int | str], data: st.DataObject) -> None:
    ledger = Ledger(ID, SIZE)
    truth = [Boundary(0, 0, chain_start(ID, SIZE))]
    acked = 0
    for number, step in enumerate(steps):
        if isinstance(step, int):
            ledger.add(step, digest(number))
            last = truth[-1]
            truth.append(Boundary(last.offset + step, last.chunks + 1, chain_link(last.chain, digest(number))))
        else:
            acked = data.draw(st.integers(acked, len(truth) - 1))
            if step == "ack":
                ledger.acknowledge(truth[acked].offset)
            else:
                del truth[acked + 1 :]
                ledger.resume(resume(*truth[acked][:2], truth[acked].chain))
        assert ledger.last == truth[-1]


def test_the_root_that_a_receipt_must_have() -> None:
    ledger = sent(2)
    ledger.check_receipt(b"x" * 32)  # nothing is known yet
    ledger.finish(b"a" * 32)
    assert ledger.finished
    ledger.check_receipt(b"a" * 32)
    with pytest.raises(RemoteProtocolError) as caught:
        ledger.check_receipt(b"x" * 32)
    assert caught.value.reason == "bad-root"
    ledger.resume(resume(10, 1, chains(2)[1]))  # it goes on: FINISH did not get there
    ledger.check_receipt(b"x" * 32)


def test_after_another_sender_only_what_was_acknowledged_is_known() -> None:
    ledger = sent(5)
    ledger.acknowledge(20)
    ledger.finish(b"a" * 32)
    ledger.fenced()
    assert not ledger.finished
    ledger.check_receipt(b"x" * 32)  # of the other one
    with pytest.raises(RemoteProtocolError):
        ledger.resume(resume(20, 2, bytes(32)))
    ledger.resume(resume(40, 4, bytes(32)))
    assert ledger.last == (40, 4, bytes(32))
