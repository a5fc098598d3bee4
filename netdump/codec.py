"""The one doorway to zstandard: frames of known size, in and out.

Owns what netdump believes of a compressed frame. Nobody else imports zstandard. Must not know what the frames hold.

zstandard allocates what a frame header asks for: twenty bytes that claim 64 GiB end in a MemoryError, and neither
``max_output_size`` nor ``max_window_size`` help against a single-segment frame. So the header is read first, and only a
frame that claims exactly the size the caller expects, which the caller has bounded, gets as far as the decoder ([W-51],
[W-52]).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard

from netdump.errors import CodecError
from netdump.wire import ZSTD_WINDOW_MAX, CodecId

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

Buffer = bytes | bytearray | memoryview

LEVEL_MIN: Final = -50
"""The lowest level that a Compressor takes. Below about -7 the ratio falls and the speed hardly grows."""
LEVEL_MAX: Final = zstandard.MAX_COMPRESSION_LEVEL

SHRINK_LEVEL_MAX: Final = 19
"""The highest level whose files need no more than 8 MiB to be read."""

_PIECE_BYTES: Final = 1 << 20

_PROBE_BYTES: Final = 4096
_PROBES: Final = 4
_WORTH_SHIFT: Final = 5

_MAGIC: Final = zstandard.FRAME_HEADER


class Compressor:
    """Makes zstd frames of one level, in one context that is set up once (1.3 MiB at level 1, 2.5 MiB at 3).

    Not thread-safe: one for each thread. The level must be LEVEL_MIN .. LEVEL_MAX.
    """

    __slots__ = ("_context", "level")

    def __init__(self, level: int) -> None:
        assert LEVEL_MIN <= level <= LEVEL_MAX, level
        self.level: Final = level
        self._context: Final = zstandard.ZstdCompressor(
            level=level, write_content_size=True, write_checksum=False, write_dict_id=False
        )

    def compress(self, data: Buffer) -> bytes:
        """One frame with its content size in the header, without checksum or dictionary id.

        data: any size; it is only read, and no longer needed after the call. The window is never larger than data,
        because zstd fits its parameters to a size that it knows ([W-51]). The GIL is released meanwhile.
        """
        return self._context.compress(data)


def seems_compressible(data: Buffer, compressor: Compressor) -> bool:
    """Whether compressing data is worth it, by a look at a few places: level 1 takes six times as long to find out."""
    view = memoryview(data)
    stride = len(view) // _PROBES
    if stride <= _PROBE_BYTES:
        return True
    probe = b"".join(view[at : at + _PROBE_BYTES] for at in range(0, stride * _PROBES, stride))
    return is_worth_it(len(compressor.compress(probe)), len(probe))


def is_worth_it(packed_bytes: int, raw_bytes: int) -> bool:
    """Whether compressing saved enough to be worth undoing: a thirty-second."""
    return packed_bytes < raw_bytes - (raw_bytes >> _WORTH_SHIFT)


def decompress(data: Buffer, raw_bytes: int, window_max: int = ZSTD_WINDOW_MAX) -> bytes:
    """The content of exactly one frame that claims to hold, and holds, exactly raw_bytes.

    raw_bytes: what may be allocated; the caller has bounded it. window_max: bytes. Thread-safe; the GIL is released.
    Raises CodecError for everything else: another magic, no or another content size, a larger window, a dictionary,
    damage, an end too early, anything after the frame. Spec: [W-51], [W-52].
    """
    _check_header(data, raw_bytes, window_max)
    try:
        # A context for each call costs 9 us, 1 % of a full chunk, and needs no thought about threads.
        return zstandard.ZstdDecompressor(max_window_size=window_max).decompress(
            data, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CodecError(f"a zstd frame of {len(data)} bytes does not decode to {raw_bytes} bytes: {error}") from None


def decode(codec: int, data: Buffer, raw_bytes: int, window_max: int = ZSTD_WINDOW_MAX) -> Buffer:
    """The raw_bytes raw bytes that data stands for: data itself when stored, else as decompress().

    Raises CodecError. That a chunk without raw data must be stored is for its receiver to check. Spec: [W-51].
    """
    if codec == CodecId.STORED:
        if len(data) != raw_bytes:
            raise CodecError(f"{len(data)} stored bytes instead of {raw_bytes}")
        return data
    if codec != CodecId.ZSTD:
        raise CodecError(f"unknown codec {codec}")
    return decompress(data, raw_bytes, window_max)


def expand(source: BinaryIO, target: BinaryIO, window_max: int) -> int:
    """Write what a zstd file of ours holds, such as the bundled sample, and return its bytes.

    window_max: bytes of memory that the file may ask for. Not for what a peer sends: the size is the file's own.
    Raises CodecError.
    """
    try:
        return zstandard.ZstdDecompressor(max_window_size=window_max).copy_stream(source, target)[1]
    except zstandard.ZstdError as error:
        raise CodecError(f"the zstd file does not decode: {error}") from None


def shrink(
    source: BinaryIO, target: BinaryIO, raw_bytes: int, level: int, progress: Callable[[int], None] | None = None
) -> int:
    """Write a zstd file of raw_bytes bytes of source and return its bytes: with content size and checksum.

    `zstd -d` needs no option for it. level: 1 .. 19. progress: called with bytes read, every MiB; may raise to stop.
    Uses all CPUs; memory: some MiB for each. Raises CodecError if source ends early.
    """
    assert 1 <= level <= SHRINK_LEVEL_MAX, level
    stream = zstandard.ZstdCompressor(level=level, threads=-1, write_checksum=True).compressobj(size=raw_bytes)
    done = written = 0
    while done < raw_bytes:
        piece = source.read(min(_PIECE_BYTES, raw_bytes - done))
        if not piece:
            raise CodecError(f"{raw_bytes} bytes were to be compressed, there are {done}")
        written += target.write(stream.compress(piece))
        done += len(piece)
        if progress is not None:
            progress(done)
    return written + target.write(stream.flush())


def _check_header(data: Buffer, raw_bytes: int, window_max: int) -> None:
    # get_frame_parameters() also takes skippable frames and gives their length as content size: the magic comes first.
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise CodecError("not a zstd frame")
    try:
        header = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError as error:
        raise CodecError(f"the header of a zstd frame is damaged: {error}") from None
    if header.content_size in {zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR}:
        raise CodecError("a zstd frame without content size")
    if header.content_size != raw_bytes:
        raise CodecError(f"a zstd frame that claims {header.content_size} bytes instead of {raw_bytes}")
    if header.window_size > window_max:
        raise CodecError(f"a zstd frame with a window of {header.window_size} bytes, allowed are {window_max}")
    if header.dict_id:
        raise CodecError(f"a zstd frame that needs dictionary {header.dict_id}")
