"""The top byte of page flags, which tells node and zone: pages for which it is another one were overwritten.

Owns this byte. Must not know classes. Node and zone are the same for long runs of pages, so this is the one thing that
can be said of every struct page, in use or not, at the price of one column. Which bits of the byte are theirs no kernel
tells (below them, or beside where there are few nodes, stand the processor of last use, a tag of KASAN or the
generation): those that differ within small stretches of memory are none. With words of 4 bytes flags reach up there:
nothing is said. Source: Linux include/linux/page-flags-layout.h.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from netdump.vmcore.structpage import byte_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.structpage import PageRules

_RUN: Final = re.compile(rb"(?s)(.)\1{191,}")  # a page of memory has 64 struct pages; garbage in two makes shorter runs
_PAGES_MIN: Final = 256  # of a slab that is looked at; nodes and zones begin at multiples of this
_TABLE_BYTES: Final = 4096  # pages of memory are overwritten as a whole, or not for sure
_ALL_PART: Final = 8  # one page in so many: then the whole slab is not believed
_WINDOWS: Final = 16
_ALWAYS_SAME: Final = 3 << 30  # bits of the upper half that are node or zone in every layout
_ODD_MIN: Final = 16
_ODD_PART: Final = 16  # one slab in so many: then it is not zones that the byte tells


class ZoneByte:
    """Finds pages that were overwritten.

    bits: those of the byte that are believed to tell node and zone. constant: bits of the upper half of the flags that
    pages that are neighbours have in common, as a number of 32 bits; 0 with words of 4 bytes.
    """

    __slots__ = ("_mask", "_odd", "_place", "_rules", "_size", "_slabs", "bits", "constant")

    def __init__(self, rules: PageRules) -> None:
        self._rules = rules
        self.bits = self.constant = 0
        self._mask = bytes(256)
        self._place = byte_place(rules, rules.flags, rules.word, rules.word - 1)
        self._size = rules.size
        self._slabs = self._odd = 0
        self._believe(0xFF if rules.word == 8 else 0)

    def _believe(self, bits: int) -> None:
        self.bits = bits
        self._mask = bytes(byte & bits for byte in range(256))

    def learn(self, pages: PageArray, frames: Sequence[range]) -> None:
        """Find out which bits vary, from samples of the memory in the core."""
        if not self.bits:
            return
        varying = 0
        for part in sorted(frames, key=len, reverse=True)[:_WINDOWS]:
            for start in range(part.start, part.stop, max(_PAGES_MIN, len(part) // _WINDOWS)):
                first = -(-start // _PAGES_MIN) * _PAGES_MIN
                vaddr, there = pages.locate(first)
                if vaddr is not None and min(there, part.stop - first) >= _PAGES_MIN:
                    data = bytearray(_PAGES_MIN * self._size)
                    found = 0 if pages.space.fill(vaddr, memoryview(data)) else self._varying_flags(data)
                    if not found & _ALWAYS_SAME:  # else they are no struct pages
                        varying |= found
        self.constant = 0xFFFF_FFFF & ~varying
        self._believe(self.constant >> 24)

    def _varying_flags(self, data: bytearray) -> int:
        """The bits of the upper half of the flags that are not the same in all struct pages."""
        varying = 0
        for significance in range(4):
            place = byte_place(self._rules, self._rules.flags, 8, 4 + significance)
            column = data[place :: self._size]
            for byte in set(column):
                varying |= (byte ^ column[0]) << 8 * significance
        return varying

    def strange(self, data: bytearray, pages: int, pfn: int) -> int:
        """0xff for pages that were overwritten, and for those that stand with them in a page of memory, else 0.

        The result is an integer, the first page in its lowest byte. data: struct pages, the first that of frame pfn;
        frame 0's stands, or would stand, at the start of a page of memory.
        """
        if not self.bits or pages < _PAGES_MIN:
            return 0
        self._slabs += 1
        column = data[self._place : pages * self._size : self._size]
        if column == column[:1] * pages:
            return 0
        if self.bits != 0xFF:
            column = column.translate(self._mask)
        known = {run[0][0] for run in _RUN.finditer(column)}
        marks = column.translate(bytes(0 if byte in known else 0xFF for byte in range(256)))
        odd = marks.count(0xFF)
        if not odd:
            return 0
        self._odd += 1
        if self._odd > _ODD_MIN and self._odd * _ODD_PART > self._slabs:
            self._believe(0)
            return 0
        if odd * _ALL_PART > pages:
            return int.from_bytes(b"\xff" * pages, "little")
        seen = bytes(marks)
        start = pfn * self._size % _TABLE_BYTES  # of the first struct page, in its page of memory
        page = seen.find(0xFF)
        while page >= 0:
            table = (start + page * self._size + self._place) // _TABLE_BYTES * _TABLE_BYTES - start
            first, end = max(0, table // self._size), min(pages, -(-(table + _TABLE_BYTES) // self._size))
            marks[first:end] = b"\xff" * (end - first)
            page = seen.find(0xFF, page + 1)
        return int.from_bytes(marks, "little")
