"""Signals that end a command: they unwind it, so that what was made is removed.

Owns which signals these are. Ctrl-C does so by itself.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType

ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def orderly_end() -> Iterator[None]:
    """Make the signals of an end exceptions for the time of the block, so that it stops and removes what it has begun.

    Then the process ends by that signal, as it would have done without: who has sent it (systemd) sees that.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)  # a second one must not cut the tidying short
        raise _Ended(number)

    try:
        with caught(end) as before:
            yield
    except _Ended as ended:
        signal.raise_signal(ended.number)
        raise  # only if the signal is blocked, or somebody else's


class _Ended(BaseException):
    """A signal came. number: which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def caught(handler: Callable[[int, FrameType | None], object]) -> Iterator[Collection[int]]:
    """Let a handler have those signals of ENDS that are not ignored (nohup) for the time of the block: which."""
    before = {number: signal.getsignal(number) for number in ENDS if signal.getsignal(number) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)
