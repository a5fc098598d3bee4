"""Memory that is certainly the kernel's own, found without struct pages: what no page filter may ever leave out.

Owns where to look. Must not know classes.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from netdump.errors import LostMemoryError
from netdump.vmcore.address_space import EM_386, EM_AARCH64, EM_RISCV, EM_X86_64
from netdump.vmcore.elf import PT_LOAD
from netdump.vmcore.memmap import iter_nodes
from netdump.vmcore.notes import iter_notes, prstatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.kernel import KernelFacts
    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

_SYMBOLS: Final = (
    ("the kernel's text", "_stext"),
    ("the kernel's data", "init_uts_ns"),
    ("the kernel's data", "node_online_map"),
    ("the kernel's page tables", "swapper_pg_dir"),
    ("the kernel's log", "prb"),
    ("the kernel's log", "log_buf"),
    ("the memory map", "mem_section"),
    ("the memory map", "mem_map"),
)
_STACK_POINTERS: Final = {EM_X86_64: 19, EM_386: 15, EM_AARCH64: 31, EM_RISCV: 2}  # word in elf_gregset_t
_CPUS_MAX: Final = 128
_NODES_MAX: Final = 64
_SEGMENTS_MAX: Final = 64
_SAMPLES_EACH: Final = 8


def iter_kernel_pages(
    pages: PageArray, headers: ElfHeaders, facts: KernelFacts, info: Vmcoreinfo
) -> Iterator[tuple[str, int]]:
    """(what it is, physical address) of pages of the kernel; some of each kind. Raises nothing."""
    space = pages.space
    for what, vaddr in _iter_addresses(pages, headers, facts, info):
        found = space.translate(vaddr)
        if found is not None:
            yield what, found[0]
    for paddr in space.tables():
        yield "the kernel's page tables", paddr


def _iter_addresses(
    pages: PageArray, headers: ElfHeaders, facts: KernelFacts, info: Vmcoreinfo
) -> Iterator[tuple[str, int]]:
    """The same by virtual address."""
    for what, name in _SYMBOLS:
        symbol = info.symbol(name)
        if symbol is not None:
            yield what, symbol
    try:
        for node in islice(iter_nodes(pages.space, info, headers.word_bytes), _NODES_MAX):
            yield "the kernel's data on nodes", node
    except LostMemoryError:
        pass
    for segment in [segment for segment in headers.segments if segment.type == PT_LOAD][:_SEGMENTS_MAX]:
        start, count = segment.paddr // pages.page_bytes, segment.memsz // pages.page_bytes
        for pfn in range(start, start + count, max(1, count // _SAMPLES_EACH)):
            vaddr, _ = pages.locate(pfn)
            if vaddr is not None:
                yield "the memory map", vaddr
    yield from _iter_stacks(headers, facts)


def _iter_stacks(headers: ElfHeaders, facts: KernelFacts) -> Iterator[tuple[str, int]]:
    """The stack that each processor was on, if it was the kernel's: a user's is not in the kernel's address space."""
    place = _STACK_POINTERS.get(headers.machine)
    if place is None:
        return
    word = headers.word_bytes
    states = (prstatus(note, headers) for note in iter_notes(facts.notes, headers.byteorder))
    for state in islice((state for state in states if state is not None), _CPUS_MAX):
        register = state.registers[place * word : (place + 1) * word]
        if len(register) == word:
            yield "the kernel's stacks", int.from_bytes(register, headers.byteorder)
