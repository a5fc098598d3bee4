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
        self._buffer = bytearray(SLAB_PAGES * pages.rules.size)
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
        classes = bytearray(pages)
        done = 0
        while done < pages:
            if block is not None:
                end = min(pages, block.end - pfn)
                classes[done:end] = bytes((block.exclude,)) * (end - done)
                done = end
                if block.end > pfn + pages:
                    break
                block = None
                continue
            vaddr, there = self._pages.locate(pfn + done)
            span = min(there, pages - done, SLAB_PAGES - (pfn + done) % SLAB_PAGES)
            if vaddr is not None:
                tally = self._slab(pfn + done, span, min(there, span + 1), vaddr)
                classes[done : done + span] = tally.classes
                if tally.beyond is not None:
                    block = _Block(*tally.beyond)
            done += span
        self._next, self._block = pfn + pages, block
        return classes

    def _slab(self, pfn: int, span: int, there: int, vaddr: int) -> Tally:
        """Classify frames whose struct pages stand one after the other.

        there: how many there are, for the second struct page of a compound page tells its order. In a whole slab no
        such page begins with the last frame.
        """
        length = min(there, SLAB_PAGES) * self._pages.rules.size
        self._pages.fill(vaddr, self._view[:length])
        data = self._buffer if span == SLAB_PAGES else self._buffer[:length]
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
        before = pfn
        for order in range(ORDER_MAX, 0, -1):
            start = pfn & -(1 << order)
            if start in {pfn, before}:
                continue
            before = start
            verdict = self._pages.judge(start, self._distrust.wanted)
            end = start + (1 << verdict.order)
            if end > pfn and self._confirm(start, verdict):
                return _Block(end, verdict.exclude)
        return None
