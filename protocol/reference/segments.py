"""Segment files: sound [S-20], verified [S-21], and those that recovery finds [S-23]; store.md section 4."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import digests
from chunks import DATA, DATA_MAX, RUN_BYTES_MAX, Chunk, read_chunk
from frames import CHUNK, HEADER_BYTES, WireError, read_header, read_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAGIC, END_MAGIC = b"NDSEG/1\n", b"NDSEGEND"
SEGMENT_HEADER_BYTES, ENTRY_BYTES, TRAILER_BYTES = 72, 64, 96
SIGNED_TRAILER_BYTES = 56  # of the trailer, covered by its sha256
CHUNKS_MAX = 1 << 20
FRAME_MAX = HEADER_BYTES + CHUNK.payload_max
NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.seg")


class DamagedError(Exception):
    """A file of the store is not what store.md says; the text names file and fault."""


class Entry(NamedTuple):
    """A chunk in the table of a segment; position and frame_bytes in the file, offset and length in the image."""

    position: int
    frame_bytes: int
    raw_bytes: int
    offset: int
    length: int
    digest: bytes


class Place(NamedTuple):
    """A point of a dump between two chunks: image offset, chunks before it, chain value."""

    offset: int
    chunks: int
    chain: bytes


class Segment(NamedTuple):
    """A sound segment."""

    path: Path
    start: Place
    end: Place
    entries: tuple[Entry, ...]
    file_bytes: int
    sha256: bytes


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def read_segment(path: Path, dump_id: bytes) -> Segment:
    """Read header, table and trailer of the segment at path and find it sound [S-20]. Raises DamagedError, OSError."""

    def demand(fact: bool, what: str) -> None:
        if not fact:
            raise DamagedError(f"{path}: {what}")

    name = NAME.fullmatch(path.name)
    demand(name is not None, "no name of a segment")
    assert name is not None
    with path.open("rb") as file:
        size = file.seek(0, 2)
        demand(size >= SEGMENT_HEADER_BYTES + ENTRY_BYTES + TRAILER_BYTES, "too short")
        header = _read_at(file, 0, SEGMENT_HEADER_BYTES)
        trailer = _read_at(file, size - TRAILER_BYTES, TRAILER_BYTES)
        count, table_at = _number(trailer[0:4]), _number(trailer[8:16])
        demand(header[:8] == MAGIC and trailer[88:96] == END_MAGIC, "a magic is wrong")
        demand(1 <= count <= CHUNKS_MAX, f"{count} chunks")
        demand(table_at + ENTRY_BYTES * count + TRAILER_BYTES == size, "the table does not end at the trailer")
        demand(table_at >= SEGMENT_HEADER_BYTES, "the table is in the header")
        table = _read_at(file, table_at, ENTRY_BYTES * count)
    demand(sha256(header + table + trailer[:SIGNED_TRAILER_BYTES]).digest() == trailer[56:88], "the digest is wrong")
    demand(header[8:24] == dump_id, "of another dump")
    demand(trailer[4:8] == bytes(4), "reserved is not 0")
    start = Place(_number(header[24:32]), _number(header[32:40]), header[40:72])
    end = Place(_number(trailer[16:24]), start.chunks + count, trailer[24:56])
    demand((start.offset, end.offset) == (int(name[1], 16), int(name[2], 16)), "the name is of another segment")
    position, offset, chain = SEGMENT_HEADER_BYTES, start.offset, start.chain
    entries: list[Entry] = []
    for at in range(0, len(table), ENTRY_BYTES):
        entry = _read_entry(table[at : at + ENTRY_BYTES])
        demand(table[at + 28 : at + 32] == bytes(4), "reserved is not 0")
        demand((entry.position, entry.offset) == (position, offset), f"a gap before the chunk at {entry.offset}")
        demand(entry.frame_bytes <= FRAME_MAX and entry.raw_bytes <= DATA_MAX, f"{entry} is too large")
        demand(1 <= entry.length <= RUN_BYTES_MAX, f"a chunk of {entry.length} bytes of image")
        position, offset = position + entry.frame_bytes, offset + entry.length
        chain = digests.chain_link(chain, entry.digest)
        entries.append(entry)
    demand((position, offset) == (table_at, end.offset), "the chunks do not fill the segment")
    demand(chain == end.chain, "the chain is broken")
    return Segment(path, start, end, tuple(entries), size, trailer[56:88])


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _read_entry(entry: bytes) -> Entry:
    return Entry(
        _number(entry[0:8]), _number(entry[8:12]), _number(entry[12:16]),
        _number(entry[16:24]), _number(entry[24:28]), entry[32:64],
    )  # fmt: skip


def iter_chunks(segment: Segment, image_bytes: int) -> Iterator[Chunk]:
    """Decode and verify the frames of a sound segment [S-21], one at a time. Raises DamagedError, OSError."""
    with segment.path.open("rb") as file:
        for entry in segment.entries:
            try:
                chunk = _verify(_read_at(file, entry.position, entry.frame_bytes), entry, image_bytes)
            except (WireError, DamagedError) as error:
                raise DamagedError(f"{segment.path}: the frame at byte {entry.position}: {error}") from error
            yield chunk


def _verify(frame: bytes, entry: Entry, image_bytes: int) -> Chunk:
    """Decode a frame by wire.md 4.6 and hold it against its entry in the table [S-21]."""
    if len(frame) < HEADER_BYTES:
        raise DamagedError("no room for a frame")
    header = read_header(frame[:HEADER_BYTES])
    if header.kind is not CHUNK or HEADER_BYTES + header.length != len(frame):
        raise DamagedError("not exactly one CHUNK")
    chunk = read_chunk(read_message(CHUNK, frame[HEADER_BYTES:]), image_bytes)
    raw_bytes = sum(run.length for run in chunk.runs if run.state == DATA)
    told = (entry.offset, entry.length, entry.raw_bytes, entry.digest)
    if (chunk.offset, chunk.length, raw_bytes, chunk.digest) != told:
        raise DamagedError("the table says something else")
    return chunk


def recover(segments: Iterable[Segment], beginning: Place) -> list[Segment]:
    """Give the longest run of segments that begins at beginning, each continuing the one before [S-23].

    A search from the end: the best run from a place is a segment that starts there and the best run from its end.
    The one that ends farthest counts, of those the one whose first differing segment is longer.
    """
    best: dict[Place, list[Segment]] = {}
    for segment in sorted(segments, key=lambda one: (one.start.offset, one.end.offset, one.start.chunks), reverse=True):
        run = [segment, *best.get(segment.end, [])]
        # Longer segments come first, so that an equal end does not replace them.
        if segment.start not in best or run[-1].end.offset > best[segment.start][-1].end.offset:
            best[segment.start] = run
    return best.get(beginning, [])
