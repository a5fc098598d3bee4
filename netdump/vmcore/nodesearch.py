"""Nodes that VMCOREINFO does not name, found by their free lists.

Owns the search. Must not classify. Only x86 exports node_data; arm64 and riscv64 kernels with NUMA name no node at all.
But every free block is on a list whose head is in its zone, and the zone is in its node: whoever follows the list gets
there. What is found this way is no more than a guess until the free lists of all its zones have been compared with the
memory map (freelists.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import LostMemoryError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.zones import ZONES_MAX, ZoneLayout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

_WINDOWS: Final = 16  # of each stretch of memory, in which free blocks are looked for
_WINDOW_PAGES: Final = 1024
_HEADS_EACH: Final = 3  # free blocks of one order, of one window
_RANGES_MAX: Final = 64
_NODES_MAX: Final = 64
_STEPS_MAX: Final = 20_000  # of all lists of one window; about 10 us each


class _Place(NamedTuple):
    """Where a search is: the address of a list_head, the order of the list, and a frame that is on it."""

    at: int
    order: int
    pfn: int


class _NodeFormat(NamedTuple):
    """Offsets in struct pglist_data."""

    start_pfn: int
    spanned_pages: int


def find_nodes(pages: PageArray, info: Vmcoreinfo, layout: ZoneLayout, frames: Sequence[range]) -> list[int]:
    """Virtual addresses of pglist_data structures, those that have free memory. frames: of the memory in the core.

    Bounded: it looks at a few thousand struct pages and follows lists for some ten thousand steps a node, no more.
    Raises nothing.
    """
    start_at = info.offset("pglist_data.node_start_pfn")
    span_at = info.offset("pglist_data.node_spanned_pages")
    if start_at is None or span_at is None or pages.rules.types.buddy is None:
        return []
    form = _NodeFormat(start_at, span_at)
    found: list[int] = []
    known: list[range] = []
    for window in _windows(frames):
        if len(found) == _NODES_MAX or any(window.start in span for span in known):
            continue
        place = _head_of_list(pages, layout, list(_free_blocks(pages, layout, window)))
        node = None if place is None else _node_around(pages, layout, form, place)
        if node is not None:
            address, span = node
            known.append(span)
            if address not in found:
                found.append(address)
    return found


def _windows(frames: Sequence[range]) -> Iterator[range]:
    """Where to look, the largest stretches of memory first."""
    for stretch in sorted(frames, key=len, reverse=True)[:_RANGES_MAX]:
        step = max(_WINDOW_PAGES, len(stretch) // _WINDOWS)
        for start in range(stretch.start, stretch.stop, step):
            yield range(start, min(start + _WINDOW_PAGES, stretch.stop))


def _free_blocks(pages: PageArray, layout: ZoneLayout, window: range) -> Iterator[_Place]:
    """Some free blocks of each order, of those that begin in a window."""
    rules = pages.rules
    vaddr, there = pages.locate(window.start)
    if vaddr is None or rules.private is None or rules.types.buddy is None:
        return
    count = min(there, len(window))
    data = bytearray(count * rules.size)
    pages.fill(vaddr, memoryview(data))
    kind = rules.types.buddy.to_bytes(4, rules.byteorder)
    seen = [0] * layout.areas
    for page in range(count):
        at = page * rules.size
        if data[at + rules.mapcount : at + rules.mapcount + 4] != kind:
            continue
        order = rules.uint(data, at + rules.private, rules.word)
        if order < layout.areas and seen[order] < _HEADS_EACH:
            seen[order] += 1
            yield _Place(vaddr + at + layout.lru, order, window.start + page)


def _head_of_list(pages: PageArray, layout: ZoneLayout, places: list[_Place]) -> _Place | None:
    """Follow all lists, a step of each in turn, so that the shortest one decides. None if none leads to a head."""
    steps = 0
    while places and steps < _STEPS_MAX:
        steps += len(places)
        further = []
        for place in places:
            try:
                after = pages.space.read_uint(place.at + layout.next, layout.word)
            except LostMemoryError:
                continue
            if pages.memory_map.frame(after - layout.lru) is None:
                return place._replace(at=after)
            further.append(place._replace(at=after))
        places = further
    return None


def _node_around(pages: PageArray, layout: ZoneLayout, form: _NodeFormat, place: _Place) -> tuple[int, range] | None:
    """The node in which a list's head is, with the frames it spans; None unless exactly one place makes sense."""
    area = place.at - layout.free_list - place.order * layout.area_bytes - layout.free_area
    found = {}
    for kind in range(layout.lists):
        for index in range(ZONES_MAX):
            address = area - kind * layout.list_bytes - index * layout.zone_bytes - layout.node_zones
            span = _span(pages, layout, form, address, index)
            if span is not None and place.pfn in span:
                found[address] = span
    return next(iter(found.items())) if len(found) == 1 else None


def _span(pages: PageArray, layout: ZoneLayout, form: _NodeFormat, node: int, index: int) -> range | None:
    """Frames that a node spans, if it can be one that has a zone of this number."""
    try:
        zones = pages.space.read_uint(node + layout.nr_zones, 4)
        if not index < zones <= ZONES_MAX:
            return None
        start = pages.space.read_uint(node + form.start_pfn, layout.word)
        return range(start, start + pages.space.read_uint(node + form.spanned_pages, layout.word))
    except LostMemoryError:
        return None
