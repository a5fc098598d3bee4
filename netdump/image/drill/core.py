"""The dump of a drill: a small core of the running kernel, with its name, its log, and the pages that these lie in.

Owns the choice of pages: the client's own reader of kernel logs is let loose on the running kernel (/proc/kcore), and
whatever pages it asks for are what the core holds. So a drill also shows that the log of this kernel can be read.
Where /proc/kcore is closed, as under lockdown=confidentiality, the core has one page of text.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from typing import TYPE_CHECKING

from netdump.errors import KernelDataError
from netdump.namedtuple import NamedTuple
from netdump.vmcore.kernel import uts_address
from netdump.vmcore.memory import Memory, Partial
from netdump.vmcore.notes import NT_VMCOREINFO, vmcoreinfo_text
from netdump.vmcore.printk import read_log
from netdump.vmcore.vmcoreinfo import Vmcoreinfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

PAGE_BYTES = 4096  # of the core's own layout; the kernel's pages may be larger
NOTES_BYTES_MAX = 1 << 20
PAGES_MAX = 16384  # 64 MiB: the largest log of any kernel is half of that
UTS_BYTES = 6 * 65  # struct new_utsname (Linux include/uapi/linux/utsname.h)
TEXT_NAME, TEXT_KIND, TEXT_BYTES_MAX = b"NETDUMP-DRILL", 1, 4000
ET_CORE, PT_LOAD, PT_NOTE = 4, 1, 4
PF_RWX = 7


class Shape(NamedTuple):
    """What an ELF file of this machine looks like. ident: e_ident. machine: e_machine. wide: ELF64."""

    ident: bytes
    machine: int
    wide: bool
    order: str


class Segment(NamedTuple):
    """A PT_LOAD of /proc/kcore. offset: in the file. All in bytes."""

    offset: int
    vaddr: int
    paddr: int
    size: int


class RunningMemory(Memory):
    """The running kernel's memory through /proc/kcore, by virtual addresses; keeps every page that was asked for.

    A page is read once: the log moves on meanwhile, the core stays as it was.
    """

    __slots__ = ("_file", "notes", "pages", "segments")

    def __init__(self, file: FileIO, shape: Shape) -> None:
        """Read the headers. Raises OSError, struct.error."""
        self.byteorder = "little" if shape.order == "<" else "big"
        self.word_bytes = 8 if shape.wide else 4
        self.pages: dict[int, bytes] = {}
        self._file = file
        self.segments, self.notes = _read_headers(file, shape)

    def read_virtual_partial(self, vaddr: int, length: int) -> Partial:
        """As Memory.read_virtual_partial."""
        data = bytearray()
        lost: list[tuple[int, int]] = []
        while len(data) < length:
            start = (vaddr + len(data)) % PAGE_BYTES
            part = min(length - len(data), PAGE_BYTES - start)
            page = self._page(vaddr + len(data) - start)
            if page is None:
                lost.append((len(data), part))
            data += page[start : start + part] if page else bytes(part)
        return Partial(bytes(data), tuple(lost))

    def physical(self, vaddr: int) -> int | None:
        """Where a page lies in memory, None if /proc/kcore does not say."""
        segment = self._segment(vaddr)
        if segment is None or segment.paddr in {0, (1 << 8 * self.word_bytes) - 1}:
            return None
        return segment.paddr + vaddr - segment.vaddr

    def _page(self, vaddr: int) -> bytes | None:
        if vaddr not in self.pages and len(self.pages) < PAGES_MAX:
            segment = self._segment(vaddr)
            if segment is not None:
                data = os.pread(self._file.fileno(), PAGE_BYTES, segment.offset + vaddr - segment.vaddr)
                if len(data) == PAGE_BYTES:
                    self.pages[vaddr] = data
        return self.pages.get(vaddr)

    def _segment(self, vaddr: int) -> Segment | None:
        for segment in self.segments:
            if segment.vaddr <= vaddr and vaddr + PAGE_BYTES <= segment.vaddr + segment.size:
                return segment
        return None


def make_core(root: Path, remark: str, now: float | None = None) -> bytes:
    """Make the core of one drill. root: where /proc lies. remark: goes into a note. now: seconds since 1970.

    Every core is another dump, for it holds a random number.
    """
    shape = native_shape()
    memory = _running_memory(root, shape)
    pages = dict(memory.pages) if memory else {}
    places = {page: place for page in pages if memory and (place := memory.physical(page)) is not None}
    text = f"{remark}\n{os.urandom(16).hex()}\n".encode()
    if not pages:
        pages[PAGE_BYTES] = text.ljust(PAGE_BYTES, b"\n")[:PAGE_BYTES]
    info = _info(memory, int(time.time() if now is None else now))
    notes = _note(b"VMCOREINFO", NT_VMCOREINFO, info, shape) + _note(TEXT_NAME, TEXT_KIND, text[:TEXT_BYTES_MAX], shape)
    return _build(shape, notes, list(_runs(pages, places, 1 << (40 if shape.wide else 28))))


def native_shape(program: str = sys.executable) -> Shape:
    """The shape of this machine's ELF files, as this interpreter has it. Raises OSError."""
    with open(program, "rb") as file:
        head = file.read(20)
    assert head[:4] == b"\x7fELF", program
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    return Shape(head[:7] + bytes(9), machine, head[4] == 2, order)


