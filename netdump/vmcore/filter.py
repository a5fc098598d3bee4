"""The page filter: which pages of memory need not be sent, told right before they are streamed.

Owns what the client asks and gets: levels, runs, counts, remarks. Must not know how pages are sent, and must not raise:
in doubt pages are kept, and a remark says why.

Memory does not grow with that of the dead machine: there is one buffer of struct pages (framewalk.py), and here one
range for each stretch of frames that was asked for, which is one for each segment of the core.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.pages import ExcludeClass
from netdump.vmcore.address_space import open_address_space
from netdump.vmcore.distrust import Distrust
from netdump.vmcore.framewalk import FrameWalk
from netdump.vmcore.freelists import check_free_lists
from netdump.vmcore.kernelpages import iter_kernel_pages
from netdump.vmcore.memmap import core_frames, open_memory_map
from netdump.vmcore.pagearray import PageArray
from netdump.vmcore.pagerules import Refusals, read_rules, unknown_compounds
from netdump.vmcore.paging import PhysicalMemory
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.structpage import Wanted
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from netdump.vmcore.zonebyte import ZoneByte

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.kernel import KernelFacts
    from netdump.vmcore.memmap import MemoryMap
    from netdump.vmcore.source import Source

LEVEL_ALL: Final = 31
"""The dump level at which all that can be left out is."""

# A byte that must be there in front lets re pass over an alternative without trying it, and runs are never given back.
_RUNS: Final = re.compile(b"|".join(re.escape(bytes((exclude,)) * 2) + b"*+" for exclude in ExcludeClass))
_CLASSES: Final = tuple(ExcludeClass)
_FEW_RUNS: Final = 48  # up to here adding them up is faster than counting all pages of a slab
_LONG_RUN: Final = 32  # mean pages of the runs of a slab
_LOOKS: Final = 256


class _Answers(dict[bytes, tuple[ExcludeClass, int]]):
    """(class, pages) of a run of classes."""

    def __missing__(self, run: bytes) -> tuple[ExcludeClass, int]:
        return _CLASSES[run[0]], len(run)


# Made once: on a large machine most runs are a few pages long, and there are millions.
_ANSWERS: Final = _Answers(
    {bytes((exclude,)) * pages: (exclude, pages) for exclude in ExcludeClass for pages in range(1, 17)}
)


def open_filter(
    source: Source, headers: ElfHeaders, facts: KernelFacts, level: int, image_map: ImageMap | None = None
) -> PageFilter:
    """Make the page filter of a core.

    level: 0 .. 31, makedumpfile's bits: 2 cache, 4 cache with private data, 8 user, 16 free. Zero pages (1) are not the
    filter's. image_map: of these headers, if there is one already. The filter reads from source when it is asked.
    Raises KernelDataError if the core does not tell what is needed: then everything has to be sent.
    """
    wanted = Wanted.of_level(level)
    if wanted.nothing:
        return PageFilter(None, Distrust(wanted, Refusals()), facts.page_bytes)
    if facts.vmcoreinfo is None:
        raise KernelDataError("the core has no VMCOREINFO, so its pages cannot be told apart")
    info = Vmcoreinfo.parse(facts.vmcoreinfo)
    physical = PhysicalMemory(source, image_map or ImageMap(headers))
    rules, refusals = read_rules(info, headers)
    space = open_address_space(physical, headers, info, facts.page_bytes)
    memory_map = open_memory_map(space, headers, info, facts.page_bytes, rules.size)
    pages = PageArray(space, memory_map, rules, facts.page_bytes)
    frames = core_frames(headers, facts.page_bytes)
    distrust = Distrust(wanted, refusals)
    for remark in (*unknown_compounds(rules, wanted), *_unmapped(memory_map, frames)):
        distrust.note(remark)
    zone_byte = ZoneByte(rules, pages.is_in_place)
    zone_byte.learn(pages, frames)
    distrust.zone_mask = zone_byte.constant
    check_free_lists(distrust, pages, info, facts.cpus, frames)
    zone_byte.trust(distrust.zones, distrust.last_user)
    distrust.check_kernel_pages(pages, iter_kernel_pages(pages, headers, facts, info))
    return PageFilter(FrameWalk(pages, distrust, zone_byte), distrust, facts.page_bytes)


def _unmapped(memory_map: MemoryMap, frames: Sequence[range]) -> list[str]:
    """What to say if much of the memory has no struct pages: it is kept."""
    step = max(1, sum(map(len, frames)) // _LOOKS)
    looks = [memory_map.locate(pfn)[0] for part in frames[:_LOOKS] for pfn in range(part.start, part.stop, step)]
    missing = looks.count(None)
    return [f"{100 * missing // len(looks)}% of memory is not in the memory map"] if missing * 4 > len(looks) else []


class PageFilter:
    """Classifies pages of memory. One pass, in any order, though only forward is fast. Not thread-safe."""

    __slots__ = ("_distrust", "_free_pages", "_page_bytes", "_ranges", "_walk", "counts")

    def __init__(self, walk: FrameWalk | None, distrust: Distrust, page_bytes: int) -> None:
        """walk: None if nothing is to be left out. See open_filter."""
        self._walk = walk
        self._distrust = distrust
        self._page_bytes = page_bytes
        self._ranges: list[tuple[int, int]] = []  # frames that were asked for, [start, end), ascending, apart
        self._free_pages = 0
        self.counts: dict[ExcludeClass, int] = dict.fromkeys(ExcludeClass, 0)

    @property
    def remark(self) -> str | None:
        """Why pages that the level asks for are not left out; None if all are. May come up at any time."""
        return self._distrust.remark

    @property
    def reasons(self) -> tuple[str, ...]:
        """The same, one by one, as they came up."""
        return tuple(self._distrust.reasons)

    def classify(self, paddr: int, pages: int) -> list[tuple[ExcludeClass, int]]:
        """Runs of (class, pages) that cover the pages from a physical address on, in order. Raises nothing.

        paddr: a multiple of the page size. counts has each frame once, however often it is asked about. A frame that
        is asked about again gets the same answer, unless its class was stopped in between: then NONE.
        """
        if self._walk is None or self._distrust.wanted.nothing:
            return [(ExcludeClass.NONE, pages)]
        pfn = paddr // self._page_bytes
        new = self._new_ranges(pfn, pfn + pages)
        try:
            runs, counts = self._believed(self._walk, pfn, pages, new)
        except Exception as error:  # whatever the garbage of a dying kernel provokes: the dump goes on, unfiltered
            self._distrust.stop_all(f"the page filter failed at frame {pfn:#x} ({type(error).__name__}: {error})")
            return [(ExcludeClass.NONE, pages)]
        for exclude, count in counts.items():
            self.counts[exclude] += count
        if new:
            self._add_range(pfn, pfn + pages)
        if len(runs) * _LONG_RUN < pages:  # looking one up hashes all its bytes
            return [(_CLASSES[run[0]], len(run)) for run in runs]
        return list(map(_ANSWERS.__getitem__, runs))

    def _believed(
        self, walk: FrameWalk, pfn: int, pages: int, new: list[tuple[int, int]]
    ) -> tuple[list[bytes], dict[ExcludeClass, int]]:
        """Runs of frames by class, with no more free ones in all than there can be; and how many of each are new."""
        while True:
            classes = walk.classes(pfn, pages)
            runs: list[bytes] = _RUNS.findall(classes)
            if new == [(pfn, pfn + pages)] and len(runs) <= _FEW_RUNS:
                counts: dict[ExcludeClass, int] = {}
                for run in runs:
                    exclude = _CLASSES[run[0]]
                    counts[exclude] = counts.get(exclude, 0) + len(run)
            else:
                counts = {
                    exclude: sum([classes.count(exclude, start - pfn, end - pfn) for start, end in new])
                    for exclude in _CLASSES
                    if exclude in classes
                }
            free = counts.get(ExcludeClass.FREE, 0) + counts.get(ExcludeClass.UNACCEPTED, 0)
            if not free or self._distrust.allow_free(self._free_pages + free):
                self._free_pages += free
                return runs, counts
            walk.restart()

    def _new_ranges(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of a range of frames that were not asked for before."""
        if not self._ranges or start >= self._ranges[-1][1]:
            return [(start, end)]
        new = []
        at = bisect_right(self._ranges, (start, start))
        for index in range(max(0, at - 1), len(self._ranges)):  # a slice would copy what may be 65,536 of them
            before, after = self._ranges[index]
            if before >= end or start >= end:
                break
            if after > start:
                if before > start:
                    new.append((start, before))
                start = after
        if start < end:
            new.append((start, end))
        return new

    def _add_range(self, start: int, end: int) -> None:
        """Remember a range of frames. Ranges that touch become one."""
        ranges = self._ranges
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
            return
        at = bisect_right(ranges, (start, end))
        first = at - 1 if at and ranges[at - 1][1] >= start else at
        while at < len(ranges) and ranges[at][0] <= end:
            at += 1
        if first < at:
            start, end = min(start, ranges[first][0]), max(end, ranges[at - 1][1])
        ranges[first:at] = [(start, end)]
