"""How this very kernel writes struct page: offsets, flag bits, page types, where the order of a compound page stands.

Owns what VMCOREINFO says of struct page. Must not read memory. A key that is absent is unknown: the classes that need
it are not left out, and a sentence says why. No kernel version is asked for: what is exported, and how its parts lie
to each other, tells.

Page types stand in _mapcount: -128 and the like up to v4.17, a cleared flag of ~0 up to v6.11, a value in the top byte
since v6.12 (Linux commit 4ffca5a96678 ("mm: support only one page_type per page")). Which number goes with which other
one is known; a number that does not fit the others is not believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import KernelDataError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.pageflags import mask, read_flag_bits
from netdump.vmcore.structpage import Compound, PageRules, PageTypes

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.pageflags import FlagBits
    from netdump.vmcore.structpage import Wanted
    from netdump.vmcore.vmcoreinfo import Vmcoreinfo

PAGE_STRUCT_BYTES: Final = range(32, 97)
"""Sizes that a struct page may have: 32 to 44 with words of 4 bytes, 56 to 96 with words of 8."""

ORDERS: Final = range(1, 33)
"""Numbers of buddy orders that a kernel may have; 11 nearly everywhere, 14 with 64 KiB pages."""

_HUGETLB_PAGE_DTOR: Final = 2  # in every kernel that had it: 1 is any compound page's

_HEAD_BESIDE_ORDER: Final = 6  # number of PG_head where orders stand in the flags of the second struct page

_U32: Final = (1 << 32) - 1

_FAMILIES: Final = (
    # Linux v4.0: PAGE_BUDDY_MAPCOUNT_VALUE (-128).
    PageTypes(buddy=-128 & _U32, offline=None, hugetlb=None, slab=None, unaccepted=None),
    # Linux commit 6e292b9be7f4 ("mm: split page_type out from _mapcount") (in v4.18), to v6.10.
    PageTypes(buddy=~0x80 & _U32, offline=~0x100 & _U32, hugetlb=~0x800 & _U32, slab=~0x1000 & _U32, unaccepted=None),
    # Linux commit 8db00ad56461 ("mm: allow reuse of the lower 16 bit of the page type with an actual type") (in v6.11).
    PageTypes(
        buddy=~0x4000_0000 & _U32,
        offline=~0x2000_0000 & _U32,
        hugetlb=~0x0400_0000 & _U32,
        slab=~0x0200_0000 & _U32,
        unaccepted=None,
    ),
    # Linux commit 4ffca5a96678 ("mm: support only one page_type per page") (in v6.12).
    PageTypes(buddy=0xF0 << 24, offline=0xF1 << 24, hugetlb=0xF4 << 24, slab=0xF5 << 24, unaccepted=0xF7 << 24),
)


class Refusals(NamedTuple):
    """Why a class cannot be told by what VMCOREINFO says; None where it can."""

    cache: str | None = None
    cache_private: str | None = None
    user: str | None = None
    free: str | None = None
    poison: str | None = None
    offline: str | None = None

    def apply(self, wanted: Wanted) -> Wanted:
        """What is left of what is wanted."""
        return wanted._replace(**{name: getattr(wanted, name) and reason is None for name, reason in self._pairs()})

    def of(self, wanted: Wanted) -> tuple[str, ...]:
        """The reasons that matter, each once."""
        return tuple(dict.fromkeys(reason for name, reason in self._pairs() if reason and getattr(wanted, name)))

    def _pairs(self) -> list[tuple[str, str | None]]:
        return list(zip(self._fields, self, strict=True))


def read_rules(info: Vmcoreinfo, headers: ElfHeaders) -> tuple[PageRules, Refusals]:
    """The rules of this kernel, and what they cannot tell.

    Raises KernelDataError if not even a struct page can be found, or if the numbers contradict each other.
    """
    word = headers.word_bytes
    size = info.need("SIZE", "page")
    if size not in PAGE_STRUCT_BYTES or size % 4:
        raise KernelDataError(f"a struct page of {size} bytes makes no sense")
    lru = info.need("OFFSET", "page.lru")
    tail = info.offset("page.compound_head")
    if tail is None:  # renamed in v7.1; before v4.6 not exported, but always where lru.next is
        tail = info.offset("page.compound_info")
    bits = read_flag_bits(info)
    types, odd = _read_types(info)
    orders = info.length("zone.free_area") or 0
    rules = PageRules(
        size=size,
        word=word,
        byteorder=headers.byteorder,
        flags=info.need("OFFSET", "page.flags"),
        mapping=info.offset("page.mapping"),
        mapcount=info.need("OFFSET", "page._mapcount"),
        private=info.offset("page.private"),
        refcount=_first(info.offset("page._refcount"), info.offset("page._count")),
        lru=lru,
        tail=lru if tail is None else tail,
        tail_is_pointer=info.offset("page.compound_info") is None,
        lru_mask=mask(bits.lru),
        private_mask=mask(bits.private),
        swapcache_mask=mask(bits.swapcache),
        swapbacked_mask=mask(bits.swapbacked),
        slab_mask=mask(bits.slab),
        poison_mask=mask(bits.hwpoison),
        head_mask=mask(bits.head),
        tail_mask=_tail_mask(info, bits),
        types=types,
        compound=_read_compound(info, size, headers, bits),
        orders=orders if orders in ORDERS else 0,
    )
    _check_offsets(rules)
    return rules, _refusals(rules, odd)


def unknown_compounds(rules: PageRules, wanted: Wanted) -> tuple[str, ...]:
    """What to say of compound pages that are kept for want of a key, though single pages of their class are not."""
    if not (wanted.cache or wanted.user):
        return ()
    if not rules.head_mask or rules.compound is None:
        return ("VMCOREINFO does not say how large compound pages are: most of their pages are sent",)
    if wanted.user and rules.compound.huge_at is None and rules.types.hugetlb is None:
        return ("VMCOREINFO does not say which pages are of hugetlbfs: if there are any, they are sent",)
    return ()


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _tail_mask(info: Vmcoreinfo, bits: FlagBits) -> int:
    """PG_tail, which came right after PG_head and went in v4.4; those kernels told hugetlb pages by a pointer.

    With 32 bits PG_swapcache stood there instead, and tails were told by two flags: not worth it, they are kept.
    """
    old = info.number("HUGETLB_PAGE_DTOR") is None and info.symbol("free_huge_page") is not None
    if old and bits.head is not None and bits.swapcache != bits.head + 1:
        return 2 << bits.head
    return 0


def _read_types(info: Vmcoreinfo) -> tuple[PageTypes, tuple[str, ...]]:
    """The page types of this kernel, and the names of those whose number does not fit to the others."""
    said = PageTypes(
        *(
            None if (number := info.number(f"PAGE_{name.upper()}_MAPCOUNT_VALUE")) is None else number & _U32
            for name in PageTypes._fields
        )
    )
    family = next((known for known in _FAMILIES if known.buddy == said.buddy), None)
    if family is None:
        return PageTypes(None, None, None, None, None), tuple(
            name for name, value in zip(PageTypes._fields, said, strict=True) if value is not None
        )
    odd = tuple(
        name
        for name, value, known in zip(PageTypes._fields, said, family, strict=True)
        if value is not None and value != known
    )
    believed = PageTypes(*(value if value == known else None for value, known in zip(said, family, strict=True)))
    return believed, odd


def _read_compound(info: Vmcoreinfo, size: int, headers: ElfHeaders, bits: FlagBits) -> Compound | None:
    """How the order of a compound page and hugetlb are told, newest way first. Source: kdump-world b.1."""
    flags, word = info.need("OFFSET", "page.flags"), headers.word_bytes
    low_byte = size + flags + (0 if headers.byteorder == "little" else word - 1)
    if info.number("PAGE_HUGETLB_MAPCOUNT_VALUE") is not None:  # v6.9, commit d99e3140a4d3
        return Compound(low_byte, 1)
    bit = info.number("PG_hugetlb")
    if bit is not None:  # v6.6, commit 9c5ccf2db04b
        if not 8 <= bit < 32:
            raise KernelDataError(f"PG_hugetlb {bit} is not a bit of the page flags")
        return Compound(low_byte, 1, size + flags, word, 1 << bit, 1 << bit)
    if bits.head == _HEAD_BESIDE_ORDER:
        # v6.6, commit ebc1baf5c9b4; without CONFIG_HUGETLB_PAGE no key says so before v6.9
        return Compound(low_byte, 1)
    dtor = info.number("HUGETLB_PAGE_DTOR")
    if dtor not in {None, _HUGETLB_PAGE_DTOR}:
        raise KernelDataError(f"HUGETLB_PAGE_DTOR {dtor} is not known")
    order_at, dtor_at = info.offset("folio._folio_order"), info.offset("folio._folio_dtor")
    if order_at is not None:  # v6.3, commit 1c5509be58f6
        if dtor is None or dtor_at is None:
            return Compound(order_at, 1)
        return Compound(order_at, 1, dtor_at, 1, 0xFF, dtor)
    order_at, dtor_at = info.offset("page.compound_order"), info.offset("page.compound_dtor")
    if order_at is None and _tail_mask(info, bits):  # up to v4.3 no key said so: destructor and order, a word each
        dtor_at = info.need("OFFSET", "page.lru")
        order_at = dtor_at + word
    if order_at is None:
        return None
    if dtor_at is None:
        return Compound(size + order_at, 1)
    width = min(order_at - dtor_at, word)  # of the two members, which stand one after the other
    if width not in {1, 2, 4, 8}:
        raise KernelDataError("the members of struct page for the order of compound pages lie oddly")
    if dtor is None:  # before v4.4 the destructor was a pointer
        dtor = info.symbol("free_huge_page")
    order_bytes = min(width, 4)
    if dtor is None:
        return Compound(size + order_at, order_bytes)
    return Compound(size + order_at, order_bytes, size + dtor_at, width, (1 << 8 * width) - 1, dtor)


def _check_offsets(rules: PageRules) -> None:
    """The members must lie as in some kernel: flags first, then either of two orders.

    Since v4.18 (Linux commit 4da1984edbbe ("mm: combine LRU and main union in struct page")): lru, mapping, index,
    private, _mapcount, _refcount. Before: mapping, index, _mapcount, _refcount, lru, private.
    """
    word = rules.word
    new = rules.lru == word and rules.mapping in {None, 3 * word} and rules.private in {None, 5 * word}
    new = new and rules.mapcount == 6 * word
    old = rules.mapping in {None, word} and rules.mapcount == 3 * word and rules.lru == 3 * word + 8
    old = old and rules.private in {None, rules.lru + 2 * word}
    if rules.flags or not (new or old) or rules.refcount not in {None, rules.mapcount + 4} or rules.tail != rules.lru:
        raise KernelDataError("the members of struct page lie as in no kernel that is known")
    if max(rules.mapcount + 8, rules.lru + 2 * word, (rules.private or 0) + word) > rules.size:
        raise KernelDataError(f"the members of struct page lie outside its {rules.size} bytes")
    rule = rules.compound
    if rule is not None:
        places = [(rule.order_at, rule.order_bytes)]
        if rule.huge_at is not None:
            places.append((rule.huge_at, rule.huge_bytes))
        if any(not rules.size <= at <= 2 * rules.size - length for at, length in places):
            raise KernelDataError("the order of compound pages does not stand in the second struct page")


def _refusals(rules: PageRules, odd: tuple[str, ...]) -> Refusals:
    """What cannot be told without the keys that are absent."""
    cache = user = free = private = offline = None
    if not rules.lru_mask:
        cache = "VMCOREINFO does not say which pages are cache (PG_lru)"
    if rules.mapping is None:
        cache = user = "VMCOREINFO has no OFFSET(page.mapping)"
    if not rules.private_mask:
        private = "VMCOREINFO does not say which cache pages are private (PG_private)"
    if not rules.slab_mask and rules.types.slab is None:
        free = offline = "VMCOREINFO does not say which pages are slab"
        user = user or free
    if rules.types.buddy is None:
        free = "VMCOREINFO does not say which pages are free"
    elif rules.private is None or not rules.orders:
        free = "VMCOREINFO does not say how large a free block is"
    if odd:
        offline = f"the page types of this kernel are not known (PAGE_{odd[0].upper()}_MAPCOUNT_VALUE)"
        if rules.types.buddy is None:
            free = offline
        if rules.types.buddy is None or "slab" in odd or "hugetlb" in odd:
            user = offline
    return Refusals(cache or private, cache or private, user, free, None, offline)
