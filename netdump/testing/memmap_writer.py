"""Builds cores of made-up machines with all that a page filter reads: page tables, memory map, zones, struct pages.

    machine = x86_64(ERAS["6.12"])
    machine.frames.free(PLAYGROUND, 10)
    core = machine.core()            # an elf_writer.Core
    machine.frames.expected(31)      # what a filter must find

The kernel lies at 2 MiB, its tables behind it, the struct pages at 8 MiB and on: frames below PLAYGROUND are the
kernel's. Everything else is the caller's to say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from netdump.testing.elf_writer import EM_386, EM_X86_64, Core, Load, NoteSegment, prstatus_note
from netdump.testing.kernel_writer import DeadKernel
from netdump.testing.page_tables import Arm64Tables, I386Tables, PaeTables, Ram, RiscvTables, Tables, X86Tables
from netdump.testing.struct_page_writer import Era, Frames

EM_AARCH64: Final = 183
EM_RISCV: Final = 243

PLAYGROUND: Final = 0x1000
"""First 4 KiB frame that is free for tests, with up to 512 MiB of memory."""

RAM_BYTES: Final = 32 << 20

_KERNEL: Final = 0x20_0000
_TABLES: Final = 0x50_0000
_MAP: Final = 0x80_0000
_VMALLOC: Final = 0xE000_0000  # on i386
_NODE_BYTES: Final = 0x2000
_ZONE_BYTES: Final = 0x600
_ZONES: Final = 3
_LISTS: Final = 5
_STACK_WORD: Final = {EM_X86_64: 19, EM_386: 15, EM_AARCH64: 31, EM_RISCV: 2}


@dataclass(slots=True)
class Machine:
    """A made-up machine. Change what you like before core() is called.

    direct_map: where memory is mapped from its start on. section_pointer: SYMBOL(mem_section) is that of a pointer to
    the table. lines: keys of VMCOREINFO that come on top, or "" to take one away. free_pages: what the zones count;
    None: the truth. blank_zones: how many of the first zones have no memory and so were never given free lists.
    shared_maps: frame -> frame: the page of memory that has the struct page of the first one, and those behind it, is
    mapped to that of the second one, and its own is used for something else; with a map_shift of 12 bits.
    """

    machine: int
    era: Era
    ram_bytes: int
    word: int
    page_bytes: int
    kernel: DeadKernel
    tables: Tables
    frames: Frames
    direct_map: int
    section_bits: int
    ram_start: int = 0
    sparse: bool = True
    extreme: bool = True
    section_pointer: bool = False
    numbered: bool = False
    map_shift: int = 21
    shared_maps: dict[int, int] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    free_pages: int | None = None
    free_lists: bool = True
    blank_zones: int = 0
    text_segment: bool = True
    low_memory_end: int | None = None
    stack: int | None = None

    @property
    def ram(self) -> Ram:
        """Its memory."""
        return self.tables.ram

    def core(self) -> Core:
        """The core file."""
        kernel, frames = self.kernel, self.frames
        kernel.put(b"\x90" * self.page_bytes, self.page_bytes)
        kernel.symbol("_stext", kernel.vaddr)
        kernel.add_uts("made-up", self.era.release)
        stack = kernel.put(bytes(2 * self.page_bytes), self.page_bytes)
        if self.free_lists:
            self._put_zones()
        self._put_memory_map()
        frames.describe(kernel.lines)
        kernel.lines["PAGESIZE"] = str(self.page_bytes)
        for key, value in self.lines.items():
            kernel.lines[key] = value
        kernel.lines = {key: value for key, value in kernel.lines.items() if value != ""}
        self._map_kernel()
        self.ram.write(kernel.paddr, bytes(kernel.memory))
        registers = bytearray(self.word * 34)
        place = _STACK_WORD[self.machine] * self.word
        pointer = stack + self.page_bytes if self.stack is None else self.stack
        registers[place : place + self.word] = kernel.uint(pointer)
        notes = prstatus_note(1, bytes(registers), self.word, kernel.byteorder) + kernel.note()
        bits: Final = 64 if self.word == 8 else 32
        return Core(self._loads(), [NoteSegment(notes)], bits, kernel.byteorder, self.machine)

    def _loads(self) -> list[Load]:
        """Kernel text first, as kexec does on x86_64; then memory, with a hole below 1 MiB."""
        loads = []
        if self.text_segment:
            size = -(-len(self.kernel.memory) // self.page_bytes) * self.page_bytes
            start = self.kernel.paddr
            loads.append(Load(start, size, self.ram.pieces(start, start + size), vaddr=self.kernel.vaddr))
        start, end = self.ram_start, self.ram_start + self.ram_bytes
        ranges = [(start + self.page_bytes, start + 0x9FC00), (start + 0x100000, end)]
        for first, last in ranges:
            high = self.low_memory_end is not None and first >= self.low_memory_end
            vaddr = -1 if high else self.direct_map + first - start
            loads.append(Load(first, last - first, self.ram.pieces(first, last), vaddr=vaddr))
        return loads

    def _map_kernel(self) -> None:
        """The kernel's image and, as far as tests need it, the direct map."""
        tables, kernel = self.tables, self.kernel
        shift = tables.shifts[-2] if len(tables.shifts) > 1 else tables.shifts[-1]
        size = 1 << shift
        if shift > 22:
            shift, size = tables.shifts[-1], 1 << tables.shifts[-1]
        image = -(-len(kernel.memory) // size) * size
        if kernel.vaddr != (self.direct_map + kernel.paddr - self.ram_start):
            tables.map_range(kernel.vaddr, kernel.paddr, image, shift)
        low = min(self.ram_bytes, self.low_memory_end or self.ram_bytes, 256 << 20)
        tables.map_range(self.direct_map, self.ram_start, low, shift)

    def _put_memory_map(self) -> None:
        """Struct pages in memory, mapped, and the table that leads to them."""
        frames = self.frames
        first = self.ram_start // self.page_bytes
        count = self.ram_bytes // self.page_bytes
        step = 1 << self.map_shift
        start = (frames.address(first)) // step * step
        end = -(-frames.address(first + count) // step) * step
        base = self.ram_start + _MAP
        self.tables.map_range(start, base, end - start, self.map_shift)
        if self.numbered:
            self._number_sections(first, count)
        self.ram.write(frames.address(first) + base - start, frames.array(first, count))
        for pfn, other in self.shared_maps.items():
            self.ram.write(frames.address(pfn) + base - start, b"\xa5" * step)
            self.tables.map(frames.address(pfn), frames.address(other) + base - start, self.map_shift)
        if self.sparse:
            self._put_sections(first + count)
        else:
            self.kernel.symbol("mem_map", self.kernel.put(self.kernel.uint(frames.vmemmap)))

    def _number_sections(self, first: int, count: int) -> None:
        """Without vmemmap the highest bits of the flags are the number of the section; here nothing is above it."""
        frames = self.frames
        for pfn in range(first, first + count):
            page = frames.pages.setdefault(pfn, bytearray(frames.page(pfn)))
            number = pfn * self.page_bytes >> self.section_bits
            page[4:8] = (number << self.section_bits - 14).to_bytes(4, frames.byteorder)

    def _put_sections(self, end: int) -> None:
        """mem_section, with a root for each page of entries, or one static table."""
        kernel, word = self.kernel, self.word
        pages = (1 << self.section_bits) // self.page_bytes
        number = -(-end // pages)
        encoded = [kernel.uint(self.frames.vmemmap | 0b111) + kernel.uint(0) for _ in range(number)]
        for section in range(self.ram_start // (1 << self.section_bits)):
            encoded[section] = bytes(2 * word)
        physmem_bits = 46 if word == 8 else 32
        if self.extreme:
            per_root = self.page_bytes // (2 * word)
            roots = []
            for root in range(0, number, per_root):
                table = b"".join(encoded[root : root + per_root]).ljust(self.page_bytes, b"\0")
                roots.append(kernel.uint(kernel.put(table, self.page_bytes)))
            sections = (1 << physmem_bits - self.section_bits) // per_root
            address = kernel.put(b"".join(roots).ljust(self.page_bytes, b"\0"), self.page_bytes)
        else:
            sections = 1 << physmem_bits - self.section_bits
            address = kernel.put(b"".join(encoded).ljust(self.page_bytes, b"\0"), self.page_bytes)
        kernel.symbol("mem_section", kernel.put(kernel.uint(address)) if self.section_pointer else address)
        kernel.struct("mem_section", 2 * word, section_mem_map=0)
        kernel.lines["LENGTH(mem_section)"] = str(sections)
        kernel.lines["NUMBER(SECTION_SIZE_BITS)"] = str(self.section_bits)
        kernel.lines["NUMBER(MAX_PHYSMEM_BITS)"] = str(physmem_bits)

    def _put_zones(self) -> None:
        """One node, three zones, the last of which has all memory and all free blocks."""
        kernel, frames, word = self.kernel, self.frames, self.word
        area_bytes = _LISTS * 2 * word + word
        free_area = 0x100
        stat = free_area + frames.orders * area_bytes
        node = bytearray(_NODE_BYTES)
        address = kernel.put(bytes(_NODE_BYTES), self.page_bytes)
        zone_at = (_ZONES - 1) * _ZONE_BYTES

        def put(at: int, value: int, size: int = word) -> None:
            node[at : at + size] = kernel.uint(value, size)

        blocks, blocks_held = frames.free_blocks(), self.blocks_held()
        for zone in range(self.blank_zones, _ZONES):
            for order in range(frames.orders):
                for kind in range(_LISTS):
                    at = zone * _ZONE_BYTES + free_area + order * area_bytes + kind * 2 * word
                    mine = zone == _ZONES - 1 and kind == 1
                    chain = [pfn for pfn, block in blocks.items() if block == order and mine]
                    after, before = self._chain(address + at, chain)
                    put(at, after)
                    put(at + word, before)
                held = blocks_held[order] if zone == _ZONES - 1 else 0
                put(zone * _ZONE_BYTES + free_area + order * area_bytes + _LISTS * 2 * word, held)
        counted = frames.free_pages() if self.free_pages is None else self.free_pages
        put(zone_at + stat, counted)
        span = self.ram_bytes // self.page_bytes
        put(zone_at + 0x90, span)
        numbers = _ZONES * _ZONE_BYTES
        put(numbers, _ZONES, 4)
        put(numbers + word, frames.vmemmap)
        put(numbers + 2 * word, self.ram_start // self.page_bytes)
        put(numbers + 3 * word, span)
        at = address - kernel.vaddr
        kernel.memory[at : at + len(node)] = node
        kernel.symbol("node_data", kernel.put(kernel.uint(address)))
        kernel.symbol("node_online_map", kernel.put(kernel.uint(1)))
        kernel.lines["LENGTH(node_data)"] = "64"
        kernel.struct("nodemask_t", word)
        kernel.struct("list_head", 2 * word, next=0, prev=word)
        kernel.struct("free_area", area_bytes, free_list=0)
        kernel.struct("zone", _ZONE_BYTES, free_area=free_area, vm_stat=stat, spanned_pages=0x90)
        kernel.struct("pglist_data", _NODE_BYTES, node_zones=0, nr_zones=numbers, node_start_pfn=numbers + 2 * word)
        kernel.struct("pglist_data", _NODE_BYTES, node_spanned_pages=numbers + 3 * word, node_id=numbers + 4 * word)
        if not self.sparse:
            kernel.struct("pglist_data", _NODE_BYTES, node_mem_map=numbers + word)
        kernel.lines["LENGTH(free_area.free_list)"] = str(_LISTS)
        kernel.lines["NUMBER(NR_FREE_PAGES)"] = "0"

    def blocks_held(self) -> Counter[int]:
        """How many free blocks of each order the zones count, be they on the lists or not."""
        return Counter(self.frames.free_blocks().values())

    def _chain(self, head: int, blocks: list[int]) -> tuple[int, int]:
        """Link free blocks to a list. Returns what its head must say: next and previous."""
        frames = self.frames
        at = [frames.address(pfn) + frames.layout.lru for pfn in blocks]
        ring = [head, *at, head]
        for place, pfn in enumerate(blocks, 1):
            frames.link(pfn, ring[place + 1], ring[place - 1])
        return ring[1], ring[-2]


def x86_64(
    era: Era,
    ram_bytes: int = RAM_BYTES,
    *,
    levels: int = 4,
    kaslr: int = 0,
    paddr: int = _KERNEL,
    direct_map: int | None = None,
    vmemmap: int | None = None,
    sme_mask: int = 0,
) -> Machine:
    """A PC. kaslr: how far the kernel's virtual addresses are shifted; paddr: where it lies."""
    direct_map = direct_map or {4: 0xFFFF_8880_0000_0000, 5: 0xFF11_0000_0000_0000}[levels]
    vmemmap = vmemmap or {4: 0xFFFF_EA00_0000_0000, 5: 0xFFD4_0000_0000_0000}[levels]
    kernel = DeadKernel(vaddr=0xFFFF_FFFF_8000_0000 + _KERNEL + kaslr, paddr=paddr)
    tables = X86Tables(Ram(), paddr + _TABLES - _KERNEL, paddr + _TABLES - _KERNEL + 0x1000, levels, sme_mask)
    phys_base = paddr - (kernel.vaddr - 0xFFFF_FFFF_8000_0000)
    kernel.lines["NUMBER(phys_base)"] = str(phys_base)
    kernel.lines["NUMBER(pgtable_l5_enabled)"] = str(int(levels == 5))
    kernel.lines["NUMBER(sme_mask)"] = str(sme_mask)
    kernel.lines["KERNELOFFSET"] = f"{kaslr:x}"
    kernel.symbol("init_top_pgt", tables.root - phys_base + 0xFFFF_FFFF_8000_0000)
    kernel.symbol("swapper_pg_dir", tables.root - phys_base + 0xFFFF_FFFF_8000_0000)
    frames = Frames(era, 8, "little", vmemmap)
    return Machine(EM_X86_64, era, ram_bytes, 8, 4096, kernel, tables, frames, direct_map, 27)


def i386(
    era: Era,
    ram_bytes: int = RAM_BYTES,
    *,
    pae: bool = False,
    sparse: bool = False,
    direct_map: int = 0xC000_0000,
) -> Machine:
    """A PC of old. The memory map is flat unless sparse."""
    kernel = DeadKernel(word=4, vaddr=direct_map + _KERNEL, paddr=_KERNEL)
    ram = Ram()
    tables: Tables = (PaeTables if pae else I386Tables)(ram, _TABLES, _TABLES + 0x1000)
    kernel.symbol("swapper_pg_dir", direct_map + _TABLES)
    if pae:
        kernel.lines["CONFIG_X86_PAE"] = "y"
    area = kernel.put(kernel.uint(_VMALLOC) + bytes(12))  # of vmap_area: where it starts, then the list
    kernel.struct("vmap_area", 16, va_start=0, list=8)
    kernel.symbol("vmap_area_list", kernel.put(kernel.uint(area + 8) * 2))
    frames = Frames(era, 4, "little", 0xF000_0000)
    machine = Machine(EM_386, era, ram_bytes, 4, 4096, kernel, tables, frames, direct_map, 29 if pae else 26)
    machine.sparse = sparse
    machine.extreme = False
    machine.map_shift = 12
    machine.text_segment = False
    return machine


def arm64(
    era: Era,
    ram_bytes: int = RAM_BYTES,
    *,
    page_bytes: int = 4096,
    va_bits: int = 48,
    actual: int | None = None,
    flipped: bool = True,
    ram_start: int = 0x4000_0000,
) -> Machine:
    """A server. va_bits: what the kernel is built for; actual: what the machine has, default the same."""
    actual = actual or va_bits
    shift = page_bytes.bit_length() - 1
    top = 1 << 64
    least = min(48, va_bits)
    image = (top - (1 << least - 1) + 0x800_0000) if flipped else top - (1 << va_bits) + 0x800_0000
    direct_map = top - (1 << actual) if flipped else top - (1 << actual - 1)
    vmemmap = top - (1 << 41) if least > 42 else top - (1 << 34)
    paddr = ram_start + _KERNEL
    kernel = DeadKernel(vaddr=image, paddr=paddr)
    indexed = va_bits if shift == 16 else actual
    root = ram_start + _TABLES
    lpa2 = shift != 16 and actual == 52
    tables = Arm64Tables(Ram(page_bytes), root, root + page_bytes, shift, indexed, lpa2=lpa2)
    kernel.symbol("swapper_pg_dir", root - paddr + image)
    kernel.lines["NUMBER(VA_BITS)"] = str(va_bits)
    kernel.lines["NUMBER(TCR_EL1_T1SZ)"] = f"0x{64 - actual:x}"
    kernel.lines["NUMBER(kimage_voffset)"] = f"0x{image - paddr:x}"
    kernel.lines["NUMBER(PHYS_OFFSET)"] = f"0x{ram_start:x}"
    frames = Frames(era, 8, "little", vmemmap - ram_start // page_bytes * 64)
    frames.page_bytes = page_bytes
    machine = Machine(EM_AARCH64, era, ram_bytes, 8, page_bytes, kernel, tables, frames, direct_map, 27, ram_start)
    machine.section_bits = 29 if shift == 16 else 27
    machine.map_shift = shift
    machine.text_segment = False
    return machine


def riscv64(era: Era, ram_bytes: int = RAM_BYTES, *, va_bits: int = 39) -> Machine:
    """A board."""
    top, ram_start = 1 << 64, 0x8000_0000
    image, paddr = 0xFFFF_FFFF_8000_0000, ram_start + _KERNEL
    kernel = DeadKernel(vaddr=image, paddr=paddr)
    root = ram_start + _TABLES
    tables = RiscvTables(Ram(), root, root + 0x1000, va_bits)
    kernel.symbol("swapper_pg_dir", root - paddr + image)
    kernel.lines["NUMBER(VA_BITS)"] = str(va_bits)
    kernel.lines["NUMBER(va_kernel_pa_offset)"] = f"0x{image - paddr:x}"
    frames = Frames(era, 8, "little", top - (1 << va_bits - 2) - ram_start // 4096 * 64)
    direct_map = top - (1 << va_bits - 1)
    machine = Machine(EM_RISCV, era, ram_bytes, 8, 4096, kernel, tables, frames, direct_map, 27, ram_start)
    machine.text_segment = False
    return machine
