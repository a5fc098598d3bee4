from __future__ import annotations

from unittest.mock import Mock

import pytest

from netdump.pages import ExcludeClass
from netdump.testing.memmap_writer import PLAYGROUND, Machine, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.places import Places, Stretch
from netdump.vmcore.structpage import Wanted
from tests.vmcore.made_up import Opened

PAGES = 512
ALL = Wanted.of_level(31)
MAP = 0x80_0000  # physical address of the struct page of frame 0


def listed(machine: Machine, pfns: list[int]) -> None:
    """Put pages on one list, in this order, round and round."""
    frames = machine.frames
    for before, pfn, after in zip([pfns[-1], *pfns], pfns, [*pfns[1:], pfns[0]], strict=False):
        lru = frames.layout.lru
        frames.link(pfn, frames.address(after) + lru, frames.address(before) + lru)


class Slab:
    """512 pages from PLAYGROUND on, as a walk sees them; shift: frames by which the page tables are wrong."""

    def __init__(self, machine: Machine, kinds: dict[int, ExcludeClass], shift: int = 0) -> None:
        self.pages = Opened.of(machine).pages()
        self.vaddr = machine.frames.address(PLAYGROUND)
        self.data = bytearray((PAGES + 1) * 64)
        self.pages.fill(machine.frames.address(PLAYGROUND + shift), memoryview(self.data))
        self.classes = bytearray(PAGES)
        for page, exclude in kinds.items():
            self.classes[page] = exclude
        self.places = Places(self.pages)
        self.stretch = Stretch(0, PAGES * 64, MAP + (PLAYGROUND + shift) * 64)

    def holds(self) -> bool:
        return self.places.hold(self.stretch, self.vaddr, self.data, self.classes)


def cache(machine: Machine, first: int) -> dict[int, ExcludeClass]:
    """Cache pages here and there, all on one list."""
    places = [3, 70, 71, 150, 200, 270, 333, 390, 500]
    for page in places:
        machine.frames.cache(first + page)
    listed(machine, [first + page for page in places])
    return dict.fromkeys(places, ExcludeClass.CACHE)


def test_pages_on_lists() -> None:
    machine = x86_64(ERAS["6.12"])
    kinds = cache(machine, PLAYGROUND)
    slab = Slab(machine, kinds)
    assert slab.places.unproven(slab.vaddr, PAGES * 64) == [slab.stretch]
    assert slab.holds()
    assert slab.places.unproven(slab.vaddr, PAGES * 64) == []
    cache(machine, PLAYGROUND + 2048)
    wrong = Slab(machine, kinds, 2048)
    assert not wrong.holds()
    wrong.classes = bytearray(PAGES)
    assert not wrong.holds()  # all that is mapped with them is wrong, whatever it is


def test_free_blocks() -> None:
    for shift in (0, 2048):
        machine = x86_64(ERAS["6.12"])
        places = [0, 128, 320]
        for page in places:
            machine.frames.free(PLAYGROUND + shift + page, 5)
        listed(machine, [PLAYGROUND + shift + page for page in places])
        kinds = {page + inside: ExcludeClass.FREE for page in places for inside in range(32)}
        assert Slab(machine, kinds, shift).holds() == (shift == 0)


@pytest.mark.parametrize("era", ["6.12", "7.1"])
def test_the_rest_of_compound_pages(era: str) -> None:
    """Where it points at the first page; since v7.1 it tells the size instead."""
    for shift in (0, 2048):
        machine = x86_64(ERAS[era])
        machine.frames.hugetlb(PLAYGROUND + shift, 9, shared_tables=True)
        slab = Slab(machine, dict.fromkeys(range(512), ExcludeClass.USER), shift)
        assert slab.holds() == (shift == 0 or era == "7.1")


