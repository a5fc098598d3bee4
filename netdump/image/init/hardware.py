"""The hardware watchdog: resets the machine if process 1 does not speak for a minute.

Owns /dev/watchdog0. Without one, or if it refuses, everything goes on without. Source: Linux
Documentation/watchdog/watchdog-api.rst.
"""

from __future__ import annotations

import os
import sys

from netdump.image.init.console import say

DEVICES = ("/dev/watchdog0", "/dev/watchdog")
WDIOC_SETTIMEOUT = 0xC0045706


class HardwareWatchdog:
    """Opened, and so started, by the constructor. seconds: until it resets the machine, 0 never opens it."""

    def __init__(self, seconds: int, devices: tuple[str, ...] = DEVICES) -> None:
        self._descriptor = -1
        self._complained = False
        for device in devices if seconds > 0 else ():
            try:
                self._descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                continue
            self._set_timeout(seconds)
            say(f"{device} resets this machine if the init stops for about {seconds} s")
            break

    def pet(self) -> None:
        """Say that all is well. Called at least every few seconds.

        One that fails is not closed: it would run on, and reset the machine. A board controller is busy for a moment,
        and listens the next time.
        """
        self._write(b"\0")

    def release(self) -> None:
        """Stop it, for an action after which the machine shall stay as it is."""
        self._write(b"V")
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _set_timeout(self, seconds: int) -> None:
        """The kernel reads and writes a C int, in the byte order of this machine."""
        from fcntl import ioctl  # noqa: PLC0415 - only where there is a watchdog

        try:
            ioctl(self._descriptor, WDIOC_SETTIMEOUT, seconds.to_bytes(4, sys.byteorder))
        except OSError as error:
            say(f"the watchdog keeps its own time: {error.strerror}")

    def _write(self, data: bytes) -> None:
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, data)
        except OSError as error:
            if not self._complained:
                say(f"the watchdog does not listen: {error.strerror}")
            self._complained = True
