"""A fleet behind one address that crashes in the same minute, or second, over links that keep each dump busy: when
headlines and receipts are there, who has to wait how long, and whether that is fair.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

from bench.cores import SEED
from bench.hosts import DUMP_ID_BYTES, LightHost
from bench.report import Table
from netdump.index.record import State

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from bench.collector import Collector
    from bench.hosts import Cargo, Journey

PATIENCE: Final = 300.0
RATE: Final = 1e6
"""Bytes a second that a host's link brings: 8 Mbit/s, so that the seats of the collector are what is short."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """What became of a fleet.

    journeys: of hosts with a receipt. lost: hosts without one within PATIENCE, and those whose dump is not in the
    collector's list, complete. headlines: seconds from each crash until its headline was stored.
    """

    hosts: int
    journeys: list[Journey]
    lost: int
    headlines: list[float]
    seconds: float


def crash(collector: Collector, contexts: Sequence[ssl.SSLContext], cargo: Cargo, within_s: float) -> Crashed:
    """All hosts crash within so many seconds, at times drawn from a fixed seed, and send until they have a receipt."""
    begun = time.monotonic()
    journeys = asyncio.run(_crash_all(collector.ingest_address(), contexts, cargo, within_s))
    seconds = time.monotonic() - begun
    done = [journey for journey in journeys if journey.ended]
    listed = {dump.id for dump in collector.dumps() if dump.state is State.COMPLETE and dump.image_bytes == cargo.size}
    stored = sum(journey.dump_id.hex() in listed for journey in done)
    return Crashed(
        hosts=len(journeys),
        journeys=done,
        lost=len(journeys) - stored,
        headlines=[_headline_seconds(collector, journey) for journey in journeys],
        seconds=seconds,
    )


async def _crash_all(
    address: tuple[str, int], contexts: Sequence[ssl.SSLContext], cargo: Cargo, within_s: float
) -> list[Journey]:
    dials = asyncio.Semaphore(len(contexts))  # hosts know nothing of each other
    deadline = time.monotonic() + PATIENCE
    chance = random.Random(SEED)
    moments = sorted(chance.uniform(0, within_s) for _ in contexts)

    async def host(number: int, context: ssl.SSLContext) -> Journey:
        await asyncio.sleep(moments[number])
        one = LightHost(address, context, cargo, secrets.token_bytes(DUMP_ID_BYTES), rate=RATE)
        try:
            return await one.deliver(dials, deadline)
        except TimeoutError:
            return one.journey

    return await asyncio.gather(*(host(number, context) for number, context in enumerate(contexts)))


def _headline_seconds(collector: Collector, journey: Journey) -> float:
    """How long after its crash a host's headline was in the store: when the file was made says it. inf: it is not."""
    try:
        made = (collector.folder / "dumps" / journey.dump_id.hex() / "headline").stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    return made - (time.time() - time.monotonic()) - journey.began


def table(key: str, crashed: Crashed, image_bytes: int, within_s: float) -> Table:
    """What is shown of it."""
    done = crashed.journeys
    waits = [journey.admitted - journey.began for journey in done if journey.waits or journey.deferred]
    waiting = most_at_once(wait for journey in done for wait in journey.waits)
    seated = most_at_once((journey.admitted, journey.ended) for journey in done)
    rows: list[tuple[str, ...]] = [
        ("hosts, each with a dump of its own", f"{crashed.hosts}"),
        ("delivered, and complete in the collector's list", f"{crashed.hosts - crashed.lost}"),
        ("all of it, s", f"{crashed.seconds:.0f}"),
        ("headline durable, median, p99, slowest, s after the crash", _spread(crashed.headlines, 2)),
        ("receipt, median, p99, slowest, s after the crash", _spread([each.ended - each.began for each in done], 1)),
        ("had to wait for other dumps, their headline delivered", str(len(waits))),
        ("until they might send, median, p99, longest, s after the crash", _spread(waits, 1)),
        ("sent at once, waited connected at once, at most", f"{seated}, {waiting}"),
        ("told to come back; how often one host at most", _counts([journey.deferred for journey in done])),
        ("connections of one host, at most", str(max((journey.attempts for journey in done), default=0))),
        ("admitted later than by order of crash, median, p99, most, s", _spread(lateness(done), 1)),
    ]
    when, link = f"within {within_s:.0f} s", f"{8 * RATE / 1e6:.0f} Mbit/s each"
    title = f"{crashed.hosts} hosts behind one address crash {when}, {image_bytes / 1e6:.1f} MB over {link}"
    return Table(key, title, ("what", "figure"), rows)


def lateness(journeys: Sequence[Journey]) -> list[float]:
    """By how much each was admitted later than if the same admissions had gone by order of crash; 0 if not later."""
    arrived = sorted(journeys, key=lambda journey: journey.began)
    turns = sorted(journey.admitted for journey in journeys)
    return [max(0.0, journey.admitted - turn) for journey, turn in zip(arrived, turns, strict=True)]


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many of these (from, to) overlap, at most."""
    steps = sorted(step for start, end in spans for step in ((start, 1), (end, -1)))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def _counts(deferred: Sequence[int]) -> str:
    return f"{sum(times > 0 for times in deferred)}; {max(deferred, default=0)}"


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    p99 = quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]
    return ", ".join(f"{value:.{digits}f}" for value in (median(values), p99, max(values)))
