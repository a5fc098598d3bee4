from __future__ import annotations

import random

import pytest

from netdump.testing.memmap_writer import PLAYGROUND, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.memmap import core_frames
from netdump.vmcore.zonebyte import ZoneByte
from tests.vmcore.made_up import Opened, populate
from tests.vmcore.test_pageclasses import PFN, array, classifier, frames_of

SIZE = 64


def zone_byte(word: int = 8) -> ZoneByte:
    return ZoneByte(classifier(frames_of("6.12", word), 31)._rules)


def marked(result: int) -> list[int]:
    return [page for page in range(result.bit_length() // 8 + 1) if result >> 8 * page & 0xFF]


def plain(pages: int = 4096) -> bytearray:
    return array(frames_of("6.12"), pages)


def test_pages_of_one_zone() -> None:
    assert zone_byte().strange(plain(), 4096, 0) == 0


def test_a_zone_ends_within_a_slab() -> None:
    data = plain()
    data[1024 * SIZE + 7 :: SIZE] = b"\x15" * 3072
    assert zone_byte().strange(data, 4096, 0) == 0


@pytest.mark.parametrize("page", [0, 100, 4095])
def test_one_page_that_was_overwritten(page: int) -> None:
    """All that stand in the same 4096 bytes are held strange with it."""
    data = plain()
    data[page * SIZE + 7] ^= 0x40
    first = page // 64 * 64
    assert marked(zone_byte().strange(data, 4096, 0)) == list(range(first, first + 64))


@pytest.mark.parametrize(("size", "pfn"), [(64, 1), (64, 0x109), (56, 0), (56, 256), (80, 0), (80, 0x109)])
@pytest.mark.parametrize("memory_page", [3, 7, 12])
def test_pages_of_memory_are_those_of_the_machine(size: int, pfn: int, memory_page: int) -> None:
    """Slabs may begin within one, and struct pages may lie in two: one byte of garbage speaks for all it reaches."""
    byte = ZoneByte(classifier(frames_of("6.12"), 31)._rules._replace(size=size))
    start = memory_page * 4096 - pfn * size % 4096
    reached = list(range(start // size, -(-(start + 4096) // size)))
    whole = [page for page in reached if start <= page * size and (page + 1) * size <= start + 4096]
    for page in whole[0], whole[-1]:
        data = bytearray(2048 * size)
        data[page * size + 7] = 0x40
        assert marked(byte.strange(data, 2048, pfn)) == reached


def test_what_ends_with_a_slab() -> None:
    """Nothing is marked beyond the slab, nor before it."""
    byte = zone_byte()
    data = plain(300)
    data[7] ^= 0x40
    data[299 * SIZE + 7] ^= 0x40
    assert marked(byte.strange(data, 300, 10)) == [*range(54), *range(246, 300)]


def test_garbage() -> None:
    data = plain()
    data[640 * SIZE : 768 * SIZE] = random.Random(3).randbytes(128 * SIZE)
    assert marked(zone_byte().strange(data, 4096, 0)) == list(range(640, 768))
    data[1024 * SIZE : 2048 * SIZE] = random.Random(4).randbytes(1024 * SIZE)  # too much to believe the rest
    assert marked(zone_byte().strange(data, 4096, 0)) == list(range(4096))


def test_what_is_too_short_to_tell() -> None:
    data = plain()
    data[7] ^= 0x40
    assert zone_byte().strange(data, 255, 0) == 0
    assert zone_byte().strange(data, 256, 0) != 0
    assert zone_byte(4).strange(data, 4096, 0) == 0  # flags reach up there


def test_a_byte_that_varies_everywhere_tells_nothing() -> None:
    """As a kernel whose layout nobody knows might have it: it must not keep all pages for ever."""
    data, byte = plain(), zone_byte()
    data[7 :: SIZE * 2] = b"\x15" * 2048
    for _ in range(16):
        assert byte.strange(data, 4096, 0) != 0
    assert byte.strange(data, 4096, 0) == 0
    assert byte.bits == 0


def test_learning_which_bits_are_constant() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    frames = machine.frames
    for pfn in range(PLAYGROUND + 2048, PLAYGROUND + 4096):  # the processor of last use
        if pfn not in frames.pages:
            frames.kernel(pfn)
        frames.pages[pfn][4:8] = bytes((pfn % 256, 0, 0, 0x04 | pfn % 2))
    core = Opened.of(machine)
    pages = core.pages()
    byte = ZoneByte(pages.rules)
    byte.learn(pages, core_frames(core.headers, 4096))
    assert byte.constant == 0xFEFF_FF00
    assert byte.bits == 0xFE
    data = bytearray(4096 * SIZE)
    vaddr, _ = pages.locate(PLAYGROUND)
    assert vaddr is not None
    pages.fill(vaddr, memoryview(data))
    assert byte.strange(data, 4096, 0) == 0
    data[7 + 70 * SIZE] ^= 0x80
    assert marked(byte.strange(data, 4096, 0)) == list(range(64, 128))


def test_what_is_no_struct_page_teaches_nothing() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    core = Opened.of(machine)
    pages = core.pages()
    core.patch(0x80_0000 + PLAYGROUND * SIZE, random.Random(5).randbytes(4096 * SIZE))
    byte = ZoneByte(pages.rules)
    byte.learn(pages, core_frames(core.headers, 4096))
    assert byte.constant == 0xFFFF_FFFF
    assert PFN % 4096 == 0
