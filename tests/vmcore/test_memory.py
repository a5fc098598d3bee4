from __future__ import annotations

import pytest

from netdump.errors import KernelDataError, LostMemoryError
from netdump.testing.elf_writer import ByteOrder, Core, Load, counter_pages
from netdump.vmcore.memory import READ_BYTES_MAX, Memory, Table
from netdump.vmcore.physmap import ImageMap
from tests.vmcore.doubles import BytesSource, headers_of

DIRECT = 0xFFFF888000000000
PAGES = counter_pages(1, 40)


def memory(*loads: Load, bad: list[tuple[int, int]] | None = None, byteorder: ByteOrder = "little") -> Memory:
    source = BytesSource(Core(loads).build(), bad or [])
    return Memory(source, ImageMap(headers_of(source.image)), byteorder, 8)


def mapped(paddr: int, data: bytes, memsz: int | None = None) -> Load:
    return Load(paddr, len(data), {0: data}, vaddr=DIRECT + paddr, memsz=memsz)


def test_reads_go_across_segments() -> None:
    of = memory(mapped(0x2000, PAGES[:0x1000]), mapped(0x1000, PAGES[0x1000:0x2000]))
    assert of.read_virtual(DIRECT + 0x1F00, 0x200) == PAGES[0x1F00:0x2000] + PAGES[:0x100]
    assert of.read_virtual(DIRECT + 0x1000, 0) == b""


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_numbers(byteorder: ByteOrder) -> None:
    of = memory(mapped(0x1000, PAGES[:0x1000]), byteorder=byteorder)
    assert of.read_uint(DIRECT + 0x1008, 8) == int.from_bytes(PAGES[8:16], byteorder)
    assert of.read_uint(DIRECT + 0x1006, 2) == int.from_bytes(PAGES[6:8], byteorder)


def test_segments_may_share_their_bytes() -> None:
    first = Load(0x1000, 0x1000, {0: PAGES[:0x1000]}, offset=0x1000, vaddr=DIRECT + 0x1000)
    of = memory(first, Load(0x5000, 0x1000, offset=0x1000, vaddr=DIRECT + 0x5000))
    assert of.read_virtual(DIRECT + 0x5000, 0x1000) == of.read_virtual(DIRECT + 0x1000, 0x1000) == PAGES[:0x1000]


def test_what_a_filter_left_out_reads_as_zeros() -> None:
    of = memory(mapped(0x1000, PAGES[:0x1000], memsz=0x3000))
    assert of.read_virtual(DIRECT + 0x1FF0, 0x20) == PAGES[0xFF0:0x1000] + bytes(0x10)


def test_what_is_not_in_the_core_is_lost() -> None:
    of = memory(mapped(0x1000, PAGES[:0x1000]), mapped(0x3000, PAGES[0x1000:0x2000]))
    with pytest.raises(LostMemoryError, match="virtual address 0xffff888000002000"):
        of.read_virtual(DIRECT + 0x1FFF, 2)
    partial = of.read_virtual_partial(DIRECT + 0x1F00, 0x1200)
    assert partial.data == PAGES[0xF00:0x1000] + bytes(0x1000) + PAGES[0x1000:0x1100]
    assert partial.lost == ((0x100, 0x1000),)


def test_what_cannot_be_read_is_lost() -> None:
    of = memory(mapped(0x1000, PAGES[:0x3000]), bad=[(0x2000, 0x3000)])
    with pytest.raises(LostMemoryError, match="4096 bytes of memory at virtual address 0xffff888000002000"):
        of.read_virtual(DIRECT + 0x1000, 0x2000)
    partial = of.read_virtual_partial(DIRECT + 0x1000, 0x3000)
    assert partial.data == PAGES[:0x1000] + bytes(0x1000) + PAGES[0x2000:0x3000]
    assert partial.lost == ((0x1000, 0x1000),)


def test_addresses_that_make_no_sense() -> None:
    of = memory(mapped(0x1000, PAGES[:0x1000]))
    for address in (0, (1 << 64) - 4, 1 << 64, 1 << 70):
        with pytest.raises(LostMemoryError):
            of.read_virtual(address, 8)


def test_no_read_is_without_bound() -> None:
    of = memory(mapped(0x1000, PAGES[:0x1000]))
    for length in (READ_BYTES_MAX + 1, 1 << 62, -1):
        with pytest.raises(KernelDataError, match="claims"):
            of.read_virtual(DIRECT, length)


def test_a_table_is_read_in_pieces() -> None:
    of = memory(mapped(0x1000, PAGES))
    table = Table(of, DIRECT + 0x1000, len(PAGES))
    for offset, length in ((0, 10), (len(PAGES) - 8, 8), (0x7FF0, 0x20), (0x8000, 0x8000), (5, 0), (1, len(PAGES) - 1)):
        assert table.read(offset, length) == PAGES[offset : offset + length]


def test_neighbours_in_a_table_cost_one_read() -> None:
    source = BytesSource(Core([mapped(0x1000, PAGES)]).build())
    table = Table(Memory(source, ImageMap(headers_of(source.image)), "little", 8), DIRECT + 0x1000, len(PAGES))
    for offset in reversed(range(0, len(PAGES), 24)):
        table.read(offset, min(24, len(PAGES) - offset))
    assert len(source.reads) == 5


def test_a_table_knows_what_is_lost() -> None:
    of = memory(mapped(0x1000, PAGES), bad=[(0x3000, 0x4000)])
    table = Table(of, DIRECT + 0x1000, len(PAGES))
    assert table.read(0x1FF0, 0x10) == PAGES[0x1FF0:0x2000]
    assert table.read(0x3000, 0x10) == PAGES[0x3000:0x3010]
    for offset in (0x1FF1, 0x2000, 0x2FFF):
        with pytest.raises(LostMemoryError, match="virtual address"):
            table.read(offset, 0x10)


def test_a_table_ends() -> None:
    table = Table(memory(mapped(0x1000, PAGES)), DIRECT + 0x1000, 100)
    for offset, length in ((100, 1), (90, 11), (-1, 2), (1 << 70, 1)):
        with pytest.raises(KernelDataError, match="outside an array of 100 bytes"):
            table.read(offset, length)
