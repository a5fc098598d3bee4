"""Two dumps that tests offer to a collector, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump import wire
from netdump.testing.sample_dump import SampleDump

if TYPE_CHECKING:
    from pathlib import Path

DUMP = SampleDump(seed=41, image_bytes=400_000, chunk_bytes=16_384)
OTHER = SampleDump(seed=42, image_bytes=50_000)
ENDS = [0, *(chunk.offset + chunk.length for chunk in DUMP.chunks)]


def vmcore(folder: Path, dump: SampleDump) -> bytes:
    return (folder / "dumps" / dump.origin.id / "vmcore").read_bytes()


def code_of(answer: wire.Message | None) -> object:
    assert isinstance(answer, wire.Decline | wire.Error), answer
    return answer.code
