"""Which page frames makedumpfile keeps of a core: the second bitmap of its kdump-compressed output, frame by frame.

Format: makedumpfile IMPLEMENTATION, kdump-world b.6. NETDUMP_MAKEDUMPFILE: the folder of the newest makedumpfile, one
for each of amd64, i386 and arm64; ./run e2e fetches them. Each reads cores of its own architecture only.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

NATIVE = {"x86_64": ("amd64", "i386"), "aarch64": ("arm64",)}
EMULATORS = {"amd64": "qemu-x86_64", "i386": "qemu-i386", "arm64": "qemu-aarch64"}
PAGE_SIZES = (4096, 16384, 65536)


class Program(NamedTuple):
    """A makedumpfile. words: how it is started."""

    words: tuple[str, ...]
    version: tuple[int, ...]

    def exclude(self, core: Path, level: int, target: Path) -> set[int]:
        """Run it at a level. Returns what it kept."""
        arguments = [*self.words, "-c", "-d", str(level), "--message-level", "4", str(core), str(target)]
        said = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
        kept = read(target)
        target.unlink()
        return kept


@cache
def installed() -> Program:
    """That of the machine; skips the test if there is none."""
    if shutil.which("makedumpfile") is None:
        pytest.skip("no makedumpfile; ./run e2e installs it")
    return _program("makedumpfile")


@cache
def newest(architecture: str = "amd64") -> Program:
    """The newest for an architecture, by Debian's name; skips the test if it is not at hand or cannot be started."""
    root = Path(os.environ.get("NETDUMP_MAKEDUMPFILE", "/nonexistent")) / architecture
    loader = next(root.glob("usr/lib/*/ld-linux*.so.*"), None)
    if loader is None:
        pytest.skip(f"no newest makedumpfile of {architecture} at hand (NETDUMP_MAKEDUMPFILE); ./run e2e fetches it")
    words: tuple[str, ...] = (str(loader), "--library-path", str(loader.parent), str(root / "usr/bin/makedumpfile"))
    if architecture not in NATIVE.get(platform.machine(), ()):
        if shutil.which(EMULATORS[architecture]) is None:
            pytest.skip(f"{EMULATORS[architecture]} is missing; ./run e2e installs it")
        words = (EMULATORS[architecture], *words)
    return _program(*words)


def _program(*words: str) -> Program:
    said = subprocess.run([*words, "-v"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said.stdout + said.stderr)
    assert found is not None
    return Program(words, tuple(map(int, found.groups())))


def read(path: Path) -> set[int]:
    """The frames that a kdump-compressed file has, be they zero or not."""
    with path.open("rb") as file:
        header = file.read(4096)
        assert header.startswith(b"KDUMP   ")
        block, sub_blocks, bitmap_blocks = struct.unpack_from("<iII", header, 428)
        if block in PAGE_SIZES:
            file.seek(block + 96)
            frames = int.from_bytes(file.read(8), "little")
        else:  # written by a 32-bit makedumpfile
            block, sub_blocks, bitmap_blocks, frames = struct.unpack_from("<iIII", header, 416)
        file.seek((1 + sub_blocks) * block + bitmap_blocks * block // 2)
        bitmap = file.read(bitmap_blocks * block // 2)
    return {
        index * 8 + bit
        for index, byte in enumerate(bitmap)
        if byte
        for bit in range(8)
        if byte >> bit & 1 and index * 8 + bit < frames
    }
