"""Buffers for long frames, used again and again.

Owns memory that no frame is in. A new buffer of a MiB costs 256 page faults and is cleared before it is filled, a tenth
of all that receiving costs (docs/performance.md).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from netdump.wire import FRAME_MAX

STEP_BYTES: Final = 64 * 1024  # buffers are multiples of it
SHORT_BYTES: Final = 128 * 1024  # what is shorter is not worth the bookkeeping
KEPT_BYTES: Final = 96 << 20  # at most, of buffers that wait for a frame


class BufferPool:
    """Belongs to the event loop. kept_bytes: of buffers that wait for a frame."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[bytearray]] = defaultdict(list)
        self.kept_bytes = 0

    def take(self, size: int) -> memoryview:
        """A buffer of exactly size bytes, with anything in it. size: 1 .. FRAME_MAX."""
        assert 0 < size <= FRAME_MAX, size
        if size < SHORT_BYTES:
            return memoryview(bytearray(size))
        whole = -(-size // STEP_BYTES) * STEP_BYTES
        free = self._free[whole]
        if not free:
            return memoryview(bytearray(whole))[:size]
        self.kept_bytes -= whole
        return memoryview(free.pop())[:size]

    def give(self, frame: bytes | bytearray | memoryview) -> None:
        """Nobody will look at this frame again: if it is in a buffer from here, that may be filled anew."""
        if not isinstance(frame, memoryview) or len(frame) < SHORT_BYTES:
            return
        buffer = frame.obj
        if isinstance(buffer, bytearray) and self.kept_bytes + len(buffer) <= KEPT_BYTES:
            self._free[len(buffer)].append(buffer)
            self.kept_bytes += len(buffer)
