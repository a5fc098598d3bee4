from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.pages import ExcludeClass
from netdump.testing.memmap_writer import PLAYGROUND, Machine, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.structpage import KEEP, Verdict, Wanted
from tests.vmcore.made_up import Opened

if TYPE_CHECKING:
    from netdump.vmcore.pagearray import PageArray

ALL = Wanted.of_level(31)


def array_of(machine: Machine, bad: list[tuple[int, int]] | None = None) -> PageArray:
    """bad: ranges of physical addresses that cannot be read."""
    core = Opened.of(machine)
    for start, end in bad or []:
        offset = core.image_map.image_offset(start)
        assert offset is not None
        core.source.bad.append((offset, offset + end - start))
    return core.pages()


@pytest.fixture
def machine() -> Machine:
    machine = x86_64(ERAS["6.12"])
    machine.frames.free(PLAYGROUND, 5)
    machine.frames.anon(PLAYGROUND + 64, 6)
    machine.frames.hugetlb(PLAYGROUND + 512, 9, shared_tables=True)
    return machine


def test_reading(machine: Machine) -> None:
    pages = array_of(machine)
    assert bytes(pages.read(PLAYGROUND) or b"") == machine.frames.page(PLAYGROUND) + machine.frames.page(PLAYGROUND + 1)
    assert pages.read(1 << 40) is None
    assert pages.judge(PLAYGROUND, ALL) == Verdict(ExcludeClass.FREE, 5)
    assert pages.judge(PLAYGROUND + 64, ALL) == Verdict(ExcludeClass.USER, 6)
    assert pages.judge(1 << 40, ALL) == KEEP
    vaddr, count = pages.locate(PLAYGROUND)
    assert vaddr == machine.frames.address(PLAYGROUND)
    assert count > 4096


def test_what_is_missing_reads_as_in_use(machine: Machine) -> None:
    machine.frames.free(PLAYGROUND + 1023, 0)
    paddr = 0x80_0000 + (PLAYGROUND + 960) * 64
    pages = array_of(machine, [(paddr, paddr + 4096)])
    assert pages.read(PLAYGROUND + 1023) is None
    assert pages.judge(PLAYGROUND + 1023, ALL) == KEEP
    alone = pages.read(PLAYGROUND + 959)  # the one behind it is missing
    assert alone is not None
    assert bytes(alone) == machine.frames.page(PLAYGROUND + 959)
    data = bytearray(b"\xee" * 64 * 128)
    assert pages.fill(machine.frames.address(PLAYGROUND + 950), memoryview(data)) == 4096
    assert data[: 10 * 64] == b"".join(machine.frames.page(PLAYGROUND + page) for page in range(950, 960))
    assert not any(data[10 * 64 : 74 * 64])


def test_a_struct_page_that_is_missing_in_part() -> None:
    machine = i386(ERAS["6.1"])  # struct pages of 40 bytes lie across pages
    pages = array_of(machine, [(0x80_0000 + 4096, 0x80_0000 + 8192)])
    data = bytearray(300 * 40)
    assert pages.fill(machine.frames.address(0), memoryview(data)) == 4096
    assert any(data[: 102 * 40])
    assert not any(data[102 * 40 : 205 * 40])  # 102.4 and 204.8
    assert any(data[205 * 40 :])


def test_confirming(machine: Machine) -> None:
    pages = array_of(machine)
    free, user = Verdict(ExcludeClass.FREE, 5), Verdict(ExcludeClass.USER, 6)
    assert pages.confirm(PLAYGROUND, free, ALL)
    assert pages.confirm(PLAYGROUND + 64, user, ALL)
    assert pages.confirm(PLAYGROUND + 512, Verdict(ExcludeClass.USER, 9, hugetlb=True), ALL)
    assert not pages.confirm(PLAYGROUND + 512, Verdict(ExcludeClass.USER, 9), ALL)  # tables are shared for hugetlb only
    assert not pages.confirm(PLAYGROUND + 1, free, ALL)
    assert not pages.confirm(PLAYGROUND + 64, free, ALL)
    assert not pages.confirm(PLAYGROUND, Verdict(ExcludeClass.USER, 5), ALL)
    assert not pages.confirm(1 << 40, user, ALL)
    machine = x86_64(ERAS["6.12"])
    machine.frames.free(PLAYGROUND, 5)
    machine.frames.cache(PLAYGROUND + 31)
    assert not array_of(machine).confirm(PLAYGROUND, free, ALL)


def test_pages_that_know_their_place(machine: Machine) -> None:
    """By a list, by the head of a compound page, or because they were never on a list; most do not say."""
    frames = machine.frames
    frames.cache(PLAYGROUND + 200)
    frames.cache(PLAYGROUND + 201)
    frames.cache(PLAYGROUND + 202)
    frames.cache(PLAYGROUND + 203)
    for pfn, before, after in ((200, 203, 201), (201, 200, 203), (203, 201, 200), (202, 200, 201)):
        frames.link(*(PLAYGROUND + pfn, *(frames.address(PLAYGROUND + other) + 8 for other in (after, before))))
    frames.kernel(PLAYGROUND + 210)
    frames.link(PLAYGROUND + 210, *[frames.address(PLAYGROUND + 210) + 8] * 2)
    frames.kernel(PLAYGROUND + 211)
    pages = array_of(machine)

    def says(pfn: int, of: int = 0) -> bool | None:
        data = pages.read(PLAYGROUND + (of or pfn))
        assert data is not None
        return pages.is_in_place(PLAYGROUND + pfn, data, 0)

    assert [says(pfn) for pfn in (200, 201, 202, 210, 211, 70)] == [True, True, False, True, None, True]
    assert [says(pfn + 1, pfn) for pfn in (200, 210, 211)] == [False, None, None]
    assert says(70, 71)  # any page of a compound one
    assert says(60, 71) is False
    assert pages.is_in_place(1 << 40, bytearray(64), 0) is None
