"""What has come of one segment: in memory as long as that is little and has just come, else in the staging folder.

On a fast network a segment is there, verified and in the image before it would be worth a file; on a slow one what has
come must outlive this process. So it must where an image is not worth taking up, Staging.tells_holes. Must not know
what a segment is.
"""

from __future__ import annotations

import time
from itertools import chain
from mmap import mmap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.remote.staging import Staging

HELD_BYTES_MAX: Final = 16 << 20
HELD_SECONDS_MAX: Final = 1.0
"""What a process that is killed may have to fetch again, of each segment under way."""


def new_room() -> mmap:
    """Memory that serves one thread for all its segments, one after the other. What is not used of it costs nothing."""
    return mmap(-1, HELD_BYTES_MAX)


class Incoming:
    """One segment under way; for one thread.

    Its methods raise StorageFaultError. It can be read as a file of the store while all of it is held.
    """

    __slots__ = ("_name", "_room", "_size", "_staging", "_until")

    def __init__(self, staging: Staging, name: str, room: mmap) -> None:
        """name: one that was checked. room: for what is held, until the next segment comes."""
        self._staging: Final = staging
        self._name: Final = name
        self._room = room if staging.tells_holes and not staging.size(name) else None
        self._size = 0  # of what is held
        self._until: Final = time.monotonic() + HELD_SECONDS_MAX

    @property
    def is_held(self) -> bool:
        """Whether it is in memory, and nowhere else."""
        return self._room is not None

    def size(self) -> int:
        """Bytes that have come."""
        return self._staging.size(self._name) if self._room is None else self._size

    def take(self, pieces: Iterator[bytes]) -> None:
        """Add pieces. Whatever ends them, what has come is kept, in a file if it was not to be expected."""
        try:
            left = pieces if self._room is None else self._hold(pieces, self._room)
            if left is not None:
                self._staging.append(self._name, left)
        except BaseException:
            self.spill()
            raise

    def spill(self) -> None:
        """Put what is held into the staging folder."""
        room, self._room = self._room, None
        if room is not None and self._size:
            self._staging.append(self._name, iter([memoryview(room)[: self._size]]))

    def read(self, position: int, length: int) -> memoryview:
        """Bytes from position; fewer than length only at the end."""
        assert self._room is not None
        return memoryview(self._room)[position : min(position + length, self._size)]

    def next_data(self, position: int) -> int:
        """It has no holes."""
        return position

    def close(self) -> None:
        """Nothing is open."""

    def _hold(self, pieces: Iterator[bytes], room: mmap) -> Iterator[bytes] | None:
        """Hold pieces. Returns those that are too much, or too late, when all before them are in the file."""
        for piece in pieces:
            end = self._size + len(piece)
            if end > len(room) or time.monotonic() > self._until:
                self.spill()
                return chain((piece,), pieces)
            room[self._size : end] = piece
            self._size = end
        return None
