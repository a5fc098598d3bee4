"""The page filter alone: `python -m bench.filterspeed CORE`. Prints a JSON object: pages, seconds, setup_seconds,
peak_bytes.

Classifies every page of the core at level 31 once, as the planner would, and does nothing with the answers. seconds:
from the first call to the last: reading struct pages, all checks on them, runs. That is what makedumpfile calls
"Excluding unnecessary pages", whose time does not have its set-up either. setup_seconds: what open_filter takes: page
tables, memory map, zones, the checks that are made once.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from netdump.vmcore.elf import parse_headers
from netdump.vmcore.filter import open_filter
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import CLASSIFY_PAGES_MAX
from netdump.vmcore.source import open_source


def main(path: str) -> None:
    """Classify and print."""
    source = open_source(path)
    headers = parse_headers(source.read, source.size, source.name)
    image_map = ImageMap(headers)
    facts = read_facts(source, headers, image_map)
    size = facts.page_bytes
    opened = time.perf_counter()
    page_filter = open_filter(source, headers, facts, 31, image_map)
    pages = 0
    gc.disable()  # as in the capture kernel: netdump/client/__main__.py
    gc.freeze()
    setup = time.perf_counter() - opened
    begun = time.perf_counter()
    for stretch in image_map.stretches(0, size):
        if stretch.paddr is None or stretch.source is not None:
            continue
        page, end = stretch.paddr // size, -(-(stretch.paddr + stretch.end - stretch.start) // size)
        while page < end:
            slab = min(end, page - page % CLASSIFY_PAGES_MAX + CLASSIFY_PAGES_MAX)
            page_filter.classify(page * size, slab - page)
            pages += slab - page
            page = slab
    seconds = time.perf_counter() - begun
    print(json.dumps({"pages": pages, "seconds": seconds, "setup_seconds": setup, "peak_bytes": _peak()}))


def _peak() -> int:
    """Peak resident memory of this process, whoever started it. Source: proc(5)."""
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM"))) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
