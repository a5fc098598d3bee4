from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from netdump.pages import ExcludeClass
from netdump.vmcore.freeblocks import FreeBlocks
from netdump.vmcore.pagecodes import SLAB_PAGES, PageCodes
from tests.vmcore.test_pageclasses import PFN, array, classifier, frames_of, zone_byte

if TYPE_CHECKING:
    from netdump.testing.struct_page_writer import Frames

FREE = ExcludeClass.FREE


def mark(frames: Frames, pages: int, data: bytearray | None = None, first: int = PFN) -> tuple[bytearray, list[int]]:
    rules = classifier(frames, 31)._rules
    codes = PageCodes(rules, zone_byte(rules))
    data = array(frames, pages, first) if data is None else data
    classes = bytearray(pages)
    left = FreeBlocks(rules, codes).mark(data, first, codes.read(data, pages, first), classes)
    return classes, left


def scatter(frames: Frames, pages: int, count: int, seed: int = 1) -> set[int]:
    """Free blocks here and there. Returns the pages that are free."""
    generator = random.Random(seed)
    free: set[int] = set()
    for _ in range(count):
        order = generator.choice((0, 1, 2, 3, 5))
        start = generator.randrange(pages >> order) << order
        block = set(range(start, start + (1 << order)))
        if not block & free:
            frames.free(PFN + start, order)
            free |= block
    return free


@pytest.mark.parametrize("era", ["4.9", "6.1", "6.12"])
@pytest.mark.parametrize("count", [1, 20, 100, 3000])
@pytest.mark.parametrize("pages", [4096, 1000])
def test_few_and_many(era: str, count: int, pages: int) -> None:
    frames = frames_of(era)
    free = scatter(frames, pages & -64, count)
    classes, left = mark(frames, pages)
    assert left == []
    assert {page for page, value in enumerate(classes) if value == FREE} == free
    assert set(classes) <= {0, FREE}


@pytest.mark.parametrize("others", [0, 60, 1000])
def test_what_is_not_certain_is_left(others: int) -> None:
    """A block that is cut short, one that holds another thing, one that is not aligned; among few and many."""
    frames = frames_of("6.12")
    scatter(frames, 2048, others)
    for start in (2048, 2304):
        frames.free(PFN + start, 4)
    frames.cache(PFN + 2048 + 7)
    frames.free(PFN + 2304 + 3, 0)
    frames.free(PFN + 2561, 1)
    frames.free(PFN + 3000, 3)
    frames.free(PFN + 3584, 9)
    classes, left = mark(frames, 4000)
    assert set(left) >= {2048, 2304, 2561, 3584}
    for start in (2048, 2304, 2561, 3584):
        assert classes[start] == 0
    if 2307 not in left:
        assert classes[2307] == FREE
    if 3000 not in left:
        assert classes[3000:3008] == bytes((FREE,)) * 8


@pytest.mark.parametrize(
    ("start", "order", "inside", "pages"),
    [
        (1022, 2, None, 1032),
        (1022, 2, None, SLAB_PAGES),
        (1024, 3, 1030, 1032),
        (1024, 3, 1030, SLAB_PAGES),
        (2048, 11, None, 8000),
        (2048, 11, None, SLAB_PAGES),
        (1024, 4, None, 1032),
    ],
)
def test_one_among_many_that_is_not_certain(start: int, order: int, inside: int | None, pages: int) -> None:
    """Not aligned; with another thing in it; of an order that there is not; cut short."""
    frames = frames_of("6.12")
    for page in range(0, 600, 2):
        frames.free(PFN + page, 0)
    frames.free(PFN + start, order)
    if inside is not None:
        frames.cache(PFN + inside)
    classes, left = mark(frames, pages)
    assert start in left
    assert not any(classes[start:])


@pytest.mark.parametrize("count", [60, 500])
def test_counts_that_look_like_the_type_in_one_byte(count: int) -> None:
    """126 on a page in use is 0x7e; 127 is 0x7f, the lowest byte of a free page's up to v6.11."""
    frames = frames_of("6.1")
    for pfn in range(PFN, PFN + count):
        frames.kernel(pfn)
        frames._put(pfn, 48, 0x7F, 4)
    assert mark(frames, 512) == (bytearray(512), [])
    frames.free(PFN + count, 0)
    classes, left = mark(frames, 512)
    assert left == []
    assert [page for page, value in enumerate(classes) if value] == [count]


@pytest.mark.parametrize("blocks", [64, 512])
def test_what_stands_in_classes_already_stays(blocks: int) -> None:
    frames = frames_of("6.12")
    for page in range(0, 2 * blocks, 2):
        frames.free(PFN + page, 0)
        frames.cache(PFN + page + 1)
    rules = classifier(frames, 31)._rules
    codes = PageCodes(rules, zone_byte(rules))
    data = array(frames, 2 * blocks)
    classes = bytearray(b"\0\2" * blocks)
    assert FreeBlocks(rules, codes).mark(data, PFN, codes.read(data, 2 * blocks, PFN), classes) == []
    assert classes == b"\5\2" * blocks
