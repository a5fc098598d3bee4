"""What a plan says of each page: data, zeros, an alias, left out, lost; and that an image comes back from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.pages import ExcludeClass, Run
from netdump.testing.elf_writer import Core, Load, NoteSegment, counter_pages, prstatus_note
from netdump.vmcore.buffers import BufferPool
from netdump.vmcore.elf import ElfHeaders, parse_headers
from netdump.vmcore.filesource import FileSource
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import (
    CHUNK_DATA_MAX,
    CHUNK_LENGTH_MAX,
    CLASSIFY_PAGES_MAX,
    Limits,
    PlannedChunk,
    catch_up,
    iter_chunks,
)
from netdump.vmcore.procvmcore import VmcoreSource
from tests.vmcore.doubles import BytesSource, headers_of, restore
from tests.vmcore.plans import ALIAS, DATA, EXCLUDED, LOST, PAGE, SMALL, ZERO, excluded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


@pytest.mark.parametrize("kept", range(1, 4))
def test_nothing_is_an_alias_of_what_was_left_out(kept: int) -> None:
    """The page filter found reason to keep it only when it was shown again."""
    text = counter_pages(1, 8)
    image = Core([Load(0, 8 * PAGE, {0: text}), Load(0, 8 * PAGE, {0: text})]).build()
    asked = 0

    def classify(paddr: int, pages: int) -> list[tuple[ExcludeClass, int]]:
        nonlocal asked
        asked += 1
        assert (paddr, pages) == (0, 8)
        left_out = (ExcludeClass.USER, ExcludeClass.FREE) if asked == 1 else (ExcludeClass.NONE, ExcludeClass.NONE)
        return [(ExcludeClass.NONE, kept), *((answer, 2) for answer in left_out), (ExcludeClass.NONE, 4 - kept)]

    pool = BufferPool(CHUNK_DATA_MAX, 2)
    (chunk,) = iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, classify=classify, pool=pool)
    assert EXCLUDED in {run.state for run in chunk.runs}
    assert restore(iter([chunk]))[9 * PAGE :] == text


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


def fake_filter(paddr: int, pages: int) -> Iterator[tuple[ExcludeClass, int]]:
    """Classes by page number, in runs of random length; the same page always gets the same."""
    assert paddr % PAGE == 0
    assert 0 < pages <= CLASSIFY_PAGES_MAX
    first = paddr // PAGE
    assert first // CLASSIFY_PAGES_MAX == (first + pages - 1) // CLASSIFY_PAGES_MAX
    for page in range(first, first + pages):
        yield excluded(page), 1


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
