"""Cores of odd shapes come back byte for byte: as the collector's vmcore and as the fetched file."""

from __future__ import annotations

import filecmp
import json
import os
from typing import TYPE_CHECKING

import pytest

from netdump.testing.elf_writer import EM_386, Core, Load, NoteSegment, counter_pages, prstatus_note
from netdump.testing.memmap_writer import PLAYGROUND, x86_64
from netdump.testing.struct_page_writer import ERAS
from tests.e2e.rig import Collector, netdump, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

PAGE = 4096
GIB = 1 << 30
NOTES = [NoteSegment(prstatus_note(1, bytes(216)))]

SHAPES = {
    "no-notes": Core([Load(0x100000, 3 * PAGE, {0: counter_pages(1, 3)})]),
    "one-page": Core([Load(0, PAGE, {0: counter_pages(7, 1)})], NOTES),
    "overlapping-memory": Core(
        [
            Load(0x100000, 8 * PAGE, {0: counter_pages(1, 8)}, vaddr=0xFFFFFFFF81000000),
            Load(0x102000, 16 * PAGE, {0: counter_pages(3, 6), 6 * PAGE: counter_pages(90, 2)}),
        ],
        NOTES,
    ),
    "overlapping-file": Core(
        [
            Load(0x100000, 8 * PAGE, {0: counter_pages(1, 8)}, offset=0x2000),
            Load(0x900000, 4 * PAGE, {}, offset=0x4000),
        ],
        NOTES,
    ),
    "huge-holes": Core(
        [
            Load(0x1000, 20 * GIB, {0: counter_pages(1, 4), 19 * GIB: counter_pages(9, 300)}),
            Load(64 * GIB, 8 * GIB, {8 * GIB - PAGE: counter_pages(2, 1)}),
        ],
        NOTES,
    ),
    "thousand-segments": Core(
        [Load(index * 16 * PAGE, 2 * PAGE, {0: counter_pages(index, 1)}) for index in range(1000)], NOTES
    ),
    "not-page-sized": Core(
        [Load(0x100400, 0x2345, {0: counter_pages(1, 3)[:0x2345]}, offset=0x1234, memsz=0x9000)],
        NOTES,
        trailer=b"bytes after the last segment belong to the image",
    ),
    "elf32": Core(
        [Load(0x1000, 40 * PAGE, {PAGE: counter_pages(5, 30)}, vaddr=0xC0001000)], NOTES, bits=32, machine=EM_386
    ),
    "elf32-big-endian": Core([Load(0x1000, 5 * PAGE, {0: counter_pages(5, 4)})], bits=32, byteorder="big", machine=8),
    "elf64-big-endian": Core([Load(0x1000, 5 * PAGE, {0: counter_pages(5, 4)})], byteorder="big", machine=22),
}


def same_file(left: Path, right: Path) -> bool:
    """Compare two files of which most may be holes, without reading the holes of both."""
    if left.stat().st_size < GIB:
        return filecmp.cmp(left, right, shallow=False)
    return data_of(left) == data_of(right) and left.stat().st_size == right.stat().st_size


def data_of(path: Path) -> dict[int, bytes]:
    """Every page of a sparse file that is not zero, by its offset."""
    pages: dict[int, bytes] = {}
    with path.open("rb") as file:
        end = path.stat().st_size
        offset = 0
        while offset < end:
            try:
                offset = os.lseek(file.fileno(), offset, os.SEEK_DATA) // PAGE * PAGE
            except OSError:  # ENXIO: no data from here on
                break
            page = os.pread(file.fileno(), PAGE, offset)
            if page.strip(b"\0"):
                pages[offset] = page
            offset += PAGE
    return pages


@pytest.mark.parametrize("name", SHAPES)
def test_comes_back_as_it_was(name: str, collector: Collector, tmp_path: Path) -> None:
    core = tmp_path / "core"
    SHAPES[name].write(core)
    round_trip(core, collector, tmp_path)


def test_the_bundled_core(sample: Path, collector: Collector, tmp_path: Path) -> None:
    round_trip(sample, collector, tmp_path)


def test_the_whole_core(whole_core: Path, collector: Collector, tmp_path: Path) -> None:
    round_trip(whole_core, collector, tmp_path)


def round_trip(core: Path, collector: Collector, tmp_path: Path) -> None:
    host, analyst = collector.enroll("host", "odd"), collector.enroll("analyst", "ann")
    sent = json.loads(netdump("send", core, "--config", host, "--json").stdout)
    (dump,) = collector.dumps()
    assert dump["id"] == sent["id"]
    assert dump["state"] == "complete"
    assert sum(dump["totals"].values()) == dump["image_bytes"] == core.stat().st_size
    vmcore = collector.folder / "dumps" / dump["id"] / "vmcore"
    wait_until(vmcore.exists, "the restored vmcore")
    assert same_file(vmcore, core)
    fetched = tmp_path / "fetched"
    netdump("fetch", dump["id"], "-o", fetched, "--config", analyst)
    assert same_file(fetched, core)


def test_a_filter_that_stops_in_mid_stream(tmp_path: Path, collector: Collector) -> None:
    """Free blocks that the zones do not count, behind those that they do: everything is here, and why is shown."""
    machine = x86_64(ERAS["6.12"], ram_bytes=256 << 20)
    for block in range(32):
        machine.frames.free((PLAYGROUND // 4096 + 1) * 4096 + block * 1024, 10)
    machine.free_pages = 16 * 1024
    core = tmp_path / "core"
    machine.core().write(core)
    sent = netdump("send", "-d", "31", core, "--config", collector.enroll("host", "web1"), "--json")
    assert "less was left out than level 31 asks for: free pages are sent too from frame 0x" in sent.stderr
    dump = json.loads(sent.stdout)
    shown = " ".join(netdump("show", dump["id"], "--root", collector.folder).stdout.split())
    assert dump["unfiltered"] in shown
    record = json.loads(netdump("show", dump["id"], "--root", collector.folder, "--json").stdout)
    assert record["remark"].endswith("; " + dump["unfiltered"])
    fetched = tmp_path / "fetched"
    netdump("fetch", dump["id"], "-o", fetched, "--root", collector.folder)
    assert filecmp.cmp(core, fetched, shallow=False)
