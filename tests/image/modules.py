"""Kernel modules as small as the builder reads them, and trees of them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def kernel_module(facts: Mapping[str, str], firmware: Sequence[str] = ()) -> bytes:
    """A relocatable ELF64 file with a section .modinfo."""
    pairs = [*facts.items(), *(("firmware", name) for name in firmware)]
    modinfo = b"".join(f"{key}={value}\0".encode() for key, value in pairs)
    names = b"\0.modinfo\0.shstrtab\0"
    data = 64
    sections = [(0, 0, 0, 0), (1, 1, data, len(modinfo)), (10, 3, data + len(modinfo), len(names))]
    table = data + len(modinfo) + len(names)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, len(sections), 2)
    rows = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0) for name, kind, at, size in sections
    )
    return header + modinfo + names + rows


def write_tree(
    root: Path,
    release: str,
    dependencies: Mapping[str, Sequence[str]],
    softdep: str = "",
    builtin: str = "",
    *,
    alias: str = "",
) -> None:
    """A /lib/modules folder. dependencies: module -> what it needs. The others: depmod's files of that name."""
    folder = root / "lib/modules" / release
    (folder / "kernel").mkdir(parents=True)
    lines = []
    for name, needs in dependencies.items():
        (folder / f"kernel/{name}.ko").write_bytes(kernel_module({"name": name}))
        lines.append(f"kernel/{name}.ko: {' '.join(f'kernel/{need}.ko' for need in needs)}".rstrip())
    (folder / "modules.dep").write_text("\n".join(lines) + "\n")
    (folder / "modules.softdep").write_text(softdep)
    (folder / "modules.builtin").write_text(builtin)
    (folder / "modules.alias").write_text(alias)
