"""The page filter keeps the frames that makedumpfile keeps: real cores and made-up ones, frame by frame.

NETDUMP_MAKEDUMPFILE: the program, default makedumpfile. NETDUMP_CORES: more cores to compare, paths joined by colons.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.pages import ExcludeClass
from netdump.testing.memmap_writer import x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.filter import open_filter
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.source import open_source
from tests.vmcore import kdump_bitmap
from tests.vmcore.made_up import populate

if TYPE_CHECKING:
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.source import Source

PROGRAM = os.environ.get("NETDUMP_MAKEDUMPFILE", "makedumpfile")
CORES = [Path(path) for path in os.environ.get("NETDUMP_CORES", "").split(":") if path]
LEVELS = (1, 2, 4, 8, 16, 31)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="no makedumpfile"),
]


def headers_of(source: Source) -> ElfHeaders:
    from netdump.vmcore.elf import parse_headers  # noqa: PLC0415

    return parse_headers(source.read, source.size, source.name)


def ours(core: Path, level: int) -> tuple[set[int], set[int], set[int]]:
    """Frames that the core has bytes of, those the filter keeps, and those of which not all bytes are there."""
    source = open_source(str(core), "file")
    headers = headers_of(source)
    image_map = ImageMap(headers)
    facts = read_facts(source, headers, image_map)
    page_filter = open_filter(source, headers, facts, level, image_map)
    size = facts.page_bytes
    there: set[int] = set()
    kept: set[int] = set()
    partial: set[int] = set()
    for stretch in image_map.stretches(0, size):
        if stretch.paddr is None:
            continue
        end_paddr = stretch.paddr + stretch.end - stretch.start
        pfn, end = stretch.paddr // size, -(-end_paddr // size)
        there.update(range(pfn, end))
        if end_paddr % size:
            partial.add(end - 1)
        while pfn < end:
            for exclude, pages in page_filter.classify(pfn * size, min(end - pfn, 4096 - pfn % 4096)):
                if exclude == ExcludeClass.NONE:
                    kept.update(range(pfn, pfn + pages))
                pfn += pages
    assert page_filter.remark is None
    source.close()
    return there, kept, partial


def compare(core: Path, level: int, target: Path) -> None:
    theirs, _ = kdump_bitmap.exclude(PROGRAM, core, level, target)
    there, kept, partial = ours(core, level)
    if kdump_bitmap.version(PROGRAM) < (1, 7, 8):  # they lose the last frame of a segment if it is there in part only
        there -= partial
    different = (theirs.kept ^ kept) & there
    assert not different, [hex(pfn) for pfn in sorted(different)[:20]]


@pytest.mark.parametrize("level", LEVELS)
def test_the_bundled_core(sample: Path, tmp_path: Path, level: int) -> None:
    compare(sample, level, tmp_path / "kdump")


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_the_whole_core(whole: Path, tmp_path: Path, level: int) -> None:
    compare(whole, level, tmp_path / "kdump")


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("core", CORES, ids=[path.name for path in CORES])
def test_more_cores(core: Path, tmp_path: Path, level: int) -> None:
    compare(core, level, tmp_path / "kdump")


@pytest.mark.parametrize("era", ERAS)
def test_made_up_kernels(era: str, tmp_path: Path) -> None:
    if kdump_bitmap.version(PROGRAM) < (1, 7, 8):
        pytest.skip("made for kernels up to 6.0, and takes slab pages for a process's")
    core = tmp_path / "core"
    populate(x86_64(ERAS[era])).core().write(core)
    for level in LEVELS:
        compare(core, level, tmp_path / "kdump")
