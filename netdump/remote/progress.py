"""Who is told how a fetch goes on."""

from __future__ import annotations

from typing import Final, Protocol


class Progress(Protocol):
    """Is told of progress, from several threads, one piece of work after the other."""

    def begin(self, total: int, done: int, what: str = "fetching") -> None:
        """A piece of work begins: so many bytes, of which so many are done. Fetched bytes are compressed ones."""

    def advance(self, count: int) -> None:
        """More is done; less than 0 if something must be done again."""


class Follower:
    """Tells a Progress of one piece of work whose total is known when it goes on, and only then."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress: Final = progress
        self._what: Final = what
        self._done = 0
        self._begun = False

    def __call__(self, done: int, total: int) -> None:
        """So much of total is done."""
        if not self._begun:
            self._begun = True
            self._progress.begin(total, 0, self._what)
        self._progress.advance(done - self._done)
        self._done = done
