"""Page tables of x86_64 (4 and 5 levels) and i386 (with and without PAE).

Owns where their root is and how entries are read. Source: Linux arch/x86/include/asm/pgtable_types.h, Intel SDM vol. 3
chapter 4. The tables map everything: direct map, kernel image, vmemmap, vmalloc; so only the root is computed, from the
kernel image's own mapping, and the tables must confirm that computation before anything else is read through them.
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

KERNEL_MAP: Final = 0xFFFF_FFFF_8000_0000
"""__START_KERNEL_map: where the kernel's image is mapped, before phys_base."""

_PAGE_OFFSETS_32: Final = (0xC000_0000, 0xB000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000)
"""Where low memory can be mapped: CONFIG_VMSPLIT_3G, 3G_OPT, 2G, 2G_OPT and 1G."""

_ADDRESS_64: Final = 0x000F_FFFF_FFFF_F000
_PRESENT: Final = 1
_LARGE: Final = 1 << 7  # PS
_SIGN_64: Final = 1 << 64


def open_x86_64(physical: PhysicalMemory, headers: ElfHeaders, info: Vmcoreinfo) -> AddressSpace:
    """The kernel's address space. Raises KernelDataError if no root table maps the kernel as it should."""
    root = next((found for name in _ROOTS_64 if (found := info.symbol(name)) is not None), None)
    anchor = _anchor(info)
    if root is None:
        raise KernelDataError("VMCOREINFO does not say where the page tables are: no SYMBOL(init_top_pgt)")
    mask = _ADDRESS_64 & ~(info.number("sme_mask") or 0)
    five = info.number("pgtable_l5_enabled") == 1
    shifts = (48, 39, 30, 21, 12) if five else (39, 30, 21, 12)
    lowest = _SIGN_64 - (1 << shifts[0] + 8)
    decode = _decoder(mask, len(shifts) - 3, len(shifts) - 1)
    geometry = Geometry(shifts, (9,) * len(shifts), 8, lowest, _SIGN_64 - 1, "little", decode)
    for phys_base in _phys_bases(headers, info):
        shift = phys_base - KERNEL_MAP
        if root + shift < 0 or root + shift >= 1 << 52:
            continue
        space = AddressSpace(physical, geometry, root + shift)
        mapped = space.translate(anchor)
        if mapped is not None and mapped[0] == anchor + shift:
            return space
    if info.number("phys_base") is None:
        raise KernelDataError("VMCOREINFO has no NUMBER(phys_base), and no segment says rightly where the kernel is")
    raise KernelDataError("the page tables do not map the kernel's text where phys_base says it is")


_ROOTS_64: Final = ("init_top_pgt", "init_level4_pgt", "swapper_pg_dir")


def _phys_bases(headers: ElfHeaders, info: Vmcoreinfo) -> Iterator[int]:
    """What phys_base can be, best first: as the kernel says, then as the segment of its text says."""
    said = info.number("phys_base")
    if said is not None:
        yield said
    for segment in headers.segments:
        if segment.type == PT_LOAD and segment.vaddr >= KERNEL_MAP and segment.paddr != headers.none:
            yield segment.paddr - (segment.vaddr - KERNEL_MAP)
            break
    if said is None:
        yield 0


def open_i386(physical: PhysicalMemory, headers: ElfHeaders, info: Vmcoreinfo) -> AddressSpace:
    """The kernel's address space. Raises KernelDataError if no root table maps the kernel as it should."""
    root = info.symbol("swapper_pg_dir")
    anchor = _anchor(info)
    if root is None:
        raise KernelDataError("VMCOREINFO does not say where the page tables are: no SYMBOL(swapper_pg_dir)")
    if info.value("CONFIG_X86_PAE") == "y":
        decode = _decoder(_ADDRESS_64, 1, 2)
        geometry = Geometry((30, 21, 12), (2, 9, 9), 8, 0, (1 << 32) - 1, "little", decode)
    else:
        geometry = Geometry((22, 12), (10, 10), 4, 0, (1 << 32) - 1, "little", _decode_32)
    offsets = [
        (segment.vaddr - segment.paddr) & 0xFFFF_FFFF
        for segment in headers.segments
        if segment.type == PT_LOAD and segment.vaddr != headers.none and segment.paddr < 1 << 30
    ]
    for page_offset in [*offsets[:1], *_PAGE_OFFSETS_32]:
        if root < page_offset:
            continue
        space = AddressSpace(physical, geometry, root - page_offset)
        found = space.translate(anchor)
        if found is not None and found[0] == anchor - page_offset:
            return space
    raise KernelDataError("the page tables do not map the kernel's text where low memory says it is")


def _anchor(info: Vmcoreinfo) -> int:
    """An address of the kernel's image, to try the tables on."""
    for name in ("_stext", "init_uts_ns"):
        found = info.symbol(name)
        if found is not None:
            return found
    raise KernelDataError("VMCOREINFO has no symbol of the kernel's image: neither _stext nor init_uts_ns")


def _decoder(mask: int, large: int, last: int) -> Decode:
    """Entries of 8 bytes. mask: the bits that are an address; large: first level that may map a page; last: must."""

    def decode(entry: int, level: int) -> tuple[int, bool] | None:
        if not entry & _PRESENT:
            return None
        return entry & mask, level == last or (level >= large and bool(entry & _LARGE))

    return decode


def _decode_32(entry: int, level: int) -> tuple[int, bool] | None:
    """Entries of 4 bytes. A 4 MiB page may lie above 4 GiB: bits 20:13 are 39:32 of its address (PSE-36)."""
    if not entry & _PRESENT:
        return None
    if level == 0 and entry & _LARGE:
        return entry & 0xFFC0_0000 | (entry & 0x1F_E000) << 19, True
    return entry & 0xFFFF_F000, level == 1
