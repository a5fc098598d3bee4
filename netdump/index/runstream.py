"""The run tables of a dump as a stream of bytes: the body of the API's answer to GET /v1/dumps/{id}/runs.

Owns that form, both ways. Integers are big-endian. A record for each chunk, in image order from 0 on, without gaps:

    u64 image offset, u32 bytes of image, u32 bytes of table, the run table (wire.md 4.6)

The last record has 0 bytes of image and says up to which offset the dump reaches. If its table is not empty, something
went wrong on the way, when the status of the answer was sent already: it is the JSON object of an error then. A stream
without that record was cut.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Final

from netdump.errors import NetdumpError, RemoteError, RemoteProtocolError, UnreachableError
from netdump.store.runtables import RunTable
from netdump.wire import CHUNK_LENGTH_MAX, CHUNK_RUNS_MAX, IMAGE_BYTES_MAX, check_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

PIECE_BYTES: Final = 65536

_RECORD: Final = struct.Struct(">QII")
_TABLE_MAX: Final = CHUNK_RUNS_MAX * 16


def pack_stream(tables: Iterable[RunTable]) -> Generator[bytes, None, None]:
    """The stream, in pieces of about PIECE_BYTES.

    An error of tables ends it and is in it; before the first piece it is raised instead.
    """
    piece = bytearray()
    end, trouble, begun = 0, b"", False
    try:
        for offset, length, table in tables:
            piece += _RECORD.pack(offset, length, len(table)) + table
            end = offset + length
            if len(piece) >= PIECE_BYTES:
                begun = True
                yield bytes(piece)
                piece.clear()
    except NetdumpError as error:
        if not begun:
            raise
        trouble = json.dumps({"error": {"code": error.code, "message": str(error)}}).encode()[:_TABLE_MAX]
    yield bytes(piece) + _RECORD.pack(end, 0, len(trouble)) + trouble


def unpack_stream(
    pieces: Iterator[bytes], as_error: Callable[[bytes], NetdumpError]
) -> Generator[RunTable, None, None]:
    """The run tables, each checked by all rules about runs.

    as_error: makes the error that is raised of the object at the end that tells of one. Raises RemoteError for what no
    collector sends, UnreachableError for a stream that was cut. What follows the last record is not read.
    """
    buffer = bytearray()
    at = end = 0
    while True:
        while len(buffer) - at < _RECORD.size:
            buffer, at = _more(buffer, at, pieces)
        offset, length, table_bytes = _RECORD.unpack_from(buffer, at)
        if offset != end or length > CHUNK_LENGTH_MAX or table_bytes > _TABLE_MAX or end + length > IMAGE_BYTES_MAX:
            raise RemoteError(f"the run tables do not follow one another at image offset {end}")
        while len(buffer) - at < _RECORD.size + table_bytes:
            buffer, at = _more(buffer, at, pieces)
        at += _RECORD.size + table_bytes
        table = bytes(buffer[at - table_bytes : at])
        if not length:
            if table:
                raise as_error(table)
            return
        try:
            check_runs(table, offset, length)
        except RemoteProtocolError as error:
            raise RemoteError(f"a run table is none: {error}") from None
        yield RunTable(offset, length, table)
        end += length


def _more(buffer: bytearray, at: int, pieces: Iterator[bytes]) -> tuple[bytearray, int]:
    """What is left of buffer from position at on, and the next piece behind it."""
    piece = next(pieces, None)
    if piece is None:
        raise UnreachableError("the run tables ended before their end; try again")
    return buffer[at:] + piece, 0
