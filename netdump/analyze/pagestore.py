"""The pages of a dump that were not left out, by frame, each with where its bytes stand in the restored image.

Owns what a format that stores pages by frame number needs: one state for each page, and where to read it. Of memory
that stands at several image offsets the first one counts, as for readers of the ELF core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.pages import PageState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.analyze.runspool import RunSpool
    from netdump.vmcore.physmap import ImageMap


class Part(NamedTuple):
    """A part of a page. at: bytes from the start of the page. offset: of image. What no part covers is zeros."""

    at: int
    length: int
    offset: int


class PageRun(NamedTuple):
    """Pages first .. first + pages - 1 (frame numbers), all in one state.

    DATA, ZERO or LOST. DATA stands for all that has bytes in the image, aliases included: page after page from image
    offset on, unless parts says how a single page is put together. LOST are also pages that have not arrived.
    """

    state: PageState
    first: int
    pages: int
    offset: int
    parts: tuple[Part, ...] = ()


_DATA: Final = PageState.DATA  # there may be millions of runs, and looking a member up takes long in Python 3.11
_EXCLUDED: Final = PageState.EXCLUDED
_STATES: Final = {int(state): _DATA if state is PageState.ALIAS else state for state in PageState}
# Of a page whose parts differ: bytes that are there are kept; "unknown" is never passed off as zero.
_ORDER: Final = (PageState.DATA, PageState.LOST, PageState.ZERO, PageState.EXCLUDED)


def iter_pages(spool: RunSpool, image_map: ImageMap, page_bytes: int) -> Iterator[PageRun]:
    """All pages in the image but those that are excluded as a whole, by frame number. Raises StorageFaultError."""
    mixed = _Mixed(page_bytes)
    for paddr, state, length, offset in _memory(spool, image_map):
        head = min(length, -paddr % page_bytes)
        if head:
            yield from mixed.add(state, paddr, head, offset)
        count, tail = divmod(length - head, page_bytes)
        if count and state is not _EXCLUDED:
            yield from mixed.flush()
            yield PageRun(state, (paddr + head) // page_bytes, count, offset + head)
        if tail:
            yield from mixed.add(state, paddr + length - tail, tail, offset + length - tail)
    yield from mixed.flush()


class _Mixed:
    """A page that is put together from parts."""

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes: Final = page_bytes
        self._frame = -1
        self._parts: list[tuple[PageState, Part]] = []

    def add(self, state: PageState, paddr: int, length: int, offset: int) -> Iterator[PageRun]:
        """Add a part of a page; yields the page before if it is another one."""
        frame, at = divmod(paddr, self._page_bytes)
        if frame != self._frame:
            yield from self.flush()
        self._frame = frame
        self._parts.append((state, Part(at, length, offset)))

    def flush(self) -> Iterator[PageRun]:
        """The page, if there is one."""
        if self._parts:
            state = min((state for state, _ in self._parts), key=_ORDER.index)
            data = tuple(part for state, part in self._parts if state is _DATA)
            if state is not _EXCLUDED:
                yield PageRun(state, self._frame, 1, 0, data)
            self._parts = []


def _memory(spool: RunSpool, image_map: ImageMap) -> Iterator[tuple[int, PageState, int, int]]:
    """(physical address, state, bytes, image offset) of all memory, by address."""
    for paddr, paddr_end, offset in image_map.memory():
        end = offset + paddr_end - paddr
        for start, stop, state, _ in spool.pieces(offset, end):
            yield paddr + start - offset, _STATES[state], stop - start, start
        if spool.end < end:
            missing = max(offset, spool.end)
            yield paddr + missing - offset, PageState.LOST, end - missing, missing
