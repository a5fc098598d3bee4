"""One zstd frame, looked at by hand (RFC 8878) before a library may touch it [W-51] [W-52].

Owns the frame header, the walk over the blocks and the bounded decompression. The walk finds the end of the frame
without decompressing, so "nothing after it" is decided before any output exists.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import zstandard

MAGIC = bytes.fromhex("28b52ffd")  # RFC 8878 section 3.1.1; a skippable frame has another one


class ZstdError(Exception):
    """The bytes are not the one zstd frame that the protocol allows."""


class Header(NamedTuple):
    """Header of a zstd frame; sizes in bytes, content None if the frame does not tell it; dictionary 0 is none."""

    header_bytes: int
    content: int | None
    window: int
    dictionary: int
    checksum: bool


def read_header(data: bytes) -> Header:
    """Decode the frame header at the start of data. Raises ZstdError. Source: RFC 8878 section 3.1.1.1."""
    if data[:4] != MAGIC:
        raise ZstdError("no zstd frame")
    if len(data) < 5:
        raise ZstdError("the frame header is cut")
    descriptor = data[4]
    content_flag, single_segment = descriptor >> 6, bool(descriptor & 0x20)
    if descriptor & 0x08:
        raise ZstdError("the reserved bit is set")
    window_bytes = 0 if single_segment else 1
    dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
    content_bytes = (1 if single_segment else 0, 2, 4, 8)[content_flag]
    end = 5 + window_bytes + dictionary_bytes + content_bytes
    if len(data) < end:
        raise ZstdError("the frame header is cut")
    dictionary = int.from_bytes(data[5 + window_bytes : 5 + window_bytes + dictionary_bytes], "little")
    content: int | None = None
    if content_bytes:
        content = int.from_bytes(data[end - content_bytes : end], "little") + (256 if content_bytes == 2 else 0)
    if single_segment:
        assert content is not None
        window = content
    else:
        base = 1 << (10 + (data[5] >> 3))
        window = base + base // 8 * (data[5] & 7)
    return Header(end, content, window, dictionary, bool(descriptor & 0x04))


def frame_end(data: bytes, header: Header) -> int:
    """Walk the blocks of the frame at the start of data and give the position after it.

    Raises ZstdError. Source: RFC 8878 section 3.1.1.2.
    """
    position, last = header.header_bytes, False
    while not last:
        if position + 3 > len(data):
            raise ZstdError("the frame is cut")
        block = int.from_bytes(data[position : position + 3], "little")
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == 3 or size > min(header.window, 1 << 17):
            raise ZstdError("a block has a reserved type or is too large")
        position += 3 + (1 if kind == 1 else size)
    return position + (4 if header.checksum else 0)


def decompress(data: bytes, raw_bytes: int, window_max: int) -> bytes:
    """Decompress data, exactly one zstd frame of raw_bytes content, allocating no more than that [W-51] [W-52].

    Raises ZstdError.
    """
    header = read_header(data)
    if header.dictionary:
        raise ZstdError(f"the frame wants dictionary {header.dictionary}")
    if header.window > window_max:
        raise ZstdError(f"the window of {header.window} bytes is larger than {window_max}")
    if header.content != raw_bytes:
        raise ZstdError(f"the frame promises {header.content} bytes, not {raw_bytes}")
    if frame_end(data, header) != len(data):
        raise ZstdError("the frame does not end where the data ends")
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=window_max).stream_reader(BytesIO(data))
        raw = reader.read(raw_bytes + 1)
    except zstandard.ZstdError as error:
        raise ZstdError(str(error)) from error
    if len(raw) != raw_bytes:
        raise ZstdError(f"the frame does not hold {raw_bytes} bytes")
    return raw
