"""The bytes of a segment: header, CHUNK frames, table, trailer (store.md section 4).

Owns the format, both ways. A SegmentReader exists only for a sound segment ([S-20]); what it hands out is verified
([S-21]). Must not know folders, or how segments make up a dump.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final, Self

from netdump.errors import RemoteProtocolError
from netdump.namedtuple import NamedTuple
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.intake import verify_chunk
from netdump.store.layout import segment_name, segment_range
from netdump.wire import (
    CHUNK_DATA_MAX,
    CHUNK_LENGTH_MAX,
    FIELD_HEADER_BYTES,
    FRAME_HEADER_BYTES,
    IMAGE_BYTES_MAX,
    MESSAGE_PAYLOAD_MAX,
    SEGMENT_CHUNKS_MAX,
    SEGMENT_END_MAGIC,
    SEGMENT_ENTRY_BYTES,
    SEGMENT_HEADER_BYTES,
    SEGMENT_MAGIC,
    SEGMENT_TRAILER_BYTES,
    Chunk,
    MessageType,
    chain_link,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.store.files import Buffer, File, ReadableFile

_HEADER: Final = struct.Struct(">8s16sQQ32s")
_ENTRY: Final = struct.Struct(">QIIQII32s")
_TRAILER: Final = struct.Struct(">IIQQ32s32s8s")
_SIGNED_TRAILER_BYTES: Final = 56
_FIELD: Final = struct.Struct(">HI")
_RUNS_FIELD: Final = 3  # [field.CHUNK] runs
_PREFIX_BYTES: Final = 2048  # as much of a frame as holds most run tables
_FRAME_MAX: Final = FRAME_HEADER_BYTES + MESSAGE_PAYLOAD_MAX[MessageType.CHUNK]

assert (_HEADER.size, _ENTRY.size, _TRAILER.size) == (SEGMENT_HEADER_BYTES, SEGMENT_ENTRY_BYTES, SEGMENT_TRAILER_BYTES)


class SegmentInfo(NamedTuple):
    """A segment as the manifest names it.

    start, end: image offsets. sha256: the digest in its trailer.
    """

    start: int
    end: int
    chunks: int
    file_bytes: int
    sha256: bytes

    @property
    def name(self) -> str:
        """The file name."""
        return segment_name(self.start, self.end)


class Link(NamedTuple):
    """A sound segment as a link between chain values. first: number of chunks of the dump before it."""

    info: SegmentInfo
    first: int
    chain_before: bytes
    chain_after: bytes


class Entry(NamedTuple):
    """What the table says of a chunk.

    position: of its frame in the file; offset, length: of image. Spec: store.md 4.
    """

    position: int
    frame_bytes: int
    raw_bytes: int
    offset: int
    length: int
    digest: bytes


class StoredChunk(NamedTuple):
    """A verified chunk: the message, its raw data, and where its frame stands in the file."""

    chunk: Chunk
    raw: Buffer
    position: int


class SegmentWriter:
    """Builds a segment in a new file.

    Not thread-safe. Nothing counts before finish(), a sync and the final name. Spec: [S-22].
    """

    __slots__ = (
        "_chain_before",
        "_entries",
        "_file",
        "_header",
        "_position",
        "chain",
        "chunks",
        "end",
        "first",
        "start",
    )

    def __init__(self, file: File, dump_id: bytes, start: int, first: int, chain: bytes) -> None:
        """start: image offset, first: chunks before it, chain: the chain value there. Raises OSError."""
        self._file: Final = file
        self._header: Final = _HEADER.pack(SEGMENT_MAGIC, dump_id, start, first, chain)
        self._entries = bytearray()
        self._chain_before: Final = chain
        self.start: Final = start
        self.first: Final = first
        self.chain = chain
        self.chunks = 0
        self.end = start
        file.write(self._header)
        self._position = len(self._header)

    def append(self, chunk: Chunk, raw_bytes: int) -> None:
        """Add a received chunk that was verified and begins at end. raw_bytes: of its raw data. Raises OSError."""
        assert chunk.frame, "only a received chunk has the frame to store"
        assert chunk.offset == self.end, (chunk.offset, self.end)
        assert self.chunks < SEGMENT_CHUNKS_MAX
        self._file.write(chunk.frame)
        frame_bytes = len(chunk.frame)
        self._entries += _ENTRY.pack(
            self._position, frame_bytes, raw_bytes, chunk.offset, chunk.length, 0, chunk.digest
        )
        self._position += frame_bytes
        self.chain = chain_link(self.chain, chunk.digest)
        self.chunks += 1
        self.end += chunk.length

    @property
    def bytes(self) -> int:
        """Bytes in the file so far."""
        return self._position

    def finish(self) -> Link:
        """Write table and trailer. The file is a whole segment then, but not durable. Raises OSError."""
        trailer = struct.pack(">IIQQ32s", self.chunks, 0, self._position, self.end, self.chain)
        digest = hashlib.sha256(self._header)
        digest.update(self._entries)
        digest.update(trailer)
        self._file.write(self._entries)
        self._file.write(trailer + digest.digest() + SEGMENT_END_MAGIC)
        size = self._position + len(self._entries) + SEGMENT_TRAILER_BYTES
        info = SegmentInfo(self.start, self.end, self.chunks, size, digest.digest())
        return Link(info, self.first, self._chain_before, self.chain)


class SegmentReader:
    """A sound segment, open for reading.

    Safe for several threads. Closes the file with close() or at the end of a with block.
    """

    __slots__ = ("_file", "_table", "link", "name")

    def __init__(self, file: ReadableFile, name: str, dump_id: bytes) -> None:
        """Check [S-20]; name: the file's own name, without folder. The file is closed if it is not sound.

        Reads header, table and trailer only, keeps the table (64 bytes a chunk). Raises DamageFoundError (not-sound),
        OSError.
        """
        self._file: Final = file
        self.name: Final = name
        try:
            self._table, self.link = _check_soundness(file, name, dump_id)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    @property
    def info(self) -> SegmentInfo:
        """As the manifest names it."""
        return self.link.info

    def read(self, position: int, length: int) -> bytes:
        """Bytes of the file as they are, for handing the segment on.

        Fewer than length only at its end. Raises OSError.
        """
        return bytes(self._file.read(position, length))

    def entries(self) -> Iterator[Entry]:
        """The table, in order."""
        for position, frame_bytes, raw_bytes, offset, length, _, digest in _ENTRY.iter_unpack(self._table):
            yield Entry(position, frame_bytes, raw_bytes, offset, length, digest)

    def chunks(self) -> Iterator[StoredChunk]:
        """Every chunk, verified, in order. Raises DamageFoundError at the first that is not, OSError. Spec: [S-21]."""
        for entry in self.entries():
            yield self.chunk(entry)

    def chunk(self, entry: Entry) -> StoredChunk:
        """One chunk, verified. Raises DamageFoundError (bad-chunk, bad-codec, bad-digest), OSError. Spec: [S-21]."""
        frame = self._file.read(entry.position, entry.frame_bytes)
        try:
            chunk = unpack(frame)
            if not isinstance(chunk, Chunk):
                raise self._bad(entry, Damage.BAD_CHUNK, "the frame is no CHUNK")
            raw = verify_chunk(chunk)
        except RemoteProtocolError as error:
            damage = {"bad-codec": Damage.BAD_CODEC, "bad-digest": Damage.BAD_DIGEST}.get(
                error.reason, Damage.BAD_CHUNK
            )
            raise self._bad(entry, damage, str(error)) from None
        if chunk.digest != entry.digest:
            raise self._bad(entry, Damage.BAD_DIGEST, "the digest in the frame is not the one in the table")
        if (chunk.offset, chunk.length, len(raw)) != (entry.offset, entry.length, entry.raw_bytes):
            raise self._bad(entry, Damage.BAD_CHUNK, "offset, length or raw bytes are not those of the table")
        return StoredChunk(chunk, raw, entry.position)

    def run_table(self, entry: Entry) -> bytes:
        """The run table of a chunk without the rest of its frame: not verified.

        Raises DamageFoundError (bad-chunk), OSError.
        """
        prefix, start = self._prefix(entry)
        return prefix[start:]

    def write_skeleton(self, file: File) -> None:
        """Write all but what stands behind the run tables, each part at its place: a sparse file, as long as this one.

        A SegmentReader of that has entries and run tables, but no chunks. Raises DamageFoundError, OSError.
        """
        file.write_at(0, self._file.read(0, SEGMENT_HEADER_BYTES))
        for entry in self.entries():
            prefix, _ = self._prefix(entry)
            file.write_at(entry.position, prefix)
        tail = entry.position + entry.frame_bytes
        file.write_at(tail, self._file.read(tail, self.info.file_bytes - tail))

    def _prefix(self, entry: Entry) -> tuple[bytes, int]:
        """A frame up to the end of its run table, and where in it that begins."""
        for length in (min(entry.frame_bytes, _PREFIX_BYTES), entry.frame_bytes):
            frame = self._file.read(entry.position, length)
            place = _find_run_table(frame)
            if place is not None:
                return bytes(frame[: place.stop]), place.start
        raise self._bad(entry, Damage.BAD_CHUNK, "the frame has no run table")

    def _bad(self, entry: Entry, damage: Damage, text: str) -> DamageFoundError:
        return DamageFoundError(
            Finding(damage, self.name, entry.position, f"chunk at image offset {entry.offset}: {text}")
        )


def _find_run_table(frame: Buffer) -> slice | None:
    """Where the run table is in the beginning of a CHUNK frame, or None if that much does not hold all of it."""
    position = FRAME_HEADER_BYTES
    while position + FIELD_HEADER_BYTES <= len(frame):
        number, length = _FIELD.unpack_from(frame, position)
        position += FIELD_HEADER_BYTES
        if position + length > len(frame):
            return None
        if number & 0x7FFF == _RUNS_FIELD:
            return slice(position, position + length)
        position += length
    return None


def _check_soundness(file: ReadableFile, name: str, dump_id: bytes) -> tuple[bytes, Link]:
    """The table and the place in the chain of a sound segment.

    Every number is checked before it sizes a read. Spec: [S-20].
    """
    size = file.size()
    if size < SEGMENT_HEADER_BYTES + SEGMENT_ENTRY_BYTES + SEGMENT_TRAILER_BYTES:
        raise _unsound(name, None, f"{size} bytes are no segment")
    header = bytes(file.read(0, SEGMENT_HEADER_BYTES))
    magic, its_id, start, first, chain_before = _HEADER.unpack(header)
    if magic != SEGMENT_MAGIC:
        raise _unsound(name, 0, "no segment magic at its start")
    if its_id != dump_id:
        raise _unsound(name, 8, "it is of another dump")
    trailer_position = size - SEGMENT_TRAILER_BYTES
    trailer = bytes(file.read(trailer_position, SEGMENT_TRAILER_BYTES))
    count, reserved, table_position, end, chain_after, sha256, end_magic = _TRAILER.unpack(trailer)
    if end_magic != SEGMENT_END_MAGIC:
        raise _unsound(name, size - len(SEGMENT_END_MAGIC), "no segment magic at its end")
    if not 1 <= count <= SEGMENT_CHUNKS_MAX:
        raise _unsound(name, trailer_position, f"{count} chunks, allowed are 1 .. {SEGMENT_CHUNKS_MAX}")
    if reserved:
        raise _unsound(name, trailer_position + 4, "reserved is not 0")
    if table_position != trailer_position - count * SEGMENT_ENTRY_BYTES or table_position < SEGMENT_HEADER_BYTES:
        raise _unsound(name, trailer_position + 8, f"a table of {count} entries does not begin at {table_position}")
    table = bytes(file.read(table_position, count * SEGMENT_ENTRY_BYTES))
    if hashlib.sha256(header + table + trailer[:_SIGNED_TRAILER_BYTES]).digest() != sha256:
        raise _unsound(
            name, trailer_position + _SIGNED_TRAILER_BYTES, "the digest of header, table and trailer differs"
        )
    if segment_range(name) != (start, end):
        raise _unsound(name, None, f"it holds the image from {start} to {end}, which its name does not say")
    if end > IMAGE_BYTES_MAX:
        raise _unsound(name, trailer_position + 16, f"it ends at {end}, beyond any image")
    if _follow_entries(name, table, table_position, start, chain_before) != (table_position, end, chain_after):
        raise _unsound(name, table_position, "its entries do not lead to its trailer")
    return table, Link(SegmentInfo(start, end, count, size, sha256), first, chain_before, chain_after)


def _follow_entries(name: str, table: bytes, table_position: int, start: int, chain: bytes) -> tuple[int, int, bytes]:
    """(position, image offset, chain value) behind the last entry, if each entry follows the one before."""
    at_position, at_offset = SEGMENT_HEADER_BYTES, start
    for number, entry in enumerate(_ENTRY.iter_unpack(table)):
        position, frame_bytes, raw_bytes, offset, length, reserved, digest = entry
        if position != at_position or offset != at_offset or reserved:
            raise _unsound(name, table_position + number * SEGMENT_ENTRY_BYTES, f"entry {number} does not follow")
        if frame_bytes > _FRAME_MAX or raw_bytes > CHUNK_DATA_MAX or not 1 <= length <= CHUNK_LENGTH_MAX:
            raise _unsound(name, table_position + number * SEGMENT_ENTRY_BYTES, f"entry {number} is of no chunk")
        at_position += frame_bytes
        at_offset += length
        chain = chain_link(chain, digest)
    return at_position, at_offset, chain


def _unsound(name: str, position: int | None, text: str) -> DamageFoundError:
    return DamageFoundError(Finding(Damage.NOT_SOUND, name, position, text))
