"""What an ELF program, library or kernel module says of itself.

Owns the few tables that the image needs: the program interpreter, the SONAME, and the section .modinfo. Every number
of the file is checked against its size; a file that contradicts itself is an ImageError. Source: gABI chapters 4 and
5, elf(5).
"""

from __future__ import annotations

import struct

from netdump.errors import ImageError
from netdump.namedtuple import NamedTuple

MAGIC = b"\x7fELF"
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SONAME = 0, 1, 5, 14
HEADERS_MAX = 4096


class ElfObject(NamedTuple):
    """interpreter: path of the dynamic loader. soname, needed: names of libraries. Empty where the file has none."""

    interpreter: str
    soname: str
    needed: tuple[str, ...]


class _Layout(NamedTuple):
    """How the class and byte order of a file spell its structures."""

    header: struct.Struct  # from e_type on
    program: struct.Struct
    section: struct.Struct
    dynamic: struct.Struct
    wide: bool


class _Program(NamedTuple):
    type: int
    offset: int
    vaddr: int
    filesz: int


def is_elf(content: bytes) -> bool:
    """Tell whether content begins as an ELF file does."""
    return content[:4] == MAGIC


def read_object(content: bytes, name: str) -> ElfObject:
    """Read what a program or library needs. name: for messages. Raises ImageError."""
    try:
        return _read_object(content)
    except (struct.error, IndexError, ValueError) as error:
        raise ImageError(
            f"{name} is not a sound ELF file ({error}): install the package it belongs to again"
        ) from error


def read_modinfo(content: bytes, name: str) -> dict[str, list[str]]:
    """Read the section .modinfo of a kernel module: every key with its values in order. Raises ImageError."""
    try:
        text = _section(content, b".modinfo")
    except (struct.error, IndexError, ValueError) as error:
        raise ImageError(f"{name} is not a sound kernel module ({error}): install the kernel again") from error
    facts: dict[str, list[str]] = {}
    for entry in text.split(b"\0"):
        key, equals, value = entry.partition(b"=")
        if equals:
            facts.setdefault(key.decode(errors="replace"), []).append(value.decode(errors="replace"))
    return facts


def _read_object(content: bytes) -> ElfObject:
    layout = _layout(content)
    programs = _programs(content, layout)
    interpreter = ""
    dynamic = b""
    for program in programs:
        if program.type == PT_INTERP:
            interpreter = _cut(content, program.offset, program.filesz).rstrip(b"\0").decode()
        elif program.type == PT_DYNAMIC:
            dynamic = _cut(content, program.offset, program.filesz)
    entries = []
    for at in range(0, len(dynamic) - layout.dynamic.size + 1, layout.dynamic.size):
        tag, value = layout.dynamic.unpack_from(dynamic, at)
        if tag == DT_NULL:
            break
        entries.append((tag, value))
    table = next((_file_offset(programs, value) for tag, value in entries if tag == DT_STRTAB), 0)
    names = {
        tag: [_string(content, table + value) for each, value in entries if each == tag]
        for tag in (DT_NEEDED, DT_SONAME)
    }
    return ElfObject(interpreter, (names[DT_SONAME] or [""])[0], tuple(names[DT_NEEDED]))


def _layout(content: bytes) -> _Layout:
    if not is_elf(content):
        raise ValueError("it does not begin as one")
    order = {1: "<", 2: ">"}[content[5]] if content[5] in {1, 2} else ""
    if not order or content[4] not in {1, 2}:
        raise ValueError("unknown class or byte order")
    if content[4] == 2:
        formats = ("HHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ", "qQ")
    else:
        formats = ("HHIIIIIHHHHHH", "IIIIIIII", "IIIIIIIIII", "iI")
    header, program, section, dynamic = (struct.Struct(order + each) for each in formats)
    return _Layout(header, program, section, dynamic, content[4] == 2)


def _programs(content: bytes, layout: _Layout) -> list[_Program]:
    fields = layout.header.unpack_from(content, 16)
    offset, size, count = fields[4], fields[8], fields[9]
    if count > HEADERS_MAX or (count and size < layout.program.size):
        raise ValueError("impossible program headers")
    programs = []
    for number in range(count):
        raw = layout.program.unpack_from(content, offset + number * size)
        if layout.wide:
            programs.append(_Program(raw[0], raw[2], raw[3], raw[5]))
        else:
            programs.append(_Program(raw[0], raw[1], raw[2], raw[4]))
    return programs


def _section(content: bytes, wanted: bytes) -> bytes:
    layout = _layout(content)
    fields = layout.header.unpack_from(content, 16)
    offset, size, count, names_index = fields[5], fields[10], fields[11], fields[12]
    if not 0 < count <= 65535 or size < layout.section.size or names_index >= count:
        raise ValueError("impossible section headers")
    sections = [layout.section.unpack_from(content, offset + number * size) for number in range(count)]
    names = sections[names_index][4]
    for section in sections:
        start = names + section[0]
        if content[start : start + len(wanted) + 1] == wanted + b"\0":
            return _cut(content, section[4], section[5])
    return b""


def _file_offset(programs: list[_Program], vaddr: int) -> int:
    for program in programs:
        if program.type == PT_LOAD and program.vaddr <= vaddr < program.vaddr + program.filesz:
            return program.offset + vaddr - program.vaddr
    raise ValueError("its string table is nowhere")


def _cut(content: bytes, offset: int, length: int) -> bytes:
    if offset + length > len(content):
        raise ValueError("it ends too early")
    return content[offset : offset + length]


def _string(content: bytes, offset: int) -> str:
    return content[offset : content.index(b"\0", offset)].decode()
