"""ELF header and program headers of a core file, both classes and both byte orders.

Owns the ELF structures and what makes headers credible. Must not read memory contents, and must not know what a page
is. Numbers in here come from a foreign file: every count and extent is checked before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Literal

from netdump.errors import BadHeadersError, EmptyCoreError, NotElfError, TruncatedCoreError
from netdump.namedtuple import NamedTuple

Read = Callable[[int, int], bytes]
"""read(offset, length) -> exactly length bytes; raises SourceUnreadableError."""

ByteOrder = Literal["little", "big"]

IMAGE_BYTES_MAX: Final = 1 << 52
"""Largest image that the protocol can carry ([limits] image_bytes_max)."""

SEGMENTS_MAX: Final = 1 << 16
"""Most program headers that are read. The largest known machines have some thousand memory ranges."""

PT_NULL: Final = 0
PT_LOAD: Final = 1
PT_NOTE: Final = 4
ET_CORE: Final = 4
PN_XNUM: Final = 0xFFFF

_MAGIC: Final = b"\x7fELF"
_IDENT_BYTES: Final = 16
_PHOFF: Final = 4  # place of e_phoff and e_phnum among the fields after e_ident
_PHNUM: Final = 9
_TYPES: Final = {1: "a relocatable object", 2: "an executable (a kernel image?)", 3: "a shared object"}
_MACHINES_32: Final = frozenset({3, 20, 40})  # EM_386, EM_PPC, EM_ARM
_MACHINES_64: Final = frozenset({21, 50, 62, 183})  # EM_PPC64, EM_IA_64, EM_X86_64, EM_AARCH64

_LOOKS: Final = (
    (
        b"KDUMP   ",
        "a kdump-compressed dump of makedumpfile; send /proc/vmcore itself, or an ELF core (makedumpfile -E)",
    ),
    (b"makedumpfile", "a flattened dump of makedumpfile; restore it first: makedumpfile -R NEWFILE < FILE"),
    (b"QEVM", "a saved machine of QEMU; dump it with virsh dump --memory-only, or dump-guest-memory"),
    (b"LibvirtQemudSave", "a saved machine of libvirt; start it and dump it with virsh dump --memory-only"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; decompress it first: zstd -d --long=27 FILE"),
    (b"\x1f\x8b", "compressed by gzip; decompress it first: gunzip FILE"),
    (b"\xfd7zXZ\x00", "compressed by xz; decompress it first: unxz FILE"),
    (b"\x04\x22\x4d\x18", "compressed by lz4; decompress it first: unlz4 FILE"),
)


class Segment(NamedTuple):
    """One program header. offset, filesz: bytes of file; vaddr, paddr, memsz: bytes of memory, all ones for none."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class ElfHeaders(NamedTuple):
    """The headers of a core.

    elf_class: 32 or 64; image_bytes: of the whole file; ehdr, phdrs: as they stand in it; segments: without PT_NULL.
    """

    elf_class: int
    byteorder: ByteOrder
    machine: int
    flags: int
    image_bytes: int
    ehdr: bytes
    phdrs: bytes
    segments: tuple[Segment, ...]

    @property
    def word_bytes(self) -> int:
        """Size of the dead kernel's unsigned long. kexec writes 64-bit headers for 32-bit kernels with PAE too."""
        if self.machine in _MACHINES_32:
            return 4
        return 8 if self.machine in _MACHINES_64 else self.elf_class // 8

    @property
    def none(self) -> int:
        """The address that stands for "no such address" in this class: all ones."""
        return (1 << self.elf_class) - 1


class _Layout(NamedTuple):
    """Structures of one class and byte order. Source: gABI chapters 4 and 5."""

    elf_class: int
    byteorder: ByteOrder
    ehdr: struct.Struct  # the part after e_ident
    phdr: struct.Struct
    section_bytes: int
    section_info: int  # offset of sh_info in a section header
    order: tuple[int, ...]  # where the fields of Segment stand in a program header

    @property
    def ehdr_bytes(self) -> int:
        return _IDENT_BYTES + self.ehdr.size


class _File(NamedTuple):
    """What headers are read from. See parse_headers."""

    read: Read
    size: int
    name: str

    def table(self, offset: int, length: int, what: str) -> bytes:
        """Part of the headers, checked against the size first."""
        if offset + length > self.size:
            raise TruncatedCoreError(
                f"{self.name} is truncated: it has {self.size} bytes, its {what} ends at {offset + length}; "
                "copy it again from where it was captured"
            )
        return self.read(offset, length)


