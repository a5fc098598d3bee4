"""The notes of a core: registers of each CPU, VMCOREINFO.

Owns the note format and how much of the notes is kept. Must not interpret VMCOREINFO (vmcoreinfo.py). Drivers may put
device dumps of hundreds of megabytes before the other notes (Linux commit 2724273e8fd0 ("vmcore: add API to collect
hardware dump in second kernel") (in v4.18)), so a note segment is never read whole.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from netdump.errors import SourceUnreadableError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.elf import PT_NOTE, ByteOrder, ElfHeaders, Read

if TYPE_CHECKING:
    from collections.abc import Iterator

NT_PRSTATUS: Final = 1
NT_AUXV: Final = 6  # with the name CORE, as NT_FILE: what programs are started with, and what they have mapped
NT_FILE: Final = 0x4649_4C45
NT_VMCOREINFO: Final = 0  # with the name VMCOREINFO; QEMU has notes of the same type for each processor
VMCOREINFO: Final = b"VMCOREINFO"
NT_VMCOREDD: Final = 0x700
NOTES_BYTES_MAX: Final = 0x30_0000
"""Most bytes of notes that are kept; 8,192 CPUs fill 2.9 MB."""

NOTE_DESC_MAX: Final = 0x1_0000
"""Larger notes stay in the image and are left out here. VMCOREINFO has one page at most."""

_HEADER_BYTES: Final = 12
_HEADERS: Final = {"little": struct.Struct("<III"), "big": struct.Struct(">III")}  # namesz, descsz, type
_WALK_MAX: Final = 1 << 17  # notes looked at, kept or not


class Note(NamedTuple):
    """One note. name: without its final zero byte; desc: its contents, a view into the buffer that was given."""

    name: bytes
    type: int
    desc: memoryview


class Prstatus(NamedTuple):
    """What a CPU was doing when it was stopped. pid: of its task; registers: elf_gregset_t of the architecture."""

    pid: int
    registers: bytes


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def iter_notes(buf: bytes | memoryview, byteorder: ByteOrder) -> Iterator[Note]:
    """Walk the notes in buf until one is empty or does not fit. Raises nothing: notes are written by a dying kernel.

    Alignment is 4 in cores of both classes. Source: Linux fs/proc/vmcore.c update_note_header_size_elf64.
    """
    view = memoryview(buf)
    for name_at, name_bytes, kind, desc, desc_bytes in _spans(view, byteorder):
        name = bytes(view[name_at : name_at + name_bytes]).rstrip(b"\0")
        yield Note(name, kind, view[desc : desc + desc_bytes])


def notes_end(buf: bytes | memoryview, byteorder: ByteOrder) -> int:
    """How many bytes of buf hold notes, with their padding."""
    end = 0
    for _, _, _, desc, desc_bytes in _spans(memoryview(buf), byteorder):
        end = min(len(buf), desc + _aligned(desc_bytes))
    return end


def _spans(view: memoryview, byteorder: ByteOrder) -> Iterator[tuple[int, int, int, int, int]]:
    """Of each note in view: where its name starts, bytes of it, type, where its contents start, bytes of them."""
    header = _HEADERS[byteorder]
    position = 0
    while position + _HEADER_BYTES <= len(view):
        name_bytes, desc_bytes, kind = header.unpack_from(view, position)
        desc = position + _HEADER_BYTES + _aligned(name_bytes)
        if name_bytes == 0 or desc + desc_bytes > len(view):
            return
        yield position + _HEADER_BYTES, name_bytes, kind, desc, desc_bytes
        position = desc + _aligned(desc_bytes)


def read_notes(read: Read, headers: ElfHeaders) -> bytes:
    """The notes of all PT_NOTE segments in file order, joined; a note segment that ends early ends there.

    Left out are device dumps, notes with more than NOTE_DESC_MAX bytes of contents, and what would exceed
    NOTES_BYTES_MAX, but never VMCOREINFO for the sake of others. A note that cannot be read ends its segment.
    """
    kept = bytearray()
    budget = _WALK_MAX
    for segment in headers.segments:
        if segment.type != PT_NOTE:
            continue
        for offset, length, kind in _walk(read, segment.offset, segment.offset + segment.filesz, headers.byteorder):
            budget -= 1
            if budget < 0:
                return bytes(kept)
            room = NOTES_BYTES_MAX - len(kept)
            if kind == NT_VMCOREDD or length > min(room, _HEADER_BYTES + 2 * NOTE_DESC_MAX):
                continue
            try:
                data = read(offset, length)
            except SourceUnreadableError:
                break
            if length > room - 2 * NOTE_DESC_MAX and not data.startswith(VMCOREINFO, _HEADER_BYTES):
                continue
            kept += data + bytes(-length % 4)
    return bytes(kept)


def _walk(read: Read, position: int, end: int, byteorder: ByteOrder) -> Iterator[tuple[int, int, int]]:
    """Offset, whole length and type of each note between two file offsets; the last one may lack its padding."""
    header = _HEADERS[byteorder]
    while position + _HEADER_BYTES <= end:
        try:
            name_bytes, desc_bytes, kind = header.unpack(read(position, _HEADER_BYTES))
        except SourceUnreadableError:
            return
        length = _HEADER_BYTES + _aligned(name_bytes) + _aligned(desc_bytes)
        if name_bytes == 0 or position + length > end + 3:
            return
        yield position, min(length, end - position), kind
        position += length


def prstatus(note: Note, headers: ElfHeaders) -> Prstatus | None:
    """The registers in an NT_PRSTATUS note of name CORE; None if it is another note or too short to be one.

    Layout: struct elf_prstatus with the kernel's unsigned long of 4 or 8 bytes. Source: Linux include/linux/elfcore.h.
    """
    word = headers.word_bytes
    pid_at, registers_at = (32, 112) if word == 8 else (24, 72)
    registers_bytes = (len(note.desc) - registers_at - 4) // word * word  # pr_fpvalid follows, with padding
    if note.name != b"CORE" or note.type != NT_PRSTATUS or registers_bytes <= 0:
        return None
    pid = int.from_bytes(note.desc[pid_at : pid_at + 4], headers.byteorder, signed=True)
    return Prstatus(pid, bytes(note.desc[registers_at : registers_at + registers_bytes]))


def vmcoreinfo_text(notes: bytes, byteorder: ByteOrder) -> bytes | None:
    """The text of the VMCOREINFO note among notes, None if there is none. Source: Linux kernel/vmcore_info.c."""
    for note in iter_notes(notes, byteorder):
        if note.name == VMCOREINFO:
            return bytes(note.desc).rstrip(b"\0")
    return None


def is_of_process(notes: bytes, byteorder: ByteOrder) -> bool:
    """Whether a core is one of a process. Those of kernels have no auxiliary vector, though some have NT_PRPSINFO.

    Source: Linux fs/binfmt_elf.c fill_note_info; arch/s390/kernel/crash_dump.c nt_prpsinfo.
    """
    if vmcoreinfo_text(notes, byteorder) is not None:
        return False
    return any(note.name == b"CORE" and note.type in {NT_AUXV, NT_FILE} for note in iter_notes(notes, byteorder))
