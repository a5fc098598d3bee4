"""Sources that a test looks into, and the restoring of what a plan says."""

from __future__ import annotations

from mmap import mmap
from typing import TYPE_CHECKING

from netdump.errors import SourceUnreadableError
from netdump.pages import PageState
from netdump.vmcore.elf import ElfHeaders, parse_headers
from netdump.wire import pack_runs, unpack_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netdump.vmcore.plan import PlannedChunk


Image = bytes | bytearray | mmap


class BytesSource:
    """An image in memory. bad: ranges that cannot be read. reads: every (offset, length) that was asked for."""

    def __init__(self, image: Image, bad: Sequence[tuple[int, int]] = (), name: str = "memory") -> None:
        self.image = image
        self.bad = list(bad)
        self.name = name
        self.size = len(image)
        self.reads: list[tuple[int, int]] = []

    def _lost(self, offset: int, length: int) -> list[tuple[int, int]]:
        stop = offset + length
        hit = [(max(start, offset), min(end, stop)) for start, end in self.bad if start < stop and end > offset]
        return [(start - offset, end - start) for start, end in hit if start < end]

    def read(self, offset: int, length: int) -> bytes:
        data = bytes(self.image[offset : offset + length])
        if len(data) < length or self._lost(offset, length):
            raise SourceUnreadableError(f"{self.name} cannot be read at {offset}")
        return data

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        assert 0 <= offset <= offset + len(buffer) <= self.size
        self.reads.append((offset, len(buffer)))
        buffer[:] = self.image[offset : offset + len(buffer)]
        lost = self._lost(offset, len(buffer))
        for start, length in lost:
            buffer[start : start + length] = b"\xee" * length
        return lost

    def next_data(self, offset: int) -> int:
        return offset

    def identity(self) -> bytes:
        return b"memory"

    def close(self) -> None:
        pass


def headers_of(image: Image) -> ElfHeaders:
    """The headers of an image in memory."""
    return parse_headers(lambda offset, length: bytes(image[offset : offset + length]), len(image))


def restore(chunks: Iterable[PlannedChunk], before: bytes = b"") -> bytes:
    """The image that chunks describe, after what came before. Checks each chunk by the rules of the protocol."""
    image = bytearray(before)
    for chunk in chunks:
        assert chunk.offset == len(image)
        assert list(chunk.runs) == unpack_runs(pack_runs(chunk.runs), chunk.offset, chunk.length)
        data = memoryview(chunk.data)
        for run in chunk.runs:
            if run.state == PageState.DATA:
                image += data[: run.length]
                data = data[run.length :]
            elif run.state == PageState.ALIAS:
                image += image[run.source : run.source + run.length]
            else:
                image += bytes(run.length)
        assert not data
        assert chunk.offset + chunk.length == len(image)
    return bytes(image)
