"""The run tables of a dump, in image order, without the data that goes with them.

Owns reading them cheaply: of each chunk the beginning of its frame, nothing is decompressed. So their digests, which
cover the data too, are not verified; their form is, and that they are what the segment's table counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.errors import RemoteProtocolError
from netdump.namedtuple import NamedTuple
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.wire import check_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.store.segment import SegmentReader


class RunTable(NamedTuple):
    """The runs of one chunk, as on the wire. offset, length: of image."""

    offset: int
    length: int
    table: bytes


def read_run_tables(segment: SegmentReader) -> Iterator[RunTable]:
    """The run table of each chunk of a segment, in order. Raises DamageFoundError (bad-chunk), OSError."""
    for entry in segment.entries():
        table = segment.run_table(entry)
        try:
            raw_bytes = check_runs(table, entry.offset, entry.length)
        except RemoteProtocolError as error:
            problem = str(error)
        else:
            if raw_bytes == entry.raw_bytes:
                yield RunTable(entry.offset, entry.length, table)
                continue
            problem = f"its runs call for {raw_bytes} bytes of data, the segment's table says {entry.raw_bytes}"
        text = f"chunk at image offset {entry.offset}: {problem}"
        raise DamageFoundError(Finding(Damage.BAD_CHUNK, segment.name, entry.position, text))
