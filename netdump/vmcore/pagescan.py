"""Which pages of a buffer are zero, and which equal those of another one.

Owns the comparing of pages. Must not know where pages come from or go to.

Speed: bytearray.startswith(prefix, at) compares in place and stops at the first difference: about 0.1 µs for a page
of data, memory speed for a stretch of zeros (measured: 15 GB/s including the read from the page cache). Slices copy,
and memoryviews compare byte by byte at 0.7 GB/s.

Pages are cut by a grid: the first ends after lead bytes, the others after page_bytes each; the first and the last may
be partial.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.pages import PageState

if TYPE_CHECKING:
    from collections.abc import Sequence

SCAN_BYTES_MAX: Final = 0x10_0000
"""Most bytes of one call."""

_ZEROS: Final = memoryview(bytes(SCAN_BYTES_MAX))  # never written, so one page of memory serves all of it
_STATES: Final = tuple(PageState)


class Block(NamedTuple):
    """Part of a buffer. at: where it starts; length: 1 .. SCAN_BYTES_MAX; lead: 1 .. page_bytes."""

    buffer: bytearray
    at: int
    length: int
    lead: int
    page_bytes: int

    def edge(self, page: int) -> int:
        """Bytes from the start of the block to the start of its page of this number, or to its end."""
        return min(self.length, self.lead + (page - 1) * self.page_bytes) if page else 0

    def page(self, position: int) -> int:
        """Number of the page that has the byte at a position of the block."""
        return 0 if position < self.lead else 1 + (position - self.lead) // self.page_bytes


def page_states(block: Block, lost: Sequence[tuple[int, int]]) -> list[tuple[PageState, int]]:
    """The block as runs of DATA, ZERO and LOST and their lengths in bytes; neighbours differ.

    lost: (start, length) of what could not be read, relative to the block; a page that is lost in part is LOST.
    """
    if not lost and block.buffer.startswith(_ZEROS[: block.length], block.at):
        return [(PageState.ZERO, block.length)]
    flags = _equal_pages(block, _ZEROS, same=True)
    for start, length in lost:
        first, last = block.page(start), block.page(start + length - 1)
        flags[first : last + 1] = bytes((PageState.LOST,)) * (last + 1 - first)
    return [(_STATES[flag], length) for flag, length in _runs(block, flags)]


def equal_pages(block: Block, other: memoryview, lost: Sequence[tuple[int, int]]) -> list[tuple[bool, int]]:
    """The block as runs of pages that equal those of other, and of pages that do not, and their lengths in bytes.

    lost: (start, length) of other that could not be read; such pages are not equal.
    """
    if not lost and block.buffer.startswith(other[: block.length], block.at):
        return [(True, block.length)]
    flags = _equal_pages(block, other, same=False)
    for start, length in lost:
        first, last = block.page(start), block.page(start + length - 1)
        flags[first : last + 1] = bytes(last + 1 - first)
    return [(flag == 1, length) for flag, length in _runs(block, flags)]


def _equal_pages(block: Block, other: memoryview, *, same: bool) -> bytearray:
    """1 for each page that equals other's, else 0. same: all pages of other are the same, so its first one will do."""
    equal, at, size = block.buffer.startswith, block.at, block.page_bytes
    first = min(block.lead, block.length)
    whole = range(first, block.length - size + 1, size)
    flags = bytearray((equal(other[:first], at),))
    if same:
        page = other[:size]
        flags += bytes([equal(page, at + start) for start in whole])
    else:
        flags += bytes([equal(other[start : start + size], at + start) for start in whole])
    end = first + len(whole) * size
    if end < block.length:
        flags.append(equal(other[end : block.length], at + end))
    return flags


def _runs(block: Block, flags: bytearray) -> list[tuple[int, int]]:
    """Flags of pages as (flag, length in bytes) of runs of the same."""
    runs = []
    page = start = 0
    for flag, group in groupby(flags):
        page += len(list(group))
        end = block.edge(page)
        runs.append((flag, end - start))
        start = end
    return runs
