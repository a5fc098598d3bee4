"""The public object of a dump, both ways."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import RemoteError
from netdump.index.record import TIME_MAX, DumpRecord, State, dump_json, parse_record, parse_time, time_text

FULL = DumpRecord(
    id="0123456789abcdef" * 2,
    host="web1",
    state=State.COMPLETE,
    image_bytes=217_763_840,
    page_bytes=4096,
    level=31,
    first_seen=1_795_377_839,
    updated=1_795_377_900,
    drill=True,
    kernel_release="6.1.0-56-cloud-amd64",
    kernel_version="#1 SMP",
    machine="x86_64",
    nodename="crashy",
    panic="Kernel panic - not syncing: sysrq triggered crash",
    crash_time=1_795_377_830,
    completed=1_795_377_900,
    durable_bytes=217_763_840,
    stored_bytes=38_404_165,
    chunks=208,
    root="ab" * 32,
    totals={"data": 1, "zero": 2, "alias": 3, "excluded": 4, "lost": 5},
    excluded={"free": 4},
    vmcore=True,
    remark="a remark",
)

MEMBERS = [
    "id",
    "host",
    "state",
    "drill",
    "level",
    "kernel_release",
    "kernel_version",
    "machine",
    "nodename",
    "panic",
    "crash_time",
    "first_seen",
    "updated",
    "completed",
    "checked",
    "image_bytes",
    "page_bytes",
    "durable_bytes",
    "stored_bytes",
    "chunks",
    "root",
    "totals",
    "excluded",
    "vmcore",
    "remark",
]


def test_the_object_has_exactly_the_agreed_members() -> None:
    assert list(dump_json(FULL)) == MEMBERS


def test_times_are_rfc_3339_in_utc() -> None:
    shown = dump_json(FULL)
    assert shown["first_seen"] == "2026-11-22T20:03:59Z"
    assert shown["crash_time"] == "2026-11-22T20:03:50Z"


def test_an_incomplete_dump_has_nulls() -> None:
    shown = dump_json(DumpRecord("a" * 32, "h", State.ARRIVING, 1, 4096, 0, 0, 0))
    assert [shown[name] for name in ("completed", "root", "totals", "panic")] == [None] * 4
    assert shown["excluded"] == {}


def test_an_object_comes_back_as_the_record_it_was() -> None:
    assert parse_record(json.loads(json.dumps(dump_json(FULL)))) == FULL
    assert parse_record({**dump_json(FULL), "of a later version": 1}) == FULL


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 5},
        {"id": "\x1b[2J"},
        {"id": "A" * 32},
        {"host": ["x"]},
        {"state": "lost"},
        {"drill": "yes"},
        {"level": -1},
        {"level": 256},
        {"page_bytes": 1},
        {"page_bytes": 3 << 12},
        {"image_bytes": 1 << 63},
        {"image_bytes": True},
        {"image_bytes": 1.5},
        {"first_seen": "yesterday"},
        {"first_seen": 5},
        {"panic": "x" * 2000},
        {"panic": "half of a \ud800"},
        {"host": "\udfff"},
        {"totals": []},
        {"totals": {"data": "x"}},
        {"excluded": {str(number): 1 for number in range(65)}},
    ],
)
def test_what_no_collector_sends_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        parse_record({**dump_json(FULL), **change})


def test_no_host_can_make_a_dump_that_readers_refuse() -> None:
    """They would see no list in which it stands."""
    remark = "early" * 200 + "; " + "late" * 250
    record = replace(FULL, remark=remark)
    assert parse_record(json.loads(json.dumps(dump_json(record)))) == replace(FULL, remark=remark[:1024])


@pytest.mark.parametrize("shown", [None, [], "x", {}, 5])
def test_anything_else_is_refused(shown: object) -> None:
    with pytest.raises(RemoteError):
        parse_record(shown)


@settings(derandomize=True, deadline=None)
@given(st.integers(0, TIME_MAX))
def test_times_come_back(seconds: int) -> None:
    text = time_text(seconds)
    assert text is not None
    assert parse_time(text) == seconds


def test_times_as_people_write_them() -> None:
    assert parse_time("2026-11-22") == parse_time("2026-11-22T00:00:00Z")
    assert parse_time("2026-11-22T21:03:59+01:00") == parse_time("2026-11-22 20:03:59")
    for text in ("", "yesterday", "1960-01-01", "2026-13-01"):
        with pytest.raises(ValueError, match=r".+"):
            parse_time(text)
