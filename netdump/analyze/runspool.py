"""The run tables of a dump, kept in an unnamed temporary file, to be read from any image offset on.

Owns that file. A large dump has millions of runs, and who wants them in the order of physical memory must go back and
forth between parts of the image: memory holds one number pair per 64 KiB of tables, and nothing else.
"""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Self

from netdump.store.durable import storage_faults
from netdump.store.totals import Totals
from netdump.wire import iter_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from netdump.store.runtables import RunTable

_RECORD: Final = struct.Struct("<QII")  # image offset, bytes of image, bytes of table
_BLOCK_BYTES: Final = 65536

Piece = tuple[int, int, int, int]
"""Image offset of start and end, PageState and ExcludeClass as plain numbers: there may be millions of them."""


class RunSpool:
    """A context manager. end: up to where the tables reach; totals: what all of them add up to."""

    __slots__ = ("_file", "_offsets", "_positions", "_progress", "end", "totals")

    def __init__(
        self, tables: Iterable[RunTable], folder: Path | None = None, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """tables: checked, in image order from 0 on, without gaps. folder: on whose file system to keep them. progress:
        is told bytes of image, as their tables are read.

        Raises StorageFaultError, and what tables raises.
        """
        self.end = 0
        self._progress: Final = progress
        self.totals: Final = Totals()
        self._offsets: Final = array("Q")
        self._positions: Final = array("Q", [0])
        with storage_faults("keeping the run tables"):
            self._file: Final = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by close()
        try:
            self._fill(tables)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; may be called again."""
        self._file.close()

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The runs between two image offsets, clipped to them, neighbours of one state and class joined.

        Ends early where the tables do. Raises StorageFaultError.
        """
        if start >= end:
            return
        begin, state, exclude = start, -1, 0
        for place, run_state, run_exclude in self._runs(start, end):
            if run_state != state or run_exclude != exclude:
                if state >= 0:
                    yield begin, place, state, exclude
                begin, state, exclude = max(place, start), run_state, run_exclude
        if state >= 0:
            yield begin, min(end, self.end), state, exclude

    def _fill(self, tables: Iterable[RunTable]) -> None:
        block = bytearray()
        for offset, length, table in tables:
            assert offset == self.end, "run tables follow one another"
            if not block:
                self._offsets.append(offset)
            block += _RECORD.pack(offset, length, len(table)) + table
            self.totals.add_chunk(table, 0)
            self.end = offset + length
            self._progress(length)
            if len(block) >= _BLOCK_BYTES:
                self._flush(block)
        if block:
            self._flush(block)

    def _flush(self, block: bytearray) -> None:
        with storage_faults("keeping the run tables"):
            self._file.write(block)
            self._file.flush()
        self._positions.append(self._positions[-1] + len(block))
        block.clear()

    def _runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(image offset, state, class) of each run that has a byte between start and end."""
        for number in range(max(0, bisect_right(self._offsets, start) - 1), len(self._offsets)):
            position = self._positions[number]
            with storage_faults("reading the run tables back"):
                block = os.pread(self._file.fileno(), self._positions[number + 1] - position, position)
            at = 0
            while at < len(block):
                place, length, table_bytes = _RECORD.unpack_from(block, at)
                at += _RECORD.size + table_bytes
                if place >= end:
                    return
                if place + length <= start:
                    continue
                for state, exclude, size in iter_runs(block[at - table_bytes : at]):
                    if place >= end:
                        return
                    if place + size > start:
                        yield place, state, exclude
                    place += size
