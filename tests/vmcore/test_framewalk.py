from __future__ import annotations

import random

import pytest

from netdump.pages import ExcludeClass
from netdump.testing.memmap_writer import PLAYGROUND, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.distrust import Distrust
from netdump.vmcore.framewalk import FrameWalk
from netdump.vmcore.pagerules import Refusals
from netdump.vmcore.structpage import Wanted
from tests.vmcore.made_up import Opened, populate
from tests.vmcore.test_pageclasses import fill, zone_byte
from tests.vmcore.test_places import listed


def walk_of(core: Opened, level: int = 31) -> tuple[FrameWalk, Distrust]:
    distrust = Distrust(Wanted.of_level(level), Refusals())
    pages = core.pages()
    return FrameWalk(pages, distrust, zone_byte(pages.rules)), distrust


def names(classes: bytearray) -> list[str]:
    return [ExcludeClass(value).name.lower() for value in classes]


@pytest.mark.parametrize("make", [x86_64, i386])
@pytest.mark.parametrize("step", [1, 7, 64, 1000, 4096, 9999])
def test_forward_in_steps(make: object, step: int) -> None:
    machine = populate(make(ERAS["6.1"]))  # type: ignore[operator]
    expected = machine.frames.expected(31)
    walk, _ = walk_of(Opened.of(machine))
    pages = 4096 if step > 1 else 1600
    found: list[str] = []
    while len(found) < pages:
        found += names(walk.classes(PLAYGROUND + len(found), min(step, pages - len(found))))
    assert found == [expected.get(PLAYGROUND + page, "none") for page in range(pages)]


def test_beginning_anywhere() -> None:
    machine = x86_64(ERAS["6.6"])
    fill(machine.frames, random.Random(11), 4096, PLAYGROUND)
    core = Opened.of(machine)
    whole = names(walk_of(core)[0].classes(PLAYGROUND, 4096))
    generator = random.Random(12)
    for _ in range(150):
        start = generator.randrange(4096)
        walk, _ = walk_of(core)
        assert names(walk.classes(PLAYGROUND + start, 1)) == whole[start : start + 1]
        pages = generator.randrange(1, 4097 - start)
        assert names(walk.classes(PLAYGROUND + start, pages)) == whole[start : start + pages]


@pytest.mark.parametrize("shift", [1, -1, 70])
def test_struct_pages_that_were_moved(shift: int) -> None:
    """Blocks among them no longer fit, so each page of memory of them is looked at: lists lead elsewhere."""
    machine = x86_64(ERAS["6.12"])
    frames, pages = machine.frames, []
    for pfn in range(PLAYGROUND, PLAYGROUND + 4096, 16):
        frames.anon(pfn, 2)
        frames.cache(pfn + 5)
        frames.cache(pfn + 9)
        pages += [pfn, pfn + 5, pfn + 9]
    random.Random(3).shuffle(pages)
    listed(machine, pages)
    core = Opened.of(machine)
    first, last = PLAYGROUND + 1024, PLAYGROUND + 2048
    core.patch(0x80_0000 + first * 64, b"".join(frames.page(pfn - shift) for pfn in range(first, last)))
    expected = machine.frames.expected(31)
    found = names(walk_of(core)[0].classes(PLAYGROUND, 4096))
    truth = [expected.get(PLAYGROUND + page, "none") for page in range(4096)]
    assert found[1024:2048] == ["none"] * 1024
    assert found[:1024] + found[2048:] == truth[:1024] + truth[2048:]


def test_frames_without_struct_pages_are_kept() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    walk, _ = walk_of(Opened.of(machine))
    assert walk.classes(1 << 30, 5000) == bytes(5000)
    assert walk.classes(2 * PLAYGROUND - 10 + (1 << 15), 20) == bytes(20)


def test_struct_pages_that_cannot_be_read_are_kept() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    core = Opened.of(machine)
    offset = core.image_map.image_offset(0x80_0000 + PLAYGROUND * 64)
    assert offset is not None
    core.source.bad.append((offset + 4096, offset + 8192))  # of 64 pages, within a free block
    walk, distrust = walk_of(core)
    found = names(walk.classes(PLAYGROUND, 4096))
    classes = machine.frames.expected(31)
    expected = [classes.get(PLAYGROUND + page, "none") for page in range(4096)]
    assert expected[:1024] == ["free"] * 1024
    assert found == ["none"] * 1024 + expected[1024:]  # what is missing is of no zone, so the block is not what it says
    core.source.bad.append((offset, offset + 4096))
    found = names(walk_of(core)[0].classes(PLAYGROUND, 4096))
    assert found[:1024] == ["none"] * 1024
    assert distrust.remark is not None
    assert distrust.remark.startswith("some free pages are sent too from frame 0x1000 on: ")


def test_a_class_that_is_stopped_on_the_way() -> None:
    """What makes no sense is kept where it is found; and what comes after trust has ended is classified without."""
    machine = x86_64(ERAS["6.12"])
    for page in range(0, 4096, 2):
        machine.frames.anon(PLAYGROUND + page)
        if page < 64:
            machine.frames._put(PLAYGROUND + page, 24, 0x1235)
        machine.frames.cache(PLAYGROUND + page + 1)
    walk, distrust = walk_of(Opened.of(machine))
    assert names(walk.classes(PLAYGROUND + 100, 4)) == ["user", "cache"] * 2
    for page in range(0, 32, 2):
        assert names(walk.classes(PLAYGROUND + page, 2)) == ["none", "cache"]
    assert not distrust.wanted.user
    assert names(walk.classes(PLAYGROUND + 100, 4)) == ["none", "cache"] * 2
    distrust.stop_all("enough")
    walk.restart()
    assert not any(walk.classes(PLAYGROUND, 4096))


def test_struct_pages_in_memory_that_is_not_the_kernels() -> None:
    """A page table that leads to the memory of a process: what lies there is not believed, whatever it says."""
    machine = x86_64(ERAS["6.12"], ram_bytes=256 << 20)
    frames, tables = machine.frames, machine.tables
    for pfn in range(0x8000, 0x8200):
        frames.anon(pfn)
    fakes = b"".join(frames.page(pfn) for pfn in range(0x8000, 0x8200))
    for page in range(64):
        machine.ram.write((0x8000 << 12) + page * len(fakes), fakes)
    core = Opened.of(machine)
    walk, _ = walk_of(core)
    assert names(walk.classes(0x8000, 0x200)) == ["user"] * 0x200
    assert not any(walk.classes(0x9000, 0x1000))
    vaddr, table = frames.address(0x8000), tables.root
    for level in range(2):
        entry = machine.ram.read(tables._place(table, vaddr, level), 8)
        table = tables.target(int.from_bytes(entry, "little"))
    core.patch(tables._place(table, vaddr, 2), ((0x8000 << 12) | 0x1E3).to_bytes(8, "little"))
    walk, distrust = walk_of(core)
    assert not any(walk.classes(0x8000, 0x1000))  # their struct pages are the ones that were moved
    assert distrust.remark == "pages around frame 0x8000 are sent too: their struct pages lie in memory of others"
