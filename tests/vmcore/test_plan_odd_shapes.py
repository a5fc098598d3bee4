"""Odd shapes, in small: memory of 64 pages of 16 bytes, segments anywhere in memory and file."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.testing.elf_writer import Core, Load, NoteSegment, counter_pages, prstatus_note
from netdump.vmcore.buffers import BufferPool
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import Limits, PlannedChunk, iter_chunks
from tests.vmcore.doubles import BytesSource, headers_of, restore
from tests.vmcore.plans import LOST, SMALL, excluded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.pages import ExcludeClass

MEMORY = 64 * SMALL


@st.composite
def cores(draw: st.DrawFn) -> Core:
    memory = bytearray(b"".join(counter_pages(page, 1, SMALL) for page in range(1, 65)))
    for page in draw(st.sets(st.integers(0, 63))):
        memory[page * SMALL : page * SMALL + SMALL] = bytes(SMALL)
    loads = []
    for _ in range(draw(st.integers(1, 7))):
        paddr = draw(st.integers(0, MEMORY - 1))
        size = draw(st.integers(0, MEMORY - paddr))
        view = bytearray(memory[paddr : paddr + size])
        if size and draw(st.booleans()):
            view[draw(st.integers(0, size - 1))] ^= draw(st.integers(0, 255))
        offset = draw(st.none() | st.integers(0, 2 * MEMORY))
        loads.append(Load(paddr, size, {0: bytes(view)}, memsz=size + draw(st.integers(0, 99)), offset=offset))
    notes = [NoteSegment(prstatus_note(1, bytes(16)))] * draw(st.integers(0, 2))
    alignment = draw(st.sampled_from([1, 4, SMALL, 256]))
    return Core(
        loads, notes, bits=draw(st.sampled_from([32, 64])), alignment=alignment, trailer=draw(st.binary(max_size=40))
    )


LIMIT_SETS = st.builds(
    Limits,
    length=st.integers(SMALL, 3000),
    data=st.integers(SMALL, 1000),
    runs=st.integers(1, 40),
    read=st.integers(1, 5000),
)


def readable(core: Core) -> bytes | None:
    """The image, unless a segment lies over the headers so that they cannot be read back."""
    image = core.build()
    return image if image[: len(core.headers())] == core.headers() else None


@settings(derandomize=True, deadline=None, max_examples=200)
@given(cores(), LIMIT_SETS, st.booleans())
def test_any_core_comes_back_from_any_chunk_on(core: Core, limits: Limits, filtered: bool) -> None:
    image = readable(core)
    if image is None:
        return
    image_map = ImageMap(headers_of(image))

    def classify(paddr: int, pages: int) -> Iterator[tuple[ExcludeClass, int]]:
        for page in range(paddr // SMALL, paddr // SMALL + pages):
            yield excluded(page), 1

    def plan(start: int) -> list[PlannedChunk]:
        source = BytesSource(image)
        pool = BufferPool(limits.data, 10_000)
        hook = classify if filtered else None
        return list(iter_chunks(source, image_map, SMALL, start, classify=hook, pool=pool, limits=limits))

    whole = plan(0)
    restored = restore(whole)
    if not filtered:
        assert restored == image
    for chunk in whole:
        assert chunk.length <= limits.length
        assert len(chunk.data) <= limits.data
        assert len(chunk.runs) <= limits.runs
        check_page_boundaries(chunk, image_map)
    for chunk in whole[:: max(1, len(whole) // 4)]:
        assert restore(plan(chunk.offset), restored[: chunk.offset]) == restored


def check_page_boundaries(chunk: PlannedChunk, image_map: ImageMap) -> None:
    """Within a segment runs change at page boundaries of the memory it shows (wire.md 4.6)."""
    position = chunk.offset
    for run, _ in pairwise(chunk.runs):
        position += run.length
        before, after = image_map.paddr_at(position - 1), image_map.paddr_at(position)
        if before is not None and after == before + 1:
            assert after % SMALL == 0


@settings(derandomize=True, deadline=None, max_examples=120)
@given(cores(), LIMIT_SETS, st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 100)), max_size=5))
def test_what_cannot_be_read_is_lost_and_the_rest_comes_back(
    core: Core, limits: Limits, bad: list[tuple[int, int]]
) -> None:
    image = readable(core)
    if image is None:
        return
    merged: list[tuple[int, int]] = []
    for start, length in sorted(bad):
        if not merged or start > merged[-1][1]:
            merged.append((start, min(start + length, len(image))))
    source = BytesSource(image, [(start, end) for start, end in merged if start < end])
    pool = BufferPool(limits.data, 10_000)
    chunks = list(iter_chunks(source, ImageMap(headers_of(image)), SMALL, pool=pool, limits=limits))
    restored = restore(chunks)
    position = 0
    lost: set[int] = set()
    for run in (run for chunk in chunks for run in chunk.runs):
        if run.state == LOST:
            lost.update(range(position, position + run.length))
        position += run.length
    assert all(offset in lost for start, end in source.bad for offset in range(start, end))
    assert all(restored[offset] == image[offset] for offset in range(len(image)) if offset not in lost)
    assert all(restored[offset] == 0 for offset in lost)
    near = {near for start, end in source.bad for near in range(start - SMALL, end + SMALL)}
    assert lost <= near, "no page is lost that could be read"


@settings(derandomize=True, deadline=None, max_examples=120)
@given(cores(), LIMIT_SETS, st.lists(st.integers(0, 3000), max_size=5), st.integers(0, 100))
def test_what_a_cut_walk_has_lost_does_not_spread(core: Core, limits: Limits, bad: list[int], cut: int) -> None:
    """The pages that were lost before a cut can be read after it: everything from the cut on must come back whole."""
    image = readable(core)
    if image is None:
        return
    image_map = ImageMap(headers_of(image))
    pool = BufferPool(limits.data, 10_000)
    failing = BytesSource(image, [(start, start + 1) for start in sorted(set(bad)) if start < len(image)])
    before = list(iter_chunks(failing, image_map, SMALL, pool=pool, limits=limits))
    before = before[: cut * len(before) // 100]
    start = sum(chunk.length for chunk in before)
    after = iter_chunks(BytesSource(image), image_map, SMALL, start, pool=pool, limits=limits)
    assert restore([*before, *after])[start:] == image[start:]
