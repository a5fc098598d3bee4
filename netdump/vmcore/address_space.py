"""The address space of the dead kernel, whatever machine it ran on.

Owns the choice of architecture. Must not know any page table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.vmcore.paging_arm64 import open_arm64
from netdump.vmcore.paging_riscv import open_riscv64
from netdump.vmcore.paging_x86 import open_i386, open_x86_64

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.paging import AddressSpace, PhysicalMemory
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

EM_386: Final = 3
EM_X86_64: Final = 62
EM_AARCH64: Final = 183
EM_RISCV: Final = 243


def open_address_space(
    physical: PhysicalMemory, headers: ElfHeaders, info: Vmcoreinfo, page_bytes: int
) -> AddressSpace:
    """The kernel's address space. page_bytes: of the dead kernel.

    Raises KernelDataError if the architecture is not known or its page tables cannot be found.
    """
    if headers.byteorder == "little" and headers.machine == EM_X86_64 and page_bytes == 4096:
        return open_x86_64(physical, headers, info)
    if headers.byteorder == "little" and headers.machine == EM_386 and page_bytes == 4096:
        return open_i386(physical, headers, info)
    if headers.machine == EM_AARCH64:
        return open_arm64(physical, headers, info, page_bytes)
    if headers.byteorder == "little" and headers.machine == EM_RISCV and page_bytes == 4096:
        return open_riscv64(physical, headers, info)
    raise KernelDataError(
        f"the page tables of ELF machine {headers.machine} with pages of {page_bytes} bytes are not known"
    )
