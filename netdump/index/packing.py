"""What is left of a segment file, packed for a slow network: the answer to GET …/segments/{name}/packed?from=N.

Owns that form, both ways. It is made while it is sent and taken apart as it comes: what arrives is the segment, byte
for byte, and is verified as such. Integers are big-endian; a record for each piece, in order, until the file ends:

    u32 bytes of segment (1 .. 1 MiB), u32 bytes that follow (1 .. as many), these

If fewer follow they are one zstd frame of the piece, else the piece itself. A stream may be cut anywhere: whoever reads
knows how long the segment is, and goes on behind the last whole piece.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from netdump.codec import Compressor, decompress, seems_compressible
from netdump.errors import CodecError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE_BYTES: Final = 1 << 20
"""Bytes of segment in one piece, at most: what taking a hostile stream apart may cost, twice."""

PART_BYTES: Final = 1 << 18
"""Of a stored piece, as much as is waited for before it is handed on."""

LEVEL: Final = 3
"""Whoever asks has a network slower than this: 0.25 GB/s on one CPU."""

_RECORD: Final = struct.Struct(">II")


class Packer:
    """Packs pieces, one after the other. Not thread-safe, but not bound to a thread."""

    __slots__ = ("_compressor",)

    def __init__(self) -> None:
        self._compressor: Final = Compressor(LEVEL)

    def pack(self, piece: bytes) -> bytes:
        """The record of a piece of 1 .. PIECE_BYTES bytes. What was compressed before it stays as it is."""
        assert 1 <= len(piece) <= PIECE_BYTES
        body = self._compressor.compress(piece) if seems_compressible(piece, self._compressor) else piece
        if len(body) >= len(piece):
            body = piece
        return _RECORD.pack(len(piece), len(body)) + body


def stored_head(piece: bytes) -> bytes:
    """What stands before a piece of 1 .. PIECE_BYTES bytes that is sent as it is."""
    return _RECORD.pack(len(piece), len(piece))


def unpack_pieces(read: Callable[[int], bytes]) -> Iterator[tuple[bytes, int]]:
    """(bytes of the segment, how many bytes of the stream they took), in order; of what is stored a part at a time.

    read(n): the next n bytes of the stream, fewer only at its end. Raises RemoteError for what no collector sends.
    """
    while len(head := read(_RECORD.size)) == _RECORD.size:
        raw_bytes, left = _RECORD.unpack(head)
        if not 1 <= left <= raw_bytes <= PIECE_BYTES:
            raise RemoteError(f"a packed piece of {raw_bytes} bytes in {left}: no collector sends that")
        came = _RECORD.size
        if left < raw_bytes:
            body = read(left)
            if len(body) < left:
                return
            yield _unpack(body, raw_bytes), came + left
            continue
        while left:
            part = read(min(left, PART_BYTES))
            if not part:
                return
            yield part, came + len(part)
            left -= len(part)
            came = 0


def _unpack(body: bytes, raw_bytes: int) -> bytes:
    try:
        return decompress(body, raw_bytes)
    except CodecError as error:
        raise RemoteError(f"a packed piece cannot be unpacked: {error}") from None
