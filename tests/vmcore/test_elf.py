from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import BadHeadersError, EmptyCoreError, NotElfError, TruncatedCoreError
from netdump.testing.elf_writer import EM_386, EM_X86_64, NONE, ByteOrder, Core, Load, NoteSegment, counter_pages, note
from netdump.vmcore.elf import (
    IMAGE_BYTES_MAX,
    PT_LOAD,
    PT_NOTE,
    SEGMENTS_MAX,
    ElfHeaders,
    Segment,
    decode_headers,
    encode_headers,
    join_headers,
    parse_headers,
)
from tests.vmcore.doubles import headers_of

if TYPE_CHECKING:
    from pathlib import Path

CLASSES: list[tuple[Literal[32, 64], ByteOrder]] = [(32, "little"), (32, "big"), (64, "little"), (64, "big")]
NOTES = [NoteSegment(note(b"CORE", 1, bytes(16)))]


def core(**changes: Any) -> Core:
    settings: dict[str, Any] = {"notes": NOTES} | changes
    return Core([Load(0x1000, 0x2000, {0: counter_pages(1, 2)}, vaddr=0x8000_0000)], **settings)


def parse(image: bytes, size: int | None = None) -> ElfHeaders:
    return parse_headers(
        lambda offset, length: image[offset : offset + length], len(image) if size is None else size, "c"
    )


@pytest.mark.parametrize(("bits", "byteorder"), CLASSES)
@pytest.mark.parametrize("extended", [False, True])
def test_every_class_and_byte_order(bits: Literal[32, 64], byteorder: ByteOrder, extended: bool) -> None:
    recipe = core(bits=bits, byteorder=byteorder, machine=22, extended_count=extended, overrides={"flags": 1})
    image = recipe.build()
    headers = parse(image)
    assert (headers.elf_class, headers.byteorder, headers.machine, headers.flags) == (bits, byteorder, 22, 1)
    assert headers.image_bytes == len(image)
    assert headers.none == (1 << bits) - 1
    assert headers.ehdr == image[: len(headers.ehdr)]
    assert headers.phdrs == image[len(headers.ehdr) : len(headers.ehdr) + len(headers.phdrs)]
    notes, load = headers.segments
    assert (notes.type, notes.offset, notes.filesz) == (PT_NOTE, 4096, len(NOTES[0].data))
    assert load == Segment(PT_LOAD, 7, 8192, 0x8000_0000, 0x1000, 0x2000, 0x2000, 0)


@pytest.mark.parametrize(("bits", "byteorder"), CLASSES)
def test_encode_is_the_inverse(bits: Literal[32, 64], byteorder: ByteOrder) -> None:
    headers = parse(core(bits=bits, byteorder=byteorder).build())
    assert encode_headers(headers, list(headers.segments)) == headers.ehdr + headers.phdrs


@pytest.mark.parametrize(
    ("machine", "bits", "word"),
    [(62, 64, 8), (EM_386, 64, 4), (EM_386, 32, 4), (22, 32, 4), (22, 64, 8), (40, 64, 4), (183, 64, 8)],
)
def test_words_are_the_machines(machine: int, bits: Literal[32, 64], word: int) -> None:
    assert parse(core(machine=machine, bits=bits).build()).word_bytes == word


def test_a_thousand_segments() -> None:
    recipe = Core([Load(number << 20, 16, {0: bytes([number % 251 + 1]) * 16}) for number in range(1000)], alignment=1)
    headers = parse(recipe.build())
    assert len(headers.segments) == 1000
    assert [segment.paddr for segment in headers.segments] == [number << 20 for number in range(1000)]


def test_more_segments_than_e_phnum_can_say() -> None:
    image = Core([Load(0x1000 * number, 0) for number in range(SEGMENTS_MAX)], extended_count=True).build()
    headers = parse(image)
    assert len(headers.segments) == SEGMENTS_MAX > 0xFFFF
    assert join_headers(headers.ehdr, headers.phdrs, len(image)) == headers
    count_at = len(headers.ehdr) + 56 * SEGMENTS_MAX + 44  # sh_info of section header 0
    assert image[count_at : count_at + 4] == SEGMENTS_MAX.to_bytes(4, "little")
    image = image[:count_at] + (SEGMENTS_MAX + 1).to_bytes(4, "little") + image[count_at + 4 :]
    with pytest.raises(BadHeadersError, match=f"{SEGMENTS_MAX + 1} program headers, allowed are 1 to {SEGMENTS_MAX}"):
        parse(image)


