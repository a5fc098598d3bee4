"""Writes ELF core files from a recipe: both classes, both byte orders, and shapes that real producers leave behind.

A recipe names segments; where they come to stand in the file follows from it, unless the recipe says where. Memory is
given in pieces; what lies between them is zeros, and a hole on disk, so that a core of many GiB costs nothing.

    core = Core([Load(0x100000, 0x3000, {0: counter_pages(1, 2)})], notes=[NoteSegment(note(b"CORE", 1, bytes(336)))])
    core.write(path)
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ByteOrder = Literal["little", "big"]

EM_386 = 3
EM_S390 = 22
EM_X86_64 = 62
PT_LOAD = 1
PT_NOTE = 4
ET_CORE = 4
PN_XNUM = 0xFFFF

NONE = -1
"""As vaddr or paddr: all ones, which says that there is none."""


@dataclass(frozen=True, slots=True)
class Load:
    """A PT_LOAD. size: p_filesz; pieces: position in the segment -> bytes; the rest is zeros.

    memsz: p_memsz, default size. offset: p_offset, default the next free one that the core's alignment allows.
    """

    paddr: int
    size: int
    pieces: Mapping[int, bytes] = field(default_factory=dict)
    vaddr: int = NONE
    memsz: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class NoteSegment:
    """A PT_NOTE. data: packed notes. size: p_filesz, default the data's. offset: as for Load."""

    data: bytes
    size: int | None = None
    offset: int | None = None


class Placed(NamedTuple):
    """A segment at its place in the file."""

    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    pieces: Mapping[int, bytes]


