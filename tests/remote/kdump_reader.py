"""Reads kdump-compressed files, as makedumpfile's IMPLEMENTATION describes them: the referee of the writer."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from netdump.codec import decompress

if TYPE_CHECKING:
    from pathlib import Path

Frame = bytes | Literal["excluded", "lost"] | None


@dataclass
class Kdump:
    """A file in memory. frames[pfn]: content, or why there is none; None is no memory."""

    uts: list[str]
    seconds: int
    status: int
    block: int
    cpus: int
    phys_base: int
    level: int
    vmcoreinfo: bytes
    notes: bytes
    frames: list[Frame]
    data_bytes: int


def read_kdump(path: Path, word: int = 8, sign: str = "<") -> Kdump:
    data = path.read_bytes()
    assert data[:8] == b"KDUMP   "
    assert struct.unpack_from(sign + "i", data, 8) == (6,)
    uts = [data[12 + 65 * n : 12 + 65 * (n + 1)].partition(b"\0")[0].decode() for n in range(6)]
    seconds = struct.unpack_from(sign + ("q" if word == 8 else "i"), data, 408 if word == 8 else 404)[0]
    at = 424 if word == 8 else 412
    status, block, sub_blocks, bitmap_blocks, max_mapnr, *_, cpus = struct.unpack_from(sign + "IiiIIIIIIi", data, at)
    layout = {8: "=QiiQQQQQQQQQQQ", 4: "=IiiIIQIQIQIQQQ"}[word].replace("=", sign)
    sub = struct.unpack_from(layout, data, block)
    phys_base, level, split = sub[:3]
    assert (split, sub[13]) == (0, max_mapnr)
    half = bitmap_blocks // 2 * block
    bitmaps = block * (1 + sub_blocks)
    descriptors = bitmaps + 2 * half
    assert half * 8 >= max_mapnr
    known = int.from_bytes(data[bitmaps : bitmaps + half], "little")
    stored = int.from_bytes(data[bitmaps + half : descriptors], "little")
    assert not (stored & ~known) >> 0
    assert known.bit_length() == max_mapnr
    frames: list[Frame] = []
    number = 0
    for frame in range(max_mapnr):
        if not stored >> frame & 1:
            frames.append("excluded" if known >> frame & 1 else None)
            continue
        desc = struct.unpack_from(sign + "QIIQ", data, descriptors + 24 * number)
        frames.append(_page(data, desc, block))
        number += 1
    first_data = descriptors + 24 * number
    return Kdump(
        uts, seconds, status, block, cpus, phys_base, level,
        data[sub[5] : sub[5] + sub[6]], data[sub[7] : sub[7] + sub[8]], frames, len(data) - first_data,
    )  # fmt: skip


def _page(data: bytes, desc: tuple[int, ...], block: int) -> Frame:
    position, size, flags, page_flags = desc
    assert page_flags == 0
    if not position:
        assert (size, flags) == (0, 0)
        return "lost"
    raw = data[position : position + size]
    assert len(raw) == size
    assert flags in {0, 1, 0x20}
    page = raw if not flags else zlib.decompress(raw) if flags == 1 else decompress(raw, block)
    assert len(page) == block
    return page
