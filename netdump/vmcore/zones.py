"""The zones of the dead kernel: how much memory they say is free, and which blocks their free lists hold.

Owns pglist_data and zone. Must not know what a page filter does with it. Source: Linux include/linux/mmzone.h.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError, LostMemoryError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.pagerules import ORDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netdump.vmcore.paging import AddressSpace
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

ZONES_MAX: Final = 8
"""Most zones of a node; Linux has 2 to 6."""

_SIZE_MAX: Final = 0x100_0000  # of a pglist_data
_KINDS_MAX: Final = 64  # lists of an area: Linux has 3 to 7
_LISTS_MAX: Final = 8192  # looked at: all of 64 nodes
_ENTRIES_MAX: Final = 160  # taken; of each zone some in any case
_ENTRIES_EACH: Final = 3  # of a list


class FreeBlock(NamedTuple):
    """What a free list holds. vaddr: of the first struct page of the block; order: of the list; zone: whose it is."""

    vaddr: int
    order: int
    zone: int


class Zones(NamedTuple):
    """All zones that have memory. number: of them; free_pages: the sum of NR_FREE_PAGES; blocks: some of each list.

    listed_pages: how many pages all blocks of the free lists have, as these count them. more_orders: whether there are
    free lists of larger blocks than VMCOREINFO says.
    """

    number: int
    free_pages: int
    listed_pages: int
    more_orders: bool
    blocks: tuple[FreeBlock, ...]


class ZoneLayout(NamedTuple):
    """What a zone and its node look like: offsets and sizes in bytes, numbers as VMCOREINFO gives them."""

    word: int
    node_zones: int
    nr_zones: int
    zone_bytes: int
    free_stat: int
    free_area: int
    area_bytes: int
    areas: int
    free_list: int
    lists: int
    list_bytes: int
    next: int
    lru: int


def read_zones(space: AddressSpace, layout: ZoneLayout, nodes: Iterable[int]) -> Zones:
    """Read all zones of nodes, given by address. Raises KernelDataError if there are none or they make no sense."""
    word = layout.word
    count = free_pages = listed = longer = 0
    found: list[int] = []
    for node in nodes:
        zones = space.read_uint(node + layout.nr_zones, 4)
        if zones > ZONES_MAX:
            raise KernelDataError(f"a node of {zones} zones makes no sense")
        for index in range(zones):
            zone = node + layout.node_zones + index * layout.zone_bytes
            value = space.read_uint(zone + layout.free_stat, word)
            if value >> 8 * word - 1:  # negative for a moment: counted on another processor
                value = 0
            if not value and _is_blank(space, layout, zone):
                continue
            count += 1
            free_pages += value
            listed += _listed_pages(space, layout, zone)
            longer += _has_lists_behind(space, layout, zone)
            found.append(zone)
    if not found:
        raise KernelDataError("no node of this kernel can be found")
    return Zones(count, free_pages, listed, longer * 2 > count, tuple(_iter_blocks(space, layout, found)))


def _is_blank(space: AddressSpace, layout: ZoneLayout, zone: int) -> bool:
    """Whether nobody has ever made the free lists of a zone: it has no memory.

    Every node but the first lacks those that begin below it (DMA, DMA32), most have no movable one, and only zones that
    have memory get lists. Source: free_area_init_core in Linux mm/mm_init.c.
    """
    lists = zone + layout.free_area + layout.free_list
    return not any(
        space.read_uint(lists + order * layout.area_bytes + layout.next, layout.word) for order in (0, layout.areas - 1)
    )


def _listed_pages(space: AddressSpace, layout: ZoneLayout, zone: int) -> int:
    """Pages of all blocks on a zone's free lists: nr_free of each struct free_area, which comes behind its lists."""
    place = zone + layout.free_area + layout.free_list + layout.lists * layout.list_bytes
    counts = (space.read_uint(place + order * layout.area_bytes, layout.word) for order in range(layout.areas))
    return sum(count << order for order, count in enumerate(counts))


def _has_lists_behind(space: AddressSpace, layout: ZoneLayout, zone: int) -> bool:
    """Whether what comes behind the last free area of a zone is one too: lists, empty or not, lead back to their heads.

    Behind the real last one are flags and a lock.
    """
    place = zone + layout.free_area + layout.areas * layout.area_bytes + layout.free_list
    heads = [place + kind * layout.list_bytes for kind in range(layout.lists)]
    prev = layout.word - layout.next  # the other of two members
    try:
        return all(
            space.read_uint(space.read_uint(head + layout.next, layout.word) + prev, layout.word) == head
            for head in heads
        )
    except LostMemoryError:
        return False


def read_layout(info: Vmcoreinfo, word: int) -> ZoneLayout:
    """What VMCOREINFO says of zones. Raises KernelDataError if that is not enough or makes no sense."""
    free_stat = info.number("NR_FREE_PAGES")
    areas, lists = info.length("zone.free_area"), info.length("free_area.free_list")
    if free_stat is None or areas is None or lists is None:
        raise KernelDataError("VMCOREINFO does not say what a zone looks like")
    layout = ZoneLayout(
        word=word,
        node_zones=info.need("OFFSET", "pglist_data.node_zones"),
        nr_zones=info.need("OFFSET", "pglist_data.nr_zones"),
        zone_bytes=info.need("SIZE", "zone"),
        free_stat=info.need("OFFSET", "zone.vm_stat") + free_stat * word,
        free_area=info.need("OFFSET", "zone.free_area"),
        area_bytes=info.need("SIZE", "free_area"),
        areas=areas,
        free_list=info.need("OFFSET", "free_area.free_list"),
        lists=lists,
        list_bytes=info.need("SIZE", "list_head"),
        next=info.need("OFFSET", "list_head.next"),
        lru=info.need("OFFSET", "page.lru"),
    )
    sizes_fit = all(0 <= value < _SIZE_MAX for value in layout)
    if not sizes_fit or layout.areas not in ORDERS or not 1 <= layout.lists <= _KINDS_MAX:
        raise KernelDataError("VMCOREINFO describes a zone that makes no sense")
    return layout


def _iter_blocks(space: AddressSpace, layout: ZoneLayout, zones: list[int]) -> Iterator[FreeBlock]:
    """The first entries of the free lists, high orders first; of each zone its part, however many the others have."""
    left = dict.fromkeys(zones, max(_ENTRIES_EACH, _ENTRIES_MAX // len(zones)))
    places = (
        (zone, order, zone + layout.free_area + order * layout.area_bytes + layout.free_list + kind * layout.list_bytes)
        for order in reversed(range(layout.areas))
        for kind in range(layout.lists)
        for zone in zones
    )
    for zone, order, head in islice(places, _LISTS_MAX):
        entry = head
        for _ in range(min(_ENTRIES_EACH, left[zone])):
            try:
                entry = space.read_uint(entry + layout.next, layout.word)
            except LostMemoryError:
                break
            if entry == head:
                break
            left[zone] -= 1
            yield FreeBlock(entry - layout.lru, order, zone)
