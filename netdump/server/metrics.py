"""A collector's numbers as Prometheus reads them, from what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from netdump.server.status import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from netdump.server.status import Report, Status


def exposition(report: Report) -> bytes:
    """Text in the Prometheus exposition format, version 0.0.4.

    What is not known has no sample, so that no alert takes it for a zero.
    """
    registry = CollectorRegistry()
    registry.register(_Numbers(report))
    return generate_latest(registry)


class _Numbers(Collector):
    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        status, troubles = self._report
        topics = {topic for topic, _ in troubles}
        yield _gauge("netdump_up", "1 if a collector runs and has spoken lately, else 0.", int("running" not in topics))
        trouble = GaugeMetricFamily(
            "netdump_trouble", "1 if somebody should see to it: `netdump status`.", labels=["topic"]
        )
        for topic in TOPICS:
            trouble.add_metric([topic], int(topic in topics))
        yield trouble
        if status is not None:
            yield from _of(status)


def _of(status: Status) -> Iterator[Metric]:
    build = GaugeMetricFamily("netdump_build_info", "The version that runs.", labels=["version"])
    build.add_metric([status.version], 1)
    yield build
    yield _gauge("netdump_start_time_seconds", "When the collector started, since 1970.", status.started)
    yield _gauge("netdump_status_time_seconds", "When it last said how it is, since 1970.", status.written)
    if status.dumps is not None:
        dumps = GaugeMetricFamily("netdump_dumps", "Dumps that are stored, by state.", labels=["state"])
        for state, count in status.dumps.items():
            dumps.add_metric([state], count)
        yield dumps
    for name, what, value in (
        ("netdump_stored_bytes", "What all dumps take up.", status.stored_bytes),
        ("netdump_free_bytes", "What is free on the store's file system.", status.free_bytes),
        ("netdump_total_bytes", "The size of that file system.", status.total_bytes),
    ):
        if value is not None:
            yield _gauge(name, what, value)
    events = CounterMetricFamily("netdump_events", "Events in the collector's log since its start.", labels=["event"])
    for event, count in status.events.items():
        events.add_metric([event], count)
    yield events


def _gauge(name: str, what: str, value: int) -> Metric:
    return GaugeMetricFamily(name, what, value)
