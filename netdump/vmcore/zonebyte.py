"""The byte of page flags that tells node and zone: pages for which it is another one were overwritten.

Owns this byte. Must not know classes. Node and zone are the same for long runs of pages, so this is the one thing that
can be said of every struct page, in use or not, at the price of one column. Which bits of the byte are theirs no kernel
tells (below them, or beside where there are few nodes, stand the processor of last use, a tag of KASAN or the
generation): those that differ within small stretches of memory are none, and with several nodes those that tell the
processor, by free pages (freelists.py). Source: Linux
include/linux/page-flags-layout.h.

What overwrites struct pages is seldom random: pointers, numbers and text have the same byte in all of them, as pages of
another zone have. So a value counts only if it is that of most pages of a slab and of free pages somewhere, or if some
pages that have it prove to be in place.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from netdump.vmcore.structpage import byte_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.structpage import PageRules

    InPlace = Callable[[int, bytearray, int], bool | None]
    Speakers = Callable[[], bytearray]

_RUN_PAGES: Final = 192  # a page of memory has 64 struct pages; garbage in two makes shorter runs
_PAGES_MIN: Final = 256  # of a slab that is looked at; nodes and zones begin at multiples of this
_TABLE_BYTES: Final = 4096  # pages of memory are overwritten as a whole, or not for sure
_ALL_PART: Final = 8  # one page in so many: then the whole slab is not believed
_WINDOWS: Final = 16
_VARYING_PART: Final = 2  # of the windows, in which a bit varies that is not believed; garbage may be in some
_ALWAYS_SAME: Final = 1 << 31  # of the upper half: node or zone in every layout; with two zones of one node no other
_ODD_MIN: Final = 16
_ODD_PART: Final = 16  # one slab in so many
_IS_ODD_NUMBER: Final = bytes((0, 0xFF)) * 128
_IS_SOMETHING: Final = b"\0" + b"\xff" * 255
_LOOKS: Final = 32  # at pages that have a value, for some that are in place
_LOOKS_NEAR: Final = 128  # at pages that stand with such ones; two pages of memory full of them
_IN_PLACE_ENOUGH: Final = 3  # pages that are in place outweigh one that is not


class ZoneByte:
    """Finds pages that were overwritten.

    bits: those of the byte that are believed to tell node and zone. constant: bits of the upper half of the flags that
    pages that are neighbours have in common, as a number of 32 bits; 0 with words of 4 bytes.
    """

    __slots__ = (
        "_in_place",
        "_known",
        "_loners",
        "_mask",
        "_odd",
        "_part",
        "_place",
        "_rules",
        "_size",
        "_slabs",
        "bits",
        "constant",
    )

    def __init__(self, rules: PageRules, in_place: InPlace) -> None:
        """in_place: whether the struct page at a position of data is that of a frame, None if it does not say."""
        self._rules = rules
        self._in_place = in_place
        self._size = rules.size
        self._slabs = self._odd = 0
        # bits in which odd pages differ -> first frame of a slab -> how many of these were in place there
        self._loners: dict[int, dict[int, int]] = {}
        self._known: set[int] = set()  # values of the byte that are those of pages, as far as its bits are believed
        self.constant = 0
        self._choose(3, 0xFF)

    def _choose(self, part: int, bits: int) -> None:
        """Look at another byte. part: of the upper 32 bits of the flags, 3 is the highest one."""
        self._part = part
        self._place = byte_place(self._rules, self._rules.flags, self._rules.word, self._rules.word - 4 + part)
        self._believe(bits)

    def _believe(self, bits: int) -> None:
        self.bits = bits
        self._mask = bytes(byte & bits for byte in range(256))
        self._known = {value & bits for value in self._known}

    @property
    def often_odd(self) -> bool:
        """Whether so many slabs have pages that were overwritten that there is more to it."""
        return self._odd > _ODD_MIN and self._odd * _ODD_PART > self._slabs

    def learn(self, pages: PageArray, frames: Sequence[range]) -> None:
        """Find out which byte tells most, and which of its bits vary, from samples of the memory in the core."""
        varying = 0
        samples: Counter[int] = Counter()
        often: Counter[int] = Counter()  # bit -> windows in which it varies
        for part in sorted(frames, key=len, reverse=True)[:_WINDOWS]:
            for start in range(part.start, part.stop, max(_PAGES_MIN, len(part) // _WINDOWS)):
                first = -(-start // _PAGES_MIN) * _PAGES_MIN
                vaddr, there = pages.locate(first)
                if vaddr is not None and min(there, part.stop - first) >= _PAGES_MIN:
                    data = bytearray(_PAGES_MIN * self._size)
                    missing = pages.space.fill(vaddr, memoryview(data))
                    found = 0 if missing else self._varying_flags(data)
                    if not missing and not found & _ALWAYS_SAME:  # else they are no struct pages
                        varying |= found
                        if found:
                            often.update(bit for bit in range(32) if found >> bit & 1)
                        samples[self._upper(data)] += 1
        same = 0xFFFF_FFFF & ~sum(1 << bit for bit, count in often.items() if count * _VARYING_PART > samples.total())
        usual = samples.most_common(1)[0][0] if samples else 0
        places = (3, 2) if self._rules.word == 8 else (3,)
        best = max(places, key=lambda place: _power(usual >> 8 * place & 0xFF, same >> 8 * place & 0xFF))
        self._choose(best, same >> 8 * best & 0xFF)
        self.constant = 0xFFFF_FFFF & ~varying if self._rules.word == 8 else 0

    def trust(self, zones: Iterable[int], others: int = 0) -> None:
        """Take what free pages say for known. zones: the upper half of their flags, of words of 8 bytes.

        others: bits of that which tell neither node nor zone.
        """
        self._believe(self.bits & ~(others >> 8 * self._part))
        self._known |= {zone >> 8 * self._part & self.bits for zone in zones}

    def _upper(self, data: bytearray) -> int:
        """The upper 32 bits of the flags of the first of some struct pages."""
        return self._rules.uint(data, self._rules.flags, self._rules.word) >> 8 * (self._rules.word - 4)

    def _varying_flags(self, data: bytearray) -> int:
        """Those of the upper 32 bits of the flags that are not the same in all struct pages."""
        varying = 0
        for part in range(4):
            place = byte_place(self._rules, self._rules.flags, self._rules.word, self._rules.word - 4 + part)
            column = data[place :: self._size]
            for byte in set(column):
                varying |= (byte ^ column[0]) << 8 * part
        return varying

    def strange(self, data: bytearray, pages: int, pfn: int, speakers: Speakers) -> int:
        """0xff for pages that were overwritten, and for those that stand with them in a page of memory, else 0.

        The result is an integer, the first page in its lowest byte. data: struct pages, the first that of frame pfn;
        frame 0's stands, or would stand, at the start of a page of memory. speakers: makes a column that is 1
        for pages that may say whether they are in place.
        """
        if not self.bits or pages < _PAGES_MIN:
            return 0
        self._slabs += 1
        column = data[self._place : pages * self._size : self._size]
        if column == column[:1] * pages:
            if column[0] & self.bits in self._known:
                return 0
            if column[0] == 0xFF and data.startswith(column[:1] * (pages * self._size)):
                return 0  # never used: so kernels with CONFIG_DEBUG_VM mark memory that was never put online
        return self._look_closer(_Slab(data, pfn, column.translate(self._mask), speakers))

    def _look_closer(self, slab: _Slab) -> int:
        pages = len(slab.column)
        if not self._rules.tail_is_pointer:
            self._fill_in(slab)
        while True:
            values = self._values(slab)
            odd = slab.column.translate(None, bytes(values))
            if not odd:
                return 0
            if not self._drop_bits(slab, values, odd):
                break
            slab.column = slab.column.translate(self._mask)
        self._odd += 1
        if len(odd) * _ALL_PART > pages:
            return int.from_bytes(b"\xff" * pages, "little")
        marks = slab.column.translate(bytes(0 if byte in values else 0xFF for byte in range(256)))
        self._mark_neighbours(slab, marks)
        return int.from_bytes(marks, "little")

    def _fill_in(self, slab: _Slab) -> None:
        """Give the rest of hugetlb pages the node and zone of what is in front of it.

        Since v7.1 those of a zone and size may share one page of struct pages for their rest, which has a node and a
        zone but nothing beside (vmemmap_get_tail in Linux mm/hugetlb_vmemmap.c), and does not say where it is. That may
        be a value that is known, if the processor of last use stands beside the zone.
        """
        low = byte_place(self._rules, self._rules.tail, self._rules.word, 0)
        column = slab.column
        tails = slab.data[low : len(column) * self._size : self._size].translate(_IS_ODD_NUMBER)
        number = int.from_bytes(column, "little")
        changes = (number ^ number << 8) & (1 << 8 * len(column)) - 1
        turns = changes.to_bytes(len(column), "little").translate(_IS_SOMETHING)
        both = int.from_bytes(tails, "little") & int.from_bytes(turns, "little")
        marks = both.to_bytes(len(column), "little")
        start = marks.find(0xFF, 1)
        while start >= 0:
            value, front = column[start : start + 1], column[start - 1 : start]
            end = tails.find(0, start)
            end = min(len(column) if end < 0 else end, start + _run_pages(column, value, start))
            if value[0] not in self._known or front[0] in self._known:
                column[start:end] = front * (end - start)
            start = marks.find(0xFF, end)

    def _mark_neighbours(self, slab: _Slab, marks: bytearray) -> None:
        """Mark all pages that stand in a page of memory with one that is marked.

        But for those that are in place: a bit of them may be wrong, or they are of a zone of few pages. And but for a
        few with which the slab begins or ends: there another zone may.
        """
        size, seen = self._size, bytes(marks)
        start = slab.pfn * size % _TABLE_BYTES  # of the first struct page, in its page of memory
        looks = 0
        page = seen.find(0xFF)
        while page >= 0:
            looks += 1
            table = (start + page * size + self._place) // _TABLE_BYTES * _TABLE_BYTES - start
            first = max(0, -(-(table - self._place) // size))  # of those whose byte is in this page of memory
            end = min(len(seen), -(-(table + _TABLE_BYTES - self._place) // size))
            if self._is_edge(slab.column, seen, first, end):
                page = seen.find(0xFF, end)
            elif looks <= _LOOKS_NEAR and self._in_place(slab.pfn + page, slab.data, page * size):
                page = seen.find(0xFF, page + 1)
            else:
                first, last = max(0, table // size), min(len(seen), -(-(table + _TABLE_BYTES) // size))
                marks[first:last] = b"\xff" * (last - first)
                page = seen.find(0xFF, end)

    def _is_edge(self, column: bytearray, marks: bytes, first: int, end: int) -> bool:
        """Whether all begin or end with some pages that are marked, less than half of those from first to end.

        Or more of them that have a value that is known: memory seldom ends with a page of struct pages, and what is
        behind its end has the zone of what comes next.
        """
        part = marks[first:end]
        odd = part.count(0xFF)
        at_end = end == len(marks) and part.endswith(b"\xff" * odd)
        if not at_end and not (first == 0 and part.startswith(b"\xff" * odd)):
            return False
        value = column[end - 1 if at_end else 0]
        is_known = value in self._known and column.count(value, first, end) == odd
        return odd * 2 < len(part) or (odd < len(part) and is_known)

    def _values(self, slab: _Slab) -> set[int]:
        """The values of the byte that pages of a slab may have."""
        values = {value for value in self._known if slab.column.count(value) * 2 >= len(slab.column)}
        for start, end in _iter_runs(slab.column):
            value = slab.column[start]
            if value not in values and self._in_place_of(slab, slab.speakers, start, end):
                values.add(value)
                self._known.add(value)
        return values

    def _drop_bits(self, slab: _Slab, values: set[int], odd: bytearray) -> bool:
        """Whether odd pages are in place, so that bits in which they differ from the others tell neither node nor zone.

        Then these are not believed any longer. Pages of other slabs count too: where the processor of last use stands
        beside the zone, a machine of several nodes has such a page here and there. values: of pages that are not odd.
        odd: the values of those that are.
        """
        if not values:
            return False
        often = max(set(odd), key=odd.count)
        has_it = int.from_bytes(slab.column.translate(bytes(often) + b"\1" + bytes(255 - often)), "little")
        candidates = bytearray((has_it & int.from_bytes(slab.speakers, "little")).to_bytes(len(slab.column), "little"))
        bits = often ^ max(values, key=slab.column.count)
        loners = self._loners.setdefault(bits, {})
        if here := self._in_place_of(slab, candidates, 0, len(candidates)):
            loners[slab.pfn] = here
        if sum(loners.values()) < _IN_PLACE_ENOUGH:
            return False
        self._believe(self.bits & ~bits)
        return True

    def _in_place_of(self, slab: _Slab, candidates: bytearray, start: int, end: int) -> int:
        """How many of some pages are in place, of those between start and end; 0 if too many others are not.

        candidates: 1 for pages to be looked at; of many some, far apart.
        """
        here = elsewhere = 0
        page = -1
        for part in range(_LOOKS):
            page = candidates.find(1, max(page + 1, start + (end - start) * part // _LOOKS), end)
            if page < 0:
                break
            there = self._in_place(slab.pfn + page, slab.data, page * self._size)
            here += there is True
            elsewhere += there is False
            if here >= _IN_PLACE_ENOUGH and not elsewhere:
                break
        return here if here > elsewhere * _IN_PLACE_ENOUGH else 0


class _Slab:
    """Some struct pages, the first that of frame pfn, and their zone bytes."""

    __slots__ = ("_make_speakers", "_speakers", "column", "data", "pfn")

    def __init__(self, data: bytearray, pfn: int, column: bytearray, make_speakers: Speakers) -> None:
        self.data = data
        self.pfn = pfn
        self.column = column
        self._make_speakers = make_speakers
        self._speakers: bytearray | None = None

    @property
    def speakers(self) -> bytearray:
        """1 for pages that may say whether they are in place; made when first asked for."""
        if self._speakers is None:
            self._speakers = self._make_speakers()
        return self._speakers


def _iter_runs(column: bytearray) -> Iterator[tuple[int, int]]:
    """(start, end) of the runs of one value that are long enough. Each has a multiple of that length in it."""
    end = 0
    for at in range(0, len(column), _RUN_PAGES):
        if at >= end:
            value = column[at : at + 1]
            start = at - _run_pages(column[max(0, at - _RUN_PAGES) : at][::-1], value)
            end = at + _run_pages(column, value, at)
            if end - start >= _RUN_PAGES:
                yield start, end


def _run_pages(column: bytearray, value: bytearray, start: int = 0) -> int:
    """How many pages from start on have a value. Comparing many at a time takes a hundredth of stripping them."""
    end, many = start, value * _RUN_PAGES
    while column.startswith(many, end):
        end += _RUN_PAGES
    rest = column[end : end + _RUN_PAGES]
    return end - start + len(rest) - len(rest.lstrip(value))


def _power(value: int, bits: int) -> tuple[int, int]:
    """How well a byte tells pages from garbage: what is 0 in all its bits, or 1, is so in pointers and numbers too."""
    ones = (value & bits).bit_count()
    return min(ones, bits.bit_count() - ones), bits.bit_count()