def _layout(elf_class: int, byteorder: ByteOrder) -> _Layout:
    sign = "<" if byteorder == "little" else ">"
    if elf_class == 64:
        ehdr, phdr = struct.Struct(sign + "HHIQQQIHHHHHH"), struct.Struct(sign + "IIQQQQQQ")
        return _Layout(64, byteorder, ehdr, phdr, 64, 44, (0, 1, 2, 3, 4, 5, 6, 7))
    ehdr, phdr = struct.Struct(sign + "HHIIIIIHHHHHH"), struct.Struct(sign + "IIIIIIII")
    return _Layout(32, byteorder, ehdr, phdr, 40, 28, (0, 6, 1, 2, 3, 4, 5, 7))


def parse_headers(read: Read, size: int, name: str = "the core") -> ElfHeaders:
    """Read and check the headers of a core file.

    read: see Read. size: bytes of the file. name: what messages call it.
    Raises EmptyCoreError, NotElfError, TruncatedCoreError, BadHeadersError, and what read raises. Source: gABI, elf(5).
    """
    if size == 0:
        raise EmptyCoreError(f"{name} is empty: nothing was captured; check where it was copied from")
    if size > IMAGE_BYTES_MAX:
        raise BadHeadersError(f"{name} has {size} bytes; a core of more than {IMAGE_BYTES_MAX} cannot be sent")
    headers = decode_headers(read, size, name)
    _check_extent(headers, name)
    return headers


def decode_headers(read: Read, size: int, name: str = "the core", *, end_max: int = IMAGE_BYTES_MAX) -> ElfHeaders:
    """Read the headers and check them by themselves, not the extents of the segments against the file.

    For elfcorehdr tables, whose segments lie elsewhere. size: bytes that read can give. end_max: largest offset at
    which a segment may end. Raises as parse_headers.
    """
    file = _File(read, size, name)
    layout = _recognise(read(0, min(size, _IDENT_BYTES)), name)
    ehdr = file.table(0, layout.ehdr_bytes, "ELF header")
    (_, machine, version, _, phoff, shoff, flags, _, phentsize, phnum, shentsize, shnum, _) = layout.ehdr.unpack_from(
        ehdr, _IDENT_BYTES
    )
    _check_type(ehdr, layout, name)
    if not phnum and shnum:  # Source: Xen docs/misc/dump-core-format.txt
        raise NotElfError(
            f"{name} is ELF, but with sections in place of program headers, as `xl dump-core` of Xen writes a guest: "
            "crash opens that as it is; for netdump, arm the guest itself (netdump arm)"
        )
    # e_ehsize is not looked at: nothing rests on it, and QEMU's dump-guest-memory (virsh dump) has written 8 there.
    if version != 1 or phentsize != layout.phdr.size:
        raise BadHeadersError(
            f"{name} has a wrong ELF header: version {version}, program header size {phentsize}, "
            f"expected 1, {layout.phdr.size}"
        )
    if phnum == PN_XNUM:
        phnum = _extended_count(file, shoff, shentsize, layout)
    if not 1 <= phnum <= SEGMENTS_MAX:
        raise BadHeadersError(f"{name} has {phnum} program headers, allowed are 1 to {SEGMENTS_MAX}")
    if phoff < layout.ehdr_bytes:
        raise BadHeadersError(f"{name} has its program headers at {phoff}, inside the ELF header")
    phdrs = file.table(phoff, phnum * layout.phdr.size, "program header table")
    return ElfHeaders(
        layout.elf_class,
        layout.byteorder,
        machine,
        flags,
        size,
        ehdr,
        phdrs,
        _parse_segments(phdrs, layout, name, end_max),
    )


def join_headers(ehdr: bytes, phdrs: bytes, size: int, name: str = "the core") -> ElfHeaders:
    """The headers from ELF header and program header table, wherever these stood in the image, of size bytes.

    Raises as parse_headers.
    """
    layout = _recognise(ehdr[:_IDENT_BYTES], name)
    count, rest = divmod(len(phdrs), layout.phdr.size)
    if len(ehdr) != layout.ehdr_bytes or rest or not 1 <= count <= SEGMENTS_MAX:
        raise BadHeadersError(
            f"{name} has an ELF header of {len(ehdr)} bytes and {len(phdrs)} bytes of program headers, "
            "which are no sizes that they can have"
        )
    _check_type(ehdr, layout, name)
    fields = layout.ehdr.unpack_from(ehdr, _IDENT_BYTES)
    segments = _parse_segments(phdrs, layout, name, IMAGE_BYTES_MAX)
    headers = ElfHeaders(layout.elf_class, layout.byteorder, fields[1], fields[6], size, ehdr, phdrs, segments)
    _check_extent(headers, name)
    return headers


