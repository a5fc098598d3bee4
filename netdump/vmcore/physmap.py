"""Where the bytes of an image lie in memory, and back: image <-> physical <-> virtual, by PT_LOAD.

Owns address arithmetic on program headers. Must not read the source, and must not walk page tables.

The program headers of real cores overlap: x86_64 cores show the kernel's text twice, at two image offsets for one
physical address. They may also overlap in the file. Everything here follows one rule: *the first one counts*. Of two
segments with the same file bytes, the one that starts first in the image; of two image offsets with the same physical
address, the lower one; of two segments with the same virtual address, the first in the table. All tables have
O(segments) entries, whatever the memory.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.vmcore.elf import PT_LOAD, ElfHeaders, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_EM_386: Final = 3


class Stretch(NamedTuple):
    """A part of the image in which file offset and physical address advance together.

    start, end: image offsets. paddr: physical address at start; None where the image shows no memory (headers, notes,
    gaps). source: image offset at which the same physical memory was shown before, None if this is the first time.
    """

    start: int
    end: int
    paddr: int | None
    source: int | None


class Place(NamedTuple):
    """Where something is, and for how many bytes on. start None: the core has it, but as zeros without file bytes."""

    start: int | None
    length: int


class FirstRanges:
    """Disjoint ranges of keys, each leading to a range of targets of the same length; what was laid first counts.

    Immutable; built in O(n log n), however the n ranges overlap: a damaged core may have 65,536 of any shape.
    """

    __slots__ = ("_ends", "_starts", "_targets")

    def __init__(self, laid: Iterable[tuple[int, int, int]]) -> None:
        """laid: (start, end, target): keys start..end lead to target and on, unless a range before it has them."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._targets: list[int] = []
        wanted = [one for one in laid if one[0] < one[1]]
        by_start = sorted(range(len(wanted)), key=lambda number: wanted[number][0])
        bounds = sorted({bound for start, end, _ in wanted for bound in (start, end)})
        begun: list[int] = []  # heap of the ranges that have begun; those that have ended go when they come to its top
        owner = next_begin = 0
        for bound, next_bound in pairwise(bounds):
            while next_begin < len(by_start) and wanted[by_start[next_begin]][0] == bound:
                heappush(begun, by_start[next_begin])
                next_begin += 1
            while begun and wanted[begun[0]][1] <= bound:
                heappop(begun)
            if not begun:
                continue
            if self._ends and self._ends[-1] == bound and owner == begun[0]:
                self._ends[-1] = next_bound
                continue
            owner = begun[0]
            self._starts.append(bound)
            self._ends.append(next_bound)
            self._targets.append(wanted[owner][2] + bound - wanted[owner][0])

    def find(self, key: int) -> tuple[int, int] | None:
        """Target of key and for how many keys on it holds, None if no range has it."""
        at = bisect_right(self._ends, key)
        if at == len(self._starts) or self._starts[at] > key:
            return None
        return self._targets[at] + key - self._starts[at], self._ends[at] - key

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """(start, end, target) of each range, ascending. Neighbours may touch."""
        return zip(self._starts, self._ends, self._targets, strict=True)

    def start_of(self, key: int) -> int:
        """Where the range begins that has key, as one must."""
        return self._starts[bisect_right(self._ends, key)]

    def long(self, least: int) -> FirstRanges:
        """Those of least keys or more."""
        return FirstRanges(one for one in self.ranges() if one[1] - one[0] >= least)

    def gap(self, key: int) -> int | None:
        """How many keys from key on (which no range has) until the next range; None if there is no further one."""
        at = bisect_right(self._ends, key)
        return self._starts[at] - key if at < len(self._starts) else None


