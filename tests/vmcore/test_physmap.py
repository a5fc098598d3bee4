from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.testing.elf_writer import EM_386, NONE, Core, Load
from netdump.vmcore.elf import SEGMENTS_MAX
from netdump.vmcore.physmap import FirstRanges, ImageMap, Place, Stretch
from tests.vmcore.doubles import headers_of

if TYPE_CHECKING:
    from pathlib import Path

EM_ARM = 40


def image_map(*loads: Load, alignment: int = 4096, trailer: bytes = b"") -> ImageMap:
    return ImageMap(headers_of(Core(loads, alignment=alignment, trailer=trailer).build()))


def stretches(of: ImageMap, start: int = 0, page_bytes: int = 4096) -> list[tuple[int, int, int | None, int | None]]:
    return [tuple(stretch) for stretch in of.stretches(start, page_bytes)]  # type: ignore[misc]


def test_image_to_physical_and_back() -> None:
    of = image_map(Load(0x10000, 0x2000), Load(0x50000, 0x1000))
    assert of.paddr_at(0) is None
    assert of.paddr_at(0x1000) == 0x10000
    assert of.paddr_at(0x2FFF) == 0x11FFF
    assert of.paddr_at(0x3000) == 0x50000
    assert of.paddr_at(0x4000) is None
    assert of.image_offset(0x11FFF) == 0x2FFF
    assert of.image_offset(0x12000) is None
    assert of.image_offset(0x50FFF) == 0x3FFF
    assert of.place(0x11F00) == Place(0x2F00, 0x100)
    assert of.place(0x12000) is None


def test_memory_that_is_shown_twice() -> None:
    of = image_map(Load(0x10000, 0x8000), Load(0x12000, 0x1000), Load(0x16000, 0x4000), Load(0x40000, 0x1000))
    for start, end, twice in (
        (0x10000, 0x12000, False),
        (0x10000, 0x12001, True),
        (0x12FFF, 0x16000, True),
        (0x13000, 0x16000, False),
        (0x17000, 0x17001, True),
        (0x18000, 0x50000, False),
    ):
        assert of.is_shown_twice(start, end) == twice


def test_memory_without_bytes_is_there_as_zeros() -> None:
    of = image_map(Load(0x10000, 0x1000, memsz=0x3000), Load(0x12000, 0x1000))
    assert of.place(0x10FFF) == Place(0x1FFF, 1)
    assert of.place(0x11000) == Place(None, 0x1000), "up to where another segment has bytes"
    assert of.place(0x12000) == Place(0x2000, 0x1000)
    assert of.image_offset(0x11000) is None
    assert of.place(0x13000) is None
    assert image_map(Load(0, 0, memsz=1 << 40)).place(5) == Place(None, (1 << 40) - 5)


def test_virtual_to_physical() -> None:
    of = image_map(
        Load(0x10000, 0x1000, memsz=0x2000, vaddr=0xFFFF800000000000),
        Load(0x20000, 0x1000, vaddr=NONE),
        Load(0x30000, 0x1000, vaddr=0xFFFF800000001000),
    )
    assert of.translate(0xFFFF800000000000) == (0x10000, 0x2000)
    assert of.translate(0xFFFF800000001FFF) == (0x11FFF, 1), "the first segment in the table counts"
    assert of.translate(0xFFFF800000002000) is None
    assert of.translate(0xFFFFFFFFFFFFFFFF) is None
    assert of.translate(0x20000) is None


def test_a_kernel_that_is_mapped_where_its_memory_lies() -> None:
    """As with CONFIG_VMSPLIT_2G on an ARM machine whose memory begins at 2 GiB."""
    load = Load(0x8000_0000, 0x1000, vaddr=0x8000_0000)
    of = ImageMap(headers_of(Core([load], bits=32, machine=EM_ARM).build()))
    assert of.translate(0x8000_0000) == (0x8000_0000, 0x1000)
    of = ImageMap(headers_of(Core([load], bits=32, machine=EM_386).build()))
    assert of.translate(0x8000_0000) is None, "as QEMU writes it"


def test_segments_without_physical_address_are_no_memory() -> None:
    of = image_map(Load(NONE, 0x1000, vaddr=0x1000))
    assert stretches(of) == [(0, 0x2000, None, None)]
    assert of.translate(0x1000) is None


