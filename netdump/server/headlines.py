"""Memory for long headlines under way: one budget for all connections, and whose turn it is where that is too little.

A headline comes before anybody has a seat, so neither seats nor credit bound what all of them together hold. Who finds
no memory waits, its connection not being read, in the order of coming. While somebody waits, who has had LEAST_S and is
not through gives way, and its host waits behind all others from then on, until one of its headlines is stored: however
many only hold memory, each does so once before a host that does not. A host has one headline on its way at a time, the
newest. Bookkeeping on the event loop; knows no messages.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_BYTES: Final = 128 << 10  # of a frame; what is shorter is part of what a connection may take
BUDGET_BYTES: Final = 64 << 20
LEAST_S: Final = 5.0  # that every headline has, however many wait: the longest needs 13 Mbit/s then
SLOW_MAX: Final = 4096  # hosts that are remembered for having had to give way
WAIT_S: Final = 60.0  # for memory, before a host may try another collector


class Bearer(Protocol):
    """A connection. Neither of these blocks or raises, whatever became of it."""

    @property
    def host(self) -> str:
        """Whose it is."""

    @property
    def peer(self) -> str:
        """The address at its other end."""

    def go_on(self) -> None:
        """What it asked for is there now: read again."""

    def give_way(self, reason: str) -> None:
        """Fail, in a way that lets the host come back, and let go of the memory."""


@dataclass(slots=True)
class _Stay:
    """size: of the frame, bytes. since: of the loop's clock."""

    size: int
    since: float


class Headlines:
    """Belongs to the event loop. on_loss(bearer, reason): called for each that has to give way, for the log."""

    def __init__(
        self, on_loss: Callable[[Bearer, str], None] = lambda _bearer, _reason: None, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        self._on_loss = on_loss
        self._budget_bytes = budget_bytes
        # Of frames under way, both in the order of coming; whose turn it is to be held, `_turns` says.
        self._held: dict[Bearer, _Stay] = {}
        self._waiting: dict[Bearer, _Stay] = {}
        self._whole: dict[Bearer, int] = {}  # bytes of headlines that are here, and only have to be stored
        self._slow: dict[str, None] = {}  # hosts that have had their time, in that order
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held_bytes(self) -> int:
        """Of all that have memory."""
        return sum(stay.size for stay in self._held.values()) + sum(self._whole.values())

    def take(self, bearer: Bearer, size: int) -> bool:
        """Memory for a frame of size bytes (up to the budget). False: not now; `go_on` is called when there is.

        To be asked again then. Whoever has taken it or waits for it says `leave`, or `whole` and `stored`, in the end.
        What comes behind a headline that is not stored yet is a frame of its own.
        """
        assert size <= self._budget_bytes
        if bearer in self._held or bearer in self._waiting:
            return bearer in self._held
        for other in self._unfinished(bearer.host):
            self._dismiss(other, "the host sends another headline")
        self._waiting[bearer] = _Stay(size, _now())
        if self._turns()[0] is bearer and self._fits(size):
            self._held[bearer] = self._waiting.pop(bearer)
            return True
        self._watch()
        return False

    def whole(self, bearer: Bearer) -> None:
        """All of a headline is here: it need not give way any more, and keeps its memory until it is stored."""
        stay = self._held.pop(bearer, None)
        if stay is not None:
            self._whole[bearer] = stay.size

    def leave(self, bearer: Bearer) -> None:
        """Of a frame that is not whole nothing is kept, or waited for, any more. Else this does nothing."""
        if (self._held.pop(bearer, None) or self._waiting.pop(bearer, None)) is not None:
            self._admit()

    def stored(self, bearer: Bearer) -> None:
        """The memory of a headline that was whole is free again. Further calls do nothing."""
        if self._whole.pop(bearer, None) is not None:
            self._slow.pop(bearer.host, None)
            self._admit()

    def _fits(self, size: int) -> bool:
        return self.held_bytes + size <= self._budget_bytes

    def _unfinished(self, host: str) -> list[Bearer]:
        """The connections of a host that are not through with their headlines."""
        return [bearer for bearer in (*self._held, *self._waiting) if bearer.host == host]

    def _admit(self) -> None:
        """Let those who wait have what is free, in their order: none is passed over for a shorter one."""
        for bearer in self._turns():
            stay = self._waiting.get(bearer)
            if stay is None:
                continue  # whoever went on before may have ended, and let this one in, or may have ended it
            if not self._fits(stay.size):
                break
            del self._waiting[bearer]
            self._held[bearer] = _Stay(stay.size, _now())
            bearer.go_on()
        self._watch()

    def _turns(self) -> list[Bearer]:
        """Those who wait: first whose hosts had not to give way, then the others, each in the order of coming."""
        return sorted(self._waiting, key=lambda bearer: bearer.host in self._slow)

    def _watch(self) -> None:
        """See to it that `_on_time` runs when somebody has to go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            dues = [next(iter(self._waiting.values())).since + WAIT_S]
            dues += [stay.since + LEAST_S for stay in self._held.values()][:1]
            self._timer = asyncio.get_running_loop().call_at(min(dues), self._on_time)

    def _on_time(self) -> None:
        """Who has waited for too long goes, and the one that has had memory for longest, if that is long enough."""
        self._timer = None
        now = _now()
        for bearer, stay in tuple(self._waiting.items()):
            # Who goes may let the next one in, which waits no longer then.
            if bearer in self._waiting and now >= stay.since + WAIT_S:
                self._dismiss(bearer, f"no memory for a headline within {WAIT_S:g} s: too many come at a time")
        slow = next(iter(self._held), None)
        if self._waiting and slow is not None and now >= self._held[slow].since + LEAST_S:
            self._slow.pop(slow.host, None)
            self._slow[slow.host] = None
            if len(self._slow) > SLOW_MAX:
                del self._slow[next(iter(self._slow))]
            self._dismiss(slow, "others wait to send their headlines")
        self._watch()

    def _dismiss(self, bearer: Bearer, reason: str) -> None:
        self._on_loss(bearer, reason)
        bearer.give_way(reason)
        self.leave(bearer)


def _now() -> float:
    return asyncio.get_running_loop().time()
