"""One image of the scale stage: sent, listed, verified and fetched, with the time and the memory that took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import ingest, interruption, upload
from bench.process import PYTHON, BenchError

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def measure(arena: upload.Arena, core: Path, target: Path) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The cells of a row, and the rows of reading here and there."""
    collector, launcher = arena.collector, arena.launcher
    ingest.reset_peak(collector.pid)
    sent = launcher.measure(upload.send_command(core, collector.host, "-d", "1"), arena.client)
    (dump,) = collector.settle()
    far = ingest.peak(collector.pid) / MIB
    reader = ["--config", str(collector.analyst)]
    commands = (["list"], ["verify", dump.id], ["fetch", dump.id, "-o", str(target)])
    argvs = [[PYTHON, "-m", "netdump", *command, *reader] for command in commands]
    times = [launcher.measure(argv, arena.client).seconds for argv in argvs]
    if target.stat().st_size != core.stat().st_size:
        raise BenchError(f"{target} has another size than {core}")
    target.unlink()
    places = interruption.seek(arena, dump.id)
    collector.clear()
    client = sent.peak_bytes / MIB
    return (f"{sent.seconds:.2f}", f"{client:.1f}", f"{far:.1f}", *(f"{seconds:.2f}" for seconds in times)), places
