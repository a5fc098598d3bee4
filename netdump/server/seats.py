"""Whose chunks are taken now, who waits for that, and how much each may have on its way.

Owns the seats, the waiting room and the credit that those who sit share. Pure bookkeeping on the event loop.

Who finds no seat waits with its headline delivered, those who were seen first being first, however often they had to
come back: so nobody starves. Where too many wait, the last ones are told to come back.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from netdump.server.config import Ingest, Limits

CREDIT_LEAST: Final = 4 << 20  # three full chunks: one on its way, one in work, one on the way to the disk
CREDIT_FIRST: Final = 8 << 20  # until the first acknowledgement: those who come at once know nothing of each other
VAST_BYTES: Final = 1 << 40
"""Of an image from this size on, credit is not shared and segments are longer: a manifest names only so many."""


class Seat:
    """What one dump that arrives holds, or waits for. Whoever makes one gives it back with `leave`, seated or not."""

    def __init__(self, seats: Seats, host: str) -> None:
        self.host: Final = host
        self.taken = False
        self._seats = seats
        self._called: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Take the seat if one is free. Returns whether it is taken."""
        if not self.taken and self._seats.is_free(self.host):
            self.taken = True
            self._seats.count(self.host, 1)
        return self.taken

    async def wait(self, since: int) -> bool:
        """Wait for a seat, and take it. False: too many wait that were here before; the dump is to come back.

        since: when the dump was first seen, in seconds since 1970.
        """
        self._seats.queue(self, since)
        await self._called
        return self.taken

    def call(self) -> None:
        """The wait is over."""
        if not self._called.done():
            self._called.set_result(None)

    def leave(self) -> None:
        """Give the seat back, or wait no longer for it. Further calls do nothing."""
        self._seats.withdraw(self)
        if self.taken:
            self.taken = False
            self._seats.count(self.host, -1)


class _Waiter(NamedTuple):
    """In the order of the waiting room: by since, and those of one second as they came."""

    since: int
    number: int
    seat: Seat


class Seats:
    """Belongs to the event loop. taken: how many seats are."""

    def __init__(self, limits: Limits, ingest: Ingest) -> None:
        self._limits = limits
        self._ingest = ingest
        self._of_host: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []
        self._numbers = count()
        self.taken = 0

    def credit(self, image_bytes: int) -> int:
        """What the host of such an image may have sent and not had acknowledged now, in bytes of cost."""
        most = self._ingest.credit_bytes
        if image_bytes >= VAST_BYTES:
            return most
        return min(most, max(CREDIT_LEAST, self._ingest.credit_total_bytes // max(1, self.taken)))

    # What a Seat calls

    def is_free(self, host: str) -> bool:
        """Whether a dump of this host may have a seat now."""
        limits = self._limits
        return self.taken < limits.active_dumps and self._of_host[host] < limits.active_dumps_per_host

    def count(self, host: str, change: int) -> None:
        """A seat was taken (1) or given back (-1)."""
        self.taken += change
        self._of_host[host] += change
        if not self._of_host[host]:
            del self._of_host[host]
        if change < 0:
            self._call()

    def queue(self, seat: Seat, since: int) -> None:
        """One more waits. Of too many the one that was first seen last goes, which may be this one."""
        insort(self._waiting, _Waiter(since, next(self._numbers), seat))
        self._call()
        if len(self._waiting) > self._limits.waiting_dumps:
            self._waiting.pop().seat.call()

    def withdraw(self, seat: Seat) -> None:
        """One waits no longer, if it did."""
        self._waiting = [waiter for waiter in self._waiting if waiter.seat is not seat]

    def _call(self) -> None:
        """Give free seats to those who wait, in their order."""
        for waiter in tuple(self._waiting):
            if waiter.seat.take():
                self._waiting.remove(waiter)
                waiter.seat.call()
