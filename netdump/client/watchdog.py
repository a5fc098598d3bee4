"""The last resort: ends the process if it is still there some seconds after its deadline.

The sender watches the deadline itself wherever it waits. What it cannot watch is a read of the source or a write to
stdout that never returns; a host that never reboots because of that is the worst outcome (DESIGN section 3). Owns one
daemon thread, or the timer of the process where none can be started.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from netdump.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 3.0  # seconds after the deadline; with the last word, and what its end takes, there are less than five
LAST_WORD_PATIENCE = 1.0  # seconds that stderr gets to take the last word
TIMER_LEAST = 1e-3  # seconds; 0 would be no timer


class Watchdog:
    """Barks when its time has come, unless called off before. bark: what ends the process; never returns.

    Where no thread can be started, SIGALRM ends the process instead, without a word.
    """

    def __init__(self, bark: Callable[[], None]) -> None:
        self._bark = bark
        self._called_off = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_timer = False

    def arm(self, delay: float) -> None:
        """Bark in delay seconds; what was said before no longer counts."""
        self.call_off()
        self._called_off.clear()
        thread = threading.Thread(target=self._watch, args=(delay,), daemon=True, name="watchdog")
        try:
            thread.start()
        except RuntimeError:
            self._has_timer = True
            signal.setitimer(signal.ITIMER_REAL, max(delay, TIMER_LEAST))
            return
        self._thread = thread  # of which call_off knows only now: a signal may come before it runs

    def call_off(self) -> None:
        """The process ends by itself."""
        self._called_off.set()
        if self._has_timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._has_timer = False
        if self._thread:
            self._thread.join()
            self._thread = None

    def _watch(self, delay: float) -> None:
        if not self._called_off.wait(delay):
            self._bark()


def end_process() -> None:
    """Say why and end at once, with the status of a missed deadline. Nothing is flushed: what may hang is not asked.

    A stderr that takes nothing (a full pipe, a console that stands still) does not hold up the end: the last word is
    written by a thread that is not waited for longer than LAST_WORD_PATIENCE.
    """
    try:
        speaker = threading.Thread(target=_say_last_word, daemon=True, name="last-word")
        speaker.start()
        speaker.join(LAST_WORD_PATIENCE)
    finally:  # also without memory for a thread
        os._exit(DeadlineError.exit_status)


def _say_last_word() -> None:
    with suppress(OSError):  # nobody reads any more
        os.write(
            2, b"\nnetdump: the deadline has passed and the sender hangs, in reading the core or writing; ending it\n"
        )