@dataclass(frozen=True)
class Core:
    """A core file. alignment: of segments without an offset of their own; 1 packs them.

    extended_count: the number of program headers stands in section header 0 (PN_XNUM). trailer: bytes after
    everything else. overrides: fields of the ELF header after e_ident, by name, for headers that lie.
    """

    loads: Sequence[Load]
    notes: Sequence[NoteSegment] = ()
    bits: Literal[32, 64] = 64
    byteorder: ByteOrder = "little"
    machine: int = EM_X86_64
    alignment: int = 4096
    extended_count: bool = False
    trailer: bytes = b""
    overrides: Mapping[str, int] = field(default_factory=dict)

    def headers(self) -> bytes:
        """ELF header and program header table, and section header 0 if there is one."""
        return self._headers(self.segments())

    def _headers(self, segments: Sequence[Placed]) -> bytes:
        sign = "<" if self.byteorder == "little" else ">"
        ehdr_bytes, phdr_bytes, section_bytes = self._entry_bytes
        count = PN_XNUM if self.extended_count else len(segments)
        fields = {
            "type": ET_CORE,
            "machine": self.machine,
            "version": 1,
            "entry": 0,
            "phoff": ehdr_bytes,
            "shoff": ehdr_bytes + phdr_bytes * len(segments) if self.extended_count else 0,
            "flags": 0,
            "ehsize": ehdr_bytes,
            "phentsize": phdr_bytes,
            "phnum": count,
            "shentsize": section_bytes if self.extended_count else 0,
            "shnum": 1 if self.extended_count else 0,
            "shstrndx": 0,
        } | dict(self.overrides)
        ident = b"\x7fELF" + bytes((self.bits // 32, 1 if self.byteorder == "little" else 2, 1)) + bytes(9)
        head = ident + struct.pack(sign + ("HHIQQQIHHHHHH" if self.bits == 64 else "HHIIIIIHHHHHH"), *fields.values())
        table = b"".join([self._phdr(sign, segment) for segment in segments])
        if not self.extended_count:
            return head + table
        section = struct.pack(sign + ("IIQQQQIIQQ" if self.bits == 64 else "IIIIIIIIII"), *[0] * 7, len(segments), 0, 0)
        return head + table + section

    def _phdr(self, sign: str, segment: Placed) -> bytes:
        mask = (1 << self.bits) - 1
        flags = 7 if segment.type == PT_LOAD else 0
        where = (segment.offset, segment.vaddr & mask, segment.paddr & mask, segment.filesz, segment.memsz)
        if self.bits == 64:
            return struct.pack(sign + "IIQQQQQQ", segment.type, flags, *where, 0)
        return struct.pack(sign + "IIIIIIII", segment.type, *where, flags, 0)

    def segments(self) -> list[Placed]:
        """The segments at their places: notes, then loads, in order."""
        position = self._headers_bytes
        placed = []
        for note_segment in self.notes:
            size = len(note_segment.data) if note_segment.size is None else note_segment.size
            offset = self._place(position) if note_segment.offset is None else note_segment.offset
            placed.append(Placed(PT_NOTE, offset, 0, 0, size, size, {0: note_segment.data}))
            position = max(position, offset + size)
        for load in self.loads:
            offset = self._place(position) if load.offset is None else load.offset
            memsz = load.size if load.memsz is None else load.memsz
            placed.append(Placed(PT_LOAD, offset, load.vaddr, load.paddr, load.size, memsz, load.pieces))
            position = max(position, offset + load.size)
        return placed

    def _place(self, position: int) -> int:
        return -(-position // self.alignment) * self.alignment

    @property
    def _entry_bytes(self) -> tuple[int, int, int]:
        """Sizes of the ELF header, a program header, a section header."""
        return (64, 56, 64) if self.bits == 64 else (52, 32, 40)

    @property
    def _headers_bytes(self) -> int:
        header, program, section = self._entry_bytes
        return header + program * (len(self.notes) + len(self.loads)) + section * self.extended_count

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._end(self.segments()) + len(self.trailer)

    def _end(self, segments: Sequence[Placed]) -> int:
        """Where the trailer begins."""
        ends = (segment.offset + segment.filesz for segment in segments if segment.filesz)
        return max(self._headers_bytes, max(ends, default=0))

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """What is to be written: (file offset, bytes). Later pieces lie over earlier ones."""
        segments = self.segments()
        yield 0, self._headers(segments)
        for segment in segments:
            for position, data in segment.pieces.items():
                yield segment.offset + position, data
        yield self._end(segments), self.trailer

    def build(self) -> bytes:
        """The file in memory."""
        image = bytearray(self.size)
        self._fill(image)
        return bytes(image)

    def map(self) -> mmap.mmap:
        """The file in memory, to be changed; what lies between its pieces takes neither memory nor time."""
        image = mmap.mmap(-1, self.size, mmap.MAP_PRIVATE)
        self._fill(image)
        return image

    def _fill(self, image: bytearray | mmap.mmap) -> None:
        for offset, data in self.pieces():
            image[offset : offset + len(data)] = data

    def write(self, path: Path) -> None:
        """The file on disk, with holes for what is not in a piece."""
        with path.open("wb") as file:
            file.truncate(self.size)
            for offset, data in self.pieces():
                os.pwrite(file.fileno(), data, offset)


def note(name: bytes, kind: int, desc: bytes, byteorder: ByteOrder = "little") -> bytes:
    """One note, padded to 4 bytes. name: without its final zero byte."""
    name += b"\0"
    header = struct.pack("<III" if byteorder == "little" else ">III", len(name), len(desc), kind)
    return header + name + bytes(-len(name) % 4) + desc + bytes(-len(desc) % 4)


def prstatus_note(pid: int, registers: bytes, word: int = 8, byteorder: ByteOrder = "little") -> bytes:
    """An NT_PRSTATUS note. registers: whole words. Layout: Linux include/linux/elfcore.h struct elf_prstatus."""
    pid_at, registers_at = (32, 112) if word == 8 else (24, 72)
    desc = bytearray(registers_at) + registers + bytes(4)
    desc += bytes(-len(desc) % word)
    desc[pid_at : pid_at + 4] = pid.to_bytes(4, byteorder)
    return note(b"CORE", 1, bytes(desc), byteorder)


def counter_pages(first: int, count: int, page_bytes: int = 4096) -> bytes:
    """Pages that tell where they belong: each 8-byte word is its number among all words, from page `first` on.

    None is zero; a page that is lost, repeated or swapped cannot pass unseen.
    """
    words = page_bytes // 8
    return struct.pack(f">{words * count}Q", *range(first * words + 1, (first + count) * words + 1))
