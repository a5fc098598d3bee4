"""The cores that are sent: a real one, a generated one of realistic mix, and one of a few KiB.

All are dense files: in a capture kernel zero pages are memory like any other, and a hole in a file would let netdump,
which asks for holes, win time that it does not win there. Generated cores are the same on every machine of one
distribution: seeded, but made in part of the files that are installed.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.process import BenchError, run
from netdump import samples
from netdump.testing.elf_writer import Core, Load, NoteSegment, prstatus_note
from netdump.testing.struct_page_writer import ERAS
from netdump.testing.vast_machine import VastMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GIB: Final = 1 << 30
MIB: Final = 1 << 20
PAGE: Final = 4096
SEED: Final = 20261127
REAL_NAME: Final = "x86_64-6.1-256M.elf.zst"

MIX: Final = {"zero": 25, "text": 10, "binaries": 25, "heaps": 30, "random": 10}
"""Shares of the generated core, percent."""

_NOTES: Final = NoteSegment(prstatus_note(1, bytes(27 * 8)))
_MATERIAL_BYTES: Final = 48 * MIB
_RUN_PAGES: Final = (1, 64)  # pages of one kind that lie side by side


def real_core(folder: Path) -> Path:
    """The unfiltered core of a real crash (218 MB); without NETDUMP_VMCORES the bundled sample, filtered (95 MB)."""
    where = os.environ.get("NETDUMP_VMCORES", "")
    packed = Path(where) / REAL_NAME if where else samples.CORE
    target = folder / packed.stem
    if not target.exists():
        if not packed.exists():
            raise BenchError(f"{packed} does not exist: set NETDUMP_VMCORES to the folder of real cores")
        partial = target.with_suffix(".partial")
        run(["zstd", "-q", "-d", "--long=27", "--no-sparse", "-f", "-o", str(partial), str(packed)])
        partial.rename(target)
    return warmed(target)


def mixed_core(folder: Path, size: int) -> Path:
    """A generated core with about size bytes of memory, mixed as MIX says, in runs of 1 to 64 pages."""
    target = folder / f"mixed-{size // MIB}.elf"
    if not target.exists():
        partial = target.with_suffix(".partial")
        with partial.open("wb") as file:
            headers = Core([Load(0x100000, size, vaddr=0xFFFF888000100000)], [_NOTES])
            headers.write(partial)
            (load,) = (segment for segment in headers.segments() if segment.filesz == size)
            file.seek(load.offset)
            for piece in _mixed_pages(size // PAGE, random.Random(SEED)):
                file.write(piece)
        partial.rename(target)
    return warmed(target)


def tiny_core(folder: Path) -> Path:
    """A core of 10 KiB, for start-up alone."""
    target = folder / "tiny.elf"
    memory = random.Random(SEED).randbytes(PAGE)
    Core([Load(0x100000, PAGE, {0: memory}, vaddr=0xFFFF888000100000)], [_NOTES]).write(target)
    return warmed(target)


def small_core(folder: Path) -> Path:
    """2 MiB of memory that do not compress, for many hosts at once."""
    target = folder / "small.elf"
    memory = random.Random(SEED).randbytes(2 * MIB)
    Core([Load(0x100000, 2 * MIB, {0: memory}, vaddr=0xFFFF888000100000)], [_NOTES]).write(target)
    return target


def sparse_core(folder: Path, gib: int, data_mib: int = 64) -> Path:
    """An image of that many GiB with so much data, in pieces of 4 MiB, half of each random, with holes between them."""
    target = folder / f"sparse-{gib}-{data_mib}.elf"
    size, part = gib * GIB, 4 * MIB
    half, count = part // 2, data_mib * MIB // part
    piece = random.Random(SEED).randbytes(half) + bytes([7]) * half
    pieces = {number * (size // count): piece for number in range(count)}
    Core([Load(0x100000000, size, pieces, vaddr=0xFFFF888100000000)], [_NOTES]).write(target)
    with target.open("rb") as file:
        os.fsync(file)  # the kernel has nothing to write while something is measured
    return target


def vast_core(folder: Path, gib: int) -> Path:
    """A machine of that many GiB with struct pages, made for the page filter; takes a few MiB of disk."""
    target = folder / f"vast-{gib}.elf"
    VastMachine.build(ERAS["6.12"], gib * GIB).core().write(target)
    return target


def warmed(path: Path) -> Path:
    """The file, read once, so that it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(MIB)
        while file.readinto(buffer):
            pass
    return path


