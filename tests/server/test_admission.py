"""Seats and quotas."""

from __future__ import annotations

import pytest

from netdump import wire
from netdump.server import admission
from netdump.server.admission import Accounts, Admission, Beginnings, Holdings, HostGate, Usage
from netdump.server.config import Limits
from netdump.server.space import Room

NOTHING = Usage(0, 0)


def test_beginnings_of_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86_400.0
    beginnings = Beginnings(Limits(dumps_per_host_per_day=3))
    for now in (0.0, 1.0, day / 2):
        beginnings.note("a", now)
    assert [beginnings.today("a", now) for now in (day / 2, day, day + 1, 2 * day)] == [3, 2, 1, 0]
    assert beginnings.today("b", 0.0) == 0
    beginnings.note("a", day)
    beginnings.note("a", day)
    assert beginnings.today("a", day) == 3, "who may have no more need not be counted on"
    monkeypatch.setattr(admission, "SOURCES_MAX", 2)
    for host in ("b", "a", "c"):
        beginnings.note(host, day)
    assert [beginnings.today(host, day) for host in "abc"] == [3, 0, 1]


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
    ("begun", "room", "text"),
    [
        (False, Room.PLENTY, None),
        (False, Room.LOW, "the headline is here; the collector is short of files, see [space] in its settings"),
        (False, Room.NONE, "the collector is short of files, see [space] in its settings"),
        (True, Room.PLENTY, None),
        (True, Room.LOW, None),
        (True, Room.NONE, "the collector is short of files, see [space] in its settings"),
    ],
)
def test_space(begun: bool, room: Room, text: str | None) -> None:
    verdict = Admission(Limits(defer_s=7)).space(begun=begun, room=room, scarce="files")
    assert verdict == (None if text is None else wire.Defer(7, text))


def test_dumps_a_day_bind_new_dumps_only() -> None:
    admission = Admission(Limits(dumps_per_host_per_day=2))
    assert admission.quota(new=True, usage=Usage(1, 0)) is None
    verdict = admission.quota(new=True, usage=Usage(2, 0))
    assert isinstance(verdict, wire.Decline)
    assert verdict.code is wire.DeclineCode.QUOTA
    assert admission.quota(new=False, usage=Usage(2, 0)) is None


def test_bytes_bind_all_dumps() -> None:
    admission = Admission(Limits(stored_bytes_per_host=64 << 20))
    for new in (True, False):
        verdict = admission.quota(new=new, usage=Usage(0, 64 << 20))
        assert isinstance(verdict, wire.Decline)
        assert verdict.code is wire.DeclineCode.QUOTA
    verdict = admission.quota(new=True, usage=Usage(0, 64 << 20, known=False))
    assert isinstance(verdict, wire.Defer), "it may be less by now"


def test_holdings(monkeypatch: pytest.MonkeyPatch) -> None:
    holdings = Holdings()
    holdings.add("a", 5)
    holdings.note("b", 7)
    holdings.add("b", 1)
    assert [holdings.of(host) for host in "abc"] == [5, 8, 0]
    holdings.note("b", 2)
    assert holdings.of("b") == 2
    monkeypatch.setattr(admission, "SOURCES_MAX", 2)
    holdings.add("a", 1)
    holdings.note("c", 3)
    assert [holdings.of(host) for host in "abc"] == [6, 0, 3]


def test_an_account_is_for_all_dumps_of_a_host_that_are_here() -> None:
    accounts = Accounts(Limits())
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
