from __future__ import annotations

import pytest

from netdump.errors import KernelDataError
from netdump.testing.memmap_writer import Machine, arm64, i386, riscv64, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.address_space import open_address_space
from netdump.vmcore.paging import PhysicalMemory
from tests.vmcore.made_up import Opened

ERA = ERAS["6.1"]


@pytest.mark.parametrize("machine", [x86_64(ERA), i386(ERA), arm64(ERA), riscv64(ERA)])
def test_each_architecture(machine: Machine) -> None:
    core = Opened.of(machine)
    physical = PhysicalMemory(core.source, core.image_map)
    space = open_address_space(physical, core.headers, core.info, 4096)
    assert space.translate(machine.kernel.vaddr) == (machine.kernel.paddr, 1)
    assert space.byteorder == "little"


@pytest.mark.parametrize(("elf_machine", "page_bytes"), [(22, 4096), (62, 8192), (3, 65536), (243, 16384)])
def test_what_is_not_known(elf_machine: int, page_bytes: int) -> None:
    core = Opened.of(x86_64(ERA))
    headers = core.headers._replace(machine=elf_machine)
    physical = PhysicalMemory(core.source, core.image_map)
    with pytest.raises(KernelDataError, match=f"machine {elf_machine} with pages of {page_bytes}"):
        open_address_space(physical, headers, core.info, page_bytes)
