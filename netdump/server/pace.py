"""Is a host that may send fast enough? Pure arithmetic; time is an argument.

A host is watched only while nothing but itself keeps it from sending: waiting for our disk or for credit is not its
fault.
"""

from __future__ import annotations


class Pace:
    """One connection: at least rate_bytes a second over each window of window_s in which it was free to send."""

    __slots__ = ("_base", "_least", "_since", "_window_s")

    def __init__(self, rate_bytes: int, window_s: int) -> None:
        self._least = rate_bytes * window_s
        self._window_s = window_s
        self._since: float | None = None
        self._base = 0

    def watch(self, progress_bytes: int, now: float) -> None:
        """The host is free to send. progress_bytes: a count that only grows. Does nothing if it was free before."""
        if self._since is None:
            self._since, self._base = now, progress_bytes

    def pause(self) -> None:
        """The host is kept from sending: what it did not bring meanwhile does not count."""
        self._since = None

    def due(self) -> float | None:
        """When `is_slow` wants to be asked; None while nothing is watched."""
        return None if self._since is None else self._since + self._window_s

    def is_slow(self, progress_bytes: int, now: float) -> bool:
        """Was too little brought in a window that is over? Otherwise the next window begins."""
        if self._since is None or now < self._since + self._window_s:
            return False
        if progress_bytes - self._base < self._least:
            return True
        self._since, self._base = now, progress_bytes
        return False
