"""The numbers of a collector, read back as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from netdump.server.metrics import exposition
from netdump.server.status import TOPICS, Report, Trouble
from tests.server.test_status import STATUS, UNKNOWN

Samples = dict[tuple[str, str], float]


def samples(report: Report) -> Samples:
    """Values by name and label."""
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition(report).decode())
        for sample in family.samples
    }


def troubles(found: Samples) -> set[str]:
    named = {label: value for (name, label), value in found.items() if name == "netdump_trouble"}
    assert set(named) == set(TOPICS)
    return {topic for topic, value in named.items() if value}


def test_a_collector_that_runs() -> None:
    found = samples(Report(STATUS, STATUS.troubles))
    assert troubles(found) == {"space"}
    rest = {key: value for key, value in found.items() if key[0] != "netdump_trouble"}
    assert rest == {
        ("netdump_up", ""): 1,
        ("netdump_build_info", "0.1.0"): 1,
        ("netdump_start_time_seconds", ""): STATUS.started,
        ("netdump_status_time_seconds", ""): STATUS.written,
        ("netdump_dumps", "complete"): 3,
        ("netdump_dumps", "damaged"): 0,
        ("netdump_stored_bytes", ""): 1 << 42,
        ("netdump_free_bytes", ""): 5,
        ("netdump_total_bytes", ""): 10,
        ("netdump_events_total", "dump-complete"): 3,
    }


def test_what_is_not_known_is_no_zero() -> None:
    found = samples(Report(UNKNOWN, ()))
    assert troubles(found) == set()
    assert not {name for name, _ in found} & {"netdump_dumps", "netdump_stored_bytes", "netdump_free_bytes"}


def test_no_collector() -> None:
    found = samples(Report(None, (Trouble("running", "none"),)))
    assert troubles(found) == {"running"}
    assert found["netdump_up", ""] == 0
    assert {name for name, _ in found} == {"netdump_up", "netdump_trouble"}
