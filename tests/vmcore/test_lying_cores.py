"""Cores that lie: whatever is overwritten, the page filter answers, soon, and leaves out nothing that must be kept."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import KernelDataError
from netdump.testing.memmap_writer import PLAYGROUND, arm64, i386, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.filter import open_filter
from tests.vmcore.made_up import Opened, ground, populate

if TYPE_CHECKING:
    from netdump.testing.memmap_writer import Machine

LIES_EACH = 2  # the campaign's fuzz target `filter` goes on from here
MAKERS = {"x86_64": x86_64, "i386": i386, "arm64": arm64}
_KNOWN: dict[tuple[str, str], tuple[Machine, Opened]] = {}


def made(maker: str, era: str) -> tuple[Machine, Opened]:
    """A core, made once; who changes its image changes it back."""
    if (maker, era) not in _KNOWN:
        machine = populate(MAKERS[maker](ERAS[era]))  # type: ignore[operator]
        core = Opened.of(machine)
        _KNOWN[maker, era] = machine, core
    return _KNOWN[maker, era]


def excluded(core: Opened, text: bytes, level: int) -> tuple[dict[int, str], str]:
    """What is left out with other words in VMCOREINFO, and the remark."""
    facts = core.facts._replace(vmcoreinfo=text)
    try:
        page_filter = open_filter(core.source, core.headers, facts, level, core.image_map)
    except KernelDataError as error:
        return {}, str(error)
    found = core.classify(page_filter)
    remark = page_filter.remark or ""
    assert "failed at" not in remark, remark  # an error of the filter itself
    return found, remark


def lines_of(core: Opened) -> list[str]:
    """The lines of VMCOREINFO that a page filter reads."""
    lines = (core.facts.vmcoreinfo or b"").decode().splitlines()
    return [line for line in lines if not line.startswith(("OSRELEASE", "KERNELOFFSET", "OFFSET(uts_"))]


def text_of(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def lies(key: str, value: str) -> list[str]:
    """Other values for a key, near and far."""
    base = 16 if key.startswith("SYMBOL") else 10
    found = ["", "0", "1", "-1", "junk", value[:-1], value + "0", "9" * 24]
    try:
        number = int(value, base)
    except ValueError:
        number = None
    if number is not None:
        found += [
            f"{other:x}" if base == 16 and other >= 0 else str(other)
            for other in (number + 1, number - 1, number + 8, number + 64, number * 2, number // 2, 1 << 31, 1 << 63)
        ]
    if key.startswith("NUMBER(PG_"):
        found += [str(bit) for bit in range(0, 32, 3)]
    if "MAPCOUNT" in key:
        found += [str(-1 - (1 << bit)) for bit in range(7, 32, 5)] + [
            str((0xF0 + kind << 24) - (1 << 32)) for kind in range(9)
        ]
    return [other for other in dict.fromkeys(found) if other != value]


@pytest.mark.parametrize(
    ("maker", "era", "level"),
    [
        ("x86_64", "6.12", 31),
        ("x86_64", "6.12", 2),
        ("x86_64", "6.1", 31),
        ("x86_64", "5.4", 8),
        ("x86_64", "4.14", 31),
        ("x86_64", "6.6", 16),
        ("i386", "6.1", 31),
        ("arm64", "6.16", 31),
    ],
)
def test_one_key_that_lies(maker: str, era: str, level: int) -> None:
    machine, core = made(maker, era)
    allowed = machine.frames.expected(level)
    lines = lines_of(core)
    assert excluded(core, text_of(lines), level) == (allowed, "")
    generator = random.Random(f"{maker} {era} {level}")
    for number, line in enumerate(lines):
        key, _, value = line.partition("=")
        others = lies(key, value)
        for other in generator.sample(others, min(LIES_EACH, len(others))):
            changed = [*lines[:number], f"{key}={other}", *lines[number + 1 :]]
            found, remark = excluded(core, text_of(changed), level)
            assert found.keys() <= allowed.keys(), (line, other, remark)
            assert found or remark, (line, other)


def test_every_cut() -> None:
    machine, core = made("x86_64", "6.12")
    allowed = machine.frames.expected(31)
    text = core.facts.vmcoreinfo or b""
    for end in range(0, len(text), 29):
        found, _ = excluded(core, text[:end], 31)
        assert found.keys() <= allowed.keys(), text[:end][-40:]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.sampled_from(["6.12", "6.1", "4.9", "6.16"]), st.integers(0, 1 << 48), st.sampled_from([2, 4, 8, 16, 31]))
def test_many_keys_that_lie(era: str, seed: int, level: int) -> None:
    generator = random.Random(seed)
    machine, core = made("x86_64", era)
    lines = lines_of(core)
    for _ in range(generator.randrange(1, 6)):
        number = generator.randrange(len(lines))
        key, _, value = lines[number].partition("=")
        lines[number] = f"{key}={generator.choice(lies(key, value) or [''])}"
    found, _ = excluded(core, text_of(lines), level)
    assert found.keys() <= machine.frames.expected(level).keys()


@pytest.mark.parametrize(("maker", "era"), [("x86_64", "6.1"), ("i386", "6.1"), ("arm64", "6.16")])
def test_garbage_instead_of_struct_pages(maker: str, era: str) -> None:
    """Whole pages of memory of it, on machines with words of 4 bytes too."""
    machine, core = made(maker, era)
    allowed = machine.frames.expected(31)
    image = cast("bytearray", core.source.image)
    first = ground(machine)
    offset = core.image_map.image_offset(
        machine.ram_start + 0x80_0000 + (first - machine.ram_start // machine.page_bytes) * machine.frames.layout.size
    )
    assert offset is not None
    assert bytes(image[offset : offset + 32]) == machine.frames.page(first)[:32]
    generator = random.Random(maker)
    for number in range(12):
        length = 4096 << number % 4
        start = offset + generator.randrange(4096 * machine.frames.layout.size - length) // 4096 * 4096
        data = generator.randbytes(length)
        if number % 3 == 1:
            data = bytes(generator.choices(b"kernel text", k=length))
        elif number % 3 == 2:
            data = b"".join(generator.randrange(1 << 29).to_bytes(8, "little") for _ in range(length // 8))
        before = bytes(image[start : start + length])
        image[start : start + length] = data
        try:
            found, _ = excluded(core, core.facts.vmcoreinfo or b"", 31)
        finally:
            image[start : start + length] = before
        assert found.keys() <= allowed.keys(), (number, start)


def damage(core: Opened, generator: random.Random, start: int, end: int, count: int) -> list[tuple[int, bytes]]:
    """Overwrite some words between two physical addresses. Returns what to put back, in order."""
    image = cast("bytearray", core.source.image)
    before = []
    for _ in range(count):
        offset = core.image_map.image_offset(start + generator.randrange((end - start) // 8) * 8)
        assert offset is not None
        old = bytes(image[offset : offset + 8])
        before.append((offset, old))
        if generator.random() < 0.5:
            new = (int.from_bytes(old, "little") ^ 1 << generator.randrange(64)).to_bytes(8, "little")
        else:
            new = generator.choice((bytes(8), b"\xff" * 8, generator.randbytes(8), bytes(image[offset - 8 : offset])))
        image[offset : offset + 8] = new
    return before[::-1]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.sampled_from(["6.12", "6.1"]), st.integers(0, 1 << 48), st.sampled_from([1, 3, 40, 1000]))
def test_page_tables_sections_and_zones_that_lie(era: str, seed: int, count: int) -> None:
    """Wherever the damage is: the kernel's image (zones, sections) or its page tables."""
    generator = random.Random(seed)
    machine, core = made("x86_64", era)
    kernel = machine.kernel
    start, end = generator.choice(
        (
            (kernel.paddr + 4096, kernel.paddr + len(kernel.memory) // 4096 * 4096),
            (machine.tables.root, machine.tables.spare),
        )
    )
    before = damage(core, generator, start, end, count)
    image = cast("bytearray", core.source.image)
    try:
        found, _ = excluded(core, core.facts.vmcoreinfo or b"", 31)
    finally:
        for offset, old in before:
            image[offset : offset + 8] = old
    assert found.keys() <= machine.frames.expected(31).keys()


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.sampled_from(["6.12", "6.1", "5.4"]), st.integers(0, 1 << 48), st.sampled_from([1, 10, 300]))
def test_struct_pages_that_lie(era: str, seed: int, count: int) -> None:
    """Pages whose struct pages are untouched are kept, or left out as before; blocks that were touched may vary."""
    generator = random.Random(seed)
    machine, core = made("x86_64", era)
    first = 0x80_0000 + ground(machine) * 64
    before = damage(core, generator, first, first + 4096 * 64, count)
    image = cast("bytearray", core.source.image)
    offset = core.image_map.image_offset(first)
    assert offset is not None
    touched = {PLAYGROUND + (at - offset) // 64 for at, _ in before}
    try:
        found, _ = excluded(core, core.facts.vmcoreinfo or b"", 31)
    finally:
        for at, old in before:
            image[at : at + 8] = old
    allowed = machine.frames.expected(31)
    wrong = {pfn for pfn, name in found.items() if allowed.get(pfn) != name}
    blocks = {
        pfn
        for pfn in wrong
        if not any(pfn & -(1 << order) in touched or (pfn & -(1 << order)) + 1 in touched for order in range(11))
    }
    assert not blocks
    assert len(found) <= len(allowed) + len(touched)
