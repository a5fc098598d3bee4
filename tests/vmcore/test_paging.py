from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import LostMemoryError
from netdump.testing.elf_writer import Core, Load
from netdump.testing.page_tables import Ram, X86Tables
from netdump.vmcore.paging import AddressSpace, Extent, Geometry, PhysicalMemory
from netdump.vmcore.physmap import ImageMap
from tests.vmcore.doubles import BytesSource, headers_of

TOP = 0xFFFF_8000_0000_0000


def geometry(levels: int = 4) -> Geometry:
    """x86_64, decoded in the plainest way."""

    def decode(entry: int, level: int) -> tuple[int, bool] | None:
        if not entry & 1:
            return None
        return entry & 0x000F_FFFF_FFFF_F000, level == levels - 1 or bool(entry & 0x80)

    return Geometry((48, 39, 30, 21, 12)[5 - levels :], (9,) * levels, 8, TOP, (1 << 64) - 1, "little", decode)


def memory(
    ram: Ram, end: int = 0x80_0000, bad: list[tuple[int, int]] | None = None
) -> tuple[PhysicalMemory, BytesSource]:
    """RAM from 1 MiB on as a core shows it, the last 64 KiB without bytes in the file."""
    load = Load(0x10_0000, end - 0x10_0000 - 0x1_0000, ram.pieces(0x10_0000, end - 0x1_0000), memsz=end - 0x10_0000)
    image = Core([load]).build()
    headers = headers_of(image)
    source = BytesSource(image, bad or [])
    return PhysicalMemory(source, ImageMap(headers)), source


def machine() -> tuple[Ram, X86Tables]:
    ram = Ram()
    return ram, X86Tables(ram, 0x10_0000, 0x11_0000)


def test_pages_of_every_size() -> None:
    ram, tables = machine()
    tables.map(TOP + 0x1000, 0x20_3000, 12)
    tables.map(TOP + 0x20_0000, 0x40_0000, 21)
    tables.map(TOP + 0x4000_0000, 0x8000_0000, 30)
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    assert space.translate(TOP + 0x1234) == (0x20_3234, 1)
    assert space.translate(TOP + 0x1234, 0x10000) == (0x20_3234, 0xDCC)
    assert space.translate(TOP + 0x20_1234, 16) == (0x40_1234, 16)
    assert space.translate(TOP + 0x4000_0000 + 0x123_4567, 1 << 40) == (0x8123_4567, 0x4000_0000 - 0x123_4567)
    assert space.translate(TOP + 0x2000) is None
    assert space.translate(TOP + (1 << 39)) is None
    assert space.translate(0x1234) is None
    assert not space.has(0x1234)
    assert space.has(TOP)
    assert space.tables()[0] == tables.root


def test_neighbours_are_joined() -> None:
    ram, tables = machine()
    for page in range(20):
        tables.map(TOP + page * 4096, 0x20_0000 + page * 4096, 12)
    tables.map(TOP + 20 * 4096, 0x30_0000, 12)
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    assert space.translate(TOP, 1 << 20) == (0x20_0000, 20 * 4096)
    assert space.translate(TOP + 5, 4096) == (0x20_0005, 4096)


def test_reading() -> None:
    ram, tables = machine()
    tables.map(TOP, 0x20_0000, 12)
    tables.map(TOP + 0x1000, 0x30_0000, 12)
    tables.map(TOP + 0x3000, 0x7F_0000, 12)  # memory without bytes in the file
    tables.map(TOP + 0x4000, 0x90_0000, 12)  # memory that the core does not have
    ram.write(0x20_0FFC, b"abcd")
    ram.write(0x30_0000, b"efgh")
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    assert space.read(TOP + 0xFFC, 8) == b"abcdefgh"
    assert space.read_uint(TOP + 0xFFC, 4) == int.from_bytes(b"abcd", "little")
    data = bytearray(b"\xee" * 0x5000)
    assert space.fill(TOP, memoryview(data)) == [(0x2000, 0x1000), (0x3000, 0x1000), (0x4000, 0x1000)]
    assert data[0xFFC:0x1004] == b"abcdefgh"
    assert not any(data[0x2000:])
    for offset in (0x1FFF, 0x3000, 0x4000):
        with pytest.raises(LostMemoryError):
            space.read(TOP + offset, 2)
    with pytest.raises(LostMemoryError, match="claims"):
        space.read(TOP, 1 << 40)
    with pytest.raises(LostMemoryError, match="claims"):
        space.read(TOP, -1)


def test_pages_that_cannot_be_read() -> None:
    ram, tables = machine()
    tables.map(TOP, 0x20_0000, 21)
    ram.write(0x20_0000, b"x" * 0x4000)
    _, source = memory(ram)
    physical, _ = memory(ram, bad=[(source.size - 0x5F_0000 + 0x1000, source.size - 0x5F_0000 + 0x2000)])
    space = AddressSpace(physical, geometry(), tables.root)
    data = bytearray(0x4000)
    assert space.fill(TOP, memoryview(data)) == [(0x1000, 0x1000)]
    assert data == b"x" * 0x1000 + bytes(0x1000) + b"x" * 0x2000