def _parse_segments(phdrs: bytes, layout: _Layout, name: str, end_max: int) -> tuple[Segment, ...]:
    """All but PT_NULL, of which the other members mean nothing."""
    segments = []
    for number, fields in enumerate(layout.phdr.iter_unpack(phdrs)):
        segment = Segment(*(fields[i] for i in layout.order))
        if segment.type != PT_NULL:
            _check_segment(segment, number, layout, name, end_max)
            segments.append(segment)
    return tuple(segments)


def _check_extent(headers: ElfHeaders, name: str) -> None:
    end = max((segment.offset + segment.filesz for segment in headers.segments if segment.filesz), default=0)
    if end > headers.image_bytes:
        raise TruncatedCoreError(
            f"{name} is truncated: it has {headers.image_bytes} bytes, its headers describe {end}; "
            "copy it again from where it was captured"
        )


def _recognise(ident: bytes, name: str) -> _Layout:
    """The layout that e_ident announces."""
    if not ident.startswith(_MAGIC):
        for magic, what in _LOOKS:
            if ident.startswith(magic):
                raise NotElfError(f"{name} is not an ELF core: it is {what}")
        raise NotElfError(f"{name} is not an ELF core: it begins with {ident[:8].hex(' ')}; is it the right file?")
    if len(ident) < _IDENT_BYTES:
        raise TruncatedCoreError(f"{name} is truncated: it has {len(ident)} bytes, an ELF header alone needs 52")
    elf_class, encoding, version = ident[4:7]
    if elf_class not in {1, 2} or encoding not in {1, 2} or version != 1:
        raise BadHeadersError(
            f"{name} has a wrong ELF header: class {elf_class}, encoding {encoding}, version {version}"
        )
    return _layout(32 * elf_class, "little" if encoding == 1 else "big")


def _check_type(ehdr: bytes, layout: _Layout, name: str) -> None:
    kind = int.from_bytes(ehdr[_IDENT_BYTES : _IDENT_BYTES + 2], layout.byteorder)
    if kind != ET_CORE:
        raise NotElfError(
            f"{name} is ELF, but {_TYPES.get(kind, f'of type {kind}')}, not a core; is it the right file?"
        )


def _extended_count(file: _File, shoff: int, shentsize: int, layout: _Layout) -> int:
    """Number of program headers when e_phnum is PN_XNUM: sh_info of section 0. Source: elf(5), gABI."""
    if shoff < layout.ehdr_bytes or shentsize != layout.section_bytes:
        raise BadHeadersError(f"{file.name} does not say where the number of its program headers stands")
    section = file.table(shoff, layout.section_bytes, "section header")
    return int.from_bytes(section[layout.section_info : layout.section_info + 4], layout.byteorder)


def _check_segment(segment: Segment, number: int, layout: _Layout, name: str, end_max: int) -> None:
    """What one program header must fulfil by itself. Only PT_LOAD shows memory; p_memsz of notes means nothing."""
    limit = 1 << layout.elf_class
    if segment.offset + segment.filesz > min(limit, end_max):
        raise BadHeadersError(
            f"{name}: program header {number} claims {segment.filesz} bytes at {segment.offset}, beyond any file"
        )
    if segment.type != PT_LOAD:
        return
    if segment.filesz > segment.memsz:
        raise BadHeadersError(
            f"{name}: program header {number} has {segment.filesz} bytes for {segment.memsz} bytes of memory"
        )
    if segment.paddr != limit - 1 and segment.paddr + segment.memsz > limit:
        raise BadHeadersError(
            f"{name}: program header {number} claims {segment.memsz} bytes of memory at {segment.paddr:#x}, "
            "beyond the end of memory"
        )


def encode_headers(headers: ElfHeaders, segments: list[Segment]) -> bytes:
    """ELF header and program header table with other segments, the table right behind the header.

    For images that are put together here; segments must be fewer than PN_XNUM and fit in the class. The inverse of
    decode_headers.
    """
    layout = _layout(headers.elf_class, headers.byteorder)
    fields = list(layout.ehdr.unpack_from(headers.ehdr, _IDENT_BYTES))
    fields[_PHOFF], fields[_PHNUM] = layout.ehdr_bytes, len(segments)
    parts = [headers.ehdr[:_IDENT_BYTES], layout.ehdr.pack(*fields)]
    for segment in segments:
        values = [0] * len(layout.order)
        for value, place in zip(segment, layout.order, strict=True):
            values[place] = value
        parts.append(layout.phdr.pack(*values))
    return b"".join(parts)
