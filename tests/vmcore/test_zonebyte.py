from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from netdump.testing.memmap_writer import PLAYGROUND, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.memmap import core_frames
from netdump.vmcore.zonebyte import ZoneByte
from tests.vmcore.made_up import Opened, populate
from tests.vmcore.test_pageclasses import PFN, array, classifier, frames_of

if TYPE_CHECKING:
    from netdump.vmcore.zonebyte import InPlace

SIZE = 64
ZONE = 0x0400_0000  # upper half of the flags of made-up pages
EVERYWHERE = bytearray(b"\1") * 8192


def zone_byte(
    word: int = 8, in_place: InPlace = lambda _pfn, _data, _at: None, size: int | None = None, era: str = "6.12"
) -> ZoneByte:
    """One that knows the zone of made-up pages by their free lists. in_place: None if pages do not say."""
    rules = classifier(frames_of(era, word), 31)._rules
    byte = ZoneByte(rules if size is None else rules._replace(size=size), in_place)
    byte.trust([ZONE])
    return byte


def strange(byte: ZoneByte, data: bytearray, pages: int, pfn: int = 0) -> int:
    return byte.strange(data, pages, pfn, lambda: EVERYWHERE[:pages])


def marked(result: int) -> list[int]:
    return [page for page in range(result.bit_length() // 8 + 1) if result >> 8 * page & 0xFF]


def plain(pages: int = 4096) -> bytearray:
    return array(frames_of("6.12"), pages)


def test_pages_of_one_zone() -> None:
    assert strange(zone_byte(), plain(), 4096) == 0


def test_a_zone_ends_within_a_slab() -> None:
    """It counts if some of its pages are in place; pointers, numbers or text may look like it."""
    data = plain()
    data[1024 * SIZE + 7 :: SIZE] = b"\x15" * 3072
    asked: list[int] = []

    def here(pfn: int, _data: bytearray, _at: int) -> bool:
        asked.append(pfn)
        return pfn != 5000 + 1024

    byte = zone_byte(in_place=here)
    assert strange(byte, data, 4096, 5000) == 0
    assert 0 < len(asked) <= 3 + 32
    assert strange(byte, data[1024 * SIZE :], 3072, 6024) == 0
    for silent in (lambda _pfn, _data, _at: None, lambda _pfn, _data, _at: False):
        assert marked(strange(zone_byte(in_place=silent), data, 4096, 5000)) == list(range(4096))


def test_a_zone_that_nobody_knows() -> None:
    """Even if all pages of a slab have it."""
    data = plain()
    data[7::SIZE] = b"\x15" * 4096
    assert marked(strange(zone_byte(), data, 4096)) == list(range(4096))
    byte = zone_byte(in_place=lambda _pfn, _data, _at: True)
    assert strange(byte, data, 4096) == 0
    assert byte.strange(data, 4096, 0, lambda: bytearray(4096)) == 0  # known by now
    assert zone_byte(in_place=lambda _pfn, _data, _at: True).strange(data, 4096, 0, lambda: bytearray(4096)) != 0


def test_struct_pages_that_were_never_used() -> None:
    """Where kernels mark them so, they are not overwritten ones; as long as nothing else is there."""
    data = bytearray(b"\xff" * (8192 * SIZE))
    byte = zone_byte()
    for slab in range(40):
        assert strange(byte, data, 8192, slab * 8192) == 0
    assert not byte.often_odd
    data[100] ^= 1
    for slab in range(40):
        assert strange(byte, data, 8192, slab * 8192) != 0
    assert byte.often_odd


def test_reserved_pages_behind_the_end_of_memory() -> None:
    """Some are of a zone that does not even exist (init_reserved_page in Linux); the last of the memory stays free."""
    data = plain()
    data[(4096 - 39) * SIZE + 7 :: SIZE] = b"\x15" * 39
    data[4070 * SIZE + 7] = 0x16
    assert marked(strange(zone_byte(in_place=lambda _pfn, _data, _at: True), data, 4096)) == [4070]
    assert marked(strange(zone_byte(), data, 4096)) == list(range(4032, 4096))


def test_the_shared_rest_of_huge_pages_has_a_zone_that_is_known() -> None:
    """Of which most pages of the slab seem to be then, though none of them proves to be in place."""
    frames = frames_of("7.1")
    for head in range(PFN, PFN + 4096, 512):
        frames.hugetlb(head, 9) if head < PFN + 2048 else frames.cache(head, 9)
    data = array(frames, 4096)
    for head in range(0, 2048, 512):
        for tail in range(head + 64, head + 512):
            data[tail * SIZE + 7] = 0x05
    byte = zone_byte(era="7.1")
    byte.trust([0x0500_0000])
    assert strange(byte, data, 4096, PFN) == 0
    data[100 * SIZE + 7 : 102 * SIZE : SIZE] = b"\x15\x05"
    assert strange(byte, data, 4096, PFN) == 0
    data[2048 * SIZE + 7] ^= 0x40  # a head
    assert marked(strange(byte, data, 4096, PFN)) == list(range(2048, 2112))


@pytest.mark.parametrize(("era", "expected"), [("7.1", []), ("6.12", list(range(4096)))])
def test_the_rest_of_hugetlb_pages_on_a_shared_page_of_struct_pages(era: str, expected: list[int]) -> None:
    """Since v7.1 it has a zone but nothing beside, and does not say where it is: it is of that of its head."""
    data = plain()
    for page in range(512, 4096, 512):
        data[page * SIZE + 7 : (page + 64) * SIZE : SIZE] = b"\x15" * 64
        for tail in range(page + 64, page + 512):
            data[tail * SIZE + 7] = 0x08
            data[tail * SIZE + 8] |= 1
    byte = zone_byte(era=era)
    byte.trust([0x1500_0000])  # of less than half of the pages, but of their heads
    data[7 : 512 * SIZE : SIZE] = b"\x15" * 512
    assert marked(strange(byte, data, 4096)) == expected


def test_known_values_of_few_pages_must_be_in_place_too() -> None:
    data = plain()
    data[1024 * SIZE + 7 : 1408 * SIZE : SIZE] = b"\x15" * 384
    byte = zone_byte()
    byte.trust([0x1500_0000])
    assert marked(strange(byte, data, 4096)) == list(range(1024, 1408))
    data[7::SIZE] = b"\x15" * 4096
    assert strange(byte, data, 4096) == 0


@pytest.mark.parametrize("page", [1, 100, 4094])
def test_one_page_that_was_overwritten(page: int) -> None:
    """All that stand in the same 4096 bytes are held strange with it."""
    data = plain()
    data[page * SIZE + 7] ^= 0x40
    first = page // 64 * 64
    assert marked(strange(zone_byte(), data, 4096)) == list(range(first, first + 64))


@pytest.mark.parametrize(("size", "pfn"), [(64, 1), (64, 0x109), (56, 0), (56, 256), (80, 0), (80, 0x109)])
@pytest.mark.parametrize("memory_page", [3, 7, 12])
def test_pages_of_memory_are_those_of_the_machine(size: int, pfn: int, memory_page: int) -> None:
    """Slabs may begin within one, and struct pages may lie in two: one byte of garbage speaks for all it reaches."""
    byte = zone_byte(size=size)
    start = memory_page * 4096 - pfn * size % 4096
    reached = list(range(start // size, -(-(start + 4096) // size)))
    whole = [page for page in reached if start <= page * size and (page + 1) * size <= start + 4096]
    for page in whole[0], whole[-1]:
        data = bytearray(2048 * size)
        data[7::size] = b"\4" * 2048
        data[page * size + 7] = 0x40
        assert marked(strange(byte, data, 2048, pfn)) == reached


def test_what_ends_with_a_slab() -> None:
    """Nothing is marked beyond the slab, nor before it."""
    byte = zone_byte()
    data = plain(300)
    data[SIZE + 7] ^= 0x40
    data[298 * SIZE + 7] ^= 0x40
    assert marked(strange(byte, data, 300, 10)) == [*range(54), *range(246, 300)]


def test_a_zone_that_ends_with_a_slab() -> None:
    """A few pages at the edge say nothing of those beside them, if these have the right byte; many do if unknown."""
    data = plain(512)
    data[7] ^= 0x40
    data[510 * SIZE + 7 :: SIZE] = b"\x15\x15"
    assert marked(strange(zone_byte(), data, 512)) == [0, 510, 511]
    data[470 * SIZE + 7 :: SIZE] = b"\x15" * 42
    assert marked(strange(zone_byte(), data, 512)) == [0, *range(448, 512)]
    known = zone_byte()
    known.trust([0x1500_0000])
    assert marked(strange(known, data, 512)) == [0, *range(470, 512)]  # as behind the end of memory
    data[469 * SIZE + 7] = 0x16
    assert marked(strange(known, data, 512)) == [0, *range(448, 512)]
    data[448 * SIZE + 7 :: SIZE] = b"\x15" * 64
    data[7] ^= 0x40
    assert marked(strange(known, data, 512)) == [*range(448, 512)]
    cut = bytearray(300 * 80)  # of the last page of memory but 6 struct pages are here, all but one overwritten
    cut[7::80] = b"\4" * 300
    cut[295 * 80 + 7 :: 80] = b"\x15" * 5
    assert marked(strange(zone_byte(size=80), cut, 300, 986)) == list(range(294, 300))


def test_one_page_that_is_in_place() -> None:
    """A bit of it is wrong, or it belongs to a zone of few pages: those beside it are as they say."""
    data = plain()
    data[100 * SIZE + 7] ^= 0x40
    assert marked(strange(zone_byte(in_place=lambda pfn, _data, _at: pfn == 100), data, 4096)) == [100]
    assert marked(strange(zone_byte(in_place=lambda _pfn, _data, _at: False), data, 4096)) == list(range(64, 128))


def test_pages_that_are_in_place_one_in_each_slab() -> None:
    """A bit of the processor of last use, where that is the same for nearly all pages."""
    byte, others = zone_byte(in_place=lambda _pfn, _data, _at: True), zone_byte(in_place=lambda _pfn, _data, _at: None)
    found, silent = [], []
    for slab in range(40):
        data = plain()
        data[(100 + slab * 97) * SIZE + 7] ^= 0x01
        if not slab:
            assert len(marked(strange(byte, data, 4096, 0))) == 1  # asked again, it is the same page
        found.append(len(marked(strange(byte, data, 4096, slab * 4096))))
        silent.append(len(marked(strange(others, data, 4096, slab * 4096))))
    assert found == [1, 1] + [0] * 38
    assert not byte.often_odd
    assert set(silent) == {64}
    assert others.often_odd


def test_bits_that_are_said_to_tell_something_else() -> None:
    byte, data = zone_byte(), plain()
    byte.trust([ZONE], 0x43FF_FFFF)
    data[640 * SIZE + 7] ^= 0x40  # of a page that says nothing of its place
    assert strange(byte, data, 4096) == 0
    data[640 * SIZE + 7] ^= 0x80
    assert marked(strange(byte, data, 4096)) == list(range(640, 704))


def test_garbage() -> None:
    data = plain()
    data[640 * SIZE : 768 * SIZE] = random.Random(3).randbytes(128 * SIZE)
    assert marked(strange(zone_byte(), data, 4096)) == list(range(640, 768))
    data[1024 * SIZE : 2048 * SIZE] = random.Random(4).randbytes(1024 * SIZE)  # too much to believe the rest
    assert marked(strange(zone_byte(), data, 4096)) == list(range(4096))


def test_what_is_too_short_to_tell() -> None:
    data = plain()
    data[7] ^= 0x40
    assert strange(zone_byte(), data, 255, 0) == 0
    assert strange(zone_byte(), data, 256, 0) != 0


def test_words_of_4_bytes() -> None:
    """The highest byte of the flags: no flag of 32-bit kernels reaches up there."""
    frames = frames_of("6.12", 4)
    data = array(frames, 4096)
    assert strange(zone_byte(4), data, 4096) == 0
    data[3 * frames.layout.size + 3] ^= 0x40
    assert marked(strange(zone_byte(4), data, 4096)) == list(range(103))


def test_a_bit_that_varies_everywhere_tells_nothing() -> None:
    """As a kernel whose layout nobody knows might have it: it must not keep all pages for ever."""
    data = plain()
    data[7 :: SIZE * 2] = b"\x15" * 2048
    byte = zone_byte(in_place=lambda _pfn, _data, _at: True)
    assert strange(byte, data, 4096) == 0
    assert byte.bits == 0xEE
    byte = zone_byte()  # nobody says that these are pages
    seen = [(strange(byte, data, 4096) != 0, byte.often_odd) for _ in range(17)]
    assert seen == [(True, False)] * 16 + [(True, True)]
    assert byte.bits == 0xFF


def test_the_byte_that_tells_most() -> None:
    """On most machines the highest one is 0, as in numbers and many pointers."""
    for upper, place, bits in ((0x000F_FFFF, 6, 0xFF), (0x03FF_FC00, 7, 0xFF), (0, 7, 0xFF), (0x0017_FFFF, 6, 0xFF)):
        machine = populate(x86_64(ERAS["6.12"]))
        for pfn in range(PLAYGROUND, PLAYGROUND * 2):
            if pfn not in machine.frames.pages:
                machine.frames.kernel(pfn)
            machine.frames.pages[pfn][4:8] = upper.to_bytes(4, "little")
        core = Opened.of(machine)
        byte = ZoneByte(core.pages().rules, core.pages().is_in_place)
        byte.learn(core.pages(), [range(PLAYGROUND, PLAYGROUND * 2)])
        assert (byte._place, byte.bits, byte.constant) == (place, bits, 0xFFFF_FFFF)


def test_learning_which_bits_are_constant() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    frames = machine.frames
    for pfn in range(2048, PLAYGROUND + 4096):  # the processor of last use
        if pfn not in frames.pages:
            frames.kernel(pfn)
        frames.pages[pfn][4:8] = bytes((pfn % 256, 0, 0, 0x04 | pfn % 2))
    core = Opened.of(machine)
    pages = core.pages()
    byte = ZoneByte(pages.rules, pages.is_in_place)
    byte.learn(pages, core_frames(core.headers, 4096))
    assert byte.constant == 0xFEFF_FF00
    assert byte.bits == 0xFE
    byte.trust([ZONE])
    data = bytearray(4096 * SIZE)
    vaddr, _ = pages.locate(PLAYGROUND)
    assert vaddr is not None
    pages.fill(vaddr, memoryview(data))
    assert strange(byte, data, 4096) == 0
    data[7 + 70 * SIZE] ^= 0x80
    assert marked(strange(byte, data, 4096)) == list(range(64, 128))


def test_generations_right_below_the_only_bit_of_a_zone() -> None:
    """Without NUMA, ZONE_DMA and ZONE_DMA32 there are two zones, and CONFIG_LRU_GEN takes the three bits below."""
    machine = populate(x86_64(ERAS["6.12"]))
    frames, any_of = machine.frames, random.Random(4)
    for pfn in range(2048, PLAYGROUND + 4096):
        if pfn not in frames.pages:
            frames.kernel(pfn)
        frames.pages[pfn][4:8] = bytes((0, 0, 0, any_of.randrange(5) << 4))
    core = Opened.of(machine)
    byte = ZoneByte(core.pages().rules, core.pages().is_in_place)
    byte.learn(core.pages(), core_frames(core.headers, 4096))
    assert byte.constant == 0x8FFF_FFFF
    assert (byte._part, byte.bits) == (3, 0x8F)


def test_what_is_no_struct_page_teaches_nothing() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    core = Opened.of(machine)
    pages = core.pages()
    core.patch(0x80_0000 + PLAYGROUND * SIZE, random.Random(5).randbytes(4096 * SIZE))
    byte = ZoneByte(pages.rules, pages.is_in_place)
    byte.learn(pages, core_frames(core.headers, 4096))
    assert byte.constant == 0xFFFF_FFFF
    assert PFN % 4096 == 0
