from __future__ import annotations

import random
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.pages import ExcludeClass, PageState, Run
from netdump.testing.elf_writer import Core, Load, NoteSegment, counter_pages, prstatus_note
from netdump.vmcore.buffers import BufferPool
from netdump.vmcore.elf import ElfHeaders, parse_headers
from netdump.vmcore.filesource import FileSource
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import (
    CHUNK_DATA_MAX,
    CHUNK_LENGTH_MAX,
    CLASSIFY_PAGES_MAX,
    LIMITS,
    Limits,
    PlannedChunk,
    catch_up,
    iter_chunks,
)
from netdump.vmcore.procvmcore import VmcoreSource
from tests.vmcore.doubles import BytesSource, headers_of, restore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DATA, ZERO, ALIAS, EXCLUDED, LOST = PageState
PAGE = 4096
SMALL = 16  # a page size for small cores of odd shapes


def runs_of(core: Core, bad: list[tuple[int, int]] | None = None, start: int = 0) -> list[Run]:
    """The runs of a core that fits in one chunk, without those of its first page, the headers."""
    image = core.build()
    (chunk,) = list(iter_chunks(BytesSource(image, bad or []), ImageMap(headers_of(image)), PAGE, start))
    assert chunk.runs[0].length >= PAGE or start
    return list(chunk.runs)


def test_zeros_are_found_and_neighbours_are_one_run() -> None:
    core = Core(
        [Load(0, 4 * PAGE, {PAGE: counter_pages(1, 1)}), Load(1 << 20, 2 * PAGE), Load(1 << 30, PAGE, {0: b"x"})]
    )
    assert runs_of(core) == [Run(DATA, PAGE), Run(ZERO, PAGE), Run(DATA, PAGE), Run(ZERO, 4 * PAGE), Run(DATA, PAGE)]


def test_pages_are_those_of_memory_not_of_the_file() -> None:
    """A zero page is found although it lies across two pages of the file."""
    load = Load(0x10000, 3 * PAGE, {0: counter_pages(1, 1), 2 * PAGE: counter_pages(3, 1)}, offset=5000)
    gap = Run(ZERO, 5000 - PAGE)
    assert runs_of(Core([load])) == [Run(DATA, PAGE), gap, Run(DATA, PAGE), Run(ZERO, PAGE), Run(DATA, PAGE)]


def test_pages_are_those_of_memory_where_that_starts_anywhere() -> None:
    load = Load(0x10800, 0x2000, {0: b"x", 0x1800: b"y"})
    assert runs_of(Core([load])) == [Run(DATA, PAGE + 0x800), Run(ZERO, PAGE), Run(DATA, 0x800)]


def test_what_stood_before_is_an_alias() -> None:
    text = counter_pages(1, 2) + bytes(PAGE) + counter_pages(3, 1)
    core = Core([Load(0x2000, 4 * PAGE, {0: text}), Load(0, 7 * PAGE, {PAGE: b"y", 2 * PAGE: text, 6 * PAGE: b"z"})])
    assert runs_of(core) == [
        Run(DATA, 3 * PAGE),
        Run(ZERO, PAGE),
        Run(DATA, PAGE),
        Run(ZERO, PAGE),
        Run(DATA, PAGE),
        Run(ALIAS, 2 * PAGE, source=PAGE),
        Run(ZERO, PAGE),
        Run(ALIAS, PAGE, source=4 * PAGE),
        Run(DATA, PAGE),
    ]


def test_only_equal_bytes_are_an_alias() -> None:
    """The same physical page, but it has changed between the two readings, or the file lies."""
    text = counter_pages(1, 4)
    changed = bytearray(text)
    changed[2 * PAGE + 7] ^= 1
    core = Core([Load(0, 4 * PAGE, {0: text}), Load(0, 4 * PAGE, {0: bytes(changed)})])
    assert runs_of(core) == [
        Run(DATA, 5 * PAGE),
        Run(ALIAS, 2 * PAGE, source=PAGE),
        Run(DATA, PAGE),
        Run(ALIAS, PAGE, source=4 * PAGE),
    ]


def test_aliases_of_different_sources_are_two_runs() -> None:
    loads = [Load(0, PAGE, {0: counter_pages(1, 1)}), Load(0x8000, PAGE, {0: counter_pages(2, 1)})]
    both = [Load(0x8000, PAGE, {0: counter_pages(2, 1)}), Load(0, PAGE, {0: counter_pages(1, 1)})]
    assert runs_of(Core(loads + both))[-2:] == [Run(ALIAS, PAGE, source=2 * PAGE), Run(ALIAS, PAGE, source=PAGE)]
    assert runs_of(Core(loads + loads))[-1:] == [Run(ALIAS, 2 * PAGE, source=PAGE)], "these continue one another"


