"""A raw image of physical memory and the address of its ELF headers, put together as the kernel does for /proc/vmcore.

Owns that composition and the syntax of elfcorehdr=. Must not know what is in memory.

Serves kernels whose /proc/vmcore is missing or broken (kdump's /dev/oldmem way) and memory images of hypervisors. The
image is, as in Linux fs/proc/vmcore.c: ELF header and program headers, rounded up to a page; one merged PT_NOTE,
rounded up; then the memory of each PT_LOAD, each widened to whole pages, in the order of the headers. In an
elfcorehdr table p_offset is the physical address at which to read, which differs from p_paddr where purgatory has
moved low memory away.
"""

from __future__ import annotations

from bisect import bisect_right
from mmap import PAGESIZE
from typing import Final

from netdump.errors import BadHeadersError, SourceUnreadableError, TruncatedCoreError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.elf import (
    IMAGE_BYTES_MAX,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    ElfHeaders,
    Segment,
    decode_headers,
    encode_headers,
)
from netdump.vmcore.filesource import FileSource, add_lost
from netdump.vmcore.notes import NOTES_BYTES_MAX, notes_end

_SUFFIXES: Final = {letter: 10 * (1 + at // 2) for at, letter in enumerate("kKmMgGtTpPeE")}

_NOTHING: Final = Segment(0, 0, 0, 0, 0, 0, 0, 0)


class ElfcoreHeader(NamedTuple):
    """Where the ELF headers stand. address: physical; size: bytes set aside for them, None if not said."""

    address: int
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> ElfcoreHeader:
        """Read the value of elfcorehdr=: [SIZE@]ADDRESS, each decimal, octal (0…) or hexadecimal (0x…), with K … E.

        Raises ValueError. Source: Linux kernel/crash_dump.c setup_elfcorehdr, lib/cmdline.c memparse.
        """
        first, at, second = text.partition("@")
        return cls(_memparse(second), _memparse(first)) if at else cls(_memparse(first))


def _memparse(text: str) -> int:
    """A number as the kernel's memparse reads it, but all of it or nothing. Raises ValueError."""
    hexadecimal = text[:2].lower() == "0x"
    digits, shift = text, 0
    if text and text[-1] in _SUFFIXES and not (hexadecimal and text[-1] in "eE"):
        digits, shift = text[:-1], _SUFFIXES[text[-1]]
    if not digits.isascii() or not (digits[2:].isalnum() if hexadecimal else digits.isdigit()):
        raise ValueError(f"{text!r} is not an address")
    value = int(digits, 16 if hexadecimal else 8 if digits[0] == "0" else 10) << shift
    if value >= 1 << 64:
        raise ValueError(f"{text!r} does not fit in 64 bits")
    return value


class _Extent(NamedTuple):
    """Part of the image: start, end: image offsets; address: where it stands in the raw image."""

    start: int
    end: int
    address: int


class OldmemSource:
    """The image that /proc/vmcore would show, read from raw memory. See Source."""

    __slots__ = ("_extents", "_head", "_raw", "_starts", "_where", "size")

    def __init__(self, path: str, elfcorehdr: ElfcoreHeader, page_bytes: int = PAGESIZE) -> None:
        """Open raw memory. page_bytes: the page size of the kernel that is imitated.

        Raises SourceUnreadableError, NotElfError, BadHeadersError, TruncatedCoreError.
        """
        self._where = elfcorehdr
        self._raw = FileSource(path, any_device=True)
        try:
            table = _read_table(self._raw, elfcorehdr)
            self._head, self._extents = _compose(table, _merge_notes(self._raw, table), page_bytes, path)
        except BaseException:
            self._raw.close()
            raise
        self._starts = [extent.start for extent in self._extents]
        self.size = self._extents[-1].end if self._extents else len(self._head)

    @property
    def name(self) -> str:
        """See Source."""
        return self._raw.name

    def read(self, offset: int, length: int) -> bytes:
        """See Source."""
        if offset + length > self.size:
            raise SourceUnreadableError(f"{self.name} cannot be read: image offset {offset} is beyond its end")
        data = bytearray(length)
        if lost := self.read_into(offset, memoryview(data)):
            raise SourceUnreadableError(f"{self.name} cannot be read: image offset {offset + lost[0][0]} is lost")
        return bytes(data)

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        """See Source."""
        assert offset + len(buffer) <= self.size
        lost: list[tuple[int, int]] = []
        done = min(len(buffer), max(0, len(self._head) - offset))
        buffer[:done] = self._head[offset : offset + done]
        while done < len(buffer):
            extent = self._extents[bisect_right(self._starts, offset + done) - 1]
            position = offset + done - extent.start
            piece = buffer[done : done + extent.end - offset - done]
            for start, length in self._raw.read_into(extent.address + position, piece):
                add_lost(lost, done + start, length)
            done += len(piece)
        return lost

    def next_data(self, offset: int) -> int:
        """See Source: raw memory knows no holes."""
        return offset

    def identity(self) -> bytes:
        """See Source."""
        return self._raw.identity() + b" elfcorehdr %#x" % self._where.address

    def close(self) -> None:
        """See Source."""
        self._raw.close()


def _read_table(raw: FileSource, where: ElfcoreHeader) -> ElfHeaders:
    """The headers at the given address. The kernel takes the program headers to follow the ELF header directly."""
    room = raw.size - where.address if where.size is None else min(where.size, raw.size - where.address)
    if room <= 0:
        raise TruncatedCoreError(
            f"{raw.name} has {raw.size} bytes; there are no ELF headers at {where.address:#x}, is --elfcorehdr right?"
        )

    def read(offset: int, length: int) -> bytes:
        return raw.read(where.address + offset, length)

    table = decode_headers(read, room, f"{raw.name} at {where.address:#x}")
    if len(table.segments) >= PN_XNUM:
        raise BadHeadersError(f"{raw.name} at {where.address:#x} has more program headers than an elfcorehdr table can")
    end = max((segment.offset + segment.memsz for segment in table.segments), default=0)
    if end > raw.size:
        raise TruncatedCoreError(
            f"{raw.name} is truncated: it has {raw.size} bytes, its ELF headers describe memory up to {end}"
        )
    return table


def _merge_notes(raw: FileSource, table: ElfHeaders) -> bytes:
    """What the notes buffers of all CPUs hold, joined; each ends at its first empty note."""
    merged = bytearray()
    for segment in table.segments:
        if segment.type != PT_NOTE:
            continue
        if len(merged) + segment.memsz > NOTES_BYTES_MAX:
            raise BadHeadersError(f"{raw.name}: its ELF headers describe more than {NOTES_BYTES_MAX} bytes of notes")
        buffer = bytearray(segment.memsz)
        for start, length in raw.read_into(segment.offset, memoryview(buffer)):
            buffer[start : start + length] = bytes(length)
        merged += buffer[: notes_end(bytes(buffer), table.byteorder)]
    return bytes(merged)


def _compose(table: ElfHeaders, notes: bytes, page_bytes: int, name: str) -> tuple[bytes, list[_Extent]]:
    """Headers and notes as they stand in the image, and where its memory is. Source: see above."""
    loads = [segment for segment in table.segments if segment.type == PT_LOAD]
    notes_at = _page_up(len(encode_headers(table, [_NOTHING] * (1 + len(loads)))), page_bytes)
    head_bytes = notes_at + _page_up(len(notes), page_bytes)
    segments = [Segment(PT_NOTE, 0, notes_at, 0, 0, len(notes), len(notes), 0)]
    extents = []
    position = head_bytes
    for load in loads:
        address = load.offset // page_bytes * page_bytes
        segments.append(load._replace(offset=position + load.offset - address))
        end = position + _page_up(load.offset + load.memsz, page_bytes) - address
        if end > min(IMAGE_BYTES_MAX, table.none):
            raise BadHeadersError(f"{name}: its ELF headers describe {end} bytes, more than fit in one core")
        if end > position:
            extents.append(_Extent(position, end, address))
        position = end
    head = encode_headers(table, segments).ljust(notes_at, b"\0") + notes
    return head.ljust(head_bytes, b"\0"), extents


def _page_up(length: int, page_bytes: int) -> int:
    return (length + page_bytes - 1) // page_bytes * page_bytes
