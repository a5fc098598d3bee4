"""Looks into archives that were packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import zstandard

from netdump.image.cpio import TRAILER

if TYPE_CHECKING:
    from pathlib import Path


class Packed(NamedTuple):
    mode: int
    content: bytes


def unpack(data: bytes) -> dict[str, Packed]:
    """All entries of concatenated zstd frames of archives, as the kernel unpacks them; later ones win."""
    found: dict[str, Packed] = {}
    while data:
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        _read(unpacker.decompress(data), found)
        data = unpacker.unused_data.lstrip(b"\0")
    return found


def write(entries: dict[str, Packed], root: Path) -> None:
    """Make files and folders of entries; devices are left out."""
    for name, entry in entries.items():
        path = root / name
        if entry.mode >> 12 == 4:
            path.mkdir(parents=True, exist_ok=True)
        elif entry.mode >> 12 == 8:
            path.write_bytes(entry.content)
            path.chmod(entry.mode & 0o7777)


def _read(data: bytes, found: dict[str, Packed]) -> None:
    at = 0
    while True:
        fields = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        name = data[at + 110 : at + 109 + fields[11]].decode()
        if name == TRAILER:
            return
        start = at + (110 + fields[11] + 3) // 4 * 4
        found[name] = Packed(fields[1], data[start : start + fields[6]])
        at = start + (fields[6] + 3) // 4 * 4