def test_lost_pages_are_said() -> None:
    core = Core([Load(0, 6 * PAGE, {0: counter_pages(1, 6)})])
    bad = [(3 * PAGE, 3 * PAGE + 1), (5 * PAGE, 6 * PAGE)]
    assert runs_of(core, bad) == [
        Run(DATA, 3 * PAGE),
        Run(LOST, PAGE),
        Run(DATA, PAGE),
        Run(LOST, PAGE),
        Run(DATA, PAGE),
    ]


def test_lost_zeros_are_lost() -> None:
    assert runs_of(Core([Load(0, 2 * PAGE)]), [(PAGE, 3 * PAGE)]) == [Run(DATA, PAGE), Run(LOST, 2 * PAGE)]


def test_nothing_is_an_alias_of_what_was_lost() -> None:
    """It would be restored as zeros; here the second reading succeeds, so the data is saved."""
    text = counter_pages(1, 4)
    image = Core([Load(0, 4 * PAGE, {0: text}), Load(0, 4 * PAGE, {0: text})]).build()
    source = BytesSource(image, [(2 * PAGE, 3 * PAGE)])
    real = source.read_into

    def heal(offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        lost = real(offset, buffer)
        if offset >= PAGE:
            source.bad.clear()
        return lost

    source.read_into = heal  # type: ignore[method-assign]
    chunks = list(iter_chunks(source, ImageMap(headers_of(image)), PAGE, pool=BufferPool(CHUNK_DATA_MAX, 8)))
    states = [run.state for chunk in chunks for run in chunk.runs]
    assert LOST in states
    restored = restore(iter(chunks))
    assert restored[5 * PAGE :] == text
    assert restored[2 * PAGE : 3 * PAGE] == bytes(PAGE)


def test_when_too_much_was_lost_to_remember_nothing_is_an_alias() -> None:
    pages = counter_pages(1, 2200, SMALL)
    image = Core([Load(0, len(pages), {0: pages}), Load(0, len(pages), {0: pages})], alignment=SMALL).build()
    head = image.index(pages)
    for lost_pages, aliases in ((1000, True), (1100, False)):
        source = BytesSource(image, [(head + 32 * page, head + 32 * page + 1) for page in range(lost_pages)])
        chunks = iter_chunks(source, ImageMap(headers_of(image)), SMALL, limits=Limits(data=64 * SMALL))
        runs = [run for chunk in chunks for run in chunk.runs]
        assert any(run.state == ALIAS for run in runs) == aliases


def test_what_cannot_be_compared_is_data() -> None:
    text = counter_pages(1, 2)
    image = Core([Load(0, 2 * PAGE, {0: text}), Load(0, 2 * PAGE, {0: text})]).build()
    source = BytesSource(image)
    real = source.read_into

    def fail(offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        lost = real(offset, buffer)
        source.bad[:] = [(PAGE, 2 * PAGE)] if offset == PAGE else source.bad  # once it was sent
        return lost

    source.read_into = fail  # type: ignore[method-assign]
    (chunk,) = iter_chunks(source, ImageMap(headers_of(image)), PAGE)
    assert list(chunk.runs) == [Run(DATA, 4 * PAGE), Run(ALIAS, PAGE, source=2 * PAGE)]


def test_what_an_earlier_walk_sent_is_no_source() -> None:
    """It may have been lost then, although it can be read now; an alias of it would be restored as zeros."""
    text = counter_pages(1, 2)
    image = Core([Load(0, 2 * PAGE, {0: text}), Load(0, 2 * PAGE, {0: text})]).build()
    (chunk,) = iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, 3 * PAGE)
    assert list(chunk.runs) == [Run(DATA, 2 * PAGE)]


def planned(core: Core, limits: Limits = LIMITS) -> list[PlannedChunk]:
    image = core.build()
    pool = BufferPool(max(limits.data, PAGE), 1000)
    return list(iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool, limits=limits))


def test_limits_of_a_chunk() -> None:
    pages = b"".join(counter_pages(page, 1) + bytes(PAGE) for page in range(1, 200))
    core = Core([Load(0, len(pages), {0: pages}), Load(1 << 30, 1000 * PAGE)])
    for limits in (
        Limits(data=PAGE),
        Limits(data=10 * PAGE),
        Limits(runs=1),
        Limits(runs=2),
        Limits(runs=7),
        Limits(length=PAGE),
        Limits(length=5 * PAGE),
        Limits(read=1),
        Limits(length=7 * PAGE, data=3 * PAGE, runs=3, read=100 * PAGE),
    ):
        chunks = planned(core, limits)
        assert restore(chunks) == core.build()
        assert all(chunk.length <= limits.length for chunk in chunks)
        assert all(len(chunk.data) <= limits.data for chunk in chunks)
        assert all(1 <= len(chunk.runs) <= limits.runs for chunk in chunks)