def _running_memory(root: Path, shape: Shape) -> RunningMemory | None:
    """What can be had of the running kernel, with the pages of its name and log; None if that is nothing."""
    try:
        with open(root / "proc/kcore", "rb", buffering=0) as file:
            memory = RunningMemory(file, shape)
            info = Vmcoreinfo.parse(vmcoreinfo_text(memory.notes, memory.byteorder) or b"")
            memory.read_virtual(uts_address(info), UTS_BYTES)
            read_log(memory, info)
            return memory
    except (OSError, struct.error, KernelDataError):
        return None


def _info(memory: RunningMemory | None, now: int) -> bytes:
    """VMCOREINFO, with the time of the drill as the time of the crash."""
    known = vmcoreinfo_text(memory.notes, memory.byteorder) if memory else None
    if known is None:
        known = f"OSRELEASE={os.uname().release}\nPAGESIZE={os.sysconf('SC_PAGESIZE')}\n".encode()
    return known.rstrip(b"\0\n") + f"\nCRASHTIME={now}\n".encode()


def _read_headers(file: FileIO, shape: Shape) -> tuple[list[Segment], bytes]:
    """The PT_LOADs and notes of a core as large as the address space, whose sizes only this reader must believe."""
    head = os.pread(file.fileno(), 64, 0)
    if head[:4] != b"\x7fELF":
        raise OSError("not ELF")
    wide = head[4] == 2
    order = shape.order
    phoff, size, count = (
        (*struct.unpack_from(order + "Q", head, 32), *struct.unpack_from(order + "HH", head, 54))
        if wide
        else (*struct.unpack_from(order + "I", head, 28), *struct.unpack_from(order + "HH", head, 42))
    )
    table = os.pread(file.fileno(), size * count, phoff)
    segments: list[Segment] = []
    notes = b""
    for at in range(0, len(table) - size + 1, size):
        if wide:
            kind, _, offset, vaddr, paddr, filesz = struct.unpack_from(order + "IIQQQQ", table, at)
        else:
            kind, offset, vaddr, paddr, filesz = struct.unpack_from(order + "IIIII", table, at)
        if kind == PT_NOTE:
            notes += os.pread(file.fileno(), min(filesz, NOTES_BYTES_MAX), offset)
        elif kind == PT_LOAD:
            segments.append(Segment(offset, vaddr, paddr, filesz))
    return segments, notes


def _runs(pages: Mapping[int, bytes], places: Mapping[int, int], vacant: int) -> Iterator[tuple[int, int, bytes]]:
    """Virtual address, physical address and content of pages that follow each other in both. vacant: address for a page
    whose place in memory is not known, and on.
    """
    vaddr = paddr = 0
    content = b""
    for page in sorted(pages):
        place = places.get(page, vacant)
        vacant += PAGE_BYTES
        if content and (page, place) == (vaddr + len(content), paddr + len(content)):
            content += pages[page]
            continue
        if content:
            yield vaddr, paddr, content
        vaddr, paddr, content = page, place, pages[page]
    yield vaddr, paddr, content


def _build(shape: Shape, notes: bytes, runs: Sequence[tuple[int, int, bytes]]) -> bytes:
    ehdr_bytes, phdr_bytes, shdr_bytes = (64, 56, 64) if shape.wide else (52, 32, 40)
    word = "Q" if shape.wide else "I"
    ehdr = shape.ident + struct.pack(
        f"{shape.order}HHI{word}{word}{word}IHHHHHH",
        ET_CORE, shape.machine, 1, 0, ehdr_bytes, 0, 0, ehdr_bytes, phdr_bytes, 1 + len(runs), shdr_bytes, 0, 0,
    )  # fmt: skip
    notes_at = ehdr_bytes + phdr_bytes * (1 + len(runs))
    at = _aligned(notes_at + len(notes), PAGE_BYTES)
    phdrs = [_phdr(shape, PT_NOTE, notes_at, (0, 0), len(notes))]
    for vaddr, paddr, content in runs:
        phdrs.append(_phdr(shape, PT_LOAD, at, (vaddr, paddr), len(content)))
        at += len(content)
    head = ehdr + b"".join(phdrs) + notes
    return head.ljust(_aligned(len(head), PAGE_BYTES), b"\0") + b"".join(content for _, _, content in runs)


def _aligned(length: int, unit: int) -> int:
    return -(-length // unit) * unit


def _phdr(shape: Shape, kind: int, offset: int, place: tuple[int, int], size: int) -> bytes:
    vaddr, paddr = place
    if shape.wide:
        return struct.pack(shape.order + "IIQQQQQQ", kind, PF_RWX, offset, vaddr, paddr, size, size, 0)
    return struct.pack(shape.order + "IIIIIIII", kind, offset, vaddr, paddr, size, size, PF_RWX, 0)


def _note(name: bytes, kind: int, content: bytes, shape: Shape) -> bytes:
    head = struct.pack(shape.order + "III", len(name) + 1, len(content), kind)
    return head + name.ljust(_aligned(len(name) + 1, 4), b"\0") + content.ljust(_aligned(len(content), 4), b"\0")
