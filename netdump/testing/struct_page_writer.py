"""Writes struct pages as kernels of several times did, and the VMCOREINFO that describes them.

An Era is one layout; ERAS has those that a page filter must tell apart. What a page is, is said by the methods of
Frames; what a filter must make of it, they keep too: expected(level).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netdump.testing.elf_writer import ByteOrder

Order = Literal["word", "u32", "u8", "folio", "flags"]
"""Where the order of a compound page stands in the second struct page, and as what."""

Huge = Literal["pointer", "id", "folio", "bit", "type"]
"""What tells a hugetlb page."""

FREE_HUGE_PAGE: Final = 0xFFFFFFFF81123450
HUGETLB_DTOR: Final = 2

_FLAGS_4_0: Final = {"lru": 5, "slab": 7, "private": 11, "head": 14, "swapcache": 15, "hwpoison": 22}
_FLAGS_4_10: Final = {"lru": 5, "slab": 8, "swapcache": 9, "private": 12, "head": 15, "swapbacked": 18, "hwpoison": 22}
_FLAGS_5: Final = {"lru": 4, "slab": 9, "swapcache": 10, "private": 13, "head": 16, "swapbacked": 19, "hwpoison": 23}
_FLAGS_6_6: Final = {"lru": 5, "slab": 11, "swapcache": 12, "private": 15, "head": 6, "swapbacked": 19, "hwpoison": 23}
_FLAGS_6_10: Final = {"lru": 5, "swapcache": 11, "private": 14, "head": 6, "swapbacked": 18, "hwpoison": 22}
_FLAGS_6_12: Final = {"lru": 5, "swapcache": 10, "private": 14, "head": 6, "swapbacked": 17, "hwpoison": 20}
_FLAGS_6_16: Final = _FLAGS_6_12 | {"hwpoison": 21}
_SWAPBACKED: Final = frozenset({"swapbacked"})

_TYPES_4_18: Final = {"BUDDY": -129, "OFFLINE": -257}
_TYPES_6_9: Final = _TYPES_4_18 | {"HUGETLB": -2049}
_TYPES_6_11: Final = {"BUDDY": ~0x40000000, "OFFLINE": ~0x20000000, "HUGETLB": ~0x4000000, "SLAB": ~0x2000000}
_TYPES_6_12: Final = {"BUDDY": -268435456, "OFFLINE": -251658240, "HUGETLB": -201326592, "SLAB": -184549376}
_TYPES_6_16: Final = _TYPES_6_12 | {"UNACCEPTED": -150994944}


@dataclass(frozen=True, slots=True)
class Era:
    """One layout. flags: bit numbers; types: page types as _mapcount has them, signed; tail, refcount: names of keys.

    old_layout: lru comes behind _mapcount. unexported: flags that VMCOREINFO does not number.
    """

    name: str
    release: str
    flags: Mapping[str, int]
    types: Mapping[str, int]
    order: Order
    huge: Huge
    tail: str | None = "compound_head"
    refcount: str = "_refcount"
    old_layout: bool = False
    unexported: frozenset[str] = frozenset()


ERAS: Final = {
    era.name: era
    for era in (
        Era(
            "4.1",
            "4.1.0",
            _FLAGS_4_0 | {"swapcache": 16},
            {"BUDDY": -128},
            "word",
            "pointer",
            None,
            "_count",
            old_layout=True,
        ),
        Era("4.6", "4.6.0", _FLAGS_4_0, {"BUDDY": -128}, "u32", "id", "compound_head", "_count", old_layout=True),
        Era("4.9", "4.9.0", _FLAGS_4_0, {"BUDDY": -128}, "u32", "id", old_layout=True),
        Era("4.14", "4.14.0", _FLAGS_4_10, {"BUDDY": -128}, "u32", "id", old_layout=True, unexported=_SWAPBACKED),
        Era("4.16", "4.16.0", _FLAGS_4_10, {"BUDDY": -128}, "u8", "id", old_layout=True, unexported=_SWAPBACKED),
        Era("4.17", "4.17.0", _FLAGS_4_10, {"BUDDY": -128}, "u8", "id", old_layout=True),
        Era("4.19", "4.19.0", _FLAGS_4_10, {"BUDDY": -129}, "u8", "id"),
        Era("5.4", "5.4.0", _FLAGS_5, _TYPES_4_18, "u8", "id"),
        Era("6.1", "6.1.0", _FLAGS_5, _TYPES_4_18, "u8", "id"),
        Era("6.3", "6.3.0", _FLAGS_5, _TYPES_4_18, "folio", "folio"),
        Era("6.6", "6.6.0", _FLAGS_6_6, _TYPES_4_18, "flags", "bit"),
        Era("6.9", "6.9.0", _FLAGS_6_6, _TYPES_6_9, "flags", "type"),
        Era("6.10", "6.10.0", _FLAGS_6_10, _TYPES_6_9 | {"SLAB": -4097}, "flags", "type"),
        Era("6.11", "6.11.0", _FLAGS_6_10, _TYPES_6_11, "flags", "type"),
        Era("6.12", "6.12.0", _FLAGS_6_12, _TYPES_6_12, "flags", "type"),
        Era("6.16", "6.16.0", _FLAGS_6_16, _TYPES_6_16, "flags", "type"),
        Era("7.1", "7.1.0", _FLAGS_6_16, _TYPES_6_16, "flags", "type", "compound_info"),
    )
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets of the members of struct page, for one size of a word."""

    size: int
    lru: int
    mapping: int
    private: int
    mapcount: int
    refcount: int
    dtor: int
    order: int
    bits: int


