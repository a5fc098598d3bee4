"""One image of the scale stage: sent, reassembled, listed, verified and fetched; the time and the memory that takes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import ingest, interruption, upload
from bench.process import PYTHON, BenchError, run

if TYPE_CHECKING:
    from pathlib import Path

MIB: Final = 1 << 20
HEADER: Final = ("send", "client peak", "collector peak", "reassembly", "list", "verify", "fetch")


@dataclass(frozen=True, slots=True)
class Round:
    """What one took: seconds, and peak memory in bytes."""

    send: float
    client_peak: int
    far_peak: int
    reassembly: float
    others: tuple[float, ...]  # list, verify, fetch


def measure(arena: upload.Arena, core: Path, rounds: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The cells of HEADER, and the rows of reading here and there. Times are medians, peaks the largest.

    The arena is new for each image: a collector has some MiB more after each of its first dumps, of whatever size.
    """
    done: list[Round] = []
    places: list[tuple[str, ...]] = []
    for _ in range(rounds):
        one, places = _round(arena, core)
        done.append(one)
    times = [f"{median(each):.2f}" for each in zip(*(one.others for one in done), strict=True)]
    cells = (
        f"{median(one.send for one in done):.2f}",
        f"{max(one.client_peak for one in done) / MIB:.1f}",
        f"{max(one.far_peak for one in done) / MIB:.1f}",
        f"{median(one.reassembly for one in done):.2f}",
        *times,
    )
    return cells, places


def _round(arena: upload.Arena, core: Path) -> tuple[Round, list[tuple[str, ...]]]:
    collector, launcher, target = arena.collector, arena.launcher, arena.far_folder / "fetched"
    ingest.reset_peak(collector.pid)
    sent = launcher.measure(upload.send_command(core, collector.host, "-d", "1"), arena.client)
    (dump,) = collector.settle()
    far = ingest.peak(collector.pid)
    reassembly = float(run([PYTHON, "-m", "bench.reassembly", str(collector.folder), dump.id], arena.client))
    reader = ["--config", str(collector.analyst)]
    commands = (["list"], ["verify", dump.id], ["fetch", dump.id, "-o", str(target)])
    argvs = [[PYTHON, "-m", "netdump", *command, *reader] for command in commands]
    times = tuple(launcher.measure(argv, arena.client).seconds for argv in argvs)
    if target.stat().st_size != core.stat().st_size:
        raise BenchError(f"{target} has another size than {core}")
    target.unlink()
    places = interruption.seek(arena, dump.id)
    collector.clear()
    return Round(sent.seconds, sent.peak_bytes, far, reassembly, times), places
