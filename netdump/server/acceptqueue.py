"""TCP connections that were accepted and wait until a place for their handshake is free.

When hundreds of hosts come in the same second (a power cut; a collector that comes back) most of them find all places
for handshakes taken, for the milliseconds that one takes. Reset, they would come back seconds later, and later each
time. Nothing is read from who waits; what it costs is a file descriptor and what the kernel has received.
"""

from __future__ import annotations

import resource
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

WAITING_MOST: Final = 512
FILES_PART: Final = 16  # one in so many of the files that this process may have open, if that is less
SOURCE_PART: Final = 2  # one in so many of those who wait may be of one source


class Pending:
    """A TCP connection that was accepted at a moment of the loop's clock. timer: what gives it up."""

    __slots__ = ("address", "since", "source", "timer", "transport")

    def __init__(self, transport: asyncio.Transport, address: str, source: str, since: float) -> None:
        self.transport: Final = transport
        self.address: Final = address
        self.source: Final = source
        self.since: Final = since
        self.timer: asyncio.TimerHandle | None = None

    def end_wait(self) -> None:
        """Nothing gives it up any more."""
        if self.timer is not None:
            self.timer.cancel()


class AcceptQueue:
    """Connections by source, those of each in the order of coming; sources in turn. most: how many there may be."""

    def __init__(self) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most: Final = min(WAITING_MOST, files // FILES_PART)
        self._lines: dict[str, deque[Pending]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pending: Pending) -> bool:
        """Let one wait, unless too many do already. Returns whether it waits."""
        line = self._lines.get(pending.source)
        if self._count >= self.most or (line is not None and len(line) >= self.most // SOURCE_PART):
            return False
        if line is None:
            line = self._lines[pending.source] = deque()
        line.append(pending)
        self._count += 1
        return True

    def has(self, source: str) -> bool:
        """Whether anybody of source waits."""
        return source in self._lines

    def remove(self, pending: Pending) -> None:
        """It waits no longer."""
        line = self._lines[pending.source]
        line.remove(pending)
        self._count -= 1
        if not line:
            del self._lines[pending.source]  # memory follows those who wait

    def serve(self, pending: Pending) -> None:
        """It is let in: it waits no longer, and it is the turn of all other sources before its own."""
        self.remove(pending)
        if line := self._lines.pop(pending.source, None):
            self._lines[pending.source] = line

    def firsts(self) -> list[Pending]:
        """Of each source the one that came first; first the sources whose last turn, or coming, is longest ago."""
        return [line[0] for line in self._lines.values()]
