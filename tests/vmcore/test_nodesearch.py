from __future__ import annotations

import pytest

from netdump.testing.memmap_writer import PLAYGROUND, Machine, arm64, riscv64, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.memmap import core_frames, iter_nodes
from netdump.vmcore.nodesearch import find_nodes
from netdump.vmcore.zones import read_layout
from tests.vmcore.made_up import Opened, ground, populate


def found(core: Opened, word: int = 8) -> list[int]:
    pages = core.pages()
    return find_nodes(pages, core.info, read_layout(core.info, word), core_frames(core.headers, core.facts.page_bytes))


def named(core: Opened) -> list[int]:
    return list(iter_nodes(core.pages().space, core.info, 8))


@pytest.mark.parametrize(
    "machine",
    [
        x86_64(ERAS["6.12"]),
        arm64(ERAS["5.4"]),
        arm64(ERAS["6.12"], ram_bytes=512 << 20, page_bytes=65536, va_bits=52, actual=48),
        riscv64(ERAS["6.1"]),
    ],
    ids=["x86_64", "arm64", "arm64-64k", "riscv64"],
)
def test_the_node_that_is_named_is_found(machine: Machine) -> None:
    core = Opened.of(populate(machine))
    assert found(core) == named(core)


def test_the_shortest_list_decides() -> None:
    machine = x86_64(ERAS["6.1"])
    for number in range(500):
        machine.frames.free(PLAYGROUND + 16 + 2 * number, 0)
    machine.frames.free(PLAYGROUND + 8, 3)
    core = Opened.of(machine)
    nodes, before = named(core), len(core.source.reads)
    assert found(core) == nodes
    assert len(core.source.reads) - before < 60


def test_nothing_is_found_without_free_pages() -> None:
    assert found(Opened.of(x86_64(ERAS["6.1"]))) == []


@pytest.mark.parametrize(
    "lines",
    [
        {"OFFSET(pglist_data.node_start_pfn)": ""},
        {"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": ""},
        {"OFFSET(page.private)": ""},
        {"OFFSET(zone.free_area)": "264"},
        {"OFFSET(pglist_data.nr_zones)": "0"},
        {"OFFSET(list_head.next)": "4096"},
    ],
)
def test_with_words_that_lie_nothing_is_found(lines: dict[str, str]) -> None:
    machine = populate(x86_64(ERAS["6.1"]))
    machine.lines.update(lines)
    assert found(Opened.of(machine)) == []


def test_a_list_that_never_ends() -> None:
    machine = x86_64(ERAS["6.1"])
    machine.frames.free(PLAYGROUND, 0)
    machine.frames.free(PLAYGROUND + 2, 0)
    first, second = (machine.frames.address(PLAYGROUND + page) + 8 for page in (0, 2))
    shift = 0x80_0000 - machine.frames.address(0)
    core = Opened.of(machine)
    for page, other in ((first, second), (second, first)):
        core.patch(page + shift, other.to_bytes(8, "little") * 2)
    assert found(core) == []


def test_frames_of_a_core_whose_memory_starts_high() -> None:
    machine = arm64(ERAS["6.1"])
    machine.frames.free(ground(machine), 10)
    core = Opened.of(machine)
    assert found(core) == named(core)
