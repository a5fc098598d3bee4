"""What the disk of the store has failed to do for hosts of late, and whether it works again.

Owns for how long that is told. A host that is turned away for it comes back every few seconds, until it gives up.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from netdump.errors import StorageFaultError

if TYPE_CHECKING:
    from collections.abc import Callable

RECENT_S: Final = 600.0


class DiskFailures:
    """Of one collector. From any thread.

    try_out: writes to the store, as little as possible; raises StorageFaultError. clock: seconds, as time.monotonic.
    """

    def __init__(self, try_out: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic) -> None:
        self._try_out = try_out
        self._clock = clock
        self._last: tuple[str, float] | None = None  # the reason, and when

    def note(self, error: Exception) -> None:
        """A host is told to come back for this, if it is a fault of the disk."""
        if isinstance(error, StorageFaultError):
            self._last = str(error), self._clock()

    def look(self) -> str | None:
        """What fails: something did within RECENT_S, or has and nothing can be written since. None: nothing. Blocks."""
        if (last := self._last) is None:
            return None
        reason, when = last
        try:
            self._try_out()
        except StorageFaultError as error:
            return str(error)
        if self._clock() - when < RECENT_S:
            return reason
        if self._last is last:
            self._last = None
        return None
