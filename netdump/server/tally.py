"""Counts what is logged, for who watches a collector by numbers."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from netdump.server.audit import Audit, Field


COMPLETE: Final = "dump-complete"
"""Counted as 0 before the first: of a number that appears as 1 Prometheus sees no increase."""


class Tally:
    """An audit that counts events by their names, which are all ours, and hands them on. From any thread."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._counts: Counter[str] = Counter({COMPLETE: 0})
        self._guard = threading.Lock()

    def __call__(self, event: str, **fields: Field) -> None:
        """Note one event."""
        with self._guard:
            self._counts[event] += 1
        self._audit(event, **fields)

    def counts(self) -> dict[str, int]:
        """How many there were of each, by name."""
        with self._guard:
            return dict(sorted(self._counts.items()))