def test_nothing_is_empty() -> None:
    with pytest.raises(EmptyCoreError, match="c is empty"):
        parse(b"")


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"KDUMP   " + bytes(4096), "kdump-compressed"),
        (b"makedumpfile\0\0\0\0" + bytes(4096), "makedumpfile -R"),
        (b"QEVM\0\0\0\3" + bytes(60), "--memory-only"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), "zstd -d"),
        (b"\x1f\x8b\x08" + bytes(60), "gunzip"),
        (b"\xfd7zXZ\0" + bytes(60), "unxz"),
        (b"\x04\x22\x4d\x18" + bytes(60), "unlz4"),
        (b"LibvirtQemudSave" + bytes(60), "--memory-only"),
        (b"hello", "68 65 6c 6c 6f"),
        (b"\x7fEL", "7f 45 4c"),
        (bytes(100), "00 00"),
    ],
)
def test_other_files_are_told_what_they_look_like(image: bytes, says: str) -> None:
    with pytest.raises(NotElfError, match="c is not an ELF core") as caught:
        parse(image)
    assert says in str(caught.value)


@pytest.mark.parametrize(("kind", "says"), [(1, "relocatable"), (2, "executable"), (3, "shared"), (77, "of type 77")])
def test_other_elf_files_are_no_cores(kind: int, says: str) -> None:
    with pytest.raises(NotElfError, match=says):
        parse(core(overrides={"type": kind}).build())


def test_what_xen_writes_of_a_guest() -> None:
    """No program headers, and sections of any name, .note.Xen among them."""
    image = core(overrides={"phoff": 0, "phnum": 0, "shoff": 64, "shentsize": 64, "shnum": 7}).build()
    with pytest.raises(NotElfError, match="`xl dump-core` of Xen writes a guest"):
        parse(image)


@pytest.mark.parametrize("bits", [32, 64])
def test_every_truncation_names_both_sizes(bits: Literal[32, 64]) -> None:
    image = core(bits=bits, extended_count=True).build()
    for length in (4, 15, 16, 40, 60, 100, 150, 4096, 8192, len(image) - 1):
        with pytest.raises(TruncatedCoreError, match=f"has {length} bytes"):
            parse(image[:length])
    with pytest.raises(TruncatedCoreError, match=f"has {len(image) - 1} bytes, its headers describe {len(image)}"):
        parse(image[:-1])


def test_bytes_behind_the_last_segment_belong_to_the_image() -> None:
    image = core(trailer=b"tail").build()
    assert parse(image).image_bytes == len(image)


@pytest.mark.parametrize(
    "lie",
    [
        {"version": 2},
        {"phentsize": 57},
        {"phentsize": 0},
        {"phnum": 0},
        {"phoff": 0},
        {"phoff": 63},
        {"phnum": 0xFFFF},
        {"phnum": 0xFFFF, "shoff": 63, "shentsize": 64},
    ],
)
def test_lying_headers(lie: dict[str, int]) -> None:
    with pytest.raises(BadHeadersError, match=r"^c "):
        parse(core(overrides=lie).build())


def test_a_header_size_that_lies_is_no_matter() -> None:
    """QEMU 7.2 writes 8 (dump-guest-memory, virsh dump --memory-only)."""
    assert parse(core(overrides={"ehsize": 8}).build()).segments == parse(core().build()).segments


@pytest.mark.parametrize(("at", "value"), [(4, 0), (4, 3), (5, 0), (5, 3), (6, 0), (6, 2)])
def test_lying_ident(at: int, value: int) -> None:
    image = bytearray(core().build())
    image[at] = value
    with pytest.raises(BadHeadersError, match="wrong ELF header: class"):
        parse(bytes(image))


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (Load(0, 0x2000, memsz=0x1FFF), "8192 bytes for 8191 bytes of memory"),
        (Load(0, 1 << 62, memsz=1 << 62, offset=1 << 62), "beyond any file"),
        (Load((1 << 64) - 0x1000, 0, memsz=0x1001), "beyond the end of memory"),
    ],
)
def test_lying_segments(load: Load, says: str) -> None:
    recipe = Core([load])
    image = recipe.headers()
    with pytest.raises(BadHeadersError, match=f"program header 0 .*{says}"):
        parse(image, 1 << 40)


