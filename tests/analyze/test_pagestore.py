"""Pages by frame, held against a model that puts memory together byte by byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.analyze.pagestore import PageRun, Part, iter_pages
from netdump.analyze.runspool import RunSpool
from netdump.pages import ExcludeClass, PageState
from netdump.testing.elf_writer import Core, Load, counter_pages
from netdump.vmcore.physmap import ImageMap
from tests.analyze.built import DATA, LOST, PAGE, ZERO, BuiltDump, excluded
from tests.analyze.test_frames import DUMP, HEADERS, OFFSETS
from tests.vmcore.doubles import headers_of

IN_DOUBT = [PageState.DATA, PageState.LOST, PageState.ZERO, PageState.EXCLUDED]


def pages(dump: BuiltDump, upto: int | None = None) -> list[PageRun]:
    with RunSpool(dump.tables()[:upto]) as spool:
        return list(iter_pages(spool, ImageMap(headers_of(dump.image)), PAGE))


def content(dump: BuiltDump, run: PageRun) -> bytes:
    if not run.parts:
        return dump.image[run.offset : run.offset + run.pages * PAGE]
    page = bytearray(PAGE)
    for part in run.parts:
        page[part.at : part.at + part.length] = dump.image[part.offset : part.offset + part.length]
    return bytes(page)


def test_by_frame_and_the_first_place_counts() -> None:
    found = pages(DUMP)
    assert [run.first for run in found] == sorted(run.first for run in found)
    text = next(run for run in found if run.first == 0x203)
    assert text == PageRun(PageState.DATA, 0x203, 4, OFFSETS[0])
    states = {frame: run.state for run in found for frame in range(run.first, run.first + run.pages)}
    assert (states[0x20E], states[0x200]) == (PageState.LOST, PageState.ZERO)
    assert not {0x209, 0x401} & set(states)  # excluded, and not in the image


def test_the_ragged_end_of_memory_is_a_page() -> None:
    core = Core([Load(0x1000, 0x1C00, {0: counter_pages(1, 2)}), Load(0x2C00, 0x400, {0: counter_pages(9, 1)[:0x400]})])
    _, last = pages(BuiltDump(core))
    first, second = (segment.offset for segment in core.segments())
    assert last == PageRun(PageState.DATA, 2, 1, 0, (Part(0, 0xC00, first + 0x1000), Part(0xC00, 0x400, second)))


def test_what_has_not_arrived_is_lost() -> None:
    found = pages(DUMP, 2)
    assert len({run.state for run in found}) > 2
    reach = 2 * DUMP.chunk_pages * PAGE
    image_map = ImageMap(HEADERS)
    for run in found:
        for frame in range(run.first, run.first + run.pages):
            offset = image_map.image_offset(frame * PAGE)
            assert offset is not None
            assert (run.state is PageState.LOST) == (offset >= reach)


def all_excluded(parts: dict[int, tuple[PageState, bytes]]) -> bool:
    return all(state is PageState.EXCLUDED for state, _ in parts.values())


STRETCH = st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from([0, 0x400, 0xC00]))


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    st.lists(STRETCH, min_size=1, max_size=6),
    st.integers(1, 99),
    st.randoms(use_true_random=False),
)
def test_any_layout(stretches: list[tuple[int, int, int]], seed: int, random: object) -> None:
    core = Core(
        [
            Load(a * PAGE + cut, n * PAGE, {0: counter_pages(seed + 20 * i, n)})
            for i, (a, n, cut) in enumerate(stretches)
        ]
    )
    choices = [DATA, ZERO, LOST, excluded(ExcludeClass.CACHE)]
    marks = {
        (offset, min(offset + 0x400, core.size)): random.choice(choices)  # type: ignore[attr-defined]
        for offset in range(0x1000, core.size, 0x400)
    }
    dump = BuiltDump(core, marks)
    image_map = ImageMap(headers_of(dump.image))
    memory: dict[int, dict[int, tuple[PageState, bytes]]] = {}
    for paddr in range(0, 60 * PAGE, 0x400):
        offset = image_map.image_offset(paddr)
        if offset is not None:
            state = dump.mark_of(offset)[0]
            memory.setdefault(paddr // PAGE, {})[paddr % PAGE] = state, dump.image[offset : offset + 0x400]
    for frame in [frame for frame, parts in memory.items() if all_excluded(parts)]:
        del memory[frame]
    found = pages(dump)
    assert [frame for run in found for frame in range(run.first, run.first + run.pages)] == sorted(memory)
    for run in found:
        data = content(dump, run) if run.state is PageState.DATA else b""
        for number in range(run.pages):
            parts = memory[run.first + number]
            assert run.state is min((state for state, _ in parts.values()), key=IN_DOUBT.index)
            for at, (state, expected) in parts.items():
                if run.state is PageState.DATA and state is PageState.DATA:
                    assert data[number * PAGE + at : number * PAGE + at + 0x400] == expected
