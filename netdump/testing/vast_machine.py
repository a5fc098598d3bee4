"""A made-up x86_64 machine of any size, up to tebibytes, as a core file that takes a few MiB of disk.

The struct pages of all but the first 128 MiB are a few patterns over and over: the page tables lead to the same memory
again and again. So what a page filter must find is known by counting, and what it reads costs no disk.

    machine = VastMachine.build(ERAS["6.12"], 1 << 40)
    machine.core().write(Path(path))
    machine.expected_pages()

    python -m netdump.testing.vast_machine 1024 core    # GiB, file
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netdump.testing.memmap_writer import PLAYGROUND, Machine, x86_64
from netdump.testing.struct_page_writer import ERAS, Frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netdump.testing.struct_page_writer import Era

SECTION_PAGES: Final = 1 << 15  # 128 MiB, whose struct pages fill 2 MiB
_PATTERN_PAGES: Final = 4096
_STRUCT_PAGES: Final = 0x80_0000  # where struct pages lie, 2 MiB for the first section and for each pattern


class VastMachine(Machine):
    """A Machine most of whose memory repeats itself. Its own frames are those of the first section."""

    patterns: list[Frames]

    @classmethod
    def build(cls, era: Era, ram_bytes: int) -> VastMachine:
        """ram_bytes: a multiple of 128 MiB, 256 MiB at least."""
        plain = x86_64(era, ram_bytes)
        machine = cls(**{name: getattr(plain, name) for name in Machine.__dataclass_fields__})
        machine.patterns = [_busy(era), _idle(era), _mixed(era)]
        for pfn in range(PLAYGROUND, 2 * PLAYGROUND, 64):  # for the free lists: patterns cannot be on any
            machine.frames.free(pfn, pfn // 64 % 6)
        machine.free_pages = machine.expected_pages()["free"]
        return machine

    def section_pattern(self, section: int) -> Frames:
        """What a section after the first is like; frames count from its start on, and repeat."""
        return self.patterns[section % len(self.patterns)]

    def expected_pages(self, level: int = 31) -> Counter[str]:
        """How many pages a filter must leave out, by class."""
        total: Counter[str] = Counter(self.frames.expected(level).values())
        for pattern, times in self._repetitions():
            for name in pattern.expected(level).values():
                total[name] += times
        return total

    def blocks_held(self) -> Counter[int]:
        """See Machine."""
        total = super().blocks_held()
        for pattern, times in self._repetitions():
            for order in pattern.free_blocks().values():
                total[order] += times
        return total

    def _repetitions(self) -> Iterator[tuple[Frames, int]]:
        """Each pattern, with how often it stands in memory."""
        sections = self.ram_bytes // (SECTION_PAGES * 4096)
        for number, pattern in enumerate(self.patterns):
            times = len(range(number or len(self.patterns), sections, len(self.patterns)))
            yield pattern, times * (SECTION_PAGES // _PATTERN_PAGES)

    def _put_memory_map(self) -> None:
        """The first section's struct pages, one copy of each pattern, and tables that lead to them."""
        base, step, size = _STRUCT_PAGES, 1 << self.map_shift, self.frames.layout.size
        self.ram.write(base, self.frames.array(0, SECTION_PAGES))
        self.tables.map(self.frames.vmemmap, base, self.map_shift)
        for number, pattern in enumerate(self.patterns, 1):
            array = pattern.array(0, _PATTERN_PAGES)
            self.ram.write(base + number * step, array * (step // len(array)))
        sections = self.ram_bytes // (SECTION_PAGES * 4096)
        for section in range(1, sections):
            place = base + (1 + section % len(self.patterns)) * step
            self.tables.map(self.frames.vmemmap + section * SECTION_PAGES * size, place, self.map_shift)
        self._put_sections(sections * SECTION_PAGES)


def _busy(era: Era) -> Frames:
    """Page cache and processes, in pages of all sizes, with some of the kernel between them."""
    frames = Frames(era)
    for pfn in range(0, 2048, 8):
        for page in range(6):
            frames.cache(pfn + page)
        frames.cache(pfn + 6, private=True)
        frames.anon(pfn + 7)
    frames.cache(2048, 9)
    frames.anon(2560, 9)
    for pfn in range(3072, 3584, 16):
        frames.cache(pfn, 4)
    return frames


def _idle(era: Era) -> Frames:
    """All free, in the largest blocks there are."""
    frames = Frames(era)
    for pfn in range(0, _PATTERN_PAGES, 1024):
        frames.free(pfn, 10)
    return frames


def _mixed(era: Era) -> Frames:
    """Free memory in pieces, slab, compound pages of the kernel, hugetlb."""
    frames = Frames(era)
    for pfn in range(0, 1024, 8):
        frames.free(pfn, pfn // 8 % 3)
        frames.slab(pfn + 4, 1)
        frames.kernel(pfn + 6)
        frames.cache(pfn + 7)
    for pfn in range(1024, 2048, 8):
        frames.kernel(pfn, 3)
    frames.hugetlb(2048, 9)
    frames.free(3072, 10)
    return frames


def main(arguments: Sequence[str]) -> None:
    """Write a core of so many GiB to a file, and say what a page filter must find in it: a line for each class."""
    gib, path = arguments
    machine = VastMachine.build(ERAS["6.12"], int(gib) << 30)
    machine.core().write(Path(path))
    for name, pages in sorted(machine.expected_pages().items()):
        print(name, pages)


if __name__ == "__main__":
    main(sys.argv[1:])
