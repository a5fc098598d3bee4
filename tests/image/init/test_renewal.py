from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from netdump.image.init import renewal
from netdump.image.init.dhcp import Lease, LeaseLostError
from netdump.image.init.lease import HeldLease
from netdump.image.init.plan import Plan
from tests.image.init.namespace import run_in_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

HELD = HeldLease("eth0", "52:54:00:12:34:56", "192.0.2.7", "192.0.2.1", 0.0, 0.0)
PLAN = Plan()


class Slate:
    """What the stages know of the lease, and what was done besides."""

    def __init__(self, lease: HeldLease | None) -> None:
        self.lease = lease
        self.done: list[object] = []

    def forget(self) -> None:
        self.lease = None

    def bring_up(self, plan: Plan) -> int:
        self.done.append(plan)
        return 7

    def remember(self, lease: HeldLease) -> None:
        self.lease = lease


@pytest.fixture
def slate(monkeypatch: pytest.MonkeyPatch) -> Slate:
    slate = Slate(HELD._replace(ends_at=time.monotonic() + 1000))
    monkeypatch.setattr(renewal, "held_lease", lambda: slate.lease)
    monkeypatch.setattr(renewal, "forget", slate.forget)
    monkeypatch.setattr(renewal, "remember", slate.remember)
    return slate


def answers(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Lease | None]) -> None:
    monkeypatch.setattr(renewal, "renew_lease", lambda *_: answer())


def test_a_renewed_lease(slate: Slate, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    answers(monkeypatch, lambda: Lease("192.0.2.7", 24, (), (), "192.0.2.2", 600, 300))
    assert renewal.renew(PLAN) == 0
    assert said == ["eth0 (dhcp): the lease of 192.0.2.7 is renewed for 600 s"]
    assert slate.lease is not None
    assert slate.lease.server == "192.0.2.2"
    assert slate.lease.renew_at == pytest.approx(time.monotonic() + 300, abs=60)
    assert slate.lease.ends_at - slate.lease.renew_at == pytest.approx(300)


def test_a_lease_that_no_longer_ends(slate: Slate, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    answers(monkeypatch, lambda: Lease("192.0.2.7", 24, (), ()))
    assert renewal.renew(PLAN) == 0
    assert said == ["eth0 (dhcp): the lease of 192.0.2.7 is renewed for ever"]
    assert slate.lease is None


def test_nobody_answers(slate: Slate, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """The address stays; later it is tried again, more often toward the end."""
    answers(monkeypatch, lambda: None)
    assert renewal.renew(PLAN) == 1
    assert said == ["eth0 (dhcp): no server renews the lease of 192.0.2.7; the address stays in use"]
    assert slate.lease is not None
    assert slate.lease.renew_at == pytest.approx(time.monotonic() + 500, abs=60)
    slate.lease = slate.lease._replace(ends_at=time.monotonic() - 5)
    assert renewal.renew(PLAN) == 1
    assert slate.lease.renew_at == pytest.approx(time.monotonic() + renewal.AGAIN_SECONDS_MIN, abs=30)


def test_an_interface_that_is_gone(slate: Slate, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def refuse() -> None:
        raise OSError(19, "No such device")

    answers(monkeypatch, refuse)
    assert renewal.renew(PLAN) == 1
    assert said[0] == "eth0 (dhcp): the lease of 192.0.2.7 cannot be renewed: No such device"


def test_an_address_that_is_taken_back(slate: Slate, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def lose() -> None:
        raise LeaseLostError

    answers(monkeypatch, lose)
    monkeypatch.setattr(renewal, "_give_up", slate.done.append)
    monkeypatch.setattr(renewal, "bring_up", slate.bring_up)
    before = slate.lease
    assert renewal.renew(PLAN) == 7
    assert slate.done == [before, PLAN]
    assert slate.lease is None
    assert "the server takes 192.0.2.7 back" in said[0]


def test_an_address_that_cannot_be_given_up(slate: Slate, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """Another one is asked for all the same."""

    def lose() -> None:
        raise LeaseLostError

    def refuse() -> None:
        raise OSError(105, "No buffer space available")

    answers(monkeypatch, lose)
    monkeypatch.setattr(renewal, "Netlink", refuse)
    monkeypatch.setattr(renewal, "bring_up", slate.bring_up)
    assert renewal.renew(PLAN) == 7
    assert said[1] == "cannot take 192.0.2.7 away: No buffer space available"


def test_nothing_to_renew(slate: Slate, said: list[str]) -> None:
    slate.lease = None
    assert renewal.renew(PLAN) == 0
    assert said == []


def test_giving_an_address_up() -> None:
    out = run_in_namespace("""
from netdump.image.init import renewal
from netdump.image.init.lease import HeldLease
v0 = link("v0")
netlink.set_up(v0.ifindex)
netlink.add_address(v0.ifindex, "192.0.2.7", 24)
netlink.add_address(v0.ifindex, "198.51.100.8", 24)
renewal._give_up(HeldLease("v0", v0.mac, "192.0.2.7", "", 0, 0))
print([state.address for state in netlink.addresses() if state.scope == 0])
""")
    assert out.strip() == "['198.51.100.8']"
