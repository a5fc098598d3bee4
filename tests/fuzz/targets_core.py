"""What a dead kernel left: ELF headers, notes, VMCOREINFO, log rings, page tables, struct pages; and its kernel log."""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from netdump.analyze.panic import find_panic
from netdump.client.image import build_headline
from netdump.errors import CoreError, KernelDataError, SourceUnreadableError
from netdump.testing.elf_writer import EM_386, EM_X86_64, Core, NoteSegment, note, prstatus_note
from netdump.testing.kernel_writer import DeadKernel, Message
from netdump.testing.memmap_writer import arm64, i386, riscv64, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.filter import open_filter
from netdump.vmcore.identity import ingredients
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.notes import iter_notes, notes_end, vmcoreinfo_text
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import iter_chunks
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from tests.fuzz.target import MIB, Target
from tests.vmcore.doubles import BytesSource, restore
from tests.vmcore.made_up import populate

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from netdump.testing.memmap_writer import Machine
    from netdump.testing.struct_page_writer import Era

_PATCH: Final = struct.Struct(">IB")  # where, how many bytes
_BLOCK: Final = 4096
_FRAMES: Final = 8192  # of a machine
_MACHINES: Final[dict[str, Callable[[Era, int], Machine]]] = {
    "x86_64": x86_64,
    "arm64": arm64,
    "i386": i386,
    "i386 with PAE": partial(i386, pae=True, sparse=True),
    "riscv64": riscv64,
}
_ELSEWHERE: Final = tuple(_MACHINES)[1:]
_CHUNKS_MAX: Final = 200  # of a plan: an image may claim terabytes of nothing


def _core(data: bytes) -> None:
    """A core file: everything the sender does before its first chunk, and the chunks."""
    source = BytesSource(data)
    headers = parse_headers(source.read, source.size)
    image_map = ImageMap(headers)
    facts = read_facts(source, headers, image_map)
    ingredients(source, headers, facts.notes)
    build_headline(headers, facts, facts.remarks)
    chunks = []
    for chunk in iter_chunks(source, image_map, facts.page_bytes):
        chunks.append(chunk._replace(data=memoryview(bytes(chunk.data))))
        if len(chunks) == _CHUNKS_MAX:
            return
    assert restore(chunks) == data


def _notes(data: bytes) -> None:
    for byteorder in ("little", "big"):
        for each in iter_notes(data, byteorder):
            assert len(each.desc) <= len(data)
        assert 0 <= notes_end(data, byteorder) <= len(data)
        info = Vmcoreinfo.parse(vmcoreinfo_text(data, byteorder) or data)
        for read in (info.symbol, info.size, info.offset, info.length, info.number, info.count, info.value):
            read("init_uts_ns")
            read("page.flags")
        with suppress(KernelDataError):
            info.need("SYMBOL", "prb")


class _Ground(NamedTuple):
    """A machine's core with something of everything in the upper half of its 32 MiB."""

    first: int  # frame of its memory
    image: mmap
    used: list[int]  # where the blocks are that something is in: 151 of 8,106 on x86_64


