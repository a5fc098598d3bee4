from __future__ import annotations

import random

import pytest

from netdump.errors import KernelDataError
from netdump.testing.memmap_writer import Machine, arm64, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.address_space import open_address_space
from netdump.vmcore.memmap import MemoryMap, iter_nodes, open_memory_map
from netdump.vmcore.paging import AddressSpace, PhysicalMemory
from tests.vmcore.made_up import Opened

ERA = ERAS["6.1"]


def opened(machine: Machine, lines: dict[str, str] | None = None) -> tuple[MemoryMap, AddressSpace, Opened]:
    machine.lines.update(lines or {})
    core = Opened.of(machine)
    page_bytes = core.facts.page_bytes
    space = open_address_space(PhysicalMemory(core.source, core.image_map), core.headers, core.info, page_bytes)
    size = machine.frames.layout.size
    return open_memory_map(space, core.headers, core.info, page_bytes, size), space, core


def check(memory_map: MemoryMap, machine: Machine) -> None:
    first = machine.ram_start // machine.page_bytes
    end = first + machine.ram_bytes // machine.page_bytes
    for pfn in (first, first + 1, first + 0x1234, end - 1):
        vaddr, pages = memory_map.locate(pfn)
        assert vaddr == machine.frames.address(pfn)
        assert pages >= min(1, end - pfn)
        assert memory_map.frame(vaddr) == pfn
        assert memory_map.frame(vaddr + 4) is None
    assert memory_map.uniform


@pytest.mark.parametrize("extreme", [True, False])
@pytest.mark.parametrize("make", [x86_64, arm64])
def test_sparse(make: type[Machine], extreme: bool) -> None:
    machine = make(ERA)  # type: ignore[call-arg, arg-type]
    machine.extreme = extreme
    check(opened(machine)[0], machine)


def test_sparse_on_i386_with_pae() -> None:
    machine = i386(ERA, pae=True, sparse=True)
    check(opened(machine)[0], machine)


def test_without_the_newer_keys() -> None:
    for machine in (x86_64(ERA), arm64(ERA), i386(ERA, sparse=True), i386(ERA, pae=True, sparse=True)):
        if machine.machine == 183:
            machine.section_bits = 30
        lines = {"NUMBER(SECTION_SIZE_BITS)": "", "NUMBER(MAX_PHYSMEM_BITS)": "", "LENGTH(mem_section)": ""}
        check(opened(machine, lines)[0], machine)


def test_the_symbol_is_a_pointer_to_the_table() -> None:
    machine = x86_64(ERA)
    machine.section_pointer = True
    check(opened(machine)[0], machine)


def test_a_section_that_is_not_like_the_others() -> None:
    """With vmemmap all are encoded alike."""
    machine = x86_64(ERA, ram_bytes=640 << 20)
    core = Opened.of(machine)
    sections = machine.kernel.uint(machine.frames.vmemmap | 0b111) + bytes(8)
    at = machine.kernel.paddr + machine.kernel.memory.index(sections * 5)
    core.patch(at + 16 * 3, machine.kernel.uint((machine.frames.vmemmap + 0x20_0000) | 0b111))
    memory_map = core.pages().memory_map
    assert memory_map.uniform
    assert memory_map.locate(3 << 15) == (None, 1 << 15)
    assert memory_map.locate(2 << 15)[0] == machine.frames.address(2 << 15)
    assert memory_map.frame(machine.frames.address(3 << 15)) is None


def test_sections_with_a_number_in_their_struct_pages() -> None:
    """Without vmemmap struct pages may stand anywhere, though mostly those of many sections stand together."""
    machine = x86_64(ERA, ram_bytes=96 << 20)
    machine.section_bits, machine.numbered = 24, True
    core = Opened.of(machine)
    assert not core.pages().memory_map.uniform
    sections = machine.kernel.uint(machine.frames.vmemmap | 0b111) + bytes(8)
    at = machine.kernel.paddr + machine.kernel.memory.index(sections * 6)
    elsewhere = machine.frames.vmemmap + 4096
    core.patch(at + 16 * 3, machine.kernel.uint(elsewhere | 0b111))
    memory_map = core.pages().memory_map
    assert memory_map.locate(3 << 12)[0] == elsewhere + (3 << 12) * 64
    assert memory_map.locate(2 << 12)[0] == machine.frames.address(2 << 12)


