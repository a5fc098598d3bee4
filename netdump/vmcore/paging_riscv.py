"""Page tables of riscv64: Sv39, Sv48, Sv57.

Owns where their root is and how entries are read. Source: RISC-V privileged specification 4.4; Linux
arch/riscv/include/asm/{page.h,pgtable-64.h}, arch/riscv/kernel/vmcore_info.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.vmcore.elf import PT_LOAD
from netdump.vmcore.paging import AddressSpace, Geometry

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.paging import PhysicalMemory
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

_TOP: Final = 1 << 64
_LEVELS: Final = {39: 3, 48: 4, 57: 5}
_VALID: Final = 1
_NAPOT: Final = 1 << 63
_LEAF: Final = 0xE  # any of R, W, X


def open_riscv64(physical: PhysicalMemory, headers: ElfHeaders, info: Vmcoreinfo) -> AddressSpace:
    """The kernel's address space. Raises KernelDataError if no root table maps the kernel as it should.

    va_kernel_pa_offset: since v6.5, not if it is executed in place; else the segment of the kernel's text tells.
    """
    root, anchor, bits = info.symbol("swapper_pg_dir"), info.symbol("_stext"), info.number("VA_BITS")
    offset, levels = info.number("va_kernel_pa_offset"), _LEVELS.get(bits or 0)
    if offset is None and anchor is not None:
        offset = _offset_of(headers, anchor)
    if root is None or anchor is None or offset is None or levels is None or bits is None:
        raise KernelDataError("VMCOREINFO does not say where the page tables are")
    shifts = tuple(12 + 9 * (levels - 1 - level) for level in range(levels))
    geometry = Geometry(shifts, (9,) * levels, 8, _TOP - (1 << bits - 1), _TOP - 1, "little", _decode)
    space = AddressSpace(physical, geometry, (root - offset) % _TOP)
    found = space.translate(anchor)
    if found is None or found[0] != (anchor - offset) % _TOP:
        raise KernelDataError("the page tables do not map the kernel's text where va_kernel_pa_offset says it is")
    return space


def _offset_of(headers: ElfHeaders, vaddr: int) -> int | None:
    """What is to be subtracted from an address, by the segment that has it."""
    for segment in headers.segments:
        if segment.type == PT_LOAD and segment.paddr != headers.none and 0 <= vaddr - segment.vaddr < segment.memsz:
            return segment.vaddr - segment.paddr
    return None


def _decode(entry: int, level: int) -> tuple[int, bool] | None:
    """A leaf may stand in every level; a table where there is none below is nothing, which the walk sees itself.

    Entries for several pages at once (Svnapot) have the size in their address. Linux has them in vmalloc and for
    processes, where nothing is looked for: they count as absent rather than as what they are not.
    """
    del level
    if not entry & _VALID or entry & _NAPOT:
        return None
    return (entry >> 10 & (1 << 44) - 1) << 12, bool(entry & _LEAF)