def test_a_second_view_of_memory_has_a_source() -> None:
    """As on x86_64: the kernel's text first, then all memory."""
    of = image_map(Load(0x2000, 0x2000), Load(0, 0x6000))
    assert stretches(of) == [
        (0, 0x1000, None, None),
        (0x1000, 0x3000, 0x2000, None),
        (0x3000, 0x5000, 0, None),
        (0x5000, 0x7000, 0x2000, 0x1000),
        (0x7000, 0x9000, 0x4000, None),
    ]
    assert of.image_offset(0x2000) == 0x1000, "the first one counts"
    assert of.paddr_at(0x5000) == 0x2000


def test_a_third_view_refers_to_the_first() -> None:
    of = image_map(Load(0, 0x1000), Load(0, 0x1000), Load(0, 0x1000))
    assert [stretch.source for stretch in of.stretches(0, 4096)] == [None, None, 0x1000, 0x1000]


def test_a_page_is_never_half_an_alias() -> None:
    of = image_map(Load(0x1800, 0x2000), Load(0, 0x6000))
    assert stretches(of)[2:] == [
        (0x3000, 0x5000, 0, None),
        (0x5000, 0x6000, 0x2000, 0x1800),
        (0x6000, 0x9000, 0x3000, None),
    ]


def test_ends_of_segments_need_no_whole_page() -> None:
    of = image_map(Load(0x1800, 0x1000), Load(0x1900, 0x100), alignment=1)
    head = len(Core([Load(0, 0)] * 2).headers())
    assert stretches(of) == [
        (0, head, None, None),
        (head, head + 0x1000, 0x1800, None),
        (head + 0x1000, head + 0x1100, 0x1900, head + 0x100),
    ]


def test_gaps_and_what_stands_behind() -> None:
    of = image_map(Load(0x1000, 0x800), Load(0x5000, 0x1000), trailer=b"tail")
    assert stretches(of) == [
        (0, 0x1000, None, None),
        (0x1000, 0x1800, 0x1000, None),
        (0x1800, 0x2000, None, None),
        (0x2000, 0x3000, 0x5000, None),
        (0x3000, 0x3004, None, None),
    ]


def test_segments_that_overlap_in_the_file() -> None:
    of = image_map(
        Load(0x10000, 0x3000, offset=0x1000), Load(0x50000, 0x3000, offset=0x2000), Load(0x70000, 0x800, offset=0x1800)
    )
    assert stretches(of) == [
        (0, 0x1000, None, None),
        (0x1000, 0x4000, 0x10000, None),
        (0x4000, 0x5000, 0x52000, None),
    ]
    assert of.place(0x50000) == Place(0x2000, 0x3000), "all memory has its bytes, though another segment shows them too"


def test_a_segment_over_the_headers() -> None:
    assert stretches(image_map(Load(0x10000, 0x3000, offset=0))) == [(0, 0x3000, 0x10000, None)]


def test_starting_anywhere() -> None:
    of = image_map(Load(0x2000, 0x2000), Load(0, 0x6000))
    assert stretches(of, 0x5800)[0] == (0x5800, 0x7000, 0x2800, 0x1800)
    assert stretches(of, 0x9000) == []
    for start in range(0x9000):
        first = next(iter(of.stretches(start, 4096)))
        assert first.start == start
        assert first.paddr == of.paddr_at(start)


def test_the_real_sample(sample: Path) -> None:
    of = ImageMap(headers_of(sample.read_bytes()))
    found = of.translate(0xFFFFFFFFBC0622C0)  # SYMBOL(prb), in the kernel's image
    assert found is not None
    direct = of.translate(0xFF26CF2280000000 + found[0])  # and through the direct map
    assert direct is not None
    assert direct[0] == found[0]
    aliases = [stretch for stretch in of.stretches(0, 4096) if stretch.source is not None]
    assert sum(stretch.end - stretch.start for stretch in aliases) == 0xE02000 + 0x827000 + 0x61A000 + 0x160000 + 0x8000


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 1000)), max_size=12)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(RANGES)
def test_first_ranges_are_a_dictionary_that_keeps_the_first(laid: list[tuple[int, int, int]]) -> None:
    ranges = FirstRanges((start, start + length, target) for start, length, target in laid)
    model: dict[int, int] = {}
    for start, length, target in laid:
        for key in range(start, start + length):
            model.setdefault(key, target + key - start)
    for key in range(90):
        found = ranges.find(key)
        assert (found and found[0]) == model.get(key)
        if found is None:
            gap = ranges.gap(key)
            assert gap == min((other - key for other in model if other > key), default=None)
        else:
            assert [model.get(key + step) for step in range(found[1])] == [found[0] + step for step in range(found[1])]


