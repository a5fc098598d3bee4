"""Made-up machines with something of everything, and what the page filter makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from netdump.errors import KernelDataError
from netdump.pages import ExcludeClass
from netdump.testing.memmap_writer import PLAYGROUND
from netdump.vmcore.address_space import open_address_space
from netdump.vmcore.elf import PT_LOAD
from netdump.vmcore.filter import PageFilter, open_filter
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.memmap import open_memory_map
from netdump.vmcore.pagearray import PageArray
from netdump.vmcore.pagerules import read_rules
from netdump.vmcore.paging import PhysicalMemory
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from netdump.testing.memmap_writer import Machine
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.kernel import KernelFacts
    from tests.vmcore.doubles import Image


def ground(machine: Machine) -> int:
    """First frame that is free for tests, a multiple of 4096."""
    return -(-((machine.ram_start + PLAYGROUND * 4096) // machine.page_bytes) // 4096) * 4096


def populate(machine: Machine) -> Machine:
    """Use 4096 frames for something of everything that its kernel knows."""
    frames, first = machine.frames, ground(machine)
    frames.free(first, 10)
    for page, order in ((1024, 0), (1026, 1), (1028, 2), (1056 + 32, 5), (1152, 7)):
        frames.free(first + page, order)
    frames.cache(first + 1032)
    frames.cache(first + 1033, private=True)
    frames.anon(first + 1034)
    frames.swapcache(first + 1035)
    frames.swapcache(first + 1036, backed=False)
    frames.slab(first + 1040, 3)
    frames.slab(first + 1048)
    frames.kernel(first + 1052, 2)
    frames.table(first + 1056)
    if "OFFLINE" in frames.era.types:
        for page in range(1060, 1068):
            frames.offline(first + page)
    frames.kernel(first + 1070)
    for page in (1070, 1071, 1072):
        if page == 1072:
            frames.cache(first + page)
        frames.poison(first + page)
    frames.cache(first + 1280, 4)
    frames.anon(first + 1296, 4)
    frames.hugetlb(first + 1536, 9, shared_tables=frames.era.huge == "type")
    frames.anon(first + 2048, 9)
    frames.cache(first + 2560, 9, private=True)
    if "UNACCEPTED" in frames.era.types:
        frames.unaccepted(first + 3072)
    return machine


class Opened:
    """A core in memory, and all that a filter is made of."""

    def __init__(self, image: Image) -> None:
        self.source = BytesSource(image)
        self.headers: ElfHeaders = headers_of(image)
        self.image_map = ImageMap(self.headers)
        self.facts: KernelFacts = read_facts(self.source, self.headers, self.image_map)
        self.info = Vmcoreinfo.parse(self.facts.vmcoreinfo or b"")

    @classmethod
    def of(cls, machine: Machine) -> Opened:
        return cls(machine.core().map())

    def patch(self, paddr: int, data: bytes) -> bytes:
        """Change memory, for what is opened afterwards. Returns what was there."""
        offset = self.image_map.image_offset(paddr)
        assert offset is not None
        image = cast("bytearray", self.source.image)
        before = bytes(image[offset : offset + len(data)])
        image[offset : offset + len(data)] = data
        return before

    def pages(self) -> PageArray:
        """The array of struct pages."""
        physical, page_bytes = PhysicalMemory(self.source, self.image_map), self.facts.page_bytes
        space = open_address_space(physical, self.headers, self.info, page_bytes)
        rules, _ = read_rules(self.info, self.headers)
        memory_map = open_memory_map(space, self.headers, self.info, page_bytes, rules.size)
        return PageArray(space, memory_map, rules, page_bytes)

    def filter(self, level: int) -> PageFilter:
        return open_filter(self.source, self.headers, self.facts, level, self.image_map)

    def classify(self, page_filter: PageFilter, step: int = 4096) -> dict[int, str]:
        """Class by frame, all frames of all segments being asked for in the order of the image."""
        found: dict[int, str] = {}
        size = self.facts.page_bytes
        for segment in self.headers.segments:
            if segment.type != PT_LOAD:
                continue
            pfn, end = segment.paddr // size, -(-(segment.paddr + segment.memsz) // size)
            while pfn < end:
                pages = min(end - pfn, step - pfn % step)
                for exclude, length in page_filter.classify(pfn * size, pages):
                    assert 1 <= length <= pages
                    if exclude != ExcludeClass.NONE:
                        found |= dict.fromkeys(range(pfn, pfn + length), exclude.name.lower())
                    pfn += length
                    pages -= length
                assert pages == 0
        return found

    def excluded(self, level: int) -> dict[int, str]:
        """What a filter leaves out; nothing if it cannot be made."""
        try:
            page_filter = self.filter(level)
        except KernelDataError:
            return {}
        return self.classify(page_filter)
