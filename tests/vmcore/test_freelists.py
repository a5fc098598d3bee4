from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.testing.memmap_writer import PLAYGROUND, arm64, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.distrust import Distrust
from netdump.vmcore.freelists import check_free_lists
from netdump.vmcore.memmap import core_frames
from netdump.vmcore.pagerules import Refusals
from netdump.vmcore.structpage import Wanted
from tests.vmcore.made_up import Opened, ground, populate

if TYPE_CHECKING:
    from netdump.testing.memmap_writer import Machine


def trusting(zone_mask: int = 0xFFFF_FFFF) -> Distrust:
    distrust = Distrust(Wanted.of_level(31), Refusals())
    distrust.zone_mask = zone_mask
    return distrust


def checked(machine: Machine, zone_mask: int = 0xFFFF_FFFF) -> Distrust:
    core = Opened.of(machine)
    distrust = trusting(zone_mask)
    check_free_lists(distrust, core.pages(), core.info, 2, core_frames(core.headers, 4096))
    return distrust


@pytest.mark.parametrize("era", ERAS)
def test_free_lists_that_fit(era: str) -> None:
    distrust = checked(populate(x86_64(ERAS[era])))
    assert distrust.remark is None
    assert distrust.allow_free(1042)


def test_free_lists_on_i386() -> None:
    assert checked(populate(i386(ERAS["6.1"]))).remark is None
    assert checked(populate(i386(ERAS["6.1"], pae=True, sparse=True))).remark is None


def test_zones_without_memory() -> None:
    """Every node but the first has some. They do not speak against the memory map."""
    machine = populate(x86_64(ERAS["6.12"]))
    machine.blank_zones = 2
    assert checked(machine).remark is None
    machine.lines["LENGTH(zone.free_area)"] = "10"
    assert "free blocks of more than 512 pages are sent" in str(checked(machine).remark)


def test_no_more_free_pages_than_the_zones_count() -> None:
    machine = x86_64(ERAS["6.12"])
    machine.frames.free(PLAYGROUND, 0)
    machine.free_pages = 32000
    distrust = checked(machine)
    limit = 32000 + 2000 + 4096 + 2 * 3 * 125
    assert distrust.allow_free(limit)
    assert not distrust.allow_free(limit + 1)
    assert not distrust.wanted.free
    assert distrust.wanted.user
    assert "more than the zones count" in str(distrust.remark)


def test_free_lists_of_pages_that_do_not_look_free() -> None:
    """Page types that lie: what rests on them is kept, and what does not is left out."""
    for era, user in (("6.12", False), ("6.1", True)):
        machine = x86_64(ERAS[era])
        for number in range(20):
            machine.frames.free(PLAYGROUND + 2 * number, 0)
        machine.lines["OFFSET(list_head.next)"] = "8"  # whichever way
        assert checked(machine).remark is None
        machine = x86_64(ERAS[era])
        for number in range(20):
            machine.frames.free(PLAYGROUND + 2 * number, 0)
            if number < 3:
                machine.frames._put(PLAYGROUND + 2 * number, 48, -1, 4)
        core = Opened.of(machine)
        pages = core.pages()
        distrust = trusting()
        other = pages.rules.types._replace(buddy=0xFFFF_FF80)
        pages.rules = pages.rules._replace(types=other)
        check_free_lists(distrust, pages, core.info, 2, core_frames(core.headers, 4096))
        assert not distrust.wanted.free
        assert not distrust.wanted.offline
        assert distrust.wanted.user == user
        assert distrust.wanted.cache
        assert "blocks of the free lists only 0 look free" in str(distrust.remark)


def test_free_lists_elsewhere_than_the_memory_map_says() -> None:
    machine = x86_64(ERAS["6.12"])
    for number in range(20):
        machine.frames.free(PLAYGROUND + 2 * number + 1, 0)
    core = Opened.of(machine)
    pages = core.pages()
    pages.memory_map._shape = pages.memory_map._shape._replace(page_struct_bytes=96)  # type: ignore[attr-defined]
    distrust = trusting()
    check_free_lists(distrust, pages, core.info, 2, core_frames(core.headers, 4096))
    assert distrust.wanted.nothing
    assert "lie where the memory map says" in str(distrust.remark)


