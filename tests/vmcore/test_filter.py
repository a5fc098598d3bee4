from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from netdump.errors import KernelDataError
from netdump.pages import ExcludeClass
from netdump.testing.memmap_writer import PLAYGROUND, arm64, i386, riscv64, x86_64
from netdump.testing.struct_page_writer import ERAS
from tests.vmcore.made_up import Opened, ground, populate

if TYPE_CHECKING:
    from netdump.testing.memmap_writer import Machine

LEVELS = (0, 1, 2, 4, 6, 8, 16, 31)


@pytest.fixture(scope="module")
def opened() -> Opened:
    return Opened.of(populate(x86_64(ERAS["6.12"])))


@pytest.mark.parametrize("era", ERAS)
def test_every_kernel_at_every_level(era: str) -> None:
    machine = populate(x86_64(ERAS[era]))
    core = Opened.of(machine)
    for level in LEVELS:
        page_filter = core.filter(level)
        assert core.classify(page_filter) == machine.frames.expected(level)
        assert page_filter.remark is None


@pytest.mark.parametrize(
    "machine",
    [
        x86_64(ERAS["6.1"], levels=5, kaslr=0x1200_0000),
        x86_64(ERAS["6.12"], direct_map=0xFFFF_9A40_0000_0000, vmemmap=0xFFFF_F2C4_C000_0000, kaslr=0x3E0_0000),
        i386(ERAS["6.1"]),
        i386(ERAS["6.1"], pae=True, sparse=True),
        arm64(ERAS["6.1"]),
        arm64(ERAS["4.9"], va_bits=39, flipped=False),
        arm64(ERAS["6.12"], ram_bytes=512 << 20, page_bytes=65536, va_bits=52, actual=48),
        riscv64(ERAS["6.12"]),
    ],
    ids=["x86_64-5", "x86_64-kaslr", "i386", "i386-pae", "arm64", "arm64-39", "arm64-64k", "riscv64"],
)
def test_every_machine(machine: Machine) -> None:
    populate(machine)
    core = Opened.of(machine)
    for level in (2, 31):
        page_filter = core.filter(level)
        assert core.classify(page_filter) == machine.frames.expected(level)
        assert page_filter.remark is None


