"""Whose chunks are taken now, who waits for that, and how much each may have on its way.

Owns the seats, the waiting room and the credit that those who sit share. Pure bookkeeping on the event loop.

Who finds no seat waits with its headline delivered, those who were seen first being first, however often they had to
come back: so nobody starves. Where too many wait, the last ones are told to come back.

Few seats are best where the collector is the limit: the first hosts are through, and come back to life, early. Where
the lines of those who sit are the limit, they would keep others waiting for nothing: there are more seats then.
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
LOOK_S: Final = 2.0  # over which is measured how fast those who sit send, while somebody waits
SLOW_BYTES: Final = 2 << 20  # of wire a second for each dump; with less its line is slow, or somebody's hand
GROWTH: Final = 4  # of the seats taken, one in so many more at a time


class Seat:
    """What one dump that arrives holds, or waits for. Whoever makes one gives it back with `leave`, seated or not."""

    def __init__(self, seats: Seats, host: str, image_bytes: int) -> None:
        self.host: Final = host
        self.image_bytes: Final = image_bytes
        self.taken = False
        self._seats = seats
        self._called: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Take the seat if one is free. Returns whether it is taken."""
        if not self.taken and self._seats.is_free(self):
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
    """Belongs to the event loop. taken: how many seats are. more: seats that there are for the time being."""

    def __init__(self, limits: Limits, ingest: Ingest) -> None:
        self._limits = limits
        self._ingest = ingest
        self._of_host: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []
        self._numbers = count()
        self.taken = 0
        self.more = 0

    @property
    def is_watched(self) -> bool:
        """Whether there is anything to decide: somebody waits, or there are more seats than usual."""
        return bool(self._waiting) or self.more > 0

    def look(self, sent_bytes: float, behind: int) -> None:
        """Set up more seats if somebody waits and the lines of those who sit are the limit; else, or if the usual
        seats are enough again, nobody more is let in than to those.

        sent_bytes: what they have sent in a second, all together. behind: of how many something waits to be stored.
        """
        beyond = self.taken - self._limits.active_dumps
        if sent_bytes >= SLOW_BYTES * self.taken or GROWTH * behind > self.taken:
            self.more = 0
        elif self._waiting and beyond >= self.more:
            self.more = min(self._limits.slow_dumps, beyond + max(1, self.taken // GROWTH))
        elif not self._waiting and beyond <= 0:
            self.more = 0
        self._call()

    def credit(self, image_bytes: int) -> int:
        """What the host of such an image may have sent and not had acknowledged now, in bytes of cost."""
        most = self._ingest.credit_bytes
        if image_bytes >= VAST_BYTES:
            return most
        if self.taken > self._limits.active_dumps:
            return min(most, CREDIT_LEAST)
        return min(most, max(CREDIT_LEAST, self._ingest.credit_total_bytes // max(1, self.taken)))

    # What a Seat calls

    def is_free(self, seat: Seat) -> bool:
        """Whether this one may be taken now. Vast images, whose credit is not shared, find no more than the usual."""
        limits = self._limits
        seats = limits.active_dumps + (self.more if seat.image_bytes < VAST_BYTES else 0)
        return self.taken < seats and self._of_host[seat.host] < limits.active_dumps_per_host

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