def test_pure_data_fills_its_chunks() -> None:
    chunks = planned(Core([Load(0, 4 << 20, {0: counter_pages(1, 1024)})]))
    assert [len(chunk.data) for chunk in chunks] == [1 << 20] * 4 + [PAGE]


def test_zeros_do_not_keep_a_client_silent() -> None:
    """What is read for one chunk is bounded, even if nothing comes of it."""
    chunks = planned(Core([Load(0, 64 << 20)]), Limits(read=16 << 20))
    assert [chunk.length for chunk in chunks] == [(16 << 20) + PAGE] + [16 << 20] * 3


class SlowSource(BytesSource):
    """Takes its time for each byte, and much more for each bad page, by a clock of its own."""

    def __init__(self, image: bytes, rate: float, bad: Sequence[tuple[int, int]] = (), page_seconds: float = 0) -> None:
        super().__init__(image, bad)
        self.now = 0.0
        self._rate, self._page_seconds = rate, page_seconds

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        lost = super().read_into(offset, buffer)
        self.now += len(buffer) / self._rate + self._page_seconds * sum(length for _, length in lost) / PAGE
        return lost


def silences(source: SlowSource, core: Core) -> list[float]:
    """How long each chunk is in the making; they must be the image."""
    chunks, waits, before = [], [], 0.0
    pool = BufferPool(CHUNK_DATA_MAX, 1000)
    for chunk in iter_chunks(source, ImageMap(headers_of(source.image)), PAGE, pool=pool, clock=lambda: source.now):
        waits.append(source.now - before)
        before = source.now
        chunks.append(chunk)
    restored = restore(chunks)
    assert len(restored) == len(core.build())
    return waits


@pytest.mark.parametrize("rate", [12 << 20, 1 << 20, 100 << 10])
@pytest.mark.parametrize("kind", ["zeros", "aliases"])
def test_a_slow_source_does_not_keep_a_client_silent(rate: int, kind: str) -> None:
    """[W-60]: a chunk is finished after a second, whatever comes of it, and a block is the least that is read."""
    text = counter_pages(1, 2048) if kind == "aliases" else b""
    loads = [Load(0, 8 << 20, {0: text})] * 2 if text else [Load(0, 16 << 20)]
    source = SlowSource(Core(loads).build(), rate)
    waits = silences(source, Core(loads))
    block = (256 << 10) / rate
    assert waits[0] < 1 + 4 * block  # the first may begin with a whole block, and another to compare it with
    assert max(waits[1:]) < 2  # a block and its source, each twice as large as one that took a quarter of a second
    assert len(waits) >= source.now / 2


def test_pages_that_fail_slowly_are_tried_one_by_one() -> None:
    core = Core([Load(0, 4 << 20, {0: counter_pages(1, 1024)})])
    source = SlowSource(core.build(), 1 << 30, [(1 << 20, 2 << 20)], page_seconds=2)
    waits = silences(source, core)
    assert sorted(waits)[-2] <= 2.1, "but for the block in which the first of them is"
    assert max(waits) <= 2 * 64 + 1
    assert sum(length for _, length in source.reads) == source.size, "nothing is read twice"


def test_data_is_handed_out_as_it_was_read() -> None:
    """No copy where a chunk is all data: the source fills the pool's buffer, and that is what the chunk shows."""
    core = Core([Load(0, 1 << 20, {0: counter_pages(1, 256)})])
    image = core.build()
    pool = BufferPool(CHUNK_DATA_MAX, 3)
    buffer = pool.take()
    pool.release(memoryview(buffer))
    chunk = next(iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool))
    assert chunk.data.obj is buffer
    assert chunk.data.contiguous


def test_without_a_pool_data_is_valid_until_the_next_chunk() -> None:
    image = Core([Load(0, 3 << 20, {0: counter_pages(1, 768)})]).build()
    chunks = iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE)
    first = next(chunks)
    assert first.data[:PAGE] == image[:PAGE]
    next(chunks)
    with pytest.raises(ValueError, match="released"):
        first.data[0]