def laid_one_by_one(laid: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The simple way, quadratic: each range fills the gaps that are left."""
    ranges: list[tuple[int, int, int]] = []
    for begin, end, target in laid:
        start, gaps = begin, []
        for taken_start, taken_end, _ in ranges:
            if start < min(end, taken_start):
                gaps.append((start, min(end, taken_start), target + start - begin))
            start = max(start, taken_end)
        if start < end:
            gaps.append((start, end, target + start - begin))
        ranges = sorted(ranges + gaps)
    return ranges


@settings(derandomize=True, deadline=None, max_examples=300)
@given(RANGES)
def test_first_ranges_are_those_of_the_simple_way(laid: list[tuple[int, int, int]]) -> None:
    wanted = [(start, start + length, target) for start, length, target in laid]
    assert list(FirstRanges(wanted).ranges()) == laid_one_by_one(wanted)


def test_any_number_of_hostile_headers_is_read_in_a_moment() -> None:
    """As many as a core may have, of which every one covers all that were laid before it."""
    count = SEGMENTS_MAX
    nested = [(count - number, count + number + 1, 0) for number in range(count)]
    start = time.process_time()
    ranges = list(FirstRanges(nested).ranges())
    assert len(ranges) == 2 * count - 1
    assert time.process_time() - start < 10  # takes about one second; laying one by one, many minutes


def test_many_large_segments_over_many_tiny_ones_are_cut_in_a_moment() -> None:
    count = 2000
    loads = [Load(0x10000 + 24 * number, 16) for number in range(count)] + [Load(0x10000, 24 * count)] * count
    of = image_map(*loads, alignment=1)
    start = time.process_time()
    assert len(stretches(of)) == 2 * count + 1
    assert time.process_time() - start < 4  # takes a tenth of a second; with each tiny one in each large one, a dozen


LOADS = st.lists(
    st.builds(
        lambda paddr, size, extra, offset: Load(paddr, size, memsz=size + extra, offset=offset),
        st.integers(0, 100),
        st.integers(0, 60),
        st.integers(0, 20),
        st.none() | st.integers(0, 400),
    ),
    min_size=1,
    max_size=8,
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(LOADS, st.integers(0, 300), st.sampled_from([8, 16]))
def test_stretches_tile_the_image_and_tell_the_truth(loads: list[Load], start: int, page_bytes: int) -> None:
    of = image_map(*loads, alignment=1)
    start = min(start, of.image_bytes)
    position = start
    for stretch in of.stretches(start, page_bytes):
        assert stretch.start == position < stretch.end
        position = stretch.end
        for offset in range(stretch.start, stretch.end):
            paddr = None if stretch.paddr is None else stretch.paddr + offset - stretch.start
            assert of.paddr_at(offset) == paddr
            if paddr is not None and stretch.source is not None:
                assert of.image_offset(paddr) == stretch.source + offset - stretch.start
                assert of.paddr_at(stretch.source + offset - stretch.start) == paddr, "a filter judges both alike"
        check_source(stretch)
    assert position == of.image_bytes


def check_source(stretch: Stretch) -> None:
    """[W-49]: an alias refers to what lies wholly before it."""
    if stretch.source is not None:
        assert stretch.source >= 0
        assert stretch.source + stretch.end - stretch.start <= stretch.start


def test_memory_is_listed_by_address() -> None:
    of = image_map(Load(0x50000, 0x2000), Load(0x10000, 0x1000, memsz=0x3000), Load(0x4F000, 0x4000))
    assert list(of.memory()) == [
        (0x10000, 0x11000, 0x3000),
        (0x4F000, 0x50000, 0x4000),
        (0x50000, 0x52000, 0x1000),
        (0x52000, 0x53000, 0x7000),
    ]
    claimed = sorted(address for start, end in of.claimed() for address in range(start, end, 0x1000))
    assert claimed == [*range(0x10000, 0x13000, 0x1000), *range(0x4F000, 0x53000, 0x1000)]
