"""Page frames: which physical pages a dump shows, and in which state each of them is.

Owns the way from image offsets (run tables) to page frame numbers (program headers), and what is counted how:

- A frame is counted under every state that it is in. One that stands at several image offsets, as the kernel's text
  does in x86_64 cores, is as a rule data at the first and alias at the others, and counts once under each.
- A frame of which any byte is in a state counts under it; only frames at the ragged ends of memory are shared.
- Bytes of the image that show no memory (headers, notes, padding) are counted apart.
- *absent* are frames that the headers name without bytes in the file: another filter left them out before.

Memory is bounded by the number of program headers, whatever the size of the dump.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from netdump.pages import ExcludeClass, PageState
from netdump.vmcore.physmap import ImageMap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from netdump.analyze.runspool import RunSpool
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.physmap import Stretch

STATES: Final = tuple(state.name.lower() for state in PageState)
CLASSES: Final[dict[ExcludeClass, str]] = {
    reason: f"excluded:{reason.name.lower()}" for reason in ExcludeClass if reason is not ExcludeClass.NONE
}
ABSENT: Final = "absent"
KINDS: Final = (*STATES, *CLASSES.values(), ABSENT)
"""What frames can be asked for: a state; of the excluded ones also a class, as excluded:CLASS; absent."""

Frames = tuple[str, int, int]
"""A kind, the first page frame number of a range, and the one after its last."""

Memory = tuple[int, int, int, int]
"""A run that shows memory: physical address, bytes, state, class."""

_TOLD_BYTES: Final = 1 << 28  # at a time
_EXCLUDED: Final = int(PageState.EXCLUDED)
_KINDS_OF: Final = {
    (state, reason): (STATES[state], *((CLASSES[reason],) if reason in CLASSES and state == _EXCLUDED else ()))
    for state in PageState
    for reason in ExcludeClass
}


@dataclass(slots=True)
class PageCounts:
    """frames, bytes: by kind, all of KINDS (of absent frames the bytes are those of memory, not of the image).

    not_memory: bytes of the image that show none. The bytes of all states and not_memory add up to what has arrived.
    """

    frames: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    not_memory: int = 0


class FrameMap:
    """The page frames of one dump. Everything may raise StorageFaultError."""

    __slots__ = ("_map", "_page_bytes", "_spool")

    def __init__(self, spool: RunSpool, headers: ElfHeaders, page_bytes: int) -> None:
        """spool: open as long as this is used. page_bytes: a power of two."""
        self._spool: Final = spool
        self._page_bytes: Final = page_bytes
        self._map: Final = ImageMap(headers)

    def ranges(self, kinds: Collection[str]) -> Iterator[Frames]:
        """The ranges of frames of these kinds: of each kind ascending, disjoint, and as long as possible."""
        return self._ranges(kinds, self._memory())

    def _ranges(self, kinds: Collection[str], memory: Iterable[Memory]) -> Iterator[Frames]:
        """The same, from the runs that show memory."""
        open_ranges: dict[str, tuple[int, int]] = {}
        wanted = {
            (int(state), int(reason)): [kind for kind in found if kind in kinds]
            for (state, reason), found in _KINDS_OF.items()
        }
        for paddr, length, state, exclude in memory:
            first = paddr // self._page_bytes
            end = -(-(paddr + length) // self._page_bytes)
            for kind in wanted[state, exclude]:
                before = open_ranges.get(kind)
                if before is not None and first <= before[1]:
                    open_ranges[kind] = before[0], max(before[1], end)
                    continue
                if before is not None:
                    yield kind, *before
                open_ranges[kind] = first, end
        for kind, last in open_ranges.items():
            yield kind, *last
        if ABSENT in kinds:
            for first, end in self._absent():
                yield ABSENT, first, end

    def count(self, progress: Callable[[int], None] = lambda _: None) -> PageCounts:
        """Count everything. progress: is told bytes of image, as they are counted."""
        counts = PageCounts()
        sizes: dict[tuple[int, int], int] = {}
        for kind, first, end in self._ranges(KINDS, _measured(self._memory(), sizes, progress)):
            counts.frames[kind] += end - first
        for (state, exclude), size in sizes.items():
            for kind in _KINDS_OF[state, exclude]:  # type: ignore[index]
                counts.bytes[kind] += size
        counts.bytes[ABSENT] = counts.frames[ABSENT] * self._page_bytes
        for stretch in self._map.stretches(0, self._page_bytes):
            if stretch.paddr is None:
                counts.not_memory += max(0, min(stretch.end, self._spool.end) - stretch.start)
        return counts

    def _memory(self) -> Iterator[Memory]:
        """All runs that show memory, by address.

        Overlapping stretches of memory are gone through side by side; as a rule there are two of them.
        """
        stretches = [stretch for stretch in self._map.stretches(0, self._page_bytes) if stretch.paddr is not None]
        stretches.sort(key=_paddr)
        group: list[Stretch] = []
        reach = 0
        for stretch in stretches:
            if group and _paddr(stretch) >= reach:
                yield from self._merged(group)
                group.clear()
            group.append(stretch)
            reach = max(reach, _paddr(stretch) + stretch.end - stretch.start)
        yield from self._merged(group)

    def _merged(self, group: list[Stretch]) -> Iterator[Memory]:
        """The runs of stretches that overlap, by address; most stand alone."""
        return self._runs(group[0]) if len(group) == 1 else heapq.merge(*map(self._runs, group))

    def _runs(self, stretch: Stretch) -> Iterator[Memory]:
        shift = _paddr(stretch) - stretch.start
        for start, end, state, exclude in self._spool.pieces(stretch.start, stretch.end):
            yield start + shift, end - start, state, exclude

    def _absent(self) -> Iterator[tuple[int, int]]:
        """Frames that the headers name, less those with a byte in the file."""
        present = ((start, end) for start, end, _ in self._map.memory())
        return subtract(as_frames(self._map.claimed(), self._page_bytes), as_frames(present, self._page_bytes))


def _measured(
    memory: Iterable[Memory], sizes: dict[tuple[int, int], int], progress: Callable[[int], None]
) -> Iterator[Memory]:
    """The same runs; their bytes are added up by state and class on the way."""
    untold = 0
    for run in memory:
        _, length, state, exclude = run
        sizes[state, exclude] = sizes.get((state, exclude), 0) + length
        untold += length
        if untold >= _TOLD_BYTES:
            progress(untold)
            untold = 0
        yield run
    progress(untold)


def as_frames(ranges: Iterable[tuple[int, int]], page_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of addresses, ascending, as ranges of page frames that they touch: disjoint, as long as possible."""
    first = end = 0
    for start, stop in ranges:
        if start == stop:
            continue
        if start // page_bytes > end:
            if first < end:
                yield first, end
            first = start // page_bytes
        elif first == end:
            first = start // page_bytes
        end = max(end, -(-stop // page_bytes))
    if first < end:
        yield first, end


def subtract(ranges: Iterable[tuple[int, int]], holes: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of ranges; both ascending and disjoint."""
    hole = next(holes, None)
    for first, end in ranges:
        at = first
        while hole is not None and hole[0] < end:
            if at < hole[0]:
                yield at, hole[0]
            at = max(at, hole[1])
            if hole[1] > end:
                break
            hole = next(holes, None)
        if at < end:
            yield at, end


def _paddr(stretch: Stretch) -> int:
    assert stretch.paddr is not None
    return stretch.paddr
