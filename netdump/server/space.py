"""How much room the file system of the store has, and waiting for it.

Three levels: PLENTY; LOW, new dumps are told to come back; NONE, dumps under way wait as well. Nothing here deletes
anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from enum import IntEnum
from typing import TYPE_CHECKING

from netdump.errors import StorageFaultError
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.server.config import Space


class Room(IntEnum):
    """What the free space allows; a larger one allows all that a smaller one does."""

    NONE = 0
    LOW = 1
    PLENTY = 2


class Measure(NamedTuple):
    """Bytes of a file system: free for this process, and in total."""

    free_bytes: int
    total_bytes: int


def measure_of(path: Path) -> Callable[[], Measure]:
    """A function that measures the file system under path; it may block as any system call on that file system may."""

    def measure() -> Measure:
        facts = os.statvfs(path)
        return Measure(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize)

    return measure


class SpaceWatch:
    """The collector's view of free space. `look` may be called from any thread, the rest belongs to the event loop."""

    def __init__(self, settings: Space, measure: Callable[[], Measure]) -> None:
        self._settings = settings
        self._ask = measure
        self._changed = asyncio.Event()

    def look(self, needed_bytes: int = 0, due_bytes: int = 0) -> Room:
        """Measure now: what is allowed once needed_bytes more are written? Raises StorageFaultError. Blocks.

        due_bytes: how much is free in any case, though the file system may not say so yet.
        """
        free, total = self.measure()
        free = max(free, due_bytes) - needed_bytes
        settings = self._settings
        if free < max(settings.min_free_bytes, total * settings.min_free_percent // 100):
            return Room.NONE
        if free < self._plenty(total):
            return Room.LOW
        return Room.PLENTY

    def shortage(self) -> str | None:
        """Why new dumps would be told to come back now, in figures; None: they would not. Blocks.

        Raises StorageFaultError.
        """
        free, total = self.measure()
        if free >= self._plenty(total):
            return None
        return (
            f"{free:,} bytes are free, new dumps are told to come back below {self._plenty(total):,}: "
            "make room, or see [space] in config.toml"
        )

    def _plenty(self, total_bytes: int) -> int:
        return max(self._settings.admit_free_bytes, total_bytes * self._settings.admit_free_percent // 100)

    def measure(self) -> Measure:
        """Measure now. Raises StorageFaultError. Blocks."""
        try:
            return self._ask()
        except OSError as error:
            raise StorageFaultError(f"the free space of the store cannot be measured: {error.strerror}") from error

    def poke(self) -> None:
        """Something was deleted: whoever waits shall look at once."""
        self._changed.set()
        self._changed = asyncio.Event()

    def changed(self) -> asyncio.Event:
        """What the next poke will set. Take it before you look, so that no poke is missed in between."""
        return self._changed

    async def pause(self, changed: asyncio.Event) -> None:
        """Wait until it is worth looking again: check_s, or less if changed is set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.check_s):
                await changed.wait()
