"""The page filter on real kernels, cut down: 6.1, 6.12, 7.2 and 7.3, of i386, x86_64 and arm64 (docs/filter.md).

Two are of machines with nodes, one of them with all that hot-plug and hugetlbfs bring.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from netdump.errors import KernelDataError
from netdump.vmcore.filter import open_filter
from tests.vmcore.real_cores import NAMES, load
from tests.vmcore.test_lying_cores import lies

if TYPE_CHECKING:
    from tests.vmcore.real_cores import RealCore

PAGE_BYTES = {"-16k-": 16384, "-64k-": 65536}
LIES = 40


def classified(core: RealCore, level: int, text: bytes | None = None) -> tuple[dict[int, str], str]:
    """What is left out, with other words in VMCOREINFO if text is given, and the remark."""
    facts = core.facts if text is None else core.facts._replace(vmcoreinfo=text)
    try:
        page_filter = open_filter(core.source, core.headers, facts, level, core.image_map)
    except KernelDataError as error:
        return {}, str(error)
    return core.classify(page_filter), page_filter.remark or ""


def test_there_are_cores() -> None:
    assert len(NAMES) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_the_frames_that_plain_reading_leaves_out(name: str) -> None:
    core = load(name)
    assert set(core.expected.values()) >= {"cache", "cache_private", "user", "free"}
    assert core.facts.page_bytes == next((size for part, size in PAGE_BYTES.items() if part in name), 4096)
    for level in (1, 2, 4, 8, 16, 31):
        assert classified(core, level) == (core.at_level(level), "")


@pytest.mark.parametrize("name", NAMES)
def test_words_that_lie(name: str) -> None:
    core = load(name)
    lines = (core.facts.vmcoreinfo or b"").decode().splitlines()
    generator = random.Random(name)
    told = [number for number, line in enumerate(lines) if "page" in line or "PG_" in line or "PAGE_" in line]
    told += [number for number, line in enumerate(lines) if "zone" in line or "section" in line or "SYMBOL(n" in line]
    for _ in range(LIES):
        number = generator.choice(told)
        key, _, value = lines[number].partition("=")
        other = generator.choice(lies(key, value))
        text = "\n".join([*lines[:number], f"{key}={other}", *lines[number + 1 :], ""]).encode()
        found, remark = classified(core, 31, text)
        assert found.keys() <= core.expected.keys(), (key, other)
        assert remark or len(found) * 2 > len(core.expected), (key, other)
