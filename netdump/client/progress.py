"""What the sender tells whoever watches: a line that is rewritten on a terminal, plain lines elsewhere, the kernel log.

Owns how figures and rates are worded, and the rule that reporting never stops a dump: nothing here blocks (a serial
console or a pipe that takes no more loses lines, not time) and nothing here raises.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KMSG = "/dev/kmsg"
KMSG_LINE_MAX = 900
"""Bytes of a line; the kernel refuses records over 976 (Linux kernel/printk/printk.c, devkmsg_write, LOG_LINE_MAX)."""

KMSG_BURST = 8  # lines in KMSG_INTERVAL; the kernel's own limit is 10 in 5 s
KMSG_INTERVAL = 5.0
TTY_INTERVAL = 0.25
RATE_WINDOW = 15.0  # seconds over which the current rate is taken
LINE_MAX = 1000
LAST_LINE_PATIENCE = 1.0  # seconds that a line which is not progress waits for a console to take it
MIB = 1 << 20


def printable(text: str) -> str:
    """Return text with everything but printable characters escaped: it may come from a peer and go to a terminal."""
    # ascii(), because a codec for this would have to be loaded, and is not in the capture image.
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)[:LINE_MAX]


def mebibytes(count: float) -> str:
    """Write a number of bytes for people."""
    return f"{count / MIB:.1f} MiB"


def duration(seconds: float) -> str:
    """Write seconds as M:SS or H:MM:SS."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Console:
    """Writes lines to a descriptor (stderr) and, if asked, to the kernel log. For one thread.

    interval: seconds between lines of progress off a terminal. verbosity: -1 only what went wrong, 0, 1 every attempt.
    """

    def __init__(
        self,
        descriptor: int = 2,
        *,
        interval: float = 5.0,
        verbosity: int = 0,
        kmsg: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._descriptor = descriptor
        self._writable, self._ours = _open_non_blocking(descriptor)
        self._clock = clock
        self._verbosity = verbosity
        self._terminal = os.isatty(descriptor)
        self._interval = TTY_INTERVAL if self._terminal else interval
        self._next_progress = clock()
        self._overwrite = 0  # columns of the progress line that stands on the terminal
        self._kmsg = KernelLog(kmsg, clock) if kmsg else None

    def detail(self, text: str) -> None:
        """Say something that only -v wants to know."""
        if self._verbosity > 0:
            self._line(text)

    def say(self, text: str) -> None:
        """Say something worth keeping: also to the kernel log."""
        if self._kmsg:
            self._kmsg.write(5, text)
        if self._verbosity >= 0:
            self._line(text)

    def warn(self, text: str) -> None:
        """Say what went wrong or needs attention: shown even with -q."""
        if self._kmsg:
            self._kmsg.write(4, text)
        self._line(text)

    def progress(self, text: Callable[[], str]) -> None:
        """Show the state, if it is time to. Called often; text is asked only when a line is due."""
        now = self._clock()
        if self._verbosity < 0 or now < self._next_progress:
            return
        self._next_progress = now + self._interval
        line = f"netdump: {text()}"[: self._columns()]
        if self._terminal:
            self._write(f"\r{line:<{self._overwrite}}", 0)
            self._overwrite = len(line)
        else:
            self._write(f"{line}\n", 0)

    def configure(self, interval: float, kmsg: str | None) -> None:
        """Set what is only known once the settings were read: see the class."""
        self._interval = TTY_INTERVAL if self._terminal else interval
        self._next_progress = self._clock() + self._interval
        if self._kmsg:
            self._kmsg.close()
        self._kmsg = KernelLog(kmsg, self._clock) if kmsg else None

    def close(self) -> None:
        """Give the kernel log back. The descriptor is the caller's. Nothing may be said afterwards."""
        if self._kmsg:
            self._kmsg.close()
        if self._ours:
            os.close(self._writable)
            self._ours = False

    def _line(self, text: str) -> None:
        line = f"netdump: {printable(text)}"
        start = f"\r{'':<{self._overwrite}}\r" if self._overwrite else ""
        self._overwrite = 0
        self._write(f"{start}{line}\n", LAST_LINE_PATIENCE)

    def _columns(self) -> int:
        """How long a line may be that can be rewritten: shorter than the terminal is wide."""
        try:
            columns = os.get_terminal_size(self._descriptor).columns if self._terminal else 0
        except OSError:
            columns = 0
        return columns - 1 if columns > 1 else LINE_MAX

    def _write(self, text: str, patience: float) -> None:
        """Write what the descriptor takes within patience seconds, and drop the rest."""
        left = text.encode(errors="replace")
        limit = time.monotonic() + patience
        poller = select.poll()
        poller.register(self._writable, select.POLLOUT)
        try:
            while left and poller.poll(max(0.0, limit - time.monotonic()) * 1000):
                left = left[os.write(self._writable, left) :]
        except OSError:
            pass  # nobody reads any more, or not enough room in a pipe; the dump goes on


def _open_non_blocking(descriptor: int) -> tuple[int, bool]:
    """Open the terminal or pipe behind a descriptor anew, so that a write to it never waits, and say whether it worked.

    A terminal that polls as writable may have less room than a line takes, and then a write would wait. Making the
    descriptor itself non-blocking would do so for everybody who shares it. Anything else is used as it is: a file
    never waits, and a socket that polls as writable takes a line.
    """
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{descriptor}", flags), True
    except OSError:
        pass  # no /proc, not our terminal, nobody reads the pipe any more
    return descriptor, False


class KernelLog:
    """Lines into the kernel's log, few enough that the kernel keeps them all. Without permission it is silent."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=KMSG_BURST)
        self._dropped = 0
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def write(self, level: int, text: str) -> None:
        """Write one record.

        level: of syslog, 4 warning, 5 notice. More than KMSG_BURST in KMSG_INTERVAL are dropped and counted.
        """
        now = self._clock()
        if self._descriptor < 0:
            return
        if len(self._recent) == KMSG_BURST and now - self._recent[0] < KMSG_INTERVAL:
            self._dropped += 1
            return
        self._recent.append(now)
        lost = f" ({self._dropped} lines before this were dropped)" if self._dropped else ""
        self._dropped = 0
        record = f"<{level}>netdump: {printable(text)}{lost}".encode(errors="replace")[:KMSG_LINE_MAX]
        try:
            os.write(self._descriptor, record)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the log; what is written afterwards goes nowhere."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Meter:
    """Turns counts of delivered bytes into a rate and an estimate of what is left. total: bytes, 1 or more."""

    __slots__ = ("_done", "_points", "_total")

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._points: deque[tuple[float, int]] = deque()

    def restart(self, done: int, now: float) -> None:
        """A connection goes on from done: what was counted before says nothing of its rate."""
        self._done = done
        self._points.clear()
        self._points.append((now, done))

    def update(self, done: int, now: float) -> None:
        """Note that done bytes of the image are durable at the collector."""
        self._done = done
        if not self._points or now - self._points[-1][0] >= TTY_INTERVAL:
            self._points.append((now, done))
        while len(self._points) > 1 and now - self._points[0][0] > RATE_WINDOW:
            self._points.popleft()

    def rate(self, now: float) -> float:
        """Bytes per second over the last RATE_WINDOW; 0 when nothing is known."""
        if not self._points or now <= self._points[0][0]:
            return 0.0
        start, done = self._points[0]
        return (self._done - done) / (now - start)

    def describe(self, now: float) -> str:
        """The state in one line: bytes, share, rate, estimate."""
        rate = self.rate(now)
        eta = duration((self._total - self._done) / rate) if rate > 0 else "-:--"
        share = 100 * self._done / self._total
        return f"{mebibytes(self._done)} of {mebibytes(self._total)} ({share:.1f} %), {mebibytes(rate)}/s, ETA {eta}"
