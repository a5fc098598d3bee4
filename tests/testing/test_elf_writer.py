"""The writer is held to readelf's reading where it is at hand, and to its own promises."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Literal

import pytest

from netdump.testing.elf_writer import NONE, ByteOrder, Core, Load, NoteSegment, counter_pages, note, prstatus_note

if TYPE_CHECKING:
    from pathlib import Path

CLASSES: list[tuple[Literal[32, 64], ByteOrder]] = [(32, "little"), (32, "big"), (64, "little"), (64, "big")]


def recipe(bits: Literal[32, 64] = 64, byteorder: ByteOrder = "little", extended: bool = False) -> Core:
    return Core(
        [
            Load(0x10000, 0x2000, {0x1000: counter_pages(1, 1)}, vaddr=0x80010000),
            Load(0x50000, 0x100, {0: b"y" * 0x100}, memsz=0x3000),
        ],
        notes=[NoteSegment(prstatus_note(7, bytes(bits // 8 * 4), bits // 8, byteorder))],
        bits=bits,
        byteorder=byteorder,
        machine=8,
        extended_count=extended,
        trailer=b"tail",
    )


@pytest.mark.parametrize(("bits", "byteorder"), CLASSES)
def test_readelf_reads_it(bits: Literal[32, 64], byteorder: ByteOrder, tmp_path: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    recipe(bits, byteorder).write(tmp_path / "core")
    done = subprocess.run(["readelf", "-hlnW", str(tmp_path / "core")], capture_output=True, text=True, check=True)
    assert f"ELF{bits}" in done.stdout
    assert f"{byteorder} endian" in done.stdout
    assert "CORE (Core file)" in done.stdout
    assert "NT_PRSTATUS" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("LOAD")]
    numbers = [[int(number, 16) for number in row[1:6]] for row in rows]
    none = (1 << bits) - 1
    assert numbers == [[0x2000, 0x80010000, 0x10000, 0x2000, 0x2000], [0x4000, none, 0x50000, 0x100, 0x3000]]


@pytest.mark.parametrize(("bits", "byteorder"), CLASSES)
@pytest.mark.parametrize("extended", [False, True])
def test_disk_and_memory_hold_the_same(
    bits: Literal[32, 64], byteorder: ByteOrder, extended: bool, tmp_path: Path
) -> None:
    core = recipe(bits, byteorder, extended)
    image = core.build()
    core.write(tmp_path / "core")
    assert (tmp_path / "core").read_bytes() == image
    assert len(image) == core.size == 0x4104
    assert image[0x3000:0x4000] == counter_pages(1, 1)
    assert image[0x2000:0x3000] == bytes(0x1000)
    assert image.endswith(b"y" * 0x100 + b"tail")


def test_large_cores_are_holes(tmp_path: Path) -> None:
    core = Core([Load(0, 100 << 30, {50 << 30: b"x"})])
    core.write(tmp_path / "core")
    status = (tmp_path / "core").stat()
    assert status.st_size == (100 << 30) + 4096
    assert status.st_blocks * 512 < 1 << 20


def test_segments_stand_where_the_recipe_says() -> None:
    core = Core([Load(0, 16, {0: b"a" * 16}, offset=1000), Load(16, 16, {0: b"b" * 16}, offset=1008), Load(32, 1)])
    assert [segment.offset for segment in core.segments()] == [1000, 1008, 4096]
    assert core.build()[1000:1024] == b"a" * 8 + b"b" * 16, "later ones lie over earlier ones"


def test_packed_segments_follow_one_another() -> None:
    core = Core([Load(0, 5), Load(0, 7), Load(0, 9)], alignment=1)
    offsets = [segment.offset for segment in core.segments()]
    assert offsets == [64 + 3 * 56, 64 + 3 * 56 + 5, 64 + 3 * 56 + 12]


def test_headers_that_lie() -> None:
    image = Core([Load(NONE, 0)], overrides={"phnum": 77, "machine": 0x1234}).build()
    assert struct.unpack_from("<H", image, 56) == (77,)
    assert struct.unpack_from("<H", image, 18) == (0x1234,)


def test_extended_count_stands_in_the_first_section() -> None:
    image = recipe(extended=True).build()
    shoff = int.from_bytes(image[40:48], "little")
    assert struct.unpack_from("<H", image, 56) == (0xFFFF,)
    assert struct.unpack_from("<I", image, shoff + 44) == (3,)


def test_a_note_is_padded() -> None:
    assert note(b"CORE", 1, b"abc", "big") == b"\0\0\0\x05\0\0\0\x03\0\0\0\x01CORE\0\0\0\0abc\0"


def test_counter_pages_are_all_different() -> None:
    pages = counter_pages(3, 500)
    assert counter_pages(4, 1) == pages[4096:8192]
    words = struct.unpack(f">{len(pages) // 8}Q", pages)
    assert words == tuple(range(3 * 512 + 1, 503 * 512 + 1))
    assert counter_pages(0, 1, 16) == bytes([*[0] * 7, 1, *[0] * 7, 2])
