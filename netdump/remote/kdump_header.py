"""The headers of a kdump-compressed file: disk_dump_header, kdump_sub_header, page_desc; as bytes of the dead machine.

Owns these structures. Must not read or write files. The structures are those of the dead kernel's C ABI, so there is
one layout for 64-bit machines and one for i386; other 32-bit machines pad differently and are not written.

Source: makedumpfile IMPLEMENTATION, diskdump_mod.h; sizes: 464 and 104 bytes (64-bit), 452 and 80 (i386).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Final

from netdump.errors import BadHeadersError
from netdump.vmcore.elf import PT_LOAD
from netdump.vmcore.vmcoreinfo import Vmcoreinfo

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.kernel import KernelFacts

VERSION: Final = 6
PAGE_DESC_BYTES: Final = 24

FRAMES_MAX: Final = 1 << 40
"""The highest page frame number that is written: 4 PiB of 4 KiB pages, whose bitmaps are 128 GiB each, mostly holes."""

_SIGNATURE: Final = b"KDUMP   "
_UTS_FIELD_BYTES: Final = 65
_U32_MAX: Final = (1 << 32) - 1
_KERNEL_MAP: Final = 0xFFFF_FFFF_8000_0000  # __START_KERNEL_map of x86_64

_EM_386: Final = 3
_EM_X86_64: Final = 62
_EM_AARCH64: Final = 183
_EM_RISCV: Final = 243

# signature, header_version, utsname, timestamp (2), status, block_size, sub_hdr_size, bitmap_blocks, max_mapnr,
# total_ram_blocks, device_blocks, written_blocks, current_cpu, nr_cpus
_HEADER: Final = {8: "8si390s6xqqIiiIIIIIIi", 4: "8si390s2xiiIiiIIIIIIi"}
# phys_base, dump_level, split, start_pfn, end_pfn, offset and size of vmcoreinfo, notes, eraseinfo,
# start_pfn_64, end_pfn_64, max_mapnr_64
_SUB_HEADER: Final = {8: "QiiQQQQQQQQQQQ", 4: "IiiIIQIQIQIQQQ"}
_PAGE_DESC: Final = "QIIQ"


class Flag(IntFlag):
    """How a page is stored, and in the header's status how pages may be. INCOMPLETE: of the header only."""

    RAW = 0
    ZLIB = 1
    INCOMPLETE = 8
    ZSTD = 0x20


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where things stand in the file. Positions and sizes in bytes, counts in blocks of page_bytes.

    word_bytes: 8, or 4 for i386. frames: one more than the highest page frame number. notes_bytes: of ELF notes.
    """

    byteorder: str
    word_bytes: int
    page_bytes: int
    frames: int
    notes_bytes: int

    @classmethod
    def of(cls, headers: ElfHeaders, page_bytes: int, frames: int, notes_bytes: int) -> Geometry:
        """Raises BadHeadersError for what the format cannot hold."""
        if headers.word_bytes != 8 and headers.machine != _EM_386:
            raise BadHeadersError(
                f"kdump-compressed is written for 64-bit machines and i386, not for ELF machine {headers.machine}; "
                "fetch this dump with --format elf"
            )
        if not 1 <= frames <= FRAMES_MAX:
            raise BadHeadersError(
                f"the core's headers name page frames up to {frames:#x}, kdump-compressed is written for 1 to "
                f"{FRAMES_MAX:#x}; fetch this dump with --format elf"
            )
        return cls(headers.byteorder, headers.word_bytes, page_bytes, frames, notes_bytes)

    @property
    def sign(self) -> str:
        """The prefix for struct."""
        return "<" if self.byteorder == "little" else ">"

    @property
    def sub_header_blocks(self) -> int:
        """Of the sub header with what follows it: notes."""
        return -(-(self._sub_header_bytes + self.notes_bytes) // self.page_bytes)

    @property
    def bitmap_blocks(self) -> int:
        """Of one bitmap."""
        return -(-self.frames // (8 * self.page_bytes))

    @property
    def notes_position(self) -> int:
        """Behind the sub header."""
        return self.page_bytes + self._sub_header_bytes

    @property
    def bitmap_position(self) -> int:
        """Of the first bitmap; the second one follows it."""
        return (1 + self.sub_header_blocks) * self.page_bytes

    @property
    def descriptors_position(self) -> int:
        """Of the page descriptors."""
        return self.bitmap_position + 2 * self.bitmap_blocks * self.page_bytes

    @property
    def _sub_header_bytes(self) -> int:
        return struct.calcsize("<" + _SUB_HEADER[self.word_bytes])


def pack_header(geometry: Geometry, facts: KernelFacts, status: Flag) -> bytes:
    """disk_dump_header."""
    machine = "i686" if facts.machine == "i386" else facts.machine  # what ELF can tell; crash knows only the other
    names = ("Linux", facts.nodename, facts.release, facts.version, machine, "(none)")
    return struct.pack(
        geometry.sign + _HEADER[geometry.word_bytes],
        _SIGNATURE,
        VERSION,
        b"".join((name or "").encode()[: _UTS_FIELD_BYTES - 1].ljust(_UTS_FIELD_BYTES, b"\0") for name in names),
        (facts.crash_time or 0) & 0x7FFF_FFFF if geometry.word_bytes == 4 else facts.crash_time or 0,
        0,
        status,
        geometry.page_bytes,
        geometry.sub_header_blocks,
        2 * geometry.bitmap_blocks,
        min(geometry.frames, _U32_MAX),
        0,
        0,
        0,
        0,
        max(1, min(facts.cpus, 0x7FFF_FFFF)),
    )


def pack_sub_header(geometry: Geometry, facts: KernelFacts, phys_base: int, level: int) -> bytes:
    """kdump_sub_header. VMCOREINFO is pointed at inside the notes. level: the dump level, as a remark."""
    text = facts.vmcoreinfo or b""
    at = facts.notes.find(text) if text else -1
    start = geometry.notes_position
    vmcoreinfo = (start + at, len(text)) if at >= 0 else (0, 0)
    notes = (start, len(facts.notes)) if facts.notes else (0, 0)
    mask = (1 << 8 * geometry.word_bytes) - 1
    pfns = (0, 0, 0, 0)  # split, start_pfn, end_pfn; and no erase info
    values = (phys_base & mask, level, *pfns[:3], *vmcoreinfo, *notes, 0, 0, 0, 0, geometry.frames)
    return struct.pack(geometry.sign + _SUB_HEADER[geometry.word_bytes], *values)


def pack_page_desc(geometry: Geometry, position: int, size: int, flags: Flag) -> bytes:
    """page_desc. position: of the page's data in the file."""
    return struct.pack(geometry.sign + _PAGE_DESC, position, size, flags, 0)


def find_phys_base(headers: ElfHeaders, vmcoreinfo: bytes) -> int:
    """Where the kernel was loaded, as crash and makedumpfile understand phys_base for the machine; 0 if not known.

    x86_64: may be negative. Source: makedumpfile x86_64.c get_phys_base_x86_64, arm64.c, riscv64.c.
    """
    info = Vmcoreinfo.parse(vmcoreinfo)
    if headers.machine == _EM_AARCH64:
        return info.number("PHYS_OFFSET") or 0
    if headers.machine == _EM_RISCV:
        return info.number("phys_ram_base") or 0
    if headers.machine != _EM_X86_64:
        return 0
    told = info.number("phys_base")
    if told is not None:
        return told
    for segment in headers.segments:
        if segment.type == PT_LOAD and segment.vaddr >= _KERNEL_MAP and segment.vaddr != headers.none:
            return segment.paddr - (segment.vaddr - _KERNEL_MAP)
    return 0
