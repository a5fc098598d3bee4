"""When a connection must speak, and when it has waited long enough ([W-60], [W-61], [W-75]).

Owns points in time; has no clock. Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.wire._registry import OPENING_TIMEOUT

if TYPE_CHECKING:
    from netdump.wire._messages import Resume


class Timers:
    """Keep-alive and deadline of one end of a connection. Made when TLS is established."""

    __slots__ = ("_idle", "_keepalive", "_received", "_sent", "_started")

    def __init__(self, now: float) -> None:
        self._started = now
        self._sent = self._received = now
        self._keepalive: int | None = None
        self._idle = 0

    def restart(self, now: float) -> None:
        """HELLO went over: its answer has the opening timeout from now. Spec: [W-75]."""
        self._started = now

    def run(self, resume: Resume, now: float) -> None:
        """RESUME went over: from now on both ends keep the connection alive. Spec: [W-60]."""
        self._keepalive, self._idle = resume.keepalive, resume.idle
        self._sent = self._received = now

    def sent(self, now: float) -> None:
        """Something was sent."""
        self._sent = now

    def received(self, now: float) -> None:
        """Something came. Before RESUME this changes nothing: a trickle of bytes must not hold a connection open."""
        self._received = now

    @property
    def deadline(self) -> float:
        """When the connection fails with idle-timeout unless something comes."""
        if self._keepalive is None:
            return self._started + OPENING_TIMEOUT
        return self._received + self._idle

    @property
    def keepalive(self) -> float | None:
        """When KEEPALIVE must be sent unless something else is; None before RESUME."""
        return None if self._keepalive is None else self._sent + self._keepalive
