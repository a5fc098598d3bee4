"""Which page frames makedumpfile keeps of a core: the second bitmap of its kdump-compressed output, frame by frame.

Format: makedumpfile IMPLEMENTATION, kdump-world b.6.
"""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTOR = struct.Struct("<qIIQ")


class Kept(NamedTuple):
    """Frames that the core shows, that were kept, and that were kept but hold nothing but zeros."""

    there: set[int]
    kept: set[int]
    zero: set[int]


def version(program: str) -> tuple[int, ...]:
    """Of makedumpfile."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said.stdout + said.stderr)
    assert found is not None
    return tuple(map(int, found.groups()))


def exclude(program: str, core: Path, level: int, target: Path) -> tuple[Kept, float]:
    """Run makedumpfile at a level. Returns what it kept, and the seconds of `Excluding unnecessary pages`."""
    arguments = [program, "-c", "-d", str(level), "--message-level", "31", str(core), str(target)]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True)
    steps = re.findall(r"STEP \[Excluding unnecessary pages\]\s*: ([0-9.]+) seconds", said.stdout + said.stderr)
    kept = read(target)
    target.unlink()
    return kept, sum(map(float, steps))


def read(path: Path) -> Kept:
    """The frames of a kdump-compressed file."""
    with path.open("rb") as file:
        header = file.read(4096)
        assert header.startswith(b"KDUMP   ")
        block, sub_blocks, bitmap_blocks = struct.unpack_from("<iII", header, 428)
        if block == 4096:
            file.seek(block + 96)
            frames = int.from_bytes(file.read(8), "little")
        else:  # written by a 32-bit makedumpfile
            block, sub_blocks, bitmap_blocks, frames = struct.unpack_from("<iIII", header, 416)
        file.seek((1 + sub_blocks) * block)
        bitmaps = file.read(bitmap_blocks * block)
        there, kept = (_frames(bitmaps[half : half + len(bitmaps) // 2], frames) for half in (0, len(bitmaps) // 2))
        file.seek((1 + sub_blocks + bitmap_blocks) * block)
        descriptors = list(DESCRIPTOR.iter_unpack(file.read(DESCRIPTOR.size * len(kept))))
        shared = Counter(offset for offset, *_ in descriptors)
        zero = set()
        for pfn, (offset, size, flags, _) in zip(kept, descriptors, strict=True):
            if shared[offset] > 1:  # all zero pages share one place
                zero.add(pfn)
            elif size < 64 and flags & 1:
                file.seek(offset)
                if not any(zlib.decompress(file.read(size))):
                    zero.add(pfn)
    return Kept(set(there), set(kept), zero)


def _frames(bitmap: bytes, frames: int) -> list[int]:
    return [
        index * 8 + bit
        for index, byte in enumerate(bitmap)
        if byte
        for bit in range(8)
        if byte >> bit & 1 and index * 8 + bit < frames
    ]
