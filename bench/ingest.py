"""What one collector takes: many light hosts at once."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

from bench.hosts import DIALS_AT_ONCE, DUMP_ID_BYTES, Cargo, Journey, LightHost

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from bench.collector import Collector

PATIENCE: Final = 300.0
HEADER: Final = (
    "clients",
    "chunks",
    "wire MB/s",
    "raw MB/s",
    "CPU s per wire GB",
    "loop CPU s per wire GB",
    "peak MiB",
    "ack median ms",
    "ack p99 ms",
)

# Of a collector for load: sixty-four hosts send at the same time.
LOAD: Final = ("[limits]", "active_dumps = 64", "[store]", "keep_vmcore = false")


@dataclass(frozen=True, slots=True)
class Load:
    """What a collector did with a number of clients at once. CPU in seconds, of all threads and of the event loop's."""

    clients: int
    seconds: float
    wire_bytes: int
    raw_bytes: int
    cpu: float
    loop_cpu: float
    peak_bytes: int
    ack_seconds: list[float]

    @property
    def ack_median(self) -> float:
        """Seconds from sending a chunk to its acknowledgement."""
        return median(self.ack_seconds)

    @property
    def ack_p99(self) -> float:
        """The same, 99th percentile."""
        return quantiles(self.ack_seconds, n=100)[98] if len(self.ack_seconds) > 1 else self.ack_median

    def cells(self, kind: str) -> tuple[str, ...]:
        """The cells of HEADER. kind: of chunks."""
        return (
            str(self.clients),
            kind,
            f"{self.wire_bytes / self.seconds / 1e6:.0f}",
            f"{self.raw_bytes / self.seconds / 1e6:.0f}",
            f"{self.cpu / self.wire_bytes * 1e9:.2f}",
            f"{self.loop_cpu / self.wire_bytes * 1e9:.2f}",
            f"{self.peak_bytes / (1 << 20):.0f}",
            f"{self.ack_median * 1e3:.0f}",
            f"{self.ack_p99 * 1e3:.0f}",
        )


def load(collector: Collector, contexts: Sequence[ssl.SSLContext], cargo: Cargo, dumps: int) -> Load:
    """Deliver that many dumps for each context's host, all hosts at once."""
    reset_peak(collector.pid)
    before = _cpu(collector.pid)
    begun = time.monotonic()
    journeys = asyncio.run(_deliver_all(collector.ingest_address(), contexts, cargo, dumps))
    seconds = time.monotonic() - begun
    after = _cpu(collector.pid)
    return Load(
        clients=len(contexts),
        seconds=seconds,
        wire_bytes=sum(journey.wire_bytes for journey in journeys),
        raw_bytes=len(journeys) * sum(cargo.raw),
        cpu=after[0] - before[0],
        loop_cpu=after[1] - before[1],
        peak_bytes=peak(collector.pid),
        ack_seconds=[ack for journey in journeys for ack in journey.ack_seconds],
    )


async def _deliver_all(
    address: tuple[str, int], contexts: Sequence[ssl.SSLContext], cargo: Cargo, dumps: int
) -> list[Journey]:
    dials = asyncio.Semaphore(DIALS_AT_ONCE)
    deadline = time.monotonic() + PATIENCE

    async def host(context: ssl.SSLContext) -> list[Journey]:
        names = [secrets.token_bytes(DUMP_ID_BYTES) for _ in range(dumps)]
        return [await LightHost(address, context, cargo, name).deliver(dials, deadline) for name in names]

    return [journey for each in await asyncio.gather(*map(host, contexts)) for journey in each]


def _cpu(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and of its main thread alone. Source: proc(5)."""
    ticks = os.sysconf("SC_CLK_TCK")

    def seconds(path: str) -> float:
        fields = Path(path).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    return seconds(f"/proc/{pid}/stat"), seconds(f"/proc/{pid}/task/{pid}/stat")


def reset_peak(pid: int) -> None:
    """Let the kernel measure the peak memory of a process anew. Source: proc(5), clear_refs 5."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """Peak resident memory of a process, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM"))) * 1024