@pytest.mark.parametrize("frame", [PLAYGROUND + 1, PLAYGROUND + 64], ids=["free", "in use"])
def test_free_lists_whose_struct_pages_are_of_other_frames(frame: int) -> None:
    """Page tables that lead to other struct pages, of a free block's inside or of memory in use: all is kept."""
    machine = x86_64(ERAS["6.1"])
    machine.frames.free(PLAYGROUND, 1)
    machine.frames.cache(PLAYGROUND + 64)
    core = Opened.of(machine)
    pages = core.pages()
    size, lru = pages.rules.size, pages.rules.lru
    other = bytearray(pages.space.read(machine.frames.address(frame), size))
    found = pages.space.translate(machine.frames.address(PLAYGROUND))
    assert found is not None
    list_head = core.patch(found[0], bytes(size))[lru : lru + 16]
    other[lru : lru + 16] = list_head  # the list goes on as it did
    core.patch(found[0], bytes(other))
    distrust = trusting()
    check_free_lists(distrust, pages, core.info, 2, core_frames(core.headers, 4096))
    assert distrust.wanted.nothing
    assert "of 1 free blocks 1 are not free by the memory map" in str(distrust.remark)


def test_flags_that_a_crash_caught_half_way() -> None:
    """Twelve blocks are looked at, three of each list: one may have the flags of another zone."""
    machine = x86_64(ERAS["6.12"])
    for number in range(20):
        machine.frames.free(PLAYGROUND + 8 * number, number % 4)
    for number, trusted in ((0, True), (1, False)):
        machine.frames._or_flags(machine.frames.pages[PLAYGROUND + 8 * number], 1 << 40)
        assert checked(machine).wanted.nothing != trusted


def test_a_count_of_users_that_vmcoreinfo_does_not_name() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    machine.lines["OFFSET(page._refcount)"] = ""
    assert checked(machine).remark is None


@pytest.mark.parametrize("unknown", ["slab", "hugetlb"])
def test_user_pages_rest_on_page_types_that_tell_them_from_slab_or_huge_ones(unknown: str) -> None:
    machine = x86_64(ERAS["6.12"])
    machine.frames.free(PLAYGROUND, 0)
    core = Opened.of(machine)
    pages = core.pages()
    pages.rules = pages.rules._replace(types=pages.rules.types._replace(buddy=0xFFFF_FF80, **{unknown: None}))
    distrust = trusting()
    check_free_lists(distrust, pages, core.info, 2, core_frames(core.headers, 4096))
    assert not distrust.wanted.user


@pytest.mark.parametrize("zone_mask", [0xFFFF_FFFF, 0])
def test_flags_of_several_zones(zone_mask: int) -> None:
    """Also where it is not known which bits neighbours have in common."""
    machine = x86_64(ERAS["6.12"])
    for number in range(20):
        machine.frames.free(PLAYGROUND + 2 * number, 0)
        machine.frames._or_flags(machine.frames.pages[PLAYGROUND + 2 * number], number << 40)
    distrust = checked(machine, zone_mask)
    assert distrust.wanted.nothing
    assert "flags of several" in str(distrust.remark)


def test_zones_that_cannot_be_read() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    machine.lines["LENGTH(zone.free_area)"] = ""
    distrust = checked(machine)
    assert distrust.wanted.nothing
    assert "the zones cannot be read" in str(distrust.remark)


def test_zones_that_nothing_names() -> None:
    """As on arm64: the free lists lead to them; if there are none, nothing confirms the memory map."""
    machine = populate(arm64(ERAS["6.1"]))
    machine.lines["SYMBOL(node_data)"] = ""
    assert checked(machine).remark is None
    machine = arm64(ERAS["6.1"])
    machine.lines["SYMBOL(node_data)"] = ""
    distrust = checked(machine)
    assert distrust.wanted.nothing
    assert "no node of this kernel can be found" in str(distrust.remark)


def test_free_lists_that_are_empty_although_memory_is_free() -> None:
    machine = x86_64(ERAS["6.1"])
    machine.free_pages = 100_000
    assert "of 0 blocks" in str(checked(machine).remark)
    machine = x86_64(ERAS["6.1"])
    machine.free_pages = 100  # out of memory: that is how many machines die
    assert checked(machine).remark is None


@pytest.mark.parametrize("era", ["6.1", "6.12", "7.1"])
def test_free_blocks_of_a_size_that_is_not_known(era: str) -> None:
    """LENGTH(zone.free_area) is too small: larger blocks are kept, which nobody would notice."""
    machine = x86_64(ERAS[era])
    machine.frames.free(ground(machine) + 1024, 10)
    assert checked(machine).remark is None
    machine.lines["LENGTH(zone.free_area)"] = "10"
    distrust = checked(machine)
    assert "free blocks of more than 512 pages are sent" in str(distrust.remark)
    assert distrust.wanted.free


def test_free_memory_that_is_on_no_list() -> None:
    """As memory that a guest has not accepted, before kernels told which that is."""
    machine = x86_64(ERAS["6.12"])
    machine.frames.free(ground(machine) + 1024, 10)
    machine.free_pages = 30_720
    distrust = checked(machine)
    assert "of 30720 free pages only 1024 are in blocks of a size that is known" in str(distrust.remark)