def test_what_looks_odd_and_is_legal() -> None:
    """No memory address (vmalloc), no virtual address (highmem), notes without memory, memory without bytes."""
    loads = [Load(NONE, 0x1000), Load(0x1000, 0x1000, vaddr=NONE), Load(0x5000, 0, memsz=1 << 40, offset=0)]
    assert len(parse(Core(loads, notes=[NoteSegment(b"", size=0)]).build()).segments) == 4


@pytest.mark.parametrize(("bits", "byteorder"), CLASSES)
def test_what_a_program_header_holds_that_is_none(bits: Literal[32, 64], byteorder: ByteOrder) -> None:
    """Of PT_NULL the other members are undefined (gABI chapter 5)."""
    image = bytearray(core(bits=bits, byteorder=byteorder).build())
    headers = parse(bytes(image))
    at, size = len(headers.ehdr), len(headers.phdrs) // 2
    image[at : at + size] = bytes(4) + b"\xff" * (size - 4)
    found = parse(bytes(image))
    assert found.segments == headers.segments[1:]
    assert join_headers(found.ehdr, found.phdrs, len(image)) == found


def test_no_core_is_larger_than_the_protocol_can_carry() -> None:
    image = core().build()
    assert parse(image, IMAGE_BYTES_MAX).image_bytes == IMAGE_BYTES_MAX
    with pytest.raises(BadHeadersError, match="cannot be sent"):
        parse(image, IMAGE_BYTES_MAX + 1)


def test_decoding_alone_does_not_look_at_extents() -> None:
    image = core().build()[:4096]
    headers = decode_headers(lambda offset, length: image[offset : offset + length], len(image))
    assert headers.segments[1].filesz == 0x2000


def test_the_real_sample(sample: Path) -> None:
    image = sample.read_bytes()
    headers = headers_of(image)
    assert (headers.elf_class, headers.byteorder, headers.machine, headers.word_bytes) == (64, "little", 62, 8)
    loads = [segment for segment in headers.segments if segment.type == PT_LOAD]
    assert len(loads) == 18
    assert sum(load.filesz < load.memsz for load in loads) == 17
    assert all(load.offset % 4096 for load in loads if load.filesz)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(st.data())
def test_mutations_raise_what_is_declared(data: st.DataObject) -> None:
    bits, byteorder = data.draw(st.sampled_from(CLASSES))
    extended = data.draw(st.booleans())
    image = bytearray(core(bits=bits, byteorder=byteorder, extended_count=extended).build())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(4, 300))
        value = data.draw(st.sampled_from([0, 1, 0xFF, 0xFFFF, 0xFFFFFFFF, 1 << 31]) | st.integers(0, (1 << 32) - 1))
        struct.pack_into("<I", image, at, value)
    image = image[: data.draw(st.integers(0, len(image)))] if data.draw(st.booleans()) else image
    try:
        headers = parse(bytes(image))
    except (EmptyCoreError, NotElfError, TruncatedCoreError, BadHeadersError):
        return
    for segment in headers.segments:
        assert segment.filesz == 0 or segment.offset + segment.filesz <= len(image)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_joined_headers_are_those_of_the_file(bits: Literal[32, 64], byteorder: ByteOrder) -> None:
    machine = EM_386 if bits == 32 else EM_X86_64
    image = Core([Load(0x1000, 0x2000), Load(0x8000, 0x1000)], bits=bits, byteorder=byteorder, machine=machine).build()
    headers = headers_of(image)
    assert join_headers(headers.ehdr, headers.phdrs, len(image)) == headers
    with pytest.raises(TruncatedCoreError):
        join_headers(headers.ehdr, headers.phdrs, len(image) - 1)
    for ehdr, phdrs in ((headers.ehdr[:-1], headers.phdrs), (headers.ehdr, headers.phdrs[:-1]), (headers.ehdr, b"")):
        with pytest.raises(BadHeadersError, match="which are no sizes"):
            join_headers(ehdr, phdrs, len(image))
    with pytest.raises(NotElfError):
        join_headers(b"", headers.phdrs, len(image))


def test_joined_headers_are_checked_like_others() -> None:
    image = Core([Load(0x1000, 0x2000, memsz=0x1000)]).build()
    phdrs = image[64 : 64 + 56]
    with pytest.raises(BadHeadersError, match="for 4096 bytes of memory"):
        join_headers(image[:64], phdrs, len(image))
