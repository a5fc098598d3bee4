"""How much of an image is in which state: sums over run tables.

Owns the sums. Must not read files. The tables are taken as they stand: the wire's core has checked them (wire.md 4.6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from netdump.pages import ExcludeClass, PageState
from netdump.wire import iter_runs

_DATA: Final = int(PageState.DATA)
_EXCLUDED: Final = int(PageState.EXCLUDED)


@dataclass(slots=True)
class Totals:
    """Bytes of image by state, of excluded ones by class too, and of stored frames.

    excluded_by: classes that occur only, so that it equals the manifest's ``excluded``.
    """

    data: int = 0
    zero: int = 0
    alias: int = 0
    excluded: int = 0
    lost: int = 0
    stored: int = 0
    excluded_by: dict[ExcludeClass, int] = field(default_factory=dict)

    def add_chunk(self, table: bytes, frame_bytes: int) -> None:
        """Count a chunk with that run table.

        Raises RemoteProtocolError for a table that is cut, ValueError for an unknown state or class.
        """
        sums = [0] * len(PageState)
        by_class = [0] * 256
        for state, reason, size in iter_runs(table):
            if state >= len(sums):
                raise ValueError(f"unknown page state {state}")
            sums[state] += size
            if state == _EXCLUDED:
                by_class[reason] += size
        for reason, size in enumerate(by_class):
            if size:
                known = ExcludeClass(reason)
                self.excluded_by[known] = self.excluded_by.get(known, 0) + size
        self.data += sums[PageState.DATA]
        self.zero += sums[PageState.ZERO]
        self.alias += sums[PageState.ALIAS]
        self.excluded += sums[PageState.EXCLUDED]
        self.lost += sums[PageState.LOST]
        self.stored += frame_bytes

    def add(self, other: Totals) -> None:
        """Count all that other has counted."""
        self.data += other.data
        self.zero += other.zero
        self.alias += other.alias
        self.excluded += other.excluded
        self.lost += other.lost
        self.stored += other.stored
        for reason, size in other.excluded_by.items():
            self.excluded_by[reason] = self.excluded_by.get(reason, 0) + size

    @property
    def image_bytes(self) -> int:
        """Bytes of image counted."""
        return self.data + self.zero + self.alias + self.excluded + self.lost


def data_bytes(table: bytes) -> int:
    """Bytes of raw data that a run table calls for. The table was checked."""
    return sum(size for state, _, size in iter_runs(table) if state == _DATA)
