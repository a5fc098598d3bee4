"""Seats and quotas."""

from __future__ import annotations

import pytest

from netdump import wire
from netdump.server.admission import Accounts, Admission, HostGate, Usage
from netdump.server.config import Limits
from netdump.server.space import Room

NOTHING = Usage(0, 0)


def test_connections_of_a_host() -> None:
    gate = HostGate(Limits(connections_per_host=2, connections_per_host_per_minute=6), 0.0)
    assert [gate.enter("a", 0.0) for _ in range(3)] == [None, None, "connections-per-host"]
    assert gate.enter("b", 0.0) is None, "others are not concerned"
    for _ in range(4):
        gate.leave("a")
        assert gate.enter("a", 0.0) is None
    gate.leave("a")
    assert gate.enter("a", 0.0) == "connections-per-host-per-minute"
    assert gate.enter("a", 10.0) is None, "one comes back every ten seconds"
    gate.leave("b")
    assert set(gate._open) == {"a"}, "memory follows those who are there"


@pytest.mark.parametrize(
    ("new", "room", "expected"),
    [
        (True, Room.PLENTY, None),
        (True, Room.LOW, wire.Defer),
        (True, Room.NONE, wire.Defer),
        (False, Room.PLENTY, None),
        (False, Room.LOW, None),
        (False, Room.NONE, wire.Defer),
    ],
)
def test_space(new: bool, room: Room, expected: type | None) -> None:
    verdict = Admission(Limits()).judge(new=new, room=room, usage=NOTHING)
    assert verdict is None if expected is None else isinstance(verdict, expected)


def test_dumps_a_day_bind_new_dumps_only() -> None:
    admission = Admission(Limits(dumps_per_host_per_day=2))
    assert admission.judge(new=True, room=Room.PLENTY, usage=Usage(1, 0)) is None
    verdict = admission.judge(new=True, room=Room.PLENTY, usage=Usage(2, 0))
    assert isinstance(verdict, wire.Decline)
    assert verdict.code is wire.DeclineCode.QUOTA
    assert admission.judge(new=False, room=Room.PLENTY, usage=Usage(2, 0)) is None


def test_bytes_bind_all_dumps_and_come_before_space() -> None:
    admission = Admission(Limits(stored_bytes_per_host=64 << 20))
    for new in (True, False):
        verdict = admission.judge(new=new, room=Room.NONE, usage=Usage(0, 64 << 20))
        assert isinstance(verdict, wire.Decline)
        assert verdict.code is wire.DeclineCode.QUOTA


def test_an_account_is_for_all_dumps_of_a_host_that_are_here() -> None:
    accounts = Accounts()
    first, second = accounts.open("a"), accounts.open("a")
    assert first is second
    assert accounts.open("b") is not first
    accounts.close("a")
    assert accounts.open("a") is first
    for host in "aab":
        accounts.close(host)
    assert not accounts._open, "memory follows those who are there"


def test_image_size() -> None:
    admission = Admission(Limits(image_bytes=1 << 20))
    assert admission.image(1 << 20) is None
    verdict = admission.image((1 << 20) + 1)
    assert verdict is not None
    assert verdict.code is wire.DeclineCode.TOO_LARGE
