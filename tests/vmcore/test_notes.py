from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import SourceUnreadableError
from netdump.testing.elf_writer import EM_386, ByteOrder, Core, Load, NoteSegment, note, prstatus_note
from netdump.vmcore.notes import (
    NOTE_DESC_MAX,
    NOTES_BYTES_MAX,
    iter_notes,
    notes_end,
    prstatus,
    read_notes,
    vmcoreinfo_text,
)
from tests.vmcore.doubles import BytesSource, headers_of

if TYPE_CHECKING:
    from pathlib import Path

ORDERS: list[ByteOrder] = ["little", "big"]


@pytest.mark.parametrize("byteorder", ORDERS)
def test_notes_of_every_padding(byteorder: ByteOrder) -> None:
    wanted = [(b"n" * name, kind, b"d" * desc) for name in range(1, 6) for desc in range(6) for kind in (0, 1, 1 << 31)]
    buffer = b"".join(note(name, kind, desc, byteorder) for name, kind, desc in wanted)
    assert [(n.name, n.type, bytes(n.desc)) for n in iter_notes(buffer, byteorder)] == wanted
    assert notes_end(buffer, byteorder) == len(buffer)


def test_an_empty_note_ends_the_walk() -> None:
    buffer = note(b"CORE", 1, b"abcd") + bytes(12) + note(b"CORE", 1, b"efgh")
    assert [bytes(n.desc) for n in iter_notes(buffer, "little")] == [b"abcd"]
    assert notes_end(buffer, "little") == len(note(b"CORE", 1, b"abcd"))


def test_a_note_that_does_not_fit_ends_the_walk() -> None:
    good, cut = note(b"CORE", 1, b"abcd"), note(b"CORE", 1, bytes(64))
    for length in range(len(cut)):
        assert [bytes(n.desc) for n in iter_notes(good + cut[:length], "little")] == [b"abcd"]
    huge = struct.pack("<III", 5, 0xFFFFFFFF, 1) + b"CORE\0\0\0\0"
    assert list(iter_notes(huge, "little")) == []
    assert list(iter_notes(struct.pack("<III", 0xFFFFFFFF, 4, 1), "little")) == []


def test_the_last_note_may_lack_its_padding() -> None:
    buffer = note(b"CORE", 1, b"abc")[:-1]
    assert [bytes(n.desc) for n in iter_notes(buffer, "little")] == [b"abc"]
    assert notes_end(buffer, "little") == len(buffer)


@pytest.mark.parametrize(("machine", "word", "registers"), [(62, 8, 27), (183, 8, 34), (EM_386, 4, 17), (40, 4, 18)])
@pytest.mark.parametrize("byteorder", ORDERS)
def test_prstatus(machine: int, word: int, registers: int, byteorder: ByteOrder) -> None:
    content = bytes(range(1, registers * word % 256)).ljust(registers * word, b"\xcc")
    packed = prstatus_note(4711, content, word, byteorder)
    headers = headers_of(Core([Load(0, 4096)], machine=machine, byteorder=byteorder).build())
    (found,) = iter_notes(packed, byteorder)
    status = prstatus(found, headers)
    assert status is not None
    assert (status.pid, status.registers) == (4711, content)


def test_what_is_no_prstatus() -> None:
    headers = headers_of(Core([Load(0, 4096)]).build())
    for packed in (note(b"LINUX", 1, bytes(336)), note(b"CORE", 2, bytes(336)), note(b"CORE", 1, bytes(116))):
        (found,) = iter_notes(packed, "little")
        assert prstatus(found, headers) is None


def read_all(core: Core, bad: list[tuple[int, int]] | None = None) -> bytes:
    source = BytesSource(core.build(), bad or [])
    return read_notes(source.read, headers_of(source.image))


def test_the_segments_are_joined_each_up_to_its_end() -> None:
    one, two = note(b"CORE", 1, b"1"), note(b"VMCOREINFO", 0, b"A=1\n")
    core = Core([Load(0, 4096)], notes=[NoteSegment(one + bytes(100)), NoteSegment(b""), NoteSegment(two)], alignment=1)
    notes = read_all(core)
    assert notes == one + two
    assert vmcoreinfo_text(notes, "little") == b"A=1\n"


def test_no_notes() -> None:
    assert read_all(Core([Load(0, 4096)])) == b""
    assert vmcoreinfo_text(b"", "little") is None


