from __future__ import annotations

import pytest

from netdump.errors import KernelDataError
from netdump.testing.memmap_writer import Machine, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.paging import AddressSpace, PhysicalMemory
from netdump.vmcore.paging_x86 import open_i386, open_x86_64
from tests.vmcore.made_up import Opened

ERA = ERAS["6.1"]


def space_of(machine: Machine, **lines: str) -> AddressSpace:
    """lines: keys of VMCOREINFO, "__" standing for brackets, to set or with "" to take away."""
    for key, value in lines.items():
        name, _, rest = key.partition("__")
        machine.lines[f"{name}({rest})" if rest else name] = value
    core = Opened.of(machine)
    physical = PhysicalMemory(core.source, core.image_map)
    if machine.word == 4:
        return open_i386(physical, core.headers, core.info)
    return open_x86_64(physical, core.headers, core.info)


@pytest.mark.parametrize(
    "machine",
    [
        x86_64(ERA),
        x86_64(ERA, levels=5),
        x86_64(ERA, kaslr=0x2A00_0000),  # phys_base is negative
        x86_64(ERA, kaslr=0x40_0000, levels=5, direct_map=0xFF26_CF22_8000_0000),
        x86_64(ERA, sme_mask=1 << 47),
    ],
    ids=["plain", "5-level", "negative", "5-level-kaslr", "sme"],
)
def test_x86_64(machine: Machine) -> None:
    space = space_of(machine)
    kernel = machine.kernel
    assert space.root == machine.tables.root
    assert space.translate(kernel.vaddr + 0x1234) == (kernel.paddr + 0x1234, 1)
    assert space.translate(machine.direct_map + 0x123_4567) == (0x123_4567, 1)
    vaddr = machine.frames.address(0x1345)
    found = space.translate(vaddr, 64)
    assert found is not None
    assert space.read(vaddr, 64) == machine.frames.page(0x1345)
    assert space.translate(0x7FFF_0000_0000) is None


def test_phys_base_from_the_text_segment() -> None:
    machine = x86_64(ERA, kaslr=0x2A00_0000)
    assert space_of(machine, NUMBER__phys_base="").root == machine.tables.root


def test_phys_base_that_lies_is_not_believed() -> None:
    machine = x86_64(ERA, kaslr=0x2A00_0000)
    assert space_of(machine, NUMBER__phys_base="4096").root == machine.tables.root


def test_a_root_table_that_maps_the_text_elsewhere_is_not_believed() -> None:
    machine = x86_64(ERA)
    machine.text_segment = False
    root = int(machine.kernel.lines["SYMBOL(init_top_pgt)"], 16) - 4096
    with pytest.raises(KernelDataError, match="do not map the kernel's text where phys_base says"):
        space_of(machine, NUMBER__phys_base="4096", SYMBOL__init_top_pgt=f"{root:x}")


def test_a_phys_base_that_is_missing_is_named() -> None:
    machine = x86_64(ERA, kaslr=0x2A00_0000)
    machine.text_segment = False
    with pytest.raises(KernelDataError, match=r"no NUMBER\(phys_base\), and no segment says rightly"):
        space_of(machine, NUMBER__phys_base="")


def test_phys_base_of_old_kernels_that_never_moved() -> None:
    machine = x86_64(ERA)
    machine.text_segment = False
    assert space_of(machine, NUMBER__phys_base="").root == machine.tables.root


@pytest.mark.parametrize("name", ["init_level4_pgt", "swapper_pg_dir"])
def test_other_names_of_the_root(name: str) -> None:
    machine = x86_64(ERA)
    root = machine.kernel.lines["SYMBOL(init_top_pgt)"]
    lines = {"SYMBOL__init_top_pgt": "", "SYMBOL__swapper_pg_dir": "", f"SYMBOL__{name}": root}
    assert space_of(machine, **lines).root == machine.tables.root


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"SYMBOL__init_top_pgt": "", "SYMBOL__swapper_pg_dir": ""}, "where the page tables are"),
        ({"SYMBOL___stext": "", "SYMBOL__init_uts_ns": ""}, "no symbol of the kernel's image"),
        ({"SYMBOL__init_top_pgt": "ffffffff80202000"}, "do not map"),
        ({"SYMBOL__init_top_pgt": "1000"}, "do not map"),
        ({"NUMBER__pgtable_l5_enabled": "1"}, "do not map"),
    ],
)
def test_x86_64_that_cannot_be(lines: dict[str, str], message: str) -> None:
    with pytest.raises(KernelDataError, match=message):
        space_of(x86_64(ERA), **lines)


def test_anchor_without_stext() -> None:
    assert space_of(x86_64(ERA), SYMBOL___stext="").has(0xFFFF_FFFF_8020_0000)


@pytest.mark.parametrize("pae", [False, True])
def test_i386(pae: bool) -> None:
    machine = i386(ERA, pae=pae, sparse=pae)
    space = space_of(machine)
    assert space.root == machine.tables.root
    assert space.translate(0xC020_1234) == (0x20_1234, 1)
    assert space.read(machine.frames.address(0x1345), 40) == machine.frames.page(0x1345)


@pytest.mark.parametrize("direct_map", [0xC000_0000, 0xB000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000])
def test_i386_where_no_segment_has_a_virtual_address(direct_map: int) -> None:
    machine = i386(ERA, direct_map=direct_map)
    machine.low_memory_end = 0
    machine.map_shift = 12
    machine.tables.map_range(direct_map, 0, 32 << 20, 22)
    assert space_of(machine).root == machine.tables.root


def test_an_i386_root_table_that_maps_the_text_elsewhere_is_not_believed() -> None:
    machine = i386(ERA, direct_map=0xB000_0000)
    machine.low_memory_end = 0
    machine.map_shift = 12
    machine.tables.map_range(0xB000_0000, 0, 32 << 20, 22)
    root = int(machine.kernel.lines["SYMBOL(swapper_pg_dir)"], 16) + 0x1000_0000
    with pytest.raises(KernelDataError, match="do not map the kernel's text where low memory says"):
        space_of(machine, SYMBOL__swapper_pg_dir=f"{root:x}")


def test_i386_large_pages_above_4_gib() -> None:
    machine = i386(ERA)
    machine.tables.map(0xE000_0000, 0x9_8040_0000, 22)
    assert space_of(machine).translate(0xE012_3456) == (0x9_8052_3456, 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"SYMBOL__swapper_pg_dir": ""}, "where the page tables are"),
        ({"SYMBOL__swapper_pg_dir": "c0201000"}, "do not map"),
        ({"SYMBOL__swapper_pg_dir": "1000"}, "do not map"),
        ({"CONFIG_X86_PAE": "y"}, "do not map"),
    ],
)
def test_i386_that_cannot_be(lines: dict[str, str], message: str) -> None:
    with pytest.raises(KernelDataError, match=message):
        space_of(i386(ERA), **lines)
