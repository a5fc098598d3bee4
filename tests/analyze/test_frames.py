"""Page frames by state, held against a model that looks at every page."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.analyze.frames import CLASSES, KINDS, STATES, FrameMap, as_frames, subtract
from netdump.analyze.runspool import RunSpool
from netdump.pages import ExcludeClass
from netdump.testing.elf_writer import Core, Load, counter_pages
from netdump.vmcore.physmap import ImageMap
from tests.analyze.built import DATA, LOST, PAGE, ZERO, BuiltDump, alias, excluded
from tests.vmcore.doubles import headers_of

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders

# The kernel's text (image 0x1000) stands again inside the second RAM segment; the first ends inside a page, and so does
# the file of the last, whose rest was left out before.
TEXT = counter_pages(1, 4)
CORE = Core(
    [
        Load(0x203000, 0x4000, {0: TEXT}),
        Load(0x1000, 0x2C00, {0: counter_pages(50, 2)}),
        Load(0x200000, 0x10000, {0x3000: TEXT, 0x8000: counter_pages(90, 8)}),
        Load(0x400000, 0x1000, {0: counter_pages(200, 1)}, memsz=0x8000),
    ]
)
OFFSETS = [segment.offset for segment in CORE.segments()]
MARKS = {
    (OFFSETS[2] + 0x3000, OFFSETS[2] + 0x7000): alias(OFFSETS[0]),
    (OFFSETS[2] + 0x9000, OFFSETS[2] + 0xA000): excluded(ExcludeClass.CACHE),
    (OFFSETS[2] + 0xA000, OFFSETS[2] + 0xC000): excluded(ExcludeClass.FREE),
    (OFFSETS[2] + 0xC000, OFFSETS[2] + 0xD000): excluded(ExcludeClass.ZERO),
    (OFFSETS[2] + 0xE000, OFFSETS[2] + 0xF000): LOST,
}
DUMP = BuiltDump(CORE, MARKS)
HEADERS = headers_of(DUMP.image)


def model(dump: BuiltDump, headers: ElfHeaders, upto: int) -> dict[str, set[int]]:
    """Looks at every byte's neighbourhood of 1 KiB: finer than anything in these dumps."""
    frames = defaultdict(set)
    image_map = ImageMap(headers)
    for offset in range(0, upto, 0x400):
        paddr = image_map.paddr_at(offset)
        if paddr is not None:
            state, reason, _ = dump.mark_of(offset)
            frames[STATES[state]].add(paddr // PAGE)
            if reason:
                frames[CLASSES[reason]].add(paddr // PAGE)
    return frames


def listed(frames: FrameMap, *kinds: str) -> dict[str, list[tuple[int, int]]]:
    found = defaultdict(list)
    for kind, first, end in frames.ranges(kinds or KINDS):
        found[kind].append((first, end))
    return found


def test_what_is_listed() -> None:
    with RunSpool(DUMP.tables()) as spool:
        found = listed(FrameMap(spool, HEADERS, PAGE))
    assert found == {
        "data": [(1, 3), (0x203, 0x207), (0x208, 0x209), (0x20D, 0x20E), (0x20F, 0x210), (0x400, 0x401)],
        "zero": [(3, 4), (0x200, 0x203), (0x207, 0x208)],
        "alias": [(0x203, 0x207)],
        "excluded": [(0x209, 0x20D)],
        "excluded:cache": [(0x209, 0x20A)],
        "excluded:free": [(0x20A, 0x20C)],
        "excluded:zero": [(0x20C, 0x20D)],
        "lost": [(0x20E, 0x20F)],
        "absent": [(0x401, 0x408)],
    }


def test_what_is_counted() -> None:
    with RunSpool(DUMP.tables()) as spool:
        frames = FrameMap(spool, HEADERS, PAGE)
        told: list[int] = []
        counts = frames.count(told.append)
        assert sum(told) == spool.end - counts.not_memory
        for kind, ranges in listed(frames).items():
            assert counts.frames[kind] == sum(end - first for first, end in ranges)
    assert sum(counts.bytes[state] for state in STATES) + counts.not_memory == len(DUMP.image)
    assert counts.not_memory == 0x1000 + 0x400
    assert counts.bytes["alias"] == 0x4000
    assert counts.bytes["excluded"] == 0x4000 == sum(counts.bytes[kind] for kind in CLASSES.values())
    assert counts.bytes["absent"] == 0x7000


@pytest.mark.parametrize("upto", range(len(DUMP.tables()) + 1))
def test_an_incomplete_dump_is_counted_as_far_as_it_goes(upto: int) -> None:
    with RunSpool(DUMP.tables()[:upto]) as spool:
        frames = FrameMap(spool, HEADERS, PAGE)
        counts = frames.count()
        assert sum(counts.bytes[state] for state in STATES) + counts.not_memory == spool.end
        wanted = model(DUMP, HEADERS, spool.end)
        assert {kind: expand(ranges) for kind, ranges in listed(frames, *STATES, *CLASSES.values()).items()} == wanted


def expand(ranges: list[tuple[int, int]]) -> set[int]:
    """The frames of ranges, which must be ascending and as long as possible."""
    assert all(end < first for (_, end), (first, _) in pairwise(ranges))
    return {frame for first, end in ranges for frame in range(first, end)}


STRETCH = st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from([0, 0, 0x400, 0xC00]))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(STRETCH, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_layout(stretches: list[tuple[int, int, int]], random: object) -> None:
    """Overlapping segments in any order, ending inside pages, in all states."""
    core = Core([Load(first * PAGE, pages * PAGE - cut) for first, pages, cut in stretches])
    marks = {}
    choices = [DATA, ZERO, LOST, excluded(ExcludeClass.CACHE), excluded(ExcludeClass.USER)]
    for offset in range(PAGE, core.size, PAGE):
        marks[offset, min(offset + PAGE, core.size)] = random.choice(choices)  # type: ignore[attr-defined]
    dump = BuiltDump(core, marks)
    headers = headers_of(dump.image)
    with RunSpool(dump.tables()) as spool:
        found = listed(FrameMap(spool, headers, PAGE), *STATES, *CLASSES.values())
    assert {kind: expand(ranges) for kind, ranges in found.items()} == model(dump, headers, len(dump.image))


@settings(derandomize=True, deadline=None)
@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_ranges_are_sets(one: set[int], other: set[int]) -> None:
    def ranges(frames: set[int]) -> list[tuple[int, int]]:
        return list(as_frames(((frame * 16, frame * 16 + 16) for frame in sorted(frames)), 16))

    assert expand(ranges(one)) == one
    assert expand(list(subtract(ranges(one), iter(ranges(other))))) == one - other


def test_frames_of_odd_addresses() -> None:
    assert list(as_frames([(0, 16), (16, 17), (31, 33), (80, 80), (160, 161)], 16)) == [(0, 3), (10, 11)]
    assert list(as_frames([], 16)) == []
