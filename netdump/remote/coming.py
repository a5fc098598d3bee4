"""What has come of one segment: in memory as long as that is little and has just come, else in the staging folder.

On a fast network a segment is there, verified and in the image before it would be worth a file; on a slow one what has
come must outlive this process. So it must where an image is not worth taking up, Staging.tells_holes. Must not know
what a segment is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.remote.staging import Staging

HELD_BYTES_MAX: Final = 16 << 20
HELD_SECONDS_MAX: Final = 1.0
"""What a process that is killed may have to fetch again, of each segment under way."""


class Coming:
    """One segment under way; for one thread.

    Its methods raise StorageFaultError. It can be read as a file of the store while all of it is held.
    """

    __slots__ = ("_held", "_name", "_staging", "_until")

    def __init__(self, staging: Staging, name: str) -> None:
        """name: one that was checked."""
        self._staging: Final = staging
        self._name: Final = name
        self._held = bytearray() if staging.tells_holes and not staging.size(name) else None
        self._until: Final = time.monotonic() + HELD_SECONDS_MAX

    @property
    def is_held(self) -> bool:
        """Whether it is in memory, and nowhere else."""
        return self._held is not None

    def size(self) -> int:
        """Bytes that have come."""
        return self._staging.size(self._name) if self._held is None else len(self._held)

    def take(self, pieces: Iterator[bytes]) -> None:
        """Add pieces. Whatever ends them, what has come is kept, in a file if it was not to be expected."""
        try:
            if self._held is not None:
                self._hold(pieces, self._held)
            if self._held is None:
                self._staging.append(self._name, pieces)
        except BaseException:
            self.spill()
            raise

    def spill(self) -> None:
        """Put what is held into the staging folder."""
        held, self._held = self._held, None
        if held:
            self._staging.append(self._name, iter([held]))

    def read(self, position: int, length: int) -> bytes:
        """Bytes from position; fewer than length only at the end."""
        assert self._held is not None
        return bytes(memoryview(self._held)[position : position + length])

    def next_data(self, position: int) -> int:
        """It has no holes."""
        return position

    def close(self) -> None:
        """Nothing is open."""

    def _hold(self, pieces: Iterator[bytes], held: bytearray) -> None:
        for piece in pieces:
            held += piece
            if len(held) > HELD_BYTES_MAX or time.monotonic() > self._until:
                self.spill()
                return