@pytest.mark.parametrize(("era", "asked"), [("6.12", 3), ("7.1", 0)])
def test_the_rest_alone_is_not_asked_where_it_cannot_say(era: str, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of shared tables each page of memory is a stretch by itself: that must cost little."""
    machine = x86_64(ERAS[era])
    machine.frames.hugetlb(PLAYGROUND, 9)
    slab = Slab(machine, dict.fromkeys(range(512), ExcludeClass.USER))
    slab.stretch = Stretch(64 * 64, 128 * 64, MAP + (PLAYGROUND + 64) * 64)
    looks = Mock(side_effect=slab.pages.stands_at)
    monkeypatch.setattr(type(slab.pages), "stands_at", looks)
    assert slab.holds()
    assert looks.call_count == asked


@pytest.mark.parametrize(("era", "asked"), [("6.12", 9), ("7.1", 0)])
def test_one_page_of_struct_pages_in_many_places(era: str, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked in each place, where the rest of compound pages knows one."""
    machine = x86_64(ERAS[era])
    machine.frames.hugetlb(PLAYGROUND, 9)
    slab = Slab(machine, dict.fromkeys(range(512), ExcludeClass.USER))
    slab.data[4096:16384] = slab.data[16384:20480] * 3
    looks = Mock(side_effect=slab.pages.stands_at)
    monkeypatch.setattr(type(slab.pages), "stands_at", looks)
    slab.stretch = Stretch(4096, 16384, MAP + PLAYGROUND * 64 + 16384, repeated=True)
    assert slab.holds()
    assert looks.call_count == asked
    assert slab.holds()  # pages that are known to be in place are not asked again
    assert looks.call_count == asked


@pytest.mark.parametrize("era", ["6.12", "7.1"])
def test_a_repeated_page_where_its_pages_were_found_elsewhere(era: str) -> None:
    """What was held against a mapping counts for each place that is mapped so."""
    machine = x86_64(ERAS[era])
    cached = cache(machine, PLAYGROUND + 2048)
    wrong = Slab(machine, cached, 2048)
    wrong.stretch = Stretch(0, 4096, wrong.stretch.paddr)  # a page of pages that are elsewhere
    assert not wrong.holds()
    wrong.data[4096:] = bytes(len(wrong.data) - 4096)
    for page in range(64, 512):
        wrong.data[page * 64 + 8] = 1
    first = wrong.stretch.paddr
    kinds = dict.fromkeys(range(64, 512), ExcludeClass.USER)
    wrong.classes = bytearray(kinds.get(page, 0) for page in range(PAGES))
    rest = Stretch(4096, 32768, first + 20 * 4096, repeated=True)  # none of them is mapped as those are
    assert wrong.places.hold(rest, wrong.vaddr, wrong.data, wrong.classes)
    lies = Stretch(4096, 32768, first + 5 * 4096, repeated=True)  # the sixth of them is
    assert not wrong.places.hold(lies, wrong.vaddr, wrong.data, wrong.classes)


def test_the_first_page_of_a_stretch_is_asked_too() -> None:
    machine = x86_64(ERAS["6.12"])
    for page in (0, 9):
        machine.frames.cache(PLAYGROUND + 2048 + page)
    listed(machine, [PLAYGROUND + 2048, PLAYGROUND + 2048 + 9])
    assert not Slab(machine, {0: ExcludeClass.CACHE}, 2048).holds()


@pytest.mark.parametrize("era", ["6.12", "7.1"])
def test_a_repeated_page_whose_own_pages_are_elsewhere(era: str) -> None:
    machine = x86_64(ERAS[era])
    slab = Slab(machine, cache(machine, PLAYGROUND + 2048), 2048)
    repeated = Stretch(4096, 16384, slab.stretch.paddr + 4096, repeated=True)
    assert not slab.places.hold(repeated, slab.vaddr, slab.data, slab.classes)


def test_pages_that_do_not_say() -> None:
    """Pages on no list, and lists that lead nowhere."""
    machine = x86_64(ERAS["6.12"])
    for page in range(0, 64, 2):
        machine.frames.anon(PLAYGROUND + page)
        machine.frames.link(PLAYGROUND + page, 0xDEAD_0000_0000_0100, 0xDEAD_0000_0000_0122)
    slab = Slab(machine, dict.fromkeys(range(0, 64, 2), ExcludeClass.USER))
    assert slab.holds()
    assert slab.places.unproven(slab.vaddr, PAGES * 64) == [slab.stretch]  # asked again next time


def test_one_list_that_a_crash_caught_half_way() -> None:
    machine = x86_64(ERAS["6.12"])
    kinds = cache(machine, PLAYGROUND)
    other = machine.frames.address(PLAYGROUND + 4000) + 8
    machine.frames.link(PLAYGROUND + 3, other, other)
    slab = Slab(machine, kinds)
    assert slab.holds()
    alone = Slab(machine, {3: ExcludeClass.CACHE})
    assert not alone.holds()  # nothing speaks for it here
    alone.classes = slab.classes
    assert alone.holds()


def test_struct_pages_in_memory_of_others() -> None:
    machine = x86_64(ERAS["6.12"])
    machine.frames.anon(PLAYGROUND + 5)
    slab = Slab(machine, {})
    stray = Stretch(0, 4096, (PLAYGROUND + 5) << 12)
    assert slab.places.is_stray(stray, ALL)
    assert not slab.places.is_stray(slab.stretch, ALL)
    assert not slab.places.is_stray(stray._replace(paddr=slab.stretch.paddr + 4096), ALL)


def test_each_page_that_is_mapped_by_itself_is_judged() -> None:
    """One entry of the page tables may lead to a page beside those of struct pages, which others are free to use."""
    machine = x86_64(ERAS["7.1"])
    machine.frames.anon(PLAYGROUND + 5)
    slab = Slab(machine, {})
    for pfn in range(PLAYGROUND, PLAYGROUND + 1024):
        stretch = Stretch(0, 4096, pfn << 12)
        assert slab.places.is_stray(stretch, ALL) == (pfn == PLAYGROUND + 5)
        assert slab.places.is_stray(stretch._replace(end=28672, repeated=True), ALL) == (pfn == PLAYGROUND + 5)
    assert not slab.places.is_stray(Stretch(0, 1 << 20, (PLAYGROUND + 1023) << 12), ALL)
    assert not slab.places.is_stray(Stretch(0, 4096, 1 << 50), ALL)  # of which nothing is known


def test_a_page_of_the_rest_that_is_repeated_is_asked_about_once() -> None:
    """Unless pages of the same mapping were found elsewhere."""
    machine = x86_64(ERAS["7.1"])
    machine.map_shift = 12
    machine.frames.hugetlb(PLAYGROUND, 9)
    machine.shared_maps = {PLAYGROUND + page: PLAYGROUND + 64 for page in range(128, 512, 64)}
    slab = Slab(machine, dict.fromkeys(range(512), ExcludeClass.USER))
    head, common, rest = slab.stretch._replace(end=8192), MAP + (PLAYGROUND + 64) * 64, PAGES * 64
    shared = Stretch(8192, rest, common, repeated=True)
    assert slab.places.unproven(slab.vaddr, rest) == [head, shared]
    assert slab.places.hold(shared, slab.vaddr, slab.data, slab.classes)
    assert slab.places.unproven(slab.vaddr, rest) == [head]
    cached = cache(machine, PLAYGROUND + 2048)
    for page in cached:
        slab.data[page * 64 : page * 64 + 64] = machine.frames.page(PLAYGROUND + 2048 + page)
    slab.classes = bytearray(cached.get(page, 0) for page in range(PAGES))
    assert not slab.places.hold(Stretch(0, rest, MAP), slab.vaddr, slab.data, slab.classes)
    assert slab.places.unproven(slab.vaddr, rest) == [head, shared]


def test_what_is_not_mapped_is_skipped() -> None:
    slab = Slab(x86_64(ERAS["6.12"]), {})
    assert slab.places.unproven(0xFFFF_EA7F_0000_0000, 8192) == []
