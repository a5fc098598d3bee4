from __future__ import annotations

from netdump.testing.memmap_writer import x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.kernelpages import iter_kernel_pages
from tests.vmcore.made_up import Opened

ERA = ERAS["6.12"]


def test_what_is_found() -> None:
    machine = x86_64(ERA)
    machine.kernel.symbol("prb", machine.kernel.put(bytes(8)))
    core = Opened.of(machine)
    pages = core.pages()
    found: dict[str, set[int]] = {}
    for what, paddr in iter_kernel_pages(pages, core.headers, core.facts, core.info):
        found.setdefault(what, set()).add(paddr)
    kernel = machine.kernel
    image = range(kernel.paddr, kernel.paddr + len(kernel.memory))
    assert found["the kernel's text"] == {int(kernel.lines["SYMBOL(_stext)"], 16) - kernel.vaddr + kernel.paddr}
    assert machine.tables.root in found["the kernel's page tables"]
    assert len(found["the kernel's page tables"]) > 3
    assert all(paddr in image for paddr in found["the kernel's stacks"] | found["the kernel's data"])
    assert len(found["the kernel's stacks"]) == 1
    assert found["the kernel's log"] <= set(image)
    assert len(found["the kernel's data on nodes"]) == 1
    assert any(0x80_0000 <= paddr < 0x100_0000 for paddr in found["the memory map"])


def test_a_user_was_running() -> None:
    machine = x86_64(ERA)
    machine.stack = 0x7FFF_1234_5000
    core = Opened.of(machine)
    pages = core.pages()
    assert "the kernel's stacks" not in dict(iter_kernel_pages(pages, core.headers, core.facts, core.info))


def test_little_to_go_by() -> None:
    core = Opened.of(x86_64(ERA))
    pages = core.pages()
    headers = core.headers._replace(machine=8, segments=())
    info = type(core.info)({"SYMBOL(node_data)": "1000"})
    found = list(iter_kernel_pages(pages, headers, core.facts, info))
    assert {what for what, _ in found} == {"the kernel's page tables"}