def _mixed_pages(pages: int, chance: random.Random) -> Iterator[bytes]:
    makers: dict[str, Callable[[int], bytes]] = {
        "zero": lambda count: bytes(count * PAGE),
        "text": _Cutter(_files("/usr/share", "/usr/lib/python3", suffixes=(".py", ".txt", "copyright", ".h")), chance),
        "binaries": _Cutter(_files("/usr/bin", "/usr/lib/x86_64-linux-gnu", suffixes=("",)), chance),
        "heaps": _Cutter(_heap(chance), chance),
        "random": lambda count: chance.randbytes(count * PAGE),
    }
    kinds, shares = list(MIX), list(MIX.values())
    while pages:
        (kind,) = chance.choices(kinds, shares)
        count = min(pages, chance.randint(*_RUN_PAGES))
        yield makers[kind](count)
        pages -= count


class _Cutter:
    """Stretches of some material, from anywhere in it; each page is numbered, so that none is there twice."""

    def __init__(self, material: bytes, chance: random.Random) -> None:
        self._material = material
        self._chance = chance
        self._count = 0

    def __call__(self, pages: int) -> bytes:
        start = self._chance.randrange(0, len(self._material) - pages * PAGE, 16)
        piece = bytearray(self._material[start : start + pages * PAGE])
        for at in range(0, len(piece), PAGE):
            self._count += 1
            struct.pack_into("<Q", piece, at, self._count)
        return bytes(piece)


def _files(*folders: str, suffixes: tuple[str, ...]) -> bytes:
    """Contents of installed files, in the order of their names, up to what is needed."""
    parts: list[bytes] = []
    total = 0
    for folder in folders:
        share, budget = 0, _MATERIAL_BYTES // len(folders)
        for path in sorted(Path(folder).rglob("*")):
            if share >= budget:
                break
            if path.is_file() and not path.is_symlink() and path.name.endswith(suffixes):
                parts.append(path.read_bytes()[: budget - share])
                share += len(parts[-1])
        total += share
    if total < 4 * MIB:
        raise BenchError(f"{', '.join(folders)} hold too little to make a core of")
    return b"".join(parts)


def _heap(chance: random.Random) -> bytes:
    """What allocators leave in memory: headers, pointers into a few arenas, small integers, short strings, zeros."""
    arenas = [0x7F0000000000 + (chance.getrandbits(28) << 12) for _ in range(16)]
    words = [word.encode() for word in ("name", "inode", "GET /", "eth0", "session", "utf-8", "0.0.0.0", "error")]
    parts: list[bytes] = []
    total = 0
    while total < _MATERIAL_BYTES:
        size = chance.choice((32, 48, 64, 96, 128, 256, 512, 1024))
        fields = [struct.pack("<QQ", size | 1, chance.getrandbits(8))]
        for _ in range(size // 8 - 2):
            draw = chance.random()
            if draw < 0.35:
                fields.append(struct.pack("<Q", chance.choice(arenas) + (chance.getrandbits(20) << 4)))
            elif draw < 0.60:
                fields.append(struct.pack("<Q", chance.getrandbits(12)))
            elif draw < 0.70:
                fields.append(chance.choice(words).ljust(8, b"\0")[:8])
            elif draw < 0.75:
                fields.append(chance.randbytes(8))
            else:
                fields.append(bytes(8))
        parts.append(b"".join(fields))
        total += size
    return b"".join(parts)


def need_space(folder: Path, size: int) -> None:
    """Raises BenchError if the folder's file system has less than size free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise BenchError(f"{folder} has {free // MIB} MiB free, {size // MIB} are needed: name another with --folder")
