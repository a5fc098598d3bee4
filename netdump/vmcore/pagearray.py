"""The array of struct pages: read one by its page frame, judge one, or fill a buffer with many.

Owns reading them out of the dead kernel's memory. Must not decide on more than one page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import LostMemoryError
from netdump.vmcore.structpage import KEEP, Verdict

if TYPE_CHECKING:
    from netdump.vmcore.memmap import MemoryMap
    from netdump.vmcore.paging import AddressSpace
    from netdump.vmcore.structpage import PageRules, Wanted

_NEAR_PAGES: Final = 1024  # from the head of a compound page: beyond, a wrong head may seem right


class PageArray:
    """Reads struct pages. What is not mapped or not in the core reads as zeros, which say that a page is in use."""

    __slots__ = ("memory_map", "page_bytes", "rules", "space")

    def __init__(self, space: AddressSpace, memory_map: MemoryMap, rules: PageRules, page_bytes: int) -> None:
        self.space = space
        self.memory_map = memory_map
        self.rules = rules
        self.page_bytes = page_bytes

    def locate(self, pfn: int) -> tuple[int | None, int]:
        """See MemoryMap.locate."""
        return self.memory_map.locate(pfn)

    def fill(self, vaddr: int, view: memoryview) -> int:
        """Fill view with struct pages from a virtual address on; one that is missing in part is all zeros.

        Returns how many bytes were missing.
        """
        missing = self.space.fill(vaddr, view)
        size = self.rules.size
        for start, length in missing:
            first, end = start // size * size, -(-(start + length) // size) * size
            view[first:end] = bytes(len(view[first:end]))
        return sum(length for _, length in missing)

    def read(self, pfn: int) -> bytearray | None:
        """The struct page of a frame, and the next one if there is one; None if there is none or it is missing."""
        vaddr, pages = self.memory_map.locate(pfn)
        if vaddr is None:
            return None
        data = bytearray(min(pages, 2) * self.rules.size)
        missing = self.space.fill(vaddr, memoryview(data))
        if not missing:
            return data
        return data[: self.rules.size] if missing[0][0] >= self.rules.size else None

    def judge(self, pfn: int, wanted: Wanted) -> Verdict:
        """What the struct page of a frame says by itself; KEEP if there is none."""
        data = self.read(pfn)
        return KEEP if data is None else self.rules.judge(data, 0, pfn, wanted)

    def is_in_place(self, pfn: int, data: bytearray, at: int) -> bool | None:
        """Whether the struct page at a position of data is that of a frame; None if it does not say."""
        vaddr, _ = self.memory_map.locate(pfn)
        return None if vaddr is None else self.stands_at(vaddr, data, at)

    def stands_at(self, vaddr: int, data: bytearray, at: int) -> bool | None:
        """The same by the virtual address that it ought to have.

        The list neighbours of a page on a list point back at it, the rest of a compound page points at the head in
        front of it, and a page that was never on a list points at itself.
        """
        rules = self.rules
        word = rules.word
        head = rules.uint(data, at + rules.tail, word)
        if head & 1:
            pages, rest = divmod(vaddr - head + 1, rules.size)
            if not rules.tail_is_pointer or pages >= _NEAR_PAGES:
                return None
            return pages > 0 and not rest
        own = vaddr + rules.lru
        if all(rules.uint(data, at + rules.lru + side, word) == own for side in (0, word)):
            return True
        kind = rules.uint(data, at + rules.mapcount, 4)
        if not rules.uint(data, at + rules.flags, word) & rules.lru_mask and kind != rules.types.buddy:
            return None
        for mine, others in ((0, word), (word, 0)):  # the page behind points back, and the one before points here
            neighbour = rules.uint(data, at + rules.lru + mine, word)
            if not self.space.has(neighbour):
                return None  # some pages are on no list
            try:
                if self.space.read_uint(neighbour + others, word) == own:
                    return True
            except LostMemoryError:
                return None
        return False

    def confirm(self, pfn: int, verdict: Verdict, wanted: Wanted) -> bool:
        """Whether a block is what its first page says, by the pages at powers of 2 in it and its last one.

        Free blocks: nothing inside has a say, but that it is poisoned. Compound pages: all inside know that they belong
        to one; of hugetlb pages the tables of struct pages may be shared, so that some look like the first.
        """
        length = 1 << verdict.order
        if pfn & length - 1:
            return False
        places = {1 << bit for bit in range(verdict.order)} | {length - 1, length // 2 + 1}
        return all(self._belongs(pfn + place, place, verdict, wanted) for place in places if 0 < place < length)

    def _belongs(self, pfn: int, place: int, verdict: Verdict, wanted: Wanted) -> bool:
        data = self.read(pfn)
        if data is None:
            return False
        tail = self.rules.is_tail(data, 0)
        if verdict.is_free:
            alone = self.rules.judge(data, 0, pfn, wanted) == KEEP or self.rules.is_poison_only(data, 0)
            return not tail and alone
        return tail or (verdict.hugetlb and place * self.rules.size % self.page_bytes == 0)
