from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from netdump.analyze.estimate import PROBE_PAGES, PROBES, KindFigures, _Sample, estimate, memory_bytes
from netdump.client.image import open_image
from netdump.codec import Compressor
from netdump.errors import KernelDataError
from netdump.pages import ExcludeClass, PageState
from netdump.testing.memmap_writer import PLAYGROUND, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.source import open_source
from tests.vmcore.made_up import Opened, populate

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.analyze.estimate import Estimate


def estimated(core: Opened, **more: int) -> Estimate:
    return estimate(core.source, core.headers, core.facts, **more)  # type: ignore[arg-type]


def test_every_page_is_counted_once_by_its_class() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    core = Opened.of(machine)
    seen: list[int] = []
    found = estimate(core.source, core.headers, core.facts, progress=seen.append)
    expected = Counter(machine.frames.expected(31).values())
    counted = {exclude.name.lower(): figures.pages for exclude, figures in found.kinds.items()}
    kernel = counted.pop("none")
    assert counted == dict(expected)
    assert found.remark is None
    assert kernel + sum(expected.values()) == (machine.ram_bytes >> 12) - 1 - 0x60  # page 0, and the hole below 1 MiB
    assert found.memory_bytes == sum(seen)
    assert abs(found.memory_bytes - memory_bytes(core.headers)) < 4096


def test_levels() -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    found = estimated(Opened.of(machine))
    for level in (0, 1, 2, 4, 6, 8, 16, 24, 31):
        forecast = found.forecast(level)
        excluded = len(machine.frames.expected(level)) if level > 1 else 0
        assert excluded - 3 <= forecast.excluded // 4096 <= excluded, level  # poisoned cache counts as cache
        assert forecast.level == level


def test_a_file_is_forecast_as_it_is_sent(sample: Path) -> None:
    """The client sends the same core; what it sends is what was forecast, within a few hundredths."""
    source = open_source(str(sample))
    headers = parse_headers(source.read, source.size)
    found = estimate(source, headers, read_facts(source, headers))
    source.close()
    for level in (0, 31):
        image = open_image(str(sample), level)
        stream = image.stream(0, Compressor(1), None)
        data = wire = 0
        while (prepared := stream.take()) is not None:
            data += sum(run.length for run in prepared.runs if run.state is PageState.DATA)
            wire += len(prepared.chunk.data)
        image.close()
        forecast = found.forecast(level)
        assert forecast.data == pytest.approx(data, rel=0.03)
        assert forecast.wire == pytest.approx(wire, rel=0.06)


def test_the_seed_draws_the_sample(sample: Path) -> None:
    source = open_source(str(sample))
    headers = parse_headers(source.read, source.size)
    facts = read_facts(source, headers)
    found = [estimate(source, headers, facts, seed=seed, compression=0) for seed in (1, 1, 2)]
    source.close()
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[0].forecast(0).wire == found[0].forecast(0).data  # nothing was compressed


def test_probes_are_spread_evenly_and_bounded() -> None:
    generator = random.Random(5)
    sample = _Sample(3)
    start = 0
    for _ in range(40_000):
        pages = generator.randrange(1, 60)
        sample.add(start * 4096, pages)
        start += pages
    assert sample.pages == start
    assert PROBES <= len(sample.probes) < 2 * PROBES
    places = [offset // 4096 + into for offset, into, _ in sample.probes]
    steps = {after - before for before, after in pairwise(places)}
    assert len(steps) == 1
    assert places[0] == 3
    assert start - places[-1] <= steps.pop()
    assert all(1 <= count <= PROBE_PAGES for _, _, count in sample.probes)


def test_few_pages_are_all_looked_at() -> None:
    sample = _Sample(0)
    sample.add(0, 1000)
    assert sum(count for _, _, count in sample.probes) == 1000


def test_poisoned_pages_are_never_read() -> None:
    machine = x86_64(ERAS["6.12"])
    machine.frames.free(PLAYGROUND, 10)
    machine.frames.poison(PLAYGROUND + 2000)
    core = Opened.of(machine)
    offset = core.image_map.image_offset((PLAYGROUND + 2000) << 12)
    assert offset is not None
    core.source.reads.clear()
    found = estimated(core)
    assert found.kinds[ExcludeClass.HWPOISON] == KindFigures(1, 0, 0, 0)
    assert not any(start < offset + 4096 and offset < start + length for start, length in core.source.reads)


def test_a_core_whose_pages_cannot_be_told_apart() -> None:
    core = Opened(x86_64(ERAS["6.12"]).core().build().replace(b"VMCOREINFO", b"VMCOREINF0", 1))
    with pytest.raises(KernelDataError, match="no VMCOREINFO"):
        estimated(core)
