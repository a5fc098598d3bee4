"""The headers by themselves; what is in the file is read back in test_kdump_file.py."""

from __future__ import annotations

import struct
from typing import Literal

import pytest

from netdump.errors import BadHeadersError
from netdump.remote.kdump_header import (
    FRAMES_MAX,
    Flag,
    Geometry,
    find_phys_base,
    pack_header,
    pack_page_desc,
    pack_sub_header,
)
from netdump.testing.elf_writer import EM_386, EM_S390, EM_X86_64, NONE, Core, Load, note
from netdump.vmcore.kernel import KernelFacts
from tests.vmcore.doubles import headers_of

TEXT = b"OSRELEASE=6.1.0\nNUMBER(phys_base)=-884998144\n"
NOTES = note(b"CORE", 1, bytes(336)) + note(b"VMCOREINFO", 0, TEXT)
FACTS = KernelFacts("6.1.0", "#1 SMP", "x86_64", "crashy", 1_795_377_839, 2, 4096, TEXT, NOTES, None, ())
EM_AARCH64, EM_ARM, EM_RISCV = 183, 40, 243


def geometry(
    machine: int = EM_X86_64, bits: Literal[32, 64] = 64, order: Literal["little", "big"] = "little", frames: int = 100
) -> Geometry:
    core = Core([Load(0x1000, 0x1000)], bits=bits, byteorder=order, machine=machine)
    return Geometry.of(headers_of(core.build()), 4096, frames, len(NOTES))


def test_sizes_are_those_of_the_structures() -> None:
    for made, header, sub_header in ((geometry(), 464, 104), (geometry(EM_386, 32), 452, 80)):
        assert len(pack_header(made, FACTS, Flag.ZLIB)) == header
        assert len(pack_sub_header(made, FACTS, 0, 31)) == sub_header
        assert made.notes_position == 4096 + sub_header
        assert len(pack_page_desc(made, 1, 2, Flag.RAW)) == 24


def test_a_32_bit_kernel_in_64_bit_headers_is_i386() -> None:
    assert geometry(EM_386).word_bytes == 4


def test_where_things_stand() -> None:
    made = geometry(frames=32769)
    assert (made.sub_header_blocks, made.bitmap_blocks) == (1, 2)
    assert (made.bitmap_position, made.descriptors_position) == (8192, 8192 + 4 * 4096)
    long = Geometry("little", 8, 4096, 32768, 4096 - 104 + 1)
    assert (long.sub_header_blocks, long.bitmap_blocks, long.bitmap_position) == (2, 1, 3 * 4096)


def test_byte_order_is_the_machines() -> None:
    made = geometry(EM_S390, order="big")
    header = pack_header(made, FACTS._replace(machine="s390x"), Flag.ZLIB)
    assert struct.unpack_from(">i", header, 8) == (6,)
    assert struct.unpack_from(">q", header, 408) == (1_795_377_839,)
    assert struct.unpack_from(">i", header, 428) == (4096,)


def test_names_fit_and_what_is_not_known_is_empty() -> None:
    facts = FACTS._replace(nodename="x" * 200, release=None, crash_time=None, machine="i386", cpus=0)
    header = pack_header(geometry(EM_386, 32), facts, Flag.RAW)
    fields = [header[12 + 65 * n : 77 + 65 * n].rstrip(b"\0") for n in range(6)]
    assert fields == [b"Linux", b"x" * 64, b"", b"#1 SMP", b"i686", b"(none)"]
    assert struct.unpack_from("<i", header, 448) == (1,)


def test_notes_and_vmcoreinfo_are_pointed_at() -> None:
    made = geometry()
    values = struct.unpack("<QiiQQQQQQQQQQQ", pack_sub_header(made, FACTS, -884998144, 31))
    assert values[0] == (1 << 64) - 884998144
    assert values[5:9] == (made.notes_position + NOTES.index(TEXT), len(TEXT), made.notes_position, len(NOTES))
    bare = struct.unpack("<QiiQQQQQQQQQQQ", pack_sub_header(made, FACTS._replace(notes=b"", vmcoreinfo=None), 0, 0))
    assert bare[5:11] == (0,) * 6


def test_what_the_format_cannot_hold() -> None:
    for frames in (0, FRAMES_MAX + 1):
        with pytest.raises(BadHeadersError, match="--format elf"):
            geometry(frames=frames)
    with pytest.raises(BadHeadersError, match="not for ELF machine 40"):
        geometry(EM_ARM, 32)
    assert struct.unpack_from("<I", pack_header(geometry(frames=FRAMES_MAX), FACTS, Flag.RAW), 440) == (0xFFFFFFFF,)


def test_phys_base() -> None:
    def base(machine: int, text: bytes, *loads: Load) -> int:
        return find_phys_base(headers_of(Core(loads or [Load(0, 0)], machine=machine).build()), text)

    kernel = Load(0x100_0000, 0, vaddr=0xFFFF_FFFF_8200_0000)
    assert base(EM_X86_64, TEXT) == -884998144
    assert base(EM_X86_64, b"", Load(0, 0, vaddr=NONE), Load(0, 0, vaddr=0xFFFF8880_0000_0000), kernel) == -0x100_0000
    assert base(EM_X86_64, b"") == 0
    assert base(EM_AARCH64, b"NUMBER(PHYS_OFFSET)=0x40000000\n") == 0x4000_0000
    assert base(EM_RISCV, b"NUMBER(phys_ram_base)=0x80000000\n") == 0x8000_0000
    assert base(EM_386, TEXT) == 0
