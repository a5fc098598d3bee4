"""Who may send what: connections of a host, sizes, quotas, room. Whose turn it is to send is for seats.py.

Pure decisions; facts about disk and index come as arguments.
A dump that is complete already is answered with its receipt and never comes here.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final

from netdump import wire
from netdump.namedtuple import NamedTuple
from netdump.server.config import DAY_S
from netdump.server.ratelimit import SOURCES_MAX, RateLimit
from netdump.server.space import Room

if TYPE_CHECKING:
    from netdump.server.config import Limits

HOSTS_PER_MINUTE: Final = 60_000  # new connections of all hosts: no limit in practice, the gate before TLS has those


class Usage(NamedTuple):
    """What a host has at this collector: dumps first seen within the last 24 hours, and bytes in the store.

    known: the index says so; else it did not answer.
    """

    dumps_today: int
    stored_bytes: int
    known: bool = True


class HostGate:
    """The connections of each host whose certificate was found good: how many at once, and how often another."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._often = RateLimit(HOSTS_PER_MINUTE, limits.connections_per_host_per_minute, now)

    def enter(self, host: str, now: float) -> str | None:
        """Count a new connection. Returns why it is one too many (and is not counted), or None."""
        if self._open[host] >= self._limits.connections_per_host:
            return "connections-per-host"
        if not self._often.allow(host, now):
            return "connections-per-host-per-minute"
        self._open[host] += 1
        return None

    def leave(self, host: str) -> None:
        """A connection that entered is gone."""
        assert self._open[host] > 0
        self._open[host] -= 1
        if not self._open[host]:
            del self._open[host]


class Beginnings:
    """New dumps of each host that were opened here within a day: for when the index does not say how many there are.

    A host can see to it that it does not, with dumps of which it takes long to make a row.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.dumps_per_host_per_day
        self._of_host: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, host: str, now: float) -> None:
        """One more. now: seconds of any steady clock."""
        begun = self._of_host.setdefault(host, deque(maxlen=self._most))
        begun.append(now)
        self._of_host.move_to_end(host)
        if len(self._of_host) > SOURCES_MAX:
            self._of_host.popitem(last=False)

    def today(self, host: str, now: float) -> int:
        """How many there were in the 24 hours before now; no more are counted than a host may have."""
        return sum(now - then < DAY_S for then in self._of_host.get(host, ()))


class Holdings:
    """Bytes of each host in the store, by the last answer of the index and what came since: for when it does not say.

    A host can see to that, and would have another quota each time.
    """

    def __init__(self) -> None:
        self._of_host: OrderedDict[str, int] = OrderedDict()

    def note(self, host: str, stored_bytes: int) -> None:
        """The index says so."""
        self._of_host[host] = stored_bytes
        self._of_host.move_to_end(host)
        if len(self._of_host) > SOURCES_MAX:
            self._of_host.popitem(last=False)

    def add(self, host: str, more_bytes: int) -> None:
        """More was stored."""
        self.note(host, self.of(host) + more_bytes)

    def of(self, host: str) -> int:
        """What it has, as far as is known."""
        return self._of_host.get(host, 0)


class Account:
    """Bytes that the dumps of one host have stored since the first of those that are here now was offered.

    openings: to be held while one of them is looked up and opened. That may take long, and much of the CPU, where one
    has many segments: a host has no more threads at that than dumps that arrive.
    """

    __slots__ = ("claims", "openings", "stored_bytes")

    def __init__(self, limits: Limits) -> None:
        self.claims = 0
        self.stored_bytes = 0
        self.openings: Final = asyncio.Semaphore(limits.active_dumps_per_host)


class Accounts:
    """An account for each host that offers dumps or sends them.

    What the index says of a host is asked for once for each of its dumps, when it is offered: this is what several
    that arrive at the same time add to it together.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[str, Account] = {}

    def open(self, host: str) -> Account:
        """The account of a host. Each call is followed by one of `close`."""
        account = self._open.get(host)
        if account is None:
            account = self._open[host] = Account(self._limits)
        account.claims += 1
        return account

    def close(self, host: str) -> None:
        """A dump that was offered is gone, or through."""
        account = self._open[host]
        account.claims -= 1
        if not account.claims:
            del self._open[host]  # memory follows those who are there


class Admission:
    """Whether a dump is taken in at all. Pure decisions."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def image(self, image_bytes: int) -> wire.Decline | None:
        """Is an image of this size accepted at all?"""
        if image_bytes > self._limits.image_bytes:
            return wire.Decline(
                wire.DeclineCode.TOO_LARGE,
                f"images of more than {self._limits.image_bytes} bytes are not accepted here",
            )
        return None

    def quota(self, *, new: bool, usage: Usage) -> wire.Decline | wire.Defer | None:
        """May a dump of a host with this usage begin (new) or go on? None: yes.

        Declined and not deferred: a host that waits for tomorrow does not reboot. But what it has may be less by now
        than is known while the index does not answer.
        """
        limits = self._limits
        if usage.stored_bytes >= limits.stored_bytes_per_host:
            text = "the dumps of this host take up all the space it is allowed"
            return wire.Decline(wire.DeclineCode.QUOTA, text) if usage.known else wire.Defer(limits.defer_s, text)
        if new and usage.dumps_today >= limits.dumps_per_host_per_day:
            return wire.Decline(wire.DeclineCode.QUOTA, f"this host has sent {usage.dumps_today} dumps within a day")
        return None

    def space(self, *, begun: bool, room: Room, scarce: str = "space") -> wire.Defer | None:
        """Is there room for a dump of which something is stored already (begun), or nothing? None: yes.

        Where room is low there is still some for its headline. scarce: what room is short of.
        """
        if room >= (Room.LOW if begun else Room.PLENTY):
            return None
        kept = "" if room is Room.NONE else "the headline is here; "
        return wire.Defer(
            self._limits.defer_s, f"{kept}the collector is short of {scarce}, see [space] in its settings"
        )
