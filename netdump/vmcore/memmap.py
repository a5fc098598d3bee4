"""Where the struct page of a page frame is: SPARSEMEM (vmemmap, EXTREME or not), discontiguous and flat memory.

Owns the way from a page frame number to the virtual address of its struct page. Must not know what is in one. Source:
Linux include/linux/mmzone.h, mm/sparse.c.

The trap of mem_section: since v4.15 (commit 83e3c48729d9 ("mm/sparsemem: Allocate mem_section at runtime for
CONFIG_SPARSEMEM_EXTREME=y")) the symbol is a pointer to the table. VMCOREINFO gives the table's address, but not in
every stable kernel. So each reading is tried, and one counts only if what it yields is mapped.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from netdump.errors import KernelDataError, LostMemoryError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.address_space import EM_386, EM_AARCH64

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.paging import AddressSpace
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

_PRESENT: Final = 1  # SECTION_MARKED_PRESENT
_ENCODED: Final = -0x1000  # mem_map is page aligned, flags are below: 2 bits in v4.0, 6 in v6.15
_TRIED_MAX: Final = 256  # sections looked at before a table is believed
_LOOKS_MAX: Final = 4096  # sections looked at in vain or not
_ALIKE_MIN: Final = 3
_NUMBERED_LOOKS: Final = 8  # sections that are asked for their numbers, two struct pages of each
_ENTRIES_KEPT: Final = 64
_NODES_MAX: Final = 4096


class MemoryMap(Protocol):
    """Page frame number <-> struct page. Raises nothing.

    uniform: whether a frame is found from the address of its struct page alone; else its flags name its section.
    """

    @property
    def uniform(self) -> bool: ...  # noqa: D102 - see the class

    def locate(self, pfn: int) -> tuple[int | None, int]:
        """Virtual address of a struct page, None if there is none, and for how many frames on that holds."""

    def frame(self, vaddr: int) -> int | None:
        """The page frame whose struct page is at a virtual address, None if it is none or not known to be one."""


def open_memory_map(
    space: AddressSpace, headers: ElfHeaders, info: Vmcoreinfo, page_bytes: int, page_struct_bytes: int
) -> MemoryMap:
    """Find the map. page_struct_bytes: SIZE(page). Raises KernelDataError if there is none that makes sense."""
    frames = core_frames(headers, page_bytes)
    if info.symbol("mem_section") is not None:
        return _open_sparse(space, headers, info, _Shape(page_bytes, page_struct_bytes, frames))
    spans = _node_spans(space, info, headers.word_bytes)
    pointer = info.symbol("mem_map")
    if not spans and pointer is not None:
        spans = [_Span(0, max(frame.stop for frame in frames), space.read_uint(pointer, headers.word_bytes))]
    _check_spans(space, spans, page_struct_bytes)
    return _SpanMap(spans, page_struct_bytes)


class _Shape(NamedTuple):
    """Sizes that every reading of mem_section shares. frames: of the memory in the core."""

    page_bytes: int
    page_struct_bytes: int
    frames: Sequence[range]


def core_frames(headers: ElfHeaders, page_bytes: int) -> list[range]:
    """Page frames of the memory that the headers name, by segment. Raises KernelDataError if there are none."""
    frames = [
        range(segment.paddr // page_bytes, -(-(segment.paddr + segment.memsz) // page_bytes))
        for segment in headers.segments
        if segment.type == 1 and segment.memsz and segment.paddr != headers.none
    ]
    if not frames:
        raise KernelDataError("the core shows no memory")
    return frames


class _Span(NamedTuple):
    """Frames start..end, whose struct pages stand one after the other from mem_map on."""

    start: int
    end: int
    mem_map: int


class _SpanMap:
    """One span (flat) or one for each node (discontiguous)."""

    __slots__ = ("_page_struct_bytes", "_spans")

    def __init__(self, spans: list[_Span], page_struct_bytes: int) -> None:
        self._spans = sorted(spans)
        self._page_struct_bytes = page_struct_bytes

    @property
    def uniform(self) -> bool:
        """See MemoryMap."""
        return True

    def locate(self, pfn: int) -> tuple[int | None, int]:
        """See MemoryMap."""
        for span in self._spans:
            if pfn < span.start:
                return None, span.start - pfn
            if pfn < span.end:
                return span.mem_map + (pfn - span.start) * self._page_struct_bytes, span.end - pfn
        return None, 1 << 40

    def frame(self, vaddr: int) -> int | None:
        """See MemoryMap."""
        for span in self._spans:
            index, rest = divmod(vaddr - span.mem_map, self._page_struct_bytes)
            if rest == 0 and 0 <= index < span.end - span.start:
                return span.start + index
        return None


def _node_spans(space: AddressSpace, info: Vmcoreinfo, word: int) -> list[_Span]:
    """The memory map of each node, from its pglist_data; none where kernels keep none there."""
    map_at, start_at = info.offset("pglist_data.node_mem_map"), info.offset("pglist_data.node_start_pfn")
    pages_at = info.offset("pglist_data.node_spanned_pages")
    if map_at is None or start_at is None or pages_at is None:
        return []
    spans = []
    for node in iter_nodes(space, info, word):
        start, pages = space.read_uint(node + start_at, word), space.read_uint(node + pages_at, word)
        if pages:
            spans.append(_Span(start, start + pages, space.read_uint(node + map_at, word)))
    return spans


def iter_nodes(space: AddressSpace, info: Vmcoreinfo, word: int) -> Iterator[int]:
    """Virtual address of the pglist_data of each online node. Raises LostMemoryError."""
    table, count = info.symbol("node_data"), info.length("node_data")
    if table is None:
        single = info.symbol("contig_page_data")
        if single is not None:
            yield single
        return
    online, mask_bytes = info.symbol("node_online_map"), info.size("nodemask_t")
    count = min(count or 1, _NODES_MAX)
    mask = 1
    if online is not None and mask_bytes is not None:
        mask = space.read_uint(online, min(mask_bytes, _NODES_MAX // 8))
    for node in range(count):
        if mask >> node & 1:
            yield space.read_uint(table + node * word, word)


def _check_spans(space: AddressSpace, spans: list[_Span], page_struct_bytes: int) -> None:
    """Refuse spans whose struct pages are not mapped, first and last of each. Raises KernelDataError."""
    if not spans:
        raise KernelDataError("VMCOREINFO does not say where the memory map is")
    for span in spans:
        for pfn in (span.start, span.end - 1):
            vaddr = span.mem_map + (pfn - span.start) * page_struct_bytes
            if space.translate(vaddr) is None:
                raise KernelDataError(f"the struct page of frame {pfn:#x} is not mapped")


class _Layout(NamedTuple):
    """One way to read mem_section. table: of roots, or of entries if roots is 0. roots: entries of a root."""

    table: int
    roots: int
    section_bits: int


class _SectionFormat(NamedTuple):
    """The struct mem_section. size, map_at: bytes; word: of a pointer."""

    size: int
    map_at: int
    word: int


def _open_sparse(space: AddressSpace, headers: ElfHeaders, info: Vmcoreinfo, shape: _Shape) -> MemoryMap:
    """The first reading of mem_section that holds."""
    word = headers.word_bytes
    section = _SectionFormat(info.need("SIZE", "mem_section"), info.need("OFFSET", "mem_section.section_mem_map"), word)
    if not word <= section.size <= shape.page_bytes or section.map_at + word > section.size:
        raise KernelDataError(f"a struct mem_section of {section.size} bytes makes no sense")
    for layout in _layouts(space, headers, info, shape, section):
        candidate = _SectionMap(space, layout, section, shape)
        if candidate.holds():
            return candidate
    raise KernelDataError("mem_section makes no sense: no section of it has struct pages that are mapped")


def _layouts(
    space: AddressSpace, headers: ElfHeaders, info: Vmcoreinfo, shape: _Shape, section: _SectionFormat
) -> Iterator[_Layout]:
    """Ways to read mem_section, likeliest first."""
    symbol = info.need("SYMBOL", "mem_section")
    per_root = shape.page_bytes // section.size
    length = info.length("mem_section")
    for bits in _section_bits(headers, info, shape.page_bytes):
        physmem_bits = info.number("MAX_PHYSMEM_BITS")
        known = length is not None and physmem_bits is not None and bits <= physmem_bits <= 64
        static = known and length == 1 << (physmem_bits or 0) - bits
        if static and per_root > 1:
            yield _Layout(symbol, 0, bits)
            continue
        yield _Layout(symbol, per_root, bits)
        with suppress(LostMemoryError):  # not a pointer then
            yield _Layout(space.read_uint(symbol, section.word), per_root, bits)
        yield _Layout(symbol, 0, bits)


def _section_bits(headers: ElfHeaders, info: Vmcoreinfo, page_bytes: int) -> tuple[int, ...]:
    """SECTION_SIZE_BITS: as the kernel says (v5.13), else what this architecture has had."""
    said = info.number("SECTION_SIZE_BITS")
    if said is not None:
        if not page_bytes.bit_length() - 1 < said <= 40:
            raise KernelDataError(f"sections of 2^{said} bytes make no sense")
        return (said,)
    if headers.machine == EM_386:
        return (29, 30) if info.value("CONFIG_X86_PAE") == "y" else (26,)
    if headers.machine == EM_AARCH64:
        return (30, 29 if page_bytes == 65536 else 27)
    return (27,)


class _SectionMap:
    """SPARSEMEM. A section's entry is read when it is asked for; a few are kept."""

    __slots__ = ("_encoded", "_entries", "_layout", "_numbered", "_only", "_pages", "_section", "_shape", "_space")

    def __init__(self, space: AddressSpace, layout: _Layout, section: _SectionFormat, shape: _Shape) -> None:
        self._space = space
        self._layout = layout
        self._section = section
        self._shape = shape
        self._pages = (1 << layout.section_bits) // shape.page_bytes
        self._entries: dict[int, int | None] = {}  # section -> encoded map, oldest first
        self._encoded: dict[int, int] = {}  # section -> encoded map of those that were tried
        self._only: int | None = None  # what all sections must say, once it is clear that they are alike (vmemmap)
        self._numbered = False  # whether struct pages name their section: then there is no vmemmap

    def holds(self) -> bool:
        """Whether this reading makes sense: some sections have a map, and nearly all that have are mapped."""
        tried = mapped = 0
        pfns = (
            pfn
            for frames in self._shape.frames
            for pfn in range(frames.start, frames.stop, max(self._pages, len(frames) // _TRIED_MAX))
        )
        for pfn in islice(pfns, _LOOKS_MAX):
            number = pfn // self._pages
            encoded = self._entry(number)
            if encoded is None or number in self._encoded:
                continue
            tried += 1
            if self._space.translate(encoded + pfn * self._shape.page_struct_bytes) is not None:
                self._encoded[number] = encoded
                mapped += 1
            if tried >= _TRIED_MAX:
                break
        self._settle()
        return mapped > 0 and mapped * 8 >= tried * 7

    def _settle(self) -> None:
        """With vmemmap, as most 64-bit kernels have it, all sections are encoded alike: one that is not is damaged.

        Without it many are too, whose struct pages were allocated together.
        """
        self._numbered = self._section.word == 8 and self._are_numbered()
        if self._numbered:
            return
        values = list(self._encoded.values())
        common = max(values, key=values.count, default=0)
        if self._section.word == 8 and len(values) >= _ALIKE_MIN and values.count(common) * 4 >= len(values) * 3:
            self._only = common
            self._encoded = {number: encoded for number, encoded in self._encoded.items() if encoded == common}
            self._entries.clear()

    def _are_numbered(self) -> bool:
        """Whether struct pages have the number of their section in the highest bits of their flags.

        Of these VMCOREINFO tells no number. Source: Linux include/linux/page-flags-layout.h. The number of the node
        stands there with vmemmap: where both are the same (numa=fake= with nodes as large as a section) this is wrongly
        true, so that damaged entries of sections stay, and free pages are not compared by their flags (uniform).
        """
        numbers, looks = list(self._encoded), 0
        fitting = dict.fromkeys(range(32, 64), 0)  # how far the number is shifted -> struct pages that say so
        for number in numbers[:: -(-len(numbers) // _NUMBERED_LOOKS)] if len(numbers) > 1 else ():
            for third in (1, 2):
                place = (number * self._pages + self._pages * third // 3) * self._shape.page_struct_bytes
                with suppress(LostMemoryError):  # a hole
                    flags = self._space.read_uint(self._encoded[number] + place, 8)  # they come first in all kernels
                    looks += 1
                    for shift in fitting:
                        fitting[shift] += flags >> shift == number
        return looks > 2 and max(fitting.values()) * 8 >= looks * 7

    @property
    def uniform(self) -> bool:
        """See MemoryMap. With vmemmap all sections are encoded alike."""
        return not self._numbered and len(set(self._encoded.values())) == 1

    def locate(self, pfn: int) -> tuple[int | None, int]:
        """See MemoryMap."""
        number, index = divmod(pfn, self._pages)
        encoded = self._entry(number)
        left = self._pages - index
        if encoded is None:
            return None, left
        return encoded + pfn * self._shape.page_struct_bytes, left

    def frame(self, vaddr: int) -> int | None:
        """See MemoryMap. Without vmemmap only sections that were tried are known."""
        for encoded in dict.fromkeys(self._encoded.values()):
            pfn, rest = divmod(vaddr - encoded, self._shape.page_struct_bytes)
            if rest == 0 and pfn >= 0 and self._entry(pfn // self._pages) == encoded:
                return pfn
        return None

    def _entry(self, number: int) -> int | None:
        """section_mem_map of a section without its flags: where struct page 0 would be. None: no map."""
        if number not in self._entries:
            if len(self._entries) >= _ENTRIES_KEPT:
                del self._entries[next(iter(self._entries))]
            self._entries[number] = self._read_entry(number)
        return self._entries[number]

    def _read_entry(self, number: int) -> int | None:
        layout, section = self._layout, self._section
        try:
            at = layout.table + number * section.size
            if layout.roots:
                root, index = divmod(number, layout.roots)
                at = self._space.read_uint(layout.table + root * section.word, section.word)
                if at == 0:
                    return None
                at += index * section.size
            value = self._space.read_uint(at + section.map_at, section.word)
        except LostMemoryError:
            return None
        if not value & _PRESENT:
            return None
        encoded = value & _ENCODED
        offset = number * self._pages * self._shape.page_struct_bytes
        if encoded + offset >= 1 << 8 * section.word:  # the sum comes round at the top of addresses
            encoded -= 1 << 8 * section.word
        if self._only not in {None, encoded} or not self._space.has(encoded + offset):
            return None
        return encoded
