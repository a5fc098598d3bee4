"""What a fetch that was killed costs, and what reading somewhere in the middle of a dump costs."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.process import PYTHON, BenchError
from netdump.pki.bundle import Bundle
from netdump.remote.api import ApiClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.upload import Arena
    from netdump.index.reading import FetchPlan

ROUNDS: Final = 5
PIECE_BYTES: Final = 1 << 16
POLL_SECONDS: Final = 0.001
TIMEOUT: Final = 120.0

Row = tuple[str, ...]


def resume(arena: Arena, dump_id: str, target: Path) -> list[Row]:
    """A fetch in one go, and one that is killed when half of it has come and started again: (what, s, MB)."""
    whole, killed, again = [], [], []
    transferred = [0.0, 0.0]
    argv = [PYTHON, "-m", "netdump", "fetch", dump_id, "-o", str(target), "--config", str(arena.collector.analyst)]
    argv += ["--json", "--transfer", "plain"]
    for _ in range(ROUNDS):
        whole.append(arena.launcher.measure(argv, arena.client).seconds)
        size = json.loads(_object(arena.launcher.output()))["transferred_bytes"]
        target.unlink()
        killed.append(_until_half(arena.client.command(argv), target, size / 2))
        staged = _staged(target)
        again.append(arena.launcher.measure(argv, arena.client).seconds)
        rest = json.loads(_object(arena.launcher.output()))["transferred_bytes"]
        if staged + rest < size:
            raise BenchError(f"of {size} bytes {staged} had come, and {rest} came later")
        transferred = [size / 1e6, (staged + rest) / 1e6]
        target.unlink()
    return [
        ("in one go", f"{median(whole):.2f}", f"{transferred[0]:.1f}"),
        ("killed at half", f"{median(killed):.2f}", ""),
        ("the same command again", f"{median(again):.2f}", f"{transferred[1]:.1f} in all"),
    ]


def seek(arena: Arena, dump_id: str) -> list[Row]:
    """Reading 64 KiB of the first, a middle and the last segment of a dump, on an open connection: (what, ms)."""
    with ApiClient.of_bundle(Bundle.load(arena.collector.analyst)) as client:
        plan = client.plan(dump_id)
        rows: list[Row] = [("plan of the dump", f"{_median_ms(partial(client.plan, dump_id)):.1f}")]
        last = len(plan.segments) - 1
        for name, number in (("first", 0), ("middle", last // 2), ("last", last)):
            where = plan.segments[number].start / (1 << 30)
            took = _median_ms(partial(_read, client, plan, number))
            rows.append((f"64 KiB of the {name} segment, at {where:,.1f} GiB of the image", f"{took:.1f}"))
    return rows


def _read(client: ApiClient, plan: FetchPlan, number: int) -> None:
    segment = plan.segments[number]
    pieces = client.read_segment(plan.id, segment.name, max(0, segment.bytes - PIECE_BYTES))
    if not sum(map(len, pieces)):
        raise BenchError(f"segment {segment.name} is empty")


def _median_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(2 * ROUNDS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return median(times) * 1e3


def _until_half(argv: list[str], target: Path, wanted: float) -> float:
    """Start a fetch and kill it when that many bytes have come. Returns its seconds."""
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while _staged(target) < wanted:
            if process.poll() is not None or time.perf_counter() - begun > TIMEOUT:
                raise BenchError("the fetch was over before half of it had come")
            time.sleep(POLL_SECONDS)
    finally:
        process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise BenchError("the fetch was over before it could be killed")
    return time.perf_counter() - begun


def _staged(target: Path) -> int:
    folder, staged = target.with_name(target.name + ".netdump-partial"), 0
    for path in folder.glob("*.seg*"):
        with suppress(FileNotFoundError):  # the fetch goes on
            staged += path.stat().st_size
    return staged


def _object(output: str) -> str:
    """The JSON object of what a command printed, behind its lines of progress."""
    return output[output.index("{") :]
