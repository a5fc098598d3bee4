"""A bitmap of page frames, written from ascending ranges: bit 0 of byte 0 first, holes where nothing is set.

Owns the bits. Memory: one window, whatever the number of frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from netdump.store.files import File

_WINDOW_BYTES: Final = 65536


class BitmapWriter:
    """A bitmap at a position of a file. finish() must be called; everything may raise OSError."""

    __slots__ = ("_at", "_file", "_position", "_used", "_window")

    def __init__(self, file: File, position: int) -> None:
        self._file: Final = file
        self._position: Final = position
        self._at = 0  # first byte of the bitmap that the window stands for
        self._window: Final = bytearray(_WINDOW_BYTES)
        self._used = False

    def set(self, first: int, end: int) -> None:
        """Set the bits first .. end - 1. first: not less than any end before it."""
        while first < end:
            if first >= 8 * (self._at + _WINDOW_BYTES):
                self.finish()
                self._at = first // 8 // _WINDOW_BYTES * _WINDOW_BYTES
            stop = min(end, 8 * (self._at + _WINDOW_BYTES))
            self._fill(first - 8 * self._at, stop - 8 * self._at)
            first = stop

    def finish(self) -> None:
        """Write what is not yet written."""
        if self._used:
            self._file.write_at(self._position + self._at, self._window.rstrip(b"\0"))
            self._window[:] = bytes(_WINDOW_BYTES)
            self._used = False

    def _fill(self, first: int, end: int) -> None:
        """Set bits of the window."""
        self._used = True
        head, tail = first // 8, end // 8
        if head == tail:
            self._window[head] |= (1 << end % 8) - (1 << first % 8)
            return
        self._window[head] |= 0xFF & -(1 << first % 8)
        self._window[head + 1 : tail] = b"\xff" * (tail - head - 1)
        if end % 8:
            self._window[tail] |= (1 << end % 8) - 1
