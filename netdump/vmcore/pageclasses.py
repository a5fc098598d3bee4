"""Classes of many pages at a time, equal to what structpage.py says of each.

Owns the way from code bytes to classes, and the blocks: free ones and compound pages, whose first page speaks for all.
Must not read memory.

How: one translate turns code bytes into classes. Free blocks are put over them (freeblocks.py). Compound pages and rare
kinds are few and are looked at one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.pages import ExcludeClass
from netdump.vmcore.freeblocks import FreeBlocks
from netdump.vmcore.pagecodes import (
    ANON,
    HEAD,
    LRU,
    ODD,
    PRIVATE,
    SLAB,
    SLAB_PAGES,
    SWAPCACHE,
    TAIL,
    PageCodes,
    repeat,
    table,
)
from netdump.vmcore.structpage import KEEP, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.vmcore.pagecodes import Codes
    from netdump.vmcore.structpage import PageRules, Wanted
    from netdump.vmcore.zonebyte import ZoneByte

    Confirm = Callable[[int, Verdict], bool]

# What a code byte becomes before the last step: a class, or one of these.
_CLOSER: Final = 0x10  # to be judged by itself
_HEAD_OF: Final = 0x20  # plus a class: head of a compound page of that class
_DOUBT: Final = 0x40  # flags that no page has together

_HEADS_EVERY: Final = 4

_IS_TAIL: Final = table(lambda code: 1 if code & TAIL else 0)
_IS_SOMETHING: Final = table(lambda code: 0xFF if code else 0)
_IS_IN_USE: Final = table(lambda code: 0xFF if code & (LRU | ANON | HEAD) and not code & (SLAB | TAIL | ODD) else 0)
_POISON_ONLY: Final = bytes((0, ODD))
_OFFLINE_ALL: Final = repeat(ExcludeClass.OFFLINE, SLAB_PAGES)


_FILLS: Final = tuple(  # never written to; put into a bytearray, a bytearray takes 50 ns, but bytes 200
    tuple(bytearray((exclude,)) * (1 << order) for order in range(SLAB_PAGES.bit_length())) for exclude in ExcludeClass
)


class Tally(NamedTuple):
    """What one call found. classes: one byte a page, an ExcludeClass.

    beyond: the page frame at which a block ends that goes on behind the last page, and its class; None if none does.
    doubts: blocks or pages that were kept because what they say makes no sense, as the classes they claim to be of.
    heads, headless: see Codes; 0 most of the time, for the first call and every fourth one are looked at.
    """

    classes: bytearray
    beyond: tuple[int, ExcludeClass] | None
    doubts: list[ExcludeClass]
    heads: int
    headless: int


class _Slab:
    """The run of pages that is being classified. Numbers of pages count from its start."""

    __slots__ = ("beyond", "classes", "codes", "data", "doubts", "free_byte", "pages", "pfn", "tails")

    def __init__(self, data: bytearray, pages: int, pfn: int, codes: Codes, free_byte: bytes) -> None:
        self.data = data
        self.pages = pages
        self.pfn = pfn
        self.codes = codes
        self.free_byte = free_byte
        self.classes = bytearray()
        self.tails: bytearray | None = None  # 1 for tails, made when first asked for
        self.beyond: tuple[int, ExcludeClass] | None = None
        self.doubts: list[ExcludeClass] = []

    def nothing_inside(self, start: int, end: int) -> bool:
        """Whether all pages of a range have neither flags nor a type."""
        return self.codes.are_zero(start, end) and self._no_type_inside(start, end)

    def only_poison_inside(self, start: int, end: int, rules: PageRules) -> bool:
        """The same but for pages that are broken: a free page that breaks may stay on its list, up to v5.9."""
        codes = self.codes.codes
        if codes is None or codes[start:end].translate(None, _POISON_ONLY) or not self._no_type_inside(start, end):
            return False
        page = codes.find(ODD, start, end)
        while page >= 0:
            if not rules.is_poison_only(self.data, page * rules.size):
                return False
            page = codes.find(ODD, page + 1, end)
        return True

    def _no_type_inside(self, start: int, end: int) -> bool:
        """Whether no page of a range is of a type that its code byte does not tell: free, or offline."""
        kinds = self.codes.kinds
        if kinds is not None and kinds.find(self.free_byte, start, end) >= 0:
            return False
        return not self.codes.offline >> 8 * start & (1 << 8 * (end - start)) - 1

    def tails_inside(self, start: int, end: int) -> int:
        """How many pages of a range say that they belong to a compound page."""
        return self._tails().count(1, start, end)

    def others_among(self, start: int, end: int, step: int) -> int:
        """How many pages do not say so, of the first of a range and each step-th one behind it."""
        return self._tails()[start:end:step].count(0)

    def _tails(self) -> bytearray:
        if self.tails is None:
            self.tails = (self.codes.codes or bytearray(self.pages)).translate(_IS_TAIL)
        return self.tails


class Classifier:
    """Classifies runs of struct pages. confirm(pfn, verdict): whether a block that reaches beyond is what it says."""

    __slots__ = ("_actions", "_calls", "_codes", "_confirm", "_free", "_rules", "_shared", "_specials", "_wanted")

    def __init__(
        self, rules: PageRules, zone_byte: ZoneByte, wanted: Wanted, page_bytes: int, confirm: Confirm
    ) -> None:
        self._rules = rules
        self._wanted = wanted
        self._confirm = confirm
        self._calls = 0
        self._codes = PageCodes(rules, zone_byte)
        can = wanted.free and rules.types.buddy is not None and rules.private is not None
        self._free = FreeBlocks(rules, self._codes) if can else None
        self._shared = page_bytes // rules.size
        self._actions = bytes(_action(code, rules, wanted) for code in range(256))
        self._specials = tuple(sorted({action for action in self._actions if action >= _CLOSER}))

    def classify(self, data: bytearray, pages: int, pfn: int) -> Tally:
        """Classes of 1 .. SLAB_PAGES pages. data: their struct pages, from that of frame pfn on, and one more: zeros if
        there is none.

        They must not cross a multiple of SLAB_PAGES.
        """
        codes = self._codes.read(data, pages, pfn)
        slab = _Slab(data, pages, pfn, codes, self._codes.free_byte)
        closer: list[tuple[int, int]] = []
        if codes.codes is not None:
            slab.classes = codes.codes.translate(self._actions)
            for special in self._specials:
                if special in slab.classes:
                    closer.extend(_iter_found(slab.classes, special))
            closer.sort()
        else:
            slab.classes = bytearray(pages)
        if codes.offline and self._wanted.offline:
            self._mark_offline(slab)
        if self._free is not None:
            for page in self._free.mark(data, pfn, codes, slab.classes):
                if codes.codes is None or not codes.codes[page] & (SLAB | TAIL):  # those use _mapcount for other things
                    self._place(slab, page, self._judge(slab, page), ExcludeClass.FREE)
        if closer:
            self._look_closer(slab, closer)
        self._calls += 1
        heads, headless = codes.heads() if self._calls % _HEADS_EVERY == 1 else (0, 0)
        return Tally(slab.classes, slab.beyond, slab.doubts, heads, headless)

    def _judge(self, slab: _Slab, page: int) -> Verdict:
        return self._rules.judge(slab.data, page * self._rules.size, slab.pfn + page, self._wanted)

    def _mark_offline(self, slab: _Slab) -> None:
        """Mark pages that are offline and nothing else. Slab and tails use _mapcount for other things."""
        offline = slab.codes.offline
        if slab.codes.codes is not None:
            if offline & int.from_bytes(slab.codes.codes.translate(_IS_IN_USE), "little"):
                slab.doubts.append(ExcludeClass.OFFLINE)
            offline &= ~int.from_bytes(slab.codes.codes.translate(_IS_SOMETHING), "little")
        assert self._rules.types.offline is not None
        offline &= self._codes.exact(slab.data, slab.pages, self._rules.types.offline)
        classes = int.from_bytes(slab.classes, "little") | offline & _OFFLINE_ALL
        slab.classes[:] = classes.to_bytes(slab.pages, "little")

    def _look_closer(self, slab: _Slab, closer: list[tuple[int, int]]) -> None:
        """Decide on the pages that need it, given with what their code bytes became."""
        cursor = 0
        for page, action in closer:
            if page < cursor or slab.classes[page] != action:  # of a block that is known already
                continue
            if action == _DOUBT:
                slab.classes[page] = ExcludeClass.NONE
                slab.doubts.append(ExcludeClass.CACHE)
            elif action & _HEAD_OF:
                order = self._rules.order(slab.data, page * self._rules.size, slab.pfn + page)
                end = page + (1 << order)
                if order and end <= slab.pages and slab.tails_inside(page + 1, end) == end - page - 1:
                    slab.classes[page:end] = _FILLS[action & 0xF][order]  # nearly always, so it is quick
                    cursor = end
                    continue
                verdict = self._judge(slab, page) if order else KEEP  # a process's own huge page of hugetlbfs, maybe
                cursor = self._place(slab, page, verdict, ExcludeClass(action & 0xF))
            else:
                cursor = self._place(slab, page, self._judge(slab, page), None)

    def _place(self, slab: _Slab, page: int, verdict: Verdict, claimed: ExcludeClass | None) -> int:
        """Mark a page, or a block that begins with it, if the block holds what it must. Returns where it ends.

        claimed: the class it seems to be of, if to be of none is odd.
        """
        exclude, order, hugetlb = verdict
        if hugetlb and not order and self._rules.compound is not None:
            exclude, claimed = ExcludeClass.NONE, exclude
        end = page + (1 << order)
        inside = min(end, slab.pages)
        slab.classes[page] = exclude
        if exclude == ExcludeClass.NONE:
            if claimed is not None and self._rules.compound is not None:
                slab.doubts.append(claimed)
            return page + 1
        if verdict.is_free:
            start = page + 1
            whole = slab.nothing_inside(start, inside) or slab.only_poison_inside(start, inside, self._rules)
        else:
            others = inside - page - 1 - slab.tails_inside(page + 1, inside)
            if others and hugetlb:
                # Pages of memory full of struct pages may be the first one once more, which begins with the head.
                others -= slab.others_among(page + self._shared, inside, self._shared)
            whole = others == 0
        whole = whole and not (slab.pfn + page) & (1 << order) - 1
        if not whole or (end > inside and not self._confirm(slab.pfn + page, verdict)):
            slab.classes[page] = ExcludeClass.NONE
            slab.doubts.append(exclude)
            return page + 1
        slab.classes[page:inside] = bytes((exclude,)) * (inside - page)
        if end > inside:
            slab.beyond = slab.pfn + end, exclude
        return inside


def _iter_found(classes: bytearray, special: int) -> Iterator[tuple[int, int]]:
    """Pages that became this, with it. A search for one byte is far cheaper than one for any of a few."""
    page = classes.find(special)
    while page >= 0:
        yield page, special
        page = classes.find(special, page + 1)


def _action(code: int, rules: PageRules, wanted: Wanted) -> int:
    """What a code byte becomes: a class, or a number that says how to go on."""
    if code & TAIL:
        return ExcludeClass.NONE
    if code & ODD:
        return _CLOSER
    if code & LRU and code & SLAB:
        return _DOUBT
    anon = bool(code & ANON) and not code & SLAB
    exclude = ExcludeClass.NONE
    if not anon and (wanted.cache or wanted.cache_private):
        if code & LRU:
            if not code & PRIVATE:
                exclude = ExcludeClass.CACHE
            elif wanted.cache_private:
                exclude = ExcludeClass.CACHE_PRIVATE
        elif code & SWAPCACHE:
            return _CLOSER
    if anon and wanted.user:
        exclude = ExcludeClass.USER
    if code & HEAD:
        if exclude != ExcludeClass.NONE:
            return _HEAD_OF | exclude
        if wanted.user and not code & SLAB and rules.compound is not None and rules.compound.huge_at is not None:
            return _CLOSER
    return exclude
