"""Page tables of arm64: pages of 4, 16 and 64 KiB, virtual addresses of 36 to 52 bits, LPA and LPA2.

Owns where their root is and how entries are read. Source: Linux arch/arm64/include/asm/{pgtable-hwdef.h,memory.h}, Arm
ARM D8. The tables map everything: linear map, kernel image, vmemmap; so neither PAGE_OFFSET nor which half of the
address space the linear map is in (it moved in v5.4, commit 14c127c957c1 ("arm64: mm: Flip kernel VA space")) matters
once the root is known, and the root lies in the kernel's image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.vmcore.elf import PT_LOAD
from netdump.vmcore.paging import AddressSpace, Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.paging import Decode, PhysicalMemory
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

_TOP: Final = 1 << 64
_PAGE_SHIFTS: Final = {4096: 12, 16384: 14, 65536: 16}
_VA_BITS: Final = range(36, 53)
_TAGS: Final = 0xF << 56
"""Pointers to what was allocated have a tag there where the kernel tags memory (KASAN_HW_TAGS, Memory Tagging)."""


def open_arm64(physical: PhysicalMemory, headers: ElfHeaders, info: Vmcoreinfo, page_bytes: int) -> AddressSpace:
    """The kernel's address space. Raises KernelDataError if no root table maps the kernel as it should."""
    root, anchor = info.symbol("swapper_pg_dir"), info.symbol("_stext")
    if root is None or anchor is None:
        raise KernelDataError("VMCOREINFO does not say where the page tables are: no SYMBOL(swapper_pg_dir) or _stext")
    shift = _PAGE_SHIFTS.get(page_bytes)
    if shift is None:
        raise KernelDataError(f"arm64 has no pages of {page_bytes} bytes")
    for actual in _actual_bits(info):
        geometry = _geometry(shift, actual, info.number("VA_BITS") or actual, headers)
        for offset in _image_offsets(headers, info, actual):
            space = AddressSpace(physical, geometry, (root - offset) % _TOP)
            found = space.translate(anchor)
            if found is not None and found[0] == (anchor - offset) % _TOP:
                return space
    raise KernelDataError("the page tables do not map the kernel's text where kimage_voffset says it is")


def _actual_bits(info: Vmcoreinfo) -> Iterator[int]:
    """Bits of a virtual address as the machine has them, best guess first.

    TCR_EL1_T1SZ: since v5.9, commit bbdbc11804ff ("arm64/crash_core: Export TCR_EL1.T1SZ in vmcoreinfo").
    """
    t1sz, built = info.number("TCR_EL1_T1SZ"), info.number("VA_BITS")
    if t1sz is not None:
        if 64 - t1sz in _VA_BITS:
            yield 64 - t1sz
        return
    if built is not None and built in _VA_BITS:
        yield built
    if built == _VA_BITS[-1]:
        yield 48


def _image_offsets(headers: ElfHeaders, info: Vmcoreinfo, actual: int) -> Iterator[int]:
    """What is to be subtracted from an address in the kernel's image: kimage_voffset, before v4.6 the linear map's."""
    said = info.number("kimage_voffset")
    if said is not None:
        yield said % _TOP
        return
    phys_offset = info.number("PHYS_OFFSET")
    if phys_offset is not None:
        yield (_TOP - (1 << actual - 1) - phys_offset) % _TOP
    for segment in headers.segments:
        if segment.type == PT_LOAD and segment.vaddr != headers.none:
            yield (segment.vaddr - segment.paddr) % _TOP
            return


def _geometry(shift: int, actual: int, built: int, headers: ElfHeaders) -> Geometry:
    """Tables for pages of 1 << shift bytes. actual: bits of virtual addresses; built: what the kernel was built for.

    With 64 KiB pages a root table built for 52 bits is indexed by all of its bits whatever the machine has: the unused
    ones are ones. With others a level is left out. Source: Linux arch/arm64/kernel/pi/map_kernel.c.
    """
    indexed = built if shift == 16 and built == _VA_BITS[-1] else actual
    step = shift - 3
    levels = -(-(indexed - shift) // step)
    shifts = tuple(shift + step * (levels - 1 - level) for level in range(levels))
    bits = (indexed - shifts[0], *(step for _ in shifts[1:]))
    lpa2 = shift != 16 and actual == _VA_BITS[-1]
    decode = _decoder(shift, levels, lpa2)
    return Geometry(shifts, bits, 8, _TOP - (1 << actual), _TOP - 1, headers.byteorder, decode, _TAGS)


def _decoder(shift: int, levels: int, lpa2: bool) -> Decode:
    """Bits 1:0: 11 a table, or a page in the last level; 01 a block; else nothing.

    High bits of the address: with 64 KiB pages 51:48 stand at 15:12, with LPA2 51:50 at 9:8.
    """
    top = 50 if lpa2 else 48
    low = (1 << top) - (1 << shift)

    def decode(entry: int, level: int) -> tuple[int, bool] | None:
        kind = entry & 3
        if kind & 1 == 0 or (kind == 1 and level == levels - 1):
            return None
        paddr = entry & low
        if shift == 16:
            paddr |= (entry >> 12 & 0xF) << 48
        elif lpa2:
            paddr |= (entry >> 8 & 3) << 50
        return paddr, kind == 1 or level == levels - 1

    return decode
