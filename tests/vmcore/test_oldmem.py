from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import BadHeadersError, NotElfError, SourceUnreadableError, TruncatedCoreError
from netdump.testing.elf_writer import Core, Load, NoteSegment, counter_pages, note, prstatus_note
from netdump.vmcore.elf import PT_LOAD, PT_NOTE, parse_headers
from netdump.vmcore.oldmem import ElfcoreHeader, OldmemSource
from tests.vmcore.source_contract import check_source
from tests.vmcore.test_filesource import fail_pages

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = counter_pages(1, 64)
NOTES = (prstatus_note(1, bytes(216)), prstatus_note(2, bytes(216)), note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\n"))


class Raw(NamedTuple):
    path: Path
    table_at: int
    memory: bytes


def write_raw(
    path: Path, loads: tuple[tuple[int, int, int], ...] = ((0x8000, 0x8000, 0x10000), (0, 0, 0x4000)), **core: int
) -> Raw:
    """Physical memory with an elfcorehdr table at 0x30000 and notes of three CPUs, each in a buffer of 1 KiB.

    loads: (paddr, where it stands, bytes).
    """
    notes_at = 0x38000
    table = Core(
        [Load(paddr, size, offset=at, vaddr=0xFFFF888000000000 + paddr) for paddr, at, size in loads],
        notes=[NoteSegment(b"", size=1024, offset=notes_at + 1024 * cpu) for cpu in range(len(NOTES))],
        overrides=core,
    ).headers()
    memory = bytearray(MEMORY)
    memory[0x30000 : 0x30000 + len(table)] = table
    memory[notes_at : notes_at + 4096] = bytes(4096)
    for cpu, data in enumerate(NOTES):
        memory[notes_at + 1024 * cpu : notes_at + 1024 * cpu + len(data)] = data
    path.write_bytes(memory)
    return Raw(path, 0x30000, bytes(memory))


def open_raw(raw: Raw) -> OldmemSource:
    return OldmemSource(str(raw.path), ElfcoreHeader(raw.table_at), page_bytes=4096)


def expected(raw: Raw) -> bytes:
    """The image as the kernel would show it, by the writer of core files: aligned segments only."""
    memory = raw.memory
    return Core(
        [
            Load(0x8000, 0x10000, {0: memory[0x8000:0x18000]}, vaddr=0xFFFF888000008000),
            Load(0, 0x4000, {0: memory[:0x4000]}, vaddr=0xFFFF888000000000),
        ],
        notes=[NoteSegment(b"".join(NOTES))],
    ).build()


def test_contract(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    check_source(open_raw(raw), expected(raw))


def test_segments_are_widened_to_pages(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", ((0x8800, 0x8800, 0x1000), (0x20010, 0x20010, 0x10)))
    source = open_raw(raw)
    headers = parse_headers(source.read, source.size)
    first, second = (segment for segment in headers.segments if segment.type == PT_LOAD)
    assert (first.offset, first.filesz, first.paddr) == (0x2800, 0x1000, 0x8800)
    assert (second.offset, second.filesz, second.paddr) == (0x4010, 0x10, 0x20010)
    assert source.size == 0x5000
    assert source.read(0x2000, 0x2000) == raw.memory[0x8000:0xA000]
    assert source.read(0x4000, 0x1000) == raw.memory[0x20000:0x21000]


def test_memory_is_read_where_p_offset_says(tmp_path: Path) -> None:
    """Purgatory has moved the lowest memory away: p_paddr names it, p_offset says where it is now."""
    raw = write_raw(tmp_path / "raw", ((0, 0x10000, 0x2000),))
    source = open_raw(raw)
    load = parse_headers(source.read, source.size).segments[1]
    assert load.paddr == 0
    assert source.read(load.offset, load.filesz) == raw.memory[0x10000:0x12000]


def test_notes_are_merged_without_the_room_between_them(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    source = open_raw(raw)
    (segment,) = (s for s in parse_headers(source.read, source.size).segments if s.type == PT_NOTE)
    assert segment.filesz == segment.memsz == sum(map(len, NOTES))
    assert source.read(segment.offset, segment.filesz) == b"".join(NOTES)


def test_a_raw_page_that_is_lost_is_lost_in_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw")
    source = open_raw(raw)
    fail_pages(monkeypatch, {0x9, 0x2})
    assert source.read_into(0, memoryview(bytearray(source.size))) == [(0x3000, 0x1000), (0x14000, 0x1000)]
    with pytest.raises(SourceUnreadableError, match="image offset 12288 is lost"):
        source.read(0x3000, 10)


def test_notes_that_cannot_be_read_end_where_they_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw")
    fail_pages(monkeypatch, {0x38})
    source = open_raw(raw)
    assert parse_headers(source.read, source.size).segments[0].filesz == 0


def test_segments_without_memory_have_their_header_and_no_bytes(tmp_path: Path) -> None:
    source = open_raw(write_raw(tmp_path / "raw", ((0x8000, 0x8000, 0), (0x9000, 0x9000, 0x1000))))
    headers = parse_headers(source.read, source.size)
    assert [segment.filesz for segment in headers.segments] == [sum(map(len, NOTES)), 0, 0x1000]
    assert source.size == 0x3000


def test_a_32_bit_table(tmp_path: Path) -> None:
    table = Core([Load(0x1000, 0x2000, offset=0x1000)], bits=32, byteorder="big", machine=20).headers()
    path = tmp_path / "raw"
    path.write_bytes(table.ljust(4096, b"\0") + MEMORY[:0x2000])
    source = OldmemSource(str(path), ElfcoreHeader(0), page_bytes=4096)
    headers = parse_headers(source.read, source.size)
    assert (headers.elf_class, headers.byteorder) == (32, "big")
    assert [segment.type for segment in headers.segments] == [PT_NOTE, PT_LOAD]
    assert source.read(headers.segments[1].offset, 0x2000) == MEMORY[:0x2000]


def test_the_real_kernel_composed_the_same(whole: Path, tmp_path: Path) -> None:
    """Take a real /proc/vmcore apart into memory and table; put together again it must be what the kernel made."""
    with whole.open("rb") as file:
        image = file.read()
    headers = parse_headers(lambda offset, length: image[offset : offset + length], len(image))
    notes, *loads = headers.segments
    table_at, notes_at = 1 << 28, (1 << 28) + 0x2000  # behind all memory
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        for load in loads:
            start = load.offset // 4096 * 4096
            end = -(-(load.offset + load.filesz) // 4096) * 4096
            file.seek(load.paddr // 4096 * 4096)
            file.write(image[start:end])
        file.seek(table_at)
        table = Core(
            [Load(load.paddr, load.filesz, vaddr=load.vaddr, offset=load.paddr) for load in loads],
            notes=[NoteSegment(b"", offset=notes_at, size=0x1000)],
        ).headers()
        file.write(table)
        file.seek(notes_at)
        file.write(image[notes.offset : notes.offset + notes.filesz].ljust(0x1000, b"\0"))
    source = OldmemSource(str(raw), ElfcoreHeader(table_at), page_bytes=4096)
    assert source.size == len(image)
    for offset in range(0, len(image), 1 << 24):
        assert source.read(offset, min(1 << 24, len(image) - offset)) == image[offset : offset + (1 << 24)]


def test_no_headers_there(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(NotElfError, match="at 0x4000"):
        OldmemSource(str(raw.path), ElfcoreHeader(0x4000))
    with pytest.raises(TruncatedCoreError, match="--elfcorehdr right"):
        OldmemSource(str(raw.path), ElfcoreHeader(1 << 40))


def test_a_memory_image_that_is_too_short_names_both_sizes(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", ((0x8000, 0x8000, 0x100000),))
    with pytest.raises(TruncatedCoreError, match=r"has 262144 bytes.*up to 1081344"):
        open_raw(raw)


def test_a_table_larger_than_its_room(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(TruncatedCoreError, match="has 100 bytes"):
        OldmemSource(str(raw.path), ElfcoreHeader(raw.table_at, 100))


def test_lying_tables(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", phnum=0)
    with pytest.raises(BadHeadersError, match="0 program headers"):
        open_raw(raw)
    crowded = tmp_path / "crowded"
    crowded.write_bytes(Core([Load(0, 0, offset=0)] * 65535, extended_count=True).headers())
    with pytest.raises(BadHeadersError, match="more program headers"):
        OldmemSource(str(crowded), ElfcoreHeader(0))
    table = Core([Load(0, 0, memsz=0)], notes=[NoteSegment(b"", size=1 << 30, offset=0)]).headers()
    path = tmp_path / "notes"
    with path.open("wb") as file:
        file.write(table)
        file.truncate(1 << 30)
    with pytest.raises(BadHeadersError, match="bytes of notes"):
        OldmemSource(str(path), ElfcoreHeader(0))


def test_a_table_of_entries_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    ehdr = Core([Load(0, 0, offset=0)]).headers()[:64]
    path.write_bytes(ehdr + bytes(4) + b"\xff" * 52)
    source = OldmemSource(str(path), ElfcoreHeader(0))
    assert parse_headers(source.read, source.size).segments[0].type == PT_NOTE


def test_more_memory_than_fits_in_a_32_bit_core(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    with path.open("wb") as file:
        file.write(Core([Load(0x1000, 0xF000_0000, offset=0x1000)] * 2, bits=32, machine=3).headers())
        file.truncate(0xF000_1000)
    with pytest.raises(BadHeadersError, match="more than fit in one core"):
        OldmemSource(str(path), ElfcoreHeader(0))


def test_identity_names_the_table(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    assert open_raw(raw).identity().endswith(b" elfcorehdr 0x30000")


@pytest.mark.parametrize(
    ("text", "address", "size"),
    [
        ("0x9f000000", 0x9F000000, None),
        ("2667577344", 2667577344, None),
        ("2605056K", 2605056 << 10, None),
        ("868K@2667577344", 2667577344, 868 << 10),
        ("0x400@16M", 16 << 20, 0x400),
        ("1g", 1 << 30, None),
        ("010", 8, None),
        ("0", 0, None),
        ("0x1E", 0x1E, None),
        ("0xfe", 0xFE, None),
        ("1E", 1 << 60, None),
        ("3p", 3 << 50, None),
    ],
)
def test_elfcorehdr(text: str, address: int, size: int | None) -> None:
    assert ElfcoreHeader.parse(text) == ElfcoreHeader(address, size)


@pytest.mark.parametrize(
    "text",
    ["", "@", "1@", "@1", "x", "-1", "1 ", "0x", "1KK", "16E", "0o7", "08", "1_0", "0x1_0", "1@2@3", "٣", "9" * 5000],
)
def test_elfcorehdr_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ElfcoreHeader.parse(text)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_mutated_tables(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("mutated") / "raw"
    raw = write_raw(path)
    table_bytes = 64 + 5 * 56
    memory = bytearray(raw.memory)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, (table_bytes - 1) // 4)) * 4
        struct.pack_into("<I", memory, raw.table_at + at, data.draw(st.integers(0, 3) | st.integers(0, (1 << 32) - 1)))
    path.write_bytes(memory)
    try:
        source = open_raw(raw)
    except (NotElfError, BadHeadersError, TruncatedCoreError):
        return
    headers = parse_headers(source.read, source.size)
    assert headers.image_bytes == source.size
