from __future__ import annotations

from typing import cast

import pytest

from netdump.errors import KernelDataError
from netdump.testing.memmap_writer import Machine, riscv64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.paging import AddressSpace, PhysicalMemory
from netdump.vmcore.paging_riscv import open_riscv64
from tests.vmcore.made_up import Opened

ERA = ERAS["6.6"]


def space_of(machine: Machine) -> AddressSpace:
    core = Opened.of(machine)
    return open_riscv64(PhysicalMemory(core.source, core.image_map), core.headers, core.info)


@pytest.mark.parametrize("va_bits", [39, 48, 57])
def test_every_mode(va_bits: int) -> None:
    machine = riscv64(ERA, va_bits=va_bits)
    machine.tables.map((1 << 64) - (4 << 30), 0x1_4000_0000, 30)
    space = space_of(machine)
    assert space.root == machine.tables.root
    assert space.translate(machine.kernel.vaddr + 0x1234) == (machine.kernel.paddr + 0x1234, 1)
    assert space.translate(machine.direct_map + 0x123_4567) == (0x8123_4567, 1)
    assert space.translate((1 << 64) - (4 << 30) + 0x123) == (0x1_4000_0123, 1)
    assert space.translate((1 << 64) - (2 << 30) - 1) is None
    assert space.read(machine.frames.address(0x80345), 64) == machine.frames.page(0x80345)


def test_kernels_that_do_not_say_where_they_are() -> None:
    """Before v6.5 only the segment of the kernel's text told."""
    machine = riscv64(ERA)
    machine.lines["NUMBER(va_kernel_pa_offset)"] = ""
    machine.text_segment = True
    space = space_of(machine)
    assert space.root == machine.tables.root
    assert space.translate(machine.kernel.vaddr + 0x1234) == (machine.kernel.paddr + 0x1234, 1)


def test_a_root_table_that_maps_the_text_elsewhere_is_not_believed() -> None:
    machine = riscv64(ERA)
    machine.text_segment = False
    for key in ("SYMBOL(swapper_pg_dir)", "NUMBER(va_kernel_pa_offset)"):
        machine.lines[key] = f"{int(machine.kernel.lines[key], 16) + 4096:#x}"
    with pytest.raises(KernelDataError, match="do not map the kernel's text"):
        space_of(machine)


def test_entries_for_several_pages_at_once() -> None:
    """Svnapot: the size is in the address, so it is not taken for one."""
    machine = riscv64(ERA)
    vaddr = (1 << 64) - (4 << 30)
    machine.tables.map(vaddr, 0x8100_8000, 12)
    core = Opened.of(machine)
    space = open_riscv64(PhysicalMemory(core.source, core.image_map), core.headers, core.info)
    assert space.translate(vaddr + 5) == (0x8100_8005, 1)
    entry = machine.tables.entry(0x8100_8000, 2, table=False).to_bytes(8, "little")
    image = core.source.image[:]
    assert image.count(entry) == 1
    at = image.index(entry)
    assert at % 8 == 0
    cast("bytearray", core.source.image)[at + 7] |= 0x80
    assert open_riscv64(PhysicalMemory(core.source, core.image_map), core.headers, core.info).translate(vaddr) is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SYMBOL(swapper_pg_dir)", "", "where the page tables are"),
        ("NUMBER(VA_BITS)", "40", "where the page tables are"),
        ("NUMBER(va_kernel_pa_offset)", "", "where the page tables are"),
        ("NUMBER(va_kernel_pa_offset)", "0x1000", "do not map"),
    ],
)
def test_what_cannot_be(key: str, value: str, message: str) -> None:
    machine = riscv64(ERA)
    machine.lines[key] = value
    with pytest.raises(KernelDataError, match=message):
        space_of(machine)
