from __future__ import annotations

import random

import pytest

from netdump.testing.struct_page_writer import ERAS, Frames
from netdump.vmcore.pagecodes import (
    ANON,
    HEAD,
    LRU,
    ODD,
    PRIVATE,
    SLAB,
    SWAPCACHE,
    TAIL,
    PageCodes,
    repeat,
    table,
)
from netdump.vmcore.structpage import byte_place
from tests.vmcore.test_pageclasses import PFN, array, classifier, fill, frames_of, zone_byte


def maker_for(frames: Frames) -> PageCodes:
    rules = classifier(frames, 31)._rules
    return PageCodes(rules, zone_byte(rules))


def test_parts() -> None:
    assert repeat(0xA5, 3) == 0xA5A5A5
    assert table(lambda byte: byte ^ 1)[:3] == b"\x01\x00\x03"
    rules = classifier(frames_of("6.1"), 31)._rules
    assert byte_place(rules, 8, 4, 3) == 11
    assert byte_place(rules._replace(byteorder="big"), 8, 4, 3) == 8


@pytest.mark.parametrize("word", [8, 4])
@pytest.mark.parametrize("era", ERAS)
def test_what_each_kind_of_page_says(era: str, word: int) -> None:
    frames = frames_of(era, word)
    frames.cache(PFN)
    frames.cache(PFN + 1, private=True)
    frames.anon(PFN + 2)
    frames.swapcache(PFN + 3)
    frames.kernel(PFN + 4, 2)
    frames.slab(PFN + 8)
    frames.free(PFN + 9, 0)
    frames.kernel(PFN + 10)
    frames.poison(PFN + 10)
    if "OFFLINE" in frames.era.types:
        frames.offline(PFN + 11)
    maker = maker_for(frames)
    codes = maker.read(array(frames, 12), 12, PFN)
    assert codes.codes is not None
    assert codes.kinds is not None
    assert codes.codes[:5] == bytes((LRU, LRU | PRIVATE, LRU | ANON, 0 if ERAS[era].unexported else SWAPCACHE, HEAD))
    assert all(code & TAIL for code in codes.codes[5:8]) or (era == "4.1" and word == 4)
    assert codes.codes[8] == SLAB | ANON
    assert codes.codes[9] == 0
    assert codes.codes[10] == ODD
    assert codes.number == int.from_bytes(codes.codes, "little")
    assert codes.kinds[9:10] == maker.free_byte  # as do a count of 127 and, on some kernels, slab
    assert codes.are_zero(9, 10)
    assert not codes.are_zero(8, 10)
    assert codes.offline == (0xFF << 88 if "OFFLINE" in frames.era.types else 0)


def test_what_claims_nothing_need_not_be_believed() -> None:
    """Struct pages of memory that was never put online, or of a device: nobody asks for their node and zone."""
    frames = frames_of("6.12")
    maker = maker_for(frames)
    maker._zone_byte.trust([0x0400_0000])
    for data in (bytearray(512 * 64), bytearray(frames.page(0)[:7] + b"\x27" + frames.page(0)[8:]) * 512):
        assert maker.read(data, 512, 0).codes is None
        assert maker._zone_byte._slabs == 0
    frames.cache(PFN + 3)
    assert maker.read(array(frames, 512), 512, PFN).codes is not None
    assert maker._zone_byte._slabs == 1


def test_nothing_to_say() -> None:
    """Most slabs of a large machine are free or cache: no column is joined with another one there."""
    frames = frames_of("6.12")
    frames.free(PFN, 6)
    maker = maker_for(frames)
    codes = maker.read(array(frames, 64), 64, PFN)
    assert codes.codes is None
    assert codes.number == 0
    assert codes.are_zero(0, 64)
    assert codes.heads() == (0, 0)
    assert codes.kinds is not None
    assert codes.kinds.count(maker.free_byte) == 1
    frames.cache(PFN + 80)
    codes = maker.read(array(frames, 64, PFN + 64), 64, PFN + 64)
    assert codes.codes == bytearray(16) + bytes((LRU,)) + bytes(47)
    assert codes.number == LRU << 8 * 16
    assert codes.kinds is None


def test_heads() -> None:
    frames = frames_of("6.12")
    frames.kernel(PFN, 1)
    frames.kernel(PFN + 6, 1)
    frames.kernel(PFN + 4095)
    frames._flag(PFN + 4095, "head")
    data = array(frames, 4096)
    codes = maker_for(frames)
    assert codes.read(data, 4096, PFN).heads() == (3, 0)  # what follows the last one is not known
    data[7 * 64 + 8] = 0
    assert codes.read(data, 4096, PFN).heads() == (3, 1)
    assert codes.read(data, 8, PFN).heads() == (2, 1)
    assert codes.read(data, 7, PFN).heads() == (2, 0)
    assert codes.read(data[128:], 2, PFN).heads() == (0, 0)


def test_values_in_every_byte() -> None:
    frames = frames_of("6.1")
    fill(frames, random.Random(8), 64)
    data = array(frames, 64)
    codes = maker_for(frames)
    value = -129 % (1 << 32)
    expected = [frames.page(PFN + page)[48:52] == value.to_bytes(4, "little") for page in range(64)]
    assert [byte == 0xFF for byte in codes.exact(data, 64, value).to_bytes(64, "little")] == expected
    assert any(expected)
    data[48 + 1] = 0
    assert codes.exact(data, 1, value) == 0
    assert codes.top(data, 64) >> 8 & 0xFF == 0xFF * (data[64 + 51] == 0xFF)
