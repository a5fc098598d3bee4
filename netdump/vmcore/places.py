"""Whether struct pages are those of the frames that the page tables say, by what they know of their own place.

Owns this comparison. Must not classify.

One entry of the page tables that lies shows the struct pages of other frames: they make as much sense as any, and would
leave out the wrong frames. But struct pages know where they are. The list neighbours of a page on a list point back at
it, and the rest of a compound page points at the head in front of it. One such witness speaks for all that is mapped
with it, so each stretch that is mapped as one is asked about once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.pages import ExcludeClass
from netdump.vmcore.structpage import byte_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.paging import Extent
    from netdump.vmcore.structpage import Verdict, Wanted

_UNIT_SHIFT: Final = 21  # 2 MiB of struct pages are mapped as one where the tables allow it
_KNOWN_KEPT: Final = 256
_NEAR_FRAMES: Final = 512  # whose struct pages are read at once: 32 KiB
_TABLE_BYTES: Final = 4096  # of a page of memory, on any machine; what is moved is a multiple of it or less
_TABLE_LOOKS: Final = 16
_LOOKS: Final = 8  # for a witness in each class of a stretch
_ELSEWHERE_MAX: Final = 3  # pages that are elsewhere: then all is. A crash may catch a list half way
_HERE_ENOUGH: Final = 3  # pages that are in place outweigh one that is not: regular lists may seem to fit elsewhere too
_RIGHT: Final = -1
_NOWHERE: Final = (-1, 0)

_ODD_NUMBERS: Final = bytes(range(1, 256, 2))

_CLASSES: Final = (ExcludeClass.CACHE, ExcludeClass.CACHE_PRIVATE, ExcludeClass.USER, ExcludeClass.FREE)


class Stretch(NamedTuple):
    """Struct pages that are mapped as one. start, end: bytes from the first of a slab; paddr: where start is.

    repeated: whether each page of memory of them is mapped to the one at paddr: see Extent.
    """

    start: int
    end: int
    paddr: int
    repeated: bool = False


class Places:
    """Remembers which mappings of struct pages are right, and which are not."""

    __slots__ = ("_doubted", "_elsewhere", "_home", "_last", "_mute", "_near", "_pages")

    def __init__(self, pages: PageArray) -> None:
        self._pages = pages
        self._elsewhere: dict[
            tuple[int, int], int
        ] = {}  # mapping -> how many of its pages said that they are not there
        self._doubted = 0  # how many of them have one that said so
        self._last = _NOWHERE  # the mapping of the slab before, if that was right
        self._home = -1  # 2 MiB of physical memory in which struct pages were found last
        self._mute = -1  # physical address of a page of them that do not say where they are, found repeated last
        self._near = (-1, bytearray())  # a frame, and the struct pages from its own on, asked about last

    def unproven(self, vaddr: int, length: int) -> list[Stretch]:
        """The parts of a slab of struct pages of which it is not known yet that they are in place. Mostly none."""
        found = self._pages.space.translate(vaddr, length)
        if found is not None and found[1] == length and _mapping(vaddr, found[0]) == self._last:
            return []
        stretches = []
        for extent in self._pages.space.extents(vaddr, length):
            if extent.repeated and extent.paddr == self._mute and not self._doubted:
                continue
            for stretch in _iter_stretches(vaddr, extent):
                self._last = _mapping(vaddr + stretch.start, stretch.paddr)
                if stretch.repeated or self._elsewhere.get(self._last) != _RIGHT:
                    stretches.append(stretch)
        if stretches:
            self._last = _NOWHERE
        return stretches

    def is_stray(self, stretch: Stretch, wanted: Wanted) -> bool:
        """Whether struct pages lie in memory that would be left out itself. Asked once for each 2 MiB of it.

        What is mapped by itself, page by page, is asked about page by page.
        """
        home = stretch.paddr >> _UNIT_SHIFT
        alone = stretch.repeated or stretch.end - stretch.start <= self._pages.space.page_bytes
        if home == self._home and not alone:
            return False
        if self._judge(stretch.paddr // self._pages.page_bytes, wanted).exclude != ExcludeClass.NONE:
            return True
        self._home = home
        return False

    def _judge(self, pfn: int, wanted: Wanted) -> Verdict:
        """PageArray.judge, quick for frames that are near each other."""
        pages, first = self._pages, pfn - pfn % _NEAR_FRAMES
        if first != self._near[0]:
            vaddr, there = pages.locate(first)
            if vaddr is None or there < _NEAR_FRAMES:
                return pages.judge(pfn, wanted)
            data = bytearray(min(there, _NEAR_FRAMES + 1) * pages.rules.size)
            pages.fill(vaddr, memoryview(data))
            self._near = first, data
        return pages.rules.judge(self._near[1], (pfn - first) * pages.rules.size, pfn, wanted)

    def hold(self, stretch: Stretch, vaddr: int, data: bytearray, classes: bytearray) -> bool:
        """Whether what a stretch says may be believed: its witnesses say so, or it has none.

        vaddr, data, classes: of the whole slab. Raises nothing.
        """
        if stretch.repeated:
            return self._hold_repeated(stretch, vaddr, data, classes)
        mapping = _mapping(vaddr + stretch.start, stretch.paddr)
        elsewhere = self._elsewhere.get(mapping, 0)
        if elsewhere >= _ELSEWHERE_MAX:
            return False
        size = self._pages.rules.size
        first, last = stretch.start // size, min(len(classes), -(-stretch.end // size))
        last = self._last_to_ask(data, first, last)
        if first == last:
            return not elsewhere
        here = 0
        for page in _iter_witnesses(classes, first, last):
            there = self._pages.stands_at(vaddr + page * size, data, page * size)
            here += there is True
            elsewhere += there is False
            if here >= _HERE_ENOUGH and not elsewhere:
                break
        right = here > elsewhere * _HERE_ENOUGH
        if right or elsewhere:
            self._remember(mapping, _RIGHT if right else elsewhere)
        return right or not elsewhere

    def _hold_repeated(self, stretch: Stretch, vaddr: int, data: bytearray, classes: bytearray) -> bool:
        """The same for one page of memory in many places: asked once where it does not say where it is."""
        size, page_bytes = self._pages.rules.size, self._pages.space.page_bytes
        starts = range(stretch.start, stretch.end, page_bytes)
        first, last = stretch.start // size, -(-min(stretch.end, stretch.start + page_bytes) // size)
        if page_bytes % size == 0 and self._last_to_ask(data, first, min(len(classes), last)) == first:
            if stretch.end - stretch.start > page_bytes:
                self._mute = stretch.paddr
            return not self._doubted or not any(
                self._elsewhere.get(_mapping(vaddr + start, stretch.paddr), 0) > 0 for start in starts
            )
        return all(
            self._elsewhere.get(_mapping(vaddr + start, stretch.paddr)) == _RIGHT
            or self.hold(Stretch(start, min(start + page_bytes, stretch.end), stretch.paddr), vaddr, data, classes)
            for start in starts
        )

    def _last_to_ask(self, data: bytearray, first: int, last: int) -> int:
        """Where the pages end that may say where they are.

        The rest of compound pages does not where it does not point at the head. Where hugetlb pages share theirs, each
        page of memory full of struct pages is a stretch by itself, and all but the first have nothing else.
        """
        rules = self._pages.rules
        if rules.tail_is_pointer:
            return last
        low = byte_place(rules, rules.tail, rules.word, 0)
        return first + len(data[first * rules.size + low : last * rules.size : rules.size].rstrip(_ODD_NUMBERS))

    def blank_others(self, vaddr: int, data: bytearray, classes: bytearray) -> bool:
        """Let the pages of memory whose struct pages are those of other frames say nothing but their node and zone.

        For slabs of which something makes no sense: parts of what is mapped as one may have been copied or moved. Each
        page of memory is looked at by itself. Tells whether there was one. vaddr, data, classes: of the whole slab.
        """
        size, found = self._pages.rules.size, False
        done, length = 0, len(classes) * size
        while done < length:
            end = min(length, done + _TABLE_BYTES - (vaddr + done) % _TABLE_BYTES)
            first, last = done // size, -(-end // size)
            if self._are_elsewhere(vaddr, data, classes, range(first, last)):
                self._blank(data, first * size, last * size)
                found = True
            done = end
        return found

    def _blank(self, data: bytearray, start: int, end: int) -> None:
        """Between two bytes of a slab that struct pages begin with."""
        rules = self._pages.rules
        kept = [byte_place(rules, rules.flags, rules.word, part) for part in range(max(3, rules.word // 2), rules.word)]
        columns = [data[start + place : end : rules.size] for place in kept]
        data[start:end] = bytes(end - start)
        for place, column in zip(kept, columns, strict=True):
            data[start + place : end : rules.size] = column

    def _are_elsewhere(self, vaddr: int, data: bytearray, classes: bytearray, pages: range) -> bool:
        """Whether more of some pages say that they are elsewhere than that they are not."""
        size = self._pages.rules.size
        wanted = [page for page in pages if classes[page]]
        votes = 0
        for page in wanted[:: max(1, len(wanted) // _TABLE_LOOKS)]:
            there = self._pages.stands_at(vaddr + page * size, data, page * size)
            votes += (there is False) - (there is True)
        return votes > 0

    def _remember(self, mapping: tuple[int, int], elsewhere: int) -> None:
        if len(self._elsewhere) >= _KNOWN_KEPT:
            self._doubted -= self._elsewhere.pop(next(iter(self._elsewhere))) > 0
        self._doubted += (elsewhere > 0) - (self._elsewhere.get(mapping, 0) > 0)
        self._elsewhere[mapping] = elsewhere


def _mapping(vaddr: int, paddr: int) -> tuple[int, int]:
    """What all struct pages that are mapped as one have in common."""
    return vaddr >> _UNIT_SHIFT, paddr - vaddr


def _iter_stretches(vaddr: int, extent: Extent) -> Iterator[Stretch]:
    """An extent in parts that are proven together, 2 MiB at most. One that repeats a page stays whole."""
    start, end, paddr, repeated = extent
    if paddr is None:
        return
    if repeated:
        yield Stretch(start, end, paddr, repeated=True)
        return
    while start < end:
        part_end = min(end, ((vaddr + start >> _UNIT_SHIFT) + 1 << _UNIT_SHIFT) - vaddr)
        yield Stretch(start, part_end, paddr)
        paddr += part_end - start
        start = part_end


def _iter_witnesses(classes: bytearray, start: int, end: int) -> Iterator[int]:
    """Pages of a stretch to be asked, some of each class; not at powers of 2 alone, where blocks begin."""
    if end - start == 1:
        if classes[start] in _CLASSES:
            yield start
        return
    present = [exclude for exclude in _CLASSES if classes.find(exclude, start, end) >= 0]
    asked = set()
    for part in range(_LOOKS):
        for exclude in present:
            page = classes.find(exclude, start + (end - start) * part // _LOOKS + part, end)
            if page >= 0 and page not in asked:
                asked.add(page)
                yield page
