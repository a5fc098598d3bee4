"""Real kernels whose page tables or struct pages were changed: no frame is left out that the honest core keeps."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from netdump.errors import KernelDataError
from netdump.vmcore.address_space import open_address_space
from netdump.vmcore.filter import open_filter
from netdump.vmcore.memmap import open_memory_map
from netdump.vmcore.pagerules import read_rules
from netdump.vmcore.paging import AddressSpace, PhysicalMemory
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from tests.vmcore.real_cores import RealCore, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.vmcore.memmap import MemoryMap

NAMES = ("x86_64-6.12-512M", "x86_64-7.2-cloud-512M", "arm64-6.1-cloud-512M")
LIES = 12
DAMAGES = 8


def words(make: Callable[[random.Random], int]) -> Callable[[random.Random], bytes]:
    """What makes a page of memory out of 8-byte words."""
    return lambda generator: b"".join(make(generator).to_bytes(8, "little") for _ in range(512))


GARBAGE: dict[str, Callable[[random.Random], bytes]] = {
    "kernel pointers": words(lambda generator: 0xFFFF_8880_0000_0000 + generator.randrange(1 << 29) // 8 * 8),
    "pointers to struct pages": words(lambda generator: 0xFFFF_EA00_0000_0000 + generator.randrange(1 << 17) * 64),
    "a process's pointers": words(lambda generator: 0x7F00_0000_0000 + generator.randrange(1 << 32)),
    "page table entries": words(lambda generator: 1 << 63 | generator.randrange(1 << 17) << 12 | 0x867),
    "numbers": words(lambda generator: generator.randrange(1 << 16)),
    "large numbers": words(lambda generator: generator.randrange(1 << 32)),
    "UTF-16": lambda generator: "".join(generator.choices("netdump carries kernels", k=2048)).encode("utf-16-le"),
    "poison": lambda _generator: b"\xaa" * 4096,
}


class Patched:
    """A source some bytes of which are others. patches: image offset -> bytes."""

    def __init__(self, core: RealCore) -> None:
        self._source = core.source
        self.size, self.name = core.source.size, core.source.name
        self.patches: dict[int, bytes] = {}

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(self._source.read(offset, length))
        self._patch(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        lost = self._source.read_into(offset, buffer)
        self._patch(offset, buffer)
        return lost

    def _patch(self, offset: int, buffer: memoryview) -> None:
        for at, data in self.patches.items():
            first, end = max(at, offset), min(at + len(data), offset + len(buffer))
            if first < end:
                buffer[first - offset : end - offset] = data[first - at : end - at]

    def next_data(self, offset: int) -> int:
        return self._source.next_data(offset)

    def identity(self) -> bytes:
        return self._source.identity()

    def close(self) -> None:
        pass


class Opened(NamedTuple):
    """A real core that can be changed."""

    core: RealCore
    source: Patched
    space: AddressSpace
    memory_map: MemoryMap

    @classmethod
    def of(cls, name: str) -> Opened:
        core = load(name)
        info = Vmcoreinfo.parse(core.facts.vmcoreinfo or b"")
        source = Patched(core)
        space = open_address_space(PhysicalMemory(source, core.image_map), core.headers, info, 4096)
        rules, _ = read_rules(info, core.headers)
        assert rules.size == 64
        return cls(core, source, space, open_memory_map(space, core.headers, info, 4096, 64))

    def wrong(self) -> list[int]:
        """Frames that are left out and must be kept."""
        core = self.core
        try:
            page_filter = open_filter(self.source, core.headers, core.facts, 31, core.image_map)
        except KernelDataError:
            return []
        found = core.classify(page_filter)
        assert "failed at" not in (page_filter.remark or "")
        return sorted(found.keys() - core.expected.keys())

    def vaddrs(self) -> list[int]:
        """Addresses of the struct pages of every 512th frame of the core."""
        spans = [range(start // 4096, end // 4096, 512) for start, end, _ in self.core.image_map.memory()]
        found = [self.memory_map.locate(pfn)[0] for pfn in itertools.chain(*spans)]
        return [vaddr for vaddr in found if vaddr is not None]

    def entries(self) -> dict[int, int]:
        """Entries of the page tables that map struct pages: physical address -> value."""
        geometry, found = self.space._geometry, {}
        for vaddr in self.vaddrs():
            table = self.space.root
            for level in range(len(geometry.shifts)):
                index = vaddr >> geometry.shifts[level] & (1 << geometry.bits[level]) - 1
                value = int.from_bytes(self.space.physical.read(table + 8 * index, 8), "little")
                entry = geometry.decode(value, level)
                assert entry is not None
                if entry[1]:
                    found[table + 8 * index] = value
                    break
                table = entry[0]
        return found

    def patch(self, paddr: int, data: bytes) -> None:
        offset = self.core.image_map.image_offset(paddr)
        assert offset is not None
        self.source.patches[offset] = data


@pytest.fixture(scope="module", params=NAMES)
def opened(request: pytest.FixtureRequest) -> Opened:
    return Opened.of(request.param)


def test_the_honest_core(opened: Opened) -> None:
    opened.source.patches.clear()
    assert opened.wrong() == []


def test_page_tables_that_show_other_struct_pages(opened: Opened) -> None:
    """One entry says what another one says, two are swapped, one bit or the whole address is another one."""
    entries, generator = opened.entries(), random.Random(opened.source.name)
    assert len(entries) >= 2
    for number in range(LIES):
        opened.source.patches.clear()
        place, other = generator.sample(sorted(entries), 2)
        value = entries[other]
        if number % 4 == 2:
            value = entries[place] ^ 1 << generator.randrange(21, 30)
        elif number % 4 == 3:
            value = entries[place] & ~0xFFFF_FFFF_F000 | generator.randrange(1 << 8) << 21
        opened.patch(place, value.to_bytes(8, "little"))
        if number % 4 == 1:
            opened.patch(other, entries[place].to_bytes(8, "little"))
        assert opened.wrong() == [], (hex(place), hex(value))


def test_struct_pages_that_were_overwritten(opened: Opened) -> None:
    """A page of memory with struct pages, or two, hold garbage or what another page holds."""
    vaddrs, generator = opened.vaddrs(), random.Random(opened.source.name)
    for number in range(DAMAGES):
        opened.source.patches.clear()
        found = opened.space.translate(generator.choice(vaddrs) // 4096 * 4096)
        assert found is not None
        data = generator.randbytes(4096 * (1 + number % 2))
        if number % 3 == 2:
            data = opened.core.source._pieces[generator.randrange(len(opened.core.source._pieces))][:4096]
        opened.patch(found[0], data)
        assert opened.wrong() == [], hex(found[0])


@pytest.mark.parametrize("kind", GARBAGE)
def test_struct_pages_that_were_overwritten_with_what_memory_holds(opened: Opened, kind: str) -> None:
    """Pages of pointers, numbers, text or one byte are much alike: by their flags they may seem to be of one zone."""
    vaddrs, generator = opened.vaddrs(), random.Random(f"{opened.source.name} {kind}")
    for pages in (1, 4, 4, 16):
        opened.source.patches.clear()
        first = generator.choice(vaddrs) // 4096 * 4096
        for vaddr in range(first, first + pages * 4096, 4096):
            found = opened.space.translate(vaddr)
            if found is not None and opened.core.image_map.image_offset(found[0]) is not None:
                opened.patch(found[0], GARBAGE[kind](generator))
        assert opened.wrong() == [], (hex(first), pages)


def test_a_few_blocks_that_are_kept_are_told_of() -> None:
    """Eight of them, 32 MiB in all, on this machine: too few to stop the class."""
    core, key = load("i386-6.1.0-50-686-pae-1200M"), "OFFSET(page.compound_order)"
    lines = (core.facts.vmcoreinfo or b"").decode().splitlines()
    lying = [f"{key}=16" if line.startswith(f"{key}=") else line for line in lines]
    assert lying != lines
    facts = core.facts._replace(vmcoreinfo="\n".join([*lying, ""]).encode())
    page_filter = open_filter(core.source, core.headers, facts, 31, core.image_map)
    found = core.classify(page_filter)
    assert len(core.expected) - len(found) == 8192
    assert found.items() < core.expected.items()
    assert page_filter.remark is not None
    assert page_filter.remark.startswith("some user pages are sent too from frame 0x")
