from __future__ import annotations

from collections import Counter

import pytest

from netdump.errors import KernelDataError
from netdump.testing.memmap_writer import PLAYGROUND, Machine, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.address_space import open_address_space
from netdump.vmcore.memmap import iter_nodes
from netdump.vmcore.paging import PhysicalMemory
from netdump.vmcore.zones import ZoneLayout, Zones, read_layout, read_zones
from tests.vmcore.made_up import Opened

ERA = ERAS["6.1"]


def zones_of(machine: Machine, lines: dict[str, str] | None = None) -> Zones:
    machine.lines.update(lines or {})
    core = Opened.of(machine)
    return zones_in(core, machine.word)


def zones_in(core: Opened, word: int) -> Zones:
    space = open_address_space(PhysicalMemory(core.source, core.image_map), core.headers, core.info, 4096)
    return read_zones(space, read_layout(core.info, word), iter_nodes(space, core.info, word))


@pytest.mark.parametrize("make", [x86_64, i386])
def test_free_lists(make: type[Machine]) -> None:
    machine = make(ERA)  # type: ignore[call-arg, arg-type]
    frames = machine.frames
    for number in range(8):
        frames.free(PLAYGROUND + number * 16, 0)
        frames.free(PLAYGROUND + 1024 + number * 16, 3)
    zones = zones_of(machine)
    assert zones.number == 3
    assert zones.free_pages == 8 + 64
    blocks = [(block.vaddr, block.order) for block in zones.blocks]
    assert blocks == [(frames.address(PLAYGROUND + 1024 + number * 16), 3) for number in range(3)] + [
        (frames.address(PLAYGROUND + number * 16), 0) for number in range(3)
    ]
    assert len({block.zone for block in zones.blocks}) == 1


def test_zones_without_memory() -> None:
    """They were never given free lists: nothing is to be read of them, and they do not count."""
    machine = x86_64(ERA)
    machine.blank_zones = 2
    machine.frames.free(PLAYGROUND, 3)
    zones = zones_of(machine)
    assert (zones.number, zones.free_pages, len(zones.blocks)) == (1, 8, 1)
    machine.blank_zones = 3
    machine.free_pages = 8  # but memory is free: this is no empty zone
    assert -8 in [block.vaddr for block in zones_of(machine).blocks]


def test_a_count_below_zero_is_none_at_all() -> None:
    machine = x86_64(ERA)
    machine.free_pages = -5
    assert zones_of(machine).free_pages == 0


def test_lists_that_lead_nowhere() -> None:
    machine = x86_64(ERA)
    machine.frames.free(PLAYGROUND, 0)
    core = Opened.of(machine)
    address = machine.frames.address(PLAYGROUND) + 8
    at = machine.kernel.memory.index(address.to_bytes(8, "little"))
    core.patch(machine.kernel.paddr + at, (0x1234).to_bytes(8, "little"))
    assert len(zones_in(core, 8).blocks) == 1


class Lists:
    """Stands in for the address space of a machine whose free lists are all full: nodes of one zone, 4 KiB apart.

    Each list leads from its head to entries that are found nowhere else.
    """

    layout = ZoneLayout(
        word=8,
        node_zones=0,
        nr_zones=4000,
        zone_bytes=4000,
        free_stat=0,
        free_area=64,
        area_bytes=6 * 16 + 8,
        areas=11,
        free_list=0,
        lists=6,
        list_bytes=16,
        next=0,
        lru=8,
    )

    def read_uint(self, vaddr: int, _size: int) -> int:
        if vaddr < 1 << 40:  # in a node
            at = vaddr % 4096
            return 1 if at == self.layout.nr_zones else 500 if at == self.layout.free_stat else vaddr << 40
        return vaddr + 64


@pytest.mark.parametrize("nodes", [1, 2, 34, 64])
def test_every_zone_is_asked(nodes: int) -> None:
    """Pages that are poisoned are taken for garbage where their node and zone are none that is known."""
    zones = read_zones(Lists(), Lists.layout, [node << 12 for node in range(1, nodes + 1)])  # type: ignore[arg-type]
    blocks = Counter(block.zone for block in zones.blocks)
    assert len(blocks) == zones.number == nodes
    assert set(blocks.values()) == {max(3, 160 // nodes)}
    assert zones.blocks[0].order == 10


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"NUMBER(NR_FREE_PAGES)": ""}, "what a zone looks like"),
        ({"LENGTH(zone.free_area)": ""}, "what a zone looks like"),
        ({"LENGTH(free_area.free_list)": ""}, "what a zone looks like"),
        ({"LENGTH(zone.free_area)": "33"}, "makes no sense"),
        ({"LENGTH(free_area.free_list)": "65"}, "makes no sense"),
        ({"SIZE(zone)": ""}, r"no SIZE\(zone\)"),
        ({"OFFSET(zone.vm_stat)": str(1 << 40)}, "makes no sense"),
        ({"NUMBER(NR_FREE_PAGES)": "-9999999"}, "makes no sense"),
        ({"OFFSET(pglist_data.nr_zones)": "0"}, "not in the core|makes no sense|can be found"),
        ({"SYMBOL(node_data)": "1000"}, "not in the core"),
        ({"SYMBOL(node_data)": ""}, "no node"),
        ({"SYMBOL(node_online_map)": "1000"}, "not in the core"),
    ],
)
def test_what_cannot_be(lines: dict[str, str], message: str) -> None:
    with pytest.raises(KernelDataError, match=message):
        zones_of(x86_64(ERA), lines)


def test_more_zones_than_there_are() -> None:
    machine = x86_64(ERA)
    machine.lines = {"OFFSET(pglist_data.nr_zones)": str(8 * 0x600 + 3 * 8)}
    with pytest.raises(KernelDataError):
        zones_of(machine)