def test_counts_have_each_frame_once(opened: Opened) -> None:
    page_filter = opened.filter(31)
    first = opened.classify(page_filter)
    counts = dict(page_filter.counts)
    assert opened.classify(page_filter) == first
    assert page_filter.counts == counts
    for exclude in ExcludeClass:
        if exclude != ExcludeClass.NONE:
            assert counts[exclude] == sum(name == exclude.name.lower() for name in first.values())
    loads = opened.headers.segments[1:]
    frames = {pfn for load in loads for pfn in range(load.paddr >> 12, -(-(load.paddr + load.memsz) // 4096))}
    assert sum(counts.values()) == len(frames)


def test_counts_with_overlapping_questions(opened: Opened) -> None:
    page_filter = opened.filter(31)
    base = PLAYGROUND
    for start, pages in ((1024, 16), (1040, 8), (1030, 30), (0, 4096), (1000, 100)):
        page_filter.classify((base + start) * 4096, pages)
    assert sum(page_filter.counts.values()) == 4096


def test_any_stretch_anywhere(opened: Opened) -> None:
    """Whatever order pages are asked for in, the answer is the same: streams start in the middle."""
    whole = opened.classify(opened.filter(31))
    generator = random.Random(4)
    page_filter = opened.filter(31)
    for _ in range(300):
        pfn = PLAYGROUND + generator.randrange(4096)
        pages = min(generator.choice((1, 2, 7, 300, 4096)), 2 * PLAYGROUND - pfn)
        page = pfn
        for exclude, length in page_filter.classify(pfn * 4096, pages):
            for number in range(page, page + length):
                assert whole.get(number, "none") == exclude.name.lower(), hex(number)
            page += length
        assert page == pfn + pages


def test_blocks_that_span_slabs_and_sections() -> None:
    machine = x86_64(ERAS["6.12"], ram_bytes=640 << 20)
    frames = machine.frames
    frames.hugetlb(1 << 16, 16, shared_tables=True)  # two sections of 2^15 pages
    core = Opened.of(machine)
    assert core.classify(core.filter(31)) == frames.expected(31)
    for pfn in ((1 << 16) + 1, (1 << 16) + 64, (1 << 16) + 4096 + 63, (3 << 15) + 17, (1 << 17) - 1):
        assert core.filter(8).classify(pfn * 4096, 1) == [(ExcludeClass.USER, 1)]
    assert core.filter(16).classify(((1 << 16) + 64) * 4096, 1) == [(ExcludeClass.NONE, 1)]


def shared_machine(era: str, *, anon: bool = False) -> Machine:
    """Three huge pages and one of two slabs, all that is behind their first 4 KiB of struct pages being shared.

    Since v7.1 by all of one size; before, each with its own first page. anon: they are mapped MAP_PRIVATE.
    """
    machine = x86_64(ERAS[era], ram_bytes=256 << 20)
    machine.map_shift = 12
    frames = machine.frames
    for head, order in ((PLAYGROUND, 9), (PLAYGROUND + 512, 9), (PLAYGROUND + 1536, 9), (1 << 14, 14)):
        frames.hugetlb(head, order, shared_tables=era != "7.1", anon=anon)
        common = PLAYGROUND + 64 if order == 9 else head + 64
        for pfn in range(head + 64, head + (1 << order), 64):
            machine.shared_maps[pfn] = common if era == "7.1" else head
    if era == "7.1":
        del machine.shared_maps[PLAYGROUND + 64], machine.shared_maps[(1 << 14) + 64]
    for pfn in range(PLAYGROUND + 1024, PLAYGROUND + 1536, 2):
        frames.cache(pfn)
    frames.free(PLAYGROUND + 2048, 10)  # whose zone is known
    return machine


@pytest.mark.parametrize("anon", [False, True])
@pytest.mark.parametrize("era", ["6.1", "6.3", "6.6", "6.12", "7.1"])
def test_huge_pages_that_share_struct_pages(era: str, anon: bool) -> None:
    machine = shared_machine(era, anon=anon)
    core = Opened.of(machine)
    for step in (8192, 4096, 1000):
        page_filter = core.filter(31)
        assert core.classify(page_filter, step) == machine.frames.expected(31)
        assert page_filter.remark is None


@pytest.mark.parametrize("era", ["6.1", "6.12", "7.1"])
@pytest.mark.parametrize("lie", [*range(PLAYGROUND + 576, PLAYGROUND + 1024, 64), (1 << 14) + 64, (1 << 14) + 8192])
def test_huge_pages_whose_rest_says_otherwise(era: str, lie: int) -> None:
    """One entry of the page tables leads to struct pages of the kernel: then the head is not believed."""
    machine = shared_machine(era)
    machine.shared_maps[lie] = 0
    head, order = (PLAYGROUND + 512, 9) if lie < 1 << 14 else (1 << 14, 14)
    expected = machine.frames.expected(31)
    for pfn in range(head, head + (1 << order)):
        expected.pop(pfn)
    core = Opened.of(machine)
    assert core.classify(core.filter(31), 8192) == expected


def test_tags_of_kasan_in_free_pages() -> None:
    """With KASAN_HW_TAGS each page keeps in its flags the tag that it had last, free or not."""
    machine = populate(arm64(ERAS["6.12"]))
    frames, first = machine.frames, ground(machine)
    blocks = frames.free_blocks()
    assert len(blocks) > 4
    tags = random.Random(7)
    for pfn in range(machine.ram_start // 4096, (machine.ram_start + machine.ram_bytes) // 4096):
        if pfn not in frames.pages:
            frames.kernel(pfn)
        frames._or_flags(frames.pages[pfn], 1 << 62 | tags.randrange(0xF0, 0x100) << 46)
    expected = frames.expected(31)
    assert first in expected
    opened = Opened.of(machine)
    page_filter = opened.filter(31)
    assert opened.classify(page_filter) == expected
    assert page_filter.remark is None


def test_a_poisoned_page_that_a_processor_used() -> None:
    """NUMA balancing notes in the flags who used a page last; free pages and most others have ones there."""
    machine = populate(x86_64(ERAS["6.12"]))
    frames, first = machine.frames, ground(machine)
    for pfn in range(first, first + 4096):
        if pfn not in frames.pages:
            frames.kernel(pfn)
        frames._or_flags(frames.pages[pfn], (0x12 if pfn == first + 1070 else 0xFFFF) << 32)
    opened = Opened.of(machine)
    page_filter = opened.filter(1)
    assert opened.classify(page_filter) == frames.expected(1)
    assert page_filter.remark is None


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_huge_page_that_a_processor_used(nodes: int) -> None:
    """It is alone among its neighbours; but with several nodes it is known what is noted of them."""
    machine = populate(x86_64(ERAS["6.12"]))
    frames, first = machine.frames, ground(machine)
    for pfn in range((machine.ram_start + machine.ram_bytes) // 4096):
        if pfn not in frames.pages:
            frames.kernel(pfn)
        frames._or_flags(frames.pages[pfn], (0x12 if pfn == first + 2048 else 0x3_FFFF) << 32)
    opened = Opened.of(machine)
    if nodes == 2:  # the same node once more
        space = opened.pages().space
        table, online = (space.translate(opened.info.need("SYMBOL", name)) for name in ("node_data", "node_online_map"))
        assert table is not None
        assert online is not None
        opened.patch(table[0] + 8, space.read(opened.info.need("SYMBOL", "node_data"), 8))
        opened.patch(online[0], b"\3")
    page_filter = opened.filter(31)
    expected = frames.expected(31)
    if nodes == 1:
        for pfn in range(first + 2048, first + 2560):
            del expected[pfn]
    assert opened.classify(page_filter) == expected
    assert page_filter.remark is None


@pytest.mark.parametrize("era", ["4.1", "4.19", "5.4", "6.12"])
def test_poisoned_pages_in_free_blocks(era: str) -> None:
    """Up to v5.9 a free page that breaks stays on its list; a block goes as a whole then, its first page included."""
    machine = x86_64(ERAS[era])
    frames, first = machine.frames, ground(machine)
    for block, poisoned in enumerate([(0,), (512,), (0, 1, 3), (1022, 1023)]):
        frames.free(first + 1024 * block, 10)
        for place in poisoned:
            frames.poison(first + 1024 * block + place)
    opened = Opened.of(machine)
    for level in LEVELS:
        for step in (4096, 1000):
            page_filter = opened.filter(level)
            assert opened.classify(page_filter, step) == frames.expected(level)
            assert page_filter.remark is None


def test_counts_of_users_that_are_frozen() -> None:
    """A page that nobody holds has the highest bit of the count, and what tried in vain to take it has counted on."""
    machine = populate(x86_64(ERAS["7.1"]))
    frames, first = machine.frames, ground(machine)
    expected = frames.expected(31)
    for pfn, kind in expected.items():
        if kind in {"free", "hwpoison"}:
            frames._put(pfn, frames.layout.refcount, (1 << 31) + pfn % 4, 4)
    opened = Opened.of(machine)
    for step in (4096, 1000):
        page_filter = opened.filter(31)
        assert opened.classify(page_filter, step) == expected
        assert page_filter.remark is None
    assert opened.filter(31).classify((first + 17) * 4096, 8) == [(ExcludeClass.FREE, 8)]


def test_sections_with_a_number_in_their_struct_pages() -> None:
    """Kernels without vmemmap: free pages of one zone have flags of several sections."""
    machine = populate(x86_64(ERAS["6.1"], ram_bytes=64 << 20))
    machine.frames.free(ground(machine) + 4096, 10)
    machine.section_bits, machine.numbered = 23, True
    opened = Opened.of(machine)
    page_filter = opened.filter(31)
    assert opened.classify(page_filter) == machine.frames.expected(31)
    assert page_filter.remark is None


def test_level_0_asks_for_nothing(opened: Opened) -> None:
    before = len(opened.source.reads)
    page_filter = opened.filter(0)
    assert page_filter.classify(PLAYGROUND << 12, 4096) == [(ExcludeClass.NONE, 4096)]
    assert len(opened.source.reads) == before
    assert page_filter.remark is None


def test_without_vmcoreinfo() -> None:
    core = Opened(x86_64(ERAS["6.12"]).core().build().replace(b"VMCOREINFO", b"VMCOREINF0", 1))
    with pytest.raises(KernelDataError, match="no VMCOREINFO"):
        core.filter(31)


def test_more_free_pages_than_the_zones_count() -> None:
    machine = x86_64(ERAS["6.12"], ram_bytes=256 << 20)
    first = ground(machine)
    for block in range(32):
        machine.frames.free(first + block * 1024, 10)
    machine.free_pages = 100
    core = Opened.of(machine)
    page_filter = core.filter(31)
    found = core.classify(page_filter)
    assert 0 < len(found) <= 100 + 100 // 16 + 4096 + 3 * 125
    assert page_filter.remark is not None
    assert "more than the zones count" in page_filter.remark
    assert page_filter.classify(first << 12, 1024) == [(ExcludeClass.NONE, 1024)]


def test_a_fault_of_the_filter_itself_keeps_everything(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    page_filter = opened.filter(31)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("netdump.vmcore.framewalk.FrameWalk.classes", fail)
    assert page_filter.classify(PLAYGROUND << 12, 4096) == [(ExcludeClass.NONE, 4096)]
    assert page_filter.remark is not None
    assert "ZeroDivisionError: on purpose" in page_filter.remark
    monkeypatch.undo()
    assert page_filter.classify(PLAYGROUND << 12, 4096) == [(ExcludeClass.NONE, 4096)]


def test_memory_that_the_memory_map_lacks() -> None:
    machine = populate(x86_64(ERAS["6.12"], ram_bytes=512 << 20))
    machine.lines["NUMBER(SECTION_SIZE_BITS)"] = "26"  # half of the sections
    core = Opened.of(machine)
    page_filter = core.filter(31)
    assert core.classify(page_filter).keys() <= machine.frames.expected(31).keys()
    assert "% of memory is not in the memory map" in (page_filter.remark or "")
