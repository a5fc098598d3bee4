"""How much room the file system of the store has, and waiting for it.

Three levels: PLENTY; LOW, dumps without a page here leave their headlines and are told to come back; NONE, dumps under
way wait as well. Room is bytes, and files (inodes), of which ext4 has as many as it was made with. Nothing here deletes
anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from netdump.errors import StorageFaultError
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.server.config import Space


ADMIT_FREE_FILES: Final = 200_000  # 64 dumps of 24 GiB, or that send for an hour with a segment each second
MIN_FREE_FILES: Final = 10_000  # the manifests and receipts of dumps under way, and what else the machine has to write


class Room(IntEnum):
    """What the free space allows; a larger one allows all that a smaller one does."""

    NONE = 0
    LOW = 1
    PLENTY = 2


class Measure(NamedTuple):
    """Bytes of a file system, free for this process and in total, and the same of files.

    total_files: 0 where there may be as many as there is room for.
    """

    free_bytes: int
    total_bytes: int
    free_files: int = 0
    total_files: int = 0


def measure_of(path: Path) -> Callable[[], Measure]:
    """A function that measures the file system under path; it may block as any system call on that file system may."""

    def measure() -> Measure:
        facts = os.statvfs(path)
        # btrfs and vfat have 0 files in total; CephFS has -1 free ones.
        files = (facts.f_favail, facts.f_files) if facts.f_files > 0 and facts.f_favail >= 0 else (0, 0)
        return Measure(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize, *files)

    return measure


class SpaceWatch:
    """The collector's view of free space. What measures may be called from any thread, the rest on the event loop."""

    def __init__(self, settings: Space, measure: Callable[[], Measure]) -> None:
        self._settings = settings
        self._ask = measure
        self._changed = asyncio.Event()

    def look(self, needed_bytes: int = 0, due_bytes: int = 0) -> Room:
        """Measure now: what is allowed once needed_bytes more are written? Raises StorageFaultError. Blocks.

        due_bytes: how much is free in any case, though the file system may not say so yet.
        """
        facts = self.measure()
        free_bytes = max(facts.free_bytes, due_bytes) - needed_bytes
        return min(self._room_for_bytes(free_bytes, facts.total_bytes), self._room_for_files(facts))

    def wants_bytes(self, due_bytes: int) -> bool:
        """Would more be allowed if more bytes were free? due_bytes: as in look. Raises StorageFaultError. Blocks."""
        facts = self.measure()
        free_bytes = max(facts.free_bytes, due_bytes)
        return self._room_for_bytes(free_bytes, facts.total_bytes) < self._room_for_files(facts)

    def shortage(self, spare_bytes: Callable[[], int] = lambda: 0) -> str | None:
        """Why new dumps would be told to come back now, in figures; None: they would not. Blocks.

        spare_bytes: what is freed for them if need be; asked if it decides. Raises StorageFaultError.
        """
        facts = self.measure()
        plenty = self._plenty(facts.total_bytes)
        if facts.free_bytes < plenty and facts.free_bytes + spare_bytes() < plenty:
            return (
                f"{facts.free_bytes:,} bytes are free, new dumps are told to come back below {plenty:,}: "
                "make room, or see [space] in config.toml"
            )
        if self._lacks_files(facts):
            return (
                f"{facts.free_files:,} more files (inodes, `df -i`) can be made, new dumps are told to come back below "
                f"{self._plenty_files(facts):,}, however many bytes are free: delete dumps, or see [space] in "
                "config.toml"
            )
        return None

    def lacks_files(self) -> bool:
        """Would new dumps be told to come back now for want of files? Raises StorageFaultError. Blocks."""
        return self._lacks_files(self.measure())

    def _room_for_bytes(self, free: int, total: int) -> Room:
        settings = self._settings
        if free < max(settings.min_free_bytes, total * settings.min_free_percent // 100):
            return Room.NONE
        return Room.LOW if free < self._plenty(total) else Room.PLENTY

    def _room_for_files(self, facts: Measure) -> Room:
        if facts.free_files < min(MIN_FREE_FILES, facts.total_files * self._settings.min_free_percent // 100):
            return Room.NONE
        return Room.LOW if self._lacks_files(facts) else Room.PLENTY

    def _lacks_files(self, facts: Measure) -> bool:
        return facts.free_files < self._plenty_files(facts)

    def _plenty(self, total_bytes: int) -> int:
        return max(self._settings.admit_free_bytes, total_bytes * self._settings.admit_free_percent // 100)

    def _plenty_files(self, facts: Measure) -> int:
        return min(ADMIT_FREE_FILES, facts.total_files * self._settings.admit_free_percent // 100)

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
