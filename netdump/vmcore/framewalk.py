"""The walk over page frames: classes of any run of frames, blocks that reach in from before and out behind included.

Owns the buffer of struct pages and the block that is carried on. Must not know images, levels or runs.

Blocks (free ones, compound pages) begin at multiples of their size. So the block that a frame in the middle is part of,
if any, begins at one of a few frames before it, which can be looked at wherever the walk begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.namedtuple import NamedTuple
from netdump.vmcore.pageclasses import Classifier, Tally
from netdump.vmcore.pagecodes import SLAB_PAGES
from netdump.vmcore.places import Places
from netdump.vmcore.structpage import ORDER_MAX

if TYPE_CHECKING:
    from netdump.pages import ExcludeClass
    from netdump.vmcore.distrust import Distrust
    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.structpage import Verdict
    from netdump.vmcore.zonebyte import ZoneByte


class _Block(NamedTuple):
    """A block that reaches beyond what was asked for. end: the frame behind it."""

    end: int
    exclude: ExcludeClass


class FrameWalk:
    """Classifies runs of page frames; fast where each begins where the one before ended. Not thread-safe."""

    __slots__ = ("_block", "_buffer", "_classifier", "_distrust", "_next", "_pages", "_places", "_view", "_zone_byte")

    def __init__(self, pages: PageArray, distrust: Distrust, zone_byte: ZoneByte) -> None:
        self._pages = pages
        self._zone_byte = zone_byte
        self._distrust = distrust
        self._buffer = bytearray((SLAB_PAGES + 1) * pages.rules.size)
        self._view = memoryview(self._buffer)
        self._places = Places(pages)
        self._next = -1  # frame behind the last run
        self._block: _Block | None = None  # that reaches beyond it
        self._classifier = self._make_classifier()

    def _make_classifier(self) -> Classifier:
        pages = self._pages
        return Classifier(pages.rules, self._zone_byte, self._distrust.wanted, pages.page_bytes, self._confirm)

    def _confirm(self, pfn: int, verdict: Verdict) -> bool:
        return self._pages.confirm(pfn, verdict, self._distrust.wanted)

    def restart(self) -> None:
        """Classify anew from now on, by what is still believed."""
        self._next = -1
        self._classifier = self._make_classifier()

    def classes(self, pfn: int, pages: int) -> bytearray:
        """One byte, an ExcludeClass, for each of so many frames from pfn on."""
        block = self._block if pfn == self._next else self._look_back(pfn)
        classes = bytearray()
        while (done := len(classes)) < pages:
            if block is not None:
                classes += bytes((block.exclude,)) * (min(pages, block.end - pfn) - done)
                if block.end > pfn + pages:
                    break
                block = None
                continue
            vaddr, there = self._pages.locate(pfn + done)
            span = min(there, pages - done, SLAB_PAGES - (pfn + done) % SLAB_PAGES)
            if vaddr is None:
                classes += bytes(span)
                continue
            tally = self._slab(pfn + done, span, min(there, span + 1), vaddr)
            classes = classes + tally.classes if done else tally.classes
            if tally.beyond is not None:
                block = _Block(*tally.beyond)
        self._next, self._block = pfn + pages, block
        return classes

    def _slab(self, pfn: int, span: int, there: int, vaddr: int) -> Tally:
        """Classify frames whose struct pages stand one after the other.

        there: how many there are, for the second struct page of a compound page tells its order. In a whole slab no
        such page begins with the last frame.
        """
        size, data = self._pages.rules.size, self._buffer
        self._distrust.frame = pfn
        length = min(there, SLAB_PAGES) * size
        self._pages.fill(vaddr, self._view[:length])
        self._view[length : length + size] = bytes(size)
        while True:
            tally = self._classifier.classify(data, span, pfn)
            if tally.doubts and self._places.blank_others(vaddr, data, tally.classes):
                tally = self._classifier.classify(data, span, pfn)
            for stretch in self._places.unproven(vaddr, span * size):
                if self._places.is_stray(stretch, self._distrust.wanted):
                    self._distrust.note_stray(pfn)
                elif not self._places.hold(stretch, vaddr, data, tally.classes):
                    self._distrust.note_misplaced(pfn)
                else:
                    continue
                return Tally(bytearray(span), None, [], 0, 0)
            if self._zone_byte.often_odd:
                self._distrust.note_overwritten(pfn)
            believed = self._distrust.watch(tally, self._pages, data)
            if believed is not None:
                return believed
            self._classifier = self._make_classifier()

    def _is_in_place(self, pfn: int, data: bytearray, verdict: Verdict) -> bool:
        """Whether the struct page that a block begins with may be believed to be that of its frame."""
        vaddr, _ = self._pages.locate(pfn)
        places, classes = self._places, bytearray((verdict.exclude,))
        return vaddr is not None and all(
            places.hold(stretch, vaddr, data, classes) for stretch in places.unproven(vaddr, self._pages.rules.size)
        )

    def _look_back(self, pfn: int) -> _Block | None:
        """The block that begins before a frame and reaches beyond it. The largest counts: blocks do not overlap."""
        pages = self._pages
        data = pages.read(pfn)
        if data is not None and not pages.rules.may_lie_inside(data, 0):
            return None
        start = pfn & -(1 << ORDER_MAX)
        while start < pfn:
            data = pages.read(start)
            if data is not None and pages.rules.may_begin_block(data, 0):
                verdict = pages.rules.judge(data, 0, start, self._distrust.wanted)
                end = start + (1 << verdict.order)
                if end > pfn and self._is_in_place(start, data, verdict) and self._confirm(start, verdict):
                    return _Block(end, verdict.exclude)
            start += 1 << (pfn - start).bit_length() - 1
        return None
