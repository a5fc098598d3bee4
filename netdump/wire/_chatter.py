"""Frames that say nothing: how many a peer may send ([W-63]).

Owns the account of KEEPALIVE and of frames that [W-18] skips. They cost no credit and are no progress, so without it a
peer could keep the other end busy with them for ever. Has no clock.
"""

from __future__ import annotations

from netdump.errors import RemoteProtocolError
from netdump.wire._registry import CHATTER_MAX, CHATTER_PER_SECOND


class Chatter:
    """What one peer has sent and may still send. bytes: of all such frames so far, their headers included."""

    __slots__ = ("_left", "_now", "bytes")

    def __init__(self, now: float) -> None:
        self._left = float(CHATTER_MAX)
        self._now = now
        self.bytes = 0

    def take(self, frame_bytes: int, now: float) -> None:
        """Count one frame. Raises RemoteProtocolError if it is one too many. Spec: [W-63]."""
        self._left = min(CHATTER_MAX, self._left + (now - self._now) * CHATTER_PER_SECOND)
        self._now = now
        if self._left < 1:
            raise RemoteProtocolError("unexpected-message", f"more than {CHATTER_MAX} frames that say nothing")
        self._left -= 1
        self.bytes += frame_bytes
