"""What one CHUNK and one HEADLINE carry: run table, raw data, digest; wire.md 4.5 and 4.6 as far as one message goes.

Where a chunk stands in its dump [W-45], and the credit, is known to connection.py and store.py, not here.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

import digests
import zstd
from frames import HEADLINE_DOCUMENT, MIB, Message, Value, WireError, read_fields

STATES = ("data", "zero", "alias", "excluded", "lost")
CLASSES = ("none", "zero", "cache", "cache_private", "user", "free", "hwpoison", "offline", "unaccepted")
DATA, ALIAS, EXCLUDED = 0, 2, 3
STORED, ZSTD = 0, 1
RUNS_MAX = 4_096
RUN_BYTES_MAX = 1 << 30
DATA_MAX = MIB
WINDOW_MAX = MIB
HEADLINE_MAX = 8 * MIB


class Run(NamedTuple):
    """A stretch of the image: its state, why it is excluded (class), offset and length; source only for alias."""

    state: int
    reason: int
    offset: int
    length: int
    source: int | None

    def continued_by(self, after: Run) -> bool:
        """Whether after could have been part of this run [W-47]."""
        if (self.state, self.reason) != (after.state, after.reason):
            return False
        return self.source is None or self.source + self.length == after.source


class Outline(NamedTuple):
    """What a CHUNK says by itself, data and digest not looked at; raw_bytes is the size of its raw data."""

    offset: int
    length: int
    runs: tuple[Run, ...]
    raw_bytes: int


class Chunk(NamedTuple):
    """A chunk whose every byte was checked."""

    offset: int
    length: int
    runs: tuple[Run, ...]
    raw: bytes
    digest: bytes


def _bad(rule: str, why: str) -> WireError:
    return WireError("bad-field", rule, why)


def read_runs(table: bytes, offset: int, length: int) -> tuple[Run, ...]:
    """Decode the run table of a chunk of length bytes at offset [W-46] .. [W-50]. Raises WireError."""
    runs: list[Run] = []
    position, at = 0, offset
    while position < len(table):
        if len(runs) == RUNS_MAX:
            raise _bad("W-46", f"more than {RUNS_MAX} runs")
        run, position = _read_run(table, position, at)
        runs.append(run)
        at += run.length
    if not runs or at != offset + length:
        raise _bad("W-46", f"{len(runs)} runs cover {at - offset} bytes of {length}")
    for before, after in pairwise(runs):
        if before.continued_by(after):
            raise _bad("W-47", f"the runs at {before.offset} and {after.offset} are one")
    if sum(run.length for run in runs if run.state == DATA) > DATA_MAX:
        raise _bad("W-48", f"more than {DATA_MAX} bytes of raw data")
    for run in runs:
        if run.source is not None and run.source + run.length > run.offset:
            raise _bad("W-49", f"the alias at {run.offset} ends at {run.source + run.length}")
    return tuple(runs)


def _read_run(table: bytes, position: int, offset: int) -> tuple[Run, int]:
    """Decode the run at position of table, which shows the image at offset; give it and the position after it."""
    if position + 8 > len(table):
        raise _bad("W-46", "a run is cut")
    state, reason = table[position], table[position + 1]
    length = int.from_bytes(table[position + 4 : position + 8], "big")
    if state >= len(STATES) or reason >= len(CLASSES):
        raise _bad("W-46", f"state {state} or class {reason} is not known")
    if (reason != 0) != (state == EXCLUDED):
        raise _bad("W-46", f"class {reason} with state {STATES[state]}")
    if table[position + 2 : position + 4] != b"\0\0":
        raise _bad("W-46", "reserved is not 0")
    if not 1 <= length <= RUN_BYTES_MAX:
        raise _bad("W-19", f"a run of {length} bytes")
    position += 8
    source: int | None = None
    if state == ALIAS:
        if position + 8 > len(table):
            raise _bad("W-46", "a run is cut")
        source = int.from_bytes(table[position : position + 8], "big")
        position += 8
    return Run(state, reason, offset, length, source), position


def read_outline(message: Message) -> Outline:
    """Check what a CHUNK says by itself, but for compressed data and digest [W-20]. Raises WireError."""
    offset, length = message.number("offset"), message.number("length")
    runs = read_runs(message.octets("runs"), offset, length)
    raw_bytes = sum(run.length for run in runs if run.state == DATA)
    stored = len(message.octets("data"))
    if message.number("codec") == STORED:
        if stored != raw_bytes:
            raise WireError("bad-codec", "W-51", f"{stored} bytes stored instead of {raw_bytes}")
    elif raw_bytes == 0:
        raise WireError("bad-codec", "W-51", "a chunk without raw data that is not stored")
    return Outline(offset, length, runs, raw_bytes)


def check_within(outline: Outline, image_bytes: int) -> None:
    """Find the chunk within the image [W-45]. Raises WireError."""
    end = outline.offset + outline.length
    if end > image_bytes:
        raise _bad("W-45", f"a chunk up to {end} in an image of {image_bytes} bytes")


def read_contents(message: Message, outline: Outline, check_digest: bool = True) -> Chunk:
    """Decode the raw data of the CHUNK of outline, and hold it against its digest [W-51] .. [W-53]. Raises WireError.

    check_digest: False leaves out [W-53], for a frame that shows structure only.
    """
    raw, digest = message.octets("data"), message.octets("digest")
    if message.number("codec") == ZSTD:
        try:
            raw = zstd.decompress(raw, outline.raw_bytes, WINDOW_MAX)
        except zstd.ZstdError as error:
            raise WireError("bad-codec", "W-51", str(error)) from error
    computed = digests.chunk_digest(outline.offset, outline.length, message.octets("runs"), raw)
    if check_digest and computed != digest:
        raise WireError("bad-digest", "W-53", f"the chunk at {outline.offset}")
    return Chunk(outline.offset, outline.length, outline.runs, raw, digest)


def read_chunk(message: Message, image_bytes: int, check_digest: bool = True) -> Chunk:
    """Check a CHUNK wholly, but for where the one before it ended and for credit. Raises WireError."""
    outline = read_outline(message)
    check_within(outline, image_bytes)
    return read_contents(message, outline, check_digest)


def read_headline(message: Message) -> dict[str, Value]:
    """Check a HEADLINE and give the fields of its document [W-41] [W-42]. Raises WireError."""
    raw = headline_body(message)
    if sha256(raw).digest() != message.octets("digest"):
        raise WireError("bad-digest", "W-42", "the headline")
    return read_fields(raw, HEADLINE_DOCUMENT)


def headline_body(message: Message) -> bytes:
    """Decode the body of a HEADLINE [W-42]. Raises WireError."""
    body, raw_bytes = message.octets("body"), message.number("raw_bytes")
    if message.number("codec") == STORED:
        if len(body) != raw_bytes:
            raise WireError("bad-codec", "W-42", f"{len(body)} bytes stored instead of {raw_bytes}")
        return body
    try:
        return zstd.decompress(body, raw_bytes, HEADLINE_MAX)
    except zstd.ZstdError as error:
        raise WireError("bad-codec", "W-42", str(error)) from error