class ImageMap:
    """The memory that the PT_LOAD segments of a core show. Immutable; built in O(n log n) of n segments."""

    __slots__ = ("_claimed", "_ends", "_first", "_paddrs", "_starts", "_twice", "_virtual", "image_bytes")

    def __init__(self, headers: ElfHeaders) -> None:
        self.image_bytes = headers.image_bytes
        self._starts: list[int] = []  # regions: disjoint parts of the image that show memory, in image order
        self._ends: list[int] = []
        self._paddrs: list[int] = []
        loads = [segment for segment in headers.segments if segment.type == PT_LOAD and segment.paddr != headers.none]
        in_image_order = sorted(loads, key=_by_offset)
        for segment in in_image_order:
            self._add_region(segment)
        self._first = FirstRanges(  # physical address -> first image offset
            (segment.paddr, segment.paddr + segment.filesz, segment.offset) for segment in in_image_order
        )
        self._claimed = FirstRanges(  # physical address in a segment, with file bytes or without -> itself
            (segment.paddr, segment.paddr + segment.memsz, segment.paddr) for segment in loads
        )
        self._twice = FirstRanges(_overlaps(loads))  # physical address that more than one segment has -> itself
        self._virtual = FirstRanges(  # virtual address -> physical address
            (segment.vaddr, segment.vaddr + segment.memsz, segment.paddr)
            for segment in loads
            if _says_vaddr(segment, headers)
        )

    def _add_region(self, segment: Segment) -> None:
        """Add as a region the file bytes of a segment that no segment before it has."""
        start = max(segment.offset, self._ends[-1] if self._ends else 0)
        end = segment.offset + segment.filesz
        if start < end:
            self._starts.append(start)
            self._ends.append(end)
            self._paddrs.append(segment.paddr + start - segment.offset)

    def paddr_at(self, offset: int) -> int | None:
        """Physical address of the byte at an image offset, None where the image shows no memory."""
        at = bisect_right(self._ends, offset)
        if at == len(self._starts) or self._starts[at] > offset:
            return None
        return self._paddrs[at] + offset - self._starts[at]

    def image_offset(self, paddr: int) -> int | None:
        """First image offset at which a physical address stands; None if its bytes are not in the file."""
        found = self._first.find(paddr)
        return None if found is None else found[0]

    def place(self, paddr: int) -> Place | None:
        """Where the bytes at a physical address stand in the image. None: the core does not have them.

        Memory beyond p_filesz of its segment has no image offset and reads as zeros (a page filter left it out).
        """
        found = self._first.find(paddr)
        if found is not None:
            return Place(*found)
        claimed = self._claimed.find(paddr)
        if claimed is None:
            return None
        gap = self._first.gap(paddr)
        return Place(None, claimed[1] if gap is None else min(claimed[1], gap))

    def memory(self) -> Iterator[tuple[int, int, int]]:
        """(start, end, image offset) of the physical memory whose bytes are in the file: ascending, without overlaps.

        image offset: the first one at which it stands.
        """
        return self._first.ranges()

    def claimed(self) -> Iterator[tuple[int, int]]:
        """(start, end) of the physical memory that the headers name, with bytes in the file or without, as memory()."""
        return ((start, end) for start, end, _ in self._claimed.ranges())

    def is_shown_twice(self, start: int, end: int) -> bool:
        """Whether more than one segment shows memory between two physical addresses."""
        gap = self._twice.gap(start)
        return self._twice.find(start) is not None or (gap is not None and start + gap < end)

    def translate(self, vaddr: int) -> tuple[int, int] | None:
        """Physical address of a virtual one and for how many bytes on it holds, by PT_LOAD. None: no segment has it."""
        return self._virtual.find(vaddr)

    def stretches(self, start: int, page_bytes: int) -> Iterator[Stretch]:
        """The image from offset start to its end, cut into stretches without gaps, in order.

        The boundaries between memory that stood before and memory that did not are moved to page boundaries, so that
        a page is never half an alias. page_bytes: a power of two.
        """
        position = start
        long = self._first.long(page_bytes)
        for at in range(bisect_right(self._ends, start), len(self._starts)):
            region_start = self._starts[at]
            if position < region_start:
                yield Stretch(position, region_start, None, None)
                position = region_start
            end, shift = self._ends[at], self._paddrs[at] - region_start
            yield from self._memory_stretches(position, end, shift, page_bytes, long)
            position = end
        if position < self.image_bytes:
            yield Stretch(position, self.image_bytes, None, None)

    def _shows(self, start: int, end: int, paddr: int) -> bool:
        """Whether the image from start to end shows the memory at paddr and nothing else.

        It may not where segments overlap in the file: another segment that starts before decides what is sent there.
        """
        at = bisect_right(self._ends, start)
        return end <= self._ends[at] and self.paddr_at(start) == paddr

    def _memory_stretches(
        self, start: int, end: int, shift: int, page_bytes: int, long: FirstRanges
    ) -> Iterator[Stretch]:
        """Stretches of one region. shift: what turns an image offset of it into a physical address.

        long: the first ranges that can hold a page. Others are passed over, for a core may have 65,536 in each of as
        many regions; but for the first and the last one, which need no whole page.
        """
        fresh = position = start  # fresh: where the part begins that did not stand before
        last = self._first.start_of(end - 1 + shift) - shift
        while position < end:
            found = self._first.find(position + shift)
            assert found is not None, "every segment was laid"
            source, part_end = found[0], min(end, position + found[1])
            if source != position and self._shows(source, source + part_end - position, position + shift):
                alias = position if position == start else _page_up(position + shift, page_bytes) - shift
                stop = part_end if part_end == end else (part_end + shift) // page_bytes * page_bytes - shift
                if alias < stop:
                    if fresh < alias:
                        yield Stretch(fresh, alias, fresh + shift, None)
                    yield Stretch(alias, stop, alias + shift, source + alias - position)
                    fresh = stop
            position = part_end
            gap = 0 if long.find(position + shift) else long.gap(position + shift)
            position = max(position, last if gap is None else min(last, position + gap))
        if fresh < end:
            yield Stretch(fresh, end, fresh + shift, None)


def _says_vaddr(segment: Segment, headers: ElfHeaders) -> bool:
    """Whether p_vaddr is a virtual address. QEMU and libvirt know none, and write 0 or the physical one.

    Of i386 that would name the kernel's own addresses as soon as there are 3 GiB, for other memory than theirs. Kernels
    of ARM may be mapped where their memory lies: from 2 GiB on, or 3.
    """
    unknown = {headers.none, *((0, segment.paddr) if headers.machine == _EM_386 else ())}
    return segment.vaddr not in unknown


def _by_offset(segment: Segment) -> int:
    return segment.offset


def _overlaps(loads: list[Segment]) -> Iterator[tuple[int, int, int]]:
    """(start, end, start) of the physical memory that segments have in common; what this yields may overlap."""
    shown = 0
    for start, end in sorted((segment.paddr, segment.paddr + segment.filesz) for segment in loads):
        yield start, min(end, shown), start
        shown = max(shown, end)


def _page_up(address: int, page_bytes: int) -> int:
    return (address + page_bytes - 1) // page_bytes * page_bytes