def test_with_a_pool_chunks_may_be_held_and_released_in_any_order() -> None:
    core = Core([Load(0, 8 << 20, {0: counter_pages(1, 2048)}), Load(1 << 30, 64 * PAGE)])
    image = core.build()
    pool = BufferPool(CHUNK_DATA_MAX, 5)
    held: list[PlannedChunk] = []
    kept: dict[int, bytes] = {}
    generator = random.Random(7)
    for chunk in iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool):
        held.append(chunk)
        if len(held) == 4:
            out = held.pop(generator.randrange(4))
            kept[out.offset] = bytes(out.data)
            pool.release(out.data)
    for chunk in held:
        kept[chunk.offset] = bytes(chunk.data)
    assert b"".join(kept[offset] for offset in sorted(kept)) == image[: PAGE + (8 << 20)]


def test_every_buffer_comes_back_to_the_pool() -> None:
    """However a walk ends: a client makes a new one after each cut of the connection."""
    image = Core([Load(0, 3 << 20, {0: counter_pages(1, 256), 2 << 20: b"x"})]).build()
    pool = BufferPool(CHUNK_DATA_MAX, 2)
    for wanted in (0, 1, 2, 99) * 3:
        chunks = iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool)
        for _, chunk in zip(range(wanted), chunks, strict=False):
            pool.release(chunk.data)
        chunks.close()
    assert {id(pool.take()), id(pool.take())}, "both are there"


def test_holes_are_not_read(tmp_path: Path) -> None:
    """64 GiB with three pages in them, planned at once."""
    size = 64 << 30
    core = Core([Load(0, size, {5 << 30: counter_pages(1, 2), size - PAGE: counter_pages(3, 1)})])
    path = tmp_path / "sparse"
    core.write(path)
    source = FileSource(str(path))
    if source.next_data(1 << 30) == 1 << 30:
        pytest.skip("this file system knows no holes")
    image_map = ImageMap(headers_of_file(source))
    position = 0
    data = b""
    for chunk in iter_chunks(source, image_map, PAGE):
        assert chunk.offset == position
        assert chunk.length <= CHUNK_LENGTH_MAX
        position += chunk.length
        data += chunk.data
    assert position == source.size == size + PAGE
    assert data == source.read(0, PAGE) + counter_pages(1, 3)


def headers_of_file(source: FileSource | VmcoreSource) -> ElfHeaders:
    return parse_headers(source.read, source.size)


def test_a_thousand_segments_in_few_chunks() -> None:
    loads = [Load(number << 20, 100, {0: bytes([number % 255 + 1]) * 100}) for number in range(1000)]
    core = Core(loads, alignment=1)
    chunks = planned(core)
    assert len(chunks) == 1
    assert restore(chunks) == core.build()
    chunks = planned(Core(loads))  # each followed by a gap of zeros up to the next page
    assert restore(chunks) == Core(loads).build()


def fake_filter(paddr: int, pages: int) -> Iterator[tuple[ExcludeClass, int]]:
    """Classes by page number, in runs of random length; the same page always gets the same."""
    assert paddr % PAGE == 0
    assert 0 < pages <= CLASSIFY_PAGES_MAX
    first = paddr // PAGE
    assert first // CLASSIFY_PAGES_MAX == (first + pages - 1) // CLASSIFY_PAGES_MAX
    for page in range(first, first + pages):
        yield excluded(page), 1


