"""What the page filter holds against itself: checks before the first page is left out, and all along.

Owns which classes are still believed, and why others are not. Must not classify. Nearly every new kernel has broken a
page filter somewhere (docs: kdump-world b.1); a filter that finds its own results implausible must keep the pages and
say so. Nothing here needs a second pass or grows with memory.

At the start: free lists must hold what is classified as free, and the kernel's own memory (text, data, page tables,
stacks, the memory map) must be classified as kept.
All along: no more free pages than the zones count; blocks that hold what they must; pointers where pointers must be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.pages import ExcludeClass
from netdump.vmcore.structpage import Verdict
from netdump.vmcore.zones import read_zones

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.pageclasses import Tally
    from netdump.vmcore.pagerules import Refusals
    from netdump.vmcore.structpage import Wanted
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo
    from netdump.vmcore.zones import FreeBlock, Zones

# Free pages beyond what the zones count. Blocks that are being taken out of use (memory going offline, contiguous
# allocation) are on free lists but not counted; each processor keeps back up to 125 for each zone, signed.
_SLACK_PART: Final = 16  # a sixteenth
_SLACK_PAGES: Final = 4096
_SLACK_CPU: Final = 125

_DOUBTS_MIN: Final = 16  # a crash may have caught some blocks half way
_DOUBTS_PART: Final = 64  # of what was classified
_WITNESSES_MIN: Final = 8
_WITNESSES_PART: Final = 4

_GROUPS: Final = {
    ExcludeClass.CACHE: "cache",
    ExcludeClass.CACHE_PRIVATE: "cache",
    ExcludeClass.USER: "user",
    ExcludeClass.FREE: "free",
    ExcludeClass.UNACCEPTED: "free",
    ExcludeClass.HWPOISON: "poison",
    ExcludeClass.OFFLINE: "offline",
}
_NAMES: Final = {
    "cache": "cache pages",
    "user": "user pages",
    "free": "free pages",
    "poison": "poisoned pages",
    "offline": "offline pages",
}


class Distrust:
    """Which classes are believed. wanted shrinks, and never grows again."""

    __slots__ = ("_bad", "_doubts", "_free_limit", "_headless", "_heads", "_seen", "reasons", "wanted")

    def __init__(self, wanted: Wanted, refusals: Refusals) -> None:
        self.wanted = refusals.apply(wanted)
        self.reasons: list[str] = list(refusals.of(wanted))
        self._free_limit = 0
        self._heads = self._headless = 0
        self._doubts = dict.fromkeys(_NAMES, 0)
        self._seen = dict.fromkeys(_NAMES, 0)
        self._bad = dict.fromkeys(_NAMES, 0)

    @property
    def remark(self) -> str | None:
        """Why some pages are not left out though the level asks for it."""
        return "; ".join(self.reasons) or None

    def stop(self, group: str, reason: str) -> None:
        """Keep all pages of a group from now on."""
        if group == "cache":
            stopped = self.wanted._replace(cache=False, cache_private=False)
        else:
            stopped = self.wanted._replace(**{group: False})
        if stopped != self.wanted:
            self.wanted = stopped
            self.reasons.append(f"{_NAMES[group]} are sent too: {reason}")

    def stop_all(self, reason: str) -> None:
        """Keep everything from now on."""
        if not self.wanted.nothing:
            self.wanted = type(self.wanted)(*(False for _ in self.wanted))
            self.reasons.append(f"everything is sent: {reason}")

    def check_free_lists(self, pages: PageArray, info: Vmcoreinfo, cpus: int) -> None:
        """Compare free lists with what is classified as free. cpus: of the dead kernel.

        Free blocks are the only pages known without struct pages, so they speak for the memory map and for page types,
        whether free pages are wanted or not.
        """
        try:
            zones = read_zones(pages.space, info, pages.rules.word)
        except KernelDataError as error:
            self._stop_types(pages, f"the zones cannot be read ({error})")
            return
        slack = zones.free_pages // _SLACK_PART + _SLACK_PAGES + cpus * zones.number * _SLACK_CPU
        self._free_limit = zones.free_pages + slack
        blocks = len(zones.blocks)
        placed = sum(_is_placed(pages, block) for block in zones.blocks)
        if _too_few(placed, blocks):
            self.stop_all(f"of {blocks} free blocks only {placed} lie where the memory map says")
            return
        if not _flags_agree(pages, zones):
            self.stop_all("free pages of one zone have flags of several")
            return
        right = sum(_is_block(pages, block, self.wanted._replace(free=True)) for block in zones.blocks)
        if _too_few(right, blocks) or (not blocks and zones.free_pages > _SLACK_PAGES):
            self._stop_types(pages, f"of {blocks} blocks of the free lists only {right} look free")

    def _stop_types(self, pages: PageArray, reason: str) -> None:
        """Stop what rests on page types."""
        self.stop("free", reason)
        self.stop("offline", reason)
        if pages.rules.types.slab is not None or pages.rules.types.hugetlb is not None:
            self.stop("user", reason)

    def check_kernel_pages(self, pages: PageArray, addresses: Iterable[tuple[str, int]]) -> None:
        """Make sure that memory which is the kernel's own is kept. addresses: (what it is, physical address)."""
        for what, paddr in addresses:
            group = _GROUPS.get(pages.judge(paddr // pages.page_bytes, self.wanted).exclude)
            if group is not None:
                self.stop(group, f"{what} would be among them")

    def watch(self, tally: Tally, pages: PageArray, data: bytearray) -> bool:
        """Look at what one slab yielded, before it is answered. Returns whether all of it is believed."""
        before = self.wanted
        self._heads += tally.heads
        self._headless += tally.headless
        if self._headless > _DOUBTS_MIN and self._headless * 8 > self._heads:
            for group in ("cache", "user"):
                self.stop(group, "the rest of compound pages cannot be told from single pages")
        for exclude in tally.doubts:
            self._doubts[_GROUPS[exclude]] += 1
        for exclude, group in _GROUPS.items():
            at = tally.classes.find(exclude)
            if at >= 0:
                self._witness(group, pages, data, at)
        return self.wanted == before

    def _witness(self, group: str, pages: PageArray, data: bytearray, page: int) -> None:
        """Look closely at one page of a slab for each group that it has."""
        self._seen[group] += 1
        if not _plausible(group, pages, data, page * pages.rules.size):
            self._bad[group] += 1
        bad, doubts, seen = self._bad[group], self._doubts[group], self._seen[group]
        if bad > _WITNESSES_MIN and bad * _WITNESSES_PART > seen:
            self.stop(group, "what their struct pages say makes no sense")
        if doubts > _DOUBTS_MIN and doubts > seen * _DOUBTS_PART:
            self.stop(group, f"{doubts} blocks of them make no sense")

    def allow_free(self, pages: int) -> bool:
        """Whether so many free pages in all can be. Stops the class if not."""
        if pages <= self._free_limit:
            return True
        self.stop("free", f"there are more than the zones count ({pages} of at most {self._free_limit})")
        return False


def _too_few(right: int, count: int) -> bool:
    """A crash may catch some blocks half way: nine of ten must be right."""
    return right * 10 < count * 9


def _is_placed(pages: PageArray, block: FreeBlock) -> bool:
    """Whether a block of a free list begins with the struct page of a frame, one that such a block may begin with."""
    pfn = pages.memory_map.frame(block.vaddr)
    return pfn is not None and not pfn & (1 << block.order) - 1


def _flags_agree(pages: PageArray, zones: Zones) -> bool:
    """Whether the free pages of a zone agree on what the upper half of the flags says: node and zone.

    Only with vmemmap does the upper half say no more than that; what else stands there is cleared in free pages.
    """
    if pages.rules.word < 8 or not pages.memory_map.uniform:
        return True
    seen: dict[int, list[int]] = {}
    for block in zones.blocks:
        data = bytearray(pages.rules.size)
        if not pages.space.fill(block.vaddr, memoryview(data)):
            seen.setdefault(block.zone, []).append(pages.rules.uint(data, pages.rules.flags, 8) >> 32)
    agreeing = sum(max(map(flags.count, flags)) for flags in seen.values())
    return not _too_few(agreeing, sum(map(len, seen.values())))


def _is_block(pages: PageArray, block: FreeBlock, wanted: Wanted) -> bool:
    """Whether a block of a free list is classified as what it is."""
    data = bytearray(pages.rules.size)
    if pages.space.fill(block.vaddr, memoryview(data)):
        return False
    return pages.rules.judge(data, 0, 0, wanted) == Verdict(ExcludeClass.FREE, block.order)


def _plausible(group: str, pages: PageArray, data: bytearray, at: int) -> bool:
    """Whether a struct page can be one of its group: free pages are not held, others are; pointers point."""
    rules = pages.rules
    held = rules.refcount is None or rules.uint(data, at + rules.refcount, 4) != 0
    if group == "free":
        return rules.refcount is None or not held
    if group not in {"cache", "user"} or rules.mapping is None:
        return True
    pointer = rules.uint(data, at + rules.mapping, rules.word)
    if group == "user" and not pointer & 1:
        return True  # a hugetlb page; those of the pool are not held
    pointer &= ~3
    return held and (pages.space.has(pointer) or (group == "cache" and pointer == 0))
