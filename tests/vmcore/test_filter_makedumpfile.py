"""The page filter keeps the frames that makedumpfile keeps: real cores and made-up ones, frame by frame.

Debian's own makedumpfile reads the core that it is of the age of; the newest one, of three architectures, all others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from netdump.pages import ExcludeClass
from netdump.testing.elf_writer import EM_386, EM_X86_64
from netdump.testing.memmap_writer import EM_AARCH64, arm64, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.filter import open_filter
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.source import open_source
from tests.vmcore import kdump_bitmap
from tests.vmcore.made_up import populate
from tests.vmcore.real_cores import NAMES, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from netdump.testing.memmap_writer import Machine
    from netdump.testing.struct_page_writer import Era
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.source import Source
    from tests.vmcore.kdump_bitmap import Program

LEVELS = (1, 2, 4, 8, 16, 31)
ARCHITECTURES = {"x86_64": "amd64", "i386": "i386", "arm64": "arm64"}
UNREADABLE = {
    "arm64-16k-": "does not support pages of 16 KiB with addresses of 52 bits",
    "arm64-64k-": "cannot validate mem_section of a kernel with pages of 64 KiB and addresses of 42 bits",
    "riscv64-": "reads the first 4 KiB of a large page for all of it, so of vmemmap the struct pages of other frames",
}

pytestmark = pytest.mark.e2e


def headers_of(source: Source) -> ElfHeaders:
    from netdump.vmcore.elf import parse_headers  # noqa: PLC0415

    return parse_headers(source.read, source.size, source.name)


def ours(core: Path, level: int, remark: str | None = None) -> tuple[set[int], set[int], set[int]]:
    """Frames that the core has bytes of, those the filter keeps, and those of which not all bytes are there."""
    source = open_source(str(core), "file")
    headers = headers_of(source)
    image_map = ImageMap(headers)
    facts = read_facts(source, headers, image_map)
    page_filter = open_filter(source, headers, facts, level, image_map)
    size = facts.page_bytes
    there: set[int] = set()
    kept: set[int] = set()
    torn: set[int] = set()
    for stretch in image_map.stretches(0, size):
        if stretch.paddr is None:
            continue
        end_paddr = stretch.paddr + stretch.end - stretch.start
        pfn, end = stretch.paddr // size, -(-end_paddr // size)
        there.update(range(pfn, end))
        if end_paddr % size:
            torn.add(end - 1)
        while pfn < end:
            for exclude, pages in page_filter.classify(pfn * size, min(end - pfn, 4096 - pfn % 4096)):
                if exclude == ExcludeClass.NONE:
                    kept.update(range(pfn, pfn + pages))
                pfn += pages
    assert page_filter.remark == remark
    source.close()
    return there, kept, torn


def compare(program: Program, core: Path, level: int, target: Path, unknown: AbstractSet[int] = frozenset()) -> None:
    """Must be alike; only of frames of which this kernel says too little we may keep what they leave out."""
    theirs = program.exclude(core, level, target)
    there, kept, torn = ours(core, level)
    if program.version < (1, 7, 8):  # they lose the last frame of a segment if it is there in part only
        there -= torn
    different = ((theirs ^ kept) & there) - (kept & unknown)
    assert not different, [hex(pfn) for pfn in sorted(different)[:20]]


@pytest.mark.parametrize("program", [kdump_bitmap.installed, kdump_bitmap.newest])
@pytest.mark.parametrize("level", LEVELS)
def test_the_bundled_core(sample: Path, tmp_path: Path, level: int, program: Callable[[], Program]) -> None:
    compare(program(), sample, level, tmp_path / "kdump")


@pytest.mark.slow
@pytest.mark.parametrize("program", [kdump_bitmap.installed, kdump_bitmap.newest])
@pytest.mark.parametrize("level", LEVELS)
def test_the_whole_core(whole: Path, tmp_path: Path, level: int, program: Callable[[], Program]) -> None:
    compare(program(), whole, level, tmp_path / "kdump")


@pytest.mark.parametrize("name", NAMES)
def test_real_kernels(name: str, tmp_path: Path) -> None:
    """What they were cut down to is all that makedumpfile reads, too."""
    for start, reason in UNREADABLE.items():
        if name.startswith(start):
            pytest.skip(f"makedumpfile 1.7.8 {reason}")
    program, core = kdump_bitmap.newest(ARCHITECTURES[name.partition("-")[0]]), tmp_path / "core"
    load(name).source.write(core)
    # Linux 7.1 calls compound_head compound_info: makedumpfile takes the rest of compound pages for a process's memory.
    levels = LEVELS if "-7." not in name else (1, 2, 4, 16)
    for level in levels if not name.startswith("arm64") else (1, 31):  # emulated, 6 s each
        compare(program, core, level, tmp_path / "kdump")


@pytest.mark.parametrize("era", ERAS)
def test_made_up_kernels(era: str, tmp_path: Path) -> None:
    core, machine = tmp_path / "core", populate(x86_64(ERAS[era]))
    machine.core().write(core)
    unknown = machine.frames.swapped() if ERAS[era].unexported else set()
    for level in LEVELS:
        compare(kdump_bitmap.newest(), core, level, tmp_path / "kdump", unknown)


def test_a_kernel_without_keys_for_compound_pages(tmp_path: Path) -> None:
    """Linux 4.4 and 4.5 moved the order of compound pages and did not say so."""
    core, machine = tmp_path / "core", populate(x86_64(ERAS["4.6"]))
    absent = ("OFFSET(page.compound_dtor)", "OFFSET(page.compound_order)", "OFFSET(page.compound_head)")
    machine.lines |= dict.fromkeys((*absent, "NUMBER(HUGETLB_PAGE_DTOR)"), "")
    machine.lines |= {"SYMBOL(free_huge_page)": "ffffffff81123450", "OSRELEASE": "4.4.0"}
    machine.core().write(core)
    remark = "VMCOREINFO does not say how large compound pages are: most of their pages are sent"
    for level in (2, 8, 31):
        theirs = kdump_bitmap.newest().exclude(core, level, tmp_path / "kdump")
        there, kept, _ = ours(core, level, remark)
        assert not (theirs - kept) & there


@pytest.mark.parametrize(
    ("make", "era"),
    [
        pytest.param(partial(x86_64, levels=5), "6.12", id="5-levels"),
        pytest.param(partial(x86_64, kaslr=0x1A00_0000, paddr=0x60_0000), "6.12", id="kaslr"),
        pytest.param(partial(i386, pae=True), "4.1", id="i386-4.1"),
        pytest.param(partial(i386, pae=True), "4.17", id="i386-4.17"),
        pytest.param(partial(i386, pae=True), "6.1", id="i386-6.1"),
        pytest.param(partial(i386, pae=True, sparse=True), "6.12", id="i386-sparse"),
        pytest.param(partial(arm64, flipped=False), "4.9", id="arm64-4.9"),
        pytest.param(arm64, "6.12", id="arm64"),
        pytest.param(partial(arm64, page_bytes=16384, ram_bytes=128 << 20), "6.12", id="arm64-16k"),
        pytest.param(partial(arm64, page_bytes=65536, ram_bytes=512 << 20), "6.12", id="arm64-64k"),
    ],
)
def test_made_up_machines(make: Callable[[Era], Machine], era: str, tmp_path: Path) -> None:
    core, machine = tmp_path / "core", populate(make(ERAS[era]))
    machine.core().write(core)
    architecture = {EM_X86_64: "amd64", EM_386: "i386", EM_AARCH64: "arm64"}[machine.machine]
    for level in (2, 31):
        compare(kdump_bitmap.newest(architecture), core, level, tmp_path / "kdump")
