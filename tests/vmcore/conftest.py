"""Real cores: the bundled sample always, the whole one where its folder is at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

import netdump

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE = Path(netdump.__file__).parent / "samples" / "x86_64-6.1-256M.d31.elf.zst"
VMCORES = Path(os.environ.get("NETDUMP_VMCORES", Path(__file__).parents[2].parent / "shared" / "vmcores"))


def _decompressed(compressed: Path, folder: Path) -> Iterator[Path]:
    path = folder / compressed.stem
    with compressed.open("rb") as source, path.open("wb") as target:
        zstandard.ZstdDecompressor(max_window_size=1 << 27).copy_stream(source, target)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundled core: makedumpfile -E -d 31 of a real crash."""
    yield from _decompressed(SAMPLE, tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same crash as /proc/vmcore showed it, 218 MB."""
    compressed = VMCORES / "x86_64-6.1-256M.elf.zst"
    if not compressed.exists():
        pytest.skip(f"no {compressed.name} in {VMCORES} (NETDUMP_VMCORES)")
    yield from _decompressed(compressed, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def dmesg() -> bytes:
    """What makedumpfile --dump-dmesg 1.7.2 reads out of either."""
    return (Path(__file__).parent / "data" / "x86_64-6.1-256M.dmesg.txt").read_bytes()
