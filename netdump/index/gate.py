"""Who is at work on the index in this process, and who wants it for itself."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gate:
    """Lets any number of threads in at a time, or one that wants to be alone. Who waits to be alone goes first."""

    __slots__ = ("_changed", "_inside", "_wanted")

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._wanted = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside others. A thread that is inside must not come in again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._wanted)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else inside. For one thread at a time: others wait."""
        with self._changed:
            self._wanted += 1
            self._changed.wait_for(lambda: not self._inside)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._wanted -= 1
                self._changed.notify_all()


class Turns:
    """Lets one thread in at a time, in the order of coming.

    For those that write: SQLite has each of them look again after up to a tenth of a second whether it may, and between
    two transactions of one that has thousands there is hardly a moment.
    """

    __slots__ = ("_changed", "_queue")

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def taken(self, seconds: float) -> Iterator[None]:
        """Inside it is this thread's turn. Raises TimeoutError if that does not come within so many seconds."""
        me = object()
        with self._changed:
            self._queue.append(me)
            if not self._changed.wait_for(lambda: self._queue[0] is me, seconds):
                self._queue.remove(me)
                raise TimeoutError
        try:
            yield
        finally:
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()