def layout(era: Era, word: int) -> Layout:
    """Where the members stand. Source: Linux include/linux/mm_types.h of the time; v4.18 put lru first."""
    if era.old_layout:
        lru, mapping, private, mapcount = 3 * word + 8, word, 5 * word + 8, 3 * word
        size = 64 if word == 8 else 32
    else:
        lru, mapping, private, mapcount = word, 3 * word, 5 * word, 6 * word
        size = 64 if word == 8 else 40
    second = lru + word
    dtor, order = {
        "word": (lru, second),
        "u32": (second, second + word // 2),
        "folio": (size + second, size + second + 1),
    }.get(era.order, (second, second + 1))
    return Layout(size, lru, mapping, private, mapcount, mapcount + 4, dtor, order, word)


class Frames:
    """What each page frame is, as struct pages and as what a filter must make of them.

    vmemmap: virtual address of struct page 0. Frames that nothing is said of are reserved: kept at every level.
    """

    def __init__(self, era: Era, word: int = 8, byteorder: ByteOrder = "little", vmemmap: int = 0) -> None:
        self.era = era
        self.word = word
        self.byteorder: ByteOrder = byteorder
        self.vmemmap = vmemmap
        self.layout = layout(era, word)
        self.pages: dict[int, bytearray] = {}
        self.kinds: dict[int, tuple[str, bool]] = {}  # frame -> kind, whether the cache page is private
        self.poisoned: set[int] = set()
        self.orders = 11
        self.page_bytes = 4096
        self._blank = [self._new(refcount=0), self._new(refcount=1)]  # by reference count
        reserved = self._new(refcount=1)
        self._or_flags(reserved, 1 << 12)
        self._reserved = bytes(reserved)

    def describe(self, lines: dict[str, str]) -> None:
        """Add the keys of VMCOREINFO."""
        era, at = self.era, self.layout
        lines["OSRELEASE"] = era.release
        lines["SIZE(page)"] = str(at.size)
        for name, offset in (
            ("flags", 0),
            (era.refcount, at.refcount),
            ("mapping", at.mapping),
            ("lru", at.lru),
            ("_mapcount", at.mapcount),
            ("private", at.private),
        ):
            lines[f"OFFSET(page.{name})"] = str(offset)
        if era.order in {"u32", "u8"}:  # a word each before, where `lru` stands
            lines["OFFSET(page.compound_dtor)"] = str(at.dtor)
            lines["OFFSET(page.compound_order)"] = str(at.order)
        if era.order == "folio":
            lines["OFFSET(folio._folio_dtor)"] = str(at.dtor)
            lines["OFFSET(folio._folio_order)"] = str(at.order)
        if era.tail is not None:
            lines[f"OFFSET(page.{era.tail})"] = str(at.lru)
        for name in ("lru", "private", "swapcache", "swapbacked", "slab", "hwpoison"):
            if name in era.flags and name not in era.unexported:
                lines[f"NUMBER(PG_{name})"] = str(era.flags[name])
        lines["NUMBER(PG_head_mask)"] = str(1 << era.flags["head"])
        for name, value in era.types.items():
            lines[f"NUMBER(PAGE_{name}_MAPCOUNT_VALUE)"] = str(value)
        if era.huge == "pointer":
            lines["SYMBOL(free_huge_page)"] = f"{FREE_HUGE_PAGE % (1 << 8 * self.word):x}"
        elif era.huge in {"id", "folio"}:
            lines["NUMBER(HUGETLB_PAGE_DTOR)"] = str(HUGETLB_DTOR)
        elif era.huge == "bit":
            lines["NUMBER(PG_hugetlb)"] = "8"
        lines["LENGTH(zone.free_area)"] = str(self.orders)

    def page(self, pfn: int) -> bytes:
        """The struct page of a frame."""
        return bytes(self.pages.get(pfn, self._reserved))

    def array(self, first: int, count: int) -> bytes:
        """The struct pages of frames that follow each other."""
        page, reserved = self.pages.get, self._reserved
        return b"".join([page(pfn, reserved) for pfn in range(first, first + count)])

    def address(self, pfn: int) -> int:
        """Virtual address of a struct page."""
        return self.vmemmap + pfn * self.layout.size

    # What frames are.

    def free(self, pfn: int, order: int) -> None:
        """A free block."""
        self._plain(pfn, 1 << order, "free", refcount=0)
        self._put(pfn, self.layout.mapcount, self.era.types["BUDDY"], 4)
        self._put(pfn, self.layout.private, order)

    def unaccepted(self, pfn: int) -> None:
        """A block of memory that the guest has not accepted."""
        self._plain(pfn, 1 << self.orders - 1, "unaccepted", refcount=0)
        self._put(pfn, self.layout.mapcount, self.era.types["UNACCEPTED"], 4)

    def cache(self, pfn: int, order: int = 0, *, private: bool = False) -> None:
        """Page cache on a list."""
        self._plain(pfn, 1 << order, "cache", private=private)
        self._flag(pfn, "lru")
        self._put(pfn, self.layout.mapping, self._pointer(1, 0))
        if private:
            self._flag(pfn, "private")
            self._put(pfn, self.layout.private, self._pointer(2, 0))
        self._compound(pfn, order)

    def anon(self, pfn: int, order: int = 0) -> None:
        """Memory of a process, on a list, swap-backed."""
        self._plain(pfn, 1 << order, "user")
        self._flag(pfn, "lru")
        if "swapbacked" in self.era.flags:
            self._flag(pfn, "swapbacked")
        self._put(pfn, self.layout.mapping, self._pointer(3, 1))
        self._put(pfn, self.layout.mapcount, 126 if order == 0 else -1, 4)  # +1: 127 users, 0x7f of a free page of old
        self._compound(pfn, order)

    def swapcache(self, pfn: int, *, backed: bool = True) -> None:
        """A page off its list that is in the swap cache; without backing the flag is its owner's, since v4.10."""
        shared = "swapbacked" in self.era.flags
        told = not shared or (backed and not self.era.unexported)
        self._plain(pfn, 1, "cache" if told else "kernel")
        self._flag(pfn, "swapcache")
        if backed and shared:
            self._flag(pfn, "swapbacked")

    def swapped(self) -> set[int]:
        """Frames with the flag of the swap cache that are on no list."""
        mask, listed = 1 << self.era.flags["swapcache"], 1 << self.era.flags["lru"]
        words = ((pfn, int.from_bytes(page[: self.word], self.byteorder)) for pfn, page in self.pages.items())
        return {pfn for pfn, flags in words if flags & mask and not flags & listed}

    def kernel(self, pfn: int, order: int = 0) -> None:
        """Memory of the kernel, maybe compound."""
        self._plain(pfn, 1 << order, "kernel")
        self._compound(pfn, order)

    def table(self, pfn: int) -> None:
        """A page table, where page types are."""
        self._plain(pfn, 1, "kernel")
        buddy = self.era.types["BUDDY"]
        known = {-129: -513, ~0x40000000: ~0x10000000, -268435456: -234881024}
        self._put(pfn, self.layout.mapcount, known.get(buddy, -1), 4)

    def slab(self, pfn: int, order: int = 0) -> None:
        """Slab; where `mapping` is used for something else that is odd, and `_mapcount` looks like a free page's."""
        self._plain(pfn, 1 << order, "kernel")
        if "SLAB" in self.era.types:
            self._put(pfn, self.layout.mapcount, self.era.types["SLAB"], 4)
        else:
            self._flag(pfn, "slab")
            self._put(pfn, self.layout.mapcount, self.era.types["BUDDY"], 4)
        self._put(pfn, self.layout.mapping, self._pointer(4, 1))
        self._compound(pfn, order)

    def hugetlb(self, pfn: int, order: int, *, shared_tables: bool = False, anon: bool = False) -> None:
        """A page of hugetlbfs. shared_tables: pages of struct pages behind the first are the first once more.

        anon: mapped MAP_PRIVATE and written to.
        """
        self._plain(pfn, 1 << order, "user")
        if self.era.huge == "type":
            self._put(pfn, self.layout.mapcount, self.era.types["HUGETLB"], 4)
        if anon:
            self._put(pfn, self.layout.mapping, self._pointer(3, 1))
        self._compound(pfn, order, hugetlb=True)
        per_page = self.page_bytes // self.layout.size
        if shared_tables:
            for other in range(pfn + per_page, pfn + (1 << order)):
                self.pages[other] = bytearray(self.pages[pfn + (other - pfn) % per_page])

    def offline(self, pfn: int) -> None:
        """Taken away by the hypervisor."""
        self._plain(pfn, 1, "offline")
        self._put(pfn, self.layout.mapcount, self.era.types["OFFLINE"], 4)

    def poison(self, pfn: int) -> None:
        """Broken memory, on top of what the frame is; it matters only where nothing else leaves the frame out."""
        if pfn not in self.pages:
            self._plain(pfn, 1, "kernel")
        self.poisoned.add(pfn)
        self._flag(pfn, "hwpoison")

    # What a filter must make of them.

    def expected(self, level: int) -> dict[int, str]:
        """Class by frame, in the words of [exclude_class]; frames that are not in it are kept."""
        classes = {}
        for pfn, (kind, private) in self.kinds.items():
            if kind == "cache" and (level & 4 or (level & 2 and not private)):
                classes[pfn] = "cache_private" if private else "cache"
            elif (kind == "user" and level & 8) or (kind in {"free", "unaccepted"} and level & 16):
                classes[pfn] = kind
            elif level and pfn in self.poisoned:
                classes[pfn] = "hwpoison"
            elif kind == "offline" and level:
                classes[pfn] = kind
        return classes

    def free_pages(self) -> int:
        """What the zones must count."""
        return sum(kind in {"free", "unaccepted"} for kind, _ in self.kinds.values())

    def free_blocks(self) -> dict[int, int]:
        """Free blocks: frame of the first page -> order."""
        at = self.layout
        buddy = self._bytes(self.era.types["BUDDY"], 4)
        return {
            pfn: int.from_bytes(page[at.private : at.private + at.bits], self.byteorder)
            for pfn, page in self.pages.items()
            if self.kinds[pfn][0] == "free" and page[at.mapcount : at.mapcount + 4] == buddy
        }

    def link(self, pfn: int, after: int, before: int) -> None:
        """Put a struct page on a list: addresses of the next and the previous list_head."""
        self._put(pfn, self.layout.lru, after)
        self._put(pfn, self.layout.lru + self.word, before)

    def _plain(self, pfn: int, count: int, kind: str, *, refcount: int = 1, private: bool = False) -> None:
        blank = self._blank[refcount]
        for number in range(pfn, pfn + count):
            self.pages[number] = blank.copy()
            self.kinds[number] = kind, private

    def _compound(self, pfn: int, order: int, *, hugetlb: bool = False) -> None:
        """Make a compound page of a head and what follows."""
        if order == 0:
            return
        era, at = self.era, self.layout
        self._flag(pfn, "head")
        for tail in range(pfn + 1, pfn + (1 << order)):
            if era.tail is not None:
                mark = self.address(pfn) if era.tail == "compound_head" else -(at.size << order)
                self._put(tail, at.lru, mark | 1)
            elif era.huge == "pointer":
                self._or_flags(self.pages[tail], 2 << era.flags["head"])
            else:
                self._put(tail, at.lru, self.address(pfn) | 1)
            self._put(tail, at.refcount, 0, 4)
        second = pfn + 1
        size = {"word": self.word, "u32": 4 if self.word == 8 else 2, "u8": 1, "folio": 1}.get(era.order, 0)
        if size:
            dtor = (FREE_HUGE_PAGE if era.huge == "pointer" else HUGETLB_DTOR) if hugetlb else 1
            shift = at.size if era.order == "folio" else 0
            self._put(second, at.dtor - shift, dtor, size)
            self._put(second, at.order - shift, order, size)
        else:
            self._or_flags(self.pages[second], order | (1 << 8 if era.huge == "bit" and hugetlb else 0))

    def _pointer(self, number: int, low_bits: int) -> int:
        """An address that every kernel may have, with bits below it."""
        return -(1 << 30) + number * 0x1000 + low_bits

    def _new(self, refcount: int) -> bytearray:
        page = bytearray(self.layout.size)
        page[self.layout.mapcount : self.layout.mapcount + 4] = b"\xff" * 4
        page[self.layout.refcount : self.layout.refcount + 4] = self._bytes(refcount, 4)
        self._or_flags(page, 1 << 8 * self.word - 6)  # node, zone
        return page

    def _flag(self, pfn: int, name: str) -> None:
        self._or_flags(self.pages[pfn], 1 << self.era.flags[name])

    def _or_flags(self, page: bytearray, mask: int) -> None:
        page[: self.word] = self._bytes(int.from_bytes(page[: self.word], self.byteorder) | mask, self.word)

    def _put(self, pfn: int, offset: int, value: int, size: int | None = None) -> None:
        size = size or self.word
        self.pages[pfn][offset : offset + size] = self._bytes(value, size)

    def _bytes(self, value: int, size: int) -> bytes:
        return (value % (1 << 8 * size)).to_bytes(size, self.byteorder)