def test_one_section_has_no_number_to_be_told_by() -> None:
    machine = x86_64(ERA)
    machine.section_bits, machine.numbered = 27, True
    assert opened(machine)[0].uniform


def test_sections_without_a_map() -> None:
    machine = x86_64(ERA, ram_bytes=256 << 20)
    memory_map, _, _ = opened(machine)
    assert memory_map.locate(0x2_0000) == (None, 1 << 15)
    assert memory_map.locate(0x2_0001) == (None, (1 << 15) - 1)
    assert memory_map.locate(1 << 40)[0] is None


@pytest.mark.parametrize("make", [i386, x86_64])
def test_flat(make: type[Machine]) -> None:
    machine = make(ERA)  # type: ignore[call-arg, arg-type]
    machine.sparse = False
    memory_map, _, _ = opened(machine)
    check(memory_map, machine)
    assert memory_map.locate(1 << 40)[0] is None
    if machine.word == 4:
        assert memory_map.frame(machine.frames.address(machine.ram_bytes // 4096)) is None


def test_flat_by_its_symbol_alone() -> None:
    machine = i386(ERA)
    check(opened(machine, {"OFFSET(pglist_data.node_mem_map)": ""})[0], machine)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"SYMBOL(mem_section)": ""}, "does not say where the memory map is"),
        ({"SIZE(mem_section)": "0"}, "makes no sense"),
        ({"SIZE(mem_section)": "65536"}, "makes no sense"),
        ({"OFFSET(mem_section.section_mem_map)": "12"}, "makes no sense"),
        ({"SIZE(mem_section)": ""}, r"no SIZE\(mem_section\)"),
        ({"NUMBER(SECTION_SIZE_BITS)": "12"}, "make no sense"),
        ({"NUMBER(SECTION_SIZE_BITS)": "63"}, "make no sense"),
        ({"SYMBOL(mem_section)": "ffffffff80200000"}, "no section of it"),
        ({"SYMBOL(mem_section)": "1000"}, "no section of it"),
    ],
)
def test_what_cannot_be(lines: dict[str, str], message: str) -> None:
    with pytest.raises(KernelDataError, match=message):
        opened(x86_64(ERA), lines)


def test_flat_that_is_not_mapped() -> None:
    machine = i386(ERA)
    with pytest.raises(KernelDataError, match="is not mapped"):
        opened(machine, {"SYMBOL(mem_map)": "c0200000", "OFFSET(pglist_data.node_mem_map)": ""})


def test_garbage_instead_of_sections() -> None:
    """Whatever stands in the table: an answer or a refusal, and soon."""
    generator = random.Random(5)
    machine = x86_64(ERA)
    core = Opened.of(machine)
    table = int(machine.kernel.lines["SYMBOL(mem_section)"], 16) - machine.kernel.vaddr + machine.kernel.paddr
    sound = core.patch(table - 4096, bytes(8192))
    for _ in range(60):
        core.patch(table - 4096, sound)
        at = table - generator.randrange(2) * 4096  # the table, or the root before it
        for _ in range(generator.choice((1, 3, 512))):
            core.patch(at + generator.randrange(512) * 8 * generator.randrange(2), generator.randbytes(8))
        space = open_address_space(PhysicalMemory(core.source, core.image_map), core.headers, core.info, 4096)
        try:
            memory_map = open_memory_map(space, core.headers, core.info, 4096, 64)
        except KernelDataError:
            continue
        for pfn in (0, 0x100, 0x1FFF, 1 << 30):
            _, pages = memory_map.locate(pfn)
            assert pages > 0


def test_nodes() -> None:
    machine = x86_64(ERA)
    _, space, core = opened(machine)
    nodes = list(iter_nodes(space, core.info, 8))
    assert len(nodes) == 1
    machine = i386(ERA)
    machine.lines = {"SYMBOL(node_data)": "", "SYMBOL(contig_page_data)": "c1234000"}
    core = Opened.of(machine)
    assert list(iter_nodes(space, core.info, 4)) == [0xC123_4000]
    machine = i386(ERA)
    machine.lines = {"SYMBOL(node_data)": ""}
    assert list(iter_nodes(space, Opened.of(machine).info, 4)) == []
