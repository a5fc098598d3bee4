"""What a struct page says: in use, cache, user's, free, offline.

Owns the verdict on one page, by the rules of its kernel (pagerules.py). Must not read memory, and must not know where
the rules come from. The order of the tests is makedumpfile's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.pages import ExcludeClass

if TYPE_CHECKING:
    from netdump.vmcore.elf import ByteOrder

ORDER_MAX: Final = 20
"""Largest order of any block that is believed: 2^18 base pages make the largest huge page there is (ppc64, x86: 16 GiB
or 1 GiB); a claim beyond it is an accident."""


_COUNT_MAX: Final = 1 << 24
_FROZEN: Final = 1 << 31
"""Of the count of users: nobody can take the page. Who tries counts on all the same, and nobody counts back.

Source: PAGEREF_FROZEN_BIT in include/linux/page-flags.h of the linux-mm tree (2026). Kernels without it have 0 there.
"""

_NO_TYPE: Final = 0xFFFF_FFFF
_TYPE_BITS: Final = 0xFF00_0000


class Wanted(NamedTuple):
    """What is to be left out; made from a dump level."""

    cache: bool
    cache_private: bool
    user: bool
    free: bool
    poison: bool
    offline: bool

    @classmethod
    def of_level(cls, level: int) -> Wanted:
        """level: bits 2 cache, 4 cache with private data, 8 user, 16 free; any but 0: poisoned and offline too."""
        some = bool(level & 31)
        return cls(bool(level & 2), bool(level & 4), bool(level & 8), bool(level & 16), some, some)

    @property
    def nothing(self) -> bool:
        """Whether all is kept."""
        return not any(self)


class PageTypes(NamedTuple):
    """Values of _mapcount, unsigned 32 bits; None: this kernel has no such type, or none that is believed."""

    buddy: int | None
    offline: int | None
    hugetlb: int | None
    slab: int | None
    unaccepted: int | None


class Compound(NamedTuple):
    """Where the order of a compound page stands, and what makes it a hugetlb page.

    Offsets are from the head's struct page on; both lie in the one after it. huge_at None: the page type tells, or
    nothing does.
    """

    order_at: int
    order_bytes: int
    huge_at: int | None = None
    huge_bytes: int = 1
    huge_mask: int = 0
    huge_value: int = 0


class Verdict(NamedTuple):
    """Why a page is left out, NONE if it is not; and how many pages from it on go with it: 2^order."""

    exclude: ExcludeClass
    order: int
    hugetlb: bool = False

    @property
    def is_free(self) -> bool:
        """Whether it is a block of the page allocator, not a page in use."""
        return self.exclude in {ExcludeClass.FREE, ExcludeClass.UNACCEPTED}


KEEP: Final = Verdict(ExcludeClass.NONE, 0)


class PageRules(NamedTuple):
    """How a kernel writes struct page.

    size and offsets: bytes. word: of an unsigned long. Masks: of the flags word, 0 where unknown or absent. lru:
    of the list_head. tail: of the word whose bit 0 is set in every page of a compound page but the first;
    tail_is_pointer: whether the rest of it is the address of the first one; tail_mask: the flag that told it before
    v4.4. orders: of free blocks, LENGTH(zone.free_area).
    """

    size: int
    word: int
    byteorder: ByteOrder
    flags: int
    mapping: int | None
    mapcount: int
    private: int | None
    refcount: int | None
    lru: int
    tail: int
    tail_is_pointer: bool
    lru_mask: int
    private_mask: int
    swapcache_mask: int
    swapbacked_mask: int
    slab_mask: int
    poison_mask: int
    head_mask: int
    tail_mask: int
    types: PageTypes
    compound: Compound | None
    orders: int

    def uint(self, data: bytes | bytearray, at: int, size: int) -> int:
        """An unsigned integer of the dead kernel."""
        return int.from_bytes(data[at : at + size], self.byteorder)

    def is_tail(self, data: bytes | bytearray, at: int) -> bool:
        """Whether the struct page at a position is of the rest of a compound page."""
        if self.uint(data, at + self.tail, self.word) & 1:
            return True
        return bool(self.tail_mask and self.uint(data, at + self.flags, self.word) & self.tail_mask)

    def users(self, data: bytes | bytearray, at: int) -> int | None:
        """How many hold the page whose struct page is at a position of data; None: VMCOREINFO does not say."""
        if self.refcount is None:
            return None
        count = self.uint(data, at + self.refcount, 4)
        return 0 if count & _FROZEN else count

    def may_begin_block(self, data: bytes | bytearray, at: int) -> bool:
        """Whether more than one page may be what the struct page at a position of data is. Quick."""
        if self.uint(data, at + self.flags, self.word) & self.head_mask:
            return True
        return self.uint(data, at + self.mapcount, 4) in (self.types.buddy, self.types.unaccepted)

    def may_lie_inside(self, data: bytes | bytearray, at: int) -> bool:
        """Whether the struct page at a position of data may be of a block that begins before. Quick.

        Inside a free block no page is held; inside a compound page all are tails, but for hugetlb pages whose tables
        of struct pages are shared: there some look like the head.
        """
        if not self.users(data, at) or self.is_tail(data, at):
            return True
        return bool(self.uint(data, at + self.flags, self.word) & self.head_mask)

    def judge(self, data: bytes | bytearray, at: int, pfn: int, wanted: Wanted) -> Verdict:
        """What becomes of the page whose struct page is at a position of data. The next one is looked at if there."""
        if self.is_tail(data, at):
            return KEEP
        kind = self.uint(data, at + self.mapcount, 4)
        flags = self.uint(data, at + self.flags, self.word)
        slab = bool(flags & self.slab_mask) or _is(kind, self.types.slab)
        if not slab and wanted.free and self.private is not None:
            if _is(kind, self.types.buddy):
                order = self.uint(data, at + self.private, self.word)
                return Verdict(ExcludeClass.FREE, order) if order < self.orders else KEEP
            if _is(kind, self.types.unaccepted):
                return Verdict(ExcludeClass.UNACCEPTED, self.orders - 1)
        order, huge = self._compound(data, at, pfn, flags, kind)
        anon = not slab and self.mapping is not None and bool(self.uint(data, at + self.mapping, self.word) & 1)
        exclude = self._in_use(flags, anon, huge, wanted)
        if exclude == ExcludeClass.NONE and wanted.poison and flags & self.poison_mask and self._counts(data, at):
            exclude = ExcludeClass.HWPOISON
        if exclude == ExcludeClass.NONE and wanted.offline and not slab and _is(kind, self.types.offline):
            exclude = ExcludeClass.OFFLINE
        return KEEP if exclude == ExcludeClass.NONE else Verdict(exclude, order, huge)

    def is_poison_only(self, data: bytes | bytearray, at: int) -> bool:
        """Whether the page whose struct page is at a position of data is poisoned, of no type, and nobody's."""
        flags, kind = self.uint(data, at + self.flags, self.word), self.uint(data, at + self.mapcount, 4)
        return bool(flags & self.poison_mask) and kind == _NO_TYPE and not self.users(data, at)

    def _counts(self, data: bytes | bytearray, at: int) -> bool:
        """Whether the counts of a struct page can be some: of what was overwritten they seldom can."""
        users = 0 if self.refcount is None else self.uint(data, at + self.refcount, 4) & ~_FROZEN
        mapped = self.uint(data, at + self.mapcount, 4)
        lowest = min([kind for kind in self.types if kind is not None], default=_NO_TYPE) & _TYPE_BITS
        return users < _COUNT_MAX and (mapped < _COUNT_MAX or mapped >= lowest)

    def _in_use(self, flags: int, anon: bool, huge: bool, wanted: Wanted) -> ExcludeClass:
        """Cache, user's, or neither."""
        cache = bool(flags & self.lru_mask)
        if flags & self.swapcache_mask and (not self.swapbacked_mask or flags & self.swapbacked_mask):
            cache = True
        if cache and not anon:
            if wanted.cache_private and flags & self.private_mask:
                return ExcludeClass.CACHE_PRIVATE
            if (wanted.cache or wanted.cache_private) and not flags & self.private_mask:
                return ExcludeClass.CACHE
        return ExcludeClass.USER if wanted.user and (anon or huge) else ExcludeClass.NONE

    def _compound(self, data: bytes | bytearray, at: int, pfn: int, flags: int, kind: int) -> tuple[int, bool]:
        """Order of the compound page that begins here, 0 if none does, and whether it is of hugetlb."""
        if not flags & self.head_mask or at + 2 * self.size > len(data):
            return 0, False
        huge, rule = _is(kind, self.types.hugetlb), self.compound
        if rule is not None and rule.huge_at is not None:
            huge = self.uint(data, at + rule.huge_at, rule.huge_bytes) & rule.huge_mask == rule.huge_value
        return self.order(data, at, pfn), huge

    def order(self, data: bytes | bytearray, at: int, pfn: int) -> int:
        """Order of the compound page whose head is at a position of data; 0 if what it says cannot be."""
        rule = self.compound
        if rule is None or at + 2 * self.size > len(data):
            return 0
        order = self.uint(data, at + rule.order_at, rule.order_bytes)
        return order if order <= ORDER_MAX and not pfn & (1 << order) - 1 else 0


def byte_place(rules: PageRules, offset: int, length: int, significance: int) -> int:
    """Where in a struct page a byte of a member stands. significance: 0 is the lowest byte."""
    return offset + (significance if rules.byteorder == "little" else length - 1 - significance)


def _is(kind: int, value: int | None) -> bool:
    """Whether _mapcount is a page type this kernel has."""
    return value is not None and kind == value
