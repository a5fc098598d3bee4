"""Free lists as evidence: what the page allocator holds free must lie where the memory map says and look free.

Owns this comparison. Must not classify more than single pages. Free blocks are the only pages that are known without
struct pages, so they speak for the memory map and for page types, whether free pages are wanted or not.
"""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.pages import ExcludeClass
from netdump.vmcore.memmap import iter_nodes
from netdump.vmcore.nodesearch import find_nodes
from netdump.vmcore.structpage import Verdict
from netdump.vmcore.zones import read_layout, read_zones

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netdump.vmcore.distrust import Distrust
    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.structpage import Wanted
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo
    from netdump.vmcore.zones import FreeBlock, Zones

# Free pages beyond what the zones count. Blocks that are being taken out of use (memory going offline, contiguous
# allocation) are on free lists but not counted; each processor keeps back up to 125 for each zone, signed.
_SLACK_PART: Final = 16  # a sixteenth
_SLACK_PAGES: Final = 4096
_SLACK_CPU: Final = 125

_PROCESS_BITS: Final = 8  # LAST__PID_SHIFT
_UPPER: Final = 0xFFFF_FFFF  # all bits of the upper half of the flags
_NO_TYPE: Final = (1 << 32) - 1  # _mapcount of a page that is neither mapped nor of any type


def check_free_lists(
    distrust: Distrust, pages: PageArray, info: Vmcoreinfo, cpus: int, frames: Sequence[range]
) -> None:
    """Compare free lists with what is classified as free, and stop what they contradict.

    cpus: of the dead kernel. frames: of the memory in the core.
    """
    try:
        layout = read_layout(info, pages.rules.word)
        nodes = list(iter_nodes(pages.space, info, pages.rules.word)) or find_nodes(pages, info, layout, frames)
        zones = read_zones(pages.space, layout, nodes)
    except KernelDataError as error:
        distrust.stop_all(f"the zones cannot be read, so nothing confirms the memory map ({error})")
        return
    slack = zones.free_pages // _SLACK_PART + _SLACK_PAGES + cpus * zones.number * _SLACK_CPU
    distrust.free_limit = zones.free_pages + slack
    blocks = len(zones.blocks)
    placed = sum(_is_placed(pages, block) for block in zones.blocks)
    if _too_few(placed, blocks):
        distrust.stop_all(f"of {blocks} free blocks only {placed} lie where the memory map says")
        return
    agreed = _agreed_flags(pages, zones, distrust.zone_mask)
    if agreed is None:
        distrust.stop_all("free pages of one zone have flags of several")
        return
    distrust.zones = frozenset(agreed)
    distrust.zone_mask &= ~_last_user(agreed)
    distrust.last_user = _last_user(agreed) if len(nodes) > 1 else 0
    others = sum(_is_other(pages, block) for block in zones.blocks)
    if _too_few(blocks - others, blocks):
        distrust.stop_all(f"of {blocks} free blocks {others} are not free by the memory map")
        return
    if zones.more_orders:
        distrust.note(
            f"free blocks of more than {1 << layout.areas - 1} pages are sent: "
            "there are larger ones than VMCOREINFO says (LENGTH(zone.free_area))"
        )
    elif pages.rules.types.unaccepted is None and 2 * zones.listed_pages + slack < zones.free_pages:
        distrust.note(
            f"of {zones.free_pages} free pages only {zones.listed_pages} are in blocks of a size that is known"
        )
    right = sum(_is_block(pages, block, distrust.wanted._replace(free=True)) for block in zones.blocks)
    if _too_few(right, blocks) or (not blocks and zones.free_pages > _SLACK_PAGES):
        _stop_types(distrust, pages, f"of {blocks} blocks of the free lists only {right} look free")


def _stop_types(distrust: Distrust, pages: PageArray, reason: str) -> None:
    """Stop what rests on page types."""
    distrust.stop("free", reason)
    distrust.stop("offline", reason)
    if pages.rules.types.slab is not None or pages.rules.types.hugetlb is not None:
        distrust.stop("user", reason)


def _too_few(right: int, count: int) -> bool:
    """A crash may catch some blocks half way: nine of ten must be right."""
    return right * 10 < count * 9


def _is_placed(pages: PageArray, block: FreeBlock) -> bool:
    """Whether a block of a free list begins with the struct page of a frame, one that such a block may begin with."""
    pfn = pages.memory_map.frame(block.vaddr)
    return pfn is not None and not pfn & (1 << block.order) - 1


def _agreed_flags(pages: PageArray, zones: Zones, mask: int) -> set[int] | None:
    """What the upper half of the flags says in free pages: the same within a zone. None: it is not the same.

    That is node and zone. Without vmemmap the number of the section is there, too, and the set is empty. mask: the bits
    to be compared, 0 where they are not known: all. Most of what else stands there is cleared in free pages, but the
    tags of KASAN are not.
    """
    if pages.rules.word < 8 or not pages.memory_map.uniform:
        return set()
    seen: dict[int, list[int]] = {}
    for block in zones.blocks:
        data = bytearray(pages.rules.size)
        if not pages.space.fill(block.vaddr, memoryview(data)):
            seen.setdefault(block.zone, []).append(pages.rules.uint(data, pages.rules.flags, 8) >> 32)
    compared = [[value & (mask or _UPPER) for value in flags] for flags in seen.values()]
    agreeing = sum(max(map(flags.count, flags)) for flags in compared)
    if _too_few(agreeing, sum(map(len, compared))):
        return None
    return {max(flags, key=flags.count) for flags in seen.values()}


def _last_user(zones: Iterable[int]) -> int:
    """The bits of the upper half of the flags that tell, below node and zone, who used a page last (LAST_CPUPID).

    Free pages have ones there: eight for the process and some for the processor, of which some may stand in the lower
    half. Source: page_cpupid_reset_last in Linux include/linux/mm.h.
    """
    common = reduce(and_, zones, _UPPER)
    lowest = common & -common
    run = common & ~(common + lowest)
    return run if run & 1 or run.bit_count() >= _PROCESS_BITS else 0


def _is_other(pages: PageArray, block: FreeBlock) -> bool:
    """Whether no kernel says this of a block on a free list: then it is the struct page of another frame.

    What is on a free list has no users, and a page type, if maybe one that this filter does not know.
    """
    rules, data = pages.rules, bytearray(pages.rules.size)
    if pages.space.fill(block.vaddr, memoryview(data)):
        return False
    return bool(rules.users(data, 0)) or rules.is_tail(data, 0) or rules.uint(data, rules.mapcount, 4) == _NO_TYPE


def _is_block(pages: PageArray, block: FreeBlock, wanted: Wanted) -> bool:
    """Whether a block of a free list is classified as what it is."""
    data = bytearray(pages.rules.size)
    if pages.space.fill(block.vaddr, memoryview(data)):
        return False
    return pages.rules.judge(data, 0, 0, wanted) == Verdict(ExcludeClass.FREE, block.order)
