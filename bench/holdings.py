"""A collector that has many dumps, each small and without a vmcore: what a start, a list and a look at one cost."""

from __future__ import annotations

import secrets
import subprocess
import time
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import ingest
from bench.process import ANYWHERE, PYTHON, BenchError, service
from netdump.index.catalog import STORE_NAME
from netdump.store.intake import verify_chunk
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump

if TYPE_CHECKING:
    from pathlib import Path

    from bench.process import Launcher

MIB: Final = 1 << 20
HOSTS: Final = 4000
HEADER: Final = ("start", "collector peak", "list of all", "list of 100", "show")
CONFIG: Final = "[store]\nkeep_vmcore = false\n[scrub]\nenabled = false\n"


def fill(folder: Path, first: int, last: int) -> None:
    """Put dumps of that many hosts, complete and acknowledged, into the store of a collector that does not run."""
    store = Store(folder / STORE_NAME)
    for number in range(first, last):
        sample = SampleDump(number, image_bytes=12_288, chunk_bytes=8192, host=f"host{number % HOSTS}")
        with store.open_writer(sample.origin) as writer:
            writer.put_headline(sample.headline)
            for chunk in sample.chunks:
                writer.append(chunk, len(verify_chunk(chunk)))
            writer.put_receipt(sample.receipt(writer.finish(sample.root)))


def measure(folder: Path, launcher: Launcher, rounds: int) -> tuple[str, ...]:
    """The cells of HEADER: medians in seconds, the largest peak in MiB. The first start, which fills the index, and
    the first list are not counted.
    """
    starts, peaks = [], []
    for _ in range(rounds + 1):
        seconds, peak = _start(folder)
        starts.append(seconds)
        peaks.append(peak)
    one = secrets.choice(Store(folder / STORE_NAME).candidates())
    asked = (["list"], ["list", "--limit", "100"], ["show", one])
    argvs = [[PYTHON, "-m", "netdump", *command, "--root", str(folder)] for command in asked]
    times = [[launcher.measure(argv, ANYWHERE).seconds for argv in argvs] for _ in range(rounds + 1)]
    medians = [f"{median(each):.2f}" for each in zip(*times[1:], strict=True)]
    return f"{median(starts[1:]):.2f}", f"{max(peaks[1:]) / MIB:.1f}", *medians


def _start(folder: Path) -> tuple[float, int]:
    """Seconds until a collector is ready, and its peak memory by then, bytes."""
    argv = [PYTHON, "-m", "netdump", "serve", str(folder), "--ingest", "127.0.0.1:0", "--api", "127.0.0.1:0"]
    begun = time.perf_counter()
    log = folder / "serve.log"
    with log.open("w") as errors, service(argv, ANYWHERE, errors, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchError(f"the collector did not start:\n{log.read_text()}")
        return time.perf_counter() - begun, ingest.peak(process.pid)