@cache
def _ground(name: str) -> _Ground:
    machine = populate(_MACHINES[name](ERAS["6.1"], _FRAMES * _BLOCK))
    image, nothing = machine.core().map(), bytes(_BLOCK)
    used = [at for at in range(0, len(image), _BLOCK) if image[at : at + _BLOCK] != nothing]
    return _Ground(machine.ram_start // _BLOCK, image, used)


class _Patched(BytesSource):
    """A machine's core with patches, in place: copying all of it would take longer than all that is tested."""

    def __init__(self, ground: _Ground, data: bytes) -> None:
        super().__init__(b"")
        self.memory = memoryview(ground.image)
        self.size = len(self.memory)
        self.before: list[tuple[int, bytes]] = []
        at = 0
        while at + _PATCH.size <= len(data):
            number, length = _PATCH.unpack_from(data, at)
            block, within = divmod(number % (len(ground.used) * _BLOCK), _BLOCK)
            place = ground.used[block] + within
            piece = data[at + _PATCH.size : at + _PATCH.size + length][: self.size - place]
            self.before.append((place, bytes(self.memory[place : place + len(piece)])))
            self.memory[place : place + len(piece)] = piece
            at += _PATCH.size + length

    def undo(self) -> None:
        for place, piece in reversed(self.before):
            self.memory[place : place + len(piece)] = piece

    def read(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise SourceUnreadableError(f"{self.name} cannot be read at {offset}")
        return bytes(self.memory[offset : offset + length])

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        buffer[:] = self.memory[offset : offset + len(buffer)]
        return []


def _filter(data: bytes, name: str = "x86_64") -> None:
    """Patches of a machine's core, each: where in what is used of it (4 bytes), how many bytes (1), the bytes."""
    ground = _ground(name)
    source = _Patched(ground, data)
    try:
        headers = parse_headers(source.read, source.size)
        facts = read_facts(source, headers)
        page_filter = open_filter(source, headers, facts, 31)
        for first in range(ground.first, ground.first + _FRAMES, 512):
            answer = page_filter.classify(first * facts.page_bytes, 512)
            assert sum(pages for _, pages in answer) == 512
    finally:
        source.undo()


def _filter_elsewhere(data: bytes) -> None:
    """First byte: which machine. The rest are patches of its core."""
    if data:
        _filter(data[1:], _ELSEWHERE[data[0] % len(_ELSEWHERE)])


def _panic(data: bytes) -> None:
    found = find_panic(data)
    assert found is None or found.text.isprintable()
    assert found is None or data[found.position : found.position + 1] not in {b"", b"\n"}, "it stands in the log"


def _cores() -> list[bytes]:
    cores = []
    for word, byteorder in ((8, "little"), (4, "little"), (8, "big")):
        for form in ("ring", "records"):
            kernel = DeadKernel(word, byteorder)  # type: ignore[arg-type]  # both are byte orders
            kernel.add_uts(nodename="web1")
            messages = [Message(number * 10**8, b"message %d" % number) for number in range(12)]
            if form == "ring":
                kernel.add_printk_ring(messages, count_bits=4, size_bits=9)
            else:
                kernel.add_printk_records(messages, buffer_bytes=512)
            kernel.lines["CRASHTIME"] = "1795377839"
            notes = prstatus_note(1, bytes(27 * word), word, kernel.byteorder) + kernel.note()
            bits: Literal[32, 64] = 64 if word == 8 else 32
            machine = EM_X86_64 if word == 8 else EM_386
            cores.append(Core([kernel.load()], [NoteSegment(notes)], bits, kernel.byteorder, machine).build())
    return cores


def _note_areas() -> list[bytes]:
    kernel = DeadKernel()
    kernel.add_uts(nodename="web1")
    kernel.add_printk_ring([Message(10**9, b"hello")])
    return [kernel.note(), prstatus_note(7, bytes(27 * 8)) + note(b"X", 9, b"abc") + kernel.note(), kernel.vmcoreinfo()]


def _patches(name: str = "x86_64") -> list[bytes]:
    """No patch; and single bytes at places with something in them: headers, notes, page tables, struct pages."""
    ground, found = _ground(name), [b""]
    for number, at in enumerate(ground.used):
        block = ground.image[at : at + _BLOCK]
        word = len(block) - len(block.lstrip(b"\0"))
        found.append(_PATCH.pack(number * _BLOCK + word, 8) + block[word : word + 8])
    return found


def _patches_elsewhere() -> list[bytes]:
    return [bytes([number]) + patch for number, name in enumerate(_ELSEWHERE) for patch in _patches(name)]


def _logs() -> list[bytes]:
    return [
        b"[    1.000000] Kernel panic - not syncing: Fatal exception\n",
        (
            b"<1>[   14.621216][    T31] BUG: kernel NULL pointer dereference, address: 0000000000000000\n"
            b"[   14.621220] Oops: 0002 [#1] PREEMPT SMP\n[   14.621230] Kernel panic - not syncing: Fatal exception\n"
        ),
        b"[ 1.0] INFO: task a:1 blocked for more than 120 seconds.\n[ 2.0] Kernel panic - not syncing: hung_task: x\n",
        b"[    2.000000] general protection fault, probably for non-canonical address: 0000 [#1] SMP\n",
    ]


TARGETS = (
    Target("core", _core, (CoreError,), _cores, bytes_max=1 << 16, memory_max=48 * MIB, rounds=125),
    Target("notes", _notes, (), _note_areas, bytes_max=1 << 14),
    Target("filter", _filter, (CoreError,), _patches, memory_max=96 * MIB, rounds=25),
    Target("filter-elsewhere", _filter_elsewhere, (CoreError,), _patches_elsewhere, memory_max=96 * MIB, rounds=25),
    Target("panic", _panic, (), _logs, bytes_max=1 << 14),
)