def test_device_dumps_are_passed_over() -> None:
    """They stand before all other notes, and may be larger than the memory of the machine that reads them."""
    dump = note(b"LINUX", 0x700, bytes(3 * NOTE_DESC_MAX))
    info = note(b"VMCOREINFO", 0, b"CRASHTIME=1\n")
    core = Core([Load(0, 4096)], notes=[NoteSegment(dump + info)])
    source = BytesSource(core.build())
    longest = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal longest
        longest = max(longest, length)
        return source.read(offset, length)

    assert read_notes(read, headers_of(source.image)) == info
    assert longest < NOTE_DESC_MAX


def test_small_device_dumps_are_passed_over_too() -> None:
    info = note(b"VMCOREINFO", 0, b"CRASHTIME=1\n")
    assert read_all(Core([Load(0, 4096)], notes=[NoteSegment(note(b"LINUX", 0x700, bytes(100)) + info)])) == info


def test_notes_are_bounded_and_vmcoreinfo_has_its_place() -> None:
    one = note(b"CORE", 1, bytes(NOTE_DESC_MAX - 100))
    info = note(b"VMCOREINFO", 0, b"#" * NOTE_DESC_MAX)
    notes = read_all(Core([Load(0, 4096)], notes=[NoteSegment(one * 60 + info)]))
    assert NOTES_BYTES_MAX - 4 * NOTE_DESC_MAX < len(notes) <= NOTES_BYTES_MAX
    assert notes == one * ((len(notes) - len(info)) // len(one)) + info


def test_what_qemu_notes_of_processors_leaves_vmcoreinfo_its_place() -> None:
    """Its own notes have the type of VMCOREINFO, one for each processor, and stand before it."""
    qemu = note(b"QEMU", 0, bytes(440))
    info = note(b"VMCOREINFO", 0, b"CRASHTIME=1\n")
    notes = read_all(Core([Load(0, 4096)], notes=[NoteSegment(qemu * 8192 + info)]))
    assert len(notes) <= NOTES_BYTES_MAX
    assert notes == qemu * ((len(notes) - len(info)) // len(qemu)) + info


def test_padding_that_a_segment_lacks_is_added() -> None:
    one, two = note(b"CORE", 1, b"abc"), note(b"CORE", 2, b"defg")
    for alignment in (1, 4096):
        core = Core([Load(0, 4096)], notes=[NoteSegment(one[:-1]), NoteSegment(two)], alignment=alignment)
        assert read_all(core) == one + two


def test_notes_without_end_are_bounded() -> None:
    one = note(b"C", 1, b"")
    notes = read_all(Core([Load(0, 4096)], notes=[NoteSegment(one * 140_000)]))
    assert len(notes) == 131072 * len(one)


def test_what_cannot_be_read_ends_its_segment() -> None:
    one, two = note(b"CORE", 1, b"1111"), note(b"CORE", 1, b"2222")
    core = Core([Load(0, 4096)], notes=[NoteSegment(one + two + one), NoteSegment(two)])
    offset = core.segments()[0].offset
    assert read_all(core, [(offset + len(one), offset + len(one) + 4)]) == one + two  # not even the header
    assert read_all(core, [(offset + len(one) + 20, offset + len(one) + 24)]) == one + two  # only the contents


def test_a_source_without_notes_at_all_raises_nothing() -> None:
    def read(_offset: int, _length: int) -> bytes:
        raise SourceUnreadableError("gone")

    assert read_notes(read, headers_of(Core([Load(0, 4096)], notes=[NoteSegment(b"x" * 64)]).build())) == b""


def test_the_real_notes(sample: Path) -> None:
    source = BytesSource(sample.read_bytes())
    headers = headers_of(source.image)
    notes = read_notes(source.read, headers)
    assert len(notes) == 0xFB8
    statuses = [status for n in iter_notes(notes, "little") if (status := prstatus(n, headers))]
    assert len(statuses) == 2
    assert all(len(status.registers) == 27 * 8 for status in statuses)
    text = vmcoreinfo_text(notes, "little")
    assert text is not None
    assert text.startswith(b"OSRELEASE=6.1.0-56-cloud-amd64\n")
    assert text.endswith(b"CRASHTIME=1795377839\n")


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.lists(st.integers(0, 60).map(lambda n: n.to_bytes(4, "little"))).map(b"".join))
def test_any_bytes_at_all(buffer: bytes) -> None:
    for byteorder in ORDERS:
        found = list(iter_notes(buffer, byteorder))
        assert sum(12 + len(n.desc) for n in found) <= len(buffer)
        assert notes_end(buffer, byteorder) <= len(buffer)
        vmcoreinfo_text(buffer, byteorder)
        core = Core([Load(0, 4096)], notes=[NoteSegment(buffer)], byteorder=byteorder)
        assert notes_end(read_all(core), byteorder) <= len(buffer)
