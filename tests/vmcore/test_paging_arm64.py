from __future__ import annotations

import pytest

from netdump.errors import KernelDataError
from netdump.testing.memmap_writer import Machine, arm64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.paging import AddressSpace, PhysicalMemory
from netdump.vmcore.paging_arm64 import open_arm64
from tests.vmcore.made_up import Opened

ERA = ERAS["6.1"]


def space_of(machine: Machine, **lines: str) -> AddressSpace:
    for key, value in lines.items():
        name, _, rest = key.partition("__")
        machine.lines[f"{name}({rest})"] = value
    core = Opened.of(machine)
    return open_arm64(PhysicalMemory(core.source, core.image_map), core.headers, core.info, core.facts.page_bytes)


@pytest.mark.parametrize(
    ("page_bytes", "va_bits", "actual", "flipped"),
    [
        (4096, 39, None, True),
        (4096, 39, None, False),
        (4096, 48, None, True),
        (4096, 48, None, False),
        (4096, 52, 52, True),  # LPA2, five levels
        (4096, 52, 48, True),  # built for LPA2, on a machine without
        (16384, 36, None, True),
        (16384, 47, None, True),
        (16384, 48, None, True),
        (16384, 52, 52, True),  # LPA2, four levels
        (16384, 52, 47, True),
        (65536, 42, None, True),
        (65536, 48, None, False),
        (65536, 52, 52, True),
        (65536, 52, 48, True),  # the root is built for 52 bits all the same
    ],
)
def test_every_layout(page_bytes: int, va_bits: int, actual: int | None, flipped: bool) -> None:
    machine = arm64(ERA, page_bytes=page_bytes, va_bits=va_bits, actual=actual, flipped=flipped)
    space = space_of(machine)
    kernel = machine.kernel
    assert space.root == machine.tables.root
    assert space.translate(kernel.vaddr + 0x1234) == (kernel.paddr + 0x1234, 1)
    assert space.translate(machine.direct_map + 0x123_4567) == (machine.ram_start + 0x123_4567, 1)
    pfn = machine.ram_start // page_bytes + 77
    assert space.read(machine.frames.address(pfn), 64) == machine.frames.page(pfn)


@pytest.mark.parametrize(
    ("page_bytes", "va_bits", "paddr"),
    [
        (65536, 52, 0xA_1234_5678_0000),  # bits 51:48 stand at 15:12
        (4096, 52, 0xD_1234_5678_9000),  # LPA2: 51:50 at 9:8
        (16384, 52, 0xE_1234_5678_8000),
    ],
)
def test_high_physical_addresses(page_bytes: int, va_bits: int, paddr: int) -> None:
    machine = arm64(ERA, page_bytes=page_bytes, va_bits=va_bits)
    vaddr = (1 << 64) - (1 << 30)
    machine.tables.map(vaddr, paddr, page_bytes.bit_length() - 1)
    assert space_of(machine).translate(vaddr + 0x123) == (paddr + 0x123, 1)


def test_blocks() -> None:
    machine = arm64(ERA)
    vaddr = (1 << 64) - (8 << 30)
    machine.tables.map(vaddr, 0x1_4000_0000, 30)
    assert space_of(machine).translate(vaddr + 0x1234_5678, 16) == (0x1_5234_5678, 16)


def test_size_of_addresses_where_t1sz_is_not_exported() -> None:
    for machine in (arm64(ERA), arm64(ERA, va_bits=52, actual=48), arm64(ERA, page_bytes=65536, va_bits=52, actual=48)):
        assert space_of(machine, NUMBER__TCR_EL1_T1SZ="").root == machine.tables.root


def test_before_the_image_had_a_place_of_its_own() -> None:
    """Up to v4.5 the kernel lay in the linear map; PHYS_OFFSET or the segments say where that is."""
    for lines in ({}, {"NUMBER__PHYS_OFFSET": ""}):
        machine = arm64(ERAS["4.6"], va_bits=48, flipped=False)
        kernel = machine.kernel
        linear = machine.direct_map + kernel.paddr - machine.ram_start
        kernel.lines["SYMBOL(swapper_pg_dir)"] = f"{linear + machine.tables.root - kernel.paddr:x}"
        kernel.vaddr = linear
        assert space_of(machine, NUMBER__kimage_voffset="", **lines).root == machine.tables.root


def test_a_root_table_that_maps_the_text_elsewhere_is_not_believed() -> None:
    machine = arm64(ERA)
    lines = machine.kernel.lines
    root, offset = int(lines["SYMBOL(swapper_pg_dir)"], 16) + 4096, int(lines["NUMBER(kimage_voffset)"], 16) + 4096
    with pytest.raises(KernelDataError, match="do not map the kernel's text"):
        space_of(machine, SYMBOL__swapper_pg_dir=f"{root:x}", NUMBER__kimage_voffset=f"{offset:#x}")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"SYMBOL__swapper_pg_dir": ""}, "where the page tables are"),
        ({"SYMBOL___stext": ""}, "where the page tables are"),
        ({"NUMBER__kimage_voffset": "0x1000"}, "do not map"),
        ({"NUMBER__TCR_EL1_T1SZ": "0x3f"}, "do not map"),
        ({"NUMBER__TCR_EL1_T1SZ": "", "NUMBER__VA_BITS": ""}, "do not map"),
    ],
)
def test_what_cannot_be(lines: dict[str, str], message: str) -> None:
    with pytest.raises(KernelDataError, match=message):
        space_of(arm64(ERA), **lines)


def test_page_size_that_arm64_does_not_have() -> None:
    core = Opened.of(arm64(ERA))
    with pytest.raises(KernelDataError, match="no pages of 8192"):
        open_arm64(PhysicalMemory(core.source, core.image_map), core.headers, core.info, 8192)


def test_pointers_with_a_tag() -> None:
    """Memory Tagging: bits 59:56 of a pointer to allocated memory are not part of its address."""
    for page_bytes, va_bits in ((4096, 48), (65536, 52)):
        space = space_of(arm64(ERA, page_bytes=page_bytes, va_bits=va_bits))
        assert space.has(0xFFFF_FFC0_1234_5678)
        assert space.has(0xF4FF_FFC0_1234_5678)
        assert not space.has(0x04FF_FFC0_1234_5678)
        assert not space.has(0xFF00_0000_1234_5678)
