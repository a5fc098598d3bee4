"""Whose chunks are taken now, who waits for that, and how much each may have on its way.

Owns the seats, the waiting room and the credit that those who sit share. Pure bookkeeping on the event loop.

Who finds no seat waits with its headline delivered, those who were seen first being first, however often they had to
come back: so nobody starves. Where too many wait, the last ones are told to come back, one after another: all at once
they would find no place again, seats would be free before they come, and thousands would keep the collector busy.

Few seats are best where the collector is the limit: the first hosts are through, and come back to life, early. Where
the lines of those who sit are the limit, they would keep others waiting for nothing: there are more seats then.
"""

from __future__ import annotations

import asyncio
import math
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
LOOK_S: Final = 2.0  # from one look at those who sit to the next, while somebody waits
MEASURED_S: Final = 1.0  # that one must have sat by then
SLOW_BYTES: Final = 2 << 20  # of wire a second; who sends less has a slow line, or a reason to keep its seat
RETURNS_PER_S: Final = 30  # of those who were told to come back: asking for a seat takes the collector's time
RETURN_MOST_S: Final = 600  # or `defer_s`, if that is more
BEHIND_PART: Final = 4  # of those who sit: if more than one in so many is behind, the collector is slow


class Seat:
    """What one dump that arrives holds, or waits for. Whoever makes one gives it back with `leave`, seated or not.

    taken: whether it is held now. since: when it was taken, by the loop's clock. extra: whether it is one of those
    beyond the usual number.
    """

    def __init__(self, seats: Seats, host: str, image_bytes: int) -> None:
        self.host: Final = host
        self.image_bytes: Final = image_bytes
        self.taken = False
        self.extra = False
        self.since = 0.0
        self._seats = seats
        self._called: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Take the seat if one is free. Returns whether it is taken."""
        if not self.taken and self._seats.assign(self):
            self.taken = True
            self.since = asyncio.get_running_loop().time()
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
            self._seats.free(self)


class _Waiter(NamedTuple):
    """In the order of the waiting room: by since, and those of one second as they came."""

    since: int
    number: int
    seat: Seat


class Seats:
    """Belongs to the event loop. taken: how many seats are. more: how many there are beyond the usual ones just now."""

    def __init__(self, limits: Limits, ingest: Ingest) -> None:
        self._limits = limits
        self._ingest = ingest
        self._of_host: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []
        self._numbers = count()
        self._extra = 0  # of those taken
        self._stirred = -math.inf  # when a seat was given back last, or the first one began to wait
        self._return = -math.inf  # when the one that was told last to come back is due
        self.taken = 0
        self.more = 0

    @property
    def is_watched(self) -> bool:
        """Whether there is anything to decide: somebody waits, or there are more seats than usual."""
        return bool(self._waiting) or self.more > 0

    def look(self, *, measured: int, slow: int, behind: int) -> None:
        """Set up a seat more for each one that is taken by a slow line, if somebody waits; else take them back.

        measured: how many of those who sit have sat for MEASURED_S. slow: how many of these sent less than SLOW_BYTES,
        and had nothing waiting to be stored. behind: how many of all who arrive had.
        """
        if BEHIND_PART * behind > self.taken:
            self.more = 0
        elif not self._waiting:
            self.more = self._extra
        elif measured:
            self.more = min(self._limits.slow_dumps, slow * self.taken // measured)
        self._call()

    def credit(self, image_bytes: int) -> int:
        """What the host of such an image may have sent and not had acknowledged now, in bytes of cost."""
        most = self._ingest.credit_bytes
        if image_bytes >= VAST_BYTES:
            return most
        if self.taken > self._limits.active_dumps:
            return min(most, CREDIT_LEAST)
        return min(most, max(CREDIT_LEAST, self._ingest.credit_total_bytes // max(1, self.taken)))

    def pause_s(self, *, has_waited: bool) -> int:
        """After how many seconds the next one who is to come back is to do so: 1 .. the most that there may be.

        One after another, at RETURNS_PER_S; not sooner than another such time in which no seat was given back, or
        than `defer_s`, if that is less.

        has_waited: for as long as one may. It was here before those who found no place, and does not come after them.
        """
        now, usual = asyncio.get_running_loop().time(), self._limits.defer_s
        pause = min(max(1.0, now - self._stirred), usual)
        if not has_waited:
            pause = min(max(self._return - now + 1 / RETURNS_PER_S, pause), max(RETURN_MOST_S, usual))
            self._return = now + pause
        return math.ceil(pause)

    # What a Seat calls

    def assign(self, seat: Seat) -> bool:
        """Count a seat as taken, if one is free for it.

        Vast images, whose credit is not shared, have none but the usual ones; they get the next that is given back.
        """
        limits = self._limits
        if self._of_host[seat.host] >= limits.active_dumps_per_host:
            return False
        seat.extra = self.taken - self._extra >= limits.active_dumps
        if seat.extra and (self._extra >= self.more or seat.image_bytes >= VAST_BYTES):
            return False
        self.taken += 1
        self._extra += seat.extra
        self._of_host[seat.host] += 1
        return True

    def free(self, seat: Seat) -> None:
        """A seat that was assigned is given back."""
        self.taken -= 1
        self._extra -= seat.extra
        self._of_host[seat.host] -= 1
        if not self._of_host[seat.host]:
            del self._of_host[seat.host]
        self._stirred = asyncio.get_running_loop().time()
        self._call()

    def queue(self, seat: Seat, since: int) -> None:
        """One more waits. Of too many the one that was first seen last goes, which may be this one."""
        if not self._waiting:
            self._stirred = asyncio.get_running_loop().time()
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