def excluded(page: int) -> ExcludeClass:
    return ExcludeClass(zlib.crc32(b"%d" % (page // 3)) % 4 and zlib.crc32(b"%d" % (page // 3)) % 9)


def test_excluded_pages_are_said_and_not_read() -> None:
    loads = [
        Load(0x1800, 200 * PAGE, {0: counter_pages(1, 200)}),
        Load(100 * PAGE, 300 * PAGE, {0: counter_pages(500, 300)}, memsz=400 * PAGE),
        Load(4095 * PAGE, 20 * PAGE),
    ]
    core = Core(loads, notes=[NoteSegment(prstatus_note(1, bytes(216)))])
    image = core.build()
    image_map = ImageMap(headers_of(image))
    source = BytesSource(image)
    expected = bytearray(image)
    forbidden = set()
    half = PAGE // 2  # the first segment starts in the middle of a page
    for offset in range(0, len(image), half):
        paddr = image_map.paddr_at(offset)
        if paddr is not None and excluded(paddr // PAGE):
            expected[offset : offset + half] = bytes(half)
            forbidden.add(offset)
    states: dict[int, Run] = {}
    chunks = []
    for chunk in iter_chunks(source, image_map, PAGE, classify=fake_filter, pool=BufferPool(CHUNK_DATA_MAX, 9)):
        chunks.append(chunk)
        position = chunk.offset
        for run in chunk.runs:
            states[position] = run
            position += run.length
    assert restore(chunks) == expected
    for offset, length in source.reads:
        assert forbidden.isdisjoint(range(offset // half * half, offset + length, half))
    for position, run in states.items():
        paddr = image_map.paddr_at(position)
        wanted = ExcludeClass.NONE if paddr is None else excluded(paddr // PAGE)
        assert run.exclude == wanted
        assert (run.state == EXCLUDED) == (wanted != ExcludeClass.NONE)
    assert {run.exclude for run in states.values()} >= {ExcludeClass.USER, ExcludeClass.FREE, ExcludeClass.CACHE}


def test_a_filter_must_answer_for_all_it_was_asked() -> None:
    image = Core([Load(0, 4 * PAGE)]).build()
    for answer in (3, 5):
        with pytest.raises(AssertionError, match="page filter"):
            list(
                iter_chunks(
                    BytesSource(image),
                    ImageMap(headers_of(image)),
                    PAGE,
                    classify=lambda _paddr, _pages, answer=answer: [(ExcludeClass.FREE, answer)],  # type: ignore[misc]
                )
            )


def test_huge_excluded_stretches_are_cheap() -> None:
    """A TiB of memory that the filter leaves out whole: thousands of answers, few runs, no reading."""
    core = Core([Load(0, 0, memsz=1 << 40), Load(1 << 41, PAGE, {0: b"x"})])
    size = 1 << 40

    class Endless(BytesSource):
        def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
            raise AssertionError(f"read at {offset}")

    image = core.build()
    headers = headers_of(image)
    load = headers.segments[0]._replace(offset=1 << 20, filesz=size, memsz=size)
    headers = headers._replace(segments=(load,), image_bytes=(1 << 20) + size)
    source = Endless(image)
    chunks = iter_chunks(
        source, ImageMap(headers), PAGE, 1 << 20, classify=lambda _paddr, pages: [(ExcludeClass.FREE, pages)]
    )
    count = 0
    for chunk in chunks:
        assert len(chunk.runs) == 1
        count += 1
    assert count == 1024


def test_no_bytes_to_plan() -> None:
    image = Core([Load(0, PAGE)]).build()
    assert list(iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, len(image))) == []


@pytest.mark.parametrize("kind", [FileSource, VmcoreSource])
def test_the_real_sample_comes_back(sample: Path, kind: type[FileSource | VmcoreSource]) -> None:
    source = kind(str(sample))
    image_map = ImageMap(headers_of_file(source))
    image = sample.read_bytes()
    runs: list[Run] = []

    def noted() -> Iterator[PlannedChunk]:
        for chunk in iter_chunks(source, image_map, PAGE):
            runs.extend(chunk.runs)
            yield chunk

    assert restore(noted()) == image
    assert sum(run.length for run in runs if run.state == ALIAS) > 25 << 20
    assert sum(run.length for run in runs if run.state == DATA) < 60 << 20
    cut = image_map.image_bytes // 3
    assert restore(iter_chunks(source, image_map, PAGE, cut), image[:cut]) == image
    source.close()


# Odd shapes, in small: memory of 64 pages, segments anywhere in memory and file.

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


@pytest.mark.parametrize("pages", [1, 100, CLASSIFY_PAGES_MAX, 3 * CLASSIFY_PAGES_MAX + 7])
def test_catching_up_asks_as_planning_does(pages: int) -> None:
    """The filter is asked about all memory before an offset, and nothing else; with a word now and then."""
    core = Core([Load(0x100000, 1 << 20, {}), Load(0x1000000, 5 * CLASSIFY_PAGES_MAX * PAGE, {})])
    image = core.build()
    image_map = ImageMap(headers_of(image))
    asked: set[int] = set()

    def classify(paddr: int, count: int) -> list[tuple[ExcludeClass, int]]:
        assert count <= CLASSIFY_PAGES_MAX
        asked.update(range(paddr // PAGE, paddr // PAGE + count))
        return [(ExcludeClass.FREE, 1)] * count

    end = image_map.image_offset(0x1000000)
    assert end is not None
    end += pages * PAGE
    reached = list(catch_up(image_map, PAGE, 0, end, classify))
    assert asked == {*range(0x100, 0x200), *range(0x1000, 0x1000 + pages)}
    assert reached == sorted(reached)
    assert reached[-1] == end
    assert len(reached) <= 4 + pages // CLASSIFY_PAGES_MAX
    asked.clear()
    middle = end - PAGE
    assert list(catch_up(image_map, PAGE, middle, end, classify)) == [end]
    assert asked == {0x1000 + pages - 1}
