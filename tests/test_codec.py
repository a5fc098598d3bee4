"""The codec: what it makes keeps [W-51]; what does not, yields CodecError and no allocation to speak of ([W-52])."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.codec import LEVEL_MAX, LEVEL_MIN, SHRINK_LEVEL_MAX, Compressor, decode, decompress, expand, shrink
from netdump.errors import CodecError
from netdump.wire import CHUNK_DATA_MAX, HEADLINE_RAW_MAX, ZSTD_WINDOW_MAX, CodecId

MAGIC = zstandard.FRAME_HEADER
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"
LEVELS = [LEVEL_MIN, -7, -1, 1, 3, 9, 19, LEVEL_MAX]


def memory_like(size: int, seed: int = 1) -> bytes:
    """Bytes that compress about as well as memory does: half noise, half repetition."""
    noise = random.Random(seed).randbytes(size // 2 + 1)
    return (noise + b"pattern " * (size // 16 + 1))[:size]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [0, 1, 255, 256, 1023, 4096, 65537, 300_001, CHUNK_DATA_MAX - 1, CHUNK_DATA_MAX])
def test_a_frame_keeps_w51_and_comes_back(level: int, size: int) -> None:
    raw = memory_like(size)
    compressor = Compressor(level)
    compressor.compress(b"something before, so that the context is used again")
    frame = compressor.compress(raw)
    header = zstandard.get_frame_parameters(frame)
    assert header.content_size == size
    assert header.window_size <= max(size, 1)
    assert header.window_size <= ZSTD_WINDOW_MAX
    assert header.dict_id == 0
    assert not header.has_checksum
    assert decompress(frame, size) == raw


def test_a_headline_of_8_mib_needs_its_own_window() -> None:
    raw = memory_like(HEADLINE_RAW_MAX)
    frame = Compressor(19).compress(raw)
    assert zstandard.get_frame_parameters(frame).window_size == HEADLINE_RAW_MAX
    assert decompress(frame, len(raw), HEADLINE_RAW_MAX) == raw
    with pytest.raises(CodecError, match="window"):
        decompress(frame, len(raw))


def test_any_buffer_will_do() -> None:
    raw = memory_like(10_000)
    frame = Compressor(1).compress(memoryview(bytearray(raw)))
    assert decompress(bytearray(frame), len(raw)) == raw
    assert decompress(memoryview(b"x" + frame)[1:], len(raw)) == raw


def test_stored_data_is_handed_on_as_it_is() -> None:
    raw = memoryview(b"abc")
    assert decode(CodecId.STORED, raw, 3) is raw
    assert decode(CodecId.ZSTD, Compressor(1).compress(b"abc"), 3) == b"abc"
    for size in (0, 2, 4):
        with pytest.raises(CodecError, match="stored"):
            decode(CodecId.STORED, raw, size)
    with pytest.raises(CodecError, match="unknown codec 2"):
        decode(2, raw, 3)


def frame_header(*, content: int | None, window_log: int | None = None, dictionary: int = 0) -> bytes:
    """A zstd frame header (RFC 8878, 3.1.1.1) with an 8-byte content size and a 4-byte dictionary id where wanted."""
    descriptor = (0xC0 if content is not None else 0) | (0x20 if window_log is None else 0) | (3 if dictionary else 0)
    window = b"" if window_log is None else bytes([(window_log - 10) << 3])
    size = b"" if content is None else struct.pack("<Q", content)
    return MAGIC + bytes([descriptor]) + window + (struct.pack("<I", dictionary) if dictionary else b"") + size


RAW_BLOCK = struct.pack("<I", 3 << 3 | 1)[:3] + b"abc"  # last block, raw, 3 bytes


def rle_frame(size: int) -> bytes:
    """A sound single-segment frame of that many zeros in 4 bytes for each 128 KiB: the best bomb there is."""
    blocks = bytearray()
    left = size
    while left:
        part = min(left, 128 << 10)
        left -= part
        blocks += struct.pack("<I", part << 3 | 2 | (left == 0))[:3] + b"\0"
    return frame_header(content=size) + blocks


def test_the_hand_made_frames_are_sound_where_they_should_be() -> None:
    assert decompress(frame_header(content=3) + RAW_BLOCK, 3) == b"abc"
    assert decompress(frame_header(content=3, window_log=20) + RAW_BLOCK, 3) == b"abc"
    assert decompress(rle_frame(1 << 20), 1 << 20) == bytes(1 << 20)


HOSTILE = {
    "empty": (b"", "not a zstd frame"),
    "half-magic": (MAGIC[:3], "not a zstd frame"),
    "other-magic": (b"\x28\xb5\x2f\xfc" + frame_header(content=3)[4:] + RAW_BLOCK, "not a zstd frame"),
    "magic-only": (MAGIC, "header .* is damaged"),
    "half-header": (frame_header(content=3)[:-1], "header .* is damaged"),
    "reserved-bit": (MAGIC + b"\xe8" + struct.pack("<Q", 3) + RAW_BLOCK, "header .* is damaged"),
    "skippable": (SKIPPABLE, "not a zstd frame"),
    "skippable-before": (SKIPPABLE + frame_header(content=3) + RAW_BLOCK, "not a zstd frame"),
    "skippable-after": (frame_header(content=3) + RAW_BLOCK + SKIPPABLE, "does not decode"),
    "second-frame": ((frame_header(content=3) + RAW_BLOCK) * 2, "does not decode"),
    "empty-second-frame": (frame_header(content=3) + RAW_BLOCK + Compressor(1).compress(b""), "does not decode"),
    "one-byte-after": (frame_header(content=3) + RAW_BLOCK + b"\0", "does not decode"),
    "no-content-size": (frame_header(content=None, window_log=10) + RAW_BLOCK, "without content size"),
    "claims-less": (frame_header(content=2) + RAW_BLOCK, "claims 2"),
    "claims-64-gib": (frame_header(content=64 << 30) + RAW_BLOCK, "claims 68719476736"),
    "claims-2-64": (frame_header(content=(1 << 64) - 3) + RAW_BLOCK, "claims 18446744073709551613"),
    "window-2-31": (frame_header(content=3, window_log=31) + RAW_BLOCK, "window of 2147483648"),
    "window-2-21": (frame_header(content=3, window_log=21) + RAW_BLOCK, "window of 2097152"),
    "window-2-41": (frame_header(content=3, window_log=41) + RAW_BLOCK, "header .* is damaged|window of 2199023255552"),
    "dictionary": (frame_header(content=3, dictionary=77) + RAW_BLOCK, "dictionary 77"),
    "cut": ((frame_header(content=3) + RAW_BLOCK)[:-1], "does not decode"),
    "no-block": (frame_header(content=3), "does not decode"),
    "reserved-block": (frame_header(content=3) + b"\x1f\0\0abc", "does not decode"),
    "shorter-than-claimed": (frame_header(content=3) + struct.pack("<I", 2 << 3 | 1)[:3] + b"ab", "does not decode"),
    "longer-than-claimed": (frame_header(content=3) + struct.pack("<I", 4 << 3 | 1)[:3] + b"abcd", "does not decode"),
    "bomb-4-gib": (rle_frame(4 << 30), "claims 4294967296"),
    "bomb-behind-a-small-claim": (frame_header(content=3) + rle_frame(64 << 20)[13:], "does not decode"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_frame_is_refused_for_its_reason_and_allocates_nothing(name: str) -> None:
    frame, reason = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match=reason):
            decode(CodecId.ZSTD, frame, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_every_cut_and_every_byte_of_junk_is_refused() -> None:
    raw = memory_like(3000)
    frame = Compressor(1).compress(raw)
    for cut in range(len(frame)):
        with pytest.raises(CodecError):
            decompress(frame[:cut], len(raw))
    for junk in range(256):
        with pytest.raises(CodecError):
            decompress(frame + bytes([junk]), len(raw))


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 20), st.booleans())
def test_whatever_goes_in_only_codec_error_comes_out(data: bytes, raw_bytes: int, magic: bool) -> None:
    frame = MAGIC + data if magic else data
    with suppress(CodecError):
        assert len(decode(CodecId.ZSTD, frame, raw_bytes)) == raw_bytes


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=5000), st.sampled_from([-5, 1, 3]), st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_never_changes_the_size(raw: bytes, level: int, position: int, value: int) -> None:
    frame = bytearray(Compressor(level).compress(raw))
    frame[position % len(frame)] = value
    with suppress(CodecError):
        assert len(decompress(frame, len(raw))) == len(raw)


def test_expand_writes_what_a_file_holds() -> None:
    raw = memory_like(3 << 20)
    target = io.BytesIO()
    assert expand(io.BytesIO(Compressor(1).compress(raw)), target, 8 << 20) == len(raw)
    assert target.getvalue() == raw


def test_expand_refuses_what_is_no_zstd_file_or_asks_for_too_much() -> None:
    with pytest.raises(CodecError, match="does not decode"):
        expand(io.BytesIO(b"no zstd at all"), io.BytesIO(), 1 << 20)
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=24, write_content_size=False)
    ).compressobj()
    frame = compressor.compress(memory_like(1 << 16)) + compressor.flush()
    with pytest.raises(CodecError, match="does not decode"):
        expand(io.BytesIO(frame), io.BytesIO(), 1 << 20)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 5_000_001])
@pytest.mark.parametrize("level", [1, 3, SHRINK_LEVEL_MAX])
def test_a_file_shrinks_and_comes_back(size: int, level: int) -> None:
    raw = memory_like(size)
    packed, told = io.BytesIO(), [0]
    assert shrink(io.BytesIO(raw + b"what follows"), packed, size, level, told.append) == len(packed.getvalue())
    header = zstandard.get_frame_parameters(packed.getvalue())
    assert (header.content_size, header.has_checksum) == (size, True)
    assert header.window_size <= 1 << 23  # what every decoder grants without being asked (RFC 8878)
    assert told[-1] == size
    assert told == sorted(told)
    packed.seek(0)
    target = io.BytesIO()
    assert expand(packed, target, 1 << 23) == size
    assert target.getvalue() == raw


def test_a_file_that_ends_too_early_does_not_shrink() -> None:
    with pytest.raises(CodecError, match="5 bytes were to be compressed, there are 4"):
        shrink(io.BytesIO(b"abcd"), io.BytesIO(), 5, 1)
