"""The plan of an image: which state each stretch of it is in, cut into chunks, strictly forward from any offset.

Owns the order of things for one stretch: what the page filter leaves out is never read; what is read is looked
through for zeros, then compared with what stood before; what remains is data. Must not know how chunks are sent.

Memory is constant, whatever the size of the image: one buffer for each chunk that is held, one more for comparing,
and tables of O(segments). Planning from the end of any chunk on yields a valid continuation; chunks need not be cut
where they were cut before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.pages import ExcludeClass, PageState, Run, make_run
from netdump.vmcore.buffers import BufferPool
from netdump.vmcore.pagescan import SCAN_BYTES_MAX, Block, equal_pages, page_states

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from netdump.vmcore.physmap import ImageMap, Stretch
    from netdump.vmcore.source import Source

    Classify = Callable[[int, int], Iterable[tuple[ExcludeClass, int]]]

CHUNK_LENGTH_MAX: Final = 0x4000_0000
CHUNK_DATA_MAX: Final = 0x10_0000
CHUNK_RUNS_MAX: Final = 4096
CHUNK_READ_MAX: Final = 0x400_0000
CHUNK_SECONDS: Final = 1.0
CLASSIFY_PAGES_MAX: Final = 8192

_BLOCK_BYTES: Final = 0x4_0000  # read and looked through at a time: stays in the cache between the two
_UNSENT_KEPT: Final = 1024  # stretches that are remembered as lost or left out

# Members by a name of the module: a machine of a tebibyte has tens of millions of runs, and in Python 3.11 looking a
# member up in its class takes as long as the rest of what is done for one.
_DATA, _ZERO, _ALIAS, _EXCLUDED, _LOST = PageState
_KEEP: Final = ExcludeClass.NONE

assert _BLOCK_BYTES <= SCAN_BYTES_MAX


class Limits(NamedTuple):
    """How large a chunk may be: length, data, runs by the protocol ([W-46], [W-48], section 4.6), in bytes and runs.

    read, seconds: bytes that are read for one chunk, and how long it is in the making, so that a slow source, however
    little data comes of it, does not keep a client silent ([W-60]). A chunk that has taken its time is finished before
    the next block; a block is the least that is read, see _Planner.
    """

    length: int = CHUNK_LENGTH_MAX
    data: int = CHUNK_DATA_MAX
    runs: int = CHUNK_RUNS_MAX
    read: int = CHUNK_READ_MAX
    seconds: float = CHUNK_SECONDS


LIMITS: Final = Limits()


class PlannedChunk(NamedTuple):
    """A range of the image. offset, length: bytes of image; runs cover it, no two neighbours being one ([W-47]).

    data: the bytes of its DATA runs, joined. Valid until the chunk's buffer is released (see iter_chunks).
    """

    offset: int
    length: int
    runs: tuple[Run, ...]
    data: memoryview


def iter_chunks(
    source: Source,
    image_map: ImageMap,
    page_bytes: int,
    start: int = 0,
    *,
    classify: Classify | None = None,
    pool: BufferPool | None = None,
    limits: Limits = LIMITS,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[PlannedChunk, None, None]:
    """Plan the image from offset start to its end.

    page_bytes: of the dead kernel; runs inside a segment change at page boundaries of the memory it shows. start: 0
    or the end of a chunk; pages whose memory stood before it too are sent as data, not as aliases.

    classify(paddr, pages) -> (class, pages)...: the page filter. It is asked about whole pages of physical memory, at
    most CLASSIFY_PAGES_MAX at a time and never across a multiple of that, right before they are streamed; its answer
    covers them all, in order, with ExcludeClass.NONE for those to keep. A page that is shown again gets the same
    answer, or from some time on NONE. It may raise nothing.

    pool: where data lies, in buffers of limits.data bytes. With a pool the caller owns the data of each chunk that it
    got and gives it back with pool.release(chunk.data), in any order and from any thread. Without, it is valid until
    the next chunk is asked for. The planner fills one more buffer, and gives it back when it is exhausted or closed.
    clock: seconds, monotonic. Never raises for memory that cannot be read: that is LOST.
    """
    buffers = BufferPool(limits.data, 1) if pool is None else pool
    planner = _Planner(source, page_bytes, buffers, limits, start, clock=clock)
    try:
        for chunk in planner.chunks(image_map, classify):
            yield chunk
            if pool is None:
                buffers.release(chunk.data)
    finally:
        planner.close()


def catch_up(
    image_map: ImageMap, page_bytes: int, start: int, end: int, classify: Classify
) -> Generator[int, None, None]:
    """Ask the page filter about the image from offset start to end without planning it.

    For what somebody else has sent: what the filter finds implausible there it must not believe behind it either.
    Yields the offset that is reached, every CLASSIFY_PAGES_MAX pages or so, and last end.
    """
    for stretch in image_map.stretches(start, page_bytes):
        if stretch.start >= end:
            break
        part = stretch._replace(end=min(end, stretch.end))
        for page, pages in _slabs(part, page_bytes):
            classify(page * page_bytes, pages)
            yield min(part.end, _offset(part, page + pages, page_bytes))
        if part.paddr is None:
            yield part.end


def _slabs(stretch: Stretch, page_bytes: int) -> Iterator[tuple[int, int]]:
    """What the page filter is asked about: (number of the first page, pages) of physical memory, if it shows any."""
    if stretch.paddr is None:
        return
    page = stretch.paddr // page_bytes
    pages_end = -(-(stretch.paddr + stretch.end - stretch.start) // page_bytes)
    while page < pages_end:
        slab_end = min(pages_end, page - page % CLASSIFY_PAGES_MAX + CLASSIFY_PAGES_MAX)
        yield page, slab_end - page
        page = slab_end


def _offset(stretch: Stretch, page: int, page_bytes: int) -> int:
    """The image offset at which a page of physical memory begins in a stretch that shows it."""
    assert stretch.paddr is not None
    return page * page_bytes - stretch.paddr + stretch.start


class _Draft:
    """The chunk that is being made."""

    __slots__ = ("begun", "buffer", "length", "offset", "read", "runs", "used", "view")

    def __init__(self, offset: int, buffer: bytearray, begun: float) -> None:
        self.begun = begun  # of the planner's clock
        self.offset = offset
        self.length = 0
        self.runs: list[Run] = []
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.used = 0  # bytes of data in the buffer, from its start on
        self.read = 0

    def add(self, state: PageState, length: int, exclude: ExcludeClass = _KEEP, source: int = 0) -> None:
        """Add a run, or lengthen the last one by it ([W-47])."""
        self.length += length
        if self.runs:
            last = self.runs[-1]
            if last.state == state and last.exclude == exclude:
                if state != _ALIAS:
                    self.runs[-1] = make_run((state, last.length + length, exclude, 0))
                    return
                if last.source + last.length == source:
                    self.runs[-1] = make_run((state, last.length + length, exclude, last.source))
                    return
        self.runs.append(make_run((state, length, exclude, source)))

    def leave_out(self, length: int, exclude: ExcludeClass, limits: Limits) -> bool:
        """Add an excluded range if it fits whole, as is the rule. Tells whether it did."""
        runs, end = self.runs, self.length + length
        if end > limits.length or len(runs) >= limits.runs:
            return False
        self.length = end
        if runs and runs[-1].exclude == exclude:
            runs[-1] = make_run((_EXCLUDED, runs[-1].length + length, exclude, 0))
        else:
            runs.append(make_run((_EXCLUDED, length, exclude, 0)))
        return True

    def keep(self, at: int, length: int) -> None:
        """Add a run of data that stands in the buffer at a position, moving it up to the data before it."""
        if at != self.used:
            self.view[self.used : self.used + length] = self.view[at : at + length]
        self.used += length
        self.add(_DATA, length)


class _Planner:
    """One walk through an image. Positions and ends are image offsets, lengths are bytes.

    Blocks of _BLOCK_BYTES are read while all is well. Where something is lost or reading is slow the walk goes on page
    by page, and doubles that with each block that is well again: on a disk that fails each page may take seconds.
    """

    def __init__(
        self,
        source: Source,
        page_bytes: int,
        pool: BufferPool,
        limits: Limits,
        start: int,
        *,
        clock: Callable[[], float],
    ) -> None:
        assert min(limits.length, limits.data) >= page_bytes
        assert limits.runs >= 1
        assert pool.buffer_bytes >= limits.data
        self._source = source
        self._page_bytes = page_bytes
        self._pool = pool
        self._limits = limits
        self._walk_start = start
        self._clock = clock
        self._block_bytes = _BLOCK_BYTES
        self._draft = _Draft(start, pool.take(), clock())
        self._handed_over = False  # the draft's buffer is the caller's
        self._other: memoryview | None = None  # for comparing; most images need none
        self._unsent: list[tuple[int, int]] = []  # what was lost, and what was left out that comes once more
        self._forgot = False  # there was more of it

    def chunks(self, image_map: ImageMap, classify: Classify | None) -> Iterator[PlannedChunk]:
        """All chunks of an image."""
        for stretch in image_map.stretches(self._walk_start, self._page_bytes):
            if classify is None or stretch.paddr is None:
                yield from self._look_through(stretch, stretch.start, stretch.end)
            else:
                yield from self._filter(stretch, classify, image_map)
        yield from self._finish()

    def _filter(self, stretch: Stretch, classify: Classify, image_map: ImageMap) -> Iterator[PlannedChunk]:
        """Ask the page filter about a stretch, slab by slab, and do as it says."""
        position, page_bytes = stretch.start, self._page_bytes
        shift = _offset(stretch, 0, page_bytes)
        for first, pages in _slabs(stretch, page_bytes):
            if self._overdue():
                yield from self._finish()
            page = first
            again = stretch.source is None and image_map.is_shown_twice(
                first * page_bytes, (first + pages) * page_bytes
            )
            for exclude, count in classify(first * page_bytes, pages):
                page += count
                end = min(stretch.end, page * page_bytes + shift)
                if exclude == _KEEP:
                    yield from self._look_through(stretch, position, end)
                elif again or not self._draft.leave_out(end - position, exclude, self._limits):
                    if again:
                        self._remember_unsent(position, end - position)
                    yield from self._state(stretch, position, end, exclude)
                position = end
            assert page == first + pages, "the page filter answered for other pages than it was asked for"

    def _state(
        self, stretch: Stretch, position: int, end: int, exclude: ExcludeClass = _KEEP
    ) -> Iterator[PlannedChunk]:
        """Say that a range is excluded, or zero, without reading it."""
        state = _ZERO if exclude == _KEEP else _EXCLUDED
        while position < end:
            full = len(self._draft.runs) == self._limits.runs or self._overdue()
            room = 0 if full else self._limits.length - self._draft.length
            length = self._cut(stretch, position, end, room)
            if length > 0:
                self._draft.add(state, length, exclude)
                position += length
            else:
                yield from self._finish()

    def _look_through(self, stretch: Stretch, position: int, end: int) -> Iterator[PlannedChunk]:
        """Read a range and say what it holds."""
        while position < end:
            length = self._cut(stretch, position, end, self._room(stretch, position))
            if length <= 0:
                yield from self._finish()
                continue
            zeros = self._read_block(stretch, position, length)
            position += length
            if zeros and position < end:  # where zeros are there may be a hole; ask for its end rather than read it
                hole_end = min(end, self._source.next_data(position))
                hole_end = position + self._cut(stretch, position, end, hole_end - position)
                yield from self._state(stretch, position, hole_end)
                position = max(position, hole_end)

    def _room(self, stretch: Stretch, position: int) -> int:
        """How many bytes the draft can take for sure, whatever they hold; 0 if it is better finished."""
        draft, limits = self._draft, self._limits
        data, runs = limits.data - draft.used, limits.runs - len(draft.runs)
        if draft.length and (data < limits.data >> 4 or runs < limits.runs >> 8 or draft.read >= limits.read):
            return 0  # little would fit, and reading little by little is slow
        if self._overdue():
            return 0
        pages = self._lead(stretch, position) + (runs - 1) * self._page_bytes  # each page may be a run of its own
        return min(self._block_bytes, limits.length - draft.length, data, pages)

    def _overdue(self) -> bool:
        """Whether the draft has something and has taken its time."""
        return self._draft.length > 0 and self._clock() - self._draft.begun >= self._limits.seconds

    def _lead(self, stretch: Stretch, position: int) -> int:
        """Bytes from a position to the next page boundary: of the memory shown, or of the image where it shows none."""
        shift = 0 if stretch.paddr is None else stretch.paddr - stretch.start
        return self._page_bytes - (position + shift) % self._page_bytes

    def _cut(self, stretch: Stretch, position: int, end: int, room: int) -> int:
        """Bytes from position that fit in room: up to end, or to a page boundary. 0 or less: none."""
        if end - position <= room:
            return end - position
        lead = self._lead(stretch, position)
        return lead + (room - lead) // self._page_bytes * self._page_bytes

    def _read_block(self, stretch: Stretch, position: int, length: int) -> bool:
        """Read a block and add what it holds to the draft. Tells whether it ends in zeros."""
        draft = self._draft
        at = draft.used
        lost = self._read(position, draft.view[at : at + length])
        block = Block(draft.buffer, at, length, self._lead(stretch, position), self._page_bytes)
        runs = page_states(block, lost)
        for state, size in runs:
            if state == _DATA and stretch.source is not None:
                self._compare(stretch, position, at, size)
            elif state == _DATA:
                draft.keep(at, size)
            else:
                draft.add(state, size)
                if state == _LOST:
                    self._remember_unsent(position, size)
            at += size
            position += size
        return runs[-1][0] == _ZERO

    def _read(self, position: int, buffer: memoryview) -> list[tuple[int, int]]:
        """Read a block, and decide by how that went how large the next one may be. Returns what was lost of it."""
        begun = self._clock()
        lost = self._source.read_into(position, buffer)
        self._draft.read += len(buffer)
        if lost or self._clock() - begun >= self._limits.seconds / 4:
            self._block_bytes = min(self._page_bytes, _BLOCK_BYTES)
        else:
            self._block_bytes = min(2 * self._block_bytes, _BLOCK_BYTES)
        return lost

    def _compare(self, stretch: Stretch, position: int, at: int, length: int) -> None:
        """Add a run of data, which stands in the buffer at a position, as ALIAS where it equals what stood before.

        An alias of what was sent as lost, or left out before the page filter found reason to keep it, would be read as
        zeros by those who restore it: such pages stay data, and so do those whose source stands before the start of the
        walk, as it is not known what that was sent as ([W-49]).
        """
        assert stretch.source is not None
        source = stretch.source + position - stretch.start
        unknown = self._forgot or source < self._walk_start
        if unknown or any(start < source + length and source < end for start, end in self._unsent):
            self._draft.keep(at, length)
            return
        if self._other is None:
            self._other = memoryview(bytearray(_BLOCK_BYTES))
        other = self._other[:length]
        lost = self._read(source, other)
        block = Block(self._draft.buffer, at, length, self._lead(stretch, position), self._page_bytes)
        for equal, size in equal_pages(block, other, lost):
            if equal:
                self._draft.add(_ALIAS, size, source=source)
            else:
                self._draft.keep(at, size)
            at += size
            source += size

    def _remember_unsent(self, position: int, length: int) -> None:
        if self._unsent and self._unsent[-1][1] == position:
            self._unsent[-1] = (self._unsent[-1][0], position + length)
        elif len(self._unsent) < _UNSENT_KEPT:
            self._unsent.append((position, position + length))
        else:
            self._forgot = True

    def _finish(self) -> Iterator[PlannedChunk]:
        """Hand the draft over and begin another one, in another buffer if this one holds data."""
        draft = self._draft
        if draft.length:
            self._handed_over = draft.used > 0
            data = draft.view[: draft.used] if draft.used else memoryview(b"")
            yield PlannedChunk(draft.offset, draft.length, tuple(draft.runs), data)
            buffer = self._pool.take() if draft.used else draft.buffer
            self._draft = _Draft(draft.offset + draft.length, buffer, self._clock())
            self._handed_over = False

    def close(self) -> None:
        """Give back the buffer that nobody else has."""
        if not self._handed_over:
            self._pool.release(self._draft.view)
            self._handed_over = True