def test_tables_that_point_at_themselves() -> None:
    ram, tables = machine()
    ram.write(tables.root, (tables.root | 3).to_bytes(8, "little") * 512)
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    assert space.translate(TOP + 0x1234) == (tables.root + 0x234, 1)  # four times round, and it ends
    assert space.translate(TOP, 1 << 20) == (tables.root, 4096)


def test_tables_that_point_outside() -> None:
    ram, tables = machine()
    ram.write(tables.root + 256 * 8, (0x000F_FFFF_FFFF_F000 | 3).to_bytes(8, "little"))
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    assert space.translate(TOP) is None
    assert space.translate(TOP) is None
    assert AddressSpace(memory(ram)[0], geometry(), 1 << 60).translate(TOP) is None


def test_more_tables_than_are_kept() -> None:
    ram, tables = machine()
    for number in range(64):
        tables.map(TOP + (number << 21), 0x20_0000 + number * 4096, 12)
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    for _ in range(2):
        for number in range(64):
            assert space.translate(TOP + (number << 21)) == (0x20_0000 + number * 4096, 1)
    assert len(space.tables()) <= 24


def test_extents() -> None:
    ram, tables = machine()
    for page, target in enumerate((0x20, 0x21, 0x21, 0x21, None, None, 0x30, 0x31, 0x28, 0x28)):
        if target is not None:
            tables.map(TOP + page * 4096, target << 12, 12)
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    assert space.extents(TOP, 10 * 4096) == [
        Extent(0, 0x2000, 0x20000),
        Extent(0x2000, 0x4000, 0x21000, repeated=True),
        Extent(0x4000, 0x6000, None),
        Extent(0x6000, 0x8000, 0x30000),
        Extent(0x8000, 0xA000, 0x28000, repeated=True),
    ]
    assert space.extents(TOP + 0x2F00, 0x1200) == [  # only whole pages are repeated
        Extent(0, 0x100, 0x21F00),
        Extent(0x100, 0x1100, 0x21000),
        Extent(0x1100, 0x1200, None),
    ]
    assert space.extents(TOP + 0x2000, 0x1800) == [Extent(0, 0x1800, 0x21000, repeated=True)]


def test_extents_that_are_mapped_by_several_tables() -> None:
    ram, tables = machine()
    tables.map(TOP, 0x40_0000, 21)
    tables.map_range(TOP + 0x20_0000, 0x60_0000, 0x40_0000, 12)
    tables.map(TOP + 0x60_0000, 0xA0_0000, 21)
    space = AddressSpace(memory(ram)[0], geometry(), tables.root)
    assert space.extents(TOP + 0x1F_F000, 0x40_2000) == [Extent(0, 0x40_2000, 0x5F_F000)]
    assert space.extents(TOP + 0x7F_F800, 0x1000) == [Extent(0, 0x800, 0xBF_F800), Extent(0x800, 0x1000, None)]


PAGES = st.lists(st.sampled_from([None, 0x1A0, 0x1A1, 0x1A2, 0x1B4, 0x1D0]), min_size=1, max_size=24)
"""Page frames that pages of virtual memory are mapped to; the last two: no bytes in the file, not in the core."""


@settings(max_examples=60)
@given(PAGES, st.integers(0, 4095), st.integers(1, 24 * 4096), st.sampled_from([0, 0x20_0000 - 8 * 4096]))
def test_many_pages_are_what_each_one_is(targets: list[int | None], into: int, length: int, first: int) -> None:
    """Extents, and what is read by them, against one page after the other."""
    ram, tables = machine()
    base = TOP + first  # of the second one, the ninth page has another table
    for page, target in enumerate(targets):
        ram.write((0x1A0 + page % 3) << 12, bytes((page % 3 + 1,)) * 4096)
        if target is not None:
            tables.map(base + page * 4096, target << 12, 12)
    space, plain = (AddressSpace(memory(ram, 0x1C_0000)[0], geometry(), tables.root) for _ in range(2))
    extents = space.extents(base + into, length)
    assert [extents[0].start, extents[-1].end] == [0, length]
    assert all(before.end == after.start for before, after in pairwise(extents))
    data, expected = bytearray(b"\xee" * length), bytearray(length)
    lost = bytearray(length)
    for start, size in space.fill(base + into, memoryview(data)):
        lost[start : start + size] = b"\1" * size
    for extent in extents:
        at = extent.start
        while at < extent.end:
            end = min(extent.end, at + 4096 - (into + at) % 4096)
            found = plain.translate(base + into + at)
            paddr = extent.paddr
            if paddr is not None:
                paddr += (at - extent.start) % 4096 if extent.repeated else at - extent.start
            missing = True
            if found is None:
                assert paddr is None
            else:
                assert paddr == found[0]
                missing = plain.physical.fill(found[0], memoryview(expected)[at:end]) != []
            assert lost[at:end] == bytes((missing,)) * (end - at)
            at = end
    assert data == expected
