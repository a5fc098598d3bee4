"""The walk over page frames: classes of any run of frames, blocks that reach in from before and out behind included.

Owns the buffer of struct pages and the block that is carried on. Must not know images, levels or runs.

Blocks (free ones, compound pages) begin at multiples of their size. So the block that a frame in the middle is part of,
if any, begins at one of a few frames before it, which can be looked at wherever the walk begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from netdump.pages import ExcludeClass
from netdump.vmcore.pageclasses import Classifier, Tally
from netdump.vmcore.pagecodes import SLAB_PAGES
from netdump.vmcore.structpage import ORDER_MAX

if TYPE_CHECKING:
    from netdump.vmcore.distrust import Distrust
    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.structpage import Verdict


_HOME_SHIFT: Final = 21


class _Block(NamedTuple):
    """A block that reaches beyond what was asked for. end: the frame behind it."""

    end: int
    exclude: ExcludeClass


class FrameWalk:
    """Classifies runs of page frames; fast where each begins where the one before ended. Not thread-safe."""

    __slots__ = ("_block", "_buffer", "_classifier", "_distrust", "_home", "_next", "_pages", "_view")

    def __init__(self, pages: PageArray, distrust: Distrust) -> None:
        self._pages = pages
        self._distrust = distrust
        self._buffer = bytearray((SLAB_PAGES + 1) * pages.rules.size)
        self._view = memoryview(self._buffer)
        self._home = -1  # 2 MiB of physical memory in which struct pages were found last
        self._next = -1  # frame behind the last run
        self._block: _Block | None = None  # that reaches beyond it
        self._classifier = self._make_classifier()

    def _make_classifier(self) -> Classifier:
        return Classifier(self._pages.rules, self._distrust.wanted, self._pages.page_bytes, self._confirm)

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
        length = min(there, SLAB_PAGES) * size
        self._pages.fill(vaddr, self._view[:length])
        self._view[length : length + size] = bytes(size)
        if self._is_stray(vaddr):
            self._distrust.note_stray(pfn)
            return Tally(bytearray(span), None, [], 0, 0)
        while True:
            tally = self._distrust.watch(self._classifier.classify(data, span, pfn), self._pages, data)
            if tally is not None:
                return tally
            self._classifier = self._make_classifier()

    def _is_stray(self, vaddr: int) -> bool:
        """Whether struct pages lie in memory that would be left out itself. Asked once for each 2 MiB of them."""
        found = self._pages.space.translate(vaddr)
        if found is None or found[0] >> _HOME_SHIFT == self._home:
            return False
        if self._pages.judge(found[0] // self._pages.page_bytes, self._distrust.wanted).exclude != ExcludeClass.NONE:
            return True
        self._home = found[0] >> _HOME_SHIFT
        return False

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
                if end > pfn and self._confirm(start, verdict):
                    return _Block(end, verdict.exclude)
            start += 1 << (pfn - start).bit_length() - 1
        return None
